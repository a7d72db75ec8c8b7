/* test_early_stop.c — the stopping rules: decisions over given curves, one table row each.
 *
 * Evaluation i comes at step 10 (i + 1), at the end of epoch i + 1. The rows that name Keras and
 * Lightning are what those libraries decide for the same curve.
 */
#include "tests/harness.h"
#include "optim/optim.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_VALUES = 12, NEVER = -1 };

typedef struct curve {
    const char *name;
    qn_early_stop_config c; /* fields that differ from the defaults; 0 = the default of `config` */
    double values[MAX_VALUES];
    int n;
    int stop, best; /* index of the evaluation; NEVER */
    const char *reason;
} curve;

/* NaN stands for "none" in three fields; a table row leaves them 0. */
static qn_early_stop_config config(const curve *k) {
    qn_early_stop_config c = k->c, d = qn_early_stop_defaults();
    c.monitor = "eval/loss";
    if (c.baseline == 0) c.baseline = NAN;
    if (c.stop_at == 0) c.stop_at = NAN;
    if (c.diverge_at == 0) c.diverge_at = NAN;
    if (c.smoothing == 0) c.smoothing = d.smoothing;
    return c;
}

static const curve curves[] = {
    {"Keras, Lightning and HF: patience 2",
     {.patience = 2},
     {1.0, .9, .91, .92, .93, .5},
     6,
     3,
     1,
     "did not improve"},
    {"Keras and Lightning: patience 0", {.patience = 0}, {1.0, .9, .91, .92, .5}, 5, 2, 1, "for 1"},
    {"patience 0 never stops at the first look", {.patience = 0}, {NAN, 1.0}, 2, NEVER, 1, NULL},
    {"Keras and Lightning: slow progress below min_delta",
     {.patience = 2, .min_delta = .05},
     {1.0, .97, .94, .93, .92, .91},
     6,
     4,
     2,
     "0.05"},
    {"strict: equal to the best is no improvement",
     {.patience = 2},
     {1.0, 1.0, 1.0},
     3,
     2,
     0,
     NULL},
    {"strict: by exactly min_delta is no improvement",
     {.patience = 1, .min_delta = .25},
     {1.0, .75},
     2,
     1,
     0,
     NULL},
    {"Lightning: NaN stops at once",
     {.patience = 3, .check_finite = true},
     {1.0, NAN, .5},
     3,
     1,
     0,
     "is nan"},
    {"infinity stops at once",
     {.patience = 3, .check_finite = true},
     {INFINITY},
     1,
     0,
     NEVER,
     "inf"},
    {"Keras: NaN is carried on, and counts as a wait",
     {.patience = 3},
     {1.0, NAN, NAN, .5},
     4,
     NEVER,
     3,
     NULL},
    {"NaN runs out the patience", {.patience = 3}, {1.0, NAN, NAN, NAN}, 4, 3, 0, NULL},
    {"infinities never are the best",
     {.patience = 9},
     {INFINITY, -INFINITY, 2.0, -INFINITY},
     4,
     NEVER,
     2,
     NULL},
    {"the budget ends before patience", {.patience = 5}, {1.0, .8, .7, .75}, 4, NEVER, 2, NULL},
    {"Keras: baseline never met, no stop while improving",
     {.patience = 2, .baseline = .5},
     {.9, .8, .7},
     3,
     NEVER,
     2,
     NULL},
    {"Keras: baseline never met, the first setback stops",
     {.patience = 2, .baseline = .5},
     {.9, .8, .7, .75},
     4,
     3,
     2,
     NULL},
    {"a beaten baseline restarts the patience",
     {.patience = 2, .baseline = .75},
     {.9, .8, .7, .71, .72},
     5,
     4,
     2,
     NULL},
    {"the larger the better",
     {.patience = 2, .maximize = true},
     {.5, .6, .55, .59, .9},
     5,
     3,
     1,
     NULL},
    {"the larger the better, by min_delta",
     {.patience = 2, .maximize = true, .min_delta = .2},
     {.5, .6, .65, .9},
     4,
     2,
     0,
     NULL},
    {"relative min_delta: 10 % of the best, small values",
     {.patience = 2, .min_delta = .1, .relative = true},
     {.010, .0095, .0085, .0084, .0083},
     5,
     4,
     2,
     "(relative)"},
    {"relative min_delta of a negative best",
     {.patience = 1, .min_delta = .1, .relative = true},
     {-1.0, -1.05},
     2,
     1,
     0,
     NULL},
    {"patience in epochs",
     {.patience = 3, .unit = QN_PATIENCE_EPOCHS},
     {1, 2, 2, 2, 2},
     5,
     3,
     0,
     "3 epochs"},
    {"patience in steps",
     {.patience = 15, .unit = QN_PATIENCE_STEPS},
     {1, 2, 2, 2},
     4,
     2,
     0,
     "20 steps"},
    {"start_from in evaluations: the early best is not looked at",
     {.patience = 2, .start_from = 2},
     {.1, .1, 1.0, 1.1, 1.2},
     5,
     4,
     2,
     NULL},
    {"start_from in steps",
     {.patience = 20, .start_from = 30, .unit = QN_PATIENCE_STEPS},
     {.1, .1, 1.0, 1.1, 1.2},
     5,
     4,
     2,
     NULL},
    {"start_from in epochs",
     {.patience = 1, .start_from = 3, .unit = QN_PATIENCE_EPOCHS},
     {.1, .1, 1.0, 1.1},
     4,
     3,
     2,
     NULL},
    {"before start_from, non-finite still stops",
     {.patience = 1, .start_from = 5, .check_finite = true},
     {1.0, NAN},
     2,
     1,
     NEVER,
     NULL},
    {"stop_at reached", {.patience = 9, .stop_at = .5}, {1.0, .6, .5, .4}, 4, 2, 2, "stop_at"},
    {"stop_at, the larger the better",
     {.patience = 9, .stop_at = .9, .maximize = true},
     {.5, .95},
     2,
     1,
     1,
     "stop_at"},
    {"diverge_at passed", {.patience = 9, .diverge_at = 2}, {1.0, 2.0, 2.5}, 3, 2, 0, "diverge_at"},
    {"diverge_at, the larger the better",
     {.patience = 9, .diverge_at = .3, .maximize = true},
     {.5, .3, .2},
     3,
     2,
     0,
     "diverge_at"},
    {"min_steps holds the patience back, and does not latch it",
     {.patience = 2, .min_steps = 50},
     {1.0, 2, 2, .9, .8, .7},
     6,
     NEVER,
     5,
     NULL},
    {"min_steps: still without improvement at the gate",
     {.patience = 2, .min_steps = 50},
     {1.0, 2, 2, 2, 2, 2},
     6,
     4,
     0,
     NULL},
    {"min_steps holds stop_at and diverge_at back",
     {.patience = 9, .min_steps = 30, .stop_at = .5, .diverge_at = 2},
     {.4, 3, 1, .45},
     4,
     3,
     0,
     "stop_at"},
    {"min_steps does not hold non-finite back",
     {.patience = 9, .min_steps = 99, .check_finite = true},
     {1.0, NAN},
     2,
     1,
     0,
     NULL},
    {"smoothing judges the mean of the last two",
     {.patience = 2, .smoothing = 2},
     {1.0, .8, .9, .7, .9, .9},
     6,
     5,
     3,
     NULL},
};

