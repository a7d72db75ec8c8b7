/* lora.c — low-rank adapters beside named linears: which ones, their parameters, their forward
 * pass.
 *
 * A linear W (out, in) that is frozen gets A (r, in) and B (out, r) and becomes
 *   y = x W^T + s dropout(x) A^T B^T + b                        s = alpha/r, rsLoRA alpha/sqrt(r)
 * and with DoRA, n = |W + s B A| per row and constant for the gradient, the magnitudes m learnt:
 *   y = (x - x') W^T + m/n (x' W^T + s x' A^T B^T) + b          x' = dropout(x)
 * It decorates models that know nothing of it: qn_dense asks for the adapter of its path.
 */
#include "layers/layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME = 256 };

/* ---- names ----------------------------------------------------------------------------------- */

/* The glob names the path, or what follows one of its dots. */
static bool names(const char *glob, const char *path) {
    for (; path; path = strchr(path, '.')) {
        if (*path == '.') path++;
        if (qn_glob_match(glob, path)) return true;
    }
    return false;
}

/* A parameter's name without what follows the last dot. */
static void module_of(const char *parameter, char *out) {
    const char *dot = strrchr(parameter, '.');
    size_t length = dot ? (size_t)(dot - parameter) : strlen(parameter);
    if (length >= NAME) length = NAME - 1;
    memmove(out, parameter, length); /* out may be the parameter itself */
    out[length] = '\0';
}

static bool names_module(const char *glob, const qn_param *q) {
    char ours[NAME], theirs[NAME];
    module_of(q->name, ours);
    module_of(q->hf_name, theirs);
    return names(glob, ours) || names(glob, theirs);
}

/* The glob names the parameter's module or one that this is inside. */
static bool names_around(const char *glob, const char *parameter) {
    char path[NAME];
    for (module_of(parameter, path); *path; module_of(path, path)) {
        if (names(glob, path)) return true;
        if (!strchr(path, '.')) return false;
    }
    return false;
}

/* What a wrong target could have been: the last words of the linears' Hugging Face names. */
static qn_status no_such_linear(const qn_params *p, const char *key, const char *glob) {
    char list[400] = "", word[NAME];
    for (int i = 0; i < p->n; i++) {
        if (p->item[i].role != QN_ROLE_LINEAR) continue;
        module_of(p->item[i].hf_name, word);
        const char *last = strrchr(word, '.') ? strrchr(word, '.') + 1 : word;
        size_t used = strlen(list);
        if (strstr(list, last) || used + strlen(last) + 3 > sizeof list) continue;
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", last);
    }
    return qn_fail(QN_ERR_CONFIG, "%s: \"%s\" names no linear layer of this model, which has %s",
                   key, glob, list);
}

/* ---- which linears --------------------------------------------------------------------------- */

static bool targeted(const qn_lora_config *c, const qn_param *q, const char **by) {
    for (int k = 0; k < c->n_targets; k++) {
        *by = c->targets[k];
        bool all = strcmp(*by, "all-linear") == 0;
        if (all ? q->role == QN_ROLE_LINEAR : names_module(*by, q)) return true;
    }
    return false;
}

static bool saved_whole(const qn_lora_config *c, const qn_param *q) {
    for (int k = 0; k < c->n_modules_to_save; k++) {
        const char *glob = c->modules_to_save[k];
        if (names_around(glob, q->name) || names_around(glob, q->hf_name)) return true;
    }
    return false;
}

static qn_status check_names(const qn_lora_config *c, const qn_params *p) {
    for (int k = 0; k < c->n_targets + c->n_patterns; k++) {
        bool pattern = k >= c->n_targets, found = false;
        const char *glob = pattern ? c->patterns[k - c->n_targets].match : c->targets[k];
        for (int i = 0; i < p->n && !found; i++) {
            bool linear = p->item[i].role == QN_ROLE_LINEAR || p->item[i].role == QN_ROLE_OUTPUT;
            found = strcmp(glob, "all-linear") == 0 || (linear && names_module(glob, &p->item[i]));
        }
        if (!found) {
            return no_such_linear(p, pattern ? "adapter.patterns" : "adapter.targets", glob);
        }
    }
    for (int k = 0; k < c->n_modules_to_save; k++) {
        const char *glob = c->modules_to_save[k];
        bool found = false;
        for (int i = 0; i < p->n && !found; i++) {
            found = names_around(glob, p->item[i].name) || names_around(glob, p->item[i].hf_name);
        }
        if (!found) {
            return qn_fail(QN_ERR_CONFIG,
                           "adapter.modules_to_save: \"%s\" names no module of this model", glob);
        }
    }
    return QN_OK;
}

