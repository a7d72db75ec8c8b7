/* checkpoint_writer.c — the thread that saves checkpoints from a snapshot. */
#include "io/checkpoint_writer.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { SNAPSHOT_ALIGN = 64 };

typedef enum phase {
    IDLE,    /* nothing to do, nothing to report */
    SAVING,  /* the snapshot belongs to the thread */
    RESULT,  /* saved holds what nobody has taken yet */
    LEAVING, /* the thread is to end */
} phase;

struct qn_writer {
    char run_dir[QN_PATH_MAX];
    int keep, n_model, n_state;
    const qn_named *live;   /* model's, then state's */
    const qn_named *source; /* what a save reads: live, or copies in the snapshot */
    qn_device device;
    qn_checkpoint_info info;
    int64_t best_step;
    qn_saved saved;
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t lock; /* of phase and of everything a phase hands over */
    pthread_cond_t changed;
    phase phase;
};

static size_t snapshot_bytes_of(const qn_tensor *t) {
    return (qn_tensor_bytes(t) + SNAPSHOT_ALIGN - 1) / SNAPSHOT_ALIGN * SNAPSHOT_ALIGN;
}

size_t qn_writer_snapshot_bytes(const qn_named *model, int n_model, const qn_named *state,
                                int n_state) {
    size_t bytes = 0;
    for (int i = 0; i < n_model; i++) bytes += snapshot_bytes_of(&model[i].t);
    for (int i = 0; i < n_state; i++) bytes += snapshot_bytes_of(&state[i].t);
    return bytes;
}

void *qn_writer_copies(const qn_named *live, int n, void *snapshot, qn_named *copies) {
    char *place = snapshot;
    for (int i = 0; i < n; i++) {
        copies[i] = live[i];
        copies[i].t.data = place;
        place += snapshot_bytes_of(&live[i].t);
    }
    return place;
}

/* ---- one save -------------------------------------------------------------------------------- */

static qn_status tidy(const qn_writer *w) {
    if (w->best_step >= 0) QN_TRY(qn_checkpoint_mark_best(w->run_dir, w->best_step));
    if (w->keep == 0) return QN_OK;
    return qn_checkpoint_retain(w->run_dir, w->keep, &w->best_step, w->best_step >= 0);
}

static void save(qn_writer *w) {
    qn_saved *s = &w->saved;
    s->step = w->info.step;
    s->error.message[0] = '\0';
    qn_status status =
        qn_checkpoint_save(w->run_dir, &w->info, w->source, w->n_model, w->source + w->n_model,
                           w->n_state, s->path, sizeof s->path);
    s->announced = status == QN_OK;
    if (s->announced) status = tidy(w);
    s->error.status = status;
    if (status != QN_OK) qn_error_get(status, &s->error);
}

static void *writer_main(void *argument) {
    qn_writer *w = argument;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->phase != SAVING && w->phase != LEAVING) pthread_cond_wait(&w->changed, &w->lock);
        if (w->phase == LEAVING) break;
        pthread_mutex_unlock(&w->lock);
        save(w);
        pthread_mutex_lock(&w->lock);
        w->phase = RESULT;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- texts of a save ------------------------------------------------------------------------- */

static void drop_texts(qn_checkpoint_info *i) {
    const char *texts[] = {i->run_id, i->state, i->metadata, i->config_digest, i->build_id};
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++)
        qn_free((void *)(uintptr_t)texts[k]);
    *i = (qn_checkpoint_info){0};
}

static qn_status copy_text(const char **to, const char *from) {
    *to = qn_strdup(from ? from : "", "checkpoint text");
    return *to ? QN_OK : QN_ERR_OOM;
}

