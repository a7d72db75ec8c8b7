/* test_op_shape.c — cast, copy, concat, and the views reshape, transpose, slice. */
#include "tests/harness.h"

#include <string.h>

/* Moving elements rounds at most once: equal to the rounded f64 value. */
#define TOL_EXACT 0x1p-50

static qn_case_input tensor(int ndim, const int64_t *shape, bool strided) {
    qn_case_input in = {.present = true, .ndim = ndim, .strided = strided};
    memcpy(in.shape, shape, (size_t)ndim * sizeof *shape);
    return in;
}

static void copy_and_cast(void **state) {
    (void)state;
    static const int64_t sizes[] = {0, 1, 7, 33, 1023, 1025};
    static const qn_dtype targets[] = {QN_F32, QN_F64, QN_BF16, QN_F16};
    for (int i = 0; i < 6; i++) {
        int64_t shape[] = {3, sizes[i]};
        qn_case c = {.name = "copy", .op = &qn_op_copy, .tol_f32 = TOL_EXACT};
        c.tol_bf16 = TOL_EXACT;
        c.in[0] = tensor(2, shape, i % 2);
        qn_check_case(&c);
        for (int k = 0; k < 4; k++) {
            qn_cast_attrs to = {targets[k]};
            c.op = &qn_op_cast;
            c.attrs = &to;
            c.skip_grad = targets[k] != QN_F64; /* differences need f64 */
            c.tol_f32 = c.tol_bf16 =
                targets[k] == QN_F16 ? 0x1p-10 : TOL_EXACT; /* f64 to f16 goes by f32 */
            qn_check_case(&c);
        }
        c.skip_grad = false;
    }
}

static void integers_keep_64_bits(void **state) {
    (void)state;
    int64_t from[] = {INT64_C(9007199254740993), -5}, to[2] = {0};
    qn_tensor x = qn_tensor_make(from, QN_I64, QN_SHAPE(2)), y = x;
    y.data = to;
    qn_call c = {.op = &qn_op_copy, .in = {&x}, .out = {&y}, .threads = 1};
    qn_assert_ok(c.op->run[QN_REF](&c));
    assert_true(to[0] == from[0] && to[1] == from[1]);
}

static void concat(void **state) {
    (void)state;
    for (int axis = 0; axis < 3; axis++) {
        int64_t a[] = {3, 4, 5}, b[] = {3, 4, 5}, empty[] = {3, 4, 5};
        b[axis] = 7;
        empty[axis] = 0;
        qn_concat_attrs attrs = {axis, 3};
        qn_case c = {.name = "concat", .op = &qn_op_concat, .attrs = &attrs};
        c.tol_f32 = c.tol_bf16 = TOL_EXACT;
        c.in[0] = tensor(3, a, true);
        c.in[1] = tensor(3, empty, false);
        c.in[2] = tensor(3, b, false);
        qn_check_case(&c);
    }
    qn_tensor x = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 3)), y;
    qn_tensor z = qn_tensor_make(NULL, QN_F32, QN_SHAPE(3, 3));
    qn_concat_attrs attrs = {1, 2};
    qn_call c = {.op = &qn_op_concat, .attrs = &attrs, .in = {&x, &z}, .out = {&y}};
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), "concat along axis 1: x1 is f32[3,3], x0 is f32[2,3]");
}

/* ---- views, through a tape ------------------------------------------------------------------- */

static qn_tape *new_tape(void) {
    qn_tape *t;
    qn_tape_options o = {.name = "views", .threads = 1, .training = true};
    qn_assert_ok(qn_tape_create(&o, &t));
    return t;
}

static void replay(qn_tape *t, qn_program **p, qn_arena **pool) {
    qn_assert_ok(qn_program_create(t, p));
    qn_assert_ok(qn_arena_create("pool", qn_program_pool_bytes(*p), pool));
    qn_arena_poison(*pool);
    qn_assert_ok(qn_program_bind(*p, QN_CPU, *pool));
    qn_assert_ok(qn_program_replay(*p));
}

