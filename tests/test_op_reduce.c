/* test_op_reduce.c — sum, mean and maximum: every axis, odd sizes, precision, NaN, ties. */
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* f32: 64 additions in a lane, then pairs: below 2^-18 of 1 + |sum|. bf16: one unit in the last
 * place of the rounded result. */
#define TOL_F32  0x1p-18
#define TOL_BF16 0x1p-7

static void check(qn_reduction kind, int axis, bool keep, int ndim, const int64_t *shape,
                  bool strided) {
    qn_reduce_attrs attrs = {.kind = kind, .axis = axis, .keep = keep};
    qn_case c = {.name = "reduce", .op = &qn_op_reduce, .attrs = &attrs};
    c.tol_f32 = TOL_F32;
    c.tol_bf16 = TOL_BF16;
    c.in[0] = (qn_case_input){.present = true, .ndim = ndim, .strided = strided};
    memcpy(c.in[0].shape, shape, (size_t)ndim * sizeof *shape);
    qn_check_case(&c);
}

static void every_axis(void **state) {
    (void)state;
    int64_t cube[] = {3, 5, 7};
    for (int kind = 0; kind < QN_REDUCTION_COUNT; kind++) {
        for (int axis = -3; axis < 3; axis++)
            check((qn_reduction)kind, axis, axis < 0, 3, cube, false);
        check((qn_reduction)kind, QN_ALL_AXES, false, 3, cube, false);
        check((qn_reduction)kind, QN_ALL_AXES, true, 3, cube, true);
        check((qn_reduction)kind, 1, false, 3, cube, true);
        check((qn_reduction)kind, QN_ALL_AXES, false, 0, cube, false);
    }
}

static void odd_sizes(void **state) {
    (void)state;
    static const int64_t sizes[] = {0, 1, 7, 33, 127, 129, 4095, 4097};
    for (int i = 0; i < 8; i++) {
        check(QN_SUM, 0, false, 1, &sizes[i], false);
        check(QN_SUM, 0, false, 2, (int64_t[]){33, sizes[i]}, false);
        check(QN_SUM, 1, true, 2, (int64_t[]){3, sizes[i]}, false);
        if (sizes[i] > 0) check(QN_MEAN, 1, false, 2, (int64_t[]){3, sizes[i]}, false);
    }
    check(QN_SUM, 0, false, 2, (int64_t[]){0, 5}, false);
    check(QN_MAX, 1, false, 2, (int64_t[]){0, 5}, false);
}

static qn_status run(qn_device device, const qn_reduce_attrs *a, qn_tensor *x, qn_tensor *y) {
    qn_call c = {.op = &qn_op_reduce, .attrs = a, .in = {x}, .out = {y}, .threads = 1};
    void *data = y->data;
    QN_TRY(c.op->infer(&c));
    y->data = data;
    c.scratch = malloc(c.scratch_bytes + 1);
    assert_non_null(c.scratch);
    qn_status s = c.op->run[device](&c);
    free(c.scratch);
    return s;
}

/* A million equal numbers: naive f32 addition would be off by 1e-3. */
static void long_sums_stay_precise(void **state) {
    (void)state;
    int64_t n = 1000000;
    float *v = malloc((size_t)n * sizeof *v), total = 0;
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) v[i] = 0.1f;
    qn_reduce_attrs all = {.kind = QN_SUM, .axis = QN_ALL_AXES},
                    first = {.kind = QN_SUM, .axis = 0};
    qn_tensor x = qn_tensor_make(v, QN_F32, QN_SHAPE(n)), y = {.data = &total};
    qn_assert_ok(run(QN_CPU, &all, &x, &y));
    qn_assert_close((double)total, (double)0.1f * 1e6, 1e-6, "sum of a vector");
    float columns[2] = {0};
    qn_tensor pairs = qn_tensor_make(v, QN_F32, QN_SHAPE(n / 2, 2)), z = {.data = columns};
    qn_assert_ok(run(QN_CPU, &first, &pairs, &z));
    qn_assert_close((double)columns[1], (double)0.1f * 5e5, 1e-6, "sum of columns");
    free(v);
}

static void maximum_keeps_nan_and_empty_mean_is_nan(void **state) {
    (void)state;
    float v[] = {1.0f, NAN, 3.0f}, y = 0.0f;
    qn_reduce_attrs most = {.kind = QN_MAX, .axis = 0}, mean = {.kind = QN_MEAN, .axis = 0};
    qn_tensor x = qn_tensor_make(v, QN_F32, QN_SHAPE(3)), r = {.data = &y};
    for (int d = QN_REF; d <= QN_CPU; d++) {
        qn_assert_ok(run((qn_device)d, &most, &x, &r));
        assert_true(isnan(y));
    }
    qn_tensor none = qn_tensor_make(v, QN_F32, QN_SHAPE(0));
    for (int d = QN_REF; d <= QN_CPU; d++) {
        y = 0.0f;
        qn_assert_ok(run((qn_device)d, &mean, &none, &r));
        assert_true(isnan(y));
    }
    assert_int_equal(run(QN_REF, &most, &none, &r), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), "reduce: the maximum over no elements of f32[0]");
    qn_reduce_attrs off = {.kind = QN_SUM, .axis = 1};
    assert_int_equal(run(QN_REF, &off, &x, &r), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), "reduce: axis 1 of x, which is f32[3]");
}

static void ties_pass_the_gradient_to_the_first(void **state) {
    (void)state;
    double x[] = {2, 5, 5, 1, 7, 7}, dy[] = {10, 20}, dx[6];
    qn_reduce_attrs a = {.kind = QN_MAX, .axis = 1};
    qn_tensor tx = qn_tensor_make(x, QN_F64, QN_SHAPE(2, 3));
    qn_tensor tdy = qn_tensor_make(dy, QN_F64, QN_SHAPE(2)), tdx = tx;
    tdx.data = dx;
    qn_call c = {.op = &qn_op_reduce_bwd, .attrs = &a, .in = {&tdy, &tx}, .out = {&tdx}};
    qn_assert_ok(c.op->run[QN_REF](&c));
    static const double want[] = {0, 10, 0, 0, 20, 0};
    for (int i = 0; i < 6; i++) assert_true(dx[i] == want[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_axis),
        cmocka_unit_test(odd_sizes),
        cmocka_unit_test(long_sums_stay_precise),
        cmocka_unit_test(maximum_keeps_nan_and_empty_mean_is_nan),
        cmocka_unit_test(ties_pass_the_gradient_to_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
