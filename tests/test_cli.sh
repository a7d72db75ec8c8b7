#!/usr/bin/env bash
# The commands: help and its examples, and what each command prints against what another one knows.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

cp -r "$root/configs" "$scratch/configs"
mkdir "$scratch/bin"
ln -s "$(realpath "$QUERN")" "$scratch/bin/quern"
train gpt2 gpt2
train llama llama

verbs=$("$QUERN" help | sed -n 's/^  \([a-z-]*\) .*/\1/p')

# ---- help ------------------------------------------------------------------------------------

overview() {
    [ "$(wc -w <<<"$verbs")" -ge 14 ]
    [[ "$("$QUERN" --version)" =~ ^quern\ [0-9]+\.[0-9]+\.[0-9]+ ]]
    same help "$("$QUERN" help)" "$("$QUERN" --help)"
}
check overview

# The example of each command, run as it stands: its options and arguments must be understood. It
# may lack the data or the run it names, which is another error.
examples() {
    local verb text example message
    cd "$scratch"
    for verb in $verbs; do
        text=$("$QUERN" help "$verb")
        same "help of $verb" "$text" "$("$QUERN" "$verb" --help)"
        [[ "$text" == "usage: quern $verb"* ]]
        example=$(sed -n '/^example:/,$ s/^  //p' <<<"$text")
        example=${example/configs\/quickstart.json/gpt2.json}
        [ "$verb" = train ] || example=${example/runs\/first/gpt2}
        echo "$example"
        message=$(PATH="$scratch/bin:$PATH" bash -c "$example" 2>&1 >/dev/null) || {
            case $message in
            *QUERN_TOKENS* | *'there is no such run'* | *'has no adapter to merge'* | \
                *'cannot be opened: No such file'*) ;;
            *) echo "$message" && return 1 ;;
            esac
        }
    done
}
check examples

suggests() { # TEXT ARGUMENT...
    exits 2 "$QUERN" "${@:2}" 2>"$scratch/message"
    says "$scratch/message" "$1"
}
check suggests 'did you mean train' tarin
check suggests 'did you mean --overwrite' train "$scratch/gpt2.json" --overwite
check suggests 'no command'
check suggests 'needs a value' train "$scratch/gpt2.json" --out
check suggests 'one argument too many' inspect a b
check suggests 'usage: quern eval' eval
check suggests 'takes no value' inspect "$scratch/gpt2" --json=1
check suggests 'expected an integer' generate "$scratch/gpt2" --max-new-tokens ten
check suggests 'did you mean' help trian

# ---- eval ------------------------------------------------------------------------------------

# The same number, digit for digit, as the log has for the weights that were kept.
eval_equals_log() { # MODEL STEP
    local key shown logged
    train "$1" "whole.$1" --set eval.batches=0
    set -- "whole.$1" "$2"
    "$QUERN" eval "$scratch/$1" --json >"$scratch/eval.json"
    [ "$(jq .step "$scratch/eval.json")" -eq "$2" ]
    [ "$(jq -r .split "$scratch/eval.json")" = val ]
    for key in eval/loss eval/perplexity; do
        logged=$(rows $key "$1" | sed -n "s/^$2 .* //p")
        shown=$(sed "s|.*\"$key\":\([^,}]*\).*|\1|" "$scratch/eval.json")
        same $key "$logged" "$shown"
        "$QUERN" eval "$scratch/$1" | grep "^$key *$logged\$" >/dev/null
    done
}
check eval_equals_log gpt2 5
check eval_equals_log llama 40

eval_checkpoint() { # a step of one's choice
    "$QUERN" eval "$scratch/llama" --ckpt 40 --json >"$scratch/eval.40"
    "$QUERN" eval "$scratch/llama" --json >"$scratch/eval.final"
    same loss "$(jq '."eval/loss"' "$scratch/eval.40")" "$(jq '."eval/loss"' "$scratch/eval.final")"
    "$QUERN" eval "$scratch/llama/checkpoints/step-00000040" --json >"$scratch/eval.one"
    same loss "$(jq '."eval/loss"' "$scratch/eval.40")" "$(jq '."eval/loss"' "$scratch/eval.one")"
    exits 2 "$QUERN" eval "$scratch/llama" --ckpt newest 2>"$scratch/message"
    ! "$QUERN" eval "$scratch/llama" --ckpt 2 2>"$scratch/message" || return 1
    says "$scratch/message" step-00000002
}
check eval_checkpoint

# ---- predict ---------------------------------------------------------------------------------

mnist=${QUERN_TEST_DATA:-$root/../shared/data}/mnist

