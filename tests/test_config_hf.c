/* test_config_hf.c — config.json as the lowest layer of a configuration: both generations of keys,
 * class defaults, what the user states winning, what is refused and where; the hub's cache. */
#include "io/config.h"
#include "io/file.h"
#include "io/hf_dir.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct place { /* DIR/model/config.json and DIR/c.json, which names it */
    char *dir;
    char file[QN_PATH_MAX];
} place;

static void put(const char *dir, const char *name, const char *text) {
    char path[QN_PATH_MAX];
    qn_assert_ok(qn_path_format(path, sizeof path, "%s/%s", dir, name));
    char *slash = strrchr(path, '/');
    *slash = '\0';
    qn_assert_ok(qn_dir_create(path));
    *slash = '/';
    qn_assert_ok(qn_file_replace(path, text, strlen(text)));
}

static place make(const char *config_json, const char *model) {
    place p = {.dir = qn_test_dir()};
    char text[2048];
    if (config_json) put(p.dir, "model/config.json", config_json);
    snprintf(text, sizeof text,
             "{\"model\": {\"pretrained\": \"model\"%s%s}, "
             "\"data\": {\"type\": \"text\", \"path\": \"x.txt\"}, \"train\": {\"max_steps\": 1}}",
             *model ? ", " : "", model);
    put(p.dir, "c.json", text);
    qn_assert_ok(qn_path_format(p.file, sizeof p.file, "%s/c.json", p.dir));
    return p;
}

static qn_config *load(const char *config_json, const char *model) {
    place p = make(config_json, model);
    qn_config *c;
    char *diagnostics;
    if (qn_config_load(p.file, NULL, 0, &c, &diagnostics) != QN_OK) fail_msg("%s", diagnostics);
    qn_test_dir_remove(p.dir);
    return c;
}

static void refuse(const char *config_json, const char *model, const char *expected) {
    place p = make(config_json, model);
    qn_config *c;
    char *diagnostics;
    assert_int_equal(qn_config_load(p.file, NULL, 0, &c, &diagnostics), QN_ERR_CONFIG);
    if (!strstr(diagnostics, expected)) fail_msg("no \"%s\" in\n%s", expected, diagnostics);
    qn_free(diagnostics);
    qn_test_dir_remove(p.dir);
}

#define LLAMA "\"model_type\": \"llama\""

static void test_llama(void **state) {
    (void)state;
    qn_config *c = load("{" LLAMA ", \"hidden_size\": 64, \"num_attention_heads\": 4,\n"
                        "\"num_key_value_heads\": null, \"rope_theta\": 5e5, \"eos_token_id\": [1, "
                        "2], \"rope_scaling\": null, \"whatever\": {\"x\": []}}",
                        "\"rms_norm_eps\": 1e-4");
    assert_string_equal(qn_config_string(c, "model.type"), "llama");
    assert_int_equal(qn_config_int(c, "model.hidden_size"), 64);
    assert_int_equal(qn_config_int(c, "model.num_key_value_heads"), 4);
    assert_int_equal(qn_config_int(c, "model.head_dim"), 16);
    assert_int_equal(qn_config_int(c, "model.num_hidden_layers"), 32);    /* the class's default */
    assert_int_equal(qn_config_int(c, "model.intermediate_size"), 11008); /* the same */
    assert_int_equal(qn_config_int(c, "model.max_position_embeddings"), 2048);
    assert_int_equal(qn_config_int(c, "data.block_size"), 1024);
    assert_true(qn_config_number(c, "model.rope_theta") == 5e5);
    assert_true(qn_config_number(c, "model.rms_norm_eps") == 1e-4); /* the user's */
    assert_string_equal(qn_config_string(c, "model.activation"), "silu");
    assert_false(qn_config_boolean(c, "model.tie_word_embeddings"));
    /* what a run keeps needs no directory any more */
    char *resolved, *diagnostics;
    qn_config *again;
    qn_assert_ok(qn_config_resolved(c, &resolved));
    qn_assert_ok(qn_config_load_text("r.json", resolved, strlen(resolved), NULL, NULL, 0, &again,
                                     &diagnostics));
    assert_int_equal(qn_config_int(again, "model.hidden_size"), 64);
    qn_config_free(again);
    qn_free(resolved);
    qn_config_free(c);
}

