/* test_layers.c — what the model families declare: every name, shape, Hugging Face name, rule. */
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct expected {
    const char *name, *hf_name;
    int64_t shape[2]; /* second 0: a vector */
    bool transposed;  /* Hugging Face stores it [in,out] */
    double deviation; /* of the initial normal draw; 0 = zeros, 1 = ones, -x = uniform in ±x */
} expected;

static void check(const qn_params *p, const expected *want, int n) {
    for (int i = 0; i < n && i < p->n; i++) {
        const qn_param *q = &p->item[i];
        const expected *e = &want[i];
        assert_string_equal(q->name, e->name);
        assert_string_equal(q->hf_name, e->hf_name);
        bool vector = e->shape[1] == 0;
        bool same = q->ndim == (vector ? 1 : 2) && q->shape[0] == e->shape[0] &&
                    (vector || q->shape[1] == e->shape[1]);
        if (!same) fail_msg("%s has another shape", q->name);
        if (q->hf_transposed != e->transposed) fail_msg("%s: transposed?", q->name);
        if (q->no_decay != vector) fail_msg("%s: weight decay is for matrices", q->name);
        qn_init_kind kind = e->deviation == 0   ? QN_INIT_ZERO
                            : e->deviation == 1 ? QN_INIT_ONE
                            : e->deviation < 0  ? QN_INIT_UNIFORM
                                                : QN_INIT_NORMAL;
        if (q->init != kind) fail_msg("%s: another initial draw", q->name);
        if (kind >= QN_INIT_NORMAL) {
            qn_assert_close(q->init_scale, fabs(e->deviation), 1e-15, q->name);
        }
    }
    assert_int_equal(p->n, n);
}

static qn_params *declared(qn_rig *r) {
    qn_params *p;
    qn_assert_ok(qn_rig_declare(r, &p));
    return p;
}

/* ---- names ----------------------------------------------------------------------------------- */

#define GPT2_BLOCK(n, s, r)                                                                        \
    {"blocks." n ".norm1.weight", "transformer.h." n ".ln_1.weight", {16}, false, 1},              \
        {"blocks." n ".norm1.bias", "transformer.h." n ".ln_1.bias", {16}, false, 0},              \
        {"blocks." n ".attn.qkv.weight",                                                           \
         "transformer.h." n ".attn.c_attn.weight",                                                 \
         {48, 16},                                                                                 \
         true,                                                                                     \
         s},                                                                                       \
        {"blocks." n ".attn.qkv.bias", "transformer.h." n ".attn.c_attn.bias", {48}, false, 0},    \
        {"blocks." n ".attn.out.weight",                                                           \
         "transformer.h." n ".attn.c_proj.weight",                                                 \
         {16, 16},                                                                                 \
         true,                                                                                     \
         r},                                                                                       \
        {"blocks." n ".attn.out.bias", "transformer.h." n ".attn.c_proj.bias", {16}, false, 0},    \
        {"blocks." n ".norm2.weight", "transformer.h." n ".ln_2.weight", {16}, false, 1},          \
        {"blocks." n ".norm2.bias", "transformer.h." n ".ln_2.bias", {16}, false, 0},              \
        {"blocks." n ".mlp.up.weight", "transformer.h." n ".mlp.c_fc.weight", {64, 16}, true, s},  \
        {"blocks." n ".mlp.up.bias", "transformer.h." n ".mlp.c_fc.bias", {64}, false, 0},         \
        {"blocks." n ".mlp.down.weight",                                                           \
         "transformer.h." n ".mlp.c_proj.weight",                                                  \
         {16, 64},                                                                                 \
         true,                                                                                     \
         r},                                                                                       \
    {                                                                                              \
        "blocks." n ".mlp.down.bias", "transformer.h." n ".mlp.c_proj.bias", {16}, false, 0        \
    }

