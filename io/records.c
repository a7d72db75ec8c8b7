/* records.c — the reader of records: what is told in JSON; records_table.c has the rest. */
#include "io/records_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const format_names[QN_RECORDS_FORMATS] = {
    "auto", "json", "jsonl", "csv", "tsv", "lines", "labels",
};

const char *qn_record_format_name(qn_record_format f) { return format_names[f]; }

bool qn_record_format_parse(const char *name, qn_record_format *out) {
    for (int i = 0; i < QN_RECORDS_FORMATS; i++) {
        if (strcmp(name, format_names[i]) != 0) continue;
        *out = (qn_record_format)i;
        return true;
    }
    return false;
}

/* ---- places ---------------------------------------------------------------------------------- */

qn_status qni_records_fail_at(const qn_records *r, int64_t offset, qn_status s, const char *text) {
    int64_t line, column;
    int64_t first = r->start; /* of the record's first line; those before it are counted already */
    while (first > 0 && r->bytes[first - 1] != '\n') first--;
    qn_json_source source = {r->name, r->bytes + first, (size_t)(r->size - first)};
    qn_json_position(&source, (size_t)(offset - first), &line, &column);
    return qn_fail(s, "%s:%lld:%lld: %s", r->name, (long long)(r->line + line - 1),
                   (long long)column, text);
}

qn_status qn_records_fail(const qn_records *r, const cJSON *part, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int64_t offset = r->start;
    if (part && r->located) offset = r->value + qn_json_node_of(part)->offset;
    return qni_records_fail_at(r, offset, QN_ERR_DATA, text);
}

/* Moves `start` to `offset` and keeps count of lines. */
void qni_records_begin(qn_records *r, int64_t offset) {
    for (int64_t i = r->start; i < offset; i++) r->line += r->bytes[i] == '\n';
    r->start = offset;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static int64_t skip_space(const qn_records *r, int64_t at) {
    while (at < r->size && is_space(r->bytes[at])) at++;
    return at;
}

/* The end of the value at `at`: behind its last byte if it is well-formed, else some place behind
 * it. Brackets and strings decide; the parser looks at the rest. */
static int64_t value_end(const qn_records *r, int64_t at) {
    int64_t depth = 0;
    bool string = false;
    for (; at < r->size; at++) {
        char c = r->bytes[at];
        if (string) {
            if (c == '\\')
                at++;
            else if (c == '"')
                string = false;
            continue;
        }
        if (c == '"') string = true;
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') {
            if (depth == 0) return at; /* the array's own */
            if (--depth == 0) return at + 1;
        }
        if (depth == 0 && c == ',') return at;
    }
    return r->size;
}

static qn_status parse_object(qn_records *r, int64_t from, int64_t to, const cJSON **record) {
    qn_json_error error = {0};
    qn_json_options o = {.name = r->name, .max_bytes = (size_t)1 << 30, .error = &error};
    cJSON *root;
    qn_status s = qn_json_parse(r->arena, r->bytes + from, (size_t)(to - from), &o, &root);
    if (s == QN_ERR_OOM) return s;
    if (s != QN_OK)
        return qni_records_fail_at(r, from + (int64_t)error.offset, QN_ERR_FORMAT, error.text);
    r->value = from;
    r->located = true;
    if (!cJSON_IsObject(root)) return qn_records_fail(r, NULL, "found no object, expected {...}");
    *record = root;
    return QN_OK;
}

