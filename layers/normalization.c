/* normalization.c — LayerNorm and RMSNorm layers with a fused residual. */
#include "layers/layers.h"

#include <stdio.h>

qn_status qn_norm_declare(qn_params *p, const char *path, const char *hf, qn_norm_kind kind,
                          int64_t width, bool bias) {
    char name[256], hf_name[256];
    snprintf(name, sizeof name, "%s.weight", path);
    snprintf(hf_name, sizeof hf_name, "%s.weight", hf);
    qn_param weight = {.name = name,
                       .hf_name = hf_name,
                       .ndim = 1,
                       .shape = {width},
                       .init = QN_INIT_ONE,
                       .no_decay = true};
    QN_TRY(qn_params_add(p, &weight));
    if (kind == QN_RMS_NORM || !bias) return QN_OK;
    snprintf(name, sizeof name, "%s.bias", path);
    snprintf(hf_name, sizeof hf_name, "%s.bias", hf);
    weight.init = QN_INIT_ZERO;
    return qn_params_add(p, &weight);
}

qn_value *qn_norm(qn_graph *g, const char *path, qn_norm_kind kind, double eps, qn_value *x,
                  qn_value *residual, qn_value **sum) {
    qn_value *ignored, **h = sum ? sum : &ignored, *y;
    qn_value *w = qn_graph_param(g, "%s.weight", path);
    if (kind == QN_RMS_NORM) {
        y = qn_rmsnorm(g->tape, x, residual, w, eps, h);
    } else {
        char bias[256];
        snprintf(bias, sizeof bias, "%s.bias", path);
        qn_value *b = qn_params_find(g->params, bias) ? qn_graph_param(g, "%s", bias) : NULL;
        y = qn_layernorm(g->tape, x, residual, w, b, eps, h);
    }
    return y;
}
