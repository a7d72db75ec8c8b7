/* test_op_update.c — gradient norm, guard, AdamW and SGD against PyTorch, stochastic rounding. */
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* f32: a dozen roundings on numbers of order 1. bf16: one unit in the last place of the weight. */
#define TOL_F32  0x1p-20
#define TOL_BF16 0x1p-7

enum { N = 4 };

/* ---- three steps of four parameters, lr 0.1, 0.05, 0.02: PyTorch f64 ------------------------- */

static const double start[N] = {0.5, -1.25, 2.0, 0.75};
static const double gradient[3][N] = {
    {0.1, -0.2, 0.3, -0.4}, {0.25, 0.05, -0.6, 0.0}, {-1.0, 0.5, 0.125, 2.0}};
static const double rate[3] = {0.1, 0.05, 0.02};

typedef struct trained {
    double w[N], m[N], v[N], g[N], hyper[2], state[QN_GUARD_STATE];
} trained;

static void step(const qn_op *op, const qn_update_attrs *a, trained *s) {
    qn_tensor w = qn_tensor_make(s->w, QN_F64, QN_SHAPE(N)), m = w, v = w, g = w;
    qn_tensor hyper = qn_tensor_make(s->hyper, QN_F64, QN_SHAPE(2));
    qn_tensor state = qn_tensor_make(s->state, QN_F64, QN_SHAPE(QN_GUARD_STATE));
    m.data = s->m;
    v.data = s->v;
    g.data = s->g;
    qn_call adamw = {.op = op,
                     .attrs = a,
                     .in = {&w, NULL, &g, &m, &v, &hyper, &state},
                     .out = {&w, NULL, &m, &v, &hyper},
                     .threads = 1};
    qn_call sgd = {.op = op,
                   .attrs = a,
                   .in = {&w, NULL, &g, &m, &hyper, &state},
                   .out = {&w, NULL, &m, &hyper},
                   .threads = 1};
    qn_call *c = op == &qn_op_sgd ? &sgd : &adamw;
    qn_assert_ok(op->infer(c));
    qn_assert_ok(op->run[QN_REF](c));
}

static void follow(const qn_op *op, qn_update_attrs a, const double *want) {
    qn_segment all = {.count = N, .lr_scale = 1.0, .weight_decay = 0.1};
    a.n_segments = 1;
    a.segments = &all;
    trained s = {.state = {1.0, 0.5}};
    memcpy(s.w, start, sizeof start);
    memset(s.m, op == &qn_op_sgd ? 0xFF : 0, sizeof s.m); /* sgd's first step reads no buffer */
    for (int k = 0; k < 3; k++) {
        s.hyper[0] = rate[k];
        for (int i = 0; i < N; i++) s.g[i] = 2.0 * gradient[k][i]; /* clip 0.5 undoes it */
        step(op, &a, &s);
        assert_true(s.hyper[1] == k + 1);
    }
    for (int i = 0; i < N; i++) qn_assert_close(s.w[i], want[i], 1e-15, "weight after three steps");
}

static void adamw_is_pytorch(void **state) {
    (void)state;
    follow(&qn_op_adamw, (qn_update_attrs){.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8},
           (double[]){0.35395073031448043, -1.1150951998324892, 1.888327298190293,
                      0.85966738998261993});
}

static void sgd_is_pytorch(void **state) {
    (void)state;
    follow(&qn_op_sgd, (qn_update_attrs){.momentum = 0.9, .dampening = 0.5},
           (double[]){0.4752002125, -1.1989694187500002, 1.929982375, 0.77893433125});
    follow(&qn_op_sgd, (qn_update_attrs){.momentum = 0.9, .nesterov = true},
           (double[]){0.46653357615000002, -1.1772551733250001, 1.9109365205, 0.74151897667499989});
    follow(&qn_op_sgd, (qn_update_attrs){.momentum = 0.0},
           (double[]){0.48913484999999995, -1.2214846749999999, 1.9638095, 0.73703032499999999});
}

