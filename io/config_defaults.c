/* config_defaults.c — what holds when the user says nothing: constant, conditional and computed
 * defaults.
 */
#include "io/config_table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- nodes ----------------------------------------------------------------------------------- */

qn_status qni_put_json(qn_config *c, int row, const char *json) {
    qn_json_options options = {.name = "default"};
    QN_TRY(qn_json_parse(c->arena, json, strlen(json), &options, &c->slot[row]));
    qn_json_node *n = (qn_json_node *)c->slot[row];
    for (cJSON *child = n->item.child; child; child = child->next) {
        ((qn_json_node *)child)->source = NULL;
    }
    n->source = NULL; /* a default has no place */
    return QN_OK;
}

static qn_status put_node(qn_config *c, int row, const qn_json_node *value) {
    qn_json_node *n = qn_setup_alloc(c->arena, sizeof *n);
    if (!n) return QN_ERR_OOM;
    *n = *value;
    c->slot[row] = &n->item;
    return QN_OK;
}

/* The row of `key`, if it applies, has no value and is to have one; else -1. */
static int empty(const qn_config *c, const char *key) {
    int row = qni_key_find(key);
    bool fill = !c->slot[row] && !c->bad[row] && qni_config_when(c, qni_keys[row].only) == QNI_YES;
    return fill ? row : -1;
}

/* Computed defaults go only where nothing stands yet. */
static qn_status put_int(qn_config *c, const char *key, int64_t v) {
    int row = empty(c, key);
    qn_json_node n = {.item = {.type = cJSON_Number, .valuedouble = (double)v},
                      .integer = v,
                      .exact = QN_JSON_INT64};
    return row < 0 ? QN_OK : put_node(c, row, &n);
}

static qn_status put_number(qn_config *c, const char *key, double v) {
    int row = empty(c, key);
    qn_json_node n = {.item = {.type = cJSON_Number, .valuedouble = v}};
    return row < 0 ? QN_OK : put_node(c, row, &n);
}

static qn_status put_bool(qn_config *c, const char *key, bool v) {
    int row = empty(c, key);
    qn_json_node n = {.item = {.type = v ? cJSON_True : cJSON_False, .valueint = v}};
    return row < 0 ? QN_OK : put_node(c, row, &n);
}

static qn_status put_string(qn_config *c, const char *key, const char *v) {
    int row = empty(c, key);
    if (row < 0) return QN_OK;
    qn_json_node n = {.item = {.type = cJSON_String}};
    n.item.valuestring = qn_setup_strdup(c->arena, v);
    return n.item.valuestring ? put_node(c, row, &n) : QN_ERR_OOM;
}

/* ---- computed defaults ----------------------------------------------------------------------- */

static bool set(const qn_config *c, const char *key) { return qn_config_is_set(c, key); }

