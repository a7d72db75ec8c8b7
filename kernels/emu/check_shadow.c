/* check_shadow.c — each access against the last ones to its bytes: races, bounds, initialisation.
 *
 * A new access is compared with a grain's four slots at once; what it cannot be ordered after by
 * the block's floor is looked up in its clock. It then takes the place of an access that it makes
 * superfluous, of one that is out of date, or of any: with more than four that matter some are
 * forgotten, so a race may be missed, never invented.
 */
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "kernels/emu/checker.h"

static unsigned bits(qe_quad q) { /* one per lane */
#ifdef __SSE2__
    return (unsigned)_mm_movemask_ps((__m128)q);
#else
    return (unsigned)((q[0] & 1) | (q[1] & 2) | (q[2] & 4) | (q[3] & 8));
#endif
}
static qe_quad all(int32_t x) { return (qe_quad){x, x, x, x}; }

/* A slot that the floor does not order: true if the clock does, else it is a finding. */
static bool is_ordered(const qe_actor *a, const char *p, const qe_grain *g, unsigned i) {
    uint32_t agent = (uint32_t)g->agent[i], epoch = (uint32_t)g->epoch[i];
    bool known = qe_clock_known(a->clock, agent) >= epoch;
    bool other_proxy =
        (a->kind & QE_SLOT_ASYNC) && (g->kind[i] & QE_SLOT_WROTE) && !(g->kind[i] & QE_SLOT_ASYNC);
    if (known && (!other_proxy || qe_clock_visible(a->clock, agent) >= epoch)) return true;
    uint32_t blocks = a->block->cluster->n_blocks;
    bool near = qe_agent_block(agent) / blocks == qe_agent_block(a->agent) / blocks;
    qe_finding kind = known ? QE_BUG_PROXY_RACE : near ? QE_BUG_RACE : QE_BUG_RACE_GRID;
    qe_report_race(a, p, kind, g, i);
    return false;
}

/* Compares the access to bytes m of a grain with its slots and takes one of them. */
static inline void meet_slots(const qe_actor *a, const char *p, qe_grain *g, uint32_t m,
                              uint32_t *evicted) {
    int32_t block = (int32_t)(a->agent >> QE_AGENT_BITS << QE_AGENT_BITS);
    qe_quad kind = g->kind, none = {0};
    qe_quad fresh = g->epoch > all((int32_t)a->first);
    qe_quad neighbour = (g->agent & all(~(QE_FIRST_COPIES - 1))) == all(block);
    qe_quad read = (kind & all(QE_SLOT_WROTE)) == none;
    qe_quad ordered = neighbour & (g->epoch <= all((int32_t)a->floor));
    if (a->kind & QE_SLOT_ASYNC) ordered &= read; /* of a write the proxy must have heard */
    ordered |= (g->agent == all((int32_t)a->agent)) & (g->epoch >= all((int32_t)a->own_since));
    qe_quad harmless = ~fresh | ordered | ((kind & all((int32_t)m)) == none);
    qe_quad inside = (kind & all((int32_t)(~m & QE_SLOT_BYTES))) == none;
    if (!(a->kind & QE_SLOT_WROTE)) {
        harmless |= read;
        inside &= read;
    }
    if (a->kind & QE_SLOT_ATOMIC) {
        qe_quad atomic = (kind & all(QE_SLOT_ATOMIC)) != none;
        harmless |= atomic;
        inside &= atomic;
    }
    unsigned past = bits(ordered);
    for (unsigned rest = ~bits(harmless) & 15; rest; rest &= rest - 1) {
        unsigned i = (unsigned)__builtin_ctz(rest);
        if (is_ordered(a, p, g, i)) past |= 1u << i;
    }
    unsigned place = (~bits(fresh) & 15) | (past & bits(inside));
    unsigned i = place ? (unsigned)__builtin_ctz(place) : (*evicted)++ % QE_SLOTS;
    g->agent[i] = (int32_t)a->agent;
    g->epoch[i] = (int32_t)a->epoch;
    g->site[i] = qe_site_code(a->site);
    g->kind[i] = (int32_t)m | a->kind;
}

