# One prompt: --resume after a kill, an interruption, a full disk; the result is that of an undisturbed run, and what was recorded
# is never lost before.
. "$here/try"
words >prompt.txt
started() { exec kvtrace -q -m "$model" -f prompt.txt --window 8 --method random,h2o --keep 20%,40%,60%,80% -n 900 --ignore-end -o out/run.h5 "$@"; }
run() (started "$@")
held() { kvinfo --view run --format tsv "$1" 2>/dev/null | sed -n 's/.*; \([0-9]*\) generated of.*/\1/p'; }
mkdir out
run >/dev/null || exit 1
mv out whole
mkdir out

started >/dev/null &
pid=$!
until [ "$(held out/run.h5)" -ge 1 ] 2>/dev/null; do sleep 0.01; done
kill -9 $pid
wait $pid 2>/dev/null
before=$(held out/run.h5)
[ "${before:-0}" -gt 0 ] || echo "killed before the first step"
started --resume >/dev/null 2>&1 &
pid=$!
while [ ! -e out/run.h5 ] || [ ! -e out/run.h5.part ]; do sleep 0.01; done
kill -9 $pid
wait $pid 2>/dev/null
[ "$(held out/run.h5)" -ge "$before" ] || echo "the second kill lost what the first run had recorded"
try "of another command" run --resume --seed 3
rm out/run.h5.part
started --resume >/dev/null 2>&1 &
pid=$!
while [ ! -e out/run.h5.part ]; do sleep 0.01; done
kill -INT $pid
wait $pid
echo "interrupted: exit $?"
kvinfo --view run out/run.h5 2>/dev/null | grep status
try "the rest" kvtrace -m "$model" -f prompt.txt --window 8 --method random,h2o --keep 20%,40%,60%,80% -n 900 --ignore-end -o out/run.h5 --resume -q
try "the rest, by the same command" run --resume
sametrace out/run.h5 whole/run.h5 && ls out
try "nothing is left" run --resume
printf 'notes' >out/notes.h5
try "what is no trace" kvtrace -q -m "$model" -f prompt.txt -n 1 -o out/notes.h5 --resume
cat out/notes.h5
exit 0
