#!/usr/bin/env bash
# Installs, builds and tests everything; the last line is `N passed, N failed, N skipped`.
#
#   ./test.sh          lint, and the tests in release, under ASan + UBSan, under TSan, and of the
#                      CUDA side on the emulated GPU
#   ./test.sh quick    lint and the release tests
#
# Logs lie in build/test-results. Exits non-zero if anything failed.
set -uo pipefail
cd "$(dirname "$0")" || exit 1

mode=${1:-full}
case $mode in full | quick) ;; *)
    echo "usage: ./test.sh [quick]" >&2
    exit 2
    ;;
esac

# What runs under ThreadSanitizer: whatever starts threads of its own, and a short training run.
tsan_tests=(test_parallel test_data_prefetch test_checkpoint test_session test_train)

# Scripts that look at the emulated build: they run behind it.
gpu_scripts=(tests/test_gpu_run.sh tests/test_ptxas.sh)

tests/packages.sh test || exit

results=build/test-results
rm -rf "$results"
mkdir -p "$results"

# One step that is not a test program: passes or fails as a whole.
step() { # NAME COMMAND...
    local name=$1 log="$results/$1.log" start=$SECONDS
    shift
    if "$@" >"$log" 2>&1; then
        printf 'passed\t%s\t\n' "$name" >"$results/$name.tsv"
        printf '%-36s ok %43d s\n' "$name" $((SECONDS - start))
        return 0
    fi
    printf 'failed\t%s\t%s\n' "$name" "$(tail -n 1 "$log")" >"$results/$name.tsv"
    echo "$name FAILED; the end of $log:"
    tail -n 40 "$log"
    return 1
}

built() { # FOLDER TARGET: whether it can be; after a failed build an older one may be there
    cmake --build "build/$1" --target "$2" >/dev/null 2>&1
}

programs() { # FOLDER: of one test program per tests/test_*.c, those that were built
    local source name
    for source in tests/test_*.c; do
        name=$(basename "$source" .c)
        if built "$1" "$name"; then echo "build/$1/tests/$name"; fi
    done
}

run() { # LABEL PROGRAM...
    tests/run.sh run "$1" "$results" "${@:2}"
}

# Every thread of a run at once: arithmetic, background loading, asynchronous checkpoints.
train_under_tsan() {
    build/tsan/quern train configs/quickstart.json --out "$results/tsan-run" --overwrite \
        --set train.max_steps=6 --set train.batch_size=4 --set model.hidden_size=32 \
        --set model.num_hidden_layers=2 --set data.block_size=32 \
        --set eval.every=3 --set eval.batches=2 --set checkpoint.every=2
}

export ASAN_OPTIONS=detect_leaks=1:halt_on_error=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1

step lint tests/lint.sh
step build-release tests/preset.sh ci # a failure is one, and the rest runs
mapfile -t list < <(programs release)
run release ${list[@]+"${list[@]}"}
if built release quern; then
    mapfile -t list < <(compgen -G 'tests/test_*.sh' |
        grep -vxF "$(printf '%s\n' "${gpu_scripts[@]}")")
    QUERN_BINARY=$PWD/build/release/quern run script "${list[@]}"
fi
if [ "$mode" = full ]; then
    step build-dev tests/preset.sh dev
    mapfile -t list < <(programs dev)
    run dev ${list[@]+"${list[@]}"}
    if step build-tsan tests/preset.sh tsan quern "${tsan_tests[@]}"; then
        run tsan "${tsan_tests[@]/#/build/tsan/tests/}"
        step train-tsan train_under_tsan
    fi
fi
# The CUDA side: the emulator's own tests, then every op on each device profile with the checker on.
emulated() {
    local name list=() ops=()
    for name in tests/test_emu_*.c tests/test_cuda_*.c; do
        list+=("build/emu/${name%.c}")
    done
    list+=(build/emu/tests/test_hf_families build/emu/tests/test_lora)
    for name in tests/test_op_*.c; do ops+=("build/emu/${name%.c}"); done
    run emu "${list[@]}" "${gpu_scripts[@]}"
    QUERN_EMU=streams=random,seed=1 run emu-streams build/emu/tests/test_cuda_device
    QUERN_EMU=device=8.0,watch=check run emu-8.0 "${ops[@]}" build/emu/tests/test_heads
    QUERN_EMU=device=8.9,watch=check run emu-8.9 "${ops[@]}"
    QUERN_EMU=device=9.0,watch=check,guard=1 run emu-9.0 "${ops[@]}"
    QUERN_EMU=device=9.0,watch=check QUERN_BINARY=$PWD/build/emu/quern \
        run emu-finetune tests/test_finetune.sh
}

if [ "$mode" != full ]; then
    :
elif PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin command -v nvcc >/dev/null; then
    if step build-emu tests/preset.sh emu; then emulated; fi
else
    printf 'skipped\temulated GPU\tnvcc is not installed\n' >"$results/emulated.tsv"
fi
tests/run.sh total "$results"
