/* test_emu_async.c — cp.async groups and bulk copies: when they happen, who may know of them, and
 * what is left undone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/emu_bodies.h"

static const qe_site copy = {"body.cu", 1, "cp.async"}, wait_for = {"body.cu", 2, "wait"},
                     barrier = {"body.cu", 3, "bar"}, look = {"body.cu", 4, "ld/st"},
                     init = {"body.cu", 5, "mbarrier.init"};

static const char *const modes[] = {
    "watch=check,quiet=1,schedule=fifo,bases=fixed,async=eager",
    "watch=check,quiet=1,schedule=fifo,async=late",
    "watch=check,quiet=1,schedule=random,seed=3,async=any",
    "watch=check,quiet=1,schedule=pct,seed=8,bases=random,async=late",
    "watch=none,quiet=1,schedule=fifo,bases=fixed,async=eager",
};
enum { MODES = sizeof modes / sizeof *modes };

/* N known words in device memory, a result of N words, and what a body should do. */
enum { N = 1024 };
typedef struct work {
    uint32_t *from, *to, *found;
    int variant;
} work;

static work make_work(int variant) {
    work w = {qe_memory_alloc(4 * N), qe_memory_alloc(4 * N), calloc(N, 4), variant};
    for (uint32_t i = 0; i < N; i++) {
        w.from[i] = 7 * i + 1;
        w.to[i] = 1000 + i;
    }
    qe_check_host_write(w.from, 4 * N);
    qe_check_host_write(w.to, 4 * N);
    return w;
}

static void free_work(work *w) {
    qe_memory_free(w->from);
    qe_memory_free(w->to);
    free(w->found);
}

static work *of(char *params) { return (work *)(void *)params; }
static uint32_t low_of(const qe_thread *t) { return t->block->dynamic_shared; }

static uint32_t word_at(qe_thread *t, uint32_t address) {
    uint32_t v;
    emu_get(t, address, &v, 4, &look);
    return v;
}

/* ---- cp.async -------------------------------------------------------------------------------- */

/* A pipeline of two stages over 8 tiles; a commit that closes no copies counts as a group.
 * variant 1: waits for one group too few. */
static void pipeline(qe_thread *t, char *params) {
    work *w = of(params);
    uint32_t n = t->block->n_threads, tiles = 8, at = low_of(t) + 16 * t->linear;
    qe_cp_async(t, at, w->from + 4 * t->linear, 16, 16, &copy);
    qe_cp_async_commit(t, &copy);
    for (uint32_t i = 0; i < tiles; i++) {
        if (i + 1 < tiles)
            qe_cp_async(t, at + (i + 1) % 2 * 16 * n, w->from + (i + 1) * 4 * n + 4 * t->linear, 16,
                        16, &copy);
        qe_cp_async_commit(t, &copy);
        qe_cp_async_wait(t, w->variant == 1 ? 2 : 1, &wait_for);
        qe_barrier_sync(t, 0, 0, &barrier);
        uint32_t other = (t->linear + 9) % n;
        for (uint32_t k = 0; k < 4; k++)
            w->found[i * 4 * n + 4 * other + k] =
                word_at(t, low_of(t) + i % 2 * 16 * n + 16 * other + 4 * k);
        qe_barrier_sync(t, 0, 0, &barrier);
    }
    if (w->variant == 1) qe_cp_async_wait_all(t, &wait_for);
}

static void test_pipeline(void **state) {
    (void)state;
    for (int mode = 0; mode < MODES; mode++) {
        assert_true(qe_configure(modes[mode]));
        work w = make_work(0);
        assert_true(emu_run(pipeline, (emu_shape){1, 1, 32, 4096}, &w));
        assert_memory_equal(w.found, w.from, 4 * N);
        assert_string_equal(emu_findings(), "");
        w.variant = 1;
        emu_run(pipeline, (emu_shape){1, 1, 32, 4096}, &w);
        if (mode < 4)
            assert_non_null(strstr(emu_findings(), "race"));
        else
            assert_string_equal(emu_findings(), "");
        free_work(&w);
    }
}

/* Late copies come with the wait, not before; a thread that waits for no group gets none. */
static void peek(qe_thread *t, char *params) {
    work *w = of(params);
    uint32_t at = low_of(t), zero = 0;
    for (uint32_t i = 0; i < 3; i++) {
        emu_put(t, at + 4 * i, &zero, 4, &look);
        qe_cp_async(t, at + 4 * i, w->from + i, 4, 4, &copy);
        qe_cp_async_commit(t, &copy);
    }
    for (uint32_t i = 0; i < 4; i++) {
        qe_cp_async_wait(t, 3 - i, &wait_for);
        for (uint32_t k = 0; k < 3; k++) w->found[3 * i + k] = word_at(t, at + 4 * k);
    }
}

