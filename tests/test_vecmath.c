/* test_vecmath.c — the float functions against f64 libm in units in the last place, and bf16 rows.
 *
 * The bounds in vecmath.h hold for all 2^32 floats; here every 4,099th is tried (a prime, so that
 * all exponents and low bits are met) and the special values one by one.
 */
#include "engine/vecmath.h"
#include "tests/harness.h"

enum { ROW = 4096, STRIDE = 4099 };

typedef void row_function(const float *x, float *y);

/* Rows, so that what is tested is the vector code that the bodies use. */
static void row_exp(const float *x, float *y) {
#pragma omp simd
    for (int i = 0; i < ROW; i++) y[i] = qn_expf_fast(x[i]);
}
static void row_log(const float *x, float *y) {
#pragma omp simd
    for (int i = 0; i < ROW; i++) y[i] = qn_logf_fast(x[i]);
}
static void row_tanh(const float *x, float *y) {
#pragma omp simd
    for (int i = 0; i < ROW; i++) y[i] = qn_tanhf_fast(x[i]);
}
static void row_sigmoid(const float *x, float *y) {
#pragma omp simd
    for (int i = 0; i < ROW; i++) y[i] = qn_sigmoidf_fast(x[i]);
}

static double sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }

static double ulps(float got, double want) {
    float rounded = (float)want;
    if (isnan(rounded)) return isnan(got) ? 0.0 : HUGE_VAL;
    if (isinf(rounded) || isinf(got)) return got == rounded ? 0.0 : HUGE_VAL;
    int exponent;
    frexp(want, &exponent);
    return fabs((double)got - want) / ldexp(1.0, exponent - 24 < -149 ? -149 : exponent - 24);
}

static void check_row(row_function *f, double (*want)(double), const float *x, double bound) {
    static _Thread_local float y[ROW];
    f(x, y);
    for (int i = 0; i < ROW; i++) {
        double e = ulps(y[i], want((double)x[i]));
        if (!(e <= bound)) {
            fail_msg("at %a: %a is %.3f ulp off %a, bound %.2f", (double)x[i], (double)y[i], e,
                     want((double)x[i]), bound);
        }
        assert_true(y[i] != 0.0f || signbit(y[i]) == signbit((float)want((double)x[i])));
    }
}

static void check(row_function *f, double (*want)(double), double bound) {
    static const uint32_t special[] = {
        0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7F800001,
        0x00000001, 0x80000001, 0x007FFFFF, 0x807FFFFF, 0x00800000, 0x80800000, 0x7F7FFFFF,
        0xFF7FFFFF, 0x3F800000, 0xBF800000, 0x42B17217, 0x42B17218, 0x42B17219, /* exp overflow */
        0xC2AEAC4F, 0xC2AEAC50, 0xC2CFF1B4, 0xC2CFF1B5, 0xC2CFF1B6, /* exp: subnormal, zero */
    };
    float x[ROW] = {0};
    int n = (int)(sizeof special / sizeof *special);
    for (int i = 0; i < n; i++) x[i] = qni_float_of_bits(special[i]);
    check_row(f, want, x, bound);
    for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += (uint64_t)STRIDE * ROW) {
        for (int i = 0; i < ROW; i++) {
            x[i] = qni_float_of_bits((uint32_t)(bits + (uint64_t)i * STRIDE));
        }
        check_row(f, want, x, bound);
    }
}

static void exp_error(void **state) {
    (void)state;
    check(row_exp, exp, 1.02);
}
static void log_error(void **state) {
    (void)state;
    check(row_log, log, 0.86);
}
static void tanh_error(void **state) {
    (void)state;
    check(row_tanh, tanh, 2.50);
}
static void sigmoid_error(void **state) {
    (void)state;
    check(row_sigmoid, sigmoid, 2.41);
}

/* `u` is 2^-24; bounds as vecmath.h states them. */
static void check_gelu(float x, float y, float dy) {
    const double u = 0x1p-24, root = sqrt(0.5), density = 1.0 / sqrt(2.0 * acos(-1.0));
    double t = (double)x, phi = 0.5 * erfc(-t * root), want = t * phi;
    double slope = phi + t * density * exp(-0.5 * t * t);
    double relative = t >= -1.0 ? 5.5 : 13.2;
    double e = fabs((double)y - want) / u, s = fabs((double)dy - slope) / u;
    if (!(e <= 2.9 * fabs(t) && (t < -5.0 || e <= relative * fabs(want)) && s <= 3.0)) {
        fail_msg("at %a: %a, expected %a; derivative %a, expected %a", t, (double)y, want,
                 (double)dy, slope);
    }
}

