/* test_op_loss.c — cross-entropy in both forms, mean squared error, accuracy: values, gradients
 * left in place and scaled, ignored rows, smoothing, chunks, targets out of range, extreme logits.
 */
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* f32: exp to 1 ulp, sums in lanes, a log; losses of size 5 added in f64. bf16: a loss in f32 from
 * rounded logits, gradients to one unit in the last place. */
#define TOL_F32  0x1p-18
#define TOL_BF16 0x1p-7

static qn_case_input matrix(int64_t n, int64_t v, bool strided) {
    return (qn_case_input){.present = true, .ndim = 2, .shape = {n, v}, .strided = strided};
}

static qn_case_input targets(int64_t n, int64_t classes) {
    return (qn_case_input){.present = true,
                           .integer = true,
                           .ndim = 1,
                           .shape = {n},
                           .fill = QN_FILL_TARGETS,
                           .limit = (double)classes};
}

static qn_case_input inv_n(double v) {
    return (qn_case_input){.present = true,
                           .fixed_dtype = 1 + QN_F32,
                           .fill = QN_FILL_VALUE,
                           .value = v,
                           .no_grad = true};
}

static const int64_t shapes[][2] = {{1, 1}, {7, 33}, {33, 7}, {0, 4}, {5, 1025}, {64, 65}};

static void cross_entropy(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        for (int smooth = 0; smooth < 2; smooth++) {
            int64_t n = shapes[i][0], v = shapes[i][1];
            qn_ce_attrs attrs = {.ignore_index = -100, .label_smoothing = smooth ? 0.1 : 0.0};
            qn_case c = {.name = "cross_entropy", .op = &qn_op_cross_entropy, .attrs = &attrs};
            c.tol_f32 = TOL_F32;
            c.tol_bf16 = TOL_BF16;
            c.in[0] = matrix(n, v, i % 2);
            c.in[1] = targets(n, v);
            c.in[2] = inv_n(0.125);
            c.rooted = true;
            qn_check_case(&c);
            c.want_out = 2; /* the gradient itself */
            c.skip_grad = true;
            qn_check_case(&c);
            c.want_out = 0; /* inside a larger loss the saved gradient is scaled */
            c.skip_grad = c.rooted = false;
            qn_check_case(&c);
        }
    }
}

static void linear_cross_entropy(void **state) {
    (void)state;
    static const int64_t sizes[][4] = {/* N, K, V, chunk */
                                       {1, 1, 1, 0}, {7, 5, 33, 3},   {33, 9, 7, 32}, {33, 9, 7, 0},
                                       {0, 3, 4, 0}, {64, 8, 65, 64}, {20, 3, 11, 1}};
    for (int i = 0; i < 7; i++) {
        int64_t n = sizes[i][0], k = sizes[i][1], v = sizes[i][2];
        qn_ce_attrs attrs = {.ignore_index = -100, .label_smoothing = i % 2 ? 0.1 : 0.0};
        attrs.chunk = sizes[i][3];
        qn_case c = {.name = "chunks", .op = &qn_op_linear_cross_entropy, .attrs = &attrs};
        c.tol_f32 = TOL_F32;
        /* The slopes are rounded before they are multiplied and added: where those cancel, any
         * number of units is lost. */
        c.tol_bf16 = 0x1p-6;
        c.far_share = 1.0;
        c.in[0] = matrix(n, k, i % 2);
        c.in[1] = matrix(v, k, i % 3 == 1);
        c.in[3] = targets(n, v);
        c.in[4] = inv_n(0.125);
        c.rooted = true;
        qn_check_case(&c);
        c.in[2] = (qn_case_input){.present = true, .ndim = 1, .shape = {v}};
        qn_check_case(&c);
        c.skip_grad = true;
        for (c.want_out = 2; c.want_out <= 14; c.want_out += 4) qn_check_case(&c);
    }
}

