/* walk.cuh — elementwise work over strided tensors: one kernel shape for every op that maps
 * elements to elements.
 *
 * The host merges axes that lie one behind the other in every tensor; what remains is rows of
 * `inner` elements, dense or repeated in each tensor. A thread takes V consecutive elements of a
 * row (8 of bf16, 4 where f32 takes part: 16, or 8, bytes an access, neighbours side by side, so
 * every sector a warp touches is used whole) or one element of a row's rest. Where a row does not
 * start aligned the same kernel runs with V = 1.
 *
 * Traffic: each operand once, an accumulated output twice, a repeated operand from cache. Registers
 * hold everything; no shared memory. In flight at full occupancy: 32 KB an SM and operand.
 * Deterministic: every element has one writer.
 */
#ifndef QN_WALK_CUH
#define QN_WALK_CUH

#include "kernels/common.cuh"

enum { QN_WALK_MAX = 5, QN_WALK_THREADS = 256, QN_WALK_BLOCKS = 8192 };

typedef struct walk {
    int n_tensors, n_outer;        /* outer axes, the fastest last */
    int64_t outer[QN_MAX_DIMS];    /* their sizes */
    int64_t inner, per_row, total; /* elements of a row, threads of a row, threads */
    int64_t stride[QN_WALK_MAX][QN_MAX_DIMS];
    int64_t step[QN_WALK_MAX]; /* along the row: 0 or 1 (any in the V = 1 form) */
    void *data[QN_WALK_MAX];
} walk;

/* Row-major views of one shape, that of `as`. A tensor of fewer axes, or of size 1 along one,
 * repeats; an absent output is NULL. */
static inline walk walk_make(const qn_tensor *as, int n, const qn_tensor *const *t) {
    walk w = {};
    int64_t shape[QN_MAX_DIMS], stride[QN_WALK_MAX][QN_MAX_DIMS];
    int axes = 0;
    w.n_tensors = n;
    for (int i = 0; i < as->ndim; i++) {
        if (as->shape[i] == 1) continue;
        bool merges = axes > 0;
        for (int k = 0; k < n; k++) {
            int own = t[k] ? i - (as->ndim - t[k]->ndim) : -1;
            stride[k][axes] = own < 0 || t[k]->shape[own] == 1 ? 0 : t[k]->stride[own];
            merges = merges && stride[k][axes - 1] == stride[k][axes] * as->shape[i];
        }
        if (merges) {
            axes--;
            for (int k = 0; k < n; k++) stride[k][axes] = stride[k][axes + 1];
            shape[axes] *= as->shape[i];
        } else {
            shape[axes] = as->shape[i];
        }
        axes++;
    }
    w.n_outer = axes > 0 ? axes - 1 : 0;
    w.inner = axes > 0 ? shape[axes - 1] : 1;
    for (int i = 0; i < w.n_outer; i++) w.outer[i] = shape[i];
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < w.n_outer; i++) w.stride[k][i] = stride[k][i];
        w.step[k] = axes > 0 ? stride[k][axes - 1] : 0;
        w.data[k] = t[k] ? t[k]->data : NULL;
    }
    return w;
}

/* Can a thread take v elements at once? bytes[k]: size of an element of tensor k. */
static inline bool walk_takes(const walk *w, int v, const int *bytes) {
    for (int k = 0; k < w->n_tensors; k++) {
        if (w->step[k] != 0 && w->step[k] != 1) return false;
        if (w->step[k] == 0) continue;
        if ((uintptr_t)w->data[k] % (size_t)(v * bytes[k]) != 0) return false;
        for (int i = 0; i < w->n_outer; i++) {
            if (w->stride[k][i] % v != 0) return false;
        }
    }
    return true;
}

static inline int64_t walk_threads(walk *w, int v) {
    int64_t rows = 1;
    for (int i = 0; i < w->n_outer; i++) rows *= w->outer[i];
    w->per_row = w->inner / v + w->inner % v;
    w->total = rows * w->per_row;
    return w->total;
}

/* ---- device ---------------------------------------------------------------------------------- */

/* i / d and *rest = i % d; 32-bit arithmetic where it is enough. */
QN_DEV int64_t walk_divide(int64_t i, int64_t d, int64_t *rest) {
    if (((uint64_t)(i | d) >> 32) == 0) {
        uint32_t q = (uint32_t)i / (uint32_t)d;
        *rest = (uint32_t)i - q * (uint32_t)d;
        return q;
    }
    int64_t q = i / d;
    *rest = i - q * d;
    return q;
}

/* Element offsets in N tensors: element e along the row, row `row`. */
template <int N> QN_DEV void walk_offset(const walk &w, int64_t row, int64_t e, int64_t (&at)[N]) {
#pragma unroll
    for (int k = 0; k < N; k++) at[k] = e * w.step[k];
    for (int a = w.n_outer - 1; a >= 0; a--) {
        int64_t c = row;
        if (a > 0) row = walk_divide(row, w.outer[a], &c);
#pragma unroll
        for (int k = 0; k < N; k++) at[k] += c * w.stride[k][a];
    }
}

