#!/usr/bin/env bash
# What ptxas says of every kernel: a table of registers and shared memory, and what it complains of.
#
#   tests/ptxas.sh FOLDER      a build's cuda/ folder, with kernels/*.ptxas.log in it
#
# Prints one row per kernel instance and architecture. Exits 1, naming the kernels, if one spills or
# has a stack frame, or if ptxas warns: of serialised wgmma (C75xx) above all, right and slow.
set -uo pipefail

logs=$(compgen -G "${1:-}/kernels/*.ptxas.log") || {
    echo "usage: tests/ptxas.sh BUILD/cuda, with kernels/*.ptxas.log in it" >&2
    exit 2
}
names() { if command -v c++filt >/dev/null; then c++filt; else cat; fi; }

for log in $logs; do
    echo "FILE $(basename "$log" .ptxas.log)"
    cat "$log"
done | names | awk '
function refuse(why) { refused = refused sprintf("%s.cu: %s\n", file, why) }
function found(pattern) { # the number that the match begins with, or follows a word
    if (!match($0, pattern)) return 0
    s = substr($0, RSTART, RLENGTH)
    gsub(/[^0-9]/, "", s)
    return s + 0
}
BEGIN { printf "%-16s %-7s %4s %7s  %s\n", "file", "arch", "regs", "shared", "kernel" }
$1 == "FILE" { file = $2; next }
/Compiling entry function/ {
    split($0, quoted, "\047")
    kernel = quoted[2]
    arch = quoted[4]
    sub(/^void /, "", kernel)
    sub(/\([^()]*\)$/, "", kernel)
    gsub(/__nv_bfloat16/, "bf16", kernel)
    gsub(/, /, ",", kernel)
    next
}
/bytes stack frame/ {
    frame = found("[0-9]+ bytes stack frame")
    spills = found("[0-9]+ bytes spill stores")
    if (spills > 0) refuse(arch " " kernel " spills " spills " bytes")
    else if (frame > 0) refuse(arch " " kernel " has a stack frame of " frame " bytes")
    next
}
/Used [0-9]+ registers/ {
    printf "%-16s %-7s %4d %7d  %s\n", file, arch, found("Used [0-9]+"),
        found("[0-9]+ bytes smem"), kernel
    kernels++
    next
}
/C75[0-9][0-9]|[Ww]arning|[Ee]rror/ { refuse($0) }
END {
    printf "%d kernel instances\n", kernels
    if (refused != "") printf "\nRefused:\n%s", refused
    exit kernels == 0 || refused != ""
}'
