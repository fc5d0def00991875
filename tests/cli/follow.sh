# A run seen while it is written: every layer, phase and step, once, in order, to its end, whatever that is.
. "$here/try"
(sleep 1; exec mktrace t.h5 n_new=12 step_us=30000 no_full=1) &
try "until it is complete" kvinfo --follow t.h5
wait
sed -n '1p; s/^step \(1\|12\) .*/&/p' try.stdout
awk '/^step/ && $2 != ++n { print "step", $2, "after", n - 1 } END { print n " steps" }' try.stdout
try "one that is there" kvinfo --follow t.h5
tail -n 1 try.stdout
{ sleep 1; exec mktrace killed.h5 n_new=12 step_us=100000 no_full=1; } &
run=$!
(while [ ! -e killed.h5.part ]; do sleep 0.01; done; sleep 0.4; kill -9 $run) &
try "until it dies" kvinfo --follow killed.h5
wait 2>/dev/null
try "with another form" kvinfo --follow --format tsv t.h5
exit 0
