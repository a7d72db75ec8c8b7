/* test_emu_half.c — f16 and bf16 instructions of translated PTX, in 113 bits and rounded by search.
 */
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/harness_emu_ops.h"

typedef uint64_t u64;
typedef u64 on_halves(const emu_format *f, const u64 *v);

static bool is_nan(const emu_format *f, u64 code) {
    __float128 x = emu_decode(f, code & 0xffff);
    return x != x;
}

/* ---- one half -------------------------------------------------------------------------------- */

#define A emu_decode(f, v[0] & 0xffff)
#define B emu_decode(f, v[1] & 0xffff)
#define C emu_decode(f, v[2] & 0xffff)

/* The sum of two numbers: where it does not fit 113 bits, what is left over decides ties. */
static u64 sum(const emu_format *f, __float128 a, __float128 b) {
    __float128 x = a + b, of_b = x - a, y = (a - (x - of_b)) + (b - of_b);
    return emu_encode(f, x, y == y ? y : 0, EMU_RN, false);
}
static u64 clamped(const emu_format *f, u64 code) { /* to [0, 1], NaN to 0 */
    __float128 x = emu_decode(f, code);
    if (!(x > 0)) return 0;
    return x > 1 ? emu_encode(f, 1, 0, EMU_RN, false) : code;
}
static u64 add(const emu_format *f, const u64 *v) { return sum(f, A, B); }
static u64 sub(const emu_format *f, const u64 *v) { return sum(f, A, -B); }
static u64 mul(const emu_format *f, const u64 *v) { return emu_encode(f, A * B, 0, EMU_RN, false); }
static u64 fused(const emu_format *f, const u64 *v) { return sum(f, A * B, C); }
static u64 add_sat(const emu_format *f, const u64 *v) { return clamped(f, add(f, v)); }
static u64 mul_sat(const emu_format *f, const u64 *v) { return clamped(f, mul(f, v)); }
static u64 fma_sat(const emu_format *f, const u64 *v) { return clamped(f, fused(f, v)); }
static u64 fma_relu(const emu_format *f, const u64 *v) {
    u64 x = fused(f, v);
    return x != f->nan && x & 0x8000 ? 0 : x;
}
static u64 neg(const emu_format *f, const u64 *v) { return (void)f, (v[0] & 0xffff) ^ 0x8000; }
static u64 magnitude(const emu_format *f, const u64 *v) { return (void)f, v[0] & 0x7fff; }
static u64 extreme(const emu_format *f, const u64 *v, bool larger, bool nan) {
    u64 a = v[0] & 0xffff, b = v[1] & 0xffff;
    bool a_nan = is_nan(f, a), b_nan = is_nan(f, b);
    if (a_nan && b_nan) return f->nan;
    if (a_nan || b_nan) return nan ? f->nan : a_nan ? b : a;
    if (A == B) return (a & 0x8000 ? true : false) == larger ? b : a; /* -0 lies below +0 */
    return (A > B) == larger ? a : b;
}
static u64 min(const emu_format *f, const u64 *v) { return extreme(f, v, false, false); }
static u64 max(const emu_format *f, const u64 *v) { return extreme(f, v, true, false); }
static u64 min_nan(const emu_format *f, const u64 *v) { return extreme(f, v, false, true); }
static u64 max_nan(const emu_format *f, const u64 *v) { return extreme(f, v, true, true); }
static u64 lt(const emu_format *f, const u64 *v) { return A < B; }
static u64 ge(const emu_format *f, const u64 *v) { return A >= B; }
static u64 neu(const emu_format *f, const u64 *v) { return A != B; }
static u64 eq_one(const emu_format *f, const u64 *v) {
    return A == B ? emu_encode(f, 1, 0, EMU_RN, false) : 0;
}
static u64 gtu_one(const emu_format *f, const u64 *v) {
    return A <= B ? 0 : emu_encode(f, 1, 0, EMU_RN, false);
}
static u64 ge_ones(const emu_format *f, const u64 *v) { return ge(f, v) ? 0xffff : 0; }
static u64 exponential(const emu_format *f, const u64 *v) {
    return emu_encode(f, (__float128)exp2((double)A), 0, EMU_RN, false);
}
static u64 tangent(const emu_format *f, const u64 *v) {
    return emu_encode(f, (__float128)tanh((double)A), 0, EMU_RN, false);
}

