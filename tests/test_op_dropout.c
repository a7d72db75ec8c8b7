/* test_op_dropout.c — the mask: a pure function of key, step and element; its rate; its gradient.
 */
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* f32: one product. bf16: one unit in the last place. */
#define TOL_F32  0x1p-22
#define TOL_BF16 0x1p-7

static void sizes(void **state) {
    (void)state;
    static const int64_t sizes_of[] = {0, 1, 7, 33, 1023, 1025};
    static const qn_dropout_attrs attrs = {0.3};
    for (int i = 0; i < 6; i++) {
        qn_case c = {.name = "dropout", .op = &qn_op_dropout, .attrs = &attrs};
        c.tol_f32 = TOL_F32;
        c.tol_bf16 = TOL_BF16;
        c.in[0] = (qn_case_input){.present = true, .ndim = 2, .strided = i % 2};
        c.in[0].shape[0] = 3;
        c.in[0].shape[1] = sizes_of[i];
        c.in[1] = (qn_case_input){.present = true, .fixed_dtype = 1 + QN_I64, .ndim = 1};
        c.in[1].shape[0] = 2;
        c.in[1].fill = QN_FILL_VALUE;
        c.in[1].value = 5;
        qn_check_case(&c);
    }
}

static void run(qn_device d, int64_t step, int64_t offset, int64_t rows, int64_t width, double p,
                float *y) {
    float *x = malloc(sizeof *x * (size_t)(rows * width));
    assert_non_null(x);
    for (int64_t i = 0; i < rows * width; i++) x[i] = 1.0f;
    int64_t rng[] = {step, offset};
    qn_dropout_attrs attrs = {p};
    qn_tensor tx = qn_tensor_make(x, QN_F32, QN_SHAPE(rows, width)), ty = tx;
    qn_tensor tr = qn_tensor_make(rng, QN_I64, QN_SHAPE(2));
    ty.data = y;
    qn_call c = {.op = &qn_op_dropout, .attrs = &attrs, .in = {&tx, &tr}, .out = {&ty}};
    c.rng_key = 1234;
    c.threads = 1;
    qn_assert_ok(c.op->run[d](&c));
    free(x);
}

/* Two micro-batches of 3 samples see the masks of one batch of 6, whatever the sample's size. */
static void samples_keep_their_masks(void **state) {
    (void)state;
    enum { W = 13 };
    float whole[6 * W], part[3 * W];
    for (int d = QN_REF; d <= QN_CPU; d++) {
        run((qn_device)d, 4, 0, 6, W, 0.5, whole);
        for (int half = 0; half < 2; half++) {
            run((qn_device)d, 4, 3 * half, 3, W, 0.5, part);
            assert_memory_equal(part, whole + half * 3 * W, sizeof part);
        }
    }
    for (int i = 0; i < 6 * W; i++) {
        bool keep = qn_random_u32(1234, 4, (uint64_t)i) >= 0x80000000u;
        assert_true(whole[i] == (keep ? 2.0f : 0.0f));
    }
    run(QN_CPU, 5, 0, 3, W, 0.5, part);
    assert_true(memcmp(part, whole, sizeof part) != 0); /* another step, another mask */
}

static void rate(void **state) {
    (void)state;
    enum { N = 100000 };
    float *y = malloc(sizeof(float) * N);
    assert_non_null(y);
    run(QN_CPU, 1, 0, 1, N, 0.1, y);
    double sum = 0;
    for (int i = 0; i < N; i++) sum += (double)y[i];
    /* mean 1, standard deviation sqrt(p / (1-p) / N) = 0.00105: five of them */
    assert_true(fabs(sum / N - 1.0) < 0.0053);
    free(y);
}

/* Two calls in one scope differ by site, and each gradient uses its own call's mask. */
static void gradient_uses_the_site_of_the_call(void **state) {
    (void)state;
    enum { N = 64 };
    float x[N], dx[2][N];
    int64_t rng[] = {3, 0};
    for (int i = 0; i < N; i++) x[i] = 1.0f;
    qn_tensor desc = qn_tensor_make(x, QN_F32, QN_SHAPE(N));
    qn_tensor tr = qn_tensor_make(rng, QN_I64, QN_SHAPE(2));
    qn_value *y[2];
    qn_tape *t;
    qn_program *p;
    qn_arena *pool;
    qn_tape_options o = {.name = "sites", .seed = 8, .threads = 1, .training = true};
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_value *r = qn_tape_given(t, "rng", QN_CLASS_INPUT, &tr, false), *sum = NULL;
    static const char *const sites[] = {"first", "second"};
    for (int k = 0; k < 2; k++) {
        qn_tensor grad = desc;
        grad.data = dx[k];
        qn_value *v = qn_tape_given(t, "x", QN_CLASS_WEIGHT, &desc, true);
        qn_tape_set_grad(t, v, qn_tape_given(t, "dx", QN_CLASS_GRADIENT, &grad, false));
        y[k] = qn_tape_keep(t, qn_dropout(t, v, 0.5, r, sites[k]), "y");
        qn_value *part = qn_reduce(t, y[k], QN_SUM, QN_ALL_AXES, false);
        sum = sum ? qn_add(t, sum, part) : part;
    }
    qn_assert_ok(qn_tape_backward(t, sum));
    qn_assert_ok(qn_program_create(t, &p));
    qn_assert_ok(qn_arena_create("pool", qn_program_pool_bytes(p), &pool));
    qn_assert_ok(qn_program_bind(p, QN_CPU, pool));
    qn_assert_ok(qn_program_replay(p));
    for (int k = 0; k < 2; k++) assert_memory_equal(dx[k], y[k]->t.data, sizeof dx[k]);
    assert_true(memcmp(dx[0], dx[1], sizeof dx[0]) != 0);
    qn_program_free(p);
    qn_arena_free(pool);
}

static void absent_when_not_training(void **state) {
    (void)state;
    qn_tensor desc = qn_tensor_make(NULL, QN_F32, QN_SHAPE(3)), y;
    for (int training = 0; training < 2; training++) {
        qn_tape *t;
        qn_tape_options o = {.name = "off", .threads = 1, .training = training};
        qn_assert_ok(qn_tape_create(&o, &t));
        qn_value *v = qn_tape_given(t, "x", QN_CLASS_INPUT, &desc, true);
        assert_ptr_equal(qn_dropout(t, v, training ? 0.0 : 0.5, NULL, NULL), v);
        qn_tape_free(t);
    }
    qn_dropout_attrs attrs = {1.0};
    qn_call c = {.op = &qn_op_dropout, .attrs = &attrs, .in = {&desc, &desc}, .out = {&y}};
    assert_int_equal(c.op->infer(&c), QN_ERR_UNSUPPORTED);
    attrs.p = 0.5;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), "dropout: rng is f32[3], expected i64[2]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(samples_keep_their_masks),
        cmocka_unit_test(rate),
        cmocka_unit_test(gradient_uses_the_site_of_the_call),
        cmocka_unit_test(absent_when_not_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
