/* test_json.c — the strict JSON parser and writer: what is accepted, where errors point, exact
 * numbers. */
#include "io/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parses and writes back on one line; NULL when refused. *arena stays for the caller to free. */
static char *round_trip(const char *text, size_t length, const qn_json_options *o,
                        qn_setup **arena) {
    cJSON *root = NULL;
    char *out = NULL;
    assert_int_equal(qn_setup_create("test", arena), QN_OK);
    qn_status status = qn_json_parse(*arena, text, length, o, &root);
    if (status != QN_OK) {
        assert_int_equal(status, QN_ERR_FORMAT);
        assert_null(root);
        return NULL;
    }
    qn_text t = {0};
    qn_json_write(&t, root, -1);
    assert_int_equal(qn_text_take(&t, &out), QN_OK);
    return out;
}

/* ---- accepted -------------------------------------------------------------------------------- */

/* Written values agree with what Python's json module reads, checked when the table was made. */
static const struct {
    const char *text, *written;
} good[] = {
    {"{}", "{}"},
    {"[]", "[]"},
    {" \t\r\n null \n", "null"},
    {"true", "true"},
    {"[true,false,null]", "[true, false, null]"},
    {"0", "0"},
    {"-0", "-0"},
    {"-0.0", "-0"},
    {"1.50", "1.5"},
    {"1e3", "1000"},
    {"1E+2", "100"},
    {"1e-7", "1e-07"},
    {"0.1", "0.1"},
    {"0.30000000000000004", "0.30000000000000004"},
    {"1e-400", "0"},
    {"5e-324", "4.94065645841247e-324"},
    {"1.7976931348623157e308", "1.7976931348623157e+308"},
    {"9007199254740993", "9007199254740993"},
    {"9223372036854775807", "9223372036854775807"},
    {"-9223372036854775808", "-9223372036854775808"},
    {"18446744073709551615", "18446744073709551615"},
    {"18446744073709551616", "1.8446744073709552e+19"},
    {"\"\"", "\"\""},
    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\u0008\\u000c\\n\\r\\t\""},
    {"\"\\u00e9\\u4E2d\"", "\"\xC3\xA9\xE4\xB8\xAD\""},
    {"\"\\ud83d\\ude00\"", "\"\xF0\x9F\x98\x80\""},
    {"\"\xF0\x9F\x98\x80\x7F\"", "\"\xF0\x9F\x98\x80\x7F\""},
    {"\"\\uFFFF\\u0001\"", "\"\xEF\xBF\xBF\\u0001\""},
    {"{\"\":1,\"a\":{\"b\":[1,{}]}}", "{\"\": 1, \"a\": {\"b\": [1, {}]}}"},
    {"{\"a\":1,\"A\":2}", "{\"a\": 1, \"A\": 2}"},
};

static void test_accepted(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        qn_setup *arena;
        qn_json_options o = {0};
        char *out = round_trip(good[i].text, strlen(good[i].text), &o, &arena);
        if (!out) fail_msg("%s: refused: %s", good[i].text, qn_error_message());
        assert_string_equal(out, good[i].written);
        qn_free(out);
        qn_setup_free(arena);
    }
}

