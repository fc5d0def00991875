# kvbench --time: one method alone in batches, on a made-up model; interrupted and gone on with, more methods and repetitions added; the largest batch
# that fits. Times are anybody's, bytes are not. Would catch: a run done twice or lost, K and V counted wrong, a limit that isn't one.
. "$here/try"
bench() { kvbench --time -m "$model" --compute f32 -t 1 --prompt-tokens 60 --new 20 --window 8 "$@"; }
try "timed" bench --batch 1,3 --repeat 2 --method 'snapkv[w=4],streaming' --keep 50% -o a.jsonl -q
kvbench table a.jsonl --format tsv | cut -f 1,2,8,9,11,20
try "again: nothing is left" bench --batch 1,3 --repeat 2 --method 'snapkv[w=4],streaming' --keep 50% -o a.jsonl
wc -l <a.jsonl
try "a method, a batch and a repetition more" bench --batch 2 --repeat 3 --method h2o --keep 50% -o a.jsonl -q
kvbench table a.jsonl --format tsv --show pairs | cut -f 1,2,6,8,9,10
head -c 400 a.jsonl >cut.jsonl
sed '$d' a.jsonl >b.jsonl && printf '{"time":"h2o 50%%","batch":2,"rep' >>b.jsonl
try "a line torn by a kill" bench --batch 2 --repeat 3 --method h2o --keep 50% -o b.jsonl
wc -l <b.jsonl
mkmodel --seed 3 --layers 2 --heads 32 --kv-heads 32 --head-dim 128 --context 128 wide.gguf # 8.4 MB of f32 K and V a sequence
try "the largest batches" kvbench --time -m wide.gguf -t 1 --kv-type f32 --prompt-tokens 110 --new 6 --batch 1 --repeat 1 --method snapkv --keep 50% --memory 120MB -o c.jsonl -q
kvbench table c.jsonl --format tsv --show largest | awk -F '\t' 'NR > 1 { d = $3 - $5; print $1, $2, (d * d <= 1 ? "as reckoned" : "not as reckoned: " $3 " and " $5), ($7 + 0 <= $9 ? "within" : "over"), (NR < 3 || $3 >= n ? "no fewer" : "fewer"); n = $3 }'
grep -o '"refused":"[^"]*"' c.jsonl | sed 's/cpu: layer [0-9]*: //; s/([0-9]* held)/(N held)/; s/for [0-9]* more/for N more/' | sort -u
try "no memory at all" bench --batch 1 --repeat 1 --memory 1MB -o d.jsonl -q
kvbench table d.jsonl --format csv --show largest | cut -d , -f 1-3
try "for people" kvbench table a.jsonl
sed -n '1,2p;4p' try.stdout | sed 's/ on .*: 60/ on a machine: 60/; s/  */ /g'

# the example of docs/measures.md, and a method that is faster every time
{
    echo '{"kvbench":1,"task":"time","kind":"time","rules":[],"model":"by hand","prompt_tokens":100}'
    for b in full a b c; do echo "{\"branch\":\"$b\",\"method\":\"$b\",\"canonical\":\"$b@1\",\"asked\":\"50%\",\"renumbered\":false}"; done
    i=0
    for v in 100:100:110:50 100:104:101:60 100:90:120:70 101:110:102:60 99:103:100:50; do
        i=$((i + 1)) k=0
        for b in full a b c; do
            k=$((k + 1)) x=$(echo "$v" | cut -d : -f $k)
            [ "$b$i" = c5 ] && continue
            echo "{\"time\":\"$b\",\"batch\":2,\"repeat\":$i,\"prefill_s\":0.5,\"evict_s\":0.004,\"question_s\":0.1,\"decode_s\":10,\"step_evict_s\":1,\"tokens\":${x}0,\"kv_first\":1,\"kv_last\":$x,\"kv_peak\":$x}"
        done
    done
} >hand.jsonl
try "by hand" kvbench table hand.jsonl --format tsv
cut -f 1-9 try.stdout
try "ratios" kvbench table hand.jsonl --format tsv --show pairs
cut -f 1-8,10 try.stdout
try "a page" kvreport hand.jsonl -o page.html
grep -o '<h2>[^<]*' page.html

try "another run" bench --batch 1 --repeat 1 -o a.jsonl --protocol hidden
try "a task too" kvbench gsm8k --time -o x.jsonl
try "no result file" bench --batch 1
try "no such batch" bench --batch 1,x -o x.jsonl
try "a batch twice" bench --batch 1,1 -o x.jsonl
try "no amount" bench --memory lots -o x.jsonl
try "nobody to follow" bench --method 'snapkv[w=4],h2o' --match h2o -o x.jsonl
try "an oracle alone" bench --method oracle -o x.jsonl
try "longer than the model" kvbench --time -m "$model" --prompt-tokens 100000 -o x.jsonl
