/* test_cuda_training.c — whole trainings on CUDA, next to the same ones on the CPU.
 *
 * GPT-2 and Llama, 2 layers, 128 wide, heads of 64 (Llama's two share one of keys and values),
 * windows of 64 tokens, two to a batch, a vocabulary off every tile. Runs where a CUDA device
 * answers, on the emulated one in the emu preset; skipped elsewhere. There each profile also trains
 * a few steps with the checker on.
 *
 * How far f32 may be from the CPU's f32: as far as the CPU is from itself when each weight is moved
 * by one unit in the last place, up or down, before each step. A different order of sums is a
 * perturbation of that size in every product; training carries both along in the same way.
 * How far bf16 may be from the CPU's bf16, on average over the steps: sqrt(2) times as far as that
 * is from f32. The roundings on the two devices are as good as independent after a few steps, and
 * the difference of two independent errors is wider than one of them by that.
 */
#include "tests/harness.h"
#include "tests/harness_training.h"

#include "io/checkpoint.h"
#include "io/saver.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIME = 64, BATCH = 2, VOCAB = 301, TRAIN_ROWS = 64, VAL_ROWS = 3, STEPS = 50 };
/* Of single losses: f32's step is 2^-21 for losses of 4 to 8, and three such steps were seen in 50
 * steps of training. bf16's eight bits leave 2^-9 of a logit, of which the mean over 128 targets
 * keeps less than half in the first steps. */
static const double F32_GAP = 8 * 0x1p-21, BF16_GAP = 0x1p-10;
static const double SQRT2 = 1.4142135623730951;

typedef struct plan {
    const char *type;
    qn_device device;
    qn_precision precision;
    int first, steps;   /* first > 0: goes on from the checkpoint of that step in `dir` */
    const char *dir;    /* first = 0: saves there after the last step; NULL = neither */
    int64_t accumulate; /* 0 = 1 */
    double dropout, clip;
    bool no_graph, recompute, nudge, evaluate;
} plan;

typedef struct trace {
    double loss[STEPS], norm[STEPS], eval;
    uint64_t start, end; /* digests of the state before the first and after the last step */
} trace;

/* ---- one run --------------------------------------------------------------------------------- */

/* Each token is mostly the one before plus seven; some targets do not count. */
static void make_text(qn_rig *r) {
    enum { ROWS = TRAIN_ROWS + VAL_ROWS };
    int32_t *x = calloc(ROWS * TIME, sizeof *x), *y = calloc(ROWS * TIME, sizeof *y);
    if (!x || !y) fail_msg("out of memory");
    for (int i = 0; i < ROWS; i++) {
        int32_t token = (int32_t)(qn_random_u32(8, 0, (uint64_t)i) % VOCAB);
        for (int t = 0; t < TIME; t++) {
            uint32_t draw = qn_random_u32(9, (uint64_t)i, (uint64_t)t);
            x[i * TIME + t] = token;
            token = draw % 8 ? (token + 7) % VOCAB : (int32_t)(draw / 8 % VOCAB);
            y[i * TIME + t] = draw % 13 ? token : QN_IGNORE_INDEX;
        }
    }
    free(r->data.data[0]);
    free(r->data.data[1]);
    r->data.data[0] = x;
    r->data.data[1] = y;
    qn_source *s = &r->data.source;
    s->field[0].shape[0] = s->field[1].shape[0] = TIME;
    s->n[QN_SPLIT_TRAIN] = TRAIN_ROWS;
    s->n[QN_SPLIT_VAL] = VAL_ROWS;
    s->classes = VOCAB;
}

