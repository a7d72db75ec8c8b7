#!/usr/bin/env bash
# A loss that is not finite never reaches the weights: the run ends and says where it began, skips
# the step, or goes back to its last checkpoint.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

# The first update throws the weights so far away that the second step overflows.
overflow=(--set optimizer.lr=1e30 --set train.clip_norm=0 --set scheduler.warmup_steps=0
    --set early_stopping.enabled=false)
where='step 2 was not applied.*: blocks.0.*linear:y element'

finite() { # RUN: every number in its newest checkpoint
    "$QUERN" inspect "$scratch/$1" --json >"$scratch/inspect.json"
    jq -e '[.. | objects | .nonfinite? // 0] | add == 0' "$scratch/inspect.json"
    [ "$(jq '[.. | objects | select(has("nonfinite"))] | length' "$scratch/inspect.json")" -gt 10 ]
}

stops() {
    exits 5 train gpt2 stop "${overflow[@]}" --set checkpoint.every=1 --set checkpoint.async=false
    grep -q "^quern: $where" "$scratch/stop.err"
    grep -q "\"note\":\"$where" "$scratch/stop/metrics.jsonl"
    [ "$(rows train/loss stop | wc -l)" -eq 1 ]
    [ "$(basename "$(readlink "$scratch/stop/checkpoints/last")")" = step-00000001 ]
    [ ! -e "$scratch/stop/final" ]
    says "$scratch/stop/metrics.jsonl" '"summary/exit_code":5'
    ! grep -rn -e -nan "$scratch/stop.err" "$scratch/stop"/*.{log,jsonl}
    finite stop
}
check stops

skips() { # so many steps in a row, and no more
    exits 5 train gpt2 skip "${overflow[@]}" --set train.on_nonfinite=skip --set train.max_skips=4
    [ "$(grep -c "\"note\":\"step [2-6] was not applied" "$scratch/skip/metrics.jsonl")" -eq 5 ]
    says "$scratch/skip/metrics.jsonl" '"summary/skipped_steps":4'
    finite skip
}
check skips

rolls_back() {
    exits 5 train gpt2 back "${overflow[@]}" --set train.on_nonfinite=rollback \
        --set train.max_skips=4 --set checkpoint.every=1
    [ "$(grep -c 'rolled back to step 1, passing over' "$scratch/back/metrics.jsonl")" -eq 4 ]
    finite back
    exits 5 train gpt2 nowhere "${overflow[@]}" --set train.on_nonfinite=rollback
    says "$scratch/nowhere.err" 'no checkpoint was saved yet'
}
check rolls_back

# Losses that only vary with the batch: some lie far enough above the recent mean for a spike.
spikes=(--set optimizer.lr=1e-9 --set scheduler.type=constant --set train.spike_threshold=1
    --set train.spike_window=12 --set train.max_skips=100 --set checkpoint.every=1)

goes_on() { # POLICY: and to the same state when killed on the way
    local run=spike.$1 refused
    train gpt2 "$run" "${spikes[@]}" --set train.on_nonfinite="$1"
    refused=$(grep -c 'was not applied.*is a spike' "$scratch/$run/metrics.jsonl")
    echo "$refused steps were refused"
    [ "$refused" -ge 2 ]
    says "$scratch/$run/metrics.jsonl" "\"summary/skipped_steps\":$refused"
    finite "$run"
    can_trace || return 0
    for row in 40 70 90; do
        rm -rf "$scratch/killed"
        exits 137 signalled KILL $row gpt2 killed "${spikes[@]}" --set train.on_nonfinite="$1"
        exits 0 train gpt2 killed --resume auto "${spikes[@]}" --set train.on_nonfinite="$1"
        same states "$(digest "$run")" "$(digest killed)"
    done
}
check goes_on skip
check goes_on rollback
finish
