#!/usr/bin/env python3
"""Induction and duplicate scores of heads by transformers, for tests/unit/test_probes.c and to hold kvattn --probe against.

usage: make_probes.py vectors MODEL_FOLDER      prints probes.txt: two prompts' ids, then a line of both scores for each layer and head
       make_probes.py check MODEL TSV           compares with what kvattn --probe --compute f32 --format tsv printed of a GGUF

Written from docs/measures.md, section 6: mean of A[i, i - S + 1] and of A[i, i - S] over the rows of the repeat, eager attention, f32."""
import os
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM

S = 64
MASK = (1 << 64) - 1


def load(path):
    where = dict(pretrained_model_name_or_path=path) if os.path.isdir(path) else dict(
        pretrained_model_name_or_path=os.path.dirname(os.path.abspath(path)), gguf_file=os.path.basename(path))
    return AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager").eval()


def scores(model, ids):
    """[(L, H) induction, (L, H) duplicate] of one prompt whose last S tokens repeat the S before."""
    with torch.no_grad():
        a = torch.stack([x[0] for x in model(torch.tensor([ids]), output_attentions=True).attentions]).double().numpy()
    rows = np.arange(len(ids) - S, len(ids))
    return np.stack([a[:, :, rows, rows - S + 1].mean(-1), a[:, :, rows, rows - S].mean(-1)])


class Rng:
    """xoshiro256**, seeded by splitmix64; below(): the high bits of a product, drawn again where they would be biased."""

    def __init__(self, seed):
        self.s = []
        for _ in range(4):
            seed = (seed + 0x9E3779B97F4A7C15) & MASK
            z = seed
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
            self.s.append(z ^ (z >> 31))

    def u64(self):
        s, rot = self.s, lambda x, k: ((x << k) | (x >> (64 - k))) & MASK
        out = rot(s[1] * 5 & MASK, 7) * 9 & MASK
        t = s[1] << 17 & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rot(s[3], 45)
        return out

    def below(self, n):
        m = (self.u64() >> 32) * n
        while m & 0xFFFFFFFF < (1 << 32) % n:
            m = (self.u64() >> 32) * n
        return m >> 32


def drawn(seed, V, special):
    rng, out = Rng(seed), []
    while len(out) < S:
        t = rng.below(V)
        out += [t] if t not in special else []
    return out + out


if sys.argv[1] == "vectors":
    model, rng = load(sys.argv[2]), np.random.default_rng(7)
    V = model.config.vocab_size
    for i in range(2):
        r = rng.integers(10, V, S).tolist()
        ids = ([1] if i else []) + r + r
        print("ids", len(ids), *ids)
        m = scores(model, ids)
        for layer in range(m.shape[1]):
            for h in range(m.shape[2]):
                print(f"{m[0, layer, h]:.7f} {m[1, layer, h]:.7f}")
else:
    model = load(sys.argv[2])
    got = np.array([line.split("\t")[2:4] for line in open(sys.argv[3]) if not line.startswith("#")], dtype=float)
    import gguf
    types = gguf.GGUFReader(sys.argv[2]).fields["tokenizer.ggml.token_type"].contents()
    prompts = [drawn(seed, len(types), {i for i, k in enumerate(types) if k == 3}) for seed in range(1, 11)]  # a model without BOS
    want = np.mean([scores(model, ids) for ids in prompts], 0).reshape(2, -1).T
    print(f"{len(prompts)} prompts, {len(want)} heads, largest difference {np.abs(want - got).max():.2g}")
    sys.exit(int(np.abs(want - got).max() > 1e-4))
