/* op_dropout.c — dropout whose mask is a function of (key, step, element) and is never stored.
 *
 * The gradient is the same call on dy: same key, same counters, same mask.
 */
#include "engine/op_shared.h"
#include "engine/tape_internal.h"

static qn_status dropout_infer(qn_call *c) {
    const qn_tensor *x = c->in[0], *rng = c->in[1];
    double p = ((const qn_dropout_attrs *)c->attrs)->p;
    char d[96];
    QN_TRY(qni_require_float(c, 0));
    if (!(p >= 0.0 && p < 1.0)) {
        return qn_fail(QN_ERR_UNSUPPORTED, "dropout: p is %g, expected 0 <= p < 1", p);
    }
    if (rng->dtype != QN_I64 || rng->ndim != 1 || rng->shape[0] != 2) {
        return qn_fail(QN_ERR_SHAPE, "dropout: rng is %s, expected i64[2]",
                       qn_tensor_describe(rng, d, sizeof d));
    }
    qni_describe_like(c, 0, x);
    return QN_OK;
}

typedef struct draws {
    uint64_t step, first; /* of element 0 of x */
    uint32_t threshold;
    double scale;
} draws;

static draws draws_of(const qn_call *c) {
    const qn_tensor *x = c->in[0];
    double p = ((const qn_dropout_attrs *)c->attrs)->p;
    int64_t samples = x->ndim > 0 ? x->shape[0] : 1;
    int64_t per_sample = samples > 0 ? qn_tensor_count(x) / samples : 0;
    return (draws){
        .step = (uint64_t)qn_tensor_get_int(c->in[1], 0),
        .first = (uint64_t)qn_tensor_get_int(c->in[1], 1) * (uint64_t)per_sample,
        .threshold = (uint32_t)(p * 0x1p32),
        .scale = 1.0 / (1.0 - p),
    };
}

static qn_status dropout_ref(const qn_call *c) {
    draws d = draws_of(c);
    int64_t n = qn_tensor_count(c->in[0]);
    for (int64_t i = 0; i < n; i++) {
        bool keep = qn_random_u32(c->rng_key, d.step, d.first + (uint64_t)i) >= d.threshold;
        qni_put(c, 0, i, keep ? qn_tensor_get(c->in[0], i) * d.scale : 0.0);
    }
    return QN_OK;
}

static void dropout_span(const qni_walk *w, const int64_t *offset, int64_t index, int64_t n) {
    const qn_call *c = w->call;
    draws d = draws_of(c);
    float px[QNI_SPAN], py[QNI_SPAN], scale = (float)d.scale;
    uint32_t words[QNI_DRAWS], threshold = d.threshold;
    bool adds = qni_adds(c, 0);
    const uint32_t *u = qni_draw_row(c->rng_key, d.step, d.first + (uint64_t)index, n, words);
    const float *x = qni_load(w, 0, offset, n, px);
    float *y = qni_dest(w, 1, offset, adds, py);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = u[i] >= threshold ? x[i] * scale : 0.0f;
    qni_store(w, 1, offset, n, y, adds);
}

static qn_status dropout_cpu(const qn_call *c) {
    qni_walk_run(c, 2, (const qn_tensor *[]){c->in[0], c->out[0]}, dropout_span);
    return QN_OK;
}

static qn_status dropout_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]), *dx = dy ? qn_grad_slot(t, n->in[0]) : NULL;
    if (!dx) return qn_tape_status(t);
    qn_value *in[] = {dy, n->in[1]};
    QN_TRY(qn_tape_emit(t, &qn_op_dropout, in, &dx, 0, n->call.attrs, NULL));
    t->nodes[t->n_nodes - 1]->call.rng_key = n->call.rng_key; /* whatever the forward call's site */
    return QN_OK;
}

static void dropout_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 1.0); }

const qn_op qn_op_dropout = {
    .name = "dropout",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"x", "rng"},
    .out_name = {"y"},
    .alias = {QN_MAY_REUSE(0)},
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_dropout_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = dropout_infer,
    .run = {dropout_ref, dropout_cpu},
    .backward = dropout_backward,
    .cost = dropout_cost,
};

qn_value *qn_dropout(qn_tape *t, qn_value *x, double p, qn_value *rng, const char *site) {
    if (p == 0.0 || !qn_tape_get_options(t)->training) return x;
    if (!x || !rng) return NULL;
    qn_dropout_attrs attrs = {p};
    qn_value *in[] = {x, rng}, *y = NULL;
    return qn_tape_emit(t, &qn_op_dropout, in, &y, 0, &attrs, site) == QN_OK ? y : NULL;
}
