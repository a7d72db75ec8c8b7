/* op_shape.c — cast, copy and concatenation, and the views that cost nothing.
 *
 * Views are recorded by the tape (qn_tape_view): no call, and the gradient of a view is the same
 * view of the gradient.
 */
#include "engine/op_shared.h"
#include "engine/tape_internal.h"

#include <string.h>

/* ---- moving elements ------------------------------------------------------------------------- */

/* dst (+)= src, elementwise over equal shapes, any dtypes and strides. */
static void move_ref(const qn_tensor *src, const qn_tensor *dst, bool adds) {
    int64_t n = qn_tensor_count(src);
    bool whole = !qn_dtype_is_float(src->dtype) && !qn_dtype_is_float(dst->dtype) && !adds;
    for (int64_t i = 0; i < n; i++) {
        if (whole && dst->dtype == QN_I64) { /* 64 bits do not fit a double */
            ((int64_t *)dst->data)[qn_tensor_offset(dst, i)] = qn_tensor_get_int(src, i);
            continue;
        }
        double v = qn_tensor_get(src, i);
        qn_tensor_set(dst, i, adds ? qn_tensor_get(dst, i) + v : v);
    }
}

static void move_span(const qni_walk *w, const int64_t *offset, int64_t index, int64_t n) {
    (void)index;
    float buffer[QNI_SPAN];
    const float *x = qni_load(w, 0, offset, n, buffer);
    qni_store_row(w->t[1].data, w->t[1].dtype, offset[1], n, x, qni_adds(w->call, 0));
}

static bool row_dtype(qn_dtype dt) { return dt == QN_F32 || dt == QN_BF16; }

static void move_cpu(const qn_call *c, const qn_tensor *src, const qn_tensor *dst) {
    if (row_dtype(src->dtype) && row_dtype(dst->dtype)) {
        qni_walk_run(c, 2, (const qn_tensor *[]){src, dst}, move_span);
    } else {
        move_ref(src, dst, qni_adds(c, 0));
    }
}

/* ---- cast and copy --------------------------------------------------------------------------- */

static qn_status cast_infer(qn_call *c) {
    qn_dtype dt = ((const qn_cast_attrs *)c->attrs)->dtype;
    if ((int)dt < 0 || dt >= QN_DTYPE_COUNT) {
        return qn_fail(QN_ERR_DTYPE, "cast: no dtype of number %d", (int)dt);
    }
    qni_describe(c, 0, dt, c->in[0]->ndim, c->in[0]->shape);
    return QN_OK;
}

static qn_status copy_infer(qn_call *c) {
    qni_describe_like(c, 0, c->in[0]);
    return QN_OK;
}

static qn_status copy_ref(const qn_call *c) {
    move_ref(c->in[0], c->out[0], qni_adds(c, 0));
    return QN_OK;
}

static qn_status copy_cpu(const qn_call *c) {
    move_cpu(c, c->in[0], c->out[0]);
    return QN_OK;
}

static void move_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 0.0); }

static qn_status cast_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]), *dx = dy ? qn_grad_slot(t, n->in[0]) : NULL;
    qn_cast_attrs attrs = {n->in[0]->t.dtype};
    return dx ? qn_tape_emit(t, &qn_op_cast, &dy, &dx, 0, &attrs, NULL) : qn_tape_status(t);
}

static qn_status copy_backward(qn_tape *t, qn_node *n) {
    return qn_grad_pass(t, n->in[0], qn_grad_of(t, n->out[0]));
}

/* The result is rounded to nearest even; y of an f64 x is rounded once. */
const qn_op qn_op_cast = {
    .name = "cast",
    .n_in = 1,
    .n_out = 1,
    .in_name = {"x"},
    .out_name = {"y"},
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_cast_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = cast_infer,
    .run = {copy_ref, copy_cpu},
    .backward = cast_backward,
    .cost = move_cost,
};

const qn_op qn_op_copy = {
    .name = "copy",
    .n_in = 1,
    .n_out = 1,
    .in_name = {"x"},
    .out_name = {"y"},
    .can_accumulate = 1,
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = copy_infer,
    .run = {copy_ref, copy_cpu},
    .backward = copy_backward,
    .cost = move_cost,
};

