/* scheduler.h — what the machine's own files share: fibers, the queue of warps, the launch under
 * way. Generated code, the asynchronous engine and the checker need machine.h only.
 */
#ifndef QE_SCHEDULER_H
#define QE_SCHEDULER_H

#include "kernels/emu/machine.h"

/* ---- fibers (fiber.c) ------------------------------------------------------------------------ */

typedef struct qe_fiber {
    void *sp;
    char *stack; /* lowest usable byte; a guard page lies below */
    size_t bytes;
    void *fake_stack; /* the address sanitizer's */
    struct qe_fiber *next, *next_of_all;
} qe_fiber;

enum { QE_STACK_GUARD = 4096 };

/* A fiber that will run qe_fiber_main when it is first switched to; NULL: no memory. */
qe_fiber *qe_fiber_take(void);
void qe_fiber_switch(qe_fiber *to);
_Noreturn void qe_fiber_leave(qe_fiber *to); /* the stack left behind may be taken again */
qe_fiber *qe_fiber_current(void);
qe_fiber *qe_fiber_host(void); /* the host thread's own stack */
/* Gives all fibers back, running or not, and makes stacks of at least `bytes` from now on. */
void qe_fiber_reset(size_t bytes);
_Noreturn void qe_fiber_main(void); /* emu_schedule.c */

/* ---- the launch under way (emu_launch.c) ----------------------------------------------------- */

typedef struct qe_resident {
    qe_cluster *clusters; /* under way */
    uint64_t next, total; /* clusters of the grid */
    uint32_t blocks;      /* under way */
    uint64_t live;        /* threads under way */
    uint64_t spins;       /* since the last progress */
} qe_resident;
extern qe_launch *qe_launch_now; /* NULL outside qe_run */
extern qe_resident qe_now;
extern qe_thread *qe_running; /* NULL while the host runs */

bool qe_cluster_start(void); /* false: none left, or no room */
void qe_block_end(qe_block *b);
/* Leaves the launch from wherever it is; qe_run returns false. */
_Noreturn void qe_launch_abandon(void);

/* ---- the queue (emu_schedule.c) -------------------------------------------------------------- */

void qe_threads_run(void); /* from the host: until no thread is left or the launch is abandoned */
void qe_queue_clear(void);
void qe_queue_warp(qe_warp *w); /* has lanes that can run */
void qe_thread_end(qe_thread *t);
_Noreturn void qe_deadlock(void); /* emu_dump.c */
_Noreturn void qe_livelock(qe_thread *t, const qe_site *site);

/* ---- ends (barrier.c, warp.c, cluster.c) ----------------------------------------------------- */

void qe_barrier_exit(qe_block *b);           /* a thread has exited: barriers may complete */
void qe_barrier_block_end(qe_block *b);      /* arrivals nobody waited for */
void qe_warp_exit(qe_warp *w);               /* meetings may complete */
void qe_warp_block_end(qe_block *b);         /* drops meetings of an abandoned launch */
bool qe_warp_masks_differ(const qe_warp *w); /* open meetings share a lane */
void qe_cluster_exit(qe_cluster *c, qe_thread *t);

/* ---- the device (emu_config.c, emu_device.c, emu_memory.c) ----------------------------------- */

void qe_random_seed(uint64_t seed);
void qe_memory_open(void); /* reserves the stretches, once */
size_t qe_memory_used(void);
void qe_memory_free_all(void);

/* ---- faults (emu_fault.c) -------------------------------------------------------------------- */

void qe_fault_open(void); /* faults are findings from now on */
/* With guard=1, device memory is closed to the host except between open and close; start does as
 * the configuration says. */
void qe_guard_start(void);
void qe_guard_reach(const char *end); /* allocations so far lie below it */
void qe_guard_open(void);
void qe_guard_close(void);

/* ---- device profiles ------------------------------------------------------------------------- */

typedef struct qe_profile {
    int compute; /* 90 for 9.0 */
    const char *name;
    uint32_t shared_per_block, shared_per_sm; /* the first by attribute; 48 KB without */
    uint32_t threads_per_sm, blocks_per_sm;
    uint32_t sms; /* of the real thing */
    uint32_t l2_bytes;
    uint32_t max_cluster;
} qe_profile;
enum {
    QE_SHARED_DEFAULT = 48 << 10,
    QE_SHARED_RESERVED = 1 << 10, /* of each block, by the system */
    QE_MAX_THREADS = 1024,
    QE_REGISTERS = 65536
};
const qe_profile *qe_device_profile(void); /* of qe_cfg.device */
/* NULL, or why the device cannot run it. */
const char *qe_launch_problem(const qe_kernel *k, qe_shape grid, qe_shape block, qe_shape cluster,
                              uint32_t dynamic_shared);
/* Blocks one multiprocessor holds, by threads and shared memory; registers are not known. */
uint32_t qe_blocks_that_fit(const qe_kernel *k, uint32_t threads, uint32_t dynamic_shared);

/* At the end of the process, where QUERN_EMU_COVERAGE asks for it (coverage.c). */
void qe_coverage_keep(void);

#endif
