/* test_session.c — the memory and programs of a run: the plan is what is reserved, replay allocates
 * nothing, recomputation trades memory, and a bad step never reaches the weights.
 */
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const types[] = {"gpt2", "llama", "mlp"};
static const qn_precision precisions[] = {QN_PRECISION_F32, QN_PRECISION_BF16, QN_PRECISION_BF16_SR,
                                          QN_PRECISION_F64};

/* ---- the plan -------------------------------------------------------------------------------- */

static void check_sums(const qn_session *s) {
    int64_t run = 0, pool = 0;
    for (int i = 0; i < QN_CLASS_COUNT; i++) run += s->class_bytes[i];
    for (int k = 0; k < QN_PROGRAM_COUNT; k++) {
        int64_t bytes = s->program[k] ? (int64_t)qn_program_pool_bytes(s->program[k]) : 0;
        if (bytes > pool) pool = bytes;
    }
    assert_int_equal(s->class_bytes[QN_CLASS_TEMP], 0);
    assert_int_equal(s->run_bytes, run);
    assert_int_equal(s->pool_bytes, pool);
}

/* Every tensor of the run lies inside the run arena, and none over another. */
static void check_places(const qn_session *s) {
    const qn_params *p = s->params;
    const qn_tensor *all[64] = {&p->weights, &p->master, &p->grads,    &p->moment[0], &p->moment[1],
                                &p->best,    &s->rng,    &s->inv_n,    &s->loss,      &s->norm,
                                &s->hyper,   &s->guard,  &s->eval_loss};
    int n = 13;
    if (s->objective->n_sums > 0) all[n++] = &s->eval_sums;
    for (int i = 0; i < s->source->n_fields; i++) {
        all[n++] = &s->field[i];
        all[n++] = &s->staging[i];
        if (s->o.evaluate) all[n++] = &s->eval_field[i];
    }
    const char *base = qn_arena_base(s->run), *end = base + qn_arena_bytes(s->run);
    for (int i = 0; i < n; i++) {
        const char *a = all[i]->data, *a_end = a + qn_tensor_bytes(all[i]);
        if (!a) continue;
        assert_true(a >= base && a_end <= end);
        assert_int_equal((uintptr_t)a % 64, 0);
        for (int k = 0; k < i; k++) {
            const char *b = all[k]->data, *b_end = b ? b + qn_tensor_bytes(all[k]) : b;
            assert_true(!b || a_end <= b || b_end <= a);
        }
    }
}

static void test_plan_is_what_is_reserved(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        for (int j = 0; j < 4 * 4; j++) {
            qn_rig r;
            qn_rig_defaults(&r, types[k]);
            r.options.precision = precisions[j / 4];
            r.options.keep_best = j & 1;
            r.options.evaluate = !(j & 2);
            r.options.accumulate = j & 2 ? 1 : 3;
            r.options.plan_only = true;
            qn_assert_ok(qn_rig_open(&r));
            check_sums(r.session);
            int64_t run = r.session->run_bytes, pool = r.session->pool_bytes;
            assert_null(r.session->run);
            assert_null(r.session->pool);
            assert_null(r.session->params->weights.data);
            qn_rig_close_session(&r);

            r.options.plan_only = false;
            qn_assert_ok(qn_rig_open(&r));
            check_sums(r.session);
            check_places(r.session);
            assert_int_equal(r.session->run_bytes, run);
            assert_int_equal(r.session->pool_bytes, pool);
            assert_int_equal(qn_arena_bytes(r.session->run), run);
            assert_int_equal(qn_arena_bytes(r.session->pool), pool);
            qn_rig_free(&r);
        }
    }
}

/* GPT-2 at its published size and full context: gigabytes on paper, none in memory. */
static void published_gpt2(qn_rig *r) {
    qn_rig_defaults(r, "gpt2");
    r->config.vocab_size = 50257;
    r->config.hidden_size = 768;
    r->config.num_hidden_layers = 12;
    r->config.num_attention_heads = r->config.num_key_value_heads = 12;
    r->config.head_dim = 64;
    r->config.intermediate_size = 3072;
    r->config.max_position_embeddings = 1024;
    r->data.source.field[0].shape[0] = r->data.source.field[1].shape[0] = 1024;
    r->options.batch_size = r->options.eval_batch_size = 8;
    r->options.plan_only = true;
}

static int64_t resident_kib(void) {
    char line[256];
    long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) (void)sscanf(line, "VmHWM: %lld kB", &kib);
    fclose(f);
    return kib;
}

