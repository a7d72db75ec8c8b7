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
    int64_t batch_size; /* rows of one replay */
    bool no_graph;      /* CUDA: launch call by call */
} qn_infer_options;

/* ---- predictor: (rows, features) or (rows, tokens) -> outputs -------------------------------- */

typedef struct qn_predictor qn_predictor;
/* What is made of the numbers a model gives. */
typedef enum qn_outcome { QN_OUTCOME_NUMBERS, QN_OUTCOME_SOFTMAX, QN_OUTCOME_SIGMOID } qn_outcome;
/* field: one row of each of the n_fields inputs, named as the model looks for them; the first is
 * the one it reads. */
qn_status qn_predictor_create(const qn_infer_options *o, const qn_model *model,
                              const qn_params *params, const qn_field *field, int n_fields,
                              qn_outcome outcome, qn_predictor **out) QN_CHECKED;
void qn_predictor_free(qn_predictor *p);
void *qn_predictor_input(qn_predictor *p, int field); /* batch_size rows to fill */
qn_status qn_predictor_run(qn_predictor *p) QN_CHECKED;
/* (batch_size, outputs) or (batch_size, tokens, outputs), until the next run. */
const qn_tensor *qn_predictor_output(const qn_predictor *p);

/* ---- generator: prefill and decode with a cache of keys and values --------------------------- */

/* batch_size sequences at once, each at a position of its own (0 = one). */
typedef struct qn_generator qn_generator;
/* Holds at most `capacity` positions a row (at most model->max_positions if that is not 0). */
qn_status qn_generator_create(const qn_infer_options *o, const qn_model *model,
                              const qn_params *params, int64_t capacity,
                              qn_generator **out) QN_CHECKED;
void qn_generator_free(qn_generator *g);
int64_t qn_generator_rows(const qn_generator *g);
int64_t qn_generator_capacity(const qn_generator *g);
int64_t qn_generator_position(const qn_generator *g, int64_t row); /* tokens seen */
/* Forgets all but the first `position` tokens of a row, which has at least that many. */
void qn_generator_rewind(qn_generator *g, int64_t row, int64_t position);
/* Rewinds a row to the longest beginning that it shares with ids[0..n), the last of them left out,
 * and returns that position: fed the rest, the row has seen exactly ids. */
int64_t qn_generator_rejoin(qn_generator *g, int64_t row, const int32_t *ids, int64_t n);
/* Appends n[row] tokens ids[row] to each row; a row with 0 stays as it is, and so do its logits.
 * Afterwards the logits of a row are those of its next token. A row's result does not depend on the
 * other rows. QN_ERR_USAGE beyond the capacity, with nothing changed. */
qn_status qn_generator_feed(qn_generator *g, const int32_t *const *ids,
                            const int64_t *n) QN_CHECKED;
/* (vocabulary, perhaps padded) of one row; valid until the next feed. */
qn_tensor qn_generator_logits(const qn_generator *g, int64_t row);

/* ---- sampling.c: the next token from its logits ---------------------------------------------- */

/* Applied in this order, which is Hugging Face's: repetition penalty, temperature, top-k, top-p,
 * min-p. A zeroed struct draws the likeliest token. */
typedef struct qn_sampling {
    double temperature;        /* 0 = the likeliest, first of equals; no draw is made */
    int64_t top_k;             /* 0 = all */
    double top_p;              /* the likeliest that together hold this share of what top_k left;
                                * 0 or 1 = all */
    double min_p;              /* drop tokens less likely than this times the likeliest; 0 = none */
    double repetition_penalty; /* of tokens seen: l / p if l > 0, else l p (Keskar et al. 2019);
                                * 0 or 1 = none */
    uint64_t seed;
} qn_sampling;

typedef struct qn_sampler qn_sampler; /* options and workspace for one vocabulary */
qn_status qn_sampler_create(const qn_sampling *s, int64_t vocabulary, qn_sampler **out) QN_CHECKED;
void qn_sampler_free(qn_sampler *s);
/* Draws a token from `vocabulary` logits (f32, f64 or bf16; a longer tensor's rest is padding and
 * left out). The draw is a function of (seed, row, draw, logits, seen): `row` tells sequences of a
 * batch apart, `draw` counts the tokens of one. seen: n_seen tokens of the sequence so far. A NaN
 * logit is never drawn unless all are NaN, when it is token 0. */
int32_t qn_sampler_draw(qn_sampler *s, const qn_tensor *logits, int64_t row, int64_t draw,
                        const int32_t *seen, int64_t n_seen);

#endif
