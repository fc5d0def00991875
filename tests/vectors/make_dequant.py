#!/usr/bin/env python3
"""Makes tests/vectors/dequant.h: blocks of every quantised type, and what the gguf package says they mean.

    python3 make_dequant.py > dequant.h        (needs: pip install gguf numpy)

Values are written as the bits of f32, so that the test can ask for equality. Every type gets a block of random bytes
with a usual scale, and one with extremes: all-ones quants, a negative scale, a subnormal f16 scale.
With --check N instead of writing, N random blocks of each type are compared through a program given by
--program: it reads "TYPE HEX" lines and answers with hex f32 words."""
import argparse
import subprocess
import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

# name, values, bytes, offsets of f16 scales
TYPES = [
    ("Q4_0", 32, 18, [0]), ("Q4_1", 32, 20, [0, 2]), ("Q5_0", 32, 22, [0]), ("Q5_1", 32, 24, [0, 2]),
    ("Q8_0", 32, 34, [0]), ("Q4_K", 256, 144, [0, 2]), ("Q5_K", 256, 176, [0, 2]), ("Q6_K", 256, 210, [208]),
    ("Q2_K", 256, 84, [80, 82]), ("Q3_K", 256, 110, [108]), ("IQ4_NL", 32, 18, [0]), ("IQ4_XS", 256, 136, [0]),
    ("MXFP4", 32, 17, []),  # its scale is a power of two in one byte
]


def block(rng, size, scales, kind):
    b = rng.integers(0, 256, size, dtype=np.uint8)
    if kind == "extreme":
        b[:] = np.where(rng.integers(0, 2, size) == 0, 255, b)
    for i, at in enumerate(scales):
        s = np.float16(rng.uniform(0.001, 0.2) * rng.choice([-1, 1]))
        if kind == "extreme":
            s = np.float16(-3e-7) if i == 0 else np.float16(-1.5)
        b[at:at + 2] = np.frombuffer(s.tobytes(), dtype=np.uint8)
    return b


def meaning(name, b):
    return quants.dequantize(b.reshape(1, -1), T[name]).astype(np.float32).reshape(-1)


def check(program, n):
    rng = np.random.default_rng(7)
    lines, want = [], []
    for name, _, size, scales in TYPES:
        for i in range(n):
            b = block(rng, size, scales, "extreme" if i % 4 == 3 else "usual")
            lines.append(f"{name} {b.tobytes().hex()}")
            want.append(meaning(name, b).view(np.uint32))
    out = subprocess.run([program], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True).stdout
    bad = 0
    for line, got, w in zip(lines, out.splitlines(), want):
        g = np.array([int(x, 16) for x in got.split()], dtype=np.uint32)
        if not np.array_equal(g, w):
            bad += 1
            print("differs:", line[:60], file=sys.stderr)
    print(f"{len(lines)} blocks, {bad} differ")
    return bad != 0


def write():
    rng = np.random.default_rng(20)
    print("/* Made by make_dequant.py with the Python package gguf: blocks and the bits of their values. */")
    rows = []
    for name, values, size, scales in TYPES:
        for kind in ("usual", "extreme"):
            b = block(rng, size, scales, kind)
            v = meaning(name, b).view(np.uint32)
            ident = f"{name.lower()}_{kind}"
            print(f"static const uint8_t {ident}_block[{size}] = {{")
            for i in range(0, size, 24):
                print("    " + " ".join(f"{x}," for x in b[i:i + 24]))
            print("};")
            print(f"static const uint32_t {ident}_value[{values}] = {{")
            for i in range(0, values, 16):
                print("    " + " ".join(f"0x{x:08x}," for x in v[i:i + 16]))
            print("};")
            rows.append(f'    {{KVT_{name}, "{name} {kind}", {ident}_block, {ident}_value, {values}}},')
    print("static const struct { enum kvt_dtype type; const char *name; const uint8_t *block; const uint32_t *value; "
          "size_t n; } dequant_vectors[] = {")
    print("\n".join(rows))
    print("};")


parser = argparse.ArgumentParser()
parser.add_argument("--check", type=int)
parser.add_argument("--program")
args = parser.parse_args()
if args.check:
    sys.exit(check(args.program, args.check))
write()
