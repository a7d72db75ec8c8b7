/* config_check.c — one file's values against the table of keys: names, types, ranges, variables,
 * paths. */
#include "io/chat_template.h"
#include "io/config_table.h"
#include "io/file.h"
#include "io/hf_dir.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 256 };

/* ---- strings --------------------------------------------------------------------------------- */

/* Tells of a wrong ${...} at `s` inside the string `value`. */
static void refuse_variable(qn_config *c, const char *key, const cJSON *value, const char *name,
                            size_t name_length, const char *advice, size_t advice_length) {
    char hint[256];
    if (name_length == 0) {
        qni_report(c, value, false, key, "$${ stands for a plain ${",
                   "found `${`, expected ${env:NAME} or ${env:NAME:?text}");
        return;
    }
    if (advice) {
        snprintf(hint, sizeof hint, "%.*s", (int)advice_length, advice);
    } else {
        snprintf(hint, sizeof hint, "export %.*s=..., or give the value by --set %s=...",
                 (int)name_length, name, key);
    }
    qni_report(c, value, false, key, hint, "environment variable %.*s is not set", (int)name_length,
               name);
}

static bool is_variable_name(const char *s, size_t length) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    return length > 0 && length < 128 && strspn(s, allowed) >= length;
}

/* Replaces ${env:NAME}. *refused says that the error has been reported. */
static qn_status expand(qn_config *c, const char *key, cJSON *value, bool *refused) {
    const char *s = value->valuestring;
    if (!strstr(s, "${")) return QN_OK;
    qn_text t = {0};
    while (*s) {
        const char *dollar = strstr(s, "${");
        if (!dollar) dollar = s + strlen(s);
        bool escaped = *dollar && dollar > s && dollar[-1] == '$';
        qn_text_add_bytes(&t, s, (size_t)(dollar - s) - escaped);
        if (!*dollar) break;
        s = dollar + 2;
        if (escaped) {
            qn_text_add(&t, "${");
            continue;
        }
        const char *end = strchr(s, '}');
        bool env = end && strncmp(s, "env:", 4) == 0;
        const char *name = env ? s + 4 : s;
        const char *advice = env ? strstr(name, ":?") : NULL;
        if (advice && advice > end) advice = NULL;
        size_t length = env ? (size_t)((advice ? advice : end) - name) : 0;
        char variable[128] = "";
        if (env && is_variable_name(name, length)) memcpy(variable, name, length);
        const char *found = *variable ? getenv(variable) : NULL;
        if (!found) {
            refuse_variable(c, key, value, variable, strlen(variable), advice ? advice + 2 : NULL,
                            advice ? (size_t)(end - advice) - 2 : 0);
            *refused = true;
            qn_text_free(&t);
            return QN_OK;
        }
        qn_text_add(&t, found);
        s = end + 1;
    }
    char *text;
    QN_TRY(qn_text_take(&t, &text));
    value->valuestring = qn_setup_strdup(c->arena, text);
    qn_free(text);
    return value->valuestring ? QN_OK : QN_ERR_OOM;
}

/* base_dir is absolute and without symbolic links, so leading "." and ".." can be taken away. */
static qn_status absolute_path(qn_config *c, cJSON *value, const char *base_dir) {
    const char *s = value->valuestring;
    if (*s == '/') return QN_OK;
    size_t base = strlen(base_dir);
    while (base > 0 && base_dir[base - 1] == '/') base--;
    for (;;) {
        if (s[0] == '.' && (s[1] == '/' || !s[1])) {
            s += s[1] ? 2 : 1;
        } else if (s[0] == '.' && s[1] == '.' && (s[2] == '/' || !s[2])) {
            s += s[2] ? 3 : 2;
            while (base > 0 && base_dir[base - 1] != '/') base--;
            if (base > 0) base--;
        } else if (*s == '/') {
            s++;
        } else {
            break;
        }
    }
    char *path = qn_setup_alloc(c->arena, base + strlen(s) + 2);
    if (!path) return QN_ERR_OOM;
    memcpy(path, base_dir, base);
    if (*s || base == 0) path[base++] = '/';
    memcpy(path + base, s, strlen(s) + 1);
    value->valuestring = path;
    return QN_OK;
}

static bool is_file_name(const char *s) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return s[0] && !strchr("._-", s[0]) && strspn(s, allowed) == strlen(s) && strlen(s) <= 128;
}

