/* test_config_edges.c — configurations at the edges: odd texts, names and places that are legal,
 * and mistakes that must not make others follow. */
#include "tests/config_helpers.h"
#include "io/json.h"
#include "io/text_buffer.h"

#include <sys/stat.h>
#include <unistd.h>

enum { MAX_SETS = 4 };

#define MLP "\"model\": {\"type\": \"mlp\"}"
#define IDX "\"data\": {\"type\": \"idx\", \"images\": \"a\", \"labels\": \"b\"}"
#define LLAMA                                                                                      \
    "\"model\": {\"type\": \"llama\", \"hidden_size\": 8, \"num_hidden_layers\": 1, "              \
    "\"num_attention_heads\": 2}"
#define PATH(p)  "{" MODEL ", \"data\": {\"type\": \"text\", \"path\": \"" p "\"}, " TRAIN "}"
#define LONG_64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define NAME_128 LONG_64 LONG_64

/* ---- what is accepted ------------------------------------------------------------------------ */

/* `value` is the one of `key` in text; NULL = it has none. */
static const struct {
    const char *text, *set[MAX_SETS], *key, *value;
} accepted[] = {
    /* texts */
    {"{\"extends\": null, " MODEL ", " DATA ", " TRAIN "}", {0}, "train.max_steps", "100"},
    {PATH("/x//y"), {0}, "data.path.0", "/x//y"},
    {PATH(".//./x"), {0}, "data.path.0", "/x"},
    {PATH("../../x/.."), {0}, "data.path.0", "/x/.."}, /* above the root is the root */
    {PATH("."), {0}, "data.path.0", "/"},
    {PATH(".."), {0}, "data.path.0", "/"},
    {PATH("..x"), {0}, "data.path.0", "/..x"},
    {PATH(".x"), {0}, "data.path.0", "/.x"},
    {MINIMAL, {"run.name=" NAME_128}, "run.name", NAME_128},
    /* numbers */
    {MINIMAL, {"train.memory_limit=2GiB"}, "train.memory_limit", "2147483648"},
    {MINIMAL, {"train.memory_limit=1.5 kB"}, "train.memory_limit", "1500"},
    {MINIMAL, {"train.memory_limit=7"}, "train.memory_limit", "7"},
    {MINIMAL, {"run.seed=-3000000000"}, "run.seed", "-3000000000"},
    {MINIMAL, {"data.prefetch=true"}, "data.prefetch", "2"},
    /* elements */
    {MINIMAL,
     {"optimizer.betas=[0.5, 0.6]", "optimizer.betas.0=null", "optimizer.betas.1=0.7"},
     "optimizer.betas.1",
     "0.7"},
    {MINIMAL, {"train.recompute=a", "train.recompute.0=null"}, "train.recompute.0", NULL},
    {MINIMAL,
     {"optimizer.groups.0.match=a", "optimizer.groups.0.lr=null"},
     "optimizer.groups.0.lr",
     NULL},
    {MINIMAL, {"train.recompute=a"}, "train.recompute.x", NULL},
    {MINIMAL, {"train.recompute=a"}, "train.recompute.", NULL},
    {MINIMAL, {"train.recompute=a"}, "train.recompute.0000000000", NULL},
    {MINIMAL, {"optimizer.groups.0.match=a"}, "optimizer.groups.0.mat", NULL},
    /* computed defaults */
    {MINIMAL, {"train.global_batch_size=12"}, "train.batch_size", "12"},
    {MINIMAL, {"train.global_batch_size=12"}, "train.accumulate", "1"},
    {MINIMAL, {"train.global_batch_size=24"}, "train.accumulate", "3"},
    {MINIMAL,
     {"train.max_steps=null", "train.epochs=2", "scheduler.warmup_ratio=0.5"},
     "scheduler.warmup_steps",
     NULL},
    {MINIMAL,
     {"train.max_steps=null", "train.epochs=2", "scheduler.warmup_ratio=0.5",
      "scheduler.warmup_steps=7"},
     "scheduler.warmup_steps",
     "7"},
    /* pairs that agree */
    {"{" LLAMA ", " DATA ", " TRAIN "}",
     {"model.num_attention_heads=3", "model.head_dim=4"},
     "model.head_dim",
     "4"},
    {MINIMAL,
     {"scheduler.warmup_steps=50", "scheduler.warmup_ratio=0.5"},
     "scheduler.warmup_steps",
     "50"},
    {MINIMAL,
     {"scheduler.type=cosine", "scheduler.warmup_steps=9", "scheduler.decay_steps=9"},
     "scheduler.decay_steps",
     "9"},
    {MINIMAL,
     {"optimizer.type=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true"},
     "optimizer.momentum",
     "0.9"},
    {MINIMAL, {"train.on_nonfinite=rollback", "checkpoint.every=5"}, "checkpoint.every", "5"},
    {MINIMAL, {"data.val_fraction=0", "eval.every=0"}, "data.val_fraction", "0"},
    {MINIMAL, {"data.val_fraction=0", "data.val_path=/v"}, "data.val_path.0", "/v"},
    {"{" MLP ", " IDX ", " TRAIN "}", {"objective=regress"}, "objective", "regress"},
    {"{" MLP ", " IDX ", " TRAIN "}",
     {"data.val_images=c", "data.val_labels=d", "early_stopping.patience=1", "eval.every=3"},
     "data.val_fraction",
     "0"},
};