/* ---- of one half and of both ----------------------------------------------------------------- */

static u64 both(const emu_format *f, const u64 *v, on_halves *of) {
    u64 upper[4] = {v[0] >> 16, v[1] >> 16, v[2] >> 16, v[3] >> 16};
    return of(f, v) | of(f, upper) << 16;
}
static u64 both_bits(const emu_format *f, const u64 *v, on_halves *of) {
    u64 upper[4] = {v[0] >> 16, v[1] >> 16, v[2] >> 16, v[3] >> 16};
    return of(f, v) | of(f, upper) << 1;
}

static u64 add_f16(const u64 *v) { return add(&emu_f16, v); }
static u64 sub_f16(const u64 *v) { return sub(&emu_f16, v); }
static u64 mul_f16(const u64 *v) { return mul(&emu_f16, v); }
static u64 add_sat_f16(const u64 *v) { return add_sat(&emu_f16, v); }
static u64 mul_sat_f16(const u64 *v) { return mul_sat(&emu_f16, v); }
static u64 fma_sat_f16(const u64 *v) { return fma_sat(&emu_f16, v); }
static u64 fma_f16(const u64 *v) { return fused(&emu_f16, v); }
static u64 fma_relu_f16(const u64 *v) { return fma_relu(&emu_f16, v); }
static u64 neg_f16(const u64 *v) { return neg(&emu_f16, v); }
static u64 abs_f16(const u64 *v) { return magnitude(&emu_f16, v); }
static u64 min_f16(const u64 *v) { return min(&emu_f16, v); }
static u64 max_f16(const u64 *v) { return max(&emu_f16, v); }
static u64 min_nan_f16(const u64 *v) { return min_nan(&emu_f16, v); }
static u64 max_nan_f16(const u64 *v) { return max_nan(&emu_f16, v); }
static u64 lt_f16(const u64 *v) { return lt(&emu_f16, v); }
static u64 neu_f16(const u64 *v) { return neu(&emu_f16, v); }
static u64 eq_f16(const u64 *v) { return eq_one(&emu_f16, v); }

static u64 add_bf16(const u64 *v) { return add(&emu_bf16, v); }
static u64 sub_bf16(const u64 *v) { return sub(&emu_bf16, v); }
static u64 mul_bf16(const u64 *v) { return mul(&emu_bf16, v); }
static u64 fma_bf16(const u64 *v) { return fused(&emu_bf16, v); }
static u64 fma_relu_bf16(const u64 *v) { return fma_relu(&emu_bf16, v); }
static u64 neg_bf16(const u64 *v) { return neg(&emu_bf16, v); }
static u64 abs_bf16(const u64 *v) { return magnitude(&emu_bf16, v); }
static u64 min_bf16(const u64 *v) { return min(&emu_bf16, v); }
static u64 max_bf16(const u64 *v) { return max(&emu_bf16, v); }
static u64 min_nan_bf16(const u64 *v) { return min_nan(&emu_bf16, v); }
static u64 max_nan_bf16(const u64 *v) { return max_nan(&emu_bf16, v); }
static u64 lt_bf16(const u64 *v) { return lt(&emu_bf16, v); }
static u64 neu_bf16(const u64 *v) { return neu(&emu_bf16, v); }
static u64 eq_bf16(const u64 *v) { return eq_one(&emu_bf16, v); }

static u64 add_f16x2(const u64 *v) { return both(&emu_f16, v, add); }
static u64 sub_f16x2(const u64 *v) { return both(&emu_f16, v, sub); }
static u64 mul_f16x2(const u64 *v) { return both(&emu_f16, v, mul); }
static u64 add_sat_f16x2(const u64 *v) { return both(&emu_f16, v, add_sat); }
static u64 mul_sat_f16x2(const u64 *v) { return both(&emu_f16, v, mul_sat); }
static u64 fma_sat_f16x2(const u64 *v) { return both(&emu_f16, v, fma_sat); }
static u64 fma_f16x2(const u64 *v) { return both(&emu_f16, v, fused); }
static u64 fma_relu_f16x2(const u64 *v) { return both(&emu_f16, v, fma_relu); }
static u64 neg_x2(const u64 *v) { return both(&emu_f16, v, neg); }
static u64 abs_x2(const u64 *v) { return both(&emu_f16, v, magnitude); }
static u64 min_f16x2(const u64 *v) { return both(&emu_f16, v, min); }
static u64 max_f16x2(const u64 *v) { return both(&emu_f16, v, max); }
static u64 min_nan_f16x2(const u64 *v) { return both(&emu_f16, v, min_nan); }
static u64 max_nan_f16x2(const u64 *v) { return both(&emu_f16, v, max_nan); }
static u64 lt_f16x2(const u64 *v) { return both_bits(&emu_f16, v, lt); }
static u64 ge_f16x2(const u64 *v) { return both(&emu_f16, v, ge_ones); }
static u64 gtu_f16x2(const u64 *v) { return both(&emu_f16, v, gtu_one); }

