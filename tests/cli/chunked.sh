# A prefill in chunks, beside the full branch and without one; what doesn't go together is refused.
. "$here/try"
run="kvtrace -q -m $model --shots $here/shots.jsonl --question Why? -n 4 --ignore-end --format tsv"
chunks='my[score=mass,prefill_chunk=48,protect=sink4]'
show() { awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR > 1 { print $1 ":", $at["kept_tok (mean of kv heads)"], "tokens, KL", ($at["mean_kl (nats)"] ~ /^(nan|-)?$/ ? "unknown" : $at["mean_kl (nats)"] > 0 ? "some" : "none") }'; }
$run --method "$chunks" --keep 25% -o c.h5 | show
$run --method "$chunks" --keep 25% --no-full --decode free | show
# a trace tells the peak of each branch
kvinfo c.h5 --view branches | cut -c 1-24 --complement | head -1 | grep -o 'KV peak'
kvinfo c.h5 --format tsv | awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR == 2 { full = $at["bytes_peak"] } NR == 3 { print $at["bytes_peak"] < full ? "less than full" : "no less" }'
kvtrace -m "$model" --shots "$here/shots.jsonl" --question Why? -n 4 --method "$chunks" --no-full --decode free 2>&1 >/dev/null | tr '\r' '\n' | grep -c 'KV peak'
try "a method that shares the prefill" $run --method snapkv --no-full --decode free
try "nothing to follow" $run --method "$chunks" --no-full
try "no method" $run --no-full --decode free
# without a full branch a trace says so, and analyzers read it
$run --method "$chunks,my[score=knorm,prefill_chunk=48,protect=sink4]" --keep 25% --no-full --decode free -o n.h5 | show
kvinfo n.h5 --view branches 2>&1 | sed 's, *my@.*,,'
kvinfo n.h5 --view run 2>/dev/null | grep -E '^(full_branch|scores|maps)'
kvoverlap n.h5 --format tsv 2>&1 | cut -f 1-3
kvcoherence n.h5 --format tsv 2>&1 | cut -f 1
try "a branch that isn't there" kvoverlap n.h5 --branches full,my
try "full maps" $run --method "$chunks" --no-full --decode free --maps full -o m.h5
try "too small a chunk" $run --method 'my[score=mass,prefill_chunk=8,protect=sink4]' --keep 25%
try "chunks of units" $run --method 'my[score=mass,unit=chunk,prefill_chunk=48]'
