#!/usr/bin/env bash
# A run that is killed at any step and resumed ends with the same bits as one that is not.
#
# Each of 40 steps is killed once, in one of two models. QUERN_RESUME_FULL=1 kills both models at
# every row of their log.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

reference() { # MODEL
    train "$1" "$1" --resume
    [ "$(rows train/loss "$1" | wc -l)" -eq 40 ]
    [ "$(rows eval/loss "$1" | wc -l)" -eq 8 ]
}
check reference gpt2
check reference llama

# The run REFERENCE once more as RUN: state, model, logs.
equals() { # REFERENCE RUN
    same states "$(digest "$1")" "$(digest "$2")"
    cmp "$scratch/$1/final/model.h5" "$scratch/$2/final/model.h5"
    for key in train/loss train/grad_norm train/learning_rate eval/loss; do
        same "rows of $key" "$(rows $key "$1")" "$(rows $key "$2")"
    done
}

events() { "$root/tests/event_steps.py" "$scratch/$1/tb" | grep -E ' (train|eval)/' | sort; } # RUN

same_events() { # REFERENCE RUN
    command -v python3 >/dev/null || return 0
    same "event steps" "$(events "$1")" "$(events "$2")"
}

kill_and_resume() { # MODEL ROW
    rm -rf "$scratch/killed"
    exits 137 signalled KILL "$2" "$1" killed
    echo "killed at row $2: $(tail -n 1 "$scratch/killed/metrics.jsonl" | cut -c 1-60)"
    exits 0 train "$1" killed --resume auto
    equals "$1" killed
    same_events "$1" killed
}

every_step() { # MODEL PARITY
    can_trace || { echo "strace is missing or may not trace here" && return 77; }
    local step
    for ((step = 1 + $2; step <= 40; step += 2)); do
        kill_and_resume "$1" "$(row_of $step "$1")"
    done
}

every_row() { # MODEL
    local row n
    n=$(row_of 40 "$1")
    for ((row = 1; row <= n; row++)); do kill_and_resume "$1" $row; done
}

if [ -n "${QUERN_RESUME_FULL:-}" ]; then
    check every_row gpt2
    check every_row llama
else
    check every_step gpt2 0
    check every_step llama 1
fi

# Killed three times on the way, once while it was resuming.
again_and_again() {
    can_trace || { echo "strace is missing or may not trace here" && return 77; }
    exits 137 signalled KILL "$(row_of 11 llama)" llama again
    exits 137 signalled KILL 3 llama again --resume auto
    exits 137 signalled KILL 25 llama again --resume auto
    exits 0 train llama again --resume auto
    equals llama again
}
check again_and_again

thread_count() { # MODEL
    train "$1" "$1.threads" --set threads=2
    equals "$1" "$1.threads"
}
check thread_count gpt2
check thread_count llama

# Without snapshots, prefetching and recomputation the arithmetic is the same.
other_ways() {
    train llama plain --set checkpoint.async=false --set data.prefetch=0 --set 'train.recompute=[]'
    equals llama plain
}
check other_ways

longer() { # a run that has ended goes on when there is more to do, and only then
    train llama short --set train.max_steps=20 --set scheduler.decay_steps=40
    exits 0 train llama short --resume auto --set scheduler.decay_steps=40
    says "$scratch/short.err" 'train.max_steps: 20 -> 40'
    equals llama short
    exits 0 train llama short --resume auto --set scheduler.decay_steps=40
    equals llama short
}
check longer

stopped_early() { # it stays stopped, and the model is the best one
    train gpt2 stops --set early_stopping.patience=3
    says "$scratch/stops/train.log" 'at step 5'
    [ "$(rows train/loss stops | tail -n 1 | cut -d' ' -f1)" -eq 20 ]
    [ "$(basename "$(readlink "$scratch/stops/checkpoints/last")")" = step-00000020 ]
    cp "$scratch/stops/final/model.h5" "$scratch/best.h5"
    exits 0 train gpt2 stops --resume auto --set early_stopping.patience=3
    cmp "$scratch/best.h5" "$scratch/stops/final/model.h5"
    [ "$(rows train/loss stops | wc -l)" -eq 20 ]
}
check stopped_early

damaged() { # HOW: the newest checkpoint cannot be trusted; the one before can
    local newest=$scratch/damaged/checkpoints/step-00000012
    rm -rf "$scratch/damaged"
    train llama damaged --set train.max_steps=12 --set scheduler.decay_steps=40
    case $1 in
    flipped)
        printf '\x55' | dd of="$newest/state.h5" bs=1 seek=3000 conv=notrunc status=none
        ;;
    truncated) truncate -s 1000 "$newest/model.h5" ;;
    missing) rm "$newest/state.h5" ;;
    manifest) echo '{}' >"$newest/manifest.json" ;;
    esac
    exits 0 train llama damaged --resume auto --set scheduler.decay_steps=40
    says "$scratch/damaged/train.log" step-00000012
    says "$scratch/damaged/metrics.jsonl" 'resumed at step 9'
    says "$scratch/damaged/metrics.jsonl" 'step-00000012/'
    equals llama damaged
}
for how in flipped truncated missing manifest; do check damaged $how; done

all_damaged() { # nothing is lost without being asked
    train llama hopeless --set train.max_steps=6
    truncate -s 1000 "$scratch"/hopeless/checkpoints/step-*/model.h5
    local before status=0
    before=$(cd "$scratch/hopeless" && find . | sort)
    train llama hopeless --resume auto || status=$?
    [ $status -ne 0 ]
    same listings "$before" "$(cd "$scratch/hopeless" && find . | sort)"
}
check all_damaged

refused() { # WHAT OPTION...: another model, data or seed is another run
    local state
    state=$(digest llama)
    exits 2 train llama llama --resume auto "${@:2}"
    says "$scratch/llama.err" "$1"
    same states "$state" "$(digest llama)"
}
check refused model.hidden_size --set model.hidden_size=64
check refused run.seed --set run.seed=5
check refused precision --set precision=bf16
sed 's/dog/DOG/' "$scratch/corpus.txt" >"$scratch/other.txt"
check refused data --set data.path="$scratch/other.txt"
refused_together() {
    refused model.hidden_size --set model.hidden_size=64 --set run.seed=5
    says "$scratch/llama.err" run.seed
}
check refused_together

allowed() { # what may change is told, old value and new
    train llama changed --set train.max_steps=10
    exits 0 train llama changed --resume auto --set train.max_steps=12 --set optimizer.lr=1e-3
    says "$scratch/changed/metrics.jsonl" 'optimizer.lr: 0.003 -> 0.001'
    says "$scratch/changed/train.log" 'train.max_steps: 10 -> 12'
}
check allowed

starts_fresh() { # --resume auto with nothing to resume
    exits 0 train llama fresh --resume auto
    says "$scratch/fresh/train.log" 'starting from step 0'
    equals llama fresh
}
check starts_fresh

finds_newest() { # without --out: the newest run of that name
    local runs=$scratch/found
    "$QUERN" train "$scratch/llama.json" --set run.dir="$runs" --set train.max_steps=10 2>/dev/null
    "$QUERN" train "$scratch/llama.json" --set run.dir="$runs" --resume auto 2>/dev/null
    [ "$(find "$runs" -mindepth 1 -maxdepth 1 | wc -l)" -eq 1 ]
    ls -d "$runs"/*/checkpoints/step-00000040
}
check finds_newest
finish
