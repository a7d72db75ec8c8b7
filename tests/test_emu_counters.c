/* test_emu_counters.c — the emulator's counters: sectors, bank conflicts, bytes, by hand-made
 * access patterns whose numbers can be told from the pattern.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/emu/machine.h"

enum { BYTES = 1 << 16 };

static const qe_site site_a = {"case.cu", 1, "a"}, site_b = {"case.cu", 2, "b"};
static const qe_site site_c = {"case.cu", 3, "c"}, site_meet = {"case.cu", 4, "bar"};

/* Lane i touches `width` bytes at first + i * stride; lanes from `active` on do nothing. */
typedef struct pattern {
    const char *name;
    bool shared, write;
    uint32_t width, stride, first, active, times;
    uint64_t bytes, sectors, cycles, conflicts;
} pattern;

typedef struct arguments {
    char *memory;
    const pattern *pattern;
    int variant;
} arguments;
static const arguments *of(const char *params) { return (const arguments *)(const void *)params; }

static void touch(qe_thread *t, char *p, uint32_t bytes, uint32_t flags, const qe_site *site) {
    qe_access(t, p, bytes, flags, site);
}
static char *shared(qe_thread *t, uint32_t at, uint32_t bytes) {
    return qe_shared(t, t->block->dynamic_shared + at, bytes, &site_a);
}

static void follow(qe_thread *t, char *params) {
    const pattern *p = of(params)->pattern;
    for (uint32_t k = 0; k < p->times && t->lane < p->active; k++) {
        uint32_t at = p->first + t->lane * p->stride;
        char *q = p->shared ? shared(t, at, p->width) : of(params)->memory + at;
        touch(t, q, p->width, p->write ? QE_WRITE : QE_READ, &site_a);
    }
}

static const pattern patterns[] = {
    {"4 bytes each", 0, 0, 4, 4, 0, 32, 1, 128, 4, 0, 0},
    {"4 bytes, shifted by 4", 0, 0, 4, 4, 4, 32, 1, 128, 5, 0, 0},
    {"16 bytes each", 0, 1, 16, 16, 0, 32, 1, 512, 16, 0, 0},
    {"every second word", 0, 0, 4, 8, 0, 32, 1, 128, 8, 0, 0},
    {"a sector each", 0, 0, 4, 32, 0, 32, 1, 128, 32, 0, 0},
    {"all the same word", 0, 0, 4, 0, 0, 32, 1, 128, 1, 0, 0},
    {"2 bytes each", 0, 1, 2, 2, 0, 32, 1, 64, 2, 0, 0},
    {"seven lanes", 0, 0, 4, 4, 0, 7, 1, 28, 1, 0, 0},
    {"three times", 0, 0, 4, 4, 0, 32, 3, 384, 12, 0, 0},
    {"words in a row", 1, 0, 4, 4, 0, 32, 1, 0, 0, 1, 0},
    {"a broadcast", 1, 0, 4, 0, 0, 32, 1, 0, 0, 1, 0},
    {"every second bank", 1, 0, 4, 8, 0, 32, 1, 0, 0, 1, 1},
    {"one bank", 1, 1, 4, 128, 0, 32, 1, 0, 0, 1, 31},
    {"one bank, padded", 1, 1, 4, 132, 0, 32, 1, 0, 0, 1, 0},
    {"one bank, three lanes", 1, 0, 4, 128, 0, 3, 1, 0, 0, 1, 2},
    {"bytes", 1, 0, 1, 1, 0, 32, 1, 0, 0, 1, 0},
    {"8 bytes in a row", 1, 0, 8, 8, 0, 32, 1, 0, 0, 2, 0},
    {"8 bytes, every second", 1, 0, 8, 16, 0, 32, 1, 0, 0, 2, 2},
    {"16 bytes in a row", 1, 0, 16, 16, 0, 32, 1, 0, 0, 4, 0},
    {"16 bytes, rows of 128", 1, 0, 16, 128, 0, 32, 1, 0, 0, 4, 28},
    {"16 bytes, first half", 1, 1, 16, 16, 0, 16, 1, 0, 0, 2, 0},
};

static char *memory;

static qe_traffic run(qe_body *body, const pattern *p, int variant, uint32_t threads) {
    arguments a = {.memory = memory, .pattern = p, .variant = variant};
    const qe_param param = {0, sizeof a};
    qe_kernel k = {
        .name = "case", .body = body, .param_bytes = sizeof a, .n_params = 1, .params = &param};
    qe_traffic_clear();
    assert_true(qe_run(&k, (qe_shape){1, 1, 1}, (qe_shape){threads, 1, 1}, (qe_shape){1, 1, 1},
                       32768, (const char *)&a));
    assert_int_equal(qe_traffic_count(), 1);
    return *qe_traffic_get(0);
}

