/* chat_template.c — finding a chat template and the special tokens it writes. */
#include "io/chat_parts.h"

#include "io/file.h"

#include <stdlib.h>
#include <string.h>

enum { CONFIG_BYTES = 64 << 20 }; /* the added tokens of a model make its configuration long */

static void drop(qn_chat_template *t) {
    qn_jinja_free(t->plain);
    qn_jinja_free(t->with_tools);
    qn_setup_free(t->arena);
    qn_free(t);
}

void qn_chat_template_free(qn_chat_template *t) {
    if (t) drop(t);
}

static qn_status begin(qn_chat_template **out) {
    qn_chat_template *t = qn_alloc(sizeof *t, "a chat template");
    if (!t) return QN_ERR_OOM;
    qn_status status = qn_setup_create("a chat template", &t->arena);
    if (status != QN_OK) {
        qn_free(t);
        return status;
    }
    *out = t;
    return QN_OK;
}

/* ---- special tokens -------------------------------------------------------------------------- */

/* The text of a token: "..." or {"content": "...", ...}; NULL for anything else. */
static const char *token_text(const cJSON *v) {
    if (cJSON_IsObject(v)) v = qn_json_get(v, "content");
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static qn_status add_member(qn_setup *arena, cJSON *object, const char *key, const char *text) {
    cJSON *v = qn_setup_alloc(arena, sizeof *v);
    if (!v) return QN_ERR_OOM;
    v->type = cJSON_String;
    v->string = qn_setup_strdup(arena, key);
    v->valuestring = qn_setup_strdup(arena, text);
    if (!v->string || !v->valuestring) return QN_ERR_OOM;
    v->next = object->child;
    object->child = v;
    return QN_OK;
}

/* Adds those special tokens of `from` that `tokens` lacks. */
static qn_status add_tokens(qn_setup *arena, const cJSON *from, cJSON *tokens) {
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *text = token_text(qn_json_get(from, names[i]));
        if (text && !qn_json_get(tokens, names[i])) {
            QN_TRY(add_member(arena, tokens, names[i], text));
        }
    }
    return QN_OK;
}

/* ---- files beside a model -------------------------------------------------------------------- */

typedef struct place { /* where a model's files are: a directory, or in a tokenizer; or neither */
    const char *directory;
    const qn_tokenizer *tokenizer;
    const char *text; /* of the template that is named by a path, NULL = not known */
} place;

/* The bytes of a file, *text (qn_free) NULL if there is none; path: what errors call it. */
static qn_status read_file(const place *p, const char *name, int64_t most, char path[QN_PATH_MAX],
                           char **text, int64_t *bytes) {
    *text = NULL;
    if (p->tokenizer) {
        const char *kept = qn_tokenizer_file_named(p->tokenizer, name, bytes);
        QN_TRY(qn_path_format(path, QN_PATH_MAX, "%s", name));
        if (!kept) return QN_OK;
        *text = qn_alloc((size_t)*bytes + 1, name);
        if (!*text) return QN_ERR_OOM;
        memcpy(*text, kept, (size_t)*bytes + 1);
    } else if (p->directory) {
        QN_TRY(qn_path_format(path, QN_PATH_MAX, "%s/%s", p->directory, name));
        if (qn_path_exists(path)) return qn_file_read(path, most, text, bytes);
    }
    return QN_OK;
}

/* A file as JSON in `arena`; *out is NULL if there is none. */
static qn_status read_json(qn_setup *arena, const place *p, const char *name, cJSON **out) {
    char path[QN_PATH_MAX], *text;
    int64_t bytes;
    *out = NULL;
    QN_TRY(read_file(p, name, CONFIG_BYTES, path, &text, &bytes));
    if (!text) return QN_OK;
    const qn_json_options o = {.name = path, .max_bytes = CONFIG_BYTES};
    qn_status status = qn_json_parse(arena, text, (size_t)bytes, &o, out);
    qn_free(text);
    return status;
}

