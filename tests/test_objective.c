/* test_objective.c — what evaluation reports of a classifier, from its table of counts. */
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <math.h>
#include <string.h>

static qn_record report(const qn_objective_config *c, const double *sums, int64_t labels) {
    qn_objective o;
    qn_record r = {0};
    qn_assert_ok(qn_objective_create("classify", c, &o));
    o.report(o.self, sums, labels, &r);
    return r;
}

/* Rows are targets. scikit-learn 1.x on the same twelve samples: f1_score(average="macro"),
 * matthews_corrcoef, accuracy_score. The third class is predicted once and never a target. */
static void test_table(void **state) {
    (void)state;
    const qn_objective_config c = {.classes = 3};
    const double counts[] = {5, 1, 0, 2, 3, 1, 0, 0, 0};
    qn_record r = report(&c, counts, 12);
    qn_assert_close(qn_record_get(&r, "eval/f1_macro", NAN), 0.4564102564102564, 1e-15, "f1");
    qn_assert_close(qn_record_get(&r, "eval/mcc", NAN), 0.40032038451271784, 1e-15, "mcc");
    qn_assert_close(qn_record_get(&r, "eval/accuracy", NAN), 8.0 / 12, 1e-15, "accuracy");
}

/* A class that is neither target nor prediction is not averaged; one prediction for all has no
 * correlation. */
static void test_edges(void **state) {
    (void)state;
    const qn_objective_config c = {.classes = 3};
    const double perfect[] = {2, 0, 0, 0, 4, 0, 0, 0, 0}, same[] = {3, 0, 0, 3, 0, 0, 0, 0, 0};
    qn_record r = report(&c, perfect, 6);
    assert_true(qn_record_get(&r, "eval/f1_macro", NAN) == 1);
    assert_true(qn_record_get(&r, "eval/mcc", NAN) == 1);
    r = report(&c, same, 6);
    assert_true(qn_record_get(&r, "eval/mcc", NAN) == 0);
    qn_assert_close(qn_record_get(&r, "eval/f1_macro", NAN), 1.0 / 3, 1e-15, "f1");
}

/* Without a number of classes, or with very many, the accuracy alone. */
static void test_accuracy_alone(void **state) {
    (void)state;
    static const int64_t classes[] = {0, 257};
    for (int i = 0; i < 2; i++) {
        const qn_objective_config c = {.classes = classes[i]};
        const double right = 3;
        qn_record r = report(&c, &right, 4);
        assert_true(qn_record_get(&r, "eval/accuracy", NAN) == 0.75);
        assert_int_equal(r.n, 1);
    }
}

/* A session adds the counts of its batches, padding left out: accuracy is the same either way. */
static void test_sessions_agree(void **state) {
    (void)state;
    double accuracy[2];
    for (int k = 0; k < 2; k++) {
        qn_rig r;
        qn_record a = {0};
        qn_rig_defaults(&r, "mlp");
        r.objective_config.classes = k ? r.config.classes : 0;
        qn_assert_ok(qn_rig_open(&r));
        qn_assert_ok(qn_session_evaluate(r.session, QN_SPLIT_VAL, 0, &a));
        accuracy[k] = qn_record_get(&a, "eval/accuracy", NAN);
        assert_true(isfinite(qn_record_get(&a, "eval/mcc", NAN)) == (k == 1));
        qn_rig_free(&r);
    }
    assert_true(accuracy[0] > 0 && accuracy[0] == accuracy[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_accuracy_alone),
        cmocka_unit_test(test_sessions_agree),
    };
    return cmocka_run_group_tests_name("objective", tests, NULL, NULL);
}
