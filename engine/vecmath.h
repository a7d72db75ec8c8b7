/* vecmath.h — float mathematics the compiler can vectorise, and the row helpers of the CPU bodies.
 *
 * Every scalar function is branch-free (selects only) and inlines into `#pragma omp simd` loops.
 * The error bounds are measured over all 2^32 floats against the f64 functions of libm, in units of
 * the last place of the correctly rounded float (2^-149 for subnormal results); FMA is contracted
 * where the target has it. Infinities, NaN, overflow, underflow and signed zeros come out as the C
 * library's do.
 *
 *   qn_expf_fast      1.02 ulp
 *   qn_logf_fast      0.86 ulp
 *   qn_tanhf_fast     2.50 ulp
 *   qn_sigmoidf_fast  2.41 ulp
 *
 * The error function serves GELU and lives inside it, as the tail of the normal distribution, with
 * which negative arguments keep their accuracy. Errors, where u = 2^-24:
 *
 *   qn_geluf_fast       2.9 u |x|, and 5.5 u of the value for x >= -1, 13.2 u for x >= -5
 *   qn_gelu_gradf_fast  3.0 u
 */
#ifndef QN_VECMATH_H
#define QN_VECMATH_H

#include "engine/ops.h"

#include <float.h>
#include <math.h>

#if defined(__GNUC__)
#define QN_INLINE static inline __attribute__((always_inline))
#else
#define QN_INLINE static inline
#endif

QN_INLINE uint32_t qni_float_bits(float f) {
    union {
        float f;
        uint32_t u;
    } v = {f};
    return v.u;
}

QN_INLINE float qni_float_of_bits(uint32_t u) {
    union {
        uint32_t u;
        float f;
    } v = {u};
    return v.f;
}

/* 2^n for n in [-126, 127], as bits. */
QN_INLINE float qni_exp2_int(int32_t n) { return qni_float_of_bits((uint32_t)(n + 127) << 23); }

/* ---- exponential family ---------------------------------------------------------------------- */

/* x = n ln 2 + r with |r| <= ln(2)/2; *q = exp(r) - 1. Needs |x| < 2^22; a NaN reaches *q. */
QN_INLINE int32_t qni_exp_split(float x, float *q) {
    const float magic = 0x1.8p23f; /* adding it rounds to an integer held in the low bits */
    float t = x * 0x1.715476p0f + magic;
    float k = t - magic;
    float r = x - k * 0x1.62e4p-1f; /* k times the high part of ln 2 is exact */
    r = r - k * 0x1.7f7d1cp-20f;
    float p = 1.382010756e-03f; /* minimax of (exp(r) - 1 - r) / r^2, 3e-9 */
    p = p * r + 8.368684910e-03f;
    p = p * r + 4.166827351e-02f;
    p = p * r + 1.666652113e-01f;
    p = p * r + 4.999999404e-01f;
    *q = p * (r * r) + r;
    return (int32_t)(qni_float_bits(t) - qni_float_bits(magic));
}

QN_INLINE float qn_expf_fast(float x) {
    float c = x < -104.0f ? -104.0f : x; /* below: 0; above: infinity; the selects keep NaN */
    c = c > 89.0f ? 89.0f : c;
    float q;
    int32_t n = qni_exp_split(c, &q);
    int32_t half = n >> 1; /* two factors, so that subnormal results round once */
    return (1.0f + q) * qni_exp2_int(half) * qni_exp2_int(n - half);
}