static void test_late_copies(void **state) {
    (void)state;
    assert_true(qe_configure("watch=none,quiet=1,schedule=fifo,async=late,bases=fixed"));
    work w = make_work(0);
    assert_true(emu_run(peek, (emu_shape){1, 1, 1, 64}, &w));
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t k = 0; k < 3; k++)
            assert_int_equal(w.found[3 * i + k], k < i ? w.from[k] : 0);
    assert_string_equal(emu_findings(), "");
    free_work(&w);
}

static void fill(qe_thread *t, char *params) {
    work *w = of(params);
    uint32_t i = t->linear;
    qe_cp_async(t, low_of(t) + 16 * i, w->from + 4 * i, 16, i % 17, &copy);
    qe_cp_async_wait_all(t, &wait_for);
    for (uint32_t k = 0; k < 4; k++) w->found[4 * i + k] = word_at(t, low_of(t) + 16 * i + 4 * k);
}
static void test_zero_fill(void **state) {
    (void)state;
    for (int mode = 0; mode < MODES; mode++) {
        assert_true(qe_configure(modes[mode]));
        work w = make_work(0);
        assert_true(emu_run(fill, (emu_shape){1, 1, 64, 1024}, &w));
        for (uint32_t i = 0; i < 64; i++) {
            unsigned char want[16] = {0};
            memcpy(want, w.from + 4 * i, i % 17);
            assert_memory_equal(w.found + 4 * i, want, 16);
        }
        assert_string_equal(emu_findings(), "");
        free_work(&w);
    }
}

/* Copies announced at an mbarrier. variant: 0 .noinc, counted by init; 1 without, so that another
 * thread arrives; 2: the mbarrier is told before the copies are issued. */
static void announce(qe_thread *t, char *params) {
    work *w = of(params);
    uint32_t bar = low_of(t), at = bar + 16 + 16 * (t->linear % 32), producers = 32;
    if (t->linear == 0) qe_mbarrier_init(t, bar, w->variant == 1 ? 1 : producers, &init);
    qe_barrier_sync(t, 0, 0, &barrier);
    if (t->linear < producers) {
        if (w->variant == 2) qe_cp_async_mbarrier_arrive(t, bar, true, &copy);
        qe_cp_async(t, at, w->from + 4 * t->linear, 16, 16, &copy);
        if (w->variant != 2) qe_cp_async_mbarrier_arrive(t, bar, w->variant == 0, &copy);
        if (w->variant == 1) qe_barrier_sync(t, 1, 32, &barrier);
        if (w->variant == 1 && t->linear == 0) qe_mbarrier_arrive(t, bar, 1, false, &wait_for);
        return;
    }
    while (!qe_mbarrier_wait_parity(t, bar, 0, true, &wait_for)) {}
    for (uint32_t k = 0; k < 4; k++) w->found[4 * (t->linear - 32) + k] = word_at(t, at + 4 * k);
}

static void test_copies_announced_at_an_mbarrier(void **state) {
    (void)state;
    for (int mode = 0; mode < MODES; mode++)
        for (int variant = 0; variant < 3; variant++) {
            assert_true(qe_configure(modes[mode]));
            work w = make_work(variant);
            assert_true(emu_run(announce, (emu_shape){1, 1, 64, 1024}, &w));
            const char *text = emu_findings();
            if (variant < 2) {
                assert_memory_equal(w.found, w.from, 512);
                assert_string_equal(text, "");
            } else {
                assert_non_null(strstr(text, "before it has waited for this copy"));
            }
            free_work(&w);
        }
}

/* ---- bulk copies ----------------------------------------------------------------------------- */

