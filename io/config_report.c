/* config_report.c — errors of a configuration as a compiler would tell them. */
#include "io/config_table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ERRORS_SHOWN = 100, LINE_SHOWN = 96 };

/* The source line that holds byte `offset`, cut to LINE_SHOWN bytes around it, and a mark below. */
static void show_line(qn_text *t, const qn_json_source *s, size_t offset, size_t length,
                      int64_t line) {
    const char *text = s->text;
    size_t start = offset, end = offset;
    while (start > 0 && text[start - 1] != '\n') start--;
    end += strcspn(text + end, "\r\n");
    bool cut_start = offset - start > LINE_SHOWN * 2 / 3;
    if (cut_start) start = offset - LINE_SHOWN / 2;
    while (cut_start && start < offset && ((unsigned char)text[start] & 0xC0) == 0x80) start++;
    bool cut_end = end - start > LINE_SHOWN;
    if (cut_end) end = start + LINE_SHOWN;
    while (cut_end && end > offset && ((unsigned char)text[end] & 0xC0) == 0x80) end--;

    qn_text_printf(t, "%6" PRId64 " | %s", line, cut_start ? "..." : "");
    for (size_t i = start; i < end; i++) { /* control characters would move the mark */
        bool control = (unsigned char)text[i] < 0x20 || text[i] == 0x7F;
        qn_text_add_bytes(t, control ? " " : text + i, 1);
    }
    qn_text_printf(t, "%s\n       | %s", cut_end ? "..." : "", cut_start ? "   " : "");
    for (size_t i = start; i < offset; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80) qn_text_add(t, " ");
    }
    qn_text_add(t, "^");
    for (size_t i = offset + 1; i < offset + length && i < end; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80) qn_text_add(t, "~");
    }
    qn_text_add(t, "\n");
}

/* Keys and environment variables may hold anything; a terminal gets no control characters. */
static void make_printable(char *s) {
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7F) *s = '?';
    }
}

static void report(qn_config *c, const qn_json_source *s, size_t offset, size_t length,
                   const char *key, const char *hint, const char *message) {
    if (c->errors++ >= ERRORS_SHOWN) return;
    qn_text *t = &c->diagnostics;
    char place[256] = "";
    int64_t line = 0, column = 0;
    if (s) {
        qn_json_position(s, offset, &line, &column);
        snprintf(place, sizeof place, "%.200s:%" PRId64 ":%" PRId64 ": ", s->name, line, column);
    }
    char text[QN_MESSAGE_MAX];
    snprintf(text, sizeof text, "%serror: %.200s%s%s", place, key ? key : "", key ? ": " : "",
             message);
    make_printable(text);
    if (c->errors == 1) memcpy(c->first, text, sizeof c->first);
    qn_text_printf(t, "%s\n", text);
    if (s && s->length) show_line(t, s, offset, length, line);
    if (hint && *hint) {
        snprintf(text, sizeof text, "%s", hint);
        make_printable(text);
        qn_text_printf(t, "       = hint: %s\n", text);
    }
}

void qni_report_at(qn_config *c, const qn_json_source *s, size_t offset, size_t length,
                   const char *key, const char *hint, const char *format, ...) {
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    report(c, s, offset, length, key, hint, message);
}

void qni_report(qn_config *c, const cJSON *item, bool at_key, const char *key, const char *hint,
                const char *format, ...) {
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    const qn_json_node *n = item ? qn_json_node_of(item) : NULL;
    if (!n || !n->source) { /* a default has no place */
        report(c, NULL, 0, 0, key, hint, message);
    } else if (at_key) {
        size_t length = 1;
        const char *s = n->source->text + n->key_offset;
        while (s[0] == '"' && s[length] && (s[length] != '"' || s[length - 1] == '\\')) length++;
        report(c, n->source, n->key_offset, length + (s[0] == '"'), key, hint, message);
    } else { /* of an array or object only the bracket is marked */
        bool brackets = cJSON_IsArray(item) || cJSON_IsObject(item);
        report(c, n->source, n->offset, brackets ? 1 : n->length, key, hint, message);
    }
}

void qni_report_missing(qn_config *c, int row, const char *hint) {
    char expected[400];
    qni_key_describe(&qni_keys[row], expected, sizeof expected);
    qni_report(c, NULL, false, qni_keys[row].name, hint, "missing, expected %s", expected);
}
