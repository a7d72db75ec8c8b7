/* tape.h — record once, differentiate, plan, replay.
 *
 * A *tape* records the ops of one program as values and nodes; qn_tape_backward extends it with the
 * gradient rules; qn_program_create plans every temporary into the pool and yields a *program*: a
 * flat list of calls that replays with no allocation. Recording functions return the new value; on
 * failure they return NULL and the tape keeps the first error, so a model reads as formulas.
 * Passing NULL on is legal and stays NULL; qn_tape_status() tells at the end.
 */
#ifndef QN_TAPE_H
#define QN_TAPE_H

#include "engine/engine.h"

typedef struct qn_tape qn_tape;
typedef struct qn_program qn_program;

/* What the bytes are; `quern plan` prints one line per class. */
typedef enum qn_class {
    QN_CLASS_TEMP,   /* pool: activations, gradients of activations, workspace */
    QN_CLASS_WEIGHT, /* run arena from here on */
    QN_CLASS_MASTER,
    QN_CLASS_GRADIENT,
    QN_CLASS_MOMENT,
    QN_CLASS_BUFFER,
    QN_CLASS_BEST,
    QN_CLASS_INPUT, /* batch, step values */
    QN_CLASS_COUNT
} qn_class;

/* A value: a tensor whose storage is decided by the planner (temporaries) or given (run arena).
 * A view shares its base's storage at an element offset. */
typedef struct qn_value {
    qn_tensor t;           /* t.data is set when storage is bound */
    struct qn_value *base; /* storage owner; itself if it owns */
    int64_t offset;        /* elements from the owner's first */
    qn_class cls;
    const char *name; /* dotted path of a parameter, or "scope.op:slot" */
    bool requires_grad;
    bool keep;                 /* lives to the end of the program: a result the host reads */
    struct qn_value *primal;   /* set on a recomputed copy: the value it repeats */
    struct qn_value *grad;     /* where the gradient goes, NULL until differentiated */
    bool is_grad;              /* this value is gradient storage: emit decides write or add */
    bool grad_written;         /* something is there already */
    bool donated;              /* taken over as another value's gradient */
    struct qn_region *regions; /* parts of this storage consumed through views (differentiate.c) */
    struct qn_region *region;  /* of a gradient: the part it covers */
    bool zero_first;           /* its gradient is zeroed first, then only added to */
    int id;
    int producer; /* node index, -1 for given storage */
    /* planner */
    int first_use, last_use;
    struct qn_value *shares; /* takes over this value's storage, NULL = its own */
    int reused_at;           /* node that took its storage over, + 1 */
    int64_t pool_offset;     /* bytes; -1 = not in the pool */
} qn_value;

typedef struct qn_node {
    qn_call call; /* tensors are filled from the values when storage is bound */
    qn_value *in[QN_MAX_IN];
    qn_value *out[QN_MAX_OUT];
    int index;           /* its place on the tape */
    int scope;           /* index of the scope it was recorded in */
    int recompute_scope; /* outermost enclosing scope chosen for recomputation, -1 = none */
    bool backward;       /* recorded by the differentiator */
} qn_node;

/* ---- recording ------------------------------------------------------------------------------- */

typedef struct qn_tape_options {
    const char *name; /* "micro_first", "eval", ... */
    uint64_t seed;    /* keys of the random ops */
    int threads;
    bool training;                /* dropout is active */
    bool accumulate_params;       /* parameter gradients add to what is there */
    const char *const *recompute; /* NULL-terminated globs of scope paths */
    bool no_reuse;                /* ignore QN_MAY_REUSE: tests compare the bits with and without */
    qn_device device; /* whose scratch and alignment are planned; the host's devices agree */
    bool no_graph;    /* CUDA: launch every call of a replay instead of one graph */
} qn_tape_options;

qn_status qn_tape_create(const qn_tape_options *o, qn_tape **out) QN_CHECKED;
void qn_tape_free(qn_tape *t);
/* The first error, its message restored to this thread. */
qn_status qn_tape_status(const qn_tape *t) QN_CHECKED;
/* Makes s, with this thread's message, the tape's error if it has none. */
void qn_tape_abort(qn_tape *t, qn_status s);
const qn_tape_options *qn_tape_get_options(const qn_tape *t);

/* Storage that exists already (parameters, buffers, inputs): desc.data may be NULL when only
 * planning. */
qn_value *qn_tape_given(qn_tape *t, const char *name, qn_class cls, const qn_tensor *desc,
                        bool requires_grad);
void qn_tape_set_grad(qn_tape *t, qn_value *param, qn_value *grad); /* given gradient storage */
qn_value *qn_tape_keep(qn_tape *t, qn_value *v, const char *name);  /* host reads it after replay */

