#!/usr/bin/env python3
"""Full branches of a kvbench result against transformers' greedy decoding of the same prompts, text by text.

usage: check_greedy.py MODEL.gguf result.jsonl          (a run with --compute f32 --kv-type f32; torch, transformers, gguf, tokenizers)

The model is the same file, dequantised to f32, its tokenizer make_parity.py's. kvbench's output ends at a stop; transformers' must begin with it, and
be the same where it doesn't."""
import json
import sys

import torch
from make_parity import load, tokenizer
from tokenizers import decoders


def main():
    path, result = sys.argv[1:3]
    tok, model = tokenizer(path), load(path, "sdpa")[0]
    tok.decoder = decoders.ByteLevel()
    lines = [json.loads(line) for line in open(result, encoding="utf-8")]
    run, items = lines[0], [x for x in lines if "item" in x and "failed" not in x]
    same = 0
    for n, item in enumerate(items):
        full = next(c for c in item["cells"] if c["branch"] == "full")
        ids = tok.encode(item["prompt"], add_special_tokens=False).ids
        assert len(ids) == item["prompt_tokens"], (item["item"], len(ids), item["prompt_tokens"])
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_new_tokens=run["max_new"], do_sample=False, pad_token_id=0)[0, len(ids):]
        text, own = tok.decode(out.tolist(), skip_special_tokens=True), full["text"]
        equal = text.startswith(own) if full["end"] == "stop" else text == own
        same += equal
        if not equal:
            print(item["item"], repr(own), repr(text), sep="\n  ")
    print(f"{same} of {len(items)} texts are equal")
    return same != len(items)


if __name__ == "__main__":
    sys.exit(main())
