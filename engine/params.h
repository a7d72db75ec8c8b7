/* params.h — parameters by name, flat in the run arena.
 *
 * Every parameter has a dotted path and Hugging Face's shape. All of them lie one after the other
 * in one flat array per kind (weights, masters, gradients, moments, best snapshot), trainable ones
 * first, each starting on a multiple of 64 elements except inside a fused group, whose members are
 * adjacent so that q|k|v or gate|up is one view. The optimizer walks the flat arrays once.
 */
#ifndef QN_PARAMS_H
#define QN_PARAMS_H

#include "engine/ops.h"

typedef enum qn_precision {
    QN_PRECISION_F32,
    QN_PRECISION_BF16,
    QN_PRECISION_BF16_SR,
    QN_PRECISION_F64
} qn_precision;

typedef enum qn_init_kind {
    QN_INIT_ZERO,
    QN_INIT_ONE,
    QN_INIT_NORMAL, /* N(0, scale^2) */
    QN_INIT_UNIFORM /* U(-scale, scale) */
} qn_init_kind;

/* What a parameter is to its model. */
typedef enum qn_role {
    QN_ROLE_OTHER,
    QN_ROLE_LINEAR, /* weight (out, in) of a linear layer: may have an adapter */
    QN_ROLE_OUTPUT, /* the same of the output layer */
    QN_ROLE_ADAPTER /* of an adapter: no part of the model's own files */
} qn_role;

/* Low-rank weights beside the linear `path` (layers/lora.c): PATH.lora_A.weight (r, in) and
 * PATH.lora_B.weight (out, r), with dora PATH.lora_magnitude_vector.weight (out) too. */
typedef struct qn_adapter {
    const char *path;
    double alpha, scale, dropout; /* scale follows from alpha and the rank */
    bool dora;
} qn_adapter;

typedef struct qn_param {
    const char *name;    /* "blocks.3.mlp.up.weight" */
    const char *hf_name; /* "model.layers.3.mlp.up_proj.weight" */
    bool hf_transposed;  /* Hugging Face stores it [in,out] (GPT-2's Conv1D) */
    int ndim;
    int64_t shape[QN_MAX_DIMS];
    int64_t count, offset; /* elements; offset into the flat arrays, set by layout */
    qn_init_kind init;
    double init_scale;
    qn_role role;
    bool fused;           /* follows the one before without padding */
    bool no_decay;        /* norms and biases: weight decay does not apply unless a group says so */
    bool external;        /* kept outside checkpoints: a pretrained model holds it unchanged */
    bool frozen, grouped; /* grouped: a group has matched it; later groups do not */
    double lr_scale, weight_decay;
} qn_param;

typedef struct qn_params {
    qn_setup *setup;
    qn_param *item;
    int n, cap;
    qn_precision precision;
    qn_device device;         /* that the flat arrays are on, set by bind */
    int moments;              /* flat arrays the optimizer keeps: 0, 1 or 2 */
    int64_t total, trainable; /* elements of the flat arrays incl. padding; the trainable prefix */
    int64_t parameters, trainable_parameters; /* without padding */
    /* flat views into the run arena; data NULL while only planning; count 0 where absent */
    qn_tensor weights, master, grads, moment[2], best;
    int64_t class_bytes[QN_CLASS_COUNT];
    int n_segments;
    qn_segment *segments; /* trainable runs with one rule, for the optimizer */
    int n_adapters;
    qn_adapter *adapter;
} qn_params;

qn_status qn_params_create(qn_params **out) QN_CHECKED;
void qn_params_free(qn_params *p);

/* Adds a parameter (fields name, shape, init...; names are copied). A duplicate name is an
 * error. */
qn_status qn_params_add(qn_params *p, const qn_param *spec) QN_CHECKED;
const qn_param *qn_params_find(const qn_params *p, const char *name);
/* The adapter of the linear `path`, NULL if it has none. */
const qn_adapter *qn_params_adapter(const qn_params *p, const char *path);

/* Applies {match glob, lr scale, weight decay, frozen}; what is < 0 leaves the present value.
 * Returns the number of parameters matched. */
int qn_params_group(qn_params *p, const char *glob, double lr_scale, double weight_decay,
                    int frozen);

/* Fixes offsets and the bytes per class. keep_best adds the snapshot early stopping restores. */
qn_status qn_params_layout(qn_params *p, qn_precision precision, int moments, double weight_decay,
                           bool keep_best) QN_CHECKED;
int64_t qn_params_bytes(const qn_params *p);
/* base: qn_params_bytes on that device, 64-byte aligned */
void qn_params_bind(qn_params *p, qn_device device, void *base);

/* Draws the initial weights: N or U from Philox with key (seed, name, "init"), a function of the
 * element. They are drawn on the host, so every device starts from the same bits. */
qn_status qn_params_init(qn_params *p, uint64_t seed, int threads) QN_CHECKED;
/* weights = round(master), after masters were loaded; master = weights, after weights were. */
qn_status qn_params_sync_weights(qn_params *p) QN_CHECKED;
qn_status qn_params_sync_masters(qn_params *p) QN_CHECKED;

/* The tensor of parameter i inside a flat array (weights, master, ...). */
qn_tensor qn_param_tensor(const qn_params *p, int i, const qn_tensor *flat);

qn_dtype qn_precision_weight_dtype(qn_precision p);
qn_dtype qn_precision_grad_dtype(qn_precision p);
const char *qn_precision_name(qn_precision p);

/* ---- recording with parameters --------------------------------------------------------------- */

/* What a model's forward function sees: the tape, its parameters, and the step values every layer
 * may need. One per recording. */
typedef struct qn_graph {
    qn_tape *tape;
    const qn_params *params;
    qn_value *weights; /* the flat array */
    qn_value **param;  /* per parameter, made on first use */
    qn_value *rng;     /* i64[2] {step, sample offset}; NULL outside training */
    qn_value *inv_n;   /* 1 / number of targets that count in this step */
} qn_graph;

qn_status qn_graph_create(qn_tape *t, const qn_params *p, bool training, qn_graph *out) QN_CHECKED;
/* The value of a parameter; NULL with the tape failed if there is none of that name. */
qn_value *qn_graph_param(qn_graph *g, const char *format, ...) QN_PRINTF(2, 3);
/* One (rows, cols...) view over `count` adjacent parameters of a fused group, starting at the named
 * one. */
qn_value *qn_graph_fused(qn_graph *g, int count, const char *format, ...) QN_PRINTF(3, 4);

#endif
