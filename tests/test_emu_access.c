/* test_emu_access.c — loads, stores, spaces and atomics of translated PTX. What is read shows as a
 * value: the sign that an extension brings, the neighbour bytes that a narrow store leaves.
 */
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness_emu_ops.h"

typedef uint64_t u64;

/* ---- loads ----------------------------------------------------------------------------------- */

static u64 byte3(const u64 *v) { return v[0] >> 24 & 255; }
static u64 byte1(const u64 *v) { return (u64)(int8_t)(v[0] >> 8); }
static u64 byte0(const u64 *v) { return (u64)(int8_t)v[0]; }
static u64 half1(const u64 *v) { return v[0] >> 16; }
static u64 half2(const u64 *v) { return (u64)(int16_t)(v[0] >> 32); }
static u64 half3(const u64 *v) { return v[0] >> 48; }
static u64 word1(const u64 *v) { return v[0] >> 32; }
static u64 word7(const u64 *v) { return v[3] >> 32; }
static u64 second(const u64 *v) { return v[1]; }
static u64 third_low(const u64 *v) { return v[3] & UINT32_MAX; }
static u64 last(const u64 *v) { return v[3]; }
/* shared: {d, c, b, a}; then byte 5 = a, half 6 = b; then word 2 = c through a generic address */
static u64 high_pair(const u64 *v) { return (v[0] << 32) | (v[1] & UINT32_MAX); }
static u64 patched(const u64 *v) {
    return (v[3] & UINT32_MAX) | (v[2] & 255) << 32 | (v[0] & 255) << 40 | (v[1] & 0xffff) << 48;
}
static u64 patched_half(const u64 *v) { return (u64)(int16_t)v[1]; }
static u64 low_c(const u64 *v) { return v[2] & UINT32_MAX; }
/* local, at 16: {b, a}, then word 1 of b = d */
static u64 first(const u64 *v) { return v[0]; }
static u64 patched_local(const u64 *v) { return (v[1] & UINT32_MAX) | v[3] << 32; }
static u64 low_d(const u64 *v) { return v[3] & UINT32_MAX; }
static u64 yes(const u64 *v) { return (void)v, 1; }
static u64 no(const u64 *v) { return (void)v, 0; }
static u64 zero(const u64 *v) { return (void)v, 0; }
static u64 low_b(const u64 *v) { return v[1] & UINT32_MAX; }
static u64 selected(const u64 *v) { return v[0]; } /* the operands lie in global memory */

static const emu_definition loads[] = {
    {"ld.global.u8", byte3, 0},
    {"ld.global.s8", byte1, 0},
    {"ld.global.u16", half1, 0},
    {"ld.global.s16", half2, 0},
    {"ld.global.nc.L1::no_allocate.L2::128B.b64", second, 0},
    {"ld.global.cs.v4.u32", word7, 0},
    {"ld.global.v2.u16", half3, 0},
    {"ld.global.v2.f32", word1, 0},
    {"ld.volatile.global.u32", third_low, 0},
    {"ld.acquire.gpu.global.u64", last, 0},
    {"ld.relaxed.cta.global.s8", byte0, 0},
    {"ld.u32", word1, 0},
    {"ld.shared.v2.b64", high_pair, 0},
    {"ld.shared.b64", patched, 0},
    {"ld.shared.s16", patched_half, 0},
    {"ld.local.b64", first, 0},
    {"st.shared.s16", patched, 0},
    {"st.local.u32", patched_local, 0},
    {"cvta.local.u64", low_d, 0},
    {"st.u32", low_c, 0},
    {"isspacep.shared", yes, 0},
    {"isspacep.global", no, 0},
    {"isspacep.local", no, 0},
    {"selp.b32", selected, 0},
    {"cvta.to.shared.u64", zero, 0},
    {"st.release.gpu.global.u32", low_b, 0},
    {"mov.b128", second, 0},
    {0},
};

/* ---- atomics: 3 x what memory holds afterwards + what it held -------------------------------- */

static u64 told(u64 before, u64 after) { return 3 * after + before; }
static uint32_t a32(const u64 *v) { return (uint32_t)v[0]; }
static uint32_t b32(const u64 *v) { return (uint32_t)v[1]; }
static u64 min_s32(const u64 *v) {
    return told(v[0], (int32_t)a32(v) < (int32_t)b32(v) ? v[0] : v[1]);
}
static u64 max_s32(const u64 *v) {
    return told(v[0], (int32_t)a32(v) > (int32_t)b32(v) ? v[0] : v[1]);
}
static u64 add(const u64 *v) { return told(v[0], v[0] + v[1]); }
static u64 min_u32(const u64 *v) { return told(v[0], a32(v) < b32(v) ? v[0] : v[1]); }
static u64 max_u32(const u64 *v) { return told(v[0], a32(v) > b32(v) ? v[0] : v[1]); }
static u64 and (const u64 *v) { return told(v[0], v[0] & v[1]); }
static u64 or (const u64 *v) { return told(v[0], v[0] | v[1]); }
static u64 xor (const u64 *v) { return told(v[0], v[0] ^ v[1]); } static u64
    exchange(const u64 *v) {
    return told(v[0], v[1]);
}
static u64 increment(const u64 *v) { return told(v[0], a32(v) >= b32(v) ? 0 : v[0] + 1); }
static u64 decrement(const u64 *v) {
    return told(v[0], a32(v) == 0 || a32(v) > b32(v) ? v[1] : v[0] - 1);
}
static u64 swap32(const u64 *v) { return told(v[0], a32(v) == b32(v) ? v[2] : v[0]); }
static u64 red_max(const u64 *v) { return a32(v) > b32(v) ? a32(v) : b32(v); }