static void views_see_the_right_elements(void **state) {
    (void)state;
    double x[24];
    for (int i = 0; i < 24; i++) x[i] = i;
    qn_tensor desc = qn_tensor_make(x, QN_F64, QN_SHAPE(2, 3, 4));
    qn_tape *t = new_tape();
    qn_value *v = qn_tape_given(t, "x", QN_CLASS_INPUT, &desc, false);
    qn_value *r = qn_reshape(t, v, QN_SHAPE(6, -1));
    qn_value *s = qn_slice(t, qn_transpose(t, v, -1, 0), 1, 1, 2); /* (4, 2 of 3, 2) */
    qn_value *y = qn_tape_keep(t, qn_contiguous(t, s), "y");
    assert_ptr_equal(qn_contiguous(t, v), v);
    assert_ptr_equal(qn_cast(t, v, QN_F64), v);
    assert_int_equal(r->t.shape[1], 4);
    assert_true(qn_tensor_get(&r->t, 23) == 23.0);
    qn_program *p;
    qn_arena *pool;
    replay(t, &p, &pool);
    for (int64_t k = 0; k < 4; k++) {
        for (int64_t j = 0; j < 2; j++) {
            for (int64_t i = 0; i < 2; i++) {
                double got = qn_tensor_get(&y->t, (k * 2 + j) * 2 + i);
                assert_true(got == (double)(i * 12 + (j + 1) * 4 + k));
            }
        }
    }
    qn_program_free(p);
    qn_arena_free(pool);
}

/* loss = sum of squares of column 0 plus twice the sum of column 1, columns being views. */
static void views_pass_gradients(void **state) {
    (void)state;
    double x[] = {1, 2, 3, 4, 5, 6}, dx[6];
    qn_tensor desc = qn_tensor_make(x, QN_F64, QN_SHAPE(3, 2)), grad = desc;
    grad.data = dx;
    memset(dx, 0xFF, sizeof dx);
    qn_tape *t = new_tape();
    qn_value *v = qn_tape_given(t, "x", QN_CLASS_WEIGHT, &desc, true);
    qn_tape_set_grad(t, v, qn_tape_given(t, "dx", QN_CLASS_GRADIENT, &grad, false));
    qn_value *a = qn_reshape(t, qn_contiguous(t, qn_slice(t, v, 1, 0, 1)), QN_SHAPE(3));
    qn_value *b = qn_slice(t, qn_transpose(t, v, 0, 1), 0, 1, 1);
    qn_value *p = qn_reduce(t, qn_unary_op(t, a, QN_SQUARE), QN_SUM, QN_ALL_AXES, false);
    qn_value *q = qn_reduce(t, qn_scale(t, b, 2.0, 0.0), QN_SUM, QN_ALL_AXES, false);
    qn_value *loss = qn_tape_keep(t, qn_add(t, p, q), "loss");
    qn_assert_ok(qn_tape_backward(t, loss));
    qn_program *program;
    qn_arena *pool;
    replay(t, &program, &pool);
    assert_true(qn_tensor_get(&loss->t, 0) == 1 + 9 + 25 + 2 * (2 + 4 + 6));
    for (int i = 0; i < 6; i++) assert_true(dx[i] == (i % 2 ? 2.0 : 2.0 * x[i]));
    qn_program_free(program);
    qn_arena_free(pool);
}

static void expect_refusal(qn_value *(*record)(qn_tape *, qn_value *), const char *message) {
    qn_tensor desc = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 3));
    qn_tape *t = new_tape();
    qn_value *v = qn_tape_given(t, "x", QN_CLASS_INPUT, &desc, false);
    assert_null(record(t, v));
    assert_int_equal(qn_tape_status(t), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), message);
    qn_tape_free(t);
}

static qn_value *bad_count(qn_tape *t, qn_value *v) { return qn_reshape(t, v, QN_SHAPE(4)); }
static qn_value *bad_open(qn_tape *t, qn_value *v) { return qn_reshape(t, v, QN_SHAPE(-1, 4)); }
static qn_value *bad_strides(qn_tape *t, qn_value *v) {
    return qn_reshape(t, qn_transpose(t, v, 0, 1), QN_SHAPE(6));
}
static qn_value *bad_axis(qn_tape *t, qn_value *v) { return qn_transpose(t, v, 0, 2); }
static qn_value *bad_slice(qn_tape *t, qn_value *v) { return qn_slice(t, v, 1, 2, 2); }

static void refusals_say_what_they_found(void **state) {
    (void)state;
    expect_refusal(bad_count, "reshape: f32[2,3] has 6 elements and does not fit f32[4]");
    expect_refusal(bad_open, "reshape: f32[2,3] has 6 elements and does not fit f32[-1,4]");
    expect_refusal(bad_strides, "reshape: f32[3,2] is strided; qn_contiguous copies it");
    expect_refusal(bad_axis, "transpose: axes 0 and 2 of f32[2,3]");
    expect_refusal(bad_slice, "slice: 2 elements from 2 on axis 1 of f32[2,3]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copy_and_cast),
        cmocka_unit_test(integers_keep_64_bits),
        cmocka_unit_test(concat),
        cmocka_unit_test(views_see_the_right_elements),
        cmocka_unit_test(views_pass_gradients),
        cmocka_unit_test(refusals_say_what_they_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
