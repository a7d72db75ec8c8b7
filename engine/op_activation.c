/* op_activation.c — activations and the gated SwiGLU, with their gradients.
 *
 * The functions and their derivatives are those of vecmath.h (f64 forms for REF). Gradients take
 * the input, not the output, so that every kind has one rule.
 */
#include "engine/op_shared.h"
#include "engine/tape_internal.h"

#include <string.h>

static const char *const names[QN_ACT_COUNT] = {
    [QN_ACT_NONE] = "none", [QN_ACT_GELU] = "gelu", [QN_ACT_GELU_TANH] = "gelu_tanh",
    [QN_ACT_RELU] = "relu", [QN_ACT_SILU] = "silu", [QN_ACT_SIGMOID] = "sigmoid",
    [QN_ACT_TANH] = "tanh",
};

bool qn_activation_parse(const char *name, qn_activation *out) {
    for (int i = 0; i < QN_ACT_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (qn_activation)i;
            return true;
        }
    }
    return false;
}

/* ---- activation ------------------------------------------------------------------------------ */

static qn_activation kind_of(const qn_call *c) {
    return ((const qn_activation_attrs *)c->attrs)->kind;
}

static qn_status activation_infer(qn_call *c) {
    if ((int)kind_of(c) < 0 || kind_of(c) >= QN_ACT_COUNT) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s: no activation of number %d", c->op->name,
                       (int)kind_of(c));
    }
    QN_TRY(qni_require_float(c, 2));
    if (c->op->n_in == 2) QN_TRY(qni_require_same_shape(c, 1, 0));
    qni_describe_like(c, 0, c->in[0]);
    return QN_OK;
}

static qn_status activation_ref(const qn_call *c) {
    int64_t n = qn_tensor_count(c->in[0]);
    for (int64_t i = 0; i < n; i++) {
        qn_tensor_set(c->out[0], i, qn_act_f64(kind_of(c), qn_tensor_get(c->in[0], i)));
    }
    return QN_OK;
}

static qn_status activation_bwd_ref(const qn_call *c) {
    int64_t n = qn_tensor_count(c->in[0]);
    for (int64_t i = 0; i < n; i++) {
        double dy = qn_tensor_get(c->in[0], i), x = qn_tensor_get(c->in[1], i);
        qni_put(c, 0, i, dy * qn_act_grad_f64(kind_of(c), x));
    }
    return QN_OK;
}

static void activation_span(const qni_walk *w, const int64_t *offset, int64_t index, int64_t n) {
    (void)index;
    float px[QNI_SPAN], py[QNI_SPAN];
    const float *x = qni_load(w, 0, offset, n, px);
    float *y = qni_dest(w, 1, offset, false, py);
    qn_act_row_f32(kind_of(w->call), n, x, y);
    qni_store(w, 1, offset, n, y, false);
}

static void activation_bwd_span(const qni_walk *w, const int64_t *offset, int64_t index,
                                int64_t n) {
    (void)index;
    float pd[QNI_SPAN], px[QNI_SPAN], py[QNI_SPAN];
    bool adds = qni_adds(w->call, 0);
    const float *dy = qni_load(w, 0, offset, n, pd), *x = qni_load(w, 1, offset, n, px);
    float *dx = qni_dest(w, 2, offset, adds, py);
    qn_act_grad_row_f32(kind_of(w->call), n, x, dy, dx);
    qni_store(w, 2, offset, n, dx, adds);
}

static qn_status activation_cpu(const qn_call *c) {
    qni_walk_run(c, 2, (const qn_tensor *[]){c->in[0], c->out[0]}, activation_span);
    return QN_OK;
}

static qn_status activation_bwd_cpu(const qn_call *c) {
    qni_walk_run(c, 3, (const qn_tensor *[]){c->in[0], c->in[1], c->out[0]}, activation_bwd_span);
    return QN_OK;
}

static qn_status activation_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]), *dx = dy ? qn_grad_slot(t, n->in[0]) : NULL;
    if (!dx) return qn_tape_status(t);
    qn_value *in[] = {dy, n->in[0]};
    return qn_tape_emit(t, &qn_op_activation_bwd, in, &dx, 0, n->call.attrs, NULL);
}

static void activation_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 20.0); }

