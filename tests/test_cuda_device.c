/* test_cuda_device.c — CUDA as a device: memory, programs as graphs, training one step ahead.
 *
 * Runs where a CUDA device answers, on the emulated one in the emu preset; skipped elsewhere,
 * except what a build without CUDA promises. What a kernel computes is the op cases' matter.
 */
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void need_cuda(void) {
    if (qn_cuda_usable()) return;
    if (!qn_device_built(QN_CUDA)) print_message("this build has no CUDA\n");
    skip();
}

/* ---- the device ------------------------------------------------------------------------------ */

static void test_names(void **state) {
    (void)state;
    qn_device d;
    char text[256];
    bool usable = qn_cuda_usable();
    qn_assert_ok(qn_device_resolve("auto", false, &d, text, sizeof text));
    assert_int_equal(d, usable ? QN_CUDA : QN_CPU);
    assert_memory_equal(text, "device \"auto\": ", 15);
    qn_assert_ok(qn_device_resolve("cpu", false, &d, text, sizeof text));
    assert_int_equal(d, QN_CPU);
    qn_status s = qn_device_resolve("cuda", false, &d, text, sizeof text);
    assert_int_equal(s, usable ? QN_OK : QN_ERR_DEVICE);
    if (!usable) assert_non_null(strstr(qn_error_message(), "\"cuda\" was asked for: "));
    /* A plan needs the kernels' sizes, not a device. */
    s = qn_device_resolve("cuda", true, &d, text, sizeof text);
    assert_int_equal(s, qn_device_built(QN_CUDA) ? QN_OK : QN_ERR_DEVICE);
}

static void test_memory(void **state) {
    (void)state;
    need_cuda();
    enum { BYTES = 100003 };
    unsigned char *here = malloc(BYTES);
    assert_non_null(here);
    qn_arena *a, *b;
    qn_assert_ok(qn_arena_create_on(QN_CUDA, "test", BYTES, &a));
    qn_assert_ok(qn_arena_create_staging(QN_CUDA, "test staging", BYTES, &b));
    assert_int_equal((uintptr_t)qn_arena_base(a) % 256, 0);
    qn_assert_ok(qn_device_copy(QN_CUDA, here, qn_arena_base(a), BYTES));
    for (int i = 0; i < BYTES; i++) assert_int_equal(here[i], 0);
    unsigned char *staging = qn_arena_base(b);
    for (int i = 0; i < BYTES; i++) staging[i] = (unsigned char)(i * 7);
    qn_assert_ok(qn_device_copy(QN_CUDA, qn_arena_base(a), staging, BYTES));
    qn_assert_ok(qn_device_copy(QN_CUDA, here, qn_arena_base(a), BYTES));
    assert_memory_equal(here, staging, BYTES);
    qn_arena_poison(a);
    qn_assert_ok(qn_device_copy(QN_CUDA, here, qn_arena_base(a), BYTES));
    for (int i = 0; i < BYTES; i++) assert_int_equal(here[i], 0xFF);
    qn_arena_free(a);
    qn_arena_free(b);
    free(here);

    qn_arena *none = NULL;
    assert_int_equal(qn_arena_create_on(QN_CUDA, "pool", (size_t)1 << 46, &none), QN_ERR_OOM);
    assert_non_null(strstr(qn_error_message(), "the pool arena: out of GPU memory"));
    assert_null(none);
}

/* ---- programs -------------------------------------------------------------------------------- */

enum { N = 1000 };

typedef struct small_program {
    qn_arena *given, *pool;
    qn_program *program;
    qn_value *out, *norm;
} small_program;

/* y = exp(2 x) + x, and the length of y, whose kernel asks for scratch. */
static qn_status record_small(small_program *p, qn_tape *t, const qn_tensor *x,
                              const qn_segment *segment) {
    qn_value *in = qn_tape_given(t, "x", QN_CLASS_INPUT, x, false);
    qn_value *y = qn_add(t, qn_unary_op(t, qn_scale(t, in, 2, 0), QN_EXP), in);
    p->out = qn_tape_keep(t, y, "y");
    p->norm = qn_tape_keep(t, qn_grad_norm(t, y, segment, 1), "norm");
    return qn_tape_status(t);
}

