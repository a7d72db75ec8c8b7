/* test_emu_mbarrier.c — mbarriers: phases, states, transaction counts, arrivals from other blocks,
 * misuse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/emu_bodies.h"

static const qe_site init = {"body.cu", 1, "mbarrier.init"}, use = {"body.cu", 2, "mbarrier"},
                     barrier = {"body.cu", 3, "bar"}, access = {"body.cu", 4, "ld/st"};

static const char *const modes[] = {"watch=check,quiet=1,schedule=fifo,bases=fixed",
                                    "watch=check,quiet=1,schedule=random,seed=3",
                                    "watch=check,quiet=1,schedule=pct,seed=8,bases=random"};
enum { MODES = sizeof modes / sizeof *modes };

static uint32_t low_of(const qe_thread *t) { return t->block->dynamic_shared; }

/* ---- a ring: one warp fills four slots, three warps empty them ------------------------------- */

enum { SLOTS = 4, ROUNDS = 23 };

typedef struct ring {
    bool by_state; /* consumers wait with the state that arrive returned */
    bool keep;     /* planted: the producer does not wait for empty slots */
    uint32_t sum[4];
} ring;

static void turn(qe_thread *t, char *params) {
    ring *x = (ring *)(void *)params;
    uint32_t full = low_of(t), empty = full + 8 * SLOTS, data = empty + 8 * SLOTS;
    if (t->linear == 0)
        for (uint32_t i = 0; i < SLOTS; i++) {
            qe_mbarrier_init(t, full + 8 * i, 32, &init);
            qe_mbarrier_init(t, empty + 8 * i, 96, &init);
        }
    qe_barrier_sync(t, 0, 0, &barrier);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t slot = round % SLOTS, parity = round / SLOTS & 1u, value = 100 * round + t->lane;
        if (t->linear < 32) {
            while (!x->keep &&
                   !qe_mbarrier_wait_parity(t, empty + 8 * slot, parity ^ 1u, true, &use)) {}
            emu_put(t, data + 128 * slot + 4 * t->lane, &value, 4, &access);
            qe_mbarrier_arrive(t, full + 8 * slot, 1, false, &use);
        } else {
            while (!qe_mbarrier_wait_parity(t, full + 8 * slot, parity, t->lane % 2, &use)) {}
            emu_get(t, data + 128 * slot + 4 * ((t->lane + 1) % 32), &value, 4, &access);
            x->sum[t->linear / 32] += value;
            qe_mbarrier_arrive(t, empty + 8 * slot, 1, false, &use);
        }
    }
}

static void test_ring(void **state) {
    (void)state;
    for (int mode = 0; mode < MODES; mode++) {
        assert_true(qe_configure(modes[mode]));
        ring x = {0};
        assert_true(emu_run(turn, (emu_shape){1, 1, 128, 1024}, &x));
        assert_string_equal(emu_findings(), "");
        uint32_t want = 0;
        for (uint32_t i = 0; i < ROUNDS; i++) want += 32 * 100 * i + 31 * 32 / 2;
        for (int warp = 1; warp < 4; warp++) assert_int_equal(x.sum[warp], want);
    }
    ring x = {.keep = true};
    assert_true(qe_configure(modes[0]));
    emu_run(turn, (emu_shape){1, 1, 128, 1024}, &x);
    assert_non_null(strstr(emu_findings(), "race"));
}

/* ---- states, counts, dropping out ------------------------------------------------------------ */

typedef struct report {
    uint32_t pending[4];
    bool early, late;
    uint64_t word;
} report;

