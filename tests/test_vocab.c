/* test_vocab.c — vocabularies: ids, UTF-8, and the strict JSON form a checkpoint carries. */
#include "io/vocab.h"
#include "tests/harness.h"

#include <string.h>

static qn_vocab *char_vocab(void) {
    static const uint32_t set[] = {'\n', ' ', 'a', 'b', 0xE9, 0x20AC, 0x1F600};
    qn_vocab *v;
    qn_assert_ok(qn_vocab_create_char(set, 7, &v));
    return v;
}

static void bytes_map_to_themselves(void **state) {
    (void)state;
    qn_vocab *v;
    qn_assert_ok(qn_vocab_create_byte(&v));
    char text[256], out[4];
    int32_t ids[256];
    int64_t n = 0;
    int bytes = 0;
    for (int i = 0; i < 256; i++) text[i] = (char)i;
    qn_assert_ok(qn_vocab_encode(v, text, 256, ids, &n));
    assert_int_equal(n, 256);
    assert_int_equal(qn_vocab_size(v), 256);
    for (int i = 0; i < 256; i++) {
        assert_int_equal(ids[i], i);
        qn_assert_ok(qn_vocab_decode(v, i, out, &bytes));
        assert_int_equal(bytes, 1);
        assert_int_equal((unsigned char)out[0], i);
    }
    assert_int_equal(qn_vocab_id(v, 256), -1);
    assert_int_equal(qn_vocab_decode(v, 256, out, &bytes), QN_ERR_DATA);
    assert_int_equal(qn_vocab_decode(v, -1, out, &bytes), QN_ERR_DATA);
    qn_vocab_free(v);
}

static void characters_round_trip(void **state) {
    (void)state;
    qn_vocab *v = char_vocab(), *copy;
    const char *text = "ab \xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\n";
    const int32_t want[] = {2, 3, 1, 4, 5, 6, 0};
    int32_t ids[16];
    int64_t n = 0;
    char back[32];
    int at = 0;
    qn_assert_ok(qn_vocab_copy(v, &copy));
    qn_assert_ok(qn_vocab_encode(copy, text, (int64_t)strlen(text), ids, &n));
    assert_int_equal(n, 7);
    assert_memory_equal(ids, want, sizeof want);
    for (int64_t i = 0; i < n; i++) {
        int bytes = 0;
        qn_assert_ok(qn_vocab_decode(copy, ids[i], back + at, &bytes));
        at += bytes;
    }
    assert_int_equal(at, strlen(text));
    assert_memory_equal(back, text, strlen(text));
    assert_int_equal(qn_vocab_encode(v, "abc", 3, ids, &n), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "offset 2"));
    assert_int_equal(qn_vocab_encode(v, "a\xFF", 2, ids, &n), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "0xFF at offset 1"));
    assert_int_equal(qn_vocab_id(v, 0xEA), -1);
    assert_int_equal(qn_vocab_id(v, 0x10FFFF), -1);
    qn_vocab_free(copy);
    qn_vocab_free(v);
}

static void every_scalar_value_survives_utf8(void **state) {
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        if (c >= 0xD800 && c <= 0xDFFF) continue;
        char out[4];
        uint32_t back = 0;
        int n = qn_utf8_write(c, out);
        if (qn_utf8_next((unsigned char *)out, n, &back) != n || back != c) fail_msg("U+%04X", c);
        if (n > 1 && qn_utf8_next((unsigned char *)out, n - 1, &back) != 0)
            fail_msg("U+%04X cut short was accepted", c);
    }
}

static void malformed_utf8_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x80",
        "\xBF",
        "\xC0\x80",
        "\xC1\xBF",
        "\xE0\x80\x80",
        "\xE0\x9F\xBF",
        "\xED\xA0\x80",
        "\xED\xBF\xBF",
        "\xF0\x80\x80\x80",
        "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xF8\x88\x80\x80",
        "\xFE",
        "\xFF",
        "\xC3(",
        "\xE2\x82(",
        "\xE2(\xAC",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint32_t c;
        if (qn_utf8_next((const unsigned char *)bad[i], (int64_t)strlen(bad[i]), &c) != 0)
            fail_msg("case %zu was accepted", i);
    }
}

static void json_round_trips(void **state) {
    (void)state;
    qn_vocab *v = char_vocab(), *back;
    char *json, *again;
    qn_assert_ok(qn_vocab_save(v, &json));
    assert_string_equal(json, "{\"type\":\"char\",\"codepoints\":[10,32,97,98,233,8364,128512]}");
    qn_assert_ok(qn_vocab_load(json, &back));
    qn_assert_ok(qn_vocab_save(back, &again));
    assert_string_equal(json, again);
    assert_int_equal(qn_vocab_get_kind(back), QN_VOCAB_CHAR);
    qn_vocab_free(back);
    qn_assert_ok(
        qn_vocab_load(" {\n\"type\" : \"char\" , \"codepoints\":\t[ 10 , 32 ] } \n", &back));
    assert_int_equal(qn_vocab_size(back), 2);
    qn_vocab_free(back);
    qn_free(json);
    qn_free(again);
    qn_vocab_free(v);

    qn_assert_ok(qn_vocab_create_byte(&v));
    qn_assert_ok(qn_vocab_save(v, &json));
    assert_string_equal(json, "{\"type\":\"byte\"}");
    qn_assert_ok(qn_vocab_load(json, &back));
    assert_int_equal(qn_vocab_get_kind(back), QN_VOCAB_BYTE);
    qn_vocab_free(back);
    qn_vocab_free(v);
    qn_free(json);
}

static void bad_json_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "null",
        "{\"type\":\"byte\"",
        "{\"type\":\"byte\"} x",
        "{\"type\":\"word\"}",
        "{\"type\":\"char\",\"codepoints\":[]}",
        "{\"type\":\"char\",\"codepoints\":[10,10]}",
        "{\"type\":\"char\",\"codepoints\":[32,10]}",
        "{\"type\":\"char\",\"codepoints\":[55296]}",
        "{\"type\":\"char\",\"codepoints\":[1114112]}",
        "{\"type\":\"char\",\"codepoints\":[-1]}",
        "{\"type\":\"char\",\"codepoints\":[010]}",
        "{\"type\":\"char\",\"codepoints\":[1.5]}",
        "{\"type\":\"char\",\"codepoints\":[99999999999]}",
        "{\"type\":\"char\",\"codepoints\":[10,]}",
        "{\"type\":\"char\",\"codepoints\":[10",
        "{\"type\":\"char\",\"codepoints\":[10]",
        "{\"type\":\"char\",\"codepoints\":[10]} x",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        qn_vocab *v = NULL;
        if (qn_vocab_load(bad[i], &v) != QN_ERR_FORMAT) fail_msg("case %zu: %s", i, bad[i]);
    }
    qn_vocab *v;
    assert_int_equal(qn_vocab_create_char(NULL, 0, &v), QN_ERR_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_map_to_themselves),
        cmocka_unit_test(characters_round_trip),
        cmocka_unit_test(every_scalar_value_survives_utf8),
        cmocka_unit_test(malformed_utf8_is_refused),
        cmocka_unit_test(json_round_trips),
        cmocka_unit_test(bad_json_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
