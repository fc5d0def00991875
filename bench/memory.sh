#!/bin/sh
# Peak memory of runs beside what --dry-run says, for models of any kind: "ratio" is predicted / measured.
#
# usage: bench/memory.sh [-p PROMPT.txt] MODEL...
#   KVTRACE=build/bin/kvtrace from the environment; the prompt's default is tests/vectors/parity-prompts/p08_shots.txt
# Each model runs a short prompt with one method, the whole prompt with six branches and a trace, and what methods hold beside KV:
# a pass that repeats the context, sums of steps and of all layers at once, chunks of a prefill.
set -eu
here=$(dirname "$0")
prompt=$here/../tests/vectors/parity-prompts/p08_shots.txt ours=${KVTRACE:-build/bin/kvtrace}
if [ "${1:-}" = -p ]; then
    prompt=$2
    shift 2
fi
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
head -c 1200 "$prompt" >"$t/short.txt"

# run LABEL OPTION...
run() {
    label=$1
    shift
    says=$("$ours" --dry-run --format tsv "$@" | awk -F'\t' '/peak/ { print $3 }')
    "$ours" -q "$@" >/dev/null 2>"$t/err" &
    pid=$! peak=0
    while kb=$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [ -n "$kb" ]; do
        peak=$kb # the kernel's own high-water mark: only what comes after the last look is missed
        sleep 0.02
    done
    wait "$pid" || { cat "$t/err" >&2; exit 1; }
    awk -v l="$label" -v p="$says" -v m="$peak" 'BEGIN { printf "%s\tpredicted %.1f MB\tmeasured %.1f MB\tratio %.3f\n", l, p / 1e6, m * 1024 / 1e6, p / (m * 1024) }'
}
for m in "$@"; do
    run "$(basename "$m"), short" -m "$m" -f "$t/short.txt" --method snapkv --keep 25% -n 16
    run "$(basename "$m"), traced" -m "$m" -f "$prompt" --method snapkv,h2o,streaming --keep 10%,50% -n 16 -o "$t/run.h5" --force
    run "$(basename "$m"), kvzip" -m "$m" -f "$prompt" --method kvzip --keep 25% -n 4
    run "$(basename "$m"), steps" -m "$m" -f "$prompt" --method 'h2o,my[score=mass,schedule=every,every=2,alloc=global,pool=max7]' --keep 25%,50% -n 8
    run "$(basename "$m"), chunks" -m "$m" -f "$prompt" --method 'my[score=mass,prefill_chunk=256]' --keep 25% -n 4
    run "$(basename "$m"), no full" -m "$m" -f "$prompt" --method 'my[score=mass,prefill_chunk=256]' --keep 25% -n 4 --no-full --decode free
done
