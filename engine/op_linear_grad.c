/* op_linear_grad.c — the two gradient products of a linear layer: linear_bwd_input and
 * linear_bwd_weight. Weight gradients may be f32 storage for bf16 operands.
 */
#include "engine/op_linear.h"

enum { INPUT_DY, INPUT_W };    /* linear_bwd_input, in */
enum { WEIGHT_X, WEIGHT_DY };  /* linear_bwd_weight, in */
enum { WEIGHT_DW, WEIGHT_DB }; /* linear_bwd_weight, out */

/* ---- shapes ---------------------------------------------------------------------------------- */

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

static qn_status input_infer(qn_call *c) {
    const qn_tensor *dy = c->in[INPUT_DY], *w = c->in[INPUT_W];
    QN_TRY(qni_require_float(c, ~0u));
    if (w->ndim != 2 || dy->ndim < 1 || dy->shape[dy->ndim - 1] != w->shape[0]) {
        return qni_fail_pair(c->op, "dy", dy, "w", w, "dy [...,M] and w [M,K]");
    }
    qni_gemm g;
    QN_TRY(plan_input(c, &g));
    QN_TRY(qni_gemm_scratch(&g, c->threads, &c->scratch_bytes));
    *c->out[0] = qni_with_last(dy, w->shape[1]);
    return QN_OK;
}

static qn_status weight_infer(qn_call *c) {
    const qn_tensor *x = c->in[WEIGHT_X], *dy = c->in[WEIGHT_DY];
    QN_TRY(qni_require_float(c, ~0u));
    bool same = x->ndim == dy->ndim && x->ndim >= 1;
    for (int i = 0; same && i < x->ndim - 1; i++) same = x->shape[i] == dy->shape[i];
    if (!same) return qni_fail_pair(c->op, "x", x, "dy", dy, "equal leading axes");
    qni_gemm g;
    QN_TRY(plan_weight(c, &g));
    QN_TRY(qni_gemm_scratch(&g, c->threads, &c->scratch_bytes));
    if (!c->out[WEIGHT_DW]) c->scratch_bytes = 0;
    qni_describe(c, WEIGHT_DW, x->dtype, QN_SHAPE(g.m, g.n));
    qni_describe(c, WEIGHT_DB, x->dtype, QN_SHAPE(g.m));
    return QN_OK;
}

/* ---- prepare --------------------------------------------------------------------------------- */

static qn_status input_prepare(qn_call *c) {
    qni_gemm g;
    QN_TRY(plan_input(c, &g));
    return qni_linear_prepare(c, &g);
}

static qn_status weight_prepare(qn_call *c) {
    qni_gemm g;
    if (!c->out[WEIGHT_DW]) return QN_OK;
    QN_TRY(plan_weight(c, &g));
    return qni_linear_prepare(c, &g);
}

/* ---- REF ------------------------------------------------------------------------------------- */

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

static qn_status input_cpu(const qn_call *c) {
    qni_gemm g;
    qni_rows dx;
    QN_TRY(plan_input(c, &g));
    QN_TRY(qni_rows_need("linear_bwd_input", "dx", c->out[0], &dx));
    qni_gemm_job job = qni_linear_job(c, INPUT_DY, INPUT_W, 0);
    job.ldc = dx.stride;
    return qni_gemm_run(&g, &job);
}

static qn_status weight_cpu(const qn_call *c) {
    qni_gemm g;
    QN_TRY(plan_weight(c, &g));
    if (c->out[WEIGHT_DW]) {
        qni_rows dw;
        QN_TRY(qni_rows_need("linear_bwd_weight", "dw", c->out[WEIGHT_DW], &dw));
        qni_gemm_job job = qni_linear_job(c, WEIGHT_DY, WEIGHT_X, WEIGHT_DW);
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

/* ---- recording ------------------------------------------------------------------------------- */

qn_status qni_linear_grads(qn_tape *t, qn_value *x, qn_value *w, qn_value *b, qn_value *dy) {
    qn_value *dw[2] = {qn_grad_slot(t, w), qn_grad_slot(t, b)};
    if (dw[0] || dw[1]) {
        qn_value *in[2] = {x, dy};
        QN_TRY(qn_tape_emit(t, &qn_op_linear_bwd_weight, in, dw, 0, NULL, NULL));
    }
    qn_value *dx[1] = {qn_grad_slot(t, x)};
    if (dx[0]) {
        qn_value *in[2] = {dy, w};
        QN_TRY(qn_tape_emit(t, &qn_op_linear_bwd_input, in, dx, 0, NULL, NULL));
    }
    return qn_tape_status(t);
}

/* ---- cost and rows --------------------------------------------------------------------------- */

static void input_cost(const qn_call *c, qn_cost *cost) {
    qni_gemm g;
    if (plan_input(c, &g) == QN_OK) qni_linear_cost(c, &g, cost);
}

static void weight_cost(const qn_call *c, qn_cost *cost) {
    qni_gemm g;
    if (plan_weight(c, &g) == QN_OK) qni_linear_cost(c, &g, cost);
}

enum { MATRIX_DTYPES = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_F64) | QN_DTYPE_BIT(QN_BF16) };

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
    .release = qni_linear_release,
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
    .release = qni_linear_release,
    .run = {[QN_REF] = weight_ref, [QN_CPU] = weight_cpu},
    .cost = weight_cost,
};
