/* feed_forward.c — the position-wise network of a block: plain or gated. */
#include "layers/layers.h"

#include <stdio.h>

static qn_value *gated(qn_graph *g, const char *path, qn_value *x) {
    char gate[80], up[80];
    snprintf(gate, sizeof gate, "%s.gate", path);
    snprintf(up, sizeof up, "%s.up", path);
    qn_value *h[2];
    qn_dense_group(g, 2, (const char *const[]){gate, up}, x, h);
    return qn_swiglu(g->tape, h[0], h[1]);
}

qn_value *qn_feed_forward(qn_graph *g, const qn_block *b, int layer, qn_value *x,
                          qn_value *residual) {
    const qn_model_config *c = b->c;
    char path[64], up[80], down[80];
    snprintf(path, sizeof path, "blocks.%d.mlp", layer);
    snprintf(up, sizeof up, "%s.up", path);
    snprintf(down, sizeof down, "%s.down", path);
    qn_value *h = b->gated ? gated(g, path, x) : qn_dense(g, up, x, c->activation, NULL);
    bool dropped = c->dropout > 0 && qn_tape_get_options(g->tape)->training;
    if (!dropped) return qn_dense(g, down, h, QN_ACT_NONE, residual);
    qn_value *y = qn_dense(g, down, h, QN_ACT_NONE, NULL);
    return qn_add(g->tape, residual, qn_dropout(g->tape, y, c->dropout, g->rng, "residual"));
}
