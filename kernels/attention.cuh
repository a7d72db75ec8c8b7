/* attention.cuh — what the attention kernels share: the call, which keys a query sees, dropout.
 *
 * attention.cu reads the call and launches; attention_mma.cu has the bf16 kernels on tensor cores,
 * attention_simt.cu the exact f32 ones.
 */
#ifndef QN_ATTENTION_CUH
#define QN_ATTENTION_CUH

#include "kernels/common.cuh"

enum { ATTENTION_MAX_D = 128 };

/* Rows of one (b, h): element (i, d) is data[b * stride[0] + i * stride[1] + h * stride[2] + d]. */
struct heads {
    void *data; /* NULL = absent */
    int64_t stride[3];
};

struct attention_args {
    heads q, k, v, o, d_o, dq, dk, dv;
    float *lse;     /* (B,H,T), written forward, read backward; NULL = not wanted */
    float *row_dot; /* (B,H,T): sum(do o), backward */
    const int32_t *documents;
    int64_t document_stride[2];
    const int32_t *start; /* position of query 0, NULL = s - t */
    int start_stride;     /* from sample to sample; 0 = one for all */
    const int64_t *rng;   /* step, sample offset; NULL = no dropout */
    uint64_t key;
    uint32_t threshold;
    float keep_scale;
    int b, t, s, h, g, d, window;
    float scale;
    bool causal;
    bool vectors; /* every row starts on 16 bytes, and d is a multiple of 16 bytes */
    uint32_t adds;
};

template <typename T> QN_DEV T *head_row(const heads &x, int64_t b, int64_t i, int64_t h) {
    return (T *)x.data + b * x.stride[0] + i * x.stride[1] + h * x.stride[2];
}

QN_DEV int64_t stat_index(const attention_args &a, int b, int h, int i) {
    return ((int64_t)b * a.h + h) * a.t + i;
}

/* ---- what a query sees ----------------------------------------------------------------------- */

/* Query i of sample b stands at position offset + i. */
QN_DEV int64_t query_offset(const attention_args &a, int b) {
    return a.start ? (int64_t)a.start[b * a.start_stride] : (int64_t)(a.s - a.t);
}

/* As far as position goes, query i sees keys [key_begin, key_limit). */
QN_DEV int key_limit(const attention_args &a, int64_t offset, int i) {
    if (!a.causal) return a.s;
    int64_t n = offset + i + 1;
    return n < 0 ? 0 : n > a.s ? a.s : (int)n;
}

QN_DEV int key_begin(const attention_args &a, int64_t offset, int i) {
    if (!a.window) return 0;
    int64_t n = offset + i + 1 - a.window;
    return n < 0 ? 0 : n > a.s ? a.s : (int)n;
}

/* Key j is seen by queries [query_begin, query_limit). */
QN_DEV int query_begin(const attention_args &a, int64_t offset, int j) {
    if (!a.causal) return 0;
    int64_t n = j - offset;
    return n < 0 ? 0 : n > a.t ? a.t : (int)n;
}

QN_DEV int query_limit(const attention_args &a, int64_t offset, int j) {
    if (!a.window) return a.t;
    int64_t n = j - offset + a.window;
    return n < 0 ? 0 : n > a.t ? a.t : (int)n;
}

QN_DEV int document_of(const attention_args &a, int b, int i) {
    return a.documents[b * a.document_stride[0] + i * a.document_stride[1]];
}

/* ---- dropout --------------------------------------------------------------------------------- */

/* Element of weight (b, h, i, 0); the draw of key j is element + j. */
QN_DEV uint64_t dropout_element(const attention_args &a, int b, int h, int i) {
    uint64_t row = (uint64_t)(a.rng[1] + b) * (uint64_t)a.h + (uint64_t)h;
    return (row * (uint64_t)a.t + (uint64_t)i) * (uint64_t)a.s;
}

QN_DEV float dropout_factor(const attention_args &a, uint64_t element) {
    uint32_t word = qn_random_u32(a.key, (uint64_t)a.rng[0], element);
    return word >= a.threshold ? a.keep_scale : 0.0f;
}

/* The factors of two neighbours: one draw of four words where they share it. */
QN_DEV void dropout_pair(const attention_args &a, uint64_t element, float (&m)[2]) {
    if (element & 1u) {
        m[0] = dropout_factor(a, element);
        m[1] = dropout_factor(a, element + 1);
        return;
    }
    qn_u32x4 words = qn_philox(a.key, element >> 2, (uint64_t)a.rng[0]);
    bool high = element & 2u;
    m[0] = (high ? words.v[2] : words.v[0]) >= a.threshold ? a.keep_scale : 0.0f;
    m[1] = (high ? words.v[3] : words.v[1]) >= a.threshold ? a.keep_scale : 0.0f;
}

/* ---- launching ------------------------------------------------------------------------------- */

template <int THREADS, typename K>
static cudaError_t attention_launch(K *kernel, dim3 grid, size_t shared, const attention_args *a,
                                    cudaStream_t s) {
    if (grid.x == 0) return cudaSuccess;
    cudaError_t e = cudaFuncSetAttribute((const void *)kernel,
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (e != cudaSuccess) return e;
    kernel<<<grid, THREADS, shared, s>>>(*a);
    return cudaGetLastError();
}

/* ---- launchers of the two files -------------------------------------------------------------- */

/* Enqueue; row_dot is made already for the backward ones. */
cudaError_t attention_mma_fwd(const attention_args *a, cudaStream_t s);
cudaError_t attention_mma_bwd(const attention_args *a, cudaStream_t s);
cudaError_t attention_simt_fwd(const attention_args *a, cudaStream_t s);
cudaError_t attention_simt_bwd(const attention_args *a, cudaStream_t s);

#endif
