/* test_tokenizer_forms.c — the forms of tokenizer files, what the small files beside them add, and
 * what is refused: each with its file and place. Needs no data. */
#include "io/tokenizer_parts.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- help ------------------------------------------------------------------------------------ */

typedef struct named {
    const char *name, *text;
} named;

static qn_status open_files(const named *files, qn_tokenizer **out) {
    qni_file_set set = {0};
    for (; files->name; files++)
        set.file[set.n++] = (qni_bytes){files->name, files->text, (int64_t)strlen(files->text)};
    return qni_open_files(&set, out);
}

static qn_tokenizer *open_ok(const named *files) {
    qn_tokenizer *t = NULL;
    qn_assert_ok(open_files(files, &t));
    return t;
}

/* The ids of a text as words, into `out`. */
static const char *ids_of(const qn_tokenizer *t, const char *text, char out[256]) {
    const qn_encode_options o = {.add_special = true, .parse_special = true};
    qn_ids ids = {0};
    size_t n = 0;
    qn_assert_ok(qn_tokenizer_encode(t, text, (int64_t)strlen(text), &o, &ids));
    out[0] = '\0';
    for (int64_t i = 0; i < ids.n; i++)
        n += (size_t)snprintf(out + n, 256 - n, "%s%d", i ? " " : "", ids.id[i]);
    qn_ids_free(&ids);
    return out;
}

/* A vocabulary for byte-level models needs all 256 bytes to run on bytes; this one has few. */
#define VOCAB                                                                                      \
    "{\"a\":0,\"b\":1,\"ab\":2,\"\xC4\xA0\":3,\"\xC4\xA0"                                          \
    "ab\":4,\"<|endoftext|>\":5}"
#define MERGES "#version: 0.2\na b\n\xC4\xA0 ab\n"

/* ---- forms ----------------------------------------------------------------------------------- */

static void vocab_and_merges(void **state) {
    (void)state;
    char got[256];
    qn_tokenizer *t = open_ok((named[]){{"vocab.json", VOCAB}, {"merges.txt", MERGES}, {0}});
    assert_string_equal(ids_of(t, "ab ab a<|endoftext|>b", got), "2 4 3 0 5 1");
    assert_int_equal(qn_tokenizer_role(t, QN_TOKEN_EOS), 5);
    assert_true(qn_tokenizer_is_special(t, 5));
    assert_false(qn_tokenizer_is_special(t, 4));
    qn_tokenizer_free(t);
}

static void config_adds_tokens_roles_and_a_template(void **state) {
    (void)state;
    char got[256];
    const named files[] = {
        {"vocab.json", VOCAB},
        {"merges.txt", MERGES},
        {"tokenizer_config.json",
         "{\"tokenizer_class\":\"GPT2Tokenizer\",\"bos_token\":\"<s>\",\"pad_token\":\"<new>\","
         "\"eos_token\":{\"content\":\"<|endoftext|>\",\"lstrip\":false},\"add_bos_token\":true,"
         "\"added_tokens_decoder\":{\"7\":{\"content\":\"<s>\",\"special\":true},"
         "\"9\":{\"content\":\" q\",\"special\":false,\"rstrip\":true}},"
         "\"additional_special_tokens\":[\"<x>\"]}"},
        {"special_tokens_map.json", "{\"unk_token\":\"a\",\"bos_token\":\"b\"}"},
        {"added_tokens.json", "{\"<y>\":12,\"<|endoftext|>\":5}"},
        {0}};
    qn_tokenizer *t = open_ok(files);
    assert_string_equal(ids_of(t, "a<y> q  b<x><new>", got), "7 0 12 9 1 14 13");
    assert_int_equal(qn_tokenizer_role(t, QN_TOKEN_BOS), 7); /* the config rules */
    assert_int_equal(qn_tokenizer_role(t, QN_TOKEN_EOS), 5);
    assert_int_equal(qn_tokenizer_role(t, QN_TOKEN_PAD), 13);
    assert_int_equal(qn_tokenizer_role(t, QN_TOKEN_UNK), 0);
    assert_int_equal(qn_tokenizer_size(t), 15);
    int64_t bytes;
    assert_null(qn_tokenizer_token(t, 8, &bytes)); /* a hole between the added ones */
    assert_true(qn_tokenizer_is_special(t, 14));
    assert_false(qn_tokenizer_is_special(t, 9));
    qn_tokenizer_free(t);
}