static void a_refused_step_writes_nothing(void **unused) {
    (void)unused;
    qn_segment all = {.count = N, .lr_scale = 1.0};
    qn_update_attrs a = {.beta1 = 0.9, .beta2 = 0.99, .n_segments = 1, .segments = &all};
    trained s = {.state = {0.0, 1.0}, .hyper = {0.1, 7.0}, .w = {1, 2, 3, 4}}, before;
    for (int i = 0; i < N; i++) s.g[i] = (double)NAN;
    before = s;
    step(&qn_op_adamw, &a, &s);
    assert_memory_equal(&s, &before, sizeof s);
    step(&qn_op_sgd, &a, &s);
    assert_memory_equal(&s, &before, sizeof s);
}

static void segments_freeze_and_scale(void **unused) {
    (void)unused;
    qn_segment parts[] = {{.offset = 0, .count = 1, .lr_scale = 1.0},
                          {.offset = 2, .count = 1, .lr_scale = 0.5, .weight_decay = 1.0}};
    qn_update_attrs a = {.n_segments = 2, .segments = parts};
    trained s = {.state = {1.0, 1.0}, .hyper = {0.1}, .w = {1, 1, 1, 1}, .g = {1, 1, 1, 1}};
    step(&qn_op_sgd, &a, &s);
    static const double want[] = {0.9, 1.0, 0.9, 1.0}; /* third: 1 - 0.05 (1 + 1) */
    for (int i = 0; i < N; i++) qn_assert_close(s.w[i], want[i], 1e-15, "weight");
}

/* ---- every body, every precision, odd sizes -------------------------------------------------- */

static qn_case_input vector(int64_t n, int fixed, qn_fill_kind fill, double value) {
    return (qn_case_input){.present = true,
                           .ndim = 1,
                           .shape = {n},
                           .fixed_dtype = fixed,
                           .fill = fill,
                           .value = value};
}

static void check_update(int64_t n, bool sgd, bool master, const qn_update_attrs *a) {
    const int f32 = 1 + QN_F32, f64 = 1 + QN_F64, i64 = 1 + QN_I64;
    qn_case c = {.name = "update", .op = sgd ? &qn_op_sgd : &qn_op_adamw, .attrs = a};
    c.tol_f32 = TOL_F32;
    c.tol_bf16 = TOL_BF16;
    int k = 0;
    c.in[k++] = vector(n, 0, QN_FILL_NORMAL, 0);
    c.in[k++] = master ? vector(n, f32, QN_FILL_NORMAL, 0) : (qn_case_input){0};
    c.in[k++] = vector(n, f32, QN_FILL_NORMAL, 0);
    c.in[k++] = vector(n, f32, QN_FILL_NORMAL, 0);
    if (!sgd) c.in[k++] = vector(n, f32, QN_FILL_POSITIVE, 0);
    c.in[k++] = vector(2, f64, QN_FILL_VALUE, 0.125);
    c.in[k++] = vector(QN_GUARD_STATE, f64, QN_FILL_VALUE, 0.5);
    c.in[k++] = vector(2, i64, QN_FILL_VALUE, 3);
    if (master) c.dtypes = QN_DTYPE_BIT(QN_BF16);
    qn_check_case(&c);
}

static void sizes(void **state) {
    (void)state;
    static const int64_t sizes_of[] = {0, 1, 7, 33, 1023, 1025, 16385, 40000};
    for (int i = 0; i < 8; i++) {
        int64_t n = sizes_of[i], third = n / 3;
        qn_segment parts[] = {{0, third, 1.0, 0.1},
                              {third + (n > 1), n - third - (n > 1), 0.5, 0.0}};
        qn_update_attrs a = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .momentum = 0.9};
        a.stochastic_rounding = true;
        a.n_segments = 2;
        a.segments = parts;
        for (int sgd = 0; sgd < 2; sgd++) {
            check_update(n, sgd, false, &a);
            check_update(n, sgd, true, &a);
        }
        a.nesterov = true;
        check_update(n, true, false, &a);
        qn_case c = {.name = "norm", .op = &qn_op_grad_norm, .attrs = &a, .tol_f32 = TOL_F32};
        c.dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_F64);
        c.in[0] = vector(n, 0, QN_FILL_NORMAL, 0);
        qn_check_case(&c);
    }
}

