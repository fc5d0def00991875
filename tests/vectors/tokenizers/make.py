#!/usr/bin/env python3
"""Small tokenizers of every kind and what the field's own libraries make of 2,048 lines with them.

    make.py              trains all (a minute), writes NAME/ (as a Hugging Face folder) or NAME.bin (a GGUF file), and NAME.ids, beside itself
    make.py --ids NAME   writes NAME.ids anew from what is there
    make.py --line I     line I as hexadecimal digits, for bin/tokens
    make.py --show NAME I  the ids of line I by the library
    make.py --cuts PRE I   where the pieces of line I end with a pre-tokenizer of GGUF files

needs tokenizers 0.22, sentencepiece 0.2 and gguf. The vocabularies are of 500 to 1,000 tokens, trained on fragments.txt, the
standard library's sources and this repository's prompts; normalizer, pre-tokenizer, post-processor, decoder and added tokens
are those of the published families, as far as a text of that size can tell them apart. Special tokens keep their texts.

Lines are put together from fragments.txt by the generator of base/rng.c, so that the test makes the same ones in C; bytes
that aren't UTF-8 become U+FFFD on both sides. NAME.ids: per line six hexadecimal digits, the low 24 bits of FNV-1a over the ids as 32-bit little
endian; after every 128th a blank and the ids themselves. cuts.txt: per pre-tokenizer one such hash for every 32 lines."""
import glob
import json
import os
import re
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as pre

HERE = os.path.dirname(os.path.abspath(__file__))
N_LINES = 2048


# ---- lines ----

class Rng:
    def __init__(self, seed):
        self.s = []
        for _ in range(4):
            seed = (seed + 0x9E3779B97F4A7C15) % 2**64
            z = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
            self.s.append(z ^ (z >> 31))

    def u64(self):
        rotl = lambda x, k: (x << k | x >> (64 - k)) % 2**64
        s = self.s
        out, t = rotl(s[1] * 5 % 2**64, 7) * 9 % 2**64, s[1] << 17 & 2**64 - 1
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotl(s[3], 45)
        return out

    def below(self, n):
        m = (self.u64() >> 32) * n
        while m % 2**32 < (2**32 - n) % n:
            m = (self.u64() >> 32) * n
        return m >> 32


def fragments():
    out = []
    for line in open(os.path.join(HERE, "fragments.txt"), "rb").read().split(b"\n"):
        if line and not line.startswith(b"# "):
            s, i = b"", 0
            while i < len(line):
                if line[i:i + 1] != b"\\":
                    s, i = s + line[i:i + 1], i + 1
                elif line[i + 1:i + 2] == b"x":
                    s, i = s + bytes([int(line[i + 2:i + 4], 16)]), i + 4
                else:
                    s, i = s + {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"\\": b"\\"}[line[i + 1:i + 2]], i + 2
            out.append(s)
    return out


def lines():
    rng, parts, out = Rng(20), fragments(), []
    for i in range(N_LINES):
        k, s = 1 + rng.below(6), b""
        for j in range(k):
            if j and rng.below(4) == 0:
                s += b" "
            s += parts[rng.below(len(parts))] * (12 if rng.below(60) == 0 else 1)
        out.append(s.decode("utf-8", "replace"))
    return out


def corpus():
    text = [f.decode("utf-8", "replace") for f in fragments()] * 20
    for path in sorted(glob.glob(os.path.dirname(os.__file__) + "/[a-f]*.py")):
        text += open(path, encoding="utf-8", errors="replace").read().splitlines(True)
    for path in sorted(glob.glob(os.path.join(HERE, "../parity-prompts/*"))):
        text += open(path, encoding="utf-8", errors="replace").read().splitlines(True) * 10
    return text


# ---- expressions and parts of the published files ----

ENGLISH = "'s|'t|'re|'ve|'m|'ll|'d"
NEWER = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
         r"|%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LETTERS = ("A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377"
           "\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556"
           "\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a"
           "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
           "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
           "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
           "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b"
           "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
           "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
           "\U000118a0-\U000118df\U0001e900-\U0001e943")
DEEPSEEK = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
            r"|\s*[\r\n]+|\s+(?!\S)|\s+")
BLOCK = "\u2581"


def split(regex, behaviour="isolated"):
    return pre.Split(Regex(regex), behaviour)


def raw_bytes(*steps, prefix=False, regex=False):
    return pre.Sequence([*steps, pre.ByteLevel(add_prefix_space=prefix, use_regex=regex)])


