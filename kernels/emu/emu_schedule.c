/* emu_schedule.c — which thread runs next.
 *
 * A warp that has lanes to run stands in one of 64 queues; within a warp the lanes are bits. The
 * warp chosen last is stayed with until none of its lanes can run (hardware keeps them together
 * too, and code relies on it), unless lanes=free. FIFO uses one queue; RANDOM puts a warp into a
 * random queue each time and starts looking at a random one; PCT gives each warp a random priority,
 * runs the highest, and now and then changes one. All of it is constant time.
 *
 * A thread that has not started needs no stack of its own yet: it runs on that of the thread that
 * ended before it, so a kernel without barriers is a plain loop.
 */
#include "kernels/emu/scheduler.h"

enum { QUEUES = 64, SPINS = 2000000, SPINS_PER_THREAD = 200, PATIENCE = 100 };

static qe_warp *first_warp[QUEUES], *last_warp[QUEUES];
static uint64_t filled;        /* queues that have warps, as bits */
static qe_warp *staying_with;  /* dequeued, its lanes go on */
static qe_thread *to_be_begun; /* by the fiber that is switched to */
static uint32_t ways_given;    /* since a thread last waited or ended */

/* ---- the queues ------------------------------------------------------------------------------ */

void qe_queue_clear(void) {
    filled = 0;
    for (int i = 0; i < QUEUES; i++) first_warp[i] = last_warp[i] = NULL;
    staying_with = NULL;
}

void qe_queue_warp(qe_warp *w) {
    if (w->queued) return;
    uint32_t q = 0;
    if (qe_cfg.schedule == QE_RANDOM) q = qe_random(QUEUES);
    if (qe_cfg.schedule == QE_PCT) q = w->priority;
    w->queued = true;
    w->next = NULL;
    if (first_warp[q])
        last_warp[q]->next = w;
    else
        first_warp[q] = w;
    last_warp[q] = w;
    filled |= UINT64_C(1) << q;
}

static qe_warp *dequeue(void) {
    if (!filled) return NULL;
    uint32_t q = 0;
    if (qe_cfg.schedule == QE_RANDOM) {
        uint32_t from = qe_random(QUEUES);
        uint64_t turned = filled >> from | filled << (-from & 63);
        q = ((uint32_t)__builtin_ctzll(turned) + from) % QUEUES;
    } else if (qe_cfg.schedule == QE_PCT) {
        q = 63 - (uint32_t)__builtin_clzll(filled);
    }
    qe_warp *w = first_warp[q];
    first_warp[q] = w->next;
    if (!w->next) filled &= ~(UINT64_C(1) << q);
    w->queued = false;
    return w;
}

/* What an adversarial schedule does between two choices. */
static void disturb(qe_warp *w) {
    if (qe_cfg.schedule == QE_PCT && qe_random(64) == 0) w->priority = qe_random(QUEUES);
    w->turn = qe_random(32);
    if (qe_random(32) == 0) (void)qe_cluster_start();
}

/* The next thread, NULL if none can run, whatever is pending. Its bit is taken. */
static inline qe_thread *pick(bool *fresh) {
    qe_warp *w = staying_with;
    for (;;) {
        if (w) {
            uint32_t can = w->fresh | w->ready;
            if (can) {
                uint32_t turn = w->turn;
                uint32_t turned = can >> turn | can << (-turn & 31);
                uint32_t lane = ((uint32_t)__builtin_ctz(turned) + turn) & 31;
                uint32_t bit = UINT32_C(1) << lane;
                *fresh = (w->fresh & bit) != 0;
                w->fresh &= ~bit;
                w->ready &= ~bit;
                if (qe_cfg.free_lanes) {
                    staying_with = NULL;
                    if (w->fresh | w->ready | w->yielded) qe_queue_warp(w);
                }
                return &w->lanes[lane];
            }
            staying_with = NULL;
            if (w->yielded) {
                w->ready = w->yielded;
                w->yielded = 0;
                qe_queue_warp(w);
            }
        }
        if (qe_cfg.async == QE_ANY_TIME) qe_async_maybe();
        w = staying_with = dequeue();
        if (w) {
            if (qe_cfg.schedule != QE_FIFO) disturb(w);
        } else if (!qe_async_step() && !qe_cluster_start()) {
            return NULL;
        }
    }
}

/* ---- threads --------------------------------------------------------------------------------- */

