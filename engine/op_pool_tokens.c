/* op_pool_tokens.c — one row per sample from its tokens: the first, the last, the mean.
 *
 * Which rows count, and their weight, follows from the documents alone; a sample is one task per
 * block of columns, so no two tasks write the same element.
 */
#include "engine/gemm.h"
#include "engine/op_shared.h"
#include "engine/tape_internal.h"

enum { X, DOCUMENTS };
enum { COLUMNS = 256 };

/* ---- which tokens ---------------------------------------------------------------------------- */

typedef struct picked { /* tokens first .. last that count, each with this weight */
    int64_t first, last;
    double weight; /* 0: none */
} picked;

static bool counts(const qn_tensor *documents, int64_t tokens, int64_t sample, int64_t token) {
    return !documents || qn_tensor_get_int(documents, sample * tokens + token) >= 0;
}

static picked pick(const qn_call *c, int64_t sample) {
    const qn_pool_attrs *attrs = c->attrs;
    const qn_tensor *documents = c->in[DOCUMENTS];
    picked p = {0, -1, 0.0};
    int64_t n = 0;
    for (int64_t t = 0; t < attrs->tokens; t++) {
        if (!counts(documents, attrs->tokens, sample, t)) continue;
        if (n++ == 0) p.first = t;
        p.last = t;
    }
    if (n == 0) return p;
    p.weight = attrs->kind == QN_POOL_MEAN ? 1.0 / (double)n : 1.0;
    if (attrs->kind == QN_POOL_FIRST) p.last = p.first;
    if (attrs->kind == QN_POOL_LAST) p.first = p.last;
    return p;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static qn_status check_documents(const qn_call *c, int64_t samples, int64_t tokens) {
    const qn_tensor *d = c->in[DOCUMENTS];
    char text[96];
    bool right = !d || (d->dtype == QN_I32 && d->ndim == 2 && d->shape[0] == samples &&
                        d->shape[1] == tokens);
    if (right) return QN_OK;
    return qn_fail(QN_ERR_SHAPE, "%s: documents is %s, expected i32[%lld,%lld]", c->op->name,
                   qn_tensor_describe(d, text, sizeof text), (long long)samples, (long long)tokens);
}

/* `in` is x (B,T,C), or dy (B,C); the output is the other. */
static qn_status infer(qn_call *c, bool backward) {
    const qn_pool_attrs *attrs = c->attrs;
    const qn_tensor *in = c->in[X];
    QN_TRY(qni_require_float(c, 0));
    bool right = backward ? in->ndim == 2 : in->ndim == 3 && in->shape[1] == attrs->tokens;
    if (!right || attrs->kind < 0 || attrs->kind >= QN_POOLING_COUNT || attrs->tokens < 0) {
        char text[96];
        return qn_fail(QN_ERR_SHAPE, "%s: %s is %s, expected %s with %lld tokens", c->op->name,
                       c->op->in_name[X], qn_tensor_describe(in, text, sizeof text),
                       backward ? "(B,C)" : "(B,T,C)", (long long)attrs->tokens);
    }
    QN_TRY(check_documents(c, in->shape[0], attrs->tokens));
    qni_rows rows;
    QN_TRY(qni_rows_need(c->op->name, c->op->in_name[X], in, &rows));
    int64_t shape[] = {in->shape[0], backward ? attrs->tokens : in->shape[2], in->shape[1]};
    qni_describe(c, 0, in->dtype, backward ? 3 : 2, shape);
    return QN_OK;
}

static qn_status pool_infer(qn_call *c) { return infer(c, false); }
static qn_status pool_bwd_infer(qn_call *c) { return infer(c, true); }

/* ---- REF ------------------------------------------------------------------------------------- */

static qn_status pool_ref(const qn_call *c) {
    const qn_tensor *x = c->in[X];
    int64_t tokens = x->shape[1], width = x->shape[2];
    for (int64_t b = 0; b < x->shape[0]; b++) {
        picked p = pick(c, b);
        for (int64_t j = 0; j < width; j++) {
            double sum = 0.0;
            for (int64_t t = p.first; t <= p.last; t++) {
                if (!counts(c->in[DOCUMENTS], tokens, b, t)) continue;
                sum += qn_tensor_get(x, (b * tokens + t) * width + j);
            }
            qn_tensor_set(c->out[0], b * width + j, sum * p.weight);
        }
    }
    return QN_OK;
}

static qn_status pool_bwd_ref(const qn_call *c) {
    const qn_tensor *dy = c->in[X], *dx = c->out[0];
    int64_t tokens = dx->shape[1], width = dx->shape[2];
    for (int64_t b = 0; b < dx->shape[0]; b++) {
        picked p = pick(c, b);
        for (int64_t t = 0; t < tokens; t++) {
            bool chosen = t >= p.first && t <= p.last && counts(c->in[DOCUMENTS], tokens, b, t);
            for (int64_t j = 0; j < width; j++) {
                double d = chosen ? p.weight * qn_tensor_get(dy, b * width + j) : 0.0;
                qni_put(c, 0, (b * tokens + t) * width + j, d);
            }
        }
    }
    return QN_OK;
}

/* ---- CPU ------------------------------------------------------------------------------------- */

typedef struct pool_job {
    const qn_call *c;
    qni_rows in, out;
    int64_t blocks; /* of columns */
} pool_job;

static void pool_task(void *ctx, int64_t task) {
    const pool_job *job = ctx;
    const qn_call *c = job->c;
    const qn_tensor *x = c->in[X], *y = c->out[0];
    int64_t b = task / job->blocks, at = task % job->blocks * COLUMNS, tokens = x->shape[1];
    int64_t n = job->in.cols - at < COLUMNS ? job->in.cols - at : COLUMNS;
    double sum[COLUMNS] = {0};
    float buffer[COLUMNS], result[COLUMNS];
    picked p = pick(c, b);
    for (int64_t t = p.first; t <= p.last; t++) {
        if (!counts(c->in[DOCUMENTS], tokens, b, t)) continue;
        int64_t offset = (b * tokens + t) * job->in.stride + at;
        const float *row = qn_row_load(x->data, x->dtype, offset, n, buffer);
        for (int64_t j = 0; j < n; j++) sum[j] += (double)row[j];
    }
    for (int64_t j = 0; j < n; j++) result[j] = (float)(sum[j] * p.weight);
    qni_store_row(y->data, y->dtype, b * job->out.stride + at, n, result, false);
}

static void pool_bwd_task(void *ctx, int64_t task) {
    const pool_job *job = ctx;
    const qn_call *c = job->c;
    const qn_tensor *dy = c->in[X], *dx = c->out[0];
    int64_t b = task / job->blocks, at = task % job->blocks * COLUMNS, tokens = dx->shape[1];
    int64_t n = job->in.cols - at < COLUMNS ? job->in.cols - at : COLUMNS;
    static const float zeros[COLUMNS];
    float buffer[COLUMNS], result[COLUMNS];
    bool adds = qni_adds(c, 0);
    picked p = pick(c, b);
    const float *row = qn_row_load(dy->data, dy->dtype, b * job->in.stride + at, n, buffer);
    for (int64_t j = 0; j < n; j++) result[j] = (float)p.weight * row[j];
    for (int64_t t = 0; t < tokens; t++) {
        bool chosen = t >= p.first && t <= p.last && counts(c->in[DOCUMENTS], tokens, b, t);
        if (!chosen && adds) continue;
        qni_store_row(dx->data, dx->dtype, (b * tokens + t) * job->out.stride + at, n,
                      chosen ? result : zeros, adds);
    }
}

static qn_status run_tasks(const qn_call *c, qn_task *body) {
    pool_job job = {.c = c};
    QN_TRY(qni_rows_need(c->op->name, c->op->in_name[X], c->in[X], &job.in));
    QN_TRY(qni_rows_need(c->op->name, c->op->out_name[0], c->out[0], &job.out));
    job.blocks = (job.in.cols + COLUMNS - 1) / COLUMNS;
    qn_parallel_for(c->threads, c->in[X]->shape[0] * job.blocks, body, &job);
    return QN_OK;
}

static qn_status pool_cpu(const qn_call *c) { return run_tasks(c, pool_task); }
static qn_status pool_bwd_cpu(const qn_call *c) { return run_tasks(c, pool_bwd_task); }

/* ---- gradient, rows -------------------------------------------------------------------------- */

static qn_status pool_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]), *dx = dy ? qn_grad_slot(t, n->in[X]) : NULL;
    if (!dx) return qn_tape_status(t);
    qn_value *in[] = {dy, n->in[DOCUMENTS]};
    return qn_tape_emit(t, &qn_op_pool_tokens_bwd, in, &dx, 0, n->call.attrs, NULL);
}