static void value_text(const qn_config *c, const char *key, char *text, size_t size) {
    const char *s = qn_config_string(c, key);
    double number = qn_config_number(c, key);
    int64_t integer = qn_config_int(c, key);
    if (*s) {
        snprintf(text, size, "%s", s);
    } else if (integer || number == 0) {
        snprintf(text, size, "%lld", (long long)integer);
    } else {
        snprintf(text, size, "%g", number);
    }
}

static int count_sets(const char *const *set) {
    int n = 0;
    while (n < MAX_SETS && set[n]) n++;
    return n;
}

static void test_accepted(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        const char *key = accepted[i].key;
        char text[200];
        qn_config *c = must_load(accepted[i].text, accepted[i].set, count_sets(accepted[i].set));
        if (qn_config_is_set(c, key) != (accepted[i].value != NULL) ||
            qn_config_is_stated(c, key) > qn_config_is_set(c, key))
            fail_msg("%zu: %s is %s", i, key, accepted[i].value ? "not set" : "set");
        value_text(c, key, text, sizeof text);
        if (accepted[i].value) assert_string_equal(text, accepted[i].value);
        qn_config_free(c);
    }
}

/* ---- what is refused, once ------------------------------------------------------------------- */

static const struct {
    const char *text, *set[MAX_SETS], *error;
} refused[] = {
    /* variables */
    {MINIMAL, {"data.path=${env:}"}, "found `${`, expected ${env:NAME}"},
    {MINIMAL, {"data.path=${env:A-B}"}, "found `${`, expected ${env:NAME}"},
    {MINIMAL, {"data.path=${env:" NAME_128 "}"}, "found `${`, expected ${env:NAME}"},
    {MINIMAL, {"data.path=${HOME"}, "found `${`, expected ${env:NAME}"},
    {MINIMAL, {"data.path=${env:QUERN_NO_SUCH} and :? after it}"}, "QUERN_NO_SUCH is not set"},
    /* names */
    {MINIMAL, {"run.name="}, "run.name: expected string of letters"},
    {MINIMAL, {"run.name=" NAME_128 "x"}, "run.name: expected string of letters"},
    {MINIMAL, {"run.name=a b"}, "run.name: expected string of letters"},
    {"{" MODEL ", " DATA ", " TRAIN ", \"run\": {\"name\": 3}}", {0}, "run.name: expected string"},
    {MINIMAL, {"data.path="}, "data.path: expected path (string)"},
    {MINIMAL, {NAME_128 NAME_128 "=1"}, "expected KEY=VALUE"},
    {MINIMAL, {"no." NAME_128 "=1"}, "unknown key"},
    {MINIMAL, {"optimizer..lr=1"}, "optimizer..lr: unknown key"},
    {MINIMAL, {"no.0=1"}, "no.0: unknown key"},
    {MINIMAL, {"0.no=1"}, "0.no: unknown key"},
    {MINIMAL, {"device=" NAME_128 "x"}, "device: expected one of"}, /* like nothing there is */
    {"{" MODEL ", " DATA ", " TRAIN ", \"no.such\": 1}", {0}, "no.such: unknown key"},
    {"{" MODEL ", " DATA ", " TRAIN ", \"" NAME_128 "\": 1}", {0}, ": unknown key"},
    {"{" MODEL ", " DATA ", " TRAIN ", \"a\\\"b\": 1}",
     {0},
     "unknown key\n     1 | ... \"path\": \"x.txt\"}, \"train\": {\"max_steps\": 100}, \"a\\\"b\": "
     "1}\n       | "
     "                                                   ^~~~~~\n"},
    {"{" MODEL ", " DATA ", " TRAIN ", \"\x7F\": 1}", {0}, "error: ?: unknown key"},
    /* values */
    {MINIMAL, {"train.memory_limit=GiB"}, "train.memory_limit: expected bytes"},
    {MINIMAL, {"train.memory_limit=2000000TiB"}, "train.memory_limit: expected bytes"},
    {MINIMAL, {"train.memory_limit=1x"}, "train.memory_limit: expected bytes"},
    {"{" MODEL ", " DATA ", " TRAIN ", \"threads\": \"2\"}",
     {0},
     "hint: numbers are written without quotes"},
    {"{" MODEL ", " DATA ", " TRAIN ", \"threads\": []}", {0}, "found an array"},
    {"{" MODEL ", " DATA ", " TRAIN ", \"threads\": 0.1234567890123456789012345678901234567890}",
     {0},
     "found 0.12345678901234567890123456789012345678...\n"},
    {"{" MODEL ", " DATA ", " TRAIN ", \"device\": \"a2345678901234567890123456789012345678"
     "\xC3\xA9\xC3\xA9\xC3\xA9\"}",
     {0},
     "found \"a2345678901234567890123456789012345678...\n"}, /* no half of a character */
    {MINIMAL, {"optimizer.betas=3", "optimizer.betas.0=0.5"}, "optimizer.betas: expected array"},
    {"{" MODEL ", " DATA ", " TRAIN ", \"optimizer\": {\"groups\": [{}]}}",
     {0},
     "group 0 has no \"match\""},
    /* a refused value is no reason for another error */
    {"{\"model\": {\"type\": \"gpt2\", \"hidden_size\": \"x\", \"num_hidden_layers\": 1, "
     "\"num_attention_heads\": 3}, " DATA ", " TRAIN "}",
     {0},
     "model.hidden_size: expected integer"},
    {MINIMAL, {"model.num_attention_heads=x"}, "model.num_attention_heads: expected integer"},
    {"{" LLAMA ", " DATA ", " TRAIN "}",
     {"model.num_attention_heads=0", "model.num_key_value_heads=3"},
     "model.num_attention_heads: expected integer"},
    {MINIMAL, {"model.head_dim=4"}, "model.head_dim: has no meaning here"},
    {"{" MODEL ", \"data\": {}, " TRAIN "}", {0}, "data.type: missing"},
    {MINIMAL, {"objective=x"}, "objective: expected one of"},
    {MINIMAL, {"train.batch_size=0", "train.global_batch_size=7"}, "train.batch_size: expected"},
    {MINIMAL, {"train.accumulate=0", "train.global_batch_size=7"}, "train.accumulate: expected"},
    {MINIMAL, {"train.batch_size=3", "train.global_batch_size=0"}, "global_batch_size: expected"},
    {"{" MODEL ", \"data\": {\"type\": \"tokens\", \"path\": \"x\"}, " TRAIN "}",
     {"data.dtype=u16", "data.vocab_size=0"},
     "data.vocab_size: expected integer"},
    {"{" MLP ", " IDX ", " TRAIN "}", {"data.val_labels=c"}, "expected data.val_images too"},
    {"{" MLP ", \"data\": {\"type\": \"idx\", \"images\": \"a\", \"labels\": \"b\", "
     "\"val_fraction\": 0, \"val_images\": 3, \"val_labels\": \"c\"}, " TRAIN "}",
     {"early_stopping.patience=1", "eval.every=3"},
     "data.val_images: expected path"},
    {"{" MLP ", \"data\": {\"type\": \"idx\", \"images\": \"a\", \"labels\": \"b\", "
     "\"val_images\": \"c\", \"val_labels\": 3}, " TRAIN "}",
     {0},
     "data.val_labels: expected path"},
    {MINIMAL,
     {"data.val_fraction=2", "early_stopping.patience=1", "eval.every=3"},
     "data.val_fraction: expected number"},
    {"{" MODEL ", \"data\": {\"type\": \"text\", \"path\": \"x\", \"val_path\": 3, "
     "\"val_fraction\": 0}, " TRAIN "}",
     {"early_stopping.patience=1", "eval.every=3"},
     "data.val_path: expected path"},
    {MINIMAL, {"early_stopping.patience=1", "eval.every=x"}, "eval.every: expected integer"},
    {MINIMAL,
     {"train.on_nonfinite=rollback", "checkpoint.every=x"},
     "checkpoint.every: expected integer"},
    {MINIMAL,
     {"optimizer.lr=x", "scheduler.type=cosine", "scheduler.min_lr=1"},
     "optimizer.lr: expected number"},
    /* keys that do not go together */
    {"{" MODEL ", " IDX ", " TRAIN "}",
     {"data.val_fraction=0"},
     "data.type: expected texts or tokens for model.type \"gpt2\""},
    {MINIMAL,
     {"optimizer.type=sgd", "optimizer.momentum=0.9", "optimizer.dampening=0.1",
      "optimizer.nesterov=true"},
     "optimizer.nesterov: expected optimizer.momentum > 0 and optimizer.dampening = 0"},
    {MINIMAL,
     {"scheduler.warmup_ratio=0.5", "scheduler.warmup_steps=9"},
     "--set:1:24: error: scheduler.warmup_ratio: expected it to agree"},
    {MINIMAL,
     {"train.global_batch_size=1099511627776", "train.accumulate=1"},
     "train.global_batch_size: expected batch_size * accumulate"},
    {MINIMAL,
     {"train.global_batch_size=1099511627776", "train.batch_size=1"},
     "train.global_batch_size: expected batch_size * accumulate"},
    {MINIMAL,
     {"train.global_batch_size=3", "train.accumulate=4"},
     "train.global_batch_size: expected batch_size * accumulate"},
    {MINIMAL,
     {"train.global_batch_size=7", "train.batch_size=8"},
     "train.global_batch_size: expected batch_size * accumulate"},
};

