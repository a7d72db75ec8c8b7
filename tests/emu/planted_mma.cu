/* planted_mma.cu — a product on mma.sync with cp.async in two stages, and its planted bugs. */
#include <cuda_runtime.h>

#include "kernels/ptx.cuh"
#include "tests/emu/variants.cuh"

enum { TILE = 64, DEPTH = 32, TILE_BYTES = TILE * DEPTH * 2, STAGE_BYTES = 2 * TILE_BYTES };

/* Rows of 64 bytes, four chunks of 16, permuted so that eight rows meet all banks. */
static __device__ uint32_t chunk_at(int row, int chunk) {
    return (uint32_t)(row * 64 + ((chunk ^ (row >> 1 & 3)) << 4));
}
static __device__ uint32_t other_chunk_at(int row, int chunk) {
    return (uint32_t)(row * 64 + ((chunk ^ (row & 3)) << 4));
}

static __device__ void load_stage(uint32_t to, const __nv_bfloat16 *a, const __nv_bfloat16 *b,
                                  int k) {
    for (int i = (int)threadIdx.x; i < TILE * 4; i += 128) {
        int row = i / 4, chunk = i % 4;
        cp_async_16(to + chunk_at(row, chunk), a + (size_t)row * k + chunk * 8, 16);
        cp_async_16(to + TILE_BYTES + chunk_at(row, chunk), b + (size_t)row * k + chunk * 8, 16);
    }
}

/* Each warp: 64 rows of 16 columns. */
template <int BUG> static __device__ void multiply_stage(float (&sum)[4][2][4], uint32_t stage) {
    int w = (int)threadIdx.x / 32, l = (int)threadIdx.x % 32;
    for (int kk = 0; kk < DEPTH / 16; kk++) {
        uint32_t a[4], b[4];
        int row_b = w * 16 + (l & 7) + (l >> 4) * 8;
        ldmatrix_x4(b, stage + TILE_BYTES + chunk_at(row_b, kk * 2 + (l >> 3 & 1)));
        for (int i = 0; i < 4; i++) {
            int row = i * 16 + (l & 15), chunk = kk * 2 + (l >> 4);
            ldmatrix_x4(a, stage + (BUG == BUG_OTHER_SWIZZLE ? other_chunk_at(row, chunk)
                                                             : chunk_at(row, chunk)));
            for (int j = 0; j < 2; j++) mma_bf16(sum[i][j], a, b[2 * j], b[2 * j + 1]);
        }
    }
}

template <int BUG>
__global__ void __launch_bounds__(128)
    product(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c, int n, int k) {
    extern __shared__ __align__(128) char memory[];
    uint32_t base = shared_address(memory);
    a += (size_t)blockIdx.y * TILE * k;
    b += (size_t)blockIdx.x * TILE * k;
    float sum[4][2][4] = {};
    int steps = k / DEPTH;
    load_stage(base, a, b, k);
    cp_async_commit();
    for (int s = 0; s < steps; s++) {
        if (s + 1 < steps)
            load_stage(base + (uint32_t)((s + 1) & 1) * STAGE_BYTES, a + (s + 1) * DEPTH,
                       b + (s + 1) * DEPTH, k);
        if (BUG != BUG_NO_COMMIT) cp_async_commit();
        cp_async_wait<BUG == BUG_ONE_GROUP_TOO_FEW ? 2 : 1>();
        __syncthreads();
        multiply_stage<BUG>(sum, base + (uint32_t)(s & 1) * STAGE_BYTES);
        __syncthreads();
    }
    cp_async_wait<0>();
    int w = (int)threadIdx.x / 32, l = (int)threadIdx.x % 32;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++)
            for (int e = 0; e < 4; e++) {
                int row = (int)blockIdx.y * TILE + i * 16 + l / 4 + (e >> 1) * 8;
                int column = (int)blockIdx.x * TILE + w * 16 + j * 8 + (l & 3) * 2 + (e & 1);
                c[(size_t)row * n + column] = sum[i][j][e];
            }
}

int planted_mma(int bug, const void *a, const void *b, float *c, int m, int n, int k) {
    return variants<0, BUG_ONE_GROUP_TOO_FEW, BUG_OTHER_SWIZZLE, BUG_NO_COMMIT>::run(
        bug, [&](auto v) {
            product<decltype(v)::bug><<<dim3(n / TILE, m / TILE), 128, 2 * STAGE_BYTES>>>(
                (const __nv_bfloat16 *)a, (const __nv_bfloat16 *)b, c, n, k);
        });
}
