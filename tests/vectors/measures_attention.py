"""kvattn's numbers of a prefill, computed from a trace by plain numpy, from docs/measures.md, section 6, alone; entropy by scipy."""
import itertools
import math

import numpy as np
from scipy.stats import entropy

from measures import nan


def attention(t):
    """{name: (L, H)} of every head."""
    d, n = {k[6:]: v.astype("f8") for k, v in t.data.items() if k.startswith("score/")}, t.prompt
    sees = np.arange(1, n + 1)
    enough = sees >= 32
    rows = lambda what: what[:, :, enough].mean(-1)
    out = dict(evenness=rows(d["entropy"][:, :, :] / np.log(np.maximum(sees, 2))), effective_keys=rows(d["keys"]), sink_first=d["visible"][:, :, 0],
               sinks=rows(d["sink"]), local=rows(d["local"]), self=d["distance"][:, :, 0], previous=d["distance"][:, :, 1])
    s = int(t.attrs["n_sink"])

    def hold(mass, share):
        return ((np.cumsum(-np.sort(-mass, axis=-1), -1) < share * mass.sum(-1, keepdims=True)).sum(-1) + 1) / mass.shape[-1]
    for percent in (60, 90, 99):
        out[f"hold_{percent}"] = hold(d["mass"], percent / 100)
        out[f"hold_{percent}_rest"] = hold(d["mass"][:, :, s:], percent / 100)
    for name, m in (("participation", d["mass"]), ("participation_rest", d["mass"][:, :, s:])):
        out[name] = m.sum(-1) ** 2 / (m.shape[-1] * (m ** 2).sum(-1))
    return out


LABELS = {"sink": ("sink_first", 0.3), "previous": ("previous", 0.4), "local": ("local", 0.6), "uniform": ("evenness", 0.9)}


def attn_layers(traces):
    m = attention(traces[0])
    return {(str(l),): {k: v[l].mean() for k, v in m.items()} for l in range(traces[0].L)}


def attn_heads(traces):
    t, m = traces[0], attention(traces[0])
    return {(str(l), str(h)): dict({k: v[l, h] for k, v in m.items()}, labels=",".join(x for x, (k, at) in LABELS.items() if m[k][l, h] > at))
            for l in range(t.L) for h in range(t.H)}


def attn_labels(traces):
    t, m, out = traces[0], attention(traces[0]), {}
    for x, (k, at) in LABELS.items():
        l, h = np.unravel_index(m[k].argmax(), m[k].shape)
        out[x,] = dict(threshold=at, heads=(m[k] > at).sum(), share=(m[k] > at).mean(), strongest=f"layer {l} head {h}", its_score=m[k].max(),
                         heads_decode=nan, heads_both=nan) # traces without decoded rows
    return out


def attn_gates(t):
    m = attention(t)
    return np.maximum(0, 1 - m["sinks"] - m["local"]).reshape(t.L, t.G, t.H // t.G).mean(-1)


def attn_sinks(traces):
    t = traces[0]
    v = t.data["score/visible"].astype("f8")
    over = (v > 0.3).sum((0, 1))
    return {(str(j),): dict(heads=over[j], share=over[j] / (t.L * t.H), most=v[:, :, j].max())
            for j in range(t.prompt - 31) if over[j]}


def attn_distances(traces):
    t = traces[0]
    return {(str(l), str(h), str(f)): dict(mass=t.data["score/distance"][l, h, i])
            for l in range(t.L) for h in range(t.H) for i, f in enumerate(t.data["distance"])}


def again(seen, key):
    """Names that come twice: the second is key#2."""
    k = 1
    while key in seen:
        k += 1
        key = (*key[:-1], f"{key[-1].split('#')[0]}#{k}")
    return key


def attn_spans(traces):
    t, out = traces[0], {}
    look = [t.spans[i] for i in t.data["query_span"]]
    v = t.data["score/spans"].astype("f8").mean((0, 1))
    for i, j in itertools.product(range(len(look)), repeat=2):
        if look[j]["start"] < look[i]["end"]:
            out[again(out, (look[i]["name"], look[j]["name"]))] = dict(mass=v[i, j], per_token=v[i, j] / (look[j]["end"] - look[j]["start"]))
    return out


def attn_shots(traces):
    t, out = traces[0], {}
    look = [t.spans[i] for i in t.data["query_span"]]
    question = next(i for i, s in enumerate(look) if s["kind"] == "prompt")
    shots = [i for i, s in enumerate(look) if s["kind"] == "shot"]
    k = np.array([look[i]["end"] - look[i]["start"] for i in shots])
    for l in range(t.L):
        for h in range(t.H):
            a = t.data["score/spans"][l, h, question, shots].astype("f8")
            q = a / k / (a / k).sum()
            out[str(l), str(h)] = dict(selectivity=1 - entropy(q) / math.log(len(q)), on_shots=a.sum(), best_shot=look[shots[a.argmax()]]["name"],
                                       best_share=a.max() / a.sum())
    return out


def question_rows(t):
    """{name: (L, H)}: where the question's rows go."""
    look = [t.spans[i] for i in t.data["query_span"]]
    v = t.data["score/spans"].astype("f8")[:, :, next(i for i, s in enumerate(look) if s["kind"] == "prompt")]
    of = {kind: [i for i, s in enumerate(look) if s["kind"] == kind] for kind in ("system", "shot", "prompt")}
    out = {f"question: on_{name}": v[:, :, of[kind]].sum(-1) for name, kind in (("system", "system"), ("shots", "shot"), ("question", "prompt")) if of[kind]}
    q = v[:, :, of["shot"]] / np.array([look[i]["end"] - look[i]["start"] for i in of["shot"]])
    out["question: selectivity"] = 1 - entropy(q, axis=-1) / math.log(q.shape[-1])
    return out


def attn_compare(traces):
    a, b = ({**attention(t), **question_rows(t)} for t in traces[:2])
    out = {}
    for k in a:
        d = (a[k] - b[k]).ravel()
        out[k,] = dict(a=a[k].mean(), b=b[k].mean(), difference=d.mean(), effect=d.mean() / d.std(ddof=1), heads=d.size)
    return out
