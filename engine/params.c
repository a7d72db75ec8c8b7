/* params.c — the parameter table: layout in flat arrays, initial draws, values for recording. */
#include "engine/params.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ALIGN_ELEMENTS = 64, INIT_BLOCK = 65536 };

qn_dtype qn_precision_weight_dtype(qn_precision p) {
    return p == QN_PRECISION_F32 ? QN_F32 : p == QN_PRECISION_F64 ? QN_F64 : QN_BF16;
}

qn_dtype qn_precision_grad_dtype(qn_precision p) { return p == QN_PRECISION_F64 ? QN_F64 : QN_F32; }

const char *qn_precision_name(qn_precision p) {
    static const char *const names[] = {"f32", "bf16", "bf16_sr", "f64"};
    return names[p];
}

qn_status qn_params_create(qn_params **out) {
    qn_params *p = qn_alloc(sizeof *p, "the parameter table");
    if (!p) return QN_ERR_OOM;
    if (qn_setup_create("parameters", &p->setup) != QN_OK) {
        qn_free(p);
        return QN_ERR_OOM;
    }
    *out = p;
    return QN_OK;
}

void qn_params_free(qn_params *p) {
    if (!p) return;
    qn_setup_free(p->setup);
    qn_free(p->item);
    qn_free(p);
}

qn_status qn_params_add(qn_params *p, const qn_param *spec) {
    if (qn_params_find(p, spec->name)) {
        return qn_fail(QN_ERR_INTERNAL, "parameter %s is declared twice", spec->name);
    }
    if (p->n == p->cap) {
        int wider = p->cap ? p->cap * 2 : 32;
        qn_param *grown = qn_realloc(p->item, (size_t)p->cap * sizeof *grown,
                                     (size_t)wider * sizeof *grown, "the parameter table");
        if (!grown) return QN_ERR_OOM;
        p->item = grown;
        p->cap = wider;
    }
    qn_param *q = &p->item[p->n];
    *q = *spec;
    q->name = qn_setup_strdup(p->setup, spec->name);
    q->hf_name = qn_setup_strdup(p->setup, spec->hf_name ? spec->hf_name : spec->name);
    if (!q->name || !q->hf_name) return QN_ERR_OOM;
    q->count = 1;
    for (int i = 0; i < q->ndim; i++) {
        if (!qn_mul_i64(q->count, q->shape[i], &q->count)) {
            return qn_fail(QN_ERR_CONFIG, "parameter %s is too large", q->name);
        }
    }
    q->lr_scale = 1.0;
    q->weight_decay = -1.0;
    p->n++;
    return QN_OK;
}

static int find(const qn_params *p, const char *name) {
    for (int i = 0; i < p->n; i++) {
        if (strcmp(p->item[i].name, name) == 0) return i;
    }
    return -1;
}

const qn_param *qn_params_find(const qn_params *p, const char *name) {
    int i = find(p, name);
    return i < 0 ? NULL : &p->item[i];
}

const qn_adapter *qn_params_adapter(const qn_params *p, const char *path) {
    for (int i = 0; i < p->n_adapters; i++) {
        if (strcmp(p->adapter[i].path, path) == 0) return &p->adapter[i];
    }
    return NULL;
}

int qn_params_group(qn_params *p, const char *glob, double lr_scale, double weight_decay,
                    int frozen) {
    int matched = 0;
    for (int i = 0; i < p->n; i++) {
        qn_param *q = &p->item[i];
        if (!qn_glob_match(glob, q->name) && !qn_glob_match(glob, q->hf_name)) continue;
        matched++;
        if (q->grouped) continue;
        q->grouped = true;
        if (lr_scale >= 0) q->lr_scale = lr_scale;
        if (weight_decay >= 0) q->weight_decay = weight_decay;
        if (frozen >= 0) q->frozen = frozen != 0;
    }
    return matched;
}

/* ---- layout ---------------------------------------------------------------------------------- */

