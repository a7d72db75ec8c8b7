/* barrier.c — the sixteen barriers of a block: bar.sync, bar.arrive, bar.red.
 *
 * Threads are counted one by one. Without a count all threads of the block are meant, and those
 * that have exited count as arrived. Who waits is woken by the last to arrive, which goes on.
 */
#include "kernels/emu/scheduler.h"

#include <string.h>

static void close_barrier(qe_block *b, qe_barrier *bar) {
    b->open_barriers &= ~(UINT32_C(1) << (bar - b->barriers));
    bar->expected = bar->arrived = 0;
    bar->site = NULL;
    bar->waiting = NULL;
    bar->n_waiting = 0;
    bar->votes_and = 1;
    bar->votes_or = bar->votes_sum = 0;
    if (bar->sync.clock) qe_sync_forget(&bar->sync);
}

/* What the checker and the counters want to know of a meeting of the waiting threads. */
static void tell(qe_block *b, qe_barrier *bar) {
    uint32_t watch = b->cluster->launch->watch;
    if (watch & QE_CHECK) {
        qe_thread *all[QE_MAX_THREADS];
        uint32_t n = 0;
        for (qe_thread *t = bar->waiting; t; t = t->next) all[n++] = t;
        if (n && bar->sync.clock) qe_sync_acquire(&bar->sync, all[0]);
        if (n) qe_sync_meet(all, n);
    }
    if (watch & QE_COUNT) {
        for (uint32_t i = 0; i < b->n_warps; i++) qe_count_meet(&b->warps[i]);
    }
}

static uint64_t votes(const qe_barrier *bar) {
    return (uint64_t)bar->votes_sum << 2 | bar->votes_or << 1 | bar->votes_and;
}

/* Wakes everyone but `last`, who has not gone to sleep. */
static void complete(qe_block *b, qe_barrier *bar, qe_thread *last) {
    if (b->cluster->launch->watch) tell(b, bar);
    uint64_t result = votes(bar);
    for (qe_thread *t = bar->waiting, *next; t; t = next) {
        next = t->next;
        t->result = result;
        if (t != last) qe_wake(t);
    }
    close_barrier(b, bar);
    qe_progress();
}

static bool is_complete(const qe_block *b, const qe_barrier *bar) {
    bool some_only_arrived = bar->arrived > bar->n_waiting;
    if (!bar->whole_block || some_only_arrived) return bar->arrived >= bar->expected;
    return bar->arrived >= b->live;
}

/* On an arrival at a barrier that is in use, or the first: what does not fit is a finding. */
static void check_arrival(qe_thread *t, qe_barrier *bar, uint32_t id, uint32_t count,
                          const qe_site *site) {
    qe_block *b = t->block;
    uint32_t expected = count ? count : b->n_threads;
    if (bar->arrived == 0) {
        if (count % 32 != 0) {
            qe_fatal(QE_BUG_BARRIER, t, site, "barrier %u counts %u threads, not whole warps", id,
                     count);
        }
        if (count > (b->n_threads + 31) / 32 * 32) {
            qe_fatal(QE_BUG_BARRIER, t, site, "barrier %u counts %u threads, the block has %u", id,
                     count, b->n_threads);
        }
        bar->expected = expected;
        bar->whole_block = count == 0;
        bar->site = site;
        bar->votes_and = 1;
        b->open_barriers |= UINT32_C(1) << id;
        return;
    }
    if (bar->expected != expected) {
        qe_fatal(QE_BUG_BARRIER, t, site,
                 "barrier %u is used for %u threads here and for %u by those that wait (%s:%u)", id,
                 expected, bar->expected, bar->site->file, bar->site->line);
    }
    if (id == 0 && bar->site != site) {
        qe_report(QE_BUG_DIVERGENT_BARRIER, t, site, bar->site,
                  "threads of a block wait at different barriers 0");
    }
}

static void arrive(qe_thread *t, uint32_t id, uint32_t count, const qe_site *site) {
    qe_block *b = t->block;
    qe_barrier *bar = &b->barriers[id];
    if (id > 15) qe_fatal(QE_BUG_BARRIER, t, site, "barrier %u: there are 16", id);
    check_arrival(t, bar, id, count, site);
    bar->arrived++;
    /* A warp counts as 32 also where the block's last one has fewer lanes. */
    if (count && t->lane == t->warp->n_lanes - 1) bar->arrived += 31 - t->lane;
}

static uint64_t wait_for_all(qe_thread *t, uint32_t id, uint32_t count, uint32_t vote,
                             const qe_site *site) {
    qe_barrier *bar = &t->block->barriers[id & 15];
    arrive(t, id, count, site);
    bar->votes_and &= vote;
    bar->votes_or |= vote;
    bar->votes_sum += vote;
    t->next = bar->waiting;
    bar->waiting = t;
    bar->n_waiting++;
    t->barrier_id = id;
    if (is_complete(t->block, bar)) {
        complete(t->block, bar, t);
        qe_give_way(t);
    } else {
        qe_suspend(t, QE_WAIT_BARRIER, bar, id, site);
    }
    return t->result;
}

void qe_barrier_sync(qe_thread *t, uint32_t id, uint32_t count, const qe_site *site) {
    (void)wait_for_all(t, id, count, 0, site);
}

uint32_t qe_barrier_reduce(qe_thread *t, uint32_t id, uint32_t count, qe_bar_op op, bool vote,
                           const qe_site *site) {
    uint64_t result = wait_for_all(t, id, count, vote, site);
    if (op == QE_BAR_AND) return result & 1;
    if (op == QE_BAR_OR) return result >> 1 & 1;
    return (uint32_t)(result >> 2);
}

void qe_barrier_arrive(qe_thread *t, uint32_t id, uint32_t count, const qe_site *site) {
    if (t->watch & QE_CHECK) qe_sync_release(&t->block->barriers[id & 15].sync, t);
    arrive(t, id, count, site);
    qe_barrier *bar = &t->block->barriers[id];
    if (is_complete(t->block, bar)) complete(t->block, bar, NULL);
    qe_give_way(t);
}

void qe_barrier_exit(qe_block *b) {
    for (uint32_t open = b->open_barriers; open; open &= open - 1) {
        qe_barrier *bar = &b->barriers[__builtin_ctz(open)];
        if (b->live && bar->whole_block && is_complete(b, bar)) complete(b, bar, NULL);
    }
}

void qe_barrier_block_end(qe_block *b) {
    for (uint32_t open = b->open_barriers; open; open &= open - 1) {
        qe_barrier *bar = &b->barriers[__builtin_ctz(open)];
        qe_report(QE_BUG_BARRIER, b->threads, bar->site, NULL,
                  "the block ends with %u of %u threads arrived at barrier %u", bar->arrived,
                  bar->expected, (unsigned)(bar - b->barriers));
        close_barrier(b, bar);
    }
}