/* A step far below half a unit in the last place of bf16 moves the mean by that step. */
static void stochastic_rounding_is_unbiased(void **unused) {
    (void)unused;
    enum { COUNT = 65536 };
    uint16_t *w = malloc(sizeof *w * COUNT);
    float *g = malloc(sizeof *g * COUNT);
    assert_true(w && g);
    for (int i = 0; i < COUNT; i++) {
        w[i] = qn_f32_to_bf16(1.0f);
        g[i] = -1.0f;
    }
    int64_t rng_data[] = {11, 0};
    double hyper_data[] = {0x1p-11, 0.0}, state_data[QN_GUARD_STATE] = {1.0, 1.0};
    qn_segment all = {.count = COUNT, .lr_scale = 1.0};
    qn_update_attrs a = {.stochastic_rounding = true, .n_segments = 1, .segments = &all};
    qn_tensor tw = qn_tensor_make(w, QN_BF16, QN_SHAPE(COUNT));
    qn_tensor tg = qn_tensor_make(g, QN_F32, QN_SHAPE(COUNT));
    qn_tensor hyper = qn_tensor_make(hyper_data, QN_F64, QN_SHAPE(2));
    qn_tensor state = qn_tensor_make(state_data, QN_F64, QN_SHAPE(QN_GUARD_STATE));
    qn_tensor rng = qn_tensor_make(rng_data, QN_I64, QN_SHAPE(2));
    qn_call c = {.op = &qn_op_sgd, .attrs = &a, .threads = 2, .rng_key = 77};
    c.in[0] = c.out[0] = &tw;
    c.in[2] = &tg;
    c.in[4] = c.out[3] = &hyper;
    c.in[5] = &state;
    c.in[6] = &rng;
    qn_assert_ok(c.op->infer(&c));
    qn_assert_ok(c.op->run[QN_CPU](&c));
    double sum = 0;
    for (int i = 0; i < COUNT; i++) sum += (double)qn_bf16_to_f32(w[i]) - 1.0;
    /* each moves by 2^-7 with probability 1/16: mean 2^-11, deviation 2^-7 sqrt(15)/16/256 */
    assert_true(fabs(sum / COUNT - 0x1p-11) < 5 * 0x1p-7 * sqrt(15.0) / 16 / 256);
    free(w);
    free(g);
}

/* ---- guard ----------------------------------------------------------------------------------- */

static void guard_once(const qn_guard_attrs *a, double loss, double norm, double *s) {
    qn_tensor tl = qn_tensor_make(&loss, QN_F64, 0, NULL),
              tn = qn_tensor_make(&norm, QN_F64, 0, NULL);
    qn_tensor ts = qn_tensor_make(s, QN_F64, QN_SHAPE(QN_GUARD_STATE));
    qn_call c = {.op = &qn_op_guard, .attrs = a, .in = {&tl, &tn, &ts}, .out = {&ts}, .threads = 1};
    qn_assert_ok(c.op->infer(&c));
    qn_assert_ok(c.op->run[QN_REF](&c));
}

static void guard_clips_like_pytorch(void **unused) {
    (void)unused;
    qn_guard_attrs a = {.clip_norm = 1.0}, off = {0};
    double s[QN_GUARD_STATE] = {1.0};
    guard_once(&a, 2.0, 4.0, s);
    qn_assert_close(s[QN_GUARD_CLIP], 1.0 / (4.0 + 1e-6), 1e-16, "clip");
    guard_once(&a, 2.0, 0.5, s);
    assert_true(s[QN_GUARD_CLIP] == 1.0);
    guard_once(&off, 2.0, 1e30, s);
    assert_true(s[QN_GUARD_CLIP] == 1.0);
}

static void guard_refuses_until_told(void **unused) {
    (void)unused;
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    qn_guard_attrs a = {.clip_norm = 1.0, .spike_window = 10};
    for (int i = 0; i < 6; i++) {
        double s[QN_GUARD_STATE] = {1.0}, before[QN_GUARD_STATE];
        guard_once(&a, 2.0, 1.0, s);
        memcpy(before, s, sizeof s);
        guard_once(&a, i < 3 ? bad[i] : 2.0, i < 3 ? 1.0 : bad[i - 3], s);
        assert_true(s[QN_GUARD_APPLY] == 0.0);
        guard_once(&a, 2.0, 1.0, s);
        assert_true(s[QN_GUARD_APPLY] == 0.0); /* stays refused */
        assert_memory_equal(s + 1, before + 1, sizeof s - sizeof *s);
        s[QN_GUARD_APPLY] = 1.0;
        guard_once(&a, 2.0, 1.0, s);
        assert_true(s[QN_GUARD_APPLY] == 1.0 && s[QN_GUARD_COUNT] == 2.0);
    }
}