static void pointwise_losses(void **state) {
    (void)state;
    for (int k = 0; k < 12; k++) {
        int i = k / 2;
        const qn_op *op = k % 2 ? &qn_op_binary_cross_entropy : &qn_op_mse;
        qn_case c = {.name = op->name, .op = op, .rooted = true};
        c.tol_f32 = TOL_F32;
        c.tol_bf16 = TOL_BF16;
        c.in[0] = matrix(shapes[i][0], shapes[i][1], i % 2);
        c.in[1] = c.in[0];
        c.in[1].no_grad = true;
        c.in[1].fixed_dtype = 1 + QN_F32; /* targets stay as the data has them */
        if (k % 2) {
            c.in[1].fill = QN_FILL_VALUE; /* a probability */
            c.in[1].value = i / 5.0;
        }
        c.in[2] = inv_n(0.25);
        qn_check_case(&c);
        c.rooted = false;
        qn_check_case(&c);
        c.want_out = 2;
        c.skip_grad = true;
        qn_check_case(&c);
    }
}

static void predictions(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        qn_ce_attrs attrs = {.ignore_index = -100};
        qn_case c = {.name = "accuracy", .op = &qn_op_accuracy, .attrs = &attrs};
        c.in[0] = matrix(shapes[i][0], shapes[i][1], i % 2);
        c.in[1] = targets(shapes[i][0], shapes[i][1]);
        qn_check_case(&c);
        c.op = &qn_op_confusion;
        qn_check_case(&c);
    }
}

/* One call on both devices; fails the test if they disagree on the status. */
static qn_status run(qn_call *c, qn_tensor *out0, void *data0, qn_tensor *out1, void *data1) {
    qn_status status[2];
    for (int d = QN_REF; d <= QN_CPU; d++) {
        qn_kernel *kernel = c->op->run[d] ? c->op->run[d] : c->op->run[QN_REF];
        c->threads = 1;
        c->out[0] = out0;
        c->out[1] = out1;
        qn_assert_ok(c->op->infer(c));
        out0->data = data0;
        if (out1) out1->data = data1;
        c->scratch = aligned_alloc(64, (c->scratch_bytes + 64) / 64 * 64);
        assert_non_null(c->scratch);
        if (c->op->prepare) qn_assert_ok(c->op->prepare(c));
        status[d] = kernel(c);
        if (c->op->release) c->op->release(c);
        free(c->scratch);
    }
    assert_int_equal(status[QN_REF], status[QN_CPU]);
    return status[QN_CPU];
}

static void targets_out_of_range(void **state) {
    (void)state;
    float z[6] = {0}, x[2] = {0}, w[3] = {0}, scale = 1, loss;
    int32_t target[2] = {2, 3};
    qn_ce_attrs attrs = {.ignore_index = -100};
    qn_tensor tz = qn_tensor_make(z, QN_F32, QN_SHAPE(2, 3)), out = {0};
    qn_tensor tx = qn_tensor_make(x, QN_F32, QN_SHAPE(2, 1));
    qn_tensor tw = qn_tensor_make(w, QN_F32, QN_SHAPE(3, 1));
    qn_tensor tt = qn_tensor_make(target, QN_I32, QN_SHAPE(2));
    qn_tensor tn = qn_tensor_make(&scale, QN_F32, 0, NULL);
    qn_call calls[] = {
        {.op = &qn_op_cross_entropy, .in = {&tz, &tt, &tn}, .attrs = &attrs},
        {.op = &qn_op_linear_cross_entropy, .in = {&tx, &tw, NULL, &tt, &tn}, .attrs = &attrs},
        {.op = &qn_op_accuracy, .in = {&tz, &tt}, .attrs = &attrs},
    };
    for (int i = 0; i < 3; i++) {
        target[1] = 3;
        assert_int_equal(run(&calls[i], &out, &loss, NULL, NULL), QN_ERR_DATA);
        assert_non_null(strstr(qn_error_message(), "row 1 is 3"));
        target[1] = -1;
        assert_int_equal(run(&calls[i], &out, &loss, NULL, NULL), QN_ERR_DATA);
        target[1] = -100;
        assert_int_equal(run(&calls[i], &out, &loss, NULL, NULL), QN_OK);
    }
}

