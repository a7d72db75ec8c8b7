/* test_tokenizer_hostile.c — SentencePiece models and vocab.txt files that must be refused, each
 * with the reason. */
#include "io/tokenizer_sentencepiece.h"
#include "tests/tokenizer_helpers.h"

#include <math.h>

/* A model file, grown field by field. */
typedef struct bytes {
    char data[8192];
    int64_t n;
} bytes;

static void put(bytes *b, const void *data, int64_t n) {
    assert_true(b->n + n <= (int64_t)sizeof b->data);
    memcpy(b->data + b->n, data, (size_t)n);
    b->n += n;
}

static void put_varint(bytes *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) put(b, &(char){(char)(v | 0x80)}, 1);
    put(b, &(char){(char)v}, 1);
}

static void put_number(bytes *b, int field, uint64_t v) {
    put_varint(b, (uint64_t)field << 3);
    put_varint(b, v);
}

static void put_bytes(bytes *b, int field, const void *data, int64_t n) {
    put_varint(b, (uint64_t)field << 3 | 2);
    put_varint(b, (uint64_t)n);
    put(b, data, n);
}

static void put_piece(bytes *b, const char *text, float score, int type) {
    bytes piece = {.n = 0};
    put_bytes(&piece, 1, text, (int64_t)strlen(text));
    put_varint(&piece, 2 << 3 | 5);
    put(&piece, &score, 4);
    put_number(&piece, 3, (uint64_t)type);
    put_bytes(b, 1, piece.data, piece.n);
}

static bytes good_model(void) {
    bytes b = {.n = 0};
    put_piece(&b, "<unk>", 0, QNI_SP_UNKNOWN);
    put_piece(&b, "<s>", 0, QNI_SP_CONTROL);
    put_piece(&b,
              "\xE2\x96\x81"
              "a",
              -1, QNI_SP_NORMAL);
    put_piece(&b, "\xE2\x96\x81", -2, QNI_SP_NORMAL);
    put_piece(&b, "a", -3, QNI_SP_NORMAL);
    return b;
}

static void with_trainer(bytes *b, int field, uint64_t v) {
    bytes spec = {.n = 0};
    put_number(&spec, field, v);
    put_bytes(b, 2, spec.data, spec.n);
}

static void with_charsmap(bytes *b, const void *map, int64_t n) {
    bytes spec = {.n = 0};
    put_bytes(&spec, 2, map, n);
    put_bytes(b, 3, spec.data, spec.n);
}

static qn_status open_bytes(const char *name, const void *data, int64_t n, qn_tokenizer **out) {
    char directory[] = "/tmp/quern_hostile_XXXXXX", path[128];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/%s", directory, name);
    qn_assert_ok(qn_file_create(path, data, (size_t)n));
    qn_status status = qn_tokenizer_open(path, out);
    qn_assert_ok(qn_tree_remove(directory));
    return status;
}

static void expect_refused(const bytes *b, const char *why) {
    qn_tokenizer *t = NULL;
    assert_int_equal(open_bytes("tokenizer.model", b->data, b->n, &t), QN_ERR_FORMAT);
    if (!strstr(qn_error_message(), why)) fail_msg("%s: no \"%s\"", qn_error_message(), why);
}

static void the_good_one_is_taken(void **state) {
    (void)state;
    bytes b = good_model();
    qn_tokenizer *t = NULL;
    qn_ids ids = {0};
    put_bytes(&b, 77, "later fields", 12); /* unknown fields are passed over */
    qn_assert_ok(open_bytes("tokenizer.model", b.data, b.n, &t));
    qn_assert_ok(qn_tokenizer_encode(t, "a b", 3, &(qn_encode_options){.add_special = true}, &ids));
    assert_int_equal(ids.n, 4);
    assert_memory_equal(ids.id, ((const int32_t[]){1, 2, 3, 0}), 4 * sizeof(int32_t));
    qn_ids_free(&ids);
    qn_tokenizer_free(t);
}

