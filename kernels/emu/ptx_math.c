/* ptx_math.c — what PTX instructions compute, the rarer ones: roundings other than to nearest,
 * narrow formats, bit fields. */
#include "kernels/emu/ptx_ops.h"

#include <fenv.h>
#include <float.h>

/* ---- bit fields ------------------------------------------------------------------------------ */

uint32_t qe_brev32(uint32_t x) { return (uint32_t)(qe_brev64(x) >> 32); }
uint64_t qe_brev64(uint64_t x) {
    x = (x >> 1 & 0x5555555555555555u) | (x & 0x5555555555555555u) << 1;
    x = (x >> 2 & 0x3333333333333333u) | (x & 0x3333333333333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0f0f0f0f0fu) | (x & 0x0f0f0f0f0f0f0f0fu) << 4;
    return __builtin_bswap64(x);
}

uint64_t qe_mask(uint32_t at, uint32_t n, uint32_t bits) {
    uint64_t ones = n >= 64 ? ~0ull : (1ull << n) - 1;
    if (at >= bits) return 0;
    return bits == 32 ? (ones << at) & UINT32_MAX : ones << at;
}

/* Fields that reach past the top are filled with the sign there (s) or with zeros. */
uint64_t qe_bfe_u64(uint64_t x, uint32_t at, uint32_t n) {
    at &= 255;
    n &= 255;
    return at > 63 ? 0 : x >> at & qe_mask(0, n, 64);
}
uint32_t qe_bfe_u32(uint32_t x, uint32_t at, uint32_t n) { return (uint32_t)qe_bfe_u64(x, at, n); }
int64_t qe_bfe_s64(int64_t x, uint32_t at, uint32_t n) {
    at &= 255;
    n &= 255;
    if (n == 0) return 0;
    if (at > 63) return x < 0 ? -1 : 0;
    if (at + n > 64) n = 64 - at;
    return (int64_t)((uint64_t)x << (64 - at - n)) >> (64 - n);
}
int32_t qe_bfe_s32(int32_t x, uint32_t at, uint32_t n) { return (int32_t)qe_bfe_s64(x, at, n); }

uint32_t qe_szext_clamp_u(uint32_t x, uint32_t n) { return x & (uint32_t)qe_mask(0, n, 32); }
int32_t qe_szext_clamp_s(int32_t x, uint32_t n) {
    if (n == 0) return 0;
    return n >= 32 ? x : (int32_t)((uint32_t)x << (32 - n)) >> (32 - n);
}

uint32_t qe_fns(uint32_t mask, uint32_t base, int32_t offset) {
    int64_t at = base, step = offset < 0 ? -1 : 1, left = offset < 0 ? -(int64_t)offset : offset;
    if (offset == 0) return base < 32 && mask >> base & 1 ? base : UINT32_MAX;
    for (; at >= 0 && at < 32; at += step)
        if ((mask >> at & 1) && --left == 0) return (uint32_t)at;
    return UINT32_MAX;
}

/* The special modes of prmt: the two low bits of c say where to begin. */
uint32_t qe_prmt_f4e(uint32_t a, uint32_t b, uint32_t c) {
    return (uint32_t)(((uint64_t)b << 32 | a) >> 8 * (c & 3));
}
uint32_t qe_prmt_b4e(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t s = c & 3; /* bytes s, s-1, s-2, s-3 of the circle of eight */
    return qe_prmt(a, b, s | ((s - 1) & 7) << 4 | ((s - 2) & 7) << 8 | ((s - 3) & 7) << 12);
}
uint32_t qe_prmt_rc8(uint32_t a, uint32_t b, uint32_t c) { return qe_prmt(a, b, (c & 3) * 0x1111); }
uint32_t qe_prmt_ecl(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t s = c & 3, r = 0;
    for (uint32_t i = 0; i < 4; i++) r |= (i < s ? s : i) << 4 * i;
    return qe_prmt(a, b, r);
}
uint32_t qe_prmt_ecr(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t s = c & 3, r = 0;
    for (uint32_t i = 0; i < 4; i++) r |= (i > s ? s : i) << 4 * i;
    return qe_prmt(a, b, r);
}
uint32_t qe_prmt_rc16(uint32_t a, uint32_t b, uint32_t c) {
    return qe_prmt(a, b, c & 1 ? 0x3232 : 0x1010);
}

