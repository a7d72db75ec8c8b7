/* chat_parts.h — what chat_template.c, chat_render.c and chat_builtin.c share. */
#ifndef QN_CHAT_PARTS_H
#define QN_CHAT_PARTS_H

#include "io/chat_template.h"
#include "io/jinja.h"

enum { QNI_CHAT_MAX_TOKENS = 16 };

struct qn_chat_template {
    qn_setup *arena; /* of the tokens */
    qn_jinja *plain;
    qn_jinja *with_tools; /* for conversations with tools; NULL: the same */
    bool builtin;         /* what it has no place for is refused rather than left out */
    const cJSON *tokens;  /* an object, or NULL */
    const char *plain_text, *tools_text;
};

typedef struct qni_chat_builtin {
    const char *name, *text;
    const char *tokens; /* JSON, for use without a model */
} qni_chat_builtin;

const qni_chat_builtin *qni_chat_find_builtin(const char *name); /* NULL if there is none */

#endif
