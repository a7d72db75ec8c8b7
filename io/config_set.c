/* config_set.c — one --set assignment: a dotted key, "=", and a value. */
#include "io/config_table.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct assignment {
    qn_config *c;
    const qn_json_source *source; /* the whole assignment */
    const char *base_dir;
    char key[256];
    size_t key_length;
    cJSON *value;
} assignment;

static void refuse_key(const assignment *a, const char *hint, const char *message) {
    qni_report_at(a->c, a->source, 0, a->key_length, a->key, hint, "%s", message);
}

/* ---- the value ------------------------------------------------------------------------------- */

/* Lets a parsed value stand in the whole assignment instead of in its right-hand side. */
static void rebase(cJSON *item, const qn_json_source *source, size_t shift) {
    qn_json_node *n = (qn_json_node *)item;
    n->source = source;
    n->offset += (uint32_t)shift;
    n->key_offset += (uint32_t)shift;
    for (cJSON *child = item->child; child; child = child->next) rebase(child, source, shift);
}

static cJSON *bare_word(const assignment *a, const char *text) {
    qn_json_node *n = qn_setup_alloc(a->c->arena, sizeof *n);
    if (!n) return NULL;
    n->item.type = cJSON_String;
    n->item.valuestring = qn_setup_strdup(a->c->arena, text);
    n->source = a->source;
    n->offset = n->key_offset = (uint32_t)(a->source->length - strlen(text));
    n->length = (uint32_t)strlen(text);
    return n->item.valuestring ? &n->item : NULL;
}

/* Where the key takes strings, everything but null, "..." and [...] is one as it stands. Elsewhere
 * text that is no JSON becomes a string too, and is refused with what the key expects. */
static qn_status parse_value(assignment *a, const char *text, bool textual) {
    qn_json_error error;
    qn_json_options options = {.name = "--set", .mark_duplicates = true, .error = &error};
    size_t shift = a->source->length - strlen(text);
    qn_status status = qn_json_parse(a->c->arena, text, strlen(text), &options, &a->value);
    bool structured = *text && strchr("\"[{", *text);
    if (status == QN_OK && (!textual || structured || cJSON_IsNull(a->value))) {
        rebase(a->value, a->source, shift);
        return QN_OK;
    }
    if (status == QN_ERR_OOM) return status;
    a->value = NULL;
    if (status == QN_ERR_FORMAT && structured) {
        qni_report_at(a->c, a->source, shift + error.offset, 1, a->key, NULL, "%s", error.text);
        return QN_OK;
    }
    a->value = bare_word(a, text);
    return a->value ? QN_OK : QN_ERR_OOM;
}

/* ---- elements of arrays ---------------------------------------------------------------------- */

static cJSON *new_node(const assignment *a, int type) {
    qn_json_node *n = qn_setup_alloc(a->c->arena, sizeof *n);
    if (!n) return NULL;
    n->item.type = type;
    n->source = a->source;
    n->length = 1;
    return &n->item;
}

/* Puts `item` (NULL = nothing) in the place of the child `old` (NULL = after the last one). */
static void replace(cJSON *parent, const cJSON *old, cJSON *item) {
    cJSON **link = &parent->child, *last = NULL;
    while (*link && *link != old) {
        last = *link;
        link = &last->next;
    }
    cJSON *rest = *link ? (*link)->next : NULL;
    if (item) {
        item->next = rest;
        item->prev = last;
        *link = item;
    } else {
        *link = rest;
    }
    last = NULL; /* cJSON keeps the last child in the first one's prev */
    for (cJSON *child = parent->child; child; child = child->next) {
        child->prev = last;
        last = child;
    }
    if (parent->child) parent->child->prev = last;
}

static qn_status set_element(assignment *a, int row, cJSON *list, cJSON *old) {
    const qni_key *k = &qni_keys[row];
    bool good = true;
    if (cJSON_IsNull(a->value)) {
        replace(list, old, NULL);
        return QN_OK;
    }
    QN_TRY(qni_check_element(a->c, row, a->key, a->value, a->base_dir, &good));
    if (!good) {
        a->c->bad[row] = true;
    } else if (!old && k->items && cJSON_GetArraySize(list) >= k->items) {
        char message[64];
        snprintf(message, sizeof message, "expected %d elements, found one more", k->items);
        refuse_key(a, NULL, message);
    } else {
        replace(list, old, a->value);
    }
    return QN_OK;
}

static qn_status set_member(assignment *a, int row, int member, cJSON *list, cJSON *object) {
    const char *leaf = qni_key_leaf(&qni_keys[member]);
    if (!object) {
        object = new_node(a, cJSON_Object);
        if (!object) return QN_ERR_OOM;
        replace(list, NULL, object);
    }
    cJSON *old = cJSON_GetObjectItemCaseSensitive(object, leaf), *checked = NULL;
    if (!cJSON_IsNull(a->value)) {
        QN_TRY(qni_check_value(a->c, member, a->key, a->value, a->base_dir, &checked));
        if (!checked) {
            a->c->bad[row] = true;
            return QN_OK;
        }
        checked->string = qn_setup_strdup(a->c->arena, leaf);
        if (!checked->string) return QN_ERR_OOM;
    }
    if (old || checked) replace(object, old, checked);
    return QN_OK;
}

