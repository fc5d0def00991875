#!/usr/bin/env python3
"""Makes the reference vectors that tests/parity compares the engine with.

usage: make_parity.py logits MODEL.gguf OUT_PREFIX PROMPT.txt...
       make_parity.py ids    MODEL.gguf OUT_PREFIX           (a tiny model: token ids made here, no text)
       make_parity.py kept   MODEL.gguf OUT_PREFIX PROMPT.txt...
       make_parity.py keptids MODEL.gguf OUT_PREFIX          (the same for a tiny model)
       make_parity.py codes   MODEL.gguf OUT_PREFIX CHECKOUTS PROMPT.txt...   (authors' codes and other presses)

The reference is transformers, reading the same GGUF with its weights dequantised to f32, eager attention; kept sets
are those of kvpress on that model. Formats and versions: README.md beside this file. Needs torch, transformers, gguf,
kvpress; the tests need none of them.
"""
import os
import struct
import sys
import time
import warnings
import zlib

warnings.filterwarnings("ignore")
import gguf
import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, DynamicCache

TOP = 20
N_GREEDY = 48
WINDOW = 32
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def load(path, attn):
    """The model in f32 and its file's CRC-32."""
    m = AutoModelForCausalLM.from_pretrained(os.path.dirname(os.path.abspath(path)), gguf_file=os.path.basename(path),
                                             dtype=torch.float32, attn_implementation=attn).eval()
    crc = 0
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return m, crc


