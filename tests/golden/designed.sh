# The designed model, run: every weight of every attention row as constructed, and the analyzers' numbers of it as README.md works them out.
# usage: designed.sh BIN_DIR TESTS_DIR
set -eu
PATH=$1:$PATH
here=$2/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdesigned designed.gguf
for shot in 'abcdefab cdef' 'ghijklgh ijkl' 'mnopqrmn opqr' 'stuvwxst uvwx'; do
    printf '{"q": "%s", "a": "%s"}\n' "${shot% *}" "${shot#* }"
done >shots.jsonl
echo '{"q": "ghi"}' >question.jsonl
# ghi came before, and jklghi behind it: the induction head copies that
said=$(kvtrace -q --compute f32 --kv-type f32 -m designed.gguf --shots shots.jsonl --template '{q}{a}' --shot-sep - --question-file question.jsonl --method full \
    -n 6 --ignore-end --maps full --see all -o designed.h5 | head -n 1)
[ "${said#full *}" != "$said" ] && [ "${said##* }" = jklghi ] || { echo "full said $said, not jklghi"; exit 1; }
mkdesigned --check designed.h5
sh "$here/hold" "$here/designed.numbers" 2e-5
