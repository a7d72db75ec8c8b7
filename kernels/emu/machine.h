/* machine.h — the machine that runs translated PTX on a CPU: what generated code calls, and what
 * the files of this folder share.
 *
 * A launch is a grid of clusters of blocks of warps of threads. Every thread is a fiber of one OS
 * thread, so a run is deterministic: it depends on the configuration (schedule, seed) alone. A
 * thread runs until it must wait; the next one starts on a fresh or a reused stack. Generated
 * code has one C statement per PTX instruction and calls the functions below for everything that
 * is more than arithmetic or a plain load.
 *
 * Addresses: global, local, param and *generic* addresses are host pointers. The shared window is
 * 32-bit: an own address lies in [low, low + bytes) of the block; bits 24 and up hold rank + 1 of
 * another block of the cluster (what mapa returns). `site` always tells the instruction.
 */
#ifndef QE_MACHINE_H
#define QE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- what the translator leaves in each generated file --------------------------------------- */

/* One PTX instruction: its text and the source line it was compiled from; of a header's line, also
 * the line of the .cu that it was inlined into. */
typedef struct qe_site {
    const char *file;
    uint32_t line;
    const char *ptx;
    const char *cu; /* NULL: file is the .cu */
    uint32_t cu_line;
} qe_site;

/* Instructions that always run together; `runs` of the module counts them. A predicated instruction
 * that is not a branch is a range of its own. */
typedef struct qe_range {
    uint32_t first_site, n_sites;
} qe_range;

typedef struct qe_thread qe_thread;
typedef struct qe_warp qe_warp;
typedef struct qe_block qe_block;
typedef struct qe_cluster qe_cluster;
typedef struct qe_launch qe_launch;
typedef struct qe_meeting qe_meeting;

typedef void qe_body(qe_thread *t, char *params);

typedef struct qe_param {
    uint32_t offset, bytes;
} qe_param;

typedef struct qe_kernel {
    const char *name; /* as registered by the host object: mangled */
    qe_body *body;
    uint32_t static_shared; /* bytes, padded to the alignment of the dynamic part after it */
    uint32_t local_bytes;
    uint32_t param_bytes, n_params;
    const qe_param *params;
    uint32_t max_threads;           /* .maxntid, 0 = not stated */
    uint32_t required_threads[3];   /* .reqntid, 0 = not stated */
    uint32_t required_cluster[3];   /* .reqnctapercluster, 0 = not stated */
    uint32_t min_blocks;            /* .minnctapersm */
    uint32_t first_range, n_ranges; /* of the module's */
    const struct qe_module *module; /* set by qe_module_register */
} qe_kernel;

typedef struct qe_symbol { /* a __device__ or __constant__ variable */
    const char *name;
    void *address;
    size_t bytes;
} qe_symbol;

typedef struct qe_module {
    const char *file; /* the .cu */
    uint32_t arch;    /* of its PTX: 80 or 90 */
    qe_kernel *kernels;
    uint32_t n_kernels;
    const qe_symbol *symbols;
    uint32_t n_symbols;
    const qe_site *sites;
    uint32_t n_sites;
    const qe_range *ranges;
    uint64_t *runs; /* per range */
    uint32_t n_ranges;
    struct qe_module *next;
} qe_module;

void qe_module_register(qe_module *m); /* from a constructor of the generated file */
qe_module *qe_module_first(void);      /* walk with ->next: coverage, instruction mix */

/* ---- configuration (emu_config.c) ------------------------------------------------------------ */

typedef enum qe_schedule { QE_FIFO, QE_RANDOM, QE_PCT } qe_schedule;
typedef enum qe_laziness { QE_EAGER, QE_LATE, QE_ANY_TIME } qe_laziness;
enum { QE_CHECK = 1, QE_COUNT = 2 }; /* bits of qe_config.watch */

/* Read once from QUERN_EMU, "key=value,key=value": device=9.0 schedule=pct seed=3 async=late
 * watch=check|count|both|none strict=0 memory=2G streams=random lanes=free bases=random quiet=1
 * sms=16 devices=0 guard=1. */
