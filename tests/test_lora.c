/* test_lora.c — adapters beside a model's linears: which, their names, what is planned, recorded
 * and trained. That the arithmetic is PEFT's is test_peft.c's matter. */
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const all_linear[] = {"all-linear"};
static const char *const q_and_v[] = {"q_proj", "v_proj"};

static qn_lora_config lora(const char *const *targets, int n) {
    return (qn_lora_config){
        .rank = 4, .alpha = 8, .lr_ratio = 1, .targets = targets, .n_targets = n};
}

static qn_params *declared(qn_rig *r, const char *type, const qn_lora_config *c) {
    qn_params *p;
    qn_rig_defaults(r, type);
    r->lora = c;
    qn_assert_ok(qn_rig_declare(r, &p));
    return p;
}

/* ---- names ----------------------------------------------------------------------------------- */

static void check_param(const qn_params *p, const char *name, const char *hf, int64_t rows,
                        int64_t columns) {
    const qn_param *q = qn_params_find(p, name);
    if (!q) fail_msg("%s is not declared", name);
    assert_string_equal(q->hf_name, hf);
    assert_int_equal(q->ndim, columns ? 2 : 1);
    assert_int_equal(q->shape[0], rows);
    if (columns) assert_int_equal(q->shape[1], columns);
    assert_int_equal(q->role, QN_ROLE_ADAPTER);
    assert_false(q->frozen);
}

static void parameters_have_pefts_names(void **state) {
    (void)state;
    qn_rig r;
    qn_lora_config c = lora(all_linear, 1);
    c.dora = true;
    qn_params *p = declared(&r, "llama", &c);
    assert_int_equal(p->n_adapters, 14); /* 7 in each of two blocks, not the output layer */
    check_param(p, "blocks.1.attn.k.lora_A.weight",
                "base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight", 4, 16);
    check_param(p, "blocks.1.attn.k.lora_B.weight",
                "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight", 8, 4);
    check_param(p, "blocks.0.mlp.down.lora_magnitude_vector.weight",
                "base_model.model.model.layers.0.mlp.down_proj.lora_magnitude_vector", 16, 0);
    assert_null(qn_params_find(p, "head.lora_A.weight"));
    qn_params_free(p);
    qn_rig_free(&r);
}

/* Globs that mean the same linears in Quern's words, in Hugging Face's, and by their last words. */
static void targets_are_found_by_either_name(void **state) {
    (void)state;
    static const struct {
        const char *target, *first;
        int n;
    } cases[] = {{"q_proj", "blocks.0.attn.q", 2},
                 {"self_attn.q_proj", "blocks.0.attn.q", 2},
                 {"attn.q", "blocks.0.attn.q", 2},
                 {"blocks.1.attn.q", "blocks.1.attn.q", 1},
                 {"model.layers.1.self_attn.q_proj", "blocks.1.attn.q", 1},
                 {"layers.*.mlp.*_proj", "blocks.0.mlp.gate", 6},
                 {"blocks.*.attn.?", "blocks.0.attn.q", 6},
                 {"**.attn.**", "blocks.0.attn.q", 8},
                 {"all-linear", "blocks.0.attn.q", 14}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qn_rig r;
        qn_lora_config c = lora(&cases[i].target, 1);
        qn_params *p = declared(&r, "llama", &c);
        if (p->n_adapters != cases[i].n) {
            fail_msg("%s: %d adapters, expected %d", cases[i].target, p->n_adapters, cases[i].n);
        }
        assert_string_equal(p->adapter[0].path, cases[i].first);
        qn_params_free(p);
        qn_rig_free(&r);
    }
}

static void gpt2_projections_are_one_linear(void **state) {
    (void)state;
    qn_rig r;
    static const char *const target[] = {"c_attn"};
    qn_lora_config c = lora(target, 1);
    qn_params *p = declared(&r, "gpt2", &c);
    assert_int_equal(p->n_adapters, 2);
    check_param(p, "blocks.0.attn.qkv.lora_B.weight",
                "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight", 48, 4);
    qn_params_free(p);
    qn_rig_free(&r);
}

