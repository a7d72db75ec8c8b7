/* metrics_text.c — the growing buffer, escaping, and numbers that no locale can change. */
#include "io/metrics_text.h"

#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the C locale, for this thread and one call ------------------------------------------------
 */

/* With glibc and musl, asking for "C" hands out a constant object: nothing is allocated. */
static locale_t c_locale(void) { return newlocale(LC_ALL_MASK, "C", (locale_t)0); }

static int print_v(char *buffer, size_t size, const char *format, va_list args) {
    locale_t c = c_locale(), before = c ? uselocale(c) : (locale_t)0;
    int n = vsnprintf(buffer, size, format, args);
    if (c) {
        uselocale(before);
        freelocale(c);
    }
    return n;
}

int qni_print(char *buffer, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = print_v(buffer, size, format, args);
    va_end(args);
    return n;
}

double qni_parse_double(const char *s, char **end) {
    locale_t c = c_locale(), before = c ? uselocale(c) : (locale_t)0;
    double v = strtod(s, end);
    if (c) {
        uselocale(before);
        freelocale(c);
    }
    return v;
}

/* ---- the buffer --------------------------------------------------------------------------------
 */

void qni_text_free(qni_text *t) {
    qn_free(t->data);
    *t = (qni_text){0};
}

void qni_text_clear(qni_text *t) {
    t->n = 0;
    t->failed = false;
    if (t->data) t->data[0] = '\0';
}

/* Makes room for n more bytes and the terminator. */
static bool reserve(qni_text *t, size_t n) {
    if (t->failed) return false;
    if (n < t->capacity - t->n) return true;
    size_t capacity = t->capacity ? t->capacity : 256;
    while (capacity - t->n <= n && capacity < SIZE_MAX / 2) capacity *= 2;
    char *data = qn_realloc(t->data, t->capacity, capacity, "a text");
    t->failed = !data;
    if (!data) return false;
    t->data = data;
    t->capacity = capacity;
    return true;
}

void qni_text_add(qni_text *t, const void *bytes, size_t n) {
    if (!reserve(t, n)) return;
    if (n) memcpy(t->data + t->n, bytes, n);
    t->n += n;
    t->data[t->n] = '\0';
}

void qni_text_puts(qni_text *t, const char *s) { qni_text_add(t, s, strlen(s)); }

void qni_text_printf(qni_text *t, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = print_v(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && reserve(t, (size_t)n)) {
        print_v(t->data + t->n, (size_t)n + 1, format, again);
        t->n += (size_t)n;
    }
    va_end(again);
}

/* ---- escaping ----------------------------------------------------------------------------------
 */

/* Bytes of the valid UTF-8 sequence at s, 0 if there is none (RFC 3629: no overlong forms, no
 * surrogates, nothing past U+10FFFF). The terminating '\0' stops every look-ahead. */
static int sequence_length(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 0;
    int n = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    unsigned low = 0x80, high = 0xBF;
    if (s[0] == 0xE0) low = 0xA0;
    if (s[0] == 0xED) high = 0x9F;
    if (s[0] == 0xF0) low = 0x90;
    if (s[0] == 0xF4) high = 0x8F;
    if (s[1] < low || s[1] > high) return 0;
    for (int i = 2; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
    }
    return n;
}

/* Adds s, with each character for which `escape` writes something replaced by that. */
static void add_escaped(qni_text *t, const char *s, bool (*escape)(qni_text *t, unsigned char c)) {
    const unsigned char *p = (const unsigned char *)s;
    while (*p) {
        int n = sequence_length(p);
        if (n == 0) {
            qni_text_puts(t, "\xEF\xBF\xBD");
            n = 1;
        } else if (n > 1 || !escape(t, *p)) {
            qni_text_add(t, p, (size_t)n);
        }
        p += n;
    }
}

static bool escape_nothing(qni_text *t, unsigned char c) {
    (void)t;
    (void)c;
    return false;
}

static bool escape_html(qni_text *t, unsigned char c) {
    const char *entity = c == '&'    ? "&amp;"
                         : c == '<'  ? "&lt;"
                         : c == '>'  ? "&gt;"
                         : c == '"'  ? "&quot;"
                         : c == '\'' ? "&#39;"
                                     : NULL;
    if (!entity && (c >= 0x20 ? c != 0x7F : c == '\n' || c == '\t')) return false;
    qni_text_puts(t,
                  entity ? entity : "\xEF\xBF\xBD"); /* control characters have no place in HTML */
    return true;
}

static bool escape_json(qni_text *t, unsigned char c) {
    if (c >= 0x20 && c != '"' && c != '\\') return false;
    if (c == '"' || c == '\\') {
        qni_text_printf(t, "\\%c", c);
    } else if (c == '\n') {
        qni_text_puts(t, "\\n");
    } else if (c == '\t') {
        qni_text_puts(t, "\\t");
    } else {
        qni_text_printf(t, "\\u%04x", (unsigned)c);
    }
    return true;
}

void qni_text_utf8(qni_text *t, const char *s) { add_escaped(t, s, escape_nothing); }
void qni_text_html(qni_text *t, const char *s) { add_escaped(t, s, escape_html); }

void qni_text_json(qni_text *t, const char *s) {
    qni_text_puts(t, "\"");
    add_escaped(t, s, escape_json);
    qni_text_puts(t, "\"");
}

void qni_text_json_double(qni_text *t, double v) {
    if (!isfinite(v)) {
        qni_text_puts(t, isnan(v) ? "\"nan\"" : v > 0 ? "\"inf\"" : "\"-inf\"");
        return;
    }
    char digits[32];
    for (int precision = 15; precision <= 17; precision++) {
        qni_print(digits, sizeof digits, "%.*g", precision, v);
        if (qni_parse_double(digits, NULL) == v) break;
    }
    qni_text_puts(t, digits);
}
