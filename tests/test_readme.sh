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

check names_what_exists
check has_runnable_blocks
for ((i = 1; i <= blocks; i++)); do check block_runs $i; done
check configuration_is_valid
finish
