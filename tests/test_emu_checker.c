/* test_emu_checker.c — the emulator's checker: each rule with a kernel that keeps it and one that
 * does not, written as a translator would.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/emu/machine.h"

enum { NOTHING = QE_BUG_COUNT, N = 256 };

static const qe_site site_store = {"case.cu", 1, "st"}, site_load = {"case.cu", 2, "ld"};
static const qe_site site_meet = {"case.cu", 3, "bar"}, site_atom = {"case.cu", 4, "atom"};
static const qe_site site_copy = {"case.cu", 5, "cp"};

/* What a kernel gets: memory of N floats that the host wrote, the same without, a counter. */
typedef struct arguments {
    uint32_t *known, *fresh, *counter;
    int variant;
} arguments;

static void put_shared(qe_thread *t, uint32_t i, uint32_t v) {
    uint32_t at = t->block->dynamic_shared + 4 * i;
    char *p = qe_shared(t, at, 4, &site_store);
    qe_access(t, p, 4, QE_WRITE, &site_store);
    memcpy(p, &v, 4);
}
static uint32_t get_shared(qe_thread *t, uint32_t i) {
    uint32_t v, at = t->block->dynamic_shared + 4 * i;
    char *p = qe_shared(t, at, 4, &site_load);
    qe_access(t, p, 4, QE_READ, &site_load);
    memcpy(&v, p, 4);
    return v;
}
static void put(qe_thread *t, uint32_t *p, uint32_t v) {
    qe_access(t, p, 4, QE_WRITE, &site_store);
    *p = v;
}
static uint32_t get(qe_thread *t, const uint32_t *p) {
    qe_access(t, p, 4, QE_READ, &site_load);
    return *p;
}
static uint32_t add(qe_thread *t, uint32_t *p, uint32_t v, qe_order order) {
    qe_atomic_access(t, p, 4, QE_WRITE | QE_ATOMIC | QE_UPDATE, order, &site_atom);
    uint32_t old = *p;
    *p += v;
    return old;
}
static char *host_of(qe_thread *t, uint32_t i) {
    return qe_shared(t, t->block->dynamic_shared + 4 * i, 4, &site_load);
}
static void barrier(qe_thread *t) { qe_barrier_sync(t, 0, 0, &site_meet); }
static const arguments *of(const char *params) { return (const arguments *)(const void *)params; }

/* ---- threads of a block ---------------------------------------------------------------------- */

/* 0 a barrier between, 1 none, 2 writes again without a second barrier, 3 with it */
static void neighbours(qe_thread *t, char *params) {
    int variant = of(params)->variant;
    uint32_t i = t->linear, n = t->block->n_threads;
    for (int turn = 0; turn < 3; turn++) {
        put_shared(t, i, i);
        if (variant != 1) barrier(t);
        get_shared(t, (i + 40) % n);
        if (variant != 2) barrier(t);
    }
}

/* 0 __syncwarp between, 1 a shuffle only, 2 __syncwarp but read from another warp */
static void lanes(qe_thread *t, char *params) {
    int variant = of(params)->variant;
    uint32_t i = t->linear, n = t->block->n_threads;
    bool ok;
    put_shared(t, i, i);
    if (variant == 1)
        qe_shfl(t, QE_SHFL_IDX, ~0u, i, 0, 31, &ok, &site_meet);
    else
        qe_warp_sync(t, ~0u, &site_meet);
    get_shared(t, variant == 2 ? (i + 32) % n : (i & ~31u) | ((i + 1) & 31));
}

/* Warp 0 fills, the others read: 0 bar.arrive and bar.sync, 1 readers do not wait, 2 the arrival
 * comes before the write */
static void named(qe_thread *t, char *params) {
    int variant = of(params)->variant;
    uint32_t i = t->linear, n = t->block->n_threads;
    if (i < 32) {
        if (variant == 2) qe_barrier_arrive(t, 3, n, &site_meet);
        put_shared(t, i, i);
        if (variant != 2) qe_barrier_arrive(t, 3, n, &site_meet);
    } else {
        if (variant == 1)
            qe_barrier_arrive(t, 3, n, &site_meet);
        else
            qe_barrier_sync(t, 3, n, &site_meet);
        get_shared(t, i % 32);
    }
    if (variant != 1) return;
    barrier(t);
}

