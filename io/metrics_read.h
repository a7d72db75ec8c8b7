/* metrics_read.h — reads back what a run wrote: metrics.jsonl as series, JSON files as flat facts.
 */
#ifndef QN_METRICS_READ_H
#define QN_METRICS_READ_H

#include "engine/engine.h"

/* ---- facts: a JSON text as dotted keys ------------------------------------------------------- */

typedef enum qni_fact_kind { QNI_FACT_TEXT, QNI_FACT_NUMBER, QNI_FACT_BOOL } qni_fact_kind;

typedef struct qni_fact {
    const char *key;  /* "optimizer.groups.0.lr" */
    const char *text; /* a string's characters; otherwise the value as JSON */
    qni_fact_kind kind;
    double number; /* of a number; 0 or 1 of a bool */
} qni_fact;

typedef struct qni_facts {
    qni_fact *fact;
    int n;
} qni_facts;

/* Lists the scalars of a JSON object in order. null is left out; an array of scalars is one fact of
 * its JSON text; objects and arrays of objects are walked. Everything lives in the arena. */
qn_status qni_facts_parse(qn_setup *arena, const char *name, const char *json, size_t length,
                          qni_facts *out) QN_CHECKED;
const qni_fact *qni_facts_find(const qni_facts *f, const char *key); /* NULL if absent */

/* ---- history: metrics.jsonl as series -------------------------------------------------------- */

typedef struct qni_series { /* steps strictly increase; values may be non-finite */
    const char *key;
    int64_t n, capacity;
    int64_t *step;
    double *value;
} qni_series;

typedef struct qni_note {
    int64_t step;
    const char *text;
} qni_note;

typedef struct qni_history {
    qn_setup *arena;
    qni_series *series;
    int n_series, series_capacity;
    qni_note *note;
    int n_notes, note_capacity;
    const char *end; /* reason the run ended, NULL if it did not say */
    int64_t last_step, rows;
    int64_t bad_rows; /* rows that are no JSON object with a step: skipped */
} qni_history;

/* A row that steps back (a run resumed from an earlier step) replaces the points from there on. The
 * caller frees, also after a failure. */
qn_status qni_history_load(const char *path, qni_history *out) QN_CHECKED;
/* Adds a note at the end, as if the run had written it. */
qn_status qni_history_note(qni_history *h, int64_t step, const char *text) QN_CHECKED;
void qni_history_free(qni_history *h);
const qni_series *qni_history_find(const qni_history *h, const char *key); /* NULL if absent */
double qni_series_last(const qni_series *s); /* NaN for NULL or none */

#endif
