#!/usr/bin/env bash
# `quern generate` as a conversation: a model that has learned what to answer answers it, line by
# line, from the run directory alone.
# shellcheck source=tests/small_runs.sh
. "$(dirname "$0")/small_runs.sh"

cd "$scratch" || exit 1
mkdir model
cp "$root/tests/golden/tokenizer_models/bpe_bytes.model" model/tokenizer.model
template="{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% if m.role == 'assistant' %}"
template+="{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
echo "{\"eos_token\": \"</s>\", \"chat_template\": \"$template\"}" >model/tokenizer_config.json

# What the answer is depends on the system message and on what was said before.
system() { printf '{"messages": [{"role": "system", "content": "%s"}, ' "$1"; }
turn() { printf '{"role": "user", "content": "%s"}, {"role": "assistant", "content": "%s"}' "$@"; }
{
    echo "$(system up)$(turn one 'the end.'), $(turn two 'over now.')]}"
    echo "$(system up)$(turn two 'some more.')]}"
    echo "$(system down)$(turn one 'a new way.')]}"
    echo "$(system down)$(turn two 'no place!'), $(turn one 'old time?')]}"
} >chats.jsonl
cp chats.jsonl more.jsonl

learn() { # NAME STEPS DATA
    cat >"$1.json" <<END
{"model": {"type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
           "max_position_embeddings": 256},
 "data": {"type": "conversations", "path": "more.jsonl", "val_path": "chats.jsonl", $3
          "block_size": 256},
 "train": {"max_steps": $2, "batch_size": 2},
 "optimizer": {"type": "adamw", "lr": 1e-2}, "eval": {"every": $2},
 "checkpoint": {"every": 0}, "log": {"every": 50, "progress": "none"}, "threads": 1}
END
    "$QUERN" train "$1.json" --out "$1" 2>"$1.err" || cat "$1.err"
}
learn talk 90 '"tokenizer": "model",'
learn text 120 '"tokenizer": "model/tokenizer.model", "chat_template": "chatml",'
# A template in a file, which lies beside the configuration.
mkdir other
mv model ./*.jsonl other
echo "${template//eos_token/\'END\'}" >other/form.jinja
learn other/file 90 '"tokenizer": "model", "chat_template": "form.jinja",'
mv other/file other/*.jsonl .
rm -r other # a run is enough

generate() { "$QUERN" generate "$@" --temperature 0 --max-new-tokens 40; }
talk() { # RUN INPUT [OPTION...]
    printf '%b' "$2" | generate "$1" --interactive "${@:3}"
}
lines() { printf '%s\n' "$@"; }

# The end of an answer is a special token in one run, a text of several tokens in the other.
remembers() { # RUN
    same "system up" "$(lines 'the end.' 'over now.')" "$(talk "$1" 'one\ntwo\n' --system up)"
    same "system down" "$(lines 'no place!' 'old time?')" "$(talk "$1" 'two\none\n' --system down)"
}
check remembers talk
check remembers text
check remembers file

commands() {
    same answers "$(lines 'the end.' 'some more.' 'a new way.' 'no place!' 'old time?')" \
        "$(talk talk 'one\n/reset\n\ntwo\n/system down\none\n/reset\ntwo\none\n/quit\nnever' \
            --system up 2>message)"
    [ ! -s message ]
    talk talk '/rest\n/help\n' 2>message >out
    says message 'expected /reset, /system, /quit or /help'
    says message '/system TEXT  begin anew'
    [ ! -s out ]
}
check commands

bad_line_costs_a_line() {
    same answers "$(lines 'the end.' 'over now.')" \
        "$(talk talk 'one\nt\xffwo\ntwo\n' --system up 2>message)"
    says message 'not UTF-8'
}
check bad_line_costs_a_line

# What no longer fits is forgotten, oldest first: the answer is the one without it.
forgets() {
    same answers "$(lines 'the end.' 'some more.')" \
        "$(talk talk 'one\ntwo\n' --system up --context 24 2>message)"
    says message 'the oldest messages are forgotten'
}
check forgets

prompts() {
    same answer 'a new way.' "$(generate talk --chat --system down --prompt one)"
    echo '{"prompt": "two"}' >prompts.jsonl
    sed -n 's/, {"role": "assistant", "content": "over now."}//p' chats.jsonl >>prompts.jsonl
    generate talk --prompts prompts.jsonl --chat --system down | sort >out # as they end
    same answers "$(lines 'no place!' 'over now.')" "$(sed 's/.*"text": "\([^"]*\)".*/\1/' out)"
    says out '"index": 0, "prompt": "two"'
    says out '{"role": "user", "content": "two"}], "text"'
    [ "$(grep -c '"finish_reason": "eos"' out)" -eq 2 ]
    generate text --chat --system up --prompt two --json >out
    says out '"text": "some more.", "finish_reason": "stop"'
}
check prompts

refused() {
    exits 3 generate talk --prompts chats.jsonl --chat 2>message
    says message 'chats.jsonl:1: messages: the last one is an answer'
    exits 3 generate talk --prompts chats.jsonl 2>message
    says message 'chats.jsonl:1:14: found messages, which --chat answers'
    exits 2 generate talk --interactive --prompt one 2>message
    says message '--interactive and --prompt exclude each other'
    exits 3 generate talk --chat --prompt one --chat-template nothing 2>message
    says message 'nothing: no chat template'
}
check refused

without_a_template() { # every line is a beginning; nothing is remembered
    train gpt2 plain --set train.max_steps=6
    talk plain 'the \nthe \n' >out 2>message
    says message 'every line is continued by itself'
    same lines "$(sed -n 1p out)" "$(sed -n 2p out)"
    same continued "$(generate plain --prompt 'the ')" "the $(talk plain 'the \n' 2>/dev/null)"
    exits 3 generate plain --chat --prompt 'the ' 2>message
    says message 'no chat template'
}
check without_a_template

# An interrupt ends the answer, and the conversation goes on. The interrupts come at the writes of
# the answer; its rest is never written.
interrupts() {
    can_trace || {
        echo "strace cannot trace here"
        return 77
    }
    printf 'one\n/reset\ntwo\n' >in
    ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o trace -P "$scratch/out" -e trace=write \
        -e inject=write:signal=INT:when=1 "$QUERN" generate talk --interactive --system up \
        --temperature 0 --max-new-tokens 40 <in >out
    cat out
    [ "$(wc -l <out)" -eq 2 ]
    [ "$(sed -n 2p out)" = 'some more.' ]
    [ "$(sed -n 1p out)" != 'the end.' ]
}
check interrupts
finish
