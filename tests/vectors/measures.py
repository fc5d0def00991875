"""Every number of kvoverlap and kvcoherence, computed from a trace by plain numpy: what check_measures.py compares the tools with.

This and measures_*.py were written from docs/measures.md and docs/trace-format.md alone, not from the analyzers' code. Jaccard and kappa come
from scikit-learn, entropy, rank correlation and linkage from scipy, the rest are the formulas as they are printed."""
import functools
import itertools
import math

import h5py
import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.stats import hypergeom, spearmanr
from sklearn.metrics import cohen_kappa_score, jaccard_score

SHIFTS = 200
nan = math.nan


def text(v):
    return v.decode() if isinstance(v, bytes) else str(v)


class Trace:
    def __init__(self, path):
        self.path = path
        with h5py.File(path, "r") as f:
            p = f["prompt"][next(iter(f["prompt"]))]
            self.attrs = {k: text(v) if isinstance(v, bytes) else v for k, v in p.attrs.items()}
            self.data = {}
            p.visititems(lambda k, d: self.data.__setitem__(k, d[()]) if isinstance(d, h5py.Dataset) else None)
            scale = {k: d.attrs["scale_factor"] for k, d in ((k, p[k]) for k in self.data) if "scale_factor" in d.attrs}
            for k, s in scale.items():
                self.data[k] = self.data[k].astype("f8") * s
            self.branch = []
            for i in range(len(self.data["branch"])):
                a = p[f"branches/{i:02d}"].attrs
                self.branch.append({k: text(a[k]) if isinstance(a[k], bytes) else a[k] for k in a})
        d = self.data
        self.L, self.G = len(d["layer"]), len(d["kv_head"])
        self.H = len(d["head"])
        self.n, self.prompt = len(d["context"]), len(d["prompt_token"])
        self.spans = [dict(name=text(d["spans/name"][i]), kind=text(d["spans/kind"][i]), parent=int(d["spans/parent"][i]),
                           start=int(d["spans/start"][i]), end=int(d["spans/end"][i])) for i in range(len(d["span"]))]
        self.shots = [i for i, s in enumerate(self.spans) if s["kind"] == "shot" and s["end"] <= self.n]

    def get(self, b, what):
        return self.data.get(f"branches/{b:02d}/{what}")

    def held(self, b, step=0):
        at = self.get(b, "evicted_at")[:, :, :self.n]
        return (at == -1) | (at > step)

    def guarded(self, b):
        r = self.get(b, "reason")
        return (r == 4) | (r == 5)


def budget(b):
    return f"{b['asked_tok']} tokens" if np.isnan(b["asked_keep"]) else f"{100 * b['asked_keep']:g}%"


def short(b):
    return b["name"].rsplit(" ", 1)[0]


@functools.lru_cache(None)
def expected_jaccard(n, a, b):
    k = np.arange(max(0, a + b - n), min(a, b) + 1)
    return (hypergeom.pmf(k, n, a, b) * k / (a + b - k)).sum()


# ---- overlap --------------------------------------------------------------------------------------------------------------