static void open_rig(qn_rig *r, const plan *p) {
    static const char *const blocks[] = {"blocks.*", NULL};
    qn_rig_defaults(r, p->type);
    make_text(r);
    qn_model_config *c = &r->config;
    c->vocab_size = VOCAB;
    c->hidden_size = 128;
    c->head_dim = 64;
    c->intermediate_size = strcmp(p->type, "gpt2") == 0 ? 512 : 344;
    c->max_position_embeddings = TIME;
    c->initializer_range = 0.02;
    c->dropout = c->attention_dropout = c->embedding_dropout = p->dropout;
    qn_session_options *o = &r->options;
    o->device = p->device;
    o->precision = p->precision;
    o->no_graph = p->no_graph;
    o->threads = 1;
    o->batch_size = o->eval_batch_size = BATCH;
    o->accumulate = p->accumulate ? p->accumulate : 1;
    o->clip_norm = p->clip;
    o->recompute = p->recompute ? blocks : NULL;
    qn_assert_ok(qn_rig_open(r));
}

/* Each weight one unit in the last place up or down. */
static void nudge_weights(const qn_rig *r, int step) {
    const qn_tensor *t = &r->session->params->weights;
    float *w = t->data;
    for (int64_t i = 0; i < qn_tensor_count(t); i++) {
        bool up = qn_random_u32(77, (uint64_t)step, (uint64_t)i) & 1;
        if (w[i] != 0) w[i] = nextafterf(w[i], up ? INFINITY : -INFINITY);
    }
}

/* Saves the session as step `done`, or loads what was saved. */
static void checkpoint(const qn_rig *r, const plan *p, bool load, int done) {
    static const char id[] = "0123456789abcdef0123456789abcdef";
    qn_setup *arena;
    qn_arena *memory = NULL;
    qn_state_tensors live, here;
    qn_assert_ok(qn_setup_create("tensors", &arena));
    qn_assert_ok(qn_state_tensors_list(r->session, arena, &live));
    qn_assert_ok(qn_state_tensors_here(r->session, &live, arena, &memory, &here));
    if (load) {
        qn_checkpoint *c;
        char warning[1024];
        qn_assert_ok(qn_checkpoint_resume(p->dir, id, here.model, here.n_model, here.state,
                                          here.n_state, warning, sizeof warning, &c));
        assert_string_equal(warning, "");
        assert_non_null(c);
        assert_int_equal(qn_checkpoint_get_info(c)->step, done);
        qn_checkpoint_close(c);
        if (memory) qn_assert_ok(qn_state_tensors_copy(r->session, &live, &here));
    } else {
        if (memory) qn_assert_ok(qn_state_tensors_copy(r->session, &here, &live));
        qn_checkpoint_info info = {.run_id = id, .step = done, .world_size = 1};
        qn_assert_ok(qn_checkpoint_save(p->dir, &info, here.model, here.n_model, here.state,
                                        here.n_state, NULL, 0));
    }
    if (memory) qn_arena_free(memory);
    qn_setup_free(arena);
}

static void train(const plan *p, trace *out) {
    qn_rig r;
    open_rig(&r, p);
    *out = (trace){.eval = (double)NAN};
    for (int i = 0; i < STEPS; i++) out->loss[i] = out->norm[i] = (double)NAN;
    if (p->first) checkpoint(&r, p, true, p->first);
    out->start = qn_rig_digest(&r);
    for (int i = p->first; i < p->first + p->steps; i++) {
        qn_step_report report;
        if (p->nudge) nudge_weights(&r, i);
        qn_assert_ok(qn_rig_step(&r, i, 1e-3, &report));
        assert_true(report.applied);
        out->loss[i] = report.loss;
        out->norm[i] = report.grad_norm;
    }
    out->end = qn_rig_digest(&r);
    if (p->dir && !p->first) checkpoint(&r, p, false, p->steps);
    if (p->evaluate) {
        qn_record record = {0};
        qn_assert_ok(qn_session_evaluate(r.session, QN_SPLIT_VAL, 0, &record));
        out->eval = qn_record_get(&record, "eval/loss", (double)NAN);
    }
    qn_rig_free(&r);
}

static double mean_gap(const trace *a, const trace *b, int steps) {
    double sum = 0;
    for (int i = 0; i < steps; i++) sum += fabs(a->loss[i] - b->loss[i]);
    return sum / steps;
}