def template(bos, tok):
    return processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tok.token_to_id(bos))])


def special(*texts, **flags):
    return [AddedToken(t, **{"normalized": False, "special": True, **flags}) for t in texts]


def bytes_bpe(cut, added, norm=None, whole_first=False, bos=None, first=(), n=640):
    """Byte-level; `first`: control tokens that stand before the bytes."""
    tok = Tokenizer(models.BPE(ignore_merges=whole_first))
    if norm:
        tok.normalizer = norm
    tok.pre_tokenizer = cut
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=n, special_tokens=list(first), initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False))
    tok.add_tokens(added)
    if first:
        tok.add_special_tokens(special(*first))
    if bos:
        tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template(bos, tok)])
    return tok


def chars_bpe(added, first, norm=None, cut=None, bos="<s>", fuse=True, n=900, train_cut=True):
    """SentencePiece's spelling with byte fallback, as converted files have it."""
    from tokenizers import implementations  # noqa: F401 (its trainer is not used: it has no byte tokens)
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend(BLOCK), normalizers.Replace(" ", BLOCK)])
    if train_cut:
        trained.pre_tokenizer = pre.Split(BLOCK, "merged_with_next")
    trained.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=n - 256, limit_alphabet=220, show_progress=False,
                                                             special_tokens=[*first, BLOCK]))
    model = json.loads(trained.to_str())["model"]
    old = sorted(model["vocab"], key=model["vocab"].get)
    vocab = {t: i for i, t in enumerate([*first, *byte_tokens, *[t for t in old if t not in first]])}
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=fuse, byte_fallback=True))
    if norm:
        tok.normalizer = norm
    if cut:
        tok.pre_tokenizer = cut
    tok.decoder = decoders.Sequence([decoders.Replace(BLOCK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.add_tokens(added)
    if bos:
        tok.post_processor = template(bos, tok)
    return tok


def common(text, n):
    """text without all but its n most frequent characters: a small vocabulary must have room for them"""
    count = {}
    for s in text:
        for c in s:
            count[c] = count.get(c, 0) + 1
    keep = set(sorted(count, key=lambda c: (-count[c], c))[:n])
    return ["".join(c for c in s if c in keep) for s in text]


def unigram(byte_fallback, norm, cut, added):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = norm
    tok.pre_tokenizer = pre.Metaspace(replacement=BLOCK, prepend_scheme="always", split=True)
    first = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if byte_fallback else [])
    tok.train_from_iterator(common(corpus(), 300), trainers.UnigramTrainer(vocab_size=700 + len(first), show_progress=False, unk_token="<unk>",
                                                             special_tokens=first))
    model = json.loads(tok.to_str())["model"]
    out = Tokenizer(models.Unigram([(t, s) for t, s in model["vocab"]], unk_id=0, byte_fallback=byte_fallback))
    out.normalizer, out.pre_tokenizer = norm, cut
    out.decoder = decoders.Metaspace(replacement=BLOCK, prepend_scheme="always")
    out.add_tokens(added)
    return out


CONTROL = special("<unk>", "<s>", "</s>")
LLAMA2 = normalizers.Sequence([normalizers.Prepend(BLOCK), normalizers.Replace(" ", BLOCK)])
FOLDERS = {
    "gpt2": lambda: bytes_bpe(pre.ByteLevel(add_prefix_space=True), special("<|endoftext|>")),
    "llama3": lambda: bytes_bpe(raw_bytes(split(NEWER % r"\p{N}{1,3}")), special(
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), whole_first=True,
        bos="<|begin_of_text|>"),
    "tekken": lambda: bytes_bpe(raw_bytes(split(CASED % ("", "", r"\p{N}"))), [], whole_first=True, bos="<s>",
                                first=("<unk>", "<s>", "</s>", "[INST]", "[/INST]")),
    "gpt4o": lambda: bytes_bpe(raw_bytes(split(CASED % (f"(?i:{ENGLISH})?", f"(?i:{ENGLISH})?", r"\p{N}{1,3}"))),
                               special("<|endoftext|>", "<|user|>", "<|end|>", "<|assistant|>")),
    "qwen2": lambda: bytes_bpe(raw_bytes(split(NEWER % r"\p{N}")), [
        *special("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        *[AddedToken(t, normalized=False, special=False) for t in ("<tool_call>", "</tool_call>", "<think>")]],
        norm=normalizers.NFC()),
    "smollm2": lambda: bytes_bpe(pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]), [],
                                 first=("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
    "olmo2": lambda: bytes_bpe(raw_bytes(split(NEWER % r"\p{N}{1,3}")), [
        *special("<|endoftext|>", "<|im_start|>", "<|im_end|>"), AddedToken("\n\n\n", normalized=False), AddedToken("  ", normalized=True)]),
    "deepseek-llm": lambda: bytes_bpe(raw_bytes(
        split(r"[\r\n]"), split(rf"\s?[{LETTERS}]+"), split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
        split(r"\s+$"), split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), pre.Digits(individual_digits=True)),
        special("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>")),
    "deepseek-v3": lambda: bytes_bpe(raw_bytes(split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), split(DEEPSEEK)),
                                     [*special("<\uff5cUser\uff5c>"), AddedToken("<think>", normalized=False, special=False)]),
    "llama2": lambda: chars_bpe(CONTROL, ("<unk>", "<s>", "</s>"), norm=LLAMA2),
    "mistral": lambda: chars_bpe(CONTROL + [AddedToken("[INST]", normalized=False, special=True)], ("<unk>", "<s>", "</s>"),
                                 cut=pre.Metaspace(replacement=BLOCK, prepend_scheme="first", split=False)),
    "phi3": lambda: chars_bpe(CONTROL[:2] + [AddedToken("</s>", rstrip=True, normalized=False, special=False)] + special(
        "<|endoftext|>") + special("<|assistant|>", "<|user|>", "<|end|>", rstrip=True), ("<unk>", "<s>", "</s>"), norm=LLAMA2, bos=None),
    "gemma": lambda: chars_bpe(special("<pad>", "<eos>", "<bos>", "<unk>", "<mask>") + [
        AddedToken(t, normalized=False, special=False) for t in ("<start_of_turn>", "<end_of_turn>", "\n\n", "\n\n\n", BLOCK * 2, BLOCK * 3,
                                                                 "<div>")],
        ("<pad>", "<eos>", "<bos>", "<unk>"), norm=normalizers.Replace(" ", BLOCK), cut=pre.Split(" ", "merged_with_previous"),
        bos="<bos>", train_cut=False, n=1000),
    "unigram": lambda: unigram(False, normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]),
                               pre.Metaspace(replacement=BLOCK, prepend_scheme="always", split=True),
                               special("<s>", "</s>", "<unk>") + [AddedToken("<mask>", lstrip=True, special=True)]),
    "unigram-bytes": lambda: unigram(True, normalizers.Sequence([normalizers.NFC(), normalizers.Strip(left=True, right=True)]),
                                     pre.Sequence([pre.WhitespaceSplit(), pre.Metaspace(replacement=BLOCK, prepend_scheme="first")]),
                                     special("<s>", "</s>")),
    # no family's: every flag of added tokens, and what is left of normalizers and pre-tokenizers
    "flags": lambda: bytes_bpe(pre.Sequence([pre.Whitespace(), pre.Punctuation("merged_with_previous"), pre.Digits(individual_digits=False),
                                             split("[aeiou]{2,}", "contiguous"), pre.Split("th", "merged_with_next"),
                                             pre.ByteLevel(add_prefix_space=False, use_regex=False)]), [
        AddedToken("ADDED", normalized=True), AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False),
        AddedToken("WORD", single_word=True, normalized=False), AddedToken("is", single_word=True, normalized=True, lstrip=True),
        AddedToken("</s>", special=True, normalized=False, rstrip=True)],
        norm=normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase(), normalizers.Strip(left=True, right=False)])),
}


