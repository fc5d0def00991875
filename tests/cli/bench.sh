# kvbench: a task of one's own, asked of a made-up model with every branch on the same questions; killed and gone on with, more methods added, one cell
# opened; and what is wrong with a task, its data or a result. Would catch: an item asked twice or lost, tables that depend on where a run was cut.
. "$here/try"
mkdir data
for i in 1 2 3 4 5 6; do echo "{\"id\": \"q$i\", \"part\": \"p$((i % 2))\", \"question\": \"The cat sat on mat $i. Who sat on mat $i?\", \"answer\": \"It did. #### $i\"}"; done >data/q.jsonl
sed 's/mat/log/g; s/"q/"s/' data/q.jsonl >data/s.jsonl
cat >own.json <<'T'
{ "kvbench": 1, "name": "own", "about": "who sat", "questions": "q.jsonl", "shots": "s.jsonl", "n_shots": 2, "max_new": 6, "cut_counts": true, "stop": ["\n\n"],
  "gold": { "find": "#### (.+)" }, "answers": [ { "name": "first", "find": "\\w" }, { "name": "last", "find": "\\w", "which": "last", "lower": true } ], "chance": 0.1 }
T
bench() { kvbench own.json --data data -m "$model" --compute f32 -t 1 -q "$@"; }
try "asked" bench --method 'snapkv[w=4],random' --seeds 2 --keep 30% -o a.jsonl
cat try.stdout
try "again: nothing is left" bench --method 'snapkv[w=4],random' --seeds 2 --keep 30% -o a.jsonl
wc -l <a.jsonl
try "a method more" bench --method 'h2o' --keep 30% -o a.jsonl --contrast 'h2o 30%:snapkv 30%'
cat try.stdout
try "opened" kvbench show a.jsonl --cell 'q3,snapkv 30%'
grep -v '^made by' try.stdout
try "for programs" kvbench table a.jsonl --format tsv
cut -f 1-6 try.stdout
try "pairs" kvbench table a.jsonl --format tsv --show pairs
cut -f 1-7 try.stdout

# kvreport: each mark leads to its text, and what a question or a model says stays text
sed 's/The cat/<script>alert(1)<\/script><\/style><img src=x onerror=alert(1)>/; s/mat/\&lt;b\&gt;/' data/q.jsonl >data/evil.jsonl
sed 's/q.jsonl/evil.jsonl/' own.json >evil.json
kvbench evil.json --data data -m "$model" --compute f32 -t 1 -q --method 'snapkv[w=4],h2o' --keep 30% --limit 3 -o evil.jsonl >/dev/null
for page in a evil; do
    kvreport $page.jsonl -o $page.html
    grep -o '<section id="[a-z]*"' $page.html | tr '\n' ' '
    echo "$(grep -c '<script' $page.html) scripts, $(grep -c '<img' $page.html) images, $(grep -o 'href="#[^"]*"' $page.html | sort -u | wc -l) links"
    grep -o 'href="#[^"]*"' $page.html | sed 's/href="#//; s/"//' | sort -u | while read -r id; do grep -q "id=\"$id\"" $page.html || echo "$page: nothing is called $id"; done
done
# two words of `full` and the rest of the row
grep -o '<tr><th scope="row"><a href="#q0">.*' a.html | sed 's/<[^>]*>/ /g'
grep -A 8 'id="t0-0"' a.html | grep -o '<dt>[^<]*'

# exec: a kill must reach the program itself
(exec kvbench own.json --data data -m "$model" --compute f32 -t 1 -q --method 'snapkv[w=4],random' --seeds 2 --keep 30% -o b.jsonl) >whole.txt
killed=0
for i in 1 2 3 4 5 6 7 8; do
    (exec kvbench own.json --data data -m "$model" --compute f32 -t 1 -q --method 'snapkv[w=4],random' --seeds 2 --keep 30% -o c.jsonl) >/dev/null 2>&1 &
    pid=$!
    sleep "0.0$(awk -v i=$i -v pid=$$ 'BEGIN { srand(i * 7919 + pid); printf "%02d", 10 + rand() * (i < 3 ? 10 : 60) }')"
    kill -9 $pid 2>/dev/null && killed=$((killed + 1))
    wait $pid 2>/dev/null
done
[ $killed -ge 1 ] || echo "no run was killed in time"
bench --method 'snapkv[w=4],random' --seeds 2 --keep 30% -o c.jsonl >cut.txt 2>&1 || cat cut.txt
cmp whole.txt cut.txt && echo "killed and gone on with: the same tables"

try "choices" kvbench "$here/choice.json" --data data -m "$model" -q -o d.jsonl
cat try.stdout
sed 's/"n_shots": 2/"n_shots": 2, "by": "part"/' own.json >parts.json
try "parts" kvbench parts.json --data data -m "$model" --compute f32 -q --limit 1 --by-group -o e.jsonl
cat try.stdout

for i in 1 2 3 4 5 6 7 8; do sed "s/\"s/\"s$i/; s/log/log $i/g" data/s.jsonl; done >data/long.jsonl
sed 's/s.jsonl/long.jsonl/; s/"n_shots": 2/"n_shots": 30/' own.json >long.json
for how in "" --no-prefix; do
    try "thirty shots, which all questions share $how" kvbench long.json --data data -m "$model" --compute f32 -t 1 -q --method 'snapkv[w=4],h2o' --keep 30% --limit 3 $how -o "long$how.jsonl"
    grep '^the first' try.stdout
    sed '1d; s/"shared_tokens":[0-9]*,//' "long$how.jsonl" >"long$how"
done
cmp long long--no-prefix && echo "the same answers, KL and bytes"

try "the embedded model, a task of its own" kvbench recall --limit 6 -t 1 -q --decode free --method shotkv,snapkv --match shotkv --keep 50% --format tsv --show pairs -o own.jsonl
cut -f 1,2 try.stdout
kvbench table own.jsonl --format tsv | awk -F '\t' 'NR == 2 { print ($3 >= 0.8 ? "the full cache answers" : $0) }'

try "another run" bench --method h2o --keep 30% -o a.jsonl --protocol hidden
try "another method of that name" bench --method 'snapkv[w=5]' --keep 30% -o a.jsonl
printf '\n# two runs to one result\n'
(flock 9; bench --method h2o --keep 30% -o a.jsonl; echo "exit $?") 9<>a.jsonl 2>&1
try "no such cell" kvbench show a.jsonl --cell 'q9,full'
try "no such pair" kvbench table a.jsonl --contrast 'h2o:full'
try "no result" kvbench table data/q.jsonl
try "no task" kvbench nothing -o x.jsonl
try "no data" kvbench own.json -m "$model" -o x.jsonl
try "no shots left" bench --n-shots 7 -o x.jsonl
sed 's/{question}/{text}/; s/"name": "own"/"name": "own", "form": "{text} {answer}"/' own.json >form.json
try "a form that names no field" kvbench form.json --data data -m "$model" -o x.jsonl
echo '{"id": "q7"' >>data/q.jsonl
try "data that isn't JSON" bench -o x.jsonl
sed '$d' data/q.jsonl | sed 's/####/=/' >q && mv q data/q.jsonl
try "no gold" bench -o x.jsonl
sed 's/"max_new"/"max_tokens"/' own.json >field.json
try "an unknown field" kvbench field.json --data data -m "$model" -o x.jsonl
sed 's/"find": "\\\\w"/"find": "(\\\\w"/' own.json >pattern.json
try "a pattern that doesn't compile" kvbench pattern.json --data data -m "$model" -o x.jsonl
ls x.jsonl 2>/dev/null
try "no results" kvbench own.json --data data
