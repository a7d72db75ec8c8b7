/* session.c — the memory and the programs of one run.
 *
 * Two arenas: run (parameters, moments, step values, batch buffers) and pool (whatever lives inside
 * one replay; as large as the largest program). The fixed set of programs is recorded before step
 * 0; session_step.c runs them.
 */
#include "engine/session_internal.h"

#include <stdio.h>
#include <string.h>

/* ---- step values ----------------------------------------------------------------------------- */

typedef struct slot { /* a tensor of the run arena that is not a parameter */
    qn_tensor *t;
    qn_class cls;
} slot;

enum { MAX_SLOTS = 11 + (2 + QN_MAX_LANES) * QN_MAX_FIELDS };

static qn_tensor field_tensor(const qn_field *f, int n_lead, const int64_t *lead) {
    int64_t shape[QN_MAX_DIMS];
    int n = 0;
    for (int i = 0; i < n_lead; i++) shape[n++] = lead[i];
    for (int i = 0; i < f->ndim && n < QN_MAX_DIMS; i++) shape[n++] = f->shape[i];
    return qn_tensor_make(NULL, f->dtype, n, shape);
}

static int describe_slots(qn_session *s, slot *out) {
    qn_dtype real = qn_precision_grad_dtype(s->o.precision);
    int n = 0;
    s->rng = qn_tensor_make(NULL, QN_I64, QN_SHAPE(2));
    s->hyper = qn_tensor_make(NULL, QN_F64, QN_SHAPE(2));
    s->guard = qn_tensor_make(NULL, QN_F64, QN_SHAPE(QN_GUARD_STATE));
    out[n++] = (slot){&s->rng, QN_CLASS_INPUT};
    out[n++] = (slot){&s->hyper, QN_CLASS_BUFFER};
    out[n++] = (slot){&s->guard, QN_CLASS_BUFFER};
    qn_tensor *scalars[] = {&s->inv_n, &s->loss, &s->norm, &s->eval_loss};
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        *scalars[i] = qn_tensor_make(NULL, real, 0, NULL);
        out[n++] = (slot){scalars[i], QN_CLASS_INPUT};
    }
    if (s->objective->n_sums > 0) {
        s->eval_sums = qn_tensor_make(NULL, QN_F32, QN_SHAPE(s->objective->n_sums));
        out[n++] = (slot){&s->eval_sums, QN_CLASS_INPUT};
    }
    for (int i = 0; i < s->source->n_fields; i++) {
        const qn_field *f = &s->source->field[i];
        s->field[i] = field_tensor(f, 1, &s->o.batch_size);
        s->staging[i] = field_tensor(f, 2, (int64_t[]){s->o.accumulate, s->o.batch_size});
        out[n++] = (slot){&s->field[i], QN_CLASS_INPUT};
        for (int k = 0; k < s->n_lanes; k++) {
            s->lane_field[k][i] = s->staging[i];
            out[n++] = (slot){&s->lane_field[k][i], QN_CLASS_INPUT};
        }
        if (s->o.evaluate) {
            s->eval_field[i] = field_tensor(f, 1, &s->o.eval_batch_size);
            out[n++] = (slot){&s->eval_field[i], QN_CLASS_INPUT};
        }
    }
    return n;
}

static qn_status layout_run(qn_session *s) {
    slot slots[MAX_SLOTS];
    s->n_lanes = qn_device_get(s->o.device)->separate ? QN_MAX_LANES : 1;
    int n = describe_slots(s, slots);
    memcpy(s->class_bytes, s->params->class_bytes, sizeof s->class_bytes);
    for (int i = 0; i < n; i++)
        s->class_bytes[slots[i].cls] += (int64_t)qni_padded(qn_tensor_bytes(slots[i].t));
    s->run_bytes = 0;
    for (int i = 0; i < QN_CLASS_COUNT; i++) s->run_bytes += s->class_bytes[i];
    s->staging_bytes = (int64_t)qni_lanes_bytes(s);
    if (s->o.plan_only) return QN_OK;
    QN_TRY(qn_arena_create_on(s->o.device, "run", (size_t)s->run_bytes, &s->run));
    qn_params_bind(s->params, s->o.device, qn_arena_base(s->run));
    char *at = (char *)qn_arena_base(s->run) + qn_params_bytes(s->params);
    for (int i = 0; i < n; i++) {
        slots[i].t->data = at;
        at += (int64_t)qni_padded(qn_tensor_bytes(slots[i].t));
    }
    if (s->objective->n_sums > 0) {
        size_t bytes = (size_t)s->objective->n_sums * sizeof *s->eval_totals;
        s->eval_totals = qn_setup_alloc(s->params->setup, bytes);
        if (!s->eval_totals) return QN_ERR_OOM;
    }
    QN_TRY(qni_lanes_create(s));
    return qn_session_allow_updates(s);
}

/* ---- recording ------------------------------------------------------------------------------- */

static qn_value *given(qn_tape *t, const char *name, const qn_tensor *desc) {
    return qn_tape_given(t, name, QN_CLASS_INPUT, desc, false);
}

