#!/usr/bin/env bash
# Runs test programs, two at a time, and counts what they report.
#
#   tests/run.sh run LABEL RESULTS PROGRAM...   a line each; writes RESULTS/LABEL.NAME.{log,tsv}
#   tests/run.sh total RESULTS                  lists failures and skips; totals on the last line
#
# A program reports in cmocka's lines; tests/README.md tells which. A program that crashes, hangs
# for QUERN_TEST_TIMEOUT seconds (600), reports nothing, or exits non-zero without a failed test is
# one failure more. A program whose source says `Runs alone:` in its first 20 lines shares the
# machine with no other test.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)

# Reads a log, writes `passed|failed|skipped<TAB>test<TAB>reason` lines.
parse() { # PROGRAM STATUS LIMIT
    awk -v program="$1" -v status="$2" -v limit="$3" '
function result(kind, name, why) {
    printf "%s\t%s: %s\t%s\n", kind, program, name, why
    count[kind]++
    current = ""
}
function rest(    s) { s = $0; sub(/^\[[^]]*\] /, "", s); return s }
/^\[ RUN      \] / { current = rest(); reason = last = ""; next }
/ERROR: |WARNING: ThreadSan|runtime error:/ && note == "" { note = $0 }
current == "" { next }
/^\[       OK \] / { result("passed", current, ""); next }
/^\[  SKIPPED \] / { result("skipped", current, last == "" ? "no reason given" : last); next }
/^\[  FAILED  \] / { result("failed", current, reason == "" ? last : reason); next }
/^\[  ERROR   \] --- / && reason == "" { reason = substr($0, 18); next }
/^\[   LINE   \] --- / { s = $0; sub(/^.* --- /, "", s); sub(/: error.*/, "", s)
                         reason = s ": " reason; next }
/[^ ]/ { last = $0 }
END {
    if (status == 124 || status == 137) how = "ran longer than " limit " s"
    else if (status > 128) how = "killed by signal " status - 128
    else how = "exit status " status
    if (note != "") how = how ": " note
    if (current != "") result("failed", current, how)
    else if (status != 0 && !count["failed"]) result("failed", "(program)", how)
    else if (!count["passed"] && !count["failed"] && !count["skipped"])
        result("failed", "(program)", "reported no test")
}'
}

run_one() { # LABEL RESULTS PROGRAM
    local name base status start ns limit=${QUERN_TEST_TIMEOUT:-600}
    name=$(basename "$3")
    base=$2/$1.$name
    start=$(date +%s%N)
    {
        OMP_WAIT_POLICY=passive timeout -k 10 "$limit" "$3" >"$base.log" 2>&1 </dev/null
    } 2>/dev/null # the shell's own words about a crash
    status=$?
    parse "$1 $name" $status "$limit" <"$base.log" >"$base.tsv"
    ns=$(($(date +%s%N) - start))
    awk -F'\t' -v name="$1 $name" -v ns=$ns '
        { n[$1]++ }
        END {
            printf "%-36s %4d passed %3d failed %3d skipped %8.1f s%s\n", name, n["passed"],
                n["failed"], n["skipped"], ns / 1e9, n["failed"] ? "   <-- FAILED" : ""
        }' "$base.tsv"
}

runs_alone() { # PROGRAM
    local source
    source=$here/$(basename "$1")
    [ -f "$source" ] || source=$source.c
    head -n 20 "$source" 2>/dev/null | grep -q 'Runs alone:'
}

run() { # LABEL RESULTS PROGRAM...
    local label=$1 results=$2 program together=() alone=()
    shift 2
    mkdir -p "$results"
    for program; do
        if runs_alone "$program"; then alone+=("$program"); else together+=("$program"); fi
    done
    [ ${#together[@]} -eq 0 ] ||
        printf '%s\0' "${together[@]}" | xargs -0 -n 1 -P 2 "$0" one "$label" "$results"
    for program in ${alone[@]+"${alone[@]}"}; do run_one "$label" "$results" "$program"; done
}

total() { # RESULTS
    cat "$1"/*.tsv 2>/dev/null | awk -F'\t' -v results="$1" '
        { n[$1]++ }
        $1 == "skipped" { skips = skips sprintf("  %s\n      %s\n", $2, $3) }
        $1 == "failed" { failures = failures sprintf("  %s\n      %s\n", $2, $3) }
        END {
            if (skips != "") printf "\nSkipped:\n%s", skips
            if (failures != "") printf "\nFailed (logs in %s):\n%s", results, failures
            printf "\n%d passed, %d failed, %d skipped\n", n["passed"], n["failed"], n["skipped"]
            exit n["failed"] > 0 || n["passed"] == 0
        }'
}

case "${1:-}" in
run | total) "$@" ;;
one) run_one "$2" "$3" "$4" ;;
*)
    echo "usage: tests/run.sh run LABEL RESULTS PROGRAM... | total RESULTS" >&2
    exit 2
    ;;
esac