static double widest_gap(const trace *a, const trace *b, int steps) {
    double most = 0;
    for (int i = 0; i < steps; i++) {
        double gap = fabs(a->loss[i] - b->loss[i]);
        if (!(gap <= most)) most = gap;
    }
    return most;
}

/* ---- against the CPU ------------------------------------------------------------------------- */

static void assert_no_further(double got, double bound, const char *what) {
    if (!(got <= bound)) fail_msg("%s: the gap is %.3g, may be %.3g", what, got, bound);
}

static void test_fifty_steps(void **state) {
    enum { CPU, NUDGED, CUDA, CPU_BF16, CUDA_BF16, N };
    trace *t = calloc(N, sizeof *t);
    if (!t) fail_msg("out of memory");
    plan p = {.type = *state, .device = QN_CPU, .steps = STEPS, .evaluate = true};
    train(&p, &t[CPU]);
    p.nudge = true;
    train(&p, &t[NUDGED]);
    p.nudge = false;
    p.device = QN_CUDA;
    train(&p, &t[CUDA]);
    p.precision = QN_PRECISION_BF16;
    train(&p, &t[CUDA_BF16]);
    p.device = QN_CPU;
    train(&p, &t[CPU_BF16]);

    assert_true(t[CUDA].loss[0] > t[CUDA].loss[STEPS - 1] + 1);
    assert_true(t[CUDA_BF16].loss[0] > t[CUDA_BF16].loss[STEPS - 1] + 1);
    double f32 = mean_gap(&t[CUDA], &t[CPU], STEPS), nudged = mean_gap(&t[NUDGED], &t[CPU], STEPS);
    double bf16 = mean_gap(&t[CUDA_BF16], &t[CPU_BF16], STEPS),
           rounding = mean_gap(&t[CPU_BF16], &t[CPU], STEPS);
    print_message("%s, mean gaps of losses: f32 %.2g (nudged %.2g), bf16 %.2g (bf16 to f32 %.2g)\n",
                  p.type, f32, nudged, bf16, rounding);
    assert_no_further(f32, nudged, "f32");
    assert_no_further(bf16, SQRT2 * rounding, "bf16");
    assert_no_further(widest_gap(&t[CUDA], &t[CPU], STEPS), F32_GAP, "the widest f32 step");
    assert_no_further(fabs(t[CUDA].eval - t[CPU].eval), F32_GAP, "f32 evaluation");
    free(t);
}

/* The same run as graphs and launched call by call: the same bits. */
static void test_graphs_change_nothing(void **state) {
    enum { FEW = 3 };
    static const qn_precision precisions[] = {QN_PRECISION_F32, QN_PRECISION_BF16,
                                              QN_PRECISION_BF16_SR};
    for (int k = 0; k < 3; k++) {
        trace graph, plain;
        plan p = {.type = *state,
                  .device = QN_CUDA,
                  .precision = precisions[k],
                  .steps = FEW,
                  .dropout = 0.1,
                  .clip = 1,
                  .evaluate = true};
        train(&p, &graph);
        p.no_graph = true;
        train(&p, &plain);
        assert_int_equal(plain.end, graph.end);
        assert_memory_equal(plain.loss, graph.loss, FEW * sizeof *graph.loss);
        assert_true(plain.eval == graph.eval);
        assert_int_not_equal(graph.start, graph.end);
    }
}

/* Stochastic rounding draws from Philox by element, so both devices round alike where they agree
 * before rounding: the bound of bf16, over a few steps. */
static void test_stochastic_rounding_follows_the_cpu(void **state) {
    enum { SR_STEPS = 5 };
    trace f32, cpu, cuda;
    plan p = {.type = *state, .device = QN_CPU, .steps = SR_STEPS};
    train(&p, &f32);
    p.precision = QN_PRECISION_BF16_SR;
    train(&p, &cpu);
    p.device = QN_CUDA;
    train(&p, &cuda);
    assert_no_further(mean_gap(&cuda, &cpu, SR_STEPS), SQRT2 * mean_gap(&cpu, &f32, SR_STEPS),
                      "bf16_sr");
}

