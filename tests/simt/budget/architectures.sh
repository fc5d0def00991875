#!/usr/bin/env bash
# nvcc compiles files of kernels/cuda/ for every architecture that the product may have code for, warnings are errors, and what ptxas made is
# held against the budget (spills, local memory, doubles where none belong, registers, occupancy, required instructions). A minute or
# two a file for the large ones, half an hour for all on two cores.
# usage: architectures.sh [--since COMMIT] [FILE.cu...]     without files: all; --since: those that changed, or whose headers did
set -euo pipefail
cd "$(dirname "$0")/../../.."
command -v nvcc >/dev/null || { echo "skipped: no nvcc; nothing was compiled for a GPU"; exit 0; }

files=()
if [ "${1:-}" = --since ]; then
    changed=$(git diff --name-only "$2" -- kernels/cuda)
    shift 2
    for header in $(grep '\.h$' <<<"$changed" || true); do
        changed+=$'\n'$(grep -l "\"$header\"" kernels/cuda/*.cu || true)
    done
    mapfile -t files < <(grep '\.cu$' <<<"$changed" | sort -u)
    [ ${#files[@]} -gt 0 ] || { echo "no kernel has changed"; exit 0; }
elif [ $# -gt 0 ]; then
    files=("$@")
else
    files=(kernels/cuda/*.cu)
fi

codes=(-gencode arch=compute_120,code=compute_120)
for arch in ${KVT_ARCHITECTURES:-80 86 89 90 100 120}; do
    codes+=(-gencode "arch=compute_$arch,code=sm_$arch")
done
out=${KVT_OBJECTS:-build/architectures}
mkdir -p "$out"
failed=false
for file in "${files[@]}"; do
    [ -e "$file" ] || continue
    object=$out/$(basename "$file" .cu).o
    start=$SECONDS
    if ! nvcc -std=c++20 -O3 -I. -Iinclude -DKVT_PLUGIN_NAME='"cuda"' -Xcompiler -fPIC -Werror all-warnings --no-compress --threads "$(nproc)" "${codes[@]}" -c "$file" -o "$object"; then
        echo "$file: not compiled"
        failed=true
        continue
    fi
    python3 tests/simt/budget/report.py --some "$object" tests/simt/budget/budget.json >"$object.txt" || { grep -E "OVER" "$object.txt"; failed=true; }
    echo "$file: $(tail -n 1 "$object.txt") ($((SECONDS - start)) s)"
done
! $failed
