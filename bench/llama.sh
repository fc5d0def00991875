#!/bin/sh
# Prefill and decode beside llama.cpp: same file, same threads, in turns, medians.
#
# usage: bench/llama.sh MODEL.gguf LLAMA_BENCH [SPEED] [ROUNDS]
#   LLAMA_BENCH  the program of that name, built Release from llama.cpp (the source inside the Python package
#                llama-cpp-python will do: cmake -S vendor/llama.cpp -B b -DCMAKE_BUILD_TYPE=Release; ninja -C b llama-bench)
#   SPEED        our bench/speed, default build/bin/speed
#   THREADS=2, COMPUTE=f32|bf16|f16 (default: the CPU's fastest), PROMPTS=512,2048, NEW=128 and TSV=file (test, ours, peer) from the environment;
#   STATE=folder remembers what was measured, WRAPPER=a command that runs another alone on the machine
# Both run with flash attention on and off where it is theirs to choose; the faster of the two counts for llama.cpp.
set -eu
[ $# -ge 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 peer=$2 ours=${3:-build/bin/speed} rounds=${4:-3} threads=${THREADS:-2} prompts=${PROMPTS:-512,2048} new=${NEW:-128}
for f in "$model" "$peer" "$ours"; do [ -e "$f" ] || { echo "llama.sh: no such file: $f" >&2; exit 3; }; done
tests=$(echo "$prompts" | sed 's/[0-9]*/pp&/g'),tg$new,tg$new@d2048
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
state=${STATE:-$t}
# ask NAME COMMAND...: its output in $state/NAME, unless it is there from before
ask() {
    to=$state/$1
    shift
    [ -s "$to" ] && return
    # shellcheck disable=SC2086  # a command and its arguments
    ${WRAPPER:-} "$@" 2>/dev/null > "$t/now" || { echo "llama.sh: failed: $*" >&2; exit 1; }
    mv "$t/now" "$to"
}
i=1
while [ "$i" -le "$rounds" ]; do
    echo "round $i of $rounds" >&2
    ask "ours.$i" "$ours" -m "$model" -t "$threads" -r 1 -n "$new" ${COMPUTE:+-c "$COMPUTE"} -x "$tests"
    awk -F'\t' '{ print "ours\t" $1 "\t" $3 }' "$state/ours.$i" >> "$t/all"
    for fa in 0 1; do
        ask "peer.$fa.$i" "$peer" -m "$model" -t "$threads" -p "$prompts" -n "$new" -fa "$fa" -r 1 -o jsonl
        ask "deep.$fa.$i" "$peer" -m "$model" -t "$threads" -p 0 -n "$new" -d 2048 -fa "$fa" -r 1 -o jsonl
        cat "$state/peer.$fa.$i" "$state/deep.$fa.$i" >> "$t/peer.$fa"
    done
    i=$((i + 1))
done
for fa in 0 1; do
    # a value of the one JSON object of each line
    awk -v fa="$fa" 'function get(key,   a) { if (!match($0, "\"" key "\": *[^,}]*")) return ""
                         a = substr($0, RSTART, RLENGTH); sub(/^[^:]*: */, "", a); return a }
        { p = get("n_prompt"); n = get("n_gen"); d = get("n_depth")
          print "llama.cpp fa=" fa "\t" (p > 0 ? "pp" p : "tg" n (d > 0 ? "@d" d : "")) "\t" get("avg_ts") }' "$t/peer.$fa" >> "$t/all"
done
sort -t "$(printf '\t')" -k1,1 -k2,2 -k3,3g "$t/all" | awk -F'\t' -v rounds="$rounds" -v tests="$tests" -v tsv="${TSV:-/dev/null}" '
    { k = $1 SUBSEP $2; v[k, ++c[k]] = $3 }
    function median(k) { return c[k] % 2 ? v[k, (c[k] + 1) / 2] : (v[k, c[k] / 2] + v[k, c[k] / 2 + 1]) / 2 }
    END {
        printf "%-12s %12s %18s %18s %8s\n", "test", "kvtrace", "llama.cpp fa=0", "llama.cpp fa=1", "ratio"
        m = split(tests, test, ",")
        for (i = 1; i <= m; i++) {
            o = median("ours" SUBSEP test[i]); a = median("llama.cpp fa=0" SUBSEP test[i]); b = median("llama.cpp fa=1" SUBSEP test[i])
            printf "%-12s %12.1f %18.1f %18.1f %8.2f\n", test[i], o, a, b, o / (a > b ? a : b)
            printf("%s\t%.1f\t%.1f\n", test[i], o, (a > b ? a : b)) > tsv
        }
        print "tokens/s, median of " rounds " rounds in turns; ratio to the faster of llama.cpp"
    }'
echo "arithmetic: ours ${COMPUTE:-the fastest of this CPU} in products, f16 KV; llama.cpp its own (int8 activations, f16 KV); $threads threads"
