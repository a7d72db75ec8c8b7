/* train.h — the interfaces the training loop is built over: model, source, sink, and the loop
 * itself.
 *
 * engine/ declares them; layers/, optim/ and io/ implement them; io/build.c wires them together. So
 * a test trains a toy model with no JSON and no HDF5.
 */
#ifndef QN_TRAIN_H
#define QN_TRAIN_H

#include "engine/params.h"

/* ---- data ------------------------------------------------------------------------------------ */

typedef enum qn_split { QN_SPLIT_TRAIN, QN_SPLIT_VAL, QN_SPLIT_TEST, QN_SPLIT_COUNT } qn_split;

enum { QN_MAX_FIELDS = 6, QN_IGNORE_INDEX = -100 };

typedef struct qn_field { /* one tensor of a sample; the batch axis comes in front of shape */
    const char *name;     /* "tokens", "targets", "features" */
    qn_dtype dtype;
    int ndim;
    int64_t shape[QN_MAX_DIMS - 1];
} qn_field;

/* A source is random access: what fetch returns is a function of its arguments alone, so nothing
 * about the position in the data has to be saved. */
typedef struct qn_source {
    void *self;
    int n_fields;
    qn_field field[QN_MAX_FIELDS]; /* by convention inputs first, targets last */
    int64_t n[QN_SPLIT_COUNT];     /* samples per split (train: per epoch); 0 = split absent */
    int64_t classes;               /* vocabulary size or number of classes; 0 = regression */
    uint64_t identity;             /* digest of what the data is; refused if it differs on resume */
    /* Fills count samples. Train: position counts samples since the start of training, the epoch is
     * position / n and the order within it a keyed permutation. Val and test: file order; positions
     * at or past n are padding, their targets QN_IGNORE_INDEX. labels gets the number of targets
     * that count. */
    qn_status (*fetch)(void *self, qn_split split, int64_t position, int64_t count,
                       void *const *dst, int64_t *labels);
    /* Says what the loop will ask for next (a hint for background loading); may be NULL. */
    void (*expect)(void *self, qn_split split, int64_t position, int64_t count);
    double (*wait_seconds)(
        void *self); /* time fetch has spent waiting for data so far; may be NULL */
    void (*free)(void *self);
} qn_source;

/* ---- metrics --------------------------------------------------------------------------------- */

enum { QN_MAX_METRICS = 48 };

typedef struct qn_metric {
    const char *key; /* "train/loss", static or living as long as the run */
    double value;
} qn_metric;

typedef struct qn_record { /* what one log line, JSONL row or event carries */
    int64_t step;          /* optimizer steps done */
    double epoch;
    int n;
    qn_metric metric[QN_MAX_METRICS];
} qn_record;

void qn_record_add(qn_record *r, const char *key, double value); /* a NaN loses its sign */
double qn_record_get(const qn_record *r, const char *key, double absent);

typedef enum qn_event {
    QN_EVENT_TRAIN,      /* every log.every steps: train/..., perf/... */
    QN_EVENT_EVAL,       /* after an evaluation: eval/... */
    QN_EVENT_CHECKPOINT, /* saved; text is its path */
    QN_EVENT_NOTE,       /* a line people must see: text (warnings, skipped step, early stop) */
    QN_EVENT_END         /* the run is over; text is the reason */
} qn_event;

/* Where records go: console, train.log, metrics.jsonl, TensorBoard. A full disk makes a sink drop
 * its output with one note; it never stops training. */
typedef struct qn_sink {
    void *self;
    void (*emit)(void *self, qn_event event, const qn_record *record, const char *text);
    void (*progress)(void *self, const qn_record *record); /* each step, cheap; may be NULL */
    void (*free)(void *self);
} qn_sink;

/* ---- model, objective, optimizer, schedule, stopper: what the session and the loop call ------ */

typedef struct qn_cache { /* keys and values of one layer seen so far: (B, S, G, D) each */
    qn_value *k, *v;
} qn_cache;

typedef struct qn_forward { /* inputs of one forward recording */
    qn_value *const *field; /* batch fields, named as the source names them; a model reads the
                               first and looks for others: "documents", "positions", ... */
    int n_fields;
    qn_value *start;       /* i32 of 1 or B elements: position of the first token; NULL = 0 */
    const qn_cache *cache; /* one per layer when generating, else NULL */
} qn_forward;
/* The field of that name, NULL without it. */
qn_value *qn_forward_field(const qn_forward *in, const char *name);

typedef struct qn_output { /* hidden (…, C) and the head's weight (V, C), or logits (N, V) already
                            */
    qn_value *hidden, *head_weight, *head_bias, *logits;
} qn_output;

typedef struct qn_model {
    const void *self;
    qn_status (*declare)(const void *self, qn_params *p); /* adds the parameters */
    qn_status (*forward)(const void *self, qn_graph *g, const qn_forward *in, qn_output *out);
    int layers;             /* that cache keys and values; 0 = none */
    int64_t cache_shape[2]; /* {kv heads, head size} */
    int64_t max_positions;  /* 0 = unbounded */
} qn_model;

