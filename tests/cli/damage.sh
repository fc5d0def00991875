# What can happen to a trace while it is written: one line each, and the data is somewhere.
. "$here/try"
words >prompt.txt
started() { exec kvtrace -q -m "$model" -f prompt.txt --window 8 --method random,h2o --keep 20%,40%,60% -n 600 --ignore-end --maps full "$@"; }
run() (started "$@")
whole() { sametrace "$1" "$1" && kvinfo --view run "$1" 2>/dev/null | grep '^status'; }

limited() (
    trap '' XFSZ
    ulimit -f $1
    shift
    run "$@"
)
run -o size.h5 >/dev/null
try "a limit on files' sizes" limited $(($(wc -c <size.h5) / 512 * 9 / 10)) -o limited.h5
kvinfo --view run limited.h5 2>/dev/null | grep '^status'
kvinfo --repair limited.h5.part >/dev/null 2>&1 || echo "no repair"
sametrace limited.h5.part limited.h5.part || echo "not all of what is left can be read"

late() { LD_PRELOAD=$(dirname "$(command -v kvinfo)")/failsync.so kvtrace -q -m "$model" -f prompt.txt -n 2 -o late.h5; }
try "a sync that fails" late
whole late.h5.part

mkdir gone
started -o gone/run.h5 >/dev/null 2>err &
pid=$!
while [ ! -e gone/run.h5.part ]; do sleep 0.01; done
rm -r gone
wait $pid
echo "the folder removed: exit $?"
cat err
whole run.h5.rescued

mkdir here
started -o here/run.h5 >/dev/null 2>err &
pid=$!
while [ ! -e here/run.h5.part ]; do sleep 0.01; done
mv here there
wait $pid
echo "the folder moved: exit $?"
sed 's/is in .*there/is in *there/' err
whole there/run.h5.part

mkdir both
for i in 1 2 3 4 5 6; do
    (mktrace both/t.h5 force=1 step_us=20000 no_full=1 2>both/err$i; echo $? >both/exit$i) &
done
wait
echo "six runs into one file: $(cat both/exit* | grep -c '^0') of them written"
cat both/err* | sort -u | sed 's/, or read;/;/' | uniq
whole both/t.h5
ls both/t.h5*
exit 0
