/* mbarrier.c — mbarriers: phases, transaction counts, waiting, misuse.
 *
 * The word in shared memory holds the whole state and a copy of it is kept beside it, so that a
 * kernel that writes over a live mbarrier is found at its next use:
 *
 *   bits 0-21 the number of the phase (bit 0: its parity), 22-41 pending arrivals, 42-62 the
 *   transaction count (signed), 63 one.
 *
 * A phase ends when no arrival is pending and the transaction count is zero. Everything that was
 * released into it (arrivals, copies) is then known to whoever waits for it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/async.h"

enum {
    PHASE_BITS = 22,
    COUNT_BITS = 20,
    PHASE_MASK = (1 << PHASE_BITS) - 1,
    COUNT_MAX = (1 << COUNT_BITS) - 1
};

typedef struct qe_mbarrier {
    char *word; /* host address */
    uint64_t mirror;
    uint32_t phase, expected, pending;
    int32_t tx;
    bool fenced; /* initialisation visible to the async proxy */
    bool unread; /* bytes arrived in phase `landing`, nobody has waited for it */
    uint32_t landing;
    const qe_thread *initialiser; /* who must fence */
    qe_stamp initialised;
    const qe_site *site, *arrival; /* of the initialisation, of the bytes unread */
    qe_sync arriving, done;        /* the phase under way, the one before */
    qe_thread *waiting;
    struct qe_mbarrier *next;
} qe_mbarrier;

/* ---- the table ------------------------------------------------------------------------------- */

static qe_mbarrier **place_of(qe_block_async *async, const char *word) {
    qe_mbarrier **at = &async->mbarriers[(uintptr_t)word / 8 % QE_MBARRIER_BUCKETS];
    while (*at && (*at)->word != word) at = &(*at)->next;
    return at;
}

static uint32_t offset_of(const qe_block *b, const char *word) {
    return (uint32_t)(word - b->window - b->shared_low);
}

static void store_word(qe_mbarrier *m) {
    uint64_t tx = (uint64_t)(uint32_t)m->tx & ((1u << (COUNT_BITS + 1)) - 1u);
    m->mirror = (m->phase & PHASE_MASK) | (uint64_t)m->pending << PHASE_BITS |
                tx << (PHASE_BITS + COUNT_BITS) | 1ull << 63;
    memcpy(m->word, &m->mirror, sizeof m->mirror);
}

/* mbarrier words are accessed atomically, so the checker reports a stray store that races. */
static void touch(qe_thread *t, const char *word, uint32_t flags, const qe_site *site) {
    if (t->watch & QE_CHECK) qe_watched(t, word, 8, flags | QE_ATOMIC | QE_UNCOUNTED, site);
}

static qe_mbarrier *find(qe_thread *t, uint32_t address, const char *who, uint32_t flags,
                         qe_block **block, const qe_site *site) {
    if (address & 7u) qe_fatal(QE_BUG_MISALIGNED, t, site, "%s: mbarrier at 0x%x", who, address);
    qe_block *b;
    char *word = qe_window(t, address, 8, &b, site);
    if (b != t->block && b->live == 0)
        qe_fatal(QE_BUG_MBARRIER, t, site,
                 "%s: mbarrier at 0x%x of a block of the cluster that has exited", who, address);
    qe_mbarrier *m = b->async ? *place_of(b->async, word) : NULL;
    uint64_t seen;
    memcpy(&seen, word, sizeof seen);
    if (!m)
        qe_fatal(QE_BUG_MBARRIER, t, site,
                 "%s: the 8 bytes at smem+0x%x (now 0x%llx) are not an initialised mbarrier", who,
                 offset_of(b, word), (unsigned long long)seen);
    if (seen != m->mirror)
        qe_fatal(QE_BUG_MBARRIER, t, site,
                 "%s: the mbarrier at smem+0x%x was written over: found 0x%llx, expected 0x%llx",
                 who, offset_of(b, word), (unsigned long long)seen, (unsigned long long)m->mirror);
    touch(t, word, flags, site);
    if ((t->watch & QE_CHECK) && !qe_check_knows(t, m->initialised)) {
        m->initialised.id = 0; /* once is enough */
        qe_report(QE_BUG_MBARRIER, t, site, m->site,
                  "%s: not ordered after the initialisation of the mbarrier at smem+0x%x", who,
                  offset_of(b, word));
    }
    *block = b;
    return m;
}

