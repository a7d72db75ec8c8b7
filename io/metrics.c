/* metrics.c — the sinks train.log and metrics.jsonl, and the summary of a finished run. */
#include "io/metrics.h"

#include "io/metrics_file.h"
#include "io/metrics_line.h"

#include <math.h>
#include <string.h>

typedef struct file_sink {
    qni_rows file;
    qni_pace pace;
    qn_text row; /* reused: a steady run allocates nothing here */
} file_sink;

static void sink_free(void *self) {
    file_sink *s = self;
    if (!s) return;
    qni_rows_close(&s->file);
    qn_text_free(&s->row);
    qn_free(s);
}

static qn_status sink_create(const char *path, const qn_log_options *o, const qn_sink *notices,
                             void (*emit)(void *, qn_event, const qn_record *, const char *),
                             qn_sink *out) {
    file_sink *s = qn_alloc(sizeof *s, "a log sink");
    if (!s) return QN_ERR_OOM;
    qn_status status = qni_rows_open(path, true, notices, &s->file);
    if (status != QN_OK) {
        qn_free(s);
        return status;
    }
    qni_pace_init(&s->pace, o);
    *out = (qn_sink){.self = s, .emit = emit, .free = sink_free};
    return QN_OK;
}

static void write_row(file_sink *s, const qn_record *r) {
    if (r) s->pace.step = r->step;
    qni_rows_write(&s->file, &s->row, s->pace.step);
}

/* ---- train.log ------------------------------------------------------------------------------- */

static void log_emit(void *self, qn_event event, const qn_record *r, const char *text) {
    file_sink *s = self;
    qni_pace_update(&s->pace, r);
    qni_text_clear(&s->row);
    qni_line_plain(&s->row, &s->pace, event, r, text);
    write_row(s, r);
}

qn_status qn_sink_log(const char *path, const qn_log_options *o, const qn_sink *notices,
                      qn_sink *out) {
    return sink_create(path, o, notices, log_emit, out);
}

/* ---- metrics.jsonl --------------------------------------------------------------------------- */

static void jsonl_emit(void *self, qn_event event, const qn_record *r, const char *text) {
    static const char *const text_key[] = {
        [QN_EVENT_CHECKPOINT] = "checkpoint", [QN_EVENT_NOTE] = "note", [QN_EVENT_END] = "end"};
    file_sink *s = self;
    qn_text *row = &s->row;
    qni_text_clear(row);
    qn_text_printf(row, "{\"step\":%lld", (long long)(r ? r->step : s->pace.step));
    if (event == QN_EVENT_CHECKPOINT || event == QN_EVENT_NOTE || event == QN_EVENT_END) {
        qn_text_printf(row, ",\"%s\":", text_key[event]);
        qni_text_json(row, text ? text : "");
    }
    if (r && r->n > 0) {
        qn_text_add(row, ",\"epoch\":");
        qn_text_json_number(row, r->epoch);
    }
    for (int i = 0; r && i < r->n; i++) {
        qn_text_add(row, ",");
        qni_text_json(row, r->metric[i].key);
        qn_text_add(row, ":");
        qn_text_json_number(row, r->metric[i].value);
    }
    qn_text_add(row, "}\n");
    write_row(s, r);
}

qn_status qn_sink_jsonl(const char *path, const qn_sink *notices, qn_sink *out) {
    return sink_create(path, NULL, notices, jsonl_emit, out);
}

/* ---- summary --------------------------------------------------------------------------------- */

char *qn_summary_text(const qn_record *end, const char *report_path) {
    const double none = (double)NAN;
    double best_step = qn_record_get(end, "summary/best_step", none);
    double best = qn_record_get(end, "summary/best_value", none);
    double wall = qn_record_get(end, "summary/wall_s", none);
    double tokens = qn_record_get(end, "summary/tokens", none), samples = none;
    double speed = qn_record_get(end, "summary/tokens_per_second", none);
    if (isnan(tokens)) { /* models that do not read tokens count samples */
        samples = qn_record_get(end, "summary/samples", none);
        speed = qn_record_get(end, "summary/samples_per_second", none);
    }
    double waiting = qn_record_get(end, "summary/data_wait_pct", none);
    double skipped = qn_record_get(end, "summary/skipped_steps", none);
    qn_text t = {0};
    if (isfinite(best)) {
        qn_text_add(&t, "  best       ");
        qni_line_number(&t, best);
        if (isfinite(best_step)) qni_text_printf(&t, " at step %.0f", best_step);
        qn_text_add(&t, "\n");
    }
    if (isfinite(wall)) {
        qn_text_add(&t, "  wall time  ");
        qni_line_duration(&t, wall);
        qn_text_add(&t, "\n");
    }
    if (isfinite(tokens) || isfinite(samples)) {
        qn_text_add(&t, isfinite(tokens) ? "  tokens     " : "  samples    ");
        qni_line_count(&t, isfinite(tokens) ? tokens : samples);
        if (isfinite(speed)) {
            qn_text_add(&t, ", mean ");
            qni_line_count(&t, speed);
            qn_text_add(&t, isfinite(tokens) ? " tok/s" : " samples/s");
        }
        qn_text_add(&t, "\n");
    }
    if (isfinite(waiting)) qni_text_printf(&t, "  data wait  %.1f%% of the time\n", waiting);
    if (skipped > 0) qni_text_printf(&t, "  skipped    %.0f steps\n", skipped);
    if (report_path) {
        qn_text_add(&t, "  report     ");
        qni_text_utf8(&t, report_path);
        qn_text_add(&t, "\n");
    }
    char *text = NULL;
    return qn_text_take(&t, &text) == QN_OK ? text : NULL;
}
