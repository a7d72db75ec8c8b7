/* test_measure.c — timing of single ops: every tiny case runs and is right on the CPU and, where a
 * device answers, on CUDA; patterns; limits; lines. */
#include "engine/measure.h"
#include "io/json.h"
#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct tally {
    int cases, unsupported;
    const qn_measure_limits *limits;
} tally;

/* Operands and results are bf16 at the coarsest, each result rounded once (2^-9), sums and losses
 * of rounded intermediates a little more; f32 cases are far below. */
static void take(void *ctx, const qn_measure_case *c, qn_status s, const qn_measurement *m) {
    tally *t = ctx;
    bool flops;
    t->cases++;
    if (s == QN_ERR_UNSUPPORTED) {
        t->unsupported++;
        return;
    }
    if (s != QN_OK) fail_msg("%s %s: %s", c->op->name, c->shape, qn_error_message());
    double bound = c->dtype == QN_F32 ? 0x1p-18 : 0x1p-7;
    if (!(m->error <= (c->op == &qn_op_cast ? 0x1p-7 : bound))) {
        fail_msg("%s %s: relative error %g", c->op->name, c->shape, m->error);
    }
    assert_true(m->median >= m->fastest && m->fastest > 0.0);
    assert_int_equal(m->repeats, 3);
    assert_true(m->cost.bytes > 0.0);
    assert_true(qn_measure_fraction(c, m, t->limits, &flops) > 0.0);
}

static void check_device(qn_device d) {
    qn_measure_options o;
    qn_measure_limits limits = {0};
    tally t = {.limits = &limits};
    qn_measure_defaults(d, &o);
    o.threads = 1;
    o.repeats = 3;
    o.rotation_bytes = 4096; /* several sets of the smallest */
    o.check_flops = 1e9;
    qn_assert_ok(qn_measure_all(&o, QN_MEASURE_TINY, NULL, 0, &limits, take, &t));
    assert_int_equal(t.cases, qn_measure_case_count(QN_MEASURE_TINY));
    assert_int_equal(t.unsupported, 0);
    assert_true(limits.bytes_per_second > 0.0);
    assert_true(limits.flops_per_second[QN_F32] > 0.0 && limits.flops_per_second[QN_BF16] > 0.0);
}

static void cpu(void **state) {
    (void)state;
    check_device(QN_CPU);
}

static void cuda(void **state) {
    (void)state;
    if (!qn_cuda_usable()) {
        print_message("no CUDA device: its kernels are not timed\n");
        skip();
    }
    check_device(QN_CUDA);
}

/* A wrong result is seen: this body adds 1 where it should copy. */
static qn_status wrong(const qn_call *c) {
    int64_t n = qn_tensor_count(c->in[0]);
    for (int64_t i = 0; i < n; i++)
        qn_tensor_set(c->out[0], i, qn_tensor_get(c->in[0], i) + (c->threads == 2 ? 1.0 : 0.0));
    return QN_OK;
}

static void sees_errors(void **state) {
    (void)state;
    qn_op op = qn_op_copy;
    qn_measure_case c;
    qn_measurement m;
    qn_measure_options o;
    qn_measure_case_get(QN_MEASURE_TINY, 0, &c);
    assert_ptr_equal(c.op, &qn_op_copy);
    c.op = &op;
    op.run[QN_CPU] = wrong;
    qn_measure_defaults(QN_CPU, &o);
    o.repeats = 3;
    o.check_flops = 1.0;
    o.threads = 1;
    qn_assert_ok(qn_measure(&c, &o, &m));
    assert_true(m.error == 0.0);
    o.threads = 2;
    qn_assert_ok(qn_measure(&c, &o, &m));
    assert_true(m.error > 10.0);
    o.check_flops = 0.0;
    qn_assert_ok(qn_measure(&c, &o, &m));
    assert_true(isnan(m.error));
}

