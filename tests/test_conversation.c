/* test_conversation.c — conversations: prompts of a template that a tokenizer carries, what ends an
 * answer, and what is forgotten when the context is full. */
#include "io/conversation.h"
#include "io/file.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEMPLATE                                                                                   \
    "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% if m.role == 'assistant' %}"        \
    "{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"

/* A SentencePiece model with a byte fallback, alone or with a configuration; the directory is gone
 * when the tokenizer is there. */
static qn_tokenizer *open_tokenizer(const char *config) {
    static const char source[] = QUERN_SOURCE_DIR "/tests/golden/tokenizer_models/bpe_bytes.model";
    char d[] = "/tmp/quern-conversation-XXXXXX", model[64], other[64], *bytes;
    int64_t size;
    qn_tokenizer *t = NULL;
    assert_non_null(mkdtemp(d));
    snprintf(model, sizeof model, "%s/tokenizer.model", d);
    snprintf(other, sizeof other, "%s/tokenizer_config.json", d);
    qn_assert_ok(qn_file_read(source, 1 << 20, &bytes, &size));
    qn_assert_ok(qn_file_create(model, bytes, (size_t)size));
    if (config) qn_assert_ok(qn_file_create(other, config, strlen(config)));
    qn_assert_ok(qn_tokenizer_open(d, &t));
    unlink(model);
    unlink(other);
    rmdir(d);
    qn_free(bytes);
    return t;
}

static void say(qn_conversation *v, const char *role, const char *text) {
    qn_assert_ok(qn_conversation_say(v, role, text));
}

static void assert_prompt(qn_conversation *v, const qn_chat *c, int64_t most, const char *want) {
    const qn_encode_options o = {.parse_special = true};
    qn_ids got = {0}, expected = {0};
    qn_assert_ok(qn_conversation_prompt(v, c, most, &got));
    qn_assert_ok(qn_tokenizer_encode(c->tokenizer, want, (int64_t)strlen(want), &o, &expected));
    assert_int_equal(got.n, expected.n);
    assert_memory_equal(got.id, expected.id, (size_t)got.n * sizeof *got.id);
    qn_ids_free(&got);
    qn_ids_free(&expected);
}

static void test_kept_template(void **state) {
    (void)state;
    qn_tokenizer *t =
        open_tokenizer("{\"eos_token\": \"</s>\", \"chat_template\": \"" TEMPLATE "\"}");
    qn_chat c;
    qn_conversation v = {0};
    qn_generation_options o = {0};
    qn_assert_ok(qn_chat_open(NULL, NULL, t, &c));
    assert_string_equal(c.end, "</s>");
    qn_assert_ok(qn_chat_stops(&c, &o));
    assert_int_equal(o.n_stop, 0);
    assert_int_equal(o.n_eos, 1);
    assert_int_equal(o.eos[0], qn_tokenizer_id(t, "</s>", 4));
    say(&v, "system", "\"s\"\n");
    say(&v, "user", "a");
    assert_prompt(&v, &c, INT64_MAX, "[s]\"s\"\n[u]a[a]");
    say(&v, "assistant", "b");
    say(&v, "user", "c");
    assert_prompt(&v, &c, INT64_MAX, "[s]\"s\"\n[u]a[a]b</s>[u]c[a]");
    qn_conversation_take_back(&v);
    qn_ids ids = {0};
    assert_int_equal(qn_conversation_prompt(&v, &c, INT64_MAX, &ids), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "the last one is an answer"));
    qn_ids_free(&ids);
    assert_int_equal(qn_conversation_say(&v, "user", "\xff"), QN_ERR_DATA);
    assert_int_equal(v.n, 3);
    qn_conversation_free(&v);
    qn_chat_close(&c);
    qn_tokenizer_free(t);
}

static void test_forgetting(void **state) {
    (void)state;
    qn_tokenizer *t = open_tokenizer(NULL);
    qn_chat c;
    qn_ids all = {0};
    qn_assert_ok(qn_chat_open("chatml", NULL, t, &c));
    for (int system = 0; system < 2; system++) {
        qn_conversation v = {0};
        if (system) say(&v, "system", "s");
        for (int i = 0; i < 7; i++)
            say(&v, i % 2 ? "assistant" : "user", (char[]){'0' + (char)i, 0});
        qn_assert_ok(qn_conversation_prompt(&v, &c, INT64_MAX, &all));
        int64_t whole = all.n;
        qn_assert_ok(qn_conversation_prompt(&v, &c, whole, &all));
        assert_int_equal(v.forgotten, 0);
        qn_assert_ok(qn_conversation_prompt(&v, &c, whole - 1, &all));
        assert_int_equal(v.forgotten, 2);
        assert_true(all.n < whole);
        assert_prompt(&v, &c, 1, /* the last question stays, whatever the room */
                      system ? "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\n6<|im_end|>\n"
                               "<|im_start|>assistant\n"
                             : "<|im_start|>user\n6<|im_end|>\n<|im_start|>assistant\n");
        assert_int_equal(v.forgotten, 6);
        qn_conversation_free(&v);
    }
    qn_ids_free(&all);
    qn_chat_close(&c);
    qn_tokenizer_free(t);
}

/* Without special tokens of its own a tokenizer leaves a built-in template those of its family; an
 * end that is no special token is a text. */
static void test_ends(void **state) {
    (void)state;
    qn_tokenizer *t = open_tokenizer(NULL);
    qn_chat c;
    qn_generation_options o = {0};
    qn_assert_ok(qn_chat_open("chatml", NULL, t, &c));
    qn_assert_ok(qn_chat_stops(&c, &o));
    assert_int_equal(o.n_eos, 0);
    assert_int_equal(o.n_stop, 1);
    assert_string_equal(o.stop[0], "<|im_end|>");
    qn_chat_close(&c);
    qn_assert_ok(qn_chat_open("llama2", NULL, t, &c));
    o = (qn_generation_options){0};
    qn_assert_ok(qn_chat_stops(&c, &o));
    assert_int_equal(o.n_eos, 1);
    assert_int_equal(o.eos[0], qn_tokenizer_id(t, "</s>", 4));
    qn_chat_close(&c);
    assert_int_equal(qn_chat_open(NULL, NULL, t, &c), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "tokenizer: no chat template"));
    qn_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept_template),
        cmocka_unit_test(test_forgetting),
        cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