class Cells:
    """Sums over cells, and for single ones what the libraries say."""
    def __init__(self):
        self.cells = []     # (A, B over U, A, B over all) as bool

    def add(self, A, B, guarded):
        U = ~guarded
        self.cells.append((A[U], B[U], A, B))

    def add_layer(self, A, B, gA, gB):
        """One layer of two branches, (G, n): once where all heads share on both sides."""
        shared = (A == A[0]).all() and (B == B[0]).all()
        for g in range(1 if shared else len(A)):
            self.add(A[g], B[g], gA[g] | gB[g])

    def numbers(self, libraries=False):
        c = [(len(a), a.sum(), b.sum(), (a & b).sum()) for a, b, _, _ in self.cells]
        n, a, b, x = (np.array(v, "f8") for v in zip(*c))
        with np.errstate(all="ignore"):
            ab = np.where(n > 0, a * b / n, 0)
        say = (a > 0) & (b > 0) & (a < n) & (b < n)
        J, J_all = (sum((v[i] & v[i + 1]).sum() for v in self.cells) / max(1, sum((v[i] | v[i + 1]).sum() for v in self.cells)) for i in (0, 2))
        expected, weight = 0.0, 0.0
        for N, A, B in ((int(v[0]), int(v[1]), int(v[2])) for v in c):
            if A + B and N:
                w = A + B - A * B / N
                expected += w * expected_jaccard(N, A, B)
                weight += w
        top, below = (x - ab)[say].sum(), (np.minimum(a, b) - ab)[say].sum()
        w = np.where(say, a + b - 2 * ab, 0)
        kappa = 2 * (x - ab)[say].sum() / w.sum() if say.any() else nan
        if libraries:
            both = [np.concatenate(v) for v in zip(*self.cells)]
            J = jaccard_score(both[0], both[1]) if both[0].any() or both[1].any() else nan
            J_all = jaccard_score(both[2], both[3])
            kappa = sum(u * cohen_kappa_score(A, B) for (A, B, _, _), u in zip(self.cells, w) if u > 0) / w.sum() if say.any() else nan
        if not say.any():
            J = expected = nan
        return dict(jaccard=J, jaccard_all=J_all, jaccard_kept=J_all, chance=expected / weight if weight else nan,
                    adjusted=top / below if below else nan, kappa=kappa,
                    coefficient=x.sum() / np.minimum(a, b).sum() if np.minimum(a, b).sum() else nan, cells=len(c), left_out=int((~say).sum()),
                    universe=n.mean())


def shifted(prompts, grid=997):
    """O for shares of a circle's length, dense enough to stand for all of them; each prompt has a share of its own."""
    sums = [s for s in (shifted_sums(cells, grid) for cells in prompts) if s]
    if not sums:
        return None
    rng = np.random.default_rng(1)
    gain = [s[0] if len(sums) == 1 else rng.choice(s[0], 20000) for s in sums]
    return sum(gain) / sum(s[1] for s in sums)


