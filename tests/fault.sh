#!/bin/sh
# The full-size tests of trust: kills and damage while a checkpoint is saved, and fuzzing.
#
#   tests/fault.sh small|release [BUILD_DIR]
#
# small:   what CI runs: 60 random kills, sampled bit flips, 20,000 fuzz inputs.
# release: 10,000 random kills, every bit flipped, 1,000,000 fuzz inputs, coverage; training runs
#          killed at every row of their log, and with every allocation failing once.
# QUERN_FAULT_KILLS and QUERN_FUZZ_RUNS change the sizes. BUILD_DIR (default build/release) holds
# quern, tests/test_checkpoint_fault and tests/test_alloc_loop. Fuzzing alone: tests/test_fuzz.sh.
set -eu

size=${1:-small}
cd "$(dirname "$0")/.."
build=${2:-build/release}
case $size in
small) kills=60 full=0 runs=20000 ;;
release) kills=10000 full=1 runs=1000000 QUERN_FUZZ_COVERAGE=1 ;;
*)
    echo "usage: tests/fault.sh small|release [BUILD_DIR]" >&2
    exit 2
    ;;
esac

QUERN_FAULT_KILLS=${QUERN_FAULT_KILLS:-$kills} QUERN_FAULT_FULL=$full \
    "$build/tests/test_checkpoint_fault"
if [ "$full" -eq 1 ]; then
    QUERN_ALLOC_STRIDE=1 "$build/tests/test_alloc_loop"
    QUERN_RESUME_FULL=1 QUERN_BINARY=$(realpath "$build/quern") tests/test_resume.sh
fi
QUERN_FUZZ_RUNS=${QUERN_FUZZ_RUNS:-$runs} QUERN_FUZZ_COVERAGE=${QUERN_FUZZ_COVERAGE:-} \
    tests/test_fuzz.sh