typedef struct qe_config {
    int device; /* 80, 89 or 90: compute capability, picks PTX set, shared memory, SM count */
    qe_schedule schedule;
    uint64_t seed;
    qe_laziness async;   /* when asynchronous copies and tensor-core reads happen */
    qe_laziness streams; /* EAGER: at the call; else queued, run in a random legal order */
    uint32_t watch;
    bool strict_proxy; /* every writer fences for the async proxy (default) */
    bool free_lanes;   /* lanes of a warp scheduled apart */
    bool random_bases; /* shared window and allocations start at random addresses */
    bool quiet;        /* findings are kept, not printed */
    size_t memory;     /* bytes of device memory */
    uint32_t sms;      /* multiprocessors: few, so that small tests run persistent loops */
    uint32_t devices;  /* 1, or 0: no GPU */
    bool guard;        /* host code that touches device memory ends the process */
} qe_config;
extern qe_config qe_cfg;
bool qe_configure(const char *text); /* false: unknown key or value; tests switch modes with it */

uint32_t qe_random(uint32_t n); /* 0..n-1 from the seed; 0 if n is 0 */

/* ---- findings (emu_report.c) ----------------------------------------------------------------- */

/* clang-format off */
#define QE_FINDING_MAP(X)                                                                          \
    X(RACE, "race") X(PROXY_RACE, "proxy-race") X(RACE_GRID, "race-grid")                          \
    X(UNINIT_SHARED, "uninit-shared") X(UNINIT_GLOBAL, "uninit-global")                            \
    X(OOB_SHARED, "oob-shared") X(OOB_GLOBAL, "oob-global") X(MISALIGNED, "misaligned")            \
    X(DIVERGENT_BARRIER, "divergent-barrier") X(BARRIER, "barrier") X(MBARRIER, "mbarrier")        \
    X(WARP, "warp") X(TENSOR, "tensor") X(ASYNC, "async") X(LAUNCH, "launch") X(STREAM, "stream")  \
    X(MEMORY, "memory") X(DEADLOCK, "deadlock") X(LIVELOCK, "livelock") X(TRAP, "trap")
/* clang-format on */
typedef enum qe_finding {
#define QE_X(id, text) QE_BUG_##id,
    QE_FINDING_MAP(QE_X)
#undef QE_X
        QE_BUG_COUNT
} qe_finding;

/* Keeps a finding (once per kind and pair of sites) and prints it unless quiet: kind, kernel,
 * block, thread, the text, `file:line` and PTX of site and of other (NULL = none). t NULL:
 * outside a kernel. A process that ends with findings nobody cleared exits with 86. */
void qe_report(qe_finding kind, const qe_thread *t, const qe_site *site, const qe_site *other,
               const char *format, ...) __attribute__((format(printf, 5, 6)));
/* As qe_report, then ends the launch; its stream's error becomes sticky
 * (cudaErrorLaunchFailure). */
