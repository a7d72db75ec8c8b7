/* test_tokenizer.c — whole tokenizers against the ids of the reference implementations, decoding,
 * streams, and what a checkpoint keeps. Needs the shared tokenizer files. */
#include "tests/tokenizer_helpers.h"

/* ---- goldens --------------------------------------------------------------------------------- */

static void check(const char *file, const char *golden, const char *llamacpp, int64_t size) {
    qn_tokenizer *t = open_shared(file);
    assert_int_equal(qn_tokenizer_size(t), size);
    if (golden) check_golden(t, golden);
    if (llamacpp) check_llamacpp(t, llamacpp);
    qn_tokenizer_free(t);
}

static void gpt2_from_json(void **state) {
    (void)state;
    check("gpt2/tokenizer.json.gz", "gpt2", "gpt-2", 50257);
}

static void gpt2_from_encoder_and_merges(void **state) {
    (void)state;
    check("gpt2/encoder.json.gz", "gpt2", "gpt-2", 50257);
}

static void gpt2_from_ranks(void **state) {
    (void)state;
    check("tiktoken/r50k_base.tiktoken.gz", "gpt2", "gpt-2", 50257);
}

static void cl100k_from_ranks(void **state) {
    (void)state;
    check("tiktoken/cl100k_base.tiktoken.gz", "cl100k_base", NULL, 100277);
}

static void o200k_from_ranks(void **state) {
    (void)state;
    check("tiktoken/o200k_base.tiktoken.gz", "o200k_base", NULL, 200019);
}

static void llama3_from_ranks(void **state) {
    (void)state;
    check("llama3/tokenizer.model.tiktoken.gz", "llama3", "llama-bpe", 128256);
}

/* ---- special tokens -------------------------------------------------------------------------- */

static void expect(const qn_tokenizer *t, const char *text, const qn_encode_options *o,
                   const int32_t *want, int64_t n) {
    qn_ids ids = {0};
    qn_assert_ok(qn_tokenizer_encode(t, text, (int64_t)strlen(text), o, &ids));
    assert_int_equal(ids.n, n);
    for (int64_t i = 0; i < n; i++) assert_int_equal(ids.id[i], want[i]);
    qn_ids_free(&ids);
}

static void special_tokens_are_special_where_asked_for(void **state) {
    (void)state;
    qn_tokenizer *t = open_shared("llama3/tokenizer.model.tiktoken.gz");
    const int32_t whole[] = {128000, 2028, 374, 264, 1296, 11914, 13, 128001};
    const qn_encode_options special = {.add_special = true, .parse_special = true};
    expect(t, "This is a test sentence.<|end_of_text|>", &special, whole, 8);
    expect(t, "<|begin_of_text|>This is a test sentence.<|end_of_text|>",
           &(qn_encode_options){.parse_special = true}, whole, 8);
    qn_ids ids = {0};
    qn_assert_ok(qn_tokenizer_encode(t, "<|end_of_text|>", 15, &(qn_encode_options){0}, &ids));
    assert_true(ids.n > 1);
    for (int64_t i = 0; i < ids.n; i++) assert_true(ids.id[i] < 128000);
    qn_ids_free(&ids);
    assert_int_equal(qn_tokenizer_role(t, QN_TOKEN_BOS), 128000);
    assert_int_equal(qn_tokenizer_role(t, QN_TOKEN_UNK), -1);
    assert_int_equal(qn_tokenizer_id(t, "<|eot_id|>", 10), 128009);
    qn_tokenizer_free(t);
}

