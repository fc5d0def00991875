# The method `random` keeps at chance level: eight seeds on the designed model, 28 pairs of them. Two independent sets of k in n have
# |A and B| with a variance of k^2 (n - k)^2 / (n^2 (n - 1)), so over the cells O has mean 0 and a deviation of 1 / sqrt(cells (n - 1)).
# Bounds: single pairs 4.5 deviations (28 pairs: 1 in 5000), the mean of the pairs (which are uncorrelated) and the sum of squares 4 of
# their own; C* of the seeds 4 standard errors about 0. Would catch: seeds that share draws, positions that are likelier than others.
# usage: random.sh BIN_DIR TESTS_DIR
set -eu
PATH=$1:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdesigned designed.gguf
seeds=$(for i in 1 2 3 4 5 6 7 8; do printf 'random[seed=%d],' $i; done)
kvtrace -q -m designed.gguf --shots "$2/../examples/shots.jsonl" --n-shots 4 --question 'How many?' --method "${seeds%,}" --keep 25% -n 1 --see none \
    --maps none -o random.h5 >/dev/null
kvoverlap random.h5 --shifts 0 --format tsv | awk -F '\t' '
    NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    { z = $at["adjusted"] * sqrt($at["cells"] * ($at["universe (tokens)"] - 1)); pairs++; sum += z; squares += z * z; if (z * z > 20.25) far++ }
    END {
        if (pairs == 28 && !far && sum * sum <= 16 * pairs && squares <= pairs + 4 * sqrt(2 * pairs) && squares >= pairs - 4 * sqrt(2 * pairs) && squares > 8)
            exit 0
        print pairs " pairs, " far + 0 " beyond 4.5 deviations, sum " sum ", of squares " squares
        exit 1
    }'
kvcoherence random.h5 --shifts 0 --format tsv | awk -F '\t' '
    NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    { x = $at["adjusted"]; n++; sum += x; squares += x * x }
    END {
        mean = sum / n
        if (n == 8 && mean * mean <= 16 * (squares / n - mean * mean) / (n - 1))
            exit 0
        print n " branches, C* " mean
        exit 1
    }'
