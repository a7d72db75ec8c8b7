/* linear_loss.cu — linear_cross_entropy: the loss of x w^T + b without ever holding all logits.
 *
 * Per chunk of rows: one product makes the logits, loss.cu makes the losses and, in their place,
 * the gradient, two products make the chunk's dx and its share of dw, column sums that of db.
 * Nothing is computed twice. Logits have the dtype of x (in bf16 they are rounded once, as
 * trainers that store them do); their rows are padded to 16 bytes. A chunk holds about 2^27
 * logits: dw, read and written in f32 once a chunk, then costs less than a tenth of the
 * products.
 */
#include "kernels/loss.cuh"
#include "kernels/matmul.h"

enum { X, W, BIAS, TARGETS, INV_N };
enum { LOSS, DX, DW, DB };
enum { CHUNK_LOGITS = 1 << 27, MIN_CHUNK = 1024, ROUND = 128 };

struct loss_plan {
    int64_t n, k, v, chunk, ld;     /* rows, width, classes; rows of a chunk; row of logits */
    size_t logits, products, total; /* bytes: records come first, logits at `logits`, ... */
};

static size_t round_up(size_t bytes) { return (bytes + 255) / 256 * 256; }

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static qn_product logits_product(const qn_call *c, const loss_plan *p, int64_t rows) {
    const qn_tensor *x = c->in[X], *w = c->in[W], *b = c->in[BIAS];
    qn_product g = {};
    g.m = rows;
    g.n = p->v;
    g.k = p->k;
    g.dtype = g.c_dtype = x->dtype;
    g.b_trans = true;
    g.a = x->data;
    g.b = w->data;
    g.lda = x->stride[0];
    g.ldb = w->stride[0];
    g.ldc = p->ld;
    g.alpha = 1.0f;
    if (b) {
        g.bias = b->data;
        g.bias_step = b->stride[0];
    }
    return g;
}

static qn_product dx_product(const qn_call *c, const loss_plan *p, int64_t rows) {
    const qn_tensor *w = c->in[W], *dx = c->out[DX];
    qn_product g = {};
    g.m = rows;
    g.n = p->k;
    g.k = p->v;
    g.dtype = w->dtype;
    g.c_dtype = dx->dtype;
    g.b = w->data;
    g.lda = p->ld;
    g.ldb = w->stride[0];
    g.ldc = dx->stride[0];
    g.alpha = 1.0f;
    g.accumulate = c->accumulate >> DX & 1u;
    return g;
}

static qn_product dw_product(const qn_call *c, const loss_plan *p, int64_t rows, bool first) {
    const qn_tensor *x = c->in[X], *dw = c->out[DW];
    qn_product g = {};
    g.m = p->v;
    g.n = p->k;
    g.k = rows;
    g.dtype = x->dtype;
    g.c_dtype = dw->dtype;
    g.a_trans = true;
    g.lda = p->ld;
    g.ldb = x->stride[0];
    g.ldc = dw->stride[0];
    g.alpha = 1.0f;
    g.accumulate = !first || (c->accumulate >> DW & 1u);
    return g;
}

static qn_column_sums db_sums(const qn_call *c, const loss_plan *p, int64_t rows, bool first) {
    const qn_tensor *db = c->out[DB];
    qn_column_sums s = {};
    s.rows = rows;
    s.cols = p->v;
    s.ld = p->ld;
    s.dtype = c->in[X]->dtype;
    s.sums_dtype = db->dtype;
    s.sums = db->data;
    s.accumulate = !first || (c->accumulate >> DB & 1u);
    return s;
}

/* Scratch of the products of a chunk of `rows` rows. */
static size_t product_bytes(const qn_call *c, const loss_plan *p, int64_t rows) {
    qn_product logits = logits_product(c, p, rows);
    size_t most = qn_product_scratch(&logits);
    if (c->out[DX]) {
        qn_product g = dx_product(c, p, rows);
        most = larger(most, qn_product_scratch(&g));
    }
    if (c->out[DW]) {
        qn_product g = dw_product(c, p, rows, false);
        most = larger(most, qn_product_scratch(&g));
    }
    if (c->out[DB]) {
        qn_column_sums s = db_sums(c, p, rows, false);
        most = larger(most, qn_column_sums_scratch(&s));
    }
    return most;
}

