/* differentiate.c — reverse mode over the recorded nodes.
 *
 * Walks the forward nodes backwards and lets each op's rule record its gradient calls. Three things
 * are decided here so that the rules stay formulas:
 *
 *   Views         The gradient of a view is the same view of its owner's gradient. The parts of an
 *                 owner that forward nodes consume are its *regions*. Equal or disjoint regions
 *                 covering the owner are written once each and added to afterwards; anything else
 *                 zeroes the whole gradient first.
 *   Add or write  The first call that reaches a region writes it, later ones accumulate.
 *   Recompute     When the walk enters a scope chosen for recomputation, its forward calls are
 *                 recorded a second time and the rules see those copies; gradients stay keyed on
 *                 the originals (primal).
 */
#include "engine/tape_internal.h"

#include <string.h>

/* ---- regions --------------------------------------------------------------------------------- */

/* A part of a storage in canonical form: axes of size 1 dropped, the rest sorted by falling stride
 * and merged where contiguous, so that equal sets of elements compare equal. */
typedef struct qn_region {
    struct qn_region *next;
    int64_t first, count;
    int ndim;
    int64_t shape[QN_MAX_DIMS], stride[QN_MAX_DIMS];
    bool written;
} qn_region;

static qn_region region_of(const qn_value *v) {
    qn_region r = {.first = v->offset, .count = qn_tensor_count(&v->t)};
    for (int i = 0; i < v->t.ndim; i++) {
        if (v->t.shape[i] == 1) continue;
        int k = r.ndim++;
        for (; k > 0 && r.stride[k - 1] < v->t.stride[i]; k--) {
            r.shape[k] = r.shape[k - 1];
            r.stride[k] = r.stride[k - 1];
        }
        r.shape[k] = v->t.shape[i];
        r.stride[k] = v->t.stride[i];
    }
    int n = r.ndim ? 1 : 0;
    for (int i = 1; i < r.ndim; i++) {
        if (r.stride[n - 1] == r.stride[i] * r.shape[i]) {
            r.shape[n - 1] *= r.shape[i];
            r.stride[n - 1] = r.stride[i];
        } else {
            r.shape[n] = r.shape[i];
            r.stride[n++] = r.stride[i];
        }
    }
    r.ndim = n;
    return r;
}

static bool region_equal(const qn_region *a, const qn_region *b) {
    if (a->first != b->first || a->count != b->count || a->ndim != b->ndim) return false;
    return memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0 &&
           memcmp(a->stride, b->stride, (size_t)a->ndim * sizeof *a->stride) == 0;
}

static int64_t region_last(const qn_region *r) {
    int64_t last = r->first;
    for (int i = 0; i < r->ndim; i++) last += (r->shape[i] - 1) * r->stride[i];
    return last;
}

/* Exact for intervals and for column blocks of one row length; otherwise says "no" when unsure. */
static bool region_disjoint(const qn_region *a, const qn_region *b) {
    if (a->count == 0 || b->count == 0) return true;
    if (region_last(a) < b->first || region_last(b) < a->first) return true;
    if (a->ndim != 2 || b->ndim != 2 || a->stride[1] != 1 || b->stride[1] != 1 ||
        a->stride[0] != b->stride[0]) {
        return false;
    }
    int64_t row = a->stride[0], ca = a->first % row, cb = b->first % row;
    if (ca + a->shape[1] > row || cb + b->shape[1] > row) return false;
    return ca + a->shape[1] <= cb || cb + b->shape[1] <= ca;
}

static qn_value *primal_owner(const qn_value *v) {
    return v->base->primal ? v->base->primal : v->base;
}

static qn_region *region_find(const qn_value *v) {
    qn_region want = region_of(v);
    for (qn_region *r = primal_owner(v)->regions; r; r = r->next) {
        if (region_equal(r, &want)) return r;
    }
    return NULL;
}

static qn_status region_register(qn_tape *t, qn_value *v) {
    if (region_find(v)) return QN_OK;
    qn_region *r = qn_setup_alloc(t->setup, sizeof *r);
    if (!r) return QN_ERR_OOM;
    qn_value *owner = primal_owner(v);
    *r = region_of(v);
    r->written = owner->grad && owner->grad->grad_written;
    r->next = owner->regions;
    owner->regions = r;
    return QN_OK;
}

/* Owners whose consumed regions overlap partly, or leave gaps, start from zero. Given storage may
 * have gaps: what nothing consumes keeps the zero it was created with. */
static void choose_zero_first(qn_value *owner) {
    int64_t covered = 0;
    for (const qn_region *a = owner->regions; a; a = a->next) {
        covered += a->count;
        for (const qn_region *b = a->next; b; b = b->next) {
            if (!region_disjoint(a, b)) owner->zero_first = true;
        }
    }
    if (owner->cls == QN_CLASS_TEMP && covered != qn_tensor_count(&owner->t))
        owner->zero_first = true;
    if (owner->grad && owner->grad->grad_written) owner->zero_first = false;
}