/* tokenizer.json says what is put around; the config's add_bos_token is for other forms. */
static void template_of_tokenizer_json_rules(void **state) {
    (void)state;
    char got[256];
    qn_tokenizer *t = open_ok(
        (named[]){{"tokenizer.json",
                   "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"<s>\":1},\"merges\":[]},"
                   "\"unknown key\":{}}"},
                  {"tokenizer_config.json", "{\"bos_token\":\"<s>\",\"add_bos_token\":true}"},
                  {0}});
    assert_string_equal(ids_of(t, "a<s>a", got), "0 1 0");
    assert_int_equal(qn_tokenizer_role(t, QN_TOKEN_BOS), 1);
    qn_tokenizer_free(t);
}

/* ---- refusals -------------------------------------------------------------------------------- */

#define MODEL(members) "{\"model\":{\"type\":\"BPE\"," members "}}"
#define WITH(key, value)                                                                           \
    "{\"" key "\":" value ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}"

static void damaged_json_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"", "tokenizer.json:1:1"},
        {"[]", "expected an object"},
        {"{}", "expected an object \"model\""},
        {"{\"model\":{\"type\":\"Other\"}}", "does not have the model \"Other\""},
        {MODEL("\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]"), "duplicate key"},
        {MODEL("\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]"), "for one id"},
        {MODEL("\"vocab\":{\"a\":-1},\"merges\":[]"), "found id -1"},
        {MODEL("\"vocab\":{\"a\":1e9},\"merges\":[]"), "found id 1000000000"},
        {MODEL("\"vocab\":{\"a\":0.5},\"merges\":[]"), "expected an id"},
        {MODEL("\"vocab\":{\"\":0},\"merges\":[]"), "found 0 bytes"},
        {MODEL("\"vocab\":{},\"merges\":[]"), "expected an object of tokens"},
        {MODEL("\"vocab\":{\"a\":0}"), "expected a list \"merges\""},
        {MODEL("\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a  b\"]"), "one space between"},
        {MODEL("\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"ab\"]"), "one space between"},
        {MODEL("\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[[\"a\"]]"), "[\"a\", \"b\"]"},
        {MODEL("\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]"), "what it makes"},
        {MODEL("\"vocab\":{\"a\":0,\"ab\":1},\"merges\":[\"a b\"]"),
         "\"b\" is not in the vocabulary"},
        {MODEL("\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\",\"a a\"]"), "found twice"},
        {MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1"), "dropout"},
        {MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"<u>\""), "unk_token"},
        {MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":1"), "expected true or false"},
        {WITH("pre_tokenizer", "{\"type\":\"Other\"}"), "does not have \"Other\""},
        {WITH("pre_tokenizer", "{}"), "expected \"type\""},
        {WITH("pre_tokenizer", "[]"), "expected an object"},
        {WITH("pre_tokenizer", "{\"type\":\"Sequence\"}"), "expected a list \"pretokenizers\""},
        {WITH("pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{},\"behavior\":\"Isolated\"}"),
         "expected {\"String\": s}"},
        {WITH("pre_tokenizer",
              "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}"),
         "split pattern"},
        {WITH("pre_tokenizer",
              "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Other\"}"),
         "unknown behavior"},
        {WITH("pre_tokenizer",
              "{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\"}"),
         "an empty pattern"},
        {WITH("added_tokens", "[{\"id\":1,\"content\":\"a\"}]"), "the model has it as 0"},
        {WITH("added_tokens", "[{\"id\":0,\"content\":\"b\"}]"), "for one id"},
        {WITH("added_tokens", "[{\"id\":1,\"content\":\"\"}]"), "found 0 bytes"},
        {WITH("added_tokens", "[{\"content\":\"b\"}]"), "expected \"id\""},
        {WITH("added_tokens", "{}"), "expected a list"},
        {WITH("post_processor", "{\"type\":\"Other\"}"), "does not have \"Other\""},
        {WITH("post_processor",
              "{\"type\":\"BertProcessing\",\"sep\":[\"a\",7],\"cls\":[\"a\",0]}"),
         "\"sep\": expected [token, id]"},
        {WITH("post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
                                "{\"id\":\"x\"}}],\"special_tokens\":{}}"),
         "is not in special_tokens"},
        {WITH("post_processor",
              "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":"
              "\"A\"}},{\"Sequence\":{\"id\":\"A\"}}]}"),
         "each text once"},
        {WITH("decoder", "{\"type\":\"Other\"}"), "does not have \"Other\""},
        {WITH("normalizer", "{\"type\":\"Other\"}"), "does not have \"Other\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qn_tokenizer *t = NULL;
        qn_status s = open_files((named[]){{"tokenizer.json", cases[i].json}, {0}}, &t);
        if (s != QN_ERR_FORMAT) fail_msg("%s: status %d", cases[i].json, s);
        if (!strstr(qn_error_message(), cases[i].message) ||
            !strstr(qn_error_message(), "tokenizer.json:1:"))
            fail_msg("%s: \"%s\"", cases[i].json, qn_error_message());
    }
}

