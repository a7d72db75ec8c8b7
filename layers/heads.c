/* heads.c — what turns the last hidden states into the output that a task needs.
 *
 * One table says how each family builds each head, with Hugging Face's names:
 *
 *   [pool] [dropout] [dense, activation] [norm] dropout, linear
 *
 * Names: head (the last linear layer), head.dense, head.norm.
 */
#include "layers/layers.h"

#include <stdio.h>
#include <string.h>

enum { PER_TOKEN = -1, CHOSEN = QN_POOLING_COUNT };

typedef struct head_form {
    const char *type; /* NULL: every other family */
    qn_head head;
    int pool;                 /* a qn_pooling; PER_TOKEN: none; CHOSEN: the configuration's */
    bool early_dropout;       /* before dense too */
    bool bias;                /* of output */
    qn_activation activation; /* of dense; NONE: the configuration's */
    const char *output, *dense, *norm; /* Hugging Face's paths; NULL: absent */
} head_form;

/* clang-format off */
static const head_form forms[] = {
    {"bert", QN_HEAD_SEQUENCE, QN_POOL_FIRST, false, true, QN_ACT_TANH, "classifier",
     "bert.pooler.dense", NULL},
    {"bert", QN_HEAD_TOKEN, PER_TOKEN, false, true, QN_ACT_NONE, "classifier", NULL, NULL},
    {"bert", QN_HEAD_MASKED_LM, PER_TOKEN, false, true, QN_ACT_NONE, "cls.predictions",
     "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"},
    {"roberta", QN_HEAD_SEQUENCE, QN_POOL_FIRST, true, true, QN_ACT_TANH, "classifier.out_proj",
     "classifier.dense", NULL},
    {"roberta", QN_HEAD_TOKEN, PER_TOKEN, false, true, QN_ACT_NONE, "classifier", NULL, NULL},
    {"roberta", QN_HEAD_MASKED_LM, PER_TOKEN, false, true, QN_ACT_GELU, "lm_head",
     "lm_head.dense", "lm_head.layer_norm"},
    {"gpt2", QN_HEAD_TOKEN, PER_TOKEN, false, true, QN_ACT_NONE, "classifier", NULL, NULL},
    {NULL, QN_HEAD_LM, PER_TOKEN, false, false, QN_ACT_NONE, "lm_head", NULL, NULL},
    {NULL, QN_HEAD_SEQUENCE, QN_POOL_LAST, false, false, QN_ACT_NONE, "score", NULL, NULL},
    {NULL, QN_HEAD_TOKEN, PER_TOKEN, false, true, QN_ACT_NONE, "score", NULL, NULL},
    {NULL, QN_HEAD_EMBEDDING, CHOSEN, false, false, QN_ACT_NONE, NULL, NULL, NULL},
};
/* clang-format on */

static const char *const head_names[] = {"lm", "sequence_classification", "token_classification",
                                         "masked_lm", "embedding"};

bool qn_head_parse(const char *name, qn_head *out) {
    for (int i = 0; i < QN_HEAD_COUNT; i++) {
        if (strcmp(name, head_names[i]) != 0) continue;
        *out = (qn_head)i;
        return true;
    }
    return false;
}

static bool is_encoder(const qn_model_config *c) {
    return strcmp(c->type, "bert") == 0 || strcmp(c->type, "roberta") == 0;
}

static qn_status find_form(const qn_model_config *c, const head_form **out) {
    bool refused = c->head == QN_HEAD_LM && is_encoder(c);
    for (size_t i = 0; i < sizeof forms / sizeof *forms && !refused; i++) {
        const head_form *f = &forms[i];
        if (f->head != c->head || (f->type && strcmp(f->type, c->type) != 0)) continue;
        *out = f;
        return QN_OK;
    }
    return qn_fail(QN_ERR_CONFIG, "model.head: %s has no head \"%s\"", c->type,
                   head_names[c->head]);
}

static bool over_vocabulary(qn_head head) {
    return head == QN_HEAD_LM || head == QN_HEAD_MASKED_LM;
}

/* ---- parameters ------------------------------------------------------------------------------ */

qn_status qn_head_declare(qn_params *p, const qn_model_config *c) {
    const head_form *f;
    QN_TRY(find_form(c, &f));
    int64_t width = c->hidden_size;
    qn_linear_spec spec = {
        .in = width, .out = width, .bias = true, .init = {QN_INIT_NORMAL, c->initializer_range}};
    if (f->dense) QN_TRY(qn_dense_declare(p, "head.dense", f->dense, &spec));
    if (f->norm) QN_TRY(qn_norm_declare(p, "head.norm", f->norm, QN_LAYER_NORM, width, true));
    if (!f->output) return QN_OK;
    bool vocabulary = over_vocabulary(c->head);
    char path[96];
    if (vocabulary && c->tie_word_embeddings) {
        snprintf(path, sizeof path, "%s.bias", f->output);
        qn_param bias = {.name = "head.bias",
                         .hf_name = path,
                         .ndim = 1,
                         .shape = {c->vocab_size},
                         .init = QN_INIT_ZERO,
                         .no_decay = true};
        return f->bias ? qn_params_add(p, &bias) : QN_OK;
    }
    bool inner = c->head == QN_HEAD_MASKED_LM;
    snprintf(path, sizeof path, "%s%s", f->output, inner ? ".decoder" : "");
    spec.out = vocabulary ? c->vocab_size : c->num_labels;
    spec.bias = f->bias;
    spec.output = true;
    return qn_dense_declare(p, "head", path, &spec);
}

/* ---- forward --------------------------------------------------------------------------------- */

qn_status qn_head_forward(const qn_model_config *c, qn_graph *g, const qn_forward *in,
                          qn_value *hidden, qn_value *table, qn_output *out) {
    const head_form *f;
    QN_TRY(find_form(c, &f));
    qn_tape_scope_push(g->tape, "head");
    qn_value *h = hidden;
    if (f->pool != PER_TOKEN) {
        qn_pooling kind = f->pool == CHOSEN ? c->pooling : (qn_pooling)f->pool;
        h = qn_pool_tokens(g->tape, h, qn_forward_field(in, "documents"), kind);
    }
    if (f->early_dropout) h = qn_dropout(g->tape, h, c->classifier_dropout, g->rng, "early");
    if (f->dense) {
        qn_activation act = f->activation != QN_ACT_NONE ? f->activation : c->activation;
        h = qn_dense(g, "head.dense", h, act, NULL);
    }
    if (f->norm) h = qn_norm(g, "head.norm", QN_LAYER_NORM, c->norm_eps, h, NULL, NULL);
    if (over_vocabulary(c->head)) {
        out->hidden = h;
        out->head_weight = c->tie_word_embeddings ? table : qn_graph_param(g, "head.weight");
        if (f->bias) out->head_bias = qn_graph_param(g, "head.bias");
    } else if (f->output) {
        h = qn_dropout(g->tape, h, c->classifier_dropout, g->rng, "dropout");
        out->logits = qn_dense(g, "head", h, QN_ACT_NONE, NULL);
    } else {
        out->logits = h;
    }
    qn_tape_scope_pop(g->tape);
    return qn_tape_status(g->tape);
}
