/* test_trajectory.c — 100 steps of training against PyTorch f64, and runs that must agree.
 *
 * golden/trajectories.bin (made by golden/make_trajectories.py, which tells what each tensor
 * means) holds three small models, each trained by three optimizers. The training loop itself runs
 * them here.
 *
 * f64: losses, learning rates, gradient norms, and every parameter's L2 norm and dot product at
 * the measured steps are PyTorch's within 1e-12 relative. (PyTorch f64 differs from itself by
 * `spread` when only the order of its summations changes; the file must keep that below 1e-13.) A
 * dot product may cancel, so it is measured against the L2 norm when that is larger.
 * f32: the distance of the final weights and of the first gradients from f64, per parameter, is at
 * most twice PyTorch f32's. The reference is the f64 run of the same test, once it has passed.
 * GPT-2's key bias counts as zero throughout: its gradient is zero but for rounding noise.
 */
#include "tests/harness.h"
#include "tests/harness_golden.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 100, MEASURED = 4, MAX_PARAMS = 64 };
static const double EXACT = 1e-12;
static const char *const run_names[] = {"adamw", "sgd_linear", "sgd_constant"};

/* OPTIONS of make_trajectories.py */
enum {
    ADAMW,
    SCHEDULE,
    LR,
    MIN_LR,
    WARMUP,
    BETA1,
    BETA2,
    EPS,
    WEIGHT_DECAY,
    MOMENTUM,
    DAMPENING,
    NESTEROV,
    CLIP,
    N_OPTIONS
};

typedef struct trajectory { /* what a run leaves behind */
    int n;                  /* parameters, in the session's order */
    double loss[STEPS], lr[STEPS], norm[STEPS];
    double l2[MEASURED][MAX_PARAMS], dot[MEASURED][MAX_PARAMS];
    double *gradient[MAX_PARAMS], *weight[MAX_PARAMS]; /* first step's; final */
} trajectory;

typedef struct recorder {
    qn_session *session;
    trajectory *out;
} recorder;

/* ---- golden tensors -------------------------------------------------------------------------- */

static qn_golden *open_golden(void) {
    qn_golden *g;
    qn_assert_ok(qn_golden_open(QUERN_SOURCE_DIR "/tests/golden/trajectories.bin", &g));
    return g;
}

static double golden_number(const qn_golden *g, const char *model, const char *run,
                            const char *what, int64_t index) {
    qn_tensor t;
    qn_assert_ok(qn_golden_get(g, &t, "%s%s%s/%s", model, *run ? "/" : "", run, what));
    assert_true(index < qn_tensor_count(&t));
    return qn_tensor_get(&t, index);
}

/* Hugging Face's name of a parameter; the golden mlp calls its head the third of its layers. */
static const char *golden_name(const qn_rig *r, const qn_param *q, char *name, size_t size) {
    bool head = strncmp(q->name, "head.", 5) == 0 && strcmp(r->config.type, "mlp") == 0;
    snprintf(name, size, "%s/init/%s%s", r->config.type, head ? "layers.2." : "",
             head ? q->name + 5 : q->hf_name);
    return name;
}

/* Place of parameter `name` among the file's parameters of the model: index of l2, dot, ... */
static int golden_place(const qn_golden *g, const char *model, const char *name) {
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s/init/", model);
    int place = 0;
    for (int i = 0; i < qn_golden_count(g); i++) {
        const char *other = qn_golden_name(g, i);
        if (strncmp(other, prefix, strlen(prefix)) != 0) continue;
        if (strcmp(other, name) == 0) return place;
        place++;
    }
    fail_msg("the golden file has no %s", name);
    return -1;
}

/* ---- parameters ------------------------------------------------------------------------------ */

/* Element k of the parameter in Hugging Face's order, as an index into ours. */
static int64_t our_index(const qn_param *q, int64_t k) {
    if (!q->hf_transposed) return k;
    int64_t out = q->shape[0], in = q->shape[1];
    return k % out * in + k / out;
}

