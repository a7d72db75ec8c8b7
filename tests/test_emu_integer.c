/* test_emu_integer.c — integer instructions of translated PTX, against 128-bit arithmetic. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/harness_emu_ops.h"

typedef __int128 wide;
typedef unsigned __int128 uwide;
typedef uint64_t u64;

/* An operand as a number of so many bits, with and without sign. */
static wide s(const u64 *v, int i, int bits) {
    wide x = (wide)(v[i] & (bits == 64 ? ~0ull : (1ull << bits) - 1));
    return x >> (bits - 1) ? x - ((wide)1 << bits) : x;
}
static wide u(const u64 *v, int i, int bits) {
    return (wide)(v[i] & (bits == 64 ? ~0ull : (1ull << bits) - 1));
}
static wide within(wide x, wide low, wide high) { return x < low ? low : x > high ? high : x; }
static wide two_to(int n) { return (wide)1 << n; }
static u64 saturated(wide x, int bits, int is_signed) {
    if (is_signed) return (u64)within(x, -two_to(bits - 1), two_to(bits - 1) - 1);
    return (u64)within(x, 0, two_to(bits) - 1);
}
static wide divided(wide a, wide b) { return b == 0 ? -1 : a / b; }
static wide remainder_of(wide a, wide b) { return b == 0 ? a : a % b; }
static wide absolute(wide x) { return x < 0 ? -x : x; }
static wide least(wide a, wide b) { return a < b ? a : b; }
static wide most(wide a, wide b) { return a > b ? a : b; }
static u64 left(u64 x, u64 n, u64 bits) { return (uint32_t)n >= bits ? 0 : x << n; }
static u64 right(wide x, u64 n) { return (u64)(x >> ((uint32_t)n > 64 ? 64 : (uint32_t)n)); }
static u64 high(wide product, int bits) { return (u64)(product >> bits); }

/* ---- 32 bits --------------------------------------------------------------------------------- */

#define A  s(v, 0, 32)
#define B  s(v, 1, 32)
#define C  s(v, 2, 32)
#define UA u(v, 0, 32)
#define UB u(v, 1, 32)
#define UC u(v, 2, 32)

