/* llama.c — Llama (Touvron et al. 2023) and its relatives: rotary positions, RMSNorm, SwiGLU,
 * grouped queries.
 *
 * Mistral adds a sliding window, Qwen2 biases in q, k and v, Qwen3 RMSNorm of each head of q and k.
 *
 * Names: embed.token (model.embed_tokens), blocks.N.{norm1, attn.q, attn.k, attn.v, attn.out,
 * norm2, mlp.gate, mlp.up, mlp.down} (model.layers.N.{input_layernorm, self_attn.{q,k,v,o}_proj,
 * post_attention_layernorm, mlp.{gate,up,down}_proj}), norm (model.norm), head (lm_head);
 * attn.{q_norm,k_norm} are called alike.
 * q, k, v and gate, up are declared next to each other, so each group is one matmul.
 */
#include "layers/layers.h"

#include <stdio.h>
#include <string.h>

static const char LAYERS[] = "model.layers";

typedef struct family { /* what a member of the family has besides */
    bool qkv_bias, out_bias, mlp_bias, head_norms;
} family;

static family family_of(const qn_model_config *c) {
    bool qwen2 = strcmp(c->type, "qwen2") == 0, qwen3 = strcmp(c->type, "qwen3") == 0;
    return (family){.qkv_bias = c->attention_bias || qwen2,
                    .out_bias = c->attention_bias,
                    .mlp_bias = c->mlp_bias,
                    .head_norms = qwen3};
}

static qn_status declare_norm(qn_params *p, int n, const char *path, const char *hf,
                              int64_t width) {
    char full[80], hf_full[80];
    snprintf(full, sizeof full, "blocks.%d.%s", n, path);
    snprintf(hf_full, sizeof hf_full, "%s.%d.%s", LAYERS, n, hf);
    return qn_norm_declare(p, full, hf_full, QN_RMS_NORM, width, false);
}

static qn_status declare_block(qn_params *p, const qn_model_config *c, int n) {
    int64_t C = c->hidden_size, I = c->intermediate_size;
    int64_t q = c->num_attention_heads * c->head_dim, kv = c->num_key_value_heads * c->head_dim;
    const family f = family_of(c);
    QN_TRY(declare_norm(p, n, "norm1", "input_layernorm", C));
    const qn_block_linear qkv[] = {{"attn.q", "self_attn.q_proj", C, q, f.qkv_bias},
                                   {"attn.k", "self_attn.k_proj", C, kv, f.qkv_bias},
                                   {"attn.v", "self_attn.v_proj", C, kv, f.qkv_bias}};
    const qn_block_linear out = {"attn.out", "self_attn.o_proj", q, C, f.out_bias};
    const qn_block_linear inner[] = {{"mlp.gate", "mlp.gate_proj", C, I, f.mlp_bias},
                                     {"mlp.up", "mlp.up_proj", C, I, f.mlp_bias}};
    const qn_block_linear down = {"mlp.down", "mlp.down_proj", I, C, f.mlp_bias};
    QN_TRY(qn_block_declare(p, c, n, LAYERS, 3, qkv));
    QN_TRY(qn_block_declare(p, c, n, LAYERS, 1, &out));
    if (f.head_norms) {
        QN_TRY(declare_norm(p, n, "attn.q_norm", "self_attn.q_norm", c->head_dim));
        QN_TRY(declare_norm(p, n, "attn.k_norm", "self_attn.k_norm", c->head_dim));
    }
    QN_TRY(declare_norm(p, n, "norm2", "post_attention_layernorm", C));
    QN_TRY(qn_block_declare(p, c, n, LAYERS, 2, inner));
    return qn_block_declare(p, c, n, LAYERS, 1, &down);
}

static qn_status declare(const void *self, qn_params *p) {
    const qn_model_config *c = self;
    QN_TRY(qn_embedding_declare(p, c, "embed.token.weight", "model.embed_tokens.weight",
                                c->vocab_size));
    for (int i = 0; i < c->num_hidden_layers; i++) QN_TRY(declare_block(p, c, i));
    QN_TRY(qn_norm_declare(p, "norm", "model.norm", QN_RMS_NORM, c->hidden_size, false));
    return qn_head_declare(p, c);
}

static qn_status forward(const void *self, qn_graph *g, const qn_forward *in, qn_output *out) {
    const qn_model_config *c = self;
    const qn_tensor *tokens = in->field[0] ? &in->field[0]->t : NULL;
    int64_t length = in->cache || !tokens ? 0 : tokens->shape[tokens->ndim - 1];
    if (c->rotary.kind == QN_ROTARY_DYNAMIC && length > c->max_position_embeddings &&
        qn_forward_field(in, "positions")) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "rope_type dynamic takes its frequencies from the length of a sequence; "
                       "packed ones are possible up to max_position_embeddings = %lld, not %lld",
                       (long long)c->max_position_embeddings, (long long)length);
    }
    qn_rope_attrs rotary;
    QN_TRY(qn_rotary_table(c, length, &rotary));
    const qn_block block = {.c = c, .norm = QN_RMS_NORM, .rotary = &rotary, .gated = true};
    return qn_transformer_forward(&block, g, in, out);
}

void qn_model_llama(const qn_model_config *c, qn_model *out) {
    *out = qn_transformer_model(c);
    out->declare = declare;
    out->forward = forward;
    /* A cache keeps keys as they were turned, so dynamic frequencies may not change under it. */
    if (c->rotary.kind != QN_ROTARY_DYNAMIC) out->max_positions = qn_rotary_reach(c);
}
