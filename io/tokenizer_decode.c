/* tokenizer_decode.c — from ids to text: a chain of decoders that token strings are pushed through,
 * the same for a whole list and for a stream, so that both give the same text.
 */
#include "io/tokenizer_bpe.h"

#include <string.h>

struct qni_decoding {
    const qn_tokenizer *t;
    qni_decode_state state[QNI_MAX_STEPS];
    qn_text *out;
};

struct qn_token_stream {
    struct qni_decoding d;
    bool skip_special, started;
};

/* ---- the chain ------------------------------------------------------------------------------- */

qn_status qni_decode_next(struct qni_decoding *d, int depth, const qni_chunk *chunk) {
    if (++depth < d->t->n_decoders) {
        const qni_decoder *next = d->t->decoder[depth];
        return next->push(next, &d->state[depth], d, depth, chunk);
    }
    qn_text_add_bytes(d->out, chunk->text, (size_t)chunk->bytes);
    return d->out->status;
}

static void forget(struct qni_decoding *d) {
    for (int i = 0; i < QNI_MAX_STEPS; i++) {
        qn_text_free(&d->state[i].held);
        d->state[i] = (qni_decode_state){0};
    }
}

qn_status qn_token_stream_create(const qn_tokenizer *t, bool skip_special, qn_token_stream **out) {
    qn_token_stream *s = qn_alloc(sizeof *s, "token stream");
    if (!s) return QN_ERR_OOM;
    s->d.t = t;
    s->skip_special = skip_special;
    *out = s;
    return QN_OK;
}

void qn_token_stream_free(qn_token_stream *s) {
    if (!s) return;
    forget(&s->d);
    qn_free(s);
}

static qn_status push_vocab(const qn_tokenizer *t, int32_t id, qn_text *out) {
    char bytes[4];
    int n = 0;
    QN_TRY(qn_vocab_decode(t->vocab, id, bytes, &n));
    qn_text_add_bytes(out, bytes, (size_t)n);
    return out->status;
}

/* The text of a token that is looked for in normalised text, as the reference shows it. */
static const char *shown(const qn_tokenizer *t, int32_t id, int64_t *bytes) {
    const qni_added *a = t->added;
    while (a->id != id) a++;
    *bytes = a->shown_bytes;
    return a->shown;
}

qn_status qn_token_stream_push(qn_token_stream *s, int32_t id, qn_text *out) {
    const qn_tokenizer *t = s->d.t;
    if (t->vocab) return push_vocab(t, id, out);
    int64_t bytes = 0;
    const char *text = qn_tokenizer_token(t, id, &bytes);
    if (!text)
        return qn_fail(QN_ERR_DATA, "decode: found id %d, expected a token of the tokenizer (%lld)",
                       id, (long long)t->table.size);
    if (s->skip_special && qn_tokenizer_is_special(t, id)) return QN_OK;
    if (t->mark[id] & QNI_SHOWN) text = shown(t, id, &bytes);
    s->d.out = out;
    if (t->n_decoders == 0 && s->started) qn_text_add(out, " ");
    s->started = true;
    return qni_decode_next(&s->d, -1, &(qni_chunk){text, bytes, true, true});
}

qn_status qn_token_stream_finish(qn_token_stream *s, qn_text *out) {
    qn_status status = QN_OK;
    s->d.out = out;
    for (int i = 0; status == QN_OK && i < s->d.t->n_decoders; i++) {
        const qni_decoder *step = s->d.t->decoder[i];
        if (step->finish) status = step->finish(step, &s->d.state[i], &s->d, i);
    }
    forget(&s->d);
    s->started = false;
    return status;
}

qn_status qn_tokenizer_decode(const qn_tokenizer *t, const int32_t *ids, int64_t n,
                              bool skip_special, qn_text *out) {
    qn_token_stream s = {.d.t = t, .skip_special = skip_special};
    qn_status status = QN_OK;
    for (int64_t i = 0; status == QN_OK && i < n; i++)
        status = qn_token_stream_push(&s, ids[i], out);
    if (status == QN_OK) status = qn_token_stream_finish(&s, out);
    forget(&s.d);
    return status;
}

/* ---- byte level ------------------------------------------------------------------------------ */

/* How many bytes the longest prefix of p[0..n) takes that could still become a character (n is 1 at
 * least and p does not begin with a whole one): n if more bytes may complete it, else what becomes
 * one U+FFFD. */
static int64_t broken_prefix(const unsigned char *p, int64_t n) {
    unsigned low = 0x80, high = 0xBF;
    int64_t want = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4) return 1;
    if (p[0] == 0xE0) low = 0xA0;
    if (p[0] == 0xED) high = 0x9F;
    if (p[0] == 0xF0) low = 0x90;
    if (p[0] == 0xF4) high = 0x8F;
    int64_t i = 1;
    for (; i < want && i < n && p[i] >= low && p[i] <= high; i++) low = 0x80, high = 0xBF;
    return i;
}

/* Hands on what of `held` is certain; the rest, a character that has begun, stays. */
static qn_status pass_characters(qni_decode_state *s, struct qni_decoding *d, int depth, bool all) {
    const unsigned char *p = (const unsigned char *)s->held.data;
    int64_t n = (int64_t)s->held.length, at = 0, from = 0;
    qn_status status = QN_OK;
    while (status == QN_OK && at < n) {
        uint32_t c;
        int length = qn_utf8_next(p + at, n - at, &c);
        if (length > 0) {
            at += length;
            continue;
        }
        int64_t broken = broken_prefix(p + at, n - at);
        if (at + broken == n && !all && !(p[at] < 0xC2 || p[at] > 0xF4)) break;
        qni_chunk good = {s->held.data + from, at - from, true, true};
        if (at > from) status = qni_decode_next(d, depth, &good);
        if (status == QN_OK)
            status = qni_decode_next(d, depth, &(qni_chunk){"\xEF\xBF\xBD", 3, true, true});
        from = at += broken;
    }
    qni_chunk good = {s->held.data + from, at - from, true, true};
    if (status == QN_OK && at > from) status = qni_decode_next(d, depth, &good);
    if (at > 0) memmove(s->held.data, s->held.data + at, (size_t)(n - at));
    s->held.length = (size_t)(n - at);
    return status;
}

static qn_status push_bytes(const qni_decoder *self, qni_decode_state *s, struct qni_decoding *d,
                            int depth, const qni_chunk *c) {
    (void)self;
    char raw[256];
    int64_t n = c->bytes <= (int64_t)sizeof raw ? qni_spelling_bytes(c->text, c->bytes, raw) : -1;
    if (n < 0 && c->bytes > (int64_t)sizeof raw) {
        char *large = qn_alloc((size_t)c->bytes, "a long token");
        if (!large) return QN_ERR_OOM;
        n = qni_spelling_bytes(c->text, c->bytes, large);
        qn_text_add_bytes(&s->held, n < 0 ? c->text : large, (size_t)(n < 0 ? c->bytes : n));
        qn_free(large);
    } else {
        qn_text_add_bytes(&s->held, n < 0 ? c->text : raw, (size_t)(n < 0 ? c->bytes : n));
    }
    QN_TRY(s->held.status);
    return pass_characters(s, d, depth, false);
}

static qn_status finish_bytes(const qni_decoder *self, qni_decode_state *s, struct qni_decoding *d,
                              int depth) {
    (void)self;
    return s->held.length ? pass_characters(s, d, depth, true) : QN_OK;
}

static const qni_decoder byte_step = {push_bytes, finish_bytes};

qn_status qni_add_byte_decoder(qn_tokenizer *t) { return qni_add_decoder(t, &byte_step); }
