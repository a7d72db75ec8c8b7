/* transformer.c — the pre-norm decoder block: h += attn(norm1 h); h += mlp(norm2 h). */
#include "layers/layers.h"

#include <stdio.h>

qn_value *qn_block_forward(qn_graph *g, const qn_block *b, int layer, qn_value *h,
                           const qn_forward *in) {
    const qn_model_config *c = b->c;
    char path[64];
    qn_tape_scope_push(g->tape, "blocks.%d", layer);

    snprintf(path, sizeof path, "blocks.%d.norm1", layer);
    qn_value *x = qn_norm(g, path, b->norm, c->norm_eps, h, NULL, NULL);
    qn_tape_scope_push(g->tape, "attn");
    x = qn_self_attention(g, b, layer, x, in);
    snprintf(path, sizeof path, "blocks.%d.attn.out", layer);
    x = qn_dense(g, path, x, QN_ACT_NONE, NULL);
    x = qn_dropout(g->tape, x, c->dropout, g->rng, "residual");
    qn_tape_scope_pop(g->tape);

    snprintf(path, sizeof path, "blocks.%d.norm2", layer);
    x = qn_norm(g, path, b->norm, c->norm_eps, x, h, &h);
    qn_tape_scope_push(g->tape, "mlp");
    h = qn_feed_forward(g, b, layer, x, h);
    qn_tape_scope_pop(g->tape);

    qn_tape_scope_pop(g->tape);
    return h;
}
