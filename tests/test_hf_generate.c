/* test_hf_generate.c — greedy continuations of real checkpoints, token by token those of the
 * reference; opened as a Hugging Face directory, without a run. */
#include "engine/infer.h"
#include "io/file.h"
#include "io/json.h"
#include "io/run_load.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct checkpoint {
    qn_loaded model;
    qn_setup *arena;
    cJSON *reference;
    char *text;
} checkpoint;

static bool open_checkpoint(checkpoint *c, const char *name) {
    const char *data = getenv("QUERN_TEST_DATA");
    char path[512], file[600], warning[QN_MESSAGE_MAX];
    int64_t size;
    snprintf(path, sizeof path, "%s/weights/%s", data ? data : QUERN_SOURCE_DIR "/../shared/data",
             name);
    snprintf(file, sizeof file, "%s/reference.json", path);
    if (!qn_path_exists(file)) {
        print_message("no %s: QUERN_TEST_DATA names no data\n", file);
        return false;
    }
    *c = (checkpoint){0};
    const char *const sets[] = {"threads=1", "device=cpu"};
    qn_assert_ok(qn_loaded_open(path, NULL, sets, 2, &c->model, warning, sizeof warning));
    qn_assert_ok(qn_file_read(file, 1 << 22, &c->text, &size));
    qn_assert_ok(qn_setup_create("reference", &c->arena));
    const qn_json_options o = {.max_bytes = 1 << 22};
    qn_assert_ok(qn_json_parse(c->arena, c->text, (size_t)size, &o, &c->reference));
    return true;
}

static void close_checkpoint(checkpoint *c) {
    qn_loaded_free(&c->model);
    qn_setup_free(c->arena);
    qn_free(c->text);
}

/* ids of the reference from `prompt` tokens on must be what is drawn. */
static void check_greedy(checkpoint *c, const cJSON *ids, int64_t prompt) {
    qn_generator *g;
    qn_sampler *s;
    int64_t n = cJSON_GetArraySize(ids);
    int32_t id[256];
    assert_in_range(n, prompt + 1, 256);
    for (int64_t i = 0; i < n; i++) id[i] = cJSON_GetArrayItem(ids, (int)i)->valueint;
    qn_infer_options o = {.device = QN_CPU, .threads = 1};
    qn_assert_ok(qn_generator_create(&o, &c->model.build.model, c->model.params, n + 8, &g));
    qn_assert_ok(qn_sampler_create(&(qn_sampling){0}, c->model.build.model_config.vocab_size, &s));
    const int32_t *at = id;
    qn_assert_ok(qn_generator_feed(g, &at, &prompt));
    for (int64_t i = prompt; i < n; i++) {
        qn_tensor logits = qn_generator_logits(g, 0);
        int32_t drawn = qn_sampler_draw(s, &logits, 0, i, NULL, 0);
        if (drawn != id[i]) fail_msg("token %d: %d, expected %d", (int)i, (int)drawn, (int)id[i]);
        at = &id[i];
        qn_assert_ok(qn_generator_feed(g, &at, &(int64_t){1}));
    }
    qn_sampler_free(s);
    qn_generator_free(g);
}

static void test_llama(void **state) {
    (void)state;
    checkpoint c;
    if (!open_checkpoint(&c, "llama_tinystories_656k")) skip();
    const cJSON *greedy = qn_json_get(c.reference, "greedy_60_from_Once_upon_a_time");
    assert_non_null(greedy);
    /* The prompt by the model's own tokenizer: <BOS> and the words. */
    const char *text = "Once upon a time";
    qn_ids ids = {0};
    const qn_encode_options o = {.add_special = true, .parse_special = true};
    qn_assert_ok(
        qn_tokenizer_encode(c.model.build.tokenizer, text, (int64_t)strlen(text), &o, &ids));
    const cJSON *want = qn_json_get(greedy, "ids");
    for (int64_t i = 0; i < ids.n; i++)
        assert_int_equal(ids.id[i], cJSON_GetArrayItem(want, (int)i)->valueint);
    check_greedy(&c, want, ids.n);
    qn_ids_free(&ids);
    close_checkpoint(&c);
}

static void test_gpt2(void **state) {
    (void)state;
    checkpoint c;
    if (!open_checkpoint(&c, "gpt2_capp_236k")) skip();
    const cJSON *prompts = qn_json_get(c.reference, "prompts");
    assert_true(cJSON_GetArraySize(prompts) > 0);
    for (const cJSON *p = prompts->child; p; p = p->next)
        check_greedy(&c, qn_json_get(p, "greedy_ids"),
                     cJSON_GetArraySize(qn_json_get(p, "prompt_ids")));
    assert_null(c.model.build.tokenizer); /* it has none, which is no error */
    close_checkpoint(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_gpt2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
