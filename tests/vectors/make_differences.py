#!/usr/bin/env python3
"""Prints what docs/methods.md shows of papers and codes that differ under one name: the same small tensors into each.

    python3 make_differences.py CHECKOUTS          (CHECKOUTS as for make_official.py)

One layer, few heads, 20 to 40 tokens; kept positions as runs. Codes are run as make_official.py and make_kvpress.py run
them, papers transcribed as in make_printed.py.
"""
import sys

import kvpress as kp
import make_official as official
import torch
from golden import Tensors
from make_kvpress import GivenAttention, run
from make_printed import group_of, mass


def runs(pos):
    out, pos = [], sorted(pos)
    for p in pos:
        if out and out[-1][1] == p - 1:
            out[-1][1] = p
        else:
            out.append([p, p])
    return " ".join(f"{a}-{b}" if b > a else str(a) for a, b in out)


def show(title, *lines):
    print(f"\n{title}")
    for name, cells in lines:
        print(f"    {name:<44} " + "   |   ".join(runs(c) if isinstance(c, list) else str(c) for c in cells))


def main():
    root = sys.argv[1]
    official.stub("flash_attn", "tiny_api_cuda")
    fac = official.load(root, "KVCache-Factory/pyramidkv/pyramidkv_utils.py")
    ada = official.load(root, "AdaKV/adaptive_snapkv/monkeypatch/snapkv_utils.py")

    t = Tensors(9, 1, 4, 1, 8, 32)
    pooled = torch.nn.functional.max_pool1d(t.attention(0)[:, -4:, :28].sum(1)[None], 5, 1, 2)[0].mean(0)
    show("snapkv, n 32, w 4, capacity 12, four query heads to one kv head",
         ("KVCache-Factory kv_head, max 5 (group, then pool)", official.prefill(t, lambda l: fac.SnapKVCluster(4, 12, 5, "maxpool"))[0]),
         ("max 5, pool, then group", [sorted(pooled.topk(8).indices.tolist()) + [28, 29, 30, 31]]),
         ("KVCache-Factory kv_head, avg 5", official.prefill(t, lambda l: fac.SnapKVCluster(4, 12, 5, "avgpool"))[0]),
         ("kvpress SnapKVPress, avg 5", run(kp.SnapKVPress(1 - 12 / 32, 4, 5), t)[0]))

    t = Tensors(2, 1, 1, 1, 8, 24)
    show("h2o at prefill's end, n 24, 8 kept",
         ("KVCache-Factory h2o (sum, newest 4)", official.prefill(t, lambda l: fac.H2OKVCluster(4, 8))[0]),
         ("kvpress ObservedAttentionPress (mean over rows)", run(kp.ObservedAttentionPress(2 / 3 - 1e-9), t)[0]))

    L = 6
    budget = lambda f: [f(l) for l in range(L)]
    t = Tensors(3, L, 1, 1, 8, 200)
    off = official.prefill(t, lambda l: fac.PyramidKVCluster(L, 8, 40, 7, "maxpool", layer_idx=l))[0]
    pre = run(kp.PyramidKVPress(0.8, window_size=8, kernel_size=7, beta=4), t)[0]
    off4 = official.prefill(t, lambda l: fac.PyramidKVCluster(L, 8, 40, 7, "maxpool", layer_idx=l, beta=4))[0]
    show("pyramidkv, tokens of each of 6 layers, n 200, w 8, 40 asked, beta 4",
         ("KVCache-Factory", [[*map(len, off4)].__repr__() + f" mean {sum(map(len, off4)) / L:.2f}"]),
         ("kvpress", [[*map(len, pre)].__repr__() + f" mean {sum(map(len, pre)) / L:.2f}"]))
    print("    beta 20:", [*map(len, off)], f"mean {sum(map(len, off)) / L:.2f}", "| kvpress", [*map(len, run(kp.PyramidKVPress(0.8, window_size=8, kernel_size=7), t)[0])])

    t = Tensors(4, 1, 2, 2, 8, 44)
    score = group_of(t, mass(t, 0, 4), "mean")
    paper = []
    for s in score:
        c = sorted(range(10), key=lambda i: -sum(s[i * 4:i * 4 + 4]))[:4]
        paper.append([j for i in c for j in range(i * 4, i * 4 + 4)] + list(range(40, 44)))
    show("chunkkv, n 44, chunk 4, w 4, 20 kept, two kv heads",
         ("paper, each head its own", paper),
         ("kvpress ChunkKVPress(SnapKVPress), one set", run(kp.ChunkKVPress(GivenAttention(0.5, 4, 1), chunk_length=4), t, False)[0]))

    t = Tensors(4, 1, 2, 2, 8, 105)
    kept = run(kp.ChunkKVPress(GivenAttention(0.5, 4, 1), chunk_length=20), t, False)[0]
    show("chunkkv, tokens kept of 105 in chunks of 20, w 4, half (52) asked",
         ("paper: floor((52 - 4) / 20) chunks, and the window", [str(2 * 20 + 4)]), ("kvpress: int(6 x 0.5) chunks, the window's among them", [str([*map(len, kept)])]))

    t = Tensors(5, 1, 4, 4, 8, 40)
    blend, _, _ = official.adaptive(t, lambda l: ada.AdaptiveSnapKVCluster(4, 5, "avgpool", 14, 0.5, 0, False, layer_idx=0, num_hidden_layers=1), 10, 0.5, 4)
    safe = run(kp.AdaKVPress(kp.SnapKVPress(1 - 14 / 40 - 1e-9, 4, 5), 0.5), t)[0]
    show("adakv, slots of each of four kv heads, n 40, w 4, 14 asked of each, alpha 0.5",
         ("FFY0/AdaKV (blend)", [str([*map(len, blend)])]), ("kvpress AdaKVPress (safeguard)", [str([*map(len, safe)])]))

    t = Tensors(6, 1, 2, 1, 8, 20)
    m = official.load(root, "TOVA/src/tova_cache.py")
    c = object.__new__(m.TOVACache)
    c.cache_size, c.key_cache, c.value_cache = 6, [t.k[0][None]], [t.v[0][None]]
    c.reduce(0, t.attention(0)[None])
    show("tova at prefill's end, n 20, 6 kept", ("schwartz-lab-NLP/TOVA", official.cells(c.key_cache[0], c.value_cache[0], t, 0)),
         ("kvpress TOVAPress (the newest stays)", run(kp.TOVAPress(0.7 - 1e-9), t)[0]))

    t = Tensors(7, 1, 1, 1, 8, 22)
    m = official.load(root, "LagKV/lag_kv.py")
    c = object.__new__(m.LagKV)
    c.ratio, c.sink_size, c.lag_size, c.score_v_ratio, c.skip_layer_idx, c.use_then_compress = 0.5, 4, 10, 1.0, [], True
    c._compressed_len, c.key_cache, c.value_cache, c._seen_tokens = [], [], [], 0
    c.update(t.k[0][None].clone(), t.v[0][None].clone(), 0)
    off = official.cells(c.key_cache[0], c.value_cache[0], t, 0)
    show("lagkv, n 22, 4 sinks, lag 10, half: fewer than a sink and two partitions",
         ("LagKV (official)", off), ("kvpress LagKVPress", run(kp.LagKVPress(0.5, 4, 10), t)[0]))

    t = Tensors(11, 4, 1, 1, 8, 60)
    off = official.prefill(t, lambda l: fac.L2NormCluster(max_capacity_prompt=20, layer_idx=l, skip_layers=[0, 1]))[0]
    show("knorm, tokens of each of 4 layers, n 60, 20 asked", ("KVCache-Factory l2norm", [str([*map(len, off)])]),
         ("kvpress KnormPress", [str([*map(len, run(kp.KnormPress(2 / 3 - 1e-9), t)[0])])]))

    t = Tensors(4, 1, 2, 1, 8, 30)
    press = [kp.FinchPress(0.6, None, normalize_scores=x, rerotate_keys=False) for x in (True, False)]
    for x in press:
        x.window_size = 6
    show("finch, n 30, w 6, 12 kept", ("rows weighed by what they see", run(press[0], t)[0]), ("normalize_scores=False", run(press[1], t)[0]))

    t = Tensors(1, 3, 4, 2, 8, 60)
    shots = [(0, 12), (12, 25), (25, 34), (34, 50), (50, 60)]
    score = [[sum(sum(h[a:b]) for h in mass(t, l)) / (b - a) for a, b in shots] for l in range(3)]
    both = [sum(c) for c in zip(*score)]

    def greedy(score, room=30):
        stay = []
        for i in sorted(range(len(shots)), key=lambda i: -score[i]):
            if sum(shots[j][1] - shots[j][0] for j in stay + [i]) > room:
                break
            stay.append(i)
        return str([i + 1 for i in sorted(stay)])
    show("shotkv, shots kept in each of 3 layers, five shots of 9 to 16 tokens, 30 of 60 asked",
         ("algorithm 1: each layer its own", [" ".join(greedy(s) for s in score)]), ("appendix E.1: once, layers added up", [" ".join([greedy(both)] * 3)]))

    for c in (4,):
        a, b = [], []
        i = j = 1
        for _ in range(6):
            a.append(i)
            b.append(j)
            i, j = (i + 1) % c + 1, j % c + 1
        show("treekv, the pointer with c 4", ("as printed", [str(a)]), ("as its text and figure need", [str(b)]))


if __name__ == "__main__":
    main()
