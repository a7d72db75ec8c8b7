/* session_step.c — a session at work: steps, evaluation, the best weights.
 *
 * A step replays micro-first, micro-accumulate for the rest of its micro-batches, then update. The
 * host never waits inside one. It goes through a *lane*: the place where the host puts the step's
 * micro-batches and values and finds its outcome. On the host's devices there is one lane, whose
 * tensors are those of the run arena. A separate device has two, in staging memory: while it
 * computes one step, the host fills the other lane, whose upload runs on a stream of its own. So
 * the host learns of a step while the next is under way, and until then the lane keeps its batch,
 * for `explain` and for doing over what the guard blocked.
 */
#include "engine/session_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct lane { /* all addresses are the host's */
    qn_tensor field[QN_MAX_FIELDS], eval_field[QN_MAX_FIELDS];
    qn_tensor rng; /* (accumulate, 2), one row for all where the run arena is seen itself */
    qn_tensor inv_n, lr, loss, norm, guard, eval_loss, eval_sums;
    void *uploaded, *done; /* events */
    int64_t step, labels;
    double rate;
} lane;

struct qni_lanes {
    const qn_device_row *row;
    qn_arena *memory; /* NULL where the run arena is seen itself */
    void *uploads;    /* stream */
    lane lane[QN_MAX_LANES];
};

/* ---- lanes ----------------------------------------------------------------------------------- */

/* Describes the host's copy of `t` at base + *at; base NULL: only counts. */
static qn_tensor copy_of(const qn_tensor *t, char *base, size_t *at) {
    qn_tensor copy = *t;
    copy.data = base ? base + *at : NULL;
    *at += qni_padded(qn_tensor_bytes(t));
    return copy;
}

/* Returns the bytes of one lane. */
static size_t place_lane(const qn_session *s, lane *l, char *base) {
    size_t at = 0;
    qn_tensor rng = qn_tensor_make(NULL, QN_I64, QN_SHAPE(s->o.accumulate, 2));
    qn_tensor rate = qn_tensor_make(NULL, QN_F64, 0, NULL);
    for (int i = 0; i < s->source->n_fields; i++) {
        l->field[i] = copy_of(&s->staging[i], base, &at);
        if (s->o.evaluate) l->eval_field[i] = copy_of(&s->eval_field[i], base, &at);
    }
    l->rng = copy_of(&rng, base, &at);
    l->inv_n = copy_of(&s->inv_n, base, &at);
    l->lr = copy_of(&rate, base, &at);
    l->loss = copy_of(&s->loss, base, &at);
    l->norm = copy_of(&s->norm, base, &at);
    l->guard = copy_of(&s->guard, base, &at);
    l->eval_loss = copy_of(&s->eval_loss, base, &at);
    if (s->objective->n_sums > 0) l->eval_sums = copy_of(&s->eval_sums, base, &at);
    return at;
}

/* The one lane of a device whose memory is the host's: the run arena's own tensors. */
static void alias_lane(const qn_session *s, lane *l) {
    memcpy(l->field, s->lane_field[0], sizeof l->field);
    memcpy(l->eval_field, s->eval_field, sizeof l->eval_field);
    l->rng = s->rng;
    l->inv_n = s->inv_n;
    l->lr = qn_tensor_make(s->hyper.data, QN_F64, 0, NULL);
    l->loss = s->loss;
    l->norm = s->norm;
    l->guard = s->guard;
    l->eval_loss = s->eval_loss;
    l->eval_sums = s->eval_sums;
}

size_t qni_lanes_bytes(const qn_session *s) {
    lane l;
    bool separate = qn_device_get(s->o.device)->separate;
    return separate ? (size_t)s->n_lanes * place_lane(s, &l, NULL) : 0;
}

static void show_staging(qn_session *s) {
    memcpy(s->staging, s->lanes->lane[s->submitted % s->n_lanes].field, sizeof s->staging);
}

