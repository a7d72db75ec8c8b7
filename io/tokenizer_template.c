/* tokenizer_template.c — post-processors: the special tokens around one text or two. */
#include "io/tokenizer_parts.h"

#include <string.h>

static qn_status add_item(const cJSON *at, qni_template *template, int32_t id, int64_t type) {
    if (template->n == (int)(sizeof template->item / sizeof *template->item))
        return qni_json_fail(at, "found more than %d parts of a template", template->n);
    template->item[template->n++] = (qni_template_item){id, (int32_t)type};
    return QN_OK;
}

/* {"SpecialToken": {"id": NAME, "type_id": n}}: the ids that special_tokens gives for NAME. */
static qn_status read_special(const qn_tokenizer *t, const cJSON *special_tokens, const cJSON *item,
                              qni_template *out) {
    const char *name = NULL;
    int64_t type = 0;
    QN_TRY(qni_json_string(item, "id", false, &name));
    QN_TRY(qni_json_int(item, "type_id", true, 0, INT32_MAX, &type));
    const cJSON *ids = qn_json_get(qn_json_get(special_tokens, name), "ids");
    if (!cJSON_IsArray(ids)) return qni_json_fail(item, "\"%.64s\" is not in special_tokens", name);
    for (const cJSON *c = ids->child; c; c = c->next) {
        int64_t id, bytes;
        if (!qn_json_int64(c, &id) || id < 0 || id >= t->table.size ||
            !qn_tokenizer_token(t, (int32_t)id, &bytes))
            return qni_json_fail(c, "expected the id of a token");
        QN_TRY(add_item(c, out, (int32_t)id, type));
    }
    return QN_OK;
}

static qn_status read_items(const qn_tokenizer *t, const cJSON *json, const char *key,
                            qni_template *out) {
    const cJSON *list = qn_json_get(json, key), *special = qn_json_get(json, "special_tokens");
    *out = (qni_template){0};
    if (!list || cJSON_IsNull(list)) return QN_OK;
    if (!cJSON_IsArray(list)) return qni_json_fail(list, "\"%s\": expected a list", key);
    for (const cJSON *c = list->child; c; c = c->next) {
        const cJSON *token = qn_json_get(c, "SpecialToken"), *text = qn_json_get(c, "Sequence");
        const char *name = NULL;
        int64_t type = 0;
        if (token) {
            QN_TRY(read_special(t, special, token, out));
            continue;
        }
        if (!text) return qni_json_fail(c, "expected SpecialToken or Sequence");
        QN_TRY(qni_json_string(text, "id", false, &name));
        QN_TRY(qni_json_int(text, "type_id", true, 0, INT32_MAX, &type));
        if (strcmp(name, "A") != 0 && strcmp(name, "B") != 0)
            return qni_json_fail(text, "expected the Sequence \"A\" or \"B\"");
        QN_TRY(add_item(c, out, *name == 'A' ? -1 : -2, type));
    }
    return QN_OK;
}

static qn_status check_once(const cJSON *json, const qni_template *template, int a, int b) {
    for (int i = 0; i < template->n; i++) {
        a -= template->item[i].id == -1;
        b -= template->item[i].id == -2;
    }
    if (template->n == 0 || (a == 0 && b == 0)) return QN_OK;
    return qni_json_fail(json, "expected each text once in a template");
}

/* ["[CLS]", 101] */
static qn_status read_pair(const qn_tokenizer *t, const cJSON *json, const char *key,
                           int32_t *out) {
    const cJSON *pair = qn_json_get(json, key);
    int64_t id = -1, bytes;
    if (!cJSON_IsArray(pair) || !pair->child || !qn_json_int64(pair->child->next, &id) || id < 0 ||
        id >= t->table.size || !qn_tokenizer_token(t, (int32_t)id, &bytes))
        return qni_json_fail(json, "\"%s\": expected [token, id]", key);
    *out = (int32_t)id;
    return QN_OK;
}

/* CLS A SEP, and for two texts B SEP or SEP B SEP behind it. */
static qn_status read_cls_sep(qn_tokenizer *t, const cJSON *json, bool roberta) {
    int32_t cls = -1, sep = -1;
    QN_TRY(read_pair(t, json, "cls", &cls));
    QN_TRY(read_pair(t, json, "sep", &sep));
    t->single = (qni_template){{{cls, 0}, {-1, 0}, {sep, 0}}, 3};
    t->pair = roberta
                  ? (qni_template){{{cls, 0}, {-1, 0}, {sep, 0}, {sep, 0}, {-2, 0}, {sep, 0}}, 6}
                  : (qni_template){{{cls, 0}, {-1, 0}, {sep, 0}, {-2, 1}, {sep, 1}}, 5};
    return QN_OK;
}

qn_status qni_json_template(qn_tokenizer *t, const cJSON *json) {
    const char *type = NULL;
    if (!json || cJSON_IsNull(json)) return QN_OK;
    QN_TRY(qni_json_string(json, "type", false, &type));
    if (strcmp(type, "ByteLevel") == 0) return QN_OK; /* changes offsets only */
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *parts = qn_json_get(json, "processors");
        if (!cJSON_IsArray(parts)) return qni_json_fail(json, "expected a list \"processors\"");
        for (const cJSON *p = parts->child; p; p = p->next) QN_TRY(qni_json_template(t, p));
        return QN_OK;
    }
    if (t->single.n > 0 || t->pair.n > 0)
        return qni_json_fail(json, "a second template: Quern takes one");
    if (strcmp(type, "BertProcessing") == 0) return read_cls_sep(t, json, false);
    if (strcmp(type, "RobertaProcessing") == 0) return read_cls_sep(t, json, true);
    if (strcmp(type, "TemplateProcessing") != 0)
        return qni_json_fail(json, "Quern does not have \"%s\" of the processors", type);
    QN_TRY(read_items(t, json, "single", &t->single));
    QN_TRY(read_items(t, json, "pair", &t->pair));
    QN_TRY(check_once(json, &t->single, 1, 0));
    return check_once(json, &t->pair, 1, 1);
}
