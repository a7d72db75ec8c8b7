/* records_parts.h — what records.c and records_table.c share. */
#ifndef QN_RECORDS_PARTS_H
#define QN_RECORDS_PARTS_H

#include "io/records.h"

struct qn_records {
    const char *name, *bytes;
    int64_t size, at;    /* at: where the next record is looked for */
    int64_t start, line; /* of the present record */
    int64_t value;       /* where its JSON text begins: nodes count from there */
    int64_t taken;
    qn_record_format format;
    bool located;      /* the record's nodes know their places */
    bool closed;       /* the end has been complained about */
    qn_setup *arena;   /* of the present record */
    qn_setup *columns; /* tables: the names */
    int n_columns;
    const char **column;
};

qn_status qni_records_fail_at(const qn_records *r, int64_t offset, qn_status s,
                              const char *text) QN_CHECKED;
void qni_records_begin(qn_records *r, int64_t offset);

/* records_table.c */
qn_status qni_records_header(qn_records *r) QN_CHECKED;
qn_status qni_records_next_row(qn_records *r, const cJSON **record) QN_CHECKED;

#endif
