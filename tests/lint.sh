#!/usr/bin/env bash
# The house rules a script can check: include ladder, unique stems, sizes, texture, true READMEs.
#
#   tests/lint.sh [ROOT]      ROOT defaults to the repository this script lies in
#
# Prints `file:line: message [rule]` for each problem and `lint: N problems` last; exits 1 if N > 0.
# Where a file has a good reason to break a rule, it gets a row in `exceptions` with that reason.
set -uo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd) || exit 2
cd "${1:-$here/..}" || exit 2

rooms="kernels engine layers optim io"
max_lines=650          # aim at 150-400
max_function_lines=100 # aim below 80
max_columns=100

# Rule, file (a pattern is fine), reason.
exceptions() {
    cat <<'EOF'
alloc engine/arena.c the only place that talks to malloc
print io/main.c the command line speaks to people
print io/cli.c help is printed
print io/verb_*.c verbs print results
print io/profile.c the table that --profile asks for
exit io/verb_train.c a second interrupt ends the process at once
global kernels/emu/*.c one emulated device for the process, driven by one thread
alloc kernels/emu/*.c stands in for the driver; what it allocates is not the engine's
alloc kernels/emu/standin/*.c a library of its own, which stands in for one of NVIDIA's
print kernels/emu/*.c a test program prints findings as a sanitizer does
alloc kernels/emu/ptx2c/*.c a program of its own, which keeps all it reads until it ends
print kernels/emu/ptx2c/*.c a program of its own, run by the build
exit kernels/emu/ptx2c/*.c what cannot be read ends the translation
exit kernels/emu/*.c findings nobody cleared end the process with their own status
EOF
}

excepted=$(exceptions | while read -r rule files _; do
    for file in $files; do printf '%s:%s ' "$rule" "$file"; done
done)

# Every file of ours, without what is built, run, generated or hostile on purpose.
files() {
    find . \( -path ./build -o -path ./runs -o -name .git -o -path ./tests/golden \
        -o -path ./tests/hostile -o -path ./bench/results -o -name __pycache__ \) -prune \
        -o -type f "$@" -print | sed 's|^\./||' | sort
}
sources() { files \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \); }
scripts() { files \( -name '*.sh' -o -path './.ci/*' -o -name '*.py' \); }

check_sources() {
    sources | xargs -r awk -v excepted=" $excepted" -v max_lines=$max_lines \
        -v max_function_lines=$max_function_lines -f "$here/lint_source.awk"
}

# ---- every text file -------------------------------------------------------------------------

check_text() {
    files \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' -o -name '*.py' \
        -o -name '*.awk' -o -name '*.md' \
        -o -name '*.json' -o -name 'CMakeLists.txt' -o -path './.ci/*' \) |
        xargs -r awk -v max_columns=$max_columns '
function problem(rule, message) { printf "%s:%d: %s [%s]\n", FILENAME, FNR, message, rule }
/\t/ { problem("tab", "tab") }
/[ \r]$/ { problem("blank", "trailing blank") }
/\/wor[k]\/|\/hom[e]\/|\/roo[t]\// { problem("path", "path of one machine") }
/(^|[^A-Za-z])(TOD[O]|FIXM[E]|XX[X])([^A-Za-z]|$)/ {
    problem("todo", "unfinished work is an issue, not a comment")
}
FILENAME ~ /\.(c|h|cu|cuh|sh)$/ {
    s = $0; gsub(/[\200-\277]/, "", s) # a UTF-8 character is one column
    if (length(s) > max_columns) problem("columns", length(s) " columns, at most " max_columns)
}'
    files \( -name '*.sh' -o -name '*.py' -o -path './.ci/*' \) | while read -r file; do
        head -n 3 "$file" | grep -qE '^(# |""").*[a-z][a-z]' ||
            echo "$file:1: a script begins with a comment that says what it is for [purpose]"
    done
    files -path './configs/*.json' | while read -r file; do
        head -n 1 "$file" | grep -qE '^(//|/\*) *[^ ]' || [ "$file" = configs/schema.json ] ||
            echo "$file:1: a config begins with a comment: how to run, what to expect [purpose]"
    done
}

# ---- names -----------------------------------------------------------------------------------

check_stems() { # foo.c beside foo.h is one stem
    { sources; scripts; } | awk -F/ '
$1 !~ /^(kernels|engine|layers|optim|io|bench|tests)$/ { next }
{
    stem = $NF; sub(/\.[a-z]+$/, "", stem)
    folder = $0; sub(/\/[^\/]*$/, "", folder)
    kind = ($NF ~ /\.(h|cuh)$/) ? "header" : "body"
    if (stem in first && !(folder == first_folder[stem] && kind != first_kind[stem]))
        printf "%s:1: its stem is taken by %s [stem]\n", $0, first[stem]
    if (!(stem in first)) { first[stem] = $0; first_folder[stem] = folder; first_kind[stem] = kind }
}'
}

# ---- what the documents say ------------------------------------------------------------------

ticked() { # file:line token, for every `token` without blanks outside code blocks
    awk '/^```/ { code = !code }
         !code { n = split($0, part, "`")
                 for (i = 2; i <= n; i += 2)
                     if (part[i] !~ / / && part[i] != "") print FILENAME ":" FNR, part[i] }' "$@"
}

check_documents() {
    local where token file path room base listed
    local in_a_room='^(kernels|engine|layers|optim|io|bench|tests|configs)/[A-Za-z0-9_*./-]+$'
    while read -r file; do
        room=${file%/*}
        while read -r where token; do
            if [[ $token =~ $in_a_room ]]; then
                path=$token
            elif [[ $room != "$file" && $token =~ ^[a-z0-9_*]+\.(c|h|cu|cuh|sh)$ ]]; then
                path=$room/$token
            else
                continue
            fi
            compgen -G "${path%/}" >/dev/null || echo "$where: $path does not exist [document]"
        done < <(ticked "$file")
        while IFS=: read -r where token; do
            token=${token#*](} token=${token%%[)#]*}
            [ -z "$token" ] || [ -e "$(dirname "$file")/$token" ] ||
                echo "$file:$where: link to $token, which does not exist [document]"
        done < <(grep -noE '\]\([^)]*\)' "$file" | grep -v '://')
    done < <(files -name '*.md')

    for room in $rooms; do
        [ -d "$room" ] || continue
        listed=$(ticked "$room/README.md" 2>/dev/null | sed "s|^[^ ]* ||; s|^$room/||")
        for file in "$room"/*.c "$room"/*.h "$room"/*.cu "$room"/*.cuh; do
            [ -e "$file" ] || continue
            base=${file##*/}
            while read -r token; do
                # shellcheck disable=SC2053 # the token is a pattern
                [[ $base == $token ]] && continue 2
            done <<<"$listed"
            echo "$file:1: not named in $room/README.md [document]"
        done
    done
}

