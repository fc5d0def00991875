#!/usr/bin/env bash
# kvbench beside kvpress on the same questions: six methods at four budgets, one process of kvbench for all questions, one of kvpress for each and each budget (six runs).
# usage: bench/kvpress_bench.sh MODEL.gguf DATA PYTHON [QUESTIONS]       QUESTIONS: 10
#   N_SHOTS=8 NEW=64 THREADS=2; ALONE='taskset -c 0,1' is put in front of each of both; KVBENCH=build/bin/kvbench
# kvpress: transformers, f32 products and f32 KV, loading left out; kvbench: bf16 products, f16 KV, whole process, no KL (which kvpress doesn't measure either).
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
model=$1 data=$2 python=$3 n=${4:-10} shots=${N_SHOTS:-8} new=${NEW:-64} kvbench=${KVBENCH:-$here/../build/bin/kvbench}
read -ra alone <<<"${ALONE:-}"
export THREADS=${THREADS:-2}
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT

echo "load: $(cut -d' ' -f1-3 /proc/loadavg)" >&2
start=$(date +%s%N)
"${alone[@]}" "$kvbench" gsm8k --data "$data" -m "$model" -q -t "$THREADS" --limit "$n" --n-shots "$shots" --max-new "$new" --seeds 1 --protocol literature --decode free \
    --method snapkv,pyramidkv,chunkkv,h2o,streaming,random --keep 10%,20%,40%,60% -o "$t/result.jsonl" >/dev/null
ours=$((($(date +%s%N) - start) / 1000000))
"$python" - "$t" <<'P'
import json, sys
for i, o in enumerate(o for o in map(json.loads, open(f"{sys.argv[1]}/result.jsonl")) if "item" in o):
    open(f"{sys.argv[1]}/{i}.txt", "w", encoding="utf-8", newline="").write(o["prompt"])
P
for i in $(seq 0 $((n - 1))); do
    for keep in .1 .2 .4 .6; do
        KEEP=$keep "${alone[@]}" "$python" "$here/kvpress_sweep.py" "$model" "$t/$i.txt" "$new" 2>/dev/null >>"$t/$i.json"
    done
    echo "$((i + 1)) of $n" >&2
done
"$python" - "$t" "$n" "$ours" <<'P'
import json, sys
t, n, ours = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) / 1000
peer = [json.loads(line) for i in range(n) for line in open(f"{t}/{i}.json")]
wall = sum(p["wall_s"] for p in peer)
print(f"{n} questions of {min(p['tokens'] for p in peer)} to {max(p['tokens'] for p in peer)} tokens, 24 branches: kvpress {wall:.1f} s, kvbench {ours:.1f} s, {wall / ours:.1f} x")
P
echo "load: $(cut -d' ' -f1-3 /proc/loadavg)" >&2
