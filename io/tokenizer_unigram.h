/* tokenizer_unigram.h — making a Unigram model of pieces that are in the tokenizer's table.
 *
 * Not for use outside io/tokenizer*.c.
 */
#ifndef QN_TOKENIZER_UNIGRAM_H
#define QN_TOKENIZER_UNIGRAM_H

#include "io/tokenizer_parts.h"
#include "io/tokenizer_trie.h"

#define QNI_UNKNOWN_PENALTY 10.0

typedef struct qni_unigram_options {
    int64_t n;            /* pieces: ids 0..n-1 of the table */
    const double *score;  /* by id; copied */
    const bool *usable;   /* by id; NULL: all. Others are not looked for in text. */
    int32_t unknown;      /* -1: none, and unknown characters are an error */
    double unknown_score; /* of one unknown character */
    bool byte_fallback;   /* unknown characters become <0xHH> where all of them are tokens */
    bool sentencepiece;   /* its arithmetic and its treatment of unknown characters */
} qni_unigram_options;

/* The model lives in the tokenizer's arena. QN_ERR_OOM. */
qn_status qni_unigram_create(qn_tokenizer *t, const qni_unigram_options *o,
                             const qni_model **out) QN_CHECKED;

/* The ids of <0x00> to <0xFF>, -1 for those that are no tokens; how many are. */
int qni_byte_tokens(const qni_table *table, int32_t id[256]);

/* {"type":"Unigram"} of tokenizer.json. */
qn_status qni_read_unigram(qn_tokenizer *t, const cJSON *json) QN_CHECKED;

#endif
