#!/usr/bin/env bash
# Replays of a trace beside runs (docs/measures.md, section 8): which are identical, how close the others come, what a hundred take.
# usage: bench/replay.sh MODEL BIN_DIR [THREADS]
set -euo pipefail
model=$1 bin=$(cd "$2" && pwd) threads=${3:-2}
cd "$(dirname "$0")/.."
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
prompt=(--shots examples/shots.jsonl --question-file examples/question.jsonl --template 'Question: {question}\nReasoning: {rationale}\nAnswer: {answer}')
exact='random[seed=3],streaming,snapkv,snapkv[w=16],pyramidkv,chunkkv,shotkv[decode=1],randomshot[decode=1],adakv,criticalkv,kvcompress,finch,knorm,my[score=max],my[score=last,unit=sentence],my[score=later,unit=shot,heads=shared],my[score=mass,norm=visible,pool=avg5],my[score=sqmass,alloc=global],oracle'
steps='h2o,tova,treekv,shotkv,my[score=wmass,w=32,schedule=every,every=8]'
other='snapkv[w=12],snapkv[w=48],adakv[w=25],chunkkv[w=60],kvcompress[w=4],kvcompress[w=20]'
run() { "$bin/kvtrace" -q -t "$threads" -m "$model" "${prompt[@]}" -n 64 --ignore-end --yes "$@" >/dev/null; }

run --method "$exact,$steps" --keep 10%,25%,50% --for-replay -o "$t/run.h5"
"$bin/kvinfo" "$t/run.h5" | awk '/^tokens/'
echo "trace for a replay: $(($(wc -c <"$t/run.h5") / 1000000)) MB"
"$bin/kvbudget" "$t/run.h5" --replay "$exact,$steps" --keep 10%,25%,50% --format tsv |
    awk -F'\t' 'NR > 1 { n[$3]++; same[$3] += $10 == 1 } $3 == "approx" { printf "%s %s: %.4f\n", $1, $2, $10 }
                END { print n["exact"] " lines exact, " same["exact"] " of them identical to the run in every slot and step; " n["approx"] " approx" }'

# other windows than those that the trace recorded, beside a run of their own
run --method "$other" --keep 10%,25%,50% --maps none --see none -o "$t/other.h5"
"$bin/kvbudget" "$t/run.h5" --replay "$other" --keep 10%,25%,50% --write-trace "$t/mine.h5" --format tsv | awk -F'\t' 'NR > 1 { n[$3]++ } END { printf "other windows: %d lines exact; ", n["exact"] }'
same=0
for b in $(seq -w 1 18); do
    "$bin/kvinfo" "$t/other.h5" --export "branches/$b/evicted_at" -o "$t/o$b.npy"
    "$bin/kvinfo" "$t/mine.h5" --export "branches/$b/evicted_at" -o "$t/m$b.npy"
    cmp -s "$t/o$b.npy" "$t/m$b.npy" && same=$((same + 1))
done
echo "$same of 18 branches identical to a run of their own"

time "$bin/kvbudget" "$t/run.h5" --replay 'snapkv[w=16..64:12],chunkkv' --keep 10%..95% --format tsv |
    awk -F'\t' 'NR > 1 { n[$3]++ } END { print n["exact"] " exact lines" }'
