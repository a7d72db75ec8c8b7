/* examples.c — records to examples, layout by layout. */
#include "io/examples.h"

#include <stdio.h>
#include <string.h>

static const char *const format_names[QN_EXAMPLES_FORMATS] = {
    "auto", "alpaca", "sharegpt", "messages", "prompt_completion", "text", "labelled",
};

const char *qn_example_format_name(qn_example_format f) { return format_names[f]; }

bool qn_example_format_parse(const char *name, qn_example_format *out) {
    for (int i = 0; i < QN_EXAMPLES_FORMATS; i++) {
        if (strcmp(name, format_names[i]) != 0) continue;
        *out = (qn_example_format)i;
        return true;
    }
    return false;
}

typedef struct reading {
    const qn_records *r;
    const cJSON *record;
    const qn_example_keys *keys;
    qn_setup *arena;
    qn_example *out;
    int capacity;
} reading;

/* ---- keys and strings ------------------------------------------------------------------------ */

static const char *named(const char *given, const char *usual) { return given ? given : usual; }

static const char *kind(const cJSON *v) {
    return !v                  ? "nothing"
           : cJSON_IsString(v) ? "a string"
           : cJSON_IsNumber(v) ? "a number"
           : cJSON_IsBool(v)   ? "true or false"
           : cJSON_IsNull(v)   ? "null"
           : cJSON_IsArray(v)  ? "an array"
                               : "an object";
}

/* A member that is absent or null is NULL. */
static const cJSON *member(const cJSON *object, const char *key) {
    const cJSON *v = qn_json_get(object, key);
    return v && cJSON_IsNull(v) ? NULL : v;
}

static qn_status need_string(const reading *x, const cJSON *object, const char *key,
                             const char **out) {
    const cJSON *v = member(object, key);
    if (!v || !cJSON_IsString(v)) {
        return qn_records_fail(x->r, v ? v : object, "\"%s\": found %s, expected a string", key,
                               kind(v));
    }
    *out = v->valuestring;
    return QN_OK;
}

static qn_status maybe_string(const reading *x, const cJSON *object, const char *key,
                              const char **out) {
    *out = NULL;
    return member(object, key) ? need_string(x, object, key, out) : QN_OK;
}

static qn_status copy(const reading *x, const char *text, const char **out) {
    *out = NULL;
    if (!text) return QN_OK;
    size_t n = strlen(text) + 1;
    char *c = qn_setup_alloc(x->arena, n);
    if (!c) return QN_ERR_OOM;
    memcpy(c, text, n);
    *out = c;
    return QN_OK;
}

/* ---- trees of our own ------------------------------------------------------------------------ */

static qn_status make(const reading *x, int type, const char *text, cJSON **out) {
    qn_json_node *n = qn_setup_alloc(x->arena, sizeof *n);
    const char *own;
    if (!n) return QN_ERR_OOM;
    QN_TRY(copy(x, text, &own));
    *n = (qn_json_node){.item = {.type = type, .valuestring = (char *)(uintptr_t)own}};
    *out = &n->item;
    return QN_OK;
}

static qn_status add(const reading *x, cJSON *object, const char *key, cJSON *value) {
    const char *own;
    QN_TRY(copy(x, key, &own));
    value->string = (char *)(uintptr_t)own;
    qn_json_append(object, value);
    return QN_OK;
}

static qn_status add_string(const reading *x, cJSON *object, const char *key, const char *text) {
    cJSON *v;
    QN_TRY(make(x, cJSON_String, text, &v));
    return add(x, object, key, v);
}

/* A copy of a parsed tree in the example's arena; depth is what the parser allows. */
static qn_status clone(const reading *x, const cJSON *from, cJSON **out) {
    cJSON *v;
    QN_TRY(make(x, from->type & 0xff, from->valuestring, &v));
    v->valuedouble = from->valuedouble;
    v->valueint = from->valueint;
    ((qn_json_node *)v)->integer = qn_json_node_of(from)->integer;
    ((qn_json_node *)v)->exact = qn_json_node_of(from)->exact;
    for (const cJSON *c = from->child; c; c = c->next) {
        cJSON *child;
        QN_TRY(clone(x, c, &child));
        if (c->string)
            QN_TRY(add(x, v, c->string, child));
        else
            qn_json_append(v, child);
    }
    *out = v;
    return QN_OK;
}