/* ---- directed rounding by the processor ------------------------------------------------------ */

static const int modes[] = {
    [qe_rn] = FE_TONEAREST, [qe_rz] = FE_TOWARDZERO, [qe_rm] = FE_DOWNWARD, [qe_rp] = FE_UPWARD};

/* volatile: the operation stays between the two calls. */
float qe_div_f32(float a, float b, qe_rounding r) {
    volatile float x = a, y = b;
    fesetround(modes[r]);
    volatile float q = x / y;
    fesetround(FE_TONEAREST);
    return qe_nan32(q);
}
float qe_sqrt_f32(float a, qe_rounding r) {
    volatile float x = a;
    fesetround(modes[r]);
    volatile float q = sqrtf(x);
    fesetround(FE_TONEAREST);
    return qe_nan32(q);
}
double qe_fma_f64(double a, double b, double c, qe_rounding r) {
    volatile double x = a, y = b, z = c;
    fesetround(modes[r]);
    volatile double q = fma(x, y, z);
    fesetround(FE_TONEAREST);
    return q;
}
double qe_mul_f64(double a, double b, qe_rounding r) {
    volatile double x = a, y = b;
    fesetround(modes[r]);
    volatile double q = x * y;
    fesetround(FE_TONEAREST);
    return q;
}
double qe_div_f64(double a, double b, qe_rounding r) {
    volatile double x = a, y = b;
    fesetround(modes[r]);
    volatile double q = x / y;
    fesetround(FE_TONEAREST);
    return q;
}
double qe_sqrt_f64(double a, qe_rounding r) {
    volatile double x = a;
    fesetround(modes[r]);
    volatile double q = sqrt(x);
    fesetround(FE_TONEAREST);
    return q;
}
float qe_round_f32(long double a, qe_rounding r) {
    volatile long double x = a;
    fesetround(modes[r]);
    volatile float q = (float)x;
    fesetround(FE_TONEAREST);
    return qe_nan32(q);
}
double qe_round_f64(long double a, qe_rounding r) {
    volatile long double x = a;
    fesetround(modes[r]);
    volatile double q = (double)x;
    fesetround(FE_TONEAREST);
    return q;
}

/* ---- directed rounding of f32, without a change of mode -------------------------------------- */

/* sum + *error is a + b exactly. */
static double two_sum(double a, double b, double *error) {
    double sum = a + b, of_b = sum - a;
    *error = (a - (sum - of_b)) + (b - of_b);
    return sum;
}

/* How the exact value sum + error lies to f, the nearest float to sum: -1 below, 0, 1 above. */
static int side(float f, double sum, double error) {
    double d = sum - (double)f; /* exact; where it is not 0 it outweighs the error */
    if (d != 0) return d < 0 ? -1 : 1;
    return error < 0 ? -1 : error > 0 ? 1 : 0;
}

/* The next float above f (by 1) or below it (by -1); f is no NaN and does not lie at that end. */
static float step(float f, int by) {
    int32_t u = (int32_t)qe_bits32(f);
    if (f == 0.0f) return by > 0 ? qe_f32(1) : qe_f32(0x80000001);
    return qe_f32((uint32_t)(u + (u < 0 ? -by : by)));
}

