# Every number of the analyzers on traces drawn by hand, against what README.md works out on paper.
# usage: drawn.sh BIN_DIR TESTS_DIR
set -eu
PATH=$1:$PATH
here=$2/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for name in sets other attention; do handtrace "$here/$name.txt" $name.h5; done
# again: the same prompt, where alpha 50% holds b2 in place of b4. half: head 0 looks at the first token with one half, at itself with the other
sed 's/^kept 0 0  P|##..|#..#|##....|W/kept 0 0  P|##..|##..|##....|W/' "$here/sets.txt" >again.txt
sed 's,^head 0 0 .*,head 0 0  1/2 first  1/2 self,' "$here/attention.txt" >half.txt
# late: token 16 in place of 6, the last that 32 rows see; too-late: 17
sed 's, 3/8 6 , 3/8 16 ,' "$here/attention.txt" >late.txt
sed 's, 3/8 6 , 3/8 17 ,' "$here/attention.txt" >too-late.txt
for name in again half late too-late; do handtrace $name.txt $name.h5; done
for name in sets other attention again half; do kvinfo --check $name.h5; done | sort | uniq -c | grep -v '^ *1 ' && exit 1
sh "$here/hold" "$here/sets.numbers"
sh "$here/hold" "$here/attention.numbers"
# a table without a head: 0 and (1 - 36 w + 15/68) / 2 for kv heads 0 and 1
kvattn --show gates attention.h5 | tail -n 1 | tr '\t' ' ' | grep -x '0.000000 0.153357'
