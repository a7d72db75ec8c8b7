/* jinja_value.c — making the values of a rendering, and walking them. All of their memory lies in
 * the rendering's arena and is counted there. */
#include "io/jinja_parts.h"

#include "io/vocab.h"

qn_status qni_jinja_charge(qni_jrun *r, size_t steps) {
    if (steps > (size_t)r->steps) {
        r->steps = 0;
        return qni_jinja_fail(r, "the template takes too many steps");
    }
    r->steps -= (int64_t)steps;
    return QN_OK;
}

qn_status qni_jinja_alloc(qni_jrun *r, size_t bytes, void *out) {
    void *p = NULL;
    memcpy(out, &p, sizeof p);
    if (bytes > r->memory) return qni_jinja_fail(r, "the template takes too much memory");
    r->memory -= bytes;
    QN_TRY(qni_jinja_charge(r, 1 + bytes / 64));
    if (!(p = qn_setup_alloc(r->arena, bytes))) return QN_ERR_OOM;
    memcpy(out, &p, sizeof p);
    return QN_OK;
}

qn_status qni_jinja_borrow(qni_jrun *r, const char *text, size_t bytes, qni_jval *out) {
    qni_jstring *s;
    QN_TRY(qni_jinja_alloc(r, sizeof *s, &s));
    *s = (qni_jstring){text, bytes};
    *out = (qni_jval){.kind = QNI_J_STRING, .as.s = s};
    return QN_OK;
}

qn_status qni_jinja_string(qni_jrun *r, const char *text, size_t bytes, qni_jval *out) {
    char *copy;
    QN_TRY(qni_jinja_alloc(r, bytes + 1, &copy));
    if (bytes) memcpy(copy, text, bytes);
    return qni_jinja_borrow(r, copy, bytes, out);
}

qn_status qni_jinja_take(qni_jrun *r, qn_text *text, qni_jval *out) {
    qn_status status = text->status;
    if (status == QN_OK) status = qni_jinja_string(r, text->data, text->length, out);
    qn_text_free(text);
    return status;
}

/* Room for one more in an array of `count` values. */
static qn_status grow(qni_jrun *r, qni_jval **items, int64_t count, int64_t capacity) {
    qni_jval *more;
    QN_TRY(qni_jinja_alloc(r, (size_t)capacity * sizeof *more, &more));
    if (count) memcpy(more, *items, (size_t)count * sizeof *more);
    *items = more;
    return QN_OK;
}

qn_status qni_jinja_list(qni_jrun *r, qni_jkind kind, int64_t capacity, qni_jval *out) {
    qni_jlist *list;
    QN_TRY(qni_jinja_alloc(r, sizeof *list, &list));
    if (capacity) QN_TRY(grow(r, &list->items, 0, capacity));
    list->capacity = capacity;
    *out = (qni_jval){.kind = (uint8_t)kind, .as.list = list};
    return QN_OK;
}

qn_status qni_jinja_append(qni_jrun *r, qni_jlist *list, const qni_jval *item) {
    if (list->count == list->capacity) {
        int64_t capacity = list->capacity ? 2 * list->capacity : 4;
        QN_TRY(grow(r, &list->items, list->count, capacity));
        list->capacity = capacity;
    }
    list->items[list->count++] = *item;
    return QN_OK;
}

qn_status qni_jinja_dict(qni_jrun *r, qni_jkind kind, qni_jval *out) {
    qni_jdict *dict;
    QN_TRY(qni_jinja_alloc(r, sizeof *dict, &dict));
    *out = (qni_jval){.kind = (uint8_t)kind, .as.dict = dict};
    return QN_OK;
}

static qn_status add_member(qni_jrun *r, qni_jdict *dict, const qni_jval *key,
                            const qni_jval *value) {
    if (dict->count == dict->capacity) {
        int64_t capacity = dict->capacity ? 2 * dict->capacity : 4;
        QN_TRY(grow(r, &dict->keys, dict->count, capacity));
        QN_TRY(grow(r, &dict->values, dict->count, capacity));
        dict->capacity = capacity;
    }
    dict->keys[dict->count] = *key;
    dict->values[dict->count++] = *value;
    return QN_OK;
}

