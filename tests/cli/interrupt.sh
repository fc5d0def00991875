# Ctrl-C in the middle of a run: one line, exit 130, and a trace that says so and can be read.
. "$here/try"
words >prompt.txt
every=1%,2%,3%,4%,5%,6%,7%,8%,9%,10%,20%,30%,40%,50%,60%,70%,80%,90%
run() {
    try "$1 after a second" timeout --preserve-status --kill-after=60 --signal="$1" 1 kvtrace -m "$model" -f prompt.txt --window 8 \
        --method random,streaming,h2o --keep $every -n 1900 --ignore-end -o "$1.h5"
    cat try.stdout
    kvinfo "$1.h5" >info.txt || echo "kvinfo: exit $?"
    grep -o interrupted info.txt | head -n 1
}
run INT
run TERM
ls ./*.h5*
