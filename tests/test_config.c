/* test_config.c — layers, defaults, and what is written back. */
#include "tests/config_helpers.h"
#include "io/text_buffer.h"

#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- --set ----------------------------------------------------------------------------------- */

static void test_set_values(void **state) {
    (void)state;
    static const char *const sets[] = {
        "train.max_steps=7",
        "optimizer.lr=2e-4",
        "run.name=123",
        "device=cpu",
        "data.path=true",
        "generate.prompt=a=b \"c",
        "generate.top_k=\t5 ",
        "train.memory_limit=1.5GiB",
        "train.recompute=[\"a\", \"b\"]",
        "train.recompute.1=c",
        "train.recompute.2=d",
        "train.recompute.0=null",
        "optimizer.betas.1=0.95",
        "optimizer.groups.0.match=a.*",
        "optimizer.groups.0.lr=0.5",
        "optimizer.groups.1={\"match\": \"b\", \"frozen\": true, \"lr\": null}",
        "optimizer.groups.0.lr=0.25",
        "optimizer.groups.0.weight_decay=1",
        "optimizer.groups.0.weight_decay=null",
        "data.prefetch=false",
        "early_stopping={\"patience\": 2, \"enabled\": false}",
        "eval.every=3",
        "eval=null",
        "log.progress=\"none\"",
        "log.progress=null",
    };
    qn_config *c = must_load("{" MODEL ", " DATA ", " TRAIN ", \"optimizer\": {\"betas\": [0.5, "
                             "0.6]}, \"log\": {\"progress\": \"bar\"}}",
                             sets, sizeof sets / sizeof *sets);
    assert_int_equal(qn_config_int(c, "train.max_steps"), 7);
    assert_true(qn_config_number(c, "optimizer.lr") == 2e-4);
    assert_string_equal(qn_config_string(c, "run.name"), "123");
    assert_string_equal(qn_config_string(c, "device"), "cpu");
    assert_int_equal(qn_config_count(c, "data.path"), 1);
    assert_string_equal(strrchr(qn_config_string(c, "data.path.0"), '/'), "/true");
    assert_string_equal(qn_config_string(c, "generate.prompt"), "a=b \"c");
    assert_int_equal(qn_config_int(c, "generate.top_k"), 5);
    assert_int_equal(qn_config_int(c, "train.memory_limit"), 1610612736);
    assert_int_equal(qn_config_count(c, "train.recompute"), 2);
    assert_string_equal(qn_config_string(c, "train.recompute.0"), "c");
    assert_string_equal(qn_config_string(c, "train.recompute.1"), "d");
    assert_true(qn_config_number(c, "optimizer.betas.0") == 0.5);
    assert_true(qn_config_number(c, "optimizer.betas.1") == 0.95);
    assert_int_equal(qn_config_count(c, "optimizer.groups"), 2);
    assert_string_equal(qn_config_string(c, "optimizer.groups.0.match"), "a.*");
    assert_true(qn_config_number(c, "optimizer.groups.0.lr") == 0.25);
    assert_false(qn_config_is_set(c, "optimizer.groups.0.weight_decay"));
    assert_false(qn_config_boolean(c, "optimizer.groups.0.frozen"));
    assert_false(qn_config_is_set(c, "optimizer.groups.0.frozen"));
    assert_true(qn_config_boolean(c, "optimizer.groups.1.frozen"));
    assert_false(qn_config_is_set(c, "optimizer.groups.1.lr"));
    assert_false(qn_config_is_set(c, "optimizer.groups.2.match"));
    assert_int_equal(qn_config_int(c, "data.prefetch"), 0);
    assert_int_equal(qn_config_int(c, "early_stopping.patience"), 2);
    assert_int_equal(qn_config_int(c, "eval.every"), 0);
    assert_string_equal(qn_config_string(c, "log.progress"), "auto");
    assert_false(qn_config_is_stated(c, "log.progress"));
    assert_true(qn_config_is_stated(c, "train.max_steps"));
    qn_config_free(c);
}

