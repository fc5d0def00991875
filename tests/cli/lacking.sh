# A sound trace that lacks what is asked for: one line with what to trace again, and with which flag. Runs that can't be compared: the
# difference, and --force.
. "$here/try"
run() { kvtrace -q -m "$model" --shots "$here/shots.jsonl" -n 2 --ignore-end --force "$@" >/dev/null; }
run --question Why? --method 'snapkv[w=8]' --keep 25% --no-scores --maps none -o bare.h5
run --question Who? --method 'snapkv[w=8],h2o' --keep 25% -o who.h5
run --question "Who came?" --method 'snapkv[w=8],h2o' --keep 25% -o came.h5
run --question Why? -o none.h5
head -c 600 "$here/shots.jsonl" >plain.txt
kvtrace -q -m "$model" -f plain.txt --window 8 -n 2 --ignore-end --method 'snapkv[w=8]' --keep 25% -o plain.h5 >/dev/null
for show in layers labels sinks distances spans shots; do try "attn $show" kvattn bare.h5 --show $show; done
for show in methods budgets scores clusters future; do try "overlap $show" kvoverlap bare.h5 --show $show; done
for figure in heatmap lorenz lost; do try "plot $figure" kvplot $figure bare.h5 -o p.svg; done
for tool in kvcoherence kvoverlap "kvoverlap --show sets"; do
    # shellcheck disable=SC2086  # words
    try "no method, $tool" $tool none.h5
done
try "no spans, kvcoherence" kvcoherence plain.h5
try "two questions" kvoverlap who.h5 came.h5 --show traces
try "by force" kvoverlap who.h5 came.h5 --show traces --force
kvtrace -q --shots "$here/shots.jsonl" --question Who? -n 2 --method 'snapkv[w=8],h2o' --keep 25% -o model.h5 >/dev/null
try "two models" kvoverlap who.h5 model.h5
