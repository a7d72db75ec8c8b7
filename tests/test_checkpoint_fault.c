/* test_checkpoint_fault.c — checkpoints under kills, full disks, failing calls, rot and lack of
 * memory.
 *
 * Small sizes run by default. `tests/fault.sh release` sets the large ones:
 *   QUERN_FAULT_KILLS   kills at random moments of saving (default 60)
 *   QUERN_FAULT_FULL=1  every bit instead of every 13th
 *
 * The process under test is this executable with arguments: `save DIR FIRST COUNT` saves steps and
 * writes "saved N" once a checkpoint is announced, or "failed N: why". Two tensors are filled with
 * a pattern of their step, so a mixture of two steps cannot go unseen.
 */
#include "tests/harness.h"

#include "io/checkpoint_writer.h"
#include "io/run_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MODEL = 40000, STATE = 3, EXIT_SKIP = 77 };

static const char run_id[] = "00112233445566778899aabbccddeeff";

typedef struct tensors {
    float model[MODEL];
    int64_t state[STATE];
    qn_named m, s;
    int64_t n_model;
} tensors;

static tensors *tensors_make(int64_t step, int64_t n_model) {
    tensors *t = calloc(1, sizeof *t);
    if (!t) abort();
    for (int64_t i = 0; i < n_model; i++) t->model[i] = (float)(step * 7 + i);
    for (int i = 0; i < STATE; i++) t->state[i] = step * 1000 + i;
    t->n_model = n_model;
    t->m = (qn_named){"blocks.0.weight", qn_tensor_make(t->model, QN_F32, QN_SHAPE(n_model))};
    t->s = (qn_named){"count", qn_tensor_make(t->state, QN_I64, QN_SHAPE(STATE))};
    return t;
}

static qn_status save_step(const char *dir, int64_t step, int64_t n_model) {
    tensors *t = tensors_make(step, n_model);
    qn_checkpoint_info info = {.run_id = run_id, .step = step, .world_size = 1, .state = "s"};
    qn_status status = qn_checkpoint_save(dir, &info, &t->m, 1, &t->s, 1, NULL, 0);
    free(t);
    return status;
}

/* Loads the newest and compares it with the pattern of its step, which is returned; -1 = none
 * there. A damaged directory under a final name fails the test: nothing torn may ever get that
 * name. */
static int64_t load_newest(const char *dir, int64_t n_model) {
    char warning[QN_MESSAGE_MAX];
    qn_checkpoint *c = NULL;
    tensors *got = tensors_make(-1, n_model);
    qn_assert_ok(
        qn_checkpoint_resume(dir, run_id, &got->m, 1, &got->s, 1, warning, sizeof warning, &c));
    assert_string_equal(warning, "");
    int64_t step = -1;
    if (c) {
        step = qn_checkpoint_get_info(c)->step;
        tensors *want = tensors_make(step, n_model);
        assert_memory_equal(got->model, want->model, sizeof want->model);
        assert_memory_equal(got->state, want->state, sizeof want->state);
        free(want);
    }
    qn_checkpoint_close(c);
    free(got);
    return step;
}

static int leftovers(const char *dir) {
    char path[QN_PATH_MAX];
    int n = 0;
    qn_assert_ok(qn_path_format(path, sizeof path, "%s/checkpoints", dir));
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += strstr(e->d_name, ".tmp") != NULL;
    closedir(d);
    return n;
}

/* ---- the process under test ------------------------------------------------------------------ */

static void say(const char *text) {
    if (write(STDOUT_FILENO, text, strlen(text)) < 0) _exit(9);
}

/* Each step twice: the second save takes the place of the first. */
static int worker_save(const char *dir, int64_t first, int64_t count) {
    int failures = 0;
    for (int64_t i = 0; i < 2 * count; i++) {
        char line[QN_MESSAGE_MAX + 64];
        int64_t step = first + i / 2;
        qn_status status = save_step(dir, step, MODEL);
        if (status == QN_OK) {
            snprintf(line, sizeof line, "saved %lld\n", (long long)step);
        } else {
            failures++;
            snprintf(line, sizeof line, "failed %lld: %s\n", (long long)step, qn_error_message());
        }
        say(line);
        if (status == QN_OK && qn_checkpoint_retain(dir, 2, NULL, 0) != QN_OK) {
            snprintf(line, sizeof line, "untidy %lld: %s\n", (long long)step, qn_error_message());
            say(line);
        }
    }
    return failures ? 1 : 0;
}

