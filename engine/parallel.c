/* parallel.c — the one place that starts threads for arithmetic.
 *
 * OpenMP in ordinary builds. Builds without it (the tsan preset: libgomp is not instrumented) start
 * plain threads per region, which ThreadSanitizer can follow; slow and equally correct.
 */
#include "engine/engine.h"

#include <sched.h>
#include <stdatomic.h>

#ifdef _OPENMP
#include <omp.h>
#else
#include <cblas.h>
#include <pthread.h>
#endif

static _Thread_local int thread_index;

int qn_parallel_thread(void) { return thread_index; }

int qn_parallel_max_threads(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

#ifdef _OPENMP

void qn_parallel_for(int threads, int64_t n, qn_task *body, void *ctx) {
    if (threads > n) threads = (int)n;
    if (threads <= 1) {
        omp_set_num_threads(1); /* a library called from here stays on this thread too */
        for (int64_t i = 0; i < n; i++) body(ctx, i);
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        thread_index = omp_get_thread_num();
        omp_set_num_threads(1); /* libraries called inside a task stay on this thread */
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i++) body(ctx, i);
        thread_index = 0;
    }
}

#else

enum { MAX_THREADS = 64 };

typedef struct region {
    qn_task *body;
    void *ctx;
    int64_t n;
    _Atomic int64_t next;
} region;

typedef struct worker {
    region *r;
    int index;
    pthread_t thread;
} worker;

static void *work(void *arg) {
    worker *w = arg;
    thread_index = w->index;
    for (int64_t i; (i = atomic_fetch_add(&w->r->next, 1)) < w->r->n;) w->r->body(w->r->ctx, i);
    thread_index = 0;
    return NULL;
}

void qn_parallel_for(int threads, int64_t n, qn_task *body, void *ctx) {
    region r = {.body = body, .ctx = ctx, .n = n};
    worker w[MAX_THREADS];
    openblas_set_num_threads(1); /* each call stays on the thread it is made from */
    if (threads > n) threads = (int)n;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    int started = 1;
    for (; started < threads; started++) {
        w[started] = (worker){.r = &r, .index = started};
        if (pthread_create(&w[started].thread, NULL, work, &w[started]) != 0) break;
    }
    w[0] = (worker){.r = &r};
    work(&w[0]);
    for (int i = 1; i < started; i++) pthread_join(w[i].thread, NULL);
}

#endif
