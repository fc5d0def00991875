#!/usr/bin/env bash
# What only a machine with an NVIDIA GPU can show: builds, judges every kernel of the cuda backend on it, runs compute-sanitizer's
# tools, compares whole runs with the reference implementations' vectors and with the cpu backend, times kernels and models, and writes
# all of it to docs/gpu/DEVICE.md.
# usage: scripts/gpu-proof.sh [--bin DIR] [--page FILE] [--no-sanitizer] [--no-bench] [--llama-bench PROGRAM --llama-model FILE]
#   --bin DIR   programs that were built elsewhere (no build here)
#   KVT_MODEL   a real model (scripts/get-model.sh) for the parity tests that want one; without it they say `skipped`
set -uo pipefail
cd "$(dirname "$0")/.."

bin='' page='' sanitizer=true bench=true llama='' llama_model=''
while [ $# -gt 0 ]; do
    case $1 in
    --bin) bin=$2; shift ;;
    --page) page=$2; shift ;;
    --no-sanitizer) sanitizer=false ;;
    --no-bench) bench=false ;;
    --llama-bench) llama=$2; shift ;;
    --llama-model) llama_model=$2; shift ;;
    *) echo "gpu-proof.sh: unknown option '$1'; see the top of the script" >&2; exit 2 ;;
    esac
    shift
done
if [ -z "$bin" ]; then
    scripts/build.sh build -DCMAKE_BUILD_TYPE=Release -DKVT_CUDA=ON || exit 1
    bin=build/bin
fi
device=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$device" ] || { echo "gpu-proof.sh: nvidia-smi names no GPU here" >&2; exit 1; }
[ -n "$page" ] || { mkdir -p docs/gpu; page=docs/gpu/$(echo "$device" | tr ' ' '-').md; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
vectors=tests/vectors
failed=0

say() { printf '%s\n' "$@" >>"$page"; }
# part TITLE SECONDS COMMAND...: runs it, its last 40 lines go to the page
part() {
    local title=$1 limit=$2 rc start=$SECONDS
    shift 2
    timeout "$limit" "$@" >"$work/out" 2>&1
    rc=$?
    local verdict=ok
    [ $rc -eq 0 ] || verdict="failed ($rc)"
    [ $rc -ne 77 ] || verdict='skipped (no model)'
    [ $rc -ne 124 ] || verdict="not finished after $limit s"
    [ $rc -eq 0 ] || [ $rc -eq 77 ] || failed=$((failed + 1))
    echo "$title: $verdict, $((SECONDS - start)) s"
    say "### $title: $verdict" '' '```' "$ $(echo "$*" | sed "s#$work/##g; s#$bin/##g" | cut -c 1-200)" "$(tail -n 60 "$work/out" | cut -c 1-200)" '```' ''
}

: >"$page"
say "# The cuda backend on one $device" '' \
    "Written by \`scripts/gpu-proof.sh\` at commit $("$bin/kvtrace" --version 2>/dev/null | awk '{print $NF}'); driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)." ''
say '## Every kernel against its definition' ''
for subject in elem linear cache score step attn lost; do
    part "kerncheck $subject" 200 "$bin/kerncheck" --backend cuda --only $subject
done
say '## Whole runs against the reference implementations' ''
"$bin/mkmodel" --seed 7 "$work/tiny.gguf"
"$bin/mkmodel" --seed 8 --type Q4_1 "$work/tiny-q4.gguf"
part 'parity, tiny model' 100 "$bin/parity" -b cuda -m "$work/tiny.gguf" $vectors/parity-tiny-*.bin
part 'kept slots, tiny model' 100 "$bin/kept" -b cuda -m "$work/tiny.gguf" $vectors/parity-kept-tiny-*.bin
part 'families' 100 "$bin/families" -b cuda tests/models $vectors
part 'invariants' 100 "$bin/invariants" "$work/tiny.gguf" cuda
part 'invariants, Q4_1' 100 "$bin/invariants" "$work/tiny-q4.gguf" cuda
part 'every method live, beside the cpu backend, tiny model' 100 "$bin/backends" -b cuda -r cpu -m "$work/tiny.gguf" $vectors/parity-tiny-203.bin
part 'parity, real model' 100 "$bin/parity" -b cuda $vectors/parity-smollm2-*.bin
part 'kept slots, real model' 100 "$bin/kept" -b cuda $vectors/parity-kept-smollm2-*.bin
part 'every method live, beside the cpu backend, real model' 100 "$bin/backends" -b cuda -r cpu $vectors/parity-smollm2-p08.bin
if $bench; then
    say '## Speed' ''
    for subject in attn linear; do
        part "kernels of $subject" 60 sh -c "$bin/kerncheck --backend cuda --only $subject --bench | cut -c 1-120"
    done
    "$bin/mkmodel" --type Q8_0 --layers 32 --heads 32 --kv-heads 8 --head-dim 128 --width 4096 --ff 14336 --context 8192 "$work/8b.gguf"
    part "a model of Llama-3.1-8B's shape, random weights in Q8_0, vocabulary 4,096" 120 "$bin/speed" -m "$work/8b.gguf" -b cuda -o
    [ -z "${KVT_MODEL:-}" ] || part 'the real model' 60 "$bin/speed" -m "$KVT_MODEL" -b cuda -o
    [ -z "$llama" ] || part 'llama-bench' 120 "$llama" -m "$llama_model" -p 512,2048 -n 128
fi
if $sanitizer && command -v compute-sanitizer >/dev/null; then
    say '## compute-sanitizer, on a third of the cases' ''
    # a check under a tool is slow on the CPU, not on the GPU: a tool's subjects side by side, not more (each takes memory of the device)
    for tool in memcheck racecheck synccheck initcheck; do
        running=()
        for subject in elem linear cache score step attn lost; do
            timeout 90 compute-sanitizer --tool $tool --error-exitcode 9 "$bin/kerncheck" --backend cuda --only $subject --quick >"$work/$tool-$subject" 2>&1 &
            running+=("$!:$tool-$subject")
        done
        for one in "${running[@]}"; do
            wait "${one%%:*}"
            part "${one#*:}" 5 sh -c "rc=$?; [ \$rc -eq 0 ] || grep -m 12 '=========' $work/${one#*:}; tail -n 3 $work/${one#*:}; exit \$rc"
        done
    done
fi
say "$failed parts failed."
echo "$page: $failed parts failed"
[ $failed -eq 0 ]
