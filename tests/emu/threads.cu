/* threads.cu — kernels of test_emu_threads: blocks, barriers, warp collectives, clusters, and the
 * ways to get them wrong.
 */
#include <cooperative_groups.h>
#include <cuda_runtime.h>
#include <stdint.h>

namespace cg = cooperative_groups;

typedef void kernel(const uint32_t *in, uint32_t *out, int n);

static __device__ uint32_t thread_index() {
    return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}
static __device__ uint32_t block_index() {
    return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
}

/* ---- right ----------------------------------------------------------------------------------- */

static __global__ void k_coordinates(const uint32_t *in, uint32_t *out, int n) {
    uint32_t threads = blockDim.x * blockDim.y * blockDim.z;
    uint32_t i = block_index() * threads + thread_index();
    if (i < n) out[i] = in[i] + threadIdx.z * 100 + blockIdx.z * 10000;
}

/* n rounds in which every thread hands its value to the next. */
static __global__ void k_rotate(const uint32_t *in, uint32_t *out, int n) {
    extern __shared__ uint32_t s[];
    uint32_t t = threadIdx.x, v = in[t];
    for (int i = 0; i < n; i++) {
        s[t] = v;
        __syncthreads();
        v = s[(t + 1) % blockDim.x] + 1;
        __syncthreads();
    }
    out[t] = v;
}

static __global__ void k_unwritten(const uint32_t *, uint32_t *out, int) {
    extern __shared__ uint32_t s[];
    out[threadIdx.x] = s[threadIdx.x];
}

/* 16 results a lane. */
static __global__ void k_shuffles(const uint32_t *in, uint32_t *out, int) {
    uint32_t lane = threadIdx.x, v = in[lane], *r = out + 16 * lane;
    r[0] = __shfl_sync(~0u, v, 5);
    r[1] = __shfl_sync(~0u, v, lane + 3, 8);
    r[2] = __shfl_up_sync(~0u, v, 3);
    r[3] = __shfl_up_sync(~0u, v, 2, 16);
    r[4] = __shfl_down_sync(~0u, v, 7);
    r[5] = __shfl_down_sync(~0u, v, 1, 4);
    r[6] = __shfl_xor_sync(~0u, v, 9);
    r[7] = __shfl_xor_sync(~0u, v, 5, 4);
    if (lane % 2)
        r[8] = __shfl_sync(0xAAAAAAAAu, v, 3);
    else
        r[8] = __shfl_sync(0x55555555u, v, 4);
}

static __global__ void k_votes(const uint32_t *in, uint32_t *out, int) {
    uint32_t lane = threadIdx.x, v = in[lane], *r = out + 16 * lane;
    int all;
    r[0] = __ballot_sync(~0u, v & 1);
    r[1] = __any_sync(~0u, v == in[7]);
    r[2] = __all_sync(~0u, v != 12345);
    r[3] = __match_any_sync(~0u, v % 5);
    r[4] = __match_all_sync(~0u, v % 1, &all) + all;
    r[5] = __match_all_sync(~0u, v, &all) + all;
    r[6] = __reduce_add_sync(~0u, v);
    r[7] = __reduce_min_sync(~0u, (int)v);
    r[8] = __reduce_max_sync(~0u, v);
    r[9] = __reduce_xor_sync(~0u, v);
    if (lane >= 20) return;
    r[10] = __ballot_sync(~0u, 1); /* those that exited are not waited for */
    r[11] = __reduce_or_sync(0xFFFFFu, v);
}

static __global__ void k_block_votes(const uint32_t *in, uint32_t *out, int) {
    uint32_t v = in[threadIdx.x];
    out[3 * threadIdx.x] = __syncthreads_count(v & 1);
    out[3 * threadIdx.x + 1] = __syncthreads_and(v < 1u << 31);
    out[3 * threadIdx.x + 2] = __syncthreads_or(v == in[40]);
}

