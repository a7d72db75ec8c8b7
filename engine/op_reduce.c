/* op_reduce.c — sum, mean and maximum over one axis or all.
 *
 * A tensor is seen as (outer, n, inner) around the reduced axis. Sums run in f32 over short fixed
 * blocks whose totals are added in f64 in index order: the tree depends on the shape alone.
 */
#include "engine/op_shared.h"
#include "engine/tape_internal.h"

/* ---- shapes ---------------------------------------------------------------------------------- */

typedef struct extent {
    int64_t outer, n, inner;
} extent;

static bool whole(const qn_reduce_attrs *a) { return a->axis == QN_ALL_AXES; }

static int axis_of(const qn_reduce_attrs *a, const qn_tensor *x) {
    return a->axis < 0 ? a->axis + x->ndim : a->axis;
}

static extent extent_of(const qn_reduce_attrs *a, const qn_tensor *x) {
    extent e = {1, 1, 1};
    for (int i = 0; i < x->ndim; i++) {
        int at = whole(a) ? i : axis_of(a, x);
        *(i < at ? &e.outer : i == at ? &e.n : &e.inner) *= x->shape[i];
    }
    return e;
}

static qn_status check(const qn_call *c, const qn_tensor *x) {
    const qn_reduce_attrs *a = c->attrs;
    char d[96];
    if ((int)a->kind < 0 || a->kind >= QN_REDUCTION_COUNT) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s: no reduction of number %d", c->op->name,
                       (int)a->kind);
    }
    if (!whole(a) && (axis_of(a, x) < 0 || axis_of(a, x) >= x->ndim)) {
        return qn_fail(QN_ERR_SHAPE, "%s: axis %d of x, which is %s", c->op->name, a->axis,
                       qn_tensor_describe(x, d, sizeof d));
    }
    if (a->kind == QN_MAX && extent_of(a, x).n == 0) {
        return qn_fail(QN_ERR_SHAPE, "%s: the maximum over no elements of %s", c->op->name,
                       qn_tensor_describe(x, d, sizeof d));
    }
    return QN_OK;
}

static void reduced_shape(const qn_reduce_attrs *a, const qn_tensor *x, int *ndim, int64_t *shape) {
    *ndim = 0;
    for (int i = 0; i < x->ndim; i++) {
        bool gone = whole(a) || i == axis_of(a, x);
        if (!gone || a->keep) shape[(*ndim)++] = gone ? 1 : x->shape[i];
    }
}

enum { BLOCK = 1024, LANES = 16, ROWS = 32, COLUMNS = 128 };

static int64_t blocks_of(int64_t n) { return (n + BLOCK - 1) / BLOCK; }

static qn_status reduce_infer(qn_call *c) {
    const qn_reduce_attrs *a = c->attrs;
    int ndim;
    int64_t shape[QN_MAX_DIMS];
    QN_TRY(qni_require_float(c, 0));
    QN_TRY(check(c, c->in[0]));
    reduced_shape(a, c->in[0], &ndim, shape);
    qni_describe(c, 0, c->in[0]->dtype, ndim, shape);
    extent e = extent_of(a, c->in[0]);
    if (e.inner == 1) c->scratch_bytes = sizeof(double) * (size_t)(e.outer * blocks_of(e.n));
    return QN_OK;
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static qn_status reduce_ref(const qn_call *c) {
    const qn_reduce_attrs *a = c->attrs;
    extent e = extent_of(a, c->in[0]);
    for (int64_t o = 0; o < e.outer; o++) {
        for (int64_t i = 0; i < e.inner; i++) {
            double r = a->kind == QN_MAX ? (double)-INFINITY : 0.0;
            for (int64_t k = 0; k < e.n; k++) {
                double x = qn_tensor_get(c->in[0], (o * e.n + k) * e.inner + i);
                if (a->kind != QN_MAX) {
                    r += x;
                } else if (x > r || isnan(x)) {
                    r = x; /* nothing is greater than a NaN: it stays */
                }
            }
            qni_put(c, 0, o * e.inner + i, a->kind == QN_MEAN ? r / (double)e.n : r);
        }
    }
    return QN_OK;
}

typedef struct sums {
    const qn_call *call;
    extent e;
    double factor;
} sums;

/* LANES running sums, added pairwise: the same order whatever the compiler makes of it. */
static float sum_row(int64_t n, const float *v) {
    float lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) lane[l] += v[i + l];
    }
    for (int l = 0; i + l < n; l++) lane[l] += v[i + l];
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    }
    return lane[0];
}

