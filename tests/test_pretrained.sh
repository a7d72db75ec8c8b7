#!/usr/bin/env bash
# Runs that start from a model directory: exported, fine-tuned, with an adapter, resumed; and what
# is refused, with nothing left behind.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

cd "$scratch" || exit 1
train gpt2 first --set data.vocabulary=byte --set train.max_steps=6 --set checkpoint.every=0
train llama second --set data.vocabulary=byte --set train.max_steps=6 --set checkpoint.every=0

# A configuration on the corpus that starts from a model directory.
start() { # NAME DIR [MEMBERS]
    cat >"$1.json" <<END
{"model": {"pretrained": "$2", "dropout": 0, "attention_dropout": 0, "embedding_dropout": 0},
 "data": {"type": "text", "path": "corpus.txt", "block_size": 32, "vocabulary": "byte"},
 "train": {"max_steps": 6, "batch_size": 4}, "optimizer": {"type": "adamw", "lr": 1e-2},
 "eval": {"batches": 4}, "checkpoint": {"every": 3}, "log": {"progress": "none"}, "threads": 1${3:+,
 $3}}
END
}
run() { # NAME [OPTION...]
    "$QUERN" train "$1.json" --out "run.$1" "${@:2}" 2>"$1.log"
}
loss() { "$QUERN" eval "$1" | sed -n 's/^eval\/loss *//p'; }
refused() { # STATUS TEXT COMMAND...
    local status=0
    "${@:3}" >out.txt 2>&1 || status=$?
    cat out.txt
    [ "$status" -eq "$1" ] && grep -qF "$2" out.txt
}

# A model that is exported and read again gives the loss of the run, to the last digit.
returns() { # RUN NAME
    "$QUERN" export "$1" --out "$2"
    start "$2" "./$2"
    [ "$(loss "$1")" = "$(loss "$2.json")" ]
    [ ! -e "$2.tmp" ]
}
check returns first a
check returns second b

learns() { # NAME
    run "$1"
    awk -v a="$(loss "$1.json")" -v b="$(loss "run.$1")" 'BEGIN { exit !(b < a - 0.01) }'
    grep -q '"pretrained": ' "run.$1/config.resolved.json"
    grep -q '"hidden_size": 32' "run.$1/config.resolved.json"
}
check learns a
check learns b

# The run is complete in itself: evaluated and continued from without the directory.
independent() {
    local before
    before=$(loss run.a)
    mv a elsewhere
    [ "$before" = "$(loss run.a)" ]
    mv elsewhere a
}
check independent

# A checkpoint of an adapter holds the adapter; the base is named by its digest, found again when
# the run is used or resumed, and never written to.
adapter() {
    local whole part base
    base=$(sha256sum <b/model.safetensors)
    start lora ./b '"adapter": {"type": "lora", "r": 2}'
    run lora
    whole=$(stat -c %s run.b/final/model.h5)
    part=$(stat -c %s run.lora/final/model.h5)
    echo "model.h5: $whole bytes, with an adapter $part"
    [ $((3 * part)) -lt "$whole" ]
    loss run.lora
    run lora --resume --set train.max_steps=8
    grep -q 'resumed at step 6' run.lora/train.log
    start through ./b '"adapter": {"type": "lora", "r": 2}'
    run through --set train.max_steps=8
    [ "$(loss run.through)" = "$(loss run.lora)" ]
    [ "$base" = "$(sha256sum <b/model.safetensors)" ]
}
check adapter

other_base() {
    local command
    cp -r b kept
    printf '\x01' | dd of=b/model.safetensors bs=1 conv=notrunc status=none \
        seek=$(($(stat -c %s b/model.safetensors) - 3))
    for command in 'eval run.lora' 'train lora.json --out run.lora --resume'; do
        # shellcheck disable=SC2086 # words
        refused 3 'the adapter was trained on another model' "$QUERN" $command
    done
    rm -r b
    refused 3 'b: cannot be opened' "$QUERN" eval run.lora
    mv kept b
    loss run.lora
}
check other_base

# A model directory with a tokenizer continues a text as the run it was exported from.
as_it_is() {
    local from
    "$QUERN" tokenizer-train corpus.txt --vocab-size 300 --out tok
    train llama third --set data.vocabulary=null --set data.tokenizer=tok
    "$QUERN" export third --out c
    [ -e c/tokenizer.json ]
    for from in third c; do
        "$QUERN" generate $from --prompt 'the dog' --max-new-tokens 20 --temperature 0 >$from.txt
    done
    cat c.txt
    cmp third.txt c.txt
    start from ./c # its tokenizer, by default
    sed -i 's/, "vocabulary": "byte"//' from.json
    [ "$(loss from.json)" = "$(loss third)" ]
    refused 1 'only models with a tokenizer can continue a text' "$QUERN" generate b --prompt x
    refused 2 'there is no such run' "$QUERN" generate nothing --prompt x
}
check as_it_is

# ---- directories that are broken, half there or of another kind

bad() { # NAME STATUS TEXT: the directory NAME is refused before a run directory is made
    start "$1" "./$1"
    refused "$2" "$3" "$QUERN" train "$1.json" --out "run.$1"
    [ ! -e "run.$1" ]
}
cut_short() {
    cp -r a cut
    truncate -s -100 cut/model.safetensors
    bad cut 3 'cut/model.safetensors: tensor "'
}
check cut_short

no_weights() {
    mkdir half
    cp a/config.json half
    bad half 3 'found neither model.safetensors nor'
    echo x >half/pytorch_model.bin
    bad half 1 'half/pytorch_model.bin is a Python pickle'
}
check no_weights

missing_shard() {
    "$QUERN" export second --out shards --shard-size 1 >/dev/null
    [ -e shards/model.safetensors ] # one is enough for it
    mkdir gone
    cp a/config.json gone
    echo '{"weight_map": {"x": "model-00001-of-00002.safetensors"}}' \
        >gone/model.safetensors.index.json
    bad gone 3 'model-00001-of-00002.safetensors is missing, which the index names'
}
check missing_shard

other_model() { # every tensor that does not fit is listed
    cp -r a other
    sed -i 's/"n_layer": 2/"n_layer": 3/; s/"n_positions": 32/"n_positions": 99/' other/config.json
    bad other 3 'missing: transformer.h.2.ln_1.weight'
    grep -q 'of another shape: transformer.wpe.weight: found F32\[' out.txt
    [ "$(grep -c '^missing: ' out.txt)" -eq 12 ]
}
check other_model

no_config() {
    mkdir -p empty
    bad empty 2 'empty/config.json'
    echo '{"peft_type": "LORA"}' >empty/config.json
    bad empty 2 'this is an adapter, not a model'
}
check no_config

small_vocabulary() { # a tokenizer with more tokens than the embedding has rows
    cp -r a few
    sed -i 's/"vocab_size": 256/"vocab_size": 200/' few/config.json
    bad few 2 'expected at least the 256 tokens of the data, found 200'
}
check small_vocabulary

never_replaces() {
    refused 2 'a exists; an export never replaces anything' "$QUERN" export first --out a
    refused 2 'expected f32, bf16 or f16' "$QUERN" export first --out new --dtype i8
    [ ! -e new ] && [ ! -e new.tmp ]
}
check never_replaces
finish
