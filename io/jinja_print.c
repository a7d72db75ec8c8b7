/* jinja_print.c — values as text: Python's str and repr, and json.dumps. */
#include "io/jinja_parts.h"

#include "io/vocab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

bool qni_jinja_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

typedef struct printer {
    qni_jrun *r;
    qn_text *to;
    const qni_jjson *json; /* NULL: as Python writes values */
    int depth;
} printer;

static qn_status put(const printer *p, const char *text, size_t bytes) {
    if (bytes > p->r->output - (p->to->length < p->r->output ? p->to->length : p->r->output)) {
        return qni_jinja_fail(p->r, "the template writes too much");
    }
    QN_TRY(qni_jinja_charge(p->r, 1 + bytes / 64));
    qn_text_add_bytes(p->to, text, bytes);
    return p->to->status;
}

static qn_status put_text(const printer *p, const char *text) { return put(p, text, strlen(text)); }

qn_status qni_jinja_emit(qni_jrun *r, const char *text, size_t bytes) {
    return put(&(printer){.r = r, .to = &r->out}, text, bytes);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* The fewest digits that read back as d, where Python puts the point. */
static qn_status put_float(const printer *p, double d) {
    char digits[40], text[128];
    int n = 0, exponent;
    if (!isfinite(d)) {
        return put_text(p, isnan(d) ? (p->json ? "NaN" : "nan")
                           : d > 0  ? (p->json ? "Infinity" : "inf")
                                    : (p->json ? "-Infinity" : "-inf"));
    }
    for (int places = 0; places < 17; places++) {
        snprintf(digits, sizeof digits, "%.*e", places, fabs(d));
        if (strtod(digits, NULL) == fabs(d)) break;
    }
    char *e = strchr(digits, 'e');
    exponent = (int)strtol(e + 1, NULL, 10);
    for (const char *c = digits; c < e; c++) { /* without the point, whatever the locale's is */
        if (*c >= '0' && *c <= '9') digits[n++] = *c;
    }
    digits[n] = '\0';
    const char *sign = signbit(d) ? "-" : "";
    if (exponent < -4 || exponent >= 16) {
        snprintf(text, sizeof text, "%s%.1s%s%se%c%02d", sign, digits, n > 1 ? "." : "", digits + 1,
                 exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        snprintf(text, sizeof text, "%s0.%.*s%s", sign, -exponent - 1, "0000", digits);
    } else if (n <= exponent + 1) {
        snprintf(text, sizeof text, "%s%s%.*s.0", sign, digits, exponent + 1 - n,
                 "0000000000000000");
    } else {
        snprintf(text, sizeof text, "%s%.*s.%s", sign, exponent + 1, digits, digits + exponent + 1);
    }
    return put_text(p, text);
}

static qn_status put_int(const printer *p, int64_t i) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)i);
    return put_text(p, text);
}

/* ---- strings --------------------------------------------------------------------------------- */

/* Whether Python's repr writes the character as it is; unassigned ones count as printable. */
static bool printable(uint32_t c) {
    static const uint32_t ranges[][2] = {
        {0x0000, 0x001F},   {0x007F, 0x00A0},    {0x00AD, 0x00AD},   {0x0600, 0x0605},
        {0x061C, 0x061C},   {0x06DD, 0x06DD},    {0x070F, 0x070F},   {0x0890, 0x0891},
        {0x08E2, 0x08E2},   {0x1680, 0x1680},    {0x180E, 0x180E},   {0x2000, 0x200F},
        {0x2028, 0x202F},   {0x205F, 0x206F},    {0x3000, 0x3000},   {0xD800, 0xF8FF},
        {0xFEFF, 0xFEFF},   {0xFFF0, 0xFFFB},    {0xFFFE, 0xFFFF},   {0x110BD, 0x110BD},
        {0x110CD, 0x110CD}, {0x13430, 0x1343F},  {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A},
        {0xE0000, 0xE00FF}, {0xE01F0, 0x10FFFF},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (c >= ranges[i][0] && c <= ranges[i][1]) return false;
    }
    return true;
}

