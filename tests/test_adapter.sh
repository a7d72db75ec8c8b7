#!/usr/bin/env bash
# A model fine-tuned with an adapter: what its checkpoints hold, resuming, exporting, merging, and
# models and adapters that do not belong together.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

train llama base
"$QUERN" export "$scratch/base" --out "$scratch/model" >/dev/null 2>&1

# adapted NAME ADAPTER [MODEL]
adapted() {
    cat >"$scratch/$1.json" <<END
{
  "model": {"pretrained": "./${3:-model}", "dropout": 0.1},
  "adapter": {"type": "lora", $2},
  "data": {"type": "text", "path": "corpus.txt", "block_size": 32, "vocabulary": "char"},
  "train": {"max_steps": 12, "batch_size": 4, "accumulate": 2, "recompute": ["blocks.*"]},
  "optimizer": {"lr": 1e-2},
  "eval": {"every": 6, "batches": 4},
  "checkpoint": {"every": 4},
  "log": {"every": 1, "progress": "none"},
  "threads": 1
}
END
}
adapted tuned '"r": 4, "targets": ["q_proj", "v_proj"], "dropout": 0.1'
adapted dora '"r": 2, "use_dora": true, "modules_to_save": "norm"'
sha256sum "$scratch"/model/* >"$scratch/model.sums"
train tuned tuned
train dora dora

loss_of() { # ARGUMENT...: of the validation data
    "$QUERN" eval "$@" --json 2>/dev/null | sed 's/.*"eval\/loss":\([0-9.]*\).*/\1/'
}

near() { # A B: to four decimals, whatever the last is rounded to
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 < 1e-8) }' && return
    echo "$1 is not $2"
    return 1
}

learns() { # both fall below the model they start from, which nobody touches
    local before
    sed 's/"adapter": {.*},/"adapter": {},/' "$scratch/tuned.json" >"$scratch/plain.json"
    before=$(loss_of "$scratch/plain.json")
    for name in tuned dora; do
        awk -v a="$(loss_of "$scratch/$name")" -v b="$before" 'BEGIN { exit !(a > 0 && a < b) }'
    done
    sha256sum --quiet -c "$scratch/model.sums"
}
check learns

small_checkpoints() { # the base model is referred to, not repeated
    local name
    for name in tuned dora; do
        "$QUERN" inspect "$scratch/$name" >"$scratch/inside"
        says "$scratch/inside" 'blocks.0.attn.q.lora_B.weight'
        lacks "$scratch/inside" 'blocks.0.attn.q.weight'
    done
    says "$scratch/inside" norm.weight
}
check small_checkpoints

resumes() {
    local name
    for name in tuned dora; do
        train "$name" "$name.half" --set train.max_steps=4 --set eval.every=4
        train "$name" "$name.half" --resume auto
        same "digest of $name" "$(digest "$name")" "$(digest "$name.half")"
    done
}
check resumes

half_frozen() { # only the second matrices are trained; the first are still the run's own
    local fixed='optimizer.groups=[{"match": "**.lora_A.*", "frozen": true}]'
    train tuned half --set "$fixed"
    "$QUERN" inspect "$scratch/half" >"$scratch/inside"
    says "$scratch/inside" 'blocks.0.attn.q.lora_A.weight'
    "$QUERN" export "$scratch/half" --out "$scratch/half.adapter" >/dev/null
    sed 's/"type": "lora"/"type": "lora", "init_from": ".\/half.adapter"/' "$scratch/tuned.json" \
        >"$scratch/half.json"
    near "$(loss_of "$scratch/half.json")" "$(loss_of "$scratch/half")"
    train tuned half.half --set "$fixed" --set train.max_steps=4 --set eval.every=4
    train tuned half.half --set "$fixed" --resume auto
    same digest "$(digest half)" "$(digest half.half)"
}
check half_frozen

# The run, its adapter beside the model, and the merged model are one function.
merges() { # NAME
    local merged
    "$QUERN" merge "$scratch/$1" --out "$scratch/$1.merged" >/dev/null 2>"$scratch/merge.err"
    says "$scratch/merge.err" 'logits of the merged model are within'
    "$QUERN" export "$scratch/$1" --out "$scratch/$1.adapter" >/dev/null
    "$QUERN" merge "$scratch/$1.adapter" --base "$scratch/model" --out "$scratch/$1.again" \
        >/dev/null 2>&1
    cmp "$scratch/$1.merged/model.safetensors" "$scratch/$1.again/model.safetensors"
    sed "s/.\/model/.\/$1.merged/; s/\"adapter\": {.*},/\"adapter\": {},/" "$scratch/$1.json" \
        >"$scratch/merged.json"
    merged=$(loss_of "$scratch/merged.json")
    near "$merged" "$(loss_of "$scratch/$1")"
    sed 's/"type": "lora"/"type": "lora", "init_from": ".\/'"$1"'.adapter"/' "$scratch/$1.json" \
        >"$scratch/from.json"
    near "$merged" "$(loss_of "$scratch/from.json")"
}
check merges tuned
check merges dora

replaces_nothing() {
    exits 2 "$QUERN" merge "$scratch/tuned" --out "$scratch/model" 2>"$scratch/message"
    says "$scratch/message" 'never replaces anything'
    exits 2 "$QUERN" export "$scratch/tuned" --out "$scratch/model" 2>"$scratch/message"
    exits 2 "$QUERN" merge "$scratch/base" --out "$scratch/x" 2>"$scratch/message"
    says "$scratch/message" 'has no adapter to merge'
    [ ! -e "$scratch/x" ]
    sha256sum --quiet -c "$scratch/model.sums"
}
check replaces_nothing

strangers() { # an adapter for another model, or for other adapter.* keys
    config other llama
    sed -i 's/"hidden_size": 32/"hidden_size": 48/' "$scratch/other.json"
    train other other --set train.max_steps=6
    "$QUERN" export "$scratch/other" --out "$scratch/other.model" >/dev/null 2>&1
    exits 3 "$QUERN" merge "$scratch/tuned.adapter" --base "$scratch/other.model" \
        --out "$scratch/x" 2>"$scratch/message"
    says "$scratch/message" 'of another shape: base_model.model.model.layers.0.self_attn.q_proj'
    [ ! -e "$scratch/x" ]
    adapted wide '"r": 4, "alpha": 32, "targets": ["q_proj", "v_proj"],
        "init_from": "tuned.adapter"'
    exits 3 train wide x
    says "$scratch/x.err" 'is multiplied by 2, here by 8'
    adapted typo '"targets": ["c_attn"]'
    exits 2 train typo x
    says "$scratch/x.err" 'names no linear layer of this model, which has q_proj'
    exits 2 train tuned x --set precision=bf16_sr
    [ ! -e "$scratch/x" ]
}
check strangers

changed_base() { # a run whose model is not the one it was trained on
    mv "$scratch/model" "$scratch/model.away"
    exits 3 "$QUERN" eval "$scratch/tuned" 2>"$scratch/message"
    cp -r "$scratch/dora.merged" "$scratch/model"
    exits 3 "$QUERN" eval "$scratch/tuned" 2>"$scratch/message"
    says "$scratch/message" 'was trained on another model'
    rm -r "$scratch/model"
    mv "$scratch/model.away" "$scratch/model"
}
check changed_base

finish
