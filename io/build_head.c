/* build_head.c — the sizes of a model's output: its vocabulary, its head, its labels. */
#include "io/build_parts.h"

#include <stdio.h>
#include <string.h>

static bool labels_tokens_or_texts(const qn_model_config *m) {
    return m->head == QN_HEAD_SEQUENCE || m->head == QN_HEAD_TOKEN;
}

/* A size that the configuration states or the data tells; stated, it may be larger. */
static qn_status settle(const char *key, const char *what, int64_t stated, int64_t found,
                        int64_t *out) {
    if (stated > 0 && stated < found) {
        return qn_fail(QN_ERR_CONFIG,
                       "%s: the data has %lld %s, expected at least that, found %lld", key,
                       (long long)found, what, (long long)stated);
    }
    *out = stated > 0 ? stated : found;
    return QN_OK;
}

qn_status qni_build_head(qn_build *b, const qn_config *c) {
    static const struct {
        const char *name;
        qn_pooling kind;
    } poolings[] = {{"first", QN_POOL_FIRST}, {"last", QN_POOL_LAST}, {"mean", QN_POOL_MEAN}};
    qn_model_config *m = &b->model_config;
    int64_t vocabulary = qn_config_int(c, "model.vocab_size");
    const char *head = qn_config_string(c, "model.head");
    if (*head && !qn_head_parse(head, &m->head))
        return qn_fail(QN_ERR_CONFIG, "model.head \"%s\" is unknown", head);
    for (int i = 0; i < QN_POOLING_COUNT; i++) {
        if (strcmp(qn_config_string(c, "model.pooling"), poolings[i].name) == 0)
            m->pooling = poolings[i].kind;
    }
    m->type_vocab_size = qn_config_int(c, "model.type_vocab_size");
    m->classifier_dropout = qn_config_number(c, "model.classifier_dropout");
    if (qn_config_is_set(c, "model.pad_token_id"))
        m->position_offset = qn_config_int(c, "model.pad_token_id") + 1;
    if (!*head || !labels_tokens_or_texts(m)) {
        bool dense = !*head;
        QN_TRY(settle("model.vocab_size", dense ? "classes" : "tokens", vocabulary, b->classes,
                      &m->vocab_size));
        m->classes = dense ? m->vocab_size : 0;
        return QN_OK;
    }
    QN_TRY(settle("model.vocab_size", "tokens", vocabulary,
                  b->tokenizer ? qn_tokenizer_size(b->tokenizer) : 0, &m->vocab_size));
    bool numbers = strcmp(qn_config_string(c, "objective"), "regress") == 0 && b->classes == 0;
    QN_TRY(settle("model.num_labels", "classes", qn_config_int(c, "model.num_labels"),
                  numbers ? 1 : b->classes, &m->num_labels));
    if (m->vocab_size > 0 && m->num_labels > 0) return QN_OK;
    return qn_fail(QN_ERR_CONFIG, "%s: the data does not tell it, expected a number",
                   m->vocab_size > 0 ? "model.num_labels" : "model.vocab_size");
}

/* Wraps the source; what frames and fills texts in the tokenizer's eyes is not hidden. */
static qn_status mask_tokens(qn_build *b, qn_masking *o) {
    if (!b->tokenizer) return qn_masked_create(&b->source, o, &b->source);
    bool *kept = qn_alloc((size_t)o->vocabulary * sizeof *kept, "special tokens");
    if (!kept) return QN_ERR_OOM;
    for (int64_t i = 0; i < o->vocabulary; i++)
        kept[i] = qn_tokenizer_is_special(b->tokenizer, (int32_t)i);
    o->kept = kept;
    qn_status status = qn_masked_create(&b->source, o, &b->source);
    qn_free(kept);
    return status;
}

qn_status qni_build_masking(qn_build *b, const qn_config *c) {
    if (strcmp(qn_config_string(c, "model.head"), "masked_lm") != 0) return QN_OK;
    qn_masking o = {.probability = qn_config_number(c, "data.mask_probability"),
                    .vocabulary = b->source.classes,
                    .seed = (uint64_t)qn_config_int(c, "run.seed"),
                    .mask = -1};
    if (qn_config_is_set(c, "data.mask_token_id")) {
        o.mask = (int32_t)qn_config_int(c, "data.mask_token_id");
    } else if (b->tokenizer) {
        o.mask = qn_tokenizer_id(b->tokenizer, "[MASK]", 6);
        if (o.mask < 0) o.mask = qn_tokenizer_id(b->tokenizer, "<mask>", 6);
    }
    if (o.mask < 0) o.mask = (int32_t)b->source.classes;
    return mask_tokens(b, &o);
}

void qni_build_head_fields(const qn_config *c, int64_t block, qn_source *out) {
    const char *head = qn_config_string(c, "model.head");
    bool sequence = strcmp(head, "sequence_classification") == 0;
    bool labels = sequence || strcmp(head, "token_classification") == 0;
    qn_field tokens = {.name = "tokens", .dtype = QN_I32, .ndim = 1, .shape = {block}};
    out->n_fields = 0;
    out->field[out->n_fields++] = tokens;
    tokens.name = "documents";
    if (labels) out->field[out->n_fields++] = tokens;
    bool numbers = sequence && strcmp(qn_config_string(c, "objective"), "classify") != 0;
    qn_field targets = {.name = "targets", .dtype = numbers ? QN_F32 : QN_I32};
    if (!sequence) {
        targets.ndim = 1;
        targets.shape[0] = block;
    } else if (numbers) {
        targets.ndim = 1;
        targets.shape[0] = qn_config_int(c, "model.num_labels");
    }
    out->field[out->n_fields++] = targets;
    if (labels) out->classes = qn_config_int(c, "model.num_labels");
}