/* Everything that allocates, for the allocation loop; the exit code is the status's. */
static qn_status use_everything(const char *dir) {
    qn_status status = QN_OK;
    char *text = NULL, digest[QN_DIGEST_SIZE], warning[QN_MESSAGE_MAX], snapshot[4096];
    qn_run_dir *run = NULL;
    qn_checkpoint *c = NULL;
    qn_writer *w = NULL;
    tensors *t = tensors_make(2, 10);
    qn_run_dir_options ro = {.out = dir, .identity = "x", .mode = QN_RUN_RESUME};
    qn_checkpoint_info info = {.run_id = run_id, .step = 2, .world_size = 1, .metadata = "{}"};
    qn_writer_options o = {.run_dir = dir,
                           .keep = 2,
                           .model = &t->m,
                           .n_model = 1,
                           .state = &t->s,
                           .n_state = 1,
                           .snapshot = snapshot,
                           .snapshot_bytes = sizeof snapshot};
    QN_TRY_GOTO(qn_run_dir_open(&ro, &run));
    QN_TRY_GOTO(qn_writer_create(&o, &w));
    QN_TRY_GOTO(qn_writer_submit(w, &info, 2));
    status = qn_writer_finish(w);
    w = NULL;
    if (status != QN_OK) goto done;
    QN_TRY_GOTO(qn_checkpoint_resume(dir, run_id, &t->m, 1, &t->s, 1, warning, sizeof warning, &c));
    if (!c || qn_checkpoint_get_info(c)->step != 2 || warning[0]) {
        QN_TRY_GOTO(qn_fail(QN_ERR_INTERNAL, "lost: %s", warning));
    }
    QN_TRY_GOTO(qn_checkpoint_digest(c, digest));
    QN_TRY_GOTO(qn_checkpoint_inspect(c, false, &text));
    qn_free(text);
    text = NULL;
    QN_TRY_GOTO(qn_checkpoint_inspect(c, true, &text));
done:
    qn_free(text);
    qn_checkpoint_close(c);
    if (w) {
        qn_status finished = qn_writer_finish(w);
        if (status == QN_OK) status = finished;
    }
    qn_run_dir_close(run);
    free(t);
    return status;
}

/* A small file system of its own, filled by an old checkpoint and a ballast file of every size. */
static int worker_full_disk(const char *dir) {
    char ballast[QN_PATH_MAX];
    static char zeros[4096];
    const int64_t n_model = 10000;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", dir, "tmpfs", 0, "size=256k") != 0) {
        return EXIT_SKIP;
    }
    snprintf(ballast, sizeof ballast, "%s/ballast", dir);
    if (save_step(dir, 1, n_model) != QN_OK) return 1;
    int full = 0, saved = 0;
    for (int pages = 60; pages >= 0; pages--) {
        FILE *f = fopen(ballast, "w");
        for (int i = 0; f && i < pages; i++) (void)!fwrite(zeros, 1, sizeof zeros, f);
        if (f) fclose(f);
        qn_status status = save_step(dir, 2, n_model);
        if (status == QN_OK) {
            saved++;
        } else if (status == QN_ERR_IO && strstr(qn_error_message(), "No space left")) {
            full++;
            if (saved == 0 && load_newest(dir, n_model) != 1) return 2;
        } else {
            say(qn_error_message());
            return 3;
        }
        if (leftovers(dir)) return 4;
    }
    if (load_newest(dir, n_model) != 2) return 5;
    return full > 5 && saved > 5 ? 0 : 6;
}

static int worker(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "save") == 0) {
        return worker_save(argv[2], atoll(argv[3]), atoll(argv[4]));
    }
    if (argc == 3 && strcmp(argv[1], "full") == 0) return worker_full_disk(argv[2]);
    if (argc == 3 && strcmp(argv[1], "all") == 0) {
        return qn_status_exit_code(use_everything(argv[2]));
    }
    return 2;
}

/* ---- running it ------------------------------------------------------------------------------ */

