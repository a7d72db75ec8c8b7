/* test_emu_planted.c — the checker's examination: each planted bug is found in one deterministic
 * run, and the right kernels are right and silent under every schedule.
 *
 * The kernels are compiled by nvcc and translated like any other; see tests/emu/planted.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <math.h>

#include <cmocka.h>

#include "kernels/emu/scheduler.h"
#include "tests/emu/planted.h"

enum { WRONG = QE_BUG_COUNT, MAX_BLOCKS = 16 }; /* WRONG: a wrong result tells it */

typedef struct outcome {
    int error;    /* cudaError */
    double worst; /* largest deviation from the reference, as a multiple of what is allowed */
} outcome;

/* ---- memory and numbers ---------------------------------------------------------------------- */

static float noise(uint32_t i) { /* in [-1, 1), different for each i */
    uint32_t x = i * 2654435761u;
    x = (x ^ x >> 15) * 2246822519u;
    return (float)(int32_t)(x ^ x >> 13) / 2147483648.0f;
}

static uint16_t bf16_of(float x) { /* finite */
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static float f32_of(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static void *fresh(size_t bytes) {
    void *p = qe_memory_alloc(bytes);
    assert_non_null(p);
    return p;
}
static float *numbers(int n, uint32_t seed) {
    float *p = fresh((size_t)n * sizeof *p);
    for (int i = 0; i < n; i++) p[i] = noise(seed + (uint32_t)i);
    qe_check_host_write(p, (size_t)n * sizeof *p);
    return p;
}
static uint16_t *halves(int n, uint32_t seed) {
    uint16_t *p = fresh((size_t)n * sizeof *p);
    for (int i = 0; i < n; i++) p[i] = bf16_of(noise(seed + (uint32_t)i));
    qe_check_host_write(p, (size_t)n * sizeof *p);
    return p;
}
static unsigned *zero(void) {
    unsigned *p = fresh(sizeof *p);
    *p = 0;
    qe_check_host_write(p, sizeof *p);
    return p;
}

/* A NaN is as wrong as can be. */
static void compare(outcome *o, double value, double reference, double allowed) {
    double d = fabs(value - reference) / allowed;
    if (!(d <= o->worst)) o->worst = d == d ? d : (double)INFINITY;
}

/* ---- one run of each kernel ------------------------------------------------------------------ */

static outcome run_silu(int bug) {
    enum { N = 512 };
    outcome o = {0};
    float *x = numbers(N, 1), *g = numbers(N, 2), *y = fresh(N * 4);
    o.error = planted_silu(bug, x, g, y, N);
    for (int i = 0; i < N; i++)
        compare(&o, y[i], (double)x[i] / (1 + exp(-(double)x[i])) * (double)g[i],
                1e-5); /* exp to 2 ulp */
    return o;
}

static outcome run_double(int bug) {
    enum { N = 1027 };
    outcome o = {0};
    float *x = numbers(N, 1), *y = fresh(N * 4);
    o.error = planted_double(bug, x, y, N);
    for (int i = 0; i < N; i++) compare(&o, y[i], 2.0f * x[i], 1e-30); /* exact */
    return o;
}

static outcome run_reverse(int bug) {
    enum { N = 512 };
    outcome o = {0};
    float *x = numbers(N, 1), *y = fresh(N * 4);
    o.error = planted_reverse(bug, x, y, N);
    for (int i = 0; i < N; i++) compare(&o, y[i], x[(i & ~31) + 31 - i % 32], 1e-30);
    return o;
}

static outcome run_warp_sum(int bug) {
    enum { N = 300 };
    outcome o = {0};
    float *x = numbers(N, 1), *y = fresh((N + 31) / 32 * 4);
    o.error = planted_warp_sum(bug, x, y, N);
    for (int w = 0; w < (N + 31) / 32; w++) {
        double s = 0;
        for (int i = 32 * w; i < N && i < 32 * w + 32; i++) s += (double)x[i];
        compare(&o, y[w], s, 1e-5); /* 5 additions of numbers below 32 */
    }
    return o;
}

static outcome run_norm(int bug) {
    enum { ROWS = 5, COLUMNS = 200, THREADS = 128 };
    outcome o = {0};
    float *x = numbers(ROWS * COLUMNS, 1), *y = fresh(ROWS * COLUMNS * 4);
    o.error = planted_norm(bug, x, y, ROWS, COLUMNS, THREADS);
    for (int r = 0; r < ROWS; r++) {
        double s = 0, q = 0;
        for (int c = 0; c < COLUMNS; c++) s += (double)x[r * COLUMNS + c];
        for (int c = 0; c < COLUMNS; c++) q += pow((double)x[r * COLUMNS + c] - s / COLUMNS, 2);
        for (int c = 0; c < COLUMNS; c++)
            compare(&o, y[r * COLUMNS + c],
                    ((double)x[r * COLUMNS + c] - s / COLUMNS) / sqrt(q / COLUMNS + 1e-5), 1e-5);
    }
    return o;
}

static outcome run_sgemm(int bug) {
    enum { M = 32, N = 48, K = 64 };
    outcome o = {0};
    float *a = numbers(M * K, 1), *b = numbers(K * N, 9999), *c = fresh(M * N * 4);
    o.error = planted_sgemm(bug, a, b, c, M, N, K);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double s = 0;
            for (int k = 0; k < K; k++) s += (double)a[i * K + k] * (double)b[k * N + j];
            compare(&o, c[i * N + j], s, 1e-5); /* 64 additions of numbers below 64 */
        }
    return o;
}

static outcome run_column_sums(int bug) {
    enum { ROWS = 30, COLUMNS = 100 };
    outcome o = {0};
    float *x = numbers(ROWS * COLUMNS, 1), *y = fresh(COLUMNS * 4);
    o.error = planted_column_sums(bug, x, y, ROWS, COLUMNS);
    for (int c = 0; c < COLUMNS; c++) {
        double s = 0;
        for (int r = 0; r < ROWS; r++) s += (double)x[r * COLUMNS + c];
        compare(&o, y[c], s, 1e-5);
    }
    return o;
}

static outcome run_pipeline(int bug) {
    enum { N = 960 };
    outcome o = {0};
    float *x = numbers(N, 1), *y = fresh(N * 4);
    o.error = planted_pipeline(bug, x, y, N);
    for (int i = 0; i < N; i++) compare(&o, y[i], x[i] + 1.0f, 1e-30);
    return o;
}

static outcome run_last_block(int bug) {
    enum { N = 5000 };
    outcome o = {0};
    float *x = numbers(N, 1), *partial = fresh(MAX_BLOCKS * 4), *sum = fresh(4);
    unsigned *count = zero();
    o.error = planted_last_block(bug, x, partial, count, sum, N, MAX_BLOCKS);
    double s = 0;
    for (int i = 0; i < N; i++) s += (double)x[i];
    compare(&o, *sum, s, 1e-3); /* 40 + 7 + 16 additions of numbers below 100 */
    compare(&o, *count, 0, 1);
    return o;
}

static outcome run_hand_over(int bug) {
    outcome o = {0};
    float *x = numbers(1, 1), *y = fresh(8);
    o.error = planted_hand_over(bug, x, y, zero());
    compare(&o, y[1], x[0], 1e-30);
    return o;
}

static outcome run_exchange(int bug) {
    enum { N = 1024 };
    outcome o = {0};
    float *x = numbers(N, 1), *y = fresh(N * 4);
    o.error = planted_exchange(bug, x, y, N);
    for (int i = 0; i < N; i++) compare(&o, y[i], x[i ^ 128], 1e-30);
    return o;
}

static outcome run_bulk(int bug) {
    enum { N = 2048 };
    outcome o = {0};
    float *x = numbers(N, 1), *y = fresh(N * 4);
    o.error = planted_bulk(bug, x, y, N);
    for (int i = 0; i < N; i++) compare(&o, y[i], x[i], 1e-30);
    return o;
}

/* c = a b^T of bf16 numbers below 1: allowed is what f32 sums of k products may lose, and half a
 * unit of bf16 where the result is one. */
static void compare_product(outcome *o, const uint16_t *a, const uint16_t *b, const float *c,
                            const uint16_t *half, int m, int n, int k) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double s = 0;
            for (int l = 0; l < k; l++)
                s += (double)f32_of(a[i * k + l]) * (double)f32_of(b[j * k + l]);
            double value = c ? c[i * n + j] : f32_of(half[i * n + j]);
            compare(o, value, s, k * 1e-6 + (c ? 0 : fabs(s) / 256 + 1e-6));
        }
}

