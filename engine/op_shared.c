/* op_shared.c — shape checks, costs, and the walk that turns elementwise calls into float rows. */
#include "engine/op_shared.h"

/* ---- infer ----------------------------------------------------------------------------------- */

void qni_describe(qn_call *c, int slot, qn_dtype dt, int ndim, const int64_t *shape) {
    if (c->out[slot]) *c->out[slot] = qn_tensor_make(NULL, dt, ndim, shape);
}

void qni_describe_like(qn_call *c, int slot, const qn_tensor *like) {
    qni_describe(c, slot, like->dtype, like->ndim, like->shape);
}

qn_status qni_require_same_shape(const qn_call *c, int slot, int as) {
    char a[96], b[96];
    if (!c->in[slot] || !c->in[as] || qn_tensor_same_shape(c->in[slot], c->in[as])) return QN_OK;
    return qn_fail(QN_ERR_SHAPE, "%s: %s is %s, %s is %s", c->op->name, c->op->in_name[slot],
                   qn_tensor_describe(c->in[slot], a, sizeof a), c->op->in_name[as],
                   qn_tensor_describe(c->in[as], b, sizeof b));
}

qn_status qni_require_float(const qn_call *c, uint32_t slots) {
    qn_dtype dt = c->in[0]->dtype;
    if (dt != QN_F32 && dt != QN_F64 && dt != QN_BF16) {
        return qn_fail(QN_ERR_DTYPE, "%s: %s is %s, expected f32, f64 or bf16", c->op->name,
                       c->op->in_name[0], qn_dtype_name(dt));
    }
    for (int k = 1; k < c->op->n_in; k++) {
        if (!(slots >> k & 1u) || !c->in[k] || c->in[k]->dtype == dt) continue;
        return qn_fail(QN_ERR_DTYPE, "%s: %s is %s, expected %s as %s", c->op->name,
                       c->op->in_name[k], qn_dtype_name(c->in[k]->dtype), qn_dtype_name(dt),
                       c->op->in_name[0]);
    }
    return QN_OK;
}

qn_status qni_require_axis(const qn_call *c, int slot) {
    if (c->in[slot]->ndim > 0) return QN_OK;
    return qn_fail(QN_ERR_SHAPE, "%s: %s is a scalar, expected at least one axis", c->op->name,
                   c->op->in_name[slot]);
}

qn_status qni_require_last_axis(const qn_call *c, int slot, int of) {
    QN_TRY(qni_require_axis(c, of));
    const qn_tensor *v = c->in[slot], *x = c->in[of];
    char a[96];
    int64_t width = x->shape[x->ndim - 1];
    if (!v || (v->ndim == 1 && v->shape[0] == width)) return QN_OK;
    return qn_fail(QN_ERR_SHAPE, "%s: %s is %s, %s ends in %lld", c->op->name, c->op->in_name[slot],
                   qn_tensor_describe(v, a, sizeof a), c->op->in_name[of], (long long)width);
}

qn_status qni_require_start(const qn_call *c, int slot, int64_t batch) {
    const qn_tensor *s = c->in[slot];
    int64_t n = s ? qn_tensor_count(s) : 1;
    if (!s || (s->dtype == QN_I32 && s->ndim <= 1 && (n == 1 || n == batch))) return QN_OK;
    char d[96];
    return qn_fail(QN_ERR_SHAPE, "%s: %s is %s, expected i32 with 1 or %lld elements", c->op->name,
                   c->op->in_name[slot], qn_tensor_describe(s, d, sizeof d), (long long)batch);
}

/* ---- cost ------------------------------------------------------------------------------------ */

void qni_cost(const qn_call *c, qn_cost *cost, double flops_per_element) {
    const qn_tensor *size = c->op->n_in > 0 ? c->in[0] : c->out[0];
    for (int i = 0; i < c->op->n_in; i++) {
        if (c->in[i]) cost->bytes += (double)qn_tensor_bytes(c->in[i]);
    }
    for (int i = 0; i < c->op->n_out; i++) {
        if (c->out[i]) cost->bytes += (double)qn_tensor_bytes(c->out[i]) * (qni_adds(c, i) ? 2 : 1);
    }
    cost->flops += flops_per_element * (double)qn_tensor_count(size);
}

/* ---- spans ----------------------------------------------------------------------------------- */

enum { TASK_ELEMENTS = 32768 };

/* Grows the dense run over trailing axes as long as each tensor is either dense or repeated
 * there. */
