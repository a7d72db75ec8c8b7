/* attrs.h — what an op is told besides its tensors: one struct of plain data per op.
 *
 * A call's `attrs` points to the struct of its op (`linear` to qn_linear_attrs, ...). Reference
 * body, CPU body and CUDA kernel read the same struct; what the numbers mean is in engine/ops.h.
 * Gradient ops take the struct of the op they differentiate.
 */
#ifndef QN_ATTRS_H
#define QN_ATTRS_H

#include "kernels/kernels.h"

typedef struct qn_scale_attrs {
    double factor, shift;
} qn_scale_attrs;

typedef enum qn_unary {
    QN_NEG,
    QN_EXP,
    QN_LOG,
    QN_SQRT,
    QN_SQUARE,
    QN_ABS,
    QN_UNARY_COUNT
} qn_unary;

typedef struct qn_unary_attrs {
    qn_unary kind;
} qn_unary_attrs;

typedef struct qn_fill_attrs {
    qn_dtype dtype;
    int ndim;
    int64_t shape[QN_MAX_DIMS];
    double value;
} qn_fill_attrs;

typedef enum qn_reduction { QN_SUM, QN_MEAN, QN_MAX, QN_REDUCTION_COUNT } qn_reduction;

enum { QN_ALL_AXES = -100 };
typedef struct qn_reduce_attrs {
    qn_reduction kind;
    int axis; /* negative counts from the end; QN_ALL_AXES */
    bool keep;
} qn_reduce_attrs;

typedef struct qn_cast_attrs {
    qn_dtype dtype;
} qn_cast_attrs;

typedef struct qn_concat_attrs {
    int axis, count;
} qn_concat_attrs;

typedef enum qn_activation {
    QN_ACT_NONE,
    QN_ACT_GELU,      /* x Phi(x), exact erf form */
    QN_ACT_GELU_TANH, /* Hendrycks and Gimpel 2016, tanh form */
    QN_ACT_RELU,
    QN_ACT_SILU,
    QN_ACT_SIGMOID,
    QN_ACT_TANH,
    QN_ACT_COUNT
} qn_activation;

typedef struct qn_linear_attrs {
    qn_activation activation;
} qn_linear_attrs;

enum { QN_ADAPTER_PARTS = 3 };

typedef struct qn_linear_adapted_attrs {
    qn_linear_attrs linear;
    int64_t first[QN_ADAPTER_PARTS]; /* first column of y that the adapter reaches */
} qn_linear_adapted_attrs;

typedef struct qn_adapted_norm_attrs {
    double scale;
} qn_adapted_norm_attrs;

typedef struct qn_matmul_attrs {
    bool transpose_a, transpose_b;
    double alpha;
} qn_matmul_attrs;

typedef struct qn_norm_attrs {
    double eps;
} qn_norm_attrs;

typedef struct qn_attention_attrs {
    double scale;   /* 0 = 1/sqrt(D) */
    double dropout; /* probability on the attention weights; active only in training tapes */
    bool causal;
    int64_t window; /* with causal: the newest keys a query sees, itself included; 0 = all */
} qn_attention_attrs;

typedef struct qn_activation_attrs {
    qn_activation kind;
} qn_activation_attrs;

enum { QN_ROPE_PAIRS = 128 };
typedef struct qn_rope_attrs {
    double frequency[QN_ROPE_PAIRS]; /* radians that pair j turns per position */
    double scale;                    /* multiplies every sine and cosine, mostly 1 */
    int pairs;    /* elements j and j + pairs of a head turn; those from 2 pairs on stay */
    bool inverse; /* turns back: the gradient */
} qn_rope_attrs;

typedef enum qn_pooling { QN_POOL_FIRST, QN_POOL_LAST, QN_POOL_MEAN, QN_POOLING_COUNT } qn_pooling;
typedef struct qn_pool_attrs {
    qn_pooling kind;
    int64_t tokens; /* T, which the gradient cannot see otherwise */
} qn_pool_attrs;

typedef struct qn_dropout_attrs {
    double p;
} qn_dropout_attrs;

typedef struct qn_ce_attrs {
    int64_t ignore_index;
    double label_smoothing; /* as PyTorch: (1-e) CE + e mean over classes */
    int64_t chunk; /* rows of logits held at once by linear_cross_entropy; 0 = chosen by shape */
} qn_ce_attrs;

typedef struct qn_segment { /* a run of parameters with one rule; offsets and counts in elements */
    int64_t offset, count;
    double lr_scale; /* multiplies the scheduled learning rate */
    double weight_decay;
} qn_segment;

/* What the guard keeps on the device (f64[8], saved in checkpoints): */
enum {
    QN_GUARD_APPLY,
    QN_GUARD_CLIP,
    QN_GUARD_MEAN,
    QN_GUARD_VAR,
    QN_GUARD_COUNT,
    QN_GUARD_STATE = 8
};
typedef struct qn_guard_attrs {
    double clip_norm;       /* 0 = no clipping */
    double spike_threshold; /* z-score of the loss beyond which the step is refused; 0 = off */
    int64_t spike_window;   /* steps of the exponential window */
} qn_guard_attrs;

typedef struct qn_update_attrs {
    double beta1, beta2, eps;   /* adamw */
    double momentum, dampening; /* sgd */
    bool nesterov;
    bool stochastic_rounding; /* bf16 without master: draws from rng */
    int n_segments;
    const qn_segment *segments; /* outlives the program */
} qn_update_attrs;

#endif