/* product is exact in double, as that of two floats is. */
static float add_directed(double product, float c, qe_rounding r) {
    double error, sum = two_sum(product, (double)c, &error);
    float f = (float)sum;
    if (!isfinite(sum)) return qe_nan32(f);
    if (sum == 0 && error == 0) { /* +0 + -0 and x - x: -0 downwards only */
        bool minus = signbit(product) && signbit(c);
        if (r == qe_rm) minus = signbit(product) || signbit(c);
        return minus ? -0.0f : 0.0f;
    }
    int s = side(f, sum, error);
    bool down = s < 0 && (r == qe_rm || (r == qe_rz && sum > 0));
    bool up = s > 0 && (r == qe_rp || (r == qe_rz && sum < 0));
    return down ? step(f, -1) : up ? step(f, 1) : f;
}
float qe_fma_rz(float a, float b, float c) { return add_directed((double)a * (double)b, c, qe_rz); }
float qe_fma_rm(float a, float b, float c) { return add_directed((double)a * (double)b, c, qe_rm); }
float qe_fma_rp(float a, float b, float c) { return add_directed((double)a * (double)b, c, qe_rp); }

static float mul_directed(float a, float b, qe_rounding r) {
    double product = (double)a * (double)b;
    return add_directed(product, signbit(product) ? -0.0f : 0.0f, r);
}
float qe_mul_rz(float a, float b) { return mul_directed(a, b, qe_rz); }
float qe_mul_rm(float a, float b) { return mul_directed(a, b, qe_rm); }
float qe_mul_rp(float a, float b) { return mul_directed(a, b, qe_rp); }

float qe_div_approx(float a, float b) {
    if (!isfinite(b) || fabsf(b) <= 0x1p126f) return qe_nan32(a / b);
    if (isinf(a) || a != a) return qe_f32(0x7fffffff);
    return !signbit(a) == !signbit(b) ? 0.0f : -0.0f;
}

double qe_min_f64(double a, double b) {
    if (a != a || b != b) return a == a ? a : b;
    if (a == b) return signbit(a) ? a : b;
    return a < b ? a : b;
}
double qe_max_f64(double a, double b) {
    if (a != a || b != b) return a == a ? a : b;
    if (a == b) return signbit(a) ? b : a;
    return a > b ? a : b;
}

/* ---- narrow formats -------------------------------------------------------------------------- */

/* The last bit set where something was lost: round to odd. */
static double with_sticky(double x, double lost) {
    uint64_t u = qe_bits64(x);
    if (lost == 0 || (u & 1)) return x;
    return qe_f64((x > 0) == (lost > 0) ? u + 1 : u - 1);
}
double qe_fma_odd(double a, double b, double c) {
    double error, sum = two_sum(a * b, c, &error);
    return isfinite(sum) ? with_sticky(sum, error) : sum;
}
double qe_odd_u64(uint64_t x) {
    if (x >> 53 == 0) return (double)x;
    return (double)(x >> 11 | ((x & 0x7ff) != 0)) * 0x1p11;
}
double qe_odd_s64(int64_t x) {
    double d = qe_odd_u64(x < 0 ? 0 - (uint64_t)x : (uint64_t)x);
    return x < 0 ? -d : d;
}

/* |x| as a number of `mantissa` bits with exponents from `least` on (denormals below), rounded;
 * the sign matters to the direction alone. */
static double round_to(double x, int mantissa, int least, qe_rounding r) {
    int exponent;
    if (x == 0 || !isfinite(x)) return x;
    frexp(x, &exponent); /* x in [0.5, 1) * 2^exponent */
    if (exponent - 1 < least) exponent = least + 1;
    double unit = ldexp(1.0, exponent - 1 - mantissa), whole = x / unit;
    switch (r) {
    case qe_rz: whole = trunc(whole); break;
    case qe_rm: whole = floor(whole); break;
    case qe_rp: whole = ceil(whole); break;
    case qe_rna: whole = round(whole); break;
    default: whole = rint(whole); break;
    }
    return copysign(whole * unit, x);
}
/* What overflow becomes: the largest finite number where the direction leads back to it. */
static double overflow(double x, double largest, qe_rounding r) {
    bool back = r == qe_rz || (r == qe_rm && x > 0) || (r == qe_rp && x < 0);
    if (!isfinite(x) || fabs(x) <= largest) return x;
    return copysign(back ? largest : (double)INFINITY, x);
}

