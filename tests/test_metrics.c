/* test_metrics.c — records, train.log, metrics.jsonl, the summary, and what a full disk does to
 * them. */
#include "engine/train.h"
#include "io/file.h"
#include "io/metrics.h"
#include "io/metrics_text.h"

#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

static char directory[] = "/tmp/quern_metrics_XXXXXX";
static double now_monotonic = 100, now_wall = 1700000000;

static double fake_clock(void) { return now_monotonic; }
static double fake_wall(void) { return now_wall; }

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    unlink(path);
    return path;
}

static char *slurp(const char *path) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = calloc(1, 1 << 20);
    size_t n = fread(text, 1, (1 << 20) - 1, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

static void assert_file(const char *path, const char *expected) {
    char *text = slurp(path);
    assert_string_equal(text, expected);
    free(text);
}

/* Reads a number with '.' in any locale. */
static double read_back(const char *s) {
    char text[64];
    snprintf(text, sizeof text, "%s", s);
    char *point = strchr(text, '.');
    if (point) *point = localeconv()->decimal_point[0];
    return strtod(text, NULL);
}

/* A sink that remembers what it was told. */
typedef struct listener {
    int notes;
    char last[512];
} listener;

static void listen_emit(void *self, qn_event event, const qn_record *r, const char *text) {
    listener *l = self;
    assert_int_equal(event, QN_EVENT_NOTE);
    assert_non_null(r);
    l->notes++;
    snprintf(l->last, sizeof l->last, "%s", text);
}

static qn_record train_record(int64_t step, double loss) {
    qn_record r = {.step = step, .epoch = 0.25};
    qn_record_add(&r, "train/loss", loss);
    qn_record_add(&r, "train/learning_rate", 1.8e-4);
    qn_record_add(&r, "train/grad_norm", 0.914);
    qn_record_add(&r, "perf/tokens_per_second", 38210);
    return r;
}

/* ---- records --------------------------------------------------------------------------------- */

static void record_adds_replaces_and_finds(void **state) {
    (void)state;
    qn_record r = {0};
    qn_record_add(&r, "a", 1);
    qn_record_add(&r, "b", (double)NAN);
    qn_record_add(&r, "a", 3);
    assert_int_equal(r.n, 2);
    assert_true(qn_record_get(&r, "a", -1) == 3);
    assert_true(isnan(qn_record_get(&r, "b", -1)));
    assert_true(qn_record_get(&r, "c", -1) == -1);
    assert_true(qn_record_get(NULL, "a", -1) == -1);
}

static void record_never_overflows(void **state) {
    (void)state;
    static char keys[QN_MAX_METRICS + 5][16];
    qn_record r = {0};
    for (int i = 0; i < QN_MAX_METRICS + 5; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        qn_record_add(&r, keys[i], i);
    }
    assert_int_equal(r.n, QN_MAX_METRICS);
    assert_true(qn_record_get(&r, "k0", -1) == 0);
    assert_true(qn_record_get(&r, "k47", -1) == 47);
}

/* ---- text ------------------------------------------------------------------------------------ */

static void json_numbers_read_back(void **state) {
    (void)state;
    const double values[] = {0.0,   -0.0,        0.1,     1.0 / 3,  1.8422999382019043,
                             1e300, 5e-324,      -1.5e-7, 12345678, 9007199254740993.0,
                             1e21,  3.4028235e38};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        qn_text t = {0};
        qn_text_json_number(&t, values[i]);
        double back = read_back(t.data);
        assert_memory_equal(&back, &values[i], sizeof back);
        qn_text_free(&t);
    }
}

static void escapes_are_valid_utf8(void **state) {
    (void)state;
    qn_text t = {0};
    qni_text_json(&t, "a\"b\\c\nd\x01\xC3\xA9\xFF\xC0\x80\xED\xA0\x80\xF0\x9F\x98\x80\xE2\x82");
    assert_string_equal(t.data,
                        "\"a\\\"b\\\\c\\nd\\u0001\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
                        "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xF0\x9F\x98\x80"
                        "\xEF\xBF\xBD\xEF\xBF\xBD\"");
    qni_text_clear(&t);
    qni_text_html(&t, "<a href='x'>\"&\x1b</a>");
    assert_string_equal(t.data, "&lt;a href=&#39;x&#39;&gt;&quot;&amp; &lt;/a&gt;");
    qn_text_free(&t);
}