def shifted_sums(cells, grid):
    cells = [(a, b) for a, b, _, _ in cells if 0 < a.sum() < len(a) and 0 < b.sum() < len(b)]
    if not cells:
        return None
    out = np.zeros(grid)
    below = 0
    for a, b in cells:
        n = len(a)
        spectrum = np.fft.rfft(a.astype("f8")) * np.conj(np.fft.rfft(b.astype("f8")))
        x = np.rint(np.fft.irfft(spectrum, n))         # x[s] = |A and B moved by s|
        e = a.sum() * b.sum() / n
        out += x[(np.arange(grid) * n) // grid] - e
        below += min(a.sum(), b.sum()) - e
    return out, below


def pair_cells(traces, a, b, step=0, layers=None):
    c = Cells()
    for t in traces:
        A, B, gA, gB = t.held(a, step), t.held(b, step), t.guarded(a), t.guarded(b)
        for l in range(t.L) if layers is None else layers:
            c.add_layer(A[l], B[l], gA[l], gB[l])
    return c


def by_place(t, u, a, b):
    """Cells of branch a on one prompt and b on the other, token j against token j from the start, and from the end."""
    n = min(t.n, u.n)
    out = Cells()
    A, B, gA, gB = t.held(a), u.held(b), t.guarded(a), u.guarded(b)
    for l in range(t.L):
        for cut in (slice(0, n), slice(-n, None)):
            out.add_layer(A[l][:, cut], B[l][:, cut], gA[l][:, cut], gB[l][:, cut])
    return out


def same_budget_pairs(t):
    return [(i, j) for i, j in itertools.combinations(range(1, len(t.branch)), 2) if budget(t.branch[i]) == budget(t.branch[j])]


def null(row, dist, value):
    """What the tool may print for shift_mean, shift_95 and p: intervals."""
    if dist is None or np.isnan(dist).any() or np.isnan(value):
        return dict(row, shift_mean=nan, shift_95=nan, p=nan)
    slack = 0.02 * (dist.max() - dist.min()) + 1e-9     # a shift of one token more or less
    se = 5 * dist.std() / math.sqrt(SHIFTS) + slack
    reach = (dist >= value - 1e-12).mean()
    band = 5 * math.sqrt(reach * (1 - reach) / SHIFTS) + 2 / SHIFTS + 0.01
    return dict(row, shift_mean=(dist.mean() - se, dist.mean() + se),
                shift_95=(np.quantile(dist, 0.95 - 0.077) - slack, dist.max() + slack), p=(max(reach - band, 0), min(reach + band, 1)))


def overlap_methods(traces):
    t, out = traces[0], {}
    for i, j in same_budget_pairs(t):
        c = pair_cells(traces, i, j)
        row = c.numbers(libraries=True)
        row = null(row, shifted([pair_cells([u], i, j).cells for u in traces]), row["adjusted"])
        if len(traces) > 1:
            o = Cells()
            for u, v in zip(traces, traces[1:]):
                o.cells += by_place(u, v, i, j).cells + by_place(u, v, j, i).cells
            row["adjusted_other"] = o.numbers()["adjusted"]
        out[budget(t.branch[i]), short(t.branch[i]), short(t.branch[j])] = row
    return out


def overlap_per_layer(traces):
    t, out = traces[0], {}
    for i, j in same_budget_pairs(t):
        for l in range(t.L):
            c = pair_cells(traces, i, j, layers=[l])
            row = c.numbers(libraries=True)
            out[budget(t.branch[i]), short(t.branch[i]), short(t.branch[j]), str(l)] = null(row, shifted([c.cells]), row["adjusted"])
    return out


def overlap_layers(traces):
    t, out = traces[0], {}
    for b in range(1, len(t.branch)):
        A, g = t.held(b), t.guarded(b)
        rows = [range(1) if (A[l] == A[l][0]).all() else range(t.G) for l in range(t.L)]
        for l, m in itertools.combinations(range(t.L), 2):
            c = Cells()
            for p, q in itertools.product(rows[l], rows[m]):
                c.add(A[l, p], A[m, q], g[l, p] | g[m, q])
            out[budget(t.branch[b]), short(t.branch[b]), str(l), str(m)] = c.numbers()
    return out


def overlap_heads(traces):
    t, out = traces[0], {}
    for b in range(1, len(t.branch)):
        A, g = t.held(b), t.guarded(b)
        for l in range(t.L):
            if (A[l] == A[l][0]).all():
                row = dict(adjusted=nan, jaccard=nan, chance=nan, shared=1)
            else:
                c = Cells()
                for p, q in itertools.combinations(range(t.G), 2):
                    c.add(A[l, p], A[l, q], g[l, p] | g[l, q])
                row = dict(c.numbers(), shared=0)
            out[budget(t.branch[b]), short(t.branch[b]), str(l)] = row
    return out


def overlap_budgets(traces):
    t, out = traces[0], {}
    for i, j in itertools.combinations(range(1, len(t.branch)), 2):
        a, b = sorted((i, j), key=lambda k: t.branch[k]["asked_keep"])
        if t.branch[a]["canonical"] == t.branch[b]["canonical"]:
            A, B = t.held(a), t.held(b)
            out[t.branch[a]["method"], budget(t.branch[a]), budget(t.branch[b])] = dict(
                inside=(A & B).sum() / A.sum(), adjusted=pair_cells(traces, a, b).numbers()["adjusted"], slots=A.sum(), slots_inside=(A & B).sum())
    return out


def overlap_prompts(traces):
    t, out = traces[0], {}
    for b in range(1, len(t.branch)):
        c = Cells()
        for u, v in zip(traces, traces[1:]):
            c.cells += by_place(u, v, b, b).cells
        out[budget(t.branch[b]), short(t.branch[b])] = dict(c.numbers(), pairs=len(traces) - 1)
    return out


def overlap_traces(traces):
    t, u, out = traces[0], traces[1], {}
    for b in range(1, len(t.branch)):
        c = Cells()
        A, B = t.held(b), u.held(b)
        for l in range(t.L):
            c.add_layer(A[l], B[l], t.guarded(b)[l], u.guarded(b)[l])
        out[budget(t.branch[b]), short(t.branch[b])] = dict(c.numbers(), differ=(A != B).sum())
    return out


def rbo(s, r, k):
    """Extrapolated rank-biased overlap of two full rankings, and its value for independent ones."""
    n, p = len(s), 1 - 1 / k
    first = lambda v: np.argsort(np.argsort(-v, kind="stable"), kind="stable")  # ties: the earlier first
    both = np.sort(np.maximum(first(s), first(r)))
    d = np.arange(1, n + 1)
    X = np.searchsorted(both, d - 1, side="right")
    value = lambda agree: p ** n + (1 - p) / p * (p ** d * agree).sum() if p else nan
    return value(X / d), value(d / n)


def overlap_scores(traces):
    t, out = traces[0], {}
    for i, j in same_budget_pairs(t):
        if not t.data["result/score_rows"][i] or not t.data["result/score_rows"][j]:
            continue
        S, R, A, B = t.get(i, "score"), t.get(j, "score"), t.held(i), t.held(j)
        guarded = t.guarded(i) | t.guarded(j)
        got, chance, left = [], [], 0
        for l in range(t.L):
            once = t.data["result/score_rows"][i] == t.data["result/score_rows"][j] == 1
            for g in range(1 if once else t.G):
                U = ~guarded[l, g]
                k = min(A[l, g][U].sum(), B[l, g][U].sum())
                if k < 2:
                    left += 1
                    continue
                v = rbo(S[l, g][U], R[l, g][U], k)
                got.append(v[0])
                chance.append(v[1])
        out[budget(t.branch[i]), short(t.branch[i]), short(t.branch[j])] = dict(
            rbo=np.mean(got) if got else nan, rbo_random=np.mean(chance) if got else nan, cells=len(got) + left, left_out=left)
    return out


def middle_budget(t):
    """The budget that the most methods have; of those, the middle one, of two the larger."""
    count = {}
    for b in t.branch[1:]:
        count[budget(b)] = count.get(budget(b), 0) + 1
    best = sorted((k for k in count if count[k] == max(count.values())), key=lambda k: float(k.split("%")[0].split()[0]))
    return best[len(best) // 2]


def overlap_sets(traces):
    t, out = traces[0], {}
    at = [b for b in range(1, len(t.branch)) if budget(t.branch[b]) == middle_budget(t)]
    held = np.stack([t.held(b) for b in at])
    count, free = held.sum(0), ~np.any([t.guarded(b) for b in at], 0)
    put = lambda name, m: out.__setitem__((name,), dict(slots=(m & free).sum(), share=m[free].mean()))
    put("kept by all", count == len(at))
    put("kept by none", count == 0)
    for b, h in zip(at, held):
        put(f"only {short(t.branch[b])}", h & (count == 1))
    return out


def overlap_clusters(traces):
    t = traces[0]
    at = [b for b in range(1, len(t.branch)) if budget(t.branch[b]) == middle_budget(t)]
    D = np.zeros((len(at), len(at)))
    for i, j in itertools.combinations(range(len(at)), 2):
        o = pair_cells(traces, at[i], at[j]).numbers()["adjusted"]
        D[i, j] = D[j, i] = 1 - (0 if np.isnan(o) else o)
    tree = linkage(D[np.triu_indices(len(at), 1)], "average")
    return {(str(i + 1),): dict(adjusted=1 - d) for i, (_, _, d, _) in enumerate(tree)}


def overlap_future(traces):
    t, out = traces[0], {}
    for b in range(1, len(t.branch)):
        lost, rest = t.data["fidelity/lost_mass"][:, b].astype("f8"), t.data["fidelity/lost_rest"][:, b].astype("f8")
        layer = 1 - lost.mean((0, 2))
        out[budget(t.branch[b]), short(t.branch[b])] = dict(recall=1 - lost.mean(), recall_rest=1 - rest.mean(), worst_layer=layer.argmin(),
                                                            worst_recall=layer.min())
    return out


def overlap_tokens(traces):
    t, out = traces[0], {}
    at = [b for b in range(1, len(t.branch)) if budget(t.branch[b]) == middle_budget(t)]
    share = np.stack([t.held(b).mean((0, 1)) for b in at])
    for j in range(t.n):
        row = {short(t.branch[b]): share[i, j] for i, b in enumerate(at)}
        out[(str(j),)] = dict(row, id=t.data["tokens/id"][j], methods=(share[:, j] > 0.5).sum())
    return out


# ---- coherence ------------------------------------------------------------------------------------------------------------

def coherence_of(mask, k):
    """C of a mask along the shots' tokens, in order; NaN where it isn't defined. c0."""
    S, N = len(k), k.sum()
    r = np.add.reduceat(mask.astype("f8"), np.concatenate([[0], np.cumsum(k)[:-1]])) / k
    p = (k * r).sum() / N
    if S < 2 or p in (0, 1):
        return nan, (S - 1) / (N - 1)
    return (k * (r - p) ** 2).sum() / (N * p * (1 - p)), (S - 1) / (N - 1)


def runs(m):
    return int(m[0]) + int((m[1:] & ~m[:-1]).sum())


def gini(r):
    return np.abs(r[:, None] - r[None]).sum() / (2 * len(r) * r.sum()) if r.sum() else nan


def mean(v):
    v = [x for x in v if not np.isnan(x)]
    return float(np.mean(v)) if v else nan


def child(t, shot, kind):
    return next((s for s in t.spans if s["parent"] == shot and s["kind"] == kind), None)


def cells_of(t, held, guarded, layers=None, head=None):
    for l in range(t.L) if layers is None else layers:
        if head is not None:
            yield held[l, head], guarded[l, head]
        else:
            for g in range(1 if (held[l] == held[l][0]).all() else t.G):
                yield held[l, g], guarded[l, g]


def part_lost(t, shot, h):
    q, a = child(t, shot, "question"), child(t, shot, "answer")
    return q and a and h[q["start"]:q["end"]].mean() >= 0.5 and h[a["start"]:a["end"]].mean() < 0.5


def coherence_row(t, cells):
    shots = [(t.spans[i]["start"], t.spans[i]["end"]) for i in t.shots]
    k = np.array([e - s for s, e in shots])
    col = {x: [] for x in ("C", "star", "whole_rate", "whole", "gone", "frag", "rand", "gini", "answers", "kept")}
    dist = np.zeros(499)
    defined = 0
    for h, guarded in cells:
        along = np.concatenate([h[s:e] for s, e in shots])
        C, c0 = coherence_of(along, k)
        col["C"].append(C)
        col["star"].append((C - c0) / (1 - c0))
        kept = [(h[s:e], (h & ~guarded)[s:e].any() or h[s:e].all()) for s, e in shots]
        some = [m for m, by_score in kept if by_score]
        col["whole_rate"].append(np.mean([m.all() for m in some]) if some else nan)
        col["whole"].append(np.mean([m.all() and b for m, b in kept]))
        col["gone"].append(np.mean([not b for m, b in kept]))
        col["frag"].append(np.mean([runs(m) for m in some]) if some else nan)
        col["rand"].append(np.mean([m.sum() * (len(m) - m.sum() + 1) / len(m) for m in some]) if some else nan)
        col["gini"].append(gini(np.array([m.mean() for m, _ in kept])))
        col["answers"].append(np.mean([bool(part_lost(t, i, h)) for i in t.shots]))
        col["kept"].append(along.mean())
        if not np.isnan(C):
            defined += 1
            N, p = len(along), along.mean()
            before = np.concatenate([[0], np.cumsum(np.tile(along, 2))])
            by = (np.arange(len(dist)) * N // len(dist))[:, None]
            end = np.cumsum(k)
            r = (before[end + by] - before[end - k + by]) / k
            dist += ((k * (r - p) ** 2).sum(1) / (N * p * (1 - p)) - c0) / (1 - c0)
    row = dict(adjusted=mean(col["star"]), coherence=mean(col["C"]), random=c0, whole_rate=mean(col["whole_rate"]), shots_whole=mean(col["whole"]),
               shots_gone=mean(col["gone"]), fragments=mean(col["frag"]), fragments_random=mean(col["rand"]), gini=mean(col["gini"]),
               answers_lost=mean(col["answers"]), shots_kept=mean(col["kept"]), cells=len(col["C"]), undefined=int(np.isnan(col["C"]).sum()))
    return null(row, dist / defined if defined else None, row["adjusted"])


def coherence(traces, how="all"):
    t, out = traces[0], {}
    for b in range(1, len(t.branch)):
        name, g = t.branch[b]["name"], t.guarded(b)
        if how == "steps":
            for k in range(0, len(t.data["step"]) + 1, 4):
                out[name, str(k)] = coherence_row(t, cells_of(t, t.held(b, k), g))
        elif how == "layer":
            for l in range(t.L):
                out[name, str(l)] = coherence_row(t, cells_of(t, t.held(b), g, [l]))
        elif how == "head":
            for l, h in itertools.product(range(t.L), range(t.G)):
                out[name, str(l), str(h)] = coherence_row(t, cells_of(t, t.held(b), g, [l], h))
        else:
            out[name,] = coherence_row(t, cells_of(t, t.held(b), g))
    return out


def coherence_shots(traces):
    t, out = traces[0], {}
    for b in range(1, len(t.branch)):
        cells = [h for h, _ in cells_of(t, t.held(b), t.guarded(b))]
        for i in t.shots:
            s, e = t.spans[i]["start"], t.spans[i]["end"]
            m = np.stack([h[s:e] for h in cells])
            out[t.branch[b]["name"], t.spans[i]["name"]] = dict(start=s, length=e - s, kept=m.mean(), whole=m.all(1).mean(), gone=(~m.any(1)).mean())
    return out


def coherence_damage(traces):
    t, out = traces[0], {}
    inside = lambda s: any(t.spans[i]["start"] <= s["start"] and s["end"] <= t.spans[i]["end"] for i in t.shots)
    for b in range(1, len(t.branch)):
        cells = [h for h, _ in cells_of(t, t.held(b), t.guarded(b))]
        along = np.concatenate([[h[t.spans[i]["start"]:t.spans[i]["end"]].sum() for i in t.shots] for h in cells])
        row = dict(kept=along.sum() / (len(cells) * sum(t.spans[i]["end"] - t.spans[i]["start"] for i in t.shots)),
                   answers_lost=np.mean([bool(part_lost(t, i, h)) for h in cells for i in t.shots]))
        for kind in ("number", "operator", "sentence"):
            parts = [h[s["start"]:s["end"]] for h in cells for s in t.spans if s["kind"] == kind and inside(s)]
            row[kind + "s"] = len(parts)
            row[kind + "s_lost"] = np.mean([not m.any() for m in parts]) if parts else nan
            row[kind + "s_cut"] = np.mean([m.any() and not m.all() for m in parts]) if parts else nan
            row[kind + "_tokens_lost"] = 1 - np.concatenate(parts).mean() if parts else nan
        out[t.branch[b]["name"],] = row
    return out


def coherence_agreement(traces):
    t, out = traces[0], {}
    for b in range(1, len(t.branch)):
        h = t.held(b)
        r = np.stack([h[:, :, t.spans[i]["start"]:t.spans[i]["end"]].mean((1, 2)) for i in t.shots], 1)
        rho = {}
        for l, m in itertools.combinations(range(t.L), 2):
            flat = np.ptp(r[l]) == 0 or np.ptp(r[m]) == 0
            rho[l, m] = nan if flat else spearmanr(r[l], r[m])[0]
        out[t.branch[b]["name"],] = dict(next=mean([rho[l, l + 1] for l in range(t.L - 1)]), all=mean(rho.values()),
                                         pairs=len(rho), undefined=sum(np.isnan(v) for v in rho.values()))
    return out


def coherence_summary(traces):
    t, out = traces[0], {}
    for b in range(1, len(t.branch)):
        row = coherence_row(t, cells_of(t, t.held(b), t.guarded(b)))
        out[t.branch[b]["name"],] = dict(effective_keep=t.data["result/effective_keep"][b], kv_bytes_mean=t.data["steps/alone_bytes"][:, b].mean(),
                                         mean_kl=t.data["steps/kl"][:, b].astype("f8").mean(), adjusted=row["adjusted"], shift_mean=row["shift_mean"],
                                         diverged_step=t.data["result/diverged"][b] or nan)
    return out
