/* cmocka.h — the part of cmocka that the tests use, for a program that carries no library along.
 *
 * Same names, same lines on the terminal. See cmocka.c.
 */
#ifndef QN_PLAIN_CMOCKA_H
#define QN_PLAIN_CMOCKA_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    int (*setup_func)(void **state);
    int (*teardown_func)(void **state);
} CMUnitTest;

typedef int suite_fixture(void **state);

#define cmocka_unit_test(f)                                                                        \
    { #f, f, NULL, NULL }
#define cmocka_unit_test_setup_teardown(f, setup, teardown)                                        \
    { #f, f, setup, teardown }

int suite_run(const CMUnitTest *tests, size_t n, suite_fixture *setup, suite_fixture *teardown);
#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    suite_run(tests, sizeof(tests) / sizeof *(tests), setup, teardown)
#define cmocka_run_group_tests_name(name, tests, setup, teardown)                                  \
    cmocka_run_group_tests(tests, setup, teardown)

void print_message(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Both end the test that runs. */
void suite_fail(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
void suite_skip(void) __attribute__((noreturn));

#define fail_msg(...) suite_fail(__FILE__, __LINE__, __VA_ARGS__)
#define skip()        suite_skip()

/* The condition of an assertion is evaluated once. */
#define suite_check(condition, text)                                                               \
    do {                                                                                           \
        if (!(condition)) suite_fail(__FILE__, __LINE__, "%s", text);                              \
    } while (0)
#define suite_here                   __FILE__, __LINE__
#define assert_true(c)               suite_check(c, #c)
#define assert_false(c)              suite_check(!(c), "not " #c)
#define assert_null(p)               suite_check((p) == NULL, #p " is NULL")
#define assert_non_null(p)           suite_check((p) != NULL, #p " is not NULL")
#define assert_ptr_equal(a, b)       suite_pointers(a, b, suite_here)
#define assert_memory_equal(a, b, n) suite_check(memcmp(a, b, n) == 0, #a " == " #b)
#define assert_string_equal(a, b)    suite_strings(a, b, suite_here)
#define assert_int_equal(a, b)       suite_integers((int64_t)(a), (int64_t)(b), 0, suite_here)
#define assert_int_not_equal(a, b)   suite_integers((int64_t)(a), (int64_t)(b), 1, suite_here)
#define assert_in_range(v, low, high)                                                              \
    suite_check((uint64_t)(v) >= (uint64_t)(low) && (uint64_t)(v) <= (uint64_t)(high), #v)

void suite_integers(int64_t a, int64_t b, int different, const char *file, int line);
void suite_pointers(const void *a, const void *b, const char *file, int line);
void suite_strings(const char *a, const char *b, const char *file, int line);

#endif
