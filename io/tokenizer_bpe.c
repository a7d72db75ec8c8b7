/* tokenizer_bpe.c — byte-pair encoding: merge the adjacent pair of lowest rank, leftmost first.
 *
 * Symbols are ids. Pairs of ids are looked up in one open-addressing table; in `by_rank` mode
 * (tiktoken) there is none: the rank of a pair is the id of the token that its bytes make. A short
 * piece is merged in an array by scanning for the lowest rank; a long one with a heap over a
 * linked list, whose entries are (rank, place) and are dropped when the pair at that place is no
 * longer the one they were made for. Both do the same merges in the same order.
 *
 * In `bytes` mode a piece is raw bytes (byte-level BPE, tiktoken); otherwise characters, with byte
 * fallback, prefix, suffix and unknown token as Hugging Face tokenizers define them.
 */
#include "io/tokenizer_bpe.h"

#include <stdio.h>
#include <string.h>

enum { SHORT = 48, NO_RANK = INT32_MAX };

/* ---- the table of pairs ---------------------------------------------------------------------- */

static uint64_t key_of(int32_t a, int32_t b) { return (uint64_t)(uint32_t)a << 32 | (uint32_t)b; }

static uint64_t spread(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return key ^ key >> 32;
}

static const qni_pair empty_pair = {UINT64_MAX, NO_RANK, -1};

static qni_pair *pair_at(const qni_bpe *m, uint64_t key) {
    uint64_t at = spread(key) & m->pair_mask;
    while (m->pair[at].key != key && m->pair[at].key != UINT64_MAX) at = (at + 1) & m->pair_mask;
    return &m->pair[at];
}

qn_status qni_bpe_create(qn_tokenizer *t, int64_t pairs, qni_bpe **out) {
    uint64_t slots = 64;
    while (slots < 2 * (uint64_t)pairs) slots *= 2;
    qni_bpe *m = qn_setup_alloc(t->arena, sizeof *m);
    qni_pair *pair = m ? qn_setup_alloc(t->arena, slots * sizeof *pair) : NULL;
    if (!pair) return QN_ERR_OOM;
    for (uint64_t i = 0; i < slots; i++) pair[i] = empty_pair;
    m->pair = pair;
    m->pair_mask = slots - 1;
    m->unk = -1;
    m->table = &t->table;
    memset(m->byte, -1, sizeof m->byte);
    memset(m->fallback, -1, sizeof m->fallback);
    *out = m;
    return QN_OK;
}

bool qni_bpe_add(qni_bpe *m, int32_t a, int32_t b, int32_t rank, int32_t id) {
    qni_pair *p = pair_at(m, key_of(a, b));
    if (p->key != UINT64_MAX) return false;
    *p = (qni_pair){key_of(a, b), rank, id};
    return true;
}

/* ---- merging --------------------------------------------------------------------------------- */

typedef struct merge {
    int32_t rank, id; /* NO_RANK: the pair is not merged */
} merge;

static merge merge_of(const qni_bpe *m, const char *piece, const qni_symbol *a,
                      const qni_symbol *b) {
    if (m->by_rank) {
        int32_t n = a->bytes + b->bytes;
        int32_t id = n <= m->longest ? qni_table_find(&m->raw, piece + a->at, n) : -1;
        return (merge){id < 0 ? NO_RANK : id, id};
    }
    if (a->id < 0 || b->id < 0) return (merge){NO_RANK, -1};
    const qni_pair *p = pair_at(m, key_of(a->id, b->id));
    return (merge){p->rank, p->id};
}

/* symbol[0..n) in place; returns how many are left. */
static int64_t merge_short(const qni_bpe *m, const char *piece, qni_symbol *s, int64_t n) {
    merge pair[SHORT]; /* of i and i + 1 */
    for (int64_t i = 0; i + 1 < n; i++) pair[i] = merge_of(m, piece, &s[i], &s[i + 1]);
    while (n > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < n; i++)
            if (pair[i].rank < pair[best].rank) best = i;
        if (pair[best].rank == NO_RANK) break;
        s[best].id = pair[best].id;
        s[best].bytes += s[best + 1].bytes;
        n--;
        for (int64_t i = best + 1; i < n; i++) {
            s[i] = s[i + 1];
            pair[i - 1] = pair[i]; /* the pair at best is made anew below */
        }
        if (best > 0) pair[best - 1] = merge_of(m, piece, &s[best - 1], &s[best]);
        if (best + 1 < n) pair[best] = merge_of(m, piece, &s[best], &s[best + 1]);
    }
    return n;
}

typedef struct heap {
    uint64_t *entry; /* rank << 32 | place */
    int64_t n;
} heap;

static void heap_push(heap *h, uint64_t e) {
    int64_t at = h->n++;
    for (int64_t up; at > 0 && h->entry[up = (at - 1) / 2] > e; at = up)
        h->entry[at] = h->entry[up];
    h->entry[at] = e;
}

