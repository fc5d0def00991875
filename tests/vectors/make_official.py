#!/usr/bin/env python3
"""Makes golden-official.txt: which slots the authors' own codes keep of given tensors. golden.py has the format.

    python3 make_official.py CHECKOUTS > golden-official.txt     (needs torch, transformers; a CPU is enough)

CHECKOUTS holds the repositories, unchanged: SnapKV (FasterDecoding, e216ddc), KVCache-Factory (Zefan-Cai, c97f9d7),
AdaKV (FFY0, efe4e2e), H2O (FMInference, ac75c2a), streaming-llm (mit-han-lab, 2e50426), TOVA (schwartz-lab-NLP,
9c7d09b), LagKV (AI-Lab-China-Merchants-Bank, 2a9d19e), vllm-kvcompress (IsaacRe, 5e2a639), KVzip (snu-mllab, 5d84729).
Their modules are imported and their functions called; nothing of theirs is here. What they import for GPUs alone is
replaced by empty modules. Codes that choose for each query head are run without groups, or in their kv-head mode.
"""
import contextlib
import importlib.util
import os
import sys
import types

import torch
from golden import Tensors, Writer, positions, tied
from make_kvpress import Topk

STEPS = (0, 1, 2, 3, 5, 8, 13, 24)
T = STEPS[-1]


def stub(*names):
    for name in names:
        m = types.ModuleType(name)
        m.__getattr__ = lambda attr: (lambda *a, **k: None)
        sys.modules.setdefault(name, m)


def load(root, path):
    """A module from a file of a checkout."""
    file = os.path.join(root, path)
    spec = importlib.util.spec_from_file_location("official_" + path.replace("/", "_").replace(".", "_").replace("-", "_"), file)
    m = importlib.util.module_from_spec(spec)
    with contextlib.redirect_stdout(sys.stderr):
        spec.loader.exec_module(m)
    return m


def quiet(f, *a, **k):
    with contextlib.redirect_stdout(open(os.devnull, "w")):
        return f(*a, **k)


def cells(rows, t, l):
    """Kept positions of a (1, heads, m, D) value cache or a list of (m, D)."""
    heads = rows[0] if isinstance(rows, torch.Tensor) else rows
    return [sorted(positions(heads[g].reshape(-1, t.D), t.v[l][g])) for g in range(t.G)]