/* Warps 0 and 1 write, warps 2 and 3 read, n times: one named barrier says full, one empty. */
static __global__ void k_named(const uint32_t *in, uint32_t *out, int n) {
    __shared__ uint32_t s[64];
    uint32_t t = threadIdx.x;
    uint32_t sum = 0;
    for (int i = 0; i < n; i++) {
        if (t < 64) {
            if (i > 0) asm volatile("bar.sync 2, 128;" ::: "memory");
            s[t] = in[t] + i;
            asm volatile("bar.arrive 1, 128;" ::: "memory");
        } else {
            asm volatile("bar.sync 1, 128;" ::: "memory");
            sum += s[(t + 1) % 64];
            if (i + 1 < n) asm volatile("bar.arrive 2, 128;" ::: "memory");
        }
    }
    if (t >= 64) out[t - 64] = sum;
}

static __global__ void k_early_exit(const uint32_t *in, uint32_t *out, int n) {
    __shared__ uint32_t s[1024];
    uint32_t t = threadIdx.x;
    if (t >= n) return;
    s[t] = in[t];
    __syncthreads();
    out[t] = s[n - 1 - t];
}

static __global__ void k_cluster(const uint32_t *in, uint32_t *out, int) {
#if __CUDA_ARCH__ >= 900
    __shared__ uint32_t s[32];
    cg::cluster_group c = cg::this_cluster();
    uint32_t t = threadIdx.x, next = (c.block_rank() + 1) % c.num_blocks();
    s[t] = in[blockIdx.x * 32 + t];
    c.sync();
    uint32_t *theirs = c.map_shared_rank(s, next);
    out[blockIdx.x * 32 + t] = theirs[31 - t] + 1000 * c.block_rank();
    c.sync();
#endif
}

/* All blocks of the grid meet, n times. */
static __global__ void k_grid_barrier(const uint32_t *, uint32_t *out, int n) {
    uint32_t seen = 0;
    for (int i = 0; i < n; i++) {
        __syncthreads();
        if (threadIdx.x == 0) {
            __threadfence();
            atomicAdd(&out[0], 1u);
            while (*(volatile uint32_t *)&out[0] < gridDim.x * (i + 1)) {}
            __threadfence();
        }
        __syncthreads();
        seen += *(volatile uint32_t *)&out[0] >= gridDim.x * (i + 1);
    }
    out[1 + blockIdx.x * blockDim.x + threadIdx.x] = seen;
}

/* Lane 31 waits in a loop of atomics for lane 0 of the next warp. */
static __global__ void k_atomics(const uint32_t *, uint32_t *out, int) {
    if (threadIdx.x == 31) {
        while (atomicAdd(&out[0], 0u) == 0) {}
        out[1] = 9;
    }
    if (threadIdx.x == 32) atomicExch(&out[0], 1u);
}

/* Lane 0 waits for lane 1 of its own warp. */
static __global__ void k_lanes(const uint32_t *, uint32_t *out, int) {
    if (threadIdx.x == 0) {
        while (*(volatile uint32_t *)&out[0] == 0) {}
        out[1] = 7;
    } else {
        *(volatile uint32_t *)&out[0] = 1;
    }
}

/* ---- wrong ----------------------------------------------------------------------------------- */

static __global__ void k_divergent(const uint32_t *in, uint32_t *out, int) {
    if (threadIdx.x < 32) {
        out[0] = in[0];
        asm volatile("bar.sync 0;" ::: "memory");
    } else {
        out[1] = in[1];
        asm volatile("bar.sync 0;" ::: "memory");
    }
}

static __global__ void k_counts(const uint32_t *, uint32_t *, int) {
    if (threadIdx.x < 32)
        asm volatile("bar.sync 1, 64;" ::: "memory");
    else
        asm volatile("bar.sync 1, 96;" ::: "memory");
}

static __global__ void k_nobody_waits(const uint32_t *, uint32_t *, int) {
    if (threadIdx.x < 32) asm volatile("bar.arrive 3, 64;" ::: "memory");
}

static __global__ void k_missing_lane(const uint32_t *in, uint32_t *out, int) {
    uint32_t v = in[threadIdx.x];
    if (threadIdx.x < 31) v = __shfl_xor_sync(~0u, v, 1);
    __syncthreads();
    out[threadIdx.x] = v;
}