qn_value *qn_cast(qn_tape *t, qn_value *x, qn_dtype dt) {
    if (!x || x->t.dtype == dt) return x;
    qn_cast_attrs attrs = {dt};
    qn_value *y = NULL;
    return qn_tape_emit(t, &qn_op_cast, &x, &y, 0, &attrs, NULL) == QN_OK ? y : NULL;
}

qn_value *qn_contiguous(qn_tape *t, qn_value *x) {
    if (!x || qn_tensor_is_contiguous(&x->t)) return x;
    qn_value *y = NULL;
    return qn_tape_emit(t, &qn_op_copy, &x, &y, 0, NULL, NULL) == QN_OK ? y : NULL;
}

/* ---- concat ---------------------------------------------------------------------------------- */

static qn_status concat_infer(qn_call *c) {
    const qn_concat_attrs *a = c->attrs;
    const qn_tensor *first = c->in[0];
    char d[96], e[96];
    if (a->axis < 0 || a->axis >= first->ndim) {
        return qn_fail(QN_ERR_SHAPE, "concat: axis %d of %s", a->axis,
                       qn_tensor_describe(first, d, sizeof d));
    }
    int64_t shape[QN_MAX_DIMS], total = 0;
    memcpy(shape, first->shape, sizeof shape);
    for (int k = 0; k < a->count; k++) {
        const qn_tensor *x = c->in[k];
        bool fits = x->ndim == first->ndim && x->dtype == first->dtype;
        for (int i = 0; fits && i < first->ndim; i++) {
            fits = i == a->axis || x->shape[i] == first->shape[i];
        }
        if (!fits) {
            return qn_fail(QN_ERR_SHAPE, "concat along axis %d: x%d is %s, x0 is %s", a->axis, k,
                           qn_tensor_describe(x, d, sizeof d),
                           qn_tensor_describe(first, e, sizeof e));
        }
        total += x->shape[a->axis];
    }
    shape[a->axis] = total;
    qni_describe(c, 0, first->dtype, first->ndim, shape);
    return QN_OK;
}

static qn_status concat_run(const qn_call *c, bool fast) {
    const qn_concat_attrs *a = c->attrs;
    int64_t at = 0;
    for (int k = 0; k < a->count; k++) {
        qn_tensor part = *c->out[0];
        part.data =
            (char *)part.data + at * part.stride[a->axis] * (int64_t)qn_dtype_bytes(part.dtype);
        part.shape[a->axis] = c->in[k]->shape[a->axis];
        at += part.shape[a->axis];
        if (fast) {
            move_cpu(c, c->in[k], &part);
        } else {
            move_ref(c->in[k], &part, qni_adds(c, 0));
        }
    }
    return QN_OK;
}

static qn_status concat_ref(const qn_call *c) { return concat_run(c, false); }
static qn_status concat_cpu(const qn_call *c) { return concat_run(c, true); }

static qn_status concat_backward(qn_tape *t, qn_node *n) {
    const qn_concat_attrs *a = n->call.attrs;
    qn_value *dy = qn_grad_of(t, n->out[0]);
    int64_t at = 0;
    for (int k = 0; k < a->count && dy; k++) {
        int64_t length = n->in[k]->t.shape[a->axis];
        if (qn_grad_wanted(t, n->in[k])) {
            QN_TRY(qn_grad_pass(t, n->in[k], qn_slice(t, dy, a->axis, at, length)));
        }
        at += length;
    }
    return qn_tape_status(t);
}

const qn_op qn_op_concat = {
    .name = "concat",
    .n_in = QN_MAX_IN,
    .n_out = 1,
    .in_name = {"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11"},
    .out_name = {"y"},
    .optional_in = 0xFFE,
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_concat_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = concat_infer,
    .run = {concat_ref, concat_cpu},
    .backward = concat_backward,
    .cost = move_cost,
};

/* Records the failure in the tape, as an op would. */
static qn_value *refuse(qn_tape *t, qn_status s) {
    (void)qni_tape_fail(t, s);
    return NULL;
}

