# Ctrl-C in the middle of a run: one line, exit 130, and a trace that says so and can be read.
. "$here/try"
words >prompt.txt
every=20%,25%,30%,35%,40%,45%,50%,55%,60%,65%,70%,75%,80%,85%,90%
run() {
    try "$1 after a second" timeout --preserve-status --kill-after=60 --signal="$1" 1 kvtrace -m "$model" -f prompt.txt --window 8 \
        --method random,h2o --keep $every -n 1900 --ignore-end -o "$1.h5"
    cat try.stdout
    kvinfo "$1.h5" >info.txt 2>&1 || echo "kvinfo: exit $?"
    grep -o interrupted info.txt | head -n 1
}
run INT
run TERM
ls ./*.h5*
plugins=$(dirname "$(command -v kvtrace)")/../plugins
try "between two branches' evictions" kvtrace -m "$model" -f prompt.txt --method-plugin "$plugins/interrupt.so" --method 'random,interrupt,knorm' --keep 50% -n 4 -o between.h5
kvinfo --check between.h5
rm -f between.h5