bool qni_jinja_same_number(const qni_jval *a, const qni_jval *b) {
    if (a->kind == QNI_J_INT && b->kind == QNI_J_INT) return a->as.i == b->as.i;
    return qni_jdouble(a) == qni_jdouble(b);
}

const qni_jval *qni_jinja_get_text(const qni_jdict *dict, const char *text, size_t bytes) {
    for (int64_t i = 0; i < dict->count; i++) {
        const qni_jval *key = &dict->keys[i];
        if (key->kind == QNI_J_STRING && qni_jsame_text(key->as.s, text, bytes)) {
            return &dict->values[i];
        }
    }
    return NULL;
}

const qni_jval *qni_jinja_get(const qni_jdict *dict, const qni_jval *key) {
    if (key->kind == QNI_J_STRING) {
        return qni_jinja_get_text(dict, key->as.s->text, key->as.s->bytes);
    }
    for (int64_t i = 0; i < dict->count; i++) {
        const qni_jval *k = &dict->keys[i];
        bool numbers = qni_jnumeric(k) && qni_jnumeric(key);
        if (numbers ? qni_jinja_same_number(k, key)
                    : k->kind == QNI_J_NONE && key->kind == QNI_J_NONE) {
            return &dict->values[i];
        }
    }
    return NULL;
}

qn_status qni_jinja_put(qni_jrun *r, qni_jdict *dict, const qni_jval *key, const qni_jval *value) {
    if (key->kind > QNI_J_STRING || key->kind == QNI_J_UNDEFINED) {
        return qni_jinja_fail(r, "a key of a dict is %s, expected a string or a number",
                              qni_jinja_kind_name(key));
    }
    QN_TRY(qni_jinja_charge(r, 1 + (size_t)dict->count / 16));
    const qni_jval *old = qni_jinja_get(dict, key);
    if (!old) return add_member(r, dict, key, value);
    dict->values[old - dict->values] = *value;
    return QN_OK;
}

/* ---- from JSON ------------------------------------------------------------------------------- */

static qn_status from_number(qni_jrun *r, const cJSON *item, qni_jval *out) {
    const qni_jstring text = {qn_json_node_of(item)->source->text + qn_json_node_of(item)->offset,
                              qn_json_node_of(item)->length};
    bool written_as_integer = !memchr(text.text, '.', text.bytes) &&
                              !memchr(text.text, 'e', text.bytes) &&
                              !memchr(text.text, 'E', text.bytes);
    int64_t i;
    if (!written_as_integer) {
        *out = qni_jfloat(item->valuedouble);
    } else if (qn_json_int64(item, &i)) {
        *out = qni_jint(i);
    } else {
        return qni_jinja_fail(r, "an integer beyond 64 bits among the variables");
    }
    return QN_OK;
}

static qn_status from_json(qni_jrun *r, const cJSON *item, int depth, qni_jval *out) {
    if (depth > QNI_J_MAX_NESTING) return qni_jinja_fail(r, "the variables are nested too deep");
    QN_TRY(qni_jinja_charge(r, 1));
    qni_jval key, value;
    switch (item->type & 0xFF) {
    case cJSON_NULL: *out = qni_jnone(); return QN_OK;
    case cJSON_True: *out = qni_jbool(true); return QN_OK;
    case cJSON_False: *out = qni_jbool(false); return QN_OK;
    case cJSON_Number: return from_number(r, item, out);
    case cJSON_String:
        return qni_jinja_borrow(r, item->valuestring, strlen(item->valuestring), out);
    case cJSON_Array:
        QN_TRY(qni_jinja_list(r, QNI_J_LIST, cJSON_GetArraySize(item), out));
        for (const cJSON *i = item->child; i; i = i->next) {
            QN_TRY(from_json(r, i, depth + 1, &value));
            QN_TRY(qni_jinja_append(r, out->as.list, &value));
        }
        return QN_OK;
    case cJSON_Object:
        QN_TRY(qni_jinja_dict(r, QNI_J_DICT, out));
        for (const cJSON *i = item->child; i; i = i->next) {
            QN_TRY(qni_jinja_borrow(r, i->string, strlen(i->string), &key));
            QN_TRY(from_json(r, i, depth + 1, &value));
            QN_TRY(add_member(r, out->as.dict, &key, &value));
        }
        return QN_OK;
    default: return qni_jinja_fail(r, "a raw value among the variables");
    }
}