_Noreturn void qe_fatal(qe_finding kind, qe_thread *t, const qe_site *site, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int qe_findings(void); /* kept so far */
int qe_findings_of(qe_finding kind);
const char *qe_finding_text(int i);
void qe_findings_clear(void);

/* ---- memory (emu_memory.c) ------------------------------------------------------------------- */

/* All device memory lies in one reserved stretch, all shared memory in another, so that a check is
 * a subtraction. */
extern char *qe_global_low, *qe_global_high, *qe_shared_low, *qe_shared_high;
enum { QE_SHARED_STRIDE = 256 << 10, QE_RESIDENT_BLOCKS = 64 };

void *qe_memory_alloc(size_t bytes); /* 512-byte aligned, NULL over budget; contents undefined */
bool qe_memory_free(void *p);        /* false: not the start of a live allocation */
/* The live allocation p lies in, false if none. */
bool qe_memory_find(const void *p, char **base, size_t *bytes);
static inline bool qe_is_global(const void *p) {
    return (const char *)p >= qe_global_low && (const char *)p < qe_global_high;
}
static inline bool qe_is_shared(const void *p) {
    return (const char *)p >= qe_shared_low && (const char *)p < qe_shared_high;
}

/* ---- threads, warps, blocks, clusters, launches (emu_schedule.c, emu_launch.c) --------------- */

typedef enum qe_wait {
    QE_RUNNABLE,
    QE_WAIT_BARRIER,
    QE_WAIT_WARP,
    QE_WAIT_MBARRIER,
    QE_WAIT_CLUSTER,
    QE_WAIT_TENSOR,
    QE_WAIT_ASYNC,
    QE_WAIT_SPIN,
    QE_EXITED
} qe_wait;

/* A synchronisation object's clocks; all zero = nothing released. Owned by check_clock.c. */
typedef struct qe_sync {
    struct qe_clock *clock;
} qe_sync;

struct qe_thread {
    uint32_t tid[3];
    uint32_t lane, linear; /* in the warp, in the block */
    uint32_t watch;        /* qe_cfg.watch of the launch: 0 = accesses go straight to memory */
    qe_block *block;
    qe_warp *warp;
    /* the scheduler's */
    struct qe_fiber *fiber;
    qe_wait wait;
    uint32_t barrier_id; /* what it waits for, for the dump */
    const void *wait_object;
    uint64_t wait_detail;
    const qe_site *wait_site;
    qe_thread *next;        /* in whatever list it stands */
    uint64_t result;        /* left by whoever wakes it */
    bool cluster_arrived;   /* at the cluster's barrier, and has not waited yet */
    uint32_t cluster_phase; /* in which round */
    /* Others', NULL until used; who sets one frees it, and sets it to NULL, when the thread or the
     * cluster ends: the structure is used again. */
    struct qe_thread_async *async; /* async_copy.c, wgmma.c */
    struct qe_thread_check *check; /* check_clock.c */
    struct qe_thread_count *count; /* counters.c */
};

struct qe_warp {
    qe_block *block;
    uint32_t index;
    uint32_t live;    /* lanes that have not exited */
    qe_thread *lanes; /* its first thread: lanes[i] */
    uint32_t n_lanes;
    qe_meeting *meetings; /* collectives under way: warp.c */
    /* the scheduler's: lanes as bits */
    uint32_t fresh, ready; /* not started; can go on */
    uint32_t yielded;      /* could, but let others go first */
    uint32_t turn;         /* lane order begins here */
    uint32_t priority;     /* PCT */
    bool queued;
    qe_warp *next; /* in its queue */
};

typedef struct qe_barrier {
    uint32_t expected, arrived; /* threads; expected 0 = idle */
    bool whole_block;           /* count 0: those that exited count as arrived */
    const qe_site *site;        /* of the first arrival */
    qe_thread *waiting;
    uint32_t n_waiting;
    uint32_t votes_and, votes_or, votes_sum; /* bar.red */
    qe_sync sync;
} qe_barrier;

struct qe_block {
    /* special registers */
    uint32_t ctaid[3], ntid[3], nctaid[3];
    uint32_t clusterid[3], nclusterid[3], cluster_ctaid[3], cluster_nctaid[3];
    uint32_t cluster_rank, cluster_size;
    /* shared memory: window address a of this block is the host address window + a */
    char *window;
    uint32_t shared_low, shared_bytes;
    uint32_t dynamic_shared; /* window address of `extern __shared__` */
    uint32_t dynamic_bytes;
    /* the machine's */
    qe_cluster *cluster;
    qe_thread *threads;
    uint32_t n_threads, live;
    qe_warp *warps;
    uint32_t n_warps;
    qe_barrier barriers[16];
    uint32_t open_barriers;       /* bits: barriers with arrivals */
    uint32_t slot;                /* of shared memory */
    struct qe_block_async *async; /* mbarriers, warpgroups: async_copy.c */
    struct qe_block_check *check;
};

struct qe_cluster {
    uint32_t id; /* in the grid */
    qe_block **blocks;
    uint32_t n_blocks, live; /* live threads */
    qe_barrier barrier;
    uint32_t phase;   /* completed rounds of it */
    qe_sync previous; /* the clocks of the round before: some may still have to wait for it */
    qe_cluster *next;
    qe_launch *launch;
    struct qe_cluster_check *check;
};

struct qe_launch {
    const qe_kernel *kernel;
    uint32_t grid[3], block[3], cluster[3];
    uint32_t dynamic_shared;
    char *params;
    uint32_t id; /* counts launches of the process */
    uint32_t watch;
    bool failed;
    struct qe_launch_check *check;
    struct qe_launch_count *count;
};

typedef struct qe_shape {
    uint32_t x, y, z;
} qe_shape;

/* Runs a whole grid. false: it failed (a fatal finding), memory as it was left. */
bool qe_run(const qe_kernel *k, qe_shape grid, qe_shape block, qe_shape cluster,
            uint32_t dynamic_shared, const char *params);

/* Puts the running thread to sleep until qe_wake. */
void qe_suspend(qe_thread *t, qe_wait why, const void *object, uint64_t detail,
                const qe_site *site);
void qe_wake(qe_thread *t);
/* Spinning: lets others run, counts towards the live-lock limit (which any progress resets). */
void qe_spin(qe_thread *t, const qe_site *site);
void qe_progress(void);         /* something moved: spins so far are forgiven */
void qe_give_way(qe_thread *t); /* a place where an adversarial schedule may switch */
qe_thread *qe_current(void);    /* NULL outside a kernel */
qe_block *qe_block_of_shared(const qe_thread *t, const void *p); /* resident block owning host p */

/* ---- barriers, warps, clusters (barrier.c, warp.c, cluster.c) -------------------------------- */

/* count 0 = all threads of the block. */
void qe_barrier_sync(qe_thread *t, uint32_t id, uint32_t count, const qe_site *site);
void qe_barrier_arrive(qe_thread *t, uint32_t id, uint32_t count, const qe_site *site);
typedef enum qe_bar_op { QE_BAR_POPC, QE_BAR_AND, QE_BAR_OR } qe_bar_op;
uint32_t qe_barrier_reduce(qe_thread *t, uint32_t id, uint32_t count, qe_bar_op op, bool vote,
                           const qe_site *site);

typedef enum qe_shfl_mode { QE_SHFL_IDX, QE_SHFL_UP, QE_SHFL_DOWN, QE_SHFL_BFLY } qe_shfl_mode;
typedef enum qe_vote_mode { QE_VOTE_ALL, QE_VOTE_ANY, QE_VOTE_UNI, QE_VOTE_BALLOT } qe_vote_mode;
typedef enum qe_redux_op {
    QE_REDUX_ADD,
    QE_REDUX_MIN_S,
    QE_REDUX_MIN_U,
    QE_REDUX_MAX_S,
    QE_REDUX_MAX_U,
    QE_REDUX_AND,
    QE_REDUX_OR,
    QE_REDUX_XOR
} qe_redux_op;
void qe_warp_sync(qe_thread *t, uint32_t mask, const qe_site *site);
/* Operands as PTX has them: c = clamp | segment mask << 8. *in_range is the predicate result. */
uint32_t qe_shfl(qe_thread *t, qe_shfl_mode mode, uint32_t mask, uint32_t value, uint32_t b,
                 uint32_t c, bool *in_range, const qe_site *site);
uint32_t qe_vote(qe_thread *t, qe_vote_mode mode, uint32_t mask, bool pred, const qe_site *site);
uint32_t qe_match_any(qe_thread *t, uint32_t mask, uint64_t value, const qe_site *site);
uint32_t qe_match_all(qe_thread *t, uint32_t mask, uint64_t value, bool *all, const qe_site *site);
uint32_t qe_redux(qe_thread *t, qe_redux_op op, uint32_t mask, uint32_t value, const qe_site *site);
uint32_t qe_elect(qe_thread *t, uint32_t mask, bool *elected, const qe_site *site);
uint32_t qe_activemask(qe_thread *t);
/* Meets the lanes of mask: each leaves `bytes` (at most 64) and, when all are there, `finish` is
 * run once with the lanes' data (by lane; NULL where not in mask) and writes each lane's result
 * in place. All collectives, ldmatrix and mma are made of it. Lanes that name different kinds,
 * masks or sites are a finding. Shuffles give no happens-before; qe_warp_sync does. */
typedef void qe_finish(void *context, void *const *lane_data, qe_thread *const *lane);
void qe_warp_meet(qe_thread *t, uint32_t mask, const char *kind, void *data, size_t bytes,
                  qe_finish *finish, void *context, const qe_site *site);

void qe_cluster_arrive(qe_thread *t, bool release, const qe_site *site);
void qe_cluster_wait(qe_thread *t, bool acquire, const qe_site *site);
uint32_t qe_mapa(qe_thread *t, uint32_t address, uint32_t rank, const qe_site *site);
uint64_t qe_mapa_generic(qe_thread *t, uint64_t address, uint32_t rank, const qe_site *site);

/* ---- shared window (cluster.c) --------------------------------------------------------------- */

/* Host address of `bytes` at a window address, own or of another block; out of range is fatal. */
char *qe_shared_slow(qe_thread *t, uint32_t address, uint32_t bytes, const qe_site *site);
static inline char *qe_shared(qe_thread *t, uint32_t address, uint32_t bytes, const qe_site *site) {
    const qe_block *b = t->block;
    uint32_t offset = address - b->shared_low;
    if (__builtin_expect(offset < b->shared_bytes && b->shared_bytes - offset >= bytes, 1))
        return b->window + address;
    return qe_shared_slow(t, address, bytes, site);
}
uint32_t qe_shared_address(qe_thread *t, const void *generic, const qe_site *site); /* cvta.to */

/* ---- accesses: what generated code calls before a load or store ------------------------------ */

/* UPDATE: reads what it writes (atom, red). UNCOUNTED: the checker sees it, the counters do not
 * (mbarrier words; qe_count_matrix counts the rows of ldmatrix). From bit UNUSED on, lowest address
 * first: bytes of a load whose value nobody uses; the compiler widens loads across gaps. An ATOMIC
 * access through qe_watched orders nothing: it races with plain accesses only. */
enum {
    QE_READ = 0,
    QE_WRITE = 1,
    QE_ATOMIC = 2,
    QE_BY_ASYNC = 4,
    QE_VOLATILE = 8,
    QE_UNCOUNTED = 16,
    QE_UPDATE = 32
};
enum { QE_UNUSED = 16 }; /* the first of 16 bits */

/* Alignment always; the rest when the launch is watched. */
void qe_watched(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags, const qe_site *site);
_Noreturn void qe_misaligned(qe_thread *t, const void *p, uint32_t bytes, const qe_site *site);
static inline void qe_access(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags,
                             const qe_site *site) {
    if (__builtin_expect(((uintptr_t)p & (bytes - 1)) != 0, 0)) qe_misaligned(t, p, bytes, site);
    if (__builtin_expect(t->watch != 0, 0)) qe_watched(t, p, bytes, flags, site);
}
/* Before an atom/red (order: relaxed unless the instruction says otherwise) and around ld.acquire,
 * st.release, ld.volatile; also where a spinning thread gives way. */
typedef enum qe_order { QE_RELAXED, QE_ACQUIRE, QE_RELEASE, QE_ACQ_REL } qe_order;
void qe_atomic_access(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags, qe_order order,
                      const qe_site *site);
/* After a volatile or acquiring load, a failed compare-and-swap: the value did not help. */
void qe_poll(qe_thread *t, const qe_site *site);
typedef enum qe_scope { QE_SCOPE_CTA, QE_SCOPE_CLUSTER, QE_SCOPE_GPU, QE_SCOPE_SYS } qe_scope;
void qe_fence(qe_thread *t, qe_scope scope, const qe_site *site);
void qe_nanosleep(qe_thread *t, const qe_site *site);
_Noreturn void qe_trap(qe_thread *t, const char *why, const qe_site *site);

/* ---- asynchronous copies and mbarriers (mbarrier.c, async_copy.c, tensor_copy.c) ------------- */

void qe_mbarrier_init(qe_thread *t, uint32_t address, uint32_t count, const qe_site *site);
void qe_mbarrier_inval(qe_thread *t, uint32_t address, const qe_site *site);
void qe_mbarrier_expect_tx(qe_thread *t, uint32_t address, uint32_t bytes, const qe_site *site);
void qe_mbarrier_complete_tx(qe_thread *t, uint32_t address, uint32_t bytes, const qe_site *site);
uint64_t qe_mbarrier_arrive(qe_thread *t, uint32_t address, uint32_t count, bool drop,
                            const qe_site *site);
/* .noComplete: as arrive, but ending the phase is a finding. */
uint64_t qe_mbarrier_arrive_no_complete(qe_thread *t, uint32_t address, uint32_t count, bool drop,
                                        const qe_site *site);
uint32_t qe_mbarrier_pending_count(uint64_t state);
/* blocking: try_wait may suspend the thread until the phase ends. */
bool qe_mbarrier_wait_parity(qe_thread *t, uint32_t address, uint32_t parity, bool blocking,
                             const qe_site *site);
bool qe_mbarrier_wait_state(qe_thread *t, uint32_t address, uint64_t state, bool blocking,
                            const qe_site *site);
/* For the dump of a deadlock: what wait_object and wait_detail say of QE_WAIT_MBARRIER. */
void qe_mbarrier_describe(const qe_block *b, const void *object, uint64_t detail, char *text,
                          size_t bytes);
void qe_cp_async_mbarrier_arrive(qe_thread *t, uint32_t address, bool noinc, const qe_site *site);

void qe_cp_async(qe_thread *t, uint32_t dst, const void *src, uint32_t bytes, uint32_t src_bytes,
                 const qe_site *site);
void qe_cp_async_commit(qe_thread *t, const qe_site *site);
void qe_cp_async_wait(qe_thread *t, uint32_t pending, const qe_site *site);
void qe_cp_async_wait_all(qe_thread *t, const qe_site *site);

typedef enum qe_reduce_op {
    QE_COPY,
    QE_ADD,
    QE_MIN,
    QE_MAX,
    QE_INC,
    QE_DEC,
    QE_AND,
    QE_OR,
    QE_XOR
} qe_reduce_op;
typedef enum qe_element {
    QE_B8,
    QE_F32,
    QE_F64,
    QE_F16,
    QE_BF16,
    QE_U32,
    QE_S32,
    QE_U64,
    QE_S64
} qe_element;
/* multicast: CTA mask, 0 = only the block of dst. */
void qe_bulk_load(qe_thread *t, uint32_t dst, const void *src, uint32_t bytes, uint32_t mbarrier,
                  uint32_t multicast, const qe_site *site);
void qe_bulk_shared(qe_thread *t, uint32_t dst, uint32_t src, uint32_t bytes, uint32_t mbarrier,
                    const qe_site *site); /* shared::cluster <- shared::cta */
void qe_bulk_store(qe_thread *t, void *dst, uint32_t src, uint32_t bytes, qe_reduce_op op,
                   qe_element type, const qe_site *site);
void qe_tensor_load(qe_thread *t, uint32_t dst, const void *map, int rank, const int32_t *at,
                    uint32_t mbarrier, uint32_t multicast, const qe_site *site);
void qe_tensor_store(qe_thread *t, const void *map, int rank, const int32_t *at, uint32_t src,
                     qe_reduce_op op, const qe_site *site);
void qe_bulk_commit(qe_thread *t, const qe_site *site);
void qe_bulk_wait(qe_thread *t, uint32_t pending, bool read, const qe_site *site);
void qe_fence_proxy_async(qe_thread *t, const qe_site *site);
void qe_fence_mbarrier_init(qe_thread *t, const qe_site *site);

/* cuTensorMapEncodeTiled's arguments, checked as the driver does; writes 128 bytes. 0 or a
 * CUresult. */
int qe_tensor_map_encode(void *map, int data_type, uint32_t rank, void *base, const uint64_t *dims,
                         const uint64_t *strides, const uint32_t *box, const uint32_t *steps,
                         int interleave, int swizzle, int promotion, int fill);

/* The scheduler calls these; the ends also in a launch that failed, where they report nothing.
 * block_end: when all its threads have ended, before its shared memory is used again. */
/* Nothing runnable, or all spin: performs one pending operation. false = none pending. */
bool qe_async_step(void);
void qe_async_maybe(void); /* async=any: now and then */
void qe_async_thread_end(qe_thread *t);
void qe_async_block_end(qe_block *b);

/* ---- tensor cores (tensor_core.c, wgmma.c) --------------------------------------------------- */

void qe_ldmatrix(qe_thread *t, uint32_t address, int n, bool trans, uint32_t *r,
                 const qe_site *site);
void qe_stmatrix(qe_thread *t, uint32_t address, int n, bool trans, const uint32_t *r,
                 const qe_site *site);

typedef enum qe_mma_type {
    QE_MMA_BF16,
    QE_MMA_F16,
    QE_MMA_TF32,
    QE_MMA_E4M3,
    QE_MMA_E5M2,
    QE_MMA_S8,
    QE_MMA_U8
} qe_mma_type;
typedef struct qe_mma {
    int m, n, k;
    qe_mma_type a, b;
    bool half_result; /* d and c in f16 */
} qe_mma;
/* Registers as PTX lists them; d and c hold f32 bits (f16 pairs if half_result, s32 for
 * integers). */
void qe_mma_sync(qe_thread *t, const qe_mma *kind, uint32_t *d, const uint32_t *a,
                 const uint32_t *b, const uint32_t *c, const qe_site *site);

typedef struct qe_wgmma {
    int n; /* m64nNk16 (k8 tf32, k32 8-bit) */
    qe_mma_type a, b;
    bool a_in_registers;
    int negate_a, negate_b; /* 1 or -1 as written */
    int trans_a, trans_b;
} qe_wgmma;
/* d: n/2 accumulators, updated at once; a: 4 registers or NULL. */
void qe_wgmma_async(qe_thread *t, const qe_wgmma *kind, float *d, const uint32_t *a,
                    uint64_t desc_a, uint64_t desc_b, bool scale_d, const qe_site *site);
void qe_wgmma_fence(qe_thread *t, const qe_site *site);
void qe_wgmma_commit(qe_thread *t, const qe_site *site);
void qe_wgmma_wait(qe_thread *t, uint32_t pending, const qe_site *site);
/* For the dump of a deadlock: what wait_object and wait_detail say of QE_WAIT_TENSOR. */
void qe_wgmma_describe(const void *object, uint64_t detail, char *text, size_t bytes);
void qe_setmaxnreg(qe_thread *t, uint32_t registers, bool increase, const qe_site *site);

/* ---- the checker (check_clock.c, check_shadow.c): calls are cheap when watch has no CHECK ---- */

void qe_check_launch_begin(qe_launch *l);
void qe_check_launch_end(qe_launch *l);
void qe_check_cluster_begin(qe_cluster *c); /* its threads exist, none has run */
void qe_check_cluster_end(qe_cluster *c);
void qe_check_host_write(const void *p, size_t bytes); /* memset, copies from the host */
/* A copy on the device: what was not written before it is not written behind it. */
void qe_check_copy(const void *to, const void *from, size_t bytes);
void qe_check_alloc(const void *p, size_t bytes); /* uninitialised from here on */
void qe_check_free(const void *p, size_t bytes);
void qe_sync_release(qe_sync *s, qe_thread *t);
void qe_sync_acquire(qe_sync *s, qe_thread *t);
/* The n threads meet: afterwards each knows all that any of them knew. Shares one clock. */
void qe_sync_meet(qe_thread *const *t, uint32_t n);
void qe_sync_forget(qe_sync *s); /* frees it: zero again */

/* An asynchronous operation under way: unordered with its issuer until waited for. */
typedef struct qe_agent {
    uint32_t id, epoch; /* id 0 = the checker is off */
    struct qe_clock *clock;
} qe_agent;
/* generic: cp.async, which reads what its thread wrote without a proxy fence. */
void qe_agent_start(qe_agent *a, qe_thread *t, bool generic);
void qe_agent_join(qe_agent *a, qe_thread *t); /* wgmma: one operation of 128 threads */
void qe_agent_access(qe_agent *a, qe_block *b, const void *p, uint32_t bytes, uint32_t flags,
                     const qe_site *site);
void qe_agent_complete(qe_agent *a, qe_sync *s); /* waiters on s will know of it */
void qe_agent_waited(qe_agent *a, qe_thread *t); /* t waited for it directly */
void qe_agent_end(qe_agent *a);
void qe_check_fence_proxy(qe_thread *t);

/* A moment in a thread's life, to ask later whether another thread is ordered after it. */
typedef struct qe_stamp {
    uint32_t id, epoch; /* id 0 = the checker is off */
} qe_stamp;
qe_stamp qe_check_stamp(const qe_thread *t);
bool qe_check_knows(const qe_thread *t, qe_stamp s); /* true if the checker is off */

/* ---- counters (counters.c) ------------------------------------------------------------------- */

typedef struct qe_traffic { /* of one launch */
    const char *kernel;
    uint64_t threads, blocks;
    uint64_t instructions;                  /* PTX, summed over threads */
    uint64_t global_read, global_written;   /* bytes asked for */
    uint64_t sectors_read, sectors_written; /* 32-byte sectors touched per warp access */
    uint64_t async_read, async_written;     /* bytes moved by bulk and tensor copies */
    uint64_t shared_cycles;    /* at least: 1, 2, 4 per warp access of 4, 8, 16 bytes */
    uint64_t shared_conflicts; /* cycles more, by bank conflicts */
    uint64_t atomics;          /* of threads, global and shared */
    uint64_t tensor_flops;     /* mma and wgmma */
} qe_traffic;

/* The part of one instruction: which line wastes sectors or cycles. */
typedef struct qe_site_traffic {
    const qe_site *site;
    uint64_t warps;             /* warp accesses */
    uint64_t bytes, sectors;    /* global */
    uint64_t cycles, conflicts; /* shared */
} qe_site_traffic;

void qe_count_launch_begin(qe_launch *l);
void qe_count_launch_end(qe_launch *l);
void qe_count_access(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags,
                     const qe_site *site);
void qe_count_matrix(qe_thread *t, const uint32_t *row_address, int rows, uint32_t flags,
                     const qe_site *site); /* ldmatrix, stmatrix: 8 rows of 16 bytes a matrix */
void qe_count_async(qe_thread *t, uint64_t read, uint64_t written);
void qe_count_tensor(qe_thread *t, uint64_t flops);
void qe_count_meet(qe_warp *w); /* lanes met or left: their accesses so far belong together */
int qe_traffic_count(void);     /* launches counted since qe_traffic_clear */
const qe_traffic *qe_traffic_get(int i);
int qe_traffic_sites(int i, const qe_site_traffic **sites); /* how many there are */
void qe_traffic_clear(void);

/* ---- coverage (coverage.c) ------------------------------------------------------------------- */

/* Every instruction of every registered module with the number of times it ran since the process
 * began or qe_coverage_clear: what never ran, and the instruction mix. k is NULL in a function that
 * was not inlined. */
typedef void qe_instruction(void *context, const qe_module *m, const qe_kernel *k,
                            const qe_site *site, uint64_t runs);
void qe_coverage(qe_instruction *each, void *context);
void qe_coverage_clear(void);
/* Adds what another process left: with QUERN_EMU_COVERAGE=FOLDER in its environment a process
 * writes FOLDER/coverage.PID when it ends. Modules that this program lacks are passed over. false:
 * the file cannot be read, or is no such file. */
bool qe_coverage_read(const char *path);

#endif
