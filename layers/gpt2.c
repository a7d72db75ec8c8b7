/* gpt2.c — GPT-2 (Radford et al. 2019): learned positions, LayerNorm, GELU, tied head.
 *
 * Names: embed.token (wte), embed.position (wpe), blocks.N.{norm1, attn.qkv, attn.out, norm2,
 * mlp.up, mlp.down} (h.N.{ln_1, attn.c_attn, attn.c_proj, ln_2, mlp.c_fc, mlp.c_proj}), norm
 * (ln_f).
 */
#include "layers/layers.h"

#include <math.h>
#include <stdio.h>

static qn_status declare_block(qn_params *p, const qn_model_config *c, int n) {
    char path[64], hf[64];
    int64_t C = c->hidden_size, I = c->intermediate_size;
    double range = c->initializer_range,
           residual = range / sqrt(2.0 * (double)c->num_hidden_layers);
    const struct {
        const char *path, *hf;
        int64_t in, out;
        double scale;
    } linears[] = {
        {"attn.qkv", "attn.c_attn", C, 3 * C, range},
        {"attn.out", "attn.c_proj", C, C, residual},
        {"mlp.up", "mlp.c_fc", C, I, range},
        {"mlp.down", "mlp.c_proj", I, C, residual},
    };
    for (int i = 0; i < 4; i++) {
        if (i % 2 == 0) {
            snprintf(path, sizeof path, "blocks.%d.norm%d", n, i / 2 + 1);
            snprintf(hf, sizeof hf, "transformer.h.%d.ln_%d", n, i / 2 + 1);
            QN_TRY(qn_norm_declare(p, path, hf, QN_LAYER_NORM, C, c->bias));
        }
        snprintf(path, sizeof path, "blocks.%d.%s", n, linears[i].path);
        snprintf(hf, sizeof hf, "transformer.h.%d.%s", n, linears[i].hf);
        qn_linear_spec spec = {.in = linears[i].in,
                               .out = linears[i].out,
                               .bias = c->bias,
                               .hf_transposed = true,
                               .init = {QN_INIT_NORMAL, linears[i].scale}};
        QN_TRY(qn_dense_declare(p, path, hf, &spec));
    }
    return QN_OK;
}

static qn_status declare(const void *self, qn_params *p) {
    const qn_model_config *c = self;
    qn_param token = {.name = "embed.token.weight",
                      .hf_name = "transformer.wte.weight",
                      .ndim = 2,
                      .shape = {c->vocab_size, c->hidden_size},
                      .init = QN_INIT_NORMAL,
                      .init_scale = c->initializer_range};
    qn_param position = {.name = "embed.position.weight",
                         .hf_name = "transformer.wpe.weight",
                         .ndim = 2,
                         .shape = {c->max_position_embeddings, c->hidden_size},
                         .init = QN_INIT_NORMAL,
                         .init_scale = c->initializer_range};
    QN_TRY(qn_params_add(p, &token));
    QN_TRY(qn_params_add(p, &position));
    for (int i = 0; i < c->num_hidden_layers; i++) QN_TRY(declare_block(p, c, i));
    QN_TRY(qn_norm_declare(p, "norm", "transformer.ln_f", QN_LAYER_NORM, c->hidden_size, c->bias));
    if (c->tie_word_embeddings) return QN_OK;
    qn_linear_spec head = {
        .in = c->hidden_size, .out = c->vocab_size, .init = {QN_INIT_NORMAL, c->initializer_range}};
    return qn_dense_declare(p, "head", "lm_head", &head);
}

static qn_status forward(const void *self, qn_graph *g, const qn_forward *in, qn_output *out) {
    const qn_model_config *c = self;
    const qn_block block = {.c = c, .norm = QN_LAYER_NORM, .fused_qkv = true};
    qn_tape_scope_push(g->tape, "embed");
    qn_value *h = qn_embedding(g->tape, in->field[0], qn_graph_param(g, "embed.token.weight"),
                               qn_graph_param(g, "embed.position.weight"), in->start);
    h = qn_dropout(g->tape, h, c->embedding_dropout, g->rng, "dropout");
    qn_tape_scope_pop(g->tape);
    for (int i = 0; i < c->num_hidden_layers; i++) h = qn_block_forward(g, &block, i, h, in);
    out->hidden = qn_norm(g, "norm", QN_LAYER_NORM, c->norm_eps, h, NULL, NULL);
    out->head_weight =
        qn_graph_param(g, c->tie_word_embeddings ? "embed.token.weight" : "head.weight");
    return qn_tape_status(g->tape);
}

void qn_model_gpt2(const qn_model_config *c, qn_model *out) {
    *out = (qn_model){.self = c,
                      .declare = declare,
                      .forward = forward,
                      .layers = (int)c->num_hidden_layers,
                      .cache_shape = {c->num_key_value_heads, c->head_dim},
                      .max_positions = c->max_position_embeddings};
}
