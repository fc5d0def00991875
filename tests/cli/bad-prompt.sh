# Prompts that can't be used: one line that says what to change, and exit 3.
. "$here/try"
run() { what=$1; shift; try "$what" kvtrace -m "$model" --method snapkv --keep 50% -n 2 -o out.h5 "$@"; }

run "no such file" -f missing.txt
: >empty.txt
run "empty" -f empty.txt
printf 'good so far \377\376 and then not' >latin.txt
run "invalid UTF-8 (byte 12)" -f latin.txt
i=0
while [ $i -lt 4000 ]; do
    words
    i=$((i + 1))
done >long.txt
run "longer than the context" -f long.txt
words >plain.txt
run "shotkv without shots" -f plain.txt --method shotkv
printf '{"question": "One?", "answer": "1"}\n{"question": "Two?", "answer": \n' >broken.jsonl
run "a line that is not JSON" --shots broken.jsonl --question "Three?"
printf '{"question": "One?", "answer": "1"}\n' >one.jsonl
run "a template with a field that no shot has" --shots one.jsonl --template 'Q: {question} A: {anwser}' --question "Three?"
ls ./*.h5* 2>/dev/null
exit 0