static void test_rope_parameters(void **state) {
    (void)state;
    qn_config *c = load("{" LLAMA ", \"rope_parameters\": {\"rope_type\": \"default\", "
                        "\"rope_theta\": 250000.0}}",
                        "");
    assert_true(qn_config_number(c, "model.rope_theta") == 250000.0);
    qn_config_free(c);
}

static void test_gpt2(void **state) {
    (void)state;
    qn_config *c = load("{\"model_type\": \"gpt2\", \"n_embd\": 32, \"n_head\": 2, \"n_layer\": 3, "
                        "\"n_inner\": null, \"activation_function\": \"gelu_new\", "
                        "\"resid_pdrop\": 0.2, \"n_ctx\": 64}",
                        "\"embedding_dropout\": 0");
    assert_int_equal(qn_config_int(c, "model.vocab_size"), 50257);
    assert_int_equal(qn_config_int(c, "model.intermediate_size"), 128);
    assert_int_equal(qn_config_int(c, "model.max_position_embeddings"), 64);
    assert_int_equal(qn_config_int(c, "data.block_size"), 64);
    assert_string_equal(qn_config_string(c, "model.activation"), "gelu_tanh");
    assert_true(qn_config_boolean(c, "model.tie_word_embeddings"));
    assert_true(qn_config_number(c, "model.dropout") == 0.2);
    assert_true(qn_config_number(c, "model.attention_dropout") == 0.1);
    assert_true(qn_config_number(c, "model.embedding_dropout") == 0);
    qn_config_free(c);
}

static void test_refusals(void **state) {
    (void)state;
    refuse(NULL, "", "model is not in the hub's cache");
    refuse("{", "", "model/config.json:1:2: error: ");
    refuse("{\"model_type\": \"mamba\"}", "",
           "config.json:1:16: error: model_type \"mamba\" is not");
    refuse("{}", "", "no \"model_type\"");
    refuse("{\"peft_type\": \"LORA\"}", "", "this is an adapter");
    refuse("{" LLAMA "}", "\"type\": \"gpt2\"", "expected \"llama\" or nothing");
    refuse("{" LLAMA ",\n\"hidden_size\": -1}", "", "config.json:2:16: error: model.hidden_size");
    refuse("{" LLAMA ", \"quantization_config\": {\"bits\": 4}}", "", "quantised");
    refuse("{" LLAMA ", \"hidden_act\": \"quick_gelu\"}", "", "model.activation");
    refuse("{\"model_type\": \"gpt2\", \"add_cross_attention\": true}", "", "add_cross_attention");
    refuse("{" LLAMA ", \"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 2}}", "",
           "config.json:1:");
}

