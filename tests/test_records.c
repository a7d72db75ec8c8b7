/* test_records.c — records of every format: what is read, where errors stand, and that reading goes
 * on behind them. */
#include "io/records.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Everything a text gives, in one line: {"a":"1"}@line, and !message for errors. */
static void read_all(const char *name, const char *text, qn_record_format f, char *out,
                     size_t size) {
    qn_records *r;
    size_t n = strlen(text);
    char *copy = malloc(n ? n : 1); /* a sanitizer sees reads behind it */
    memcpy(copy, text, n);
    *out = '\0';
    qn_status s = qn_records_open(name, copy, (int64_t)n, f, &r);
    if (s != QN_OK) {
        snprintf(out, size, "!%s", qn_error_message());
        free(copy);
        return;
    }
    for (int i = 0; i < 50; i++) {
        const cJSON *record;
        int64_t line;
        s = qn_records_next(r, &record, &line);
        size_t used = strlen(out);
        if (s == QN_OK && !record) break;
        if (s != QN_OK) {
            snprintf(out + used, size - used, "!%s|", qn_error_message());
            continue;
        }
        qn_text t = {0};
        char *json;
        qn_json_write(&t, record, -1);
        qn_assert_ok(qn_text_take(&t, &json));
        snprintf(out + used, size - used, "%s@%d|", json, (int)line);
        qn_free(json);
    }
    qn_records_free(r);
    free(copy);
}

typedef struct reading {
    const char *name, *text, *want;
    qn_record_format format;
} reading;

static void check(const reading *c, int n) {
    char got[4096];
    for (int i = 0; i < n; i++) {
        read_all(c[i].name, c[i].text, c[i].format, got, sizeof got);
        assert_string_equal(got, c[i].want);
    }
}

static void test_json(void **state) {
    (void)state;
    static const reading cases[] = {
        {"a.json", "[{\"a\": 1},\n {\"b\": \"]},{\"}\n]\n", "{\"a\": 1}@1|{\"b\": \"]},{\"}@2|", 0},
        {"a.json", "\xef\xbb\xbf [\n]", "", 0},
        {"a.jsonl", "[{\"a\": 1}]", "{\"a\": 1}@1|", 0}, /* an array called .jsonl */
        {"a.json", "{\"a\": 1}\r\n\r\n{\"a\": 2}", "{\"a\": 1}@1|{\"a\": 2}@3|", 0},
        {"a.json", "[{\"a\": 1},\n{\"a\" 2},\n{\"a\": 3}]",
         "{\"a\": 1}@1|!a.json:2:6: found `2`, expected `:` after the key|{\"a\": 3}@3|", 0},
        {"a.json", "[{\"a\": 1}, 7]", "{\"a\": 1}@1|!a.json:1:12: found no object, expected {...}|",
         0},
        {"a.json", "[{\"a\": 1} {}]",
         "{\"a\": 1}@1|!a.json:1:11: expected ',' or ']' behind a record|", 0},
        {"a.json", "[{\"a\": 1}",
         "{\"a\": 1}@1|!a.json:1:10: the file ends inside the array, "
         "expected ']'|",
         0},
        {"a.json", "[{\"a\": 1}] x", "{\"a\": 1}@1|!a.json:1:12: found text behind the array|", 0},
        {"a.json", " \n", "!a.json: found an empty file, expected records", 0},
        {"a.json", "{}", "!a.json: expected an array of objects: '[' first", QN_RECORDS_JSON},
    };
    check(cases, (int)(sizeof cases / sizeof *cases));
}

static void test_broken_line(void **state) {
    (void)state;
    char got[1024];
    read_all("d.jsonl", "{\"a\": 1}\n{\"a\":\n{\"a\": 3}\n", QN_RECORDS_AUTO, got, sizeof got);
    assert_non_null(strstr(got, "!d.jsonl:2:"));
    assert_non_null(strstr(got, "{\"a\": 3}@3|")); /* the next line is read all the same */
}

