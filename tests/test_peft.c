/* test_peft.c — adapters made by PEFT: the same logits, gradients and training; and refusals.
 *
 * golden/peft (made by golden/make_peft.py, which tells what each case and number is) has adapters
 * as PEFT saved them, golden/peft.bin what PEFT computes with them in f64 beside the models of
 * golden/trajectories.bin. Here in f64 too: everything agrees within 1e-11 relative, which is what
 * another order of summation leaves after ten steps of AdamW (PyTorch's own runs differ from each
 * other by up to 1e-13 in trajectories.bin; an update divides by the root of a small mean square).
 */
#include "io/file.h"
#include "io/peft.h"
#include "io/safetensors.h"
#include "tests/harness.h"
#include "tests/harness_golden.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN QUERN_SOURCE_DIR "/tests/golden/"
enum { STEPS = 10, VOCAB = 61, TIME = 16 };
static const double EXACT = 1e-11;

static const char *const cases[] = {"gpt2_lora",  "gpt2_dora",      "gpt2_saved", "gpt2_bias",
                                    "llama_lora", "llama_patterns", "llama_dora"};
enum { N_CASES = sizeof cases / sizeof *cases };

typedef struct fixture {
    qn_golden *base, *peft;
    qn_peft *adapter;
    qn_rig rig;
    const char *name;
} fixture;

/* ---- the models of trajectories.bin ---------------------------------------------------------- */

static void *copy_of(const qn_golden *g, const char *name) {
    qn_tensor t;
    qn_assert_ok(qn_golden_get(g, &t, "%s", name));
    void *p = malloc(qn_tensor_bytes(&t));
    if (!p) fail_msg("out of memory");
    return memcpy(p, t.data, qn_tensor_bytes(&t));
}

static void use_model(qn_rig *r, const qn_golden *g, const char *type) {
    qn_tensor v;
    bool llama = strcmp(type, "llama") == 0;
    qn_assert_ok(qn_golden_get(g, &v, "%s/config", type));
    const double *n = v.data;
    qn_rig_defaults(r, type);
    r->config.vocab_size = (int64_t)n[0];
    r->config.max_position_embeddings = (int64_t)n[1];
    r->config.hidden_size = (int64_t)n[2];
    r->config.num_hidden_layers = (int64_t)n[3];
    r->config.num_attention_heads = (int64_t)n[4];
    r->config.head_dim = r->config.hidden_size / r->config.num_attention_heads;
    r->config.num_key_value_heads = (int64_t)n[llama ? 5 : 4];
    r->config.intermediate_size = llama ? (int64_t)n[6] : 4 * r->config.hidden_size;
    r->config.norm_eps = n[llama ? 7 : 5];
    for (int i = 0; i < 2; i++) free(r->data.data[i]);
    r->data.data[0] = copy_of(g, "lm/tokens");
    r->data.data[1] = copy_of(g, "lm/targets");
    r->data.source.n[QN_SPLIT_TRAIN] = (int64_t)(STEPS + 1) * 2 * 4;
    r->data.source.n[QN_SPLIT_VAL] = 0;
    r->data.source.field[0].shape[0] = r->data.source.field[1].shape[0] = TIME;
    r->options.evaluate = false;
    r->options.clip_norm = 0;
    r->options.precision = QN_PRECISION_F64;
}

static void load_base(const qn_rig *r, const qn_golden *g) {
    const qn_params *p = r->session->params;
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        if (q->role == QN_ROLE_ADAPTER) continue;
        qn_tensor to = qn_param_tensor(p, i, &p->weights), from;
        qn_assert_ok(qn_golden_get(g, &from, "%s/init/%s", r->config.type, q->hf_name));
        int64_t rows = q->shape[0], columns = q->ndim == 2 ? q->shape[1] : 1;
        for (int64_t k = 0; k < q->count; k++) {
            int64_t at = q->hf_transposed ? k % columns * rows + k / columns : k;
            qn_tensor_set(&to, k, qn_tensor_get(&from, at));
        }
    }
}

