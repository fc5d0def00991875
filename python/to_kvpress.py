"""A branch of a trace inside kvpress: the slots that it lost are masked there (kvpress's own `masked_key_indices`), the question and the
tokens of the trace are fed, and what the model then says is held against what kvtrace recorded. Needs torch, transformers, kvpress.

usage: to_kvpress.py MODEL run.h5 BRANCH        MODEL: as from_pretrained takes it; BRANCH: one that evicts at prefill's end, as "snapkv 25%"
"""
import sys

import kvpress  # patches the attention functions of transformers (sdpa's, not eager's)
import kvtrace
import torch
from transformers import AutoModelForCausalLM, DynamicCache

name, path, branch = sys.argv[1:]
t = kvtrace.Trace(path)
where = dict(pretrained_model_name_or_path=name) if not name.endswith(".gguf") else dict(zip(("pretrained_model_name_or_path", "gguf_file"), name.rsplit("/", 1)))
model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="sdpa").eval()
b, cache = t.number(branch), DynamicCache()
forced = t["steps/token"][:t.n_steps, b].tolist()
said, worst = t["steps/logprob"][:t.n_steps, b], 0
with torch.no_grad():
    model(torch.tensor([t.token_id[:t.n_context].tolist()]), past_key_values=cache)
    for layer, block in enumerate(model.model.layers):
        block.self_attn.masked_key_indices = t.kvpress_mask(b, layer)
    for i, token in enumerate(t.token_id[t.n_context:].tolist() + forced):
        k = t.n_context + i + 1 - t.n_prompt  # the step whose token comes next
        logits = model(torch.tensor([[token]]), past_key_values=cache).logits[0, -1]
        if 0 <= k < t.n_steps:
            worst = max(worst, abs(float(logits.log_softmax(-1)[forced[k]]) - float(said[k])))
print(f"{branch}: {t.n_steps} steps, largest difference of ln p from the trace {worst:.2g} nats")
