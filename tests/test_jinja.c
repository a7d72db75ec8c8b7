/* test_jinja.c — the template engine against jinja2's own output, its errors, its bounds.
 *
 * tests/golden/make_jinja.py writes the golden cases with jinja2, and compares many more: it runs
 * `test_jinja --render`, which answers one JSON object a line on stdin with one on stdout, and
 * `test_jinja --built-ins`.
 */
#include "io/chat_template.h"
#include "io/file.h"
#include "io/jinja.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GOLDEN_BYTES = 8 << 20, MAX_VARIABLES = 32, NOON = 1721995200 /* 2024-07-26 12:00 UTC */ };

/* Compiles and renders the case {"template", "variables"}. */
static qn_status render(const cJSON *c, char **text, size_t *bytes, qn_jinja_spans *spans) {
    const char *source = qn_json_get(c, "template")->valuestring;
    const cJSON *given = qn_json_get(c, "variables");
    qn_jinja_variable variables[MAX_VARIABLES];
    const qn_jinja_options o = {.now = NOON};
    qn_jinja *t;
    int n = 0;
    for (const cJSON *v = given ? given->child : NULL; v && n < MAX_VARIABLES; v = v->next) {
        variables[n++] = (qn_jinja_variable){v->string, v};
    }
    QN_TRY(qn_jinja_compile("template", source, strlen(source), &t));
    qn_status status = qn_jinja_render(t, variables, n, &o, text, bytes, spans);
    qn_jinja_free(t);
    return status;
}

/* ---- against jinja2 -------------------------------------------------------------------------- */

static void check_spans(const cJSON *c, const qn_jinja_spans *spans) {
    const cJSON *expected = qn_json_get(c, "generated");
    if (!expected) return;
    assert_int_equal(spans->count, cJSON_GetArraySize(expected));
    for (int i = 0; i < spans->count; i++) {
        const cJSON *pair = cJSON_GetArrayItem(expected, i);
        assert_int_equal(spans->items[i].begin, cJSON_GetArrayItem(pair, 0)->valueint);
        assert_int_equal(spans->items[i].end, cJSON_GetArrayItem(pair, 1)->valueint);
    }
}

