/* train.c — the training loop. There is one; fine-tuning, search and many ranks all go through it.
 *
 *   - fetch every micro-batch of a step, so that N, the number of targets that count, is known
 *   - submit the step to the session; collect the outcome of the oldest one under way
 *   - log, evaluate and maybe stop early, save, and obey signals, each on its period
 *
 * A session may take the next step while one is under way (on a GPU), so the loop looks ahead:
 * nothing is submitted beyond a step after which the weights are looked at.
 *
 * What wants an `if` here becomes a layer, a schedule, a source, a stopper, a saver or a sink.
 */
#include "engine/train_internal.h"

#include <math.h>
#include <stdio.h>

/* ---- one step -------------------------------------------------------------------------------- */

static int64_t position(const qn_trainer *t, int64_t step) {
    const qn_session *s = t->session;
    return step * s->o.batch_size * s->o.accumulate + t->progress.data_offset;
}

static qn_status fetch_step(const qn_trainer *t, int64_t step, int64_t *labels) {
    const qn_session *s = t->session;
    int64_t at = position(t, step), batch = s->o.batch_size;
    *labels = 0;
    for (int64_t m = 0; m < s->o.accumulate; m++) {
        void *dst[QN_MAX_FIELDS];
        int64_t count = 0;
        for (int i = 0; i < t->source->n_fields; i++) {
            dst[i] = (char *)s->staging[i].data + (size_t)m * qn_tensor_bytes(&s->field[i]);
        }
        QN_TRY(
            t->source->fetch(t->source->self, QN_SPLIT_TRAIN, at + m * batch, batch, dst, &count));
        *labels += count;
    }
    bool more = t->source->expect && step + 1 < t->max_steps;
    for (int64_t m = 0; more && m < s->o.accumulate; m++) {
        t->source->expect(t->source->self, QN_SPLIT_TRAIN, position(t, step + 1) + m * batch,
                          batch);
    }
    return QN_OK;
}

static bool due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

/* May step `next` be submitted while the outcome of earlier ones is open? Not where the state
 * between them is evaluated or saved, nor when somebody wants to stop. */
static bool may_look_ahead(const qn_trainer *t, int64_t next) {
    bool wanted = t->interrupted && t->interrupted();
    return next < t->max_steps && !due(next, t->eval_every) && !due(next, t->save_every) && !wanted;
}

static qn_status submit_steps(const qn_trainer *t) {
    qn_session *s = t->session;
    while (qn_session_under_way(s) < s->n_lanes) {
        int64_t labels, step = t->progress.step + qn_session_under_way(s);
        if (qn_session_under_way(s) > 0 && !may_look_ahead(t, step)) break;
        QN_TRY(fetch_step(t, step, &labels));
        double lr = s->optimizer->lr * t->schedule->factor(t->schedule->self, step);
        QN_TRY(qn_session_submit(s, step, lr, labels));
    }
    return QN_OK;
}

typedef struct refusals { /* in a row: no step after the last of them has been applied */
    int64_t in_row, last;
} refusals;

/* The guard refused the step: say why, then skip it, roll back or stop, as configured. */
static qn_status refused_step(qn_trainer *t, const qn_step_report *r, refusals *f,
                              bool *rolled_back) {
    char cause[512], text[768];
    int64_t step = t->progress.step, size = t->session->o.batch_size * t->session->o.accumulate;
    QN_TRY(qn_session_explain(t->session, cause, sizeof cause));
    snprintf(text, sizeof text, "step %lld was not applied: loss %g, gradient norm %g; %s",
             (long long)step + 1, r->loss, r->grad_norm, cause);
    qni_note(t, text);
    f->last = step > f->last ? step : f->last;
    if (t->on_nonfinite == QN_NONFINITE_STOP || ++f->in_row > t->max_skips) {
        return qn_fail(QN_ERR_NONFINITE, "%s", text);
    }
    t->progress.skipped++;
    if (t->on_nonfinite != QN_NONFINITE_ROLLBACK || !t->saver)
        return qn_session_allow_updates(t->session);
    QN_TRY(qn_session_discard(t->session));
    QN_TRY(qn_session_allow_updates(t->session));
    qn_progress before = t->progress;
    QN_TRY(t->saver->load_last(t->saver->self, t->session, &t->progress, t->stopper));
    /* What has happened stays counted; the bad data is passed over. */
    t->progress.skipped = before.skipped;
    t->progress.rollbacks = before.rollbacks + 1;
    t->progress.data_offset = before.data_offset + (step + 1 - t->progress.step) * size;
    snprintf(text, sizeof text, "rolled back to step %lld, passing over the data since",
             (long long)t->progress.step);
    qni_note(t, text);
    *rolled_back = true;
    return QN_OK;
}

