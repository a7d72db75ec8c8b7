/* async_copy.c — cp.async, bulk copies, their groups, and when they happen.
 *
 * With async=eager an operation happens when it is issued; with async=late when it is waited for,
 * or when nothing else can run; with async=any at a random moment between. A store happens in two
 * steps, so that wait_group.read leaves the writes for later.
 *
 * Operations of a thread stand in a list, in order of issue, until it waits for their group; those
 * not done yet also stand in the queue of the machine.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/async.h"

static qe_operation *queue_first, *queue_last;
static uint32_t queued;
static qe_operation *free_operations;
static qe_operation *unsubmitted; /* taken by a thread that is filling it in, or that failed */
static qe_thread_async *free_threads;

/* ---- state of blocks and threads ------------------------------------------------------------- */

qe_block_async *qe_async_of_block(qe_block *b) {
    if (!b->async) b->async = calloc(1, sizeof *b->async);
    if (!b->async) qe_fatal(QE_BUG_MEMORY, qe_current(), NULL, "the host has no memory");
    return b->async;
}

qe_thread_async *qe_async_of_thread(qe_thread *t) {
    if (t->async) return t->async;
    qe_thread_async *a = free_threads;
    if (a)
        free_threads = a->next;
    else if (!(a = malloc(sizeof *a)))
        qe_fatal(QE_BUG_MEMORY, t, NULL, "the host has no memory");
    memset(a, 0, sizeof *a);
    return t->async = a;
}

char *qe_window(qe_thread *t, uint32_t address, uint32_t bytes, qe_block **block,
                const qe_site *site) {
    char *p = qe_shared(t, address, bytes, site);
    const qe_block *own = t->block;
    bool mine =
        p >= own->window + own->shared_low && p < own->window + own->shared_low + own->shared_bytes;
    *block = mine ? t->block : qe_block_of_shared(t, p);
    if (!*block)
        qe_fatal(QE_BUG_OOB_SHARED, t, site, "no resident block has shared memory at 0x%x",
                 address);
    return p;
}

/* ---- operations ------------------------------------------------------------------------------ */

static void unqueue(qe_operation *op) {
    if (!op->queued) return;
    *(op->before ? &op->before->after : &queue_first) = op->after;
    *(op->after ? &op->after->before : &queue_last) = op->before;
    op->queued = false;
    queued--;
}

static void enqueue(qe_operation *op) {
    op->before = queue_last;
    op->after = NULL;
    *(queue_last ? &queue_last->after : &queue_first) = op;
    queue_last = op;
    op->queued = true;
    queued++;
}

static void release(qe_operation *op) {
    unqueue(op);
    qe_agent_end(&op->agent);
    qe_agent_end(&op->reader);
    free(op->captured);
    free(op->box);
    op->next = free_operations;
    free_operations = op;
}

qe_operation *qe_operation_new(qe_thread *t, const qe_site *site) {
    if (unsubmitted) release(unsubmitted);
    qe_operation *op = free_operations;
    if (op)
        free_operations = op->next;
    else if (!(op = malloc(sizeof *op)))
        qe_fatal(QE_BUG_MEMORY, t, site, "the host has no memory");
    memset(op, 0, sizeof *op);
    op->block = t->block;
    op->site = site;
    return unsubmitted = op;
}

static void perform(qe_operation *op, qe_stage until) {
    while (op->stage < until) op->stage = op->step(op);
    if (op->stage == QE_DONE) unqueue(op);
    qe_progress();
}

void qe_operation_submit(qe_operation *op, qe_thread *t, qe_groups *groups) {
    unsubmitted = NULL;
    if (groups) {
        op->by = t;
        op->group = groups->committed;
        *(groups->last ? &groups->last->next : &groups->first) = op;
        groups->last = op;
    }
    enqueue(op);
    if (qe_cfg.async == QE_EAGER || (qe_cfg.async == QE_ANY_TIME && qe_random(3) == 0))
        perform(op, QE_DONE);
    if (!groups && op->stage == QE_DONE) release(op);
}

/* One step of one pending operation: the oldest, or any. */
bool qe_async_step(void) {
    if (!queued) return false;
    qe_operation *op = queue_first;
    if (qe_cfg.async == QE_ANY_TIME || qe_cfg.schedule != QE_FIFO)
        for (uint32_t skip = qe_random(queued < 64 ? queued : 64); skip; skip--) op = op->after;
    perform(op, op->stage + 1);
    if (op->stage == QE_DONE && !op->by) release(op);
    return true;
}

void qe_async_maybe(void) {
    if (queued && qe_cfg.async == QE_ANY_TIME && qe_random(4) == 0) (void)qe_async_step();
}

/* ---- groups ---------------------------------------------------------------------------------- */