qn_value *qn_concat(qn_tape *t, qn_value *const *x, int count, int axis) {
    if (qn_tape_status(t) != QN_OK) return NULL;
    if (count < 1 || count > QN_MAX_IN) {
        return refuse(t, qn_fail(QN_ERR_UNSUPPORTED, "concat: %d tensors, expected 1 to %d", count,
                                 QN_MAX_IN));
    }
    qn_value *in[QN_MAX_IN] = {0}, *y = NULL;
    for (int k = 0; k < count; k++) {
        if (!x[k]) return NULL;
        in[k] = x[k];
    }
    qn_concat_attrs attrs = {axis < 0 ? axis + in[0]->t.ndim : axis, count};
    return qn_tape_emit(t, &qn_op_concat, in, &y, 0, &attrs, NULL) == QN_OK ? y : NULL;
}

/* ---- views ----------------------------------------------------------------------------------- */

qn_value *qn_reshape(qn_tape *t, qn_value *x, int ndim, const int64_t *shape) {
    if (!x || qn_tape_status(t) != QN_OK) return NULL;
    char d[96], e[96];
    int64_t count = qn_tensor_count(&x->t), known = 1;
    int open = -1;
    qn_tensor y = {.dtype = x->t.dtype};
    bool fits = ndim >= 0 && ndim <= QN_MAX_DIMS;
    for (int i = 0; fits && i < ndim; i++) {
        y.shape[i] = shape[i];
        if (shape[i] == -1) {
            fits = open < 0;
            open = i;
        } else {
            fits = qn_mul_i64(known, shape[i], &known);
        }
    }
    if (fits) y.ndim = ndim;
    if (fits && open >= 0) {
        fits = known > 0 && count % known == 0;
        y.shape[open] = fits ? count / known : -1;
    }
    if (!fits || (open < 0 && known != count)) {
        return refuse(t, qn_fail(QN_ERR_SHAPE, "reshape: %s has %lld elements and does not fit %s",
                                 qn_tensor_describe(&x->t, d, sizeof d), (long long)count,
                                 qn_tensor_describe(&y, e, sizeof e)));
    }
    if (!qn_tensor_is_contiguous(&x->t)) {
        return refuse(t, qn_fail(QN_ERR_SHAPE, "reshape: %s is strided; qn_contiguous copies it",
                                 qn_tensor_describe(&x->t, d, sizeof d)));
    }
    y = qn_tensor_make(NULL, x->t.dtype, ndim, y.shape);
    return qn_tape_view(t, x, ndim, y.shape, y.stride, 0);
}

/* A view's axis: negative counts from the end; -1 if there is no such axis. */
static int view_axis(const qn_value *x, int axis) {
    if (axis < 0) axis += x->t.ndim;
    return axis >= 0 && axis < x->t.ndim ? axis : -1;
}

qn_value *qn_transpose(qn_tape *t, qn_value *x, int axis_a, int axis_b) {
    if (!x || qn_tape_status(t) != QN_OK) return NULL;
    int a = view_axis(x, axis_a), b = view_axis(x, axis_b);
    char d[96];
    if (a < 0 || b < 0) {
        return refuse(t, qn_fail(QN_ERR_SHAPE, "transpose: axes %d and %d of %s", axis_a, axis_b,
                                 qn_tensor_describe(&x->t, d, sizeof d)));
    }
    qn_tensor y = x->t;
    y.shape[a] = x->t.shape[b];
    y.shape[b] = x->t.shape[a];
    y.stride[a] = x->t.stride[b];
    y.stride[b] = x->t.stride[a];
    return qn_tape_view(t, x, y.ndim, y.shape, y.stride, 0);
}

qn_value *qn_slice(qn_tape *t, qn_value *x, int axis, int64_t start, int64_t length) {
    if (!x || qn_tape_status(t) != QN_OK) return NULL;
    int a = view_axis(x, axis);
    char d[96];
    if (a < 0 || start < 0 || length < 0 || start > x->t.shape[a] - length) {
        return refuse(t, qn_fail(QN_ERR_SHAPE, "slice: %lld elements from %lld on axis %d of %s",
                                 (long long)length, (long long)start, axis,
                                 qn_tensor_describe(&x->t, d, sizeof d)));
    }
    qn_tensor y = x->t;
    y.shape[a] = length;
    return qn_tape_view(t, x, y.ndim, y.shape, y.stride, length ? start * y.stride[a] : 0);
}
