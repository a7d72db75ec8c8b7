/* cublaslt.c — cuBLASLt by dlopen: entry points by name, one product, the heuristic's first choice.
 *
 * The library thinks in columns: C (m,n) by rows is its D (n,m) by columns, so that it is asked for
 * D = op(B)^T op(A)^T, and our B is its A.
 */
#include "kernels/cublaslt.h"

#if defined(QUERN_CUDA) && __has_include(<cublasLt.h>)

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* X(member, symbol): type and place of each entry point. */
/* clang-format off */
#define QNI_CUBLASLT_MAP(X)                                                                       \
    X(CREATE, cublasLtCreate) X(DESTROY, cublasLtDestroy) X(VERSION, cublasLtGetVersion)          \
    X(STATUS, cublasLtGetStatusString)                                                            \
    X(DESC_CREATE, cublasLtMatmulDescCreate) X(DESC_DESTROY, cublasLtMatmulDescDestroy)           \
    X(DESC_SET, cublasLtMatmulDescSetAttribute)                                                   \
    X(LAYOUT_CREATE, cublasLtMatrixLayoutCreate) X(LAYOUT_DESTROY, cublasLtMatrixLayoutDestroy)   \
    X(PREFERENCE_CREATE, cublasLtMatmulPreferenceCreate)                                          \
    X(PREFERENCE_DESTROY, cublasLtMatmulPreferenceDestroy)                                        \
    X(PREFERENCE_SET, cublasLtMatmulPreferenceSetAttribute)                                       \
    X(HEURISTIC, cublasLtMatmulAlgoGetHeuristic) X(MATMUL, cublasLtMatmul)
/* clang-format on */

enum {
#define QNI_X(member, symbol) ENTRY_##member,
    QNI_CUBLASLT_MAP(QNI_X)
#undef QNI_X
        ENTRIES
};
_Static_assert((int)ENTRIES == (int)QN_CUBLASLT_ENTRIES, "one place for each entry point");
_Static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof((qn_cublaslt_product){0}.algorithm), "");

/* The entry point with its own type. A function pointer may not be cast from an object's. */
#define CALL(l, member, symbol) (*(__typeof__(&symbol) const *)(const void *)&(l)->entry[member])

static qn_status check(const qn_cublaslt *l, cublasStatus_t e, const char *what) {
    if (e == CUBLAS_STATUS_SUCCESS) return QN_OK;
    qn_status s = e == CUBLAS_STATUS_NOT_SUPPORTED || e == CUBLAS_STATUS_ARCH_MISMATCH
                      ? QN_ERR_UNSUPPORTED
                      : QN_ERR_DEVICE;
    return qn_fail(s, "cuBLASLt: %s: %s", what, CALL(l, ENTRY_STATUS, cublasLtGetStatusString)(e));
}

/* ---- the library ----------------------------------------------------------------------------- */

qn_status qn_cublaslt_open(qn_cublaslt *out) {
    static const char *const symbols[] = {
#define QNI_X(member, symbol) #symbol,
        QNI_CUBLASLT_MAP(QNI_X)
#undef QNI_X
    };
    char name[64];
    *out = (qn_cublaslt){0};
    snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    const char *asked = getenv("QUERN_CUBLASLT");
    const char *file = asked && asked[0] ? asked : name;
    out->library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!out->library) return qn_fail(QN_ERR_UNSUPPORTED, "cuBLASLt: %s", dlerror());
    for (int i = 0; i < ENTRIES; i++) {
        out->entry[i] = dlsym(out->library, symbols[i]);
        if (out->entry[i]) continue;
        return qn_fail(QN_ERR_UNSUPPORTED, "cuBLASLt: %s has no %s", file, symbols[i]);
    }
    cublasLtHandle_t handle = NULL;
    QN_TRY(check(out, CALL(out, ENTRY_CREATE, cublasLtCreate)(&handle), "cublasLtCreate"));
    out->handle = handle;
    size_t v = CALL(out, ENTRY_VERSION, cublasLtGetVersion)(); /* 130200 */
    snprintf(out->version, sizeof out->version, "%u.%u.%u", (unsigned)(v / 10000 % 1000),
             (unsigned)(v / 100 % 100), (unsigned)(v % 100));
    return QN_OK;
}

