# The look of kvplot's overlap matrix. kvplot sets em, width and height (points) and places everything.

# From chance: sand below, blue above, darker all the way, so that grey print keeps the order. From nothing: blue.
FROM_CHANCE = "set palette defined (-1 '#fff3cf', -0.02 '#f3e6c4', 0 '#dfe6ee', 0.25 '#b3cde3', 0.6 '#5a9bcb', 1 '#053061'); set cbrange [-1:1]"
FROM_NOTHING = "set palette defined (0 '#ffffff', 0.25 '#d1e5f0', 0.6 '#67a9cf', 1 '#053061'); set cbrange [0:1]"
set cbtics 0.5 scale 0.3 format '%g'
INK(v) = v > 0.55 ? 0xffffff : 0x222222

set datafile separator "\t"
set tics scale 0 front
set xtics rotate by 40 right
set border 15 linewidth 0.6 linecolor '#444444'
set object 1 rectangle from graph 0,0 to graph 1,1 fillcolor '#eeeeee' fillstyle solid noborder behind
set style line 2 linecolor '#333333' linewidth 1.2
