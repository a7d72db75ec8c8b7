/* examples.h — fine-tuning examples: records of the usual layouts as one kind of thing.
 *
 *   alpaca             instruction, input (may be absent or ""), output; system, history
 *                      [[user, assistant], ...]
 *   sharegpt           conversations [{from, value}], from = human, gpt, system, observation,
 *                      function_call (or user, assistant, tool); system, tools
 *   messages           messages [{role, content}], content a string or [{"type":"text","text"}];
 *                      tools; weight 0 or 1, or train, on a message
 *   prompt_completion  prompt, completion: two strings, or two lists of messages
 *   text               text
 *   labelled           text (and text_pair), label: a string, a number, or an array of labels; or
 *                      text: an array of words, label: an array of one for each
 *
 * What comes out is a conversation in OpenAI's form, as chat templates want it, or plain text. An
 * example lives in the arena it was made in; strings are copied.
 */
#ifndef QN_EXAMPLES_H
#define QN_EXAMPLES_H

#include "io/records.h"

typedef enum qn_example_format {
    QN_EXAMPLES_AUTO, /* by the keys of the first record */
    QN_EXAMPLES_ALPACA,
    QN_EXAMPLES_SHAREGPT,
    QN_EXAMPLES_MESSAGES,
    QN_EXAMPLES_PROMPT_COMPLETION,
    QN_EXAMPLES_TEXT,
    QN_EXAMPLES_LABELLED,
    QN_EXAMPLES_FORMATS
} qn_example_format;
const char *qn_example_format_name(qn_example_format f);
bool qn_example_format_parse(const char *name, qn_example_format *out);

/* Names of the keys, where a file calls them otherwise; NULL = the name itself. */
typedef struct qn_example_keys {
    const char *messages;            /* "messages", "conversations" */
    const char *prompt, *completion; /* "prompt", "completion" (alpaca: "instruction", "output") */
    const char *input;               /* alpaca: "input" */
    const char *system, *tools;      /* "system", "tools" */
    const char *text, *text_pair, *label; /* "text", "text_pair", "label" */
} qn_example_keys;

typedef enum qn_train_flag { QN_TRAIN_BY_ROLE, QN_TRAIN_NO, QN_TRAIN_YES } qn_train_flag;

typedef struct qn_example {
    /* a conversation: an array of {"role", "content", ...}, and what is said about training on each
     * of its messages; NULL otherwise */
    cJSON *messages;
    const cJSON *tools; /* an array, or NULL */
    qn_train_flag *train;
    int n_messages;
    /* or a text: the prompt counts as context only, the completion is what is learned */
    const char *prompt, *text; /* prompt NULL: all of the text is learned */
    int64_t words;             /* labelled: words that an array gave, joined by spaces; else 0 */
    const char *text_pair;     /* labelled: the second text, NULL = none */
    const char *label;         /* labelled: as it is written, a number as its digits; those of an
                                  array are joined by line ends */
} qn_example;

/* The layout of a record by its keys. QN_ERR_DATA listing the keys if it has none of them. */
qn_status qn_example_detect(const qn_records *r, const cJSON *record, const qn_example_keys *keys,
                            qn_example_format *out) QN_CHECKED;

/* Reads the present record of r. QN_ERR_DATA with file, line, column and key for one that is not of
 * the layout: a missing key, another type, an unknown role, an empty conversation, an answer that
 * is missing, a message without content, pictures. */
qn_status qn_example_read(const qn_records *r, const cJSON *record, qn_example_format f,
                          const qn_example_keys *keys, qn_setup *arena, qn_example *out) QN_CHECKED;

#endif