static void test_refused_once(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char *d = must_refuse(refused[i].text, refused[i].set, count_sets(refused[i].set));
        if (!strstr(d, refused[i].error) || count_of(d, "error: ") != 1)
            fail_msg("%zu: got:\n%sexpected once:\n%s", i, d, refused[i].error);
        qn_free(d);
    }
}

/* The line with the key "thread" is cut between characters, and the mark stands below the key. */
static void check_shown(const char *d) {
    const char *line = strstr(d, " | ...\xC3\xA9"), *key = strstr(d, "\"thread\"");
    if (!qn_utf8_valid(d, strlen(d)) || !line || !key) fail_msg("%s", d);
    int column = 0; /* characters from the start of the shown line to the key */
    for (const char *s = line; s < key; s++) column += ((unsigned char)*s & 0xC0) != 0x80;
    const char *below = strchr(key, '\n');
    assert_non_null(below);
    const char *mark = strchr(below, '^');
    if (!mark || mark - strchr(below, '|') + 1 != column || strncmp(mark, "^~~~~~~~\n", 9) != 0)
        fail_msg("%d\n%s", column, d);
}

static void test_long_lines(void **state) {
    (void)state;
    for (int shift = 0; shift < 2; shift++) { /* both halves of a two-byte character */
        qn_text t = {0};
        qn_text_add(&t, "{" MODEL ", " DATA ", " TRAIN ", \"generate\": {\"prompt\": \"");
        for (int i = 0; i < 100; i++) qn_text_add(&t, "\xC3\xA9");
        qn_text_add(&t, shift ? "x\"}, \"thread\": \"" : "\"}, \"thread\": \"");
        for (int i = 0; i < 100; i++) qn_text_add(&t, "\xC3\xA9");
        qn_text_add(&t, "\"}");
        assert_int_equal(t.status, QN_OK);
        qn_config *c;
        char *d;
        assert_int_equal(load(t.data, NULL, 0, &c, &d), QN_ERR_CONFIG);
        check_shown(d);
        qn_free(d);
        qn_text_free(&t);
    }
}

