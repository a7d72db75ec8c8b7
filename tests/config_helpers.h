/* config_helpers.h — what the tests of configurations share: a smallest configuration, loading,
 * files. */
#ifndef QN_CONFIG_HELPERS_H
#define QN_CONFIG_HELPERS_H

#include "io/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The smallest configuration; its parts can be replaced in a test's text. */
#define MODEL                                                                                      \
    "\"model\": {\"type\": \"gpt2\", \"hidden_size\": 8, \"num_hidden_layers\": 1, "               \
    "\"num_attention_heads\": 2}"
#define DATA    "\"data\": {\"type\": \"text\", \"path\": \"x.txt\"}"
#define TRAIN   "\"train\": {\"max_steps\": 100}"
#define MINIMAL "{" MODEL ", " DATA ", " TRAIN "}"

static inline qn_status load(const char *text, const char *const *sets, int n_sets, qn_config **c,
                             char **diagnostics) {
    return qn_config_load_text("c.json", text, strlen(text), "/", sets, n_sets, c, diagnostics);
}

static inline qn_config *must_load(const char *text, const char *const *sets, int n_sets) {
    qn_config *c;
    char *diagnostics;
    if (load(text, sets, n_sets, &c, &diagnostics) != QN_OK) {
        fail_msg("refused: %s", diagnostics ? diagnostics : qn_error_message());
    }
    assert_null(diagnostics);
    return c;
}

/* Loads, expects a refusal, and returns the diagnostics. */
static inline char *must_refuse(const char *text, const char *const *sets, int n_sets) {
    qn_config *c;
    char *diagnostics;
    if (load(text, sets, n_sets, &c, &diagnostics) == QN_OK) fail_msg("accepted: %s", text);
    assert_null(c);
    assert_non_null(diagnostics);
    return diagnostics;
}

static inline void assert_contains(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("\"%s\" is not in:\n%s", part, text);
}

static inline int count_of(const char *text, const char *part) {
    int n = 0;
    for (const char *s = text; (s = strstr(s, part)) != NULL; s++) n++;
    return n;
}

static char directory[64];

static inline int make_directory(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/quern-config-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static inline int remove_directory(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static inline const char *write_file(const char *name, const char *text, char path[128]) {
    snprintf(path, 128, "%s/%s", directory, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fputs(text, f) < 0, 0);
    assert_int_equal(fclose(f), 0);
    return path;
}

#endif
