#!/usr/bin/env bash
# What a run takes is what `quern plan` says, plus one constant; and it does not grow.
#
# Runs alone: memory that other programs press out would not be counted.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

command -v python3 >/dev/null || {
    echo '[ RUN      ] memory'
    echo 'python3 is missing'
    echo '[  SKIPPED ] memory'
    exit 0
}

# Beside the plan: the program and its libraries (half of it), BLAS's packing buffers, HDF5's
# buffers, configuration, tapes and descriptors.
constant_mib=40

peak() { # COMMAND...: the most memory it had, in bytes; its standard error goes to $scratch/err
    python3 -c '
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ,
                        file_actions=[(os.POSIX_SPAWN_DUP2, log, 2)])
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss * 1024)
sys.exit(os.waitstatus_to_exitcode(status))' "$scratch/err" "$@"
}

for _ in 1 2 3 4 5 6 7 8; do cat "$scratch/corpus.txt"; done >"$scratch/longer.txt"

peak_is_plan() { # NAME MODEL [OPTION...]
    cat >"$scratch/$1.json" <<END
{
  "model": $2,
  "data": {"type": "text", "path": "longer.txt", "block_size": 128},
  "train": {"max_steps": 2, "batch_size": 16, "clip_norm": 1},
  "eval": {"every": 1, "batches": 1, "batch_size": 16},
  "early_stopping": {"patience": 9},
  "checkpoint": {"every": 1},
  "log": {"every": 1, "progress": "none"},
  "threads": 2
}
END
    local plan used
    plan=$("$QUERN" plan "$scratch/$1.json" "${@:3}" --json | jq .total_bytes)
    used=$(peak "$QUERN" train "$scratch/$1.json" --out "$scratch/$1" "${@:3}")
    rm -rf "${scratch:?}/$1"
    awk -v name="$1" -v plan="$plan" -v used="$used" -v constant=$constant_mib 'BEGIN {
        mib = 1048576
        off = used / (plan + constant * mib) - 1
        printf "%s: peak %.1f MiB = plan %.1f MiB + %d MiB %+.2f %%\n", name, used / mib,
            plan / mib, constant, 100 * off
        exit !(off > -0.02 && off < 0.02)
    }'
}
gpt2_f32() {
    peak_is_plan gpt2.f32 \
        '{"type": "gpt2", "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}'
}
llama_bf16() {
    peak_is_plan llama.bf16 \
        '{"type": "llama", "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}' \
        --set precision=bf16 --set train.batch_size=24
}
gpt2_recompute() {
    peak_is_plan gpt2.recompute \
        '{"type": "gpt2", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6}' \
        --set 'train.recompute=blocks.*' --set train.accumulate=2 --set model.dropout=0.1
}
check gpt2_f32
check llama_bf16
check gpt2_recompute

# 1,000 steps with evaluations, rows and saves: from step 200 on at most 1 MiB more, and no
# descriptor that was not there.
flat() {
    mkfifo "$scratch/pipe"
    "$QUERN" train "$scratch/gpt2.json" --out "$scratch/flat" --set log.progress=plain \
        --set train.max_steps=1200 --set early_stopping.patience=1000 --set log.every=10 \
        --set checkpoint.every=10 2>"$scratch/pipe" &
    local pid=$! line kib=() open=()
    while read -r line; do
        case $line in
        *' step 200/'* | *' step 600/'* | *' step 1000/'*)
            kib+=("$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status")")
            open+=("$(find "/proc/$pid/fd" -mindepth 1 -printf '%f %l\n' |
                grep -c -v '/checkpoints')")
            ;;
        esac
    done <"$scratch/pipe"
    wait $pid
    echo "KiB at steps 200, 600, 1000: ${kib[*]}; open files: ${open[*]}"
    [ ${#kib[@]} -eq 3 ]
    [ $((kib[1] - kib[0])) -le 1024 ] && [ $((kib[2] - kib[0])) -le 1024 ]
    [ "${open[0]}" -eq "${open[1]}" ] && [ "${open[0]}" -eq "${open[2]}" ]
}
check flat
finish
