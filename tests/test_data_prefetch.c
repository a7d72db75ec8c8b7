/* test_data_prefetch.c — background loading gives the same bytes and errors as the source itself,
 * also when expectations are wrong, and every allocation of a data source may fail. */
#include "io/data.h"
#include "tests/harness.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- a source that can be told to fail and to wait ------------------------------------------- */

typedef struct toy {
    atomic_int calls, inside, freed;
    int64_t fail_at; /* a fetch from this position on fails */
    pthread_mutex_t gate;
} toy;

enum { WIDTH = 3 };

static qn_status toy_fetch(void *self, qn_split split, int64_t position, int64_t count,
                           void *const *dst, int64_t *labels) {
    toy *t = self;
    assert_int_equal(atomic_fetch_add(&t->inside, 1), 0); /* never two at once */
    pthread_mutex_lock(&t->gate);
    float *x = dst[0];
    int32_t *y = dst[1];
    for (int64_t i = 0; i < count; i++) {
        for (int k = 0; k < WIDTH; k++) x[i * WIDTH + k] = (float)(position + i) + 0.25f * (float)k;
        y[i] = (int32_t)(position + i) * 10 + (int32_t)split;
    }
    *labels = position + count;
    pthread_mutex_unlock(&t->gate);
    atomic_fetch_add(&t->calls, 1);
    atomic_fetch_sub(&t->inside, 1);
    if (position >= t->fail_at) return qn_fail(QN_ERR_DATA, "toy: bad sample %d", (int)position);
    return QN_OK;
}

static void toy_free(void *self) { atomic_fetch_add(&((toy *)self)->freed, 1); }

static qn_source make_toy(toy *t) {
    *t = (toy){.fail_at = 1 << 20};
    pthread_mutex_init(&t->gate, NULL);
    qn_source s = {
        .self = t, .n_fields = 2, .n = {100, 10, 0}, .fetch = toy_fetch, .free = toy_free};
    s.field[0] = (qn_field){"features", QN_F32, 1, {WIDTH}};
    s.field[1] = (qn_field){"targets", QN_I32, 0, {0}};
    return s;
}

static qn_status get(const qn_source *s, qn_split split, int64_t position, int64_t count) {
    float x[64 * WIDTH];
    int32_t y[64];
    void *dst[] = {x, y};
    int64_t labels = -1;
    memset(x, 0xFF, sizeof x);
    qn_status status = s->fetch(s->self, split, position, count, dst, &labels);
    if (status != QN_OK) return status;
    assert_int_equal(labels, position + count);
    for (int64_t i = 0; i < count; i++) {
        assert_true(x[i * WIDTH + 2] == (float)(position + i) + 0.5f);
        assert_int_equal(y[i], (position + i) * 10 + split);
    }
    return QN_OK;
}

static void expected_requests_are_prepared(void **state) {
    (void)state;
    toy t;
    qn_source s = make_toy(&t);
    qn_assert_ok(qn_prefetch_create(&s, 2, &s));
    assert_int_equal(s.n[0], 100);
    for (int64_t p = 0; p < 400; p += 4) {
        s.expect(s.self, QN_SPLIT_TRAIN, p, 4);
        s.expect(s.self, QN_SPLIT_TRAIN, p + 4, 4);
        s.expect(s.self, QN_SPLIT_TRAIN, p + 4, 4); /* twice is once */
        s.expect(s.self, QN_SPLIT_TRAIN, p + 8, 4); /* no room: forgotten */
        qn_assert_ok(get(&s, QN_SPLIT_TRAIN, p, 4));
    }
    double seconds = s.wait_seconds(s.self);
    assert_true(seconds >= 0 && isfinite(seconds));
    s.free(s.self);
    assert_in_range(atomic_load(&t.calls), 100, 101);
    assert_int_equal(atomic_load(&t.freed), 1);
}

static void wrong_expectations_do_no_harm(void **state) {
    (void)state;
    for (int depth = 1; depth <= 4; depth++) {
        toy t;
        qn_source s = make_toy(&t);
        qn_assert_ok(qn_prefetch_create(&s, depth, &s));
        for (uint64_t i = 0; i < 3000; i++) {
            uint32_t r = qn_random_u32(7, (uint64_t)depth, i);
            qn_split split = (qn_split)(r & 1);
            int64_t position = r >> 1 & 7, count = 1 + (r >> 4 & 3);
            if (r >> 8 & 1)
                s.expect(s.self, split, position, count);
            else
                qn_assert_ok(get(&s, split, position, count));
        }
        s.free(s.self);
    }
}

static void evaluation_between_keeps_the_next_batch(void **state) {
    (void)state;
    toy t;
    qn_source s = make_toy(&t);
    qn_assert_ok(qn_prefetch_create(&s, 3, &s));
    s.expect(s.self, QN_SPLIT_TRAIN, 8, 4);
    for (int64_t p = 0; p < 12; p += 4) qn_assert_ok(get(&s, QN_SPLIT_VAL, p, 4));
    qn_assert_ok(get(&s, QN_SPLIT_TRAIN, 8, 4));
    assert_int_equal(atomic_load(&t.calls), 4); /* train was loaded once, in the background */
    s.free(s.self);
}

