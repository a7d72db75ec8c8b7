/* op_rope.c — rotary position embedding, half-split form.
 *
 * Elements j and j + pairs of a head turn by the angle position * frequency[j]; the table comes
 * with the call. Angles, sines and cosines are f64, rounded once. Consecutive positions advance by
 * one complex multiplication in f64; every block of POSITIONS starts from an exact sine and cosine,
 * so the error stays below 1e-14.
 */
#include "engine/op_shared.h"
#include "engine/tape_internal.h"

enum { POSITIONS = 64 };

/* Doubles of one thread's rows: four of `pairs` f64, then f32: two of `pairs`, two of a head. */
static int64_t rows_length(const qn_tensor *x, int64_t pairs) {
    return 4 * pairs + pairs + x->shape[3];
}

static qn_status rope_infer(qn_call *c) {
    const qn_tensor *x = c->in[0], *p = c->in[1];
    const qn_rope_attrs *a = c->attrs;
    char d[96], e[96];
    QN_TRY(qni_require_float(c, 0));
    if (a->pairs < 0 || a->pairs > QN_ROPE_PAIRS || !(a->scale > 0.0)) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "rope: %d pairs and scale %g, expected at most %d and a scale above 0",
                       a->pairs, a->scale, (int)QN_ROPE_PAIRS);
    }
    if (x->ndim != 4 || x->shape[3] < 2 * (int64_t)a->pairs) {
        return qn_fail(QN_ERR_SHAPE, "rope: x is %s, expected (B,T,H,D) with D at least %d",
                       qn_tensor_describe(x, d, sizeof d), 2 * a->pairs);
    }
    if (p && (p->dtype != QN_I32 || p->ndim != 2 || p->shape[0] != x->shape[0] ||
              p->shape[1] != x->shape[1])) {
        return qn_fail(QN_ERR_SHAPE, "rope: positions are %s, x is %s; expected i32 (B,T)",
                       qn_tensor_describe(p, d, sizeof d), qn_tensor_describe(x, e, sizeof e));
    }
    QN_TRY(qni_require_start(c, 2, x->shape[0]));
    for (int j = 0; j < a->pairs; j++) {
        if (isfinite(a->frequency[j])) continue;
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "rope: the frequency of pair %d is %g, expected a number", j,
                       a->frequency[j]);
    }
    qni_describe_like(c, 0, x);
    c->scratch_bytes = (size_t)(rows_length(x, a->pairs) * c->threads) * sizeof(double);
    return QN_OK;
}

static int64_t position_of(const qn_call *c, int64_t b, int64_t t) {
    const qn_tensor *p = c->in[1];
    return (p ? qn_tensor_get_int(p, b * p->shape[1] + t) : t) + qni_start(c, 2, b);
}

static qn_status rope_ref(const qn_call *c) {
    const qn_tensor *x = c->in[0];
    const qn_rope_attrs *a = c->attrs;
    int64_t steps = x->shape[1], heads = x->shape[2], width = x->shape[3];
    int64_t rows = x->shape[0] * steps * heads;
    for (int64_t r = 0; r < rows; r++) {
        int64_t bt = r / heads, at = r * width;
        double position = (double)position_of(c, bt / steps, bt % steps);
        for (int64_t j = 0; j < a->pairs; j++) {
            double angle = position * a->frequency[j] * (a->inverse ? -1.0 : 1.0);
            double u = qn_tensor_get(x, at + j), v = qn_tensor_get(x, at + a->pairs + j);
            qni_put(c, 0, at + j, a->scale * (u * cos(angle) - v * sin(angle)));
            qni_put(c, 0, at + a->pairs + j, a->scale * (v * cos(angle) + u * sin(angle)));
        }
        for (int64_t j = 2 * (int64_t)a->pairs; j < width; j++) {
            qni_put(c, 0, at + j, qn_tensor_get(x, at + j));
        }
    }
    return QN_OK;
}

typedef struct rope_job {
    const qn_call *call;
    const qn_rope_attrs *attrs;
    int64_t pairs, blocks;
} rope_job;

/* One thread's rows, each `pairs` long; x and y a whole head. */
typedef struct rope_rows {
    double *c, *s, *step_c, *step_s; /* rotation of the present position, and of one more */
    float *fc, *fs, *x, *y;
} rope_rows;

static rope_rows rows_of(const rope_job *job) {
    const qn_tensor *x = job->call->in[0];
    int64_t n = job->pairs;
    double *d = (double *)job->call->scratch + rows_length(x, n) * qn_parallel_thread();
    float *f = (float *)(d + 4 * n);
    return (rope_rows){d, d + n, d + 2 * n, d + 3 * n,
                       f, f + n, f + 2 * n, f + 2 * n + x->shape[3]};
}

