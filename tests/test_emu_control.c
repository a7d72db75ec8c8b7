/* test_emu_control.c — what surrounds arithmetic in translated PTX: branches, scopes, calls, device
 * variables, shared-memory layout, launch attributes, sites and ranges.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "kernels/emu/machine.h"

enum { WARP = 32 };

/* ---- kernels by name ------------------------------------------------------------------------- */

static const qe_kernel *kernel(const char *name) { /* the first: both PTX sets say the same */
    for (const qe_module *m = qe_module_first(); m; m = m->next)
        for (uint32_t i = 0; i < m->n_kernels; i++)
            if (strcmp(m->kernels[i].name, name) == 0) return &m->kernels[i];
    fail_msg("no kernel %s", name);
    return NULL;
}

static bool launch(const char *name, uint32_t threads, uint32_t dynamic, const void *params) {
    const qe_shape one = {1, 1, 1}, block = {threads, 1, 1};
    return qe_run(kernel(name), one, block, one, dynamic, params);
}

typedef struct out_and_n {
    void *out;
    uint32_t n;
} out_and_n;

/* ---- hand-written PTX ------------------------------------------------------------------------ */

static uint64_t runs_of(const qe_module *m, const char *ptx) { /* the first site of that text */
    for (uint32_t r = 0; r < m->n_ranges; r++)
        for (uint32_t i = 0; i < m->ranges[r].n_sites; i++)
            if (strcmp(m->sites[m->ranges[r].first_site + i].ptx, ptx) == 0) return m->runs[r];
    fail_msg("no site %s", ptx);
    return 0;
}

static void test_loop_and_ranges(void **state) {
    enum { N = 5 };
    uint32_t *out = qe_memory_alloc(WARP * sizeof *out);
    const qe_module *m = kernel("loop")->module;
    (void)state;
    assert_non_null(out);
    memset(m->runs, 0, m->n_ranges * sizeof *m->runs);
    assert_true(launch("loop", WARP, 0, &(out_and_n){out, N}));
    for (int i = 0; i < WARP; i++) assert_int_equal(out[i], 0 + 1 + 2 + 3 + 4 + 2 * 100);
    assert_int_equal(runs_of(m, "mov.u32 %r3, 0"), WARP);
    assert_int_equal(runs_of(m, "add.u32 %r2, %r2, %r3"), WARP * N);
    assert_int_equal(runs_of(m, "@!%p1 add.u32 %r2, %r2, 100"), WARP * 2);
    assert_int_equal(runs_of(m, "@%p2 bra again"), WARP * N);
    assert_int_equal(runs_of(m, "st.global.u32 [%rd3], %r2"), WARP);
    qe_memory_free(out);
}

/* Every site lies in exactly one range, and names the line of its text. */
static void test_sites(void **state) {
    (void)state;
    for (const qe_module *m = qe_module_first(); m; m = m->next) {
        uint32_t next = 0;
        for (uint32_t r = 0; r < m->n_ranges; r++) {
            assert_int_equal(m->ranges[r].first_site, next);
            assert_true(m->ranges[r].n_sites > 0);
            next += m->ranges[r].n_sites;
        }
        assert_int_equal(next, m->n_sites);
        for (uint32_t i = 0; i < m->n_sites; i++) {
            assert_string_equal(m->sites[i].file, m->file);
            assert_true(m->sites[i].line > 1);
        }
    }
}

static void test_branch_table(void **state) {
    uint32_t *out = qe_memory_alloc(3 * sizeof *out);
    (void)state;
    assert_true(launch("table", 3, 0, &out));
    assert_int_equal(out[0], 30);
    assert_int_equal(out[1], 10);
    assert_int_equal(out[2], 20);
    qe_memory_free(out);
}

static void test_scopes(void **state) {
    uint32_t *out = qe_memory_alloc(2 * sizeof *out);
    (void)state;
    assert_true(launch("scopes", 2, 0, &out));
    assert_int_equal(out[0], 54);
    assert_int_equal(out[1], 62);
    qe_memory_free(out);
}

