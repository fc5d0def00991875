#!/usr/bin/env bash
# Configures and builds into a folder; quick when nothing changed, quiet unless something fails.
# usage: scripts/build.sh DIR [-t TARGET]... [CMAKE_OPTION...]
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${1:?usage: scripts/build.sh DIR [-t TARGET]... [CMAKE_OPTION...]}
shift
targets=()
while [ "${1:-}" = -t ]; do
    targets+=(--target "$2")
    shift 2
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
step() {
    if ! "$@" >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "build.sh: failed: $*" >&2
        exit 1
    fi
    grep -E 'warning:' "$log" >&2 || true
}

generator=()
[ -e "$dir/CMakeCache.txt" ] || generator=(-G Ninja)
[ -e "$dir/CMakeCache.txt" ] || echo "building into $dir/ (the first time takes a minute or two)" >&2
step cmake -S . -B "$dir" "${generator[@]}" "$@"
step cmake --build "$dir" --parallel "$(nproc)" "${targets[@]}"
