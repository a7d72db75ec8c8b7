/* fuzz_hf_config.c — libFuzzer harness: config.json of a model directory as a layer of a
 * configuration.
 *
 * An input is the file. What is accepted must load again once resolved, and the config.json written
 * from it, where there is one, must be accepted and state the same model. Built and run by
 * `tests/test_fuzz.sh hf_config`.
 */
#include "io/config_hf.h"
#include "io/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char dir[64];

static void require(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "violated: %s: %s\n", what, qn_error_message());
    abort();
}

static void remove_dir(void) { (void)!qn_tree_remove(dir); }

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%.40s/quern-fuzz.XXXXXX", base ? base : "/tmp");
    require(mkdtemp(dir) != NULL, "a directory");
    atexit(remove_dir);
    return 0;
}

static void put(const void *bytes, size_t size) {
    char path[96];
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "wb");
    require(f && (size == 0 || fwrite(bytes, size, 1, f) == 1) && fclose(f) == 0, "a file");
}

/* The configuration with the file as it is; NULL when it is refused, with a reason. */
static qn_config *load(void) {
    qn_config *c;
    char *diagnostics;
    if (qn_config_load_model(dir, NULL, 0, &c, &diagnostics) == QN_OK) return c;
    require(!c && diagnostics && strstr(diagnostics, "error: "), "a refusal has a reason");
    qn_free(diagnostics);
    return NULL;
}

static char *resolve(const qn_config *c) {
    char *text;
    require(qn_config_resolved(c, &text) == QN_OK, "resolved");
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    put(bytes, size);
    qn_config *c = load(), *again;
    if (!c) return 0;
    char *first = resolve(c), *second, *diagnostics;
    qn_status status =
        qn_config_load_text("again", first, strlen(first), "/", NULL, 0, &again, &diagnostics);
    if (status != QN_OK) fprintf(stderr, "%s", diagnostics ? diagnostics : "");
    require(status == QN_OK, "a resolved configuration loads");
    qn_config_free(again);
    qn_text t = {0};
    if (qni_hf_config_write(c, NULL, qn_config_int(c, "model.vocab_size"),
                            qn_config_int(c, "model.num_labels"), "float32", &t) == QN_OK) {
        put(t.data, t.length);
        again = load();
        require(again != NULL, "what is written is read");
        second = resolve(again);
        if (strcmp(first, second) != 0) fprintf(stderr, "%s\n%s\n%s\n", first, t.data, second);
        require(strcmp(first, second) == 0, "what is written is the same model");
        qn_free(second);
        qn_config_free(again);
    }
    qn_text_free(&t);
    qn_free(first);
    qn_config_free(c);
    return 0;
}
