#!/usr/bin/env bash
# What a real GPU can tell, in calls of under ten minutes: is it right, how fast, beside PyTorch.
#
#   bench/gpu_run.sh PHASE OUT [PREBUILT] [--tiny]
#
#   A  facts of the device; its limits; every kernel's tests; kernel tables against PyTorch; 20
#      steps of GPT-2 124M against PyTorch; each op against the limits; compute-sanitizer
#   B  every tile of the products on training's shapes, and the ops that multiply once more
#   C  GPT-2 124M from end to end: losses, tokens/s against eager and compiled PyTorch
#
# PREBUILT (default build/gpu) holds quern_gpu and libquern_gpu.so as bench/gpu_build.sh makes them;
# if they do not start here, they are built here. Without PyTorch its parts are skipped with a line.
# --tiny tries everything out, with shapes for the emulated device, and with patience.
# OUT/results.jsonl has one record a line, OUT/logs what each step said, OUT/summary.txt at most 200
# lines, which are printed last.
#
# Every step is a process of its own with a time limit; the most valuable come first, and none stops
# those behind it. QUERN_GPU_SECONDS: time for the whole call (540). QUERN_GPU_SUITES: test programs
# (all). QUERN_GPU_DEVICE: "cuda". Exits 1 if a test failed or a step did.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tiny=() positional=()
for argument; do
    if [ "$argument" = --tiny ]; then tiny=(--tiny); else positional+=("$argument"); fi
done
phase=${positional[0]:-} out=${positional[1]:-} prebuilt=${positional[2]:-$root/build/gpu}
case $phase in A | B | C) ;; *) out= ;; esac
[ -n "$out" ] || {
    echo "usage: bench/gpu_run.sh A|B|C OUT [PREBUILT] [--tiny]" >&2
    exit 2
}
mkdir -p "$out/logs"
out=$(cd "$out" && pwd)
cd "$root" || exit 2

patience=1 # an emulated device, on a machine that does other things too, may take its time
[ ${#tiny[@]} -eq 0 ] || patience=20
deadline=$((SECONDS + patience * ${QUERN_GPU_SECONDS:-540}))
device=${QUERN_GPU_DEVICE:-cuda}
results=$out/results.jsonl
notes=$out/logs/notes.txt
: >"$results"
: >"$notes"
failures=0

note() { printf '%s\n' "$*" | tee -a "$notes" >&2; }

# Runs a command, at most LIMIT seconds and to the deadline; JSON lines go to the results.
step() { # NAME LIMIT COMMAND...
    local name=$1 limit=$(($2 * patience))
    local left=$((deadline - SECONDS)) start=$SECONDS status log=$out/logs/$1
    shift 2
    [ $left -ge 5 ] || {
        note "skipped  $name: no time left"
        return 0
    }
    [ "$limit" -le $left ] || limit=$left
    timeout -k 5 "$limit" "$@" >"$log.out" 2>"$log.err" </dev/null
    status=$?
    sed -n "s/^{/{\"phase\":\"$phase\",\"step\":\"$name\",/p" "$log.out" >>"$results"
    case $status in
    0) note "ok       $name, $((SECONDS - start)) s" ;;
    124 | 137) note "timeout  $name, $limit s" ;;
    *) note "FAILED   $name, exit status $status: $(tail -n 1 "$log.err" | cut -c1-160)" ;;
    esac
    [ $status -eq 0 ] || failures=$((failures + 1))
}

clocks() { # WHEN: clocks tell whether two tables can be compared
    command -v nvidia-smi >/dev/null || return 0
    local now
    now=$(nvidia-smi --query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu \
        --format=csv,noheader,nounits 2>/dev/null | head -n 1) || return 0
    note "clocks   $1: SM, memory MHz, W, C: $now"
    printf '{"phase":"%s","step":"clocks","when":"%s","clocks":"%s"}\n' "$phase" "$1" "$now" \
        >>"$results"
}

# ---- what there is ---------------------------------------------------------------------------

program=$prebuilt/quern_gpu
if ! "$program" suites >/dev/null 2>&1; then
    note "building: $program does not start"
    mkdir -p "$out/built/include"
    cp "$prebuilt/include/xxhash.h" "$out/built/include/" 2>/dev/null
    step build 300 bench/gpu_build.sh "$out/built"
    prebuilt=$out/built
    program=$prebuilt/quern_gpu
fi
library=$prebuilt/libquern_gpu.so
python=${PYTHON:-python3}
torch=no
if [ ! -f "$library" ]; then
    note "skipped  everything against PyTorch: there is no $(basename "$library")"
elif "$python" -c 'import torch' 2>/dev/null; then
    torch=yes
else
    note "skipped  everything against PyTorch: $python has no torch"
fi