static void wrong_names_say_what_there_is(void **state) {
    (void)state;
    static const char *const unknown[] = {"q_proj", "c_attn"}, *const output[] = {"lm_head"},
                             *const embedding[] = {"embed_tokens"}, *const module[] = {"pooler"};
    static const qn_lora_pattern pattern = {"k_project", 2, 0};
    qn_rig r;
    qn_params *p;
    qn_lora_config c = lora(unknown, 2);
    qn_rig_defaults(&r, "llama");
    r.lora = &c;
    assert_int_equal(qn_rig_declare(&r, &p), QN_ERR_CONFIG);
    assert_string_equal(
        qn_error_message(),
        "adapter.targets: \"c_attn\" names no linear layer of this model, which has "
        "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj");
    c = lora(output, 1);
    assert_int_equal(qn_rig_declare(&r, &p), QN_ERR_UNSUPPORTED);
    assert_non_null(strstr(qn_error_message(), "modules_to_save"));
    c = lora(embedding, 1);
    assert_int_equal(qn_rig_declare(&r, &p), QN_ERR_CONFIG);
    c = lora(all_linear, 1);
    c.patterns = &pattern;
    c.n_patterns = 1;
    assert_int_equal(qn_rig_declare(&r, &p), QN_ERR_CONFIG);
    assert_non_null(strstr(qn_error_message(), "adapter.patterns: \"k_project\""));
    c = lora(all_linear, 1);
    c.modules_to_save = module;
    c.n_modules_to_save = 1;
    assert_int_equal(qn_rig_declare(&r, &p), QN_ERR_CONFIG);
    assert_non_null(strstr(qn_error_message(), "adapter.modules_to_save: \"pooler\""));
    qn_rig_free(&r);
}

static void ranks_and_scales_follow_patterns(void **state) {
    (void)state;
    static const qn_lora_pattern patterns[] = {
        {"layers.1.self_attn.q_proj", 2, 0}, {"q_proj", 8, 4}, {"*_proj", 0, 32}};
    qn_rig r;
    qn_lora_config c = lora(q_and_v, 2);
    c.patterns = patterns;
    c.n_patterns = 3;
    c.rslora = true;
    qn_params *p = declared(&r, "llama", &c);
    /* rank and alpha of q.0, v.0, q.1, v.1: the first pattern that names a linear decides */
    static const double want[][2] = {{8, 4}, {4, 32}, {2, 8}, {4, 32}};
    for (int i = 0; i < 4; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s.lora_A.weight", p->adapter[i].path);
        assert_int_equal(qn_params_find(p, name)->shape[0], (int)want[i][0]);
        qn_assert_close(p->adapter[i].scale, want[i][1] / sqrt(want[i][0]), 1e-15, "scale");
    }
    qn_params_free(p);
    qn_rig_free(&r);
    c.rslora = false;
    p = declared(&r, "llama", &c);
    qn_assert_close(p->adapter[1].scale, 32.0 / 4, 1e-15, "scale");
    qn_params_free(p);
    qn_rig_free(&r);
}

/* ---- what is trained ------------------------------------------------------------------------- */

static void check_trained(const char *type, const qn_lora_config *c, const char *globs[]) {
    qn_rig r;
    qn_params *p = declared(&r, type, c);
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        bool trained = q->role == QN_ROLE_ADAPTER;
        for (int k = 0; globs[k]; k++) trained = trained || qn_glob_match(globs[k], q->name);
        if (q->frozen == trained)
            fail_msg("%s should %sbe trained", q->name, trained ? "" : "not ");
    }
    qn_params_free(p);
    qn_rig_free(&r);
}

