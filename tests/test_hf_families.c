/* test_hf_families.c — decoders of every family, and every kind of rotary positions and windows,
 * against transformers.
 *
 * golden/hf_families.bin (made by golden/make_hf_families.py, which tells what each tensor means)
 * holds the logits, the gradients and ten AdamW steps of tiny models in f64. The weights are
 * computed here as there.
 *
 * f64: everything within 1e-12 of the reference, relative to the larger of the value and 1 (a
 * gradient's dot product, which may cancel: of its L2 norm); the sums are of some hundred terms.
 * Logits were 2e-15 away.
 * f32: logits of up to 2 within 4e-6 (1 + |logit|), some 32 roundings; 8.5e-7 away was the worst.
 * On CUDA the loss and the norm of the gradient too.
 */
#include "engine/infer.h"
#include "tests/harness.h"
#include "tests/harness_golden.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 10, BATCH = 2, TIME = 12, VOCAB = 31, LAYERS = 2 };
static const double EXACT = 1e-12, ROUNDED = 4e-6;

/* CONFIG of make_hf_families.py */
enum {
    VOCAB_SIZE,
    HIDDEN_SIZE,
    NUM_HIDDEN_LAYERS,
    NUM_ATTENTION_HEADS,
    NUM_KEY_VALUE_HEADS,
    HEAD_DIM,
    INTERMEDIATE_SIZE,
    MAX_POSITION_EMBEDDINGS,
    TIE_WORD_EMBEDDINGS,
    ATTENTION_BIAS,
    MLP_BIAS,
    NORM_EPS,
    ROPE_THETA,
    ROPE_TYPE,
    FACTOR,
    LOW_FREQ_FACTOR,
    HIGH_FREQ_FACTOR,
    ORIGINAL_MAX_POSITION_EMBEDDINGS,
    ATTENTION_FACTOR,
    MSCALE,
    MSCALE_ALL_DIM,
    BETA_FAST,
    BETA_SLOW,
    TRUNCATE,
    SLIDING_WINDOW,
    MAX_WINDOW_LAYERS,
    SLIDING_LAYERS,
    SCALE_ATTN_WEIGHTS,
    SCALE_ATTN_BY_INVERSE_LAYER_IDX,
    N_CONFIG
};

/* A family's variant while a test looks at it. */
typedef struct model_case {
    char name[64], type[16];
    double v[N_CONFIG];
    bool sliding[LAYERS];
} model_case;

/* ---- the file -------------------------------------------------------------------------------- */

static qn_golden *open_golden(void) {
    qn_golden *g;
    qn_assert_ok(qn_golden_open(QUERN_SOURCE_DIR "/tests/golden/hf_families.bin", &g));
    return g;
}

static double golden_number(const qn_golden *g, const char *name, const char *what, int64_t i) {
    qn_tensor t;
    qn_assert_ok(qn_golden_get(g, &t, "%s/%s", name, what));
    assert_true(i < qn_tensor_count(&t));
    return qn_tensor_get(&t, i);
}

/* The case whose logits are tensor i of the file, if they are some case's. */
static bool read_case(const qn_golden *g, int i, model_case *c) {
    const char *tensor = qn_golden_name(g, i), *slash = strchr(tensor, '/');
    if (!slash || strcmp(slash, "/logits") != 0) return false;
    *c = (model_case){0};
    snprintf(c->name, sizeof c->name, "%.*s", (int)(slash - tensor), tensor);
    snprintf(c->type, sizeof c->type, "%.*s", (int)strcspn(c->name, "."), c->name);
    for (int k = 0; k < N_CONFIG; k++) c->v[k] = golden_number(g, c->name, "config", k);
    int mask = (int)c->v[SLIDING_LAYERS];
    for (int k = 0; k < LAYERS; k++) c->sliding[k] = mask >> k & 1;
    return true;
}

/* ---- the model ------------------------------------------------------------------------------- */