static void small_open(small_program *p, bool no_graph, float first) {
    static const qn_segment segment = {0, N, 1, 0};
    float values[N];
    for (int i = 0; i < N; i++) values[i] = i ? (float)i / N - 0.5f : first;
    *p = (small_program){0};
    qn_assert_ok(qn_arena_create_on(QN_CUDA, "given", sizeof values, &p->given));
    qn_tensor x = qn_tensor_make(qn_arena_base(p->given), QN_F32, QN_SHAPE(N));
    qn_assert_ok(qn_device_copy(QN_CUDA, x.data, values, sizeof values));
    qn_tape_options o = {.name = "small", .device = QN_CUDA, .no_graph = no_graph};
    qn_tape *t;
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_assert_ok(record_small(p, t, &x, &segment));
    qn_assert_ok(qn_program_create(t, &p->program));
    qn_assert_ok(qn_arena_create_on(QN_CUDA, "pool", qn_program_pool_bytes(p->program), &p->pool));
    qn_assert_ok(qn_program_bind(p->program, QN_CUDA, p->pool));
}

static void small_close(small_program *p) {
    qn_program_free(p->program);
    qn_arena_free(p->pool);
    qn_arena_free(p->given);
}

static void small_result(const small_program *p, float *y, float *norm) {
    qn_assert_ok(qn_device_copy(QN_CUDA, y, p->out->t.data, N * sizeof *y));
    qn_assert_ok(qn_device_copy(QN_CUDA, norm, p->norm->t.data, sizeof *norm));
}

static void test_a_graph_gives_the_same_bits(void **state) {
    (void)state;
    need_cuda();
    float want[N], got[N], want_norm = 0, norm = 0;
    double sum = 0;
    for (int no_graph = 1; no_graph >= 0; no_graph--) {
        small_program p;
        small_open(&p, no_graph, -0.5f);
        for (int replay = 0; replay < 4; replay++) {
            bool first = no_graph && replay == 0;
            qn_arena_poison(p.pool);
            qn_assert_ok(qn_program_replay(p.program));
            small_result(&p, first ? want : got, first ? &want_norm : &norm);
            if (first) continue;
            assert_memory_equal(got, want, sizeof want);
            assert_memory_equal(&norm, &want_norm, sizeof norm);
        }
        small_close(&p);
    }
    for (int i = 0; i < N; i++) {
        double x = (double)((float)i / N - 0.5f), y = exp(2 * x) + x;
        qn_assert_close((double)want[i], y, 0x1p-21, "y"); /* two roundings and expf's two ulp */
        sum += y * y;
    }
    qn_assert_close((double)want_norm, sqrt(sum), 0x1p-20, "norm"); /* those of its terms */
}

static void test_checked_and_timed(void **state) {
    (void)state;
    need_cuda();
    char report[512];
    double seconds[16];
    small_program p;
    small_open(&p, false, 0.25f);
    assert_in_range(qn_program_call_count(p.program), 4, 16);
    qn_assert_ok(qn_program_replay_checked(p.program, report, sizeof report));
    assert_string_equal(report, "");
    for (int i = 0; i < 16; i++) seconds[i] = -1;
    qn_assert_ok(qn_program_replay_timed(p.program, seconds));
    for (int i = 0; i < qn_program_call_count(p.program); i++) assert_true(seconds[i] >= 0);
    small_close(&p);
    small_open(&p, false, INFINITY);
    qn_assert_ok(qn_program_replay_checked(p.program, report, sizeof report));
    assert_string_equal(report, "small: scale:y element 0 = inf");
    small_close(&p);
}

static void test_a_missing_kernel_is_named(void **state) {
    (void)state;
    need_cuda();
    qn_arena *pool;
    qn_program *p;
    qn_tape *t;
    double here[4] = {1, 2, 3, 4};
    qn_tensor x = qn_tensor_make(here, QN_F64, QN_SHAPE(4));
    qn_tape_options o = {.name = "wide", .device = QN_CUDA};
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_value *in = qn_tape_given(t, "x", QN_CLASS_INPUT, &x, false);
    assert_non_null(qn_tape_keep(t, qn_scale(t, in, 2, 0), "y"));
    qn_assert_ok(qn_program_create(t, &p));
    qn_assert_ok(qn_arena_create_on(QN_CUDA, "pool", qn_program_pool_bytes(p), &pool));
    assert_int_equal(qn_program_bind(p, QN_CUDA, pool), QN_ERR_UNSUPPORTED);
    assert_non_null(strstr(qn_error_message(), "no CUDA kernel for scale on f64"));
    assert_int_equal(qn_program_bind(p, QN_CPU, pool), QN_ERR_INTERNAL); /* planned for CUDA */
    qn_program_free(p);
    qn_arena_free(pool);
}

/* ---- errors of kernels ----------------------------------------------------------------------- */

/* In a process of its own, because the device is lost: a program reads floats at an odd address.
 * Prints the errors of waiting for it, and of the next use of the device. */