/* ---- refused --------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    size_t length; /* 0 = strlen */
    int line, column;
    const char *what; /* part of the message */
} bad[] = {
    {"", 0, 1, 1, "end of the text"},
    {"  \n ", 0, 2, 2, "end of the text"},
    {"{\"a\":1,\n \"b\":2,\n  \"a\":3}", 0, 3, 3, "duplicate key \"a\""},
    {"{\"a\":1,\"\\u0061\":2}", 0, 1, 8, "duplicate"},
    {"1e999", 0, 1, 1, "out of range"},
    {"[-1e999]", 0, 1, 2, "out of range"},
    {"007", 0, 1, 1, "begin with 0"},
    {"-01", 0, 1, 1, "begin with 0"},
    {"1.", 0, 1, 1, "digits after"},
    {"1.e3", 0, 1, 1, "digits after"},
    {".5", 0, 1, 1, "expected a value"},
    {"+1", 0, 1, 1, "expected a value"},
    {"-", 0, 1, 1, "expected a value"},
    {"1e", 0, 1, 1, "exponent"},
    {"1e+", 0, 1, 1, "exponent"},
    {"0x10", 0, 1, 2, "nothing after"},
    {"NaN", 0, 1, 1, "found `NaN`"},
    {"[Infinity]", 0, 1, 2, "found `Infinity`"},
    {"-Infinity", 0, 1, 1, "expected a value"},
    {"True", 0, 1, 1, "found `True`"},
    {"truex", 0, 1, 1, "found `truex`"},
    {"nul", 0, 1, 1, "found `nul`"},
    {"{} {}", 0, 1, 4, "nothing after"},
    {"1,", 0, 1, 2, "nothing after"},
    {"[1,]", 0, 1, 4, "after a comma"},
    {"{\"a\":1,}", 0, 1, 8, "after a comma"},
    {"[1 2]", 0, 1, 4, "`,` or `]`"},
    {"{\"a\" 1}", 0, 1, 6, "`:` after the key"},
    {"{a:1}", 0, 1, 2, "key in double quotes"},
    {"{\"a\":1", 0, 1, 7, "`,` or `}`"},
    {"[", 0, 1, 2, "expected a value"},
    {"['a']", 0, 1, 2, "double quotes"},
    {"\"abc", 0, 1, 1, "without end"},
    {"\"a\nb\"", 0, 1, 1, "past the end of the line"},
    {"\"a\tb\"", 0, 1, 3, "control character 0x09"},
    {"\"\\x\"", 0, 1, 2, "unknown escape"},
    {"\"\\", 0, 1, 2, "unknown escape"},
    {"\"\\u12g4\"", 0, 1, 2, "hexadecimal"},
    {"\"a\\u0000b\"", 0, 1, 3, "\\u0000"},
    {"\"\\ud800\"", 0, 1, 2, "surrogate"},
    {"\"\\ud800\\u0041\"", 0, 1, 2, "surrogate"},
    {"\"\\udc00\\ud800\"", 0, 1, 2, "surrogate"},
    {"\xEF\xBB\xBF{}", 0, 1, 1, "byte order mark"},
    {"[\"\xC3\xA9\", \"\xFF\"]", 0, 1, 8, "0xff"},
    {"\"\xC0\x80\"", 0, 1, 2, "UTF-8"},
    {"\"\xED\xA0\x80\"", 0, 1, 2, "UTF-8"},
    {"\"\xE0\x80\x80\"", 0, 1, 2, "UTF-8"},
    {"\"\xF0\x80\x80\x80\"", 0, 1, 2, "UTF-8"},
    {"\"\xF4\x90\x80\x80\"", 0, 1, 2, "UTF-8"},
    {"\"\xF5\x80\x80\x80\"", 0, 1, 2, "UTF-8"},
    {"\"\x80\"", 0, 1, 2, "UTF-8"},
    {"\"\xE4\xB8\"", 0, 1, 2, "UTF-8"},
    {"\"\xE4\xB8", 0, 1, 2, "UTF-8"},
    {"[1\0]", 4, 1, 3, "NUL byte"},
    {"[\v1]", 0, 1, 2, "byte 0x0b"},
    {"// c\n1", 0, 1, 1, "comment"},
    {"[1, /* c */ 2]", 0, 1, 5, "comment"},
    {"[1, \xC2\xA0 2]", 0, 1, 5, "expected a value"},
};

static void test_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qn_setup *arena;
        qn_json_error error = {0};
        qn_json_options o = {.name = "t.json", .error = &error};
        size_t length = bad[i].length ? bad[i].length : strlen(bad[i].text);
        char place[32], *out = round_trip(bad[i].text, length, &o, &arena);
        if (out) fail_msg("%s: accepted as %s", bad[i].text, out);
        snprintf(place, sizeof place, "t.json:%d:%d: ", bad[i].line, bad[i].column);
        if (strncmp(qn_error_message(), place, strlen(place)) != 0 ||
            !strstr(qn_error_message(), bad[i].what)) {
            fail_msg("%s: got \"%s\", expected \"%s...%s\"", bad[i].text, qn_error_message(), place,
                     bad[i].what);
        }
        assert_string_equal(qn_error_message() + strlen(place), error.text);
        qn_setup_free(arena);
    }
}

static void test_comments(void **state) {
    (void)state;
    static const char text[] = "// first\n{ /* a */ \"a\": // b\n [1, /* ** / */ 2] } // end";
    qn_setup *arena;
    qn_json_options o = {.comments = true};
    char *out = round_trip(text, strlen(text), &o, &arena);
    assert_non_null(out);
    assert_string_equal(out, "{\"a\": [1, 2]}");
    qn_free(out);
    qn_setup_free(arena);
    assert_null(round_trip("1 /* x", 6, &o, &arena));
    assert_non_null(strstr(qn_error_message(), "JSON:1:3: comment without end"));
    qn_setup_free(arena);
    assert_null(round_trip("1 / 2", 5, &o, &arena));
    qn_setup_free(arena);
}

