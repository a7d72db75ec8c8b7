/* op_elementwise.c — add, sub, mul, div with broadcasting; scale; unary functions; fill.
 *
 * Gradients of the binary ops are written with the ops themselves; where an operand was broadcast,
 * its gradient is reduced over the axes it was repeated along.
 */
#include "engine/op_shared.h"
#include "engine/tape_internal.h"

#include <string.h>

/* ---- broadcasting ---------------------------------------------------------------------------- */

static int64_t axis_size(const qn_tensor *t, int ndim, int axis) { /* axis of the broadcast shape */
    int own = axis - (ndim - t->ndim);
    return own < 0 ? 1 : t->shape[own];
}

static qn_status binary_infer(qn_call *c) {
    const qn_tensor *a = c->in[0], *b = c->in[1];
    QN_TRY(qni_require_float(c, 2));
    int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    int64_t shape[QN_MAX_DIMS];
    for (int i = 0; i < ndim; i++) {
        int64_t p = axis_size(a, ndim, i), q = axis_size(b, ndim, i);
        if (p != q && p != 1 && q != 1) {
            char ta[96], tb[96];
            return qn_fail(QN_ERR_SHAPE, "%s: %s and %s do not broadcast together", c->op->name,
                           qn_tensor_describe(a, ta, sizeof ta),
                           qn_tensor_describe(b, tb, sizeof tb));
        }
        shape[i] = p == 1 ? q : p;
    }
    qni_describe(c, 0, a->dtype, ndim, shape);
    return QN_OK;
}

/* t seen in the shape of `as`: stride 0 along repeated axes. */
static qn_tensor broadcast(const qn_tensor *t, const qn_tensor *as) {
    qn_tensor v = *as;
    v.data = t->data;
    v.dtype = t->dtype;
    for (int i = 0; i < as->ndim; i++) {
        int own = i - (as->ndim - t->ndim);
        v.stride[i] = own < 0 || t->shape[own] == 1 ? 0 : t->stride[own];
    }
    return v;
}

/* ---- binary bodies --------------------------------------------------------------------------- */

typedef enum binary { ADD, SUB, MUL, DIV } binary;

static binary binary_of(const qn_call *c) {
    return c->op == &qn_op_add ? ADD : c->op == &qn_op_sub ? SUB : c->op == &qn_op_mul ? MUL : DIV;
}

static qn_status binary_ref(const qn_call *c) {
    qn_tensor a = broadcast(c->in[0], c->out[0]), b = broadcast(c->in[1], c->out[0]);
    binary kind = binary_of(c);
    int64_t n = qn_tensor_count(c->out[0]);
    for (int64_t i = 0; i < n; i++) {
        double p = qn_tensor_get(&a, i), q = qn_tensor_get(&b, i);
        qni_put(c, 0, i, kind == ADD ? p + q : kind == SUB ? p - q : kind == MUL ? p * q : p / q);
    }
    return QN_OK;
}

QN_INLINE void binary_row(binary kind, int64_t n, const float *a, const float *b, float *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] = kind == ADD   ? a[i] + b[i]
               : kind == SUB ? a[i] - b[i]
               : kind == MUL ? a[i] * b[i]
                             : a[i] / b[i];
    }
}

static void binary_span(const qni_walk *w, const int64_t *offset, int64_t index, int64_t n) {
    (void)index;
    float pa[QNI_SPAN], pb[QNI_SPAN], py[QNI_SPAN];
    bool adds = qni_adds(w->call, 0);
    const float *a = qni_load(w, 0, offset, n, pa), *b = qni_load(w, 1, offset, n, pb);
    float *y = qni_dest(w, 2, offset, adds, py);
    switch (binary_of(w->call)) {
    case ADD: binary_row(ADD, n, a, b, y); break;
    case SUB: binary_row(SUB, n, a, b, y); break;
    case MUL: binary_row(MUL, n, a, b, y); break;
    case DIV: binary_row(DIV, n, a, b, y); break;
    }
    qni_store(w, 2, offset, n, y, adds);
}

static qn_status binary_cpu(const qn_call *c) {
    qn_tensor a = broadcast(c->in[0], c->out[0]), b = broadcast(c->in[1], c->out[0]);
    qni_walk_run(c, 3, (const qn_tensor *[]){&a, &b, c->out[0]}, binary_span);
    return QN_OK;
}

static void one_flop_cost(const qn_call *c, qn_cost *cost) {
    qni_cost(c, cost, 0.0);
    cost->flops += (double)qn_tensor_count(c->out[0]);
}

