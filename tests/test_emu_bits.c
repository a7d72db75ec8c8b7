/* test_emu_bits.c — bit instructions of translated PTX, each defined bit by bit. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/harness_emu_ops.h"

typedef uint64_t u64;

static int bit(u64 x, int i) { return i >= 0 && i < 64 && (x >> i & 1) != 0; }

/* ---- counting -------------------------------------------------------------------------------- */

static u64 ones(u64 x, int bits) {
    u64 n = 0;
    for (int i = 0; i < bits; i++) n += (u64)bit(x, i);
    return n;
}
static int top(u64 x, int bits, int value) { /* highest bit that is `value`, -1 none */
    int i = bits - 1;
    while (i >= 0 && bit(x, i) != value) i--;
    return i;
}
static u64 reversed(u64 x, int bits) {
    u64 r = 0;
    for (int i = 0; i < bits; i++) r |= (u64)bit(x, i) << (bits - 1 - i);
    return r;
}
static u64 popc32(const u64 *v) { return ones(v[0], 32); }
static u64 popc64(const u64 *v) { return ones(v[0], 64); }
static u64 clz32(const u64 *v) { return (u64)(31 - top(v[0], 32, 1)); }
static u64 clz64(const u64 *v) { return (u64)(63 - top(v[0], 64, 1)); }
static u64 brev32(const u64 *v) { return reversed(v[0], 32); }
static u64 brev64(const u64 *v) { return reversed(v[0], 64); }
static u64 bfind_u32(const u64 *v) { return (u64)top(v[0], 32, 1); }
static u64 bfind_u64(const u64 *v) { return (u64)top(v[0], 64, 1); }
static u64 bfind_s32(const u64 *v) { return (u64)top(v[0], 32, !bit(v[0], 31)); }
static u64 bfind_s64(const u64 *v) { return (u64)top(v[0], 64, !bit(v[0], 63)); }
static u64 amount(u64 at) { return (uint32_t)at == UINT32_MAX ? at : 31 - at; }
static u64 shiftamt_u32(const u64 *v) { return amount(bfind_u32(v)); }
static u64 shiftamt_s32(const u64 *v) { return amount(bfind_s32(v)); }
/* The |offset|-th one from base on, downwards if offset is negative. */
static u64 fns(const u64 *v) {
    int64_t at = (int64_t)(v[1] & UINT32_MAX), offset = (int32_t)v[2], left = offset;
    if (offset == 0) return at < 32 && bit(v[0], (int)at) ? (u64)at : UINT32_MAX;
    if (left < 0) left = -left;
    for (; at >= 0 && at < 32; at += offset < 0 ? -1 : 1)
        if (bit(v[0], (int)at) && --left == 0) return (u64)at;
    return UINT32_MAX;
}

/* ---- fields ---------------------------------------------------------------------------------- */

/* As PTX writes it: bit i of the result is bit at + i, or the sign from where the field ends. */
static u64 extracted(u64 x, u64 at, u64 n, int bits, int is_signed) {
    at &= 255;
    n &= 255;
    u64 last = at + n - 1 < (u64)bits - 1 ? at + n - 1 : (u64)bits - 1, r = 0;
    int sign = is_signed && n ? bit(x, (int)last) : 0;
    for (int i = 0; i < bits; i++) {
        int inside = (u64)i < n && at + (u64)i < (u64)bits;
        r |= (u64)(inside ? bit(x, (int)at + i) : sign) << i;
    }
    return r;
}
static u64 bfe_u32(const u64 *v) { return extracted(v[0], v[1], v[2], 32, 0); }
static u64 bfe_s32(const u64 *v) { return extracted(v[0], v[1], v[2], 32, 1); }
static u64 bfe_u64(const u64 *v) { return extracted(v[0], v[1], v[2], 64, 0); }
static u64 bfe_s64(const u64 *v) { return extracted(v[0], v[1], v[2], 64, 1); }
static u64 inserted(u64 field, u64 x, u64 at, u64 n, int bits) {
    at &= 255;
    n &= 255;
    for (u64 i = 0; i < n && at + i < (u64)bits; i++)
        x = (x & ~(1ull << (at + i))) | (u64)bit(field, (int)i) << (at + i);
    return x;
}
static u64 bfi32(const u64 *v) { return inserted(v[3], v[0], v[1], v[2], 32); }
static u64 bfi64(const u64 *v) { return inserted(v[3], v[0], v[1], v[2], 64); }
static u64 mask(u64 at, u64 n) {
    u64 r = 0;
    for (u64 i = 0; i < n && at + i < 32; i++) r |= 1ull << (at + i);
    return r;
}
static u64 bmsk_clamp(const u64 *v) { return mask(v[1] & UINT32_MAX, v[2] & UINT32_MAX); }
static u64 bmsk_wrap(const u64 *v) { return mask(v[1] & 31, v[2] & 31); }
static u64 extended(u64 x, u64 n, int is_signed) {
    u64 r = 0;
    for (u64 i = 0; i < 32; i++)
        r |= (u64)(i < n ? bit(x, (int)i) : is_signed && n ? bit(x, (int)n - 1) : 0) << i;
    return r;
}
static u64 szext_clamp_u(const u64 *v) { return extended(v[0], v[1] & UINT32_MAX, 0); }
static u64 szext_clamp_s(const u64 *v) { return extended(v[0], v[1] & UINT32_MAX, 1); }
static u64 szext_wrap_u(const u64 *v) { return extended(v[0], v[1] & 31, 0); }
static u64 szext_wrap_s(const u64 *v) { return extended(v[0], v[1] & 31, 1); }

