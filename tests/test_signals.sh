#!/usr/bin/env bash
# A run that is asked to stop saves its state and says how it ended; resumed, it is as if it had not
# been stopped.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

can_trace || no_trace=1
needs_trace() {
    [ -z "${no_trace:-}" ] || { echo "strace is missing or may not trace here" && return 77; }
}

train llama llama
expected=$(digest llama)

resumes() { # RUN
    exits 0 train llama "$1" --resume auto
    same states "$expected" "$(digest "$1")"
    cmp "$scratch/llama/final/model.h5" "$scratch/$1/final/model.h5"
}

stops() { # SIGNAL STATUS
    needs_trace
    exits "$2" signalled "$1" "$(row_of 17 llama)" llama "$1"
    says "$scratch/$1.err" 'interrupted after step 17; state saved'
    says "$scratch/$1/metrics.jsonl" '"end":"interrupted after step 17'
    [ -e "$scratch/$1/report.html" ] && [ ! -e "$scratch/$1/final" ]
    [ "$(basename "$(readlink "$scratch/$1/checkpoints/last")")" = step-00000017 ]
    resumes "$1"
}
check stops INT 130
check stops TERM 75
check stops USR1 75

# The second interrupt does not wait for a save. Rows are written after the first one: the step's
# own, and those of the save, so that it cannot be over before the second arrives.
twice() {
    needs_trace
    local row
    row=$(row_of 17 llama)
    exits 130 signalled INT "$row..$((row + 1))" llama twice
    lacks "$scratch/twice/metrics.jsonl" 'state saved'
    resumes twice
}
check twice

traced() { # RUN OPTION_OF_STRACE... -- OPTION...
    local run=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    (
        ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o "$scratch/trace" "${options[@]}" \
            "$QUERN" train "$scratch/llama.json" --out "$scratch/$run" "${@:2}" \
            2>"$scratch/$run.err"
        exit $?
    ) 2>/dev/null
}

# In the middle of a save that the training loop makes itself: its 15th fsync is inside one.
during_a_save() { # SIGNAL STATUS
    needs_trace
    exits "$2" traced "saving.$1" -e trace=fsync -e "inject=fsync:signal=$1:when=15" -- \
        --set checkpoint.async=false
    lacks "$scratch/saving.$1/train.log" 'step 40/40'
    [ "$1" = KILL ] || says "$scratch/saving.$1.err" 'state saved'
    resumes "saving.$1"
}
check during_a_save INT 130
check during_a_save TERM 75
check during_a_save KILL 137

# While the writer is busy with step 9, which is made to take long.
while_saving() { # SIGNAL STATUS
    needs_trace
    local run=$scratch/busy.$1
    exits "$2" traced "busy.$1" -P "$run/metrics.jsonl" \
        -P "$run/checkpoints/step-00000009.tmp/model.h5" -e trace=write,fsync \
        -e inject=fsync:delay_enter=200000 \
        -e "inject=write:signal=$1:when=$(row_of 10 llama)" --
    if [ "$1" = KILL ]; then
        [ ! -e "$run/checkpoints/step-00000009" ]
    else
        says "$run.err" 'interrupted after step 10; state saved'
    fi
    resumes "busy.$1"
}
check while_saving INT 130
check while_saving TERM 75
check while_saving KILL 137

at_the_end() { # during the last step: there is nothing left to stop
    needs_trace
    exits 0 signalled INT "$(row_of 40 llama)" llama last
    same states "$expected" "$(digest last)"
    cmp "$scratch/llama/final/model.h5" "$scratch/last/final/model.h5"
}
check at_the_end

# A reader that goes away, or a terminal that hangs up its end of the pipe, ends no run.
closed_pipe() {
    "$QUERN" train "$scratch/llama.json" --out "$scratch/pipe" --set log.progress=plain 2>&1 |
        head -n 3 >/dev/null
    [ "${PIPESTATUS[0]}" -eq 0 ]
    same states "$expected" "$(digest pipe)"
}
check closed_pipe
finish
