/* planner.c — which calls stay, and where every temporary lives.
 *
 * Dead calls: a call is kept if it writes given storage, a kept result, or something a kept call
 * reads. Lifetimes: an owner lives from the first to the last call that touches it or a view of it;
 * workspace lives for its call alone. An output declared QN_MAY_REUSE(k) takes over the storage of
 * in[k] when that input dies at the call. Offsets: largest first, each at the lowest gap among the
 * blocks alive with it (greedy-by-size, Pisarchyk and Lee 2020).
 */
#include "engine/program_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- dead calls ------------------------------------------------------------------------------ */

static bool writes_needed(const qn_node *n, const bool *needed) {
    for (int i = 0; i < n->call.op->n_out; i++) {
        const qn_value *v = n->out[i];
        if (v && (v->base->cls != QN_CLASS_TEMP || v->base->keep || needed[v->base->id]))
            return true;
    }
    return false;
}

static qn_status drop_dead(qn_tape *t) {
    bool *needed = qn_alloc((size_t)t->n_values + 1, "the planner");
    if (!needed) return QN_ERR_OOM;
    int kept = t->n_nodes;
    for (int i = t->n_nodes - 1; i >= 0; i--) {
        qn_node *n = t->nodes[i];
        if (!writes_needed(n, needed)) continue;
        for (int k = 0; k < n->call.op->n_in; k++) {
            if (n->in[k]) needed[n->in[k]->base->id] = true;
        }
        for (int k = 0; k < n->call.op->n_out; k++) { /* adding to it reads it */
            if (n->out[k] && n->call.accumulate & 1u << k) needed[n->out[k]->base->id] = true;
        }
        t->nodes[--kept] = n;
    }
    memmove(t->nodes, t->nodes + kept, (size_t)(t->n_nodes - kept) * sizeof *t->nodes);
    t->n_nodes -= kept;
    for (int i = 0; i < t->n_nodes; i++) t->nodes[i]->index = i;
    qn_free(needed);
    return QN_OK;
}

/* ---- lifetimes ------------------------------------------------------------------------------- */

static void touch(qn_value *v, int at) {
    if (!v) return;
    v = v->base;
    if (v->first_use < 0) v->first_use = at;
    v->last_use = at;
}

static void lifetimes(qn_tape *t) {
    for (int i = 0; i < t->n_nodes; i++) {
        for (int k = 0; k < t->nodes[i]->call.op->n_in; k++) touch(t->nodes[i]->in[k], i);
        for (int k = 0; k < t->nodes[i]->call.op->n_out; k++) touch(t->nodes[i]->out[k], i);
    }
    for (int i = 0; i < t->n_values; i++) {
        qn_value *v = t->values[i];
        if (qni_owns(v) && v->keep && v->first_use >= 0) v->last_use = t->n_nodes;
    }
}

static qn_value *storage_of(qn_value *v) {
    v = v->base;
    while (v->shares) v = v->shares;
    return v;
}

static bool whole_temp(const qn_value *v) {
    return v->base->cls == QN_CLASS_TEMP && v->offset == 0 && qn_tensor_is_contiguous(&v->t) &&
           qn_tensor_count(&v->t) == qn_tensor_count(&v->base->t);
}

/* Does another input of the call look at the same storage through a different window? */
static bool seen_otherwise(const qn_node *n, int slot) {
    for (int k = 0; k < n->call.op->n_in; k++) {
        const qn_value *v = n->in[k];
        if (k == slot || !v || storage_of((qn_value *)v) != storage_of(n->in[slot])) continue;
        if (!whole_temp(v) || qn_tensor_count(&v->t) != qn_tensor_count(&n->in[slot]->t))
            return true;
    }
    return false;
}

static void share_storage(qn_node *n, int i) {
    for (int k = 0; k < n->call.op->n_out; k++) {
        int slot = (int)n->call.op->alias[k] - 1;
        qn_value *out = n->out[k];
        if (!out || slot < 0 || slot >= n->call.op->n_in || !n->in[slot]) continue;
        if (!whole_temp(out) || out->base->first_use != i || n->call.accumulate & 1u << k) continue;
        if (!whole_temp(n->in[slot]) || seen_otherwise(n, slot)) continue;
        qn_value *from = storage_of(n->in[slot]), *to = out->base;
        if (from->last_use != i || from->reused_at == i + 1 || from->keep || to->keep || to->shares)
            continue;
        if (qn_tensor_bytes(&from->t) != qn_tensor_bytes(&to->t)) continue;
        to->shares = from;
        from->last_use = to->last_use;
        from->reused_at = i + 1;
    }
}

