#!/bin/sh
# What tracing adds: time, memory and file of each thing that can be traced, beside the same run untraced, in turns. The table of
# docs/overhead.md.
#
# usage: bench/overhead.sh [-r ROUNDS] [-n LENGTHS] [-w WRAPPER] [-o FOLDER] MODEL.gguf
#   KVTRACE=build/bin/kvtrace from the environment. LENGTHS: tokens, as "512 2048"; FOLDER: where traces go (default: a temporary
#   one). WRAPPER: a command that runs another alone on the machine.
# Prompts are shots made from this repository's pages, cut to the length. Times are the prefill's, as kvtrace itself tells them;
# `whole` is the process from start to end, with the writing of the rest of the file. 2 threads, one token generated.
set -eu
rounds=5 lengths="512 1024 2048 4096 8100" folder= wrapper=
while getopts r:n:o:w: c; do
    case $c in
    r) rounds=$OPTARG ;;
    n) lengths=$OPTARG ;;
    o) folder=$OPTARG ;;
    w) wrapper=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(dirname "$0") model=$1 ours=${KVTRACE:-build/bin/kvtrace}
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
[ -n "$folder" ] || folder=$t
cat "$here"/../docs/*.md "$here"/../README.md | tr '\n\t' '  ' | tr -d '"\\' | LC_ALL=C tr -cd ' -~' | fold -w 400 |
    awk '{ printf "{\"question\": \"%s\", \"answer\": \"%s\"}\n", substr($0, 1, 300), substr($0, 301) }' >"$t/shots.jsonl"

# shots that make up about n tokens
shots_for() {
    lo=1 hi=$(wc -l <"$t/shots.jsonl")
    while [ $lo -lt $hi ]; do
        mid=$(((lo + hi + 1) / 2))
        k=$("$ours" -m "$model" --shots "$t/shots.jsonl" --n-shots $mid --question x -n 1 --dry-run 2>/dev/null | awk '/^prompt/ { print $2 }')
        if [ -n "$k" ] && [ "$k" -le "$1" ]; then lo=$mid; else hi=$((mid - 1)); fi
    done
    echo $lo
}

# one NAME SHOTS OPTION... -> a line "prefill_s whole_s peak_kb file_bytes" in $t/NAME
one() {
    name=$1 shots=$2
    shift 2
    start=$(date +%s%N)
    $wrapper "$ours" -m "$model" --shots "$t/shots.jsonl" --n-shots "$shots" --question x -n 1 --ignore-end -t 2 --protocol literature "$@" >/dev/null 2>"$t/err" &
    pid=$! peak=0
    while kb=$(cat /proc/"$pid"/task/"$pid"/children 2>/dev/null) && [ -e /proc/"$pid" ]; do
        for p in $pid $kb; do
            hwm=$(awk '/VmHWM/ { print $2 }' "/proc/$p/status" 2>/dev/null) || true
            [ "${hwm:-0}" -gt "$peak" ] && peak=$hwm
        done
        sleep 0.05
    done
    wait "$pid" || { cat "$t/err" >&2; exit 1; }
    end=$(date +%s%N)
    awk -v w=$(((end - start) / 1000000)) -v p="$peak" -v f="$(wc -c <"$folder/run.h5" 2>/dev/null || echo 0)" \
        'match($0, /prefill [0-9.]+ s/) { split(substr($0, RSTART), x, " "); printf "%s %.3f %d %d\n", x[2], w / 1000, p, f }' "$t/err" >>"$t/$name"
    rm -f "$folder/run.h5"
}

median() { cut -d' ' -f"$2" "$t/$1" | sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

h5="$folder/run.h5"
printf 'tokens\ttraced\tprefill_s\tratio\twhole_s\tratio\tpeak_MB\tfile_MB\n'
for n in $lengths; do
    shots=$(shots_for "$n")
    tokens=$("$ours" -m "$model" --shots "$t/shots.jsonl" --n-shots "$shots" --question x -n 1 --dry-run 2>/dev/null | awk '/^prompt/ { print $2 }')
    rm -f "$t"/case.*
    i=0
    while [ $i -lt "$rounds" ]; do
        one case.nothing "$shots"
        one case.file "$shots" -o "$h5" --maps none --see none
        one case.scores "$shots" -o "$h5" --maps none --see scores
        one case.default "$shots" -o "$h5"
        one case.rows "$shots" -o "$h5" --maps none --see scores,local,keys,distance,spans
        one case.all "$shots" -o "$h5" --maps none --see all
        one case.maps "$shots" -o "$h5" --see none --map-size 256
        one case.goal "$shots" -o "$h5" --see scores,local,keys,distance,spans --map-size 256
        i=$((i + 1))
    done
    for c in nothing file scores default rows all maps goal; do
        case $c in
        nothing) what="nothing" ;;
        file) what="a file of decisions and steps" ;;
        scores) what="+ scores" ;;
        default) what="as by default (maps 64 x 64)" ;;
        rows) what="+ scores, rows, distance, spans" ;;
        all) what="+ everything of --see all" ;;
        maps) what="+ maps 256 x 256" ;;
        goal) what="+ scores, rows, distance, spans, maps 256 x 256" ;;
        esac
        printf '%s\t%s\t%.2f\t%.3f\t%.2f\t%.3f\t%.0f\t%.1f\n' "$tokens" "$what" "$(median case.$c 1)" \
            "$(echo "$(median case.$c 1) / $(median case.nothing 1)" | bc -l)" "$(median case.$c 2)" \
            "$(echo "$(median case.$c 2) / $(median case.nothing 2)" | bc -l)" "$(echo "$(median case.$c 3) / 1000" | bc -l)" "$(echo "$(median case.$c 4) / 1000000" | bc -l)"
    done
done
