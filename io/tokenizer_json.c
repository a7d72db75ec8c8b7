/* tokenizer_json.c — reading `tokenizer.json`: the components and how they are put together.
 *
 * Keys that the format does not know are passed over, as the reference does; component types,
 * values and references that Quern does not know are refused with their place.
 */
#include "io/tokenizer_bpe.h"
#include "io/tokenizer_unigram.h"
#include "io/tokenizer_wordpiece.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- members --------------------------------------------------------------------------------- */

qn_status qni_json_fail(const cJSON *at, const char *format, ...) {
    char text[QN_MESSAGE_MAX / 2];
    int64_t line, column;
    const qn_json_node *node = qn_json_node_of(at);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    qn_json_position(node->source, node->offset, &line, &column);
    return qn_fail(QN_ERR_FORMAT, "%s:%lld:%lld: %s", node->source->name, (long long)line,
                   (long long)column, text);
}

qn_status qni_json_prefix(const cJSON *at, qn_status s) {
    char why[QN_MESSAGE_MAX / 2];
    if (s != QN_ERR_FORMAT) return s;
    snprintf(why, sizeof why, "%s", qn_error_message());
    return qni_json_fail(at, "%s", why);
}

/* *out = NULL for an absent or null member where that is allowed. */
static qn_status member(const cJSON *object, const char *key, bool fallback, const cJSON **out) {
    const cJSON *m = qn_json_get(object, key);
    *out = m && !cJSON_IsNull(m) ? m : NULL;
    if (*out || fallback) return QN_OK;
    return qni_json_fail(object, "expected \"%s\"", key);
}

qn_status qni_json_bool(const cJSON *object, const char *key, bool fallback, bool *inout) {
    const cJSON *m;
    QN_TRY(member(object, key, fallback, &m));
    if (m && !cJSON_IsBool(m)) return qni_json_fail(m, "\"%s\": expected true or false", key);
    if (m) *inout = cJSON_IsTrue(m);
    return QN_OK;
}

qn_status qni_json_int(const cJSON *object, const char *key, bool fallback, int64_t low,
                       int64_t high, int64_t *inout) {
    const cJSON *m;
    int64_t v;
    QN_TRY(member(object, key, fallback, &m));
    if (!m) return QN_OK;
    if (!qn_json_int64(m, &v) || v < low || v > high)
        return qni_json_fail(m, "\"%s\": expected an integer from %lld to %lld", key,
                             (long long)low, (long long)high);
    *inout = v;
    return QN_OK;
}

qn_status qni_json_string(const cJSON *object, const char *key, bool fallback, const char **inout) {
    const cJSON *m;
    QN_TRY(member(object, key, fallback, &m));
    if (m && !cJSON_IsString(m)) return qni_json_fail(m, "\"%s\": expected a string", key);
    if (m) *inout = m->valuestring;
    return QN_OK;
}

qn_status qni_json_pattern(const cJSON *object, const char *key, const char **text,
                           const char **regex) {
    const cJSON *m;
    QN_TRY(member(object, key, false, &m));
    QN_TRY(qni_json_string(m, "String", true, text));
    QN_TRY(qni_json_string(m, "Regex", true, regex));
    if (!*text == !*regex) return qni_json_fail(m, "expected {\"String\": s} or {\"Regex\": r}");
    return QN_OK;
}

/* ---- components ------------------------------------------------------------------------------ */

/* One component, or those of a Sequence; `list` is what the Sequence calls them. */
static qn_status read_component(qn_tokenizer *t, const qni_component *known, const char *list,
                                const cJSON *json) {
    const char *type = NULL;
    if (!json || cJSON_IsNull(json)) return QN_OK;
    if (!cJSON_IsObject(json)) return qni_json_fail(json, "expected an object with a \"type\"");
    QN_TRY(qni_json_string(json, "type", false, &type));
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *parts = qn_json_get(json, list);
        if (!cJSON_IsArray(parts)) return qni_json_fail(json, "expected a list \"%s\"", list);
        for (const cJSON *p = parts->child; p; p = p->next)
            QN_TRY(read_component(t, known, list, p));
        return QN_OK;
    }
    for (; known->type; known++)
        if (strcmp(known->type, type) == 0) return known->read(t, json);
    return qni_json_fail(json, "Quern does not have \"%s\" of the %s", type, list);
}

/* ---- the model ------------------------------------------------------------------------------- */