/* Two warps of three meet twice, then all meet; 1: the third reads before that */
static void halves(qe_thread *t, char *params) {
    int variant = of(params)->variant;
    uint32_t i = t->linear, half = t->block->n_threads / 3 * 2;
    if (i < half) {
        put_shared(t, i, 1);
        qe_barrier_sync(t, 1, half, &site_meet);
        put_shared(t, (i + 1) % half, 2);
        qe_barrier_sync(t, 1, half, &site_meet);
    }
    if (variant == 0) barrier(t);
    get_shared(t, i % half);
    if (variant == 1) barrier(t);
}

/* Atomics on shared memory: 0 with barriers around, 1 read without one, 2 not initialised */
static void shared_atomics(qe_thread *t, char *params) {
    int variant = of(params)->variant;
    if (t->linear == 0 && variant != 2) put_shared(t, 0, 0);
    barrier(t);
    add(t, (uint32_t *)(void *)host_of(t, 0), 1, QE_RELAXED);
    if (variant != 1) barrier(t);
    get_shared(t, 0);
}

/* ---- bounds and initialisation --------------------------------------------------------------- */

/* 0 inside, 1 one past the end, 2 one before, 3 a vector that ends one past, 4 far away */
static void outside(qe_thread *t, char *params) {
    const arguments *a = of(params);
    if (t->linear) return;
    uint32_t *p = a->known + (a->variant == 1 ? N : a->variant == 2 ? -1 : N - 1);
    if (a->variant == 3)
        qe_access(t, a->known + N - 2, 16, QE_WRITE, &site_store);
    else if (a->variant == 4)
        get(t, (uint32_t *)(void *)(qe_global_high - 4096));
    else
        put(t, p, 1);
}

/* 0 shared memory inside, 1 through a generic address behind its end */
static void outside_shared(qe_thread *t, char *params) {
    if (t->linear) return;
    uint32_t *p = (uint32_t *)(void *)host_of(t, 0);
    put(t, p + (of(params)->variant ? t->block->dynamic_bytes / 4 : 0), 1);
}

/* 0 what the host wrote, 1 what nobody did, 2 what the thread wrote, 3 half of it,
 * 4 shared memory nobody wrote, 5 an update of what nobody wrote, 6 a gap in a vector, 7 beside
 * it */
