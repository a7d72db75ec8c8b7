/* planted_simple.cu — elementwise, row, tile and block-to-block kernels, and their planted bugs. */
#include <cuda_runtime.h>

#include "tests/emu/variants.cuh"

/* ---- elementwise ----------------------------------------------------------------------------- */

template <int BUG> __global__ void silu(const float *x, const float *g, float *y, int n) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (BUG == BUG_READ_PAST_END ? i > n : i >= n) return;
    float v = x[i] / (1.0f + expf(-x[i])) * g[i];
    if (i < n) y[i] = v;
}

int planted_silu(int bug, const float *x, const float *g, float *y, int n) {
    return variants<0, BUG_READ_PAST_END>::run(
        bug, [&](auto v) { silu<decltype(v)::bug><<<(n + 256) / 256, 256>>>(x, g, y, n); });
}

template <int BUG> __global__ void doubled(const float *x, float *y, int n) {
    int i = 4 * (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (BUG == BUG_VECTOR_PAST_END ? i < n : i + 3 < n) {
        float v[4];
        for (int k = 0; k < 4; k++) v[k] = i + k < n ? 2.0f * x[i + k] : 0.0f;
        *(float4 *)(y + i) = make_float4(v[0], v[1], v[2], v[3]);
    } else {
        for (; i < n; i++) y[i] = 2.0f * x[i];
    }
}

int planted_double(int bug, const float *x, float *y, int n) {
    return variants<0, BUG_VECTOR_PAST_END>::run(
        bug, [&](auto v) { doubled<decltype(v)::bug><<<(n + 511) / 512, 128>>>(x, y, n); });
}

/* ---- warps ----------------------------------------------------------------------------------- */

template <int BUG> __global__ void reverse(const float *x, float *y) {
    __shared__ float row[4][32];
    int i = (int)(blockIdx.x * 128 + threadIdx.x), w = (int)threadIdx.x / 32, l = i % 32;
    row[w][l] = x[i];
    if (BUG != BUG_NO_SYNCWARP) __syncwarp();
    y[i] = row[w][31 - l];
}

int planted_reverse(int bug, const float *x, float *y, int n) {
    return variants<0, BUG_NO_SYNCWARP>::run(
        bug, [&](auto v) { reverse<decltype(v)::bug><<<n / 128, 128>>>(x, y); });
}

template <int BUG> __global__ void warp_sum(const float *x, float *y, int n) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (BUG == BUG_MISSING_LANE && i >= n) return;
    float s = i < n ? x[i] : 0.0f;
    for (int o = 16; o > 0; o /= 2) s += __shfl_xor_sync(0xffffffffu, s, o);
    if (i % 32 == 0 && i < n) y[i / 32] = s;
}

int planted_warp_sum(int bug, const float *x, float *y, int n) {
    return variants<0, BUG_MISSING_LANE>::run(
        bug, [&](auto v) { warp_sum<decltype(v)::bug><<<(n + 63) / 64, 64>>>(x, y, n); });
}

/* ---- rows ------------------------------------------------------------------------------------ */

static __device__ float sum_of_warp(float v) {
    for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}

/* One block per row; the warps' sums meet in shared memory. */
template <int BUG> __global__ void norm(const float *x, float *y, int columns) {
    __shared__ float part[32], part_sq[32];
    const float *row = x + (size_t)blockIdx.x * columns;
    float s = 0.0f, q = 0.0f;
    for (int i = (int)threadIdx.x; i < columns; i += (int)blockDim.x) {
        s += row[i];
        q += row[i] * row[i];
    }
    s = sum_of_warp(s);
    q = sum_of_warp(q);
    int w = (int)threadIdx.x / 32, l = (int)threadIdx.x % 32, warps = (int)blockDim.x / 32;
    if (l == 0) {
        part[w] = s;
        part_sq[w] = q;
    }
    if (BUG != BUG_NO_BARRIER) __syncthreads();
    bool mine = BUG == BUG_UNWRITTEN_SHARED || l < warps;
    s = sum_of_warp(mine ? part[l] : 0.0f);
    q = sum_of_warp(mine ? part_sq[l] : 0.0f);
    float mean = s / (float)columns, r = rsqrtf(q / (float)columns - mean * mean + 1e-5f);
    for (int i = (int)threadIdx.x; i < columns; i += (int)blockDim.x)
        y[(size_t)blockIdx.x * columns + i] = (row[i] - mean) * r;
}

int planted_norm(int bug, const float *x, float *y, int rows, int columns, int threads) {
    return variants<0, BUG_NO_BARRIER, BUG_UNWRITTEN_SHARED>::run(
        bug, [&](auto v) { norm<decltype(v)::bug><<<rows, threads>>>(x, y, columns); });
}

/* ---- tiles ----------------------------------------------------------------------------------- */

template <int BUG> __global__ void sgemm(const float *a, const float *b, float *c, int n, int k) {
    __shared__ float ta[16][16], tb[16][16];
    int y = (int)threadIdx.y, x = (int)threadIdx.x;
    int row = (int)blockIdx.y * 16 + y, column = (int)blockIdx.x * 16 + x;
    float sum = 0.0f;
    for (int k0 = 0; k0 < k; k0 += 16) {
        ta[y][x] = a[row * k + k0 + x];
        tb[y][x] = b[(k0 + y) * n + column];
        if (BUG != BUG_TILE_TOO_EARLY) __syncthreads();
        for (int i = 0; i < (BUG == BUG_SHARED_PAST_END ? 17 : 16); i++) sum += ta[y][i] * tb[i][x];
        if (BUG != BUG_TILE_OVERWRITTEN) __syncthreads();
    }
    if (BUG == BUG_DIVERGENT_BARRIER) {
        if (y < 8) {
            __syncthreads();
            sum += tb[15][x] * 0.0f;
        } else {
            __syncthreads();
            sum += ta[15][x] * 0.0f;
        }
    }
    c[row * n + column] = sum;
}