/* ---- sinks ----------------------------------------------------------------------------------- */

static void jsonl_rows_are_exact(void **state) {
    (void)state;
    const char *path = path_of("rows.jsonl");
    qn_sink s;
    assert_int_equal(qn_sink_jsonl(path, NULL, &s), QN_OK);
    qn_record r = train_record(412, 1.25);
    s.emit(s.self, QN_EVENT_TRAIN, &r, NULL);
    qn_record e = {.step = 500, .epoch = 1.5};
    qn_record_add(&e, "eval/loss", (double)NAN);
    qn_record_add(&e, "eval/perplexity", (double)INFINITY);
    qn_record_add(&e, "eval/margin", (double)-INFINITY);
    s.emit(s.self, QN_EVENT_EVAL, &e, NULL);
    s.emit(s.self, QN_EVENT_NOTE, NULL, "quote \" and\nline");
    qn_record c = {.step = 501};
    s.emit(s.self, QN_EVENT_CHECKPOINT, &c, "checkpoints/step-00000501");
    qn_record end = {.step = 502, .epoch = 2};
    qn_record_add(&end, "summary/wall_s", 61.5);
    s.emit(s.self, QN_EVENT_END, &end, "max_steps reached");
    s.free(s.self);
    assert_file(
        path, "{\"step\":412,\"epoch\":0.25,\"train/loss\":1.25,\"train/learning_rate\":0.00018,"
              "\"train/grad_norm\":0.914,\"perf/tokens_per_second\":38210}\n"
              "{\"step\":500,\"epoch\":1.5,\"eval/loss\":\"nan\",\"eval/perplexity\":\"inf\","
              "\"eval/margin\":\"-inf\"}\n"
              "{\"step\":500,\"note\":\"quote \\\" and\\nline\"}\n"
              "{\"step\":501,\"checkpoint\":\"checkpoints/step-00000501\"}\n"
              "{\"step\":502,\"end\":\"max_steps reached\",\"epoch\":2,\"summary/wall_s\":61.5}\n");
}

static void nan_has_no_sign(void **state) {
    (void)state;
    const char *path = path_of("nan.log");
    qn_log_options o = {1250, 3, fake_clock, fake_wall};
    qn_sink s;
    assert_int_equal(qn_sink_log(path, &o, NULL, &s), QN_OK);
    qn_record r = train_record(412, copysign((double)NAN, -1.0));
    qn_record_add(&r, "train/grad_norm", copysign((double)NAN, -1.0));
    s.emit(s.self, QN_EVENT_TRAIN, &r, NULL);
    s.free(s.self);
    char *text;
    int64_t size;
    assert_int_equal(qn_file_read(path, 1000, &text, &size), QN_OK);
    assert_non_null(strstr(text, "loss nan "));
    assert_non_null(strstr(text, "|g| nan "));
    qn_free(text);
}