/* dst = v, or dst += v. */
static qn_status store(qn_tape *t, qn_value *v, const char *name, const qn_tensor *dst, bool add) {
    qn_value *out = given(t, name, dst);
    if (!v || !out) return qn_tape_status(t);
    out->is_grad = true;
    out->grad_written = add;
    return qn_tape_emit(t, v->t.dtype == dst->dtype ? &qn_op_copy : &qn_op_cast, &v, &out, 0,
                        &(qn_cast_attrs){dst->dtype}, NULL);
}

qn_value *qn_forward_field(const qn_forward *in, const char *name) {
    for (int i = 0; i < in->n_fields; i++) {
        if (in->field[i] && strcmp(in->field[i]->name, name) == 0) return in->field[i];
    }
    return NULL;
}

static qn_status record_micro(qn_session *s, qn_tape *t, bool accumulate) {
    qn_graph g;
    QN_TRY(qn_graph_create(t, s->params, true, &g));
    g.rng = given(t, "rng", &s->rng);
    g.inv_n = given(t, "inv_n", &s->inv_n);
    qn_value *field[QN_MAX_FIELDS] = {0}, *loss = NULL;
    for (int i = 0; i < s->source->n_fields; i++) {
        field[i] = given(t, s->source->field[i].name, &s->field[i]);
    }
    qn_forward in = {.field = field, .n_fields = s->source->n_fields};
    qn_output out = {0};
    QN_TRY(s->model->forward(s->model->self, &g, &in, &out));
    QN_TRY(s->objective->loss(s->objective->self, &g, &out, field[s->source->n_fields - 1], &loss));
    QN_TRY(qn_tape_backward(t, loss));
    return store(t, loss, "loss", &s->loss, accumulate);
}

static qn_status record_update(qn_session *s, qn_tape *t) {
    const qn_params *p = s->params;
    qn_update u = {.n_segments = p->n_segments,
                   .segments = p->segments,
                   .stochastic_rounding = s->o.precision == QN_PRECISION_BF16_SR};
    qn_tensor weights = p->weights;
    weights.shape[0] = p->trainable;
    u.weights = qn_tape_given(t, "weights", QN_CLASS_WEIGHT, &weights, false);
    u.grads = qn_tape_given(t, "gradients", QN_CLASS_GRADIENT, &p->grads, false);
    if (p->master.shape[0])
        u.master = qn_tape_given(t, "master", QN_CLASS_MASTER, &p->master, false);
    for (int i = 0; i < p->moments; i++) {
        u.moment[i] =
            qn_tape_given(t, s->optimizer->moment_name[i], QN_CLASS_MOMENT, &p->moment[i], false);
    }
    u.hyper = qn_tape_given(t, "hyper", QN_CLASS_BUFFER, &s->hyper, false);
    u.guard = qn_tape_given(t, "guard", QN_CLASS_BUFFER, &s->guard, false);
    u.rng = given(t, "rng", &s->rng);
    qn_value *norm = qn_grad_norm(t, u.grads, p->segments, p->n_segments);
    QN_TRY(store(t, norm, "grad_norm", &s->norm, false));
    qn_guard_attrs guard = {s->o.clip_norm, s->o.spike_threshold, s->o.spike_window};
    if (!qn_guard(t, given(t, "loss", &s->loss), norm, u.guard, &guard)) return qn_tape_status(t);
    return s->optimizer->record(s->optimizer->self, t, &u);
}

static qn_status record_eval(qn_session *s, qn_tape *t) {
    qn_graph g;
    QN_TRY(qn_graph_create(t, s->params, false, &g));
    g.inv_n = given(t, "inv_n", &s->inv_n);
    qn_value *field[QN_MAX_FIELDS] = {0}, *loss = NULL, *sums = NULL;
    for (int i = 0; i < s->source->n_fields; i++) {
        field[i] = given(t, s->source->field[i].name, &s->eval_field[i]);
    }
    qn_forward in = {.field = field, .n_fields = s->source->n_fields};
    qn_output out = {0};
    qn_value *target = field[s->source->n_fields - 1];
    QN_TRY(s->model->forward(s->model->self, &g, &in, &out));
    QN_TRY(s->objective->loss(s->objective->self, &g, &out, target, &loss));
    QN_TRY(store(t, loss, "eval_loss", &s->eval_loss, false));
    if (s->objective->n_sums == 0) return QN_OK;
    QN_TRY(s->objective->sums(s->objective->self, &g, &out, target, &sums));
    return store(t, sums, "eval_sums", &s->eval_sums, false);
}

