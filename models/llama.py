"""A Llama in functions: shapes, first weights, the forward pass. Weights are a dictionary by the names that Hugging Face's folders use.

x (N, E) are all tokens of a batch of B rows of T, N = B T; only attention knows rows. So what stands around attention has one shape for
every T and is compiled once."""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

ROPE, EPS, CONTEXT = 10000.0, 1e-5, 2048


@dataclass(frozen=True)
class Shape:
    vocab: int
    layers: int = 4
    width: int = 256
    heads: int = 4
    kv: int = 2
    head: int = 64
    ff: int = 512
    tied: bool = False


def weights_of(s):
    """Name to shape, in a fixed order."""
    out = {"model.embed_tokens.weight": (s.vocab, s.width)}
    for i in range(s.layers):
        at = f"model.layers.{i}."
        out[at + "input_layernorm.weight"] = (s.width,)
        out[at + "self_attn.q_proj.weight"] = (s.heads * s.head, s.width)
        out[at + "self_attn.k_proj.weight"] = (s.kv * s.head, s.width)
        out[at + "self_attn.v_proj.weight"] = (s.kv * s.head, s.width)
        out[at + "self_attn.o_proj.weight"] = (s.width, s.heads * s.head)
        out[at + "post_attention_layernorm.weight"] = (s.width,)
        out[at + "mlp.gate_proj.weight"] = (s.ff, s.width)
        out[at + "mlp.up_proj.weight"] = (s.ff, s.width)
        out[at + "mlp.down_proj.weight"] = (s.width, s.ff)
    out["model.norm.weight"] = (s.width,)
    if not s.tied:
        out["lm_head.weight"] = (s.vocab, s.width)
    return out


def count(s):
    return sum(math.prod(shape) for shape in weights_of(s).values())