/* ---- initialisation -------------------------------------------------------------------------- */

void qe_mbarrier_init(qe_thread *t, uint32_t address, uint32_t count, const qe_site *site) {
    qe_block *b;
    if (address & 7u) qe_fatal(QE_BUG_MISALIGNED, t, site, "init: mbarrier at 0x%x", address);
    if (count == 0 || count > COUNT_MAX)
        qe_fatal(QE_BUG_MBARRIER, t, site, "init: found a count of %u, expected 1..%d", count,
                 COUNT_MAX);
    char *word = qe_window(t, address, 8, &b, site);
    touch(t, word, QE_WRITE, site);
    qe_mbarrier **at = place_of(qe_async_of_block(b), word), *m = *at;
    if (!m) {
        *at = m = calloc(1, sizeof *m);
        if (!m) qe_fatal(QE_BUG_MEMORY, t, site, "init: the host has no memory");
        m->word = word;
    } else if (m->waiting || m->tx || m->phase || m->pending != m->expected) {
        qe_report(QE_BUG_MBARRIER, t, site, m->site,
                  "init: the mbarrier at smem+0x%x is in use: phase %u, pending %u of %u, "
                  "tx-count %d; expected mbarrier.inval before",
                  offset_of(b, word), m->phase, m->pending, m->expected, m->tx);
    }
    m->phase = 0;
    m->tx = 0;
    m->expected = m->pending = count;
    m->fenced = m->unread = false;
    m->initialiser = t;
    m->initialised = qe_check_stamp(t);
    m->site = site;
    qe_sync_forget(&m->arriving);
    qe_sync_forget(&m->done);
    store_word(m);
}

static void drop(qe_mbarrier **at) {
    qe_mbarrier *m = *at;
    *at = m->next;
    qe_sync_forget(&m->arriving);
    qe_sync_forget(&m->done);
    free(m);
}

void qe_mbarrier_inval(qe_thread *t, uint32_t address, const qe_site *site) {
    qe_block *b;
    qe_mbarrier *m = find(t, address, "inval", QE_WRITE | QE_UPDATE, &b, site);
    if (m->waiting)
        qe_fatal(QE_BUG_MBARRIER, t, site, "inval: threads wait for the mbarrier at smem+0x%x",
                 offset_of(b, m->word));
    drop(place_of(b->async, m->word));
}

static void mark_fenced(qe_thread *t) {
    qe_block_async *async = t->block->async;
    if (!async) return;
    for (int i = 0; i < QE_MBARRIER_BUCKETS; i++)
        for (qe_mbarrier *m = async->mbarriers[i]; m; m = m->next)
            if (m->initialiser == t) m->fenced = true;
}

void qe_fence_mbarrier_init(qe_thread *t, const qe_site *site) {
    (void)site;
    mark_fenced(t);
}

void qe_fence_proxy_async(qe_thread *t, const qe_site *site) {
    (void)site;
    mark_fenced(t);
    qe_check_fence_proxy(t);
}

void qe_mbarriers_end(qe_block *b) {
    bool failed = b->cluster->launch->failed;
    for (int i = 0; i < QE_MBARRIER_BUCKETS; i++) {
        while (b->async->mbarriers[i]) {
            qe_mbarrier *m = b->async->mbarriers[i];
            if (m->tx > 0 && !failed)
                qe_report(QE_BUG_MBARRIER, b->threads, m->site, NULL,
                          "the block ends while the mbarrier at smem+0x%x still expects %d bytes",
                          offset_of(b, m->word), m->tx);
            else if (m->unread && !failed)
                qe_report(QE_BUG_ASYNC, b->threads, m->arrival, m->site,
                          "the block ends without a wait for the bytes of this copy, announced at "
                          "the mbarrier at smem+0x%x",
                          offset_of(b, m->word));
            drop(&b->async->mbarriers[i]);
        }
    }
}

/* ---- arrivals and transactions --------------------------------------------------------------- */

static void end_phase(qe_mbarrier *m) {
    m->phase++;
    m->pending = m->expected;
    qe_sync_forget(&m->done);
    m->done = m->arriving;
    m->arriving = (qe_sync){0};
    qe_thread *t = m->waiting;
    m->waiting = NULL;
    if (t) m->unread = false;
    while (t) {
        qe_thread *next = t->next;
        qe_sync_acquire(&m->done, t); /* what this phase released, though t may run much later */
        qe_wake(t);
        t = next;
    }
    qe_progress();
}

