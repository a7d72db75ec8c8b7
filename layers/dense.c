/* dense.c — linear layers: declaring their parameters, recording their forward pass. */
#include "layers/layers.h"

#include <math.h>
#include <stdio.h>

qn_init qn_init_torch_linear(int64_t in) {
    return (qn_init){QN_INIT_UNIFORM, in > 0 ? 1.0 / sqrt((double)in) : 0.0};
}

enum { NAME = 256 };

static qn_status declare_weight(qn_params *p, const char *path, const char *hf,
                                const qn_linear_spec *spec, bool follows) {
    char name[NAME], hf_name[NAME];
    snprintf(name, sizeof name, "%s.weight", path);
    snprintf(hf_name, sizeof hf_name, "%s.weight", hf);
    qn_param weight = {.name = name,
                       .hf_name = hf_name,
                       .hf_transposed = spec->hf_transposed,
                       .ndim = 2,
                       .shape = {spec->out, spec->in},
                       .init = spec->init.kind,
                       .init_scale = spec->init.scale,
                       .role = spec->output ? QN_ROLE_OUTPUT : QN_ROLE_LINEAR,
                       .fused = follows};
    return qn_params_add(p, &weight);
}

static qn_status declare_bias(qn_params *p, const char *path, const char *hf,
                              const qn_linear_spec *spec, bool follows) {
    char name[NAME], hf_name[NAME];
    if (!spec->bias) return QN_OK;
    snprintf(name, sizeof name, "%s.bias", path);
    snprintf(hf_name, sizeof hf_name, "%s.bias", hf);
    bool uniform = spec->init.kind == QN_INIT_UNIFORM;
    qn_param bias = {.name = name,
                     .hf_name = hf_name,
                     .ndim = 1,
                     .shape = {spec->out},
                     .init = uniform ? QN_INIT_UNIFORM : QN_INIT_ZERO,
                     .init_scale = spec->init.scale,
                     .fused = follows,
                     .no_decay = true};
    return qn_params_add(p, &bias);
}

qn_status qn_dense_declare(qn_params *p, const char *path, const char *hf,
                           const qn_linear_spec *spec) {
    QN_TRY(declare_weight(p, path, hf, spec, false));
    return declare_bias(p, path, hf, spec, false);
}

qn_status qn_dense_group_declare(qn_params *p, int n, const char *const *paths,
                                 const char *const *hf, const qn_linear_spec *specs) {
    for (int i = 0; i < n; i++) QN_TRY(declare_weight(p, paths[i], hf[i], &specs[i], i > 0));
    for (int i = 0; i < n; i++) QN_TRY(declare_bias(p, paths[i], hf[i], &specs[i], i > 0));
    return QN_OK;
}

static qn_value *bias_of(qn_graph *g, const char *path) {
    char name[NAME];
    snprintf(name, sizeof name, "%s.bias", path);
    return qn_params_find(g->params, name) ? qn_graph_param(g, "%s", name) : NULL;
}

qn_value *qn_dense(qn_graph *g, const char *path, qn_value *x, qn_activation act,
                   qn_value *residual) {
    qn_value *w = qn_graph_param(g, "%s.weight", path), *b = bias_of(g, path), *y = NULL;
    if (!qn_params_adapter(g->params, path)) return qn_linear(g->tape, x, w, b, act, residual);
    qn_lora_dense(g, 1, &path, x, w, b, act, residual, &y);
    return y;
}

void qn_dense_group(qn_graph *g, int n, const char *const *paths, qn_value *x, qn_value **out) {
    qn_value *w = qn_graph_fused(g, n, "%s.weight", paths[0]), *b = NULL;
    bool adapted = false, biased = bias_of(g, paths[0]) != NULL;
    if (biased) b = qn_graph_fused(g, n, "%s.bias", paths[0]);
    for (int i = 0; i < n; i++) adapted = adapted || qn_params_adapter(g->params, paths[i]);
    if (!w || (biased && !b)) {
        for (int i = 0; i < n; i++) out[i] = qn_dense(g, paths[i], x, QN_ACT_NONE, NULL);
        return;
    }
    if (adapted) {
        qn_lora_dense(g, n, paths, x, w, b, QN_ACT_NONE, NULL, out);
        return;
    }
    qn_value *all = qn_linear(g->tape, x, w, b, QN_ACT_NONE, NULL);
    int64_t first = 0;
    for (int i = 0; i < n; i++) {
        qn_value *part = qn_graph_param(g, "%s.weight", paths[i]);
        out[i] =
            all && part ? qn_slice(g->tape, all, all->t.ndim - 1, first, part->t.shape[0]) : NULL;
        first += part ? part->t.shape[0] : 0;
    }
}
