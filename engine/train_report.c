/* train_report.c — what the training loop tells its sinks. */
#include "engine/train_internal.h"

qn_record qni_record_new(const qn_trainer *t) {
    const qn_session *s = t->session;
    double samples = (double)t->progress.step * (double)(s->o.batch_size * s->o.accumulate);
    return (qn_record){.step = t->progress.step,
                       .epoch = samples / (double)t->source->n[QN_SPLIT_TRAIN]};
}

void qni_emit(const qn_trainer *t, qn_event event, const qn_record *r, const char *text) {
    for (int i = 0; i < t->n_sinks; i++) t->sink[i].emit(t->sink[i].self, event, r, text);
}

void qni_note(const qn_trainer *t, const char *text) {
    qn_record r = qni_record_new(t);
    qni_emit(t, QN_EVENT_NOTE, &r, text);
}

static double waited(const qn_trainer *t) {
    return t->source->wait_seconds ? t->source->wait_seconds(t->source->self) : 0.0;
}

qni_window qni_window_open(const qn_trainer *t) {
    return (qni_window){.start = qn_clock(), .waited = waited(t)};
}

void qni_report_step(const qn_trainer *t, const qn_step_report *step, qni_window *w) {
    qn_record r = qni_record_new(t);
    double seconds = qn_clock() - w->start;
    qn_record_add(&r, "train/loss", step->loss);
    qn_record_add(&r, "train/learning_rate", step->lr);
    qn_record_add(&r, "train/grad_norm", step->grad_norm);
    bool tokens = t->session->objective->perplexity; /* otherwise a target is a sample */
    qn_record_add(&r, tokens ? "train/tokens" : "train/samples", (double)t->progress.tokens);
    if (seconds > 0 && w->submitted > 0) {
        qn_record_add(&r, tokens ? "perf/tokens_per_second" : "perf/samples_per_second",
                      (double)w->tokens / seconds);
        qn_record_add(&r, "perf/step_ms", 1e3 * seconds / (double)w->steps);
        qn_record_add(&r, "perf/data_wait_pct", 100.0 * (waited(t) - w->waited) / seconds);
    }
    for (int i = 0; i < t->n_sinks; i++) {
        if (t->sink[i].progress) t->sink[i].progress(t->sink[i].self, &r);
    }
    bool last = t->progress.step == t->max_steps;
    if (t->log_every > 0 && (t->progress.step % t->log_every == 0 || last)) {
        qni_emit(t, QN_EVENT_TRAIN, &r, NULL);
        *w = qni_window_open(t);
    }
}

/* The record of the end carries the summary of what this process did. */
void qni_report_end(const qn_trainer *t, const qni_window *whole, qn_status status,
                    const char *reason) {
    qn_record r = qni_record_new(t);
    double seconds = qn_clock() - whole->start;
    double count = (double)(t->progress.tokens - whole->tokens);
    bool tokens = t->session->objective->perplexity; /* otherwise a target is a sample */
    if (t->progress.improvements > 0) {
        qn_record_add(&r, "summary/best_step", (double)t->progress.best_step);
        qn_record_add(&r, "summary/best_value", t->progress.best_value);
    }
    qn_record_add(&r, "summary/wall_s", seconds);
    qn_record_add(&r, tokens ? "summary/tokens" : "summary/samples", count);
    if (seconds > 0) {
        qn_record_add(&r, tokens ? "summary/tokens_per_second" : "summary/samples_per_second",
                      count / seconds);
        qn_record_add(&r, "summary/data_wait_pct", 100.0 * (waited(t) - whole->waited) / seconds);
    }
    qn_record_add(&r, "summary/skipped_steps", (double)t->progress.skipped);
    qn_record_add(&r, "summary/exit_code", qn_status_exit_code(status));
    qni_emit(t, QN_EVENT_END, &r, reason);
}
