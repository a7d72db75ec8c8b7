/* matmul_mma.cu — bf16 products on the tensor cores of sm_80 and later (mma.sync).
 *
 * A block makes a tile of TM x TN, a warp WM x WN of it in m16n8k16 steps. Slices of 32 along k
 * arrive by 16-byte cp.async in a ring of STAGES; one barrier a slice. Both operands keep the order
 * they have in memory: one that lies along k is read by ldmatrix, one that lies along m or n by
 * ldmatrix.trans, so that forward, dgrad and wgrad need no transposed copy.
 * Shared rows are 64 bytes (along k) or 2 TM, 2 TN bytes (along m, n) without padding; the 16-byte
 * pieces of a row are permuted by the row number so that the eight rows an ldmatrix reads, and the
 * pieces a warp writes, fall into different banks.
 * The sums leave through shared memory (f32, permuted likewise), so that a warp writes whole rows.
 * Order of a sum: k upwards in steps of 16, each step as the tensor core adds it; then the splits.
 *
 * Traffic: 2 (m k ceil(n / TN) + k n ceil(m / TM)) bytes read, of which L2 serves most; outputs as
 * the epilogue says. Per split 8 m n bytes more. Limits: operands whose rows do not lie on 16 bytes
 * are loaded element by element through registers (the 64 x 64 tile only); the arithmetic is the
 * same.
 */
#include "kernels/matmul_parts.cuh"
#include "kernels/ptx.cuh"

enum { SLICE = 32, STAGES = 4, PIECE = 8 }; /* k at once; slices in flight; elements of 16 bytes */

/* ---- operands -------------------------------------------------------------------------------- */

/* An operand's slice in shared memory: ROWS (of m or n) by SLICE. Byte offset of a piece: */
template <int ROWS, bool ALONG_K> QN_DEV int piece_offset(int line, int piece) {
    if (ALONG_K) return line * (SLICE * 2) + ((piece ^ (line >> 1 & 3)) << 4);
    return line * (ROWS * 2) + ((piece ^ (line & 7)) << 4);
}

/* The share of one thread in loading an operand: always the same piece of lines that lie LINES
 * apart. Lines run along m or n (ALONG_K) or along k. */
template <int ROWS, int THREADS, bool ALONG_K, bool WIDE> struct tile_loader {
    enum {
        PER_LINE = ALONG_K ? SLICE / PIECE : ROWS / PIECE,
        LINES = THREADS / PER_LINE,
        COUNT = ROWS * SLICE / PIECE / THREADS,
        LINES_BYTES = LINES * (ALONG_K ? SLICE : ROWS) * 2
    };
    static_assert(LINES % 8 == 0, "all lines of a thread permute alike");
    const bf16 *at; /* this thread's first piece of the present slice */
    int64_t ld;
    int lines, room; /* of the operand, from the first line and the piece on */
    int offset;      /* of the first piece in shared memory */

    /* x: the operand at (first row, first k) of the block. */
    __device__ __forceinline__ tile_loader(const bf16 *x, int64_t stride, int rows, int k)
        : ld(stride) {
        const int line = (int)threadIdx.x / PER_LINE, piece = (int)threadIdx.x % PER_LINE;
        lines = (ALONG_K ? rows : k) - line;
        room = (ALONG_K ? k : rows) - piece * PIECE;
        offset = piece_offset<ROWS, ALONG_K>(line, piece);
        at = x + line * ld + piece * PIECE;
    }

    /* Copies the present slice to `to` and steps to the next. */
    __device__ __forceinline__ void next(uint32_t to) {
        const int count = room >= PIECE ? PIECE : room > 0 ? room : 0;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            copy(to + offset + i * LINES_BYTES, at + i * LINES * ld, i * LINES < lines ? count : 0);
        }
        at += ALONG_K ? (int64_t)SLICE : SLICE * ld;
        (ALONG_K ? room : lines) -= SLICE;
    }

    __device__ __forceinline__ void copy(uint32_t to, const bf16 *from, int n) const {
        if constexpr (WIDE) {
            cp_async_16(to, n > 0 ? from : at, n * 2);
        } else {
            union {
                uint32_t word[4];
                uint16_t half[PIECE];
            } v;
#pragma unroll
            for (int e = 0; e < PIECE; e++) v.half[e] = e < n ? ((const uint16_t *)from)[e] : 0;
            store_shared_16(to, v.word);
        }
    }
};

/* The 16 rows from `row` on of k step `step`: an A fragment. */
template <int ROWS, bool ALONG_K>
QN_DEV void load_a(uint32_t (&f)[4], uint32_t tile, int row, int step, int lane) {
    const int low = lane & 7, second = lane >> 3 & 1, third = lane >> 4;
    if (ALONG_K) {
        ldmatrix_x4(f, tile + piece_offset<ROWS, true>(row + low + second * 8, step * 2 + third));
    } else {
        ldmatrix_x4_trans(
            f, tile + piece_offset<ROWS, false>(step * 16 + low + third * 8, row / PIECE + second));
    }
}

/* The 16 columns from `col` on: two B fragments, f[0..1] and f[2..3]. */
template <int ROWS, bool ALONG_K>
QN_DEV void load_b(uint32_t (&f)[4], uint32_t tile, int col, int step, int lane) {
    const int low = lane & 7, second = lane >> 3 & 1, third = lane >> 4;
    if (ALONG_K) {
        ldmatrix_x4(f, tile + piece_offset<ROWS, true>(col + low + third * 8, step * 2 + second));
    } else {
        ldmatrix_x4_trans(
            f, tile + piece_offset<ROWS, false>(step * 16 + low + second * 8, col / PIECE + third));
    }
}

/* ---- sums to rows ---------------------------------------------------------------------------- */

