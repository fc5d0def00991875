# kvbudget derives ShotKV's shares from traces with rows; live runs hold what it says and are compared.
. "$here/try"
run() { kvtrace -q -m "$model" --compute f32 --shots "$here/shots.jsonl" --question "Five and five, how many?" --ignore-end --maps none "$@" >/dev/null; }
for i in 1 2 3; do run --shot-order seed:$i -n 40 --see scores,rows -o $i.h5; done
kvbudget --show derive 1.h5 2.h5 3.h5 --horizon 40 --keep 40% --per-layer -o layers.tsv
grep -v '^#' layers.tsv
kvbudget --show derive 1.h5 --horizon 40 --keep 40% --held --format tsv | awk -F'\t' -v OFS='\t' 'NR > 1 { for (i = 10; i <= 12; i++) $i = sprintf("%.4f", $i) } { print }'
kvbudget --show curve 1.h5 2.h5 --check 3.h5 --horizon 40 --keep 40% --peak
kvbudget --show layers 1.h5 --horizon 40 --keep 40% >layers.txt && cat layers.txt
# live: each layer keeps the tokens that were foretold, and as many generated ones
kvbudget --show derive 1.h5 --horizon 40 --keep 40% --format tsv >foretold
share=$(awk -F'\t' '$1 == "derived" { printf "%s%%,decode=%s%%", 100 * $3, 100 * $4 }' foretold)
run --shot-order seed:1 -n 40 --method "shotkv[prefill=$share],shotkv[prefill=40%,decode=40%]" --fidelity lost -o live.h5
kvbudget live.h5 -b 1 --per-layer --format tsv | awk -F'\t' 'NR > 1 { print $2, $4 }' >kept
awk 'NR > 8 { print $1, $3 }' layers.txt | sed 's/\.0$//' | cmp - kept && echo kept as foretold
for b in 1 2; do
    kvbudget live.h5 -b $b --steps 1 --format tsv | awk -F'\t' 'NR == 2 { question = $4 } NR > 2 { n += $4 - question; k++ } END { printf "%.4f generated tokens held\n", n / k }'
done
awk -F'\t' '$1 == "derived" || $1 == "equal" { printf "%.4f foretold\n", $8 }' foretold
kvbudget --show confirm live.h5
# shares of single layers, live
run --shot-order seed:1 -n 2 --method 'shotkv[decode=50%]' --budget-file layers.tsv -o layers.h5
kvbudget layers.h5 -b 1 --per-layer --format tsv | cut -f 1,2,4
# shares of single heads for a method that ranks tokens; live, each head has them
for i in 1 2; do run --shot-order seed:$i -n 40 --see scores,rows --method 'snapkv[w=8],chunkkv[w=8],h2o' --keep 40% -o s$i.h5; done
kvbudget --show heads s1.h5 s2.h5 -b snapkv --horizon 40 -o heads.tsv
kvbudget --show heads s1.h5 s2.h5 -b snapkv --horizon 40 --per-head
run --shot-order seed:2 -n 2 --method 'snapkv[w=8]' --budget-file heads.tsv -o heads.h5
kvbudget heads.h5 -b 1 --per-head --format tsv | cut -f 1,2,3,5
try "heads of whole units" kvbudget --show heads s1.h5 -b chunkkv --horizon 40
try "heads in steps" kvbudget --show heads s1.h5 -b h2o --horizon 40
try "heads of nobody" kvbudget --show heads s1.h5 --horizon 40
try "heads of two" kvbudget --show heads s1.h5 -b 1,2 --horizon 40

try "no horizon" kvbudget --show derive 1.h5
try "a horizon beyond the trace" kvbudget --show derive 1.h5 --horizon 41
cp "$trace" plainer.h5
try "no rows" kvbudget --show derive plainer.h5 --horizon 4
try "a horizon that shows nothing of generated tokens" kvbudget --show derive 1.h5 --horizon 8 --keep 40%
try "a budget" kvbudget --show derive 1.h5 --horizon 8 --keep 140%
try "nothing fits" kvbudget --show derive 1.h5 --horizon 8 --keep 1% --held
try "split" kvbudget --show derive 1.h5 2.h5 --horizon 8 --split 2
try "a horizon for the audit" kvbudget 1.h5 --horizon 8
try "many traces for the audit" kvbudget 1.h5 2.h5
try "confirm of one branch" kvbudget --show confirm live.h5 -b 1
try "other branches" kvbudget --show confirm live.h5 plainer.h5 -b 1,2
printf 'One and one is' >plain.txt
kvtrace -q -m "$model" --compute f32 -f plain.txt --window 1 -n 4 --see scores,rows --maps none --ignore-end -o plain.h5 >/dev/null
try "no shots" kvbudget --show derive plain.h5 --horizon 4