static void errors_cross_the_thread(void **state) {
    (void)state;
    toy t;
    qn_source s = make_toy(&t);
    t.fail_at = 8;
    qn_assert_ok(qn_prefetch_create(&s, 2, &s));
    s.expect(s.self, QN_SPLIT_TRAIN, 4, 4);
    s.expect(s.self, QN_SPLIT_TRAIN, 8, 4);
    qn_assert_ok(get(&s, QN_SPLIT_TRAIN, 4, 4));
    qn_error_clear();
    assert_int_equal(get(&s, QN_SPLIT_TRAIN, 8, 4), QN_ERR_DATA);
    assert_string_equal(qn_error_message(), "toy: bad sample 8");
    assert_int_equal(get(&s, QN_SPLIT_TRAIN, 12, 4), QN_ERR_DATA);
    assert_string_equal(qn_error_message(), "toy: bad sample 12");
    qn_assert_ok(get(&s, QN_SPLIT_TRAIN, 0, 4));
    s.free(s.self);
}

/* Freed while the thread loads, while it waits and before it ever ran. */
static void shuts_down_at_any_moment(void **state) {
    (void)state;
    for (int i = 0; i < 60; i++) {
        toy t;
        qn_source s = make_toy(&t);
        qn_assert_ok(qn_prefetch_create(&s, 4, &s));
        for (int k = 0; k < i % 6; k++) s.expect(s.self, QN_SPLIT_TRAIN, 4 * k, 4);
        if (i % 3 == 0) qn_assert_ok(get(&s, QN_SPLIT_TRAIN, 4, 4));
        s.free(s.self);
        assert_int_equal(atomic_load(&t.freed), 1);
    }
}

/* A loop slower than the source waits next to nothing; one that waits is told so. */
static void waiting_is_counted(void **state) {
    (void)state;
    toy t;
    qn_source s = make_toy(&t);
    qn_assert_ok(qn_prefetch_create(&s, 1, &s));
    double start = qn_clock();
    for (int64_t p = 0; p < 50; p++) qn_assert_ok(get(&s, QN_SPLIT_TRAIN, p, 8));
    double most = qn_clock() - start, waited = s.wait_seconds(s.self);
    assert_true(waited > 0 && waited <= most);
    s.expect(s.self, QN_SPLIT_TRAIN, 50, 8);
    while (atomic_load(&t.calls) < 51) sched_yield();
    qn_assert_ok(get(&s, QN_SPLIT_TRAIN, 50, 8));
    assert_true(s.wait_seconds(s.self) >= waited);
    s.free(s.self);
    qn_source bad = make_toy(&t);
    assert_int_equal(qn_prefetch_create(&bad, 0, &s), QN_ERR_CONFIG);
    assert_int_equal(atomic_load(&t.freed), 0);
}

/* ---- a real source, with and without --------------------------------------------------------- */

static char *write_text(const char *dir) {
    char *path = qn_sprintf("%s/text.txt", dir);
    FILE *f = path ? fopen(path, "w") : NULL;
    if (!f) return NULL;
    for (int i = 0; i < 20000; i++) fprintf(f, "line %d of a text\n", i * 7919 % 20000);
    return fclose(f) == 0 ? path : NULL;
}

static qn_status open_text(const char *path, qn_source *s, qn_vocab **v) {
    const char *list[] = {path};
    qn_data_options o = {.type = QN_DATA_TEXT, .vocabulary = QN_VOCAB_CHAR, .block_size = 32};
    o.paths[QN_SPLIT_TRAIN] = (qn_strings){list, 1};
    o.val_fraction = 0.1;
    return qn_data_open(&o, s, v);
}

static void same_bytes_as_without(void **state) {
    enum { B = 12, T = 32, STEPS = 300 };
    char *path = write_text(*state);
    qn_source plain, s;
    qn_vocab *v[2];
    static int32_t got[2][B * T], want[2][B * T];
    void *to_got[] = {got[0], got[1]}, *to_want[] = {want[0], want[1]};
    qn_assert_ok(open_text(path, &plain, &v[0]));
    qn_assert_ok(open_text(path, &s, &v[1]));
    qn_assert_ok(qn_prefetch_create(&s, 2, &s));
    assert_true(s.identity == plain.identity);
    for (int64_t step = 0; step < STEPS; step++) {
        qn_split split = step % 50 == 49 ? QN_SPLIT_VAL : QN_SPLIT_TRAIN;
        int64_t a = 0, b = 0, at = step * B;
        s.expect(s.self, QN_SPLIT_TRAIN, at, B);
        s.expect(s.self, QN_SPLIT_TRAIN, at + B, B);
        qn_assert_ok(s.fetch(s.self, split, at, B, to_got, &a));
        qn_assert_ok(plain.fetch(plain.self, split, at, B, to_want, &b));
        assert_int_equal(a, b);
        assert_memory_equal(got, want, sizeof got);
    }
    plain.free(plain.self);
    s.free(s.self);
    qn_vocab_free(v[0]);
    qn_vocab_free(v[1]);
    qn_free(path);
}

