/* op_linear.c — linear: y = act(x w^T + b) + residual; and linear_adapted, the same with low-rank
 * adapters on its rows.
 *
 * The gradient through the activation is its own call (activation_bwd on the saved `pre`), so the
 * products of op_linear_grad.c read one finished dpre. An adapter is added to each row segment of
 * the product before the bias (op_adapter.c); both ops share everything else.
 */
#include "engine/op_linear.h"

enum { X, W, BIAS, RESIDUAL }; /* in; of linear_adapted too, whose adapters follow */
enum { Y, PRE };               /* out */

/* ---- what the linear ops share --------------------------------------------------------------- */

qn_status qni_fail_pair(const qn_op *op, const char *a_name, const qn_tensor *a, const char *b_name,
                        const qn_tensor *b, const char *expected) {
    char da[96], db[96];
    return qn_fail(QN_ERR_SHAPE, "%s: %s is %s, %s is %s; expected %s", op->name, a_name,
                   qn_tensor_describe(a, da, sizeof da), b_name,
                   qn_tensor_describe(b, db, sizeof db), expected);
}

qn_tensor qni_with_last(const qn_tensor *x, int64_t m) {
    int64_t shape[QN_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    shape[x->ndim - 1] = m;
    return qn_tensor_make(NULL, x->dtype, x->ndim, shape);
}

qn_status qni_linear_prepare(qn_call *c, const qni_gemm *g) {
    qni_bf16 *primitives;
    QN_TRY(qni_gemm_prepare(g, c->threads, &primitives));
    c->state = primitives;
    return QN_OK;
}

void qni_linear_release(qn_call *c) {
    qni_gemm_release(c->state);
    c->state = NULL;
}

qni_gemm_job qni_linear_job(const qn_call *c, int a, int b, int slot) {
    return (qni_gemm_job){.a = c->in[a]->data,
                          .b = c->in[b]->data,
                          .c = c->out[slot]->data,
                          .c_dtype = c->out[slot]->dtype,
                          .alpha = 1.0,
                          .add = qni_adds(c, slot),
                          .threads = c->threads,
                          .scratch = c->scratch,
                          .scratch_bytes = c->scratch_bytes,
                          .primitives = c->state};
}

void qni_linear_cost(const qn_call *c, const qni_gemm *g, qn_cost *cost) {
    qni_cost(c, cost, 0.0);
    cost->flops = 2.0 * (double)g->m * (double)g->n * (double)g->k;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

/* The product of one call; for infer, prepare and run alike. */
static qn_status plan_forward(const qn_call *c, qni_gemm *g) {
    qni_rows x, w;
    QN_TRY(qni_rows_need("linear", "x", c->in[X], &x));
    QN_TRY(qni_rows_need("linear", "w", c->in[W], &w));
    *g = (qni_gemm){.dtype = c->in[X]->dtype,
                    .m = x.rows,
                    .n = w.rows,
                    .k = x.cols,
                    .b_trans = true,
                    .lda = x.stride,
                    .ldb = w.stride};
    qni_gemm_plan(g);
    return QN_OK;
}

static qn_status linear_infer(qn_call *c) {
    const qn_tensor *x = c->in[X], *w = c->in[W], *b = c->in[BIAS], *residual = c->in[RESIDUAL];
    QN_TRY(qni_require_float(c, ~0u));
    if (w->ndim != 2 || x->ndim < 1 || x->shape[x->ndim - 1] != w->shape[1]) {
        char d[96];
        return qn_fail(
            QN_ERR_SHAPE, "linear: w is %s, x ends in %lld; expected w [M,K] and x [...,K]",
            qn_tensor_describe(w, d, sizeof d), (long long)(x->ndim ? x->shape[x->ndim - 1] : 0));
    }
    if (b && (b->ndim != 1 || b->shape[0] != w->shape[0])) {
        return qni_fail_pair(c->op, "w", w, "b", b, "one bias per row of w");
    }
    qn_tensor y = qni_with_last(x, w->shape[0]);
    if (residual && !qn_tensor_same_shape(&y, residual)) {
        return qni_fail_pair(c->op, "y", &y, "residual", residual, "equal shapes");
    }
    qni_rows rows;
    if (residual) QN_TRY(qni_rows_need("linear", "residual", residual, &rows));
    QN_TRY(qni_adapters_infer(c));
    qni_gemm g;
    QN_TRY(plan_forward(c, &g));
    QN_TRY(qni_gemm_scratch(&g, c->threads, &c->scratch_bytes));
    c->scratch_bytes += qni_adapters_scratch(c);
    qni_describe_like(c, Y, &y);
    qni_describe_like(c, PRE, &y);
    return QN_OK;
}

/* ---- prepare --------------------------------------------------------------------------------- */

static qn_status linear_prepare(qn_call *c) {
    qni_gemm g;
    QN_TRY(plan_forward(c, &g));
    return qni_linear_prepare(c, &g);
}

/* ---- REF ------------------------------------------------------------------------------------- */

static qn_status linear_ref(const qn_call *c) {
    const qn_tensor *x = c->in[X], *w = c->in[W];
    const qn_linear_attrs *attrs = c->attrs;
    qni_gemm g;
    QN_TRY(plan_forward(c, &g));
    for (int64_t i = 0; i < g.m; i++) {
        for (int64_t j = 0; j < g.n; j++) {
            double z = c->in[BIAS] ? qn_tensor_get(c->in[BIAS], j) : 0.0;
            for (int64_t k = 0; k < g.k; k++) {
                z += qni_element(x->data, x->dtype, i * g.lda + k) *
                     qni_element(w->data, w->dtype, j * g.ldb + k);
            }
            z += qni_adapters_at(c, i, j);
            if (c->out[PRE]) qn_tensor_set(c->out[PRE], i * g.n + j, z);
            double y = qn_act_f64(attrs->activation, z);
            if (c->in[RESIDUAL]) y += qn_tensor_get(c->in[RESIDUAL], i * g.n + j);
            qn_tensor_set(c->out[Y], i * g.n + j, y);
        }
    }
    return QN_OK;
}

/* ---- CPU ------------------------------------------------------------------------------------- */

enum { PIECE = 256 }; /* floats of a row worked on at once, on the stack */

typedef struct finish { /* what follows the product on each row segment */
    const qn_call *c;
    qn_activation activation;
    qni_rows residual;
    int64_t columns;
    qni_adapters adapters;
} finish;

static void finish_f32(const finish *f, int64_t row, int64_t col, int64_t n, float *z) {
    const qn_call *c = f->c;
    qn_dtype dt = c->in[X]->dtype;
    float buffer[PIECE];
    for (int64_t j = 0; j < n; j += PIECE) {
        int64_t count = n - j < PIECE ? n - j : PIECE;
        float *part = z + j;
        qni_adapters_add_f32(&f->adapters, row, col + j, count, part);
        if (c->in[BIAS]) {
            const float *b = qn_row_load(c->in[BIAS]->data, dt, (col + j) * c->in[BIAS]->stride[0],
                                         count, buffer);
            for (int64_t i = 0; i < count; i++) part[i] += b[i];
        }
        int64_t at = row * f->columns + col + j;
        if (c->out[PRE]) {
            float *pre = qn_row_open(c->out[PRE]->data, dt, at, part);
            for (int64_t i = 0; pre != part && i < count; i++) pre[i] = part[i];
            qn_row_close(c->out[PRE]->data, dt, at, count, part);
        }
        if (f->activation != QN_ACT_NONE) qn_act_row_f32(f->activation, count, part, part);
        if (c->in[RESIDUAL]) {
            const float *r = qn_row_load(c->in[RESIDUAL]->data, dt,
                                         row * f->residual.stride + col + j, count, buffer);
            for (int64_t i = 0; i < count; i++) part[i] += r[i];
        }
    }
}

static void finish_f64(const finish *f, int64_t row, int64_t col, int64_t n, double *z) {
    const qn_call *c = f->c;
    const double *b = c->in[BIAS] ? c->in[BIAS]->data : NULL;
    const double *r = c->in[RESIDUAL] ? c->in[RESIDUAL]->data : NULL;
    double *pre = c->out[PRE] ? c->out[PRE]->data : NULL;
    qni_adapters_add_f64(&f->adapters, row, col, n, z);
    for (int64_t j = 0; j < n; j++) {
        if (b) z[j] += b[(col + j) * c->in[BIAS]->stride[0]];
        if (pre) pre[row * f->columns + col + j] = z[j];
        z[j] = qn_act_f64(f->activation, z[j]);
        if (r) z[j] += r[row * f->residual.stride + col + j];
    }
}

static void finish_row(void *ctx, int64_t item, int64_t row, int64_t col, int64_t n, void *values) {
    const finish *f = ctx;
    (void)item;
    if (f->c->in[X]->dtype == QN_F64) {
        finish_f64(f, row, col, n, values);
    } else {
        finish_f32(f, row, col, n, values);
    }
}

static qn_status linear_cpu(const qn_call *c) {
    const qn_linear_attrs *attrs = c->attrs;
    qni_gemm g;
    QN_TRY(plan_forward(c, &g));
    finish f = {.c = c, .activation = attrs->activation, .columns = g.n};
    if (c->in[RESIDUAL]) {
        QN_TRY(qni_rows_need("linear", "residual", c->in[RESIDUAL], &f.residual));
    }
    bool plain =
        !c->in[BIAS] && !c->in[RESIDUAL] && !c->out[PRE] && attrs->activation == QN_ACT_NONE;
    qni_gemm_job job = qni_linear_job(c, X, W, Y);
    qni_adapters_pack(c, &f.adapters);
    if (f.adapters.n > 0) {
        size_t packed = qni_adapters_scratch(c);
        plain = false;
        job.scratch = (char *)job.scratch + packed;
        job.scratch_bytes -= packed;
    }
    job.ldc = g.n > 0 ? g.n : 1;
    job.epilogue = plain ? NULL : finish_row;
    job.ctx = &f;
    return qni_gemm_run(&g, &job);
}

/* ---- gradient and cost ----------------------------------------------------------------------- */

static qn_status linear_backward(qn_tape *t, qn_node *node) {
    const qn_linear_attrs *attrs = node->call.attrs;
    qn_value *dy = qn_grad_of(t, node->out[Y]);
    if (!dy) return qn_tape_status(t);
    qn_value *dpre = dy;
    if (attrs->activation != QN_ACT_NONE) {
        qn_value *in[2] = {dy, qn_node_save(t, node, PRE)}, *out[1] = {NULL};
        qn_activation_attrs a = {attrs->activation};
        if (!in[1]) return qn_tape_status(t);
        QN_TRY(qn_tape_emit(t, &qn_op_activation_bwd, in, out, 0, &a, NULL));
        dpre = out[0];
    }
    QN_TRY(qni_linear_grads(t, node->in[X], node->in[W], node->in[BIAS], dpre));
    QN_TRY(qni_adapters_backward(t, node, dpre));
    QN_TRY(qn_grad_pass(t, node->in[RESIDUAL], dy));
    return qn_tape_status(t);
}

static void linear_cost(const qn_call *c, qn_cost *cost) {
    qni_gemm g;
    if (plan_forward(c, &g) != QN_OK) return;
    qni_linear_cost(c, &g, cost);
    qni_adapters_cost(c, cost);
}

/* ---- rows ------------------------------------------------------------------------------------ */

enum { MATRIX_DTYPES = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_F64) | QN_DTYPE_BIT(QN_BF16) };

const qn_op qn_op_linear = {
    .name = "linear",
    .n_in = 4,
    .n_out = 2,
    .in_name = {"x", "w", "b", "residual"},
    .out_name = {"y", "pre"},
    .optional_in = 1u << BIAS | 1u << RESIDUAL,
    .optional_out = 1u << PRE,
    .alias = {QN_FRESH, QN_FRESH},
    .attr_bytes = sizeof(qn_linear_attrs),
    .cpu_dtypes = MATRIX_DTYPES,
    .infer = linear_infer,
    .prepare = linear_prepare,
    .release = qni_linear_release,
    .run = {[QN_REF] = linear_ref, [QN_CPU] = linear_cpu},
    .backward = linear_backward,
    .cost = linear_cost,
};

/* As linear, and more in: up to three adapters, each (u, B). */
const qn_op qn_op_linear_adapted = {
    .name = "linear_adapted",
    .n_in = 10,
    .n_out = 2,
    .in_name = {"x", "w", "b", "residual", "u0", "b0", "u1", "b1", "u2", "b2"},
    .out_name = {"y", "pre"},
    .optional_in = 0x3FFu & ~(1u << X | 1u << W),
    .optional_out = 1u << PRE,
    .alias = {QN_FRESH, QN_FRESH},
    .attr_bytes = sizeof(qn_linear_adapted_attrs),
    .cpu_dtypes = MATRIX_DTYPES,
    .infer = linear_infer,
    .prepare = linear_prepare,
    .release = qni_linear_release,
    .run = {[QN_REF] = linear_ref, [QN_CPU] = linear_cpu},
    .backward = linear_backward,
    .cost = linear_cost,
};

qn_value *qn_linear(qn_tape *t, qn_value *x, qn_value *w, qn_value *b, qn_activation act,
                    qn_value *residual) {
    if (!x || !w) return NULL;
    qn_value *in[4] = {x, w, b, residual}, *out[2] = {NULL, NULL};
    qn_linear_attrs attrs = {act};
    if (qn_tape_emit(t, &qn_op_linear, in, out, 0, &attrs, NULL) != QN_OK) return NULL;
    return out[Y];
}
