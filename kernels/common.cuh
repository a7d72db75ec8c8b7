/* common.cuh — what every kernel file shares: element types, 16-byte accesses, reductions over a
 * warp and a block in one fixed order, and the end of a launcher.
 *
 * Arithmetic is f32; bf16 converts at load and store, rounding to nearest even once.
 */
#ifndef QN_COMMON_CUH
#define QN_COMMON_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/attrs.h"
#include "kernels/cuda.h"

#define QN_DEV        static __device__ __forceinline__
#define QN_DEV_MEMBER __device__ __forceinline__

typedef __nv_bfloat16 bf16;

QN_DEV float to_f32(float x) { return x; }
QN_DEV float to_f32(bf16 x) { return __bfloat162float(x); }
template <typename T> QN_DEV T from_f32(float x);
template <> __device__ __forceinline__ float from_f32<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_f32<bf16>(float x) {
    return __float2bfloat16_rn(x);
}

/* ---- elements -------------------------------------------------------------------------------- */

enum { QN_REAL_DTYPES = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16) };

static inline int64_t dtype_bytes(qn_dtype dt) {
    static const int bytes[QN_DTYPE_COUNT] = {4, 8, 2, 2, 4, 8, 1};
    return bytes[dt];
}

static inline int64_t tensor_count(const qn_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

/* A step value: one f32 or f64. */
QN_DEV double load_real(const void *p, bool is_f64) {
    return is_f64 ? *(const double *)p : (double)*(const float *)p;
}

/* Stores of a stated width: from vector types the compiler makes single stores where the branch
 * beside them stores the same values one by one. */
QN_DEV void store_global_16(void *to, uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(__cvta_generic_to_global(to)),
                 "r"(x), "r"(y), "r"(z), "r"(w)
                 : "memory");
}
QN_DEV void store_global_8(void *to, uint32_t x, uint32_t y) {
    asm volatile("st.global.v2.b32 [%0], {%1,%2};" ::"l"(__cvta_generic_to_global(to)), "r"(x),
                 "r"(y)
                 : "memory");
}

/* Elements 32 bits at a time, for such stores. */
QN_DEV uint32_t word_of(const float *x) { return __float_as_uint(*x); }
QN_DEV uint32_t word_of(const bf16 *x) {
    return __bfloat16_as_ushort(x[0]) | (uint32_t)__bfloat16_as_ushort(x[1]) << 16;
}

/* V consecutive elements in one access of V * sizeof(T) bytes (two of 16 where that is 32). */
template <typename T, int V> QN_DEV void load_run(float (&x)[V], const T *p) {
    struct __align__(V * sizeof(T) < 16 ? V * sizeof(T) : 16) run {
        T v[V];
    }
    r = *(const run *)p;
#pragma unroll
    for (int e = 0; e < V; e++) x[e] = to_f32(r.v[e]);
}
template <typename T, int V> QN_DEV void store_run(T *p, const float (&x)[V]) {
    constexpr int PER_WORD = 4 / sizeof(T), WORDS = V / PER_WORD;
    T v[V];
    uint32_t w[WORDS > 0 ? WORDS : 1];
#pragma unroll
    for (int e = 0; e < V; e++) v[e] = from_f32<T>(x[e]);
#pragma unroll
    for (int k = 0; k < WORDS; k++) w[k] = word_of(v + k * PER_WORD);
    if constexpr (V == 1) {
        *p = v[0];
    } else if constexpr (WORDS == 2) {
        store_global_8(p, w[0], w[1]);
    } else {
        static_assert(WORDS % 4 == 0, "8, 16 or 32 bytes");
#pragma unroll
        for (int k = 0; k < WORDS; k += 4)
            store_global_16((uint32_t *)p + k, w[k], w[k + 1], w[k + 2], w[k + 3]);
    }
}

static inline __host__ __device__ bool is_aligned16(const void *p) {
    return ((uintptr_t)p & 15u) == 0;
}

/* ---- reductions ------------------------------------------------------------------------------ */

enum { QN_WARP = 32 };

/* Over a warp, or over each group of LANES neighbours of one. */
template <int LANES = QN_WARP> QN_DEV float warp_sum(float x) {
#pragma unroll
    for (int d = LANES / 2; d; d >>= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
    return x;
}
template <int LANES = QN_WARP> QN_DEV float warp_max(float x) {
#pragma unroll
    for (int d = LANES / 2; d; d >>= 1) x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, d));
    return x;
}

/* 1 / sqrt(x), correctly rounded twice: the approximate instruction would be 2 ulp. */
QN_DEV float rsqrt_f32(float x) { return 1.0f / sqrtf(x); }

/* The sum over a block of WARPS full warps, in every thread. `partial` is shared and has WARPS
 * floats; the caller puts a barrier between two uses of it. */
template <int WARPS> QN_DEV float block_sum(float x, float *partial) {
    x = warp_sum(x);
    if (WARPS == 1) return x;
    if (threadIdx.x % QN_WARP == 0) partial[threadIdx.x / QN_WARP] = x;
    __syncthreads();
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS; w++) total += partial[w];
    return total;
}

/* ---- launchers ------------------------------------------------------------------------------- */

static inline cudaStream_t stream_of(const qn_call *c) { return (cudaStream_t)c->stream; }

/* The last line of a launcher: the error of the launch itself, such as a bad configuration. */
static inline qn_status launched(const qn_call *c) {
    cudaError_t e = cudaGetLastError();
    if (e == cudaSuccess) return QN_OK;
    return qn_fail(QN_ERR_DEVICE, "%s: CUDA launch: %s", c->op->name, cudaGetErrorString(e));
}

static inline __host__ __device__ int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

#endif
