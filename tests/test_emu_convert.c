/* test_emu_convert.c — conversions of translated PTX: the exact number, rounded by search. */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness_emu_ops.h"

typedef uint64_t u64;
typedef __int128 wide;

/* ---- sources --------------------------------------------------------------------------------- */

static __float128 f32(const u64 *v, int i) { return emu_decode(&emu_f32, v[i] & UINT32_MAX); }
static __float128 f64(const u64 *v) {
    double d;
    memcpy(&d, &v[0], sizeof d);
    return (__float128)d;
}
static __float128 f16(u64 x) { return emu_decode(&emu_f16, x & 0xffff); }
static __float128 flushed(__float128 x) {
    if (x < 0) return x > -(__float128)FLT_MIN ? -(__float128)0.0 : x;
    return x > 0 && x < (__float128)FLT_MIN ? (__float128)0.0 : x;
}
static __float128 relu(__float128 x) { return x > 0 || x != x ? x : 0; }
static u64 pair(u64 low, u64 high) { return (low & 0xffff) | (high & 0xffff) << 16; }
static u64 pair8(u64 low, u64 high) { return (low & 0xff) | (high & 0xff) << 8; }
static u64 to(const emu_format *f, __float128 x, emu_direction d) {
    return emu_encode(f, x, 0, d, false);
}
static u64 saturated(const emu_format *f, __float128 x) {
    return emu_encode(f, x, 0, EMU_RN, true);
}

/* ---- to narrow formats ----------------------------------------------------------------------- */

#define A f32(v, 0)
#define B f32(v, 1)

