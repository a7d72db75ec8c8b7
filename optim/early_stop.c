/* early_stop.c — the stopping rules; everything they remember is an array of doubles in the
 * checkpoint. */
#include "optim/optim.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BEST, BEST_STEP, EVALS, RESTART, SEEN, HISTORY, N_STATE = HISTORY + QN_MAX_SMOOTHING };

typedef struct early_stop {
    qn_early_stop_config c;
    double state[N_STATE];
} early_stop;

qn_early_stop_config qn_early_stop_defaults(void) {
    return (qn_early_stop_config){.monitor = "eval/loss",
                                  .patience = 5,
                                  .baseline = NAN,
                                  .stop_at = NAN,
                                  .diverge_at = NAN,
                                  .check_finite = true,
                                  .restore_best = true,
                                  .smoothing = 1};
}

qn_status qn_early_stop_mode(const char *mode, const char *monitor, bool *maximize) {
    if (strcmp(mode, "min") == 0 || strcmp(mode, "max") == 0) {
        *maximize = mode[1] == 'a';
        return QN_OK;
    }
    static const char *const falling[] = {"loss", "perplexity", "error"};
    static const char *const rising[] = {"accuracy", "f1", "auc", "precision", "recall"};
    for (size_t i = 0; i < sizeof falling / sizeof *falling; i++) {
        if (strstr(monitor, falling[i])) {
            *maximize = false;
            return QN_OK;
        }
    }
    for (size_t i = 0; i < sizeof rising / sizeof *rising; i++) {
        if (strstr(monitor, rising[i])) {
            *maximize = true;
            return QN_OK;
        }
    }
    return qn_fail(QN_ERR_CONFIG,
                   "early_stopping.mode \"auto\" cannot tell whether a smaller %s is better; "
                   "say \"min\" or \"max\"",
                   monitor);
}

static bool better(const qn_early_stop_config *c, double value, double than, double by) {
    return c->maximize ? value > than + by : value < than - by; /* NaN is never better */
}

static bool improves(const qn_early_stop_config *c, double value, double best) {
    if (!isfinite(value)) return false;
    if (isnan(best)) return true; /* no best yet */
    double by = c->relative ? c->min_delta * fabs(best) : c->min_delta;
    return better(c, value, best, by);
}

static double smoothed(early_stop *e, double value) {
    double *h = e->state + HISTORY;
    int n = e->c.smoothing;
    memmove(h + 1, h, (size_t)(n - 1) * sizeof *h);
    h[0] = value;
    if (e->state[SEEN] < n) e->state[SEEN] += 1;
    double sum = 0;
    for (int i = 0; i < (int)e->state[SEEN]; i++) sum += h[i];
    return n == 1 ? value : sum / e->state[SEEN];
}

static double place(const early_stop *e, const qn_record *r) {
    switch (e->c.unit) {
    case QN_PATIENCE_STEPS: return (double)r->step;
    case QN_PATIENCE_EPOCHS: return floor(r->epoch);
    default: return e->state[EVALS];
    }
}

/* The reason to stop now, NULL to go on. */
static const char *verdict(const early_stop *e, const qn_record *r, double value, bool improved,
                           double waited, char *buffer, size_t size) {
    static const char *const units[] = {"evaluations", "epochs", "steps"};
    const qn_early_stop_config *c = &e->c;
    if (r->step < c->min_steps) return NULL;
    if (!isnan(c->stop_at) && (value == c->stop_at || better(c, value, c->stop_at, 0))) {
        snprintf(buffer, size, "%s %.6g reached stop_at %.6g", c->monitor, value, c->stop_at);
        return buffer;
    }
    if (!isnan(c->diverge_at) && better(c, c->diverge_at, value, 0)) {
        snprintf(buffer, size, "%s %.6g is beyond diverge_at %.6g", c->monitor, value,
                 c->diverge_at);
        return buffer;
    }
    if (improved || waited < (double)c->patience || e->state[EVALS] <= 1) return NULL;
    snprintf(buffer, size, "%s did not improve by > %g%s for %lld %s", c->monitor, c->min_delta,
             c->relative ? " (relative)" : "", (long long)waited, units[c->unit]);
    return buffer;
}

static qn_status observe(void *self, const qn_record *r, bool *improved, bool *stop, char *text,
                         size_t size) {
    early_stop *e = self;
    double *s = e->state, raw = qn_record_get(r, e->c.monitor, -INFINITY), at;
    *improved = *stop = false;
    bool present = false;
    for (int i = 0; i < r->n; i++) present = present || strcmp(r->metric[i].key, e->c.monitor) == 0;
    if (!present) {
        char keys[512] = "";
        for (int i = 0; i < r->n; i++) {
            size_t n = strlen(keys);
            snprintf(keys + n, sizeof keys - n, "%s%s", i ? ", " : "", r->metric[i].key);
        }
        return qn_fail(QN_ERR_CONFIG, "early_stopping.monitor \"%s\" is not among the metrics: %s",
                       e->c.monitor, keys);
    }
    s[EVALS] += 1;
    at = place(e, r);
    char reason[200];
    if (e->c.check_finite && !isfinite(raw)) {
        *stop = true;
        snprintf(text, size, "early stopping at step %lld: %s is %g", (long long)r->step,
                 e->c.monitor, raw);
        return QN_OK;
    }
    double value = smoothed(e, raw);
    double position = e->c.unit == QN_PATIENCE_EVALS ? at - 1 : at; /* evaluations count from 0 */
    if (position < (double)e->c.start_from) {
        s[RESTART] = at;
        return QN_OK;
    }
    if (improves(&e->c, value, s[BEST])) {
        *improved = true;
        s[BEST] = value;
        s[BEST_STEP] = (double)r->step;
        if (isnan(e->c.baseline) || improves(&e->c, value, e->c.baseline)) s[RESTART] = at;
    }
    const char *why = verdict(e, r, value, *improved, at - s[RESTART], reason, sizeof reason);
    if (!why) return QN_OK;
    *stop = true;
    snprintf(text, size, "early stopping at step %lld: %s; best %.6g at step %.0f%s",
             (long long)r->step, why, s[BEST], s[BEST_STEP],
             e->c.restore_best ? " (restored)" : "");
    return QN_OK;
}

qn_status qn_early_stop_create(const qn_early_stop_config *c, qn_stopper *out) {
    if (c->smoothing < 1 || c->smoothing > QN_MAX_SMOOTHING) {
        return qn_fail(QN_ERR_CONFIG, "early_stopping.smoothing: expected 1 … %d, found %d",
                       QN_MAX_SMOOTHING, c->smoothing);
    }
    early_stop *e = qn_alloc(sizeof *e, "early stopping");
    if (!e) return QN_ERR_OOM;
    e->c = *c;
    e->state[BEST] = NAN;
    *out = (qn_stopper){.self = e,
                        .monitor = e->c.monitor,
                        .restore_best = c->restore_best,
                        .observe = observe,
                        .n_state = N_STATE,
                        .state = e->state};
    return QN_OK;
}

void qn_early_stop_free(qn_stopper *s) {
    if (s) qn_free(s->self);
}