static void test_tables(void **state) {
    (void)state;
    static const reading cases[] = {
        {"t.csv", "text,label\nhi,1\n\"a, \"\"b\"\"\nc\",2\r\n\r\nend,3",
         "{\"text\": \"hi\", \"label\": \"1\"}@2|{\"text\": \"a, \\\"b\\\"\\nc\", \"label\": "
         "\"2\"}@3|"
         "{\"text\": \"end\", \"label\": \"3\"}@6|",
         0},
        {"t.csv.gz", "a,b\n,\n", "{\"a\": \"\", \"b\": \"\"}@2|", 0},
        {"t.csv", "a,b\n1\n2,3\n",
         "!t.csv:2:1: found 1 fields, expected 2 as in the first row|"
         "{\"a\": \"2\", \"b\": \"3\"}@3|",
         0},
        {"t.csv", "a,b\nx\"y,1\n2,3\n",
         "!t.csv:2:2: found a quote inside a field that does not begin with one|"
         "{\"a\": \"2\", \"b\": \"3\"}@3|",
         0},
        {"t.csv", "a,b\n\"x\" ,1\n",
         "!t.csv:2:4: found text behind a closing quote, expected ',' or a line end|", 0},
        {"t.csv", "a,b\n\"x,1\n", "!t.csv:2:1: found a quoted field without its closing quote|", 0},
        {"t.csv", "a,a\n", "!t.csv:1:1: found two columns called \"a\"", 0},
        {"t.csv", "a\n\xff\n", "!t.csv:2:1: found text that is not UTF-8|", 0},
        {"t.tsv", "a\tb\n\"x\"\ty, z\n", "{\"a\": \"\\\"x\\\"\", \"b\": \"y, z\"}@2|", 0},
        {"t.txt", "1 good\n\n0\tbad one\n",
         "{\"label\": \"1\", \"text\": \"good\"}@1|"
         "{\"label\": \"0\", \"text\": \"bad one\"}@3|",
         QN_RECORDS_LABELS},
        {"t.txt", "word\n", "!t.txt:1:1: found no space, expected a label, a space and a text|",
         QN_RECORDS_LABELS},
        {"t.txt", "one\r\ntwo", "{\"text\": \"one\"}@1|{\"text\": \"two\"}@2|", 0},
    };
    check(cases, (int)(sizeof cases / sizeof *cases));
}

static void test_places(void **state) {
    (void)state;
    const char *text = "[{\"a\": 1},\n\n {\"b\":\n  [true]}]";
    qn_records *r;
    const cJSON *record;
    qn_assert_ok(qn_records_open("p.json", text, (int64_t)strlen(text), QN_RECORDS_AUTO, &r));
    qn_assert_ok(qn_records_next(r, &record, NULL));
    qn_assert_ok(qn_records_next(r, &record, NULL));
    const cJSON *part = cJSON_GetArrayItem(qn_json_get(record, "b"), 0);
    assert_int_equal(qn_records_fail(r, part, "found %s", "true"), QN_ERR_DATA);
    assert_string_equal(qn_error_message(), "p.json:4:4: found true");
    assert_int_equal(qn_records_fail(r, NULL, "bad"), QN_ERR_DATA);
    assert_string_equal(qn_error_message(), "p.json:3:2: bad");
    qn_records_free(r);
}

static void test_formats(void **state) {
    (void)state;
    for (int i = 0; i < QN_RECORDS_FORMATS; i++) {
        qn_record_format f;
        assert_true(qn_record_format_parse(qn_record_format_name((qn_record_format)i), &f));
        assert_int_equal(f, i);
    }
    qn_record_format f;
    assert_false(qn_record_format_parse("xml", &f));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),    cmocka_unit_test(test_broken_line),
        cmocka_unit_test(test_tables),  cmocka_unit_test(test_places),
        cmocka_unit_test(test_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