static u64 f16_rn(const u64 *v) { return to(&emu_f16, A, EMU_RN); }
static u64 f16_rz(const u64 *v) { return emu_encode(&emu_f16, A, 0, EMU_RZ, A - A == 0); }
static u64 f16_rm(const u64 *v) { return emu_encode(&emu_f16, A, 0, EMU_RM, A > 0 && A - A == 0); }
static u64 f16_rp(const u64 *v) { return emu_encode(&emu_f16, A, 0, EMU_RP, A < 0 && A - A == 0); }
static u64 f16_sat(const u64 *v) {
    return A != A ? 0 : to(&emu_f16, A > 0 ? A < 1 ? A : 1 : 0, EMU_RN);
}
static u64 f16_relu(const u64 *v) { return to(&emu_f16, relu(A), EMU_RN); }
static u64 f16_of_f64(const u64 *v) { return to(&emu_f16, f64(v), EMU_RN); }
static u64 bf16_rn(const u64 *v) { return to(&emu_bf16, A, EMU_RN); }
static u64 bf16_rz(const u64 *v) { return emu_encode(&emu_bf16, A, 0, EMU_RZ, A - A == 0); }
static u64 bf16_relu(const u64 *v) { return to(&emu_bf16, relu(A), EMU_RN); }
static u64 bf16_of_f64(const u64 *v) { return to(&emu_bf16, f64(v), EMU_RN); }
static u64 bf16_of_f16(const u64 *v) { return to(&emu_bf16, f16(v[0]), EMU_RN); }
/* The first source goes to the upper half. */
static u64 f16x2_rn(const u64 *v) { return pair(f16_rn(v + 1), f16_rn(v)); }
static u64 f16x2_rz(const u64 *v) { return pair(f16_rz(v + 1), f16_rz(v)); }
static u64 bf16x2_rn(const u64 *v) { return pair(bf16_rn(v + 1), bf16_rn(v)); }
static u64 bf16x2_rz(const u64 *v) { return pair(bf16_rz(v + 1), bf16_rz(v)); }
static u64 bf16x2_relu(const u64 *v) { return pair(bf16_relu(v + 1), bf16_relu(v)); }
static u64 tf32(const u64 *v, emu_direction d) {
    u64 x = emu_encode(&emu_tf32, A, 0, d, d == EMU_RZ && A - A == 0);
    return A != A ? 0x7fffffff : x << 13;
}
static u64 tf32_rna(const u64 *v) { return tf32(v, EMU_RNA); }
static u64 tf32_rn(const u64 *v) { return tf32(v, EMU_RN); }
static u64 tf32_rz(const u64 *v) { return tf32(v, EMU_RZ); }
static u64 e4m3x2(const u64 *v) { return pair8(saturated(&emu_e4m3, B), saturated(&emu_e4m3, A)); }
static u64 e5m2x2(const u64 *v) { return pair8(saturated(&emu_e5m2, B), saturated(&emu_e5m2, A)); }
static u64 e4m3x2_relu(const u64 *v) {
    return pair8(saturated(&emu_e4m3, relu(B)), saturated(&emu_e4m3, relu(A)));
}
static u64 e4m3x2_of_f16x2(const u64 *v) {
    return pair8(saturated(&emu_e4m3, f16(v[0])), saturated(&emu_e4m3, f16(v[0] >> 16)));
}
static u64 e5m2x2_of_f16x2(const u64 *v) {
    return pair8(saturated(&emu_e5m2, f16(v[0])), saturated(&emu_e5m2, f16(v[0] >> 16)));
}
static u64 f16x2_of(const emu_format *f, u64 x) {
    return pair(to(&emu_f16, emu_decode(f, x & 255), EMU_RN),
                to(&emu_f16, emu_decode(f, x >> 8 & 255), EMU_RN));
}
static u64 f16x2_of_e4m3x2(const u64 *v) { return f16x2_of(&emu_e4m3, v[0]); }
static u64 f16x2_of_e5m2x2(const u64 *v) { return f16x2_of(&emu_e5m2, v[0]); }
static u64 f32_of_f16(const u64 *v) { return to(&emu_f32, f16(v[0]), EMU_RN); }
static u64 f32_of_bf16(const u64 *v) { return v[0] << 16; } /* NaN as it is */
static u64 f64_of_f16(const u64 *v) {
    /* a NaN of f16 is first the one NaN of f32 */
    return f16(v[0]) != f16(v[0]) ? 0x7fffffffe0000000 : to(&emu_f64, f16(v[0]), EMU_RN);
}
static u64 f16_whole(const u64 *v) {
    __float128 x = f16(v[0]);
    double whole = rint((double)x);
    return to(&emu_f16, whole == 0 ? (__float128)copysign(0.0, (double)x) : (__float128)whole,
              EMU_RN);
}

static const emu_definition narrow[] = {
    {"cvt.rn.f16.f32", f16_rn, 0},
    {"cvt.rz.f16.f32", f16_rz, 0},
    {"cvt.rm.f16.f32", f16_rm, 0},
    {"cvt.rp.f16.f32", f16_rp, 0},
    {"cvt.rn.sat.f16.f32", f16_sat, 0},
    {"cvt.rn.relu.f16.f32", f16_relu, 0},
    {"cvt.rn.f16.f64", f16_of_f64, 0},
    {"cvt.rn.bf16.f32", bf16_rn, 0},
    {"cvt.rz.bf16.f32", bf16_rz, 0},
    {"cvt.rn.relu.bf16.f32", bf16_relu, 0},
    {"cvt.rn.bf16.f64", bf16_of_f64, 0},
    {"cvt.rn.bf16.f16", bf16_of_f16, 0},
    {"cvt.rn.f16x2.f32", f16x2_rn, 0},
    {"cvt.rz.f16x2.f32", f16x2_rz, 0},
    {"cvt.rn.bf16x2.f32", bf16x2_rn, 0},
    {"cvt.rz.bf16x2.f32", bf16x2_rz, 0},
    {"cvt.rn.relu.bf16x2.f32", bf16x2_relu, 0},
    {"cvt.rna.tf32.f32", tf32_rna, 0},
    {"cvt.rn.tf32.f32", tf32_rn, 0},
    {"cvt.rz.tf32.f32", tf32_rz, 0},
    {"cvt.rn.satfinite.e4m3x2.f32", e4m3x2, 0},
    {"cvt.rn.satfinite.e5m2x2.f32", e5m2x2, 0},
    {"cvt.rn.satfinite.relu.e4m3x2.f32", e4m3x2_relu, 0},
    {"cvt.rn.satfinite.e4m3x2.f16x2", e4m3x2_of_f16x2, 0},
    {"cvt.rn.satfinite.e5m2x2.f16x2", e5m2x2_of_f16x2, 0},
    {"cvt.rn.f16x2.e4m3x2", f16x2_of_e4m3x2, 0},
    {"cvt.rn.f16x2.e5m2x2", f16x2_of_e5m2x2, 0},
    {"cvt.f32.f16", f32_of_f16, 0},
    {"cvt.f32.bf16", f32_of_bf16, 0},
    {"cvt.f64.f16", f64_of_f16, 0},
    {"cvt.rni.f16.f16", f16_whole, 0},
    {0},
};