/* Bounds and initialisation of bytes m; false: out of bounds. */
static inline bool check_state(const qe_actor *a, const char *p, uint16_t *state, uint32_t m,
                               uint32_t bytes) {
    uint32_t now = *state;
    if ((now >> 8 & m) != m) {
        qe_report_state(a, p, bytes, qe_is_shared(p) ? QE_BUG_OOB_SHARED : QE_BUG_OOB_GLOBAL);
        return false;
    }
    if ((now & m) == m) return true;
    if (!(a->flags & QE_WRITE) || (a->flags & QE_UPDATE))
        qe_report_state(a, p, bytes, qe_is_shared(p) ? QE_BUG_UNINIT_SHARED : QE_BUG_UNINIT_GLOBAL);
    *state = (uint16_t)(now | m);
    return true;
}

static inline void check_range(const qe_actor *a, const qe_stretch *s, const char *p,
                               uint32_t bytes) {
    static uint32_t evicted; /* turns the slot that has to go */
    size_t at = (size_t)(p - s->low);
    for (uint32_t left = bytes; left;) {
        uint32_t n = (uint32_t)(QE_GRAIN - at % QE_GRAIN);
        if (n > left) n = left;
        uint32_t m = ((1u << n) - 1) << at % QE_GRAIN;
        if (!check_state(a, s->low + at, &s->state[at / QE_GRAIN], m, bytes)) return;
        meet_slots(a, s->low + at, &s->grains[at / QE_GRAIN], m, &evicted);
        at += n;
        left -= n;
    }
}

/* The epoch in which the block began that has the shared memory at p. */
static uint32_t first_of(const qe_block *b, const char *p) {
    const qe_cluster *c = b->cluster;
    for (uint32_t i = 0; i < c->n_blocks; i++) {
        const qe_block *o = c->blocks[i];
        if (p >= o->window && p < o->window + QE_SHARED_STRIDE) return o->check->first;
    }
    return b->check->first;
}

static int32_t kind_of(uint32_t flags) {
    return (flags & QE_WRITE ? QE_SLOT_WROTE : 0) |
           (flags & (QE_ATOMIC | QE_VOLATILE) ? QE_SLOT_ATOMIC : 0) |
           (flags & QE_BY_ASYNC ? QE_SLOT_ASYNC : 0);
}

static void check_access(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags,
                         const qe_site *site) {
    struct qe_thread_check *k = t->check;
    bool shared = qe_is_shared(p);
    if (!k) return;
    if (!shared && !qe_is_global(p)) {
        if ((uintptr_t)p < 65536)
            qe_fatal(QE_BUG_OOB_GLOBAL, t, site, "access of %u bytes at address %p", bytes, p);
        return;
    }
    qe_actor a = {.clock = &k->clock,
                  .thread = t,
                  .block = t->block,
                  .site = site,
                  .agent = k->clock.id,
                  .epoch = k->clock.epoch,
                  .floor = k->floor,
                  .first = shared ? k->shared_first : k->launch_first,
                  .flags = flags,
                  .kind = kind_of(flags)};
    if (!shared) {
        check_range(&a, &qe_shadow_global, p, bytes);
        return;
    }
    if (t->block->cluster_size > 1) a.first = first_of(t->block, p);
    check_range(&a, &qe_shadow_shared, p, bytes);
}

void qe_agent_access(qe_agent *g, qe_block *b, const void *p, uint32_t bytes, uint32_t flags,
                     const qe_site *site) {
    bool shared = qe_is_shared(p);
    if (!g->id || (!shared && !qe_is_global(p))) return;
    const qe_thread *by = g->clock->by;
    const qe_node *own = qe_tree_block(g->clock->known, qe_agent_block(g->id));
    qe_actor a = {.clock = g->clock,
                  .thread = by,
                  .block = by->block,
                  .site = site,
                  .agent = g->id,
                  .epoch = g->epoch,
                  .own_since = g->epoch,
                  .floor = own ? own->floor : 0,
                  .first = shared ? first_of(b, p) : by->check->launch_first,
                  .flags = flags,
                  .kind = kind_of(flags)};
    check_range(&a, shared ? &qe_shadow_shared : &qe_shadow_global, p, bytes);
}

void qe_watched(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags, const qe_site *site) {
    if (t->watch & QE_CHECK) check_access(t, p, bytes, flags, site);
    if ((t->watch & QE_COUNT) && !(flags & QE_UNCOUNTED)) qe_count_access(t, p, bytes, flags, site);
}

_Noreturn void qe_misaligned(qe_thread *t, const void *p, uint32_t bytes, const qe_site *site) {
    qe_fatal(QE_BUG_MISALIGNED, t, site, "access of %u bytes at %p, which is not a multiple of %u",
             bytes, p, bytes);
}