template <int TM, int TN, int THREADS>
QN_DEV void emit_tile(const product_args &g, const tile_at &t, const float *sums) {
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < TM * TN / 4; i += THREADS) {
        const int row = i / (TN / 4), col = i % (TN / 4) * 4;
        float z[4];
        *(float4 *)z = *(const float4 *)(sums + sum_offset<TN>(row, col));
        emit_four<bf16>(g, t, t.row + row, t.col + col, z);
    }
}

/* ---- kernel ---------------------------------------------------------------------------------- */

template <int TM, int TN, int WM, int WN, bool A_TRANS, bool B_TRANS, bool WIDE>
__global__ void __launch_bounds__(TM / WM * (TN / WN) * 32, 2)
    k_product_mma(const __grid_constant__ product_args g) {
    enum {
        THREADS = TM / WM * (TN / WN) * 32,
        A_BYTES = TM * SLICE * 2,
        STAGE_BYTES = A_BYTES + TN * SLICE * 2
    };
    extern __shared__ __align__(1024) unsigned char shared[];
    const uint32_t base = shared_address(shared);
    const tile_at t = tile_of(g, blockIdx.x, TM, TN);
    const int64_t lda = g.p.lda, ldb = g.p.ldb;
    const int ks = (int)(t.k_end - t.k_first);
    const bf16 *a = (const bf16 *)g.p.a + item_offset(g.p, g.p.a_step, t.item);
    const bf16 *b = (const bf16 *)g.p.b + item_offset(g.p, g.p.b_step, t.item);
    a += A_TRANS ? t.k_first * lda + t.row : t.row * lda + t.k_first;
    b += B_TRANS ? t.col * ldb + t.k_first : t.k_first * ldb + t.col;
    tile_loader<TM, THREADS, !A_TRANS, WIDE> next_a(a, lda, (int)(g.p.m - t.row), ks);
    tile_loader<TN, THREADS, B_TRANS, WIDE> next_b(b, ldb, (int)(g.p.n - t.col), ks);
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int row = warp / (TN / WN) * WM, col = warp % (TN / WN) * WN;
    const int slices = (ks + SLICE - 1) / SLICE;
    float sum[WM / 16][WN / 8][4] = {};

#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < slices) {
            next_a.next(base + s * STAGE_BYTES);
            next_b.next(base + s * STAGE_BYTES + A_BYTES);
        }
        cp_async_commit();
    }
    for (int s = 0; s < slices; s++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        if (s + STAGES - 1 < slices) { /* into the stage that the last barrier set free */
            const uint32_t stage = base + (s + STAGES - 1) % STAGES * STAGE_BYTES;
            next_a.next(stage);
            next_b.next(stage + A_BYTES);
        }
        cp_async_commit();
        const uint32_t tile_a = base + s % STAGES * STAGE_BYTES, tile_b = tile_a + A_BYTES;
#pragma unroll
        for (int step = 0; step < SLICE / 16; step++) {
            uint32_t fa[WM / 16][4], fb[WN / 16][4];
#pragma unroll
            for (int i = 0; i < WM / 16; i++) {
                load_a<TM, !A_TRANS>(fa[i], tile_a, row + i * 16, step, lane);
            }
#pragma unroll
            for (int j = 0; j < WN / 16; j++) {
                load_b<TN, B_TRANS>(fb[j], tile_b, col + j * 16, step, lane);
            }
#pragma unroll
            for (int i = 0; i < WM / 16; i++) {
#pragma unroll
                for (int j = 0; j < WN / 8; j++) {
                    mma_bf16(sum[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
                }
            }
        }
    }
    cp_async_wait<0>();
    __syncthreads(); /* the ring becomes the tile of sums */
#pragma unroll
    for (int i = 0; i < WM / 16; i++) {
#pragma unroll
        for (int j = 0; j < WN / 8; j++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int r = row + i * 16 + lane / 4 + h * 8, c = col + j * 8 + lane % 4 * 2;
                store_shared_8(base + sum_offset<TN>(r, c) * 4, sum[i][j][h * 2],
                               sum[i][j][h * 2 + 1]);
            }
        }
    }
    __syncthreads();
    emit_tile<TM, TN, THREADS>(g, t, (const float *)shared);
}

/* ---- launcher -------------------------------------------------------------------------------- */

typedef void mma_kernel(const product_args);

template <int TM, int TN, int WM, int WN, bool WIDE>
static mma_kernel *kernel_of(const qn_product *p) {
    if (p->a_trans) {
        return p->b_trans ? k_product_mma<TM, TN, WM, WN, true, true, WIDE>
                          : k_product_mma<TM, TN, WM, WN, true, false, WIDE>;
    }
    return p->b_trans ? k_product_mma<TM, TN, WM, WN, false, true, WIDE>
                      : k_product_mma<TM, TN, WM, WN, false, false, WIDE>;
}

qn_status qni_product_mma(const product_args *g, const qn_tile *tile, cudaStream_t stream) {
    mma_kernel *kernel;
    if (!g->wide_a || !g->wide_b) {
        kernel = kernel_of<64, 64, 32, 32, false>(&g->p);
    } else if (tile->m == 128) {
        kernel = kernel_of<128, 128, 64, 32, true>(&g->p);
    } else {
        kernel = kernel_of<64, 64, 32, 32, true>(&g->p);
    }
    cudaError_t e = cudaFuncSetAttribute(
        (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, tile->shared_bytes);
    if (e != cudaSuccess) {
        return qn_fail(QN_ERR_DEVICE, "product (bf16): %d bytes of shared memory: %s",
                       tile->shared_bytes, cudaGetErrorString(e));
    }
    kernel<<<(unsigned)product_blocks(g), tile->threads, tile->shared_bytes, stream>>>(*g);
    return product_launched("product (bf16)");
}
