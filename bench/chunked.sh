#!/bin/sh
# A prefill in chunks with eviction between them, beside one prefill: its KV peak, and what it costs in fidelity.
#
# usage: bench/chunked.sh MODEL.gguf [BIN_DIR] [TOKENS]
#   BIN_DIR  default build/bin (kvtrace); TOKENS default 4096: of the context, the question's 32 beside them
# The text is the repository's own pages, cut to size. Peaks are the page allocator's, of runs that really ran.
set -eu
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
model=$1 bin=${2:-$here/build/bin} tokens=${3:-4096}
for f in "$model" "$bin/kvtrace"; do [ -e "$f" ] || { echo "chunked.sh: no such file: $f" >&2; exit 3; }; done
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cat "$here"/docs/*.md > "$t/text"
bytes=$((tokens * 4))
for _ in 1 2 3 4 5 6; do
    head -c "$bytes" "$t/text" | iconv -f utf-8 -t utf-8 -c > "$t/prompt"
    n=$("$bin/kvtrace" -m "$model" -f "$t/prompt" -n 1 --dry-run | sed -n 's/^prompt \([0-9]*\) tokens.*/\1/p')
    [ "$n" -eq $((tokens + 32)) ] && break
    bytes=$((bytes * (tokens + 32) / n))
done
echo "$n tokens"
run() { "$bin/kvtrace" -m "$model" -f "$t/prompt" --ignore-end "$@"; }
peak() { run -n 4 --decode free "$@" 2>&1 >/dev/null | tr '\r' '\n' | sed -n 's/.*KV peak \([0-9.]* MB\).*/\1/p'; }

chunks=prefill_chunk=512,protect=sink4
echo "KV peak of one prefill:                        $(peak)"
for keep in 25% 50%; do
    echo "of chunks of 512 at $keep, no full branch:      $(peak --method "my[score=mass,$chunks]" --keep "$keep" --no-full)"
done
methods=
for m in mass mass,norm=visible wmass,w=32 knorm keydiff recency; do
    methods="$methods${methods:+,}my[score=$m,$chunks],my[score=$m,protect=sink4]"
done
run -q -n 64 --decode forced --fidelity lost --method "$methods" --keep 25%,50% --format tsv |
    awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) { name = $i; sub(/ .*/, "", name); at[name] = i }
                          printf "%-52s %6s %8s %7s %7s\n", "beside the full branch, 64 steps", "asked", "KL", "top-1", "lost"; next }
                NR > 2 { m = $at["method"]; match(m, /score=[^,]*(,[^,]*)?/); what = substr(m, RSTART, RLENGTH); sub(/,unit=.*/, "", what)
                         printf "%-40s %11s %6s %8.4f %6.1f%% %6.1f%%\n", what, m ~ /prefill_chunk=[1-9]/ ? "in chunks" : "one prefill", $at["asked"],
                                $at["mean_kl"], 100 * $at["top1_agree"], 100 * $at["lost_mass"] }'
