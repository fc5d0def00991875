# kvtrace --budget-file: each layer and kv head keeps what the file says; kvbudget writes such files; bad ones get one line.
. "$here/try"
run() { kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question Why? -n 4 --ignore-end "$@"; }
printf 'branch\tlayer\tkv_head\tkeep\n# by hand\nsnapkv\t0\t0\t30\nsnapkv\t0\t1\t50\nsnapkv\t1\t*\t25%%\nsnapkv\t2\t0\t0.1\nsnapkv\t2\t1\t100%%\n' >hand.tsv
printf 'shotkv 30%%\t0\t*\t50%%\nshotkv 30%%\t1\t*\t30%%\nshotkv 30%%\t2\t*\t10%%\nh2o\t*\t0\t40\nh2o\t*\t1\t20%%\n' >>hand.tsv
run --method 'snapkv[w=8],shotkv[decode=0.5],h2o' --budget-file hand.tsv -o a.h5 >/dev/null
kvinfo a.h5 --check
kvbudget a.h5 -b 1,2,3 --per-head
kvbudget a.h5 -b 1,2,3 --format tsv | cut -f 1,2
# in steps too: heads of 40 and of 20 % of the tokens seen
kvbudget a.h5 -b h2o-derived --steps 2 --format tsv
# another method's shares: ada-kv's heads for snapkv; the same counts again
run --method 'adakv[w=8]' --keep 30% -o ada.h5 >/dev/null
kvbudget ada.h5 -b adakv -o ada.tsv --as 'snapkv ada' >/dev/null
run --method 'snapkv[w=8]' --budget-file ada.tsv -o b.h5 >/dev/null
kvbudget ada.h5 -b 1 --per-head --format csv | cut -d , -f 2,3,5 >want
kvbudget b.h5 -b 'snapkv-derived ada' --per-head --format csv | cut -d , -f 2,3,5 | cmp - want && echo as adakv
# budgets and the file's side by side, and an oracle for each
run --method 'snapkv[w=8]' --keep 30% --budget-file ada.tsv --fidelity regret --format tsv | cut -f 1

bad() { what=$1; shift; try "$what" kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question Why? -n 1 --budget-file bad.tsv "$@"; }
file() { printf '%b' "$1" >bad.tsv; }
try "no file" run --method snapkv --budget-file none.tsv
file ''; bad "empty" --method snapkv
file 'snapkv\t0\t*\n'; bad "too few fields" --method snapkv
file 'snapkv\t0\t*\t1\t2\n'; bad "too many" --method snapkv
file 'snapkv\t-1\t*\t1\n'; bad "a layer below 0" --method snapkv
file 'snapkv\t*\tx\t1\n'; bad "a head" --method snapkv
file 'snapkv\t*\t*\t101%\n'; bad "a share" --method snapkv
file 'snapkv\t*\t*\tnan\n'; bad "not a number" --method snapkv
file 'snapkv\t*\t*\t99999999999999999999\n'; bad "too many tokens" --method snapkv
file 'snapkv\t3\t*\t9\n'; bad "no such layer" --method snapkv
file 'snapkv\t0\t2\t9\n'; bad "no such head" --method snapkv
file 'snapkv\t*\t*\t90\nsnapkv\t1\t1\t9\n'; bad "twice" --method snapkv
file 'snapkv\t0\t*\t90\nsnapkv\t2\t*\t9\n'; bad "a layer without" --method snapkv
file 'snapkv\t*\t*\t50\n\0\0'; bad "zeros" --method snapkv
printf 'snapkv%600s\t1\n' x >bad.tsv; bad "a long line" --method snapkv
printf '\211HDF\r\n\032\n\377\376' >bad.tsv; bad "another kind of file" --method snapkv
file 'tova\t*\t*\t50\n'; bad "for nobody" --method snapkv
file 'tova\t*\t*\t50\n'; bad "not for all" --method snapkv,tova
file 'snapkv\t*\t*\t50\n'; bad "below what is protected" --method 'snapkv[sinks=60]'
for m in pyramidkv 'my[score=mass,alloc=global]' kvcompress finch 'snapkv[w=8,heads=shared]' 'adakv[w=8]' chunkkv 'shotkv[prefill=0.2]' 'chunkkv[reuse=2]'; do
    file "${m%%[*}\t*\t0\t50\n${m%%[*}\t*\t1\t60\n"
    bad "$m" --method "$m"
done
file 'snapkv\t*\t*\t50\n'; bad "with --match" --method snapkv,h2o --match h2o
try "a name for two" kvbudget a.h5 -b 1,2 -o x.tsv --as snapkv
try "nothing to write" kvbudget a.h5 -b full -o x.tsv
try "a folder that isn't there" kvbudget a.h5 -b 1 -o none/x.tsv
