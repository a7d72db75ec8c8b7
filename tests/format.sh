#!/usr/bin/env bash
# Brings C files into the style of the house: clang-format, and rulers of exactly 100 columns.
#
#   tests/format.sh [FILE...]      without files: every source file
set -euo pipefail
cd "$(dirname "$0")/.."

files=("$@")
[ $# -gt 0 ] || mapfile -t files < <(git ls-files -co --exclude-standard '*.[ch]' '*.cu' '*.cuh')
perl -CSD -0777 -pi -e '
    s{^/\* ---- (\S[^\n]*?)[ \-]*(?:\n[ \-]*(?:\*[ \-]+)?)*\*/$}
     {"/* ---- $1 " . "-" x (88 - length $1) . " */"}gem' "${files[@]}"
for _ in 1 2; do clang-format -i "${files[@]}"; done # trailing comments settle the second time
