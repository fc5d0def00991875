# Everything that can be traced, by one thread and by more: the same file, but for the command line and the device's name.
. "$here/try"
for _ in 1 2 3 4 5 6 7 8; do words; done >prompt.txt # long enough for several strips of rows
for t in 1 2 5; do
    kvtrace -q -t $t -m "$model" -f prompt.txt --shot-sep '\n\n' --method 'snapkv[w=4],h2o,treekv,kvzip' --keep 50% -n 6 --ignore-end \
        --see "scores,visible,square,max,keys,local,distance[3+5],spans,top[3],decode,rows" \
        --maps full --map-size 7 --for-replay --dump q,k,v --fidelity lost,output -o run.h5 >$t.txt
    cmp 1.txt $t.txt
    mv run.h5 $t.h5
done
for t in 2 5; do echo "1 and $t threads:"; sametrace 1.h5 $t.h5 || :; done
