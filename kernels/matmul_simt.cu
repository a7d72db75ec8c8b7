/* matmul_simt.cu — f32 products in f32 arithmetic: FMA, no tensor cores.
 *
 * A block makes a tile of TM x TN, a thread 8 x 8 of it as four 4 x 4 squares. Slices of 8 along k
 * go through registers into two shared buffers, stored so that a thread reads its 8 values of A and
 * of B as two 16-byte accesses each: 64 FMA for 64 bytes of shared memory. Operands that lie along
 * k are turned while they are stored; the 4 floats of padding a row keep both stores free of
 * conflicts. Order of a sum: k upwards, one FMA each; then the splits.
 *
 * Traffic: 4 (m k ceil(n / TN) + k n ceil(m / TM)) bytes read, of which L2 serves most; outputs as
 * the epilogue says. Per split 8 m n bytes more. Where rows do not lie on 16 bytes, loads are
 * single floats; nothing else changes.
 */
#include "kernels/matmul_parts.cuh"

enum { SLICE = 8, PAD = 4 };

/* The share of one thread in loading a slice of an operand: `CHUNKS` groups of four values. */
template <int ROWS, int THREADS, bool ALONG_K> struct slice_loader {
    enum {
        CHUNKS = ROWS * SLICE / 4 / THREADS,
        PER_LINE = (ALONG_K ? SLICE : ROWS) / 4,
        LINES = THREADS / PER_LINE
    };
    const float *at; /* this thread's first chunk of the next slice */
    int64_t ld;
    int lines, room; /* of the operand, from the first line and column on */
    int line, column;
    bool wide;
    float v[CHUNKS][4];

    /* x: the operand at (first row, first k) of the block. */
    __device__ __forceinline__ slice_loader(const float *x, int64_t stride, bool is_wide, int rows,
                                            int k)
        : ld(stride), wide(is_wide) {
        line = (int)threadIdx.x / PER_LINE;
        column = (int)threadIdx.x % PER_LINE * 4;
        lines = (ALONG_K ? rows : k) - line;
        room = (ALONG_K ? k : rows) - column;
        at = x + line * ld + column;
    }

    __device__ __forceinline__ void next(void) {
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            const float *p = at + i * LINES * ld;
            const int count = i * LINES < lines ? room : 0;
            if (wide && count >= 4) {
                *(float4 *)v[i] = *(const float4 *)p;
            } else {
#pragma unroll
                for (int e = 0; e < 4; e++) v[i][e] = e < count ? p[e] : 0.0f;
            }
        }
        at += ALONG_K ? (int64_t)SLICE : SLICE * ld;
        (ALONG_K ? room : lines) -= SLICE;
    }

    __device__ __forceinline__ void store(float (*to)[ROWS + PAD]) const {
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            const int l = line + i * LINES;
            if (ALONG_K) {
#pragma unroll
                for (int e = 0; e < 4; e++) to[column + e][l] = v[i][e];
            } else {
                *(float4 *)&to[l][column] = *(const float4 *)v[i];
            }
        }
    }
};

/* A warp makes 32 x 64: lane l rows l / 8 * 4 and 16 further, columns l % 8 * 4 and 32 further. */
template <int TM, int TN, bool A_TRANS, bool B_TRANS>
__global__ void __launch_bounds__(TM *TN / 64, 2)
    k_product_simt(const __grid_constant__ product_args g) {
    enum { THREADS = TM * TN / 64, WARPS_N = TN / 64 };
    __shared__ __align__(16) float a_slice[2][SLICE][TM + PAD];
    __shared__ __align__(16) float b_slice[2][SLICE][TN + PAD];
    const tile_at t = tile_of(g, blockIdx.x, TM, TN);
    const float *a = (const float *)g.p.a + item_offset(g.p, g.p.a_step, t.item);
    const float *b = (const float *)g.p.b + item_offset(g.p, g.p.b_step, t.item);
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int row = warp / WARPS_N * 32 + lane / 8 * 4, col = warp % WARPS_N * 64 + lane % 8 * 4;
    const int ks = (int)(t.k_end - t.k_first);
    a += A_TRANS ? t.k_first * g.p.lda + t.row : t.row * g.p.lda + t.k_first;
    b += B_TRANS ? t.col * g.p.ldb + t.k_first : t.k_first * g.p.ldb + t.col;
    slice_loader<TM, THREADS, !A_TRANS> load_a(a, g.p.lda, g.wide_a, (int)(g.p.m - t.row), ks);
    slice_loader<TN, THREADS, B_TRANS> load_b(b, g.p.ldb, g.wide_b, (int)(g.p.n - t.col), ks);
    float sum[8][8] = {};

    load_a.next();
    load_b.next();
    for (int k = 0, side = 0; k < ks; k += SLICE, side ^= 1) {
        load_a.store(a_slice[side]);
        load_b.store(b_slice[side]);
        __syncthreads();
        if (k + SLICE < ks) {
            load_a.next();
            load_b.next();
        }
#pragma unroll
        for (int s = 0; s < SLICE; s++) {
            float x[8], y[8];
            *(float4 *)&x[0] = *(const float4 *)&a_slice[side][s][row];
            *(float4 *)&x[4] = *(const float4 *)&a_slice[side][s][row + 16];
            *(float4 *)&y[0] = *(const float4 *)&b_slice[side][s][col];
            *(float4 *)&y[4] = *(const float4 *)&b_slice[side][s][col + 32];
#pragma unroll
            for (int i = 0; i < 8; i++) {
#pragma unroll
                for (int j = 0; j < 8; j++) sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
            }
        }
    }
#pragma unroll 1
    for (int q = 0; q < 16; q++) { /* one copy of the epilogue; the sums must stay in registers */
        float z[4];
#pragma unroll
        for (int r = 0; r < 16; r++) {
            if (r != q) continue;
#pragma unroll
            for (int e = 0; e < 4; e++) z[e] = sum[r / 2][r % 2 * 4 + e];
        }
        emit_four<float>(g, t, t.row + row + q / 2 % 4 + q / 8 * 16, t.col + col + q % 2 * 32, z);
    }
}

typedef void simt_kernel(const product_args);

template <int TM, int TN> static simt_kernel *kernel_of(const qn_product *p) {
    if (p->a_trans) {
        return p->b_trans ? k_product_simt<TM, TN, true, true>
                          : k_product_simt<TM, TN, true, false>;
    }
    return p->b_trans ? k_product_simt<TM, TN, false, true> : k_product_simt<TM, TN, false, false>;
}

qn_status qni_product_simt(const product_args *g, const qn_tile *tile, cudaStream_t stream) {
    simt_kernel *kernel = tile->m == 128 ? kernel_of<128, 128>(&g->p) : kernel_of<64, 64>(&g->p);
    const int threads = tile->m * tile->n / 64;
    kernel<<<(unsigned)product_blocks(g), threads, 0, stream>>>(*g);
    return product_launched("product (f32)");
}