static qe_operation *pop(qe_groups *g) {
    qe_operation *op = g->first;
    g->first = op->next;
    if (!g->first) g->last = NULL;
    return op;
}

/* Groups below `limit` are complete and known to t. */
static void wait_below(qe_thread *t, qe_groups *g, uint32_t limit) {
    while (g->first && g->first->group < limit) {
        perform(g->first, QE_DONE);
        qe_operation *op = pop(g);
        qe_agent_waited(&op->reader, t);
        qe_agent_waited(&op->agent, t);
        release(op);
    }
    if (g->waited < limit) g->waited = limit;
}

/* Groups below `limit` have read their sources. */
static void wait_read(qe_thread *t, const qe_groups *g, uint32_t limit) {
    for (qe_operation *op = g->first; op && op->group < limit; op = op->next) {
        perform(op, QE_CAPTURED);
        qe_agent_waited(&op->reader, t);
        qe_agent_end(&op->reader);
        op->covered = true;
    }
}

static uint32_t limit_of(const qe_groups *g, uint32_t pending) {
    return g->committed > pending ? g->committed - pending : 0;
}

/* ---- cp.async -------------------------------------------------------------------------------- */

static qe_stage copy_step(qe_operation *op) {
    if (op->from_bytes)
        qe_agent_access(&op->agent, op->block, op->from, op->from_bytes, QE_READ, op->site);
    qe_agent_access(&op->agent, op->block, op->to, op->bytes, QE_WRITE, op->site);
    memcpy(op->to, op->from, op->from_bytes);
    memset(op->to + op->from_bytes, 0, op->bytes - op->from_bytes);
    return QE_DONE;
}

void qe_cp_async(qe_thread *t, uint32_t dst, const void *src, uint32_t bytes, uint32_t src_bytes,
                 const qe_site *site) {
    char *to = qe_shared(t, dst, bytes, site);
    if (dst & (bytes - 1)) qe_misaligned(t, to, bytes, site);
    if ((uintptr_t)src & (bytes - 1)) qe_misaligned(t, src, bytes, site);
    if (src_bytes > bytes)
        qe_fatal(QE_BUG_ASYNC, t, site, "cp.async: found a source of %u bytes, expected at most %u",
                 src_bytes, bytes);
    if (t->watch & QE_COUNT) {
        if (src_bytes) qe_count_access(t, src, src_bytes, QE_READ, site);
        qe_count_access(t, to, bytes, QE_WRITE, site);
    }
    qe_groups *g = &qe_async_of_thread(t)->copies;
    if (qe_cfg.async == QE_EAGER && !(t->watch & QE_CHECK)) {
        memcpy(to, src, src_bytes);
        if (src_bytes < bytes) memset(to + src_bytes, 0, bytes - src_bytes);
        g->done_early = g->committed + 1;
        g->site = site;
        return;
    }
    qe_operation *op = qe_operation_new(t, site);
    op->step = copy_step;
    op->to = to;
    op->from = src;
    op->bytes = bytes;
    op->from_bytes = src_bytes;
    qe_agent_start(&op->agent, t, true);
    qe_operation_submit(op, t, g);
}

void qe_cp_async_commit(qe_thread *t, const qe_site *site) {
    (void)site;
    qe_async_of_thread(t)->copies.committed++;
}

void qe_cp_async_wait(qe_thread *t, uint32_t pending, const qe_site *site) {
    (void)site;
    qe_groups *g = &qe_async_of_thread(t)->copies;
    wait_below(t, g, limit_of(g, pending));
    qe_give_way(t);
}

void qe_cp_async_wait_all(qe_thread *t, const qe_site *site) {
    qe_cp_async_commit(t, site);
    qe_cp_async_wait(t, 0, site);
}

/* All copies before it in its thread's list come first. */
static qe_stage arrive_step(qe_operation *op) {
    qe_operation *first = op->by->async->copies.first;
    for (qe_operation *before = first; before != op; before = before->next)
        perform(before, QE_DONE);
    qe_mbarrier_arrive_async(op->into, op->word, first, op, op->site);
    return QE_DONE;
}

void qe_cp_async_mbarrier_arrive(qe_thread *t, uint32_t address, bool noinc, const qe_site *site) {
    qe_mbarrier_raise_pending(t, address, noinc, site);
    qe_operation *op = qe_operation_new(t, site);
    op->step = arrive_step;
    op->word = qe_window(t, address, 8, &op->into, site);
    op->covered = true;
    qe_groups *g = &qe_async_of_thread(t)->copies;
    g->done_early = 0; /* those are done: this arrival announces them */
    qe_operation_submit(op, t, g);
}

/* ---- bulk copies into shared memory ---------------------------------------------------------- */

