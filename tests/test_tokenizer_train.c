/* test_tokenizer_train.c — the BPE trainer: merges by hand, those of Hugging Face's trainer
 * (tests/golden/make_tokenizer_models.py), the files it writes, bad input. */
#include "io/tokenizer_train.h"
#include "tests/tokenizer_helpers.h"

typedef struct folder {
    char path[64];
} folder;

static folder make_folder(void) {
    folder f = {"/tmp/quern_train_XXXXXX"};
    assert_non_null(mkdtemp(f.path));
    return f;
}

/* The merges.txt of a trainer, without its first line; the caller's. */
static char *merges_of(const qn_bpe_trainer *t) {
    folder f = make_folder();
    char path[128], *text = NULL;
    int64_t bytes = 0;
    qn_assert_ok(qn_bpe_trainer_save(t, f.path));
    snprintf(path, sizeof path, "%s/merges.txt", f.path);
    qn_assert_ok(qn_file_read(path, 1 << 22, &text, &bytes));
    qn_assert_ok(qn_tree_remove(f.path));
    static const char first[] = "#version: 0.2\n";
    assert_true(bytes >= (int64_t)sizeof first - 1);
    assert_memory_equal(text, first, sizeof first - 1);
    memmove(text, text + sizeof first - 1, (size_t)bytes - sizeof first + 2);
    return text;
}

static void expect_merges(const qn_bpe_train_options *o, const char *text, const char *want) {
    qn_bpe_trainer *t = NULL;
    qn_assert_ok(qn_bpe_trainer_create(o, &t));
    qn_assert_ok(qn_bpe_trainer_feed(t, text, (int64_t)strlen(text)));
    qn_assert_ok(qn_bpe_trainer_run(t));
    char *merges = merges_of(t);
    assert_string_equal(merges, want);
    qn_free(merges);
    qn_bpe_trainer_free(t);
}

static void counts_words_and_breaks_ties_by_id(void **state) {
    (void)state;
    qn_bpe_train_options o = {.vocab_size = 300, .min_frequency = 2};
    /* l-o and o-w stand 4 times each, and l is before o; then lo-w does, space-low 3 times; of
     * those that are left e-r is before the pairs of new tokens. */
    expect_merges(&o, "low low lower lower", "l o\nlo w\n\xC4\xA0 low\ne r\n\xC4\xA0low er\n");
    o.min_frequency = 3;
    expect_merges(&o, "low low lower lower", "l o\nlo w\n\xC4\xA0 low\n");
    o.vocab_size = 257;
    expect_merges(&o, "low low lower lower", "l o\n");
}

static void merges_runs_from_the_left(void **state) {
    (void)state;
    const qn_bpe_train_options o = {.vocab_size = 300, .min_frequency = 1};
    expect_merges(&o, "aaaaa", "a a\naa a\naa aaa\n");
}

static void lines_are_cut_on_their_own(void **state) {
    (void)state;
    qn_bpe_train_options o = {.vocab_size = 300, .min_frequency = 2};
    expect_merges(&o, "a\n\n\nb\n\n\nc", "\xC4\x8A \xC4\x8A\n"); /* `\n\n` is a word, twice */
    o.lines = true;
    expect_merges(&o, "a\n\n\nb\n\n\nc", "");
}

static void equals_the_reference(void **state) {
    (void)state;
    static const char path[] = QUERN_SOURCE_DIR "/tests/golden/tokenizer_models/trained.json";
    char *file = NULL;
    int64_t bytes = 0;
    cJSON *json = NULL;
    qn_setup *arena = NULL;
    qn_assert_ok(qn_setup_create("goldens", &arena));
    qn_assert_ok(qn_file_read(path, 1 << 22, &file, &bytes));
    qn_assert_ok(qn_json_parse(arena, file, (size_t)bytes, &(qn_json_options){0}, &json));
    int n = 0;
    for (const cJSON *row = qn_json_get(json, "rows")->child; row; row = row->next, n++) {
        const char *special[8];
        qn_bpe_train_options o = {.special = special, .pattern = NULL};
        const cJSON *pattern = qn_json_get(row, "pattern");
        if (*pattern->valuestring) o.pattern = pattern->valuestring;
        assert_true(qn_json_int64(qn_json_get(row, "vocab_size"), &o.vocab_size));
        assert_true(qn_json_int64(qn_json_get(row, "min_frequency"), &o.min_frequency));
        for (const cJSON *c = qn_json_get(row, "special_tokens")->child; c; c = c->next)
            special[o.n_special++] = c->valuestring;
        qn_text want = {0};
        qn_text_add(&want, "");
        for (const cJSON *c = qn_json_get(row, "merges")->child; c; c = c->next) {
            qn_text_add(&want, c->valuestring);
            qn_text_add(&want, "\n");
        }
        assert_true(want.length > 100);
        expect_merges(&o, qn_json_get(json, "text")->valuestring, want.data);
        qn_text_free(&want);
    }
    assert_int_equal(n, 3);
    qn_free(file);
    qn_setup_free(arena);
}

