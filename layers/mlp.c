/* mlp.c — multi-layer perceptron over feature vectors: linear, activation, dropout, …, linear.
 *
 * Names: layers.N for the hidden layers, head for the last.
 */
#include "layers/layers.h"

#include <stdio.h>
#include <string.h>

static qn_status declare(const void *self, qn_params *p) {
    const qn_model_config *c = self;
    int64_t width = c->features;
    for (int i = 0; i < c->n_hidden; i++) {
        char path[32];
        snprintf(path, sizeof path, "layers.%d", i);
        qn_linear_spec spec = {.in = width,
                               .out = c->hidden_sizes[i],
                               .bias = true,
                               .init = qn_init_torch_linear(width)};
        QN_TRY(qn_dense_declare(p, path, path, &spec));
        width = c->hidden_sizes[i];
    }
    qn_linear_spec head = {.in = width,
                           .out = c->classes,
                           .bias = true,
                           .output = true,
                           .init = qn_init_torch_linear(width)};
    return qn_dense_declare(p, "head", "head", &head);
}

static qn_status forward(const void *self, qn_graph *g, const qn_forward *in, qn_output *out) {
    const qn_model_config *c = self;
    qn_value *h = in->field[0];
    if (h && h->t.dtype != qn_precision_weight_dtype(g->params->precision)) {
        h = qn_cast(g->tape, h, qn_precision_weight_dtype(g->params->precision));
    }
    for (int i = 0; i < c->n_hidden; i++) {
        char path[32];
        snprintf(path, sizeof path, "layers.%d", i);
        qn_tape_scope_push(g->tape, "%s", path);
        h = qn_dense(g, path, h, c->activation, NULL);
        h = qn_dropout(g->tape, h, c->dropout, g->rng, "dropout");
        qn_tape_scope_pop(g->tape);
    }
    out->logits = qn_dense(g, "head", h, QN_ACT_NONE, NULL);
    return qn_tape_status(g->tape);
}

void qn_model_mlp(const qn_model_config *c, qn_model *out) {
    *out = (qn_model){.self = c, .declare = declare, .forward = forward};
}

qn_status qn_model_create(const qn_model_config *c, qn_model *out) {
    static const struct {
        const char *type;
        void (*create)(const qn_model_config *, qn_model *);
    } families[] = {{"mlp", qn_model_mlp},     {"gpt2", qn_model_gpt2},
                    {"llama", qn_model_llama}, {"mistral", qn_model_llama},
                    {"qwen2", qn_model_llama}, {"qwen3", qn_model_llama},
                    {"bert", qn_model_bert},   {"roberta", qn_model_bert}};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (strcmp(c->type, families[i].type) == 0) {
            families[i].create(c, out);
            return QN_OK;
        }
    }
    return qn_fail(QN_ERR_CONFIG,
                   "model.type \"%s\" is unknown; expected mlp, gpt2, llama, mistral, qwen2, "
                   "qwen3, bert or roberta",
                   c->type);
}
