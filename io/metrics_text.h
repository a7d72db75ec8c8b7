/* metrics_text.h — a growing byte buffer with the few ways of writing that logs and reports need.
 *
 * Every function writes numbers with '.', whatever the process's locale. Running out of memory sets
 * `failed` and turns later calls into nothing, so that a page of output is checked once, at its
 * end.
 */
#ifndef QN_IO_METRICS_TEXT_H
#define QN_IO_METRICS_TEXT_H

#include "engine/engine.h"

typedef struct qni_text { /* zero-initialised = empty; data ends in '\0' once anything was added */
    char *data;
    size_t n, capacity;
    bool failed;
} qni_text;

void qni_text_free(qni_text *t);
void qni_text_clear(qni_text *t); /* empty again, storage kept */
void qni_text_add(qni_text *t, const void *bytes, size_t n);
void qni_text_puts(qni_text *t, const char *s);
void qni_text_printf(qni_text *t, const char *format, ...) QN_PRINTF(2, 3);

/* The three below write valid UTF-8 whatever `s` holds: a stray byte becomes U+FFFD. */
void qni_text_utf8(qni_text *t, const char *s);
void qni_text_html(qni_text *t, const char *s); /* & < > " ' escaped: fit for text and attributes */
void qni_text_json(qni_text *t, const char *s); /* a JSON string with its quotes */

/* A JSON number that reads back as v, with as few digits as that needs; non-finite values are the
 * strings "nan", "inf" and "-inf", since JSON has no such numbers. */
void qni_text_json_double(qni_text *t, double v);

/* snprintf in the C locale. */
int qni_print(char *buffer, size_t size, const char *format, ...) QN_PRINTF(3, 4);
/* strtod in the C locale. */
double qni_parse_double(const char *s, char **end);

#endif
