/* checker.h — what the checker's files share: agents, trees of epochs, clocks.
 *
 * An agent is what acts on memory: a thread, its cp.async copies (they complete in order, so one
 * agent stands for all of them), or one bulk copy or tensor-core operation under way, which takes
 * one of the block's POOL numbers. Agents are numbered through the whole grid, so that one clock
 * serves threads of a block, of a cluster and of a launch.
 *
 * Epochs are drawn from one counter of the process. An agent gets a new one whenever something
 * may learn of what it has done so far, so "A knows B up to epoch e" is one number, and any epoch
 * drawn before a launch began is out of date.
 */
#ifndef QE_CHECKER_H
#define QE_CHECKER_H

#include "kernels/emu/machine.h"

enum {
    QE_AGENT_BITS = 12, /* of the number inside a block; the block's number lies above */
    QE_FIRST_COPIES = 1024,
    QE_FIRST_POOL = 2048,
    QE_POOL = 128,
    QE_MAX_EPOCH = 1 << 30 /* a launch that begins above starts again at 0 */
};
#define QE_NOBODY UINT32_MAX
static inline uint32_t qe_agent_block(uint32_t agent) { return agent >> QE_AGENT_BITS; }
static inline uint32_t qe_agent_index(uint32_t agent) {
    return agent & ((1u << QE_AGENT_BITS) - 1);
}

/* ---- trees (check_tree.c) -------------------------------------------------------------------- */

/* A map from agents to epochs, 0 where nothing is stored. Trees share nodes and count references;
 * a node that is shared is copied before it is written. NULL is the empty tree. */
typedef struct qe_node {
    uint32_t refs;
    uint32_t floor; /* of a block's node: holds for all its threads */
} qe_node;

void qe_tree_begin(uint32_t blocks, uint32_t threads); /* forgets all trees; a launch's geometry */
static inline qe_node *qe_tree_ref(qe_node *n) {
    if (n) n->refs++;
    return n;
}
void qe_tree_unref(qe_node *n);
uint32_t qe_tree_at(const qe_node *root, uint32_t agent);
void qe_tree_raise(qe_node **root, uint32_t agent, uint32_t epoch);
/* The same for one of many that do it to the same tree: they share the result. */
void qe_tree_raise_alike(qe_node **root, uint32_t agent, uint32_t epoch);
/* The 32 neighbours of agent (same index / 32), for writing. */
uint32_t *qe_tree_lanes(qe_node **root, uint32_t agent);
/* All threads of the block are known up to epoch. */
void qe_tree_raise_block(qe_node **root, uint32_t block, uint32_t epoch);
/* *root becomes the greater of both, lane by lane. The last few results are remembered: a hundred
 * threads that learn the same thing share one tree. */
void qe_tree_join(qe_node **root, qe_node *other);
const qe_node *qe_tree_block(const qe_node *root, uint32_t block); /* NULL: nothing known of it */
uint32_t qe_tree_block_at(const qe_node *block, uint32_t index);

/* ---- clocks (check_clock.c) ------------------------------------------------------------------ */

/* What is known of others (happens-before), and what of it the async proxy can see. The entries of
 * the clock's own thread stand beside the trees, so that threads that met share them. */
typedef struct qe_clock {
    qe_node *known, *visible;
    uint32_t id;                        /* of the thread; QE_NOBODY: an object's clock */
    uint32_t epoch, copies;             /* own entries in known: the thread's, its copies' */
    uint32_t fenced, fenced_copies;     /* and in visible */
    uint32_t seen_id, seen_epoch;       /* the answer that was found last in `known` */
    qe_node *from_known, *from_visible; /* an object's: the trees joined last */
    uint32_t launch;
    const qe_thread *by;
    struct qe_clock *next; /* free list */
} qe_clock;

