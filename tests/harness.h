/* harness.h — one description of a case becomes every check an op owes.
 *
 * From {op, inputs, attributes, tolerance} qn_check_case runs:
 *   REF against the PyTorch-f64 golden file, if the case names one;
 *   CPU body against REF (f64-computed), and bf16 against the f64-then-rounded result;
 *   twice equal bitwise; 1 and 2 threads equal bitwise;
 *   outputs pre-filled with NaN, sentinels around every buffer, inputs unchanged;
 *   each QN_MAY_REUSE declaration run with and without sharing, equal bitwise;
 *   accumulate bits: out += result;
 *   gradient through the tape in f64 against central differences with one Richardson step, <= 1e-6 relative.
 * Comparisons are written so that NaN fails.
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
    bool integer;          /* i32; otherwise the case's dtype (or `fixed` dtype) */
    int fixed_dtype;       /* 0 = follow the case; else 1 + qn_dtype */
    int ndim;
    int64_t shape[QN_MAX_DIMS];
    bool strided;          /* lay it out with a gap in each row (a view of a wider tensor) */
    qn_fill_kind fill;
    double limit, value;
    bool no_grad;
} qn_case_input;

typedef struct qn_case {
    const char *name;
    const qn_op *op;
    qn_case_input in[QN_MAX_IN];
    const void *attrs;
    uint32_t want_out;       /* optional outputs to ask for */
    uint32_t check_out;      /* outputs compared (0 = all present) */
    double tol_f32;          /* |cpu - ref| <= tol * (1 + |ref|); each with a reason in the table */
    double tol_bf16;         /* as above against the f64 result rounded to bf16 */
    const char *golden;      /* tests/golden/<golden>.bin or NULL */
    bool skip_grad;
    bool rooted;             /* a loss: differentiate it as the root instead of a weighted sum */
} qn_case;

/* Runs every check for dtypes f32, bf16 (if the row's CPU body or REF takes it) and f64. */
void qn_check_case(const qn_case *c);
void qn_check_cases(const qn_case *c, int n);

/* Small helpers shared by tests. */
#define qn_assert_ok(expr)                                                                        \
    do {                                                                                          \
        qn_status s_ = (expr);                                                                    \
        if (s_ != QN_OK) fail_msg("%s: %s: %s", #expr, qn_status_name(s_), qn_error_message());   \
    } while (0)
void qn_assert_close(double got, double want, double tol, const char *what); /* NaN fails */
const char *qn_test_data(const char *relative); /* path under QUERN_TEST_DATA, NULL if absent (prints a line) */
char *qn_test_dir(void);                        /* fresh temporary directory, removed by qn_test_dir_remove */
void qn_test_dir_remove(char *dir);
uint64_t qn_hash_tensor(const qn_tensor *t);

#endif