/* "list.2" or "groups.2.lr": `row` is the array, `index` its index as text, `member` the row after
 * it or -1. */
static qn_status assign_element(assignment *a, int row, const char *index, int member) {
    qn_config *c = a->c;
    if (c->bad[row]) return QN_OK;
    if (!c->slot[row]) {
        cJSON *list = new_node(a, cJSON_Array);
        if (!list) return QN_ERR_OOM;
        c->slot[row] = list;
        c->stated[row] = true;
    }
    int count = cJSON_GetArraySize(c->slot[row]);
    long at = strspn(index, "0123456789") < 9 ? strtol(index, NULL, 10) : LONG_MAX;
    if (at > count) {
        char message[96];
        snprintf(message, sizeof message, "index past the end, expected at most %d", count);
        refuse_key(a, NULL, message);
        return QN_OK;
    }
    cJSON *old = cJSON_GetArrayItem(c->slot[row], (int)at);
    return member < 0 ? set_element(a, row, c->slot[row], old)
                      : set_member(a, row, member, c->slot[row], old);
}

/* ---- the key --------------------------------------------------------------------------------- */

/* If the key has an index, cuts it there and gives the array's row and the index. */
static int array_row(const assignment *a, char *prefix, size_t size, const char **index) {
    snprintf(prefix, size, "%s", a->key);
    for (char *dot = strchr(prefix, '.'); dot; dot = strchr(dot + 1, '.')) {
        size_t length = strcspn(dot + 1, ".");
        if (length == 0 || strspn(dot + 1, "0123456789") != length) continue;
        *dot = '\0';
        *index = a->key + (dot - prefix) + 1;
        int row = qni_key_find(prefix);
        bool list = row >= 0 && (qni_keys[row].flags & (QNI_LIST | QNI_ONE_OR_LIST) ||
                                 qni_keys[row].type == QNI_GROUPS);
        return list ? row : -1;
    }
    return -1;
}

static qn_status assign(assignment *a, const char *text) {
    qn_config *c = a->c;
    char prefix[sizeof a->key], hint[sizeof a->key + 32] = "";
    const char *index = NULL;
    int row = qni_key_find(a->key), array = array_row(a, prefix, sizeof prefix, &index);
    bool element = array >= 0 && !strchr(index, '.'); /* the array's own element, not a member */
    if ((row < 0 && !element) || (row >= 0 && strstr(qni_keys[row].name, "[]") && array < 0)) {
        qni_key_suggest(a->key, hint, sizeof hint);
        refuse_key(a, hint, "unknown key");
        return QN_OK;
    }
    if (row >= 0 && qni_keys[row].flags & QNI_DIRECTIVE) {
        refuse_key(a, NULL, "belongs into a file and cannot be set");
        return QN_OK;
    }
    QN_TRY(parse_value(a, text, qni_key_is_textual(&qni_keys[row >= 0 ? row : array])));
    if (!a->value) return QN_OK;
    if (array >= 0) return assign_element(a, array, index, element ? -1 : row);
    if (qni_keys[row].type != QNI_SECTION) {
        return qni_check_key(c, row, a->key, a->value, a->base_dir);
    }
    if (cJSON_IsNull(a->value)) {
        qni_clear_section(c, row);
    } else if (cJSON_IsObject(a->value)) {
        return qni_check_section(c, a->key, a->value, a->base_dir);
    } else {
        snprintf(hint, sizeof hint, "--set %s.KEY=VALUE", a->key);
        qni_report(c, a->value, false, a->key, hint, "expected object, or one of its keys");
    }
    return QN_OK;
}

qn_status qni_config_assign(qn_config *c, const char *text, const char *base_dir) {
    const char *equals = strchr(text, '=');
    qn_json_source *source = qn_setup_alloc(c->arena, sizeof *source);
    assignment a = {.c = c, .source = source, .base_dir = base_dir};
    if (!source) return QN_ERR_OOM;
    source->name = "--set";
    source->text = qn_setup_strdup(c->arena, text);
    if (!source->text) return QN_ERR_OOM;
    source->length = strlen(text);
    if (source->length > QN_JSON_MAX_BYTES) {
        source->length = 0; /* too much to show */
        refuse_key(&a, NULL, "an assignment of more than 1 MiB");
        return QN_OK;
    }
    a.key_length = equals ? (size_t)(equals - text) : source->length;
    snprintf(a.key, sizeof a.key, "%.*s", (int)a.key_length, text);
    if (!equals || a.key_length == 0 || a.key_length >= sizeof a.key) {
        qni_report_at(c, source, 0, a.key_length, NULL, "for example --set train.max_steps=1000",
                      "expected KEY=VALUE");
        return QN_OK;
    }
    return assign(&a, equals + 1);
}