static void log_lines_are_plain(void **state) {
    (void)state;
    const char *path = path_of("train.log");
    qn_log_options o = {1250, 3, fake_clock, fake_wall};
    qn_sink s;
    assert_int_equal(qn_sink_log(path, &o, NULL, &s), QN_OK);
    now_monotonic = 100;
    qn_record r = train_record(12, 2.5);
    s.emit(s.self, QN_EVENT_TRAIN, &r, NULL);
    now_monotonic = 300; /* 400 steps in 200 s: 838 more take 419 s */
    r = train_record(412, 1.84231);
    r.epoch = 0.99;
    s.emit(s.self, QN_EVENT_TRAIN, &r, NULL);
    qn_record e = {.step = 412, .epoch = 0.99};
    qn_record_add(&e, "eval/loss", 1.9011);
    qn_record_add(&e, "eval/accuracy", 0.41);
    s.emit(s.self, QN_EVENT_EVAL, &e, NULL);
    s.emit(s.self, QN_EVENT_NOTE, &e, "two\nlines\x1b[31m");
    s.free(s.self);
    assert_file(path,
                "2023-11-14T22:13:20Z  step 12/1250  epoch 1/3  loss 2.5000  lr 1.8e-04  |g| 0.91"
                "  38.2k tok/s\n"
                "2023-11-14T22:13:20Z  step 412/1250  epoch 1/3  loss 1.8423  lr 1.8e-04  |g| 0.91"
                "  38.2k tok/s  ETA 6:59\n"
                "2023-11-14T22:13:20Z  eval at step 412  loss 1.9011  accuracy 0.4100\n"
                "2023-11-14T22:13:20Z  two lines [31m\n");
}

static void appending_cuts_a_torn_line(void **state) {
    (void)state;
    const char *path = path_of("torn.jsonl");
    FILE *f = fopen(path, "w");
    fputs("{\"step\":1}\n{\"step\":2,\"tra", f);
    fclose(f);
    qn_sink s;
    assert_int_equal(qn_sink_jsonl(path, NULL, &s), QN_OK);
    qn_record r = {.step = 3};
    s.emit(s.self, QN_EVENT_NOTE, &r, "x");
    s.free(s.self);
    assert_file(path, "{\"step\":1}\n{\"step\":3,\"note\":\"x\"}\n");

    f = fopen(path, "w"); /* a torn line longer than one block, and nothing before it */
    for (int i = 0; i < 10000; i++) fputc('y', f);
    fclose(f);
    assert_int_equal(qn_sink_jsonl(path, NULL, &s), QN_OK);
    s.free(s.self);
    assert_file(path, "");
}

static void unusable_path_is_one_clear_error(void **state) {
    (void)state;
    qn_sink s;
    assert_int_equal(qn_sink_jsonl("/nonexistent/metrics.jsonl", NULL, &s), QN_ERR_IO);
    assert_string_equal(qn_error_message(),
                        "/nonexistent/metrics.jsonl: cannot be opened for writing: "
                        "No such file or directory");
}

/* A size limit makes write(2) land a part of a row, as a full disk does. */
static void full_disk_keeps_whole_rows(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s", path_of("full.jsonl"));
    const char row[] = "{\"step\":1,\"note\":\"0123456789\"}\n";
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (size_t room = 0; room <= 3 * (sizeof row - 1); room++) {
        unlink(path);
        listener l = {0};
        qn_sink notices = {.self = &l, .emit = listen_emit}, s;
        assert_int_equal(qn_sink_jsonl(path, &notices, &s), QN_OK);
        tight = before;
        tight.rlim_cur = room;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        qn_record r = {.step = 1};
        for (int i = 0; i < 3; i++) s.emit(s.self, QN_EVENT_NOTE, &r, "0123456789");
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        s.emit(s.self, QN_EVENT_NOTE, &r, "0123456789"); /* room again */
        s.free(s.self);
        size_t whole = room / (sizeof row - 1);
        assert_int_equal(l.notes, whole < 3);
        if (whole < 3) assert_non_null(strstr(l.last, "rows are being dropped"));
        char *text = slurp(path);
        assert_int_equal(strlen(text), (whole + 1) * (sizeof row - 1));
        for (size_t i = 0; i <= whole; i++) {
            assert_memory_equal(text + i * (sizeof row - 1), row, sizeof row - 1);
        }
        free(text);
    }
    signal(SIGXFSZ, SIG_DFL);
}

static void device_without_room_never_stops(void **state) {
    (void)state;
    listener l = {0};
    qn_sink notices = {.self = &l, .emit = listen_emit}, s;
    if (access("/dev/full", W_OK) != 0) skip();
    assert_int_equal(qn_sink_jsonl("/dev/full", &notices, &s), QN_OK);
    qn_record r = {.step = 7};
    for (int i = 0; i < 5; i++) s.emit(s.self, QN_EVENT_NOTE, &r, "x");
    s.free(s.self);
    assert_int_equal(l.notes, 1);
    assert_string_equal(l.last, "/dev/full: No space left on device; rows are being dropped, "
                                "training goes on");
}