static void unwritten(qe_thread *t, char *params) {
    const arguments *a = of(params);
    if (t->linear) return;
    if (a->variant == 0) get(t, a->known + 3);
    if (a->variant == 1) get(t, a->fresh + 3);
    if (a->variant == 2) put(t, a->fresh + 3, 1), get(t, a->fresh + 3);
    if (a->variant == 3) {
        qe_access(t, a->fresh + 3, 2, QE_WRITE, &site_store);
        get(t, a->fresh + 3);
    }
    if (a->variant == 4) get_shared(t, 7);
    if (a->variant == 5) add(t, a->fresh + 3, 1, QE_RELAXED);
    if (a->variant >= 6) { /* a vector, of which one word is not used */
        for (int i = 0; i < 3; i++) put(t, a->fresh + i, 1);
        uint32_t unused = a->variant == 6 ? 0xf000u : 0x0f00u;
        qe_access(t, a->fresh, 16, QE_READ | unused << QE_UNUSED, &site_load);
    }
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Every block: 0 its own word, 1 the same word, 2 the same word by atomics, 3 one block plainly,
 * 4 volatile, 5 all read the same word */
static void blocks(qe_thread *t, char *params) {
    const arguments *a = of(params);
    uint32_t b = t->block->ctaid[0];
    if (t->linear) return;
    if (a->variant == 0) put(t, a->known + b, b);
    if (a->variant == 1) put(t, a->known, b);
    if (a->variant == 2 || (a->variant == 3 && b)) add(t, a->known, 1, QE_RELAXED);
    if (a->variant == 3 && !b) put(t, a->known, 1);
    if (a->variant == 4)
        qe_atomic_access(t, a->known, 4, QE_WRITE | QE_VOLATILE, QE_RELAXED, &site_store);
    if (a->variant == 5) get(t, a->known);
}

/* The last block reads what all wrote: 0 fences on both sides, 1 not before the count, 2 not after,
 * 3 a fence of the block before, 4 of the block after, 5 acq_rel instead of fences,
 * 6 release only */
static void last_block(qe_thread *t, char *params) {
    const arguments *a = of(params);
    int v = a->variant;
    uint32_t b = t->block->ctaid[0], n = t->block->nctaid[0];
    if (t->linear) return;
    put(t, a->fresh + b, b);
    if (v == 0 || v == 2 || v == 4) qe_fence(t, QE_SCOPE_GPU, &site_meet);
    if (v == 3) qe_fence(t, QE_SCOPE_CTA, &site_meet);
    qe_order order = v == 5 ? QE_ACQ_REL : v == 6 ? QE_RELEASE : QE_RELAXED;
    if (add(t, a->counter, 1, order) != n - 1) return;
    if (v == 0 || v == 1 || v == 3) qe_fence(t, QE_SCOPE_GPU, &site_meet);
    if (v == 4) qe_fence(t, QE_SCOPE_CTA, &site_meet);
    for (uint32_t i = 0; i < n; i++) get(t, a->fresh + i);
}

/* Blocks of a cluster write into each other: 0 a cluster barrier before the read, 1 none,
 * 2 relaxed arrival */
static void clusters(qe_thread *t, char *params) {
    int variant = of(params)->variant;
    uint32_t i = t->linear, peer = t->block->cluster_rank ^ 1;
    qe_cluster_arrive(t, true, &site_meet); /* the peer has begun */
    qe_cluster_wait(t, true, &site_meet);
    uint32_t at = qe_mapa(t, t->block->dynamic_shared + 4 * i, peer, &site_store);
    char *p = qe_shared(t, at, 4, &site_store);
    qe_access(t, p, 4, QE_WRITE, &site_store);
    if (variant == 1) barrier(t);
    if (variant != 1) qe_cluster_arrive(t, variant == 0, &site_meet);
    if (variant != 1) qe_cluster_wait(t, true, &site_meet);
    get_shared(t, (i + 1) % t->block->n_threads);
    qe_cluster_arrive(t, true, &site_meet);
    qe_cluster_wait(t, true, &site_meet);
}

/* ---- asynchronous operations ----------------------------------------------------------------- */

/* An operation writes a word: 0 waited for through an object, 1 read at once, 2 waited for by the
 * issuer, who tells the others at a barrier, 3 others read without that, 4 written while the
 * operation may still read */
static void operations(qe_thread *t, char *params) {
    int v = of(params)->variant;
    static qe_sync done;
    static qe_agent a;
    char *p = host_of(t, 0);
    if (t->linear == 0) {
        if (v == 4) put_shared(t, 0, 1), qe_check_fence_proxy(t);
        qe_agent_start(&a, t, false);
        qe_agent_access(&a, t->block, p, 4, (v == 4 ? QE_READ : QE_WRITE) | QE_BY_ASYNC,
                        &site_copy);
        if (v == 0) qe_agent_complete(&a, &done);
        if (v == 2 || v == 3) qe_agent_waited(&a, t);
        if (v == 4) put_shared(t, 0, 2);
        if (v == 2 || v == 3) get_shared(t, 0);
    }
    if (v < 3) barrier(t);
    if (v == 0) qe_sync_acquire(&done, t);
    if (v != 4) get_shared(t, 0);
    barrier(t);
    if (t->linear == 0) qe_agent_end(&a), qe_sync_forget(&done);
}

/* Threads write, one starts an operation that reads: 0 each fences, then the barrier; 1 nobody
 * fences; 2 the issuer alone, after the barrier; 3 each fences, after the barrier; 4 cp.async,
 * which needs no fence for the own word */
static void proxies(qe_thread *t, char *params) {
    int v = of(params)->variant;
    uint32_t i = t->linear;
    put_shared(t, i, i);
    if (v == 0) qe_check_fence_proxy(t);
    barrier(t);
    if ((v == 2 && i == 0) || v == 3) qe_check_fence_proxy(t);
    if (i == 0) {
        qe_agent a;
        qe_agent_start(&a, t, v == 4);
        uint32_t flags = v == 4 ? QE_READ : QE_READ | QE_BY_ASYNC;
        qe_agent_access(&a, t->block, host_of(t, 0), v == 4 ? 4 : 128, flags, &site_copy);
        qe_agent_waited(&a, t);
        qe_agent_end(&a);
    }
}

/* Two groups of cp.async: 0 wait for both and read the second, 1 wait for the first only,
 * 2 wait for the first and read it */
static void groups(qe_thread *t, char *params) {
    int v = of(params)->variant;
    qe_agent first, second;
    uint32_t i = t->linear, n = t->block->n_threads;
    qe_agent_start(&first, t, true);
    qe_agent_access(&first, t->block, host_of(t, i), 4, QE_WRITE, &site_copy);
    qe_agent_start(&second, t, true);
    qe_agent_access(&second, t->block, host_of(t, n + i), 4, QE_WRITE, &site_copy);
    qe_agent_waited(v == 0 ? &second : &first, t);
    barrier(t);
    get_shared(t, v == 2 ? (i + 1) % n : n + (i + 1) % n);
    barrier(t);
    qe_agent_end(&first);
    qe_agent_end(&second);
}

/* ---- the table ------------------------------------------------------------------------------- */

typedef struct one_case {
    const char *name;
    qe_body *body;
    int variant, finding;
    uint32_t grid, cluster;
} one_case;

static const one_case cases[] = {
    {"barrier", neighbours, 0, NOTHING, 1, 1},
    {"no barrier", neighbours, 1, QE_BUG_RACE, 1, 1},
    {"no second barrier", neighbours, 2, QE_BUG_RACE, 1, 1},
    {"barrier, many blocks", neighbours, 3, NOTHING, 70, 1},
    {"syncwarp", lanes, 0, NOTHING, 1, 1},
    {"shuffle is no barrier", lanes, 1, QE_BUG_RACE, 1, 1},
    {"syncwarp is of one warp", lanes, 2, QE_BUG_RACE, 1, 1},
    {"named barrier", named, 0, NOTHING, 1, 1},
    {"named barrier not waited for", named, 1, QE_BUG_RACE, 1, 1},
    {"named barrier too early", named, 2, QE_BUG_RACE, 1, 1},
    {"some meet, then all", halves, 0, NOTHING, 1, 1},
    {"some meet, others read", halves, 1, QE_BUG_RACE, 1, 1},
    {"shared atomics", shared_atomics, 0, NOTHING, 1, 1},
    {"shared atomics, plain read", shared_atomics, 1, QE_BUG_RACE, 1, 1},
    {"shared atomics, not initialised", shared_atomics, 2, QE_BUG_UNINIT_SHARED, 1, 1},
    {"inside", outside, 0, NOTHING, 1, 1},
    {"one past the end", outside, 1, QE_BUG_OOB_GLOBAL, 1, 1},
    {"one before", outside, 2, QE_BUG_OOB_GLOBAL, 1, 1},
    {"vector across the end", outside, 3, QE_BUG_MISALIGNED, 1, 1},
    {"far away", outside, 4, QE_BUG_OOB_GLOBAL, 1, 1},
    {"shared inside", outside_shared, 0, NOTHING, 1, 1},
    {"shared outside", outside_shared, 1, QE_BUG_OOB_SHARED, 1, 1},
    {"host wrote", unwritten, 0, NOTHING, 1, 1},
    {"nobody wrote", unwritten, 1, QE_BUG_UNINIT_GLOBAL, 1, 1},
    {"thread wrote", unwritten, 2, NOTHING, 1, 1},
    {"half written", unwritten, 3, QE_BUG_UNINIT_GLOBAL, 1, 1},
    {"shared, nobody wrote", unwritten, 4, QE_BUG_UNINIT_SHARED, 2, 1},
    {"update of nothing", unwritten, 5, QE_BUG_UNINIT_GLOBAL, 1, 1},
    {"a gap in a vector", unwritten, 6, NOTHING, 1, 1},
    {"beside a gap", unwritten, 7, QE_BUG_UNINIT_GLOBAL, 1, 1},
    {"blocks apart", blocks, 0, NOTHING, 40, 1},
    {"blocks, same word", blocks, 1, QE_BUG_RACE_GRID, 40, 1},
    {"blocks, atomics", blocks, 2, NOTHING, 40, 1},
    {"blocks, atomics and a write", blocks, 3, QE_BUG_RACE_GRID, 40, 1},
    {"blocks, volatile", blocks, 4, NOTHING, 40, 1},
    {"blocks, reads", blocks, 5, NOTHING, 40, 1},
    {"last block", last_block, 0, NOTHING, 100, 1},
    {"last block, no fence before", last_block, 1, QE_BUG_RACE_GRID, 100, 1},
    {"last block, no fence after", last_block, 2, QE_BUG_RACE_GRID, 100, 1},
    {"last block, narrow before", last_block, 3, QE_BUG_RACE_GRID, 100, 1},
    {"last block, narrow after", last_block, 4, QE_BUG_RACE_GRID, 100, 1},
    {"last block, acq_rel", last_block, 5, NOTHING, 100, 1},
    {"last block, release only", last_block, 6, QE_BUG_RACE_GRID, 100, 1},
    {"cluster barrier", clusters, 0, NOTHING, 8, 2},
    {"no cluster barrier", clusters, 1, QE_BUG_RACE, 8, 2},
    {"relaxed cluster arrival", clusters, 2, QE_BUG_RACE, 8, 2},
    {"operation, object", operations, 0, NOTHING, 1, 1},
    {"operation, not waited for", operations, 1, QE_BUG_RACE, 1, 1},
    {"operation, barrier", operations, 2, NOTHING, 1, 1},
    {"operation, others not told", operations, 3, QE_BUG_RACE, 1, 1},
    {"operation still reads", operations, 4, QE_BUG_RACE, 1, 1},
    {"writers fence", proxies, 0, NOTHING, 1, 1},
    {"nobody fences", proxies, 1, QE_BUG_PROXY_RACE, 1, 1},
    {"issuer fences", proxies, 2, QE_BUG_PROXY_RACE, 1, 1},
    {"fence too late", proxies, 3, QE_BUG_PROXY_RACE, 1, 1},
    {"cp.async needs no fence", proxies, 4, NOTHING, 1, 1},
    {"both groups", groups, 0, NOTHING, 1, 1},
    {"one group too few", groups, 1, QE_BUG_RACE, 1, 1},
    {"the first group", groups, 2, NOTHING, 1, 1},
};

static void run_case(const one_case *c) {
    uint32_t threads = 96;
    arguments a = {.variant = c->variant};
    a.known = qe_memory_alloc(N * 4);
    a.fresh = qe_memory_alloc(N * 4);
    a.counter = qe_memory_alloc(4);
    memset(a.known, 0, N * 4);
    memset(a.counter, 0, 4);
    qe_check_host_write(a.known, N * 4);
    qe_check_host_write(a.counter, 4);
    const qe_param param = {0, sizeof a};
    qe_kernel k = {
        .name = c->name, .body = c->body, .param_bytes = sizeof a, .n_params = 1, .params = &param};
    qe_run(&k, (qe_shape){c->grid, 1, 1}, (qe_shape){threads, 1, 1}, (qe_shape){c->cluster, 1, 1},
           8 * threads, (const char *)&a);
    qe_memory_free(a.known);
    qe_memory_free(a.fresh);
    qe_memory_free(a.counter);
}

/* The right finding and no other, or none; a read that races may also find nothing written. */
static int judge(const one_case *c, const char *mode) {
    int n = qe_findings(), right = n == 0;
    if (c->finding != NOTHING) {
        int same = qe_findings_of((qe_finding)c->finding), more = 0;
        if (c->finding == QE_BUG_RACE) more = qe_findings_of(QE_BUG_UNINIT_SHARED);
        right = same > 0 && same + more == n;
    }
    if (right) return 0;
    print_error("%s (%s): %d findings, first: %s\n", c->name, mode, n,
                n ? qe_finding_text(0) : "none");
    return 1;
}

static void run_all(const char *mode) {
    int wrong = 0;
    char text[200] = "watch=check,quiet=1,";
    strncat(text, mode, sizeof text - strlen(text) - 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(qe_configure(text));
        qe_findings_clear();
        run_case(&cases[i]);
        wrong += judge(&cases[i], mode);
    }
    qe_findings_clear();
    assert_int_equal(wrong, 0);
}

static void test_every_rule_in_order(void **state) {
    (void)state;
    run_all("schedule=fifo");
}
static void test_every_rule_at_random(void **state) {
    (void)state;
    run_all("schedule=random,seed=5");
    run_all("schedule=pct,seed=9,bases=random");
}

/* strict=0: who starts the operation may fence for all whose writes it knows of. */
static void test_one_fence_may_do(void **state) {
    (void)state;
    const one_case lenient[] = {{"issuer fences", proxies, 2, NOTHING, 1, 1},
                                {"nobody fences", proxies, 1, QE_BUG_PROXY_RACE, 1, 1}};
    int wrong = 0;
    for (int i = 0; i < 2; i++) {
        assert_true(qe_configure("watch=check,quiet=1,strict=0"));
        qe_findings_clear();
        run_case(&lenient[i]);
        wrong += judge(&lenient[i], "strict=0");
    }
    qe_findings_clear();
    assert_int_equal(wrong, 0);
}

/* Copies on the device carry what was written and what was not, also onto themselves. */
static void test_copies_carry_the_state(void **state) {
    (void)state;
    assert_true(qe_configure("watch=check,quiet=1"));
    for (int variant = 0; variant < 4; variant++) {
        arguments a = {.variant = 0};
        uint32_t *from = qe_memory_alloc(N * 4);
        a.known = qe_memory_alloc(N * 4);
        qe_check_host_write(from, 16); /* words 0 to 3 */
        if (variant == 0) qe_check_copy(a.known, from, N * 4);
        if (variant == 1) qe_check_copy(a.known, from + 1, 16); /* word 3 is not written now */
        if (variant == 2) qe_check_host_write(a.known, N * 4), qe_check_copy(a.known, from + 2, 16);
        if (variant == 3) qe_check_copy(a.known, from, 16), qe_check_copy(a.known + 3, a.known, 16);
        qe_findings_clear();
        const qe_param param = {0, sizeof a};
        qe_kernel k = {.name = "copy",
                       .body = unwritten,
                       .param_bytes = sizeof a,
                       .n_params = 1,
                       .params = &param};
        const qe_shape one = {1, 1, 1};
        assert_true(qe_run(&k, one, one, one, 0, (const char *)&a)); /* reads word 3 */
        assert_int_equal(qe_findings_of(QE_BUG_UNINIT_GLOBAL), variant == 1 || variant == 2);
        qe_memory_free(from);
        qe_memory_free(a.known);
    }
    qe_findings_clear();
}

/* What ran while nobody watched is taken for written. */
static void test_watching_may_begin_late(void **state) {
    (void)state;
    assert_true(qe_configure("watch=none,quiet=1"));
    arguments a = {.variant = 0, .known = qe_memory_alloc(N * 4)};
    assert_true(qe_configure("watch=check,quiet=1"));
    qe_findings_clear();
    const qe_param param = {0, sizeof a};
    qe_kernel k = {.name = "late",
                   .body = unwritten,
                   .param_bytes = sizeof a,
                   .n_params = 1,
                   .params = &param};
    const qe_shape one = {1, 1, 1};
    assert_true(qe_run(&k, one, one, one, 0, (const char *)&a));
    assert_int_equal(qe_findings(), 0);
    k.body = outside;
    a.variant = 1;
    assert_true(qe_run(&k, one, one, one, 0, (const char *)&a));
    assert_int_equal(qe_findings_of(QE_BUG_OOB_GLOBAL), 1);
    qe_findings_clear();
    qe_memory_free(a.known);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_rule_in_order),
        cmocka_unit_test(test_every_rule_at_random),
        cmocka_unit_test(test_one_fence_may_do),
        cmocka_unit_test(test_copies_carry_the_state),
        cmocka_unit_test(test_watching_may_begin_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
