/* tape_internal.h — what tape.c, differentiate.c, planner.c and program.c share. */
#ifndef QN_TAPE_INTERNAL_H
#define QN_TAPE_INTERNAL_H

#include "engine/ops.h"

typedef struct qni_scope {
    const char *path;
    int parent;
    int recompute; /* outermost enclosing scope chosen for recomputation, -1 = none */
} qni_scope;

struct qn_tape {
    qn_setup *setup;
    qn_tape_options options;
    qn_error error; /* status QN_OK until the first failure */

    qn_node **nodes;
    int n_nodes, cap_nodes;
    qn_value **values;
    int n_values, cap_values;
    qni_scope *scopes; /* scope 0 is the top level */
    int n_scopes, cap_scopes;

    int scope; /* the one being recorded in */
    int no_grad;
    bool in_backward;
    qn_value *root; /* the loss being differentiated */
};

qn_status qni_tape_fail(qn_tape *t, qn_status s); /* keeps the first error */
qn_value *qni_value_new(qn_tape *t, const qn_tensor *desc, qn_class cls, const char *name);
qn_status qni_node_append(qn_tape *t, qn_node *n) QN_CHECKED;
qn_value *qni_node_output(qn_tape *t, qn_node *n, int slot, const qn_tensor *desc);
/* Runs infer for `n` with the present outputs and checks given storage against the result. */
qn_status qni_node_infer(qn_tape *t, qn_node *n, qn_tensor *described) QN_CHECKED;
/* Decides, for an output that is gradient storage, between write and accumulate (differentiate.c).
 * Sets *redirect to a temporary when the op cannot accumulate there. */
qn_status qni_grad_claim(qn_tape *t, qn_node *n, int slot, qn_value **redirect) QN_CHECKED;
/* dst += src by a copy call. */
qn_status qni_grad_merge(qn_tape *t, qn_value *dst, qn_value *src) QN_CHECKED;

static inline bool qni_owns(const qn_value *v) { return v->base == v; }

#endif
