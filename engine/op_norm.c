/* op_norm.c — layer and RMS normalisation over the last axis, with the residual addition in front.
 *
 * Forward, per row: h = x + residual (rounded to its storage), statistics in two passes over h, y.
 * Backward, with g = dy w, n = (h - mean) rstd (RMS: h rstd) and averages over the row:
 *   dx = rstd (g - avg(g) - n avg(g n)) + dh        (RMS: without avg(g))
 *   dw = sum over rows of dy n,  db = sum over rows of dy
 * x and residual have the same gradient. Parameter gradients are summed over a fixed number of row
 * chunks, whose partial sums are added in order.
 */
#include "engine/op_shared.h"
#include "engine/tape_internal.h"

/* ---- slots ----------------------------------------------------------------------------------- */

typedef struct norm { /* what both forward ops work on; RMS has no b and no mean */
    const qn_tensor *x, *residual, *w, *b;
    qn_tensor *y, *h, *mean, *rstd;
    double eps;
    int64_t rows, width;
} norm;

static norm norm_of(const qn_call *c) {
    bool rms = c->op == &qn_op_rmsnorm;
    const qn_tensor *x = c->in[0];
    norm f = {x, c->in[1], c->in[2], rms ? NULL : c->in[3]};
    f.y = c->out[0];
    f.h = c->out[1];
    f.mean = rms ? NULL : c->out[2];
    f.rstd = c->out[rms ? 2 : 3];
    f.eps = ((const qn_norm_attrs *)c->attrs)->eps;
    f.width = x->shape[x->ndim - 1];
    f.rows = f.width ? qn_tensor_count(x) / f.width : 0;
    return f;
}

typedef struct norm_grad {
    const qn_tensor *dy, *x, *w, *mean, *rstd, *dh;
    qn_tensor *dx, *dw, *db;
    int64_t rows, width;
} norm_grad;

static norm_grad norm_grad_of(const qn_call *c) {
    bool rms = c->op == &qn_op_rmsnorm_bwd;
    const qn_tensor *x = c->in[1];
    norm_grad f = {c->in[0], x, c->in[2], rms ? NULL : c->in[3]};
    f.rstd = c->in[rms ? 3 : 4];
    f.dh = c->in[rms ? 4 : 5];
    f.dx = c->out[0];
    f.dw = c->out[1];
    f.db = rms ? NULL : c->out[2];
    f.width = x->shape[x->ndim - 1];
    f.rows = f.width ? qn_tensor_count(x) / f.width : 0;
    return f;
}

/* Parts of the scratch of the backward call, in floats. */
typedef struct grad_layout {
    int64_t chunk_rows, chunks;
    int64_t partial, buffers, total; /* w | chunks x (dw, db) | threads x (x, dy, dx) */
} grad_layout;

static grad_layout layout_of(const norm_grad *f, int threads) {
    grad_layout l = {.chunk_rows = (f->rows + 31) / 32};
    if (l.chunk_rows < 8) l.chunk_rows = 8;
    l.chunks = (f->rows + l.chunk_rows - 1) / l.chunk_rows;
    l.partial = f->width;
    l.buffers = l.partial + l.chunks * 2 * f->width;
    l.total = l.buffers + (int64_t)threads * 3 * f->width;
    return l;
}

/* ---- infer ----------------------------------------------------------------------------------- */

static qn_dtype statistics_dtype(const qn_tensor *x) {
    return x->dtype == QN_F64 ? QN_F64 : QN_F32;
}