static void written_files_are_tokenizers(void **state) {
    (void)state;
    static const char text[] = "the cat and the hat; the caf\xC3\xA9 and the bath <s> the";
    const char *special[] = {"<s>", "</s>"};
    const char *pattern[] = {NULL, "\\w+|[^\\w\\s]+"};
    for (int i = 0; i < 2; i++) {
        const qn_bpe_train_options o = {.vocab_size = 280,
                                        .min_frequency = 2,
                                        .pattern = pattern[i],
                                        .special = special,
                                        .n_special = 2};
        qn_bpe_trainer *t = NULL;
        folder f = make_folder();
        qn_assert_ok(qn_bpe_trainer_create(&o, &t));
        qn_assert_ok(qn_bpe_trainer_feed(t, text, (int64_t)strlen(text)));
        qn_assert_ok(qn_bpe_trainer_run(t));
        qn_assert_ok(qn_bpe_trainer_save(t, f.path));
        qn_bpe_train_size size = qn_bpe_trainer_size(t);
        assert_int_equal(size.bytes, strlen(text));
        assert_int_equal(size.tokens, 258 + size.merges);
        assert_true(size.merges >= 3);
        qn_tokenizer *k = NULL;
        qn_assert_ok(qn_tokenizer_open(f.path, &k));
        assert_int_equal(qn_tokenizer_size(k), size.tokens);
        assert_int_equal(qn_tokenizer_id(k, "</s>", 4), 1);
        assert_true(qn_tokenizer_is_special(k, 0));
        qn_ids ids = {0};
        qn_text back = {0};
        const qn_encode_options plain = {0}, parse = {.parse_special = true};
        qn_assert_ok(qn_tokenizer_encode(k, text, (int64_t)strlen(text), &plain, &ids));
        qn_assert_ok(qn_tokenizer_decode(k, ids.id, ids.n, false, &back));
        assert_int_equal(back.length, strlen(text));
        assert_memory_equal(back.data, text, back.length);
        assert_true(ids.n < (int64_t)strlen(text));
        ids.n = 0;
        qn_assert_ok(qn_tokenizer_encode(k, "<s>the", 6, &parse, &ids));
        assert_int_equal(ids.id[0], 0);
        qn_ids_free(&ids);
        qn_text_free(&back);
        qn_tokenizer_free(k);
        qn_bpe_trainer_free(t);
        qn_assert_ok(qn_tree_remove(f.path));
    }
}

static void refuses_bad_options_and_texts(void **state) {
    (void)state;
    qn_bpe_trainer *t = NULL;
    const char *twice[] = {"<s>", "<s>"};
    qn_bpe_train_options o = {.vocab_size = 255};
    assert_int_equal(qn_bpe_trainer_create(&o, &t), QN_ERR_USAGE);
    o = (qn_bpe_train_options){.vocab_size = 257, .special = twice, .n_special = 2};
    assert_int_equal(qn_bpe_trainer_create(&o, &t), QN_ERR_USAGE);
    o.vocab_size = 300;
    assert_int_equal(qn_bpe_trainer_create(&o, &t), QN_ERR_USAGE);
    o = (qn_bpe_train_options){.vocab_size = 300, .pattern = "(a"};
    assert_int_equal(qn_bpe_trainer_create(&o, &t), QN_ERR_FORMAT);
    o.pattern = NULL;
    qn_assert_ok(qn_bpe_trainer_create(&o, &t));
    assert_int_equal(qn_bpe_trainer_feed(t, "ab\xFFz", 4), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "byte 2"));
    qn_assert_ok(qn_bpe_trainer_run(t)); /* no text: 256 tokens */
    assert_int_equal(qn_bpe_trainer_size(t).tokens, 256);
    qn_bpe_trainer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_words_and_breaks_ties_by_id),
        cmocka_unit_test(merges_runs_from_the_left),
        cmocka_unit_test(lines_are_cut_on_their_own),
        cmocka_unit_test(equals_the_reference),
        cmocka_unit_test(written_files_are_tokenizers),
        cmocka_unit_test(refuses_bad_options_and_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