static void steady_rows_allocate_nothing(void **state) {
    (void)state;
    qn_log_options o = {1250, 3, fake_clock, fake_wall};
    qn_sink log, rows;
    assert_int_equal(qn_sink_log(path_of("steady.log"), &o, NULL, &log), QN_OK);
    assert_int_equal(qn_sink_jsonl(path_of("steady.jsonl"), NULL, &rows), QN_OK);
    qn_record r = train_record(100000, 1.0 / 3);
    log.emit(log.self, QN_EVENT_TRAIN, &r, NULL);
    rows.emit(rows.self, QN_EVENT_TRAIN, &r, NULL);
    int64_t before = qn_alloc_count();
    for (int i = 0; i < 100; i++) {
        log.emit(log.self, QN_EVENT_TRAIN, &r, NULL);
        rows.emit(rows.self, QN_EVENT_TRAIN, &r, NULL);
    }
    assert_int_equal(qn_alloc_count(), before);
    log.free(log.self);
    rows.free(rows.self);
}

/* ---- summary --------------------------------------------------------------------------------- */

static void summary_says_what_is_known(void **state) {
    (void)state;
    qn_record end = {.step = 1250};
    char *text = qn_summary_text(&end, NULL);
    assert_string_equal(text, "");
    qn_free(text);
    qn_record_add(&end, "summary/best_step", 900);
    qn_record_add(&end, "summary/best_value", 1.89512);
    qn_record_add(&end, "summary/wall_s", 3723.4);
    qn_record_add(&end, "summary/tokens", 1.5e6);
    qn_record_add(&end, "summary/tokens_per_second", 38210);
    qn_record_add(&end, "summary/data_wait_pct", 0.31);
    qn_record_add(&end, "summary/skipped_steps", 2);
    text = qn_summary_text(&end, "runs/a b/report.html");
    assert_string_equal(text, "  best       1.8951 at step 900\n"
                              "  wall time  1:02:03\n"
                              "  tokens     1.50M, mean 38.2k tok/s\n"
                              "  data wait  0.3% of the time\n"
                              "  skipped    2 steps\n"
                              "  report     runs/a b/report.html\n");
    qn_free(text);
}

/* Last, because it changes the process's locale: the same rows under a decimal comma. */
static void locale_does_not_change_numbers(void **state) {
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) {
        print_message("de_DE.UTF-8 is not installed on this machine\n");
        skip();
    }
    char comma[16];
    snprintf(comma, sizeof comma, "%.1f", 0.5);
    assert_string_equal(comma, "0,5");
    json_numbers_read_back(state);
    jsonl_rows_are_exact(state);
    log_lines_are_plain(state);
    summary_says_what_is_known(state);
    setlocale(LC_ALL, "C");
}

static int make_directory(void **state) {
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(record_adds_replaces_and_finds),
        cmocka_unit_test(record_never_overflows),
        cmocka_unit_test(json_numbers_read_back),
        cmocka_unit_test(escapes_are_valid_utf8),
        cmocka_unit_test(jsonl_rows_are_exact),
        cmocka_unit_test(nan_has_no_sign),
        cmocka_unit_test(log_lines_are_plain),
        cmocka_unit_test(appending_cuts_a_torn_line),
        cmocka_unit_test(unusable_path_is_one_clear_error),
        cmocka_unit_test(full_disk_keeps_whole_rows),
        cmocka_unit_test(device_without_room_never_stops),
        cmocka_unit_test(steady_rows_allocate_nothing),
        cmocka_unit_test(summary_says_what_is_known),
        cmocka_unit_test(locale_does_not_change_numbers),
    };
    return cmocka_run_group_tests_name("metrics", tests, make_directory, remove_directory);
}