check_path_of_one_batch() {
    local n=0
    [ ! -f README.md ] || n=$(sed -n '/^## The path of one batch$/,/^## /p' README.md |
        ticked /dev/stdin | grep -cE ' (kernels|engine|layers|optim|io)/')
    [ "$n" -ge 8 ] ||
        echo "README.md:1: 'The path of one batch' names $n stations, at least 8 [document]"
}

check_ops() { # every op of the list is exercised by name in some test
    [ -f engine/ops.h ] || return 0
    local op
    sed -n '/#define QN_OP_MAP/,/[^\\]$/p' engine/ops.h | grep -oE 'X\([a-z0-9_]+\)' |
        sed 's/X(\(.*\))/\1/' | grep -v _bwd | while read -r op; do
        grep -qE "(^|[^a-z0-9_])(qn_op_$op|qn_$op)([^a-z0-9_]|$)" tests/*.c 2>/dev/null ||
            echo "engine/ops.h:1: no test names the op $op [untested]"
    done
}

# ---- tools, where the machine has them -------------------------------------------------------

check_with_tools() {
    local file
    if clang-format --version 2>/dev/null | grep -q 'version 14\.' && [ -f .clang-format ]; then
        sources | xargs -r clang-format --dry-run 2>&1 |
            awk -F: '/-Wclang-format-violations/ && !seen[$1]++ {
                printf "%s:%s: not in the style of .clang-format [format]\n", $1, $2 }'
    else
        echo "lint: clang-format 14 not found, formatting not checked" >&2
    fi
    if command -v shellcheck >/dev/null; then
        files \( -name '*.sh' -o -path './.ci/*' \) | xargs -r shellcheck -x -S warning -f gcc |
            sed 's/$/ [shell]/'
    else
        echo "lint: shellcheck not found, scripts not checked" >&2
    fi
}

problems=$(
    check_sources
    check_text
    check_stems
    check_documents
    check_path_of_one_batch
    check_ops
    check_with_tools
)
count=0
if [ -n "$problems" ]; then
    count=$(wc -l <<<"$problems")
    sort -t: -k1,1 -k2,2n <<<"$problems"
fi
echo "lint: $count problems"
[ "$count" -eq 0 ]
