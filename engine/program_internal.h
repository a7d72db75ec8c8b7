/* program_internal.h — a program as planner.c, program.c and replay.c see it. */
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
    qn_body *body;           /* per call, chosen by bind */
    qni_peak peak;
    qn_device device;
    const qn_device_row *row; /* of the device */
    qn_arena *pool;           /* NULL until bound */
    int prepared;             /* calls whose prepare has run */
    bool stepwise, graph;     /* QUERN_SYNC=1; record a graph */
    int64_t replays;
    void *recording; /* the graph, NULL until there is one */
    void **events;   /* call count + 1 once a replay was timed */
};

qn_status qni_plan(qn_program *p) QN_CHECKED; /* planner.c */
/* How a bound program will be replayed; and the end of that (replay.c). */
void qni_replay_setup(qn_program *p);
void qni_replay_release(qn_program *p);

#endif
