"""Trained weights into what everybody loads: a Hugging Face folder (f16) and a GGUF (f16 or Q8_0), with their hashes.

    python models/export.py DIR/a.safetensors models/embedded [--gguf models/embedded/kvtrace-tiny.gguf] [--type q8_0]

Needs PyTorch, safetensors and gguf. The rows that fill the vocabulary up to a multiple of 64 stay behind."""
import argparse
import glob
import hashlib
import json
import os

import gguf
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import llama
import tokenizer

NAME = "kvtrace-tiny"


def read(path):
    with safe_open(path, "pt") as f:
        return llama.Shape(**json.loads(f.metadata()["shape"])), {n: f.get_tensor(n) for n in f.keys()}, f.metadata()


def config(s):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": s.vocab, "hidden_size": s.width, "intermediate_size": s.ff,
            "num_hidden_layers": s.layers, "num_attention_heads": s.heads, "num_key_value_heads": s.kv, "head_dim": s.head, "hidden_act": "silu",
            "rms_norm_eps": llama.EPS, "rope_theta": llama.ROPE, "max_position_embeddings": llama.CONTEXT, "tie_word_embeddings": s.tied,
            "attention_bias": False, "mlp_bias": False, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "float16"}


def folder(s, weights, to):
    save_file(weights, os.path.join(to, "model.safetensors"), {"format": "pt"})
    with open(os.path.join(to, "config.json"), "w") as f:
        json.dump(config(s), f, indent=1)
        f.write("\n")


def pairs(w, heads):
    """Rows of q and k as llama.cpp wants them: rotated pairs are neighbours."""
    return w.view(heads, 2, -1, w.shape[1]).transpose(1, 2).reshape(w.shape)


def gguf_file(s, weights, tokens, path, kind):
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(NAME)
    w.add_license("apache-2.0")
    w.add_context_length(llama.CONTEXT)
    w.add_embedding_length(s.width)
    w.add_block_count(s.layers)
    w.add_feed_forward_length(s.ff)
    w.add_head_count(s.heads)
    w.add_head_count_kv(s.kv)
    w.add_key_length(s.head)
    w.add_value_length(s.head)
    w.add_rope_dimension_count(s.head)
    w.add_rope_freq_base(llama.ROPE)
    w.add_layer_norm_rms_eps(llama.EPS)
    w.add_vocab_size(s.vocab)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if kind == "q8_0" else gguf.LlamaFileType.MOSTLY_F16)
    words = sorted(tokens["model"]["vocab"], key=tokens["model"]["vocab"].get)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(words)
    w.add_token_types([gguf.TokenType.CONTROL if t == tokenizer.BOS else gguf.TokenType.NORMAL for t in words])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokens["model"]["merges"]])
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    w.add_add_bos_token(True)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, s.layers)
    for name, t in weights.items():
        out = names.get_name(name, try_suffixes=(".weight",))
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            t = pairs(t, s.heads if "q_proj" in name else s.kv)
        data = t.float().numpy()
        if t.dim() == 1:
            w.add_tensor(out, data)
        elif kind == "q8_0":
            w.add_tensor(out, gguf.quants.quantize(data, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            w.add_tensor(out, data.astype(np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def hashes(to):
    with open(os.path.join(to, "SHA256SUMS"), "w") as f:
        for path in sorted(p for p in glob.glob(os.path.join(to, "*")) if not p.endswith("SHA256SUMS")):
            with open(path, "rb") as g:
                print(hashlib.sha256(g.read()).hexdigest(), os.path.basename(path), sep="  ", file=f)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("weights")
    a.add_argument("to")
    a.add_argument("--gguf")
    a.add_argument("--type", choices=("f16", "q8_0"), default="f16")
    o = a.parse_args()
    s, weights, meta = read(o.weights)
    if not os.path.exists(os.path.join(o.to, "tokenizer.json")):
        tokenizer.make(o.to)
    with open(os.path.join(o.to, "tokenizer.json")) as f:
        tokens = json.load(f)
    n = len(tokens["model"]["vocab"])
    weights = {name: (t[:n] if t.shape[0] == s.vocab and t.dim() == 2 else t).to(torch.float16).contiguous() for name, t in weights.items()}
    s = llama.Shape(**{**vars(s), "vocab": n})
    folder(s, weights, o.to)
    path = o.gguf or os.path.join(o.to, NAME + ".gguf")
    gguf_file(s, weights, tokens, path, o.type)
    hashes(o.to)
    print(f"{o.to}: {llama.count(s)} weights, {s}; {meta['steps']} steps, {meta['tokens']} tokens")
    for p in (os.path.join(o.to, "model.safetensors"), path):
        with open(p, "rb") as f:
            print(f"{p}: {os.path.getsize(p)} bytes, SHA-256 {hashlib.sha256(f.read()).hexdigest()}")


if __name__ == "__main__":
    main()