static void test_planning_touches_no_memory(void **state) {
    (void)state;
    qn_rig r;
    published_gpt2(&r);
    int64_t before = resident_kib();
    qn_assert_ok(qn_rig_open(&r));
    assert_true(r.session->run_bytes > 124439808LL * 16);
    assert_true(r.session->pool_bytes > 1LL << 30);
    assert_in_range(resident_kib() - before, 0, 32 * 1024); /* tapes and tables */
    double flops = qn_session_flops_per_step(r.session);
    /* 6 N per token for the matrices (the token table once, as the head), and attention above it;
     * two micro-batches of 8 x 1024 tokens. */
    double matrices = 6.0 * (124439808.0 - 1024 * 768) * 2 * 8 * 1024;
    assert_true(flops > matrices && flops < 1.25 * matrices);
    qn_rig_free(&r);
}

static void test_replay_allocates_nothing(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        for (int j = 0; j < 4; j++) {
            qn_rig r;
            qn_rig_defaults(&r, types[k]);
            r.options.precision = precisions[j];
            r.options.threads = 2;
            r.options.keep_best = true;
            r.config.dropout = r.config.attention_dropout = 0.1;
            qn_assert_ok(qn_rig_open(&r));
            int64_t before = qn_alloc_count();
            for (int64_t s = 0; s < 20; s++) {
                qn_step_report report;
                qn_assert_ok(qn_rig_step(&r, s, 1e-3, &report));
                assert_true(report.applied);
            }
            qn_record record = {0};
            qn_assert_ok(qn_session_evaluate(r.session, QN_SPLIT_VAL, 0, &record));
            qn_assert_ok(qn_session_snapshot_best(r.session));
            qn_assert_ok(qn_session_restore_best(r.session));
            assert_int_equal(qn_alloc_count(), before);
            qn_rig_free(&r);
        }
    }
}

/* ---- recomputation and limits ---------------------------------------------------------------- */

static void planned(qn_rig *r, const char *const *recompute, int64_t limit, bool automatic) {
    qn_rig_close_session(r);
    r->options.recompute = recompute;
    r->options.memory_limit = limit;
    r->options.recompute_auto = automatic;
    qn_assert_ok(qn_rig_open(r));
}

static void test_recomputation_lowers_the_plan(void **state) {
    (void)state;
    static const char *const all[] = {"blocks.*", NULL}, *const some[] = {"blocks.*.mlp", NULL};
    qn_rig r;
    published_gpt2(&r);
    planned(&r, NULL, 0, false);
    int64_t run = r.session->run_bytes, none = r.session->pool_bytes;
    double flops = qn_session_flops_per_step(r.session);
    planned(&r, some, 0, false);
    int64_t partly = r.session->pool_bytes;
    planned(&r, all, 0, false);
    int64_t least = r.session->pool_bytes;
    assert_true(partly < none && least < partly && least < none / 2);
    assert_int_equal(r.session->run_bytes, run);
    double more = qn_session_flops_per_step(r.session) / flops;
    assert_true(more > 1.05 && more < 4.0 / 3.0); /* one more forward pass of the blocks */

    planned(&r, NULL, 0, true); /* no limit to reach: nothing to recompute */
    assert_int_equal(r.session->recomputed, 0);
    assert_int_equal(r.session->pool_bytes, none);
    int before = 0;
    for (int i = 4; i >= 0; i--) { /* tighter and tighter */
        int64_t limit = run + least + (none - least) * i / 4;
        planned(&r, NULL, limit, true);
        assert_true(r.session->run_bytes + r.session->pool_bytes <= limit);
        assert_true(r.session->recomputed >= before);
        before = r.session->recomputed;
    }
    assert_int_equal(before, 12);
    qn_rig_free(&r);
}

static void test_a_plan_over_the_limit_is_refused(void **state) {
    (void)state;
    qn_rig r;
    qn_rig_defaults(&r, "gpt2");
    r.options.plan_only = true;
    planned(&r, NULL, 0, false);
    int64_t total = r.session->run_bytes + r.session->pool_bytes;
    planned(&r, NULL, total - 1, false); /* a plan alone is shown, whatever the limit */
    assert_int_equal(r.session->run_bytes + r.session->pool_bytes, total);
    qn_rig_close_session(&r);

    r.options.plan_only = false;
    r.options.memory_limit = total - 1;
    assert_int_equal(qn_rig_open(&r), QN_ERR_OOM);
    assert_non_null(strstr(qn_error_message(), "train.memory_limit"));
    assert_null(r.session);
    r.options.memory_limit = total;
    qn_assert_ok(qn_rig_open(&r));
    qn_rig_free(&r);
}

/* ---- steps and evaluation -------------------------------------------------------------------- */

/* Rows 8 to 15 as a validation split and as the second training step, in two micro-batches: both
 * losses are the mean over the same labels. */
