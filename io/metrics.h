/* metrics.h — where a run's numbers go in text: train.log, metrics.jsonl and the summary at the
 * end.
 *
 * The console is in console.h, TensorBoard in tfevents.h, the report in report.h; all of them take
 * the same records. Keys users' dashboards rely on: train/loss, train/learning_rate,
 * train/grad_norm, train/tokens, eval/loss, eval/<metric>, perf/tokens_per_second, perf/step_ms,
 * perf/data_wait_pct. The record of QN_EVENT_END carries the summary:
 *
 *   summary/best_step  summary/best_value   step and value of the best evaluation
 *   summary/wall_s                          seconds this process trained
 *   summary/tokens     summary/tokens_per_second (samples for models that do not read tokens)
 *   summary/data_wait_pct                   share of the time spent waiting for data
 *   summary/skipped_steps
 *   summary/exit_code                       what the program ends with (qn_status_exit_code)
 *
 * Keys that are absent are left out of what is shown. Numbers are written with '.' in every locale.
 * File sinks never fail after they were made: see metrics_file.h for what a full disk does. A sink
 * belongs to one thread.
 */
#ifndef QN_METRICS_H
#define QN_METRICS_H

#include "engine/train.h"

typedef struct qn_log_options {
    int64_t total_steps;   /* 0 = not known: no percentage, no ETA */
    int64_t total_epochs;  /* 0 = not known */
    double (*clock)(void); /* monotonic seconds; NULL = qn_clock */
    double (*wall)(void);  /* seconds since 1970; NULL = the system's time */
} qn_log_options;

/* train.log: one plain line for each event, UTC time first. Appends. `notices` is told when output
 * is dropped; it may be NULL and must outlive the sink. */
qn_status qn_sink_log(const char *path, const qn_log_options *o, const qn_sink *notices,
                      qn_sink *out) QN_CHECKED;

/* metrics.jsonl: one JSON object for each event, one write(2) each. Appends; a torn last line is
 * cut off first. Rows are {"step":..,"epoch":..,"<key>":..}, {"step":..,"note":".."},
 * {"step":..,"checkpoint":".."} and {"step":..,"end":"..","<key>":..}. Numbers read back exactly;
 * non-finite ones are the strings "nan", "inf", "-inf". */
qn_status qn_sink_jsonl(const char *path, const qn_sink *notices, qn_sink *out) QN_CHECKED;

/* The lines printed when a run is over, from the record of its end. `report_path` may be NULL. The
 * text is qn_alloc'ed; NULL = out of memory. */
char *qn_summary_text(const qn_record *end, const char *report_path);

#endif
