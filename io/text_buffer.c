/* text_buffer.c — a growing text, and the JSON spelling of strings and numbers. */
#include "io/text_buffer.h"

#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(qn_text *t, size_t more) {
    if (t->status != QN_OK) return false;
    if (more < t->capacity - t->length) return true; /* one byte stays free for the NUL */
    size_t capacity = t->capacity ? t->capacity : 256;
    while (capacity - t->length <= more) {
        if (capacity > SIZE_MAX / 4) {
            t->status = qn_fail(QN_ERR_OOM, "text: %zu more bytes are too many", more);
            return false;
        }
        capacity *= 2;
    }
    char *data = qn_realloc(t->data, t->capacity, capacity, "a text");
    if (!data) {
        t->status = QN_ERR_OOM;
        return false;
    }
    t->data = data;
    t->capacity = capacity;
    return true;
}

void qn_text_add_bytes(qn_text *t, const char *bytes, size_t count) {
    if (!reserve(t, count)) return;
    memcpy(t->data + t->length, bytes, count);
    t->length += count;
    t->data[t->length] = '\0';
}

void qn_text_add(qn_text *t, const char *s) { qn_text_add_bytes(t, s, strlen(s)); }

void qn_text_printf(qn_text *t, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && reserve(t, (size_t)n)) {
        vsnprintf(t->data + t->length, (size_t)n + 1, format, again);
        t->length += (size_t)n;
    }
    va_end(again);
}

void qn_text_pad(qn_text *t, size_t count, char c) {
    if (!reserve(t, count)) return;
    memset(t->data + t->length, c, count);
    t->length += count;
    t->data[t->length] = '\0';
}

void qn_text_json_chars(qn_text *t, const char *s, size_t count) {
    for (size_t i = 0, from = 0; i <= count; i++) {
        unsigned char c = i < count ? (unsigned char)s[i] : 0;
        if (i < count && c >= 0x20 && c != '"' && c != '\\') continue;
        qn_text_add_bytes(t, s + from, i - from);
        from = i + 1;
        if (i == count) break;
        switch (c) {
        case '"': qn_text_add(t, "\\\""); break;
        case '\\': qn_text_add(t, "\\\\"); break;
        case '\n': qn_text_add(t, "\\n"); break;
        case '\r': qn_text_add(t, "\\r"); break;
        case '\t': qn_text_add(t, "\\t"); break;
        default: qn_text_printf(t, "\\u%04x", c);
        }
    }
}

void qn_text_json_string(qn_text *t, const char *s) {
    qn_text_add(t, "\"");
    qn_text_json_chars(t, s, strlen(s));
    qn_text_add(t, "\"");
}

void qn_text_json_number(qn_text *t, double v) {
    if (!isfinite(v)) {
        qn_text_add(t, isnan(v) ? "\"nan\"" : v > 0 ? "\"inf\"" : "\"-inf\"");
        return;
    }
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = plain ? uselocale(plain) : (locale_t)0;
    char digits[40];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, v);
        if (strtod(digits, NULL) == v) break;
    }
    if (plain) {
        uselocale(before);
        freelocale(plain);
    }
    qn_text_add(t, digits);
}

qn_status qn_text_take(qn_text *t, char **out) {
    qn_text_add(t, ""); /* an empty text still becomes a string */
    qn_status status = t->status;
    if (status == QN_OK) {
        *out = t->data;
        t->data = NULL;
    }
    qn_text_free(t);
    return status;
}

void qn_text_free(qn_text *t) {
    qn_free(t->data);
    *t = (qn_text){0};
}