int planted_sgemm(int bug, const float *a, const float *b, float *c, int m, int n, int k) {
    return variants<0, BUG_TILE_TOO_EARLY, BUG_TILE_OVERWRITTEN, BUG_SHARED_PAST_END,
                    BUG_DIVERGENT_BARRIER>::run(bug, [&](auto v) {
        sgemm<decltype(v)::bug><<<dim3(n / 16, m / 16), dim3(16, 16)>>>(a, b, c, n, k);
    });
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Each block adds its rows: atomics, onto zeros. */
template <int BUG> __global__ void column_sums(const float *x, float *y, int rows, int columns) {
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c >= columns) return;
    float s = 0.0f;
    for (int r = (int)blockIdx.y; r < rows; r += (int)gridDim.y) s += x[r * columns + c];
    if (BUG == BUG_SAME_OUTPUT)
        y[c] += s;
    else
        atomicAdd(&y[c], s);
}

int planted_column_sums(int bug, const float *x, float *y, int rows, int columns) {
    return variants<0, BUG_SAME_OUTPUT, BUG_UNWRITTEN_GLOBAL>::run(bug, [&](auto v) {
        if (bug != BUG_UNWRITTEN_GLOBAL) cudaMemsetAsync(y, 0, (size_t)columns * sizeof *y, 0);
        column_sums<decltype(v)::bug><<<dim3((columns + 63) / 64, 4), 64>>>(x, y, rows, columns);
    });
}

/* Barrier 1: the tile is full (the producer arrives); barrier 2: it is free again. */
template <int BUG> __global__ void pipeline(const float *x, float *y, int n) {
    __shared__ float tile[96];
    int t = (int)threadIdx.x, everyone = BUG == BUG_BARRIER_COUNT ? 96 : 128;
    for (int i = 0; i < n; i += 96) {
        if (t < 32) {
            if (i > 0) asm volatile("bar.sync 2, 128;" ::: "memory");
            for (int k = t; k < 96; k += 32) tile[k] = x[i + k];
            asm volatile("bar.arrive 1, 128;" ::: "memory");
        } else {
            asm volatile("bar.sync 1, %0;" ::"r"(everyone) : "memory");
            y[i + t - 32] = tile[t - 32] + 1.0f;
            if (i + 96 < n) asm volatile("bar.arrive 2, 128;" ::: "memory");
        }
    }
}

int planted_pipeline(int bug, const float *x, float *y, int n) {
    return variants<0, BUG_BARRIER_COUNT>::run(
        bug, [&](auto v) { pipeline<decltype(v)::bug><<<1, 128>>>(x, y, n); });
}

/* The block that counts last adds what all wrote. */
template <int BUG>
__global__ void last_block(const float *x, float *partial, unsigned *count, float *sum, int n) {
    __shared__ float s[128];
    __shared__ bool last;
    int t = (int)threadIdx.x;
    float v = 0.0f;
    for (int i = (int)blockIdx.x * 128 + t; i < n; i += (int)gridDim.x * 128) v += x[i];
    s[t] = v;
    __syncthreads();
    for (int k = 64; k > 0; k /= 2) {
        if (t < k) s[t] += s[t + k];
        __syncthreads();
    }
    if (t == 0) {
        partial[blockIdx.x] = s[0];
        if (BUG == BUG_NARROW_FENCE)
            __threadfence_block();
        else if (BUG != BUG_NO_FENCE_BEFORE)
            __threadfence();
        last = atomicAdd(count, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || t != 0) return;
    if (BUG != BUG_NO_FENCE_AFTER) __threadfence();
    v = 0.0f;
    for (unsigned i = 0; i < gridDim.x; i++) v += partial[i];
    *sum = v;
    *count = 0;
}

int planted_last_block(int bug, const float *x, float *partial, unsigned *count, float *sum, int n,
                       int blocks) {
    return variants<0, BUG_NO_FENCE_BEFORE, BUG_NO_FENCE_AFTER, BUG_NARROW_FENCE>::run(
        bug,
        [&](auto v) { last_block<decltype(v)::bug><<<blocks, 128>>>(x, partial, count, sum, n); });
}

template <int BUG> __global__ void hand_over(const float *x, float *y, unsigned *flag) {
    if (blockIdx.x == 0) {
        y[0] = x[0];
        __threadfence();
        *(volatile unsigned *)flag = 1;
    } else {
        while (*(volatile unsigned *)flag != (BUG == BUG_ENDLESS_SPIN ? 2u : 1u)) continue;
        __threadfence();
        y[1] = y[0];
    }
}

int planted_hand_over(int bug, const float *x, float *y, unsigned *flag) {
    return variants<0, BUG_ENDLESS_SPIN>::run(
        bug, [&](auto v) { hand_over<decltype(v)::bug><<<2, 1>>>(x, y, flag); });
}

int planted_reset(void) { return (int)cudaDeviceReset(); }