static const struct {
    const char *set, *error;
} wrong_sets[] = {
    {"foo", "--set:1:1: error: expected KEY=VALUE"},
    {"=1", "--set:1:1: error: expected KEY=VALUE"},
    {"optimizer.lr=abc", "--set:1:14: error: optimizer.lr: expected number > 0, found abc"},
    {"optimizer.lr=", "--set:1:14: error: optimizer.lr: expected number > 0, found "},
    {"optimizer.lrs=1", "--set:1:1: error: optimizer.lrs: unknown key"},
    {"optimizer.betas=[0.9,", "--set:1:22: error: optimizer.betas: found the end of the text, "
                              "expected a value"},
    {"optimizer.betas.2=0.9", "--set:1:1: error: optimizer.betas.2: expected 2 elements, found one "
                              "more"},
    {"optimizer.betas.3=0.9",
     "--set:1:1: error: optimizer.betas.3: index past the end, expected at most 2"},
    {"optimizer.betas.99999999999999999999=0.9",
     "--set:1:1: error: optimizer.betas.99999999999999999999: index past the end, expected at most "
     "2"},
    {"optimizer.betas.0=1", "--set:1:19: error: optimizer.betas.0: expected number >= 0 and < 1, "
                            "found 1"},
    {"optimizer.betas.0=null", "error: optimizer.betas: expected 2 elements, found 1"},
    {"optimizer.groups.0.lr=-1",
     "--set:1:23: error: optimizer.groups.0.lr: expected number >= 0, found -1"},
    {"optimizer.groups.lr=1", "--set:1:1: error: optimizer.groups.lr: unknown key"},
    {"optimizer.groups[].lr=1", "--set:1:1: error: optimizer.groups[].lr: unknown key"},
    {"train.max_steps.0=1", "--set:1:1: error: train.max_steps.0: unknown key"},
    {"optimizer={\"lr\": 1, \"lr\": 2}", "--set:1:21: error: optimizer.lr: duplicate key"},
    {"optimizer=3", "--set:1:11: error: optimizer: expected object, or one of its keys"},
    {"extends=x.json", "--set:1:1: error: extends: belongs into a file and cannot be set"},
    {"generate.prompt=a\xFFz",
     "--set:1:17: error: generate.prompt: found bytes that are not UTF-8"},
    {"device=\"cpu", "--set:1:8: error: device: string without end, expected `\"`"},
};

