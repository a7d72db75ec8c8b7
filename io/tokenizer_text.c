/* tokenizer_text.c — strings that know where they came from, pieces of them, and the character
 * classes that tokenizers cut by. */
#include "io/tokenizer_parts.h"

#include <string.h>
#include <utf8proc.h>

/* ---- strings --------------------------------------------------------------------------------- */

static bool reserve(qni_string *s, int64_t more) {
    if (s->status != QN_OK) return false;
    if (s->capacity - s->length >= more && (!s->tracked || s->origin)) return true;
    int64_t capacity = s->capacity ? s->capacity : 256;
    while (capacity - s->length < more) capacity *= 2;
    char *data = qn_realloc(s->data, (size_t)s->capacity, (size_t)capacity, "text of a tokenizer");
    if (data) s->data = data;
    int64_t *origin = s->origin;
    if (data && s->tracked)
        origin = qn_realloc(s->origin, s->origin ? (size_t)s->capacity * sizeof *origin : 0,
                            (size_t)capacity * sizeof *origin, "offsets of a tokenizer");
    if (!data || (s->tracked && !origin)) {
        s->status = QN_ERR_OOM;
        return false;
    }
    s->origin = origin;
    s->capacity = capacity;
    return true;
}

void qni_string_clear(qni_string *s) {
    s->length = 0;
    s->status = QN_OK;
}

void qni_string_free(qni_string *s) {
    qn_free(s->data);
    qn_free(s->origin);
    *s = (qni_string){0};
}

void qni_string_put(qni_string *s, const char *bytes, int64_t n, const qni_piece *from,
                    int64_t at) {
    if (n == 0 || !reserve(s, n)) return;
    memcpy(s->data + s->length, bytes, (size_t)n);
    if (s->tracked) {
        int64_t origin = qni_piece_origin(from, at);
        for (int64_t i = 0; i < n; i++) s->origin[s->length + i] = origin;
    }
    s->length += n;
}

void qni_string_copy(qni_string *s, const qni_piece *from, int64_t begin, int64_t end) {
    if (end == begin || !reserve(s, end - begin)) return;
    memcpy(s->data + s->length, from->text + begin, (size_t)(end - begin));
    if (s->tracked)
        for (int64_t i = begin; i < end; i++)
            s->origin[s->length + i - begin] = qni_piece_origin(from, i);
    s->length += end - begin;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

qni_piece qni_piece_of(const qni_string *s) {
    return (qni_piece){
        .text = s->data, .bytes = s->length, .origin = s->tracked ? s->origin : NULL};
}

qni_piece qni_piece_part(const qni_piece *p, int64_t begin, int64_t end) {
    return (qni_piece){.text = p->text + begin,
                       .bytes = end - begin,
                       .origin = p->origin ? p->origin + begin : NULL,
                       .at = p->at + begin,
                       .first = p->first && begin == 0};
}

int64_t qni_piece_origin(const qni_piece *p, int64_t at) {
    if (!p->origin) return p->at + at;
    if (at < p->bytes) return p->origin[at];
    return p->bytes ? p->origin[p->bytes - 1] : p->at;
}

qn_status qni_tokens_reserve(qni_tokens *t, int64_t more) {
    if (t->capacity - t->n >= more) return QN_OK;
    int64_t capacity = t->capacity ? t->capacity : 64;
    while (capacity - t->n < more) capacity *= 2;
    qni_token *token = qn_realloc(t->token, (size_t)t->capacity * sizeof *token,
                                  (size_t)capacity * sizeof *token, "tokens");
    if (!token) return QN_ERR_OOM;
    t->token = token;
    t->capacity = capacity;
    return QN_OK;
}

void *qni_memory_get(qni_memory *m, size_t bytes) {
    if (m->bytes >= bytes) return m->data;
    size_t size = m->bytes * 2 > bytes ? m->bytes * 2 : bytes;
    void *data = qn_realloc(m->data, size, size, "working memory of a tokenizer");
    if (!data) return NULL;
    m->data = data;
    m->bytes = size;
    return data;
}

/* ---- characters ------------------------------------------------------------------------------ */

uint32_t qni_char_at(const char *text, int64_t at, int *length) {
    const unsigned char *p = (const unsigned char *)text + at;
    if (p[0] < 0x80) {
        *length = 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *length = 2;
        return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    }
    if (p[0] < 0xF0) {
        *length = 3;
        return (p[0] & 0xFu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    }
    *length = 4;
    return (p[0] & 7u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
}

uint32_t qni_char_before(const char *text, int64_t at, int *length) {
    int64_t begin = at - 1;
    while (((unsigned char)text[begin] & 0xC0) == 0x80) begin--;
    return qni_char_at(text, begin, length);
}

bool qni_is_space(uint32_t c) {
    if (c < 0x80) return (c >= 9 && c <= 13) || c == 32;
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static utf8proc_category_t category(uint32_t c) { return utf8proc_category((utf8proc_int32_t)c); }

bool qni_is_letter(uint32_t c) {
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool qni_is_number(uint32_t c) {
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

bool qni_is_punctuation(uint32_t c) {
    if (c < 0x80)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
               (c >= 123 && c <= 126);
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

/* Other_Alphabetic beyond letters, letter numbers and marks: the circled and squared letters. */
static bool is_other_alphabetic(uint32_t c) {
    return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

bool qni_is_word(uint32_t c) {
    if (c < 0x80)
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
               c == '_';
    utf8proc_category_t k = category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC ||
           c == 0x200C || c == 0x200D || is_other_alphabetic(c);
}