static u64 add(const u64 *v) { return v[0] + v[1]; }
static u64 add_sat(const u64 *v) { return saturated(A + B, 32, 1); }
static u64 sub(const u64 *v) { return v[0] - v[1]; }
static u64 sub_sat(const u64 *v) { return saturated(A - B, 32, 1); }
static u64 mul(const u64 *v) { return v[0] * v[1]; }
static u64 mul_hi_s(const u64 *v) { return high(A * B, 32); }
static u64 mul_hi_u(const u64 *v) { return high(UA * UB, 32); }
static u64 mul_wide_s(const u64 *v) { return (u64)(A * B); }
static u64 mul_wide_u(const u64 *v) { return (u64)(UA * UB); }
static u64 mad(const u64 *v) { return v[0] * v[1] + v[2]; }
static u64 mad_hi_s(const u64 *v) { return high(A * B, 32) + v[2]; }
static u64 mad_hi_u(const u64 *v) { return high(UA * UB, 32) + v[2]; }
static u64 mad_hi_sat(const u64 *v) { return saturated((A * B >> 32) + C, 32, 1); }
static u64 mad_wide_s(const u64 *v) { return (u64)(A * B) + v[2]; }
static u64 mad_wide_u(const u64 *v) { return (u64)(UA * UB) + v[2]; }
static u64 mul24_lo_s(const u64 *v) { return (u64)(s(v, 0, 24) * s(v, 1, 24)); }
static u64 mul24_hi_s(const u64 *v) { return (u64)(s(v, 0, 24) * s(v, 1, 24) >> 16); }
static u64 mul24_lo_u(const u64 *v) { return (u64)(u(v, 0, 24) * u(v, 1, 24)); }
static u64 mul24_hi_u(const u64 *v) { return (u64)(u(v, 0, 24) * u(v, 1, 24) >> 16); }
static u64 mad24_hi(const u64 *v) { return mul24_hi_u(v) + v[2]; }
static u64 mad24(const u64 *v) { return mul24_lo_s(v) + v[2]; }
static u64 sad_s(const u64 *v) { return (u64)absolute(A - B) + v[2]; }
static u64 sad_u(const u64 *v) { return (u64)absolute(UA - UB) + v[2]; }
static u64 div_s(const u64 *v) { return (u64)divided(A, B); }
static u64 div_u(const u64 *v) { return (u64)divided(UA, UB); }
static u64 rem_s(const u64 *v) { return (u64)remainder_of(A, B); }
static u64 rem_u(const u64 *v) { return (u64)remainder_of(UA, UB); }
static u64 abs_s(const u64 *v) { return (u64)absolute(A); }
static u64 neg_s(const u64 *v) { return (u64)-A; }
static u64 min_s(const u64 *v) { return (u64)least(A, B); }
static u64 min_u(const u64 *v) { return (u64)least(UA, UB); }
static u64 max_s(const u64 *v) { return (u64)most(A, B); }
static u64 max_u(const u64 *v) { return (u64)most(UA, UB); }
static u64 min_relu(const u64 *v) { return (u64)most(0, least(A, B)); }
static u64 max_relu(const u64 *v) { return (u64)most(0, most(A, B)); }
static u64 and (const u64 *v) { return v[0] & v[1]; }
static u64 or (const u64 *v) { return v[0] | v[1]; }
static u64 xor (const u64 *v) { return v[0] ^ v[1]; } static u64 not(const u64 *v) { return ~v[0]; }
static u64 cnot(const u64 *v) { return UA == 0; }
static u64 shl(const u64 *v) { return left(v[0], v[1], 32); }
static u64 shr_u(const u64 *v) { return right(UA, v[1]); }
static u64 shr_s(const u64 *v) { return right(A, v[1]); }
static u64 joined(const u64 *v) { return (u64)(UB << 32 | UA); }
static u64 shf_l_wrap(const u64 *v) { return joined(v) << (v[2] & 31) >> 32; }
static u64 shf_r_wrap(const u64 *v) { return joined(v) >> (v[2] & 31); }
static u64 shf_l_clamp(const u64 *v) { return (u64)((uwide)joined(v) << least(UC, 32) >> 32); }
static u64 shf_r_clamp(const u64 *v) { return joined(v) >> least(UC, 32); }
static u64 eq(const u64 *v) { return A == B; }
static u64 ne(const u64 *v) { return A != B; }
static u64 lt_s(const u64 *v) { return A < B; }
static u64 le_s(const u64 *v) { return A <= B; }
static u64 gt_s(const u64 *v) { return A > B; }
static u64 ge_s(const u64 *v) { return A >= B; }
static u64 lt_u(const u64 *v) { return UA < UB; }
static u64 le_u(const u64 *v) { return UA <= UB; }
static u64 gt_u(const u64 *v) { return UA > UB; }
static u64 ge_u(const u64 *v) { return UA >= UB; }
/* The predicate combined with is that of the row before it in the PTX: a >= b without sign. */
static u64 lt_and(const u64 *v) {
    return (A < B && UA >= UB ? 1 : 0) + (!(A < B) && UA >= UB ? 2 : 0);
}
static u64 set_u(const u64 *v) { return A < B ? 0xffffffff : 0; }
static u64 set_f(const u64 *v) { return A < B ? 0x3f800000 : 0; }
static u64 selp(const u64 *v) { return A < B ? v[0] : v[2]; }
static u64 slct(const u64 *v) { return C >= 0 ? v[0] : v[1]; }

