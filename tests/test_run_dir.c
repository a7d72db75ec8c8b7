/* test_run_dir.c — run directories: creation, refusal, lock, sweep, finding; cutting logs; file
 * helpers. */
#include "tests/harness.h"

#include "io/file.h"
#include "io/run_dir.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char path_buffer[4][QN_PATH_MAX];

static const char *in(int slot, const char *dir, const char *name) {
    qn_assert_ok(qn_path_format(path_buffer[slot], QN_PATH_MAX, "%s/%s", dir, name));
    return path_buffer[slot];
}

static void put(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void assert_holds(const char *path, const char *text) {
    char *found = NULL;
    int64_t bytes;
    qn_assert_ok(qn_file_read(path, 1 << 20, &found, &bytes));
    assert_string_equal(found, text);
    assert_int_equal(bytes, (int64_t)strlen(text));
    qn_free(found);
}

static void assert_refused(qn_status got, qn_status want, const char *part) {
    assert_int_equal(got, want);
    if (!strstr(qn_error_message(), part)) fail_msg("no \"%s\" in: %s", part, qn_error_message());
}

static qn_status open_dir(const char *out, qn_run_mode mode, qn_run_dir **r) {
    qn_run_dir_options o = {.out = out, .identity = "abc", .mode = mode};
    return qn_run_dir_open(&o, r);
}

static void test_modes(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    const char *out = in(0, dir, "a/b/run");
    qn_run_dir *r = NULL;
    char first[QN_RUN_ID_SIZE];

    qn_assert_ok(open_dir(out, QN_RUN_FRESH, &r));
    assert_true(qn_run_dir_is_new(r));
    assert_int_equal(strlen(qn_run_dir_id(r)), 32);
    assert_string_equal(qn_run_dir_path(r), out);
    snprintf(first, sizeof first, "%s", qn_run_dir_id(r));
    qn_run_dir_close(r);

    assert_refused(open_dir(out, QN_RUN_FRESH, &r), QN_ERR_USAGE, "--resume");
    qn_assert_ok(open_dir(out, QN_RUN_RESUME, &r));
    assert_false(qn_run_dir_is_new(r));
    assert_string_equal(qn_run_dir_id(r), first);
    assert_string_equal(qn_run_dir_identity(r), "abc");
    qn_run_dir_close(r);

    put(in(1, out, "metrics.jsonl"), "{}\n");
    put(in(1, out, "notes.txt"), "mine\n");
    qn_assert_ok(open_dir(out, QN_RUN_OVERWRITE, &r));
    assert_true(qn_run_dir_is_new(r));
    assert_string_not_equal(qn_run_dir_id(r), first);
    assert_false(qn_path_exists(in(1, out, "metrics.jsonl")));
    assert_holds(in(1, out, "notes.txt"), "mine\n"); /* not ours */
    qn_run_dir_close(r);
    qn_run_dir_close(NULL);
    qn_test_dir_remove(dir);
}

static void test_foreign_directory(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    qn_run_dir *r = NULL;
    put(in(1, dir, "thesis.tmp"), "precious\n");
    for (int mode = QN_RUN_FRESH; mode <= QN_RUN_OVERWRITE; mode++) {
        assert_refused(open_dir(dir, (qn_run_mode)mode, &r), QN_ERR_USAGE, "not a run directory");
    }
    assert_holds(in(1, dir, "thesis.tmp"), "precious\n");
    put(in(1, dir, "run.id"), "0123\n\n");
    assert_refused(open_dir(dir, QN_RUN_RESUME, &r), QN_ERR_FORMAT, "32 hexadecimal");
    assert_refused(open_dir(in(1, dir, "run.id"), QN_RUN_FRESH, &r), QN_ERR_IO, "not a directory");
    qn_test_dir_remove(dir);
}

static void test_sweep(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    const char *out = in(0, dir, "run");
    qn_run_dir *r = NULL;
    qn_assert_ok(open_dir(out, QN_RUN_RESUME, &r)); /* absent: begins */
    assert_true(qn_run_dir_is_new(r));
    qn_run_dir_close(r);
    qn_assert_ok(qn_dir_create(in(1, out, "checkpoints/step-00000004.tmp")));
    put(in(1, out, "checkpoints/step-00000004.tmp/model.h5"), "x");
    qn_assert_ok(qn_dir_create(in(1, out, "checkpoints/step-00000002")));
    put(in(1, out, "report.html.tmp"), "x");
    assert_int_equal(symlink("..", in(1, out, "checkpoints/last.tmp")), 0);
    qn_assert_ok(open_dir(out, QN_RUN_RESUME, &r));
    assert_false(qn_path_exists(in(1, out, "checkpoints/step-00000004.tmp")));
    assert_false(qn_path_exists(in(1, out, "checkpoints/last.tmp")));
    assert_false(qn_path_exists(in(1, out, "report.html.tmp")));
    assert_true(qn_path_exists(in(1, out, "checkpoints/step-00000002")));
    qn_run_dir_close(r);
    qn_test_dir_remove(dir);
}

/* A second process is refused with the holder's pid; the lock of a killed one is free. */
static void test_lock(void **state) {
    (void)state;
    char *dir = qn_test_dir(), pid[32], c;
    int ready[2], status;
    qn_run_dir *r = NULL;
    qn_assert_ok(open_dir(dir, QN_RUN_RESUME, &r));
    qn_run_dir_close(r);
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        c = open_dir(dir, QN_RUN_RESUME, &r) == QN_OK ? 'y' : 'n';
        if (write(ready[1], &c, 1) != 1) _exit(1);
        for (;;) pause();
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    snprintf(pid, sizeof pid, "pid %ld on ", (long)child);
    assert_refused(open_dir(dir, QN_RUN_RESUME, &r), QN_ERR_USAGE, pid);
    assert_refused(open_dir(dir, QN_RUN_OVERWRITE, &r), QN_ERR_USAGE, pid);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    qn_assert_ok(open_dir(dir, QN_RUN_RESUME, &r));
    qn_run_dir_close(r);
    close(ready[0]);
    close(ready[1]);
    qn_test_dir_remove(dir);
}

static void test_named(void **state) {
    (void)state;
    char *dir = qn_test_dir(), found[QN_PATH_MAX], last[QN_PATH_MAX];
    qn_run_dir_options o = {.parent = in(0, dir, "runs"), .name = "gpt-2", .identity = "one"};
    qn_run_dir *r = NULL;
    qn_assert_ok(qn_run_find_newest(o.parent, "gpt-2", "one", found, sizeof found)); /* no parent */
    assert_string_equal(found, "");
    for (int i = 0; i < 3; i++) { /* within one second: -2, -3 */
        qn_assert_ok(qn_run_dir_open(&o, &r));
        snprintf(last, sizeof last, "%s", qn_run_dir_path(r));
        qn_run_dir_close(r);
    }
    qn_assert_ok(qn_run_find_newest(o.parent, "gpt-2", "one", found, sizeof found));
    assert_string_equal(found, last);
    o.identity = "two";
    qn_assert_ok(qn_run_dir_open(&o, &r));
    qn_run_dir_close(r);
    qn_assert_ok(qn_run_find_newest(o.parent, "gpt-2", "one", found, sizeof found));
    assert_string_equal(found, last);
    qn_assert_ok(qn_run_find_newest(o.parent, "gpt", "one", found, sizeof found));
    assert_string_equal(found, ""); /* another name, though a prefix */
    qn_assert_ok(qn_dir_create(in(1, dir, "runs/gpt-2-99990101-000000"))); /* no run.id inside */
    qn_assert_ok(qn_dir_create(in(1, dir, "runs/gpt-2-99990101-000000-x")));
    qn_assert_ok(qn_dir_create(in(1, dir, "runs/gpt-2-9999010100-0000")));
    qn_assert_ok(qn_run_find_newest(o.parent, "gpt-2", "one", found, sizeof found));
    assert_string_equal(found, last);
    o.name = "../evil";
    assert_refused(qn_run_dir_open(&o, &r), QN_ERR_CONFIG, "run name");
    o.name = "fine";
    o.identity = "two words";
    assert_refused(qn_run_dir_open(&o, &r), QN_ERR_INTERNAL, "identity");
    qn_test_dir_remove(dir);
}

static void test_jsonl(void **state) {
    (void)state;
    static const struct {
        const char *before;
        int64_t step;
        const char *after;
    } row[] = {
        {"", 5, ""},
        {"{\"step\":1}\n{\"step\":2}\n", 2, "{\"step\":1}\n{\"step\":2}\n"},
        {"{\"step\":1}\n{\"step\":2}\n{\"step\": 3}\n", 1, "{\"step\":1}\n"},
        {"{\"step\":1}\n{\"step\":2,\"lo", 9, "{\"step\":1}\n"}, /* torn */
        {"{\"a\":\"step\",\"step\" : 7}\n", 6, ""},              /* a value, then the key */
        {"{\"x\":{\"step\":9},\"step\":1}\n", 2, "{\"x\":{\"step\":9},\"step\":1}\n"}, /* nested */
        {"{\"t\":\"\\\"step\\\":9\",\"step\":1}\n", 2, "{\"t\":\"\\\"step\\\":9\",\"step\":1}\n"},
        {"{\"n\":0}\n{\"step\":3}\n{\"n\":1}\n{\"step\":1}\n{\"n\":2}\n", 2,
         "{\"n\":0}\n{\"step\":1}\n{\"n\":2}\n"}, /* rows without a step go with the one before */
        {"{\"step\":\n5}\n", 2, "{\"step\":\n5}\n"},
        {"{\"step\":3}\n", 0, ""},
    };
    char *dir = qn_test_dir();
    const char *log = in(0, dir, "metrics.jsonl");
    qn_assert_ok(qn_jsonl_truncate(log, 3)); /* absent */
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        put(log, row[i].before);
        qn_assert_ok(qn_jsonl_truncate(log, row[i].step));
        assert_holds(log, row[i].after);
    }
    assert_false(qn_path_exists(in(1, dir, "metrics.jsonl.tmp")));
    qn_test_dir_remove(dir);
}

