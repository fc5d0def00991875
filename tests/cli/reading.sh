# The examples of docs/reading.md run, each where its package is there; what is skipped is said.
. "$here/try"
mktrace run.h5 L=2 n_new=4
# block HEADING: the code below it
block() { awk -v h="## $1" '$0 == h { on = 1; next } on && /^## / { exit } on && /^```$/ { exit } on && code { print } on && /^```./ { code = 1 }' "$here/../../docs/reading.md"; }
ran='' skipped=''
# example HEADING PROGRAM...: runs its block
example() {
    block "$1" >code
    [ -s code ] || echo "$1: no block in docs/reading.md"
    what=$1
    shift
    "$@" code >said 2>complaint && [ -s said ] || { echo "$what fails"; cat complaint; }
    ran="$ran $what,"
}
PYTHONPATH=$here/../../python${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH PYTHONDONTWRITEBYTECODE
if with_python h5py numpy; then example h5py "$python"; example "numpy through python/kvtrace.py" "$python"; else skipped="$skipped h5py,"; fi
if with_python h5py pandas; then example pandas "$python"; else skipped="$skipped pandas,"; fi
if with_python xarray h5netcdf; then example xarray "$python"; else skipped="$skipped xarray,"; fi
if Rscript -e 'library(rhdf5)' >/dev/null 2>&1; then example R Rscript; else skipped="$skipped R,"; fi
if command -v h5dump >/dev/null; then example h5dump sh; else skipped="$skipped h5dump,"; fi
echo "ran:$ran skipped:$skipped"