/* Radford et al. 2019: N(0, 0.02²), residual projections divided by the root of their number. */
static void test_gpt2_names(void **state) {
    (void)state;
    static const expected want[] = {
        {"embed.token.weight", "transformer.wte.weight", {13, 16}, false, 0.02},
        {"embed.position.weight", "transformer.wpe.weight", {8, 16}, false, 0.02},
        GPT2_BLOCK("0", 0.02, 0.01),
        GPT2_BLOCK("1", 0.02, 0.01),
        {"norm.weight", "transformer.ln_f.weight", {16}, false, 1},
        {"norm.bias", "transformer.ln_f.bias", {16}, false, 0},
        {"head.weight", "lm_head.weight", {13, 16}, false, 0.02},
    };
    enum { ALL = sizeof want / sizeof *want };
    qn_rig r;
    qn_rig_defaults(&r, "gpt2");
    r.config.initializer_range = 0.02;
    r.config.intermediate_size = 64;
    qn_params *p = declared(&r);
    check(p, want, ALL - 1); /* the head is the token table */
    qn_params_free(p);
    r.config.tie_word_embeddings = false;
    p = declared(&r);
    check(p, want, ALL);
    qn_params_free(p);
    r.config.bias = false;
    p = declared(&r);
    assert_int_equal(p->n, ALL - 13);
    for (int i = 0; i < p->n; i++) assert_null(strstr(p->item[i].name, "bias"));
    qn_params_free(p);
    qn_rig_free(&r);
}

#define LLAMA(n, ours, theirs, rows, columns)                                                      \
    {                                                                                              \
        "blocks." n "." ours ".weight", "model.layers." n "." theirs ".weight", {rows, columns},   \
            false, 0.02                                                                            \
    }
#define LLAMA_NORM(n, ours, theirs)                                                                \
    { "blocks." n "." ours ".weight", "model.layers." n "." theirs ".weight", {16}, false, 1 }
#define LLAMA_BLOCK(n)                                                                             \
    LLAMA_NORM(n, "norm1", "input_layernorm"), LLAMA(n, "attn.q", "self_attn.q_proj", 16, 16),     \
        LLAMA(n, "attn.k", "self_attn.k_proj", 8, 16),                                             \
        LLAMA(n, "attn.v", "self_attn.v_proj", 8, 16),                                             \
        LLAMA(n, "attn.out", "self_attn.o_proj", 16, 16),                                          \
        LLAMA_NORM(n, "norm2", "post_attention_layernorm"),                                        \
        LLAMA(n, "mlp.gate", "mlp.gate_proj", 24, 16), LLAMA(n, "mlp.up", "mlp.up_proj", 24, 16),  \
        LLAMA(n, "mlp.down", "mlp.down_proj", 16, 24)

static void test_llama_names(void **state) {
    (void)state;
    static const expected want[] = {
        {"embed.token.weight", "model.embed_tokens.weight", {13, 16}, false, 0.02},
        LLAMA_BLOCK("0"),
        LLAMA_BLOCK("1"),
        {"norm.weight", "model.norm.weight", {16}, false, 1},
        {"head.weight", "lm_head.weight", {13, 16}, false, 0.02},
    };
    enum { ALL = sizeof want / sizeof *want };
    qn_rig r;
    qn_rig_defaults(&r, "llama");
    r.config.initializer_range = 0.02;
    qn_params *p = declared(&r);
    check(p, want, ALL);
    qn_params_free(p);
    r.config.tie_word_embeddings = true;
    p = declared(&r);
    check(p, want, ALL - 1);
    qn_params_free(p);
    r.config.attention_bias = true; /* q, k, v and o only, as Hugging Face's attention_bias */
    p = declared(&r);
    assert_int_equal(p->n, ALL - 1 + 2 * 4);
    assert_string_equal(qn_params_find(p, "blocks.1.attn.k.bias")->hf_name,
                        "model.layers.1.self_attn.k_proj.bias");
    assert_null(qn_params_find(p, "blocks.1.mlp.up.bias"));
    qn_params_free(p);
    qn_rig_free(&r);
}

