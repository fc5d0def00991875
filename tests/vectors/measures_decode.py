"""kvattn --show decode and change, computed from the uncompressed branch's rows of generated tokens (--see decode,rows), not from what the
trace says that they come to; from docs/measures.md, section 6, alone."""
import math

import numpy as np
from scipy.stats import entropy

from measures import nan
from measures_attention import LABELS, attention


def selectivity(a, k):
    """Of weights (..., shot) on shots of k tokens."""
    q = a / k
    return 1 - entropy(q / q.sum(-1, keepdims=True), axis=-1) / math.log(len(k))


def decode(t):
    """{name: (L, H)}: means over steps."""
    A = t.data["decode/attention"].astype("f8")  # step, layer, head, token
    p = t.prompt + np.arange(len(A))             # the row's own position
    H = entropy(A, axis=-1)
    far = p[:, None] - np.arange(A.shape[-1])
    part = lambda mask: (A * mask[:, None, None, :]).sum(-1).mean(0)
    at = lambda s: (np.arange(A.shape[-1]) >= s["start"]) & (np.arange(A.shape[-1]) < s["end"]) & (far >= 0)
    shots = [t.spans[i] for i in t.shots]
    question = next(s for s in t.spans if s["kind"] == "prompt")
    on = np.stack([part(at(s)) for s in shots], -1)
    return dict(evenness=(H / np.log(p + 1)[:, None, None]).mean(0), effective_keys=np.exp(H).mean(0), sink_first=A[..., 0].mean(0),
                sinks=A[..., :int(t.attrs["n_sink"])].sum(-1).mean(0), local=part((far >= 0) & (far < int(t.attrs["n_local"]))), self=part(far == 0),
                previous=part(far == 1), own=part((far >= 0) & (np.arange(A.shape[-1]) >= t.prompt)), on_shots=on.sum(-1), on_question=part(at(question)),
                selectivity=selectivity(on, np.array([s["end"] - s["start"] for s in shots])))


def prefill(t):
    """The same of the prompt: rows of averages, and the question's rows for where they go."""
    out = {k: v for k, v in attention(t).items()}
    look = [t.spans[i] for i in t.data["query_span"]]
    q = next(i for i, s in enumerate(look) if s["kind"] == "prompt")
    shots = [i for i, s in enumerate(look) if s["kind"] == "shot"]
    v = t.data["score/spans"].astype("f8")[:, :, q]
    return dict(out, own=np.full((t.L, t.H), nan), on_shots=v[..., shots].sum(-1), on_question=v[..., q],
                selectivity=selectivity(v[..., shots], np.array([look[i]["end"] - look[i]["start"] for i in shots])))


def labels(m, l, h):
    return ",".join(x for x, (k, at) in LABELS.items() if m[k][l, h] > at)


def attn_decode(traces):
    t, d, m = traces[0], decode(traces[0]), attention(traces[0])
    both = ("evenness", "sink_first", "sinks", "local", "previous", "effective_keys", "self")
    return {(str(l), str(h)): dict({k: m[k][l, h] for k in both}, **{k + "_decode": d[k][l, h] for k in both}, own=d["own"][l, h], labels=labels(m, l, h),
                                   labels_decode=labels(d, l, h)) for l in range(t.L) for h in range(t.H)}


def attn_change(traces):
    d, m, out = decode(traces[0]), prefill(traces[0]), {}
    for k in d:
        by = (d[k] - m[k]).ravel()
        known = not np.isnan(by).any()
        out[k,] = dict(decode=d[k].mean(), prefill=m[k].mean(), change=by.mean(), effect=by.mean() / by.std(ddof=1) if known else nan,
                       heads=by.size if known else 0)
    return out


def attn_own_answer(traces):
    """--show spans: the rows of generated tokens to each part of the prompt, and to themselves, mean over heads."""
    t, out = traces[0], {}
    A = t.data["decode/attention"].astype("f8").mean((0, 1, 2))
    for s in (t.spans[i] for i in t.data["key_span"]):
        key = ("own answer", s["name"])
        while key in out:
            key = (key[0], f"{s['name']}#{int(key[1].split('#')[1]) + 1 if '#' in key[1] else 2}")
        v = A[s["start"]:s["end"]].sum()
        out[key] = dict(mass=v, per_token=v / (s["end"] - s["start"]))
    v = A[t.prompt:].sum()
    out["own answer", "own answer"] = dict(mass=v, per_token=v / ((len(t.data["step"]) + 1) / 2))
    return out
