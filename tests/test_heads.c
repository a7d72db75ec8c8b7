/* test_heads.c — encoders, and every head of encoders and decoders, against transformers.
 *
 * golden/heads.bin (made by golden/make_heads.py, which tells what each tensor means) holds the
 * logits, the gradients and ten AdamW steps of tiny models in PyTorch f64. The weights are computed
 * here as there.
 *
 * f64: everything within 1e-12 of the reference, relative to the larger of the value and 1 (a
 * gradient's dot product, which may cancel: of its L2 norm); the sums are of some hundred terms.
 * f32: first logits and losses within 2e-5, on CUDA first losses and gradient norms; ten steps'
 * losses within 2e-4: AdamW divides gradients by their own size, so that rounding of small ones
 * moves weights by as much as large ones.
 */
#include "tests/harness.h"
#include "tests/harness_golden.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 10, BATCH = 4, TIME = 9, VOCAB = 29, WIDTH = 12 };

typedef struct head_case {
    const char *name, *type, *objective, *target;
    qn_head head;
    int labels;
} head_case;

static const head_case cases[] = {
    {"bert_sequence", "bert", "classify", "label", QN_HEAD_SEQUENCE, 3},
    {"bert_multi", "bert", "multi_label", "labels", QN_HEAD_SEQUENCE, 3},
    {"bert_regression", "bert", "regress", "numbers", QN_HEAD_SEQUENCE, 1},
    {"bert_token", "bert", "classify", "token_labels", QN_HEAD_TOKEN, 3},
    {"bert_masked_lm", "bert", "lm", "masked", QN_HEAD_MASKED_LM, 0},
    {"bert_embedding", "bert", "regress", "vectors", QN_HEAD_EMBEDDING, 0},
    {"roberta_sequence", "roberta", "classify", "label", QN_HEAD_SEQUENCE, 3},
    {"roberta_token", "roberta", "classify", "token_labels", QN_HEAD_TOKEN, 3},
    {"roberta_masked_lm", "roberta", "lm", "masked", QN_HEAD_MASKED_LM, 0},
    {"gpt2_sequence", "gpt2", "classify", "label", QN_HEAD_SEQUENCE, 3},
    {"gpt2_token", "gpt2", "classify", "token_labels", QN_HEAD_TOKEN, 3},
    {"llama_sequence", "llama", "classify", "label", QN_HEAD_SEQUENCE, 3},
    {"llama_token", "llama", "classify", "token_labels", QN_HEAD_TOKEN, 3},
};
enum { N_CASES = sizeof cases / sizeof *cases };

/* ---- data ------------------------------------------------------------------------------------ */

typedef struct golden_source {
    qn_source source;
    qn_tensor tensor[QN_MAX_FIELDS]; /* (10, 4, ...) */
} golden_source;

static qn_status fetch(void *self, qn_split split, int64_t position, int64_t count,
                       void *const *dst, int64_t *labels) {
    (void)split;
    const golden_source *s = self;
    int last = s->source.n_fields - 1;
    for (int i = 0; i <= last; i++) {
        size_t row = qn_tensor_bytes(&s->tensor[i]) / (STEPS * BATCH);
        const char *from = (const char *)s->tensor[i].data + (size_t)position * row;
        memcpy(dst[i], from, (size_t)count * row);
        int64_t n = (int64_t)(row / 4) * count;
        *labels = 0;
        for (int64_t k = 0; i == last && k < n; k++) {
            bool ignored =
                s->tensor[i].dtype == QN_I32 && ((const int32_t *)dst[i])[k] == QN_IGNORE_INDEX;
            *labels += !ignored;
        }
    }
    return QN_OK;
}

static void add_field(golden_source *s, const qn_golden *g, const char *name) {
    int i = s->source.n_fields++;
    qn_assert_ok(qn_golden_get(g, &s->tensor[i], "%s", name));
    qn_field *f = &s->source.field[i];
    *f = (qn_field){name, s->tensor[i].dtype, s->tensor[i].ndim - 2, {0}};
    for (int k = 0; k < f->ndim; k++) f->shape[k] = s->tensor[i].shape[k + 2];
}

static void make_source(golden_source *s, const qn_golden *g, const head_case *c) {
    *s = (golden_source){.source = {.self = s, .n = {STEPS * BATCH, 0, 0}, .fetch = fetch}};
    add_field(s, g, "tokens");
    add_field(s, g, "documents");
    if (strcmp(c->type, "bert") == 0) add_field(s, g, "token_types");
    add_field(s, g, c->target);
}

