#!/usr/bin/env python3
"""Makes golden-kvpress.txt: which slots kvpress 0.5.5 keeps of tensors that are given to it. golden.py has the format.

    python3 make_kvpress.py > golden-kvpress.txt        (needs torch, transformers, kvpress==0.5.5; seconds on a CPU)

Each press compresses one layer after the other: keys and values as made, queries as the hidden states behind a
projection that changes nothing, attention their softmax. Budgets are the press's own kept counts, int() truncation and
all, given to us in tokens; where ours takes a share, in millionths. Kept positions are found again by their rows.
"""
import sys
from types import SimpleNamespace

import torch
from golden import Tensors, Writer, WO, positions, tied, values
from kvpress import (AdaKVPress, ChunkKVPress, CriticalAdaKVPress, CriticalKVPress, DecodingPress, ExpectedAttentionPress, FinchPress,
                     KeyDiffPress, KnormPress, LagKVPress, ObservedAttentionPress, PyramidKVPress,
                     SnapKVPress, StreamingLLMPress, TOVAPress)

RATIOS = (0.5, 0.75, 0.9)
# L H G D n: groups of 1, 3 and 8, one kv head, lengths that nothing divides
SHAPES = ((2, 4, 4, 8, 131), (2, 6, 2, 8, 97), (2, 8, 1, 16, 203), (1, 9, 3, 8, 61), (2, 1, 1, 8, 149))
ROPE_BASE = 10000.0


class Topk:
    """The scores that a press hands to its topk calls: where its ties are."""

    def __enter__(self):
        self.calls, self.real = [], torch.Tensor.topk
        self.real_function = torch.topk

        def method(x, k, *a, **kw):
            self.calls.append((x.detach().clone(), int(k)))
            return self.real(x, k, *a, **kw)
        torch.Tensor.topk, torch.topk = method, method
        return self

    def __exit__(self, *e):
        torch.Tensor.topk, torch.topk = self.real, self.real_function


class GivenAttention(SnapKVPress):
    """ChunkKVPress refuses materialised attention, so its inner press has it already."""

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        return SnapKVPress.score(self, module, hidden_states, keys, values, module.given, kwargs)


def rotary(x, position_ids):
    D = x.shape[-1]
    f = ROPE_BASE ** (-torch.arange(0, D, 2).double() / D)
    a = position_ids[0].double()[:, None] * f[None]
    a = torch.cat([a, a], -1)
    return a.cos().float()[None], a.sin().float()[None]


def module(t, l):
    E = t.H * t.D
    cfg = SimpleNamespace(num_attention_heads=t.H, num_key_value_heads=t.G, num_hidden_layers=t.L, hidden_size=E,
                          head_dim=t.D, _attn_implementation="sdpa")
    return SimpleNamespace(layer_idx=l, head_dim=t.D, given=t.attention(l)[None], config=cfg, q_proj=lambda x: x,
                           num_key_value_groups=t.H // t.G, rotary_emb=rotary,
                           o_proj=SimpleNamespace(weight=torch.from_numpy(values(t.seed, WO, l, E, E))))


