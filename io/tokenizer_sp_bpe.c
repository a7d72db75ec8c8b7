/* tokenizer_sp_bpe.c — SentencePiece's BPE: of all adjacent symbols whose concatenation is a piece,
 * the two with the highest score are joined, leftmost first.
 *
 * Scores are put in order once, equal ones to equal ranks, and every way to make a piece of two
 * symbols is entered into the table of pairs, so that merging is that of tokenizer_bpe.c. A symbol
 * is a piece, or a character that is part of pieces without being one, which gets an id of its own
 * beyond theirs. User-defined symbols stand in no pair.
 *
 * If no piece has a U+2581 after another character, nothing is ever joined across such a place, and
 * the text is cut there: words are short and come again.
 */
#include "io/tokenizer_bpe.h"
#include "io/tokenizer_sentencepiece.h"
#include "io/tokenizer_unigram.h"

#include <stdlib.h>
#include <string.h>

typedef struct sp_bpe {
    qni_model base;
    const qni_bpe *merges;
    const qni_table *table;
    qni_trie defined;
    qni_table parts;    /* characters that are no pieces; their ids are n, n + 1, ... */
    int64_t n;          /* pieces of the file */
    const bool *usable; /* by id: looked for in text */
    int32_t unknown;
    int32_t byte[256];
    bool byte_fallback;
} sp_bpe;

/* A piece that can be part of others, or a character of one; -1: neither. */
static int32_t symbol_of(const sp_bpe *m, const char *text, int64_t bytes) {
    int32_t id = qni_table_find(m->table, text, bytes);
    if (id >= 0 && id < m->n && m->usable[id]) return id;
    if (bytes > 4 || m->parts.size == 0) return -1;
    id = qni_table_find(&m->parts, text, bytes);
    return id < 0 ? -1 : id + (int32_t)m->n;
}

/* ---- encoding -------------------------------------------------------------------------------- */

static int64_t start_symbols(const sp_bpe *m, const char *piece, int64_t bytes, qni_symbol *s) {
    int64_t n = 0;
    for (int64_t at = 0; at < bytes;) {
        int32_t id = -1;
        int64_t length = qni_trie_longest(&m->defined, piece + at, bytes - at, &id);
        if (length == 0) {
            int one;
            (void)qni_char_at(piece, at, &one);
            length = one;
            id = symbol_of(m, piece + at, length);
        }
        s[n++] = (qni_symbol){.id = id, .bytes = (int32_t)length};
        at += length;
    }
    return n;
}

static void put_symbols(const sp_bpe *m, const char *piece, const qni_symbol *s, int64_t n,
                        qni_tokens *out) {
    bool unknown = false; /* the last token is a run of unknown characters */
    for (int64_t i = 0; i < n; piece += s[i++].bytes) {
        if (s[i].id >= 0 && s[i].id < m->n) {
            qni_tokens_put(out, s[i].id, s[i].bytes);
            unknown = false;
        } else if (m->byte_fallback) {
            for (int32_t b = 0; b < s[i].bytes; b++)
                qni_tokens_put(out, m->byte[(unsigned char)piece[b]], 1);
        } else if (unknown) {
            out->token[out->n - 1].bytes += s[i].bytes;
        } else {
            qni_tokens_put(out, m->unknown, s[i].bytes);
            unknown = true;
        }
    }
}

static qn_status encode(const qni_model *self, qni_memory *memory, const char *piece, int64_t bytes,
                        qni_tokens *out) {
    const sp_bpe *m = (const sp_bpe *)self;
    QN_TRY(qni_tokens_reserve(out, bytes));
    qni_symbol *s = qni_memory_get(memory, (size_t)bytes * QNI_BPE_BYTES);
    if (!s) return QN_ERR_OOM;
    int64_t n = start_symbols(m, piece, bytes, s);
    n = qni_bpe_merge(m->merges, piece, s, n, s + bytes);
    put_symbols(m, piece, s, n, out);
    return QN_OK;
}

/* ---- making it ------------------------------------------------------------------------------- */

typedef struct pair {
    int32_t a, b, id;
} pair;

typedef struct pairs {
    pair *list;
    int64_t n, capacity;
} pairs;

static qn_status add_pair(pairs *p, pair x) {
    if (p->n == p->capacity) {
        int64_t capacity = p->capacity ? 2 * p->capacity : 1024;
        pair *list = qn_realloc(p->list, (size_t)p->capacity * sizeof *list,
                                (size_t)capacity * sizeof *list, "merges");
        if (!list) return QN_ERR_OOM;
        p->list = list;
        p->capacity = capacity;
    }
    p->list[p->n++] = x;
    return QN_OK;
}

/* Gives every character of a piece that is no piece itself an id. */
static qn_status add_parts(sp_bpe *m, const qni_sp_bytes *text) {
    int length;
    for (int64_t at = 0; at < text->size; at += length) {
        (void)qni_char_at(text->data, at, &length);
        if (length == text->size || symbol_of(m, text->data + at, length) >= 0) continue;
        QN_TRY(qni_table_set(&m->parts, m->parts.size, text->data + at, length));
    }
    return QN_OK;
}