static qn_status norm_infer(qn_call *c) {
    bool rms = c->op == &qn_op_rmsnorm;
    QN_TRY(qni_require_float(c, 0xE));
    QN_TRY(qni_require_last_axis(c, 2, 0));
    if (!rms) QN_TRY(qni_require_last_axis(c, 3, 0));
    QN_TRY(qni_require_same_shape(c, 1, 0));
    const qn_tensor *x = c->in[0];
    qni_describe_like(c, 0, x);
    qni_describe_like(c, 1, x);
    for (int k = 2; k < c->op->n_out; k++) {
        qni_describe(c, k, statistics_dtype(x), x->ndim - 1, x->shape);
    }
    if (c->in[1] && !c->out[1]) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s: with a residual its sum h is an output too",
                       c->op->name);
    }
    int64_t width = x->shape[x->ndim - 1]; /* w, b | threads x (h, y), for bf16 */
    c->scratch_bytes = sizeof(float) * (size_t)(width * (2 + 2 * (int64_t)c->threads));
    return QN_OK;
}

static qn_status require_statistics(const qn_call *c, int slot) {
    const qn_tensor *s = c->in[slot], *x = c->in[1];
    qn_tensor want = qn_tensor_make(NULL, statistics_dtype(x), x->ndim - 1, x->shape);
    char d[96], e[96];
    if (s->dtype == want.dtype && qn_tensor_same_shape(s, &want)) return QN_OK;
    return qn_fail(QN_ERR_SHAPE, "%s: %s is %s, expected %s", c->op->name, c->op->in_name[slot],
                   qn_tensor_describe(s, d, sizeof d), qn_tensor_describe(&want, e, sizeof e));
}

static qn_status norm_bwd_infer(qn_call *c) {
    bool rms = c->op == &qn_op_rmsnorm_bwd;
    QN_TRY(qni_require_float(c, rms ? 0x16 : 0x26));
    QN_TRY(qni_require_same_shape(c, 1, 0));
    QN_TRY(qni_require_last_axis(c, 2, 0));
    for (int k = 3; k < (rms ? 4 : 5); k++) QN_TRY(require_statistics(c, k));
    QN_TRY(qni_require_same_shape(c, rms ? 4 : 5, 0));
    qni_describe_like(c, 0, c->in[0]);
    for (int k = 1; k < c->op->n_out; k++) qni_describe_like(c, k, c->in[2]);
    norm_grad f = norm_grad_of(c);
    c->scratch_bytes = sizeof(float) * (size_t)layout_of(&f, c->threads).total;
    return QN_OK;
}

/* ---- REF ------------------------------------------------------------------------------------- */

static qn_status norm_ref(const qn_call *c) {
    norm f = norm_of(c);
    bool rms = c->op == &qn_op_rmsnorm;
    for (int64_t r = 0; r < f.rows; r++) {
        int64_t at = r * f.width;
        const qn_tensor *h = f.x;
        if (f.residual) {
            for (int64_t j = at; j < at + f.width; j++) {
                double sum = qn_tensor_get(f.x, j) + qn_tensor_get(f.residual, j);
                qn_tensor_set(f.h, j, sum);
            }
            h = f.h;
        }
        double mean = 0.0, square = 0.0;
        for (int64_t j = at; j < at + f.width && !rms; j++) mean += qn_tensor_get(h, j);
        mean /= (double)f.width;
        for (int64_t j = at; j < at + f.width; j++) {
            double d = qn_tensor_get(h, j) - mean;
            square += d * d;
        }
        double rstd = 1.0 / sqrt(square / (double)f.width + f.eps);
        for (int64_t j = 0; j < f.width; j++) {
            double n = (qn_tensor_get(h, at + j) - mean) * rstd * qn_tensor_get(f.w, j);
            qn_tensor_set(f.y, at + j, f.b ? n + qn_tensor_get(f.b, j) : n);
        }
        if (f.mean) qn_tensor_set(f.mean, r, mean);
        if (f.rstd) qn_tensor_set(f.rstd, r, rstd);
    }
    return QN_OK;
}

static double normalised(const norm_grad *f, int64_t r, int64_t j) {
    double mean = f->mean ? qn_tensor_get(f->mean, r) : 0.0;
    return (qn_tensor_get(f->x, r * f->width + j) - mean) * qn_tensor_get(f->rstd, r);
}