/* Blocks of one row: scratch[row][block]. */
static void block_task(void *ctx, int64_t task) {
    const sums *s = ctx;
    const qn_tensor *x = s->call->in[0];
    int64_t per_row = blocks_of(s->e.n), at = task % per_row * BLOCK;
    int64_t n = s->e.n - at < BLOCK ? s->e.n - at : BLOCK;
    float buffer[BLOCK];
    const float *v = qn_row_load(x->data, x->dtype, task / per_row * s->e.n + at, n, buffer);
    ((double *)s->call->scratch)[task] = (double)sum_row(n, v);
}

/* COLUMNS neighbouring sums of one outer index, ROWS rows at a time in f32. */
static void column_task(void *ctx, int64_t task) {
    const sums *s = ctx;
    const qn_tensor *x = s->call->in[0];
    int64_t groups = (s->e.inner + COLUMNS - 1) / COLUMNS, o = task / groups;
    int64_t first = task % groups * COLUMNS;
    int64_t m = s->e.inner - first < COLUMNS ? s->e.inner - first : COLUMNS;
    double total[COLUMNS] = {0};
    float part[COLUMNS], buffer[COLUMNS];
    for (int64_t k = 0; k < s->e.n; k += ROWS) {
        int64_t end = k + ROWS < s->e.n ? k + ROWS : s->e.n;
        for (int64_t i = 0; i < m; i++) part[i] = 0.0f;
        for (int64_t r = k; r < end; r++) {
            int64_t at = (o * s->e.n + r) * s->e.inner + first;
            const float *v = qn_row_load(x->data, x->dtype, at, m, buffer);
#pragma omp simd
            for (int64_t i = 0; i < m; i++) part[i] += v[i];
        }
        for (int64_t i = 0; i < m; i++) total[i] += (double)part[i];
    }
    for (int64_t i = 0; i < m; i++) {
        qni_put(s->call, 0, o * s->e.inner + first + i, total[i] * s->factor);
    }
}

static qn_status reduce_cpu(const qn_call *c) {
    const qn_reduce_attrs *a = c->attrs;
    if (a->kind == QN_MAX || !qn_tensor_is_contiguous(c->in[0])) return reduce_ref(c);
    sums s = {c, extent_of(a, c->in[0]), 1.0};
    if (a->kind == QN_MEAN) s.factor = 1.0 / (double)s.e.n;
    if (s.e.inner != 1) {
        int64_t groups = (s.e.inner + COLUMNS - 1) / COLUMNS;
        qn_parallel_for(c->threads, s.e.outer * groups, column_task, &s);
        return QN_OK;
    }
    int64_t per_row = blocks_of(s.e.n);
    qn_parallel_for(s.e.n < 256 ? 1 : c->threads, s.e.outer * per_row, block_task, &s);
    for (int64_t o = 0; o < s.e.outer; o++) {
        double total = 0.0;
        for (int64_t b = 0; b < per_row; b++) total += ((double *)c->scratch)[o * per_row + b];
        qni_put(c, 0, o, s.e.n ? total * s.factor : (a->kind == QN_MEAN ? (double)NAN : 0.0));
    }
    return QN_OK;
}

static void reduce_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 1.0); }

/* ---- gradient -------------------------------------------------------------------------------- */

/* Of the maximum: dx is dy at the first maximum of each reduced run (a NaN counts as one), else
 * 0. */
