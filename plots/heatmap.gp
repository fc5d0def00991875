# The look of kvplot's attention heatmaps. Sizes are in points of the whole picture (width x height); kvplot sets
# n (tokens), low and high (colour range), width, height, cols, rows, side (of a panel), and for each panel col and row.

# viridis, in a few steps: even in lightness, safe for colour-blind eyes and for grey print
set palette defined (0 '#440154', 1 '#482878', 2 '#3e4989', 3 '#31688e', 4 '#26828e', 5 '#1f9e89', 6 '#35b779', 7 '#6ece58', 8 '#b5de2b', 9 '#fde725')
set logscale cb
set cbrange [low:high]
set format cb '%g'
set cbtics scale 0.5

set xrange [0:n]
set yrange [n:0]
set x2range [0:n]
set y2range [n:0]
set tics front out nomirror scale 0.5
set xtics autofreq
set ytics autofreq
set x2tics scale 0.3 offset 0,-0.5
set y2tics scale 0.3 offset -0.6,0
set border 15 linewidth 0.6 linecolor '#444444'
set title offset 0,-0.7
set xlabel offset 0,0.4
set ylabel offset -0.3,0
set cblabel offset 0.8,0
set style line 1 linecolor '#ffffff' linewidth 0.5 dashtype (2,3)
set style line 2 linecolor '#ffffff' linewidth 0.5 dashtype (2,3)

# One panel: its place from col and row. 56 points for the labels on the left, 40 above.
PLACE = 'set lmargin at screen (56 + col * (side + 16)) / width; set rmargin at screen (56 + col * (side + 16) + side) / width; set tmargin at screen 1 - (42 + row * (side + 36)) / height; set bmargin at screen 1 - (42 + row * (side + 36) + side) / height'
COLOURBOX = 'set colorbox user origin (74 + cols * (side + 16)) / width, 72 / height size 12 / width, (height - 116) / height noborder'
