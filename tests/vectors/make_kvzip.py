#!/usr/bin/env python3
"""What kvpress's KVzipPress keeps of a model's own run -> kept sets for tests/parity/kept.c.

usage: make_kvzip.py MODEL.gguf OUT.bin TOKENS REPEAT...       (a tiny model: token ids made here)
       make_kvzip.py MODEL.gguf OUT.bin PROMPT.txt REPEAT...

One set for each REPEAT (tokens repeated at a time, kvpress's chunk_size) and each share of KEEP. The press runs as it is, but for
its tokenizer: the file's own instead of AutoTokenizer's, and without a chat form, so that the press itself puts its "\\n" between
cue and repetition and repeats everything, as ours does. Needs what make_parity.py needs.
"""
import os
import sys

import kvpress.presses.kvzip_press as kvzip
import torch
from make_parity import load, made_ids, run_press, tokenizer, write_kept

KEEP = (.3, .5, .8)


class WithoutChat:
    """As much of a tokenizer as the press asks for."""
    chat_template = None

    def __init__(self, path):
        self.tok = tokenizer(path)

    def from_pretrained(self, _):
        return self

    def encode(self, text, return_tensors, add_special_tokens):
        return torch.tensor([self.tok.encode(text, add_special_tokens=add_special_tokens).ids], dtype=torch.long)


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    path, out, what, repeats = sys.argv[1], sys.argv[2], sys.argv[3], [int(x) for x in sys.argv[4:]]
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    m, crc = load(path, "sdpa")
    kvzip.AutoTokenizer = WithoutChat(path)
    text = None if what.isdigit() else open(what, "rb").read().decode()
    ids = made_ids(m.config.vocab_size, int(what), 11) if text is None else kvzip.AutoTokenizer.tok.encode(text, add_special_tokens=False).ids
    cells, n, sets = m.config.num_hidden_layers * m.config.num_key_value_heads, len(ids), []
    for repeat in repeats:
        for keep in KEEP:
            tokens = int(n * keep)  # a cell's mean; kvpress drops int(slots * ratio) of all
            press = kvzip.KVzipPress(compression_ratio=1 - (tokens * cells - .5) / (n * cells), chunk_size=repeat)
            kept = run_press(m, torch.tensor([ids]), press, None)
            if sum(map(len, kept)) != tokens * cells:
                sys.exit(f"make_kvzip.py: {sum(map(len, kept))} slots kept, not {tokens * cells}")
            sets.append((f"KVzipPress chunk_size {repeat} keep {keep}", f"kvzip[repeat={repeat}]", tokens, 0, kept))
    write_kept(out, m, crc, os.path.getsize(path), text, ids, sets)


if __name__ == "__main__":
    main()