/* ---- bytes ----------------------------------------------------------------------------------- */

static u64 byte(const u64 *v, u64 i) { /* 0-3 of operand 0, 4-7 of operand 3 */
    return (i & 4 ? v[3] : v[0]) >> 8 * (i & 3) & 255;
}
static u64 chosen(const u64 *v, u64 i0, u64 i1, u64 i2, u64 i3) {
    return byte(v, i0) | byte(v, i1) << 8 | byte(v, i2) << 16 | byte(v, i3) << 24;
}
static u64 prmt(const u64 *v) {
    u64 r = 0;
    for (int i = 0; i < 4; i++) {
        u64 s = v[1] >> 4 * i & 15, x = byte(v, s & 7);
        if (s & 8) x = x >> 7 ? 255 : 0;
        r |= x << 8 * i;
    }
    return r;
}
/* The tables of the manual, most significant byte first there. */
static u64 prmt_f4e(const u64 *v) {
    u64 s = v[1] & 3;
    return chosen(v, s, s + 1, s + 2, s + 3);
}
static u64 prmt_b4e(const u64 *v) {
    static const u64 table[4][4] = {{0, 7, 6, 5}, {1, 0, 7, 6}, {2, 1, 0, 7}, {3, 2, 1, 0}};
    const u64 *t = table[v[1] & 3];
    return chosen(v, t[0], t[1], t[2], t[3]);
}
static u64 prmt_rc8(const u64 *v) { return byte(v, v[1] & 3) * 0x01010101; }
static u64 prmt_ecl(const u64 *v) {
    static const u64 table[4][4] = {{0, 1, 2, 3}, {1, 1, 2, 3}, {2, 2, 2, 3}, {3, 3, 3, 3}};
    const u64 *t = table[v[1] & 3];
    return chosen(v, t[0], t[1], t[2], t[3]);
}
static u64 prmt_ecr(const u64 *v) {
    static const u64 table[4][4] = {{0, 0, 0, 0}, {0, 1, 1, 1}, {0, 1, 2, 2}, {0, 1, 2, 3}};
    const u64 *t = table[v[1] & 3];
    return chosen(v, t[0], t[1], t[2], t[3]);
}
static u64 prmt_rc16(const u64 *v) {
    return v[1] & 1 ? chosen(v, 2, 3, 2, 3) : chosen(v, 0, 1, 0, 1);
}
static u64 xor3(const u64 *v) { return v[0] ^ v[1] ^ v[3]; }
/* Majority; the predicate above it is (result != 0) | !p, p being what the row before it left. */
static u64 majority(const u64 *v) {
    u64 r = ((v[0] & v[1]) | (v[0] & v[3]) | (v[1] & v[3])) & UINT32_MAX;
    return r ^ 0x80000000; /* no row before it sets p: !p holds */
}
static int64_t small(u64 x, int i, int bits, int is_signed) {
    u64 y = x >> bits * i & ((1ull << bits) - 1);
    return (int64_t)y - (is_signed && bit(y, bits - 1) ? (int64_t)1 << bits : 0);
}
static u64 dot4(const u64 *v, int signed_a, int signed_b) {
    int64_t sum = (int64_t)v[2];
    for (int i = 0; i < 4; i++) sum += small(v[0], i, 8, signed_a) * small(v[3], i, 8, signed_b);
    return (u64)sum;
}
static u64 dp4a_uu(const u64 *v) { return dot4(v, 0, 0); }
static u64 dp4a_ss(const u64 *v) { return dot4(v, 1, 1); }
static u64 dp4a_su(const u64 *v) { return dot4(v, 1, 0); }
static u64 dp2a_lo(const u64 *v) {
    return v[2] + (u64)(small(v[0], 0, 16, 1) * small(v[3], 0, 8, 1) +
                        small(v[0], 1, 16, 1) * small(v[3], 1, 8, 1));
}
static u64 dp2a_hi(const u64 *v) {
    return v[2] + (u64)(small(v[0], 0, 16, 0) * small(v[3], 2, 8, 1) +
                        small(v[0], 1, 16, 0) * small(v[3], 3, 8, 1));
}

