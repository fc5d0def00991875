"""ShotKV's derived budgets (kvbudget --show derive, curve, layers) computed from a trace's rows by plain numpy, from docs/measures.md, section 7,
alone: what check_measures.py compares kvbudget with. Traces with --see scores,rows."""
import itertools

import numpy as np

from measures import nan

SINKS = 4


class Rows:
    """One prompt: its shots, in each layer's order, and the rows that count."""

    def __init__(self, t, horizon, recent):
        self.t, self.N, self.n = t, horizon, t.n
        self.shots = [(t.spans[i]["start"], t.spans[i]["end"]) for i in t.shots]
        self.between = t.n - sum(e - s for s, e in self.shots)
        mass = t.data["score/mass"].astype("f8").sum(1)
        self.order = [sorted(range(len(self.shots)), key=lambda i, m=m: -m[slice(*self.shots[i])].mean()) for m in mass]
        self.raw = t.data["decode/attention"].astype("f8")[:horizon]  # step, layer, head, token
        self.objective = np.zeros_like(self.raw)
        for k in range(horizon):
            p = t.prompt + k
            self.objective[k, :, :, SINKS:max(SINKS, p - recent)] = self.raw[k, :, :, SINKS:max(SINKS, p - recent)]
        total = self.objective.sum(-1, keepdims=True)
        self.counts = total[..., 0] > 0
        self.objective = np.divide(self.objective, total, out=np.zeros_like(self.objective), where=total > 0)

    def kept(self, layer, share):
        """Shots that a layer holds: from the best on while they fit."""
        room, out = int(np.floor(share * self.n + 1e-9)) - self.between, []
        for i in self.order[layer]:
            room -= self.shots[i][1] - self.shots[i][0]
            if room < 0:
                break
            out.append(i)
        return out

    def lost_context(self, layer, kept):
        """Sum over the layer's rows."""
        gone = [i for i in range(len(self.shots)) if i not in kept]
        return sum(self.objective[:, layer, :, slice(*self.shots[i])].sum() for i in gone)

    def context_tok(self, kept):
        return self.between + sum(self.shots[i][1] - self.shots[i][0] for i in kept)

    def lost_own(self, layer, kept, share):
        """Generated tokens in sequence: what each row misses, summed, and how many are held after each step."""
        n, lost, held, count = self.t.prompt, 0.0, [], []
        there = np.zeros(self.raw.shape[-1], bool)
        there[:n] = True
        for i in range(len(self.shots)):
            if i not in kept:
                there[slice(*self.shots[i])] = False
        for k in range(self.N):
            p = n + k
            lost += sum(self.objective[k, layer, :, j].sum() for j in range(n, p) if j not in held)
            held.append(p)
            there[p] = True
            room = max(1, int(np.floor(share * (k + 1) + 1e-9)))
            if len(held) > room:
                a = self.raw[k, layer][:, there]
                a = self.raw[k, layer] / a.sum(-1, keepdims=True)
                worth = a.sum(0)
                best = sorted(held[:-1], key=lambda j: -worth[j])[:room - 1]
                for j in held[:-1]:
                    there[j] = j in best
                held = sorted(best) + [p]
            count.append(len(held))
        return lost, np.mean(count)


