/* op_linear_loss.c — linear_cross_entropy: the loss of x w^T + b without ever holding all logits.
 *
 * Per chunk of rows: logits (one product), loss and dlogits in place, then dx of the chunk and the
 * chunk's share of dw and db. So the logits cost one chunk of memory and nothing is computed twice;
 * dw is added to once per chunk, which is why chunks are not small. bf16: logits are f32, dlogits
 * are rounded to bf16 in place (the first half of each row) for the two gradient products.
 */
#include "engine/gemm.h"
#include "engine/loss_rows.h"

#include <math.h>
#include <string.h>

enum { X, W, BIAS, TARGETS, INV_N };
enum { LOSS, DX, DW, DB };

enum {
    CHUNK_BYTES = 16 << 20, /* of f32 logits, if that leaves at least MIN_CHUNK rows */
    MIN_CHUNK = 256,        /* below, the products slow down and dw is read and written too often */
    ALIGN = 64
};

/* ---- plan: sizes, products and the layout of scratch ----------------------------------------- */

typedef struct plan {
    int64_t n, k, v;     /* rows, width of x, classes */
    int64_t chunk, rest; /* rows of every chunk but the last; rows of the last */
    qni_rows x, w;
    size_t product_bytes; /* of the products; the logits follow */
    size_t losses_at;     /* behind the logits */
    size_t scratch_bytes;
} plan;

typedef struct products {
    qni_gemm logits, dx, dw;
} products;

static int64_t chunk_of(int64_t n, int64_t v, int64_t asked) {
    int64_t rows = asked;
    if (rows <= 0) {
        rows = CHUNK_BYTES / (int64_t)sizeof(float) / (v > 0 ? v : 1);
        if (rows < MIN_CHUNK) rows = MIN_CHUNK;
    }
    return rows < n ? rows : n > 0 ? n : 1;
}

/* The products of a chunk of `rows` rows. */
static products products_of(const plan *p, qn_dtype dt, int64_t rows) {
    int64_t ld = p->v > 0 ? p->v : 1;
    if (dt == QN_BF16) ld *= 2; /* a bf16 row in the storage of an f32 row */
    products g = {
        .logits = {.dtype = dt,
                   .m = rows,
                   .n = p->v,
                   .k = p->k,
                   .b_trans = true,
                   .lda = p->x.stride,
                   .ldb = p->w.stride},
        .dx = {.dtype = dt, .m = rows, .n = p->k, .k = p->v, .lda = ld, .ldb = p->w.stride},
        .dw = {.dtype = dt,
               .m = p->v,
               .n = p->k,
               .k = rows,
               .a_trans = true,
               .lda = ld,
               .ldb = p->x.stride},
    };
    qni_gemm_plan(&g.logits);
    qni_gemm_plan(&g.dx);
    qni_gemm_plan(&g.dw);
    return g;
}