static qn_status fill_run(qn_config *c, const char *working_dir) {
    char name[129];
    size_t n = 0;
    for (const char *s = c->stem; *s && n < sizeof name - 1; s++) { /* only what QNI_NAME allows */
        bool letter =
            (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9');
        if (letter || (n > 0 && strchr("._-", *s))) name[n++] = *s;
    }
    name[n] = '\0';
    QN_TRY(put_string(c, "run.name", n ? name : "run"));
    char *dir = qn_sprintf("%s/runs", strcmp(working_dir, "/") == 0 ? "" : working_dir);
    if (!dir) return QN_ERR_OOM;
    qn_status status = put_string(c, "run.dir", dir);
    qn_free(dir);
    return status;
}

static const char *usual_objective(const qn_config *c) {
    const char *head = qn_config_string(c, "model.head");
    if (strcmp(head, "lm") == 0 || strcmp(head, "masked_lm") == 0) return "lm";
    bool one = qn_config_int(c, "model.num_labels") == 1 && strcmp(head, "token_classification");
    if (strcmp(head, "embedding") == 0 || one) return "regress";
    return "classify";
}

int64_t qni_position_offset(const qn_config *c) {
    return set(c, "model.pad_token_id") ? qn_config_int(c, "model.pad_token_id") + 1 : 0;
}

static qn_status fill_model(qn_config *c) {
    const char *type = qn_config_string(c, "model.type");
    if (*type) QN_TRY(put_string(c, "objective", usual_objective(c)));
    int64_t width = qn_config_int(c, "model.hidden_size");
    int64_t heads = qn_config_int(c, "model.num_attention_heads");
    if (heads) QN_TRY(put_int(c, "model.num_key_value_heads", heads));
    if (strcmp(type, "qwen3") == 0) QN_TRY(put_int(c, "model.head_dim", 128));
    if (heads && width % heads == 0) QN_TRY(put_int(c, "model.head_dim", width / heads));
    bool plain = set(c, "model.layer_norm_eps"); /* GPT-2, BERT: no gate */
    int64_t wide = plain ? 4 * width : (8 * width / 3 + 63) / 64 * 64;
    if (width) QN_TRY(put_int(c, "model.intermediate_size", wide));
    int64_t longest = qn_config_int(c, "model.max_position_embeddings");
    int64_t most = set(c, "model.pretrained") ? 1024 : INT64_MAX; /* it may take very much more */
    int64_t positions = longest - qni_position_offset(c);
    QN_TRY(
        put_int(c, "data.block_size", positions > 0 ? (positions < most ? positions : most) : 256));
    if (set(c, "data.block_size")) {
        int64_t block = qn_config_int(c, "data.block_size") + qni_position_offset(c);
        QN_TRY(put_int(c, "model.max_position_embeddings", block));
    }
    if (set(c, "model.max_position_embeddings")) {
        longest = qn_config_int(c, "model.max_position_embeddings");
        QN_TRY(put_int(c, "model.rope_scaling.original_max_position_embeddings", longest));
    }
    double original = qn_config_number(c, "model.rope_scaling.original_max_position_embeddings");
    if (strcmp(qn_config_string(c, "model.rope_scaling.rope_type"), "yarn") == 0 && original > 0)
        QN_TRY(put_number(c, "model.rope_scaling.factor", (double)longest / original));
    double dropout = qn_config_number(c, "model.dropout");
    QN_TRY(put_number(c, "model.attention_dropout", dropout));
    QN_TRY(put_number(c, "model.classifier_dropout", dropout));
    return put_number(c, "model.embedding_dropout", dropout);
}

/* Of micro-batch, accumulation and global batch any two give the third; config_rules.c checks that
 * they agree. */
static qn_status fill_batch(qn_config *c) {
    int64_t global = qn_config_int(c, "train.global_batch_size");
    int64_t batch = qn_config_int(c, "train.batch_size");
    int64_t accumulate = qn_config_int(c, "train.accumulate");
    if (global && !batch) batch = accumulate ? global / accumulate : global % 8 ? global : 8;
    if (!batch) batch = 8;
    if (global && !accumulate) accumulate = global / batch;
    if (!accumulate) accumulate = 1;
    if (batch <= 1048576) QN_TRY(put_int(c, "train.batch_size", batch));
    if (accumulate <= 1048576) QN_TRY(put_int(c, "train.accumulate", accumulate));
    QN_TRY(put_int(c, "train.global_batch_size", batch * accumulate));
    return put_int(c, "eval.batch_size", qn_config_int(c, "train.batch_size"));
}

/* What turns text into tokens. */
static qn_status fill_tokens(qn_config *c) {
    if (set(c, "model.pretrained") && !set(c, "data.vocabulary"))
        QN_TRY(put_string(c, "data.tokenizer", qn_config_string(c, "model.pretrained")));
    return set(c, "data.tokenizer") ? QN_OK : put_string(c, "data.vocabulary", "byte");
}

static qn_status fill_training(qn_config *c) {
    bool own = set(c, "data.val_path") || set(c, "data.val_images");
    QN_TRY(put_number(c, "data.val_fraction", own ? 0.0 : 0.1));
    QN_TRY(fill_batch(c));
    QN_TRY(put_int(c, "generate.seed", qn_config_int(c, "run.seed")));
    int64_t steps = qn_config_int(c, "train.max_steps");
    double ratio = qn_config_number(c, "scheduler.warmup_ratio");
    if (steps || ratio == 0) { /* a part of epochs is known once the data is */
        QN_TRY(put_int(c, "scheduler.warmup_steps", llround(ratio * (double)steps)));
    }
    if (steps) QN_TRY(put_int(c, "scheduler.decay_steps", steps));
    bool stop = false;
    for (int i = 0; i < qni_key_count; i++) {
        stop |= c->stated[i] && strncmp(qni_keys[i].name, "early_stopping.", 15) == 0;
    }
    return put_bool(c, "early_stopping.enabled", stop);
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* A stated key without a meaning under the present choices would be ignored silently: an error. */
static void refuse_meaningless(qn_config *c, int row) {
    const qni_key *k = &qni_keys[row];
    char other[64], when[128];
    snprintf(other, sizeof other, "%.*s", (int)strcspn(k->only, "="), k->only);
    qni_condition_describe(k->only, when, sizeof when);
    qni_report(c, c->slot[row], true, k->name, NULL,
               "has no meaning here, expected only when %s (found \"%s\")", when,
               qn_config_string(c, other));
}

static const char *fallback_of(const qn_config *c, const qni_key *k) {
    for (int i = 0; i < qni_fallback_count; i++) {
        const qni_fallback *f = &qni_fallbacks[i];
        if (strcmp(f->name, k->name) == 0 && qni_config_when(c, f->when) == QNI_YES) return f->json;
    }
    return k->fallback;
}

/* Defaults inside the objects of QNI_GROUPS, and the keys each of them needs. */
static qn_status fill_groups(qn_config *c, int row) {
    int index = 0;
    for (cJSON *group = c->slot[row]->child; group; group = group->next, index++) {
        for (int i = row + 1; i < qni_key_count && qni_key_in(i, row); i++) {
            const qni_key *k = &qni_keys[i];
            const char *leaf = qni_key_leaf(k);
            if (cJSON_GetObjectItemCaseSensitive(group, leaf)) continue;
            if (k->flags & QNI_REQUIRED) {
                qni_report(c, group, false, qni_keys[row].name, NULL,
                           "group %d has no \"%s\", expected one", index, leaf);
            }
            if (!k->fallback) continue;
            QN_TRY(qni_put_json(c, i, k->fallback));
            cJSON *value = c->slot[i];
            c->slot[i] = NULL;
            value->string = qn_setup_strdup(c->arena, leaf);
            if (!value->string) return QN_ERR_OOM;
            value->prev = group->child ? group->child->prev : value;
            if (group->child) {
                group->child->prev->next = value;
                group->child->prev = value;
            } else {
                group->child = value;
            }
        }
    }
    return QN_OK;
}

qn_status qni_config_fill(qn_config *c, const char *working_dir) {
    for (int i = 0; i < qni_key_count; i++) {
        const qni_key *k = &qni_keys[i];
        bool has_slot =
            k->type != QNI_SECTION && !(k->flags & QNI_DIRECTIVE) && !strstr(k->name, "[]");
        if (!has_slot) continue;
        qni_truth applies = qni_config_when(c, k->only);
        if (applies == QNI_NO && c->slot[i]) {
            refuse_meaningless(c, i);
            c->slot[i] = NULL;
            c->bad[i] = true;
        }
        if (applies != QNI_YES) continue;
        const char *json = fallback_of(c, k);
        if (!c->slot[i] && !c->bad[i] && json) QN_TRY(qni_put_json(c, i, json));
        if (k->type == QNI_GROUPS && c->slot[i] && !c->bad[i]) QN_TRY(fill_groups(c, i));
    }
    QN_TRY(fill_run(c, working_dir));
    QN_TRY(fill_model(c));
    QN_TRY(fill_tokens(c));
    return fill_training(c);
}