/* One thread plays all parts of a barrier of three. */
static void count_down(qe_thread *t, char *params) {
    report *r = (report *)(void *)params;
    uint32_t bar = low_of(t);
    qe_mbarrier_init(t, bar, 3, &init);
    uint64_t s = qe_mbarrier_arrive(t, bar, 1, false, &use);
    r->pending[0] = qe_mbarrier_pending_count(s);
    r->early = qe_mbarrier_wait_state(t, bar, s, false, &use);
    qe_mbarrier_expect_tx(t, bar, 64, &use);
    r->pending[1] =
        qe_mbarrier_pending_count(qe_mbarrier_arrive_no_complete(t, bar, 1, true, &use));
    qe_mbarrier_arrive(t, bar, 1, false, &use); /* 64 bytes to come */
    r->early = r->early || qe_mbarrier_wait_parity(t, bar, 0, false, &use);
    qe_mbarrier_complete_tx(t, bar, 16, &use);
    qe_mbarrier_complete_tx(t, bar, 48, &use);
    r->late = qe_mbarrier_wait_state(t, bar, s, true, &use) &&
              qe_mbarrier_wait_parity(t, bar, 0, true, &use);
    /* one has dropped out: the next phase expects two */
    r->pending[2] = qe_mbarrier_pending_count(qe_mbarrier_arrive(t, bar, 2, false, &use));
    r->late = r->late && qe_mbarrier_wait_parity(t, bar, 1, true, &use);
    /* bytes may arrive before they are expected */
    qe_mbarrier_complete_tx(t, bar, 32, &use);
    qe_mbarrier_arrive(t, bar, 2, false, &use);
    r->early = r->early || qe_mbarrier_wait_parity(t, bar, 0, false, &use);
    qe_mbarrier_expect_tx(t, bar, 32, &use);
    r->late = r->late && qe_mbarrier_wait_parity(t, bar, 0, true, &use);
    qe_mbarrier_inval(t, bar, &use);
    qe_mbarrier_init(t, bar, 7, &init);
    r->pending[3] = qe_mbarrier_pending_count(qe_mbarrier_arrive(t, bar, 7, false, &use));
}

static void test_counts(void **state) {
    (void)state;
    assert_true(qe_configure(modes[0]));
    report r = {0};
    assert_true(emu_run(count_down, (emu_shape){1, 1, 1, 64}, &r));
    assert_string_equal(emu_findings(), "");
    assert_false(r.early);
    assert_true(r.late);
    assert_int_equal(r.pending[0], 3);
    assert_int_equal(r.pending[1], 2);
    assert_int_equal(r.pending[2], 2);
    assert_int_equal(r.pending[3], 7);
}

/* ---- a cluster: every block fills its neighbour's memory and arrives there ------------------- */

static void pass_on(qe_thread *t, char *params) {
    uint32_t *found = (uint32_t *)(void *)params, bar = low_of(t), data = bar + 64;
    uint32_t rank = t->block->cluster_rank, n = t->block->cluster_size, value = 0;
    if (t->linear == 0) qe_mbarrier_init(t, bar, t->block->n_threads, &init);
    qe_cluster_arrive(t, true, &barrier);
    qe_cluster_wait(t, true, &barrier);
    uint32_t mine = 1000 * rank + t->linear, to = (rank + 1) % n;
    emu_put(t, qe_mapa(t, data + 4 * t->linear, to, &use), &mine, 4, &access);
    qe_mbarrier_arrive(t, qe_mapa(t, bar, to, &use), 1, false, &use);
    while (!qe_mbarrier_wait_parity(t, bar, 0, true, &use)) {}
    emu_get(t, data + 4 * ((t->linear + 5) % t->block->n_threads), &value, 4, &access);
    found[rank * t->block->n_threads + t->linear] = value;
    qe_cluster_arrive(t, true, &barrier);
    qe_cluster_wait(t, true, &barrier);
}

static void test_remote_arrivals(void **state) {
    (void)state;
    for (int mode = 0; mode < MODES; mode++) {
        assert_true(qe_configure(modes[mode]));
        uint32_t found[4][64];
        assert_true(emu_run(pass_on, (emu_shape){4, 4, 64, 512}, found));
        assert_string_equal(emu_findings(), "");
        for (uint32_t b = 0; b < 4; b++)
            for (uint32_t i = 0; i < 64; i++)
                assert_int_equal(found[b][i], 1000 * ((b + 3) % 4) + (i + 5) % 64);
    }
}