static void test_shared_layout(void **state) {
    uint32_t *out = qe_memory_alloc(5 * sizeof *out);
    const qe_kernel *k = kernel("layout");
    (void)state;
    assert_true(launch("layout", 1, 64, &out));
    uint32_t low = out[0];
    for (int i = 1; i < 4; i++) low = out[i] < low ? out[i] : low;
    assert_int_equal(out[0] % 4, 0);
    assert_int_equal(out[1] % 16, 0);
    assert_int_equal(out[2] % 128, 0);
    assert_int_equal(out[3] % 64, 0);
    assert_int_equal(out[4], out[1] + 4);
    /* 12, 32 and 4 bytes that do not meet; what the kernel does not name takes no room */
    assert_true(out[1] >= out[0] + 12 || out[0] >= out[1] + 32);
    assert_true(out[3] >= out[0] + 12 && out[3] >= out[1] + 32);
    assert_int_equal(k->static_shared, 128);
    assert_int_equal(out[2], low + k->static_shared);
    qe_memory_free(out);
}

static void test_attributes(void **state) {
    const qe_kernel *k = kernel("attributes"), *x = kernel("exact");
    (void)state;
    assert_int_equal(k->max_threads, 96);
    assert_int_equal(k->min_blocks, 2);
    assert_int_equal(k->required_cluster[0], 2);
    assert_int_equal(k->required_cluster[1], 1);
    assert_int_equal(k->required_threads[0], 0);
    assert_int_equal(k->local_bytes, 48);
    assert_int_equal(k->n_params, 4);
    const qe_param expected[4] = {{0, 1}, {8, 8}, {16, 20}, {36, 2}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(k->params[i].offset, expected[i].offset);
        assert_int_equal(k->params[i].bytes, expected[i].bytes);
    }
    assert_int_equal(k->param_bytes, 38);
    assert_int_equal(x->required_threads[0], 64);
    assert_int_equal(x->required_threads[1], 2);
    assert_int_equal(x->required_threads[2], 1);
    assert_int_equal(x->n_params, 0);
}

static const qe_symbol *symbol(const char *name) {
    const qe_module *m = kernel("symbols")->module;
    for (uint32_t i = 0; i < m->n_symbols; i++)
        if (strcmp(m->symbols[i].name, name) == 0) return &m->symbols[i];
    fail_msg("no symbol %s", name);
    return NULL;
}

static void test_symbols(void **state) {
    uint32_t *out = qe_memory_alloc(5 * sizeof *out);
    (void)state;
    assert_int_equal(symbol("numbers")->bytes, 12);
    assert_int_equal(symbol("empty")->bytes, 40);
    assert_int_equal((uintptr_t)symbol("empty")->address % 16, 0);
    assert_true(launch("symbols", 1, 0, &out));
    assert_int_equal(out[0], 8);
    assert_int_equal(out[1], 0x90);
    assert_int_equal(out[2], 'h' | 'i' << 8);
    assert_int_equal(out[3], 0x3fc00000);
    assert_int_equal(out[4], 0x40040000);
    qe_memory_free(out);
}

static void test_barriers(void **state) {
    enum { THREADS = 64 };
    uint32_t *out = qe_memory_alloc(THREADS * 4 * sizeof *out);
    (void)state;
    assert_true(launch("barriers", THREADS, 0, &out));
    for (uint32_t i = 0; i < THREADS; i++) {
        assert_int_equal(out[4 * i], 40);
        assert_int_equal(out[4 * i + 1], 1);
        assert_int_equal(out[4 * i + 2], i < WARP ? 0xffffffff : 0xff);
        assert_int_equal(out[4 * i + 3], i ^ 1);
    }
    qe_memory_free(out);
}

static void test_ranks(void **state) {
    enum { THREADS = 64, OWN = 1, UNIFORM = 8, ELECTED = 16, ELECTED_AGAIN = 32, MAPPED = 64 };
    uint32_t *out = qe_memory_alloc(THREADS * 4 * sizeof *out);
    (void)state;
    out[0] = 77;
    assert_true(launch("ranks", THREADS, 0, &out));
    for (uint32_t i = 0; i < THREADS; i++) {
        uint32_t bits = OWN | MAPPED;
        if (i < WARP) bits |= UNIFORM; /* of the second warp some lanes say yes, some no */
        if (i % WARP == 0) bits |= ELECTED | ELECTED_AGAIN;
        assert_int_equal(out[4 * i], 0);
        assert_int_equal(out[4 * i + 1], 0); /* the elected lane */
        assert_int_equal(out[4 * i + 3], bits);
    }
    assert_int_equal(out[2], 77);
    qe_memory_free(out);
}

