# kvinfo --check: traces of real runs are sound; what isn't is said, a line for each problem, and exits 3. Each kind of damage that it
# must see is made in tests/unit/test_check.c.
. "$here/try"
sound() {
    try "$1" kvinfo --check "$2"
    sed 's|^/.*/||' try.stdout
}
run() {
    what=$1
    shift
    kvtrace -q -m "$model" --shots "$here/shots.jsonl" --question "Five and five, how many?" -n 6 -o run.h5 --force "$@" >/dev/null
    sound "$what" run.h5
}
sound "a trace of every kind of method" "$trace"
run "full maps, fidelity, oracles" --method 'adakv,tova,kvzip,expected' --keep 30% --maps full --fidelity lost,output,regret --protocol literature
run "nothing but decisions" --method 'shotkv,lagkv' --keep 40% --maps none --no-scores --protocol hidden --decode free --kv-type f32
run "prefilled in chunks" --method 'my[score=mass,prefill_chunk=20]' --keep 30%
run "without a full branch" --no-full --decode free --method "my[score=mass,prefill_chunk=20]" --keep 30%
mktrace made.h5 L=2 n_new=16
sound "a made-up one" made.h5
bigtrace big.h5 tok=700 L=2 H=4 G=2 shots=5 steps=12 bins=32 >/dev/null
sound "a synthetic one, as large ones are made" big.h5
try "for programs" kvinfo --check --format tsv made.h5
cat try.stdout
cp made.h5 named.h5
sed -i 's|complete|finished|' named.h5
try "a status of its own" kvinfo --check named.h5
cat try.stdout
# any byte else than it was: said in lines, never a crash, and never for ever
size=$(wc -c <made.h5) i=0
while [ $i -lt 12 ]; do
    i=$((i + 1))
    cp made.h5 flip.h5
    at=$(awk -v i=$i -v size="$size" 'BEGIN { srand(i); print int(rand() * size) }')
    printf '\377' | dd of=flip.h5 bs=1 seek="$at" conv=notrunc status=none
    code=0
    timeout 60 kvinfo --check flip.h5 >try.stdout 2>try.stderr || code=$?
    [ $code -eq 0 ] || { [ $code -eq 3 ] && [ "$(wc -l <try.stderr)" -eq 1 ]; } || {
        echo "byte $at: exit $code"
        cat try.stderr
    }
done
exit 0
