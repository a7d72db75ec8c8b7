/* optim.h — how parameters move: optimizers, learning-rate schedules, early stopping.
 *
 * The arithmetic of an update is an op (engine/op_update.c) recorded once over the flat parameter
 * arrays; what is here chooses its attributes. Nothing in this room knows a layer.
 */
#ifndef QN_OPTIM_H
#define QN_OPTIM_H

#include "engine/train.h"

/* ---- adamw.c, sgd.c -------------------------------------------------------------------------- */

typedef struct qn_optimizer_config {
    const char *type; /* "adamw", "sgd" */
    double lr, weight_decay;
    double beta1, beta2, eps;   /* adamw: torch.optim.AdamW (Loshchilov and Hutter 2019) */
    double momentum, dampening; /* sgd: torch.optim.SGD */
    bool nesterov;              /* Sutskever et al. 2013; needs momentum > 0, dampening 0 */
} qn_optimizer_config;

/* out->self is the config, which must outlive it. */
void qn_optimizer_adamw(const qn_optimizer_config *c, qn_optimizer *out);
void qn_optimizer_sgd(const qn_optimizer_config *c, qn_optimizer *out);
/* Fills either by c->type. */
qn_status qn_optimizer_create(const qn_optimizer_config *c, qn_optimizer *out) QN_CHECKED;

/* ---- schedule.c ------------------------------------------------------------------------------ */

/* factor(s) of the base rate at optimizer step s = 0, 1, …:
 *   warm-up   s < w:  (s + 1) / w, so that no step is wasted at rate zero
 *   constant  1
 *   linear    m + (1 - m) (1 - p)
 *   cosine    m + (1 - m) (1 + cos(pi p)) / 2
 * with m = min_lr / lr and p = (s - w) / (end - w), held at 1 after the end. */
typedef struct qn_schedule_config {
    const char *type;          /* "constant", "linear", "cosine" */
    int64_t warmup_steps, end; /* end: decay_steps, or the run's last step */
    double min_ratio;
} qn_schedule_config;
qn_status qn_schedule_create(const qn_schedule_config *c, qn_schedule *out) QN_CHECKED;

/* ---- early_stop.c ---------------------------------------------------------------------------- */

typedef enum qn_patience_unit {
    QN_PATIENCE_EVALS,
    QN_PATIENCE_EPOCHS,
    QN_PATIENCE_STEPS
} qn_patience_unit;

/* One evaluation, in this order (Keras's improvement and baseline, Lightning's other rules):
 *   a non-finite monitor stops if check_finite; otherwise it never is an improvement
 *   positions before start_from (in patience units) are not looked at
 *   improvement is strict: better than the best by more than min_delta; it sets the best, and
 *     restarts the patience only if the baseline, if any, is beaten too
 *   stop_at reached, diverge_at passed, or `patience` units without a restart and no improvement:
 *     stop
 * Before min_steps only a non-finite monitor stops; the rules are asked again each time (a gate,
 * not a latch). `smoothing` > 1 judges the mean of the last values instead of the last one. */
typedef struct qn_early_stop_config {
    const char *monitor; /* "eval/loss" */
    bool maximize;
    double min_delta;
    bool relative; /* min_delta is a fraction of |best| */
    int64_t patience;
    qn_patience_unit unit;
    int64_t start_from, min_steps;
    double baseline, stop_at, diverge_at; /* NaN = none */
    bool check_finite, restore_best;
    int smoothing; /* 1 … QN_MAX_SMOOTHING */
} qn_early_stop_config;

enum { QN_MAX_SMOOTHING = 32 };
qn_early_stop_config qn_early_stop_defaults(void);
/* "auto": min for keys that hold "loss", "perplexity" or "error", max for the other metrics we
 * know. */
qn_status qn_early_stop_mode(const char *mode, const char *monitor, bool *maximize) QN_CHECKED;
/* Copies c. */
qn_status qn_early_stop_create(const qn_early_stop_config *c, qn_stopper *out) QN_CHECKED;
void qn_early_stop_free(qn_stopper *s);

#endif
