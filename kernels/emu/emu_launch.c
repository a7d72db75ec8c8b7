/* emu_launch.c — a launch: its clusters one after the other, blocks in places that are used again.
 *
 * A further cluster starts only when no thread of those under way can run (or, in adversarial
 * schedules, now and then), so most launches hold one cluster at a time. A place keeps the thread
 * and warp structures of its last block; where shape and launch kind agree, starting a block costs
 * a few words per warp.
 */
#include "kernels/emu/scheduler.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CLUSTER = 16, MAX_THREADS = 1024, WARP = 32, STACK_SPARE = 128 << 10, LOW_STEP = 1024 };

typedef struct place {
    qe_block block;
    qe_warp warps[MAX_THREADS / WARP];
    qe_thread *threads;
    uint32_t shape[3], watch; /* what the threads are set up for */
    bool taken;
} place;

typedef struct team {
    qe_cluster cluster;
    qe_block *blocks[MAX_CLUSTER];
} team;

qe_launch *qe_launch_now;
qe_resident qe_now;
qe_thread *qe_running;

static place places[QE_RESIDENT_BLOCKS];
static qe_cluster *idle_clusters;
static uint32_t max_resident;
static uint32_t launches;

/* ---- blocks ---------------------------------------------------------------------------------- */

static bool set_up_threads(place *p, const qe_launch *l) {
    const uint32_t *d = l->block;
    if (memcmp(p->shape, d, sizeof p->shape) == 0 && p->watch == l->watch) return true;
    if (!p->threads) p->threads = calloc(MAX_THREADS, sizeof *p->threads);
    if (!p->threads) return false;
    uint32_t n = d[0] * d[1] * d[2];
    for (uint32_t i = 0; i < n; i++) {
        qe_thread *t = &p->threads[i];
        t->tid[0] = i % d[0];
        t->tid[1] = i / d[0] % d[1];
        t->tid[2] = i / d[0] / d[1];
        t->lane = i % WARP;
        t->linear = i;
        t->watch = l->watch;
        t->block = &p->block;
        t->warp = &p->warps[i / WARP];
        t->wait = QE_EXITED;
        t->cluster_arrived = false;
    }
    memcpy(p->shape, d, sizeof p->shape);
    p->watch = l->watch;
    return true;
}

static void set_up_warps(place *p, uint32_t n) {
    qe_block *b = &p->block;
    b->n_warps = (n + WARP - 1) / WARP;
    for (uint32_t i = 0; i < b->n_warps; i++) {
        qe_warp *w = &p->warps[i];
        uint32_t lanes = n - i * WARP < WARP ? n - i * WARP : WARP;
        w->block = b;
        w->index = i;
        w->live = w->fresh = lanes == WARP ? UINT32_MAX : (UINT32_C(1) << lanes) - 1;
        w->ready = w->yielded = w->turn = 0;
        w->lanes = &p->threads[i * WARP];
        w->n_lanes = lanes;
        w->meetings = NULL;
        w->queued = false;
        if (qe_cfg.schedule == QE_PCT) w->priority = qe_random(64);
    }
}

static void set_up_shared(qe_block *b, const qe_launch *l) {
    uint32_t fixed = (l->kernel->static_shared + 15) & ~15u;
    b->window = qe_shared_low + (size_t)b->slot * QE_SHARED_STRIDE;
    if (b->cluster_rank)
        b->shared_low = b->cluster->blocks[0]->shared_low; /* mapa counts on it */
    else
        b->shared_low = LOW_STEP * (1 + (qe_cfg.random_bases ? qe_random(16) : 0));
    b->shared_bytes = fixed + l->dynamic_shared;
    b->dynamic_shared = b->shared_low + fixed;
    b->dynamic_bytes = l->dynamic_shared;
    memset(b->window + b->shared_low, 0xFF, b->shared_bytes);
}

/* Block `rank` of cluster c, in a place with threads. */
static void begin_block(qe_cluster *c, uint32_t rank, place *p) {
    const qe_launch *l = c->launch;
    qe_block *b = &p->block;
    p->taken = true;
    uint32_t rest = c->id, in = rank;
    for (int i = 0; i < 3; i++) {
        b->ntid[i] = l->block[i];
        b->nctaid[i] = l->grid[i];
        b->nclusterid[i] = l->grid[i] / l->cluster[i];
        b->clusterid[i] = rest % b->nclusterid[i];
        rest /= b->nclusterid[i];
        b->cluster_nctaid[i] = l->cluster[i];
        b->cluster_ctaid[i] = in % l->cluster[i];
        in /= l->cluster[i];
        b->ctaid[i] = b->clusterid[i] * l->cluster[i] + b->cluster_ctaid[i];
    }
    b->cluster_rank = rank;
    b->cluster_size = c->n_blocks;
    b->slot = (uint32_t)(p - places);
    b->cluster = c;
    b->threads = p->threads;
    b->n_threads = b->live = l->block[0] * l->block[1] * l->block[2];
    b->warps = p->warps;
    b->open_barriers = 0;
    set_up_warps(p, b->n_threads);
    set_up_shared(b, l);
    c->blocks[rank] = b;
    c->live += b->n_threads;
}

/* ---- clusters -------------------------------------------------------------------------------- */

static qe_cluster *take_cluster(void) {
    qe_cluster *c = idle_clusters;
    if (c) {
        idle_clusters = c->next;
    } else {
        team *t = calloc(1, sizeof *t);
        if (!t) return NULL;
        c = &t->cluster;
        c->blocks = t->blocks;
    }
    return c;
}

/* n free places with threads; false: no memory, and the launch has failed. */
static bool find_places(const qe_launch *l, uint32_t n, place **found) {
    uint32_t k = 0;
    for (uint32_t i = 0; k < n; i++) {
        if (places[i].taken) continue;
        if (!set_up_threads(&places[i], l)) return false;
        found[k++] = &places[i];
    }
    return true;
}