/* ---- gradients of broadcasting --------------------------------------------------------------- */

static qn_value *emit_binary(qn_tape *t, const qn_op *op, qn_value *a, qn_value *b, qn_value *out) {
    if (!a || !b) return NULL;
    qn_value *in[] = {a, b}, *outs[] = {out};
    return qn_tape_emit(t, op, in, outs, 0, NULL, NULL) == QN_OK ? outs[0] : NULL;
}

static qn_value *reduce_into(qn_tape *t, qn_value *x, int axis, bool keep, qn_value *out) {
    qn_reduce_attrs attrs = {QN_SUM, axis, keep};
    qn_value *in[] = {x}, *outs[] = {out};
    return qn_tape_emit(t, &qn_op_reduce, in, outs, 0, &attrs, NULL) == QN_OK ? outs[0] : NULL;
}

/* Gradient of `in` += g summed over the axes `in` was repeated along. Leading axes that `in` lacks
 * go in one reduction; the last reduction writes the gradient itself, in its own precision. */
static qn_status pass_reduced(qn_tape *t, qn_value *in, qn_value *g) {
    if (!g) return qn_tape_status(t);
    int64_t shape[QN_MAX_DIMS];
    int lead = g->t.ndim - in->t.ndim, last = -1;
    for (int i = 0; i < in->t.ndim; i++) {
        shape[i + 1] = in->t.shape[i];
        if (in->t.shape[i] == 1 && g->t.shape[lead + i] != 1) last = i;
    }
    if (lead == 0 && last < 0) return qn_grad_pass(t, in, g);
    qn_value *slot = qn_grad_slot(t, in);
    if (in->t.ndim == 0) {
        reduce_into(t, g, QN_ALL_AXES, false, slot);
        return qn_tape_status(t);
    }
    if (lead > 0) {
        shape[0] = 1;
        for (int i = 0; i < lead; i++) shape[0] *= g->t.shape[i];
        for (int i = 0; i < in->t.ndim; i++) shape[i + 1] = g->t.shape[lead + i];
        g = qn_reshape(t, qn_contiguous(t, g), in->t.ndim + 1, shape);
        g = g ? reduce_into(t, g, 0, false, last < 0 ? slot : NULL) : NULL;
    }
    for (int i = 0; i <= last && g; i++) {
        if (in->t.shape[i] != 1 || g->t.shape[i] == 1) continue;
        g = reduce_into(t, g, i, true, i == last ? slot : NULL);
    }
    return qn_tape_status(t);
}

/* Gradient of operand `in` += op(dy, other). */
static qn_status pass_product(qn_tape *t, const qn_op *op, qn_value *in, qn_value *dy,
                              qn_value *other) {
    if (!qn_grad_wanted(t, in)) return QN_OK;
    if (qn_tensor_same_shape(&in->t, &dy->t)) {
        emit_binary(t, op, dy, other, qn_grad_slot(t, in));
        return qn_tape_status(t);
    }
    return pass_reduced(t, in, emit_binary(t, op, dy, other, NULL));
}

static qn_status add_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]);
    if (!dy) return QN_OK;
    for (int k = 0; k < 2; k++) {
        if (qn_grad_wanted(t, n->in[k])) QN_TRY(pass_reduced(t, n->in[k], dy));
    }
    return QN_OK;
}

static qn_status scale_into(qn_tape *t, qn_value *x, double factor, qn_value *out) {
    qn_scale_attrs attrs = {factor, 0.0};
    return qn_tape_emit(t, &qn_op_scale, &x, &out, 0, &attrs, NULL);
}

/* Gradient of `in` -= g. */
static qn_status pass_negative(qn_tape *t, qn_value *in, qn_value *g) {
    if (!qn_grad_wanted(t, in) || !g) return qn_tape_status(t);
    if (qn_tensor_same_shape(&in->t, &g->t)) return scale_into(t, g, -1.0, qn_grad_slot(t, in));
    return pass_reduced(t, in, qn_scale(t, g, -1.0, 0.0));
}

static qn_status sub_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]);
    if (!dy) return QN_OK;
    QN_TRY(pass_negative(t, n->in[1], dy)); /* before dy may be taken over */
    return qn_grad_wanted(t, n->in[0]) ? pass_reduced(t, n->in[0], dy) : QN_OK;
}

