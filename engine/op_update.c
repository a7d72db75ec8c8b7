/* op_update.c — what happens once per step over the flat parameter arena: gradient norm, guard,
 * AdamW, SGD.
 *
 * Work is cut into blocks of BLOCK elements within each segment; parameters outside every segment
 * are frozen and not touched. The weights are f64 (all arithmetic f64), f32, bf16 rounded from an
 * f32 master, or bf16 alone with stochastic rounding: an element's random word, keyed by (step,
 * element), decides.
 */
#include "engine/op_shared.h"
#include "engine/tape_internal.h"

enum { BLOCK = 16 * QNI_SPAN };

/* ---- segments -------------------------------------------------------------------------------- */

typedef struct piece {
    int64_t first, count;
    const qn_segment *segment;
} piece;

static int64_t blocks_in(const qn_segment *s) { return (s->count + BLOCK - 1) / BLOCK; }

static int64_t blocks_of(const qn_update_attrs *a) {
    int64_t n = 0;
    for (int i = 0; i < a->n_segments; i++) n += blocks_in(&a->segments[i]);
    return n;
}

static piece piece_at(const qn_update_attrs *a, int64_t block) {
    const qn_segment *s = a->segments;
    for (; block >= blocks_in(s); s++) block -= blocks_in(s);
    int64_t at = block * BLOCK, count = s->count - at < BLOCK ? s->count - at : BLOCK;
    return (piece){s->offset + at, count, s};
}

static qn_status check_segments(const qn_call *c, int64_t n) {
    const qn_update_attrs *a = c->attrs;
    for (int i = 0; i < a->n_segments; i++) {
        const qn_segment *s = &a->segments[i];
        if (s->offset >= 0 && s->count >= 0 && s->offset <= n - s->count) continue;
        return qn_fail(QN_ERR_SHAPE, "%s: segment %d covers %lld elements from %lld, %s has %lld",
                       c->op->name, i, (long long)s->count, (long long)s->offset, c->op->in_name[0],
                       (long long)n);
    }
    return QN_OK;
}

static qn_status require_vector(const qn_call *c, int slot, qn_dtype dt, int64_t n) {
    const qn_tensor *v = c->in[slot];
    char d[96];
    if (!v || (v->dtype == dt && v->ndim == 1 && v->shape[0] == n && qn_tensor_is_contiguous(v))) {
        return QN_OK;
    }
    return qn_fail(QN_ERR_SHAPE, "%s: %s is %s, expected %s[%lld]", c->op->name,
                   c->op->in_name[slot], qn_tensor_describe(v, d, sizeof d), qn_dtype_name(dt),
                   (long long)n);
}

/* ---- grad_norm ------------------------------------------------------------------------------- */

static qn_status grad_norm_infer(qn_call *c) {
    const qn_tensor *g = c->in[0];
    qn_dtype dt = g->dtype == QN_F64 ? QN_F64 : QN_F32;
    QN_TRY(require_vector(c, 0, dt, qn_tensor_count(g)));
    QN_TRY(check_segments(c, g->shape[0]));
    qni_describe(c, 0, dt, 0, NULL);
    c->scratch_bytes = sizeof(double) * (size_t)blocks_of(c->attrs);
    return QN_OK;
}

static qn_status grad_norm_ref(const qn_call *c) {
    const qn_update_attrs *a = c->attrs;
    double sum = 0.0;
    for (int i = 0; i < a->n_segments; i++) {
        const qn_segment *s = &a->segments[i];
        for (int64_t k = s->offset; k < s->offset + s->count; k++) {
            double g = qn_tensor_get(c->in[0], k);
            sum += g * g;
        }
    }
    qn_tensor_set(c->out[0], 0, sqrt(sum));
    return QN_OK;
}

static void square_task(void *ctx, int64_t block) {
    const qn_call *c = ctx;
    piece p = piece_at(c->attrs, block);
    const float *g = (const float *)c->in[0]->data + p.first;
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < p.count; i++) sum += (double)g[i] * (double)g[i];
    ((double *)c->scratch)[block] = sum;
}

