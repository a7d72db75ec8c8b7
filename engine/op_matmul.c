/* op_matmul.c — y = alpha op(a) op(b), batched over equal leading axes.
 *
 * Operands may be any views whose last two axes hold a matrix by rows or by columns: a transposed
 * view costs nothing, it only turns the library's flag.
 */
#include "engine/gemm.h"
#include "engine/op_shared.h"

enum { A, B };

/* ---- shapes ---------------------------------------------------------------------------------- */

/* The last two axes of t as a stored matrix: by rows, or by columns (then `flipped`). */
typedef struct stored {
    int64_t rows, cols, ld;
    bool flipped;
} stored;

static bool stored_of(const qn_tensor *t, stored *out) {
    int r = t->ndim - 2, c = t->ndim - 1;
    int64_t rows = t->shape[r], cols = t->shape[c], wide = cols > 1 ? cols : 1;
    *out = (stored){.rows = rows, .cols = cols, .ld = t->stride[r]};
    if (rows <= 1 || cols == 0) out->ld = wide;
    if ((cols <= 1 || t->stride[c] == 1) && out->ld >= wide) return true;
    *out = (stored){.rows = rows, .cols = cols, .ld = t->stride[c], .flipped = true};
    int64_t tall = rows > 1 ? rows : 1;
    if (cols <= 1 || rows == 0) out->ld = tall;
    return (rows <= 1 || t->stride[r] == 1) && out->ld >= tall;
}

static qn_status need_stored(const char *operand, const qn_tensor *t, stored *out) {
    if (stored_of(t, out)) return QN_OK;
    char d[96];
    return qn_fail(QN_ERR_SHAPE,
                   "matmul: the last two axes of %s %s are neither rows nor columns of one stride; "
                   "make it contiguous first",
                   operand, qn_tensor_describe(t, d, sizeof d));
}

static void batch_steps(const qn_tensor *t, int64_t *step) {
    for (int i = 0; i < t->ndim - 2; i++) step[i] = t->stride[i];
}

/* The product for output `y`. If y is stored by columns the transposed product is made instead:
 * y^T = op(b)^T op(a)^T, and *swapped is set. */
static qn_status plan(const qn_call *c, const qn_tensor *y, qni_gemm *g, int64_t *ldc,
                      bool *swapped) {
    const qn_matmul_attrs *attrs = c->attrs;
    stored a, b, out;
    QN_TRY(need_stored("a", c->in[A], &a));
    QN_TRY(need_stored("b", c->in[B], &b));
    QN_TRY(need_stored("y", y, &out));
    bool a_trans = attrs->transpose_a != a.flipped, b_trans = attrs->transpose_b != b.flipped;
    *g = (qni_gemm){.dtype = c->in[A]->dtype,
                    .m = out.rows,
                    .n = out.cols,
                    .k = attrs->transpose_a ? a.rows : a.cols,
                    .a_trans = a_trans,
                    .b_trans = b_trans,
                    .lda = a.ld,
                    .ldb = b.ld,
                    .batch_dims = y->ndim - 2};
    batch_steps(c->in[A], g->a_step);
    batch_steps(c->in[B], g->b_step);
    batch_steps(y, g->c_step);
    for (int i = 0; i < g->batch_dims; i++) g->batch[i] = y->shape[i];
    *ldc = out.ld;
    *swapped = out.flipped;
    if (out.flipped) {
        qni_gemm s = *g;
        g->m = s.n;
        g->n = s.m;
        g->a_trans = !s.b_trans;
        g->b_trans = !s.a_trans;
        g->lda = s.ldb;
        g->ldb = s.lda;
        for (int i = 0; i < g->batch_dims; i++) {
            g->a_step[i] = s.b_step[i];
            g->b_step[i] = s.a_step[i];
        }
    }
    qni_gemm_plan(g);
    return QN_OK;
}

