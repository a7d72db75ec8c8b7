/* session_internal.h — what session.c, which lays memory out, and session_step.c, which runs it,
 * share.
 */
#ifndef QN_SESSION_INTERNAL_H
#define QN_SESSION_INTERNAL_H

#include "engine/train.h"

/* Every tensor of the run arena and of staging starts on a multiple of 64 bytes. */
static inline size_t qni_padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Host memory the lanes need; 0 where the host sees the run arena itself. */
size_t qni_lanes_bytes(const qn_session *s);
qn_status qni_lanes_create(qn_session *s) QN_CHECKED; /* the run arena is laid out */
void qni_lanes_free(qn_session *s);

#endif