static qn_status grad_norm_cpu(const qn_call *c) {
    int64_t blocks = blocks_of(c->attrs);
    double sum = 0.0;
    qn_parallel_for(c->threads, blocks, square_task, (void *)c);
    for (int64_t b = 0; b < blocks; b++) sum += ((double *)c->scratch)[b];
    qn_tensor_set(c->out[0], 0, sqrt(sum));
    return QN_OK;
}

static void grad_norm_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 2.0); }

const qn_op qn_op_grad_norm = {
    .name = "grad_norm",
    .n_in = 1,
    .n_out = 1,
    .in_name = {"grads"},
    .out_name = {"norm"},
    .attr_bytes = sizeof(qn_update_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32),
    .infer = grad_norm_infer,
    .run = {grad_norm_ref, grad_norm_cpu},
    .cost = grad_norm_cost,
};

qn_value *qn_grad_norm(qn_tape *t, qn_value *grads, const qn_segment *segments, int count) {
    qn_update_attrs attrs = {.n_segments = count, .segments = segments};
    qn_value *y = NULL;
    if (!grads || qn_tape_emit(t, &qn_op_grad_norm, &grads, &y, 0, &attrs, NULL) != QN_OK) {
        return NULL;
    }
    return y;
}

/* ---- guard ----------------------------------------------------------------------------------- */

static qn_status require_state(const qn_call *c, int slot) {
    return require_vector(c, slot, QN_F64, QN_GUARD_STATE);
}

static qn_status guard_infer(qn_call *c) {
    for (int k = 0; k < 2; k++) {
        char d[96];
        if (qn_tensor_count(c->in[k]) == 1 && qn_dtype_is_float(c->in[k]->dtype)) continue;
        return qn_fail(QN_ERR_SHAPE, "guard: %s is %s, expected one floating number",
                       c->op->in_name[k], qn_tensor_describe(c->in[k], d, sizeof d));
    }
    return require_state(c, 2);
}

/* The window is an exponential mean and variance (West 1979 with a falling weight 1/n up to the
 * window's length); it judges only once it has seen `spike_window` applied steps. */
static qn_status guard_ref(const qn_call *c) {
    const qn_guard_attrs *a = c->attrs;
    double loss = qn_tensor_get(c->in[0], 0), norm = qn_tensor_get(c->in[1], 0);
    double *s = c->out[0]->data;
    double distance = loss - s[QN_GUARD_MEAN], window = (double)a->spike_window;
    bool spike = a->spike_threshold > 0.0 && s[QN_GUARD_COUNT] >= window &&
                 distance > a->spike_threshold * sqrt(s[QN_GUARD_VAR]);
    if (!isfinite(loss) || !isfinite(norm) || spike) s[QN_GUARD_APPLY] = 0.0;
    if (s[QN_GUARD_APPLY] == 0.0) return QN_OK;
    double clip = a->clip_norm > 0.0 ? a->clip_norm / (norm + 1e-6) : 1.0;
    s[QN_GUARD_CLIP] = clip < 1.0 ? clip : 1.0;
    s[QN_GUARD_COUNT] += 1.0;
    double weight = 1.0 / (s[QN_GUARD_COUNT] < window ? s[QN_GUARD_COUNT] : fmax(window, 1.0));
    s[QN_GUARD_MEAN] += weight * distance;
    s[QN_GUARD_VAR] = (1.0 - weight) * (s[QN_GUARD_VAR] + weight * distance * distance);
    return QN_OK;
}

static void guard_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 20.0); }

const qn_op qn_op_guard = {
    .name = "guard",
    .n_in = 3,
    .n_out = 1,
    .in_name = {"loss", "norm", "state"},
    .out_name = {"state"},
    .alias = {QN_UPDATES},
    .attr_bytes = sizeof(qn_guard_attrs),
    .infer = guard_infer,
    .run = {guard_ref},
    .cost = guard_cost,
};

qn_value *qn_guard(qn_tape *t, qn_value *loss, qn_value *norm, qn_value *state,
                   const qn_guard_attrs *attrs) {
    if (!loss || !norm || !state) return NULL;
    qn_value *in[] = {loss, norm, state}, *outs[] = {state};
    return qn_tape_emit(t, &qn_op_guard, in, outs, 0, attrs, NULL) == QN_OK ? outs[0] : NULL;
}

/* ---- what both optimizers share -------------------------------------------------------------- */