static void norm_bwd_ref_parameters(const qn_call *c, const norm_grad *f) {
    for (int64_t j = 0; j < f->width && (f->dw || f->db); j++) {
        double dw = 0.0, db = 0.0;
        for (int64_t r = 0; r < f->rows; r++) {
            double dy = qn_tensor_get(f->dy, r * f->width + j);
            dw += dy * normalised(f, r, j);
            db += dy;
        }
        if (f->dw) qni_put(c, 1, j, dw);
        if (f->db) qni_put(c, 2, j, db);
    }
}

static qn_status norm_bwd_ref(const qn_call *c) {
    norm_grad f = norm_grad_of(c);
    norm_bwd_ref_parameters(c, &f); /* first: dx may take over dy */
    for (int64_t r = 0; r < f.rows && f.dx; r++) {
        int64_t at = r * f.width;
        double g_mean = 0.0, gn_mean = 0.0;
        for (int64_t j = 0; j < f.width; j++) {
            double g = qn_tensor_get(f.dy, at + j) * qn_tensor_get(f.w, j);
            if (f.mean) g_mean += g / (double)f.width;
            gn_mean += g * normalised(&f, r, j) / (double)f.width;
        }
        for (int64_t j = 0; j < f.width; j++) {
            double g = qn_tensor_get(f.dy, at + j) * qn_tensor_get(f.w, j);
            double dx = (g - g_mean - normalised(&f, r, j) * gn_mean) * qn_tensor_get(f.rstd, r);
            qni_put(c, 0, at + j, f.dh ? dx + qn_tensor_get(f.dh, at + j) : dx);
        }
    }
    return QN_OK;
}

/* ---- CPU ------------------------------------------------------------------------------------- */

static bool dense_rows(const qn_tensor *t) {
    return !t || t->ndim == 0 || t->shape[t->ndim - 1] <= 1 || t->stride[t->ndim - 1] == 1;
}

static int64_t row_at(const qn_tensor *t, int64_t row, int64_t width) {
    return qn_tensor_offset(t, row * width);
}

typedef struct norm_job {
    const qn_call *call;
    norm f;
    bool rms;
    const float *w, *b;
    float *buffers;
    int64_t rows_per_task;
} norm_job;

static const float *sum_row(const norm_job *job, int64_t r, float *buffer) {
    const norm *f = &job->f;
    int64_t at_x = row_at(f->x, r, f->width), n = f->width;
    if (!f->residual) return qn_row_load(f->x->data, f->x->dtype, at_x, n, buffer);
    int64_t at_r = row_at(f->residual, r, n), at_h = row_at(f->h, r, n);
    float *h = qn_row_open(f->h->data, f->h->dtype, at_h, buffer);
    if (f->x->dtype == QN_F32) {
        const float *x = (const float *)f->x->data + at_x;
        const float *y = (const float *)f->residual->data + at_r;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) h[j] = x[j] + y[j];
        return h;
    }
    const uint16_t *x = (const uint16_t *)f->x->data + at_x;
    const uint16_t *y = (const uint16_t *)f->residual->data + at_r;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        h[j] = qni_float_of_bits((uint32_t)x[j] << 16) + qni_float_of_bits((uint32_t)y[j] << 16);
    }
    qn_row_close(f->h->data, f->h->dtype, at_h, n, h);
    return qn_row_load(f->h->data, f->h->dtype, at_h, n, buffer); /* as it was rounded */
}

static void norm_row(const norm_job *job, int64_t r, float *buffer) {
    const norm *f = &job->f;
    int64_t n = f->width, at_y = row_at(f->y, r, n);
    const float *h = sum_row(job, r, buffer), *w = job->w, *b = job->b;
    float sum = 0.0f, square = 0.0f, mean = 0.0f;
    if (!job->rms) {
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++) sum += h[j];
        mean = sum / (float)n;
    }