static uint64_t heap_pop(heap *h) {
    uint64_t top = h->entry[0], e = h->entry[--h->n];
    int64_t at = 0;
    for (int64_t down; (down = 2 * at + 1) < h->n; at = down) {
        if (down + 1 < h->n && h->entry[down + 1] < h->entry[down]) down++;
        if (h->entry[down] >= e) break;
        h->entry[at] = h->entry[down];
    }
    h->entry[at] = e;
    return top;
}

static void queue_pair(const qni_bpe *m, const char *piece, const qni_symbol *s, int32_t left,
                       heap *h) {
    if (left < 0 || s[left].next < 0) return;
    int32_t rank = merge_of(m, piece, &s[left], &s[s[left].next]).rank;
    if (rank != NO_RANK) heap_push(h, (uint64_t)rank << 32 | (uint32_t)left);
}

/* Each merge queues at most two pairs. */
static int64_t merge_long(const qni_bpe *m, const char *piece, qni_symbol *s, int64_t n,
                          uint64_t *entry) {
    heap h = {entry, 0};
    for (int64_t i = 0; i < n; i++) {
        s[i].previous = (int32_t)i - 1;
        s[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (int64_t i = 0; i < n; i++) queue_pair(m, piece, s, (int32_t)i, &h);
    while (h.n > 0) {
        uint64_t top = heap_pop(&h);
        qni_symbol *left = &s[(uint32_t)top];
        if (left->bytes == 0 || left->next < 0) continue;
        qni_symbol *right = &s[left->next];
        merge pair = merge_of(m, piece, left, right);
        if ((uint64_t)pair.rank != top >> 32) continue;
        left->id = pair.id;
        left->bytes += right->bytes;
        right->bytes = 0;
        left->next = right->next;
        if (right->next >= 0) s[right->next].previous = (int32_t)(uint32_t)top;
        queue_pair(m, piece, s, left->previous, &h);
        queue_pair(m, piece, s, (int32_t)(uint32_t)top, &h);
    }
    int64_t left = 0;
    for (int64_t i = 0; i < n; i++)
        if (s[i].bytes > 0) s[left++] = s[i];
    return left;
}

int64_t qni_bpe_merge(const qni_bpe *m, const char *piece, qni_symbol *s, int64_t n, void *queue) {
    return n <= SHORT ? merge_short(m, piece, s, n) : merge_long(m, piece, s, n, queue);
}

/* ---- the symbols a piece starts as ----------------------------------------------------------- */

/* A character with the model's prefix or suffix; -1 if it is no token. */
static int32_t find_character(const qni_bpe *m, const char *c, int bytes, bool first, bool last) {
    if (!m->prefix && !m->suffix) return qni_table_find_model(m->table, c, bytes);
    char text[2 * QNI_MAX_AFFIX + 8];
    int n = snprintf(text, sizeof text, "%s%.*s%s", first || !m->prefix ? "" : m->prefix, bytes, c,
                     last && m->suffix ? m->suffix : "");
    return qni_table_find_model(m->table, text, n);
}

static bool has_fallback(const qni_bpe *m, const char *c, int bytes) {
    for (int i = 0; i < bytes; i++)
        if (m->fallback[(unsigned char)c[i]] < 0) return false;
    return m->byte_fallback;
}

/* What has no token at all is passed over: its neighbours may merge. *skipped gets the bytes of it
 * before the first symbol; further on the symbol before covers them. */
static int64_t start_characters(const qni_bpe *m, const char *piece, int64_t bytes, qni_symbol *s,
                                int64_t *skipped) {
    int64_t n = 0;
    bool unknown = false; /* the last symbol is a run of unknown characters */
    for (int64_t at = 0, next; at < bytes; at = next) {
        int length;
        (void)qni_char_at(piece, at, &length);
        next = at + length;
        int32_t id = find_character(m, piece + at, length, at == 0, next == bytes);
        if (id < 0 && has_fallback(m, piece + at, length)) {
            for (int i = 0; i < length; i++)
                s[n++] = (qni_symbol){.id = m->fallback[(unsigned char)piece[at + i]],
                                      .at = (int32_t)at + i,
                                      .bytes = 1};
            unknown = false;
        } else if (id < 0 && m->unk < 0 && n == 0) {
            *skipped += length;
        } else if (id < 0 && (m->unk < 0 || (m->fuse_unk && unknown))) {
            s[n - 1].bytes += length;
        } else {
            unknown = id < 0;
            s[n++] = (qni_symbol){.id = id < 0 ? m->unk : id, .at = (int32_t)at, .bytes = length};
        }
    }
    return n;
}

/* The whole piece as one token, where the model wants that looked up first. */
static int32_t find_whole(const qni_bpe *m, const char *piece, int64_t bytes) {
    if (!m->ignore_merges) return -1;
    return qni_table_find_model(m->bytes ? &m->raw : m->table, piece, bytes);
}

static qn_status encode(const qni_model *self, qni_memory *memory, const char *piece, int64_t bytes,
                        qni_tokens *out) {
    const qni_bpe *m = (const qni_bpe *)self;
    QN_TRY(qni_tokens_reserve(out, bytes + 1));
    int32_t whole = find_whole(m, piece, bytes);
    if (whole >= 0) {
        qni_tokens_put(out, whole, bytes);
        return QN_OK;
    }
    qni_symbol few[SHORT], *s = few;
    if (bytes > SHORT) {
        s = qni_memory_get(memory, (size_t)bytes * QNI_BPE_BYTES);
        if (!s) return QN_ERR_OOM;
    }
    int64_t n = bytes, skipped = 0;
    if (m->bytes)
        for (int64_t i = 0; i < bytes; i++)
            s[i] =
                (qni_symbol){.id = m->byte[(unsigned char)piece[i]], .at = (int32_t)i, .bytes = 1};
    else
        n = start_characters(m, piece, bytes, s, &skipped);
    n = qni_bpe_merge(m, piece, s, n, s + bytes);
    if (skipped > 0) qni_tokens_put(out, -1, skipped);
    for (int64_t i = 0; i < n; i++) qni_tokens_put(out, s[i].id, s[i].bytes);
    return QN_OK;
}

qn_status qni_bpe_add_text(qni_bpe *m, const qn_tokenizer *t, const char *a, int64_t a_bytes,
                           const char *b, int64_t b_bytes, int32_t rank) {
    char text[2 * 1024];
    size_t prefix = m->prefix ? strlen(m->prefix) : 0;
    int32_t left = qni_table_find(&t->table, a, a_bytes);
    int32_t right = qni_table_find(&t->table, b, b_bytes);
    if (left < 0 || right < 0)
        return qn_fail(QN_ERR_FORMAT, "merge %d: \"%.*s\" is not in the vocabulary", rank,
                       (int)(left < 0 ? a_bytes : b_bytes), left < 0 ? a : b);
    if (a_bytes + b_bytes > (int64_t)sizeof text)
        return qn_fail(QN_ERR_FORMAT, "merge %d: longer than %zu bytes", rank, sizeof text);
    if (prefix && b_bytes >= (int64_t)prefix && memcmp(b, m->prefix, prefix) == 0) {
        b += prefix;
        b_bytes -= (int64_t)prefix;
    }
    memcpy(text, a, (size_t)a_bytes);
    memcpy(text + a_bytes, b, (size_t)b_bytes);
    int32_t id = qni_table_find(&t->table, text, a_bytes + b_bytes);
    if (id < 0)
        return qn_fail(QN_ERR_FORMAT, "merge %d: \"%.*s\", what it makes, is not in the vocabulary",
                       rank, (int)(a_bytes + b_bytes), text);
    if (!qni_bpe_add(m, left, right, rank, id))
        return qn_fail(QN_ERR_FORMAT, "merge %d: found twice", rank);
    return QN_OK;
}

/* A vocabulary with a token for every byte is used on bytes where the last splitter maps them. */
static qn_status use_bytes(qni_bpe *m, qn_tokenizer *t) {
    int32_t byte[256];
    if (m->prefix || m->suffix) return QN_OK;
    for (int i = 0; i < 256; i++) {
        char text[4];
        int n = qn_utf8_write(qni_byte_character(i), text);
        if ((byte[i] = qni_table_find(&t->table, text, n)) < 0) return QN_OK;
    }
    if (!qni_drop_byte_map(t)) return QN_OK;
    memcpy(m->byte, byte, sizeof byte);
    m->bytes = true;
    if (!m->ignore_merges) return QN_OK;
    QN_TRY(qni_table_create(t->arena, t->table.size, &m->raw));
    char raw[QNI_MAX_TOKEN_BYTES];
    for (int64_t i = 0; i < t->table.size; i++) {
        const qni_entry *e = &t->table.entry[i];
        int64_t n = e->text ? qni_spelling_bytes(e->text, e->bytes, raw) : -1;
        if (n > 0) QN_TRY(qni_table_set(&m->raw, i, raw, n));
    }
    return QN_OK;
}

qn_status qni_bpe_use(qni_bpe *m, qn_tokenizer *t) {
    if (!m->prefix && !m->suffix && !m->ignore_merges && qni_has_words(&t->table))
        QN_TRY(qni_add_word_splitter(t));
    m->base = (qni_model){.encode = encode, .remember = t->n_splitters > 0};
    t->model = &m->base;
    t->model_size = t->table.size;
    return m->by_rank ? QN_OK : use_bytes(m, t);
}