/* Counts arrivals and bytes and ends the phase if they complete it. */
static void advance(qe_mbarrier *m, uint32_t arrivals, int64_t bytes) {
    m->pending -= arrivals;
    m->tx = (int32_t)(m->tx + bytes);
    if (m->pending == 0 && m->tx == 0) end_phase(m);
    store_word(m);
}

static bool tx_fits(const qe_mbarrier *m, int64_t bytes) {
    return m->tx + bytes <= COUNT_MAX && m->tx + bytes >= -COUNT_MAX;
}

static uint64_t arrive(qe_thread *t, uint32_t address, uint32_t count, bool leave, bool may_end,
                       const qe_site *site) {
    qe_block *b;
    qe_mbarrier *m = find(t, address, "arrive", QE_WRITE | QE_UPDATE, &b, site);
    uint64_t state = m->mirror;
    if (count == 0 || count > m->pending)
        qe_fatal(QE_BUG_MBARRIER, t, site,
                 "arrive: %u arrivals at the mbarrier at smem+0x%x, only %u of %u pending in this "
                 "phase",
                 count, offset_of(b, m->word), m->pending, m->expected);
    if (!may_end && count == m->pending && m->tx == 0)
        qe_report(QE_BUG_MBARRIER, t, site, m->site,
                  "arrive.noComplete ends the phase of the mbarrier at smem+0x%x",
                  offset_of(b, m->word));
    qe_sync_release(&m->arriving, t);
    if (leave) m->expected -= count;
    advance(m, count, 0);
    qe_give_way(t);
    return state;
}

uint64_t qe_mbarrier_arrive(qe_thread *t, uint32_t address, uint32_t count, bool leave,
                            const qe_site *site) {
    return arrive(t, address, count, leave, true, site);
}

uint64_t qe_mbarrier_arrive_no_complete(qe_thread *t, uint32_t address, uint32_t count, bool leave,
                                        const qe_site *site) {
    return arrive(t, address, count, leave, false, site);
}

uint32_t qe_mbarrier_pending_count(uint64_t state) {
    return (uint32_t)(state >> PHASE_BITS) & COUNT_MAX;
}

static void transact(qe_thread *t, uint32_t address, int64_t bytes, const char *who,
                     const qe_site *site) {
    qe_block *b;
    qe_mbarrier *m = find(t, address, who, QE_WRITE | QE_UPDATE, &b, site);
    if (!tx_fits(m, bytes))
        qe_fatal(QE_BUG_MBARRIER, t, site,
                 "%s: the tx-count %d of the mbarrier at smem+0x%x changes by %lld, beyond +-%d",
                 who, m->tx, offset_of(b, m->word), (long long)bytes, COUNT_MAX);
    advance(m, 0, bytes);
}

void qe_mbarrier_expect_tx(qe_thread *t, uint32_t address, uint32_t bytes, const qe_site *site) {
    transact(t, address, bytes, "expect_tx", site);
}

void qe_mbarrier_complete_tx(qe_thread *t, uint32_t address, uint32_t bytes, const qe_site *site) {
    transact(t, address, -(int64_t)bytes, "complete_tx", site);
}

/* ---- asynchronous operations ----------------------------------------------------------------- */

void qe_mbarrier_expect_async(qe_thread *t, uint32_t address, const qe_site *site) {
    qe_block *b;
    qe_mbarrier *m = find(t, address, "copy", QE_WRITE | QE_UPDATE, &b, site);
    if (!m->fenced) {
        m->fenced = true; /* once is enough */
        qe_report(QE_BUG_MBARRIER, t, site, m->site,
                  "the mbarrier at smem+0x%x is used by the async proxy; expected "
                  "fence.mbarrier_init or fence.proxy.async after its initialisation, by the "
                  "thread that did it",
                  offset_of(b, m->word));
    }
}

