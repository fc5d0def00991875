# kvinfo --export and --snippet: a dataset by its name in three forms, and the way into the very file from Python.
. "$here/try"
mktrace made.h5 L=2 n_new=3
kvinfo made.h5 --export branches/06/kept_tok
kvinfo made.h5 --export window --as json
kvinfo made.h5 --export tokens/text | sed -n 1,6p
kvinfo made.h5 --export status --as json
kvinfo made.h5 --export score/mass -o mass.npy
head -c 10 mass.npy | od -An -c
wc -c <mass.npy
try "a name that isn't there" kvinfo made.h5 --export score/mas
try "a branch that isn't there" kvinfo made.h5 --export branches/44/score
try "what this trace hasn't" kvinfo made.h5 --export fidelity/lost_mass
try "a folder that isn't there" kvinfo made.h5 --export score/mass -o no/where.npy
try "a form without a name" kvinfo made.h5 --as npy
try "two at a time" kvinfo made.h5 --export score/mass --check
try "full" sh -c 'kvinfo made.h5 --export score/mass >/dev/full'
cp made.h5 "a \"name\" é.h5"
kvinfo "a \"name\" é.h5" --snippet
exit 0
