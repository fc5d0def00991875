# kvoverlap --show: every question has its table; what can't be asked of a trace is refused.
. "$here/try"
head_of() { echo "--show $*"; kvoverlap "$trace" --show "$@" --format tsv >o.tsv && head -1 o.tsv && echo "$(($(wc -l <o.tsv) - 1)) rows"; }
head_of methods --shifts 9
head_of layers --branches 'snapkv 25%'
head_of heads
head_of budgets
head_of scores --keep 25%
head_of sets
head_of clusters
kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question Why? -n 4 --ignore-end --method snapkv[w=8],h2o --keep 25% --fidelity lost --force -o lost.h5 >/dev/null
kvoverlap lost.h5 --show future --format tsv | awk -F'\t' 'NR == 1 { print $3 "|" $4 } NR > 1 { print $2, ($3 > 0 && $3 < 1 && $4 > 0 && $4 < 1 ? "a share" : "not a share: " $3 " " $4) }'
# the same trace twice: nothing differs; another prompt: by place only
kvoverlap "$trace" "$trace" --show traces --keep 25% --format tsv | cut -f 2,6
kvoverlap lost.h5 "$trace" --show prompts --branches 'h2o 25%' --format tsv | cut -f 1,2,6
kvoverlap lost.h5 "$trace" --branches 'h2o 25%,snapkv 25%' --shifts 0 --format tsv | head -1 | grep -o adjusted_other
try "future without fidelity" kvoverlap "$trace" --show future
try "one trace" kvoverlap "$trace" --show prompts
try "two traces" kvoverlap "$trace" "$trace" --show heads
try "one budget" kvoverlap lost.h5 --show budgets
try "what doesn't go together" kvoverlap "$trace" --show heads --letters
