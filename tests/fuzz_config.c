/* fuzz_config.c — libFuzzer harness: the JSON parser and everything that loads a configuration.
 *
 * An input is a configuration, then, each after a NUL byte, up to four --set assignments. What is
 * accepted must survive being written and read back. Built and run by `tests/test_fuzz.sh config`.
 */
#include "io/config.h"
#include "io/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SETS = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "violated: %s: %s\n", what, qn_error_message());
    abort();
}

/* Parses and writes; NULL when refused. */
static char *rewrite(const char *text, size_t size, bool comments) {
    qn_setup *arena;
    cJSON *root;
    qn_text t = {0};
    char *out = NULL;
    qn_json_options o = {.comments = comments};
    require(qn_setup_create("fuzz", &arena) == QN_OK, "memory");
    if (qn_json_parse(arena, text, size, &o, &root) == QN_OK) {
        require(qn_setup_bytes(arena) <= 128 * (size + 8), "memory in proportion");
        qn_json_write(&t, root, 0);
        require(qn_text_take(&t, &out) == QN_OK, "memory");
    }
    qn_setup_free(arena);
    return out;
}

static void check_json(const char *text, size_t size) {
    char *once = rewrite(text, size, true);
    if (!once) return;
    char *twice = rewrite(once, strlen(once), false);
    require(twice && strcmp(once, twice) == 0, "a written value reads back as itself");
    qn_free(twice);
    qn_free(once);
}

static void check_config(const char *text, size_t size, const char *const *sets, int n_sets) {
    qn_config *c, *again;
    char *diagnostics, *resolved, *shown, *second;
    if (qn_config_load_text("fuzz", text, size, "/", sets, n_sets, &c, &diagnostics) != QN_OK) {
        require(!c && diagnostics && strstr(diagnostics, "error: "), "a refusal has a reason");
        qn_free(diagnostics);
        return;
    }
    require(!diagnostics, "no reason without a refusal");
    require(qn_config_resolved(c, &resolved) == QN_OK, "resolved");
    require(qn_config_show(c, &shown) == QN_OK, "shown");
    const char *texts[] = {resolved, shown};
    for (int i = 0; i < 2; i++) {
        qn_status status = qn_config_load_text("again", texts[i], strlen(texts[i]), "/", NULL, 0,
                                               &again, &diagnostics);
        if (status != QN_OK) fprintf(stderr, "%s", diagnostics ? diagnostics : "");
        require(status == QN_OK, "a resolved configuration loads");
        require(qn_config_resolved(again, &second) == QN_OK, "resolved");
        require(strcmp(resolved, second) == 0, "a resolved configuration is itself");
        qn_free(second);
        qn_config_free(again);
    }
    qn_free(shown);
    qn_free(resolved);
    qn_config_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    char *text = malloc(size + 1); /* exactly as long, so that reads past it are seen */
    const char *sets[MAX_SETS];
    int n_sets = 0;
    require(text != NULL, "memory");
    memcpy(text, bytes, size);
    text[size] = '\0';
    check_json(text, size);
    size_t length = strlen(text);
    for (size_t at = length + 1; at < size && n_sets < MAX_SETS; at += strlen(text + at) + 1) {
        sets[n_sets++] = text + at;
    }
    check_config(text, length, sets, n_sets);
    free(text);
    return 0;
}
