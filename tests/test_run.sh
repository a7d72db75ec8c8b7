#!/usr/bin/env bash
# The runner counts what programs report, and counts as failed what a program fails to report.
# shellcheck source=tests/check.sh
. "$(dirname "$0")/check.sh"

program() { # NAME BODY
    printf '#!/usr/bin/env bash\n%s\n' "$2" >"$scratch/$1"
    chmod +x "$scratch/$1"
}

# Runs one program; its results must be the given `kind<TAB>test<TAB>reason` lines, a tab as |.
reports() { # NAME BODY LINES
    local results="$scratch/results.$1"
    program "$1" "$2"
    export QUERN_TEST_TIMEOUT=${limit:-60}
    "$root/tests/run.sh" run x "$results" "$scratch/$1" >"$scratch/out"
    diff <(tr '\t' '|' <"$results/x.$1.tsv") <(printf "$3")
}

begin='echo "[ RUN      ] a"'
good="$begin; echo '[       OK ] a'"
check reports good "$good" 'passed|x good: a|\n'
check reports skips "$begin; echo 'no data here'; echo '[  SKIPPED ] a'" \
    'skipped|x skips: a|no data here\n'
check reports fails "$begin; echo '[  ERROR   ] --- 1 != 2'
    echo '[   LINE   ] --- tests/t.c:8: error: Failure!'; echo '[  FAILED  ] a'
    echo '[==========] 1 test(s) run.'; echo '[  FAILED  ] 1 test(s), listed below:'
    echo '[  FAILED  ] a'; exit 1" 'failed|x fails: a|tests/t.c:8: 1 != 2\n'
check reports crashes "$good; echo '[ RUN      ] b'; kill -SEGV \$\$" \
    'passed|x crashes: a|\nfailed|x crashes: b|killed by signal 11\n'
check reports leaves "$begin; exit 0" 'failed|x leaves: a|exit status 0\n'
check reports leaks "$good; echo 'ERROR: LeakSanitizer: 8 bytes'; exit 23" \
    'passed|x leaks: a|\nfailed|x leaks: (program)|exit status 23: ERROR: LeakSanitizer: 8 bytes\n'
check reports silent 'exit 0' 'failed|x silent: (program)|reported no test\n'
limit=1 check reports hangs "$begin; exec tail -f /dev/null" \
    'failed|x hangs: a|ran longer than 1 s\n'

totals() {
    local results="$scratch/totals" status=0
    program one 'for t in a b; do echo "[ RUN      ] $t"; echo "[       OK ] $t"; done'
    program two 'echo "[ RUN      ] c"; echo "no GPU"; echo "[  SKIPPED ] c"'
    "$root/tests/run.sh" run x "$results" "$scratch/one" "$scratch/two"
    "$root/tests/run.sh" total "$results" >"$scratch/out"
    [ "$(tail -n 1 "$scratch/out")" = "2 passed, 0 failed, 1 skipped" ]
    grep -q 'no GPU' "$scratch/out"
    program three 'echo "[ RUN      ] d"; echo "[  FAILED  ] d"; exit 1'
    "$root/tests/run.sh" run x "$results" "$scratch/three"
    "$root/tests/run.sh" total "$results" >"$scratch/out" || status=$?
    [ $status -eq 1 ]
    [ "$(tail -n 1 "$scratch/out")" = "2 passed, 1 failed, 1 skipped" ]
    grep -q 'x three: d' "$scratch/out"
}
check totals

nothing_ran() { ! "$root/tests/run.sh" total "$scratch/absent" >/dev/null; }
check nothing_ran
finish
