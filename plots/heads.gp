# The look of kvplot's heads. kvplot sets em, width and height (points) and places everything.

# slots kept: white to dark blue; labels: Okabe and Ito's colours, and a letter for grey print
set palette defined (0 '#ffffff', 0.001 '#deebf7', 0.34 '#9ecae1', 0.67 '#4292c6', 1 '#08306b')
set cbtics scale 0.3 format '%g'
array COLOUR[8] = [0x0072B2, 0xE69F00, 0x009E73, 0xCC79A7, 0xD55E00, 0x56B4E9, 0x000000, 0xF0E442]
FILL(k) = COLOUR[int(k) % 8 + 1]
INK_ON(k) = int(k) % 8 == 1 || int(k) % 8 == 5 || int(k) % 8 == 7 ? 0x000000 : 0xffffff

set datafile separator "\t"
set tics front out nomirror scale 0.4
set xtics offset 0,0.4
set ytics offset 0.6,0
set border 15 linewidth 0.6 linecolor '#444444'
set xlabel offset 0,1
set ylabel offset 1.2,0
