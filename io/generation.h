/* generation.h — texts continued by a model: prompts in, completions out, token by token.
 *
 * Any number of prompts is worked off by the rows of one generator: a row whose sequence has ended
 * takes the next prompt while the others go on. Text is handed out as soon as it is certain, in
 * whole characters; what could be the beginning of a stop string is held back until it is not.
 */
#ifndef QN_GENERATION_H
#define QN_GENERATION_H

#include "engine/infer.h"
#include "io/tokenizer.h"

enum { QN_MAX_STOPS = 32 };

typedef struct qn_generation_options {
    qn_sampling sampling;
    int64_t max_new_tokens; /* per prompt, >= 1 */
    int n_eos;
    int32_t eos[QN_MAX_STOPS]; /* tokens that end a sequence; their text is not part of it */
    int n_stop;
    const char *stop[QN_MAX_STOPS]; /* texts that end it, not empty; not part of it either */
    bool slide; /* a full context goes on from the later half of what was seen, read again; else it
                   ends the sequence */
} qn_generation_options;

typedef enum qn_finish { QN_FINISH_LENGTH, QN_FINISH_EOS, QN_FINISH_STOP } qn_finish;
const char *qn_finish_name(qn_finish f); /* "length", "eos", "stop" */

typedef struct qn_completion {
    qn_text text; /* without the prompt, special tokens and what ended it */
    qn_ids ids;   /* prompt and what was drawn, the ending token included */
    int64_t prompt_tokens;
    qn_finish finish;
} qn_completion;
void qn_completion_free(qn_completion *c);

typedef struct qn_generation_sink { /* told of new text; both may be NULL */
    void *self;
    void (*text)(void *self, int64_t prompt, const char *bytes, size_t count);
    qn_status (*done)(void *self, int64_t prompt, const qn_completion *c); /* an error ends all */
    int (*interrupted)(void); /* not 0: everything ends, with what there is; may be NULL */
} qn_generation_sink;

/* Continues n prompts of at least one token each; out has n zeroed entries, filled as they end. A
 * prompt longer than the context is QN_ERR_DATA unless `slide`. Where a prompt begins like what its
 * row has seen, also in an earlier call, that beginning is not read again. The completion of a
 * prompt does not depend on the other prompts but for rounding. */
qn_status qn_generate(qn_generator *g, const qn_tokenizer *t, const qn_generation_options *o,
                      const qn_ids *prompt, int64_t n, const qn_generation_sink *sink,
                      qn_completion *out) QN_CHECKED;

#endif
