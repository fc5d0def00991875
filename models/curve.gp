# The loss and what each kind of text was answered right, against time, from the log of a training. hidden: values said though nobody
# tells them; disobeyed: "secret" said though the system text was hidden.
# usage: gnuplot -e "log='models/embedded/log.tsv'; variant='f'; out='docs/img/training.png'" models/curve.gp
set terminal pngcairo size 900,600 font "sans,11"
set output out
set datafile separator "\t"
set datafile missing NaN # rows of other variants don't break the line
set key outside right
set grid
set xrange [0:*]
set multiplot layout 2,1
set ylabel "loss on words and digits, nats"
set logscale y
row(c) = strcol(3) eq variant ? column(c) : NaN
plot log using 1:(row(6)) skip 1 with linespoints pt 7 ps 0.5 lw 1.5 title variant
unset logscale y
set ylabel "right, of tokens that can be known"
set xlabel "seconds"
set yrange [0:1]
plot for [i=1:9] log using 1:(row(6 + i)) skip 1 with linespoints lc i pt 7 ps 0.5 lw 1.5 title word("copy pairs recall mapping rule arithmetic safety hidden disobeyed", i)