class Pairs:
    def __init__(self, prompts, keep):
        self.prompts, self.keep, self.memo = prompts, keep, {}
        N = prompts[0].N
        self.m = (N + 1) / 2
        self.budget = np.mean([keep * (p.n + self.m) for p in prompts])
        self.n = np.mean([p.n for p in prompts])
        t = prompts[0].t
        self.slot = t.L * t.G * int(t.attrs["head_dim"]) * 2 * (4 if t.attrs["kv_type"] == "f32" else 2)

    def one(self, p, layer, kept, decode):
        key = id(p), layer, tuple(sorted(kept)), decode
        if key not in self.memo:
            own = p.lost_own(layer, kept, decode)
            self.memo[key] = p.lost_context(layer, kept), own[0], own[1], p.counts[:, layer].sum()
        return self.memo[key]

    def row(self, prefill, decode):
        sums = np.zeros(3)
        shots, context, generated = [], [], []
        for p in self.prompts:
            for l in range(p.t.L):
                kept = p.kept(l, prefill)
                lost, own, held, rows = self.one(p, l, kept, decode)
                sums += lost, own, rows
                shots.append(len(kept))
                context.append(p.context_tok(kept))
                generated.append(held)
        out = dict(prefill_share=prefill, decode_share=decode, counted_tok=prefill * self.n + decode * self.m, shots=np.mean(shots),
                   context_tok=np.mean(context), generated_tok=np.mean(generated), lost_context=sums[0] / sums[2], lost_generated=sums[1] / sums[2])
        out["lost"] = out["lost_context"] + out["lost_generated"]
        out["kv_bytes"] = np.rint((out["context_tok"] + out["generated_tok"]) * self.slot)
        return out

    def decode_left(self, prefill):
        """What the constraint leaves for generated tokens, in steps of 0.01 %; None: less than nothing."""
        r = np.floor((self.budget - prefill * self.n) / self.m * 1e4 + 1e-7) / 1e4
        return None if r < 0 else min(r, 1.0)

    def curve(self):
        """A pair for each 0.5 % of the context."""
        out = []
        for i in range(1, 201):
            r = self.decode_left(i / 200)
            if r is not None:
                out.append(self.row(i / 200, r))
        return out

    def best(self):
        pairs = self.curve() + [self.row(self.keep, self.keep)]
        least = min(p["lost"] for p in pairs)
        return min((p for p in pairs if p["lost"] <= least + 1e-12), key=lambda p: p["context_tok"] + p["generated_tok"])

    def equal_bytes(self, like):
        """The smallest r_p = r_d, in thousandths, that holds as much as `like`."""
        for i in range(1, 1001):
            r = self.row(i / 1000, i / 1000)
            if r["context_tok"] + r["generated_tok"] >= like["context_tok"] + like["generated_tok"] - 1e-9:
                return dict(r, counted_tok=nan)
        return None


def derive(traces, horizon, recent=32, keep=0.25):
    """kvbudget --show derive: derived on the first half, checked on the rest; of one prompt in-sample."""
    rows, half = [Rows(t, horizon, recent) for t in traces], max(1, len(traces) // 2)
    first, out = Pairs(rows[:half], keep), {}
    best = first.best()
    for on, pairs in ([("in-sample", first)] if len(traces) == 1 else [("derived", first), ("check", Pairs(rows[half:], keep))]):
        derived = pairs.row(best["prefill_share"], best["decode_share"])
        out["derived", on] = derived
        out["equal", on] = pairs.row(keep, keep)
        out["equal, KV", on] = pairs.equal_bytes(derived)
    return out


def curve(traces, horizon, recent=32, keep=0.25):
    pairs = Pairs([Rows(t, horizon, recent) for t in traces[:max(1, len(traces) // 2)]], keep)
    rows, best = pairs.curve(), pairs.best()
    for i, r in enumerate(rows):
        r["best"] = int(r["prefill_share"] == best["prefill_share"] and r["decode_share"] == best["decode_share"])
        if i == 0:
            r["gain"] = r["price"] = nan
            continue
        moved = (r["prefill_share"] - rows[i - 1]["prefill_share"]) * pairs.n / pairs.budget
        r["gain"], r["price"] = (rows[i - 1]["lost_context"] - r["lost_context"]) / moved, (r["lost_generated"] - rows[i - 1]["lost_generated"]) / moved
    return {(f"{r['prefill_share']:.9g}", f"{r['decode_share']:.9g}"): {k: v for k, v in r.items() if not k.endswith("_share")} for r in rows}


def layers(traces, horizon, recent=32, keep=0.25):
    """Each layer its own shots: of all choices that hold no more in all than the pair's share does, the one that loses least."""
    pairs = Pairs([Rows(traces[0], horizon, recent)], keep)
    p, best = pairs.prompts[0], pairs.best()
    L, own = p.t.L, None
    common = [p.kept(l, best["prefill_share"]) for l in range(L)]
    room = sum(p.context_tok(k) for k in common)
    for counts in itertools.product(range(len(p.shots) + 1), repeat=L):
        kept = [p.order[l][:c] for l, c in enumerate(counts)]
        if sum(p.context_tok(k) for k in kept) > room:
            continue
        lost = sum(p.lost_context(l, k) for l, k in enumerate(kept))
        if own is None or lost < own[0] - 1e-12:
            own = lost, kept
    return {(str(l),): dict(shots=len(common[l]), context_tok=p.context_tok(common[l]), own_shots=len(own[1][l]), own_tok=p.context_tok(own[1][l]))
            for l in range(L)}
