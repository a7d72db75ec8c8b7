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
    QN_TRY(
        qn_embedding_declare(p, c, "embed.token.weight", "transformer.wte.weight", c->vocab_size));
    QN_TRY(qn_embedding_declare(p, c, "embed.position.weight", "transformer.wpe.weight",
                                c->max_position_embeddings));
    for (int i = 0; i < c->num_hidden_layers; i++) QN_TRY(declare_block(p, c, i));
    QN_TRY(qn_norm_declare(p, "norm", "transformer.ln_f", QN_LAYER_NORM, c->hidden_size, c->bias));
    return qn_head_declare(p, c);
}

static qn_status forward(const void *self, qn_graph *g, const qn_forward *in, qn_output *out) {
    const qn_block block = {.c = self, .norm = QN_LAYER_NORM, .fused_qkv = true};
    return qn_transformer_forward(&block, g, in, out);
}

void qn_model_gpt2(const qn_model_config *c, qn_model *out) {
    *out = qn_transformer_model(c);
    out->declare = declare;
    out->forward = forward;
}