static void load_weights(qn_rig *r, const qn_golden *g) {
    qn_params *p = r->session->params;
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        qn_tensor to = qn_param_tensor(p, i, &p->weights), from;
        char name[160];
        qn_assert_ok(qn_golden_get(g, &from, "%s", golden_name(r, q, name, sizeof name)));
        assert_int_equal(qn_tensor_count(&from), q->count);
        bool flip = q->hf_transposed;
        assert_int_equal(from.shape[0], q->shape[flip ? 1 : 0]);
        for (int64_t k = 0; k < q->count; k++) {
            qn_tensor_set(&to, our_index(q, k), qn_tensor_get(&from, k));
        }
    }
}

/* The parameter's part of a flat array as doubles in Hugging Face's order; malloc'ed. */
static double *read_param(const qn_session *s, int i, const qn_tensor *flat) {
    const qn_param *q = &s->params->item[i];
    qn_tensor t = qn_param_tensor(s->params, i, flat);
    double *v = malloc((size_t)q->count * sizeof *v);
    if (!v) fail_msg("out of memory");
    for (int64_t k = 0; k < q->count; k++) v[k] = qn_tensor_get(&t, our_index(q, k));
    if (strstr(q->name, "attn.qkv.bias")) {
        for (int64_t k = q->count / 3; k < 2 * q->count / 3; k++) v[k] = 0.0;
    }
    return v;
}

static double distance(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += (a[k] - b[k]) * (a[k] - b[k]);
    return sqrt(sum);
}

static double length(const double *a, int64_t n) {
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += a[k] * a[k];
    return sqrt(sum);
}

/* ---- running --------------------------------------------------------------------------------- */

static void measure(const recorder *c, int at) {
    const qn_params *p = c->session->params;
    for (int i = 0; i < p->n; i++) {
        double *w = read_param(c->session, i, &p->weights), dot = 0;
        for (int64_t k = 0; k < p->item[i].count; k++) dot += w[k] * sin((double)(k + 1));
        c->out->l2[at][i] = length(w, p->item[i].count);
        c->out->dot[at][i] = dot;
        free(w);
    }
}

static void ignore_event(void *self, qn_event event, const qn_record *r, const char *text) {
    (void)self;
    (void)r;
    if (event == QN_EVENT_NOTE) fail_msg("the run said: %s", text);
}

static void after_step(void *self, const qn_record *r) {
    static const int64_t measured[MEASURED] = {1, 10, 50, 100};
    const recorder *c = self;
    trajectory *t = c->out;
    t->loss[r->step - 1] = qn_record_get(r, "train/loss", NAN);
    t->lr[r->step - 1] = qn_record_get(r, "train/learning_rate", NAN);
    t->norm[r->step - 1] = qn_record_get(r, "train/grad_norm", NAN);
    for (int k = 0; k < MEASURED; k++) {
        if (r->step == measured[k]) measure(c, k);
    }
    const qn_params *p = c->session->params;
    for (int i = 0; i < p->n; i++) {
        if (r->step == 1) t->gradient[i] = read_param(c->session, i, &p->grads);
        if (r->step == STEPS) t->weight[i] = read_param(c->session, i, &p->weights);
    }
}

static void *copy_of(const qn_golden *g, const char *name) {
    qn_tensor t;
    qn_assert_ok(qn_golden_get(g, &t, "%s", name));
    void *p = malloc(qn_tensor_bytes(&t));
    if (!p) fail_msg("out of memory");
    return memcpy(p, t.data, qn_tensor_bytes(&t));
}

static void use_golden_data(qn_rig *r, const qn_golden *g) {
    bool mlp = strcmp(r->config.type, "mlp") == 0;
    qn_source *s = &r->data.source;
    for (int i = 0; i < 2; i++) free(r->data.data[i]);
    r->data.data[0] = copy_of(g, mlp ? "mlp/features" : "lm/tokens");
    r->data.data[1] = copy_of(g, mlp ? "mlp/targets" : "lm/targets");
    r->options.batch_size = mlp ? 16 : 4;
    s->n[QN_SPLIT_TRAIN] = STEPS * 2 * r->options.batch_size;
    s->n[QN_SPLIT_VAL] = 0;
    r->options.evaluate = false;
    s->field[0].shape[0] = mlp ? 20 : 16;
    if (!mlp) s->field[1].shape[0] = 16;
}

