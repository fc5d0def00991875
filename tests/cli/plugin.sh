# A method of one's own from a shared object: listed, run and recorded beside the built-in ones; what can't be opened is
# one line, before anything runs.
. "$here/try"
plugins=$(dirname "$(command -v kvtrace)")/../plugins
words >prompt.txt
kvtrace --list-methods --format tsv --method-plugin "$plugins/example.so" | cut -f 1,2,3 | grep '^example'
kvtrace -q -m "$model" -f prompt.txt -n 4 --ignore-end --method-plugin "$plugins/example.so" --method 'example[w=8],snapkv[w=8]' \
    --keep 50% --format tsv -o out.h5 | cut -f 1,2
kvinfo out.h5 --format json | grep -c 'example@1\[w=8,keep_window=1,sinks=0,renumber=0\]'
try "no such file" kvtrace -m "$model" -f prompt.txt --method-plugin none.so --method none
try "another ABI" kvtrace -m "$model" -f prompt.txt --method-plugin "$plugins/plugin_old.so" --method mine
try "not a plugin" kvtrace -m "$model" -f prompt.txt --method-plugin "$plugins/plugin_none.so" --method mine
try "a method that the plugin doesn't have" kvtrace -m "$model" -f prompt.txt --method-plugin "$plugins/example.so" --method exmaple
