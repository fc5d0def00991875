#!/usr/bin/env python3
"""Makes the tiny models of every family, their GGUF files and what transformers computes with them.

usage: make_families.py MODELS_DIR VECTORS_DIR [NAME...]

Models come from transformers' own classes with random weights of a seed and all of a family's traits switched on: a
window shorter than the prompt, rope scaling past the original context, caps, biases, head sizes that aren't width /
heads. Tensors are stored in F32, F16 and BF16 in turn; the reference computes in f32 with the stored values, eager
attention. The GGUF has llama.cpp's names, permutation and keys (conversion/*.py of that project), with two additions
that its converters leave out and its readers don't look at, so that both files mean the same model: the window of
Mistral, and the scale of attention of a Gemma whose query_pre_attn_scalar isn't the head size.

Formats and versions: README.md beside this file. Needs torch, transformers, tokenizers, gguf; the tests need none.
"""
import json
import os
import shutil
import struct
import sys
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import gguf
import numpy as np
import torch
import transformers as tf
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

N = 72              # tokens of a prompt; every window is shorter and every original context too
N_GREEDY = 18
MARGIN = 1e-2       # logits; a hundred times what the test allows
V = 300
TEXT = """The river comes down from the hills in the spring and fills the fields on both sides of the road. Nobody
who lives there minds: they have boats, and the water brings the mud that feeds the corn. In a dry year 12 of the 48
farms would fail; the others count their sacks and wait for the winter. def f(x): return x + 1 # a line of code"""
ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def small(**more):
    """What all have in common; heads of 12 dims don't divide the width."""
    return {**dict(vocab_size=V, hidden_size=40, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
                   num_key_value_heads=2, head_dim=12, max_position_embeddings=512, rms_norm_eps=1e-5,
                   tie_word_embeddings=False, bos_token_id=0, eos_token_id=1, pad_token_id=None), **more}


def scaled(rope_type, **more):
    return {"rope_type": rope_type, "rope_theta": 5000.0, **more}


def windowed(pattern):
    return ["sliding_attention" if c == "w" else "full_attention" for c in pattern]


