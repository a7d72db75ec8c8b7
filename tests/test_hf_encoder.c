/* test_hf_encoder.c — a BERT of the hub, its weights from safetensors, against the hidden states
 * and the logits that an independent PyTorch implementation gave in f64, stored with eight
 * decimals. */
#include "io/file.h"
#include "io/hf_load.h"
#include "io/json.h"
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_IDS = 64 };

/* What a head over the loaded parameters gives for one text, as doubles; malloc'ed. */
static double *head_output(const qn_rig *r, const qn_model_config *c, const int32_t *ids, int64_t n,
                           int64_t *count) {
    const qn_tape_options o = {.name = "head", .threads = 1, .device = QN_CPU};
    qn_tape *t;
    qn_graph g;
    qn_model model;
    int32_t row[MAX_IDS];
    memcpy(row, ids, (size_t)n * sizeof *row);
    const qn_tensor tokens = qn_tensor_make(row, QN_I32, QN_SHAPE(1, n));
    qn_assert_ok(qn_model_create(c, &model));
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_assert_ok(qn_graph_create(t, r->session->params, false, &g));
    qn_value *field = qn_tape_given(t, "tokens", QN_CLASS_INPUT, &tokens, false);
    const qn_forward in = {.field = &field, .n_fields = 1};
    qn_output out = {0};
    qn_assert_ok(model.forward(model.self, &g, &in, &out));
    qn_value *y = out.logits
                      ? out.logits
                      : qn_linear(t, out.hidden, out.head_weight, out.head_bias, QN_ACT_NONE, NULL);
    assert_non_null(qn_tape_keep(t, y, "output"));
    qn_program *program;
    qn_arena *pool;
    qn_assert_ok(qn_program_create(t, &program));
    qn_assert_ok(qn_arena_create_on(QN_CPU, "pool", qn_program_pool_bytes(program), &pool));
    qn_assert_ok(qn_program_bind(program, QN_CPU, pool));
    qn_assert_ok(qn_program_replay(program));
    *count = qn_tensor_count(&y->t);
    double *v = malloc((size_t)*count * sizeof *v);
    if (!v) fail_msg("out of memory");
    for (int64_t i = 0; i < *count; i++) v[i] = qn_tensor_get(&y->t, i);
    qn_program_free(program);
    qn_arena_free(pool);
    return v;
}

/* The last hidden states seen through the three poolings: the first row, the last, their mean. */
static void check_hidden(const qn_rig *r, const cJSON *rows, const int32_t *ids, int64_t n) {
    static const char *const what[] = {"first row", "last row", "mean of the rows"};
    for (int kind = 0; kind < QN_POOLING_COUNT; kind++) {
        qn_model_config c = r->config;
        c.head = QN_HEAD_EMBEDDING;
        c.pooling = (qn_pooling)kind;
        int64_t width;
        double *got = head_output(r, &c, ids, n, &width);
        for (int64_t j = 0; j < width; j++) {
            double mean = 0;
            for (int64_t i = 0; i < n; i++) {
                const cJSON *row = cJSON_GetArrayItem(rows, (int)i);
                mean += cJSON_GetArrayItem(row, (int)j)->valuedouble / (double)n;
            }
            const cJSON *row = cJSON_GetArrayItem(rows, kind == QN_POOL_FIRST ? 0 : (int)n - 1);
            double want =
                kind == QN_POOL_MEAN ? mean : cJSON_GetArrayItem(row, (int)j)->valuedouble;
            qn_assert_close(got[j], want, 1e-8, what[kind]); /* it has eight decimals */
        }
        free(got);
    }
}

/* A member of reference.json, which lives in the arena. */
static const cJSON *read_reference(qn_setup *arena, const char *dir) {
    char path[QN_PATH_MAX], *text;
    int64_t bytes;
    cJSON *root;
    const qn_json_options o = {.name = "reference.json"};
    qn_assert_ok(qn_path_format(path, sizeof path, "%s/reference.json", dir));
    qn_assert_ok(qn_file_read(path, 1 << 20, &text, &bytes));
    qn_assert_ok(qn_json_parse(arena, text, (size_t)bytes, &o, &root));
    qn_free(text);
    return root;
}

static void open_rig(qn_rig *r, const char *dir) {
    qn_hf_loaded loaded;
    char *details;
    const qn_hf_options o = {.new_head = false};
    qn_rig_defaults(r, "gpt2");
    r->config = (qn_model_config){.type = "bert",
                                  .vocab_size = 30522,
                                  .hidden_size = 4,
                                  .num_hidden_layers = 1,
                                  .num_attention_heads = 1,
                                  .num_key_value_heads = 1,
                                  .head_dim = 4,
                                  .intermediate_size = 8,
                                  .max_position_embeddings = 512,
                                  .type_vocab_size = 2,
                                  .tie_word_embeddings = true,
                                  .norm_eps = 1e-12,
                                  .activation = QN_ACT_GELU,
                                  .initializer_range = 0.02,
                                  .head = QN_HEAD_MASKED_LM};
    r->options.precision = QN_PRECISION_F64;
    qn_assert_ok(qn_rig_open(r));
    if (qn_hf_load(r->session->params, dir, &o, &loaded, &details) != QN_OK)
        fail_msg("%s\n%s", qn_error_message(), details ? details : "");
    qn_free(loaded.notes);
}

static void test_bert(void **state) {
    (void)state;
    const char *dir = qn_test_data("weights/bert_tiniest_random");
    if (!dir) skip();
    qn_setup *arena;
    qn_assert_ok(qn_setup_create("reference", &arena));
    const cJSON *root = read_reference(arena, dir), *c;
    int32_t ids[MAX_IDS];
    int64_t n = 0, count;
    cJSON_ArrayForEach(c, qn_json_get(root, "ids_with_CLS_SEP")) {
        assert_true(n < MAX_IDS);
        ids[n++] = c->valueint;
    }
    assert_int_equal(n, 12);
    qn_rig r;
    open_rig(&r, dir);
    check_hidden(&r, qn_json_get(root, "last_hidden_state"), ids, n);
    double *logits = head_output(&r, &r.config, ids, n, &count);
    int64_t vocab = count / n, j = 0, row = 0;
    assert_int_equal(vocab, r.config.vocab_size);
    cJSON_ArrayForEach(c, qn_json_get(root, "mlm_logits_first8_at_pos1")) {
        qn_assert_close(logits[vocab + j++], c->valuedouble, 1e-8, "logit");
    }
    assert_int_equal(j, 8);
    cJSON_ArrayForEach(c, qn_json_get(root, "mlm_argmax")) {
        int64_t best = 0;
        for (int64_t k = 0; k < vocab; k++) {
            if (logits[row * vocab + k] > logits[row * vocab + best]) best = k;
        }
        assert_int_equal(best, c->valueint);
        row++;
    }
    assert_int_equal(row, n);
    free(logits);
    qn_rig_free(&r);
    qn_setup_free(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bert)};
    return cmocka_run_group_tests_name("hf_encoder", tests, NULL, NULL);
}
