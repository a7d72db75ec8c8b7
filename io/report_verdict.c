/* report_verdict.c — overfitting, underfitting or a good fit: the rules of report.h. */
#include "io/report.h"

#include "io/metrics_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_POINTS = 5 };

static const double rise_share = 0.03, rise_noises = 4, gap_share = 0.25, gap_of_progress = 0.1;
static const double fall_share = 0.01, fall_noises = 3, fall_errors = 6, high_share = 0.25;

/* The finite points of a curve, and room to sort a part of them. */
typedef struct points {
    int64_t n;
    int64_t *step;
    double *value, *scratch;
} points;

static void points_free(points *p) {
    qn_free(p->step);
    qn_free(p->value);
    qn_free(p->scratch);
}

static qn_status points_create(const qn_curve *c, points *p) {
    size_t n = (size_t)c->n;
    *p = (points){.step = qn_alloc(n * sizeof *p->step, "a loss curve"),
                  .value = qn_alloc(n * sizeof *p->value, "a loss curve"),
                  .scratch = qn_alloc(n * sizeof *p->scratch, "a loss curve")};
    if (!p->step || !p->value || !p->scratch) return QN_ERR_OOM;
    for (int64_t i = 0; i < c->n; i++) {
        if (!isfinite(c->value[i])) continue;
        p->step[p->n] = c->step[i];
        p->value[p->n++] = c->value[i];
    }
    return QN_OK;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of v[from..to); the mean of the middle two of an even number. */
static double median(const double *v, int64_t from, int64_t to, double *scratch) {
    int64_t n = to - from;
    memcpy(scratch, v + from, (size_t)n * sizeof *scratch);
    qsort(scratch, (size_t)n, sizeof *scratch, by_value);
    return n % 2 ? scratch[n / 2] : (scratch[n / 2 - 1] + scratch[n / 2]) / 2;
}

/* Median of the points with a step in [low, high], widened evenly to at least `least` points; their
 * number goes to *count unless that is NULL. */
static double median_around(const points *p, double low, double high, int64_t least,
                            int64_t *count) {
    int64_t from = 0, to = p->n;
    while (from < p->n && (double)p->step[from] < low) from++;
    while (to > from && (double)p->step[to - 1] > high) to--;
    while (to - from < least && to - from < p->n) {
        if (from > 0) from--;
        if (to - from < least && to < p->n) to++;
    }
    if (count) *count = to - from;
    return median(p->value, from, to, p->scratch);
}

static void find_best(const points *eval, qn_diagnosis *d) {
    d->eval_best = (double)INFINITY;
    for (int64_t j = 1; j + 1 < eval->n; j++) {
        double m = median(eval->value, j - 1, j + 2, eval->scratch);
        if (m < d->eval_best) {
            d->eval_best = m;
            d->best_step = eval->step[j];
        }
    }
}

/* What one point strays from the line through its neighbours, in the median. */
static qn_status measure_noise(const points *p, double *out) {
    double *strays = qn_alloc((size_t)p->n * sizeof *strays, "a loss curve");
    if (!strays) return QN_ERR_OOM;
    for (int64_t j = 1; j + 1 < p->n; j++) {
        strays[j - 1] = fabs(p->value[j] - (p->value[j - 1] + p->value[j + 1]) / 2);
    }
    *out = median(strays, 0, p->n - 2, p->scratch);
    qn_free(strays);
    return QN_OK;
}

static double largest(double a, double b) { return a > b || isnan(b) ? a : b; }

static qn_status measure(const points *train, const points *eval, double chance, qn_diagnosis *d) {
    int64_t first = train->step[0], last = train->step[train->n - 1], ending;
    if (eval->step[0] < first) first = eval->step[0];
    if (eval->step[eval->n - 1] > last) last = eval->step[eval->n - 1];
    double span = (double)(last - first), end = (double)last, mid = (double)first + span * 2 / 3;
    QN_TRY(measure_noise(train, &d->train_noise));
    QN_TRY(measure_noise(eval, &d->eval_noise));

    d->start = largest(largest(train->value[0], eval->value[0]), chance);
    d->train_end = median_around(train, end - span / 10, end, MIN_POINTS, &ending);
    d->eval_end = median(eval->value, eval->n - 3, eval->n, eval->scratch);
    find_best(eval, d);
    double best = (double)d->best_step;
    d->train_at_best = median_around(train, best - span / 20, best + span / 20, MIN_POINTS, NULL);

    double train_mid = median_around(train, mid - span / 20, mid + span / 20, MIN_POINTS, NULL);
    double eval_mid = median_around(eval, mid, mid, 3, NULL);
    double train_error = d->train_noise / sqrt((double)ending);
    d->train_trend = (train_mid - d->train_end) / fabs(d->train_end);
    d->eval_trend = (eval_mid - d->eval_end) / fabs(d->eval_end);
    d->train_falling =
        d->train_trend > fall_share && train_mid - d->train_end > fall_errors * train_error;
    d->eval_falling =
        d->eval_trend > fall_share && eval_mid - d->eval_end > fall_noises * d->eval_noise;
    return QN_OK;
}

static bool is_high(double loss, double start) { return start - loss < high_share * fabs(start); }

static bool is_above(double loss, double reference) {
    return loss - reference > rise_share * fabs(reference);
}

static qn_verdict judge(const qn_diagnosis *d) {
    double rise = d->eval_end - d->eval_best, gap = d->eval_end - d->train_end;
    bool rose = rise > rise_share * fabs(d->eval_best) && rise > rise_noises * d->eval_noise;
    bool wide =
        gap > gap_share * fabs(d->eval_end) && gap > gap_of_progress * (d->start - d->eval_end);
    bool high = is_high(d->train_end, d->start) && is_high(d->eval_end, d->start);
    if (rose && is_above(d->train_end, d->train_at_best)) return QN_VERDICT_DIVERGING;
    if (rose) return QN_VERDICT_OVERFITTING;
    if (is_above(d->train_end, d->start) || is_above(d->eval_end, d->start)) {
        return QN_VERDICT_DIVERGING;
    }
    if (high && !d->train_falling && !d->eval_falling) return QN_VERDICT_UNDERFITTING;
    if (high) return QN_VERDICT_STILL_LEARNING;
    if (wide && !d->eval_falling) return QN_VERDICT_OVERFITTING;
    return QN_VERDICT_GOOD;
}

static bool ends_non_finite(const qn_curve *c) { return c->n > 0 && !isfinite(c->value[c->n - 1]); }

qn_status qn_diagnose(const qn_curve *train, const qn_curve *eval, double chance,
                      qn_diagnosis *out) {
    const double none = (double)NAN;
    points t = {0}, e = {0};
    qn_status status;
    qn_diagnosis d = {.start = none, .train_end = none, .eval_end = none, .eval_best = none};
    QN_TRY_GOTO(points_create(train, &t));
    QN_TRY_GOTO(points_create(eval, &e));
    if (ends_non_finite(train) || ends_non_finite(eval)) {
        d.verdict = QN_VERDICT_NON_FINITE;
    } else if (t.n < MIN_POINTS || e.n < MIN_POINTS) {
        d.verdict = QN_VERDICT_NOT_ENOUGH_DATA;
    } else {
        QN_TRY_GOTO(measure(&t, &e, chance, &d));
        d.verdict = judge(&d);
    }
    *out = d;
done:
    points_free(&t);
    points_free(&e);
    return status;
}

/* ---- words ----------------------------------------------------------------------------------- */

static const struct {
    const char *title, *advice;
} words[] = {
    [QN_VERDICT_NOT_ENOUGH_DATA] = {"Not enough data for a verdict",
                                    "Evaluate more often: with eval.every set so that a run has at "
                                    "least five evaluations, the curves can be judged."},
    [QN_VERDICT_NON_FINITE] =
        {"Training broke down",
         "Look in the notes for the first tensor that was not finite; check the "
         "data, lower the learning rate, or clip gradients harder."},
    [QN_VERDICT_DIVERGING] =
        {"Diverging", "Lower the learning rate, lengthen the warm-up or clip gradients harder, "
                      "and go on from a checkpoint before the rise."},
    [QN_VERDICT_OVERFITTING] = {"Overfitting",
                                "Add regularisation (dropout, weight decay), reduce the model's "
                                "capacity, or get more data; use the weights of the best step."},
    [QN_VERDICT_UNDERFITTING] = {"Underfitting", "Increase the model's capacity, train longer, or "
                                                 "review the features and the learning rate."},
    [QN_VERDICT_STILL_LEARNING] =
        {"Still learning", "Train longer before judging the model; a higher learning rate may "
                           "get there sooner."},
    [QN_VERDICT_GOOD] = {"Good fit", "Go on to the evaluation on the test set."},
};

const char *qn_verdict_title(qn_verdict v) { return words[v].title; }
const char *qn_verdict_advice(qn_verdict v) { return words[v].advice; }

const char *qn_diagnosis_text(const qn_diagnosis *d, char *buffer, size_t size) {
    double rise = d->eval_end - d->eval_best, gap = d->eval_end - d->train_end;
    if (d->verdict == QN_VERDICT_NON_FINITE) {
        qni_print(buffer, size, "The last recorded loss is not a finite number.");
    } else if (d->verdict == QN_VERDICT_NOT_ENOUGH_DATA) {
        qni_print(buffer, size, "A verdict needs at least %d evaluations and %d train losses.",
                  MIN_POINTS, MIN_POINTS);
    } else {
        qni_print(
            buffer, size,
            "From %.4g before training, the train loss came to %.4g (%+.1f %% over the last "
            "third). Evaluation loss "
            "was best around step %lld at %.4g and ended at %.4g (%+.1f %% over the last third): "
            "%.3g above its best, with a noise of %.2g, and %.3g %s the train loss.",
            d->start, d->train_end, -100 * d->train_trend, (long long)d->best_step, d->eval_best,
            d->eval_end, -100 * d->eval_trend, rise, d->eval_noise, fabs(gap),
            gap < 0 ? "below" : "above");
    }
    return buffer;
}