static double option(const fixture *f, int i) {
    qn_tensor t;
    qn_assert_ok(qn_golden_get(f->peft, &t, "%s/options", f->name));
    return qn_tensor_get(&t, i);
}

static void open_case(fixture *f, const char *name) {
    char path[QN_PATH_MAX], type[16];
    snprintf(path, sizeof path, GOLDEN "peft/%s", name);
    snprintf(type, sizeof type, "%.*s", (int)strcspn(name, "_"), name);
    *f = (fixture){.name = name};
    qn_assert_ok(qn_golden_open(GOLDEN "trajectories.bin", &f->base));
    qn_assert_ok(qn_golden_open(GOLDEN "peft.bin", &f->peft));
    qn_assert_ok(qn_peft_open(path, &f->adapter));
    assert_string_equal(qn_peft_notes(f->adapter), "");
    static qn_lora_config lora;
    lora = *qn_peft_config(f->adapter);
    lora.lr_ratio = option(f, 2);
    use_model(&f->rig, f->base, strcmp(type, "gpt2") == 0 ? "gpt2" : "llama");
    f->rig.lora = &lora;
    f->rig.optimizer_config.lr = option(f, 0);
    f->rig.optimizer_config.weight_decay = option(f, 1);
    f->rig.optimizer_config.beta2 = 0.999;
    qn_assert_ok(qn_rig_open(&f->rig));
    load_base(&f->rig, f->base);
    qn_assert_ok(qn_peft_load(f->adapter, f->rig.session->params));
}

static void close_case(fixture *f) {
    qn_rig_free(&f->rig);
    qn_peft_close(f->adapter);
    qn_golden_close(f->base);
    qn_golden_close(f->peft);
}

/* ---- logits ---------------------------------------------------------------------------------- */

static void check_logits(const fixture *f, const char *which) {
    qn_tape_options o = {.name = "logits", .threads = 1, .device = QN_CPU};
    qn_tape *t;
    qn_graph g;
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_assert_ok(qn_graph_create(t, f->rig.session->params, false, &g));
    qn_tensor tokens = qn_tensor_make(f->rig.data.data[0], QN_I32, QN_SHAPE(1, TIME)), want;
    qn_value *field = qn_tape_given(t, "tokens", QN_CLASS_INPUT, &tokens, false);
    qn_forward in = {.field = &field};
    qn_output out = {0};
    qn_assert_ok(f->rig.model.forward(f->rig.model.self, &g, &in, &out));
    qn_value *y = qn_linear(t, out.hidden, out.head_weight, NULL, QN_ACT_NONE, NULL);
    qn_tape_keep(t, y, "logits");
    qn_assert_ok(qn_tape_status(t));
    qn_program *p;
    qn_arena *pool;
    qn_assert_ok(qn_program_create(t, &p));
    qn_assert_ok(qn_arena_create("pool", qn_program_pool_bytes(p), &pool));
    qn_assert_ok(qn_program_bind(p, QN_CPU, pool));
    qn_assert_ok(qn_program_replay(p));
    qn_assert_ok(qn_golden_get(f->peft, &want, "%s/%s", f->name, which));
    assert_int_equal(qn_tensor_count(&want), TIME * VOCAB);
    for (int64_t i = 0; i < TIME * VOCAB; i++) {
        qn_assert_close(qn_tensor_get(&y->t, i), qn_tensor_get(&want, i), EXACT, f->name);
    }
    qn_program_free(p);
    qn_arena_free(pool);
}

static void logits_are_pefts(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        fixture f;
        open_case(&f, cases[i]);
        check_logits(&f, "logits");
        close_case(&f);
    }
}

