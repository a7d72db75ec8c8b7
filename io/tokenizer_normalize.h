/* tokenizer_normalize.h — Unicode's normal forms, with the origin of every byte.
 *
 * Not for use outside io/tokenizer*.c.
 */
#ifndef QN_TOKENIZER_NORMALIZE_H
#define QN_TOKENIZER_NORMALIZE_H

#include "io/tokenizer_parts.h"

typedef enum qni_form { QNI_NFD, QNI_NFKD, QNI_NFC, QNI_NFKC } qni_form;

/* Appends the normal form of a piece to *out. QN_ERR_OOM. */
qn_status qni_put_form(qni_form form, const qni_piece *in, qni_string *out) QN_CHECKED;
/* Appends the normalizer. */
qn_status qni_add_form(qn_tokenizer *t, qni_form form) QN_CHECKED;
bool qni_is_ascii(const qni_piece *in); /* in every normal form already */

#endif
