/* test_op_elementwise.c — add, sub, mul, div with broadcasting, scale, unary functions, fill. */
#include "tests/harness.h"

#include <stdio.h>
#include <string.h>

/* f32: one rounding per operation (2^-24), a few ulp in exp and log. bf16: both sides are rounded,
 * so one unit in the last place (2^-7) may separate them. */
#define TOL_F32  0x1p-21
#define TOL_BF16 0x1p-7

static const int64_t no_axes = 0; /* the shape of a scalar */

static qn_case_input input(int ndim, const int64_t *shape, qn_fill_kind fill) {
    qn_case_input in = {.present = true, .ndim = ndim, .fill = fill};
    memcpy(in.shape, shape, (size_t)ndim * sizeof *shape);
    return in;
}

static void check_binary(int na, const int64_t *a, int nb, const int64_t *b, bool strided) {
    static const qn_op *const ops[] = {&qn_op_add, &qn_op_sub, &qn_op_mul, &qn_op_div};
    for (int i = 0; i < 4; i++) {
        qn_case c = {.name = "binary", .op = ops[i], .tol_f32 = TOL_F32, .tol_bf16 = TOL_BF16};
        c.in[0] = input(na, a, QN_FILL_NORMAL);
        c.in[1] = input(nb, b, QN_FILL_POSITIVE); /* divisors keep away from 0 */
        c.in[0].strided = strided;
        qn_check_case(&c);
    }
}

static void binary_equal_shapes(void **state) {
    (void)state;
    static const int64_t sizes[] = {0, 1, 7, 33, 1023, 1025};
    for (int i = 0; i < 6; i++) check_binary(1, &sizes[i], 1, &sizes[i], false);
    int64_t cube[] = {3, 4, 5};
    check_binary(3, cube, 3, cube, true);
    check_binary(0, cube, 0, cube, false);
}

static void binary_broadcast(void **state) {
    (void)state;
    check_binary(2, (int64_t[]){5, 7}, 1, (int64_t[]){7}, false);
    check_binary(3, (int64_t[]){2, 5, 7}, 1, (int64_t[]){7}, true);
    check_binary(2, (int64_t[]){5, 7}, 2, (int64_t[]){5, 1}, false);
    check_binary(2, (int64_t[]){5, 1}, 2, (int64_t[]){1, 7}, false);
    check_binary(2, (int64_t[]){5, 7}, 0, &no_axes, false);
    check_binary(0, &no_axes, 2, (int64_t[]){5, 7}, false);
    check_binary(1, (int64_t[]){7}, 3, (int64_t[]){2, 5, 7}, false);
    check_binary(3, (int64_t[]){4, 3, 6}, 3, (int64_t[]){4, 1, 6}, false);
    check_binary(4, (int64_t[]){2, 3, 4, 5}, 3, (int64_t[]){3, 1, 5}, false);
    check_binary(2, (int64_t[]){0, 7}, 1, (int64_t[]){7}, false);
}

static void binary_refuses(void **state) {
    (void)state;
    qn_tensor a = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 3));
    qn_tensor b = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 4)), y;
    qn_call c = {.op = &qn_op_mul, .in = {&a, &b}, .out = {&y}, .threads = 1};
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), "mul: f32[2,3] and f32[2,4] do not broadcast together");
    b.dtype = QN_F64;
    assert_int_equal(c.op->infer(&c), QN_ERR_DTYPE);
    assert_string_equal(qn_error_message(), "mul: b is f64, expected f32 as a");
    a.dtype = QN_I32;
    assert_int_equal(c.op->infer(&c), QN_ERR_DTYPE);
}

static void scale(void **state) {
    (void)state;
    static const qn_scale_attrs attrs = {-1.5, 0.25};
    static const int64_t sizes[] = {0, 1, 7, 33, 1025};
    for (int i = 0; i < 5; i++) {
        qn_case c = {.name = "scale", .op = &qn_op_scale, .attrs = &attrs, .tol_f32 = TOL_F32};
        c.tol_bf16 = TOL_BF16;
        c.in[0] = input(1, &sizes[i], QN_FILL_NORMAL);
        qn_check_case(&c);
    }
}

static void unary(void **state) {
    (void)state;
    for (int kind = 0; kind < QN_UNARY_COUNT; kind++) {
        for (int64_t size = 1; size <= 1025; size += 512) {
            qn_unary_attrs attrs = {(qn_unary)kind};
            bool positive = kind == QN_LOG || kind == QN_SQRT;
            qn_case c = {.name = "unary", .op = &qn_op_unary, .attrs = &attrs};
            c.tol_f32 = TOL_F32;
            c.tol_bf16 = TOL_BF16;
            c.in[0] = input(1, &size, positive ? QN_FILL_POSITIVE : QN_FILL_NORMAL);
            qn_check_case(&c);
            c.op = &qn_op_unary_bwd;
            c.in[1] = c.in[0];
            qn_check_case(&c);
        }
    }
}

static void fill_writes_any_storage(void **state) {
    (void)state;
    qn_tape *t;
    qn_program *p;
    qn_arena *pool;
    uint16_t strided[6] = {0};
    int32_t ints[5000];
    qn_tensor columns = {strided, QN_BF16, 2, {3, 1}, {2, 1}};
    qn_tensor whole = qn_tensor_make(ints, QN_I32, QN_SHAPE(5000));
    qn_tape_options o = {.name = "fill", .threads = 1};
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_assert_ok(qn_fill_into(t, qn_tape_given(t, "a", QN_CLASS_BUFFER, &columns, false), 1.5));
    qn_assert_ok(qn_fill_into(t, qn_tape_given(t, "b", QN_CLASS_BUFFER, &whole, false), -3.0));
    qn_value *y = qn_tape_keep(t, qn_fill(t, QN_F64, QN_SHAPE(2, 2), 0.1), "y");
    qn_assert_ok(qn_program_create(t, &p));
    qn_assert_ok(qn_arena_create("pool", qn_program_pool_bytes(p), &pool));
    qn_assert_ok(qn_program_bind(p, QN_CPU, pool));
    qn_assert_ok(qn_program_replay(p));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(strided[2 * i], qn_f32_to_bf16(1.5f));
        assert_int_equal(strided[2 * i + 1], 0);
    }
    for (int i = 0; i < 5000; i++) assert_int_equal(ints[i], -3);
    for (int i = 0; i < 4; i++) assert_true(qn_tensor_get(&y->t, i) == 0.1);
    qn_program_free(p);
    qn_arena_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binary_equal_shapes),
        cmocka_unit_test(binary_broadcast),
        cmocka_unit_test(binary_refuses),
        cmocka_unit_test(scale),
        cmocka_unit_test(unary),
        cmocka_unit_test(fill_writes_any_storage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
