# Files that are no trace, or not a whole one: every reader says so in one line and exits 3.
. "$here/try"
printf 'not HDF5\n' >letter.h5
head -c 3000 "$trace" >cut.h5
for tool in kvinfo kvoverlap kvcoherence "kvplot heatmap -o x.png" "kvplot kept -o x.png" "kvplot overlap -o x.png"; do
    # shellcheck disable=SC2086  # the words of a command
    for file in missing.h5 letter.h5 cut.h5; do
        try "$tool $file" timeout 60 $tool $file
    done
done
ls x.* 2>/dev/null
exit 0