static void every_cut_is_refused_or_whole(void **state) {
    (void)state;
    bytes b = good_model();
    qn_setup *arena = NULL;
    int taken = 0;
    with_trainer(&b, 3, 2);
    qn_assert_ok(qn_setup_create("cut", &arena));
    for (int64_t n = 0; n < b.n; n++) {
        qni_sp_file f;
        taken += qni_sp_parse(arena, b.data, n, &f) == QN_OK;
    }
    assert_int_equal(taken, 5); /* behind each piece */
    qn_setup_free(arena);
}

static void wire_errors_are_refused(void **state) {
    (void)state;
    bytes b = good_model();
    put(&b, "\x0A\xFF\xFF\xFF\xFF\x0F", 6);
    expect_refused(&b, "beyond the end");
    b = good_model();
    put(&b, "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 12);
    expect_refused(&b, "more than 64 bits");
    b = good_model();
    put(&b, "\x0B", 1); /* a group */
    expect_refused(&b, "unknown kind");
    b = good_model();
    put(&b, "\x02\x00", 2);
    expect_refused(&b, "no field number");
    b = good_model();
    put_number(&b, 1, 7);
    expect_refused(&b, "another kind");
    b = good_model();
    put(&b, "\x12", 1);
    expect_refused(&b, "end inside a number");
}

static void bad_pieces_are_refused(void **state) {
    (void)state;
    bytes b = good_model();
    put_piece(&b, "", 0, QNI_SP_NORMAL);
    expect_refused(&b, "empty");
    b = good_model();
    put_piece(&b, "\xC3", 0, QNI_SP_NORMAL);
    expect_refused(&b, "not UTF-8");
    b = good_model();
    put_piece(&b, "b", (float)NAN, QNI_SP_NORMAL);
    expect_refused(&b, "not finite");
    b = good_model();
    put_piece(&b, "b", 0, 7);
    expect_refused(&b, "unknown type");
    b = good_model();
    put_piece(&b, "a", 0, QNI_SP_NORMAL);
    expect_refused(&b, "two ids");
    b = good_model();
    put_piece(&b, "[unk]", 0, QNI_SP_UNKNOWN);
    expect_refused(&b, "two unknown pieces");
    b = (bytes){.n = 0};
    put_piece(&b, "a", 0, QNI_SP_NORMAL);
    expect_refused(&b, "no unknown piece");
    b = good_model();
    put_piece(&b, "<0x41>", 0, QNI_SP_BYTE);
    expect_refused(&b, "found 1 byte pieces, expected 0");
    with_trainer(&b, 35, 1);
    expect_refused(&b, "found 1 byte pieces, expected 256");
}

static void what_is_not_there_is_refused(void **state) {
    (void)state;
    bytes b = good_model();
    with_trainer(&b, 3, 4);
    expect_refused(&b, "model type 4");
    b = good_model();
    put_piece(&b, "aa", 0, QNI_SP_UNUSED);
    with_trainer(&b, 3, 2);
    expect_refused(&b, "unused");
    b = good_model();
    bytes spec = {.n = 0};
    put_bytes(&spec, 2, "map", 3);
    put_bytes(&b, 5, spec.data, spec.n);
    expect_refused(&b, "denormalisation");
}

static void bad_character_maps_are_refused(void **state) {
    (void)state;
    static const char no_text[8] = {4, 0, 0, 0, 0, 0, 0, 0}, odd[10] = {5, 0, 0, 0},
                      large[9] = {0, 1, 0, 0}, open[9] = {4, 0, 0, 0, 0, 0, 0, 0, 'x'},
                      latin[10] = {4, 0, 0, 0, 0, 0, 0, 0, '\xE4', 0};
    const struct {
        const char *map;
        int64_t n;
        const char *why;
    } cases[] = {{"abc", 3, "array"}, {no_text, 8, "array"},        {odd, 10, "whole units"},
                 {large, 9, "array"}, {open, 9, "NUL-ended UTF-8"}, {latin, 10, "NUL-ended UTF-8"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes b = good_model();
        with_charsmap(&b, cases[i].map, cases[i].n);
        expect_refused(&b, cases[i].why);
    }
}

/* An array whose units point outside: nothing is found there, and nothing read. */
static void wild_character_maps_match_nothing(void **state) {
    (void)state;
    char map[4 + 256 * 4 + 2] = {0};
    map[1] = 4; /* 256 units */
    uint32_t root = 0xFFFFFE00u;
    memcpy(map + 4, &root, 4);
    for (uint32_t i = 1; i < 256; i++) {
        uint32_t unit = 0x7FFFFD00u | i;
        memcpy(map + 4 + 4 * i, &unit, 4);
    }
    bytes b = good_model();
    with_charsmap(&b, map, sizeof map);
    qn_tokenizer *t = NULL;
    qn_ids ids = {0};
    qn_assert_ok(open_bytes("tokenizer.model", b.data, b.n, &t));
    qn_assert_ok(qn_tokenizer_encode(t, "a b", 3, &(qn_encode_options){0}, &ids));
    assert_int_equal(ids.n, 3);
    qn_ids_free(&ids);
    qn_tokenizer_free(t);
}

/* A map that replaces the first byte of a character does not cut it. */
static void character_maps_keep_characters_whole(void **state) {
    (void)state;
    char map[4 + 256 * 4 + 2] = {0};
    const uint32_t first = 0xC3 | 1u << 8 | 1u << 10, value = 0x80000000u;
    map[1] = 4; /* 256 units */
    memcpy(map + 4 + 4 * 0xC3, &first, 4);
    memcpy(map + 4 + 4 * 0xC2, &value, 4);
    map[4 + 256 * 4] = 'a';
    bytes b = good_model();
    with_charsmap(&b, map, sizeof map);
    qn_tokenizer *t = NULL;
    qn_ids ids = {0};
    qn_assert_ok(open_bytes("tokenizer.model", b.data, b.n, &t));
    qn_assert_ok(qn_tokenizer_encode(t, "\xC3\xA4", 2, &(qn_encode_options){0}, &ids));
    assert_int_equal(ids.n, 2);
    assert_memory_equal(ids.id, ((const int32_t[]){3, 0}), 2 * sizeof(int32_t));
    qn_ids_free(&ids);
    qn_tokenizer_free(t);
}

/* XLM-RoBERTa and its like count from other ids than their SentencePiece file. */
static void renumbered_models_are_refused(void **state) {
    (void)state;
    bytes b = good_model();
    qn_tokenizer *t = NULL;
    assert_int_equal(open_bytes("sentencepiece.bpe.model", b.data, b.n, &t), QN_ERR_FORMAT);
    assert_non_null(strstr(qn_error_message(), "expected its tokenizer.json"));
}

static void bad_vocab_txt_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *why;
    } cases[] = {{"[UNK]\na\na\n", "vocab.txt:3"},
                 {"[UNK]\n\nb\n", "vocab.txt:2"},
                 {"a\nb\n", "no unknown token"},
                 {"[UNK]\n\xFF\n", "UTF-8"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qn_tokenizer *t = NULL;
        const char *text = cases[i].text;
        assert_int_equal(open_bytes("vocab.txt", text, (int64_t)strlen(text), &t), QN_ERR_FORMAT);
        if (!strstr(qn_error_message(), cases[i].why)) fail_msg("%s", qn_error_message());
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_good_one_is_taken),
        cmocka_unit_test(every_cut_is_refused_or_whole),
        cmocka_unit_test(wire_errors_are_refused),
        cmocka_unit_test(bad_pieces_are_refused),
        cmocka_unit_test(what_is_not_there_is_refused),
        cmocka_unit_test(bad_character_maps_are_refused),
        cmocka_unit_test(wild_character_maps_match_nothing),
        cmocka_unit_test(character_maps_keep_characters_whole),
        cmocka_unit_test(renumbered_models_are_refused),
        cmocka_unit_test(bad_vocab_txt_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
