/* transformer.c — the pre-norm decoder: embedding; blocks of h += attn(norm1 h), h += mlp(norm2 h);
 * norm; output layer. */
#include "layers/layers.h"

#include <stdio.h>

static qn_value *block_forward(qn_graph *g, const qn_block *b, int layer, qn_value *h,
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

qn_status qn_transformer_forward(const qn_block *b, qn_graph *g, const qn_forward *in,
                                 qn_output *out) {
    const qn_model_config *c = b->c;
    qn_tape_scope_push(g->tape, "embed");
    qn_value *table = qn_graph_param(g, "embed.token.weight"),
             *position = b->rotary ? NULL : qn_graph_param(g, "embed.position.weight");
    qn_value *at = position ? qn_forward_field(in, "positions") : NULL;
    qn_value *h = qn_embedding(g->tape, in->field[0], table, at ? NULL : position,
                               position && !at ? in->start : NULL);
    if (at) h = qn_add(g->tape, h, qn_embedding(g->tape, at, position, NULL, NULL));
    h = qn_dropout(g->tape, h, c->embedding_dropout, g->rng, "dropout");
    qn_tape_scope_pop(g->tape);
    for (int i = 0; i < c->num_hidden_layers; i++) h = block_forward(g, b, i, h, in);
    h = qn_norm(g, "norm", b->norm, c->norm_eps, h, NULL, NULL);
    return qn_head_forward(c, g, in, h, table, out);
}

qn_status qn_embedding_declare(qn_params *p, const qn_model_config *c, const char *name,
                               const char *hf_name, int64_t rows) {
    qn_param table = {.name = name,
                      .hf_name = hf_name,
                      .ndim = 2,
                      .shape = {rows, c->hidden_size},
                      .init = QN_INIT_NORMAL,
                      .init_scale = c->initializer_range};
    return qn_params_add(p, &table);
}

qn_status qn_block_declare(qn_params *p, const qn_model_config *c, int n, const char *layers,
                           int count, const qn_block_linear *linears) {
    char path[QN_MAX_GROUP][64], hf[QN_MAX_GROUP][128];
    const char *paths[QN_MAX_GROUP], *hfs[QN_MAX_GROUP];
    qn_linear_spec specs[QN_MAX_GROUP];
    for (int i = 0; i < count; i++) {
        snprintf(path[i], sizeof path[i], "blocks.%d.%s", n, linears[i].path);
        snprintf(hf[i], sizeof hf[i], "%s.%d.%s", layers, n, linears[i].hf);
        paths[i] = path[i];
        hfs[i] = hf[i];
        specs[i] = (qn_linear_spec){.in = linears[i].in,
                                    .out = linears[i].out,
                                    .bias = linears[i].bias,
                                    .init = {QN_INIT_NORMAL, c->initializer_range}};
    }
    return qn_dense_group_declare(p, count, paths, hfs, specs);
}

qn_model qn_transformer_model(const qn_model_config *c) {
    return (qn_model){.self = c,
                      .layers = (int)c->num_hidden_layers,
                      .cache_shape = {c->num_key_value_heads, c->head_dim},
                      .max_positions = c->max_position_embeddings};
}
