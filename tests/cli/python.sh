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
exit 0
