/* test_op_activation.c — activations by name, values, gradients; SwiGLU on views of one tensor. */
#include "tests/harness.h"
#include "engine/vecmath.h"

#include <math.h>
#include <string.h>

/* f32: at most 3 ulp in the function, 3 roundings around it. bf16: one unit in the last place. */
#define TOL_F32  0x1p-20
#define TOL_BF16 0x1p-7

static qn_case_input vector(int64_t n) {
    return (qn_case_input){.present = true, .ndim = 1, .shape = {n}};
}

static void activations(void **state) {
    (void)state;
    static const int64_t sizes[] = {0, 1, 7, 33, 1023, 1025};
    for (int kind = 0; kind < QN_ACT_COUNT; kind++) {
        qn_activation_attrs attrs = {(qn_activation)kind};
        for (int i = 0; i < 6; i++) {
            qn_case c = {.name = "activation", .op = &qn_op_activation, .attrs = &attrs};
            c.tol_f32 = TOL_F32;
            c.tol_bf16 = TOL_BF16;
            c.in[0] = vector(sizes[i]);
            qn_check_case(&c);
            c.op = &qn_op_activation_bwd;
            c.in[1] = vector(sizes[i]);
            qn_check_case(&c);
        }
    }
}

/* The f32 forms over the whole useful range against the f64 forms. */
static void wide_range(void **state) {
    (void)state;
    enum { N = 20001 };
    for (int kind = 0; kind < QN_ACT_COUNT; kind++) {
        for (int i = 0; i < N; i++) {
            float x = (float)(i - N / 2) * 0.01f, one = 1.0f, y, dy;
            qn_act_row_f32((qn_activation)kind, 1, &x, &y);
            qn_act_grad_row_f32((qn_activation)kind, 1, &x, &one, &dy);
            qn_assert_close((double)y, qn_act_f64((qn_activation)kind, (double)x), TOL_F32,
                            "value");
            qn_assert_close((double)dy, qn_act_grad_f64((qn_activation)kind, (double)x), 0x1p-19,
                            "derivative");
        }
        float nan = NAN, y = 0.0f;
        qn_act_row_f32((qn_activation)kind, 1, &nan, &y);
        assert_true(isnan(y));
    }
}

static void names(void **state) {
    (void)state;
    static const char *const want[QN_ACT_COUNT] = {"none", "gelu",    "gelu_tanh", "relu",
                                                   "silu", "sigmoid", "tanh"};
    qn_activation a;
    for (int i = 0; i < QN_ACT_COUNT; i++) {
        assert_true(qn_activation_parse(want[i], &a));
        assert_int_equal(a, i);
    }
    assert_false(qn_activation_parse("GELU", &a));
    assert_false(qn_activation_parse("", &a));
}

static void swiglu(void **state) {
    (void)state;
    static const int64_t sizes[] = {0, 1, 7, 33, 1025};
    for (int i = 0; i < 5; i++) {
        qn_case c = {.name = "swiglu", .op = &qn_op_swiglu, .tol_f32 = TOL_F32};
        c.tol_bf16 = TOL_BF16;
        for (int k = 0; k < 2; k++) {
            c.in[k] = (qn_case_input){.present = true, .ndim = 2, .shape = {3, sizes[i]}};
            c.in[k].strided = true;
        }
        qn_check_case(&c);
        c.op = &qn_op_swiglu_bwd;
        c.in[2] = c.in[0];
        c.in[0].strided = false;
        for (c.want_out = 1; c.want_out <= 3; c.want_out++) qn_check_case(&c);
    }
}

/* gate and up as halves of one value: both gradients land in one storage. */
static void swiglu_of_halves(void **state) {
    (void)state;
    enum { ROWS = 3, C = 5 };
    float x[ROWS * 2 * C], dx[ROWS * 2 * C];
    for (int i = 0; i < ROWS * 2 * C; i++) x[i] = (float)qn_rng_normal(9, 0, (uint64_t)i);
    memset(dx, 0xFF, sizeof dx);
    qn_tensor desc = qn_tensor_make(x, QN_F32, QN_SHAPE(ROWS, 2 * C)), grad = desc;
    grad.data = dx;
    qn_tape *t;
    qn_program *p;
    qn_arena *pool;
    qn_tape_options o = {.name = "halves", .threads = 1, .training = true};
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_value *v = qn_tape_given(t, "x", QN_CLASS_WEIGHT, &desc, true);
    qn_tape_set_grad(t, v, qn_tape_given(t, "dx", QN_CLASS_GRADIENT, &grad, false));
    qn_value *y = qn_swiglu(t, qn_slice(t, v, 1, 0, C), qn_slice(t, v, 1, C, C));
    qn_assert_ok(qn_tape_backward(t, qn_reduce(t, y, QN_SUM, QN_ALL_AXES, false)));
    qn_assert_ok(qn_program_create(t, &p));
    qn_assert_ok(qn_arena_create("pool", qn_program_pool_bytes(p), &pool));
    qn_assert_ok(qn_program_bind(p, QN_CPU, pool));
    qn_assert_ok(qn_program_replay(p));
    for (int r = 0; r < ROWS; r++) {
        for (int j = 0; j < C; j++) {
            double g = (double)x[r * 2 * C + j], u = (double)x[r * 2 * C + C + j];
            qn_assert_close((double)dx[r * 2 * C + j], u * qn_act_grad_f64(QN_ACT_SILU, g), TOL_F32,
                            "dgate");
            qn_assert_close((double)dx[r * 2 * C + C + j], qn_act_f64(QN_ACT_SILU, g), TOL_F32,
                            "dup");
        }
    }
    qn_program_free(p);
    qn_arena_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations), cmocka_unit_test(wide_range),       cmocka_unit_test(names),
        cmocka_unit_test(swiglu),      cmocka_unit_test(swiglu_of_halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