static void roberta_puts_its_tokens_around(void **state) {
    (void)state;
    qn_tokenizer *t = open_shared("roberta-base/tokenizer.json.gz");
    const int32_t one[] = {0, 31414, 6, 232, 328, 2};
    const int32_t two[] = {0, 31414, 2, 2, 232, 2}; /* "Hello", " world" */
    /* "<mask>" takes the space before it */
    const int32_t mask[] = {0, 31414, 50264, 2};
    const qn_encode_options o = {.add_special = true, .parse_special = true};
    expect(t, "Hello, world!", &o, one, 6);
    expect(t, "Hello <mask>", &o, mask, 4);
    qn_ids ids = {0}, types = {0};
    qn_assert_ok(qn_tokenizer_encode_pair(t, "Hello", 5, " world", 6, &o, &ids, &types));
    assert_int_equal(ids.n, 6);
    assert_int_equal(types.n, 6);
    for (int i = 0; i < 6; i++) assert_int_equal(ids.id[i], two[i]);
    for (int i = 0; i < 6; i++) assert_int_equal(types.id[i], 0);
    qn_ids_free(&ids);
    qn_ids_free(&types);
    qn_tokenizer_free(t);
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* Decodes the golden texts again: whole, and as a stream whose parts are whole characters. */
static void decodes_what_it_encoded(void **state) {
    (void)state;
    qn_tokenizer *t = open_shared("tiktoken/o200k_base.tiktoken.gz");
    qn_setup *arena = NULL;
    qn_assert_ok(qn_setup_create("goldens", &arena));
    qn_token_stream *s = NULL;
    qn_assert_ok(qn_token_stream_create(t, false, &s));
    for (const cJSON *c = shared_json(arena, "goldens/texts.json")->child; c; c = c->next) {
        int64_t bytes = golden_text(c->valuestring), passed = 0;
        qn_ids ids = {0};
        qn_text whole = {0}, parts = {0};
        qn_assert_ok(qn_tokenizer_encode(t, c->valuestring, bytes, &(qn_encode_options){0}, &ids));
        qn_assert_ok(qn_tokenizer_decode(t, ids.id, ids.n, false, &whole));
        assert_int_equal(whole.length, bytes);
        if (bytes > 0) assert_memory_equal(whole.data, c->valuestring, (size_t)bytes);
        for (int64_t i = 0; i < ids.n; i++) {
            qn_assert_ok(qn_token_stream_push(s, ids.id[i], &parts));
            int64_t more = (int64_t)parts.length - passed;
            assert_true(more == 0 || qn_utf8_valid(parts.data + passed, (size_t)more));
            passed = (int64_t)parts.length;
        }
        qn_assert_ok(qn_token_stream_finish(s, &parts));
        assert_int_equal(parts.length, bytes);
        if (bytes > 0) assert_memory_equal(parts.data, c->valuestring, (size_t)bytes);
        qn_ids_free(&ids);
        qn_text_free(&whole);
        qn_text_free(&parts);
    }
    qn_token_stream_free(s);
    qn_setup_free(arena);
    qn_tokenizer_free(t);
}

/* The id of a single byte, by its place in the alphabet of byte-level spellings. */
static int32_t byte_id(const qn_tokenizer *t, unsigned byte) {
    char text[4];
    uint32_t c = byte;
    if (byte <= 0x20) c = 0x100 + byte;
    if (byte >= 0x7F && byte <= 0xA0) c = 0x100 + 33 + byte - 0x7F;
    if (byte == 0xAD) c = 0x143;
    return qn_tokenizer_id(t, text, qn_utf8_write(c, text));
}

static void broken_characters_become_replacements(void **state) {
    (void)state;
    const struct {
        const char *bytes, *text;
    } cases[] = {{"\xF0\x9F\x8C"
                  "a",
                  "\xEF\xBF\xBD"
                  "a"},
                 {"\xE2\x82", "\xEF\xBF\xBD"},
                 {"\xFF\xFE", "\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xC3\xA9\xC3", "\xC3\xA9\xEF\xBF\xBD"},
                 {"\xF4\x90", "\xEF\xBF\xBD\xEF\xBF\xBD"}};
    qn_tokenizer *t = open_shared("tiktoken/r50k_base.tiktoken.gz");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qn_text out = {0};
        qn_ids ids = {0};
        for (const char *p = cases[i].bytes; *p; p++)
            qn_assert_ok(qn_ids_add(&ids, byte_id(t, (unsigned char)*p), 0));
        qn_assert_ok(qn_tokenizer_decode(t, ids.id, ids.n, false, &out));
        assert_string_equal(out.data, cases[i].text);
        qn_text_free(&out);
        qn_ids_free(&ids);
    }
    qn_tokenizer_free(t);
}

static void special_tokens_may_be_skipped(void **state) {
    (void)state;
    qn_tokenizer *t = open_shared("tiktoken/r50k_base.tiktoken.gz");
    qn_text out = {0};
    const int32_t special[] = {50256, 64}, outside[] = {50257};
    qn_assert_ok(qn_tokenizer_decode(t, special, 2, true, &out));
    assert_string_equal(out.data, "a");
    assert_int_equal(qn_tokenizer_decode(t, outside, 1, true, &out), QN_ERR_DATA);
    qn_text_free(&out);
    qn_tokenizer_free(t);
}

/* ---- offsets --------------------------------------------------------------------------------- */

