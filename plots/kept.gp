# The look of kvplot's kept maps. kvplot sets n (tokens of the context), layers, heads, width, height, cols, rows,
# high (of a panel, in points), and for each panel col and row.

# white: kept by no head; then one blue, darker with every head
set palette defined (0 '#ffffff', 0.001 '#c6dbef', 0.34 '#9ecae1', 0.67 '#4292c6', 1 '#08306b')
set cbrange [0:1]
set cbtics 0.5 scale 0.5 format '%.1f'

set xrange [0:n]
set x2range [0:n]
set yrange [layers - 0.5:-0.5]
set tics front out nomirror scale 0.4
set ytics 10
set x2tics scale 0.2 offset 0,-0.45
set border 15 linewidth 0.6 linecolor '#444444'
set xlabel offset 0,0.5
set ylabel offset 1,0
set cblabel offset 1,0
set style line 1 linecolor '#d95f02' linewidth 0.7 dashtype (3,3)

PLACE = 'set lmargin at screen (46 + col * 640) / width; set rmargin at screen (46 + col * 640 + 600) / width; set tmargin at screen 1 - (50 + row * (high + 22)) / height; set bmargin at screen 1 - (50 + row * (high + 22) + high) / height'
COLOURBOX = 'set colorbox user origin (14 + cols * 640 + 14) / width, 60 / height size 11 / width, (height - 110) / height noborder'
