/* test_schedule.c — learning-rate factors: closed forms, ends of the range, PyTorch's curves. */
#include "tests/harness.h"
#include "tests/harness_golden.h"
#include "optim/optim.h"

#include <math.h>
#include <string.h>

static double factor(const char *type, int64_t warmup, int64_t end, double min_ratio,
                     int64_t step) {
    qn_schedule_config c = {
        .type = type, .warmup_steps = warmup, .end = end, .min_ratio = min_ratio};
    qn_schedule s;
    qn_assert_ok(qn_schedule_create(&c, &s));
    return s.factor(s.self, step);
}

static void test_values(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int64_t warmup, end;
        double min_ratio;
        int64_t step;
        double want;
    } cases[] = {
        /* warm-up counts from one, so that no step is wasted, and reaches one at its end */
        {"constant", 4, 100, 0, 0, 0.25},
        {"linear", 4, 100, 0, 1, 0.5},
        {"cosine", 4, 100, 0, 3, 1.0},
        {"constant", 4, 100, 0, 4, 1.0},
        {"constant", 4, 100, 0, 100000, 1.0},
        {"constant", 0, 100, 0, 0, 1.0},
        {"linear", 0, 10, 0, 0, 1.0},
        {"linear", 0, 10, 0, 5, 0.5},
        {"linear", 10, 20, 0.2, 10, 1.0},
        {"linear", 10, 20, 0.2, 15, 0.6},
        {"linear", 10, 20, 0.2, 20, 0.2},
        {"linear", 10, 20, 0.2, 2000, 0.2},
        {"cosine", 10, 20, 0.2, 10, 1.0},
        {"cosine", 10, 20, 0.2, 15, 0.6},
        {"cosine", 0, 6, 0.0, 2, 0.75},
        {"cosine", 0, 6, 0.0, 4, 0.25},
        {"cosine", 10, 20, 0.2, 20, 0.2},
        {"cosine", 10, 20, 0.2, 2000, 0.2},
        /* warm-up to the end, or beyond it */
        {"cosine", 10, 10, 0.2, 9, 1.0},
        {"cosine", 10, 10, 0.2, 10, 0.2},
        {"linear", 20, 10, 0.2, 15, 0.8},
        {"linear", 20, 10, 0.2, 20, 0.2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got =
            factor(cases[i].type, cases[i].warmup, cases[i].end, cases[i].min_ratio, cases[i].step);
        qn_assert_close(got, cases[i].want, 1e-15, cases[i].type);
    }
}

/* The learning rates of golden/make_trajectories.py, row by row. */
static void test_golden_rates(void **state) {
    (void)state;
    static const struct {
        const char *run, *type;
        double lr, min_lr;
        int64_t warmup;
    } runs[] = {{"adamw", "cosine", 3e-3, 3e-4, 10},
                {"sgd_linear", "linear", 0.05, 0, 10},
                {"sgd_constant", "constant", 0.02, 0, 0}};
    qn_golden *g;
    qn_assert_ok(qn_golden_open(QUERN_SOURCE_DIR "/tests/golden/trajectories.bin", &g));
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        qn_tensor rate;
        qn_assert_ok(qn_golden_get(g, &rate, "mlp/%s/lr", runs[i].run));
        assert_int_equal(qn_tensor_count(&rate), 100);
        for (int64_t s = 0; s < 100; s++) {
            double f = factor(runs[i].type, runs[i].warmup, 100, runs[i].min_lr / runs[i].lr, s);
            double want = qn_tensor_get(&rate, s);
            if (!(fabs(runs[i].lr * f - want) <= 1e-15 * runs[i].lr)) {
                fail_msg("%s step %lld: %.17g, expected %.17g", runs[i].run, (long long)s,
                         runs[i].lr * f, want);
            }
        }
    }
    qn_golden_close(g);
}

static void test_decay_never_rises(void **state) {
    (void)state;
    static const char *const types[] = {"constant", "linear", "cosine"};
    for (int k = 0; k < 3; k++) {
        for (int64_t s = 0; s < 300; s++) {
            double now = factor(types[k], 30, 250, 0.1, s),
                   next = factor(types[k], 30, 250, 0.1, s + 1);
            assert_true(now > 0 && now <= 1);
            assert_true(s + 1 < 30 ? next > now : next <= now);
        }
    }
}

static void test_an_unknown_type_is_refused(void **state) {
    (void)state;
    qn_schedule_config c = {.type = "sawtooth"};
    qn_schedule s;
    assert_int_equal(qn_schedule_create(&c, &s), QN_ERR_CONFIG);
    assert_non_null(strstr(qn_error_message(), "sawtooth"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_golden_rates),
        cmocka_unit_test(test_decay_never_rises),
        cmocka_unit_test(test_an_unknown_type_is_refused),
    };
    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