/* ---- conversations --------------------------------------------------------------------------- */

static qn_status begin(reading *x, int most) {
    qn_example *e = x->out;
    e->train = qn_setup_alloc(x->arena, ((size_t)most + 1) * sizeof *e->train);
    if (!e->train) return QN_ERR_OOM;
    x->capacity = most;
    return make(x, cJSON_Array, NULL, &e->messages);
}

static qn_status say(reading *x, const char *role, const char *content, qn_train_flag train,
                     cJSON **message) {
    qn_example *e = x->out;
    cJSON *m;
    if (e->n_messages >= x->capacity) return qn_fail(QN_ERR_USAGE, "examples: too many messages");
    QN_TRY(make(x, cJSON_Object, NULL, &m));
    QN_TRY(add_string(x, m, "role", role));
    QN_TRY(add_string(x, m, "content", content));
    qn_json_append(e->messages, m);
    e->train[e->n_messages++] = train;
    if (message) *message = m;
    return QN_OK;
}

static bool answered(const qn_example *e) {
    for (const cJSON *m = e->messages->child; m; m = m->next) {
        if (strcmp(qn_json_get(m, "role")->valuestring, "assistant") == 0) return true;
    }
    return false;
}

static qn_status read_tools(reading *x, const char *key) {
    const cJSON *v = member(x->record, key);
    if (!v) return QN_OK;
    cJSON *tree = NULL;
    if (cJSON_IsString(v)) {
        if (!*v->valuestring) return QN_OK;
        qn_json_options o = {.name = key, .max_bytes = (size_t)1 << 24};
        qn_status s = qn_json_parse(x->arena, v->valuestring, strlen(v->valuestring), &o, &tree);
        if (s == QN_ERR_OOM) return s;
        if (s != QN_OK) {
            return qn_records_fail(x->r, v, "\"%s\": found a string that is not JSON: %s", key,
                                   qn_error_message());
        }
    } else {
        QN_TRY(clone(x, v, &tree));
    }
    if (!cJSON_IsArray(tree)) {
        return qn_records_fail(x->r, v, "\"%s\": found %s, expected an array of tools", key,
                               kind(tree));
    }
    if (tree->child) x->out->tools = tree;
    return QN_OK;
}

/* ---- alpaca ---------------------------------------------------------------------------------- */

static qn_status alpaca_history(reading *x, const cJSON *history) {
    for (const cJSON *pair = history->child; pair; pair = pair->next) {
        const cJSON *user = cJSON_IsArray(pair) ? pair->child : NULL,
                    *answer = user ? user->next : NULL;
        if (!answer || answer->next || !cJSON_IsString(user) || !cJSON_IsString(answer)) {
            return qn_records_fail(x->r, pair,
                                   "\"history\": expected pairs of strings [user, assistant]");
        }
        QN_TRY(say(x, "user", user->valuestring, QN_TRAIN_BY_ROLE, NULL));
        QN_TRY(say(x, "assistant", answer->valuestring, QN_TRAIN_BY_ROLE, NULL));
    }
    return QN_OK;
}

