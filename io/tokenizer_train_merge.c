/* tokenizer_train_merge.c — learning merges with counts that are kept up to date.
 *
 * A word is an array of symbols with a count. For every pair of symbols there is its count over all
 * words, and a list of the words it came to stand in. A heap holds pairs by count; an entry whose
 * count is no longer the pair's goes back with the right one when it comes up. Merging a pair
 * visits the words of its entry alone, and changes the counts of the pairs beside each occurrence;
 * pairs that became more frequent get an entry with the words where they did.
 *
 * A pair can thus have several entries, for different words, when two merges make the same token.
 * Then it is merged several times in a row, and its place in the order is that of the last time:
 * what Hugging Face's trainer does, and what its merges are compared with.
 */
#include "io/tokenizer_train_parts.h"

#include <string.h>

typedef struct place {  /* lists of words */
    int32_t word, next; /* next: -1 ends the list */
} place;

typedef struct pair {
    uint64_t key; /* a << 32 | b; NO_PAIR: free */
    int64_t count;
    int32_t added; /* words of this step; -1: none */
} pair;

typedef struct entry {
    int64_t count;
    uint64_t key;
    int32_t words;
} entry;

#define NO_PAIR UINT64_MAX

typedef struct learner {
    const qni_words *words;
    int32_t *symbol; /* of all words */
    int64_t *start;  /* by word */
    int32_t *length;
    pair *pair;
    int64_t slots, pairs;
    place *place;
    int64_t places, place_capacity;
    entry *heap;
    int64_t entries, heap_capacity;
    uint64_t *touched; /* pairs whose `added` is not empty */
    int64_t n_touched, touched_capacity;
} learner;

/* ---- heap: the most frequent pair first, then the one of smaller ids ------------------------- */

static bool before(const entry *x, const entry *y) {
    return x->count != y->count ? x->count > y->count : x->key < y->key;
}

static qn_status heap_push(learner *l, entry e) {
    if (l->entries == l->heap_capacity) {
        entry *heap = qni_train_grow(l->heap, &l->heap_capacity, l->entries + 1, sizeof *heap);
        if (!heap) return QN_ERR_OOM;
        l->heap = heap;
    }
    int64_t at = l->entries++;
    for (int64_t up; at > 0 && before(&e, &l->heap[up = (at - 1) / 2]); at = up)
        l->heap[at] = l->heap[up];
    l->heap[at] = e;
    return QN_OK;
}

static entry heap_pop(learner *l) {
    entry top = l->heap[0], e = l->heap[--l->entries];
    int64_t at = 0;
    for (int64_t down; (down = 2 * at + 1) < l->entries; at = down) {
        if (down + 1 < l->entries && before(&l->heap[down + 1], &l->heap[down])) down++;
        if (!before(&l->heap[down], &e)) break;
        l->heap[at] = l->heap[down];
    }
    l->heap[at] = e;
    return top;
}

/* ---- counts ---------------------------------------------------------------------------------- */

static pair *find_pair(learner *l, uint64_t key) {
    uint64_t mask = (uint64_t)l->slots - 1, at = key * 0x9E3779B97F4A7C15u;
    at = (at ^ at >> 32) & mask;
    while (l->pair[at].key != key && l->pair[at].key != NO_PAIR) at = (at + 1) & mask;
    return &l->pair[at];
}

static qn_status make_slots(learner *l, int64_t slots) {
    pair *old = l->pair;
    int64_t n = l->slots;
    l->pair = qn_alloc((size_t)slots * sizeof *l->pair, "pairs of symbols");
    if (!l->pair) {
        l->pair = old;
        return QN_ERR_OOM;
    }
    l->slots = slots;
    for (int64_t i = 0; i < slots; i++) l->pair[i] = (pair){NO_PAIR, 0, -1};
    for (int64_t i = 0; i < n; i++)
        if (old[i].key != NO_PAIR) *find_pair(l, old[i].key) = old[i];
    qn_free(old);
    return QN_OK;
}

static qn_status add_place(learner *l, pair *p, int32_t word) {
    if (p->added >= 0 && l->place[p->added].word == word) return QN_OK;
    if (l->places == l->place_capacity) {
        if (l->places > INT32_MAX / 2)
            return qn_fail(QN_ERR_OOM, "tokenizer training: too much text");
        place *grown = qni_train_grow(l->place, &l->place_capacity, l->places + 1, sizeof *grown);
        if (!grown) return QN_ERR_OOM;
        l->place = grown;
    }
    if (p->added < 0) {
        if (l->n_touched == l->touched_capacity) {
            uint64_t *touched =
                qni_train_grow(l->touched, &l->touched_capacity, l->n_touched + 1, sizeof *touched);
            if (!touched) return QN_ERR_OOM;
            l->touched = touched;
        }
        l->touched[l->n_touched++] = p->key;
    }
    l->place[l->places] = (place){word, p->added};
    p->added = (int32_t)l->places++;
    return QN_OK;
}

static qn_status change(learner *l, int32_t a, int32_t b, int64_t by, int32_t word) {
    uint64_t key = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    pair *p = find_pair(l, key);
    if (p->key == NO_PAIR) {
        if (2 * ++l->pairs > l->slots) {
            QN_TRY(make_slots(l, 2 * l->slots));
            p = find_pair(l, key);
        }
        *p = (pair){key, 0, -1};
    }
    p->count += by * l->words->word[word].count;
    return by > 0 ? add_place(l, p, word) : QN_OK;
}

