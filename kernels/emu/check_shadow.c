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

/* The slot that goes: of a read, when another read comes, so that it is not the write it may race
 * with. */
static unsigned victim(const qe_grain *g, bool for_read) {
    static uint32_t turn;
    unsigned reads = bits((g->kind & all(QE_SLOT_WROTE)) == all(0));
    unsigned i = turn++ % QE_SLOTS;
    if (for_read && reads)
        while (!(reads >> i & 1)) i = (i + 1) % QE_SLOTS;
    return i;
}

static inline void take_slot(qe_grain *g, unsigned i, uint32_t agent, uint32_t epoch, int32_t kind,
                             const qe_site *site) {
    g->agent[i] = (int32_t)agent;
    g->epoch[i] = (int32_t)epoch;
    g->site[i] = qe_site_code(site);
    g->kind[i] = kind;
}

/* Compares the access to bytes m of a grain with its slots and takes one of them. */
static void meet_slots(const qe_actor *a, const char *p, qe_grain *g, uint32_t m) {
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
    if (a->flags & QE_UPDATE) { /* has seen the updates before it: who follows it, follows them */
        inside &= (kind & all(QE_SLOT_ATOMIC)) != none;
        g->epoch &= ~inside;
        past |= bits(inside);
    }
    unsigned place = (~bits(fresh) & 15) | (past & bits(inside));
    unsigned i = place ? (unsigned)__builtin_ctz(place) : victim(g, !(a->kind & QE_SLOT_WROTE));
    take_slot(g, i, a->agent, a->epoch, (int32_t)m | a->kind, a->site);
}

/* The same for a plain access of a thread, as far as the block's floor settles it; else false. */
static inline bool meet_quickly(const struct qe_thread_check *k, uint32_t first, qe_grain *g,
                                uint32_t m, bool wrote, const qe_site *site) {
    qe_quad kind = g->kind, epoch = g->epoch, none = {0};
    qe_quad other = g->agent ^ all((int32_t)k->clock.id);
    qe_quad fresh = epoch > all((int32_t)first);
    qe_quad neighbour = (other & all(~(QE_FIRST_COPIES - 1))) == none;
    qe_quad past = (other == none) | (neighbour & ~(epoch > all((int32_t)k->floor)));
    qe_quad apart = (kind & all((int32_t)m)) == none;
    qe_quad read = (kind & all(QE_SLOT_WROTE)) == none;
    if (!wrote) apart |= read;
    if (bits(fresh & ~past & ~apart)) return false;
    if (!wrote) { /* two readers that met each other: whoever knows both knows this one */
        qe_quad same = neighbour & (epoch == all((int32_t)k->clock.epoch));
        same &= (kind & all((int32_t)m | ~QE_SLOT_BYTES)) == all((int32_t)m);
        unsigned readers = bits(same);
        if (readers & (readers - 1)) return true;
    }
    qe_quad inside = (kind & all((int32_t)(~m & QE_SLOT_BYTES))) == none;
    if (!wrote) inside &= read;
    unsigned place = bits(~fresh | (past & inside));
    unsigned i = place ? (unsigned)__builtin_ctz(place) : victim(g, !wrote);
    take_slot(g, i, k->clock.id, k->clock.epoch, (int32_t)m | (wrote ? QE_SLOT_WROTE : 0), site);
    return true;
}

/* Bounds of bytes m and initialisation of those that are used; false: out of bounds. */
static inline bool check_state(const qe_actor *a, const char *p, uint16_t *state, uint32_t m,
                               uint32_t used, uint32_t bytes) {
    uint32_t now = *state;
    if ((now >> 8 & m) != m) {
        qe_report_state(a, p, bytes, qe_is_shared(p) ? QE_BUG_OOB_SHARED : QE_BUG_OOB_GLOBAL);
        return false;
    }
    if ((now & used) == used) return true;
    if (!(a->flags & QE_WRITE) || (a->flags & QE_UPDATE))
        qe_report_state(a, p, bytes, qe_is_shared(p) ? QE_BUG_UNINIT_SHARED : QE_BUG_UNINIT_GLOBAL);
    *state = (uint16_t)(now | used);
    return true;
}