static qn_status put_code(const printer *p, uint32_t c) { /* \uhhhh twice above the BMP */
    char text[24];
    if (p->json && c > 0xFFFF) {
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10),
                 0xDC00 + ((c - 0x10000) & 0x3FF));
    } else if (p->json || (c > 0xFF && c <= 0xFFFF)) {
        snprintf(text, sizeof text, "\\u%04x", c);
    } else if (c <= 0xFF) {
        snprintf(text, sizeof text, "\\x%02x", c);
    } else {
        snprintf(text, sizeof text, "\\U%08x", c);
    }
    return put_text(p, text);
}

/* The letter behind the backslash where a character is written with one, else 0. */
static char short_escape(const printer *p, uint32_t c, char quote) {
    static const char known[] = "\n\r\t\b\f", letters[] = "nrtbf";
    if (c == '\\' || c == (unsigned char)quote) return (char)c;
    const char *at = c && c < 0x20 ? strchr(known, (int)c) : NULL;
    if (!at || (!p->json && at - known > 2)) return 0;
    return letters[at - known];
}

static qn_status put_quoted(const printer *p, const qni_jstring *s) {
    bool single = memchr(s->text, '\'', s->bytes) && !memchr(s->text, '"', s->bytes);
    char quote = p->json || single ? '"' : '\'';
    QN_TRY(put(p, &quote, 1));
    for (size_t at = 0, from = 0; at <= s->bytes;) {
        uint32_t c = 0;
        int n = at == s->bytes ? 1
                               : qn_utf8_next((const unsigned char *)s->text + at,
                                              (int64_t)(s->bytes - at), &c);
        if (n == 0) return qni_jinja_fail(p->r, "a string that is not UTF-8");
        char letter = at < s->bytes ? short_escape(p, c, quote) : 0;
        bool plain =
            !letter && (p->json ? c >= 0x20 && !(p->json->ascii && c > 0x7E) : printable(c));
        if (at < s->bytes && plain) {
            at += (size_t)n;
            continue;
        }
        QN_TRY(put(p, s->text + from, at - from));
        if (at == s->bytes) break;
        QN_TRY(letter ? put(p, (char[]){'\\', letter}, 2) : put_code(p, c));
        at += (size_t)n;
        from = at;
    }
    return put(p, &quote, 1);
}

/* ---- values ---------------------------------------------------------------------------------- */

static qn_status put_value(printer *p, const qni_jval *v);

static qn_status new_line(const printer *p) {
    if (!p->json || !p->json->indent) return QN_OK;
    QN_TRY(put_text(p, "\n"));
    for (int i = 0; i < p->depth; i++) {
        QN_TRY(put(p, p->json->indent->text, p->json->indent->bytes));
    }
    return QN_OK;
}

static qn_status between(const printer *p, const qni_jstring *json, const char *other) {
    return p->json ? put(p, json->text, json->bytes) : put_text(p, other);
}

static qn_status put_list(printer *p, const qni_jval *v) {
    const qni_jlist *list = v->as.list;
    bool round = v->kind == QNI_J_TUPLE && !p->json;
    QN_TRY(put_text(p, round ? "(" : "["));
    for (int64_t i = 0; i < list->count; i++) {
        if (i) QN_TRY(between(p, p->json ? p->json->between_items : NULL, ", "));
        QN_TRY(new_line(p));
        QN_TRY(put_value(p, &list->items[i]));
    }
    p->depth--;
    if (list->count) QN_TRY(new_line(p));
    p->depth++;
    return put_text(p, !round ? "]" : list->count == 1 ? ",)" : ")");
}

static qn_status put_key(printer *p, const qni_jval *key) {
    if (!p->json || key->kind == QNI_J_STRING) return put_value(p, key);
    QN_TRY(put_text(p, "\""));
    QN_TRY(put_value(p, key));
    return put_text(p, "\"");
}

