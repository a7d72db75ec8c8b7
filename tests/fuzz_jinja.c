/* fuzz_jinja.c — libFuzzer harness: templates compiled and rendered over a fixed conversation.
 *
 * An input is a template. Whatever it is, it ends within its bounds, and twice with the same text.
 * Built and run by `tests/test_fuzz.sh jinja`.
 */
#include "io/jinja.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char data[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": "
    "\" Gr\xC3\xBC\xC3\x9F\x65 \\n\"}, {\"role\": \"assistant\", \"content\": null, "
    "\"tool_calls\": "
    "[{\"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1, \"y\": [2.5, true]}}}]}], "
    "\"tools\": [{\"name\": \"f\", \"items\": 1}], \"bos_token\": \"<s>\", \"eos_token\": "
    "\"</s>\", "
    "\"add_generation_prompt\": true}";

static void require(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "violated: %s: %s\n", what, qn_error_message());
    abort();
}

enum { VARIABLES = 8, OUTPUT = 1 << 16 };

static qn_status render(const qn_jinja *t, const cJSON *variables, char **text, size_t *length) {
    const qn_jinja_options o = {
        .max_steps = 20000, .max_output = OUTPUT, .max_memory = 1 << 20, .now = 1};
    qn_jinja_variable v[VARIABLES];
    qn_jinja_spans spans = {0};
    int n = 0;
    for (const cJSON *i = variables->child; i && n < VARIABLES; i = i->next) {
        v[n++] = (qn_jinja_variable){i->string, i};
    }
    qn_status status = qn_jinja_render(t, v, n, &o, text, length, &spans);
    for (int64_t i = 0; i < spans.count; i++) {
        require(spans.items[i].begin <= spans.items[i].end && spans.items[i].end <= *length,
                "spans lie in the text");
    }
    qn_free(spans.items);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    const qn_json_options o = {0};
    qn_setup *arena;
    cJSON *variables;
    qn_jinja *t = NULL;
    char *text = malloc(size ? size : 1), *once = NULL, *twice = NULL;
    size_t n_once = 0, n_twice = 0;
    require(text && qn_setup_create("fuzz", &arena) == QN_OK, "memory");
    require(qn_json_parse(arena, data, sizeof data - 1, &o, &variables) == QN_OK, "the data");
    memcpy(text, bytes, size);
    qn_status status = qn_jinja_compile("t", text, size, &t);
    free(text); /* the template keeps a copy */
    if (status == QN_OK) {
        status = render(t, variables, &once, &n_once);
        require(render(t, variables, &twice, &n_twice) == status, "the same status twice");
        require((status == QN_OK) == (once != NULL), "a text or an error");
        require(n_once == n_twice && n_once <= OUTPUT, "as long twice, within the bound");
        require(!once || memcmp(once, twice, n_once) == 0, "the same text twice");
    }
    require(status == QN_OK || status == QN_ERR_FORMAT || status == QN_ERR_DATA, "a status");
    require(status == QN_OK || strncmp(qn_error_message(), "t:", 2) == 0, "errors have a place");
    qn_free(once);
    qn_free(twice);
    qn_jinja_free(t);
    qn_setup_free(arena);
    return 0;
}