beside_torch() { # WHAT LIMIT [OPTION...]
    [ $torch = yes ] || return 0
    step "torch-$1" "$2" "$python" bench/gpu_torch.py "$library" "$1" --device "$device" \
        ${tiny[@]+"${tiny[@]}"} "${@:3}"
}
measure() { # NAME LIMIT VERB [PATTERN...]
    step "$1" "$2" "$program" "$3" --device "$device" ${limits:+--limits "$limits"} \
        ${tiny[@]+"${tiny[@]}"} "${@:4}"
}

# ---- phases ----------------------------------------------------------------------------------

facts() {
    command -v nvidia-smi >/dev/null && step nvidia-smi 20 nvidia-smi -q
    step facts 60 "$program" facts --device "$device"
    sed 's/^/         /' "$out/logs/facts.out" | tee -a "$notes" >&2
    limits=
    measure limits 60 limits
    limits=$(grep -E '^[0-9.e+]+,[0-9.e+]+,[0-9.e+]+$' "$out/logs/limits.out" | tail -n 1)
    note "         bytes/s, f32 and bf16 flops/s: ${limits:-unknown}"
}

tests() {
    local suite
    for suite in ${QUERN_GPU_SUITES:-$("$program" suites)}; do
        step "$suite" 60 "$program" test "$suite"
        sed -n 's/^\[  FAILED  \]/         failed test:/p; s/^\[  ERROR   \] ---/         /p' \
            "$out/logs/$suite.out" | head -n 6 | cut -c1-200 | tee -a "$notes" >&2
    done
}

sanitizer() {
    command -v compute-sanitizer >/dev/null || {
        note "skipped  compute-sanitizer: not found"
        return 0
    }
    local tool
    for tool in memcheck racecheck; do
        step "$tool" 60 compute-sanitizer --tool $tool --error-exitcode 9 "$program" bench \
            --device "$device" --limits 1,1,1 --tiny
    done
}

phase_a() {
    facts
    tests
    clocks before
    beside_torch products 90
    beside_torch attention 60
    beside_torch rows 45
    beside_torch update 30
    beside_torch losses 90
    local op
    for op in $("$program" ops ${tiny[@]+"${tiny[@]}"}); do measure "bench-$op" 30 bench "$op"; done
    clocks after
    sanitizer
}

phase_b() {
    facts
    clocks before
    measure tune 240 tune
    for op in linear linear_bwd_input linear_bwd_weight; do
        measure "bench-$op" 60 bench "$op"
    done
    clocks after
}

phase_c() {
    facts
    beside_torch losses 120
    clocks before
    beside_torch speed 200
    clocks after
    [ $torch = no ] || [ ${#tiny[@]} -gt 0 ] ||
        step torch-speed-compiled 200 "$python" bench/gpu_torch.py "$library" speed \
            --device "$device" --compile
}

# ---- the end ---------------------------------------------------------------------------------

table() { # one line a record, the columns that every kind of record may have
    awk '
function get(key,    s) {
    if (!match($0, "\"" key "\": ?(\"[^\"]*\"|[^,}\"]*)")) return "-"
    s = substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
    gsub(/^ |"/, "", s)
    return s == "null" ? "-" : s
}
BEGIN {
    printf "%-20s %-26s %-14s %11s %9s %9s %8s %9s %7s\n", "kernel", "shape", "against",
        "median us", "TFLOP/s", "GB/s", "of limit", "error", "ratio"
}
get("kernel") == "-" { next }
get("kernel") == "gpt2 losses" {
    printf "%s %s: largest gap in %s steps %s\n", get("kernel"), get("dtype"), get("steps"),
        get("largest_gap")
    next
}
get("kernel") == "gpt2 training" {
    others = $0
    sub(/.*"others": /, "", others)
    sub(/}.*/, "}", others)
    printf "%s %s: tokens/s %s, ratio to the best %s\n", get("kernel"), get("shape"), others,
        get("ratio")
    next
}
{
    against = get("reference")
    if (get("config") != "-") against = get("config") (get("taken") == "true" ? " *" : "")
    printf "%-20.20s %-26.26s %-14.14s %11s %9s %9s %8s %9s %7s\n", get("kernel"), get("shape"),
        against, get("median_us"), get("tflops"), get("gbps"), get("fraction"), get("error"),
        get("ratio")
}' "$results"
}

case $phase in A) phase_a ;; B) phase_b ;; C) phase_c ;; esac
{
    revision=$(git rev-parse --short HEAD 2>/dev/null || echo 'no revision')
    echo "phase $phase, $revision, $failures steps failed"
    cat "$notes"
    echo
    table
} >"$out/summary.all"
head -n 200 "$out/summary.all" >"$out/summary.txt"
rm "$out/summary.all"
cat "$out/summary.txt"
[ $failures -eq 0 ]
