/* planted_hopper.cu — TMA, mbarriers, clusters and wgmma, and their planted bugs.
 *
 * The product is persistent and warp-specialised: one thread loads stages of a ring, two warpgroups
 * multiply, results leave through shared memory. With a cluster of two, each block loads half of b
 * for both.
 */
#include <cuda_runtime.h>

#include <cuda.h>
#include <cuda_bf16.h>
#include <stdint.h>

#include "tests/emu/variants.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900

template <int BUG> __global__ void bulk(const float *, float *, int) {}
template <int BUG> __global__ void exchange(const float *, float *) {}
template <int BUG, int CLUSTER>
__global__ void __launch_bounds__(384, 1)
    product_wgmma(const __grid_constant__ CUtensorMap, const __grid_constant__ CUtensorMap,
                  const __grid_constant__ CUtensorMap, int, int, int) {}
#else

#define DEV static __device__ __forceinline__

/* ---- instructions ---------------------------------------------------------------------------- */

DEV uint32_t window(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

DEV void mbarrier_init(uint32_t at, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}
DEV void mbarrier_expect(uint32_t at, uint32_t bytes) { /* and arrives */
    asm volatile(
        "{ .reg .b64 s; mbarrier.arrive.expect_tx.shared::cta.b64 s, [%0], %1; }" ::"r"(at),
        "r"(bytes)
        : "memory");
}
DEV void mbarrier_arrive(uint32_t at) {
    asm volatile("{ .reg .b64 s; mbarrier.arrive.shared::cta.b64 s, [%0]; }" ::"r"(at) : "memory");
}
DEV void mbarrier_arrive_at(uint32_t at, uint32_t block) {
    asm volatile("{ .reg .b32 r; mapa.shared::cluster.u32 r, %0, %1; "
                 "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [r]; }" ::"r"(at),
                 "r"(block)
                 : "memory");
}
DEV void mbarrier_wait(uint32_t at, uint32_t parity) {
    asm volatile("{ .reg .pred p;\n"
                 "again%=: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                 "@!p bra again%=; }" ::"r"(at),
                 "r"(parity)
                 : "memory");
}
DEV void fence_mbarrier_init(void) {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
DEV void fence_proxy(void) { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

DEV void bulk_load(uint32_t to, const void *from, uint32_t bytes, uint32_t mbarrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(mbarrier)
                 : "memory");
}
DEV void load_box(uint32_t to, const CUtensorMap *map, uint32_t mbarrier, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(to),
                 "l"(map), "r"(mbarrier), "r"(x), "r"(y)
                 : "memory");
}
DEV void load_box_for_both(uint32_t to, const CUtensorMap *map, uint32_t mbarrier, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to),
                 "l"(map), "r"(mbarrier), "r"(x), "r"(y), "h"((uint16_t)3)
                 : "memory");
}
DEV void store_box(const CUtensorMap *map, uint32_t from, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group "
                 "[%0, {%2, %3}], [%1];\n"
                 "cp.async.bulk.commit_group;" ::"l"(map),
                 "r"(from), "r"(x), "r"(y)
                 : "memory");
}
DEV void store_wait_read(void) { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

DEV void cluster_barrier(void) {
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}
DEV uint32_t cluster_rank(void) {
    uint32_t r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}
DEV void warpgroup_barrier(int id) { asm volatile("bar.sync %0, 128;" ::"r"(id) : "memory"); }

#define FOUR(i)    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SIXTEEN(i) FOUR(i), FOUR(i + 4), FOUR(i + 8), FOUR(i + 12)
/* d += a b, 64 x 64 x 16. */
DEV void wgmma_64(float (&d)[32], uint64_t a, uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
                 "%32, %33, 1, 1, 1, 0, 0;"
                 : SIXTEEN(0), SIXTEEN(16)
                 : "l"(a), "l"(b));
}
DEV void wgmma_fence(void) { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEV void wgmma_commit(void) { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
DEV void wgmma_wait(void) { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

/* K-major, rows of 128 bytes; stride: from 8 rows to the next; mode 1: 128-byte swizzle. */
DEV uint64_t descriptor(uint32_t at, uint32_t stride, uint64_t mode) {
    return (uint64_t)(at & 0x3ffff) >> 4 | (uint64_t)1 << 16 | (uint64_t)(stride >> 4) << 32 |
           mode << 62;
}

/* ---- bulk copies, one mbarrier --------------------------------------------------------------- */

template <int BUG> __global__ void bulk(const float *x, float *y, int n) {
    __shared__ __align__(128) float tile[256];
    __shared__ uint64_t word;
    uint32_t full = window(&word);
    if (threadIdx.x == 0) {
        mbarrier_init(full, 1);
        fence_mbarrier_init();
    }
    __syncthreads();
    for (int i = 0, round = 0; i < n; i += 256, round++) {
        if (threadIdx.x == 0) {
            mbarrier_expect(full, sizeof tile);
            bulk_load(window(tile), x + i, sizeof tile, full);
        }
        mbarrier_wait(full, BUG == BUG_MBARRIER_NOT_AGAIN ? 0 : round & 1);
        for (int k = (int)threadIdx.x; k < 256; k += (int)blockDim.x) y[i + k] = tile[k];
        __syncthreads();
    }
}

/* ---- shared memory of a neighbour ------------------------------------------------------------ */

template <int BUG> __global__ void exchange(const float *x, float *y) {
    __shared__ float mine[128];
    int t = (int)threadIdx.x;
    uint32_t other = cluster_rank() ^ 1, theirs;
    mine[t] = x[blockIdx.x * 128 + t];
    if (BUG == BUG_NO_CLUSTER_BARRIER)
        __syncthreads();
    else
        cluster_barrier();
    float v;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(theirs)
                 : "r"(window(&mine[t])), "r"(other));
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(theirs) : "memory");
    y[blockIdx.x * 128 + t] = v;
    cluster_barrier();
}

/* ---- the product ----------------------------------------------------------------------------- */

enum {
    BM = 128,
    BN = 64,
    BK = 64,
    STAGES = 4,
    ROW = 128, /* bytes of a row of a tile */
    A_BYTES = BM * ROW,
    B_BYTES = BN * ROW,
    STAGE = A_BYTES + B_BYTES,
    C_BYTES = BM * ROW
};

/* What both roles know: where things lie in shared memory, and which tiles are the cluster's. */
struct frame {
    uint32_t base, c, full, empty, rank;
    int tiles, across, steps, first, step;
};

template <int CLUSTER> DEV frame make_frame(uint32_t base, int m, int n, int k) {
    frame f;
    f.base = base;
    f.c = base + STAGES * STAGE;
    f.full = f.c + C_BYTES;
    f.empty = f.full + 8 * STAGES;
    f.rank = CLUSTER > 1 ? cluster_rank() : 0;
    f.across = n / BN;
    f.tiles = m / BM / CLUSTER * f.across;
    f.steps = k / BK;
    f.first = (int)blockIdx.x / CLUSTER;
    f.step = (int)gridDim.x / CLUSTER;
    return f;
}

template <int BUG, int CLUSTER>
DEV void produce(const frame &f, const CUtensorMap *map_a, const CUtensorMap *map_b) {
    int it = 0;
    for (int tile = f.first; tile < f.tiles; tile += f.step) {
        int row = (tile / f.across * CLUSTER + (int)f.rank) * BM, column = tile % f.across * BN;
        for (int k = 0; k < f.steps; k++, it++) {
            uint32_t s = (uint32_t)it % STAGES, stage = f.base + s * STAGE, full = f.full + 8 * s;
            if (BUG != BUG_NO_EMPTY_WAIT)
                mbarrier_wait(f.empty + 8 * s, (uint32_t)(it / STAGES & 1) ^ 1);
            mbarrier_expect(full, STAGE + (BUG == BUG_EXPECT_TOO_MUCH ? 16 : 0));
            load_box(stage, map_a, full, k * BK, row);
            if (CLUSTER == 1) {
                load_box(stage + A_BYTES, map_b, full, k * BK, column);
            } else {
                int half = (int)f.rank * (BN / 2);
                load_box_for_both(stage + A_BYTES + (uint32_t)half * ROW, map_b, full, k * BK,
                                  column + half);
            }
        }
    }
    if (CLUSTER > 1) /* the other block still arrives here */
        for (int i = 0; i < STAGES; i++, it++)
            mbarrier_wait(f.empty + 8 * (uint32_t)(it % STAGES), (uint32_t)(it / STAGES & 1) ^ 1);
}

template <int BUG> DEV void multiply_stage(float (&d)[32], uint32_t a, uint32_t b) {
    constexpr uint32_t stride = BUG == BUG_DESCRIPTOR_STRIDE ? 512 : 1024;
    constexpr uint64_t mode = BUG == BUG_DESCRIPTOR_SWIZZLE ? 2 : 1;
    wgmma_fence();
#pragma unroll
    for (uint32_t kk = 0; kk < BK / 16; kk++)
        wgmma_64(d, descriptor(a + kk * 32, stride, mode), descriptor(b + kk * 32, 1024, 1));
    wgmma_commit();
}

/* The tile of this warpgroup, 64 rows: registers to shared memory, in the map's swizzle, to c. */
template <int BUG>
DEV void store_tile(const frame &f, char *memory, const float (&d)[32], const CUtensorMap *map_c,
                    int group, int x, int y) {
    int l = (int)threadIdx.x % 128;
    if (BUG != BUG_SOURCE_OVERWRITTEN && l == 0) store_wait_read();
    warpgroup_barrier(1 + group);
    int row = group * 64 + l / 32 * 16 + l % 32 / 4;
#pragma unroll
    for (int j = 0; j < BN / 8; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int r = row + 8 * h;
            __nv_bfloat162 v = __floats2bfloat162_rn(d[4 * j + 2 * h], d[4 * j + 2 * h + 1]);
            *(__nv_bfloat162 *)(memory + r * ROW + ((j ^ (r & 7)) << 4) + (l & 3) * 4) = v;
        }
    if (BUG != BUG_NO_PROXY_FENCE) fence_proxy();
    warpgroup_barrier(1 + group);
    if (l == 0) store_box(map_c, f.c + (uint32_t)group * 64 * ROW, x, y);
}

template <int BUG, int CLUSTER>
DEV void consume(const frame &f, char *memory, const CUtensorMap *map_c) {
    int group = (int)threadIdx.x / 128 - 1, l = (int)threadIdx.x % 128, it = 0;
    for (int tile = f.first; tile < f.tiles; tile += f.step) {
        int row = (tile / f.across * CLUSTER + (int)f.rank) * BM, column = tile % f.across * BN;
        float d[32];
#pragma unroll
        for (int i = 0; i < 32; i++) d[i] = 0.0f;
        for (int k = 0; k < f.steps; k++, it++) {
            uint32_t s = (uint32_t)it % STAGES, stage = f.base + s * STAGE;
            bool last = k + 1 == f.steps;
            if (BUG != BUG_NO_FULL_WAIT) mbarrier_wait(f.full + 8 * s, (uint32_t)(it / STAGES & 1));
            multiply_stage<BUG>(d, stage + (uint32_t)group * 64 * ROW, stage + A_BYTES);
            if (BUG == BUG_RELEASED_TOO_EARLY ? last : BUG == BUG_SUMS_TOO_EARLY ? !last : true)
                wgmma_wait();
            if (BUG == BUG_PEER_NOT_AWAITED ? l == 0 : CLUSTER == 1 && l == 0)
                mbarrier_arrive(f.empty + 8 * s);
            else if (BUG != BUG_PEER_NOT_AWAITED && CLUSTER > 1 && l < CLUSTER)
                mbarrier_arrive_at(f.empty + 8 * s, (uint32_t)l);
        }
        store_tile<BUG>(f, memory, d, map_c, group, column, row + group * 64);
    }
    if (l == 0) store_wait_read();
}

template <int BUG, int CLUSTER>
__global__ void __launch_bounds__(384, 1)
    product_wgmma(const __grid_constant__ CUtensorMap map_a,
                  const __grid_constant__ CUtensorMap map_b,
                  const __grid_constant__ CUtensorMap map_c, int m, int n, int k) {
    extern __shared__ __align__(1024) char memory[];
    uint32_t start = window(memory), base = (start + 1023) & ~1023u;
    frame f = make_frame<CLUSTER>(base, m, n, k);
    if (threadIdx.x == 0) {
        int arrivals = BUG == BUG_PEER_NOT_AWAITED ? 2 : 2 * CLUSTER;
        if (BUG == BUG_ARRIVALS_TOO_FEW) arrivals++;
        for (int i = 0; i < STAGES; i++) {
            mbarrier_init(f.full + 8 * (uint32_t)i, 1);
            mbarrier_init(f.empty + 8 * (uint32_t)i, (uint32_t)arrivals);
        }
        if (BUG != BUG_NO_INIT_FENCE) fence_mbarrier_init();
    }
    if (CLUSTER > 1)
        cluster_barrier();
    else if (BUG != BUG_NO_INIT_BARRIER)
        __syncthreads();
    if (threadIdx.x == 0) produce<BUG, CLUSTER>(f, &map_a, &map_b);
    if (threadIdx.x >= 128) consume<BUG, CLUSTER>(f, memory + (f.c - start), &map_c);
    if (CLUSTER > 1) {
        __syncwarp();
        cluster_barrier();
    }
}

#endif

/* ---- launches -------------------------------------------------------------------------------- */

template <class... P, class... A>
static void launch(void (*kernel)(P...), int grid, int block, int bytes, int cluster, A... args) {
    if (bytes) cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = (unsigned)cluster;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    config.gridDim = dim3((unsigned)grid);
    config.blockDim = dim3((unsigned)block);
    config.dynamicSmemBytes = (size_t)bytes;
    config.attrs = &attribute;
    config.numAttrs = 1;
    cudaLaunchKernelEx(&config, kernel, args...);
}

int planted_bulk(int bug, const float *x, float *y, int n) {
    return variants<0, BUG_MBARRIER_NOT_AGAIN>::run(
        bug, [&](auto v) { bulk<decltype(v)::bug><<<1, 64>>>(x, y, n); });
}

int planted_exchange(int bug, const float *x, float *y, int n) {
    return variants<0, BUG_NO_CLUSTER_BARRIER>::run(
        bug, [&](auto v) { launch(exchange<decltype(v)::bug>, n / 128, 128, 0, 2, x, y); });
}

int planted_wgmma(int bug, const void *map_a, const void *map_b, const void *map_c, int m, int n,
                  int k, int cluster, int grid) {
    const CUtensorMap &a = *(const CUtensorMap *)map_a, &b = *(const CUtensorMap *)map_b;
    const CUtensorMap &c = *(const CUtensorMap *)map_c;
    /* stages of 128 + 64 rows, the tile that leaves, mbarriers, alignment */
    int bytes = 4 * (128 + 64) * 128 + 128 * 128 + 64 + 1024;
    if (cluster == 2)
        return variants<0, BUG_PEER_NOT_AWAITED>::run(bug, [&](auto v) {
            launch(product_wgmma<decltype(v)::bug, 2>, grid, 384, bytes, 2, a, b, c, m, n, k);
        });
    return variants<0, BUG_EXPECT_TOO_MUCH, BUG_NO_EMPTY_WAIT, BUG_NO_FULL_WAIT,
                    BUG_DESCRIPTOR_STRIDE, BUG_RELEASED_TOO_EARLY, BUG_NO_INIT_FENCE,
                    BUG_NO_INIT_BARRIER, BUG_NO_PROXY_FENCE, BUG_DESCRIPTOR_SWIZZLE,
                    BUG_SUMS_TOO_EARLY, BUG_SOURCE_OVERWRITTEN,
                    BUG_ARRIVALS_TOO_FEW>::run(bug, [&](auto v) {
        launch(product_wgmma<decltype(v)::bug, 1>, grid, 384, bytes, 1, a, b, c, m, n, k);
    });
}