qn_status qni_json_vocab(qn_tokenizer *t, const cJSON *vocab) {
    if (!cJSON_IsObject(vocab) || !vocab->child)
        return qni_json_fail(vocab, "vocab: expected an object of tokens");
    int64_t n = 0;
    for (const cJSON *v = vocab->child; v; v = v->next) n++;
    QN_TRY(qni_table_create(t->arena, n + 512, &t->table));
    for (const cJSON *v = vocab->child; v; v = v->next) {
        int64_t id;
        if (!qn_json_int64(v, &id)) return qni_json_fail(v, "vocab: expected an id");
        int64_t bytes = (int64_t)strlen(v->string);
        QN_TRY(qni_json_prefix(v, qni_table_set(&t->table, id, v->string, bytes)));
    }
    return QN_OK;
}

/* The two parts of a merge: "a b" with exactly one space, or ["a", "b"]. */
static qn_status merge_parts(const cJSON *m, const char **a, int64_t *a_bytes, const char **b,
                             int64_t *b_bytes) {
    if (cJSON_IsString(m)) {
        const char *space = strchr(m->valuestring, ' ');
        if (!space || strchr(space + 1, ' '))
            return qni_json_fail(m, "merge \"%.64s\": expected two tokens and one space between",
                                 m->valuestring);
        *a = m->valuestring;
        *a_bytes = space - *a;
        *b = space + 1;
    } else {
        const cJSON *one = cJSON_IsArray(m) ? m->child : NULL, *two = one ? one->next : NULL;
        if (!two || two->next || !cJSON_IsString(one) || !cJSON_IsString(two))
            return qni_json_fail(m, "merge: expected \"a b\" or [\"a\", \"b\"]");
        *a = one->valuestring;
        *a_bytes = (int64_t)strlen(*a);
        *b = two->valuestring;
    }
    *b_bytes = (int64_t)strlen(*b);
    return QN_OK;
}

static qn_status read_merges(qni_bpe *m, qn_tokenizer *t, const cJSON *merges) {
    int32_t rank = 0;
    for (const cJSON *c = merges->child; c; c = c->next) {
        const char *a = NULL, *b = NULL;
        int64_t a_bytes = 0, b_bytes = 0;
        if (rank == 0 && cJSON_IsString(c) && strncmp(c->valuestring, "#version", 8) == 0) continue;
        QN_TRY(merge_parts(c, &a, &a_bytes, &b, &b_bytes));
        QN_TRY(qni_json_prefix(c, qni_bpe_add_text(m, t, a, a_bytes, b, b_bytes, rank)));
        rank++;
    }
    return QN_OK;
}

static qn_status read_affix(qn_tokenizer *t, const cJSON *json, const char *key, const char **out) {
    const char *text = "";
    QN_TRY(qni_json_string(json, key, true, &text));
    if (strlen(text) > QNI_MAX_AFFIX) return qni_json_fail(json, "\"%s\" is too long", key);
    if (!*text) return QN_OK;
    *out = qn_setup_strdup(t->arena, text);
    return *out ? QN_OK : QN_ERR_OOM;
}

qn_status qni_json_unk(qn_tokenizer *t, const cJSON *json, int32_t *out) {
    const char *unk = NULL;
    QN_TRY(qni_json_string(json, "unk_token", true, &unk));
    if (!unk || !*unk) return QN_OK;
    *out = qni_table_find(&t->table, unk, (int64_t)strlen(unk));
    if (*out < 0) return qni_json_fail(json, "unk_token \"%.64s\" is not in the vocabulary", unk);
    t->role[QN_TOKEN_UNK] = *out;
    return QN_OK;
}

