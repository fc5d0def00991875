# kvinfo -m: what a model is, for people and for programs; a folder; a template that isn't known; what doesn't go together.
. "$here/try"
cp "$model" tiny.gguf
kvinfo -m tiny.gguf -n 1000
kvinfo -m tiny.gguf --format tsv --length 17
kvinfo -m tiny.gguf --format json | head -n 2
mkfolder --shards 2 tiny.gguf tiny >/dev/null
kvinfo -m tiny -n 1000
poke tiny.gguf "add_generation_prompt %}{{ '<|im_" 0 begin
kvinfo -m tiny.gguf -n 5000 | tail -n 3
try "a trace too" kvinfo -m tiny.gguf run.h5
try "no such model" kvinfo -m missing.gguf
try "a length alone" kvinfo -n 5
try "no length" kvinfo -m tiny.gguf -n 0
printf '\n# layers with a window, layers without rope\n'
kvinfo -m "$here/../models/gemma3.gguf" -n 100 | grep -E '^(family|rope|window|no rope|KV)'
kvinfo -m "$here/../models/smollm3" -n 100 | grep -E '^(family|rope|window|no rope|KV)'
kvinfo -m "$here/../models/mistral" -n 100 | grep -E '^(window|can.t  *compress)'
kvinfo -m "$here/../models/gemma3.gguf" --format tsv | grep -E '^(rope|window|norope)'