/* ---- offsets --------------------------------------------------------------------------------- */

typedef struct block {
    int64_t bytes, offset;
    int first, last;
    qn_value *value; /* NULL: the workspace of call `first` */
} block;

static int64_t rounded_up(int64_t bytes, int64_t align) {
    return (bytes + align - 1) / align * align;
}

static int by_size(const void *a, const void *b) {
    const block *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : 0;
}

static int by_offset(const void *a, const void *b) {
    const block *x = *(const block *const *)a, *y = *(const block *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* placed: the blocks already given an offset, sorted by it. */
static int64_t lowest_gap(block *const *placed, int n, const block *b) {
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        const block *p = placed[i];
        if (p->last < b->first || p->first > b->last) continue;
        if (p->offset >= at + b->bytes) break;
        if (p->offset + p->bytes > at) at = p->offset + p->bytes;
    }
    return at;
}

static int collect(qn_tape *t, block *blocks) {
    int64_t align = (int64_t)qn_device_get(t->options.device)->align;
    int n = 0;
    for (int i = 0; i < t->n_values; i++) {
        qn_value *v = t->values[i];
        if (!qni_owns(v) || v->cls != QN_CLASS_TEMP || v->first_use < 0 || v->shares) continue;
        int64_t bytes = rounded_up((int64_t)qn_tensor_bytes(&v->t), align);
        blocks[n++] = (block){bytes, 0, v->first_use, v->last_use, v};
    }
    for (int i = 0; i < t->n_nodes; i++) {
        int64_t scratch = (int64_t)t->nodes[i]->call.scratch_bytes;
        if (scratch > 0) blocks[n++] = (block){rounded_up(scratch, align), 0, i, i, NULL};
    }
    return n;
}

/* The live bytes at each call, by kind, at the moment they are most. */
static void find_peak(qn_program *p, const block *blocks, int n) {
    for (int at = 0; at < p->tape->n_nodes; at++) {
        qni_peak now = {.call = at};
        for (int i = 0; i < n; i++) {
            const block *b = &blocks[i];
            if (at < b->first || at > b->last) continue;
            if (!b->value) {
                now.workspace += b->bytes;
            } else if (b->value->is_grad) {
                now.gradients += b->bytes;
            } else {
                now.activations += b->bytes;
            }
        }
        int64_t sum = now.workspace + now.gradients + now.activations;
        if (sum >= p->peak.workspace + p->peak.gradients + p->peak.activations) p->peak = now;
    }
}

static qn_status assign_offsets(qn_program *p) {
    qn_tape *t = p->tape;
    size_t most = (size_t)(t->n_values + t->n_nodes + 1);
    block *blocks = qn_alloc(most * sizeof *blocks, "the planner");
    block **placed = qn_alloc(most * sizeof *placed, "the planner");
    qn_status status = blocks && placed ? QN_OK : QN_ERR_OOM;
    int n = status == QN_OK ? collect(t, blocks) : 0;
    if (status == QN_OK) qsort(blocks, (size_t)n, sizeof *blocks, by_size);
    for (int i = 0; i < n; i++) {
        block *b = &blocks[i];
        b->offset = lowest_gap(placed, i, b);
        int at = i;
        for (; at > 0 && by_offset(&placed[at - 1], &(const block *){b}) > 0; at--)
            placed[at] = placed[at - 1];
        placed[at] = b;
        if (b->offset + b->bytes > p->pool_bytes) p->pool_bytes = b->offset + b->bytes;
        if (b->value) {
            b->value->pool_offset = b->offset;
        } else {
            p->scratch_offset[b->first] = b->offset;
        }
    }
    if (status == QN_OK) find_peak(p, blocks, n);
    qn_free(blocks);
    qn_free(placed);
    return status;
}

qn_status qni_plan(qn_program *p) {
    qn_tape *t = p->tape;
    QN_TRY(drop_dead(t));
    p->scratch_offset =
        qn_setup_alloc(t->setup, ((size_t)t->n_nodes + 1) * sizeof *p->scratch_offset);
    p->body = qn_setup_alloc(t->setup, ((size_t)t->n_nodes + 1) * sizeof *p->body);
    if (!p->scratch_offset || !p->body) return QN_ERR_OOM;
    lifetimes(t);
    if (!t->options.no_reuse) {
        for (int i = 0; i < t->n_nodes; i++) share_storage(t->nodes[i], i);
    }
    QN_TRY(assign_offsets(p));
    for (int i = 0; i < t->n_values; i++) {
        qn_value *v = t->values[i];
        if (qni_owns(v) && v->shares) v->pool_offset = storage_of(v)->pool_offset;
    }
    return QN_OK;
}
