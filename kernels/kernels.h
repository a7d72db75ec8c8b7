/* kernels.h — the vocabulary every room speaks: status, dtype, tensor, call, op row, Philox.
 *
 * Compiles as C11 and as C++ (the .cu files include it) and needs no CUDA header. It knows numbers,
 * shapes and a stream; what a computation *means* is told in engine/op_*.c.
 */
#ifndef QN_KERNELS_H
#define QN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ---------------------------------------------------------------------------------- */

/* One list: name, process exit code, text. Exit codes are part of the command line's contract. */
/* clang-format off */
#define QN_STATUS_MAP(X)                                                                          \
    X(OK, 0, "ok")                                                                                \
    X(ERR_INTERNAL, 1, "internal error (a bug in Quern)")                                         \
    X(ERR_SHAPE, 1, "shape mismatch")                                                             \
    X(ERR_DTYPE, 1, "dtype not accepted")                                                         \
    X(ERR_UNSUPPORTED, 1, "not supported")                                                        \
    X(ERR_IO, 1, "input/output error")                                                            \
    X(ERR_DEVICE, 1, "device error")                                                              \
    X(ERR_USAGE, 2, "usage error")                                                                \
    X(ERR_CONFIG, 2, "configuration error")                                                       \
    X(ERR_DATA, 3, "data error")                                                                  \
    X(ERR_FORMAT, 3, "malformed file")                                                            \
    X(ERR_OOM, 4, "out of memory")                                                                \
    X(ERR_NONFINITE, 5, "non-finite loss or gradient")                                            \
    X(ERR_REQUEUE, 75, "saved, please requeue")                                                   \
    X(ERR_INTERRUPTED, 130, "interrupted and saved")
/* clang-format on */

typedef enum qn_status {
#define QNI_X(name, exit_code, text) QN_##name,
    QN_STATUS_MAP(QNI_X)
#undef QNI_X
        QN_STATUS_COUNT
} qn_status;

#if defined(__GNUC__)
#define QN_CHECKED           __attribute__((warn_unused_result))
#define QN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define QN_CHECKED
#define QN_PRINTF(fmt, args)
#endif

/* ---- errors (status.c) ----------------------------------------------------------------------- */

enum { QN_MESSAGE_MAX = 1024 };

/* An error that crosses a thread travels as a copy of this. */
typedef struct qn_error {
    qn_status status;
    char message[QN_MESSAGE_MAX];
} qn_error;

const char *qn_status_name(qn_status s); /* "ERR_SHAPE" */
const char *qn_status_text(qn_status s); /* "shape mismatch" */
int qn_status_exit_code(qn_status s);

/* Sets this thread's message and returns s, so that `return qn_fail(QN_ERR_DATA, "...", ...)` reads
 * as one step. Messages say who, what was found and what was expected. */
qn_status qn_fail(qn_status s, const char *format, ...) QN_PRINTF(2, 3);
/* Puts "format: " before the present message; for callers that know the file or the field. */
qn_status qn_fail_prefix(qn_status s, const char *format, ...) QN_PRINTF(2, 3);
const char *qn_error_message(void);          /* this thread's last message, "" if none */
void qn_error_get(qn_status s, qn_error *e); /* copy, to hand to another thread */
qn_status qn_error_raise(const qn_error *e); /* make it this thread's message; returns e->status */
void qn_error_clear(void);

#define QN_TRY(expr)                                                                               \
    do {                                                                                           \
        qn_status qn_try_ = (expr);                                                                \
        if (qn_try_ != QN_OK) return qn_try_;                                                      \
    } while (0)

/* For functions with a `qn_status status` and a `done:` label. */
#define QN_TRY_GOTO(expr)                                                                          \
    do {                                                                                           \
        if ((status = (expr)) != QN_OK) goto done;                                                 \
    } while (0)

/* ---- dtype ----------------------------------------------------------------------------------- */

typedef enum qn_dtype {
    QN_F32,
    QN_F64,
    QN_BF16,
    QN_F16,
    QN_I32,
    QN_I64,
    QN_U8,
    QN_DTYPE_COUNT
} qn_dtype;

#define QN_DTYPE_BIT(dt) (1u << (unsigned)(dt))

/* ---- tensor ---------------------------------------------------------------------------------- */

enum { QN_MAX_DIMS = 6, QN_MAX_IN = 12, QN_MAX_OUT = 8 };

/* A strided view; nobody frees one. Strides are in elements, the last axis comes last. A scalar has
 * ndim 0 and one element. data is NULL while a program is being planned from shapes alone. */
typedef struct qn_tensor {
    void *data;
    qn_dtype dtype;
    int ndim;
    int64_t shape[QN_MAX_DIMS];
    int64_t stride[QN_MAX_DIMS];
} qn_tensor;

