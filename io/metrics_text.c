/* metrics_text.c — numbers in the C locale; text from outside as valid UTF-8, JSON and HTML. */
#include "io/metrics_text.h"

#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void qni_text_clear(qn_text *t) {
    t->length = 0;
    t->status = QN_OK;
    if (t->data) t->data[0] = '\0';
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* uselocale changes this thread only. The C library hands out "C" without allocating. */
static int print_v(char *buffer, size_t size, const char *format, va_list args) {
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = plain ? uselocale(plain) : (locale_t)0;
    int n = vsnprintf(buffer, size, format, args);
    if (plain) {
        uselocale(before);
        freelocale(plain);
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

void qni_text_printf(qn_text *t, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = print_v(NULL, 0, format, args);
    va_end(args);
    if (n >= 0) qn_text_pad(t, (size_t)n, ' ');
    if (n >= 0 && t->status == QN_OK) {
        print_v(t->data + t->length - n, (size_t)n + 1, format, again);
    }
    va_end(again);
}

/* ---- text from outside ----------------------------------------------------------------------- */

/* Bytes of the valid UTF-8 character at s, 0 if there is none (RFC 3629: no overlong forms, no
 * surrogates, nothing past U+10FFFF). The terminating '\0' stops every look-ahead. */
static int character_length(const unsigned char *s) {
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

static bool is_control(const char *c, int n) {
    unsigned char first = (unsigned char)c[0];
    if (n == 1) return first < 0x20 || first == 0x7F;
    return n == 2 && first == 0xC2 && (unsigned char)c[1] < 0xA0; /* U+0080 to U+009F */
}

/* Adds s character by character through `put`. */
static void add_characters(qn_text *t, const char *s,
                           void (*put)(qn_text *t, const char *character, int n)) {
    for (int n; *s; s += n ? n : 1) {
        n = character_length((const unsigned char *)s);
        if (n > 0) {
            put(t, s, n);
        } else {
            qn_text_add(t, "\xEF\xBF\xBD");
        }
    }
}

static void put_plain(qn_text *t, const char *c, int n) { qn_text_add_bytes(t, c, (size_t)n); }

static void put_line(qn_text *t, const char *c, int n) {
    if (is_control(c, n)) {
        qn_text_add(t, " ");
    } else {
        put_plain(t, c, n);
    }
}

static void put_json(qn_text *t, const char *c, int n) { qn_text_json_chars(t, c, (size_t)n); }

static void put_html(qn_text *t, const char *c, int n) {
    switch (*c) {
    case '&': qn_text_add(t, "&amp;"); break;
    case '<': qn_text_add(t, "&lt;"); break;
    case '>': qn_text_add(t, "&gt;"); break;
    case '"': qn_text_add(t, "&quot;"); break;
    case '\'': qn_text_add(t, "&#39;"); break;
    case '\n': qn_text_add(t, "\n"); break;
    default: put_line(t, c, n); /* other control characters have no place in HTML */
    }
}

void qni_text_utf8(qn_text *t, const char *s) { add_characters(t, s, put_plain); }
void qni_text_line(qn_text *t, const char *s) { add_characters(t, s, put_line); }
void qni_text_html(qn_text *t, const char *s) { add_characters(t, s, put_html); }

void qni_text_json(qn_text *t, const char *s) {
    qn_text_add(t, "\"");
    add_characters(t, s, put_json);
    qn_text_add(t, "\"");
}
