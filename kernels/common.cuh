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

/* ---- 16-byte accesses ------------------------------------------------------------------------ */

/* 16 bytes of T: 4 f32 or 8 bf16. */
template <typename T> struct __align__(16) vec {
    enum { N = 16 / sizeof(T) };
    T v[N];
};

template <typename T> QN_DEV vec<T> load_vec(const T *p) {
    vec<T> r;
    *(uint4 *)&r = *(const uint4 *)p;
    return r;
}
/* Read once and not again: the line may leave the caches first. */
template <typename T> QN_DEV vec<T> load_vec_streaming(const T *p) {
    vec<T> r;
    *(uint4 *)&r = __ldcs((const uint4 *)p);
    return r;
}
template <typename T> QN_DEV void store_vec(T *p, const vec<T> &x) {
    *(uint4 *)p = *(const uint4 *)&x;
}
template <typename T> QN_DEV void store_vec_streaming(T *p, const vec<T> &x) {
    __stcs((uint4 *)p, *(const uint4 *)&x);
}

static inline __host__ __device__ bool is_aligned16(const void *p) {
    return ((uintptr_t)p & 15u) == 0;
}

/* ---- reductions ------------------------------------------------------------------------------ */

enum { QN_WARP = 32 };

QN_DEV float warp_sum(float x) {
#pragma unroll
    for (int d = 16; d; d >>= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
    return x;
}
QN_DEV float warp_max(float x) {
#pragma unroll
    for (int d = 16; d; d >>= 1) x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, d));
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