static void offsets_say_where_tokens_start(void **state) {
    (void)state;
    qn_tokenizer *t = open_shared("llama3/tokenizer.model.tiktoken.gz");
    const char *text = "Hi\xC3\xA9 <|eot_id|> world";
    const qn_encode_options o = {.add_special = true, .parse_special = true, .offsets = true};
    qn_ids ids = {0};
    qn_assert_ok(qn_tokenizer_encode(t, text, (int64_t)strlen(text), &o, &ids));
    qn_text back = {0};
    for (int64_t i = 1; i < ids.n; i++) { /* each token's own bytes stand where it says */
        back.length = 0;
        qn_assert_ok(qn_tokenizer_decode(t, &ids.id[i], 1, false, &back));
        assert_true(ids.start[i] >= ids.start[i - 1]);
        if (!strstr(back.data, "\xEF\xBF\xBD"))
            assert_memory_equal(back.data, text + ids.start[i], back.length);
    }
    assert_int_equal(ids.id[0], 128000);
    assert_int_equal(ids.start[0], 0);
    assert_int_equal(ids.start[ids.n - 1], 15);
    qn_text_free(&back);
    qn_ids_free(&ids);
    qn_tokenizer_free(t);
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

static void saved_and_loaded_is_the_same(void **state) {
    (void)state;
    qn_tokenizer *t = open_shared("gpt2/tokenizer.json.gz"), *u = NULL;
    char *json = NULL;
    qn_assert_ok(qn_tokenizer_save(t, &json));
    qn_assert_ok(qn_tokenizer_load(json, &u));
    assert_string_equal(qn_tokenizer_identity(t), qn_tokenizer_identity(u));
    assert_int_equal(strlen(qn_tokenizer_identity(t)), 64);
    check_golden(u, "gpt2");
    int64_t size = 0;
    assert_non_null(qn_tokenizer_file_named(u, "tokenizer.json", &size));
    assert_true(size > 1000000);
    char *cut = strstr(json, "\"deflate\":\"") + 2000;
    *cut = *cut == 'A' ? 'B' : 'A';
    qn_tokenizer *damaged = NULL;
    assert_int_equal(qn_tokenizer_load(json, &damaged), QN_ERR_FORMAT);
    qn_free(json);
    qn_tokenizer_free(t);
    qn_tokenizer_free(u);
}

static void byte_vocabulary_is_a_tokenizer(void **state) {
    (void)state;
    qn_vocab *v = NULL;
    qn_tokenizer *t = NULL, *u = NULL;
    qn_ids ids = {0};
    qn_text text = {0};
    char *json = NULL;
    qn_assert_ok(qn_vocab_create_byte(&v));
    qn_assert_ok(qn_tokenizer_from_vocab(v, &t));
    qn_assert_ok(qn_tokenizer_encode(t, "a\xFF", 2, &(qn_encode_options){.offsets = true}, &ids));
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.id[1], 255);
    assert_int_equal(ids.start[1], 1);
    qn_assert_ok(qn_tokenizer_decode(t, ids.id, 2, true, &text));
    assert_memory_equal(text.data, "a\xFF", 2);
    assert_int_equal(qn_tokenizer_size(t), 256);
    qn_assert_ok(qn_tokenizer_save(t, &json));
    assert_string_equal(json, "{\"type\":\"byte\"}");
    qn_assert_ok(qn_tokenizer_load(json, &u));
    assert_string_equal(qn_tokenizer_identity(t), qn_tokenizer_identity(u));
    qn_free(json);
    qn_ids_free(&ids);
    qn_text_free(&text);
    qn_tokenizer_free(t);
    qn_tokenizer_free(u);
    qn_vocab_free(v);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void damaged_llama2_is_refused(void **state) {
    (void)state;
    char path[QN_PATH_MAX];
    qn_tokenizer *t = NULL;
    shared_path(path, "llama2/tokenizer.json.gz");
    assert_int_equal(qn_tokenizer_open(path, &t), QN_ERR_FORMAT);
    assert_non_null(strstr(qn_error_message(), "tokenizer.json:"));
}

static void text_that_is_not_utf8_is_refused(void **state) {
    (void)state;
    qn_tokenizer *t = open_shared("tiktoken/r50k_base.tiktoken.gz");
    qn_ids ids = {0};
    qn_assert_ok(qn_ids_add(&ids, 7, 0));
    assert_int_equal(qn_tokenizer_encode(t, "ab\xC3", 3, &(qn_encode_options){0}, &ids),
                     QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "offset 2"));
    assert_int_equal(ids.n, 1);
    qn_ids_free(&ids);
    qn_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_from_json),
        cmocka_unit_test(gpt2_from_encoder_and_merges),
        cmocka_unit_test(gpt2_from_ranks),
        cmocka_unit_test(cl100k_from_ranks),
        cmocka_unit_test(o200k_from_ranks),
        cmocka_unit_test(llama3_from_ranks),
        cmocka_unit_test(special_tokens_are_special_where_asked_for),
        cmocka_unit_test(roberta_puts_its_tokens_around),
        cmocka_unit_test(decodes_what_it_encoded),
        cmocka_unit_test(broken_characters_become_replacements),
        cmocka_unit_test(special_tokens_may_be_skipped),
        cmocka_unit_test(offsets_say_where_tokens_start),
        cmocka_unit_test(saved_and_loaded_is_the_same),
        cmocka_unit_test(byte_vocabulary_is_a_tokenizer),
        cmocka_unit_test(damaged_llama2_is_refused),
        cmocka_unit_test(text_that_is_not_utf8_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
