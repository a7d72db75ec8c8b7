/* test_op_softmax.c — softmax over the last axis: sizes, extreme inputs, gradient. */
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* f32: exp to 1 ulp, a sum in lanes, a reciprocal. bf16: one unit in the last place. */
#define TOL_F32  0x1p-20
#define TOL_BF16 0x1p-7

static void sizes(void **state) {
    (void)state;
    static const int64_t widths[] = {1, 7, 33, 1023, 1025, 5000};
    for (int i = 0; i < 6; i++) {
        qn_case c = {.name = "softmax", .op = &qn_op_softmax, .tol_f32 = TOL_F32};
        c.tol_bf16 = TOL_BF16;
        c.in[0] = (qn_case_input){.present = true, .ndim = 3};
        c.in[0].shape[0] = 2;
        c.in[0].shape[1] = i == 1 ? 0 : i == 2 ? 33 : 3;
        c.in[0].shape[2] = widths[i];
        c.in[0].strided = i % 2;
        qn_check_case(&c);
        c.op = &qn_op_softmax_bwd;
        c.in[1] = c.in[0];
        c.tol_f32 = 0x1p-15; /* y does not sum to 1 here: the dot product reaches 70 */
        c.tol_bf16 = 0x1p-6;
        qn_check_case(&c);
    }
}

static void run(qn_device d, qn_tensor *x, qn_tensor *y) {
    qn_call c = {.op = &qn_op_softmax, .in = {x}, .out = {y}, .threads = 1};
    void *data = y->data;
    qn_assert_ok(c.op->infer(&c));
    y->data = data;
    c.scratch = malloc(c.scratch_bytes);
    assert_non_null(c.scratch);
    qn_assert_ok(c.op->run[d](&c));
    free(c.scratch);
}

static void extremes(void **state) {
    (void)state;
    float x[] = {1e30f,     1e30f,     -1e30f,    -INFINITY, 0.0f, -200.0f,
                 -INFINITY, -INFINITY, -INFINITY, 0.0f,      NAN,  0.0f},
          y[12];
    qn_tensor tx = qn_tensor_make(x, QN_F32, QN_SHAPE(4, 3)), ty = {.data = y};
    for (int d = QN_REF; d <= QN_CPU; d++) {
        run((qn_device)d, &tx, &ty);
        assert_true(y[0] == 0.5f && y[1] == 0.5f && y[2] == 0.0f);
        assert_true(y[3] == 0.0f && y[4] == 1.0f && y[5] == 0.0f);
        for (int i = 6; i < 12; i++) assert_true(isnan(y[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(extremes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