predict_features() { # accuracy from the file of predictions is what eval says
    [ -d "$mnist" ] || { echo "no mnist in QUERN_TEST_DATA" && return 77; }
    cat >"$scratch/mnist.json" <<END
{
  "model": {"type": "mlp", "hidden_sizes": [16]},
  "data": {"type": "idx",
    "images": "$mnist/train-images-idx3-ubyte.gz", "labels": "$mnist/train-labels-idx1-ubyte.gz",
    "test_images": "$mnist/t2k-images-idx3-ubyte.gz",
    "test_labels": "$mnist/t2k-labels-idx1-ubyte.gz",
    "cache_dir": "$scratch/cache", "normalize": {"mean": 0.1307, "std": 0.3081}},
  "train": {"max_steps": 60, "batch_size": 32}, "optimizer": {"lr": 0.01},
  "log": {"progress": "none"}
}
END
    local labels=$scratch/labels images=$scratch/images
    train mnist mnist
    "$QUERN" eval "$scratch/mnist" --split test --json >"$scratch/test.json"
    gzip -dc "$mnist/t2k-images-idx3-ubyte.gz" >"$images"
    gzip -dc "$mnist/t2k-labels-idx1-ubyte.gz" | tail -c +9 | od -An -v -tu1 -w1 |
        tr -d ' ' >"$labels"
    "$QUERN" predict "$scratch/mnist" --input "$images" --out "$scratch/p.csv"
    "$QUERN" predict "$scratch/mnist" --input "$images" --out "$scratch/p.jsonl"
    [ "$(head -n 1 "$scratch/p.csv" | cut -d, -f1-4)" = index,class,probability,p0 ]
    tail -n +2 "$scratch/p.csv" | cut -d, -f2 >"$scratch/classes"
    same classes "$(cat "$scratch/classes")" "$(jq .class "$scratch/p.jsonl")"
    paste "$scratch/classes" "$labels" |
        awk '$1 == $2 { n++ } END { print n / NR }' >"$scratch/accuracy"
    jq -r '."eval/accuracy"' "$scratch/test.json" | paste - "$scratch/accuracy" |
        awk '{ print; exit !($1 > 0.5 && ($1 - $2) ^ 2 < 1e-10) }'
    jq -se 'all(.[]; (.probabilities | add - 1 | fabs) < 1e-5
        and .probability == (.probabilities | max))' "$scratch/p.jsonl"
}
check predict_features

predict_text() { # RUN
    head -n 5 "$scratch/corpus.txt" >"$scratch/lines.txt"
    "$QUERN" predict "$scratch/$1" --input "$scratch/lines.txt" --out "$scratch/t.jsonl"
    "$QUERN" predict "$scratch/$1" --input "$scratch/lines.txt" --out "$scratch/t.csv"
    [ "$(wc -l <"$scratch/t.csv")" -eq 6 ]
    jq -se 'length == 5 and all(.[]; .loss > 0 and .loss < 4 and
        ((.loss | exp) - .perplexity | fabs) < 1e-9 and .tokens > 20)' "$scratch/t.jsonl"
    same losses "$(jq .loss "$scratch/t.jsonl")" "$(tail -n +2 "$scratch/t.csv" | cut -d, -f3)"
    printf 'the QUICK dog\n' >"$scratch/foreign.txt"
    exits 3 "$QUERN" predict "$scratch/$1" --input "$scratch/foreign.txt" --out "$scratch/f.csv" \
        2>"$scratch/message"
    says "$scratch/message" 'foreign.txt:1'
    [ ! -e "$scratch/f.csv" ]
}
check predict_text gpt2
check predict_text llama

