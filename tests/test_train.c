/* test_train.c — the loop: the order of everything, early stopping, bad steps, interruption, and
 * a run cut anywhere and continued.
 */
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench { /* a trainer with a log, a vault and a constant rate */
    qn_rig rig;
    qn_log log;
    qn_vault vault;
    qn_sink sink;
    qn_saver saver;
    qn_schedule_config schedule_config;
    qn_schedule schedule;
    qn_early_stop_config stop_config;
    qn_stopper stopper;
    qn_trainer t;
} bench;

static bench *bench_new(const char *type) {
    bench *b = calloc(1, sizeof *b);
    if (!b) fail_msg("out of memory");
    qn_rig_defaults(&b->rig, type);
    b->rig.options.keep_best = true;
    b->schedule_config = (qn_schedule_config){.type = "cosine", .warmup_steps = 2, .end = 12};
    b->stop_config = qn_early_stop_defaults();
    b->vault.log = &b->log;
    b->log.quiet_train = true;
    b->t = (qn_trainer){.max_steps = 6, .log_every = 1};
    return b;
}

static void bench_open(bench *b, bool early_stop) {
    qn_assert_ok(qn_rig_open(&b->rig));
    qn_assert_ok(qn_schedule_create(&b->schedule_config, &b->schedule));
    b->sink = qn_log_sink(&b->log);
    b->saver = qn_vault_saver(&b->vault);
    b->t.session = b->rig.session;
    b->t.source = &b->rig.data.source;
    b->t.schedule = &b->schedule;
    b->t.saver = &b->saver;
    b->t.sink = &b->sink;
    b->t.n_sinks = 1;
    if (!early_stop) return;
    qn_assert_ok(qn_early_stop_create(&b->stop_config, &b->stopper));
    b->t.stopper = &b->stopper;
}

static void bench_free(bench *b) {
    if (b->t.stopper) qn_early_stop_free(&b->stopper);
    qn_vault_free(&b->vault);
    qn_rig_free(&b->rig);
    free(b);
}

static void expect_log(const bench *b, const char *want) {
    if (strcmp(b->log.text, want) != 0) {
        fail_msg("the run did\n%sexpected\n%s", b->log.text, want);
    }
}

/* ---- order and periods ----------------------------------------------------------------------- */

static void test_order_of_events(void **state) {
    (void)state;
    bench *b = bench_new("mlp");
    b->log.quiet_train = false;
    b->t.log_every = 2;
    b->t.eval_every = 2;
    b->t.save_every = 3;
    b->t.max_steps = 7;
    b->t.eval_at_start = true;
    bench_open(b, false);
    qn_assert_ok(qn_train(&b->t));
    expect_log(b, "eval 0\n"
                  "train 2\neval 2\n"
                  "save 3\n"
                  "train 4\neval 4\n"
                  "train 6\neval 6\nsave 6\n"
                  "train 7\neval 7\nsave 7\n" /* the end: the last step is logged, judged, saved */
                  "finish\n"
                  "end 7: done\n");
    assert_int_equal(b->t.progress.step, 7);
    assert_int_equal(b->t.progress.tokens, 7 * 8);
    bench_free(b);
}

static void test_nothing_asked_for_nothing_done(void **state) {
    (void)state;
    bench *b = bench_new("mlp");
    b->t.log_every = 0;
    bench_open(b, false);
    b->t.saver = NULL;
    b->log.quiet_train = false;
    qn_assert_ok(qn_train(&b->t));
    expect_log(b, "end 6: done\n");
    qn_assert_ok(qn_train(&b->t)); /* there already */
    assert_int_equal(b->t.progress.step, 6);
    bench_free(b);
}

typedef struct seen {
    int n;
    qn_record last;
    double rate[64], loss[64];
} seen;

static void watch(void *self, const qn_record *r) {
    seen *s = self;
    s->rate[s->n] = qn_record_get(r, "train/learning_rate", NAN);
    s->loss[s->n++] = qn_record_get(r, "train/loss", NAN);
    s->last = *r;
}

static void keep_last(void *self, qn_event event, const qn_record *r, const char *text) {
    (void)text;
    if (event == QN_EVENT_END) ((seen *)self)->last = *r;
}

