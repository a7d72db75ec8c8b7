/* chat_template.h — a conversation as the one text that a model was trained on.
 *
 * A template is a model's own (`chat_template.jinja`, or `chat_template` in
 * `tokenizer_config.json`), any Jinja file, or one of the built-in ones. It sees what transformers
 * gives it: messages, tools, documents, add_generation_prompt, the special tokens of the model by
 * name (bos_token, eos_token, ...), and variables of the caller's. A member of a message that is
 * null counts as absent.
 *
 * The text holds every special token that belongs there, so it is to be encoded with special tokens
 * recognised and none added.
 */
#ifndef QN_CHAT_TEMPLATE_H
#define QN_CHAT_TEMPLATE_H

#include "io/json.h"
#include "io/tokenizer.h"

typedef struct qn_chat_template qn_chat_template; /* immutable: several threads may render */

/* which: the name of a built-in template, the path of a Jinja file, or NULL for the template of
 * the model in `directory`. directory: where special tokens are looked up (`tokenizer_config.json`,
 * then `special_tokens_map.json`); NULL for none: a built-in one then uses those of the family it
 * is named after. QN_ERR_DATA if there is no template, QN_ERR_FORMAT naming the file, and line and
 * column where it has them. */
qn_status qn_chat_template_open(const char *which, const char *directory,
                                qn_chat_template **out) QN_CHECKED;
/* The same with the files that a tokenizer was made of in the place of a directory's: a run is
 * enough. A tokenizer whose files state no special tokens counts as no directory. text: what the
 * file `which` holds, if it is known; NULL = it is read. */
qn_status qn_chat_template_of(const char *which, const char *text, const qn_tokenizer *tokenizer,
                              qn_chat_template **out) QN_CHECKED;
/* From a text instead of a file. tokens: an object of special tokens, or NULL. */
qn_status qn_chat_template_create(const char *name, const char *text, size_t bytes,
                                  const cJSON *tokens, qn_chat_template **out) QN_CHECKED;
void qn_chat_template_free(qn_chat_template *t); /* NULL is legal */

/* All that the template's text depends on besides messages and options, as a text to be hashed;
 * *out is the caller's (qn_free). */
qn_status qn_chat_template_identity(const qn_chat_template *t, char **out) QN_CHECKED;

/* The names of the built-in templates and their texts, up to the first NULL. */
const char *qn_chat_builtin_name(int i);
bool qn_chat_is_builtin(const char *name);
const char *qn_chat_builtin_text(int i);

/* Which messages' parts of the text are wanted. */
typedef enum qn_chat_parts {
    QN_CHAT_NO_PARTS,
    QN_CHAT_ASSISTANT, /* of each message whose role is "assistant" */
    QN_CHAT_ALL
} qn_chat_parts;

typedef struct qn_chat_options { /* {0}: the messages, nothing asked of the model, no parts */
    const cJSON *tools;          /* an array, or NULL */
    const cJSON *documents;      /* an array, or NULL */
    const cJSON *variables;      /* an object of further variables, e.g. enable_thinking; or NULL */
    bool add_generation_prompt;  /* end with what makes the model answer */
    qn_chat_parts parts;
    int64_t now; /* for templates that write the date, seconds since 1970; 0 = the clock */
} qn_chat_options;

/* Bytes [begin, end) of the text. Of an assistant's message: what the model is to write, that is
 * from behind the generation prompt to the mark that ends its turn, without white space behind it.
 * Of another message: its content. */
typedef struct qn_chat_part {
    size_t begin, end;
    int64_t message; /* -1 where generation blocks and assistant messages differ in number */
} qn_chat_part;

typedef struct qn_chat_text {
    char *text; /* NUL-terminated */
    size_t bytes;
    qn_chat_part *parts; /* in the order of the text */
    int64_t n_parts;
} qn_chat_text;

/* Renders an array of messages. The built-in templates take messages whose content is a string, and
 * no tools; a model's own takes what it knows. Parts of assistants are the template's generation
 * blocks if it has any. Otherwise the conversation is rendered up to before and up to behind each
 * message: where both are beginnings of the whole, they bound the part. Where they are not, or for
 * the content of others, the text is searched for the place that changes with the message's
 * content. QN_ERR_DATA with the template's line and column for what it refuses, and naming the
 * message whose part cannot be told. *out is {0} after a failure. o may be NULL. */
qn_status qn_chat_render(const qn_chat_template *t, const cJSON *messages, const qn_chat_options *o,
                         qn_chat_text *out) QN_CHECKED;
void qn_chat_text_free(qn_chat_text *text);

/* What a template writes behind an assistant's content, without white space around it: the text
 * that ends generation. "" if it writes nothing there. *out is the caller's (qn_free). */
qn_status qn_chat_end_of_turn(const qn_chat_template *t, char **out) QN_CHECKED;

#endif