static void all_are_described(void **state) {
    (void)state;
    for (int scale = 0; scale < QN_MEASURE_SCALES; scale++) {
        int n = qn_measure_case_count((qn_measure_scale)scale);
        assert_in_range(n, 25, 100);
        for (int i = 0; i < n; i++) {
            qn_measure_case c;
            qn_measure_case_get((qn_measure_scale)scale, i, &c);
            assert_true(c.op != NULL && c.shape[0] != '\0' && c.in[0].present);
            assert_true(qn_measure_case_matches(&c, c.op->name));
            assert_true(qn_measure_case_matches(&c, c.shape));
        }
    }
}

static void patterns(void **state) {
    (void)state;
    qn_measure_case c = {.op = &qn_op_linear_bwd_input, .dtype = QN_BF16, .shape = "8x16x4"};
    assert_false(qn_measure_case_matches(&c, "linear"));
    assert_true(qn_measure_case_matches(&c, "linear_bwd_input"));
    assert_true(qn_measure_case_matches(&c, "linear_bwd"));
    assert_true(qn_measure_case_matches(&c, "8x16x4 bf16"));
    assert_false(qn_measure_case_matches(&c, "f32"));
    qn_measure_options o;
    qn_measure_limits limits = {0};
    tally t = {.limits = &limits};
    const char *wanted[] = {"copy", "copyy"};
    qn_measure_defaults(QN_CPU, &o);
    qn_status s = qn_measure_all(&o, QN_MEASURE_TINY, wanted, 2, &limits, take, &t);
    assert_int_equal(s, QN_ERR_USAGE);
    assert_non_null(strstr(qn_error_message(), "\"copyy\""));
    assert_int_equal(t.cases, 0);
}

static void fraction_and_lines(void **state) {
    (void)state;
    qn_measure_case c = {.op = &qn_op_linear, .dtype = QN_BF16, .shape = "64x64x64"};
    qn_measurement m = {
        .median = 2e-6, .fastest = 1e-6, .repeats = 20, .calls = 4, .error = NAN, .library = NAN};
    qn_measure_limits limits = {.bytes_per_second = 1e12, .flops_per_second = {[QN_BF16] = 1e15}};
    bool flops;
    char line[1024];
    m.cost = (qn_cost){.bytes = 1e6, .flops = 5e8}; /* 1 us of bytes, 0.5 us of arithmetic */
    qn_assert_close(qn_measure_fraction(&c, &m, &limits, &flops), 0.5, 1e-12, "fraction");
    assert_false(flops);
    m.cost.flops = 1.5e9;
    qn_assert_close(qn_measure_fraction(&c, &m, &limits, &flops), 0.75, 1e-12, "fraction");
    assert_true(flops);
    qn_measure_json(&c, &m, &limits, "a device", line, sizeof line);
    qn_setup *setup;
    cJSON *root;
    qn_assert_ok(qn_setup_create("line", &setup));
    qn_assert_ok(qn_json_parse(setup, line, strlen(line), &(qn_json_options){0}, &root));
    qn_setup_free(setup);
    assert_non_null(strstr(line, "\"median_us\":2.000,\"min_us\":1.000"));
    assert_non_null(strstr(line, "\"tflops\":750,\"gbps\":500"));
    assert_non_null(strstr(line, "\"cublaslt_us\":null"));
    assert_non_null(strstr(line, "\"bound\":\"flops\",\"fraction\":0.7500,\"error\":null"));
    qn_measure_row(&c, &m, &limits, line, sizeof line);
    assert_non_null(strstr(line, "750.0 TFLOP/s"));
    m.library = 2.5e-6; /* slower there */
    qn_measure_row(&c, &m, &limits, line, sizeof line);
    assert_non_null(strstr(line, " 1.25 "));
    qn_measure_json(&c, &m, &limits, "a device", line, sizeof line);
    assert_non_null(strstr(line, "\"cublaslt_us\":2.500"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu),         cmocka_unit_test(cuda),
        cmocka_unit_test(sees_errors), cmocka_unit_test(all_are_described),
        cmocka_unit_test(patterns),    cmocka_unit_test(fraction_and_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
