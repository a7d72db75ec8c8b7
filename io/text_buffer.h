/* text_buffer.h — a growing text, and the JSON spelling of strings and numbers.
 *
 * Failure is sticky: after the first failed allocation every call does nothing, and qn_text_take
 * reports it. So a writer appends without checking and checks once, at the end.
 */
#ifndef QN_TEXT_BUFFER_H
#define QN_TEXT_BUFFER_H

#include "engine/engine.h"

typedef struct qn_text { /* {0} is an empty text */
    char *data;          /* NUL-terminated once anything was added */
    size_t length, capacity;
    qn_status status;
} qn_text;

void qn_text_add(qn_text *t, const char *s);
void qn_text_add_bytes(qn_text *t, const char *bytes, size_t count);
/* For words and integers. Numbers with a fraction go through qn_text_json_number: printf's decimal
 * point depends on the locale. */
void qn_text_printf(qn_text *t, const char *format, ...) QN_PRINTF(2, 3);
void qn_text_pad(qn_text *t, size_t count, char c); /* count times c */

/* A JSON string with its quotes; s must be UTF-8, which is written as it is. */
void qn_text_json_string(qn_text *t, const char *s);
/* The same for `count` bytes and without the quotes. */
void qn_text_json_chars(qn_text *t, const char *s, size_t count);
/* The fewest of 15, 16 or 17 digits that read back as the same double, always with '.'. JSON has no
 * spelling for non-finite numbers: they become the strings "nan", "inf" and "-inf". */
void qn_text_json_number(qn_text *t, double v);

/* Hands the text (never NULL on success, free with qn_free) over and empties t; or frees it and
 * returns QN_ERR_OOM. */
qn_status qn_text_take(qn_text *t, char **out) QN_CHECKED;
void qn_text_free(qn_text *t);

#endif
