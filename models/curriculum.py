"""What a training step is made of, by what the model can do already and, should a stage not be passed, by how far the run is (p from 0 to 1).

Copying forms on repeated random words in short rows, within some hundred steps; in rows four times as long it doesn't in thousands. So that comes first,
with "key: value" lines beside it; questions build on these, and rows grow as the model can do what is there. Whatever is learnt keeps a share,
whatever isn't yet gets more."""
import prompts as P

# Rules and sums are longer to learn than where to look.
EXTRA = {"rule": 2.0, "arithmetic": 1.5, "safety": 1.3}

# Tokens in a row, and how often; a level is entered at its share of the time at the latest.
LEVELS = ({64: 1.0}, {64: 0.5, 128: 0.5}, {64: 0.2, 128: 0.4, 256: 0.4}, {128: 0.2, 256: 0.4, 512: 0.4}, {128: 0.1, 256: 0.3, 512: 0.35, 1024: 0.25},
          {128: 0.1, 256: 0.2, 512: 0.3, 1024: 0.25, 2048: 0.15})
LATEST = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def open_kinds(can, p):
    """can: kind to accuracy of late, on the words and digits that can be known."""
    kinds = ["copy", "pairs"]
    if can["pairs"] > 0.5 or p > 0.12:
        kinds += ["recall", "mapping", "rule", "arithmetic"]
    if can["recall"] > 0.35 or p > 0.2:
        kinds.append("safety")
    return kinds


def shares(can, p):
    """One number for each of prompts.KINDS."""
    out = dict.fromkeys(P.KINDS, 0.0)
    for k in open_kinds(can, p):
        out[k] = 0.15 + 0.85 * (1 - can[k]) if k in ("copy", "pairs") else EXTRA.get(k, 1.0) * (0.25 + 0.75 * (1 - can[k]))
    return [out[k] for k in P.KINDS]


def level(now, can, p):
    """The level to train at, from `now` up by at most one."""
    if now + 1 == len(LEVELS):
        return now
    mean = sum(can.values()) / len(can)
    ready = (can["pairs"] > 0.6, min(can["recall"], can["mapping"]) > 0.5, mean > 0.65, mean > 0.75, mean > 0.82)[now]
    return now + int(ready or p > LATEST[now + 1])


def rate(p, step):
    """Share of the highest rate: up over the first steps, level for 40 % of the time, then down to nothing on a straight line."""
    return min(1.0, (step + 1) / 100) * (1.0 if p < 0.4 else max(0.0, (1 - p) / 0.6))
