/* test_op_linear.c — linear, its two gradient products and its gradient through the tape. */
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* f32: sums of up to 300 products whose sizes add up to about 200, half a unit in the last place of
 * that for each few terms. bf16: one unit in the last place of the rounded result. */
#define TOL_F32  0x1p-16
#define TOL_BF16 0x1p-7

static qn_case_input input(int ndim, int64_t a, int64_t b, int64_t c, bool strided) {
    return (qn_case_input){.present = true, .ndim = ndim, .shape = {a, b, c}, .strided = strided};
}

static qn_case forward_case(const char *name, int64_t n, int64_t k, int64_t m, bool strided,
                            const qn_linear_attrs *attrs) {
    qn_case c = {.name = name, .op = &qn_op_linear, .attrs = attrs};
    c.tol_f32 = TOL_F32;
    c.tol_bf16 = TOL_BF16;
    c.in[0] = input(2, n, k, 0, strided);
    c.in[1] = input(2, m, k, 0, strided);
    return c;
}

static void sizes(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1},    {7, 33, 1},  {33, 7, 65},  {0, 5, 3},
                                        {3, 0, 4},    {3, 5, 0},   {1, 300, 70}, {70, 33, 129},
                                        {129, 65, 1}, {300, 0, 4}, {300, 5, 0},  {256, 33, 65},
                                        {257, 1, 7}}; /* from 256 rows on, w is transposed first */
    static const qn_linear_attrs none = {QN_ACT_NONE};
    for (int i = 0; i < 13; i++) {
        qn_case c = forward_case("sizes", shapes[i][0], shapes[i][1], shapes[i][2], i % 2, &none);
        qn_check_case(&c);
        c.in[2] = input(1, shapes[i][2], 0, 0, false);
        c.in[3] = input(2, shapes[i][0], shapes[i][2], 0, i % 3 == 1);
        qn_check_case(&c);
    }
}

static void activations(void **state) {
    (void)state;
    for (int act = QN_ACT_NONE; act < QN_ACT_COUNT; act++) {
        qn_linear_attrs attrs = {(qn_activation)act};
        qn_case c = forward_case("activations", 5, 9, 35, false, &attrs);
        c.in[0] = input(3, 2, 3, 9, true);
        c.in[2] = input(1, 35, 0, 0, false);
        c.in[3] = input(3, 2, 3, 35, false);
        c.want_out = 2; /* pre */
        qn_check_case(&c);
        c.in[2].present = c.in[3].present = false;
        qn_check_case(&c);
    }
}

static void gradients(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {33, 7, 65}, {0, 5, 3},
                                        {3, 0, 4}, {70, 33, 9}, {130, 17, 1}};
    for (int i = 0; i < 6; i++) {
        int64_t n = shapes[i][0], k = shapes[i][1], m = shapes[i][2];
        qn_case c = {.name = "gradients", .op = &qn_op_linear_bwd_input};
        c.tol_f32 = TOL_F32;
        c.tol_bf16 = TOL_BF16;
        c.in[0] = input(2, n, m, 0, i % 2);
        c.in[1] = input(2, m, k, 0, i % 3 == 1);
        qn_check_case(&c);
        c.op = &qn_op_linear_bwd_weight;
        c.in[0] = input(2, n, k, 0, i % 2);
        c.in[1] = input(2, n, m, 0, i % 3 == 1);
        for (c.want_out = 1; c.want_out <= 3; c.want_out++) qn_check_case(&c);
    }
}

/* Several tiles with edges on both sides, where a plain REF pass would take long: against a sum
 * over a few chosen elements. */
static void tiles(void **state) {
    (void)state;
    static const qn_dtype dtypes[] = {QN_F32, QN_F64, QN_BF16};
    enum { N = 530, K = 300, M = 777 };
    for (int d = 0; d < 3; d++) {
        qn_dtype dt = dtypes[d];
        qn_tensor x = qn_tensor_make(NULL, dt, QN_SHAPE(N, K)), y[2] = {{0}, {0}};
        qn_tensor w = qn_tensor_make(NULL, dt, QN_SHAPE(M, K));
        uint64_t hash[2];
        x.data = malloc(qn_tensor_bytes(&x));
        w.data = malloc(qn_tensor_bytes(&w));
        assert_true(x.data && w.data);
        for (int64_t i = 0; i < N * K; i++) qn_tensor_set(&x, i, qn_rng_normal(1, 0, (uint64_t)i));
        for (int64_t i = 0; i < M * K; i++) qn_tensor_set(&w, i, qn_rng_normal(2, 0, (uint64_t)i));
        for (int threads = 1; threads <= 2; threads++) {
            static const qn_linear_attrs attrs = {QN_ACT_NONE};
            qn_tensor *out = &y[threads - 1];
            qn_call c = {.op = &qn_op_linear, .in = {&x, &w}, .out = {out}, .attrs = &attrs};
            c.threads = threads;
            qn_assert_ok(c.op->infer(&c));
            out->data = malloc(qn_tensor_bytes(out));
            assert_non_null(out->data);
            memset(out->data, 0xFF, qn_tensor_bytes(out));
            if (c.scratch_bytes) c.scratch = aligned_alloc(64, (c.scratch_bytes + 63) / 64 * 64);
            qn_assert_ok(c.op->prepare(&c));
            qn_assert_ok(c.op->run[QN_CPU](&c));
            c.op->release(&c);
            free(c.scratch);
            hash[threads - 1] = qn_hash_tensor(out);
        }
        assert_true(hash[0] == hash[1]);
        for (int64_t i = 0; i < N; i += 23) {
            for (int64_t j = i % 7; j < M; j += 7) {
                double want = 0, bound = dt == QN_F64 ? 1e-12 : dt == QN_F32 ? 1e-4 : 0.25;
                for (int64_t k = 0; k < K; k++) {
                    want += qn_tensor_get(&x, i * K + k) * qn_tensor_get(&w, j * K + k);
                }
                double got = qn_tensor_get(&y[1], i * M + j);
                if (!(fabs(got - want) <= bound)) { /* sums of size 17, some 80 */
                    fail_msg("%s y[%d,%d] is %g, expected %g", qn_dtype_name(dt), (int)i, (int)j,
                             got, want);
                }
            }
        }
        free(x.data);
        free(w.data);
        free(y[0].data);
        free(y[1].data);
    }
}