/* In, changed, out; variant 0 copies out, 1 adds. */
static void round_trip(qe_thread *t, char *params) {
    work *w = of(params);
    uint32_t bar = low_of(t), tile = bar + 16, half = tile + 2 * N;
    if (t->linear == 0) {
        qe_mbarrier_init(t, bar, 1, &init);
        qe_fence_mbarrier_init(t, &init);
    }
    qe_barrier_sync(t, 0, 0, &barrier);
    if (t->linear == 0) {
        qe_mbarrier_expect_tx(t, bar, 4 * N, &copy);
        qe_mbarrier_arrive(t, bar, 1, false, &copy);
        qe_bulk_load(t, tile, w->from, 2 * N, bar, 0, &copy);
        qe_bulk_load(t, half, w->from + N / 2, 2 * N, bar, 0, &copy);
    }
    while (!qe_mbarrier_wait_parity(t, bar, 0, true, &wait_for)) {}
    for (uint32_t i = t->linear; i < N; i += t->block->n_threads) {
        uint32_t v = word_at(t, tile + 4 * i) + 5;
        emu_put(t, tile + 4 * i, &v, 4, &look);
    }
    qe_fence_proxy_async(t, &look);
    qe_barrier_sync(t, 0, 0, &barrier);
    if (t->linear == 0) {
        qe_bulk_store(t, w->to, tile, 4 * N, w->variant ? QE_ADD : QE_COPY, QE_U32, &copy);
        qe_bulk_commit(t, &copy);
        qe_bulk_wait(t, 0, true, &wait_for);
        uint32_t zero = 0; /* the source is read: it may be used again */
        for (uint32_t i = 0; i < N; i++) emu_put(t, tile + 4 * i, &zero, 4, &look);
    }
}

static void test_bulk_round_trip(void **state) {
    (void)state;
    for (int mode = 0; mode < MODES; mode++)
        for (int variant = 0; variant < 2; variant++) {
            assert_true(qe_configure(modes[mode]));
            work w = make_work(variant);
            assert_true(emu_run(round_trip, (emu_shape){1, 1, 64, 16 + 4 * N}, &w));
            assert_string_equal(emu_findings(), "");
            for (uint32_t i = 0; i < N; i++)
                assert_int_equal(w.to[i], w.from[i] + 5 + (variant ? 1000 + i : 0));
            free_work(&w);
        }
}

/* From shared memory to that of the next block of the cluster. */
static void hand_on(qe_thread *t, char *params) {
    work *w = of(params);
    uint32_t bar = low_of(t), mine = bar + 16, theirs = mine + 512, v;
    uint32_t rank = t->block->cluster_rank, to = (rank + 1) % t->block->cluster_size;
    if (t->linear == 0) {
        qe_mbarrier_init(t, bar, 1, &init);
        qe_fence_mbarrier_init(t, &init);
        qe_mbarrier_expect_tx(t, bar, 512, &copy);
        qe_mbarrier_arrive(t, bar, 1, false, &copy);
    }
    for (uint32_t i = t->linear; i < 128; i += 32) {
        v = 1000 * rank + i;
        emu_put(t, mine + 4 * i, &v, 4, &look);
    }
    qe_fence_proxy_async(t, &look);
    qe_cluster_arrive(t, true, &barrier);
    qe_cluster_wait(t, true, &barrier);
    if (t->linear == 0)
        qe_bulk_shared(t, qe_mapa(t, theirs, to, &copy), mine, 512, qe_mapa(t, bar, to, &copy),
                       &copy);
    while (!qe_mbarrier_wait_parity(t, bar, 0, true, &wait_for)) {}
    for (uint32_t i = t->linear; i < 128; i += 32)
        w->found[128 * rank + i] = word_at(t, theirs + 4 * i);
    qe_cluster_arrive(t, true, &barrier);
    qe_cluster_wait(t, true, &barrier);
}

static void test_between_blocks(void **state) {
    (void)state;
    for (int mode = 0; mode < MODES; mode++) {
        assert_true(qe_configure(modes[mode]));
        work w = make_work(0);
        assert_true(emu_run(hand_on, (emu_shape){4, 4, 32, 16 + 1024}, &w));
        assert_string_equal(emu_findings(), "");
        for (uint32_t i = 0; i < 512; i++)
            assert_int_equal(w.found[i], 1000 * ((i / 128 + 3) % 4) + i % 128);
        free_work(&w);
    }
}

/* ---- what is wrong --------------------------------------------------------------------------- */

enum {
    RIGHT,
    READ_BEFORE_WAIT,
    NO_FENCE_AFTER_INIT,
    NO_FENCE_BEFORE_STORE,
    OVERWRITES_SOURCE,
    ENDS_BEFORE_READ,
    ENDS_UNCOMMITTED,
    LOAD_NOT_WAITED,
    SIZE_NOT_16,
    SOURCE_NOT_16,
    FROM_SHARED,
    NO_MBARRIER,
    PAST_THE_END,
    PAST_THE_ALLOCATION,
    WAITS_FOR_READS_ONLY,
    BAD_REDUCTION,
    INTO_USED_TILE,
    MISTAKES
};