/* The head and its labels by the architecture; what is learnt by problem_type. */
static void test_heads(void **state) {
    (void)state;
    static const struct {
        const char *type, *architecture, *head;
    } row[] = {
        {"gpt2", "GPT2LMHeadModel", "lm"},           {"gpt2", "GPT2Model", "lm"},
        {"llama", "LlamaForCausalLM", "lm"},         {"bert", "BertForMaskedLM", "masked_lm"},
        {"bert", "BertForPreTraining", "masked_lm"}, {"roberta", "RobertaForMaskedLM", "masked_lm"},
        {"bert", "SomethingElse", "masked_lm"}};
    char text[512];
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        snprintf(text, sizeof text, "{\"model_type\": \"%s\", \"architectures\": [\"%s\"]}",
                 row[i].type, row[i].architecture);
        qn_config *c = load(text, "");
        assert_string_equal(qn_config_string(c, "model.head"), row[i].head);
        qn_config_free(c);
    }
    place p = make("{\"model_type\": \"bert\", \"architectures\": "
                   "[\"BertForSequenceClassification\"], \"problem_type\": "
                   "\"multi_label_classification\", \"id2label\": {\"1\": \"b\", \"0\": \"a\"}}",
                   "");
    static const char *const sets[] = {"data.type=labelled_text", "data.tokenizer=./x"};
    qn_config *c;
    char *diagnostics;
    if (qn_config_load(p.file, sets, 2, &c, &diagnostics) != QN_OK) fail_msg("%s", diagnostics);
    assert_string_equal(qn_config_string(c, "model.head"), "sequence_classification");
    assert_string_equal(qn_config_string(c, "objective"), "multi_label");
    assert_int_equal(qn_config_int(c, "model.num_labels"), 2);
    assert_string_equal(qn_config_string(c, "model.id2label.0"), "a");
    assert_string_equal(qn_config_string(c, "model.id2label.1"), "b");
    qn_config_free(c);
    qn_test_dir_remove(p.dir);
}

/* ---- the hub's cache ------------------------------------------------------------------------- */

static void test_hub_names(void **state) {
    (void)state;
    static const char *const good[] = {"gpt2", "org/name", "a/b-c.d_e", "o/n@main", "n@0123abc"};
    static const char *const bad[] = {"",   "/a",  "a/", "a/b/c", "../a", "a/..",
                                      ".a", "a b", "a@", "a@x/y", "~/a"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(qn_hf_is_hub_name(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (qn_hf_is_hub_name(bad[i])) fail_msg("%s", bad[i]);
}

static void test_hub_cache(void **state) {
    (void)state;
    char *dir = qn_test_dir(), found[QN_PATH_MAX];
    put(dir, "models--org--name/refs/main", "abc123\n");
    put(dir, "models--org--name/snapshots/abc123/config.json", "{}");
    put(dir, "models--org--evil/refs/main", "../../x");
    assert_int_equal(setenv("HF_HUB_CACHE", dir, 1), 0);
    qn_assert_ok(qn_hf_cached("org/name", found, sizeof found));
    assert_string_equal(found + strlen(dir), "/models--org--name/snapshots/abc123");
    qn_assert_ok(qn_hf_cached("org/name@abc123", found, sizeof found));
    assert_int_equal(qn_hf_cached("org/name@other", found, sizeof found), QN_ERR_DATA);
    assert_int_equal(qn_hf_cached("org/none", found, sizeof found), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "models--org--none"));
    assert_int_equal(qn_hf_cached("org/evil", found, sizeof found), QN_ERR_FORMAT);
    /* by a configuration, which then has the folder */
    put(dir, "models--org--name/snapshots/abc123/config.json",
        "{\"model_type\": \"gpt2\", \"n_embd\": 6, \"n_head\": 3}");
    place p = make(NULL, "");
    static const char *const sets[] = {"model.pretrained=org/name"};
    qn_config *c;
    char *diagnostics;
    put(p.dir, "c.json",
        "{\"data\": {\"type\": \"text\", \"path\": \"x.txt\"}, "
        "\"train\": {\"max_steps\": 1}}");
    if (qn_config_load(p.file, sets, 1, &c, &diagnostics) != QN_OK) fail_msg("%s", diagnostics);
    assert_int_equal(qn_config_int(c, "model.hidden_size"), 6);
    assert_non_null(strstr(qn_config_string(c, "model.pretrained"), "/snapshots/abc123"));
    assert_string_equal(qn_config_string(c, "data.tokenizer"),
                        qn_config_string(c, "model.pretrained"));
    qn_config_free(c);
    qn_test_dir_remove(p.dir);
    qn_test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),     cmocka_unit_test(test_rope_parameters),
        cmocka_unit_test(test_gpt2),      cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_heads),     cmocka_unit_test(test_hub_names),
        cmocka_unit_test(test_hub_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
