#!/usr/bin/env bash
# Whatever is wrong with what a user gives: one clear error, the right exit status, nothing left
# half-written.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

listing() { (cd "$1" && find . -printf '%p %s %l\n' | sort); } # FOLDER

# `quern train` refuses: status, what the message names, and no file anywhere that was not there.
refuses() { # STATUS TEXT CONFIG [OPTION...]
    local before
    before=$(listing "$scratch")
    local message status=0
    message=$("$QUERN" train "$scratch/$3.json" "${@:4}" 2>&1) || status=$?
    [ $status -eq "$1" ] || {
        echo "exit status $status, expected $1: $message"
        return 1
    }
    grep -qF -- "$2" <<<"$message" || {
        echo "\"$2\" is not in: $message"
        return 1
    }
    [ "$(grep -c '^quern: ' <<<"$message")" -eq 1 ]
    same "files" "$before" "$(listing "$scratch")"
}

out=(--out "$scratch/refused")

# ---- the configuration -----------------------------------------------------------------------

check refuses 2 absent.json absent "${out[@]}"
echo '{"model": {"type": "gpt2"' >"$scratch/cut.json"
check refuses 2 cut.json:2:1 cut "${out[@]}"
check refuses 2 'train.max_stesp' gpt2 "${out[@]}" --set train.max_stesp=3
check refuses 2 'train.max_steps' gpt2 "${out[@]}" --set train.max_steps='"many"'
check refuses 2 'expected' gpt2 "${out[@]}" --set train.batch_size=-1
check refuses 2 'optimizer.groups.0.match' gpt2 "${out[@]}" \
    --set 'optimizer.groups=[{"match": "no.such.*"}]'
check refuses 2 'device' gpt2 "${out[@]}" --set device=tpu
check refuses 1 'CUDA' gpt2 "${out[@]}" --set device=cuda

all_at_once() { # with the place of each
    cat >"$scratch/many.json" <<'END'
{
  "model": {"type": "gpt2", "hidden_size": 0, "num_hidden_layers": 2, "num_attention_heads": 2},
  "data": {"type": "text", "path": "corpus.txt"},
  "train": {"max_steps": "ten", "batchsize": 4}
}
END
    refuses 2 'many.json:2:' many "${out[@]}"
    refuses 2 'many.json:4:26' many "${out[@]}"
    refuses 2 'batch_size' many "${out[@]}"
    refuses 2 '3 errors' many "${out[@]}"
}
check all_at_once

# ---- the data --------------------------------------------------------------------------------

check refuses 3 absent.txt gpt2 "${out[@]}" --set data.path="$scratch/absent.txt"
: >"$scratch/empty.txt"
check refuses 3 empty gpt2 "${out[@]}" --set data.path="$scratch/empty.txt"
head -c 20 "$scratch/corpus.txt" >"$scratch/short.txt"
check refuses 3 '' gpt2 "${out[@]}" --set data.path="$scratch/short.txt"
check refuses 3 empty.txt gpt2 "${out[@]}" --set data.val_path="$scratch/empty.txt"

number() { # VALUE BYTES: big-endian
    local i text=''
    for ((i = $2 - 1; i >= 0; i--)); do text+=$(printf '\\x%02x' $((($1 >> (8 * i)) & 255))); done
    printf "$text"
}

# IDX files of N items with 4 numbers each; the 17th number or the 9th label may be chosen.
idx() { # NAME N TYPE [NUMBER] [LABEL]
    local i
    {
        printf "\\x00\\x00\\x$3\\x02" && number "$2" 4 && number 4 4
        for ((i = 0; i < 4 * $2; i++)); do
            if [ "$3" = 08 ]; then
                number $((i % 251)) 1
            elif [ "$i" -eq 16 ] && [ -n "${4:-}" ]; then
                printf '%b' "$4"
            else
                printf '\x3f\x80\x00\x00'
            fi
        done
    } >"$scratch/$1.images"
    {
        printf '\x00\x00\x08\x01' && number "$2" 4
        for ((i = 0; i < $2; i++)); do
            if [ "$i" -eq 8 ] && [ -n "${5:-}" ]; then number "$5" 1; else number $((i % 3)) 1; fi
        done
    } >"$scratch/$1.labels"
    cat >"$scratch/$1.json" <<END
{
  "model": {"type": "mlp", "hidden_sizes": [8]},
  "data": {"type": "idx", "images": "$1.images", "labels": "$1.labels", "val_fraction": 0.2},
  "train": {"max_steps": 3, "batch_size": 4},
  "log": {"progress": "none"}
}
END
}

idx good 40 08
idx_trains() { exits 0 train good good; }
check idx_trains