static void test_records(void **state) {
    (void)state;
    bench *b = bench_new("mlp");
    seen s = {0};
    b->t.max_steps = 12;
    b->t.eval_every = 4;
    bench_open(b, true);
    b->sink = (qn_sink){.self = &s, .emit = keep_last, .progress = watch};
    qn_assert_ok(qn_train(&b->t));
    assert_int_equal(s.n, 12);
    for (int i = 0; i < 12; i++) {
        double factor = b->schedule.factor(b->schedule.self, i);
        assert_true(s.rate[i] == 1e-2 * factor);
        assert_true(isfinite(s.loss[i]));
    }
    assert_true(s.loss[11] < s.loss[0]);
    assert_int_equal(s.last.step, 12);
    qn_assert_close(s.last.epoch, 12 * 8 / 24.0, 1e-15, "epoch");
    assert_true(qn_record_get(&s.last, "summary/best_step", -1) == (double)b->t.progress.best_step);
    assert_true(qn_record_get(&s.last, "summary/best_value", -1) == b->t.progress.best_value);
    assert_true(qn_record_get(&s.last, "summary/samples", -1) == 12 * 8);
    assert_true(qn_record_get(&s.last, "summary/skipped_steps", -1) == 0);
    bench_free(b);
}

static void test_language_is_counted_in_tokens(void **state) {
    (void)state;
    bench *b = bench_new("gpt2");
    seen s = {0};
    bench_open(b, false);
    b->sink = (qn_sink){.self = &s, .emit = keep_last, .progress = watch};
    qn_assert_ok(qn_train(&b->t));
    const int32_t *targets = b->rig.data.data[1];
    int64_t counted = 0; /* six steps of eight samples: the 24 rows twice */
    for (int i = 0; i < 24 * 8; i++) counted += 2 * (targets[i] != QN_IGNORE_INDEX);
    assert_true(counted < 2 * 24 * 8);
    assert_int_equal(b->t.progress.tokens, counted);
    assert_true(qn_record_get(&s.last, "summary/tokens", -1) == (double)counted);
    bench_free(b);
}

static qn_status fetch_nothing(void *self, qn_split split, int64_t position, int64_t count,
                               void *const *dst, int64_t *labels) {
    (void)self;
    (void)split;
    (void)count;
    (void)dst;
    (void)labels;
    if (position >= 3 * 8) return qn_fail(QN_ERR_DATA, "row %lld is damaged", (long long)position);
    memset(dst[0], 0, 4 * 6 * sizeof(float));
    memset(dst[1], 0, 4 * sizeof(int32_t));
    *labels = 4;
    return QN_OK;
}

static void test_a_failure_ends_the_run_and_joins_the_saver(void **state) {
    (void)state;
    bench *b = bench_new("mlp");
    b->rig.data.source.fetch = fetch_nothing;
    b->t.save_every = 2;
    bench_open(b, false);
    assert_int_equal(qn_train(&b->t), QN_ERR_DATA);
    assert_string_equal(qn_error_message(), "row 24 is damaged");
    expect_log(b, "save 2\nfinish\nend 3: row 24 is damaged\n");
    bench_free(b);
}

/* ---- early stopping -------------------------------------------------------------------------- */

typedef struct script { /* a stopper that follows a script: + improved, . not, ! stop */
    const char *text;
    double at;
} script;

static qn_status follow(void *self, const qn_record *r, bool *improved, bool *stop, char *text,
                        size_t size) {
    script *s = self;
    char c = s->text[(int)s->at];
    (void)r;
    s->at += 1;
    *improved = c == '+';
    *stop = c == '!';
    if (*stop) snprintf(text, size, "the script says stop");
    return QN_OK;
}

static void use_script(bench *b, script *s, bool restore) {
    b->stopper = (qn_stopper){.self = s,
                              .monitor = "eval/loss",
                              .restore_best = restore,
                              .observe = follow,
                              .n_state = 1,
                              .state = &s->at};
    b->t.stopper = &b->stopper;
}