static void biases_and_modules_train_on_request(void **state) {
    (void)state;
    static const char *const c_attn[] = {"c_attn"};
    static const char *const modules[] = {"wte", "model.norm", "layers.0.mlp", "mlp.up"};
    qn_lora_config c = lora(c_attn, 1);
    check_trained("gpt2", &c, (const char *[]){NULL});
    c.bias = QN_LORA_BIAS_ADAPTED;
    check_trained("gpt2", &c, (const char *[]){"blocks.*.attn.qkv.bias", NULL});
    c.bias = QN_LORA_BIAS_ALL;
    check_trained("gpt2", &c, (const char *[]){"**.bias", NULL});
    c.bias = QN_LORA_BIAS_NONE;
    c.modules_to_save = modules;
    c.n_modules_to_save = 1;
    check_trained("gpt2", &c, (const char *[]){"embed.token.weight", NULL});
    c = lora(all_linear, 1);
    c.modules_to_save = modules + 1;
    c.n_modules_to_save = 2; /* a module inside one that is saved is not adapted */
    check_trained("llama", &c, (const char *[]){"norm.weight", "blocks.0.mlp.*.weight", NULL});
    qn_rig r;
    qn_params *p = declared(&r, "llama", &c);
    assert_int_equal(p->n_adapters, 14 - 3);
    qn_params_free(p);
    qn_rig_free(&r);
}

static void lora_plus_is_a_ratio_of_learning_rates(void **state) {
    (void)state;
    qn_rig r;
    qn_lora_config c = lora(q_and_v, 2);
    c.lr_ratio = 16;
    c.dora = true;
    qn_params *p = declared(&r, "llama", &c);
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        if (q->frozen) continue;
        double want = strstr(q->name, "lora_A") ? 1 : 16;
        qn_assert_close(q->lr_scale, want, 0, q->name);
    }
    /* A group of the optimizer's has the last word. */
    assert_int_equal(qn_params_group(p, "**.lora_B.*", 3, -1, -1), 4);
    qn_assert_close(qn_params_find(p, "blocks.0.attn.q.lora_B.weight")->lr_scale, 3, 0, "group");
    assert_false(qn_params_find(p, "blocks.0.attn.q.lora_B.weight")->frozen);
    qn_params_free(p);
    qn_rig_free(&r);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static int64_t aligned(int64_t count) { return (count + 63) / 64 * 64; }

static void frozen_weights_have_nothing_beside_them(void **state) {
    (void)state;
    static const qn_precision precisions[] = {QN_PRECISION_F32, QN_PRECISION_BF16};
    for (int k = 0; k < 2; k++) {
        qn_rig r;
        qn_lora_config c = lora(q_and_v, 2);
        qn_rig_defaults(&r, "llama");
        r.lora = &c;
        r.options.precision = precisions[k];
        r.options.plan_only = true;
        r.options.keep_best = true;
        qn_assert_ok(qn_rig_open(&r));
        const qn_params *p = r.session->params;
        int64_t adapters = 0, all = 0;
        for (int i = 0; i < p->n; i++) {
            bool follows = p->item[i].fused; /* without padding before it */
            int64_t room = follows ? p->item[i].count : aligned(p->item[i].count);
            all += room;
            if (p->item[i].role == QN_ROLE_ADAPTER) adapters += room;
        }
        /* A (4,16), B (16,4) for q and (8,4) for v, two blocks: whole multiples of 64 but v's B. */
        assert_int_equal(adapters, 2 * (64 + 64 + 64 + 64));
        assert_int_equal(p->trainable_parameters, 2 * (64 + 64 + 64 + 32));
        int64_t weight = precisions[k] == QN_PRECISION_F32 ? 4 : 2;
        assert_int_equal(p->class_bytes[QN_CLASS_WEIGHT], weight * aligned(all));
        assert_int_equal(p->class_bytes[QN_CLASS_GRADIENT], 4 * adapters);
        assert_int_equal(p->class_bytes[QN_CLASS_MOMENT], 8 * adapters);
        assert_int_equal(p->class_bytes[QN_CLASS_MASTER], weight == 2 ? 4 * adapters : 0);
        assert_int_equal(p->class_bytes[QN_CLASS_BEST], 4 * adapters);
        qn_rig_free(&r);
    }
}

/* ---- what is recorded ------------------------------------------------------------------------ */

