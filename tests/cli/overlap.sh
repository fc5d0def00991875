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
# each query head's own set: with one query head for each kv head it is the branch's own, slot for slot; with several it lies beside it
mkmodel --seed 3 --heads 4 --kv-heads 4 own.gguf
for pool in max7 avg5 none; do
    kvtrace -q -m own.gguf --shots "$here/shots.jsonl" --question Why? -n 2 --ignore-end --method "snapkv[w=8,pool=$pool]" --keep 25% --force -o own.h5 >/dev/null
    kvoverlap own.h5 --show query-heads --format tsv | awk -F'\t' 'NR > 1 { print "of single heads: J " $3 ", union / kept " $7 }'
done
kvtrace -q -m own.gguf --shots "$here/shots.jsonl" --question Why? -n 2 --ignore-end --method 'snapkv[w=8]' --keep 25% --protocol literature --force -o own.h5 >/dev/null
kvoverlap own.h5 --show query-heads --format tsv | awk -F'\t' 'NR > 1 { print "with the window in the context: J " $3 }'
kvoverlap "$trace" --show query-heads --keep 25% --format tsv | awk -F'\t' 'NR > 1 { print ($3 > $4 && $3 < 1 && $7 > 1 && $7 <= 3 ? "beside it" : "J " $3 ", union / kept " $7) }'
try "no snapkv" kvoverlap "$trace" --show query-heads --branches 'h2o 25%'
