/* build_parts.h — what the files behind io/build.h share. */
#ifndef QN_BUILD_PARTS_H
#define QN_BUILD_PARTS_H

#include "io/build.h"

/* build_attention.c: scaling of scores, rotary positions and windows into b->model_config. */
qn_status qni_build_attention(qn_build *b, const qn_config *c) QN_CHECKED;

/* build_head.c. Vocabulary, head and labels of the model; needs b->classes from the data. */
qn_status qni_build_head(qn_build *b, const qn_config *c) QN_CHECKED;
/* Wraps the source of a masked language model, so that it hides tokens. */
qn_status qni_build_masking(qn_build *b, const qn_config *c) QN_CHECKED;
/* The fields of samples of `block` tokens for the model's head, where the data is not. */
void qni_build_head_fields(const qn_config *c, int64_t block, qn_source *out);

#endif
