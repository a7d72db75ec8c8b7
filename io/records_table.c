/* records_table.c — CSV (RFC 4180), TSV, labelled and plain lines as objects of strings. */
#include "io/records_parts.h"

#include <stdio.h>
#include <string.h>

enum { MAX_COLUMNS = 4096 };

/* ---- objects --------------------------------------------------------------------------------- */

static qn_status make_object(qn_records *r, cJSON **out) {
    qn_json_node *n = qn_setup_alloc(r->arena, sizeof *n);
    if (!n) return QN_ERR_OOM;
    *n = (qn_json_node){.item = {.type = cJSON_Object}};
    *out = &n->item;
    return QN_OK;
}

/* key lives as long as the reader; value is NUL-terminated in the record's arena. */
static qn_status add(qn_records *r, cJSON *object, const char *key, char *value) {
    qn_json_node *n = qn_setup_alloc(r->arena, sizeof *n);
    if (!n) return QN_ERR_OOM;
    *n = (qn_json_node){.item = {.type = cJSON_String | cJSON_StringIsConst,
                                 .valuestring = value,
                                 .string = (char *)(uintptr_t)key}};
    qn_json_append(object, &n->item);
    return QN_OK;
}

static qn_status copy_text(qn_records *r, qn_setup *arena, int64_t from, int64_t to, char **out) {
    size_t n = (size_t)(to - from);
    if (!qn_utf8_valid(r->bytes + from, n))
        return qni_records_fail_at(r, from, QN_ERR_FORMAT, "found text that is not UTF-8");
    if (memchr(r->bytes + from, '\0', n))
        return qni_records_fail_at(r, from, QN_ERR_FORMAT, "found a NUL byte, expected text");
    *out = qn_setup_alloc(arena, n + 1);
    if (!*out) return QN_ERR_OOM;
    memcpy(*out, r->bytes + from, n);
    (*out)[n] = '\0';
    return QN_OK;
}

/* ---- fields ---------------------------------------------------------------------------------- */

static int64_t line_end(const qn_records *r, int64_t at) {
    const char *end = memchr(r->bytes + at, '\n', (size_t)(r->size - at));
    return end ? end - r->bytes : r->size;
}

static int64_t without_return(const qn_records *r, int64_t from, int64_t end) {
    return end > from && r->bytes[end - 1] == '\r' ? end - 1 : end;
}

/* The quoted field at `at` ('"' stands there): its text without quotes, *at behind it. */
static qn_status quoted(qn_records *r, qn_setup *arena, int64_t *at, char **out) {
    int64_t from = *at + 1, to = from;
    for (;; to++) {
        const char *quote = memchr(r->bytes + to, '"', (size_t)(r->size - to));
        if (!quote)
            return qni_records_fail_at(r, *at, QN_ERR_FORMAT,
                                       "found a quoted field without its closing quote");
        to = quote - r->bytes;
        if (to + 1 >= r->size || r->bytes[to + 1] != '"') break;
        to++;
    }
    QN_TRY(copy_text(r, arena, from, to, out));
    char *w = *out;
    for (const char *p = *out; *p; p++) {
        *w++ = *p;
        if (*p == '"') p++; /* two stand for one */
    }
    *w = '\0';
    *at = to + 1;
    return QN_OK;
}

static qn_status field(qn_records *r, qn_setup *arena, char separator, int64_t *at, char **out) {
    if (r->format == QN_RECORDS_CSV && *at < r->size && r->bytes[*at] == '"') {
        QN_TRY(quoted(r, arena, at, out));
        char c = *at < r->size ? r->bytes[*at] : '\n';
        if (c == '\r' && (*at + 1 == r->size || r->bytes[*at + 1] == '\n')) c = '\n';
        if (c == separator || c == '\n') return QN_OK;
        return qni_records_fail_at(r, *at, QN_ERR_FORMAT,
                                   "found text behind a closing quote, expected ',' or a line end");
    }
    int64_t from = *at, end = line_end(r, from);
    const char *stop = memchr(r->bytes + from, separator, (size_t)(end - from));
    *at = stop ? stop - r->bytes : end;
    int64_t to = stop ? *at : without_return(r, from, end);
    if (r->format == QN_RECORDS_CSV) {
        const char *quote = memchr(r->bytes + from, '"', (size_t)(to - from));
        if (quote)
            return qni_records_fail_at(r, quote - r->bytes, QN_ERR_FORMAT,
                                       "found a quote inside a field that does not begin with one");
    }
    return copy_text(r, arena, from, to, out);
}

