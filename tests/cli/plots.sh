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
exit 0
