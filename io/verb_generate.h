/* verb_generate.h — what verb_generate.c and verb_interactive.c share. */
#ifndef QN_VERB_GENERATE_H
#define QN_VERB_GENERATE_H

#include "io/conversation.h"

#include <stdio.h>

typedef struct qni_interactive {
    qn_generator *g;
    const qn_tokenizer *tokenizer;
    const qn_chat *chat;           /* NULL: every line is continued by itself */
    const char *system;            /* NULL = no system message */
    qn_generation_options options; /* the seed counts on from answer to answer */
    FILE *in, *out;
} qni_interactive;

/* Reads lines and answers them until the input ends or /quit. What a line does wrong is told on
 * stderr and costs that line only; interrupts end an answer. */
qn_status qni_talk(qni_interactive *s) QN_CHECKED;

/* Appends the ids of a text to continue; of "", where a text begins. */
qn_status qni_encode_start(const qn_tokenizer *t, const char *text, qn_ids *ids) QN_CHECKED;

/* From here to qni_hear_end an interrupt is remembered instead of ending the program. restart:
 * calls that it interrupts go on. */
void qni_hear_interrupts(bool restart);
void qni_hear_end(void);
int qni_interrupted(void); /* since qni_hear_interrupts */

#endif
