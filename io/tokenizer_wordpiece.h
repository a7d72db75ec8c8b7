/* tokenizer_wordpiece.h — making a WordPiece model, and BERT's tokenizer around one.
 *
 * Not for use outside io/tokenizer*.c.
 */
#ifndef QN_TOKENIZER_WORDPIECE_H
#define QN_TOKENIZER_WORDPIECE_H

#include "io/tokenizer_parts.h"

/* A model over all tokens of the table, as the tokenizer's model; `unknown` becomes its role. Words
 * of more than max_chars characters are unknown. QN_ERR_FORMAT if `unknown` is no token. */
qn_status qni_wordpiece_create(qn_tokenizer *t, const char *unknown, const char *prefix,
                               int64_t max_chars) QN_CHECKED;

/* {"type":"WordPiece"} of tokenizer.json. */
qn_status qni_read_wordpiece(qn_tokenizer *t, const cJSON *json) QN_CHECKED;

/* `vocab.txt`, a token a line: BERT's tokenizer. What tokenizer_config.json beside it says of
 * do_lower_case, tokenize_chinese_chars and strip_accents holds. */
qn_status qni_read_vocab_txt(qn_tokenizer *t, const qni_bytes *file) QN_CHECKED;

/* tokenizer_normalize.c: BERT's cleaning as the next normalizer. */
qn_status qni_add_bert(qn_tokenizer *t, bool clean, bool chinese, bool strip_accents,
                       bool lowercase) QN_CHECKED;

#endif