uint16_t qe_narrow_f16(double x, qe_rounding r) {
    double y = round_to(x, 10, -14, r);
    return qe_to_f16(isfinite(x) ? overflow(y, 65504.0, r) : x);
}
uint16_t qe_narrow_bf16(double x, qe_rounding r) {
    double y = round_to(x, 7, -126, r);
    return qe_to_bf16(isfinite(x) ? overflow(y, 0x1.fep127, r) : x);
}
uint32_t qe_narrow_tf32(double x, qe_rounding r) {
    double y = round_to(x, 10, -126, r);
    if (x != x) return 0x7fffffff;
    return qe_bits32((float)(isfinite(x) ? overflow(y, 0x1.ffcp127, r) : x));
}
uint8_t qe_to_e4m3(double x) { return qe_narrow_e4m3(x, qe_rn); }
uint8_t qe_to_e5m2(double x) { return qe_narrow_e5m2(x, qe_rn); }

/* The bits of a number that the format holds. */
static uint8_t encode(double x, int mantissa, int bias) {
    int exponent, sign = signbit(x) ? 128 : 0;
    if (x == 0) return (uint8_t)sign;
    double m = frexp(fabs(x), &exponent) * 2;
    exponent += bias - 1;
    if (exponent <= 0) return (uint8_t)(sign | (int)ldexp(m, exponent - 1 + mantissa));
    return (uint8_t)(sign | exponent << mantissa | (int)ldexp(m - 1, mantissa));
}
uint8_t qe_narrow_e4m3(double x, qe_rounding r) {
    if (x != x) return 0x7f;
    double y = round_to(qe_finite_e4m3(x), 3, -6, r);
    return encode(qe_finite_e4m3(y), 3, 7);
}
uint8_t qe_narrow_e5m2(double x, qe_rounding r) {
    if (x != x) return 0x7f;
    double y = round_to(qe_finite_e5m2(x), 2, -14, r);
    return encode(qe_finite_e5m2(y), 2, 15);
}

static double decode(uint8_t x, int mantissa, int bias) {
    int exponent = (x & 127) >> mantissa, m = x & ((1 << mantissa) - 1);
    double d = exponent ? ldexp(1.0 + ldexp(m, -mantissa), exponent - bias)
                        : ldexp(m, 1 - bias - mantissa);
    return x & 128 ? -d : d;
}
float qe_from_e4m3(uint8_t x) {
    return (x & 127) == 127 ? qe_f32(0x7fffffff) : (float)decode(x, 3, 7);
}
float qe_from_e5m2(uint8_t x) {
    if ((x & 127) > 0x7c) return qe_f32(0x7fffffff);
    if ((x & 127) == 0x7c) return x & 128 ? -INFINITY : INFINITY;
    return (float)decode(x, 2, 15);
}

static double at_most(double x, double largest) {
    return fabs(x) > largest ? copysign(largest, x) : x;
}
double qe_finite_f16(double x) { return at_most(x, 65504.0); }
double qe_finite_bf16(double x) { return at_most(x, 0x1.fep127); }
double qe_finite_tf32(double x) { return at_most(x, 0x1.ffcp127); }
double qe_finite_e4m3(double x) { return at_most(x, 448.0); }
double qe_finite_e5m2(double x) { return at_most(x, 57344.0); }

/* ---- to 64-bit integers ---------------------------------------------------------------------- */

int64_t qe_integer_s64(double x, uint64_t nan) {
    if (x != x) return (int64_t)nan;
    if (x < -0x1p63) return INT64_MIN;
    return x >= 0x1p63 ? INT64_MAX : (int64_t)x;
}
uint64_t qe_integer_u64(double x, uint64_t nan) {
    if (x != x) return nan;
    if (x <= 0) return 0;
    return x >= 0x1p64 ? UINT64_MAX : (uint64_t)x;
}
