/* matmul.cu — the CUDA bodies of linear, its gradients and matmul: a call becomes products.
 *
 * Kernels and traffic: matmul_simt.cu, matmul_mma.cu, matmul_wgmma.cu, product.cu,
 * column_sums.cu. One launch a
 * product, two where k is split; the whole epilogue of linear is part of the product.
 */
#include "kernels/common.cuh"
#include "kernels/matmul.h"

/* ---- matrices inside tensors ----------------------------------------------------------------- */

/* t (..., cols) as rows x cols with one row stride; a vector is one row. */
typedef struct matrix {
    int64_t rows, cols, ld;
} matrix;

static qn_status rows_of(const qn_call *c, const char *name, const qn_tensor *t, matrix *out) {
    int64_t rows = 1, ld = 0, expected = 0;
    const int last = t->ndim - 1;
    const int64_t cols = t->ndim > 0 ? t->shape[last] : 1;
    bool even = cols <= 1 || t->stride[last] == 1;
    for (int i = last - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && rows > 0) {
            if (ld == 0) ld = t->stride[i];
            even = even && (expected == 0 || t->stride[i] == expected);
            expected = t->stride[i] * t->shape[i];
        }
        rows *= t->shape[i];
    }
    if (rows <= 1 || cols == 0) ld = cols > 0 ? cols : 1;
    *out = matrix{rows, cols, ld};
    if (even && ld >= cols) return QN_OK;
    return qn_fail(QN_ERR_SHAPE,
                   "%s: %s has rows without one common stride; make it contiguous first",
                   c->op->name, name);
}

static bool adds(const qn_call *c, int slot) { return c->accumulate >> slot & 1u; }

/* ---- linear ---------------------------------------------------------------------------------- */

enum { X, W, BIAS, RESIDUAL };
enum { Y, PRE };

static qn_status plan_linear(const qn_call *c, qn_product *p) {
    matrix x, w;
    QN_TRY(rows_of(c, "x", c->in[X], &x));
    QN_TRY(rows_of(c, "w", c->in[W], &w));
    *p = qn_product{};
    p->m = x.rows, p->n = w.rows, p->k = x.cols;
    p->dtype = p->c_dtype = c->in[X]->dtype;
    p->b_trans = true;
    p->a = c->in[X]->data, p->b = c->in[W]->data;
    p->lda = x.ld, p->ldb = w.ld;
    p->alpha = 1.0f;
    return QN_OK;
}

static qn_status make_linear(const qn_call *c, qn_product *p) {
    matrix m;
    QN_TRY(plan_linear(c, p));
    QN_TRY(rows_of(c, "y", c->out[Y], &m));
    p->c = c->out[Y]->data, p->ldc = m.ld, p->c_dtype = c->out[Y]->dtype;
    p->scratch = c->scratch;
    p->activation = ((const qn_linear_attrs *)c->attrs)->activation;
    if (c->in[BIAS]) p->bias = c->in[BIAS]->data, p->bias_step = c->in[BIAS]->stride[0];
    if (c->in[RESIDUAL]) {
        QN_TRY(rows_of(c, "residual", c->in[RESIDUAL], &m));
        p->residual = c->in[RESIDUAL]->data, p->ldr = m.ld;
    }
    if (c->out[PRE]) {
        QN_TRY(rows_of(c, "pre", c->out[PRE], &m));
        p->pre = c->out[PRE]->data, p->ldp = m.ld;
    }
    return QN_OK;
}

static qn_status run_linear(const qn_call *c) {
    qn_product p;
    QN_TRY(make_linear(c, &p));
    return qn_cuda_product(&p, c->stream);
}

static size_t scratch_linear(const qn_call *c) {
    qn_product p;
    return plan_linear(c, &p) == QN_OK ? qn_product_scratch(&p) : 0;
}

/* ---- gradients of linear --------------------------------------------------------------------- */

/* dx (rows,K) = dy (rows,M) w (M,K) */
static qn_status plan_input(const qn_call *c, qn_product *p) {
    matrix dy, w;
    QN_TRY(rows_of(c, "dy", c->in[0], &dy));
    QN_TRY(rows_of(c, "w", c->in[1], &w));
    *p = qn_product{};
    p->m = dy.rows, p->n = w.cols, p->k = dy.cols;
    p->dtype = p->c_dtype = c->in[0]->dtype;
    p->a = c->in[0]->data, p->b = c->in[1]->data;
    p->lda = dy.ld, p->ldb = w.ld;
    p->alpha = 1.0f;
    return QN_OK;
}