bool qe_cluster_start(void) {
    qe_launch *l = qe_launch_now;
    place *found[MAX_CLUSTER];
    uint32_t n = l->cluster[0] * l->cluster[1] * l->cluster[2];
    if (qe_now.next >= qe_now.total || qe_now.blocks + n > max_resident) return false;
    qe_cluster *c = take_cluster();
    if (!c || !find_places(l, n, found)) {
        qe_report(QE_BUG_LAUNCH, NULL, NULL, NULL, "no memory for the threads of a block");
        l->failed = true;
        return false;
    }
    c->id = (uint32_t)qe_now.next++;
    c->n_blocks = n;
    c->live = 0;
    c->phase = 0;
    c->launch = l;
    for (uint32_t rank = 0; rank < n; rank++) begin_block(c, rank, found[rank]);
    qe_now.blocks += n;
    qe_now.live += c->live;
    c->next = qe_now.clusters;
    qe_now.clusters = c;
    if (l->watch & QE_CHECK) qe_check_cluster_begin(c);
    for (uint32_t rank = 0; rank < n; rank++) {
        qe_block *b = c->blocks[rank];
        for (uint32_t w = 0; w < b->n_warps; w++) qe_queue_warp(&b->warps[w]);
    }
    return true;
}

static void end_cluster(qe_cluster *c) {
    if (c->launch->watch & QE_CHECK) qe_check_cluster_end(c);
    qe_sync_forget(&c->barrier.sync);
    qe_sync_forget(&c->previous);
    memset(&c->barrier, 0, sizeof c->barrier);
    for (uint32_t rank = 0; rank < c->n_blocks; rank++) places[c->blocks[rank]->slot].taken = false;
    qe_now.blocks -= c->n_blocks;
    qe_cluster **at = &qe_now.clusters;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    c->next = idle_clusters;
    idle_clusters = c;
}

void qe_block_end(qe_block *b) {
    if (b->open_barriers) qe_barrier_block_end(b);
    if (b->async) qe_async_block_end(b);
    if (b->cluster->live == 0) end_cluster(b->cluster);
}

qe_block *qe_block_of_shared(const qe_thread *t, const void *p) {
    if (!qe_is_shared(p)) return NULL;
    place *at = &places[((const char *)p - qe_shared_low) / QE_SHARED_STRIDE];
    bool near = at->taken && at->block.cluster == t->block->cluster;
    return near ? &at->block : NULL;
}

/* ---- launches -------------------------------------------------------------------------------- */

/* What an abandoned launch left: threads in the middle of things. */
static void clear_away(void) {
    while (qe_now.clusters) {
        qe_cluster *c = qe_now.clusters;
        for (uint32_t rank = 0; rank < c->n_blocks; rank++) {
            qe_block *b = c->blocks[rank];
            for (uint32_t i = 0; i < b->n_threads; i++) {
                qe_thread *t = &b->threads[i];
                if (t->async) qe_async_thread_end(t);
                t->wait = QE_EXITED;
                t->cluster_arrived = false;
            }
            b->live = 0;
            qe_warp_block_end(b);
            if (b->open_barriers) qe_barrier_block_end(b);
            if (b->async) qe_async_block_end(b);
        }
        c->live = 0;
        end_cluster(c);
    }
}

void qe_launch_abandon(void) {
    qe_launch_now->failed = true;
    qe_running = NULL;
    if (qe_fiber_current() == qe_fiber_host()) abort(); /* nothing of a launch runs there */
    qe_fiber_leave(qe_fiber_host());
}

/* Blocks that fit on the device at once, at most the places there are. */
static uint32_t residents(const qe_kernel *k, uint32_t threads, uint32_t dynamic_shared) {
    uint32_t n = qe_cfg.sms * qe_blocks_that_fit(k, threads, dynamic_shared);
    return n > QE_RESIDENT_BLOCKS ? QE_RESIDENT_BLOCKS : n;
}

bool qe_run(const qe_kernel *k, qe_shape grid, qe_shape block, qe_shape cluster,
            uint32_t dynamic_shared, const char *params) {
    qe_launch l = {.kernel = k,
                   .grid = {grid.x, grid.y, grid.z},
                   .block = {block.x, block.y, block.z},
                   .cluster = {cluster.x, cluster.y, cluster.z},
                   .dynamic_shared = dynamic_shared,
                   .params = (char *)(uintptr_t)params,
                   .id = ++launches,
                   .watch = qe_cfg.watch};
    const char *problem = qe_launch_problem(k, grid, block, cluster, dynamic_shared);
    if (problem) {
        qe_report(QE_BUG_LAUNCH, NULL, NULL, NULL, "kernel %s: %s", k->name, problem);
        return false;
    }
    qe_memory_open();
    qe_fault_open();
    qe_fiber_reset(STACK_SPARE + k->local_bytes);
    qe_queue_clear();
    qe_launch_now = &l;
    uint32_t n = cluster.x * cluster.y * cluster.z;
    qe_now = (qe_resident){.total = (uint64_t)grid.x * grid.y * grid.z / n};
    max_resident = residents(k, block.x * block.y * block.z, dynamic_shared);
    if (max_resident < n) max_resident = n;
    qe_check_launch_begin(&l);
    if (l.watch & QE_COUNT) qe_count_launch_begin(&l);
    qe_threads_run();
    if (l.failed) clear_away();
    if (l.watch & QE_COUNT) qe_count_launch_end(&l);
    if (l.watch & QE_CHECK) qe_check_launch_end(&l);
    qe_launch_now = NULL;
    return !l.failed;
}
