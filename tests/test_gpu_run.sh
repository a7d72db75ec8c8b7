#!/usr/bin/env bash
# bench/gpu_run.sh without a GPU: all phases with tiny shapes on the emulated device (quern_gpu of
# the emu preset), what is written, and that one failure stops nothing behind it.
# shellcheck source=tests/check.sh
. "$(dirname "$0")/check.sh"

prebuilt=${QUERN_GPU_FOLDER:-$root/build/emu}
export QUERN_GPU_SUITES='test_op_softmax test_op_rope'
if [ ! -x "$prebuilt/quern_gpu" ]; then
    no_program() {
        echo "no quern_gpu in build/emu (cmake --build build/emu --target quern_gpu)"
        return 77
    }
    check no_program
    finish
fi

run() { # PHASE STATUS
    local status=0
    "$root/bench/gpu_run.sh" "$1" "$scratch/$1" "$prebuilt" --tiny >"$scratch/$1.out" 2>&1 ||
        status=$?
    [ "$status" -eq "$2" ] || {
        cat "$scratch/$1.out"
        return 1
    }
    [ "$(wc -l <"$scratch/$1/summary.txt")" -le 200 ]
    # The summary is what is printed last.
    local summary=$scratch/$1/summary.txt results=$scratch/$1/results.jsonl
    diff <(tail -n "$(wc -l <"$summary")" "$scratch/$1.out") "$summary"
    [ "$(jq -s length "$results")" -eq "$(wc -l <"$results")" ]
}
phase_a() {
    run A 0
    grep -q '^ok       test_op_softmax' "$scratch/A/summary.txt"
    # Each op was measured, and is right.
    jq -es 'map(select(.step | startswith("bench-"))) | length >= 30 and all(.median_us > 0)
        and all(.error != null and .error < 0.01)' "$scratch/A/results.jsonl" >/dev/null
    grep -qE '^attention_bwd ' "$scratch/A/summary.txt"
}
phase_b() {
    run B 0
    jq -es 'map(select(.step == "tune")) | length >= 3 and any(.taken) and all(.median_us > 0)' \
        "$scratch/B/results.jsonl" >/dev/null
}
phase_c() {
    run C 0
    grep -qE 'PyTorch' "$scratch/C/summary.txt"
}
survives_a_failure() {
    mkdir -p "$scratch/bad"
    cat >"$scratch/bad/quern_gpu" <<EOF
#!/bin/sh
case "\$*" in
*test_op_softmax*) echo "[  ERROR   ] --- wrong"; echo "[  FAILED  ] sizes"; kill -SEGV \$\$ ;;
*) exec "$prebuilt/quern_gpu" "\$@" ;;
esac
EOF
    chmod +x "$scratch/bad/quern_gpu"
    local status=0
    "$root/bench/gpu_run.sh" A "$scratch/f" "$scratch/bad" --tiny >"$scratch/f.out" 2>&1 ||
        status=$?
    [ $status -eq 1 ] || cat "$scratch/f.out"
    grep -q '^FAILED   test_op_softmax' "$scratch/f/summary.txt"
    grep -q 'failed test: sizes' "$scratch/f/summary.txt"
    grep -q '^ok       test_op_rope' "$scratch/f/summary.txt"
    grep -q '^ok       bench-layernorm' "$scratch/f/summary.txt"
}
check phase_a
check phase_b
check phase_c
check survives_a_failure
suites_exist() { # each name in the list is a test program
    local name
    for name in $("$prebuilt/quern_gpu" suites); do [ -f "$root/tests/$name.c" ]; done
    [ "$("$prebuilt/quern_gpu" suites | wc -l)" -ge 14 ]
}
check suites_exist
finish