static qn_status make_input(const qn_call *c, qn_product *p) {
    matrix dx;
    QN_TRY(plan_input(c, p));
    QN_TRY(rows_of(c, "dx", c->out[0], &dx));
    p->c = c->out[0]->data, p->ldc = dx.ld, p->c_dtype = c->out[0]->dtype;
    p->accumulate = adds(c, 0);
    p->scratch = c->scratch;
    return QN_OK;
}

static qn_status run_input(const qn_call *c) {
    qn_product p;
    QN_TRY(make_input(c, &p));
    return qn_cuda_product(&p, c->stream);
}

static size_t scratch_input(const qn_call *c) {
    qn_product p;
    return plan_input(c, &p) == QN_OK ? qn_product_scratch(&p) : 0;
}

enum { DW, DB };

/* dw (M,K) = dy (rows,M)^T x (rows,K); db = the column sums of dy */
static qn_status plan_weight(const qn_call *c, qn_product *p, qn_column_sums *s) {
    matrix x, dy;
    QN_TRY(rows_of(c, "x", c->in[0], &x));
    QN_TRY(rows_of(c, "dy", c->in[1], &dy));
    *p = qn_product{};
    p->m = dy.cols, p->n = x.cols, p->k = x.rows;
    p->dtype = p->c_dtype = c->in[0]->dtype;
    p->a_trans = true;
    p->a = c->in[1]->data, p->b = c->in[0]->data;
    p->lda = dy.ld, p->ldb = x.ld;
    p->alpha = 1.0f;
    *s = qn_column_sums{};
    s->rows = dy.rows, s->cols = dy.cols, s->ld = dy.ld;
    s->dtype = s->sums_dtype = c->in[1]->dtype;
    s->x = c->in[1]->data;
    return QN_OK;
}

/* The product where dw is wanted, the sums where db is. */
static qn_status make_weight(const qn_call *c, qn_product *p, qn_column_sums *s) {
    matrix dw;
    QN_TRY(plan_weight(c, p, s));
    if (!c->out[DW]) return QN_OK;
    QN_TRY(rows_of(c, "dw", c->out[DW], &dw));
    p->c = c->out[DW]->data, p->ldc = dw.ld, p->c_dtype = c->out[DW]->dtype;
    p->accumulate = adds(c, DW);
    p->scratch = c->scratch;
    return QN_OK;
}

static qn_status run_weight(const qn_call *c) {
    qn_product p;
    qn_column_sums s;
    QN_TRY(make_weight(c, &p, &s));
    if (c->out[DW]) QN_TRY(qn_cuda_product(&p, c->stream));
    if (!c->out[DB]) return QN_OK;
    s.sums = c->out[DB]->data, s.sums_dtype = c->out[DB]->dtype;
    s.accumulate = adds(c, DB);
    s.scratch = c->scratch; /* the product is through with it */
    return qn_cuda_column_sums(&s, c->stream);
}

static size_t scratch_weight(const qn_call *c) {
    qn_product p;
    qn_column_sums s;
    if (plan_weight(c, &p, &s) != QN_OK) return 0;
    const size_t product = c->out[DW] ? qn_product_scratch(&p) : 0;
    const size_t sums = c->out[DB] ? qn_column_sums_scratch(&s) : 0;
    return product > sums ? product : sums;
}

/* ---- matmul ---------------------------------------------------------------------------------- */

/* The last two axes of t as a stored matrix: by rows, or by columns (then `flipped`). */
typedef struct stored {
    int64_t ld;
    bool flipped;
} stored;

