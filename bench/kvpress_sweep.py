"""Six presses of kvpress at four budgets on one prompt, each a whole run: prefill, compress, greedy decode.

usage: kvpress_sweep.py MODEL.gguf PROMPT.txt N_NEW      prints one JSON line
       KEEP='.1 .2' for some of the budgets

What kvtrace does in one command, measured on the peer: transformers in f32 on the same GGUF, sdpa attention. Loading and
one uncompressed run before aren't counted. Called by kvpress.sh.
"""
import json
import os
import resource
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import torch
from kvpress import ChunkKVPress, KnormPress, PyramidKVPress, SnapKVPress, StreamingLLMPress, TOVAPress
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache


def main():
    path, prompt, n_new = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    where = dict(pretrained_model_name_or_path=os.path.dirname(os.path.abspath(path)), gguf_file=os.path.basename(path))
    ids = AutoTokenizer.from_pretrained(**where)(open(prompt, encoding="utf-8", newline="").read(), return_tensors="pt").input_ids
    m = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="sdpa").eval()

    @torch.no_grad()
    def run(press):
        cache, start = DynamicCache(), time.time()
        if press is None:
            o = m(ids, past_key_values=cache, logits_to_keep=1)
        else:
            with press(m):
                o = m(ids, past_key_values=cache, logits_to_keep=1)
        prefill = time.time() - start
        x, pos = o.logits[:, -1:].argmax(-1), ids.shape[1]
        for i in range(n_new):
            x = m(x, past_key_values=cache, position_ids=torch.tensor([[pos + i]])).logits[:, -1:].argmax(-1)
        return prefill, time.time() - start - prefill

    budgets = [float(k) for k in os.environ.get("KEEP", ".1 .2 .4 .6").split()]
    run(None)
    out = {"tokens": ids.shape[1], "full": run(None), "runs": {}}
    for make in (SnapKVPress, PyramidKVPress, ChunkKVPress, TOVAPress, KnormPress, StreamingLLMPress):
        for keep in budgets:
            if make is ChunkKVPress:
                press = ChunkKVPress(press=SnapKVPress(compression_ratio=1 - keep), chunk_length=20)
            else:
                press = make(compression_ratio=1 - keep)
            out["runs"][f"{make.__name__} {keep}"] = run(press)
            print(f"{len(out['runs'])} of {6 * len(budgets)}", file=sys.stderr)
    out["wall_s"] = sum(a + b for a, b in out["runs"].values())
    out["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(json.dumps(out))


if __name__ == "__main__":
    main()
