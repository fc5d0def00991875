"""kvpress's DuoAttentionPress: its own choice of heads and its own masks against the pattern that tests/unit/test_class.c holds
ours to (streaming heads lose sinks .. n - recent; round(heads x ratio) of the smallest gates stream). Makes no vector.

    python check_duo.py
"""
import types

import numpy as np
import torch
from kvpress.presses.duo_attention_press import DuoAttentionPress

rng = np.random.default_rng(3)
cells = differ = 0
for _ in range(60):
    L, G, n = int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(8, 68))
    sinks, recent, percent = int(rng.integers(0, 6)), int(rng.integers(1, 31)), int(rng.integers(0, 100))
    gates = rng.random((L, G))
    press = DuoAttentionPress(head_compression_ratio=1 - percent / 100)
    press.load_attention_pattern = lambda model: (sinks, recent, gates)
    press.post_init_from_model(types.SimpleNamespace(device="cpu"))
    if n <= sinks + recent:
        continue
    stream = round(L * G * (100 - percent) / 100)
    for layer in range(L):
        module = types.SimpleNamespace(layer_idx=layer, config=types.SimpleNamespace(_attn_implementation="sdpa"))
        press.compress(module, None, torch.zeros(1, G, n, 4), torch.zeros(1, G, n, 4), None, {})
        masked = getattr(module, "masked_key_indices", ([], [], []))
        lost = {(int(g), int(j)) for g, j in zip(masked[1], masked[2])}
        for g in range(G):
            whole = (gates < gates[layer, g]).sum() >= stream
            want = set() if whole else {(g, j) for j in range(sinks, n - recent)}
            differ += {x for x in lost if x[0] == g} != want
            cells += 1
print(f"{cells} cells, {differ} differ")