static qn_status mul_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]);
    if (!dy) return QN_OK;
    QN_TRY(pass_product(t, &qn_op_mul, n->in[0], dy, n->in[1]));
    return pass_product(t, &qn_op_mul, n->in[1], dy, n->in[0]);
}

/* d(a/b) = da/b - (y/b) db */
static qn_status div_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]);
    if (!dy) return QN_OK;
    QN_TRY(pass_product(t, &qn_op_div, n->in[0], dy, n->in[1]));
    if (!qn_grad_wanted(t, n->in[1])) return QN_OK;
    qn_value *ratio = emit_binary(t, &qn_op_div, n->out[0], n->in[1], NULL);
    return pass_negative(t, n->in[1], emit_binary(t, &qn_op_mul, dy, ratio, NULL));
}

#define BINARY_ROW(row_name, rule)                                                                 \
    .name = row_name, .n_in = 2, .n_out = 1, .in_name = {"a", "b"}, .out_name = {"y"},             \
    .alias = {QN_MAY_REUSE(0)}, .can_accumulate = 1,                                               \
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16), .infer = binary_infer,             \
    .run = {binary_ref, binary_cpu}, .backward = rule, .cost = one_flop_cost

const qn_op qn_op_add = {BINARY_ROW("add", add_backward)};
const qn_op qn_op_sub = {BINARY_ROW("sub", sub_backward)};
const qn_op qn_op_mul = {BINARY_ROW("mul", mul_backward)};
const qn_op qn_op_div = {BINARY_ROW("div", div_backward)};

qn_value *qn_add(qn_tape *t, qn_value *a, qn_value *b) {
    return emit_binary(t, &qn_op_add, a, b, NULL);
}
qn_value *qn_sub(qn_tape *t, qn_value *a, qn_value *b) {
    return emit_binary(t, &qn_op_sub, a, b, NULL);
}
qn_value *qn_mul(qn_tape *t, qn_value *a, qn_value *b) {
    return emit_binary(t, &qn_op_mul, a, b, NULL);
}
qn_value *qn_div(qn_tape *t, qn_value *a, qn_value *b) {
    return emit_binary(t, &qn_op_div, a, b, NULL);
}

/* ---- scale ----------------------------------------------------------------------------------- */

static qn_status float_like_infer(qn_call *c) {
    QN_TRY(qni_require_float(c, 0));
    qni_describe_like(c, 0, c->in[0]);
    return QN_OK;
}

static qn_status scale_ref(const qn_call *c) {
    const qn_scale_attrs *s = c->attrs;
    int64_t n = qn_tensor_count(c->out[0]);
    for (int64_t i = 0; i < n; i++) {
        qni_put(c, 0, i, s->factor * qn_tensor_get(c->in[0], i) + s->shift);
    }
    return QN_OK;
}

static void scale_span(const qni_walk *w, const int64_t *offset, int64_t index, int64_t n) {
    (void)index;
    const qn_scale_attrs *s = w->call->attrs;
    float factor = (float)s->factor, shift = (float)s->shift, px[QNI_SPAN], py[QNI_SPAN];
    bool adds = qni_adds(w->call, 0);
    const float *x = qni_load(w, 0, offset, n, px);
    float *y = qni_dest(w, 1, offset, adds, py);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = factor * x[i] + shift;
    qni_store(w, 1, offset, n, y, adds);
}

static qn_status scale_cpu(const qn_call *c) {
    qni_walk_run(c, 2, (const qn_tensor *[]){c->in[0], c->out[0]}, scale_span);
    return QN_OK;
}

static qn_status scale_backward(qn_tape *t, qn_node *n) {
    const qn_scale_attrs *s = n->call.attrs;
    qn_value *dy = qn_grad_of(t, n->out[0]), *dx = dy ? qn_grad_slot(t, n->in[0]) : NULL;
    return dx ? scale_into(t, dy, s->factor, dx) : qn_tape_status(t);
}

const qn_op qn_op_scale = {
    .name = "scale",
    .n_in = 1,
    .n_out = 1,
    .in_name = {"x"},
    .out_name = {"y"},
    .alias = {QN_MAY_REUSE(0)},
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_scale_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = float_like_infer,
    .run = {scale_ref, scale_cpu},
    .backward = scale_backward,
    .cost = one_flop_cost,
};

qn_value *qn_scale(qn_tape *t, qn_value *x, double factor, double shift) {
    qn_scale_attrs attrs = {factor, shift};
    qn_value *y = NULL;
    if (!x || qn_tape_emit(t, &qn_op_scale, &x, &y, 0, &attrs, NULL) != QN_OK) return NULL;
    return y;
}