static void extreme_logits(void **state) {
    (void)state;
    float z[9] = {1e30f, -1e30f, 0, /* certain and right: no loss */
                  -200,  200,    0, /* certain and wrong */
                  NAN,   NAN,    NAN};
    float scale = 1, loss, slope[9];
    int32_t target[3] = {0, 0, -100};
    qn_ce_attrs attrs = {.ignore_index = -100};
    qn_tensor tz = qn_tensor_make(z, QN_F32, QN_SHAPE(3, 3)), out = {0}, dz = {0};
    qn_tensor tt = qn_tensor_make(target, QN_I32, QN_SHAPE(3));
    qn_tensor tn = qn_tensor_make(&scale, QN_F32, 0, NULL);
    qn_call c = {.op = &qn_op_cross_entropy, .in = {&tz, &tt, &tn}, .attrs = &attrs};
    qn_assert_ok(run(&c, &out, &loss, &dz, slope));
    assert_true(loss == 400.0f);
    const float want[9] = {0, 0, 0, -1, 1, 0, 0, 0, 0}; /* an ignored row is silent, NaN or not */
    for (int i = 0; i < 9; i++) qn_assert_close((double)slope[i], (double)want[i], 1e-30, "slope");
    target[2] = 1;
    qn_assert_ok(run(&c, &out, &loss, &dz, slope));
    assert_true(isnan(loss) && isnan(slope[6]));
}

static void padding_of_mse(void **state) {
    (void)state;
    float y[6] = {1, 2, 3, 4, 5, 6}, t[6] = {0, 0, NAN, NAN, 5, 4}, scale = 0.5f, loss, dy[6];
    qn_tensor ty = qn_tensor_make(y, QN_F32, QN_SHAPE(3, 2)), tt = ty, out = {0}, td = {0};
    qn_tensor tn = qn_tensor_make(&scale, QN_F32, 0, NULL);
    tt.data = t;
    qn_call c = {.op = &qn_op_mse, .in = {&ty, &tt, &tn}};
    qn_assert_ok(run(&c, &out, &loss, &td, dy));
    assert_true(loss == 0.5f * (1 + 4 + 0 + 4));
    const float want[6] = {1, 2, 0, 0, 0, 2};
    for (int i = 0; i < 6; i++) assert_true(dy[i] == want[i]);
    t[5] = NAN; /* not the first of its row: no padding */
    qn_assert_ok(run(&c, &out, &loss, &td, dy));
    assert_true(isnan(loss));
}

/* Logits that overflow exp, exact answers at zero, a padding row, a target that is none. */
static void extremes_of_binary_cross_entropy(void **state) {
    (void)state;
    float z[6] = {1e4f, -1e4f, 0, 2, -1e4f, 0}, t[6] = {1, 0, 0.25f, NAN, 1, 1}, scale = 1, loss;
    float dz[6];
    qn_tensor tz = qn_tensor_make(z, QN_F32, QN_SHAPE(6, 1)), tt = tz, out = {0}, td = {0};
    qn_tensor tn = qn_tensor_make(&scale, QN_F32, 0, NULL);
    tt.data = t;
    qn_call c = {.op = &qn_op_binary_cross_entropy, .in = {&tz, &tt, &tn}};
    qn_assert_ok(run(&c, &out, &loss, &td, dz));
    qn_assert_close((double)loss, 1e4 + 2 * log(2.0), 1e-7, "loss");
    const float want[6] = {0, 0, 0.25f, 0, -1, -0.5f};
    for (int i = 0; i < 6; i++) assert_true(dz[i] == want[i]);
    t[3] = 1.5f;
    assert_int_equal(run(&c, &out, &loss, &td, dz), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "row 3 is 1.5"));
}

static void ties_of_accuracy(void **state) {
    (void)state;
    float z[6] = {1, 3, 3, 2, 2, 2}, count;
    int32_t target[2] = {1, 1};
    qn_ce_attrs attrs = {.ignore_index = -100};
    qn_tensor tz = qn_tensor_make(z, QN_F32, QN_SHAPE(2, 3)), out = {0};
    qn_tensor tt = qn_tensor_make(target, QN_I32, QN_SHAPE(2));
    qn_call c = {.op = &qn_op_accuracy, .in = {&tz, &tt}, .attrs = &attrs};
    qn_assert_ok(run(&c, &out, &count, NULL, NULL));
    assert_true(count == 1); /* the first of equals: 1 in row 0, 0 in row 1 */
}