/* ---- gradient storage ------------------------------------------------------------------------ */

bool qn_grad_wanted(const qn_tape *t, const qn_value *v) {
    (void)t;
    return v && v->requires_grad;
}

bool qn_grad_is_root(const qn_tape *t, const qn_value *v) { return primal_owner(v) == t->root; }

static qn_status zero_whole(qn_tape *t, qn_value *owner) {
    qn_value *g = owner->grad;
    g->is_grad = false; /* a plain write, whatever was there */
    qn_status s = qn_fill_into(t, g, 0.0);
    g->is_grad = true;
    for (qn_region *r = owner->regions; r; r = r->next) r->written = true;
    return s;
}

static qn_status ensure_grad(qn_tape *t, qn_value *owner) {
    bool fresh = !owner->grad;
    if (fresh) {
        qn_tensor desc = qn_tensor_make(NULL, owner->t.dtype, owner->t.ndim, owner->t.shape);
        owner->grad = qni_value_new(t, &desc, QN_CLASS_TEMP, owner->name);
        if (!owner->grad) return QN_ERR_OOM;
        owner->grad->is_grad = true;
        owner->grad->producer = t->n_nodes;
        owner->grad->keep = owner->cls != QN_CLASS_TEMP;
    }
    if (owner->zero_first && (fresh || owner->cls != QN_CLASS_TEMP)) {
        owner->zero_first = false;
        return zero_whole(t, owner);
    }
    return QN_OK;
}

/* The part of owner->grad that mirrors the view v. */
static qn_value *grad_view(qn_tape *t, qn_value *owner, const qn_value *v) {
    qn_value *g = qn_tape_view(t, owner->grad, v->t.ndim, v->t.shape, v->t.stride, v->offset);
    if (g) {
        g->is_grad = true;
        g->region = region_find(v);
    }
    return g;
}

qn_value *qn_grad_slot(qn_tape *t, qn_value *in) {
    if (!qn_grad_wanted(t, in) || t->error.status != QN_OK) return NULL;
    qn_value *owner = primal_owner(in);
    if (qni_tape_fail(t, ensure_grad(t, owner)) != QN_OK) return NULL;
    return grad_view(t, owner, in);
}

static bool any_written(const qn_value *owner) {
    if (!owner->grad) return false;
    for (const qn_region *r = owner->regions; r; r = r->next) {
        if (r->written) return true;
    }
    return false;
}

qn_value *qn_grad_of(qn_tape *t, qn_value *out) {
    if (!out || t->error.status != QN_OK) return NULL;
    qn_value *owner = primal_owner(out);
    if (owner == t->root) {
        if (!owner->grad) owner->grad = qn_fill(t, out->t.dtype, out->t.ndim, out->t.shape, 1.0);
        return owner->grad;
    }
    if (!any_written(owner)) return NULL;
    for (qn_region *r = owner->regions; r;
         r = r->next) { /* consumed, but nothing came back: zero */
        if (r->written || r->count == 0) continue;
        qn_value *part = qn_tape_view(t, owner->grad, r->ndim, r->shape, r->stride, r->first);
        if (qn_fill_into(t, part, 0.0) != QN_OK) return NULL;
        r->written = true;
    }
    return grad_view(t, owner, out);
}

qn_status qni_grad_claim(qn_tape *t, qn_node *n, int slot, qn_value **redirect) {
    (void)t;
    qn_value *g = n->out[slot];
    bool *written = g->region ? &g->region->written : &g->grad_written;
    if (!*written) {
        *written = true;
    } else if (n->call.op->can_accumulate & 1u << slot) {
        n->call.accumulate |= 1u << slot;
    } else {
        *redirect = g;
        n->out[slot] = NULL;
    }
    return QN_OK;
}

static qn_status copy_into(qn_tape *t, qn_value *dst, qn_value *src) {
    return qn_tape_emit(t, &qn_op_copy, &src, &dst, 0, NULL, NULL);
}

qn_status qni_grad_merge(qn_tape *t, qn_value *dst, qn_value *src) {
    return copy_into(t, dst, src);
}

/* dy may become the gradient of `owner` itself: same bytes, nobody else's, and made by the
 * backward. */
static bool may_take_over(const qn_tape *t, const qn_value *owner, const qn_value *in,
                          const qn_value *dy) {
    const qn_value *d = dy->base;
    bool made_backward =
        d->producer >= 0 && d->producer < t->n_nodes && t->nodes[d->producer]->backward;
    return !owner->grad && !owner->zero_first && owner->cls == QN_CLASS_TEMP && in->offset == 0 &&
           qn_tensor_count(&in->t) == qn_tensor_count(&owner->t) &&
           qn_tensor_is_contiguous(&in->t) && d->cls == QN_CLASS_TEMP && !d->keep && !d->donated &&
           made_backward && qn_tensor_is_contiguous(&dy->t) && dy->t.dtype == in->t.dtype &&
           qn_tensor_count(&d->t) == qn_tensor_count(&dy->t);
}