static void test_the_best_is_restored_after_the_last_save(void **state) {
    (void)state;
    for (int restore = 0; restore < 2; restore++) {
        script s = {.text = "++..!"};
        bench *b = bench_new("mlp");
        b->t.max_steps = 99;
        b->t.eval_every = 2;
        b->t.save_every = 4;
        bench_open(b, false);
        use_script(b, &s, restore);
        qn_assert_ok(qn_train(&b->t));
        char line[128] = "";
        if (restore) {
            snprintf(line, sizeof line,
                     "note 10: restored the best weights: eval/loss %.6g at step 4\n",
                     b->t.progress.best_value);
        }
        char want[1024];
        snprintf(want, sizeof want,
                 "eval 2\neval 4\nsave 4\neval 6\neval 8\nsave 8\neval 10\n"
                 "note 10: the script says stop\nsave 10\nfinish\n%send 10: stopped early\n",
                 line);
        expect_log(b, want);
        assert_true(b->t.progress.stopped);
        assert_int_equal(b->t.progress.best_step, 4);

        /* The weights of save 4 are in memory; save 10 holds those of step 10. */
        const qn_tensor *w = &b->rig.session->params->weights;
        uint64_t now = qn_hash_tensor(w);
        qn_progress p;
        qn_vault_load(&b->vault, 0, b->rig.session, &p, NULL);
        assert_int_equal(p.step, 4);
        uint64_t best = qn_hash_tensor(w);
        qn_vault_load(&b->vault, 2, b->rig.session, &p, NULL);
        assert_int_equal(p.step, 10);
        assert_true(p.stopped && p.best_step == 4);
        uint64_t last = qn_hash_tensor(w);
        assert_int_not_equal(best, last);
        assert_int_equal(now, restore ? best : last);

        /* A stopped run stays stopped, and is restored again. */
        b->t.progress = p;
        qn_assert_ok(qn_train(&b->t));
        assert_int_equal(b->t.progress.step, 10);
        assert_int_equal(qn_hash_tensor(w), restore ? best : last);
        b->t.stopper = NULL;
        bench_free(b);
    }
}

static void test_the_budget_ends_before_the_patience(void **state) {
    (void)state;
    script s = {.text = "+.."};
    bench *b = bench_new("mlp");
    b->t.eval_every = 2;
    bench_open(b, false);
    use_script(b, &s, true);
    qn_assert_ok(qn_train(&b->t));
    assert_int_equal(b->t.progress.best_step, 2);
    assert_false(b->t.progress.stopped);
    assert_int_equal(qn_log_count(&b->log, "restored the best weights"), 1);
    assert_int_equal(qn_log_count(&b->log, "end 6: done"), 1);
    b->t.stopper = NULL;
    bench_free(b);
}

static void test_the_last_step_is_the_best(void **state) {
    (void)state;
    script s = {.text = "+++"};
    bench *b = bench_new("mlp");
    b->t.eval_every = 2;
    bench_open(b, false);
    use_script(b, &s, true);
    qn_assert_ok(qn_train(&b->t));
    assert_int_equal(qn_log_count(&b->log, "restored"), 0);
    b->t.stopper = NULL;
    bench_free(b);
}

/* ---- steps the guard refuses ----------------------------------------------------------------- */

static bench *bad_bench(qn_poison *poison, qn_nonfinite_policy policy, int64_t max_skips) {
    bench *b = bench_new("mlp");
    qn_poison_source(poison, &b->rig, NAN, 3 * 8 + 5); /* step 4 of 6, second micro-batch */
    b->t.on_nonfinite = policy;
    b->t.max_skips = max_skips;
    b->t.save_every = 2;
    bench_open(b, false);
    return b;
}

#define CAUSE "micro-accumulate: layers.0 linear:y element 8 = "

static void test_stop(void **state) {
    (void)state;
    qn_poison poison;
    bench *b = bad_bench(&poison, QN_NONFINITE_STOP, 10);
    assert_int_equal(qn_train(&b->t), QN_ERR_NONFINITE);
    assert_non_null(strstr(qn_error_message(), "step 4 was not applied"));
    assert_non_null(strstr(qn_error_message(), CAUSE));
    assert_int_equal(b->t.progress.step, 3);
    assert_int_equal(b->vault.n, 1);
    assert_int_equal(qn_log_count(&b->log, "note 3: step 4 was not applied"), 1);
    assert_int_equal(qn_log_count(&b->log, "end 3: step 4 was not applied"), 1);
    bench_free(b);
}

static void test_skip(void **state) {
    (void)state;
    qn_poison poison;
    bench *b = bad_bench(&poison, QN_NONFINITE_SKIP, 1);
    qn_assert_ok(qn_train(&b->t));
    assert_int_equal(b->t.progress.step, 6);
    assert_int_equal(b->t.progress.skipped, 1);
    assert_int_equal(qn_log_count(&b->log, CAUSE), 1);
    assert_int_equal(qn_log_count(&b->log, "load"), 0);
    assert_true(qn_tensor_get(&b->rig.session->hyper, 1) == 5); /* updates done */
    bench_free(b);
}

static void test_max_skips_are_in_a_row(void **state) {
    (void)state;
    for (int row = 0; row < 2; row++) { /* three bad steps: apart, then in a row */
        qn_poison poison;
        bench *b = bad_bench(&poison, QN_NONFINITE_SKIP, 2);
        b->t.max_steps = 12;
        poison.position[1] = (row ? 4 : 5) * 8;
        poison.position[2] = (row ? 5 : 7) * 8;
        if (row) {
            assert_int_equal(qn_train(&b->t), QN_ERR_NONFINITE);
            assert_int_equal(b->t.progress.step, 5);
            assert_int_equal(b->t.progress.skipped, 2);
        } else {
            qn_assert_ok(qn_train(&b->t));
            assert_int_equal(b->t.progress.skipped, 3);
        }
        bench_free(b);
    }
}