static void use_golden_config(qn_rig *r, const qn_golden *g) {
    qn_model_config *c = &r->config;
    double v[9];
    const char *type = c->type;
    bool llama = strcmp(type, "llama") == 0, mlp = strcmp(type, "mlp") == 0;
    int n = llama ? 9 : mlp ? 4 : 6;
    for (int i = 0; i < n; i++) v[i] = golden_number(g, type, "", "config", i);
    if (mlp) {
        c->features = (int64_t)v[0];
        c->hidden_sizes[0] = (int64_t)v[1];
        c->hidden_sizes[1] = (int64_t)v[2];
        c->classes = (int64_t)v[3];
        return;
    }
    c->vocab_size = (int64_t)v[0];
    c->max_position_embeddings = (int64_t)v[1];
    c->hidden_size = (int64_t)v[2];
    c->num_hidden_layers = (int64_t)v[3];
    c->num_attention_heads = (int64_t)v[4];
    c->head_dim = c->hidden_size / c->num_attention_heads;
    c->num_key_value_heads = llama ? (int64_t)v[5] : c->num_attention_heads;
    c->intermediate_size = llama ? (int64_t)v[6] : 4 * c->hidden_size;
    c->norm_eps = llama ? v[7] : v[5];
    if (llama) c->rotary.theta = v[8];
}

static void golden_rig(qn_rig *r, const qn_golden *g, const char *model) {
    qn_rig_defaults(r, model);
    use_golden_config(r, g);
    use_golden_data(r, g);
}

static void use_run(qn_rig *r, const qn_golden *g, const char *run, double *o,
                    qn_schedule_config *schedule) {
    static const char *const kinds[] = {"constant", "linear", "cosine"};
    for (int i = 0; i < N_OPTIONS; i++) o[i] = golden_number(g, r->config.type, run, "options", i);
    r->optimizer_config = (qn_optimizer_config){.type = o[ADAMW] != 0 ? "adamw" : "sgd",
                                                .lr = o[LR],
                                                .weight_decay = o[WEIGHT_DECAY],
                                                .beta1 = o[BETA1],
                                                .beta2 = o[BETA2],
                                                .eps = o[EPS],
                                                .momentum = o[MOMENTUM],
                                                .dampening = o[DAMPENING],
                                                .nesterov = o[NESTEROV] != 0};
    r->options.clip_norm = o[CLIP];
    *schedule = (qn_schedule_config){.type = kinds[(int)o[SCHEDULE]],
                                     .warmup_steps = (int64_t)o[WARMUP],
                                     .end = STEPS,
                                     .min_ratio = o[MIN_LR] / o[LR]};
}

/* Trains the golden run; r holds the model and the data. Closes the session. */
static void run_golden(qn_rig *r, const qn_golden *g, const char *run, trajectory *out) {
    double o[N_OPTIONS];
    qn_schedule_config schedule_config;
    qn_schedule schedule;
    use_run(r, g, run, o, &schedule_config);
    qn_assert_ok(qn_schedule_create(&schedule_config, &schedule));
    qn_assert_ok(qn_rig_open(r));
    load_weights(r, g);
    *out = (trajectory){.n = r->session->params->n};
    assert_in_range(out->n, 1, MAX_PARAMS);
    recorder c = {r->session, out};
    qn_sink sink = {.self = &c, .emit = ignore_event, .progress = after_step};
    qn_trainer t = {.session = r->session,
                    .source = &r->data.source,
                    .schedule = &schedule,
                    .sink = &sink,
                    .n_sinks = 1,
                    .max_steps = STEPS};
    qn_assert_ok(qn_train(&t));
    assert_int_equal(t.progress.step, STEPS);
}

static void trajectory_free(trajectory *t) {
    for (int i = 0; i < t->n; i++) {
        free(t->gradient[i]);
        free(t->weight[i]);
    }
}

/* ---- comparing ------------------------------------------------------------------------------- */

typedef struct worst { /* the largest error found, as a fraction of what is allowed */
    double fraction;
    char what[160];
} worst;

static void compare(worst *w, const char *what, int64_t index, double got, double want,
                    double scale, double tolerance) {
    double fraction = got == want ? 0.0 : fabs(got - want) / (tolerance * scale);
    if (fraction <= w->fraction) return;
    w->fraction = fraction;
    snprintf(w->what, sizeof w->what, "%s[%lld]: got %.17g, expected %.17g within %.2g", what,
             (long long)index, got, want, tolerance * scale);
}