static qn_model_config config_of(const model_case *c) {
    const double *v = c->v;
    bool gpt2 = strcmp(c->type, "gpt2") == 0;
    return (qn_model_config){
        .type = c->type,
        .vocab_size = (int64_t)v[VOCAB_SIZE],
        .hidden_size = (int64_t)v[HIDDEN_SIZE],
        .num_hidden_layers = (int64_t)v[NUM_HIDDEN_LAYERS],
        .num_attention_heads = (int64_t)v[NUM_ATTENTION_HEADS],
        .num_key_value_heads = (int64_t)v[NUM_KEY_VALUE_HEADS],
        .head_dim = (int64_t)v[HEAD_DIM],
        .intermediate_size = (int64_t)v[INTERMEDIATE_SIZE],
        .max_position_embeddings = (int64_t)v[MAX_POSITION_EMBEDDINGS],
        .tie_word_embeddings = v[TIE_WORD_EMBEDDINGS] != 0.0,
        .bias = gpt2,
        .attention_bias = v[ATTENTION_BIAS] != 0.0,
        .mlp_bias = v[MLP_BIAS] != 0.0,
        .norm_eps = v[NORM_EPS],
        .initializer_range = 0.02,
        .activation = gpt2 ? QN_ACT_GELU_TANH : QN_ACT_SILU,
        .sliding_window = (int64_t)v[SLIDING_WINDOW],
        .max_window_layers = (int64_t)v[MAX_WINDOW_LAYERS],
        .sliding_layer = v[SLIDING_LAYERS] >= 0 ? c->sliding : NULL,
        .unscaled_attention = v[SCALE_ATTN_WEIGHTS] == 0.0,
        .scale_by_layer = v[SCALE_ATTN_BY_INVERSE_LAYER_IDX] != 0.0,
        .rotary = {.kind = (qn_rotary_kind)v[ROPE_TYPE],
                   .theta = v[ROPE_THETA],
                   .factor = v[FACTOR],
                   .low_freq_factor = v[LOW_FREQ_FACTOR],
                   .high_freq_factor = v[HIGH_FREQ_FACTOR],
                   .attention_factor = v[ATTENTION_FACTOR],
                   .mscale = v[MSCALE],
                   .mscale_all_dim = v[MSCALE_ALL_DIM],
                   .beta_fast = v[BETA_FAST],
                   .beta_slow = v[BETA_SLOW],
                   .untruncated = v[TRUNCATE] == 0.0,
                   .original_max_position_embeddings =
                       (int64_t)v[ORIGINAL_MAX_POSITION_EMBEDDINGS]},
    };
}

static uint32_t fnv1a(const char *name) {
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    return h;
}

/* weight() of make_hf_families.py */
static double initial(const qn_param *q, int64_t k) {
    uint32_t x = (uint32_t)k * 2654435761u + fnv1a(q->hf_name);
    x = (x ^ x >> 15) * 2246822519u;
    double w = ((double)(x >> 17) - 16384.0) / 65536.0;
    return q->init == QN_INIT_ONE ? 1.0 + w : w;
}

/* Element k in Hugging Face's order, as an index into ours. */
static int64_t our_index(const qn_param *q, int64_t k) {
    return q->hf_transposed ? k % q->shape[0] * q->shape[1] + k / q->shape[0] : k;
}

/* Weights are made on the host, wherever the session's are. */
static void initialise(qn_params *p) {
    qn_tensor all = p->weights;
    size_t bytes = qn_tensor_bytes(&all);
    all.data = calloc(1, bytes);
    if (!all.data) fail_msg("out of memory");
    for (int i = 0; i < p->n; i++) {
        qn_tensor w = qn_param_tensor(p, i, &all);
        for (int64_t k = 0; k < p->item[i].count; k++)
            qn_tensor_set(&w, our_index(&p->item[i], k), initial(&p->item[i], k));
    }
    qn_assert_ok(qn_device_copy(p->device, p->weights.data, all.data, bytes));
    free(all.data);
}

static void make_rig(qn_rig *r, const model_case *c, qn_precision precision) {
    qn_rig_defaults(r, strcmp(c->type, "gpt2") == 0 ? "gpt2" : "llama");
    r->config = config_of(c);
    r->optimizer_config.lr = 1e-2;
    r->options.precision = precision;
    r->options.batch_size = BATCH;
    r->options.accumulate = 1;
    r->options.clip_norm = 0;
    r->options.evaluate = false;
    r->data.source.n[QN_SPLIT_TRAIN] = STEPS * BATCH;
    r->data.source.n[QN_SPLIT_VAL] = 0;
}