static qn_status read_alpaca(reading *x) {
    const char *instruction = NULL, *input, *output = NULL, *system;
    const qn_example_keys *k = x->keys;
    QN_TRY(need_string(x, x->record, named(k->prompt, "instruction"), &instruction));
    QN_TRY(maybe_string(x, x->record, named(k->input, "input"), &input));
    QN_TRY(need_string(x, x->record, named(k->completion, "output"), &output));
    QN_TRY(maybe_string(x, x->record, named(k->system, "system"), &system));
    const cJSON *history = member(x->record, "history");
    if (history && !cJSON_IsArray(history)) {
        return qn_records_fail(x->r, history, "\"history\": found %s, expected an array",
                               kind(history));
    }
    QN_TRY(begin(x, 3 + 2 * (history ? cJSON_GetArraySize(history) : 0)));
    if (system && *system) QN_TRY(say(x, "system", system, QN_TRAIN_BY_ROLE, NULL));
    if (history) QN_TRY(alpaca_history(x, history));
    qn_text t = {0};
    qn_text_add(&t, instruction);
    if (input && *input) qn_text_printf(&t, "\n%s", input);
    char *user;
    QN_TRY(qn_text_take(&t, &user));
    cJSON *message = NULL;
    qn_status s = say(x, "user", user, QN_TRAIN_BY_ROLE, &message);
    qn_free(user);
    QN_TRY(s);
    /* The original prompt tells instruction and input apart. */
    if (input && *input) {
        QN_TRY(add_string(x, message, "instruction", instruction));
        QN_TRY(add_string(x, message, "input", input));
    }
    return say(x, "assistant", output, QN_TRAIN_BY_ROLE, NULL);
}

/* ---- messages and ShareGPT ------------------------------------------------------------------- */

static const char *role_of(const char *name) {
    static const char *const roles[][2] = {
        {"user", "user"},
        {"human", "user"},
        {"assistant", "assistant"},
        {"gpt", "assistant"},
        {"model", "assistant"},
        {"system", "system"},
        {"developer", "system"},
        {"tool", "tool"},
        {"observation", "tool"},
        {"function", "tool"},
        {"function_response", "tool"},
        {"function_call", "function_call"},
    };
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(name, roles[i][0]) == 0) return roles[i][1];
    }
    return NULL;
}

/* A string, or the texts of its parts put together; *owned is the caller's (qn_free). */
static qn_status content_of(const reading *x, const cJSON *message, const char *key, char **owned) {
    const cJSON *v = member(message, key);
    qn_text t = {0};
    qn_text_add(&t, "");
    if (v && cJSON_IsString(v)) {
        qn_text_add(&t, v->valuestring);
    } else if (v && cJSON_IsArray(v)) {
        for (const cJSON *part = v->child; part; part = part->next) {
            const cJSON *type = qn_json_get(part, "type"), *text = qn_json_get(part, "text");
            if (!type || !cJSON_IsString(type) || strcmp(type->valuestring, "text") != 0 || !text ||
                !cJSON_IsString(text)) {
                qn_text_free(&t);
                return qn_records_fail(x->r, part,
                                       "\"%s\": found a part that is not "
                                       "{\"type\": \"text\", \"text\": ...}",
                                       key);
            }
            qn_text_add(&t, text->valuestring);
        }
    } else if (v || !member(message, "tool_calls")) {
        qn_text_free(&t);
        return qn_records_fail(x->r, v ? v : message, "\"%s\": found %s, expected a string", key,
                               kind(v));
    }
    return qn_text_take(&t, owned);
}

/* {"name", "arguments"} written as text becomes a tool call. */
static qn_status add_call(reading *x, const cJSON *place, const char *text) {
    qn_json_options o = {.name = "function_call"};
    cJSON *tree, *message, *calls, *call;
    qn_status s = qn_json_parse(x->arena, text, strlen(text), &o, &tree);
    if (s == QN_ERR_OOM) return s;
    if (s != QN_OK)
        return qn_records_fail(x->r, place, "found a call that is not JSON: %s",
                               qn_error_message());
    QN_TRY(say(x, "assistant", "", QN_TRAIN_BY_ROLE, &message));
    QN_TRY(make(x, cJSON_Array, NULL, &calls));
    cJSON *one = cJSON_IsArray(tree) ? tree->child : tree;
    while (one) {
        cJSON *next = cJSON_IsArray(tree) ? one->next : NULL, *function;
        if (!cJSON_IsObject(one) || !qn_json_get(one, "name")) {
            return qn_records_fail(x->r, place,
                                   "found a call without \"name\", expected {\"name\", "
                                   "\"arguments\"}");
        }
        QN_TRY(make(x, cJSON_Object, NULL, &call));
        QN_TRY(add_string(x, call, "type", "function"));
        QN_TRY(clone(x, one, &function));
        QN_TRY(add(x, call, "function", function));
        qn_json_append(calls, call);
        one = next;
    }
    return add(x, message, "tool_calls", calls);
}

