/* async.h — what mbarrier.c, async_copy.c, tensor_copy.c and wgmma.c share: the asynchronous state
 * of blocks and threads, and operations under way.
 */
#ifndef QE_ASYNC_H
#define QE_ASYNC_H

#include "kernels/emu/machine.h"

/* ---- state of a block and of a thread -------------------------------------------------------- */

enum { QE_MBARRIER_BUCKETS = 64 };

typedef struct qe_block_async {
    struct qe_mbarrier *mbarriers[QE_MBARRIER_BUCKETS];
    struct qe_warpgroup *warpgroups; /* one per 128 threads: wgmma.c */
    int64_t free_registers;          /* given back by setmaxnreg, not taken yet */
    qe_thread *register_waiters;
} qe_block_async;

/* One family of groups of a thread: cp.async, or bulk stores. Operations that are issued belong to
 * group `committed`; a commit ends it. */
typedef struct qe_groups {
    struct qe_operation *first, *last; /* in order of issue, not waited for */
    uint32_t committed;
    uint32_t waited;     /* groups below it are waited for */
    uint32_t done_early; /* 1 + the group of the last copy that was done without a qe_operation */
    const qe_site *site; /* of that copy */
} qe_groups;

typedef struct qe_thread_async {
    qe_groups copies, bulk;
    uint32_t registers; /* setmaxnreg, 0 = as launched */
    /* wgmma */
    bool fenced;                  /* since the last wait */
    uint32_t committed, waited;   /* groups */
    const qe_site *open;          /* of a product that is not committed */
    struct qe_thread_async *next; /* in the list of free ones */
} qe_thread_async;

qe_block_async *qe_async_of_block(qe_block *b);
qe_thread_async *qe_async_of_thread(qe_thread *t);

/* Host address of a shared window address and the block that owns it; out of range is fatal. */
char *qe_window(qe_thread *t, uint32_t address, uint32_t bytes, qe_block **block,
                const qe_site *site);

/* ---- mbarriers, for asynchronous operations (mbarrier.c) ------------------------------------- */

/* At issue, by the issuing thread: the mbarrier must exist and be visible to the async proxy. */
void qe_mbarrier_expect_async(qe_thread *t, uint32_t address, const qe_site *site);
/* The bytes of an operation have arrived at the mbarrier of b whose word is at `word`. */
void qe_mbarrier_complete_async(qe_block *b, char *word, uint32_t bytes, qe_agent *a,
                                const qe_site *site);
/* cp.async.mbarrier.arrive: one more arrival pending unless noinc; then the arrival itself. */
void qe_mbarrier_raise_pending(qe_thread *t, uint32_t address, bool noinc, const qe_site *site);
/* The arrival announces the copies before `end` in a list. */
void qe_mbarrier_arrive_async(qe_block *b, char *word, struct qe_operation *copies,
                              const struct qe_operation *end, const qe_site *site);
void qe_mbarriers_end(qe_block *b);

/* ---- operations (async_copy.c) --------------------------------------------------------------- */

/* An operation happens in one step, or a store in two: it captures its source, then writes. */
typedef enum qe_stage { QE_ISSUED, QE_CAPTURED, QE_DONE } qe_stage;

typedef struct qe_operation qe_operation;
struct qe_operation {
    qe_stage (*step)(qe_operation *op); /* does the next step and says what is reached */
    qe_stage stage;
    bool queued;
    bool covered;    /* by an mbarrier arrival (cp.async), by a wait for reads (stores) */
    qe_thread *by;   /* whose groups it stands in; NULL = none */
    qe_block *block; /* of its issuer */
    qe_block *into;  /* owner of its destination in shared memory, NULL = none */
    uint32_t group;
    qe_agent agent;  /* all it does; of a store, the writes */
    qe_agent reader; /* of a store, the reads of shared memory */
    const qe_site *site;
    qe_operation *before, *after; /* in the queue of those not done */
    qe_operation *next;           /* in its group, or in the list of free ones */
    /* operands */
    char *to;
    const char *from;
    uint32_t bytes, from_bytes;
    char *word;         /* of the mbarrier */
    uint32_t multicast; /* ranks, 0 = only `to` */
    qe_reduce_op reduce;
    qe_element element;
    char *captured;            /* a store's source */
    struct qe_tensor_box *box; /* of a tensor copy */
};

qe_operation *qe_operation_new(qe_thread *t, const qe_site *site);
/* Takes the operation over: it runs at once, later, or when it is waited for. */
void qe_operation_submit(qe_operation *op, qe_thread *t, qe_groups *groups);
/* Where a load puts its bytes: op->to, or the same place in each block of the multicast. */
enum { QE_TARGETS = 16 };
typedef struct qe_target {
    qe_block *block;
    char *to, *word;
} qe_target;
int qe_operation_targets(const qe_operation *op, qe_target *target);
/* Checks that dst and mbarrier lie in one block; fills to, into, word. */
void qe_operation_aim(qe_operation *op, qe_thread *t, uint32_t dst, uint32_t bytes,
                      uint32_t mbarrier, uint32_t multicast);

/* `bytes` of elements at `to` become to OP from. */
void qe_reduce(qe_reduce_op op, qe_element type, char *to, const char *from, uint32_t bytes);
bool qe_reduce_exists(qe_reduce_op op, qe_element type);

/* ---- warpgroups (wgmma.c) -------------------------------------------------------------------- */

void qe_warpgroups_end(qe_block *b);

/* The byte address a is stored at under a swizzle of 0 none, 1 32, 2 64, 3 128 bytes. */
static inline uint32_t qe_swizzle(uint32_t a, int mode) {
    return a ^ ((a >> 7 & ((1u << mode) - 1u)) << 4);
}

#endif