static void find_length(qni_walk *w) {
    bool seen = false; /* an axis longer than 1 has settled who repeats */
    w->length = 1;
    for (int axis = w->t[0].ndim - 1; axis >= 0; axis--) {
        int64_t size = w->t[0].shape[axis];
        if (size == 1) continue;
        for (int k = 0; k < w->n; k++) {
            if (!w->t[k].data) continue;
            int64_t stride = w->t[k].stride[axis];
            if (seen ? stride != (w->repeats[k] ? 0 : w->length) : stride > 1) return;
        }
        for (int k = 0; k < w->n && !seen; k++) w->repeats[k] = w->t[k].stride[axis] == 0;
        seen = true;
        w->length *= size;
    }
}

typedef struct walk_job {
    const qni_walk *w;
    int64_t per_row, spans, spans_per_task;
} walk_job;

static void walk_task(void *ctx, int64_t task) {
    const walk_job *job = ctx;
    const qni_walk *w = job->w;
    int64_t first = task * job->spans_per_task, last = first + job->spans_per_task;
    if (last > job->spans) last = job->spans;
    for (int64_t s = first; s < last; s++) {
        int64_t row = s / job->per_row, at = s % job->per_row * QNI_SPAN;
        int64_t n = w->length - at < QNI_SPAN ? w->length - at : QNI_SPAN;
        int64_t offset[QNI_WALK_TENSORS] = {0};
        for (int k = 0; k < w->n; k++) {
            if (!w->t[k].data) continue;
            offset[k] = qn_tensor_offset(&w->t[k], row * w->length) + (w->repeats[k] ? 0 : at);
        }
        w->body(w, offset, row * w->length + at, n);
    }
}

void qni_walk_run(const qn_call *call, int n, const qn_tensor *const *tensors, qni_span *body) {
    qni_walk w = {.call = call, .n = n, .body = body};
    for (int k = 0; k < n; k++) {
        if (tensors[k]) w.t[k] = *tensors[k];
    }
    int64_t count = qn_tensor_count(&w.t[0]);
    if (count == 0) return;
    find_length(&w);
    walk_job job = {.w = &w, .per_row = (w.length + QNI_SPAN - 1) / QNI_SPAN};
    job.spans = count / w.length * job.per_row;
    job.spans_per_task = TASK_ELEMENTS / (w.length < QNI_SPAN ? w.length : QNI_SPAN);
    int64_t tasks = (job.spans + job.spans_per_task - 1) / job.spans_per_task;
    qn_parallel_for(call->threads, tasks, walk_task, &job);
}

void qni_store_row(void *data, qn_dtype dt, int64_t offset, int64_t n, const float *row,
                   bool adds) {
    float old[QNI_SPAN];
    for (int64_t at = 0; at < n; at += QNI_SPAN) {
        int64_t m = n - at < QNI_SPAN ? n - at : QNI_SPAN;
        const float *r = row + at;
        if (dt == QN_F32) {
            float *y = (float *)data + offset + at;
#pragma omp simd
            for (int64_t i = 0; i < m; i++) y[i] = adds ? y[i] + r[i] : r[i];
            continue;
        }
        uint16_t *y = (uint16_t *)data + offset + at;
        if (adds) {
            qn_bf16_load_row(y, m, old);
#pragma omp simd
            for (int64_t i = 0; i < m; i++) old[i] += r[i];
            r = old;
        }
        qn_bf16_store_row(r, m, y);
    }
}

/* ---- random rows ----------------------------------------------------------------------------- */

/* A counter per lane of the vector unit: qn_philox's rounds over arrays. */
const uint32_t *qni_draw_row(uint64_t key, uint64_t step, uint64_t first, int64_t n,
                             uint32_t *buffer) {
    enum { LANES = 64 };
    uint64_t group = first >> 2;
    int64_t skip = (int64_t)(first & 3u), groups = (skip + n + 3) / 4;
    for (int64_t at = 0; at < groups; at += LANES) {
        uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        for (int i = 0; i < LANES; i++) {
            uint64_t counter = group + (uint64_t)(at + i);
            c0[i] = (uint32_t)counter;
            c1[i] = (uint32_t)(counter >> 32);
            c2[i] = (uint32_t)step;
            c3[i] = (uint32_t)(step >> 32);
        }
        for (int round = 0; round < 10; round++) {
#pragma omp simd
            for (int i = 0; i < LANES; i++) {
                uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
                c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
                c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
                c1[i] = (uint32_t)p1;
                c3[i] = (uint32_t)p0;
            }
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        int64_t m = groups - at < LANES ? groups - at : LANES;
        for (int64_t i = 0; i < m; i++) {
            uint32_t *b = buffer + 4 * (at + i);
            b[0] = c0[i];
            b[1] = c1[i];
            b[2] = c2[i];
            b[3] = c3[i];
        }
    }
    return buffer + skip;
}
