/* parallel.c — the one place that starts threads for arithmetic: a pool that waits for no idler.
 *
 * A region is n tasks handed out one by one. The calling thread takes tasks like the workers do and
 * returns when all n are done, so a worker that the system has not scheduled is simply not part of
 * the region. (An OpenMP loop ends with a barrier that every thread must reach: with a second busy
 * program on the machine a training step of many short regions ran ten times slower.) Workers spin
 * for a moment between regions, which follow each other closely inside a step, and then sleep.
 *
 * `turn` holds the region's number in its upper half and the next task in its lower half. A task is
 * taken by advancing it, which fails for a worker that still has an older region in mind. While a
 * region is set up its next task is OPENING.
 */
#include "engine/engine.h"

#include <cblas.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { MAX_WORKERS = 255, SPINS = 4000 /* about 50 us */, SPINS_UNTIL_YIELD = 2000 };
#define OPENING UINT32_MAX

static struct {
    pthread_mutex_t region; /* held by the thread whose region is running */
    _Atomic uint64_t turn;
    _Atomic(qn_task *) body;
    _Atomic(void *) ctx;
    _Atomic int64_t n, done;
    _Atomic int threads; /* of this region, the caller included */
    int workers;         /* started so far; changed under `region` */

    pthread_mutex_t sleep;
    pthread_cond_t wake;
    _Atomic int sleepers;
} pool = {.region = PTHREAD_MUTEX_INITIALIZER,
          .sleep = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER};

static _Thread_local int thread_index;
static _Thread_local bool inside; /* a task: regions inside it run in place */

int qn_parallel_thread(void) { return thread_index; }

int qn_parallel_max_threads(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

/* Libraries called from a task stay on its thread. */
static void keep_libraries_here(void) {
#ifdef _OPENMP
    omp_set_num_threads(1);
#else
    openblas_set_num_threads(1);
#endif
}

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Runs tasks of region `number` until none is left or a later region has begun. */
static void take_tasks(uint64_t number) {
    inside = true;
    for (;;) {
        uint64_t turn = atomic_load(&pool.turn);
        int64_t task = (int64_t)(turn & UINT32_MAX);
        if (turn >> 32 != number) break;
        if (task == OPENING) {
            pause_briefly();
            continue;
        }
        /* If the region changes while these are read, the exchange below fails. */
        qn_task *body = atomic_load(&pool.body);
        void *ctx = atomic_load(&pool.ctx);
        if (task >= atomic_load(&pool.n) || thread_index >= atomic_load(&pool.threads)) break;
        if (!atomic_compare_exchange_weak(&pool.turn, &turn, turn + 1)) continue;
        body(ctx, task);
        atomic_fetch_add(&pool.done, 1);
    }
    inside = false;
}

/* Returns the number of a region later than `seen`. */
static uint64_t next_region(uint64_t seen) {
    for (int i = 0; i < SPINS; i++) {
        uint64_t number = atomic_load(&pool.turn) >> 32;
        if (number != seen) return number;
        pause_briefly();
    }
    pthread_mutex_lock(&pool.sleep);
    atomic_fetch_add(&pool.sleepers, 1);
    while (atomic_load(&pool.turn) >> 32 == seen) pthread_cond_wait(&pool.wake, &pool.sleep);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.sleep);
    return atomic_load(&pool.turn) >> 32;
}

static void *work(void *arg) {
    thread_index = (int)(intptr_t)arg;
    keep_libraries_here();
    for (uint64_t seen = 0;;) {
        seen = next_region(seen);
        take_tasks(seen);
    }
    return NULL;
}

/* As many workers as can be had: a region is complete with fewer, only slower. */
static void start_workers(int wanted) {
    if (wanted > MAX_WORKERS) wanted = MAX_WORKERS;
    for (; pool.workers < wanted; pool.workers++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)(intptr_t)(pool.workers + 1)) != 0) return;
        pthread_detach(thread);
    }
}

static void run_region(int threads, int64_t n, qn_task *body, void *ctx) {
    start_workers(threads - 1);
    uint64_t number = (atomic_load(&pool.turn) >> 32) + 1;
    number = number & UINT32_MAX ? number & UINT32_MAX : 1;
    atomic_store(&pool.turn, number << 32 | OPENING);
    atomic_store(&pool.n, n);
    atomic_store(&pool.body, body);
    atomic_store(&pool.ctx, ctx);
    atomic_store(&pool.threads, threads);
    atomic_store(&pool.done, 0);
    atomic_store(&pool.turn, number << 32);
    if (atomic_load(&pool.sleepers) > 0) {
        pthread_mutex_lock(&pool.sleep);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.sleep);
    }
    take_tasks(number);
    for (int i = 0; atomic_load(&pool.done) < n; i++) {
        if (i < SPINS_UNTIL_YIELD) {
            pause_briefly();
        } else {
            sched_yield(); /* the one who has the last task may need this core */
        }
    }
}

void qn_parallel_for(int threads, int64_t n, qn_task *body, void *ctx) {
    if (threads > n) threads = (int)n;
    keep_libraries_here();
    bool shared = threads > 1 && n < OPENING && !inside && pthread_mutex_trylock(&pool.region) == 0;
    if (!shared) { /* nothing to share, or another thread has the workers */
        for (int64_t i = 0; i < n; i++) body(ctx, i);
        return;
    }
    run_region(threads, n, body, ctx);
    pthread_mutex_unlock(&pool.region);
}
