# Every number of the analyzers on two traces of the tiny model, and of rows and derived budgets on a third, against what vectors/measures.py computed without their code.
# usage: measures.sh BIN_DIR TESTS_DIR
set -eu
PATH=$1:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for trace in a b c; do gzip -dc "$2/vectors/measures-$trace.h5.gz" >$trace.h5; done
sh "$2/golden/hold" "$2/vectors/measures.txt"
sh "$2/golden/hold" "$2/vectors/measures-rows.txt"
