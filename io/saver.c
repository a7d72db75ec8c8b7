/* saver.c — the loop's saver: checkpoints of a session through a writer, and resuming from them. */
#include "io/saver.h"

#include "io/run_dir.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct saver {
    qn_saver_options o;
    qn_build *b;
    qn_setup *arena;
    qn_state_tensors tensors; /* the session's */
    qn_state_tensors here;    /* where the host sees them: themselves, or in the snapshot */
    qn_writer *writer;
    qn_arena *snapshot;
    char *metadata;
    int64_t step;    /* of the record notices carry */
    qn_error failed; /* the last save, if it failed */
} saver;

static void tell(const saver *s, qn_event event, const char *text) {
    qn_record r = {.step = s->step};
    for (int i = 0; i < *s->o.n_notices; i++)
        s->o.notices[i].emit(s->o.notices[i].self, event, &r, text);
}

/* Takes the outcome of the last save, if there is one, and tells people. */
static void take_result(saver *s, bool wait) {
    qn_saved r;
    if (!qn_writer_result(s->writer, wait, &r)) return;
    s->failed = r.announced ? (qn_error){0} : r.error;
    if (r.announced) tell(s, QN_EVENT_CHECKPOINT, r.path);
    if (r.error.status != QN_OK) {
        char text[QN_MESSAGE_MAX + 64];
        snprintf(text, sizeof text, "%s: %s",
                 r.announced ? "old checkpoints were not tidied up"
                             : "a checkpoint could not be saved, training goes on",
                 r.error.message);
        tell(s, QN_EVENT_NOTE, text);
    }
}

static qn_status save(void *self, const qn_session *session, const qn_progress *p,
                      const qn_stopper *st) {
    saver *s = self;
    (void)session;
    take_result(s, true);
    s->step = p->step;
    char *state;
    QN_TRY(qn_progress_write(p, st, &state));
    qn_checkpoint_info info = {.run_id = s->o.run_id,
                               .step = p->step,
                               .world_size = 1,
                               .state = state,
                               .metadata = s->metadata,
                               .build_id = QUERN_VERSION};
    qn_status status = qn_writer_submit(s->writer, &info, p->improvements > 0 ? p->best_step : -1);
    qn_free(state);
    if (status != QN_OK) {
        char text[QN_MESSAGE_MAX + 64];
        qn_error_get(status, &s->failed);
        snprintf(text, sizeof text, "a checkpoint could not be saved, training goes on: %s",
                 s->failed.message);
        tell(s, QN_EVENT_NOTE, text);
    } else {
        take_result(s, false);
    }
    return QN_OK;
}

/* Nobody else is inside HDF5, nor in need of the snapshot, once the last save has ended. */
static qn_status load(saver *s, char *warning, size_t size, qn_checkpoint **c) {
    take_result(s, true);
    QN_TRY(qn_checkpoint_resume(s->o.run_dir, s->o.run_id, s->here.model, s->here.n_model,
                                s->here.state, s->here.n_state, warning, size, c));
    qn_status status = *c ? qn_state_tensors_copy(s->b->session, &s->tensors, &s->here) : QN_OK;
    if (status != QN_OK) qn_checkpoint_close(*c);
    return status;
}

static qn_status load_last(void *self, qn_session *session, qn_progress *p, qn_stopper *st) {
    saver *s = self;
    (void)session;
    char warning[QN_MESSAGE_MAX];
    qn_checkpoint *c = NULL;
    QN_TRY(load(s, warning, sizeof warning, &c));
    if (!c)
        return qn_fail(QN_ERR_NONFINITE, "nothing to roll back to: no checkpoint was saved yet");
    if (*warning) tell(s, QN_EVENT_NOTE, warning);
    qn_status status = qn_progress_read(qn_checkpoint_get_info(c)->state, p, st);
    qn_checkpoint_close(c);
    return status;
}

static void poll(void *self) { take_result(self, false); }

static qn_status finish(void *self) {
    saver *s = self;
    take_result(s, true);
    return s->failed.status == QN_OK ? QN_OK : qn_error_raise(&s->failed);
}

