/* tensor_copy_forms.cu — tensor copies of every rank, in, out and reducing, as inline PTX. */
#include <cuda_runtime.h>

#include <cuda.h>
#include <stdint.h>
#include <string.h>

#include "tests/emu/tensor_copy_forms.h"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
template <int RANK>
__global__ void copy_box(const __grid_constant__ CUtensorMap, const tensor_case) {}
#else

#define LOAD(rank, at)                                                                             \
    asm volatile("cp.async.bulk.tensor." #rank                                                     \
                 "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"                      \
                 " [%0], [%1, {" at "}], [%2];" ::"r"(tile),                                       \
                 "l"(map), "r"(bar), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(x[4])         \
                 : "memory")
#define OUT(name, rank, at)                                                                        \
    asm volatile(name ".bulk_group [%0, {" at "}], [%1];" ::"l"(map), "r"(tile), "r"(tile),        \
                 "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(x[4])                             \
                 : "memory")
#define REDUCE(op, rank, at)                                                                       \
    OUT("cp.reduce.async.bulk.tensor." #rank "d.global.shared::cta." op ".tile", rank, at)
#define EACH_WAY(rank, at)                                                                         \
    if (RANK == rank) {                                                                            \
        if (op < 0) LOAD(rank, at);                                                                \
        if (op == 0) OUT("cp.async.bulk.tensor." #rank "d.global.shared::cta.tile", rank, at);     \
        if (op == 1) REDUCE("add", rank, at);                                                      \
        if (op == 2) REDUCE("min", rank, at);                                                      \
        if (op == 3) REDUCE("max", rank, at);                                                      \
        if (op == 4) REDUCE("inc", rank, at);                                                      \
        if (op == 5) REDUCE("dec", rank, at);                                                      \
        if (op == 6) REDUCE("and", rank, at);                                                      \
        if (op == 7) REDUCE("or", rank, at);                                                       \
        if (op == 8) REDUCE("xor", rank, at);                                                      \
    }

template <int RANK>
static __device__ __forceinline__ void issue(int op, const CUtensorMap *map, uint32_t tile,
                                             uint32_t bar, const int (&x)[5]) {
    EACH_WAY(1, "%3")
    EACH_WAY(2, "%3, %4")
    EACH_WAY(3, "%3, %4, %5")
    EACH_WAY(4, "%3, %4, %5, %6")
    EACH_WAY(5, "%3, %4, %5, %6, %7")
}

template <int RANK>
__global__ void copy_box(const __grid_constant__ CUtensorMap map, const tensor_case c) {
    extern __shared__ __align__(1024) uint4 memory[];
    __shared__ uint64_t word;
    uint32_t tile = (uint32_t)__cvta_generic_to_shared(memory);
    uint32_t bar = (uint32_t)__cvta_generic_to_shared(&word);
    uint4 *shared = (uint4 *)c.shared;
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    for (int i = threadIdx.x; c.op >= 0 && i < TENSOR_TILE / 16; i += blockDim.x)
        memory[i] = shared[i];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        if (c.op < 0)
            asm volatile(
                "{ .reg .b64 s; mbarrier.arrive.expect_tx.shared::cta.b64 s, [%0], %1; }" ::"r"(
                    bar),
                "r"(c.bytes)
                : "memory");
        issue<RANK>(c.op, &map, tile, bar, c.at);
        asm volatile("cp.async.bulk.commit_group;\n cp.async.bulk.wait_group 0;" ::: "memory");
    }
    if (c.op >= 0) return;
    asm volatile("{ .reg .pred p;\n"
                 "again%=: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0;\n"
                 "@!p bra again%=; }" ::"r"(bar)
                 : "memory");
    for (int i = threadIdx.x; i < (int)c.bytes / 16; i += blockDim.x) shared[i] = memory[i];
}
#endif

extern "C" int tensor_copy_run(const void *map, const tensor_case *c) {
    void (*const ranks[])(CUtensorMap, tensor_case) = {copy_box<1>, copy_box<2>, copy_box<3>,
                                                       copy_box<4>, copy_box<5>};
    CUtensorMap m;
    memcpy(&m, map, sizeof m);
    ranks[c->rank - 1]<<<1, 64, TENSOR_TILE>>>(m, *c);
    cudaError_t e = cudaGetLastError(), f = cudaDeviceSynchronize();
    return (int)(e != cudaSuccess ? e : f);
}
