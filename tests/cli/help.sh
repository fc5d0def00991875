# -h of each tool: on stdout, with an example, exit 0; and each option of the README's commands is there.
. "$here/try"
for tool in kvtrace kvinfo kvattn kvoverlap kvcoherence kvbudget kvreport kvplot kvbench; do
    try "$tool -h" $tool -h
    grep -qi "example" try.stdout || echo "no example"
    awk '/^ *-/ && length($0) > 80 { print "wider than 80 columns: " $0 }' try.stdout
    try "$tool --version" $tool --version
    grep -q "^$tool [0-9]" try.stdout || cat try.stdout
done
