/* harness_training.h — a small run in memory: data in arrays, a model of a few hundred weights, a
 * session. What qn_rig_defaults fills in may be changed before qn_rig_open.
 */
#ifndef QN_HARNESS_TRAINING_H
#define QN_HARNESS_TRAINING_H

#include "layers/layers.h"
#include "optim/optim.h"

/* A source over arrays that hold the train rows, then the val rows. Train positions wrap around;
 * the last field holds i32 targets, padded with QN_IGNORE_INDEX past the end of val. */
typedef struct qn_memory {
    void *data[QN_MAX_FIELDS];
    qn_source source;
} qn_memory;

typedef struct qn_rig {
    qn_model_config config;
    qn_objective_config objective_config;
    qn_optimizer_config optimizer_config;
    qn_session_options options;
    qn_memory data; /* arrays from malloc */
    qn_model model;
    qn_objective objective;
    qn_optimizer optimizer;
    qn_session *session;
} qn_rig;

/* type: "mlp" (classes from features), "gpt2" or "llama" (next token). AdamW, f32, one thread,
 * micro-batches of 4, two to a step, 24 train rows, 10 val rows. */
void qn_rig_defaults(qn_rig *r, const char *type);
/* Declared parameters of r->config, with the model, the objective and the optimizer made. */
qn_status qn_rig_declare(qn_rig *r, qn_params **out) QN_CHECKED;
/* As qn_rig_declare, then the session; draws the weights unless it only plans. */
qn_status qn_rig_open(qn_rig *r) QN_CHECKED;
void qn_rig_close_session(qn_rig *r);
void qn_rig_free(qn_rig *r);

/* The step's micro-batches from the source into staging, then the step. */
qn_status qn_rig_step(qn_rig *r, int64_t step, double lr, qn_step_report *report) QN_CHECKED;
/* Digest of everything in the run arena that determines later weights: weights, masters, moments,
 * optimizer and guard state. */
uint64_t qn_rig_digest(const qn_rig *r);

#endif
