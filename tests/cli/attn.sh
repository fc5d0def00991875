# kvattn: each question has its table; what a trace doesn't hold is named with what to trace.
. "$here/try"
kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question Why? -n 2 --ignore-end --see all -o see.h5 >/dev/null
table() { echo "$*"; kvattn see.h5 "$@" --format tsv >a.tsv && head -1 a.tsv && echo "$(($(wc -l <a.tsv) - 1)) rows"; }
table
table --show heads --layers 1
table --show labels
table --show distances --layers 0
table --show shots
table --show decode
table --show change
table --show spans | sed 's,[0-9]* rows,some rows,'
# a row's distances sum to 1, and what a head looks at is in [0, 1]
kvattn see.h5 --show distances --format tsv | awk -F'\t' 'NR > 1 { s[$1 " " $2] += $4 } END { for (k in s) if (s[k] < 0.999 || s[k] > 1.001) print "head " k " sums to " s[k] }'
kvattn see.h5 --show heads --format tsv | awk -F'\t' 'NR > 1 { for (i = 3; i <= 11; i++) if (i != 4 && ($i < 0 || $i > 1.0001)) print "column " i ": " $i; if ($4 < 1) print "fewer than one key: " $4 }'
# what the rows of generated tokens look at lies on spans, between them, or on the answer itself; and the file is sound
kvattn see.h5 --show spans --format tsv | awk -F'\t' '$1 == "own answer" && ($2 == "own answer" || $2 ~ /^shot/) { s += $3; n++ } END { print n " parts,", (s > 0.2 && s <= 1 ? "most of the mass" : s) }'
kvinfo --check see.h5
# everything is a sink where nothing is asked of it; nothing is where all is
kvattn see.h5 --show sinks --token-sink 0 --format tsv | awk 'END { print (NR > 10 ? "many" : "few") }'
kvattn see.h5 --show sinks --token-sink 1 --format tsv | wc -l
kvattn see.h5 see.h5 --compare --format tsv | cut -f 1,4
kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question Why? -n 2 --ignore-end --see scores -o few.h5 >/dev/null
mkmodel --seed 3 --layers 2 other.gguf && kvtrace -q -m other.gguf --shots "$here/shots.jsonl" --question Why? -n 2 --ignore-end --see all -o other.h5 >/dev/null
kvattn see.h5 other.h5 --compare --force --format tsv | cut -f 1,6 | sed -n '2,3p;$p'
kvattn few.h5 --format tsv | awk -F'\t' 'NR == 2 { print ($4 ~ /nan/ ? "no token 0" : "token 0"), ($5 > 0 ? "sinks" : "no sinks") }'
# gates measured here are gates that a method takes
kvattn see.h5 --show gates >gates.tsv
kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question Why? -n 2 --ignore-end --method 'duoattention[path=gates.tsv,sinks=4,recent=16]' --format tsv | awk -F'\t' 'NR > 1 { print $1 }'
try "no distances" kvattn few.h5 --show distances
try "no spans" kvattn few.h5 --show spans
try "no steps" kvattn few.h5 --show change
try "another model" kvattn see.h5 other.h5 --compare
kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question Why? -n 2 --ignore-end --see none -o none.h5 >/dev/null
try "no gates" kvattn few.h5 --show gates
try "nothing seen" kvattn none.h5
try "two without --compare" kvattn see.h5 see.h5
try "one with it" kvattn see.h5 --compare
