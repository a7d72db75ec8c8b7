/* measure_internal.h — one described call on the device, shared by timing and checking. */
#ifndef QN_MEASURE_INTERNAL_H
#define QN_MEASURE_INTERNAL_H

#include "engine/measure.h"

typedef struct qni_bench_call {
    qn_tensor in[QN_MAX_IN], out[QN_MAX_OUT];
    qn_segment segment;
    qn_measure_case c; /* attributes live here */
    qn_call call;
} qni_bench_call;

/* The call of a case as `infer` describes it, no storage yet. dtype QN_F64 widens every floating
 * operand; anything else leaves the case's dtypes. */
qn_status qni_bench_describe(const qn_measure_case *c, int threads, bool wide,
                             qni_bench_call *out) QN_CHECKED;
/* The input whose storage the updated output `slot` is. */
int qni_bench_updated(const qn_op *op, int slot);

/* The relative error of a call that has run on the device, whose inputs were `before` (host copies,
 * as qni_bench_save makes them) in advance. */
typedef struct qni_bench_saved {
    void *in[QN_MAX_IN];
} qni_bench_saved;
qn_status qni_bench_save(qn_device d, const qni_bench_call *b, qni_bench_saved *out) QN_CHECKED;
void qni_bench_saved_free(qni_bench_saved *s);
qn_status qni_bench_error(qn_device d, const qni_bench_call *b, const qni_bench_saved *before,
                          double *out) QN_CHECKED;

/* The products of some calls, in cuBLASLt. */
typedef struct qni_bench_library {
    const qn_cublaslt *library; /* NULL = empty */
    int n;
    qn_product *product;
    qn_cublaslt_product *prepared;
    void *workspace;
} qni_bench_library;

/* QN_ERR_UNSUPPORTED: these calls are no products, or none that the library takes. *out may be
 * freed either way. */
qn_status qni_bench_library_make(const qn_cublaslt *library, qni_bench_call *calls, int n,
                                 qni_bench_library *out) QN_CHECKED;
qn_status qni_bench_library_run(const qni_bench_library *l, int i, void *stream) QN_CHECKED;
void qni_bench_library_free(qni_bench_library *l);

#endif
