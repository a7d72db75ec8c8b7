/* tokenizer_trie.c — building the double array.
 *
 * A node's children are the places base ^ byte. Keys are sorted, so a node is a range of them, and
 * its children are the runs of equal bytes. Free places form a ring in increasing order (while
 * free, `base` is the next and `value` the previous one); a base is looked for at the first of
 * them, and after TRIES failures a new block of 256 places is appended.
 */
#include "io/tokenizer_trie.h"

#include <stdlib.h>
#include <string.h>

enum { TRIES = 128, BLOCK = 256 };

typedef struct range {
    uint32_t node;
    int64_t first, end; /* of the sorted keys */
    int64_t depth;      /* bytes already consumed */
} range;

typedef struct builder {
    qni_trie_unit *unit;
    int64_t units, capacity;
    uint32_t free_head; /* QNI_TRIE_NONE if nothing is free */
    range *stack;
    int64_t depth, stack_capacity;
} builder;

static int compare_keys(const void *a, const void *b) {
    const qni_trie_key *x = a, *y = b;
    int64_t shorter = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->bytes, y->bytes, (size_t)shorter);
    if (order) return order;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

/* Grows an array of `size`-byte elements to hold at least `need`. */
static void *grow(void *old, int64_t *capacity, int64_t need, size_t size, const char *what) {
    int64_t to = *capacity ? *capacity : 64;
    while (to < need) to *= 2;
    void *p = qn_realloc(old, (size_t)*capacity * size, (size_t)to * size, what);
    if (p) *capacity = to;
    return p;
}

static void link_free(builder *b, uint32_t place) {
    qni_trie_unit *u = b->unit;
    u[place].parent = QNI_TRIE_NONE;
    if (b->free_head == QNI_TRIE_NONE) {
        u[place].base = place;
        u[place].value = (int32_t)place;
        b->free_head = place;
        return;
    }
    uint32_t head = b->free_head, tail = (uint32_t)u[head].value;
    u[place].base = head;
    u[place].value = (int32_t)tail;
    u[tail].base = place;
    u[head].value = (int32_t)place;
}

static void take(builder *b, uint32_t place) {
    qni_trie_unit *u = b->unit;
    uint32_t next = u[place].base, previous = (uint32_t)u[place].value;
    if (next == place) {
        b->free_head = QNI_TRIE_NONE;
    } else {
        u[previous].base = next;
        u[next].value = (int32_t)previous;
        if (b->free_head == place) b->free_head = next;
    }
    u[place].base = 0;
    u[place].value = -1;
}

static qn_status add_block(builder *b) {
    int64_t first = b->units;
    if (first + BLOCK > INT32_MAX) return qn_fail(QN_ERR_OOM, "vocabulary trie: too large");
    if (first + BLOCK > b->capacity) {
        qni_trie_unit *p = grow(b->unit, &b->capacity, first + BLOCK, sizeof *p, "vocabulary trie");
        if (!p) return QN_ERR_OOM;
        b->unit = p;
    }
    b->units = first + BLOCK;
    for (int64_t i = first; i < first + BLOCK; i++) link_free(b, (uint32_t)i);
    return QN_OK;
}

/* A base under which the places of all `n` bytes are free. */
static qn_status find_base(builder *b, const unsigned char *byte, int n, uint32_t *base) {
    const qni_trie_unit *u = b->unit;
    uint32_t place = b->free_head;
    for (int tries = 0; place != QNI_TRIE_NONE && tries < TRIES; tries++) {
        uint32_t candidate = place ^ byte[0];
        int fit = 1;
        while (fit < n && u[candidate ^ byte[fit]].parent == QNI_TRIE_NONE) fit++;
        if (fit == n) {
            *base = candidate;
            return QN_OK;
        }
        place = u[place].base;
        if (place == b->free_head) break;
    }
    *base = (uint32_t)b->units;
    return add_block(b);
}

static qn_status push(builder *b, range r) {
    if (b->depth == b->stack_capacity) {
        range *p = grow(b->stack, &b->stack_capacity, b->depth + 1, sizeof *p, "vocabulary trie");
        if (!p) return QN_ERR_OOM;
        b->stack = p;
    }
    b->stack[b->depth++] = r;
    return QN_OK;
}

/* Gives the node of a range its value and its children, which are pushed. */
static qn_status expand(builder *b, const qni_trie_key *keys, range r) {
    while (r.first < r.end && keys[r.first].length == r.depth)
        b->unit[r.node].value = keys[r.first++].value;
    if (r.first == r.end) return QN_OK;
    unsigned char byte[BLOCK];
    int64_t start[BLOCK + 1];
    int n = 0;
    for (int64_t i = r.first; i < r.end; i++) {
        unsigned char c = (unsigned char)keys[i].bytes[r.depth];
        if (n && byte[n - 1] == c) continue;
        byte[n] = c;
        start[n++] = i;
    }
    start[n] = r.end;
    uint32_t base;
    QN_TRY(find_base(b, byte, n, &base));
    for (int i = 0; i < n; i++) take(b, base ^ byte[i]);
    b->unit[r.node].base = base;
    for (int i = 0; i < n; i++) {
        b->unit[base ^ byte[i]].parent = r.node;
        QN_TRY(push(b, (range){base ^ byte[i], start[i], start[i + 1], r.depth + 1}));
    }
    return QN_OK;
}

qn_status qni_trie_build(qn_setup *arena, qni_trie_key *keys, int64_t n, qni_trie *out) {
    builder b = {.free_head = QNI_TRIE_NONE};
    qn_status status = QN_OK;
    *out = (qni_trie){0};
    QN_TRY_GOTO(add_block(&b));
    take(&b, 0);
    b.unit[0].parent = 0; /* the root: as a child, 0 means none */
    if (n > 1) qsort(keys, (size_t)n, sizeof *keys, compare_keys);
    QN_TRY_GOTO(push(&b, (range){0, 0, n, 0}));
    while (b.depth) QN_TRY_GOTO(expand(&b, keys, b.stack[--b.depth]));
    for (int64_t i = 1; i < b.units; i++) { /* free places: no value, no children */
        if (b.unit[i].parent != QNI_TRIE_NONE) continue;
        b.unit[i].base = 0;
        b.unit[i].value = -1;
    }
    qni_trie_unit *unit = qn_setup_alloc(arena, (size_t)b.units * sizeof *unit);
    if (!unit) {
        status = QN_ERR_OOM;
        goto done;
    }
    memcpy(unit, b.unit, (size_t)b.units * sizeof *unit);
    *out = (qni_trie){unit, b.units};
done:
    qn_free(b.stack);
    qn_free(b.unit);
    return status;
}

int32_t qni_trie_find(const qni_trie *t, const char *bytes, int64_t length) {
    uint32_t node = 0;
    if (!t->unit || length == 0) return -1;
    for (int64_t i = 0; i < length; i++)
        if (!(node = qni_trie_step(t, node, (unsigned char)bytes[i]))) return -1;
    return t->unit[node].value;
}

int64_t qni_trie_longest(const qni_trie *t, const char *text, int64_t bytes, int32_t *value) {
    uint32_t node = 0;
    int64_t longest = 0;
    if (!t->unit) return 0;
    for (int64_t i = 0; i < bytes; i++) {
        if (!(node = qni_trie_step(t, node, (unsigned char)text[i]))) break;
        if (t->unit[node].value < 0) continue;
        *value = t->unit[node].value;
        longest = i + 1;
    }
    return longest;
}
