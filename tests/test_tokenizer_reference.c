/* test_tokenizer_reference.c — small tokenizers against what the reference implementations make of
 * texts with them: tests/golden/tokenizer_models, made by make_tokenizer_models.py beside it. */
#include "io/tokenizer_parts.h"
#include "tests/tokenizer_helpers.h"

#define GOLDEN QUERN_SOURCE_DIR "/tests/golden/tokenizer_models/"

static cJSON *read_golden(qn_setup *arena, const char *name) {
    char path[QN_PATH_MAX], *text = NULL;
    int64_t bytes = 0;
    cJSON *json = NULL;
    snprintf(path, sizeof path, "%s%s", GOLDEN, name);
    qn_assert_ok(qn_file_read(path, 1 << 22, &text, &bytes));
    qn_assert_ok(
        qn_json_parse(arena, text, (size_t)bytes, &(qn_json_options){.name = name}, &json));
    qn_free(text);
    return json;
}

/* A tokenizer of a tokenizer.json text. */
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

static bool same_text(const char *what, const char *from, const char *got, size_t bytes,
                      const char *want) {
    if (bytes == strlen(want) && memcmp(got, want, bytes) == 0) return true;
    printf("%s of \"%s\": found \"%.*s\", expected \"%s\"\n", what, from, (int)bytes, got, want);
    return false;
}

/* Whole and as a stream, the ids decode to the text. */
static bool decodes_to(const qn_tokenizer *t, const char *from, const qn_ids *ids,
                       const char *want) {
    qn_text whole = {0}, parts = {0};
    qn_token_stream *s = NULL;
    qn_assert_ok(qn_tokenizer_decode(t, ids->id, ids->n, false, &whole));
    qn_assert_ok(qn_token_stream_create(t, false, &s));
    for (int64_t i = 0; i < ids->n; i++) {
        qn_assert_ok(qn_token_stream_push(s, ids->id[i], &parts));
        assert_true(qn_utf8_valid(parts.data ? parts.data : "", parts.length));
    }
    qn_assert_ok(qn_token_stream_finish(s, &parts));
    bool equal = same_text("text", from, whole.data ? whole.data : "", whole.length, want) &&
                 same_text("stream", from, parts.data ? parts.data : "", parts.length, want);
    qn_token_stream_free(s);
    qn_text_free(&whole);
    qn_text_free(&parts);
    return equal;
}

/* Places of tokens do not change ids, do not go back and lie in the text. */
static bool has_places(const qn_tokenizer *t, const char *text, const qn_ids *want,
                       qn_encode_options o) {
    qn_ids ids = {0};
    int64_t bytes = (int64_t)strlen(text);
    o.offsets = true;
    qn_assert_ok(qn_tokenizer_encode(t, text, bytes, &o, &ids));
    bool good = ids.n == want->n;
    for (int64_t i = 0; good && i < ids.n; i++)
        good = ids.id[i] == want->id[i] && ids.start[i] >= (i ? ids.start[i - 1] : 0) &&
               ids.start[i] <= bytes;
    if (!good) printf("places of \"%s\"\n", text);
    qn_ids_free(&ids);
    return good;
}

/* [[text, ids, decoded], ...]; returns how many differ. */
static int check_cases(const qn_tokenizer *t, const cJSON *cases, bool special) {
    int wrong = 0, n = 0;
    const qn_encode_options o = {.add_special = special, .parse_special = special};
    for (const cJSON *c = cases->child; c; c = c->next, n++) {
        const char *text = c->child->valuestring;
        const cJSON *want = c->child->next;
        qn_ids ids = {0};
        qn_assert_ok(qn_tokenizer_encode(t, text, (int64_t)strlen(text), &o, &ids));
        wrong += !encodes_to(t, text, (int64_t)strlen(text), &o, want);
        wrong += !decodes_to(t, text, &ids, want->next->valuestring);
        wrong += !has_places(t, text, &ids, o);
        qn_ids_free(&ids);
    }
    assert_true(n > 150);
    return wrong;
}

static void check_model(const char *name) {
    char path[QN_PATH_MAX], file[64];
    qn_setup *arena = NULL;
    qn_tokenizer *t = NULL;
    qn_assert_ok(qn_setup_create("goldens", &arena));
    snprintf(file, sizeof file, "%s.json", name);
    snprintf(path, sizeof path, "%s%s.model", GOLDEN, name);
    qn_assert_ok(qn_tokenizer_open(path, &t));
    const cJSON *cases = qn_json_get(read_golden(arena, file), "cases");
    assert_int_equal(check_cases(t, cases, false), 0);
    char *kept = NULL; /* as a checkpoint keeps it */
    qn_tokenizer *again = NULL;
    qn_assert_ok(qn_tokenizer_save(t, &kept));
    qn_assert_ok(qn_tokenizer_load(kept, &again));
    assert_string_equal(qn_tokenizer_identity(again), qn_tokenizer_identity(t));
    assert_int_equal(check_cases(again, cases, false), 0);
    qn_free(kept);
    qn_tokenizer_free(again);
    qn_tokenizer_free(t);
    qn_setup_free(arena);
}

static void sentencepiece_unigram(void **state) {
    (void)state;
    check_model("unigram");
}

static void sentencepiece_unigram_with_bytes(void **state) {
    (void)state;
    check_model("unigram_bytes");
}