/* ---- to f32 and f64 -------------------------------------------------------------------------- */

static u64 directed(const emu_format *f, __float128 x, emu_direction d) {
    bool back = d == EMU_RZ || (d == EMU_RM && x > 0) || (d == EMU_RP && x < 0);
    return emu_encode(f, x, 0, d, back && x - x == 0);
}
static u64 f32_of_f64(const u64 *v) { return to(&emu_f32, f64(v), EMU_RN); }
static u64 f32_of_f64_rz(const u64 *v) { return directed(&emu_f32, f64(v), EMU_RZ); }
static u64 f32_of_f64_rm(const u64 *v) { return directed(&emu_f32, f64(v), EMU_RM); }
static u64 f32_of_f64_rp(const u64 *v) { return directed(&emu_f32, f64(v), EMU_RP); }
static u64 f32_of_f64_ftz(const u64 *v) {
    u64 x = f32_of_f64(v);
    return x & 0x7f800000 ? x : x & 0x80000000;
}
static u64 f64_of_f32(const u64 *v) {
    float f;
    uint32_t u = (uint32_t)v[0];
    memcpy(&f, &u, sizeof f);
    double d = (double)f; /* exact; a NaN keeps its upper bits */
    u64 x;
    memcpy(&x, &d, sizeof x);
    return x;
}
static u64 whole32(const u64 *v, double (*round_it)(double), bool ftz) {
    __float128 x = ftz ? flushed(A) : A;
    double whole = round_it((double)x);
    if (x != x) return emu_f32.nan;
    if (whole == 0) return signbit((double)x) ? 0x80000000 : 0;
    return to(&emu_f32, (__float128)whole, EMU_RN);
}
static u64 rni_f32(const u64 *v) { return whole32(v, rint, false); }
static u64 rzi_f32(const u64 *v) { return whole32(v, trunc, false); }
static u64 rmi_f32(const u64 *v) { return whole32(v, floor, false); }
static u64 rpi_f32(const u64 *v) { return whole32(v, ceil, false); }
static u64 rmi_ftz_f32(const u64 *v) { return whole32(v, floor, true); }
static u64 sat_f32(const u64 *v) { return A != A || !(A > 0) ? 0 : A > 1 ? 0x3f800000 : v[0]; }
static u64 ftz_f32(const u64 *v) { return v[0] & 0x7f800000 ? v[0] : v[0] & 0x80000000; }
static u64 rzi_f64(const u64 *v) {
    double d;
    u64 x;
    memcpy(&d, &v[0], sizeof d);
    d = trunc(d);
    memcpy(&x, &d, sizeof x);
    return isnan(d) ? v[0] | 1ull << 51 : x; /* quiet, whatever the library does */
}
static __float128 s32(const u64 *v) { return (__float128)(int32_t)v[0]; }
static __float128 u32(const u64 *v) { return (__float128)(uint32_t)v[0]; }
static __float128 s64(const u64 *v) { return (__float128)(int64_t)v[0]; }
static __float128 u64_(const u64 *v) { return (__float128)v[0]; }
static u64 f32_of_s32(const u64 *v) { return to(&emu_f32, s32(v), EMU_RN); }
static u64 f32_of_s32_rz(const u64 *v) { return to(&emu_f32, s32(v), EMU_RZ); }
static u64 f32_of_s32_rm(const u64 *v) { return to(&emu_f32, s32(v), EMU_RM); }
static u64 f32_of_u32_rp(const u64 *v) { return to(&emu_f32, u32(v), EMU_RP); }
static u64 f32_of_u32(const u64 *v) { return to(&emu_f32, u32(v), EMU_RN); }
static u64 f32_of_s64(const u64 *v) { return to(&emu_f32, s64(v), EMU_RN); }
static u64 f32_of_u64_rz(const u64 *v) { return to(&emu_f32, u64_(v), EMU_RZ); }
static u64 f32_of_u64(const u64 *v) { return to(&emu_f32, u64_(v), EMU_RN); }
static u64 f32_of_s64_rp(const u64 *v) { return to(&emu_f32, s64(v), EMU_RP); }
static u64 f32_of_u16(const u64 *v) { return to(&emu_f32, (__float128)(uint16_t)v[0], EMU_RN); }
static u64 f32_of_s8(const u64 *v) { return to(&emu_f32, (__float128)(int8_t)v[0], EMU_RN); }
static u64 f64_of_s32(const u64 *v) { return to(&emu_f64, s32(v), EMU_RN); }
static u64 f64_of_u64(const u64 *v) { return to(&emu_f64, u64_(v), EMU_RN); }
static u64 f64_of_s64(const u64 *v) { return to(&emu_f64, s64(v), EMU_RN); }
static u64 f64_of_s64_rm(const u64 *v) { return to(&emu_f64, s64(v), EMU_RM); }
static u64 f16_of_s32(const u64 *v) { return to(&emu_f16, s32(v), EMU_RN); }
static u64 f16_of_u32_rz(const u64 *v) { return directed(&emu_f16, u32(v), EMU_RZ); }
static u64 f16_of_s16(const u64 *v) { return to(&emu_f16, (__float128)(int16_t)v[0], EMU_RN); }
static u64 bf16_of_s64(const u64 *v) { return to(&emu_bf16, s64(v), EMU_RN); }
static u64 bf16_of_u32(const u64 *v) { return to(&emu_bf16, u32(v), EMU_RN); }