int qe_operation_targets(const qe_operation *op, qe_target *target) {
    if (!op->multicast) {
        target[0] = (qe_target){op->into, op->to, op->word};
        return 1;
    }
    const qe_cluster *c = op->block->cluster;
    const char *low = op->into->window + op->into->shared_low;
    int n = 0;
    for (uint32_t i = 0; i < c->n_blocks && i < QE_TARGETS; i++) {
        if (!(op->multicast >> i & 1u)) continue;
        char *there = c->blocks[i]->window + c->blocks[i]->shared_low;
        target[n++] = (qe_target){c->blocks[i], there + (op->to - low), there + (op->word - low)};
    }
    return n;
}

void qe_operation_aim(qe_operation *op, qe_thread *t, uint32_t dst, uint32_t bytes,
                      uint32_t mbarrier, uint32_t multicast) {
    qe_block *b;
    const qe_cluster *c = t->block->cluster;
    op->to = qe_window(t, dst, bytes, &op->into, op->site);
    op->word = qe_window(t, mbarrier, 8, &b, op->site);
    if (b != op->into)
        qe_fatal(QE_BUG_ASYNC, t, op->site,
                 "the destination 0x%x and the mbarrier 0x%x lie in different blocks", dst,
                 mbarrier);
    if (multicast >> c->n_blocks)
        qe_fatal(QE_BUG_ASYNC, t, op->site,
                 "found a multicast to ranks 0x%x, expected ranks of a cluster of %u", multicast,
                 c->n_blocks);
    qe_mbarrier_expect_async(t, mbarrier, op->site);
    op->bytes = bytes;
    op->multicast = multicast;
    qe_target target[QE_TARGETS];
    for (int i = qe_operation_targets(op, target); i--;)
        if (target[i].block->live == 0)
            qe_fatal(QE_BUG_ASYNC, t, op->site, "the destination's block has exited");
}

static void check_bulk(qe_thread *t, uint64_t addresses, uint32_t bytes, const qe_site *site) {
    if ((addresses | bytes) & 15u)
        qe_fatal(QE_BUG_MISALIGNED, t, site,
                 "bulk copy of %u bytes: addresses and size must be multiples of 16", bytes);
}

static qe_stage load_step(qe_operation *op) {
    qe_target target[QE_TARGETS];
    int n = qe_operation_targets(op, target);
    qe_agent_access(&op->agent, op->block, op->from, op->bytes, QE_READ | QE_BY_ASYNC, op->site);
    for (int i = 0; i < n; i++) {
        qe_agent_access(&op->agent, target[i].block, target[i].to, op->bytes,
                        QE_WRITE | QE_BY_ASYNC, op->site);
        memmove(target[i].to, op->from, op->bytes);
        qe_mbarrier_complete_async(target[i].block, target[i].word, op->bytes, &op->agent,
                                   op->site);
    }
    return QE_DONE;
}

static void bulk_load(qe_thread *t, uint32_t dst, const void *src, uint32_t bytes,
                      uint32_t mbarrier, uint32_t multicast, const qe_site *site) {
    check_bulk(t, dst | (uintptr_t)src, bytes, site);
    qe_operation *op = qe_operation_new(t, site);
    op->step = load_step;
    op->from = src;
    qe_operation_aim(op, t, dst, bytes, mbarrier, multicast);
    qe_agent_start(&op->agent, t, false);
    qe_operation_submit(op, t, NULL);
    qe_give_way(t);
}

void qe_bulk_load(qe_thread *t, uint32_t dst, const void *src, uint32_t bytes, uint32_t mbarrier,
                  uint32_t multicast, const qe_site *site) {
    if (qe_is_shared(src))
        qe_fatal(QE_BUG_ASYNC, t, site, "bulk copy: expected a source in global memory");
    qe_count_async(t, bytes, 0);
    bulk_load(t, dst, src, bytes, mbarrier, multicast, site);
}

void qe_bulk_shared(qe_thread *t, uint32_t dst, uint32_t src, uint32_t bytes, uint32_t mbarrier,
                    const qe_site *site) {
    bulk_load(t, dst, qe_shared(t, src, bytes, site), bytes, mbarrier, 0, site);
}

/* ---- bulk copies out of shared memory -------------------------------------------------------- */

static qe_stage store_step(qe_operation *op) {
    if (op->stage == QE_ISSUED) {
        op->captured = malloc(op->bytes ? op->bytes : 1);
        if (!op->captured) {
            qe_report(QE_BUG_MEMORY, op->block->threads, op->site, NULL, "the host has no memory");
            return QE_DONE;
        }
        qe_agent_access(&op->reader, op->block, op->from, op->bytes, QE_READ | QE_BY_ASYNC,
                        op->site);
        memcpy(op->captured, op->from, op->bytes);
        return QE_CAPTURED;
    }
    uint32_t flags = op->reduce == QE_COPY ? QE_WRITE : QE_WRITE | QE_ATOMIC | QE_UPDATE;
    qe_agent_access(&op->agent, op->block, op->to, op->bytes, flags | QE_BY_ASYNC, op->site);
    qe_reduce(op->reduce, op->element, op->to, op->captured, op->bytes);
    return QE_DONE;
}

