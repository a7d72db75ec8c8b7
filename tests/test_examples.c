/* test_examples.c — records of the usual layouts as examples; what is refused and where. */
#include "io/examples.h"
#include "tests/harness.h"

#include <stdio.h>
#include <string.h>

/* The first record as one line: messages as JSON with the training flags, or the texts. */
static void read_one(const char *text, qn_example_format f, const qn_example_keys *keys, char *out,
                     size_t size) {
    qn_records *r;
    const cJSON *record;
    qn_setup *arena;
    qn_example e = {0};
    qn_assert_ok(qn_setup_create("an example", &arena));
    qn_assert_ok(qn_records_open("e.json", text, (int64_t)strlen(text), QN_RECORDS_AUTO, &r));
    qn_assert_ok(qn_records_next(r, &record, NULL));
    qn_status s = f == QN_EXAMPLES_AUTO ? qn_example_detect(r, record, keys, &f) : QN_OK;
    if (s == QN_OK) s = qn_example_read(r, record, f, keys, arena, &e);
    qn_records_free(r); /* an example does not need its record */
    qn_text t = {0};
    if (s != QN_OK) {
        qn_text_printf(&t, "!%s", qn_error_message());
    } else if (e.messages) {
        for (int i = 0; i < e.n_messages; i++) qn_text_printf(&t, "%d", (int)e.train[i]);
        qn_text_add(&t, " ");
        qn_json_write(&t, e.messages, -1);
        if (e.tools) qn_text_add(&t, " tools ");
        if (e.tools) qn_json_write(&t, e.tools, -1);
    } else {
        qn_text_printf(&t, "%s|%s|%s|%s", e.prompt ? e.prompt : "-", e.text,
                       e.text_pair ? e.text_pair : "-", e.label ? e.label : "-");
    }
    snprintf(out, size, "%s", t.data);
    qn_text_free(&t);
    qn_setup_free(arena);
}

typedef struct reading {
    const char *text, *want;
} reading;

static void check(const reading *c, int n) {
    char got[2048];
    const qn_example_keys keys = {0};
    for (int i = 0; i < n; i++) {
        read_one(c[i].text, QN_EXAMPLES_AUTO, &keys, got, sizeof got);
        assert_string_equal(got, c[i].want);
    }
}
#define CHECK(cases) check(cases, (int)(sizeof(cases) / sizeof *(cases)))

static void test_alpaca(void **state) {
    (void)state;
    static const reading cases[] = {
        {"{\"instruction\": \"Add\", \"input\": \"\", \"output\": \"3\"}",
         "00 [{\"role\": \"user\", \"content\": \"Add\"}, {\"role\": \"assistant\", \"content\": "
         "\"3\"}]"},
        {"{\"instruction\": \"Add\", \"input\": \"1 2\", \"output\": \"3\", \"system\": \"Be.\", "
         "\"history\": [[\"a\", \"b\"]]}",
         "00000 [{\"role\": \"system\", \"content\": \"Be.\"}, {\"role\": \"user\", \"content\": "
         "\"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}, {\"role\": \"user\", \"content\": "
         "\"Add\\n1 2\", \"instruction\": \"Add\", \"input\": \"1 2\"}, {\"role\": \"assistant\", "
         "\"content\": \"3\"}]"},
        {"{\"instruction\": 4, \"output\": \"\"}",
         "!e.json:1:17: \"instruction\": found a number, expected a string"},
        {"{\"instruction\": \"a\", \"output\": null}",
         "!e.json:1:1: \"output\": found nothing, expected a string"},
        {"{\"instruction\": \"a\", \"output\": \"b\", \"history\": [[\"x\"]]}",
         "!e.json:1:49: \"history\": expected pairs of strings [user, assistant]"},
    };
    CHECK(cases);
}

