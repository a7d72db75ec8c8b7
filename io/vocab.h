/* vocab.h — the two built-in vocabularies: one id per byte, or one id per Unicode character.
 *
 * A byte vocabulary has the ids 0..255. A char vocabulary lists Unicode scalar values in increasing
 * order; an id is a place in that list. Each id decodes to bytes on its own, so a decoder may write
 * them as they come. Objects are immutable and may be shared between threads.
 */
#ifndef QN_VOCAB_H
#define QN_VOCAB_H

#include "engine/engine.h"

typedef enum qn_vocab_kind { QN_VOCAB_BYTE, QN_VOCAB_CHAR } qn_vocab_kind;

typedef struct qn_vocab qn_vocab;

qn_status qn_vocab_create_byte(qn_vocab **out) QN_CHECKED;

/* codepoints: n >= 1 Unicode scalar values, strictly increasing; copied. */
qn_status qn_vocab_create_char(const uint32_t *codepoints, int64_t n, qn_vocab **out) QN_CHECKED;

qn_status qn_vocab_copy(const qn_vocab *v, qn_vocab **out) QN_CHECKED;
void qn_vocab_free(qn_vocab *v); /* NULL is legal */

qn_vocab_kind qn_vocab_get_kind(const qn_vocab *v);
int64_t qn_vocab_size(const qn_vocab *v);

/* The id of a character (of a byte in a byte vocabulary), -1 if it has none. */
int32_t qn_vocab_id(const qn_vocab *v, uint32_t character);

/* ids has room for `bytes` entries (there are never more ids than bytes); *count gets their number.
 * QN_ERR_DATA with the byte offset for text that is not UTF-8 or holds an unknown character. */
qn_status qn_vocab_encode(const qn_vocab *v, const char *text, int64_t bytes, int32_t *ids,
                          int64_t *count) QN_CHECKED;

/* Writes the bytes of one id, 1 to 4, not terminated. QN_ERR_DATA for an id outside the
 * vocabulary. */
qn_status qn_vocab_decode(const qn_vocab *v, int32_t id, char out[4], int *bytes) QN_CHECKED;

/* The vocabulary as one JSON value, {"type":"byte"} or {"type":"char","codepoints":[10,32,...]}.
 * *json is the caller's (qn_free). */
qn_status qn_vocab_save(const qn_vocab *v, char **json) QN_CHECKED;

/* Reads what qn_vocab_save wrote. JSON white space may stand between tokens; anything else that
 * differs is QN_ERR_FORMAT with the offset. */
qn_status qn_vocab_load(const char *json, qn_vocab **out) QN_CHECKED;

/* Strict UTF-8 (no overlong forms, no surrogates, at most U+10FFFF): the length of the character at
 * p, of which `bytes` >= 1 are readable, or 0 if there is none. */
int qn_utf8_next(const unsigned char *p, int64_t bytes, uint32_t *character);

/* Writes a Unicode scalar value as UTF-8, 1 to 4 bytes, and returns the length. */
int qn_utf8_write(uint32_t character, char out[4]);

#endif