/* Slots: adamw weights, master, grads, m, v, hyper, guard, rng; sgd the same without v. */
typedef struct update {
    const qn_call *call;
    const qn_update_attrs *a;
    const qn_tensor *grads, *m, *v;
    const qn_tensor *weights, *master; /* master: the weights themselves when they need none */
    double *hyper;
    double lr, t, clip;
    uint64_t draw_step;
    bool sgd, stochastic, apply;
} update;

static update update_of(const qn_call *c) {
    bool sgd = c->op == &qn_op_sgd;
    update u = {.call = c, .a = c->attrs, .sgd = sgd, .weights = c->in[0], .grads = c->in[2]};
    const double *state = c->in[sgd ? 5 : 6]->data;
    const qn_tensor *rng = c->in[sgd ? 6 : 7];
    u.master = c->in[1] ? c->in[1] : c->in[0];
    u.m = c->in[3];
    u.v = sgd ? NULL : c->in[4];
    u.hyper = c->in[sgd ? 4 : 5]->data;
    u.apply = state[QN_GUARD_APPLY] != 0.0;
    u.clip = state[QN_GUARD_CLIP];
    u.lr = u.hyper[0];
    u.t = u.hyper[1] + 1.0;
    u.stochastic = u.master->dtype == QN_BF16;
    if (u.stochastic) u.draw_step = (uint64_t)qn_tensor_get_int(rng, 0);
    return u;
}

static qn_status update_infer(qn_call *c) {
    const qn_update_attrs *a = c->attrs;
    bool sgd = c->op == &qn_op_sgd;
    const qn_tensor *w = c->in[0], *rng = c->in[sgd ? 6 : 7];
    int64_t n = qn_tensor_count(w);
    QN_TRY(qni_require_float(c, 0));
    QN_TRY(require_vector(c, 0, w->dtype, n));
    qn_dtype dt = w->dtype == QN_F64 ? QN_F64 : QN_F32;
    for (int k = 1; k < (sgd ? 4 : 5); k++) QN_TRY(require_vector(c, k, dt, n));
    QN_TRY(require_vector(c, sgd ? 4 : 5, QN_F64, 2));
    QN_TRY(require_state(c, sgd ? 5 : 6));
    QN_TRY(check_segments(c, n));
    if (w->dtype == QN_BF16 && !c->in[1] && (!a->stochastic_rounding || !rng)) {
        return qn_fail(QN_ERR_DTYPE,
                       "%s: bf16 weights need a master or stochastic rounding with an rng",
                       c->op->name);
    }
    if (rng && (rng->dtype != QN_I64 || qn_tensor_count(rng) < 1)) {
        return qn_fail(QN_ERR_DTYPE, "%s: rng is %s, expected i64", c->op->name,
                       qn_dtype_name(rng->dtype));
    }
    if (sgd && a->momentum != 0.0 && !c->in[3]) {
        return qn_fail(QN_ERR_SHAPE, "sgd: a momentum of %g needs its buffer", a->momentum);
    }
    return QN_OK;
}

/* Adding a random 16-bit number below the bits that are cut rounds up with the probability of the
 * remainder; infinities and NaN are kept. */
static uint16_t round_stochastic(float f, uint32_t word) {
    uint32_t u = qni_float_bits(f);
    if ((u & 0x7F800000u) == 0x7F800000u) return qn_f32_to_bf16(f);
    return (uint16_t)((u + (word & 0xFFFFu)) >> 16);
}

static void store_stochastic(const update *u, int64_t first, int64_t n, const float *row) {
    uint32_t words[QNI_DRAWS];
    uint16_t *w = (uint16_t *)u->weights->data + first;
    const uint32_t *r = qni_draw_row(u->call->rng_key, u->draw_step, (uint64_t)first, n, words);
    for (int64_t i = 0; i < n; i++) w[i] = round_stochastic(row[i], r[i]);
}

/* The new value of element i, rounded to wherever the weights live. */
static void put_weight(const update *u, int64_t i, double p) {
    if (u->stochastic) {
        uint32_t word = qn_random_u32(u->call->rng_key, u->draw_step, (uint64_t)i);
        ((uint16_t *)u->weights->data)[i] = round_stochastic((float)p, word);
        return;
    }
    qn_tensor_set(u->master, i, p);
    if (u->master != u->weights) qn_tensor_set(u->weights, i, qn_tensor_get(u->master, i));
}