static void test_conversations(void **state) {
    (void)state;
    static const reading cases[] = {
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
         "\"a\"}, {\"type\": \"text\", \"text\": \"b\"}]}, {\"role\": \"assistant\", \"content\": "
         "\"c\", \"weight\": 0}, {\"role\": \"assistant\", \"content\": \"d\", \"train\": true, "
         "\"name\": \"x\"}]}",
         "012 [{\"role\": \"user\", \"content\": \"ab\"}, {\"role\": \"assistant\", \"content\": "
         "\"c\"}, {\"role\": \"assistant\", \"content\": \"d\", \"name\": \"x\"}]"},
        {"{\"conversations\": [{\"from\": \"human\", \"value\": \"q\"}, {\"from\": "
         "\"function_call\", \"value\": \"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": {\\\"n\\\": "
         "12345678901234567}}\"}, {\"from\": \"observation\", \"value\": \"7\"}, {\"from\": "
         "\"gpt\", \"value\": \"a\"}], \"tools\": \"[{\\\"name\\\": \\\"f\\\"}]\"}",
         "0000 [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": "
         "\"\", \"tool_calls\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", "
         "\"arguments\": {\"n\": 12345678901234567}}}]}, {\"role\": \"tool\", \"content\": \"7\"}, "
         "{\"role\": \"assistant\", \"content\": \"a\"}] tools [{\"name\": \"f\"}]"},
        {"{\"conversations\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": "
         "\"assistant\", \"content\": \"a\"}]}", /* one name, the other layout */
         "00 [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": "
         "\"a\"}]"},
        {"{\"messages\": []}", "!e.json:1:14: \"messages\": found no messages"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}",
         "!e.json:1:14: \"messages\": found no answer of the assistant to learn"},
        {"{\"messages\": [{\"role\": \"cat\", \"content\": \"a\"}]}",
         "!e.json:1:24: \"role\": found \"cat\", expected system, user, assistant, tool, human, "
         "gpt, observation or function_call"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]}",
         "!e.json:1:44: \"content\": found a part that is not {\"type\": \"text\", \"text\": ...}"},
        {"{\"messages\": [{\"role\": \"user\"}]}",
         "!e.json:1:15: \"content\": found nothing, expected a string"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\", \"weight\": 0.5}]}",
         "!e.json:1:58: \"weight\": expected 0 or 1"},
        {"{\"conversations\": [{\"from\": \"function_call\", \"value\": \"f(x)\"}]}",
         "!e.json:1:20: found a call that is not JSON: function_call:1:1: found `f`, expected "
         "a value"},
    };
    CHECK(cases);
}

static void test_texts(void **state) {
    (void)state;
    static const reading cases[] = {
        {"{\"prompt\": \"p\", \"completion\": \"c\"}", "p|c|-|-"},
        {"{\"prompt\": \"p\", \"completion\": \"\"}",
         "!e.json:1:31: \"completion\": found \"\", nothing to learn"},
        {"{\"prompt\": [{\"role\": \"user\", \"content\": \"q\"}], \"completion\": [{\"role\": "
         "\"assistant\", \"content\": \"a\"}]}",
         "10 [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": "
         "\"a\"}]"},
        {"{\"text\": \"t\"}", "-|t|-|-"},
        {"{\"text\": \"t\", \"label\": 3}", "-|t|-|3"},
        {"{\"text\": \"t\", \"text_pair\": \"u\", \"label\": \"good\"}", "-|t|u|good"},
        {"{\"text\": \"t\", \"label\": 0.25}", "-|t|-|0.25"},
        {"{\"text\": \"t\", \"label\": []}", "-|t|-|"},
        {"{\"text\": \"t\", \"label\": [\"a\", 2, true]}", "-|t|-|a\n2\n1"},
        {"{\"text\": \"t\", \"label\": [\"a\", {}]}",
         "!e.json:1:30: \"label\": found an object, expected a string or a number"},
        {"{\"text\": [\"New\", \"York\"], \"label\": [\"B\", \"I\"]}", "-|New York|-|B\nI"},
        {"{\"text\": [\"New\", \"York\"], \"label\": [\"B\"]}",
         "!e.json:1:36: \"label\": found 1, expected one for each of 2 words"},
        {"{\"text\": [\"New York\"], \"label\": [\"B\"]}",
         "!e.json:1:11: \"text\": expected words without white space"},
        {"{\"text\": [], \"label\": []}", "!e.json:1:10: \"text\": found no words"},
        {"{\"text\": \"t\", \"label\": {}}",
         "!e.json:1:24: \"label\": found an object, expected a string or a number"},
        {"{\"q\": 1, \"a\": 2}",
         "!e.json:1:1: found a record with the keys \"q\", \"a\", expected messages; "
         "conversations; "
         "instruction and output; prompt and completion; text and label; or text (other names: "
         "data.columns)"},
    };
    CHECK(cases);
}

static void test_columns(void **state) {
    (void)state;
    char got[512];
    const qn_example_keys keys = {.prompt = "question", .completion = "answer"};
    read_one("{\"question\": \"q\", \"answer\": \"a\"}", QN_EXAMPLES_AUTO, &keys, got, sizeof got);
    assert_string_equal(got, "q|a|-|-");
    const qn_example_keys sentence = {.text = "sentence"};
    read_one("{\"sentence\": \"q\", \"label\": true}", QN_EXAMPLES_AUTO, &sentence, got,
             sizeof got);
    assert_string_equal(got, "-|q|-|1");
}

static void test_formats(void **state) {
    (void)state;
    for (int i = 0; i < QN_EXAMPLES_FORMATS; i++) {
        qn_example_format f;
        assert_true(qn_example_format_parse(qn_example_format_name((qn_example_format)i), &f));
        assert_int_equal(f, i);
    }
    qn_example_format f;
    assert_false(qn_example_format_parse("dpo", &f));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alpaca),  cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_texts),   cmocka_unit_test(test_columns),
        cmocka_unit_test(test_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
