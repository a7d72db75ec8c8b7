/* tokenizer_forms.c — which form the files have, and what the small files beside it say: the class,
 * added tokens, roles. */
#include "io/tokenizer_sentencepiece.h"
#include "io/tokenizer_wordpiece.h"

#include <stdio.h>
#include <string.h>

static bool ends(const char *name, const char *with) {
    size_t n = strlen(name), m = strlen(with);
    return n >= m && strcmp(name + n - m, with) == 0;
}

/* NULL if the file is not there. */
static qn_status parse(const qn_tokenizer *t, qn_setup *arena, const char *name, cJSON **out) {
    const qni_bytes *f = qni_file_find(&t->files, name);
    *out = NULL;
    if (!f) return QN_OK;
    qn_json_options o = {.name = name, .max_bytes = QNI_MAX_FILE};
    QN_TRY(qn_json_parse(arena, f->data, (size_t)f->size, &o, out));
    return cJSON_IsObject(*out) ? QN_OK : qni_json_fail(*out, "expected an object");
}

/* ---- added tokens ---------------------------------------------------------------------------- */

/* {"content": ..., "lstrip": ...}; `id` is where it goes. */
static qn_status add_object(qn_tokenizer *t, const cJSON *json, int64_t id, bool special) {
    qni_added a = {.id = (int32_t)id, .special = special};
    QN_TRY(qni_json_string(json, "content", false, &a.text));
    QN_TRY(qni_json_bool(json, "special", true, &a.special));
    a.normalized = !a.special;
    QN_TRY(qni_json_bool(json, "single_word", true, &a.single_word));
    QN_TRY(qni_json_bool(json, "lstrip", true, &a.lstrip));
    QN_TRY(qni_json_bool(json, "rstrip", true, &a.rstrip));
    QN_TRY(qni_json_bool(json, "normalized", true, &a.normalized));
    a.bytes = (int32_t)strlen(a.text);
    return qni_json_prefix(json, qni_add_token(t, &a));
}

/* {"ID": {"content": ...}, ...} */
static qn_status read_decoder_list(qn_tokenizer *t, const cJSON *list) {
    if (!list || cJSON_IsNull(list)) return QN_OK;
    if (!cJSON_IsObject(list))
        return qni_json_fail(list, "added_tokens_decoder: expected an object");
    for (const cJSON *c = list->child; c; c = c->next) {
        int64_t id = 0;
        size_t n = strspn(c->string, "0123456789");
        for (size_t i = 0; i < n && n <= 8; i++) id = 10 * id + (c->string[i] - '0');
        if (n == 0 || n > 8 || c->string[n]) return qni_json_fail(c, "expected an id as the key");
        QN_TRY(add_object(t, c, id, false));
    }
    return QN_OK;
}

/* {"TOKEN": id, ...}; what is known already keeps its ways. */
static qn_status read_plain_list(qn_tokenizer *t, const cJSON *list) {
    for (const cJSON *c = list ? list->child : NULL; c; c = c->next) {
        int64_t id;
        int32_t bytes = (int32_t)strlen(c->string);
        if (!qn_json_int64(c, &id) || id < 0 || id >= QNI_MAX_TOKENS)
            return qni_json_fail(c, "expected an id");
        if (qni_table_find(&t->table, c->string, bytes) == (int32_t)id) continue;
        QN_TRY(qni_json_prefix(c, qni_add_token(t, &(qni_added){.text = c->string,
                                                                .bytes = bytes,
                                                                .id = (int32_t)id,
                                                                .normalized = true})));
    }
    return QN_OK;
}

/* ---- roles ----------------------------------------------------------------------------------- */

static const char *const role_keys[QN_TOKEN_ROLES] = {"bos_token", "eos_token", "pad_token",
                                                      "unk_token"};

/* Makes a token that has a role special; one that no list has is new, behind all others. */
static qn_status make_special(qn_tokenizer *t, const cJSON *json, int32_t *out) {
    const char *text = cJSON_IsString(json) ? json->valuestring : NULL;
    if (cJSON_IsObject(json)) QN_TRY(qni_json_string(json, "content", false, &text));
    if (!text || !*text) return qni_json_fail(json, "expected a token");
    int64_t bytes = (int64_t)strlen(text);
    int32_t id = qni_table_find(&t->table, text, bytes);
    *out = id < 0 ? (int32_t)t->table.size : id;
    for (int64_t i = 0; i < t->n_added; i++) {
        if (t->added[i].id != id) continue;
        t->added[i].special = true;
        return QN_OK;
    }
    if (cJSON_IsObject(json)) return add_object(t, json, *out, true);
    return qni_json_prefix(
        json,
        qni_add_token(
            t, &(qni_added){.text = text, .bytes = (int32_t)bytes, .id = *out, .special = true}));
}

static qn_status read_roles(qn_tokenizer *t, const cJSON *config, bool fill) {
    for (int i = 0; i < QN_TOKEN_ROLES; i++) {
        const cJSON *v = qn_json_get(config, role_keys[i]);
        if (!v || cJSON_IsNull(v) || (fill && t->role[i] >= 0)) continue;
        QN_TRY(make_special(t, v, &t->role[i]));
    }
    const cJSON *more = qn_json_get(config, "additional_special_tokens");
    if (!more) more = qn_json_get(config, "extra_special_tokens");
    for (const cJSON *c = cJSON_IsArray(more) ? more->child : NULL; c; c = c->next) {
        int32_t id;
        QN_TRY(make_special(t, c, &id));
    }
    return QN_OK;
}