template <typename TI, typename TO, int NIN, int NOUT, int V, typename F>
QN_DEV void walk_run(const walk &w, const F &f, uint32_t adds, const int64_t *at, int64_t index) {
    float x[NIN > 0 ? NIN : 1][V], y[NOUT][V];
#pragma unroll
    for (int k = 0; k < NIN; k++) {
        const TI *p = (const TI *)w.data[k] + at[k];
        if (V > 1 && w.step[k] == 0) {
            float one = to_f32(*p);
#pragma unroll
            for (int e = 0; e < V; e++) x[k][e] = one;
        } else {
            load_run<TI, V>(x[k], p);
        }
    }
    f.template map<V>(y, x, index);
#pragma unroll
    for (int k = 0; k < NOUT; k++) {
        TO *p = (TO *)w.data[NIN + k] + at[NIN + k];
        if (NOUT > 1 && !w.data[NIN + k]) continue;
        if (adds >> k & 1u) {
            float old[V];
            load_run<TO, V>(old, p);
#pragma unroll
            for (int e = 0; e < V; e++) y[k][e] += old[e];
        }
        store_run<TO, V>(p, y[k]);
    }
}

/* Tensors 0 .. NIN-1 are read, the NOUT behind them written. f.map<V>(y, x, index): index is the
 * row-major number of the first element. */
template <typename TI, typename TO, int NIN, int NOUT, int V, typename F>
__global__ void __launch_bounds__(QN_WALK_THREADS) k_walk(walk w, F f, uint32_t adds) {
    const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (int64_t i = first; i < w.total; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t in_row = i, row = 0, at[NIN + NOUT];
        if (w.n_outer > 0) row = walk_divide(i, w.per_row, &in_row);
        int64_t vectors = w.inner / V;
        bool whole = V == 1 || in_row < vectors;
        int64_t e = whole ? in_row * V : vectors * V + (in_row - vectors);
        walk_offset(w, row, e, at);
        int64_t index = row * w.inner + e;
        if (whole) {
            walk_run<TI, TO, NIN, NOUT, V>(w, f, adds, at, index);
        } else {
            walk_run<TI, TO, NIN, NOUT, 1>(w, f, adds, at, index);
        }
    }
}

/* ---- launching ------------------------------------------------------------------------------- */

template <typename TI, typename TO, int NIN, int NOUT, typename F>
static inline void walk_launch(const qn_call *c, walk w, F f, uint32_t adds) {
    constexpr int V = sizeof(TI) == 2 && sizeof(TO) == 2 ? 8 : 4;
    int bytes[QN_WALK_MAX];
    for (int k = 0; k < NIN + NOUT; k++) bytes[k] = k < NIN ? sizeof(TI) : sizeof(TO);
    bool vector = walk_takes(&w, V, bytes);
    int64_t total = walk_threads(&w, vector ? V : 1), blocks = div_up(total, QN_WALK_THREADS);
    if (total == 0) return;
    if (blocks > QN_WALK_BLOCKS) blocks = QN_WALK_BLOCKS;
    if (vector) {
        k_walk<TI, TO, NIN, NOUT, V>
            <<<(unsigned)blocks, QN_WALK_THREADS, 0, stream_of(c)>>>(w, f, adds);
    } else {
        k_walk<TI, TO, NIN, NOUT, 1>
            <<<(unsigned)blocks, QN_WALK_THREADS, 0, stream_of(c)>>>(w, f, adds);
    }
}

/* The usual pairs of dtypes: f32 to f32, bf16 to bf16, and bf16 to an f32 gradient. */
template <int NIN, int NOUT, typename F>
static inline qn_status walk_dispatch(const qn_call *c, const qn_tensor *as,
                                      const qn_tensor *const *t, F f) {
    qn_dtype in = t[0]->dtype, out = t[NIN] ? t[NIN]->dtype : t[NIN + NOUT - 1]->dtype;
    walk w = walk_make(as, NIN + NOUT, t);
    if (in == QN_F32 && out == QN_F32) {
        walk_launch<float, float, NIN, NOUT>(c, w, f, c->accumulate);
    } else if (in == QN_BF16 && out == QN_BF16) {
        walk_launch<bf16, bf16, NIN, NOUT>(c, w, f, c->accumulate);
    } else if (in == QN_BF16 && out == QN_F32) {
        walk_launch<bf16, float, NIN, NOUT>(c, w, f, c->accumulate);
    } else {
        return qn_fail(QN_ERR_DTYPE, "%s: no CUDA kernel for this pair of dtypes", c->op->name);
    }
    return launched(c);
}

#endif
