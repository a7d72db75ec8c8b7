/* dense.c — linear layers: declaring their parameters, recording their forward pass. */
#include "layers/layers.h"

#include <math.h>
#include <stdio.h>

qn_init qn_init_torch_linear(int64_t in) {
    return (qn_init){QN_INIT_UNIFORM, in > 0 ? 1.0 / sqrt((double)in) : 0.0};
}

qn_status qn_dense_declare(qn_params *p, const char *path, const char *hf,
                           const qn_linear_spec *spec) {
    char name[256], hf_name[256];
    snprintf(name, sizeof name, "%s.weight", path);
    snprintf(hf_name, sizeof hf_name, "%s.weight", hf);
    qn_param weight = {.name = name,
                       .hf_name = hf_name,
                       .hf_transposed = spec->hf_transposed,
                       .ndim = 2,
                       .shape = {spec->out, spec->in},
                       .init = spec->init.kind,
                       .init_scale = spec->init.scale,
                       .fused = spec->fused};
    QN_TRY(qn_params_add(p, &weight));
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
                     .no_decay = true};
    return qn_params_add(p, &bias);
}

qn_value *qn_dense(qn_graph *g, const char *path, qn_value *x, qn_activation act,
                   qn_value *residual) {
    char bias[256];
    snprintf(bias, sizeof bias, "%s.bias", path);
    qn_value *b = qn_params_find(g->params, bias) ? qn_graph_param(g, "%s", bias) : NULL;
    return qn_linear(g->tape, x, qn_graph_param(g, "%s.weight", path), b, act, residual);
}
