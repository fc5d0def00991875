# --fidelity: its columns are there when asked, with what holds by construction; words it doesn't know are refused.
. "$here/try"
run="kvtrace -q -m $model --shots $here/shots.jsonl --question Why? -n 6 --ignore-end --method snapkv[w=8],streaming --keep 25%,100% --format tsv"
$run --fidelity lost,output -o f.h5 >all.tsv
head -1 all.tsv
# full and what keeps everything lose nothing; the others do, and are wrong by it
awk -F'\t' 'NR > 1 { print $1, ($10 == 0 && $11 == 0 && $12 == 0 && $13 == 0 ? "none" : $10 > 0 && $10 < 1 && $11 > 0 && $12 > 0 && $13 > 0 ? "some" : "odd: " $0) }' all.tsv
$run --fidelity output | head -1
kvinfo f.h5 --view sizes --format tsv | grep -c fidelity
try "unknown" $run --fidelity lost,kl
try "nothing to compare on" $run --fidelity lost --decode free
