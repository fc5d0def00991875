#!/bin/sh
# What methods cost: choosing and compacting at prefill's end, acting at each step, attention over what was kept, and many
# branches in one run.
#
# usage: bench/methods.sh MODEL.gguf [BIN_DIR] [ROUNDS]
#   BIN_DIR  default build/bin (kvtrace, speed, kerncheck); ROUNDS default 3, in turns, medians
#   THREADS=2 from the environment
# Prompts are the repository's own pages, cut to size. Nothing is traced (no -o), so that only the engine is timed.
set -eu
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
model=$1 bin=${2:-$here/build/bin} rounds=${3:-3} threads=${THREADS:-2}
for f in "$model" "$bin/kvtrace" "$bin/speed" "$bin/kerncheck"; do [ -e "$f" ] || { echo "methods.sh: no such file: $f" >&2; exit 3; }; done
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cat "$here"/docs/*.md > "$t/text"

# prompt TOKENS FILE: so many tokens of the text, as near as a cut by bytes comes
prompt() {
    bytes=$(($1 * 4))
    for _ in 1 2 3 4 5 6; do
        head -c "$bytes" "$t/text" | iconv -f utf-8 -t utf-8 -c > "$2"
        n=$("$bin/kvtrace" -m "$model" -f "$2" -n 1 --dry-run | sed -n 's/^prompt \([0-9]*\) tokens.*/\1/p')
        [ "$n" -eq "$1" ] && break
        bytes=$((bytes * $1 / n))
    done
}

# seconds of the phases of a run, from its last line: prefill evict decode
phases() {
    "$bin/kvtrace" -t "$threads" -m "$model" --ignore-end "$@" 2>&1 >/dev/null |
        sed -n 's/^prefill \([0-9.]*\) s.*evict \([0-9.]*\) s.*decode \([0-9.]*\) s.*/\1 \2 \3/p'
}
median() { sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
col() { awk -v c="$2" '{ print $c }' "$1" | median; }

prompt 4096 "$t/p4096"
prompt 2300 "$t/p2300"
prompt 1150 "$t/p1150"
six=snapkv,pyramidkv,chunkkv,h2o,streaming,random
ten=$six,tova,adakv,knorm,keydiff

i=1
while [ "$i" -le "$rounds" ]; do
    echo "round $i of $rounds" >&2
    for m in snapkv adakv h2o; do
        phases -f "$t/p4096" -n 1 --decode forced --method $m --keep 25% >> "$t/end.$m"
    done
    for m in random h2o treekv tova; do
        phases -f "$t/p2300" -n 64 --decode forced --method $m --tokens 2048 >> "$t/step.$m"
    done
    "$bin/speed" -m "$model" -t "$threads" -r 1 -x tg128@d2048 | awk '$1 == "tg128@d2048" { print 1000 / $3 }' >> "$t/single"
    for list in six ten; do
        eval "methods=\$$list"
        # wall time of the whole process, loading included
        s=$(date +%s%N)
        "$bin/kvtrace" -q -t "$threads" -m "$model" --ignore-end -f "$t/p1150" -n 64 --method "$methods" --keep 10%,20%,40%,60% >/dev/null
        echo $((($(date +%s%N) - s) / 1000000)) >> "$t/many.$list"
    done
    i=$((i + 1))
done

echo "scoring, selecting and compacting 30 layers at 4,096 tokens, 25 % kept"
for m in snapkv adakv h2o; do
    awk -v m=$m -v p="$(col "$t/end.$m" 1)" -v e="$(col "$t/end.$m" 2)" 'BEGIN { printf "  %-8s %6.2f s of a prefill of %.2f s: %.1f %%\n", m, e, p, 100 * e / p }'
done
single=$(median < "$t/single")
echo "acting at each step at 2,048 tokens kept, beside a decode step of $single ms (one branch, 2,048 tokens deep)"
base=$(col "$t/step.random" 3)
for m in h2o treekv tova; do
    awk -v m=$m -v b="$base" -v d="$(col "$t/step.$m" 3)" -v s="$single" 'BEGIN { x = (d - b) * 1000 / 64; printf "  %-8s %6.2f ms a step more than random, which acts once: %.0f %%\n", m, x, 100 * x / s }'
done
a=$(median < "$t/many.six") b=$(median < "$t/many.ten")
awk -v a="$a" -v b="$b" 'BEGIN { printf "24 branches, 1,150 tokens + 64: %.2f s; 40 branches: %.2f s; ratio %.2f\n", a / 1000, b / 1000, b / a }'
echo "attention of one row over 30 layers: a quarter of 8,192 slots beside all of them; goal 0.30"
"$bin/kerncheck" --only attn --bench --threads "$threads" --match 'slots x 30' > "$t/attn"
grep '1 row x' "$t/attn" | tail -n 5
awk '/1 row x/ && !/handed|renumbered/ { for (i = 2; i < NF; i++) if ($(i + 1) == "us") { before = now; now = $i } } END { printf "  ratio %.2f\n", before / now }' "$t/attn"