struct qe_thread_check {
    qe_clock clock;
    uint32_t first_agent;                /* of its block */
    uint32_t floor;                      /* all threads of its block are known up to here */
    uint32_t launch_first, shared_first; /* epochs up to here are out of date */
    bool new_copies, new_fence;          /* own entries the trees may not have */
    bool learned;                        /* from others, since it joined an operation */
    uint32_t joined, joined_at;          /* the operation's epoch, the own one since then */
    bool has_fence;                      /* any of the pointers below is set */
    qe_clock *released[2], *acquired[2]; /* by fences: inside the cluster, beyond it */
};

struct qe_block_check {
    uint32_t number; /* in the grid */
    uint32_t next_pool;
    uint32_t first; /* epochs up to here are of those who had its shared memory before */
};

struct qe_cluster_check {
    struct qe_thread_check *threads;
    struct qe_block_check *blocks;
    uint32_t n_threads, n_blocks;
    struct qe_cluster_check *next; /* in use, or free */
};

uint32_t qe_epoch_next(void);
uint32_t qe_epoch_now(void);
/* An object's clock of this launch: that of *slot, or a new one. */
qe_clock *qe_clock_of(qe_clock **slot);
void qe_clock_free(qe_clock **slot);
/* All t knows goes into c; t starts a new epoch. */
void qe_clock_release(qe_clock *c, qe_thread *t);
void qe_clock_acquire(const qe_clock *c, qe_thread *t);
void qe_clock_changed(struct qe_thread_check *k); /* its trees are others now */
uint32_t qe_clock_known(qe_clock *c, uint32_t agent);
uint32_t qe_clock_visible(const qe_clock *c, uint32_t agent);

/* ---- fences and atomics (check_fence.c) ------------------------------------------------------ */

void qe_fence_begin(void); /* a launch begins: nothing released through any address */

/* ---- what may be used and what was written (check_state.c) ----------------------------------- */

enum { QE_GRAIN = 8, QE_SLOTS = 4 };

/* The last accesses to 8 bytes, for four at once; kind: the bytes, and the bits below. */
typedef int32_t qe_quad __attribute__((vector_size(16)));
typedef struct qe_grain {
    qe_quad agent, epoch, site, kind;
} qe_grain;
enum {
    QE_SLOT_BYTES = 0xff,
    QE_SLOT_WROTE = 1 << 8,
    QE_SLOT_ATOMIC = 1 << 9,
    QE_SLOT_ASYNC = 1 << 10
};

typedef struct qe_stretch { /* device or shared memory and its shadow */
    char *low, *high;
    qe_grain *grains;
    uint16_t *state; /* a bit per byte: written | usable << 8 */
} qe_stretch;
extern qe_stretch qe_shadow_global, qe_shadow_shared;

void qe_shadow_begin(const qe_launch *l, bool forget_epochs);
void qe_shadow_block(const qe_block *b); /* its shared memory: nothing written yet */
/* The allocation that is nearest to p within 1 MiB; false: none. */
bool qe_shadow_near(const char *p, char **base, size_t *bytes);

/* ---- reports (check_report.c) ---------------------------------------------------------------- */

typedef struct qe_actor { /* who makes an access, and which */
    qe_clock *clock;
    const qe_thread *thread;
    const qe_block *block;
    const qe_site *site;
    uint32_t agent, epoch;
    uint32_t own_since; /* own accesses before this epoch are looked up: an agent number is lent */
    uint32_t floor;     /* threads of its block are known up to here */
    uint32_t first;     /* epochs up to here are out of date */
    uint32_t flags;
    int32_t kind; /* as in a slot */
} qe_actor;

/* Sites are constants of the program: their distance from one of the checker's own constants fits
 * into 32 bits. */
extern const char qe_site_origin[8];
static inline int32_t qe_site_code(const qe_site *site) {
    return (int32_t)(((intptr_t)site - (intptr_t)qe_site_origin) / 8);
}

void qe_report_begin(void); /* a launch begins: everything is news */
void qe_report_race(const qe_actor *a, const char *p, qe_finding kind, const qe_grain *g,
                    unsigned slot);
void qe_report_state(const qe_actor *a, const char *p, uint32_t bytes, qe_finding kind);

#endif
