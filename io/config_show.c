/* config_show.c — writing a loaded configuration: plain, with origins, and what differs from
 * another.
 */
#include "io/config_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { COMMENT_COLUMN = 48 };

/* ---- values ---------------------------------------------------------------------------------- */

/* As qn_json_write on one line, except that "${" is written so that loading does not expand it. */
static void write_value(qn_text *t, const cJSON *item) {
    if (cJSON_IsString(item)) {
        const char *s = item->valuestring;
        qn_text_add(t, "\"");
        for (const char *v; (v = strstr(s, "${")) != NULL; s = v + 2) {
            qn_text_json_chars(t, s, (size_t)(v - s));
            qn_text_add(t, "$${");
        }
        qn_text_json_chars(t, s, strlen(s));
        qn_text_add(t, "\"");
    } else if (cJSON_IsArray(item) || cJSON_IsObject(item)) {
        bool object = cJSON_IsObject(item);
        qn_text_add(t, object ? "{" : "[");
        for (const cJSON *child = item->child; child; child = child->next) {
            if (child != item->child) qn_text_add(t, ", ");
            if (object) {
                qn_text_json_string(t, child->string);
                qn_text_add(t, ": ");
            }
            write_value(t, child);
        }
        qn_text_add(t, object ? "}" : "]");
    } else {
        qn_json_write(t, item, -1);
    }
}

/* Groups take a line each. */
static void write_slot(qn_text *t, int row, const cJSON *item, int indent) {
    if (qni_keys[row].type != QNI_GROUPS || !item->child) {
        write_value(t, item);
        return;
    }
    qn_text_add(t, "[");
    for (const cJSON *child = item->child; child; child = child->next) {
        qn_text_add(t, child == item->child ? "\n" : ",\n");
        qn_text_pad(t, (size_t)indent * 2 + 2, ' ');
        write_value(t, child);
    }
    qn_text_add(t, "\n");
    qn_text_pad(t, (size_t)indent * 2, ' ');
    qn_text_add(t, "]");
}

static void write_origin(qn_text *t, const qn_config *c, int row, size_t line_start) {
    size_t width = t->length - line_start;
    qn_text_pad(t, width < COMMENT_COLUMN ? COMMENT_COLUMN - width : 1, ' ');
    const qn_json_node *n = qn_json_node_of(c->slot[row]);
    int64_t line, column;
    if (!c->stated[row] || !n->source) {
        qn_text_add(t, "// default");
        if (qni_keys[row].computed) qn_text_printf(t, ": %s", qni_keys[row].computed);
    } else if (strcmp(n->source->name, "--set") == 0) {
        qn_text_add(t, "// --set");
    } else {
        qn_json_position(n->source, n->offset, &line, &column);
        qn_text_printf(t, "// %s:%" PRId64, n->source->name, line);
    }
}

/* ---- sections -------------------------------------------------------------------------------- */

static bool shown(const qn_config *c, int row) {
    const qni_key *k = &qni_keys[row];
    if (k->type != QNI_SECTION) return c->slot[row] && !(k->flags & QNI_DIRECTIVE);
    for (int i = row + 1; i < qni_key_count; i++) {
        if (qni_key_in(i, row) && shown(c, i)) return true;
    }
    return false;
}

static int next_shown(const qn_config *c, int parent, int row) {
    for (row++; row < qni_key_count; row++) {
        if (qni_key_in(row, parent) && shown(c, row)) return row;
    }
    return -1;
}

static void write_section(qn_text *t, const qn_config *c, int parent, int indent, bool origins) {
    qn_text_add(t, "{\n");
    for (int row = next_shown(c, parent, parent), next; row >= 0; row = next) {
        size_t line_start = t->length;
        bool section = qni_keys[row].type == QNI_SECTION;
        next = next_shown(c, parent, row);
        qn_text_pad(t, (size_t)indent * 2 + 2, ' ');
        qn_text_printf(t, "\"%s\": ", qni_key_leaf(&qni_keys[row]));
        if (section) {
            write_section(t, c, row, indent + 1, origins);
        } else {
            write_slot(t, row, c->slot[row], indent + 1);
        }
        if (next >= 0) qn_text_add(t, ",");
        if (origins && !section) write_origin(t, c, row, line_start);
        qn_text_add(t, "\n");
    }
    qn_text_pad(t, (size_t)indent * 2, ' ');
    qn_text_add(t, "}");
}

static qn_status write_config(const qn_config *c, bool origins, char **out) {
    qn_text t = {0};
    write_section(&t, c, -1, 0, origins);
    qn_text_add(&t, "\n");
    return qn_text_take(&t, out);
}

qn_status qn_config_resolved(const qn_config *c, char **out) { return write_config(c, false, out); }
qn_status qn_config_show(const qn_config *c, char **out) { return write_config(c, true, out); }

/* ---- differences ----------------------------------------------------------------------------- */

static qn_status value_text(const qn_config *c, int row, char **out) {
    qn_text t = {0};
    if (c->slot[row]) {
        write_value(&t, c->slot[row]);
    } else {
        qn_text_add(&t, "not set");
    }
    return qn_text_take(&t, out);
}

/* Adds a line for the row if its values differ; *differs tells. */
static qn_status compare(const qn_config *before, const qn_config *after, int row, qn_text *t,
                         bool *differs) {
    char *old = NULL, *new = NULL;
    qn_status status;
    QN_TRY_GOTO(value_text(before, row, &old));
    QN_TRY_GOTO(value_text(after, row, &new));
    *differs = strcmp(old, new) != 0;
    if (*differs) qn_text_printf(t, "%s: %s -> %s\n", qni_keys[row].name, old, new);
done:
    qn_free(old);
    qn_free(new);
    return status;
}

qn_status qn_config_diff(const qn_config *before, const qn_config *after, qn_config_changes *out) {
    qn_config_changes changes = {0};
    qn_text t = {0};
    for (int pass = 0; pass < 2; pass++) { /* refused ones first */
        for (int i = 0; i < qni_key_count; i++) {
            const qni_key *k = &qni_keys[i];
            bool identity = k->flags & QNI_IDENTITY, differs;
            if (k->flags & QNI_DIRECTIVE || identity != (pass == 0)) continue;
            qn_status status = compare(before, after, i, &t, &differs);
            if (status != QN_OK) {
                qn_text_free(&t);
                return status;
            }
            changes.changed += differs;
            changes.refused += differs && identity;
        }
    }
    QN_TRY(qn_text_take(&t, &changes.text));
    *out = changes;
    return QN_OK;
}
