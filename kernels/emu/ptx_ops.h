/* ptx_ops.h — what a PTX instruction computes, for generated code: included by it alone.
 *
 * Helpers that every thread runs all the time are inline here; conversions and roundings that are
 * rare are in ptx_math.c. A half (f16, bf16) is its 16 bits; its arithmetic is done in double and
 * rounded once: the sum and product of two halves are exact there or round to the same half, fma
 * keeps what double loses in the last bit (round to odd). Directed rounding follows IEEE 754; NaN
 * results of f32 and halves are the canonical 0x7fffffff, 0x7fff.
 */
#ifndef QE_PTX_OPS_H
#define QE_PTX_OPS_H

#include "kernels/emu/machine.h"

#include <math.h>
#include <string.h>

#define QE_INLINE static inline __attribute__((always_inline, unused))

typedef unsigned __int128 qe_b128;

/* ---- bits ------------------------------------------------------------------------------------ */

QE_INLINE float qe_f32(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
QE_INLINE uint32_t qe_bits32(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
QE_INLINE double qe_f64(uint64_t u) {
    double f;
    memcpy(&f, &u, sizeof f);
    return f;
}
QE_INLINE uint64_t qe_bits64(double f) {
    uint64_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
QE_INLINE uint32_t qe_pair(uint32_t low, uint32_t high) { return (low & 0xffff) | high << 16; }
QE_INLINE uint16_t qe_pair8(uint32_t low, uint32_t high) {
    return (uint16_t)((low & 0xff) | high << 8);
}
QE_INLINE uint32_t qe_lane_set(uint32_t x, int lane, uint32_t half) {
    return (x & ~(0xffffu << 16 * lane)) | (half & 0xffff) << 16 * lane;
}

/* ---- memory ---------------------------------------------------------------------------------- */

QE_INLINE uint8_t qe_get8(const void *p) { return *(const uint8_t *)p; }
QE_INLINE uint16_t qe_get16(const void *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
QE_INLINE uint32_t qe_get32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
QE_INLINE uint64_t qe_get64(const void *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
QE_INLINE qe_b128 qe_get128(const void *p) {
    qe_b128 v;
    memcpy(&v, p, sizeof v);
    return v;
}
QE_INLINE void qe_put8(void *p, uint8_t v) { memcpy(p, &v, sizeof v); }
QE_INLINE void qe_put16(void *p, uint16_t v) { memcpy(p, &v, sizeof v); }
QE_INLINE void qe_put32(void *p, uint32_t v) { memcpy(p, &v, sizeof v); }
QE_INLINE void qe_put64(void *p, uint64_t v) { memcpy(p, &v, sizeof v); }
QE_INLINE void qe_put128(void *p, qe_b128 v) { memcpy(p, &v, sizeof v); }

/* The host address of an access, checked: a generic or global one, and one in the shared window. */
QE_INLINE char *qe_at(qe_thread *t, uint64_t address, uint32_t bytes, uint32_t flags,
                      const qe_site *site) {
    char *p = (char *)(uintptr_t)address;
    qe_access(t, p, bytes, flags, site);
    return p;
}
QE_INLINE char *qe_shared_at(qe_thread *t, uint32_t address, uint32_t bytes, uint32_t flags,
                             const qe_site *site) {
    char *p = qe_shared(t, address, bytes, site);
    qe_access(t, p, bytes, flags, site);
    return p;
}
/* The same of a volatile, ordered or atomic access. */
static inline char *qe_ordered_at(qe_thread *t, uint64_t address, uint32_t bytes, uint32_t flags,
                                  qe_order order, const qe_site *site) {
    char *p = (char *)(uintptr_t)address;
    if (__builtin_expect((address & (bytes - 1)) != 0, 0)) qe_misaligned(t, p, bytes, site);
    qe_atomic_access(t, p, bytes, flags, order, site);
    return p;
}
static inline char *qe_shared_ordered_at(qe_thread *t, uint32_t address, uint32_t bytes,
                                         uint32_t flags, qe_order order, const qe_site *site) {
    char *p = qe_shared(t, address, bytes, site);
    return qe_ordered_at(t, (uint64_t)(uintptr_t)p, bytes, flags, order, site);
}

/* The generic address of a window address. */
static inline uint64_t qe_generic(qe_thread *t, uint32_t address, const qe_site *site) {
    if (address >> 24 == 0) return (uint64_t)(uintptr_t)(t->block->window + address);
    return (uint64_t)(uintptr_t)qe_shared_slow(t, address, 1, site);
}
static inline uint32_t qe_rank_of(const qe_thread *t, uint32_t address) {
    return address >> 24 ? (address >> 24) - 1 : t->block->cluster_rank;
}
static inline bool qe_is_own_shared(const qe_thread *t, uint64_t p) {
    return p - (uint64_t)(uintptr_t)(t->block->window + t->block->shared_low) <
           t->block->shared_bytes;
}
/* Locals lie on the stack that runs now. */
static inline bool qe_is_local_address(uint64_t p) {
    uint64_t here = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    return p - here + (64u << 10) < (128u << 10);
}
static inline bool qe_is_global_address(const qe_thread *t, uint64_t p) {
    (void)t;
    return !qe_is_shared((const void *)(uintptr_t)p) && !qe_is_local_address(p);
}

static inline uint32_t qe_sm_count(void) { return qe_cfg.sms; }
static inline uint32_t qe_sm_id(const qe_thread *t) {
    const qe_block *b = t->block;
    return (b->ctaid[0] + b->nctaid[0] * (b->ctaid[1] + b->nctaid[1] * b->ctaid[2])) %
           qe_sm_count();
}
uint64_t qe_clock(void); /* rises with every call */

/* The CUDA library's device functions: arguments stand in memory. */
void qe_vprintf(qe_thread *t, char *result, const char *format, const char *arguments,
                const qe_site *site);
_Noreturn void qe_assert_fail(qe_thread *t, const char *message, const char *file, const char *line,
                              const char *function, const char *char_bytes, const qe_site *site);

/* ---- integers -------------------------------------------------------------------------------- */

QE_INLINE int64_t qe_clamp(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : x > high ? high : x;
}
static inline int64_t qe_clamp_to_s8(int64_t x) { return qe_clamp(x, INT8_MIN, INT8_MAX); }
static inline int64_t qe_clamp_to_u8(int64_t x) { return qe_clamp(x, 0, UINT8_MAX); }
static inline int64_t qe_clamp_to_s16(int64_t x) { return qe_clamp(x, INT16_MIN, INT16_MAX); }
static inline int64_t qe_clamp_to_u16(int64_t x) { return qe_clamp(x, 0, UINT16_MAX); }
static inline int64_t qe_clamp_to_s32(int64_t x) { return qe_clamp(x, INT32_MIN, INT32_MAX); }
static inline int64_t qe_clamp_to_u32(int64_t x) { return qe_clamp(x, 0, UINT32_MAX); }
static inline int64_t qe_clamp_to_s64(int64_t x) { return x; }
static inline int64_t qe_clamp_to_u64(int64_t x) { return x < 0 ? 0 : x; }
QE_INLINE uint64_t qe_most(uint64_t x, uint64_t high) { return x > high ? high : x; }
static inline uint64_t qe_clamp_u_to_s8(uint64_t x) { return qe_most(x, INT8_MAX); }
static inline uint64_t qe_clamp_u_to_u8(uint64_t x) { return qe_most(x, UINT8_MAX); }
static inline uint64_t qe_clamp_u_to_s16(uint64_t x) { return qe_most(x, INT16_MAX); }
static inline uint64_t qe_clamp_u_to_u16(uint64_t x) { return qe_most(x, UINT16_MAX); }
static inline uint64_t qe_clamp_u_to_s32(uint64_t x) { return qe_most(x, INT32_MAX); }
static inline uint64_t qe_clamp_u_to_u32(uint64_t x) { return qe_most(x, UINT32_MAX); }
static inline uint64_t qe_clamp_u_to_s64(uint64_t x) { return qe_most(x, INT64_MAX); }
static inline uint64_t qe_clamp_u_to_u64(uint64_t x) { return x; }
static inline int32_t qe_relu_s32(int32_t x) { return x < 0 ? 0 : x; }

static inline uint32_t qe_add_carry32(uint32_t a, uint32_t b, bool carry, bool *out) {
    uint64_t x = (uint64_t)a + b + carry;
    *out = x >> 32 != 0;
    return (uint32_t)x;
}
static inline uint64_t qe_add_carry64(uint64_t a, uint64_t b, bool carry, bool *out) {
    qe_b128 x = (qe_b128)a + b + carry;
    *out = x >> 64 != 0;
    return (uint64_t)x;
}
static inline uint32_t qe_sub_borrow32(uint32_t a, uint32_t b, bool borrow, bool *out) {
    *out = (uint64_t)b + borrow > a;
    return a - b - borrow;
}
static inline uint64_t qe_sub_borrow64(uint64_t a, uint64_t b, bool borrow, bool *out) {
    *out = (qe_b128)b + borrow > a;
    return a - b - borrow;
}

QE_INLINE uint64_t qe_mul_wide_u32(uint32_t a, uint32_t b) { return (uint64_t)a * b; }
QE_INLINE int64_t qe_mul_wide_s32(int32_t a, int32_t b) { return (int64_t)a * b; }
static inline uint64_t qe_mul_hi_u64(uint64_t a, uint64_t b) {
    return (uint64_t)((qe_b128)a * b >> 64);
}
static inline int64_t qe_mul_hi_s64(int64_t a, int64_t b) {
    uint64_t high = qe_mul_hi_u64((uint64_t)a, (uint64_t)b);
    return (int64_t)(high - (a < 0 ? (uint64_t)b : 0) - (b < 0 ? (uint64_t)a : 0));
}
static inline uint64_t qe_mul24_u(uint32_t a, uint32_t b) {
    return (uint64_t)(a & 0xffffff) * (b & 0xffffff);
}
static inline int64_t qe_mul24_s(int32_t a, int32_t b) {
    return (int64_t)((int32_t)((uint32_t)a << 8) >> 8) * ((int32_t)((uint32_t)b << 8) >> 8);
}

/* Division by zero is all ones, its remainder the dividend; the least number by -1 wraps. */
QE_INLINE uint32_t qe_div_u32(uint32_t a, uint32_t b) { return b ? a / b : UINT32_MAX; }
QE_INLINE uint32_t qe_rem_u32(uint32_t a, uint32_t b) { return b ? a % b : a; }
QE_INLINE uint64_t qe_div_u64(uint64_t a, uint64_t b) { return b ? a / b : UINT64_MAX; }
QE_INLINE uint64_t qe_rem_u64(uint64_t a, uint64_t b) { return b ? a % b : a; }
QE_INLINE int32_t qe_div_s32(int32_t a, int32_t b) { return b == -1 ? 0 - a : b ? a / b : -1; }
QE_INLINE int32_t qe_rem_s32(int32_t a, int32_t b) { return b == -1 ? 0 : b ? a % b : a; }
QE_INLINE int64_t qe_div_s64(int64_t a, int64_t b) { return b == -1 ? 0 - a : b ? a / b : -1; }
QE_INLINE int64_t qe_rem_s64(int64_t a, int64_t b) { return b == -1 ? 0 : b ? a % b : a; }

QE_INLINE int64_t qe_shr_s(int64_t x, uint32_t n, uint32_t bits) {
    return x >> (n >= bits ? bits - 1 : n);
}
QE_INLINE uint64_t qe_shr_u(uint64_t x, uint32_t n, uint32_t bits) {
    return n >= bits ? 0 : x >> n;
}
/* Funnel shifts of high:low. */
static inline uint32_t qe_shf_l_wrap(uint32_t low, uint32_t high, uint32_t n) {
    return (uint32_t)(((uint64_t)high << 32 | low) << (n & 31) >> 32);
}
static inline uint32_t qe_shf_r_wrap(uint32_t low, uint32_t high, uint32_t n) {
    return (uint32_t)(((uint64_t)high << 32 | low) >> (n & 31));
}
static inline uint32_t qe_shf_l_clamp(uint32_t low, uint32_t high, uint32_t n) {
    return n >= 32 ? low : qe_shf_l_wrap(low, high, n);
}
static inline uint32_t qe_shf_r_clamp(uint32_t low, uint32_t high, uint32_t n) {
    return n >= 32 ? high : qe_shf_r_wrap(low, high, n);
}

static inline uint32_t qe_clz32(uint32_t x) { return x ? (uint32_t)__builtin_clz(x) : 32; }
static inline uint32_t qe_clz64(uint64_t x) { return x ? (uint32_t)__builtin_clzll(x) : 64; }
uint32_t qe_brev32(uint32_t x);
uint64_t qe_brev64(uint64_t x);
static inline uint32_t qe_bfind_u64(uint64_t x) { return x ? 63 - qe_clz64(x) : UINT32_MAX; }
static inline uint32_t qe_bfind_u32(uint32_t x) { return qe_bfind_u64(x); }
static inline uint32_t qe_bfind_s64(int64_t x) { return qe_bfind_u64((uint64_t)(x < 0 ? ~x : x)); }
static inline uint32_t qe_bfind_s32(int32_t x) { return qe_bfind_s64(x); }
static inline uint32_t qe_bfind_shift(uint32_t at, uint32_t bits) {
    return at == UINT32_MAX ? at : bits - 1 - at;
}
uint32_t qe_bfe_u32(uint32_t x, uint32_t at, uint32_t n);
int32_t qe_bfe_s32(int32_t x, uint32_t at, uint32_t n);
uint64_t qe_bfe_u64(uint64_t x, uint32_t at, uint32_t n);
int64_t qe_bfe_s64(int64_t x, uint32_t at, uint32_t n);
uint64_t qe_mask(uint32_t at, uint32_t n, uint32_t bits); /* n ones from bit `at` on */
static inline uint32_t qe_bfi32(uint32_t field, uint32_t x, uint32_t at, uint32_t n) {
    uint32_t mask = (uint32_t)qe_mask(at & 255, n & 255, 32);
    return (x & ~mask) | ((at & 255) > 31 ? 0 : field << (at & 31) & mask);
}
static inline uint64_t qe_bfi64(uint64_t field, uint64_t x, uint32_t at, uint32_t n) {
    uint64_t mask = qe_mask(at & 255, n & 255, 64);
    return (x & ~mask) | ((at & 255) > 63 ? 0 : field << (at & 63) & mask);
}
static inline uint32_t qe_bmsk_clamp(uint32_t at, uint32_t n) {
    return (uint32_t)qe_mask(at, n, 32);
}
static inline uint32_t qe_bmsk_wrap(uint32_t at, uint32_t n) {
    return (uint32_t)qe_mask(at & 31, n & 31, 32);
}
uint32_t qe_szext_clamp_u(uint32_t x, uint32_t n);
int32_t qe_szext_clamp_s(int32_t x, uint32_t n);
static inline uint32_t qe_szext_wrap_u(uint32_t x, uint32_t n) {
    return qe_szext_clamp_u(x, n & 31);
}
static inline int32_t qe_szext_wrap_s(int32_t x, uint32_t n) { return qe_szext_clamp_s(x, n & 31); }
uint32_t qe_fns(uint32_t mask, uint32_t base, int32_t offset);

static inline uint32_t qe_prmt(uint32_t a, uint32_t b, uint32_t select) {
    uint64_t x = (uint64_t)b << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t s = select >> 4 * i & 15;
        uint32_t byte = (uint32_t)(x >> 8 * (s & 7)) & 255;
        if (s & 8) byte = byte & 128 ? 255 : 0;
        r |= byte << 8 * i;
    }
    return r;
}
uint32_t qe_prmt_f4e(uint32_t a, uint32_t b, uint32_t c);
uint32_t qe_prmt_b4e(uint32_t a, uint32_t b, uint32_t c);
uint32_t qe_prmt_rc8(uint32_t a, uint32_t b, uint32_t c);
uint32_t qe_prmt_ecl(uint32_t a, uint32_t b, uint32_t c);
uint32_t qe_prmt_ecr(uint32_t a, uint32_t b, uint32_t c);
uint32_t qe_prmt_rc16(uint32_t a, uint32_t b, uint32_t c);
/* table is a constant: what stays of it is two or three instructions. */
QE_INLINE uint32_t qe_lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
    return (table & 1 ? ~a & ~b & ~c : 0) | (table & 2 ? ~a & ~b & c : 0) |
           (table & 4 ? ~a & b & ~c : 0) | (table & 8 ? ~a & b & c : 0) |
           (table & 16 ? a & ~b & ~c : 0) | (table & 32 ? a & ~b & c : 0) |
           (table & 64 ? a & b & ~c : 0) | (table & 128 ? a & b & c : 0);
}

static inline uint32_t qe_byte_u32(uint32_t x, int i) { return x >> 8 * i & 255; }
static inline uint32_t qe_byte_s32(uint32_t x, int i) { return (uint32_t)(int8_t)(x >> 8 * i); }
static inline uint32_t qe_half_u32(uint32_t x, int i) { return x >> 16 * i & 0xffff; }
static inline uint32_t qe_half_s32(uint32_t x, int i) { return (uint32_t)(int16_t)(x >> 16 * i); }
typedef uint32_t qe_part(uint32_t x, int i);
QE_INLINE uint32_t qe_dp4a(uint32_t a, uint32_t b, qe_part *of_a, qe_part *of_b) {
    return of_a(a, 0) * of_b(b, 0) + of_a(a, 1) * of_b(b, 1) + of_a(a, 2) * of_b(b, 2) +
           of_a(a, 3) * of_b(b, 3);
}
QE_INLINE uint32_t qe_dp2a_lo(uint32_t a, uint32_t b, qe_part *of_a, qe_part *of_b) {
    return of_a(a, 0) * of_b(b, 0) + of_a(a, 1) * of_b(b, 1);
}
QE_INLINE uint32_t qe_dp2a_hi(uint32_t a, uint32_t b, qe_part *of_a, qe_part *of_b) {
    return of_a(a, 0) * of_b(b, 2) + of_a(a, 1) * of_b(b, 3);
}

/* ---- f32, f64 -------------------------------------------------------------------------------- */

typedef enum qe_rounding { qe_rn, qe_rz, qe_rm, qe_rp, qe_rna } qe_rounding;

QE_INLINE float qe_nan32(float x) {
    if (__builtin_expect(x != x, 0)) {
        x = qe_f32(0x7fffffff);
        __asm__ volatile(""); /* keeps the branch: a select would lengthen every chain of sums */
    }
    return x;
}
QE_INLINE float qe_ftz(float x) {
    if (__builtin_expect((qe_bits32(x) & 0x7f800000) == 0, 0)) {
        x = __builtin_copysignf(0.0f, x);
        __asm__ volatile("");
    }
    return x;
}
QE_INLINE float qe_sat(float x) { return x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f; } /* NaN: 0 */
static inline double qe_sat64(double x) { return x > 0.0 ? x < 1.0 ? x : 1.0 : 0.0; }
QE_INLINE bool qe_ordered_ne(double a, double b) { return a < b || a > b; }
QE_INLINE bool qe_unordered(double a, double b) { return a != a || b != b; }

float qe_fma_rz(float a, float b, float c);
float qe_fma_rm(float a, float b, float c);
float qe_fma_rp(float a, float b, float c);
float qe_mul_rz(float a, float b);
float qe_mul_rm(float a, float b);
float qe_mul_rp(float a, float b);
float qe_div_f32(float a, float b, qe_rounding r);
float qe_sqrt_f32(float x, qe_rounding r);
double qe_fma_f64(double a, double b, double c, qe_rounding r);
double qe_mul_f64(double a, double b, qe_rounding r);
double qe_div_f64(double a, double b, qe_rounding r);
double qe_sqrt_f64(double x, qe_rounding r);
float qe_div_approx(float a, float b); /* 0 where |b| > 2^126, as documented */
static inline float qe_rsqrt(float x) { return qe_nan32((float)(1.0 / __builtin_sqrt((double)x))); }
static inline double qe_upper_half(double x) { return qe_f64(qe_bits64(x) & 0xffffffff00000000u); }

/* The other operand where one is NaN; -0 lies below +0. */
static inline float qe_min_f32(float a, float b) {
    if (a != a || b != b) return a == a ? a : b == b ? b : qe_f32(0x7fffffff);
    if (a == b) return qe_f32(qe_bits32(a) | qe_bits32(b));
    return a < b ? a : b;
}
static inline float qe_max_f32(float a, float b) {
    if (a != a || b != b) return a == a ? a : b == b ? b : qe_f32(0x7fffffff);
    if (a == b) return qe_f32(qe_bits32(a) & qe_bits32(b));
    return a > b ? a : b;
}
static inline float qe_min_nan(float a, float b) {
    return a != a || b != b ? qe_f32(0x7fffffff) : qe_min_f32(a, b);
}
static inline float qe_max_nan(float a, float b) {
    return a != a || b != b ? qe_f32(0x7fffffff) : qe_max_f32(a, b);
}
QE_INLINE float qe_xorsign(float (*f)(float, float), float a, float b) {
    uint32_t sign = (qe_bits32(a) ^ qe_bits32(b)) & 0x80000000;
    float x = f(__builtin_fabsf(a), __builtin_fabsf(b));
    return x != x ? x : qe_f32(qe_bits32(x) | sign);
}
double qe_min_f64(double a, double b);
double qe_max_f64(double a, double b);

static inline bool qe_is_finite_f32(float x) { return isfinite(x); }
static inline bool qe_is_infinite_f32(float x) { return isinf(x); }
static inline bool qe_is_number_f32(float x) { return x == x; }
static inline bool qe_is_notanumber_f32(float x) { return x != x; }
static inline bool qe_is_normal_f32(float x) { return isnormal(x); }
static inline bool qe_is_subnormal_f32(float x) { return fpclassify(x) == FP_SUBNORMAL; }
static inline bool qe_is_finite_f64(double x) { return isfinite(x); }
static inline bool qe_is_infinite_f64(double x) { return isinf(x); }
static inline bool qe_is_number_f64(double x) { return x == x; }
static inline bool qe_is_notanumber_f64(double x) { return x != x; }
static inline bool qe_is_normal_f64(double x) { return isnormal(x); }
static inline bool qe_is_subnormal_f64(double x) { return fpclassify(x) == FP_SUBNORMAL; }

/* On global memory f32 sums flush denormals, on shared memory they do not. */
static inline float qe_atom_add_f32(const void *p, float a, float b) {
    if (qe_is_shared(p)) return qe_nan32(a + b);
    return qe_ftz(qe_nan32(qe_ftz(a) + qe_ftz(b)));
}

/* ---- halves and other narrow formats --------------------------------------------------------- */

QE_INLINE double qe_keep(double x) { return x; }
static inline double qe_relu(double x) { return x > 0.0 || x != x ? x : 0.0; }

/* To float by round to odd: rounding that once more to a format of at most 22 bits is exact. */
QE_INLINE float qe_odd(double x) {
    float f = (float)x;
    if (__builtin_expect((double)f != x && x == x, 0)) {
        uint32_t u = qe_bits32(f);
        if (__builtin_fabs((double)f) > __builtin_fabs(x)) u--;
        f = qe_f32(u | 1);
    }
    return f;
}
/* a * b + c in double by round to odd; a * b must be exact in double. */
double qe_fma_odd(double a, double b, double c);

QE_INLINE float qe_from_bf16(uint16_t h) { return qe_f32((uint32_t)h << 16); }
QE_INLINE uint16_t qe_to_bf16(double x) {
    uint32_t u = qe_bits32(qe_odd(x));
    if (__builtin_expect(x != x, 0)) return 0x7fff;
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
QE_INLINE float qe_from_f16(uint16_t h) {
    _Float16 x;
    memcpy(&x, &h, sizeof x);
    return qe_nan32((float)x);
}
QE_INLINE uint16_t qe_to_f16(double x) {
    _Float16 h = (_Float16)qe_odd(x);
    uint16_t u;
    memcpy(&u, &h, sizeof u);
    return __builtin_expect(x != x, 0) ? 0x7fff : u;
}
float qe_from_e4m3(uint8_t x);
float qe_from_e5m2(uint8_t x);
uint8_t qe_to_e4m3(double x);
uint8_t qe_to_e5m2(double x);
uint16_t qe_narrow_f16(double x, qe_rounding r);
uint16_t qe_narrow_bf16(double x, qe_rounding r);
uint32_t qe_narrow_tf32(double x, qe_rounding r);
uint8_t qe_narrow_e4m3(double x, qe_rounding r);
uint8_t qe_narrow_e5m2(double x, qe_rounding r);
/* satfinite: the largest finite number instead of what lies beyond. */
double qe_finite_f16(double x);
double qe_finite_bf16(double x);
double qe_finite_tf32(double x);
double qe_finite_e4m3(double x);
double qe_finite_e5m2(double x);

/* ---- conversions ----------------------------------------------------------------------------- */

QE_INLINE double qe_rni(double x) { return __builtin_rint(x); }
QE_INLINE double qe_rzi(double x) { return __builtin_trunc(x); }
QE_INLINE double qe_rmi(double x) { return __builtin_floor(x); }
QE_INLINE double qe_rpi(double x) { return __builtin_ceil(x); }
float qe_round_f32(long double x, qe_rounding r);
double qe_round_f64(long double x, qe_rounding r);
double qe_odd_s64(int64_t x);
double qe_odd_u64(uint64_t x);

/* A whole number as an integer of the type, clamped; NaN becomes nan. */
QE_INLINE int64_t qe_integer(double x, double low, double high, uint64_t nan) {
    if (__builtin_expect(x != x, 0)) return (int64_t)nan;
    return (int64_t)(x < low ? low : x > high ? high : x);
}
QE_INLINE int64_t qe_integer_s8(double x, uint64_t nan) {
    return qe_integer(x, INT8_MIN, INT8_MAX, nan);
}
QE_INLINE int64_t qe_integer_u8(double x, uint64_t nan) { return qe_integer(x, 0, UINT8_MAX, nan); }
QE_INLINE int64_t qe_integer_s16(double x, uint64_t nan) {
    return qe_integer(x, INT16_MIN, INT16_MAX, nan);
}
QE_INLINE int64_t qe_integer_u16(double x, uint64_t nan) {
    return qe_integer(x, 0, UINT16_MAX, nan);
}
QE_INLINE int64_t qe_integer_s32(double x, uint64_t nan) {
    return qe_integer(x, INT32_MIN, INT32_MAX, nan);
}
QE_INLINE int64_t qe_integer_u32(double x, uint64_t nan) {
    return qe_integer(x, 0, UINT32_MAX, nan);
}
int64_t qe_integer_s64(double x, uint64_t nan);
uint64_t qe_integer_u64(double x, uint64_t nan);

#endif