def prefill(t, make, ties_of="last"):
    """Runs update_kv(keys, queries, values) of one cluster a layer; kept cells and ties."""
    kept, ties = [], []
    n = t.n
    for l in range(t.L):
        c = make(l)
        k, q, v = (x[l][None, :, :n].clone() for x in (t.k, t.q, t.v))
        with Topk() as seen:
            _, v = quiet(c.update_kv, k, q, v, None, t.H // t.G) if ties_of != "ada" else quiet(c.update_kv, k, q, v)
        kept += cells(v, t, l)
        if seen.calls:
            score, count = seen.calls[-1]
            ties += [tied(score[0, g], count) for g in range(t.G)]
        else:
            ties += [[]] * t.G
    return kept, ties


def put(w, name, t, spec, make, budget=None, **kw):
    kept, ties = prefill(t, make, **kw)
    w.case(name, t, spec, budget or f"tokens {len(kept[0])}", kept, ties)


POOLS = {"avgpool": "avg", "maxpool": "max"}


def snapkv(w, root):
    m = load(root, "SnapKV/snapkv/monkeypatch/snapkv_utils.py")
    seed = 1000
    for L, H, n in ((2, 4, 131), (2, 3, 97), (1, 1, 203)):
        for pool, kernel, win in (("avgpool", 5, 16), ("maxpool", 7, 8), ("maxpool", 5, 4)):
            for C in (n // 2, n // 4, max(win + 1, n // 10)):
                seed += 1
                put(w, f"SnapKV: w {win} {pool} {kernel} C {C}", Tensors(seed, L, H, H, 8, n),
                    f"snapkv[w={win},pool={POOLS[pool]}{kernel}]", lambda l: m.SnapKVCluster(win, C, kernel, pool))
    for name, n, C in (("shorter than its capacity", 61, 200), ("as long as its capacity", 61, 61), ("one less than its capacity", 62, 61)):
        seed += 1
        put(w, "SnapKV: " + name, Tensors(seed, 1, 3, 3, 8, n), "snapkv[w=16,pool=max7]", lambda l: m.SnapKVCluster(16, C, 7, "maxpool"),
            f"tokens {C}")


def factory(w, root):
    m = load(root, "KVCache-Factory/pyramidkv/pyramidkv_utils.py")
    seed = 1100
    for H, G, n in ((4, 4, 131), (6, 2, 97), (8, 1, 203), (9, 3, 61)):
        for agg in ("mean", "max", "sum"):
            for pool, kernel, win, C in (("avgpool", 5, 16, n // 2), ("maxpool", 7, 8, n // 4), ("maxpool", 7, 4, n // 10)):
                seed += 1
                put(w, f"KVCache-Factory snapkv: kv_head {agg} w {win} {pool} {kernel} C {C}", Tensors(seed, 2, H, G, 8, n),
                    f"snapkv[w={win},pool={POOLS[pool]}{kernel},group={agg},order=group-first]",
                    lambda l: m.SnapKVCluster(win, C, kernel, pool, gqa_score_agg=agg))
    for H, G, n, win, C, beta in ((4, 4, 211, 8, 64, 20), (6, 2, 211, 8, 40, 20), (8, 1, 301, 16, 100, 10), (3, 3, 131, 8, 100, 20),
                                  (2, 2, 97, 8, 97, 20), (2, 2, 97, 8, 120, 20), (9, 3, 149, 4, 24, 7), (4, 4, 211, 8, 105, 20)):
        seed += 1
        put(w, f"KVCache-Factory pyramidkv: n {n} w {win} C {C} beta {beta}", Tensors(seed, 5, H, G, 8, n),
            f"pyramidkv[w={win},pool=max7,rule=official,beta={beta},order=group-first]",
            lambda l: m.PyramidKVCluster(num_hidden_layers=5, layer_idx=l, window_size=win, max_capacity_prompt=C, kernel_size=7,
                                         pooling="maxpool", beta=beta), f"tokens {C}")
    for H, G, n, agg in ((4, 4, 131, "mean"), (6, 2, 97, "mean"), (6, 2, 97, "max"), (8, 1, 203, "sum")):
        for C in (n // 2, n // 4, n // 10):
            seed += 1
            win = C // 2
            put(w, f"KVCache-Factory h2o: kv_head {agg} w {win} C {C}", Tensors(seed, 2, H, G, 8, n),
                f"h2o[recent={win},group={agg},schedule=prefill]",
                lambda l: m.H2OKVCluster(window_size=win, max_capacity_prompt=C, gqa_score_agg=agg))
    for H, G, n, C in ((4, 4, 131, 64), (6, 2, 97, 20), (8, 1, 203, 9), (2, 1, 30, 64)):
        seed += 1
        put(w, f"KVCache-Factory streamingllm: C {C}", Tensors(seed, 2, H, G, 8, n), "streaming[schedule=prefill,renumber=0]",
            lambda l: m.StreamingLLMKVCluster(window_size=C - 4, max_capacity_prompt=C), f"tokens {C}")


def adakv(w, root):
    stub("flash_attn", "tiny_api_cuda")
    m = load(root, "AdaKV/adaptive_snapkv/monkeypatch/snapkv_utils.py")
    seed = 1300
    for H, G, n, agg in ((4, 4, 131, None), (6, 2, 97, "mean"), (8, 1, 203, "max"), (9, 3, 61, "mean")):
        for C in (n // 2, n // 4, n // 10):
            seed += 1
            win = 4
            put(w, f"AdaKV snapkv: {agg or 'no groups'} w {win} C {C}", Tensors(seed, 2, H, G, 8, n),
                f"snapkv[w={win},pool=max7,group={agg or 'mean'},order=group-first]",
                lambda l: m.SnapKVCluster(win, C, 7, "maxpool", gqa_support=agg is not None, num_key_value_groups=H // G, gqa_func=agg),
                ties_of="ada")
    for H, n, C in ((4, 211, 64), (3, 301, 40)):
        seed += 1
        put(w, f"AdaKV pyramid: C {C}", Tensors(seed, 5, H, H, 8, n), "pyramidkv[w=8,pool=max7,rule=official,order=group-first]",
            lambda l: m.SnapKVCluster(8, C, 7, "maxpool", layer_idx=l, num_hidden_layers=5, pyram_mode=True), f"tokens {C}", ties_of="ada")
    for H, n, C in ((4, 131, 64), (2, 97, 9)):
        seed += 1
        put(w, f"AdaKV slm: C {C}", Tensors(seed, 2, H, H, 8, n), "streaming[schedule=prefill,renumber=0]",
            lambda l: m.StreamingLLMKVCluster(C), ties_of="ada")


def decode(w, name, t, spec, budget, start, step, at=STEPS):
    """start(l) -> (state, held positions of each head); step(state, l, pos, rows) -> held. rows: a list of H softmax rows over held
    positions and the new one. A tie on the way would be followed differently by everybody: another seed, then."""
    kept = {s: [None] * (t.L * t.G) for s in at}
    for l in range(t.L):
        with Topk() as seen:
            state, held = start(l)
            for s in range(T + 1):
                if s:
                    held = [h + [t.n + s - 1] for h in held]
                    held = step(state, l, t.n + s - 1, t.row(l, t.n + s - 1, held), held)
                if s in kept:
                    kept[s][l * t.G:(l + 1) * t.G] = [sorted(h) for h in held]
        for score, count in seen.calls:
            assert not any(tied(x, count) for x in score.reshape(-1, score.shape[-1])), f"{name}: a tie; take another seed"
    w.case(name, t, spec, budget, kept)


def h2o(w, root):
    m = load(root, "H2O/h2o_hf/utils_real_drop/modify_llama.py")

    def run(t, hh, recent, spec, name):
        def start(l):
            c = quiet(m.H2OKVCache_LayerWise, hh, recent)
            n = t.n
            past = c((t.k[l][None, :, :n], t.v[l][None, :, :n]), t.attention(l)[None])
            return [c, past], cells(past[1], t, l)

        def step(state, l, pos, rows, held):
            c, past = state
            order = [positions(past[1][0, g], t.v[l][g]) + [pos] for g in range(t.G)]
            assert order == held
            past = tuple(torch.cat([p, x[l][None, :, pos:pos + 1]], 2) for p, x in zip(past, (t.k, t.v)))
            state[1] = c(past, torch.stack(rows)[None, :, None])
            return cells(state[1][1], t, l)
        decode(w, name, t, spec, f"tokens {hh + recent}", start, step)

    seed = 1400
    for L, H, n, hh, recent in ((2, 4, 61, 15, 15), (2, 3, 97, 4, 20), (1, 2, 131, 10, 3), (2, 2, 40, 20, 30), (2, 4, 33, 1, 7)):
        seed += 1
        run(Tensors(seed, L, H, H, 8, n, T), hh, recent, f"h2o[recent={recent}]", f"H2O real-drop: {hh} heavy {recent} recent")


def h2o_flexgen(w, root):
    stub("flexgen", "flexgen.utils")
    m = load(root, "H2O/h2o_flexgen/flexgen/pytorch_backend.py")
    dev = m.TorchDevice
    seed = 1450
    # its cut at prefill's end protects one newest token less than its steps do, so that single slots differ there from
    # ours (which protects the same number throughout) until the first step has dropped them
    for H, n, hh in ((4, 61, 12), (2, 97, 20), (1, 131, 7)):
        seed += 1
        t = Tensors(seed, 1, H, H, 8, n, T)

        def start(l):
            k, v = (x[l][:, :t.n].transpose(0, 1) for x in (t.k, t.v))
            k, v, acc = dev._heavy_hitter_pruning(None, k, v, t.attention(l), hh)
            return [v.transpose(0, 1), acc], [positions(v[:, g], t.v[l][g]) for g in range(t.G)]

        def step(state, l, pos, rows, held):
            v, acc = state
            acc = torch.cat([acc, torch.zeros(1, t.H)]) + torch.stack(rows).T
            gone = dev._get_light_hitter(None, acc[:acc.shape[0] - hh]).reshape(-1)
            keep = [[i for i in range(acc.shape[0]) if i != int(gone[g])] for g in range(t.G)]
            state[1] = torch.stack([acc[keep[g], g] for g in range(t.G)], 1)
            return [[held[g][i] for i in keep[g]] for g in range(t.G)]
        decode(w, f"H2O flexgen: hh_k {hh}", t, f"h2o[recent={hh}]", f"tokens {2 * hh - 1}", start, step, STEPS[1:])


def streaming(w, root):
    m = load(root, "streaming-llm/streaming_llm/kv_cache.py")
    seed = 1500
    for H, G, n, sinks, recent in ((2, 1, 61, 4, 20), (3, 3, 97, 1, 16), (4, 2, 30, 4, 40), (2, 2, 23, 0, 9)):
        seed += 1
        t = Tensors(seed, 2, H, G, 8, n, T)
        c = quiet(m.StartRecentKVCache, sinks, recent)

        def start(l):
            past = c([(t.k[l][None, :, :t.n], t.v[l][None, :, :t.n])])
            return [past], cells(past[0][1], t, l)

        def step(state, l, pos, rows, held):
            past = [[torch.cat([p, x[l][None, :, pos:pos + 1]], 2) for p, x in zip(state[0][0], (t.k, t.v))]]
            state[0] = c(past)
            return cells(state[0][0][1], t, l)
        decode(w, f"streaming-llm: {sinks} sinks {recent} recent", t, f"streaming[sinks={sinks}]", f"tokens {sinks + recent}", start, step)


def main():
    root = sys.argv[1]
    torch.set_num_threads(1)
    w = Writer(sys.stdout, "made by make_official.py with torch " + torch.__version__.split("+")[0])
    for part in (snapkv, factory, adakv, h2o, h2o_flexgen, streaming):
        part(w, root)
    print(w.cases, "cases", file=sys.stderr)


if __name__ == "__main__":
    main()