/* ---- parameters ------------------------------------------------------------------------------ */

static qn_status add(qn_params *p, const char *path, const char *hf, const char *kind,
                     qn_param *spec) {
    char name[NAME + 64], hf_name[NAME + 64];
    snprintf(name, sizeof name, "%s.%s.weight", path, kind);
    bool vector = spec->ndim == 1; /* PEFT saves it without ".weight" */
    snprintf(hf_name, sizeof hf_name, "base_model.model.%s.%s%s", hf, kind,
             vector ? "" : ".weight");
    spec->name = name;
    spec->hf_name = hf_name;
    spec->role = QN_ROLE_ADAPTER;
    return qn_params_add(p, spec);
}

static qn_status adapt(const qn_lora_config *c, qn_params *p, int i) {
    char path[NAME], hf[NAME];
    const qn_param *q = &p->item[i];
    int64_t out = q->shape[0], in = q->shape[1], rank = c->rank;
    double alpha = c->alpha;
    for (int k = c->n_patterns - 1; k >= 0; k--) {
        if (!names_module(c->patterns[k].match, q)) continue;
        rank = c->patterns[k].rank > 0 ? c->patterns[k].rank : c->rank;
        alpha = c->patterns[k].alpha > 0 ? c->patterns[k].alpha : c->alpha;
    }
    module_of(q->name, path);
    module_of(q->hf_name, hf);
    qn_param a = {.ndim = 2, .shape = {rank, in}, .init = QN_INIT_UNIFORM};
    a.init_scale = in > 0 ? 1.0 / sqrt((double)in) : 0.0;
    if (c->gaussian) {
        a.init = QN_INIT_NORMAL;
        a.init_scale = 1.0 / (double)rank;
    }
    qn_param b = {.ndim = 2, .shape = {out, rank}, .init = QN_INIT_ZERO};
    qn_param m = {.ndim = 1, .shape = {out}, .init = QN_INIT_ONE, .no_decay = true};
    QN_TRY(add(p, path, hf, "lora_A", &a));
    QN_TRY(add(p, path, hf, "lora_B", &b));
    if (c->dora) QN_TRY(add(p, path, hf, "lora_magnitude_vector", &m));
    qn_adapter *adapter = &p->adapter[p->n_adapters++];
    *adapter = (qn_adapter){.path = qn_setup_strdup(p->setup, path),
                            .alpha = alpha,
                            .scale = alpha / (c->rslora ? sqrt((double)rank) : (double)rank),
                            .dropout = c->dropout,
                            .dora = c->dora};
    return adapter->path ? QN_OK : QN_ERR_OOM;
}

/* Frozen, but for the biases and modules that train too. */
static void freeze(const qn_lora_config *c, qn_params *p, int n) {
    for (int i = 0; i < n; i++) {
        qn_param *q = &p->item[i];
        const char *dot = strrchr(q->name, '.');
        char path[NAME];
        module_of(q->name, path);
        bool bias = dot && strcmp(dot, ".bias") == 0 &&
                    (c->bias == QN_LORA_BIAS_ALL ||
                     (c->bias == QN_LORA_BIAS_ADAPTED && qn_params_adapter(p, path)));
        q->frozen = !bias && !saved_whole(c, q);
    }
}

qn_status qn_lora_declare(const qn_lora_config *c, qn_params *p) {
    int n = p->n;
    QN_TRY(check_names(c, p));
    p->adapter = qn_setup_alloc(p->setup, ((size_t)n + 1) * sizeof *p->adapter);
    if (!p->adapter) return QN_ERR_OOM;
    for (int i = 0; i < n; i++) {
        const qn_param *q = &p->item[i];
        const char *by;
        bool linear = q->role == QN_ROLE_LINEAR || q->role == QN_ROLE_OUTPUT;
        if (!linear || !targeted(c, q, &by) || saved_whole(c, q)) continue;
        if (q->role == QN_ROLE_OUTPUT) {
            return qn_fail(QN_ERR_UNSUPPORTED,
                           "adapter.targets: \"%s\" names the output layer %s, which takes no "
                           "adapter; adapter.modules_to_save trains it as a whole",
                           by, q->name);
        }
        QN_TRY(adapt(c, p, i));
    }
    freeze(c, p, n);
    for (int i = 0; i < p->n; i++) {
        qn_param *q = &p->item[i];
        bool b = q->role == QN_ROLE_ADAPTER && strstr(q->name, ".lora_B.");
        if (!q->frozen && (b || q->ndim == 1)) q->lr_scale = c->lr_ratio > 0 ? c->lr_ratio : 1.0;
    }
    return QN_OK;
}

