# The look of kvplot's kept maps. kvplot sets em, width and height (points) and places everything.

# white: held by nobody; then one blue, darker with every cell that holds
set palette defined (0 '#ffffff', 0.001 '#c6dbef', 0.34 '#9ecae1', 0.67 '#4292c6', 1 '#08306b')
set cbrange [0:1]
set cbtics 0.25 scale 0.3 format '%g'

set datafile separator "\t"
set tics front out nomirror scale 0.4
set xtics offset 0,0.4
set ytics offset 0.6,0
set x2tics scale 0.2 offset 0,-0.5
set border 15 linewidth 0.6 linecolor '#444444'
set xlabel offset 0,1
set ylabel offset 1.2,0
# where spans meet
set style line 1 linecolor '#d95f02' linewidth 0.7 dashtype (3,3)
