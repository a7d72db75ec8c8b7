/* program.c — a planned tape: its life, what it costs, binding it to memory. */
#include "engine/program_internal.h"

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
    if (p->row) qni_replay_release(p);
    for (int i = 0; i < p->prepared; i++) {
        if (p->body[i].release) p->body[i].release(&p->tape->nodes[i]->call);
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

static qn_status prepare(qn_program *p, int i) {
    qn_call *c = &p->tape->nodes[i]->call;
    qn_status s = qn_device_body(p->device, c, &p->body[i]);
    if (s == QN_OK && p->body[i].prepare) s = p->body[i].prepare(c);
    return s == QN_OK || !*c->scope ? s : qn_fail_prefix(s, "%s", c->scope);
}

qn_status qn_program_bind(qn_program *p, qn_device device, qn_arena *pool) {
    qn_tape *t = p->tape;
    if ((int64_t)qn_arena_bytes(pool) < p->pool_bytes) {
        return qn_fail(QN_ERR_INTERNAL, "%s: the pool has %zu bytes, the plan needs %lld",
                       qn_program_name(p), qn_arena_bytes(pool), (long long)p->pool_bytes);
    }
    const qn_device_row *row = qn_device_get(device);
    if (row != qn_device_get(t->options.device)) {
        return qn_fail(QN_ERR_INTERNAL, "%s: planned for %s, bound to %s", qn_program_name(p),
                       qn_device_name(t->options.device), qn_device_name(device));
    }
    p->device = device;
    p->row = row;
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
        QN_TRY(prepare(p, i));
        p->prepared = i + 1;
    }
    qni_replay_setup(p);
    return QN_OK;
}