static const emu_definition definitions32[] = {
    {"add.s32", add, 0},
    {"add.sat.s32", add_sat, 0},
    {"sub.s32", sub, 0},
    {"sub.sat.s32", sub_sat, 0},
    {"mul.lo.s32", mul, 0},
    {"mul.hi.s32", mul_hi_s, 0},
    {"mul.hi.u32", mul_hi_u, 0},
    {"mul.wide.s32", mul_wide_s, 0},
    {"mul.wide.u32", mul_wide_u, 0},
    {"mad.lo.s32", mad, 0},
    {"mad.hi.s32", mad_hi_s, 0},
    {"mad.hi.u32", mad_hi_u, 0},
    {"mad.hi.sat.s32", mad_hi_sat, 0},
    {"mad.wide.s32", mad_wide_s, 0},
    {"mad.wide.u32", mad_wide_u, 0},
    {"mul24.lo.s32", mul24_lo_s, 0},
    {"mul24.hi.s32", mul24_hi_s, 0},
    {"mul24.lo.u32", mul24_lo_u, 0},
    {"mul24.hi.u32", mul24_hi_u, 0},
    {"mad24.lo.s32", mad24, 0},
    {"mad24.hi.u32", mad24_hi, 0},
    {"sad.s32", sad_s, 0},
    {"sad.u32", sad_u, 0},
    {"div.s32", div_s, 0},
    {"div.u32", div_u, 0},
    {"rem.s32", rem_s, 0},
    {"rem.u32", rem_u, 0},
    {"abs.s32", abs_s, 0},
    {"neg.s32", neg_s, 0},
    {"min.s32", min_s, 0},
    {"min.u32", min_u, 0},
    {"max.s32", max_s, 0},
    {"max.u32", max_u, 0},
    {"max.relu.s32", max_relu, 0},
    {"min.relu.s32", min_relu, 0},
    {"and.b32", and, 0},
    {"or.b32", or, 0},
    {"xor.b32", xor, 0},
    {"not.b32", not, 0},
    {"cnot.b32", cnot, 0},
    {"shl.b32", shl, 0},
    {"shr.u32", shr_u, 0},
    {"shr.b32", shr_u, 0},
    {"shr.s32", shr_s, 0},
    {"shf.l.wrap.b32", shf_l_wrap, 0},
    {"shf.r.wrap.b32", shf_r_wrap, 0},
    {"shf.l.clamp.b32", shf_l_clamp, 0},
    {"shf.r.clamp.b32", shf_r_clamp, 0},
    {"setp.eq.s32", eq, 0},
    {"setp.ne.s32", ne, 0},
    {"setp.lt.s32", lt_s, 0},
    {"setp.le.s32", le_s, 0},
    {"setp.gt.s32", gt_s, 0},
    {"setp.ge.s32", ge_s, 0},
    {"setp.lt.u32", lt_u, 0},
    {"setp.le.u32", le_u, 0},
    {"setp.gt.u32", gt_u, 0},
    {"setp.ge.u32", ge_u, 0},
    {"setp.lo.u32", lt_u, 0},
    {"setp.hs.u32", ge_u, 0},
    {"setp.lt.and.s32", lt_and, 0},
    {"set.lt.u32.s32", set_u, 0},
    {"set.lt.f32.s32", set_f, 0},
    {"selp.b32", selp, 0},
    {"slct.b32.s32", slct, 0},
    {0},
};

#undef A
#undef B
#undef C
#undef UA
#undef UB
#undef UC

/* ---- 64 bits --------------------------------------------------------------------------------- */

#define A  s(v, 0, 64)
#define B  s(v, 1, 64)
#define UA u(v, 0, 64)
#define UB u(v, 1, 64)
#define UC u(v, 2, 64)