/* Folded into the weights, the model computes what PEFT's merged one does, without adapters. */
static void merged_weights_are_pefts(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        fixture f;
        open_case(&f, cases[i]);
        qn_assert_ok(qn_lora_merge(f.rig.session->params, QN_F64, 1 + i % 2));
        assert_int_equal(f.rig.session->params->n_adapters, 0);
        check_logits(&f, "merged");
        close_case(&f);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static qn_config *written_config(const fixture *f) {
    const qn_lora_config *c = qn_peft_config(f->adapter);
    static const char *const bias[] = {"none", "lora_only", "all"};
    char text[1024], *diagnostics;
    qn_config *out;
    snprintf(text, sizeof text,
             "{\"model\": {\"type\": \"%s\", \"hidden_size\": 32, \"num_hidden_layers\": 2,"
             " \"num_attention_heads\": 2}, \"data\": {\"type\": \"tokens\", \"path\": \"x\"},"
             " \"train\": {\"max_steps\": 1}, \"adapter\": {\"type\": \"lora\", \"r\": %d,"
             " \"alpha\": %d, \"bias\": \"%s\", \"use_dora\": %s, \"use_rslora\": %s}}",
             f->rig.config.type, (int)c->rank, (int)c->alpha, bias[c->bias],
             c->dora ? "true" : "false", c->rslora ? "true" : "false");
    if (qn_config_load_text("c", text, strlen(text), NULL, NULL, 0, &out, &diagnostics) != QN_OK) {
        fail_msg("%s", diagnostics);
    }
    return out;
}

static void same_tensors(const char *a, const char *b) {
    qn_safetensors *x, *y;
    qn_assert_ok(qn_safetensors_open(a, &x));
    qn_assert_ok(qn_safetensors_open(b, &y));
    assert_int_equal(qn_safetensors_count(x), qn_safetensors_count(y));
    for (int64_t i = 0; i < qn_safetensors_count(x); i++) {
        const qn_safetensor *t = qn_safetensors_get(x, i), *u = qn_safetensors_get(y, i);
        assert_string_equal(t->name, u->name);
        assert_string_equal(t->dtype, u->dtype);
        assert_int_equal(t->bytes, u->bytes);
        if (memcmp(t->data, u->data, (size_t)t->bytes) != 0) fail_msg("%s differs", t->name);
    }
    qn_safetensors_close(x);
    qn_safetensors_close(y);
}

/* What is written has the names, dtypes and bytes of what PEFT wrote, and opens again as the same
 * adapter: the same layers, ranks and scales, or loading would refuse it. */
static void written_adapters_are_pefts(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        fixture f;
        char *folder = qn_test_dir(), dir[QN_PATH_MAX], a[QN_PATH_MAX], b[QN_PATH_MAX];
        qn_peft *again;
        open_case(&f, cases[i]);
        qn_config *c = written_config(&f);
        snprintf(dir, sizeof dir, "%s/adapter", folder);
        qn_assert_ok(qn_peft_write(dir, c, f.rig.session->params));
        assert_int_equal(qn_peft_write(dir, c, f.rig.session->params), QN_ERR_USAGE);
        snprintf(a, sizeof a, GOLDEN "peft/%s/adapter_model.safetensors", cases[i]);
        snprintf(b, sizeof b, "%.200s/adapter_model.safetensors", dir);
        same_tensors(a, b);
        qn_assert_ok(qn_peft_open(dir, &again));
        assert_string_equal(qn_peft_notes(again), "");
        assert_int_equal(qn_peft_config(again)->bias, qn_peft_config(f.adapter)->bias);
        qn_assert_ok(qn_peft_load(again, f.rig.session->params));
        check_logits(&f, "logits");
        qn_peft_close(again);
        qn_config_free(c);
        close_case(&f);
        qn_test_dir_remove(folder);
    }
}

/* ---- training -------------------------------------------------------------------------------- */

/* L2 norm and dot product with sin(1), sin(2), ... in PEFT's order; GPT-2's key bias is zero. */
static void numbers(const qn_params *p, int i, const qn_tensor *flat, double *out) {
    const qn_param *q = &p->item[i];
    qn_tensor t = qn_param_tensor(p, i, flat);
    int64_t rows = q->shape[0], columns = q->ndim == 2 ? q->shape[1] : 1;
    double square = 0, dot = 0;
    bool qkv_bias = strstr(q->name, "attn.qkv.bias") != NULL;
    for (int64_t k = 0; k < q->count; k++) {
        int64_t at = q->hf_transposed ? k % rows * columns + k / rows : k;
        double v = qn_tensor_get(&t, at);
        if (qkv_bias && k / (q->count / 3) == 1) v = 0;
        square += v * v;
        dot += v * sin((double)(k + 1));
    }
    out[0] = sqrt(square);
    out[1] = dot;
}