void qn_cublaslt_close(qn_cublaslt *l) {
    if (l->handle) (void)CALL(l, ENTRY_DESTROY, cublasLtDestroy)(l->handle);
    if (l->library) dlclose(l->library);
    *l = (qn_cublaslt){0};
}

/* ---- a product ------------------------------------------------------------------------------- */

static const char *refusal(const qn_product *p) {
    bool known = p->activation == QN_ACT_NONE || p->activation == QN_ACT_RELU ||
                 p->activation == QN_ACT_GELU_TANH;
    if (p->batch_dims > 0) return "batch axes";
    if (p->pre && (p->activation != QN_ACT_GELU_TANH || p->c_dtype != p->dtype))
        return "a pre-activation of other than GELU";
    if (!known) return "this activation";
    if (p->residual && p->accumulate) return "a residual beside accumulation";
    if (p->activation != QN_ACT_NONE && (p->residual || p->accumulate))
        return "an activation of which something is added";
    if (p->residual && p->c_dtype != p->dtype) return "a residual of another dtype than C";
    if (p->residual && p->ldr != p->ldc) return "a residual whose rows lie other than C's";
    if (p->bias && p->bias_step != 1) return "a bias with gaps";
    return NULL;
}

static cudaDataType_t type_of(qn_dtype dt) { return dt == QN_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

static cublasLtEpilogue_t epilogue_of(const qn_product *p) {
    switch (p->activation) {
    case QN_ACT_RELU: return p->bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case QN_ACT_GELU_TANH:
        if (p->pre) return p->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
        return p->bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    default: return p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    }
}

static qn_status set(const qn_cublaslt *l, const qn_cublaslt_product *q,
                     cublasLtMatmulDescAttributes_t which, const void *value, size_t bytes) {
    return check(l,
                 CALL(l, ENTRY_DESC_SET, cublasLtMatmulDescSetAttribute)(q->description, which,
                                                                         value, bytes),
                 "cublasLtMatmulDescSetAttribute");
}

static qn_status describe(const qn_cublaslt *l, const qn_product *p, qn_cublaslt_product *q) {
    int32_t first = p->b_trans ? CUBLAS_OP_T : CUBLAS_OP_N;
    int32_t second = p->a_trans ? CUBLAS_OP_T : CUBLAS_OP_N;
    uint32_t epilogue = (uint32_t)epilogue_of(p);
    int32_t bias_type = (int32_t)type_of(p->dtype);
    cublasLtMatmulDesc_t made = NULL;
    QN_TRY(check(
        l,
        CALL(l, ENTRY_DESC_CREATE, cublasLtMatmulDescCreate)(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate"));
    q->description = made;
    QN_TRY(set(l, q, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    QN_TRY(set(l, q, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
    QN_TRY(set(l, q, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    if (p->pre) {
        QN_TRY(set(l, q, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &p->pre, sizeof p->pre));
        QN_TRY(set(l, q, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p->ldp, sizeof p->ldp));
    }
    if (!p->bias) return QN_OK;
    QN_TRY(set(l, q, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias));
    return set(l, q, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type);
}

/* rows lie along memory, `ld` apart. */
static qn_status lay_out(const qn_cublaslt *l, qn_dtype dt, int64_t along, int64_t across,
                         int64_t ld, void **out) {
    cublasLtMatrixLayout_t made = NULL;
    QN_TRY(check(l,
                 CALL(l, ENTRY_LAYOUT_CREATE, cublasLtMatrixLayoutCreate)(
                     &made, type_of(dt), (uint64_t)along, (uint64_t)across, ld),
                 "cublasLtMatrixLayoutCreate"));
    *out = made;
    return QN_OK;
}

static qn_status choose(const qn_cublaslt *l, size_t allowed, qn_cublaslt_product *q) {
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    QN_TRY(check(l, CALL(l, ENTRY_PREFERENCE_CREATE, cublasLtMatmulPreferenceCreate)(&preference),
                 "cublasLtMatmulPreferenceCreate"));
    qn_status s =
        check(l,
              CALL(l, ENTRY_PREFERENCE_SET, cublasLtMatmulPreferenceSetAttribute)(
                  preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &allowed, sizeof allowed),
              "cublasLtMatmulPreferenceSetAttribute");
    if (s == QN_OK) {
        s = check(l,
                  CALL(l, ENTRY_HEURISTIC,
                       cublasLtMatmulAlgoGetHeuristic)(l->handle, q->description, q->a, q->b, q->c,
                                                       q->c, preference, 1, &found, &count),
                  "cublasLtMatmulAlgoGetHeuristic");
    }
    (void)CALL(l, ENTRY_PREFERENCE_DESTROY, cublasLtMatmulPreferenceDestroy)(preference);
    if (s != QN_OK) return s;
    if (count == 0) return qn_fail(QN_ERR_UNSUPPORTED, "cuBLASLt: no algorithm for this product");
    memcpy(q->algorithm, &found.algo, sizeof q->algorithm);
    q->workspace_bytes = found.workspaceSize;
    return QN_OK;
}

qn_status qn_cublaslt_prepare(const qn_cublaslt *l, const qn_product *p, size_t workspace_bytes,
                              qn_cublaslt_product *out) {
    const char *reason = refusal(p);
    *out = (qn_cublaslt_product){0};
    if (reason) return qn_fail(QN_ERR_UNSUPPORTED, "cuBLASLt: not asked for %s", reason);
    qn_status status = QN_OK;
    QN_TRY_GOTO(describe(l, p, out));
    QN_TRY_GOTO(
        lay_out(l, p->dtype, p->b_trans ? p->k : p->n, p->b_trans ? p->n : p->k, p->ldb, &out->a));
    QN_TRY_GOTO(
        lay_out(l, p->dtype, p->a_trans ? p->m : p->k, p->a_trans ? p->k : p->m, p->lda, &out->b));
    QN_TRY_GOTO(lay_out(l, p->c_dtype, p->n, p->m, p->ldc, &out->c));
    QN_TRY_GOTO(choose(l, workspace_bytes, out));
done:
    if (status != QN_OK) qn_cublaslt_release(l, out);
    return status;
}

qn_status qn_cublaslt_run(const qn_cublaslt *l, const qn_cublaslt_product *q, const qn_product *p,
                          void *workspace, void *stream) {
    const float alpha = p->alpha, beta = p->accumulate || p->residual ? 1.0f : 0.0f;
    const void *added = p->residual ? p->residual : p->c;
    cublasLtMatmulAlgo_t algorithm;
    memcpy(&algorithm, q->algorithm, sizeof algorithm);
    return check(l,
                 CALL(l, ENTRY_MATMUL, cublasLtMatmul)(
                     l->handle, q->description, &alpha, p->b, q->a, p->a, q->b, &beta, added, q->c,
                     p->c, q->c, &algorithm, workspace, q->workspace_bytes, (cudaStream_t)stream),
                 "cublasLtMatmul");
}

void qn_cublaslt_release(const qn_cublaslt *l, qn_cublaslt_product *q) {
    void *const layouts[] = {q->a, q->b, q->c};
    for (int i = 0; i < 3; i++) {
        if (layouts[i])
            (void)CALL(l, ENTRY_LAYOUT_DESTROY, cublasLtMatrixLayoutDestroy)(layouts[i]);
    }
    if (q->description)
        (void)CALL(l, ENTRY_DESC_DESTROY, cublasLtMatmulDescDestroy)(q->description);
    *q = (qn_cublaslt_product){0};
}

#else

qn_status qn_cublaslt_open(qn_cublaslt *out) {
    *out = (qn_cublaslt){0};
    return qn_fail(QN_ERR_UNSUPPORTED, "cuBLASLt: this build was made without cublasLt.h");
}

void qn_cublaslt_close(qn_cublaslt *l) { *l = (qn_cublaslt){0}; }

qn_status qn_cublaslt_prepare(const qn_cublaslt *l, const qn_product *p, size_t workspace_bytes,
                              qn_cublaslt_product *out) {
    (void)l, (void)p, (void)workspace_bytes;
    *out = (qn_cublaslt_product){0};
    return qn_fail(QN_ERR_UNSUPPORTED, "cuBLASLt: this build was made without cublasLt.h");
}

qn_status qn_cublaslt_run(const qn_cublaslt *l, const qn_cublaslt_product *q, const qn_product *p,
                          void *workspace, void *stream) {
    (void)l, (void)q, (void)p, (void)workspace, (void)stream;
    return qn_fail(QN_ERR_UNSUPPORTED, "cuBLASLt: this build was made without cublasLt.h");
}

void qn_cublaslt_release(const qn_cublaslt *l, qn_cublaslt_product *q) {
    (void)l;
    *q = (qn_cublaslt_product){0};
}

#endif
