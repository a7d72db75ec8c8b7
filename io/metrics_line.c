/* metrics_line.c — one line about a step, an evaluation, a checkpoint, in words and figures. */
#include "io/metrics_line.h"

#include <math.h>
#include <string.h>
#include <time.h>

double qni_wall_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- pace ------------------------------------------------------------------------------------ */

void qni_pace_init(qni_pace *p, const qn_log_options *o) {
    double none = (double)NAN;
    *p = (qni_pace){.train_loss = none, .eval_loss = none, .rate = none, .grad_norm = none};
    p->speed = none;
    if (o) p->o = *o;
    if (!p->o.clock) p->o.clock = qn_clock;
    if (!p->o.wall) p->o.wall = qni_wall_clock;
}

void qni_pace_update(qni_pace *p, const qn_record *r) {
    if (!r) return;
    p->step = r->step;
    if (r->n == 0) return; /* a note: it tells the step only */
    if (!p->started) {
        p->started = true;
        p->first_step = r->step;
        p->first_time = p->o.clock();
    }
    p->epoch = r->epoch;
    for (int i = 0; i < r->n; i++) {
        const char *key = r->metric[i].key;
        double v = r->metric[i].value;
        if (strcmp(key, "train/loss") == 0) {
            p->train_loss = v;
            p->has_train_loss = true;
        } else if (strcmp(key, "eval/loss") == 0) {
            p->eval_loss = v;
        } else if (strcmp(key, "train/learning_rate") == 0) {
            p->rate = v;
        } else if (strcmp(key, "train/grad_norm") == 0) {
            p->grad_norm = v;
            p->has_grad_norm = true;
        } else if (strcmp(key, "perf/tokens_per_second") == 0) {
            p->speed = v;
            p->speed_unit = " tok/s";
        } else if (strcmp(key, "perf/samples_per_second") == 0) {
            p->speed = v;
            p->speed_unit = " samples/s";
        }
    }
}

double qni_pace_seconds_left(const qni_pace *p) {
    int64_t done = p->step - p->first_step, left = p->o.total_steps - p->step;
    if (!p->started || done <= 0 || left < 0) return (double)NAN;
    return (p->o.clock() - p->first_time) / (double)done * (double)left;
}

/* ---- figures --------------------------------------------------------------------------------- */