static int64_t place(qn_params *p, bool frozen, int64_t at) {
    for (int i = 0; i < p->n; i++) {
        qn_param *q = &p->item[i];
        if (q->frozen != frozen) continue;
        bool joined = q->fused && i > 0 && p->item[i - 1].frozen == frozen;
        if (!joined) at = (at + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
        q->offset = at;
        at += q->count;
    }
    return (at + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
}

static qn_status make_segments(qn_params *p) {
    p->segments = qn_setup_alloc(p->setup, ((size_t)p->n + 1) * sizeof *p->segments);
    if (!p->segments) return QN_ERR_OOM;
    p->n_segments = 0;
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        if (q->frozen) continue;
        qn_segment *last = p->n_segments ? &p->segments[p->n_segments - 1] : NULL;
        bool same = last && last->lr_scale == q->lr_scale && last->weight_decay == q->weight_decay;
        if (same) { /* padding between them holds zeros and stays zero under every rule */
            last->count = q->offset + q->count - last->offset;
        } else {
            p->segments[p->n_segments++] =
                (qn_segment){q->offset, q->count, q->lr_scale, q->weight_decay};
        }
    }
    return QN_OK;
}

qn_status qn_params_layout(qn_params *p, qn_precision precision, int moments, double weight_decay,
                           bool keep_best) {
    p->precision = precision;
    p->moments = moments;
    p->parameters = p->trainable_parameters = 0;
    for (int i = 0; i < p->n; i++) {
        qn_param *q = &p->item[i];
        if (q->weight_decay < 0) q->weight_decay = q->no_decay ? 0.0 : weight_decay;
        p->parameters += q->count;
        if (!q->frozen) p->trainable_parameters += q->count;
    }
    p->trainable = place(p, false, 0);
    p->total = place(p, true, p->trainable);
    qn_dtype w = qn_precision_weight_dtype(precision), g = qn_precision_grad_dtype(precision);
    bool master = precision == QN_PRECISION_BF16;
    p->weights = qn_tensor_make(NULL, w, QN_SHAPE(p->total));
    p->master = qn_tensor_make(NULL, g, QN_SHAPE(master ? p->trainable : 0));
    p->grads = qn_tensor_make(NULL, g, QN_SHAPE(p->trainable));
    for (int k = 0; k < 2; k++)
        p->moment[k] = qn_tensor_make(NULL, g, QN_SHAPE(k < moments ? p->trainable : 0));
    p->best = qn_tensor_make(NULL, master ? g : w, QN_SHAPE(keep_best ? p->trainable : 0));
    p->class_bytes[QN_CLASS_WEIGHT] = (int64_t)qn_tensor_bytes(&p->weights);
    p->class_bytes[QN_CLASS_MASTER] = (int64_t)qn_tensor_bytes(&p->master);
    p->class_bytes[QN_CLASS_GRADIENT] = (int64_t)qn_tensor_bytes(&p->grads);
    p->class_bytes[QN_CLASS_MOMENT] =
        (int64_t)(qn_tensor_bytes(&p->moment[0]) + qn_tensor_bytes(&p->moment[1]));
    p->class_bytes[QN_CLASS_BEST] = (int64_t)qn_tensor_bytes(&p->best);
    return make_segments(p);
}

int64_t qn_params_bytes(const qn_params *p) {
    int64_t sum = 0;
    for (int i = 0; i < QN_CLASS_COUNT; i++) sum += p->class_bytes[i];
    return sum;
}

void qn_params_bind(qn_params *p, qn_device device, void *base) {
    p->device = device;
    char *at = base; /* counts are multiples of 64 elements, so each array stays 64-byte aligned */
    qn_tensor *all[] = {&p->weights, &p->master, &p->grads, &p->moment[0], &p->moment[1], &p->best};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        all[i]->data = all[i]->shape[0] ? at : NULL;
        at += qn_tensor_bytes(all[i]);
    }
}

qn_tensor qn_param_tensor(const qn_params *p, int i, const qn_tensor *flat) {
    const qn_param *q = &p->item[i];
    char *data =
        flat->data ? (char *)flat->data + q->offset * (int64_t)qn_dtype_bytes(flat->dtype) : NULL;
    return qn_tensor_make(data, flat->dtype, q->ndim, q->shape);
}

/* ---- initial weights ------------------------------------------------------------------------- */

typedef struct draw {
    const qn_param *q;
    uint64_t key;
    qn_tensor weights, master; /* of the parameter, on the host; master.data NULL if it has none */
} draw;

static void draw_block(void *ctx, int64_t block) {
    draw *d = ctx;
    int64_t first = block * INIT_BLOCK, last = first + INIT_BLOCK;
    if (last > d->q->count) last = d->q->count;
    for (int64_t i = first; i < last; i++) {
        double v = d->q->init == QN_INIT_ONE ? 1.0 : 0.0;
        if (d->q->init == QN_INIT_NORMAL)
            v = d->q->init_scale * qn_rng_normal(d->key, 0, (uint64_t)i);
        if (d->q->init == QN_INIT_UNIFORM) {
            v = d->q->init_scale * (2.0 * qn_rng_uniform(d->key, 0, (uint64_t)i) - 1.0);
        }
        v = (double)(float)v; /* one draw for every precision */
        qn_tensor_set(&d->weights, i, v);
        if (d->master.data) qn_tensor_set(&d->master, i, v);
    }
}

static qn_status draw_param(qn_params *p, int i, draw *d, int threads) {
    qn_tensor weights = d->weights, master = d->master;
    size_t w = qn_tensor_bytes(&weights), m = master.data ? qn_tensor_bytes(&master) : 0;
    char *host = NULL;
    if (qn_device_get(p->device)->separate) {
        host = qn_alloc(w + m, p->item[i].name);
        if (!host) return QN_ERR_OOM;
        d->weights.data = host;
        if (m) d->master.data = host + w;
    }
    qn_parallel_for(threads, (d->q->count + INIT_BLOCK - 1) / INIT_BLOCK, draw_block, d);
    qn_status s = qn_device_copy(p->device, weights.data, d->weights.data, w);
    if (s == QN_OK) s = qn_device_copy(p->device, master.data, d->master.data, m);
    qn_free(host);
    return s;
}