static int child(void) {
    qn_arena *pool, *given;
    qn_program *p;
    qn_tape *t;
    qn_tape_options o = {.name = "faulty", .device = QN_CUDA};
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_assert_ok(qn_arena_create_on(QN_CUDA, "given", 4096, &given));
    qn_tensor x = qn_tensor_make((char *)qn_arena_base(given) + 2, QN_F32, QN_SHAPE(N));
    qn_value *in = qn_tape_given(t, "x", QN_CLASS_INPUT, &x, false);
    qn_tape_scope_push(t, "blocks.7");
    assert_non_null(qn_tape_keep(t, qn_reduce(t, in, QN_SUM, QN_ALL_AXES, false), "sum"));
    qn_tape_scope_pop(t);
    qn_assert_ok(qn_program_create(t, &p));
    qn_assert_ok(qn_arena_create_on(QN_CUDA, "pool", qn_program_pool_bytes(p) + 1, &pool));
    qn_assert_ok(qn_program_bind(p, QN_CUDA, pool));
    qn_status s = qn_program_replay(p);
    if (s == QN_OK) s = qn_device_get(QN_CUDA)->synchronize(NULL);
    printf("%s %s\n", qn_status_name(s), qn_error_message());
    s = qn_arena_create_on(QN_CUDA, "next", 64, &given);
    printf("%s %s\n", qn_status_name(s), qn_error_message());
    return 0;
}

static void run_child(const char *stepwise, char *out, size_t size) {
    char path[4096], command[4300];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    assert_true(n > 0);
    path[n] = '\0';
    /* QUERN_EMU is the emulated device's: without its checker nobody would notice. */
    snprintf(command, sizeof command, "QUERN_EMU=watch=check QUERN_SYNC=%s '%s' child 2>/dev/null",
             stepwise, path);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    out[fread(out, 1, size - 1, f)] = '\0';
    pclose(f);
}

static void test_a_failing_kernel_is_told_once_and_named(void **state) {
    (void)state;
    need_cuda();
    char plain[2048], stepwise[2048];
    run_child("0", plain, sizeof plain);
    run_child("1", stepwise, sizeof stepwise);
    const char *next = strchr(plain, '\n');
    if (strncmp(plain, "ERR_DEVICE ", 11) != 0 || !next) fail_msg("the child said: %s", plain);
    assert_non_null(strstr(plain, "QUERN_SYNC=1 names "));
    if (strncmp(next, "\nERR_DEVICE CUDA: ", 18) != 0) fail_msg("the child said: %s", plain);
    const char *named = "ERR_DEVICE blocks.7: reduce: CUDA";
    if (strncmp(stepwise, named, strlen(named)) != 0) fail_msg("the child said: %s", stepwise);
}

/* ---- training -------------------------------------------------------------------------------- */

enum { STEPS = 7 };

typedef struct run { /* what a training did */
    qn_status status;
    qn_log log;
    double loss[STEPS + 1]; /* by steps done */
    uint64_t digest;
    qn_progress progress;
} run;

typedef struct run_options {
    const char *type;
    qn_device device;
    qn_precision precision;
    bool no_graph;
    qn_nonfinite_policy policy;
    int64_t bad[2]; /* samples that are NaN; 0 = none */
} run_options;

static void remember_loss(void *self, const qn_record *r) {
    run *to = self;
    if (r->step <= STEPS) to->loss[r->step] = qn_record_get(r, "train/loss", (double)NAN);
}

static void ignore_event(void *self, qn_event e, const qn_record *r, const char *text) {
    (void)self, (void)e, (void)r, (void)text;
}

static run *train(const run_options *o) {
    run *out = calloc(1, sizeof *out);
    qn_vault *vault = calloc(1, sizeof *vault);
    if (!out || !vault) fail_msg("out of memory");
    qn_rig r;
    qn_poison poison;
    qn_rig_defaults(&r, o->type);
    r.options.device = o->device;
    r.options.precision = o->precision;
    r.options.no_graph = o->no_graph;
    if (o->bad[0]) qn_poison_source(&poison, &r, NAN, o->bad[0]);
    if (o->bad[1]) poison.position[1] = o->bad[1];
    qn_assert_ok(qn_rig_open(&r));
    qn_schedule_config config = {.type = "cosine", .warmup_steps = 2, .end = STEPS};
    qn_schedule schedule;
    qn_assert_ok(qn_schedule_create(&config, &schedule));
    vault->log = &out->log;
    qn_saver saver = qn_vault_saver(vault);
    qn_sink sinks[] = {qn_log_sink(&out->log),
                       {.self = out, .emit = ignore_event, .progress = remember_loss}};
    qn_trainer t = {.session = r.session,
                    .source = &r.data.source,
                    .schedule = &schedule,
                    .saver = &saver,
                    .sink = sinks,
                    .n_sinks = 2,
                    .max_steps = STEPS,
                    .log_every = 1,
                    .eval_every = 4,
                    .save_every = 2,
                    .on_nonfinite = o->policy,
                    .max_skips = 10};
    out->status = qn_train(&t);
    if (out->status != QN_OK && out->status != QN_ERR_NONFINITE)
        fail_msg("%s on %s: %s", o->type, qn_device_name(o->device), qn_error_message());
    out->digest = qn_rig_digest(&r);
    out->progress = t.progress;
    qn_vault_free(vault);
    free(vault);
    qn_rig_free(&r);
    return out;
}

