/* test_op_matmul.c — the batched product: every operand order, layouts, accumulation, errors. */
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* f32: sums of up to 130 products whose sizes add up to about 100, half a unit in the last place of
 * that for each few terms. bf16: one unit in the last place. */
#define TOL_F32  0x1p-16
#define TOL_BF16 0x1p-7

static void orders(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {7, 33, 9},    {0, 3, 2}, {3, 0, 2},
                                        {3, 2, 0}, {65, 130, 33}, {1, 64, 5}};
    for (int i = 0; i < 7; i++) {
        for (int order = 0; order < 4; order++) {
            int64_t m = shapes[i][0], k = shapes[i][1], n = shapes[i][2];
            qn_matmul_attrs attrs = {order & 1, order & 2, i == 1 ? -0.5 : 1.0};
            qn_case c = {.name = "orders", .op = &qn_op_matmul, .attrs = &attrs};
            c.skip_grad = i == 5; /* long, and the others cover it */
            c.tol_f32 = TOL_F32;
            c.tol_bf16 = TOL_BF16;
            c.in[0] = (qn_case_input){.present = true, .ndim = 3, .strided = i % 2};
            c.in[1] = c.in[0];
            c.in[0].shape[0] = c.in[1].shape[0] = i % 3 + 1;
            c.in[0].shape[1] = attrs.transpose_a ? k : m;
            c.in[0].shape[2] = attrs.transpose_a ? m : k;
            c.in[1].shape[1] = attrs.transpose_b ? n : k;
            c.in[1].shape[2] = attrs.transpose_b ? k : n;
            qn_check_case(&c);
        }
    }
}

enum { B = 2, T = 5, H = 3, D = 4 };

/* scores = q k^T over heads that are views of (B,T,H,D) values, then the gradient into such views:
 * the same numbers as from contiguous copies. */
static void run_heads(bool copy, qn_dtype dt, double *y, double *dk) {
    int64_t shape[4] = {B, T, H, D};
    qn_tape *t;
    qn_program *p;
    qn_arena *pool;
    qn_tape_options o = {.name = "heads", .threads = 2};
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_tensor q = qn_tensor_make(NULL, dt, 4, shape), k = q, g = q;
    q.data = malloc(qn_tensor_bytes(&q));
    k.data = malloc(qn_tensor_bytes(&k));
    g.data = malloc(qn_tensor_bytes(&g));
    assert_true(q.data && k.data && g.data);
    for (int64_t i = 0; i < B * T * H * D; i++) {
        qn_tensor_set(&q, i, qn_rng_normal(1, 0, (uint64_t)i));
        qn_tensor_set(&k, i, qn_rng_normal(2, 0, (uint64_t)i));
    }
    qn_value *vk = qn_tape_given(t, "k", QN_CLASS_INPUT, &k, true);
    qn_tape_set_grad(t, vk, qn_tape_given(t, "dk", QN_CLASS_GRADIENT, &g, false));
    qn_value *a = qn_transpose(t, qn_tape_given(t, "q", QN_CLASS_INPUT, &q, false), 1, 2);
    qn_value *b = qn_transpose(t, qn_transpose(t, vk, 1, 2), 2, 3); /* (B,H,D,T) by columns */
    if (copy) {
        a = qn_contiguous(t, a);
        b = qn_contiguous(t, b);
    }
    qn_value *scores = qn_tape_keep(t, qn_matmul(t, a, b, false, false), "scores");
    qn_value *loss = qn_reduce(t, qn_mul(t, scores, scores), QN_SUM, QN_ALL_AXES, false);
    if (qn_tape_backward(t, loss) != QN_OK) fail_msg("%s", qn_error_message());
    qn_assert_ok(qn_program_create(t, &p));
    qn_assert_ok(qn_arena_create("test pool", qn_program_pool_bytes(p), &pool));
    qn_assert_ok(qn_program_bind(p, QN_CPU, pool));
    qn_arena_poison(pool);
    qn_assert_ok(qn_program_replay(p));
    for (int64_t i = 0; i < B * H * T * T; i++) y[i] = qn_tensor_get(&scores->t, i);
    for (int64_t i = 0; i < B * T * H * D; i++) dk[i] = qn_tensor_get(&g, i);
    qn_program_free(p);
    qn_arena_free(pool);
    free(q.data);
    free(k.data);
    free(g.data);
}

static void views(void **state) {
    (void)state;
    static double y[2][B * H * T * T], dk[2][B * T * H * D];
    static const double tol[] = {[QN_F32] = 1e-5, [QN_F64] = 1e-13, [QN_BF16] = 0.02};
    for (qn_dtype dt = QN_F32; dt <= QN_BF16; dt++) {
        run_heads(false, dt, y[0], dk[0]);
        run_heads(true, dt, y[1], dk[1]);
        for (int i = 0; i < B * H * T * T; i++) qn_assert_close(y[0][i], y[1][i], tol[dt], "y");
        for (int i = 0; i < B * T * H * D; i++) qn_assert_close(dk[0][i], dk[1][i], tol[dt], "dk");
    }
}

static void expect_error(const qn_tensor *a, const qn_tensor *b, qn_status status,
                         const char *text) {
    static const qn_matmul_attrs attrs = {false, false, 1.0};
    qn_tensor y = {0};
    qn_call c = {.op = &qn_op_matmul, .in = {a, b}, .out = {&y}, .attrs = &attrs, .threads = 1};
    assert_int_equal(c.op->infer(&c), status);
    if (!strstr(qn_error_message(), text))
        fail_msg("\"%s\" lacks \"%s\"", qn_error_message(), text);
}

static void errors(void **state) {
    (void)state;
    qn_tensor a = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 3, 4)), b = a, flat = a, wide = a;
    expect_error(&a, &b, QN_ERR_SHAPE, "inner sizes 4 and 3");
    b = qn_tensor_make(NULL, QN_F32, QN_SHAPE(3, 4, 3));
    expect_error(&a, &b, QN_ERR_SHAPE, "leading axes");
    flat = qn_tensor_make(NULL, QN_F32, QN_SHAPE(4));
    expect_error(&a, &flat, QN_ERR_SHAPE, "leading axes");
    b = qn_tensor_make(NULL, QN_F64, QN_SHAPE(2, 4, 3));
    expect_error(&a, &b, QN_ERR_DTYPE, "f64");
    b.dtype = QN_F32;
    wide.stride[1] = 8;
    wide.stride[2] = 2;
    expect_error(&wide, &b, QN_ERR_SHAPE, "contiguous");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(orders), cmocka_unit_test(views),
                                       cmocka_unit_test(errors)};
    return cmocka_run_group_tests_name("op_matmul", tests, NULL, NULL);
}