static qn_status copy_info(qn_checkpoint_info *to, const qn_checkpoint_info *from) {
    drop_texts(to);
    to->step = from->step;
    to->world_size = from->world_size;
    QN_TRY(copy_text(&to->run_id, from->run_id));
    QN_TRY(copy_text(&to->state, from->state));
    QN_TRY(copy_text(&to->metadata, from->metadata));
    QN_TRY(copy_text(&to->config_digest, from->config_digest));
    return copy_text(&to->build_id, from->build_id);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void destroy(qn_writer *w) {
    if (w->source != w->live) qn_free((void *)(uintptr_t)w->source);
    qn_free((void *)(uintptr_t)w->live);
    drop_texts(&w->info);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    qn_free(w);
}

/* Lists of live tensors and of their places in the snapshot. */
static qn_status lay_out(qn_writer *w, const qn_writer_options *o) {
    const size_t n = (size_t)o->n_model + (size_t)o->n_state;
    qn_named *live = qn_alloc(n * sizeof *live, "checkpoint tensors");
    if (!live) return QN_ERR_OOM;
    if (o->n_model) memcpy(live, o->model, (size_t)o->n_model * sizeof *live);
    if (o->n_state) memcpy(live + o->n_model, o->state, (size_t)o->n_state * sizeof *live);
    w->live = w->source = live;
    w->n_model = o->n_model;
    w->n_state = o->n_state;
    w->device = o->device;
    if (!o->snapshot) return QN_OK;
    size_t need = qn_writer_snapshot_bytes(o->model, o->n_model, o->state, o->n_state);
    if (o->snapshot_bytes < need) {
        return qn_fail(QN_ERR_INTERNAL, "checkpoint snapshot: found %zu bytes, expected %zu",
                       o->snapshot_bytes, need);
    }
    qn_named *copy = qn_alloc(n * sizeof *copy, "checkpoint tensors");
    if (!copy) return QN_ERR_OOM;
    w->source = copy;
    (void)qn_writer_copies(live, (int)n, o->snapshot, copy);
    return QN_OK;
}

/* Signals are the business of the thread that trains. */
static qn_status start_thread(qn_writer *w) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int error = pthread_create(&w->thread, NULL, writer_main, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error) return qn_fail(QN_ERR_OOM, "checkpoint writer: no thread (error %d)", error);
    w->has_thread = true;
    return QN_OK;
}

qn_status qn_writer_create(const qn_writer_options *o, qn_writer **out) {
    qn_status status = QN_OK;
    if (o->keep < 0) return qn_fail(QN_ERR_INTERNAL, "checkpoint writer: keep is %d", o->keep);
    qn_writer *w = qn_alloc(sizeof *w, "checkpoint writer");
    if (!w) return QN_ERR_OOM;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->keep = o->keep;
    QN_TRY_GOTO(qn_path_format(w->run_dir, sizeof w->run_dir, "%s", o->run_dir));
    QN_TRY_GOTO(lay_out(w, o));
    if (o->snapshot && !o->foreground) QN_TRY_GOTO(start_thread(w));
    *out = w;
    w = NULL;
done:
    if (w) destroy(w);
    return status;
}

bool qn_writer_result(qn_writer *w, bool wait, qn_saved *out) {
    pthread_mutex_lock(&w->lock);
    while (wait && w->phase == SAVING) pthread_cond_wait(&w->changed, &w->lock);
    bool have = w->phase == RESULT;
    if (have) {
        *out = w->saved;
        w->phase = IDLE;
    }
    pthread_mutex_unlock(&w->lock);
    return have;
}

/* Waits for a save in flight; the error of a result nobody took. */
static qn_status settle(qn_writer *w) {
    qn_saved s;
    if (!qn_writer_result(w, true, &s) || s.error.status == QN_OK) return QN_OK;
    return qn_error_raise(&s.error);
}

static qn_status take_snapshot(const qn_writer *w) {
    const qn_device_row *row = qn_device_get(w->device);
    for (int i = 0; i < w->n_model + w->n_state; i++) {
        const qn_tensor *t = &w->live[i].t;
        QN_TRY(row->copy(w->source[i].t.data, t->data, qn_tensor_bytes(t), NULL));
    }
    return row->synchronize(NULL);
}

qn_status qn_writer_submit(qn_writer *w, const qn_checkpoint_info *info, int64_t best_step) {
    QN_TRY(settle(w));
    QN_TRY(copy_info(&w->info, info));
    w->best_step = best_step;
    QN_TRY(take_snapshot(w));
    if (!w->has_thread) {
        save(w);
        w->phase = RESULT;
        return QN_OK;
    }
    pthread_mutex_lock(&w->lock);
    w->phase = SAVING;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return QN_OK;
}

qn_status qn_writer_finish(qn_writer *w) {
    if (!w) return QN_OK;
    qn_status status = settle(w);
    if (w->has_thread) {
        pthread_mutex_lock(&w->lock);
        w->phase = LEAVING;
        pthread_cond_broadcast(&w->changed);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    destroy(w);
    return status;
}