static qn_status model_tokens(qn_chat_template *t, const place *p, const cJSON *config,
                              qn_setup *scratch) {
    cJSON *tokens = qn_setup_alloc(t->arena, sizeof *tokens), *map;
    if (!tokens) return QN_ERR_OOM;
    tokens->type = cJSON_Object;
    t->tokens = tokens;
    if (config) QN_TRY(add_tokens(t->arena, config, tokens));
    QN_TRY(read_json(scratch, p, "special_tokens_map.json", &map));
    return map ? add_tokens(t->arena, map, tokens) : QN_OK;
}

/* ---- where templates are --------------------------------------------------------------------- */

/* Compiles, and keeps the text for qn_chat_template_identity. */
static qn_status compile(qn_chat_template *t, const char *where, const char *text, size_t bytes,
                         bool with_tools) {
    char *copy = qn_setup_alloc(t->arena, bytes + 1);
    if (!copy) return QN_ERR_OOM;
    memcpy(copy, text, bytes); /* a zero ends it */
    *(with_tools ? &t->tools_text : &t->plain_text) = copy;
    return qn_jinja_compile(where, text, bytes, with_tools ? &t->with_tools : &t->plain);
}

static qn_status compile_file(qn_chat_template *t, const char *path) {
    char *text;
    int64_t bytes;
    QN_TRY(qn_file_read(path, QN_JINJA_MAX_BYTES, &text, &bytes));
    qn_status status = compile(t, path, text, (size_t)bytes, false);
    qn_free(text);
    return status;
}

static qn_status compile_value(qn_chat_template *t, const char *where, const cJSON *v,
                               bool with_tools) {
    if (!cJSON_IsString(v)) {
        return qn_fail(QN_ERR_FORMAT, "%s: chat_template: a template must be a string", where);
    }
    return compile(t, where, v->valuestring, strlen(v->valuestring), with_tools);
}

/* "chat_template": a text, or [{"name": "default", "template": text}, {"name": "tool_use", ...}] */
static qn_status compile_config(qn_chat_template *t, const place *p, const cJSON *v) {
    char where[QN_PATH_MAX];
    QN_TRY(qn_path_format(where, sizeof where, "%s%stokenizer_config.json: chat_template",
                          p->directory ? p->directory : "", p->directory ? "/" : ""));
    if (!cJSON_IsArray(v)) return compile_value(t, where, v, false);
    for (const cJSON *i = v->child; i; i = i->next) {
        const char *name = token_text(qn_json_get(i, "name"));
        bool tools = name && strcmp(name, "tool_use") == 0;
        if (!tools && !(name && strcmp(name, "default") == 0)) continue;
        if (tools ? !t->with_tools : !t->plain)
            QN_TRY(compile_value(t, where, qn_json_get(i, "template"), tools));
    }
    if (t->plain) return QN_OK;
    return qn_fail(QN_ERR_FORMAT, "%s: no template is named \"default\"", where);
}

static qn_status no_template(const char *directory) {
    qn_text names = {0};
    char *list;
    for (int i = 0; qn_chat_builtin_name(i); i++) {
        qn_text_printf(&names, "%s%s", i ? ", " : "", qn_chat_builtin_name(i));
    }
    QN_TRY(qn_text_take(&names, &list));
    qn_status status = qn_fail(QN_ERR_DATA,
                               "%s: no chat template: expected chat_template.jinja, or "
                               "chat_template in tokenizer_config.json; or name a built-in one: %s",
                               directory ? directory : "no model", list);
    qn_free(list);
    return status;
}

