/* tokenizer_train_parts.h — the parts of a trainer; not for use outside io/tokenizer_train*.c. */
#ifndef QN_TOKENIZER_TRAIN_PARTS_H
#define QN_TOKENIZER_TRAIN_PARTS_H

#include "io/tokenizer_bpe.h"
#include "io/tokenizer_train.h"

typedef struct qni_word {
    uint64_t hash;
    int64_t start, bytes; /* in `text` of the words */
    int64_t count;
} qni_word;

typedef struct qni_words { /* distinct words and how often they occur */
    qni_word *word;
    int64_t n, capacity;
    char *text;
    int64_t bytes, text_capacity;
    int32_t *slot; /* open addressing: a word, or -1 */
    int64_t slots;
    int64_t total;
} qni_words;

qn_status qni_words_add(qni_words *w, const char *text, int64_t bytes) QN_CHECKED;
void qni_words_free(qni_words *w);

typedef struct qni_merge {
    int32_t a, b, id;
} qni_merge;

typedef struct qni_merges {
    qni_merge *list;
    int64_t n, capacity;
} qni_merges;

/* tokenizer_train_merge.c. Merges until the table has `size` tokens or no pair occurs `least`
 * times. byte_id: the token of each byte. New tokens are entered into the table. */
qn_status qni_learn_merges(const qni_words *words, const int32_t byte_id[256], int64_t size,
                           int64_t least, qni_table *table, qni_merges *out) QN_CHECKED;

struct qn_bpe_trainer {
    qn_tokenizer shell; /* its arena, table and pattern */
    qni_scan *scan;     /* of a known pattern, else NULL */
    qni_regex *regex;
    char *pattern; /* NULL: GPT-2's */
    bool lines;
    int64_t vocab_size, min_frequency, n_special;
    int64_t bytes;
    qni_words words;
    qni_merges merges;
};

/* An array of at least `need` elements of `size` bytes; NULL: out of memory, the old one stays. */
void *qni_train_grow(void *old, int64_t *capacity, int64_t need, size_t size);

#endif
