/* check_clock.c — vector clocks: what happened before what, and what the async proxy can see.
 *
 * A thread's clock is two trees, shared with everyone who knows the same, and its own entries. A
 * meeting (barrier, __syncwarp) makes one pair of trees for all that met: its cost per thread is a
 * few stores. Releases go into an object's clock in place.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/checker.h"

static struct {
    uint32_t epoch;
    uint32_t launch; /* counts watched launches: trees of an earlier one are gone */
    uint32_t first;  /* epoch in which this one began */
    qe_clock *free;
    struct qe_cluster_check *in_use, *spare;
} clocks;

uint32_t qe_epoch_next(void) { return ++clocks.epoch; }
uint32_t qe_epoch_now(void) { return clocks.epoch; }

/* ---- clocks of objects ----------------------------------------------------------------------- */

static qe_clock *new_clock(void) {
    qe_clock *c = clocks.free;
    if (c)
        clocks.free = c->next;
    else if (!(c = malloc(sizeof *c)))
        abort();
    *c = (qe_clock){.id = QE_NOBODY, .seen_id = QE_NOBODY, .launch = clocks.launch};
    return c;
}

qe_clock *qe_clock_of(qe_clock **slot) {
    if (*slot && (*slot)->launch != clocks.launch) qe_clock_free(slot);
    if (!*slot) *slot = new_clock();
    return *slot;
}

void qe_clock_free(qe_clock **slot) {
    qe_clock *c = *slot;
    *slot = NULL;
    if (!c) return;
    if (c->launch == clocks.launch) {
        qe_tree_unref(c->known);
        qe_tree_unref(c->visible);
        qe_tree_unref(c->from_known);
        qe_tree_unref(c->from_visible);
    }
    c->launch = 0;
    c->next = clocks.free;
    clocks.free = c;
}

static uint32_t greater(uint32_t a, uint32_t b) { return a > b ? a : b; }

uint32_t qe_clock_known(qe_clock *c, uint32_t agent) {
    if (agent == c->seen_id) return c->seen_epoch;
    uint32_t epoch = qe_tree_at(c->known, agent);
    if (agent == c->id)
        epoch = greater(epoch, c->epoch);
    else if (agent == c->id + QE_FIRST_COPIES)
        epoch = greater(epoch, c->copies);
    c->seen_id = agent;
    c->seen_epoch = epoch;
    return epoch;
}

uint32_t qe_clock_visible(const qe_clock *c, uint32_t agent) {
    uint32_t epoch = qe_tree_at(c->visible, agent);
    if (agent == c->id)
        epoch = greater(epoch, c->fenced);
    else if (agent == c->id + QE_FIRST_COPIES)
        epoch = greater(epoch, c->fenced_copies);
    return epoch;
}

/* ---- launches and clusters ------------------------------------------------------------------- */

void qe_check_launch_begin(qe_launch *l) {
    bool forget = clocks.epoch > QE_MAX_EPOCH;
    if (forget) clocks.epoch = 0;
    qe_shadow_begin(l, forget);
    if (!(l->watch & QE_CHECK)) return;
    while (clocks.in_use) { /* of a launch that was abandoned */
        struct qe_cluster_check *k = clocks.in_use;
        clocks.in_use = k->next;
        k->next = clocks.spare;
        clocks.spare = k;
    }
    clocks.launch++;
    clocks.first = clocks.epoch;
    qe_tree_begin(l->grid[0] * l->grid[1] * l->grid[2], l->block[0] * l->block[1] * l->block[2]);
    qe_fence_begin();
    qe_report_begin();
}

void qe_check_launch_end(qe_launch *l) { (void)l; }

static struct qe_cluster_check *take_cluster(uint32_t n_threads, uint32_t n_blocks) {
    struct qe_cluster_check *k = clocks.spare;
    if (k)
        clocks.spare = k->next;
    else if (!(k = calloc(1, sizeof *k)))
        abort();
    if (k->n_threads < n_threads) {
        free(k->threads);
        if (!(k->threads = malloc(n_threads * sizeof *k->threads))) abort();
        k->n_threads = n_threads;
    }
    if (k->n_blocks < n_blocks) {
        free(k->blocks);
        if (!(k->blocks = malloc(n_blocks * sizeof *k->blocks))) abort();
        k->n_blocks = n_blocks;
    }
    return k;
}

