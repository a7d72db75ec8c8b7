#!/usr/bin/env bash
# `quern tokenize`: ids, spellings and places of a text, and texts of ids.
# shellcheck source=tests/check.sh
. "$(dirname "$0")/check.sh"

mkdir "$scratch/model"
cat >"$scratch/model/tokenizer.json" <<'END'
{"added_tokens": [{"id": 9, "content": "<s>", "special": true}],
 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
 "post_processor": {"type": "TemplateProcessing",
   "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], "pair": [],
   "special_tokens": {"<s>": {"id": "<s>", "ids": [9], "tokens": ["<s>"]}}},
 "decoder": {"type": "ByteLevel"},
 "model": {"type": "BPE", "merges": ["a b", "Ġ ab"],
   "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "<": 5, "s": 6, ">": 7, "Ċ": 8}}}
END

tokenize() { "$QUERN" tokenize --tokenizer "$scratch/model" "$@"; }

ids() {
    [ "$(printf 'ab ab<s>a' | tokenize -)" = "9 2 4 9 0" ]
    printf 'ab ab<s>a' >"$scratch/text"
    [ "$(tokenize "$scratch/text")" = "9 2 4 9 0" ]
    [ "$(tokenize --no-special "$scratch/text")" = "2 4 5 6 7 0" ]
    local file=$scratch/model/tokenizer.json
    [ "$("$QUERN" tokenize --tokenizer "$file" "$scratch/text")" = "9 2 4 9 0" ]
    [ -z "$(printf '' | tokenize --no-special -)" ]
}
check ids

json() {
    [ "$(tokenize --json "$scratch/text")" = \
        '{"ids":[9,2,4,9,0],"tokens":["<s>","ab","Ġab","<s>","a"],"starts":[0,0,2,5,8]}' ]
    [ "$(echo '2 4 8' | tokenize --decode --json -)" = '{"text":"ab ab\n"}' ]
}
check json

texts() {
    [ "$(printf '9 2\n 4\t9 0' | tokenize --decode -)" = "<s>ab ab<s>a" ]
    [ "$(echo 9 2 4 9 0 | tokenize --decode --no-special -)" = "ab aba" ]
    [ "$(tokenize --no-special "$scratch/text" | tokenize --decode -)" = "ab ab<s>a" ]
}
check texts

refuses() { # STATUS MESSAGE INPUT [OPTION...]
    local status=0
    printf '%b' "$3" | tokenize "${@:4}" - >"$scratch/out" 2>&1 || status=$?
    cat "$scratch/out"
    [ "$status" -eq "$1" ]
    grep -q -- "$2" "$scratch/out"
}
check refuses 3 'offset 1, expected UTF-8' 'a\0377'
check refuses 3 'expected a token of the tokenizer' '2 77' --decode
check refuses 3 'at byte 2, expected an id' '2 x' --decode
check refuses 3 'expected an id' '99999999999' --decode

no_tokenizer() { # STATUS MESSAGE [OPTION...]
    local status=0
    "$QUERN" tokenize "${@:3}" "$scratch/text" >"$scratch/out" 2>&1 || status=$?
    cat "$scratch/out"
    [ "$status" -eq "$1" ]
    grep -q -- "$2" "$scratch/out"
}
check no_tokenizer 2 'expected --tokenizer PATH'
check no_tokenizer 3 'found no tokenizer' --tokenizer "$scratch"

# ---- quern tokenizer-train -------------------------------------------------------------------

printf 'the cat and the hat; the bath\n%.0s' 1 2 3 >"$scratch/a.txt"
printf 'caf\303\251 and the <s> path\n' >"$scratch/b.txt"

train() { "$QUERN" tokenizer-train "$@" >"$scratch/out" 2>&1; }

learns() {
    train --vocab-size 270 --special '<s>,</s>' --out "$scratch/new" "$scratch"/[ab].txt
    grep -q 'new: 270 tokens, 12 merges; from 113 bytes' "$scratch/out"
    [ "$(sed -n 2,3p "$scratch/new/merges.txt")" = "$(printf 't h\nth e')" ]
    local file
    for file in tokenizer.json vocab.json; do # both forms are the same tokenizer
        "$QUERN" tokenize --tokenizer "$scratch/new/$file" --no-special "$scratch/b.txt" \
            >"$scratch/$file.ids"
        "$QUERN" tokenize --tokenizer "$scratch/new/$file" --decode "$scratch/$file.ids" |
            cmp - "$scratch/b.txt"
    done
    cmp "$scratch/tokenizer.json.ids" "$scratch/vocab.json.ids"
    [ "$(printf '<s>the' | "$QUERN" tokenize --tokenizer "$scratch/new" -)" = "0 $(
        jq .the "$scratch/new/vocab.json")" ]
}
check learns

says_what_is_missing() {
    train --vocab-size 1000 --out "$scratch/new" "$scratch/b.txt"
    grep -q 'of the 1000 asked for: no further pair occurs 2 times' "$scratch/out"
}
check says_what_is_missing

train_refuses() { # STATUS MESSAGE ARGUMENT...
    local status=0
    train "${@:3}" || status=$?
    cat "$scratch/out"
    [ "$status" -eq "$1" ]
    grep -q -- "$2" "$scratch/out"
    [ ! -e "$scratch/none" ]
}
gzip -k "$scratch/a.txt"
printf 'ab\377' >"$scratch/latin.txt"
check train_refuses 2 'expected --vocab-size N and --out DIR' "$scratch/a.txt"
check train_refuses 2 'found 300, expected 301' --vocab-size 300 --out "$scratch/none" \
    --special "$(seq -s, 45)" "$scratch/a.txt"
check train_refuses 3 'latin.txt: byte 2: expected UTF-8' --vocab-size 300 --out "$scratch/none" \
    "$scratch/latin.txt"
check train_refuses 3 'unpack it first' --vocab-size 300 --out "$scratch/none" "$scratch/a.txt.gz"
check train_refuses 3 'cannot be opened' --vocab-size 300 --out "$scratch/none" "$scratch/x.txt"
check train_refuses 3 'split pattern' --vocab-size 300 --out "$scratch/none" --pattern '(a' \
    "$scratch/a.txt"

finish