static void make(const curve *k, qn_stopper *s) {
    qn_early_stop_config c = config(k);
    qn_assert_ok(qn_early_stop_create(&c, s));
}

/* Observes evaluations [from, to); adds what is decided to the outcome. */
static void observe(const curve *k, const qn_stopper *s, int from, int to, int *stop, int *best,
                    char *text, size_t size) {
    for (int i = from; i < to && *stop == NEVER; i++) {
        qn_record r = {.step = 10 * (i + 1), .epoch = i + 1};
        bool improved, stopped;
        qn_record_add(&r, "eval/accuracy", 0.5);
        qn_record_add(&r, "eval/loss", k->values[i]);
        qn_assert_ok(s->observe(s->self, &r, &improved, &stopped, text, size));
        if (improved) *best = i;
        if (stopped) *stop = i;
    }
}

static void check(const curve *k, int stop, int best, const char *text) {
    if (stop != k->stop || best != k->best) {
        fail_msg("%s: stopped at %d, best %d; expected %d and %d (%s)", k->name, stop, best,
                 k->stop, k->best, text);
    }
    if (k->reason && !strstr(text, k->reason)) {
        fail_msg("%s: \"%s\" does not say \"%s\"", k->name, text, k->reason);
    }
}

static void test_curves(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        const curve *k = &curves[i];
        qn_stopper s;
        char text[256] = "";
        int stop = NEVER, best = NEVER;
        make(k, &s);
        observe(k, &s, 0, k->n, &stop, &best, text, sizeof text);
        check(k, stop, best, text);
        qn_early_stop_free(&s);
    }
}

