#!/bin/sh
# 24 compressed branches beside kvpress: the same model, prompt and number of tokens, one after the other on one machine.
#
# usage: bench/kvpress.sh MODEL.gguf PYTHON [KVTRACE] [PROMPT.txt]
#   PYTHON   an interpreter that has kvpress, transformers, torch and gguf
#   KVTRACE  default build/bin/kvtrace;  PROMPT default tests/vectors/parity-prompts/p08_shots.txt (1,205 tokens)
#   THREADS=2, NEW=64 and SKIP_PEER=seconds (a figure measured before, where the three minutes aren't to be spent)
#
# Theirs: six presses x four budgets, each a run of its own, f32 products and f32 KV, nothing recorded.
# Ours: six methods x four budgets in one run, bf16 products and f16 KV, scores and pooled maps traced to a file: once with
# 24 free-running texts, which is what theirs does, and once as by default (teacher-forced beside the full branch, and
# the texts too); and, to show what sharing gives, 24 separate runs in f32 without it.
set -eu
[ $# -ge 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(dirname "$0")
model=$1 python=$2 ours=${3:-build/bin/kvtrace} prompt=${4:-$here/../tests/vectors/parity-prompts/p08_shots.txt}
threads=${THREADS:-2} new=${NEW:-64}
for f in "$model" "$ours" "$prompt"; do [ -e "$f" ] || { echo "kvpress.sh: no such file: $f" >&2; exit 3; }; done
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT

# run LABEL COMMAND...: writes "LABEL seconds peak_MB" to $t/LABEL
run() {
    label=$1
    shift
    "$python" - "$t/$label" "$@" <<'PY'
import resource, subprocess, sys, time
start = time.time()
r = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL)
with open(sys.argv[1], "w") as f:
    f.write(f"{time.time() - start:.2f} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f}\n")
sys.exit(r.returncode)
PY
}

common="-m $model -f $prompt -n $new --threads $threads --protocol literature --ignore-end"
echo "ours, 24 branches in one run ..." >&2
for decode in free both; do
    for i in 1 2 3; do # shellcheck disable=SC2086
        run $decode.$i "$ours" $common --method snapkv,pyramidkv,chunkkv,h2o,streaming,random --keep 10%,20%,40%,60% --kv-type f16 \
            --decode $decode -o "$t/run.$decode.$i.h5"
    done
done
echo "ours, 24 runs without sharing, f32 ..." >&2
cat > "$t/separate" <<'SH'
ours=$1 out=$2
shift 2
for m in snapkv pyramidkv chunkkv h2o streaming random; do
    for k in 10% 20% 40% 60%; do
        "$ours" "$@" --method "$m" --keep "$k" --compute f32 --kv-type f32 --decode free -o "$out" --force || exit 1
    done
done
SH
# shellcheck disable=SC2086
run separate sh "$t/separate" "$ours" "$t/separate.h5" $common
if [ -n "${SKIP_PEER:-}" ]; then
    echo "{\"wall_s\": $SKIP_PEER, \"peak_bytes\": 0, \"tokens\": 0}" > "$t/peer"
else
    echo "kvpress, 24 runs, about three minutes ..." >&2
    THREADS=$threads "$python" "$here/kvpress_sweep.py" "$model" "$prompt" "$new" 2>/dev/null > "$t/peer"
fi
"$python" - "$t" <<'PY'
import json, sys
t = sys.argv[1]
read = lambda n: tuple(map(float, open(f"{t}/{n}").read().split()))
runs = {d: sorted(read(f"{d}.{i}") for i in (1, 2, 3)) for d in ("free", "both")}
sep, peer = read("separate"), json.load(open(f"{t}/peer"))
print(f"{'':46} {'wall s':>8} {'peak MB':>8} {'kvpress / this':>15}")
print(f"{'kvpress: 24 runs, f32 products, f32 KV':46} {peer['wall_s']:8.1f} {peer['peak_bytes'] / 2**20:8.0f} {1:15.1f}")
for decode, what in (("free", "24 texts, as kvpress"), ("both", "teacher-forced, and 24 texts")):
    one = runs[decode][1]
    label = f"kvtrace: one run, {what}"
    print(f"{label:46} {one[0]:8.1f} {one[1]:8.0f} {peer['wall_s'] / one[0]:15.1f}")
print(f"{'kvtrace: 24 runs, f32 products, f32 KV, traced':46} {sep[0]:8.1f} {sep[1]:8.0f} {peer['wall_s'] / sep[0]:15.1f}")
print(f"kvtrace's times are whole processes with loading (median of 3: {', '.join(f'{r[0]:.2f}' for d in runs for r in runs[d])}); "
      f"kvpress's leave loading out; its prompt has one BOS more ({peer['tokens']} tokens)")
PY
