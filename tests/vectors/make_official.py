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


def cells(k, v, t, l):
    """Kept positions of a (1, heads, m, D) cache."""
    return [sorted(positions(k[0, g], v[0, g], t.k[l][g], t.v[l][g])) for g in range(t.G)]


def prefill(t, make, ties_of="last"):
    """Runs update_kv(keys, queries, values) of one cluster a layer; kept cells and ties."""
    kept, ties = [], []
    n = t.n
    for l in range(t.L):
        c = make(l)
        k, q, v = (x[l][None, :, :n].clone() for x in (t.k, t.q, t.v))
        with Topk() as seen:
            k, v = quiet(c.update_kv, k, q, v, None, t.H // t.G) if ties_of != "ada" else quiet(c.update_kv, k, q, v)
        kept += cells(k, v, t, l)
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
            return [c, past], cells(*past, t, l)

        def step(state, l, pos, rows, held):
            c, past = state
            assert [h + [pos] for h in cells(*past, t, l)] == held
            past = tuple(torch.cat([p, x[l][None, :, pos:pos + 1]], 2) for p, x in zip(past, (t.k, t.v)))
            state[1] = c(past, torch.stack(rows)[None, :, None])
            return cells(*state[1], t, l)
        decode(w, name, t, spec, f"tokens {hh + recent}", start, step)

    seed = 1400
    for L, H, n, hh, recent in ((2, 4, 61, 15, 15), (2, 3, 97, 4, 20), (1, 2, 131, 10, 3), (2, 2, 40, 20, 30), (2, 4, 33, 1, 7)):
        seed += 1
        run(Tensors(seed, L, H, H, 8, n, T), hh, recent, f"h2o[recent={recent}]", f"H2O real-drop: {hh} heavy {recent} recent")


def h2o_attention(root, path, t, heavy, recent):
    """An attention layer of H2O's simulations over given queries and keys (its projections are ours), and what makes its input."""
    m = load(root, path)
    m.LlamaRotaryEmbedding = lambda *a, **k: (lambda v, seq_len: (torch.ones(seq_len, t.D), torch.zeros(seq_len, t.D)))
    m.apply_rotary_pos_emb = lambda q, k, *a: (q, k)
    cfg = types.SimpleNamespace(hidden_size=t.H * t.D, num_attention_heads=t.H, max_position_embeddings=4096, heavy_ratio=heavy / t.n + 1e-9,
                                recent_ratio=recent / t.n + 1e-9)
    a = m.LlamaAttention_heavy_hitter(cfg)
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        delattr(a, name)
    a.o_proj = lambda x: x

    def look(from_, to, past=None):
        for name, x in (("q_proj", t.q), ("k_proj", t.k), ("v_proj", t.v)):
            setattr(a, name, lambda h, x=x: x[0][:, from_:to].transpose(0, 1).reshape(1, to - from_, -1))
        mask = torch.zeros(1, 1, to - from_, to)
        mask[0, 0] = torch.triu(torch.full((to - from_, to), torch.finfo(torch.float32).min), to - (to - from_) + 1)
        with torch.no_grad():
            return a.forward(torch.zeros(1, to - from_, t.H * t.D), mask, torch.arange(from_, to)[None], past, True, True)
    return a, look


def h2o_lm_eval(w, root):
    """utils_lm_eval masks every row by the sums over all rows, later ones too; its last row is what a cache would hold: the heavy ones
    of all columns, and the newest `recent` beside the row's own token. Heavy ones may be recent, so a head's count is its own: one head."""
    seed = 1470
    for n, heavy, recent in ((61, 12, 12), (97, 9, 20), (131, 13, 13), (40, 20, 4)):
        seed += 1
        t = Tensors(seed, 1, 1, 1, 8, n)
        _, look = h2o_attention(root, "H2O/h2o_hf/utils_lm_eval/modify_llama.py", t, heavy, recent)
        rows = look(0, n)[1]
        kept = [int(j) for j in rows[0, 0, -1].nonzero().flatten()]
        w.case(f"H2O lm-eval: {heavy} heavy {recent} recent", t, f"h2o[recent={recent + 1},schedule=prefill]", f"tokens {len(kept)}", [kept])


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
            return [v, acc], [positions(k[:, g], v[:, g], t.k[l][g], t.v[l][g]) for g in range(t.G)]

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
            return [past], cells(*past[0], t, l)

        def step(state, l, pos, rows, held):
            past = [[torch.cat([p, x[l][None, :, pos:pos + 1]], 2) for p, x in zip(state[0][0], (t.k, t.v))]]
            state[0] = c(past)
            return cells(*state[0][0], t, l)
        decode(w, f"streaming-llm: {sinks} sinks {recent} recent", t, f"streaming[sinks={sinks}]", f"tokens {sinks + recent}", start, step)


def tova(w, root):
    m = load(root, "TOVA/src/tova_cache.py")
    seed = 1600
    for H, G, n, C in ((4, 4, 61, 20), (6, 2, 97, 24), (8, 1, 131, 13), (9, 3, 40, 30), (2, 1, 33, 50), (2, 2, 29, 1)):
        seed += 1
        t = Tensors(seed, 2, H, G, 8, n, T)

        def start(l):
            c = object.__new__(m.TOVACache)
            c.cache_size, c.key_cache, c.value_cache = C, [t.k[l][None, :, :n]], [t.v[l][None, :, :n]]
            c.reduce(0, t.attention(l)[None])
            return c, cells(c.key_cache[0], c.value_cache[0], t, l)

        def step(c, l, pos, rows, held):
            c.key_cache[0] = torch.cat([c.key_cache[0], t.k[l][None, :, pos:pos + 1]], 2)
            c.value_cache[0] = torch.cat([c.value_cache[0], t.v[l][None, :, pos:pos + 1]], 2)
            c.reduce(0, torch.stack(rows)[None, :, None])
            return cells(c.key_cache[0], c.value_cache[0], t, l)
        decode(w, f"TOVA: C {C}", t, "tova", f"tokens {C}", start, step)


def adaptive(t, make, base, alpha, win):
    """A cluster of head budgets: what it kept, and whether its rounding met the total (a half rounded to the even number
    counts as not: the largest remainder, which always meets it, may give that token to another head)."""
    kept, ties, exact = [], [], True
    for l in range(t.L):
        c = make(l)
        k, q, v = (x[l][None, :, :t.n].clone() for x in (t.k, t.q, t.v))
        with Topk() as seen:
            kk, vv = quiet(c.update_kv, k, q, v)
        lens = [int(x) for x in c.head_lens]
        exact &= sum(lens) == t.G * (base + win) or base > t.n - win
        at = 0
        for g, m in enumerate(lens):
            kept.append(sorted(positions(kk[at:at + m], vv[at:at + m], t.k[l][g], t.v[l][g])))
            at += m
        with Topk():
            score = c.calcul_attn_sore(k.repeat_interleave(t.H // t.G, 1) if hasattr(c, "gqa_support") else k, q)[0]
        flat = tied(score.flatten(), t.G * base) if base <= t.n - win else []   # the budgets
        if base <= t.n - win:
            won = torch.bincount(score.flatten().topk(t.G * base).indices // score.shape[1], minlength=t.G)
            exact &= not any(float(x) * (1 - alpha) % 1 == 0.5 for x in won)
        for g, m in enumerate(lens):
            own = tied(score[g], m - win)                                       # the head's own cut
            ties.append(sorted(set(own) | {j - g * score.shape[1] for j in flat if j // score.shape[1] == g}))
    return kept, ties, exact


def adakv_heads(w, root):
    stub("flash_attn", "tiny_api_cuda")
    ada = load(root, "AdaKV/adaptive_snapkv/monkeypatch/snapkv_utils.py")
    fac = load(root, "KVCache-Factory/pyramidkv/pyramidkv_utils.py")
    seed, made = 1700, []
    for H, G, n, agg in ((4, 4, 131, None), (6, 2, 97, "mean"), (8, 1, 203, "max"), (9, 3, 61, "mean")):
        for C in (n // 2, n // 4, n // 10):
            for alpha in (0.0, 0.2, 0.5, 1.0):
                seed += 1
                win, base = 4, C - 4
                spec = f"adakv[w={win},pool=max7,group={agg or 'mean'},head_rule={{}},alpha={alpha:g}]"
                t = Tensors(seed, 2, H, G, 8, n)
                for name, make in (("AdaKV", lambda l: ada.AdaptiveSnapKVCluster(
                        win, 7, "maxpool", C, alpha, 0, False, layer_idx=l, num_hidden_layers=2, gqa_support=agg is not None,
                        num_key_value_groups=H // G, gqa_func=agg)),
                        ("KVCache-Factory adakv", lambda l: fac.AdaKVCluster(win, 7, "maxpool", C, alpha, False, l, 2, agg or "mean"))):
                    kept, ties, exact = adaptive(t, make, base, alpha, win)
                    say = f"{agg or 'no groups'} alpha {alpha:g} C {C}"
                    made.append((f"{name}: {say}", t, spec.format("official"), f"tokens {C}", kept, ties))
                    if exact and name == "AdaKV":
                        made.append((f"{name} where it meets its total: {say}", t, spec.format("blend"), f"tokens {C}", kept, ties))
    for case in sorted(made, key=lambda c: c[0].split(":")[0]):
        w.case(*case)


def l2norm(w, root):
    m = load(root, "KVCache-Factory/pyramidkv/pyramidkv_utils.py")
    seed = 1900
    for H, G, n in ((4, 4, 131), (6, 2, 97), (8, 1, 203)):
        for C in (n // 2, n // 4, n // 10):
            seed += 1
            t = Tensors(seed, 3, H, G, 8, n)
            kept, _ = prefill(t, lambda l: m.L2NormCluster(max_capacity_prompt=C, layer_idx=l, skip_layers=[0, 1]))
            w.case(f"KVCache-Factory l2norm: C {C}", t, "my[score=knorm,skip=2]", f"tokens {C}", kept)


def lagkv(w, root):
    m = load(root, "LagKV/lag_kv.py")
    seed = 2000
    for H, G, n, sink, lag, ratio in ((4, 4, 131, 16, 32, 0.5), (6, 2, 97, 4, 16, 0.25), (8, 1, 203, 4, 64, 0.5), (9, 3, 61, 4, 8, 0.375),
                                      (2, 2, 30, 4, 16, 0.5), (2, 1, 49, 0, 8, 0.125)):
        seed += 1
        t = Tensors(seed, 2, H, G, 8, n, T)

        def start(l):
            c = object.__new__(m.LagKV)
            c.ratio, c.sink_size, c.lag_size, c.score_v_ratio, c.skip_layer_idx, c.use_then_compress = ratio, sink, lag, 1.0, [], True
            c._compressed_len, c.key_cache, c.value_cache, c._seen_tokens = [], [], [], 0
            c.update(t.k[l][None, :, :n].clone(), t.v[l][None, :, :n].clone(), 0)
            return c, cells(c.key_cache[0], c.value_cache[0], t, l)

        def step(c, l, pos, rows, held):
            c.update(t.k[l][None, :, pos:pos + 1], t.v[l][None, :, pos:pos + 1], 0)
            return cells(c.key_cache[0], c.value_cache[0], t, l)
        decode(w, f"LagKV: lag {lag} sink {sink} ratio {ratio}", t, f"my[score=lagkv,lag={lag},protect=sink{sink},schedule=step]",
               f"keep {round(ratio * 1000000)}", start, step)


def kvcompress(w, root):
    """Metrics and schedule of vllm-kvcompress as they are, but for what needs its CUDA operations: the squared sums of the
    prefill and the count of blocks to free (csrc/kvcompress_eviction_kernels.cu), some lines each, are written out here."""
    stub("vllm", "vllm._custom_ops", "vllm.debug", "vllm.benchmark", "vllm.kvcompress", "vllm.kvcompress.block", "vllm.kvcompress.state")
    B = 16

    class Nothing:
        do_checkpoint = False

        def checkpoint(self, *a):
            pass

        def wrap(self):
            return lambda f: f

        def __getattr__(self, name):
            return lambda *a, **k: None
    sys.modules["vllm.debug"].CHECKPOINTER = sys.modules["vllm.benchmark"].BENCHMARKER = Nothing()

    def count(out, logical, offsets, hanging, block, none, *_):
        flat, o, hang = out.view(-1), offsets.flatten().tolist() + [logical.numel()], hanging.flatten().tolist()
        for i in range(flat.numel()):
            n = -(-int((logical[o[i]:o[i + 1]] != none).sum()) // block)
            flat[i] = n
            if n:   # the last block to go is the one that isn't full
                logical[o[i] + (n - 1) * block + hang[i]:o[i] + n * block] = none
    sys.modules["vllm._custom_ops"].count_block_evictions = count
    m = load(root, "vllm-kvcompress/vllm/kvcompress/metrics.py")
    m.count_block_evictions = count
    torch.cuda.memory_allocated = lambda *a: 0
    seed = 2100
    for L, H, G, n, win, protected, stay in ((3, 4, 4, 131, 8, 16, 6), (3, 6, 2, 97, 8, 32, 5), (2, 8, 1, 203, 16, 20, 8), (4, 9, 3, 160, 8, 16, 5)):
        seed += 1
        t = Tensors(seed, L, H, G, 8, n)
        blocks = -(-n // B)
        free = (blocks - stay) * L * G      # max_cache_tokens of 16 times `stay`
        c = quiet(m.CompressionMetrics, block_size=B, num_layers=L, num_kv_heads=G, num_queries_per_kv=H // G, max_kv_per_sort=10**7,
                  kv_head_bias_file=None, kv_head_bias_weight=0.0, device="cpu")
        quiet(c.init_kv_metadata, L * G * blocks)
        c.metrics.zero_()
        ids = torch.arange(L * G * blocks)
        c.seq_index_by_block[:] = 0
        c.layer_index_by_block[:] = (ids // (G * blocks)).int()
        c.head_index_by_block[:] = (ids // blocks % G).int()
        c.logical_block_num_by_block[:] = (ids % blocks).int()
        c.token_positions[:] = ((ids % blocks)[:, None] * B + torch.arange(B)).int()
        for l in range(L):
            sq = (t.attention(l)[:, -win:] ** 2).sum(1)
            sq = torch.nn.functional.max_pool1d(sq[None], 7, 1, 3)[0]          # (H, n)
            slots = torch.stack([((l * G + g) * blocks) * B + torch.arange(n) for g in range(G)], 1)
            c.aggregate_prefill(sq.T.contiguous(), slots)
        lens = torch.full((L, 1, G), n, dtype=torch.int)
        hang = torch.full((1, L, G), (n - 1) % B + 1, dtype=torch.int)
        offs = torch.arange(L * G, dtype=torch.int).view(1, L, G) * blocks * B
        # every block of n tokens is full, but for the last; slots behind it have infinite metrics by their position
        logical, kv, freed = quiet(c.schedule_evictions, [0], [n - 1], [free], lens, hang, offs, [protected])
        kept, ties = [], []
        for i in range(L * G):
            gone = logical[i * blocks * B:i * blocks * B + int(kv.flatten()[i])].tolist()
            kept.append([j for j in range(n) if j not in set(gone)])
            metric = c.metrics.view(-1)[i * blocks * B:i * blocks * B + n - protected]   # what may go
            ties.append(tied(metric, len(metric) - len(gone)))
        w.case(f"vllm-kvcompress: w {win} protected {protected}, {stay} blocks a head", t,
               f"kvcompress[w={win},recent={protected}]",
               f"tokens {16 * stay}", kept, ties)


READY = (snapkv, factory, adakv, h2o, h2o_flexgen, h2o_lm_eval, streaming, tova, adakv_heads, l2norm, lagkv, kvcompress)


def main():
    root = sys.argv[1]
    torch.set_num_threads(1)
    w = Writer(sys.stdout, "made by make_official.py with torch " + torch.__version__.split("+")[0])
    for part in READY:
        part(w, root)
    print(w.cases, "cases", file=sys.stderr)


if __name__ == "__main__":
    main()