/* Of x only the rows that count are needed: all of them for a mean, else one a sample. */
static void pool_cost(const qn_call *c, qn_cost *cost) {
    const qn_pool_attrs *attrs = c->attrs;
    qni_cost(c, cost, 1.0);
    if (attrs->kind == QN_POOL_MEAN) return;
    cost->bytes -= (double)qn_tensor_bytes(c->in[X]) - (double)qn_tensor_bytes(c->out[0]);
    cost->flops = 0.0;
}
static void pool_bwd_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 1.0); }

const qn_op qn_op_pool_tokens = {
    .name = "pool_tokens",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"x", "documents"},
    .out_name = {"y"},
    .optional_in = 1u << DOCUMENTS,
    .alias = {QN_FRESH},
    .attr_bytes = sizeof(qn_pool_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = pool_infer,
    .run = {pool_ref, pool_cpu},
    .backward = pool_backward,
    .cost = pool_cost,
};

const qn_op qn_op_pool_tokens_bwd = {
    .name = "pool_tokens_bwd",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"dy", "documents"},
    .out_name = {"dx"},
    .optional_in = 1u << DOCUMENTS,
    .alias = {QN_FRESH},
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_pool_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = pool_bwd_infer,
    .run = {pool_bwd_ref, pool_bwd_cpu},
    .cost = pool_bwd_cost,
};

qn_value *qn_pool_tokens(qn_tape *t, qn_value *x, qn_value *documents, qn_pooling kind) {
    if (!x) return NULL;
    qn_pool_attrs attrs = {.kind = kind, .tokens = x->t.ndim == 3 ? x->t.shape[1] : 0};
    qn_value *in[] = {x, documents}, *y = NULL;
    if (qn_tape_emit(t, &qn_op_pool_tokens, in, &y, 0, &attrs, NULL) != QN_OK) return NULL;
    return y;
}
