/* op_softmax.c — softmax over the last axis and its gradient dx = y (dy - sum(dy y)).
 *
 * A row whose entries are all -infinity gives NaN, as in PyTorch.
 */
#include "engine/op_shared.h"
#include "engine/tape_internal.h"

static int64_t width_of(const qn_tensor *x) { return x->shape[x->ndim - 1]; }

static qn_status softmax_infer(qn_call *c) {
    QN_TRY(qni_require_float(c, 2));
    QN_TRY(qni_require_axis(c, 0));
    if (c->op->n_in == 2) QN_TRY(qni_require_same_shape(c, 1, 0));
    qni_describe_like(c, 0, c->in[0]);
    /* a converted row of each operand per thread; the gradient also needs one when it
     * accumulates */
    size_t rows = (size_t)c->op->n_in + 1;
    c->scratch_bytes = rows * sizeof(float) * (size_t)width_of(c->in[0]) * (size_t)c->threads;
    return QN_OK;
}

/* ---- REF ------------------------------------------------------------------------------------- */

static qn_status softmax_ref(const qn_call *c) {
    const qn_tensor *x = c->in[0];
    int64_t n = width_of(x), count = qn_tensor_count(x);
    for (int64_t at = 0; at < count; at += n) {
        double most = (double)-INFINITY, sum = 0.0;
        for (int64_t j = at; j < at + n; j++) most = fmax(most, qn_tensor_get(x, j));
        for (int64_t j = at; j < at + n; j++) sum += exp(qn_tensor_get(x, j) - most);
        for (int64_t j = at; j < at + n; j++) {
            qn_tensor_set(c->out[0], j, exp(qn_tensor_get(x, j) - most) / sum);
        }
    }
    return QN_OK;
}

static qn_status softmax_bwd_ref(const qn_call *c) {
    const qn_tensor *dy = c->in[0], *y = c->in[1];
    int64_t n = width_of(y), count = qn_tensor_count(y);
    for (int64_t at = 0; at < count; at += n) {
        double dot = 0.0;
        for (int64_t j = at; j < at + n; j++) dot += qn_tensor_get(dy, j) * qn_tensor_get(y, j);
        for (int64_t j = at; j < at + n; j++) {
            qni_put(c, 0, j, qn_tensor_get(y, j) * (qn_tensor_get(dy, j) - dot));
        }
    }
    return QN_OK;
}

/* ---- CPU ------------------------------------------------------------------------------------- */

static void softmax_row(int64_t n, const float *x, float *y) {
    float most = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : most)
    for (int64_t j = 0; j < n; j++) most = x[j] > most ? x[j] : most; /* a NaN shows in the sum */
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        y[j] = qn_expf_fast(x[j] - most);
        sum += y[j];
    }
    float factor = 1.0f / sum;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] *= factor;
}

static void softmax_bwd_row(int64_t n, const float *dy, const float *y, float *dx) {
    float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
    for (int64_t j = 0; j < n; j++) dot += dy[j] * y[j];
#pragma omp simd
    for (int64_t j = 0; j < n; j++) dx[j] = y[j] * (dy[j] - dot);
}

typedef struct softmax_job {
    const qn_call *call;
    int64_t rows, width, rows_per_task;
} softmax_job;

static void softmax_task(void *ctx, int64_t task) {
    const softmax_job *job = ctx;
    const qn_call *c = job->call;
    const qn_tensor *a = c->in[0], *b = c->op->n_in == 2 ? c->in[1] : NULL, *out = c->out[0];
    int64_t n = job->width, first = task * job->rows_per_task, last = first + job->rows_per_task;
    float *buffer = (float *)c->scratch + qn_parallel_thread() * n * (c->op->n_in + 1);
    bool adds = qni_adds(c, 0);
    for (int64_t r = first; r < last && r < job->rows; r++) {
        int64_t at = qn_tensor_offset(out, r * n);
        const float *p = qn_row_load(a->data, a->dtype, qn_tensor_offset(a, r * n), n, buffer);
        float *y = adds ? buffer + n : qn_row_open(out->data, out->dtype, at, buffer + n);
        if (b) {
            int64_t at_b = qn_tensor_offset(b, r * n);
            const float *q = qn_row_load(b->data, b->dtype, at_b, n, buffer + 2 * n);
            softmax_bwd_row(n, p, q, y);
        } else {
            softmax_row(n, p, y);
        }
        if (adds || out->dtype != QN_F32) qni_store_row(out->data, out->dtype, at, n, y, adds);
    }
}

static bool dense(const qn_tensor *t) { return width_of(t) <= 1 || t->stride[t->ndim - 1] == 1; }

static qn_status softmax_cpu(const qn_call *c) {
    const qn_tensor *x = c->in[0];
    if (qn_tensor_count(x) == 0) return QN_OK;
    if (!dense(x) || !dense(c->out[0]) || (c->op->n_in == 2 && !dense(c->in[1]))) {
        return c->op->run[QN_REF](c);
    }
    softmax_job job = {.call = c, .width = width_of(x)};
    job.rows = qn_tensor_count(x) / job.width;
    job.rows_per_task = 16384 / job.width + 1;
    int64_t tasks = (job.rows + job.rows_per_task - 1) / job.rows_per_task;
    qn_parallel_for(c->threads, tasks, softmax_task, &job);
    return QN_OK;
}

/* ---- gradient, rows -------------------------------------------------------------------------- */

static qn_status softmax_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]), *dx = dy ? qn_grad_slot(t, n->in[0]) : NULL;
    if (!dx) return qn_tape_status(t);
    qn_value *in[] = {dy, n->out[0]};
    return qn_tape_emit(t, &qn_op_softmax_bwd, in, &dx, 0, NULL, NULL);
}

static void softmax_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 16.0); }
static void softmax_bwd_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 4.0); }

const qn_op qn_op_softmax = {
    .name = "softmax",
    .n_in = 1,
    .n_out = 1,
    .in_name = {"x"},
    .out_name = {"y"},
    .alias = {QN_MAY_REUSE(0)},
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = softmax_infer,
    .run = {softmax_ref, softmax_cpu},
    .backward = softmax_backward,
    .cost = softmax_cost,
};

const qn_op qn_op_softmax_bwd = {
    .name = "softmax_bwd",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"dy", "y"},
    .out_name = {"dx"},
    .alias = {QN_MAY_REUSE(0)},
    .can_accumulate = 1,
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = softmax_infer,
    .run = {softmax_bwd_ref, softmax_cpu},
    .cost = softmax_bwd_cost,
};

qn_value *qn_softmax(qn_tape *t, qn_value *x) {
    qn_value *y = NULL;
    if (!x || qn_tape_emit(t, &qn_op_softmax, &x, &y, 0, NULL, NULL) != QN_OK) return NULL;
    return y;
}
