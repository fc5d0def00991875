# kvtrace --profile on the emulated device and its CUPTI: each kernel, copy and wait is joined to the operation that asked for it, whatever the
# buffers do; the run's numbers are the same; a refusal is one line.
[ -e "$(dirname "$(command -v kvtrace)")/libkvt_simt.so" ] || { echo "skipped: this build has no simt backend (no CUDA headers)"; exit 77; }
run() {
    kvtrace -m "$model" -p "One and two, and then?" -w 2 --backend simt --method 'snapkv[w=2],h2o' --keep 50% -n 2 --ignore-end --maps none \
        --no-scores --force "$@" >out.txt 2>err.txt || cat err.txt
    grep profile: err.txt || :
}
rows() { kvinfo --time --format tsv run.h5 2>/dev/null | cut -f 1-4,7 | sort; }
run -o plain.h5
kvinfo --export logits_hash plain.h5 >plain.txt
kvinfo --export timeline/device/count plain.h5 2>&1
run -o run.h5 --profile
kvinfo --export logits_hash run.h5 | cmp - plain.txt
kvinfo --check run.h5
# of the device's records: kinds, and how many have no call
kvinfo --export timeline/device/kind -o kind.tsv run.h5
kvinfo --export timeline/device/call -o call.tsv run.h5
paste kind.tsv call.tsv | awk 'NR > 1 && $2 < 255 { n[$2]++; lost[$2] += $4 < 0 }
    END { for (k = 0; k < 4; k++) print "kind " k ": " (n[k] > 0 ? "some" : "none") ", " lost[k] + 0 " without a call" }'
rows >times.tsv
grep -E '	(attn|evict_one|logit_stats|weights)	' times.tsv | cut -f 1-3
kvinfo --time run.h5 2>/dev/null | awk 'length > 80'
# in Perfetto: the device's kernels beside the host's parts
kvinfo --export perfetto -o run.json run.h5
check_events run.json | grep -E '^(attention|attn|copy to the host|wait for a stream) ' | sed 's/ [1-9][0-9]*$/ some/'
# buffers that come late, or out of order while streams run only when they are waited for: the same
SIMT_CUPTI=late run -o run.h5 --profile
rows | cmp - times.tsv
SIMT_CUPTI=reverse SIMT_STREAMS=deferred run -o run.h5 --profile
rows | cmp - times.tsv
# lost and damaged buffers are counted, and what is left is told
SIMT_CUPTI=drop=7,damage=2 run -o run.h5 --profile
kvinfo --time run.h5 2>&1 >/dev/null | sed 's/[1-9][0-9]* records and damaged/some records and damaged/'
# refused: the run goes on, and one line says why
for why in refuse=39 kind=999; do
    SIMT_CUPTI=$why run -o run.h5 --profile
    kvinfo --export logits_hash run.h5 | cmp - plain.txt
done
run -o run.h5 --profile --backend cpu
run --profile