static outcome run_mma(int bug) {
    enum { M = 128, N = 64, K = 160 };
    outcome o = {0};
    uint16_t *a = halves(M * K, 1), *b = halves(N * K, 77777);
    float *c = fresh(M * N * 4);
    o.error = planted_mma(bug, a, b, c, M, N, K);
    compare_product(&o, a, b, c, NULL, M, N, K);
    return o;
}

static void make_map(void *map, void *base, int rows, int columns, int box_rows) {
    enum { BF16 = 9, SWIZZLE_128 = 3 }; /* CUtensorMapDataType, CUtensorMapSwizzle */
    uint64_t dims[] = {(uint64_t)columns, (uint64_t)rows}, strides[] = {(uint64_t)columns * 2};
    uint32_t box[] = {64, (uint32_t)box_rows}, steps[] = {1, 1};
    assert_int_equal(
        qe_tensor_map_encode(map, BF16, 2, base, dims, strides, box, steps, 0, SWIZZLE_128, 0, 0),
        0);
}

static outcome run_wgmma_of(int bug, int cluster) {
    enum { M = 512, N = 128, K = 384 };
    outcome o = {0};
    _Alignas(64) char map_a[128], map_b[128], map_c[128];
    uint16_t *a = halves(M * K, 1), *b = halves(N * K, 77777), *c = fresh(M * N * 2);
    make_map(map_a, a, M, K, 128);
    make_map(map_b, b, N, K, 64 / cluster);
    make_map(map_c, c, M, N, 64);
    o.error = planted_wgmma(bug, map_a, map_b, map_c, M, N, K, cluster, 2);
    compare_product(&o, a, b, NULL, c, M, N, K);
    return o;
}
static outcome run_wgmma(int bug) { return run_wgmma_of(bug, 1); }
static outcome run_wgmma_cluster(int bug) { return run_wgmma_of(bug, 2); }

