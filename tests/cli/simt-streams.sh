# What leaves the device while it works is the same whenever its streams get to run (tests/simt: at once, or as late as may be and in turns by
# chance), and whether a step's launches are graphs or not: everything that a trace holds of attention, decisions and fidelity.
. "$here/try"
[ -e "$(dirname "$(command -v kvtrace)")/libkvt_simt.so" ] || skip "this build has no simt backend (no CUDA headers)"
for when in now deferred; do
    SIMT_GRAPHS=1 SIMT_STREAMS=$when kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question Why? --backend simt --see all --fidelity lost,output \
        --method 'snapkv[w=8],h2o,tova' --keep 25% -n 6 --ignore-end -o $when.h5 >$when.txt 2>$when.log || cat $when.log
    grep graphs: $when.log
done
for name in score/mass score/wmass score/last score/entropy score/sink score/visible score/square score/max score/keys score/local score/distance score/spans \
    score/top score/top_at map/mean map/max fidelity/lost_mass fidelity/lost_rest fidelity/output_local fidelity/output_propagated \
    branches/01/score branches/02/evicted_at branches/03/evicted_at; do
    for when in now deferred; do
        kvinfo --export $name $when.h5 >$when.tsv || exit 1
    done
    cmp now.tsv deferred.tsv && echo "$name: the same $(($(wc -l <now.tsv) - 1))"
done
