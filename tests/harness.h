/* harness.h — one description of a case becomes every check an op owes.
 *
 * From {op, inputs, attributes, tolerance} qn_check_case runs, for f32, bf16 and f64:
 *   every body (CUDA's where a device answers) against REF computed in f64 from the same (already
 *     rounded) inputs;
 *   twice equal bitwise; 1 and 2 threads equal bitwise;
 *   outputs and scratch pre-filled with NaN, sentinels around every buffer, inputs unchanged;
 *   each QN_MAY_REUSE declaration run with and without sharing, equal bitwise;
 *   accumulate bits: out += result;
 *   gradient through the tape in f64 against central differences with one Richardson step, <= 1e-6
 * relative. Comparisons are written so that NaN fails. PyTorch's f64 results are
 * test_golden_ops.c's matter.
 */
#ifndef QN_HARNESS_H
#define QN_HARNESS_H

#include "engine/ops.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

typedef enum qn_fill_kind {
    QN_FILL_NORMAL,   /* N(0,1) */
    QN_FILL_POSITIVE, /* 0.5 .. 2 */
    QN_FILL_IDS,      /* integers 0 .. limit-1 */
    QN_FILL_TARGETS,  /* as IDS, every fifth one ignored (-100) */
    QN_FILL_VALUE     /* the constant `value` */
} qn_fill_kind;

typedef struct qn_case_input {
    bool present;
    bool integer;    /* i32; otherwise the case's dtype (or `fixed` dtype) */
    int fixed_dtype; /* 0 = follow the case; else 1 + qn_dtype; floats are f64 in f64 runs */
    int ndim;
    int64_t shape[QN_MAX_DIMS];
    bool strided; /* lay it out with a gap in each row (a view of a wider tensor) */
    qn_fill_kind fill;
    double limit, value;
    bool no_grad;
} qn_case_input;

typedef struct qn_case {
    const char *name;
    const qn_op *op;
    qn_case_input in[QN_MAX_IN];
    const void *attrs;
    uint32_t want_out;  /* optional outputs to ask for */
    uint32_t check_out; /* outputs compared (0 = all present) */
    double tol_f32;     /* |got - want| <= tol * (1 + |want|); each with a reason in the table */
    double tol_bf16;    /* as above against the f64 result rounded to the output's dtype */
    double far_share;   /* of bf16 elements that may be further than 2 ulp from the f64 result; 0 =
                         0.001; more with a reason in the table */
    uint32_t dtypes;    /* QN_DTYPE_BIT mask of the runs wanted (0 = all the op takes) */
    bool skip_grad;
    bool rooted;       /* a loss: differentiate out[0] as the root instead of a weighted sum */
    uint32_t grad_out; /* outputs in the weighted sum (0 = those that are not optional) */
    int updates[QN_MAX_OUT]; /* QN_UPDATES outputs: 1 + the input slot whose storage it is;
                                0 = the input of the same name */
} qn_case;

/* Runs every check for dtypes f32, bf16 (if the op takes it) and f64. */
void qn_check_case(const qn_case *c);
void qn_check_cases(const qn_case *c, int n);

/* Small helpers shared by tests. */
#define qn_assert_ok(expr)                                                                         \
    do {                                                                                           \
        qn_status s_ = (expr);                                                                     \
        if (s_ != QN_OK) fail_msg("%s: %s: %s", #expr, qn_status_name(s_), qn_error_message());    \
    } while (0)
/* This build has CUDA and a device answers. If it has and none does, says so once. */
bool qn_cuda_usable(void);
/* |got - want| <= tol * (1 + |want|); NaN fails, infinities must be equal. */
void qn_assert_close(double got, double want, double tol, const char *what);
/* Path under QUERN_TEST_DATA (default ../shared/data beside the sources), NULL if absent, with a
 * visible line: the caller then calls skip(). Valid until the fourth next call in this thread. */
#define qn_test_data(relative) qn_test_data_beside(QUERN_SOURCE_DIR, relative)
const char *qn_test_data_beside(const char *source_dir, const char *relative);
char *qn_test_dir(void);            /* fresh temporary directory */
void qn_test_dir_remove(char *dir); /* removes it with everything in it, frees the name */
uint64_t
qn_hash_tensor(const qn_tensor *t); /* of dtype, shape and elements, whatever the strides */

#endif
