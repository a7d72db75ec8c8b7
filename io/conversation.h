/* conversation.h — talking with a model: messages kept, written as its template has them, and what
 * ends an answer.
 */
#ifndef QN_CONVERSATION_H
#define QN_CONVERSATION_H

#include "io/chat_template.h"
#include "io/generation.h"

/* A template and the tokenizer it goes with. */
typedef struct qn_chat {
    qn_chat_template *form;
    const qn_tokenizer *tokenizer; /* not owned */
    char *end;                     /* text that ends an answer, "" = none */
} qn_chat;

/* which, text: as qn_chat_template_of. QN_ERR_DATA if there is no template. */
qn_status qn_chat_open(const char *which, const char *text, const qn_tokenizer *t,
                       qn_chat *out) QN_CHECKED;
void qn_chat_close(qn_chat *c);

/* Adds what ends an answer to the options: the special token that the template writes behind one,
 * or its text. c outlives the options. */
qn_status qn_chat_stops(const qn_chat *c, qn_generation_options *o) QN_CHECKED;

/* Messages that the model is to answer, as text (may be NULL, qn_free) and as ids. tools may be
 * NULL. QN_ERR_DATA for what the template refuses, and if the last message is an answer. */
qn_status qn_chat_prompt(const qn_chat *c, const cJSON *messages, const cJSON *tools, char **text,
                         qn_ids *ids) QN_CHECKED;

/* ---- a conversation that grows --------------------------------------------------------------- */

typedef struct qn_turn {
    char *role, *content;
} qn_turn;

typedef struct qn_conversation { /* {0} is empty */
    qn_turn *turn;
    int64_t n, capacity;
    int64_t forgotten; /* turns behind the system message that no longer take part */
} qn_conversation;

/* Appends a message; roles are "system", "user", "assistant". QN_ERR_DATA for text that is not
 * UTF-8. */
qn_status qn_conversation_say(qn_conversation *v, const char *role, const char *text) QN_CHECKED;
void qn_conversation_take_back(qn_conversation *v); /* the last message, if there is one */
void qn_conversation_free(qn_conversation *v);      /* {0} again */

/* The prompt for the next answer, at most `most` ids if leaving out the oldest questions with their
 * answers can make it so; they stay forgotten. A system message and the last question are kept. */
qn_status qn_conversation_prompt(qn_conversation *v, const qn_chat *c, int64_t most,
                                 qn_ids *ids) QN_CHECKED;

#endif
