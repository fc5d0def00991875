# Budgets: of heads, of layers, in all; in bytes; and what another method really kept. Kept tokens are those of the prefill's end.
. "$here/try"
run="kvtrace -q -m $model --shots $here/shots.jsonl --question Why? -n 4 --ignore-end --format tsv"
show() { awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR > 2 { print $1 ":", $at["kept_tok (mean of kv heads)"], "tokens, asked", $at["asked"] }'; }
$run --method 'snapkv[w=8]' --tokens 40,81/layer,163/all --bytes 10kB,5kB/layer | show
# a share is floored in whole numbers, at least one token: 0.1 % of 165 is 1
$run --method 'random' --keep 0.1%,10% | show
# the others keep what shotkv kept, layer by layer
$run --method 'snapkv[w=8],shotkv,h2o,my[score=wmass,w=8,alloc=global]' --keep 60% --match shotkv | show
try "match nothing" $run --method snapkv --match shotkv
try "match without methods" $run --match shotkv
try "an amount" $run --method snapkv --tokens 5/cell
try "bytes" $run --method snapkv --bytes 5mb
try "bytes below a token of each head" $run --method snapkv --bytes 100B
# the totals hold at the last step as well: 162 and 163 slots over 6 kv heads, 27 and 27.17 in each, all steps included
last() { awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR > 2 { print $1 ":", $at["last_tok (mean of kv heads)"], "at last" }'; }
$run --method 'h2o,my[score=mass,schedule=every,every=2,alloc=global]' --tokens 162/all,163/all --bytes 10500B | last
