/* build_parts.h — what the files behind io/build.h share. */
#ifndef QN_BUILD_PARTS_H
#define QN_BUILD_PARTS_H

#include "io/build.h"

/* build_attention.c: scaling of scores, rotary positions and windows into b->model_config. */
qn_status qni_build_attention(qn_build *b, const qn_config *c) QN_CHECKED;

#endif