def look_back(s, weights, distances):
    """Makes query heads 0, 1 ... of layer 0 look so many tokens back: channel 0 of every embedding is the same, queries and keys read that channel
    alone, and the query is turned by the distance. Copying needs such heads, and waits long for them when they must be found."""
    weights["model.embed_tokens.weight"][:, 0] = 0.4
    q, k = (weights[f"model.layers.0.self_attn.{m}_proj.weight"] for m in "qk")
    half = s.head // 2
    freq = ROPE ** (-torch.arange(half).float() / half)
    size = 0.8 * (freq > 0.2)
    for h, back in enumerate(distances):
        q[h * s.head:(h + 1) * s.head] *= 0.1
        q[h * s.head:h * s.head + half, 0] = size * torch.cos(back * freq)
        q[h * s.head + half:(h + 1) * s.head, 0] = -size * torch.sin(back * freq)
    for g in sorted({h * s.kv // s.heads for h in range(len(distances))}):
        k[g * s.head:(g + 1) * s.head] *= 0.1
        k[g * s.head:g * s.head + half, 0], k[g * s.head + half:(g + 1) * s.head, 0] = size, 0


def rest_on_first(s, weights, layer, head, bos=0):
    """Makes a query head begin as a sink: only BOS has something in channel 1, keys read that, queries the channel that all embeddings have. Both lie in the
    slowest pair of rotated channels, which 2,048 positions hardly turn."""
    weights["model.embed_tokens.weight"][:, :2] = torch.tensor((0.4, 0.0))
    weights["model.embed_tokens.weight"][bos, 1] = 4.0
    q, k = (weights[f"model.layers.{layer}.self_attn.{m}_proj.weight"] for m in "qk")
    at, group = head * s.head + s.head // 2 - 1, head * s.kv // s.heads * s.head + s.head // 2 - 1
    q[at], k[group] = 0, 0
    q[at, 0], k[group, 1] = 4, 2


def first_weights(s, seed, device, look=(), sinks=()):
    """f32. What writes into the residual stream begins small, so that deep models begin as shallow ones."""
    g, out = torch.Generator().manual_seed(seed), {}
    for name, shape in weights_of(s).items():
        if len(shape) == 1:
            out[name] = torch.ones(shape)
            continue
        std = 0.05 if "embed" in name else 0.02 if "lm_head" in name else 1 / math.sqrt(shape[1])
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            std *= 0.5 / math.sqrt(s.layers)
        out[name] = torch.randn(shape, generator=g) * std
    if look:
        look_back(s, out, look)
    for layer, head in sinks:
        rest_on_first(s, out, layer, head)
    return {n: w.to(device) for n, w in out.items()}


def rope(s, rows, length, device):
    """cos and sin (N, 1, D/2), f32, of rows of `length` positions."""
    angle = torch.arange(length, device=device).float()[:, None] * ROPE ** (-torch.arange(0, s.head, 2, device=device).float() / s.head)
    angle = angle.repeat(rows, 1)[:, None]
    return angle.cos(), angle.sin()


def norm(x, w):
    """RMSNorm in f32."""
    return F.rms_norm(x, (x.shape[1],), w, EPS)


def turn(x, cos, sin):
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def before(x, w, wq, wk, wv, cos, sin, head):
    """What attention reads: q (N, H, D), k and v (N, G, D)."""
    h = norm(x, w).to(wq.dtype)
    q, k, v = [F.linear(h, m).view(x.shape[0], -1, head) for m in (wq, wk, wv)]
    return turn(q, cos, sin), turn(k, cos, sin), v


def after(x, a, wo, w, gate, up, down):
    """Attention's output a (N, H D) into the residual stream, then the gated feed-forward."""
    x = x + F.linear(a, wo)
    h = norm(x, w).to(gate.dtype)
    return x + F.linear(F.silu(F.linear(h, gate)) * F.linear(h, up), down)


def attend(q, k, v, rows, mask=None):
    """Causal attention within each row; mask (T, T) or (rows, 1, T, T), true where a key may be seen, instead of the causal one."""
    N, H, D = q.shape
    group = H // k.shape[1]
    q, k, v = (t.view(rows, N // rows, -1, D).transpose(1, 2) for t in (q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)))
    a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return a.transpose(1, 2).reshape(N, H * D)


def first_mass(q, k, rows, mask, head, step=8):
    """Logarithm of the weight on token 0 in every `step`-th row of a query head, from row 8 on: (rows, T / step)."""
    N, H, D = q.shape
    q, k = q[:, head].view(rows, N // rows, D)[:, step::step], k[:, head * k.shape[1] // H].view(rows, N // rows, D)
    return ((q @ k.transpose(1, 2)).float() / math.sqrt(D) + mask[:, 0, step::step]).log_softmax(-1)[:, :, 0]


def hidden(s, w, ids, cos, sin, mask=None, before=before, after=after, see=None):
    """ids (B, T) to the normed residual stream (N, E). `before` and `after` may be compiled ones; see(layer, q, k) sees what attention reads."""
    table = w["model.embed_tokens.weight"]
    # As a product: backward is a product too, not a scatter of many thousand equal tokens.
    which = ids.reshape(-1, 1) == torch.arange(s.vocab, device=ids.device)
    x = (which.to(table.dtype) @ table).float()
    for i in range(s.layers):
        at = f"model.layers.{i}."
        q, k, v = before(x, w[at + "input_layernorm.weight"], w[at + "self_attn.q_proj.weight"], w[at + "self_attn.k_proj.weight"],
                         w[at + "self_attn.v_proj.weight"], cos, sin, s.head)
        a = attend(q, k, v, ids.shape[0], mask)
        if see:
            see(i, q, k)
        x = after(x, a, w[at + "self_attn.o_proj.weight"], w[at + "post_attention_layernorm.weight"], w[at + "mlp.gate_proj.weight"],
                  w[at + "mlp.up_proj.weight"], w[at + "mlp.down_proj.weight"])
    return norm(x, w["model.norm.weight"]).to(table.dtype)


def logits(s, w, h):
    return F.linear(h, w["model.embed_tokens.weight" if s.tied else "lm_head.weight"])
