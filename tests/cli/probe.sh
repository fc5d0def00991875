# kvattn --probe: a model's heads on prompts of its own; what it keeps is read back beside a trace of that model, and of no other.
. "$here/try"
kvattn --probe -m "$model" -t 1 --needles 1 -o probes.tsv --format tsv >a.tsv
head -1 a.tsv
awk 'NR > 1' a.tsv | wc -l
head -1 probes.tsv
awk -F'\t' 'NR > 1 && ($3 < 0 || $3 > 1 || $4 < 0 || $4 > 1) { print "head " $1 " " $2 ": " $3 " " $4 }' a.tsv
# the repeat looks at every key a little: the two diagonals together hold less than all, and more than nothing
awk -F'\t' 'NR > 1 { s += $3 + $4 } END { print (s > 0 && s < 18 ? "some mass" : s) }' a.tsv
kvattn "$trace" --probes probes.tsv --show labels --format tsv | cut -f 1
kvattn "$trace" --probes probes.tsv --show heads --induction 0 --format tsv | awk -F'\t' 'NR > 1 && $NF ~ /induction/ { n++ } END { print n " heads with any induction" }'
mkmodel --seed 5 other.gguf && kvtrace -q -m other.gguf -p "One and one is two, and two and one is three, which is more than two and less than four." -n 1 -o other.h5 >/dev/null
try "other weights" kvattn other.h5 --probes probes.tsv --show labels
kvattn other.h5 --probes probes.tsv --show labels --force --format tsv | wc -l
try "no probes" kvattn "$trace" --probes "$here/shots.jsonl" --show labels
try "a file is there" kvattn --probe -m "$model" -t 1 -o probes.tsv
try "a trace with it" kvattn --probe -m "$model" "$trace"
try "nothing" kvattn
try "out without it" kvattn "$trace" -o x.tsv
