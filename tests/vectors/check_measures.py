"""Holds the analyzers against measures*.py, which compute every number that they print once more, without their code.

    check_measures.py BIN a.h5 b.h5            runs the tools in BIN on the traces and compares every number
    check_measures.py BIN rows.h5 other.h5     the same of rows of generated tokens and derived budgets, where the first holds such rows (--see rows)
    check_measures.py --write BIN a.h5 b.h5    prints what they should say, for measures.txt (../golden/hold compares it without Python)

What a tool draws by chance (shifts) can't be equal: the null is enumerated, and the tool's mean, percentile and p must lie where
5 standard errors of its number of shifts allow."""
import os
import subprocess
import sys

import numpy as np
from scipy.stats import entropy

import measures_budget
import measures_decode
from measures import *  # noqa: F403  # every table below is a function of these two
from measures_attention import *  # noqa: F403

TOLERANCE = 1e-6  # relative, absolute below 1: f32 inputs have 6e-8, the tools print nine digits

TABLES = [  # words of the command, traces it takes, columns that name a row, its numbers
    ("kvoverlap", 1, 3, overlap_methods), ("kvoverlap --per-layer", 1, 4, overlap_per_layer), ("kvoverlap", 2, 3, overlap_methods),
    ("kvoverlap --show layers", 1, 4, overlap_layers), ("kvoverlap --show heads", 1, 3, overlap_heads),
    ("kvoverlap --show budgets", 1, 3, overlap_budgets), ("kvoverlap --show prompts", 2, 2, overlap_prompts),
    ("kvoverlap --force --show traces", 2, 2, overlap_traces), ("kvoverlap --show scores", 1, 3, overlap_scores),
    ("kvoverlap --show sets", 1, 1, overlap_sets), ("kvoverlap --show clusters", 1, 1, overlap_clusters),
    ("kvoverlap --show future", 1, 2, overlap_future), ("kvoverlap --tokens", 1, 1, overlap_tokens),
    ("kvcoherence", 1, 1, coherence), ("kvcoherence --per-layer", 1, 2, lambda t: coherence(t, "layer")),
    ("kvcoherence --per-head", 1, 3, lambda t: coherence(t, "head")), ("kvcoherence --steps 4", 1, 2, lambda t: coherence(t, "steps")),
    ("kvcoherence --shots", 1, 2, coherence_shots), ("kvcoherence --damage", 1, 1, coherence_damage),
    ("kvcoherence --agreement", 1, 1, coherence_agreement), ("kvcoherence --summary", 1, 1, coherence_summary),
    ("kvattn", 1, 1, attn_layers), ("kvattn --show heads", 1, 2, attn_heads), ("kvattn --show labels", 1, 1, attn_labels),
    ("kvattn --show sinks", 1, 1, attn_sinks), ("kvattn --show distances", 1, 3, attn_distances), ("kvattn --show spans", 1, 2, attn_spans),
    ("kvattn --show shots", 1, 2, attn_shots), ("kvattn --compare --force", 2, 1, attn_compare),
]


def row_tables(traces):
    """Of traces with rows of generated tokens (--see scores,rows): kvbudget as far as all of them go, and what
    kvattn says of these rows, where the trace was made with --see decode, too."""
    N = min(len(t.data["step"]) for t in traces)
    out = [] if "decode/entropy" not in traces[0].data else [
        ("kvattn --show decode", 1, 2, measures_decode.attn_decode), ("kvattn --show change", 1, 1, measures_decode.attn_change),
        ("kvattn --show spans", 1, 2, lambda t: attn_spans(t) | measures_decode.attn_own_answer(t))]
    for recent in (32, 4):
        words = f"--horizon {N} --recent {recent}"
        out += [(f"kvbudget --show derive {words}", n, 2, lambda t, r=recent: measures_budget.derive(t, N, r)) for n in (1, 2)]
        out += [(f"kvbudget --show curve {words}", 1, 2, lambda t, r=recent: measures_budget.curve(t, N, r)),
                (f"kvbudget --show layers {words}", 1, 1, lambda t, r=recent: measures_budget.layers(t, N, r))]
    return out


def run(bin_dir, words, paths):
    tool, *rest = words.split()
    done = subprocess.run([f"{bin_dir}/{tool}", *rest, *paths, "--format", "tsv"], capture_output=True, text=True)
    if done.returncode:
        return None, None, done.stderr.strip()
    lines = done.stdout.rstrip("\n").split("\n")
    head = [c.split(" (")[0] for c in lines[0].lstrip("# ").split("\t")]
    return head, [line.split("\t") for line in lines[1:]], ""


def same(got, want):
    if isinstance(want, str):
        return got == want
    try:
        v = float(got)
    except ValueError:
        return got in ("-", "") and not isinstance(want, tuple) and np.isnan(want)
    if isinstance(want, tuple):
        return want[0] <= v <= want[1]
    return np.isnan(v) and np.isnan(want) or abs(v - want) <= TOLERANCE * max(1, abs(want))