/* nn.Linear's draw: U(±1/sqrt(in)) for weight and bias. */
static void test_mlp_names(void **state) {
    (void)state;
    const double six = -1 / sqrt(6.0), eight = -1 / sqrt(8.0), seven = -1 / sqrt(7.0);
    const expected want[] = {
        {"layers.0.weight", "layers.0.weight", {8, 6}, false, six},
        {"layers.0.bias", "layers.0.bias", {8}, false, six},
        {"layers.1.weight", "layers.1.weight", {7, 8}, false, eight},
        {"layers.1.bias", "layers.1.bias", {7}, false, eight},
        {"head.weight", "head.weight", {3, 7}, false, seven},
        {"head.bias", "head.bias", {3}, false, seven},
    };
    qn_rig r;
    qn_rig_defaults(&r, "mlp");
    qn_params *p = declared(&r);
    check(p, want, 6);
    qn_params_free(p);
    r.config.n_hidden = 0;
    p = declared(&r);
    assert_int_equal(p->n, 2);
    assert_int_equal(p->item[0].shape[1], 6);
    qn_params_free(p);
    qn_rig_free(&r);
}

/* ---- sizes of published models: shapes alone, no memory -------------------------------------- */

static int64_t count(const char *type, const qn_model_config *c) {
    qn_rig r;
    qn_rig_defaults(&r, type);
    r.config = *c;
    qn_params *p = declared(&r);
    qn_assert_ok(qn_params_layout(p, QN_PRECISION_BF16, 2, 0.1, false));
    assert_null(p->weights.data);
    int64_t n = p->parameters;
    assert_int_equal(n, p->trainable_parameters);
    assert_true(p->total >= n && p->total < n + 64 * p->n);
    qn_params_free(p);
    qn_rig_free(&r);
    return n;
}

static void test_published_sizes(void **state) {
    (void)state;
    qn_model_config gpt2 = {.type = "gpt2",
                            .vocab_size = 50257,
                            .hidden_size = 768,
                            .num_hidden_layers = 12,
                            .num_attention_heads = 12,
                            .num_key_value_heads = 12,
                            .head_dim = 64,
                            .intermediate_size = 3072,
                            .max_position_embeddings = 1024,
                            .tie_word_embeddings = true,
                            .bias = true};
    assert_int_equal(count("gpt2", &gpt2), 124439808);
    qn_model_config llama = {.type = "llama",
                             .vocab_size = 32000,
                             .hidden_size = 4096,
                             .num_hidden_layers = 32,
                             .num_attention_heads = 32,
                             .num_key_value_heads = 32,
                             .head_dim = 128,
                             .intermediate_size = 11008,
                             .max_position_embeddings = 4096};
    assert_int_equal(count("llama", &llama), 6738415616); /* Llama-2-7B */
    llama.vocab_size = 128256;
    llama.num_key_value_heads = 8;
    llama.intermediate_size = 14336;
    assert_int_equal(count("llama", &llama), 8030261248); /* Llama-3-8B */
}

/* ---- groups and refusals --------------------------------------------------------------------- */

static void test_projections_that_run_as_one_are_adjacent(void **state) {
    (void)state;
    qn_rig r;
    qn_rig_defaults(&r, "llama");
    r.config.hidden_size = 10; /* sizes that would need padding */
    r.config.head_dim = 5;
    r.config.intermediate_size = 7;
    qn_params *p = declared(&r);
    qn_assert_ok(qn_params_layout(p, QN_PRECISION_F32, 2, 0.1, false));
    static const char *const groups[][3] = {
        {"blocks.%d.attn.q.weight", "blocks.%d.attn.k.weight", "blocks.%d.attn.v.weight"},
        {"blocks.%d.mlp.gate.weight", "blocks.%d.mlp.up.weight", NULL}};
    for (int layer = 0; layer < 2; layer++) {
        for (int k = 0; k < 2; k++) {
            for (int j = 0; j < 2 && groups[k][j + 1]; j++) {
                char a[64], b[64];
                snprintf(a, sizeof a, groups[k][j], layer);
                snprintf(b, sizeof b, groups[k][j + 1], layer);
                const qn_param *first = qn_params_find(p, a), *second = qn_params_find(p, b);
                assert_int_equal(second->offset, first->offset + first->count);
            }
        }
    }
    qn_params_free(p);
    qn_rig_free(&r);
}

/* One matmul for q, k, v when they lie together, three when one of them is frozen or has a bias:
 * the loss is the same. */