# What is learned stands in brackets, examples that share a row are told apart, and a mistake in the
# data is named with its line.
prepare_shows() {
    local out
    printf '{"prompt": "ab ", "completion": "cd"}\n{"prompt": "e", "completion": "fg"}\n' \
        >"$scratch/pairs.jsonl"
    cat >"$scratch/prepare.json" <<END
{"model": {"type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
 "data": {"type": "conversations", "path": "pairs.jsonl", "block_size": 32, "val_fraction": 0,
          "tokenizer": "$root/tests/golden/tokenizer_models/bpe_bytes.model"},
 "train": {"max_steps": 1}}
END
    out=$("$QUERN" prepare "$scratch/prepare.json" --show 1)
    echo "$out"
    grep -q 'pairs.jsonl: jsonl, prompt_completion, 2 records' <<<"$out"
    grep -q '^train: 2 examples' <<<"$out"
    grep -q 'ab\[ cd' <<<"$out"
    grep -q '^--$' <<<"$out"
    echo '{"prompt": "x"}' >>"$scratch/pairs.jsonl"
    ! "$QUERN" prepare "$scratch/prepare.json" 2>"$scratch/err"
    grep -q 'pairs.jsonl:3:1: "completion": found nothing, expected a string' "$scratch/err"
}
check prepare_shows

# ---- plan ------------------------------------------------------------------------------------

plan_adds_up() { # CONFIG OPTION...
    "$QUERN" plan "$scratch/$1.json" "${@:2}" --json >"$scratch/plan.json"
    jq -e '([.classes[]] | add) == .total_bytes
        and .total_bytes == .run_bytes + .pool_bytes + .classes["checkpoint snapshot"]
        and ([.programs[].pool_bytes] | max) == .pool_bytes
        and .flops_per_step == (.programs["micro-first"].flops + .programs.update.flops
            + .programs["micro-accumulate"].flops)
        and .parameters >= .trainable' "$scratch/plan.json"
    says <("$QUERN" plan "$scratch/$1.json" "${@:2}") "$(jq .total_bytes "$scratch/plan.json")"
}
check plan_adds_up gpt2
check plan_adds_up llama --set precision=bf16
check plan_adds_up llama --set precision=bf16_sr --set checkpoint.async=false

plan_recompute() { # recomputing needs less memory and more arithmetic
    plan_adds_up gpt2 --set train.recompute=[] --set train.batch_size=64
    cp "$scratch/plan.json" "$scratch/keep.json"
    plan_adds_up gpt2 --set train.batch_size=64
    jq -se '.[0].pool_bytes > .[1].pool_bytes and .[0].flops_per_step < .[1].flops_per_step' \
        "$scratch/keep.json" "$scratch/plan.json"
}
check plan_recompute

# Llama-2-7B: LoRA fits a 40 GB card; the full fine-tune's 18 bytes a parameter do not, and the plan
# says by how much and what would.
plan_card() {
    local lora='{"type": "lora", "r": 8}' parameters=6738415616 need
    cat >"$scratch/7b.json" <<END
{"model": {"type": "llama", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
           "num_attention_heads": 32, "intermediate_size": 11008}, "precision": "bf16",
 "data": {"type": "tokens", "path": "none.bin", "block_size": 2048},
 "train": {"max_steps": 1, "batch_size": 1}, "eval": {"batch_size": 1}}
END
    "$QUERN" plan "$scratch/7b.json" --card 40GB --set adapter="$lora" >"$scratch/lora" 2>/dev/null
    grep -q 'on a card of 37.25 GiB.*: fits$' "$scratch/lora"
    "$QUERN" plan "$scratch/7b.json" --card 40GB >"$scratch/full" 2>/dev/null
    tail -8 "$scratch/full"
    grep -q ': does NOT fit$' "$scratch/full"
    grep -q 'this run .* too many$' "$scratch/full"
    grep -q 'LoRA, r = 8, on all linears, bf16 .* fits$' "$scratch/full"
    need=$("$QUERN" plan "$scratch/7b.json" --card 40GB --json 2>/dev/null |
        jq -r "select(.fits == false) | .need_bytes")
    [ "$need" -gt $((18 * parameters)) ]
    [ "$need" -lt $((21 * parameters)) ]
    exits 2 "$QUERN" plan "$scratch/7b.json" --card big 2>/dev/null
}
check plan_card

# ---- schema, config, completion, inspect, report, doctor -------------------------------------

schema() { # what ships satisfies it, comments taken out
    "$QUERN" schema >"$scratch/schema.json"
    cmp "$scratch/schema.json" "$root/configs/schema.json"
    python3 -c 'import jsonschema' 2>/dev/null || { echo "no python3-jsonschema" && return 77; }
    python3 - "$scratch/schema.json" "$scratch"/configs/*.json "$scratch/gpt2.json" <<'END'
import json, re, sys
import jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft7Validator.check_schema(schema)
string_or_comment = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.S)
checked = 0
for path in sys.argv[2:]:
    if path.endswith("/schema.json"):
        continue
    text = string_or_comment.sub(lambda m: m.group(1) or "", open(path).read())
    jsonschema.validate(json.loads(text), schema)
    checked += 1
assert checked >= 5, checked
try:
    jsonschema.validate({"model": {"type": "gpt3"}}, schema)
except jsonschema.ValidationError:
    sys.exit(0)
sys.exit("the schema accepts a model type that there is not")
END
}
check schema

shows_origins() {
    "$QUERN" config show "$scratch/gpt2.json" --set train.max_steps=12 >"$scratch/show"
    grep -q '"max_steps": 12, *// --set$' "$scratch/show"
    grep -q '"lr": 0.003, *// .*gpt2.json:7' "$scratch/show"
    grep -q '"weight_decay": 0.01, *// default' "$scratch/show"
    "$QUERN" config reference | grep '`optimizer.lr`' >/dev/null
}
check shows_origins

templates() { # each is valid as it is written, beside a model where it wants one
    local name
    mkdir "$scratch/model"
    echo '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 9,
           "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
           "num_attention_heads": 2}' >"$scratch/model/config.json"
    for name in $("$QUERN" init --list | cut -d' ' -f1); do
        "$QUERN" init "$name" --out "$scratch/$name.init.json"
        "$QUERN" config show "$scratch/$name.init.json" >/dev/null
        exits 2 "$QUERN" init "$name" --out "$scratch/$name.init.json" 2>/dev/null
    done
    [ -e "$scratch/gpt2_text.init.json" ]
}
check templates