/* The upper half of an unsigned product, which 128 bits hold without sign only. */
static u64 high_u(const u64 *v) { return (u64)((uwide)v[0] * v[1] >> 64); }
static u64 high_s(const u64 *v) { return high(A * B, 64); }
static u64 mad_high_s(const u64 *v) { return high_s(v) + v[2]; }
static u64 mad_high_u(const u64 *v) { return high_u(v) + v[2]; }
static u64 sad64(const u64 *v) { return (u64)absolute(A - B) + v[2]; }
static u64 div_s64(const u64 *v) { return (u64)divided(A, B); }
static u64 div_u64(const u64 *v) { return (u64)divided(UA, UB); }
static u64 rem_s64(const u64 *v) { return (u64)remainder_of(A, B); }
static u64 rem_u64(const u64 *v) { return (u64)remainder_of(UA, UB); }
static u64 abs64(const u64 *v) { return (u64)absolute(A); }
static u64 neg64(const u64 *v) { return (u64)-A; }
static u64 min_s64(const u64 *v) { return (u64)least(A, B); }
static u64 min_u64(const u64 *v) { return (u64)least(UA, UB); }
static u64 max_s64(const u64 *v) { return (u64)most(A, B); }
static u64 max_u64(const u64 *v) { return (u64)most(UA, UB); }
static u64 cnot64(const u64 *v) { return v[0] == 0; }
static u64 shl64(const u64 *v) { return left(v[0], v[1], 64); }
static u64 shr_u64(const u64 *v) { return right(UA, v[1]); }
static u64 shr_s64(const u64 *v) { return right(A, v[1]); }
static u64 lt_s64(const u64 *v) { return A < B; }
static u64 lt_u64(const u64 *v) { return UA < UB; }
static u64 eq64(const u64 *v) { return A == B; }
/* Chains, in the order of the PTX: each uses the carry of the row before it. */
static u64 addc32(const u64 *v) {
    return 2 * v[2] + (u64)(u(v, 0, 32) + u(v, 1, 32) >= two_to(32));
}
static u64 subc32(const u64 *v) { return 0 - (u64)(u(v, 1, 32) > u(v, 0, 32)); }
static wide carry(const u64 *v) { return UA + UB >= two_to(64); }
static u64 addc64(const u64 *v) { return (u64)(UB + UC + carry(v)); }
static u64 addc_last(const u64 *v) { return v[0] + (u64)(UB + UC + carry(v) >= two_to(64)); }
static wide borrow(const u64 *v) { return UB > UA; }
static u64 subc64(const u64 *v) { return (u64)(UB - UC - borrow(v)); }
static u64 subc_last(const u64 *v) { return v[0] - (u64)(UB - UC - borrow(v) < 0); }
static u64 low_and_c32(const u64 *v) { return v[0] * v[1] + v[2]; }
static u64 high_and_carry32(const u64 *v) {
    wide product = u(v, 0, 32) * u(v, 1, 32), low = product & (two_to(32) - 1);
    return high(product, 32) + v[2] + (u64)(low + u(v, 2, 32) >= two_to(32));
}
static u64 first_carry(const u64 *v) { return v[0] * v[1] + v[2] < v[2]; }
static u64 high_and_carry(const u64 *v) { return high_u(v) + v[2] + first_carry(v); }
static u64 low_and_carry(const u64 *v) {
    uwide sum = (uwide)high_u(v) + v[2] + first_carry(v);
    return v[0] * v[1] + v[2] + (u64)(sum >> 64);
}
/* high + c, low + carry; the same in 64 bits, and once more high + carry */
static u64 high_c32(const u64 *v) { return high(u(v, 0, 32) * u(v, 1, 32), 32) + v[2]; }
static u64 low_carry32(const u64 *v) {
    wide sum = (wide)high(u(v, 0, 32) * u(v, 1, 32), 32) + u(v, 2, 32);
    return v[0] * v[1] + v[2] + (u64)(sum >= two_to(32));
}
static u64 high_c64(const u64 *v) { return high_u(v) + v[2]; }
static u64 carry_of_high(const u64 *v) { return high_u(v) + v[2] < v[2]; }
static u64 low_carry64(const u64 *v) { return v[0] * v[1] + v[2] + carry_of_high(v); }
static u64 high_last(const u64 *v) {
    uwide low = (uwide)(v[0] * v[1]) + v[2] + carry_of_high(v);
    return high_u(v) + v[2] + (u64)(low >> 64);
}

static const emu_definition definitions64[] = {
    {"add.s64", add, 0},
    {"sub.s64", sub, 0},
    {"mul.lo.s64", mul, 0},
    {"mul.hi.s64", high_s, 0},
    {"mul.hi.u64", high_u, 0},
    {"mad.lo.s64", mad, 0},
    {"mad.hi.s64", mad_high_s, 0},
    {"mad.hi.u64", mad_high_u, 0},
    {"sad.s64", sad64, 0},
    {"div.s64", div_s64, 0},
    {"div.u64", div_u64, 0},
    {"rem.s64", rem_s64, 0},
    {"rem.u64", rem_u64, 0},
    {"abs.s64", abs64, 0},
    {"neg.s64", neg64, 0},
    {"min.s64", min_s64, 0},
    {"min.u64", min_u64, 0},
    {"max.s64", max_s64, 0},
    {"max.u64", max_u64, 0},
    {"and.b64", and, 0},
    {"or.b64", or, 0},
    {"xor.b64", xor, 0},
    {"not.b64", not, 0},
    {"cnot.b64", cnot64, 0},
    {"shl.b64", shl64, 0},
    {"shr.u64", shr_u64, 0},
    {"shr.s64", shr_s64, 0},
    {"setp.lt.s64", lt_s64, 0},
    {"setp.lt.u64", lt_u64, 0},
    {"setp.eq.s64", eq64, 0},
    {"add.cc.u32", add, 0},
    {"addc.u32", addc32, 0},
    {"sub.cc.u32", sub, 0},
    {"subc.u32", subc32, 0},
    {"add.cc.u64", add, 0},
    {"addc.cc.u64", addc64, 0},
    {"addc.u64", addc_last, 0},
    {"sub.cc.u64", sub, 0},
    {"subc.cc.u64", subc64, 0},
    {"subc.u64", subc_last, 0},
    {"mad.lo.cc.u32", low_and_c32, 0},
    {"madc.hi.u32", high_and_carry32, 0},
    {"mad.lo.cc.u64", low_and_c32, 0},
    {"madc.hi.cc.u64", high_and_carry, 0},
    {"madc.lo.u64", low_and_carry, 0},
    {"mad.hi.cc.u32", high_c32, 0},
    {"madc.lo.u32", low_carry32, 0},
    {"mad.hi.cc.u64", high_c64, 0},
    {"madc.lo.cc.u64", low_carry64, 0},
    {"madc.hi.u64", high_last, 0},
    {0},
};