/* ---- magnitudes ------------------------------------------------------------------------------ */

static int index_of(const qn_params *p, const char *path, const char *kind) {
    char name[NAME + 64];
    snprintf(name, sizeof name, "%s.%s", path, kind);
    const qn_param *q = qn_params_find(p, name);
    return q ? (int)(q - p->item) : -1;
}

static qn_status init_magnitude(qn_params *p, const qn_adapter *a) {
    int wi = index_of(p, a->path, "weight");
    int mi = index_of(p, a->path, "lora_magnitude_vector.weight");
    qn_tensor w = qn_param_tensor(p, wi, &p->weights), m = qn_param_tensor(p, mi, &p->weights);
    qn_tensor master = qn_param_tensor(p, mi, &p->master);
    if (!p->master.data || p->item[mi].frozen) master = m;
    qn_tensor w_here = w, m_here = m, master_here = master;
    qn_status status = QN_OK;
    w_here.data = qn_alloc(qn_tensor_bytes(&w) + 1, a->path);
    m_here.data = qn_alloc(qn_tensor_bytes(&m) + 1, a->path);
    master_here.data = qn_alloc(qn_tensor_bytes(&master) + 1, a->path);
    if (!w_here.data || !m_here.data || !master_here.data) status = QN_ERR_OOM;
    if (status != QN_OK) goto done;
    QN_TRY_GOTO(qn_device_copy(p->device, w_here.data, w.data, qn_tensor_bytes(&w)));
    for (int64_t row = 0; row < w.shape[0]; row++) {
        double sum = 0.0;
        for (int64_t k = 0; k < w.shape[1]; k++) {
            double v = qn_tensor_get(&w_here, row * w.shape[1] + k);
            sum += v * v;
        }
        qn_tensor_set(&m_here, row, sqrt(sum));
        qn_tensor_set(&master_here, row, sqrt(sum));
    }
    QN_TRY_GOTO(qn_device_copy(p->device, master.data, master_here.data, qn_tensor_bytes(&master)));
    QN_TRY_GOTO(qn_device_copy(p->device, m.data, m_here.data, qn_tensor_bytes(&m)));
done:
    qn_free(w_here.data);
    qn_free(m_here.data);
    qn_free(master_here.data);
    return status;
}

qn_status qn_lora_init_magnitudes(qn_params *p) {
    for (int i = 0; i < p->n_adapters; i++) {
        if (p->adapter[i].dora) QN_TRY(init_magnitude(p, &p->adapter[i]));
    }
    return QN_OK;
}

/* ---- forward --------------------------------------------------------------------------------- */

typedef struct member { /* one linear of a group */
    const char *path;
    const qn_adapter *adapter;  /* NULL = none */
    qn_value *w, *a, *b, *bias; /* its own, b: lora_B */
    qn_value *u;                /* s dropout(x) A^T */
    int64_t first;              /* column of the group's product */
} member;

static member member_of(qn_graph *g, const char *path, int64_t first) {
    member m = {.path = path, .adapter = qn_params_adapter(g->params, path), .first = first};
    char bias[NAME];
    snprintf(bias, sizeof bias, "%s.bias", path);
    m.w = qn_graph_param(g, "%s.weight", path);
    m.bias = qn_params_find(g->params, bias) ? qn_graph_param(g, "%s", bias) : NULL;
    if (!m.adapter) return m;
    m.a = qn_graph_param(g, "%s.lora_A.weight", path);
    m.b = qn_graph_param(g, "%s.lora_B.weight", path);
    return m;
}

static bool drops(const qn_graph *g, const qn_adapter *a) {
    return a && a->dropout > 0 && qn_tape_get_options(g->tape)->training;
}

static void project_down(qn_graph *g, member *m, qn_value *dropped) {
    qn_value *u = qn_linear(g->tape, dropped, m->a, NULL, QN_ACT_NONE, NULL);
    m->u = m->adapter->scale == 1.0 ? u : qn_scale(g->tape, u, m->adapter->scale, 0.0);
}

