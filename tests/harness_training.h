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
    const char *objective_type; /* "classify" for mlp, else "lm" */
    qn_objective_config objective_config;
    qn_optimizer_config optimizer_config;
    qn_session_options options;
    const qn_lora_config *lora; /* NULL: the whole model is trained */
    qn_memory data;             /* arrays from malloc */
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
/* Digest of one tensor of the session, wherever it is. */
uint64_t qn_rig_hash(const qn_rig *r, const qn_tensor *t);
/* Digest of everything in the run arena that determines later weights: weights, masters, moments,
 * optimizer and guard state. */
uint64_t qn_rig_digest(const qn_rig *r);

/* ---- what a run did -------------------------------------------------------------------------- */

/* The events of a run in order, one line each: "train 3", "eval 4", "save 4", "note 5: text",
 * "load 4", "finish", "end 8: text". Comparing `text` compares the order of everything. */
typedef struct qn_log {
    char text[16384];
    bool quiet_train; /* leave "train" lines out */
} qn_log;
void qn_log_line(qn_log *l, const char *format, ...) QN_PRINTF(2, 3);
qn_sink qn_log_sink(qn_log *l);
int qn_log_count(const qn_log *l, const char *part); /* lines that contain it */

/* Checkpoints in memory: the session's state, the progress, what the stopper remembers. Keeps
 * every save of a run. qn_saver's self; free with qn_vault_free. */
typedef struct qn_vault_item {
    qn_progress progress;
    char *state; /* weights, masters, moments, best, optimizer and guard state */
    double stopper[64];
} qn_vault_item;
enum { QN_VAULT_MAX = 64 };
typedef struct qn_vault {
    qn_log *log; /* may be NULL */
    int n;
    qn_vault_item item[QN_VAULT_MAX];
} qn_vault;
qn_saver qn_vault_saver(qn_vault *v);
/* Makes the session, progress and stopper what they were at save i. stopper may be NULL. */
void qn_vault_load(const qn_vault *v, int i, qn_session *s, qn_progress *p, qn_stopper *st);
void qn_vault_free(qn_vault *v);

/* ---- bad data -------------------------------------------------------------------------------- */

/* Multiplies the first feature of one train sample, counted from the start of training, by a
 * factor: NaN, or large enough for a spike. Stands before the rig's source until the rig's end. */
typedef struct qn_poison {
    qn_source inner;
    int64_t position[8]; /* unused ones are negative */
    float factor;
} qn_poison;
void qn_poison_source(qn_poison *p, qn_rig *r, float factor, int64_t position);

#endif
