# The disk fills up in the middle of a run: one line, exit 1, and what was written until then can be read. Root gets a
# small disk of its own; others a limit on the size of a file, which fails in the same way.
. "$here/try"
words >prompt.txt
run() { kvtrace -q -m "$model" -f prompt.txt --window 8 --method random,h2o --keep 50% -n 300 --ignore-end -o "$1"; }

run whole.h5 >/dev/null
whole_kib=$(($(wc -c <whole.h5) / 1024))
rm whole.h5
small() {
    kib=$((whole_kib * $1 / 100))
    mkdir disk
    if mount -t tmpfs -o size=${kib}k none disk 2>/dev/null; then
        run disk/out.h5
    else
        (
            trap '' XFSZ # a write beyond the limit fails, as on a full disk, instead of ending the program
            ulimit -f $((kib * 2))
            run disk/out.h5
        )
    fi
}
after() {
    for file in disk/out.h5.part disk/out.h5; do
        [ ! -e $file ] || kvinfo $file >info.txt 2>&1 || echo "kvinfo $file: exit $?"
    done
    umount disk 2>/dev/null
    rm -r disk
}
for percent in 5 50 75 90; do
    try "$percent % of the room it needs" small $percent
    after
done
