/* tokenizer_sentencepiece.h — a SentencePiece model: its pieces and how it treats text.
 *
 * Not for use outside io/tokenizer*.c and the tests.
 */
#ifndef QN_TOKENIZER_SENTENCEPIECE_H
#define QN_TOKENIZER_SENTENCEPIECE_H

#include "io/tokenizer_charsmap.h"
#include "io/tokenizer_trie.h"

/* ---- tokenizer_sp_file.c: the protocol buffer ------------------------------------------------ */

typedef enum qni_sp_type {
    QNI_SP_NORMAL = 1,
    QNI_SP_UNKNOWN,
    QNI_SP_CONTROL,
    QNI_SP_USER_DEFINED,
    QNI_SP_UNUSED,
    QNI_SP_BYTE
} qni_sp_type;

enum { QNI_SP_UNIGRAM = 1, QNI_SP_BPE = 2 };

typedef struct qni_sp_bytes {
    const char *data; /* not terminated */
    int64_t size;
} qni_sp_bytes;

typedef struct qni_sp_piece {
    qni_sp_bytes text; /* UTF-8 without NUL, at least a byte */
    float score;       /* finite */
    qni_sp_type type;
} qni_sp_piece;

typedef struct qni_sp_file { /* texts point into the file */
    qni_sp_piece *piece;
    int64_t n;
    int32_t model;                  /* QNI_SP_UNIGRAM or QNI_SP_BPE */
    int32_t unknown, bos, eos, pad; /* ids; -1: none */
    qni_sp_bytes unknown_surface;   /* what the unknown piece decodes to */
    qni_sp_bytes charsmap;
    bool byte_fallback, space_suffix;
    bool dummy_prefix, remove_spaces, escape_spaces;
} qni_sp_file;

/* Reads a ModelProto. Fields that do not bear on encoding or decoding are skipped; anything that is
 * no protocol buffer, or that SentencePiece would refuse to load, is QN_ERR_FORMAT, as are
 * character and word models and denormalisation. */
qn_status qni_sp_parse(qn_setup *arena, const void *bytes, int64_t size,
                       qni_sp_file *out) QN_CHECKED;

/* ---- tokenizer_sp_text.c: text on its way in and out ----------------------------------------- */

typedef struct qni_sp_normalizer {
    qni_normalizer base;
    qni_charsmap map;
    qni_trie defined; /* user-defined symbols: never rewritten */
    bool dummy_prefix, remove_spaces, escape_spaces, space_suffix;
    bool first_only; /* the dummy prefix goes before the whole text, not behind special tokens */
} qni_sp_normalizer;

void qni_sp_normalizer_init(qni_sp_normalizer *n);

typedef struct qni_sp_decoder {
    qni_decoder base;
    const qni_table *table;
    int32_t byte[256]; /* ids of the byte pieces, -1 for none */
    qni_sp_bytes unknown, unknown_surface;
    bool dummy_prefix, remove_spaces;
} qni_sp_decoder;

void qni_sp_decoder_init(qni_sp_decoder *d);

/* ---- tokenizer_sp_bpe.c ---------------------------------------------------------------------- */

/* BPE by score over the pieces of a file, which are in the table. `defined`: user-defined symbols,
 * which are cut out first and never merged. Makes it the tokenizer's model. */
qn_status qni_sp_bpe_create(qn_tokenizer *t, const qni_sp_file *f,
                            const qni_trie *defined) QN_CHECKED;

/* ---- tokenizer_sentencepiece.c --------------------------------------------------------------- */

/* Whether a `.model` file is a protocol buffer; a list of ranks is text. */
bool qni_is_sentencepiece(const qni_bytes *file);
/* first_only: see qni_sp_normalizer. */
qn_status qni_read_sentencepiece(qn_tokenizer *t, const qni_bytes *file,
                                 bool first_only) QN_CHECKED;

#endif
