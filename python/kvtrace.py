"""Traces of kvtrace in Python, over h5py and numpy alone: reads them, and writes them for models that kvtrace doesn't run.

    import kvtrace
    t = kvtrace.Trace("run.h5")
    t.token_text, t.spans, [b.name for b in t.branches]
    t.score("mass")                  # [layer, head, key]
    t.kept(1, step=0)                # bool [layer, kv_head, token]: what branch 1 held after the prefill

    kvtrace.write("mine.h5", token_text=[...], shape=(L, H, G, D), branches=[dict(name="mine 50%", kept=bool_array)], mass=...)

A written trace passes `kvinfo --check` and opens in every tool. See docs/reading.md and docs/trace-format.md. Licence: Apache-2.0.
"""
import datetime
import os
from collections import namedtuple

import h5py
import numpy as np

MAJOR = 1
NOT_YET = -2**31  # evicted_at of a token that was never generated
REASONS = ("left by score", "kept by score", "kept with its unit", "left with its unit", "kept as recent or observation window",
           "kept as protected", "left as its unit did not fit", "kept as nothing had to go")

Span = namedtuple("Span", "name kind parent start end byte_start byte_end")
Branch = namedtuple("Branch", "number name method canonical schedule asked_keep asked_tok")


def _text(v):
    return v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v)


class Trace:
    """One prompt of a trace. Arrays come as numpy's, read when they are asked for."""

    def __init__(self, path, prompt=None):
        path = os.fspath(path)
        if not os.path.exists(path) and os.path.exists(path + ".part"):
            path += ".part"  # of a run that goes on, or was killed (kvinfo --repair makes it an ordinary file)
        self.path, self.file = path, h5py.File(path, "r")
        major = int(self.file.attrs.get("schema_version", 0))
        if not _text(self.file.attrs.get("Conventions", b"")).startswith("kvtrace-") or major < 1:
            raise ValueError(f"{path} is no trace of kvtrace")
        if major > MAJOR:
            raise ValueError(f"{path} has format version {major}; this module knows {MAJOR}")
        prompts = self.file["prompt"]
        self.h5 = p = prompts[prompt if prompt is not None else sorted(prompts)[0]]
        self.attrs = {k: _text(v) if isinstance(v, bytes) else v for k, v in p.attrs.items()}
        self.L, self.H, self.G = len(p["layer"]), len(p["head"]), len(p["kv_head"])
        self.D, self.V = int(p.attrs["head_dim"]), int(p.attrs["vocabulary"])
        self.n_prompt, self.n_context = len(p["prompt_token"]), len(p["context"]) if "context" in p else 0
        self.n_steps, self.status = int(p["steps_done"][()]), _text(p["status"][()])
        self.text = _text(p["text"][()])
        self.token_id = p["tokens/id"][:]
        self.token_text = [_text(s) for s in p["tokens/text"][:]]
        self.byte_range = np.stack([p["tokens/byte_start"][:], p["tokens/byte_end"][:]], 1)
        s = p["spans"] if "spans" in p else None
        self.spans = [Span(_text(s["name"][i]), _text(s["kind"][i]), *(int(s[k][i]) for k in Span._fields[2:]))
                      for i in range(len(p["span"]))] if s else []
        self.branches = []
        for b in range(len(p["branch"])):
            a = p[f"branches/{b:02d}"].attrs
            self.branches.append(Branch(b, *(_text(a[k]) for k in ("name", "method", "canonical", "schedule")),
                                        float(a["asked_keep"]), int(a["asked_tok"])))

    def close(self):
        self.file.close()

    __enter__ = lambda self: self
    __exit__ = lambda self, *_: self.close()

    def __getitem__(self, path):
        """A dataset below /prompt/<id>, as t["steps/kl"]."""
        return self.h5[path]

    def number(self, branch):
        """Of a branch given by its number or name."""
        if not isinstance(branch, str):
            return int(branch)
        for b in self.branches:
            if b.name == branch:
                return b.number
        raise KeyError(f"no branch {branch!r}; there are {[b.name for b in self.branches]}")

    def score(self, what, window=None):
        """Raw scores of the prefill: mass, last, entropy, sink [layer, head, token]; wmass of a window's length."""
        d = self.h5[f"score/{what}"]
        if what != "wmass":
            return d[:]
        windows = list(self.h5["window"][:])
        return d[windows.index(window) if window is not None else 0]

    def evicted_at(self, branch):
        return self.h5[f"branches/{self.number(branch):02d}/evicted_at"][:]

    def kept(self, branch, step=0):
        """bool [layer, kv_head, token]: what the branch holds after its step-th token, of all tokens that exist then."""
        lost = self.evicted_at(branch)[:, :, :self.n_prompt + step]
        return (lost == -1) | (lost > step)

    def final_score(self, branch):
        """(score [layer, kv_head, token of the context], threshold [layer, kv_head]) as ranked at prefill's end."""
        b = self.h5[f"branches/{self.number(branch):02d}"]
        return b["score"][:], b["threshold"][:]

    def reason(self, branch):
        return self.h5[f"branches/{self.number(branch):02d}/reason"][:]

    def map(self, layer, head=slice(None), what="mean"):
        """Pooled attention [head,] query bin, key bin; NaN where no causal pair lies."""
        d = self.h5[f"map/{what}"]
        return d[layer, head].astype("f4") * np.float32(d.attrs.get("scale_factor", 1))

    def full(self, layer):
        """Every attention row of a layer that was recorded whole: float32 [head, query, key]."""
        d = self.h5["full/attention"]
        at = list(self.h5["full_layer"][:]).index(layer)
        return d[at].astype("f4") * np.float32(d.attrs["scale_factor"])

    def dump(self, what, layer, rotated=False):
        """Queries, keys or values ("q", "k", "v") of the prefill in a layer that --dump recorded: float32 [head or kv_head, token, channel],
        channels in Hugging Face's order; NaN behind what was prefilled."""
        at = list(self.h5["vector_layer"][:]).index(layer)
        return self.h5[f"dump/{what}{'_rotated' if rotated else ''}"][at]

    # ---- for other tools --------------------------------------------------------------------------------------------

    def kvpress_mask(self, branch, layer, step=0):
        """kvpress's `module.masked_key_indices` for a layer's attention: indices (batch, kv head, slot) of what was lost."""
        head, slot = np.nonzero(~self.kept(branch, step)[layer])
        return np.zeros_like(head), head, slot

    def _attention(self, layer):
        if "full" in self.h5 and layer in self.h5["full_layer"][:]:
            return self.full(layer), self.token_text
        first = self.h5["key_bin"][:]
        a = np.nan_to_num(self.map(layer))
        return a, [self.token_text[min(i, self.n_prompt - 1)] for i in first]

    def circuitsvis(self, layer):
        """Arguments of circuitsvis.attention.attention_patterns(**...): full rows where recorded, else pooled maps."""
        a, tokens = self._attention(layer)
        return {"tokens": tokens, "attention": a}

    def bertviz(self, layers=None):
        """Arguments of bertviz.head_view or model_view(**...): a tensor [1, head, query, key] for each layer."""
        import torch
        pairs = [self._attention(l) for l in (range(self.L) if layers is None else layers)]
        return {"attention": tuple(torch.from_numpy(np.ascontiguousarray(a))[None] for a, _ in pairs), "tokens": pairs[0][1]}


