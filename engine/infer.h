/* infer.h — a trained model at work: predictions for batches of features, continuations of token
 * sequences.
 *
 * Both record their programs once and replay them. The parameters are bound already and are only
 * read.
 */
#ifndef QN_INFER_H
#define QN_INFER_H

#include "engine/train.h"

typedef struct qn_infer_options {
    qn_device device;
    int threads;
    int64_t batch_size; /* predictor: rows of one replay */
    bool no_graph;      /* CUDA: launch call by call */
} qn_infer_options;

/* ---- predictor: (rows, features) -> (rows, outputs) ------------------------------------------ */

typedef struct qn_predictor qn_predictor;
/* probabilities: softmax over the outputs. field describes one row of the input. */
qn_status qn_predictor_create(const qn_infer_options *o, const qn_model *model,
                              const qn_params *params, const qn_field *field, bool probabilities,
                              qn_predictor **out) QN_CHECKED;
void qn_predictor_free(qn_predictor *p);
void *qn_predictor_input(qn_predictor *p); /* batch_size rows to fill */
qn_status qn_predictor_run(qn_predictor *p) QN_CHECKED;
/* (batch_size, outputs), until the next run. */
const qn_tensor *qn_predictor_output(const qn_predictor *p);

/* ---- generator: prefill and decode with a cache of keys and values --------------------------- */

typedef struct qn_generator qn_generator;
/* Holds at most `capacity` positions (at most model->max_positions if that is not 0). */
qn_status qn_generator_create(const qn_infer_options *o, const qn_model *model,
                              const qn_params *params, int64_t capacity,
                              qn_generator **out) QN_CHECKED;
void qn_generator_free(qn_generator *g);
void qn_generator_reset(qn_generator *g);             /* forget the sequence */
int64_t qn_generator_position(const qn_generator *g); /* tokens seen */
int64_t qn_generator_capacity(const qn_generator *g);
/* Appends tokens; afterwards the logits are those of the next token. QN_ERR_USAGE beyond the
 * capacity. */
qn_status qn_generator_feed(qn_generator *g, const int32_t *ids, int64_t n) QN_CHECKED;
const qn_tensor *qn_generator_logits(const qn_generator *g); /* (vocabulary) */

typedef struct qn_sampling {
    double temperature; /* 0 = the likeliest, first of equals */
    int64_t top_k;      /* 0 = all */
    double top_p;       /* 1 = all */
    uint64_t seed;
} qn_sampling;
/* Draws a token. The draw is a function of (seed, draw index, logits). order: room for that many
 * entries. */
int32_t qn_sample(const qn_tensor *logits, const qn_sampling *s, int64_t draw, int32_t *order,
                  double *weight);

#endif
