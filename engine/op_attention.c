/* op_attention.c — scaled dot-product attention, its gradient, and writing to a key/value cache.
 *
 * The meaning is here: which keys a query sees, the definition in f64, the gradient
 *   p = exp(scale q.k - lse), dp = do.v, ds = p (m dp - sum(do o)) scale,
 *   dq = ds k, dk = ds^T q, dv = (m p)^T do,     m the dropout factor, 0 or 1/(1-p).
 * The tiled bodies are in attention_cpu.c.
 */
#include "engine/attention_cpu.h"
#include "engine/gemm.h"

#include <math.h>
#include <string.h>

/* ---- reading a call -------------------------------------------------------------------------- */

void qni_attention_sizes(const qn_call *c, qni_attention *a) {
    const qn_tensor *q = c->in[QNI_ATTN_Q], *k = c->in[QNI_ATTN_K];
    const qn_attention_attrs *attrs = c->attrs;
    *a = (qni_attention){.call = c,
                         .b = q->shape[0],
                         .t = q->shape[1],
                         .h = q->shape[2],
                         .d = q->shape[3],
                         .s = k->shape[1],
                         .g = k->shape[2]};
    a->scale = attrs->scale != 0.0 ? attrs->scale : 1.0 / sqrt((double)(a->d > 0 ? a->d : 1));
    a->causal = attrs->causal;
    a->window = attrs->window;
}

void qni_attention_read(const qn_call *c, qni_attention *a) {
    const qn_attention_attrs *attrs = c->attrs;
    qni_attention_sizes(c, a);
    const qn_tensor *start = c->in[QNI_ATTN_START];
    if (start) {
        a->start = start->data;
        a->start_stride = qn_tensor_count(start) == 1 ? 0 : start->stride[0];
    }
    a->dropout = attrs->dropout > 0.0;
    if (!a->dropout) return;
    a->threshold = (uint32_t)floor(attrs->dropout * 0x1p32);
    a->keep_scale = 1.0 / (1.0 - attrs->dropout);
    a->key = c->rng_key;
    a->step = (uint64_t)qn_tensor_get_int(c->in[QNI_ATTN_RNG], 0);
    a->sample = (uint64_t)qn_tensor_get_int(c->in[QNI_ATTN_RNG], 1);
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static qn_status check_heads(const qn_call *c) {
    const qn_tensor *q = c->in[QNI_ATTN_Q], *k = c->in[QNI_ATTN_K], *v = c->in[QNI_ATTN_V];
    bool fits = q->ndim == 4 && k->ndim == 4 && qn_tensor_same_shape(k, v) &&
                q->shape[0] == k->shape[0] && q->shape[3] == k->shape[3];
    if (fits && (k->shape[2] == 0 || q->shape[2] % k->shape[2] == 0)) {
        fits = k->shape[2] > 0 || q->shape[2] == 0;
    } else {
        fits = false;
    }
    if (fits) return QN_OK;
    char dq[96], dk[96], dv[96];
    return qn_fail(QN_ERR_SHAPE,
                   "%s: q is %s, k is %s, v is %s; expected q [B,T,H,D], k and v [B,S,G,D], H a "
                   "multiple of G",
                   c->op->name, qn_tensor_describe(q, dq, sizeof dq),
                   qn_tensor_describe(k, dk, sizeof dk), qn_tensor_describe(v, dv, sizeof dv));
}

static qn_status check_layout(const qn_call *c, int slot) {
    const qn_tensor *t = c->in[slot];
    if (t->shape[3] <= 1 || t->stride[3] == 1) return QN_OK;
    return qn_fail(QN_ERR_SHAPE, "%s: the last axis of %s is strided; make it contiguous first",
                   c->op->name, c->op->in_name[slot]);
}

static qn_status check_extras(const qn_call *c) {
    const qn_tensor *q = c->in[QNI_ATTN_Q], *k = c->in[QNI_ATTN_K];
    const qn_tensor *documents = c->in[QNI_ATTN_DOCUMENTS], *start = c->in[QNI_ATTN_START];
    const qn_tensor *rng = c->in[QNI_ATTN_RNG];
    const qn_attention_attrs *attrs = c->attrs;
    char d[96];
    if (documents &&
        (documents->dtype != QN_I32 || documents->ndim != 2 || documents->shape[0] != q->shape[0] ||
         documents->shape[1] != k->shape[1] || q->shape[1] != k->shape[1])) {
        return qn_fail(QN_ERR_SHAPE, "%s: documents is %s; expected i32[%lld,%lld] and T = S",
                       c->op->name, qn_tensor_describe(documents, d, sizeof d),
                       (long long)q->shape[0], (long long)k->shape[1]);
    }
    if (documents && start) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s: documents and start exclude each other",
                       c->op->name);
    }
    QN_TRY(qni_require_start(c, QNI_ATTN_START, q->shape[0]));
    if (attrs->window < 0 || (attrs->window > 0 && !attrs->causal)) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s: window is %lld, expected 0, or more with causal",
                       c->op->name, (long long)attrs->window);
    }
    if (!(attrs->dropout >= 0.0 && attrs->dropout < 1.0)) {
        return qn_fail(QN_ERR_CONFIG, "%s: dropout is %g, expected 0 <= p < 1", c->op->name,
                       attrs->dropout);
    }
    if (attrs->dropout > 0.0 && (!rng || rng->dtype != QN_I64 || qn_tensor_count(rng) != 2)) {
        return qn_fail(QN_ERR_SHAPE, "%s: dropout needs rng i64[2] {step, sample offset}, found %s",
                       c->op->name, rng ? qn_tensor_describe(rng, d, sizeof d) : "none");
    }
    return QN_OK;
}