static double first_loss(qn_rig *r, const char *frozen) {
    qn_params *p = declared(r);
    if (frozen) assert_true(qn_params_group(p, frozen, -1, -1, 1) > 0);
    qn_assert_ok(qn_session_create(&r->options, &r->model, &r->objective, &r->optimizer,
                                   &r->data.source, p, &r->session));
    qn_assert_ok(qn_params_init(p, r->options.seed, 1));
    qn_step_report report;
    qn_assert_ok(qn_rig_step(r, 0, 1e-3, &report));
    assert_true(report.applied);
    qn_rig_close_session(r);
    return report.loss;
}

static void test_split_projections_compute_the_same(void **state) {
    (void)state;
    qn_rig r;
    qn_rig_defaults(&r, "llama");
    double together = first_loss(&r, NULL);
    qn_assert_close(first_loss(&r, "blocks.*.attn.k.*"), together, 1e-6, "k frozen");
    qn_assert_close(first_loss(&r, "blocks.*.mlp.gate.*"), together, 1e-6, "gate frozen");
    r.config.attention_bias = true; /* biases start at zero */
    qn_assert_close(first_loss(&r, NULL), together, 1e-6, "with biases");
    qn_rig_free(&r);
}

static void check_frozen(const char *type, const char *glob) {
    qn_rig r;
    qn_rig_defaults(&r, type);
    qn_params *p = declared(&r);
    assert_true(qn_params_group(p, glob, -1, -1, 1) > 0);
    qn_assert_ok(qn_session_create(&r.options, &r.model, &r.objective, &r.optimizer, &r.data.source,
                                   p, &r.session));
    qn_assert_ok(qn_params_init(p, 1, 1));
    uint64_t before[64];
    for (int i = 0; i < p->n; i++) {
        qn_tensor w = qn_param_tensor(p, i, &p->weights);
        before[i] = qn_hash_tensor(&w);
    }
    for (int64_t s = 0; s < 3; s++) {
        qn_step_report report;
        qn_assert_ok(qn_rig_step(&r, s, 1e-2, &report));
    }
    for (int i = 0; i < p->n; i++) {
        qn_tensor w = qn_param_tensor(p, i, &p->weights);
        if ((qn_hash_tensor(&w) == before[i]) != p->item[i].frozen) {
            fail_msg("%s, %s frozen: %s should %smove", type, glob, p->item[i].name,
                     p->item[i].frozen ? "not " : "");
        }
    }
    qn_rig_free(&r);
}

static void test_frozen_parameters_alone_do_not_move(void **state) {
    (void)state;
    check_frozen("gpt2", "blocks.0.**");
    check_frozen("gpt2", "embed.token.*"); /* table and head at once */
    check_frozen("gpt2", "**.bias");
    check_frozen("llama", "blocks.*.attn.v.*");
    check_frozen("llama", "embed.**");
    check_frozen("llama", "head.*");
    check_frozen("mlp", "layers.0.*");
    check_frozen("mlp", "head.*");
}

static void test_unknown_names_are_refused(void **state) {
    (void)state;
    qn_model_config c = {.type = "gpt3"};
    qn_objective_config o = {0};
    qn_optimizer_config u = {.type = "adam"};
    qn_model model;
    qn_objective objective;
    qn_optimizer optimizer;
    assert_int_equal(qn_model_create(&c, &model), QN_ERR_CONFIG);
    assert_non_null(strstr(qn_error_message(), "gpt3"));
    assert_int_equal(qn_objective_create("guess", &o, &objective), QN_ERR_CONFIG);
    assert_non_null(strstr(qn_error_message(), "guess"));
    assert_int_equal(qn_optimizer_create(&u, &optimizer), QN_ERR_CONFIG);
    assert_non_null(strstr(qn_error_message(), "adam"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2_names),
        cmocka_unit_test(test_llama_names),
        cmocka_unit_test(test_mlp_names),
        cmocka_unit_test(test_published_sizes),
        cmocka_unit_test(test_projections_that_run_as_one_are_adjacent),
        cmocka_unit_test(test_split_projections_compute_the_same),
        cmocka_unit_test(test_frozen_parameters_alone_do_not_move),
        cmocka_unit_test(test_unknown_names_are_refused),
    };
    return cmocka_run_group_tests_name("layers", tests, NULL, NULL);
}