/* ---- unary ----------------------------------------------------------------------------------- */

static qn_status check_unary(const qn_call *c) {
    qn_unary kind = ((const qn_unary_attrs *)c->attrs)->kind;
    if ((int)kind >= 0 && kind < QN_UNARY_COUNT) return QN_OK;
    return qn_fail(QN_ERR_UNSUPPORTED, "%s: no function of number %d", c->op->name, (int)kind);
}

static qn_status unary_infer(qn_call *c) {
    QN_TRY(check_unary(c));
    return float_like_infer(c);
}

static double unary_f64(qn_unary kind, double x) {
    switch (kind) {
    case QN_NEG: return -x;
    case QN_EXP: return exp(x);
    case QN_LOG: return log(x);
    case QN_SQRT: return sqrt(x);
    case QN_SQUARE: return x * x;
    default: return fabs(x);
    }
}

static double unary_grad_f64(qn_unary kind, double x) {
    switch (kind) {
    case QN_NEG: return -1.0;
    case QN_EXP: return exp(x);
    case QN_LOG: return 1.0 / x;
    case QN_SQRT: return 0.5 / sqrt(x);
    case QN_SQUARE: return 2.0 * x;
    default: return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x; /* 0 at 0, NaN at NaN */
    }
}

static qn_status unary_ref(const qn_call *c) {
    qn_unary kind = ((const qn_unary_attrs *)c->attrs)->kind;
    int64_t n = qn_tensor_count(c->in[0]);
    for (int64_t i = 0; i < n; i++) qni_put(c, 0, i, unary_f64(kind, qn_tensor_get(c->in[0], i)));
    return QN_OK;
}

static qn_status unary_bwd_ref(const qn_call *c) {
    qn_unary kind = ((const qn_unary_attrs *)c->attrs)->kind;
    int64_t n = qn_tensor_count(c->in[0]);
    for (int64_t i = 0; i < n; i++) {
        double dy = qn_tensor_get(c->in[0], i), x = qn_tensor_get(c->in[1], i);
        qni_put(c, 0, i, dy * unary_grad_f64(kind, x));
    }
    return QN_OK;
}

QN_INLINE float unary_f32(qn_unary kind, float x) {
    switch (kind) {
    case QN_NEG: return -x;
    case QN_EXP: return qn_expf_fast(x);
    case QN_LOG: return qn_logf_fast(x);
    case QN_SQRT: return sqrtf(x);
    case QN_SQUARE: return x * x;
    default: return fabsf(x);
    }
}

QN_INLINE float unary_grad_f32(qn_unary kind, float x) {
    switch (kind) {
    case QN_NEG: return -1.0f;
    case QN_EXP: return qn_expf_fast(x);
    case QN_LOG: return 1.0f / x;
    case QN_SQRT: return 0.5f / sqrtf(x);
    case QN_SQUARE: return 2.0f * x;
    default: return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x;
    }
}

/* dy NULL: the value; else dy times the derivative. */
QN_INLINE void unary_row(qn_unary kind, int64_t n, const float *dy, const float *x, float *y) {
    if (dy) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = dy[i] * unary_grad_f32(kind, x[i]);
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = unary_f32(kind, x[i]);
    }
}

/* Tensors: x, y, dy. */
static void unary_span(const qni_walk *w, const int64_t *offset, int64_t index, int64_t n) {
    (void)index;
    float px[QNI_SPAN], py[QNI_SPAN], pd[QNI_SPAN];
    bool adds = qni_adds(w->call, 0);
    const float *x = qni_load(w, 0, offset, n, px);
    const float *dy = w->n == 3 ? qni_load(w, 2, offset, n, pd) : NULL;
    float *y = qni_dest(w, 1, offset, adds, py);
    switch (((const qn_unary_attrs *)w->call->attrs)->kind) {
    case QN_NEG: unary_row(QN_NEG, n, dy, x, y); break;
    case QN_EXP: unary_row(QN_EXP, n, dy, x, y); break;
    case QN_LOG: unary_row(QN_LOG, n, dy, x, y); break;
    case QN_SQRT: unary_row(QN_SQRT, n, dy, x, y); break;
    case QN_SQUARE: unary_row(QN_SQUARE, n, dy, x, y); break;
    default: unary_row(QN_ABS, n, dy, x, y); break;
    }
    qni_store(w, 1, offset, n, y, adds);
}