static const emu_definition definitions[] = {
    {"popc.b32", popc32, 0},
    {"popc.b64", popc64, 0},
    {"clz.b32", clz32, 0},
    {"clz.b64", clz64, 0},
    {"brev.b32", brev32, 0},
    {"brev.b64", brev64, 0},
    {"bfind.u32", bfind_u32, 0},
    {"bfind.s32", bfind_s32, 0},
    {"bfind.u64", bfind_u64, 0},
    {"bfind.s64", bfind_s64, 0},
    {"bfind.shiftamt.u32", shiftamt_u32, 0},
    {"bfind.shiftamt.s32", shiftamt_s32, 0},
    {"bfe.u32", bfe_u32, 0},
    {"bfe.s32", bfe_s32, 0},
    {"bfe.u64", bfe_u64, 0},
    {"bfe.s64", bfe_s64, 0},
    {"bfi.b32", bfi32, 0},
    {"bfi.b64", bfi64, 0},
    {"bmsk.clamp.b32", bmsk_clamp, 0},
    {"bmsk.wrap.b32", bmsk_wrap, 0},
    {"szext.clamp.u32", szext_clamp_u, 0},
    {"szext.clamp.s32", szext_clamp_s, 0},
    {"szext.wrap.u32", szext_wrap_u, 0},
    {"szext.wrap.s32", szext_wrap_s, 0},
    {"prmt.b32", prmt, 0},
    {"prmt.b32.f4e", prmt_f4e, 0},
    {"prmt.b32.b4e", prmt_b4e, 0},
    {"prmt.b32.rc8", prmt_rc8, 0},
    {"prmt.b32.ecl", prmt_ecl, 0},
    {"prmt.b32.ecr", prmt_ecr, 0},
    {"prmt.b32.rc16", prmt_rc16, 0},
    {"lop3.b32", xor3, 0},
    {"lop3.or.b32", majority, 0},
    {"dp4a.u32.u32", dp4a_uu, 0},
    {"dp4a.s32.s32", dp4a_ss, 0},
    {"dp4a.s32.u32", dp4a_su, 0},
    {"dp2a.lo.s32.s32", dp2a_lo, 0},
    {"dp2a.hi.u32.s32", dp2a_hi, 0},
    {"fns.b32", fns, 0},
    {0},
};

static void test_bits(void **state) {
    static const u64 edges[] = {0,
                                1,
                                2,
                                7,
                                8,
                                24,
                                31,
                                32,
                                33,
                                63,
                                64,
                                65,
                                255,
                                256 + 4,
                                0x7fffffff,
                                0x80000000,
                                0xffffffff,
                                0x80fe01ff,
                                0x76543210,
                                0xfedcba98,
                                0x7fffffffffffffff,
                                0x8000000000000000,
                                0xffffffffffffffff,
                                0x0123456789abcdef};
    const emu_operands operands = {edges, sizeof edges / sizeof edges[0], 3, 4000, ~0ull};
    (void)state;
    emu_check_ops("bits", &operands, definitions);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