/* From 2^-120 on, so that the products with x do not become subnormal. */
static void gelu_error(void **state) {
    (void)state;
    static float x[ROW], y[ROW], dy[ROW], one[ROW];
    const uint64_t last = 0x7F800000;
    for (int i = 0; i < ROW; i++) one[i] = 1.0f;
    for (uint64_t bits = 0x03800000; bits < last; bits += (uint64_t)STRIDE * ROW) {
        for (int i = 0; i < ROW; i++) {
            uint64_t at = bits + (uint64_t)i * STRIDE;
            x[i] =
                qni_float_of_bits((uint32_t)(at < last ? at : last - 1) | (i & 1 ? 1u << 31 : 0));
        }
        qn_act_row_f32(QN_ACT_GELU, ROW, x, y);
        qn_act_grad_row_f32(QN_ACT_GELU, ROW, x, one, dy);
        for (int i = 0; i < ROW; i++) check_gelu(x[i], y[i], dy[i]);
    }
}

static void gelu_at_the_ends(void **state) {
    (void)state;
    float x[] = {INFINITY, -INFINITY, 0.0f, -0.0f, NAN}, one[] = {1, 1, 1, 1, 1}, y[5], dy[5];
    qn_act_row_f32(QN_ACT_GELU, 5, x, y);
    qn_act_grad_row_f32(QN_ACT_GELU, 5, x, one, dy);
    assert_true(isinf(y[0]) && y[0] > 0 && dy[0] == 1.0f);
    assert_true(fabsf(y[1]) < 2 * FLT_MIN && fabsf(dy[1]) < 0x1p-115f); /* the tail stops at 13.1 */
    assert_true(y[2] == 0.0f && !signbit(y[2]) && dy[2] == 0.5f);
    assert_true(y[3] == 0.0f && signbit(y[3]) && dy[3] == 0.5f);
    assert_true(isnan(y[4]) && isnan(dy[4]));
}

static void bf16_rows(void **state) {
    (void)state;
    float x[ROW], back[ROW];
    uint16_t h[ROW];
    for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += (uint64_t)STRIDE * ROW) {
        for (int i = 0; i < ROW; i++) {
            x[i] = qni_float_of_bits((uint32_t)(bits + (uint64_t)i * STRIDE));
        }
        qn_bf16_store_row(x, ROW, h);
        qn_bf16_load_row(h, ROW, back);
        for (int i = 0; i < ROW; i++) {
            assert_int_equal(h[i], qn_f32_to_bf16(x[i]));
            assert_int_equal(qni_float_bits(back[i]), (uint32_t)h[i] << 16);
        }
    }
}

static void rows_are_used_in_place_or_converted(void **state) {
    (void)state;
    float f[] = {1, 2, 3, 4}, buffer[4];
    uint16_t h[] = {0x3F80, 0x4000, 0x4040, 0x4080};
    assert_ptr_equal(qn_row_load(f, QN_F32, 1, 3, buffer), f + 1);
    assert_ptr_equal(qn_row_load(h, QN_BF16, 1, 3, buffer), buffer);
    assert_true(buffer[0] == 2.0f && buffer[2] == 4.0f);
    assert_ptr_equal(qn_row_open(f, QN_F32, 2, buffer), f + 2);
    assert_ptr_equal(qn_row_open(h, QN_BF16, 2, buffer), buffer);
    buffer[0] = -1.0f;
    qn_row_close(h, QN_BF16, 2, 1, buffer);
    assert_int_equal(h[2], 0xBF80);
    assert_int_equal(h[3], 0x4080);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_error),  cmocka_unit_test(log_error),
        cmocka_unit_test(tanh_error), cmocka_unit_test(sigmoid_error),
        cmocka_unit_test(gelu_error), cmocka_unit_test(gelu_at_the_ends),
        cmocka_unit_test(bf16_rows),  cmocka_unit_test(rows_are_used_in_place_or_converted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