/* Replaces the rig's fields by copies of `n` arrays of i32 (rows, TIME), the targets last. */
static void use_fields(qn_rig *r, int n, const char *const *name, const int32_t *const *data,
                       int64_t rows) {
    for (int i = 0; i < QN_MAX_FIELDS; i++) {
        free(r->data.data[i]);
        r->data.data[i] = NULL;
    }
    r->data.source.n_fields = n;
    for (int i = 0; i < n; i++) {
        size_t bytes = (size_t)(rows * TIME) * sizeof(int32_t);
        r->data.data[i] = malloc(bytes);
        if (!r->data.data[i]) fail_msg("out of memory");
        memcpy(r->data.data[i], data[i], bytes);
        r->data.source.field[i] = (qn_field){name[i], QN_I32, 1, {TIME}};
    }
    r->data.source.n[QN_SPLIT_TRAIN] = rows;
}

static void open_rig(qn_rig *r, const qn_golden *g, const model_case *c, qn_device device,
                     qn_precision precision) {
    static const char *const names[] = {"tokens", "targets"};
    qn_tensor tokens, targets;
    qn_assert_ok(qn_golden_get(g, &tokens, "tokens"));
    qn_assert_ok(qn_golden_get(g, &targets, "targets"));
    make_rig(r, c, precision);
    r->options.device = device;
    use_fields(r, 2, names, (const int32_t *const[]){tokens.data, targets.data}, STEPS * BATCH);
    qn_assert_ok(qn_rig_open(r));
    initialise(r->session->params);
}

/* ---- against the reference ------------------------------------------------------------------- */

static void measure(const qn_param *q, const qn_tensor *t, double out[2]) {
    double square = 0, dot = 0;
    bool noise = strstr(q->name, "attn.qkv.bias") != NULL; /* in the key's third */
    for (int64_t k = 0; k < q->count; k++) {
        double v = qn_tensor_get(t, our_index(q, k));
        if (noise && k / (q->count / 3) == 1) v = 0;
        square += v * v;
        dot += v * sin((double)(k + 1));
    }
    out[0] = sqrt(square);
    out[1] = dot;
}

static int place_of(const qn_golden *g, const model_case *c, const qn_param *q) {
    qn_tensor names;
    qn_assert_ok(qn_golden_get(g, &names, "%s/names", c->name));
    for (int64_t i = 0; i < qn_tensor_count(&names); i++) {
        if ((uint32_t)((const int32_t *)names.data)[i] == fnv1a(q->hf_name)) return (int)i;
    }
    fail_msg("%s: transformers has no parameter %s", c->name, q->hf_name);
    return -1;
}

static void check_params(const qn_golden *g, const model_case *c, const qn_params *p,
                         const qn_tensor *flat, const char *what) {
    qn_tensor names;
    qn_assert_ok(qn_golden_get(g, &names, "%s/names", c->name));
    assert_int_equal(qn_tensor_count(&names), p->n);
    for (int i = 0; i < p->n; i++) {
        int place = place_of(g, c, &p->item[i]);
        double norm = golden_number(g, c->name, what, 2 * place), got[2];
        double dot = golden_number(g, c->name, what, 2 * place + 1), room = EXACT * fmax(norm, 1.0);
        qn_tensor t = qn_param_tensor(p, i, flat);
        measure(&p->item[i], &t, got);
        if (!(fabs(got[0] - norm) <= room && fabs(got[1] - dot) <= room)) {
            fail_msg("%s, %s of %s: norm %.15g, dot %.15g; reference %.15g, %.15g", c->name, what,
                     p->item[i].name, got[0], got[1], norm, dot);
        }
    }
}