/* ---- the rules ------------------------------------------------------------------------------- */

static void adamw_element(const update *u, const qn_segment *s, int64_t i) {
    const qn_update_attrs *a = u->a;
    double lr = u->lr * s->lr_scale, g = qn_tensor_get(u->grads, i) * u->clip;
    double m = qn_tensor_get(u->m, i), v = qn_tensor_get(u->v, i);
    double p = qn_tensor_get(u->master, i) * (1.0 - lr * s->weight_decay);
    m += (g - m) * (1.0 - a->beta1);
    v = v * a->beta2 + (1.0 - a->beta2) * g * g;
    double step = lr / (1.0 - pow(a->beta1, u->t));
    double denominator = sqrt(v) / sqrt(1.0 - pow(a->beta2, u->t)) + a->eps;
    qn_tensor_set(u->m, i, m);
    qn_tensor_set(u->v, i, v);
    put_weight(u, i, p - step * m / denominator);
}

static void sgd_element(const update *u, const qn_segment *s, int64_t i) {
    const qn_update_attrs *a = u->a;
    double p = qn_tensor_get(u->master, i);
    double g = qn_tensor_get(u->grads, i) * u->clip + s->weight_decay * p;
    if (a->momentum != 0.0) {
        double b = a->momentum * qn_tensor_get(u->m, i) + (1.0 - a->dampening) * g;
        if (u->t == 1.0) b = g;
        qn_tensor_set(u->m, i, b);
        g = a->nesterov ? g + a->momentum * b : b;
    }
    put_weight(u, i, p - u->lr * s->lr_scale * g);
}

static qn_status update_ref(const qn_call *c) {
    update u = update_of(c);
    if (!u.apply) return QN_OK;
    for (int k = 0; k < u.a->n_segments; k++) {
        const qn_segment *s = &u.a->segments[k];
        for (int64_t i = s->offset; i < s->offset + s->count; i++) {
            if (u.sgd) {
                sgd_element(&u, s, i);
            } else {
                adamw_element(&u, s, i);
            }
        }
    }
    u.hyper[1] = u.t;
    return QN_OK;
}

static void adamw_row(const update *u, const qn_segment *s, int64_t at, int64_t n, float *p) {
    const qn_update_attrs *a = u->a;
    const float *grads = (const float *)u->grads->data + at;
    float *m = (float *)u->m->data + at, *v = (float *)u->v->data + at;
    double lr = u->lr * s->lr_scale;
    float decay = (float)(1.0 - lr * s->weight_decay), clip = (float)u->clip, eps = (float)a->eps;
    float b1 = (float)(1.0 - a->beta1), b2 = (float)a->beta2, c2 = (float)(1.0 - a->beta2);
    float step = (float)(lr / (1.0 - pow(a->beta1, u->t)));
    float root = (float)sqrt(1.0 - pow(a->beta2, u->t));
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grads[i] * clip;
        float mi = m[i] + (g - m[i]) * b1, vi = v[i] * b2 + c2 * g * g;
        m[i] = mi;
        v[i] = vi;
        p[i] = p[i] * decay - step * (mi / (sqrtf(vi) / root + eps));
    }
}

static void sgd_row(const update *u, const qn_segment *s, int64_t at, int64_t n, float *p) {
    const qn_update_attrs *a = u->a;
    const float *grads = (const float *)u->grads->data + at;
    float *m = u->m ? (float *)u->m->data + at : NULL;
    float clip = (float)u->clip, decay = (float)s->weight_decay;
    float lr = (float)(u->lr * s->lr_scale);
    if (a->momentum == 0.0) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) p[i] -= lr * (grads[i] * clip + decay * p[i]);
        return;
    }
    bool first = u->t == 1.0;
    float keep = first ? 0.0f : (float)a->momentum;
    float take = first ? 1.0f : (float)(1.0 - a->dampening);
    float ahead = a->nesterov ? (float)a->momentum : 0.0f;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grads[i] * clip + decay * p[i];
        float b = keep * m[i] + take * g;
        m[i] = b;
        p[i] -= lr * (a->nesterov ? g + ahead * b : b);
    }
}