/* ---- the bugs -------------------------------------------------------------------------------- */

typedef outcome a_run(int bug);

typedef struct planted {
    int bug;
    const char *name;
    a_run *run;
    int finding;
} planted;

static const planted bugs[] = {
    {BUG_READ_PAST_END, "read past the end", run_silu, QE_BUG_OOB_GLOBAL},
    {BUG_VECTOR_PAST_END, "vector past the end", run_double, QE_BUG_OOB_GLOBAL},
    {BUG_NO_SYNCWARP, "no __syncwarp", run_reverse, QE_BUG_RACE},
    {BUG_MISSING_LANE, "missing lane", run_warp_sum, QE_BUG_WARP},
    {BUG_NO_BARRIER, "no barrier", run_norm, QE_BUG_RACE},
    {BUG_UNWRITTEN_SHARED, "unwritten shared memory", run_norm, QE_BUG_UNINIT_SHARED},
    {BUG_TILE_TOO_EARLY, "tile too early", run_sgemm, QE_BUG_RACE},
    {BUG_TILE_OVERWRITTEN, "tile overwritten", run_sgemm, QE_BUG_RACE},
    {BUG_SHARED_PAST_END, "shared memory past the end", run_sgemm, QE_BUG_OOB_SHARED},
    {BUG_DIVERGENT_BARRIER, "divergent barrier", run_sgemm, QE_BUG_DIVERGENT_BARRIER},
    {BUG_UNWRITTEN_GLOBAL, "unwritten global memory", run_column_sums, QE_BUG_UNINIT_GLOBAL},
    {BUG_SAME_OUTPUT, "same output", run_column_sums, QE_BUG_RACE_GRID},
    {BUG_BARRIER_COUNT, "barrier count", run_pipeline, QE_BUG_BARRIER},
    {BUG_NO_FENCE_BEFORE, "no fence before", run_last_block, QE_BUG_RACE_GRID},
    {BUG_NO_FENCE_AFTER, "no fence after", run_last_block, QE_BUG_RACE_GRID},
    {BUG_NARROW_FENCE, "narrow fence", run_last_block, QE_BUG_RACE_GRID},
    {BUG_ENDLESS_SPIN, "endless spin", run_hand_over, QE_BUG_LIVELOCK},
    {BUG_NO_CLUSTER_BARRIER, "no cluster barrier", run_exchange, QE_BUG_RACE},
    {BUG_ONE_GROUP_TOO_FEW, "one group too few", run_mma, QE_BUG_RACE},
    {BUG_OTHER_SWIZZLE, "another swizzle", run_mma, WRONG},
    {BUG_NO_COMMIT, "no commit", run_mma, QE_BUG_RACE},
    {BUG_EXPECT_TOO_MUCH, "too many bytes expected", run_wgmma, QE_BUG_DEADLOCK},
    {BUG_NO_EMPTY_WAIT, "no wait for a free stage", run_wgmma, QE_BUG_RACE},
    {BUG_NO_FULL_WAIT, "no wait for a full stage", run_wgmma, QE_BUG_RACE},
    {BUG_DESCRIPTOR_STRIDE, "descriptor's stride", run_wgmma, WRONG},
    {BUG_RELEASED_TOO_EARLY, "stage released too early", run_wgmma, QE_BUG_RACE},
    {BUG_NO_INIT_FENCE, "no fence.mbarrier_init", run_wgmma, QE_BUG_MBARRIER},
    {BUG_NO_INIT_BARRIER, "no barrier after mbarrier.init", run_wgmma, QE_BUG_MBARRIER},
    {BUG_PEER_NOT_AWAITED, "peer not awaited", run_wgmma_cluster, QE_BUG_RACE},
    {BUG_NO_PROXY_FENCE, "no fence.proxy.async", run_wgmma, QE_BUG_PROXY_RACE},
    {BUG_DESCRIPTOR_SWIZZLE, "descriptor's swizzle", run_wgmma, WRONG},
    {BUG_SUMS_TOO_EARLY, "sums too early", run_wgmma, QE_BUG_RACE},
    {BUG_SOURCE_OVERWRITTEN, "source overwritten", run_wgmma, QE_BUG_RACE},
    {BUG_ARRIVALS_TOO_FEW, "too few arrivals", run_wgmma, QE_BUG_DEADLOCK},
    {BUG_MBARRIER_NOT_AGAIN, "mbarrier not used again", run_bulk, QE_BUG_RACE},
};

