# A trace says which model it came from: the weights' SHA-256 is what sha256sum says of the files in the order of their names,
# and the same weights give the same logits from a GGUF, a folder and shards.
. "$here/try"
hash_of() { sha256sum | cut -d ' ' -f 1; }
said() { kvinfo "$1" | awk -v what="$2" 'index($0, what " ") == 1 { print $NF }'; }
words >prompt.txt
mkmodel --seed 5 --qwen2 --untied --pre qwen2 m.gguf
mkfolder m.gguf folder
mkfolder --shards 3 --unaligned m.gguf shards
for m in m.gguf folder shards; do
    kvtrace -q --threads 1 -m $m -f prompt.txt --method snapkv[w=8] --keep 50% -n 3 -o $m.h5 >$m.text
done
[ "$(said m.gguf.h5 'model sha256')" = "$(hash_of <m.gguf)" ] || echo "m.gguf: another hash"
[ "$(said folder.h5 'model sha256')" = "$(hash_of <folder/model.safetensors)" ] || echo "folder: another hash"
[ "$(said shards.h5 'model sha256')" = "$(cat shards/model-*.safetensors | hash_of)" ] || echo "shards: another hash"
for m in folder shards; do
    (cd $m && cat config.json generation_config.json tokenizer.json tokenizer_config.json) | hash_of >want
    [ "$(said $m.h5 config_sha256)" = "$(cat want)" ] || echo "$m: another hash of its small files"
    [ "$(said $m.h5 'logits hash')" = "$(said m.gguf.h5 'logits hash')" ] || echo "$m: other logits than m.gguf"
    cmp m.gguf.text $m.text
done
echo "three formats of one model"
