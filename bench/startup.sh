#!/usr/bin/env bash
# How long commands take that need no device, and how long it is from launch to the first step.
#
#   bench/startup.sh [QUERN]        default: build/release/quern
#
# Medians, with the fastest and the slowest, of 20 runs each. Goals: 50 ms for the commands, 300 ms
# to the first step of configs/shakespeare_char.json. Its data is found by QUERN_DATA; without it a
# text of the same size and number of characters stands in.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
quern=$(realpath "${1:-$root/build/release/quern}")
runs=20
scratch=$(mktemp -d "${TMPDIR:-/tmp}/quern-startup.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

if [ -z "${QUERN_DATA:-}" ]; then
    mkdir "$scratch/tinyshakespeare"
    awk 'BEGIN {
        set = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ !$&,-.:;?3\047"
        for (line = 0; line < 27884; line++) {
            text = ""
            for (i = 0; i < 39; i++) text = text substr(set, 1 + int(rand() * length(set)), 1)
            print text
        }
    }' | gzip >"$scratch/tinyshakespeare/input.txt.gz"
    export QUERN_DATA=$scratch
    echo "QUERN_DATA is not set: a random text stands in for tinyshakespeare"
fi

statistics() { # NAME: of milliseconds, one a line
    sort -n | awk -v name="$1" '
        { t[NR] = $1 }
        END { printf "%-46s median %7.1f ms   %7.1f to %7.1f\n", name,
              (t[int((NR + 1) / 2)] + t[int(NR / 2) + 1]) / 2, t[1], t[NR] }'
}

milliseconds() { # FROM TO, in nanoseconds
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", (b - a) / 1e6 }'
}

command_time() { # ARGUMENT...
    local i start
    for ((i = 0; i < runs; i++)); do
        start=$(date +%s%N)
        "$quern" "$@" >/dev/null
        milliseconds "$start" "$(date +%s%N)"
    done | statistics "quern ${*/$root\/}"
}

# Until the line of step 1 is there, which is written after the step.
first_step() { # CONFIG
    local i start line
    for ((i = 0; i < runs; i++)); do
        start=$(date +%s%N)
        while read -r line; do
            [[ $line == *' step 1/'* ]] && milliseconds "$start" "$(date +%s%N)"
        done < <("$quern" train "$1" --out "$scratch/run.$i" --set train.max_steps=1 \
            --set scheduler.warmup_steps=0 --set eval.every=1000 --set eval.batches=1 \
            --set log.every=1 --set log.progress=plain 2>&1)
    done | statistics "to the first step of ${1##*/}"
}

"$quern" doctor | grep -E '^(quern|cpu|cores)'
command_time help
command_time schema
command_time validate "$root/configs/shakespeare_char.json"
command_time plan "$root/configs/shakespeare_char.json"
first_step "$root/configs/shakespeare_char.json"
