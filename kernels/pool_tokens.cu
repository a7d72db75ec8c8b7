/* pool_tokens.cu — one row per sample from its tokens: first, last or mean, and its gradient.
 *
 * A block has one sample and COLUMNS columns, a thread one column. The block finds the tokens that
 * count first (whole numbers, any order), then each thread adds its column in token order, in f64,
 * as the reference does. The gradient writes a tile of TILE tokens a block. Traffic: documents once
 * a block; of x the rows that count, of dx everything.
 */
#include "kernels/common.cuh"

enum { POOL_X, POOL_DOCUMENTS, COLUMNS = 256, TILE = 16 };

struct pool_args {
    const int32_t *documents; /* NULL: every token counts */
    const void *in;
    void *out;
    int64_t tokens, width, in_stride, out_stride; /* strides of rows */
    qn_pooling kind;
    bool adds;
};

struct picked {
    int first, last;
    double weight; /* 0: no token counts */
};

QN_DEV bool pool_counts(const pool_args &a, int64_t sample, int64_t t) {
    return !a.documents || a.documents[sample * a.tokens + t] >= 0;
}

QN_DEV picked pool_pick(const pool_args &a, int64_t sample) {
    __shared__ int first, last, n;
    if (threadIdx.x == 0) {
        first = INT_MAX;
        last = -1;
        n = 0;
    }
    __syncthreads();
    int lo = INT_MAX, hi = -1, count = 0;
    for (int64_t t = threadIdx.x; t < a.tokens; t += COLUMNS) {
        if (!pool_counts(a, sample, t)) continue;
        if (count++ == 0) lo = (int)t;
        hi = (int)t;
    }
    if (count > 0) {
        atomicMin(&first, lo);
        atomicMax(&last, hi);
        atomicAdd(&n, count);
    }
    __syncthreads();
    picked p = {first, last, n > 0 ? 1.0 : 0.0};
    if (a.kind == QN_POOL_MEAN && n > 0) p.weight = 1.0 / (double)n;
    if (a.kind == QN_POOL_FIRST) p.last = p.first;
    if (a.kind == QN_POOL_LAST) p.first = p.last;
    return p;
}

template <typename T> __global__ void __launch_bounds__(COLUMNS) k_pool_tokens_fwd(pool_args a) {
    const int64_t sample = blockIdx.y, j = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
    const picked p = pool_pick(a, sample);
    if (j >= a.width) return;
    const T *x = (const T *)a.in + sample * a.tokens * a.in_stride + j;
    double sum = 0.0;
    for (int64_t t = p.first; p.weight > 0 && t <= p.last; t++) {
        if (pool_counts(a, sample, t)) sum += (double)to_f32(x[t * a.in_stride]);
    }
    T *y = (T *)a.out + sample * a.out_stride + j;
    *y = from_f32<T>((float)(sum * p.weight));
}

template <typename T> __global__ void __launch_bounds__(COLUMNS) k_pool_tokens_bwd(pool_args a) {
    const int64_t sample = blockIdx.z, j = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
    const picked p = pool_pick(a, sample);
    if (j >= a.width) return;
    const float d = (float)p.weight * to_f32(((const T *)a.in)[sample * a.in_stride + j]);
    const int64_t first = (int64_t)blockIdx.y * TILE;
    for (int64_t t = first; t < first + TILE && t < a.tokens; t++) {
        bool chosen = p.weight > 0 && t >= p.first && t <= p.last && pool_counts(a, sample, t);
        if (!chosen && a.adds) continue;
        T *dx = (T *)a.out + (sample * a.tokens + t) * a.out_stride + j;
        *dx = from_f32<T>(chosen ? (a.adds ? d + to_f32(*dx) : d) : 0.0f);
    }
}

/* ---- launchers ------------------------------------------------------------------------------- */

/* Elements from row to row of t (..., C): one stride must do for all of them. */
static qn_status row_stride(const qn_call *c, const qn_tensor *t, int64_t *stride) {
    int last = t->ndim - 1;
    *stride = t->stride[last - 1];
    bool dense = t->shape[last] <= 1 || t->stride[last] == 1;
    bool even = t->ndim < 3 || t->shape[0] <= 1 || t->stride[0] == t->shape[1] * *stride;
    if (dense && even) return QN_OK;
    return qn_fail(QN_ERR_UNSUPPORTED, "%s: CUDA wants rows at one distance", c->op->name);
}

static qn_status pool_open(const qn_call *c, pool_args *a) {
    const qn_pool_attrs *attrs = (const qn_pool_attrs *)c->attrs;
    const qn_tensor *documents = c->in[POOL_DOCUMENTS], *in = c->in[POOL_X], *out = c->out[0];
    if (documents && (documents->stride[1] != 1 || documents->stride[0] != attrs->tokens)) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s: CUDA wants contiguous documents", c->op->name);
    }
    *a = {};
    a->documents = documents ? (const int32_t *)documents->data : NULL;
    a->in = in->data;
    a->out = out->data;
    a->tokens = attrs->tokens;
    a->width = in->shape[in->ndim - 1];
    a->kind = attrs->kind;
    a->adds = c->accumulate & 1u;
    QN_TRY(row_stride(c, in, &a->in_stride));
    return row_stride(c, out, &a->out_stride);
}

static qn_status run_pool_tokens(const qn_call *c) {
    pool_args a;
    QN_TRY(pool_open(c, &a));
    int64_t samples = c->in[POOL_X]->shape[0];
    if (samples == 0 || a.width == 0) return QN_OK;
    dim3 grid((unsigned)div_up(a.width, COLUMNS), (unsigned)samples);
    if (c->in[POOL_X]->dtype == QN_F32) {
        k_pool_tokens_fwd<float><<<grid, COLUMNS, 0, stream_of(c)>>>(a);
    } else {
        k_pool_tokens_fwd<bf16><<<grid, COLUMNS, 0, stream_of(c)>>>(a);
    }
    return launched(c);
}

static qn_status run_pool_tokens_bwd(const qn_call *c) {
    pool_args a;
    QN_TRY(pool_open(c, &a));
    int64_t samples = c->in[POOL_X]->shape[0];
    if (samples == 0 || a.width == 0 || a.tokens == 0) return QN_OK;
    dim3 grid((unsigned)div_up(a.width, COLUMNS), (unsigned)div_up(a.tokens, TILE),
              (unsigned)samples);
    if (c->in[POOL_X]->dtype == QN_F32) {
        k_pool_tokens_bwd<float><<<grid, COLUMNS, 0, stream_of(c)>>>(a);
    } else {
        k_pool_tokens_bwd<bf16><<<grid, COLUMNS, 0, stream_of(c)>>>(a);
    }
    return launched(c);
}

extern "C" const qn_cuda_body qn_cuda_pool_tokens[] = {
    {"pool_tokens", QN_REAL_DTYPES, run_pool_tokens},
    {"pool_tokens_bwd", QN_REAL_DTYPES, run_pool_tokens_bwd},
    {NULL},
};