void qe_check_cluster_begin(qe_cluster *c) {
    if (!(c->launch->watch & QE_CHECK)) return;
    uint32_t per_block = c->blocks[0]->n_threads, before = clocks.epoch;
    uint32_t epoch = qe_epoch_next();
    struct qe_cluster_check *k = take_cluster(per_block * c->n_blocks, c->n_blocks);
    k->next = clocks.in_use;
    clocks.in_use = c->check = k;
    for (uint32_t b = 0; b < c->n_blocks; b++) {
        qe_block *block = c->blocks[b];
        uint32_t number = (c->id * c->n_blocks + b) & (UINT32_MAX >> QE_AGENT_BITS);
        k->blocks[b] = (struct qe_block_check){.number = number, .first = before};
        block->check = &k->blocks[b];
        for (uint32_t i = 0; i < per_block; i++) {
            struct qe_thread_check *t = &k->threads[b * per_block + i];
            *t = (struct qe_thread_check){
                .clock = {.id = number << QE_AGENT_BITS | i,
                          .epoch = epoch,
                          .seen_id = QE_NOBODY,
                          .by = &block->threads[i]},
                .first_agent = number << QE_AGENT_BITS,
                .launch_first = clocks.first,
                .shared_first = before,
            };
            block->threads[i].check = t;
        }
        qe_shadow_block(block);
    }
}

void qe_check_cluster_end(qe_cluster *c) {
    struct qe_cluster_check *k = c->check;
    if (!k) return;
    for (uint32_t b = 0; b < c->n_blocks; b++) {
        for (uint32_t i = 0; i < c->blocks[b]->n_threads; i++) {
            struct qe_thread_check *t = c->blocks[b]->threads[i].check;
            qe_tree_unref(t->clock.known);
            qe_tree_unref(t->clock.visible);
            for (int s = 0; s < 2; s++) {
                qe_clock_free(&t->released[s]);
                qe_clock_free(&t->acquired[s]);
            }
            c->blocks[b]->threads[i].check = NULL;
        }
        c->blocks[b]->check = NULL;
    }
    c->check = NULL;
    struct qe_cluster_check **at = &clocks.in_use;
    while (*at && *at != k) at = &(*at)->next;
    if (*at) *at = k->next;
    k->next = clocks.spare;
    clocks.spare = k;
}

/* ---- releases and acquires ------------------------------------------------------------------- */

void qe_clock_changed(struct qe_thread_check *k) {
    const qe_node *own = qe_tree_block(k->clock.known, qe_agent_block(k->clock.id));
    k->floor = own ? own->floor : 0;
    k->clock.seen_id = QE_NOBODY;
}

/* *tree joins what `from` has, unless that was the last thing it joined. */
static void join_once(qe_node **tree, qe_node **last, qe_node *from) {
    if (*last == from) return;
    qe_tree_join(tree, from);
    qe_tree_unref(*last);
    *last = qe_tree_ref(from);
}

static void raise_own(qe_node **known, qe_node **visible, const qe_clock *c) {
    if (c->copies) qe_tree_raise(known, c->id + QE_FIRST_COPIES, c->copies);
    if (c->fenced) qe_tree_raise(visible, c->id, c->fenced);
    if (c->fenced_copies) qe_tree_raise(visible, c->id + QE_FIRST_COPIES, c->fenced_copies);
}

void qe_clock_release(qe_clock *c, qe_thread *t) {
    qe_clock *own = &t->check->clock;
    join_once(&c->known, &c->from_known, own->known);
    join_once(&c->visible, &c->from_visible, own->visible);
    qe_tree_raise(&c->known, own->id, own->epoch);
    raise_own(&c->known, &c->visible, own);
    c->seen_id = QE_NOBODY;
    own->epoch = qe_epoch_next();
}

void qe_clock_acquire(const qe_clock *c, qe_thread *t) {
    struct qe_thread_check *k = t->check;
    k->learned = true;
    qe_tree_join(&k->clock.visible, c->visible);
    if (k->clock.known == c->known) return;
    qe_tree_join(&k->clock.known, c->known);
    qe_clock_changed(k);
}

