#!/usr/bin/env bash
# What the README tells people to type works: runnable blocks run in a copy of the tree.
# shellcheck source=tests/check.sh
. "$(dirname "$0")/check.sh"

copy="$scratch/a copy of quern" # a path with spaces is a path
mkdir -p "$copy/build/release"
tar -C "$root" --exclude=./build --exclude=./runs --exclude=./.git -cf - . | tar -C "$copy" -xf -
ln -s "$QUERN" "$copy/build/release/quern"

# Block N (from 1) of the ```sh blocks that follow a line `<!-- runnable -->`.
block() {
    awk -v wanted="$1" '
        /^<!-- runnable -->$/ { marked = NR }
        /^```/ && inside { inside = 0; next }
        /^```sh$/ && marked == NR - 1 { inside = ++n == wanted; next }
        inside { print }' "$root/README.md"
}
blocks=$(awk '/^<!-- runnable -->$/ { n++ } END { print n + 0 }' "$root/README.md")

has_runnable_blocks() { [ "$blocks" -ge 1 ]; }

block_runs() { # N
    [ -x "$QUERN" ] || {
        echo "$QUERN is not built"
        return 1
    }
    block "$1" >"$scratch/block.$1"
    [ -s "$scratch/block.$1" ]
    cd "$copy"
    bash -euxo pipefail "$scratch/block.$1"
}

# Where a command shows options or paths, they exist.
names_what_exists() {
    local path
    for path in quickstart.sh test.sh .ci/run LICENSE CHANGELOG.md CONTRIBUTING.md; do
        [ -e "$root/$path" ] || {
            echo "$path is missing"
            return 1
        }
    done
    [ -x "$root/quickstart.sh" ] && [ -x "$root/test.sh" ] && [ -x "$root/.ci/run" ]
}

configuration_is_valid() { # the JSON example, with a text to train on
    awk '/^```json$/ { inside = 1; next } /^```/ { inside = 0 } inside' "$root/README.md" \
        >"$scratch/example.json"
    [ -s "$scratch/example.json" ]
    cat "$root"/io/*.c >"$scratch/book.txt"
    "$QUERN" validate "$scratch/example.json"
}

# configs/FINETUNING.md: its keys exist, and are those of the hints in `quern config reference`.
finetuning_names_keys() {
    local key page=$root/configs/FINETUNING.md reference=$scratch/reference.md wrong=0
    "$QUERN" config reference >"$reference"
    for key in $(grep -o '`[a-z][a-z_]*\.[a-z_.]*`' "$page" | tr -d '`' | sort -u); do
        [[ $key != *.json && $key != *.safetensors ]] || continue
        grep -qF "| \`$key\` |" "$reference" || grep -qx "## $key" "$reference" || {
            echo "$key is no key"
            wrong=1
        }
    done
    # A row of the page that has another tool's name of the hints has the name here, too.
    while IFS='|' read -r _ other here _; do
        other=$(cut -d'`' -f2 <<<"$other")
        here=$(cut -d'`' -f2 <<<"$here")
        grep '^| ' "$page" | grep -F "\`$other\`" | grep -vF "\`$here\`" && {
            echo "$other is $here"
            wrong=1
        }
    done < <(sed -n '/^## Names in other tools/,$ p' "$reference" |
        grep -a '(PEFT)\|(axolotl)\|(LLaMA-Factory)\|(Hugging Face)')
    [ "$wrong" -eq 0 ]
}

# Its configuration trains, on a small model of that name.
finetuning_trains() {
    mkdir -p "$scratch/fine/models/llama"
    cd "$scratch/fine"
    awk '/^```json$/ { inside = 1; next } /^```/ { inside = 0 } inside' \
        "$root/configs/FINETUNING.md" >fine.json
    cp "$root/tests/golden/tokenizer_models/bpe_bytes.model" models/llama/tokenizer.model
    echo '{"chat_template": "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"}' \
        >models/llama/tokenizer_config.json
    cat >base.json <<'END'
{"model": {"type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "max_position_embeddings": 2048},
 "data": {"type": "text", "path": "book.txt", "tokenizer": "models/llama", "block_size": 16},
 "train": {"max_steps": 1, "batch_size": 1}, "log": {"progress": "none"}, "threads": 1}
END
    head -n 40 "$root/README.md" >book.txt
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        echo "{\"messages\": [{\"role\": \"user\", \"content\": \"$i\"}," \
            "{\"role\": \"assistant\", \"content\": \"and $i\"}]}"
    done >train.jsonl
    "$QUERN" train base.json --out base 2>log || cat log
    "$QUERN" export base --out exported
    rm -r models/llama
    mv exported models/llama
    ls models/llama
    "$QUERN" validate fine.json
    "$QUERN" train fine.json --out run --set train.max_steps=1 --set log.progress=none \
        --set threads=1 --set early_stopping.patience=1 2>log || cat log
    [ -e run/final ]
}

check names_what_exists
check has_runnable_blocks
for ((i = 1; i <= blocks; i++)); do check block_runs $i; done
check configuration_is_valid
check finetuning_names_keys
check finetuning_trains
finish