static void check_numbers(const fixture *f, const qn_tensor *flat, int first, const char *what) {
    const qn_params *p = f->rig.session->params;
    int trained = 0;
    for (int i = 0; i < p->n; i++) {
        char key[512], text[640];
        double found[2];
        qn_tensor want;
        if (p->item[i].frozen) continue;
        trained++;
        qn_peft_key(p, i, key, sizeof key);
        qn_assert_ok(qn_golden_get(f->peft, &want, "%s/param/%s", f->name, key));
        numbers(p, i, flat, found);
        snprintf(text, sizeof text, "%s %s of %s", f->name, what, key);
        double length = qn_tensor_get(&want, first); /* a dot product may cancel */
        for (int k = 0; k < 2; k++) {
            double distance = fabs(found[k] - qn_tensor_get(&want, first + k));
            if (!(distance <= EXACT * (length + 1e-3))) fail_msg("%s: off by %g", text, distance);
        }
    }
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s/param/", f->name);
    for (int i = 0; i < qn_golden_count(f->peft); i++) {
        trained -= strncmp(qn_golden_name(f->peft, i), prefix, strlen(prefix)) == 0;
    }
    assert_int_equal(trained, 0); /* PEFT trains no other parameter */
}

static void ten_steps_are_pefts(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        fixture f;
        qn_tensor want;
        open_case(&f, cases[i]);
        qn_assert_ok(qn_golden_get(f.peft, &want, "%s/loss", cases[i]));
        for (int s = 0; s <= STEPS; s++) {
            qn_step_report report;
            if (s == STEPS) check_numbers(&f, &f.rig.session->params->weights, 2, "weights");
            qn_assert_ok(qn_rig_step(&f.rig, s, f.rig.optimizer_config.lr, &report));
            qn_assert_close(report.loss, qn_tensor_get(&want, s), EXACT, cases[i]);
            if (s == 0) check_numbers(&f, &f.rig.session->params->grads, 0, "gradient");
        }
        close_case(&f);
    }
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void put(const char *dir, const char *name, const char *text) {
    char path[QN_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    qn_assert_ok(qn_file_replace(path, text, strlen(text)));
}

static void copy_tensors(const char *from, const char *dir) {
    char source[QN_PATH_MAX], to[QN_PATH_MAX], *data;
    int64_t bytes;
    snprintf(source, sizeof source, GOLDEN "peft/%s/adapter_model.safetensors", from);
    snprintf(to, sizeof to, "%s/adapter_model.safetensors", dir);
    qn_assert_ok(qn_file_read(source, 1 << 20, &data, &bytes));
    qn_assert_ok(qn_file_replace(to, data, (size_t)bytes));
    qn_free(data);
}

static void other_configurations_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *json, *message;
    } bad[] = {
        {"{}", "no peft_type"},
        {"[]", "no peft_type"},
        {"{\"peft_type\": \"IA3\"}", "adapter_config.json:1:15: peft_type: expected \"LORA\""},
        {"{\"peft_type\": \"LORA\",", "adapter_config.json:1:"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"lora_bias\": true}",
         "lora_bias: has no counterpart"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"trainable_token_indices\": [1]}", "no counterpart"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"init_lora_weights\": \"pissa_niter_4\"}",
         "base weights that were changed"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"bias\": \"some\"}", "bias: expected \"none\""},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"use_dora\": 1}", "use_dora: expected a boolean"},
        {"{\"peft_type\": \"LORA\", \"r\": \"4\"}", "r: expected a number"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"rank_pattern\": {\"(\": 2}}", "regular expression"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"rank_pattern\": {\"a{9}\": 2}}", "without counts"},
        {"{\"peft_type\": \"LORA\", \"r\": 4, \"rank_pattern\": {\"(a*)*\\\\1\": 2}}",
         "back references"},
        {"{\"peft_type\": \"LORA\", \"r\": 1e300}", "r: expected a number"},
        {"{\"peft_type\": \"LORA\", \"r\": 5}", "adapter_config.json says rank 5"},
    };
    char *dir = qn_test_dir();
    copy_tensors("llama_lora", dir);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qn_peft *a = NULL;
        put(dir, "adapter_config.json", bad[i].json);
        if (qn_peft_open(dir, &a) == QN_OK) fail_msg("%s was accepted", bad[i].json);
        assert_null(a);
        if (!strstr(qn_error_message(), bad[i].message)) {
            fail_msg("%s: \"%s\"", bad[i].json, qn_error_message());
        }
    }
    qn_peft *a;
    put(dir, "adapter_config.json",
        "{\"peft_type\": \"LORA\", \"r\": 4, \"use_magic\": 3, \"lora_alpha\": 16}");
    qn_assert_ok(qn_peft_open(dir, &a));
    assert_non_null(strstr(qn_peft_notes(a), "`use_magic` is not known"));
    qn_peft_close(a);
    qn_test_dir_remove(dir);
}

