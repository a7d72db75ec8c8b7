#!/usr/bin/env bash
# Classification of texts from end to end: a tokenizer of its own, an encoder and a decoder trained
# on labelled texts, evaluated, asked for predictions.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

# A text is positive if it has more of the one word than of the other.
awk 'BEGIN {
    n = split("good bad film plot music actor scene", w, " ")
    for (line = 0; line < 400; line++) {
        text = ""
        balance = 0
        for (i = 0; i < 5; i++) {
            seed = (seed * 1103515245 + 12345) % 2147483648
            word = w[1 + int(seed / 65536) % n]
            balance += (word == "good") - (word == "bad")
            text = text (i ? " " : "") word
        }
        if (balance) print (balance > 0 ? "positive" : "negative") "\t" text
    }
}' >"$scratch/rated"
{ echo $'label\ttext' && head -n 150 "$scratch/rated"; } >"$scratch/train.tsv"
{ echo $'label\ttext' && tail -n 60 "$scratch/rated"; } >"$scratch/val.tsv"
tail -n 60 "$scratch/rated" | cut -f2 >"$scratch/val.txt"
cut -f2 "$scratch/rated" >"$scratch/texts.txt"
"$QUERN" tokenizer-train --vocab-size 300 --special '<pad>' --out "$scratch/tokenizer" \
    "$scratch/texts.txt" >/dev/null 2>&1

labelled() { # NAME TYPE [MODEL KEYS]
    cat >"$scratch/$1.json" <<END
{
  "model": {"type": "$2", "head": "sequence_classification", "id2label": ["negative", "positive"],
            "hidden_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2${3:+, $3}},
  "data": {"type": "labelled_text", "path": "train.tsv", "val_path": "val.tsv",
           "tokenizer": "tokenizer", "block_size": 16},
  "train": {"max_steps": 120, "batch_size": 16},
  "optimizer": {"lr": 3e-3},
  "scheduler": {"warmup_steps": 10},
  "eval": {"every": 40, "batches": 0},
  "log": {"progress": "none"},
  "threads": 1
}
END
}

# Evaluation and predictions tell the same, and it has been learned.
learns() { # NAME
    train "$1" "$1"
    "$QUERN" eval "$scratch/$1" --json >"$scratch/eval.json"
    jq -e '."eval/accuracy" > 0.9 and ."eval/f1_macro" > 0.9 and ."eval/mcc" > 0.8' \
        "$scratch/eval.json"
    "$QUERN" predict "$scratch/$1" --input "$scratch/val.txt" --out "$scratch/p.csv"
    "$QUERN" predict "$scratch/$1" --input "$scratch/val.tsv" --out "$scratch/p.jsonl"
    [ "$(head -n 1 "$scratch/p.csv")" = line,class,label,probability,p0,p1 ]
    tail -n +2 "$scratch/p.csv" | cut -d, -f3 | tr -d '"' >"$scratch/told"
    same labels "$(cat "$scratch/told")" "$(jq -r .label "$scratch/p.jsonl")"
    tail -n +2 "$scratch/val.tsv" | cut -f1 | paste - "$scratch/told" |
        awk '$1 == $2 { n++ } END { print n / NR }' >"$scratch/accuracy"
    jq -r '."eval/accuracy"' "$scratch/eval.json" | paste - "$scratch/accuracy" |
        awk '{ print; exit !(($1 - $2) ^ 2 < 1e-10) }'
    jq -se 'length == 60 and all(.[]; (.probabilities | add - 1 | fabs) < 1e-5
        and .probability == (.probabilities | max))' "$scratch/p.jsonl"
}
labelled bert bert
labelled roberta roberta '"pad_token_id": 0'
labelled gpt2 gpt2
labelled llama llama
for name in bert roberta gpt2 llama; do check learns $name; done