BOS = {"llama3": 640, "tekken": 1, "llama2": 1, "mistral": 1, "gemma": 2}


# ---- GGUF: SentencePiece with scores ----

def sentencepiece_gguf(name, prefix):
    import gguf
    import sentencepiece as sp
    from sentencepiece import sentencepiece_model_pb2 as pb
    prefix_of = "/tmp/kvt-" + name
    sp.SentencePieceTrainer.train(
        sentence_iterator=iter([s for s in common(corpus(), 300) if s.strip()]), model_prefix=prefix_of, model_type="bpe",
        vocab_size=900, byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=prefix, character_coverage=0.99,
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, max_sentence_length=100000,
        num_threads=1, minloglevel=2,
        user_defined_symbols=[] if prefix else ["<start_of_turn>", "<end_of_turn>", "<div>"])
    model = pb.ModelProto()
    model.ParseFromString(open(prefix_of + ".model", "rb").read())
    w = gguf.GGUFWriter(os.path.join(HERE, name + ".bin"), "llama")
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list([p.piece for p in model.pieces])
    w.add_token_scores([p.score for p in model.pieces])
    w.add_token_types([int(p.type) for p in model.pieces])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_space_prefix(prefix)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    return prefix_of + ".model"


GGUFS = {"spm-llama": True, "spm-gemma": False}


