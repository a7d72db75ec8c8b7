#!/usr/bin/env bash
# Fuzzing: builds every tests/fuzz_*.c with clang's libFuzzer under ASan and UBSan and runs it from
# the committed seeds. A finding is a failed test; its input stays in build/fuzz.
#
#   tests/test_fuzz.sh [HARNESS...]                    20,000 inputs each, some seconds
#   QUERN_FUZZ_RUNS=1000000 tests/test_fuzz.sh         the full size
#   QUERN_FUZZ_RUNS=10000000 tests/test_fuzz.sh safetensors    ten million for one reader
#   QUERN_FUZZ_COVERAGE=1 tests/test_fuzz.sh           and the branch coverage of the readers
#
# QUERN_FUZZ_SEED (1) picks the sequence of inputs.
# shellcheck source=tests/check.sh
. "$(dirname "$0")/check.sh"

runs=${QUERN_FUZZ_RUNS:-20000}
folder=$root/build/fuzz
cd "$root" || exit 1
clang=$(command -v clang-14 || command -v clang)
cov=$(command -v llvm-cov-14 || command -v llvm-cov)
prof=$(command -v llvm-profdata-14 || command -v llvm-profdata)
core="kernels/status.c engine/arena.c engine/tensor.c engine/device.c engine/device_host.c"

# One harness: the files whose coverage counts, what else it is built of, packages of pkg-config,
# options of the fuzzer, folders with seeds; one input in `portion` where they are slow. `seeds`
# alone is what the harness writes itself.
describe() { # HARNESS
    more='' packages='' options='' seeds='' portion=1
    case $1 in
    config)
        readers="io/json.c io/config.c io/config_check.c io/config_defaults.c io/config_report.c
            io/config_rules.c io/config_set.c io/config_table.c"
        more="io/config*.c io/chat_builtin.c io/file.c io/hf_dir.c io/spelling.c io/text_buffer.c"
        packages=libcjson
        options="-max_len=4096 -dict=tests/hostile/config/keys.dict"
        seeds="tests/hostile/config/seeds configs"
        ;;
    hf_config)
        readers="io/config_hf.c io/config_hf_table.c io/config_hf_write.c"
        more="io/config*.c io/chat_builtin.c io/file.c io/hf_dir.c io/json.c io/spelling.c
            io/text_buffer.c"
        options="-max_len=2048 -dict=tests/hostile/hf_config.dict"
        packages=libcjson seeds=tests/hostile/hf_config portion=10 # each loads three times
        ;;
    jinja)
        readers="io/jinja.c io/jinja_lex.c io/jinja_parse.c io/jinja_expression.c io/jinja_eval.c
            io/jinja_operate.c io/jinja_value.c io/jinja_print.c io/jinja_filters.c
            io/jinja_select.c io/jinja_is.c io/jinja_strings.c io/jinja_methods.c"
        more="io/json.c io/text_buffer.c io/vocab.c" packages=libcjson
        options="-max_len=2048 -dict=tests/hostile/jinja/words.dict"
        seeds=tests/hostile/jinja/seeds
        ;;
    idx)
        readers=io/data_idx.c
        options=-max_len=256 seeds=tests/hostile/data/idx
        ;;
    tokens)
        readers=io/data_tokens.c
        options=-max_len=1200 seeds=tests/hostile/data/tokens
        ;;
    tokenizer)
        readers="io/tokenizer*.c"
        more="io/file.c io/json.c io/sha256.c io/text_buffer.c io/vocab.c"
        packages="libcjson libxxhash libpcre2-8 libutf8proc zlib"
        options="-max_len=6000 -dict=tests/hostile/tokenizer/words.dict"
        seeds=tests/hostile/tokenizer/seeds
        ;;
    checkpoint)
        readers="io/checkpoint_manifest.c io/checkpoint_entry.c"
        more="io/checkpoint*.c io/file.c io/sha256.c io/json.c io/text_buffer.c"
        packages="hdf5-serial libcjson libxxhash"
        options="-max_len=4096 -use_value_profile=1"
        seeds=$folder/checkpoint.manifests
        ;;
    safetensors)
        readers="io/safetensors.c io/safetensors_open.c io/safetensors_inspect.c"
        more="io/file.c io/json.c io/large_file.c io/text_buffer.c" packages=libcjson
        options="-max_len=1024 -dict=tests/hostile/safetensors.dict" seeds=tests/hostile/safetensors
        ;;
    sentencepiece)
        readers="io/tokenizer_sentencepiece.c io/tokenizer_sp_file.c io/tokenizer_sp_text.c
            io/tokenizer_sp_bpe.c io/tokenizer_unigram.c io/tokenizer_charsmap.c
            io/tokenizer_trie.c"
        more="io/tokenizer*.c io/file.c io/json.c io/sha256.c io/text_buffer.c io/vocab.c"
        packages="libcjson libpcre2-8 libutf8proc libxxhash zlib"
        options="-max_len=4096 -use_value_profile=1" seeds=tests/hostile/sentencepiece
        ;;
    *)
        echo "tests/fuzz_$1.c has no row in tests/test_fuzz.sh"
        return 1
        ;;
    esac
}

