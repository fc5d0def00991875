# Several prompts in one run: a file each, a master that joins them, and --resume that does what a killed run left undone, with
# the same datasets and attributes in the end as a run that nobody disturbed.
. "$here/try"
cat >p.jsonl <<'P'
{"id": "cat", "prompt": "The cat sat on the mat. The dog sat on the log."}
{"id": 7, "prompt": "The cow sat on the plough.", "question": "Who sat?"}
{"prompt": "The fox sat on the box and the cat sat on the mat.", "system": "Answer."}
{"id": "long", "prompt": "The hen sat on the pen and the bee sat on the tree and the owl sat on the towel and the rat sat on the hat."}
P
# exec: a kill must reach the program itself
started() { exec kvtrace -q -m "$model" -f p.jsonl --method 'snapkv[w=4],h2o,chunkkv[w=4,chunk=4]' --keep 30%,50% -n 60 --ignore-end --maps full -o run.h5 "$@"; }
run() (started "$@")
mkdir whole cut
cp p.jsonl whole
cp p.jsonl cut
cd whole || exit 1
try "undisturbed" run
ls ./*.h5
kvinfo --view run run.h5 | grep prompts
kvinfo --prompt 7 --view run run.h5 | grep '^tokens'
try "again" run
try "again, resumed" run --resume
try "with another command" run --resume --seed 1
try "nothing to resume" kvtrace -m "$model" -f p.jsonl --resume

cd ../cut || exit 1
killed=0
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    started --resume >/dev/null 2>&1 &
    pid=$!
    sleep "0.$(awk -v i=$i -v pid=$$ 'BEGIN { srand(i * 7919 + pid); printf "%03d", 10 + rand() * 150 }')"
    kill -9 $pid 2>/dev/null && killed=$((killed + 1))
    wait $pid 2>/dev/null
    [ ! -e run.h5 ] || break
done
[ $killed -ge 1 ] || echo "no run was killed in time"
try "the rest" run --resume
for file in run-cat.h5 run-7.h5 run-2.h5 run-long.h5 run.h5; do
    sametrace $file ../whole/$file || echo "$file differs"
done
ls ./*.h5

cd .. || exit 1
kvtrace -q -m "$model" -f p.jsonl --method h2o --keep 50% -n 3 --ignore-end --format tsv | cut -f 1,2
bad() { printf '%s\n' "$2" >bad.jsonl; try "$1" kvtrace -m "$model" -f bad.jsonl -n 1; }
bad "an id that is a path" '{"id": "../x", "prompt": "a"}'
bad "the same id twice" '{"id": "a", "prompt": "a"}
{"id": "a", "prompt": "b"}'
bad "no prompt" '{"id": "a", "text_": "a"}'
bad "a prompt that is a number" '{"prompt": 5}'
bad "a blank prompt" '{"prompt": "   "}'
bad "no line at all" ''
try "a prompt too short for a method" kvtrace -m "$model" -f p.jsonl -n 1 --method snapkv[w=24]
exit 0