static void mistaken(qe_thread *t, char *params) {
    work *w = of(params);
    int which = w->variant;
    uint32_t bar = low_of(t), tile = bar + 16, bytes = 256;
    const uint32_t *from = w->from;
    if (t->linear == 0) {
        uint32_t v = 3;
        qe_mbarrier_init(t, bar, 1, &init);
        if (which == INTO_USED_TILE) emu_put(t, tile, &v, 4, &look);
        if (which != NO_FENCE_AFTER_INIT) qe_fence_mbarrier_init(t, &init);
    }
    if (which == NO_MBARRIER) bar += 8;
    if (which == SIZE_NOT_16) bytes = 100;
    if (which == SOURCE_NOT_16) from++;
    if (which == PAST_THE_END) tile += 512;
    if (which == PAST_THE_ALLOCATION) from += N - 16;
    qe_barrier_sync(t, 0, 0, &barrier);
    if (t->linear == 0) {
        if (which != NO_MBARRIER) qe_mbarrier_expect_tx(t, bar, bytes, &copy);
        if (which == FROM_SHARED)
            from = (const uint32_t *)(const void *)qe_shared(t, tile + 256, 16, &copy);
        qe_bulk_load(t, tile, from, bytes, bar, 0, &copy);
        qe_mbarrier_arrive(t, bar, 1, false, &copy);
    }
    if (which != READ_BEFORE_WAIT && which != LOAD_NOT_WAITED)
        while (!qe_mbarrier_wait_parity(t, bar, 0, true, &wait_for)) {}
    if (which != LOAD_NOT_WAITED) word_at(t, tile + 4 * t->linear);
    if (which == READ_BEFORE_WAIT)
        while (!qe_mbarrier_wait_parity(t, bar, 0, true, &wait_for)) {}
    if (which == LOAD_NOT_WAITED) return;
    uint32_t v = t->linear;
    emu_put(t, tile + 4 * t->linear, &v, 4, &look);
    if (which != NO_FENCE_BEFORE_STORE) qe_fence_proxy_async(t, &look);
    qe_barrier_sync(t, 0, 0, &barrier);
    if (t->linear == 0) {
        qe_bulk_store(t, w->to, tile, 256, which == BAD_REDUCTION ? QE_INC : QE_COPY, QE_S32,
                      &copy);
        if (which != ENDS_UNCOMMITTED) qe_bulk_commit(t, &copy);
        if (which == OVERWRITES_SOURCE) emu_put(t, tile, &v, 4, &look);
        if (which != ENDS_BEFORE_READ) qe_bulk_wait(t, 0, which == WAITS_FOR_READS_ONLY, &wait_for);
        if (which == ENDS_UNCOMMITTED || which == ENDS_BEFORE_READ) return;
        qe_access(t, w->to, 4, QE_READ, &look);
        w->found[0] = w->to[0];
    }
}

static void test_mistakes(void **state) {
    (void)state;
    static const struct {
        int which;
        const char *finding;
    } rows[] = {{RIGHT, ""},
                {READ_BEFORE_WAIT, "race"},
                {NO_FENCE_AFTER_INIT, "mbarrier: "},
                {NO_FENCE_BEFORE_STORE, "proxy-race"},
                {OVERWRITES_SOURCE, "race"},
                {ENDS_BEFORE_READ, "before this copy has read its source"},
                {ENDS_UNCOMMITTED, "before this copy has read its source"},
                {LOAD_NOT_WAITED, "async: "},
                {SIZE_NOT_16, "misaligned"},
                {SOURCE_NOT_16, "misaligned"},
                {FROM_SHARED, "expected a source in global memory"},
                {NO_MBARRIER, "not an initialised mbarrier"},
                {PAST_THE_END, "oob-shared"},
                {PAST_THE_ALLOCATION, "oob-global"},
                {WAITS_FOR_READS_ONLY, "race"},
                {BAD_REDUCTION, "no such reduction"},
                {INTO_USED_TILE, "race"}};
    assert_int_equal(sizeof rows / sizeof *rows, MISTAKES);
    for (int mode = 0; mode < 4; mode++)
        for (size_t i = 0; i < MISTAKES; i++) {
            assert_true(qe_configure(modes[mode]));
            work w = make_work(rows[i].which);
            emu_run(mistaken, (emu_shape){1, 1, 64, 16 + 512}, &w);
            const char *text = emu_findings();
            if (*rows[i].finding ? !strstr(text, rows[i].finding) : *text)
                fail_msg("%s, mistake %d: found \"%s\", expected \"%s\"", modes[mode],
                         rows[i].which, text, rows[i].finding);
            free_work(&w);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_late_copies),
        cmocka_unit_test(test_zero_fill),
        cmocka_unit_test(test_copies_announced_at_an_mbarrier),
        cmocka_unit_test(test_bulk_round_trip),
        cmocka_unit_test(test_between_blocks),
        cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
