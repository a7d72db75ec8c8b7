/* records.h — one object after the other from a JSON array, JSON lines, CSV, TSV or plain lines.
 *
 * Every format gives the same thing: a cJSON object whose members are the fields. A file is read
 * from memory and only one record is a tree at a time, so its size does not matter. Errors say
 * file, line and column, what was found and what was expected; reading can go on behind them.
 */
#ifndef QN_RECORDS_H
#define QN_RECORDS_H

#include "io/json.h"

typedef enum qn_record_format {
    QN_RECORDS_AUTO,   /* by name (.csv, .tsv, .jsonl, .json, before .gz), else by first byte */
    QN_RECORDS_JSON,   /* an array of objects */
    QN_RECORDS_JSONL,  /* an object a line; empty lines do not count */
    QN_RECORDS_CSV,    /* RFC 4180, the first row names the columns; fields are strings */
    QN_RECORDS_TSV,    /* the same with tabs, without quoting */
    QN_RECORDS_LINES,  /* {"text": line}; empty lines do not count */
    QN_RECORDS_LABELS, /* {"label": up to the first space or tab, "text": the rest} */
    QN_RECORDS_FORMATS
} qn_record_format;
const char *qn_record_format_name(qn_record_format f); /* "json", "csv", ... */
bool qn_record_format_parse(const char *name, qn_record_format *out);

typedef struct qn_records qn_records;
/* bytes: outlive the reader. name: for errors and QN_RECORDS_AUTO. A byte order mark is skipped.
 * QN_ERR_FORMAT for an empty file or one that can be no such list. */
qn_status qn_records_open(const char *name, const char *bytes, int64_t size, qn_record_format f,
                          qn_records **out) QN_CHECKED;
void qn_records_free(qn_records *r);
qn_record_format qn_records_format(const qn_records *r); /* what it turned out to be */

/* The next record, NULL at the end; it lives until the next call. After QN_ERR_FORMAT or
 * QN_ERR_DATA the reader stands behind the broken record and may be asked again; *line (may be
 * NULL) is the record's first line either way. */
qn_status qn_records_next(qn_records *r, const cJSON **record, int64_t *line) QN_CHECKED;

/* Fails with "name:line:column: ..." for a part of the present record (NULL: the record). */
qn_status qn_records_fail(const qn_records *r, const cJSON *part, const char *format, ...)
    QN_PRINTF(3, 4) QN_CHECKED;

#endif
