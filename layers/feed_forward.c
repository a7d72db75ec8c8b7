/* feed_forward.c — the position-wise network of a block: plain or gated. */
#include "layers/layers.h"

#include <stdio.h>

static qn_value *gated(qn_graph *g, const char *path, qn_value *x, int64_t width) {
    char up[80];
    snprintf(up, sizeof up, "%s.up", path);
    qn_value *w = qn_graph_fused(g, 2, "%s.gate.weight", path);
    if (!w) {
        char gate[80];
        snprintf(gate, sizeof gate, "%s.gate", path);
        qn_value *a = qn_dense(g, gate, x, QN_ACT_NONE, NULL);
        return qn_swiglu(g->tape, a, qn_dense(g, up, x, QN_ACT_NONE, NULL));
    }
    qn_value *both = qn_linear(g->tape, x, w, NULL, QN_ACT_NONE, NULL);
    if (!both) return NULL;
    int last = both->t.ndim - 1;
    return qn_swiglu(g->tape, qn_slice(g->tape, both, last, 0, width),
                     qn_slice(g->tape, both, last, width, width));
}

qn_value *qn_feed_forward(qn_graph *g, const qn_block *b, int layer, qn_value *x,
                          qn_value *residual) {
    const qn_model_config *c = b->c;
    char path[64], up[80], down[80];
    snprintf(path, sizeof path, "blocks.%d.mlp", layer);
    snprintf(up, sizeof up, "%s.up", path);
    snprintf(down, sizeof down, "%s.down", path);
    qn_value *h = b->gated ? gated(g, path, x, c->intermediate_size)
                           : qn_dense(g, up, x, c->activation, NULL);
    bool dropped = c->dropout > 0 && qn_tape_get_options(g->tape)->training;
    if (!dropped) return qn_dense(g, down, h, QN_ACT_NONE, residual);
    qn_value *y = qn_dense(g, down, h, QN_ACT_NONE, NULL);
    return qn_add(g->tape, residual, qn_dropout(g->tape, y, c->dropout, g->rng, "residual"));
}
