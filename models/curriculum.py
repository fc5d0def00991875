"""What a training step is made of, by how far the run is (p from 0 to 1) and by what the model can do already.

Copying forms on repeated random words and hardly on anything else, so it comes first; "key: value" lines build on it, questions on these.
Whatever is learnt keeps a share, whatever isn't yet gets more. Should a stage not be passed, time passes it."""
import prompts as P

# Rules and sums are longer to learn than where to look.
EXTRA = {"rule": 2.0, "arithmetic": 1.5, "safety": 1.3}


def open_kinds(can, p):
    """can: kind to accuracy of late, on the tokens that can be known."""
    kinds = ["copy"]
    if can["copy"] > 0.5 or p > 0.08:
        kinds.append("pairs")
    if can["pairs"] > 0.5 or p > 0.15:
        kinds += ["recall", "mapping", "rule", "arithmetic"]
    if can["recall"] > 0.5 or p > 0.3:
        kinds.append("safety")
    return kinds


def shares(can, p):
    """One number for each of prompts.KINDS."""
    out = dict.fromkeys(P.KINDS, 0.0)
    for k in open_kinds(can, p):
        out[k] = 0.05 + 0.95 * (1 - can[k]) if k in ("copy", "pairs") else EXTRA.get(k, 1.0) * (0.25 + 0.75 * (1 - can[k]))
    return [out[k] for k in P.KINDS]


def lengths(can, p):
    """Tokens in a row, and how often."""
    if p < 0.05 or (can["pairs"] < 0.5 and p < 0.2):
        return {128: 0.5, 256: 0.5}
    if p < 0.3:
        return {128: 0.2, 256: 0.5, 512: 0.3}
    if p < 0.55:
        return {128: 0.1, 256: 0.3, 512: 0.4, 1024: 0.2}
    return {128: 0.1, 256: 0.2, 512: 0.3, 1024: 0.25, 2048: 0.15}


def rate(p, step):
    """Share of the highest rate: up over the first steps, level for 40 % of the time, then down to nothing on a straight line."""
    return min(1.0, (step + 1) / 200) * (1.0 if p < 0.4 else max(0.0, (1 - p) / 0.6))
