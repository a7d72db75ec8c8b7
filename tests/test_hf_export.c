/* test_hf_export.c — what is exported comes back: the same configuration and the same bits, for
 * every family; other forms of the weights; what is kept of the directory a model came from.
 *
 * That transformers reads the directories is bench/check_export.py's matter.
 */
#include "io/build.h"
#include "io/file.h"
#include "io/hf_export.h"
#include "io/safetensors.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Data that fits the head; nothing is read of it. */
#define TOKENS "\"data\": {\"type\": \"tokens\", \"path\": \"x.bin\", \"block_size\": 8}"
#define TEXTS                                                                                      \
    "\"data\": {\"type\": \"labelled_text\", \"path\": \"x.csv\", \"tokenizer\": \"./t\", "        \
    "\"block_size\": 8}"

typedef struct made { /* a model with weights, no session */
    qn_config *config;
    qn_build build;
    qn_params *params;
    qn_arena *memory;
} made;

static void put(const char *dir, const char *name, const char *text) {
    char path[QN_PATH_MAX];
    qn_assert_ok(qn_path_format(path, sizeof path, "%s/%s", dir, name));
    qn_assert_ok(qn_file_replace(path, text, strlen(text)));
}

static char *get(const char *dir, const char *name) {
    char path[QN_PATH_MAX], *text;
    int64_t bytes;
    qn_assert_ok(qn_path_format(path, sizeof path, "%s/%s", dir, name));
    qn_assert_ok(qn_file_read(path, 1 << 20, &text, &bytes));
    return text;
}

/* model: the members of the section, in the file DIR/NAME. */
static made open_with(const char *dir, const char *name, const char *model, const char *data) {
    made m = {.build = {.plan_only = true}};
    char path[QN_PATH_MAX], text[2048], *diagnostics;
    snprintf(text, sizeof text, "{\"model\": {%s}, %s, \"train\": {\"max_steps\": 1}}", model,
             data);
    put(dir, name, text);
    qn_assert_ok(qn_path_format(path, sizeof path, "%s/%s", dir, name));
    if (qn_config_load(path, NULL, 0, &m.config, &diagnostics) != QN_OK)
        fail_msg("%s", diagnostics);
    int64_t labels = qn_config_int(m.config, "model.num_labels");
    m.build.classes = labels ? labels : qn_config_int(m.config, "model.vocab_size");
    qn_assert_ok(qn_build_model(&m.build, m.config));
    qn_assert_ok(qn_build_params(&m.build, &m.params));
    qn_assert_ok(qn_params_layout(m.params, QN_PRECISION_F32, 0, 0.0, false));
    size_t bytes = (size_t)qn_params_bytes(m.params);
    qn_assert_ok(qn_arena_create("a model", bytes, &m.memory));
    qn_params_bind(m.params, QN_CPU, qn_arena_base(m.memory));
    qn_assert_ok(qn_params_init(m.params, 7, 1));
    return m;
}

static made open_model(const char *dir, const char *name, const char *model) {
    return open_with(dir, name, model, TOKENS);
}

static void close_model(made *m) {
    qn_params_free(m->params);
    qn_arena_free(m->memory);
    qn_build_free(&m->build);
    qn_config_free(m->config);
}

static char *export_model(const made *m, const char *dir, qn_dtype dtype, int64_t shard) {
    char *out = qn_sprintf("%s/out", dir), *notes;
    qn_hf_export_options o = {
        .dir = out, .config = m->config, .params = m->params, .dtype = dtype, .shard_bytes = shard};
    assert_non_null(out);
    qn_assert_ok(qn_hf_export(&o, &notes));
    qn_free(notes);
    return out;
}

/* Everything under "model" but the name of the directory. */
static char *model_section(const qn_config *c) {
    char *text;
    qn_assert_ok(qn_config_resolved(c, &text));
    char *section = strstr(text, "\"model\": {"), *end = strstr(text, "\"data\": {");
    assert_true(section && end && section < end);
    *end = '\0';
    char *pretrained = strstr(section, ",\n    \"pretrained\"");
    if (pretrained) strcpy(pretrained, strchr(pretrained + 2, '\n'));
    char *copy = qn_strdup(section, "a section");
    qn_free(text);
    return copy;
}

#define SMALL                                                                                      \
    "\"vocab_size\": 11, \"hidden_size\": 8, \"num_hidden_layers\": 2, "                           \
    "\"num_attention_heads\": 2, \"intermediate_size\": 12, \"max_position_embeddings\": 16"

