# Mistakes on the command line: one line that names the nearest right word, and exit 2. Nothing is read or written.
. "$here/try"
words >prompt.txt
run() { what=$1; shift; try "$what" kvtrace -m "$model" -f prompt.txt -n 2 -o out.h5 "$@"; }

run "unknown option" --metod snapkv
run "unknown method" --method snapvk --keep 50%
run "unknown parameter of a method" --method 'snapkv[windw=8]' --keep 50%
run "a parameter out of range" --method 'snapkv[w=0]' --keep 50%
run "a bracket that stays open" --method 'snapkv[w=8' --keep 50%
run "unknown protocol" --method snapkv --keep 50% --protocol visble
run "a budget of 0" --method snapkv --keep 0
run "a budget of 0 %" --method snapkv --keep 0%
run "a budget above 100 %" --method snapkv --keep 101%
run "a budget that is no number" --method snapkv --keep half
run "everything removed" --method snapkv --remove 100%
run "no tokens kept" --method snapkv --tokens 0
run "a negative number of tokens" --method snapkv --keep 50% -n -3
run "a number that isn't one" --method snapkv --keep 50% --threads 12x
run "unknown kind of map" --method snapkv --keep 50% --maps pooled2
run "layers outside the model" --method snapkv --keep 50% --maps full --layers 0-99
run "vectors that there aren't" --dump q,w
try "vectors without a trace" kvtrace -m "$model" -f prompt.txt --dump q
try "no prompt" kvtrace -m "$model" --method snapkv --keep 50% -n 2 -o out.h5
for tool in kvinfo kvoverlap kvcoherence kvbudget; do
    try "$tool without a trace" $tool
    try "$tool with an unknown option" $tool --formatt tsv "$trace"
done
try "kvplot without anything" kvplot
try "kvplot of an unknown kind" kvplot heatmaps "$trace" -o x.png
try "kvplot into an unknown format" kvplot heatmap "$trace" -o x.jpeg
ls ./*.h5* x.* 2>/dev/null
exit 0