/* "2GiB", "500 MB", "123". */
bool qn_config_parse_bytes(const char *s, int64_t *out) {
    static const struct {
        const char *unit;
        double bytes;
    } units[] = {{"", 1},
                 {"B", 1},
                 {"kB", 1e3},
                 {"KB", 1e3},
                 {"MB", 1e6},
                 {"GB", 1e9},
                 {"TB", 1e12},
                 {"KiB", 1024},
                 {"MiB", 1048576},
                 {"GiB", 1073741824},
                 {"TiB", 1099511627776.0}};
    double number = 0, place = 1;
    const char *start = s;
    for (; *s >= '0' && *s <= '9'; s++) number = number * 10 + (*s - '0');
    if (s == start) return false;
    if (*s == '.') {
        for (s++; *s >= '0' && *s <= '9'; s++) number += (place /= 10) * (*s - '0');
    }
    s += *s == ' ';
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(s, units[i].unit) != 0 || number * units[i].bytes > 1e18) continue;
        *out = (int64_t)llround(number * units[i].bytes);
        return true;
    }
    return false;
}

/* ---- one value ------------------------------------------------------------------------------- */

/* What stands in the file, cut to 40 bytes; strings are called so where none is expected. */
static void found_text(const cJSON *value, bool textual, char *text, size_t size) {
    const qn_json_node *n = qn_json_node_of(value);
    bool brackets = cJSON_IsObject(value) || cJSON_IsArray(value);
    int length = n->length > 40 ? 40 : (int)n->length;
    const char *s = n->source->text + n->offset;
    while (length > 0 && n->length > 40 && ((unsigned char)s[length] & 0xC0) == 0x80) length--;
    if (brackets) {
        snprintf(text, size, "%s", cJSON_IsObject(value) ? "an object" : "an array");
    } else {
        snprintf(text, size, "%.*s%s%s", length, s, n->length > 40 ? "..." : "",
                 !textual && *s == '"' ? " (string)" : "");
    }
}

static void refuse(qn_config *c, int row, const char *key, const cJSON *value, bool scalar) {
    char expected[400], found[80], hint[80] = "", near[64] = "";
    qni_key k = qni_keys[row];
    if (scalar) k.flags &= ~(unsigned)(QNI_LIST | QNI_ONE_OR_LIST); /* an element is meant */
    qni_key_describe(&k, expected, sizeof expected);
    found_text(value, qni_key_is_textual(&k), found, sizeof found);
    if (k.type == QNI_ENUM && cJSON_IsString(value)) {
        qni_choice_suggest(k.choices, value->valuestring, near, sizeof near);
        if (*near) snprintf(hint, sizeof hint, "did you mean \"%s\"?", near);
    } else if (cJSON_IsString(value) && (k.type == QNI_INT || k.type == QNI_NUMBER)) {
        snprintf(hint, sizeof hint, "numbers are written without quotes");
    }
    qni_report(c, value, false, key, hint, "expected %s, found %s", expected, found);
}

static bool in_range(const qni_key *k, double v) {
    qni_interval r = qni_range_parse(k->range);
    return (r.low_open ? v > r.low : v >= r.low) && (r.high_open ? v < r.high : v <= r.high);
}

static bool is_choice(const char *choices, const char *s) {
    size_t length = strlen(s);
    for (const char *p = choices;; p++) {
        size_t n = strcspn(p, "|");
        if (n == length && strncmp(p, s, n) == 0) return true;
        p += n;
        if (!*p) return false;
    }
}

/* The node stays where it is in its file but becomes an exact integer. */
static void make_integer(cJSON *value, int64_t v) {
    qn_json_node *n = (qn_json_node *)value;
    value->type = cJSON_Number;
    value->valuedouble = (double)v;
    value->valueint = v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int)v;
    n->integer = v;
    n->exact = QN_JSON_INT64;
}

/* A number, boolean or size; true if it is as the row wants it. */
static bool check_number(const qni_key *k, cJSON *value) {
    int64_t v;
    switch (k->type) {
    case QNI_BOOL: return cJSON_IsBool(value);
    case QNI_NUMBER: return cJSON_IsNumber(value) && in_range(k, value->valuedouble);
    case QNI_BYTES:
        if (cJSON_IsString(value)) {
            if (!qn_config_parse_bytes(value->valuestring, &v)) return false;
            make_integer(value, v);
        }
        break;
    case QNI_DEPTH:
        if (cJSON_IsBool(value))
            make_integer(value, cJSON_IsTrue(value) ? strtoll(k->fallback, NULL, 10) : 0);
        break;
    default: break;
    }
    if (!qn_json_int64(value, &v) || !in_range(k, value->valuedouble)) return false;
    make_integer(value, v);
    return true;
}