static const char *const types[] = {"mlp", "gpt2", "llama"};

/* Losses against the CPU's. f32 differs by the order of sums, and AdamW's first steps turn the sign
 * of a gradient near zero into a whole step: 1e-4 over seven steps. bf16 keeps 8 bits. */
static void test_training_follows_the_cpu(void **state) {
    (void)state;
    need_cuda();
    for (int k = 0; k < 3; k++) {
        for (int half = 0; half < 2; half++) {
            qn_precision precision = half ? QN_PRECISION_BF16 : QN_PRECISION_F32;
            run_options o = {.type = types[k], .device = QN_CPU, .precision = precision};
            run *want = train(&o);
            o.device = QN_CUDA;
            run *got = train(&o);
            for (int i = 1; i <= STEPS; i++)
                qn_assert_close(got->loss[i], want->loss[i], half ? 0x1p-7 : 1e-4, types[k]);
            assert_string_equal(got->log.text, want->log.text);
            o.no_graph = true;
            run *plain = train(&o);
            assert_int_equal(plain->digest, got->digest);
            free(want);
            free(got);
            free(plain);
        }
    }
}

/* The device is a step ahead when the host learns of a bad one; what follows must be what a host
 * that knows at once would have done, event by event. Two bad steps in a row, and ones beside a
 * save and an evaluation. */
static void test_bad_steps_end_as_on_the_cpu(void **state) {
    (void)state;
    need_cuda();
    static const qn_nonfinite_policy policies[] = {QN_NONFINITE_STOP, QN_NONFINITE_SKIP,
                                                   QN_NONFINITE_ROLLBACK};
    static const int64_t bad[][2] = {{2 * 8 + 5, 3 * 8}, {3 * 8 + 1, 0}, {4 * 8 + 7, 6 * 8}};
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 3; i++) {
            run_options o = {.type = "mlp",
                             .device = QN_CPU,
                             .policy = policies[k],
                             .bad = {bad[i][0], bad[i][1]}};
            run *want = train(&o);
            o.device = QN_CUDA;
            run *got = train(&o);
            assert_int_equal(got->status, want->status);
            if (strcmp(got->log.text, want->log.text) != 0)
                fail_msg("CUDA did\n%sthe CPU did\n%s", got->log.text, want->log.text);
            assert_int_equal(got->progress.step, want->progress.step);
            assert_int_equal(got->progress.skipped, want->progress.skipped);
            assert_int_equal(got->progress.data_offset, want->progress.data_offset);
            assert_int_equal(got->progress.tokens, want->progress.tokens);
            for (int s = 1; s <= STEPS; s++) {
                if (isfinite(want->loss[s]))
                    qn_assert_close(got->loss[s], want->loss[s], 1e-4, "after a bad step");
            }
            free(want);
            free(got);
        }
    }
}

/* A step of one micro-batch of 4. */
static qn_status submit(qn_session *s, int64_t step) {
    void *dst[2] = {s->staging[0].data, s->staging[1].data};
    int64_t labels = 0;
    QN_TRY(s->source->fetch(s->source->self, QN_SPLIT_TRAIN, step * 4, 4, dst, &labels));
    return qn_session_submit(s, step, 1e-2, labels);
}

/* A step the guard blocks, and the one behind it done over, leave the bits that those steps leave
 * when nothing is ahead. */