/* Logits of all places of the first batch, in one pass. */
static void check_logits(const qn_golden *g, const model_case *c, const qn_rig *r,
                         double tolerance) {
    qn_tape_options o = {.name = "logits", .threads = 1, .device = QN_CPU};
    qn_tape *t;
    qn_graph graph;
    qn_tensor tokens, want;
    qn_assert_ok(qn_golden_get(g, &tokens, "tokens"));
    tokens = qn_tensor_make(tokens.data, QN_I32, QN_SHAPE(BATCH, TIME));
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_assert_ok(qn_graph_create(t, r->session->params, false, &graph));
    qn_value *field = qn_tape_given(t, "tokens", QN_CLASS_INPUT, &tokens, false);
    qn_forward in = {.field = &field, .n_fields = 1};
    qn_output out = {0};
    qn_assert_ok(r->model.forward(r->model.self, &graph, &in, &out));
    qn_value *y = qn_linear(t, out.hidden, out.head_weight, out.head_bias, QN_ACT_NONE, NULL);
    assert_non_null(qn_tape_keep(t, y, "logits"));
    qn_program *program;
    qn_arena *pool;
    qn_assert_ok(qn_program_create(t, &program));
    qn_assert_ok(qn_arena_create_on(QN_CPU, "pool", qn_program_pool_bytes(program), &pool));
    qn_assert_ok(qn_program_bind(program, QN_CPU, pool));
    qn_assert_ok(qn_program_replay(program));
    qn_assert_ok(qn_golden_get(g, &want, "%s/logits", c->name));
    assert_int_equal(qn_tensor_count(&want), BATCH * TIME * VOCAB);
    for (int64_t i = 0; i < BATCH * TIME * VOCAB; i++)
        qn_assert_close(qn_tensor_get(&y->t, i), qn_tensor_get(&want, i), tolerance, c->name);
    qn_program_free(program);
    qn_arena_free(pool);
}

static void train_case(const qn_golden *g, const model_case *c) {
    qn_rig r;
    open_rig(&r, g, c, QN_CPU, QN_PRECISION_F64);
    const qn_params *p = r.session->params;
    check_logits(g, c, &r, EXACT);
    for (int64_t step = 0; step < STEPS; step++) {
        qn_step_report report;
        qn_assert_ok(qn_rig_step(&r, step, 1e-2, &report));
        assert_true(report.applied);
        qn_assert_close(report.loss, golden_number(g, c->name, "loss", step), EXACT, c->name);
        if (step == 0) check_params(g, c, p, &p->grads, "gradient");
    }
    check_params(g, c, p, &p->weights, "weight");
    qn_rig_free(&r);
}

static void training(void **state) {
    (void)state;
    qn_golden *g = open_golden();
    model_case c;
    int n = 0;
    for (int i = 0; i < qn_golden_count(g); i++) {
        if (!read_case(g, i, &c)) continue;
        train_case(g, &c);
        n++;
    }
    assert_int_equal(n, 18);
    qn_golden_close(g);
}

static void logits_in_f32(void **state) {
    (void)state;
    qn_golden *g = open_golden();
    model_case c;
    for (int i = 0; i < qn_golden_count(g); i++) {
        qn_rig r;
        if (!read_case(g, i, &c)) continue;
        open_rig(&r, g, &c, QN_CPU, QN_PRECISION_F32);
        check_logits(g, &c, &r, ROUNDED);
        qn_rig_free(&r);
    }
    qn_golden_close(g);
}

/* ---- generation ------------------------------------------------------------------------------ */