static void test_labels_are_counted_over_the_whole_step(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        qn_rig r;
        qn_step_report report;
        qn_record record = {0};
        qn_rig_defaults(&r, types[k]);
        r.data.source.n[QN_SPLIT_VAL] = r.data.source.n[QN_SPLIT_TRAIN] = 8;
        qn_assert_ok(qn_rig_open(&r));
        qn_assert_ok(qn_session_evaluate(r.session, QN_SPLIT_VAL, 0, &record));
        r.data.source.n[QN_SPLIT_TRAIN] = 24;
        qn_assert_ok(qn_rig_step(&r, 1, 1e-3, &report));
        qn_assert_close(report.loss, qn_record_get(&record, "eval/loss", NAN), 1e-6, types[k]);
        qn_rig_free(&r);
    }
}

static void test_evaluation(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        double loss[3];
        for (int j = 0; j < 3; j++) { /* ten rows by 4, by 10 and by 16: padding changes nothing */
            static const int64_t sizes[] = {4, 10, 16};
            qn_rig r;
            qn_rig_defaults(&r, types[k]);
            r.options.eval_batch_size = sizes[j];
            r.config.dropout = r.config.attention_dropout = 0.5; /* off in evaluation */
            qn_assert_ok(qn_rig_open(&r));
            uint64_t digest = qn_rig_digest(&r);
            qn_record a = {0}, b = {0}, part = {0};
            qn_assert_ok(qn_session_evaluate(r.session, QN_SPLIT_VAL, 0, &a));
            qn_assert_ok(qn_session_evaluate(r.session, QN_SPLIT_VAL, 0, &b));
            qn_assert_ok(qn_session_evaluate(r.session, QN_SPLIT_VAL, 1, &part));
            loss[j] = qn_record_get(&a, "eval/loss", NAN);
            assert_true(loss[j] == qn_record_get(&b, "eval/loss", NAN));
            assert_true((loss[j] == qn_record_get(&part, "eval/loss", NAN)) == (j > 0));
            double perplexity = qn_record_get(&a, "eval/perplexity", -1);
            double accuracy = qn_record_get(&a, "eval/accuracy", -1);
            assert_true(k == 2 ? perplexity == -1 : perplexity == exp(loss[j]));
            assert_true(k == 2 ? accuracy >= 0 && accuracy <= 1 : accuracy == -1);
            assert_int_equal(qn_rig_digest(&r), digest);
            qn_rig_free(&r);
        }
        qn_assert_close(loss[1], loss[0], 1e-6, "eval/loss by 10");
        qn_assert_close(loss[2], loss[0], 1e-6, "eval/loss by 16");
    }
}

static void test_a_split_without_targets_is_refused(void **state) {
    (void)state;
    qn_rig r;
    qn_rig_defaults(&r, "mlp");
    qn_assert_ok(qn_rig_open(&r));
    r.data.source.n[QN_SPLIT_VAL] = 0;
    qn_record record = {0};
    assert_int_equal(qn_session_evaluate(r.session, QN_SPLIT_VAL, 0, &record), QN_ERR_DATA);
    qn_rig_free(&r);
}

static void test_best_weights_come_back(void **state) {
    (void)state;
    for (int j = 0; j < 4; j++) {
        qn_rig r;
        qn_step_report report;
        qn_rig_defaults(&r, "mlp");
        r.options.precision = precisions[j];
        r.options.keep_best = true;
        qn_assert_ok(qn_rig_open(&r));
        const qn_params *p = r.session->params;
        qn_assert_ok(qn_rig_step(&r, 0, 1e-2, &report));
        uint64_t weights = qn_hash_tensor(&p->weights);
        uint64_t master = p->master.data ? qn_hash_tensor(&p->master) : 0;
        qn_assert_ok(qn_session_snapshot_best(r.session));
        qn_assert_ok(qn_rig_step(&r, 1, 1e-2, &report));
        assert_int_not_equal(qn_hash_tensor(&p->weights), weights);
        qn_assert_ok(qn_session_restore_best(r.session));
        assert_int_equal(qn_hash_tensor(&p->weights), weights);
        if (master) assert_int_equal(qn_hash_tensor(&p->master), master);
        qn_rig_free(&r);
    }
}

/* ---- the guard ------------------------------------------------------------------------------- */

/* Step 1 holds samples 8 to 15; sample 13 is in its second micro-batch. */
static void bad_step(qn_rig *r, qn_poison *poison, float factor, int64_t sample) {
    qn_rig_defaults(r, "mlp");
    qn_poison_source(poison, r, factor, sample);
}