static void sentencepiece_bpe_with_bytes(void **state) {
    (void)state;
    check_model("bpe_bytes");
}

static void sentencepiece_bpe_with_spaces_as_suffix(void **state) {
    (void)state;
    check_model("bpe_suffix");
}

static void sentencepiece_bpe_across_words(void **state) {
    (void)state;
    check_model("bpe_across");
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */

static char *printed(const cJSON *json) {
    qn_text out = {0};
    char *text = NULL;
    qn_json_write(&out, json, -1);
    qn_assert_ok(qn_text_take(&out, &text));
    return text;
}

static void whole_tokenizers(void **state) {
    (void)state;
    qn_setup *arena = NULL;
    qn_assert_ok(qn_setup_create("goldens", &arena));
    const cJSON *rows = qn_json_get(read_golden(arena, "whole.json"), "rows");
    int wrong = 0;
    for (const cJSON *row = rows->child; row; row = row->next) {
        char *json = printed(qn_json_get(row, "tokenizer"));
        qn_tokenizer *t = from_json(json);
        wrong += check_cases(t, qn_json_get(row, "cases"), true);
        qn_tokenizer_free(t);
        qn_free(json);
    }
    assert_int_equal(wrong, 0);
    qn_setup_free(arena);
}

static void normalizers(void **state) {
    (void)state;
    qn_setup *arena = NULL;
    int wrong = 0;
    qn_assert_ok(qn_setup_create("goldens", &arena));
    const cJSON *rows = qn_json_get(read_golden(arena, "steps.json"), "normalizers");
    for (const cJSON *row = rows->child; row; row = row->next) {
        char *step = printed(qn_json_get(row, "json"));
        char *json = qn_sprintf("{\"normalizer\":%s,\"model\":{\"type\":\"Unigram\",\"unk_id\":0,"
                                "\"vocab\":[[\"<unk>\",0]]}}",
                                step);
        qn_tokenizer *t = from_json(json);
        for (const cJSON *c = qn_json_get(row, "cases")->child; c; c = c->next) {
            const char *text = c->child->valuestring;
            qni_string buffer[2] = {{.tracked = true}, {.tracked = true}};
            qni_piece piece = {.text = text, .bytes = (int64_t)strlen(text), .first = true};
            qn_assert_ok(qni_normalize(t, buffer, &piece));
            wrong += !same_text(step, text, piece.bytes ? piece.text : "", (size_t)piece.bytes,
                                c->child->next->valuestring);
            for (int64_t i = 0; i < piece.bytes; i++) {
                int64_t at = qni_piece_origin(&piece, i);
                assert_true(at >= 0 && at < (int64_t)strlen(text));
            }
            qni_string_free(&buffer[0]);
            qni_string_free(&buffer[1]);
        }
        qn_tokenizer_free(t);
        qn_free(json);
        qn_free(step);
    }
    assert_int_equal(wrong, 0);
    qn_setup_free(arena);
}

/* A tokenizer whose vocabulary are the strings of a case, and the ids of them in order. */
static qn_tokenizer *of_tokens(const char *decoder, const cJSON *tokens, qn_ids *ids) {
    qn_text json = {0};
    char *text = NULL;
    qn_text_printf(&json, "{\"decoder\":%s,\"model\":{\"type\":\"Unigram\",\"vocab\":[", decoder);
    for (const cJSON *c = tokens->child; c; c = c->next) {
        int32_t id = 0;
        for (const cJSON *d = tokens->child; strcmp(c->valuestring, d->valuestring); d = d->next)
            id++;
        qn_assert_ok(qn_ids_add(ids, id, 0));
        qn_text_add(&json, ids->n > 1 ? ",[" : "[");
        if (id + 1 == ids->n)
            qn_text_json_string(&json, c->valuestring);
        else
            qn_text_printf(&json, "\"again %d\"", (int)ids->n);
        qn_text_add(&json, ",0]");
    }
    qn_text_add(&json, "]}}");
    qn_assert_ok(qn_text_take(&json, &text));
    qn_tokenizer *t = from_json(text);
    qn_free(text);
    return t;
}

static void decoders(void **state) {
    (void)state;
    qn_setup *arena = NULL;
    int wrong = 0;
    qn_assert_ok(qn_setup_create("goldens", &arena));
    const cJSON *rows = qn_json_get(read_golden(arena, "steps.json"), "decoders");
    for (const cJSON *row = rows->child; row; row = row->next) {
        char *step = printed(qn_json_get(row, "json"));
        for (const cJSON *c = qn_json_get(row, "cases")->child; c; c = c->next) {
            qn_ids ids = {0};
            qn_tokenizer *t = of_tokens(step, c->child, &ids);
            wrong += !decodes_to(t, step, &ids, c->child->next->valuestring);
            qn_ids_free(&ids);
            qn_tokenizer_free(t);
        }
        qn_free(step);
    }
    assert_int_equal(wrong, 0);
    qn_setup_free(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentencepiece_unigram),
        cmocka_unit_test(sentencepiece_unigram_with_bytes),
        cmocka_unit_test(sentencepiece_bpe_with_bytes),
        cmocka_unit_test(sentencepiece_bpe_with_spaces_as_suffix),
        cmocka_unit_test(sentencepiece_bpe_across_words),
        cmocka_unit_test(whole_tokenizers),
        cmocka_unit_test(normalizers),
        cmocka_unit_test(decoders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
