# The look of kvplot's overlap matrix. kvplot sets n (methods), width, height, left, cell (points), and least: -1 for the
# adjusted overlap, 0 for Jaccard.

# orange below chance, white at chance, blue above: safe for colour-blind eyes
if (least < 0) set palette defined (-1 '#b35806', -0.5 '#f1a340', -0.15 '#fee0b6', 0 '#ffffff', 0.25 '#d1e5f0', 0.6 '#67a9cf', 1 '#053061')
if (least >= 0) set palette defined (0 '#ffffff', 0.25 '#d1e5f0', 0.6 '#67a9cf', 1 '#053061')
set cbrange [least:1]
set cbtics 0.5 scale 0.4
INK(v) = v > 0.6 ? 0xffffff : v < -0.75 ? 0xffffff : 0x222222

set xrange [-0.5:n - 0.5]
set yrange [n - 0.5:-0.5]
set tics scale 0 front
set xtics rotate by 40 right
set border 15 linewidth 0.6 linecolor '#444444'
set object 1 rectangle from graph 0,0 to graph 1,1 fillcolor '#eeeeee' fillstyle solid noborder behind
set lmargin at screen left / width
set rmargin at screen (left + n * cell) / width
set tmargin at screen 1 - 46 / height
set bmargin at screen 1 - (46 + n * cell) / height
set colorbox user origin (left + n * cell + 18) / width, 1 - (46 + n * cell) / height size 12 / width, n * cell / height noborder
