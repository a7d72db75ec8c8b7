/* program.c — a planned tape: bind it to memory, replay it. */
#include "engine/program_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

qn_status qn_program_create(qn_tape *t, qn_program **out) {
    qn_status s = qn_tape_status(t);
    qn_program *p = s == QN_OK ? qn_alloc(sizeof *p, "a program") : NULL;
    if (!p) {
        qn_tape_free(t);
        return s == QN_OK ? QN_ERR_OOM : s;
    }
    p->tape = t;
    s = qni_plan(p);
    if (s != QN_OK) {
        qn_program_free(p);
        return s;
    }
    *out = p;
    return QN_OK;
}

void qn_program_free(qn_program *p) {
    if (!p) return;
    for (int i = 0; i < p->prepared; i++) {
        qn_call *c = &p->tape->nodes[i]->call;
        if (c->op->release) c->op->release(c);
    }
    qn_tape_free(p->tape);
    qn_free(p);
}

const char *qn_program_name(const qn_program *p) { return p->tape->options.name; }
size_t qn_program_pool_bytes(const qn_program *p) { return (size_t)p->pool_bytes; }
int qn_program_call_count(const qn_program *p) { return p->tape->n_nodes; }
const qn_node *qn_program_node(const qn_program *p, int i) { return p->tape->nodes[i]; }

void qn_program_peak(const qn_program *p, int64_t *activations, int64_t *gradients,
                     int64_t *workspace) {
    *activations = p->peak.activations;
    *gradients = p->peak.gradients;
    *workspace = p->peak.workspace;
}

void qn_program_cost(const qn_program *p, qn_cost *total) {
    *total = (qn_cost){0};
    for (int i = 0; i < p->tape->n_nodes; i++) {
        const qn_call *c = &p->tape->nodes[i]->call;
        qn_cost cost = {0};
        if (c->op->cost) c->op->cost(c, &cost);
        total->bytes += cost.bytes;
        total->flops += cost.flops;
    }
}

/* ---- binding --------------------------------------------------------------------------------- */

static qn_status check_storage(const qn_program *p, const qn_value *v) {
    if (v->t.data || qn_tensor_count(&v->t) == 0) return QN_OK;
    return qn_fail(QN_ERR_INTERNAL, "%s: %s has no storage", qn_program_name(p), v->name);
}

static qn_status choose_kernel(qn_program *p, int i) {
    qn_node *n = p->tape->nodes[i];
    const qn_tensor *first = n->call.in[0];
    for (int k = 0; !first && k < n->call.op->n_out; k++) first = n->call.out[k];
    p->kernels[i] = qn_device_kernel(p->device, n->call.op, first ? first->dtype : QN_F32);
    if (!p->kernels[i]) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s %s: no kernel for %s on device %s", n->call.scope,
                       n->call.op->name, first ? qn_dtype_name(first->dtype) : "?",
                       qn_device_name(p->device));
    }
    return QN_OK;
}

qn_status qn_program_bind(qn_program *p, qn_device device, qn_arena *pool) {
    qn_tape *t = p->tape;
    if ((int64_t)qn_arena_bytes(pool) < p->pool_bytes) {
        return qn_fail(QN_ERR_INTERNAL, "%s: the pool has %zu bytes, the plan needs %lld",
                       qn_program_name(p), qn_arena_bytes(pool), (long long)p->pool_bytes);
    }
    p->device = device;
    p->pool = pool;
    char *base = qn_arena_base(pool);
    for (int i = 0; i < t->n_values; i++) {
        qn_value *v = t->values[i];
        int64_t at = v->base->pool_offset;
        if (at >= 0) v->t.data = base + at + v->offset * (int64_t)qn_dtype_bytes(v->t.dtype);
    }
    for (int i = 0; i < t->n_nodes; i++) {
        qn_node *n = t->nodes[i];
        for (int k = 0; k < n->call.op->n_in; k++) {
            if (n->in[k]) QN_TRY(check_storage(p, n->in[k]));
        }
        for (int k = 0; k < n->call.op->n_out; k++) {
            if (n->out[k]) QN_TRY(check_storage(p, n->out[k]));
        }
        n->call.scratch = n->call.scratch_bytes ? base + p->scratch_offset[i] : NULL;
        QN_TRY(choose_kernel(p, i));
        if (n->call.op->prepare) QN_TRY(n->call.op->prepare(&n->call));
        p->prepared = i + 1;
    }
    return QN_OK;
}

/* ---- replay ---------------------------------------------------------------------------------- */

static qn_status begin(const qn_program *p) {
    if (!p->pool)
        return qn_fail(QN_ERR_INTERNAL, "%s: replayed before it was bound", qn_program_name(p));
#ifdef QUERN_POISON
    qn_arena_poison(p->pool);
#endif
    return QN_OK;
}

static qn_status run_call(const qn_program *p, int i) {
    const qn_call *c = &p->tape->nodes[i]->call;
    qn_status s = p->kernels[i](c);
    return s == QN_OK || !*c->scope ? s : qn_fail_prefix(s, "%s", c->scope);
}

qn_status qn_program_replay(qn_program *p) {
    QN_TRY(begin(p));
    for (int i = 0; i < p->tape->n_nodes; i++) QN_TRY(run_call(p, i));
    return QN_OK;
}

static bool first_not_finite(const qn_tensor *t, int64_t *index, double *value) {
    if (!qn_dtype_is_float(t->dtype)) return false;
    int64_t n = qn_tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        *value = qn_tensor_get(t, i);
        if (!isfinite(*value)) {
            *index = i;
            return true;
        }
    }
    return false;
}

qn_status qn_program_replay_checked(qn_program *p, char *report, size_t report_size) {
    report[0] = '\0';
    QN_TRY(begin(p));
    for (int i = 0; i < p->tape->n_nodes; i++) {
        QN_TRY(run_call(p, i));
        const qn_call *c = &p->tape->nodes[i]->call;
        for (int k = 0; k < c->op->n_out && !report[0]; k++) {
            int64_t index;
            double value;
            if (!c->out[k] || !first_not_finite(c->out[k], &index, &value)) continue;
            snprintf(report, report_size, "%s: %s%s%s:%s element %lld = %g%s", qn_program_name(p),
                     c->scope, *c->scope ? " " : "", c->op->name, c->op->out_name[k],
                     (long long)index, value, p->tape->nodes[i]->backward ? " (backward)" : "");
        }
    }
    return QN_OK;
}

qn_status qn_program_replay_timed(qn_program *p, double *seconds) {
    QN_TRY(begin(p));
    for (int i = 0; i < p->tape->n_nodes; i++) {
        double start = qn_clock();
        QN_TRY(run_call(p, i));
        seconds[i] = qn_clock() - start;
    }
    return QN_OK;
}
