#!/bin/sh
# ShotKV's shares derived from some prompts, checked on others, and confirmed live on those: the derived pair against equal shares
# with as many bytes, and shares of single layers; then shares of single heads for snapkv.
#
# usage: bench/derive.sh MODEL.gguf [BIN_DIR] [HORIZON] [KEEP] [OUT_DIR]
#   BIN_DIR default build/bin (kvtrace, kvbudget), HORIZON 96, KEEP 25%, OUT_DIR a temporary folder
# Eight prompts from the repository's eight shots: each asks one of them behind the other seven. The first four are derived on.
set -eu
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
model=$1 bin=${2:-$here/build/bin} horizon=${3:-96} keep=${4:-25%} out=${5:-}
for f in "$model" "$bin/kvtrace" "$bin/kvbudget"; do [ -e "$f" ] || { echo "derive.sh: no such file: $f" >&2; exit 3; }; done
[ -n "$out" ] || { out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; }

# run I OPTION...: prompt I
run() {
    i=$1
    shift
    sed "${i}d" "$here/examples/shots.jsonl" >"$out/shots$i.jsonl"
    sed -n "${i}p" "$here/examples/shots.jsonl" >"$out/question$i.jsonl"
    "$bin/kvtrace" -q -m "$model" --shots "$out/shots$i.jsonl" --question-file "$out/question$i.jsonl" -n "$horizon" --ignore-end --maps none \
        --decode forced --force "$@" >/dev/null
}
for i in 1 2 3 4 5 6 7 8; do run $i --see scores,rows -o "$out/full$i.h5"; done
set -- "$out"/full[1-8].h5
"$bin/kvbudget" --show derive "$@" --horizon "$horizon" --keep "$keep" --keep-sinks 4 --per-layer -o "$out/layers.tsv"
# the shares on its lines "Confirm:"
"$bin/kvbudget" --show derive "$@" --horizon "$horizon" --keep "$keep" --keep-sinks 4 --format tsv >"$out/pair.tsv"
share() { awk -F'\t' -v want="$1" '$1 == want && $2 == "check" { printf "prefill=%.4f%%,decode=%.4f%%,sinks=4", 100 * $3, 100 * $4 }' "$out/pair.tsv"; }
derived=$(share derived) equal=$(share 'equal, KV')
for i in 5 6 7 8; do run $i --method "shotkv[$derived],shotkv[$equal]" --fidelity lost -o "$out/live$i.h5"; done
printf '\nLive, %s against %s:\n' "$derived" "$equal"
"$bin/kvbudget" --show confirm "$out"/live[5-8].h5
by_layer="${derived#*,}" uniform="${derived%%,*}"
for i in 5 6 7 8; do run $i --method "shotkv[$by_layer]" --keep "${uniform#prefill=}" --budget-file "$out/layers.tsv" --fidelity lost -o "$out/layers$i.h5"; done
printf '\nLive, each layer its own share against one for all:\n'
"$bin/kvbudget" --show confirm "$out"/layers[5-8].h5 -b 2,1
for i in 1 2 3 4 5 6 7 8; do run $i --method snapkv --keep "$keep" --see scores,rows -o "$out/snapkv$i.h5"; done
printf '\n'
"$bin/kvbudget" --show heads "$out"/snapkv[1-8].h5 -b snapkv --horizon "$horizon" -o "$out/heads.tsv"
for i in 5 6 7 8; do run $i --method snapkv --keep "$keep" --budget-file "$out/heads.tsv" --fidelity lost -o "$out/heads$i.h5"; done
printf '\nLive, each kv head its own share against one for all:\n'
"$bin/kvbudget" --show confirm "$out"/heads[5-8].h5 -b 2,1