static void test_roll_back(void **state) {
    (void)state;
    qn_poison poison;
    script s = {.text = "......"};
    bench *b = bad_bench(&poison, QN_NONFINITE_ROLLBACK, 1);
    b->t.eval_every = 2;
    use_script(b, &s, false);
    qn_assert_ok(qn_train(&b->t));
    assert_int_equal(qn_log_count(&b->log, CAUSE), 1);
    assert_int_equal(qn_log_count(&b->log, "note 2: rolled back to step 2"), 1);
    /* what was done at step 2 is not done again */
    assert_int_equal(qn_log_count(&b->log, "eval 2"), 1);
    assert_int_equal(qn_log_count(&b->log, "save 2"), 1);
    assert_int_equal(qn_log_count(&b->log, "load 2"), 1);
    assert_int_equal(b->vault.n, 3);
    assert_true(s.at == 3);
    assert_int_equal(b->t.progress.step, 6);
    assert_int_equal(b->t.progress.rollbacks, 1);
    assert_int_equal(b->t.progress.skipped, 1);
    assert_int_equal(b->t.progress.data_offset, 2 * 8); /* steps 3 and 4 of the data */
    assert_int_equal(b->t.progress.tokens, 6 * 8);
    uint64_t digest = qn_rig_digest(&b->rig);
    b->t.stopper = NULL;
    bench_free(b);

    /* The same by hand: two steps, then four over the data after the bad step. */
    qn_rig r;
    qn_step_report report;
    bench *c = bench_new("mlp");
    bench_open(c, false);
    qn_rig_defaults(&r, "mlp");
    r.options.keep_best = true;
    qn_assert_ok(qn_rig_open(&r));
    for (int64_t k = 0; k < 6; k++) {
        double lr = 1e-2 * c->schedule.factor(c->schedule.self, k);
        qn_assert_ok(qn_rig_step(&r, k < 2 ? k : k + 2, lr, &report));
    }
    assert_int_equal(qn_rig_digest(&r), digest);
    qn_rig_free(&r);
    bench_free(c);
}

/* Whatever the data, every step past step 4 is bad: rolling back must come to an end. */
static void test_rolling_back_comes_to_an_end(void **state) {
    (void)state;
    qn_poison poison;
    bench *b = bad_bench(&poison, QN_NONFINITE_ROLLBACK, 3);
    for (int k = 0; k < 8; k++) poison.position[k] = (3 + 2 * k) * 8;
    assert_int_equal(qn_train(&b->t), QN_ERR_NONFINITE);
    assert_int_equal(b->t.progress.rollbacks, 3);
    bench_free(b);
}

static void test_nothing_to_roll_back_to(void **state) {
    (void)state;
    qn_poison poison;
    bench *b = bad_bench(&poison, QN_NONFINITE_ROLLBACK, 3);
    b->t.save_every = 0;
    assert_int_equal(qn_train(&b->t), QN_ERR_IO);
    assert_string_equal(qn_error_message(), "no checkpoint to roll back to");
    bench_free(b);
}

/* ---- interruption and resumption ------------------------------------------------------------- */

static int calls_left, wanted; /* of the interruption below */

static int interrupt_later(void) { return --calls_left < 0 ? wanted : 0; }

static void test_interruption_saves_and_says_so(void **state) {
    (void)state;
    static const qn_status kinds[] = {QN_ERR_INTERRUPTED, QN_ERR_REQUEUE};
    for (int k = 0; k < 2; k++) {
        script s = {.text = "+....."};
        bench *b = bench_new("mlp");
        b->t.eval_every = 1;
        bench_open(b, false);
        use_script(b, &s, true);
        b->t.interrupted = interrupt_later;
        calls_left = 2;
        wanted = kinds[k];
        assert_int_equal(qn_train(&b->t), kinds[k]);
        expect_log(b, "eval 1\neval 2\neval 3\nsave 3\nfinish\n"
                      "end 3: interrupted after step 3; state saved\n"); /* nothing restored */
        assert_int_equal(b->vault.item[0].progress.step, 3);
        b->t.stopper = NULL;
        bench_free(b);
    }
    bench *b = bench_new("mlp"); /* at the last step there is nothing left to interrupt */
    bench_open(b, false);
    b->t.interrupted = interrupt_later;
    calls_left = 5;
    qn_assert_ok(qn_train(&b->t));
    expect_log(b, "save 6\nfinish\nend 6: done\n");
    bench_free(b);
}