def tokenizer(path):
    """The file's own tokenizer. AutoTokenizer isn't used: for `smollm` it leaves out the digit split that the file
    asks for (wrong ids at e.g. " \u00bd") and puts a BOS in front although the file says add_bos_token = false."""
    r = gguf.GGUFReader(path)
    get = lambda k: r.fields["tokenizer.ggml." + k].contents()
    if get("pre") not in ("smollm", "qwen2"):
        sys.exit("make_parity.py: only the pre-tokenizers smollm and qwen2 are known here")
    tokens, types = get("tokens"), get("token_type")
    t = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(tokens)},
                             merges=[tuple(m.split(" ")) for m in get("merges")]))
    if get("pre") == "smollm":
        parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    else:
        parts = [pre_tokenizers.Split(Regex(QWEN2), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence(parts)
    t.add_special_tokens([AddedToken(x, special=True, normalized=False) for x, k in zip(tokens, types) if k == 3])
    return t


def made_ids(vocab, n, seed):
    """n ids without a library's generator, with a repeat so that something attends far back."""
    x, out = seed, []
    for i in range(n):
        x = (x * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        out.append(out[i - n // 3] if i >= 2 * (n // 3) and n > 30 else (x >> 33) % vocab)
    return out


def pick_heads(L, H):
    """(layer, head) pairs that are looked at: spread over depth and heads; all of a tiny model."""
    if L * H <= 16:
        return [(l, h) for l in range(L) for h in range(H)]
    return [(i * (L - 1) // 7, (i * 5) % H) for i in range(8)]


@torch.no_grad()
def logits_vector(m, crc, text, ids, out, size):
    """Top log-probabilities of every position, greedy tokens, attention reductions of some heads -> one file."""
    c, n = m.config, len(ids)
    pairs = pick_heads(c.num_hidden_layers, c.num_attention_heads)
    seen, hooks = {}, []
    for l in sorted({l for l, _ in pairs}):
        def hook(mod, a, r, l=l):
            if r[1] is not None and r[1].shape[2] == n:
                seen[l] = r[1][0]
        hooks.append(m.model.layers[l].self_attn.register_forward_hook(hook))
    cache = DynamicCache()
    o = m(torch.tensor([ids]), past_key_values=cache)
    for h in hooks:
        h.remove()
    lg = o.logits[0]
    top_id, top_lp = [], []
    for i in range(0, n, 64):
        v, k = lg[i:i + 64].double().log_softmax(-1).topk(TOP, dim=-1)
        top_id.append(k.int())
        top_lp.append(v.float())
    top_id, top_lp = torch.cat(top_id), torch.cat(top_lp)
    greedy, margin, last = [], [], lg[-1]
    for i in range(N_GREEDY):
        v, k = last.topk(2)
        greedy.append(int(k[0]))
        margin.append(float(v[0] - v[1]))
        last = m(torch.tensor([[greedy[-1]]]), past_key_values=cache,
                 position_ids=torch.tensor([[n + i]])).logits[0, -1]
    w = min(WINDOW, n)
    with open(out, "wb") as f:
        b = text.encode() if text is not None else b""
        f.write(b"KVTPAR1\n" + struct.pack("<10i", len(b), n, c.vocab_size, TOP, N_GREEDY, len(pairs), w, text is not None,
                                           size, struct.unpack("<i", struct.pack("<I", crc))[0]))
        f.write(b + b"\0" * (-len(b) % 4))
        f.write(struct.pack(f"<{n}i", *ids))
        f.write(top_id.numpy().astype("<i4").tobytes() + top_lp.numpy().astype("<f4").tobytes())
        f.write(struct.pack(f"<{N_GREEDY}i", *greedy) + struct.pack(f"<{N_GREEDY}f", *margin))
        for l, h in pairs:
            a = seen[l][h].double()
            ent = -(a * a.clamp_min(1e-300).log()).sum(-1)
            f.write(struct.pack("<2i", l, h))
            for x in (a.sum(0), a[-w:].sum(0), a[-1], ent):
                f.write(x.float().numpy().astype("<f4").tobytes())
    print(f"{out}: {n} tokens, {os.path.getsize(out)} bytes, smallest greedy margin {min(margin):.4f}", file=sys.stderr)


def presses():
    """name of the reference, its maker, our method with the same parameters, how our budget is given."""
    from kvpress import ChunkKVPress, PyramidKVPress, SnapKVPress, StreamingLLMPress
    chunk = lambda r, w: ChunkKVPress(press=SnapKVPress(compression_ratio=r, window_size=w, kernel_size=5), chunk_length=20)
    return [("SnapKVPress", lambda r, w: SnapKVPress(compression_ratio=r, window_size=w, kernel_size=5),
             "snapkv[w={w},pool=avg5,group=mean]", "tokens"),
            ("StreamingLLMPress", lambda r, w: StreamingLLMPress(compression_ratio=r, n_sink=4), "streaming[sinks=4]", "tokens"),
            ("PyramidKVPress", lambda r, w: PyramidKVPress(compression_ratio=r, window_size=w // 4, kernel_size=5, beta=10),
             "pyramidkv[w={w4},pool=avg5,group=mean,beta=10,rule=kvpress]", "share"),
            ("ChunkKVPress", chunk, "chunkkv[chunk=20,count=kvpress,heads=shared,w={w},pool=avg5]", "share")]


def bitmap(pos, n):
    b = bytearray((n + 7) // 8)
    for i in pos:
        b[i >> 3] |= 1 << (i & 7)
    return bytes(b)


def write_kept(out, m, crc, size, text, ids, sets):
    """sets: name, our method, budget in tokens (-1: by share), share in millionths, L x G lists of positions."""
    c, n = m.config, len(ids)
    cells = c.num_hidden_layers * c.num_key_value_heads
    with open(out, "wb") as f:
        b = text.encode() if text is not None else b""
        f.write(b"KVTKEP2\n" + struct.pack("<8i", len(b), n, c.num_hidden_layers, c.num_key_value_heads, len(sets), text is not None, size,
                                           struct.unpack("<i", struct.pack("<I", crc))[0]))
        f.write(b + b"\0" * (-len(b) % 4) + struct.pack(f"<{n}i", *ids))
        for name, ours, tokens, ppm, kept in sets:
            if len(kept) != cells or len(name) > 63 or len(ours) > 159:
                sys.exit(f"make_parity.py: {name}: {len(kept)} cells, {len(ours)} characters of a method")
            bits = b"".join(bitmap(k, n) for k in kept)
            f.write(name.encode().ljust(64, b"\0") + ours.encode().ljust(160, b"\0") + struct.pack("<2i", tokens, ppm))
            f.write(struct.pack(f"<{cells}i", *map(len, kept)) + bits + b"\0" * (-len(bits) % 4))
            print(f"  {name}: {min(map(len, kept))}..{max(map(len, kept))} kept of {n}", file=sys.stderr)
    print(f"{out}: {os.path.getsize(out)} bytes", file=sys.stderr)


@torch.no_grad()
def run_press(m, x, press, row_of):
    """What a press keeps of a prompt, by matching key rows against the uncompressed cache: L x G lists of positions."""
    cache, n = DynamicCache(), x.shape[1]
    with press(m):
        m(x, past_key_values=cache, logits_to_keep=1)
    kept = []
    for l, layer in enumerate(m.model.layers):
        masked = getattr(layer.self_attn, "masked_key_indices", None)
        layer.self_attn.masked_key_indices = None
        for g in range(m.config.num_key_value_heads):
            if masked is not None:  # presses that only mask
                lost = {int(j) for h, j in zip(masked[1], masked[2]) if h == g}
                kept.append([j for j in range(n) if j not in lost])
                continue
            kept.append([row_of[l][g][r.numpy().tobytes()] for r in cache.layers[l].keys[0, g]])
            if len(set(kept[-1])) != len(kept[-1]):
                sys.exit("make_parity.py: two positions have the same key row")
    return kept


@torch.no_grad()
def rows_of(m, x):
    full = DynamicCache()
    m(x, past_key_values=full, logits_to_keep=1)
    c = m.config
    return [[{full.layers[l].keys[0, g, i].numpy().tobytes(): i for i in range(x.shape[1])} for g in range(c.num_key_value_heads)]
            for l in range(c.num_hidden_layers)]


def kept_vector(m, crc, text, ids, out, size, window):
    """What four presses of kvpress kept -> one file of bitmaps."""
    x, sets = torch.tensor([ids]), []
    row_of = rows_of(m, x)
    for name, make, ours, kind in presses():
        for removed in (.5, .75):
            kept = run_press(m, x, make(removed, window), row_of)
            # a budget in tokens: the reference's own count where all cells agree, else its mean
            tokens = round(sum(map(len, kept)) / len(kept)) if kind == "tokens" else -1
            sets.append((f"{name} remove {removed}", ours.format(w=window, w4=window // 4), tokens, round((1 - removed) * 1e6), kept))
    write_kept(out, m, crc, size, text, ids, sets)


class Seen:
    """A model's queries and keys as its attention gets them, in the shape of golden.Tensors."""

    def __init__(self, m, x):
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.integrations.sdpa_attention import sdpa_attention_forward
        from transformers.masking_utils import sdpa_mask
        c = m.config
        self.q, self.k, self.v, self.seed = [], [], [], 0
        self.L, self.H, self.G, self.n, self.D = c.num_hidden_layers, c.num_attention_heads, c.num_key_value_heads, x.shape[1], c.head_dim

        def look(module, q, k, v, mask, **kw):
            for to, what in ((self.q, q), (self.k, k), (self.v, v)):
                to.append(what[0].clone())
            return sdpa_attention_forward(module, q, k, v, mask, **kw)
        AttentionInterface.register("look", look)
        AttentionMaskInterface.register("look", sdpa_mask)
        m.set_attn_implementation("look")
        with torch.no_grad():
            m(x, logits_to_keep=1)
        m.set_attn_implementation("sdpa")

    def attention(self, l):
        a = self.q[l] @ self.k[l].repeat_interleave(self.H // self.G, 0).transpose(1, 2) / self.D**.5
        return torch.softmax(a.masked_fill(torch.triu(torch.ones(self.n, self.n, dtype=torch.bool), 1), float("-inf")), -1)


def codes_vector(m, crc, text, ids, out, size, root):
    """Other presses, and the authors' codes at kv heads on the model's own queries and keys, at a quarter kept."""
    import kvpress as kp
    import make_official as official
    import make_kvpress
    x, n, sets = torch.tensor([ids]), len(ids), []
    C, w = n // 4, 16
    row_of = rows_of(m, x)
    t = Seen(m, x)
    fac = official.load(root, "KVCache-Factory/pyramidkv/pyramidkv_utils.py")
    official.stub("flash_attn", "tiny_api_cuda")
    ada = official.load(root, "AdaKV/adaptive_snapkv/monkeypatch/snapkv_utils.py")
    L, group = t.L, t.H // t.G
    add = lambda name, ours, kept, tokens=C: sets.append((name, ours, tokens, 0 if tokens > 0 else 250000, kept))
    for agg in ("mean", "max"):
        add(f"KVCache-Factory snapkv kv_head {agg}", f"snapkv[w={w},pool=max7,group={agg},order=group-first]",
            official.prefill(t, lambda l: fac.SnapKVCluster(w, C, 7, "maxpool", gqa_score_agg=agg))[0])
    add("KVCache-Factory pyramidkv kv_head", f"pyramidkv[w={w},pool=max7,rule=official,order=group-first]",
        official.prefill(t, lambda l: fac.PyramidKVCluster(L, w, C, 7, "maxpool", layer_idx=l))[0])
    add("KVCache-Factory h2o kv_head", f"h2o[recent={w},schedule=prefill]", official.prefill(t, lambda l: fac.H2OKVCluster(w, C))[0])
    add("FFY0/AdaKV snapkv gqa_support", f"snapkv[w={w},pool=max7,order=group-first]", official.prefill(
        t, lambda l: ada.SnapKVCluster(w, C, 7, "maxpool", gqa_support=True, num_key_value_groups=group, gqa_func="mean"), "ada")[0])
    add("ObservedAttentionPress", "h2o[norm=visible,recent=0,schedule=prefill]", make_kvpress.run(kp.ObservedAttentionPress(1 - C / n - 1e-9), t)[0])
    less = 1 - C / n - 1e-9     # kvpress floors what is left of it to C
    press = lambda name, p, ours: add(name, ours, run_press(m, x, p, row_of))
    press("TOVAPress", kp.TOVAPress(less), "tova[schedule=prefill,recent=1]")
    press("KnormPress", kp.KnormPress(less), "my[score=knorm]")
    press("KeyDiffPress", kp.KeyDiffPress(less), "my[score=keydiff]")
    press("AdaKVPress(SnapKVPress)", kp.AdaKVPress(kp.SnapKVPress(less, w, 5)), f"adakv[w={w},pool=avg5,order=pool-first,head_rule=safeguard]")
    press("CriticalKVPress(SnapKVPress)", kp.CriticalKVPress(kp.SnapKVPress(less, w, 5)), f"criticalkv[w={w},pool=avg5]")
    press("ExpectedAttentionPress", kp.ExpectedAttentionPress(less), "my[score=expected,ahead=512,vnorm=1,protect=sink4]")
    press("LagKVPress", kp.LagKVPress(less, 4, 32), "my[score=lagkv,lag=32,protect=sink4]")
    write_kept(out, m, crc, size, text, ids, sets)


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in ("logits", "ids", "kept", "keptids", "codes"):
        sys.exit(__doc__)
    what, path, prefix, prompts = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    root = prompts.pop(0) if what == "codes" else None
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    start = time.time()
    m, crc = load(path, "eager" if what in ("logits", "ids") else "sdpa")
    size = os.path.getsize(path)
    if what in ("logits", "kept", "codes"):
        tok = tokenizer(path)
        for p in prompts:
            text = open(p, "rb").read().decode()
            ids = tok.encode(text, add_special_tokens=False).ids
            out = f"{prefix}-{os.path.basename(p).split('.')[0].split('_')[0]}.bin"
            if what == "logits":
                logits_vector(m, crc, text, ids, out, size)
            elif what == "kept":
                kept_vector(m, crc, text, ids, out, size, 64)
            else:
                codes_vector(m, crc, text, ids, out, size, root)
    elif what == "ids":
        for i, n in enumerate((50, 96, 203)):
            logits_vector(m, crc, None, made_ids(m.config.vocab_size, n, 7 + i), f"{prefix}-{n}.bin", size)
    else:
        kept_vector(m, crc, None, made_ids(m.config.vocab_size, 203, 11), f"{prefix}-203.bin", size, 16)
    print(f"{time.time() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