#pragma omp simd reduction(+ : square)
    for (int64_t j = 0; j < n; j++) square += (h[j] - mean) * (h[j] - mean);
    float rstd = 1.0f / sqrtf(square / (float)n + (float)f->eps);
    float *y = qn_row_open(f->y->data, f->y->dtype, at_y, buffer + n);
    if (b) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = (h[j] - mean) * rstd * w[j] + b[j];
    } else {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] = (h[j] - mean) * rstd * w[j];
    }
    qn_row_close(f->y->data, f->y->dtype, at_y, n, y);
    if (f->mean) ((float *)f->mean->data)[qn_tensor_offset(f->mean, r)] = mean;
    if (f->rstd) ((float *)f->rstd->data)[qn_tensor_offset(f->rstd, r)] = rstd;
}

static void norm_task(void *ctx, int64_t task) {
    const norm_job *job = ctx;
    float *buffer = job->buffers + qn_parallel_thread() * 2 * job->f.width;
    int64_t first = task * job->rows_per_task, last = first + job->rows_per_task;
    for (int64_t r = first; r < last && r < job->f.rows; r++) norm_row(job, r, buffer);
}

static qn_status norm_cpu(const qn_call *c) {
    norm_job job = {.call = c, .f = norm_of(c), .rms = c->op == &qn_op_rmsnorm};
    const norm *f = &job.f;
    if (f->rows == 0) return QN_OK;
    if (!dense_rows(f->x) || !dense_rows(f->residual) || !dense_rows(f->w) || !dense_rows(f->b) ||
        !dense_rows(f->y) || !dense_rows(f->h)) {
        return norm_ref(c);
    }
    float *scratch = c->scratch;
    job.w = qn_row_load(f->w->data, f->w->dtype, 0, f->width, scratch);
    if (f->b) job.b = qn_row_load(f->b->data, f->b->dtype, 0, f->width, scratch + f->width);
    job.buffers = scratch + 2 * f->width;
    job.rows_per_task = 32768 / f->width + 1;
    int64_t tasks = (f->rows + job.rows_per_task - 1) / job.rows_per_task;
    qn_parallel_for(c->threads, tasks, norm_task, &job);
    return QN_OK;
}

typedef struct grad_job {
    const qn_call *call;
    norm_grad f;
    grad_layout layout;
    const float *w;
    float *scratch;
} grad_job;

static void norm_bwd_row(const grad_job *job, int64_t r, float *dw, float *db, float *buffer) {
    const norm_grad *f = &job->f;
    int64_t n = f->width;
    const float *x = qn_row_load(f->x->data, f->x->dtype, row_at(f->x, r, n), n, buffer);
    const float *dy = qn_row_load(f->dy->data, f->dy->dtype, row_at(f->dy, r, n), n, buffer + n);
    const float *w = job->w;
    float mean = f->mean ? ((const float *)f->mean->data)[qn_tensor_offset(f->mean, r)] : 0.0f;
    float rstd = ((const float *)f->rstd->data)[qn_tensor_offset(f->rstd, r)];
    float g_mean = 0.0f, gn_mean = 0.0f;
#pragma omp simd reduction(+ : g_mean, gn_mean)
    for (int64_t j = 0; j < n; j++) {
        float nj = (x[j] - mean) * rstd, g = dy[j] * w[j];
        g_mean += g;
        gn_mean += g * nj;
        dw[j] += dy[j] * nj;
        db[j] += dy[j];
    }
    if (!f->dx) return;
    g_mean = f->mean ? g_mean / (float)n : 0.0f;
    gn_mean /= (float)n;
    int64_t at = row_at(f->dx, r, n);
    bool adds = qni_adds(job->call, 0);
    float *dx = adds ? buffer + 2 * n : qn_row_open(f->dx->data, f->dx->dtype, at, buffer + 2 * n);
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        dx[j] = (dy[j] * w[j] - g_mean - (x[j] - mean) * rstd * gn_mean) * rstd;
    }
    if (f->dh) {
        int64_t at_h = row_at(f->dh, r, n);
        const float *dh = qn_row_load(f->dh->data, f->dh->dtype, at_h, n, buffer);
#pragma omp simd
        for (int64_t j = 0; j < n; j++) dx[j] += dh[j];
    }
    if (adds || f->dx->dtype != QN_F32) qni_store_row(f->dx->data, f->dx->dtype, at, n, dx, adds);
}