enum { LONG = 12 };

static bench *long_bench(const char *type, qn_precision precision) {
    bench *b = bench_new(type);
    b->rig.options.precision = precision;
    b->rig.options.spike_threshold = 50;
    b->rig.options.spike_window = 4;
    b->rig.config.dropout = b->rig.config.attention_dropout = 0.1;
    b->rig.config.embedding_dropout = 0.1;
    b->t.max_steps = LONG;
    b->t.eval_every = 3;
    b->stop_config.patience = 2;
    b->stop_config.smoothing = 2;
    b->t.on_nonfinite = QN_NONFINITE_SKIP;
    b->t.max_skips = 2;
    return b;
}

static void same_progress(const qn_progress *a, const qn_progress *b) {
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->tokens, b->tokens);
    assert_int_equal(a->skipped, b->skipped);
    assert_int_equal(a->best_step, b->best_step);
    assert_true(a->best_value == b->best_value);
    assert_int_equal(a->stopped, b->stopped);
}

/* A run cut after step `cut` and continued by a fresh trainer from what was saved. */
static void check_cut(const char *type, qn_precision precision, bool poisoned, int cut,
                      uint64_t want, const qn_progress *whole) {
    qn_poison poison;
    bench *first = long_bench(type, precision), *second = long_bench(type, precision);
    if (poisoned) qn_poison_source(&poison, &first->rig, NAN, 5 * 8);
    bench_open(first, true);
    first->t.interrupted = interrupt_later;
    calls_left = cut - 1;
    wanted = QN_ERR_REQUEUE;
    assert_int_equal(qn_train(&first->t), QN_ERR_REQUEUE);
    assert_int_equal(first->t.progress.step, cut);

    if (poisoned) qn_poison_source(&poison, &second->rig, NAN, 5 * 8);
    bench_open(second, true);
    qn_vault_load(&first->vault, first->vault.n - 1, second->rig.session, &second->t.progress,
                  &second->stopper);
    qn_assert_ok(qn_train(&second->t));
    same_progress(&second->t.progress, whole);
    if (qn_rig_digest(&second->rig) != want) fail_msg("%s cut after step %d differs", type, cut);
    bench_free(first);
    bench_free(second);
}

static void test_a_run_cut_anywhere_ends_in_the_same_bits(void **state) {
    (void)state;
    static const struct {
        const char *type;
        qn_precision precision;
        bool poisoned;
    } runs[] = {{"mlp", QN_PRECISION_F32, false},
                {"mlp", QN_PRECISION_F32, true},
                {"gpt2", QN_PRECISION_F32, false},
                {"llama", QN_PRECISION_BF16, false},
                {"mlp", QN_PRECISION_BF16_SR, false}};
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
        qn_poison poison;
        bench *b = long_bench(runs[k].type, runs[k].precision);
        if (runs[k].poisoned) qn_poison_source(&poison, &b->rig, NAN, 5 * 8);
        bench_open(b, true);
        qn_assert_ok(qn_train(&b->t));
        assert_int_equal(b->t.progress.skipped, runs[k].poisoned ? 1 : 0);
        uint64_t whole = qn_rig_digest(&b->rig);
        int end = (int)b->t.progress.step;
        assert_true(end >= 6);
        for (int cut = 1; cut < end; cut++) {
            check_cut(runs[k].type, runs[k].precision, runs[k].poisoned, cut, whole,
                      &b->t.progress);
        }
        bench_free(b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_events),
        cmocka_unit_test(test_nothing_asked_for_nothing_done),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_language_is_counted_in_tokens),
        cmocka_unit_test(test_a_failure_ends_the_run_and_joins_the_saver),
        cmocka_unit_test(test_the_best_is_restored_after_the_last_save),
        cmocka_unit_test(test_the_budget_ends_before_the_patience),
        cmocka_unit_test(test_the_last_step_is_the_best),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_max_skips_are_in_a_row),
        cmocka_unit_test(test_roll_back),
        cmocka_unit_test(test_rolling_back_comes_to_an_end),
        cmocka_unit_test(test_nothing_to_roll_back_to),
        cmocka_unit_test(test_interruption_saves_and_says_so),
        cmocka_unit_test(test_a_run_cut_anywhere_ends_in_the_same_bits),
    };
    return cmocka_run_group_tests_name("train", tests, NULL, NULL);
}