static const char *self(void) {
    static char path[QN_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    assert_true(n > 0);
    path[n] = '\0';
    return path;
}

typedef struct child {
    pid_t pid;
    int out;          /* read end of its stdout */
    char text[65536]; /* what it wrote */
    size_t n;
} child;

static void child_start(child *c, const char *const *argv) {
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    c->n = 0;
    c->text[0] = '\0';
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(ends[1]);
    c->out = ends[0];
}

static bool child_read(child *c) {
    ssize_t n = read(c->out, c->text + c->n, sizeof c->text - 1 - c->n);
    if (n > 0) c->n += (size_t)n;
    c->text[c->n] = '\0';
    return n > 0;
}

/* Reads to the end and waits; the wait status. */
static int child_finish(child *c) {
    int status;
    while (child_read(c)) {}
    close(c->out);
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    return status;
}

/* The last step announced in a text of "saved N" lines; a line cut by the kill does not count. */
static int64_t last_announced(const char *text) {
    int64_t last = -1;
    for (const char *p = text; (p = strstr(p, "saved ")); p++) {
        char *end;
        long long step = strtoll(p + 6, &end, 10);
        if (*end == '\n') last = step;
    }
    return last;
}

static void wait_up_to(child *c, long nanoseconds) {
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        long left =
            nanoseconds - (now.tv_sec - begin.tv_sec) * 1000000000L - (now.tv_nsec - begin.tv_nsec);
        if (left <= 0) return;
        struct timespec wait = {left / 1000000000L, left % 1000000000L};
        struct pollfd p = {.fd = c->out, .events = POLLIN};
        if (ppoll(&p, 1, &wait, NULL) > 0 && !child_read(c)) return;
    }
}

static int setting(const char *name, int absent) {
    const char *text = getenv(name);
    return text && *text ? atoi(text) : absent;
}

/* ---- kills ----------------------------------------------------------------------------------- */

static void test_kill_random(void **state) {
    (void)state;
    const int kills = setting("QUERN_FAULT_KILLS", 60);
    char *dir = qn_test_dir(), first[32];
    int64_t announced = -1, newest = -1, in_save = 0;
    static child c[1]; /* large */
    for (int i = 0; i < kills; i++) {
        snprintf(first, sizeof first, "%lld", (long long)newest + 1);
        child_start(c, (const char *const[]){self(), "save", dir, first, "1000000", NULL});
        while (c->n == 0 && child_read(c)) { /* it is up and has saved once */
        }
        wait_up_to(c, (long)(qn_philox(7, (uint64_t)i, 0).v[0] % 12000000u));
        assert_int_equal(kill(c->pid, SIGKILL), 0);
        int status = child_finish(c);
        if (!WIFSIGNALED(status)) fail_msg("the worker ended by itself: %s", c->text);
        if (strstr(c->text, "failed") || strstr(c->text, "untidy")) fail_msg("%s", c->text);
        int64_t said = last_announced(c->text);
        if (said > announced) announced = said;
        in_save += leftovers(dir) > 0;
        newest = load_newest(dir, MODEL);
        if (newest < announced) {
            fail_msg("announced %lld, found %lld", (long long)announced, (long long)newest);
        }
    }
    print_message("%d kills, %lld of them within a save; %lld steps announced, 0 lost\n", kills,
                  (long long)in_save, (long long)announced + 1);
    assert_true(in_save > 0);
    /* the next open of the run directory removes what is left */
    char path[QN_PATH_MAX];
    qn_run_dir *r = NULL;
    qn_assert_ok(qn_path_format(path, sizeof path, "%s/run.id", dir));
    qn_assert_ok(qn_file_create(path, "00112233445566778899aabbccddeeff\n\n", 34));
    qn_run_dir_options o = {.out = dir, .identity = "", .mode = QN_RUN_RESUME};
    qn_assert_ok(qn_run_dir_open(&o, &r));
    assert_int_equal(leftovers(dir), 0);
    qn_run_dir_close(r);
    qn_test_dir_remove(dir);
}

static bool have_strace(void) {
    static child c[1];
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC), kept = dup(STDERR_FILENO);
    dup2(null, STDERR_FILENO);
    child_start(c, (const char *const[]){"strace", "-o", "/dev/null", "true", NULL});
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(null);
    int status = child_finish(c);
    if (status == 0) return true;
    print_message("skipped: strace is missing or may not trace here\n");
    return false;
}