static void update_task(void *ctx, int64_t block) {
    const update *u = ctx;
    piece q = piece_at(u->a, block);
    float buffer[QNI_SPAN];
    for (int64_t at = q.first, end = q.first + q.count; at < end; at += QNI_SPAN) {
        int64_t n = end - at < QNI_SPAN ? end - at : QNI_SPAN;
        float *p = (float *)qn_row_load(u->master->data, u->master->dtype, at, n, buffer);
        if (u->sgd) {
            sgd_row(u, q.segment, at, n, p);
        } else {
            adamw_row(u, q.segment, at, n, p);
        }
        if (u->stochastic) {
            store_stochastic(u, at, n, p);
        } else if (u->master != u->weights) {
            qni_store_row(u->weights->data, u->weights->dtype, at, n, p, false);
        }
    }
}

static qn_status update_cpu(const qn_call *c) {
    update u = update_of(c);
    if (!u.apply) return QN_OK;
    qn_parallel_for(c->threads, blocks_of(u.a), update_task, &u);
    u.hyper[1] = u.t;
    return QN_OK;
}

/* Beside a master the weights are written, not read. */
static void update_cost(const qn_call *c, qn_cost *cost, double flops) {
    qni_cost(c, cost, flops);
    if (c->in[1]) cost->bytes -= (double)qn_tensor_bytes(c->in[0]);
}
static void adamw_cost(const qn_call *c, qn_cost *cost) { update_cost(c, cost, 14.0); }
static void sgd_cost(const qn_call *c, qn_cost *cost) { update_cost(c, cost, 6.0); }

const qn_op qn_op_adamw = {
    .name = "adamw",
    .n_in = 8,
    .n_out = 5,
    .in_name = {"weights", "master", "grads", "m", "v", "hyper", "guard", "rng"},
    .out_name = {"weights", "master", "m", "v", "hyper"},
    .optional_in = 1u << 1 | 1u << 7,
    .optional_out = 1u << 1,
    .alias = {QN_UPDATES, QN_UPDATES, QN_UPDATES, QN_UPDATES, QN_UPDATES},
    .attr_bytes = sizeof(qn_update_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = update_infer,
    .run = {update_ref, update_cpu},
    .cost = adamw_cost,
};

const qn_op qn_op_sgd = {
    .name = "sgd",
    .n_in = 7,
    .n_out = 4,
    .in_name = {"weights", "master", "grads", "momentum", "hyper", "guard", "rng"},
    .out_name = {"weights", "master", "momentum", "hyper"},
    .optional_in = 1u << 1 | 1u << 3 | 1u << 6,
    .optional_out = 1u << 1 | 1u << 2,
    .alias = {QN_UPDATES, QN_UPDATES, QN_UPDATES, QN_UPDATES},
    .attr_bytes = sizeof(qn_update_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = update_infer,
    .run = {update_ref, update_cpu},
    .cost = sgd_cost,
};

qn_status qn_adamw(qn_tape *t, qn_value *weights, qn_value *master, qn_value *grads, qn_value *m,
                   qn_value *v, qn_value *hyper, qn_value *guard_state, qn_value *rng,
                   const qn_update_attrs *attrs) {
    if (!weights || !grads || !m || !v || !hyper || !guard_state) return qn_tape_status(t);
    qn_value *in[] = {weights, master, grads, m, v, hyper, guard_state, rng};
    qn_value *outs[] = {weights, master, m, v, hyper};
    return qn_tape_emit(t, &qn_op_adamw, in, outs, 0, attrs, NULL);
}

qn_status qn_sgd(qn_tape *t, qn_value *weights, qn_value *master, qn_value *grads,
                 qn_value *momentum, qn_value *hyper, qn_value *guard_state, qn_value *rng,
                 const qn_update_attrs *attrs) {
    if (!weights || !grads || !hyper || !guard_state) return qn_tape_status(t);
    qn_value *in[] = {weights, master, grads, momentum, hyper, guard_state, rng};
    qn_value *outs[] = {weights, master, momentum, hyper};
    return qn_tape_emit(t, &qn_op_sgd, in, outs, 0, attrs, NULL);
}
