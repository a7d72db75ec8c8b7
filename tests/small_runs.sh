# shellcheck shell=bash
# For tests that train: small data, small configurations, and a way to stop a run at an exact place.
#
#   # shellcheck source=tests/small_runs.sh
#   . "$(dirname "$0")/small_runs.sh"
#
# Comes with check.sh. $scratch holds corpus.txt, gpt2.json and llama.json: 40 steps of a second or
# less, with everything on that must survive a resume.
# shellcheck source=tests/check.sh
. "$(dirname "${BASH_SOURCE[0]}")/check.sh"

export OMP_WAIT_POLICY=passive

awk 'BEGIN {
    n = split("the a dog cat runs sleeps over under quick brown fox and jumps lazy river", w, " ")
    for (line = 0; line < 260; line++) {
        text = ""
        for (i = 0; i < 9; i++) {
            seed = (seed * 1103515245 + 12345) % 2147483648
            text = text (i ? " " : "") w[1 + int(seed / 65536) % n]
        }
        print text
    }
}' >"$scratch/corpus.txt"

# A language model on corpus.txt; further sections as JSON members.
config() { # NAME TYPE [MEMBERS]
    cat >"$scratch/$1.json" <<END
{
  "model": {"type": "$2", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "dropout": 0.1, "attention_dropout": 0.1, "embedding_dropout": 0.1},
  "data": {"type": "text", "path": "corpus.txt", "block_size": 32, "vocabulary": "char"},
  "train": {"max_steps": 40, "batch_size": 4, "accumulate": 2, "clip_norm": 1,
            "recompute": ["blocks.*"]},
  "optimizer": {"type": "adamw", "lr": 3e-3},
  "scheduler": {"type": "cosine", "warmup_steps": 5},
  "eval": {"every": 5, "batches": 4},
  "checkpoint": {"every": 3, "async": true},
  "log": {"every": 1, "progress": "none"},
  "threads": 1${3:+,
  $3}
}
END
}

# The largest loss is the best here, so that the best weights are not the last ones.
config gpt2 gpt2 '"early_stopping": {"patience": 100, "mode": "max", "restore_best": true}'
config llama llama '"early_stopping": {"patience": 100, "restore_best": true}'

train() { # CONFIG RUN [OPTION...]
    "$QUERN" train "$scratch/$1.json" --out "$scratch/$2" "${@:3}" 2>"$scratch/$2.err"
}

digest() { "$QUERN" inspect "$scratch/$1" --digest; } # RUN

exits() { # STATUS COMMAND...
    local status=0
    "${@:2}" || status=$?
    [ $status -eq "$1" ] && return
    echo "exit status $status, expected $1: ${*:2}"
    return 1
}

says() { # FILE TEXT: the file has a line with the text
    grep -qF -- "$2" "$1" && return
    echo "\"$2\" is not in $1, which is:"
    tail -n 20 "$1"
    return 1
}

lacks() { # FILE TEXT
    grep -F -- "$2" "$1" || return 0
    return 1
}

same() { # WHAT A B
    [ "$2" = "$3" ] && return
    echo "$1 differ:"
    diff <(echo "$2") <(echo "$3") | head -n 20
    return 1
}

can_trace() { strace -o "$scratch/trace" true 2>/dev/null; }

# Trains, and sends SIGNAL during the write of row N of metrics.jsonl, or at later ones with N+,
# N..M. The status is that of quern, 128 + SIGNAL if that ended it.
signalled() { # SIGNAL N CONFIG RUN [OPTION...]
    (
        ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o "$scratch/trace" \
            -P "$scratch/$4/metrics.jsonl" -e trace=write -e "inject=write:signal=$1:when=$2" \
            "$QUERN" train "$scratch/$3.json" --out "$scratch/$4" "${@:5}" 2>"$scratch/$4.err"
        exit $?
    ) 2>/dev/null # the shell's own words about a kill
}

row_of() { # STEP RUN: the number of the row of metrics.jsonl that tells about training step STEP
    grep -n "^{\"step\":$1,.*\"train/loss\"" "$scratch/$2/metrics.jsonl" | cut -d: -f1
}

# step, key, value of each row about KEY, without what the clock decides.
rows() { # KEY RUN
    sed -n "s|^{\"step\":\([0-9]*\),.*\"$1\":\([^,}]*\).*|\1 $1 \2|p" "$scratch/$2/metrics.jsonl"
}