static __global__ void k_masks(const uint32_t *in, uint32_t *out, int) {
    uint32_t v = in[threadIdx.x];
    if (threadIdx.x < 16)
        v = __shfl_xor_sync(~0u, v, 1);
    else
        v = __shfl_xor_sync(0xFFFF8000u, v, 1);
    out[threadIdx.x] = v;
}

static __global__ void k_kinds(const uint32_t *in, uint32_t *out, int) {
    uint32_t v = in[threadIdx.x];
    if (threadIdx.x < 16)
        v = __shfl_xor_sync(~0u, v, 1);
    else
        v = __ballot_sync(~0u, v);
    out[threadIdx.x] = v;
}

static __global__ void k_not_named(const uint32_t *in, uint32_t *out, int) {
    out[threadIdx.x] = __shfl_sync(0xFFFFu, in[threadIdx.x], 0);
}

static __global__ void k_reads_absent(const uint32_t *in, uint32_t *out, int) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xFFFFu, in[threadIdx.x], 20);
}

static __global__ void k_spin(const uint32_t *in, uint32_t *out, int) {
    while (*(volatile const uint32_t *)in != 99) {}
    out[0] = 1;
}

static __global__ void k_past_shared(const uint32_t *in, uint32_t *out, int n) {
    extern __shared__ uint32_t s[];
    s[threadIdx.x + n] = in[0];
    out[threadIdx.x] = s[threadIdx.x];
}

static __global__ void k_wild(const uint32_t *, uint32_t *out, int n) {
    out[0] = *(const volatile uint32_t *)(uintptr_t)(n * 4);
}

static __global__ void k_trap(const uint32_t *, uint32_t *, int) {
    if (threadIdx.x == 3) asm volatile("trap;");
}

static __global__ void k_cluster_twice(const uint32_t *, uint32_t *, int) {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
    asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
#endif
}

/* ---- by name --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    kernel *function;
} kernels[] = {
    {"coordinates", k_coordinates},
    {"rotate", k_rotate},
    {"unwritten", k_unwritten},
    {"shuffles", k_shuffles},
    {"votes", k_votes},
    {"block_votes", k_block_votes},
    {"named", k_named},
    {"early_exit", k_early_exit},
    {"cluster", k_cluster},
    {"grid_barrier", k_grid_barrier},
    {"lanes", k_lanes},
    {"atomics", k_atomics},
    {"divergent", k_divergent},
    {"counts", k_counts},
    {"nobody_waits", k_nobody_waits},
    {"missing_lane", k_missing_lane},
    {"masks", k_masks},
    {"kinds", k_kinds},
    {"not_named", k_not_named},
    {"reads_absent", k_reads_absent},
    {"spin", k_spin},
    {"past_shared", k_past_shared},
    {"wild", k_wild},
    {"trap", k_trap},
    {"cluster_twice", k_cluster_twice},
};

static bool equal(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

/* Launches kernel `name` and waits; the CUDA error. */
extern "C" int threads_launch(const char *name, dim3 grid, dim3 block, unsigned cluster,
                              size_t shared, const uint32_t *in, uint32_t *out, int n) {
    cudaLaunchAttribute a = {};
    a.id = cudaLaunchAttributeClusterDimension;
    a.val.clusterDim.x = cluster;
    a.val.clusterDim.y = a.val.clusterDim.z = 1;
    cudaLaunchConfig_t c = {};
    c.gridDim = grid;
    c.blockDim = block;
    c.dynamicSmemBytes = shared;
    c.attrs = &a;
    c.numAttrs = cluster > 1;
    for (auto &k : kernels) {
        if (!equal(k.name, name)) continue;
        void *args[] = {&in, &out, &n};
        cudaError_t e = cudaLaunchKernelExC(&c, (const void *)k.function, args);
        return e ? e : cudaDeviceSynchronize();
    }
    return cudaErrorInvalidDeviceFunction;
}