static const emu_definition to_floats[] = {
    {"cvt.rn.f32.f64", f32_of_f64, 0},
    {"cvt.rz.f32.f64", f32_of_f64_rz, 0},
    {"cvt.rm.f32.f64", f32_of_f64_rm, 0},
    {"cvt.rp.f32.f64", f32_of_f64_rp, 0},
    {"cvt.rn.ftz.f32.f64", f32_of_f64_ftz, 0},
    {"cvt.f64.f32", f64_of_f32, 0},
    {"cvt.rni.f32.f32", rni_f32, 0},
    {"cvt.rzi.f32.f32", rzi_f32, 0},
    {"cvt.rmi.f32.f32", rmi_f32, 0},
    {"cvt.rpi.f32.f32", rpi_f32, 0},
    {"cvt.rmi.ftz.f32.f32", rmi_ftz_f32, 0},
    {"cvt.sat.f32.f32", sat_f32, 0},
    {"cvt.ftz.f32.f32", ftz_f32, 0},
    {"cvt.rzi.f64.f64", rzi_f64, 0},
    {"cvt.rn.f32.s32", f32_of_s32, 0},
    {"cvt.rz.f32.s32", f32_of_s32_rz, 0},
    {"cvt.rm.f32.s32", f32_of_s32_rm, 0},
    {"cvt.rp.f32.u32", f32_of_u32_rp, 0},
    {"cvt.rn.f32.u32", f32_of_u32, 0},
    {"cvt.rn.f32.s64", f32_of_s64, 0},
    {"cvt.rz.f32.u64", f32_of_u64_rz, 0},
    {"cvt.rn.f32.u64", f32_of_u64, 0},
    {"cvt.rp.f32.s64", f32_of_s64_rp, 0},
    {"cvt.rn.f32.u16", f32_of_u16, 0},
    {"cvt.rn.f32.s8", f32_of_s8, 0},
    {"cvt.rn.f64.s32", f64_of_s32, 0},
    {"cvt.rn.f64.u64", f64_of_u64, 0},
    {"cvt.rn.f64.s64", f64_of_s64, 0},
    {"cvt.rm.f64.s64", f64_of_s64_rm, 0},
    {"cvt.rn.f16.s32", f16_of_s32, 0},
    {"cvt.rz.f16.u32", f16_of_u32_rz, 0},
    {"cvt.rn.f16.s16", f16_of_s16, 0},
    {"cvt.rn.bf16.s64", bf16_of_s64, 0},
    {"cvt.rn.bf16.u32", bf16_of_u32, 0},
    {0},
};

