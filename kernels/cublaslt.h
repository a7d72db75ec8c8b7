/* cublaslt.h — NVIDIA's matrix products, found at run time: what the hand-written ones are held
 * against in measurements.
 *
 * The library is opened by name when it is first asked for, so a program neither links it nor needs
 * it. Host only; compiles as C11 and as C++. The objects belong to the caller, who may put them on
 * the stack.
 */
#ifndef QN_CUBLASLT_H
#define QN_CUBLASLT_H

#include "kernels/matmul.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QN_CUBLASLT_ENTRIES = 14 };

typedef struct qn_cublaslt {
    void *library, *handle;
    void *entry[QN_CUBLASLT_ENTRIES];
    char version[16]; /* "13.1.0" */
} qn_cublaslt;

/* Opens the library QUERN_CUBLASLT names, else that of this build's CUDA version. The device has
 * been opened. QN_ERR_UNSUPPORTED where there is none, or the build lacks its header; *out may be
 * closed either way. */
qn_status qn_cublaslt_open(qn_cublaslt *out) QN_CHECKED;
void qn_cublaslt_close(qn_cublaslt *l);

/* One product and the algorithm the library's heuristic puts first. */
typedef struct qn_cublaslt_product {
    void *description, *a, *b, *c; /* a, b: the library's, which sees the product transposed */
    uint64_t algorithm[8];
    size_t workspace_bytes; /* what the algorithm needs of those allowed */
} qn_cublaslt_product;

/* Batch axes, another activation than ReLU and GELU's tanh form, and a residual or accumulation
 * beside an activation are not asked for: QN_ERR_UNSUPPORTED with the reason, as where the library
 * has no algorithm. Sums are f32 (never tf32), rounded once. */
qn_status qn_cublaslt_prepare(const qn_cublaslt *l, const qn_product *p, size_t workspace_bytes,
                              qn_cublaslt_product *out) QN_CHECKED;
/* Enqueues it. `workspace`: device memory on a multiple of 256. */
qn_status qn_cublaslt_run(const qn_cublaslt *l, const qn_cublaslt_product *q, const qn_product *p,
                          void *workspace, void *stream) QN_CHECKED;
void qn_cublaslt_release(const qn_cublaslt *l, qn_cublaslt_product *q);

#ifdef __cplusplus
}
#endif
#endif
