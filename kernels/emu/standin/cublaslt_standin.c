/* cublaslt_standin.c — a cuBLASLt of plain loops for the emulated device: a library of its own,
 * which QUERN_CUBLASLT names. It has the calls that kernels/cublaslt.c makes and does at the
 * stream's time what NVIDIA's documentation says of them: D = epilogue(alpha op(A) op(B) + beta C),
 * by columns, with f32 sums. What it is not asked for it refuses.
 */
#include <cublasLt.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct description {
    int32_t a_op, b_op, bias_type;
    uint32_t epilogue;
    const void *bias;
    void *kept; /* the pre-activation */
    int64_t kept_ld;
} description;

typedef struct layout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
} layout;

typedef struct work {
    description d;
    layout a, b, c;
    float alpha, beta;
    const void *at_a, *at_b, *at_c;
    void *at_d;
    struct work *next;
} work;

/* A graph may launch a work again and again: it stays as long as the handle. */
typedef struct context {
    work *first;
} context;

size_t cublasLtGetVersion(void) { return CUBLAS_VERSION; }

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_INVALID_VALUE   ? "invalid value"
           : status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported"
           : status == CUBLAS_STATUS_ALLOC_FAILED  ? "no memory"
                                                   : "another status";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = calloc(1, sizeof(context));
    return *handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    for (work *w = ((context *)(void *)handle)->first, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- descriptions ---------------------------------------------------------------------------- */

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    description *d = calloc(1, sizeof *d);
    if (!d) return CUBLAS_STATUS_ALLOC_FAILED;
    d->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    *out = (cublasLtMatmulDesc_t)(void *)d;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
    free(d);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t which,
                                              const void *value, size_t bytes) {
    description *d = (description *)(void *)desc;
    void *to;
    size_t size;
    switch (which) {
    case CUBLASLT_MATMUL_DESC_TRANSA: to = &d->a_op, size = sizeof d->a_op; break;
    case CUBLASLT_MATMUL_DESC_TRANSB: to = &d->b_op, size = sizeof d->b_op; break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: to = &d->epilogue, size = sizeof d->epilogue; break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: to = &d->bias, size = sizeof d->bias; break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: to = &d->bias_type, size = sizeof d->bias_type; break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: to = &d->kept, size = sizeof d->kept; break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: to = &d->kept_ld, size = sizeof d->kept_ld; break;
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
    if (type != CUDA_R_32F && type != CUDA_R_16BF) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    layout *l = malloc(sizeof *l);
    if (!l) return CUBLAS_STATUS_ALLOC_FAILED;
    *l = (layout){type, rows, cols, ld};
    *out = (cublasLtMatrixLayout_t)(void *)l;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
    free(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = calloc(1, sizeof **out);
    return *out ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
    free(p);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t which,
                                                    const void *value, size_t bytes) {
    (void)p, (void)value;
    if (which != CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return CUBLAS_STATUS_NOT_SUPPORTED;
    return bytes == sizeof(size_t) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- products -------------------------------------------------------------------------------- */

/* Do the layouts fit each other? */
static bool fits(const description *d, const layout *a, const layout *b, const layout *c) {
    uint64_t m = d->a_op == CUBLAS_OP_T ? a->cols : a->rows;
    uint64_t k = d->a_op == CUBLAS_OP_T ? a->rows : a->cols;
    uint64_t k_of_b = d->b_op == CUBLAS_OP_T ? b->cols : b->rows;
    uint64_t n = d->b_op == CUBLAS_OP_T ? b->rows : b->cols;
    return k == k_of_b && c->rows == m && c->cols == n && a->type == b->type;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *out, int *count) {
    (void)handle, (void)preference;
    if (wanted < 1 || c != d || !fits((void *)desc, (void *)a, (void *)b, (void *)c))
        return CUBLAS_STATUS_INVALID_VALUE;
    *out = (cublasLtMatmulHeuristicResult_t){.state = CUBLAS_STATUS_SUCCESS};
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static float load(cudaDataType_t type, const void *p, int64_t at) {
    if (type == CUDA_R_32F) return ((const float *)p)[at];
    uint32_t word = (uint32_t)((const uint16_t *)p)[at] << 16;
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
}

static void store(cudaDataType_t type, void *p, int64_t at, float x) {
    uint32_t word;
    memcpy(&word, &x, sizeof word);
    if (type == CUDA_R_32F) {
        ((float *)p)[at] = x;
    } else if (isnan(x)) {
        ((uint16_t *)p)[at] = 0x7FC0;
    } else {
        ((uint16_t *)p)[at] = (uint16_t)((word + 0x7FFF + (word >> 16 & 1)) >> 16);
    }
}

static float epilogue(const work *w, int64_t row, int64_t col, float z) {
    const uint32_t e = w->d.epilogue;
    if (e & CUBLASLT_EPILOGUE_BIAS) z += load((cudaDataType_t)w->d.bias_type, w->d.bias, row);
    if ((e & CUBLASLT_EPILOGUE_GELU_AUX) == CUBLASLT_EPILOGUE_GELU_AUX)
        store(w->c.type, w->d.kept, row + col * w->d.kept_ld, z);
    if (e & CUBLASLT_EPILOGUE_GELU)
        z = 0.5f * z * (1.0f + tanhf(0.7978845608f * (z + 0.044715f * z * z * z)));
    if (e & CUBLASLT_EPILOGUE_RELU) z = z > 0.0f ? z : 0.0f;
    return z;
}

static void multiply(void *data) {
    work *w = data;
    const bool a_t = w->d.a_op == CUBLAS_OP_T, b_t = w->d.b_op == CUBLAS_OP_T;
    const int64_t k = (int64_t)(a_t ? w->a.rows : w->a.cols);
    for (int64_t col = 0; col < (int64_t)w->c.cols; col++) {
        for (int64_t row = 0; row < (int64_t)w->c.rows; row++) {
            float sum = 0.0f;
            for (int64_t i = 0; i < k; i++) {
                sum += load(w->a.type, w->at_a, a_t ? i + row * w->a.ld : row + i * w->a.ld) *
                       load(w->b.type, w->at_b, b_t ? col + i * w->b.ld : i + col * w->b.ld);
            }
            sum *= w->alpha;
            const int64_t at = row + col * w->c.ld;
            if (w->beta != 0.0f) sum += w->beta * load(w->c.type, w->at_c, at);
            store(w->c.type, w->at_d, at, epilogue(w, row, col, sum));
        }
    }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    context *owner = (context *)(void *)handle;
    (void)algorithm, (void)workspace, (void)workspace_bytes;
    if (c_layout != d_layout) return CUBLAS_STATUS_NOT_SUPPORTED;
    work *w = malloc(sizeof *w);
    if (!w) return CUBLAS_STATUS_ALLOC_FAILED;
    *w = (work){*(description *)(void *)desc,
                *(layout *)(void *)a_layout,
                *(layout *)(void *)b_layout,
                *(layout *)(void *)c_layout,
                *(const float *)alpha,
                *(const float *)beta,
                a,
                b,
                c,
                d,
                owner->first};
    owner->first = w;
    return cudaLaunchHostFunc(stream, multiply, w) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                  : CUBLAS_STATUS_EXECUTION_FAILED;
}