/* A directory as a path; else, if it has the form of a hub's name, its place in the cache. */
static qn_status find_model(qn_config *c, const char *key, cJSON *value, const char *base_dir,
                            bool *refused) {
    const char *name = value->valuestring;
    char place[QN_PATH_MAX];
    qn_status status = qn_path_format(place, sizeof place, "%s/%s", base_dir, name);
    if (status == QN_OK && (qn_path_exists(place) || !qn_hf_is_hub_name(name)))
        return absolute_path(c, value, base_dir);
    if (status == QN_OK) status = qn_hf_cached(name, place, sizeof place);
    if (status == QN_ERR_OOM) return status;
    if (status != QN_OK) {
        *refused = c->broken = true; /* keys are missing because of it */
        qni_report(c, value, false, key,
                   "a folder is written ./NAME; `hf download` fills the cache", "%s",
                   qn_error_message());
        return QN_OK;
    }
    value->valuestring = qn_setup_strdup(c->arena, place);
    return value->valuestring ? QN_OK : QN_ERR_OOM;
}

static qn_status check_scalar(qn_config *c, int row, const char *key, cJSON *value,
                              const char *base_dir, bool element, bool *good) {
    const qni_key *k = &qni_keys[row];
    bool refused = false;
    *good = false;
    if (cJSON_IsString(value)) QN_TRY(expand(c, key, value, &refused));
    if (refused) return QN_OK;
    const char *s = cJSON_IsString(value) ? value->valuestring : NULL;
    switch (k->type) {
    case QNI_STRING: *good = s != NULL; break;
    case QNI_NAME: *good = s && is_file_name(s); break;
    case QNI_ENUM: *good = s && is_choice(k->choices, s); break;
    case QNI_PATH:
        *good = s && *s;
        if (*good) QN_TRY(absolute_path(c, value, base_dir));
        break;
    case QNI_TEMPLATE:
        *good = s && *s;
        if (*good && !qn_chat_is_builtin(s)) QN_TRY(absolute_path(c, value, base_dir));
        break;
    case QNI_MODEL:
        *good = s && *s;
        if (*good) QN_TRY(find_model(c, key, value, base_dir, &refused));
        if (refused) {
            *good = false;
            return QN_OK;
        }
        break;
    default: *good = check_number(k, value);
    }
    if (!*good) {
        refuse(c, row, key, value, element);
    } else if (s && cJSON_IsString(value) &&
               !qn_utf8_valid(value->valuestring, strlen(value->valuestring))) {
        *good = false; /* from --set, the environment or the name of a directory */
        qni_report(c, value, false, key, NULL, "found bytes that are not UTF-8");
    }
    return QN_OK;
}

/* An array of one that holds the value, at the same place in the file. */
static cJSON *wrap(qn_config *c, cJSON *value) {
    qn_json_node *list = qn_setup_alloc(c->arena, sizeof *list);
    if (!list) return NULL;
    *list = *qn_json_node_of(value);
    list->item = (cJSON){.type = cJSON_Array, .child = value, .string = value->string};
    value->next = NULL;
    value->prev = value;
    return &list->item;
}

static qn_status check_list(qn_config *c, int row, const char *key, cJSON *value,
                            const char *base_dir, bool *good) {
    const qni_key *k = &qni_keys[row];
    int before = c->errors, index = 0;
    for (cJSON *e = value->child; e; e = e->next, index++) {
        char element[KEY_MAX];
        bool element_good;
        snprintf(element, sizeof element, "%s.%d", key, index);
        QN_TRY(qni_check_element(c, row, element, e, base_dir, &element_good));
    }
    if (k->items && index != k->items) {
        qni_report(c, value, false, key, NULL, "expected %d elements, found %d", k->items, index);
    }
    *good = c->errors == before;
    return QN_OK;
}

qn_status qni_check_value(qn_config *c, int row, const char *key, cJSON *value,
                          const char *base_dir, cJSON **out) {
    const qni_key *k = &qni_keys[row];
    bool good = false;
    *out = NULL;
    if (k->flags & QNI_ONE_OR_LIST && !cJSON_IsArray(value)) {
        QN_TRY(check_scalar(c, row, key, value, base_dir, false, &good));
        if (good && !(value = wrap(c, value))) return QN_ERR_OOM;
    } else if (k->flags & (QNI_LIST | QNI_ONE_OR_LIST) || k->type == QNI_GROUPS) {
        if (cJSON_IsArray(value)) {
            QN_TRY(check_list(c, row, key, value, base_dir, &good));
        } else {
            refuse(c, row, key, value, false);
        }
    } else {
        QN_TRY(check_scalar(c, row, key, value, base_dir, false, &good));
    }
    if (good) *out = value;
    return QN_OK;
}

/* ---- objects --------------------------------------------------------------------------------- */