qn_status qni_jinja_from_json(qni_jrun *r, const cJSON *item, qni_jval *out) {
    return from_json(r, item, 0, out);
}

/* ---- walking --------------------------------------------------------------------------------- */

static qn_status characters(qni_jrun *r, const qni_jstring *s, qni_jval *out) {
    QN_TRY(qni_jinja_list(r, QNI_J_LIST, 0, out));
    for (size_t at = 0; at < s->bytes;) {
        uint32_t c;
        qni_jval item;
        int n = qn_utf8_next((const unsigned char *)s->text + at, (int64_t)(s->bytes - at), &c);
        if (n == 0) n = 1;
        QN_TRY(qni_jinja_borrow(r, s->text + at, (size_t)n, &item));
        QN_TRY(qni_jinja_append(r, out->as.list, &item));
        at += (size_t)n;
    }
    return QN_OK;
}

qn_status qni_jinja_walk(qni_jrun *r, const qni_jval *v, const qni_jlist **out) {
    static const qni_jlist nothing = {0};
    qni_jval list;
    switch (v->kind) {
    case QNI_J_UNDEFINED: *out = &nothing; return QN_OK;
    case QNI_J_STRING: QN_TRY(characters(r, v->as.s, &list)); break;
    case QNI_J_LIST:
    case QNI_J_TUPLE:
    case QNI_J_VIEW: *out = v->as.list; return QN_OK;
    case QNI_J_ITERATOR:
        QN_TRY(qni_jinja_list(r, QNI_J_LIST, 0, &list));
        *list.as.list = *v->as.list;
        *v->as.list = nothing;
        break;
    case QNI_J_DICT:
        QN_TRY(qni_jinja_list(r, QNI_J_LIST, 0, &list));
        list.as.list->items = v->as.dict->keys;
        list.as.list->count = list.as.list->capacity = v->as.dict->count;
        break;
    default:
        return qni_jinja_fail(r, "%s cannot be walked, expected a list, a dict or a string",
                              qni_jinja_kind_name(v));
    }
    *out = list.as.list;
    return QN_OK;
}

bool qni_jinja_truth(const qni_jval *v) {
    switch (v->kind) {
    case QNI_J_UNDEFINED:
    case QNI_J_NONE: return false;
    case QNI_J_BOOL: return v->as.b;
    case QNI_J_INT: return v->as.i != 0;
    case QNI_J_FLOAT: return v->as.d != 0;
    case QNI_J_STRING: return v->as.s->bytes != 0;
    case QNI_J_LIST:
    case QNI_J_TUPLE:
    case QNI_J_VIEW: return v->as.list->count != 0;
    case QNI_J_DICT: return v->as.dict->count != 0;
    default: return true;
    }
}

const char *qni_jinja_kind_name(const qni_jval *v) {
    static const char *const names[] = {
        [QNI_J_UNDEFINED] = "an undefined value",
        [QNI_J_NONE] = "none",
        [QNI_J_BOOL] = "a truth value",
        [QNI_J_INT] = "an integer",
        [QNI_J_FLOAT] = "a number",
        [QNI_J_STRING] = "a string",
        [QNI_J_LIST] = "a list",
        [QNI_J_TUPLE] = "a tuple",
        [QNI_J_VIEW] = "a range or view",
        [QNI_J_ITERATOR] = "an iterator (`|list` makes a list of it)",
        [QNI_J_DICT] = "a dict",
        [QNI_J_NAMESPACE] = "a namespace",
        [QNI_J_LOOP] = "a loop",
        [QNI_J_FUNCTION] = "a function",
        [QNI_J_METHOD] = "a method",
        [QNI_J_MACRO] = "a macro",
    };
    return names[v->kind];
}

qn_status qni_jinja_undefined_error(const qni_jrun *r, const qni_jval *v) {
    const qni_jstring *s = v->as.s;
    int shown = !s ? 0 : s->bytes > 60 ? 60 : (int)s->bytes;
    if (!s) return qni_jinja_fail(r, "an undefined value is used");
    if (v->of == 0) return qni_jinja_fail(r, "'%.*s' is undefined", shown, s->text);
    qni_jval owner = {.kind = (uint8_t)(v->of - 1)};
    return qni_jinja_fail(r, "%s has no '%.*s'", qni_jinja_kind_name(&owner), shown, s->text);
}
