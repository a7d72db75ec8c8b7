/* tokenizer_train.h — learning a byte-level BPE tokenizer from text.
 *
 * Sennrich, Haddow, Birch 2016, on bytes: texts are cut into words by a pattern, and the pair of
 * adjacent symbols that occurs most often in all words becomes a new token, again and again. Equal
 * counts are settled by the smaller ids, so the result is a function of the texts and options
 * alone: the one that Hugging Face's BpeTrainer gives for the same words, special tokens and byte
 * alphabet (counts here are 64 bits wide, there 32).
 */
#ifndef QN_TOKENIZER_TRAIN_H
#define QN_TOKENIZER_TRAIN_H

#include "engine/engine.h"

typedef struct qn_bpe_train_options {
    int64_t vocab_size;         /* tokens at most; at least the special ones and 256 bytes */
    int64_t min_frequency;      /* pairs that occur less often make no token */
    const char *pattern;        /* regular expression of a word; NULL: GPT-2's */
    bool lines;                 /* each line, with its end, is cut on its own */
    const char *const *special; /* get the first ids; not looked for in the texts */
    int64_t n_special;
} qn_bpe_train_options;

typedef struct qn_bpe_trainer qn_bpe_trainer;

/* Options are copied. QN_ERR_USAGE for sizes and special tokens that cannot be, QN_ERR_FORMAT for a
 * pattern. */
qn_status qn_bpe_trainer_create(const qn_bpe_train_options *o, qn_bpe_trainer **out) QN_CHECKED;

/* Counts the words of a text. QN_ERR_DATA with the offset if it is not UTF-8. */
qn_status qn_bpe_trainer_feed(qn_bpe_trainer *t, const char *text, int64_t bytes) QN_CHECKED;

/* Learns the merges; once, after all texts. Time is about that of visiting every occurrence of a
 * merged pair in the distinct words; memory 16 bytes per byte of them and 24 per pair. */
qn_status qn_bpe_trainer_run(qn_bpe_trainer *t) QN_CHECKED;

typedef struct qn_bpe_train_size {
    int64_t bytes, words, distinct; /* of the texts */
    int64_t tokens, merges;
} qn_bpe_train_size;
qn_bpe_train_size qn_bpe_trainer_size(const qn_bpe_trainer *t);

/* Writes tokenizer.json, vocab.json and merges.txt into a directory, which is made if it is not
 * there. */
qn_status qn_bpe_trainer_save(const qn_bpe_trainer *t, const char *directory) QN_CHECKED;

void qn_bpe_trainer_free(qn_bpe_trainer *t); /* NULL is legal */

#endif