static void test_marked_duplicates(void **state) {
    (void)state;
    static const char text[] = "{\"b\":1,\"a\":2,\"b\":3,\"a\":4,\"b\":5}";
    static const bool expected[] = {false, false, true, true, true};
    qn_setup *arena;
    cJSON *root;
    qn_json_options o = {.mark_duplicates = true};
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    assert_int_equal(qn_json_parse(arena, text, strlen(text), &o, &root), QN_OK);
    int i = 0;
    for (cJSON *c = root->child; c; c = c->next, i++) {
        assert_int_equal(qn_json_node_of(c)->duplicate, expected[i]);
    }
    assert_int_equal(i, 5);
    qn_setup_free(arena);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void test_depth(void **state) {
    (void)state;
    for (int depth = QN_JSON_MAX_DEPTH; depth <= QN_JSON_MAX_DEPTH + 1; depth++) {
        char text[2 * QN_JSON_MAX_DEPTH + 4] = "";
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        qn_setup *arena;
        qn_json_options o = {0};
        char *out = round_trip(text, 2 * (size_t)depth, &o, &arena);
        assert_int_equal(out != NULL, depth == QN_JSON_MAX_DEPTH);
        qn_free(out);
        qn_setup_free(arena);
    }
    size_t n = 100000;
    char *deep = malloc(n);
    assert_non_null(deep);
    memset(deep, '[', n);
    qn_setup *arena;
    qn_json_options o = {0};
    assert_null(round_trip(deep, n, &o, &arena));
    assert_non_null(strstr(qn_error_message(), "JSON:1:65: nested deeper than 64"));
    qn_setup_free(arena);
    free(deep);
}

/* The worst text for memory: as many values as its size allows. */
static void test_size(void **state) {
    (void)state;
    size_t n = QN_JSON_MAX_BYTES;
    char *text = malloc(n + 1);
    assert_non_null(text);
    for (size_t i = 0; i + 1 < n; i++) text[i] = i == 0 ? '[' : i % 2 ? '0' : ',';
    text[n - 1] = ']';
    text[n] = ' ';
    text[n - 2] = ' '; /* instead of a last comma */
    qn_setup *arena;
    cJSON *root;
    qn_json_options o = {0};
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    assert_int_equal(qn_json_parse(arena, text, n, &o, &root), QN_OK);
    size_t values = (size_t)cJSON_GetArraySize(root) + 1;
    assert_true(values >= n / 2 - 1);
    assert_true(qn_setup_bytes(arena) <= 2 * n + 96 * values + 1024);
    qn_setup_free(arena);
    assert_null(round_trip(text, n + 1, &o, &arena));
    assert_non_null(strstr(qn_error_message(), "1048577 bytes are too many"));
    qn_setup_free(arena);
    o.max_bytes = 4;
    assert_null(round_trip("[1,2]", 5, &o, &arena));
    qn_setup_free(arena);
    free(text);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void test_integers(void **state) {
    (void)state;
    static const char text[] = "[9223372036854775807, -9223372036854775808, 9223372036854775808, "
                               "18446744073709551615, 18446744073709551616, 3.0, 1e15, 1.5, 1e300, "
                               "-1, \"1\"]";
    static const struct {
        bool is_signed, is_unsigned;
        int64_t v;
        uint64_t u;
    } expected[] = {{true, true, INT64_MAX, INT64_MAX},
                    {true, false, INT64_MIN, 0},
                    {false, true, 0, (uint64_t)INT64_MAX + 1},
                    {false, true, 0, UINT64_MAX},
                    {false, false, 0, 0},
                    {true, true, 3, 3},
                    {true, true, 1000000000000000, 1000000000000000},
                    {false, false, 0, 0},
                    {false, false, 0, 0},
                    {true, false, -1, 0},
                    {false, false, 0, 0}};
    qn_setup *arena;
    cJSON *root;
    qn_json_options o = {0};
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    assert_int_equal(qn_json_parse(arena, text, strlen(text), &o, &root), QN_OK);
    int i = 0;
    for (cJSON *c = root->child; c; c = c->next, i++) {
        int64_t v = 0;
        uint64_t u = 0;
        assert_int_equal(qn_json_int64(c, &v), expected[i].is_signed);
        assert_int_equal(qn_json_uint64(c, &u), expected[i].is_unsigned);
        assert_true(v == expected[i].v && u == expected[i].u);
    }
    assert_false(qn_json_int64(NULL, &(int64_t){0}));
    qn_setup_free(arena);
}

static uint64_t next_random(uint64_t *x) {
    *x += 0x9E3779B97F4A7C15u;
    return qn_philox(*x, 0, 0).v[0] | (uint64_t)qn_philox(*x, 0, 1).v[0] << 32;
}

static void test_doubles_survive(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 20000; i++) {
        double v, back;
        uint64_t bits = next_random(&seed);
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v)) continue;
        qn_text t = {0};
        qn_text_json_number(&t, v);
        assert_int_equal(t.status, QN_OK);
        qn_setup *arena;
        cJSON *root;
        qn_json_options o = {0};
        assert_int_equal(qn_setup_create("test", &arena), QN_OK);
        assert_int_equal(qn_json_parse(arena, t.data, t.length, &o, &root), QN_OK);
        back = root->valuedouble;
        assert_memory_equal(&back, &v, sizeof v);
        qn_setup_free(arena);
        qn_text_free(&t);
    }
    qn_text t = {0};
    qn_text_json_number(&t, (double)NAN);
    qn_text_json_number(&t, (double)INFINITY);
    qn_text_json_number(&t, -(double)INFINITY);
    assert_string_equal(t.data, "\"nan\"\"inf\"\"-inf\"");
    qn_text_free(&t);
}

