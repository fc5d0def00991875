# Ranks of a job, where the build has MPI: kvbench and kvtrace give what one process gives, a rank that is killed ends the job and costs what was at hand, another
# number of ranks goes on; and the form of an array job, without MPI. Would catch: an item dealt twice or to nobody, a result lost on its way to rank 0, a rank
# that waits for ever.
. "$here/try"
printf '{"id": "%s", "prompt": "The %s sat on the mat. The dog sat on the log. The fox sat on the box."}\n' a cat b hen c cow d owl e rat f bee >p.jsonl
trace() { kvtrace -q -m "$model" -t 1 --method 'snapkv[w=4]' --keep 50% -n 8 --ignore-end "$@" >/dev/null; }

split -n r/2 -d -a 2 --additional-suffix=.jsonl p.jsonl part-
for i in 00 01; do trace -f part-$i.jsonl --resume -o array-$i.h5; done
try "an array job's files, side by side" kvoverlap --show prompts array-00.h5 array-01.h5 --format tsv
ls array-*.h5 | wc -l

command -v mpirun >/dev/null || skip "no mpirun; the array job's form is fine"
OMPI_COMM_WORLD_SIZE=2 kvtrace -m "$model" -f p.jsonl -o x.h5 2>&1 | grep -q 'built without MPI' && skip "built without MPI; the array job's form is fine"
ranks() { n=$1; shift; OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 60 mpirun --oversubscribe --bind-to none -n "$n" "$@"; }
bench() { echo kvbench recall --n-shots 3 --limit "$1" -q -t 1 --method shotkv,h2o --keep 60% -o "$2"; }

# shellcheck disable=SC2046
$(bench 12 one.jsonl) >one.txt
# shellcheck disable=SC2046
ranks 3 $(bench 12 three.jsonl) >three.txt
cmp one.txt three.txt && echo "kvbench: three ranks, the same tables"
sort one.jsonl | grep '"item"' >one.lines; sort three.jsonl | grep '"item"' | cmp one.lines - && echo "and lines"

# shellcheck disable=SC2046
(ranks 2 $(bench 100 cut.jsonl) >/dev/null 2>&1; echo $? >cut.code) &
for _ in $(seq 100); do [ "$(grep -c '"item"' cut.jsonl 2>/dev/null)" -ge 2 ] 2>/dev/null && break; sleep 0.1; done
for pid in $(pgrep -f -- '-o cut.jsonl'); do [ "$(cat /proc/$pid/comm 2>/dev/null)" = kvbench ] && [ "$(readlink /proc/$pid/cwd)" = "$PWD" ] && kill -9 "$pid" && break; done
wait
[ "$(cat cut.code)" -ne 0 ] && echo "a killed rank ends the job"
had=$(grep -c '"item"' cut.jsonl)
[ "$had" -ge 2 ] && [ "$had" -lt 100 ] || echo "$had questions before the kill"
# shellcheck disable=SC2046
ranks 3 $(bench 12 cut.jsonl) >cut.txt
grep '"item"' cut.jsonl | sed 's/"prompt".*//' | sort | uniq -d | wc -l

ranks 2 kvtrace -q -m "$model" -t 1 -f p.jsonl --method 'snapkv[w=4]' --keep 50% -n 8 --ignore-end -o run.h5 >/dev/null
ls run*.h5 | tr '\n' ' '
trace -f p.jsonl -o alone.h5
for id in a f; do
    kvbudget --prompt $id run.h5 --format tsv >ranks.tsv
    kvbudget --prompt $id alone.h5 --format tsv | cmp - ranks.tsv && echo "kvtrace: prompt $id as from one process"
done
exit 0