static qn_status stored_of(const qn_call *c, const char *name, const qn_tensor *t, stored *out) {
    const int r = t->ndim - 2, k = t->ndim - 1;
    const int64_t rows = t->shape[r], cols = t->shape[k];
    const int64_t wide = cols > 1 ? cols : 1, tall = rows > 1 ? rows : 1;
    out->flipped = false;
    out->ld = rows <= 1 || cols == 0 ? wide : t->stride[r];
    if ((cols <= 1 || t->stride[k] == 1) && out->ld >= wide) return QN_OK;
    out->flipped = true;
    out->ld = cols <= 1 || rows == 0 ? tall : t->stride[k];
    if ((rows <= 1 || t->stride[r] == 1) && out->ld >= tall) return QN_OK;
    return qn_fail(QN_ERR_SHAPE,
                   "%s: the last two axes of %s are neither rows nor columns of one "
                   "stride; make it contiguous first",
                   c->op->name, name);
}

/* A y that is stored by columns is made as y^T = op(b)^T op(a)^T. */
static qn_status plan_matmul(const qn_call *c, const qn_tensor *y, qn_product *p) {
    const qn_matmul_attrs *attrs = (const qn_matmul_attrs *)c->attrs;
    const qn_tensor *a = c->in[0], *b = c->in[1];
    const int n = a->ndim;
    stored sa, sb, sy;
    QN_TRY(stored_of(c, "a", a, &sa));
    QN_TRY(stored_of(c, "b", b, &sb));
    QN_TRY(stored_of(c, "y", y, &sy));
    const bool swap = sy.flipped;
    *p = qn_product{};
    p->m = y->shape[swap ? n - 1 : n - 2], p->n = y->shape[swap ? n - 2 : n - 1];
    p->k = a->shape[attrs->transpose_a ? n - 2 : n - 1];
    p->dtype = a->dtype, p->c_dtype = y->dtype;
    p->a_trans = swap ? attrs->transpose_b == sb.flipped : attrs->transpose_a != sa.flipped;
    p->b_trans = swap ? attrs->transpose_a == sa.flipped : attrs->transpose_b != sb.flipped;
    p->a = (swap ? b : a)->data, p->b = (swap ? a : b)->data, p->c = y->data;
    p->lda = swap ? sb.ld : sa.ld, p->ldb = swap ? sa.ld : sb.ld, p->ldc = sy.ld;
    p->alpha = (float)attrs->alpha;
    p->batch_dims = n - 2;
    for (int i = 0; i < n - 2; i++) {
        p->batch[i] = y->shape[i];
        p->a_step[i] = (swap ? b : a)->stride[i];
        p->b_step[i] = (swap ? a : b)->stride[i];
        p->c_step[i] = y->stride[i];
    }
    return QN_OK;
}

static qn_status make_matmul(const qn_call *c, qn_product *p) {
    QN_TRY(plan_matmul(c, c->out[0], p));
    p->accumulate = adds(c, 0);
    p->scratch = c->scratch;
    return QN_OK;
}

static qn_status run_matmul(const qn_call *c) {
    qn_product p;
    QN_TRY(make_matmul(c, &p));
    return qn_cuda_product(&p, c->stream);
}

static size_t scratch_matmul(const qn_call *c) {
    qn_product p;
    return plan_matmul(c, c->out[0], &p) == QN_OK ? qn_product_scratch(&p) : 0;
}

/* ---- a call's product ------------------------------------------------------------------------ */

qn_status qn_cuda_product_of(const qn_call *c, qn_product *p) {
    const qn_cuda_body *body = qn_cuda_find(c->op->name);
    qn_column_sums s;
    if (body && body->run == run_linear) return make_linear(c, p);
    if (body && body->run == run_input) return make_input(c, p);
    if (body && body->run == run_matmul) return make_matmul(c, p);
    if (body && body->run == run_weight && c->out[DW]) return make_weight(c, p, &s);
    return qn_fail(QN_ERR_UNSUPPORTED, "%s: no product of its own", c->op->name);
}

/* ---- bodies ---------------------------------------------------------------------------------- */

extern "C" const qn_cuda_body qn_cuda_matmul[] = {
    {"linear", QN_REAL_DTYPES, run_linear, scratch_linear},
    {"linear_bwd_input", QN_REAL_DTYPES, run_input, scratch_input},
    {"linear_bwd_weight", QN_REAL_DTYPES, run_weight, scratch_weight},
    {"matmul", QN_REAL_DTYPES, run_matmul, scratch_matmul},
    {NULL},
};