typedef struct qn_objective { /* records the loss from what the model gives */
    const void *self;
    qn_status (*loss)(const void *self, qn_graph *g, const qn_output *out, qn_value *target,
                      qn_value **loss);
    /* For evaluation: a vector of n_sums f32 sums over a batch, and what the host reports from
     * their totals over a split (labels: the targets that count). */
    int64_t n_sums;
    qn_status (*sums)(const void *self, qn_graph *g, const qn_output *out, qn_value *target,
                      qn_value **vector);
    void (*report)(const void *self, const double *sums, int64_t labels, qn_record *r);
    bool perplexity; /* also report eval/perplexity = exp(eval/loss) */
} qn_objective;

typedef struct qn_update { /* what an optimizer records its update over: flat arrays */
    qn_value *weights, *master, *grads, *moment[2], *hyper, *guard, *rng;
    int n_segments;
    const qn_segment *segments;
    bool stochastic_rounding;
} qn_update;

typedef struct qn_optimizer {
    const void *self;
    const char *name;
    int moments;
    const char *moment_name[2]; /* as PyTorch calls them: "exp_avg", "momentum_buffer" */
    double lr, weight_decay;
    qn_status (*record)(const void *self, qn_tape *t, const qn_update *u);
} qn_optimizer;

typedef struct qn_schedule {
    const void *self;
    double (*factor)(const void *self,
                     int64_t step); /* of the base learning rate at optimizer step 0, 1, … */
} qn_schedule;

typedef struct qn_stopper { /* early stopping; see optim/early_stop.c */
    void *self;
    const char *monitor; /* record key it watches */
    bool restore_best;
    /* One evaluation. *improved: a new best, snapshot the weights. *stop: with a reason in text. */
    qn_status (*observe)(void *self, const qn_record *r, bool *improved, bool *stop, char *text,
                         size_t size);
    int n_state; /* everything it remembers, saved in checkpoints */
    double *state;
} qn_stopper;

/* ---- session.c: memory and programs of one run ----------------------------------------------- */

typedef struct qn_session_options {
    uint64_t seed;
    qn_device device;
    qn_precision precision;
    int threads;
    int64_t batch_size, eval_batch_size, accumulate;
    double clip_norm, spike_threshold;
    int64_t spike_window;
    const char *const *recompute; /* NULL-terminated scope globs; NULL = none */
    int64_t memory_limit; /* bytes, 0 = none; with recompute_auto scopes are added until it fits */
    bool recompute_auto;
    bool keep_best, evaluate, plan_only;
    bool no_graph; /* CUDA: launch call by call */
} qn_session_options;

/* The fixed set of a training run. */
typedef enum qn_program_kind {
    QN_MICRO_FIRST,
    QN_MICRO_ACCUMULATE,
    QN_UPDATE,
    QN_EVAL,
    QN_PROGRAM_COUNT
} qn_program_kind;

/* Steps that may be under way at once, and staging places for their batches: on the host's devices
 * one; on a separate device two, so that the next step is given to it while one computes. */
enum { QN_MAX_LANES = 2 };

typedef struct qn_step_report { /* what the host learns of a step */
    int64_t step;
    double loss, grad_norm, lr;
    bool applied; /* false: the guard refused it */
    int64_t labels;
} qn_step_report;

typedef struct qn_session {
    qn_session_options o;
    const qn_model *model;
    const qn_objective *objective;
    const qn_optimizer *optimizer;
    const qn_source *source; /* its fields; fetched from by the loop */
    qn_params *params;
    qn_program *program[QN_PROGRAM_COUNT];
    qn_arena *run, *pool;
    int64_t class_bytes[QN_CLASS_COUNT]; /* of the run arena */
    int64_t run_bytes, pool_bytes;
    int64_t staging_bytes; /* host memory of a separate device's lanes, else 0 */
    int recomputed;        /* scopes the planner chose, with recompute_auto */
    /* step values and batch buffers in the run arena */
    qn_tensor rng, inv_n, loss, norm, hyper, guard, eval_loss, eval_sums;
    double *eval_totals; /* of eval_sums over the batches of an evaluation; the host's */
    qn_tensor field[QN_MAX_FIELDS], eval_field[QN_MAX_FIELDS];
    qn_tensor lane_field[QN_MAX_LANES][QN_MAX_FIELDS]; /* (accumulate, batch...) */
    /* The same on the host, for the step that is submitted next. */
    qn_tensor staging[QN_MAX_FIELDS];
    int n_lanes;
    int64_t submitted, collected; /* steps so far */
    struct qni_lanes *lanes;      /* the host's side of them (session_step.c) */
} qn_session;

