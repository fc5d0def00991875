#!/bin/sh
# All figures of speed in one go, beside the programs that people use today, on one machine and in turns: a table, and its pictures.
#
# usage: bench/peers.sh OUT_DIR SMOLLM2.gguf LLAMA_BENCH [QWEN.gguf|-] [PYTHON]
#   LLAMA_BENCH  as bench/llama.sh wants it;  QWEN.gguf  Qwen2.5-Coder-1.5B-Instruct, Q4_K_M
#   PYTHON       an interpreter that has kvpress, transformers, torch, gguf and h5py
#   ROUNDS=3 THREADS=2 BIN=build/bin LENGTHS="512 1024 2048 4096 8100" from the environment; WRAPPER, a command that runs another alone on the machine
#   ONLY="llama qwen trace maps grow writer branch kvpress" takes some of its parts; DEEP=yes adds 16,384 tokens on QWEN and 40 branches at 8,000
# Writes OUT_DIR/peers.tsv (figure, unit, ours, peer's, how many times better, goal) and, with gnuplot, peers.png and grow.png. What was
# measured stays in OUT_DIR: stopped and called again it goes on, and its table is made of all that is there. Needs GNU time.
# A peer of "untraced" or "alone" is our own run without what the line is about. About 30 minutes with everything.
set -eu
[ $# -ge 3 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
out=$1 model=$2 peer=$3 qwen=${4:--} python=${5:-} smol=$2
rounds=${ROUNDS:-3} threads=${THREADS:-2} bin=${BIN:-build/bin} lengths=${LENGTHS:-512 1024 2048 4096 8100} wrapper=${WRAPPER:-}
only=${ONLY:-llama qwen trace maps grow writer branch kvpress}
for f in "$model" "$peer" "$bin/kvtrace" "$bin/speed" "$bin/cutprompt" "$bin/writer"; do [ -e "$f" ] || { echo "peers.sh: no such file: $f" >&2; exit 3; }; done
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
. "$here/timed.sh"
: > "$out/peers.tsv"
cat "$here"/../docs/*.md > "$t/text"

wanted() { case " $only " in *" $1 "*) echo "peers.sh: $1" >&2 ;; *) return 1 ;; esac; }

# line FIGURE UNIT OURS PEER GOAL [less]: the ratio says how many times better ours is; with less, small numbers are good
line() {
    awk -v f="$1" -v u="$2" -v o="$3" -v p="$4" -v g="$5" -v less="${6:-}" 'BEGIN {
        r = o > 0 && p > 0 ? (less ? p / o : o / p) : 0
        printf "%s\t%s\t%.4g\t%.4g\t%.3g\t%s\n", f, u, o, p, r, g }' >> "$out/peers.tsv"
}

# once NAME COMMAND...: its output in $out/NAME, unless it is there from before
once() {
    to=$out/$1
    shift
    [ -s "$to" ] && return
    "$@" > "$t/now" 2>"$t/err" || { cat "$t/err" >&2; exit 1; }
    mv "$t/now" "$to"
}
value() { sed "s/.*\"$2\": *\([0-9.]*\).*/\1/" "$out/$1"; } # of a JSON line

# llama.cpp: what bench/llama.sh measures, with a goal for each test
llama() {
    mkdir -p "$out/llama.$4"
    STATE=$out/llama.$4 WRAPPER=$wrapper TSV=$t/llama THREADS=$threads PROMPTS=$2 NEW=$3 sh "$here/llama.sh" "$1" "$peer" "$bin/speed" "$rounds" >&2
    while IFS=$tab read -r test ours theirs; do
        goal=$(echo "$5" | tr ' ' '\n' | sed -n "s/^$test=//p")
        line "$4 $test, llama.cpp" tokens/s "$ours" "$theirs" "$goal"
    done < "$t/llama"
}
wanted llama && llama "$model" 512,2048 128 SmolLM2 "pp512=4 pp2048=4 tg128=1.5 tg128@d2048=1.5"
[ "$qwen" = - ] || { wanted qwen && llama "$qwen" 512 32 Qwen2.5-1.5B "pp512=1.5 tg32=1.0 tg32@d2048=1.2"; }

# a traced prefill beside an untraced one; the runs at each length also say how time and memory grow
if wanted trace || wanted grow; then
    for n in $lengths; do
        cut_to "$n" "$out/p$n"
        for i in $(seq "$rounds"); do
            timed "plain.$n" "$i" -f "$out/p$n" -n 1 --maps none
            wanted trace && timed "traced.$n" "$i" -f "$out/p$n" -n 1 --maps pooled --map-size 256 --see scores,visible,square,max,keys,local,spans -o "$t/run.h5"
        done
    done
fi
if wanted trace; then
    for n in $lengths; do line "prefill $n traced, untraced" s "$(of "traced.$n" 3)" "$(of "plain.$n" 3)" 0.91 less; done
fi

# full maps of every layer and head at 2,048 tokens, beside the disk and transformers with h5py
if wanted maps; then
    cut_to 2048 "$out/p2048"
    for i in $(seq "$rounds"); do
        timed base.2048 "$i" -f "$out/p2048" -n 1 --maps none
        timed full.2048 "$i" -f "$out/p2048" -n 1 --maps full --see none -o "$t/run.h5"
        if ! done_before dd.2048 "$i"; then
            bytes=$(of full.2048 7)
            start=$(date +%s%N)
            # shellcheck disable=SC2086
            $wrapper dd if=/dev/zero of="$t/raw" bs=4M count=$((bytes / 4194304 + 1)) conv=fsync 2>/dev/null
            note dd.2048 "$i" 0 0 "$((($(date +%s%N) - start) / 1000000))e-3" 0 "$bytes"
            rm -f "$t/raw"
        fi
    done
    line "full maps f16 of 2,048 tokens ($(($(of full.2048 7) / 1000000)) MB), the same bytes by dd" s "$(of full.2048 5)" "$(of dd.2048 5)" - less
    line "full maps' memory beyond the run without" MB "$(awk -v a="$(of full.2048 6)" -v b="$(of base.2048 6)" 'BEGIN { print (a > b ? a - b : 0) }')" 300 1 less
    if [ -n "$python" ]; then
        once hf-maps env THREADS="$threads" "$python" "$here/hf_maps.py" "$model" "$out/p2048" "$t/hf.h5"
        line "full maps of 2,048 tokens, transformers + h5py" s "$(of full.2048 5)" "$(value hf-maps whole_s)" 10 less
        line "the whole process's memory, theirs" MB "$(of full.2048 6)" "$(awk -v b="$(value hf-maps peak_bytes)" 'BEGIN { print b / 1048576 }')" - less
    fi
fi

# how time and memory grow: a fit of a n + b n^2 to the prefill, and memory beside 512's
if wanted grow; then
    for n in $lengths; do printf '%s\t%s\t%s\n' "$n" "$(of "plain.$n" 3)" "$(of "plain.$n" 6)"; done > "$out/grow.tsv"
    first=$(head -n 1 "$out/grow.tsv" | cut -f1)
    while IFS=$tab read -r n s mb; do
        line "SmolLM2 prefill of $n tokens, at the rate of $first" s "$s" "$(awk -v n="$n" 'NR == 1 { print $2 * n / $1 }' "$out/grow.tsv")" - less
        line "its memory, MB a token beyond $first's" MB "$mb" "$(awk -v n="$n" 'NR == 1 { m = $3; a = $1 } { b = $1; k = ($3 - m) / (b > a ? b - a : 1) } END { print m + k * (n - a) }' "$out/grow.tsv")" - less
    done < "$out/grow.tsv"
fi

# the writer alone, fed from memory, beside a plain file
if wanted writer; then
    # shellcheck disable=SC2086
    for i in $(seq "$rounds"); do once "writer.$i" $wrapper "$bin/writer" "$t" 2048 30 9 3; done
    for i in $(seq "$rounds"); do sed 's/.*trace [0-9.]* s (\([0-9]*\) MB.s), plain file [0-9.]* s (\([0-9]*\) MB.*/\1 \2/' "$out/writer.$i"; done > "$t/writer"
    line "the trace's writer alone, a plain file" MB/s "$(cut -d' ' -f1 "$t/writer" | median)" "$(cut -d' ' -f2 "$t/writer" | median)" 0.8
fi

six="snapkv,pyramidkv,chunkkv,h2o,streaming,random"
if wanted branch; then
    cut_to 1150 "$out/p1150"
    for i in $(seq "$rounds"); do
        timed alone "$i" -f "$out/p1150" -n 64 --decode free
        timed many "$i" -f "$out/p1150" -n 64 --decode free --method $six --keep 10%,20%,40%,60%
    done
    line "one of 24 branches more, 5 % of a run alone" s "$(awk -v a="$(of alone 5)" -v m="$(of many 5)" 'BEGIN { print (m - a) / 24 }')" \
        "$(awk -v a="$(of alone 5)" 'BEGIN { print 0.05 * a }')" 1 less
    line "24 branches, 1,150 tokens + 64, untraced; the goal" s "$(of many 5)" 4 1 less
    line "their memory; the goal" MB "$(of many 6)" 600 1 less
fi
if [ -n "$python" ] && wanted kvpress; then
    p=$here/../tests/vectors/parity-prompts/p08_shots.txt
    for i in $(seq "$rounds"); do
        timed traced24 "$i" -f "$p" -n 64 --protocol literature --decode free --method $six --keep 10%,20%,40%,60% -o "$t/run.h5"
    done
    once kvpress env THREADS="$threads" "$python" "$here/kvpress_sweep.py" "$model" "$p" 64
    line "24 runs of kvpress, traced here" s "$(of traced24 5)" "$(value kvpress wall_s)" 20 less
    line "their memory, kvpress's" MB "$(of traced24 6)" "$(awk -v b="$(value kvpress peak_bytes)" 'BEGIN { print b / 1048576 }')" - less
fi
if [ -n "${DEEP:-}" ]; then
    cut_to 8000 "$out/p8000"
    timed forty 1 -f "$out/p8000" -n 16 --kv-type f16 --method $six,knorm,keydiff,lagkv,tova --keep 10%,20%,40%,60%
    line "40 branches of 8,000 tokens + 16, memory; the goal" MB "$(of forty 6)" 3815 1 less
    if [ "$qwen" != - ]; then
        model=$qwen
        cut_to 16384 "$out/q16384"
        timed deep 1 -f "$out/q16384" -n 8
        model=$smol
        line "16,384 tokens on Qwen2.5-Coder-1.5B, memory; the goal" MB "$(of deep 6)" 3815 1 less
    fi
fi

awk -F'\t' 'BEGIN { printf "%-66s %-9s %9s %9s %7s %6s\n", "figure", "unit", "ours", "peer", "ratio", "goal" }
    { printf "%-66s %-9s %9s %9s %7s %6s%s\n", $1, $2, $3, $4, $5, $6, ($6 + 0 > 0 && $5 + 0 < $6 + 0 ? "  missed" : "") }' "$out/peers.tsv"
echo "medians of $rounds in turns"
machine
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
    [ ! -s "$out/grow.tsv" ] || gnuplot - <<PLOT
set terminal pngcairo size 800,380 font "sans,10"
set output "$out/grow.png"
set datafile separator "\t"
set multiplot layout 1,2
set xlabel "tokens"
set grid
set key top left
a = 1e-3
b = 1e-8
f(x) = a * x + b * x * x
set fit quiet logfile "/dev/null"
fit f(x) "$out/grow.tsv" using 1:2:(\$2) yerrors via a, b
set title "seconds of the prefill"
plot "$out/grow.tsv" using 1:2 with points pointtype 7 title "measured", f(x) title sprintf("%.3g ms a token + %.3g ns a pair", 1e3 * a, 2e9 * b), a * x dashtype 2 title "without the pairs"
m = 100
k = 0.02
g(x) = m + k * x
fit g(x) "$out/grow.tsv" using 1:3 via m, k
set title "MB at the peak"
set yrange [0:*]
plot "$out/grow.tsv" using 1:3 with points pointtype 7 title "measured", g(x) title sprintf("%.0f MB + %.1f KB a token", m, 1e3 * k)
PLOT
    echo "picture: $out/peers.png" >&2
fi