static qn_status shape_of(const qn_call *c, qn_tensor *y) {
    const qn_tensor *a = c->in[A], *b = c->in[B];
    const qn_matmul_attrs *attrs = c->attrs;
    char da[96], db[96];
    qn_tensor_describe(a, da, sizeof da);
    qn_tensor_describe(b, db, sizeof db);
    QN_TRY(qni_require_float(c, ~0u));
    int n = a->ndim;
    bool fits = n >= 2 && n == b->ndim;
    for (int i = 0; fits && i < n - 2; i++) fits = a->shape[i] == b->shape[i];
    if (!fits) {
        return qn_fail(QN_ERR_SHAPE, "matmul: a is %s, b is %s; expected equal leading axes", da,
                       db);
    }
    int64_t inner_a = a->shape[attrs->transpose_a ? n - 2 : n - 1];
    int64_t inner_b = b->shape[attrs->transpose_b ? n - 1 : n - 2];
    if (inner_a != inner_b) {
        return qn_fail(
            QN_ERR_SHAPE, "matmul: a is %s%s, b is %s%s; inner sizes %lld and %lld differ", da,
            attrs->transpose_a ? " transposed" : "", db, attrs->transpose_b ? " transposed" : "",
            (long long)inner_a, (long long)inner_b);
    }
    int64_t shape[QN_MAX_DIMS];
    for (int i = 0; i < n - 2; i++) shape[i] = a->shape[i];
    shape[n - 2] = a->shape[attrs->transpose_a ? n - 1 : n - 2];
    shape[n - 1] = b->shape[attrs->transpose_b ? n - 2 : n - 1];
    *y = qn_tensor_make(NULL, a->dtype, n, shape);
    return QN_OK;
}