# ---- writing ------------------------------------------------------------------------------------------------------------

_TYPES = {"u8": "u1", "i32": "<i4", "i64": "<i8", "u64": "<u8", "f16": "<f2", "f32": "<f4", "f64": "<f8"}


def _schema():
    dims, data, attrs, minor = {}, [], [], 0
    for line in SCHEMA.strip("\n").split("\n"):
        f = line.split("\t")
        if f[0] == "version":
            minor = int(f[2])
        elif f[0] == "d":
            dims[f[1]] = f[2:]
        elif f[0] == "v":
            data.append(dict(zip("path type len dims unit fill store when meaning".split(), f[1:])))
        elif f[0] == "a":
            attrs.append(f[1:])
    return dims, data, attrs, minor


def _fixed(text, n):
    dtype = h5py.string_dtype("utf-8", max(n, 1))
    return dtype, np.array(text.encode()[:n], dtype=dtype)


def _put_attr(at, name, value, kind):
    if kind == "STR":
        dtype, v = _fixed(str(value), len(str(value).encode()))
        at.attrs.create(name, v, dtype=dtype)
    else:
        at.attrs.create(name, value, dtype={"I64": "<i8", "U64": "<u8", "F64": "<f8"}[kind])


def _put(p, d, path, extents, text_len, value, scales):
    dims = d["dims"].split(",") if d["dims"] else []
    shape = tuple(extents[x] for x in dims)
    if d["type"] == "text":
        n = int(d["len"]) if int(d["len"]) > 0 else text_len[int(d["len"])]
        dtype, fill = h5py.string_dtype("utf-8", n), None
    else:
        dtype, fill = np.dtype(_TYPES[d["type"]]), {"": None, "NaN": np.nan}.get(d["fill"], d["fill"])
    how = {}
    if dims and d["store"] != "inplace":
        how = dict(chunks=tuple(min(n, 256) for n in shape), shuffle=True, compression="gzip", compression_opts=1)
    ds = p.create_dataset(path, shape, dtype=dtype, fillvalue=None if fill is None else dtype.type(float(fill)), **how)
    ds.attrs["long_name"] = d["meaning"]
    if d["unit"]:
        ds.attrs["units"] = d["unit"]
    for i, x in enumerate(dims):
        ds.dims[i].attach_scale(scales[x])
        ds.dims[i].label = x
    if value is None:
        return ds
    if d["type"] == "text":
        value = np.array([v.encode()[:n] for v in ([value] if not dims else value)], dtype=dtype).reshape(shape)
    else:
        value = np.asarray(value, dtype=dtype).reshape(shape)
    ds.write_direct(np.ascontiguousarray(value)) if dims else ds.id.write(h5py.h5s.ALL, h5py.h5s.ALL, np.asarray(value, dtype=dtype), ds.id.get_type())
    return ds


