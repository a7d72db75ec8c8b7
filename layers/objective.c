/* objective.c — what a model is trained for: the loss recorded from its output. */
#include "layers/layers.h"

#include <string.h>

static qn_value *rows(qn_tape *t, qn_value *x) { /* (..., C) as (N, C) */
    if (!x || x->t.ndim == 2) return x;
    int64_t c = x->t.shape[x->t.ndim - 1];
    return qn_reshape(t, x, 2, (int64_t[]){-1, c});
}

static qn_value *flat(qn_tape *t, qn_value *x) {
    if (!x || x->t.ndim == 1) return x;
    return qn_reshape(t, x, 1, (int64_t[]){-1});
}

static qn_ce_attrs ce_attrs(const qn_objective_config *c, const qn_graph *g) {
    /* Smoothing regularises training; the evaluation loss stays comparable without it. */
    bool training = qn_tape_get_options(g->tape)->training;
    return (qn_ce_attrs){.ignore_index = QN_IGNORE_INDEX,
                         .chunk = c->chunk,
                         .label_smoothing = training ? c->label_smoothing : 0.0};
}

static qn_status cross_entropy(const void *self, qn_graph *g, const qn_output *out,
                               qn_value *target, qn_value **loss) {
    qn_ce_attrs attrs = ce_attrs(self, g);
    qn_tape_scope_push(g->tape, "loss");
    if (out->logits) {
        *loss = qn_cross_entropy(g->tape, rows(g->tape, out->logits), flat(g->tape, target),
                                 g->inv_n, &attrs);
    } else {
        *loss = qn_linear_cross_entropy(g->tape, rows(g->tape, out->hidden), out->head_weight,
                                        out->head_bias, flat(g->tape, target), g->inv_n, &attrs);
    }
    qn_tape_scope_pop(g->tape);
    return qn_tape_status(g->tape);
}

static qn_status accuracy(const void *self, qn_graph *g, const qn_output *out, qn_value *target,
                          qn_value **metric) {
    (void)self;
    metric[0] =
        qn_accuracy(g->tape, rows(g->tape, out->logits), flat(g->tape, target), QN_IGNORE_INDEX);
    return qn_tape_status(g->tape);
}

/* One target a row or several: (N) as (N, 1). */
static qn_value *columns(qn_tape *t, qn_value *x) {
    return x && x->t.ndim == 1 ? qn_reshape(t, x, 2, (int64_t[]){-1, 1}) : rows(t, x);
}

static qn_status squared_error(const void *self, qn_graph *g, const qn_output *out,
                               qn_value *target, qn_value **loss) {
    (void)self;
    *loss = qn_mse(g->tape, rows(g->tape, out->logits), columns(g->tape, target), g->inv_n);
    return qn_tape_status(g->tape);
}

static qn_status binary_cross_entropy(const void *self, qn_graph *g, const qn_output *out,
                                      qn_value *target, qn_value **loss) {
    (void)self;
    *loss = qn_binary_cross_entropy(g->tape, rows(g->tape, out->logits), columns(g->tape, target),
                                    g->inv_n);
    return qn_tape_status(g->tape);
}

qn_status qn_objective_create(const char *type, const qn_objective_config *c, qn_objective *out) {
    if (strcmp(type, "lm") == 0) {
        *out = (qn_objective){.self = c, .loss = cross_entropy, .perplexity = true};
    } else if (strcmp(type, "classify") == 0) {
        *out = (qn_objective){.self = c,
                              .loss = cross_entropy,
                              .n_metrics = 1,
                              .metric_key = {"eval/accuracy"},
                              .metrics = accuracy};
    } else if (strcmp(type, "regress") == 0) {
        *out = (qn_objective){.self = c, .loss = squared_error};
    } else if (strcmp(type, "multi_label") == 0) {
        *out = (qn_objective){.self = c, .loss = binary_cross_entropy};
    } else {
        return qn_fail(QN_ERR_CONFIG,
                       "objective \"%s\" is unknown; expected lm, classify, multi_label or regress",
                       type);
    }
    return QN_OK;
}
