#!/bin/sh
# Every tool over broken traces, by hand and for long: a tool must end with 0, 1, 2 or 3, say no more than a few lines on stderr, and need no
# more than a few seconds and a gigabyte and a half. Prints what doesn't, with the seed; the last line counts.
# usage: tools.sh BIN_DIR BASE.h5 FIRST COUNT [flips]
set -u
bin=$1 base=$2 seed=$3 count=$4 flips=${5:-0} wrong=0 runs=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
cp "$base" "$scratch/sound.h5"
end=$((seed + count))
while [ "$seed" -lt "$end" ]; do
    "$bin/hostile" --make "$base" "$scratch/broken.h5" "$seed" "$flips" >"$scratch/how" 2>&1
    while read -r tool args; do
        runs=$((runs + 1))
        # shellcheck disable=SC2086  # words
        (cd "$scratch" && { [ -n "${ASAN_OPTIONS:-}" ] || ulimit -v 1500000; } && ulimit -t 20 && exec "$bin/$tool" $args) >"$scratch/out" 2>"$scratch/err" </dev/null
        status=$?
        if [ $status -gt 3 ] || [ "$(wc -l <"$scratch/err")" -gt 6 ]; then
            wrong=$((wrong + 1))
            echo "seed $seed: $tool $args: exit $status, $(wc -l <"$scratch/err") lines: $(head -c 300 "$scratch/err" | head -n 2)"
            cat "$scratch/how"
        fi
    done <<END
kvinfo broken.h5
kvinfo --check broken.h5
kvattn broken.h5
kvattn broken.h5 --show labels
kvattn broken.h5 --show spans
kvattn broken.h5 --show shots
kvattn broken.h5 --compare sound.h5
kvcoherence broken.h5 --shifts 9
kvcoherence broken.h5 --damage
kvcoherence broken.h5 --steps 2 --shifts 9
kvoverlap broken.h5 --shifts 9
kvoverlap broken.h5 --show scores
kvoverlap sound.h5 broken.h5 --show traces
kvoverlap broken.h5 --show future
kvbudget broken.h5
kvplot heatmap broken.h5 -o p.svg
kvplot kept broken.h5 -o p.svg
kvplot lorenz broken.h5 -o p.svg
kvplot survival broken.h5 -o p.svg
END
    seed=$((seed + 1))
done
echo "$count broken traces, $runs runs of tools: $wrong wrong"
[ "$wrong" -eq 0 ]
