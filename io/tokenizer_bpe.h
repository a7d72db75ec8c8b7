/* tokenizer_bpe.h — the byte-pair model as its readers fill it. */
#ifndef QN_TOKENIZER_BPE_H
#define QN_TOKENIZER_BPE_H

#include "io/tokenizer_parts.h"

enum { QNI_MAX_AFFIX = 64 };

typedef struct qni_pair {
    uint64_t key; /* both ids */
    int32_t rank, id;
} qni_pair;

typedef struct qni_bpe {
    qni_model base;
    const qni_table *table; /* the tokenizer's */
    qni_pair *pair;
    uint64_t pair_mask;
    int32_t unk;           /* -1: unknown characters give no token */
    int32_t byte[256];     /* `bytes`: where each byte starts */
    int32_t fallback[256]; /* <0x00> to <0xFF>, -1 where the vocabulary lacks it */
    int32_t longest;       /* `by_rank`: bytes of the longest token */
    qni_table raw;         /* `bytes` with `ignore_merges`: tokens as the bytes they stand for */
    const char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix; NULL: none */
    bool by_rank;                /* no pairs: ids are ranks, and `raw` tells them */
    bool bytes, byte_fallback, fuse_unk, ignore_merges;
} qni_bpe;

/* An empty model for so many merges, in the tokenizer's arena. */
qn_status qni_bpe_create(qn_tokenizer *t, int64_t pairs, qni_bpe **out) QN_CHECKED;
/* False if the pair has a rank already; there is room for as many as create was told. */
bool qni_bpe_add(qni_bpe *m, int32_t a, int32_t b, int32_t rank, int32_t id);
/* The same by spelling. QN_ERR_FORMAT if a part or the whole is not in the vocabulary, or the pair
 * is there already. */
qn_status qni_bpe_add_text(qni_bpe *m, const qn_tokenizer *t, const char *a, int64_t a_bytes,
                           const char *b, int64_t b_bytes, int32_t rank) QN_CHECKED;
typedef struct qni_symbol {
    int32_t id;             /* -1: stands in no pair */
    int32_t at, bytes;      /* of the piece; bytes 0: merged into another */
    int32_t previous, next; /* the merging's own */
    int32_t unused;         /* what follows n of them is aligned to 8 bytes */
} qni_symbol;

/* Working memory that merging n symbols takes: the symbols, and behind them the queue. */
#define QNI_BPE_BYTES (sizeof(qni_symbol) + 3 * sizeof(uint64_t))
/* Merges s[0..n) in place, the lowest rank first, leftmost of equal ones, and returns how many are
 * left. `queue` has room for 3 n values of 8 bytes; `piece` is used in `by_rank` mode only. */
int64_t qni_bpe_merge(const qni_bpe *m, const char *piece, qni_symbol *s, int64_t n, void *queue);

/* Makes it the tokenizer's model, once the splitters and the vocabulary are there. */
qn_status qni_bpe_use(qni_bpe *m, qn_tokenizer *t) QN_CHECKED;

/* tokenizer_words.c */
#define QNI_SPACE_MARK "\xE2\x96\x81"
enum { QNI_SPACE_MARK_BYTES = 3 };
/* The first place after `at` where a U+2581 follows another character; `bytes` if there is none. */
int64_t qni_word_end(const char *text, int64_t at, int64_t bytes);
bool qni_has_words(const qni_table *t); /* U+2581 is a token, and follows nothing else in any */
qn_status qni_add_word_splitter(qn_tokenizer *t) QN_CHECKED;

/* tokenizer_bytes.c: the alphabet of byte-level models. */
uint32_t qni_byte_character(int byte); /* the character that stands for a byte */
int qni_character_byte(uint32_t c);    /* and back; -1 for others */
/* The bytes a token's spelling stands for, at most as many as it has; -1 if it is not all of the
 * alphabet. */
int64_t qni_spelling_bytes(const char *text, int64_t bytes, char *out);
/* The other way: at most twice as many bytes. */
int64_t qni_spell_bytes(const char *bytes, int64_t n, char *out);

#endif