const qn_op qn_op_activation = {
    .name = "activation",
    .n_in = 1,
    .n_out = 1,
    .in_name = {"x"},
    .out_name = {"y"},
    .alias = {QN_MAY_REUSE(0)},
    .attr_bytes = sizeof(qn_activation_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = activation_infer,
    .run = {activation_ref, activation_cpu},
    .backward = activation_backward,
    .cost = activation_cost,
};

const qn_op qn_op_activation_bwd = {
    .name = "activation_bwd",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"dy", "x"},
    .out_name = {"dx"},
    .alias = {QN_MAY_REUSE(0)},
    .can_accumulate = 1,
    .attr_bytes = sizeof(qn_activation_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = activation_infer,
    .run = {activation_bwd_ref, activation_bwd_cpu},
    .cost = activation_cost,
};

qn_value *qn_activate(qn_tape *t, qn_value *x, qn_activation kind) {
    if (!x || kind == QN_ACT_NONE) return x;
    qn_activation_attrs attrs = {kind};
    qn_value *y = NULL;
    return qn_tape_emit(t, &qn_op_activation, &x, &y, 0, &attrs, NULL) == QN_OK ? y : NULL;
}

/* ---- swiglu ---------------------------------------------------------------------------------- */

static qn_status swiglu_infer(qn_call *c) {
    QN_TRY(qni_require_float(c, 2));
    QN_TRY(qni_require_same_shape(c, 1, 0));
    qni_describe_like(c, 0, c->in[0]);
    return QN_OK;
}

static qn_status swiglu_ref(const qn_call *c) {
    int64_t n = qn_tensor_count(c->in[0]);
    for (int64_t i = 0; i < n; i++) {
        double g = qn_tensor_get(c->in[0], i), u = qn_tensor_get(c->in[1], i);
        qn_tensor_set(c->out[0], i, qn_act_f64(QN_ACT_SILU, g) * u);
    }
    return QN_OK;
}

static void swiglu_span(const qni_walk *w, const int64_t *offset, int64_t index, int64_t n) {
    (void)index;
    float pg[QNI_SPAN], pu[QNI_SPAN], py[QNI_SPAN];
    const float *g = qni_load(w, 0, offset, n, pg), *u = qni_load(w, 1, offset, n, pu);
    float *y = qni_dest(w, 2, offset, false, py);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = qn_act_f32(QN_ACT_SILU, g[i]) * u[i];
    qni_store(w, 2, offset, n, y, false);
}

static qn_status swiglu_cpu(const qn_call *c) {
    qni_walk_run(c, 3, (const qn_tensor *[]){c->in[0], c->in[1], c->out[0]}, swiglu_span);
    return QN_OK;
}

static qn_status swiglu_bwd_infer(qn_call *c) {
    QN_TRY(qni_require_float(c, 6));
    QN_TRY(qni_require_same_shape(c, 1, 0));
    QN_TRY(qni_require_same_shape(c, 2, 0));
    qni_describe_like(c, 0, c->in[0]);
    qni_describe_like(c, 1, c->in[0]);
    return QN_OK;
}

static qn_status swiglu_bwd_ref(const qn_call *c) {
    int64_t n = qn_tensor_count(c->in[0]);
    for (int64_t i = 0; i < n; i++) {
        double dy = qn_tensor_get(c->in[0], i), g = qn_tensor_get(c->in[1], i);
        double u = qn_tensor_get(c->in[2], i);
        if (c->out[0]) qni_put(c, 0, i, dy * u * qn_act_grad_f64(QN_ACT_SILU, g));
        if (c->out[1]) qni_put(c, 1, i, dy * qn_act_f64(QN_ACT_SILU, g));
    }
    return QN_OK;
}

/* Tensors: dy, gate, up, dgate, dup. Each element is read before either of its results is
 * written. */
static void swiglu_bwd_span(const qni_walk *w, const int64_t *offset, int64_t index, int64_t n) {
    (void)index;
    float pd[QNI_SPAN], pg[QNI_SPAN], pu[QNI_SPAN], qg[QNI_SPAN], qu[QNI_SPAN];
    bool adds_g = qni_adds(w->call, 0), adds_u = qni_adds(w->call, 1);
    const float *dy = qni_load(w, 0, offset, n, pd), *g = qni_load(w, 1, offset, n, pg);
    const float *u = qni_load(w, 2, offset, n, pu);
    float *dg = w->t[3].data ? qni_dest(w, 3, offset, adds_g, qg) : qg;
    float *du = w->t[4].data ? qni_dest(w, 4, offset, adds_u, qu) : qu;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float s = qn_sigmoidf_fast(g[i]), d = dy[i], y = g[i] * s;
        dg[i] = d * u[i] * (s + y * (1.0f - s));
        du[i] = d * y;
    }
    if (w->t[3].data) qni_store(w, 3, offset, n, dg, adds_g);
    if (w->t[4].data) qni_store(w, 4, offset, n, du, adds_u);
}

static qn_status swiglu_bwd_cpu(const qn_call *c) {
    const qn_tensor *t[] = {c->in[0], c->in[1], c->in[2], c->out[0], c->out[1]};
    qni_walk_run(c, 5, t, swiglu_bwd_span);
    return QN_OK;
}

static qn_status swiglu_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]);
    if (!dy) return qn_tape_status(t);
    qn_value *in[] = {dy, n->in[0], n->in[1]};
    qn_value *outs[] = {qn_grad_slot(t, n->in[0]), qn_grad_slot(t, n->in[1])};
    if (!outs[0] && !outs[1]) return qn_tape_status(t);
    return qn_tape_emit(t, &qn_op_swiglu_bwd, in, outs, 0, NULL, NULL);
}

const qn_op qn_op_swiglu = {
    .name = "swiglu",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"gate", "up"},
    .out_name = {"y"},
    .alias = {QN_MAY_REUSE(0)},
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = swiglu_infer,
    .run = {swiglu_ref, swiglu_cpu},
    .backward = swiglu_backward,
    .cost = activation_cost,
};

const qn_op qn_op_swiglu_bwd = {
    .name = "swiglu_bwd",
    .n_in = 3,
    .n_out = 2,
    .in_name = {"dy", "gate", "up"},
    .out_name = {"dgate", "dup"},
    .optional_out = 3,
    .alias = {QN_MAY_REUSE(1), QN_MAY_REUSE(0)},
    .can_accumulate = 3,
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = swiglu_bwd_infer,
    .run = {swiglu_bwd_ref, swiglu_bwd_cpu},
    .cost = activation_cost,
};

qn_value *qn_swiglu(qn_tape *t, qn_value *gate, qn_value *up) {
    if (!gate || !up) return NULL;
    qn_value *in[] = {gate, up}, *y = NULL;
    return qn_tape_emit(t, &qn_op_swiglu, in, &y, 0, NULL, NULL) == QN_OK ? y : NULL;
}
