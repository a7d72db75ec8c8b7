/* op_linear.c — linear: y = act(x w^T + b) + residual, and its two gradient products.
 *
 * The gradient through the activation is its own call (activation_bwd on the saved `pre`), so both
 * products read one finished dpre. Weight gradients may be f32 storage for bf16 weights.
 */
#include "engine/gemm.h"
#include "engine/op_shared.h"

enum { X, W, BIAS, RESIDUAL }; /* linear, in */
enum { Y, PRE };               /* linear, out */
enum { INPUT_DY, INPUT_W };    /* linear_bwd_input, in */
enum { WEIGHT_X, WEIGHT_DY };  /* linear_bwd_weight, in */
enum { WEIGHT_DW, WEIGHT_DB }; /* linear_bwd_weight, out */

/* ---- shapes ---------------------------------------------------------------------------------- */

static qn_status fail_pair(const qn_op *op, const char *a_name, const qn_tensor *a,
                           const char *b_name, const qn_tensor *b, const char *expected) {
    char da[96], db[96];
    return qn_fail(QN_ERR_SHAPE, "%s: %s is %s, %s is %s; expected %s", op->name, a_name,
                   qn_tensor_describe(a, da, sizeof da), b_name,
                   qn_tensor_describe(b, db, sizeof db), expected);
}

/* x (..., K) with its last axis replaced by m. */
static qn_tensor with_last(const qn_tensor *x, int64_t m) {
    int64_t shape[QN_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    shape[x->ndim - 1] = m;
    return qn_tensor_make(NULL, x->dtype, x->ndim, shape);
}

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

static qn_status plan_input(const qn_call *c, qni_gemm *g) {
    qni_rows dy, w;
    QN_TRY(qni_rows_need("linear_bwd_input", "dy", c->in[INPUT_DY], &dy));
    QN_TRY(qni_rows_need("linear_bwd_input", "w", c->in[INPUT_W], &w));
    *g = (qni_gemm){.dtype = c->in[INPUT_DY]->dtype,
                    .m = dy.rows,
                    .n = w.cols,
                    .k = w.rows,
                    .lda = dy.stride,
                    .ldb = w.stride};
    qni_gemm_plan(g);
    return QN_OK;
}

static qn_status plan_weight(const qn_call *c, qni_gemm *g) {
    qni_rows x, dy;
    QN_TRY(qni_rows_need("linear_bwd_weight", "x", c->in[WEIGHT_X], &x));
    QN_TRY(qni_rows_need("linear_bwd_weight", "dy", c->in[WEIGHT_DY], &dy));
    *g = (qni_gemm){.dtype = c->in[WEIGHT_X]->dtype,
                    .m = dy.cols,
                    .n = x.cols,
                    .k = x.rows,
                    .a_trans = true,
                    .lda = dy.stride,
                    .ldb = x.stride};
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
        return fail_pair(c->op, "w", w, "b", b, "one bias per row of w");
    }
    qn_tensor y = with_last(x, w->shape[0]);
    if (residual && !qn_tensor_same_shape(&y, residual)) {
        return fail_pair(c->op, "y", &y, "residual", residual, "equal shapes");
    }
    qni_rows rows;
    if (residual) QN_TRY(qni_rows_need("linear", "residual", residual, &rows));
    qni_gemm g;
    QN_TRY(plan_forward(c, &g));
    QN_TRY(qni_gemm_scratch(&g, c->threads, &c->scratch_bytes));
    qni_describe_like(c, Y, &y);
    qni_describe_like(c, PRE, &y);
    return QN_OK;
}

static qn_status input_infer(qn_call *c) {
    const qn_tensor *dy = c->in[INPUT_DY], *w = c->in[INPUT_W];
    QN_TRY(qni_require_float(c, ~0u));
    if (w->ndim != 2 || dy->ndim < 1 || dy->shape[dy->ndim - 1] != w->shape[0]) {
        return fail_pair(c->op, "dy", dy, "w", w, "dy [...,M] and w [M,K]");
    }
    qni_gemm g;
    QN_TRY(plan_input(c, &g));
    QN_TRY(qni_gemm_scratch(&g, c->threads, &c->scratch_bytes));
    *c->out[0] = with_last(dy, w->shape[1]);
    return QN_OK;
}