#undef A
#undef B
#undef UA
#undef UB
#undef UC

/* ---- 16 bits, extensions and saturation ------------------------------------------------------ */

#define A  s(v, 0, 16)
#define B  s(v, 1, 16)
#define UA u(v, 0, 16)
#define UB u(v, 1, 16)

static u64 mul_hi_s16(const u64 *v) { return high(A * B, 16); }
static u64 mul_hi_u16(const u64 *v) { return high(UA * UB, 16); }
static u64 mul_wide_s16(const u64 *v) { return (u64)(A * B); }
static u64 mul_wide_u16(const u64 *v) { return (u64)(UA * UB); }
static u64 mad_wide_u16(const u64 *v) { return (u64)(UA * UB) + v[2]; }
static u64 div_s16(const u64 *v) { return (u64)divided(A, B); }
static u64 div_u16(const u64 *v) { return (u64)divided(UA, UB); }
static u64 rem_s16(const u64 *v) { return (u64)remainder_of(A, B); }
static u64 rem_u16(const u64 *v) { return (u64)remainder_of(UA, UB); }
static u64 min_s16(const u64 *v) { return (u64)least(A, B); }
static u64 max_u16(const u64 *v) { return (u64)most(UA, UB); }
static u64 neg_s16(const u64 *v) { return (u64)-A; }
static u64 abs_s16(const u64 *v) { return (u64)absolute(A); }
static u64 shl16(const u64 *v) { return left(v[0], v[1], 16); }
static u64 shr_u16(const u64 *v) { return right(UA, v[1]); }
static u64 shr_s16(const u64 *v) { return right(A, v[1]); }
static u64 lt_s16(const u64 *v) { return A < B; }
static u64 lt_u16(const u64 *v) { return UA < UB; }
static u64 pair(u64 low, u64 upper) { return (low & 0xffff) | (upper & 0xffff) << 16; }
static u64 min_s16x2(const u64 *v) {
    u64 upper[2] = {v[0] >> 16, v[1] >> 16};
    return pair(min_s16(v), min_s16(upper));
}
static u64 max_u16x2(const u64 *v) {
    u64 upper[2] = {v[0] >> 16, v[1] >> 16};
    return pair(max_u16(v), max_u16(upper));
}
static u64 add_u16x2(const u64 *v) { return pair(v[0] + v[1], (v[0] >> 16) + (v[1] >> 16)); }
static u64 packed(const u64 *v) { return pair(v[1], v[0]); }
static u64 u16_of(const u64 *v) { return (u64)UA; }
static u64 s16_of(const u64 *v) { return (u64)A; }
static u64 u8_of(const u64 *v) { return (u64)u(v, 0, 8); }
static u64 s8_of(const u64 *v) { return (u64)s(v, 0, 8); }
static u64 s32_of(const u64 *v) { return (u64)s(v, 0, 32); }
static u64 u32_of(const u64 *v) { return (u64)u(v, 0, 32); }
static u64 s32_to_u8(const u64 *v) { return saturated(s(v, 0, 32), 8, 0); }
static u64 s32_to_s8(const u64 *v) { return saturated(s(v, 0, 32), 8, 1); }
static u64 u32_to_s8(const u64 *v) { return saturated(u(v, 0, 32), 8, 1); }
static u64 s32_to_u16(const u64 *v) { return saturated(s(v, 0, 32), 16, 0); }
static u64 s64_to_s16(const u64 *v) { return saturated(s(v, 0, 64), 16, 1); }
static u64 s64_to_u32(const u64 *v) { return saturated(s(v, 0, 64), 32, 0); }
static u64 u64_to_s32(const u64 *v) { return saturated(u(v, 0, 64), 32, 1); }
static u64 s64_to_u64(const u64 *v) { return (u64)most(0, s(v, 0, 64)); }
static u64 u64_to_s64(const u64 *v) { return (u64)least(u(v, 0, 64), INT64_MAX); }
/* The first source goes above the second. */
static u64 pack_s16(const u64 *v) {
    return pair(saturated(s(v, 1, 32), 16, 1), saturated(s(v, 0, 32), 16, 1));
}
static u64 pack_u16(const u64 *v) {
    return pair(saturated(s(v, 1, 32), 16, 0), saturated(s(v, 0, 32), 16, 0));
}
static u64 pack_u8(const u64 *v) {
    return saturated(s(v, 1, 32), 8, 0) | saturated(s(v, 0, 32), 8, 0) << 8 | v[2] << 16;
}
static u64 pack_s8(const u64 *v) {
    u64 low = saturated(s(v, 1, 32), 8, 1) & 255, upper = saturated(s(v, 0, 32), 8, 1) & 255;
    return low | upper << 8 | v[2] << 16;
}

