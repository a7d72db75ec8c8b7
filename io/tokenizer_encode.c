/* tokenizer_encode.c — from text to ids: added tokens, normalizers, splitters, model, template.
 *
 * Pieces go down the steps one at a time, so a long text needs no list of them. A call works in a
 * scratch that is taken from the tokenizer's idle ones; what the model made of short pieces is
 * remembered there, in lines of two cache lines, the newest piece replacing the one in its place.
 */
#include "io/tokenizer_parts.h"

#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { CACHE_LINES = 1 << 15, CACHE_TEXT = 56, CACHE_IDS = 12 };

typedef struct line {
    uint64_t hash; /* of the piece; 0 with bytes 0: empty */
    uint8_t bytes, n;
    char text[CACHE_TEXT];
    uint8_t length[CACHE_IDS];
    int32_t id[CACHE_IDS];
} line;

typedef struct qni_scratch {
    struct qni_scratch *next;
    qni_string buffer[2]; /* of the normalizers */
    qni_string level[QNI_MAX_STEPS];
    qni_memory memory;
    qni_tokens tokens;
    line *cache;
} scratch;

struct qni_walk {
    const qn_tokenizer *t;
    scratch *s;
    qn_ids *out;
    bool offsets, parse_special;
};

/* ---- scratch --------------------------------------------------------------------------------- */

static void free_scratch(scratch *s) {
    for (int i = 0; i < 2; i++) qni_string_free(&s->buffer[i]);
    for (int i = 0; i < QNI_MAX_STEPS; i++) qni_string_free(&s->level[i]);
    qn_free(s->memory.data);
    qn_free(s->tokens.token);
    qn_free(s->cache);
    qn_free(s);
}

void qni_scratch_free_all(scratch *s) {
    for (scratch *next; s; s = next) {
        next = s->next;
        free_scratch(s);
    }
}

static scratch *take(const qn_tokenizer *t) {
    qn_tokenizer *shared = (qn_tokenizer *)(uintptr_t)t; /* the lock and what it guards */
    pthread_mutex_lock(&shared->lock);
    scratch *s = shared->idle;
    if (s) shared->idle = s->next;
    pthread_mutex_unlock(&shared->lock);
    if (s) return s;
    s = qn_alloc(sizeof *s, "tokenizer");
    if (!s || !t->model->remember) return s;
    s->cache = qn_alloc(CACHE_LINES * sizeof *s->cache, "remembered pieces of a tokenizer");
    if (s->cache) return s;
    qn_free(s);
    return NULL;
}

static void put_back(const qn_tokenizer *t, scratch *s) {
    qn_tokenizer *shared = (qn_tokenizer *)(uintptr_t)t;
    pthread_mutex_lock(&shared->lock);
    s->next = shared->idle;
    shared->idle = s;
    pthread_mutex_unlock(&shared->lock);
}

/* ---- the model ------------------------------------------------------------------------------- */

static qn_status take_tokens(struct qni_walk *w, const qni_piece *p) {
    const qni_tokens *t = &w->s->tokens;
    QN_TRY(qni_ids_reserve(w->out, t->n, w->offsets));
    int64_t at = 0;
    for (int64_t i = 0; i < t->n; at += t->token[i++].bytes) {
        if (t->token[i].id < 0) continue;
        if (w->offsets) w->out->start[w->out->n] = qni_piece_origin(p, at);
        w->out->id[w->out->n++] = t->token[i].id;
    }
    return QN_OK;
}

static void remember(line *l, uint64_t hash, const qni_piece *p, const qni_tokens *t) {
    l->hash = hash;
    l->bytes = (uint8_t)p->bytes;
    l->n = (uint8_t)t->n;
    memcpy(l->text, p->text, (size_t)p->bytes);
    for (int i = 0; i < l->n && i < CACHE_IDS; i++) {
        l->id[i] = t->token[i].id;
        l->length[i] = (uint8_t)t->token[i].bytes;
    }
}

/* The remembered line as it stands in the list of ids. */
static qn_status take_line(struct qni_walk *w, const qni_piece *p, const line *l) {
    if (!w->offsets && w->out->capacity - w->out->n >= CACHE_IDS) {
        memcpy(w->out->id + w->out->n, l->id, sizeof l->id);
        w->out->n += l->n;
        return QN_OK;
    }
    QN_TRY(qni_ids_reserve(w->out, CACHE_IDS, w->offsets));
    int64_t at = 0;
    for (int i = 0; i < l->n; at += l->length[i++]) {
        if (w->offsets) w->out->start[w->out->n] = qni_piece_origin(p, at);
        w->out->id[w->out->n++] = l->id[i];
    }
    return QN_OK;
}