/* ---- what nvcc makes of functions ------------------------------------------------------------ */

static int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static void test_calls(void **state) {
    float *y = qe_memory_alloc(WARP * 4 * sizeof *y);
    int *n = qe_memory_alloc(WARP * sizeof *n);
    struct {
        float *y;
        int *n;
    } params = {y, n};
    (void)state;
    for (int i = 0; i < WARP; i++) n[i] = i % 15;
    assert_true(launch("calls", WARP, 0, &params));
    for (int i = 0; i < WARP; i++) {
        float x = (float)i;
        assert_true(y[4 * i] == (float)fibonacci(n[i]));
        assert_true(y[4 * i + 1] == 2.0f * (float)(n[i] % 12 + i));
        assert_true(y[4 * i + 2] == (i & 1 ? x * x : x + 1.0f));
        assert_true(y[4 * i + 3] == (i & 1 ? x * x : 3.0f * x * x));
    }
    qe_memory_free(y);
    qe_memory_free(n);
}

static int chosen(int r) {
    switch (r & 7) {
    case 0: return r + 11;
    case 1: return r * 7;
    case 2: return -r;
    case 3: return r ^ 0x55;
    case 4: return r * 8;
    case 5: return __builtin_popcount((unsigned)r);
    case 6: return r / 3;
    default: return 0;
    }
}

static void test_ways(void **state) {
    int *y = qe_memory_alloc(WARP * sizeof *y), *x = qe_memory_alloc(WARP * sizeof *x);
    struct {
        int *y, *x;
    } params = {y, x};
    (void)state;
    for (int i = 0; i < WARP; i++) x[i] = 37 * i - 500;
    assert_true(launch("ways", WARP, 0, &params));
    for (int i = 0; i < WARP; i++) assert_int_equal(y[i], chosen(x[i]));
    qe_memory_free(y);
    qe_memory_free(x);
}

/* What the kernel prints, by way of a file in the place of standard output. */
static void test_printf(void **state) {
    char path[] = "/tmp/quern-emu-XXXXXX", line[256] = "";
    int file = mkstemp(path), n = 7;
    (void)state;
    assert_true(file >= 0);
    fflush(stdout);
    int saved = dup(1);
    assert_true(dup2(file, 1) >= 0);
    bool ran = launch("prints", WARP, 0, &n);
    fflush(stdout);
    assert_true(dup2(saved, 1) >= 0);
    close(saved);
    ssize_t got = pread(file, line, sizeof line - 1, 0);
    close(file);
    unlink(path);
    assert_true(ran);
    assert_true(got > 0);
    assert_string_equal(line, "text -7 7 1099511627776  2.50|c   |ff %\n");
}

static void test_assert_and_trap(void **state) {
    int good = 4, bad = 3;
    (void)state;
    assert_true(qe_configure("quiet=1"));
    assert_true(launch("asserts", 1, 0, &good));
    assert_int_equal(qe_findings(), 0);
    assert_false(launch("asserts", 1, 0, &bad));
    assert_int_equal(qe_findings_of(QE_BUG_TRAP), 1);
    assert_non_null(strstr(qe_finding_text(0), "n > 3"));
    assert_non_null(strstr(qe_finding_text(0), "control_calls.cu"));
    qe_findings_clear();
    assert_false(launch("traps", 1, 0, ""));
    assert_int_equal(qe_findings_of(QE_BUG_TRAP), 1);
    qe_findings_clear();
    assert_true(qe_configure("quiet=0"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop_and_ranges),
        cmocka_unit_test(test_sites),
        cmocka_unit_test(test_branch_table),
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_shared_layout),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_symbols),
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_ways),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_assert_and_trap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