static int calls(const qn_rig *r, const char *op, const char *scope, int backward) {
    const qn_program *p = r->session->program[QN_MICRO_FIRST];
    int count = 0;
    for (int i = 0; i < qn_program_call_count(p); i++) {
        const qn_node *n = qn_program_node(p, i);
        bool here = strncmp(n->call.scope, scope, strlen(scope)) == 0;
        bool same = !op || strcmp(n->call.op->name, op) == 0;
        count += here && same && (backward < 0 || n->backward == (backward == 1));
    }
    return count;
}

static void planned(qn_rig *r, const char *type, const qn_lora_config *c) {
    qn_rig_defaults(r, type);
    r->lora = c;
    r->options.plan_only = true;
    qn_assert_ok(qn_rig_open(r));
}

static void one_product_for_a_group(void **state) {
    (void)state;
    qn_rig r;
    qn_lora_config c = lora(q_and_v, 2);
    planned(&r, "llama", &c);
    /* q|k|v with two adapters: one product, and x A^T of each */
    assert_int_equal(calls(&r, "linear_adapted", "blocks.0.attn", 0), 1);
    assert_int_equal(calls(&r, "linear", "blocks.0.attn", 0), 2 + 1); /* + the output projection */
    /* down: dA and dB of both; dx: through the output projection and each B; below block 0 nothing
     * wants a gradient, so neither x A^T nor x W^T passes one on */
    assert_int_equal(calls(&r, "linear_bwd_weight", "blocks.0.attn", 1), 4);
    assert_int_equal(calls(&r, "linear_bwd_input", "blocks.0.attn", 1), 1 + 2);
    assert_int_equal(calls(&r, "linear_bwd_input", "blocks.1.attn", 1), 1 + 2 + 1 + 2);
    assert_int_equal(calls(&r, "linear_bwd_weight", "blocks.0.mlp", 1), 0);
    qn_rig_free(&r);
    c = lora(all_linear, 1);
    planned(&r, "llama", &c);
    assert_int_equal(calls(&r, "linear_adapted", "blocks.0.mlp", 0), 2); /* gate|up, down */
    assert_int_equal(calls(&r, "linear_adapted", "", 0), 2 * 4);
    assert_int_equal(calls(&r, "linear_bwd_weight", "", 1), 2 * 14);
    qn_rig_free(&r);
}

static void no_gradient_below_the_lowest_adapter(void **state) {
    (void)state;
    static const char *const last[] = {"blocks.1.mlp.down"};
    qn_rig r;
    qn_lora_config c = lora(last, 1);
    planned(&r, "llama", &c);
    assert_int_equal(calls(&r, NULL, "blocks.0", 1), 0);
    assert_int_equal(calls(&r, NULL, "blocks.1.attn", 1), 0);
    assert_int_equal(calls(&r, NULL, "embed", 1), 0);
    /* dB, dA, du and the scale's; no dx, for what down reads needs no gradient */
    assert_int_equal(calls(&r, NULL, "blocks.1", 1), 4);
    assert_int_equal(calls(&r, "linear_bwd_weight", "blocks.1.mlp", 1), 2);
    assert_int_equal(calls(&r, "linear_bwd_input", "blocks.1.mlp", 1), 1);
    qn_rig_free(&r);
}

/* ---- training -------------------------------------------------------------------------------- */

static void train(qn_rig *r, int steps, double *losses) {
    for (int s = 0; s < steps; s++) {
        qn_step_report report;
        qn_assert_ok(qn_rig_step(r, s, 2e-2, &report));
        assert_true(report.applied);
        losses[s] = report.loss;
    }
}

static void run(qn_rig *r, const char *type, const qn_lora_config *c, qn_precision precision,
                int steps, double *losses) {
    qn_rig_defaults(r, type);
    r->lora = c;
    r->options.precision = precision;
    qn_assert_ok(qn_rig_open(r));
    train(r, steps, losses);
}

