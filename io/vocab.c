/* vocab.c — byte and character vocabularies: encode, decode, save, load. */
#include "io/vocab.h"

#include <stdio.h>
#include <string.h>

enum { BYTES = 256, ASCII = 128, MAX_CHARACTER = 0x10FFFF };

struct qn_vocab {
    qn_vocab_kind kind;
    int64_t size;
    int32_t ascii[ASCII]; /* char vocabulary: id of each ASCII character or -1 */
    uint32_t codepoint[]; /* char vocabulary: sorted */
};

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

static bool is_scalar(uint32_t c) { return c <= MAX_CHARACTER && (c < 0xD800 || c > 0xDFFF); }

int qn_utf8_next(const unsigned char *p, int64_t bytes, uint32_t *character) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c = p[0];
    if (c < 0x80) {
        *character = c;
        return 1;
    }
    int n = c >= 0xF0 && c < 0xF8 ? 4 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xC0 && c < 0xE0 ? 2 : 0;
    if (n == 0 || n > bytes) return 0;
    c &= 0x7Fu >> n;
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (p[i] & 0x3Fu);
    }
    if (c < least[n] || !is_scalar(c)) return 0;
    *character = c;
    return n;
}

int qn_utf8_write(uint32_t c, char out[4]) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((0xF00 >> n & 0xFF) | c);
    return n;
}

/* ---- create ---------------------------------------------------------------------------------- */

qn_status qn_vocab_create_byte(qn_vocab **out) {
    qn_vocab *v = qn_alloc(sizeof *v, "byte vocabulary");
    if (!v) return QN_ERR_OOM;
    v->kind = QN_VOCAB_BYTE;
    v->size = BYTES;
    *out = v;
    return QN_OK;
}

qn_status qn_vocab_create_char(const uint32_t *codepoints, int64_t n, qn_vocab **out) {
    if (n < 1 || n > MAX_CHARACTER)
        return qn_fail(QN_ERR_FORMAT,
                       "vocabulary: found %lld characters, expected at least one and at most %d",
                       (long long)n, MAX_CHARACTER);
    for (int64_t i = 0; i < n; i++)
        if (!is_scalar(codepoints[i]) || (i > 0 && codepoints[i] <= codepoints[i - 1]))
            return qn_fail(QN_ERR_FORMAT,
                           "vocabulary: found U+%04X at place %lld, expected Unicode characters in "
                           "increasing order",
                           codepoints[i], (long long)i);
    qn_vocab *v = qn_alloc(sizeof *v + (size_t)n * sizeof v->codepoint[0], "char vocabulary");
    if (!v) return QN_ERR_OOM;
    v->kind = QN_VOCAB_CHAR;
    v->size = n;
    memset(v->ascii, -1, sizeof v->ascii);
    memcpy(v->codepoint, codepoints, (size_t)n * sizeof v->codepoint[0]);
    for (int64_t i = 0; i < n && codepoints[i] < ASCII; i++) v->ascii[codepoints[i]] = (int32_t)i;
    *out = v;
    return QN_OK;
}

qn_status qn_vocab_copy(const qn_vocab *v, qn_vocab **out) {
    return v->kind == QN_VOCAB_BYTE ? qn_vocab_create_byte(out)
                                    : qn_vocab_create_char(v->codepoint, v->size, out);
}

void qn_vocab_free(qn_vocab *v) { qn_free(v); }

qn_vocab_kind qn_vocab_get_kind(const qn_vocab *v) { return v->kind; }
int64_t qn_vocab_size(const qn_vocab *v) { return v->size; }

/* ---- encode and decode ----------------------------------------------------------------------- */