static u64 add_bf16x2(const u64 *v) { return both(&emu_bf16, v, add); }
static u64 sub_bf16x2(const u64 *v) { return both(&emu_bf16, v, sub); }
static u64 mul_bf16x2(const u64 *v) { return both(&emu_bf16, v, mul); }
static u64 fma_bf16x2(const u64 *v) { return both(&emu_bf16, v, fused); }
static u64 fma_relu_bf16x2(const u64 *v) { return both(&emu_bf16, v, fma_relu); }
static u64 min_bf16x2(const u64 *v) { return both(&emu_bf16, v, min); }
static u64 max_bf16x2(const u64 *v) { return both(&emu_bf16, v, max); }
static u64 min_nan_bf16x2(const u64 *v) { return both(&emu_bf16, v, min_nan); }
static u64 max_nan_bf16x2(const u64 *v) { return both(&emu_bf16, v, max_nan); }
static u64 lt_bf16x2(const u64 *v) { return both_bits(&emu_bf16, v, lt); }
static u64 ge_bf16x2(const u64 *v) { return both(&emu_bf16, v, ge_ones); }
static u64 gtu_bf16x2(const u64 *v) { return both(&emu_bf16, v, gtu_one); }

static u64 ex2_f16(const u64 *v) { return exponential(&emu_f16, v); }
static u64 ex2_bf16(const u64 *v) { return exponential(&emu_bf16, v); }
static u64 tanh_f16(const u64 *v) { return tangent(&emu_f16, v); }
static u64 tanh_bf16(const u64 *v) { return tangent(&emu_bf16, v); }
static u64 ex2_f16x2(const u64 *v) { return both(&emu_f16, v, exponential); }
static u64 tanh_bf16x2(const u64 *v) { return both(&emu_bf16, v, tangent); }

