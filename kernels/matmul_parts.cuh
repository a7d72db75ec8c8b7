/* matmul_parts.cuh — what the product kernels share: their argument, the walk over output tiles and
 * the epilogue.
 *
 * A grid is one-dimensional: item of the batch, then split of k, then output tile. Tiles go down 8
 * rows of tiles before they step right, so that the blocks running together read a near-square part
 * of A and B from L2. With splits the sums go to f32 partial outputs in scratch and
 * k_product_finish adds them in order and does the epilogue.
 *
 * Traffic of the epilogue: C, pre and residual once (C twice if it accumulates), the bias once a
 * row of output, which L1 serves.
 */
#ifndef QN_MATMUL_PARTS_CUH
#define QN_MATMUL_PARTS_CUH

#include "kernels/activation.cuh"
#include "kernels/matmul.h"
#include "kernels/matmul_tune.h"
#include "kernels/ptx.cuh"

enum { QN_TILE_GROUP = 8, QN_BATCH_AXES = QN_MAX_DIMS - 2 };

typedef struct product_args {
    qn_product p;
    int64_t tiles_m, tiles_n, splits, split_k; /* k of each split but the last */
    int64_t items;                             /* of the batch */
    bool wide_a, wide_b;                       /* 16-byte accesses are legal */
    bool tensor_out;                           /* the output leaves by tensor stores */
    bool wide_out; /* so are accesses of four elements to all the epilogue touches */
} product_args;

/* ---- where a block works --------------------------------------------------------------------- */

typedef struct tile_at {
    int64_t row, col, item, split;
    int64_t k_first, k_end;
} tile_at;

QN_DEV tile_at tile_of(const product_args &g, int64_t block, int tile_m, int tile_n) {
    tile_at t;
    const int64_t tiles = g.tiles_m * g.tiles_n;
    int64_t tile = block % tiles, rest = block / tiles;
    t.split = rest % g.splits;
    t.item = rest / g.splits;
    const int64_t group = tile / (QN_TILE_GROUP * g.tiles_n),
                  in = tile % (QN_TILE_GROUP * g.tiles_n);
    const int64_t left = g.tiles_m - group * QN_TILE_GROUP;
    const int64_t high = left < QN_TILE_GROUP ? left : QN_TILE_GROUP;
    t.row = (group * QN_TILE_GROUP + in % high) * tile_m;
    t.col = in / high * tile_n;
    t.k_first = t.split * g.split_k;
    t.k_end = t.k_first + g.split_k < g.p.k ? t.k_first + g.split_k : g.p.k;
    return t;
}

/* Elements from the start of an operand to batch item `item`. */
QN_DEV int64_t item_offset(const qn_product &p, const int64_t *step, int64_t item) {
    int64_t at = 0;
#pragma unroll
    for (int i = QN_BATCH_AXES - 1; i >= 0; i--) {
        if (i >= p.batch_dims) continue;
        at += item % p.batch[i] * step[i];
        item /= p.batch[i];
    }
    return at;
}

/* ---- epilogue: four columns of a row --------------------------------------------------------- */

/* One access of four elements. */
QN_DEV void load_whole(float (&x)[4], const float *p) {
    const float4 v = *(const float4 *)p;
    x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
}
QN_DEV void load_whole(float (&x)[4], const bf16 *p) {
    const uint2 v = *(const uint2 *)p; /* bf16 is the upper half of an f32 */
    x[0] = __uint_as_float(v.x << 16), x[1] = __uint_as_float(v.x & 0xFFFF0000u);
    x[2] = __uint_as_float(v.y << 16), x[3] = __uint_as_float(v.y & 0xFFFF0000u);
}

template <typename T>
QN_DEV void load_four(float (&x)[4], const T *p, int64_t step, bool wide, int count) {
    if (wide && step == 1) {
        load_whole(x, p);
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++) x[e] = e < count ? to_f32(p[e * step]) : 0.0f;
    }
}

template <typename T> QN_DEV void store_four(T *p, const float (&x)[4], bool wide, int count) {
    if (wide) {
        store_run<T, 4>(p, x);
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            if (e < count) p[e] = from_f32<T>(x[e]);
        }
    }
}