void qe_thread_end(qe_thread *t) {
    qe_warp *w = t->warp;
    qe_block *b = t->block;
    t->wait = QE_EXITED;
    if (t->async) qe_async_thread_end(t);
    w->live &= ~(UINT32_C(1) << t->lane);
    b->live--;
    b->cluster->live--;
    qe_now.live--;
    qe_now.spins = 0;
    ways_given = 0;
    if (w->meetings) qe_warp_exit(w);
    if ((t->watch & QE_COUNT) && !w->live) qe_count_meet(w);
    if (b->open_barriers) qe_barrier_exit(b);
    if (b->cluster->barrier.arrived || t->cluster_arrived) qe_cluster_exit(b->cluster, t);
    if (b->live == 0) qe_block_end(b);
}

void qe_fiber_main(void) {
    qe_thread *t = to_be_begun;
    qe_body *body = qe_launch_now->kernel->body;
    char *params = qe_launch_now->params;
    qe_fiber *own = qe_fiber_current();
    for (;;) {
        bool fresh = false;
        t->fiber = own;
        t->wait = QE_RUNNABLE;
        qe_running = t;
        body(t, params);
        qe_thread_end(t);
        qe_running = NULL;
        t = pick(&fresh);
        if (!t) {
            if (qe_now.live != 0) qe_deadlock();
            qe_fiber_leave(qe_fiber_host());
        }
        if (fresh) continue;
        qe_running = t;
        qe_fiber_leave(t->fiber);
    }
}

/* Runs others until somebody has made t ready and its turn has come. */
static void run_others(qe_thread *t) {
    bool fresh = false;
    qe_thread *next = pick(&fresh);
    if (next == t) return;
    if (!next) qe_deadlock();
    if (fresh) {
        qe_fiber *f = qe_fiber_take();
        if (!f) qe_fatal(QE_BUG_LAUNCH, t, t->wait_site, "no memory for the stack of a thread");
        to_be_begun = next;
        qe_fiber_switch(f);
    } else {
        qe_running = next;
        qe_fiber_switch(next->fiber);
    }
}

/* From the host: the first thread. */
void qe_threads_run(void) {
    bool fresh = false;
    to_be_begun = pick(&fresh);
    if (!to_be_begun) return;
    qe_fiber *f = qe_fiber_take();
    if (!f) {
        qe_report(QE_BUG_LAUNCH, NULL, NULL, NULL, "no memory for the stack of a thread");
        qe_launch_now->failed = true;
        return;
    }
    qe_fiber_switch(f);
    qe_running = NULL;
}

qe_thread *qe_current(void) { return qe_running; }

void qe_suspend(qe_thread *t, qe_wait why, const void *object, uint64_t detail,
                const qe_site *site) {
    t->wait = why;
    t->wait_object = object;
    t->wait_detail = detail;
    t->wait_site = site;
    ways_given = 0;
    run_others(t);
}

void qe_wake(qe_thread *t) {
    qe_warp *w = t->warp;
    t->wait = QE_RUNNABLE;
    w->ready |= UINT32_C(1) << t->lane;
    qe_now.spins = 0;
    if (w != staying_with) qe_queue_warp(w);
}

/* ---- threads that wait by looking ------------------------------------------------------------ */

/* Behind the other lanes, and with them behind the other warps. */
static void yield(qe_thread *t) {
    qe_warp *w = t->warp;
    w->yielded |= UINT32_C(1) << t->lane;
    if (w != staying_with) qe_queue_warp(w);
    run_others(t);
    t->wait = QE_RUNNABLE;
}

void qe_spin(qe_thread *t, const qe_site *site) {
    t->wait = QE_WAIT_SPIN;
    t->wait_site = site;
    if (qe_cfg.schedule == QE_PCT) t->warp->priority = 0;
    /* Once round all threads without progress: it may hang on a copy or on another cluster. */
    if (++qe_now.spins % (qe_now.live + 1) == 0) {
        if (qe_async_step() || qe_cluster_start()) {
            qe_now.spins = 0;
        } else if (qe_now.spins > SPINS + SPINS_PER_THREAD * qe_now.live) {
            qe_livelock(t, site);
        }
    }
    yield(t);
}

void qe_progress(void) { qe_now.spins = 0; }

/* A thread that does so again and again may be waiting, in a loop of atomics, say. */
void qe_give_way(qe_thread *t) {
    if (++ways_given % PATIENCE == 0)
        qe_spin(t, NULL);
    else if (qe_cfg.schedule != QE_FIFO && qe_random(8) == 0)
        yield(t);
}

void qe_poll(qe_thread *t, const qe_site *site) { qe_spin(t, site); }
void qe_nanosleep(qe_thread *t, const qe_site *site) { qe_spin(t, site); }

void qe_trap(qe_thread *t, const char *why, const qe_site *site) {
    qe_fatal(QE_BUG_TRAP, t, site, "%s", why && *why ? why : "trap");
}
