# What pictures say: a name with a percent sign is a label, not a format; without sections there is no axis of them. Each figure
# leaves a folder that draws it again, byte for byte, and states model and methods; colours keep their order in grey.
. "$here/try"
command -v gnuplot >/dev/null || skip "gnuplot is not installed"
kvplot overlap "$trace" --branches snapkv,random -o overlap.svg
grep -c '>snapkv\[w=8\] 50%<\|>snapkv 50%<' overlap.svg # beside its row and below its column
words | kvtrace --quiet -m "$model" -f - --method random,streaming -n 2 -o run.h5 >out
kvplot kept run.h5 -o kept.svg
grep -c '<text> *20</text>' kept.svg # below the last panel, and nowhere else
printf '## tiny, 20 questions\n# method\tbudget\tbytes_mean (bytes)\taccuracy\tlow\thigh\nfull\t100%%\t9e6\t.8\t.7\t.9\nh2o\t25%%\t3e6\t.5\t.4\t.6\nh2o\t50%%\t5e6\t.6\t.5\t.7\n' >table.tsv

# draw NAME ARGUMENTS...: the picture, the same again from what --data left, and what its small print says
draw() {
    name=$1
    shift
    kvplot "$@" -o picture.svg --data data || echo "no $name"
    sed "s/ style='image-rendering[^']*'//" picture.svg >first.svg
    (cd data && gnuplot -d plot.gp 2>/dev/null) && cmp -s first.svg data/figure.svg || echo "$name: not the same again"
    [ "$name" != pairs ] || grep -c "^3	50	35	60" data/chart.tsv # 80 - 45, 80 - 20
    says=$(tr '\n' ' ' <data/plot.gp)
    case $says in *'protocol visible'*) model_said=model ;; *) model_said='no model' ;; esac
    case $says in *'snapkv@1['*'w=8'*) methods_said=methods ;; *) methods_said='no methods' ;; esac
    echo "$name: $(cat data/*.tsv | grep -vc '^#\|^$' | awk '{ print ($1 > 0 ? "data" : "no data") }'), $model_said, $methods_said"
    rm -r data picture.svg
}
draw heatmap heatmap "$trace"
draw grid heatmap "$trace" --layer 1 --head all --scale power
draw wall heatmap "$trace" --wall
draw spans spans "$trace" "$trace"
for figure in heads layers lorenz kept depth survival sets asked overlap coherence budget bytes kl timeline; do
    draw $figure $figure "$trace"
done
draw steps kept "$trace" --by methods --steps 3
draw column budget "$trace" --measure overlap --paper column
draw accuracy accuracy table.tsv
printf '# branch\tkv_bytes_mean (bytes)\tright\tlow\thigh\tmethod\tasked\nfull\t9e6\t.8\t.7\t.9\tfull\t100%%\ns\t3e6\t.5\t.4\t.6\tsnapkv@1[w=8]\t25%%\n' >rows.tsv
printf '# branch\tagainst\tdifference\tlow\thigh\ns\tfull\t-.3\t-.45\t-.2\n' >pairs.tsv
draw pairs accuracy rows.tsv pairs.tsv

# kinds: a .tex includes its own graphic, its texts are LaTeX's; a .gif has frames; paper has its width in inches
kvplot kl "$trace" --keep 25% -o kl.tex --paper page
grep -c 'includegraphics.*{kl}' kl.tex
grep -c 'at 25\\%' kl.tex
head -c 4 kl.pdf && echo
kvplot kept "$trace" --by methods --steps 3 -o kept.gif && head -c 3 kept.gif && echo
kvplot kl "$trace" -o kl.pdf --paper column --data data && grep -o 'size 3.30709in' data/plot.gp

# luminance of each palette: it rises or falls all the way
for style in "$here"/../../plots/*.gp; do
    grep -o 'set palette defined ([^)]*)' "$style" | awk -v style="$(basename "$style" .gp)" '
        function hex(s) { return 16 * (index("0123456789abcdef", substr(s, 1, 1)) - 1) + index("0123456789abcdef", substr(s, 2, 1)) - 1 }
        function linear(v) { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ^ 2.4 }
        {
            n = split(tolower($0), part, "#")
            up = down = 0
            for (i = 2; i <= n; i++) {
                y[i] = 0.2126 * linear(hex(substr(part[i], 1, 2))) + 0.7152 * linear(hex(substr(part[i], 3, 2))) + 0.0722 * linear(hex(substr(part[i], 5, 2)))
                up += i > 2 && y[i] > y[i - 1]
                down += i > 2 && y[i] < y[i - 1]
            }
            print style ": " n - 1 " colours, " (up && down ? "not in order" : "in order")
        }'
done

try "lost mass that wasn't measured" kvplot lost "$trace" -o x.svg
try "no such figure" kvplot pie "$trace" -o x.svg
try "a measure that isn't there" kvplot budget "$trace" --measure size -o x.svg
try "one picture of frames" kvplot kl "$trace" -o x.gif
try "two traces where one is drawn" kvplot depth "$trace" "$trace" -o x.svg
try "steps of many branches" kvplot kept "$trace" --steps 3 -o x.svg
mkmodel --seed 8 other.gguf
words | kvtrace --quiet -m other.gguf -f - --method random -n 2 -o other.h5 >out
try "two models in one median" kvplot kl "$trace" other.h5 -o x.svg
try "no full maps" kvplot heatmap "$trace" --full -o x.svg
try "no spans" kvplot spans run.h5 -o x.svg
try "no shots" kvplot coherence run.h5 -o x.svg
words | kvtrace --quiet -m "$model" -f - --maps none --see none -n 1 -o bare.h5 >out
for figure in heatmap spans heads layers lorenz kept depth survival sets asked overlap coherence budget bytes kl derive lost; do
    try "$figure of a trace with next to nothing" kvplot $figure bare.h5 -o x.svg
done
printf 'a table of something else\n' >other.tsv
try "not a table of results" kvplot accuracy other.tsv -o x.svg
printf '# method\tbytes_mean\taccuracy\nh2o\tmany\t1\n' >other.tsv
try "not a number" kvplot accuracy other.tsv -o x.svg
exit 0