static void a_new_adapter_changes_nothing(void **state) {
    (void)state;
    static const char *const types[] = {"llama", "gpt2", "mlp"};
    for (int k = 0; k < 3; k++) {
        qn_rig r;
        double plain, adapted, magnitudes;
        qn_lora_config c = lora(all_linear, 1);
        run(&r, types[k], NULL, QN_PRECISION_F32, 1, &plain);
        qn_rig_free(&r);
        run(&r, types[k], &c, QN_PRECISION_F32, 1, &adapted);
        qn_rig_free(&r);
        assert_true(adapted == plain); /* adding zeros: the same bits */
        c.dora = true;
        run(&r, types[k], &c, QN_PRECISION_F32, 1, &magnitudes);
        qn_rig_free(&r);
        qn_assert_close(magnitudes, plain, 1e-6, types[k]); /* m/n is 1 up to one rounding */
    }
}

/* The base keeps its bytes, every adapter moves, the loss falls. */
static void check_training(const char *type, const qn_lora_config *c, qn_precision precision) {
    enum { STEPS = 30 };
    qn_rig r;
    double losses[STEPS];
    uint64_t before[128];
    qn_rig_defaults(&r, type);
    r.lora = c;
    r.options.precision = precision;
    qn_assert_ok(qn_rig_open(&r));
    qn_params *p = r.session->params;
    assert_true(p->n <= 128);
    for (int i = 0; i < p->n; i++) {
        qn_tensor w = qn_param_tensor(p, i, &p->weights);
        before[i] = qn_hash_tensor(&w);
    }
    train(&r, STEPS, losses);
    for (int i = 0; i < p->n; i++) {
        qn_tensor w = qn_param_tensor(p, i, &p->weights);
        bool moved = qn_hash_tensor(&w) != before[i];
        if (moved == p->item[i].frozen)
            fail_msg("%s: %s", p->item[i].name, moved ? "moved" : "still");
    }
    if (!(losses[STEPS - 1] < 0.93 * losses[0])) {
        fail_msg("%s: the loss went from %g to %g", type, losses[0], losses[STEPS - 1]);
    }
    qn_rig_free(&r);
}

static void the_base_is_left_alone(void **state) {
    (void)state;
    qn_lora_config c = lora(all_linear, 1);
    check_training("llama", &c, QN_PRECISION_F32);
    check_training("gpt2", &c, QN_PRECISION_BF16);
    check_training("mlp", &c, QN_PRECISION_F64);
    c.dora = true;
    c.dropout = 0.1;
    check_training("llama", &c, QN_PRECISION_F32);
    check_training("gpt2", &c, QN_PRECISION_F64);
    static const char *const embeddings[] = {"embed_tokens", "lm_head"};
    c = lora(q_and_v, 2);
    c.modules_to_save = embeddings;
    c.n_modules_to_save = 2;
    check_training("llama", &c, QN_PRECISION_BF16);
}

/* Dropout is drawn anew in each step, by the seed alone; evaluation has none. */
static void dropout_is_for_training(void **state) {
    (void)state;
    enum { STEPS = 4 };
    for (int dora = 0; dora < 2; dora++) {
        qn_rig r;
        double with[3][STEPS], without[STEPS];
        qn_record eval[2] = {0};
        qn_lora_config c = lora(all_linear, 1);
        c.dora = dora;
        run(&r, "llama", &c, QN_PRECISION_F32, STEPS, without);
        qn_rig_free(&r);
        c.dropout = 0.5;
        for (int k = 0; k < 2; k++) {
            run(&r, "llama", &c, QN_PRECISION_F32, STEPS, with[k]);
            qn_assert_ok(qn_session_evaluate(r.session, QN_SPLIT_VAL, 0, &eval[k]));
            qn_rig_free(&r);
        }
        assert_memory_equal(with[0], with[1], sizeof with[0]);
        qn_assert_close(with[0][0], without[0], 1e-6, "B is zero in the first step");
        assert_true(fabs(with[0][STEPS - 1] - without[STEPS - 1]) > 1e-6);
        /* The same weights without dropout in the configuration evaluate to the same number. */
        r = (qn_rig){0};
        qn_rig_defaults(&r, "llama");
        r.lora = &c;
        qn_assert_ok(qn_rig_open(&r));
        train(&r, STEPS, with[2]);
        qn_rig plain;
        qn_lora_config none = c;
        none.dropout = 0;
        qn_rig_defaults(&plain, "llama");
        plain.lora = &none;
        qn_assert_ok(qn_rig_open(&plain));
        memcpy(plain.session->params->weights.data, r.session->params->weights.data,
               qn_tensor_bytes(&r.session->params->weights));
        qn_record other = {0};
        qn_assert_ok(qn_session_evaluate(plain.session, QN_SPLIT_VAL, 0, &other));
        assert_true(qn_record_get(&other, "eval/loss", -1) ==
                    qn_record_get(&eval[0], "eval/loss", -2));
        qn_rig_free(&plain);
        qn_rig_free(&r);
    }
}

