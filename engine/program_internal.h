/* program_internal.h — a program as planner.c and program.c see it. */
#ifndef QN_PROGRAM_INTERNAL_H
#define QN_PROGRAM_INTERNAL_H

#include "engine/tape_internal.h"

typedef struct qni_peak { /* live bytes at the call where they are most */
    int call;
    int64_t activations, gradients, workspace;
} qni_peak;

struct qn_program {
    qn_tape *tape; /* owns the nodes and values */
    int64_t pool_bytes;
    int64_t *scratch_offset; /* per call */
    qn_kernel **kernels;     /* per call, chosen by bind */
    qni_peak peak;
    qn_device device;
    qn_arena *pool; /* NULL until bound */
    int prepared;   /* calls whose prepare has run */
};

qn_status qni_plan(qn_program *p) QN_CHECKED; /* planner.c */

#endif
