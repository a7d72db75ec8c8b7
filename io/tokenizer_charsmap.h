/* tokenizer_charsmap.h — SentencePiece's compiled character map: strings to be replaced, in a
 * double array (darts-clone), and what they become.
 *
 * Not for use outside io/tokenizer*.c.
 */
#ifndef QN_TOKENIZER_CHARSMAP_H
#define QN_TOKENIZER_CHARSMAP_H

#include "io/tokenizer_parts.h"

typedef struct qni_charsmap { /* {0} replaces nothing */
    const uint32_t *unit;
    int64_t units;
    const char *text; /* the replacements, each ended by a NUL */
    int64_t bytes;
} qni_charsmap;

/* Reads `u32 bytes of the array, array, replacements`; copied to the arena. QN_ERR_FORMAT. */
qn_status qni_charsmap_read(qn_setup *arena, const void *blob, int64_t bytes,
                            qni_charsmap *out) QN_CHECKED;

/* The replacement for the longest (else the shortest) string of the map that the text begins with:
 * NULL if there is none; *length gets the bytes it replaces. */
const char *qni_charsmap_match(const qni_charsmap *m, const char *text, int64_t bytes, bool longest,
                               int64_t *length);

/* {"type":"Precompiled"} of tokenizer.json. */
qn_status qni_read_precompiled(qn_tokenizer *t, const cJSON *json) QN_CHECKED;

#endif