/* Declares, lays out, records and plans every program; allocates and binds unless plan_only. The
 * model, objective, optimizer and source outlive the session. `params` (declared, groups applied)
 * passes over. */
qn_status qn_session_create(const qn_session_options *o, const qn_model *model,
                            const qn_objective *objective, const qn_optimizer *optimizer,
                            const qn_source *source, qn_params *params,
                            qn_session **out) QN_CHECKED;
void qn_session_free(qn_session *s);

/* Gives the device one optimizer step over the micro-batches in staging, `labels` targets in all,
 * without waiting for it. `staging` then names the place of the next one. At most n_lanes steps may
 * be under way. */
qn_status qn_session_submit(qn_session *s, int64_t step, double lr, int64_t labels) QN_CHECKED;
/* Waits for the oldest step under way and says what became of it. If the guard refused it, it has
 * refused every step after it too: allow_updates or discard comes before the next submit. */
qn_status qn_session_collect(qn_session *s, qn_step_report *r) QN_CHECKED;
int qn_session_under_way(const qn_session *s);
/* submit, then collect; nothing may be under way. */
qn_status qn_session_step(qn_session *s, int64_t step, double lr, int64_t labels,
                          qn_step_report *r) QN_CHECKED;
/* Replays the micro-batches of the step collected last with per-call checks and names the first
 * tensor that is not finite. */
qn_status qn_session_explain(qn_session *s, char *text, size_t size) QN_CHECKED;
/* Clears the guard after the host has dealt with a bad step, and gives the device the steps under
 * way once more: the guard had blocked them. */
qn_status qn_session_allow_updates(qn_session *s) QN_CHECKED;
/* Waits for the steps under way and forgets them; for going back to an earlier state. */
qn_status qn_session_discard(qn_session *s) QN_CHECKED;
/* Mean loss and metrics over a split, added to r; stops after `batches` (0 = all). Nothing may be
 * under way. */
qn_status qn_session_evaluate(qn_session *s, qn_split split, int64_t batches,
                              qn_record *r) QN_CHECKED;
/* best = the present (master) weights; and back. */
qn_status qn_session_snapshot_best(qn_session *s) QN_CHECKED;
qn_status qn_session_restore_best(qn_session *s) QN_CHECKED;
double qn_session_flops_per_step(const qn_session *s);
/* On CUDA, for each kind of matrix product in the session's programs, once: its sizes, every kernel
 * with the time the model gives it or the reason against it, and which is taken. Other devices have
 * nothing to tell. */
typedef void qn_trace_taker(void *ctx, const char *text);
qn_status qn_session_trace(const qn_session *s, qn_trace_taker *take, void *ctx) QN_CHECKED;

/* ---- train.c: the loop ----------------------------------------------------------------------- */

typedef enum qn_nonfinite_policy {
    QN_NONFINITE_STOP,
    QN_NONFINITE_SKIP,
    QN_NONFINITE_ROLLBACK
} qn_nonfinite_policy;

typedef struct qn_progress { /* host state that determines the next step; saved in every checkpoint
                              */
    int64_t step;            /* optimizer steps done, skipped ones included */
    int64_t tokens;          /* targets trained on */
    int64_t skipped, rollbacks;
    int64_t data_offset;  /* samples passed over by roll-backs */
    int64_t improvements; /* evaluations that were the best so far; 0 = no best yet */
    int64_t best_step;
    double best_value;
    bool stopped; /* early stopping has fired */
} qn_progress;

typedef struct qn_saver { /* checkpoints, implemented by io/ */
    void *self;
    qn_status (*save)(void *self, const qn_session *s, const qn_progress *p, const qn_stopper *st);
    qn_status (*load_last)(void *self, qn_session *s, qn_progress *p,
                           qn_stopper *st); /* for roll-back */
    void (*poll)(void *self); /* each step, cheap: tells of a save that has ended; may be NULL */
    qn_status (*finish)(void *self); /* waits for an asynchronous save */
} qn_saver;

typedef struct qn_trainer {
    qn_session *session;
    const qn_source *source;
    const qn_schedule *schedule;
    qn_stopper *stopper; /* NULL = no early stopping */
    qn_saver *saver;     /* NULL = no checkpoints */
    const qn_sink *sink;
    int n_sinks;
    int64_t max_steps, log_every, eval_every, eval_batches, save_every;
    bool eval_at_start;
    qn_nonfinite_policy on_nonfinite;
    int64_t max_skips;        /* in a row, before it stops after all */
    int (*interrupted)(void); /* 0, or the exit status wanted: QN_ERR_INTERRUPTED, QN_ERR_REQUEUE */
    qn_progress progress;
} qn_trainer;

/* Trains from progress.step to the end, an early stop or an interruption. Returns QN_OK,
 * QN_ERR_NONFINITE, QN_ERR_INTERRUPTED or QN_ERR_REQUEUE (state saved), or a failure. */
qn_status qn_train(qn_trainer *t) QN_CHECKED;

#endif
