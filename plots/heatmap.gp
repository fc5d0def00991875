# The look of kvplot's attention maps. kvplot sets em, width and height (points), places everything, and sets the colour range.

# viridis, in a few steps: even in lightness, safe for colour-blind eyes and for grey print
set palette defined (0 '#440154', 1 '#482878', 2 '#3e4989', 3 '#31688e', 4 '#26828e', 5 '#1f9e89', 6 '#35b779', 7 '#6ece58', 8 '#b5de2b', 9 '#fde725')

set datafile separator "\t"
set tics front out nomirror scale 0.4
set cbtics scale 0.3
set xtics offset 0,0.4
set ytics offset 0.6,0
set x2tics scale 0.3 offset 0,-0.5
set y2tics scale 0.3 offset -0.6,0
set border 15 linewidth 0.6 linecolor '#444444'
set xlabel offset 0,1
set ylabel offset 1.2,0
# where spans and heads meet
set style line 1 linecolor '#ffffff' linewidth 0.5 dashtype (2,3)
set style line 3 linecolor '#ffffff' linewidth 0.8
