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

# scan WHAT OPTION...: runs with more and more memory until it is enough; says what was not as it should be
scan() {
    what=$1
    shift
    failed=0
    code=4
    size=$kib
    while [ $code -ne 0 ] && [ "$size" -lt 4000000 ]; do
        code=0
        rm -f out.h5*
        limited "$size" kvtrace -q --threads 1 -m "$model" -f prompt.txt --method snapkv,h2o --keep 50% -n 8 "$@" \
            >try.stdout 2>try.stderr || code=$?
        case $what,$code,$(wc -l <try.stderr) in
        *,0,0) ;;
        *,4,1) failed=$((failed + 1)) ;;
        traced,1,1) grep -q memory try.stderr || cat try.stderr ;; # HDF5 says what it wanted, we can't tell its kind
        traced,139,*) ;; # libhdf5 1.10 doesn't look at every allocation of its own,
        traced,255,0) ;; # and where H5I_register has none it ends the process itself: exit(-1)
        *)
            echo "$what, $size KiB: exit $code, and on stderr:"
            cat try.stderr
            ;;
        esac
        size=$((size + 2048))
    done
    [ $failed -gt 0 ] && echo "$what: for want of memory it failed in one line each time"
    [ $code -eq 0 ] && echo "$what: with enough memory it ran"
}
scan plain
scan traced -o out.h5