# ---- cuts of GGUF's pre-tokenizers ----

GPT2 = ENGLISH + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
HAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
CUTS = {  # llama.cpp's expressions, or those of the models' own tokenizer.json where it quotes them beside its own
    "smollm": [r"\p{N}", GPT2], "gpt-2": [GPT2], "qwen2": [NEWER % r"\p{N}"], "llama-bpe": [NEWER % r"\p{N}{1,3}"],
    "dbrx": [NEWER % r"\p{N}{1,3}"], "tekken": [CASED % ("", "", r"\p{N}")],
    "qwen35": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
               r"|\s+(?!\S)|\s+"],
    "gpt-4o": [CASED % (f"(?i:{ENGLISH})?", f"(?i:{ENGLISH})?", r"\p{N}{1,3}")],
    "deepseek-llm": ["[\r\n]", rf"\s?[{LETTERS}]+", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", HAN,
                     r"\p{N}+"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN, r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "bailingmoe": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    "seed-coder": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
}


def ends(name, text):
    """The bytes at which the pieces of a text end."""
    at = [0]
    for c in text:
        at.append(at[-1] + len(c.encode()))
    return [at[end] for _, (_, end) in pre.Sequence([split(r) for r in CUTS[name]]).pre_tokenize_str(text)] if text else []


def write_cuts():
    with open(os.path.join(HERE, "cuts.txt"), "w") as out:
        all_lines = lines()
        for name in CUTS:
            hashes = []
            for i in range(0, N_LINES, 32):
                hashes.append(f"{fnv([e for text in all_lines[i:i + 32] for e in ends(name, text)]):06x}")
            out.write(name + " " + " ".join(hashes) + "\n")


# ---- writing ----

def fnv(numbers):
    h = 0x811C9DC5
    for byte in b"".join(t.to_bytes(4, "little") for t in numbers):
        h = (h ^ byte) * 0x01000193 % 2**32
    return h % 2**24


def library(name):
    """text -> ids"""
    if name in FOLDERS:
        tok = Tokenizer.from_file(os.path.join(HERE, name, "tokenizer.json"))
        def encode(text):
            ids = tok.encode(text).ids
            return ids[1:] if ids[:2] == [BOS.get(name)] * 2 else ids  # ours adds no second BOS
        return encode
    import sentencepiece as sp
    proc = sp.SentencePieceProcessor(model_file=f"/tmp/kvt-{name}.model")
    control = {"<unk>": 0, "<s>": 1, "</s>": 2}  # sentencepiece knows no control tokens in a text; llama.cpp cuts them out first

    def scores(text):
        ids = []
        for part in re.split("(<unk>|</?s>)", text):
            ids += [control[part]] if part in control else proc.encode(part)
        return ids if ids[:1] == [1] else [1] + ids
    return scores


def write_ids(name):
    encode = library(name)
    with open(os.path.join(HERE, name + ".ids"), "w") as out:
        for i, text in enumerate(lines()):
            ids = encode(text)
            out.write(f"{fnv(ids):06x}" + (" " + " ".join(map(str, ids)) if i % 128 == 0 else "") + "\n")


def write(name):
    if name in GGUFS:
        sentencepiece_gguf(name, GGUFS[name])
    else:
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        j = json.loads(FOLDERS[name]().to_str())
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as out:
            json.dump(j, out, ensure_ascii=False, separators=(",", ":"))
    write_ids(name)


def main():
    a = sys.argv[1:]
    if a and a[0] == "--line":
        print(lines()[int(a[1])].encode().hex())
    elif a and a[0] == "--show":
        print(*library(a[1])(lines()[int(a[2])]))
    elif a and a[0] == "--cuts":
        print(*ends(a[1], lines()[int(a[2])]))
    elif a and a[0] == "--ids":
        write_ids(a[1])
    else:
        for name in a or [*FOLDERS, *GGUFS]:
            write(name)
        write_cuts()


if __name__ == "__main__":
    main()
