# kvbudget --replay: what methods keep at prefill's end is, from the file, what they kept live; steps are close; what needs K and V is refused.
. "$here/try"
exact='random[seed=3],streaming,snapkv[w=8],snapkv[w=5],pyramidkv[w=8],chunkkv[w=8],shotkv[decode=1],randomshot[decode=1],adakv[w=8],criticalkv[w=8],kvcompress[recent=16],kvcompress[w=4;recent=16],finch,knorm,my[score=max],my[score=last;unit=sentence],my[score=later;unit=shot;heads=shared],my[score=mass;norm=visible;pool=avg5],my[score=sqmass;alloc=global],oracle,oracle[nosinks=1;ahead=3],my[score=oracle;schedule=step]'
steps='h2o[recent=16],tova,treekv,shotkv,my[score=wmass;w=12;schedule=every;every=2]'
methods=$(echo "$exact,$steps" | tr ';' ,)
mkmodel --seed 9 --layers 2 --heads 4 --kv-heads 4 one.gguf
ordinary="--maps none --shots $here/shots.jsonl --question Why? -n 4 --ignore-end --keep 30%,60% --for-replay"
run=$ordinary
both() { # MODEL PROTOCOL: traced, and replayed from the trace
    # shellcheck disable=SC2086  # the words of a command
    kvtrace -q -m "$1" $run --method "$methods" --protocol "$2" --fidelity lost -o "$2.h5" --force --format tsv >live.tsv
    kvinfo --check "$2.h5"
    kvbudget "$2.h5" --replay "$methods" --keep 30%,60% --format tsv >again.tsv
    awk -F'\t' 'FNR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        function far(a, b) { return a - b > 1e-6 || b - a > 1e-6 }
        FNR == NR { lost[$at["method"] $at["asked"]] = $at["lost_mass"]; rest[$at["method"] $at["asked"]] = $at["lost_rest"]; next }
        $3 == "exact" && (!($12 $2 in lost) || far($5, lost[$12 $2]) || far($6, rest[$12 $2])) { print $1, $2, "lost", $5, $6, "and not", lost[$12 $2], rest[$12 $2] }' \
        live.tsv again.tsv
    awk -F'\t' 'NR > 1 { n[$3]++; if ($3 == "exact" && $10 != 1) print $1, $2, "is called exact, and is", $10
                             if ($3 == "approx" && !($10 > 0.5)) print $1, $2, "is", $10 }
                    END { print n["exact"], "exact,", n["approx"], "approx" }' again.tsv
}
both "$model" literature
both one.gguf hidden
both "$model" visible
# in a model of one layer a branch's row is the full one's, shared out over what it holds: then steps are exact too
mkmodel --seed 5 --layers 1 flat.gguf
methods='h2o[recent=16],tova,treekv[renumber=0],shotkv,my[score=wmass,w=12,schedule=every,every=2],my[score=sqmass,schedule=step],my[score=knorm,schedule=step]'
both flat.gguf hidden
awk -F'\t' 'NR > 1 && $10 != 1 { print $1, $2, "is", $10 }' again.tsv
# layers with a sliding window, left alone and compressed
for windows in "" --compress-windows; do
    methods='snapkv[w=8],criticalkv[w=8],pyramidkv[w=8],streaming,oracle'
    run="--maps none -p The_cat_sat_on_the_mat,_and_a_bird_sang_in_the_tree_by_the_old_stone_house. -w 12 -n 4 --ignore-end --keep 30%,60% --for-replay $windows"
    both "$here/../models/gemma2.gguf" literature
done
# what is written is what the run wrote, branch by branch; and every tool opens it
kvbudget visible.h5 --replay "$(echo "$exact" | tr ';' ,)" --keep 30%,60% --write-trace again.h5 >/dev/null
kvinfo --check again.h5
for data in 03/evicted_at 07/score 11/reason 21/kept_tok; do
    kvinfo visible.h5 --export "branches/$data" -o "live-${data#*/}.npy"
    kvinfo again.h5 --export "branches/$data" -o "again-${data#*/}.npy"
    cmp "live-${data#*/}.npy" "again-${data#*/}.npy"
done
kvoverlap again.h5 --keep 30% >/dev/null && kvcoherence again.h5 >/dev/null && kvbudget again.h5 >/dev/null && echo "opened"
# windows that weren't recorded: sums made of the rows are what another run, with these methods alone, had
other='snapkv[w=33],snapkv[w=6],kvcompress[w=5,recent=16]'
# shellcheck disable=SC2086
kvtrace -q -m "$model" $ordinary --method "$other" -o other.h5 >/dev/null
kvbudget visible.h5 --replay "$other" --keep 30%,60% --write-trace mine.h5 --format tsv | cut -f 1-3 | tail -n +2
for n in 1 2 3 4 5 6; do
    kvinfo other.h5 --export "branches/0$n/score" -o "other-$n.npy"
    kvinfo mine.h5 --export "branches/0$n/score" -o "mine-$n.npy"
    cmp "other-$n.npy" "mine-$n.npy"
done
# ranges, and why not
kvbudget visible.h5 --replay 'snapkv[w=4..16],snapkv[w=64]' --tokens 20..40:10 --format csv | cut -d , -f 1-3
kvbudget visible.h5 --replay 'keydiff,lagkv[lag=8],expected,kvzip' --against 'snapkv 30%'
kvbudget visible.h5 --replay tova,snapkv[w=8] --keep 5%..15% --against 'snapkv 30%' --format tsv | awk -F'\t' 'NR > 1 { print $1, $2, $3, ($8 > 0 && $8 < 1 ? "some overlap" : $8), ($9 > -1 && $9 <= 1 ? "" : $9) }'
try "not recorded for it" kvbudget "$trace" --replay snapkv
try "a range upside down" kvbudget visible.h5 --replay 'snapkv[w=16..4]'
try "a range of half a share" kvbudget visible.h5 --replay snapkv --keep 5..15%
try "no step" kvbudget visible.h5 --replay snapkv --keep 5%..15%:0
try "too many" kvbudget visible.h5 --replay 'snapkv[w=1..999:1]' --keep 1%..90%:1%
try "no such method" kvbudget visible.h5 --replay snapvk
try "no such branch" kvbudget visible.h5 --replay snapkv --against snapvk
try "two branches" kvbudget visible.h5 --replay snapkv --against snapkv
try "audit and replay" kvbudget visible.h5 --replay snapkv --steps 2
try "without --replay" kvbudget visible.h5 --write-trace x.h5
try "a file that is there" kvbudget visible.h5 --replay 'snapkv[w=8]' --write-trace again.h5
try "nothing to write" kvbudget visible.h5 --replay keydiff --write-trace x.h5
try "without scores" kvtrace -q -m "$model" -p 'a b c d e f' --for-replay --no-scores -o x.h5
try "without the full branch" kvtrace -q -m "$model" -p 'a b c d e f' --for-replay --no-full --decode free -o x.h5
ls x.* 2>/dev/null
exit 0