static void test_golden(void **state) {
    (void)state;
    qn_setup *arena;
    cJSON *root;
    char *json;
    int64_t bytes;
    const qn_json_options o = {.name = "jinja.json", .max_bytes = GOLDEN_BYTES};
    int n = 0, refused = 0;
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    if (qn_file_read(QUERN_SOURCE_DIR "/tests/golden/jinja.json", GOLDEN_BYTES, &json, &bytes) ||
        qn_json_parse(arena, json, (size_t)bytes, &o, &root)) {
        fail_msg("%s", qn_error_message());
    }
    for (const cJSON *c = root->child; c; c = c->next, n++) {
        const cJSON *expected = qn_json_get(c, "text");
        qn_jinja_spans spans = {0};
        char *text = NULL;
        size_t length = 0;
        qn_status status = render(c, &text, &length, qn_json_get(c, "generated") ? &spans : NULL);
        if (expected && status != QN_OK) {
            fail_msg("%s\n%s", qn_json_get(c, "template")->valuestring, qn_error_message());
        }
        if (expected) {
            assert_string_equal(text, expected->valuestring);
            assert_int_equal(length, strlen(expected->valuestring));
            check_spans(c, &spans);
        } else {
            if (status == QN_OK) {
                fail_msg("%s\nrendered \"%s\"", qn_json_get(c, "template")->valuestring, text);
            }
            assert_true(status == QN_ERR_DATA || status == QN_ERR_FORMAT);
            assert_null(text);
            refused++;
        }
        qn_free(spans.items);
        qn_free(text);
    }
    print_message("%d templates, %d of them errors in both\n", n, refused);
    assert_true(n > 300 && refused > 30);
    qn_free(json);
    qn_setup_free(arena);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static const struct {
    const char *text, *message;
} bad[] = {
    {"{{ x", "t:1:1: a tag that does not end"},
    {"a\n  {% if x %}b", "t:2:14: found the end of the template, expected endif"},
    {"\xC3\xA9{{ 1 + }}", "t:1:9: found \"}}\", expected an operand"},
    {"{% frob %}", "t:1:4: found \"frob\", expected a statement"},
    {"{{ x|frob }}", "t:1:6: there is no filter 'frob'"},
    {"{{ x is frob }}", "t:1:9: there is no test 'frob'"},
    {"{% break %}", "t:1:4: break outside a loop"},
    {"{# x", "t:1:1: a comment that does not end"},
    {"{% raw %}x", "t:1:1: raw without endraw"},
    {"{{ 'x }}", "t:1:4: a string that does not end"},
    {"{{ (1] }}", "t:1:6: found ']', expected ')'"},
    {"{{ 99999999999999999999 }}", "t:1:4: an integer beyond 64 bits"},
    {"{% for x in y recursive %}{% endfor %}", "t:1:15: recursive loops are not supported"},
    {"{{ x.y }}", "t:1:6: 'x' is undefined"},
    {"\n{{ {}.y.z }}", "t:2:9: a dict has no 'y'"},
    {"{{ x.startswith('a') }}", "t:1:6: 'x' is undefined"},
    {"{{ 'a' + 1 }}", "t:1:8: '+' between a string and an integer"},
    {"{{ 'a' + x }}", "t:1:8: 'x' is undefined"},
    {"{{ [].append(1) }}", "t:1:7: a template cannot change a list"},
    {"{{ raise_exception('Roles must alternate') }}", "t:1:4: Roles must alternate"},
    {"{{ 'a'.strip(1, 2) }}", "t:1:8: 'strip' got too many arguments"},
    {"{{ 'a'.strip(x=1) }}", "t:1:8: 'strip' takes no argument 'x'"},
    {"{{ 1 // 0 }}", "t:1:6: division by zero"},
};

static void test_errors(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qn_jinja *t = NULL;
        char *text = NULL;
        size_t bytes;
        qn_error_clear();
        qn_status status = qn_jinja_compile("t", bad[i].text, strlen(bad[i].text), &t);
        if (status == QN_OK) {
            status = qn_jinja_render(t, NULL, 0, NULL, &text, &bytes, NULL);
            assert_int_equal(status, QN_ERR_DATA);
        } else {
            assert_int_equal(status, QN_ERR_FORMAT);
        }
        assert_string_equal(qn_error_message(), bad[i].message);
        qn_jinja_free(t);
    }
}

/* ---- bounds ---------------------------------------------------------------------------------- */

static void expect_refused(const char *source, const qn_jinja_options *o, const char *message) {
    qn_jinja *t = NULL;
    char *text = NULL;
    size_t bytes;
    qn_status status = qn_jinja_compile("t", source, strlen(source), &t);
    if (status == QN_OK) status = qn_jinja_render(t, NULL, 0, o, &text, &bytes, NULL);
    if (status == QN_OK) fail_msg("%s was rendered", source);
    if (!strstr(qn_error_message(), message)) fail_msg("%s: %s", source, qn_error_message());
    qn_jinja_free(t);
}

static char *nested(const char *open, const char *inside, const char *close, int n) {
    qn_text t = {0};
    char *text;
    qn_text_add(&t, "{{ ");
    for (int i = 0; i < n; i++) qn_text_add(&t, open);
    qn_text_add(&t, inside);
    for (int i = 0; i < n; i++) qn_text_add(&t, close);
    qn_text_add(&t, " }}");
    assert_int_equal(qn_text_take(&t, &text), QN_OK);
    return text;
}

static void test_bounds(void **state) {
    (void)state;
    const qn_jinja_options few_steps = {.max_steps = 1000}, short_output = {.max_output = 10},
                           small = {.max_memory = 1 << 16};
    expect_refused(
        "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}", NULL,
        "too many steps");
    expect_refused("{% for a in range(1000) %}x{% endfor %}", &few_steps, "too many steps");
    expect_refused("{{ 'x' * 11 }}", &short_output, "writes too much");
    expect_refused("{{ 'x' * 1000000000000 }}", NULL, "too much memory");
    expect_refused("{{ [0] * 1000000000000 }}", NULL, "too much memory");
    expect_refused("{% set ns = namespace(s='x') %}{% for i in range(100) %}"
                   "{% set ns.s = ns.s + ns.s %}{% endfor %}",
                   &small, "too much memory");
    expect_refused("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", NULL, "nested deeper");
    expect_refused("{% set ns = namespace(l=[]) %}{% for i in range(200) %}"
                   "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
                   NULL, "nested too deep");
    expect_refused("{% set ns = namespace(a=[], b=[]) %}{% for i in range(60) %}"
                   "{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}"
                   "{{ ns.a == ns.b }}{{ ns.a }}",
                   NULL, "too many steps");
    static const struct {
        const char *open, *inside, *close;
    } deep[] = {{"(", "1", ")"}, {"[", "1", "]"}, {"not ", "1", ""}, {"-", "1", ""},
                {"", "1", "+1"}, {"", "x", ".x"}, {"", "1", "|abs"}, {"1 if 1 else ", "1", ""}};
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        char *source = nested(deep[i].open, deep[i].inside, deep[i].close, 20000);
        expect_refused(source, NULL, "");
        qn_free(source);
    }
}

