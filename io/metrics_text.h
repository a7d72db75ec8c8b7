/* metrics_text.h — what logs and reports need on top of text_buffer.h: numbers that no locale
 * changes, and text from outside made fit for UTF-8 files and HTML.
 */
#ifndef QN_METRICS_TEXT_H
#define QN_METRICS_TEXT_H

#include "io/text_buffer.h"

void qni_text_clear(qn_text *t); /* empty again, failure forgotten, storage kept */

/* As qn_text_printf, in the C locale: for numbers with a fraction. */
void qni_text_printf(qn_text *t, const char *format, ...) QN_PRINTF(2, 3);
/* snprintf in the C locale. */
int qni_print(char *buffer, size_t size, const char *format, ...) QN_PRINTF(3, 4);

/* These write valid UTF-8 whatever `s` holds: a byte that belongs to no character becomes
 * U+FFFD. */
void qni_text_utf8(qn_text *t, const char *s);
void qni_text_line(qn_text *t, const char *s); /* control characters become spaces */
void qni_text_json(qn_text *t, const char *s); /* a JSON string with its quotes */
void qni_text_html(qn_text *t, const char *s); /* fit for text and quoted attributes */

#endif