qn_status qn_grad_pass(qn_tape *t, qn_value *in, qn_value *dy) {
    if (!qn_grad_wanted(t, in) || !dy || t->error.status != QN_OK) return t->error.status;
    qn_value *owner = primal_owner(in);
    if (!may_take_over(t, owner, in, dy)) {
        qn_value *slot = qn_grad_slot(t, in);
        return slot ? copy_into(t, slot, dy) : t->error.status;
    }
    qn_tensor flat = qn_tensor_make(NULL, owner->t.dtype, owner->t.ndim, owner->t.shape);
    owner->grad = qn_tape_view(t, dy, flat.ndim, flat.shape, flat.stride, 0);
    if (!owner->grad) return t->error.status;
    owner->grad->is_grad = true;
    dy->base->donated = true;
    for (qn_region *r = owner->regions; r; r = r->next) r->written = true;
    return QN_OK;
}

/* ---- saved outputs --------------------------------------------------------------------------- */

static qn_status infer_again(qn_tape *t, qn_node *n, int slot, qn_tensor *desc) {
    qn_tensor described[QN_MAX_OUT] = {0};
    n->call.out[slot] = &described[slot];
    QN_TRY(qni_node_infer(t, n, described));
    *desc = described[slot];
    for (int i = 0; i < n->call.op->n_out; i++) {
        n->call.out[i] = n->out[i] ? &n->out[i]->t : NULL;
    }
    return QN_OK;
}

qn_value *qn_node_save(qn_tape *t, qn_node *n, int slot) {
    if (t->error.status != QN_OK) return NULL;
    if (n->out[slot]) return n->out[slot];
    qn_tensor desc;
    if (qni_tape_fail(t, infer_again(t, n, slot, &desc)) != QN_OK) return NULL;
    n->out[slot] = qni_node_output(t, n, slot, &desc);
    if (!n->out[slot]) {
        qni_tape_fail(t, QN_ERR_OOM);
        return NULL;
    }
    n->out[slot]->producer = n->index;
    n->call.out[slot] = &n->out[slot]->t;
    return n->out[slot];
}

qn_value *qn_node_save_grad(qn_tape *t, qn_node *n, int slot, qn_value *in) {
    if (!qn_grad_wanted(t, in) || t->error.status != QN_OK) return NULL;
    qn_value *owner = primal_owner(in);
    qn_region *r = region_find(in);
    bool written = r && r->written;
    bool can = n->call.op->can_accumulate & 1u << slot;
    if (owner->zero_first ||
        (written && !can)) { /* what fills the gradient comes after this node */
        qn_value *saved = qn_node_save(t, n, slot);
        return saved && qn_grad_pass(t, in, saved) == QN_OK ? saved : NULL;
    }
    qn_value *g = qn_grad_slot(t, in);
    if (!g) return NULL;
    n->out[slot] = g;
    if (written) n->call.accumulate |= 1u << slot;
    if (r) r->written = true;
    qn_tensor desc;
    if (qni_tape_fail(t, infer_again(t, n, slot, &desc)) != QN_OK) return NULL;
    if (owner->grad->producer < 0 || owner->grad->producer > n->index)
        owner->grad->producer = n->index;
    return g;
}

/* ---- recomputation --------------------------------------------------------------------------- */

static qn_value *mapped(qn_tape *t, qn_value *v, qn_value *const *copy_of, int n_values) {
    qn_value *copy = v && v->base->id < n_values ? copy_of[v->base->id] : NULL;
    if (!copy) return v;
    if (qni_owns(v)) return copy;
    qn_value *w = qni_value_new(t, &v->t, v->cls, v->name);
    if (!w) return NULL;
    w->base = copy;
    w->offset = v->offset;
    w->requires_grad = v->requires_grad;
    return w;
}

static bool updates_something(const qn_node *n) {
    for (int i = 0; i < n->call.op->n_out; i++) {
        if (n->out[i] && n->call.op->alias[i] == QN_UPDATES) return true;
    }
    return false;
}

