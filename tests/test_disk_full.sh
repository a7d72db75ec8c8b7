#!/usr/bin/env bash
# A file that may not grow and a disk without room: training goes on without the output, or ends
# with a clear error; the checkpoints that were there before load.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

train llama llama
expected=$(digest llama)

# A run that has reached step 10 goes on under the limit; afterwards, with room again, it ends where
# it would have.
goes_on() { # RUN COMMAND...: COMMAND is followed by quern's arguments
    local status=0 before
    train llama "$1" --set train.max_steps=10 --set scheduler.decay_steps=40
    before=$(digest "$1")
    "${@:2}" train "$scratch/llama.json" --out "$scratch/$1" --resume auto \
        --set scheduler.decay_steps=40 2>"$scratch/$1.err" || status=$?
    case $status in
    0) ;;
    1) grep -q '^quern: ' "$scratch/$1.err" ;;
    *) echo "exit status $status" && tail -n 5 "$scratch/$1.err" && return 1 ;;
    esac
    echo "$status: $(tail -n 1 "$scratch/$1.err")"
    "$QUERN" inspect "$scratch/$1/checkpoints/step-00000010" --digest | grep -qx "$before" || {
        # superseded by newer ones, which is right only if they are good
        [ ! -e "$scratch/$1/checkpoints/step-00000010" ]
    }
    digest "$1"
}

recovers() { # RUN
    exits 0 train llama "$1" --resume auto --set scheduler.decay_steps=40
    same states "$expected" "$(digest "$1")"
    cmp "$scratch/llama/final/model.h5" "$scratch/$1/final/model.h5"
}

limited() { # KIB QUERN_ARGUMENT...: no file may grow beyond so many KiB
    (
        ulimit -f "$1"
        exec "$QUERN" "${@:2}"
    )
}

file_size() { # KIB
    rm -rf "$scratch/small"
    goes_on small limited "$1"
    recovers small
}
# The configuration alone takes 2; the logs want 14 and 6, the model 138, the state 407.
for kib in 1 4 8 16 60 150 300; do check file_size $kib; done

logs_told() { # what was dropped is told once, and the rows that are there are whole
    rm -rf "$scratch/small"
    goes_on small limited 4
    [ "$(grep -c 'rows are being dropped' "$scratch/small.err")" -ge 1 ]
    jq -c . "$scratch/small/metrics.jsonl" >/dev/null
}
check logs_told

begins() { # with no room for anything from the first step on
    exits 1 limited 20 train "$scratch/llama.json" --out "$scratch/begins" 2>"$scratch/begins.err"
    says "$scratch/begins.err" 'could not be saved'
    exits 0 train llama begins --resume auto
    same states "$expected" "$(digest begins)"
}
check begins

# A file system of that many KiB, which the logs and the checkpoints of one run have to share.
small_disk() { # KIB
    local disk=$scratch/disk.$1
    mkdir "$disk"
    mount -t tmpfs -o "size=$1k" tmpfs "$disk" 2>/dev/null || {
        echo "only root may mount a small file system"
        return 77
    }
    local status=0
    (
        set -e
        mkdir "$disk/run"
        ln -s "disk.$1/run" "$scratch/on.$1"
        "$QUERN" train "$scratch/llama.json" --out "$disk/run" 2>"$scratch/disk.err" || {
            status=$?
            [ $status -eq 1 ] && grep -q '^quern: ' "$scratch/disk.err"
        }
        echo "$status: $(tail -n 1 "$scratch/disk.err")"
        grep -qE 'could not be saved|rows are being dropped|No space' "$scratch/disk.err"
        [ ! -e "$disk/run/checkpoints/last" ] || digest "on.$1"
        mount -o remount,size=64m "$disk"
        exits 0 "$QUERN" train "$scratch/llama.json" --out "$disk/run" --resume auto 2>/dev/null
        same states "$expected" "$(digest "on.$1")"
    ) || status=1
    umount "$disk"
    return $status
}
for kib in 12 64 400 900 1500; do check small_disk $kib; done
finish