static size_t aligned(size_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

static qn_status need_bytes(const qni_gemm *g, int threads, size_t *most) {
    size_t bytes;
    QN_TRY(qni_gemm_scratch(g, threads, &bytes));
    if (bytes > *most) *most = bytes;
    return QN_OK;
}

static qn_status plan_sizes(const qn_call *c, plan *p) {
    const qn_ce_attrs *attrs = c->attrs;
    *p = (plan){0};
    QN_TRY(qni_rows_need("linear_cross_entropy", "x", c->in[X], &p->x));
    QN_TRY(qni_rows_need("linear_cross_entropy", "w", c->in[W], &p->w));
    p->n = p->x.rows;
    p->k = p->x.cols;
    p->v = p->w.rows;
    p->chunk = chunk_of(p->n, p->v, attrs->chunk);
    p->rest = p->n - (p->n > 0 ? (p->n - 1) / p->chunk * p->chunk : 0);
    return QN_OK;
}

static qn_status plan_scratch(const qn_call *c, plan *p) {
    const int64_t rows[2] = {p->chunk, p->rest};
    for (int i = 0; i < 2; i++) {
        products g = products_of(p, c->in[X]->dtype, rows[i]);
        QN_TRY(need_bytes(&g.logits, c->threads, &p->product_bytes));
        QN_TRY(need_bytes(&g.dx, c->threads, &p->product_bytes));
        QN_TRY(need_bytes(&g.dw, c->threads, &p->product_bytes));
    }
    p->losses_at = p->product_bytes + aligned((size_t)(p->chunk * p->v) * sizeof(float));
    size_t cpu = p->losses_at + (size_t)p->chunk * sizeof(double);
    size_t ref = (size_t)(p->v + p->n * 2) * sizeof(double);
    p->scratch_bytes = cpu > ref ? cpu : ref;
    return QN_OK;
}

static qn_status infer(qn_call *c) {
    const qn_tensor *x = c->in[X], *w = c->in[W], *b = c->in[BIAS];
    const qn_ce_attrs *attrs = c->attrs;
    char dx[96], dw[96];
    QN_TRY(qni_require_float(c, 1u << W | 1u << BIAS));
    if (x->ndim != 2 || w->ndim != 2 || x->shape[1] != w->shape[1] ||
        (b && (b->ndim != 1 || b->shape[0] != w->shape[0]))) {
        return qn_fail(QN_ERR_SHAPE,
                       "linear_cross_entropy: x is %s, w is %s; expected x [N,K], w [V,K], b [V]",
                       qn_tensor_describe(x, dx, sizeof dx), qn_tensor_describe(w, dw, sizeof dw));
    }
    QN_TRY(qni_loss_check_inputs(c, x->shape[0], TARGETS, INV_N));
    if (!(attrs->label_smoothing >= 0.0 && attrs->label_smoothing <= 1.0) || attrs->chunk < 0) {
        return qn_fail(
            QN_ERR_CONFIG,
            "linear_cross_entropy: label smoothing is %g, chunk is %lld; expected 0 to 1 "
            "and at least 0",
            attrs->label_smoothing, (long long)attrs->chunk);
    }
    plan p;
    QN_TRY(plan_sizes(c, &p));
    QN_TRY(plan_scratch(c, &p));
    c->scratch_bytes = p.scratch_bytes;
    qni_describe(c, LOSS, c->in[INV_N]->dtype, 0, NULL);
    qni_describe_like(c, DX, x);
    qni_describe_like(c, DW, w);
    if (b) qni_describe_like(c, DB, b);
    if (!b && c->out[DB]) {
        return qn_fail(QN_ERR_INTERNAL, "linear_cross_entropy: db was asked for without b");
    }
    return QN_OK;
}

/* ---- prepare --------------------------------------------------------------------------------- */

enum { SIZES = 2, KINDS = 3 };

typedef struct state { /* [0] chunks, [1] the last chunk */
    qni_bf16 *logits[SIZES], *dx[SIZES], *dw[SIZES];
    size_t product_bytes;
} state;

static void release(qn_call *c) {
    state *s = c->state;
    for (int i = 0; s && i < SIZES; i++) {
        qni_gemm_release(s->logits[i]);
        qni_gemm_release(s->dx[i]);
        qni_gemm_release(s->dw[i]);
    }
    qn_free(s);
    c->state = NULL;
}

static qn_status prepare_size(const qn_call *c, const plan *p, int i, state *s) {
    products g = products_of(p, c->in[X]->dtype, i == 0 ? p->chunk : p->rest);
    if (i == 0 ? p->n < p->chunk : p->rest == p->chunk) return QN_OK; /* no such chunk */
    QN_TRY(qni_gemm_prepare(&g.logits, c->threads, &s->logits[i]));
    if (c->out[DX]) QN_TRY(qni_gemm_prepare(&g.dx, c->threads, &s->dx[i]));
    if (c->out[DW]) QN_TRY(qni_gemm_prepare(&g.dw, c->threads, &s->dw[i]));
    return QN_OK;
}

static qn_status prepare(qn_call *c) {
    plan p;
    QN_TRY(plan_sizes(c, &p));
    QN_TRY(plan_scratch(c, &p));
    state *s = qn_alloc(sizeof *s, "linear_cross_entropy");
    if (!s) return QN_ERR_OOM;
    s->product_bytes = p.product_bytes;
    c->state = s;
    qn_status status = prepare_size(c, &p, 0, s);
    if (status == QN_OK) status = prepare_size(c, &p, 1, s);
    if (status != QN_OK) release(c);
    return status;
}

/* ---- REF ------------------------------------------------------------------------------------- */

static double ref_logit(const qn_call *c, const plan *p, int64_t i, int64_t j) {
    const qn_tensor *x = c->in[X], *w = c->in[W];
    double z = c->in[BIAS] ? qn_tensor_get(c->in[BIAS], j) : 0.0;
    for (int64_t k = 0; k < p->k; k++) {
        z += qni_element(x->data, x->dtype, i * p->x.stride + k) *
             qni_element(w->data, w->dtype, j * p->w.stride + k);
    }
    return z;
}

/* Loss of row i; its log-sum-exp goes to *lse and dx's row is made. */
static double ref_row(const qn_call *c, const plan *p, int64_t i, double inv_n, double *lse) {
    const qn_ce_attrs *attrs = c->attrs;
    const qn_tensor *w = c->in[W];
    int64_t target = qn_tensor_get_int(c->in[TARGETS], i);
    bool ignored = target == attrs->ignore_index;
    double *z = c->scratch, max = -(double)INFINITY, sum = 0.0, total = 0.0, loss = 0.0;
    for (int64_t j = 0; j < p->v; j++) {
        z[j] = ref_logit(c, p, i, j);
        max = fmax(max, z[j]);
        total += z[j];
    }
    for (int64_t j = 0; j < p->v; j++) sum += exp(z[j] - max);
    *lse = max + log(sum);
    if (!ignored) {
        loss = *lse - (1.0 - attrs->label_smoothing) * z[target] -
               attrs->label_smoothing * total / (double)p->v;
    }
    for (int64_t k = 0; c->out[DX] && k < p->k; k++) {
        double d = 0.0;
        for (int64_t j = 0; j < p->v && !ignored; j++) {
            d += qni_loss_slope(z[j], *lse, j == target, p->v, attrs->label_smoothing, inv_n) *
                 qni_element(w->data, w->dtype, j * p->w.stride + k);
        }
        qni_put(c, DX, i * p->k + k, d);
    }
    return loss;
}

/* dw's row and db's element of class j. */
static void ref_class(const qn_call *c, const plan *p, int64_t j, double inv_n, const double *lse,
                      double *slope) {
    const qn_ce_attrs *attrs = c->attrs;
    const qn_tensor *x = c->in[X];
    double db = 0.0;
    for (int64_t i = 0; i < p->n; i++) {
        int64_t target = qn_tensor_get_int(c->in[TARGETS], i);
        slope[i] = target == attrs->ignore_index
                       ? 0.0
                       : qni_loss_slope(ref_logit(c, p, i, j), lse[i], j == target, p->v,
                                        attrs->label_smoothing, inv_n);
        db += slope[i];
    }
    if (c->out[DB]) qni_put(c, DB, j, db);
    for (int64_t k = 0; c->out[DW] && k < p->k; k++) {
        double d = 0.0;
        for (int64_t i = 0; i < p->n; i++) {
            d += slope[i] * qni_element(x->data, x->dtype, i * p->x.stride + k);
        }
        qni_put(c, DW, j * p->k + k, d);
    }
}

static qn_status run_ref(const qn_call *c) {
    const qn_ce_attrs *attrs = c->attrs;
    plan p;
    QN_TRY(plan_sizes(c, &p));
    QN_TRY(qni_loss_check_targets(c, TARGETS, p.v, attrs->ignore_index));
    double *lse = (double *)c->scratch + p.v, *slope = lse + p.n;
    double sum = 0.0, inv_n = qn_tensor_get(c->in[INV_N], 0);
    for (int64_t i = 0; i < p.n; i++) sum += ref_row(c, &p, i, inv_n, &lse[i]);
    for (int64_t j = 0; (c->out[DW] || c->out[DB]) && j < p.v; j++) {
        ref_class(c, &p, j, inv_n, lse, slope);
    }
    qn_tensor_set(c->out[LOSS], 0, inv_n * sum);
    return QN_OK;
}

/* ---- CPU ------------------------------------------------------------------------------------- */

typedef struct run {
    const qn_call *c;
    plan p;
    state *primitives;
    double inv_n;
    qni_rows dx, dw;
    bool want_gradient;
    float *logits;  /* chunk x v */
    double *losses; /* chunk */
    int64_t first;  /* row of the chunk at hand */
} run;

static void add_bias(void *ctx, int64_t item, int64_t row, int64_t col, int64_t n, void *values) {
    const run *r = ctx;
    const qn_tensor *b = r->c->in[BIAS];
    float *z = values;
    (void)item, (void)row;
    for (int64_t j = 0; j < n; j++) {
        z[j] += (float)qni_element(b->data, b->dtype, (col + j) * b->stride[0]);
    }
}

/* A row of floats becomes bf16 in the first half of its own bytes. */
static void round_row(float *z, int64_t n) {
    uint16_t part[256];
    for (int64_t j = 0; j < n; j += 256) {
        int64_t count = n - j < 256 ? n - j : 256;
        qn_bf16_store_row(z + j, count, part);
        memcpy((char *)z + (size_t)j * sizeof *part, part, (size_t)count * sizeof *part);
    }
}

static void loss_task(void *ctx, int64_t i) {
    const run *r = ctx;
    const qn_call *c = r->c;
    const qn_ce_attrs *attrs = c->attrs;
    int64_t v = r->p.v, target = qn_tensor_get_int(c->in[TARGETS], r->first + i);
    float *z = r->logits + i * v, *gradient = r->want_gradient ? z : NULL;
    if (target == attrs->ignore_index) {
        r->losses[i] = 0.0;
        for (int64_t j = 0; gradient && j < v; j++) gradient[j] = 0.0f;
    } else {
        r->losses[i] = qni_loss_row_f32(z, v, target, attrs->label_smoothing, r->inv_n, gradient);
    }
    if (!gradient || c->in[X]->dtype != QN_BF16) return;
    round_row(z, v);
}

static qni_gemm_job job_of(const run *r, const void *a, const void *b, void *out, qn_dtype dt,
                           int64_t ldc, bool add, qni_bf16 *primitives) {
    return (qni_gemm_job){.a = a,
                          .b = b,
                          .c = out,
                          .c_dtype = dt,
                          .ldc = ldc,
                          .alpha = 1.0,
                          .add = add,
                          .threads = r->c->threads,
                          .scratch = r->c->scratch,
                          .scratch_bytes = r->p.product_bytes,
                          .primitives = primitives};
}

static void *row_of(const qn_tensor *t, int64_t row, int64_t stride) {
    return (char *)t->data + row * stride * (int64_t)qn_dtype_bytes(t->dtype);
}

static qn_status chunk_gradients(const run *r, const products *g, int size, int64_t rows) {
    const qn_call *c = r->c;
    const qn_tensor *x = c->in[X], *w = c->in[W];
    const qn_tensor *dx = c->out[DX], *dw = c->out[DW], *db = c->out[DB];
    bool again = r->first > 0;
    if (dx) {
        qni_gemm_job job =
            job_of(r, r->logits, w->data, row_of(dx, r->first, r->dx.stride), dx->dtype,
                   r->dx.stride, qni_adds(c, DX), r->primitives->dx[size]);
        QN_TRY(qni_gemm_run(&g->dx, &job));
    }
    if (dw) {
        qni_gemm_job job =
            job_of(r, r->logits, row_of(x, r->first, r->p.x.stride), dw->data, dw->dtype,
                   r->dw.stride, qni_adds(c, DW) || again, r->primitives->dw[size]);
        QN_TRY(qni_gemm_run(&g->dw, &job));
    }
    if (db) {
        qni_rows rows_of_d = {rows, r->p.v, g->dx.lda};
        qni_column_sums(c->threads, r->logits, x->dtype, &rows_of_d, db->data, db->dtype,
                        qni_adds(c, DB) || again);
    }
    return QN_OK;
}

static qn_status run_chunk(run *r, int64_t rows, double *sum) {
    const qn_call *c = r->c;
    const qn_tensor *x = c->in[X];
    int size = rows == r->p.chunk ? 0 : 1;
    products g = products_of(&r->p, x->dtype, rows);
    qni_gemm_job job = job_of(r, row_of(x, r->first, r->p.x.stride), c->in[W]->data, r->logits,
                              QN_F32, r->p.v, false, r->primitives->logits[size]);
    if (c->in[BIAS]) {
        job.epilogue = add_bias;
        job.ctx = r;
    }
    QN_TRY(qni_gemm_run(&g.logits, &job));
    qn_parallel_for(c->threads, rows, loss_task, r);
    for (int64_t i = 0; i < rows; i++) *sum += r->losses[i];
    return r->want_gradient ? chunk_gradients(r, &g, size, rows) : QN_OK;
}

/* What no chunk writes must still become zero. */
static void clear_empty(const qn_call *c) {
    for (int slot = DX; slot <= DB; slot++) {
        for (int64_t i = 0; c->out[slot] && i < qn_tensor_count(c->out[slot]); i++) {
            qni_put(c, slot, i, 0.0);
        }
    }
}

static qn_status run_cpu(const qn_call *c) {
    const qn_ce_attrs *attrs = c->attrs;
    run r = {.c = c, .primitives = c->state};
    QN_TRY(plan_sizes(c, &r.p));
    r.p.product_bytes = r.primitives->product_bytes;
    QN_TRY(qni_loss_check_targets(c, TARGETS, r.p.v, attrs->ignore_index));
    if (c->out[DX]) QN_TRY(qni_rows_need("linear_cross_entropy", "dx", c->out[DX], &r.dx));
    if (c->out[DW]) QN_TRY(qni_rows_need("linear_cross_entropy", "dw", c->out[DW], &r.dw));
    r.inv_n = qn_tensor_get(c->in[INV_N], 0);
    r.want_gradient = c->out[DX] || c->out[DW] || c->out[DB];
    char *shared = (char *)c->scratch + r.p.product_bytes;
    r.logits = (float *)shared;
    r.losses = (double *)(shared + aligned((size_t)(r.p.chunk * r.p.v) * sizeof(float)));
    double sum = 0.0;
    if (r.p.n == 0) clear_empty(c);
    for (; r.first < r.p.n; r.first += r.p.chunk) {
        int64_t left = r.p.n - r.first;
        QN_TRY(run_chunk(&r, left < r.p.chunk ? left : r.p.chunk, &sum));
    }
    qn_tensor_set(c->out[LOSS], 0, r.inv_n * sum);
    return QN_OK;
}

/* ---- gradient and cost ----------------------------------------------------------------------- */

static qn_status backward(qn_tape *t, qn_node *node) {
    if (!qn_grad_is_root(t, node->out[LOSS])) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "linear_cross_entropy makes its gradient while it runs, so it must be the "
                       "root of the tape; use linear and cross_entropy inside a larger loss");
    }
    qn_node_save_grad(t, node, DX, node->in[X]);
    qn_node_save_grad(t, node, DW, node->in[W]);
    qn_node_save_grad(t, node, DB, node->in[BIAS]);
    return qn_tape_status(t);
}