/* ---- to integers: clamped; NaN is 0, or the least number where 64 bits take part ------------- */

static u64 integer(__float128 x, double (*round_it)(double), int bits, bool is_signed, u64 nan) {
    wide low = is_signed ? -((wide)1 << (bits - 1)) : 0;
    wide high = ((wide)1 << (is_signed ? bits - 1 : bits)) - 1;
    if (x != x) return nan;
    __float128 whole = (__float128)round_it((double)x); /* all sources are doubles */
    if (whole <= (__float128)low) return (u64)low;
    return (u64)(whole >= (__float128)high ? high : (wide)whole);
}
static u64 s32_rni(const u64 *v) { return integer(A, rint, 32, true, 0); }
static u64 s32_rzi(const u64 *v) { return integer(A, trunc, 32, true, 0); }
static u64 s32_rmi(const u64 *v) { return integer(A, floor, 32, true, 0); }
static u64 s32_rpi(const u64 *v) { return integer(A, ceil, 32, true, 0); }
static u64 u32_rzi(const u64 *v) { return integer(A, trunc, 32, false, 0); }
static u64 u32_rpi(const u64 *v) { return integer(A, ceil, 32, false, 0); }
static u64 s32_rzi_ftz(const u64 *v) { return integer(flushed(A), trunc, 32, true, 0); }
static u64 s32_rpi_ftz(const u64 *v) { return integer(flushed(A), ceil, 32, true, 0); }
static u64 s64_rzi(const u64 *v) { return integer(A, trunc, 64, true, 1ull << 63); }
static u64 u64_rzi(const u64 *v) { return integer(A, trunc, 64, false, 1ull << 63); }
static u64 s64_rni_f64(const u64 *v) { return integer(f64(v), rint, 64, true, 1ull << 63); }
static u64 u64_rzi_f64(const u64 *v) { return integer(f64(v), trunc, 64, false, 1ull << 63); }
static u64 s32_rzi_f64(const u64 *v) { return integer(f64(v), trunc, 32, true, 1ull << 31); }
static u64 u32_rmi_f64(const u64 *v) { return integer(f64(v), floor, 32, false, 1ull << 31); }
static u64 s16_rzi(const u64 *v) { return integer(A, trunc, 16, true, 0); }
static u64 u16_rzi(const u64 *v) { return integer(A, trunc, 16, false, 0); }
static u64 s8_rni(const u64 *v) { return integer(A, rint, 8, true, 0); }
static u64 u8_rzi(const u64 *v) { return integer(A, trunc, 8, false, 0); }
static u64 s32_rzi_f16(const u64 *v) { return integer(f16(v[0]), trunc, 32, true, 0); }
static u64 u16_rni_f16(const u64 *v) { return integer(f16(v[0]), rint, 16, false, 0); }
static u64 s64_rmi_f16(const u64 *v) { return integer(f16(v[0]), floor, 64, true, 1ull << 63); }