/* Every way to make a piece of two symbols. */
static qn_status add_pairs(const sp_bpe *m, const qni_sp_file *f, int32_t id, pairs *out) {
    const char *text = f->piece[id].text.data;
    int64_t size = f->piece[id].text.size;
    int length;
    (void)qni_char_at(text, 0, &length);
    for (int64_t cut = length; cut < size; cut += length) {
        (void)qni_char_at(text, cut, &length);
        int32_t a = symbol_of(m, text, cut);
        if (a < 0 || (a < m->n && f->piece[a].type == QNI_SP_USER_DEFINED)) continue;
        int32_t b = symbol_of(m, text + cut, size - cut);
        if (b < 0 || (b < m->n && f->piece[b].type == QNI_SP_USER_DEFINED)) continue;
        QN_TRY(add_pair(out, (pair){a, b, id}));
    }
    return QN_OK;
}

typedef struct scored {
    float score;
    int32_t id;
} scored;

static int compare_scores(const void *a, const void *b) {
    const scored *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score;
}

/* rank[id], 0 for the highest score. */
static qn_status rank_scores(const qni_sp_file *f, int32_t *rank) {
    scored *order = qn_alloc((size_t)f->n * sizeof *order, "merges");
    if (!order) return QN_ERR_OOM;
    for (int64_t i = 0; i < f->n; i++) order[i] = (scored){f->piece[i].score, (int32_t)i};
    qsort(order, (size_t)f->n, sizeof *order, compare_scores);
    for (int64_t i = 0; i < f->n; i++) {
        bool equal = i > 0 && order[i].score == order[i - 1].score;
        rank[order[i].id] = equal ? rank[order[i - 1].id] : (int32_t)i;
    }
    qn_free(order);
    return QN_OK;
}

static bool may_cut(const sp_bpe *m, const qni_sp_file *f) {
    int32_t mark = qni_table_find(m->table, QNI_SPACE_MARK, QNI_SPACE_MARK_BYTES);
    bool known = mark >= 0 && mark < m->n && m->usable[mark];
    if (!f->escape_spaces || !(known || f->byte_fallback)) return false;
    for (int64_t i = 0; i < f->n; i++) {
        const qni_sp_bytes *text = &f->piece[i].text;
        if (m->usable[i] && qni_word_end(text->data, 0, text->size) < text->size) return false;
    }
    return true;
}

static qn_status make_merges(qn_tokenizer *t, sp_bpe *m, const qni_sp_file *f) {
    qn_status status = QN_OK;
    pairs p = {0};
    qni_bpe *merges = NULL;
    int32_t *rank = qn_alloc((size_t)f->n * sizeof *rank, "merges");
    if (!rank) return QN_ERR_OOM;
    QN_TRY_GOTO(rank_scores(f, rank));
    for (int64_t i = 0; i < f->n; i++)
        if (f->piece[i].type == QNI_SP_NORMAL) QN_TRY_GOTO(add_parts(m, &f->piece[i].text));
    for (int64_t i = 0; i < f->n; i++)
        if (f->piece[i].type == QNI_SP_NORMAL) QN_TRY_GOTO(add_pairs(m, f, (int32_t)i, &p));
    QN_TRY_GOTO(qni_bpe_create(t, p.n, &merges));
    for (int64_t i = 0; i < p.n; i++)
        (void)qni_bpe_add(merges, p.list[i].a, p.list[i].b, rank[p.list[i].id], p.list[i].id);
    m->merges = merges;
done:
    qn_free(p.list);
    qn_free(rank);
    return status;
}

qn_status qni_sp_bpe_create(qn_tokenizer *t, const qni_sp_file *f, const qni_trie *defined) {
    sp_bpe *m = QNI_STEP(t, sp_bpe);
    bool *usable = qn_setup_alloc(t->arena, (size_t)f->n * sizeof *usable);
    if (!m || !usable) return QN_ERR_OOM;
    for (int64_t i = 0; i < f->n; i++)
        usable[i] = f->piece[i].type == QNI_SP_NORMAL || f->piece[i].type == QNI_SP_USER_DEFINED;
    *m = (sp_bpe){.base = {.encode = encode},
                  .table = &t->table,
                  .defined = *defined,
                  .n = f->n,
                  .usable = usable,
                  .unknown = f->unknown,
                  .byte_fallback = f->byte_fallback};
    (void)qni_byte_tokens(&t->table, m->byte);
    QN_TRY(qni_table_create(t->arena, 0, &m->parts));
    QN_TRY(make_merges(t, m, f));
    if (may_cut(m, f)) {
        m->base.remember = true;
        QN_TRY(qni_add_word_splitter(t));
    }
    t->model = &m->base;
    return QN_OK;
}