static void test_what_was_blocked_is_done_over(void **state) {
    (void)state;
    need_cuda();
    uint64_t digest[2];
    for (int ahead = 0; ahead < 2; ahead++) {
        qn_rig r;
        qn_poison poison;
        qn_rig_defaults(&r, "mlp");
        r.options.device = QN_CUDA;
        r.options.accumulate = 1;
        qn_poison_source(&poison, &r, NAN, 4 + 1); /* step 1 */
        qn_assert_ok(qn_rig_open(&r));
        qn_session *s = r.session;
        qn_step_report report;
        qn_assert_ok(qn_rig_step(&r, 0, 1e-2, &report));
        assert_true(report.applied);
        for (int64_t step = 1; step < 3; step++) {
            qn_assert_ok(submit(s, step));
            if (ahead && step == 1) continue;
            qn_assert_ok(qn_session_collect(s, &report));
            assert_int_equal(report.step, ahead ? 1 : step);
            if (report.step == 1) {
                char text[256];
                assert_false(report.applied);
                qn_assert_ok(qn_session_explain(s, text, sizeof text));
                assert_non_null(strstr(text, "layers.0 linear"));
                qn_assert_ok(qn_session_allow_updates(s));
            }
        }
        if (ahead) {
            assert_int_equal(qn_session_under_way(s), 1);
            qn_assert_ok(qn_session_collect(s, &report));
        }
        assert_int_equal(report.step, 2);
        assert_true(report.applied);
        digest[ahead] = qn_rig_digest(&r);
        qn_rig_free(&r);
    }
    assert_int_equal(digest[0], digest[1]);
}

static void test_too_many_steps_are_refused(void **state) {
    (void)state;
    need_cuda();
    qn_rig r;
    qn_step_report report;
    qn_rig_defaults(&r, "mlp");
    r.options.device = QN_CUDA;
    r.options.accumulate = 1;
    qn_assert_ok(qn_rig_open(&r));
    assert_int_equal(qn_session_collect(r.session, &report), QN_ERR_INTERNAL);
    for (int i = 0; i < QN_MAX_LANES; i++) qn_assert_ok(submit(r.session, i));
    assert_int_equal(submit(r.session, QN_MAX_LANES), QN_ERR_INTERNAL);
    qn_assert_ok(qn_session_discard(r.session));
    assert_int_equal(qn_session_under_way(r.session), 0);
    qn_rig_free(&r);
}

/* A state saved on one device goes on on the other, from the same bits. */
static void test_state_moves_between_devices(void **state) {
    (void)state;
    need_cuda();
    for (int k = 0; k < 2; k++) {
        qn_device from = k ? QN_CUDA : QN_CPU, to = k ? QN_CPU : QN_CUDA;
        qn_vault vault = {0};
        qn_progress progress = {.step = 3};
        uint64_t digest[2] = {0};
        for (int there = 0; there < 2; there++) {
            qn_rig r;
            qn_step_report report;
            qn_rig_defaults(&r, "mlp");
            r.options.device = there ? to : from;
            r.options.precision = QN_PRECISION_BF16;
            r.options.keep_best = true;
            qn_assert_ok(qn_rig_open(&r));
            if (there) qn_vault_load(&vault, 0, r.session, &progress, NULL);
            for (int i = 0; i < 3 && !there; i++) qn_assert_ok(qn_rig_step(&r, i, 1e-2, &report));
            qn_assert_ok(qn_session_snapshot_best(r.session));
            digest[there] = qn_rig_digest(&r);
            qn_saver saver = qn_vault_saver(&vault);
            if (!there) qn_assert_ok(saver.save(saver.self, r.session, &progress, NULL));
            qn_assert_ok(qn_rig_step(&r, 3, 1e-2, &report));
            assert_true(report.applied && isfinite(report.loss));
            assert_int_not_equal(qn_rig_digest(&r), digest[there]);
            uint64_t moved = qn_rig_hash(&r, &r.session->params->weights);
            qn_assert_ok(qn_session_restore_best(r.session));
            assert_int_not_equal(qn_rig_hash(&r, &r.session->params->weights), moved);
            qn_rig_free(&r);
        }
        assert_int_equal(digest[0], digest[1]);
        qn_vault_free(&vault);
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "child") == 0) return child();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_a_graph_gives_the_same_bits),
        cmocka_unit_test(test_checked_and_timed),
        cmocka_unit_test(test_a_missing_kernel_is_named),
        cmocka_unit_test(test_a_failing_kernel_is_told_once_and_named),
        cmocka_unit_test(test_training_follows_the_cpu),
        cmocka_unit_test(test_bad_steps_end_as_on_the_cpu),
        cmocka_unit_test(test_what_was_blocked_is_done_over),
        cmocka_unit_test(test_too_many_steps_are_refused),
        cmocka_unit_test(test_state_moves_between_devices),
    };
    return cmocka_run_group_tests_name("cuda device", tests, NULL, NULL);
}