/* ---- failing allocations --------------------------------------------------------------------- */

static qn_status open_items(const char *path, qn_source *s, qn_vocab **v) {
    qn_data_options o = {.type = QN_DATA_IDX, .division = QN_DATA_RANDOM, .val_fraction = 0.25};
    char labels[4096];
    snprintf(labels, sizeof labels, "%s.labels", path);
    o.images[0] = path;
    o.labels[0] = labels;
    return qn_data_open(&o, s, v);
}

static bool ends_in(const char *path, const char *end) {
    size_t n = strlen(path), m = strlen(end);
    return n >= m && strcmp(path + n - m, end) == 0;
}

/* Runs in a process of its own: 0 = all went well, 4 = clean out of memory, all else is a bug. */
static int probe(const char *path) {
    qn_source s;
    qn_vocab *v = NULL;
    int32_t x[64], y[64];
    void *dst[] = {x, y};
    int64_t labels;
    bool text = !ends_in(path, ".idx");
    qn_status status = text ? open_text(path, &s, &v) : open_items(path, &s, &v);
    if (status != QN_OK) return v ? 1 : qn_status_exit_code(status);
    qn_source wrapped = s;
    status = qn_prefetch_create(&s, 1, &wrapped);
    if (status == QN_OK) wrapped.expect(wrapped.self, QN_SPLIT_TRAIN, 0, 2);
    if (status == QN_OK) status = wrapped.fetch(wrapped.self, QN_SPLIT_TRAIN, 0, 2, dst, &labels);
    wrapped.free(wrapped.self);
    char *json = NULL;
    qn_vocab *back = NULL;
    if (status == QN_OK && text) status = qn_vocab_save(v, &json);
    if (status == QN_OK && text) status = qn_vocab_load(json, &back);
    qn_free(json);
    qn_vocab_free(back);
    qn_vocab_free(v);
    return qn_status_exit_code(status);
}

static int run_probe(const char *path, int fail_at) {
    char number[32];
    char *arguments[] = {"probe", "--probe", (char *)(uintptr_t)path, NULL};
    pid_t pid;
    int result = 0;
    snprintf(number, sizeof number, "%d", fail_at);
    setenv("QUERN_FAIL_ALLOC", number, 1);
    int r = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ);
    unsetenv("QUERN_FAIL_ALLOC");
    assert_int_equal(r, 0);
    assert_int_equal(waitpid(pid, &result, 0), pid);
    if (!WIFEXITED(result)) fail_msg("allocation %d: killed by signal", fail_at);
    return WEXITSTATUS(result);
}

static void check_probe(const char *path) {
    int n = 1, code;
    while ((code = run_probe(path, n)) != 0) {
        if (code != 4) fail_msg("%s, allocation %d: exit code %d", path, n, code);
        assert_true(++n < 500);
    }
    assert_true(n > 10);
}

/* Sanitizers also look for leaks in each of these processes. */
static void every_allocation_may_fail(void **state) {
    const char *dir = *state, *packed = qn_test_data("tinyshakespeare/input.txt.gz");
    static const unsigned char images[] = {0, 0, 8, 2, 0, 0, 0, 4, 0, 0, 0, 1, 1, 2, 3, 4};
    static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1};
    char path[1024];
    char *text = write_text(dir);
    check_probe(text);
    for (int i = 0; i < 20; i++) { /* a directory: walked, joined by separators */
        snprintf(path, sizeof path, "%s/text-%d.txt", dir, i);
        FILE *f = fopen(path, "w");
        assert_true(f && fprintf(f, "text %d of some length", i) > 0 && fclose(f) == 0);
    }
    check_probe(dir);
    snprintf(path, sizeof path, "%s/text-*.txt", dir);
    check_probe(path);
    snprintf(path, sizeof path, "%s/a.idx.labels", dir);
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(labels, 1, sizeof labels, f) == sizeof labels && fclose(f) == 0);
    path[strlen(path) - strlen(".labels")] = '\0';
    f = fopen(path, "wb");
    assert_true(f && fwrite(images, 1, sizeof images, f) == sizeof images && fclose(f) == 0);
    check_probe(path);
    if (packed) check_probe(packed); /* last: it fills the cache beside the text */
    qn_free(text);
}

static int setup(void **state) {
    *state = qn_test_dir();
    setenv("XDG_CACHE_HOME", *state, 1);
    return 0;
}

static int teardown(void **state) {
    qn_test_dir_remove(*state);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--probe") == 0) return probe(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expected_requests_are_prepared),
        cmocka_unit_test(wrong_expectations_do_no_harm),
        cmocka_unit_test(evaluation_between_keeps_the_next_batch),
        cmocka_unit_test(errors_cross_the_thread),
        cmocka_unit_test(shuts_down_at_any_moment),
        cmocka_unit_test(waiting_is_counted),
        cmocka_unit_test_setup_teardown(same_bytes_as_without, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