/* The places of a dict's members in the order of their keys. */
static qn_status sorted_members(printer *p, const qni_jdict *dict, int64_t **out) {
    int64_t *order;
    QN_TRY(qni_jinja_alloc(p->r, (size_t)dict->count * sizeof *order + 1, &order));
    for (int64_t i = 0; i < dict->count; i++) {
        int64_t at = i;
        for (; at > 0 && p->json && p->json->sorted; at--) {
            bool less;
            QN_TRY(qni_jinja_less(p->r, &dict->keys[i], &dict->keys[order[at - 1]], &less));
            if (!less) break;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    *out = order;
    return QN_OK;
}

static qn_status put_dict(printer *p, const qni_jdict *dict) {
    int64_t *order;
    QN_TRY(sorted_members(p, dict, &order));
    QN_TRY(put_text(p, "{"));
    for (int64_t i = 0; i < dict->count; i++) {
        if (i) QN_TRY(between(p, p->json ? p->json->between_items : NULL, ", "));
        QN_TRY(new_line(p));
        QN_TRY(put_key(p, &dict->keys[order[i]]));
        QN_TRY(between(p, p->json ? p->json->after_key : NULL, ": "));
        QN_TRY(put_value(p, &dict->values[order[i]]));
    }
    p->depth--;
    if (dict->count) QN_TRY(new_line(p));
    p->depth++;
    return put_text(p, "}");
}

static qn_status put_value(printer *p, const qni_jval *v) {
    qn_status status;
    switch (v->kind) {
    case QNI_J_NONE: return put_text(p, p->json ? "null" : "None");
    case QNI_J_BOOL:
        return put_text(p, p->json ? (v->as.b ? "true" : "false") : (v->as.b ? "True" : "False"));
    case QNI_J_INT: return put_int(p, v->as.i);
    case QNI_J_FLOAT: return put_float(p, v->as.d);
    case QNI_J_STRING: return put_quoted(p, v->as.s);
    case QNI_J_UNDEFINED:
        if (!p->json) return put_text(p, "Undefined");
        return qni_jinja_undefined_error(p->r, v);
    case QNI_J_LIST:
    case QNI_J_TUPLE:
    case QNI_J_DICT:
        if (++p->depth > QNI_J_MAX_NESTING) return qni_jinja_fail(p->r, "a value nested too deep");
        status = v->kind == QNI_J_DICT ? put_dict(p, v->as.dict) : put_list(p, v);
        p->depth--;
        return status;
    default: return qni_jinja_fail(p->r, "%s cannot be written as text", qni_jinja_kind_name(v));
    }
}

qn_status qni_jinja_print(qni_jrun *r, const qni_jval *v) {
    if (v->kind == QNI_J_STRING) return qni_jinja_emit(r, v->as.s->text, v->as.s->bytes);
    if (v->kind == QNI_J_UNDEFINED) return QN_OK;
    return put_value(&(printer){.r = r, .to = &r->out}, v);
}

static qn_status to_string(printer *p, const qni_jval *v, qni_jval *out) {
    qn_text text = {0};
    p->to = &text;
    qn_status status = put_value(p, v);
    if (status == QN_OK) return qni_jinja_take(p->r, &text, out);
    qn_text_free(&text);
    return status;
}

qn_status qni_jinja_text(qni_jrun *r, const qni_jval *v, qni_jval *out) {
    if (v->kind == QNI_J_STRING) {
        *out = *v;
        return QN_OK;
    }
    if (v->kind == QNI_J_UNDEFINED) return qni_jinja_borrow(r, "", 0, out);
    return to_string(&(printer){.r = r}, v, out);
}

qn_status qni_jinja_json(qni_jrun *r, const qni_jval *v, const qni_jjson *style, qni_jval *out) {
    return to_string(&(printer){.r = r, .json = style}, v, out);
}
