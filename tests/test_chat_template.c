/* test_chat_template.c — built-in chat templates, a model's own, and whose text is whose. */
#include "io/chat_template.h"
#include "io/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static cJSON *parse(qn_setup *arena, const char *json) {
    cJSON *root = NULL;
    const qn_json_options o = {.name = "messages"};
    if (qn_json_parse(arena, json, strlen(json), &o, &root) != QN_OK) {
        fail_msg("%s: %s", json, qn_error_message());
    }
    return root;
}

/* The parts of a text, each in brackets. */
static char *bracketed(const qn_chat_text *t) {
    qn_text out = {0};
    char *text;
    size_t at = 0;
    for (int64_t i = 0; i < t->n_parts; i++) {
        assert_true(t->parts[i].begin >= at && t->parts[i].end >= t->parts[i].begin);
        assert_true(t->parts[i].end <= t->bytes);
        qn_text_add_bytes(&out, t->text + at, t->parts[i].begin - at);
        qn_text_printf(&out, "[%d:", (int)t->parts[i].message);
        qn_text_add_bytes(&out, t->text + t->parts[i].begin, t->parts[i].end - t->parts[i].begin);
        qn_text_add(&out, "]");
        at = t->parts[i].end;
    }
    qn_text_add(&out, t->text + at);
    assert_int_equal(qn_text_take(&out, &text), QN_OK);
    return text;
}

static void expect(const qn_chat_template *t, const char *messages, const qn_chat_options *o,
                   const char *expected) {
    qn_setup *arena;
    qn_chat_text text;
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    if (qn_chat_render(t, parse(arena, messages), o, &text) != QN_OK) {
        fail_msg("%s", qn_error_message());
    }
    assert_int_equal(strlen(text.text), text.bytes);
    char *shown = bracketed(&text);
    assert_string_equal(shown, expected);
    qn_free(shown);
    qn_chat_text_free(&text);
    qn_setup_free(arena);
}

static void expect_error(const qn_chat_template *t, const char *messages, const qn_chat_options *o,
                         const char *part_of_message) {
    qn_setup *arena;
    qn_chat_text text;
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    assert_int_equal(qn_chat_render(t, parse(arena, messages), o, &text), QN_ERR_DATA);
    if (!strstr(qn_error_message(), part_of_message)) fail_msg("%s", qn_error_message());
    assert_null(text.text);
    assert_null(text.parts);
    qn_setup_free(arena);
}

/* ---- built-in templates ---------------------------------------------------------------------- */

#define SYSTEM    "{\"role\": \"system\", \"content\": \"S\"}"
#define USER      "{\"role\": \"user\", \"content\": \"q\"}"
#define ASSISTANT "{\"role\": \"assistant\", \"content\": \"a\"}"

