#!/usr/bin/env bash
# Configures and builds one preset; starts afresh where the tree has moved since the last build.
#
#   tests/preset.sh PRESET [TARGET...]
#
# `release` builds without tests, and takes over a build folder that `ci` has configured as it is,
# so that the program and the tests share one incremental build.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=$1
shift
folder=build/$preset
tests=ON
case $preset in
ci) folder=build/release ;;
release) tests=OFF ;;
esac

fresh=()
configured=no
if [ -f "$folder/CMakeCache.txt" ]; then
    home=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$folder/CMakeCache.txt")
    if [ "$home" != "$(pwd -P)" ]; then
        fresh=(--fresh)
    elif [ -f "$folder/build.ninja" ]; then
        configured=yes
    fi
fi
[ "$preset" = release ] && [ $configured = yes ] ||
    cmake --preset "$preset" ${fresh[@]+"${fresh[@]}"} -DQUERN_TESTS=$tests
# One file that does not compile keeps a test run from nothing but the programs made of it.
keep_going=()
[ "$preset" = release ] || keep_going=(-- -k 0)
cmake --build "$folder" -j "$(nproc)" ${1:+--target "$@"} ${keep_going[@]+"${keep_going[@]}"}
