# The look of kvplot's charts. kvplot sets em, width and height (points) and mark, and places everything.

# Okabe and Ito's colours, told apart by colour-blind eyes; marks and dashes tell them apart in grey
array COLOUR[8] = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#8C6D31']
array MARK[8] = [7, 5, 9, 11, 13, 6, 4, 8]
array DASH[8] = [1, 2, 4, 1, 2, 1, 1, 3] # colours of one lightness differ here
do for [i = 1:48] {
    dash = (DASH[(i - 1) % 8 + 1] + (i - 1) / 8 - 1) % 5 + 1
    set linetype i linecolor rgb COLOUR[(i - 1) % 8 + 1] linewidth 1.3 pointtype MARK[(i - 1) % 8 + 1] pointsize em / 18.0 * mark dashtype dash
}
set linetype 100 linecolor rgb '#555555' linewidth 1.2 pointtype 0

set datafile separator "\t"
set border 3 linewidth 0.6 linecolor '#444444'
set tics out nomirror scale 0.5
set xtics offset 0,0.3
set ytics offset 0.4,0
set xlabel offset 0,0.8
set ylabel offset 0.6,0
set grid ytics linecolor '#dddddd' linewidth 0.5 dashtype 1
set style fill solid 0.85 noborder
set boxwidth 0.7
