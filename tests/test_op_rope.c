/* test_op_rope.c — rotary embedding: values, inverse, positions, long ranges. */
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* f32: sine and cosine rounded once, two products and a sum. bf16: one unit in the last place. */
#define TOL_F32  0x1p-21
#define TOL_BF16 0x1p-7

static void sizes(void **state) {
    (void)state;
    static const int64_t steps[] = {0, 1, 7, 33, 63, 65}, widths[] = {0, 2, 6, 34, 64, 130};
    for (int i = 0; i < 6; i++) {
        for (int variant = 0; variant < 6; variant++) {
            qn_rope_attrs attrs = qn_rope_plain(10000.0, widths[i]);
            attrs.inverse = variant == 3;
            if (variant == 5) { /* a part of each head, scaled */
                attrs = qn_rope_plain(500.0, widths[i] / 4 * 2);
                attrs.scale = 1.138629436;
            }
            qn_case c = {.name = "rope", .op = &qn_op_rope, .attrs = &attrs, .tol_f32 = TOL_F32};
            c.tol_bf16 = TOL_BF16;
            c.skip_grad = i > 3; /* differences of every element: the short ones will do */
            c.in[0] = (qn_case_input){.present = true, .ndim = 4};
            c.in[0].shape[0] = 2;
            c.in[0].shape[1] = steps[i];
            c.in[0].shape[2] = 3;
            c.in[0].shape[3] = widths[i];
            c.in[0].strided = variant == 1;
            if (variant == 1) {
                c.in[1] = (qn_case_input){.present = true, .integer = true, .ndim = 2};
                c.in[1].shape[0] = 2;
                c.in[1].shape[1] = steps[i];
                c.in[1].fill = QN_FILL_IDS;
                c.in[1].limit = 100;
            }
            if (variant == 2) {
                c.in[2] = (qn_case_input){.present = true, .integer = true, .fill = QN_FILL_VALUE};
                c.in[2].value = 12345;
            }
            if (variant == 4) {
                c.in[2] = (qn_case_input){.present = true, .integer = true, .fill = QN_FILL_IDS};
                c.in[2].ndim = 1;
                c.in[2].shape[0] = 2;
                c.in[2].limit = 5000;
            }
            qn_check_case(&c);
        }
    }
}

/* Positions far into a long context: the advance by multiplication must not drift. */
static void long_context(void **state) {
    (void)state;
    enum { T = 5000, D = 8 };
    float *x = malloc(sizeof(float) * T * D), *y = malloc(sizeof(float) * T * D);
    assert_true(x && y);
    for (int i = 0; i < T * D; i++) x[i] = i % D < D / 2 ? 1.0f : 0.0f; /* (1, 0): y = (cos, sin) */
    qn_rope_attrs attrs = qn_rope_plain(500000.0, D);
    int32_t start = 100000;
    qn_tensor tx = qn_tensor_make(x, QN_F32, QN_SHAPE(1, T, 1, D)), ty = tx;
    qn_tensor ts = qn_tensor_make(&start, QN_I32, 0, NULL);
    ty.data = y;
    qn_call c = {.op = &qn_op_rope, .attrs = &attrs, .in = {&tx, NULL, &ts}, .out = {&ty}};
    c.threads = 1;
    qn_assert_ok(c.op->infer(&c));
    ty.data = y;
    c.scratch = malloc(c.scratch_bytes);
    assert_non_null(c.scratch);
    qn_assert_ok(c.op->run[QN_CPU](&c));
    for (int t = 0; t < T; t++) {
        for (int j = 0; j < D / 2; j++) {
            double angle = (t + 100000) * pow(500000.0, -2.0 * j / D);
            qn_assert_close((double)y[t * D + j], cos(angle), 0x1p-24, "cosine");
            qn_assert_close((double)y[t * D + D / 2 + j], sin(angle), 0x1p-24, "sine");
        }
    }
    free(c.scratch);
    free(x);
    free(y);
}

static void refuses(void **state) {
    (void)state;
    qn_rope_attrs attrs = qn_rope_plain(10000.0, 6);
    qn_tensor x = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 3, 4, 5)), y;
    qn_tensor p = qn_tensor_make(NULL, QN_I32, QN_SHAPE(2, 4));
    qn_call c = {.op = &qn_op_rope, .attrs = &attrs, .in = {&x}, .out = {&y}, .threads = 1};
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(),
                        "rope: x is f32[2,3,4,5], expected (B,T,H,D) with D at least 6");
    x.shape[3] = 6;
    c.in[1] = &p;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(),
                        "rope: positions are i32[2,4], x is f32[2,3,4,6]; expected i32 (B,T)");
    c.in[1] = NULL;
    attrs.frequency[2] = (double)NAN;
    assert_int_equal(c.op->infer(&c), QN_ERR_UNSUPPORTED);
    assert_non_null(strstr(qn_error_message(), "pair 2"));
    attrs = qn_rope_plain(10000.0, 2 * QN_ROPE_PAIRS + 2);
    assert_int_equal(c.op->infer(&c), QN_ERR_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(long_context),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
