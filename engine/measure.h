/* measure.h — how fast one op runs on a device, and how near that is to what the device can do.
 *
 * The same call that a tape records is timed: described by the op's row, its operands on the
 * device, random values that are never zeros. Where one set of operands is small, several are used
 * in turn, so that no call finds its operands in a cache where a training step would not find them.
 * Where the device records launches, one repetition is one recording, as in training.
 *
 * The cases are the shapes that GPT-2 and Llama models train with, and tiny ones of the same kinds
 * for the emulated device (measure_cases.c).
 */
#ifndef QN_MEASURE_H
#define QN_MEASURE_H

#include "engine/ops.h"
#include "kernels/cublaslt.h"

typedef enum qn_measure_scale {
    QN_MEASURE_TINY, /* milliseconds on an emulated device */
    QN_MEASURE_HOST, /* a second or less a case on a CPU */
    QN_MEASURE_GPU,  /* a training step's own sizes */
    QN_MEASURE_SCALES
} qn_measure_scale;

typedef enum qn_measure_fill {
    QN_MEASURE_NORMAL, /* N(0, value^2) */
    QN_MEASURE_IDS,    /* integers 0 .. value-1 */
    QN_MEASURE_VALUE   /* all the same */
} qn_measure_fill;

typedef struct qn_measure_input {
    bool present;
    qn_dtype dtype;
    int ndim;
    int64_t shape[QN_MAX_DIMS];
    qn_measure_fill fill;
    double value;
} qn_measure_input;

typedef struct qn_measure_case {
    const qn_op *op;
    qn_dtype dtype; /* of the arithmetic: the peak it is held against */
    char shape[80]; /* "16384x2304x768 gelu" */
    qn_measure_input in[QN_MAX_IN];
    union {
        qn_linear_attrs linear;
        qn_matmul_attrs matmul;
        qn_norm_attrs norm;
        qn_attention_attrs attention;
        qn_activation_attrs activation;
        qn_rope_attrs rope;
        qn_dropout_attrs dropout;
        qn_ce_attrs loss;
        qn_reduce_attrs reduce;
        qn_cast_attrs cast;
        qn_scale_attrs scale;
        qn_update_attrs update;
        qn_unary_attrs unary;
        qn_fill_attrs fill;
        qn_concat_attrs concat;
    } attrs;
    uint32_t want_out;   /* optional outputs to ask for */
    uint32_t f32_out;    /* outputs kept in f32: parameter gradients */
    int64_t update_size; /* weights of one segment, for ops with qn_update_attrs */
} qn_measure_case;

/* The cases of a scale, by number: 0 .. count - 1. */
int qn_measure_case_count(qn_measure_scale scale);
void qn_measure_case_get(qn_measure_scale scale, int i, qn_measure_case *out);
/* pattern: the name of an op, or a part of "op shape dtype". */
bool qn_measure_case_matches(const qn_measure_case *c, const char *pattern);

typedef struct qn_measure_options {
    qn_device device;
    int threads;
    int repeats;            /* wanted; the median is over them */
    double seconds;         /* time after which fewer repeats will do, at least 3 */
    int64_t rotation_bytes; /* operands are spread over at least so much memory, in up to 64 sets */
    double check_flops;     /* calls of up to so many are checked against REF in f64; 0 = none */
    const qn_cublaslt *library; /* products are timed there too, on CUDA; NULL = none */
} qn_measure_options;

/* What fits the device: 20 repeats, 2 s; rotation beyond its last cache. */
void qn_measure_defaults(qn_device d, qn_measure_options *o);

typedef struct qn_measurement {
    double median, fastest; /* seconds of one call */
    int repeats, calls;     /* calls in a repetition */
    qn_cost cost;
    double error;   /* |got - f64| / |f64| in the 2-norm, the worst output's; NAN = not checked */
    double library; /* seconds of the call's product in cuBLASLt; NAN = not timed there. Bias
                       gradients are no part of it: theirs is the product alone. */
} qn_measurement;

/* Times one case. Errors: QN_ERR_UNSUPPORTED where the device has no body, QN_ERR_OOM, and what
 * the op and the device say. The device has been opened. */
qn_status qn_measure(const qn_measure_case *c, const qn_measure_options *o,
                     qn_measurement *out) QN_CHECKED;

/* What the device can do, measured: bytes/s of a large copy and flops/s of large products. */
typedef struct qn_measure_limits {
    double bytes_per_second;
    double flops_per_second[QN_DTYPE_COUNT]; /* f32 and bf16; 0 = not known */
} qn_measure_limits;

/* The least time the limits allow over the median; *flops: is it the arithmetic that limits? */
double qn_measure_fraction(const qn_measure_case *c, const qn_measurement *m,
                           const qn_measure_limits *limits, bool *flops);

/* Every case of a scale that one of the patterns matches (n = 0: all), one after the other; `take`
 * gets each measurement, or the status of the failure, its message set. Limits that are all 0 are
 * measured first; a faster product than those before raises them. Ends early only
 * where the device itself has failed (QN_ERR_DEVICE); QN_ERR_USAGE where a pattern matches
 * nothing. */
typedef void qn_measure_taker(void *ctx, const qn_measure_case *c, qn_status s,
                              const qn_measurement *m);
qn_status qn_measure_all(const qn_measure_options *o, qn_measure_scale scale,
                         const char *const *patterns, int n, qn_measure_limits *limits,
                         qn_measure_taker *take, void *ctx) QN_CHECKED;

/* One line of JSON, or of a table for people; no line end. Returns the length, as snprintf. */
int qn_measure_json(const qn_measure_case *c, const qn_measurement *m,
                    const qn_measure_limits *limits, const char *device, char *text, size_t size);
int qn_measure_row(const qn_measure_case *c, const qn_measurement *m,
                   const qn_measure_limits *limits, char *text, size_t size);
int qn_measure_header(char *text, size_t size);

#endif
