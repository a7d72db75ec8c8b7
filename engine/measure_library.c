/* measure_library.c — the products of measured calls in cuBLASLt, on the same operands. */
#include "engine/measure_internal.h"

#ifdef QUERN_CUDA

/* What NVIDIA advises for sm_90. */
enum { WORKSPACE = 32 << 20 };

qn_status qni_bench_library_make(const qn_cublaslt *library, qni_bench_call *calls, int n,
                                 qni_bench_library *out) {
    *out = (qni_bench_library){0};
    out->product = qn_alloc((size_t)n * sizeof *out->product, "a library's products");
    out->prepared = qn_alloc((size_t)n * sizeof *out->prepared, "a library's products");
    if (!out->product || !out->prepared) return QN_ERR_OOM;
    out->library = library;
    QN_TRY(qn_device_get(QN_CUDA)->alloc(WORKSPACE, &out->workspace));
    for (; out->n < n; out->n++) {
        QN_TRY(qn_cuda_product_of(&calls[out->n].call, &out->product[out->n]));
        QN_TRY(
            qn_cublaslt_prepare(library, &out->product[out->n], WORKSPACE, &out->prepared[out->n]));
    }
    return QN_OK;
}

qn_status qni_bench_library_run(const qni_bench_library *l, int i, void *stream) {
    return qn_cublaslt_run(l->library, &l->prepared[i], &l->product[i], l->workspace, stream);
}

void qni_bench_library_free(qni_bench_library *l) {
    for (int i = 0; i < l->n; i++) qn_cublaslt_release(l->library, &l->prepared[i]);
    if (l->workspace) qn_device_get(QN_CUDA)->release(l->workspace, WORKSPACE);
    qn_free(l->prepared);
    qn_free(l->product);
    *l = (qni_bench_library){0};
}

#else

qn_status qni_bench_library_make(const qn_cublaslt *library, qni_bench_call *calls, int n,
                                 qni_bench_library *out) {
    (void)library, (void)calls, (void)n;
    *out = (qni_bench_library){0};
    return qn_fail(QN_ERR_UNSUPPORTED, "bench: this build has no CUDA");
}

qn_status qni_bench_library_run(const qni_bench_library *l, int i, void *stream) {
    (void)l, (void)i, (void)stream;
    return qn_fail(QN_ERR_UNSUPPORTED, "bench: this build has no CUDA");
}

void qni_bench_library_free(qni_bench_library *l) { *l = (qni_bench_library){0}; }

#endif