void qe_sync_release(qe_sync *s, qe_thread *t) {
    if (t->check) qe_clock_release(qe_clock_of(&s->clock), t);
}

void qe_sync_acquire(qe_sync *s, qe_thread *t) {
    if (t->check && s->clock && s->clock->launch == clocks.launch) qe_clock_acquire(s->clock, t);
}

void qe_sync_forget(qe_sync *s) { qe_clock_free(&s->clock); }

/* ---- meetings -------------------------------------------------------------------------------- */

static void meet_across_blocks(qe_thread *const *t, uint32_t n) {
    qe_sync s = {0};
    for (uint32_t i = 0; i < n; i++) qe_sync_release(&s, t[i]);
    for (uint32_t i = 0; i < n; i++) qe_sync_acquire(&s, t[i]);
    qe_sync_forget(&s);
}

/* What they all know, without what they did since: the trees they bring, and the entries of theirs
 * that are not in them. */
static void gather(qe_thread *const *t, uint32_t n, qe_node **known, qe_node **visible) {
    const qe_node *last_known = NULL, *last_visible = NULL;
    for (uint32_t i = 0; i < n; i++) {
        struct qe_thread_check *k = t[i]->check;
        qe_clock *c = &k->clock;
        if (c->known != last_known) qe_tree_join(known, c->known);
        if (c->visible != last_visible) qe_tree_join(visible, c->visible);
        last_known = c->known;
        last_visible = c->visible;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct qe_thread_check *k = t[i]->check;
        if (k->new_copies || k->new_fence) raise_own(known, visible, &k->clock);
    }
}

void qe_sync_meet(qe_thread *const *t, uint32_t n) {
    if (!n || !t[0]->check) return;
    qe_block *block = t[0]->block;
    for (uint32_t i = 1; i < n; i++) {
        if (t[i]->block == block) continue;
        meet_across_blocks(t, n);
        return;
    }
    qe_node *known = NULL, *visible = NULL;
    gather(t, n, &known, &visible);
    uint32_t met = clocks.epoch, epoch = qe_epoch_next();
    if (n == block->n_threads) {
        qe_tree_raise_block(&known, block->check->number, met);
    } else {
        uint32_t *lanes = NULL, leaf = QE_NOBODY;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t id = t[i]->check->clock.id;
            if (id / 32 != leaf) lanes = qe_tree_lanes(&known, id);
            leaf = id / 32;
            lanes[id % 32] = met;
        }
    }
    const qe_node *own = qe_tree_block(known, block->check->number);
    for (uint32_t i = 0; i < n; i++) {
        struct qe_thread_check *k = t[i]->check;
        qe_tree_unref(k->clock.known);
        k->clock.known = qe_tree_ref(known);
        if (k->clock.visible != visible) {
            qe_tree_unref(k->clock.visible);
            k->clock.visible = qe_tree_ref(visible);
        }
        k->clock.epoch = epoch;
        k->clock.seen_id = QE_NOBODY;
        k->floor = own->floor;
        k->new_copies = k->new_fence = false;
    }
    qe_tree_unref(known);
    qe_tree_unref(visible);
}

/* ---- moments --------------------------------------------------------------------------------- */

qe_stamp qe_check_stamp(const qe_thread *t) {
    if (!t->check) return (qe_stamp){0};
    return (qe_stamp){t->check->clock.id + 1, t->check->clock.epoch};
}

bool qe_check_knows(const qe_thread *t, qe_stamp s) {
    if (!t->check || !s.id) return true;
    return s.id - 1 == t->check->clock.id || qe_clock_known(&t->check->clock, s.id - 1) >= s.epoch;
}

void qe_check_fence_proxy(qe_thread *t) {
    struct qe_thread_check *k = t->check;
    if (!k) return;
    if (!qe_cfg.strict_proxy) qe_tree_join(&k->clock.visible, k->clock.known);
    k->clock.fenced = k->clock.epoch;
    k->clock.fenced_copies = k->clock.copies;
    k->new_fence = true;
    k->clock.epoch = qe_epoch_next();
}