/* What each family is known to write; the assistant's parts in brackets. */
static const struct {
    const char *name, *with_system, *prompt, *end_of_turn;
} builtins[] = {
    {"chatml",
     "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
     "<|im_start|>assistant\n[2:a<|im_end|>]\n<|im_start|>user\nq<|im_end|>\n"
     "<|im_start|>assistant\n[4:a<|im_end|>]\n",
     "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"},
    {"qwen2.5",
     "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
     "<|im_start|>assistant\n[2:a<|im_end|>]\n<|im_start|>user\nq<|im_end|>\n"
     "<|im_start|>assistant\n[4:a<|im_end|>]\n",
     "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
     "<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
     "<|im_end|>"},
    {"llama2",
     "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nq [/INST][2: a </s>]<s>[INST] q [/INST][4: a </s>]",
     "<s>[INST] q [/INST]", "</s>"},
    {"llama3",
     "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
     "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n[2:a<|eot_id|>]"
     "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n[4:a<|eot_id|>]",
     "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     "<|eot_id|>"},
    {"mistral", "<s> [INST] S\n\nq [/INST][2: a</s>] [INST] q [/INST][4: a</s>]",
     "<s> [INST] q [/INST]", "</s>"},
    {"gemma", NULL, "<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n",
     "<end_of_turn>"},
    {"phi3",
     "<|system|>\nS<|end|>\n<|user|>\nq<|end|>\n<|assistant|>\n[2:a<|end|>]\n"
     "<|user|>\nq<|end|>\n<|assistant|>\n[4:a<|end|>]\n",
     "<|user|>\nq<|end|>\n<|assistant|>\n", "<|end|>"},
    {"zephyr",
     "<|system|>\nS</s>\n<|user|>\nq</s>\n<|assistant|>\n[2:a</s>]\n"
     "<|user|>\nq</s>\n<|assistant|>\n[4:a</s>]\n",
     "<|user|>\nq</s>\n<|assistant|>\n", "</s>"},
    {"vicuna", "<s>S USER: q ASSISTANT:[2: a</s>]USER: q ASSISTANT:[4: a</s>]",
     "<s>A chat between a curious user and an artificial intelligence assistant. The assistant "
     "gives helpful, detailed, and polite answers to the user's questions. USER: q ASSISTANT:",
     "</s>"},
    {"alpaca",
     "S\n\n### Instruction:\nq\n\n### Response:[2:a</s>]\n\n"
     "### Instruction:\nq\n\n### Response:[4:a</s>]",
     "Below is an instruction that describes a task. Write a response that appropriately "
     "completes the request.\n\n### Instruction:\nq\n\n### Response:",
     "</s>"},
    {"deepseek",
     "<｜begin▁of▁sentence｜>S<｜User｜>q<｜Assistant｜>[2:a<｜end▁of▁sentence｜>]"
     "<｜User｜>q<｜Assistant｜>[4:a<｜end▁of▁sentence｜>]",
     "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜>", "<｜end▁of▁sentence｜>"},
};

static void test_builtins(void **state) {
    (void)state;
    const qn_chat_options parts = {.parts = QN_CHAT_ASSISTANT},
                          prompt = {.add_generation_prompt = true};
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++) {
        qn_chat_template *t;
        char *end;
        assert_string_equal(qn_chat_builtin_name((int)i), builtins[i].name);
        if (qn_chat_template_open(builtins[i].name, NULL, &t)) fail_msg("%s", qn_error_message());
        const char *all = "[" SYSTEM "," USER "," ASSISTANT "," USER "," ASSISTANT "]";
        if (builtins[i].with_system) {
            expect(t, all, &parts, builtins[i].with_system);
        } else {
            expect_error(t, all, &parts, "has no system role");
        }
        expect(t, "[" USER "]", &prompt, builtins[i].prompt);
        assert_int_equal(qn_chat_end_of_turn(t, &end), QN_OK);
        assert_string_equal(end, builtins[i].end_of_turn);
        qn_free(end);
        qn_chat_template_free(t);
    }
    assert_null(qn_chat_builtin_name(sizeof builtins / sizeof *builtins));
}

static void test_roles_alternate(void **state) {
    (void)state;
    static const char *const names[] = {"llama2", "mistral", "gemma", "vicuna", "alpaca"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        qn_chat_template *t;
        assert_int_equal(qn_chat_template_open(names[i], NULL, &t), QN_OK);
        expect_error(t, "[" USER "," USER "]", NULL, "roles must alternate");
        expect_error(t, "[" ASSISTANT "]", NULL, "found assistant");
        qn_chat_template_free(t);
    }
}

static void test_alpaca_input(void **state) {
    (void)state;
    qn_chat_template *t;
    assert_int_equal(qn_chat_template_open("alpaca", NULL, &t), QN_OK);
    expect(t, "[{\"role\": \"user\", \"content\": \"Add.\", \"input\": \"1, 2\"}]", NULL,
           "Below is an instruction that describes a task, paired with an input that provides "
           "further context. Write a response that appropriately completes the request.\n\n"
           "### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:");
    qn_chat_template_free(t);
}

/* ---- parts without generation blocks --------------------------------------------------------- */

static void with_template(const char *source, const char *messages, const qn_chat_options *o,
                          const char *expected, const char *error) {
    qn_chat_template *t;
    qn_setup *arena;
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    const cJSON *tokens = parse(arena, "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": "
                                       "\"</s>\", \"lstrip\": false}}");
    if (qn_chat_template_create("t", source, strlen(source), tokens, &t)) {
        fail_msg("%s", qn_error_message());
    }
    if (expected) expect(t, messages, o, expected);
    if (error) expect_error(t, messages, o, error);
    qn_chat_template_free(t);
    qn_setup_free(arena);
}

static const char plain_chatml[] =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/* Leaves the reasoning out of all but the last turn, as Qwen3's template does. */
static const char forgetful[] =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% if loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