static void test_patterns(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        const pattern *p = &patterns[i];
        qe_traffic t = run(follow, p, 0, 32);
        uint64_t bytes = p->write ? t.global_written : t.global_read;
        uint64_t sectors = p->write ? t.sectors_written : t.sectors_read;
        uint64_t others = p->write ? t.global_read : t.global_written;
        if (bytes == p->bytes && sectors == p->sectors && t.shared_cycles == p->cycles &&
            t.shared_conflicts == p->conflicts && others == 0)
            continue;
        print_error("%s: %d bytes, %d sectors, %d cycles, %d conflicts\n", p->name, (int)bytes,
                    (int)sectors, (int)t.shared_cycles, (int)t.shared_conflicts);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

/* Lane i reads i % 3 + 1 words in a loop, odd lanes one more at another place of the program, in
 * another order: executions of one instruction still belong together. */
static void ragged(qe_thread *t, char *params) {
    char *m = of(params)->memory;
    uint32_t i = t->lane;
    if (i & 1) touch(t, m + 8192 + 4 * i, 4, QE_READ, &site_b);
    for (uint32_t k = 0; k <= i % 3; k++) touch(t, m + 128 * k + 4 * i, 4, QE_READ, &site_a);
    if (!(i & 1)) touch(t, m + 8192 + 4 * i, 4, QE_READ, &site_b);
}

static void test_lanes_that_differ(void **state) {
    (void)state;
    qe_traffic t = run(ragged, NULL, 0, 32);
    assert_int_equal(t.global_read, 4 * (32 + 32 + 21 + 10));
    assert_int_equal(t.sectors_read, 4 * 4); /* site b, and three turns of site a */
    const qe_site_traffic *sites;
    assert_int_equal(qe_traffic_sites(0, &sites), 2);
    for (int i = 0; i < 2; i++) {
        bool a = sites[i].site == &site_a;
        assert_int_equal(sites[i].warps, a ? 3 : 1);
        assert_int_equal(sites[i].bytes, a ? 4 * (32 + 21 + 10) : 4 * 32);
        assert_int_equal(sites[i].sectors, a ? 12 : 4);
    }
}

/* Barriers cut the log; each warp counts alone. */
static void phases(qe_thread *t, char *params) {
    char *m = of(params)->memory;
    for (uint32_t k = 0; k < 5; k++) {
        touch(t, m + 4 * t->linear, 4, QE_READ, &site_a);
        touch(t, shared(t, 4 * t->linear, 4), 4, QE_WRITE, &site_b);
        qe_barrier_sync(t, 0, 0, &site_meet);
        if (t->linear < 40) touch(t, m + 4 * t->linear, 4, QE_WRITE, &site_c);
    }
}

static void test_barriers_and_warps(void **state) {
    (void)state;
    qe_traffic t = run(phases, NULL, 0, 96);
    assert_int_equal(t.threads, 96);
    assert_int_equal(t.global_read, 5 * 4 * 96);
    assert_int_equal(t.sectors_read, 5 * 12);
    assert_int_equal(t.global_written, 5 * 4 * 40);
    assert_int_equal(t.sectors_written, 5 * (4 + 1));
    assert_int_equal(t.shared_cycles, 5 * 3);
    assert_int_equal(t.shared_conflicts, 0);
}

/* Rows of ldmatrix: 0 in a row, 1 all in the same four banks, 2 a matrix of one row. */
static void matrices(qe_thread *t, char *params) {
    if (t->linear) return;
    uint32_t row[16], step[] = {16, 128, 0};
    for (uint32_t i = 0; i < 16; i++) row[i] = i * step[of(params)->variant];
    qe_count_matrix(t, row, 16, QE_READ, &site_a);
    qe_count_tensor(t, 4096);
    qe_count_async(t, 100, 20);
    qe_atomic_access(t, of(params)->memory, 4, QE_WRITE | QE_ATOMIC | QE_UPDATE, QE_RELAXED,
                     &site_b);
}

static void test_counted_directly(void **state) {
    (void)state;
    const uint64_t expected[] = {0, 14, 0};
    for (int v = 0; v < 3; v++) {
        qe_traffic t = run(matrices, NULL, v, 32);
        assert_int_equal(t.shared_cycles, 2);
        assert_int_equal(t.shared_conflicts, expected[v]);
        assert_int_equal(t.tensor_flops, 4096);
        assert_int_equal(t.async_read, 100);
        assert_int_equal(t.async_written, 20);
        assert_int_equal(t.atomics, 1);
    }
}

static int set_up(void **state) {
    (void)state;
    memory = qe_memory_alloc(BYTES);
    return memory && qe_configure("watch=count,quiet=1") ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_lanes_that_differ),
        cmocka_unit_test(test_barriers_and_warps),
        cmocka_unit_test(test_counted_directly),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