static void test_wrong_sets(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof wrong_sets / sizeof *wrong_sets; i++) {
        static const char text[] =
            "{" MODEL ", " DATA ", " TRAIN ", \"optimizer\": {\"betas\": [0.5, 0.6]}}";
        char *d = must_refuse(text, &wrong_sets[i].set, 1);
        size_t length = strlen(wrong_sets[i].error);
        if (!strstr(d, wrong_sets[i].error) || count_of(d, "error: ") != 1) {
            fail_msg("%s: got:\n%sexpected:\n%s", wrong_sets[i].set, d, wrong_sets[i].error);
        }
        assert_true(length > 0);
        qn_free(d);
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static void test_extends(void **state) {
    (void)state;
    char path[128], diag[4400];
    char sub[128];
    snprintf(sub, sizeof sub, "%s/sub", directory);
    assert_int_equal(mkdir(sub, 0700), 0);
    write_file("base.json",
               "{" MODEL ", \"data\": {\"type\": \"text\", \"path\": [\"a.txt\", \"../b\"]}, "
               "\"optimizer\": {\"lr\": 1, \"betas\": [0.1, 0.2], \"eps\": 1e-3}, \"threads\": 3}",
               path);
    write_file("sub/top.json",
               "{\n\"extends\": \"../base.json\",\n\"optimizer\": {\"lr\": 2, \"eps\": null},\n"
               "\"data\": {\"val_path\": \"./v.txt\"},\n" TRAIN "}",
               path);
    qn_config *c;
    char *d, expected[4200], real[4096];
    assert_non_null(realpath(directory, real));
    if (qn_config_load(path, NULL, 0, &c, &d) != QN_OK) fail_msg("%s", d ? d : "");
    assert_true(qn_config_number(c, "optimizer.lr") == 2.0);
    assert_true(qn_config_number(c, "optimizer.eps") == 1e-8);
    assert_true(qn_config_number(c, "optimizer.betas.1") == 0.2);
    assert_int_equal(qn_config_int(c, "threads"), 3);
    assert_string_equal(qn_config_string(c, "run.name"), "top");
    snprintf(expected, sizeof expected, "%s/a.txt", real);
    assert_string_equal(qn_config_string(c, "data.path.0"), expected);
    snprintf(expected, sizeof expected, "%.*s/b", (int)(strrchr(real, '/') - real), real);
    assert_string_equal(qn_config_string(c, "data.path.1"), expected);
    snprintf(expected, sizeof expected, "%s/sub/v.txt", real);
    assert_string_equal(qn_config_string(c, "data.val_path.0"), expected);
    assert_true(qn_config_number(c, "data.val_fraction") == 0.0);
    char *shown;
    assert_int_equal(qn_config_show(c, &shown), QN_OK);
    assert_contains(shown, "/sub/top.json:3\n");
    assert_contains(shown, "/base.json:1\n");
    qn_free(shown);
    qn_config_free(c);

    write_file("sub/top.json", "{\n \"extends\": \"../none.json\"}", path);
    assert_int_equal(qn_config_load(path, NULL, 0, &c, &d), QN_ERR_CONFIG);
    snprintf(diag, sizeof diag, "%s:2:13: error: extends: cannot read %s/none.json: No such file",
             path, real);
    assert_contains(d, diag);
    qn_free(d);

    write_file("base.json", "{\"extends\": \"sub/top.json\"}", path);
    write_file("sub/top.json", "{\"extends\": \"../base.json\"}", path);
    assert_int_equal(qn_config_load(path, NULL, 0, &c, &d), QN_ERR_CONFIG);
    assert_contains(d, "files extend each other in a circle\n");
    assert_contains(d, "\n1 error\n");
    qn_free(d);

    write_file("base.json", "{\"threads\": }", path);
    write_file("sub/top.json", "{\"extends\": \"../base.json\", \"thread\": 1}", path);
    assert_int_equal(qn_config_load(path, NULL, 0, &c, &d), QN_ERR_CONFIG);
    assert_contains(d, "base.json:1:13: error: found `}`, expected a value\n");
    assert_contains(d, "top.json:1:29: error: thread: unknown key\n");
    assert_contains(d, "\n2 errors\n");
    qn_free(d);
}

/* A bare file name is in the working directory. */
static void test_relative(void **state) {
    (void)state;
    char path[128], before[4096], real[4096], expected[4200];
    qn_config *c;
    char *d;
    write_file("here.json", "{" MODEL ", " DATA ", " TRAIN ", \"eval\": null}", path);
    assert_non_null(realpath(directory, real));
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(directory), 0);
    qn_status status = qn_config_load("here.json", NULL, 0, &c, &d);
    assert_int_equal(chdir(before), 0);
    if (status != QN_OK) fail_msg("%s", d ? d : "");
    snprintf(expected, sizeof expected, "%s/x.txt", real);
    assert_string_equal(qn_config_string(c, "data.path.0"), expected);
    snprintf(expected, sizeof expected, "%s/runs", real);
    assert_string_equal(qn_config_string(c, "run.dir"), expected);
    assert_true(qn_config_is_stated(c, "data.path.0"));
    assert_int_equal(qn_config_count(c, "train.max_steps"), 0);
    qn_config_free(c);
    snprintf(path, sizeof path, "%s/none", directory);
    assert_int_equal(qn_config_load_text("x", "{}", 2, path, NULL, 0, &c, &d), QN_ERR_IO);
    assert_null(d);
}

static void test_unreadable(void **state) {
    (void)state;
    char path[128];
    qn_config *c;
    char *d;
    snprintf(path, sizeof path, "%s/absent.json", directory);
    assert_int_equal(qn_config_load(path, NULL, 0, &c, &d), QN_ERR_CONFIG);
    assert_contains(d, "absent.json: cannot read the configuration: No such file");
    qn_free(d);
    assert_int_equal(qn_config_load(path, NULL, 0, &c, NULL), QN_ERR_CONFIG);
    assert_int_equal(qn_config_load(directory, NULL, 0, &c, &d), QN_ERR_CONFIG);
    assert_contains(d, "it is not a regular file");
    qn_free(d);
    snprintf(path, sizeof path, "%s/pipe", directory);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(qn_config_load(path, NULL, 0, &c, &d), QN_ERR_CONFIG);
    assert_contains(d, "it is not a regular file");
    qn_free(d);
    snprintf(path, sizeof path, "%s/large.json", directory);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate(path, 100 << 20), 0);
    assert_int_equal(qn_config_load(path, NULL, 0, &c, &d), QN_ERR_CONFIG);
    assert_contains(d, "large.json:1:1: error: 1048577 bytes are too many");
    qn_free(d);
}