static void test_a_bad_number_never_reaches_the_weights(void **state) {
    (void)state;
    static const struct {
        int64_t sample;
        float factor;
        const char *said;
    } cases[] = {{13, NAN, "micro-accumulate: layers.0 linear:y element 8 = "},
                 {9, NAN, "micro-first: layers.0 linear:y element 8 = "},
                 {9, INFINITY, "micro-first: layers.0 linear:y element "}};
    for (int j = 0; j < 3; j++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            qn_rig r;
            qn_poison poison;
            qn_step_report report;
            char text[256];
            bad_step(&r, &poison, cases[i].factor, cases[i].sample);
            r.options.precision = precisions[j];
            qn_assert_ok(qn_rig_open(&r));
            qn_assert_ok(qn_rig_step(&r, 0, 1e-2, &report));
            assert_true(report.applied && isfinite(report.loss));

            uint64_t weights = qn_hash_tensor(&r.session->params->weights);
            uint64_t moments = qn_hash_tensor(&r.session->params->moment[0]);
            qn_assert_ok(qn_rig_step(&r, 1, 1e-2, &report));
            assert_false(report.applied);
            assert_false(isfinite(report.loss) && isfinite(report.grad_norm));
            assert_int_equal(qn_hash_tensor(&r.session->params->weights), weights);
            assert_int_equal(qn_hash_tensor(&r.session->params->moment[0]), moments);
            qn_assert_ok(qn_session_explain(r.session, text, sizeof text));
            if (!strstr(text, precisions[j] == QN_PRECISION_F32 ? cases[i].said : "cast:")) {
                fail_msg("the cause is given as \"%s\"", text);
            }
            assert_int_equal(qn_hash_tensor(&r.session->params->weights), weights);

            qn_assert_ok(qn_rig_step(&r, 2, 1e-2, &report)); /* blocked until the host allows */
            assert_false(report.applied);
            assert_int_equal(qn_hash_tensor(&r.session->params->weights), weights);
            qn_assert_ok(qn_session_allow_updates(r.session));
            qn_assert_ok(qn_rig_step(&r, 2, 1e-2, &report));
            assert_true(report.applied && isfinite(report.grad_norm));
            assert_int_not_equal(qn_hash_tensor(&r.session->params->weights), weights);
            qn_rig_free(&r);
        }
    }
}

/* A refused step leaves no trace: not in t, moments or the spike window. */
static void test_a_refused_step_leaves_no_trace(void **state) {
    (void)state;
    static const char *const optimizers[] = {"adamw", "sgd"};
    for (int k = 0; k < 2; k++) {
        uint64_t digest[2];
        for (int with = 0; with < 2; with++) {
            qn_rig r;
            qn_poison poison;
            qn_step_report report;
            bad_step(&r, &poison, NAN, 13);
            r.optimizer_config.type = optimizers[k];
            r.optimizer_config.momentum = 0.9;
            r.options.spike_threshold = 8;
            r.options.spike_window = 3;
            qn_assert_ok(qn_rig_open(&r));
            for (int64_t s = 0; s < 6; s++) {
                if (s == 1 && !with) continue;
                qn_assert_ok(qn_rig_step(&r, s, 1e-2, &report));
                assert_int_equal(report.applied, s != 1);
                if (s == 1) qn_assert_ok(qn_session_allow_updates(r.session));
            }
            digest[with] = qn_rig_digest(&r);
            qn_rig_free(&r);
        }
        assert_int_equal(digest[0], digest[1]);
    }
}

static void test_a_spike_is_refused(void **state) {
    (void)state;
    qn_rig r;
    qn_poison poison;
    qn_step_report report;
    char text[256];
    bad_step(&r, &poison, 1e6f, 8 * 7 + 2); /* in step 7 */
    r.options.spike_threshold = 10;
    r.options.spike_window = 5;
    qn_assert_ok(qn_rig_open(&r));
    for (int64_t s = 0; s < 9; s++) {
        uint64_t weights = qn_hash_tensor(&r.session->params->weights);
        qn_assert_ok(qn_rig_step(&r, s, 1e-3, &report));
        assert_int_equal(report.applied, s != 7);
        if (s != 7) continue;
        assert_true(isfinite(report.loss));
        assert_int_equal(qn_hash_tensor(&r.session->params->weights), weights);
        qn_assert_ok(qn_session_explain(r.session, text, sizeof text));
        assert_non_null(strstr(text, "every tensor is finite"));
        assert_non_null(strstr(text, "spike"));
        qn_assert_ok(qn_session_allow_updates(r.session));
    }
    qn_rig_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planning_touches_no_memory), /* first: it looks at the peak */
        cmocka_unit_test(test_plan_is_what_is_reserved),
        cmocka_unit_test(test_replay_allocates_nothing),
        cmocka_unit_test(test_recomputation_lowers_the_plan),
        cmocka_unit_test(test_a_plan_over_the_limit_is_refused),
        cmocka_unit_test(test_labels_are_counted_over_the_whole_step),
        cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_a_split_without_targets_is_refused),
        cmocka_unit_test(test_best_weights_come_back),
        cmocka_unit_test(test_a_bad_number_never_reaches_the_weights),
        cmocka_unit_test(test_a_refused_step_leaves_no_trace),
        cmocka_unit_test(test_a_spike_is_refused),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