static void report(const worst *w, const char *model, const char *run, const char *what) {
    if (!(w->fraction <= 1.0)) fail_msg("%s/%s %s: %s", model, run, what, w->what);
    print_message("%s/%s %s: at most %.2f of what is allowed\n", model, run, what, w->fraction);
}

static void check_f64(const qn_rig *r, const qn_golden *g, const char *run, const trajectory *t) {
    const char *model = r->config.type;
    for (int i = 0; i < 2; i++) assert_true(golden_number(g, model, run, "spread", i) < 1e-13);
    worst curves = {0}, weights = {0};
    for (int s = 0; s < STEPS; s++) {
        double lr = golden_number(g, model, run, "lr", s);
        double loss = golden_number(g, model, run, "loss", s);
        double norm = golden_number(g, model, run, "norm", s);
        compare(&curves, "lr", s, t->lr[s], lr, fabs(lr), EXACT);
        compare(&curves, "loss", s, t->loss[s], loss, fabs(loss), EXACT);
        compare(&curves, "norm", s, t->norm[s], norm, fabs(norm), EXACT);
    }
    report(&curves, model, run, "f64 curves");
    for (int at = 0; at < MEASURED; at++) {
        for (int i = 0; i < t->n; i++) {
            const qn_param *q = &r->session->params->item[i];
            char name[160];
            int place = golden_place(g, model, golden_name(r, q, name, sizeof name));
            int64_t k = (int64_t)at * t->n + place;
            double l2 = golden_number(g, model, run, "l2", k);
            double dot = golden_number(g, model, run, "dot", k);
            compare(&weights, q->name, at, t->l2[at][i], l2, l2, EXACT);
            compare(&weights, q->name, at, t->dot[at][i], dot, fmax(fabs(dot), l2), EXACT);
        }
    }
    report(&weights, model, run, "f64 weights");
}

static void check_f32(const qn_rig *r, const qn_golden *g, const char *run, const trajectory *t,
                      const trajectory *exact) {
    const char *model = r->config.type;
    double largest = golden_number(g, model, "", "grad_max", 0);
    worst gradients = {0}, weights = {0};
    for (int i = 0; i < t->n; i++) {
        const qn_param *q = &r->session->params->item[i];
        char name[160];
        int place = golden_place(g, model, golden_name(r, q, name, sizeof name));
        double size = length(exact->gradient[i], q->count);
        double l2 = golden_number(g, model, "", "grad_l2", place);
        double torch = golden_number(g, model, "", "grad_f32_distance", place);
        assert_true(fabs(size - l2) <= 1e-12 * l2);
        compare(&gradients, q->name, 0, distance(t->gradient[i], exact->gradient[i], q->count), 0,
                1, 2 * torch * size + 1e-7 * largest);
        size = length(exact->weight[i], q->count);
        torch = golden_number(g, model, run, "f32_distance", place);
        compare(&weights, q->name, 0, distance(t->weight[i], exact->weight[i], q->count), 0, 1,
                2 * torch * size + 1e-7 * largest);
    }
    report(&gradients, model, run, "f32 first gradients");
    report(&weights, model, run, "f32 final weights");
}

static void check_model(const char *model) {
    qn_golden *g = open_golden();
    for (size_t k = 0; k < sizeof run_names / sizeof *run_names; k++) {
        trajectory exact, single;
        qn_rig r;
        golden_rig(&r, g, model);
        r.options.precision = QN_PRECISION_F64;
        run_golden(&r, g, run_names[k], &exact);
        check_f64(&r, g, run_names[k], &exact);
        qn_rig_close_session(&r);
        r.options.precision = QN_PRECISION_F32;
        run_golden(&r, g, run_names[k], &single);
        check_f32(&r, g, run_names[k], &single, &exact);
        trajectory_free(&exact);
        trajectory_free(&single);
        qn_rig_free(&r);
    }
    qn_golden_close(g);
}

static void test_gpt2(void **state) {
    (void)state;
    check_model("gpt2");
}

static void test_llama(void **state) {
    (void)state;
    check_model("llama");
}

static void test_mlp(void **state) {
    (void)state;
    check_model("mlp");
}

/* ---- runs that must agree -------------------------------------------------------------------- */

