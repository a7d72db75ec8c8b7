#!/bin/sh
# fault.sh - the full-size fault tests and the fuzzer of checkpoints.
#
#   tests/fault.sh small|release [BUILD_DIR]
#
# small:   what CI runs: 60 random kills, sampled bit flips, 20,000 fuzz inputs.
# release: 10,000 random kills, every bit flipped, 1,000,000 fuzz inputs, coverage.
# QUERN_FAULT_KILLS and QUERN_FUZZ_RUNS change the sizes. BUILD_DIR (default build/release) holds
# tests/test_checkpoint_fault. Inputs that the fuzzer fails on are left in its fuzz_checkpoint/.
set -eu

size=${1:-small}
cd "$(dirname "$0")/.."
build=${2:-build/release}
case $size in
small) kills=60 full=0 runs=20000 ;;
release) kills=10000 full=1 runs=1000000 ;;
*)
    echo "usage: tests/fault.sh small|release [BUILD_DIR]" >&2
    exit 2
    ;;
esac

QUERN_FAULT_KILLS=${QUERN_FAULT_KILLS:-$kills} QUERN_FAULT_FULL=$full \
    "$build/tests/test_checkpoint_fault"

clang=$(command -v clang-14 || command -v clang || true)
if [ -z "$clang" ]; then
    echo "skipped: clang is missing; no fuzzing"
    exit 0
fi
cov=$(command -v llvm-cov-14 || command -v llvm-cov || true)
prof=$(command -v llvm-profdata-14 || command -v llvm-profdata || true)

work=$build/fuzz_checkpoint
rm -rf "$work"
mkdir -p "$work/seeds" "$work/corpus"
sources="tests/fuzz_checkpoint.c io/checkpoint*.c io/file.c io/sha256.c io/json.c io/text_buffer.c
    engine/status.c engine/arena.c engine/tensor.c"
packages="hdf5-serial libcjson libxxhash"
# shellcheck disable=SC2086
flags="-std=c11 -D_GNU_SOURCE -DQN_FUZZ -I. -g -O1 $(pkg-config --cflags $packages)"
# shellcheck disable=SC2086
libs="$(pkg-config --libs $packages) -lm -lpthread"
# shellcheck disable=SC2086
$clang $flags -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
    $sources $libs -o "$work/fuzz"

QUERN_FUZZ_SEEDS=$work/seeds "$work/fuzz" -runs=1 "$work/seeds/none" 2>/dev/null || true
mkdir "$work/manifests"
mv "$work/seeds"/manifest* "$work/manifests"
"$work/fuzz" -runs="${QUERN_FUZZ_RUNS:-$runs}" -max_len=4096 -timeout=5 -rss_limit_mb=1024 \
    -use_value_profile=1 -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="$work/" "$work/corpus" "$work/manifests"

# libhdf5 behind the gate: a finding is noted and does not fail the run.
if ! ASAN_OPTIONS=detect_leaks=0 "$work/fuzz" -runs=$((${QUERN_FUZZ_RUNS:-$runs} / 20)) \
    -max_len=8192 -timeout=10 -verbosity=0 -rss_limit_mb=2048 -detect_leaks=0 \
    -artifact_prefix="$work/hdf5-" "$work/seeds" 2>"$work/hdf5.log"; then
    echo "noted: libhdf5 itself fails on an input; see $work/hdf5.log"
fi

if [ -n "$cov" ] && [ -n "$prof" ]; then
    # shellcheck disable=SC2086
    $clang $flags -fsanitize=fuzzer -fprofile-instr-generate -fcoverage-mapping \
        $sources $libs -o "$work/covered"
    LLVM_PROFILE_FILE=$work/raw "$work/covered" -runs=0 -verbosity=0 \
        "$work/corpus" "$work/manifests"
    "$prof" merge -o "$work/profile" "$work/raw"
    "$cov" report "$work/covered" -instr-profile="$work/profile" -show-functions=0 \
        -show-branch-summary io/checkpoint_manifest.c io/checkpoint_entry.c io/json.c
fi
