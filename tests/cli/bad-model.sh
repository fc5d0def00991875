# Model files that can't be used: each is one line and exit 3, and leaves no trace file behind.
. "$here/try"
words >prompt.txt
run() { try "$1" kvtrace -m "$2" -f prompt.txt --method snapkv --keep 50% -n 2 -o out.h5; }

run "no such file" missing.gguf
run "a folder" .
printf 'A letter, not a model.\n' >letter.gguf
run "not a GGUF" letter.gguf
: >empty.gguf
run "an empty file" empty.gguf

head -c 1000 "$model" >header.gguf
run "truncated in the header" header.gguf
size=$(wc -c <"$model")
head -c $((size - 1000)) "$model" >tail.gguf
run "truncated in the tensors" tail.gguf

cp "$model" version.gguf
poke version.gguf GGUF 0 '\001'
run "an older version" version.gguf
cp "$model" past.gguf
poke past.gguf blk.0.attn_q.weight 24 '\000\000\000\000\001'
run "a tensor that reaches past the end" past.gguf
cp "$model" type.gguf
poke type.gguf blk.0.attn_q.weight 20 '\143'
run "an unknown tensor type" type.gguf
cp "$model" arch.gguf
poke arch.gguf general.architecture 12 'lmaml'
run "an unknown architecture" arch.gguf
cp "$model" vocab.gguf
poke vocab.gguf token_embd.weight 12 '\100\000'
run "a vocabulary that disagrees with the embedding" vocab.gguf
ls