/* Scopes name calls ("blocks.3.attn") for recompute, random keys, traces and errors. */
void qn_tape_scope_push(qn_tape *t, const char *format, ...) QN_PRINTF(2, 3);
void qn_tape_scope_pop(qn_tape *t);
void qn_tape_no_grad_push(qn_tape *t); /* values recorded until the pop need no gradient */
void qn_tape_no_grad_pop(qn_tape *t);

/* Records one call of `op`. in[] has op->n_in entries. outs[] has op->n_out entries: on entry NULL
 * for a value the tape creates, or the storage to update (QN_UPDATES slots, gradients); bit i of
 * want_out asks for the optional output i. `site` tells apart two random calls in one scope (NULL =
 * the op's name). On return outs[] holds the values. */
qn_status qn_tape_emit(qn_tape *t, const qn_op *op, qn_value *const *in, qn_value **outs,
                       uint32_t want_out, const void *attrs, const char *site) QN_CHECKED;

/* Views: no call is recorded, the gradient of a view is the view of the gradient. */
qn_value *qn_tape_view(qn_tape *t, qn_value *v, int ndim, const int64_t *shape,
                       const int64_t *stride, int64_t offset);

/* ---- differentiation (differentiate.c) ------------------------------------------------------- */

/* Extends the tape with the gradient of `loss` (a scalar) with respect to every given value that
 * requires one. Walks the nodes in reverse; a tensor used n times gets one write and n-1
 * accumulations. */
qn_status qn_tape_backward(qn_tape *t, qn_value *loss) QN_CHECKED;

/* For backward rules. */
bool qn_grad_wanted(const qn_tape *t, const qn_value *v);
/* The incoming gradient of an output, NULL if nothing reaches it. */
qn_value *qn_grad_of(qn_tape *t, qn_value *out);
/* Where the gradient of an input goes: put it in outs[]; emit decides write or add. NULL if it is
 * not wanted. */
qn_value *qn_grad_slot(qn_tape *t, qn_value *in);
/* The gradient of `in` += dy; takes dy over when it can. */
qn_status qn_grad_pass(qn_tape *t, qn_value *in, qn_value *dy) QN_CHECKED;
bool qn_grad_is_root(const qn_tape *t, const qn_value *v); /* v is the loss itself */
/* Makes an absent optional output of a forward node present, because its gradient needs it. */
qn_value *qn_node_save(qn_tape *t, qn_node *n, int slot);
/* As qn_node_save for an output that is the gradient of `in` (a loss that leaves gradients in
 * place). */
qn_value *qn_node_save_grad(qn_tape *t, qn_node *n, int slot, qn_value *in);

/* ---- programs (planner.c, program.c) --------------------------------------------------------- */

/* Drops dead calls and gives every temporary an offset. No memory is touched. The tape belongs to
 * the program from here on. */
qn_status qn_program_create(qn_tape *t, qn_program **out) QN_CHECKED;
void qn_program_free(qn_program *p);
const char *qn_program_name(const qn_program *p);
size_t qn_program_pool_bytes(const qn_program *p);
int qn_program_call_count(const qn_program *p);
const qn_node *qn_program_node(const qn_program *p, int i);
void qn_program_cost(const qn_program *p, qn_cost *total);
/* Bytes alive in the pool at the call where they are most, by kind. */
void qn_program_peak(const qn_program *p, int64_t *activations, int64_t *gradients,
                     int64_t *workspace);

/* Binds temporaries into the pool (>= pool_bytes) and prepares every call. The pool, and the
 * storage of what the tape was given, are on `device`; the tape was planned for it. */
qn_status qn_program_bind(qn_program *p, qn_device device, qn_arena *pool) QN_CHECKED;

/* Runs every call. Allocates nothing, waits for nothing on the device. CUDA: the first replay
 * launches call by call, the second records one graph of them, which it and all later ones launch;
 * QUERN_GRAPH=0 launches call by call always. QUERN_SYNC=1 also waits after each call, so that an
 * error on the device is reported by the op that made it. Without that, an error may be an earlier
 * one's, and may come out only where the host waits. */
qn_status qn_program_replay(qn_program *p) QN_CHECKED;

/* Replays with a check after each call; names the first output that is not finite in `report`
 * ("blocks.3.mlp linear:y element 12 = nan"). Leaves report empty when all are finite. Waits for
 * the device, and allocates what the host needs to look at its outputs. */
qn_status qn_program_replay_checked(qn_program *p, char *report, size_t report_size) QN_CHECKED;

/* Replays call by call, waits, and fills seconds[call count]; for --profile and bench. */
qn_status qn_program_replay_timed(qn_program *p, double *seconds) QN_CHECKED;

/* Globs over dotted paths: `*` any characters but '.', `**` any, `?` one. */
bool qn_glob_match(const char *glob, const char *path);

#endif
