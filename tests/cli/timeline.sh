# kvinfo --export perfetto: a timeline as the Trace Event Format has it (check_events says so), of a real run's every part.
. "$here/try"
kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question "Five and five, how many?" --method 'snapkv,h2o' --keep 25% -n 6 --ignore-end \
    -o run.h5 >/dev/null
kvinfo run.h5 --export perfetto -o run.json
check_events run.json >names || cat names
layers=$(kvinfo --view run --format tsv run.h5 | sed -n 's/^shape	\([0-9]*\) layers.*/\1/p')
# the prefill, the question in one block and the h2o branch's token by token, then the steps: each layer once in a call at least
for name in 'norm, q, k, v, cache' attention look output feed-forward; do
    n=$(sed -n "s/^$name //p" names)
    [ "${n:-0}" -ge $((layers * 8)) ] || echo "$name: only ${n:-0} for $layers layers"
done
sed -n '/^step /p; /^prefill /p; /^decode /p; /^KV bytes /p' names
for name in score select compact write logits; do
    grep -q "^$name [1-9]" names || echo "no $name"
done
# the parts of a layer fill the time of the prefill: what isn't timed is little
kvinfo run.h5 --export timeline/count
[ "$(kvinfo run.h5 --export timeline/lost | tail -n 1)" = 0 ] || echo "times were lost"
mktrace made.h5
kvinfo made.h5 --export perfetto >made.json
check_events made.json
# --time: a phase's rows add up to its sum, and take no longer than it; each layer's attention is there once a call; no column for bytes is filled
kvinfo --time --format tsv run.h5 2>/dev/null | awk -F'\t' -v layers="$layers" 'NR == 1 { next }
    $2 == "all" { all[$1] = $5; share[$1] = $6 } $2 != "all" && $2 !~ /^\(/ { sum[$1] += $5 }
    $1 == "decode" && $2 == "attention" && $3 < layers * 6 { print "attention: " $3 } $7 != "nan" || $4 != "nan" { print "bytes of the host: " $0 }
    END { for (p in all) if (sum[p] > all[p] + 1e-6 || sum[p] < all[p] - 1e-6 || share[p] > 1.001) print p ": " sum[p] " of " all[p] ", " share[p] }'
kvinfo --time run.h5 2>&1 | awk 'length > 80 && !/^kvinfo:/'
kvinfo --time made.h5 2>&1 | grep -c . | awk '$1 < 3 { print "nothing" }'
