/* op_linear.h — what the files of linear, its gradients and its adapters share. */
#ifndef QN_OP_LINEAR_H
#define QN_OP_LINEAR_H

#include "engine/gemm.h"
#include "engine/op_shared.h"

/* ---- op_linear.c ----------------------------------------------------------------------------- */

/* "linear: w is f32[3,4], b is f32[4]; expected ..." */
qn_status qni_fail_pair(const qn_op *op, const char *a_name, const qn_tensor *a, const char *b_name,
                        const qn_tensor *b, const char *expected) QN_CHECKED;
qn_tensor qni_with_last(const qn_tensor *x, int64_t m); /* x (..., K) with m in place of K */
/* One product per call: its primitives in call->state, its job over in[a], in[b] and out[slot]. */
qn_status qni_linear_prepare(qn_call *c, const qni_gemm *g) QN_CHECKED;
void qni_linear_release(qn_call *c);
qni_gemm_job qni_linear_job(const qn_call *c, int a, int b, int slot);
void qni_linear_cost(const qn_call *c, const qni_gemm *g, qn_cost *cost);

/* ---- op_linear_grad.c ------------------------------------------------------------------------ */

/* Records dw += dy^T x, db += column sums of dy, dx += dy w, each if it is wanted; b may be
 * NULL. */
qn_status qni_linear_grads(qn_tape *t, qn_value *x, qn_value *w, qn_value *b,
                           qn_value *dy) QN_CHECKED;

/* ---- op_adapter.c ---------------------------------------------------------------------------- */

typedef struct qni_adapter_part { /* columns [first, first + rows) of y get u B^T */
    const qn_tensor *u;
    int64_t first, rows, rank, stride; /* stride: of u's rows */
    const void *turned;                /* B^T (rank, rows), float, or double for f64 */
} qni_adapter_part;

typedef struct qni_adapters {
    int n; /* 0 for a plain linear */
    qni_adapter_part part[QN_ADAPTER_PARTS];
} qni_adapters;

/* Each of these finds no adapter in a call of plain linear. */
qn_status qni_adapters_infer(const qn_call *c) QN_CHECKED;
size_t qni_adapters_scratch(const qn_call *c); /* a multiple of 64, at the start of the scratch */
void qni_adapters_pack(const qn_call *c, qni_adapters *out);
double qni_adapters_at(const qn_call *c, int64_t row, int64_t col);
/* z += the adapters' columns [col, col + n) of a row */
void qni_adapters_add_f32(const qni_adapters *a, int64_t row, int64_t col, int64_t n, float *z);
void qni_adapters_add_f64(const qni_adapters *a, int64_t row, int64_t col, int64_t n, double *z);
qn_status qni_adapters_backward(qn_tape *t, qn_node *node, qn_value *dpre) QN_CHECKED;
void qni_adapters_cost(const qn_call *c, qn_cost *cost);

#endif