static void norm_bwd_task(void *ctx, int64_t chunk) {
    const grad_job *job = ctx;
    int64_t n = job->f.width, first = chunk * job->layout.chunk_rows;
    int64_t last = first + job->layout.chunk_rows;
    float *dw = job->scratch + job->layout.partial + chunk * 2 * n;
    float *buffer = job->scratch + job->layout.buffers + qn_parallel_thread() * 3 * n;
    for (int64_t j = 0; j < 2 * n; j++) dw[j] = 0.0f;
    for (int64_t r = first; r < last && r < job->f.rows; r++) {
        norm_bwd_row(job, r, dw, dw + n, buffer);
    }
}

enum { COLUMNS = 256 };

static void parameters_task(void *ctx, int64_t task) {
    const grad_job *job = ctx;
    int64_t n = job->f.width, first = task * COLUMNS, last = first + COLUMNS;
    const float *partial = job->scratch + job->layout.partial;
    for (int64_t j = first; j < last && j < n; j++) {
        double dw = 0.0, db = 0.0;
        for (int64_t k = 0; k < job->layout.chunks; k++) {
            dw += (double)partial[k * 2 * n + j];
            db += (double)partial[k * 2 * n + n + j];
        }
        if (job->f.dw) qni_put(job->call, 1, j, dw);
        if (job->f.db) qni_put(job->call, 2, j, db);
    }
}

static qn_status norm_bwd_cpu(const qn_call *c) {
    grad_job job = {.call = c, .f = norm_grad_of(c), .scratch = c->scratch};
    const norm_grad *f = &job.f;
    if (f->rows == 0 || !dense_rows(f->dy) || !dense_rows(f->x) || !dense_rows(f->w) ||
        !dense_rows(f->dh) || !dense_rows(f->dx)) {
        return norm_bwd_ref(c);
    }
    job.layout = layout_of(f, c->threads);
    job.w = qn_row_load(f->w->data, f->w->dtype, 0, f->width, job.scratch);
    qn_parallel_for(c->threads, job.layout.chunks, norm_bwd_task, &job);
    if (f->dw || f->db) {
        int64_t tasks = (f->width + COLUMNS - 1) / COLUMNS;
        qn_parallel_for(c->threads, tasks, parameters_task, &job);
    }
    return QN_OK;
}

/* ---- gradient, rows -------------------------------------------------------------------------- */

static qn_status pass_to_both(qn_tape *t, qn_node *n, qn_value *d) {
    QN_TRY(qn_grad_pass(t, n->in[0], d));
    return n->in[1] ? qn_grad_pass(t, n->in[1], d) : QN_OK;
}

static qn_status norm_backward(qn_tape *t, qn_node *n) {
    bool rms = n->call.op == &qn_op_rmsnorm;
    qn_value *dy = qn_grad_of(t, n->out[0]), *dh = qn_grad_of(t, n->out[1]);
    if (!dy) return dh ? pass_to_both(t, n, dh) : qn_tape_status(t);
    qn_value *h = n->out[1] ? n->out[1] : n->in[0], *w = n->in[2];
    qn_value *mean = rms ? NULL : qn_node_save(t, n, 2), *rstd = qn_node_save(t, n, rms ? 2 : 3);
    if (!rstd) return qn_tape_status(t);
    bool to_x = qn_grad_wanted(t, n->in[0]), to_residual = qn_grad_wanted(t, n->in[1]);
    bool both = to_x && to_residual; /* one gradient for two: a value of its own, passed on twice */
    qn_value *outs[3] = {NULL, qn_grad_slot(t, w), rms ? NULL : qn_grad_slot(t, n->in[3])};
    if (!both && (to_x || to_residual)) outs[0] = qn_grad_slot(t, n->in[to_x ? 0 : 1]);
    if (!both && !outs[0] && !outs[1] && !outs[2]) return qn_tape_status(t);
    qn_value *in[] = {dy, h, w, mean, rstd, dh}, *in_rms[] = {dy, h, w, rstd, dh};
    const qn_op *op = rms ? &qn_op_rmsnorm_bwd : &qn_op_layernorm_bwd;
    QN_TRY(qn_tape_emit(t, op, rms ? in_rms : in, outs, both ? 1 : 0, NULL, NULL));
    return both ? pass_to_both(t, n, outs[0]) : QN_OK;
}

