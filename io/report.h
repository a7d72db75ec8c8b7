/* report.h — report.html: the curves of a run, its final numbers, and what they say about the fit.
 */
#ifndef QN_REPORT_H
#define QN_REPORT_H

#include "engine/engine.h"

/* Reads RUN/metrics.jsonl, and config.resolved.json and env.json where they exist, and writes
 * RUN/report.html: one file that loads nothing from outside. It can be written at any time, also of
 * a run that is still going or has died; an older report is replaced atomically. Rows that cannot
 * be read are left out and counted in the report. QN_ERR_IO without metrics.jsonl. */
qn_status qn_report_write(const char *run_dir) QN_CHECKED;

/* ---- the verdict ----------------------------------------------------------------------------- */

typedef enum qn_verdict {
    QN_VERDICT_NOT_ENOUGH_DATA,
    QN_VERDICT_NON_FINITE,
    QN_VERDICT_DIVERGING,
    QN_VERDICT_OVERFITTING,
    QN_VERDICT_UNDERFITTING,
    QN_VERDICT_STILL_LEARNING,
    QN_VERDICT_GOOD
} qn_verdict;

typedef struct qn_curve { /* steps strictly increase */
    int64_t n;
    const int64_t *step;
    const double *value;
} qn_curve;

typedef struct qn_diagnosis {
    qn_verdict verdict;
    double start;                     /* loss before training, or of guessing if that is known */
    double train_end, eval_end;       /* medians at the end */
    double eval_best;                 /* lowest median of three evaluations in a row */
    int64_t best_step;                /* the middle one of those three */
    double train_at_best;             /* median of the train loss around best_step */
    double train_noise, eval_noise;   /* of one point */
    double train_trend, eval_trend;   /* fall over the last third, as a share of the end's value */
    bool train_falling, eval_falling; /* that fall counts */
} qn_diagnosis;

/* Tells from the two loss curves how the model fits. `chance` is the loss of guessing (ln of the
 * number of classes); NaN if it is not known. Non-finite points are left out, except that the last
 * point of each curve decides rule 1. With
 *
 *   start      the largest of the first train loss, the first evaluation and chance
 *   train_end  median of the train losses in the last tenth of the steps, at least the last 5
 *   eval_end   median of the last 3 evaluations
 *   eval_best  lowest median of 3 evaluations in a row
 *   noise      of a curve e: median over j of |e[j] - (e[j-1] + e[j+1]) / 2|
 *   rise       eval_end - eval_best; counts if > 3 % of |eval_best| and > 4 eval_noise
 *   gap        eval_end - train_end; counts if > 25 % of |eval_end| and > 10 % of start - eval_end
 *   falling    lower at the end than at two thirds of the steps by > 1 %, and: evaluations by
 *              > 3 eval_noise, the train loss by > 6 train_noise / sqrt(points in train_end)
 *   high       less than 25 % of |start| below start
 *
 * the first rule that holds gives the verdict:
 *
 *   1. the last train or evaluation loss is not finite           non-finite
 *   2. fewer than 5 evaluations or 5 train losses                not enough data
 *   3. rise counts, and train_end is > 3 % above train_at_best   diverging
 *   4. rise counts                                               overfitting
 *   5. train_end or eval_end is > 3 % above start                diverging
 *   6. both are high, and neither is falling                     underfitting
 *   7. both are high                                             still learning
 *   8. gap counts, and the evaluation loss is not falling        overfitting
 *   9. otherwise                                                 good
 *
 * Everything is relative, so the unit of the loss does not matter. Fails only without memory. */
qn_status qn_diagnose(const qn_curve *train, const qn_curve *eval, double chance,
                      qn_diagnosis *out) QN_CHECKED;

const char *qn_verdict_title(qn_verdict v);  /* "Overfitting" */
const char *qn_verdict_advice(qn_verdict v); /* one sentence: what to do next */
/* The numbers that led to the verdict, in words: UTF-8, never longer than size. */
const char *qn_diagnosis_text(const qn_diagnosis *d, char *buffer, size_t size);

#endif
