# Outputs that can't be written: said before the model runs, nothing is lost.
. "$here/try"
words >prompt.txt
run() { what=$1; out=$2; shift 2; try "$what" kvtrace -m "$model" -f prompt.txt --method snapkv --keep 50% -n 2 -o "$out" "$@"; }

printf 'somebody else'\''s work\n' >taken.h5
run "exists" taken.h5
cat taken.h5
run "no such folder" nowhere/out.h5
mkdir folder.h5
run "a folder" folder.h5
run "replaced with --force" taken.h5 --force
kvinfo taken.h5 >/dev/null && echo "taken.h5 is a trace now"

mkdir closed
chmod a-w closed
if [ "$(id -u)" -ne 0 ]; then
    run "a folder that may not be written" closed/out.h5
else
    # root may write anywhere until it gives that up
    try "a folder that may not be written" setpriv --bounding-set=-all --inh-caps=-all \
        kvtrace -m "$model" -f prompt.txt --method snapkv --keep 50% -n 2 -o closed/out.h5
fi
ls closed
exit 0
