/* check_agent.c — asynchronous operations: they know what their issuer knew, and nobody knows of
 * them until somebody waits.
 */
#include <stddef.h>

#include "kernels/emu/checker.h"

void qe_agent_start(qe_agent *a, qe_thread *t, bool generic) {
    *a = (qe_agent){0};
    if (!t->check) return;
    qe_clock *own = &t->check->clock, *c = qe_clock_of(&a->clock);
    c->id = own->id;
    c->known = qe_tree_ref(own->known);
    c->epoch = own->epoch;
    c->copies = own->copies;
    c->visible = qe_tree_ref(own->visible);
    c->fenced = own->fenced;
    c->fenced_copies = own->fenced_copies;
    c->by = t;
    if (generic) {
        a->id = own->id + QE_FIRST_COPIES;
    } else {
        struct qe_block_check *b = t->block->check;
        a->id = t->check->first_agent + QE_FIRST_POOL + b->next_pool++ % QE_POOL;
    }
    a->epoch = qe_epoch_next();
    own->epoch = qe_epoch_next();
}

/* Whatever changes what t can tell gives it a new epoch, or is learned from somebody. */
void qe_agent_join(qe_agent *a, qe_thread *t) {
    struct qe_thread_check *k = t->check;
    if (!a->id || !k) return;
    if (k->joined == a->epoch && k->joined_at == k->clock.epoch && !k->learned) return;
    qe_clock_release(a->clock, t);
    k->joined = a->epoch;
    k->joined_at = k->clock.epoch;
    k->learned = false;
}

void qe_agent_complete(qe_agent *a, qe_sync *s) {
    if (!a->id) return;
    qe_clock *c = qe_clock_of(&s->clock);
    qe_tree_raise(&c->known, a->id, a->epoch);
}

void qe_agent_waited(qe_agent *a, qe_thread *t) {
    struct qe_thread_check *k = t->check;
    if (!a->id || !k) return;
    k->learned = true;
    if (a->id == k->clock.id + QE_FIRST_COPIES) {
        if (k->clock.copies >= a->epoch) return;
        k->clock.copies = a->epoch;
        k->new_copies = true;
        k->clock.seen_id = QE_NOBODY;
    } else {
        qe_tree_raise_alike(&k->clock.known, a->id, a->epoch);
        qe_clock_changed(k);
    }
}

void qe_agent_end(qe_agent *a) {
    qe_clock_free(&a->clock);
    *a = (qe_agent){0};
}