qn_status qni_lanes_create(qn_session *s) {
    struct qni_lanes *p = s->lanes = qn_alloc(sizeof *p, "the lanes of a session");
    if (!p) return QN_ERR_OOM;
    p->row = qn_device_get(s->o.device);
    QN_TRY(p->row->stream_create(&p->uploads));
    size_t bytes = (size_t)s->staging_bytes;
    if (bytes) QN_TRY(qn_arena_create_staging(s->o.device, "staging", bytes, &p->memory));
    for (int k = 0; k < s->n_lanes; k++) {
        lane *l = &p->lane[k];
        QN_TRY(p->row->event_create(&l->uploaded));
        QN_TRY(p->row->event_create(&l->done));
        if (p->memory) {
            char *base = qn_arena_base(p->memory);
            (void)place_lane(s, l, base + (size_t)k * (bytes / (size_t)s->n_lanes));
        } else {
            alias_lane(s, l);
        }
    }
    show_staging(s);
    return QN_OK;
}

void qni_lanes_free(qn_session *s) {
    struct qni_lanes *p = s->lanes;
    if (!p) return;
    for (int k = 0; k < s->n_lanes; k++) {
        p->row->event_free(p->lane[k].uploaded);
        p->row->event_free(p->lane[k].done);
    }
    p->row->stream_free(p->uploads);
    qn_arena_free(p->memory);
    qn_free(p);
}

/* ---- a step ---------------------------------------------------------------------------------- */

/* The lane's value becomes the device's, or the other way round; free where they are one. */
static qn_status to_device(const qn_session *s, const qn_tensor *device, const qn_tensor *host) {
    return s->lanes->row->copy(device->data, host->data, qn_tensor_bytes(host), NULL);
}
static qn_status to_host(const qn_session *s, const qn_tensor *host, const qn_tensor *device) {
    return s->lanes->row->copy(host->data, device->data, qn_tensor_bytes(host), NULL);
}

static qn_status upload_fields(const qn_session *s, const lane *l) {
    const struct qni_lanes *p = s->lanes;
    const qn_tensor *device = s->lane_field[l - p->lane];
    for (int i = 0; i < s->source->n_fields; i++) {
        QN_TRY(p->row->copy(device[i].data, l->field[i].data, qn_tensor_bytes(&device[i]),
                            p->uploads));
    }
    QN_TRY(p->row->event_record(l->uploaded, p->uploads));
    return p->row->event_wait(l->uploaded, NULL);
}

static qn_status load_micro(const qn_session *s, const lane *l, int64_t micro) {
    const struct qni_lanes *p = s->lanes;
    for (int i = 0; i < s->source->n_fields; i++) {
        size_t bytes = qn_tensor_bytes(&s->field[i]);
        const char *from = s->lane_field[l - p->lane][i].data;
        QN_TRY(p->row->copy(s->field[i].data, from + (size_t)micro * bytes, bytes, NULL));
    }
    int64_t *rng = (int64_t *)l->rng.data + (p->memory ? 2 * micro : 0);
    rng[0] = l->step;
    rng[1] = micro * s->o.batch_size;
    return p->row->copy(s->rng.data, rng, qn_tensor_bytes(&s->rng), NULL);
}

static qn_program *micro_program(const qn_session *s, int64_t micro) {
    return s->program[micro == 0 ? QN_MICRO_FIRST : QN_MICRO_ACCUMULATE];
}

static qn_status load_inv_n(const qn_session *s, const lane *l) {
    qn_tensor_set(&l->inv_n, 0, l->labels > 0 ? 1.0 / (double)l->labels : 0.0);
    return to_device(s, &s->inv_n, &l->inv_n);
}