# shellcheck disable=SC2086,SC2046 # lists of words
build() { # HARNESS OUTPUT FLAG...
    local harness=$1 output=$2 flags='' libraries=''
    shift 2
    [ -n "$(find tests/fuzz_$harness.c engine io kernels -newer "$output" 2>&1)" ] || return 0
    if [ -n "$packages" ]; then
        flags=$(pkg-config --cflags $packages)
        libraries=$(pkg-config --libs $packages)
    fi
    local compile="$clang -std=c11 -D_GNU_SOURCE -DQN_FUZZ -I. $flags -O1 -g"
    # The core is not under test; the ops that device.c names are not called and thrown away.
    $compile -ffunction-sections -nostdlib -r $core -o "$output.core.o"
    $compile "$@" tests/fuzz_$harness.c $(printf '%s\n' $readers $more | sort -u) \
        "$output.core.o" $libraries -lm -lpthread -Wl,--gc-sections -o "$output"
}

write_checkpoint_seeds() { # manifests apart from tensor files
    rm -rf "$folder"/checkpoint.{manifests,tensors}
    mkdir -p "$folder"/checkpoint.{manifests,tensors}
    QUERN_FUZZ_SEEDS=$folder/checkpoint.manifests "$folder/checkpoint" -runs=0
    mv "$folder"/checkpoint.manifests/model* "$folder/checkpoint.tensors"
}

# libhdf5 stands behind the digests: what is found inside it is noted and fails nothing.
fuzz_hdf5() {
    ASAN_OPTIONS=detect_leaks=0 "$folder/checkpoint" -runs=$((runs / 20)) -seed="$seed" \
        -max_len=8192 -timeout=10 -rss_limit_mb=2048 -detect_leaks=0 -verbosity=0 \
        -artifact_prefix="$folder/hdf5-" "$folder/checkpoint.tensors" ||
        echo "noted: libhdf5 itself fails on an input, $folder/hdf5-*"
}

# shellcheck disable=SC2086 # lists of words
report_coverage() { # HARNESS CORPUS
    build "$1" "$folder/$1.covered" -fsanitize=fuzzer -fprofile-instr-generate -fcoverage-mapping
    LLVM_PROFILE_FILE=$folder/$1.raw "$folder/$1.covered" -runs=0 -verbosity=0 "$2" $seeds
    "$prof" merge -o "$folder/$1.profile" "$folder/$1.raw"
    "$cov" report "$folder/$1.covered" -instr-profile="$folder/$1.profile" \
        -show-functions=0 -show-branch-summary $readers
}

# shellcheck disable=SC2086 # lists of words
fuzz() { # HARNESS
    local seed=${QUERN_FUZZ_SEED:-1} corpus=$scratch/$1
    describe "$1"
    [ -n "$clang" ] || {
        echo "clang is not installed"
        return 77
    }
    mkdir -p "$folder" "$corpus"
    build "$1" "$folder/$1" -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
    [ "$1" != checkpoint ] || write_checkpoint_seeds
    "$folder/$1" -runs=$((runs / portion)) -seed="$seed" -timeout=5 -rss_limit_mb=1024 \
        -verbosity=0 -print_final_stats=1 -artifact_prefix="$folder/$1-" $options "$corpus" $seeds
    [ "$1" != checkpoint ] || fuzz_hdf5
    [ -z "${QUERN_FUZZ_COVERAGE:-}" ] || report_coverage "$1" "$corpus"
}

if [ $# -eq 0 ]; then
    for source in tests/fuzz_*.c; do
        harness=${source#tests/fuzz_}
        set -- "$@" "${harness%.c}"
    done
fi
for harness; do check fuzz "$harness"; done
finish