/* BOS and EOS around a text, for forms whose main file does not say. */
static qn_status read_template(qn_tokenizer *t, const cJSON *config) {
    bool bos = t->single.n > 0 && t->single.item[0].id >= 0;
    bool eos = t->single.n > 0 && t->single.item[t->single.n - 1].id >= 0;
    if (!qn_json_get(config, "add_bos_token") && !qn_json_get(config, "add_eos_token"))
        return QN_OK;
    QN_TRY(qni_json_bool(config, "add_bos_token", true, &bos));
    QN_TRY(qni_json_bool(config, "add_eos_token", true, &eos));
    int32_t first = bos ? t->role[QN_TOKEN_BOS] : -1, last = eos ? t->role[QN_TOKEN_EOS] : -1;
    t->single = t->pair = (qni_template){0};
    for (int text = 0; text < 2; text++) {
        qni_template_item part[3] = {{first, text}, {-1 - text, text}, {last, text}};
        for (int i = 0; i < 3; i++) {
            if (part[i].id < 0 && i != 1) continue;
            t->pair.item[t->pair.n++] = part[i];
            if (text == 0) t->single.item[t->single.n++] = part[i];
        }
    }
    return QN_OK;
}

/* T5's sentinels, which its SentencePiece file leaves out: <extra_id_0> is the last id. */
static qn_status add_sentinels(qn_tokenizer *t, const cJSON *config, const char *class) {
    int64_t n = 100;
    if (!class || strncmp(class, "T5Tokenizer", 11) != 0) return QN_OK;
    QN_TRY(qni_json_int(config, "extra_ids", true, 0, 1 << 16, &n));
    for (int64_t i = 0; i < n; i++) {
        char text[32];
        int32_t bytes = snprintf(text, sizeof text, "<extra_id_%d>", (int)i);
        if (qni_table_find(&t->table, text, bytes) >= 0) continue;
        qni_added a = {.text = text,
                       .bytes = bytes,
                       .id = (int32_t)(t->model_size + n - 1 - i),
                       .special = true};
        QN_TRY(qni_json_prefix(config, qni_add_token(t, &a)));
    }
    return QN_OK;
}

/* ---- forms ----------------------------------------------------------------------------------- */

/* Tokenizers that number the pieces of their SentencePiece file anew, as their tokenizer.json
 * says. */
static qn_status refuse_renumbered(const char *name, const char *class) {
    static const char *const classes[] = {"XLMRoberta", "Camembert", "MBart",   "Nllb",   "XGLM",
                                          "Barthez",    "M2M100",    "Pegasus", "PLBart", "Marian"};
    bool renumbered = strcmp(name, "sentencepiece.bpe.model") == 0;
    for (size_t i = 0; class && i < sizeof classes / sizeof *classes; i++)
        renumbered = renumbered || strncmp(class, classes[i], strlen(classes[i])) == 0;
    if (!renumbered) return QN_OK;
    return qn_fail(QN_ERR_FORMAT,
                   "%s: a tokenizer that does not use this file's ids (%s), expected its "
                   "tokenizer.json",
                   name, class ? class : "as XLM-RoBERTa");
}

/* Llama's tokenizers with "legacy": false put no space behind special tokens. */
static qn_status read_pieces(qn_tokenizer *t, const qni_bytes *file, const cJSON *config,
                             const char *class) {
    bool legacy = true;
    QN_TRY(refuse_renumbered(file->name, class));
    if (class && strncmp(class, "LlamaTokenizer", 14) == 0)
        QN_TRY(qni_json_bool(config, "legacy", true, &legacy));
    return qni_read_sentencepiece(t, file, !legacy);
}

static qn_status read_main(qn_tokenizer *t, const cJSON *config, const char *class) {
    const qni_bytes *f = &t->files.file[0];
    const qni_bytes *merges = qni_file_find(&t->files, "merges.txt");
    if (!merges) merges = qni_file_find(&t->files, "vocab.bpe");
    if (merges) return qni_read_merges(t, f, merges, class);
    if (ends(f->name, ".json")) return qni_read_json(t, f);
    if (ends(f->name, "vocab.txt")) return qni_read_vocab_txt(t, f);
    if (qni_is_ranks(f)) return qni_read_ranks(t, f);
    if (qni_is_sentencepiece(f)) return read_pieces(t, f, config, class);
    return qn_fail(QN_ERR_FORMAT, "%s: found no form of tokenizer that Quern knows", f->name);
}

static qn_status read_all(qn_tokenizer *t, qn_setup *arena) {
    cJSON *config, *map, *added;
    const char *class = NULL;
    QN_TRY(parse(t, arena, "tokenizer_config.json", &config));
    QN_TRY(parse(t, arena, "special_tokens_map.json", &map));
    QN_TRY(parse(t, arena, "added_tokens.json", &added));
    if (config) QN_TRY(qni_json_string(config, "tokenizer_class", true, &class));
    QN_TRY(read_main(t, config, class));
    if (config) QN_TRY(read_decoder_list(t, qn_json_get(config, "added_tokens_decoder")));
    QN_TRY(read_plain_list(t, added));
    if (qni_is_sentencepiece(&t->files.file[0])) QN_TRY(add_sentinels(t, config, class));
    if (config) QN_TRY(read_roles(t, config, false));
    if (map) QN_TRY(read_roles(t, map, true));
    bool in_json = strcmp(t->files.file[0].name, "tokenizer.json") == 0;
    return config && !in_json ? read_template(t, config) : QN_OK;
}

qn_status qni_read_files(qn_tokenizer *t) {
    qn_setup *arena = NULL;
    if (t->files.n == 0) return qn_fail(QN_ERR_FORMAT, "tokenizer: found no files");
    QN_TRY(qn_setup_create("files of a tokenizer", &arena));
    qn_status status = read_all(t, arena);
    qn_setup_free(arena);
    return status;
}
