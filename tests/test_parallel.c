/* test_parallel.c — the thread pool: every task once, indices in range, regions within regions. */
#include "engine/engine.h"
#include "tests/harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { TASKS = 1000, THREADS = 4, REGIONS = 20000 };

typedef struct counts {
    _Atomic int runs[TASKS];
    _Atomic int bad_index;
    int threads;
} counts;

static void count(void *ctx, int64_t i) {
    counts *c = ctx;
    atomic_fetch_add(&c->runs[i], 1);
    int index = qn_parallel_thread();
    if (index < 0 || index >= c->threads) atomic_fetch_add(&c->bad_index, 1);
}

static void assert_each_once(const counts *c, int64_t n) {
    for (int64_t i = 0; i < TASKS; i++) assert_int_equal(c->runs[i], i < n ? 1 : 0);
    assert_int_equal(c->bad_index, 0);
}

static void test_every_task_runs_once(void **state) {
    (void)state;
    static const int64_t sizes[] = {0, 1, 2, 3, 7, TASKS};
    for (int threads = 1; threads <= THREADS; threads++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            counts c = {.threads = threads};
            qn_parallel_for(threads, sizes[i], count, &c);
            assert_each_once(&c, sizes[i]);
        }
    }
}

/* Short regions of changing size, one right after the other: a worker that comes late to one must
 * not take a task of the next by mistake. */
static void test_regions_follow_each_other(void **state) {
    (void)state;
    for (int r = 0; r < REGIONS; r++) {
        counts c;
        memset(&c, 0, sizeof c);
        c.threads = 2 + r % (THREADS - 1);
        int64_t n = 1 + r % 13;
        qn_parallel_for(c.threads, n, count, &c);
        int64_t sum = 0;
        for (int64_t i = 0; i < TASKS; i++) sum += c.runs[i];
        assert_int_equal(sum, n);
        for (int64_t i = 0; i < n; i++) assert_int_equal(c.runs[i], 1);
        assert_int_equal(c.bad_index, 0);
    }
}

typedef struct outer {
    counts inner[8];
} outer;

static void nest(void *ctx, int64_t i) {
    outer *o = ctx;
    int before = qn_parallel_thread();
    o->inner[i].threads = THREADS;
    qn_parallel_for(THREADS, TASKS, count, &o->inner[i]);
    if (qn_parallel_thread() != before) atomic_fetch_add(&o->inner[i].bad_index, 1);
}

static void test_a_region_inside_a_task_runs_in_place(void **state) {
    (void)state;
    static outer o;
    qn_parallel_for(THREADS, 8, nest, &o);
    for (int i = 0; i < 8; i++) assert_each_once(&o.inner[i], TASKS);
}

static void *caller(void *arg) {
    for (int r = 0; r < 200; r++) {
        counts c = {.threads = THREADS};
        qn_parallel_for(THREADS, TASKS, count, &c);
        for (int64_t i = 0; i < TASKS; i++) {
            if (c.runs[i] != 1) *(int *)arg = 1;
        }
    }
    return NULL;
}

static void test_two_callers_at_once(void **state) {
    (void)state;
    pthread_t thread[2];
    int wrong[2] = {0, 0};
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, caller, &wrong[i]), 0);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(wrong[0] + wrong[1], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_task_runs_once),
        cmocka_unit_test(test_regions_follow_each_other),
        cmocka_unit_test(test_a_region_inside_a_task_runs_in_place),
        cmocka_unit_test(test_two_callers_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