static outcome run_in(const char *mode, a_run *run, int bug) {
    char text[200];
    snprintf(text, sizeof text, "device=9.0,watch=check,quiet=1,%s", mode);
    planted_reset();
    qe_memory_free_all();
    assert_true(qe_configure(text));
    qe_findings_clear();
    return run(bug);
}

/* A race names the line of the file on both sides, block and thread. */
static bool races_name_both_sides(void) {
    for (int i = 0; i < qe_findings(); i++) {
        const char *text = qe_finding_text(i);
        if (strncmp(text, "race", 4) != 0 && strncmp(text, "proxy-race", 10) != 0) continue;
        const char *at = strstr(text, "\n    at "), *and = strstr(text, "\n    and ");
        if (!at || !and || !strstr(and, "tests/emu/planted_")) return false;
        if (!strstr(at, "tests/emu/planted_") || strstr(at, "tests/emu/planted_") > and)
            return false;
        if (!strstr(text, ") thread (") || !strstr(text, " of block (")) return false;
    }
    return true;
}

static void every_bug_is_found(void **state) {
    (void)state;
    int missed = 0;
    bool seen[BUG_COUNT] = {true};
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        const planted *b = &bugs[i];
        outcome o = run_in("schedule=fifo,async=eager", b->run, b->bug);
        seen[b->bug] = true;
        bool found = b->finding == WRONG ? !(o.worst < 1) && !o.error
                                         : qe_findings_of((qe_finding)b->finding) > 0;
        found = found && races_name_both_sides();
        if (found) continue;
        missed++;
        print_error("%s: missed; error %d, deviation %g, %d findings, first: %s\n", b->name,
                    o.error, o.worst, qe_findings(), qe_findings() ? qe_finding_text(0) : "none");
    }
    for (int b = 0; b < BUG_COUNT; b++) assert_true(seen[b]);
    qe_findings_clear();
    assert_int_equal(missed, 0);
}

