#!/usr/bin/env python3
"""Makes kvpress.txt: which slots kvpress 0.5.5 keeps, from attention that is given to it.

    python3 make_kvpress.py > kvpress.txt          (needs torch, transformers, kvpress==0.5.5; a second on a CPU)

Each press gets random causal attention; the raw reduction that our method ranks by (sum over all rows, or over the last
w) is written beside what the press kept, so that the same numbers go into both. Positions are found again by a mark in
the keys. Budgets are the press's own kept counts, int() truncation and all, given to us in tokens.

A case is:
    case NAME / method SPEC / budget tokens N | keep PPM / shape L H G n / raw mass | window W, then L x H lines of n
    numbers / kept, then L x G lines of positions
"""
import math
import sys
from types import SimpleNamespace

import torch
from kvpress import ChunkKVPress, ObservedAttentionPress, PyramidKVPress, SnapKVPress, StreamingLLMPress

torch.manual_seed(20)


class GivenAttention(SnapKVPress):
    """ChunkKVPress refuses materialised attention, so its inner press has it already."""

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        return SnapKVPress.score(self, module, hidden_states, keys, values, module.given, kwargs)


def attention(H, n, coarse):
    logits = 2 * torch.randn(1, H, n, n, dtype=torch.float64)
    logits[..., :2] += 1.5  # sinks
    a = torch.softmax(logits.masked_fill(torch.triu(torch.ones(n, n, dtype=torch.bool), 1), -math.inf), -1)
    if coarse:  # multiples of 1/64, so that many scores are equal
        a = torch.round(a * 64) / 64
    return a.float()


def case(name, make, spec, H, G, n, raw, L=1, budget=None, coarse=False):
    print("case", name)
    print("method", spec)
    rows, kept = [], []
    for layer in range(L):
        a = attention(H, n, coarse)
        module = SimpleNamespace(layer_idx=layer, head_dim=2, given=a,
                                 config=SimpleNamespace(num_attention_heads=H, num_key_value_heads=G, num_hidden_layers=L))
        keys = torch.arange(n, dtype=torch.float32).view(1, 1, n, 1).expand(1, G, n, 2).contiguous()
        press = make()
        given = None if isinstance(press, ChunkKVPress) else a
        k, _ = press.compress(module, torch.zeros(1, n, 4), keys, keys.clone(), given, {})
        kept += [sorted(int(x) for x in k[0, g, :, 0]) for g in range(G)]
        sums = a[0].double()
        sums = sums.sum(1) if raw == "mass" else sums[:, -raw:].sum(1)
        rows += [sums[h].float().tolist() for h in range(H)]
    print("budget", budget or f"tokens {len(kept[0])}")
    print("shape", L, H, G, n)
    print("raw", "mass" if raw == "mass" else f"window {raw}")
    for r in rows:
        print(" ".join("%.9g" % x for x in r))
    print("kept")
    for r in kept:
        print(*r)


def chunk_budget(n, chunk, ratio):
    """Tokens that stand for the number of chunks that kvpress keeps."""
    S = -(-n // chunk)
    k = max(1, int(S * (1 - ratio)))
    return f"tokens {-(-k * n // S)}"


print("# made by make_kvpress.py with kvpress 0.5.5 and torch", torch.__version__.split("+")[0])
for n, r in ((100, 0.5), (60, 0.9), (120, 0.75)):
    case(f"snapkv n={n} r={r}", lambda: SnapKVPress(r, window_size=4 if n == 60 else 16, kernel_size=5),
         f"snapkv[w={4 if n == 60 else 16},pool=avg5]", 6, 2, n, 4 if n == 60 else 16)
case("snapkv of multi-head attention, kernel 7", lambda: SnapKVPress(0.6, window_size=8, kernel_size=7), "snapkv[w=8,pool=avg7]", 3, 3, 90, 8)
case("snapkv with ties", lambda: SnapKVPress(0.5, window_size=16, kernel_size=5), "snapkv[w=16,pool=avg5]", 4, 2, 100, 16, coarse=True)
case("streaming n=100 r=0.5", lambda: StreamingLLMPress(0.5), "streaming[schedule=prefill]", 2, 1, 100, "mass")
case("streaming n=97 r=0.8", lambda: StreamingLLMPress(0.8), "streaming[schedule=prefill]", 2, 2, 97, "mass")
for r in (0.3, 0.7):
    case(f"observed attention r={r}", lambda: ObservedAttentionPress(r), "h2o[norm=visible,recent=0,schedule=prefill]", 6, 3, 80, "mass")
for r, beta in ((0.5, 5), (0.5, 20), (0.25, 4)):
    case(f"pyramidkv r={r} beta={beta}", lambda: PyramidKVPress(r, window_size=8, kernel_size=5, beta=beta),
         f"pyramidkv[w=8,pool=avg5,rule=kvpress,beta={beta}]", 2, 1, 160, 8, L=5, budget=f"keep {int((1 - r) * 1000000)}")
for n, c, r in ((100, 20, 0.5), (105, 20, 0.5), (150, 7, 0.9), (130, 10, 0.6)):
    case(f"chunkkv n={n} c={c} r={r}", lambda: ChunkKVPress(GivenAttention(r, window_size=16, kernel_size=5), chunk_length=c),
         f"chunkkv[w=16,pool=avg5,chunk={c},count=kvpress,heads=shared]", 4, 2, n, 16, budget=chunk_budget(n, c, r))
case("chunkkv below one chunk", lambda: ChunkKVPress(GivenAttention(0.5, window_size=4, kernel_size=5), chunk_length=64),
     "chunkkv[w=4,pool=avg5,chunk=64,count=kvpress]", 4, 2, 50, 4)
case("chunkkv, one token of the window in a chunk", lambda: ChunkKVPress(GivenAttention(0.6, window_size=5, kernel_size=5), chunk_length=20),
     "chunkkv[w=5,pool=avg5,chunk=20,count=kvpress,heads=shared]", 4, 2, 104, 5, budget=chunk_budget(104, 20, 0.6))
print("end")
sys.stdout.flush()