/* What a step may have besides, one after the other; recomputing keeps the bits. */
static void test_options_follow_the_cpu(void **state) {
    static const struct {
        const char *name;
        plan plan;
    } rows[] = {
        {"plain", {.accumulate = 1}},
        {"accumulate", {.accumulate = 2}},
        {"clip", {.clip = 0.1}},
        {"dropout", {.dropout = 0.2}},
        {"recompute", {.dropout = 0.2, .recompute = true}},
    };
    enum { ROWS = sizeof rows / sizeof *rows, FEW = 2 };
    trace cpu[ROWS], cuda[ROWS];
    for (int k = 0; k < ROWS; k++) {
        plan p = rows[k].plan;
        p.type = *state;
        p.steps = FEW;
        p.device = QN_CPU;
        train(&p, &cpu[k]);
        p.device = QN_CUDA;
        train(&p, &cuda[k]);
        assert_no_further(widest_gap(&cuda[k], &cpu[k], FEW), F32_GAP, rows[k].name);
        for (int i = 0; i < FEW; i++)
            qn_assert_close(cuda[k].norm[i], cpu[k].norm[i], F32_GAP, rows[k].name);
        if (k == 0) continue;
        bool same = cuda[k].end == cuda[k - 1].end;
        if (same != (strcmp(rows[k].name, "recompute") == 0))
            fail_msg("%s: %s weights as %s", rows[k].name, same ? "the same" : "other",
                     rows[k - 1].name);
    }
}

/* ---- the choice of kernels ------------------------------------------------------------------- */

typedef struct traced {
    char text[64][2048];
    int n;
} traced;

static void take_trace(void *ctx, const char *text) {
    traced *t = ctx;
    assert_true(t->n < 64);
    snprintf(t->text[t->n++], sizeof t->text[0], "%s", text);
}