static void test_variables(void **state) {
    (void)state;
    static const char text[] =
        "{" MODEL ", \"data\": {\"type\": \"text\", \"path\": \"${env:QUERN_TEST_A}/x\"}, " TRAIN
        ", \"generate\": {\"prompt\": \"$${env:Q} $ ${env:QUERN_TEST_B:?no}$\"}}";
    setenv("QUERN_TEST_A", "/data", 1);
    setenv("QUERN_TEST_B", "${env:C}", 1);
    qn_config *c = must_load(text, NULL, 0), *again;
    assert_string_equal(qn_config_string(c, "data.path.0"), "/data/x");
    assert_string_equal(qn_config_string(c, "generate.prompt"), "${env:Q} $ ${env:C}$");
    char *resolved;
    assert_int_equal(qn_config_resolved(c, &resolved), QN_OK);
    unsetenv("QUERN_TEST_A");
    unsetenv("QUERN_TEST_B");
    again = must_load(resolved, NULL, 0);
    assert_string_equal(qn_config_string(again, "generate.prompt"), "${env:Q} $ ${env:C}$");
    qn_free(resolved);
    qn_config_free(again);
    qn_config_free(c);
}

/* ---- defaults -------------------------------------------------------------------------------- */

static void test_defaults(void **state) {
    (void)state;
    qn_config *c = must_load(MINIMAL, NULL, 0);
    assert_int_equal(qn_config_int(c, "run.seed"), 1337);
    assert_string_equal(qn_config_string(c, "run.name"), "c");
    assert_int_equal(qn_config_string(c, "run.dir")[0], '/');
    assert_string_equal(qn_config_string(c, "objective"), "lm");
    assert_int_equal(qn_config_int(c, "model.intermediate_size"), 32);
    assert_int_equal(qn_config_int(c, "model.max_position_embeddings"), 256);
    assert_int_equal(qn_config_int(c, "data.block_size"), 256);
    assert_string_equal(qn_config_string(c, "model.activation"), "gelu_tanh");
    assert_true(qn_config_boolean(c, "model.tie_word_embeddings"));
    assert_false(qn_config_is_set(c, "model.rope_theta"));
    assert_false(qn_config_is_set(c, "data.images"));
    assert_true(qn_config_number(c, "data.val_fraction") == 0.1);
    assert_int_equal(qn_config_int(c, "train.global_batch_size"), 8);
    assert_false(qn_config_is_set(c, "train.epochs"));
    assert_false(qn_config_boolean(c, "early_stopping.enabled"));
    assert_false(qn_config_is_set(c, "early_stopping.baseline"));
    assert_int_equal(qn_config_count(c, "optimizer.groups"), 0);
    assert_true(qn_config_is_set(c, "optimizer.groups"));
    assert_int_equal(qn_config_int(c, "no.such.key"), 0);
    assert_string_equal(qn_config_string(c, "model"), "");
    qn_config_free(c);

    static const char *const sets[] = {"model.type=llama",
                                       "model.dropout=0.1",
                                       "model.hidden_size=100",
                                       "model.num_attention_heads=5",
                                       "data.block_size=32",
                                       "train.global_batch_size=64",
                                       "train.accumulate=4",
                                       "scheduler.type=cosine",
                                       "scheduler.warmup_ratio=0.25",
                                       "optimizer.type=sgd",
                                       "early_stopping.patience=2",
                                       "eval.every=10",
                                       "run.seed=9007199254740993"};
    c = must_load(MINIMAL, sets, sizeof sets / sizeof *sets);
    assert_int_equal(qn_config_int(c, "model.head_dim"), 20);
    assert_int_equal(qn_config_int(c, "model.num_key_value_heads"), 5);
    assert_int_equal(qn_config_int(c, "model.intermediate_size"), 320);
    assert_int_equal(qn_config_int(c, "model.max_position_embeddings"), 32);
    assert_true(qn_config_number(c, "model.attention_dropout") == 0.1);
    assert_int_equal(qn_config_int(c, "train.batch_size"), 16);
    assert_int_equal(qn_config_int(c, "eval.batch_size"), 16);
    assert_int_equal(qn_config_int(c, "scheduler.warmup_steps"), 25);
    assert_int_equal(qn_config_int(c, "scheduler.decay_steps"), 100);
    assert_true(qn_config_number(c, "optimizer.lr") == 0.1);
    assert_true(qn_config_boolean(c, "early_stopping.enabled"));
    assert_true(qn_config_int(c, "run.seed") == 9007199254740993);
    assert_true(qn_config_int(c, "generate.seed") == 9007199254740993);
    qn_config_free(c);

    static const char *const yarn[] = {"model.type=qwen3", "model.max_position_embeddings=128",
                                       "model.rope_scaling.rope_type=yarn",
                                       "model.rope_scaling.original_max_position_embeddings=32",
                                       "data.block_size=64"};
    c = must_load(MINIMAL, yarn, sizeof yarn / sizeof *yarn);
    assert_int_equal(qn_config_int(c, "model.head_dim"), 128);
    assert_true(qn_config_number(c, "model.rms_norm_eps") == 1e-6);
    assert_true(qn_config_number(c, "model.rope_scaling.factor") == 4);
    assert_true(qn_config_number(c, "model.rope_scaling.beta_fast") == 32);
    assert_true(qn_config_boolean(c, "model.rope_scaling.truncate"));
    assert_false(qn_config_is_set(c, "model.rope_scaling.attention_factor"));
    assert_false(qn_config_is_set(c, "model.sliding_window"));
    qn_config_free(c);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void test_resolved_is_stable(void **state) {
    (void)state;
    static const char *const sets[] = {"scheduler.warmup_ratio=0.25", "train.epochs=2.5",
                                       "optimizer.groups=[{\"match\":\"a\"},{\"match\":\"b\"}]",
                                       "train.global_batch_size=24", "generate.prompt=\\ \"${x"};
    const char *escaped[] = {sets[0], sets[1], sets[2], sets[3], "generate.prompt=\\ \"$${x"};
    qn_config *c = must_load(MINIMAL, escaped, 5), *again;
    char *once, *twice, *shown;
    assert_int_equal(qn_config_resolved(c, &once), QN_OK);
    again = must_load(once, NULL, 0);
    assert_int_equal(qn_config_resolved(again, &twice), QN_OK);
    assert_string_equal(once, twice);
    qn_config_changes changes;
    assert_int_equal(qn_config_diff(c, again, &changes), QN_OK);
    assert_int_equal(changes.changed, 0);
    assert_string_equal(changes.text, "");
    qn_free(changes.text);
    qn_free(twice);
    qn_config_free(again);
    assert_int_equal(qn_config_show(c, &shown), QN_OK); /* the same with comments */
    again = must_load(shown, NULL, 0);
    assert_int_equal(qn_config_resolved(again, &twice), QN_OK);
    assert_string_equal(once, twice);
    assert_contains(shown, "// --set\n");
    assert_contains(shown, "// c.json:1\n");
    assert_contains(shown, "// default\n");
    qn_free(shown);
    qn_free(twice);
    qn_free(once);
    qn_config_free(again);
    qn_config_free(c);
}

static void test_diff(void **state) {
    (void)state;
    static const char *const sets[] = {"optimizer.lr=1", "model.hidden_size=16",
                                       "early_stopping.baseline=2", "eval.every=5"};
    qn_config *a = must_load(MINIMAL, NULL, 0), *b = must_load(MINIMAL, sets, 4);
    qn_config_changes changes;
    assert_int_equal(qn_config_diff(a, b, &changes), QN_OK);
    assert_int_equal(changes.changed, 6);
    assert_int_equal(changes.refused, 2);
    assert_string_equal(changes.text, "model.hidden_size: 8 -> 16\n"
                                      "model.intermediate_size: 32 -> 64\n"
                                      "optimizer.lr: 0.0003 -> 1\n"
                                      "early_stopping.enabled: false -> true\n"
                                      "early_stopping.baseline: not set -> 2\n"
                                      "eval.every: 0 -> 5\n");
    qn_free(changes.text);
    qn_config_free(a);
    qn_config_free(b);
}

/* ---- allocation failures --------------------------------------------------------------------- */

/* What a child does while its n-th allocation fails; its exit status tells how it ended. */
static int use_everything(const char *path) {
    static const char *const sets[] = {"optimizer.groups.0.match=a", "threads=2",
                                       "train.recompute=[\"a\"]"};
    qn_config *c = NULL;
    qn_config_changes changes = {0};
    char *text = NULL, *d = NULL;
    qn_status status;
    QN_TRY_GOTO(qn_config_load(path, sets, 3, &c, &d));
    QN_TRY_GOTO(qn_config_show(c, &text));
    qn_free(text);
    text = NULL;
    QN_TRY_GOTO(qn_config_diff(c, c, &changes));
    QN_TRY_GOTO(qn_config_template("quickstart", &text));
    qn_free(text);
    text = NULL;
    QN_TRY_GOTO(qn_config_completion("train", &text));
    qn_free(text);
    text = NULL;
    QN_TRY_GOTO(qn_config_schema("optimizer", &text));
    qn_free(text);
    text = NULL;
    status =
        qn_config_load_text("bad", "{\"x\": 1}", 8, NULL, NULL, 0, &(qn_config *){NULL}, &text);
    status = status == QN_ERR_CONFIG ? QN_OK : status;
done:
    qn_free(changes.text);
    qn_free(text);
    qn_free(d);
    qn_config_free(c);
    return qn_status_exit_code(status);
}

/* The same for a configuration that fills its first block of memory but for what `pad` bytes leave
 * over. */
static int fill_memory(const char *pad) {
    static const char *const sets[] = {"optimizer.groups.0.match=a",
                                       "optimizer.groups.0.lr=1",
                                       "optimizer.groups.1.match=b",
                                       "train.recompute.0=a",
                                       "train.recompute.1=b",
                                       "eval.every=3",
                                       "early_stopping={\"patience\": 1}"};
    static char text[66000];
    qn_config *c = NULL;
    char *d = NULL, fill[64001] = "";
    memset(fill, 'x', (size_t)atoi(pad));
    snprintf(
        text, sizeof text,
        "{\"generate\": {\"prompt\": \"%s\"}, \"optimizer\": {\"groups\": [{\"match\": \"a\"}]}, "
        "\"run\": {\"dir\": \"../runs\"}, " MODEL ", " DATA ", " TRAIN "}",
        fill);
    qn_status status = qn_config_load_text("c", text, strlen(text), NULL, sets,
                                           sizeof sets / sizeof *sets, &c, &d);
    qn_free(d);
    qn_config_free(c);
    return qn_status_exit_code(status);
}

/* Exit status of this program run with `what` and one argument while allocation `fails` fails. */
static int outcome_of(const char *what, const char *argument, int fails) {
    char number[48], name[48], value[128];
    char *arguments[] = {"test_config", name, value, NULL};
    snprintf(name, sizeof name, "%s", what);
    snprintf(value, sizeof value, "%s", argument);
    snprintf(number, sizeof number, "%d", fails);
    setenv("QUERN_FAIL_ALLOC", number, 1);
    pid_t child;
    int ended;
    assert_int_equal(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ), 0);
    unsetenv("QUERN_FAIL_ALLOC");
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFEXITED(ended)); /* a leak or a fault ends the sanitizer presets otherwise */
    int code = WEXITSTATUS(ended);
    if (code != 0) assert_int_equal(code, qn_status_exit_code(QN_ERR_OOM));
    return code;
}

