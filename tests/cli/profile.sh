# kvtrace --profile on the emulated device and its CUPTI: each kernel, copy and wait is joined to the operation that asked for it, whatever the
# buffers do; the run's numbers are the same; a refusal is one line.
[ -e "$(dirname "$(command -v kvtrace)")/libkvt_simt.so" ] || { echo "skipped: this build has no simt backend (no CUDA headers)"; exit 77; }
run() {
    kvtrace -m "$model" -p "One and two, and then?" -w 2 --backend simt --method 'snapkv[w=2],h2o' --keep 50% -n 2 --ignore-end --maps none \
        --no-scores --force "$@" >out.txt 2>err.txt || cat err.txt
    grep profile: err.txt
}
run -o plain.h5
kvinfo --export logits_hash plain.h5 >plain.txt
[ -z "$(kvinfo --export timeline/device/count plain.h5 2>/dev/null)" ] || echo "a profile that nobody asked for"
for trouble in "" late; do
    SIMT_CUPTI=$trouble run -o run.h5 --profile
    kvinfo --export logits_hash run.h5 | cmp - plain.txt
    kvinfo --check run.h5
    # of the device's records: how many of each kind, and how many have no call
    kvinfo --export timeline/device/kind -o kind.tsv run.h5
    kvinfo --export timeline/device/call -o call.tsv run.h5
    paste kind.tsv call.tsv | awk -v trouble="$trouble" 'NR > 1 && $2 < 255 { n[$2]++; lost[$2] += $4 < 0 }
        END { printf "%s:", trouble; for (k = 0; k < 4; k++) printf " %s of kind %d, %d without a call;", n[k] > 0 ? "some" : "none", k, lost[k]; print "" }'
    kvinfo --time --format tsv run.h5 2>err.txt | cut -f 1-4,7 >time-$trouble.tsv
    cat err.txt
done
cmp time-.tsv time-late.tsv
cat time-.tsv
SIMT_CUPTI=reverse SIMT_STREAMS=deferred run -o run.h5 --profile
kvinfo --time --format tsv run.h5 2>/dev/null | cut -f 1-4,7 | cmp - time-.tsv
kvinfo --time run.h5 2>/dev/null | awk 'length > 80'
# in Perfetto: the device's kernels beside the host's parts
kvinfo --export perfetto -o run.json run.h5
check_events run.json | grep -E '^(attention|attn|linear|copy to the host|wait for a stream) ' | sed 's/ [1-9][0-9]*$/ some/'
# lost and damaged buffers are counted, and what is left is told
SIMT_CUPTI=drop=7 run -o run.h5 --profile
kvinfo --time run.h5 2>&1 >/dev/null | sed 's/[0-9][0-9]* records and damaged/some records and damaged/'
SIMT_CUPTI=damage=2 run -o run.h5 --profile
kvinfo --time run.h5 2>&1 >/dev/null | sed -n 2p
# refused: the run goes on, and one line says why
for why in refuse=39 refuse=35 kind=999; do
    SIMT_CUPTI=$why run -o run.h5 --profile
    kvinfo --export logits_hash run.h5 | cmp - plain.txt
    kvinfo --time run.h5 >/dev/null
done 2>&1
run -o run.h5 --profile --backend cpu
run --profile
kvinfo --time --format tsv plain.h5 2>&1 | cut -f 1-2 | sort | uniq -c | awk '{$1 = ""; print}' | head -n 12
