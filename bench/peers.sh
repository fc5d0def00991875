#!/bin/sh
# All figures of speed in one go, beside the programs that people use today, on one machine and in turns: a table, and its picture.
#
# usage: bench/peers.sh OUT_DIR SMOLLM2.gguf LLAMA_BENCH [QWEN.gguf|-] [PYTHON]
#   LLAMA_BENCH  as bench/llama.sh wants it;  QWEN.gguf  Qwen2.5-Coder-1.5B-Instruct, Q4_K_M;  PYTHON  as bench/kvpress.sh wants it
#   ROUNDS=3 THREADS=2 BIN=build/bin LENGTHS="512 1024 2048 4096 8192" KVPRESS_S=seconds (measured before) from the environment
#   ONLY="llama qwen trace maps grow branch kvpress" takes some of its parts
# Writes OUT_DIR/peers.tsv (figure, unit, ours, peer's, how many times better, goal) and, with gnuplot, OUT_DIR/peers.png.
# A peer of "untraced" or "alone" is our own run without what the line is about. About 20 minutes with everything.
set -eu
[ $# -ge 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
out=$1 model=$2 peer=$3 qwen=${4:--} python=${5:-}
rounds=${ROUNDS:-3} threads=${THREADS:-2} bin=${BIN:-build/bin} lengths=${LENGTHS:-512 1024 2048 4096 8192}
only=${ONLY:-llama qwen trace maps grow branch kvpress}
for f in "$model" "$peer" "$bin/kvtrace" "$bin/speed"; do [ -e "$f" ] || { echo "peers.sh: no such file: $f" >&2; exit 3; }; done
mkdir -p "$out"
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
tab=$(printf '\t')
: > "$out/peers.tsv"

wanted() { case " $only " in *" $1 "*) echo "peers.sh: $1" >&2 ;; *) return 1 ;; esac; }
median() { sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
col() { awk -v c="$2" '{ print $c }' "$1" | median; }

# line FIGURE UNIT OURS PEER GOAL [less]: the ratio says how many times better ours is; with less, small numbers are good
line() {
    awk -v f="$1" -v u="$2" -v o="$3" -v p="$4" -v g="$5" -v less="${6:-}" 'BEGIN {
        r = o > 0 && p > 0 ? (less ? p / o : o / p) : 0
        printf "%s\t%s\t%.4g\t%.4g\t%.3g\t%s\n", f, u, o, p, r, g }' >> "$out/peers.tsv"
}

# prompt TOKENS FILE: so many tokens of the repository's pages, as near as a cut by bytes comes
cat "$here"/../docs/*.md > "$t/text"
prompt() {
    bytes=$(($1 * 4))
    for _ in 1 2 3 4 5 6; do
        head -c "$bytes" "$t/text" | iconv -f utf-8 -t utf-8 -c > "$2"
        got=$("$bin/kvtrace" -m "$model" -f "$2" -n 1 --dry-run | sed -n 's/^prompt \([0-9]*\) tokens.*/\1/p')
        [ "$got" -eq "$1" ] && break
        bytes=$((bytes * $1 / got))
    done
}

# run FILE OPTION...: appends "prefill_s decode_s wall_s peak_MB" of one run of kvtrace
run() {
    to=$1
    shift
    start=$(date +%s%N)
    "$bin/kvtrace" -t "$threads" -m "$model" --ignore-end --force "$@" >/dev/null 2>"$t/err" &
    pid=$! peak=0
    while kb=$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [ -n "$kb" ]; do
        peak=$kb
        sleep 0.02
    done
    wait "$pid" || { cat "$t/err" >&2; exit 1; }
    ms=$((($(date +%s%N) - start) / 1000000))
    sed -n 's/^prefill \([0-9.]*\) s.*decode \([0-9.]*\) s.*/\1 \2/p' "$t/err" | awk -v ms=$ms -v kb="$peak" '{ print $1, $2, ms / 1000, kb / 1024 }' >> "$to"
}

# llama.cpp: what bench/llama.sh measures, with a goal for each test
llama() {
    TSV=$t/llama THREADS=$threads PROMPTS=$2 NEW=$3 sh "$here/llama.sh" "$1" "$peer" "$bin/speed" "$rounds" >&2
    while IFS=$tab read -r test ours theirs; do
        goal=$(echo "$5" | tr ' ' '\n' | sed -n "s/^$test=//p")
        line "$4 $test, llama.cpp" tokens/s "$ours" "$theirs" "$goal"
    done < "$t/llama"
}
wanted llama && llama "$model" 512,2048 128 SmolLM2 "pp512=4 pp2048=4 tg128=1.5 tg128@d2048=1.5"
[ "$qwen" = - ] || { wanted qwen && llama "$qwen" 512 32 Qwen2.5-1.5B "pp512=1.5 tg32=1.0 tg32@d2048=1.2"; }

# a traced prefill beside an untraced one
if wanted trace; then
    for n in $lengths; do
        prompt "$n" "$t/p$n"
        for _ in $(seq "$rounds"); do
            run "$t/plain.$n" -f "$t/p$n" -n 1 --maps none
            run "$t/traced.$n" -f "$t/p$n" -n 1 --maps pooled --map-size 256 --see scores,visible,square,max,keys,local,spans -o "$t/run.h5"
        done
        line "prefill $n traced, untraced" s "$(col "$t/traced.$n" 1)" "$(col "$t/plain.$n" 1)" 0.91 less
    done