/* ---- model ----------------------------------------------------------------------------------- */

static void make_rig(qn_rig *r, const head_case *c, qn_precision precision) {
    qn_rig_defaults(r, c->type);
    qn_memory none = {0};
    for (int i = 0; i < QN_MAX_FIELDS; i++) free(r->data.data[i]);
    r->data = none;
    bool llama = strcmp(c->type, "llama") == 0, roberta = strcmp(c->type, "roberta") == 0;
    bool encoder = roberta || strcmp(c->type, "bert") == 0;
    r->objective_type = c->objective;
    r->config = (qn_model_config){.type = c->type,
                                  .vocab_size = VOCAB,
                                  .hidden_size = WIDTH,
                                  .num_hidden_layers = 2,
                                  .num_attention_heads = 3,
                                  .num_key_value_heads = llama ? 1 : 3,
                                  .head_dim = 4,
                                  .intermediate_size = 20,
                                  .max_position_embeddings = 16,
                                  .tie_word_embeddings = true,
                                  .bias = true,
                                  .norm_eps = strcmp(c->type, "bert") ? 1e-5 : 1e-12,
                                  .rotary.theta = 10000,
                                  .initializer_range = 0.02,
                                  .activation = encoder ? QN_ACT_GELU : QN_ACT_GELU_TANH,
                                  .type_vocab_size = roberta ? 1 : 2,
                                  .position_offset = roberta ? 2 : 0,
                                  .head = c->head,
                                  .num_labels = c->labels,
                                  .pooling = QN_POOL_MEAN};
    r->optimizer_config.lr = 1e-2;
    r->options.precision = precision;
    r->options.batch_size = BATCH;
    r->options.accumulate = 1;
    r->options.clip_norm = 0;
    r->options.evaluate = false;
}

static double unit(const char *name, int64_t i) {
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    uint64_t x = (h ^ (uint64_t)i) + 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return (double)(x >> 48) / 32768.0 - 1.0;
}

/* Element k in Hugging Face's order, as an index into ours. */
static int64_t our_index(const qn_param *q, int64_t k) {
    return q->hf_transposed ? k % q->shape[0] * q->shape[1] + k / q->shape[0] : k;
}

/* Made on the host, wherever the session's weights are. */
static void initialise(qn_params *p) {
    qn_tensor all = p->weights;
    size_t bytes = qn_tensor_bytes(&all);
    all.data = calloc(1, bytes);
    if (!all.data) fail_msg("out of memory");
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        qn_tensor w = qn_param_tensor(p, i, &all);
        for (int64_t k = 0; k < q->count; k++) {
            double u = unit(q->hf_name, k);
            double v = q->ndim > 1              ? u / 4
                       : q->init == QN_INIT_ONE ? 1 + u / 8 /* a norm's weight */
                                                : u / 8;
            qn_tensor_set(&w, our_index(q, k), v);
        }
    }
    qn_assert_ok(qn_device_copy(p->device, p->weights.data, all.data, bytes));
    free(all.data);
}

/* What no gradient reaches but rounding noise counts as zero. */
static bool key_bias(const qn_param *q, int64_t k) {
    if (strstr(q->name, "attn.k.bias")) return true;
    return strstr(q->name, "attn.qkv.bias") && k / (q->count / 3) == 1;
}

static void measure(const qn_param *q, const qn_tensor *t, double out[2]) {
    double square = 0, dot = 0;
    for (int64_t k = 0; k < q->count; k++) {
        double v = key_bias(q, k) ? 0.0 : qn_tensor_get(t, our_index(q, k));
        square += v * v;
        dot += v * unit("wave", k);
    }
    out[0] = sqrt(square);
    out[1] = dot;
}

/* ---- against the reference ------------------------------------------------------------------- */

static void check_params(const qn_golden *g, const head_case *c, const qn_params *p,
                         const qn_tensor *flat, int place) {
    int listed = 0;
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s/p/", c->name);
    for (int i = 0; i < qn_golden_count(g); i++) {
        listed += strncmp(qn_golden_name(g, i), prefix, strlen(prefix)) == 0;
    }
    assert_int_equal(listed, p->n);
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        qn_tensor want, t = qn_param_tensor(p, i, flat);
        qn_assert_ok(qn_golden_get(g, &want, "%s%s", prefix, q->hf_name));
        double got[2], norm = qn_tensor_get(&want, place), dot = qn_tensor_get(&want, place + 1);
        measure(q, &t, got);
        double room = 1e-12 * fmax(norm, 1e-3);
        if (!(fabs(got[0] - norm) <= room && fabs(got[1] - dot) <= room)) {
            fail_msg("%s %s %s: norm %.12g, dot %.12g; reference %.12g, %.12g", c->name,
                     place ? "weight" : "gradient of", q->name, got[0], got[1], norm, dot);
        }
    }
}

