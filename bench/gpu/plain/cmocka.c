/* cmocka.c — runs tests one after the other and reports them in cmocka's lines.
 *
 * Stands in for the library in quern_gpu, which must start on a machine that has none. No mocks, no
 * watch over allocations; a test that fails is left by longjmp, as in cmocka.
 */
#include "bench/gpu/plain/cmocka.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

enum { FAILED = 1, SKIPPED = 2 };

static jmp_buf leave; /* the test that runs; assertions are made on its thread */

void print_message(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    fflush(stdout);
}

void suite_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("[  ERROR   ] --- ");
    vprintf(format, args);
    va_end(args);
    printf("\n[   LINE   ] --- %s:%d: error: Failure!\n", file, line);
    longjmp(leave, FAILED);
}

void suite_skip(void) { longjmp(leave, SKIPPED); }

void suite_integers(int64_t a, int64_t b, int different, const char *file, int line) {
    if ((a != b) == (different != 0)) return;
    suite_fail(file, line, "%lld %s %lld", (long long)a, different ? "==" : "!=", (long long)b);
}

void suite_pointers(const void *a, const void *b, const char *file, int line) {
    if (a != b) suite_fail(file, line, "%p != %p", a, b);
}

void suite_strings(const char *a, const char *b, const char *file, int line) {
    if (strcmp(a, b) != 0) suite_fail(file, line, "\"%s\" != \"%s\"", a, b);
}

static int run_one(const CMUnitTest *t, void **state) {
    int left = setjmp(leave);
    if (left == 0) {
        if (t->setup_func && t->setup_func(state) != 0) {
            printf("[  ERROR   ] --- its set-up failed\n");
            return FAILED;
        }
        t->test_func(state);
    }
    if (t->teardown_func) (void)t->teardown_func(state);
    return left;
}

int suite_run(const CMUnitTest *tests, size_t n, suite_fixture *setup, suite_fixture *teardown) {
    static const char *const result[] = {"      OK", " FAILED ", " SKIPPED"};
    void *state = NULL;
    int failed = 0;
    if (setup && setup(&state) != 0) {
        printf("[  FAILED  ] the set-up of all tests\n");
        return 1;
    }
    for (size_t i = 0; i < n; i++) {
        void *own = state;
        printf("[ RUN      ] %s\n", tests[i].name);
        fflush(stdout);
        int left = run_one(&tests[i], &own);
        printf("[ %s ] %s\n", result[left], tests[i].name);
        fflush(stdout);
        failed += left == FAILED;
    }
    if (teardown) (void)teardown(&state);
    return failed;
}