static float real(u64 x) {
    uint32_t u = (uint32_t)x;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static float flushed(float f) { return fpclassify(f) == FP_SUBNORMAL ? copysignf(0.0f, f) : f; }
static u64 raw(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return isnan(f) ? 0x7fffffff : u;
}
static u64 sum_shared(const u64 *v) { return raw(real(v[0]) + real(v[1])); }
static u64 sum_global(const u64 *v) {
    return raw(flushed(flushed(real(v[0])) + flushed(real(v[1]))));
}
static u64 half_sum(const emu_format *f, u64 a, u64 b) {
    /* the sum of two halves fits 113 bits, or its smaller part is below half a unit by far */
    __float128 x = emu_decode(f, a & 0xffff), y = emu_decode(f, b & 0xffff), s = x + y;
    __float128 of_y = s - x, rest = (x - (s - of_y)) + (y - of_y);
    return emu_encode(f, s, rest == rest ? rest : 0, EMU_RN, false);
}
static u64 sum_f16x2(const u64 *v) {
    return half_sum(&emu_f16, v[0], v[1]) | half_sum(&emu_f16, v[0] >> 16, v[1] >> 16) << 16;
}
static u64 sum_bf16x2(const u64 *v) {
    return half_sum(&emu_bf16, v[0], v[1]) | half_sum(&emu_bf16, v[0] >> 16, v[1] >> 16) << 16;
}
static u64 sum_f16(const u64 *v) {
    return (v[0] & 0xffff) | half_sum(&emu_f16, v[0] >> 16, v[1]) << 16;
}

static const emu_definition atomics32[] = {
    {"atom.shared.add.u32", add, 0},
    {"atom.shared.min.s32", min_s32, 0},
    {"atom.shared.min.u32", min_u32, 0},
    {"atom.shared.max.s32", max_s32, 0},
    {"atom.shared.max.u32", max_u32, 0},
    {"atom.shared.and.b32", and, 0},
    {"atom.shared.or.b32", or, 0},
    {"atom.shared.xor.b32", xor, 0},
    {"atom.shared.exch.b32", exchange, 0},
    {"atom.shared.inc.u32", increment, 0},
    {"atom.shared.dec.u32", decrement, 0},
    {"atom.shared.cas.b32", swap32, 0},
    {"atom.shared.add.f32", sum_shared, 0},
    {"atom.shared.add.noftz.f16x2", sum_f16x2, 0},
    {"atom.shared.add.noftz.bf16x2", sum_bf16x2, 0},
    {"atom.shared.add.noftz.f16", sum_f16, 0},
    {"red.global.add.f32", sum_global, 0},
    {"red.relaxed.cta.shared::cta.max.u32", red_max, 0},
    {0},
};

static u64 min_s64(const u64 *v) { return told(v[0], (int64_t)v[0] < (int64_t)v[1] ? v[0] : v[1]); }
static u64 max_u64(const u64 *v) { return told(v[0], v[0] > v[1] ? v[0] : v[1]); }
static u64 swap64(const u64 *v) { return told(v[0], v[0] == v[1] ? v[2] : v[0]); }
static u64 sum_f64(const u64 *v) {
    double a, b;
    u64 x;
    memcpy(&a, &v[0], sizeof a);
    memcpy(&b, &v[1], sizeof b);
    a += b;
    memcpy(&x, &a, sizeof x);
    return x;
}

static const emu_definition atomics64[] = {
    {"atom.shared.add.u64", add, 0},       {"atom.shared.min.s64", min_s64, 0},
    {"atom.shared.max.u64", max_u64, 0},   {"atom.shared.and.b64", and, 0},
    {"atom.shared.exch.b64", exchange, 0}, {"atom.shared.cas.b64", swap64, 0},
    {"atom.shared.add.f64", sum_f64, 0},   {0},
};

/* ---- operands -------------------------------------------------------------------------------- */

static const u64 edges[] = {0,
                            1,
                            0x7fffffff,
                            0x80000000,
                            0xffffffff,
                            0x3f8000003f800000,
                            0xbf800000bf800001,
                            0x0000000100000001,
                            0x807fffff807fffff,
                            0x7f8000007f800000,
                            0x7fc000017fc00001,
                            0x8899aabbccddeeff,
                            0x7fffffffffffffff,
                            0x8000000000000000};
static const emu_operands operands = {edges, sizeof edges / sizeof edges[0], 3, 2000, ~0ull};

static void test_loads(void **state) {
    (void)state;
    emu_check_ops("loads", &operands, loads);
}
static void test_atomics32(void **state) {
    (void)state;
    emu_check_ops("atomics32", &operands, atomics32);
}
static void test_atomics64(void **state) { /* of f64 no NaN: which of two comes out is not told */
    const emu_operands o = {edges, 9, 3, 2000, 0xbfffffffffffffff};
    (void)state;
    emu_check_ops("atomics64", &o, atomics64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_atomics32),
        cmocka_unit_test(test_atomics64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
