# A GPU that can't be had, one that is lost in the middle of a step, and Ctrl-C while graphs are launched, as the emulation plays them: one line
# each that says what to do, the right exit status, and a trace of what came before.
. "$here/try"
[ -e "$(dirname "$(command -v kvtrace)")/libkvt_simt.so" ] || skip "this build has no simt backend (no CUDA headers)"
words >prompt.txt
run() { kvtrace -q -m "$model" -f prompt.txt --backend simt --window 8 --method h2o --keep 50% --ignore-end "$@"; }
for state in none old busy; do
    SIMT_DEVICE=$state try "a device that is $state" run -n 2
done
SIMT_DEVICE=lost:900 try "lost in the middle" run -n 30 -o lost.h5
kvinfo lost.h5* 2>&1 | grep -o -m 1 "failed"
try "interrupted" timeout --preserve-status --kill-after=60 --signal=INT 4 kvtrace -q -m "$model" -f prompt.txt --backend simt --window 8 --method h2o --keep 50% --ignore-end -n 1900 -o int.h5
kvinfo int.h5* 2>&1 | grep -o -m 1 "interrupted"
