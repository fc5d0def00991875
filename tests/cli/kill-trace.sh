# A kill at any moment leaves a trace that opens, holds every step that a reader had already seen while it ran, and can
# be made an ordinary file. Nothing but a .part ever lies under a half-made name.
. "$here/try"
steps() { kvinfo --view run --format tsv "$1" 2>/dev/null | sed -n 's/.*; \([0-9]*\) generated of.*/\1/p'; }
want=${KVT_KILLS:-12} # runs that are killed; docs/evidence.md: 100
killed=0 mid=0 i=0
while [ $killed -lt "$want" ] && [ $i -lt $((5 * want)) ]; do
    i=$((i + 1))
    rm -f t.h5*
    mktrace t.h5 no_full=$((i % 3 > 0)) n_shots=$((i % 3 ? 8 : 20)) step_us=6000 &
    run=$!
    # every other run is killed so long after its start, the others so long after their file appeared: a busy machine starts slowly
    while [ $((i % 2)) -eq 0 ] && [ ! -e t.h5.part ] && kill -0 $run 2>/dev/null; do sleep 0.005; done
    sleep "0.$(awk -v i=$i -v pid=$$ 'BEGIN { srand(i * 7919 + pid); printf "%03d", 20 + rand() * 200 }')"
    seen=
    [ -e t.h5.part ] && seen=$(steps t.h5.part)
    kill -9 $run 2>/dev/null
    wait $run 2>/dev/null
    [ -e t.h5 ] && continue
    [ -e t.h5.part ] || continue # killed before the file had a name
    killed=$((killed + 1))
    held=$(steps t.h5.part)
    [ "${held:-0}" -gt 0 ] && mid=$((mid + 1))
    [ -n "$held" ] || echo "killed run $i: the file doesn't open"
    [ "${held:--1}" -ge "${seen:-0}" ] || echo "killed run $i: a reader saw $seen steps, the file holds $held"
    kvinfo --repair --view run --format tsv t.h5.part >repaired 2>/dev/null || echo "killed run $i: no repair"
    # all written, but killed before it got its name: that one is complete
    grep -q '^status	\(interrupted\|complete\)' repaired || echo "killed run $i: not marked as interrupted"
    [ "$(steps t.h5.part)" = "$held" ] || echo "killed run $i: the repair lost steps"
    # an ordinary HDF5 program reads every value, and its checksum where there is one
    sametrace t.h5.part t.h5.part || echo "killed run $i: not all of it can be read"
done
[ $killed -ge $((want / 2)) ] && [ $mid -ge $((want / 6)) ] || echo "only $killed of $i runs were killed in time, $mid of them between steps"
rm -f t.h5*
mktrace t.h5 step_us=200000 &
run=$!
while [ ! -e t.h5.part ]; do sleep 0.02; done
try "the name of a run that goes on" mktrace t.h5 force=1
try "repairing it" kvinfo --repair t.h5.part
kill -9 $run
wait $run 2>/dev/null
try "the name of a killed run" mktrace t.h5
try "replaced" mktrace t.h5 force=1
try "the name of a whole one" mktrace t.h5
ls t.h5*
exit 0
