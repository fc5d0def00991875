#!/usr/bin/env python3
"""Makes golden-printed.txt: what papers without code would keep, from their printed algorithms in plain Python.

    python3 make_printed.py > golden-printed.txt                  (needs torch for the softmax; seconds)

Written from the papers' text, apart from the C code. Each function names what it transcribes; where a paper leaves
something open, the choice is the option that the case's method line spells out. golden.py has the format.
"""
import sys

import torch
from golden import TIE, Tensors, Writer

STEPS = (0, 1, 2, 3, 5, 8, 13, 24)


def best(score, k, where=None):
    """Positions of the k largest, the earlier one at a tie; dies at a tie that isn't one of equal numbers, which another
    order of summation would settle otherwise."""
    order = sorted(range(len(score)), key=lambda j: (-score[j], j))
    if 0 < k < len(order):
        a, b = score[order[k - 1]], score[order[k]]
        assert a == b or abs(a - b) > TIE * abs(a), f"too close to call at {where}: {a} {b}; take another seed"
    return sorted(order[:k])


class Decode:
    """Rows over a cache that somebody thins: held[g] positions, ascending, per layer."""

    def __init__(self, t, l, held):
        self.t, self.l, self.held = t, l, [list(h) for h in held]

    def row(self, step):
        """Appends token `step` (1, 2, ...) everywhere and returns its probabilities, [H][held]."""
        pos = self.t.n + step - 1
        for h in self.held:
            h.append(pos)
        return [r.double().tolist() for r in self.t.row(self.l, pos, self.held)]


def group_of(t, rows, how):
    """Rows of query heads to rows of kv heads."""
    m = t.H // t.G
    f = {"mean": lambda x: sum(x) / len(x), "max": max, "sum": sum}[how]
    return [[f(c) for c in zip(*rows[g * m:(g + 1) * m])] for g in range(t.G)]


def mass(t, l, rows=None):
    """[H][n]: attention received over all rows, or the last `rows`."""
    a = t.attention(l).double()
    return (a if rows is None else a[:, -rows:]).sum(1).tolist()


