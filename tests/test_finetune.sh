#!/usr/bin/env bash
# Fine-tuning of real checkpoints on real data, a few steps each: LoRA and in full on a text the
# model has not seen, a classifier on SST-2, GPT-2 on token files. The loss of the held-out part
# falls; with a GPU in the build (also an emulated one) it is the CPU's loss, step by step.
# shellcheck source=tests/check.sh
. "$(dirname "$0")/check.sh"

data=${QUERN_TEST_DATA:-$root/../shared/data}
llama=$data/weights/llama_tinystories_656k
gpt2=$data/weights/gpt2_capp_236k

config() { # NAME MEMBERS
    cat >"$scratch/$1.json" <<END
{$2,
 "optimizer": {"type": "adamw", "lr": 2e-3, "weight_decay": 0.01},
 "eval": {"every": 5, "at_start": true, "batches": 4, "batch_size": 4},
 "log": {"every": 1, "progress": "none"}, "threads": 1}
END
}

if [ ! -d "$llama" ]; then
    no_data() { echo "no $llama: QUERN_TEST_DATA names no data" && return 77; }
    check no_data
    finish
fi

configurations() {
    local text='"data": {"type": "text", "path": "'$data'/text_misc/botchan.txt.gz",
        "block_size": 32, "val_fraction": 0.05}, "train": {"max_steps": 5, "batch_size": 4}'
    config lora '"model": {"pretrained": "'"$llama"'"}, "adapter": {"type": "lora", "r": 4},
        '"$text"
    config full '"model": {"pretrained": "'"$llama"'"}, '"$text"
    # 20 sentences held out too: five steps are enough to see that they are learned.
    zcat "$data/sst/stsa.binary.dev.gz" | sed -n 1,20p | tee "$scratch/a.txt" >"$scratch/b.txt"
    config classifier '"model": {"pretrained": "'"$llama"'", "head": "sequence_classification",
        "id2label": ["negative", "positive"]},
        "data": {"type": "labelled_text", "path": "a.txt", "val_path": "b.txt",
        "block_size": 32, "truncate": "right"},
        "train": {"max_steps": 5, "batch_size": 4}'
    # The continuations that the checkpoint itself is said to give, as nanoGPT's token files.
    python3 - "$gpt2/reference.json" "$scratch/tokens.bin" <<'END'
import json, struct, sys
ids = [i for p in json.load(open(sys.argv[1]))["prompts"] for i in p["greedy_ids"]]
open(sys.argv[2], "wb").write(struct.pack(f"<{len(ids) * 20}H", *(ids * 20)))
END
    config gpt2 '"model": {"pretrained": "'"$gpt2"'", "dropout": 0, "attention_dropout": 0,
        "embedding_dropout": 0},
        "data": {"type": "tokens", "path": "tokens.bin", "dtype": "u16", "vocab_size": 53,
        "block_size": 16, "val_fraction": 0.2}, "train": {"max_steps": 5, "batch_size": 4}'
}

check configurations

losses() { jq -c 'select(."'"$2"'") | ."'"$2"'"' "$scratch/$1/metrics.jsonl"; } # RUN KEY

tunes() { # NAME
    "$QUERN" train "$scratch/$1.json" --out "$scratch/$1" 2>"$scratch/$1.err" ||
        { cat "$scratch/$1.err" && return 1; }
    losses "$1" eval/loss
    [ "$(losses "$1" train/loss | wc -l)" -eq 5 ]
    losses "$1" eval/loss | jq -se 'length == 2 and .[1] < .[0]'
}

# f32 on both sides; the sums are taken in another order, and 5 steps of AdamW carry that on:
# 1e-3 of a loss is 100 times what test_cuda_training finds after 50 steps.
as_on_the_cpu() { # NAME
    "$QUERN" train "$scratch/$1.json" --out "$scratch/$1.cpu" --set device=cpu 2>/dev/null
    paste <(losses "$1" train/loss) <(losses "$1.cpu" train/loss)
    paste -d, <(losses "$1" train/loss) <(losses "$1.cpu" train/loss) | sed 's/.*/[&]/' |
        jq -se 'length == 5 and all(.[]; (.[0] - .[1] | fabs) <= 1e-3 * .[1])'
}

continues() { # RUN: what was trained can be used
    [ -n "$("$QUERN" generate "$scratch/$1" --prompt "He said" --max-new-tokens 5)" ]
}

gpu=no
"$QUERN" doctor 2>/dev/null | grep -qi 'emulated\|^ *cuda.*yes' && gpu=yes
for name in lora full classifier gpt2; do
    check tunes $name
    [ $gpu = no ] || check as_on_the_cpu $name
done
check continues lora
check continues full
finish
