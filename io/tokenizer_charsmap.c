/* tokenizer_charsmap.c — SentencePiece's compiled character map, and how Hugging Face tokenizers
 * apply it.
 *
 * A unit of the array is 32 bits: bits 0-7 and 31 are its label, bit 8 says that a key ends here,
 * bits 10-30 are the offset to its children (times 256 if bit 9 is set); the unit that holds a
 * value has bit 31 set and the place of the replacement below it. Nothing in the array is believed:
 * every index and every value is compared with the sizes.
 */
#include "io/tokenizer_charsmap.h"

#include <string.h>
#include <utf8proc.h>

static uint32_t load_u32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

qn_status qni_charsmap_read(qn_setup *arena, const void *blob, int64_t bytes, qni_charsmap *out) {
    const unsigned char *p = blob;
    *out = (qni_charsmap){0};
    if (bytes == 0) return QN_OK;
    int64_t array = bytes > 4 ? load_u32(p) : 0;
    if (array < 4 || array % 4 != 0 || array > bytes - 4 - 1)
        return qn_fail(QN_ERR_FORMAT,
                       "character map: found %lld bytes with an array of %lld, expected an array "
                       "of whole units and replacements after it",
                       (long long)bytes, (long long)array);
    int64_t text = bytes - 4 - array;
    const char *replacements = (const char *)p + 4 + array;
    if (replacements[text - 1] != '\0' || !qn_utf8_valid(replacements, (size_t)text))
        return qn_fail(QN_ERR_FORMAT,
                       "character map: found replacements that are not NUL-ended UTF-8");
    uint32_t *unit = qn_setup_alloc(arena, (size_t)array);
    char *copy = qn_setup_alloc(arena, (size_t)text);
    if (!unit || !copy) return QN_ERR_OOM;
    for (int64_t i = 0; i < array / 4; i++) unit[i] = load_u32(p + 4 + 4 * i);
    memcpy(copy, replacements, (size_t)text);
    *out = (qni_charsmap){unit, array / 4, copy, text};
    return QN_OK;
}

static uint32_t offset_of(uint32_t unit) { return unit >> 10 << (unit >> 6 & 8); }

const char *qni_charsmap_match(const qni_charsmap *m, const char *text, int64_t bytes, bool longest,
                               int64_t *length) {
    const char *found = NULL;
    if (m->units == 0) return NULL;
    uint32_t place = offset_of(m->unit[0]);
    for (int64_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        place ^= c;
        if (place >= m->units || (m->unit[place] & 0x800000FFu) != c) break;
        bool ends = m->unit[place] >> 8 & 1;
        place ^= offset_of(m->unit[place]);
        bool whole = i + 1 == bytes || (text[i + 1] & 0xC0) != 0x80; /* characters are not cut */
        if (!ends || !whole) continue;
        int64_t value = place < m->units ? m->unit[place] & 0x7FFFFFFFu : m->bytes;
        if (value >= m->bytes || (m->text[value] & 0xC0) == 0x80) break;
        found = m->text + value;
        *length = i + 1;
        if (!longest) break;
    }
    return found;
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */

/* The reference goes from grapheme to grapheme: one of less than 6 bytes is replaced as a whole by
 * what the shortest string it begins with becomes; else its characters are, one by one. */
typedef struct precompiled {
    qni_normalizer base;
    qni_charsmap map;
} precompiled;

static void replace(const precompiled *p, const qni_piece *in, int64_t from, int64_t to,
                    qni_string *out) {
    int64_t unused;
    const char *r = NULL;
    if (to - from < 6) r = qni_charsmap_match(&p->map, in->text + from, to - from, false, &unused);
    if (r) {
        qni_string_put(out, r, (int64_t)strlen(r), in, from);
        return;
    }
    for (int64_t at = from; at < to;) {
        int length;
        (void)qni_char_at(in->text, at, &length);
        r = qni_charsmap_match(&p->map, in->text + at, length, false, &unused);
        if (r)
            qni_string_put(out, r, (int64_t)strlen(r), in, at);
        else
            qni_string_copy(out, in, at, at + length);
        at += length;
    }
}

static qn_status apply(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                       bool *same) {
    (void)same;
    int64_t start = 0, at = 0;
    utf8proc_int32_t state = 0, previous = 0;
    while (at < in->bytes) {
        int length;
        utf8proc_int32_t c = (utf8proc_int32_t)qni_char_at(in->text, at, &length);
        if (at > 0 && utf8proc_grapheme_break_stateful(previous, c, &state)) {
            replace((const precompiled *)self, in, start, at, out);
            start = at;
        }
        previous = c;
        at += length;
    }
    replace((const precompiled *)self, in, start, at, out);
    return out->status;
}

qn_status qni_read_precompiled(qn_tokenizer *t, const cJSON *json) {
    const char *text = NULL;
    QN_TRY(qni_json_string(json, "precompiled_charsmap", false, &text));
    precompiled *p = QNI_STEP(t, precompiled);
    int64_t room = (int64_t)strlen(text) / 4 * 3 + 3, bytes = 0;
    char *blob = qn_setup_alloc(t->arena, (size_t)room);
    if (!p || !blob) return QN_ERR_OOM;
    bytes = qni_base64(text, (int64_t)strlen(text), blob);
    if (bytes < 0) return qni_json_fail(json, "precompiled_charsmap: expected base64");
    QN_TRY(qni_charsmap_read(t->arena, blob, bytes, &p->map));
    p->base.apply = apply;
    return qni_add_normalizer(t, &p->base);
}
