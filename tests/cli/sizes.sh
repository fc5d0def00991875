# Sizes before a run: exactly what the trace then holds uncompressed; a large run needs somebody's yes.
. "$here/try"
words >prompt.txt
run() { kvtrace -q -m "$model" -f prompt.txt --window 8 --method random,h2o --keep 50% -n 40 --ignore-end --dump q,v --layers 1 -o run.h5 "$@"; }
run --dry-run --format tsv >says
run >/dev/null
# what a trace holds beside values: objects and attributes, 64 kB and 8 kB a branch
holds=$(kvinfo --view sizes --format tsv run.h5 | awk -F'\t' '!/^#/ { n += $4 } END { print n + 65536 + 3 * 8192 }')
awk -F'\t' -v holds="$holds" '/uncompressed/ && ($3 - holds) ^ 2 > (holds / 100) ^ 2 { print "says", $3, "holds", holds }' says
awk -F'\t' '$2 == "time" && $4 >= 0 { print $1 }' says
ls
# forty prompts of 1,900 tokens: 2.5 GB of full maps
awk 'BEGIN { for (i = 0; i < 40; i++) { printf "{\"prompt\": \""; for (k = 0; k < 78; k++) printf "The cat sat on the mat and the dog sat on the log. "; print "\"}" } }' >p.jsonl
try "a large run" kvtrace -m "$model" -f p.jsonl --maps full -n 1 -o large.h5
ls large* 2>/dev/null
exit 0
