/* harness_internal.h — guarded operands, shared by the call checks and the gradient check. */
#ifndef QN_HARNESS_INTERNAL_H
#define QN_HARNESS_INTERNAL_H

#include "tests/harness.h"

/* A tensor in storage of its own with sentinels on both sides. `t` is what the op sees; `whole` is
 * the contiguous tensor it lies in, wider than `t` when the case asks for gaps in the rows. */
typedef struct qni_operand {
    qn_tensor t, whole;
    unsigned char *raw;  /* NULL = absent */
    size_t bytes, total; /* of the tensor; with the sentinels */
} qni_operand;

typedef struct qni_operands {
    qni_operand in[QN_MAX_IN];
} qni_operands;

/* Storage for a tensor of this shape, every byte 0xFF (NaN in the float dtypes). */
void qni_operand_make(qni_operand *o, qn_dtype dt, int ndim, const int64_t *shape, bool gap);
void qni_operand_free(qni_operand *o);
bool qni_operand_guards_ok(const qni_operand *o);

/* The case's inputs for a run in `dt`. With `source` the values are source's, widened. */
void qni_operands_make(qni_operands *s, const qn_case *c, qn_dtype dt, const qni_operands *source);
void qni_operands_free(qni_operands *s);

void qni_check_calls(const qn_case *c);
void qni_check_gradient(const qn_case *c);

#endif