static void test_saved_state_decides_the_same(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        const curve *k = &curves[i];
        for (int cut = 1; cut < k->n; cut++) {
            qn_stopper before, after;
            char text[256] = "";
            int stop = NEVER, best = NEVER;
            make(k, &before);
            make(k, &after);
            observe(k, &before, 0, cut, &stop, &best, text, sizeof text);
            assert_int_equal(before.n_state, after.n_state);
            memcpy(after.state, before.state, (size_t)before.n_state * sizeof *before.state);
            qn_early_stop_free(&before);
            observe(k, &after, cut, k->n, &stop, &best, text, sizeof text);
            check(k, stop, best, text);
            qn_early_stop_free(&after);
        }
    }
}

static void test_the_reason_names_the_best(void **state) {
    (void)state;
    const curve k = {"reason", {.patience = 1, .restore_best = true}, {1.0, .25, .5}, 3, 2, 1,
                     NULL};
    qn_stopper s;
    char text[256] = "";
    int stop = NEVER, best = NEVER;
    make(&k, &s);
    assert_true(s.restore_best);
    assert_string_equal(s.monitor, "eval/loss");
    observe(&k, &s, 0, k.n, &stop, &best, text, sizeof text);
    assert_non_null(strstr(text, "step 30"));
    assert_non_null(strstr(text, "best 0.25 at step 20"));
    qn_early_stop_free(&s);
}

static void test_a_missing_monitor_lists_what_there_is(void **state) {
    (void)state;
    qn_early_stop_config c = qn_early_stop_defaults();
    c.monitor = "eval/f1";
    qn_stopper s;
    qn_assert_ok(qn_early_stop_create(&c, &s));
    qn_record r = {.step = 1};
    qn_record_add(&r, "eval/loss", 1.0);
    qn_record_add(&r, "eval/accuracy", 0.5);
    bool improved, stop;
    char text[64];
    assert_int_equal(s.observe(s.self, &r, &improved, &stop, text, sizeof text), QN_ERR_CONFIG);
    assert_non_null(strstr(qn_error_message(), "eval/f1"));
    assert_non_null(strstr(qn_error_message(), "eval/loss, eval/accuracy"));
    qn_early_stop_free(&s);
}

static void test_defaults(void **state) {
    (void)state;
    qn_early_stop_config c = qn_early_stop_defaults();
    assert_string_equal(c.monitor, "eval/loss");
    assert_true(c.min_delta == 0 && !c.relative && !c.maximize);
    assert_true(c.unit == QN_PATIENCE_EVALS && c.patience > 0);
    assert_true(isnan(c.baseline) && isnan(c.stop_at) && isnan(c.diverge_at));
    assert_true(c.check_finite && c.restore_best);
    assert_int_equal(c.smoothing, 1);
}

static void test_modes(void **state) {
    (void)state;
    static const struct {
        const char *mode, *monitor;
        bool maximize;
    } known[] = {
        {"min", "eval/accuracy", false},    {"max", "eval/loss", true},
        {"auto", "eval/loss", false},       {"auto", "eval/perplexity", false},
        {"auto", "eval/mean_error", false}, {"auto", "eval/accuracy", true},
        {"auto", "eval/f1", true},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        bool maximize = !known[i].maximize;
        qn_assert_ok(qn_early_stop_mode(known[i].mode, known[i].monitor, &maximize));
        assert_int_equal(maximize, known[i].maximize);
    }
    bool maximize;
    assert_int_equal(qn_early_stop_mode("auto", "eval/speed", &maximize), QN_ERR_CONFIG);
    assert_non_null(strstr(qn_error_message(), "eval/speed"));
}

static void test_smoothing_out_of_range_is_refused(void **state) {
    (void)state;
    static const int wrong[] = {-1, 0, QN_MAX_SMOOTHING + 1};
    for (int i = 0; i < 3; i++) {
        qn_early_stop_config c = qn_early_stop_defaults();
        qn_stopper s;
        c.smoothing = wrong[i];
        assert_int_equal(qn_early_stop_create(&c, &s), QN_ERR_CONFIG);
    }
    qn_early_stop_config c = qn_early_stop_defaults();
    qn_stopper s;
    c.smoothing = QN_MAX_SMOOTHING;
    qn_assert_ok(qn_early_stop_create(&c, &s));
    qn_early_stop_free(&s);
    qn_early_stop_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_curves),
        cmocka_unit_test(test_saved_state_decides_the_same),
        cmocka_unit_test(test_the_reason_names_the_best),
        cmocka_unit_test(test_a_missing_monitor_lists_what_there_is),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_smoothing_out_of_range_is_refused),
    };
    return cmocka_run_group_tests_name("early_stop", tests, NULL, NULL);
}
