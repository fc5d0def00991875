"""Attention maps of a prompt as people take them today: transformers with output_attentions, written by h5py.

usage: hf_maps.py MODEL.gguf PROMPT.txt OUT.h5      prints one JSON line

f32 products, eager attention, every layer's and head's whole map as f16 in one dataset. Loading isn't counted; the file is
counted to the end of its sync. Called by peers.sh.
"""
import json
import os
import resource
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import h5py
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    path, prompt, out = sys.argv[1:4]
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    where = dict(pretrained_model_name_or_path=os.path.dirname(os.path.abspath(path)), gguf_file=os.path.basename(path))
    ids = AutoTokenizer.from_pretrained(**where)(open(prompt, encoding="utf-8", newline="").read(), return_tensors="pt").input_ids
    m = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager").eval()
    start = time.time()
    with torch.no_grad():
        maps = m(ids, output_attentions=True, logits_to_keep=1).attentions
    forward = time.time() - start
    with h5py.File(out, "w") as f:
        to = f.create_dataset("attention", (len(maps), *maps[0].shape[1:]), dtype="f2")
        for l, a in enumerate(maps):
            to[l] = a[0].to(torch.float16).numpy()
        f.flush()
        os.fsync(f.id.get_vfd_handle())
    whole = time.time() - start
    print(json.dumps({"tokens": ids.shape[1], "forward_s": forward, "whole_s": whole, "bytes": os.path.getsize(out),
                      "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}))
    os.unlink(out)


if __name__ == "__main__":
    main()