completion() {
    "$QUERN" completion bash >"$scratch/completion"
    bash -euc '. "$1"; complete -p quern' - "$scratch/completion"
    says "$scratch/completion" generate
}
check completion

inspect() { # RUN
    "$QUERN" inspect "$scratch/$1" --json >"$scratch/inspect.json"
    jq -e . "$scratch/inspect.json" >/dev/null
    "$QUERN" inspect "$scratch/$1" | grep 'blocks.0' >/dev/null
    [[ "$(digest "$1")" =~ ^[0-9a-f]{64}$ ]]
    same digest "$(digest "$1")" \
        "$("$QUERN" inspect "$scratch/$1/checkpoints/step-00000040" --digest)"
    exits 0 "$QUERN" inspect "$scratch/$1/final" >/dev/null
}
check inspect gpt2

report_again() {
    rm "$scratch/gpt2/report.html"
    "$QUERN" report "$scratch/gpt2"
    says "$scratch/gpt2/report.html" '<svg'
    lacks "$scratch/gpt2/report.html" 'src="http'
}
check report_again

doctor() {
    "$QUERN" doctor --json | jq -e '.quern and .cpu and .hdf5' >/dev/null
    "$QUERN" doctor | grep openblas >/dev/null
    jq -e '.threads == "1"' "$scratch/gpt2/env.json"
}
check doctor

benchmarks() {
    "$QUERN" bench --tiny --device cpu copy layernorm >"$scratch/bench" 2>/dev/null
    [ "$(grep -cE '^(copy|layernorm) .* GB/s' "$scratch/bench")" -eq 2 ]
    "$QUERN" bench --tiny --device cpu --json --threads 1 --repeats 3 copy |
        jq -e '.kernel == "copy" and .median_us > 0 and .repeats == 3 and .error == 0' >/dev/null
    exits 2 "$QUERN" bench --tiny --device cpu copyy
}
check benchmarks

profile() {
    train gpt2 profiled --profile --set train.max_steps=6
    says "$scratch/profiled.err" 'GFLOP/s'
    jq -e 'length > 20 and all(.[]; .dur >= 0)' "$scratch/profiled/profile.json"
    digest profiled
    train gpt2 unprofiled --set train.max_steps=6
    same states "$(digest profiled)" "$(digest unprofiled)"
}
check profile

# A reader that went away ends a command as it does other programs, without a word. (A training run
# goes on: test_signals.sh.) File descriptor 5 writes to a pipe that nobody reads any more.
closed_pipe() {
    mkfifo "$scratch/pipe"
    exec 4<>"$scratch/pipe" 5>"$scratch/pipe" 4<&-
    for verb in help schema doctor 'config reference' "plan $scratch/gpt2.json" \
        "eval $scratch/gpt2" "inspect $scratch/gpt2"; do
        # shellcheck disable=SC2086 # verb and arguments
        exits 141 "$QUERN" $verb >&5 2>"$scratch/message"
        [ ! -s "$scratch/message" ]
    done
}
check closed_pipe

init_from() { # weights only: the loss goes on where it was, the steps begin anew
    train llama second --set model.init_from="$scratch/llama" --set train.max_steps=6 \
        --set eval.at_start=true
    same loss "$(rows eval/loss llama | sed -n 's/^40 //p')" \
        "$(rows eval/loss second | sed -n 's/^0 //p')"
    exits 1 train gpt2 third --set model.init_from="$scratch/llama"
    says "$scratch/third.err" model.init_from
}
check init_from
finish