static const emu_definition definitions16[] = {
    {"add.s16", add, 0},
    {"sub.s16", sub, 0},
    {"mul.lo.s16", mul, 0},
    {"mul.hi.s16", mul_hi_s16, 0},
    {"mul.hi.u16", mul_hi_u16, 0},
    {"mul.wide.s16", mul_wide_s16, 0},
    {"mul.wide.u16", mul_wide_u16, 0},
    {"mad.lo.s16", mad, 0},
    {"mad.wide.u16", mad_wide_u16, 0},
    {"div.s16", div_s16, 0},
    {"div.u16", div_u16, 0},
    {"rem.s16", rem_s16, 0},
    {"rem.u16", rem_u16, 0},
    {"min.s16", min_s16, 0},
    {"max.u16", max_u16, 0},
    {"neg.s16", neg_s16, 0},
    {"abs.s16", abs_s16, 0},
    {"not.b16", not, 0},
    {"shl.b16", shl16, 0},
    {"shr.u16", shr_u16, 0},
    {"shr.s16", shr_s16, 0},
    {"setp.lt.s16", lt_s16, 0},
    {"setp.lt.u16", lt_u16, 0},
    {"min.s16x2", min_s16x2, 0},
    {"max.u16x2", max_u16x2, 0},
    {"add.u16x2", add_u16x2, 0},
    {"mov.b32", packed, 0},
    {"cvt.u32.u16", u16_of, 0},
    {"cvt.s32.s16", s16_of, 0},
    {"cvt.u32.u8", u8_of, 0},
    {"cvt.s32.s8", s8_of, 0},
    {"cvt.s64.s32", s32_of, 0},
    {"cvt.u64.u32", u32_of, 0},
    {"cvt.u32.u64", u32_of, 0},
    {"cvt.u16.u32", u16_of, 0},
    {"cvt.s64.s8", s8_of, 0},
    {"cvt.s16.s8", s8_of, 0},
    {"cvt.sat.u8.s32", s32_to_u8, 0},
    {"cvt.sat.s8.s32", s32_to_s8, 0},
    {"cvt.sat.s8.u32", u32_to_s8, 0},
    {"cvt.sat.u16.s32", s32_to_u16, 0},
    {"cvt.sat.s16.s64", s64_to_s16, 0},
    {"cvt.sat.u32.s64", s64_to_u32, 0},
    {"cvt.sat.s32.u64", u64_to_s32, 0},
    {"cvt.sat.u64.s64", s64_to_u64, 0},
    {"cvt.sat.s64.u64", u64_to_s64, 0},
    {"cvt.pack.sat.s16.s32", pack_s16, 0},
    {"cvt.pack.sat.u16.s32", pack_u16, 0},
    {"cvt.pack.sat.u8.s32.b32", pack_u8, 0},
    {"cvt.pack.sat.s8.s32.b32", pack_s8, 0},
    {0},
};

/* ---- operands -------------------------------------------------------------------------------- */

static const u64 edges[] = {0,
                            1,
                            2,
                            31,
                            32,
                            33,
                            63,
                            64,
                            127,
                            128,
                            255,
                            256,
                            0x7fff,
                            0x8000,
                            0xffff,
                            0x7fffff,
                            0x800000,
                            0x7fffffff,
                            0x80000000,
                            0xffffffff,
                            0x100000000,
                            0x7fffffffffffffff,
                            0x8000000000000000,
                            0xffffffffffffffff,
                            0x123456789abcdef0};

static const emu_operands operands = {edges, sizeof edges / sizeof edges[0], 3, 2000, ~0ull};

static void test_integers32(void **state) {
    (void)state;
    emu_check_ops("integers32", &operands, definitions32);
}
static void test_integers64(void **state) {
    (void)state;
    emu_check_ops("integers64", &operands, definitions64);
}
static void test_integers16(void **state) {
    (void)state;
    emu_check_ops("integers16", &operands, definitions16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers32),
        cmocka_unit_test(test_integers64),
        cmocka_unit_test(test_integers16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
