#!/usr/bin/env bash
# Plants each violation tests/lint.sh knows in a small, clean tree and sees it caught on its line.
# shellcheck source=tests/check.sh
. "$(dirname "$0")/check.sh"

plain_tree() {
    local room
    mkdir -p "$1"
    pushd "$1" >/dev/null || return 1
    for room in kernels engine layers optim io bench tests configs; do mkdir -p "$room"; done
    echo '/* kernels.h — the vocabulary. */' >kernels/kernels.h
    echo '/* engine.h — what a computation is. */' >engine/engine.h
    echo '#include "kernels/kernels.h"' >>engine/engine.h
    echo '/* sgd.c — plain gradient descent. */' >optim/sgd.c
    echo '/* linear.c — one matrix and a bias. */' >layers/linear.c
    echo '/* main.c — the command line. */' >io/main.c
    echo '/* data.c — where samples come from. */' >io/data.c
    echo '/* test_sgd.c — the tests of sgd.c. */' >tests/test_sgd.c
    for room in kernels engine layers optim io; do
        { echo "# $room"; (cd "$room" && printf -- '- `%s`\n' *.[ch]); } >"$room/README.md"
    done
    {
        echo '# House'
        echo '## The path of one batch'
        printf -- '-> `%s`\n' io/main.c io/data.c engine/engine.h layers/linear.c engine/*.h \
            kernels/*.h optim/sgd.c io/*.c
    } >README.md
    echo '// quickstart: run it with quern train' >configs/quickstart.json
    echo '{}' >>configs/quickstart.json
    popd >/dev/null || return 1
}

clean_tree_is_clean() {
    local last
    plain_tree "$scratch/clean"
    "$root/tests/lint.sh" "$scratch/clean" >"$scratch/clean.out" 2>/dev/null || {
        cat "$scratch/clean.out"
        false
    }
    last=$(tail -n 1 "$scratch/clean.out")
    [ "$last" = "lint: 0 problems" ]
}

# Appends text to a file of a fresh tree; lint must print one problem, `FILE:LINE: ... [RULE]`.
catches() { # RULE FILE LINE TEXT
    local rule=$1 file=$2 line=$3 text=$4 tree="$scratch/planted"
    rm -rf "$tree"
    plain_tree "$tree"
    printf "$text" >>"$tree/$file"
    expect_one "$tree" "$file:$line" "$rule"
}

expect_one() { # TREE FILE:LINE RULE
    if "$root/tests/lint.sh" "$1" >"$scratch/out" 2>/dev/null; then
        echo "lint passed"
        return 1
    fi
    if ! grep -q "^$2: .*\[$3\]$" "$scratch/out" ||
        [ "$(tail -n 1 "$scratch/out")" != "lint: 1 problems" ]; then
        cat "$scratch/out"
        return 1
    fi
}

allows() { # FILE TEXT
    local tree="$scratch/allowed"
    rm -rf "$tree"
    plain_tree "$tree"
    printf "$2" >>"$tree/$1"
    "$root/tests/lint.sh" "$tree" >"$scratch/out" 2>/dev/null || { cat "$scratch/out"; return 1; }
}

repeat() { local i; for ((i = 0; i < $1; i++)); do printf '%s' "$2"; done; }

check clean_tree_is_clean

# Ladder
check catches ladder kernels/kernels.h 2 '#include "engine/engine.h"\n'
check catches ladder engine/engine.h 3 '#include "layers/linear.h"\n'
check catches ladder layers/linear.c 2 '#include "optim/optim.h"\n'
check catches ladder optim/sgd.c 2 '#include "layers/layers.h"\n'
check catches ladder optim/sgd.c 2 '#  include "io/data.h"\n'
check catches ladder io/data.c 2 '#include "tests/harness.h"\n'
check catches ladder engine/engine.h 3 '#include <hdf5.h>\n'
check catches include io/data.c 2 '#include "data.h"\n'
check catches include io/data.c 2 '#include "io/../engine/engine.h"\n'
check allows io/data.c '#include "layers/layers.h"\n#include "io/data.h"\n#include <hdf5.h>\n'
check allows tests/test_sgd.c '#include "io/data.h"\n'

# Texture of library code
check catches alloc io/data.c 2 'static void f(void) { char *p = malloc(3); }\n'
check catches alloc io/data.c 2 'static void f(char *p) { free(p); }\n'
check catches print io/data.c 2 'static void f(void) { fprintf(stderr, "x"); }\n'
check catches print engine/engine.h 3 'static inline void f(void) { printf("x"); }\n'
check catches exit optim/sgd.c 2 'static void f(void) { abort(); }\n'
check catches unsafe io/data.c 2 'static int f(const char *s) { return atoi(s); }\n'
check catches unsafe io/data.c 2 'static void f(char *a, char *b) { strcpy(a, b); }\n'
check catches fork io/data.c 2 'static int f(void) { return fork(); }\n'
check catches assert io/data.c 2 'static void f(int x) { assert(x); }\n'
check catches json tests/test_sgd.c 2 'static void f(char *s) { cJSON_ParseWithLength(s, 3); }\n'
check catches global engine/engine.h 3 'static int counter;\n'
check catches global optim/sgd.c 2 'double rate = 1.0;\n'
check catches global optim/sgd.c 3 'static void f(void) {\n    static int n = 0;\n}\n'
check catches dead io/data.c 2 '#if 0\n#endif\n'
check catches checked engine/engine.h 3 'qn_status qn_thing_make(int a,\n    int b);\n'
check catches checked engine/engine.h 3 'qn_status qn_record(qn_tape *t, int b);\n'
check allows engine/engine.h 'qn_status qn_thing_make(int a,\n    int b) QN_CHECKED;\n'
check allows engine/engine.h 'qn_status qn_pass(qn_status s, const char *why);\n'
check allows io/data.c '/* malloc(3), exit(1)\n * assert(x) */\n'
check allows io/data.c 'static const char *const s = "free(p)";\n'
check allows io/data.c 'static void f(qn_source *s) { s->free(s->self); }\n'
check allows io/main.c 'static void f(void) { printf("x"); }\n'

check catches ruler io/data.c 2 '/* ---- reading -----\n * ---- */\n'

# Sizes
check catches size io/data.c 700 "$(repeat 699 'int f(void);\n')"
check catches function io/data.c 2 "int f(void) {\n$(repeat 120 '    g();\n')}\n"
check catches columns io/data.c 2 "/* $(repeat 100 x) */\n"
check allows io/data.c "/* $(repeat 80 —) */\n"

# Text
check catches tab io/data.c 2 'int\tf(void);\n'
check catches blank io/data.c 2 'int f(void); \n'
check catches path io/data.c 2 '/* see /wor''k/main */\n'
check catches todo io/data.c 2 '/* TO''DO later */\n'
check catches todo io/data.c 2 '/* FIX''ME: later */\n'
check allows io/data.c '/* a mastodon, XXXL */\n'

# Documents
check catches document README.md 12 'See `io/gone.c`.\n'
check catches document README.md 12 'See `bench/gone/`.\n'
check catches document io/README.md 4 '`gone.c`\n'
check catches document README.md 12 '[licence](LICENSE)\n'
check allows README.md 'See `io/<source>.c` and [the web](https://example.org/x).\n'

planted() { # NAME FILE:LINE RULE COMMAND: violations that need more than one appended line
    local tree="$scratch/planted"
    rm -rf "$tree"
    plain_tree "$tree"
    (cd "$tree" && eval "$4")
    expect_one "$tree" "$2" "$3"
}
check planted stem_in_two_rooms optim/sgd.c:1 stem \
    'echo "/* sgd.c — again, elsewhere. */" >layers/sgd.c; echo "\`sgd.c\`" >>layers/README.md'
check planted file_without_readme_line engine/extra.c:1 document \
    'echo "/* extra.c — in no README. */" >engine/extra.c'
check planted source_without_comment io/data.c:1 purpose 'echo "int f(void);" >io/data.c'
check planted comment_of_another_file io/data.c:1 purpose \
    'echo "/* date.c — where samples come from. */" >io/data.c'
check planted script_without_comment tests/go.sh:1 purpose \
    'printf "#!/bin/bash\necho\n" >tests/go.sh'
check planted config_without_comment configs/quickstart.json:1 purpose \
    'echo "{}" >configs/quickstart.json'
check planted short_path_of_one_batch README.md:1 document 'sed -i "/sgd.c/d; /data.c/d" README.md'
check planted untested_op engine/ops.h:1 untested '
    echo "/* ops.h — every op. */" >engine/ops.h
    echo "#define QN_OP_MAP(X) X(add) X(sgd) X(add_bwd)" >>engine/ops.h
    echo "\`ops.h\`" >>engine/README.md
    echo "int qn_op_sgd;" >>tests/test_sgd.c'

formatting() {
    clang-format --version 2>/dev/null | grep -q 'version 14\.' || {
        echo "clang-format 14 is not installed"
        return 77
    }
    planted formatting optim/sgd.c:2 format \
        'cp "$root/.clang-format" .; printf "int  f( void );\n" >>optim/sgd.c'
}
check formatting

header_beside_source() { # one stem, no problem
    local tree="$scratch/pair"
    plain_tree "$tree"
    echo '/* data.h — its interface. */' >"$tree/io/data.h"
    echo '`data.h`' >>"$tree/io/README.md"
    "$root/tests/lint.sh" "$tree" >/dev/null 2>&1
}
check header_beside_source
finish
