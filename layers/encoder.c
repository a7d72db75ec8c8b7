/* encoder.c — the post-norm encoder of BERT and RoBERTa: embedding, its norm; blocks of
 * h = norm1(h + attn h), h = norm2(h + mlp h). Every token sees every other of its document. */
#include "layers/layers.h"

#include <stdio.h>

/* The rows of a table that positions count from: those below belong to padding. */
static qn_value *position_table(qn_graph *g, const qn_model_config *c) {
    qn_value *table = qn_graph_param(g, "embed.position.weight");
    int64_t first = c->position_offset;
    return first > 0 ? qn_slice(g->tape, table, 0, first, c->max_position_embeddings - first)
                     : table;
}

/* Tokens + positions, normalised together with the token types: type 0 throughout if there are
 * none. */
static qn_value *embed(qn_graph *g, const qn_block *b, const qn_forward *in, qn_value *table) {
    const qn_model_config *c = b->c;
    qn_tape *t = g->tape;
    qn_value *positions = position_table(g, c), *h, *type = qn_graph_param(g, "embed.type.weight");
    qn_value *at = qn_forward_field(in, "positions"), *ids = qn_forward_field(in, "token_types");
    h = qn_embedding(t, in->field[0], table, at ? NULL : positions, NULL);
    if (at) h = qn_add(t, h, qn_embedding(t, at, positions, NULL, NULL));
    qn_value *types = ids ? qn_embedding(t, ids, type, NULL, NULL) : NULL;
    if (!ids) h = qn_add(t, h, qn_slice(t, type, 0, 0, 1));
    h = qn_norm(g, "embed.norm", b->norm, c->norm_eps, h, types, NULL);
    return qn_dropout(t, h, c->embedding_dropout, g->rng, "dropout");
}

static qn_value *block_forward(qn_graph *g, const qn_block *b, int layer, qn_value *h,
                               const qn_forward *in) {
    const qn_model_config *c = b->c;
    char path[64];
    qn_tape_scope_push(g->tape, "blocks.%d", layer);

    qn_tape_scope_push(g->tape, "attn");
    qn_value *x = qn_self_attention(g, b, layer, h, in);
    snprintf(path, sizeof path, "blocks.%d.attn.out", layer);
    x = qn_dense(g, path, x, QN_ACT_NONE, NULL);
    x = qn_dropout(g->tape, x, c->dropout, g->rng, "residual");
    qn_tape_scope_pop(g->tape);
    snprintf(path, sizeof path, "blocks.%d.norm1", layer);
    h = qn_norm(g, path, b->norm, c->norm_eps, x, h, NULL);

    qn_tape_scope_push(g->tape, "mlp");
    x = qn_feed_forward(g, b, layer, h, h);
    qn_tape_scope_pop(g->tape);
    snprintf(path, sizeof path, "blocks.%d.norm2", layer);
    h = qn_norm(g, path, b->norm, c->norm_eps, x, NULL, NULL);

    qn_tape_scope_pop(g->tape);
    return h;
}

qn_status qn_encoder_forward(const qn_block *b, qn_graph *g, const qn_forward *in, qn_output *out) {
    if (in->cache) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "%s: an encoder sees its whole input at once, it does not generate",
                       b->c->type);
    }
    qn_tape_scope_push(g->tape, "embed");
    qn_value *table = qn_graph_param(g, "embed.token.weight");
    qn_value *h = embed(g, b, in, table);
    qn_tape_scope_pop(g->tape);
    for (int i = 0; i < b->c->num_hidden_layers; i++) h = block_forward(g, b, i, h, in);
    return qn_head_forward(b->c, g, in, h, table, out);
}
