/* sha256.h — SHA-256 (FIPS 180-4), for the digests in a checkpoint's manifest. */
#ifndef QN_SHA256_H
#define QN_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { QN_SHA256_BYTES = 32, QN_SHA256_HEX = 65 }; /* QN_SHA256_HEX counts the final NUL */

typedef struct qn_sha256 {
    uint32_t h[8];
    uint64_t bytes;    /* fed so far */
    uint8_t block[64]; /* the unfinished block */
} qn_sha256;

/* Digest of any split of the same bytes is the same. Uses the CPU's SHA instructions where it has
 * them; the result does not depend on that. Cannot fail. */
void qn_sha256_init(qn_sha256 *s);
void qn_sha256_update(qn_sha256 *s, const void *data, size_t bytes);
void qn_sha256_final(qn_sha256 *s, uint8_t digest[QN_SHA256_BYTES]);
/* As final, written as 64 lower-case hexadecimal digits and a NUL. */
void qn_sha256_final_hex(qn_sha256 *s, char hex[QN_SHA256_HEX]);
/* One call for bytes at hand. */
void qn_sha256_hex(const void *data, size_t bytes, char hex[QN_SHA256_HEX]);

/* The portable compression, which the tests compare with the fast one. */
void qn_sha256_update_portable(qn_sha256 *s, const void *data, size_t bytes);

#endif