def run(press, t, attentions=True):
    """Kept positions and ties of each cell."""
    kept, ties = [], []
    n = t.n
    for l in range(t.L):
        m = module(t, l)
        hidden = t.q[l][:, :n].transpose(0, 1).reshape(1, n, -1)
        with Topk() as seen:
            k, v = press.compress(m, hidden, t.k[l][None, :, :n], t.v[l][None, :, :n],
                                  m.given.clone() if attentions else None, {})
        score, count = seen.calls[-1]
        if hasattr(m, "masked_key_indices"):
            _, head, gone = m.masked_key_indices
            lost = {(int(g), int(j)) for g, j in zip(head, gone)}
            kept += [[j for j in range(n) if (g, j) not in lost] for g in range(t.G)]
            flat = tied(score.flatten(), count)     # the worst are taken: a tie is a tie
            ties += [[j - g * n for j in flat if j // n == g] for g in range(t.G)]
            continue
        kept += [sorted(positions(k[0, g], v[0, g], t.k[l][g, :n], t.v[l][g, :n])) for g in range(t.G)]
        for g in range(t.G):
            if isinstance(press, FinchPress):
                ties.append([])     # a call for each chunk, and none of them tied
            elif isinstance(press, ChunkKVPress) and score.dim() == 2:
                c = press.chunk_length
                ties.append([j for s in tied(score[0], count) for j in range(s * c, min(n, s * c + c))])
            else:
                ties.append(tied(score[0, g], count))
    return kept, ties


def put(w, name, press, t, spec, budget=None, attentions=True):
    kept, ties = run(press, t, attentions)
    w.case("kvpress " + name, t, spec, budget or f"tokens {len(kept[0])}", kept, ties)


def chunk_budget(n, chunk, ratio):
    """Tokens that stand for the number of chunks that kvpress keeps."""
    S = -(-n // chunk)
    k = max(1, int(S * (1 - ratio)))
    return f"tokens {-(-k * n // S)}"


def ppm(ratio):
    return f"keep {round((1 - ratio) * 1000000)}"


def snapkv(w):
    seed = 100
    for L, H, G, D, n in SHAPES:
        for i, r in enumerate(RATIOS):
            win, kernel = ((16, 5), (8, 7), (5, 3))[i]
            seed += 1
            put(w, f"SnapKVPress: w {win} avg {kernel} r {r}", SnapKVPress(r, win, kernel), Tensors(seed, L, H, G, D, n),
                f"snapkv[w={win},pool=avg{kernel}]")
    put(w, "SnapKVPress: ties", SnapKVPress(0.5, 16, 5), Tensors(140, 2, 4, 2, 8, 101, kind="coarse"), "snapkv[w=16,pool=avg5]")
    put(w, "SnapKVPress: no pooling, ties", SnapKVPress(0.7, 7, 1), Tensors(141, 2, 4, 2, 8, 101, kind="coarse"), "snapkv[w=7,pool=none]")
    put(w, "SnapKVPress: one slot more than the window", SnapKVPress(0.5, 3, 5), Tensors(142, 1, 2, 1, 8, 9), "snapkv[w=3,pool=avg5]")
    put(w, "SnapKVPress: a window of all but one", SnapKVPress(0.01, 23, 5), Tensors(143, 1, 3, 1, 8, 24), "snapkv[w=23,pool=avg5]", "tokens 23")


def streaming(w):
    for i, (n, r) in enumerate(((100, 0.5), (97, 0.8), (203, 0.9), (11, 0.5))):
        put(w, f"StreamingLLMPress: n {n} r {r}", StreamingLLMPress(r), Tensors(200 + i, 2, 2, 1 + i % 2, 8, n),
            "streaming[schedule=prefill]")


def observed(w):
    seed = 300
    for L, H, G, D, n in SHAPES:
        for r in RATIOS:
            seed += 1
            put(w, f"ObservedAttentionPress: r {r}", ObservedAttentionPress(r), Tensors(seed, L, H, G, D, n),
                "h2o[norm=visible,recent=0,schedule=prefill]")


def pyramid(w):
    seed = 400
    for (r, win, beta), (H, G, n) in zip(((0.5, 8, 5), (0.5, 8, 20), (0.25, 8, 4), (0.75, 4, 3), (0.9, 2, 10), (0.75, 16, 20)),
                                         ((2, 1, 160), (4, 4, 163), (6, 2, 97), (8, 1, 203), (3, 3, 211), (6, 2, 131))):
        seed += 1
        put(w, f"PyramidKVPress: w {win} beta {beta} r {r}", PyramidKVPress(r, window_size=win, kernel_size=5, beta=beta),
            Tensors(seed, 5, H, G, 8, n), f"pyramidkv[w={win},pool=avg5,rule=kvpress,beta={beta}]", ppm(r))


def chunkkv(w):
    seed = 500
    spec = "chunkkv[w={},pool=avg5,chunk={},count=kvpress,heads=shared]"
    for n, c, r, win, H, G in ((100, 20, 0.5, 16, 4, 2), (105, 20, 0.5, 16, 4, 4), (150, 7, 0.9, 16, 8, 1), (131, 10, 0.6, 16, 6, 2),
                               (104, 20, 0.6, 5, 4, 2), (211, 10, 0.75, 8, 3, 3), (97, 10, 0.9, 8, 9, 3), (1000, 20, 0.9, 16, 2, 1)):
        seed += 1
        press = ChunkKVPress(GivenAttention(r, win, 5), chunk_length=c)
        put(w, f"ChunkKVPress: n {n} chunk {c} r {r}", press, Tensors(seed, 2, H, G, 8, n), spec.format(win, c),
            chunk_budget(n, c, r), attentions=False)
    press = ChunkKVPress(GivenAttention(0.5, 4, 5), chunk_length=64)
    put(w, "ChunkKVPress: below one chunk", press, Tensors(520, 2, 4, 2, 8, 50), "chunkkv[w=4,pool=avg5,chunk=64,count=kvpress]",
        attentions=False)
    press = ChunkKVPress(GivenAttention(0.5, 4, 5), chunk_length=20)
    put(w, "ChunkKVPress: n 19 chunk 20", press, Tensors(521, 2, 3, 3, 8, 19), "chunkkv[w=4,pool=avg5,chunk=20,count=kvpress]", attentions=False)


def tova(w):
    seed = 600
    for L, H, G, D, n in SHAPES:
        for r in RATIOS:
            seed += 1
            put(w, f"TOVAPress: r {r}", TOVAPress(r), Tensors(seed, L, H, G, D, n), "tova[schedule=prefill,recent=1]")


def norms(w):
    seed = 700
    for L, H, G, D, n in SHAPES:
        for r in RATIOS:
            seed += 1
            put(w, f"KnormPress: r {r}", KnormPress(r), Tensors(seed, L, H, G, D, n), "my[score=knorm]")
    put(w, "KnormPress: two tokens", KnormPress(0.5), Tensors(749, 1, 2, 2, 8, 2), "my[score=knorm]")
    for L, H, G, D, n in SHAPES:
        for r in RATIOS:
            seed += 1
            put(w, f"KeyDiffPress: r {r}", KeyDiffPress(r), Tensors(seed, L, H, G, D, n), "my[score=keydiff]")


def adakv(w):
    seed = 800
    for L, H, G, D, n in SHAPES:
        for i, r in enumerate(RATIOS):
            for alpha in (0.2, 0.0, 1.0):
                seed += 1
                win = (16, 8, 5)[i]
                t = Tensors(seed, L, H, G, D, n)
                put(w, f"AdaKVPress: SnapKVPress w {win} alpha {alpha:g} r {r}", AdaKVPress(SnapKVPress(r, win, 5), alpha), t,
                    f"adakv[w={win},pool=avg5,order=pool-first,head_rule=safeguard,alpha={alpha:g}]",
                    f"tokens {max(1, int(n * (1 - r)))}")


def critical(w):
    for ada in (0, 1):
        seed = 900 + 50 * ada
        for L, H, G, D, n in SHAPES:
            for i, r in enumerate(RATIOS):
                seed += 1
                win = (16, 8, 5)[i]
                press = (CriticalAdaKVPress if ada else CriticalKVPress)(SnapKVPress(r, win, 5))
                put(w, f"{type(press).__name__}: SnapKVPress w {win} r {r}", press, Tensors(seed, L, H, G, D, n),
                    f"criticalkv[w={win},pool=avg5{',alloc=head' if ada else ''}]", f"tokens {max(1, int(n * (1 - r)))}")


def expected(w):
    seed = 1000
    for L, H, G, D, n in SHAPES:
        for i, r in enumerate(RATIOS):
            seed += 1
            ahead, vnorm = ((512, True), (64, True), (7, False))[i]
            put(w, f"ExpectedAttentionPress: ahead {ahead} vnorm {int(vnorm)} r {r}",
                ExpectedAttentionPress(r, n_future_positions=ahead, use_vnorm=vnorm), Tensors(seed, L, H, G, D, n),
                f"my[score=expected,ahead={ahead},vnorm={int(vnorm)},protect=sink4]")


def lagkv(w):
    """Whole partitions at half: what a rank in each and a top-k over all come to without a tie across partitions."""
    seed = 1100
    for H, G, n, lag, sink in ((4, 4, 131, 32, 4), (6, 2, 97, 16, 4), (8, 1, 203, 32, 0), (9, 3, 61, 8, 4), (2, 1, 30, 16, 4)):
        for r in (0.25, 0.4, 0.5):
            seed += 1
            put(w, f"LagKVPress: lag {lag} sink {sink} n {n} r {r}", LagKVPress(r, sink, lag), Tensors(seed, 2, H, G, 8, n),
                f"my[score=lagkv,lag={lag},protect=sink{sink}]")


def finch(w):
    """With its weighting by visible counts, and four without. Re-rotation changes keys, not which stay. The last stretch holds the
    window: of a window that doesn't fit, kvpress drops tokens and ours none."""
    seed = 1200
    for H, G, n, win, chunk, r in ((4, 4, 131, 8, 44, 0.5), (6, 2, 97, 4, 32, 0.75), (8, 1, 203, 6, 51, 0.75), (9, 3, 61, 8, 61, 0.5)):
        seed += 1
        press = FinchPress(r, chunk, normalize_scores=False, rerotate_keys=False)
        press.window_size = win
        put(w, f"FinchPress: w {win} chunk {chunk} r {r}", press, Tensors(seed, 2, H, G, 8, n),
            f"my[score=wmass,w={win},pool=none,within={chunk},protect=window]", ppm(r))
    for H, G, n, chunks in ((4, 4, 131, (None, 44)), (6, 2, 97, (33, 49)), (8, 1, 203, (None, 68)), (9, 3, 61, (61, 31)), (1, 1, 149, (50, None)), (3, 1, 400, (100, 27))):
        for chunk, win in zip(chunks, (5, 3)):
            for r in (0.25, 0.5, 0.75):
                seed += 1
                press = FinchPress(r, chunk, rerotate_keys=False)
                press.window_size = win
                put(w, f"FinchPress, weighed: w {win} chunk {chunk} r {r}", press, Tensors(seed, 2, H, G, 8, n),
                    f"finch[w={win}{f',within={chunk}' if chunk else ''}]", ppm(r))


def decoding(w, whole=False):
    """DecodingPress: every N tokens the cache is cut to C; before it the prompt is, to the same C, or, whole, it isn't."""
    at = (0, 3, 4, 7, 8, 16, 23, 24)
    one = lambda r=0.0: SnapKVPress(r, window_size=1, kernel_size=1)
    seed = 1350 if whole else 1300
    for name, base, score, H, G, n, C, every in (("KnormPress", KnormPress, "knorm", 6, 2, 61, 40, 8), ("KeyDiffPress", KeyDiffPress, "keydiff", 8, 1, 40, 13, 7),
                                                 ("SnapKVPress of one row", one, "last", 3, 3, 97, 31, 5)) if whole else (
                                                 ("KnormPress", KnormPress, "knorm", 6, 2, 61, 20, 8), ("KeyDiffPress", KeyDiffPress, "keydiff", 4, 4, 97, 30, 4),
                                                 ("KnormPress", KnormPress, "knorm", 8, 1, 40, 13, 7), ("SnapKVPress of one row", one, "last", 6, 2, 61, 20, 8),
                                                 ("SnapKVPress of one row", one, "last", 8, 1, 97, 31, 5), ("TOVAPress", TOVAPress, "tova", 4, 4, 50, 16, 1)):
        seed += 1
        t = Tensors(seed, 2, H, G, 8, n, at[-1])
        kept = {s: [] for s in at}
        for l in range(t.L):
            m = module(t, l)
            hidden = lambda a, b: t.q[l][:, a:b].transpose(0, 1).reshape(1, b - a, -1)
            layer = SimpleNamespace()
            layer.keys, layer.values = base(0 if whole else 1 - C / n - 1e-9).compress(m, hidden(0, n), t.k[l][None, :, :n], t.v[l][None, :, :n], m.given.clone(), {})
            press = DecodingPress(base(), compression_interval=every, target_size=C)
            press.reset()
            cache = SimpleNamespace(layers={l: layer})
            for s in range(at[-1] + 1):
                if s:
                    pos = n + s - 1
                    layer.keys = torch.cat([layer.keys, t.k[l][None, :, pos:pos + 1]], 2)
                    layer.values = torch.cat([layer.values, t.v[l][None, :, pos:pos + 1]], 2)
                    rows = torch.softmax(layer.keys[0].repeat_interleave(H // G, 0) @ t.q[l][:, pos, :, None] / t.D**.5, 1)
                    with Topk() as seen:
                        press.forward_hook(m, [], {"hidden_states": hidden(pos, pos + 1), "past_key_values": cache,
                                                   "cache_position": torch.tensor([pos])}, [None, rows.transpose(1, 2)[None]])
                    for score_, count in seen.calls:
                        assert not any(tied(x, count) for x in score_[0]), "a tie; take another seed"
                if s in kept:
                    kept[s] += [sorted(positions(layer.keys[0, g], layer.values[0, g], t.k[l][g], t.v[l][g])) for g in range(G)]
        spec = f"my[score={score}{',protect=recent1' if score == 'last' else ''},schedule=every,every={every}{',prefill=1' if whole else ''}]"
        w.case(f"kvpress DecodingPress{', prompt whole' if whole else ''}: {name} every {every} C {C}", t, "tova[recent=1]" if score == "tova" else spec, f"tokens {C}", kept)


def decoding_whole(w):
    decoding(w, whole=True)


READY = (snapkv, streaming, observed, pyramid, chunkkv, tova, norms, adakv, critical, expected, lagkv, finch, decoding, decoding_whole)


def main():
    torch.set_num_threads(1)
    w = Writer(sys.stdout, "made by make_kvpress.py with kvpress 0.5.5 and torch " + torch.__version__.split("+")[0])
    for part in READY:
        part(w)
    print(w.cases, "cases", file=sys.stderr)


if __name__ == "__main__":
    main()
