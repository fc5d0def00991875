# --method 'file[scores.h5]': one line for each thing that can be wrong with the file.
. "$here/try"
run="kvtrace -q -m $model --shots $here/shots.jsonl --question Why? -n 2 --keep 25%"
try "no file" $run --method 'file[missing.h5]'
try "which" $run --method file
echo words >words.h5
try "no HDF5" $run --method 'file[words.h5]'
try "another HDF5" $run --method "file[$trace]"