static void join(char *out, size_t size, const char *prefix, const char *name) {
    snprintf(out, size, "%s%s%.*s", prefix, *prefix ? "." : "", 120, name);
}

static void refuse_unknown(qn_config *c, const char *key, const cJSON *member) {
    char hint[256] = "";
    const char *dot = strchr(member->string, '.');
    if (dot && qni_key_find(key) >= 0) {
        snprintf(hint, sizeof hint, "write {\"%.*s\": {\"%s\": ...}}", (int)(dot - member->string),
                 member->string, dot + 1);
    } else {
        qni_key_suggest(key, hint, sizeof hint);
    }
    qni_report(c, member, true, key, hint, "unknown key");
}

/* Row of a member of the object at `prefix`, whose dotted name goes to key; reports and returns -1
 * if there is none, or the member is a repetition. */
static int member_row(qn_config *c, const char *prefix, const cJSON *member, char *key,
                      size_t size) {
    join(key, size, prefix, member->string);
    if (qn_json_node_of(member)->duplicate) {
        qni_report(c, member, true, key, NULL, "duplicate key");
        return -1;
    }
    bool plain = !strpbrk(member->string, ".[") && strlen(member->string) < KEY_MAX / 4;
    int row = plain ? qni_key_find(key) : -1;
    if (row < 0) refuse_unknown(c, key, member);
    return row;
}

/* One object of QNI_GROUPS; `key` is its name with the index. */
static qn_status check_group(qn_config *c, const char *key, cJSON *object, const char *base_dir) {
    char name[KEY_MAX];
    if (!cJSON_IsObject(object)) {
        char found[80];
        found_text(object, false, found, sizeof found);
        qni_report(c, object, false, key, NULL, "expected object, found %s", found);
        return QN_OK;
    }
    cJSON *next, **link = &object->child, *last = NULL;
    for (cJSON *m = object->child; m; m = next) { /* a null member is as good as absent */
        next = m->next;
        int row = member_row(c, key, m, name, sizeof name);
        cJSON *checked = NULL;
        if (row >= 0 && !cJSON_IsNull(m)) {
            QN_TRY(qni_check_value(c, row, name, m, base_dir, &checked));
        }
        if (!checked) continue;
        checked->prev = last;
        *link = last = checked;
        link = &checked->next;
    }
    *link = NULL;
    if (object->child) object->child->prev = last;
    return QN_OK;
}

qn_status qni_check_element(qn_config *c, int row, const char *key, cJSON *value,
                            const char *base_dir, bool *good) {
    int before = c->errors;
    if (qni_keys[row].type != QNI_GROUPS) {
        return check_scalar(c, row, key, value, base_dir, true, good);
    }
    QN_TRY(check_group(c, key, value, base_dir));
    *good = c->errors == before;
    return QN_OK;
}

void qni_clear_section(qn_config *c, int section) {
    size_t length = strlen(qni_keys[section].name);
    for (int i = section + 1; i < qni_key_count; i++) {
        if (strncmp(qni_keys[i].name, qni_keys[section].name, length) != 0 ||
            qni_keys[i].name[length] != '.') {
            continue;
        }
        c->slot[i] = NULL;
        c->stated[i] = c->bad[i] = false;
    }
}

qn_status qni_check_key(qn_config *c, int row, const char *key, cJSON *value,
                        const char *base_dir) {
    if (cJSON_IsNull(value)) {
        c->slot[row] = NULL;
        c->stated[row] = c->bad[row] = false;
        return QN_OK;
    }
    cJSON *checked;
    QN_TRY(qni_check_value(c, row, key, value, base_dir, &checked));
    c->slot[row] = checked;
    c->stated[row] = checked != NULL;
    c->bad[row] = !checked;
    return QN_OK;
}

qn_status qni_check_section(qn_config *c, const char *prefix, cJSON *object, const char *base_dir) {
    cJSON *next;
    for (cJSON *m = object->child; m; m = next) {
        char key[KEY_MAX];
        next = m->next; /* a value that is put into a list leaves this one */
        int row = member_row(c, prefix, m, key, sizeof key);
        if (row < 0 || strcmp(key, "extends") == 0) continue; /* the loader has followed it */
        if (qni_keys[row].type != QNI_SECTION) {
            QN_TRY(qni_check_key(c, row, key, m, base_dir));
        } else if (cJSON_IsNull(m)) {
            qni_clear_section(c, row);
        } else if (cJSON_IsObject(m)) {
            QN_TRY(qni_check_section(c, key, m, base_dir));
        } else {
            refuse(c, row, key, m, false);
        }
    }
    return QN_OK;
}