static qn_status run_model(struct qni_walk *w, const qni_piece *p) {
    scratch *s = w->s;
    line *l = NULL;
    uint64_t hash = 0;
    if (s->cache && p->bytes <= CACHE_TEXT) {
        hash = XXH3_64bits(p->text, (size_t)p->bytes);
        l = &s->cache[hash % CACHE_LINES];
        if (l->hash == hash && l->bytes == p->bytes &&
            memcmp(l->text, p->text, (size_t)p->bytes) == 0)
            return take_line(w, p, l);
    }
    s->tokens.n = 0;
    QN_TRY(w->t->model->encode(w->t->model, &s->memory, p->text, p->bytes, &s->tokens));
    bool whole = true; /* a line holds tokens only */
    for (int64_t i = 0; i < s->tokens.n; i++) whole = whole && s->tokens.token[i].id >= 0;
    if (l && whole && s->tokens.n <= CACHE_IDS) remember(l, hash, p, &s->tokens);
    return take_tokens(w, p);
}

/* ---- the steps ------------------------------------------------------------------------------- */

qn_status qni_walk_next(struct qni_walk *w, int depth, const qni_piece *piece) {
    if (piece->bytes == 0) return QN_OK;
    if (++depth < w->t->n_splitters) {
        const qni_splitter *s = w->t->splitter[depth];
        return s->split(s, w, depth, piece);
    }
    return run_model(w, piece);
}

qni_string *qni_walk_string(struct qni_walk *w, int depth) {
    qni_string *s = &w->s->level[depth];
    qni_string_clear(s);
    s->tracked = w->offsets;
    return s;
}

qn_status qni_normalize(const qn_tokenizer *t, qni_string buffer[2], qni_piece *piece) {
    int into = 0;
    for (int i = 0; i < t->n_normalizers; i++) {
        const qni_normalizer *n = t->normalizer[i];
        bool same = false;
        qni_string *out = &buffer[into];
        qni_string_clear(out);
        QN_TRY(n->apply(n, piece, out, &same));
        if (same) continue;
        QN_TRY(out->status);
        bool first = piece->first;
        int64_t at = qni_piece_origin(piece, 0);
        *piece = qni_piece_of(out);
        piece->first = first;
        if (!out->length) *piece = (qni_piece){.text = "", .at = at, .first = first};
        into = 1 - into;
    }
    return QN_OK;
}

static qn_status take_match(struct qni_walk *w, const qni_piece *p, const qni_match *m) {
    QN_TRY(qni_ids_reserve(w->out, 1, w->offsets));
    return qn_ids_add(w->out, m->id, w->offsets ? qni_piece_origin(p, m->begin) : 0);
}

/* Splits what lies between the added tokens of normalised text. */
static qn_status walk_normalized(struct qni_walk *w, const qni_piece *p) {
    int64_t search = 0, from = 0;
    for (qni_match m; qni_match_next(w->t->normal, p, w->parse_special, &search, from, &m);) {
        qni_piece part = qni_piece_part(p, from, m.begin > from ? m.begin : from);
        QN_TRY(qni_walk_next(w, -1, &part));
        QN_TRY(take_match(w, p, &m));
        from = m.end;
    }
    qni_piece rest = qni_piece_part(p, from, p->bytes);
    return qni_walk_next(w, -1, &rest);
}

static qn_status walk_raw(struct qni_walk *w, qni_piece part) {
    if (part.bytes == 0) return QN_OK;
    for (int i = 0; i < 2; i++) w->s->buffer[i].tracked = w->offsets;
    QN_TRY(qni_normalize(w->t, w->s->buffer, &part));
    return walk_normalized(w, &part);
}

static qn_status check_utf8(const char *text, int64_t bytes) {
    const unsigned char *p = (const unsigned char *)text;
    for (int64_t at = 0; at < bytes;) {
        uint64_t eight;
        if (bytes - at >= 8 && (memcpy(&eight, p + at, 8), !(eight & 0x8080808080808080u))) {
            at += 8;
            continue;
        }
        uint32_t c;
        int n = qn_utf8_next(p + at, bytes - at, &c);
        if (n == 0)
            return qn_fail(QN_ERR_DATA, "text: found byte 0x%02X at offset %lld, expected UTF-8",
                           p[at], (long long)at);
        at += n;
    }
    return QN_OK;
}

