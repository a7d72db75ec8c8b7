/* test_op_pool_tokens.c — one row per sample: first, last, mean, with and without padding. */
#include "tests/harness.h"

#include <stdlib.h>

/* One product after sums in f64; bf16: one rounding at the store. */
#define TOL_F32  0x1p-22
#define TOL_BF16 0x1p-8

/* Every fifth document is negative: padding within and at the ends. */
static qn_case_input documents(int64_t samples, int64_t tokens, bool present) {
    return (qn_case_input){.present = present,
                           .integer = true,
                           .ndim = 2,
                           .shape = {samples, tokens},
                           .fill = QN_FILL_TARGETS,
                           .limit = 3};
}

static void sizes(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {2, 7, 33},  {3, 33, 7}, {0, 4, 5},  {2, 0, 3},
                                        {3, 5, 1}, {2, 9, 300}, {33, 6, 8}, {1, 40, 16}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int k = 0; k < 2 * QN_POOLING_COUNT; k++) {
            const int64_t *s = shapes[i];
            qn_pool_attrs attrs = {.kind = (qn_pooling)(k / 2), .tokens = s[1]};
            qn_case c = {.name = "pool_tokens", .op = &qn_op_pool_tokens, .attrs = &attrs};
            c.tol_f32 = TOL_F32;
            c.tol_bf16 = TOL_BF16;
            c.in[0] = (qn_case_input){.present = true, .ndim = 3, .shape = {s[0], s[1], s[2]}};
            c.in[0].strided = i % 2;
            c.in[1] = documents(s[0], s[1], k % 2);
            qn_check_case(&c);
            c.op = &qn_op_pool_tokens_bwd;
            c.in[0] = (qn_case_input){.present = true, .ndim = 2, .shape = {s[0], s[2]}};
            c.in[0].strided = i % 2;
            qn_check_case(&c);
        }
    }
}

static void run(qn_device d, qn_pooling kind, float *y) {
    float x[] = {1, 2, 3, 4, 5, 6, 7, 8};
    int32_t ids[] = {-1, 0, 0, -1, -1, -1, -1, -1};
    qn_pool_attrs attrs = {kind, 4};
    qn_tensor tx = qn_tensor_make(x, QN_F32, QN_SHAPE(2, 4, 1)), ty = {.data = y};
    qn_tensor td = qn_tensor_make(ids, QN_I32, QN_SHAPE(2, 4));
    qn_call c = {
        .op = &qn_op_pool_tokens, .in = {&tx, &td}, .out = {&ty}, .attrs = &attrs, .threads = 1};
    qn_assert_ok(c.op->infer(&c));
    ty.data = y;
    qn_assert_ok(c.op->run[d](&c));
}

static void padding_counts_nowhere(void **state) {
    (void)state;
    for (int d = QN_REF; d <= QN_CPU; d++) {
        static const float want[QN_POOLING_COUNT] = {2.0f, 3.0f, 2.5f};
        for (int kind = 0; kind < QN_POOLING_COUNT; kind++) {
            float y[2] = {-1, -1};
            run((qn_device)d, (qn_pooling)kind, y);
            assert_true(y[0] == want[kind]);
            assert_true(y[1] == 0.0f); /* a sample without tokens */
        }
    }
}

static qn_status infer(qn_tensor *x, qn_tensor *documents_of, int64_t tokens) {
    qn_pool_attrs attrs = {QN_POOL_MEAN, tokens};
    qn_tensor y;
    qn_call c = {.op = &qn_op_pool_tokens,
                 .in = {x, documents_of},
                 .out = {&y},
                 .attrs = &attrs,
                 .threads = 1};
    return c.op->infer(&c);
}

static void wrong_shapes_are_refused(void **state) {
    (void)state;
    qn_tensor x = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 4, 3));
    qn_tensor flat = qn_tensor_make(NULL, QN_F32, QN_SHAPE(8, 3));
    qn_tensor d = qn_tensor_make(NULL, QN_I32, QN_SHAPE(2, 5));
    qn_tensor real = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 4));
    qn_assert_ok(infer(&x, NULL, 4));
    assert_int_equal(infer(&x, NULL, 5), QN_ERR_SHAPE);
    assert_int_equal(infer(&flat, NULL, 4), QN_ERR_SHAPE);
    assert_int_equal(infer(&x, &d, 4), QN_ERR_SHAPE);
    assert_int_equal(infer(&x, &real, 4), QN_ERR_SHAPE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(padding_counts_nowhere),
        cmocka_unit_test(wrong_shapes_are_refused),
    };
    return cmocka_run_group_tests_name("op_pool_tokens", tests, NULL, NULL);
}