static void test_assignment_without_end(void **state) {
    (void)state;
    size_t size = QN_JSON_MAX_BYTES + 100;
    char *set = qn_alloc(size + 1, "a long assignment");
    assert_non_null(set);
    memset(set, 'x', size);
    memcpy(set, "run.name=", 9);
    char *d = must_refuse(MINIMAL, (const char *const *)&set, 1);
    assert_contains(d, "an assignment of more than 1 MiB");
    qn_free(d);
    qn_free(set);
}

/* ---- names and places ------------------------------------------------------------------------ */

static void test_names_of_runs(void **state) {
    (void)state;
    static const struct {
        const char *file, *name;
    } c[] = {{"dir/.json", "json"}, {"a.b.json", "a.b"}, {"Z\xC3\xBCrich (1)~.json", "Zrich1"},
             {"___.json", "run"},   {"", "run"},         {NAME_128 "tail.json", NAME_128}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        qn_config *config;
        assert_int_equal(
            qn_config_load_text(c[i].file, MINIMAL, strlen(MINIMAL), NULL, NULL, 0, &config, NULL),
            QN_OK);
        assert_string_equal(qn_config_string(config, "run.name"), c[i].name);
        qn_config_free(config);
    }
}

static void go(const char *where) { assert_int_equal(chdir(where), 0); }

