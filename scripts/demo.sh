#!/usr/bin/env bash
# From nothing to pictures: installs what is missing, builds, fetches a small model, traces an eight-shot prompt under
# seven compression methods and shows what each of them kept. Without a network the embedded model (models/README.md) answers
# a prompt that it was made for. Run it again: what is already there is not made again.
# usage: scripts/demo.sh [-m MODEL.gguf] [-o FOLDER]     results go to FOLDER, build/demo by default
set -euo pipefail
cd "$(dirname "$0")/.."

model=
out=build/demo
while getopts m:o:h option; do
    case $option in
    m) model=$OPTARG ;;
    o) out=$OPTARG ;;
    *) sed -n '2,5s/^# //p' "$0" >&2; [ "$option" = h ] && exit 0; exit 2 ;;
    esac
done

scripts/deps.sh build plot
scripts/build.sh build -t kvtrace -t kvinfo -t kvoverlap -t kvcoherence -t kvplot -t kvreport
shots=examples/shots.jsonl question=examples/question.jsonl new=48
template='Question: {question}\nReasoning: {rationale}\nAnswer: {answer}'
if [ -z "$model" ] && ! model=$(scripts/get-model.sh); then
    model=models/embedded/kvtrace-tiny.gguf
    echo "demo.sh: no download, so the embedded model answers ($model); one of yours: scripts/demo.sh -m FILE.gguf" >&2
fi
if [ "$model" = models/embedded/kvtrace-tiny.gguf ]; then
    shots=examples/names.jsonl question=examples/names-question.jsonl new=7
    template='Question: {question}\nAnswer: {answer}'
fi

bin=build/bin
trace=$out/demo.h5
mkdir -p "$out"
methods=random,streaming,h2o,snapkv,pyramidkv,chunkkv,shotkv
run=("$bin/kvtrace" -m "$model" --shots "$shots" --question-file "$question" --template "$template"
     --method "$methods" --keep "25%,50%" --map-size 192 -n "$new" -o "$trace" --force)
made=$out/made-with # the command of the trace that is there
if ! [ -e "$trace" ] || [ "$trace" -ot "$bin/kvtrace" ] || [ "$trace" -ot "$shots" ] ||
    [ "$trace" -ot "$question" ] || [ "$(cat "$made" 2>/dev/null)" != "${run[*]}" ]; then
    rm -f "$made"
    "${run[@]}" >"$out/demo.txt"
    echo "${run[*]}" >"$made"
fi
for kind in heatmap kept overlap; do
    if [ "$out/$kind.png" -ot "$trace" ] || [ "$out/$kind.png" -ot "$bin/kvplot" ]; then
        "$bin/kvplot" $kind "$trace" -o "$out/$kind.png"
    fi
done
if [ "$out/report.html" -ot "$trace" ] || [ "$out/report.html" -ot "$bin/kvreport" ]; then
    "$bin/kvreport" "$trace" -o "$out/report.html"
fi

# The screen: the prompt in colour, the table, the pictures, what to type next.
"$bin/kvoverlap" "$trace" --tokens
echo
"$bin/kvcoherence" "$trace" --summary
cat <<END

Pictures:  $out/heatmap.png  (attention, by query and key)
           $out/kept.png     (what each method kept, by layer)
           $out/overlap.png  (how much the methods agree)
All of it: $out/report.html  (one page, with every token's fate)
Next:      $bin/kvoverlap $trace --letters | less
           $bin/kvtrace -m $model -f YOUR_PROMPT.txt --method snapkv,h2o --keep 25% -o run.h5
END