static qn_status infer(qn_call *c) {
    qn_tensor y;
    QN_TRY(shape_of(c, &y));
    /* Storage that is given may be strided, and its layout decides the tiles. */
    const qn_tensor *layout = qn_tensor_same_shape(c->out[0], &y) ? c->out[0] : &y;
    qni_gemm g;
    int64_t ldc;
    bool swapped;
    QN_TRY(plan(c, layout, &g, &ldc, &swapped));
    QN_TRY(qni_gemm_scratch(&g, c->threads, &c->scratch_bytes));
    *c->out[0] = y;
    return QN_OK;
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static qn_status prepare(qn_call *c) {
    qni_gemm g;
    int64_t ldc;
    bool swapped;
    qni_bf16 *primitives;
    QN_TRY(plan(c, c->out[0], &g, &ldc, &swapped));
    QN_TRY(qni_gemm_prepare(&g, c->threads, &primitives));
    c->state = primitives;
    return QN_OK;
}

static void release(qn_call *c) {
    qni_gemm_release(c->state);
    c->state = NULL;
}

/* Storage offset of element [i, j] of batch item `item`. */
static int64_t offset_of(const qn_tensor *t, int64_t item, int64_t i, int64_t j) {
    int64_t at = i * t->stride[t->ndim - 2] + j * t->stride[t->ndim - 1];
    for (int d = t->ndim - 3; d >= 0; d--) {
        at += item % t->shape[d] * t->stride[d];
        item /= t->shape[d];
    }
    return at;
}

static qn_status run_ref(const qn_call *c) {
    const qn_matmul_attrs *attrs = c->attrs;
    const qn_tensor *a = c->in[A], *b = c->in[B], *y = c->out[0];
    int64_t rows = y->shape[y->ndim - 2], cols = y->shape[y->ndim - 1];
    int64_t inner = a->shape[attrs->transpose_a ? a->ndim - 2 : a->ndim - 1];
    int64_t n = qn_tensor_count(y);
    for (int64_t e = 0; e < n; e++) {
        int64_t j = e % cols, i = e / cols % rows, item = e / cols / rows;
        double v = 0.0;
        for (int64_t k = 0; k < inner; k++) {
            int64_t at_a = attrs->transpose_a ? offset_of(a, item, k, i) : offset_of(a, item, i, k);
            int64_t at_b = attrs->transpose_b ? offset_of(b, item, j, k) : offset_of(b, item, k, j);
            v += qni_element(a->data, a->dtype, at_a) * qni_element(b->data, b->dtype, at_b);
        }
        v *= attrs->alpha;
        qni_put(c, 0, e, v);
    }
    return QN_OK;
}

static qn_status run_cpu(const qn_call *c) {
    const qn_matmul_attrs *attrs = c->attrs;
    qni_gemm g;
    int64_t ldc;
    bool swapped;
    QN_TRY(plan(c, c->out[0], &g, &ldc, &swapped));
    qni_gemm_job job = {.a = c->in[swapped ? B : A]->data,
                        .b = c->in[swapped ? A : B]->data,
                        .c = c->out[0]->data,
                        .c_dtype = c->out[0]->dtype,
                        .ldc = ldc,
                        .alpha = attrs->alpha,
                        .add = qni_adds(c, 0),
                        .threads = c->threads,
                        .scratch = c->scratch,
                        .scratch_bytes = c->scratch_bytes,
                        .primitives = c->state};
    return qni_gemm_run(&g, &job);
}

/* ---- gradient and cost ----------------------------------------------------------------------- */

static qn_status emit_product(qn_tape *t, qn_value *a, qn_value *b, bool ta, bool tb, double alpha,
                              qn_value *slot) {
    if (!slot) return qn_tape_status(t);
    qn_value *in[2] = {a, b}, *out[1] = {slot};
    qn_matmul_attrs attrs = {ta, tb, alpha};
    return qn_tape_emit(t, &qn_op_matmul, in, out, 0, &attrs, NULL);
}

/* With da' for the gradient of op(a): da' = alpha dy op(b)^T, db' = alpha op(a)^T dy. */
static qn_status backward(qn_tape *t, qn_node *node) {
    const qn_matmul_attrs *attrs = node->call.attrs;
    bool ta = attrs->transpose_a, tb = attrs->transpose_b;
    qn_value *a = node->in[A], *b = node->in[B], *dy = qn_grad_of(t, node->out[0]);
    if (!dy) return qn_tape_status(t);
    qn_value *da = qn_grad_slot(t, a);
    QN_TRY(ta ? emit_product(t, b, dy, tb, true, attrs->alpha, da)
              : emit_product(t, dy, b, false, !tb, attrs->alpha, da));
    qn_value *db = qn_grad_slot(t, b);
    return tb ? emit_product(t, dy, a, true, ta, attrs->alpha, db)
              : emit_product(t, a, dy, !ta, false, attrs->alpha, db);
}

static void cost(const qn_call *c, qn_cost *out) {
    const qn_matmul_attrs *attrs = c->attrs;
    const qn_tensor *a = c->in[A], *y = c->out[0];
    double k = (double)a->shape[attrs->transpose_a ? a->ndim - 2 : a->ndim - 1];
    qni_cost(c, out, 0.0);
    out->flops = 2.0 * (double)qn_tensor_count(y) * k;
}

const qn_op qn_op_matmul = {
    .name = "matmul",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"a", "b"},
    .out_name = {"y"},
    .alias = {QN_FRESH},
    .can_accumulate = 1u,
    .attr_bytes = sizeof(qn_matmul_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_F64) | QN_DTYPE_BIT(QN_BF16),
    .infer = infer,
    .prepare = prepare,
    .release = release,
    .run = {[QN_REF] = run_ref, [QN_CPU] = run_cpu},
    .backward = backward,
    .cost = cost,
};

qn_value *qn_matmul(qn_tape *t, qn_value *a, qn_value *b, bool transpose_a, bool transpose_b) {
    if (!a || !b) return NULL;
    qn_value *in[2] = {a, b}, *out[1] = {NULL};
    qn_matmul_attrs attrs = {transpose_a, transpose_b, 1.0};
    if (qn_tape_emit(t, &qn_op_matmul, in, out, 0, &attrs, NULL) != QN_OK) return NULL;
    return out[0];
}