def write(path, token_text, shape, branches=(), token_id=None, text=None, byte_range=None, n_context=None, spans=(), vocabulary=0, windows=(),
          full_layers=(), steps=0, kv_type="", datasets=None, prompt="0", **more):
    """A trace of what another program found.

    token_text   the prompt's tokens; text and byte_range (n, 2) say where they lie, by default one after the other
    shape        (layers, query heads, kv heads, head dim)
    branches     dicts: name; kept, bool [layer, kv_head, n_context], or evicted_at [layer, kv_head, token + steps]; and, where known,
                 method, canonical, asked_keep, score, threshold, reason. Branch 0, never compressed, comes by itself.
    n_context    tokens that methods may evict, from the first on; by default all
    spans        Span tuples, or (name, kind, parent, start, end)
    mass, last, entropy, sink    [layer, head, token]; wmass [window, layer, head, token] with the windows' lengths
    full         [full_layers, head, query, key] attention, and full_layers which layers these are
    datasets     {path: array} of anything else of docs/trace-format.md
    Other keywords are attributes of the prompt, as model_name="..." and protocol="...".
    """
    dims, schema, attributes, minor = _schema()
    L, H, G, D = shape
    n, C = len(token_text), len(token_text) if n_context is None else n_context
    given = dict(datasets or {})
    for key in ("mass", "wmass", "last", "entropy", "sink"):
        if more.get(key) is not None:
            given[f"score/{key}"] = more[key]
        more.pop(key, None)
    full = more.pop("full", None)
    if text is None:
        text = "".join(token_text)
    if byte_range is None:
        ends = np.cumsum([len(t.encode()) for t in token_text])
        byte_range = np.stack([np.concatenate([[0], ends[:-1]]), ends], 1)
    spans = [s if len(s) == 7 else (*s, int(byte_range[s[3], 0]), int(byte_range[max(s[3], s[4] - 1), 1])) for s in spans]
    names = [b["name"] for b in branches]
    if len(set(names) | {"full"}) != len(names) + 1:
        raise ValueError("branches need names of their own, and none is 'full'")
    everything = dict(name="full", method="full", canonical="full", asked_keep=1.0, kept=np.ones((L, G, C), bool))
    branches = [everything, *({"method": b["name"], "canonical": b["name"], **b} for b in branches)]
    B = len(branches)
    extents = dict(layer=L, head=H, kv_head=G, prompt_token=n, query=n, key=n, context=C, token=n + steps, step=steps, branch=B,
                   window=len(windows), span=len(spans), phase=1, full_layer=len(full_layers) if full is not None else 0,
                   full_head=H if full is not None else 0)
    token_len = max([len(t.encode()) for t in token_text] + [4])
    text_len = {-1: max(len(text.encode()), 1), -2: token_len, -3: 16}
    kept = np.zeros(B, "i8")
    history = []
    for i, b in enumerate(branches):
        if b.get("evicted_at") is None:
            at = np.full((L, G, n + steps), -1, "i4")
            at[:, :, :C][~np.asarray(b["kept"], bool)] = 0
        else:
            at = np.asarray(b["evicted_at"], "i4")
        history.append(at)
        held = (at[:, :, :C] == -1) | (at[:, :, :C] > 0)
        kept[i] = held.sum()
        if b.get("reason") is None:  # the tools ask what was protected: nothing that we know of
            b["reason"] = np.full(held.shape, 7, "u1") if held.all() else held.astype("u1")
    values = {"status": "complete", "steps_done": steps, "text": text, "tokens/id": np.arange(n) if token_id is None else token_id,
              "tokens/text": token_text, "tokens/byte_start": byte_range[:, 0], "tokens/byte_end": byte_range[:, 1],
              "result/kept_slots": kept, "result/context_slots": np.full(B, L * G * C), "result/effective_keep": kept / max(L * G * C, 1),
              "result/text": [""] * B, "result/score_rows": [G if b.get("score") is not None else 0 for b in branches], **given}
    for i, key in enumerate(Span._fields):
        values[f"spans/{key}"] = [s[i] for s in spans]
    if full is not None:
        values["full/attention"] = (np.asarray(full, "f4") * 32768).astype("f2")
        values["full/rows"] = np.full((len(full_layers), H), n)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    known = dict(Conventions=f"kvtrace-{MAJOR}", schema_version=MAJOR, schema_minor=minor, creator="kvtrace.py", creator_version="1",
                 commit="", file_time=now, created=now, head_dim=D, vocabulary=vocabulary, protocol="literature", decode="forced",
                 full_branch="ran", shot_order="file", kv_type=kv_type, n_sink=4)
    known.update(windows="none", **more)
    with h5py.File(path, "w") as f:
        p = f.create_group(f"prompt/{prompt}")
        scales = {}
        for x, (unit, meaning) in dims.items():
            if not extents.get(x):
                continue
            v = {"step": np.arange(1, steps + 1), "window": np.asarray(windows), "full_layer": np.asarray(full_layers)}.get(x, np.arange(extents[x]))
            scales[x] = p.create_dataset(x, data=v.astype("<i4"))
            scales[x].make_scale(x)
            scales[x].attrs["units"], scales[x].attrs["long_name"] = unit, meaning
        for d in schema:
            need = [extents.get(x, 0) for x in d["dims"].split(",") if x]
            if d["path"].startswith("branches/"):
                for i, b in enumerate(branches):
                    own = d["path"][9:]
                    at = history[i]
                    v = {"evicted_at": at, "kept_tok": ((at[:, :, :C] == -1) | (at[:, :, :C] > 0)).sum(-1)}.get(own, b.get(own))
                    if all(need) and (d["when"] == "always" or any(x.get(own) is not None for x in branches)):
                        _put(p, d, f"branches/{i:02d}/{own}", extents, text_len, v, scales)
            elif all(need) and (d["when"] == "always" or d["path"] in given):
                ds = _put(p, d, d["path"], extents, text_len, values.get(d["path"]), scales)
                if d["type"] == "f16":
                    ds.attrs.create("scale_factor", 1 / 32768, dtype="<f8")
        for where, name, kind in attributes:
            if where == "BRANCH":
                for i, b in enumerate(branches):
                    v = {"asked_keep": np.nan, "asked_tok": int(kept[i] // (L * G)), "schedule": "prefill", "renumbered": 0, "asked": ""}
                    _put_attr(p[f"branches/{i:02d}"], name, b.get(name, v.get(name, "")), kind)
            else:
                _put_attr(f if where == "FILE" else p, name, known.get(name, "" if kind == "STR" else 0), kind)


def scores(attentions, windows=(32,), n_sink=4):
    """What write() takes as raw scores, from a model's attentions: one [1, head, query, key] for each layer (output_attentions)."""
    out = {k: [] for k in ("mass", "last", "entropy", "sink", "wmass")}
    for a in attentions:
        a = np.asarray(a.detach().cpu().float() if hasattr(a, "detach") else a, "f8")[0]
        out["mass"].append(a.sum(1))
        out["last"].append(a[:, -1])
        out["entropy"].append(-(a * np.log(np.where(a > 0, a, 1))).sum(-1))
        out["sink"].append(a[:, :, :n_sink].sum(-1))
        out["wmass"].append([a[:, -w:].sum(1) for w in windows])
    out = {k: np.asarray(v, "f4") for k, v in out.items()}
    out["wmass"] = out["wmass"].swapaxes(0, 1)
    return {**out, "windows": windows, "n_sink": n_sink}


def kvpress_kept(press, model, ids):
    """(kept bool, score) [layer, kv_head, token] of a kvpress press that ranks slots, from one prefill of ids [1, T]."""
    import torch
    seen = []
    score = press.score
    press.score = lambda *a, **k: seen.append(score(*a, **k)) or seen[-1]
    try:
        with torch.no_grad(), press(model):
            model(ids, use_cache=True)
    finally:
        press.score = score
    s = np.stack([x[0].float().cpu().numpy() for x in seen])
    kept = np.zeros(s.shape, bool)
    n = int(s.shape[-1] * (1 - press.compression_ratio))
    order = torch.stack([x[0] for x in seen]).topk(n, dim=-1).indices.cpu().numpy()
    np.put_along_axis(kept, order, True, -1)
    return kept, s


# The table of docs/trace-format.md, as `kvinfo --schema --format tsv` prints it (tests/cli/python.sh compares the two).
SCHEMA = """
version	1	3
d	layer	1	layer
d	head	1	query head
d	kv_head	1	kv head; query head h reads kv head h / (heads / kv heads)
d	prompt_token	token	token of the prompt
d	query	token	position that attends (row)
d	key	token	position attended to (column)
d	context	token	position of the context, from which methods may evict
d	token	token	position in a branch: the prompt, then the branch's own tokens
d	step	1	generated token, counted from 1; its position is the prompt's length + step - 1
d	branch	1	branch; 0 is never compressed
d	window	token	length of the observation window: rows summed
d	query_bin	token	first query of the bin; query q lies in bin floor(q * bins / tokens prefilled)
d	key_bin	token	first key of the bin; key k lies in bin floor(k * bins / tokens prefilled)
d	distance	token	first distance of the bin, query less key: 0 to 8 one by one, then 9 to 15, 16 to 31, 32 to 63 ...
d	offset	token	distance asked for, query less key
d	query_span	1	span that attends, an index of spans/
d	key_span	1	span attended to, an index of spans/
d	rank	1	place among the largest of a row, from 0
d	late_row	token	position of one of the prefill's last rows
d	square	1	sum of squares, or of positions, that a method ranks by
d	question	token	position of a token of the question, fed again over the uncompressed context
d	full_layer	1	layer of which every attention row was recorded
d	full_head	1	query head of which every attention row was recorded
d	vector_layer	1	layer of which queries, keys or values were recorded
d	channel	1	value of a query, key or value vector
d	span	1	span of the prompt
d	phase	1	phase, in order of its end
d	row_distance	token	the same bins of the rows of generated tokens, which reach further
d	event	1	timed part of the work, in the order in which parts ended; those from timeline/count on don't exist
d	call	1	call of an operation of the device, in order; those from timeline/calls/count on don't exist
d	record	1	what the device did, in order of its start; those from timeline/device/count on don't exist
d	name	1	name of an operation, a kernel, or a kind of copy, wait or overhead
v	status	text	16				inplace	always	in_progress, complete, interrupted or failed
v	steps_done	i32	0		token		inplace	always	generated tokens recorded so far
v	dropped	i64	0		1		inplace	always	maps and runs of rows that were lost because the writer's ring was full (only with the policy `drop`)
v	kv_peak_bytes	i64	0		byte	-1	inplace	always	the most KV bytes that all branches together ever held, as the page allocator counted them
v	beyond_f16	i64	0		1	-1	inplace	always	sums of products that were too large for `compute` f16 and so were taken in f64
v	logits_hash	u64	0		1		inplace	always	FNV-1a of the uncompressed branch's last logits: equal runs give equal hashes
v	model_sha256	text	64				inplace	always	SHA-256 of the files with the weights, one after the other in the order of their names; empty until it is known
v	text	text	-1				inplace	always	the prompt, byte for byte
v	tokens/id	i32	0	prompt_token	1	-1	packed	always	token id
v	tokens/text	text	-2	prompt_token			packed	always	the token, readable
v	tokens/byte_start	i32	0	prompt_token	byte	-1	packed	always	first byte of the token in `text`
v	tokens/byte_end	i32	0	prompt_token	byte	-1	packed	always	first byte after the token
v	spans/name	text	24	span			packed	always	as in "shot 3"
v	spans/kind	text	16	span			packed	always	system, shot, question, rationale, answer, prompt, sentence, number, operator, delimiter ...
v	spans/parent	i32	0	span	1	-1	packed	always	enclosing span, -1: none
v	spans/start	i32	0	span	token	-1	packed	always	first token
v	spans/end	i32	0	span	token	-1	packed	always	first token after the span
v	spans/byte_start	i32	0	span	byte	-1	packed	always	first byte in `text`
v	spans/byte_end	i32	0	span	byte	-1	packed	always	first byte after the span
v	score/mass	f32	0	layer,head,key	1	NaN	summed	asked	attention received, summed over all rows of the prefill
v	score/wmass	f32	0	window,layer,head,key	1	NaN	summed	asked	attention received, summed over the last `window` rows
v	score/last	f32	0	layer,head,key	1	NaN	summed	asked	attention in the last row
v	score/entropy	f32	0	layer,head,query	nat	NaN	summed	asked	entropy of each row
v	score/sink	f32	0	layer,head,query	1	NaN	summed	asked	share of each row that lies on the first n_sink tokens
v	score/visible	f32	0	layer,head,key	1	NaN	summed	asked	attention received, mean over the rows of the prefill that could see the key
v	score/square	f32	0	layer,head,key	1	NaN	summed	asked	squares of attention received, summed over all rows of the prefill
v	score/max	f32	0	layer,head,key	1	NaN	summed	asked	largest attention received in any row
v	score/keys	f32	0	layer,head,query	1	NaN	summed	asked	effective number of keys of each row: e to its entropy
v	score/local	f32	0	layer,head,query	1	NaN	summed	asked	share of each row that lies on its n_local newest keys, its own included
v	score/distance	f32	0	layer,head,distance	1	NaN	inplace	always	share of a row on keys at each distance, mean over the rows that see at least 32 keys; sums to 1
v	score/offset	f32	0	layer,head,offset	1	NaN	inplace	always	attention at one distance, mean over the rows that see at least 32 keys and reach so far
v	score/spans	f32	0	layer,head,query_span,key_span	1	NaN	inplace	always	share of a row on the keys of a span, mean over the rows of another; NaN: none of them was prefilled
v	score/top	f32	0	layer,head,query,rank	1	NaN	summed	always	largest attention of each row, descending; 0 where the row sees fewer keys
v	score/top_at	i32	0	layer,head,query,rank	token	-1	summed	always	their keys; of equal ones the earlier first; -1 where the row sees fewer
v	map/mean	f16	0	layer,head,query_bin,key_bin	1	NaN	blocks	always	attention, mean over the causal pairs of a bin; value = stored * scale_factor; NaN where it has none
v	map/max	f16	0	layer,head,query_bin,key_bin	1	NaN	blocks	always	attention, largest of a bin; value = stored * scale_factor; NaN where it has no causal pair
v	full/attention	f16	0	full_layer,full_head,query,key	1		tiles	always	attention of every pair; value = stored * scale_factor (f16 alone is too coarse below 6e-5); a row sums to 1, one of zeros was not recorded
v	full/rows	i32	0	full_layer,full_head	1		inplace	always	rows of the map that were recorded
v	dump/q	f32	0	vector_layer,head,query,channel	1	NaN	whole	asked	queries of the prefill as projected, biased and normed, before rotation; channels in Hugging Face's order
v	dump/q_rotated	f32	0	vector_layer,head,query,channel	1	NaN	whole	asked	queries as attention took them; equal to dump/q in layers without rotation
v	dump/k	f32	0	vector_layer,kv_head,key,channel	1	NaN	whole	asked	keys of the prefill, before rotation; channels in Hugging Face's order
v	dump/k_rotated	f32	0	vector_layer,kv_head,key,channel	1	NaN	whole	asked	keys as they went to the cache, which rounds them to kv_type
v	dump/v	f32	0	vector_layer,kv_head,key,channel	1	NaN	whole	asked	values of the prefill, before the cache rounds them to kv_type
v	steps/token	i32	0	step,branch	1	-1	inplace	always	token appended to the branch: the uncompressed branch's own, where teacher-forced
v	steps/text	text	-2	step,branch			inplace	always	`token`, readable
v	steps/argmax	i32	0	step,branch	1	-1	inplace	always	token that the branch itself would have said
v	steps/logprob	f32	0	step,branch	nat	NaN	inplace	always	ln p(`token`)
v	steps/kl	f32	0	step,branch	nat	NaN	inplace	always	KL(uncompressed, branch) over the whole vocabulary, on the same tokens
v	steps/entropy	f32	0	step,branch	nat	NaN	inplace	always	entropy of the branch's next-token distribution
v	steps/alone_bytes	i64	0	step,branch	byte	-1	inplace	always	KV bytes that the branch would hold by itself, after this step
v	steps/own_bytes	i64	0	step,branch	byte	-1	inplace	always	KV bytes that no other branch shares, after this step
v	steps/held_bytes	i64	0	step	byte	-1	inplace	always	KV bytes of the whole run, shared ones once, after this step
v	steps/step_ns	i64	0	step	ns	-1	inplace	always	time of the step, all branches
v	fidelity/lost_mass	f32	0	step,branch,layer,kv_head	1	NaN	inplace	asked	share of the uncompressed branch's attention row that lies on slots the branch lost; row of the step's token, mean over the query group
v	fidelity/lost_rest	f32	0	step,branch,layer,kv_head	1	NaN	inplace	asked	the same of rows without the first n_sink tokens, renormalised
v	fidelity/output_local	f32	0	step,branch,layer	1	NaN	inplace	asked	relative L2 error of the layer's attention when the uncompressed branch's own q, K and V are restricted to the slots the branch holds
v	fidelity/output_propagated	f32	0	step,branch,layer	1	NaN	inplace	asked	relative L2 error of the attention that the branch really computed, against the uncompressed branch's
v	decode/attention	f32	0	step,layer,head,token	1		whole	asked	attention of the uncompressed branch, row of the step's token, by position; it sees itself and all tokens before it (in a window layer the newest); 0 elsewhere, and in steps that didn't come
v	replay/question	f32	0	question,layer,head,token	1		whole	asked	the same of the question's rows, where it is fed again over the uncompressed context
v	replay/rows	f32	0	layer,head,late_row,key	1		whole	asked	attention of the prefill's last rows
v	replay/row_sums	u8	0	late_row	1	255	inplace	asked	in what order the backend adds rows up into score/mass and score/wmass: 0 to the partial sum of the row before, 1 it begins one, 2 it begins a strip of them; partial sums are added up to their strip's from 0, strips one by one; 255: not told
v	replay/later	f32	0	layer,head,key	1	NaN	packed	asked	attention received from the rows after the end of the key's shot; 0 outside shots
v	replay/squares	f32	0	square,layer,head,key	1	NaN	packed	asked	squares of attention received, or attention times the row's position, summed over some rows
v	replay/square_window	i32	0	square	token	-1	inplace	asked	the last rows that count; 0: all
v	replay/square_distance	i32	0	square	token	-1	inplace	asked	rows fewer than this many after the key don't count
v	replay/square_by_pos	u8	0	square	1	255	inplace	asked	1: attention times the row's position
v	replay/key_norm	f32	0	layer,kv_head,token	1	NaN	inplace	asked	Euclidean norm of the cached key
v	replay/out_norm	f32	0	layer,kv_head,context	1	NaN	inplace	asked	||W_O v||_1 of the cached value, mean over the query heads of its kv head; 0 in layers that are left alone
v	replay/acts	u8	0	layer	1		inplace	asked	1: methods act on the layer; 0: it is left alone
v	decode/entropy	f32	0	step,layer,head	nat	NaN	inplace	asked	entropy of the uncompressed branch's row of the step's token; likewise all of decode/
v	decode/keys	f32	0	step,layer,head	1	NaN	inplace	asked	effective number of keys of the row: e to its entropy
v	decode/first	f32	0	step,layer,head	1	NaN	inplace	asked	the row's attention to the first token
v	decode/sink	f32	0	step,layer,head	1	NaN	inplace	asked	share of the row that lies on the first n_sink tokens
v	decode/local	f32	0	step,layer,head	1	NaN	inplace	asked	share of the row that lies on its n_local newest keys, its own included
v	decode/own	f32	0	step,layer,head	1	NaN	inplace	asked	share of the row that lies on generated tokens, its own included
v	decode/distance	f32	0	step,layer,head,row_distance	1	NaN	inplace	asked	share of the row on keys at each distance; sums to 1
v	decode/offset	f32	0	step,layer,head,offset	1	NaN	inplace	asked	the row's attention at one distance; NaN where it doesn't reach so far
v	decode/spans	f32	0	step,layer,head,key_span	1	NaN	inplace	asked	share of the row on the keys of a span
v	decode/top	f32	0	step,layer,head,rank	1	NaN	inplace	asked	largest attention of the row, descending; 0 where it sees fewer keys
v	decode/top_at	i32	0	step,layer,head,rank	token	-1	inplace	asked	their keys; of equal ones the earlier first; -1 where the row sees fewer
v	free/token	i32	0	step,branch	1	-1	inplace	always	free-running token; -1 up to the first step that differs from the uncompressed branch, and where none was made
v	free/text	text	-2	step,branch			inplace	always	the free-running token, readable
v	free/logprob	f32	0	step,branch	nat	NaN	inplace	always	its ln p
v	phases/name	text	16	phase			inplace	always	prefill, evict, question, decode, repeat (KVzip) or oracle
v	phases/start_ns	i64	0	phase	ns	-1	inplace	always	start, monotonic clock
v	phases/duration_ns	i64	0	phase	ns	-1	inplace	always	duration
v	phases/tokens	i32	0	phase	token	-1	inplace	always	tokens processed
v	timeline/count	i64	0		1		inplace	always	timed parts that were recorded
v	timeline/lost	i64	0		1		inplace	always	timed parts that found no room
v	timeline/part	u8	0	event	1	255	packed	always	what was timed: 0 a layer's norm, q, k, v, rotation and cache; 1 its attention; 2 what is done with that (events, per-step eviction); 3 its output projection; 4 its feed-forward; 5 logits; 6 scoring, 7 selecting, 8 compacting of a branch, at prefill's end or in a step; 9 a lockstep step; 10 a message going into the file, on a thread of its own; 11 scoring, selecting and compacting in one
v	timeline/layer	i32	0	event	1	-1	packed	always	its layer; -1: all or none
v	timeline/branch	i32	0	event	1	-1	packed	always	its branch; -1: all together
v	timeline/step	i32	0	event	1	-1	packed	always	its decode step; 0: before the first
v	timeline/start_ns	i64	0	event	ns	-1	packed	always	start, monotonic clock
v	timeline/duration_ns	i64	0	event	ns	-1	packed	always	duration
v	timeline/calls/count	i64	0		1		inplace	asked	calls of operations that were recorded
v	timeline/calls/lost	i64	0		1		inplace	asked	calls that found no room: what the device did for them has no call
v	timeline/calls/operation	i32	0	call	1	-1	packed	asked	index of timeline/names: the operation, as kernels/ops.h calls it
v	timeline/calls/phase	u8	0	call	1	255	packed	asked	0 prefill, 1 evict, 2 question, 3 decode, 4 repeat (KVzip), 5 oracle; 255: before the first
v	timeline/calls/layer	i32	0	call	1	-1	packed	asked	its layer; -1: none
v	timeline/calls/step	i32	0	call	1	-1	packed	asked	its decode step; 0: before the first
v	timeline/calls/branches	u64	0	call			packed	asked	bit b: for branch b (63: for that one or a later one); 0: for all
v	timeline/calls/bytes	i64	0	call	byte	-1	packed	asked	the least it must move, by the shapes of its arguments (docs/measures.md); -1: not modelled
v	timeline/calls/start_ns	i64	0	call	ns	-1	packed	asked	start of the call on the host, monotonic clock
v	timeline/calls/duration_ns	i64	0	call	ns	-1	packed	asked	its duration there: the device may work on
v	timeline/device/count	i64	0		1		inplace	asked	records of the device
v	timeline/device/lost	i64	0		1		inplace	asked	records that found no room
v	timeline/device/dropped	i64	0		1		inplace	asked	records that CUPTI lost
v	timeline/device/damaged	i64	0		1		inplace	asked	buffers of CUPTI that ended before their time
v	timeline/device/cupti	i64	0				inplace	asked	version of CUPTI (cuptiGetVersion); 0: the profile didn't run to its end
v	timeline/device/bandwidth	f64	0		byte/s		inplace	asked	of the device's memory by its clock and width; 0: not known
v	timeline/device/real_start_ns	i64	0		ns		inplace	asked	CLOCK_REALTIME when the profile began
v	timeline/device/monotonic_start_ns	i64	0		ns		inplace	asked	CLOCK_MONOTONIC then
v	timeline/device/real_end_ns	i64	0		ns		inplace	asked	CLOCK_REALTIME when it ended
v	timeline/device/monotonic_end_ns	i64	0		ns		inplace	asked	CLOCK_MONOTONIC then; CUPTI's times, which follow CLOCK_REALTIME, were taken to this clock by the two pairs
v	timeline/device/kind	u8	0	record	1	255	packed	asked	0 kernel, 1 copy, 2 set, 3 a wait of the host, 4 overhead of the driver or of CUPTI
v	timeline/device/name	i32	0	record	1	-1	packed	asked	index of timeline/names
v	timeline/device/call	i32	0	record	1	-1	packed	asked	call that it was done for; -1: none is known
v	timeline/device/stream	i32	0	record	1	-1	packed	asked	CUPTI's number of its stream
v	timeline/device/bytes	i64	0	record	byte	-1	packed	asked	copied or set; -1: a kernel, a wait
v	timeline/device/start_ns	i64	0	record	ns	-1	packed	asked	start, monotonic clock; -1: no time was taken
v	timeline/device/duration_ns	i64	0	record	ns	-1	packed	asked	duration
v	timeline/names	text	96	name			packed	asked	names that calls and records refer to
v	result/effective_keep	f64	0	branch	1	NaN	inplace	always	share of the context really kept, over all layers and kv heads, after prefill
v	result/kept_slots	i64	0	branch	1	-1	inplace	always	slots of the context kept, summed over layers and kv heads
v	result/context_slots	i64	0	branch	1	-1	inplace	always	slots of the context, summed over layers and kv heads
v	result/fallback	u8	0	branch	1		inplace	always	1: the method's own allocation was impossible and its fallback was used
v	result/note	text	192	branch			inplace	always	why, in words
v	result/host_ns	i64	0	branch	ns		inplace	always	waited at prefill's end for a score that is a C loop on the host; 0: the backend made it
v	result/score_rows	i32	0	branch	1		inplace	always	different rows in a layer of `score`: kv heads, or 1 where all heads share one set; 0: it ranks nothing
v	result/bytes_after	i64	0	branch	byte	-1	inplace	always	KV bytes that the branch would hold by itself, after prefill-end eviction
v	result/bytes_peak	i64	0	branch	byte	-1	inplace	always	the most KV bytes that the branch held by itself: the whole prefill, or with prefill_chunk a chunk before its eviction; or a step
v	result/diverged	i32	0	branch	1	-1	inplace	always	first free-running step whose token differs from the uncompressed branch's; 0: none, -1: not known
v	result/mean_kl	f64	0	branch	nat	NaN	inplace	always	mean of steps/kl
v	result/top1	f64	0	branch	1	NaN	inplace	always	share of teacher-forced steps at which the branch's choice is the uncompressed branch's
v	result/lost_mass	f64	0	branch	1	NaN	inplace	asked	mean of fidelity/lost_mass over steps, layers and kv heads
v	result/lost_rest	f64	0	branch	1	NaN	inplace	asked	mean of fidelity/lost_rest
v	result/regret	f64	0	branch	1	NaN	inplace	asked	result/lost_mass less that of the oracle of the same unit, allocation, schedule and budget; NaN: there is none
v	result/output_local	f64	0	branch	1	NaN	inplace	asked	mean of fidelity/output_local over steps and layers
v	result/output_propagated	f64	0	branch	1	NaN	inplace	asked	mean of fidelity/output_propagated
v	result/text	text	-3	branch			packed	always	text generated freely
v	branches/evicted_at	i32	0	layer,kv_head,token	1	-2147483648	history	always	when the token was lost: -1 still held; 0 at prefill's end, or while the question was fed; k after the branch's k-th token; -2-c after prefill chunk c; -2147483648 never generated
v	branches/score	f32	0	layer,kv_head,context	1	NaN	packed	asked	final score as ranked, after pooling and reduction over query heads; NaN where nothing is ranked
v	branches/threshold	f32	0	layer,kv_head	1	NaN	inplace	asked	lowest score kept for its score; inf: none was
v	branches/reason	u8	0	layer,kv_head,context	1	255	packed	asked	why a slot stayed or left: 0 left by score, 1 kept by score, 2 kept with its unit, 3 left with its unit, 4 kept as recent or observation window, 5 kept as protected, 6 left as its unit did not fit, 7 kept as nothing had to go, 255 not decided
v	branches/budget_tok	i32	0	layer,kv_head	token	-1	inplace	always	tokens asked of the cell, after rounding and allocation
v	branches/kept_tok	i32	0	layer,kv_head	token	-1	inplace	always	tokens really kept
a	FILE	Conventions	STR
a	FILE	schema_version	I64
a	FILE	schema_minor	I64
a	FILE	creator	STR
a	FILE	creator_version	STR
a	FILE	commit	STR
a	FILE	file_time	STR
a	PROMPT	command_line	STR
a	PROMPT	created	STR
a	PROMPT	model_name	STR
a	PROMPT	model_arch	STR
a	PROMPT	model_path	STR
a	PROMPT	model_type	STR
a	PROMPT	config_sha256	STR
a	PROMPT	model_bytes	I64
a	PROMPT	tokenizer	STR
a	PROMPT	head_dim	I64
a	PROMPT	vocabulary	I64
a	PROMPT	protocol	STR
a	PROMPT	decode	STR
a	PROMPT	compute	STR
a	PROMPT	rope	STR
a	PROMPT	full_branch	STR
a	PROMPT	shot_order	STR
a	PROMPT	windows	STR
a	PROMPT	kv_type	STR
a	PROMPT	backend	STR
a	PROMPT	device	STR
a	PROMPT	threads	I64
a	PROMPT	seed	U64
a	PROMPT	n_sink	I64
a	PROMPT	n_local	I64
a	PROMPT	ring_policy	STR
a	BRANCH	name	STR
a	BRANCH	method	STR
a	BRANCH	canonical	STR
a	BRANCH	asked_keep	F64
a	BRANCH	asked_tok	I64
a	BRANCH	schedule	STR
a	BRANCH	renumbered	I64
a	BRANCH	replayed	STR
a	BRANCH	asked	STR
"""