static qn_status weight_infer(qn_call *c) {
    const qn_tensor *x = c->in[WEIGHT_X], *dy = c->in[WEIGHT_DY];
    QN_TRY(qni_require_float(c, ~0u));
    bool same = x->ndim == dy->ndim && x->ndim >= 1;
    for (int i = 0; same && i < x->ndim - 1; i++) same = x->shape[i] == dy->shape[i];
    if (!same) return fail_pair(c->op, "x", x, "dy", dy, "equal leading axes");
    qni_gemm g;
    QN_TRY(plan_weight(c, &g));
    QN_TRY(qni_gemm_scratch(&g, c->threads, &c->scratch_bytes));
    if (!c->out[WEIGHT_DW]) c->scratch_bytes = 0;
    qni_describe(c, WEIGHT_DW, x->dtype, QN_SHAPE(g.m, g.n));
    qni_describe(c, WEIGHT_DB, x->dtype, QN_SHAPE(g.m));
    return QN_OK;
}

/* ---- prepare --------------------------------------------------------------------------------- */

static qn_status prepare_with(qn_call *c, const qni_gemm *g) {
    qni_bf16 *primitives;
    QN_TRY(qni_gemm_prepare(g, c->threads, &primitives));
    c->state = primitives;
    return QN_OK;
}

static qn_status linear_prepare(qn_call *c) {
    qni_gemm g;
    QN_TRY(plan_forward(c, &g));
    return prepare_with(c, &g);
}

static qn_status input_prepare(qn_call *c) {
    qni_gemm g;
    QN_TRY(plan_input(c, &g));
    return prepare_with(c, &g);
}

static qn_status weight_prepare(qn_call *c) {
    qni_gemm g;
    if (!c->out[WEIGHT_DW]) return QN_OK;
    QN_TRY(plan_weight(c, &g));
    return prepare_with(c, &g);
}

static void release(qn_call *c) {
    qni_gemm_release(c->state);
    c->state = NULL;
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
            if (c->out[PRE]) qn_tensor_set(c->out[PRE], i * g.n + j, z);
            double y = qn_act_f64(attrs->activation, z);
            if (c->in[RESIDUAL]) y += qn_tensor_get(c->in[RESIDUAL], i * g.n + j);
            qn_tensor_set(c->out[Y], i * g.n + j, y);
        }
    }
    return QN_OK;
}

static qn_status input_ref(const qn_call *c) {
    const qn_tensor *dy = c->in[INPUT_DY], *w = c->in[INPUT_W];
    qni_gemm g;
    QN_TRY(plan_input(c, &g));
    for (int64_t i = 0; i < g.m; i++) {
        for (int64_t j = 0; j < g.n; j++) {
            double v = 0.0;
            for (int64_t k = 0; k < g.k; k++) {
                v += qni_element(dy->data, dy->dtype, i * g.lda + k) *
                     qni_element(w->data, w->dtype, k * g.ldb + j);
            }
            qni_put(c, 0, i * g.n + j, v);
        }
    }
    return QN_OK;
}

