#!/usr/bin/env python3
"""Writes tokens.txt and pieces.txt beside itself: token ids and pieces by the field's own library.

    make_tokens.py SmolLM2-135M-Instruct.Q4_1.gguf

needs transformers, tokenizers and gguf. tokens.txt: text in hex, tab, ids. pieces.txt: pre-tokenizer, tab, text in hex, tab,
the byte at which every piece ends.

transformers reads the vocabulary from the GGUF file but not the name of its pre-tokenizer: it cuts text as GPT-2 does. The
model was trained with every digit cut out first (its tokenizer.json: Digits, then ByteLevel; llama.cpp does the same for
"smollm"). So that cut is put back here, and the texts where transformers alone would differ are marked with '*'."""
import os
import sys

from tokenizers import Regex
from tokenizers import pre_tokenizers as pre
from transformers import AutoTokenizer

TEXTS = [
    " ", "  ", "\n", "\n\n", "\t", "\r\n", "a", "Hello, world!", "The quick brown fox jumps over the lazy dog.",
    "Hello  123 w\u00f6rld", "a\r\nb\r\n\r\nc\t\td   e  \n\n  f", "   \n   \n\t \n", "trailing spaces   ",
    "I'm you're he'll they'd we've it's 'Tis I'M YOU'RE don''t", "x = 1;  y=22;\n\n\tif (x<=y) { return 'it'; }",
    "def f(n: int) -> int:\n    \"\"\"Return n!\"\"\"\n    return 1 if n < 2 else n * f(n - 1)\n\n\nprint(f(10))  # 3628800\n",
    "#include <stdio.h>\nint main(void)\n{\n\tprintf(\"%d\\n\", 42);\n\treturn 0;\n}\n",
    "{\"key\": [1, 2.5, -3e10, null], \"caf\u00e9\": \"\\u00e9\"}", "SELECT * FROM t WHERE id >= 1000 AND name LIKE '%x%';",
    "1234567890 3.14159 1,234.56 0x1F 1e-9 50% $12 10/60=0.2 <<48/2=24>>24", "  1  22   333", "==  1\n\n2",
    "\u0661\u0662\u0663 \u00bd \u00b2 \u2167 \u2460", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u0643\u064a\u0641 \u062d\u0627\u0644\u0643\u061f \u0661\u0662",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8\u3002\u4e2d\u6587\u6e2c\u8a66\uff01\ud55c\uad6d\uc5b4 \uc2dc\ud5d8\uc785\ub2c8\ub2e4.", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u0417\u0434\u0440\u0430\u0432\u0441\u0442\u0432\u0443\u0439, \u043c\u0438\u0440! \u0401\u043b\u043a\u0430",
    "\u0e44\u0e17\u0e22\u0e20\u0e32\u0e29\u0e32 \u0939\u093f\u0928\u094d\u0926\u0940 \u0ba4\u0bae\u0bbf\u0bb4\u0bcd", "e\u0301 n\u0303 a\u0308\u0323 \u00e9 \ufb01 \ufdfa",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1eb\U0001f1f7 \U0001f44d\U0001f3fd \u2764\ufe0f", "\u3000\u5168\u89d2\u3000\u30b9\u30da\u30fc\u30b9\u00a0nbsp\u2003em\u200bzw\u180emong\u2028line",
    "\U00031350\U0002ebf0\U000105c0 \U0001e4d0\U00011f50\U0001d2c0", "\u201cquoted\u201d \u2014 dash \u2026 \u20ac5 \u00a31 \u00d7 \u00f7 \u2264",
    "'\u017f '\u017fs \u0130\u0131 \u212a \u00df", "\x01\x02\x7f control", "\x04 no token \x06\x13\x14 for these",
    "<|im_start|>system\nYou<|im_end|>\n<|im_start|>user\nHi <|endoftext|><|im_end|> <|im_start <repo_name>x<file_sep>",
    "Question: Natalia sold clips to 48 of her friends in April.\nAnswer: Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 72",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "supercalifragilisticexpialidocious" * 3, " \n" * 9 + "x",
    "https://example.org/a_b-c?d=1&e=%20#f", "CamelCaseIdentifier snake_case_identifier kebab-case-identifier UPPER",
]
NEWER = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2 = pre.ByteLevel(add_prefix_space=False, use_regex=True)
CUTS = {
    "smollm": pre.Sequence([pre.Digits(individual_digits=True), GPT2]),
    "qwen2": pre.Split(Regex(NEWER % ""), "isolated"),
    "llama-bpe": pre.Split(Regex(NEWER % "{1,3}"), "isolated"),
    "gpt-2": GPT2,
}


def main():
    model, here = sys.argv[1], os.path.dirname(os.path.abspath(__file__))
    folder, file = os.path.split(os.path.abspath(model))
    tok = AutoTokenizer.from_pretrained(folder, gguf_file=file).backend_tokenizer
    ids = lambda t: tok.encode(t, add_special_tokens=False).ids
    plain = [ids(t) for t in TEXTS]
    tok.pre_tokenizer = CUTS["smollm"]
    with open(os.path.join(here, "tokens.txt"), "w") as out:
        for text, as_read in zip(TEXTS, plain):
            own = ids(text)
            mark = "" if own == as_read else "*"
            out.write(f"{text.encode().hex()}{mark}\t{' '.join(map(str, own))}\n")
    with open(os.path.join(here, "pieces.txt"), "w") as out:
        for name, cut in CUTS.items():
            for text in TEXTS:
                at = [0]  # byte offset of every character
                for c in text:
                    at.append(at[-1] + len(c.encode()))
                ends = [at[end] for _, (_, end) in cut.pre_tokenize_str(text)]
                out.write(f"{name}\t{text.encode().hex()}\t{' '.join(map(str, ends))}\n")


if __name__ == "__main__":
    main()
