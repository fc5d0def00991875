# docs/trace-format.md is what kvinfo --schema prints
kvinfo --schema | diff "$here/../../docs/trace-format.md" - || echo "kvinfo --schema >docs/trace-format.md"
# and the table in python/kvtrace.py what it prints for programs
sed -n '/^SCHEMA = """$/,/^"""$/p' "$here/../../python/kvtrace.py" | sed '1d;$d' >table
kvinfo --schema --format tsv | diff table - || echo "put what kvinfo --schema --format tsv prints into python/kvtrace.py, between SCHEMA = and the last line"
