/* llama.c — Llama (Touvron et al. 2023): rotary positions, RMSNorm, SwiGLU, grouped queries.
 *
 * Names: embed.token (model.embed_tokens), blocks.N.{norm1, attn.q, attn.k, attn.v, attn.out,
 * norm2, mlp.gate, mlp.up, mlp.down} (model.layers.N.{input_layernorm, self_attn.{q,k,v,o}_proj,
 * post_attention_layernorm, mlp.{gate,up,down}_proj}), norm (model.norm), head (lm_head).
 * q, k, v and gate, up are declared next to each other, so each group is one matmul.
 */
#include "layers/layers.h"

#include <stdio.h>

static qn_status declare_linear(qn_params *p, const qn_model_config *c, int n, const char *path,
                                const char *hf, qn_linear_spec spec) {
    char full[80], hf_full[80];
    snprintf(full, sizeof full, "blocks.%d.%s", n, path);
    snprintf(hf_full, sizeof hf_full, "model.layers.%d.%s", n, hf);
    spec.init = (qn_init){QN_INIT_NORMAL, c->initializer_range};
    return qn_dense_declare(p, full, hf_full, &spec);
}

static qn_status declare_norm(qn_params *p, const qn_model_config *c, int n, const char *path,
                              const char *hf) {
    char full[80], hf_full[80];
    snprintf(full, sizeof full, "blocks.%d.%s", n, path);
    snprintf(hf_full, sizeof hf_full, "model.layers.%d.%s", n, hf);
    return qn_norm_declare(p, full, hf_full, QN_RMS_NORM, c->hidden_size, false);
}

static qn_status declare_block(qn_params *p, const qn_model_config *c, int n) {
    int64_t C = c->hidden_size, I = c->intermediate_size;
    int64_t q = c->num_attention_heads * c->head_dim, kv = c->num_key_value_heads * c->head_dim;
    bool bias = c->attention_bias;
    QN_TRY(declare_norm(p, c, n, "norm1", "input_layernorm"));
    QN_TRY(declare_linear(p, c, n, "attn.q", "self_attn.q_proj",
                          (qn_linear_spec){.in = C, .out = q, .bias = bias}));
    QN_TRY(declare_linear(p, c, n, "attn.k", "self_attn.k_proj",
                          (qn_linear_spec){.in = C, .out = kv, .bias = bias, .fused = !bias}));
    QN_TRY(declare_linear(p, c, n, "attn.v", "self_attn.v_proj",
                          (qn_linear_spec){.in = C, .out = kv, .bias = bias, .fused = !bias}));
    QN_TRY(declare_linear(p, c, n, "attn.out", "self_attn.o_proj",
                          (qn_linear_spec){.in = q, .out = C, .bias = bias}));
    QN_TRY(declare_norm(p, c, n, "norm2", "post_attention_layernorm"));
    QN_TRY(
        declare_linear(p, c, n, "mlp.gate", "mlp.gate_proj", (qn_linear_spec){.in = C, .out = I}));
    QN_TRY(declare_linear(p, c, n, "mlp.up", "mlp.up_proj",
                          (qn_linear_spec){.in = C, .out = I, .fused = true}));
    return declare_linear(p, c, n, "mlp.down", "mlp.down_proj",
                          (qn_linear_spec){.in = I, .out = C});
}

static qn_status declare(const void *self, qn_params *p) {
    const qn_model_config *c = self;
    qn_param token = {.name = "embed.token.weight",
                      .hf_name = "model.embed_tokens.weight",
                      .ndim = 2,
                      .shape = {c->vocab_size, c->hidden_size},
                      .init = QN_INIT_NORMAL,
                      .init_scale = c->initializer_range};
    QN_TRY(qn_params_add(p, &token));
    for (int i = 0; i < c->num_hidden_layers; i++) QN_TRY(declare_block(p, c, i));
    QN_TRY(qn_norm_declare(p, "norm", "model.norm", QN_RMS_NORM, c->hidden_size, false));
    if (c->tie_word_embeddings) return QN_OK;
    qn_linear_spec head = {
        .in = c->hidden_size, .out = c->vocab_size, .init = {QN_INIT_NORMAL, c->initializer_range}};
    return qn_dense_declare(p, "head", "lm_head", &head);
}

static qn_status forward(const void *self, qn_graph *g, const qn_forward *in, qn_output *out) {
    const qn_model_config *c = self;
    const qn_block block = {.c = c, .norm = QN_RMS_NORM, .rope = true, .gated = true};
    qn_tape_scope_push(g->tape, "embed");
    qn_value *h =
        qn_embedding(g->tape, in->field[0], qn_graph_param(g, "embed.token.weight"), NULL, NULL);
    h = qn_dropout(g->tape, h, c->embedding_dropout, g->rng, "dropout");
    qn_tape_scope_pop(g->tape);
    for (int i = 0; i < c->num_hidden_layers; i++) h = qn_block_forward(g, &block, i, h, in);
    out->hidden = qn_norm(g, "norm", QN_RMS_NORM, c->norm_eps, h, NULL, NULL);
    out->head_weight =
        qn_graph_param(g, c->tie_word_embeddings ? "embed.token.weight" : "head.weight");
    return qn_tape_status(g->tape);
}

void qn_model_llama(const qn_model_config *c, qn_model *out) {
    *out = (qn_model){.self = c,
                      .declare = declare,
                      .forward = forward,
                      .layers = (int)c->num_hidden_layers,
                      .cache_shape = {c->num_key_value_heads, c->head_dim},
                      .max_positions = c->max_position_embeddings};
}