static void test_files(void **state) {
    (void)state;
    char *dir = qn_test_dir(), *data, target[64];
    int64_t bytes;
    assert_int_equal(mkfifo(in(0, dir, "fifo"), 0600), 0);
    assert_refused(qn_file_read(in(0, dir, "fifo"), 10, &data, &bytes), QN_ERR_IO, "not a regular");
    assert_refused(qn_file_read(dir, 10, &data, &bytes), QN_ERR_IO, "not a regular");
    assert_refused(qn_file_read(in(0, dir, "none"), 10, &data, &bytes), QN_ERR_IO, "No such file");
    qn_assert_ok(qn_file_create(in(0, dir, "f"), "12345", 5));
    assert_refused(qn_file_create(in(0, dir, "f"), "x", 1), QN_ERR_IO, "exists");
    assert_refused(qn_file_read(in(0, dir, "f"), 4, &data, &bytes), QN_ERR_FORMAT, "at most 4");
    qn_assert_ok(qn_file_replace(in(0, dir, "f"), "abc", 3));
    assert_holds(in(0, dir, "f"), "abc");
    qn_assert_ok(qn_link_replace("f", in(0, dir, "l")));
    qn_assert_ok(qn_link_replace("gone", in(0, dir, "l")));
    ssize_t n = readlink(in(0, dir, "l"), target, sizeof target);
    assert_int_equal(n, 4);
    assert_true(qn_path_exists(in(0, dir, "l")));
    /* removal stays inside: the link goes, what it points to does not */
    qn_assert_ok(qn_dir_create(in(0, dir, "tree/deep/er")));
    assert_int_equal(symlink("../f", in(1, dir, "tree/link")), 0);
    qn_assert_ok(qn_tree_remove(in(0, dir, "tree")));
    qn_assert_ok(qn_tree_remove(in(0, dir, "tree")));
    assert_false(qn_path_exists(in(0, dir, "tree")));
    assert_holds(in(0, dir, "f"), "abc");
    char small[8];
    assert_refused(qn_path_format(small, sizeof small, "%s", "12345678"), QN_ERR_IO, "longer");
    qn_test_dir_remove(dir);
}

/* A full disk leaves the old file and no temporary one. */
static void test_full_disk(void **state) {
    (void)state;
    char *dir = qn_test_dir(), big[100000];
    const char *file = in(0, dir, "f");
    memset(big, 'x', sizeof big);
    qn_assert_ok(qn_file_replace(file, "old", 3));
    struct rlimit old, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    tight = old;
    tight.rlim_cur = 5000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    qn_status status = qn_file_replace(file, big, sizeof big);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_refused(status, QN_ERR_IO, "File too large");
    assert_holds(file, "old");
    assert_false(qn_path_exists(in(1, dir, "f.tmp")));
    qn_test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modes), cmocka_unit_test(test_foreign_directory),
        cmocka_unit_test(test_sweep), cmocka_unit_test(test_lock),
        cmocka_unit_test(test_named), cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_files), cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests_name("run_dir", tests, NULL, NULL);
}
