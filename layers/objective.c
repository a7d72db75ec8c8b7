/* objective.c — what a model is trained for: the loss recorded from its output. */
#include "layers/layers.h"

#include <math.h>
#include <string.h>

enum { MOST_CLASSES = 256 }; /* of which each pair is counted in evaluation */

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
                          qn_value **vector) {
    (void)self;
    qn_value *count =
        qn_accuracy(g->tape, rows(g->tape, out->logits), flat(g->tape, target), QN_IGNORE_INDEX);
    *vector = flat(g->tape, count);
    return qn_tape_status(g->tape);
}

static void report_accuracy(const void *self, const double *sums, int64_t labels, qn_record *r) {
    (void)self;
    qn_record_add(r, "eval/accuracy", sums[0] / (double)labels);
}

static qn_status confusion(const void *self, qn_graph *g, const qn_output *out, qn_value *target,
                           qn_value **vector) {
    (void)self;
    qn_value *counts =
        qn_confusion(g->tape, rows(g->tape, out->logits), flat(g->tape, target), QN_IGNORE_INDEX);
    *vector = flat(g->tape, counts);
    return qn_tape_status(g->tape);
}

/* As scikit-learn defines them: the mean of F1 over the classes that occur as target or prediction;
 * Matthews' correlation in Gorodkin's form for many classes, 0 where it is undefined. */
static void report_confusion(const void *self, const double *sums, int64_t labels, qn_record *r) {
    const qn_objective_config *c = self;
    int64_t n = c->classes, present = 0;
    double right = 0, f1 = 0, both = 0, targets = 0, predictions = 0, total = (double)labels;
    for (int64_t i = 0; i < n; i++) {
        double actual = 0, predicted = 0, hit = sums[i * n + i];
        for (int64_t j = 0; j < n; j++) {
            actual += sums[i * n + j];
            predicted += sums[j * n + i];
        }
        right += hit;
        both += actual * predicted;
        targets += actual * actual;
        predictions += predicted * predicted;
        if (actual + predicted == 0) continue;
        f1 += 2 * hit / (actual + predicted);
        present++;
    }
    double spread = sqrt((total * total - targets) * (total * total - predictions));
    qn_record_add(r, "eval/accuracy", right / total);
    qn_record_add(r, "eval/f1_macro", f1 / (double)present);
    qn_record_add(r, "eval/mcc", spread > 0 ? (right * total - both) / spread : 0.0);
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
        bool table = c->classes > 0 && c->classes <= MOST_CLASSES;
        *out = (qn_objective){.self = c,
                              .loss = cross_entropy,
                              .n_sums = table ? c->classes * c->classes : 1,
                              .sums = table ? confusion : accuracy,
                              .report = table ? report_confusion : report_accuracy};
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
