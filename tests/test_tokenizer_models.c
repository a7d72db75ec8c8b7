/* test_tokenizer_models.c — Unigram, WordPiece and SentencePiece tokenizers against the ids of the
 * reference implementations. */
#include "tests/tokenizer_helpers.h"

static void check_shared(const char *file, const char *golden, int64_t size) {
    qn_tokenizer *t = open_shared(file);
    assert_int_equal(qn_tokenizer_size(t), size);
    check_golden(t, golden);
    qn_tokenizer_free(t);
}

static void llama2_model_matches_golden(void **state) {
    (void)state;
    check_shared("llama2/tokenizer.model", "llama2", 32000);
}

static void mistral_models_match_golden(void **state) {
    (void)state;
    check_shared("mistral/tokenizer.model.v1.model", "mistral_v1", 32000);
    check_shared("mistral/tokenizer.model.v3.model", "mistral_v3", 32768);
}

static void t5_model_matches_golden(void **state) {
    (void)state;
    check_shared("t5/spiece.model", "t5", 32000);
}

static void bert_matches_golden(void **state) {
    (void)state;
    check_shared("bert-base-uncased/vocab.txt", "bert-base-uncased", 30522);
    check_shared("bert-base-uncased/tokenizer.json.gz", "bert-base-uncased", 30522);
}

/* llama.cpp's files: texts between lines of `__ggml_vocab_test__`, and a line of ids for each. */
static void check_lines(const char *tokenizer, const char *name) {
    char path[QN_PATH_MAX], file[64], *texts = NULL, *ids = NULL;
    static const char mark[] = "\n__ggml_vocab_test__\n";
    int64_t bytes, ids_bytes;
    int n = 0, wrong = 0;
    qn_tokenizer *t = open_shared(tokenizer);
    snprintf(file, sizeof file, "llamacpp_goldens/%s.inp", name);
    shared_path(path, file);
    qn_assert_ok(qn_file_read(path, 1 << 20, &texts, &bytes));
    snprintf(file, sizeof file, "llamacpp_goldens/%s.out", name);
    shared_path(path, file);
    qn_assert_ok(qn_file_read(path, 1 << 20, &ids, &ids_bytes));
    char *text = texts, *line = ids;
    for (char *end; (end = strstr(text, mark)); text = end + sizeof mark - 1, n++) {
        char *line_end = strchr(line, '\n');
        assert_non_null(line_end);
        qn_ids got = {0};
        qn_assert_ok(qn_tokenizer_encode(t, text, end - text, &(qn_encode_options){0}, &got));
        char *p = line;
        bool equal = true;
        for (int64_t i = 0; i < got.n; i++) {
            char *next;
            equal = equal && strtol(p, &next, 10) == got.id[i] && next > p && next <= line_end;
            p = next;
        }
        while (p < line_end && *p == ' ') p++;
        if (!equal || p != line_end) {
            printf("%s: text %d differs: \"%.*s\"\n", name, n, (int)(end - text), text);
            wrong++;
        }
        qn_ids_free(&got);
        line = line_end + 1;
    }
    assert_int_equal(n, 46); /* the last text has no mark behind it */
    assert_int_equal(wrong, 0);
    qn_free(texts);
    qn_free(ids);
    qn_tokenizer_free(t);
}

static void llama_matches_llamacpp(void **state) {
    (void)state;
    check_lines("llama2/tokenizer.model", "llama-spm");
}

static void bert_matches_llamacpp(void **state) {
    (void)state;
    check_lines("bert-base-uncased/vocab.txt", "bert-bge");
}

/* ---- without shared data --------------------------------------------------------------------- */

/* A tokenizer of a tokenizer.json text, by the way a checkpoint takes. */
static qn_tokenizer *from_json(const char *json) {
    char directory[] = "/tmp/quern_tokenizer_XXXXXX", path[64];
    qn_tokenizer *t = NULL;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/tokenizer.json", directory);
    qn_assert_ok(qn_file_create(path, json, strlen(json)));
    qn_assert_ok(qn_tokenizer_open(path, &t));
    qn_assert_ok(qn_tree_remove(directory));
    return t;
}

