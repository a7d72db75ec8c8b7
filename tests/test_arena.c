/* test_arena.c — set-up allocations, failure injection, bump arenas, device arenas, checked sums.
 *
 * Failure injection is read from the environment once per process, so that test runs this
 * executable again with QUERN_FAIL_ALLOC set; the child answers with its exit status.
 */
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void allocations_are_zeroed_and_counted(void **state) {
    (void)state;
    int64_t before = qn_alloc_count();
    unsigned char *p = qn_alloc(100, "a test");
    assert_non_null(p);
    for (int i = 0; i < 100; i++) assert_int_equal(p[i], 0);
    memset(p, 1, 100);
    p = qn_realloc(p, 100, 5000, "a test");
    assert_non_null(p);
    for (int i = 0; i < 5000; i++) assert_int_equal(p[i], i < 100);
    assert_int_equal(qn_alloc_count() - before, 2);
    qn_free(p);
    qn_free(NULL);
    void *empty = qn_alloc(0, "nothing");
    assert_non_null(empty);
    qn_free(empty);
}

static void texts(void **state) {
    (void)state;
    char *a = qn_strdup("quern", "a text"), *b = qn_sprintf("%s-%04d", "step", 42);
    assert_string_equal(a, "quern");
    assert_string_equal(b, "step-0042");
    qn_free(a);
    qn_free(b);
}

static void setup_arena_keeps_objects_apart(void **state) {
    (void)state;
    enum { N = 3000 };
    qn_setup *s;
    qn_assert_ok(qn_setup_create("test", &s));
    int64_t before = qn_alloc_count();
    unsigned char *object[N];
    for (int i = 0; i < N; i++) {
        object[i] = qn_setup_alloc(s, (size_t)(i % 97 + 1));
        assert_non_null(object[i]);
        assert_int_equal((uintptr_t)object[i] % 16, 0);
        for (int k = 0; k <= i % 97; k++) assert_int_equal(object[i][k], 0);
        memset(object[i], i & 0xFF, (size_t)(i % 97 + 1));
    }
    for (int i = 0; i < N; i++) {
        for (int k = 0; k <= i % 97; k++) assert_int_equal(object[i][k], i & 0xFF);
    }
    assert_true(qn_alloc_count() - before < 10); /* chunks, not objects */
    size_t used = qn_setup_bytes(s);
    assert_true(used >= 3000 * 49 && used < 3000 * 70);
    assert_non_null(qn_setup_alloc(s, 1 << 20)); /* larger than a chunk */
    assert_string_equal(qn_setup_strdup(s, "text"), "text");
    assert_null(qn_setup_alloc(s, SIZE_MAX - 4));
    qn_setup_free(s);
    qn_setup_free(NULL);
}

static void device_arena(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 4096, 4097, (size_t)3 << 20};
    for (int i = 0; i < 5; i++) {
        qn_arena *a;
        qn_assert_ok(qn_arena_create("test", sizes[i], &a));
        unsigned char *p = qn_arena_base(a);
        assert_non_null(p);
        assert_int_equal(qn_arena_bytes(a), sizes[i]);
        assert_int_equal((uintptr_t)p % (sizes[i] >= (size_t)2 << 20 ? (size_t)2 << 20 : 4096), 0);
        for (size_t k = 0; k < sizes[i]; k += 511) assert_int_equal(p[k], 0);
        qn_arena_poison(a);
        for (size_t k = 0; k < sizes[i]; k += 511) assert_int_equal(p[k], 0xFF);
        qn_arena_free(a);
    }
    qn_arena *a = NULL;
    assert_int_equal(qn_arena_create("pool", SIZE_MAX - 10, &a), QN_ERR_OOM);
    assert_non_null(strstr(qn_error_message(), "the pool arena"));
    assert_null(a);
    qn_arena_free(NULL);
}

static void checked_arithmetic(void **state) {
    (void)state;
    int64_t r = 0;
    assert_true(qn_mul_i64(1 << 20, 1 << 20, &r) && r == INT64_C(1) << 40);
    assert_true(qn_add_i64(INT64_MAX - 1, 1, &r) && r == INT64_MAX);
    assert_false(qn_mul_i64(INT64_C(1) << 32, INT64_C(1) << 31, &r));
    assert_false(qn_add_i64(INT64_MAX, 1, &r));
    assert_false(qn_mul_i64(-1, 1, &r));
    assert_false(qn_add_i64(1, -1, &r));
}

/* In the child: five allocations; bit i of the answer is set when the i-th failed as it should. */
static int child(void) {
    int failed = 0;
    for (int i = 0; i < 5; i++) {
        void *p = qn_alloc(8, "the child's object");
        if (!p) {
            bool told =
                strcmp(qn_error_message(), "out of memory: 8 bytes for the child's object") == 0;
            failed |= (told ? 1 : 0) << i;
        }
        qn_free(p);
    }
    return failed;
}

static int run_child(const char *inject) {
    char command[4300], path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    assert_true(n > 0);
    path[n] = '\0';
    snprintf(command, sizeof command, "QUERN_FAIL_ALLOC='%s' '%s' child", inject, path);
    int status = system(command);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void injected_failures(void **state) {
    (void)state;
    assert_int_equal(run_child(""), 0);
    assert_int_equal(run_child("3"), 1 << 2);
    assert_int_equal(run_child("3+"), 1 << 2 | 1 << 3 | 1 << 4);
    assert_int_equal(run_child("1+"), 31);
    assert_int_equal(run_child("6"), 0);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "child") == 0) return child();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_are_zeroed_and_counted),
        cmocka_unit_test(texts),
        cmocka_unit_test(setup_arena_keeps_objects_apart),
        cmocka_unit_test(device_arena),
        cmocka_unit_test(checked_arithmetic),
        cmocka_unit_test(injected_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