void qni_line_duration(qn_text *t, double seconds) {
    if (!(seconds >= 0) || seconds > 1e10) {
        qn_text_add(t, "unknown");
        return;
    }
    long long s = llround(seconds);
    if (s >= 86400) qn_text_printf(t, "%lldd ", s / 86400);
    if (s >= 86400) {
        qn_text_printf(t, "%02lld:%02lld:%02lld", s / 3600 % 24, s / 60 % 60, s % 60);
    } else if (s >= 3600) {
        qn_text_printf(t, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    } else {
        qn_text_printf(t, "%lld:%02lld", s / 60, s % 60);
    }
}

void qni_line_count(qn_text *t, double n) {
    if (fabs(n) < 999.5) {
        qni_text_printf(t, "%.0f", n);
    } else if (fabs(n) < 999950) {
        qni_text_printf(t, "%.1fk", n / 1e3);
    } else if (fabs(n) < 999.995e6) {
        qni_text_printf(t, "%.2fM", n / 1e6);
    } else {
        qni_text_printf(t, "%.2fG", n / 1e9);
    }
}

void qni_line_number(qn_text *t, double v) {
    if (!isfinite(v)) {
        qn_text_add(t, isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
    } else if (v != 0 && (fabs(v) < 1e-3 || fabs(v) >= 1e6)) {
        qni_text_printf(t, "%.3e", v);
    } else {
        qni_text_printf(t, "%.4f", v);
    }
}

/* ---- parts of the progress line -------------------------------------------------------------- */

static void part_epoch(qn_text *t, const qni_pace *p) {
    if (p->o.total_epochs > 0) {
        int64_t epoch = (int64_t)p->epoch + 1;
        if (epoch > p->o.total_epochs) epoch = p->o.total_epochs;
        qn_text_printf(t, "epoch %lld/%lld", (long long)epoch, (long long)p->o.total_epochs);
    } else if (p->epoch > 0) {
        qni_text_printf(t, "epoch %.2f", p->epoch);
    }
}

static void part_step(qn_text *t, const qni_pace *p) {
    if (p->o.total_steps > 0) {
        qn_text_printf(t, "%lld/%lld", (long long)p->step, (long long)p->o.total_steps);
    } else {
        qn_text_printf(t, "step %lld", (long long)p->step);
    }
}

void qni_line_part(qn_text *t, const qni_pace *p, qni_part part) {
    double left;
    switch (part) {
    case QNI_PART_EPOCH: part_epoch(t, p); break;
    case QNI_PART_STEP: part_step(t, p); break;
    case QNI_PART_PERCENT:
        if (p->o.total_steps > 0) {
            qn_text_printf(t, "%3d%%", (int)(100.0 * (double)p->step / (double)p->o.total_steps));
        }
        break;
    case QNI_PART_LOSS:
        if (!p->has_train_loss) break;
        qn_text_add(t, "loss ");
        qni_line_number(t, p->train_loss);
        break;
    case QNI_PART_VAL:
        if (isnan(p->eval_loss)) break;
        qn_text_add(t, "val ");
        qni_line_number(t, p->eval_loss);
        break;
    case QNI_PART_RATE:
        if (!isnan(p->rate)) qni_text_printf(t, "lr %.1e", p->rate);
        break;
    case QNI_PART_NORM:
        if (p->has_grad_norm) qni_text_printf(t, "|g| %.2f", p->grad_norm);
        break;
    case QNI_PART_SPEED:
        if (!(p->speed > 0)) break;
        qni_line_count(t, p->speed);
        qn_text_add(t, p->speed_unit);
        break;
    case QNI_PART_ETA:
        left = qni_pace_seconds_left(p);
        if (isnan(left)) break;
        qn_text_add(t, "ETA ");
        qni_line_duration(t, left);
        break;
    case QNI_PART_BAR:
    case QNI_PART_COUNT: break;
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

static void words_train(qn_text *t, const qni_pace *p) {
    static const qni_part parts[] = {QNI_PART_EPOCH, QNI_PART_LOSS,  QNI_PART_RATE,
                                     QNI_PART_NORM,  QNI_PART_SPEED, QNI_PART_ETA};
    qn_text_add(t, p->o.total_steps > 0 ? "step " : "");
    part_step(t, p);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        size_t before = t->length;
        qn_text_add(t, "  ");
        qni_line_part(t, p, parts[i]);
        if (t->status == QN_OK && t->length == before + 2) { /* nothing to say: take the gap back */
            t->length = before;
            t->data[before] = '\0';
        }
    }
}

static void words_eval(qn_text *t, const qn_record *r) {
    qn_text_printf(t, "eval at step %lld", r ? (long long)r->step : 0LL);
    for (int i = 0; r && i < r->n; i++) {
        const char *key = r->metric[i].key;
        if (strncmp(key, "eval/", 5) != 0) continue;
        qn_text_printf(t, "  %s ", key + 5);
        qni_line_number(t, r->metric[i].value);
    }
}

void qni_line_event(qn_text *t, const qni_pace *p, qn_event event, const qn_record *r,
                    const char *text) {
    switch (event) {
    case QN_EVENT_TRAIN: words_train(t, p); break;
    case QN_EVENT_EVAL: words_eval(t, r); break;
    case QN_EVENT_CHECKPOINT: qn_text_add(t, "saved "); break;
    case QN_EVENT_NOTE: break;
    case QN_EVENT_END:
        qn_text_printf(t, "end at step %lld: ", r ? (long long)r->step : (long long)p->step);
        break;
    }
    if (text && event != QN_EVENT_TRAIN && event != QN_EVENT_EVAL) qni_text_line(t, text);
}

void qni_line_plain(qn_text *t, const qni_pace *p, qn_event event, const qn_record *r,
                    const char *text) {
    time_t now = (time_t)p->o.wall();
    struct tm utc;
    char stamp[32] = "";
    if (gmtime_r(&now, &utc)) strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ  ", &utc);
    qn_text_add(t, stamp);
    qni_line_event(t, p, event, r, text);
    qn_text_add(t, "\n");
}
