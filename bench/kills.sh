#!/usr/bin/env bash
# Kills kvbench at random moments, again and again, goes on with the same command each time, and holds what comes out against an undisturbed run: the tables,
# and every line of the result but the first, which names the time.
# usage: bench/kills.sh [-n KILLS] [BUILD/bin]
set -euo pipefail
kills=100
[ "${1:-}" = -n ] && kills=$2 && shift 2
bin=$(cd "${1:-$(dirname "$0")/../build/bin}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >task.json <<'T'
{ "kvbench": 1, "name": "kills", "make": { "what": "recall", "seeds": 60 }, "n_shots": 4, "stop": ["\n"], "max_new": 12, "answers": [ { "name": "right" } ] }
T
run() { exec "$bin/kvbench" ./task.json -q -t 1 --method 'shotkv,h2o,random' --seeds 2 --keep 40% -o "$1"; }
now() { date +%s%N; }

start=$(now)
(run whole.jsonl) >whole.txt
took=$((($(now) - start) / 1000000))
"$bin/kvbench" table whole.jsonl --format tsv --show pairs >whole.pairs
echo "undisturbed: 60 questions, $(wc -c <whole.jsonl) bytes, $took ms" >&2

n=0 files=1 torn=0 early=0
while [ "$n" -lt "$kills" ]; do
    (run "cut$files.jsonl") >/dev/null 2>said &
    pid=$!
    sleep "$(awk -v s="$RANDOM$n" -v t="$took" 'BEGIN { srand(s); printf "%.3f", rand() * t / 6000 }')"
    if kill -9 "$pid" 2>/dev/null; then
        wait "$pid" 2>/dev/null || true
        n=$((n + 1))
        [ -s "cut$files.jsonl" ] || early=$((early + 1))
        [ ! -s "cut$files.jsonl" ] || [ -z "$(tail -c 1 "cut$files.jsonl")" ] || torn=$((torn + 1))
    elif wait "$pid"; then
        files=$((files + 1)) # it had come to its end
    else
        echo "kills.sh: a resumed run failed: $(cat said)" >&2
        exit 1
    fi
done
for i in $(seq "$files"); do
    (run "cut$i.jsonl") >"cut$i.txt" # nothing is left of those that had ended
    "$bin/kvbench" table "cut$i.jsonl" --format tsv --show pairs >cut.pairs
    cmp whole.txt "cut$i.txt"
    cmp whole.pairs cut.pairs
    cmp <(tail -n +2 whole.jsonl) <(tail -n +2 "cut$i.jsonl")
done
echo "$kills kills of $files runs ($early before the first byte, $torn within a line): tables and lines are those of an undisturbed run"
