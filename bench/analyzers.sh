#!/bin/sh
# Every analyzer and picture on the large synthetic trace: seconds, CPU seconds, peak memory, against 10 s (pictures 5 s) and 1 GB.
# The trace, 1.7 GB, is made once, in a minute or two.
#
# usage: bench/analyzers.sh BIN_DIR TRACE.h5 [RUN...]      RUN: what runs each command alone, as "chrt -f 50" (default: nothing)
# Needs GNU time (Debian: time). Prints a table in Markdown; the exit status is 1 where a limit is missed.
set -eu
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
bin=$(cd "$1" && pwd) trace=$2
shift 2
[ -e "$trace" ] || "$bin/bigtrace" "$trace" >&2
t=$(mktemp -d) missed=0
trap 'rm -rf "$t"' EXIT
cat "$trace" >/dev/null

# measure LIMIT_S COMMAND...
measure() {
    limit=$1 tool=$2
    shift 2
    # shellcheck disable=SC2086  # words
    $run /usr/bin/time -o "$t/time" -f '%e %U %S %M' "$bin/$tool" "$@" >"$t/out" 2>"$t/err" </dev/null || { echo "| \`$tool $*\` | failed: $(head -n 1 "$t/err") |" | sed "s|$trace|T|g; s|$t/||g"; missed=1; return 0; }
    awk -v what="$(echo "$tool $*" | sed "s|$trace|T|g; s|$t/||g")" -v limit="$limit" '{
        over = $1 > limit || $4 > 1e6
        printf "| `%s` | %.2f | %.1f | %.0f |%s\n", what, $1, $2 + $3, $4 / 1000, over ? " above |" : " |"
        exit over }' "$t/time" || missed=1
}
run="$*"
echo "$("$bin/kvinfo" --version 2>/dev/null | head -n 1), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $(date +%F)"
echo
echo "| command | s | CPU s | MB | |"
echo "|---|---|---|---|---|"
measure 10 kvinfo "$trace"
measure 10 kvinfo --check "$trace"
for show in layers heads labels gates sinks distances spans shots; do measure 10 kvattn "$trace" --show $show; done
measure 10 kvattn --compare "$trace" "$trace"
measure 10 kvcoherence "$trace"
for show in --shots --summary --damage --agreement --per-layer --per-head; do measure 10 kvcoherence "$trace" $show; done
measure 10 kvcoherence "$trace" --steps 8
measure 10 kvoverlap "$trace"
measure 10 kvoverlap "$trace" --format tsv --branches snapkv,pyramidkv,chunkkv,shotkv,h2o,streaming
measure 10 kvoverlap "$trace" --per-layer
for show in layers heads budgets scores sets clusters future; do measure 10 kvoverlap "$trace" --show $show; done
measure 10 kvoverlap "$trace" "$trace" --show traces
measure 10 kvoverlap "$trace" "$trace" --show prompts
measure 10 kvbudget "$trace"
measure 10 kvbudget "$trace" --show rounding
[ ! -x "$bin/kvreport" ] || measure 10 kvreport "$trace" -o "$t/report.html"
for figure in heatmap spans heads layers lorenz kept depth survival sets asked overlap coherence budget bytes kl lost timeline; do
    measure 5 kvplot $figure "$trace" -o "$t/p.png"
done
exit $missed