/* act(x w^T + u B^T of every adapted member + b) + residual, in one call where the device has it;
 * else the members' parts come one by one, and `all` is what they are added to. */
static qn_value *product(qn_graph *g, int n, const member *m, qn_value *x, qn_value *w, qn_value *b,
                         qn_activation act, qn_value *residual, bool *fused) {
    qn_adapted_part part[QN_ADAPTER_PARTS];
    int parts = 0;
    *fused = x && qn_linear_adapted_fused(g->tape, x->t.dtype);
    if (!*fused) return qn_linear(g->tape, x, w, b, QN_ACT_NONE, NULL);
    for (int i = 0; i < n; i++) {
        if (m[i].adapter) part[parts++] = (qn_adapted_part){m[i].u, m[i].b, m[i].first};
    }
    return qn_linear_adapted(g->tape, x, w, b, act, residual, parts, part);
}

static qn_value *finish(qn_graph *g, qn_value *z, qn_activation act, qn_value *residual) {
    if (act != QN_ACT_NONE) z = qn_activate(g->tape, z, act);
    return residual ? qn_add(g->tape, z, residual) : z;
}

static qn_value *slice_of(qn_graph *g, const member *m, qn_value *all) {
    if (!all || !m->w) return NULL;
    if (all->t.shape[all->t.ndim - 1] == m->w->t.shape[0]) return all;
    return qn_slice(g->tape, all, all->t.ndim - 1, m->first, m->w->t.shape[0]);
}

/* z times m/n per column, plus the bias; `undropped` = (x - x') W^T, or NULL. */
static qn_value *rescale(qn_graph *g, const member *m, qn_value *z, qn_value *undropped) {
    qn_value *norm = qn_adapted_norm(g->tape, m->w, m->a, m->b, m->adapter->scale);
    qn_value *magnitude = qn_graph_param(g, "%s.lora_magnitude_vector.weight", m->path);
    z = qn_mul(g->tape, z, qn_div(g->tape, magnitude, norm));
    if (undropped) z = qn_add(g->tape, undropped, z);
    return m->bias ? qn_add(g->tape, z, m->bias) : z;
}

void qn_lora_dense(qn_graph *g, int n, const char *const *paths, qn_value *x, qn_value *w,
                   qn_value *b, qn_activation act, qn_value *residual, qn_value **out) {
    member m[QN_MAX_GROUP];
    bool dora = false, split = false, fused;
    int64_t first = 0;
    for (int i = 0; i < n; i++) {
        m[i] = member_of(g, paths[i], first);
        dora = dora || (m[i].adapter && m[i].adapter->dora);
        split = split || (dora && drops(g, m[i].adapter)); /* its product is not that of x */
        first += m[i].w ? m[i].w->t.shape[0] : 0;
    }
    if (split && n > 1) {
        for (int i = 0; i < n; i++) out[i] = qn_dense(g, paths[i], x, act, residual);
        return;
    }
    qn_value *of = x, *undropped = NULL; /* what the product is of */
    for (int i = 0; i < n; i++) {
        if (!m[i].adapter) continue;
        qn_value *dropped = qn_dropout(g->tape, x, m[i].adapter->dropout, g->rng, paths[i]);
        project_down(g, &m[i], dropped);
        if (split) {
            qn_value *rest = qn_sub(g->tape, x, dropped);
            undropped = qn_linear(g->tape, rest, w, NULL, QN_ACT_NONE, NULL);
            of = dropped;
        }
    }
    qn_value *all = dora ? product(g, n, m, of, w, NULL, QN_ACT_NONE, NULL, &fused)
                         : product(g, n, m, of, w, b, act, residual, &fused);
    for (int i = 0; i < n; i++) {
        qn_value *z = slice_of(g, &m[i], all);
        if (m[i].adapter && !fused) {
            z = qn_linear(g->tape, m[i].u, m[i].b, NULL, QN_ACT_NONE, z);
        }
        if (m[i].adapter && m[i].adapter->dora) {
            z = rescale(g, &m[i], z, undropped);
        } else if (dora && m[i].bias) {
            z = qn_add(g->tape, z, m[i].bias);
        }
        out[i] = fused && !dora ? z : finish(g, z, act, residual);
    }
}