# Two questions at once: is there more of good than of bad; is there a film.
several_labels() {
    awk -F'\t' '{
        labels = ($1 == "positive" ? "\"good\"" : "")
        if ($2 ~ /film/) labels = labels (labels == "" ? "" : ", ") "\"film\""
        printf "{\"text\": \"%s\", \"label\": [%s]}\n", $2, labels
    }' "$scratch/rated" >"$scratch/several.jsonl"
    sed -e 's/\["negative", "positive"\]/["good", "film"]/' \
        -e 's/"path": "train.tsv"/"path": "several.jsonl"/' \
        -e 's/"val_path": "val.tsv"/"val_fraction": 0.2/' \
        "$scratch/bert.json" >"$scratch/several.json"
    train several several --set objective=multi_label --set train.max_steps=200
    "$QUERN" eval "$scratch/several" --json >"$scratch/eval.json"
    jq -e '."eval/loss" < 0.2' "$scratch/eval.json"
    tail -n 60 "$scratch/several.jsonl" >"$scratch/asked.jsonl"
    "$QUERN" predict "$scratch/several" --input "$scratch/asked.jsonl" --out "$scratch/p.jsonl"
    jq -c '[.label as $l | ("good", "film") | IN($l[])]' "$scratch/asked.jsonl" >"$scratch/right"
    jq -c '[.probabilities[] > 0.5]' "$scratch/p.jsonl" | paste -d' ' - "$scratch/right" |
        awk '$1 == $2 { n++ } END { print n; exit n < 55 }'
}
check several_labels

# A name is what stands before "film", whatever it is: learned from both sides, told per token.
words() {
    awk -F'\t' '{
        n = split($2, w, " ")
        words = labels = ""
        for (i = 1; i <= n; i++) {
            words = words (i > 1 ? ", " : "") "\"" w[i] "\""
            labels = labels (i > 1 ? ", " : "") (i < n && w[i + 1] == "film" ? 1 : 0)
        }
        printf "{\"text\": [%s], \"label\": [%s]}\n", words, labels
    }' "$scratch/rated" >"$scratch/words.jsonl"
    sed -e 's/sequence_class/token_class/' -e 's/"negative", "positive"/"O", "NAME"/' \
        -e 's/"path": "train.tsv"/"path": "words.jsonl"/' \
        -e 's/"val_path": "val.tsv"/"val_fraction": 0.2/' \
        "$scratch/bert.json" >"$scratch/words.json"
    train words words --set train.max_steps=200
    "$QUERN" eval "$scratch/words" --json >"$scratch/eval.json"
    jq -e '."eval/f1_macro" > 0.9' "$scratch/eval.json"
    echo 'good bad film' >"$scratch/asked.txt"
    "$QUERN" predict "$scratch/words" --input "$scratch/asked.txt" --out "$scratch/p.jsonl"
    "$QUERN" predict "$scratch/words" --input "$scratch/asked.txt" --out "$scratch/p.csv"
    [ "$(head -n 1 "$scratch/p.csv")" = line,token,class,label,probability,p0,p1 ]
    jq -se 'length == 1 and (.[0].tokens | length > 2 and .[0].label == "O" and
        (map(.label) | contains(["NAME"])))' "$scratch/p.jsonl"
}
check words

refusals() {
    exits 1 "$QUERN" generate "$scratch/bert" 2>"$scratch/message"
    says "$scratch/message" 'does not generate'
    exits 1 "$QUERN" generate "$scratch/gpt2" 2>"$scratch/message"
    says "$scratch/message" 'does not continue'
    printf '{"text": "good"}\n{"txt": "bad"}\n' >"$scratch/broken.jsonl"
    exits 3 "$QUERN" predict "$scratch/bert" --input "$scratch/broken.jsonl" \
        --out "$scratch/b.csv" 2>"$scratch/message"
    says "$scratch/message" 'broken.jsonl:2'
    awk 'BEGIN { for (i = 0; i < 40; i++) printf "film " }' >"$scratch/long.txt"
    exits 3 "$QUERN" predict "$scratch/bert" --input "$scratch/long.txt" \
        --out "$scratch/b.csv" 2>"$scratch/message"
    says "$scratch/message" 'long.txt:1: found 41 tokens, expected at most data.block_size = 16'
    [ ! -e "$scratch/b.csv" ]
}
check refusals

# The tokenizer is smaller than the embedding; an embedding smaller than the tokenizer is refused.
small_vocabulary() {
    exits 2 "$QUERN" train "$scratch/bert.json" --out "$scratch/small" --set model.vocab_size=200 \
        2>"$scratch/message"
    says "$scratch/message" 'expected at least that, found 200'
}
check small_vocabulary