/* ---- misuse ---------------------------------------------------------------------------------- */

typedef struct mistake {
    int which;
} mistake;

enum {
    NOT_INITIALISED,
    AFTER_INVAL,
    ODD_ADDRESS,
    TOO_MANY_ARRIVALS,
    COUNT_ZERO,
    WRITTEN_OVER,
    INIT_IN_USE,
    NO_COMPLETE_ENDS,
    TOO_MANY_BYTES,
    OLD_STATE,
    NOT_A_STATE,
    OTHERS_BARRIER,
    NOBODY_ARRIVES,
    LOOKS_FOREVER,
    BYTES_NEVER_COME,
    SAFE_INIT_TWICE
};

static void mistaken(qe_thread *t, char *params) {
    int which = ((mistake *)(void *)params)->which;
    uint32_t bar = low_of(t);
    if (t->block->cluster_rank == 0 && t->linear == 0 && which != NOT_INITIALISED &&
        which != COUNT_ZERO)
        qe_mbarrier_init(t, bar, 2, &init);
    qe_cluster_arrive(t, true, &barrier);
    qe_cluster_wait(t, true, &barrier);
    if (t->linear || (t->block->cluster_rank != 0) != (which == OTHERS_BARRIER)) return;
    uint64_t junk = 0x1234, s;
    switch (which) {
    case AFTER_INVAL: qe_mbarrier_inval(t, bar, &use); break;
    case ODD_ADDRESS: bar += 4; break;
    case TOO_MANY_ARRIVALS: qe_mbarrier_arrive(t, bar, 3, false, &use); break;
    case COUNT_ZERO: qe_mbarrier_init(t, bar, 0, &init); break;
    case WRITTEN_OVER: emu_put(t, bar, &junk, 8, &access); break;
    case INIT_IN_USE: qe_mbarrier_arrive(t, bar, 1, false, &use); break;
    case NO_COMPLETE_ENDS: qe_mbarrier_arrive_no_complete(t, bar, 2, false, &use); return;
    case TOO_MANY_BYTES:
        for (int i = 0; i < 17; i++) qe_mbarrier_expect_tx(t, bar, 65536, &use);
        break;
    case OLD_STATE:
        s = qe_mbarrier_arrive(t, bar, 2, false, &use);
        qe_mbarrier_arrive(t, bar, 2, false, &use);
        qe_mbarrier_wait_state(t, bar, s, true, &use);
        return;
    case NOT_A_STATE: qe_mbarrier_wait_state(t, bar, 0, true, &use); return;
    case OTHERS_BARRIER:
        qe_mbarrier_wait_parity(t, qe_mapa(t, bar, 0, &use), 0, true, &use);
        return;
    case NOBODY_ARRIVES: qe_mbarrier_wait_parity(t, bar, 0, true, &use); return;
    case LOOKS_FOREVER:
        while (!qe_mbarrier_wait_parity(t, bar, 0, false, &use)) {}
        return;
    case BYTES_NEVER_COME: qe_mbarrier_expect_tx(t, bar, 16, &use); return;
    default: break;
    }
    if (which == INIT_IN_USE || which == SAFE_INIT_TWICE)
        qe_mbarrier_init(t, bar, 2, &init);
    else
        qe_mbarrier_arrive(t, bar, 1, false, &use);
}