static void set_position(const rope_job *job, const rope_rows *r, int64_t position, bool follows) {
    const double *frequency = job->attrs->frequency;
    double scale = job->attrs->scale, sign = job->attrs->inverse ? -scale : scale;
    for (int64_t j = 0; j < job->pairs && !follows; j++) {
        r->c[j] = cos((double)position * frequency[j]);
        r->s[j] = sin((double)position * frequency[j]);
    }
#pragma omp simd
    for (int64_t j = 0; j < job->pairs; j++) {
        double c = r->c[j], s = r->s[j];
        if (follows) {
            double turned = c * r->step_c[j] - s * r->step_s[j];
            s = s * r->step_c[j] + c * r->step_s[j];
            c = turned;
        }
        r->c[j] = c;
        r->s[j] = s;
        r->fc[j] = (float)(scale * c);
        r->fs[j] = (float)(sign * s);
    }
}

static void rotate_row(const rope_job *job, const rope_rows *r, int64_t row) {
    const qn_tensor *x = job->call->in[0], *y = job->call->out[0];
    int64_t pairs = job->pairs, n = x->shape[3];
    bool adds = qni_adds(job->call, 0);
    int64_t at = qn_tensor_offset(y, row * n);
    const float *v = qn_row_load(x->data, x->dtype, qn_tensor_offset(x, row * n), n, r->x);
    float *w = adds ? r->y : qn_row_open(y->data, y->dtype, at, r->y);
#pragma omp simd
    for (int64_t j = 0; j < pairs; j++) {
        float p = v[j], q = v[pairs + j];
        w[j] = p * r->fc[j] - q * r->fs[j];
        w[pairs + j] = q * r->fc[j] + p * r->fs[j];
    }
    for (int64_t j = 2 * pairs; j < n; j++) w[j] = v[j];
    if (adds || y->dtype != QN_F32) qni_store_row(y->data, y->dtype, at, n, w, adds);
}

static void rope_task(void *ctx, int64_t task) {
    const rope_job *job = ctx;
    const qn_tensor *x = job->call->in[0];
    int64_t steps = x->shape[1], heads = x->shape[2], b = task / job->blocks;
    int64_t first = task % job->blocks * POSITIONS, last = first + POSITIONS;
    rope_rows r = rows_of(job);
    for (int64_t j = 0; j < job->pairs; j++) {
        r.step_c[j] = cos(job->attrs->frequency[j]);
        r.step_s[j] = sin(job->attrs->frequency[j]);
    }
    for (int64_t t = first, before = 0; t < last && t < steps; t++) {
        int64_t position = position_of(job->call, b, t);
        set_position(job, &r, position, t > first && position == before + 1);
        before = position;
        for (int64_t h = 0; h < heads; h++) rotate_row(job, &r, (b * steps + t) * heads + h);
    }
}

static qn_status rope_cpu(const qn_call *c) {
    const qn_tensor *x = c->in[0], *y = c->out[0];
    if (qn_tensor_count(x) == 0) return QN_OK;
    if (x->stride[3] != 1 || y->stride[3] != 1) return rope_ref(c);
    const qn_rope_attrs *a = c->attrs;
    rope_job job = {.call = c, .attrs = a, .pairs = a->pairs};
    job.blocks = (x->shape[1] + POSITIONS - 1) / POSITIONS;
    qn_parallel_for(c->threads, x->shape[0] * job.blocks, rope_task, &job);
    return QN_OK;
}

static qn_status rope_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]), *dx = dy ? qn_grad_slot(t, n->in[0]) : NULL;
    if (!dx) return qn_tape_status(t);
    qn_rope_attrs attrs = *(const qn_rope_attrs *)n->call.attrs;
    attrs.inverse = !attrs.inverse;
    qn_value *in[] = {dy, n->in[1], n->in[2]};
    return qn_tape_emit(t, &qn_op_rope, in, &dx, 0, &attrs, NULL);
}

static void rope_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 3.0); }

const qn_op qn_op_rope = {
    .name = "rope",
    .n_in = 3,
    .n_out = 1,
    .in_name = {"x", "positions", "start"},
    .out_name = {"y"},
    .optional_in = 6,
    .alias = {QN_MAY_REUSE(0)},
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_rope_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = rope_infer,
    .run = {rope_ref, rope_cpu},
    .backward = rope_backward,
    .cost = rope_cost,
};

qn_value *qn_rope(qn_tape *t, qn_value *x, qn_value *positions, qn_value *start,
                  const qn_rope_attrs *attrs) {
    if (!x) return NULL;
    qn_value *in[] = {x, positions, start}, *y = NULL;
    return qn_tape_emit(t, &qn_op_rope, in, &y, 0, attrs, NULL) == QN_OK ? y : NULL;
}

qn_rope_attrs qn_rope_plain(double theta, int64_t width) {
    int64_t pairs = width / 2;
    qn_rope_attrs a = {.scale = 1.0,
                       .pairs = pairs > QN_ROPE_PAIRS ? QN_ROPE_PAIRS + 1 : (int)pairs};
    for (int j = 0; j < a.pairs && j < QN_ROPE_PAIRS; j++) {
        a.frequency[j] = pow(theta, -2.0 * j / (double)width);
    }
    return a;
}