static qn_status train_flag(const reading *x, const cJSON *message, qn_train_flag *out) {
    const cJSON *weight = member(message, "weight"), *train = member(message, "train");
    *out = QN_TRAIN_BY_ROLE;
    if (weight) {
        if (!cJSON_IsNumber(weight) || (weight->valuedouble != 0 && weight->valuedouble != 1))
            return qn_records_fail(x->r, weight, "\"weight\": expected 0 or 1");
        *out = weight->valuedouble != 0 ? QN_TRAIN_YES : QN_TRAIN_NO;
    }
    if (train) {
        if (!cJSON_IsBool(train))
            return qn_records_fail(x->r, train, "\"train\": found %s, expected true or false",
                                   kind(train));
        *out = cJSON_IsTrue(train) ? QN_TRAIN_YES : QN_TRAIN_NO;
    }
    return QN_OK;
}

static qn_status read_message(reading *x, const cJSON *from, const char *role_key,
                              const char *content_key) {
    const char *name;
    char *content;
    qn_train_flag train;
    if (!cJSON_IsObject(from))
        return qn_records_fail(x->r, from, "found %s, expected a message {...}", kind(from));
    QN_TRY(need_string(x, from, role_key, &name));
    const char *role = role_of(name);
    if (!role) {
        return qn_records_fail(x->r, qn_json_get(from, role_key),
                               "\"%s\": found \"%.40s\", expected system, user, assistant, tool, "
                               "human, gpt, observation or function_call",
                               role_key, name);
    }
    QN_TRY(train_flag(x, from, &train));
    QN_TRY(content_of(x, from, content_key, &content));
    qn_status s;
    cJSON *message = NULL;
    if (strcmp(role, "function_call") == 0) {
        s = add_call(x, from, content);
    } else {
        s = say(x, role, content, train, &message);
    }
    qn_free(content);
    /* Whatever else a message says is the template's to read. */
    for (const cJSON *c = from->child; s == QN_OK && message && c; c = c->next) {
        if (qn_json_get(message, c->string) || strcmp(c->string, role_key) == 0 ||
            strcmp(c->string, content_key) == 0 || strcmp(c->string, "weight") == 0 ||
            strcmp(c->string, "train") == 0)
            continue;
        cJSON *v;
        s = clone(x, c, &v);
        if (s == QN_OK) s = add(x, message, c->string, v);
    }
    return s;
}

static qn_status read_list(reading *x, const cJSON *list, const char *role, const char *content) {
    for (const cJSON *m = list->child; m; m = m->next) QN_TRY(read_message(x, m, role, content));
    return QN_OK;
}

static qn_status read_conversation(reading *x, bool sharegpt) {
    const qn_example_keys *k = x->keys;
    const char *key = named(k->messages, sharegpt ? "conversations" : "messages"), *system;
    const cJSON *list = member(x->record, key);
    if (!list && !k->messages) /* either layout is found under either name */
        list = member(x->record, key = sharegpt ? "messages" : "conversations");
    if (!list || !cJSON_IsArray(list)) {
        return qn_records_fail(x->r, list ? list : x->record,
                               "\"%s\": found %s, expected an array of messages", key, kind(list));
    }
    if (!list->child) return qn_records_fail(x->r, list, "\"%s\": found no messages", key);
    QN_TRY(maybe_string(x, x->record, named(k->system, "system"), &system));
    QN_TRY(begin(x, cJSON_GetArraySize(list) + 1));
    if (system && *system) QN_TRY(say(x, "system", system, QN_TRAIN_BY_ROLE, NULL));
    QN_TRY(read_list(x, list, sharegpt ? "from" : "role", sharegpt ? "value" : "content"));
    QN_TRY(read_tools(x, named(k->tools, "tools")));
    if (!answered(x->out)) {
        return qn_records_fail(x->r, list, "\"%s\": found no answer of the assistant to learn",
                               key);
    }
    return QN_OK;
}

