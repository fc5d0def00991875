# kvbudget: the audit, why kept isn't asked, by layer, by head, by step.
. "$here/try"
kvbudget "$trace" --keep 25%
kvbudget "$trace" --keep 25% --show rounding
kvbudget "$trace" -b 'pyramidkv 25%' --per-layer
kvbudget "$trace" -b 'h2o 25%,shotkv 25%' --steps 4
# what the trace says of a cell is what the audit says
kvbudget "$trace" -b 'chunkkv 25%' --per-head --format tsv | awk -F'\t' 'NR > 1 { n += $5 } END { print n, "slots kept" }'
kvbudget "$trace" -b 'chunkkv 25%' --format tsv | awk -F'\t' 'NR == 2 { printf "%.0f slots kept\n", $5 * 6 }'
kvbudget "$trace" -b full --format json
# a note is shown
kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question Why? -n 1 --method 'chunkkv[w=8]' --tokens 9 -o note.h5 >/dev/null
kvbudget note.h5 -b chunkkv | tail -2
try "two tables" kvbudget "$trace" --per-layer --per-head
try "no such branch" kvbudget "$trace" -b snapvk
try "no such budget" kvbudget "$trace" -k 30%