/* ---- call and op row ------------------------------------------------------------------------- */

typedef enum qn_device {
    QN_REF,  /* plain C: the meaning of the op */
    QN_CPU,  /* faster body beside it, tested against REF */
    QN_CUDA, /* kernels/<family>.cu */
    QN_DEVICE_COUNT
} qn_device;

struct qn_op;

/* One recorded call: a kernel's argument, the tape's node, the unit of trace, test, benchmark. */
typedef struct qn_call {
    const struct qn_op *op;
    const char *scope;              /* dotted path it was recorded in, "" at top level */
    const qn_tensor *in[QN_MAX_IN]; /* NULL where an optional slot is absent */
    qn_tensor *out[QN_MAX_OUT];     /* NULL where an optional slot is absent */
    const void *attrs;              /* the op's attribute struct: plain data */
    uint32_t accumulate;            /* bit i: out[i] += result instead of out[i] = result */
    uint64_t rng_key;               /* XXH3(seed, scope, site); only ops that draw numbers use it */
    int threads;                    /* upper bound of threads the call may use, >= 1 */
    size_t scratch_bytes;           /* asked for by infer; 64-byte aligned */
    void *scratch;
    void *state;  /* what prepare made, NULL without prepare */
    void *stream; /* CUDA stream; NULL on the CPU */
} qn_call;

typedef qn_status qn_kernel(const qn_call *call);

/* How an output's storage may relate to the inputs'. The planner believes only this. */
typedef enum qn_alias {
    QN_FRESH = 0,    /* shares storage with no input */
    QN_UPDATES = 255 /* read-modify-write of storage the caller passes in */
} qn_alias;
#define QN_MAY_REUSE(slot) ((qn_alias)(1 + (slot))) /* may take over in[slot]'s storage */

/* Compulsory bytes (each operand once) and floating-point operations of one call. */
typedef struct qn_cost {
    double bytes;
    double flops;
} qn_cost;

struct qn_tape;
struct qn_node;

typedef struct qn_op {
    const char *name;
    int n_in, n_out;
    const char *in_name[QN_MAX_IN];
    const char *out_name[QN_MAX_OUT];
    uint32_t optional_in;            /* bit i: in[i] may be NULL */
    uint32_t optional_out;           /* bit i: out[i] may be NULL; absent unless asked for */
    unsigned char alias[QN_MAX_OUT]; /* qn_alias per output */
    uint32_t can_accumulate;         /* bit i: out[i] honours call->accumulate */
    size_t attr_bytes;
    uint32_t cpu_dtypes; /* QN_DTYPE_BIT mask of in[0] dtypes run[QN_CPU] takes; others run REF */

    /* Checks inputs and attributes, then writes dtype, ndim, shape and (contiguous) strides of
     * every present output that is not QN_UPDATES, and call->scratch_bytes of the host bodies.
     * Touches no data. */
    qn_status (*infer)(qn_call *call);
    qn_status (*prepare)(qn_call *call); /* optional: once after planning; fills call->state */
    void (*release)(qn_call *call);      /* undoes prepare */
    qn_kernel *run[QN_CUDA];             /* REF and CPU; CUDA bodies are listed in kernels/cuda.h */
    /* Records the gradient calls. NULL = not differentiable. */
    qn_status (*backward)(struct qn_tape *tape, struct qn_node *node);
    void (*cost)(const qn_call *call, qn_cost *cost);
} qn_op;

/* ---- Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") ------- */

typedef struct qn_u32x4 {
    uint32_t v[4];
} qn_u32x4;

#ifdef __CUDACC__
#define QN_HOST_DEVICE __host__ __device__
#else
#define QN_HOST_DEVICE
#endif

static inline QN_HOST_DEVICE qn_u32x4 qn_philox(uint64_t key, uint64_t counter_low,
                                                uint64_t counter_high) {
    uint32_t c0 = (uint32_t)counter_low, c1 = (uint32_t)(counter_low >> 32);
    uint32_t c2 = (uint32_t)counter_high, c3 = (uint32_t)(counter_high >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    qn_u32x4 r = {{c0, c1, c2, c3}};
    return r;
}

/* Element `element` of stream (key, step): counter = {element/4, step}, lane = element mod 4. */
static inline QN_HOST_DEVICE uint32_t qn_random_u32(uint64_t key, uint64_t step, uint64_t element) {
    qn_u32x4 r = qn_philox(key, element >> 2, step);
    uint32_t low = element & 1u ? r.v[1] : r.v[0], high = element & 1u ? r.v[3] : r.v[2];
    return element & 2u ? high : low; /* no indexing: the words stay in registers */
}

#ifdef __cplusplus
}
#endif
#endif