/* ---- prompt and completion, texts ------------------------------------------------------------ */

static qn_status read_prompt(reading *x) {
    const char *pk = named(x->keys->prompt, "prompt"),
               *ck = named(x->keys->completion, "completion");
    const cJSON *p = member(x->record, pk), *c = member(x->record, ck);
    if (p && c && cJSON_IsArray(p) && cJSON_IsArray(c)) {
        QN_TRY(begin(x, cJSON_GetArraySize(p) + cJSON_GetArraySize(c)));
        QN_TRY(read_list(x, p, "role", "content"));
        int first = x->out->n_messages;
        for (int i = 0; i < first; i++) x->out->train[i] = QN_TRAIN_NO;
        QN_TRY(read_list(x, c, "role", "content"));
        QN_TRY(read_tools(x, named(x->keys->tools, "tools")));
        if (x->out->n_messages == first)
            return qn_records_fail(x->r, c, "\"%s\": found no messages", ck);
        return QN_OK;
    }
    const char *prompt, *completion;
    QN_TRY(need_string(x, x->record, pk, &prompt));
    QN_TRY(need_string(x, x->record, ck, &completion));
    if (!*completion) return qn_records_fail(x->r, c, "\"%s\": found \"\", nothing to learn", ck);
    QN_TRY(copy(x, prompt, &x->out->prompt));
    return copy(x, completion, &x->out->text);
}

static qn_status read_text(reading *x) {
    const char *key = named(x->keys->text, "text"), *text = NULL;
    QN_TRY(need_string(x, x->record, key, &text));
    if (!*text)
        return qn_records_fail(x->r, qn_json_get(x->record, key), "\"%s\": found \"\"", key);
    return copy(x, text, &x->out->text);
}

/* An array of words as one text. */
static qn_status read_words(reading *x, const cJSON *list, const char *key) {
    qn_text t = {0};
    for (const cJSON *w = list->child; w; w = w->next) {
        const char *word = cJSON_IsString(w) ? w->valuestring : "";
        if (!*word || word[strcspn(word, " \t\r\n")]) {
            qn_text_free(&t);
            return qn_records_fail(x->r, w, "\"%s\": expected words without white space", key);
        }
        qn_text_add(&t, x->out->words++ ? " " : "");
        qn_text_add(&t, word);
    }
    if (x->out->words == 0) return qn_records_fail(x->r, list, "\"%s\": found no words", key);
    qn_status s = t.status == QN_OK ? copy(x, t.data, &x->out->text) : t.status;
    qn_text_free(&t);
    return s;
}

/* Adds a label as it is written; false for what can be none. */
static bool add_label(qn_text *t, const cJSON *label) {
    int64_t number;
    if (!label) return false;
    if (cJSON_IsString(label)) {
        qn_text_add(t, label->valuestring);
        return *label->valuestring;
    }
    if (cJSON_IsBool(label)) {
        qn_text_add(t, cJSON_IsTrue(label) ? "1" : "0");
    } else if (cJSON_IsNumber(label) && qn_json_int64(label, &number)) {
        qn_text_printf(t, "%lld", (long long)number);
    } else if (cJSON_IsNumber(label)) { /* to predict */
        qn_text_json_number(t, label->valuedouble);
    }
    return cJSON_IsBool(label) || cJSON_IsNumber(label);
}

