# The model that comes with the repository: taken where no other is given, found beside the program, known by its hash.
. "$here/try"
source=$(cd "$here/../.." && pwd)
folder=$source/models/embedded
(cd "$folder" && sha256sum --check --quiet SHA256SUMS) && echo "hashes are right"
run() { kvtrace "$@" --shots "$source/examples/names.jsonl" --question-file "$source/examples/names-question.jsonl" -n 6 --compute f32; }
run --method snapkv --keep 25% --format tsv 2>words >table.tsv
grep -c 'the embedded model, .*models/embedded/kvtrace-tiny.gguf (models/README.md); -m takes another' words
run -q | head -n 1
kvinfo -m embedded | grep name

# the same folders elsewhere: build/bin/kvtrace and models/embedded
mkdir -p copy/build/bin copy/models/embedded
cp "$(command -v kvtrace)" "$(command -v kvinfo)" copy/build/bin/
cp "$folder/kvtrace-tiny.gguf" copy/models/embedded/
PATH=$PWD/copy/build/bin:$PATH
run 2>&1 | grep -o 'copy/models.*gguf'
poke copy/models/embedded/kvtrace-tiny.gguf blk.1.attn_q.weight 4000 '\123'
try "damaged" run -q 2>&1 | sed "s,$PWD,HERE,"
try "damaged, kvinfo" kvinfo -m embedded | sed "s,$PWD,HERE,"
cp "$model" copy/models/embedded/kvtrace-tiny.gguf
try "replaced" run -q | sed "s,$PWD,HERE,"
try "given by its path it is a model like others" kvinfo -m copy/models/embedded/kvtrace-tiny.gguf
# a program that was built for a checkout without it
LC_ALL=C sed 's,models/embedded/kvtrace-tiny,models/embedded/kvtrace-gone,g' "$(command -v kvtrace)" >gone
chmod +x gone
try "missing" ./gone -p text | sed "s,$source,SOURCE,"