static qn_status record(qn_session *s, qn_program_kind kind, const char *const *recompute) {
    static const char *const names[] = {"micro-first", "micro-accumulate", "update", "eval"};
    qn_tape_options o = {.name = names[kind],
                         .seed = s->o.seed,
                         .threads = s->o.threads,
                         .training = kind <= QN_MICRO_ACCUMULATE,
                         .accumulate_params = kind == QN_MICRO_ACCUMULATE,
                         .device = s->o.device,
                         .no_graph = s->o.no_graph,
                         .recompute = kind <= QN_MICRO_ACCUMULATE ? recompute : NULL};
    qn_tape *t;
    QN_TRY(qn_tape_create(&o, &t));
    qn_status status = kind == QN_UPDATE ? record_update(s, t)
                       : kind == QN_EVAL ? record_eval(s, t)
                                         : record_micro(s, t, kind == QN_MICRO_ACCUMULATE);
    if (status == QN_OK) status = qn_tape_status(t);
    if (status != QN_OK) {
        qn_tape_free(t);
        return status;
    }
    QN_TRY(qn_program_create(t, &s->program[kind]));
    int64_t bytes = (int64_t)qn_program_pool_bytes(s->program[kind]);
    if (bytes > s->pool_bytes) s->pool_bytes = bytes;
    return QN_OK;
}

static qn_status record_all(qn_session *s, const char *const *recompute) {
    s->pool_bytes = 0;
    for (int k = 0; k < QN_PROGRAM_COUNT; k++) {
        qn_program_free(s->program[k]);
        s->program[k] = NULL;
        bool wanted = k == QN_MICRO_ACCUMULATE ? s->o.accumulate > 1
                      : k == QN_EVAL           ? s->o.evaluate
                                               : true;
        if (wanted) QN_TRY(record(s, (qn_program_kind)k, recompute));
    }
    return QN_OK;
}

/* Recomputes blocks from the first on, one more at a time, until the plan fits. */
static qn_status record_to_fit(qn_session *s) {
    if (!s->o.recompute_auto) return record_all(s, s->o.recompute);
    const char **globs =
        qn_setup_alloc(s->params->setup, ((size_t)s->model->layers + 1) * sizeof *globs);
    if (!globs) return QN_ERR_OOM;
    for (int n = 0;; n++) {
        QN_TRY(record_all(s, globs));
        s->recomputed = n;
        bool fits = s->o.memory_limit == 0 || s->run_bytes + s->pool_bytes <= s->o.memory_limit;
        if (fits || n == s->model->layers) return QN_OK;
        char name[32];
        snprintf(name, sizeof name, "blocks.%d", n);
        globs[n] = qn_setup_strdup(s->params->setup, name);
        if (!globs[n]) return QN_ERR_OOM;
    }
}

static qn_status create(qn_session *s) {
    QN_TRY(layout_run(s));
    QN_TRY(record_to_fit(s));
    int64_t total = s->run_bytes + s->pool_bytes;
    if (s->o.memory_limit > 0 && total > s->o.memory_limit && !s->o.plan_only) {
        return qn_fail(
            QN_ERR_OOM,
            "the plan needs %.1f MiB, train.memory_limit allows %.1f MiB; a smaller "
            "train.batch_size with more train.accumulate, or train.recompute, needs less",
            (double)total / 1048576.0, (double)s->o.memory_limit / 1048576.0);
    }
    if (s->o.plan_only) return QN_OK;
    QN_TRY(qn_arena_create_on(s->o.device, "pool", (size_t)s->pool_bytes, &s->pool));
    for (int k = 0; k < QN_PROGRAM_COUNT; k++) {
        if (s->program[k]) QN_TRY(qn_program_bind(s->program[k], s->o.device, s->pool));
    }
    return QN_OK;
}

qn_status qn_session_create(const qn_session_options *o, const qn_model *model,
                            const qn_objective *objective, const qn_optimizer *optimizer,
                            const qn_source *source, qn_params *params, qn_session **out) {
    qn_session *s = qn_alloc(sizeof *s, "a session");
    qn_status status = s ? QN_OK : QN_ERR_OOM;
    if (status == QN_OK) {
        *s = (qn_session){.o = *o,
                          .model = model,
                          .objective = objective,
                          .optimizer = optimizer,
                          .source = source,
                          .params = params};
        status = qn_params_layout(params, o->precision, optimizer->moments, optimizer->weight_decay,
                                  o->keep_best);
        if (status == QN_OK) status = create(s);
    } else {
        qn_params_free(params);
    }
    if (status != QN_OK) {
        qn_session_free(s);
        return status;
    }
    *out = s;
    return QN_OK;
}

void qn_session_free(qn_session *s) {
    if (!s) return;
    for (int k = 0; k < QN_PROGRAM_COUNT; k++) qn_program_free(s->program[k]);
    qni_lanes_free(s);
    qn_arena_free(s->pool);
    qn_arena_free(s->run);
    qn_params_free(s->params);
    qn_free(s);
}

/* ---- cost ------------------------------------------------------------------------------------ */

double qn_session_flops_per_step(const qn_session *s) {
    double flops = 0;
    for (int k = 0; k < QN_EVAL; k++) {
        qn_cost c = {0};
        if (s->program[k]) qn_program_cost(s->program[k], &c);
        flops += c.flops * (k == QN_MICRO_ACCUMULATE ? (double)(s->o.accumulate - 1) : 1.0);
    }
    return flops;
}