/* Loads with this working directory. */
static qn_status load_in(const char *where, const char *path, qn_config **c, char **d) {
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    go(where);
    if (strstr(where, "/gone")) assert_int_equal(rmdir(where), 0);
    qn_status status =
        path ? qn_config_load(path, NULL, 0, c, d)
             : qn_config_load_text("x", MINIMAL, strlen(MINIMAL), NULL, NULL, 0, c, d);
    go(before);
    return status;
}

static void test_working_directories(void **state) {
    (void)state;
    char path[128], base[128], where[96];
    qn_config *c;
    char *d;
    write_file("ab.json", "{" MODEL ", " DATA "}", base);
    write_file("top.json", "{\"extends\": \"ab.json\", " TRAIN "}", path);

    assert_int_equal(load_in("/", path, &c, &d), QN_OK);
    assert_string_equal(qn_config_string(c, "run.dir"), "/runs");
    qn_config_free(c);

    /* the base's path begins like the working directory and is not in it */
    snprintf(where, sizeof where, "%s/a", directory);
    assert_int_equal(mkdir(where, 0700), 0);
    assert_int_equal(load_in(where, path, &c, &d), QN_OK);
    assert_true(qn_config_is_stated(c, "data.type"));
    qn_config_free(c);

    snprintf(where, sizeof where, "%s/\xFF", directory);
    assert_int_equal(mkdir(where, 0700), 0);
    assert_int_equal(load_in(where, path, &c, &d), QN_ERR_CONFIG);
    assert_contains(qn_error_message(), "working directory: expected a name in UTF-8");
    assert_null(d);

    for (int i = 0; i < 2; i++) {
        snprintf(where, sizeof where, "%s/gone", directory);
        assert_int_equal(mkdir(where, 0700), 0);
        assert_int_equal(load_in(where, i ? NULL : path, &c, &d), QN_ERR_IO);
        assert_contains(qn_error_message(), "No such file");
        assert_null(d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),      cmocka_unit_test(test_refused_once),
        cmocka_unit_test(test_long_lines),    cmocka_unit_test(test_assignment_without_end),
        cmocka_unit_test(test_names_of_runs), cmocka_unit_test(test_working_directories),
    };
    return cmocka_run_group_tests_name("config_edges", tests, make_directory, remove_directory);
}
