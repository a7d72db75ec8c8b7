/* tape.c — recording: values, views, scopes and nodes.
 *
 * A tape is two arrays, values and nodes, in the order they were recorded. Everything lives in one
 * set-up arena and dies with the tape. No data is touched here: infer works on shapes alone.
 */
#include "engine/tape_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- life ------------------------------------------------------------------------------------ */

static qn_status grow(void **array, int n, int *cap, size_t item) {
    if (n < *cap) return QN_OK;
    int wider = *cap ? *cap * 2 : 64;
    void *p = qn_realloc(*array, (size_t)*cap * item, (size_t)wider * item, "a tape");
    if (!p) return QN_ERR_OOM;
    *array = p;
    *cap = wider;
    return QN_OK;
}

static qn_status scope_add(qn_tape *t, const char *path, int parent) {
    QN_TRY(grow((void **)&t->scopes, t->n_scopes, &t->cap_scopes, sizeof *t->scopes));
    const char *copy = qn_setup_strdup(t->setup, path);
    if (!copy) return QN_ERR_OOM;
    int recompute = parent >= 0 ? t->scopes[parent].recompute : -1;
    if (recompute < 0 && t->options.recompute && *path) {
        for (const char *const *g = t->options.recompute; *g && recompute < 0; g++) {
            if (qn_glob_match(*g, path)) recompute = t->n_scopes;
        }
    }
    t->scopes[t->n_scopes] = (qni_scope){copy, parent, recompute};
    t->scope = t->n_scopes++;
    return QN_OK;
}

qn_status qn_tape_create(const qn_tape_options *o, qn_tape **out) {
    qn_tape *t = qn_alloc(sizeof *t, "a tape");
    if (!t) return QN_ERR_OOM;
    t->options = *o;
    if (t->options.threads < 1) t->options.threads = 1;
    qn_status s = qn_setup_create("tape", &t->setup);
    if (s == QN_OK) s = scope_add(t, "", -1);
    if (s != QN_OK) {
        qn_tape_free(t);
        return s;
    }
    *out = t;
    return QN_OK;
}

void qn_tape_free(qn_tape *t) {
    if (!t) return;
    qn_setup_free(t->setup);
    qn_free(t->nodes);
    qn_free(t->values);
    qn_free(t->scopes);
    qn_free(t);
}

qn_status qn_tape_status(const qn_tape *t) {
    return t->error.status == QN_OK ? QN_OK : qn_error_raise(&t->error);
}

const qn_tape_options *qn_tape_get_options(const qn_tape *t) { return &t->options; }

qn_status qni_tape_fail(qn_tape *t, qn_status s) {
    if (s != QN_OK && t->error.status == QN_OK) qn_error_get(s, &t->error);
    return s;
}

/* ---- values ---------------------------------------------------------------------------------- */

void qn_tape_abort(qn_tape *t, qn_status s) { (void)qni_tape_fail(t, s); }

qn_value *qni_value_new(qn_tape *t, const qn_tensor *desc, qn_class cls, const char *name) {
    qn_value *v = qn_setup_alloc(t->setup, sizeof *v);
    if (!v || grow((void **)&t->values, t->n_values, &t->cap_values, sizeof *t->values) != QN_OK) {
        qni_tape_fail(t, QN_ERR_OOM);
        return NULL;
    }
    v->t = *desc;
    v->base = v;
    v->cls = cls;
    v->name = name ? name : "";
    v->id = t->n_values;
    v->producer = -1;
    v->pool_offset = -1;
    v->first_use = v->last_use = -1;
    t->values[t->n_values++] = v;
    return v;
}

qn_value *qn_tape_given(qn_tape *t, const char *name, qn_class cls, const qn_tensor *desc,
                        bool requires_grad) {
    if (t->error.status != QN_OK) return NULL;
    const char *copy = qn_setup_strdup(t->setup, name);
    if (!copy) {
        qni_tape_fail(t, QN_ERR_OOM);
        return NULL;
    }
    qn_value *v = qni_value_new(t, desc, cls, copy);
    if (v) v->requires_grad = requires_grad;
    return v;
}

void qn_tape_set_grad(qn_tape *t, qn_value *param, qn_value *grad) {
    if (!param || !grad) return;
    param->grad = grad;
    grad->is_grad = true;
    grad->grad_written = t->options.accumulate_params;
}

qn_value *qn_tape_keep(qn_tape *t, qn_value *v, const char *name) {
    if (!v) return NULL;
    v->base->keep = true;
    const char *copy = name ? qn_setup_strdup(t->setup, name) : v->name;
    if (copy) v->name = copy;
    return v;
}