static qn_status clone_node(qn_tape *t, const qn_node *n, qn_value **copy_of, int n_values,
                            qn_node **out) {
    qn_node *c = qn_setup_alloc(t->setup, sizeof *c);
    if (!c) return QN_ERR_OOM;
    *c = *n;
    for (int i = 0; i < n->call.op->n_in; i++) {
        c->in[i] = mapped(t, n->in[i], copy_of, n_values);
        c->call.in[i] = c->in[i] ? &c->in[i]->t : NULL;
        if (n->in[i] && !c->in[i]) return QN_ERR_OOM;
    }
    for (int i = 0; i < n->call.op->n_out; i++) {
        if (!n->out[i]) continue;
        c->out[i] = qni_value_new(t, &n->out[i]->t, QN_CLASS_TEMP, n->out[i]->name);
        if (!c->out[i]) return QN_ERR_OOM;
        c->out[i]->primal = n->out[i];
        c->out[i]->requires_grad = n->out[i]->requires_grad;
        c->out[i]->producer = t->n_nodes;
        c->call.out[i] = &c->out[i]->t;
        copy_of[n->out[i]->id] = c->out[i];
    }
    t->scope = n->scope;
    QN_TRY(qni_node_append(t, c));
    *out = c;
    return QN_OK;
}

/* ---- the walk -------------------------------------------------------------------------------- */

static bool reached(const qn_tape *t, const qn_node *n) {
    for (int i = 0; i < n->call.op->n_out; i++) {
        if (!n->out[i]) continue;
        const qn_value *o = n->out[i]->primal ? n->out[i]->primal : n->out[i];
        if (o == t->root || any_written(o)) return true;
    }
    return false;
}

static bool differentiable_input(const qn_node *n) {
    for (int i = 0; i < n->call.op->n_in; i++) {
        if (n->in[i] && n->in[i]->requires_grad) return true;
    }
    return false;
}

static qn_status apply_rule(qn_tape *t, qn_node *n) {
    if (!reached(t, n) || !differentiable_input(n)) return QN_OK;
    if (!n->call.op->backward) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s%s%s has no gradient, but the loss depends on it",
                       n->call.scope, *n->call.scope ? ": " : "", n->call.op->name);
    }
    t->scope = n->scope;
    QN_TRY(n->call.op->backward(t, n));
    return t->error.status;
}

/* Nodes [first, last] are one recomputed scope. */
static qn_status walk_recomputed(qn_tape *t, int first, int last) {
    bool any = false;
    for (int i = first; i <= last; i++) any = any || reached(t, t->nodes[i]);
    if (!any) return QN_OK;
    int n_values = t->n_values;
    qn_value **copy_of = qn_alloc((size_t)n_values * sizeof *copy_of, "recomputation");
    qn_node **copies = qn_alloc((size_t)(last - first + 1) * sizeof *copies, "recomputation");
    qn_status status = copy_of && copies ? QN_OK : QN_ERR_OOM;
    for (int i = first; i <= last && status == QN_OK; i++) {
        copies[i - first] = t->nodes[i];
        if (!updates_something(t->nodes[i])) {
            status = clone_node(t, t->nodes[i], copy_of, n_values, &copies[i - first]);
        }
    }
    for (int i = last; i >= first && status == QN_OK; i--)
        status = apply_rule(t, copies[i - first]);
    qn_free(copies);
    qn_free(copy_of);
    return status;
}

static qn_status differentiate(qn_tape *t, qn_value *loss) {
    if (qn_tensor_count(&loss->t) != 1 || !qn_dtype_is_float(loss->t.dtype)) {
        char d[96];
        return qn_fail(QN_ERR_SHAPE, "backward: the loss must be one floating number, found %s",
                       qn_tensor_describe(&loss->t, d, sizeof d));
    }
    int n_forward = t->n_nodes, n_values = t->n_values;
    for (int i = 0; i < n_forward; i++) {
        for (int k = 0; k < t->nodes[i]->call.op->n_in; k++) {
            qn_value *v = t->nodes[i]->in[k];
            if (v && v->requires_grad) QN_TRY(region_register(t, v));
        }
    }
    for (int i = 0; i < n_values; i++) {
        if (t->values[i]->regions) choose_zero_first(t->values[i]);
    }
    for (int i = n_forward - 1; i >= 0; i--) {
        int scope = t->nodes[i]->recompute_scope, first = i;
        if (scope < 0) {
            QN_TRY(apply_rule(t, t->nodes[i]));
            continue;
        }
        while (first > 0 && t->nodes[first - 1]->recompute_scope == scope) first--;
        QN_TRY(walk_recomputed(t, first, i));
        i = first;
    }
    return QN_OK;
}

qn_status qn_tape_backward(qn_tape *t, qn_value *loss) {
    if (t->error.status != QN_OK) return t->error.status;
    if (!loss) return qni_tape_fail(t, qn_fail(QN_ERR_INTERNAL, "backward: no loss was recorded"));
    int scope = t->scope;
    t->root = loss;
    t->in_backward = true;
    qn_status s = qni_tape_fail(t, differentiate(t, loss));
    t->in_backward = false;
    t->scope = scope;
    return s;
}