/* ---- evaluation and early stopping ----------------------------------------------------------- */

static qn_status evaluate(qn_trainer *t) {
    qn_record r = qni_record_new(t);
    QN_TRY(qn_session_evaluate(t->session, QN_SPLIT_VAL, t->eval_batches, &r));
    qni_emit(t, QN_EVENT_EVAL, &r, NULL);
    if (!t->stopper) return QN_OK;
    bool improved = false, stop = false;
    char text[256] = "";
    QN_TRY(t->stopper->observe(t->stopper->self, &r, &improved, &stop, text, sizeof text));
    if (improved) {
        t->progress.improvements++;
        t->progress.best_step = t->progress.step;
        t->progress.best_value = qn_record_get(&r, t->stopper->monitor, NAN);
        QN_TRY(qn_session_snapshot_best(t->session));
    }
    t->progress.stopped = stop;
    if (stop) qni_note(t, text);
    return QN_OK;
}

static qn_status save(qn_trainer *t) {
    return t->saver ? t->saver->save(t->saver->self, t->session, &t->progress, t->stopper) : QN_OK;
}

static bool finished(const qn_trainer *t) {
    return t->progress.stopped || t->progress.step >= t->max_steps;
}

/* The best weights go into memory and the export; checkpoints/last keeps the unrestored state. */
static qn_status restore_best(const qn_trainer *t) {
    if (!t->stopper || !t->stopper->restore_best || t->progress.improvements == 0) return QN_OK;
    if (t->progress.best_step == t->progress.step) return QN_OK;
    QN_TRY(qn_session_restore_best(t->session));
    char text[160];
    snprintf(text, sizeof text, "restored the best weights: %s %.6g at step %lld",
             t->stopper->monitor, t->progress.best_value, (long long)t->progress.best_step);
    qni_note(t, text);
    return QN_OK;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static qn_status one_step(qn_trainer *t, qni_window *w, refusals *f, bool *rolled_back) {
    qn_step_report r;
    int under_way = qn_session_under_way(t->session);
    QN_TRY(submit_steps(t));
    w->submitted += qn_session_under_way(t->session) - under_way;
    QN_TRY(qn_session_collect(t->session, &r));
    if (r.applied) {
        if (t->progress.step > f->last) f->in_row = 0;
    } else {
        QN_TRY(refused_step(t, &r, f, rolled_back));
        if (*rolled_back) return QN_OK;
    }
    t->progress.step++;
    t->progress.tokens += r.labels;
    w->steps++;
    w->tokens += r.labels;
    qni_report_step(t, &r, w);
    return QN_OK;
}

static qn_status run(qn_trainer *t) {
    refusals f = {.last = -1};
    if (t->eval_at_start && t->progress.step == 0) QN_TRY(evaluate(t));
    qni_window w = qni_window_open(t);
    while (!finished(t)) {
        bool rolled_back = false;
        QN_TRY(one_step(t, &w, &f, &rolled_back));
        if (rolled_back) continue; /* this step has been evaluated and saved */
        if (t->eval_every > 0 && (due(t->progress.step, t->eval_every) || finished(t))) {
            double began = qn_clock();
            QN_TRY(evaluate(t));
            w.start += qn_clock() - began; /* throughput counts training only */
        }
        if (t->saver && t->saver->poll) t->saver->poll(t->saver->self);
        if (qn_session_under_way(t->session) > 0) continue; /* nothing is due before it */
        int wanted = t->interrupted ? t->interrupted() : 0;
        if (due(t->progress.step, t->save_every) || wanted || finished(t)) {
            double began = qn_clock();
            QN_TRY(save(t));
            w.start += qn_clock() - began;
        }
        if (wanted && !finished(t)) {
            return qn_fail((qn_status)wanted, "interrupted after step %lld; state saved",
                           (long long)t->progress.step);
        }
    }
    return QN_OK;
}

qn_status qn_train(qn_trainer *t) {
    qni_window whole = qni_window_open(t);
    whole.tokens = t->progress.tokens;
    qn_status status = run(t);
    qn_error error;
    qn_error_get(status, &error);
    qn_status joined = t->saver ? t->saver->finish(t->saver->self) : QN_OK;
    bool interrupted = status == QN_ERR_INTERRUPTED || status == QN_ERR_REQUEUE;
    if (status == QN_OK) {
        status = restore_best(t);
        qn_error_get(status, &error);
    }
    if (joined != QN_OK && (status == QN_OK || interrupted)) {
        status = joined; /* the last state is not on disk: nothing may say it is */
    } else if (status != QN_OK) {
        (void)qn_error_raise(&error);
    }
    const char *done = t->progress.stopped ? "stopped early" : "done";
    qni_report_end(t, &whole, status, status == QN_OK ? done : qn_error_message());
    return status;
}
