/* test_alloc_loop.c — every allocation by Quern's objects fails once: the command ends with a clean
 * error, or goes on and says what it left out.
 *
 * For each command of the table the number N of its allocations is found, then the command is run
 * with QUERN_FAIL_ALLOC=k. A status of 4, or of 0 when the run survives, must come with a line
 * that tells about memory; anything else, a sanitizer's complaint included, fails. What a training
 * run leaves behind must resume to the state of a run that nothing happened to.
 *
 * k goes from 1 to N in steps of 11; QUERN_ALLOC_STRIDE=1 tries each:
 *     QUERN_ALLOC_STRIDE=1 build/dev/tests/test_alloc_loop
 */
#include "tests/harness.h"

#include "io/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STRIDE = 11, MAX_ALLOCATIONS = 2048, OUT_OF_MEMORY = 4, TEXT = 1 << 20 };

static const char config[] =
    "{\"model\": {\"type\": \"gpt2\", \"hidden_size\": 16, \"num_hidden_layers\": 1,"
    "  \"num_attention_heads\": 2, \"dropout\": 0.1},"
    " \"data\": {\"type\": \"text\", \"path\": \"text.txt\", \"block_size\": 16,"
    "  \"vocabulary\": \"char\"},"
    " \"train\": {\"max_steps\": 2, \"batch_size\": 2, \"accumulate\": 2, \"clip_norm\": 1,"
    "  \"recompute\": \"blocks.*\"},"
    " \"optimizer\": {\"lr\": 3e-3, \"groups\": [{\"match\": \"**.bias\", \"weight_decay\": 0}]},"
    " \"eval\": {\"every\": 1, \"batches\": 1}, \"early_stopping\": {\"patience\": 100},"
    " \"checkpoint\": {\"every\": 1}, \"log\": {\"every\": 1, \"progress\": \"none\"},"
    " \"threads\": 1}";

typedef struct place { /* a directory with a configuration, its data and a finished run in RUN */
    char dir[64];
    char digest[128];
} place;

/* ---- commands -------------------------------------------------------------------------------- */

typedef struct outcome {
    int status;
    char out[512];  /* first bytes of standard output */
    char *err;      /* all of standard error */
    bool complains; /* the first line about memory is in err */
} outcome;

static void read_back(const char *path, char **text) {
    int64_t bytes;
    qn_assert_ok(qn_file_read(path, TEXT, text, &bytes));
}

/* Runs `quern COMMAND` in the place, with the k-th allocation failing, or all from it on. */
static outcome run(const place *p, const char *command, int k, bool onward) {
    char line[1024], path[128], fail[32] = "", *text;
    if (k > 0) snprintf(fail, sizeof fail, "QUERN_FAIL_ALLOC=%d%s", k, onward ? "+" : "");
    snprintf(line, sizeof line, "cd %s && exec env %s %s %s >out 2>err </dev/null", p->dir, fail,
             QUERN_BINARY, command);
    int status = system(line);
    outcome o = {.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status};
    snprintf(path, sizeof path, "%s/out", p->dir);
    read_back(path, &text);
    snprintf(o.out, sizeof o.out, "%s", text);
    qn_free(text);
    snprintf(path, sizeof path, "%s/err", p->dir);
    read_back(path, &o.err);
    o.complains = strstr(o.err, "out of memory") || strstr(o.err, "Cannot allocate memory");
    return o;
}

static void expect_done(const place *p, const char *command, char *out, size_t size) {
    outcome o = run(p, command, 0, false);
    if (o.status != 0 || o.complains) fail_msg("quern %s: status %d\n%s", command, o.status, o.err);
    if (out) snprintf(out, size, "%.*s", (int)size - 1, o.out);
    qn_free(o.err);
}

/* ---- places ---------------------------------------------------------------------------------- */