void qe_bulk_store(qe_thread *t, void *dst, uint32_t src, uint32_t bytes, qe_reduce_op reduce,
                   qe_element type, const qe_site *site) {
    check_bulk(t, src | (uintptr_t)dst, bytes, site);
    if (!qe_reduce_exists(reduce, type))
        qe_fatal(QE_BUG_ASYNC, t, site, "bulk copy: no such reduction for this type");
    qe_block *b;
    const char *from = qe_window(t, src, bytes, &b, site);
    if (b != t->block)
        qe_fatal(QE_BUG_ASYNC, t, site, "bulk copy: expected a source in the block's own memory");
    qe_count_async(t, reduce == QE_COPY ? 0 : bytes, bytes);
    (void)qe_async_of_block(b); /* whose end completes it */
    qe_operation *op = qe_operation_new(t, site);
    op->step = store_step;
    op->to = dst;
    op->from = from;
    op->bytes = bytes;
    op->reduce = reduce;
    op->element = type;
    qe_agent_start(&op->agent, t, false);
    qe_agent_start(&op->reader, t, false);
    qe_operation_submit(op, t, &qe_async_of_thread(t)->bulk);
    qe_give_way(t);
}

void qe_bulk_commit(qe_thread *t, const qe_site *site) {
    (void)site;
    qe_async_of_thread(t)->bulk.committed++;
}

void qe_bulk_wait(qe_thread *t, uint32_t pending, bool read, const qe_site *site) {
    (void)site;
    qe_groups *g = &qe_async_of_thread(t)->bulk;
    if (read)
        wait_read(t, g, limit_of(g, pending));
    else
        wait_below(t, g, limit_of(g, pending));
    qe_give_way(t);
}

/* ---- ends ------------------------------------------------------------------------------------ */

/* Nobody will wait for these operations any more. */
static void abandon(qe_thread *t, qe_groups *g, bool failed, const char *what) {
    bool told = failed;
    if (!told && g->done_early > g->waited) {
        qe_report(QE_BUG_ASYNC, t, g->site, NULL, "the thread ends before %s", what);
        told = true;
    }
    bool finish = !failed && g == &t->async->copies;
    for (qe_operation *op = g->first; finish && op; op = op->next) perform(op, QE_DONE);
    while (g->first) {
        qe_operation *op = pop(g);
        if (!op->covered && !told) {
            qe_report(QE_BUG_ASYNC, t, op->site, NULL, "the thread ends before %s", what);
            told = true;
        }
        op->by = NULL;
        if (failed || op->stage == QE_DONE) release(op);
    }
}

void qe_async_thread_end(qe_thread *t) {
    qe_thread_async *a = t->async;
    if (!a) return;
    bool failed = t->block->cluster->launch->failed;
    abandon(t, &a->copies, failed, "it has waited for this copy (cp.async.wait_group)");
    abandon(t, &a->bulk, failed, "this copy has read its source (cp.async.bulk.wait_group.read)");
    if (!failed && (a->open || a->waited < a->committed))
        qe_report(QE_BUG_TENSOR, t, a->open, NULL,
                  "the thread ends before it has waited for its products (wgmma.wait_group)");
    a->next = free_threads;
    free_threads = a;
    t->async = NULL;
}

/* What is left of an operation when b, its issuer or its destination, ends. */
static void end_operation(qe_operation *op, qe_block *b, bool failed) {
    uint32_t bit = 1u << b->cluster_rank;
    bool issuer = op->block == b, hit = op->into == b;
    if (op->multicast) hit = op->block->cluster == b->cluster && (op->multicast & bit);
    if (!issuer && !hit) return;
    if (!failed && op->into)
        qe_report(QE_BUG_ASYNC, b->threads, op->site, NULL,
                  "the block ends while this copy %s its shared memory is under way",
                  hit ? "into" : "out of");
    if (!issuer && op->multicast && (op->multicast &= ~bit)) return; /* the others get theirs */
    if (!failed && !hit) perform(op, QE_DONE);
    release(op);
}

void qe_async_block_end(qe_block *b) {
    bool failed = b->cluster->launch->failed;
    for (qe_operation *op = queue_first, *after; op; op = after) {
        after = op->after;
        end_operation(op, b, failed);
    }
    if (!b->async) return;
    qe_mbarriers_end(b);
    qe_warpgroups_end(b);
    free(b->async);
    b->async = NULL;
}