/* Puts the pairs that became more frequent on the heap, with the words where they did. */
static qn_status queue_touched(learner *l) {
    for (int64_t i = 0; i < l->n_touched; i++) {
        pair *p = find_pair(l, l->touched[i]);
        if (p->count > 0) QN_TRY(heap_push(l, (entry){p->count, p->key, p->added}));
        p->added = -1;
    }
    l->n_touched = 0;
    return QN_OK;
}

/* ---- words ----------------------------------------------------------------------------------- */

static qn_status merge_word(learner *l, int32_t word, int32_t a, int32_t b, int32_t id) {
    int32_t *s = l->symbol + l->start[word], n = l->length[word], to = 0;
    for (int32_t i = 0; i < n; i++) {
        if (s[i] != a || i + 1 == n || s[i + 1] != b) {
            s[to++] = s[i];
            continue;
        }
        if (to > 0) {
            QN_TRY(change(l, s[to - 1], a, -1, word));
            QN_TRY(change(l, s[to - 1], id, 1, word));
        }
        i++;
        if (i + 1 < n) {
            QN_TRY(change(l, b, s[i + 1], -1, word));
            QN_TRY(change(l, id, s[i + 1], 1, word));
        }
        s[to++] = id;
    }
    l->length[word] = to;
    return QN_OK;
}

static qn_status start(learner *l, const int32_t byte_id[256]) {
    const qni_words *w = l->words;
    l->symbol = qn_alloc((size_t)(w->bytes + 1) * sizeof *l->symbol, "symbols of words");
    l->start = qn_alloc((size_t)(w->n + 1) * sizeof *l->start, "words");
    l->length = qn_alloc((size_t)(w->n + 1) * sizeof *l->length, "words");
    if (!l->symbol || !l->start || !l->length) return QN_ERR_OOM;
    QN_TRY(make_slots(l, 1 << 16));
    int64_t at = 0;
    for (int64_t i = 0; i < w->n; i++) {
        l->start[i] = at;
        l->length[i] = (int32_t)w->word[i].bytes;
        for (int64_t k = 0; k < w->word[i].bytes; k++)
            l->symbol[at++] = byte_id[(unsigned char)w->text[w->word[i].start + k]];
        for (int64_t k = l->start[i]; k + 1 < at; k++)
            QN_TRY(change(l, l->symbol[k], l->symbol[k + 1], 1, (int32_t)i));
    }
    return queue_touched(l);
}

static qn_status new_token(qni_table *table, int32_t a, int32_t b, int32_t *id) {
    const qni_entry *x = &table->entry[a], *y = &table->entry[b];
    int64_t bytes = (int64_t)x->bytes + y->bytes;
    char *text = qn_alloc((size_t)bytes, "token");
    if (!text) return QN_ERR_OOM;
    memcpy(text, x->text, (size_t)x->bytes);
    memcpy(text + x->bytes, y->text, (size_t)y->bytes);
    qn_status status = QN_OK;
    *id = qni_table_find(table, text, bytes);
    if (*id < 0) {
        *id = (int32_t)table->size;
        status = qni_table_set(table, table->size, text, bytes);
    }
    qn_free(text);
    return status;
}

static qn_status merge(learner *l, const entry *top, qni_table *table, qni_merges *out) {
    int32_t a = (int32_t)(top->key >> 32), b = (int32_t)(uint32_t)top->key, id = 0;
    QN_TRY(new_token(table, a, b, &id));
    if (out->n == out->capacity) {
        qni_merge *list = qni_train_grow(out->list, &out->capacity, out->n + 1, sizeof *list);
        if (!list) return QN_ERR_OOM;
        out->list = list;
    }
    out->list[out->n++] = (qni_merge){a, b, id};
    for (int32_t at = top->words; at >= 0; at = l->place[at].next)
        QN_TRY(merge_word(l, l->place[at].word, a, b, id));
    return queue_touched(l);
}

/* Of several merges of one pair the last counts. */
static qn_status drop_repeated(learner *l, qni_merges *m) {
    int64_t n = 0;
    for (int64_t i = 0; i < m->n; i++) {
        pair *p = find_pair(l, (uint64_t)(uint32_t)m->list[i].a << 32 | (uint32_t)m->list[i].b);
        p->added = (int32_t)i;
    }
    for (int64_t i = 0; i < m->n; i++) {
        const pair *p =
            find_pair(l, (uint64_t)(uint32_t)m->list[i].a << 32 | (uint32_t)m->list[i].b);
        if (p->added == i) m->list[n++] = m->list[i];
    }
    m->n = n;
    return QN_OK;
}

qn_status qni_learn_merges(const qni_words *words, const int32_t byte_id[256], int64_t size,
                           int64_t least, qni_table *table, qni_merges *out) {
    learner l = {.words = words};
    qn_status status = QN_OK;
    QN_TRY_GOTO(start(&l, byte_id));
    while (table->size < size && l.entries > 0) {
        entry top = heap_pop(&l);
        int64_t count = find_pair(&l, top.key)->count;
        if (top.count != count) {
            top.count = count;
            QN_TRY_GOTO(heap_push(&l, top));
            continue;
        }
        if (top.count < 1 || top.count < least) break;
        QN_TRY_GOTO(merge(&l, &top, table, out));
    }
    QN_TRY_GOTO(drop_repeated(&l, out));
done:
    qn_free(l.symbol);
    qn_free(l.start);
    qn_free(l.length);
    qn_free(l.pair);
    qn_free(l.place);
    qn_free(l.heap);
    qn_free(l.touched);
    return status;
}