static const emu_definition to_integers[] = {
    {"cvt.rni.s32.f32", s32_rni, 0},         {"cvt.rzi.s32.f32", s32_rzi, 0},
    {"cvt.rmi.s32.f32", s32_rmi, 0},         {"cvt.rpi.s32.f32", s32_rpi, 0},
    {"cvt.rzi.u32.f32", u32_rzi, 0},         {"cvt.rpi.u32.f32", u32_rpi, 0},
    {"cvt.rzi.ftz.s32.f32", s32_rzi_ftz, 0}, {"cvt.rpi.ftz.s32.f32", s32_rpi_ftz, 0},
    {"cvt.rzi.s64.f32", s64_rzi, 0},         {"cvt.rzi.u64.f32", u64_rzi, 0},
    {"cvt.rni.s64.f64", s64_rni_f64, 0},     {"cvt.rzi.u64.f64", u64_rzi_f64, 0},
    {"cvt.rzi.s32.f64", s32_rzi_f64, 0},     {"cvt.rmi.u32.f64", u32_rmi_f64, 0},
    {"cvt.rzi.s16.f32", s16_rzi, 0},         {"cvt.rzi.u16.f32", u16_rzi, 0},
    {"cvt.rni.s8.f32", s8_rni, 0},           {"cvt.rzi.u8.f32", u8_rzi, 0},
    {"cvt.rzi.s32.f16", s32_rzi_f16, 0},     {"cvt.rni.u16.f16", u16_rni_f16, 0},
    {"cvt.rmi.s64.f16", s64_rmi_f16, 0},     {0},
};

/* ---- operands -------------------------------------------------------------------------------- */

/* Low words are f32 and halves, whole words f64 and integers. */
static const u64 edges[] = {
    0x0000000000000000, 0x8000000080000000, 0x3ff0000000000001, 0x800000007fffffff,
    0xbff00000807fffff, 0x3fe000003f000000, 0x3fe00000bf000000, 0x3ff800003fc00000,
    0xbff8000040200000, 0x400400003f800001, 0x7ff000007f800000, 0xfff00000ff800000,
    0x7ff800007fc00000, 0x7ff00001ff800001, 0x7fefffff7f7fffff, 0x47efffffff7fffff,
    0x47efffffe0000000, 0x47effffff0000000, 0x380fffff387fe000, 0x36a0000033000000,
    0x3690000033000001, 0x40effe00477fe000, 0x40efff00477ff000, 0x40efff01477fefff,
    0x43e0000000000000, 0xc3e000004f000000, 0x43efffffcf000000, 0x41dfffffcf000001,
    0x41e00000ffffffff, 0x7fffffffffffffff, 0x80000000000003ff, 0xffffffff43e00000,
    0x0000000043e80001, 0x0000000043e7ffff, 0x0020000000000001, 0x001fffffffffffff,
    0x0000000101000001, 0x0000000000ffffff, 0x3ff0000038d1b717, 0x000000003f808000,
    0x000000003f818000, 0x000000003f801000, 0x000000003f803000, 0x0000000000007bff,
    0x0000000000007c01, 0x000000000000fc00, 0x000000000000b800, 0x0000000000003e00,
    0x00000000c2ff0000, 0x00000000437f0000, 0x0000000047000000, 0x00000000c7000100};

static void check(const char *kernel, const emu_definition *definitions) {
    const emu_operands o = {edges, sizeof edges / sizeof edges[0], 2, 8000, ~0ull};
    emu_check_ops(kernel, &o, definitions);
}
static void test_narrow(void **state) {
    (void)state;
    check("narrow", narrow);
}
static void test_to_floats(void **state) {
    (void)state;
    check("to_floats", to_floats);
}
static void test_to_integers(void **state) {
    (void)state;
    check("to_integers", to_integers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_to_floats),
        cmocka_unit_test(test_to_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