/* A configuration takes blocks of 64 KiB and cuts its many small allocations out of them: by the
 * size of one string, the second block, allocation 6 or 7, is asked for at this one or that. */
static void test_failures_inside(void **state) {
    (void)state;
    int failed = 0, runs = 0;
    for (int pad = 25000; pad < 64000; pad += 300) {
        char text[16];
        snprintf(text, sizeof text, "%d", pad);
        for (int k = 6; k <= 7; k++, runs++) failed += outcome_of("fill-memory", text, k) != 0;
    }
    assert_true(failed > runs / 2);
}

static void test_allocation_failures(void **state) {
    (void)state;
    char path[128];
    write_file("alloc.json", "{\"extends\": \"alloc_base.json\", " TRAIN "}", path);
    write_file("alloc_base.json", "{" MODEL ", " DATA "}", path);
    snprintf(path, sizeof path, "%s/alloc.json", directory);
    int k = 1, code = -1;
    for (; k < 500 && code != 0; k++) code = outcome_of("use-everything", path, k);
    assert_int_equal(code, 0); /* k is past the last allocation */
    assert_true(k > 20);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "use-everything") == 0) return use_everything(argv[2]);
    if (argc == 3 && strcmp(argv[1], "fill-memory") == 0) return fill_memory(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_values),
        cmocka_unit_test(test_wrong_sets),
        cmocka_unit_test(test_extends),
        cmocka_unit_test(test_relative),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_variables),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_resolved_is_stable),
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_failures_inside),
    };
    return cmocka_run_group_tests_name("config", tests, make_directory, remove_directory);
}
