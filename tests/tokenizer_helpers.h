/* tokenizer_helpers.h — what the tokenizer tests share: shared files, golden texts and ids. */
#ifndef TOKENIZER_HELPERS_H
#define TOKENIZER_HELPERS_H

#include "io/file.h"
#include "io/json.h"
#include "io/tokenizer.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The path of a file of the shared tokenizers; skips the test with a line if it is not there. */
static inline void shared_path(char path[QN_PATH_MAX], const char *name) {
    const char *data = getenv("QUERN_TEST_DATA");
    snprintf(path, QN_PATH_MAX, "%s/tokenizers/%s", data ? data : "../shared/data", name);
    if (qn_path_exists(path)) return;
    printf("skipped: %s is not there (QUERN_TEST_DATA)\n", path);
    skip();
}

static inline qn_tokenizer *open_shared(const char *name) {
    char path[QN_PATH_MAX];
    qn_tokenizer *t = NULL;
    shared_path(path, name);
    qn_assert_ok(qn_tokenizer_open(path, &t));
    return t;
}

static inline cJSON *shared_json(qn_setup *arena, const char *name) {
    char path[QN_PATH_MAX], *text = NULL;
    int64_t bytes = 0;
    cJSON *json = NULL;
    shared_path(path, name);
    qn_assert_ok(qn_file_read(path, 1 << 24, &text, &bytes));
    /* Quern's JSON has no NUL in strings: U+E000 stands for it, and golden_text turns it back. */
    for (char *p = text; (p = strstr(p, "\\u0000")); p += 6) memcpy(p, "\\uE000", 6);
    qn_assert_ok(
        qn_json_parse(arena, text, (size_t)bytes, &(qn_json_options){.name = path}, &json));
    qn_free(text);
    return json;
}

/* Whether `text` encodes to the ids of the JSON list; tells where it does not. */
static inline bool encodes_to(const qn_tokenizer *t, const char *text, int64_t bytes,
                              const qn_encode_options *o, const cJSON *want) {
    qn_ids ids = {0};
    qn_assert_ok(qn_tokenizer_encode(t, text, bytes, o, &ids));
    int64_t i = 0;
    bool equal = true;
    for (const cJSON *c = want->child; c; c = c->next, i++)
        equal = equal && i < ids.n && ids.id[i] == (int32_t)c->valuedouble;
    equal = equal && i == ids.n;
    if (!equal) {
        printf("\"%s\" gives", text);
        for (int64_t k = 0; k < ids.n; k++) printf(" %d", ids.id[k]);
        printf(", expected");
        for (const cJSON *c = want->child; c; c = c->next) printf(" %.0f", c->valuedouble);
        printf("\n");
    }
    qn_ids_free(&ids);
    return equal;
}

/* The bytes of a golden text, changed in place. */
static inline int64_t golden_text(char *text) {
    int64_t n = (int64_t)strlen(text);
    for (char *p; (p = memmem(text, (size_t)n, "\xEE\x80\x80", 3)); n -= 2) {
        *p = '\0';
        memmove(p + 1, p + 3, (size_t)(text + n - p - 3));
    }
    return n;
}

/* Checks every text of goldens/texts.json against goldens/NAME.ids.json. */
static inline void check_golden(const qn_tokenizer *t, const char *name) {
    char file[256];
    qn_setup *arena = NULL;
    qn_assert_ok(qn_setup_create("goldens", &arena));
    snprintf(file, sizeof file, "goldens/%s.ids.json", name);
    const cJSON *texts = shared_json(arena, "goldens/texts.json"), *want = shared_json(arena, file);
    int wrong = 0, n = 0;
    const cJSON *ids = want->child;
    for (const cJSON *c = texts->child; c; c = c->next, ids = ids->next, n++) {
        assert_non_null(ids);
        wrong += !encodes_to(t, c->valuestring, golden_text(c->valuestring),
                             &(qn_encode_options){0}, ids);
    }
    assert_int_equal(n, 140);
    assert_int_equal(wrong, 0);
    qn_setup_free(arena);
}

/* llamacpp_goldens/NAME.inp and .out: texts divided by a line, a line of ids for each. */
static inline void check_llamacpp(const qn_tokenizer *t, const char *name) {
    static const char divider[] = "\n__ggml_vocab_test__\n";
    char path[QN_PATH_MAX], file[256], *texts = NULL, *ids = NULL;
    int64_t bytes = 0, n = 0;
    int wrong = 0, count = 0;
    snprintf(file, sizeof file, "llamacpp_goldens/%s.inp", name);
    shared_path(path, file);
    qn_assert_ok(qn_file_read(path, 1 << 20, &texts, &bytes));
    snprintf(file, sizeof file, "llamacpp_goldens/%s.out", name);
    shared_path(path, file);
    qn_assert_ok(qn_file_read(path, 1 << 20, &ids, &n));
    for (char *text = texts, *line = ids, *next; *line; text = next, count++) {
        char *end = strstr(text, divider), *newline = strchr(line, '\n');
        next = end ? end + sizeof divider - 1 : text + strlen(text);
        qn_ids got = {0};
        qn_assert_ok(qn_tokenizer_encode(t, text, end ? end - text : next - text,
                                         &(qn_encode_options){0}, &got));
        bool equal = true;
        int64_t i = 0;
        for (char *p = line; p && *(p += strspn(p, " ")) != '\n'; i++)
            equal = i < got.n && strtol(p, &p, 10) == got.id[i] && equal;
        equal = equal && i == got.n;
        if (!equal) printf("%s: text %d differs\n", name, count);
        wrong += !equal;
        line = newline + 1;
        qn_ids_free(&got);
    }
    assert_int_equal(count, 46);
    assert_int_equal(wrong, 0);
    qn_free(texts);
    qn_free(ids);
}

#endif