static const char *const write_calls[] = {"mkdir", "pwrite64",  "write",   "ftruncate",
                                          "fsync", "rename",    "symlink", "unlink",
                                          "rmdir", "renameat2", "close"};
enum { WRITE_CALLS = sizeof write_calls / sizeof write_calls[0] };

/* Runs `save DIR 2 1` with the k-th such call of paths in DIR spoilt; false if there was no
 * k-th. */
static bool run_spoilt(child *c, const char *dir, const char *call, const char *how, int k,
                       int *status) {
    char inject[128], log[QN_PATH_MAX], model[QN_PATH_MAX], manifest[QN_PATH_MAX];
    snprintf(inject, sizeof inject, "inject=%s:%s:when=%d", call, how, k);
    qn_assert_ok(qn_path_format(log, sizeof log, "%s.strace", dir));
    static const char file[] = "%s/checkpoints/step-00000002.tmp/%s";
    qn_assert_ok(qn_path_format(model, sizeof model, file, dir, "model.h5"));
    qn_assert_ok(qn_path_format(manifest, sizeof manifest, file, dir, "manifest.json"));
    const char *argv[24] = {
        "strace", "-f",          "-o", log,   "-E", "ASAN_OPTIONS=detect_leaks=0",
        "-e",     "signal=none", "-e", inject};
    int n = 10;
    if (strcmp(call, "close") == 0) { /* not those of the dynamic loader */
        const char *only[] = {"-P", model, "-P", manifest};
        for (int i = 0; i < 4; i++) argv[n++] = only[i];
    }
    const char *command[] = {self(), "save", dir, "2", "1"};
    for (int i = 0; i < 5; i++) argv[n++] = command[i];
    child_start(c, argv);
    *status = child_finish(c);
    char *text = NULL;
    int64_t bytes;
    qn_assert_ok(qn_file_read(log, 1 << 26, &text, &bytes));
    bool injected = WIFSIGNALED(*status) || strstr(text, "INJECTED");
    qn_free(text);
    unlink(log);
    return injected;
}

/* A fresh directory with step 1 announced. */
static char *dir_with_one(void) {
    char *dir = qn_test_dir();
    qn_assert_ok(save_step(dir, 1, MODEL));
    return dir;
}

static void test_kill_at_every_call(void **state) {
    (void)state;
    if (!have_strace()) skip();
    static child c[1];
    int points = 0;
    for (int i = 0; i < WRITE_CALLS; i++) {
        for (int k = 1;; k++) {
            char *dir = dir_with_one();
            int status;
            bool injected = run_spoilt(c, dir, write_calls[i], "signal=KILL", k, &status);
            int64_t newest = load_newest(dir, MODEL), announced = last_announced(c->text);
            if (newest < (announced > 1 ? announced : 1)) {
                fail_msg("%s %d: announced %lld, found %lld", write_calls[i], k,
                         (long long)announced, (long long)newest);
            }
            qn_test_dir_remove(dir);
            if (!injected) {
                assert_int_equal(status, 0);
                break;
            }
            points++;
        }
    }
    print_message("killed at each of %d write-class system calls of two saves, 0 lost\n", points);
    assert_true(points > 30);
}

/* ---- failing calls --------------------------------------------------------------------------- */

/* Each failure is named, loses nothing announced and leaves nothing behind, and the save after it
 * works. */
