# shellcheck shell=bash
# For tests/test_*.sh: runs checks and prints their results in the lines tests/run.sh counts.
#
#   # shellcheck source=tests/check.sh
#   . "$(dirname "$0")/check.sh"
#   resumes() { "$QUERN" train ...; [ -f ... ]; }    # any failing command fails the check
#   check resumes
#   finish
#
# A check that prints a reason and returns 77 is skipped. $scratch is a fresh directory, removed at
# the end; $root is the repository; $QUERN is the program under test.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for the tests
QUERN=${QUERN_BINARY:-$root/build/release/quern}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/quern-test.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
check_failures=0

check() { # NAME [ARGUMENT...]: calls the function NAME in a subshell that stops at its first error
    local status name=${*//$'\n'/ }
    name=${name:0:100}
    echo "[ RUN      ] $name"
    (
        set -e
        "$@"
    )
    status=$?
    case $status in
    0) echo "[       OK ] $name" ;;
    77) echo "[  SKIPPED ] $name" ;;
    *)
        echo "[  ERROR   ] --- exit status $status"
        echo "[  FAILED  ] $name"
        check_failures=$((check_failures + 1))
        ;;
    esac
}

finish() { exit $((check_failures > 0)); }