# name: (class stem, configuration, GGUF architecture or None, seed)
FAMILIES = {
    "llama": ("Llama", small(attention_bias=True, mlp_bias=True, rope_parameters=scaled(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)), "llama", 1),
    "llama-linear": ("Llama", small(num_hidden_layers=2, tie_word_embeddings=True, rope_parameters=scaled("linear", factor=3.0)), "llama", 2),
    "llama-yarn": ("Llama", small(num_hidden_layers=2, tie_word_embeddings=True, rope_parameters=scaled(
        "yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, original_max_position_embeddings=32)), "llama", 3),
    "llama-dynamic": ("Llama", small(num_hidden_layers=2, tie_word_embeddings=True, max_position_embeddings=48,
                                     rope_parameters=scaled("dynamic", factor=4.0)), None, 4),
    "mistral": ("Mistral", small(sliding_window=21, rope_parameters=ROPE), "llama", 5),
    "qwen2": ("Qwen2", small(tie_word_embeddings=True, rope_parameters=scaled("default"), use_sliding_window=False,
                             head_dim=10), "qwen2", 6),
    "qwen2-window": ("Qwen2", small(num_hidden_layers=2, use_sliding_window=True, sliding_window=19, max_window_layers=1,
                                    head_dim=10, rope_parameters=ROPE, tie_word_embeddings=True), None, 7),
    "qwen3": ("Qwen3", small(rope_parameters=scaled("default")), "qwen3", 8),
    "gemma": ("Gemma", small(tie_word_embeddings=True, num_key_value_heads=1, rope_parameters=ROPE), "gemma", 9),
    "gemma2": ("Gemma2", small(tie_word_embeddings=True, query_pre_attn_scalar=20, sliding_window=23, attn_logit_softcapping=2.0,
                               final_logit_softcapping=6.0, rope_parameters=ROPE), "gemma2", 10),
    "gemma3": ("Gemma3Text", small(tie_word_embeddings=True, query_pre_attn_scalar=20, sliding_window=17, num_hidden_layers=7,
                                   hidden_size=32, intermediate_size=40, final_logit_softcapping=None, attn_logit_softcapping=None,
                                   rope_parameters={"sliding_attention": ROPE, "full_attention": {
                                       "rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0}}), "gemma3", 11),
    "phi3": ("Phi3", small(hidden_size=64, head_dim=16, sliding_window=33, original_max_position_embeddings=32,
                           num_hidden_layers=2, partial_rotary_factor=0.75, rope_parameters=scaled(
                               "longrope", short_factor=[1.0, 1.05, 1.1, 1.2, 1.3, 1.4], long_factor=[1.0, 1.5, 2.0, 4.0, 8.0, 14.0],
                               partial_rotary_factor=0.75)), "phi3", 12),
    "smollm3": ("SmolLM3", small(num_hidden_layers=4, tie_word_embeddings=True, no_rope_layer_interval=4, head_dim=10,
                                 use_sliding_window=False, rope_parameters=scaled("default")), "smollm3", 13),
    "smollm3-window": ("SmolLM3", small(tie_word_embeddings=True, no_rope_layers=[1, 0, 1], use_sliding_window=True, attention_bias=True,
                                        mlp_bias=True, sliding_window=20, head_dim=10, rope_parameters=ROPE), None, 14),
    "olmo2": ("Olmo2", small(head_dim=10, rope_parameters=scaled("default")), "olmo2", 15),
    "granite": ("Granite", small(head_dim=10, embedding_multiplier=6.0, logits_scaling=2.5, residual_multiplier=0.4,
                                 attention_multiplier=0.12, tie_word_embeddings=True, rope_parameters=scaled("default")), "granite", 16),
    "stablelm": ("StableLm", small(hidden_size=48, head_dim=12, use_qkv_bias=True, partial_rotary_factor=0.5, layer_norm_eps=1e-5,
                                   rope_parameters={**ROPE, "partial_rotary_factor": 0.5}), "stablelm", 17),
}
NO_HEAD_DIM = ("Qwen2", "Phi3", "SmolLM3", "Olmo2", "Granite", "StableLm") # width / heads: their configurations have no such key
SHORT = {"phi3": 14}    # a second prompt that stays, with what is generated, in the first context: longrope's other factors


def tokenizer():
    """Byte-level BPE as GPT-2's, V tokens: <s>, </s>, 256 bytes, merges."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=V, special_tokens=[
        AddedToken("<s>", special=True, normalized=False), AddedToken("</s>", special=True, normalized=False)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    assert t.get_vocab_size() == V
    return t


def build(stem, config, seed):
    """A model whose weights make every trait felt: larger than an untrained model's, norms away from 1."""
    if stem in NO_HEAD_DIM:
        config = {k: v for k, v in config.items() if k != "head_dim"}
    if stem == "StableLm":
        config.pop("rms_norm_eps")
    if stem in ("Gemma", "Gemma2", "Gemma3Text"):
        config["hidden_activation"] = "gelu_pytorch_tanh"
    c = getattr(tf, stem + "Config")(**config)
    c._attn_implementation = "eager"
    torch.manual_seed(seed)
    m = getattr(tf, {"Gemma3Text": "Gemma3"}.get(stem, stem) + "ForCausalLM")(c).float().eval()
    kinds = (torch.bfloat16, torch.float16, torch.bfloat16, torch.float16, torch.float32)
    stored = {}
    with torch.no_grad():
        for i, (name, p) in enumerate(m.named_parameters()):
            if p.dim() == 1:
                gemma = "Gemma" in stem and name.endswith("weight")
                centre = 0.0 if name.endswith("bias") or gemma else 1.0
                p.copy_(centre + 0.25 * torch.randn_like(p))
            else:
                table = "embed" in name or "lm_head" in name
                wide = {"Gemma": 0.25, "Gemma2": 0.25, "Gemma3Text": 0.25, "Granite": 0.12}.get(stem, 0.3) # they scale embeddings
                p.copy_(torch.randn_like(p) * (wide if table else 1.6 / p.shape[1] ** 0.5))
            kind = kinds[i % 5]
            stored[name] = p.detach().to(kind).clone()
            p.copy_(stored[name].float())
    return m, c, stored


def save_folder(folder, m, c, stored, tok):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    tensors = {k: v.contiguous() for k, v in stored.items() if not (c.tie_word_embeddings and k == "lm_head.weight")}
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
    c.architectures = [type(m).__name__]
    c.save_pretrained(folder)
    tok.save(f"{folder}/tokenizer.json", pretty=False)
    with open(f"{folder}/tokenizer_config.json", "w") as f:
        json.dump({"add_bos_token": False, "bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}, f)


def permute(w, heads):
    """Rows of q or k: pairs (i, i + D/2) become neighbours."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


LAYER_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def gguf_name(name, post_norms):
    if name.startswith("model.layers."):
        layer, rest = name[len("model.layers."):].split(".", 1)
        stem, kind = rest.rsplit(".", 1)
        out = LAYER_NAMES[stem]
        if post_norms and stem == "post_attention_layernorm":
            out = "post_attention_norm"
        return f"blk.{layer}.{out}.{kind}"
    stem, kind = name.rsplit(".", 1)
    return {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[stem] + "." + kind


def save_gguf(path, arch, stem, m, c, stored, tok):
    w = gguf.GGUFWriter(path, arch)
    w.add_name("tiny " + os.path.basename(path)[:-5])
    D = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    rope = c.rope_parameters.get("full_attention", c.rope_parameters)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    if arch == "stablelm":
        w.add_layer_norm_eps(c.layer_norm_eps)
        w.add_parallel_residual(False)
    else:
        w.add_layer_norm_rms_eps(c.rms_norm_eps)
    if arch in ("llama", "qwen3", "gemma", "gemma2", "gemma3"):
        w.add_key_length(D)
        w.add_value_length(D)
    if arch in ("llama", "smollm3", "granite"):
        w.add_vocab_size(V)
        w.add_rope_dimension_count(D)
    if arch in ("phi3", "stablelm"):
        w.add_rope_dimension_count(int(D * rope["partial_rotary_factor"]))
    if arch not in ("gemma", "gemma2"): # 10000, and not written
        w.add_rope_freq_base(rope["rope_theta"])
    extra = {}
    kind = rope["rope_type"]
    if kind == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(rope["factor"])
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        w.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        w.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    elif kind == "llama3":
        freqs = 1.0 / (rope["rope_theta"] ** (torch.arange(0, D, 2, dtype=torch.float32) / D))
        scaled_freqs, _ = ROPE_INIT_FUNCTIONS["llama3"](c, "cpu")
        extra["rope_freqs.weight"] = freqs / scaled_freqs
    elif kind == "longrope":
        w.add_rope_scaling_orig_ctx_len(c.original_max_position_embeddings)
        scale = c.max_position_embeddings / c.original_max_position_embeddings
        w.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(scale) / np.log(c.original_max_position_embeddings))))
        extra["rope_factors_long.weight"] = torch.tensor(rope["long_factor"])
        extra["rope_factors_short.weight"] = torch.tensor(rope["short_factor"])
    if arch in ("gemma2", "gemma3"):
        w.add_attention_scale(c.query_pre_attn_scalar ** -0.5)
    if arch == "gemma2":
        w.add_attn_logit_softcapping(c.attn_logit_softcapping)
        w.add_final_logit_softcapping(c.final_logit_softcapping)
    if getattr(c, "sliding_window", None):
        w.add_sliding_window(c.sliding_window)
    if arch == "granite":
        w.add_attention_scale(c.attention_multiplier)
        w.add_embedding_scale(c.embedding_multiplier)
        w.add_residual_scale(c.residual_multiplier)
        w.add_logit_scale(c.logits_scaling)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    vocab = sorted(tok.get_vocab().items(), key=lambda x: x[1])
    w.add_token_list([t for t, _ in vocab])
    w.add_token_types([3 if t in ("<s>", "</s>") else 1 for t, _ in vocab])
    w.add_token_merges([" ".join(p) for p in json.loads(tok.to_str())["model"]["merges"]])
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)
    w.add_add_bos_token(False)
    post_norms = arch in ("gemma2", "gemma3", "olmo2")
    for name, t in {**stored, **extra}.items():
        if c.tie_word_embeddings and name == "lm_head.weight":
            continue
        out = name if name in extra else gguf_name(name, post_norms)
        if "Gemma" in stem and name.endswith("norm.weight"):
            t = t.float() + 1
        if arch in ("llama", "smollm3", "granite") and ".q_proj." in name:
            t = permute(t, c.num_attention_heads)
        if arch in ("llama", "smollm3", "granite") and ".k_proj." in name:
            t = permute(t, c.num_key_value_heads)
        if t.dim() == 1: # converters keep vectors in F32
            t = t.float()
        if t.dtype == torch.bfloat16:
            w.add_tensor(out, t.contiguous().view(torch.uint8).numpy(), raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            w.add_tensor(out, t.contiguous().numpy())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def made_ids(n, seed):
    """n ids without a library's generator; the last third repeats the first, so that something attends far back."""
    x, out = seed, []
    for i in range(n):
        x = (x * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        out.append(out[i - 2 * (n // 3)] if i >= 2 * (n // 3) else 2 + (x >> 33) % (V - 2))
    return out


def fix_rope(m, c, n):
    """dynamic: the factors of a run of n tokens, for all of it. transformers changes them as the text grows, and keys
    that are in the cache keep the old ones."""
    rope = c.rope_parameters
    if rope.get("rope_type") == "dynamic":
        r = m.model.rotary_emb
        r.inv_freq, r.attention_scaling = ROPE_INIT_FUNCTIONS["dynamic"](c, "cpu", seq_len=n)
        r.rope_type = "fixed"


@torch.no_grad()
def vector(out, m, c, ids):
    n, L, H = len(ids), c.num_hidden_layers, c.num_attention_heads
    fix_rope(m, c, n + N_GREEDY)
    o = m(torch.tensor([ids]), output_attentions=True, use_cache=False)
    lp = o.logits[0].double().log_softmax(-1)
    text, margin = list(ids), []
    for _ in range(N_GREEDY): # no cache: every step from the whole text
        v, k = m(torch.tensor([text]), use_cache=False).logits[0, -1].topk(2)
        text.append(int(k[0]))
        margin.append(float(v[0] - v[1]))
    greedy = text[n:]
    with open(out, "wb") as f:
        f.write(b"KVTFAM1\n" + struct.pack("<5i", n, V, L, H, N_GREEDY))
        f.write(struct.pack(f"<{n}i", *ids) + struct.pack(f"<{N_GREEDY}i", *greedy) + struct.pack(f"<{N_GREEDY}f", *margin))
        f.write(lp.float().numpy().astype("<f4").tobytes())
        for a in o.attentions: # (H, n) each: mass of a key, the sum over rows
            f.write(a[0].double().sum(1).float().numpy().astype("<f4").tobytes())
    return min(margin), lp.max(-1).values.exp().mean().item(), len(set(greedy))


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    to, vectors, names = sys.argv[1], sys.argv[2], sys.argv[3:] or list(FAMILIES)
    tok = tokenizer()
    for name in names:
        stem, config, arch, seed = FAMILIES[name]
        lengths = [("", N)] + ([("-short", SHORT[name])] if name in SHORT else [])
        while True: # a greedy text that doesn't hang on rounding, nor on one token
            m, c, stored = build(stem, dict(config), seed)
            seen = [vector(f"{vectors}/family-{name}{suffix}.bin", m, c, made_ids(n, 100 + seed)) for suffix, n in lengths]
            if all(margin >= MARGIN and kinds > 3 for margin, _, kinds in seen):
                break
            seed += 100
        save_folder(f"{to}/{name}", m, c, stored, tok)
        if arch:
            save_gguf(f"{to}/{name}.gguf", arch, stem, m, c, stored, tok)
        size = os.path.getsize(f"{to}/{name}/model.safetensors")
        print(f"{name:16} seed {seed:5} {size:8} bytes  smallest greedy margin, mean top p, kinds of tokens:", *(
            f"{margin:.4f} {top:.2f} {kinds}" for margin, top, kinds in seen), flush=True)


if __name__ == "__main__":
    main()
