/* cudart.h — what the files of the emulated CUDA runtime share.
 *
 * The functions are declared by CUDA's own headers; this is the other side of them. Work is a
 * `qe_op`: captured into a graph, or queued and executed: at once (streams=eager), or late, at a
 * point where the program waits, in an order that streams and events allow.
 */
#ifndef QE_CUDART_H
#define QE_CUDART_H

#include "kernels/emu/scheduler.h"

#include <cuda_runtime_api.h>

/* ---- errors and the device (cudart_device.c) ------------------------------------------------- */

/* Every call begins with it: the error that sticks, no device, or success. */
cudaError_t qe_enter(void);
cudaError_t qe_error(cudaError_t e); /* remembers e for cudaGetLastError; returns it */
void qe_stick(cudaError_t e);        /* a launch has failed: every call says so from now on */
void qe_clock_advance(double microseconds);
double qe_clock_now(void); /* emulated: from the amount of work, the same in every run */

/* ---- kernels and symbols by host address (cudart_register.c) --------------------------------- */

typedef struct qe_function {
    const void *host;
    const char *name;
    const qe_kernel *kernel; /* of the file translated for `device`; NULL until looked for */
    int device;
    uint32_t max_dynamic; /* cudaFuncAttributeMaxDynamicSharedMemorySize */
    int carveout;
    bool large_clusters;
    struct qe_function *next;
} qe_function;

/* NULL, after a finding: not registered, or not translated. */
qe_function *qe_function_find(const void *host);
bool qe_symbol_find(const void *host, char **address, size_t *bytes);
bool qe_symbol_contains(const void *p, char **address, size_t *bytes); /* a device address */

/* ---- memory (cudart_memory.c) ---------------------------------------------------------------- */

typedef enum qe_place { QE_PAGEABLE, QE_PINNED, QE_DEVICE } qe_place;
qe_place qe_place_of(const void *p, char **base, size_t *bytes);
/* false, after a finding: not inside one live allocation. Pageable memory cannot be checked. */
bool qe_memory_check(const void *p, size_t bytes, const char *what);
void qe_host_free_all(void);

/* ---- operations (cudart_stream.c) ------------------------------------------------------------ */

typedef struct qe_stream qe_stream;
typedef struct qe_event qe_event;
typedef struct qe_graph qe_graph;

typedef enum qe_op_kind {
    QE_OP_LAUNCH,
    QE_OP_COPY,
    QE_OP_SET,
    QE_OP_RECORD,
    QE_OP_WAIT,
    QE_OP_HOST,
    QE_OP_GRAPH,
    QE_OP_FREE
} qe_op_kind;

typedef struct qe_op {
    qe_op_kind kind;
    uint32_t refs;
    union {
        struct {
            qe_function *function;
            qe_shape grid, block, cluster;
            uint32_t dynamic_shared;
            char *params;
        } launch;
        struct { /* rows of `bytes` */
            char *dst;
            const char *src;
            size_t bytes, rows, dst_pitch, src_pitch;
            char *staged; /* what pageable memory held at the call; freed with the op */
        } copy;
        struct {
            char *dst;
            int value;
            size_t bytes, rows, pitch;
        } set;
        qe_event *event; /* record */
        struct {
            qe_stream *stream;
            uint64_t number;
        } wait;
        struct {
            void (*run)(void *);
            void *data;
        } host;
        qe_graph *graph;
        void *memory; /* free */
    } u;
} qe_op;

qe_op *qe_op_new(qe_op_kind kind); /* one reference; NULL: no memory */
void qe_op_drop(qe_op *op);        /* NULL is fine */
void qe_op_run(qe_op *op);

typedef struct qe_queued {
    qe_op *op;
    uint64_t number; /* in its stream, from 1 */
    struct qe_queued *next;
} qe_queued;

typedef struct qe_capture qe_capture;

struct qe_stream {
    uint32_t flags;
    int priority;
    bool dead;
    uint64_t issued, completed;
    qe_queued *first, *last;
    qe_capture *capture;    /* NULL: not capturing */
    uint32_t *tail, n_tail; /* nodes the next one of a capture depends on */
    qe_stream *next;
};

struct qe_event {
    uint32_t flags;
    qe_stream *stream; /* of the last record; NULL: never recorded */
    uint64_t number;
    double time;         /* microseconds */
    qe_capture *capture; /* last recorded there */
    uint32_t *tail, n_tail;
    bool destroyed;
    uint32_t pending; /* records not executed */
};

qe_stream *qe_stream_of(cudaStream_t s); /* NULL: not a stream */
qe_stream *qe_stream_first(void);
/* Captures, queues or runs the operation, whose reference it takes; NULL op: no memory. */
cudaError_t qe_submit(qe_stream *s, qe_op *op);
/* Runs queued work until s has completed `number`; s NULL: until everything is done. */
cudaError_t qe_drain(qe_stream *s, uint64_t number);
void qe_maybe_step(void); /* the device goes on by itself: now and then, or on a query */
void qe_stream_forget_all(void);

/* ---- graphs (cudart_capture.c, cudart_graph.c) ----------------------------------------------- */

typedef struct qe_node {
    qe_op *op;
    uint32_t *after, n_after; /* nodes it depends on; all come before it */
} qe_node;

struct qe_graph {
    qe_node *nodes;
    uint32_t n, capacity;
    uint32_t refs;
};

struct qe_capture { /* stays when it has ended: events may name it */
    uint64_t id;
    qe_graph *graph;
    qe_stream *origin;
    enum cudaStreamCaptureMode mode;
    bool invalid, ended;
    qe_capture *next;
};

qe_graph *qe_graph_new(void);
void qe_graph_drop(qe_graph *g);
/* Takes the reference to op. The number of the node, UINT32_MAX: no memory. */
uint32_t qe_graph_add(qe_graph *g, qe_op *op, const uint32_t *after, uint32_t n_after);
void qe_graph_run(const qe_graph *g);

cudaError_t qe_capture_op(qe_stream *s, qe_op *op);
cudaError_t qe_capture_record(qe_stream *s, qe_event *e);
cudaError_t qe_capture_wait(qe_stream *s, qe_event *e);
/* What a call that waits or allocates may do while something is captured: success, or the error,
 * and the capture is invalid. */
cudaError_t qe_capture_forbids(void);
cudaError_t qe_capture_forbids_legacy(void); /* the same for work on the legacy stream */
cudaError_t qe_capture_spoil(qe_capture *c, cudaError_t e);

#endif
