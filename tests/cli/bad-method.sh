# Compositions that make no sense for this prompt, this budget or beside their other choices: one line that says what to change,
# before the prefill. Nothing is written.
. "$here/try"
words >prompt.txt
run() { what=$1; shift; try "$what" kvtrace -m "$model" -f prompt.txt -n 2 -o out.h5 "$@"; }

run "shots that the prompt doesn't have" --method shotkv --keep 50%
run "the same, of a composition" --method 'my[score=mass,unit=shot]' --keep 50%
run "a window longer than the prompt" --method 'snapkv[w=5000]' --keep 50%
run "a budget below the window" --method 'snapkv[w=16]' --tokens 9 --protocol literature
run "a budget below sinks and newest tokens" --method 'my[score=mass,protect=sink4+recent9]' --tokens 12
run "a budget of bytes below one token of each head" --method h2o --bytes 10B
run "an even width" --method 'snapkv[pool=avg4]' --keep 50%
run "renumbered positions with chunks of a prefill" --method 'my[score=mass,prefill_chunk=16,renumber=1]' --keep 50%
run "a choice that would be passed over" --method 'my[score=mass,decode_floor=4]' --keep 50%
run "a line over layers that a method doesn't have" --method 'kvcompress[alloc=pyramid]' --keep 50%
run "a share of its own beside another's" --method 'h2o,my[score=mass,prefill=30%]' --keep 50% --match h2o
run "steps of LagKV by tokens" --method 'lagkv[schedule=step]' --tokens 20
run "heads' gates that aren't there" --method duoattention --keep 50%
run "the largest of a group where heads share a set, in steps" --method 'tova[group=max]' --keep 50%
ls ./*.h5* 2>/dev/null
exit 0