static void test_misuse(void **state) {
    (void)state;
    static const struct {
        int which;
        const char *finding, *text;
    } rows[] = {
        {NOT_INITIALISED, "mbarrier", "are not an initialised mbarrier"},
        {AFTER_INVAL, "mbarrier", "are not an initialised mbarrier"},
        {ODD_ADDRESS, "misaligned", "mbarrier at"},
        {TOO_MANY_ARRIVALS, "mbarrier", "3 arrivals at the mbarrier at smem+0x0, only 2 of 2"},
        {COUNT_ZERO, "mbarrier", "found a count of 0"},
        {WRITTEN_OVER, "mbarrier", "was written over: found 0x1234"},
        {INIT_IN_USE, "mbarrier", "is in use: phase 0, pending 1 of 2"},
        {NO_COMPLETE_ENDS, "mbarrier", "arrive.noComplete ends the phase"},
        {TOO_MANY_BYTES, "mbarrier", "beyond +-1048575"},
        {OLD_STATE, "mbarrier", "is not a state of this phase or the one before"},
        {NOT_A_STATE, "mbarrier", "is not a state of this phase or the one before"},
        {OTHERS_BARRIER, "mbarrier", "belongs to another block"},
        {NOBODY_ARRIVES, "deadlock", "waiting parity 0, phase parity 0, pending 2 of 2"},
        {LOOKS_FOREVER, "livelock", "body.cu:2"},
        {BYTES_NEVER_COME, "mbarrier", "still expects 16 bytes"},
        {SAFE_INIT_TWICE, "", ""},
    };
    assert_true(qe_configure(modes[0]));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mistake m = {rows[i].which};
        emu_run(mistaken, (emu_shape){2, 2, 32, 64}, &m);
        const char *text = emu_findings();
        if (strncmp(text, rows[i].finding, strlen(rows[i].finding)) != 0 ||
            !strstr(text, rows[i].text) || (!*rows[i].finding && *text))
            fail_msg("mistake %d: found \"%s\", expected \"%s: %s\"", m.which, text,
                     rows[i].finding, rows[i].text);
    }
}

/* ---- the instructions, in PTX ---------------------------------------------------------------- */

static void test_forms_of_the_instructions(void **state) {
    (void)state;
    const qe_kernel *k = NULL;
    for (const qe_module *m = qe_module_first(); m; m = m->next)
        for (uint32_t i = 0; i < m->n_kernels; i++)
            if (strcmp(m->kernels[i].name, "mbarrier_forms") == 0) k = &m->kernels[i];
    assert_non_null(k);
    for (int mode = 0; mode < MODES; mode++) {
        assert_true(qe_configure(modes[mode]));
        struct {
            uint32_t *result, *source;
        } x = {qe_memory_alloc(64), qe_memory_alloc(64)};
        for (uint32_t i = 0; i < 16; i++) x.source[i] = 0x01010101u * (i + 1);
        qe_check_host_write(x.source, 64);
        assert_true(qe_run(k, (qe_shape){1, 1, 1}, (qe_shape){1, 1, 1}, (qe_shape){1, 1, 1}, 0,
                           (const char *)&x));
        assert_string_equal(emu_findings(), "");
        const uint32_t want[16] = {4,
                                   0,
                                   3,
                                   1,
                                   0,
                                   1,
                                   3,
                                   1,
                                   x.source[0],
                                   x.source[3],
                                   x.source[7],
                                   x.source[8],
                                   x.source[9] & 0xff,
                                   0,
                                   x.source[15],
                                   x.source[1]};
        for (int i = 0; i < 16; i++) assert_int_equal(x.result[i], want[i]);
        qe_memory_free(x.result);
        qe_memory_free(x.source);
    }
}

/* No barrier between the initialisation and the first use. */
static void hurried(qe_thread *t, char *params) {
    (void)params;
    if (t->linear == 0) qe_mbarrier_init(t, low_of(t), 32, &init);
    qe_shfl(t, QE_SHFL_IDX, ~0u, 0, 0, 31, NULL, &barrier);
    qe_mbarrier_arrive(t, low_of(t), 1, false, &use);
}

static void test_use_before_initialisation_is_known(void **state) {
    (void)state;
    assert_true(qe_configure(modes[0]));
    assert_true(emu_run(hurried, (emu_shape){1, 1, 32, 64}, NULL));
    const char *text = emu_findings();
    assert_non_null(strstr(text, "not ordered after the initialisation"));
    assert_non_null(strstr(text, "body.cu:1"));
    assert_non_null(strstr(text, "body.cu:2"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_remote_arrivals),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_forms_of_the_instructions),
        cmocka_unit_test(test_use_before_initialisation_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
