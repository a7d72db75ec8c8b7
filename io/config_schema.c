/* config_schema.c — the table of keys as a JSON Schema (draft-07) for editors and other checkers.
 *
 * null is legal for every key (it takes the key back), and nothing is required: what a file leaves
 * out may be in the file it extends.
 */
#include "io/config_table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void add_string_member(qn_text *t, const char *name, const char *value) {
    qn_text_printf(t, ", \"%s\": ", name);
    qn_text_json_string(t, value);
}

static void add_description(qn_text *t, const qni_key *k) {
    char text[1024], part[512];
    size_t n = (size_t)snprintf(text, sizeof text, "%s", k->doc);
    if (k->unit) n += (size_t)snprintf(text + n, sizeof text - n, " Unit: %s.", k->unit);
    if (k->only) {
        qni_condition_describe(k->only, part, sizeof part);
        n += (size_t)snprintf(text + n, sizeof text - n, " Only when %s.", part);
    }
    if (!k->fallback) {
        qni_default_describe(k, part, sizeof part);
        if (*part) snprintf(text + n, sizeof text - n, " Default: %s.", part);
    }
    qn_text_add(t, "\"description\": ");
    qn_text_json_string(t, text);
}

static void add_range(qn_text *t, const qni_key *k) {
    qni_interval r = qni_range_parse(k->range);
    if (isfinite(r.low)) {
        qn_text_add(t, r.low_open ? ", \"exclusiveMinimum\": " : ", \"minimum\": ");
        qn_text_json_number(t, r.low);
    }
    if (isfinite(r.high)) {
        qn_text_add(t, r.high_open ? ", \"exclusiveMaximum\": " : ", \"maximum\": ");
        qn_text_json_number(t, r.high);
    }
}

/* Members that one value (not a list of them) must satisfy, each begun with ", ". */
static void add_value(qn_text *t, const qni_key *k) {
    switch (k->type) {
    case QNI_BOOL: add_string_member(t, "type", "boolean"); break;
    case QNI_INT:
    case QNI_NUMBER:
        add_string_member(t, "type", k->type == QNI_INT ? "integer" : "number");
        add_range(t, k);
        if (k->type == QNI_INT && !k->range) {
            qn_text_add(t, ", \"minimum\": -9223372036854775808");
            qn_text_add(t, ", \"maximum\": 9223372036854775807");
        }
        break;
    case QNI_DEPTH:
        qn_text_add(t, ", \"type\": [\"integer\", \"boolean\"]");
        add_range(t, k);
        break;
    case QNI_BYTES:
        qn_text_add(t, ", \"type\": [\"integer\", \"string\"]");
        add_range(t, k);
        add_string_member(t, "pattern", "^[0-9]+(\\.[0-9]*)? ?([kKMGT]?B|[KMGT]iB)?$|\\$\\{");
        break;
    case QNI_NAME:
        add_string_member(t, "type", "string");
        add_string_member(t, "pattern", "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$|\\$\\{");
        break;
    case QNI_ENUM:
        qn_text_add(t, ", \"enum\": [");
        for (const char *s = k->choices; *s;) {
            size_t length = strcspn(s, "|");
            qn_text_add(t, s == k->choices ? "\"" : ", \"");
            qn_text_add_bytes(t, s, length);
            qn_text_add(t, "\"");
            s += length + (s[length] == '|');
        }
        qn_text_add(t, "]");
        break;
    default: add_string_member(t, "type", "string");
    }
    if (k->type == QNI_PATH || k->type == QNI_MODEL || k->type == QNI_TEMPLATE)
        qn_text_add(t, ", \"minLength\": 1");
}

/* The same as a schema of its own. */
static void add_value_schema(qn_text *t, const qni_key *k) {
    qn_text one = {0};
    add_value(&one, k);
    qn_text_add(t, "{");
    if (one.data) qn_text_add(t, one.data + 2);
    if (one.status != QN_OK) t->status = one.status;
    qn_text_free(&one);
    qn_text_add(t, "}");
}

static void add_object(qn_text *t, int parent);

static void add_list_schema(qn_text *t, const qni_key *k) {
    qn_text_add(t, "{\"type\": \"array\", \"items\": ");
    add_value_schema(t, k);
    if (k->items) qn_text_printf(t, ", \"minItems\": %d, \"maxItems\": %d", k->items, k->items);
    qn_text_add(t, "}");
}

static void add_key(qn_text *t, int row) {
    const qni_key *k = &qni_keys[row];
    qn_text_add(t, "{");
    add_description(t, k);
    if (k->fallback) qn_text_printf(t, ", \"default\": %s", k->fallback);
    if (k->type == QNI_SECTION) {
        qn_text_add(t, ", \"type\": [\"object\", \"null\"]");
        add_object(t, row);
    } else if (k->type == QNI_GROUPS) {
        qn_text_add(t, ", \"type\": [\"array\", \"null\"], \"items\": {\"type\": \"object\"");
        add_object(t, row);
        qn_text_add(t, "}");
    } else {
        qn_text_add(t, ", \"anyOf\": [");
        if (!(k->flags & QNI_LIST)) add_value_schema(t, k);
        if (k->flags & QNI_ONE_OR_LIST) qn_text_add(t, ", ");
        if (k->flags & (QNI_LIST | QNI_ONE_OR_LIST)) add_list_schema(t, k);
        qn_text_add(t, ", {\"type\": \"null\"}]");
    }
    qn_text_add(t, "}");
}

/* Members of the schema of an object whose keys are the rows in `parent`. */
static void add_object(qn_text *t, int parent) {
    bool first = true;
    qn_text_add(t, ", \"additionalProperties\": false, \"properties\": {");
    for (int i = 0; i < qni_key_count; i++) {
        if (!qni_key_in(i, parent)) continue;
        qn_text_printf(t, "%s\"%s\": ", first ? "" : ", ", qni_key_leaf(&qni_keys[i]));
        add_key(t, i);
        first = false;
    }
    qn_text_add(t, "}");
}

/* Breaks one line of JSON into an indented text. */
static qn_status indent(const char *line, char **out) {
    qn_setup *arena;
    cJSON *root;
    qn_text t = {0};
    qn_json_options options = {.name = "schema"};
    QN_TRY(qn_setup_create("schema", &arena));
    qn_status status = qn_json_parse(arena, line, strlen(line), &options, &root);
    if (status == QN_OK) {
        qn_json_write(&t, root, 0);
        qn_text_add(&t, "\n");
        status = qn_text_take(&t, out);
    }
    qn_setup_free(arena);
    return status;
}

qn_status qn_config_schema(const char *field, char **out) {
    int row = field ? qni_key_find(field) : -1;
    qn_text t = {0};
    char *line, hint[256];
    if (field && row < 0) {
        qni_key_suggest(field, hint, sizeof hint);
        return qn_fail(QN_ERR_USAGE, "schema: no key `%.200s`%s%s", field, *hint ? "; " : "", hint);
    }
    if (row >= 0) {
        add_key(&t, row);
    } else {
        qn_text_add(&t, "{\"$schema\": \"http://json-schema.org/draft-07/schema#\", "
                        "\"title\": \"Quern configuration\", \"type\": \"object\"");
        add_object(&t, -1);
        qn_text_add(&t, "}");
    }
    QN_TRY(qn_text_take(&t, &line));
    qn_status status = indent(line, out);
    qn_free(line);
    return status;
}