# What only reading all of the data could tell ends the run when it is met; what was saved is good.
met_on_the_way() { # TEXT CONFIG [OPTION...]
    exits 3 train "$2" "met.$2" --set checkpoint.every=1 --set checkpoint.async=false "${@:3}"
    says "$scratch/met.$2.err" "$1"
    [ "$(grep -c '^quern: ' "$scratch/met.$2.err")" -eq 1 ]
    says "$scratch/met.$2/metrics.jsonl" '"end":"'
    [ ! -e "$scratch/met.$2/checkpoints/last" ] || digest "met.$2"
}
idx nan 40 0D '\x7f\xc0\x00\x00'
check met_on_the_way 'nan in item 4, element 0' nan --set train.max_steps=20
idx infinite 40 0D '\x7f\x80\x00\x00'
check met_on_the_way 'inf in item 4, element 0' infinite --set train.max_steps=20
idx label 40 08 '' 200
check refuses 2 'model.vocab_size' label "${out[@]}" --set model.vocab_size=3
cp "$scratch/good.labels" "$scratch/label.images"
check refuses 3 'label' label "${out[@]}"
idx few 40 08
idx fewer 30 08
check refuses 3 '30' few "${out[@]}" --set data.labels="$scratch/fewer.labels"
truncate -s 100 "$scratch/few.images"
check refuses 3 'few.images' few "${out[@]}"

token_file() { # NAME TOKEN: 400 little-endian 16-bit tokens, the 100th is TOKEN
    local i t
    for ((i = 0; i < 400; i++)); do
        t=$((i % 50))
        [ $i -eq 99 ] && t=$2
        printf "\\x$(printf %02x $((t & 255)))\\x$(printf %02x $((t >> 8)))"
    done >"$scratch/$1.bin"
}
token_file tokens 7
token_file outside 60
sed -e 's/"type": "text"/"type": "tokens", "dtype": "u16", "vocab_size": 50/' \
    -e 's/corpus.txt/tokens.bin/' -e 's/, "vocabulary": "char"//' \
    "$scratch/gpt2.json" >"$scratch/tokens.json"
tokens_train() { exits 0 train tokens tokens --set train.max_steps=6; }
check tokens_train
check met_on_the_way 60 tokens --set data.path="$scratch/outside.bin"
check refuses 2 'vocab_size' tokens "${out[@]}" --set model.vocab_size=40

# ---- the run directory -----------------------------------------------------------------------

mkdir "$scratch/full"
echo mine >"$scratch/full/file"
check refuses 2 'not empty' gpt2 --out "$scratch/full"
check refuses 2 'not empty' gpt2 --out "$scratch/full" --overwrite
check refuses 2 'not empty' gpt2 --out "$scratch/full" --resume auto
check refuses 1 'corpus.txt' gpt2 --out "$scratch/corpus.txt"
check refuses 2 'no such run' gpt2 --resume "$scratch/absent"
check refuses 2 'contradict' gpt2 "${out[@]}" --resume auto --overwrite

run_there() { # a run is neither replaced nor continued without being asked to
    train gpt2 there --set train.max_steps=6
    refuses 2 '--overwrite' gpt2 --out "$scratch/there"
    exits 0 train gpt2 there --set train.max_steps=9 --overwrite
    [ "$(rows train/loss there | wc -l)" -eq 9 ]
}
check run_there

in_use() { # the process is named that has it
    mkfifo "$scratch/pipe"
    "$QUERN" train "$scratch/gpt2.json" --out "$scratch/busy" --set log.progress=plain \
        2>"$scratch/pipe" &
    local pid=$! line
    exec 3<"$scratch/pipe"
    while read -r line <&3; do [[ $line == *'step 3/'* ]] && break; done
    kill -STOP $pid
    exits 2 train gpt2 busy --resume auto
    says "$scratch/busy.err" "pid $pid "
    kill -CONT $pid
    cat <&3 >/dev/null
    exec 3<&-
    wait $pid
    [ "$(rows train/loss busy | wc -l)" -eq 40 ]
}
check in_use

unwritable() {
    mkdir "$scratch/closed"
    chmod 555 "$scratch/closed"
    if [ -w "$scratch/closed" ]; then
        echo "root may write anywhere; a file system that only reads takes its place"
        refuses 1 '/proc' gpt2 --out /proc/quern-run
    else
        refuses 1 closed gpt2 --out "$scratch/closed/run"
    fi
}
check unwritable

# ---- other commands --------------------------------------------------------------------------

fails() { # STATUS TEXT ARGUMENT...
    exits "$1" "$QUERN" "${@:3}" >/dev/null 2>"$scratch/fails.err"
    says "$scratch/fails.err" "$2"
}
check fails 2 'No such file' eval "$scratch/absent" --split val
check fails 2 'no such run' generate "$scratch/absent"
check fails 2 '--input' predict "$scratch/good"
check fails 3 '' predict "$scratch/good" --input "$scratch/good.labels" --out "$scratch/p.csv"
check fails 2 'ending in' predict "$scratch/good" --input "$scratch/good.images" --out p.txt
check fails 3 'item 4' predict "$scratch/good" --input "$scratch/nan.images" --out "$scratch/p.csv"
check fails 1 'tokenizer' generate "$scratch/good"
check fails 3 'no test split' eval "$scratch/good" --split test
check fails 3 '' inspect "$scratch/full"
check fails 2 '' inspect "$scratch/absent"
finish
