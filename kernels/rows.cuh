/* rows.cuh — a row held by a warp or a block: the frame of norms, softmax and losses.
 *
 * A row of `width` elements is cut into vectors of V (16 bytes, or single elements where rows do
 * not start aligned). LANES threads (32: a warp, else the block of QN_ROW_THREADS) hold up to
 * HOLD vectors each, so a row that fits is read once and written once. Longer rows are walked
 * again and again (`HOLD` = 0); they come from cache where they fit there.
 */
#ifndef QN_ROWS_CUH
#define QN_ROWS_CUH

#include "kernels/walk.cuh"

enum { QN_ROW_THREADS = 256, QN_ROW_HOLD = 4 };

/* Where the rows of up to QN_WALK_MAX tensors lie: a walk over all axes but the last. */
typedef struct rows {
    walk at;
    int64_t n, width;
} rows;

static inline qn_tensor row_axes(const qn_tensor *t) {
    qn_tensor r = *t;
    r.ndim = t->ndim - 1;
    return r;
}

/* The tensors have the shape of t[0], NULL where absent. *dense: elements of a row lie side by
 * side. */
static inline rows rows_make(int n, const qn_tensor *const *t, bool *dense) {
    rows r = {};
    qn_tensor lead[QN_WALK_MAX];
    const qn_tensor *p[QN_WALK_MAX];
    int last = t[0]->ndim - 1;
    *dense = true;
    for (int k = 0; k < n; k++) {
        p[k] = t[k] ? &lead[k] : NULL;
        if (!t[k]) continue;
        lead[k] = row_axes(t[k]);
        *dense = *dense && (t[k]->shape[last] <= 1 || t[k]->stride[last] == 1);
    }
    r.at = walk_make(p[0], n, p);
    r.width = t[0]->shape[last];
    r.n = 1;
    for (int i = 0; i < last; i++) r.n *= t[0]->shape[i];
    return r;
}

/* Can rows be read in vectors of v elements of `bytes` bytes? */
static inline bool rows_take(const rows *r, int v, int bytes) {
    if (r->width % v != 0) return false;
    for (int k = 0; k < r->at.n_tensors; k++) {
        if ((uintptr_t)r->at.data[k] % (size_t)(v * bytes) != 0) return false;
        if (r->at.step[k] % v != 0) return false;
        for (int i = 0; i < r->at.n_outer; i++) {
            if (r->at.stride[k][i] % v != 0) return false;
        }
    }
    return true;
}

/* Element offset of row i in each tensor. */
template <int N> QN_DEV void rows_offset(const rows &r, int64_t i, int64_t (&at)[N]) {
    int64_t e = i, row = 0;
    if (r.at.n_outer > 0) row = walk_divide(i, r.at.inner, &e);
    walk_offset(r.at, row, e, at);
}

/* The sum over the LANES threads that hold a row, in all of them. Uses `partial` for a block; a
 * barrier before its next use is the caller's. */
template <int LANES> QN_DEV float row_sum(float x, float *partial) {
    if (LANES == QN_WARP) return warp_sum(x);
    return block_sum<LANES / QN_WARP>(x, partial);
}
template <int LANES> QN_DEV float row_max(float x, float *partial) {
    x = warp_max(x);
    if (LANES == QN_WARP) return x;
    if (threadIdx.x % QN_WARP == 0) partial[threadIdx.x / QN_WARP] = x;
    __syncthreads();
    float m = partial[0];
#pragma unroll
    for (int w = 1; w < LANES / QN_WARP; w++) m = fmaxf(m, partial[w]);
    return m;
}

#endif
