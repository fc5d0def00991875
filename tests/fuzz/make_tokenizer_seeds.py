#!/usr/bin/env python3
"""Makes the seeds of fuzz_tokenizer, in the form that fuzz_tokenizer.c reads: small tokenizers with every feature once.
usage: make_tokenizer_seeds.py FOLDER        needs gguf"""
import json
import os
import sys

import gguf

B = "\u2581"
TEXT = "abc ab  <m> is\n\u00e9e\u0301 \ufb01 12 \U0001f44d</s>'s \x01".encode()
out = sys.argv[1]
os.makedirs(out, exist_ok=True)


def seed(name, model, norm=None, pre=None, added=(), post=None, config=None):
    j = dict(added_tokens=list(added), normalizer=norm, pre_tokenizer=pre, post_processor=post, decoder=None, model=model)
    body = json.dumps(j, ensure_ascii=False, separators=(",", ":")).encode() + b"\0"
    if config:
        body += json.dumps(config).encode() + b"\0"
    open(os.path.join(out, name), "wb").write(body + TEXT)


def seq(field, *items):
    return {"type": "Sequence", field: list(items)}


def split(pattern, behaviour, invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behaviour, "invert": invert}


def bpe(tokens, merges, **more):
    return dict(type="BPE", vocab={t: i for i, t in enumerate(tokens)}, merges=merges, **more)


def token(i, text, **flags):
    return dict(id=i, content=text, **{"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False, **flags})


BYTES = ["!", "a", "b", "c", "\u0120", "\u010a", "s", "i", "'", "1", "2", "\u00c3", "\u00a9", "ab", "abc", "\u0120a"]
MERGES = ["a b", ["ab", "c"], "\u0120 a"]
NEWER = (r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
TEMPLATE = dict(type="TemplateProcessing", single=[{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                special_tokens={"<s>": dict(id="<s>", ids=[16], tokens=["<s>"])})
seed("bytes", bpe(BYTES, MERGES, ignore_merges=True), {"type": "NFC"}, seq("pretokenizers", split(NEWER, "Isolated"), LEVEL),
     [token(16, "<s>", special=True), token(17, "<m>", lstrip=True, rstrip=True)], TEMPLATE)
seed("level", bpe(BYTES, MERGES), None, {"type": "ByteLevel", "add_prefix_space": True}, config={"bos_token": "a", "add_bos_token": True})
seed("cuts", bpe(BYTES, MERGES, unk_token="!"), seq("normalizers", {"type": "NFKD"}, {"type": "Lowercase"},
                                                    {"type": "Strip", "strip_left": True, "strip_right": True}),
     seq("pretokenizers", {"type": "Whitespace"}, {"type": "Punctuation", "behavior": "MergedWithPrevious"},
         {"type": "Digits", "individual_digits": True}, split("ab", "MergedWithNext", kind="String"), split("[^c]", "Contiguous", True), LEVEL),
     [token(16, "IS", normalized=True, single_word=True)])
CHARS = ["<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", "<0x01>", B, "a", "b", "c", "ab", B + "a", "i", "s"]
SPACES = seq("normalizers", {"type": "Prepend", "prepend": B}, {"type": "Replace", "pattern": {"String": " "}, "content": B})
seed("chars", bpe(CHARS, ["a b", B + " a"], unk_token="<unk>", fuse_unk=True, byte_fallback=True), SPACES, None,
     [token(1, "<s>", special=True), token(2, "</s>", special=True, rstrip=True)])
seed("space", bpe(CHARS, ["a b"], unk_token="<unk>"), {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
     {"type": "Metaspace", "replacement": B, "prepend_scheme": "first", "split": True}, config={"chat_template": "x", "eos_token": "</s>"})
seed("unigram", dict(type="Unigram", unk_id=0, byte_fallback=True, vocab=[[t, -0.25 * i] for i, t in enumerate(CHARS)]),
     {"type": "NFKC"}, seq("pretokenizers", {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": B, "prepend_scheme": "always"}))


def file(name, model, tokens, types, scores=None, merges=None, pre=None):
    w = gguf.GGUFWriter(os.path.join(out, name), "llama")
    w.add_tokenizer_model(model)
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types(types)
    if scores:
        w.add_token_scores(scores)
    if merges:
        w.add_token_merges(merges)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(True)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


file("gguf-scores", "llama", CHARS, [2, 3, 3, 6, 6, 6] + [1] * 7 + [4], [-float(i) for i in range(len(CHARS))])
file("gguf-bytes", "gpt2", BYTES + ["<s>", "<m>"], [1] * 16 + [3, 4], merges=["a b", "ab c", "\u0120 a"], pre="llama-bpe")
file("gguf-cuts", "gpt2", BYTES + ["<s>", "<m>"], [1] * 16 + [3, 4], merges=["a b", "ab c"], pre="deepseek-llm")