/* The logits of the first batch, recorded as inference does. */
static void check_logits(const qn_golden *g, const head_case *c, qn_rig *r, golden_source *s,
                         double tolerance) {
    qn_tape_options o = {.name = "logits", .threads = 1, .device = QN_CPU};
    qn_tape *t;
    qn_graph graph;
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_assert_ok(qn_graph_create(t, r->session->params, false, &graph));
    qn_value *field[QN_MAX_FIELDS];
    for (int i = 0; i < s->source.n_fields; i++) {
        qn_tensor first = s->tensor[i];
        first.ndim--;
        for (int k = 0; k < first.ndim; k++) {
            first.shape[k] = first.shape[k + 1];
            first.stride[k] = first.stride[k + 1];
        }
        field[i] = qn_tape_given(t, s->source.field[i].name, QN_CLASS_INPUT, &first, false);
    }
    qn_forward in = {.field = field, .n_fields = s->source.n_fields};
    qn_output out = {0};
    qn_assert_ok(r->model.forward(r->model.self, &graph, &in, &out));
    qn_value *y = out.logits
                      ? out.logits
                      : qn_linear(t, out.hidden, out.head_weight, out.head_bias, QN_ACT_NONE, NULL);
    assert_non_null(qn_tape_keep(t, y, "logits"));
    qn_program *program;
    qn_arena *pool;
    qn_assert_ok(qn_program_create(t, &program));
    qn_assert_ok(qn_arena_create_on(QN_CPU, "pool", qn_program_pool_bytes(program), &pool));
    qn_assert_ok(qn_program_bind(program, QN_CPU, pool));
    qn_assert_ok(qn_program_replay(program));
    qn_tensor want;
    qn_assert_ok(qn_golden_get(g, &want, "%s/logits", c->name));
    assert_true(qn_tensor_same_shape(&want, &y->t));
    int64_t n = want.shape[want.ndim - 1];
    for (int64_t i = 0; i < qn_tensor_count(&want); i++) {
        bool padding = want.ndim == 3 && ((const int32_t *)s->tensor[1].data)[i / n] < 0;
        if (padding) continue;
        qn_assert_close(qn_tensor_get(&y->t, i), qn_tensor_get(&want, i), tolerance, c->name);
    }
    qn_program_free(program);
    qn_arena_free(pool);
}

static void check_case(const qn_golden *g, const head_case *c, qn_precision precision) {
    bool exact = precision == QN_PRECISION_F64;
    golden_source s;
    qn_rig r;
    make_source(&s, g, c);
    make_rig(&r, c, precision);
    r.data.source = s.source;
    qn_assert_ok(qn_rig_open(&r));
    qn_params *p = r.session->params;
    initialise(p);
    check_logits(g, c, &r, &s, exact ? 1e-12 : 2e-5);
    qn_tensor want;
    qn_assert_ok(qn_golden_get(g, &want, "%s/loss", c->name));
    for (int64_t step = 0; step < STEPS; step++) {
        qn_step_report report;
        qn_assert_ok(qn_rig_step(&r, step, 1e-2, &report));
        assert_true(report.applied);
        double tolerance = exact ? 1e-12 : step == 0 ? 2e-5 : 2e-4;
        qn_assert_close(report.loss, qn_tensor_get(&want, step), tolerance, c->name);
        if (step == 0 && exact) check_params(g, c, p, &p->grads, 0);
    }
    if (exact) check_params(g, c, p, &p->weights, 2);
    qn_rig_free(&r);
}

static void check_all(qn_precision precision) {
    qn_golden *g;
    qn_assert_ok(qn_golden_open(QUERN_SOURCE_DIR "/tests/golden/heads.bin", &g));
    for (int i = 0; i < N_CASES; i++) check_case(g, &cases[i], precision);
    qn_golden_close(g);
}

static void test_f64(void **state) {
    (void)state;
    check_all(QN_PRECISION_F64);
}

static void test_f32(void **state) {
    (void)state;
    check_all(QN_PRECISION_F32);
}

