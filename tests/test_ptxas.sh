#!/usr/bin/env bash
# What ptxas said of the kernels, in every build that has some; and that complaints are seen.
# The table of registers and shared memory is left in build/<preset>/ptxas.txt.
# shellcheck source=tests/check.sh
. "$(dirname "$0")/check.sh"

log() { # FRAME SPILLS LINE: a log of one kernel
    mkdir -p "$scratch/made/kernels"
    cat >"$scratch/made/kernels/one.ptxas.log" <<EOF
ptxas info    : Compiling entry function '_Z5k_oneIfEvPT_' for 'sm_90a'
ptxas info    : Function properties for _Z5k_oneIfEvPT_
    $1 bytes stack frame, $2 bytes spill stores, $2 bytes spill loads
ptxas info    : Used 42 registers, used 1 barriers, 1024 bytes smem, 384 bytes cmem[0]
$3
EOF
}
says() { # STATUS TEXT
    local status=0
    "$root/tests/ptxas.sh" "$scratch/made" >"$scratch/said" || status=$?
    [ "$status" -eq "$1" ] && grep -qE "$2" "$scratch/said" || {
        cat "$scratch/said"
        return 1
    }
}

prints_a_table() {
    log 0 0 ''
    says 0 '^one +sm_90a +42 +1024  .*k_one'
}
refuses_a_spill() {
    log 8 16 ''
    says 1 'k_one.* spills 16 bytes'
}
refuses_a_stack_frame() {
    log 32 0 ''
    says 1 'k_one.* has a stack frame of 32 bytes'
}
refuses_serialised_wgmma() {
    log 0 0 "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are"
    says 1 'C7510'
}
kernels_of() { # FOLDER
    "$root/tests/ptxas.sh" "$1/cuda" >"$1/ptxas.txt" || {
        sed -n '/^Refused/,$p' "$1/ptxas.txt"
        return 1
    }
    tail -n 1 "$1/ptxas.txt"
}
no_kernels() {
    echo "no build with CUDA kernels in build/"
    return 77
}

check prints_a_table
check refuses_a_spill
check refuses_a_stack_frame
check refuses_serialised_wgmma
builds=0
for folder in "$root"/build/*; do
    compgen -G "$folder/cuda/kernels/*.ptxas.log" >/dev/null || continue
    builds=$((builds + 1))
    check kernels_of "$folder"
done
[ $builds -gt 0 ] || check no_kernels
finish
