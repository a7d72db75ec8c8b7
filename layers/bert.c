/* bert.c — BERT (Devlin et al. 2018) and RoBERTa (Liu et al. 2019): encoders with learned
 * positions, token types and post-norm blocks.
 *
 * Names: embed.{token, position, type, norm} (embeddings.{word,position,token_type}_embeddings,
 * embeddings.LayerNorm), blocks.N.{attn.q, attn.k, attn.v, attn.out, norm1, mlp.up, mlp.down,
 * norm2} (encoder.layer.N.{attention.self.{query,key,value}, attention.output.dense,
 * attention.output.LayerNorm, intermediate.dense, output.dense, output.LayerNorm}), under the
 * prefix bert or roberta. RoBERTa counts positions from the padding token's id + 1.
 */
#include "layers/layers.h"

#include <stdio.h>

static qn_status declare_embedding(qn_params *p, const qn_model_config *c) {
    const struct {
        const char *path, *hf;
        int64_t rows;
    } tables[] = {{"embed.token.weight", "word_embeddings", c->vocab_size},
                  {"embed.position.weight", "position_embeddings", c->max_position_embeddings},
                  {"embed.type.weight", "token_type_embeddings", c->type_vocab_size}};
    char hf[96];
    for (int i = 0; i < 3; i++) {
        snprintf(hf, sizeof hf, "%s.embeddings.%s.weight", c->type, tables[i].hf);
        QN_TRY(qn_embedding_declare(p, c, tables[i].path, hf, tables[i].rows));
    }
    snprintf(hf, sizeof hf, "%s.embeddings.LayerNorm", c->type);
    return qn_norm_declare(p, "embed.norm", hf, QN_LAYER_NORM, c->hidden_size, true);
}

static qn_status declare_norm(qn_params *p, const qn_model_config *c, int n, const char *name,
                              const char *hf_name) {
    char path[64], hf[96];
    snprintf(path, sizeof path, "blocks.%d.%s", n, name);
    snprintf(hf, sizeof hf, "%s.encoder.layer.%d.%s", c->type, n, hf_name);
    return qn_norm_declare(p, path, hf, QN_LAYER_NORM, c->hidden_size, true);
}

static qn_status declare_block(qn_params *p, const qn_model_config *c, int n) {
    int64_t C = c->hidden_size, I = c->intermediate_size;
    const qn_block_linear qkv[] = {{"attn.q", "attention.self.query", C, C, true},
                                   {"attn.k", "attention.self.key", C, C, true},
                                   {"attn.v", "attention.self.value", C, C, true}};
    const qn_block_linear out = {"attn.out", "attention.output.dense", C, C, true};
    const qn_block_linear up = {"mlp.up", "intermediate.dense", C, I, true};
    const qn_block_linear down = {"mlp.down", "output.dense", I, C, true};
    char layers[64];
    snprintf(layers, sizeof layers, "%s.encoder.layer", c->type);
    QN_TRY(qn_block_declare(p, c, n, layers, 3, qkv));
    QN_TRY(qn_block_declare(p, c, n, layers, 1, &out));
    QN_TRY(declare_norm(p, c, n, "norm1", "attention.output.LayerNorm"));
    QN_TRY(qn_block_declare(p, c, n, layers, 1, &up));
    QN_TRY(qn_block_declare(p, c, n, layers, 1, &down));
    return declare_norm(p, c, n, "norm2", "output.LayerNorm");
}

static qn_status declare(const void *self, qn_params *p) {
    const qn_model_config *c = self;
    QN_TRY(declare_embedding(p, c));
    for (int i = 0; i < c->num_hidden_layers; i++) QN_TRY(declare_block(p, c, i));
    return qn_head_declare(p, c);
}

static qn_status forward(const void *self, qn_graph *g, const qn_forward *in, qn_output *out) {
    const qn_block block = {.c = self, .norm = QN_LAYER_NORM, .bidirectional = true};
    return qn_encoder_forward(&block, g, in, out);
}

void qn_model_bert(const qn_model_config *c, qn_model *out) {
    *out = (qn_model){.self = c,
                      .declare = declare,
                      .forward = forward,
                      .layers = (int)c->num_hidden_layers,
                      .max_positions = c->max_position_embeddings - c->position_offset};
}
