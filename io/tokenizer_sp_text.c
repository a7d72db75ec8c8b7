/* tokenizer_sp_text.c — SentencePiece's treatment of text: what it does before the model sees it,
 * and how pieces become text again.
 *
 * In: the longest string of the character map at each place is replaced (user-defined symbols are
 * not touched); with remove_extra_whitespaces, runs of spaces become one and those at both ends go;
 * a space is put before the text (after it, for models with spaces as suffixes); spaces become
 * U+2581.
 * Out: U+2581 becomes a space, but not the one that was put before the text; byte pieces in a row
 * are UTF-8, in which every byte that is none becomes U+FFFD.
 */
#include "io/tokenizer_sentencepiece.h"

#include <string.h>

static const char space_mark[] = "\xE2\x96\x81"; /* U+2581 */
enum { MARK = 3 };

/* ---- in -------------------------------------------------------------------------------------- */

typedef struct prefix { /* what is at the beginning of a text, and what it becomes */
    const char *text;
    int64_t bytes;
    int64_t length; /* of the original */
} prefix;

static prefix next_prefix(const qni_sp_normalizer *n, const char *text, int64_t bytes) {
    int32_t unused;
    int64_t length = qni_trie_longest(&n->defined, text, bytes, &unused);
    if (length) return (prefix){text, length, length};
    const char *to = qni_charsmap_match(&n->map, text, bytes, true, &length);
    if (to) return (prefix){to, (int64_t)strlen(to), length};
    int one;
    (void)qni_char_at(text, 0, &one);
    return (prefix){text, one, one};
}

static void put_space(const qni_sp_normalizer *n, const qni_piece *in, int64_t at,
                      qni_string *out) {
    qni_string_put(out, n->escape_spaces ? space_mark : " ", n->escape_spaces ? MARK : 1, in, at);
}

static void put(const qni_sp_normalizer *n, const prefix *p, int64_t skip, const qni_piece *in,
                int64_t at, qni_string *out) {
    for (int64_t from = skip; from < p->bytes;) {
        const char *space =
            n->escape_spaces ? memchr(p->text + from, ' ', (size_t)(p->bytes - from)) : NULL;
        int64_t to = space ? space - p->text : p->bytes;
        qni_string_put(out, p->text + from, to - from, in, at);
        if (space) put_space(n, in, at, out);
        from = space ? to + 1 : to;
    }
}

static void drop_trailing_spaces(const qni_sp_normalizer *n, qni_string *out) {
    int64_t mark = n->escape_spaces ? MARK : 1;
    const char *space = n->escape_spaces ? space_mark : " ";
    while (out->length >= mark && memcmp(out->data + out->length - mark, space, (size_t)mark) == 0)
        out->length -= mark;
}

static qn_status normalize(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                           bool *same) {
    (void)same;
    const qni_sp_normalizer *n = (const qni_sp_normalizer *)self;
    int64_t at = 0;
    while (n->remove_spaces && at < in->bytes) {
        prefix p = next_prefix(n, in->text + at, in->bytes - at);
        if (p.bytes != 1 || p.text[0] != ' ') break;
        at += p.length;
    }
    if (at == in->bytes) return QN_OK;
    bool prefix_here = n->dummy_prefix && (in->first || !n->first_only);
    if (prefix_here && !n->space_suffix) put_space(n, in, at, out);
    bool after_space = n->remove_spaces;
    while (at < in->bytes) {
        prefix p = next_prefix(n, in->text + at, in->bytes - at);
        int64_t skip = 0;
        while (after_space && skip < p.bytes && p.text[skip] == ' ') skip++;
        put(n, &p, skip, in, at, out);
        if (skip < p.bytes) after_space = n->remove_spaces && p.text[p.bytes - 1] == ' ';
        at += p.length;
    }
    if (n->remove_spaces && out->status == QN_OK) drop_trailing_spaces(n, out);
    if (prefix_here && n->space_suffix) put_space(n, in, in->bytes, out);
    return out->status;
}

void qni_sp_normalizer_init(qni_sp_normalizer *n) { n->base.apply = normalize; }

/* ---- out ------------------------------------------------------------------------------------- */