static qn_status check_inputs(const qn_call *c) {
    QN_TRY(qni_require_float(c, 1u << QNI_ATTN_K | 1u << QNI_ATTN_V));
    QN_TRY(check_heads(c));
    for (int i = QNI_ATTN_Q; i <= QNI_ATTN_V; i++) QN_TRY(check_layout(c, i));
    return check_extras(c);
}

static qn_dtype lse_dtype(const qn_call *c) {
    return c->in[QNI_ATTN_Q]->dtype == QN_F64 ? QN_F64 : QN_F32;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static qn_status forward_infer(qn_call *c) {
    QN_TRY(check_inputs(c));
    qni_attention a;
    qni_attention_sizes(c, &a);
    size_t row = (size_t)a.s * sizeof(double); /* the REF body's weights of one query */
    c->scratch_bytes = larger(row, qni_attention_forward_scratch(&a, c->threads));
    qni_describe_like(c, QNI_ATTN_OUT_O, c->in[QNI_ATTN_Q]);
    qni_describe(c, QNI_ATTN_OUT_LSE, lse_dtype(c), QN_SHAPE(a.b, a.h, a.t));
    return QN_OK;
}

static qn_status backward_infer(qn_call *c) {
    QN_TRY(check_inputs(c));
    QN_TRY(qni_require_float(c, 1u << QNI_ATTN_O | 1u << QNI_ATTN_DO));
    QN_TRY(qni_require_same_shape(c, QNI_ATTN_O, QNI_ATTN_Q));
    QN_TRY(qni_require_same_shape(c, QNI_ATTN_DO, QNI_ATTN_Q));
    QN_TRY(check_layout(c, QNI_ATTN_O));
    QN_TRY(check_layout(c, QNI_ATTN_DO));
    qni_attention a;
    qni_attention_sizes(c, &a);
    const qn_tensor want = qn_tensor_make(NULL, lse_dtype(c), QN_SHAPE(a.b, a.h, a.t));
    const qn_tensor *lse = c->in[QNI_ATTN_LSE];
    if (!qn_tensor_same_shape(&want, lse) || !qn_tensor_is_contiguous(lse) ||
        lse->dtype != want.dtype) {
        char d[96], w[96];
        return qn_fail(QN_ERR_SHAPE, "attention_bwd: lse is %s, expected %s",
                       qn_tensor_describe(lse, d, sizeof d),
                       qn_tensor_describe(&want, w, sizeof w));
    }
    size_t rows = 2 * (size_t)a.d * sizeof(double); /* the REF body's dk and dv of one key */
    c->scratch_bytes = larger(rows, qni_attention_backward_scratch(&a, c->threads));
    qni_describe_like(c, QNI_ATTN_DQ, c->in[QNI_ATTN_Q]);
    qni_describe_like(c, QNI_ATTN_DK, c->in[QNI_ATTN_K]);
    qni_describe_like(c, QNI_ATTN_DV, c->in[QNI_ATTN_V]);
    return QN_OK;
}

/* ---- REF ------------------------------------------------------------------------------------- */

/* Element (b, i, h, 0) of a (B,T,H,D) tensor, as a storage offset. */
static int64_t head_offset(const qn_tensor *t, int64_t b, int64_t i, int64_t h) {
    return b * t->stride[0] + i * t->stride[1] + h * t->stride[2];
}

/* x[b,i,hx,:] . y[b,j,hy,:] */
static double dot(const qn_tensor *x, int64_t i, int64_t hx, const qn_tensor *y, int64_t j,
                  int64_t hy, int64_t b) {
    int64_t at_x = head_offset(x, b, i, hx), at_y = head_offset(y, b, j, hy);
    double sum = 0.0;
    for (int64_t d = 0; d < x->shape[3]; d++) {
        sum += qni_element(x->data, x->dtype, at_x + d) * qni_element(y->data, y->dtype, at_y + d);
    }
    return sum;
}

static bool sees(const qni_attention *a, int64_t b, int64_t i, int64_t j) {
    if (j < qni_attention_first(a, b, i) || j >= qni_attention_limit(a, b, i)) return false;
    return !a->call->in[QNI_ATTN_DOCUMENTS] ||
           qni_attention_document(a, b, i) == qni_attention_document(a, b, j);
}

static double dropout_factor(const qni_attention *a, int64_t b, int64_t h, int64_t i, int64_t j) {
    if (!a->dropout) return 1.0;
    uint64_t element = qni_attention_element(a, b, h, i) + (uint64_t)j;
    return qn_random_u32(a->key, a->step, element) >= a->threshold ? a->keep_scale : 0.0;
}

static void forward_ref_row(const qni_attention *a, int64_t b, int64_t h, int64_t i) {
    const qn_call *c = a->call;
    const qn_tensor *v = c->in[QNI_ATTN_V];
    double *p = c->scratch, max = -INFINITY, sum = 0.0;
    int64_t g = h / (a->h / a->g), row = (b * a->t + i) * a->h + h;
    for (int64_t j = 0; j < a->s; j++) {
        p[j] = -INFINITY;
        if (!sees(a, b, i, j)) continue;
        p[j] = a->scale * dot(c->in[QNI_ATTN_Q], i, h, c->in[QNI_ATTN_K], j, g, b);
        if (p[j] > max) max = p[j];
    }
    for (int64_t j = 0; j < a->s; j++) {
        p[j] = sees(a, b, i, j) ? exp(p[j] - max) : 0.0;
        sum += p[j];
    }
    for (int64_t d = 0; d < a->d; d++) {
        double o = 0.0;
        for (int64_t j = 0; j < a->s; j++) {
            if (!sees(a, b, i, j)) continue;
            o += p[j] * dropout_factor(a, b, h, i, j) *
                 qni_element(v->data, v->dtype, head_offset(v, b, j, g) + d);
        }
        qn_tensor_set(c->out[QNI_ATTN_OUT_O], row * a->d + d, sum == 0.0 ? 0.0 : o / sum);
    }
    if (c->out[QNI_ATTN_OUT_LSE]) {
        qn_tensor_set(c->out[QNI_ATTN_OUT_LSE], (b * a->h + h) * a->t + i,
                      sum == 0.0 ? -(double)INFINITY : max + log(sum));
    }
}

static qn_status forward_ref(const qn_call *c) {
    qni_attention a;
    qni_attention_read(c, &a);
    for (int64_t b = 0; b < a.b; b++) {
        for (int64_t h = 0; h < a.h; h++) {
            for (int64_t i = 0; i < a.t; i++) forward_ref_row(&a, b, h, i);
        }
    }
    return QN_OK;
}

/* *ds = the gradient of scale q.k, *mp = the weight that met v; both 0 where i does not see j. */
static void weight_gradient(const qni_attention *a, int64_t b, int64_t h, int64_t i, int64_t j,
                            double *ds, double *mp) {
    const qn_call *c = a->call;
    int64_t g = h / (a->h / a->g);
    *ds = *mp = 0.0;
    if (!sees(a, b, i, j)) return;
    double lse = qn_tensor_get(c->in[QNI_ATTN_LSE], (b * a->h + h) * a->t + i);
    double p = exp(a->scale * dot(c->in[QNI_ATTN_Q], i, h, c->in[QNI_ATTN_K], j, g, b) - lse);
    double dp = dot(c->in[QNI_ATTN_DO], i, h, c->in[QNI_ATTN_V], j, g, b);
    double mean = dot(c->in[QNI_ATTN_DO], i, h, c->in[QNI_ATTN_O], i, h, b);
    double m = dropout_factor(a, b, h, i, j);
    *ds = a->scale * p * (m * dp - mean);
    *mp = m * p;
}

/* sum[d] += factor x[b,i,h,d] */
static void add_scaled(double *sum, double factor, const qn_tensor *x, int64_t b, int64_t i,
                       int64_t h) {
    int64_t at = head_offset(x, b, i, h);
    for (int64_t d = 0; d < x->shape[3]; d++) {
        sum[d] += factor * qni_element(x->data, x->dtype, at + d);
    }
}

static void put_row(const qn_call *c, int slot, int64_t row, int64_t d, const double *sum) {
    for (int64_t k = 0; c->out[slot] && k < d; k++) qni_put(c, slot, row * d + k, sum[k]);
}

static void backward_ref_query(const qni_attention *a, int64_t b, int64_t h, int64_t i) {
    double *dq = a->call->scratch, ds, mp;
    memset(dq, 0, (size_t)a->d * sizeof *dq);
    for (int64_t j = 0; j < a->s; j++) {
        weight_gradient(a, b, h, i, j, &ds, &mp);
        add_scaled(dq, ds, a->call->in[QNI_ATTN_K], b, j, h / (a->h / a->g));
    }
    put_row(a->call, QNI_ATTN_DQ, (b * a->t + i) * a->h + h, a->d, dq);
}

static void backward_ref_key(const qni_attention *a, int64_t b, int64_t g, int64_t j) {
    double *dk = a->call->scratch, *dv = dk + a->d, ds, mp;
    int64_t group = a->h / a->g;
    memset(dk, 0, 2 * (size_t)a->d * sizeof *dk);
    for (int64_t h = g * group; h < (g + 1) * group; h++) {
        for (int64_t i = 0; i < a->t; i++) {
            weight_gradient(a, b, h, i, j, &ds, &mp);
            add_scaled(dk, ds, a->call->in[QNI_ATTN_Q], b, i, h);
            add_scaled(dv, mp, a->call->in[QNI_ATTN_DO], b, i, h);
        }
    }
    put_row(a->call, QNI_ATTN_DK, (b * a->s + j) * a->g + g, a->d, dk);
    put_row(a->call, QNI_ATTN_DV, (b * a->s + j) * a->g + g, a->d, dv);
}

static qn_status backward_ref(const qn_call *c) {
    qni_attention a;
    qni_attention_read(c, &a);
    for (int64_t b = 0; b < a.b; b++) {
        for (int64_t h = 0; h < a.h && c->out[QNI_ATTN_DQ]; h++) {
            for (int64_t i = 0; i < a.t; i++) backward_ref_query(&a, b, h, i);
        }
        for (int64_t g = 0; g < a.g && (c->out[QNI_ATTN_DK] || c->out[QNI_ATTN_DV]); g++) {
            for (int64_t j = 0; j < a.s; j++) backward_ref_key(&a, b, g, j);
        }
    }
    return QN_OK;
}

/* ---- gradient and cost ----------------------------------------------------------------------- */

static qn_status backward(qn_tape *t, qn_node *node) {
    qn_value *d_o = qn_grad_of(t, node->out[QNI_ATTN_OUT_O]);
    qn_value *lse = d_o ? qn_node_save(t, node, QNI_ATTN_OUT_LSE) : NULL;
    if (!lse) return qn_tape_status(t);
    qn_value *out[3] = {qn_grad_slot(t, node->in[QNI_ATTN_Q]),
                        qn_grad_slot(t, node->in[QNI_ATTN_K]),
                        qn_grad_slot(t, node->in[QNI_ATTN_V])};
    qn_value *in[9];
    for (int i = 0; i < QNI_ATTN_O; i++) in[i] = node->in[i];
    in[QNI_ATTN_O] = node->out[QNI_ATTN_OUT_O];
    in[QNI_ATTN_LSE] = lse;
    in[QNI_ATTN_DO] = d_o;
    /* The forward call's site, so that dropout draws the same numbers. */
    return qn_tape_emit(t, &qn_op_attention_bwd, in, out, 0, node->call.attrs, "attention");
}

/* Pairs of query and key that are not masked by position, in all heads. */
static double visible_pairs(const qni_attention *a) {
    double pairs = 0.0;
    for (int64_t i = 0; i < a->t; i++) {
        pairs += (double)(qni_attention_limit(a, 0, i) - qni_attention_first(a, 0, i));
    }
    return pairs * (double)(a->b * a->h);
}

static void forward_cost(const qn_call *c, qn_cost *cost) {
    qni_attention a;
    qni_attention_sizes(c, &a);
    qni_cost(c, cost, 0.0);
    cost->flops = 4.0 * visible_pairs(&a) * (double)a.d;
}

static void backward_cost(const qn_call *c, qn_cost *cost) {
    qni_attention a;
    qni_attention_sizes(c, &a);
    qni_cost(c, cost, 0.0);
    cost->flops = 10.0 * visible_pairs(&a) * (double)a.d;
}

const qn_op qn_op_attention = {
    .name = "attention",
    .n_in = 6,
    .n_out = 2,
    .in_name = {"q", "k", "v", "documents", "start", "rng"},
    .out_name = {"o", "lse"},
    .optional_in = 1u << QNI_ATTN_DOCUMENTS | 1u << QNI_ATTN_START | 1u << QNI_ATTN_RNG,
    .optional_out = 1u << QNI_ATTN_OUT_LSE,
    .alias = {QN_FRESH, QN_FRESH},
    .attr_bytes = sizeof(qn_attention_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = forward_infer,
    .run = {[QN_REF] = forward_ref, [QN_CPU] = qni_attention_forward_cpu},
    .backward = backward,
    .cost = forward_cost,
};

const qn_op qn_op_attention_bwd = {
    .name = "attention_bwd",
    .n_in = 9,
    .n_out = 3,
    .in_name = {"q", "k", "v", "documents", "start", "rng", "o", "lse", "do"},
    .out_name = {"dq", "dk", "dv"},
    .optional_in = 1u << QNI_ATTN_DOCUMENTS | 1u << QNI_ATTN_START | 1u << QNI_ATTN_RNG,
    .optional_out = 1u << QNI_ATTN_DQ | 1u << QNI_ATTN_DK | 1u << QNI_ATTN_DV,
    .alias = {QN_FRESH, QN_FRESH, QN_FRESH},
    .can_accumulate = 1u << QNI_ATTN_DQ | 1u << QNI_ATTN_DK | 1u << QNI_ATTN_DV,
    .attr_bytes = sizeof(qn_attention_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = backward_infer,
    .run = {[QN_REF] = backward_ref, [QN_CPU] = qni_attention_backward_cpu},
    .cost = backward_cost,
};

qn_value *qn_attention(qn_tape *t, qn_value *q, qn_value *k, qn_value *v, qn_value *documents,
                       qn_value *start, qn_value *rng, const qn_attention_attrs *attrs) {
    if (!q || !k || !v) return NULL;
    qn_attention_attrs a = *attrs;
    if (!qn_tape_get_options(t)->training) a.dropout = 0.0;
    qn_value *in[6] = {q, k, v, documents, start, a.dropout > 0.0 ? rng : NULL};
    qn_value *out[2] = {NULL, NULL};
    if (qn_tape_emit(t, &qn_op_attention, in, out, 0, &a, NULL) != QN_OK) return NULL;
    return out[QNI_ATTN_OUT_O];
}

/* ---- cache_write ----------------------------------------------------------------------------- */

enum { CACHE, CACHE_X, CACHE_START };

static qn_status cache_infer(qn_call *c) {
    const qn_tensor *cache = c->in[CACHE], *x = c->in[CACHE_X];
    char a[96], b[96];
    QN_TRY(qni_require_float(c, 1u << CACHE_X));
    bool fits = cache->ndim == 4 && x->ndim == 4 && cache->shape[0] == x->shape[0] &&
                cache->shape[1] >= x->shape[1] && cache->shape[2] == x->shape[2] &&
                cache->shape[3] == x->shape[3];
    if (!fits) {
        return qn_fail(QN_ERR_SHAPE,
                       "cache_write: cache is %s, x is %s; expected [B,S,G,D] and [B,T<=S,G,D]",
                       qn_tensor_describe(cache, a, sizeof a), qn_tensor_describe(x, b, sizeof b));
    }
    return qni_require_start(c, CACHE_START, x->shape[0]);
}

/* Sample b of x goes to positions start, ... of sample b of the cache. */
static void write_sample(const qn_tensor *cache, const qn_tensor *x, int64_t b, int64_t start) {
    int64_t n = x->shape[1] * x->shape[2] * x->shape[3];
    int64_t at = (b * cache->shape[1] + start) * x->shape[2] * x->shape[3];
    if (qn_tensor_is_contiguous(x) && qn_tensor_is_contiguous(cache)) {
        size_t item = qn_dtype_bytes(x->dtype);
        memcpy((char *)cache->data + (size_t)at * item,
               (const char *)x->data + (size_t)(b * n) * item, (size_t)n * item);
        return;
    }
    for (int64_t i = 0; i < n; i++) qn_tensor_set(cache, at + i, qn_tensor_get(x, b * n + i));
}

static qn_status cache_run(const qn_call *c) {
    const qn_tensor *x = c->in[CACHE_X], *cache = c->out[0];
    for (int64_t b = 0; b < x->shape[0]; b++) {
        int64_t start = qni_start(c, CACHE_START, b);
        if (start < 0 || start + x->shape[1] > cache->shape[1]) {
            return qn_fail(
                QN_ERR_DATA, "cache_write: positions %lld to %lld do not fit a cache of %lld",
                (long long)start, (long long)(start + x->shape[1]), (long long)cache->shape[1]);
        }
    }
    for (int64_t b = 0; b < x->shape[0]; b++) {
        write_sample(cache, x, b, qni_start(c, CACHE_START, b));
    }
    return QN_OK;
}

static void cache_cost(const qn_call *c, qn_cost *cost) {
    cost->bytes = 2.0 * (double)qn_tensor_bytes(c->in[CACHE_X]);
}

const qn_op qn_op_cache_write = {
    .name = "cache_write",
    .n_in = 3,
    .n_out = 1,
    .in_name = {"cache", "x", "start"},
    .out_name = {"cache"},
    .alias = {QN_UPDATES},
    .infer = cache_infer,
    .run = {[QN_REF] = cache_run},
    .cost = cache_cost,
};

qn_value *qn_cache_write(qn_tape *t, qn_value *cache, qn_value *x, qn_value *start) {
    if (!cache || !x || !start) return NULL;
    qn_value *in[3] = {cache, x, start}, *out[1] = {cache};
    if (qn_tape_emit(t, &qn_op_cache_write, in, out, 0, NULL, NULL) != QN_OK) return NULL;
    return out[0];
}