static loss_plan plan_of(const qn_call *c) {
    const qn_tensor *x = c->in[X], *w = c->in[W];
    int64_t asked = ((const qn_ce_attrs *)c->attrs)->chunk, vector = x->dtype == QN_F32 ? 4 : 8;
    loss_plan p = {x->shape[0], x->shape[1], w->shape[0]};
    p.ld = div_up(p.v, vector) * vector;
    p.chunk = asked;
    if (asked <= 0) {
        p.chunk = CHUNK_LOGITS / (p.ld > 0 ? p.ld : 1) / ROUND * ROUND;
        if (p.chunk < MIN_CHUNK) p.chunk = MIN_CHUNK;
    }
    if (p.chunk > p.n) p.chunk = p.n > 0 ? p.n : 1;
    int64_t rest = p.n - (p.n > 0 ? (p.n - 1) / p.chunk * p.chunk : 0);
    size_t item = (size_t)dtype_bytes(x->dtype);
    p.logits = round_up(sizeof(loss_record) * (size_t)p.n);
    p.products = p.logits + round_up(item * (size_t)(p.chunk * p.ld));
    p.total = p.products + larger(product_bytes(c, &p, p.chunk), product_bytes(c, &p, rest));
    return p;
}

static size_t linear_loss_scratch(const qn_call *c) { return plan_of(c).total; }

/* dx, dw and db of one chunk, whose gradient of the logits lies in scratch. */
static qn_status chunk_gradients(const qn_call *c, const loss_plan *p, int64_t first,
                                 int64_t rows) {
    size_t item = (size_t)dtype_bytes(c->in[X]->dtype);
    char *scratch = (char *)c->scratch, *logits = scratch + p->logits;
    if (c->out[DX]) {
        qn_product g = dx_product(c, p, rows);
        size_t out = (size_t)dtype_bytes(c->out[DX]->dtype);
        g.a = logits;
        g.c = (char *)c->out[DX]->data + (size_t)(first * g.ldc) * out;
        g.scratch = scratch + p->products;
        QN_TRY(qn_cuda_product(&g, c->stream));
    }
    if (c->out[DW]) {
        qn_product g = dw_product(c, p, rows, first == 0);
        g.a = logits;
        g.b = (const char *)c->in[X]->data + (size_t)(first * g.ldb) * item;
        g.c = c->out[DW]->data;
        g.scratch = scratch + p->products;
        QN_TRY(qn_cuda_product(&g, c->stream));
    }
    if (!c->out[DB]) return QN_OK;
    qn_column_sums s = db_sums(c, p, rows, first == 0);
    s.x = logits;
    s.scratch = scratch + p->products;
    return qn_cuda_column_sums(&s, c->stream);
}

static qn_status check_layout(const qn_call *c) {
    const qn_tensor *rows[] = {c->in[X], c->in[W], c->out[DX], c->out[DW]};
    for (const qn_tensor *t : rows) {
        if (!t || t->shape[1] <= 1 || t->stride[1] == 1) continue;
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "linear_cross_entropy: CUDA wants the elements of a row side by side");
    }
    return QN_OK;
}

static qn_status run_linear_loss(const qn_call *c) {
    const qn_ce_attrs *attrs = (const qn_ce_attrs *)c->attrs;
    const qn_tensor *x = c->in[X], *inv_n = c->in[INV_N];
    QN_TRY(check_layout(c));
    loss_plan p = plan_of(c);
    size_t item = (size_t)dtype_bytes(x->dtype);
    char *scratch = (char *)c->scratch;
    bool gradients = c->out[DX] || c->out[DW] || c->out[DB];
    loss_rows r = {};
    r.width = p.v;
    r.logits = scratch + p.logits;
    r.gradient = gradients ? scratch + p.logits : NULL;
    r.stride = r.gradient_stride = p.ld;
    r.inv_n = inv_n->data;
    r.inv_n_f64 = inv_n->dtype == QN_F64;
    r.ignore_index = attrs->ignore_index;
    r.smoothing = (float)attrs->label_smoothing;
    /* One turn even without rows: dw and db of nothing are 0. */
    for (int64_t first = 0; first < p.n || first == 0; first += p.chunk) {
        int64_t rows = p.n - first < p.chunk ? p.n - first : p.chunk;
        qn_product g = logits_product(c, &p, rows);
        g.a = (const char *)x->data + (size_t)(first * g.lda) * item;
        g.c = scratch + p.logits;
        g.scratch = scratch + p.products;
        QN_TRY(qn_cuda_product(&g, c->stream));
        r.n = rows;
        r.targets = (const int32_t *)c->in[TARGETS]->data + first * c->in[TARGETS]->stride[0];
        r.record = (loss_record *)scratch + first;
        loss_rows_launch(&r, x->dtype, stream_of(c));
        if (gradients) QN_TRY(chunk_gradients(c, &p, first, rows));
    }
    r.n = p.n;
    r.record = (loss_record *)scratch;
    loss_sum_launch(&r, c->out[LOSS]->data, stream_of(c));
    return launched(c);
}

extern "C" const qn_cuda_body qn_cuda_linear_loss[] = {
    {"linear_cross_entropy", QN_REAL_DTYPES, run_linear_loss, linear_loss_scratch},
    {NULL},
};