static qn_status reduce_bwd_ref(const qn_call *c) {
    const qn_tensor *dy = c->in[0], *x = c->in[1];
    extent e = extent_of(c->attrs, x);
    for (int64_t o = 0; o < e.outer; o++) {
        for (int64_t i = 0; i < e.inner; i++) {
            int64_t best = 0;
            double most = (double)-INFINITY;
            for (int64_t k = 0; k < e.n; k++) {
                double v = qn_tensor_get(x, (o * e.n + k) * e.inner + i);
                if (v > most || (isnan(v) && !isnan(most))) {
                    most = v;
                    best = k;
                }
            }
            double g = qn_tensor_get(dy, o * e.inner + i);
            for (int64_t k = 0; k < e.n; k++) {
                qni_put(c, 0, (o * e.n + k) * e.inner + i, k == best ? g : 0.0);
            }
        }
    }
    return QN_OK;
}

static qn_status reduce_bwd_infer(qn_call *c) {
    const qn_reduce_attrs *a = c->attrs;
    QN_TRY(qni_require_float(c, 2));
    QN_TRY(check(c, c->in[1]));
    if (a->kind != QN_MAX) {
        return qn_fail(QN_ERR_UNSUPPORTED, "reduce_bwd: only the maximum needs it");
    }
    qn_tensor y = {.dtype = c->in[1]->dtype};
    reduced_shape(a, c->in[1], &y.ndim, y.shape);
    if (!qn_tensor_same_shape(&y, c->in[0])) {
        char d[96], e[96];
        return qn_fail(QN_ERR_SHAPE, "reduce_bwd: dy is %s, expected %s",
                       qn_tensor_describe(c->in[0], d, sizeof d),
                       qn_tensor_describe(&y, e, sizeof e));
    }
    qni_describe_like(c, 0, c->in[1]);
    return QN_OK;
}

/* dy repeated along the reduced axes: a view with strides of 0. */
static qn_value *repeated(qn_tape *t, qn_value *dy, const qn_reduce_attrs *a, const qn_tensor *x) {
    int64_t stride[QN_MAX_DIMS];
    for (int i = 0, k = 0; i < x->ndim; i++) {
        bool gone = whole(a) || i == axis_of(a, x);
        stride[i] = gone ? 0 : dy->t.stride[k];
        if (!gone || a->keep) k++;
    }
    return qn_tape_view(t, dy, x->ndim, x->shape, stride, 0);
}

static qn_status reduce_backward(qn_tape *t, qn_node *n) {
    const qn_reduce_attrs *a = n->call.attrs;
    const qn_tensor *x = &n->in[0]->t;
    qn_value *dy = qn_grad_of(t, n->out[0]), *dx = dy ? qn_grad_slot(t, n->in[0]) : NULL;
    if (!dx) return qn_tape_status(t);
    if (a->kind == QN_MAX) {
        qn_value *in[] = {dy, n->in[0]};
        return qn_tape_emit(t, &qn_op_reduce_bwd, in, &dx, 0, a, NULL);
    }
    qn_value *wide = repeated(t, dy, a, x);
    int64_t count = extent_of(a, x).n;
    qn_scale_attrs s = {a->kind == QN_MEAN && count > 0 ? 1.0 / (double)count : 1.0, 0.0};
    return wide ? qn_tape_emit(t, &qn_op_scale, &wide, &dx, 0, &s, NULL) : qn_tape_status(t);
}

const qn_op qn_op_reduce = {
    .name = "reduce",
    .n_in = 1,
    .n_out = 1,
    .in_name = {"x"},
    .out_name = {"y"},
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_reduce_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = reduce_infer,
    .run = {reduce_ref, reduce_cpu},
    .backward = reduce_backward,
    .cost = reduce_cost,
};

const qn_op qn_op_reduce_bwd = {
    .name = "reduce_bwd",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"dy", "x"},
    .out_name = {"dx"},
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_reduce_attrs),
    .infer = reduce_bwd_infer,
    .run = {reduce_bwd_ref},
    .cost = reduce_cost,
};

qn_value *qn_reduce(qn_tape *t, qn_value *x, qn_reduction kind, int axis, bool keep) {
    qn_reduce_attrs attrs = {.kind = kind, .axis = axis, .keep = keep};
    qn_value *y = NULL;
    if (!x || qn_tape_emit(t, &qn_op_reduce, &x, &y, 0, &attrs, NULL) != QN_OK) return NULL;
    return y;
}