static void other_files_are_refused(void **state) {
    (void)state;
    qn_peft *a = NULL;
    char *dir = qn_test_dir();
    assert_int_not_equal(qn_peft_open(dir, &a), QN_OK);
    put(dir, "adapter_config.json", "{\"peft_type\": \"LORA\"}");
    assert_int_not_equal(qn_peft_open(dir, &a), QN_OK);
    put(dir, "adapter_model.bin", "x");
    assert_int_equal(qn_peft_open(dir, &a), QN_ERR_FORMAT);
    assert_non_null(strstr(qn_error_message(), "a pickle"));
    put(dir, "adapter_model.safetensors", "half");
    assert_int_equal(qn_peft_open(dir, &a), QN_ERR_FORMAT);
    qn_test_dir_remove(dir);
}

/* An adapter for another model, or for other adapter.* keys: one error that lists what differs, and
 * not one weight is written. */
static void what_does_not_fit_is_refused_whole(void **state) {
    (void)state;
    static const struct {
        const char *rig, *adapter, *message;
    } pairs[] = {
        {"llama_lora", "llama_dora", "of another shape"},
        {"llama_dora", "llama_lora",
         "; 34 missing: base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"},
        {"llama_lora", "gpt2_lora", "unexpected: base_model.model.transformer.h.0.attn.c_attn"},
        {"gpt2_lora", "gpt2_bias", "unexpected"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        fixture f;
        qn_peft *other;
        char path[QN_PATH_MAX];
        open_case(&f, pairs[i].rig);
        uint64_t before = qn_rig_digest(&f.rig);
        snprintf(path, sizeof path, GOLDEN "peft/%s", pairs[i].adapter);
        qn_assert_ok(qn_peft_open(path, &other));
        assert_int_equal(qn_peft_load(other, f.rig.session->params), QN_ERR_DATA);
        if (!strstr(qn_error_message(), pairs[i].message)) fail_msg("%s", qn_error_message());
        assert_true(before == qn_rig_digest(&f.rig));
        f.rig.session->params->adapter[0].scale *= 2;
        assert_int_equal(qn_peft_load(f.adapter, f.rig.session->params), QN_ERR_DATA);
        assert_non_null(strstr(qn_error_message(), "is multiplied by"));
        assert_true(before == qn_rig_digest(&f.rig));
        qn_peft_close(other);
        close_case(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_pefts),
        cmocka_unit_test(merged_weights_are_pefts),
        cmocka_unit_test(written_adapters_are_pefts),
        cmocka_unit_test(ten_steps_are_pefts),
        cmocka_unit_test(other_configurations_are_refused),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(what_does_not_fit_is_refused_whole),
    };
    return cmocka_run_group_tests_name("peft", tests, NULL, NULL);
}
