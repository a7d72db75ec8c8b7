#!/usr/bin/env bash
# `quern generate`: the same text however many threads there are and however the prompt is cut.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

context=80
learn() { # MODEL RUN [OPTION...]
    train "$1" "$2" --set data.block_size=$context --set train.max_steps=300 \
        --set optimizer.lr=1e-2 --set model.dropout=0 --set model.attention_dropout=0 \
        --set model.embedding_dropout=0 --set log.every=100 --set eval.every=100 \
        --set checkpoint.every=0 --set early_stopping.mode=min --set train.recompute=[] "${@:3}"
}
learn gpt2 gpt2
learn llama llama
words=$(head -n 4 "$scratch/corpus.txt")

generate() { # RUN PROMPT TOKENS [OPTION...]
    "$QUERN" generate "$scratch/$1" --prompt "$2" --max-new-tokens "$3" --temperature 0 "${@:4}"
}

learned() { # RUN: words of the data, and exactly as many characters as were asked for
    local text word
    text=$(generate "$1" 'the ' 60)
    echo "$text"
    [ ${#text} -eq 64 ]
    for word in $(tr -s ' \n' '\n' <<<"$text" | sed '$ d'); do
        grep -qw "$word" "$scratch/corpus.txt"
    done
}
check learned gpt2
check learned llama

threads() { # RUN
    local one
    one=$(generate "$1" 'a dog ' 70)
    same texts "$one" "$(generate "$1" 'a dog ' 70)"
    learn "$1" "two.$1" --set threads=2
    same texts "$one" "$(generate "two.$1" 'a dog ' 70)"
}
check threads gpt2
check threads llama

# What was generated token by token, given as a prompt instead, goes on in the same way. A prompt is
# read in chunks of 64, what is left of it token by token.
prompts() { # RUN
    local whole n
    whole=$(generate "$1" t $((context - 1)))
    [ ${#whole} -eq $context ]
    for n in 1 2 31 62 63 64 65 66 $((context - 1)); do
        same "prompt of $n tokens" "$whole" "$(generate "$1" "${whole:0:n}" $((context - n)))"
    done
}
check prompts gpt2
check prompts llama

# A full context slides: the later half is read again. Text from there on depends on nothing before.
beyond() { # RUN
    local long tail
    long=$(generate "$1" "${words:0:10}" 200)
    [ ${#long} -eq 210 ]
    same texts "$long" "$(generate "$1" "${words:0:10}" 200)"
    tail=$(generate "$1" "${long:context/2+1:context/2}" $((context / 2)))
    same "what follows" "${long:context/2+1:context}" "$tail"
    long=$(generate "$1" "$words" 20)
    [ ${#long} -eq $((${#words} + 20)) ]
}
check beyond gpt2
check beyond llama

sampling() { # seeds decide; one candidate is no choice
    local hot=(--temperature 1 --max-new-tokens 60 --prompt 'the ') greedy
    greedy=$(generate llama 'the ' 60)
    same texts "$("$QUERN" generate "$scratch/llama" "${hot[@]}" --seed 3)" \
        "$("$QUERN" generate "$scratch/llama" "${hot[@]}" --seed 3)"
    [ "$("$QUERN" generate "$scratch/llama" "${hot[@]}" --seed 3)" != \
        "$("$QUERN" generate "$scratch/llama" "${hot[@]}" --seed 4)" ]
    same top-k "$greedy" "$("$QUERN" generate "$scratch/llama" "${hot[@]}" --top-k 1)"
    same top-p "$greedy" "$("$QUERN" generate "$scratch/llama" "${hot[@]}" --top-p 1e-9)"
}
check sampling

empty_prompt() { [ "$(generate gpt2 '' 5 | wc -c)" -eq 6 ]; }
check empty_prompt

foreign() { # a character that the vocabulary lacks
    exits 3 generate gpt2 'the Q' 5 >/dev/null 2>"$scratch/message"
    says "$scratch/message" '--prompt'
}
check foreign

no_final() { # a run that was interrupted generates from its newest checkpoint
    train llama cut --set train.max_steps=6 --set checkpoint.save_final=false
    [ ! -e "$scratch/cut/final" ]
    generate cut 'the ' 5
}
check no_final
finish