/* Everything after the upload: it can be done over. */
static qn_status run_step(const qn_session *s, const lane *l) {
    QN_TRY(load_inv_n(s, l));
    for (int64_t m = 0; m < s->o.accumulate; m++) {
        QN_TRY(load_micro(s, l, m));
        QN_TRY(qn_program_replay(micro_program(s, m)));
    }
    qn_tensor_set(&l->lr, 0, l->rate);
    QN_TRY(to_device(s, &s->hyper, &l->lr)); /* its first element */
    QN_TRY(qn_program_replay(s->program[QN_UPDATE]));
    QN_TRY(to_host(s, &l->loss, &s->loss));
    QN_TRY(to_host(s, &l->norm, &s->norm));
    QN_TRY(to_host(s, &l->guard, &s->guard));
    return s->lanes->row->event_record(l->done, NULL);
}

qn_status qn_session_submit(qn_session *s, int64_t step, double lr, int64_t labels) {
    if (qn_session_under_way(s) == s->n_lanes) {
        return qn_fail(QN_ERR_INTERNAL, "session: %d steps are under way, at most that many may be",
                       s->n_lanes);
    }
    lane *l = &s->lanes->lane[s->submitted % s->n_lanes];
    l->step = step;
    l->labels = labels;
    l->rate = lr;
    QN_TRY(upload_fields(s, l));
    QN_TRY(run_step(s, l));
    s->submitted++;
    show_staging(s);
    return QN_OK;
}

int qn_session_under_way(const qn_session *s) { return (int)(s->submitted - s->collected); }

qn_status qn_session_collect(qn_session *s, qn_step_report *r) {
    if (qn_session_under_way(s) == 0)
        return qn_fail(QN_ERR_INTERNAL, "session: no step is under way");
    const lane *l = &s->lanes->lane[s->collected % s->n_lanes];
    QN_TRY(s->lanes->row->event_synchronize(l->done));
    s->collected++;
    *r = (qn_step_report){.step = l->step,
                          .loss = qn_nan_plain(qn_tensor_get(&l->loss, 0)),
                          .grad_norm = qn_nan_plain(qn_tensor_get(&l->norm, 0)),
                          .lr = l->rate,
                          .applied = qn_tensor_get(&l->guard, QN_GUARD_APPLY) != 0.0,
                          .labels = l->labels};
    return QN_OK;
}

qn_status qn_session_step(qn_session *s, int64_t step, double lr, int64_t labels,
                          qn_step_report *r) {
    QN_TRY(qn_session_submit(s, step, lr, labels));
    return qn_session_collect(s, r);
}

/* ---- after a refused step -------------------------------------------------------------------- */

qn_status qn_session_explain(qn_session *s, char *text, size_t size) {
    text[0] = '\0';
    if (s->collected == 0) return qn_fail(QN_ERR_INTERNAL, "session: there was no step to explain");
    const lane *l = &s->lanes->lane[(s->collected - 1) % s->n_lanes];
    QN_TRY(load_inv_n(s, l));
    for (int64_t m = 0; m < s->o.accumulate && !text[0]; m++) {
        QN_TRY(load_micro(s, l, m));
        QN_TRY(qn_program_replay_checked(micro_program(s, m), text, size));
    }
    if (!text[0]) {
        snprintf(text, size,
                 "every tensor is finite: the loss %g is a spike, or the gradient norm overflowed",
                 qn_nan_plain(qn_tensor_get(&l->loss, 0)));
    }
    return QN_OK;
}

qn_status qn_session_allow_updates(qn_session *s) {
    const double yes = 1.0;
    double *apply = (double *)s->guard.data + QN_GUARD_APPLY;
    QN_TRY(qn_device_copy(s->o.device, apply, &yes, sizeof yes));
    for (int64_t i = s->collected; i < s->submitted; i++)
        QN_TRY(run_step(s, &s->lanes->lane[i % s->n_lanes]));
    return QN_OK;
}

qn_status qn_session_discard(qn_session *s) {
    QN_TRY(s->lanes->row->synchronize(NULL));
    s->collected = s->submitted;
    return QN_OK;
}

/* ---- evaluation ------------------------------------------------------------------------------ */

