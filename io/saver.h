/* saver.h — a session's state as checkpoint tensors and texts, and the loop's saver built on them.
 *
 * model.h5 holds the weights by dotted path. state.h5 holds, for every trainable parameter,
 * master:PATH, MOMENT:PATH (exp_avg:..., as PyTorch names them) and best:PATH where they exist, and
 * the buffers buffer:guard and buffer:hyper. The state text is the host's share: progress and early
 * stopping. The metadata text makes the checkpoint self-contained: resolved configuration,
 * tokenizer, data identity. With an adapter one thing is left outside: the frozen parameters that
 * came from model.pretrained, for which its path and a digest stand.
 */
#ifndef QN_SAVER_H
#define QN_SAVER_H

#include "io/build.h"
#include "io/checkpoint_writer.h"

typedef struct qn_state_tensors {
    qn_named *model, *state;
    int n_model, n_state;
} qn_state_tensors;

/* Lists the tensors of a session (data NULL while only planned); they live in `arena`. */
qn_status qn_state_tensors_list(const qn_session *s, qn_setup *arena,
                                qn_state_tensors *out) QN_CHECKED;
/* The host's side of them: themselves, or room for copies, in *memory, if they are on a separate
 * device. *memory is NULL on entry, or an arena of enough bytes to use. */
qn_status qn_state_tensors_here(const qn_session *s, const qn_state_tensors *t, qn_setup *arena,
                                qn_arena **memory, qn_state_tensors *out) QN_CHECKED;
/* to = from, for two lists of the same tensors on host and device. */
qn_status qn_state_tensors_copy(const qn_session *s, const qn_state_tensors *to,
                                const qn_state_tensors *from) QN_CHECKED;

/* The host's share of what determines the next step, as canonical JSON; and back. */
qn_status qn_progress_write(const qn_progress *p, const qn_stopper *st, char **text) QN_CHECKED;
qn_status qn_progress_read(const char *text, qn_progress *p, qn_stopper *st) QN_CHECKED;

typedef struct qn_metadata { /* what a checkpoint carries besides tensors; owned strings */
    char *config;            /* resolved configuration, JSON */
    qn_tokenizer *tokenizer; /* NULL if the model reads numbers or token files */
    char *chat_text;         /* as in qn_build */
    int64_t classes, features;
    uint64_t data_identity;
    char pretrained_digest[QN_HF_DIGEST]; /* of the base model, "" if there was none */
} qn_metadata;
qn_status qn_metadata_write(const qn_build *b, char **text) QN_CHECKED;
qn_status qn_metadata_read(const char *text, qn_metadata *out) QN_CHECKED;
void qn_metadata_free(qn_metadata *m);
/* QN_ERR_DATA if the model that b was filled from is not the one of this digest, and p has
 * parameters that checkpoints leave to it. */
qn_status qn_pretrained_check(const qn_build *b, const qn_params *p, const char *digest) QN_CHECKED;

typedef struct qn_saver_options {
    const char *run_dir, *run_id;
    int keep;
    bool background;
    const qn_sink *notices; /* told of saves and of saves that failed */
    const int *n_notices;   /* how many there are by then */
} qn_saver_options;

/* The saver of a training run. A save that fails costs a note, not the run; the last one's failure
 * is finish's result. */
qn_status qn_saver_create(const qn_saver_options *o, qn_build *b, qn_saver *out) QN_CHECKED;
void qn_saver_free(qn_saver *s);

/* Loads the newest good checkpoint at or before INT64_MAX of this run into the session. *found
 * false if there is none. warning: checkpoints passed over, "" if none. Refuses another
 * configuration identity or other data; `changes` receives the differences that are allowed
 * (qn_free). */
qn_status qn_saver_resume(qn_saver *s, qn_build *b, qn_progress *p, bool *found, char *warning,
                          size_t size, char **changes) QN_CHECKED;

#endif