static void test_locale(void **state) {
    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) {
        print_message("[  SKIPPED ] the locale de_DE.UTF-8 is not installed\n");
        skip();
    }
    qn_setup *arena;
    qn_json_options o = {0};
    char *out = round_trip("[0.5, 1.25e-3]", 14, &o, &arena);
    setlocale(LC_ALL, "C");
    assert_non_null(out);
    assert_string_equal(out, "[0.5, 0.00125]");
    qn_free(out);
    qn_setup_free(arena);
}

/* ---- positions and damage -------------------------------------------------------------------- */

static void test_positions(void **state) {
    (void)state;
    static const char text[] = "{\n  \"\xC3\xA9\": [10, {\"b\": \"x\"}]\n}";
    qn_setup *arena;
    cJSON *root;
    qn_json_options o = {0};
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    assert_int_equal(qn_json_parse(arena, text, strlen(text), &o, &root), QN_OK);
    const cJSON *list = qn_json_get(root, "\xC3\xA9"), *object = list->child->next;
    const qn_json_node *n = qn_json_node_of(qn_json_get(object, "b"));
    int64_t line, column;
    qn_json_position(n->source, n->key_offset, &line, &column);
    assert_true(line == 2 && column == 14);
    qn_json_position(n->source, n->offset, &line, &column);
    assert_true(line == 2 && column == 19);
    assert_int_equal(n->length, 3);
    assert_string_equal(n->source->text, text);
    assert_null(qn_json_get(root, "x"));
    assert_null(qn_json_get(list, "x"));
    assert_ptr_equal(root->child->prev, root->child);
    qn_setup_free(arena);
}

/* Every prefix, and every byte replaced by some others: refused, or accepted and stable. */
static void test_damage(void **state) {
    (void)state;
    static const char text[] =
        "{\"a\": [1, -2.5e3, true, null, \"\\u00e9\\ud83d\\ude00\xC3\xA9\"], "
        "\"b\": {\"c\": {}}, \"d\": []}";
    static const char others[] = "\"\\{}[],:0-e.\x01\x80\xFFu/ ";
    char copy[sizeof text];
    for (size_t i = 0; i < sizeof text - 1; i++) {
        for (size_t k = 0; k < sizeof others; k++) { /* the last one is the prefix itself */
            qn_setup *arena, *again;
            qn_json_options o = {0};
            memcpy(copy, text, sizeof text);
            copy[i] = others[k];
            size_t length = k == sizeof others - 1 ? i : sizeof text - 1;
            char *out = round_trip(copy, length, &o, &arena);
            if (length == i) assert_null(out);
            if (out) {
                char *twice = round_trip(out, strlen(out), &o, &again);
                assert_non_null(twice);
                assert_string_equal(twice, out);
                qn_free(twice);
                qn_setup_free(again);
            }
            qn_free(out);
            qn_setup_free(arena);
        }
    }
}

static void test_indented(void **state) {
    (void)state;
    static const char text[] = "{\"a\":[1,{}],\"b\":{\"c\":[]}}";
    qn_setup *arena;
    cJSON *root;
    qn_json_options o = {0};
    qn_text t = {0};
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    assert_int_equal(qn_json_parse(arena, text, strlen(text), &o, &root), QN_OK);
    qn_json_write(&t, root, 0);
    assert_string_equal(t.data, "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {\n    \"c\": []\n  "
                                "}\n}");
    qn_text_free(&t);
    qn_setup_free(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_comments), cmocka_unit_test(test_marked_duplicates),
        cmocka_unit_test(test_depth),    cmocka_unit_test(test_size),
        cmocka_unit_test(test_integers), cmocka_unit_test(test_doubles_survive),
        cmocka_unit_test(test_locale),   cmocka_unit_test(test_positions),
        cmocka_unit_test(test_damage),   cmocka_unit_test(test_indented),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
