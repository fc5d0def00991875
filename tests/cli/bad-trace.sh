# Files that are no trace, or not a whole one: every reader says so in one line and exits 3.
. "$here/try"
printf 'not HDF5\n' >letter.h5
head -c 3000 "$trace" >cut.h5
for tool in kvinfo kvoverlap kvcoherence kvbudget "kvplot heatmap -o x.png" "kvplot kept -o x.png" "kvplot overlap -o x.png"; do
    # shellcheck disable=SC2086  # the words of a command
    for file in missing.h5 letter.h5 cut.h5; do
        try "$tool $file" timeout 20 $tool $file
    done
done
# one byte of the first object, so that its checksum is wrong: HDF5 would wait for a writer to repair it
cp "$trace" sum.h5
printf '\200' | dd of=sum.h5 bs=1 seek=13 conv=notrunc status=none
try "kvinfo sum.h5" timeout 20 kvinfo sum.h5
# cut anywhere: what is left is read, or refused
size=$(wc -c <"$trace")
for percent in 5 20 40 60 80 95; do
    head -c $((size * percent / 100)) "$trace" >part.h5
    for tool in kvinfo kvoverlap kvcoherence kvbudget "kvreport --no-pictures -o y.html" "kvplot heatmap -o y.png"; do
        code=0
        # shellcheck disable=SC2086
        timeout 20 $tool part.h5 >try.stdout 2>try.stderr || code=$?
        [ $code -eq 0 ] || { [ $code -eq 3 ] && [ "$(wc -l <try.stderr)" -eq 1 ]; } || {
            echo "$tool of the first $percent %: exit $code"
            cat try.stderr
        }
    done
done
ls x.* 2>/dev/null
exit 0