static bool view_in_bounds(const qn_value *owner, int64_t first, int ndim, const int64_t *shape,
                           const int64_t *stride) {
    int64_t last = first;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0 || stride[i] < 0) return false;
        if (shape[i] == 0) return true;
        last += (shape[i] - 1) * stride[i];
    }
    return first >= 0 && last < qn_tensor_count(&owner->t);
}

qn_value *qn_tape_view(qn_tape *t, qn_value *v, int ndim, const int64_t *shape,
                       const int64_t *stride, int64_t offset) {
    if (!v || t->error.status != QN_OK) return NULL;
    qn_value *owner = v->base;
    int64_t first = v->offset + offset;
    if (ndim > QN_MAX_DIMS || !view_in_bounds(owner, first, ndim, shape, stride)) {
        qni_tape_fail(t, qn_fail(QN_ERR_SHAPE, "%s: a view of %s%s reaches outside its storage",
                                 t->scopes[t->scope].path, v->name,
                                 ndim > QN_MAX_DIMS ? " (too many axes)" : ""));
        return NULL;
    }
    qn_tensor desc = {.dtype = v->t.dtype, .ndim = ndim};
    for (int i = 0; i < ndim; i++) {
        desc.shape[i] = shape[i];
        desc.stride[i] = stride[i];
    }
    if (owner->t.data)
        desc.data = (char *)owner->t.data + first * (int64_t)qn_dtype_bytes(desc.dtype);
    qn_value *w = qni_value_new(t, &desc, v->cls, v->name);
    if (!w) return NULL;
    w->base = owner;
    w->offset = first;
    w->requires_grad = v->requires_grad && t->no_grad == 0;
    w->producer = owner->producer;
    return w;
}

/* ---- scopes ---------------------------------------------------------------------------------- */

void qn_tape_scope_push(qn_tape *t, const char *format, ...) {
    if (t->error.status != QN_OK) return;
    char path[512];
    const char *parent = t->scopes[t->scope].path;
    int n = *parent ? snprintf(path, sizeof path, "%s.", parent) : 0;
    va_list args;
    va_start(args, format);
    vsnprintf(path + n, sizeof path - (size_t)n, format, args);
    va_end(args);
    qni_tape_fail(t, scope_add(t, path, t->scope));
}

void qn_tape_scope_pop(qn_tape *t) {
    if (t->error.status == QN_OK && t->scopes[t->scope].parent >= 0)
        t->scope = t->scopes[t->scope].parent;
}