static void test_parts(void **state) {
    (void)state;
    const qn_chat_options assistant = {.parts = QN_CHAT_ASSISTANT}, all = {.parts = QN_CHAT_ALL},
                          prompt = {.parts = QN_CHAT_ASSISTANT, .add_generation_prompt = true};
    const char *chat = "[" SYSTEM "," USER "," ASSISTANT "," USER "," ASSISTANT "]";
    with_template(plain_chatml, chat, &assistant,
                  "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>"
                  "assistant\n[2:a<|im_end|>]\n<|im_start|>user\nq<|im_end|>\n<|im_start|>"
                  "assistant\n[4:a<|im_end|>]\n",
                  NULL);
    with_template(plain_chatml, chat, &all,
                  "<|im_start|>system\n[0:S]<|im_end|>\n<|im_start|>user\n[1:q]<|im_end|>\n"
                  "<|im_start|>assistant\n[2:a<|im_end|>]\n<|im_start|>user\n[3:q]<|im_end|>\n"
                  "<|im_start|>assistant\n[4:a<|im_end|>]\n",
                  NULL);
    with_template(plain_chatml, "[" USER "," ASSISTANT "," USER "]", &prompt,
                  "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[1:a<|im_end|>]\n"
                  "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
                  NULL);
    /* A conversation that the assistant begins, and an empty answer. */
    with_template(plain_chatml, "[" ASSISTANT "," USER "]", &assistant,
                  "<|im_start|>assistant\n[0:a<|im_end|>]\n<|im_start|>user\nq<|im_end|>\n", NULL);
    with_template(plain_chatml, "[" USER ",{\"role\": \"assistant\", \"content\": \"\"}]",
                  &assistant,
                  "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[1:<|im_end|>]\n", NULL);
    with_template(forgetful, "[" USER "," ASSISTANT "," USER "," ASSISTANT "]", &assistant,
                  "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[1:a<|im_end|>]\n"
                  "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
                  "[3:<think>\n\n</think>\n\na<|im_end|>]\n",
                  NULL);
    /* A generation prompt without reasoning, which a turn with reasoning leaves. */
    with_template(
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' }}{% if m.role == 'assistant' %}"
        "{% set p = m.content.split('</think>') %}"
        "{{ '<think>\n' + (p[0] if p|length > 1 else '') + '\n</think>\n' + p[-1] }}"
        "{% else %}{{ m.content }}{% endif %}{{ '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n<think>\n\n</think>\n' }}"
        "{% endif %}",
        "[" USER ",{\"role\": \"assistant\", \"content\": \"h</think>a\"}]", &assistant,
        "<|user|>\nq<|end|>\n<|assistant|>\n<think>\n[1:h\n</think>\na<|end|>]\n", NULL);
    /* A conversation that ends with more than a turn. */
    with_template("{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}"
                  "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}"
                  "{{ eos_token }}{% endif %}",
                  "[" USER "," ASSISTANT "," USER "," ASSISTANT "]", &assistant,
                  "<|user|>\nq<|end|>\n<|assistant|>\n[1:a<|end|>]\n<|user|>\nq<|end|>\n"
                  "<|assistant|>\n[3:a<|end|>\n</s>]",
                  NULL);
    /* Content that is trimmed, and one that looks like the end of a turn. */
    with_template("{% for m in messages %}({{ m.role }}){{ m.content | trim }}{{ eos_token }}"
                  "{% endfor %}{% if add_generation_prompt %}(assistant){% endif %}",
                  "[" USER ",{\"role\": \"assistant\", \"content\": \" </s> x \"}]", &assistant,
                  "(user)q</s>(assistant)[1:</s> x</s>]", NULL);
    with_template("{{ messages[1].content | length }}", "[" USER "," ASSISTANT "]", &assistant,
                  NULL, "message 1: its part");
}

static void test_generation_blocks(void **state) {
    (void)state;
    const qn_chat_options assistant = {.parts = QN_CHAT_ASSISTANT};
    const char source[] =
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}!"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '\n' }}{% endfor %}";
    with_template(source, "[" USER "," ASSISTANT "," USER "," ASSISTANT "]", &assistant,
                  "q\n[1:a!]\nq\n[3:a!]\n", NULL);
    with_template("{% generation %}all{% endgeneration %}", "[" USER "]", &assistant, "[-1:all]",
                  NULL);
    with_template(source, "[" USER "]", &assistant, "q\n", NULL);
}

static void test_variables(void **state) {
    (void)state;
    qn_setup *arena;
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    const qn_chat_options o = {.tools = parse(arena, "[{\"name\": \"f\", \"n\": 1, \"x\": 1.0}]"),
                               .variables = parse(arena, "{\"enable_thinking\": false}"),
                               .now = 86400 * 200};
    with_template("{{ bos_token }}{{ eos_token }}{{ tools | tojson }}{{ documents is none }}"
                  "{{ enable_thinking }}{{ add_generation_prompt }}{{ pad_token is defined }}"
                  "{{ strftime_now('%Y') }}{{ messages[0].content is defined }}"
                  "{{ messages[0].n + 1 }}",
                  "[{\"role\": \"user\", \"content\": null, \"n\": 41}]", &o,
                  "<s></s>[{\"name\": \"f\", \"n\": 1, \"x\": 1.0}]TrueFalseFalseFalse1970False42",
                  NULL);
    with_template("{{ tools is none }}", "[]", NULL, "True", NULL);
    with_template("x", "{}", NULL, NULL, "expected an array");
    with_template("x", "[1]", NULL, NULL, "message 0, expected an object");
    with_template("{{ raise_exception('no ' + messages[0].role) }}", "[" USER "]", NULL, NULL,
                  "t:1:4: no user");
    qn_chat_template *t;
    assert_int_equal(qn_chat_template_open("chatml", NULL, &t), QN_OK);
    expect_error(t, "[" USER "]", &o, "no place for tools");
    expect_error(t, "[" USER ",{\"role\": \"assistant\", \"tool_calls\": [{}]}]", NULL,
                 "no place for tools");
    expect_error(t, "[" USER ",{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]", NULL,
                 "message 1: content, expected a string");
    expect_error(t, "[{\"role\": \"user\"}]", NULL, "message 0: content");
    qn_chat_template_free(t);
    qn_setup_free(arena);
}