static void expect_ids(const qn_tokenizer *t, const char *text, const int32_t *want, int64_t n) {
    qn_ids ids = {0};
    qn_assert_ok(
        qn_tokenizer_encode(t, text, (int64_t)strlen(text), &(qn_encode_options){0}, &ids));
    assert_int_equal(ids.n, n);
    assert_memory_equal(ids.id, want, (size_t)n * sizeof *want);
    qn_ids_free(&ids);
}
#define EXPECT_IDS(t, text, ...)                                                                   \
    expect_ids(t, text, (const int32_t[]){__VA_ARGS__},                                            \
               (int64_t)(sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)))

static void expect_text(const qn_tokenizer *t, const int32_t *ids, int64_t n, const char *want) {
    qn_text out = {0};
    char *text = NULL;
    qn_assert_ok(qn_tokenizer_decode(t, ids, n, false, &out));
    qn_assert_ok(qn_text_take(&out, &text));
    assert_string_equal(text, want);
    qn_free(text);
}
#define EXPECT_TEXT(t, want, ...)                                                                  \
    expect_text(t, (const int32_t[]){__VA_ARGS__},                                                 \
                (int64_t)(sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)), want)

static void unigram_takes_the_best_path(void **state) {
    (void)state;
    qn_tokenizer *t = from_json("{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":["
                                "[\"<unk>\",0],[\"a\",-1],[\"b\",-1],[\"ab\",-3],[\"abc\",-1.5],"
                                "[\"c\",-1],[\"cd\",-0.5],[\"d\",-4]]}}");
    EXPECT_IDS(t, "ab", 1, 2);      /* -2 beats -3 */
    EXPECT_IDS(t, "abc", 4);        /* -1.5 beats -3 */
    EXPECT_IDS(t, "abcd", 1, 2, 6); /* -2.5 beats -5.5 */
    EXPECT_IDS(t, "axyb", 1, 0, 2); /* a run of unknown characters is one token */
    EXPECT_IDS(t, "xaxb", 0, 1, 0, 2);
    qn_tokenizer_free(t);
}

static void unigram_falls_back_to_bytes_only_whole(void **state) {
    (void)state;
    qn_tokenizer *t = from_json("{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":"
                                "true,\"vocab\":[[\"<unk>\",0],[\"a\",-1],[\"<0xC3>\",-9],"
                                "[\"<0xA4>\",-9]]}}");
    EXPECT_IDS(t, "a\xC3\xA4", 1, 2, 3);
    EXPECT_IDS(t, "\xC3\xB6", 0); /* <0xB6> is missing */
    qn_tokenizer_free(t);
}

static void wordpiece_is_greedy_and_whole(void **state) {
    (void)state;
    qn_tokenizer *t =
        from_json("{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},"
                  "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
                  "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
                  "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
                  "\"max_input_chars_per_word\":6,\"vocab\":{\"[UNK]\":0,\"un\":1,\"##aff\":2,"
                  "\"##able\":3,\"##a\":4,\"!\":5,\"una\":6,\"\xE4\xB8\xAD\":7}}}");
    EXPECT_IDS(t, "Unaff", 0); /* `una` is longest, and nothing continues it */
    EXPECT_IDS(t, "UN able!", 1, 0, 5);
    EXPECT_IDS(t, "un\xE4\xB8\xADUN", 1, 7, 1);
    EXPECT_IDS(t, "\xC3\xBCn", 1);  /* u-umlaut loses its dots */
    EXPECT_IDS(t, "unableable", 0); /* more than 6 characters */
    EXPECT_TEXT(t, "unable!", 1, 3, 5);
    qn_tokenizer_free(t);
}

static void metaspace_prepends_by_scheme(void **state) {
    (void)state;
    static const char json[] =
        "{\"added_tokens\":[{\"id\":5,\"content\":\"<x>\",\"special\":true}],"
        "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"%s\"}"
        ","
        "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"%s\"},"
        "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"_a\",-1],"
        "[\"a\",-1],[\"_\",-1],[\"_b\",-1]]}}";
    char text[1024];
    const qn_encode_options special = {.parse_special = true};
    static const int32_t want[3][4] = {{1, 4, 5, 1}, {1, 4, 5, 2}, {2, 4, 5, 2}};
    static const char *const name[3] = {"always", "first", "never"}, *const back[3] = {"a b<x> a",
                                                                                       "a b<x>a",
                                                                                       "a b<x>a"};
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, json, name[i], name[i]);
        qn_tokenizer *t = from_json(text);
        qn_ids ids = {0};
        qn_assert_ok(qn_tokenizer_encode(t, "a b<x>a", 7, &special, &ids));
        assert_int_equal(ids.n, 4);
        assert_memory_equal(ids.id, want[i], sizeof want[i]);
        expect_text(t, ids.id, ids.n, back[i]);
        qn_ids_free(&ids);
        qn_tokenizer_free(t);
    }
}