static void test_round_trips(void **state) {
    (void)state;
    static const char *const models[] = {
        "\"type\": \"gpt2\", \"dropout\": 0.125, " SMALL,
        "\"type\": \"gpt2\", \"tie_word_embeddings\": false, \"activation\": \"relu\", " SMALL,
        "\"type\": \"llama\", \"num_key_value_heads\": 1, \"rope_theta\": 123, " SMALL,
        "\"type\": \"llama\", \"tie_word_embeddings\": true, \"attention_bias\": true, "
        "\"mlp_bias\": true, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 4, "
        "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
        "\"original_max_position_embeddings\": 8}, " SMALL,
        "\"type\": \"mistral\", \"sliding_window\": 5, " SMALL,
        "\"type\": \"mistral\", " SMALL,
        "\"type\": \"qwen2\", \"use_sliding_window\": true, \"sliding_window\": 4, "
        "\"max_window_layers\": 1, " SMALL,
        "\"type\": \"qwen3\", \"head_dim\": 6, " SMALL,
        "\"type\": \"llama\", \"head\": \"sequence_classification\", \"id2label\": [\"no\", "
        "\"yes\", \"a \\\"b\\\"\"], \"num_labels\": 3, " SMALL,
        "\"type\": \"bert\", \"head\": \"sequence_classification\", \"num_labels\": 4, " SMALL,
        "\"type\": \"bert\", " SMALL,
        "\"type\": \"roberta\", \"pad_token_id\": 1, \"type_vocab_size\": 1, " SMALL,
        "\"type\": \"roberta\", \"head\": \"sequence_classification\", \"num_labels\": 1, "
        "\"pad_token_id\": 1, " SMALL,
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char *dir = qn_test_dir();
        const char *data = strstr(models[i], "classification") ? TEXTS : TOKENS;
        made a = open_with(dir, "a.json", models[i], data);
        char *out = export_model(&a, dir, QN_F32, i % 2 ? INT64_MAX : 600);
        made b = open_with(dir, "b.json", "\"pretrained\": \"out\"", data);
        qn_hf_loaded loaded;
        const qn_hf_options o = {.new_head = false};
        memset(b.params->weights.data, 0xFF, qn_tensor_bytes(&b.params->weights));
        qn_assert_ok(qn_hf_load(b.params, out, &o, &loaded, NULL));
        assert_string_equal(loaded.notes, "");
        char *before = model_section(a.config), *after = model_section(b.config);
        assert_string_equal(before, after);
        assert_int_equal(a.params->n, b.params->n);
        for (int k = 0; k < a.params->n; k++) {
            const qn_tensor x = qn_param_tensor(a.params, k, &a.params->weights),
                            y = qn_param_tensor(b.params, k, &b.params->weights);
            assert_string_equal(a.params->item[k].name, b.params->item[k].name);
            assert_memory_equal(x.data, y.data, qn_tensor_bytes(&x));
        }
        qn_free(before);
        qn_free(after);
        qn_free(loaded.notes);
        qn_free(out);
        close_model(&a);
        close_model(&b);
        qn_test_dir_remove(dir);
    }
}

/* bf16 weights are the f32 ones rounded to nearest even; GPT-2's are stored [in,out]. */
static void test_dtype(void **state) {
    (void)state;
    char *dir = qn_test_dir(), *config;
    made a = open_model(dir, "a.json", "\"type\": \"gpt2\", " SMALL);
    char *out = export_model(&a, dir, QN_BF16, INT64_MAX);
    qn_safetensors *s;
    qn_assert_ok(qn_safetensors_open(out, &s));
    const qn_safetensor *t = qn_safetensors_find(s, "transformer.h.1.mlp.c_fc.weight");
    const qn_param *q = qn_params_find(a.params, "blocks.1.mlp.up.weight");
    assert_true(t && q && t->type == QN_BF16);
    assert_int_equal(t->shape[0], 8);
    assert_int_equal(t->shape[1], 12);
    uint16_t got;
    qn_assert_ok(qn_safetensor_read(t, 3 * 12 + 5, 1, QN_BF16, &got));
    const qn_tensor w = qn_param_tensor(a.params, (int)(q - a.params->item), &a.params->weights);
    assert_int_equal(got, qn_f32_to_bf16((float)qn_tensor_get(&w, 5 * 8 + 3)));
    assert_null(qn_safetensors_find(s, "lm_head.weight")); /* tied */
    config = get(out, "config.json");
    assert_non_null(strstr(config, "\"dtype\": \"bfloat16\""));
    assert_non_null(strstr(config, "\"architectures\": [\"GPT2LMHeadModel\"]"));
    assert_non_null(strstr(config, "\"eos_token_id\": null"));
    qn_free(config);
    qn_safetensors_close(s);
    qn_free(out);
    close_model(&a);
    qn_test_dir_remove(dir);
}