/* The logits after each piece of both rows, which are fed in pieces of different lengths. */
static void decode_case(const qn_golden *g, const model_case *c, qn_device device) {
    static const int64_t piece[BATCH][8] = {{5, 1, 1, 2, 1, 1, 1}, {1, 4, 0, 3, 1, 0, 3}};
    qn_rig r;
    qn_generator *gen;
    qn_tensor tokens;
    qn_assert_ok(qn_golden_get(g, &tokens, "tokens"));
    bool exact = device == QN_CPU;
    open_rig(&r, g, c, device, exact ? QN_PRECISION_F64 : QN_PRECISION_F32);
    qn_infer_options o = {.device = device, .threads = 1, .batch_size = BATCH};
    qn_assert_ok(qn_generator_create(&o, &r.model, r.session->params, TIME, &gen));
    assert_int_equal(qn_generator_capacity(gen), TIME);
    int64_t at[BATCH] = {0};
    for (int k = 0; k < 7; k++) {
        const int32_t *ids[BATCH];
        int64_t n[BATCH];
        for (int b = 0; b < BATCH; b++) {
            ids[b] = (const int32_t *)tokens.data + b * TIME + at[b];
            n[b] = piece[b][k];
            at[b] += n[b];
        }
        qn_assert_ok(qn_generator_feed(gen, ids, n));
        for (int b = 0; b < BATCH; b++) {
            qn_tensor got = qn_generator_logits(gen, b);
            int64_t first = (b * TIME + at[b] - 1) * VOCAB;
            for (int64_t v = 0; v < VOCAB; v++) {
                qn_assert_close(qn_tensor_get(&got, v),
                                golden_number(g, c->name, "logits", first + v),
                                exact ? EXACT : ROUNDED, c->name);
            }
        }
    }
    assert_true(at[0] == TIME && at[1] == TIME);
    qn_generator_free(gen);
    qn_rig_free(&r);
}

static void decoding(void **state) {
    (void)state;
    qn_golden *g = open_golden();
    model_case c;
    for (int i = 0; i < qn_golden_count(g); i++) {
        /* Dynamic frequencies would change under the cache: there it ends where they begin to. */
        if (read_case(g, i, &c) && c.v[ROPE_TYPE] != QN_ROTARY_DYNAMIC) decode_case(g, &c, QN_CPU);
    }
    qn_golden_close(g);
}

static void dynamic_frequencies_have_bounds(void **state) {
    (void)state;
    qn_golden *g = open_golden();
    model_case c;
    qn_rig r;
    qn_generator *gen;
    for (int i = 0; i < qn_golden_count(g); i++) {
        if (read_case(g, i, &c) && strcmp(c.name, "llama.dynamic") == 0) break;
    }
    open_rig(&r, g, &c, QN_CPU, QN_PRECISION_F32);
    qn_infer_options o = {.device = QN_CPU, .threads = 1};
    qn_assert_ok(qn_generator_create(&o, &r.model, r.session->params, TIME, &gen));
    assert_int_equal(qn_generator_capacity(gen), 8);
    qn_generator_free(gen);
    qn_rig_free(&r);
    /* Packed rows say nothing of the length that counts. */
    static const char *const names[] = {"tokens", "positions", "targets"};
    static const int32_t zeros[TIME];
    make_rig(&r, &c, QN_PRECISION_F32);
    use_fields(&r, 3, names, (const int32_t *const[]){zeros, zeros, zeros}, 1);
    r.options.batch_size = 1;
    assert_int_equal(qn_rig_open(&r), QN_ERR_UNSUPPORTED);
    assert_non_null(strstr(qn_error_message(), "max_position_embeddings = 8, not 12"));
    qn_rig_free(&r);
    qn_golden_close(g);
}

/* ---- packing --------------------------------------------------------------------------------- */

static qn_step_report one_step(const model_case *c, qn_device device, int n,
                               const int32_t *const *data, int64_t rows) {
    static const char *const names[] = {"tokens", "documents", "positions", "targets"};
    const char *const plain[] = {names[0], names[3]};
    qn_rig r;
    make_rig(&r, c, device == QN_CPU ? QN_PRECISION_F64 : QN_PRECISION_F32);
    r.options.device = device;
    r.options.batch_size = rows;
    use_fields(&r, n, n == 4 ? names : plain, data, rows);
    qn_assert_ok(qn_rig_open(&r));
    initialise(r.session->params);
    qn_step_report report;
    qn_assert_ok(qn_rig_step(&r, 0, 1e-2, &report));
    qn_rig_free(&r);
    return report;
}

/* Two documents in one row, positions counted afresh; or each in a row of its own. */
enum { FIRST = 5 };
typedef struct two_documents {
    int32_t packed[4][TIME], apart[2][2 * TIME];
    const int32_t *one[4], *two[2];
} two_documents;

