#!/usr/bin/env bash
# The Debian packages Quern needs, installed when missing.
#
#   tests/packages.sh build   what the program needs
#   tests/packages.sh test    that, and what the tests use
#   tests/packages.sh list    every name, one a line; installs nothing
#
# Exit 0: all are there. Exit 2: some are missing and cannot be installed from here (no apt, no
# root and no password-free sudo, or apt failed); the command to run is printed. QUERN_PACKAGES=skip
# trusts the machine as it is, for systems without dpkg where the libraries come from elsewhere.
set -uo pipefail

# OpenBLAS in its OpenMP build: Quern runs tiles on its own threads, and the serial build is not
# safe to call from two of them (tests/test_product_threads.c).
build=(gcc cmake ninja-build pkg-config libc6-dev
       libopenblas-openmp-dev libdnnl-dev libhdf5-dev libcjson-dev libxxhash-dev zlib1g-dev
       libpcre2-dev libutf8proc-dev)
# clang, libclang-rt-dev, llvm: libFuzzer and branch coverage. strace: faults at system calls.
# jq, python3-jsonschema, hdf5-tools: independent readers of what Quern writes.
test=(libcmocka-dev clang libclang-rt-dev llvm clang-format shellcheck strace jq
      python3 python3-jsonschema hdf5-tools)

case "${1:-}" in
build) wanted=("${build[@]}") ;;
test) wanted=("${build[@]}" "${test[@]}") ;;
list)
    printf '%s\n' "${build[@]}" "${test[@]}"
    exit 0
    ;;
*)
    echo "usage: tests/packages.sh build|test|list" >&2
    exit 2
    ;;
esac

[ "${QUERN_PACKAGES:-}" = skip ] && exit 0

missing=()
if command -v dpkg-query >/dev/null; then
    present=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null)
    for package in "${wanted[@]}"; do
        grep -qx "installed $package" <<<"$present" || missing+=("$package")
    done
else
    missing=("${wanted[@]}")
fi
[ ${#missing[@]} -eq 0 ] && exit 0

give_up() {
    {
        echo "quern: $1. Please install the missing packages, then run this again:"
        echo
        echo "    sudo apt-get install --no-install-recommends ${missing[*]}"
        echo
        echo "(QUERN_PACKAGES=skip goes on without them.)"
    } >&2
    exit 2
}

command -v apt-get >/dev/null || give_up "this machine has no apt-get"
root=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || give_up "installing packages needs root"
    root=(sudo -n)
fi

apt() {
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" 2>&1
}
echo "quern: installing ${missing[*]}"
apt update >/dev/null # a broken foreign source must not stop us: the next line tells
log=$(apt install -y --no-install-recommends "${missing[@]}") ||
    give_up "apt-get install failed (${log##*$'\n'})"