qn_status qn_saver_create(const qn_saver_options *o, qn_build *b, qn_saver *out) {
    saver *s = qn_alloc(sizeof *s, "the saver");
    if (!s) return QN_ERR_OOM;
    *s = (saver){.o = *o, .b = b};
    qn_status status;
    QN_TRY_GOTO(qn_setup_create("checkpoint tensors", &s->arena));
    QN_TRY_GOTO(qn_state_tensors_list(b->session, s->arena, &s->tensors));
    QN_TRY_GOTO(qn_metadata_write(b, &s->metadata));
    qn_writer_options w = {.run_dir = o->run_dir,
                           .keep = o->keep,
                           .model = s->tensors.model,
                           .n_model = s->tensors.n_model,
                           .state = s->tensors.state,
                           .n_state = s->tensors.n_state,
                           .device = b->session->o.device,
                           .foreground = !o->background};
    if (o->background || qn_device_get(w.device)->separate) {
        w.snapshot_bytes = qn_writer_snapshot_bytes(w.model, w.n_model, w.state, w.n_state);
        QN_TRY_GOTO(qn_arena_create("checkpoint snapshot", w.snapshot_bytes, &s->snapshot));
        w.snapshot = qn_arena_base(s->snapshot);
    }
    QN_TRY_GOTO(qn_state_tensors_here(b->session, &s->tensors, s->arena, &s->snapshot, &s->here));
    QN_TRY_GOTO(qn_writer_create(&w, &s->writer));
done:
    *out =
        (qn_saver){.self = s, .save = save, .load_last = load_last, .poll = poll, .finish = finish};
    if (status != QN_OK) qn_saver_free(out);
    return status;
}

void qn_saver_free(qn_saver *out) {
    saver *s = out->self;
    if (!s) return;
    if (s->writer) (void)!qn_writer_finish(s->writer);
    qn_arena_free(s->snapshot);
    qn_setup_free(s->arena);
    qn_free(s->metadata);
    qn_free(s);
    *out = (qn_saver){0};
}

/* ---- resuming -------------------------------------------------------------------------------- */

static qn_status compare(const qn_build *b, const char *metadata, char **changes) {
    qn_metadata m;
    QN_TRY(qn_metadata_read(metadata, &m));
    qn_config *before = NULL;
    char *diagnostics = NULL;
    qn_config_changes diff = {0};
    qn_status status = QN_OK;
    if (m.data_identity != b->source.identity) {
        status = qn_fail(QN_ERR_CONFIG,
                         "the data is not what this run was trained on (identity %016" PRIx64
                         ", the checkpoint has %016" PRIx64
                         "); model.init_from starts a new run from old weights",
                         b->source.identity, m.data_identity);
    }
    if (status == QN_OK) status = qn_pretrained_check(b, b->session->params, m.pretrained_digest);
    if (status == QN_OK) {
        status = qn_config_load_text("the checkpoint's configuration", m.config, strlen(m.config),
                                     NULL, NULL, 0, &before, &diagnostics);
    }
    if (status == QN_OK) status = qn_config_diff(before, b->config, &diff);
    if (status == QN_OK && diff.refused > 0) {
        status = qn_fail(QN_ERR_CONFIG, "these keys may not change when a run is resumed:\n%s",
                         diff.text);
    }
    if (status == QN_OK && changes) {
        *changes = diff.text;
        diff.text = NULL;
    }
    qn_free(diff.text);
    qn_free(diagnostics);
    qn_config_free(before);
    qn_metadata_free(&m);
    return status;
}

qn_status qn_saver_resume(qn_saver *out, qn_build *b, qn_progress *p, bool *found, char *warning,
                          size_t size, char **changes) {
    saver *s = out->self;
    qn_checkpoint *c = NULL;
    *found = false;
    *changes = NULL;
    /* The texts first: a changed model should be told as a changed key, not as tensors that
     * differ. */
    QN_TRY(qn_checkpoint_find(s->o.run_dir, s->o.run_id, INT64_MAX, QN_CHECKPOINT_ALL, warning,
                              size, &c));
    if (!c) return QN_OK;
    qn_status status = compare(b, qn_checkpoint_get_info(c)->metadata, changes);
    qn_checkpoint_close(c);
    c = NULL;
    if (status == QN_OK) status = load(s, warning, size, &c);
    if (status == QN_OK && c) {
        status = qn_progress_read(qn_checkpoint_get_info(c)->state, p,
                                  b->early_stopping ? &b->stopper : NULL);
        *found = status == QN_OK;
    }
    qn_checkpoint_close(c);
    if (status != QN_OK) {
        qn_free(*changes);
        *changes = NULL;
    }
    return status;
}
