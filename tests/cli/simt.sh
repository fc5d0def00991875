# The kernels of the cuda backend, run on the CPU, through the whole program: in every branch the same slots leave at the same steps as with
# ref, and the same text comes. Methods that score the prompt, that evict while they decode, and that ask for a pass of their own.
[ -e "$(dirname "$(command -v kvtrace)")/libkvt_simt.so" ] || { echo "skipped: this build has no simt backend (no CUDA headers)"; exit 77; }
for backend in simt ref; do
    kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question "Five and five, how many?" --backend $backend --compute f32 --kv-type f32 \
        --method 'random,streaming,h2o,snapkv[w=8],tova,keydiff,expected,adakv' --keep 25% -n 20 --ignore-end -o $backend.h5 >$backend.txt || exit 1
done
for n in 01 02 03 04 05 06 07 08; do
    for backend in simt ref; do
        kvinfo --export branches/$n/evicted_at $backend.h5 >$backend.tsv || exit 1
    done
    cmp simt.tsv ref.tsv && echo "branch $n: $(($(wc -l <ref.tsv) - 1)) slots, the same leave"
done
for backend in simt ref; do
    kvinfo --export result/text $backend.h5 >$backend.tsv || exit 1
done
cmp simt.tsv ref.tsv && echo "the same text"
