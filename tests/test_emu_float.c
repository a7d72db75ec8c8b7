/* test_emu_float.c — f32 and f64 instructions of translated PTX.
 *
 * f32 in every rounding: the processor itself, told to round so. f64 with directed rounding and
 * division: the neighbours of the result, compared with the exact product in 113 bits.
 */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness_emu_ops.h"

typedef uint64_t u64;
static const u64 NAN32 = 0x7fffffff;

/* ---- bits ------------------------------------------------------------------------------------ */

static float f32(const u64 *v, int i) {
    uint32_t u = (uint32_t)v[i];
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static double f64(const u64 *v, int i) {
    double d;
    memcpy(&d, &v[i], sizeof d);
    return d;
}
static u64 raw32(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static u64 raw64(double d) {
    u64 u;
    memcpy(&u, &d, sizeof u);
    return u;
}
static u64 result(float f) { return isnan(f) ? NAN32 : raw32(f); }
static float flushed(float f) { return fpclassify(f) == FP_SUBNORMAL ? copysignf(0.0f, f) : f; }
static float clamped(float f) {
    return isnan(f) || f < 0 ? 0.0f : f > 1 ? 1.0f : f == 0 ? 0.0f : f;
}

/* ---- f32, to nearest ------------------------------------------------------------------------- */

#define A f32(v, 0)
#define B f32(v, 1)
#define C f32(v, 2)

static u64 add(const u64 *v) { return result(A + B); }
static u64 add_ftz(const u64 *v) { return result(flushed(flushed(A) + flushed(B))); }
static u64 add_sat(const u64 *v) { return result(clamped(A + B)); }
static u64 sub(const u64 *v) { return result(A - B); }
static u64 mul(const u64 *v) { return result(A * B); }
static u64 mul_ftz(const u64 *v) { return result(flushed(flushed(A) * flushed(B))); }
static u64 mul_ftz_sat(const u64 *v) { return result(clamped(flushed(flushed(A) * flushed(B)))); }
static u64 fma_rn(const u64 *v) { return result(fmaf(A, B, C)); }
static u64 fma_ftz(const u64 *v) {
    return result(flushed(fmaf(flushed(A), flushed(B), flushed(C))));
}
static u64 fma_sat(const u64 *v) { return result(clamped(fmaf(A, B, C))); }
static u64 quotient(const u64 *v) { return result(A / B); }
static u64 rcp(const u64 *v) { return result(1 / A); }
static u64 rcp_ftz(const u64 *v) { return result(flushed(1 / flushed(A))); }
static u64 root(const u64 *v) { return result(sqrtf(A)); }
static u64 neg(const u64 *v) { return (v[0] & UINT32_MAX) ^ 0x80000000; }
static u64 neg_ftz(const u64 *v) { return raw32(-flushed(A)); }
static u64 magnitude(const u64 *v) { return v[0] & 0x7fffffff; }

/* The numbers in order: -0 just below +0. */
static int64_t rank_of(float f) {
    int64_t u = (int64_t)raw32(f);
    return u & 0x80000000 ? -(u & 0x7fffffff) - 1 : u;
}
static u64 chosen(float a, float b, int larger, int nan) {
    if (isnan(a) && isnan(b)) return NAN32;
    if (isnan(a) || isnan(b)) return nan ? NAN32 : raw32(isnan(a) ? b : a);
    return raw32((rank_of(a) > rank_of(b)) == larger ? a : b);
}
static u64 least(const u64 *v) { return chosen(A, B, 0, 0); }
static u64 most(const u64 *v) { return chosen(A, B, 1, 0); }
static u64 least_ftz(const u64 *v) { return chosen(flushed(A), flushed(B), 0, 0); }
static u64 least_nan(const u64 *v) { return chosen(A, B, 0, 1); }
static u64 most_nan(const u64 *v) { return chosen(A, B, 1, 1); }
static u64 with_signs(const u64 *v, u64 x) {
    return isnan(A) && isnan(B) ? NAN32 : x == NAN32 ? x : x | ((v[0] ^ v[1]) & 0x80000000);
}
static u64 least_xorsign(const u64 *v) { return with_signs(v, chosen(fabsf(A), fabsf(B), 0, 0)); }
static u64 most_xorsign(const u64 *v) { return with_signs(v, chosen(fabsf(A), fabsf(B), 1, 1)); }
static u64 max_xorsign(const u64 *v) { return with_signs(v, chosen(fabsf(A), fabsf(B), 1, 0)); }
static u64 min_nan_xorsign(const u64 *v) { return with_signs(v, chosen(fabsf(A), fabsf(B), 0, 1)); }
static u64 signed_as(const u64 *v) { return (v[0] & 0x80000000) | (v[1] & 0x7fffffff); }
static u64 is_finite(const u64 *v) { return (v[0] >> 23 & 255) != 255; }
static u64 is_infinite(const u64 *v) { return (v[0] & 0x7fffffff) == 0x7f800000; }
static u64 is_number(const u64 *v) { return (v[0] & 0x7fffffff) <= 0x7f800000; }
static u64 is_nan(const u64 *v) { return (v[0] & 0x7fffffff) > 0x7f800000; }
static u64 is_normal(const u64 *v) { return is_finite(v) && (v[0] >> 23 & 255) != 0; }
static u64 is_subnormal(const u64 *v) { return (v[0] >> 23 & 255) == 0 && (v[0] & 0x7fffff) != 0; }
static u64 either_nan(const u64 *v) { return isnan(A) || isnan(B); }
static u64 eq(const u64 *v) { return A == B; }
static u64 ne(const u64 *v) { return !either_nan(v) && A != B; }
static u64 lt(const u64 *v) { return A < B; }
static u64 le(const u64 *v) { return A <= B; }
static u64 gt(const u64 *v) { return A > B; }
static u64 ge(const u64 *v) { return A >= B; }
static u64 equ(const u64 *v) { return either_nan(v) || A == B; }
static u64 neu(const u64 *v) { return either_nan(v) || A != B; }
static u64 ltu(const u64 *v) { return either_nan(v) || A < B; }
static u64 leu(const u64 *v) { return either_nan(v) || A <= B; }
static u64 gtu(const u64 *v) { return either_nan(v) || A > B; }
static u64 geu(const u64 *v) { return either_nan(v) || A >= B; }
static u64 num(const u64 *v) { return !either_nan(v); }
static u64 lt_ftz(const u64 *v) { return flushed(A) < flushed(B); }
static u64 slct(const u64 *v) { return C >= 0 ? v[0] : v[1]; }
static u64 first(const u64 *v) { return v[0]; }

static const emu_definition definitions32[] = {
    {"add.f32", add, 0},
    {"add.rn.ftz.f32", add_ftz, 0},
    {"add.sat.f32", add_sat, 0},
    {"sub.rn.f32", sub, 0},
    {"mul.f32", mul, 0},
    {"mul.ftz.f32", mul_ftz, 0},
    {"mul.ftz.sat.f32", mul_ftz_sat, 0},
    {"fma.rn.f32", fma_rn, 0},
    {"fma.rn.ftz.f32", fma_ftz, 0},
    {"fma.rn.sat.f32", fma_sat, 0},
    {"mad.rn.f32", fma_rn, 0},
    {"div.rn.f32", quotient, 0},
    {"div.full.f32", quotient, 0},
    {"rcp.rn.f32", rcp, 0},
    {"rcp.rn.ftz.f32", rcp_ftz, 0},
    {"sqrt.rn.f32", root, 0},
    {"neg.f32", neg, 0},
    {"neg.ftz.f32", neg_ftz, 0},
    {"abs.f32", magnitude, 0},
    {"min.f32", least, 0},
    {"max.f32", most, 0},
    {"min.ftz.f32", least_ftz, 0},
    {"min.NaN.f32", least_nan, 0},
    {"max.NaN.f32", most_nan, 0},
    {"min.xorsign.abs.f32", least_xorsign, 0},
    {"max.NaN.xorsign.abs.f32", most_xorsign, 0},
    {"max.xorsign.abs.f32", max_xorsign, 0},
    {"min.NaN.xorsign.abs.f32", min_nan_xorsign, 0},
    {"copysign.f32", signed_as, 0},
    {"testp.finite.f32", is_finite, 0},
    {"testp.infinite.f32", is_infinite, 0},
    {"testp.number.f32", is_number, 0},
    {"testp.notanumber.f32", is_nan, 0},
    {"testp.normal.f32", is_normal, 0},
    {"testp.subnormal.f32", is_subnormal, 0},
    {"setp.eq.f32", eq, 0},
    {"setp.ne.f32", ne, 0},
    {"setp.lt.f32", lt, 0},
    {"setp.le.f32", le, 0},
    {"setp.gt.f32", gt, 0},
    {"setp.ge.f32", ge, 0},
    {"setp.equ.f32", equ, 0},
    {"setp.neu.f32", neu, 0},
    {"setp.ltu.f32", ltu, 0},
    {"setp.leu.f32", leu, 0},
    {"setp.gtu.f32", gtu, 0},
    {"setp.geu.f32", geu, 0},
    {"setp.num.f32", num, 0},
    {"setp.nan.f32", either_nan, 0},
    {"setp.lt.ftz.f32", lt_ftz, 0},
    {"slct.b32.f32", slct, 0},
    {"mov.b32", first, 0},
    {0},
};

/* ---- f32, directed --------------------------------------------------------------------------- */

typedef enum operation { ADD, SUB, MUL, FMA, DIV, SQRT } operation;

/* The processor's own result; volatile keeps it between the changes of mode. */
static u64 rounded(const u64 *v, operation o, int mode) {
    volatile float a = A, b = B, c = C, r = 0;
    fesetround(mode);
    switch (o) {
    case ADD: r = a + b; break;
    case SUB: r = a - b; break;
    case MUL: r = a * b; break;
    case FMA: r = fmaf(a, b, c); break;
    case DIV: r = a / b; break;
    case SQRT: r = sqrtf(a); break;
    }
    fesetround(FE_TONEAREST);
    return result(r);
}
static u64 add_rz(const u64 *v) { return rounded(v, ADD, FE_TOWARDZERO); }
static u64 add_rm(const u64 *v) { return rounded(v, ADD, FE_DOWNWARD); }
static u64 add_rp(const u64 *v) { return rounded(v, ADD, FE_UPWARD); }
static u64 sub_rz(const u64 *v) { return rounded(v, SUB, FE_TOWARDZERO); }
static u64 sub_rm(const u64 *v) { return rounded(v, SUB, FE_DOWNWARD); }
static u64 sub_rp(const u64 *v) { return rounded(v, SUB, FE_UPWARD); }
static u64 mul_rz(const u64 *v) { return rounded(v, MUL, FE_TOWARDZERO); }
static u64 mul_rm(const u64 *v) { return rounded(v, MUL, FE_DOWNWARD); }
static u64 mul_rp(const u64 *v) { return rounded(v, MUL, FE_UPWARD); }
static u64 fma_rz(const u64 *v) { return rounded(v, FMA, FE_TOWARDZERO); }
static u64 fma_rm(const u64 *v) { return rounded(v, FMA, FE_DOWNWARD); }
static u64 fma_rp(const u64 *v) { return rounded(v, FMA, FE_UPWARD); }
static u64 div_rz(const u64 *v) { return rounded(v, DIV, FE_TOWARDZERO); }
static u64 div_rm(const u64 *v) { return rounded(v, DIV, FE_DOWNWARD); }
static u64 div_rp(const u64 *v) { return rounded(v, DIV, FE_UPWARD); }
static u64 sqrt_rz(const u64 *v) { return rounded(v, SQRT, FE_TOWARDZERO); }
static u64 sqrt_rm(const u64 *v) { return rounded(v, SQRT, FE_DOWNWARD); }
static u64 sqrt_rp(const u64 *v) { return rounded(v, SQRT, FE_UPWARD); }

static u64 one_by(const u64 *v, int mode) {
    const u64 quotient_of[3] = {0x3f800000, v[0], 0};
    return rounded(quotient_of, DIV, mode);
}
static u64 rcp_rz(const u64 *v) { return one_by(v, FE_TOWARDZERO); }
static u64 rcp_rp(const u64 *v) { return one_by(v, FE_UPWARD); }

static const emu_definition definitions_directed[] = {
    {"mad.rm.f32", fma_rm, 0},   {"rcp.rz.f32", rcp_rz, 0},
    {"rcp.rp.f32", rcp_rp, 0},   {"add.rz.f32", add_rz, 0},
    {"add.rm.f32", add_rm, 0},   {"add.rp.f32", add_rp, 0},
    {"sub.rz.f32", sub_rz, 0},   {"sub.rm.f32", sub_rm, 0},
    {"sub.rp.f32", sub_rp, 0},   {"mul.rz.f32", mul_rz, 0},
    {"mul.rm.f32", mul_rm, 0},   {"mul.rp.f32", mul_rp, 0},
    {"fma.rz.f32", fma_rz, 0},   {"fma.rm.f32", fma_rm, 0},
    {"fma.rp.f32", fma_rp, 0},   {"div.rz.f32", div_rz, 0},
    {"div.rm.f32", div_rm, 0},   {"div.rp.f32", div_rp, 0},
    {"sqrt.rz.f32", sqrt_rz, 0}, {"sqrt.rm.f32", sqrt_rm, 0},
    {"sqrt.rp.f32", sqrt_rp, 0}, {0},
};

/* ---- approximations: what the manual allows -------------------------------------------------- */

static u64 of_double(double x) { return result((float)x); }
static u64 rsqrt(const u64 *v) { return of_double(1 / sqrt((double)A)); }
static u64 ex2(const u64 *v) { return of_double(exp2((double)A)); }
static u64 ex2_ftz(const u64 *v) { return result(flushed((float)exp2((double)flushed(A)))); }
static u64 lg2(const u64 *v) { return of_double(log2((double)A)); }
static u64 sine(const u64 *v) { return of_double(sin((double)A)); }
static u64 cosine(const u64 *v) { return of_double(cos((double)A)); }
static u64 tangent(const u64 *v) { return of_double(tanh((double)A)); }
static u64 div_approx(const u64 *v) {
    double b = fabs((double)B);
    if (b > 0x1p126 && isfinite(b)) {
        if (isinf(A) || isnan(A)) return NAN32;
        return (v[0] ^ v[1]) & 0x80000000;
    }
    return result(A / B);
}
static u64 rcp64(const u64 *v) { return raw64(1 / f64(v, 0)); }
static u64 rsqrt64(const u64 *v) { return raw64(1 / sqrt(f64(v, 0))); }

static const emu_definition definitions_approx[] = {
    {"rcp.approx.f32", rcp, 0x1p-23},           /* 1 ulp */
    {"rcp.approx.ftz.f32", rcp_ftz, 0x1p-23},   /* 1 ulp */
    {"rsqrt.approx.f32", rsqrt, 0x1.6p-23},     /* 2^-22.9 relative */
    {"sqrt.approx.f32", root, 0x1p-23},         /* 2^-23 */
    {"ex2.approx.f32", ex2, 0x1p-22},           /* 2^-22.5 + the rounding here */
    {"ex2.approx.ftz.f32", ex2_ftz, 0x1p-22},   /* as before */
    {"lg2.approx.f32", lg2, 0x1p-22},           /* 2^-22 */
    {"sin.approx.f32", sine, 0x1p-20},          /* 2^-20.5 absolute on the GPU */
    {"cos.approx.f32", cosine, 0x1p-20},        /* as before */
    {"tanh.approx.f32", tangent, 0x1p-10},      /* 2^-11 */
    {"div.approx.f32", div_approx, 0x1p-22},    /* 2 ulp */
    {"rcp.approx.ftz.f64", rcp64, 0x1p-20},     /* 20 bits of mantissa */
    {"rsqrt.approx.f64", rsqrt64, 0x1p-40},     /* far within f32's half unit */
    {"rsqrt.approx.ftz.f64", rsqrt64, 0x1p-20}, /* 20 bits of mantissa */
    {0},
};

/* ---- f64 ------------------------------------------------------------------------------------- */

#define DA f64(v, 0)
#define DB f64(v, 1)
#define DC f64(v, 2)

static u64 add64(const u64 *v) { return raw64(DA + DB); }
static u64 sub64(const u64 *v) { return raw64(DA - DB); }
static u64 mul64(const u64 *v) { return raw64(DA * DB); }
static u64 fma64(const u64 *v) { return raw64(fma(DA, DB, DC)); }
static u64 div64(const u64 *v) { return raw64(DA / DB); }
static u64 one_by64(const u64 *v) { return raw64(1 / DA); }
static u64 root64(const u64 *v) { return raw64(sqrt(DA)); }

/* Sign of (x - a op b), exact: products of two doubles fit 113 bits. */
static int above(double x, double a, double b, operation o) {
    __float128 left = o == MUL ? (__float128)x : (__float128)x * b;
    __float128 right = o == MUL ? (__float128)a * b : (__float128)a;
    int sign = left > right ? 1 : left < right ? -1 : 0;
    return o == DIV && b < 0 ? -sign : sign;
}
static u64 directed64(const u64 *v, operation o, int way) { /* -1 down, 1 up, 0 to zero */
    double x = o == MUL ? DA * DB : DA / DB;
    int plain = isfinite(DA) && isfinite(DB) && (o == MUL || DB != 0);
    if (!plain) return raw64(x);
    if (way == 0) way = signbit(DA) != signbit(DB) ? 1 : -1;
    if (isinf(x)) return raw64((x > 0) == (way > 0) ? x : copysign(DBL_MAX, x));
    int side = above(x, DA, DB, o);
    if (side > 0 && way < 0)
        x = nextafter(x, -INFINITY);
    else if (side < 0 && way > 0)
        x = nextafter(x, INFINITY);
    return raw64(x == 0 ? copysign(0.0, signbit(DA) != signbit(DB) ? -1.0 : 1.0) : x);
}
static u64 mul64_rz(const u64 *v) { return directed64(v, MUL, 0); }
static u64 mul64_rm(const u64 *v) { return directed64(v, MUL, -1); }
static u64 mul64_rp(const u64 *v) { return directed64(v, MUL, 1); }
static u64 div64_rz(const u64 *v) { return directed64(v, DIV, 0); }
static u64 div64_rm(const u64 *v) { return directed64(v, DIV, -1); }
static u64 div64_rp(const u64 *v) { return directed64(v, DIV, 1); }
static u64 rcp64_rm(const u64 *v) {
    const u64 quotient_of[2] = {0x3ff0000000000000, v[0]};
    return directed64(quotient_of, DIV, -1);
}
/* a * b + c: the sum of two numbers of at most 106 bits, with what 113 bits lose beside it. */
static u64 sum64(double a, double b, double c, emu_direction d) {
    __float128 p = (__float128)a * (__float128)b, q = (__float128)c, s = p + q, of_q = s - p;
    if (!isfinite(a) || !isfinite(b) || !isfinite(c)) return raw64(fma(a, b, c));
    __float128 lost = (p - (s - of_q)) + (q - of_q);
    if (s == 0 && lost == 0) { /* +0 + -0 and x - x: -0 downwards only */
        bool p_minus = signbit(a) != signbit(b), q_minus = signbit(c) != 0;
        return raw64((d == EMU_RM ? p_minus || q_minus : p_minus && q_minus) ? -0.0 : 0.0);
    }
    bool back = d == EMU_RZ || (d == EMU_RM && s > 0) || (d == EMU_RP && s < 0);
    return emu_encode(&emu_f64, s, lost, d, back);
}
static u64 add64_rz(const u64 *v) { return sum64(1, DA, DB, EMU_RZ); }
static u64 add64_rm(const u64 *v) { return sum64(1, DA, DB, EMU_RM); }
static u64 sub64_rp(const u64 *v) { return sum64(1, DA, -DB, EMU_RP); }
static u64 fma64_rz(const u64 *v) { return sum64(DA, DB, DC, EMU_RZ); }
static u64 fma64_rp(const u64 *v) { return sum64(DA, DB, DC, EMU_RP); }
static u64 root64_directed(const u64 *v, int way) { /* -1 down, 1 up */
    double x = sqrt(DA);
    if (!(DA > 0) || !isfinite(DA)) return raw64(x);
    __float128 square = (__float128)x * (__float128)x;
    if (square > (__float128)DA && way < 0) x = nextafter(x, 0);
    if (square < (__float128)DA && way > 0) x = nextafter(x, INFINITY);
    return raw64(x);
}
static u64 root64_rz(const u64 *v) { return root64_directed(v, -1); }
static u64 root64_rp(const u64 *v) { return root64_directed(v, 1); }
static u64 neg64(const u64 *v) { return v[0] ^ 1ull << 63; }
static u64 abs64(const u64 *v) { return v[0] & ~(1ull << 63); }
static u64 extreme64(const u64 *v, int larger) {
    if (isnan(DA) || isnan(DB)) return isnan(DA) ? v[1] : v[0];
    int greater = DA > DB || (DA == DB && !signbit(DA) && signbit(DB));
    return greater == larger ? v[0] : v[1];
}
static u64 min64(const u64 *v) { return extreme64(v, 0); }
static u64 max64(const u64 *v) { return extreme64(v, 1); }
static u64 signed_as64(const u64 *v) { return (v[0] & 1ull << 63) | abs64(&v[1]); }
static u64 lt64(const u64 *v) { return DA < DB; }
static u64 neu64(const u64 *v) { return isnan(DA) || isnan(DB) || DA != DB; }
static u64 selp64(const u64 *v) { return neu64(v) ? v[0] : v[1]; } /* p is that of the row before */

static const emu_definition definitions64[] = {
    {"add.f64", add64, 0},
    {"sub.rn.f64", sub64, 0},
    {"mul.rn.f64", mul64, 0},
    {"fma.rn.f64", fma64, 0},
    {"div.rn.f64", div64, 0},
    {"rcp.rn.f64", one_by64, 0},
    {"sqrt.rn.f64", root64, 0},
    {"mul.rz.f64", mul64_rz, 0},
    {"mul.rm.f64", mul64_rm, 0},
    {"mul.rp.f64", mul64_rp, 0},
    {"div.rz.f64", div64_rz, 0},
    {"div.rm.f64", div64_rm, 0},
    {"div.rp.f64", div64_rp, 0},
    {"mad.rn.f64", fma64, 0},
    {"add.rz.f64", add64_rz, 0},
    {"add.rm.f64", add64_rm, 0},
    {"sub.rp.f64", sub64_rp, 0},
    {"fma.rz.f64", fma64_rz, 0},
    {"fma.rp.f64", fma64_rp, 0},
    {"rcp.rm.f64", rcp64_rm, 0},
    {"sqrt.rz.f64", root64_rz, 0},
    {"sqrt.rp.f64", root64_rp, 0},
    {"neg.f64", neg64, 0},
    {"abs.f64", abs64, 0},
    {"min.f64", min64, 0},
    {"max.f64", max64, 0},
    {"copysign.f64", signed_as64, 0},
    {"setp.lt.f64", lt64, 0},
    {"setp.neu.f64", neu64, 0},
    {"selp.f64", selp64, 0},
    {"mov.b64", first, 0},
    {0},
};

/* ---- operands -------------------------------------------------------------------------------- */

static const u64 edges32[] = {
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000,
    0x80800000, 0x3f800000, 0xbf800000, 0x3f800001, 0x3f7fffff, 0x3f000000, 0x40490fdb,
    0xc2c80000, 0x33800000, 0x4b800000, 0x42fe0000, 0xc3150000, 0x7e800001, 0xfe800001,
    0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7f800001};

static void check32(const char *kernel, const emu_definition *definitions, int operands) {
    const emu_operands o = {edges32, sizeof edges32 / sizeof edges32[0], operands, 20000,
                            UINT32_MAX};
    emu_check_ops(kernel, &o, definitions);
}
static void test_floats32(void **state) {
    (void)state;
    check32("floats32", definitions32, 3);
}
static void test_directed(void **state) {
    (void)state;
    check32("floats_directed", definitions_directed, 3);
}
static void test_approx(void **state) {
    (void)state;
    check32("floats_approx", definitions_approx, 2);
}
/* No NaN and nothing near the ends of the range, where neighbours in 113 bits do not help: */
static void test_floats64(void **state) {
    static const u64 edges[] = {0x0000000000000000, 0x8000000000000000, 0x3ff0000000000000,
                                0xbff0000000000001, 0x3ff0000000000001, 0x3fefffffffffffff,
                                0x400921fb54442d18, 0xc008000000000000, 0x4340000000000001,
                                0x3ca0000000000000, 0x7fefffffffffffff, 0x7ff0000000000000,
                                0xfff0000000000000, 0x3fb999999999999a, 0x5000000000000000};
    /* the exponent's upper bits are held, so that products stay normal */
    const emu_operands o = {edges, sizeof edges / sizeof edges[0], 3, 20000, 0xbfffffffffffffff};
    (void)state;
    emu_check_ops("floats64", &o, definitions64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floats32),
        cmocka_unit_test(test_directed),
        cmocka_unit_test(test_approx),
        cmocka_unit_test(test_floats64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
