/* run_load.h — a trained model from its run directory alone: configuration, tokenizer, weights. */
#ifndef QN_RUN_LOAD_H
#define QN_RUN_LOAD_H

#include "io/saver.h"

typedef struct qn_loaded {
    qn_config *config;
    qn_metadata metadata; /* its tokenizer has passed over to build */
    qn_build build;       /* model parts; its source is the caller's to open */
    qn_params *params;    /* weights only, bound to `weights` */
    qn_arena *weights;
    int64_t step; /* of the weights */
} qn_loaded;

/* Opens a checkpoint directory itself, or of a run: the final model if there is one and only the
 * model is asked for, else the newest good checkpoint. warning tells what was passed over, "" if
 * nothing. */
qn_status qn_open_checkpoint(const char *path, qn_checkpoint_parts parts, char *warning,
                             size_t size, qn_checkpoint **out) QN_CHECKED;

/* which: NULL or "final" for RUN/final, falling back to the newest good checkpoint when the run has
 * not finished (run_dir may also be one checkpoint, or a Hugging Face model's directory); or the
 * step of a checkpoint. `sets` change
 * the configuration (device, threads, generate.*). warning tells what was passed over, "" if
 * nothing. */
qn_status qn_loaded_open(const char *run_dir, const char *which, const char *const *sets,
                         int n_sets, qn_loaded *out, char *warning, size_t size) QN_CHECKED;
void qn_loaded_free(qn_loaded *l);

/* model.init_from: fills the weights (and masters) of a new session from a run or a checkpoint
 * directory. Names, shapes and dtype must be those of the model, adapters apart: those are new.
 * Nothing else is taken over.
 * warning as above. */
qn_status qn_init_from(qn_session *s, const char *path, char *warning, size_t size) QN_CHECKED;

#endif
