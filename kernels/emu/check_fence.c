/* check_fence.c — order through memory: fences and atomic operations.
 *
 * A fence keeps what its thread knew (released); the thread's later atomic writes leave that at
 * their address. Atomic reads collect what was left at theirs (acquired); the thread knows it from
 * its next fence on. An atomic with an order of its own is both in one. A fence of block or cluster
 * scope reaches the own cluster only, so each address has one clock for every cluster that used it
 * and one for the whole launch.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/checker.h"

enum { NEAR, FAR, EVERYONE = 0 }; /* who hears of it: the cluster, the launch */

typedef struct place {
    const void *address; /* NULL: free */
    uint32_t who;        /* EVERYONE, or cluster + 1 */
    qe_clock *clock;
} place;

static struct {
    place *places;
    uint32_t capacity, used; /* capacity is a power of two */
} table;

void qe_fence_begin(void) {
    for (uint32_t i = 0; table.used && i < table.capacity; i++) {
        if (!table.places[i].address) continue;
        qe_clock_free(&table.places[i].clock);
        table.places[i] = (place){0};
    }
    table.used = 0;
}

static place *slot_of(place *places, uint32_t capacity, const void *address, uint32_t who) {
    uint64_t hash = ((uintptr_t)address / 4 + who * 0x9e3779b9u) * 0x9e3779b97f4a7c15u;
    uint32_t i = (uint32_t)(hash >> 32) & (capacity - 1);
    while (places[i].address && (places[i].address != address || places[i].who != who))
        i = (i + 1) & (capacity - 1);
    return &places[i];
}

static qe_clock **clock_at(const void *address, uint32_t who) {
    if (2 * (table.used + 1) > table.capacity) {
        uint32_t capacity = table.capacity ? 2 * table.capacity : 1024;
        place *places = calloc(capacity, sizeof *places);
        if (!places) abort();
        for (uint32_t i = 0; i < table.capacity; i++) {
            place *p = &table.places[i];
            if (p->address) *slot_of(places, capacity, p->address, p->who) = *p;
        }
        free(table.places);
        table.places = places;
        table.capacity = capacity;
    }
    place *p = slot_of(table.places, table.capacity, address, who);
    if (!p->address) {
        *p = (place){.address = address, .who = who};
        table.used++;
    }
    return &p->clock;
}

static void join_clocks(qe_clock **into, qe_clock *from) {
    qe_clock *c = qe_clock_of(into);
    qe_tree_join(&c->known, from->known);
    qe_tree_join(&c->visible, from->visible);
}

static void collect(struct qe_thread_check *k, int reach, const void *address, uint32_t who) {
    if (!table.used) return;
    place *p = slot_of(table.places, table.capacity, address, who);
    if (!p->address) return;
    join_clocks(&k->acquired[reach], p->clock);
    k->has_fence = true;
}

static void learn(qe_thread *t, int reach) {
    qe_clock **c = &t->check->acquired[reach];
    if (!*c) return;
    qe_clock_acquire(*c, t);
    qe_clock_free(c);
}

static void keep(qe_thread *t, bool far) {
    struct qe_thread_check *k = t->check;
    qe_clock_free(&k->released[NEAR]);
    qe_clock_release(qe_clock_of(&k->released[NEAR]), t);
    if (far) {
        qe_clock_free(&k->released[FAR]);
        join_clocks(&k->released[FAR], k->released[NEAR]);
    }
    k->has_fence = true;
}

void qe_fence(qe_thread *t, qe_scope scope, const qe_site *site) {
    (void)site;
    if (!t->check) return;
    bool far = scope >= QE_SCOPE_GPU;
    learn(t, NEAR);
    if (far) learn(t, FAR);
    keep(t, far);
}

void qe_atomic_access(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags, qe_order order,
                      const qe_site *site) {
    qe_give_way(t);
    qe_access(t, p, bytes, flags | QE_ATOMIC, site);
    struct qe_thread_check *k = t->check;
    if (!k || !(qe_is_global(p) || qe_is_shared(p))) return;
    uint32_t cluster = t->block->cluster->id + 1;
    if (order == QE_RELEASE || order == QE_ACQ_REL) keep(t, true);
    collect(k, NEAR, p, cluster);
    collect(k, FAR, p, EVERYONE);
    if (flags & QE_WRITE && k->has_fence) {
        if (k->released[NEAR]) join_clocks(clock_at(p, cluster), k->released[NEAR]);
        if (k->released[FAR]) join_clocks(clock_at(p, EVERYONE), k->released[FAR]);
    }
    if (order == QE_ACQUIRE || order == QE_ACQ_REL) {
        learn(t, NEAR);
        learn(t, FAR);
    }
}
