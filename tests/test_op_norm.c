/* test_op_norm.c — layer and RMS normalisation with and without residual, forward and backward. */
#include "tests/harness.h"

#include <math.h>
#include <string.h>

/* f32: two sums of up to 4097 terms in 16 lanes, then five roundings; parameter gradients add up to
 * 300 rows. bf16: h is rounded before the statistics, so y moves by up to two units in the last
 * place. */
#define TOL_F32  0x1p-18
#define TOL_BF16 0x1p-6

static const qn_norm_attrs eps = {1e-5};

static qn_case_input tensor(int ndim, const int64_t *shape, qn_fill_kind fill) {
    qn_case_input in = {.present = true, .ndim = ndim, .fill = fill};
    memcpy(in.shape, shape, (size_t)ndim * sizeof *shape);
    return in;
}

static void check_forward(bool rms, int64_t rows, int64_t width, bool residual, bool bias,
                          bool strided) {
    int64_t shape[] = {rows, width};
    qn_case c = {.name = "norm", .op = rms ? &qn_op_rmsnorm : &qn_op_layernorm, .attrs = &eps};
    c.tol_f32 = TOL_F32;
    c.tol_bf16 = TOL_BF16;
    c.in[0] = tensor(2, shape, QN_FILL_NORMAL);
    c.in[0].strided = strided;
    if (residual) c.in[1] = tensor(2, shape, QN_FILL_NORMAL);
    if (residual) c.far_share = 0.05; /* the sum is rounded before it is normalised */
    c.in[2] = tensor(1, &width, QN_FILL_POSITIVE);
    if (bias) c.in[3] = tensor(1, &width, QN_FILL_NORMAL);
    uint32_t h = residual ? 2 : 0;
    c.want_out = h | (rms ? 4 : 12);
    c.grad_out = 1 | h;
    qn_check_case(&c);
}

static void check_backward(bool rms, int64_t rows, int64_t width, bool dh) {
    int64_t shape[] = {rows, width};
    qn_case c = {.name = "norm gradient", .op = rms ? &qn_op_rmsnorm_bwd : &qn_op_layernorm_bwd};
    c.tol_f32 = TOL_F32;
    c.tol_bf16 = TOL_BF16;
    c.want_out = rms ? 3 : 7;
    c.in[0] = tensor(2, shape, QN_FILL_NORMAL);
    c.in[1] = tensor(2, shape, QN_FILL_NORMAL);
    c.in[2] = tensor(1, &width, QN_FILL_POSITIVE);
    qn_case_input statistic = tensor(1, &rows, QN_FILL_POSITIVE);
    statistic.fixed_dtype = 1 + QN_F32;
    c.in[3] = statistic;
    if (!rms) c.in[4] = statistic;
    if (dh) c.in[rms ? 4 : 5] = tensor(2, shape, QN_FILL_NORMAL);
    qn_check_case(&c);
}

static void sizes(void **state) {
    (void)state;
    static const int64_t widths[] = {1, 7, 33, 255, 257}, rows[] = {0, 1, 7, 33, 300};
    for (int rms = 0; rms < 2; rms++) {
        for (int i = 0; i < 5; i++) {
            check_forward(rms, 5, widths[i], i % 2, !rms && i != 2, i == 3);
            check_backward(rms, 5, widths[i], i % 2);
            check_forward(rms, rows[i], 9, i % 2 == 0, !rms, false);
            check_backward(rms, rows[i], 9, i % 2 == 0);
        }
        check_forward(rms, 3, 4097, true, !rms, false);
        check_forward(rms, 3, 0, false, !rms, false);
    }
}

/* Only one of x and residual wants a gradient, or only h was used. */
static void partial_gradients(void **state) {
    (void)state;
    int64_t shape[] = {3, 5}, width = 5;
    for (int which = 0; which < 6; which++) {
        bool rms = which >= 3;
        qn_case c = {.name = "norm", .op = rms ? &qn_op_rmsnorm : &qn_op_layernorm, .attrs = &eps};
        c.dtypes = QN_DTYPE_BIT(QN_F64);
        c.want_out = 2;
        c.grad_out = which % 3 == 2 ? 2 : 3;
        for (int k = 0; k < 2; k++) c.in[k] = tensor(2, shape, QN_FILL_NORMAL);
        c.in[2] = tensor(1, &width, QN_FILL_POSITIVE);
        c.in[0].no_grad = which % 3 == 0;
        c.in[1].no_grad = which % 3 == 1;
        c.in[2].no_grad = which % 3 == 2; /* only h is used: nothing reaches w */
        qn_check_case(&c);
    }
}

static void refuses(void **state) {
    (void)state;
    qn_tensor x = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 4)), y;
    qn_tensor w = qn_tensor_make(NULL, QN_F32, QN_SHAPE(3));
    qn_tensor r = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 3));
    qn_call c = {.op = &qn_op_layernorm, .attrs = &eps, .in = {&x, NULL, &w}, .out = {&y}};
    c.threads = 1;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), "layernorm: w is f32[3], x ends in 4");
    w.shape[0] = 4;
    c.in[1] = &r;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), "layernorm: residual is f32[2,3], x is f32[2,4]");
    r.shape[1] = 4;
    assert_int_equal(c.op->infer(&c), QN_ERR_UNSUPPORTED);
    w.dtype = QN_BF16;
    assert_int_equal(c.op->infer(&c), QN_ERR_DTYPE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(partial_gradients),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