static void make_documents(const qn_golden *g, two_documents *d) {
    qn_tensor tokens;
    qn_assert_ok(qn_golden_get(g, &tokens, "tokens"));
    const int32_t *ids = tokens.data;
    for (int i = 0; i < TIME; i++) {
        d->packed[0][i] = ids[i];
        d->packed[1][i] = i >= FIRST;
        d->packed[2][i] = i < FIRST ? i : i - FIRST;
        d->packed[3][i] = ids[i + TIME];
        d->apart[0][i] = d->apart[0][i + TIME] = 0;
        d->apart[1][i] = d->apart[1][i + TIME] = QN_IGNORE_INDEX;
    }
    for (int i = 0; i < TIME; i++) {
        int to = i < FIRST ? i : TIME + i - FIRST;
        d->apart[0][to] = d->packed[0][i];
        d->apart[1][to] = d->packed[3][i];
    }
    for (int i = 0; i < 4; i++) d->one[i] = d->packed[i];
    for (int i = 0; i < 2; i++) d->two[i] = d->apart[i];
}

static void packed_is_unpacked(void **state) {
    (void)state;
    qn_golden *g = open_golden();
    two_documents d;
    make_documents(g, &d);
    model_case c;
    for (int i = 0; i < qn_golden_count(g); i++) {
        if (!read_case(g, i, &c) || c.v[ROPE_TYPE] == QN_ROTARY_DYNAMIC) continue;
        qn_step_report a = one_step(&c, QN_CPU, 4, d.one, 1);
        qn_step_report b = one_step(&c, QN_CPU, 2, d.two, 2);
        assert_int_equal(a.labels, b.labels);
        qn_assert_close(a.loss, b.loss, EXACT, c.name);
        qn_assert_close(a.grad_norm, b.grad_norm, EXACT, c.name);
        d.packed[1][TIME - 1] = 0; /* the last token sees the other document: another loss */
        assert_true(fabs(one_step(&c, QN_CPU, 4, d.one, 1).loss - b.loss) > 1e-6);
        d.packed[1][TIME - 1] = 1;
    }
    qn_golden_close(g);
}

/* ---- CUDA ------------------------------------------------------------------------------------ */

/* Loss and gradient norm of the first step, decoding, packing: f32 on the device against f64. */
static void cuda_case(const qn_golden *g, const model_case *c, const two_documents *d) {
    qn_rig r;
    qn_step_report report;
    double square = 0;
    open_rig(&r, g, c, QN_CUDA, QN_PRECISION_F32);
    qn_assert_ok(qn_rig_step(&r, 0, 1e-2, &report));
    for (int i = 0; i < r.session->params->n; i++)
        square += pow(golden_number(g, c->name, "gradient", 2 * i), 2);
    qn_assert_close(report.loss, golden_number(g, c->name, "loss", 0), ROUNDED, c->name);
    qn_assert_close(report.grad_norm, sqrt(square), ROUNDED, c->name);
    qn_rig_free(&r);
    if (c->v[ROPE_TYPE] == QN_ROTARY_DYNAMIC) return;
    decode_case(g, c, QN_CUDA);
    qn_step_report a = one_step(c, QN_CUDA, 4, d->one, 1), b = one_step(c, QN_CPU, 2, d->two, 2);
    qn_assert_close(a.loss, b.loss, ROUNDED, c->name);
    qn_assert_close(a.grad_norm, b.grad_norm, ROUNDED, c->name);
}

static void on_cuda(void **state) {
    (void)state;
    if (!qn_cuda_usable()) skip();
    qn_golden *g = open_golden();
    two_documents d;
    make_documents(g, &d);
    model_case c;
    for (int i = 0; i < qn_golden_count(g); i++) {
        if (read_case(g, i, &c)) cuda_case(g, &c, &d);
    }
    qn_golden_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training),           cmocka_unit_test(logits_in_f32),
        cmocka_unit_test(decoding),           cmocka_unit_test(dynamic_frequencies_have_bounds),
        cmocka_unit_test(packed_is_unpacked), cmocka_unit_test(on_cuda),
    };
    return cmocka_run_group_tests_name("hf_families", tests, NULL, NULL);
}
