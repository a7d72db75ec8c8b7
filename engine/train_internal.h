/* train_internal.h — what the loop in train.c and its reports in train_report.c share. */
#ifndef QN_TRAIN_INTERNAL_H
#define QN_TRAIN_INTERNAL_H

#include "engine/train.h"

typedef struct qni_window { /* what the perf/ figures of the next log line are measured over */
    double start, waited;
    int64_t steps, tokens;
    int64_t submitted; /* steps that began in it: without one it tells no speed */
} qni_window;

qn_record qni_record_new(const qn_trainer *t); /* of the present step */
void qni_emit(const qn_trainer *t, qn_event event, const qn_record *r, const char *text);
void qni_note(const qn_trainer *t, const char *text);
qni_window qni_window_open(const qn_trainer *t);
/* Progress of every step; a record, and a new window, on the log's period. */
void qni_report_step(const qn_trainer *t, const qn_step_report *step, qni_window *w);
/* The record of the end carries the summary of what this process did since `whole` opened. */
void qni_report_end(const qn_trainer *t, const qni_window *whole, qn_status status,
                    const char *reason);

#endif