/* Fields of one row into at most `most` places; *n is how many there are. Leaves r->at behind. */
static qn_status row(qn_records *r, qn_setup *arena, char **out, int most, int *n) {
    char separator = r->format == QN_RECORDS_TSV ? '\t' : ',';
    int64_t at = r->at;
    *n = 0;
    for (;;) {
        char *text;
        QN_TRY(field(r, arena, separator, &at, &text));
        if (*n < most) out[*n] = text;
        ++*n;
        if (at >= r->size || r->bytes[at] != separator) break;
        at++;
    }
    at = line_end(r, at < r->size ? at : r->size);
    r->at = at < r->size ? at + 1 : at;
    return QN_OK;
}

static void skip_empty_lines(qn_records *r) {
    while (r->at < r->size && (r->bytes[r->at] == '\n' || r->bytes[r->at] == '\r')) r->at++;
}

qn_status qni_records_header(qn_records *r) {
    QN_TRY(qn_setup_create("columns", &r->columns));
    skip_empty_lines(r);
    qni_records_begin(r, r->at);
    char **name = qn_setup_alloc(r->columns, MAX_COLUMNS * sizeof *name);
    if (!name) return QN_ERR_OOM;
    QN_TRY(row(r, r->columns, name, MAX_COLUMNS, &r->n_columns));
    if (r->n_columns > MAX_COLUMNS)
        return qni_records_fail_at(r, r->start, QN_ERR_FORMAT, "found more than 4096 columns");
    for (int i = 0; i < r->n_columns; i++) {
        for (int j = 0; j < i; j++) {
            if (strcmp(name[i], name[j]) != 0) continue;
            char text[160];
            snprintf(text, sizeof text, "found two columns called \"%.100s\"", name[i]);
            return qni_records_fail_at(r, r->start, QN_ERR_FORMAT, text);
        }
    }
    r->column = (const char **)name;
    return QN_OK;
}

static qn_status next_in_table(qn_records *r, const cJSON **record) {
    skip_empty_lines(r);
    qni_records_begin(r, r->at);
    if (r->at >= r->size) return QN_OK;
    char **value = qn_setup_alloc(r->arena, (size_t)r->n_columns * sizeof *value);
    cJSON *object;
    int n;
    if (!value) return QN_ERR_OOM;
    QN_TRY(make_object(r, &object));
    int64_t begin = r->at;
    qn_status s = row(r, r->arena, value, r->n_columns, &n);
    if (s != QN_OK) { /* go on behind the line */
        int64_t end = line_end(r, begin);
        r->at = end < r->size ? end + 1 : end;
        return s;
    }
    if (n != r->n_columns) {
        char text[96];
        snprintf(text, sizeof text, "found %d fields, expected %d as in the first row", n,
                 r->n_columns);
        return qni_records_fail_at(r, r->start, QN_ERR_FORMAT, text);
    }
    for (int i = 0; i < n; i++) QN_TRY(add(r, object, r->column[i], value[i]));
    *record = object;
    return QN_OK;
}

static qn_status next_line(qn_records *r, const cJSON **record) {
    skip_empty_lines(r);
    qni_records_begin(r, r->at);
    if (r->at >= r->size) return QN_OK;
    int64_t from = r->at, next = line_end(r, from), to = without_return(r, from, next);
    r->at = next < r->size ? next + 1 : next;
    cJSON *object;
    char *text;
    QN_TRY(make_object(r, &object));
    QN_TRY(copy_text(r, r->arena, from, to, &text));
    if (r->format == QN_RECORDS_LABELS) {
        char *rest = text + strcspn(text, " \t");
        if (!*rest || rest == text) {
            return qni_records_fail_at(r, from, QN_ERR_FORMAT,
                                       "found no space, expected a label, a space and a text");
        }
        *rest = '\0';
        QN_TRY(add(r, object, "label", text));
        text = rest + 1;
    }
    QN_TRY(add(r, object, "text", text));
    *record = object;
    return QN_OK;
}

qn_status qni_records_next_row(qn_records *r, const cJSON **record) {
    bool table = r->format == QN_RECORDS_CSV || r->format == QN_RECORDS_TSV;
    return table ? next_in_table(r, record) : next_line(r, record);
}