static void right_kernels_are_silent(void **state) {
    (void)state;
    a_run *const runs[] = {run_silu,     run_double,        run_reverse,  run_warp_sum,
                           run_norm,     run_sgemm,         run_pipeline, run_column_sums,
                           run_exchange, run_last_block,    run_mma,      run_hand_over,
                           run_bulk,     run_wgmma_cluster, run_wgmma};
    const char *const schedules[] = {"fifo", "random", "pct"};
    const char *const copies[] = {"eager", "late", "any"};
    int wrong = 0;
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++)
        for (int s = 0; s < 3; s++)
            for (int a = 0; a < 3; a++) {
                char mode[100];
                snprintf(mode, sizeof mode, "schedule=%s,async=%s,seed=%d,bases=%s", schedules[s],
                         copies[a], 3 * s + a, s ? "random" : "fixed");
                outcome o = run_in(mode, runs[i], BUG_NONE);
                if (!o.error && o.worst < 1 && qe_findings() == 0) continue;
                wrong++;
                print_error("kernel %d, %s: error %d, deviation %g, first finding: %s\n", (int)i,
                            mode, o.error, o.worst, qe_findings() ? qe_finding_text(0) : "none");
            }
    qe_findings_clear();
    assert_int_equal(wrong, 0);
}

typedef struct coverage {
    const char *kernel;
    int ran, never, outside; /* instructions; of no kernel */
} coverage;

static void add_instruction(void *context, const qe_module *m, const qe_kernel *k,
                            const qe_site *site, uint64_t runs) {
    coverage *c = context;
    if (m->arch != 90 || !strstr(site->file, "planted")) return;
    if (!k)
        c->outside++;
    else if (strcmp(k->name, c->kernel) == 0)
        *(runs ? &c->ran : &c->never) += 1;
}

/* planted_double: a tail only where n is no multiple of 4. */
static void what_never_ran_is_listed(void **state) {
    (void)state;
    coverage c = {.kernel = "_Z7doubledILi0EEvPKfPfi"};
    planted_reset();
    qe_coverage_clear();
    qe_coverage(add_instruction, &c);
    assert_int_equal(c.ran, 0);
    assert_true(c.never > 20);
    float *x = numbers(64, 1), *y = fresh(64 * 4);
    assert_int_equal(planted_double(0, x, y, 64), 0);
    int all = c.never;
    c.ran = c.never = 0;
    qe_coverage(add_instruction, &c);
    assert_int_equal(c.ran + c.never, all);
    assert_true(c.ran > 10 && c.never > 3);
    int without_tail = c.never;
    assert_int_equal(planted_double(0, x, y, 63), 0);
    c.never = 0;
    qe_coverage(add_instruction, &c);
    assert_true(c.never < without_tail);
    assert_int_equal(c.outside, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bug_is_found),
        cmocka_unit_test(right_kernels_are_silent),
        cmocka_unit_test(what_never_ran_is_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