def h2o(w):
    """H2O, arXiv 2306.14048, algorithm 1: a running sum of attention; half of the budget for the newest; at each step
    the candidates are what is held and the new token, and the one with the least leaves for good."""
    def case(seed, L, H, G, n, C, norm, group, recent):
        t = Tensors(seed, L, H, G, 8, n, STEPS[-1])
        kept = {s: [] for s in STEPS}
        newest = -(-C // 2) if recent == "half" else recent
        for l in range(L):
            sums = [dict(enumerate(s)) for s in group_of(t, mass(t, l), group)]
            held = [list(range(n)) for _ in range(G)]
            d = Decode(t, l, held)
            for s in range(STEPS[-1] + 1):
                if s:
                    for g, r in enumerate(group_of(t, d.row(s), group)):
                        for p, x in zip(d.held[g], r):
                            sums[g][p] = sums[g].get(p, 0) + x
                last = n + s - 1
                for g in range(G):
                    if len(d.held[g]) > C:
                        old = d.held[g][:len(d.held[g]) - newest] if newest else d.held[g]
                        score = [sums[g][p] / (last - p + 1 if norm == "visible" else 1) for p in old]
                        stay = best(score, C - newest, (seed, l, g, s))
                        d.held[g] = [old[i] for i in stay] + d.held[g][len(old):]
                if s in kept:
                    kept[s] += [list(h) for h in d.held]
        w.case(f"H2O paper: norm {norm} group {group} recent {recent} C {C}", t,
               f"h2o[norm={norm},group={group},recent={recent}]", f"tokens {C}", kept)
    case(1, 2, 4, 4, 61, 16, "sum", "mean", "half")
    case(2, 2, 6, 2, 97, 25, "sum", "mean", "half")
    case(3, 1, 8, 1, 131, 13, "sum", "mean", "half")
    case(4, 2, 6, 2, 97, 24, "visible", "mean", "half")
    case(5, 1, 8, 1, 53, 20, "visible", "mean", 0)
    case(6, 1, 9, 3, 61, 7, "sum", "max", 3)
    case(7, 1, 3, 1, 40, 30, "sum", "sum", 1)
    case(8, 1, 2, 2, 31, 50, "sum", "mean", "half")     # nothing leaves before the budget is full
    case(9, 1, 4, 2, 37, 1, "sum", "mean", "half")      # a budget of one keeps the newest


def chunkkv(w):
    """ChunkKV, arXiv 2502.00299, algorithm 1: scores of the last w queries, summed; chunks of c; the floor(L / c) best
    stay, and the window after them. Per layer and head. Whole chunks, where a sum ranks as a mean does."""
    seed = 100
    for H, G, chunks, c, win, k in ((4, 4, 12, 10, 8, 5), (6, 2, 9, 10, 16, 3), (8, 1, 29, 7, 4, 3), (9, 3, 40, 5, 8, 4)):
        seed += 1
        n = chunks * c + win
        t = Tensors(seed, 2, H, G, 8, n)
        kept = []
        for l in range(2):
            for s in group_of(t, mass(t, l, win), "mean"):
                top = best([sum(s[i * c:(i + 1) * c]) for i in range(chunks)], k, (seed, l))
                kept.append([j for i in top for j in range(i * c, (i + 1) * c)] + list(range(n - win, n)))
        w.case(f"ChunkKV paper: chunk {c} w {win}, {k} of {chunks}", t, f"chunkkv[w={win},chunk={c}]", f"tokens {k * c + win + c // 2}", kept)


def shotkv(w):
    """ShotKV, arXiv 2502.01941 v4, section 5.1 and algorithm 1. P = mean over a shot's tokens of the attention received,
    summed over heads; whole shots from the best down while they fit r_p of the prompt; generated tokens by the current
    row alone, summed over heads, max(1, floor(r_d m)) of the m generated so far. Text outside shots stays and counts."""
    def case(seed, L, H, G, n, shots, ppm, spec, norm="sum", rows=None, scope="layer", overflow="stop", force=0, decode=None, recent=1):
        t = Tensors(seed, L, H, G, 8, n, STEPS[-1])
        inside = {j for a, b in shots for j in range(a, b)}
        outside = [j for j in range(n) if j not in inside]
        room = n * ppm // 1000000 - len(outside)
        score = []
        for l in range(L):
            col = [sum(c) for c in zip(*mass(t, l, rows))]
            if norm == "visible":
                col = [x / (n - j) for j, x in enumerate(col)]
            score.append([sum(col[a:b]) / (b - a) for a, b in shots])
        if scope == "all":
            score = [[sum(c) for c in zip(*score)]] * L
        kept = {s: [] for s in STEPS}
        for l in range(L):
            left, stay = room, []
            for i in sorted(range(len(shots)), key=lambda i: -score[l][i]):
                size = shots[i][1] - shots[i][0]
                if size <= left or (force and not stay and i == max(range(len(shots)), key=lambda x: score[l][x])):
                    stay.append(i)
                    left -= size
                elif overflow == "stop":
                    break
            prompt = sorted(outside + [j for i in stay for j in range(*shots[i])])
            share = ppm if decode is None else decode
            d = Decode(t, l, [prompt] * G)
            for s in range(STEPS[-1] + 1):
                if s:
                    rows_ = d.row(s)
                    made = d.held[0][len(prompt):]
                    k = max(1, s * share // 1000000)
                    if len(made) > k:
                        col = [sum(c) for c in zip(*rows_)][len(prompt):]
                        newest = made[max(0, len(made) - recent):] if recent else []
                        old = made[:len(made) - len(newest)]
                        made = [old[i] for i in best(col[:len(old)], max(0, k - len(newest)), (seed, l, s))] + newest
                    d.held = [prompt + made for _ in range(G)]
                if s in kept:
                    kept[s] += [list(h) for h in d.held]
        w.case(f"ShotKV paper: {len(shots)} shots {spec or 'defaults'} {ppm / 10000:g} %", t, f"shotkv[{spec}]", f"keep {ppm}", kept, shots=shots)
    eight = [(9, 22), (22, 41), (43, 50), (50, 71), (72, 84), (84, 99), (99, 113), (115, 128)]
    three = [(0, 11), (13, 40), (41, 52)]
    case(201, 3, 4, 4, 140, eight, 500000, "")
    case(202, 3, 6, 2, 140, eight, 250000, "overflow=skip", overflow="skip")
    case(203, 3, 8, 1, 140, eight, 100000, "force=1", force=1)
    case(204, 3, 6, 2, 140, eight, 400000, "scope=all_layers", scope="all")
    case(205, 2, 9, 3, 61, three, 600000, "norm=visible", norm="visible")
    case(206, 2, 4, 2, 61, three, 500000, "rows=window,w=8,decode=30%,decode_recent=2", rows=8, decode=300000, recent=2)
    case(207, 2, 3, 1, 61, three, 500000, "decode=12.5%", decode=125000)
    case(208, 3, 6, 2, 140, eight, 700000, "overflow=skip,norm=visible,scope=all_layers,decode=80%", "visible", None, "all", "skip", decode=800000)


def squared(t, l):
    return (t.attention(l).double() ** 2).sum(1).tolist()


def h2o_squared(w):
    """H2O's steps with the squares of the attention added up (KV-Compress, arXiv 2410.00161, finds L2 better than L1)."""
    for seed, H, G, n, C, newest in ((21, 4, 4, 61, 16, 8), (22, 6, 2, 97, 24, 12), (23, 8, 1, 53, 20, 0)):
        t = Tensors(seed, 2, H, G, 8, n, STEPS[-1])
        kept = {s: [] for s in STEPS}
        for l in range(2):
            sums = [dict(enumerate(s)) for s in group_of(t, squared(t, l), "sum")]
            d = Decode(t, l, [list(range(n))] * G)
            for s in range(STEPS[-1] + 1):
                if s:
                    for g, r in enumerate(group_of(t, [[x * x for x in r] for r in d.row(s)], "sum")):
                        for p, x in zip(d.held[g], r):
                            sums[g][p] = sums[g].get(p, 0) + x
                for g in range(G):
                    if len(d.held[g]) > C:
                        old = d.held[g][:len(d.held[g]) - newest] if newest else d.held[g]
                        d.held[g] = [old[i] for i in best([sums[g][p] for p in old], C - newest, (seed, l, g, s))] + d.held[g][len(old):]
                if s in kept:
                    kept[s] += [list(h) for h in d.held]
        w.case(f"H2O squared: recent {newest} C {C}", t, f"my[score=sqmass,group=sum,protect=recent{newest},schedule=step]", f"tokens {C}", kept)


def kvcompress(w):
    """KV-Compress, arXiv 2410.00161, continual: squared attention goes on adding up; every N tokens each head's slots are sorted,
    a block of 16 costs the largest value among those that must go to free it (the unfilled block first), and of all layers' and
    heads' blocks the cheapest go until the total of blocks is kept. The newest `protected` stay."""
    for seed, L, H, G, n, stay, every, protected in ((401, 2, 4, 4, 61, 2, 8, 10), (402, 3, 6, 2, 97, 3, 5, 16), (403, 2, 8, 1, 131, 4, 13, 20)):
        t = Tensors(seed, L, H, G, 8, n, STEPS[-1])
        M = [[dict(enumerate(s)) for s in group_of(t, squared(t, l), "sum")] for l in range(L)]
        d = [Decode(t, l, [list(range(n))] * G) for l in range(L)]
        kept = {}
        for s in range(STEPS[-1] + 1):
            for l in range(L):
                if s:
                    for g, r in enumerate(group_of(t, [[x * x for x in r] for r in d[l].row(s)], "sum")):
                        for p, x in zip(d[l].held[g], r):
                            M[l][g][p] = M[l][g].get(p, 0) + x
            if s % every == 0:
                blocks, order = [], {}
                for l in range(L):
                    for g in range(G):
                        h = d[l].held[g]
                        can = sorted((p for p in h if p <= n + s - 1 - protected), key=lambda p: M[l][g][p])
                        order[l, g] = can
                        end = (len(h) - 1) % 16 + 1
                        while end <= len(can):
                            blocks.append((M[l][g][can[end - 1]], l, g, end))
                            end += 16
                gone = sum(-(-len(x) // 16) for y in d for x in y.held) - stay * L * G
                blocks.sort()
                if gone > 0:
                    assert gone < len(blocks) and blocks[gone][0] - blocks[gone - 1][0] > TIE * blocks[gone][0], seed
                    for _, l, g, end in blocks[:gone]:
                        d[l].held[g] = [p for p in d[l].held[g] if p not in set(order[l, g][:end])]
            if s in STEPS:
                kept[s] = [list(x) for y in d for x in y.held]
        w.case(f"KV-Compress paper: every {every} protected {protected}, {stay} blocks a head", t,
               f"my[score=sqmass,group=sum,alloc=global,unit=page,schedule=every,every={every},protect=recent{protected}]", f"tokens {16 * stay}", kept)


def treekv(w):
    """TreeKV, arXiv 2501.04987, algorithm 1 with the pointer that its text and figure 3 need (idx mod c + 1; printed is
    (idx + 1) mod c + 1): score = mean attention since entry; when c + 1 slots are held, idx and idx + 1 are compared, the
    lower leaves, idx on a tie; then idx goes one on, from c to 1. Sinks and recent tokens, where there are any, are outside
    the cycle (the paper's language model: 4 + 508 of 1024). The prompt is a decode of its own tokens: it fits the cache."""
    for seed, H, G, n, c, sinks, newest in ((301, 4, 4, 8, 8, 0, 0), (302, 6, 2, 12, 12, 0, 0), (303, 8, 1, 4, 4, 0, 0), (304, 4, 2, 20, 9, 4, 7),
                                            (305, 3, 3, 17, 8, 1, 8)):
        t = Tensors(seed, 2, H, G, 8, n, STEPS[-1])
        kept = {s: [] for s in STEPS}
        for l in range(2):
            m = group_of(t, mass(t, l), "mean")
            S = [dict(enumerate(x)) for x in m]
            N = [{p: n - p for p in range(n)} for _ in range(G)]
            idx = [1] * G
            d = Decode(t, l, [list(range(n))] * G)
            for s in range(STEPS[-1] + 1):
                if s:
                    for g, r in enumerate(group_of(t, d.row(s), "mean")):
                        for p, x in zip(d.held[g], r):
                            S[g][p], N[g][p] = S[g].get(p, 0) + x, N[g].get(p, 0) + 1
                for g in range(G):
                    h = d.held[g]
                    if len(h) > c + sinks + newest:
                        a, b = (h[sinks + idx[g] - 1 + i] for i in (0, 1))
                        x, y = S[g][a] / N[g][a], S[g][b] / N[g][b]
                        assert abs(x - y) > TIE * x, (seed, "too close to call")
                        h.remove(a if x < y else b)
                        idx[g] = idx[g] % c + 1
                if s in kept:
                    kept[s] += [list(h) for h in d.held]
        w.case(f"TreeKV paper: c {c} sinks {sinks} recent {newest}", t,
               f"treekv[sinks={sinks},recent={newest}]", f"tokens {c + sinks + newest}", kept)


def treekv_prefill(w):
    """TreeKV's prompt: blocks of b come one after the other, a block is worth the mean of its tokens' scores, and the same
    cycle over them in one pass. In the paper the last block is the observation window: its rows score the others, and it
    stays; `treekv` scores by the mean over all rows that see a token, as in its steps, and has no window."""
    for seed, H, G, n, b, blocks, window in ((311, 4, 4, 96, 8, 5, True), (312, 6, 2, 133, 7, 6, True), (313, 8, 1, 208, 16, 4, True),
                                             (314, 4, 2, 99, 8, 5, False), (315, 9, 3, 64, 16, 2, False), (316, 2, 1, 61, 1, 20, False)):
        t = Tensors(seed, 2, H, G, 8, n)
        kept = []
        for l in range(2):
            m = mass(t, l, b if window else None)
            for s in group_of(t, m if window else [[x / (n - j) for j, x in enumerate(r)] for r in m], "mean"):
                end = n - b if window else n
                cut = [(a, min(a + b, end)) for a in range(0, end, b)]
                score = [sum(s[x:y]) / (y - x) for x, y in cut]
                held, idx = [], 1
                for i in range(len(cut)):
                    held.append(i)
                    if len(held) > blocks:
                        x, y = held[idx - 1], held[idx]
                        assert abs(score[x] - score[y]) > TIE * score[x], (seed, "too close to call")
                        held.remove(x if score[x] < score[y] else y)
                        idx = idx % blocks + 1
                kept.append([j for i in held for j in range(*cut[i])] + list(range(end, n)))
        if window:
            spec, name = f"my[score=wmass,w={b},unit=chunk,chunk={b},leaves=contest,protect=window]", "window of the last"
        else:
            spec, name = f"treekv[chunk={b},sinks=0,recent=0,schedule=prefill]", "all rows"
        w.case(f"TreeKV paper, prompt: blocks of {b}, {blocks} stay, {name}", t, spec, f"tokens {blocks * b + (b if window else 0)}", kept)


def chunkkv_reuse(w):
    """ChunkKV, algorithm 2: layers in groups of N; the first of a group chooses, the others take its choice."""
    seed = 150
    for H, G, chunks, c, win, k, L, reuse in ((4, 4, 12, 10, 8, 5, 4, 2), (6, 2, 9, 10, 16, 3, 5, 2), (8, 1, 29, 7, 4, 3, 7, 3), (3, 3, 12, 10, 8, 6, 3, 1)):
        seed += 1
        n = chunks * c + win
        t = Tensors(seed, L, H, G, 8, n)
        kept = []
        for l in range(L):
            for s in group_of(t, mass(t, l - l % reuse, win), "mean"):
                top = best([sum(s[i * c:(i + 1) * c]) for i in range(chunks)], k, (seed, l))
                kept.append([j for i in top for j in range(i * c, (i + 1) * c)] + list(range(n - win, n)))
        w.case(f"ChunkKV paper: chunk {c} w {win}, {k} of {chunks}, reuse {reuse}", t, f"chunkkv[w={win},chunk={c},reuse={reuse}]",
               f"tokens {k * c + win + c // 2}", kept)


def shotkv_exact(w):
    """ShotKV's equations 5 and 6 taken at their word: of all sets of shots that fit, the one with the most mass per token
    summed over shots. And rows after the shot's end alone as its score."""
    eight = [(9, 22), (22, 41), (43, 50), (50, 71), (72, 84), (84, 99), (99, 113), (115, 128)]
    for seed, H, G, ppm, what in ((221, 4, 4, 500000, "knapsack"), (222, 6, 2, 330000, "knapsack"), (223, 8, 1, 700000, "knapsack"),
                                  (224, 6, 2, 500000, "later"), (225, 4, 1, 400000, "later")):
        n, L = 140, 3
        t = Tensors(seed, L, H, G, 8, n)
        inside = {j for a, b in eight for j in range(a, b)}
        outside = [j for j in range(n) if j not in inside]
        room = n * ppm // 1000000 - len(outside)
        size = [b - a for a, b in eight]
        kept = []
        for l in range(L):
            a = t.attention(l).double().sum(0)      # over heads: (row, column)
            rows = [(b if what == "later" else 0) for _, b in eight]
            score = [float(a[r:, x:y].sum()) / (y - x) for r, (x, y) in zip(rows, eight)]
            if what == "knapsack":
                sets = [[i for i in range(8) if m >> i & 1] for m in range(256)]
                fits = sorted((sum(score[i] for i in s), s) for s in sets if sum(size[i] for i in s) <= room)
                assert fits[-1][0] - fits[-2][0] > 1e-4
                stay = fits[-1][1]
            else:
                stay, left = [], room
                for i in sorted(range(8), key=lambda i: -score[i]):
                    if size[i] > left:
                        break
                    stay.append(i)
                    left -= size[i]
            cell = sorted(outside + [j for i in stay for j in range(*eight[i])])
            kept += [cell] * G
        w.case(f"ShotKV paper: {what}, 8 shots {ppm / 10000:g} %", t, "shotkv[overflow=knapsack]" if what == "knapsack" else "shotkv[rows=later]",
               f"keep {ppm}", kept, shots=eight)


READY = (h2o, h2o_squared, chunkkv, chunkkv_reuse, shotkv, shotkv_exact, treekv, treekv_prefill, kvcompress)


def main():
    torch.set_num_threads(1)
    w = Writer(sys.stdout, "made by make_printed.py")
    for part in READY:
        part(w)
    print(w.cases, "cases", file=sys.stderr)


if __name__ == "__main__":
    main()
