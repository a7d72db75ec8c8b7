/* tokenizer_trie.h — a byte trie in a double array: the longest piece that begins at a place of a
 * text, or all of them, at one memory access a byte.
 *
 * Not for use outside io/tokenizer_*.c.
 */
#ifndef QN_TOKENIZER_TRIE_H
#define QN_TOKENIZER_TRIE_H

#include "engine/engine.h"

typedef struct qni_trie_unit {
    uint32_t base;   /* child by byte b is at base ^ b */
    uint32_t parent; /* the unit this one belongs to; QNI_TRIE_NONE if the place is free */
    int32_t value;   /* of the key that ends here, or -1 */
} qni_trie_unit;

#define QNI_TRIE_NONE UINT32_MAX

typedef struct qni_trie {      /* {0} is a trie without keys */
    const qni_trie_unit *unit; /* unit[0] is the root */
    int64_t units;             /* a multiple of 256 */
} qni_trie;

typedef struct qni_trie_key {
    const char *bytes;
    int64_t length; /* >= 1 */
    int32_t value;  /* >= 0 */
} qni_trie_key;

/* Builds a trie in the arena; of equal keys that of the largest value counts. The keys are sorted
 * in place and not kept. QN_ERR_OOM. */
qn_status qni_trie_build(qn_setup *arena, qni_trie_key *keys, int64_t n, qni_trie *out) QN_CHECKED;

/* The child of `node` by a byte, 0 (which is nobody's child) if there is none. */
static inline uint32_t qni_trie_step(const qni_trie *t, uint32_t node, unsigned char byte) {
    uint32_t child = t->unit[node].base ^ byte;
    return t->unit[child].parent == node ? child : 0;
}

/* The value of a whole key, -1 if it is none. */
int32_t qni_trie_find(const qni_trie *t, const char *bytes, int64_t length);
/* The longest key at the beginning of the text: its length and value; 0 if there is none. */
int64_t qni_trie_longest(const qni_trie *t, const char *text, int64_t bytes, int32_t *value);

#endif