/* A golden SentencePiece model in a directory with a tokenizer_config.json. */
static qn_tokenizer *with_config(const char *golden, const char *name, const char *config) {
    char directory[] = "/tmp/quern_tokenizer_XXXXXX", path[QN_PATH_MAX], *model = NULL;
    int64_t bytes = 0;
    qn_tokenizer *t = NULL;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/tests/golden/tokenizer_models/%s", QUERN_SOURCE_DIR, golden);
    qn_assert_ok(qn_file_read(path, 1 << 20, &model, &bytes));
    snprintf(path, sizeof path, "%s/%s", directory, name);
    qn_assert_ok(qn_file_create(path, model, (size_t)bytes));
    snprintf(path, sizeof path, "%s/tokenizer_config.json", directory);
    qn_assert_ok(qn_file_create(path, config, strlen(config)));
    qn_assert_ok(qn_tokenizer_open(directory, &t));
    qn_assert_ok(qn_tree_remove(directory));
    qn_free(model);
    return t;
}

/* T5's file has no sentinels; transformers puts <extra_id_0> last. */
static void t5_models_have_sentinels(void **state) {
    (void)state;
    qn_tokenizer *t = with_config("unigram.model", "spiece.model",
                                  "{\"tokenizer_class\":\"T5Tokenizer\",\"extra_ids\":3}");
    int32_t size = (int32_t)qn_tokenizer_size(t);
    qn_ids ids = {0};
    qn_assert_ok(qn_tokenizer_encode(t, "<extra_id_0><extra_id_2>", 24,
                                     &(qn_encode_options){.parse_special = true}, &ids));
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.id[0], size - 1);
    assert_int_equal(ids.id[1], size - 3);
    assert_true(qn_tokenizer_is_special(t, size - 2));
    qn_ids_free(&ids);
    qn_tokenizer_free(t);
}

/* Behind a special token a space is put by the older way only; before the text by both. */
static void llama_legacy_decides_about_spaces(void **state) {
    (void)state;
    static const char *const config[] = {
        "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":false,\"legacy\":true}",
        "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":false,\"legacy\":false}"};
    for (int i = 0; i < 2; i++) {
        qn_tokenizer *t = with_config("bpe_bytes.model", "tokenizer.model", config[i]);
        qn_ids ids = {0};
        int marks = 0;
        qn_assert_ok(qn_tokenizer_encode(t, "the<s>the", 9,
                                         &(qn_encode_options){.parse_special = true}, &ids));
        for (int64_t k = 0; k < ids.n; k++) {
            int64_t bytes;
            const char *token = qn_tokenizer_token(t, ids.id[k], &bytes);
            marks += memcmp(token, "\xE2\x96\x81", bytes < 3 ? (size_t)bytes : 3) == 0;
        }
        assert_int_equal(marks, 2 - i);
        qn_ids_free(&ids);
        qn_tokenizer_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unigram_takes_the_best_path),
        cmocka_unit_test(unigram_falls_back_to_bytes_only_whole),
        cmocka_unit_test(wordpiece_is_greedy_and_whole),
        cmocka_unit_test(metaspace_prepends_by_scheme),
        cmocka_unit_test(t5_models_have_sentinels),
        cmocka_unit_test(llama_legacy_decides_about_spaces),
        cmocka_unit_test(llama2_model_matches_golden),
        cmocka_unit_test(mistral_models_match_golden),
        cmocka_unit_test(t5_model_matches_golden),
        cmocka_unit_test(bert_matches_golden),
        cmocka_unit_test(llama_matches_llamacpp),
        cmocka_unit_test(bert_matches_llamacpp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
