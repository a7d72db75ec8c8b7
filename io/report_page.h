/* report_page.h — the page around a report's content: style sheet, sections, tables. */
#ifndef QN_REPORT_PAGE_H
#define QN_REPORT_PAGE_H

#include "io/text_buffer.h"

void qni_page_begin(qn_text *t, const char *title); /* up to and with the opening of <main> */
void qni_page_end(qn_text *t, const char *footer);

void qni_page_section(qn_text *t, const char *title); /* closes the section before */
/* A number to be read at a glance; `detail` may be NULL. */
void qni_page_figure(qn_text *t, const char *name, const char *value, const char *detail);
void qni_page_row(qn_text *t, const char *name, const char *value); /* a row of a table of facts */

#endif