static void test_failing_calls(void **state) {
    (void)state;
    static const struct {
        const char *call, *how, *reason;
    } row[] = {
        {"fsync", "error=EIO", "Input/output error"},
        {"pwrite64", "error=EIO", "Input/output error"},
        {"pwrite64", "error=ENOSPC", "No space left"},
        {"write", "error=ENOSPC", "No space left"},
        {"rename", "error=EIO", "Input/output error"},
        {"rename", "error=EXDEV", "cross-device"},
        {"renameat2", "error=EIO", "Input/output error"},
        {"mkdir", "error=ENOSPC", "No space left"},
        {"close", "error=EIO", "Input/output error"},
        {"pwrite64", "error=EINTR", NULL}, /* continued */
        {"write", "error=EINTR", NULL},
        {"renameat2", "error=EINVAL", NULL}, /* a file system that cannot exchange */
    };
    if (!have_strace()) skip();
    static child c[1];
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        int failed = 0;
        for (int k = 1;; k++) {
            char *dir = dir_with_one(), what[64];
            int status;
            bool injected = run_spoilt(c, dir, row[i].call, row[i].how, k, &status);
            snprintf(what, sizeof what, "%s %s %d", row[i].call, row[i].how, k);
            if (!WIFEXITED(status)) fail_msg("%s: did not exit: %s", what, c->text);
            if (strstr(c->text, "failed")) {
                failed++;
                if (!row[i].reason || !strstr(c->text, row[i].reason)) {
                    fail_msg("%s: unnamed: %s", what, c->text);
                }
            }
            int64_t newest = load_newest(dir, MODEL);
            /* one of the two saves of step 2 worked, or the output itself could not be written */
            if (newest != 2 && WEXITSTATUS(status) != 9) fail_msg("%s: %s", what, c->text);
            if (leftovers(dir)) fail_msg("%s left something: %s", what, c->text);
            qn_test_dir_remove(dir);
            if (!injected) break;
        }
        if (row[i].reason && failed == 0) fail_msg("%s %s never failed", row[i].call, row[i].how);
    }
}

static void test_full_disk(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    static child c[1];
    child_start(c, (const char *const[]){self(), "full", dir, NULL});
    int status = child_finish(c);
    qn_test_dir_remove(dir);
    bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP;
    if (skipped) print_message("skipped: no tmpfs can be mounted here\n");
    if (!skipped && status != 0) fail_msg("wait status %d: %s", status, c->text);
    if (skipped) skip();
}

/* The same without privileges: a limit on file size, at every 2 KiB of the largest file. */
static void test_file_size_limit(void **state) {
    (void)state;
    const int64_t n_model = 10000;
    char *dir = qn_test_dir();
    struct rlimit old, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    qn_assert_ok(save_step(dir, 1, n_model));
    int failed = 0;
    for (rlim_t limit = 0; limit < 60000; limit += 2048) {
        tight = old;
        tight.rlim_cur = limit;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        qn_status status = save_step(dir, 2, n_model);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        if (status == QN_OK) break;
        failed++;
        assert_int_equal(status, QN_ERR_IO);
        assert_non_null(strstr(qn_error_message(), "File too large"));
        assert_int_equal(load_newest(dir, n_model), 1);
        assert_int_equal(leftovers(dir), 0);
    }
    signal(SIGXFSZ, handler);
    assert_true(failed > 15);
    assert_int_equal(load_newest(dir, n_model), 2);
    qn_test_dir_remove(dir);
}

/* ---- rot ------------------------------------------------------------------------------------- */

static const char *const files[] = {"manifest.json", "model.h5", "state.h5"};
enum { FILES = sizeof files / sizeof files[0] };

static void assert_rejected(const char *path, const char *what, int64_t where) {
    qn_checkpoint *c = NULL;
    qn_status status = qn_checkpoint_open(path, QN_CHECKPOINT_ALL, &c);
    if (status != QN_ERR_FORMAT) {
        fail_msg("%s at %lld: %s", what, (long long)where, qn_status_name(status));
    }
}