/* ---- a model's directory --------------------------------------------------------------------- */

static void write_file(const char *directory, const char *name, const char *text) {
    char path[QN_PATH_MAX];
    assert_int_equal(qn_path_format(path, sizeof path, "%s/%s", directory, name), QN_OK);
    assert_int_equal(qn_file_create(path, text, strlen(text)), QN_OK);
}

static void expect_opened(const char *which, const char *directory, const qn_chat_options *o,
                          const char *expected) {
    qn_chat_template *t;
    if (qn_chat_template_open(which, directory, &t)) fail_msg("%s", qn_error_message());
    expect(t, "[" USER "]", o, expected);
    qn_chat_template_free(t);
}

static void expect_refused(const char *which, const char *directory, qn_status status,
                           const char *message) {
    qn_chat_template *t = NULL;
    assert_int_equal(qn_chat_template_open(which, directory, &t), status);
    assert_null(t);
    if (!strstr(qn_error_message(), message)) fail_msg("%s", qn_error_message());
}

static void test_directory(void **state) {
    (void)state;
    char d[] = "/tmp/quern_chat_XXXXXX", path[QN_PATH_MAX];
    qn_setup *arena;
    assert_non_null(mkdtemp(d));
    assert_int_equal(qn_setup_create("test", &arena), QN_OK);
    const qn_chat_options tools = {.tools = parse(arena, "[{}]")};

    expect_refused(NULL, d, QN_ERR_DATA, "no chat template");
    expect_refused(NULL, NULL, QN_ERR_DATA, "chatml, qwen2.5");
    expect_refused("chatmel", d, QN_ERR_DATA, "chatmel: no chat template");
    write_file(d, "tokenizer_config.json",
               "{\"bos_token\": {\"content\": \"<B>\"}, \"eos_token\": \"<E>\", \"chat_template\": "
               "[{\"name\": \"tool_use\", \"template\": \"tools\"}, "
               "{\"name\": \"default\", \"template\": \"{{ bos_token }}{{ pad_token }}own\"}]}");
    write_file(d, "special_tokens_map.json", "{\"pad_token\": \"<P>\", \"bos_token\": \"<X>\"}");
    expect_opened(NULL, d, NULL, "<B><P>own");
    expect_opened(NULL, d, &tools, "tools");
    expect_opened("mistral", d, NULL, "<B> [INST] q [/INST]");
    write_file(d, "chat_template.jinja", "file {{ eos_token }}\n");
    expect_opened(NULL, d, NULL, "file <E>");
    write_file(d, "other.jinja", "{{ messages[0].content }}");
    assert_int_equal(qn_path_format(path, sizeof path, "%s/other.jinja", d), QN_OK);
    expect_opened(path, d, NULL, "q");
    expect_opened(path, NULL, NULL, "q");
    write_file(d, "broken.jinja", "a\n{% if %}");
    assert_int_equal(qn_path_format(path, sizeof path, "%s/broken.jinja", d), QN_OK);
    expect_refused(path, NULL, QN_ERR_FORMAT, "broken.jinja:2:7: found \"%}\"");

    assert_int_equal(qn_tree_remove(d), QN_OK);
    assert_int_equal(qn_dir_create(d), QN_OK);
    write_file(d, "tokenizer_config.json", "{\"chat_template\": 5}");
    expect_refused(NULL, d, QN_ERR_FORMAT, "must be a string");
    assert_int_equal(qn_tree_remove(d), QN_OK);
    assert_int_equal(qn_dir_create(d), QN_OK);
    write_file(d, "tokenizer_config.json", "{\"chat_template\": [{\"name\": \"rag\"}]}");
    expect_refused(NULL, d, QN_ERR_FORMAT, "no template is named \"default\"");
    qn_setup_free(arena);
    assert_int_equal(qn_tree_remove(d), QN_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_builtins),          cmocka_unit_test(test_roles_alternate),
        cmocka_unit_test(test_alpaca_input),      cmocka_unit_test(test_parts),
        cmocka_unit_test(test_generation_blocks), cmocka_unit_test(test_variables),
        cmocka_unit_test(test_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