void qn_tape_no_grad_push(qn_tape *t) { t->no_grad++; }
void qn_tape_no_grad_pop(qn_tape *t) {
    if (t->no_grad > 0) t->no_grad--;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

qn_status qni_node_append(qn_tape *t, qn_node *n) {
    QN_TRY(grow((void **)&t->nodes, t->n_nodes, &t->cap_nodes, sizeof *t->nodes));
    n->scope = t->scope;
    n->call.scope = t->scopes[t->scope].path;
    n->recompute_scope = t->scopes[t->scope].recompute;
    n->backward = t->in_backward;
    n->index = t->n_nodes;
    t->nodes[t->n_nodes++] = n;
    return QN_OK;
}

/* described[] receives what infer says of each present output. */
qn_status qni_node_infer(qn_tape *t, qn_node *n, qn_tensor *described) {
    const qn_op *op = n->call.op;
    for (int i = 0; i < op->n_in; i++) n->call.in[i] = n->in[i] ? &n->in[i]->t : NULL;
    for (int i = 0; i < op->n_out; i++) {
        if (n->call.out[i]) {
            described[i] = n->out[i] ? n->out[i]->t : (qn_tensor){0};
            n->call.out[i] = &described[i];
        }
    }
    qn_status s = op->infer(&n->call);
    if (s != QN_OK) return *n->call.scope ? qn_fail_prefix(s, "%s", n->call.scope) : s;
    for (int i = 0; i < op->n_out; i++) {
        if (!n->call.out[i] || !n->out[i] || op->alias[i] == QN_UPDATES) continue;
        if (!qn_tensor_same_shape(&described[i], &n->out[i]->t)) {
            char a[96], b[96];
            return qn_fail(QN_ERR_SHAPE, "%s %s: output %s is %s, its storage is %s", n->call.scope,
                           op->name, op->out_name[i],
                           qn_tensor_describe(&described[i], a, sizeof a),
                           qn_tensor_describe(&n->out[i]->t, b, sizeof b));
        }
    }
    n->call.scratch_bytes = qn_device_scratch(t->options.device, &n->call);
    return QN_OK;
}

qn_value *qni_node_output(qn_tape *t, qn_node *n, int slot, const qn_tensor *desc) {
    char name[600];
    snprintf(name, sizeof name, "%s%s%s:%s", n->call.scope, *n->call.scope ? " " : "",
             n->call.op->name, n->call.op->out_name[slot]);
    const char *copy = qn_setup_strdup(t->setup, name);
    if (!copy) return NULL;
    qn_value *v = qni_value_new(t, desc, QN_CLASS_TEMP, copy);
    if (v) v->producer = t->n_nodes;
    return v;
}

static qn_status check_inputs(const qn_op *op, qn_value *const *in) {
    for (int i = 0; i < op->n_in; i++) {
        if (!in[i] && !(op->optional_in & 1u << i)) {
            return qn_fail(QN_ERR_INTERNAL, "%s: input %s is missing", op->name, op->in_name[i]);
        }
    }
    return QN_OK;
}

static qn_status emit(qn_tape *t, const qn_op *op, qn_value *const *in, qn_value **outs,
                      uint32_t want_out, const void *attrs, const char *site) {
    QN_TRY(check_inputs(op, in));
    qn_node *n = qn_setup_alloc(t->setup, sizeof *n);
    if (!n) return QN_ERR_OOM;
    n->call.op = op;
    n->call.scope = t->scopes[t->scope].path;
    n->call.threads = t->options.threads;
    n->call.rng_key = qn_rng_key(t->options.seed, n->call.scope, site ? site : op->name);
    if (op->attr_bytes) {
        void *copy = qn_setup_alloc(t->setup, op->attr_bytes);
        if (!copy) return QN_ERR_OOM;
        memcpy(copy, attrs, op->attr_bytes);
        n->call.attrs = copy;
    }
    bool requires_grad = false;
    for (int i = 0; i < op->n_in; i++) {
        n->in[i] = in[i];
        if (in[i] && in[i]->requires_grad) requires_grad = true;
    }
    requires_grad = requires_grad && t->no_grad == 0 && !t->in_backward;

    qn_tensor described[QN_MAX_OUT] = {0};
    qn_value *redirect[QN_MAX_OUT] = {0};
    for (int i = 0; i < op->n_out; i++) {
        n->out[i] = outs[i];
        bool present = outs[i] || !(op->optional_out & 1u << i) || (want_out & 1u << i);
        n->call.out[i] = present ? &described[i] : NULL;
        if (outs[i] && outs[i]->is_grad && op->alias[i] != QN_UPDATES) {
            QN_TRY(qni_grad_claim(t, n, i, &redirect[i]));
        }
    }
    QN_TRY(qni_node_infer(t, n, described));
    for (int i = 0; i < op->n_out; i++) {
        if (!n->call.out[i]) continue;
        if (!n->out[i]) {
            n->out[i] = qni_node_output(t, n, i, &described[i]);
            if (!n->out[i]) return QN_ERR_OOM;
            n->out[i]->requires_grad = requires_grad && qn_dtype_is_float(n->out[i]->t.dtype);
        }
        n->call.out[i] = &n->out[i]->t;
        outs[i] = n->out[i];
    }
    QN_TRY(qni_node_append(t, n));
    for (int i = 0; i < op->n_out; i++) {
        if (redirect[i]) QN_TRY(qni_grad_merge(t, redirect[i], n->out[i]));
    }
    return QN_OK;
}

qn_status qn_tape_emit(qn_tape *t, const qn_op *op, qn_value *const *in, qn_value **outs,
                       uint32_t want_out, const void *attrs, const char *site) {
    if (t->error.status != QN_OK) return t->error.status;
    return qni_tape_fail(t, emit(t, op, in, outs, want_out, attrs, site));
}

/* ---- globs ----------------------------------------------------------------------------------- */

bool qn_glob_match(const char *glob, const char *path) {
    for (; *glob; glob++, path++) {
        if (*glob == '*') {
            bool any = glob[1] == '*';
            glob += any ? 2 : 1;
            for (;; path++) {
                if (qn_glob_match(glob, path)) return true;
                if (!*path || (*path == '.' && !any)) return false;
            }
        }
        if (!*path || (*glob != '?' && *glob != *path) || (*glob == '?' && *path == '.'))
            return false;
    }
    return !*path;
}