static const char *const models[] = {"gpt2", "llama", "mlp"};
enum { N_MODELS = sizeof models / sizeof *models, SHORT = 20 };

/* Digest of weights, moments and optimizer state after SHORT steps. */
static uint64_t digest_after(qn_rig *r) {
    qn_assert_ok(qn_rig_open(r));
    for (int64_t s = 0; s < SHORT; s++) {
        qn_step_report report;
        qn_assert_ok(qn_rig_step(r, s, 3e-3, &report));
        assert_true(report.applied);
    }
    uint64_t digest = qn_rig_digest(r);
    qn_rig_close_session(r);
    return digest;
}

static void test_thread_count_changes_no_bit(void **state) {
    (void)state;
    qn_golden *g = open_golden();
    static const qn_precision precisions[] = {QN_PRECISION_F32, QN_PRECISION_BF16};
    for (int k = 0; k < N_MODELS; k++) {
        for (int j = 0; j < 2; j++) {
            qn_rig r;
            golden_rig(&r, g, models[k]);
            r.config.dropout = r.config.attention_dropout = 0.1;
            r.options.precision = precisions[j];
            uint64_t one = digest_after(&r);
            r.options.threads = 2;
            assert_int_equal(one, digest_after(&r));
            qn_rig_free(&r);
        }
    }
    qn_golden_close(g);
}

static void test_recomputation_changes_no_bit(void **state) {
    (void)state;
    static const char *const choices[][3] = {
        {"blocks.*"}, {"blocks.1"}, {"blocks.*.attn", "blocks.*.mlp"}, {"layers.*"}};
    qn_golden *g = open_golden();
    for (int k = 0; k < N_MODELS; k++) {
        qn_rig r;
        golden_rig(&r, g, models[k]);
        r.config.dropout = r.config.attention_dropout = r.config.embedding_dropout = 0.1;
        uint64_t plain = digest_after(&r);
        for (size_t j = 0; j < sizeof choices / sizeof *choices; j++) {
            r.options.recompute = choices[j];
            assert_int_equal(plain, digest_after(&r));
        }
        qn_rig_free(&r);
    }
    qn_golden_close(g);
}

/* The same samples as k micro-batches or as one: only the order of summation differs, so the first
 * gradients agree to rounding: 1e-5 of the largest. Dropout draws by sample, so it agrees too. */
static void test_accumulation_equals_a_larger_batch(void **state) {
    (void)state;
    qn_golden *g = open_golden();
    for (int k = 0; k < N_MODELS; k++) {
        qn_rig r;
        golden_rig(&r, g, models[k]);
        r.config.dropout = r.config.attention_dropout = r.config.embedding_dropout = 0.2;
        qn_step_report small, large;
        qn_assert_ok(qn_rig_open(&r));
        qn_assert_ok(qn_rig_step(&r, 0, 1e-3, &small));
        const qn_params *p = r.session->params;
        int64_t n = p->trainable;
        float *first = malloc((size_t)n * sizeof *first);
        assert_non_null(first);
        memcpy(first, p->grads.data, (size_t)n * sizeof *first);
        qn_rig_close_session(&r);

        r.options.batch_size *= 2;
        r.options.accumulate = 1;
        qn_assert_ok(qn_rig_open(&r));
        qn_assert_ok(qn_rig_step(&r, 0, 1e-3, &large));
        assert_int_equal(small.labels, large.labels);
        qn_assert_close(small.loss, large.loss, 1e-6, "loss");
        const float *second = r.session->params->grads.data;
        double most = 0, apart = 0;
        for (int64_t i = 0; i < n; i++) {
            most = fmax(most, fabs((double)second[i]));
            apart = fmax(apart, fabs((double)first[i] - (double)second[i]));
        }
        if (!(apart <= 1e-5 * most && most > 0)) {
            fail_msg("%s: gradients differ by %g, the largest is %g", models[k], apart, most);
        }
        free(first);
        qn_rig_free(&r);
    }
    qn_golden_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_mlp),
        cmocka_unit_test(test_thread_count_changes_no_bit),
        cmocka_unit_test(test_recomputation_changes_no_bit),
        cmocka_unit_test(test_accumulation_equals_a_larger_batch),
    };
    return cmocka_run_group_tests_name("trajectory", tests, NULL, NULL);
}
