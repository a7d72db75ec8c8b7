/* test_op_lookup.c — embedding and its gradient: repeats, positions, bounds. */
#include "tests/harness.h"

#include <stdlib.h>
#include <string.h>

/* One addition, one rounding; the gradient adds in f64 and rounds once. */
#define TOL_F32  0x1p-23
#define TOL_BF16 0x1p-7

static qn_case_input table(int64_t rows, int64_t cols, bool strided) {
    return (qn_case_input){.present = true, .ndim = 2, .shape = {rows, cols}, .strided = strided};
}

static qn_case_input ids(int64_t b, int64_t t, int64_t limit) {
    return (qn_case_input){.present = true,
                           .integer = true,
                           .ndim = 2,
                           .shape = {b, t},
                           .fill = QN_FILL_IDS,
                           .limit = (double)limit};
}

static qn_case_input start_at(double v) {
    return (qn_case_input){.present = true, .integer = true, .fill = QN_FILL_VALUE, .value = v};
}

static void forward(void **state) {
    (void)state;
    static const int64_t shapes[][4] = {/* B, T, V, C */
                                        {1, 1, 1, 1}, {2, 7, 33, 5}, {3, 33, 7, 300},
                                        {0, 4, 5, 3}, {2, 0, 5, 3},  {2, 3, 5, 0}};
    for (int i = 0; i < 6; i++) {
        int64_t b = shapes[i][0], t = shapes[i][1], v = shapes[i][2], cols = shapes[i][3];
        qn_case c = {.name = "embedding", .op = &qn_op_embedding};
        c.tol_f32 = TOL_F32;
        c.tol_bf16 = TOL_BF16;
        c.in[0] = ids(b, t, v);
        c.in[1] = table(v, cols, i % 2);
        qn_check_case(&c);
        c.in[2] = table(t + 4, cols, i % 2);
        qn_check_case(&c);
        c.in[3] = start_at(3);
        qn_check_case(&c);
        c.in[3] = (qn_case_input){
            .present = true, .integer = true, .ndim = 1, .shape = {b}, .fill = QN_FILL_IDS};
        c.in[3].limit = 5;
        c.skip_grad = true; /* one start for all samples where it is differentiated */
        if (t > 0) qn_check_case(&c);
    }
}

static void backward(void **state) {
    (void)state;
    static const int64_t shapes[][4] = {{1, 1, 1, 1},      {2, 7, 33, 5}, {3, 33, 7, 300},
                                        {0, 4, 5, 3},      {2, 3, 5, 0},  {4, 65, 1000, 3},
                                        {1, 130, 70000, 1}};
    for (int i = 0; i < 7; i++) {
        int64_t b = shapes[i][0], t = shapes[i][1], v = shapes[i][2], cols = shapes[i][3];
        qn_case c = {.name = "embedding_bwd", .op = &qn_op_embedding_bwd, .want_out = 1};
        c.tol_f32 = TOL_F32;
        c.tol_bf16 = TOL_BF16;
        c.in[0] =
            (qn_case_input){.present = true, .ndim = 3, .shape = {b, t, cols}, .strided = i % 2};
        c.in[1] = ids(b, t, v);
        c.in[2] = table(v, cols, false);
        qn_check_case(&c);
        if (v > 1000) continue;
        c.in[3] = table(t + 4, cols, false);
        c.want_out = 3;
        qn_check_case(&c);
        c.in[4] = start_at(2);
        qn_check_case(&c);
    }
}

static qn_status run(int32_t id, int32_t first, bool positions) {
    static float tab[12], pos[6], y[8];
    int32_t which[4] = {0, 1, id, 1};
    qn_tensor i = qn_tensor_make(which, QN_I32, QN_SHAPE(2, 2));
    qn_tensor t = qn_tensor_make(tab, QN_F32, QN_SHAPE(6, 2));
    qn_tensor p = qn_tensor_make(pos, QN_F32, QN_SHAPE(3, 2));
    qn_tensor s = qn_tensor_make(&first, QN_I32, 0, NULL), out = {0};
    qn_call c = {.op = &qn_op_embedding, .in = {&i, &t}, .out = {&out}, .threads = 1};
    if (positions) {
        c.in[2] = &p;
        c.in[3] = &s;
    }
    qn_assert_ok(c.op->infer(&c));
    out.data = y;
    qn_status cpu = c.op->run[QN_CPU](&c);
    assert_int_equal(c.op->run[QN_REF](&c), cpu);
    return cpu;
}

static void bounds(void **state) {
    (void)state;
    assert_int_equal(run(5, 1, true), QN_OK);
    assert_int_equal(run(6, 0, false), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "position 2 is 6"));
    assert_int_equal(run(-1, 0, false), QN_ERR_DATA);
    assert_int_equal(run(0, 2, true), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "positions 2 to 3"));
    assert_int_equal(run(0, -1, true), QN_ERR_DATA);
}

static void shapes(void **state) {
    (void)state;
    qn_tensor i = qn_tensor_make(NULL, QN_I32, QN_SHAPE(2, 5)), out = {0};
    qn_tensor t = qn_tensor_make(NULL, QN_F32, QN_SHAPE(6, 2));
    qn_tensor p = qn_tensor_make(NULL, QN_F32, QN_SHAPE(4, 2));
    qn_call c = {.op = &qn_op_embedding, .in = {&i, &t, &p}, .out = {&out}, .threads = 1};
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE); /* four positions for five steps */
    assert_non_null(strstr(qn_error_message(), "positions is f32[4,2]"));
    i.dtype = QN_I64;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(forward), cmocka_unit_test(backward),
                                       cmocka_unit_test(bounds), cmocka_unit_test(shapes)};
    return cmocka_run_group_tests_name("op_lookup", tests, NULL, NULL);
}