static qn_status own_template(qn_chat_template *t, const place *p, const cJSON *config) {
    char path[QN_PATH_MAX], *text;
    int64_t bytes;
    QN_TRY(read_file(p, "chat_template.jinja", QN_JINJA_MAX_BYTES, path, &text, &bytes));
    if (text) {
        qn_status status = compile(t, path, text, (size_t)bytes, false);
        qn_free(text);
        return status;
    }
    const cJSON *v = config ? qn_json_get(config, "chat_template") : NULL;
    if (!v || cJSON_IsNull(v)) return no_template(p->tokenizer ? "tokenizer" : p->directory);
    return compile_config(t, p, v);
}

static qn_status builtin_tokens(qn_chat_template *t, const qni_chat_builtin *b) {
    const qn_json_options o = {.name = b->name};
    cJSON *tokens;
    QN_TRY(qn_json_parse(t->arena, b->tokens, strlen(b->tokens), &o, &tokens));
    t->tokens = tokens;
    return QN_OK;
}

static qn_status fill(qn_chat_template *t, const char *which, const place *p, qn_setup *scratch) {
    const qni_chat_builtin *b = which ? qni_chat_find_builtin(which) : NULL;
    cJSON *config = NULL;
    QN_TRY(read_json(scratch, p, "tokenizer_config.json", &config));
    t->builtin = b != NULL;
    if (!which) {
        QN_TRY(own_template(t, p, config));
    } else if (b) {
        QN_TRY(compile(t, b->name, b->text, strlen(b->text), false));
    } else if (p->text) {
        QN_TRY(compile(t, which, p->text, strlen(p->text), false));
    } else if (qn_path_exists(which)) {
        QN_TRY(compile_file(t, which));
    } else {
        QN_TRY(no_template(which));
    }
    if (p->directory || p->tokenizer) QN_TRY(model_tokens(t, p, config, scratch));
    bool unstated = !p->directory && !(t->tokens && t->tokens->child);
    return b && unstated ? builtin_tokens(t, b) : QN_OK;
}

static qn_status open_at(const char *which, const place *p, qn_chat_template **out) {
    qn_chat_template *t;
    qn_setup *scratch;
    QN_TRY(qn_setup_create("a tokenizer's configuration", &scratch));
    qn_status status = begin(&t);
    if (status == QN_OK) {
        status = fill(t, which, p, scratch);
        if (status == QN_OK) *out = t;
        if (status != QN_OK) drop(t);
    }
    qn_setup_free(scratch);
    return status;
}

qn_status qn_chat_template_open(const char *which, const char *directory, qn_chat_template **out) {
    return open_at(which, &(place){.directory = directory}, out);
}

qn_status qn_chat_template_of(const char *which, const char *text, const qn_tokenizer *tokenizer,
                              qn_chat_template **out) {
    return open_at(which, &(place){.tokenizer = tokenizer, .text = text}, out);
}

qn_status qn_chat_template_create(const char *name, const char *text, size_t bytes,
                                  const cJSON *tokens, qn_chat_template **out) {
    qn_chat_template *t;
    QN_TRY(begin(&t));
    qn_status status = compile(t, name, text, bytes, false);
    if (status == QN_OK && tokens) {
        cJSON *copy = qn_setup_alloc(t->arena, sizeof *copy);
        if (copy) copy->type = cJSON_Object;
        t->tokens = copy;
        status = copy ? add_tokens(t->arena, tokens, copy) : QN_ERR_OOM;
    }
    if (status == QN_OK) *out = t;
    if (status != QN_OK) drop(t);
    return status;
}

qn_status qn_chat_template_identity(const qn_chat_template *t, char **out) {
    qn_text s = {0};
    qn_text_printf(&s, "%s%s", t->builtin ? "built-in\n" : "", t->plain_text);
    if (t->tools_text) qn_text_printf(&s, "\ntools\n%s", t->tools_text);
    for (const cJSON *i = t->tokens ? t->tokens->child : NULL; i; i = i->next) {
        qn_text_printf(&s, "\n%s ", i->string);
        qn_text_json_string(&s, i->valuestring);
    }
    return qn_text_take(&s, out);
}
