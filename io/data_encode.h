/* data_encode.h — one fine-tuning example as tokens, and which of them are learned; shared by the
 * source and by `quern prepare`. */
#ifndef QN_DATA_ENCODE_H
#define QN_DATA_ENCODE_H

#include "io/data_parts.h"
#include "io/examples.h"

typedef struct qni_encoded { /* one example; reused from example to example, {0} at first */
    qn_ids ids;
    unsigned char *target, *type; /* per token, as qni_samples */
    int64_t room;                 /* of both */
    int64_t learned;              /* tokens */
    int64_t cut;                  /* tokens that truncation took away */
    bool dropped;                 /* too long, by policy */
} qni_encoded;
void qni_encoded_free(qni_encoded *e);

/* Encodes by the options' tokenizer, template, masks and truncation. QN_ERR_DATA, without a place,
 * for a conversation the template refuses, an example that is too long under QN_TRUNCATE_ERROR, and
 * one of which nothing is learned, with the reason. */
qn_status qni_encode_example(const qn_data_options *o, const qn_example *x,
                             qni_encoded *e) QN_CHECKED;

#endif
