/* train.h — the interfaces the training loop is built over: model, source, sink, and the loop itself.
 *
 * engine/ declares them; layers/, optim/ and io/ implement them; io/build.c wires them together. So a
 * test trains a toy model with no JSON and no HDF5.
 */
#ifndef QN_TRAIN_H
#define QN_TRAIN_H

#include "engine/tape.h"

/* ---- data ---------------------------------------------------------------------------------------- */

typedef enum qn_split { QN_SPLIT_TRAIN, QN_SPLIT_VAL, QN_SPLIT_TEST, QN_SPLIT_COUNT } qn_split;

enum { QN_MAX_FIELDS = 4, QN_IGNORE_INDEX = -100 };

typedef struct qn_field { /* one tensor of a sample; the batch axis comes in front of shape */
    const char *name;     /* "tokens", "targets", "features" */
    qn_dtype dtype;
    int ndim;
    int64_t shape[QN_MAX_DIMS - 1];
} qn_field;

/* A source is random access: what fetch returns is a function of its arguments alone, so nothing about
 * the position in the data has to be saved. */
typedef struct qn_source {
    void *self;
    int n_fields;
    qn_field field[QN_MAX_FIELDS]; /* by convention inputs first, targets last */
    int64_t n[QN_SPLIT_COUNT];     /* samples per split (train: per epoch); 0 = split absent */
    int64_t classes;               /* vocabulary size or number of classes; 0 = regression */
    uint64_t identity;             /* digest of what the data is; refused if it differs on resume */
    /* Fills count samples. Train: position counts samples since the start of training, the epoch is
     * position / n and the order within it a keyed permutation. Val and test: file order; positions at
     * or past n are padding, their targets QN_IGNORE_INDEX. labels gets the number of targets that count. */
    qn_status (*fetch)(void *self, qn_split split, int64_t position, int64_t count, void *const *dst,
                       int64_t *labels);
    /* Says what the loop will ask for next (a hint for background loading); may be NULL. */
    void (*expect)(void *self, qn_split split, int64_t position, int64_t count);
    double (*wait_seconds)(void *self); /* time fetch has spent waiting for data so far; may be NULL */
    void (*free)(void *self);
} qn_source;

/* ---- metrics -------------------------------------------------------------------------------------- */

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

void qn_record_add(qn_record *r, const char *key, double value);
double qn_record_get(const qn_record *r, const char *key, double absent);

typedef enum qn_event {
    QN_EVENT_TRAIN,      /* every log.every steps: train/..., perf/... */
    QN_EVENT_EVAL,       /* after an evaluation: eval/... */
    QN_EVENT_CHECKPOINT, /* saved; text is its path */
    QN_EVENT_NOTE,       /* a line people must see: text (warnings, skipped step, early stop) */
    QN_EVENT_END         /* the run is over; text is the reason */
} qn_event;

/* Where records go: console, train.log, metrics.jsonl, TensorBoard. A full disk makes a sink drop its
 * output with one note; it never stops training. */
typedef struct qn_sink {
    void *self;
    void (*emit)(void *self, qn_event event, const qn_record *record, const char *text);
    void (*progress)(void *self, const qn_record *record); /* each step, cheap; may be NULL */
    void (*free)(void *self);
} qn_sink;

#endif
