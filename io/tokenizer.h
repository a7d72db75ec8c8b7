/* tokenizer.h — text to token ids and back, exactly as the model's own tokenizer does it.
 *
 * One object for every kind: the byte and character vocabularies of vocab.h, `tokenizer.json`,
 * `vocab.json` with `merges.txt`, `vocab.txt`, SentencePiece and tiktoken files. It is immutable
 * and may be used by several threads at once. Text is UTF-8; a byte vocabulary takes any bytes.
 *
 * Ids are those of the reference implementations (Hugging Face tokenizers, SentencePiece,
 * tiktoken). Unicode properties are those of the libraries that `quern doctor` names, so a code
 * point that a later Unicode version has assigned or changed may be cut differently.
 */
#ifndef QN_TOKENIZER_H
#define QN_TOKENIZER_H

#include "io/text_buffer.h"
#include "io/vocab.h"

typedef struct qn_tokenizer qn_tokenizer;

/* Opens a tokenizer file or a directory that holds one (README.md lists the forms). A file may be
 * packed, NAME.gz. `tokenizer_config.json` and the other small files beside it are read too.
 * QN_ERR_DATA if there is none, QN_ERR_FORMAT with file and place for one that is damaged or asks
 * for what Quern does not have. */
qn_status qn_tokenizer_open(const char *path, qn_tokenizer **out) QN_CHECKED;

/* The tokenizer of a byte or character vocabulary: no special tokens, ids as qn_vocab's. */
qn_status qn_tokenizer_from_vocab(const qn_vocab *v, qn_tokenizer **out) QN_CHECKED;
const qn_vocab *qn_tokenizer_vocab(const qn_tokenizer *t); /* of such a one, else NULL */

void qn_tokenizer_free(qn_tokenizer *t); /* NULL is legal; no call may be in progress */

/* ---- encode ---------------------------------------------------------------------------------- */

typedef struct qn_ids { /* {0} is an empty list */
    int32_t *id;
    int64_t *start; /* with options.offsets: the byte of the text each token starts at, else NULL */
    int64_t n, capacity;
} qn_ids;

qn_status qn_ids_add(qn_ids *ids, int32_t id, int64_t start) QN_CHECKED;
void qn_ids_free(qn_ids *ids);

typedef struct qn_encode_options {
    bool add_special; /* what the tokenizer puts around a text: BOS, [CLS] ... [SEP] */
    bool
        parse_special; /* special tokens written in the text become their ids; else they are text */
    bool offsets; /* fill ids->start; a token that the text does not hold has the place it is at */
} qn_encode_options;

/* Appends the ids of `text` to *ids; on failure *ids is what it was. A list gets its offsets in
 * every call or in none. QN_ERR_DATA with the offset if the text is not UTF-8, or holds what the
 * vocabulary has no token for. */
qn_status qn_tokenizer_encode(const qn_tokenizer *t, const char *text, int64_t bytes,
                              const qn_encode_options *o, qn_ids *ids) QN_CHECKED;

/* The same for two texts that belong together, as encoders want them: type is 0 or 1 for each id,
 * its *n entries are appended to *types (start is unused there). */
qn_status qn_tokenizer_encode_pair(const qn_tokenizer *t, const char *a, int64_t a_bytes,
                                   const char *b, int64_t b_bytes, const qn_encode_options *o,
                                   qn_ids *ids, qn_ids *types) QN_CHECKED;

/* ---- decode ---------------------------------------------------------------------------------- */

/* Appends the text of n ids. Bytes that do not make up UTF-8 become U+FFFD (a byte vocabulary's are
 * kept). QN_ERR_DATA for an id that is no token. */
qn_status qn_tokenizer_decode(const qn_tokenizer *t, const int32_t *ids, int64_t n,
                              bool skip_special, qn_text *out) QN_CHECKED;

/* Decoding as ids come: what push and finish append is, put together, what qn_tokenizer_decode
 * would have given for all ids; each part is whole characters. */
typedef struct qn_token_stream qn_token_stream;
qn_status qn_token_stream_create(const qn_tokenizer *t, bool skip_special,
                                 qn_token_stream **out) QN_CHECKED;
qn_status qn_token_stream_push(qn_token_stream *s, int32_t id, qn_text *out) QN_CHECKED;
/* What was held back; the stream is then new again. */
qn_status qn_token_stream_finish(qn_token_stream *s, qn_text *out) QN_CHECKED;
void qn_token_stream_free(qn_token_stream *s);

/* ---- tokens ---------------------------------------------------------------------------------- */

typedef enum qn_token_role {
    QN_TOKEN_BOS,
    QN_TOKEN_EOS,
    QN_TOKEN_PAD,
    QN_TOKEN_UNK,
    QN_TOKEN_ROLES
} qn_token_role;

/* One more than the largest id; a model's embedding may be larger. */
int64_t qn_tokenizer_size(const qn_tokenizer *t);
/* The id of a token as the tokenizer's file spells it (`Ġthe`), -1 if there is none. */
int32_t qn_tokenizer_id(const qn_tokenizer *t, const char *token, int64_t bytes);
/* The spelling of an id, not terminated; NULL for an id that is no token. */
const char *qn_tokenizer_token(const qn_tokenizer *t, int32_t id, int64_t *bytes);
int32_t qn_tokenizer_role(const qn_tokenizer *t, qn_token_role role); /* -1 if it has none */
bool qn_tokenizer_is_special(const qn_tokenizer *t, int32_t id);      /* skipped by skip_special */

/* ---- as bytes -------------------------------------------------------------------------------- */

/* The tokenizer as one JSON text for a checkpoint; *json is the caller's (qn_free). Loading it
 * gives a tokenizer of the same identity. Reads what qn_vocab_save wrote, too. */
qn_status qn_tokenizer_save(const qn_tokenizer *t, char **json) QN_CHECKED;
qn_status qn_tokenizer_load(const char *json, qn_tokenizer **out) QN_CHECKED;

/* SHA-256 over names and bytes of the files it was made of, as 64 hexadecimal digits. */
const char *qn_tokenizer_identity(const qn_tokenizer *t);

/* The files it was made of, unpacked: `tokenizer.json`, `tokenizer_config.json`,
 * `chat_template.jinja` and so on. Index from 0; NULL ends the list. */
const char *qn_tokenizer_file(const qn_tokenizer *t, int64_t index, const char **bytes,
                              int64_t *size);
/* The bytes of the file of that name (NUL-terminated), NULL if it was not there. */
const char *qn_tokenizer_file_named(const qn_tokenizer *t, const char *name, int64_t *size);

#endif
