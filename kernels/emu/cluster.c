/* cluster.c — the cluster's barrier, and the shared window across its blocks. */
#include "kernels/emu/scheduler.h"

#include <string.h>

enum { RANK_SHIFT = 24, OFFSET_MASK = (1 << RANK_SHIFT) - 1 };

/* ---- barrier.cluster ------------------------------------------------------------------------- */

/* A round ends when all threads that have not exited have arrived. */
static void maybe_complete(qe_cluster *c) {
    qe_barrier *bar = &c->barrier;
    if (bar->arrived == 0 || bar->arrived < c->live) return;
    qe_sync_forget(&c->previous);
    c->previous = bar->sync;
    bar->sync = (qe_sync){0};
    bar->arrived = 0;
    c->phase++;
    for (qe_thread *t = bar->waiting, *next; t; t = next) {
        next = t->next;
        qe_wake(t);
    }
    bar->waiting = NULL;
    bar->n_waiting = 0;
    qe_progress();
}

void qe_cluster_arrive(qe_thread *t, bool release, const qe_site *site) {
    qe_cluster *c = t->block->cluster;
    if (t->cluster_arrived) {
        qe_fatal(QE_BUG_BARRIER, t, site,
                 "barrier.cluster.arrive twice without barrier.cluster.wait");
    }
    if (release && (t->watch & QE_CHECK)) qe_sync_release(&c->barrier.sync, t);
    t->cluster_arrived = true;
    t->cluster_phase = c->phase;
    c->barrier.arrived++;
    maybe_complete(c);
    qe_give_way(t);
}

void qe_cluster_wait(qe_thread *t, bool acquire, const qe_site *site) {
    qe_cluster *c = t->block->cluster;
    if (!t->cluster_arrived) {
        qe_fatal(QE_BUG_BARRIER, t, site, "barrier.cluster.wait without barrier.cluster.arrive");
    }
    t->cluster_arrived = false;
    if (t->cluster_phase == c->phase) {
        t->next = c->barrier.waiting;
        c->barrier.waiting = t;
        c->barrier.n_waiting++;
        qe_suspend(t, QE_WAIT_CLUSTER, &c->barrier, 0, site);
    }
    if (acquire && (t->watch & QE_CHECK)) qe_sync_acquire(&c->previous, t);
    if (t->watch & QE_COUNT) qe_count_meet(t->warp);
    qe_give_way(t);
}

void qe_cluster_exit(qe_cluster *c, qe_thread *t) {
    /* Its arrival was counted, and a thread that has exited is not waited for. */
    if (t->cluster_arrived && t->cluster_phase == c->phase) c->barrier.arrived--;
    t->cluster_arrived = false;
    maybe_complete(c);
}

/* ---- addresses ------------------------------------------------------------------------------- */

static qe_block *block_of_rank(qe_thread *t, uint32_t rank, const qe_site *site) {
    qe_cluster *c = t->block->cluster;
    if (rank >= c->n_blocks) {
        qe_fatal(QE_BUG_OOB_SHARED, t, site, "block %u of a cluster of %u", rank, c->n_blocks);
    }
    return c->blocks[rank];
}

uint32_t qe_mapa(qe_thread *t, uint32_t address, uint32_t rank, const qe_site *site) {
    (void)block_of_rank(t, rank, site);
    return (address & OFFSET_MASK) | (rank + 1) << RANK_SHIFT;
}

uint64_t qe_mapa_generic(qe_thread *t, uint64_t address, uint32_t rank, const qe_site *site) {
    const char *p = (const char *)(uintptr_t)address;
    const qe_block *from = qe_block_of_shared(t, p);
    if (!from) qe_fatal(QE_BUG_OOB_SHARED, t, site, "mapa of %p, not a shared address", (void *)p);
    return (uint64_t)(uintptr_t)(block_of_rank(t, rank, site)->window + (p - from->window));
}

char *qe_shared_slow(qe_thread *t, uint32_t address, uint32_t bytes, const qe_site *site) {
    uint32_t rank = address >> RANK_SHIFT, at = address & OFFSET_MASK;
    const qe_block *b = rank ? block_of_rank(t, rank - 1, site) : t->block;
    uint32_t offset = at - b->shared_low;
    if (offset >= b->shared_bytes || b->shared_bytes - offset < bytes) {
        qe_fatal(QE_BUG_OOB_SHARED, t, site,
                 "%u bytes at shared address 0x%x%s; the block has 0x%x to 0x%x", bytes, at,
                 rank ? " of another block" : "", b->shared_low, b->shared_low + b->shared_bytes);
    }
    if (b->live == 0) {
        qe_report(QE_BUG_OOB_SHARED, t, site, NULL,
                  "shared memory of block %u of the cluster, which has exited", b->cluster_rank);
    }
    return b->window + at;
}

uint32_t qe_shared_address(qe_thread *t, const void *generic, const qe_site *site) {
    const char *p = generic;
    const qe_block *b = qe_block_of_shared(t, p);
    if (!b) qe_fatal(QE_BUG_OOB_SHARED, t, site, "%p is not a shared address", generic);
    uint32_t at = (uint32_t)(p - b->window);
    return b == t->block ? at : at | (b->cluster_rank + 1) << RANK_SHIFT;
}