/* qni_decode_state: `held` are bytes of a character that is not complete yet; `started`: a space at
 * the beginning is no longer left out; `count`: there was such a space, or any text. */

static qn_status hand_on(const char *text, int64_t bytes, qni_decode_state *state,
                         struct qni_decoding *d, int depth) {
    if (bytes > 0) state->count = 1;
    return qni_decode_next(d, depth, &(qni_chunk){text, bytes, true, true});
}

/* How many bytes a character that begins with this one has; 0 if none does. */
static int64_t expected_length(unsigned char c) {
    return c < 0x80                ? 1
           : c >= 0xC2 && c < 0xE0 ? 2
           : c >= 0xE0 && c < 0xF0 ? 3
           : c >= 0xF0 && c < 0xF5 ? 4
                                   : 0;
}

/* Hands on what the held bytes say for certain; all of them if no more bytes come. */
static qn_status settle_bytes(qni_decode_state *state, bool more, struct qni_decoding *d,
                              int depth) {
    qn_text *held = &state->held;
    size_t at = 0;
    while (at < held->length) {
        const unsigned char *p = (const unsigned char *)held->data + at;
        int64_t left = (int64_t)(held->length - at);
        uint32_t character;
        int length = qn_utf8_next(p, left, &character);
        if (!length && more && left < expected_length(*p)) break;
        if (length)
            QN_TRY(hand_on((const char *)p, length, state, d, depth));
        else
            QN_TRY(hand_on("\xEF\xBF\xBD", 3, state, d, depth));
        at += length ? (size_t)length : 1;
    }
    if (at > 0) {
        memmove(held->data, held->data + at, held->length - at);
        held->length -= at;
    }
    return QN_OK;
}

/* A piece that is neither a byte nor the unknown one. */
static qn_status decode_piece(const qni_sp_decoder *s, qni_decode_state *state,
                              struct qni_decoding *d, int depth, const char *text, int64_t bytes) {
    bool left_out = false;
    if (!state->started && (s->dummy_prefix || s->remove_spaces) && bytes >= MARK &&
        memcmp(text, space_mark, MARK) == 0) {
        text += MARK;
        bytes -= MARK;
        left_out = !s->remove_spaces; /* those go on leaving out spaces until there is text */
    }
    while (bytes > 0) {
        const char *mark = memmem(text, (size_t)bytes, space_mark, MARK);
        int64_t before = mark ? mark - text : bytes;
        if (before) QN_TRY(hand_on(text, before, state, d, depth));
        if (mark) QN_TRY(hand_on(" ", 1, state, d, depth));
        text += before + (mark ? MARK : 0);
        bytes -= before + (mark ? MARK : 0);
    }
    if (left_out) state->count = 1;
    return QN_OK;
}

static qn_status push(const qni_decoder *self, qni_decode_state *state, struct qni_decoding *d,
                      int depth, const qni_chunk *chunk) {
    const qni_sp_decoder *s = (const qni_sp_decoder *)self;
    if (chunk->bytes == 6 && memcmp(chunk->text, "<0x", 3) == 0) {
        int32_t id = qni_table_find(s->table, chunk->text, 6);
        for (int b = 0; id >= 0 && b < 256; b++) {
            if (s->byte[b] != id) continue;
            char c = (char)b;
            qn_text_add_bytes(&state->held, &c, 1);
            if (state->held.status != QN_OK) return state->held.status;
            return settle_bytes(state, true, d, depth);
        }
    }
    QN_TRY(settle_bytes(state, false, d, depth));
    if (state->count) state->started = true;
    if (chunk->bytes == s->unknown.size &&
        memcmp(chunk->text, s->unknown.data, (size_t)chunk->bytes) == 0)
        return hand_on(s->unknown_surface.data, s->unknown_surface.size, state, d, depth);
    return decode_piece(s, state, d, depth, chunk->text, chunk->bytes);
}

static qn_status finish(const qni_decoder *self, qni_decode_state *state, struct qni_decoding *d,
                        int depth) {
    (void)self;
    return settle_bytes(state, false, d, depth);
}

void qni_sp_decoder_init(qni_sp_decoder *d) {
    d->base.push = push;
    d->base.finish = finish;
}
