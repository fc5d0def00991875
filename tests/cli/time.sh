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
grep -o '"refused":"[^"]*"' c.jsonl | sed 's/layer [0-9]*/layer N/; s/([0-9]* held)/(N held)/; s/for [0-9]* more/for N more/' | sort -u
try "no memory at all" bench --batch 1 --repeat 1 --memory 1MB -o d.jsonl -q
kvbench table d.jsonl --format csv --show largest | cut -d , -f 1-3
try "for people" kvbench table a.jsonl
sed -n '1,2p;4p' try.stdout | sed 's/ on .*: 60/ on a machine: 60/; s/  */ /g'

try "another run" bench --batch 1 --repeat 1 -o a.jsonl --protocol hidden
try "a task too" kvbench gsm8k --time -o x.jsonl
try "no result file" bench --batch 1
try "no such batch" bench --batch 1,x -o x.jsonl
try "a batch twice" bench --batch 1,1 -o x.jsonl
try "no amount" bench --memory lots -o x.jsonl
try "nobody to follow" bench --method 'snapkv[w=4],h2o' --match h2o -o x.jsonl
try "an oracle alone" bench --method oracle -o x.jsonl
try "longer than the model" kvbench --time -m "$model" --prompt-tokens 100000 -o x.jsonl