qn_status qn_params_init(qn_params *p, uint64_t seed, int threads) {
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        draw d = {q, qn_rng_key(seed, q->name, "init"), qn_param_tensor(p, i, &p->weights),
                  qn_param_tensor(p, i, &p->master)};
        if (q->frozen) d.master.data = NULL;
        QN_TRY(draw_param(p, i, &d, threads));
    }
    return QN_OK;
}

/* The first elements of dst = those of src, rounded to its dtype on the host: in place where the
 * host sees them, else block by block through its memory. */
static qn_status convert(const qn_params *p, const qn_tensor *dst, const qn_tensor *src,
                         int64_t count) {
    size_t to = qn_dtype_bytes(dst->dtype), from = qn_dtype_bytes(src->dtype);
    char *host = NULL;
    if (count > 0 && qn_device_get(p->device)->separate &&
        !(host = qn_alloc(INIT_BLOCK * (to + from), "converting weights")))
        return QN_ERR_OOM;
    qn_status s = QN_OK;
    for (int64_t at = 0; at < count && s == QN_OK; at += INIT_BLOCK) {
        int64_t n = count - at < INIT_BLOCK ? count - at : INIT_BLOCK;
        char *target = (char *)dst->data + (size_t)at * to;
        char *source = (char *)src->data + (size_t)at * from;
        qn_tensor y = qn_tensor_make(host ? host : target, dst->dtype, 1, &n);
        qn_tensor x = qn_tensor_make(host ? host + INIT_BLOCK * to : source, src->dtype, 1, &n);
        s = qn_device_copy(p->device, x.data, source, (size_t)n * from);
        for (int64_t i = 0; i < n; i++) qn_tensor_set(&y, i, qn_tensor_get(&x, i));
        if (s == QN_OK) s = qn_device_copy(p->device, target, y.data, (size_t)n * to);
    }
    qn_free(host);
    return s;
}

qn_status qn_params_sync_weights(qn_params *p) {
    return convert(p, &p->weights, &p->master, p->master.shape[0]);
}

qn_status qn_params_sync_masters(qn_params *p) {
    return convert(p, &p->master, &p->weights, p->master.shape[0]);
}

/* ---- values ---------------------------------------------------------------------------------- */

qn_status qn_graph_create(qn_tape *t, const qn_params *p, bool training, qn_graph *out) {
    *out = (qn_graph){.tape = t, .params = p};
    out->weights = qn_tape_given(t, "weights", QN_CLASS_WEIGHT, &p->weights, training);
    out->param = qn_setup_alloc(p->setup, ((size_t)p->n + 1) * sizeof *out->param);
    if (!out->param) return QN_ERR_OOM;
    if (training) {
        qn_value *g = qn_tape_given(t, "gradients", QN_CLASS_GRADIENT, &p->grads, false);
        qn_tape_set_grad(t, out->weights, g);
    }
    return qn_tape_status(t);
}

static int find_formatted(qn_graph *g, const char *format, va_list args, char *name, size_t size) {
    vsnprintf(name, size, format, args);
    int i = find(g->params, name);
    if (i < 0)
        qn_tape_abort(g->tape, qn_fail(QN_ERR_INTERNAL,
                                       "the model uses parameter %s, which nobody declared", name));
    return i;
}

static qn_value *view_of(qn_graph *g, const qn_param *q, int ndim, const int64_t *shape) {
    qn_tensor like = qn_tensor_make(NULL, g->params->weights.dtype, ndim, shape);
    qn_value *v = qn_tape_view(g->tape, g->weights, ndim, like.shape, like.stride, q->offset);
    if (!v) return NULL;
    v->requires_grad = v->requires_grad && !q->frozen;
    v->name = q->name;
    return v;
}

qn_value *qn_graph_param(qn_graph *g, const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    int i = find_formatted(g, format, args, name, sizeof name);
    va_end(args);
    if (i < 0) return NULL;
    const qn_param *q = &g->params->item[i];
    if (!g->param[i]) g->param[i] = view_of(g, q, q->ndim, q->shape);
    return g->param[i];
}

qn_value *qn_graph_fused(qn_graph *g, int count, const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    int i = find_formatted(g, format, args, name, sizeof name);
    va_end(args);
    if (i < 0) return NULL;
    const qn_param *q = &g->params->item[i];
    int64_t shape[QN_MAX_DIMS];
    memcpy(shape, q->shape, sizeof shape);
    for (int k = 1; k < count; k++) {
        const qn_param *next = i + k < g->params->n ? q + k : NULL;
        if (!next || !next->fused || next->ndim != q->ndim || next->frozen != q->frozen ||
            next->offset != q[k - 1].offset + q[k - 1].count) {
            return NULL; /* the caller then uses them one by one */
        }
        shape[0] += next->shape[0];
    }
    return view_of(g, q, q->ndim, shape);
}
