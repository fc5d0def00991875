#!/usr/bin/env python3
"""Makes the seeds of fuzz_safetensors, folders of one tiny layer in the form that fuzz_safetensors.c reads, and those of
fuzz_gguf that mkmodel doesn't make: a model in two parts.
usage: make_seeds.py FOLDER [FOLDER_OF_GGUF]"""
import json
import os
import struct
import sys

E, D, F, V = 4, 2, 3, 5


def config(kind, **more):
    c = dict(model_type=kind, num_hidden_layers=1, hidden_size=E, intermediate_size=F, num_attention_heads=2,
             num_key_value_heads=1, head_dim=D, vocab_size=V, max_position_embeddings=64, rms_norm_eps=1e-6,
             rope_theta=1e4, tie_word_embeddings=True, hidden_act="silu")
    c.update(more)
    return json.dumps(c).encode()


def tensors(norms, fused=False, bias=False, o_bias=False, qk=False, wide=False, norm_bias=False, untied=False):
    p = "model.layers.0."
    t = {"model.embed_tokens.weight": [V, E], "model.norm.weight": [E], p + "self_attn.o_proj.weight": [E, 2 * D],
         p + "mlp.down_proj.weight": [E, F]}
    for n in norms:
        t[p + n + ".weight"] = [E]
    if fused:
        t[p + "self_attn.qkv_proj.weight"] = [4 * D, E]
        t[p + "mlp.gate_up_proj.weight"] = [2 * F, E]
    else:
        for n, rows in (("q", 2 * D), ("k", D), ("v", D)):
            t[p + f"self_attn.{n}_proj.weight"] = [rows, E]
            if bias:
                t[p + f"self_attn.{n}_proj.bias"] = [rows]
        t[p + "mlp.gate_proj.weight"] = t[p + "mlp.up_proj.weight"] = [F, E]
    if o_bias:
        t[p + "self_attn.o_proj.bias"] = [E]
    if qk:
        t[p + "self_attn.q_norm.weight"] = t[p + "self_attn.k_norm.weight"] = [D]
    if wide:
        t[p + "self_attn.q_norm.weight"], t[p + "self_attn.k_norm.weight"] = [2 * D], [D]
    if norm_bias:
        for n in ["model.norm"] + [p + n for n in norms]:
            t[n + ".bias"] = [E]
    if untied:
        t["lm_head.weight"] = [V, E]
    return t


def safetensors(shapes, dtype):
    size = {"F32": 4, "F16": 2, "BF16": 2}[dtype]
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        n = size
        for s in shape:
            n *= s
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    return b"@\n" + json.dumps(head, separators=(",", ":")).encode() + b"\0" + bytes(i % 61 for i in range(at))


def folder(path, **files):
    with open(path, "wb") as f:
        for name, body in files.items():
            f.write(b"%% " + name.replace("__", ".").encode() + b"\n" + body)


PRE = ["input_layernorm", "post_attention_layernorm"]
ALL = PRE + ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
out = sys.argv[1]
os.makedirs(out, exist_ok=True)
one = dict(
    llama=(config("llama"), tensors(PRE), "F32"),
    llama_biased=(config("llama", attention_bias=True, tie_word_embeddings=False), tensors(PRE, bias=True, o_bias=True, untied=True), "BF16"),
    qwen2=(config("qwen2"), tensors(PRE, bias=True), "BF16"),
    qwen3=(config("qwen3"), tensors(PRE, qk=True), "BF16"),
    gemma2=(config("gemma2", hidden_activation="gelu_pytorch_tanh", sliding_window=16, query_pre_attn_scalar=2), tensors(ALL), "F16"),
    gemma3=(config("gemma3_text", hidden_activation="gelu_pytorch_tanh", sliding_window=16, query_pre_attn_scalar=2),
            tensors(ALL, qk=True), "BF16"),
    phi3=(config("phi3", tie_word_embeddings=False, rope_scaling={"type": "longrope", "short_factor": [1], "long_factor": [2]},
                 original_max_position_embeddings=32), tensors(PRE, fused=True, untied=True), "BF16"),
    olmo2=(config("olmo2"), tensors(ALL[1:2] + ALL[3:], wide=True), "F32"),
    stablelm=(config("stablelm", use_qkv_bias=True, layer_norm_eps=1e-5, partial_rotary_factor=1.0, tie_word_embeddings=False),
              tensors(PRE, bias=True, norm_bias=True, untied=True), "F16"),
    smollm3=(config("smollm3", no_rope_layers=[0]), tensors(PRE), "BF16"),
    granite=(config("granite", embedding_multiplier=12, logits_scaling=8, residual_multiplier=0.2, attention_multiplier=0.5),
             tensors(PRE), "BF16"),
    mistral=(config("mistral", sliding_window=16), tensors(PRE), "BF16"),
)
for name, (conf, shapes, dtype) in one.items():
    folder(os.path.join(out, name), config__json=conf, model__safetensors=safetensors(shapes, dtype))
shapes = tensors(PRE)
first = dict(list(shapes.items())[:5])
second = dict(list(shapes.items())[5:])
index = {"weight_map": {**{n: "a" for n in first}, **{n: "b" for n in second}}}
folder(os.path.join(out, "shards"), config__json=config("llama"), model__safetensors__index__json=json.dumps(index).encode(),
       a=safetensors(first, "F32"), b=safetensors(second, "F16"))


def part(no, names):
    """As gguf-split writes it, with F32 tensors of 8 values."""
    text = lambda s: struct.pack("<Q", len(s)) + s.encode()
    b = b"GGUF" + struct.pack("<IQQ", 3, len(names), 3)
    for key, value in (("split.no", no), ("split.count", 2), ("split.tensors.count", 3)):
        b += text(key) + struct.pack("<II", 4, value)
    for i, name in enumerate(names):
        b += text(name) + struct.pack("<IQIQ", 1, 8, 0, 32 * i)
    return b + bytes(-len(b) % 32) + bytes(32 * len(names))


if len(sys.argv) > 2:
    one, two = part(0, ["a", "b"]), part(1, ["c"])
    with open(os.path.join(sys.argv[2], "split"), "wb") as f:
        f.write(b"2\n" + struct.pack("<I", len(one)) + one + two)
