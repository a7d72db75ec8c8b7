#!/usr/bin/env bash
# Builds quern_gpu and libquern_gpu.so with plain tools: on a bare machine, or to be carried to one.
#
#   bench/gpu_build.sh OUT [--cpu]      --cpu: without the CUDA kernels, to try out the scripts
#
# Needs gcc, nvcc 13 and the single header xxhash.h (in an include path, or in OUT/include, where a
# build leaves it for the next machine). What comes out needs libc and the driver: CUDA's runtime is
# static, products on the CPU are plain loops (bench/gpu/plain), and so are the tests' assertions.
# Code is for any x86-64 with AVX2. CC, NVCC and JOBS may be set.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] || {
    echo "usage: bench/gpu_build.sh OUT [--cpu]" >&2
    exit 2
}
mkdir -p "$1/objects" "$1/include"
out=$(cd "$1" && pwd)
cuda=yes
[ "${2:-}" = --cpu ] && cuda=no
CC=${CC:-gcc}
NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
JOBS=${JOBS:-$(nproc)}
cd "$root"

version=$(sed -n 's/^project(quern VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
if [ ! -f "$out/include/xxhash.h" ]; then
    header=$(echo '#include <xxhash.h>' | $CC -E -M - | tr ' \\' '\n\n' |
        grep '/xxhash\.h$' | head -n 1)
    cp "$header" "$out/include/xxhash.h"
fi

cat >"$out/include/build.h" <<EOF
/* build.h - what this build is; included in front of every file. */
#define XXH_INLINE_ALL
#define QUERN_VERSION "$version"
#define QUERN_SOURCE_DIR "."
#define QUERN_BINARY "quern"
EOF
common="-std=c11 -O3 -g1 -fPIC -I$root -I$root/bench/gpu/plain -I$out/include -D_GNU_SOURCE"
common+=" -include $out/include/build.h -fno-math-errno -fno-trapping-math -ffp-contract=fast"
common+=" -fopenmp-simd"
case $(uname -m) in x86_64) common+=" -march=x86-64-v3" ;; esac
if [ $cuda = yes ]; then
    include=$(cd "$(dirname "$(readlink -f "$NVCC")")/../include" && pwd)
    common+=" -DQUERN_CUDA=1 -isystem $include"
fi
suites=$(sed -n 's/^    X(\([a-z0-9_]*\)).*/\1/p' bench/gpu/suites.h) suites+=" test_cuda_device"

# One line per object: how it is made.
commands() {
    local file name
    if [ $cuda = yes ]; then
        for file in kernels/*.cu; do
            name=$(basename "$file" .cu)
            echo "$NVCC -std=c++17 -O3 -lineinfo --compress-mode=size -I$root -D_GNU_SOURCE" \
                "-Xcompiler=-fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-fPIC" \
                "-gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a" \
                "-gencode arch=compute_80,code=compute_80" \
                "-c $file -o $out/objects/library_$name.cu.o"
        done
    fi
    for file in {kernels,engine,layers,optim}/*.c bench/gpu/gpu_*.c bench/gpu/plain/cblas.c; do
        echo "$CC $common -c $file -o $out/objects/library_$(basename "$file" .c).o"
    done
    for file in tests/harness.c tests/harness_[cgt]*.c bench/gpu/{plain/cmocka,quern_gpu}.c; do
        echo "$CC $common -c $file -o $out/objects/program_$(basename "$file" .c).o"
    done
    for name in $suites; do
        echo "$CC $common -Dmain=${name}_main -c tests/$name.c -o $out/objects/program_$name.o"
    done
}

rm -f "$out"/objects/*.o
commands | xargs -d '\n' -P "$JOBS" -I{} sh -c '{} || { echo "failed: {}" >&2; exit 1; }'
libraries="-lpthread -lm"
if [ $cuda = yes ]; then
    libraries="-L$(cd "$include/../lib64" && pwd) -lcudart_static -ldl -lrt $libraries"
fi
# shellcheck disable=SC2086 # lists of words
{
    $CC -o "$out/quern_gpu" "$out"/objects/*.o -static-libgcc $libraries
    $CC -shared -o "$out/libquern_gpu.so" "$out"/objects/library_*.o -static-libgcc $libraries
}
[ "${STRIP:-yes}" = no ] || strip -g "$out/quern_gpu" "$out/libquern_gpu.so"
rm -rf "$out/objects"
ls -l "$out"