static void guard_sees_spikes(void **unused) {
    (void)unused;
    qn_guard_attrs a = {.spike_threshold = 6.0, .spike_window = 20};
    double s[QN_GUARD_STATE] = {1.0};
    guard_once(&a, 50.0, 1.0, s); /* too early to judge */
    assert_true(s[QN_GUARD_APPLY] == 1.0 && s[QN_GUARD_MEAN] == 50.0 && s[QN_GUARD_VAR] == 0.0);
    for (int i = 0; i < 400; i++) guard_once(&a, 2.0 + 0.1 * (i % 3), 1.0, s);
    assert_true(s[QN_GUARD_APPLY] == 1.0);
    qn_assert_close(s[QN_GUARD_MEAN], 2.1, 0.02, "mean of the window");
    guard_once(&a, 2.4, 1.0, s);
    assert_true(s[QN_GUARD_APPLY] == 1.0); /* high, but within six deviations */
    guard_once(&a, 0.1, 1.0, s);
    assert_true(s[QN_GUARD_APPLY] == 1.0); /* falling is fine */
    double mean = s[QN_GUARD_MEAN];
    guard_once(&a, 9.0, 1.0, s);
    assert_true(s[QN_GUARD_APPLY] == 0.0 && s[QN_GUARD_MEAN] == mean);
}

static void guard_in_every_precision(void **unused) {
    (void)unused;
    static const qn_guard_attrs a = {.clip_norm = 0.25, .spike_threshold = 3.0, .spike_window = 4};
    qn_case c = {.name = "guard", .op = &qn_op_guard, .attrs = &a, .tol_f32 = 1e-15};
    c.tol_bf16 = 1e-15;
    for (int k = 0; k < 2; k++)
        c.in[k] = (qn_case_input){.present = true, .fill = QN_FILL_POSITIVE};
    c.in[2] = vector(QN_GUARD_STATE, 1 + QN_F64, QN_FILL_VALUE, 1.0);
    qn_check_case(&c);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void refuses(void **unused) {
    (void)unused;
    qn_segment out_of_range = {.offset = 2, .count = 3};
    qn_update_attrs a = {.momentum = 0.9, .n_segments = 1, .segments = &out_of_range};
    qn_tensor w = qn_tensor_make(NULL, QN_BF16, QN_SHAPE(4)), g = w;
    qn_tensor hyper = qn_tensor_make(NULL, QN_F64, QN_SHAPE(2));
    qn_tensor state = qn_tensor_make(NULL, QN_F64, QN_SHAPE(QN_GUARD_STATE));
    qn_call c = {.op = &qn_op_sgd, .attrs = &a, .in = {&w, NULL, &g, NULL, &hyper, &state}};
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), "sgd: grads is bf16[4], expected f32[4]");
    g.dtype = QN_F32;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(),
                        "sgd: segment 0 covers 3 elements from 2, weights has 4");
    out_of_range.count = 2;
    assert_int_equal(c.op->infer(&c), QN_ERR_DTYPE);
    assert_string_equal(qn_error_message(),
                        "sgd: bf16 weights need a master or stochastic rounding with an rng");
    w.dtype = QN_F32;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), "sgd: a momentum of 0.9 needs its buffer");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_is_pytorch),
        cmocka_unit_test(sgd_is_pytorch),
        cmocka_unit_test(a_refused_step_writes_nothing),
        cmocka_unit_test(segments_freeze_and_scale),
        cmocka_unit_test(sizes),
        cmocka_unit_test(stochastic_rounding_is_unbiased),
        cmocka_unit_test(guard_clips_like_pytorch),
        cmocka_unit_test(guard_refuses_until_told),
        cmocka_unit_test(guard_sees_spikes),
        cmocka_unit_test(guard_in_every_precision),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