static void norm_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 8.0); }
static void norm_bwd_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 16.0); }

const qn_op qn_op_layernorm = {
    .name = "layernorm",
    .n_in = 4,
    .n_out = 4,
    .in_name = {"x", "residual", "w", "b"},
    .out_name = {"y", "h", "mean", "rstd"},
    .optional_in = 1u << 1 | 1u << 3,
    .optional_out = 1u << 1 | 1u << 2 | 1u << 3,
    .alias = {QN_MAY_REUSE(0), QN_MAY_REUSE(1)},
    .attr_bytes = sizeof(qn_norm_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = norm_infer,
    .run = {norm_ref, norm_cpu},
    .backward = norm_backward,
    .cost = norm_cost,
};

const qn_op qn_op_layernorm_bwd = {
    .name = "layernorm_bwd",
    .n_in = 6,
    .n_out = 3,
    .in_name = {"dy", "x", "w", "mean", "rstd", "dh"},
    .out_name = {"dx", "dw", "db"},
    .optional_in = 1u << 5,
    .optional_out = 7,
    .alias = {QN_MAY_REUSE(0)},
    .can_accumulate = 7,
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = norm_bwd_infer,
    .run = {norm_bwd_ref, norm_bwd_cpu},
    .cost = norm_bwd_cost,
};

const qn_op qn_op_rmsnorm = {
    .name = "rmsnorm",
    .n_in = 3,
    .n_out = 3,
    .in_name = {"x", "residual", "w"},
    .out_name = {"y", "h", "rstd"},
    .optional_in = 1u << 1,
    .optional_out = 1u << 1 | 1u << 2,
    .alias = {QN_MAY_REUSE(0), QN_MAY_REUSE(1)},
    .attr_bytes = sizeof(qn_norm_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = norm_infer,
    .run = {norm_ref, norm_cpu},
    .backward = norm_backward,
    .cost = norm_cost,
};

const qn_op qn_op_rmsnorm_bwd = {
    .name = "rmsnorm_bwd",
    .n_in = 5,
    .n_out = 2,
    .in_name = {"dy", "x", "w", "rstd", "dh"},
    .out_name = {"dx", "dw"},
    .optional_in = 1u << 4,
    .optional_out = 3,
    .alias = {QN_MAY_REUSE(0)},
    .can_accumulate = 3,
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = norm_bwd_infer,
    .run = {norm_bwd_ref, norm_bwd_cpu},
    .cost = norm_bwd_cost,
};

static qn_value *record(qn_tape *t, const qn_op *op, qn_value *const *in, double eps,
                        qn_value **sum) {
    qn_norm_attrs attrs = {eps};
    qn_value *outs[4] = {0};
    if (sum) *sum = NULL;
    if (!in[0] || !in[2]) return NULL;
    if (qn_tape_emit(t, op, in, outs, in[1] ? 2 : 0, &attrs, NULL) != QN_OK) return NULL;
    if (sum) *sum = in[1] ? outs[1] : in[0];
    return outs[0];
}

qn_value *qn_layernorm(qn_tape *t, qn_value *x, qn_value *residual, qn_value *w, qn_value *b,
                       double eps, qn_value **sum) {
    return record(t, &qn_op_layernorm, (qn_value *[]){x, residual, w, b}, eps, sum);
}

qn_value *qn_rmsnorm(qn_tape *t, qn_value *x, qn_value *residual, qn_value *w, double eps,
                     qn_value **sum) {
    return record(t, &qn_op_rmsnorm, (qn_value *[]){x, residual, w}, eps, sum);
}
