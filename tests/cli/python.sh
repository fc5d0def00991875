# Python on a trace: the snippet opens the very file, numpy reads what was exported as what h5py reads.
. "$here/try"
with_python h5py numpy || skip "no python3 with h5py and numpy (scripts/deps.sh test; or name one in KVT_PYTHON)"
mktrace made.h5 L=2 n_new=3
cp made.h5 "a \"name\" é.h5"
for file in made.h5 "a \"name\" é.h5" "$trace"; do
    kvinfo "$file" --snippet >snippet.py
    [ "$(wc -l <snippet.py)" -eq 5 ] || echo "not five lines"
    "$python" snippet.py || echo "the snippet of $file fails"
done
kvinfo made.h5 --export score/mass -o mass.npy
kvinfo made.h5 --export full/attention -o full.npy
"$python" - <<'END' || echo "numpy reads something else"
import h5py, numpy
p = h5py.File("made.h5")["prompt/0"]
assert (numpy.load("mass.npy") == p["score/mass"][:]).all()
f = p["full/attention"]
assert numpy.array_equal(numpy.load("full.npy"), f[:].astype("f4") * numpy.float32(f.attrs["scale_factor"]), equal_nan=True)
END
# queries and keys of a file give the attention of the same file: heads, tokens and channels lie where they should. f16 keeps 11 bits
kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question Why? -n 1 --kv-type f32 --maps full --layers 1 --dump q,k,v -o vectors.h5 >/dev/null
PYTHONPATH=$here/../../python PYTHONDONTWRITEBYTECODE=1 "$python" - <<'END' || echo "queries and keys don't give the attention"
import kvtrace, numpy as np
t = kvtrace.Trace("vectors.h5")
q, k = t.dump("q", 1, rotated=True), np.repeat(t.dump("k", 1, rotated=True), t.H // t.G, 0)
s = np.where(np.tri(t.n_prompt, dtype=bool), q @ k.swapaxes(1, 2) / np.sqrt(t.D), -np.inf)
a = np.exp(s - s.max(-1, keepdims=True))
assert np.abs(a / a.sum(-1, keepdims=True) - t.full(1)).max() < 2**-11 and t.dump("v", 1).shape == (t.G, t.n_prompt, t.D)
assert np.allclose(np.linalg.norm(t.dump("q", 1), axis=-1), np.linalg.norm(q, axis=-1), rtol=1e-4)  # a rotation
END
kvinfo --check vectors.h5
# python/kvtrace.py reads what kvtrace wrote, and what it writes is sound and opens in the tools
PYTHONPATH=$here/../../python PYTHONDONTWRITEBYTECODE=1 "$python" - <<'END' || echo "kvtrace.py fails"
import h5py, kvtrace, numpy as np
t = kvtrace.Trace("made.h5")
print(t.L, t.H, t.G, t.n_prompt, t.n_context, t.status, len(t.spans), [b.name for b in t.branches][1:3])
lost = t.evicted_at("snapkv 25%")
assert (t.kept(1)[:, :, :180].sum(-1) == t["branches/01/kept_tok"][:]).all() and t.kept(6, step=3).shape == (2, 2, 203)
assert t.kept(6, step=3).sum() == (t.kept(6).sum() + 4 * 3 - 4 * 3)  # h2o: gains a token, loses one
assert np.allclose(t.score("mass").sum(-1), 200, rtol=1e-4) and np.allclose(t.full(1).sum(-1), 1, atol=2e-3)
b, h, s = t.kvpress_mask(1, 0)
assert len(b) == len(h) == len(s) == (~t.kept(1)[0]).sum() and (lost[0][h, s] == 0).all()
assert t.circuitsvis(1)["attention"].shape == (6, 200, 200) and len(t.circuitsvis(0)["tokens"]) == 25
rng = np.random.default_rng(0)
a = np.tril(rng.random((2, 4, 20, 20)))
a /= a.sum(-1, keepdims=True)
kept = rng.random((2, 2, 16)) < 0.5
kvtrace.write("mine.h5", [f" w{i}\u00e9" for i in range(20)], (2, 4, 2, 8), [dict(name="mine 50%", asked_keep=0.5, kept=kept, score=rng.random((2, 2, 16))), dict(name="other 50%", asked_keep=0.5, kept=~kept)],
              n_context=16, full=a, full_layers=[0, 1], vocabulary=100, spans=[("shot 1", "shot", -1, 0, 5)],
              **kvtrace.scores([x[None] for x in a], windows=(4, 8)))
m = kvtrace.Trace("mine.h5")
assert (m.kept(1)[:, :, :16] == kept).all() and np.allclose(m.full(1), a[1], atol=1e-3) and m.token_text[3] == " w3\u00e9"
with h5py.File("newer.h5", "w") as f:
    f.attrs["Conventions"], f.attrs["schema_version"] = np.bytes_("kvtrace-2"), 2
try:
    kvtrace.Trace("newer.h5")
except ValueError as e:
    print(e)
END
kvinfo --check mine.h5
kvoverlap mine.h5 >/dev/null && kvcoherence mine.h5 >/dev/null
exit 0