/* `at` stands behind '[' or behind a record. */
static qn_status next_in_array(qn_records *r, const cJSON **record) {
    int64_t at = skip_space(r, r->at);
    if (r->taken > 0 && at < r->size && r->bytes[at] == ',') {
        at = skip_space(r, at + 1);
    } else if (r->taken > 0 && at < r->size && r->bytes[at] != ']') {
        qni_records_begin(r, at);
        r->at = r->size; /* no telling where the next record begins */
        r->closed = true;
        return qni_records_fail_at(r, at, QN_ERR_FORMAT, "expected ',' or ']' behind a record");
    } else if (at < r->size && r->bytes[at] == ']') {
        int64_t rest = skip_space(r, at + 1);
        r->at = r->size;
        if (rest == r->size || r->closed) return QN_OK;
        r->closed = true;
        qni_records_begin(r, rest);
        return qni_records_fail_at(r, rest, QN_ERR_FORMAT, "found text behind the array");
    }
    qni_records_begin(r, at);
    if (at >= r->size) {
        if (r->closed) return QN_OK;
        r->closed = true;
        return qni_records_fail_at(r, r->size, QN_ERR_FORMAT,
                                   "the file ends inside the array, expected ']'");
    }
    int64_t end = value_end(r, at);
    r->at = end;
    r->taken++;
    return parse_object(r, at, end, record);
}

static qn_status next_in_lines(qn_records *r, const cJSON **record) {
    int64_t at = skip_space(r, r->at), end = at;
    qni_records_begin(r, at);
    r->at = at;
    if (at == r->size) return QN_OK;
    while (end < r->size && r->bytes[end] != '\n') end++;
    r->at = end;
    return parse_object(r, at, end, record);
}

/* ---- the reader ------------------------------------------------------------------------------ */

static bool ends_with(const char *name, size_t n, const char *end) {
    size_t m = strlen(end);
    return n >= m && memcmp(name + n - m, end, m) == 0;
}

static qn_record_format guess(const char *name, const char *bytes, int64_t size) {
    size_t n = strlen(name);
    if (ends_with(name, n, ".gz")) n -= 3;
    if (ends_with(name, n, ".csv")) return QN_RECORDS_CSV;
    if (ends_with(name, n, ".tsv")) return QN_RECORDS_TSV;
    for (int64_t i = 0; i < size; i++) { /* arrays are called .jsonl, and lines .json */
        if (is_space(bytes[i])) continue;
        if (bytes[i] == '[') return QN_RECORDS_JSON;
        if (bytes[i] == '{') return QN_RECORDS_JSONL;
        break;
    }
    return QN_RECORDS_LINES;
}

qn_status qn_records_open(const char *name, const char *bytes, int64_t size, qn_record_format f,
                          qn_records **out) {
    qn_records *r = qn_alloc(sizeof *r, "a reader of records");
    if (!r) return QN_ERR_OOM;
    *r = (qn_records){.name = name, .bytes = bytes, .size = size, .line = 1};
    qn_status status;
    QN_TRY_GOTO(qn_setup_create("records", &r->arena));
    if (size >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) r->at = 3;
    r->start = r->at;
    r->format = f == QN_RECORDS_AUTO ? guess(name, bytes + r->at, size - r->at) : f;
    int64_t first = skip_space(r, r->at);
    if (first == size) {
        status = qn_fail(QN_ERR_FORMAT, "%s: found an empty file, expected records", name);
        goto done;
    }
    if (r->format == QN_RECORDS_JSON) {
        if (bytes[first] != '[') {
            status = qn_fail(QN_ERR_FORMAT, "%s: expected an array of objects: '[' first", name);
            goto done;
        }
        r->at = first + 1;
    }
    if (r->format == QN_RECORDS_CSV || r->format == QN_RECORDS_TSV)
        QN_TRY_GOTO(qni_records_header(r));
    *out = r;
    return QN_OK;
done:
    qn_records_free(r);
    return status;
}

void qn_records_free(qn_records *r) {
    if (!r) return;
    qn_setup_free(r->arena);
    qn_setup_free(r->columns);
    qn_free(r);
}

qn_record_format qn_records_format(const qn_records *r) { return r->format; }

qn_status qn_records_next(qn_records *r, const cJSON **record, int64_t *line) {
    *record = NULL;
    r->located = false;
    qn_setup_free(r->arena);
    r->arena = NULL;
    QN_TRY(qn_setup_create("a record", &r->arena));
    qn_status s;
    switch (r->format) {
    case QN_RECORDS_JSON: s = next_in_array(r, record); break;
    case QN_RECORDS_JSONL: s = next_in_lines(r, record); break;
    default: s = qni_records_next_row(r, record); break;
    }
    if (line) *line = r->line;
    return s;
}
