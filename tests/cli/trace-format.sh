# docs/trace-format.md is what kvinfo --schema prints
kvinfo --schema | diff "$here/../../docs/trace-format.md" - || echo "kvinfo --schema >docs/trace-format.md"
