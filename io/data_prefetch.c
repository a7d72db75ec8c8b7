/* data_prefetch.c — background loading: a source around a source.
 *
 * One thread prepares announced requests in order. A slot goes EMPTY -> QUEUED -> LOADING -> READY
 * and back to EMPTY when fetch has taken it or the loop turned out to want something else. The
 * wrapped source is called under its own lock, so it need not be safe for two threads.
 */
#include "io/data.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

typedef enum slot_state { EMPTY, QUEUED, LOADING, READY } slot_state;

typedef struct slot {
    slot_state state;
    bool unwanted;   /* LOADING: to be emptied as soon as it is done */
    uint64_t ticket; /* order of announcement */
    qn_split split;
    int64_t position, count;
    void *field[QN_MAX_FIELDS]; /* QN_MAX_FIELDS buffers of room samples */
    int64_t room;
    int64_t labels;
    qn_error error;
} slot;

typedef struct prefetch {
    qn_source inner;
    size_t sample_bytes[QN_MAX_FIELDS];
    pthread_t thread;
    pthread_mutex_t lock; /* everything below but the buffers of a LOADING slot */
    pthread_mutex_t inner_lock;
    pthread_cond_t changed;
    bool stop;
    uint64_t tickets;
    double waited;
    int depth;
    slot slot[];
} prefetch;

/* ---- the background thread ------------------------------------------------------------------- */

static qn_status load(prefetch *p, slot *s) {
    for (int i = 0; s->room < s->count && i < p->inner.n_fields; i++) {
        qn_free(s->field[i]);
        s->field[i] = qn_alloc((size_t)s->count * p->sample_bytes[i], "prefetched data");
        if (!s->field[i]) {
            s->room = 0;
            return QN_ERR_OOM;
        }
    }
    if (s->room < s->count) s->room = s->count;
    pthread_mutex_lock(&p->inner_lock);
    qn_status status =
        p->inner.fetch(p->inner.self, s->split, s->position, s->count, s->field, &s->labels);
    pthread_mutex_unlock(&p->inner_lock);
    return status;
}

static slot *oldest(prefetch *p, slot_state state) {
    slot *found = NULL;
    for (int i = 0; i < p->depth; i++)
        if (p->slot[i].state == state && (!found || p->slot[i].ticket < found->ticket))
            found = &p->slot[i];
    return found;
}

static void *work(void *arg) {
    prefetch *p = arg;
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        slot *s = oldest(p, QUEUED);
        if (!s) {
            pthread_cond_wait(&p->changed, &p->lock);
            continue;
        }
        s->state = LOADING;
        pthread_mutex_unlock(&p->lock);
        qn_error_clear();
        qn_error_get(load(p, s), &s->error);
        pthread_mutex_lock(&p->lock);
        s->state = s->unwanted ? EMPTY : READY;
        s->unwanted = false;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- the loop's side ------------------------------------------------------------------------- */

static slot *find(prefetch *p, qn_split split, int64_t position, int64_t count) {
    for (int i = 0; i < p->depth; i++) {
        slot *s = &p->slot[i];
        if (s->state != EMPTY && !s->unwanted && s->split == split && s->position == position &&
            s->count == count)
            return s;
    }
    return NULL;
}

/* Gives up what was announced for a split before `ticket`. */
static void discard(prefetch *p, qn_split split, uint64_t ticket) {
    for (int i = 0; i < p->depth; i++) {
        slot *s = &p->slot[i];
        if (s->state == EMPTY || s->split != split || s->ticket >= ticket) continue;
        if (s->state == LOADING)
            s->unwanted = true;
        else
            s->state = EMPTY;
    }
}

static void expect(void *self, qn_split split, int64_t position, int64_t count) {
    prefetch *p = self;
    pthread_mutex_lock(&p->lock);
    slot *s = find(p, split, position, count) ? NULL : oldest(p, EMPTY);
    if (s && count > 0) {
        s->state = QUEUED;
        s->ticket = p->tickets++;
        s->split = split;
        s->position = position;
        s->count = count;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
}

static qn_status take(prefetch *p, slot *s, void *const *dst, int64_t *labels) {
    qn_status status = s->error.status == QN_OK ? QN_OK : qn_error_raise(&s->error);
    if (status == QN_OK) {
        for (int i = 0; i < p->inner.n_fields; i++)
            memcpy(dst[i], s->field[i], (size_t)s->count * p->sample_bytes[i]);
        *labels = s->labels;
    }
    s->state = EMPTY;
    return status;
}

static qn_status fetch(void *self, qn_split split, int64_t position, int64_t count,
                       void *const *dst, int64_t *labels) {
    prefetch *p = self;
    double start = qn_clock();
    qn_status status = QN_OK;
    pthread_mutex_lock(&p->lock);
    slot *s = find(p, split, position, count);
    discard(p, split, s ? s->ticket : UINT64_MAX);
    while (s && s->state != READY) pthread_cond_wait(&p->changed, &p->lock);
    if (s) {
        p->waited += qn_clock() - start;
        status = take(p, s, dst, labels);
    }
    pthread_mutex_unlock(&p->lock);
    if (s) return status;

    pthread_mutex_lock(&p->inner_lock);
    status = p->inner.fetch(p->inner.self, split, position, count, dst, labels);
    pthread_mutex_unlock(&p->inner_lock);
    pthread_mutex_lock(&p->lock);
    p->waited += qn_clock() - start;
    pthread_mutex_unlock(&p->lock);
    return status;
}

static double wait_seconds(void *self) {
    prefetch *p = self;
    pthread_mutex_lock(&p->lock);
    double seconds = p->waited;
    pthread_mutex_unlock(&p->lock);
    return seconds;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void prefetch_free(void *self) {
    prefetch *p = self;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    for (int i = 0; i < p->depth; i++)
        for (int f = 0; f < QN_MAX_FIELDS; f++) qn_free(p->slot[i].field[f]);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->inner_lock);
    pthread_mutex_destroy(&p->lock);
    if (p->inner.free) p->inner.free(p->inner.self);
    qn_free(p);
}

/* Signals go to the thread that trains. */
static int start_thread(prefetch *p) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&p->thread, NULL, work, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

qn_status qn_prefetch_create(const qn_source *inner, int depth, qn_source *out) {
    if (depth < 1 || depth > 1024)
        return qn_fail(QN_ERR_CONFIG, "data: found a prefetch depth of %d, expected 1 to 1024",
                       depth);
    prefetch *p = qn_alloc(sizeof *p + (size_t)depth * sizeof p->slot[0], "prefetch");
    if (!p) return QN_ERR_OOM;
    p->inner = *inner;
    p->depth = depth;
    for (int i = 0; i < inner->n_fields; i++) {
        const qn_field *f = &inner->field[i];
        qn_tensor sample = qn_tensor_make(NULL, f->dtype, f->ndim, f->shape);
        p->sample_bytes[i] = qn_tensor_bytes(&sample);
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->inner_lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    if (start_thread(p) != 0) {
        qn_free(p);
        return qn_fail(QN_ERR_OOM, "data: the loading thread cannot be started");
    }
    *out = *inner;
    out->self = p;
    out->fetch = fetch;
    out->expect = expect;
    out->wait_seconds = wait_seconds;
    out->free = prefetch_free;
    return QN_OK;
}