/* Chunks of rows must not change what is computed: near equality here, since products round. */
static void chunk_sizes_agree(void **state) {
    (void)state;
    enum { N = 70, K = 16, V = 300 };
    static float x[N * K], w[V * K], dx[3][N * K];
    static int32_t target[N];
    float scale = 1.0f / N, loss[3];
    for (int i = 0; i < N * K; i++) x[i] = (float)qn_rng_normal(1, 0, (uint64_t)i);
    for (int i = 0; i < V * K; i++) w[i] = (float)qn_rng_normal(2, 0, (uint64_t)i);
    for (int i = 0; i < N; i++) target[i] = i * 37 % V;
    qn_tensor tx = qn_tensor_make(x, QN_F32, QN_SHAPE(N, K)), out = {0}, td = {0};
    qn_tensor tw = qn_tensor_make(w, QN_F32, QN_SHAPE(V, K));
    qn_tensor tt = qn_tensor_make(target, QN_I32, QN_SHAPE(N));
    qn_tensor tn = qn_tensor_make(&scale, QN_F32, 0, NULL);
    const int64_t chunks[3] = {0, 32, 7};
    for (int i = 0; i < 3; i++) {
        qn_ce_attrs attrs = {.ignore_index = -100, .chunk = chunks[i]};
        qn_call c = {.op = &qn_op_linear_cross_entropy, .in = {&tx, &tw, NULL, &tt, &tn}};
        c.attrs = &attrs;
        qn_assert_ok(run(&c, &out, &loss[i], &td, dx[i]));
        qn_assert_close((double)loss[i], (double)loss[0], 1e-6, "loss");
        for (int j = 0; j < N * K; j++) {
            qn_assert_close((double)dx[i][j], (double)dx[0][j], 1e-6, "dx");
        }
    }
}

static void must_be_the_root(void **state) {
    (void)state;
    qn_tape *t;
    qn_tape_options o = {.name = "root", .threads = 1};
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_tensor x = qn_tensor_make(NULL, QN_F32, QN_SHAPE(4, 3));
    qn_tensor w = qn_tensor_make(NULL, QN_F32, QN_SHAPE(5, 3));
    qn_tensor y = qn_tensor_make(NULL, QN_I32, QN_SHAPE(4));
    qn_tensor n = qn_tensor_make(NULL, QN_F32, 0, NULL);
    static const qn_ce_attrs attrs = {.ignore_index = -100};
    qn_value *loss =
        qn_linear_cross_entropy(t, qn_tape_given(t, "x", QN_CLASS_INPUT, &x, true),
                                qn_tape_given(t, "w", QN_CLASS_WEIGHT, &w, true), NULL,
                                qn_tape_given(t, "y", QN_CLASS_INPUT, &y, false),
                                qn_tape_given(t, "n", QN_CLASS_INPUT, &n, false), &attrs);
    assert_int_equal(qn_tape_backward(t, qn_scale(t, loss, 2, 0)), QN_ERR_UNSUPPORTED);
    assert_non_null(strstr(qn_error_message(), "root"));
    qn_tape_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cross_entropy),
        cmocka_unit_test(linear_cross_entropy),
        cmocka_unit_test(pointwise_losses),
        cmocka_unit_test(predictions),
        cmocka_unit_test(extreme_logits),
        cmocka_unit_test(targets_out_of_range),
        cmocka_unit_test(padding_of_mse),
        cmocka_unit_test(ties_of_accuracy),
        cmocka_unit_test(extremes_of_binary_cross_entropy),
        cmocka_unit_test(chunk_sizes_agree),
        cmocka_unit_test(must_be_the_root),
    };
    return cmocka_run_group_tests_name("op_loss", tests, NULL, NULL);
}