static void damaged_small_files_are_refused(void **state) {
    (void)state;
    static const char plain[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";
    static const struct {
        named first, second;
        const char *message;
    } cases[] = {
        {{"tokenizer.json", plain}, {"tokenizer_config.json", "[]"}, "tokenizer_config.json:1:1"},
        {{"tokenizer.json", plain},
         {"tokenizer_config.json", "{\"bos_token\":1}"},
         "expected a token"},
        {{"tokenizer.json", plain},
         {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"b\"}}}"},
         "expected an id as the key"},
        {{"tokenizer.json", plain},
         {"tokenizer_config.json", "{\"added_tokens_decoder\":{\"0\":{\"content\":\"b\"}}}"},
         "for one id"},
        {{"tokenizer.json", plain}, {"added_tokens.json", "{\"a\":3}"}, "the model has it as 0"},
        {{"vocab.json", VOCAB}, {"merges.txt", "a b\na  b\n"}, "merges.txt:2: expected two"},
        {{"vocab.json", VOCAB}, {"merges.txt", "a b\n\nb a\n"}, "merges.txt:2: expected two"},
        {{"vocab.json", VOCAB}, {"merges.txt", "a c\n"}, "merges.txt:1: merge 0: \"c\""},
        {{"vocab.json", VOCAB}, {"merges.txt", "a b\r\n"}, "is not in the vocabulary"},
        {{"tokenizer.model", "YQ== 0\nYg== x\n"}, {0}, "tokenizer.model:2: expected"},
        {{"tokenizer.model", "YQ== 0\nYQ== 1\n"}, {0}, "tokenizer.model:2: token"},
        {{"tokenizer.model", "YQ== 0\n"}, {0}, "the byte 0x00 has no rank"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qn_tokenizer *t = NULL;
        qn_status s = open_files((named[]){cases[i].first, cases[i].second, {0}}, &t);
        if (s != QN_ERR_FORMAT) fail_msg("%s: status %d", cases[i].message, s);
        if (!strstr(qn_error_message(), cases[i].message))
            fail_msg("expected %s, found %s", cases[i].message, qn_error_message());
    }
}

static void what_a_checkpoint_keeps_is_checked(void **state) {
    (void)state;
    static const char *const refused[] = {
        "",
        "[]",
        "{\"type\":\"files\"}",
        "{\"type\":\"files\",\"files\":[]}",
        "{\"type\":\"files\",\"files\":[{\"name\":\"tokenizer.json\",\"size\":1,\"deflate\":\"x\"}]"
        "}",
        "{\"type\":\"files\",\"files\":[{\"name\":\"tokenizer.json\",\"size\":1,"
        "\"deflate\":\"eJwDAAAAAAE=\"}]}",
        "{\"type\":\"other\"}"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        qn_tokenizer *t = NULL;
        if (qn_tokenizer_load(refused[i], &t) != QN_ERR_FORMAT) fail_msg("%s", refused[i]);
    }
}

static void what_is_not_there_is_named(void **state) {
    (void)state;
    qn_tokenizer *t = NULL;
    assert_int_not_equal(qn_tokenizer_open("no-such-file", &t), QN_OK);
    assert_non_null(strstr(qn_error_message(), "no-such-file"));
    char directory[] = "/tmp/quern-empty-XXXXXX";
    assert_non_null(mkdtemp(directory));
    assert_int_equal(qn_tokenizer_open(directory, &t), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "found no tokenizer"));
    assert_int_equal(remove(directory), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocab_and_merges),
        cmocka_unit_test(config_adds_tokens_roles_and_a_template),
        cmocka_unit_test(template_of_tokenizer_json_rules),
        cmocka_unit_test(damaged_json_is_refused),
        cmocka_unit_test(damaged_small_files_are_refused),
        cmocka_unit_test(what_a_checkpoint_keeps_is_checked),
        cmocka_unit_test(what_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