fi

# full maps of every layer and head at 2,048 tokens, beside the disk
if wanted maps; then
    prompt 2048 "$t/p2048"
    for _ in $(seq "$rounds"); do
        run "$t/base" -f "$t/p2048" -n 1 --maps none
        run "$t/full" -f "$t/p2048" -n 1 --maps full --yes -o "$t/run.h5"
        bytes=$(wc -c < "$t/run.h5")
        start=$(date +%s%N)
        dd if=/dev/zero of="$t/raw" bs=4M count=$((bytes / 4194304 + 1)) conv=fsync 2>/dev/null
        echo $(((($(date +%s%N) - start)) / 1000000)) | awk '{ print $1 / 1000 }' >> "$t/dd"
        rm -f "$t/raw" "$t/run.h5"
    done
    line "full maps f16 of 2,048 tokens ($((bytes / 1000000)) MB), the same bytes by dd" s "$(col "$t/full" 3)" "$(median < "$t/dd")" - less
    line "full maps' memory beyond the run without" MB "$(awk -v a="$(col "$t/full" 4)" -v b="$(col "$t/base" 4)" 'BEGIN { print (a > b ? a - b : 0) }')" 300 1 less
fi

# how time grows: tokens/s at each length beside those at 512
if wanted grow; then
    tests=$(for n in $lengths; do printf 'pp%s,' "$n"; done)
    "$bin/speed" -m "$model" -t "$threads" -r "$rounds" -x "${tests%,}" > "$t/grow"
    first=$(sed -n '1s/^[^\t]*\t[^\t]*\t\([0-9.]*\).*/\1/p' "$t/grow")
    while IFS=$tab read -r test _ speed _; do line "SmolLM2 $test, its own $(sed -n '1s/\t.*//p' "$t/grow")" tokens/s "$speed" "$first" -; done < "$t/grow"
fi

six="snapkv,pyramidkv,chunkkv,h2o,streaming,random"
if wanted branch; then
    prompt 1150 "$t/p1150"
    for _ in $(seq "$rounds"); do
        run "$t/alone" -f "$t/p1150" -n 64 --decode free
        run "$t/many" -f "$t/p1150" -n 64 --decode free --method $six --keep 10%,20%,40%,60%
    done
    alone=$(col "$t/alone" 3)
    line "one of 24 branches more, 5 % of a run alone" s "$(awk -v a="$alone" -v m="$(col "$t/many" 3)" 'BEGIN { print (m - a) / 24 }')" \
        "$(awk -v a="$alone" 'BEGIN { print 0.05 * a }')" 1 less
    line "24 branches, 1,150 tokens + 64, untraced; the goal" s "$(col "$t/many" 3)" 4 1 less
    line "their memory; the goal" MB "$(col "$t/many" 4)" 600 1 less
fi
if [ -n "$python" ] && wanted kvpress; then
    p=$here/../tests/vectors/parity-prompts/p08_shots.txt
    for _ in $(seq "$rounds"); do
        run "$t/traced24" -f "$p" -n 64 --protocol literature --decode free --method $six --keep 10%,20%,40%,60% -o "$t/run.h5"
    done
    theirs=${KVPRESS_S:-$(THREADS=$threads "$python" "$here/kvpress_sweep.py" "$model" "$p" 64 2>/dev/null | sed 's/.*"wall_s": *\([0-9.]*\).*/\1/')}
    line "24 runs of kvpress, traced here" s "$(col "$t/traced24" 3)" "$theirs" 20 less
fi

awk -F'\t' 'BEGIN { printf "%-66s %-9s %9s %9s %7s %6s\n", "figure", "unit", "ours", "peer", "ratio", "goal" }
    { printf "%-66s %-9s %9s %9s %7s %6s%s\n", $1, $2, $3, $4, $5, $6, ($6 + 0 > 0 && $5 + 0 < $6 + 0 ? "  missed" : "") }' "$out/peers.tsv"
printf 'medians of %s in turns; %s threads; %s; %s\n' "$rounds" "$threads" "$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)" "$(date +%Y-%m-%d)"
if command -v gnuplot >/dev/null; then
    gnuplot - <<PLOT
set terminal pngcairo size 1000,$((120 + 26 * $(wc -l < "$out/peers.tsv"))) font "sans,10"
set output "$out/peers.png"
set datafile separator "\t"
set title "times better than the peer (bars), and the goal (marks)"
set logscale x 2
set xrange [0.25:*]
set grid x
set yrange [:] reverse
set lmargin 62
unset key
plot "$out/peers.tsv" using (0.25):0:(0.25):5:(\$0-0.35):(\$0+0.35):ytic(1) with boxxyerror fillstyle solid 0.6 linecolor rgb "#4477aa", \
     "" using (strcol(6) eq "-" ? NaN : column(6)):0 with points pointtype 2 pointsize 1.3 linecolor rgb "#cc3311"
PLOT
    echo "picture: $out/peers.png" >&2
fi