static qn_status weight_ref(const qn_call *c) {
    const qn_tensor *x = c->in[WEIGHT_X], *dy = c->in[WEIGHT_DY];
    qni_gemm g;
    QN_TRY(plan_weight(c, &g));
    for (int64_t i = 0; c->out[WEIGHT_DW] && i < g.m; i++) {
        for (int64_t j = 0; j < g.n; j++) {
            double v = 0.0;
            for (int64_t k = 0; k < g.k; k++) {
                v += qni_element(dy->data, dy->dtype, k * g.lda + i) *
                     qni_element(x->data, x->dtype, k * g.ldb + j);
            }
            qni_put(c, WEIGHT_DW, i * g.n + j, v);
        }
    }
    for (int64_t i = 0; c->out[WEIGHT_DB] && i < g.m; i++) {
        double v = 0.0;
        for (int64_t k = 0; k < g.k; k++) v += qni_element(dy->data, dy->dtype, k * g.lda + i);
        qni_put(c, WEIGHT_DB, i, v);
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
} finish;

static void finish_f32(const finish *f, int64_t row, int64_t col, int64_t n, float *z) {
    const qn_call *c = f->c;
    qn_dtype dt = c->in[X]->dtype;
    float buffer[PIECE];
    for (int64_t j = 0; j < n; j += PIECE) {
        int64_t count = n - j < PIECE ? n - j : PIECE;
        float *part = z + j;
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

static qni_gemm_job job_of(const qn_call *c, int a, int b, int slot) {
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
    qni_gemm_job job = job_of(c, X, W, Y);
    job.ldc = g.n > 0 ? g.n : 1;
    job.epilogue = plain ? NULL : finish_row;
    job.ctx = &f;
    return qni_gemm_run(&g, &job);
}

static qn_status input_cpu(const qn_call *c) {
    qni_gemm g;
    qni_rows dx;
    QN_TRY(plan_input(c, &g));
    QN_TRY(qni_rows_need("linear_bwd_input", "dx", c->out[0], &dx));
    qni_gemm_job job = job_of(c, INPUT_DY, INPUT_W, 0);
    job.ldc = dx.stride;
    return qni_gemm_run(&g, &job);
}

static qn_status weight_cpu(const qn_call *c) {
    qni_gemm g;
    QN_TRY(plan_weight(c, &g));
    if (c->out[WEIGHT_DW]) {
        qni_rows dw;
        QN_TRY(qni_rows_need("linear_bwd_weight", "dw", c->out[WEIGHT_DW], &dw));
        qni_gemm_job job = job_of(c, WEIGHT_DY, WEIGHT_X, WEIGHT_DW);
        job.ldc = dw.stride;
        QN_TRY(qni_gemm_run(&g, &job));
    }
    const qn_tensor *db = c->out[WEIGHT_DB], *dy = c->in[WEIGHT_DY];
    if (db) {
        qni_rows rows = {g.k, g.m, g.lda};
        qni_column_sums(c->threads, dy->data, dy->dtype, &rows, db->data, db->dtype,
                        qni_adds(c, WEIGHT_DB));
    }
    return QN_OK;
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
    qn_value *dw[2] = {qn_grad_slot(t, node->in[W]), qn_grad_slot(t, node->in[BIAS])};
    if (dw[0] || dw[1]) {
        qn_value *in[2] = {node->in[X], dpre};
        QN_TRY(qn_tape_emit(t, &qn_op_linear_bwd_weight, in, dw, 0, NULL, NULL));
    }
    qn_value *dx[1] = {qn_grad_slot(t, node->in[X])};
    if (dx[0]) {
        qn_value *in[2] = {dpre, node->in[W]};
        QN_TRY(qn_tape_emit(t, &qn_op_linear_bwd_input, in, dx, 0, NULL, NULL));
    }
    QN_TRY(qn_grad_pass(t, node->in[RESIDUAL], dy));
    return qn_tape_status(t);
}

static void cost_of(const qn_call *c, const qni_gemm *g, qn_cost *cost) {
    qni_cost(c, cost, 0.0);
    cost->flops = 2.0 * (double)g->m * (double)g->n * (double)g->k;
}

static void linear_cost(const qn_call *c, qn_cost *cost) {
    qni_gemm g;
    if (plan_forward(c, &g) == QN_OK) cost_of(c, &g, cost);
}

static void input_cost(const qn_call *c, qn_cost *cost) {
    qni_gemm g;
    if (plan_input(c, &g) == QN_OK) cost_of(c, &g, cost);
}

static void weight_cost(const qn_call *c, qn_cost *cost) {
    qni_gemm g;
    if (plan_weight(c, &g) == QN_OK) cost_of(c, &g, cost);
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
    .release = release,
    .run = {[QN_REF] = linear_ref, [QN_CPU] = linear_cpu},
    .backward = linear_backward,
    .cost = linear_cost,
};

/* dx (...,K) = dy (...,M) w (M,K). */
const qn_op qn_op_linear_bwd_input = {
    .name = "linear_bwd_input",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"dy", "w"},
    .out_name = {"dx"},
    .alias = {QN_FRESH},
    .can_accumulate = 1u,
    .cpu_dtypes = MATRIX_DTYPES,
    .infer = input_infer,
    .prepare = input_prepare,
    .release = release,
    .run = {[QN_REF] = input_ref, [QN_CPU] = input_cpu},
    .cost = input_cost,
};

/* dw (M,K) = dy^T x and db (M) = the column sums of dy, over all rows; storage may be f32 when x
 * and dy are bf16. */
const qn_op qn_op_linear_bwd_weight = {
    .name = "linear_bwd_weight",
    .n_in = 2,
    .n_out = 2,
    .in_name = {"x", "dy"},
    .out_name = {"dw", "db"},
    .optional_out = 1u << WEIGHT_DW | 1u << WEIGHT_DB,
    .alias = {QN_FRESH, QN_FRESH},
    .can_accumulate = 1u << WEIGHT_DW | 1u << WEIGHT_DB,
    .cpu_dtypes = MATRIX_DTYPES,
    .infer = weight_infer,
    .prepare = weight_prepare,
    .release = release,
    .run = {[QN_REF] = weight_ref, [QN_CPU] = weight_cpu},
    .cost = weight_cost,
};

qn_value *qn_linear(qn_tape *t, qn_value *x, qn_value *w, qn_value *b, qn_activation act,
                    qn_value *residual) {
    if (!x || !w) return NULL;
    qn_value *in[4] = {x, w, b, residual}, *out[2] = {NULL, NULL};
    qn_linear_attrs attrs = {act};
    if (qn_tape_emit(t, &qn_op_linear, in, out, 0, &attrs, NULL) != QN_OK) return NULL;
    return out[Y];
}