/* Each kind of product once, with the kernel it runs on. */
static void test_products_are_traced(void **state) {
    traced *t = calloc(1, sizeof *t);
    if (!t) fail_msg("out of memory");
    qn_rig r;
    plan p = {.type = *state, .device = QN_CUDA, .precision = QN_PRECISION_BF16};
    open_rig(&r, &p);
    qn_assert_ok(qn_session_trace(r.session, take_trace, t));
    assert_true(t->n >= 10); /* four widths, forward, and two gradients */
    int qkv = 0;
    for (int i = 0; i < t->n; i++) {
        const char *taken = strstr(t->text[i], ", taken\n");
        assert_non_null(taken);
        assert_null(strstr(taken + 1, ", taken\n"));
        qkv += strncmp(t->text[i], "product 128x384x128 NT bf16", 27) == 0;
        for (int k = 0; k < i; k++) assert_string_not_equal(t->text[i], t->text[k]);
    }
    assert_true(qkv == (strcmp(*state, "gpt2") == 0)); /* llama's is narrower: 256 */
    qn_rig_free(&r);
    free(t);
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* Saved on one device, loaded on both: the same bits at once, the uninterrupted run's bits at the
 * end where it was saved, its losses on the other. */
static void test_checkpoints_move_between_devices(void **state) {
    enum { AT = 1, END = 3 };
    for (int k = 0; k < 4; k++) {
        char *dir = qn_test_dir();
        bool half = k & 1;
        trace whole, saved, same, other;
        plan p = {.type = *state,
                  .device = k & 2 ? QN_CUDA : QN_CPU,
                  .precision = half ? QN_PRECISION_BF16 : QN_PRECISION_F32,
                  .steps = END,
                  .dropout = 0.1};
        train(&p, &whole);
        p.dir = dir;
        p.steps = AT;
        train(&p, &saved);
        p.first = AT;
        p.steps = END - AT;
        train(&p, &same);
        p.device = k & 2 ? QN_CPU : QN_CUDA;
        train(&p, &other);
        assert_int_equal(same.start, saved.end);
        assert_int_equal(same.end, whole.end);
        assert_int_equal(other.start, saved.end);
        for (int i = AT; i < END; i++) {
            assert_true(same.loss[i] == whole.loss[i]);
            assert_no_further(fabs(other.loss[i] - whole.loss[i]), half ? BF16_GAP : F32_GAP,
                              "on the other device");
        }
        qn_test_dir_remove(dir);
    }
}

/* ---- each profile, checked ------------------------------------------------------------------- */

enum { CHECKED_STEPS = 3 };

/* In a process of its own, whose QUERN_EMU says which GPU it has: prints the losses. */
static int child(const char *type, const char *precision) {
    trace t;
    plan p = {.type = type,
              .device = QN_CUDA,
              .precision = strcmp(precision, "f32") == 0 ? QN_PRECISION_F32 : QN_PRECISION_BF16,
              .steps = CHECKED_STEPS};
    train(&p, &t);
    for (int i = 0; i < CHECKED_STEPS; i++) printf("%.17g\n", t.loss[i]);
    return 0;
}

static FILE *start_child(const char *profile, const char *type, bool half) {
    char path[4096], command[4400];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    assert_true(n > 0);
    path[n] = '\0';
    snprintf(command, sizeof command, "QUERN_EMU=device=%s,watch=check '%s' child %s %s", profile,
             path, type, half ? "bf16" : "f32");
    FILE *f = popen(command, "r");
    assert_non_null(f);
    return f;
}

/* The checker's findings end a process with a status of their own. On a real GPU QUERN_EMU means
 * nothing and this trains there. 8.9 differs from 8.0 in its shared memory only, which the kernels
 * of f32 do not use up. */
static void test_every_profile_is_free_of_findings(void **state) {
    static const char *const profiles[] = {"8.0", "9.0", "8.9"};
    for (int half = 0; half < 2; half++) {
        trace cpu;
        plan p = {.type = *state,
                  .device = QN_CPU,
                  .precision = half ? QN_PRECISION_BF16 : QN_PRECISION_F32,
                  .steps = CHECKED_STEPS};
        FILE *from[3];
        int n_profiles = half ? 3 : 2;
        for (int k = 0; k < n_profiles; k++) from[k] = start_child(profiles[k], *state, half);
        train(&p, &cpu);
        for (int k = 0; k < n_profiles; k++) {
            double loss[CHECKED_STEPS];
            int n = 0;
            while (n < CHECKED_STEPS && fscanf(from[k], "%lf", &loss[n]) == 1) n++;
            int status = pclose(from[k]);
            if (status != 0 || n != CHECKED_STEPS)
                fail_msg("%s on %s: %d steps, status %#x", p.type, profiles[k], n,
                         (unsigned)status);
            for (int i = 0; i < CHECKED_STEPS; i++)
                assert_no_further(fabs(loss[i] - cpu.loss[i]), half ? BF16_GAP : F32_GAP,
                                  profiles[k]);
        }
    }
}

static void cuda_training(void **state) {
    (void)state;
    if (!qn_device_built(QN_CUDA)) print_message("this build has no CUDA\n");
    skip();
}

int main(int argc, char **argv) {
    static char gpt2[] = "gpt2", llama[] = "llama";
    const struct CMUnitTest none[] = {cmocka_unit_test(cuda_training)};
    if (argc == 4 && strcmp(argv[1], "child") == 0) return child(argv[2], argv[3]);
    if (!qn_cuda_usable()) return cmocka_run_group_tests_name("cuda training", none, NULL, NULL);
    const struct CMUnitTest tests[] = {
#define BOTH(test)                                                                                 \
    {"gpt2: " #test, test, NULL, NULL, gpt2}, {"llama: " #test, test, NULL, NULL, llama}
        BOTH(test_fifty_steps),
        BOTH(test_graphs_change_nothing),
        BOTH(test_stochastic_rounding_follows_the_cpu),
        BOTH(test_options_follow_the_cpu),
        BOTH(test_products_are_traced),
        BOTH(test_checkpoints_move_between_devices),
        BOTH(test_every_profile_is_free_of_findings),
#undef BOTH
    };
    return cmocka_run_group_tests_name("cuda training", tests, NULL, NULL);
}