void qe_mbarrier_complete_async(qe_block *b, char *word, uint32_t bytes, qe_agent *a,
                                const qe_site *site) {
    qe_mbarrier *m = b->async ? *place_of(b->async, word) : NULL;
    uint64_t seen;
    memcpy(&seen, word, sizeof seen);
    if (!m || seen != m->mirror || !tx_fits(m, -(int64_t)bytes)) {
        qe_report(QE_BUG_MBARRIER, b->threads, site, m ? m->site : NULL,
                  "a copy of %u bytes completes at smem+0x%x, where it finds %s", bytes,
                  offset_of(b, word),
                  !m                  ? "no mbarrier"
                  : seen != m->mirror ? "an mbarrier that was written over"
                                      : "a tx-count that would leave its range");
        return;
    }
    qe_agent_complete(a, &m->arriving);
    m->unread = true;
    m->landing = m->phase;
    m->arrival = site;
    advance(m, 0, -(int64_t)bytes);
}

void qe_mbarrier_raise_pending(qe_thread *t, uint32_t address, bool noinc, const qe_site *site) {
    qe_block *b;
    qe_mbarrier *m = find(t, address, "cp.async.mbarrier.arrive", QE_WRITE | QE_UPDATE, &b, site);
    if (noinc) return;
    if (m->pending == COUNT_MAX)
        qe_fatal(QE_BUG_MBARRIER, t, site, "cp.async.mbarrier.arrive: too many arrivals pending");
    m->pending++;
    store_word(m);
}

void qe_mbarrier_arrive_async(qe_block *b, char *word, qe_operation *copies,
                              const qe_operation *end, const qe_site *site) {
    qe_mbarrier *m = b->async ? *place_of(b->async, word) : NULL;
    if (!m || m->pending == 0) {
        qe_report(QE_BUG_MBARRIER, b->threads, site, m ? m->site : NULL,
                  "cp.async.mbarrier.arrive arrives at smem+0x%x, where it finds %s",
                  offset_of(b, word), m ? "no arrival pending in this phase" : "no mbarrier");
        return;
    }
    for (qe_operation *op = copies; op != end; op = op->next) {
        qe_agent_complete(&op->agent, &m->arriving);
        op->covered = true;
    }
    advance(m, 1, 0);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static bool passed(qe_thread *t, qe_mbarrier *m) {
    if (m->landing != m->phase) m->unread = false;
    qe_sync_acquire(&m->done, t);
    qe_give_way(t);
    return true;
}

/* The phase under way must end first. An adversarial schedule lets try_wait run out of time. */
static bool not_yet(qe_thread *t, qe_mbarrier *m, uint64_t detail, bool blocking,
                    const qe_site *site) {
    if (!blocking || (qe_cfg.schedule != QE_FIFO && qe_random(8) == 0)) {
        qe_spin(t, site);
        return false;
    }
    t->next = m->waiting;
    m->waiting = t;
    qe_suspend(t, QE_WAIT_MBARRIER, m, detail, site);
    return true;
}

bool qe_mbarrier_wait_parity(qe_thread *t, uint32_t address, uint32_t parity, bool blocking,
                             const qe_site *site) {
    qe_block *b;
    qe_mbarrier *m = find(t, address, blocking ? "try_wait" : "test_wait", QE_READ, &b, site);
    if (b != t->block)
        qe_fatal(QE_BUG_MBARRIER, t, site, "wait: the mbarrier belongs to another block");
    if ((m->phase & 1u) != (parity & 1u)) return passed(t, m);
    return not_yet(t, m, parity & 1u, blocking, site);
}

bool qe_mbarrier_wait_state(qe_thread *t, uint32_t address, uint64_t state, bool blocking,
                            const qe_site *site) {
    qe_block *b;
    qe_mbarrier *m = find(t, address, blocking ? "try_wait" : "test_wait", QE_READ, &b, site);
    if (b != t->block)
        qe_fatal(QE_BUG_MBARRIER, t, site, "wait: the mbarrier belongs to another block");
    uint32_t behind = (m->phase - (uint32_t)state) & PHASE_MASK;
    if (behind > 1 || !(state >> 63))
        qe_fatal(QE_BUG_MBARRIER, t, site,
                 "wait: 0x%llx is not a state of this phase or the one before (phase %u)",
                 (unsigned long long)state, m->phase);
    return behind ? passed(t, m) : not_yet(t, m, m->phase & 1u, blocking, site);
}

void qe_mbarrier_describe(const qe_block *b, const void *object, uint64_t detail, char *text,
                          size_t bytes) {
    const qe_mbarrier *m = object;
    snprintf(
        text, bytes, " smem+0x%x waiting parity %u, phase parity %u, pending %u of %u, tx-count %d",
        offset_of(b, m->word), (unsigned)detail, m->phase & 1u, m->pending, m->expected, m->tx);
}