static void check_range(const qe_actor *a, const qe_stretch *s, const char *p, uint32_t bytes) {
    size_t at = (size_t)(p - s->low);
    uint32_t unused = a->flags >> QE_UNUSED; /* of a vector: at most 16 bytes */
    for (uint32_t left = bytes; left;) {
        uint32_t n = (uint32_t)(QE_GRAIN - at % QE_GRAIN);
        if (n > left) n = left;
        uint32_t m = ((1u << n) - 1) << at % QE_GRAIN, used = m & ~(unused << at % QE_GRAIN);
        if (!check_state(a, s->low + at, &s->state[at / QE_GRAIN], m, used, bytes)) return;
        if (used) meet_slots(a, s->low + at, &s->grains[at / QE_GRAIN], used);
        unused >>= n;
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

/* What check_quickly left. */
static __attribute__((noinline)) void check_slowly(qe_thread *t, const char *p, uint32_t bytes,
                                                   uint32_t flags, const qe_site *site) {
    struct qe_thread_check *k = t->check;
    bool shared = qe_is_shared(p);
    if (!shared && !qe_is_global(p)) {
        if ((uintptr_t)p < 65536)
            qe_fatal(QE_BUG_OOB_GLOBAL, t, site, "access of %u bytes at address %p", bytes,
                     (const void *)p);
        return;
    }
    qe_actor a = {.clock = &k->clock,
                  .thread = t,
                  .block = t->block,
                  .site = site,
                  .agent = k->clock.id,
                  .epoch = k->clock.epoch,
                  .floor = k->floor,
                  .first = shared ? first_of(t->block, p) : k->launch_first,
                  .flags = flags,
                  .kind = kind_of(flags)};
    check_range(&a, shared ? &qe_shadow_shared : &qe_shadow_global, p, bytes);
}

static __attribute__((noinline)) bool check_vector(const struct qe_thread_check *k, uint32_t first,
                                                   qe_grain *g, uint16_t *state, uint32_t n,
                                                   uint32_t flags, const qe_site *site) {
    uint32_t need = flags ? QE_SLOT_BYTES << 8 : QE_SLOT_BYTES * 0x101;
    for (uint32_t i = 0; i < n; i++) {
        if ((state[i] & need) != need) return false;
        if (!meet_quickly(k, first, &g[i], QE_SLOT_BYTES, flags, site)) return false;
        if (flags) state[i] |= QE_SLOT_BYTES;
    }
    return true;
}

/* A plain access, aligned as all are, to memory in order, and slots that the floor settles; else
 * false. */
static inline bool check_quickly(const qe_thread *t, const char *p, uint32_t bytes, uint32_t flags,
                                 const qe_site *site) {
    const struct qe_thread_check *k = t->check;
    const qe_stretch *s = &qe_shadow_shared;
    uint32_t first = k->shared_first;
    if ((size_t)(p - s->low) >= (size_t)(s->high - s->low)) {
        s = &qe_shadow_global;
        first = k->launch_first;
        if ((size_t)(p - s->low) >= (size_t)(s->high - s->low)) return false;
    } else if (t->block->cluster_size > 1) {
        return false;
    }
    if (flags & ~(uint32_t)QE_WRITE) return false;
    size_t at = (size_t)(p - s->low);
    uint16_t *state = &s->state[at / QE_GRAIN];
    qe_grain *g = &s->grains[at / QE_GRAIN];
    if (bytes > QE_GRAIN) return check_vector(k, first, g, state, bytes / QE_GRAIN, flags, site);
    uint32_t m = (QE_SLOT_BYTES >> (QE_GRAIN - bytes)) << at % QE_GRAIN;
    uint32_t need = flags ? m << 8 : m * 0x101;
    if ((*state & need) != need) return false;
    if (!meet_quickly(k, first, g, m, flags, site)) return false;
    if (flags) *state |= (uint16_t)m;
    return true;
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
    if (t->check && !check_quickly(t, p, bytes, flags, site))
        check_slowly(t, p, bytes, flags, site);
    if ((t->watch & QE_COUNT) && !(flags & QE_UNCOUNTED)) qe_count_access(t, p, bytes, flags, site);
}

_Noreturn void qe_misaligned(qe_thread *t, const void *p, uint32_t bytes, const qe_site *site) {
    qe_fatal(QE_BUG_MISALIGNED, t, site, "access of %u bytes at %p, which is not a multiple of %u",
             bytes, p, bytes);
}