static void test_text(void **state) {
    (void)state;
    qn_jinja *t = NULL;
    assert_int_equal(qn_jinja_compile("t", "a\0b", 3, &t), QN_ERR_FORMAT);
    assert_int_equal(qn_jinja_compile("t", "\xFF", 1, &t), QN_ERR_FORMAT);
    char *large = calloc(1, QN_JINJA_MAX_BYTES + 1);
    assert_non_null(large);
    memset(large, 'x', QN_JINJA_MAX_BYTES + 1);
    assert_int_equal(qn_jinja_compile("t", large, QN_JINJA_MAX_BYTES + 1, &t), QN_ERR_FORMAT);
    assert_int_equal(qn_jinja_compile("t", large, QN_JINJA_MAX_BYTES, &t), QN_OK);
    qn_jinja_free(t);
    free(large);
    qn_jinja_free(NULL);
}

/* ---- a service for make_jinja.py ------------------------------------------------------------- */

static int serve(void) {
    char *line = NULL;
    size_t capacity = 0;
    for (ssize_t n; (n = getline(&line, &capacity, stdin)) > 0;) {
        const qn_json_options o = {.max_bytes = GOLDEN_BYTES};
        qn_setup *arena;
        qn_jinja_spans spans = {0};
        cJSON *c;
        char *text = NULL, *answer;
        size_t bytes;
        qn_text t = {0};
        if (qn_setup_create("serve", &arena) != QN_OK) return 1;
        if (qn_json_parse(arena, line, (size_t)n, &o, &c) != QN_OK) return 1;
        qn_status status = render(c, &text, &bytes, qn_json_get(c, "spans") ? &spans : NULL);
        qn_text_add(&t, status == QN_OK ? "{\"text\": \"" : "{\"error\": \"");
        const char *value = status == QN_OK ? text : qn_error_message();
        qn_text_json_chars(&t, value, status == QN_OK ? bytes : strlen(value));
        qn_text_add(&t, "\", \"generated\": [");
        for (int64_t i = 0; i < spans.count; i++) {
            qn_text_printf(&t, "%s[%zu, %zu]", i ? ", " : "", spans.items[i].begin,
                           spans.items[i].end);
        }
        qn_text_add(&t, "]}\n");
        if (qn_text_take(&t, &answer) != QN_OK) return 1;
        fputs(answer, stdout);
        qn_free(answer);
        qn_free(text);
        qn_free(spans.items);
        qn_setup_free(arena);
    }
    free(line);
    return 0;
}

/* The built-in chat templates as one JSON object. */
static int show_builtins(void) {
    qn_text t = {0};
    char *text;
    for (int i = 0; qn_chat_builtin_name(i); i++) {
        qn_text_add(&t, i ? ", " : "{");
        qn_text_json_string(&t, qn_chat_builtin_name(i));
        qn_text_add(&t, ": ");
        qn_text_json_string(&t, qn_chat_builtin_text(i));
    }
    qn_text_add(&t, "}\n");
    if (qn_text_take(&t, &text) != QN_OK) return 1;
    fputs(text, stdout);
    qn_free(text);
    return 0;
}

int main(int argc, char **argv) {
    setenv("TZ", "UTC", 1);
    tzset();
    if (argc == 2 && strcmp(argv[1], "--render") == 0) return serve();
    if (argc == 2 && strcmp(argv[1], "--built-ins") == 0) return show_builtins();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