static qn_status read_labelled(reading *x) {
    const char *key = named(x->keys->label, "label"), *pair;
    const cJSON *label = member(x->record, key), *bad = NULL;
    const char *text = named(x->keys->text, "text");
    const cJSON *words = member(x->record, text);
    QN_TRY(cJSON_IsArray(words) ? read_words(x, words, text) : read_text(x));
    int64_t count = cJSON_IsArray(label) ? cJSON_GetArraySize(label) : 1;
    if (x->out->words > 0 && count != x->out->words) {
        return qn_records_fail(x->r, label ? label : x->record,
                               "\"%s\": found %lld, expected one for each of %lld words", key,
                               (long long)count, (long long)x->out->words);
    }
    QN_TRY(maybe_string(x, x->record, named(x->keys->text_pair, "text_pair"), &pair));
    QN_TRY(copy(x, pair, &x->out->text_pair));
    qn_text t = {0};
    qn_text_add(&t, "");
    if (cJSON_IsArray(label)) {
        for (const cJSON *l = label->child; l && !bad; l = l->next) {
            if (l != label->child) qn_text_add(&t, "\n");
            if (!add_label(&t, l)) bad = l;
        }
    } else if (!add_label(&t, label)) {
        bad = label ? label : x->record;
    }
    qn_status s = t.status;
    if (s == QN_OK && bad) {
        s = qn_records_fail(x->r, bad, "\"%s\": found %s, expected a string or a number", key,
                            bad == x->record      ? kind(label)
                            : cJSON_IsString(bad) ? "\"\""
                                                  : kind(bad));
    }
    if (s == QN_OK) s = copy(x, t.data, &x->out->label);
    qn_text_free(&t);
    return s;
}

/* ---- the entry points ------------------------------------------------------------------------ */

qn_status qn_example_detect(const qn_records *r, const cJSON *record, const qn_example_keys *k,
                            qn_example_format *out) {
    const struct {
        qn_example_format format;
        const char *a, *b;
    } layouts[] = {
        {QN_EXAMPLES_SHAREGPT, named(k->messages, "conversations"), NULL},
        {QN_EXAMPLES_MESSAGES, named(k->messages, "messages"), NULL},
        {QN_EXAMPLES_ALPACA, "instruction", named(k->completion, "output")},
        {QN_EXAMPLES_PROMPT_COMPLETION, named(k->prompt, "prompt"),
         named(k->completion, "completion")},
        {QN_EXAMPLES_LABELLED, named(k->text, "text"), named(k->label, "label")},
        {QN_EXAMPLES_TEXT, named(k->text, "text"), NULL},
    };
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        const cJSON *a = qn_json_get(record, layouts[i].a);
        if (!a || (layouts[i].b && !qn_json_get(record, layouts[i].b))) continue;
        *out = layouts[i].format;
        /* One key for both kinds of conversation: the messages tell. */
        if (*out == QN_EXAMPLES_SHAREGPT && cJSON_IsArray(a) && a->child &&
            qn_json_get(a->child, "role"))
            *out = QN_EXAMPLES_MESSAGES;
        return QN_OK;
    }
    qn_text found = {0};
    qn_text_add(&found, "");
    for (const cJSON *c = record->child; c && found.length < 200; c = c->next)
        qn_text_printf(&found, "%s\"%.40s\"", c == record->child ? "" : ", ", c->string);
    QN_TRY(found.status);
    qn_status s = qn_records_fail(
        r, NULL,
        "found a record with the keys %s, expected messages; conversations; instruction and "
        "output; "
        "prompt and completion; text and label; or text (other names: data.columns)",
        found.length ? found.data : "(none)");
    qn_text_free(&found);
    return s;
}

qn_status qn_example_read(const qn_records *r, const cJSON *record, qn_example_format f,
                          const qn_example_keys *keys, qn_setup *arena, qn_example *out) {
    reading x = {.r = r, .record = record, .keys = keys, .arena = arena, .out = out};
    *out = (qn_example){0};
    switch (f) {
    case QN_EXAMPLES_ALPACA: return read_alpaca(&x);
    case QN_EXAMPLES_SHAREGPT: return read_conversation(&x, true);
    case QN_EXAMPLES_MESSAGES: return read_conversation(&x, false);
    case QN_EXAMPLES_PROMPT_COMPLETION: return read_prompt(&x);
    case QN_EXAMPLES_TEXT: return read_text(&x);
    case QN_EXAMPLES_LABELLED: return read_labelled(&x);
    default: return qn_fail(QN_ERR_USAGE, "examples: no layout was chosen");
    }
}
