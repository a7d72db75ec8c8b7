/* build.h — from a configuration to a run: data, model, optimizer, session, trainer.
 *
 * The composition root. Every key of the configuration is read here and nowhere else, except those
 * that only say what to print.
 */
#ifndef QN_BUILD_H
#define QN_BUILD_H

#include "io/config.h"
#include "io/data.h"
#include "io/hf_load.h"
#include "layers/layers.h"
#include "optim/optim.h"

typedef struct qn_build {
    bool plan_only; /* set by the caller: shapes and bytes are wanted, no memory and no device */
    const qn_config *config;
    /* data */
    qn_source source; /* zero until opened */
    bool has_source;
    char *data_text;         /* what was found, for people */
    char *chat_text;         /* of the file data.chat_template; NULL: it is no file */
    qn_tokenizer *tokenizer; /* of a text source or a checkpoint; NULL otherwise */
    int64_t classes, features;
    /* what the session and the trainer point at */
    qn_model_config model_config;
    qn_objective_config objective_config;
    qn_optimizer_config optimizer_config;
    qn_schedule_config schedule_config;
    qn_model model;
    qn_objective objective;
    qn_optimizer optimizer;
    qn_schedule schedule;
    qn_stopper stopper;
    bool early_stopping;
    qn_device device;
    char device_text[256]; /* a line people should see, "" if none */
    const char **recompute;
    bool *sliding_layer; /* model_config points here; NULL where unstated */
    int threads;
    int64_t max_steps;
    qn_session *session;
    char pretrained_digest[QN_HF_DIGEST]; /* of model.pretrained's tensors, "" if there is none */
    char *notes; /* lines about the initial weights that people should see, NULL if none */
} qn_build;

/* Opens the data and learns its shape. With background loading if the configuration asks for it. */
qn_status qn_build_data(qn_build *b, const qn_config *config) QN_CHECKED;
/* Instead of qn_build_data, for planning where the data is not: the shapes of the samples and the
 * size of the vocabulary from the configuration alone. QN_ERR_CONFIG if it does not say enough. */
qn_status qn_build_shapes(qn_build *b, const qn_config *config) QN_CHECKED;
/* Fills the model, objective, optimizer, schedule and stopper; needs classes/features/vocab from
 * qn_build_data or from a checkpoint. */
qn_status qn_build_model(qn_build *b, const qn_config *config) QN_CHECKED;
/* Declares parameters, applies groups, creates the session. Draws the initial weights unless
 * plan_only. */
qn_status qn_build_session(qn_build *b) QN_CHECKED;
/* Declares the parameters of the model with the groups of the configuration. */
qn_status qn_build_params(qn_build *b, qn_params **out) QN_CHECKED;
/* build_adapter.c. Adds the adapters of the configuration, if it has any, to declared parameters;
 * qn_build_params does. */
qn_status qn_build_adapter(const qn_build *b, qn_params *p) QN_CHECKED;
/* What adapters start with that depends on the weights beside them; once those are there. */
qn_status qn_build_adapter_weights(qn_build *b) QN_CHECKED;
/* The initial weights that are not drawn: with model.pretrained, fills the parameters from it, or
 * only those that checkpoints leave to it. QN_ERR_DATA if it does not fit the model; *details is
 * then all that does not (qn_free; may be NULL). */
qn_status qn_build_pretrained(qn_build *b, qn_params *p, bool external_only,
                              char **details) QN_CHECKED;
/* Everything the loop needs besides saver and sinks. */
void qn_build_trainer(qn_build *b, qn_trainer *out);
void qn_build_free(qn_build *b); /* leaves *b zeroed */

qn_precision qn_build_precision(const qn_config *c);

#endif
