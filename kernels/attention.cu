/* attention.cu — attention and its gradient: reading the call, and the sums of do * o.
 *
 * bf16 goes to tensor cores (attention_mma.cu), f32 to exact FMA (attention_simt.cu). Both hold a
 * tile of queries and walk tiles of keys with an online softmax (Milakov and Gimelshein 2018; Dao
 * 2022), so the T x S matrix never exists. The gradient makes P again from lse, once for dk and dv
 * (a tile of keys walks the queries) and once for dq (a tile of queries walks the keys): seven
 * products instead of five, and in exchange no atomics, no second copy of dq, the same bits always.
 */
#include "kernels/attention.cuh"

enum { Q, K, V, DOCUMENTS, START, RNG, O, LSE, DO };
enum { DOT_THREADS = 256 };

static heads heads_of(const qn_tensor *t) {
    heads h = {};
    if (!t) return h;
    h.data = t->data;
    for (int i = 0; i < 3; i++) h.stride[i] = t->stride[i];
    return h;
}

static bool heads_vector(const heads &h, int64_t v) {
    bool fits = is_aligned16(h.data);
    for (int i = 0; i < 3; i++) fits = fits && h.stride[i] % v == 0;
    return !h.data || fits;
}

static qn_status args_of(const qn_call *c, bool backward, attention_args *a) {
    const qn_attention_attrs *attrs = (const qn_attention_attrs *)c->attrs;
    const qn_tensor *q = c->in[Q], *k = c->in[K], *documents = c->in[DOCUMENTS];
    const qn_tensor *start = c->in[START];
    *a = {};
    a->q = heads_of(q);
    a->k = heads_of(k);
    a->v = heads_of(c->in[V]);
    a->o = heads_of(backward ? c->in[O] : c->out[0]);
    if (backward) {
        a->d_o = heads_of(c->in[DO]);
        a->dq = heads_of(c->out[0]);
        a->dk = heads_of(c->out[1]);
        a->dv = heads_of(c->out[2]);
        a->adds = c->accumulate;
    }
    const qn_tensor *lse = backward ? c->in[LSE] : c->out[1];
    a->lse = lse ? (float *)lse->data : NULL;
    if (documents) {
        a->documents = (const int32_t *)documents->data;
        a->document_stride[0] = documents->stride[0];
        a->document_stride[1] = documents->stride[1];
    }
    if (start) {
        a->start = (const int32_t *)start->data;
        a->start_stride = start->ndim == 1 && start->shape[0] > 1 ? (int)start->stride[0] : 0;
    }
    a->b = (int)q->shape[0];
    a->t = (int)q->shape[1];
    a->h = (int)q->shape[2];
    a->d = (int)q->shape[3];
    a->s = (int)k->shape[1];
    a->g = (int)k->shape[2];
    a->scale = (float)(attrs->scale != 0.0 ? attrs->scale : 1.0 / sqrt((double)(a->d ? a->d : 1)));
    a->causal = attrs->causal;
    a->window = attrs->window < a->s ? (int)attrs->window : 0; /* of all keys: no window */
    if (attrs->dropout > 0.0) {
        a->rng = (const int64_t *)c->in[RNG]->data;
        a->key = c->rng_key;
        a->threshold = (uint32_t)(attrs->dropout * 0x1p32);
        a->keep_scale = (float)(1.0 / (1.0 - attrs->dropout));
    }
    const int64_t v = q->dtype == QN_BF16 ? 8 : 4;
    const heads *all[] = {&a->q, &a->k, &a->v, &a->o, &a->d_o, &a->dq, &a->dk, &a->dv};
    a->vectors = a->d % v == 0;
    for (const heads *h : all) a->vectors = a->vectors && heads_vector(*h, v);
    if (a->d > ATTENTION_MAX_D) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s: heads of %d, CUDA takes up to %d", c->op->name,
                       a->d, (int)ATTENTION_MAX_D);
    }
    for (int i = 0; backward && i < 3; i++) {
        if (c->out[i] && c->out[i]->dtype != q->dtype) {
            return qn_fail(QN_ERR_DTYPE, "%s: %s has another dtype than q", c->op->name,
                           c->op->out_name[i]);
        }
    }
    return QN_OK;
}

static qn_status finish(const qn_call *c, cudaError_t e) {
    if (e == cudaSuccess) return QN_OK;
    return qn_fail(QN_ERR_DEVICE, "%s: CUDA launch: %s", c->op->name, cudaGetErrorString(e));
}

static qn_status run_attention(const qn_call *c) {
    attention_args a;
    QN_TRY(args_of(c, false, &a));
    if (a.b == 0 || a.t == 0 || a.h == 0) return QN_OK;
    bool wide = c->in[Q]->dtype == QN_BF16;
    return finish(c, wide ? attention_mma_fwd(&a, stream_of(c))
                          : attention_simt_fwd(&a, stream_of(c)));
}

/* ---- sum(do o) of every query ---------------------------------------------------------------- */

template <typename T>
__global__ void __launch_bounds__(DOT_THREADS) k_attention_dot(attention_args a) {
    const int lane = threadIdx.x % QN_WARP;
    const int64_t row = ((int64_t)blockIdx.x * DOT_THREADS + threadIdx.x) / QN_WARP;
    if (row >= (int64_t)a.b * a.t * a.h) return;
    const int h = (int)(row % a.h), i = (int)(row / a.h % a.t), b = (int)(row / a.h / a.t);
    const T *o = head_row<T>(a.o, b, i, h), *d_o = head_row<T>(a.d_o, b, i, h);
    float sum = 0.0f;
    for (int d = lane; d < a.d; d += QN_WARP) sum += to_f32(o[d]) * to_f32(d_o[d]);
    sum = warp_sum(sum);
    if (lane == 0) a.row_dot[stat_index(a, b, h, i)] = sum;
}

static qn_status run_attention_bwd(const qn_call *c) {
    attention_args a;
    QN_TRY(args_of(c, true, &a));
    if (a.b == 0 || a.h == 0 || (a.t == 0 && a.s == 0)) return QN_OK;
    cudaStream_t s = stream_of(c);
    a.row_dot = (float *)c->scratch;
    unsigned blocks = (unsigned)div_up((int64_t)a.b * a.t * a.h, DOT_THREADS / QN_WARP);
    bool wide = c->in[Q]->dtype == QN_BF16;
    if (blocks > 0 && wide) k_attention_dot<bf16><<<blocks, DOT_THREADS, 0, s>>>(a);
    if (blocks > 0 && !wide) k_attention_dot<float><<<blocks, DOT_THREADS, 0, s>>>(a);
    QN_TRY(launched(c));
    return finish(c, wide ? attention_mma_bwd(&a, s) : attention_simt_bwd(&a, s));
}

static size_t bwd_scratch(const qn_call *c) {
    const qn_tensor *q = c->in[Q];
    return sizeof(float) * (size_t)(q->shape[0] * q->shape[1] * q->shape[2]);
}

extern "C" const qn_cuda_body qn_cuda_attention[] = {
    {"attention", QN_REAL_DTYPES, run_attention},
    {"attention_bwd", QN_REAL_DTYPES, run_attention_bwd, bwd_scratch},
    {NULL},
};
