#!/usr/bin/env bash
# Builds everything and runs all tests. The last line counts them: N passed, N failed, N skipped.
# usage: scripts/test.sh [--quick]     --quick: no second build under AddressSanitizer and UBSan
# With CI set, warnings are errors, and tests of the label `emulation` (the cuda backend's kernels on the CPU) are left to .ci/run's next step. Tests against the real model need it (scripts/get-model.sh) and say `skipped` without.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
case ${1:-} in
--quick) quick=true ;;
'') ;;
*) echo "test.sh: unknown option '$1'; usage: scripts/test.sh [--quick]" >&2; exit 2 ;;
esac

scripts/deps.sh build plot test
warnings=()
# One GPU architecture is enough for a check, and none under the sanitizers: nvcc takes minutes for each.
apart=()
[ -z "${CI:-}" ] || apart=(-LE emulation)
[ -z "${CI:-}" ] || warnings=(-DKVT_WERROR=ON -DCMAKE_CUDA_ARCHITECTURES=90)

if [ -z "${KVT_MODEL:-}" ] && KVT_MODEL=$(scripts/get-model.sh); then
    export KVT_MODEL
else
    [ -n "${KVT_MODEL:-}" ] || { unset KVT_MODEL; echo "test.sh: without the model; the tests that need it are skipped" >&2; }
fi

# OpenMP threads that spin while they wait take the cores from the other tests.
export OMP_WAIT_POLICY=passive

results=()
failed=false
# run DIR CTEST_OPTION...: the tests of one build; what fails is shown in full
run() {
    local dir=$1
    shift
    results+=("$PWD/$dir/tests.xml")
    rm -f "$dir/tests.xml"
    ctest --test-dir "$dir" --output-on-failure --no-tests=error --parallel 2 --output-junit tests.xml "${apart[@]}" "$@" || failed=true
}

scripts/build.sh build -DCMAKE_BUILD_TYPE=Release "${warnings[@]}"
run build

if ! $quick; then
    # The same tests on the made-up models only: under the sanitizers the real one takes minutes and shows nothing more.
    scripts/build.sh build-sanitize -DCMAKE_BUILD_TYPE=RelWithDebInfo -DKVT_SANITIZE=address,undefined -DKVT_CUDA=OFF \
        -DCMAKE_C_FLAGS=-fno-sanitize-recover=all "${warnings[@]}"
    unset KVT_MODEL
    export LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp:print_suppressions=0"
    run build-sanitize -E sabotage # whether wrong numbers are noticed was seen above, and has nothing to do with memory
fi

# sum NAME: adds up one count of the <testsuite> lines
sum() {
    local total=0 value file
    for file in "${results[@]}"; do
        value=$(sed -n "s/.*[[:space:]]$1=\"\([0-9]*\)\".*/\1/p" "$file" 2>/dev/null | head -n 1)
        total=$((total + ${value:-0}))
    done
    echo $total
}
bad=$(sum failures)
skipped=$(($(sum skipped) + $(sum disabled)))
echo "$(($(sum tests) - bad - skipped)) passed, $bad failed, $skipped skipped"
! $failed && [ "$bad" -eq 0 ]
