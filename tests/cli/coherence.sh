# kvcoherence's other tables: their columns, how many rows, and what doesn't go together.
. "$here/try"
table() { echo "$*"; kvcoherence "$trace" "$@" --format tsv >c.tsv && head -1 c.tsv && echo "$(($(wc -l <c.tsv) - 1)) rows"; }
table --damage --keep 25%
table --agreement --keep 25%
table --per-head --branches 'h2o 25%' --shifts 0
table --steps 4 --branches 'h2o 25%' --shifts 0
# step 0 of --steps is the table itself
kvcoherence "$trace" --branches 'h2o 25%' --format tsv | tail -1 | cut -f 2- >a
kvcoherence "$trace" --branches 'h2o 25%' --steps 100 --format tsv | tail -1 | cut -f 3- | cmp a - && echo the same
try "two tables" kvcoherence "$trace" --damage --shots
try "steps from a step" kvcoherence "$trace" --steps 2 --at 3