/* 1 / (1 + exp(-x)). Both signs use exp(-|x|), which keeps small results relative-accurate. */
QN_INLINE float qn_sigmoidf_fast(float x) {
    float e = qn_expf_fast(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* With e = exp(-2|x|) - 1: tanh |x| = -e / (2 + e). */
QN_INLINE float qn_tanhf_fast(float x) {
    float c = -2.0f * fabsf(x);
    c = c < -40.0f ? -40.0f : c;
    float q;
    float s = qni_exp2_int(qni_exp_split(c, &q));
    float e = s * q + (s - 1.0f);
    return copysignf(-e / (2.0f + e), x);
}

/* ---- logarithm ------------------------------------------------------------------------------- */

QN_INLINE float qn_logf_fast(float x) {
    bool tiny = x < FLT_MIN;
    uint32_t u = qni_float_bits(tiny ? x * 0x1p23f : x) + (0x3F800000u - 0x3F3504F3u);
    float k = (float)((int32_t)(u >> 23) - 127 - (tiny ? 23 : 0));
    float f =
        qni_float_of_bits((u & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f; /* sqrt(1/2)-1..sqrt(2)-1 */
    float p = -7.636439055e-02f; /* minimax of (log(1+f) - f + f^2/2) / f^3, 6e-9 */
    p = p * f + 1.276221722e-01f;
    p = p * f - 1.315961033e-01f;
    p = p * f + 1.420157999e-01f;
    p = p * f - 1.662340909e-01f;
    p = p * f + 2.000124156e-01f;
    p = p * f - 2.500081956e-01f;
    p = p * f + 3.333333135e-01f;
    float f2 = f * f;
    float low = (p * f) * f2 + k * 0x1.7f7d1cp-20f;
    float y = (low - 0.5f * f2) + f + k * 0x1.62e4p-1f;
    y = x > FLT_MAX ? x : y;
    y = x == 0.0f ? -INFINITY : y;
    return x >= 0.0f ? y : NAN;
}

/* ---- normal distribution and GELU ------------------------------------------------------------ */

#define QNI_SQRT_1_2PI 0.398942280401432678

/* *density = exp(-t^2/2) for t = min(|x|, 13.1); the tail of the normal distribution beyond t,
 * (1 - erf(t / sqrt 2)) / 2, is *density times the value returned. From 13.1 on the tail is below
 * 2^-128. */
QN_INLINE float qni_normal_tail(float t, float *density) {
    float v =
        (0.3461538553f - 0.1961538494f * t) / (1.0f + 0.3f * t); /* 1 / (1 + 0.3 t), centred */
    float p = 3.390539810e-02f; /* minimax of tail / density for t <= 7.5, 7e-8 of the value */
    p = p * v + 3.092550859e-02f;
    p = p * v - 8.513042331e-02f;
    p = p * v - 9.730409831e-02f;
    p = p * v + 1.946391761e-01f;
    p = p * v + 5.934193134e-01f;
    p = p * v + 7.457180023e-01f;
    p = p * v + 5.769265890e-01f;
    p = p * v + 1.841377020e-01f;
    float q;
    int32_t n = qni_exp_split(-0.5f * t * t, &q);
    *density = (1.0f + q) * qni_exp2_int(n);
    return p;
}

/* x Phi(x), which is max(x, 0) - |x| tail(|x|): nothing cancels for negative x. */
QN_INLINE float qn_geluf_fast(float x) {
    float t = fabsf(x), density;
    t = t > 13.1f ? 13.1f : t;
    float tail = qni_normal_tail(t, &density) * density;
    return (x < 0.0f ? 0.0f : x) - t * tail;
}

/* Phi(x) + x phi(x): tail(t) - t phi(t) on the negative side, 1 less that on the positive. */
QN_INLINE float qn_gelu_gradf_fast(float x) {
    float t = fabsf(x), density;
    t = t > 13.1f ? 13.1f : t;
    float ratio = qni_normal_tail(t, &density);
    float below = (ratio - (float)QNI_SQRT_1_2PI * t) * density;
    return x < 0.0f ? below : 1.0f - below;
}

/* ---- activations: value and derivative ------------------------------------------------------- */

/* 2 sqrt(2/pi) and its cubic coefficient: 0.5 (1 + tanh u) = sigmoid(2u) with
 * 2u = x (QNI_GELU_1 + QNI_GELU_3 x^2), which does not cancel for negative x. */
#define QNI_GELU_1    1.59576912160573071
#define QNI_GELU_3    (QNI_GELU_1 * 0.044715)
#define QNI_SQRT_HALF 0.707106781186547524

/* act(x). `kind` should be a constant where this is inlined into a loop; rows: qn_act_row_f32. */
QN_INLINE float qn_act_f32(qn_activation kind, float x) {
    switch (kind) {
    case QN_ACT_GELU: return qn_geluf_fast(x);
    case QN_ACT_GELU_TANH:
        return x * qn_sigmoidf_fast(x * ((float)QNI_GELU_1 + (float)QNI_GELU_3 * x * x));
    case QN_ACT_RELU: return x < 0.0f ? 0.0f : x; /* keeps NaN */
    case QN_ACT_SILU: return x * qn_sigmoidf_fast(x);
    case QN_ACT_SIGMOID: return qn_sigmoidf_fast(x);
    case QN_ACT_TANH: return qn_tanhf_fast(x);
    default: return x;
    }
}

/* act'(x); relu has 0 at 0, as PyTorch. */
QN_INLINE float qn_act_grad_f32(qn_activation kind, float x) {
    float s;
    switch (kind) {
    case QN_ACT_GELU: return qn_gelu_gradf_fast(x);
    case QN_ACT_GELU_TANH:
        s = qn_sigmoidf_fast(x * ((float)QNI_GELU_1 + (float)QNI_GELU_3 * x * x));
        return s + s * (1.0f - s) * x * ((float)QNI_GELU_1 + (float)(3 * QNI_GELU_3) * x * x);
    case QN_ACT_RELU: return x <= 0.0f ? 0.0f : 1.0f;
    case QN_ACT_SILU: s = qn_sigmoidf_fast(x); return s + s * x * (1.0f - s);
    case QN_ACT_SIGMOID: s = qn_sigmoidf_fast(x); return s * (1.0f - s);
    case QN_ACT_TANH: s = qn_tanhf_fast(x); return 1.0f - s * s;
    default: return 1.0f;
    }
}

/* The definitions, for REF bodies. */
static inline double qn_act_f64(qn_activation kind, double x) {
    switch (kind) {
    case QN_ACT_GELU: return 0.5 * x * erfc(-x * QNI_SQRT_HALF);
    case QN_ACT_GELU_TANH: return x / (1.0 + exp(-x * (QNI_GELU_1 + QNI_GELU_3 * x * x)));
    case QN_ACT_RELU: return x < 0.0 ? 0.0 : x;
    case QN_ACT_SILU: return x / (1.0 + exp(-x));
    case QN_ACT_SIGMOID: return 1.0 / (1.0 + exp(-x));
    case QN_ACT_TANH: return tanh(x);
    default: return x;
    }
}

static inline double qn_act_grad_f64(qn_activation kind, double x) {
    double s;
    switch (kind) {
    case QN_ACT_GELU:
        s = 0.5 * erfc(-x * QNI_SQRT_HALF);
        return s + x * QNI_SQRT_1_2PI * exp(-0.5 * x * x);
    case QN_ACT_GELU_TANH:
        s = 1.0 / (1.0 + exp(-x * (QNI_GELU_1 + QNI_GELU_3 * x * x)));
        return s + s * (1.0 - s) * x * (QNI_GELU_1 + 3 * QNI_GELU_3 * x * x);
    case QN_ACT_RELU: return x <= 0.0 ? 0.0 : 1.0;
    case QN_ACT_SILU: s = 1.0 / (1.0 + exp(-x)); return s + s * x * (1.0 - s);
    case QN_ACT_SIGMOID: s = 1.0 / (1.0 + exp(-x)); return s * (1.0 - s);
    case QN_ACT_TANH: s = tanh(x); return 1.0 - s * s;
    default: return 1.0;
    }
}

/* One loop per kind, so that each vectorises. */
QN_INLINE void qni_act_row(qn_activation kind, int64_t n, const float *x, float *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = qn_act_f32(kind, x[i]);
}

QN_INLINE void qni_act_grad_row(qn_activation kind, int64_t n, const float *x, const float *dy,
                                float *dx) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * qn_act_grad_f32(kind, x[i]);
}

/* y[i] = act(x[i]); y may be x. */
static inline void qn_act_row_f32(qn_activation kind, int64_t n, const float *x, float *y) {
    switch (kind) {
    case QN_ACT_GELU: qni_act_row(QN_ACT_GELU, n, x, y); break;
    case QN_ACT_GELU_TANH: qni_act_row(QN_ACT_GELU_TANH, n, x, y); break;
    case QN_ACT_RELU: qni_act_row(QN_ACT_RELU, n, x, y); break;
    case QN_ACT_SILU: qni_act_row(QN_ACT_SILU, n, x, y); break;
    case QN_ACT_SIGMOID: qni_act_row(QN_ACT_SIGMOID, n, x, y); break;
    case QN_ACT_TANH: qni_act_row(QN_ACT_TANH, n, x, y); break;
    default: qni_act_row(QN_ACT_NONE, n, x, y); break;
    }
}

/* dx[i] = dy[i] act'(x[i]); dx may be x or dy. */
static inline void qn_act_grad_row_f32(qn_activation kind, int64_t n, const float *x,
                                       const float *dy, float *dx) {
    switch (kind) {
    case QN_ACT_GELU: qni_act_grad_row(QN_ACT_GELU, n, x, dy, dx); break;
    case QN_ACT_GELU_TANH: qni_act_grad_row(QN_ACT_GELU_TANH, n, x, dy, dx); break;
    case QN_ACT_RELU: qni_act_grad_row(QN_ACT_RELU, n, x, dy, dx); break;
    case QN_ACT_SILU: qni_act_grad_row(QN_ACT_SILU, n, x, dy, dx); break;
    case QN_ACT_SIGMOID: qni_act_grad_row(QN_ACT_SIGMOID, n, x, dy, dx); break;
    case QN_ACT_TANH: qni_act_grad_row(QN_ACT_TANH, n, x, dy, dx); break;
    default: qni_act_grad_row(QN_ACT_NONE, n, x, dy, dx); break;
    }
}

/* ---- bf16 rows ------------------------------------------------------------------------------- */

static inline void qn_bf16_load_row(const uint16_t *src, int64_t n, float *dst) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] = qni_float_of_bits((uint32_t)src[i] << 16);
}

/* Rounds to nearest even; NaN stays NaN (selects instead of the early return of qn_f32_to_bf16). */
static inline void qn_bf16_store_row(const float *src, int64_t n, uint16_t *dst) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = qni_float_bits(src[i]);
        uint32_t rounded = u + 0x7FFFu + ((u >> 16) & 1u);
        uint32_t r = (u & 0x7FFFFFFFu) > 0x7F800000u ? u | 0x400000u : rounded;
        dst[i] = (uint16_t)(r >> 16);
    }
}

/* A row of n elements at data[offset], f32 or bf16, as floats: the row itself, or converted into
 * `buffer` (n floats). qn_row_open gives the place to write a row to, qn_row_close stores it. */
static inline const float *qn_row_load(const void *data, qn_dtype dt, int64_t offset, int64_t n,
                                       float *buffer) {
    if (dt == QN_F32) return (const float *)data + offset;
    qn_bf16_load_row((const uint16_t *)data + offset, n, buffer);
    return buffer;
}

static inline float *qn_row_open(void *data, qn_dtype dt, int64_t offset, float *buffer) {
    return dt == QN_F32 ? (float *)data + offset : buffer;
}

static inline void qn_row_close(void *data, qn_dtype dt, int64_t offset, int64_t n,
                                const float *row) {
    if (dt == QN_BF16) qn_bf16_store_row(row, n, (uint16_t *)data + offset);
}

#endif
