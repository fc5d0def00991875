# A prefill in chunks, beside the full branch and without one; what doesn't go together is refused.
. "$here/try"
run="kvtrace -q -m $model --shots $here/shots.jsonl --question Why? -n 4 --ignore-end --format tsv"
chunks='my[score=mass,prefill_chunk=48,protect=sink4]'
show() { awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR > 1 { print $1 ":", $at["kept_tok (mean of kv heads)"], "tokens, KL", ($at["mean_kl (nats)"] ~ /^(nan|-)?$/ ? "unknown" : $at["mean_kl (nats)"] > 0 ? "some" : "none") }'; }
$run --method "$chunks" --keep 25% -o c.h5 | show
$run --method "$chunks" --keep 25% --no-full --decode free | show
# a trace tells the peak of each branch
kvinfo c.h5 --view sizes --format tsv | grep -c bytes_peak
kvtrace -m "$model" --shots "$here/shots.jsonl" --question Why? -n 4 --method "$chunks" --no-full --decode free 2>&1 >/dev/null | tr '\r' '\n' | grep -c 'KV peak'
try "a method that shares the prefill" $run --method snapkv --no-full --decode free
try "nothing to follow" $run --method "$chunks" --no-full
try "no method" $run --no-full --decode free
try "a trace" $run --method "$chunks" --no-full --decode free -o n.h5
try "too small a chunk" $run --method 'my[score=mass,prefill_chunk=8,protect=sink4]' --keep 25%
try "chunks of units" $run --method 'my[score=mass,unit=chunk,prefill_chunk=48]'