static qn_status submit_eval(const qn_session *s, const lane *l) {
    for (int i = 0; i < s->source->n_fields; i++)
        QN_TRY(to_device(s, &s->eval_field[i], &l->eval_field[i]));
    QN_TRY(qn_program_replay(s->program[QN_EVAL]));
    QN_TRY(to_host(s, &l->eval_loss, &s->eval_loss));
    if (s->objective->n_sums > 0) QN_TRY(to_host(s, &l->eval_sums, &s->eval_sums));
    return s->lanes->row->event_record(l->done, NULL);
}

static qn_status collect_eval(const qn_session *s, const lane *l, double *loss) {
    QN_TRY(s->lanes->row->event_synchronize(l->done));
    *loss += qn_tensor_get(&l->eval_loss, 0);
    for (int64_t i = 0; i < s->objective->n_sums; i++)
        s->eval_totals[i] += qn_tensor_get(&l->eval_sums, i);
    return QN_OK;
}

/* Batch b goes through lane b mod n_lanes, after the batch before it there has been added up. */
static qn_status sum_batches(qn_session *s, qn_split split, int64_t n, double *loss,
                             int64_t *labels) {
    int64_t size = s->o.eval_batch_size;
    for (int64_t b = 0; b < n + s->n_lanes; b++) {
        const lane *l = &s->lanes->lane[b % s->n_lanes];
        if (b >= s->n_lanes) QN_TRY(collect_eval(s, l, loss));
        if (b >= n) continue;
        void *dst[QN_MAX_FIELDS];
        int64_t count = 0;
        for (int i = 0; i < s->source->n_fields; i++) dst[i] = l->eval_field[i].data;
        QN_TRY(s->source->fetch(s->source->self, split, b * size, size, dst, &count));
        QN_TRY(submit_eval(s, l));
        *labels += count;
    }
    return QN_OK;
}

qn_status qn_session_evaluate(qn_session *s, qn_split split, int64_t batches, qn_record *r) {
    const qn_objective *o = s->objective;
    int64_t size = s->o.eval_batch_size, n = (s->source->n[split] + size - 1) / size, labels = 0;
    if (batches > 0 && batches < n) n = batches;
    double loss = 0, start = qn_clock();
    for (int64_t i = 0; i < o->n_sums; i++) s->eval_totals[i] = 0;
    lane *first = &s->lanes->lane[0];
    qn_tensor_set(&first->inv_n, 0, 1.0);
    QN_TRY(to_device(s, &s->inv_n, &first->inv_n));
    QN_TRY(sum_batches(s, split, n, &loss, &labels));
    if (labels == 0) return qn_fail(QN_ERR_DATA, "evaluation: the split has no target that counts");
    loss /= (double)labels;
    qn_record_add(r, "eval/loss", loss);
    if (o->perplexity) qn_record_add(r, "eval/perplexity", exp(loss));
    if (o->n_sums > 0) o->report(o->self, s->eval_totals, labels, r);
    qn_record_add(r, "eval/runtime", qn_clock() - start);
    return QN_OK;
}

/* ---- the best weights ------------------------------------------------------------------------ */

static qn_tensor best_origin(const qn_session *s) {
    qn_tensor t = s->params->master.shape[0] ? s->params->master : s->params->weights;
    t.shape[0] = s->params->best.shape[0];
    return t;
}

qn_status qn_session_snapshot_best(qn_session *s) {
    qn_tensor from = best_origin(s);
    if (!from.shape[0]) return QN_OK;
    return s->lanes->row->copy(s->params->best.data, from.data, qn_tensor_bytes(&from), NULL);
}

qn_status qn_session_restore_best(qn_session *s) {
    qn_tensor to = best_origin(s);
    if (!to.shape[0]) return QN_OK;
    QN_TRY(s->lanes->row->copy(to.data, s->params->best.data, qn_tensor_bytes(&to), NULL));
    return qn_params_sync_weights(s->params);
}