static void cost(const qn_call *c, qn_cost *out) {
    const qn_tensor *x = c->in[X], *w = c->in[W];
    double product = 2.0 * (double)qn_tensor_count(x) * (double)w->shape[0];
    qni_cost(c, out, 0.0);
    out->flops = product * (1.0 + (c->out[DX] ? 1.0 : 0.0) + (c->out[DW] ? 1.0 : 0.0));
}

const qn_op qn_op_linear_cross_entropy = {
    .name = "linear_cross_entropy",
    .n_in = 5,
    .n_out = 4,
    .in_name = {"x", "w", "b", "targets", "inv_n"},
    .out_name = {"loss", "dx", "dw", "db"},
    .optional_in = 1u << BIAS,
    .optional_out = 1u << DX | 1u << DW | 1u << DB,
    .alias = {QN_FRESH, QN_FRESH, QN_FRESH, QN_FRESH},
    .can_accumulate = 1u << DX | 1u << DW | 1u << DB,
    .attr_bytes = sizeof(qn_ce_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = infer,
    .prepare = prepare,
    .release = release,
    .run = {[QN_REF] = run_ref, [QN_CPU] = run_cpu},
    .backward = backward,
    .cost = cost,
};

qn_value *qn_linear_cross_entropy(qn_tape *t, qn_value *x, qn_value *w, qn_value *b,
                                  qn_value *targets, qn_value *inv_n, const qn_ce_attrs *attrs) {
    if (!x || !w || !targets || !inv_n) return NULL;
    qn_value *in[5] = {x, w, b, targets, inv_n}, *out[4] = {NULL, NULL, NULL, NULL};
    if (qn_tape_emit(t, &qn_op_linear_cross_entropy, in, out, 0, attrs, NULL) != QN_OK) return NULL;
    return out[LOSS];
}
