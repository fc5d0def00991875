# Device memory that can't be had: each allocation in turn, of weights, cache and scratch, and of pinned memory. One line, exit 4, nothing left
# allocated (SIMT_LEAKS would make it 70), and a trace that was begun can be read.
[ -e "$(dirname "$(command -v kvtrace)")/libkvt_simt.so" ] || { echo "skipped: this build has no simt backend (no CUDA headers)"; exit 77; }
export SIMT_LEAKS=1
run() { # VARIABLE N: a run that decodes, observes and evicts, with that fault; $rc and $begun (whether there is a trace)
    rm -f part.h5*
    env "$1=$2" kvtrace -q -m "$model" -p "One two three four five six seven eight nine ten" --backend simt --method 'h2o,snapkv[w=4]' --keep 50% -n 4 --ignore-end \
        -o part.h5 >out.txt 2>err.txt
    rc=$?
    begun=false
    if [ $rc -ne 0 ] && ls part.h5* >/dev/null 2>&1; then
        begun=true
        kvinfo part.h5* >info.txt 2>&1 || echo "$1=$2: the trace can't be read: $(head -n 1 info.txt)"
    fi
}
n=0 traces=0
while run SIMT_FAIL_MALLOC_AFTER $n; [ $rc -ne 0 ]; do
    [ $rc -eq 4 ] && [ "$(wc -l <err.txt)" -eq 1 ] && grep -q "no.* memory\|MemoryAllocation" err.txt || { echo "allocation $n: exit $rc"; head -n 3 err.txt; }
    ! $begun || traces=$((traces + 1))
    n=$((n + 1))
    [ $n -lt 400 ] || break
done
[ $n -gt 30 ] && [ $n -lt 400 ] && echo "each allocation fails in its turn, and then none is left to fail"
[ $traces -gt 0 ] && echo "where a trace was begun, it can be read"