/* Loss and gradient norm of the first step, f32 on the device. */
static void test_cuda(void **state) {
    (void)state;
    if (!qn_cuda_usable()) skip();
    qn_golden *g;
    qn_assert_ok(qn_golden_open(QUERN_SOURCE_DIR "/tests/golden/heads.bin", &g));
    for (int i = 0; i < N_CASES; i++) {
        const head_case *c = &cases[i];
        golden_source s;
        qn_rig r;
        qn_step_report report;
        qn_tensor loss, p;
        double square = 0;
        make_source(&s, g, c);
        make_rig(&r, c, QN_PRECISION_F32);
        r.data.source = s.source;
        r.options.device = QN_CUDA;
        qn_assert_ok(qn_rig_open(&r));
        initialise(r.session->params);
        qn_assert_ok(qn_rig_step(&r, 0, 1e-2, &report));
        for (int k = 0; k < r.session->params->n; k++) {
            const char *name = r.session->params->item[k].hf_name;
            qn_assert_ok(qn_golden_get(g, &p, "%s/p/%s", c->name, name));
            square += qn_tensor_get(&p, 0) * qn_tensor_get(&p, 0);
        }
        qn_assert_ok(qn_golden_get(g, &loss, "%s/loss", c->name));
        qn_assert_close(report.loss, qn_tensor_get(&loss, 0), 2e-5, c->name);
        qn_assert_close(report.grad_norm, sqrt(square), 2e-5, c->name);
        qn_rig_free(&r);
    }
    qn_golden_close(g);
}

/* ---- properties ------------------------------------------------------------------------------ */

static double loss_of(const qn_golden *g, const head_case *c, const char *left_out) {
    golden_source s;
    qn_rig r;
    make_source(&s, g, c);
    for (int i = 0; i < s.source.n_fields; i++) {
        if (strcmp(s.source.field[i].name, left_out) == 0) s.source.field[i].name = "unread";
    }
    make_rig(&r, c, QN_PRECISION_F64);
    r.data.source = s.source;
    qn_assert_ok(qn_rig_open(&r));
    initialise(r.session->params);
    qn_step_report report;
    qn_assert_ok(qn_rig_step(&r, 0, 1e-2, &report));
    qn_rig_free(&r);
    return report.loss;
}

/* The optional fields are read: without them the loss is another. */
static void test_fields_matter(void **state) {
    (void)state;
    qn_golden *g;
    qn_assert_ok(qn_golden_open(QUERN_SOURCE_DIR "/tests/golden/heads.bin", &g));
    for (int i = 0; i < N_CASES; i++) {
        double all = loss_of(g, &cases[i], "nothing");
        bool sees_padding = cases[i].head != QN_HEAD_TOKEN || cases[i].type[0] == 'b' ||
                            cases[i].type[0] == 'r'; /* a decoder's padding comes last */
        if (sees_padding) assert_true(fabs(loss_of(g, &cases[i], "documents") - all) > 1e-6);
        if (strcmp(cases[i].type, "bert") != 0) continue;
        assert_true(fabs(loss_of(g, &cases[i], "token_types") - all) > 1e-6);
    }
    qn_golden_close(g);
}

static void test_heads_that_a_family_lacks_are_refused(void **state) {
    (void)state;
    static const head_case missing[] = {
        {"", "bert", "lm", "masked", QN_HEAD_LM, 0},
        {"", "roberta", "lm", "masked", QN_HEAD_LM, 0},
        {"", "gpt2", "lm", "masked", QN_HEAD_MASKED_LM, 0},
        {"", "llama", "lm", "masked", QN_HEAD_MASKED_LM, 0},
    };
    for (int i = 0; i < 4; i++) {
        qn_rig r;
        qn_params *p;
        make_rig(&r, &missing[i], QN_PRECISION_F32);
        assert_int_equal(qn_rig_declare(&r, &p), QN_ERR_CONFIG);
        assert_non_null(strstr(qn_error_message(), missing[i].type));
        qn_rig_free(&r);
    }
    qn_head head;
    assert_true(qn_head_parse("token_classification", &head) && head == QN_HEAD_TOKEN);
    assert_false(qn_head_parse("tokens", &head));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f64),
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_cuda),
        cmocka_unit_test(test_fields_matter),
        cmocka_unit_test(test_heads_that_a_family_lacks_are_refused),
    };
    return cmocka_run_group_tests_name("heads", tests, NULL, NULL);
}