static qn_status encode_vocab(const qn_tokenizer *t, const char *text, int64_t bytes, bool offsets,
                              qn_ids *out) {
    int64_t n = 0;
    if (bytes == 0) return QN_OK;
    QN_TRY(qni_ids_reserve(out, bytes, offsets));
    QN_TRY(qn_vocab_encode(t->vocab, text, bytes, out->id + out->n, &n));
    for (int64_t i = 0, at = 0; offsets && i < n; i++) {
        out->start[out->n + i] = at;
        at += t->table.entry[out->id[out->n + i]].bytes;
    }
    out->n += n;
    return QN_OK;
}

/* The ids of a text without a template. */
static qn_status encode_text(const qn_tokenizer *t, const char *text, int64_t bytes,
                             const qn_encode_options *o, qn_ids *out) {
    if (bytes > INT32_MAX)
        return qn_fail(QN_ERR_DATA, "text: found %lld bytes, expected at most %d at once",
                       (long long)bytes, INT32_MAX);
    if (t->vocab) return encode_vocab(t, text, bytes, o->offsets, out);
    QN_TRY(check_utf8(text, bytes));
    scratch *s = take(t);
    if (!s) return QN_ERR_OOM;
    struct qni_walk w = {t, s, out, o->offsets, o->parse_special};
    qn_status status = qni_ids_reserve(out, bytes / 4 + 1, o->offsets);
    qni_piece p = {.text = text, .bytes = bytes, .first = true};
    int64_t search = 0, from = 0;
    for (qni_match m;
         status == QN_OK && qni_match_next(t->raw, &p, o->parse_special, &search, from, &m);) {
        status = walk_raw(&w, qni_piece_part(&p, from, m.begin > from ? m.begin : from));
        if (status == QN_OK) status = take_match(&w, &p, &m);
        from = m.end;
    }
    if (status == QN_OK) status = walk_raw(&w, qni_piece_part(&p, from, bytes));
    put_back(t, s);
    return status;
}

/* ---- templates ------------------------------------------------------------------------------- */

qn_status qn_tokenizer_encode(const qn_tokenizer *t, const char *text, int64_t bytes,
                              const qn_encode_options *o, qn_ids *ids) {
    const int64_t before = ids->n;
    const bool around = o->add_special && t->single.n > 0;
    qn_status status = o->offsets ? qni_ids_reserve(ids, 1, true) : QN_OK;
    for (int i = 0; status == QN_OK && i < (around ? t->single.n : 1); i++) {
        const qni_template_item *item = &t->single.item[i];
        if (!around || item->id < 0)
            status = encode_text(t, text, bytes, o, ids);
        else
            status = qn_ids_add(ids, item->id, ids->n > before ? bytes : 0);
    }
    if (status != QN_OK) ids->n = before;
    return status;
}

qn_status qn_tokenizer_encode_pair(const qn_tokenizer *t, const char *a, int64_t a_bytes,
                                   const char *b, int64_t b_bytes, const qn_encode_options *o,
                                   qn_ids *ids, qn_ids *types) {
    static const qni_template plain = {{{-1, 0}, {-2, 1}}, 2};
    const qni_template *template = o->add_special && t->pair.n > 0 ? &t->pair : &plain;
    qn_encode_options options = *o;
    options.offsets = false;
    const int64_t before = ids->n, types_before = types->n;
    qn_status status = QN_OK;
    for (int i = 0; status == QN_OK && i < template->n; i++) {
        const qni_template_item *item = &template->item[i];
        int64_t from = ids->n;
        if (item->id >= 0)
            status = qn_ids_add(ids, item->id, 0);
        else if (item->id == -1)
            status = encode_text(t, a, a_bytes, &options, ids);
        else
            status = encode_text(t, b, b_bytes, &options, ids);
        for (int64_t j = from; status == QN_OK && j < ids->n; j++)
            status = qn_ids_add(types, item->type, 0);
    }
    if (status == QN_OK) return QN_OK;
    ids->n = before;
    types->n = types_before;
    return status;
}