/* Weight gradients of bf16 go to f32 storage, and add to it. */
static void wide_gradient_storage(void **state) {
    (void)state;
    uint16_t x[6], dy[4];
    float dw[6] = {1, 2, 3, 4, 5, 6}, db[2] = {10, 20};
    for (int i = 0; i < 6; i++) x[i] = qn_f32_to_bf16((float)i - 2);
    for (int i = 0; i < 4; i++) dy[i] = qn_f32_to_bf16((float)i + 1);
    qn_tensor tx = qn_tensor_make(x, QN_BF16, QN_SHAPE(2, 3));
    qn_tensor tdy = qn_tensor_make(dy, QN_BF16, QN_SHAPE(2, 2));
    qn_tensor tdw = qn_tensor_make(dw, QN_F32, QN_SHAPE(2, 3));
    qn_tensor tdb = qn_tensor_make(db, QN_F32, QN_SHAPE(2));
    qn_tensor described[2] = {tdw, tdb};
    qn_call c = {.op = &qn_op_linear_bwd_weight, .in = {&tx, &tdy}, .threads = 1, .accumulate = 3};
    c.out[0] = &described[0];
    c.out[1] = &described[1];
    qn_assert_ok(c.op->infer(&c));
    c.out[0] = &tdw;
    c.out[1] = &tdb;
    c.scratch = c.scratch_bytes ? aligned_alloc(64, (c.scratch_bytes + 63) / 64 * 64) : NULL;
    qn_assert_ok(c.op->prepare(&c));
    qn_assert_ok(c.op->run[QN_CPU](&c));
    c.op->release(&c);
    free(c.scratch);
    /* dy^T x = [[1,3],[2,4]] [[-2,-1,0],[1,2,3]] */
    const float want[6] = {1 + 1, 2 + 5, 3 + 9, 4 + 0, 5 + 6, 6 + 12};
    for (int i = 0; i < 6; i++) qn_assert_close((double)dw[i], (double)want[i], 0, "dw");
    assert_true(db[0] == 14 && db[1] == 26);
}

static void expect_error(qn_call *c, qn_status status, const char *text) {
    qn_tensor out[2] = {{0}, {0}};
    c->threads = 1;
    c->out[0] = &out[0];
    assert_int_equal(c->op->infer(c), status);
    if (!strstr(qn_error_message(), text))
        fail_msg("\"%s\" lacks \"%s\"", qn_error_message(), text);
}

static void errors(void **state) {
    (void)state;
    static const qn_linear_attrs attrs = {QN_ACT_NONE};
    qn_tensor x = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 4));
    qn_tensor w = qn_tensor_make(NULL, QN_F32, QN_SHAPE(3, 5));
    qn_tensor fits = qn_tensor_make(NULL, QN_F32, QN_SHAPE(3, 4));
    qn_tensor b = qn_tensor_make(NULL, QN_F32, QN_SHAPE(4)), half = fits, flipped = x;
    half.dtype = QN_BF16;
    flipped.stride[0] = 1;
    flipped.stride[1] = 2;
    qn_call c = {.op = &qn_op_linear, .in = {&x, &w}, .attrs = &attrs};
    expect_error(&c, QN_ERR_SHAPE, "w is f32[3,5]");
    expect_error(&c, QN_ERR_SHAPE, "x ends in 4");
    c.in[1] = &half;
    expect_error(&c, QN_ERR_DTYPE, "bf16");
    c.in[1] = &fits;
    c.in[2] = &b;
    expect_error(&c, QN_ERR_SHAPE, "b is f32[4]");
    c.in[2] = NULL;
    c.in[3] = &x;
    expect_error(&c, QN_ERR_SHAPE, "residual is f32[2,4]");
    c.in[3] = NULL;
    c.in[0] = &flipped;
    expect_error(&c, QN_ERR_SHAPE, "contiguous");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),     cmocka_unit_test(activations),
        cmocka_unit_test(gradients), cmocka_unit_test(tiles),
        cmocka_unit_test(errors),    cmocka_unit_test(wide_gradient_storage),
    };
    return cmocka_run_group_tests_name("op_linear", tests, NULL, NULL);
}
