# What pictures say: a name with a percent sign is a label, not a format; without sections there is no axis of them.
. "$here/try"
command -v gnuplot >/dev/null || skip "gnuplot is not installed"
kvplot overlap "$trace" --branches snapkv,random -o overlap.svg
grep -c '>snapkv\[w=8\] 50%<\|>snapkv 50%<' overlap.svg # beside its row and below its column
words | kvtrace --quiet -m "$model" -f - --method random,streaming -n 2 -o run.h5 >out
kvplot kept run.h5 -o kept.svg
grep -c '<text> *20</text>' kept.svg # below the last panel, and nowhere else
kvplot heatmap run.h5 -o heatmap.svg
grep -c 'shots, Q' heatmap.svg
# every chart draws every branch of the budget, and leaves its table when asked
for figure in depth survival asked kl coherence sets layers lorenz timeline budget bytes; do
    kvplot $figure "$trace" -o chart.svg --keep-data data || echo "no $figure"
    echo "$figure: $(grep -c '^# ' data/chart.tsv) lines of heads, $(grep -c '^[-0-9]' data/chart.tsv | awk '{ print ($1 > 0 ? "with" : "without") }') points"
    [ -s chart.svg ] || echo "$figure: empty"
    rm -r data chart.svg
done
try "lost mass that wasn't measured" kvplot lost "$trace" -o x.svg
try "no such figure" kvplot pie "$trace" -o x.svg
try "a measure that isn't there" kvplot budget "$trace" --measure size -o x.svg
exit 0