static const emu_definition definitions[] = {
    {"add.f16", add_f16, 0},
    {"add.rn.f16", add_f16, 0},
    {"sub.f16", sub_f16, 0},
    {"mul.f16", mul_f16, 0},
    {"add.sat.f16", add_sat_f16, 0},
    {"mul.rn.sat.f16", mul_sat_f16, 0},
    {"fma.rn.sat.f16", fma_sat_f16, 0},
    {"fma.rn.f16", fma_f16, 0},
    {"fma.rn.relu.f16", fma_relu_f16, 0},
    {"neg.f16", neg_f16, 0},
    {"abs.f16", abs_f16, 0},
    {"min.f16", min_f16, 0},
    {"max.f16", max_f16, 0},
    {"min.NaN.f16", min_nan_f16, 0},
    {"max.NaN.f16", max_nan_f16, 0},
    {"setp.lt.f16", lt_f16, 0},
    {"setp.neu.f16", neu_f16, 0},
    {"set.eq.f16.f16", eq_f16, 0},
    {"add.bf16", add_bf16, 0},
    {"add.rn.bf16", add_bf16, 0},
    {"sub.bf16", sub_bf16, 0},
    {"mul.bf16", mul_bf16, 0},
    {"fma.rn.bf16", fma_bf16, 0},
    {"fma.rn.relu.bf16", fma_relu_bf16, 0},
    {"neg.bf16", neg_bf16, 0},
    {"abs.bf16", abs_bf16, 0},
    {"min.bf16", min_bf16, 0},
    {"max.bf16", max_bf16, 0},
    {"min.NaN.bf16", min_nan_bf16, 0},
    {"max.NaN.bf16", max_nan_bf16, 0},
    {"setp.lt.bf16", lt_bf16, 0},
    {"setp.neu.bf16", neu_bf16, 0},
    {"set.eq.bf16.bf16", eq_bf16, 0},
    {"add.f16x2", add_f16x2, 0},
    {"add.rn.f16x2", add_f16x2, 0},
    {"sub.f16x2", sub_f16x2, 0},
    {"mul.f16x2", mul_f16x2, 0},
    {"add.sat.f16x2", add_sat_f16x2, 0},
    {"mul.rn.sat.f16x2", mul_sat_f16x2, 0},
    {"fma.rn.sat.f16x2", fma_sat_f16x2, 0},
    {"fma.rn.f16x2", fma_f16x2, 0},
    {"fma.rn.relu.f16x2", fma_relu_f16x2, 0},
    {"neg.f16x2", neg_x2, 0},
    {"abs.f16x2", abs_x2, 0},
    {"min.f16x2", min_f16x2, 0},
    {"max.f16x2", max_f16x2, 0},
    {"min.NaN.f16x2", min_nan_f16x2, 0},
    {"max.NaN.f16x2", max_nan_f16x2, 0},
    {"setp.lt.f16x2", lt_f16x2, 0},
    {"set.ge.u32.f16x2", ge_f16x2, 0},
    {"set.gtu.f16x2.f16x2", gtu_f16x2, 0},
    {"add.bf16x2", add_bf16x2, 0},
    {"add.rn.bf16x2", add_bf16x2, 0},
    {"sub.bf16x2", sub_bf16x2, 0},
    {"mul.bf16x2", mul_bf16x2, 0},
    {"fma.rn.bf16x2", fma_bf16x2, 0},
    {"fma.rn.relu.bf16x2", fma_relu_bf16x2, 0},
    {"neg.bf16x2", neg_x2, 0},
    {"abs.bf16x2", abs_x2, 0},
    {"min.bf16x2", min_bf16x2, 0},
    {"max.bf16x2", max_bf16x2, 0},
    {"min.NaN.bf16x2", min_nan_bf16x2, 0},
    {"max.NaN.bf16x2", max_nan_bf16x2, 0},
    {"setp.lt.bf16x2", lt_bf16x2, 0},
    {"set.ge.u32.bf16x2", ge_bf16x2, 0},
    {"set.gtu.bf16x2.bf16x2", gtu_bf16x2, 0},
    {"ex2.approx.f16", ex2_f16, 0},
    {"ex2.approx.ftz.bf16", ex2_bf16, 0},
    {"tanh.approx.f16", tanh_f16, 0},
    {"tanh.approx.bf16", tanh_bf16, 0},
    {"ex2.approx.f16x2", ex2_f16x2, 0},
    {"tanh.approx.bf16x2", tanh_bf16x2, 0},
    {0},
};

/* ---- operands: each edge in the lower half, another in the upper ----------------------------- */

static const u64 edges[] = {0x00008000, 0x80000000, 0x00018001, 0x000103ff, 0x040083ff, 0x3c008400,
                            0x3c013c00, 0xbc003bff, 0x7bff3c01, 0xfbff7bff, 0x7c00fbff, 0xfc007c00,
                            0x7e00fc00, 0x7c017e00, 0x3f807c01, 0x3f813f80, 0x00803f81, 0x7f7f0080,
                            0xff7f7f7f, 0x7f80ff7f, 0xff807f80, 0x7fc0ff80, 0x7f817fc0, 0x33337f81,
                            0x1400b333, 0x38001400};

static void check(const char *kernel, int operands) {
    const emu_operands o = {edges, sizeof edges / sizeof edges[0], operands, 4000, UINT32_MAX};
    emu_check_ops(kernel, &o, definitions);
}
static void test_f16(void **state) {
    (void)state;
    check("halves_f16", 3);
}
static void test_bf16(void **state) {
    (void)state;
    check("halves_bf16", 3);
}
static void test_f16x2(void **state) {
    (void)state;
    check("halves_f16x2", 2);
}
static void test_bf16x2(void **state) {
    (void)state;
    check("halves_bf16x2", 2);
}
static void test_approx(void **state) {
    (void)state;
    check("halves_approx", 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16),    cmocka_unit_test(test_bf16),   cmocka_unit_test(test_f16x2),
        cmocka_unit_test(test_bf16x2), cmocka_unit_test(test_approx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