/* Special tokens, the tokenizer's files and settings of generation come along. */
static void test_base(void **state) {
    (void)state;
    char *dir = qn_test_dir(), base[QN_PATH_MAX];
    qn_assert_ok(qn_path_format(base, sizeof base, "%s/base", dir));
    qn_assert_ok(qn_dir_create(base));
    put(base, "config.json",
        "{\"model_type\": \"llama\", \"vocab_size\": 11, \"hidden_size\": 8, "
        "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"intermediate_size\": 12, "
        "\"max_position_embeddings\": 16, \"eos_token_id\": [2, 3], \"torch_dtype\": \"bfloat16\", "
        "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 77.0}, \"use_cache\": "
        "true}");
    put(base, "generation_config.json", "{\"eos_token_id\": [2, 3], \"temperature\": 0.6}");
    put(base, "tokenizer.json", "{\"any\": 1}");
    made a = open_model(dir, "a.json", "\"pretrained\": \"base\"");
    char *out = export_model(&a, dir, QN_F32, INT64_MAX), *config = get(out, "config.json"),
         *generation = get(out, "generation_config.json"), *tokenizer = get(out, "tokenizer.json");
    assert_non_null(strstr(config, "\"eos_token_id\": [\n    2,\n    3\n  ]"));
    assert_non_null(strstr(config, "\"rope_theta\": 77.0"));
    assert_non_null(strstr(config, "\"use_cache\": true"));
    assert_null(strstr(config, "rope_parameters"));
    assert_null(strstr(config, "bfloat16"));
    assert_non_null(strstr(generation, "\"temperature\": 0.6"));
    assert_string_equal(tokenizer, "{\"any\": 1}");
    qn_free(config);
    qn_free(generation);
    qn_free(tokenizer);
    qn_free(out);
    close_model(&a);
    qn_test_dir_remove(dir);
}

/* A classifier made of a decoder has padding: the base's end of text, where it has no other. */
static void test_padding(void **state) {
    (void)state;
    static const char *const members[] = {"\"eos_token_id\": [2, 3]",
                                          "\"eos_token_id\": 3, \"pad_token_id\": null",
                                          "\"eos_token_id\": 3, \"pad_token_id\": 4"};
    static const char *const expected[] = {"\"pad_token_id\": 2", "\"pad_token_id\": 3",
                                           "\"pad_token_id\": 4"};
    for (int i = 0; i < 3; i++) {
        char *dir = qn_test_dir(), base[QN_PATH_MAX], text[512];
        qn_assert_ok(qn_path_format(base, sizeof base, "%s/base", dir));
        qn_assert_ok(qn_dir_create(base));
        snprintf(text, sizeof text, "{\"model_type\": \"llama\", %s, " SMALL "}", members[i]);
        put(base, "config.json", text);
        made a = open_with(dir, "a.json",
                           "\"pretrained\": \"base\", \"head\": \"sequence_classification\", "
                           "\"num_labels\": 2",
                           TEXTS);
        char *out = export_model(&a, dir, QN_F32, INT64_MAX), *config = get(out, "config.json");
        const char *found = strstr(config, expected[i]);
        assert_non_null(found);
        assert_null(strstr(found + 2, "pad_token_id")); /* once */
        qn_free(config);
        qn_free(out);
        close_model(&a);
        qn_test_dir_remove(dir);
    }
}

static void test_refusals(void **state) {
    (void)state;
    char *dir = qn_test_dir(), *notes, *out = qn_sprintf("%s/out", dir);
    made a = open_model(dir, "a.json", "\"type\": \"gpt2\", \"bias\": false, " SMALL);
    qn_hf_export_options o = {
        .dir = dir, .config = a.config, .params = a.params, .shard_bytes = 1 << 20};
    assert_int_equal(qn_hf_export(&o, &notes), QN_ERR_USAGE); /* it exists */
    o.dir = out;
    assert_int_equal(qn_hf_export(&o, &notes), QN_ERR_UNSUPPORTED);
    assert_non_null(strstr(qn_error_message(), "model.bias"));
    assert_false(qn_path_exists(out));
    qn_free(out);
    out = qn_sprintf("%s/out.tmp", dir);
    assert_false(qn_path_exists(out)); /* nothing half-written */
    qn_free(out);
    close_model(&a);
    qn_test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_dtype),
        cmocka_unit_test(test_base),        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
