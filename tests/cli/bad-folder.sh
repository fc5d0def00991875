# Folders that can't be used as a model: each is one line and exit 3, and leaves no trace file behind.
. "$here/try"
words >prompt.txt
run() { try "$1" kvtrace -m "$2" -f prompt.txt --method snapkv --keep 50% -n 2 -o out.h5; }
mkmodel --layers 1 m.gguf
# fresh FOLDER OPTION...: one that works
fresh() { to=$1; shift; mkfolder "$@" m.gguf "$to"; }

mkdir empty
run "an empty folder" empty
fresh weights; rm weights/model.safetensors
run "no weights" weights
fresh old; mv old/model.safetensors old/pytorch_model.bin
run "only pickled weights" old
fresh vocabulary; rm vocabulary/tokenizer.json
run "no tokenizer" vocabulary
fresh file
run "a file of it" file/model.safetensors
fresh missing --shards 3; rm missing/model-00002-of-00003.safetensors
run "a shard is missing" missing
fresh outside --shards 2; sed -i 's|"model-00002|"../model-00002|' outside/model.safetensors.index.json
run "an index that names a file outside" outside
fresh swapped --shards 2; mv swapped/model-00001-of-00002.safetensors x; cp swapped/model-00002-of-00002.safetensors swapped/model-00001-of-00002.safetensors
run "a shard of another name" swapped
fresh truncated; head -c 5000 truncated/model.safetensors >x; mv x truncated/model.safetensors
run "truncated" truncated
fresh kind; sed -i 's/"llama"/"lmaml"/' kind/config.json
run "an unknown family" kind
fresh fifo; rm fifo/config.json; mkfifo fifo/config.json
run "a pipe where a file should be" fifo
fresh linked; mv linked/model.safetensors elsewhere; ln -s ../elsewhere linked/model.safetensors
try "a link, as the hub's cache has them" kvtrace -q -m linked/ -f prompt.txt -n 2 --dry-run
ls ./*.h5 2>/dev/null || echo "no trace file"