static int setup(void **state) {
    place *p = qn_alloc(sizeof *p, "a place");
    if (!p) return -1;
    const char *tmp = getenv("TMPDIR");
    snprintf(p->dir, sizeof p->dir, "%.40s/quern-test.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(p->dir)) return -1;
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", p->dir);
    qn_assert_ok(qn_file_replace(path, config, sizeof config - 1));
    snprintf(path, sizeof path, "%s/text.txt", p->dir);
    FILE *f = fopen(path, "w");
    if (!f) return -1;
    for (int i = 0; i < 120; i++) fprintf(f, "line %d of a little text\n", i * i);
    fclose(f);
    expect_done(p, "train config.json --out RUN", NULL, 0);
    expect_done(p, "inspect RUN --digest", p->digest, sizeof p->digest);
    *state = p;
    return 0;
}

static int teardown(void **state) {
    place *p = *state;
    qn_status s = qn_tree_remove(p->dir);
    qn_free(p);
    return s == QN_OK ? 0 : -1;
}

/* ---- tests ----------------------------------------------------------------------------------- */

typedef struct command {
    const char *line;
    const char *before; /* makes the run `new` that the line needs; NULL = nothing */
    bool trains;        /* in `new`, which must resume to the state of RUN */
} command;

static const command commands[] = {
    {.line = "train config.json --out new", .trains = true},
    {.line = "train config.json --out new --resume auto",
     .before = "train config.json --out new --set train.max_steps=1",
     .trains = true},
    {.line = "eval RUN --json"},
    {.line = "generate RUN --prompt line --max-new-tokens 20"},
    {.line = "predict RUN --input text.txt --out predictions.jsonl"},
    {.line = "plan config.json --json"},
    {.line = "validate config.json"},
    {.line = "config show config.json"},
    {.line = "config reference"},
    {.line = "schema"},
    {.line = "init gpt2_text"},
    {.line = "inspect RUN --digest"},
    {.line = "inspect RUN --json"},
    {.line = "report RUN"},
    {.line = "completion bash"},
    {.line = "doctor --json"},
};

static void prepare(const place *p, const command *c) {
    char path[128];
    snprintf(path, sizeof path, "%s/new", p->dir);
    qn_assert_ok(qn_tree_remove(path));
    if (c->before) expect_done(p, c->before, NULL, 0);
}

/* Largest k such that something fails when every allocation from the k-th on does. */
static int count_allocations(const place *p, const command *c) {
    int low = 0, high = MAX_ALLOCATIONS;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        prepare(p, c);
        outcome o = run(p, c->line, middle, true);
        bool clean = o.status == 0 && !o.complains;
        qn_free(o.err);
        if (clean) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return low;
}

static void check_one(const place *p, const command *c, int k) {
    char digest[128];
    prepare(p, c);
    outcome o = run(p, c->line, k, false);
    bool right = (o.status == 0 || o.status == OUT_OF_MEMORY) && o.complains;
    if (!right || strstr(o.err, "Sanitizer") || strstr(o.err, "runtime error")) {
        fail_msg("QUERN_FAIL_ALLOC=%d quern %s: status %d\n%s", k, c->line, o.status, o.err);
    }
    qn_free(o.err);
    if (!c->trains) return;
    expect_done(p, "train config.json --out new --resume auto", NULL, 0);
    expect_done(p, "inspect new --digest", digest, sizeof digest);
    if (strcmp(digest, p->digest) != 0) {
        fail_msg("QUERN_FAIL_ALLOC=%d quern %s: resumed to another state", k, c->line);
    }
}

static void each_allocation_fails_once(void **state) {
    const place *p = *state;
    const char *text = getenv("QUERN_ALLOC_STRIDE");
    int stride = text ? atoi(text) : STRIDE;
    assert_true(stride > 0);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const command *c = &commands[i];
        int n = count_allocations(p, c);
        assert_in_range(n, 1, MAX_ALLOCATIONS - 2);
        print_message("quern %s: %d allocations\n", c->line, n);
        for (int k = 1; k <= n; k += stride) check_one(p, c, k);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_allocation_fails_once, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
