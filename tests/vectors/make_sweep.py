#!/usr/bin/env python3
"""Makes the vectors that tests/parity/sweep.c compares the prefill's reductions, queries, keys and values with.

usage: make_sweep.py MODEL.gguf OUT.bin N_TOKENS

Reference: transformers' attention maps (eager, f32) of the same GGUF, reduced by numpy in double by measures.md's definitions; of
every 13th token what its rotation is given and returns, and its values.
Layout: "KVTSWP1\\n", n tokens, heads looked at, model bytes, CRC-32; ids; then arrays until the end: name (16 bytes), layer, head,
count of f32, values. Needs torch, transformers, gguf; the test needs none of them.
"""
import os
import struct
import sys

import numpy as np
import torch

from make_parity import load, made_ids, pick_heads

SPANS = [(0, 7), (7, 40), (10, 25), (40, 90), (90, 10**6)]  # one lies in another; the last ends with the prompt
OFFSETS = [0, 1, 12, 40]
N_LOCAL, FEW, TOP, R, C, SINK = 5, 32, 4, 11, 16, 4
EACH = 13


def start(b):
    return b if b < 10 else 1 << (b - 6)


def reductions(a):
    n = len(a)
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    seen = j <= i
    yield "mass", a.sum(0)
    yield "visible", a.sum(0) / (n - np.arange(n))
    yield "square", (a * a).sum(0)
    yield "max", a.max(0)
    ent = -(a * np.log(np.maximum(a, 1e-300))).sum(1)
    yield "entropy", ent
    yield "keys", np.exp(ent)
    yield "sink", a[:, :SINK].sum(1)
    yield "local", np.where(i - j < N_LOCAL, a, 0).sum(1)
    far = a[FEW - 1:]
    bins = sum(start(b) < n for b in range(36))
    d = (i - j)[FEW - 1:]
    yield "distance", np.array([np.where((d >= start(b)) & (d < start(b + 1)), far, 0).sum() / len(far) for b in range(bins)])
    yield "offset", np.array([np.mean([a[r, r - o] for r in range(max(o, FEW - 1), n)]) for o in OFFSETS])
    cut = [(s, min(e, n)) for s, e in SPANS]
    yield "spans", np.array([[a[s:e, k:l].sum(1).mean() for k, l in cut] for s, e in cut])
    order = np.argsort(-np.where(seen, a, -1), axis=1, kind="stable")[:, :TOP]
    top = np.take_along_axis(a, order, 1)
    yield "top", np.where(order <= i, top, 0)
    yield "top_at", np.where(order <= i, order, -1)
    rb, cb = np.arange(n) * R // n, np.arange(n) * C // n
    mean, most = np.full((R, C), np.nan), np.full((R, C), np.nan)
    for r in range(R):
        for c in range(C):
            block = a[rb == r][:, cb == c][seen[rb == r][:, cb == c]]
            if block.size:
                mean[r, c], most[r, c] = block.mean(), block.max()
    yield "map mean", mean
    yield "map max", most


def watch(m):
    """[layer]: {name: (head, token, channel)} of queries and keys before and after rotation, and of values, of the passes to come."""
    seen, module = [], sys.modules[type(m).__module__]
    rotate = module.apply_rotary_pos_emb

    def rotated(q, k, *a, **kw):
        out = rotate(q, k, *a, **kw)
        seen[-1].update({"q": q[0], "k": k[0], "q rotated": out[0][0], "k rotated": out[1][0]})
        return out

    def value(_, __, out):
        seen.append({"v": out[0].view(out.shape[1], -1, m.model.layers[0].self_attn.head_dim).transpose(0, 1)})

    module.apply_rotary_pos_emb = rotated
    for layer in m.model.layers:  # before the rotation, in all families that are looked at
        layer.self_attn.v_proj.register_forward_hook(value)
    return seen


def put(f, name, layer, head, x):
    f.write(name.encode().ljust(16, b"\0") + struct.pack("<3i", layer, head, x.size) + x.astype("<f4").tobytes())


@torch.no_grad()
def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    path, out, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    m, crc = load(path, "eager")
    ids = made_ids(m.config.vocab_size, n, 21)
    seen = watch(m)
    maps = m(torch.tensor([ids]), output_attentions=True).attentions
    pairs = pick_heads(m.config.num_hidden_layers, m.config.num_attention_heads)
    with open(out, "wb") as f:
        f.write(b"KVTSWP1\n" + struct.pack("<4i", n, len(pairs), os.path.getsize(path), struct.unpack("<i", struct.pack("<I", crc))[0]))
        f.write(struct.pack(f"<{n}i", *ids))
        for l, h in pairs:
            for name, x in reductions(maps[l][0, h].double().numpy()):
                put(f, name, l, h, x)
            group = m.config.num_attention_heads // m.config.num_key_value_heads
            for name in ("q", "q rotated", "k", "k rotated", "v"):
                put(f, name, l, h, seen[l][name][h if name[0] == "q" else h // group][::EACH].numpy())
    print(f"{out}: {os.path.getsize(out)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
