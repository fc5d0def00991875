# Presets: named by the peer's name in every table, with our canonical form; their own budget where none is given.
. "$here/try"
run="kvtrace -q -m $model --shots $here/shots.jsonl --question Why? -n 2 --ignore-end"
show() { awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR > 2 { print $1 ":", $at["method"] ", asked", $at["asked"] }'; }
$run --format tsv --method 'snapkv[w=8]' --preset kvpress/TOVAPress,snapkv/longbench | show
$run --format tsv --preset kvpress/KnormPress,kvcache-factory/snapkv --keep 50% --match kvcache-factory/snapkv -o presets.h5 | show
kvinfo presets.h5 >/dev/null
kvoverlap presets.h5 --branches 'kvpress/KnormPress ~ 50%,kvcache-factory/snapkv 50%' --format tsv 2>/dev/null | cut -f 2,3
kvoverlap presets.h5 --keep 50% --format tsv 2>/dev/null | cut -f 2,3
kvcoherence presets.h5 --format tsv 2>/dev/null | cut -f 1
kvtrace --list-presets --format tsv | awk -F'\t' 'NR == 1 { print NF, "columns" } NF != 7 { print } END { print NR > 20 ? "many rows" : "few rows" }'
kvtrace --list-presets | grep -A 2 '^snapkv/longbench'
try "an unknown preset" $run --preset kvpres/SnapKVPress
try "a preset twice" $run --preset tova/tova,tova/tova
try "a budget without a method" $run --keep 25%