template <typename C>
QN_DEV void put_four(const qn_product &p, int64_t at, float (&z)[4], bool wide, int count) {
    C *c = (C *)p.c + at;
    if (p.accumulate) {
        float old[4];
        load_four(old, c, 1, wide, count);
#pragma unroll
        for (int e = 0; e < 4; e++) z[e] += old[e];
    }
    store_four(c, z, wide, count);
}

/* z: the sums of row `row` from column `col` on, as far as they exist. T: the operands' type. */
template <typename T>
QN_DEV void finish_four(const product_args &g, int64_t item, int64_t row, int64_t col,
                        float (&z)[4]) {
    const qn_product &p = g.p;
    const int count = p.n - col < 4 ? (int)(p.n - col) : 4;
    const bool wide = g.wide_out && count == 4;
    float x[4];
#pragma unroll
    for (int e = 0; e < 4; e++) z[e] *= p.alpha;
    if (p.bias) {
        load_four(x, (const T *)p.bias + col * p.bias_step, p.bias_step, wide, count);
#pragma unroll
        for (int e = 0; e < 4; e++) z[e] += x[e];
    }
    if (p.pre) store_four((T *)p.pre + row * p.ldp + col, z, wide, count);
    if (p.activation != QN_ACT_NONE) {
#pragma unroll
        for (int e = 0; e < 4; e++) z[e] = act_f32(p.activation, z[e]);
    }
    if (p.residual) {
        load_four(x, (const T *)p.residual + row * p.ldr + col, 1, wide, count);
#pragma unroll
        for (int e = 0; e < 4; e++) z[e] += x[e];
    }
    const int64_t at = item_offset(p, p.c_step, item) + row * p.ldc + col;
    if (sizeof(T) == 4 || p.c_dtype == QN_F32) {
        put_four<float>(p, at, z, wide, count);
    } else {
        put_four<bf16>(p, at, z, wide, count);
    }
}

/* What a kernel does with four sums: the epilogue, or the partial output of its split. */
template <typename T>
QN_DEV void emit_four(const product_args &g, const tile_at &t, int64_t row, int64_t col,
                      float (&z)[4]) {
    if (row >= g.p.m || col >= g.p.n) return;
    if (g.splits == 1) {
        finish_four<T>(g, t.item, row, col, z);
        return;
    }
    const int count = g.p.n - col < 4 ? (int)(g.p.n - col) : 4;
    float *partial = (float *)g.p.scratch + ((t.item * g.splits + t.split) * g.p.m + row) * g.p.n;
    store_four(partial + col, z, g.p.n % 4 == 0, count);
}

/* ---- sums to rows ---------------------------------------------------------------------------- */

/* Float offset in shared memory of column `col` of a row of N sums; groups of 8 columns are
 * permuted by the row, so that pairs written in accumulator order and fours read along a row both
 * fall into different banks. */
template <int N> QN_DEV int sum_offset(int row, int col) {
    return row * N + (((col >> 3) ^ (row & 3)) << 3) + (col & 7);
}

/* ---- launchers ------------------------------------------------------------------------------- */

qn_status qni_product_simt(const product_args *g, const qn_tile *tile,
                           cudaStream_t stream) QN_CHECKED;
qn_status qni_product_mma(const product_args *g, const qn_tile *tile,
                          cudaStream_t stream) QN_CHECKED;

qn_status qni_product_wgmma(const product_args *g, const qn_tile *tile, int sms,
                            cudaStream_t stream) QN_CHECKED;

/* The error of the launch itself. */
static inline qn_status product_launched(const char *who) {
    cudaError_t e = cudaGetLastError();
    if (e == cudaSuccess) return QN_OK;
    return qn_fail(QN_ERR_DEVICE, "%s: CUDA launch: %s", who, cudaGetErrorString(e));
}

static inline int64_t product_blocks(const product_args *g) {
    return g->tiles_m * g->tiles_n * g->splits * g->items;
}

#endif
