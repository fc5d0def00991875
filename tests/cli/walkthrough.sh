# The commands of docs/walkthrough.md, word for word, on the model that comes with kvtrace. Would catch: a page that isn't true any more.
. "$here/try"
command -v gnuplot >/dev/null || skip "no gnuplot"
ln -s "$here/../../examples" examples
awk '/^```/ { if (inside) exit; inside = 1; next } inside' "$here/../../docs/walkthrough.md" >lines
[ "$(wc -l <lines)" -ge 6 ] || echo "the page has fewer commands"
while read -r line; do
    try "${line%% *}" sh -c "$line" </dev/null | grep -v '^kvtrace: the embedded\|^prefill '
done <lines
for file in run.h5 overlap.png report.html; do [ -s $file ] || echo "no $file"; done