static qn_status read_bpe(qn_tokenizer *t, const cJSON *json) {
    const cJSON *vocab = qn_json_get(json, "vocab"), *merges = qn_json_get(json, "merges");
    const cJSON *dropout = qn_json_get(json, "dropout");
    if (!vocab) return qni_json_fail(json, "BPE: expected \"vocab\"");
    if (!cJSON_IsArray(merges)) return qni_json_fail(json, "BPE: expected a list \"merges\"");
    if (dropout && !cJSON_IsNull(dropout) &&
        !(cJSON_IsNumber(dropout) && !(dropout->valuedouble > 0)))
        return qni_json_fail(dropout, "BPE: dropout is for training a tokenizer; expected null");
    QN_TRY(qni_json_vocab(t, vocab));
    int64_t n = 0;
    for (const cJSON *c = merges->child; c; c = c->next) n++;
    qni_bpe *m = NULL;
    QN_TRY(qni_bpe_create(t, n, &m));
    QN_TRY(read_affix(t, json, "continuing_subword_prefix", &m->prefix));
    QN_TRY(read_affix(t, json, "end_of_word_suffix", &m->suffix));
    QN_TRY(qni_json_bool(json, "fuse_unk", true, &m->fuse_unk));
    QN_TRY(qni_json_bool(json, "byte_fallback", true, &m->byte_fallback));
    QN_TRY(qni_json_bool(json, "ignore_merges", true, &m->ignore_merges));
    QN_TRY(qni_json_unk(t, json, &m->unk));
    (void)qni_byte_tokens(&t->table, m->fallback);
    QN_TRY(read_merges(m, t, merges));
    return qni_bpe_use(m, t);
}

const qni_component qni_models[] = {
    {"BPE", read_bpe}, {"Unigram", qni_read_unigram}, {"WordPiece", qni_read_wordpiece}, {0}};

/* Files of older versions do not say which model they hold. */
static qn_status read_model(qn_tokenizer *t, const cJSON *json) {
    const cJSON *model = qn_json_get(json, "model");
    if (!cJSON_IsObject(model)) return qni_json_fail(json, "expected an object \"model\"");
    const char *type = NULL;
    QN_TRY(qni_json_string(model, "type", true, &type));
    if (!type)
        type = qn_json_get(model, "merges")   ? "BPE"
               : qn_json_get(model, "unk_id") ? "Unigram"
                                              : "WordPiece";
    for (const qni_component *c = qni_models; c->type; c++)
        if (strcmp(c->type, type) == 0) return c->read(t, model);
    return qni_json_fail(model, "Quern does not have the model \"%s\"", type);
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static qn_status read_added(qn_tokenizer *t, const cJSON *json) {
    const cJSON *list = qn_json_get(json, "added_tokens");
    if (!list || cJSON_IsNull(list)) return QN_OK;
    if (!cJSON_IsArray(list)) return qni_json_fail(list, "added_tokens: expected a list");
    for (const cJSON *c = list->child; c; c = c->next) {
        qni_added a = {0};
        int64_t id = 0;
        QN_TRY(qni_json_int(c, "id", false, 0, QNI_MAX_TOKENS - 1, &id));
        QN_TRY(qni_json_string(c, "content", false, &a.text));
        QN_TRY(qni_json_bool(c, "special", true, &a.special));
        a.normalized = !a.special;
        QN_TRY(qni_json_bool(c, "single_word", true, &a.single_word));
        QN_TRY(qni_json_bool(c, "lstrip", true, &a.lstrip));
        QN_TRY(qni_json_bool(c, "rstrip", true, &a.rstrip));
        QN_TRY(qni_json_bool(c, "normalized", true, &a.normalized));
        a.id = (int32_t)id;
        a.bytes = (int32_t)strlen(a.text);
        QN_TRY(qni_json_prefix(c, qni_add_token(t, &a)));
    }
    return QN_OK;
}

qn_status qni_read_json(qn_tokenizer *t, const qni_bytes *file) {
    qn_setup *arena = NULL;
    cJSON *json = NULL;
    QN_TRY(qn_setup_create("tokenizer.json", &arena));
    qn_json_options o = {.name = file->name, .max_bytes = QNI_MAX_FILE};
    qn_status status = qn_json_parse(arena, file->data, (size_t)file->size, &o, &json);
    if (status == QN_OK && !cJSON_IsObject(json))
        status = qni_json_fail(json, "expected an object");
    if (status == QN_OK)
        status = read_component(t, qni_normalizers, "normalizers", qn_json_get(json, "normalizer"));
    if (status == QN_OK)
        status =
            read_component(t, qni_splitters, "pretokenizers", qn_json_get(json, "pre_tokenizer"));
    if (status == QN_OK) status = read_model(t, json);
    if (status == QN_OK) status = read_added(t, json);
    if (status == QN_OK)
        status = read_component(t, qni_decoders, "decoders", qn_json_get(json, "decoder"));
    if (status == QN_OK) status = qni_json_template(t, qn_json_get(json, "post_processor"));
    qn_setup_free(arena);
    return status;
}