def check(bin_dir, words, keys, want, paths):
    """Number of differences of one table."""
    head, rows, failed = run(bin_dir, words, paths)
    if head is None:
        print(f"{words}: {failed}")
        return 1
    compared, wrong, unknown, seen = 0, [], set(), set()
    for row in rows:
        key = again(seen, tuple(row[:keys]))
        seen.add(key)
        if key not in want:
            wrong.append(f"{key}: a row that isn't expected")
            continue
        for column, got in zip(head[keys:], row[keys:]):
            if column not in want[key]:
                unknown.add(column)
                continue
            compared += 1
            if not same(got, want[key][column]):
                wrong.append(f"{key} {column}: {got}, here {np.array(want[key][column])}")
    wrong += [f"{k}: no such row" for k in sorted(set(want) - seen)]
    print(f"{words} ({len(paths)}): {compared} numbers, {len(wrong)} differ" + (f", not looked at: {sorted(unknown)}" if unknown else ""))
    for w in wrong[:6]:
        print("   ", w)
    return len(wrong)


def check_rows(t):
    """What the trace says of rows against the rows themselves: those that score/top (K of each row, in f32) holds whole. Where that is the
    whole prompt, sums over rows too."""
    top = t.data.get("score/top")
    if top is None:
        return []
    n, at = min(top.shape[-1], t.prompt), t.data["score/top_at"]
    A = np.zeros((t.L, t.H, n, n))
    for l, h, i in np.ndindex(t.L, t.H, n):
        A[l, h, i, at[l, h, i, :i + 1]] = top[l, h, i, :i + 1]
    sees = np.arange(1, n + 1)
    far = sees[:, None] - sees[None]
    near = (far >= 0) & (far < int(t.attrs["n_local"]))
    rows = dict(entropy=entropy(A, axis=-1), keys=np.exp(entropy(A, axis=-1)), sink=A[..., :int(t.attrs["n_sink"])].sum(-1), local=(A * near).sum(-1))
    if n == t.prompt:
        rows.update(mass=A.sum(2), last=A[:, :, -1], square=(A ** 2).sum(2), max=A.max(2), visible=A.sum(2) / (n - np.arange(n)))
        first, long = list(t.data["distance"]) + [n], sees >= 32
        rows["distance"] = np.stack([(A * ((far >= lo) & (far < hi)))[:, :, long].sum(-1).mean(-1) for lo, hi in zip(first, first[1:])], -1)
        rows["wmass"] = np.stack([A[:, :, -w:].sum(2) for w in t.data["window"]])
        look = [t.spans[i] for i in t.data["query_span"]] if "query_span" in t.data else []
        if look:
            rows["spans"] = np.stack([np.stack([A[:, :, q["start"]:q["end"], k["start"]:k["end"]].sum(-1).mean(-1) for k in look], -1) for q in look], 2)
    apart = {}
    for k, v in rows.items():
        d = t.data[f"score/{k}"]
        apart[k] = np.abs(d[..., :n] - v if k in ("entropy", "keys", "sink", "local") else d - v).max() / max(1, np.abs(v).max())
    return [f"score/{k}: {v:.2g} apart" for k, v in apart.items() if not v <= 3e-6] or [
        f"{n} rows of {t.L * t.H} heads: {', '.join(apart)} agree to {max(apart.values()):.1g}"]


def show(v):
    if isinstance(v, tuple):
        return f"{v[0]:.9g}..{v[1]:.9g}"
    return v if isinstance(v, str) else f"{v:.9g}"


def write(bin_dir, words, keys, want, paths):
    """The same table in the form of ../golden/hold, with the tool's own columns."""
    head, _, failed = run(bin_dir, words, paths)
    if head is None:
        sys.exit(f"{words}: {failed}")
    print(f"== {keys} {words} {' '.join(os.path.basename(p) for p in paths)}")
    print(*head, sep="\t")
    for key, row in want.items():
        print(*key[:-1], key[-1].split("#")[0], *(show(row[c]) if c in row else "*" for c in head[keys:]), sep="\t")


def main():
    what = write if "--write" in sys.argv else check
    bin_dir, *paths = [a for a in sys.argv[1:] if a != "--write"]
    traces = [Trace(p) for p in paths]
    bad = 0
    rows = "decode/attention" in traces[0].data
    for words, count, keys, numbers in row_tables(traces) if rows else TABLES:
        if count <= len(paths):
            bad += what(bin_dir, words, keys, numbers(traces[:count]), paths[:count]) or 0
    if what == write:
        return
    if rows:
        sys.exit(1 if bad else 0)
    done = subprocess.run([f"{bin_dir}/kvattn", "--show", "gates", paths[0]], capture_output=True, text=True).stdout
    got = np.array([[float(v) for v in line.split()] for line in done.split("\n") if line and not line.startswith("#")])
    apart = np.abs(got - attn_gates(traces[0])).max()
    print(f"kvattn --show gates: {got.size} numbers, largest difference {apart:.2g} (printed with six digits)")
    bad += apart > 1e-6
    for t in traces:
        said = check_rows(t)
        bad += any("apart" in line for line in said)
        print(*(f"{t.path}: {line}" for line in said), sep="\n")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