static void test_every_bit(void **state) {
    (void)state;
    const int64_t stride = setting("QUERN_FAULT_FULL", 0) ? 1 : 13;
    char *dir = qn_test_dir(), path[QN_PATH_MAX], name[QN_PATH_MAX];
    int64_t flips = 0, cuts = 0;
    qn_assert_ok(save_step(dir, 1, 20));
    qn_assert_ok(qn_checkpoint_path(dir, 1, path, sizeof path));
    for (int i = 0; i < FILES; i++) {
        char *bytes = NULL;
        int64_t n;
        qn_assert_ok(qn_path_format(name, sizeof name, "%s/%s", path, files[i]));
        qn_assert_ok(qn_file_read(name, 1 << 20, &bytes, &n));
        int fd = open(name, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        for (int64_t bit = 0; bit < 8 * n; bit += stride, flips++) {
            char changed = (char)(bytes[bit / 8] ^ 1 << bit % 8);
            assert_int_equal(pwrite(fd, &changed, 1, bit / 8), 1);
            assert_rejected(path, files[i], bit);
            assert_int_equal(pwrite(fd, &bytes[bit / 8], 1, bit / 8), 1);
        }
        for (int64_t cut = n - 1; cut >= 0; cut -= stride, cuts++) {
            assert_int_equal(ftruncate(fd, cut), 0);
            assert_rejected(path, files[i], cut);
        }
        assert_int_equal(pwrite(fd, bytes, (size_t)n, 0), n);
        assert_int_equal(pwrite(fd, "", 1, n), 1); /* one byte more */
        assert_rejected(path, files[i], n);
        assert_int_equal(ftruncate(fd, n), 0);
        close(fd);
        qn_free(bytes);
        assert_int_equal(load_newest(dir, 20), 1); /* whole again */
    }
    print_message("%lld bits flipped, %lld truncations: 0 silent\n", (long long)flips,
                  (long long)cuts);
    qn_test_dir_remove(dir);
}

/* Files of two steps under one manifest, a missing file, things that are no files. */
static void test_wrong_files(void **state) {
    (void)state;
    char *dir = qn_test_dir(), one[QN_PATH_MAX], two[QN_PATH_MAX], from[QN_PATH_MAX],
         to[QN_PATH_MAX];
    qn_assert_ok(save_step(dir, 1, 20));
    qn_assert_ok(save_step(dir, 2, 20));
    qn_assert_ok(qn_checkpoint_path(dir, 1, one, sizeof one));
    qn_assert_ok(qn_checkpoint_path(dir, 2, two, sizeof two));
    for (int i = 0; i < FILES; i++) {
        qn_checkpoint *c = NULL;
        qn_assert_ok(qn_path_format(from, sizeof from, "%s/%s", one, files[i]));
        qn_assert_ok(qn_path_format(to, sizeof to, "%s/%s", two, files[i]));
        assert_int_equal(renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE), 0);
        assert_rejected(two, files[i], -1);
        assert_rejected(one, files[i], -1);
        assert_int_equal(renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE), 0);
        assert_int_equal(unlink(to), 0);
        assert_int_equal(qn_checkpoint_open(two, QN_CHECKPOINT_ALL, &c), QN_ERR_IO);
        assert_int_equal(mkfifo(to, 0600), 0); /* must not wait for a writer */
        assert_true(qn_checkpoint_open(two, QN_CHECKPOINT_ALL, &c) != QN_OK);
        assert_int_equal(unlink(to), 0);
        assert_int_equal(symlink("/etc/passwd", to), 0);
        assert_true(qn_checkpoint_open(two, QN_CHECKPOINT_ALL, &c) != QN_OK);
        assert_int_equal(unlink(to), 0);
        qn_assert_ok(save_step(dir, 2, 20));
        assert_int_equal(load_newest(dir, 20), 2);
    }
    qn_test_dir_remove(dir);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* The k-th allocation fails, once or from then on, for every k: a clean "out of memory", no leak (a
 * leak check of the build makes the exit code differ), and the old checkpoint stays. */
static void test_allocations(void **state) {
    (void)state;
    static child c[1];
    for (int onward = 0; onward < 2; onward++) {
        int k = 1;
        for (;; k++) {
            char *dir = qn_test_dir(), number[32];
            qn_assert_ok(save_step(dir, 1, 10));
            char id[QN_PATH_MAX];
            qn_assert_ok(qn_path_format(id, sizeof id, "%s/run.id", dir));
            qn_assert_ok(qn_file_create(id, "00112233445566778899aabbccddeeff\n\n", 34));
            snprintf(number, sizeof number, "%d%s", k, onward ? "+" : "");
            setenv("QUERN_FAIL_ALLOC", number, 1);
            child_start(c, (const char *const[]){self(), "all", dir, NULL});
            unsetenv("QUERN_FAIL_ALLOC");
            int status = child_finish(c);
            assert_true(load_newest(dir, 10) >= 1);
            qn_test_dir_remove(dir);
            if (status == 0) break;
            if (!WIFEXITED(status) || WEXITSTATUS(status) != 4) {
                fail_msg("allocation %s failed: wait status %d", number, status);
            }
        }
        print_message("%d allocations made to fail%s\n", k - 1, onward ? " from there on" : "");
        assert_true(k > 20);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) return worker(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_random),     cmocka_unit_test(test_kill_at_every_call),
        cmocka_unit_test(test_failing_calls),   cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_file_size_limit), cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_wrong_files),     cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests_name("checkpoint_fault", tests, NULL, NULL);
}
