# Address space runs out, wherever that happens to be: exit 4 and one line, never a crash. Then a run with enough.
. "$here/try"
i=0
while [ $i -lt 12 ]; do
    words
    i=$((i + 1))
done >prompt.txt
limited() {
    (
        ulimit -v "$1"
        shift
        exec "$@"
    )
}
# what the program itself needs to start
kib=16384
until limited $kib kvtrace --version >/dev/null 2>&1; do
    kib=$((kib + 4096))
    [ $kib -lt 1000000 ] || skip "kvtrace doesn't start within 1 GB of address space"
done
failed=0
code=4
while [ $code -ne 0 ] && [ $kib -lt 4000000 ]; do
    code=0
    rm -f out.h5*
    limited $kib kvtrace -q --threads 1 -m "$model" -f prompt.txt --method snapkv,h2o --keep 50% -n 8 -o out.h5 \
        >try.stdout 2>try.stderr || code=$?
    case $code,$(wc -l <try.stderr) in
    0,0) ;;
    4,1) failed=$((failed + 1)) ;;
    *)
        echo "$kib KiB: exit $code, and on stderr:"
        cat try.stderr
        ;;
    esac
    kib=$((kib + 2048))
done
[ $failed -gt 0 ] && echo "it failed for want of memory, in one line each time"
[ $code -eq 0 ] && echo "with enough memory it ran"