int32_t qn_vocab_id(const qn_vocab *v, uint32_t c) {
    if (v->kind == QN_VOCAB_BYTE) return c < BYTES ? (int32_t)c : -1;
    if (c < ASCII) return v->ascii[c];
    int64_t low = 0, high = v->size;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (v->codepoint[middle] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->size && v->codepoint[low] == c ? (int32_t)low : -1;
}

qn_status qn_vocab_encode(const qn_vocab *v, const char *text, int64_t bytes, int32_t *ids,
                          int64_t *count) {
    const unsigned char *p = (const unsigned char *)text;
    int64_t n = 0;
    for (int64_t at = 0; at < bytes; n++) {
        uint32_t c = p[at];
        int length = v->kind == QN_VOCAB_BYTE ? 1 : qn_utf8_next(p + at, bytes - at, &c);
        if (length == 0)
            return qn_fail(QN_ERR_DATA, "text: found byte 0x%02X at offset %lld, expected UTF-8",
                           p[at], (long long)at);
        ids[n] = qn_vocab_id(v, c);
        if (ids[n] < 0)
            return qn_fail(QN_ERR_DATA,
                           "text: found U+%04X at offset %lld, expected one of the vocabulary's "
                           "%lld characters",
                           c, (long long)at, (long long)v->size);
        at += length;
    }
    *count = n;
    return QN_OK;
}

qn_status qn_vocab_decode(const qn_vocab *v, int32_t id, char out[4], int *bytes) {
    if (id < 0 || id >= v->size)
        return qn_fail(QN_ERR_DATA, "vocabulary: found id %d, expected 0 to %lld", id,
                       (long long)v->size - 1);
    if (v->kind == QN_VOCAB_BYTE) {
        out[0] = (char)id;
        *bytes = 1;
    } else {
        *bytes = qn_utf8_write(v->codepoint[id], out);
    }
    return QN_OK;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static const char byte_json[] = "{\"type\":\"byte\"}",
                  char_json[] = "{\"type\":\"char\",\"codepoints\":[";

enum { DIGITS = 8 }; /* the longest code point, 1114111, and a comma */

qn_status qn_vocab_save(const qn_vocab *v, char **json) {
    if (v->kind == QN_VOCAB_BYTE) {
        *json = qn_strdup(byte_json, "vocabulary as JSON");
        return *json ? QN_OK : QN_ERR_OOM;
    }
    size_t room = sizeof char_json + (size_t)v->size * DIGITS + 2;
    char *text = qn_alloc(room, "vocabulary as JSON");
    if (!text) return QN_ERR_OOM;
    size_t at = (size_t)snprintf(text, room, "%s", char_json);
    for (int64_t i = 0; i < v->size; i++)
        at += (size_t)snprintf(text + at, room - at, "%s%u", i ? "," : "", v->codepoint[i]);
    snprintf(text + at, room - at, "]}");
    *json = text;
    return QN_OK;
}

static const char *skip_space(const char *p) { return p + strspn(p, " \t\r\n"); }

/* Matches the tokens of `pattern`, white space allowed between them; NULL if they differ. */
static const char *expect(const char *p, const char *pattern) {
    for (; *pattern; pattern++) {
        bool punctuation = strchr("{}[]:,", *pattern) != NULL;
        if (punctuation) p = skip_space(p);
        if (*p != *pattern) return NULL;
        p++;
        if (punctuation) p = skip_space(p);
    }
    return p;
}

static qn_status malformed(const char *json, const char *at, const char *expected) {
    return qn_fail(QN_ERR_FORMAT, "vocabulary: found '%.16s' at offset %lld, expected %s", at,
                   (long long)(at - json), expected);
}

/* A JSON number of at most 7 digits without a leading zero; NULL if p has none. */
static const char *read_codepoint(const char *p, uint32_t *out) {
    size_t digits = strspn(p, "0123456789");
    if (digits == 0 || digits >= DIGITS || (digits > 1 && *p == '0')) return NULL;
    *out = 0;
    for (size_t i = 0; i < digits; i++) *out = *out * 10 + (uint32_t)(p[i] - '0');
    return p + digits;
}

static qn_status load_char(const char *json, const char *p, qn_vocab **out) {
    qn_status status = QN_OK;
    /* Each number but the last is followed by a comma. */
    size_t commas = 0;
    for (const char *q = p; *q; q++) commas += *q == ',';
    uint32_t *codepoint = qn_alloc((commas + 1) * sizeof *codepoint, "vocabulary");
    if (!codepoint) return QN_ERR_OOM;
    int64_t n = 0;
    for (;; n++) {
        const char *end = read_codepoint(p, &codepoint[n]);
        if (!end) {
            status = malformed(json, p, "a code point");
            goto done;
        }
        p = skip_space(end);
        if (*p != ',') break;
        p = skip_space(p + 1);
    }
    const char *end = expect(p, "]}");
    if (!end || *end) {
        status = malformed(json, end ? end : p, "']}' and the end");
        goto done;
    }
    status = qn_vocab_create_char(codepoint, n + 1, out);
done:
    qn_free(codepoint);
    return status;
}

qn_status qn_vocab_load(const char *json, qn_vocab **out) {
    const char *p = expect(json, byte_json);
    if (p) return *p ? malformed(json, p, "the end") : qn_vocab_create_byte(out);
    p = expect(json, char_json);
    if (!p)
        return malformed(json, json,
                         "{\"type\":\"byte\"} or {\"type\":\"char\",\"codepoints\":[...]}");
    return load_char(json, p, out);
}
