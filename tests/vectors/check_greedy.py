#!/usr/bin/env python3
"""Full branches of a kvbench result against transformers' greedy decoding of the same prompts, text by text.

usage: check_greedy.py MODEL.gguf result.jsonl          (a run with --compute f32 --kv-type f32; torch, transformers, gguf)

The model is the same file, dequantised to f32. A text counts as equal where kvbench's output (cut at a stop) begins transformers' one cut alike."""
import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    path, result = sys.argv[1:3]
    folder, name = os.path.split(os.path.abspath(path))
    tok = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    lines = [json.loads(line) for line in open(result, encoding="utf-8")]
    run, items = lines[0], [x for x in lines if "item" in x and "failed" not in x]
    same = 0
    for n, item in enumerate(items):
        full = next(c for c in item["cells"] if c["branch"] == "full")
        ids = tok(item["prompt"], return_tensors="pt").input_ids
        if ids[0, 0] == tok.bos_token_id and ids.shape[1] == item["prompt_tokens"] + 1:
            ids = ids[:, 1:]  # transformers puts a BOS in front although the file says that there is none
        assert ids.shape[1] == item["prompt_tokens"], (item["item"], ids.shape[1], item["prompt_tokens"])
        with torch.no_grad():
            out = model.generate(ids, max_new_tokens=run["max_new"], do_sample=False, pad_token_id=tok.eos_token_id)[0, ids.shape[1]:]
        text = tok.decode(out, skip_special_tokens=True)
        own = full["text"]
        equal = text == own if full["end"] != "stop" else text.startswith(own)
        same += equal
        if not equal:
            print(item["item"], repr(own), repr(text), sep="\n  ")
        if sys.stderr.isatty():
            print(f"\r{n + 1}/{len(items)}", end="", file=sys.stderr)
    print(f"{same} of {len(items)} texts are equal")
    return same != len(items)


if __name__ == "__main__":
    sys.exit(main())