static qn_status unary_cpu(const qn_call *c) {
    qni_walk_run(c, 2, (const qn_tensor *[]){c->in[0], c->out[0]}, unary_span);
    return QN_OK;
}

static qn_status unary_bwd_cpu(const qn_call *c) {
    qni_walk_run(c, 3, (const qn_tensor *[]){c->in[1], c->out[0], c->in[0]}, unary_span);
    return QN_OK;
}

static qn_status unary_bwd_infer(qn_call *c) {
    QN_TRY(check_unary(c));
    QN_TRY(qni_require_float(c, 2));
    QN_TRY(qni_require_same_shape(c, 1, 0));
    qni_describe_like(c, 0, c->in[0]);
    return QN_OK;
}

static qn_status unary_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]), *dx = dy ? qn_grad_slot(t, n->in[0]) : NULL;
    if (!dx) return qn_tape_status(t);
    qn_value *in[] = {dy, n->in[0]};
    return qn_tape_emit(t, &qn_op_unary_bwd, in, &dx, 0, n->call.attrs, NULL);
}

const qn_op qn_op_unary = {
    .name = "unary",
    .n_in = 1,
    .n_out = 1,
    .in_name = {"x"},
    .out_name = {"y"},
    .alias = {QN_MAY_REUSE(0)},
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_unary_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = unary_infer,
    .run = {unary_ref, unary_cpu},
    .backward = unary_backward,
    .cost = one_flop_cost,
};

const qn_op qn_op_unary_bwd = {
    .name = "unary_bwd",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"dy", "x"},
    .out_name = {"dx"},
    .alias = {QN_MAY_REUSE(0)},
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_unary_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = unary_bwd_infer,
    .run = {unary_bwd_ref, unary_bwd_cpu},
    .cost = one_flop_cost,
};

qn_value *qn_unary_op(qn_tape *t, qn_value *x, qn_unary kind) {
    qn_unary_attrs attrs = {kind};
    qn_value *y = NULL;
    if (!x || qn_tape_emit(t, &qn_op_unary, &x, &y, 0, &attrs, NULL) != QN_OK) return NULL;
    return y;
}

/* ---- fill ------------------------------------------------------------------------------------ */

static qn_status fill_infer(qn_call *c) {
    const qn_fill_attrs *f = c->attrs;
    qni_describe(c, 0, f->dtype, f->ndim, f->shape);
    return QN_OK;
}

static qn_status fill_ref(const qn_call *c) {
    const qn_fill_attrs *f = c->attrs;
    qn_tensor *y = c->out[0];
    int64_t n = qn_tensor_count(y);
    if (n == 0) return QN_OK;
    if (!qn_tensor_is_contiguous(y)) {
        for (int64_t i = 0; i < n; i++) qn_tensor_set(y, i, f->value);
        return QN_OK;
    }
    qn_tensor_set(y, 0, f->value); /* one element, then doubling copies */
    size_t done = qn_dtype_bytes(y->dtype), bytes = qn_tensor_bytes(y);
    while (done < bytes) {
        size_t step = done < bytes - done ? done : bytes - done;
        if (step > 65536) step = 65536;
        memcpy((char *)y->data + done, y->data, step);
        done += step;
    }
    return QN_OK;
}

const qn_op qn_op_fill = {
    .name = "fill",
    .n_out = 1,
    .out_name = {"y"},
    .attr_bytes = sizeof(qn_fill_attrs),
    .infer = fill_infer,
    .run = {fill_ref},
    .cost = one_flop_cost,
};

static qn_fill_attrs fill_attrs(qn_dtype dt, int ndim, const int64_t *shape, double value) {
    qn_fill_attrs a = {.dtype = dt, .ndim = ndim, .value = value};
    for (int i = 0; i < ndim; i++) a.shape[i] = shape[i];
    return a;
}

qn_value *qn_fill(qn_tape *t, qn_dtype dt, int ndim, const int64_t *shape, double value) {
    qn_fill_attrs attrs = fill_attrs(dt, ndim, shape, value);
    qn_value *y = NULL;
    return qn_tape_emit(t, &qn_op_fill, NULL, &y, 0, &attrs, NULL) == QN_OK ? y : NULL;
}

qn_status qn_fill_into(qn_tape *t, qn_value *dst, double value) {
    if (!dst) return qn_tape_status(t);
    qn_fill_attrs attrs = fill_attrs(dst->t.dtype, dst->t.ndim, dst->t.shape, value);
    return qn_tape_emit(t, &qn_op_fill, NULL, &dst, 0, &attrs, NULL);
}
