"""A trace of what a kvpress press keeps of a prompt, with the model's own attention beside it; needs torch, transformers, kvpress.

usage: from_kvpress.py MODEL prompt.txt out.h5        then: kvinfo --check out.h5; kvoverlap out.h5; kvplot kept out.h5
"""
import sys

import kvtrace
import torch
from kvpress import KnormPress, SnapKVPress
from transformers import AutoModelForCausalLM, AutoTokenizer

name, prompt, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="eager", dtype=torch.float32).eval()  # rows of bf16 don't sum to 1
ids = tokenizer(open(prompt).read(), return_tensors="pt").input_ids
with torch.no_grad():
    raw = kvtrace.scores(model(ids, output_attentions=True, use_cache=False).attentions, windows=(8,))
branches = []
for press in SnapKVPress(compression_ratio=0.75, window_size=8), KnormPress(compression_ratio=0.5):
    kept, score = kvtrace.kvpress_kept(press, model, ids)
    label = f"{type(press).__name__} {1 - press.compression_ratio:.0%}"
    branches.append(dict(name=label, method=type(press).__name__, canonical=repr(press), asked_keep=1 - press.compression_ratio, kept=kept, score=score))
c = model.config
kvtrace.write(out, token_text=[tokenizer.decode([i]) for i in ids[0]], token_id=ids[0].numpy(), vocabulary=c.vocab_size,
              shape=(c.num_hidden_layers, c.num_attention_heads, c.num_key_value_heads, getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads),
              branches=branches, model_name=name, model_arch=c.model_type, backend="transformers", **raw)