static void recomputation_changes_no_bit(void **state) {
    (void)state;
    enum { STEPS = 3 };
    static const char *const globs[] = {"blocks.*", NULL};
    double plain[STEPS], again[STEPS];
    qn_lora_config c = lora(all_linear, 1);
    c.dora = true;
    c.dropout = 0.25;
    qn_rig r;
    run(&r, "llama", &c, QN_PRECISION_F32, STEPS, plain);
    qn_rig_free(&r);
    qn_rig_defaults(&r, "llama");
    r.lora = &c;
    r.options.recompute = globs;
    qn_assert_ok(qn_rig_open(&r));
    train(&r, STEPS, again);
    qn_rig_free(&r);
    assert_memory_equal(plain, again, sizeof plain);
}

/* ---- CUDA ------------------------------------------------------------------------------------ */

/* Without a kernel of its own an adapted product is recorded in parts: the same formula. */
static void cuda_trains_the_same(void **state) {
    (void)state;
    enum { STEPS = 3 };
    static const struct {
        const char *type;
        bool dora;
        double dropout;
        qn_precision precision;
        double tolerance; /* of losses: f32 rounding; bf16 has 8 bits, and other places to round */
    } cases[] = {{"llama", false, 0, QN_PRECISION_F32, 2e-5},
                 {"gpt2", true, 0, QN_PRECISION_F32, 2e-5},
                 {"llama", true, 0.25, QN_PRECISION_F32, 2e-5},
                 {"gpt2", false, 0.25, QN_PRECISION_BF16, 2e-2}};
    if (!qn_cuda_usable()) skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double losses[2][STEPS];
        for (int device = 0; device < 2; device++) {
            qn_rig r;
            qn_lora_config c = lora(all_linear, 1);
            c.dora = cases[i].dora;
            c.dropout = cases[i].dropout;
            qn_rig_defaults(&r, cases[i].type);
            r.lora = &c;
            r.options.precision = cases[i].precision;
            r.options.device = device ? QN_CUDA : QN_CPU;
            qn_assert_ok(qn_rig_open(&r));
            train(&r, STEPS, losses[device]);
            qn_rig_free(&r);
        }
        for (int s = 0; s < STEPS; s++) {
            qn_assert_close(losses[1][s], losses[0][s], cases[i].tolerance, cases[i].type);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_have_pefts_names),
        cmocka_unit_test(targets_are_found_by_either_name),
        cmocka_unit_test(gpt2_projections_are_one_linear),
        cmocka_unit_test(wrong_names_say_what_there_is),
        cmocka_unit_test(ranks_and_scales_follow_patterns),
        cmocka_unit_test(biases_and_modules_train_on_request),
        cmocka_unit_test(lora_plus_is_a_ratio_of_learning_rates),
        cmocka_unit_test(frozen_weights_have_nothing_beside_them),
        cmocka_unit_test(one_product_for_a_group),
        cmocka_unit_test(no_gradient_below_the_lowest_adapter),
        cmocka_unit_test(a_new_adapter_changes_nothing),
        cmocka_unit_test(the_base_is_left_alone),
        cmocka_unit_test(dropout_is_for_training),
        cmocka_unit_test(recomputation_changes_no_bit),
        cmocka_unit_test(cuda_trains_the_same),
    };
    return cmocka_run_group_tests_name("lora", tests, NULL, NULL);
}
