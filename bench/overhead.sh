#!/bin/sh
# What tracing adds: time, memory and file of each thing that can be traced, beside the same run untraced, in turns. The table of
# docs/overhead.md, and its picture.
#
# usage: bench/overhead.sh [-r ROUNDS] [-n LENGTHS] [-w WRAPPER] [-b BIN_DIR] MODEL.gguf OUT_DIR
#   LENGTHS: tokens, as "512 2048"; WRAPPER: a command that runs another alone on the machine; THREADS=2 from the environment
# OUT_DIR/runs.tsv remembers every run, so that a script that was stopped, or started with more rounds or lengths, goes on; the table is made of
# what is there. Prompts are shots made from this repository's pages. Prefill: one token generated; decode: 64 behind the prompt. Needs GNU time.
set -eu
rounds=3 lengths="512 1024 2048 4096 8100" wrapper='' bin=build/bin threads=${THREADS:-2}
while getopts r:n:w:b: c; do
    case $c in
    r) rounds=$OPTARG ;;
    n) lengths=$OPTARG ;;
    w) wrapper=$OPTARG ;;
    b) bin=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd) model=$1 out=$2
for f in "$model" "$bin/kvtrace" "$bin/cutprompt"; do [ -e "$f" ] || { echo "overhead.sh: no such file: $f" >&2; exit 3; }; done
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
. "$here/timed.sh"

# Shots of about 140 tokens, and a question as long as it takes to come to the length.
cat "$here"/../docs/*.md "$here"/../README.md | tr '\n\t' '  ' | tr -d '"\\' | LC_ALL=C tr -cd ' -~' > "$t/text"
if [ ! -s "$out/shots.jsonl" ]; then # the same ones, whenever it is called
    fold -w 400 "$t/text" | awk '{ printf "{\"question\": \"%s\", \"answer\": \"%s\"}\n", substr($0, 1, 300), substr($0, 301) }' > "$out/shots.jsonl"
fi
tokens_of() { "$bin/kvtrace" -m "$model" --shots "$out/shots.jsonl" --n-shots "$1" --question "$2" -n 1 --dry-run | awk '/^prompt/ { print $2; exit }'; }
make_prompt() { # tokens: writes how many shots it takes, and the question
    shots=$(($1 / 150 - 1)) left=0
    while [ $left -lt 8 ]; do # not more than there is room for
        had=$(tokens_of $shots x)
        left=$(($1 - ${had:-$1} + 1))
        [ $left -ge 8 ] || shots=$((shots - 1))
    done
    "$bin/cutprompt" "$model" $left < "$t/text" > "$out/question.$1"
    echo $shots > "$out/shots.$1"
    echo "$1 tokens asked, $(tokens_of $shots "$(cat "$out/question.$1")") made" >&2
}

# name, what it is called, options; d: of the decode part, f: only where full maps are small
cases='nothing|nothing|
file|a file of decisions and steps|-o H5 --maps none --see none
scores|scores|-o H5 --maps none --see scores
visible|visible, square, max|-o H5 --maps none --see visible,square,max
rows|keys, local: effective keys and local mass of rows|-o H5 --maps none --see keys,local
distance|mass by distance, four offsets|-o H5 --maps none --see distance[1+2+64+256]
spans|span matrix|-o H5 --maps none --see spans
top|the 8 largest of each row|-o H5 --maps none --see top[8]
maps64|maps of 64 x 64|-o H5 --see none --map-size 64
maps256|maps of 256 x 256|-o H5 --see none --map-size 256
default|as by default|-o H5
goal|scores, rows, distance, spans, maps of 256 x 256|-o H5 --see scores,local,keys,distance,spans --map-size 256
all|everything of --see all|-o H5 --maps none --see all
dump|q, k, v of three layers|-o H5 --maps none --see none --dump q,k,v --layers 0-2
replay|--for-replay|-o H5 --maps none --see none --for-replay
full|full maps, all layers and heads|-o H5 --maps full --see none
d.nothing|nothing|
d.decode|the same of generated tokens: --see scores,decode|-o H5 --maps none --see scores,decode
d.rows|their rows: --see rows|-o H5 --maps none --see rows
d.replay|--for-replay|-o H5 --maps none --see none --for-replay'

for n in $lengths; do
    [ -s "$out/shots.$n" ] || make_prompt "$n"
    shots=$(cat "$out/shots.$n")
    for i in $(seq "$rounds"); do
        echo "$cases" | while IFS='|' read -r name _ options; do
            new=1
            case $name in
            d.*) new=64 ;;
            full) [ "$n" -le 2048 ] || continue ;;
            esac
            # shellcheck disable=SC2046,SC2086
            timed "$n.$name" "$i" --shots "$out/shots.jsonl" --n-shots "$shots" --question "$(cat "$out/question.$n")" -n $new --protocol literature $(echo "$options" | sed "s|H5|$t/run.h5|") < /dev/null
        done
    done
done

: > "$out/overhead.tsv"
for n in $(cut -f1 "$state" | cut -d. -f1 | sort -gu); do
    echo "$cases" | while IFS='|' read -r name what _; do
        c=3 base=$n.nothing part=prefill
        case $name in d.*) c=4 base=$n.d.nothing part=decode ;; esac
        [ -n "$(of "$n.$name" $c)" ] || continue
        awk -v n="$n" -v part="$part" -v what="$what" -v s="$(of "$n.$name" $c)" -v s0="$(of "$base" $c)" -v w="$(of "$n.$name" 5)" -v w0="$(of "$base" 5)" \
            -v m="$(of "$n.$name" 6)" -v m0="$(of "$base" 6)" -v b="$(of "$n.$name" 7)" \
            'BEGIN { printf "%s\t%s\t%s\t%.3f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.1f\n", n, part, what, s, s / s0, w, w / w0, m, m - m0, b / 1e6 }' >> "$out/overhead.tsv"
    done
done
printf 'tokens\tpart\ttraced\tpart_s\tratio\twhole_s\tratio\tpeak_MB\tmore_MB\tfile_MB\n'
cat "$out/overhead.tsv"
machine
if command -v gnuplot >/dev/null; then
    gnuplot - <<PLOT
set terminal pngcairo size 900,420 font "sans,10"
set output "$out/overhead.png"
set datafile separator "\t"
set title "a prefill's time with a trace, of the same without"
set logscale x 2
set xlabel "tokens"
set grid
set key outside right
one(w) = sprintf("< grep -F 'prefill%s%s%s' '$out/overhead.tsv'", "$tab", w, "$tab")
set yrange [0.95:*]
plot 1.1 with lines dashtype 2 linecolor rgb "#888888" title "goal of scores ... maps of 256 x 256", \
     for [w in '"a file of decisions and steps" "scores" "maps of 64 x 64" "maps of 256 x 256" "as by default" "scores, rows, distance, spans, maps of 256 x 256" "everything of --see all"'] \
     one(w) using 1:5 with linespoints title w
PLOT
    echo "picture: $out/overhead.png" >&2
fi
