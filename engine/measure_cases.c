/* measure_cases.c — which calls are timed: a table of sizes, and what each op makes of them.
 *
 * GPU sizes are those of a training step: GPT-2 at 16,384 tokens, Llama-3-8B at 8,192. HOST ones
 * are GPT-2's with 1,024 tokens. Rows that matter most come first.
 */
#include "engine/measure.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TINY = 1u << QN_MEASURE_TINY, HOST = 1u << QN_MEASURE_HOST, GPU = 1u << QN_MEASURE_GPU };

typedef enum flag { PLAIN, BIAS, GELU, RESIDUAL, CAUSAL, FULL, MASTER, FLAGS } flag;

static const char *const flag_names[FLAGS] = {"",        " bias", " gelu",  " residual",
                                              " causal", " full", " master"};

enum { MAX_SIZES = 5 };

/* Sizes by family: products {rows, outputs, inputs} of the forward product, whichever of the three
 * products it is; attention {B, H, key heads, T, D}; norms, softmax, losses {rows, width};
 * linear_cross_entropy {rows, vocabulary, width}; embedding {tokens, vocabulary, width}; rope
 * {B, T, H, D}; everything else {elements} or {rows, width}. */
typedef struct row {
    const qn_op *op;
    qn_dtype dtype;
    flag flag;
    unsigned scales;
    int64_t size[MAX_SIZES];
} row;

/* clang-format off */
static const row rows[] = {
    {&qn_op_copy, QN_BF16, PLAIN, GPU, {16384, 32768}},
    {&qn_op_copy, QN_F32, PLAIN, HOST, {4096, 8192}},
    {&qn_op_copy, QN_BF16, PLAIN, TINY, {8, 64}},

    {&qn_op_linear, QN_BF16, PLAIN, GPU, {8192, 8192, 8192}},
    {&qn_op_linear, QN_BF16, BIAS, GPU, {16384, 2304, 768}},
    {&qn_op_linear, QN_BF16, RESIDUAL, GPU, {16384, 768, 768}},
    {&qn_op_linear, QN_BF16, GELU, GPU, {16384, 3072, 768}},
    {&qn_op_linear, QN_BF16, RESIDUAL, GPU, {16384, 768, 3072}},
    {&qn_op_linear, QN_BF16, PLAIN, GPU, {16384, 50304, 768}},
    {&qn_op_linear_bwd_input, QN_BF16, PLAIN, GPU, {16384, 2304, 768}},
    {&qn_op_linear_bwd_input, QN_BF16, PLAIN, GPU, {16384, 768, 768}},
    {&qn_op_linear_bwd_input, QN_BF16, PLAIN, GPU, {16384, 3072, 768}},
    {&qn_op_linear_bwd_input, QN_BF16, PLAIN, GPU, {16384, 768, 3072}},
    {&qn_op_linear_bwd_weight, QN_BF16, BIAS, GPU, {16384, 2304, 768}},
    {&qn_op_linear_bwd_weight, QN_BF16, BIAS, GPU, {16384, 768, 768}},
    {&qn_op_linear_bwd_weight, QN_BF16, BIAS, GPU, {16384, 3072, 768}},
    {&qn_op_linear_bwd_weight, QN_BF16, BIAS, GPU, {16384, 768, 3072}},
    {&qn_op_attention, QN_BF16, CAUSAL, GPU, {16, 12, 12, 1024, 64}},
    {&qn_op_attention_bwd, QN_BF16, CAUSAL, GPU, {16, 12, 12, 1024, 64}},
    {&qn_op_layernorm, QN_BF16, RESIDUAL, GPU, {16384, 768}},
    {&qn_op_layernorm_bwd, QN_BF16, RESIDUAL, GPU, {16384, 768}},
    {&qn_op_linear_cross_entropy, QN_BF16, PLAIN, GPU, {16384, 50304, 768}},
    {&qn_op_adamw, QN_BF16, MASTER, GPU, {124439808}},
    {&qn_op_grad_norm, QN_F32, PLAIN, GPU, {124439808}},
    {&qn_op_embedding, QN_BF16, PLAIN, GPU, {16384, 50304, 768}},
    {&qn_op_embedding_bwd, QN_BF16, PLAIN, GPU, {16384, 50304, 768}},
    {&qn_op_cross_entropy, QN_BF16, PLAIN, GPU, {16384, 50304}},

    {&qn_op_linear, QN_BF16, PLAIN, GPU, {8192, 6144, 4096}},
    {&qn_op_linear, QN_BF16, PLAIN, GPU, {8192, 4096, 4096}},
    {&qn_op_linear, QN_BF16, PLAIN, GPU, {8192, 28672, 4096}},
    {&qn_op_linear, QN_BF16, PLAIN, GPU, {8192, 4096, 14336}},
    {&qn_op_linear_bwd_input, QN_BF16, PLAIN, GPU, {8192, 28672, 4096}},
    {&qn_op_linear_bwd_input, QN_BF16, PLAIN, GPU, {8192, 4096, 14336}},
    {&qn_op_linear_bwd_weight, QN_BF16, PLAIN, GPU, {8192, 6144, 4096}},
    {&qn_op_linear_bwd_weight, QN_BF16, PLAIN, GPU, {8192, 28672, 4096}},
    {&qn_op_linear_bwd_weight, QN_BF16, PLAIN, GPU, {8192, 4096, 14336}},
    {&qn_op_attention, QN_BF16, CAUSAL, GPU, {4, 32, 8, 2048, 128}},
    {&qn_op_attention_bwd, QN_BF16, CAUSAL, GPU, {4, 32, 8, 2048, 128}},
    {&qn_op_rmsnorm, QN_BF16, RESIDUAL, GPU, {8192, 4096}},
    {&qn_op_rmsnorm_bwd, QN_BF16, RESIDUAL, GPU, {8192, 4096}},
    {&qn_op_swiglu, QN_BF16, PLAIN, GPU, {8192, 14336}},
    {&qn_op_swiglu_bwd, QN_BF16, PLAIN, GPU, {8192, 14336}},
    {&qn_op_rope, QN_BF16, PLAIN, GPU, {4, 2048, 40, 128}},
    {&qn_op_cross_entropy, QN_BF16, PLAIN, GPU, {8192, 128256}},

    {&qn_op_activation, QN_BF16, GELU, GPU, {16384, 3072}},
    {&qn_op_activation_bwd, QN_BF16, GELU, GPU, {16384, 3072}},
    {&qn_op_dropout, QN_BF16, PLAIN, GPU, {16384, 768}},
    {&qn_op_softmax, QN_BF16, PLAIN, GPU, {16384, 1024}},
    {&qn_op_add, QN_BF16, PLAIN, GPU, {16384, 3072}},
    {&qn_op_cast, QN_F32, PLAIN, GPU, {16384, 3072}},
    {&qn_op_reduce, QN_F32, PLAIN, GPU, {16384, 3072}},
    {&qn_op_adamw, QN_F32, PLAIN, GPU, {124439808}},
    {&qn_op_linear, QN_F32, PLAIN, GPU, {4096, 4096, 4096}},
    {&qn_op_linear, QN_F32, BIAS, GPU, {4096, 2304, 768}},
    {&qn_op_attention, QN_F32, CAUSAL, GPU, {4, 12, 12, 1024, 64}},
    {&qn_op_layernorm, QN_F32, RESIDUAL, GPU, {16384, 768}},

    {&qn_op_linear, QN_BF16, GELU, GPU, {16384, 6400, 1600}},
    {&qn_op_linear, QN_BF16, RESIDUAL, GPU, {16384, 1600, 6400}},
    {&qn_op_linear_bwd_weight, QN_BF16, BIAS, GPU, {16384, 6400, 1600}},
    {&qn_op_linear, QN_BF16, PLAIN, GPU, {4096, 4096, 4096}},
    {&qn_op_linear, QN_BF16, PLAIN, GPU, {8192, 8192, 512}},
    {&qn_op_linear, QN_BF16, PLAIN, GPU, {1000, 1000, 1000}},
    {&qn_op_linear, QN_BF16, PLAIN, GPU, {8191, 4095, 777}},
    {&qn_op_linear, QN_BF16, PLAIN, GPU, {1, 4096, 4096}},
    {&qn_op_linear, QN_BF16, PLAIN, GPU, {64, 4096, 4096}},
    {&qn_op_attention, QN_BF16, FULL, GPU, {4, 16, 16, 4096, 128}},
    {&qn_op_attention, QN_BF16, CAUSAL, GPU, {1, 32, 8, 8192, 128}},
    {&qn_op_attention_bwd, QN_BF16, CAUSAL, GPU, {1, 32, 8, 8192, 128}},
    {&qn_op_layernorm, QN_BF16, PLAIN, GPU, {16384, 1600}},
    {&qn_op_rmsnorm, QN_BF16, PLAIN, GPU, {8192, 8192}},

    {&qn_op_linear, QN_F32, PLAIN, HOST, {1024, 1024, 1024}},
    {&qn_op_linear, QN_BF16, PLAIN, HOST, {1024, 1024, 1024}},
    {&qn_op_linear, QN_F32, BIAS, HOST, {1024, 2304, 768}},
    {&qn_op_linear, QN_F32, GELU, HOST, {1024, 3072, 768}},
    {&qn_op_linear, QN_BF16, GELU, HOST, {1024, 3072, 768}},
    {&qn_op_linear_bwd_input, QN_F32, PLAIN, HOST, {1024, 3072, 768}},
    {&qn_op_linear_bwd_weight, QN_F32, BIAS, HOST, {1024, 3072, 768}},
    {&qn_op_attention, QN_F32, CAUSAL, HOST, {1, 12, 12, 1024, 64}},
    {&qn_op_attention_bwd, QN_F32, CAUSAL, HOST, {1, 12, 12, 1024, 64}},
    {&qn_op_layernorm, QN_F32, RESIDUAL, HOST, {1024, 768}},
    {&qn_op_layernorm_bwd, QN_F32, RESIDUAL, HOST, {1024, 768}},
    {&qn_op_rmsnorm, QN_F32, PLAIN, HOST, {1024, 768}},
    {&qn_op_activation, QN_F32, GELU, HOST, {1024, 3072}},
    {&qn_op_activation_bwd, QN_F32, GELU, HOST, {1024, 3072}},
    {&qn_op_swiglu, QN_F32, PLAIN, HOST, {1024, 2048}},
    {&qn_op_rope, QN_F32, PLAIN, HOST, {1, 1024, 12, 64}},
    {&qn_op_dropout, QN_F32, PLAIN, HOST, {1024, 768}},
    {&qn_op_softmax, QN_F32, PLAIN, HOST, {1024, 1024}},
    {&qn_op_cross_entropy, QN_F32, PLAIN, HOST, {512, 50304}},
    {&qn_op_embedding, QN_F32, PLAIN, HOST, {1024, 50304, 768}},
    {&qn_op_embedding_bwd, QN_F32, PLAIN, HOST, {1024, 50304, 768}},
    {&qn_op_adamw, QN_F32, PLAIN, HOST, {7087872}},
    {&qn_op_grad_norm, QN_F32, PLAIN, HOST, {7087872}},
    {&qn_op_add, QN_F32, PLAIN, HOST, {1024, 3072}},
    {&qn_op_cast, QN_F32, PLAIN, HOST, {1024, 3072}},
    {&qn_op_reduce, QN_F32, PLAIN, HOST, {1024, 3072}},

    {&qn_op_linear, QN_BF16, PLAIN, TINY, {64, 64, 64}},
    {&qn_op_linear, QN_F32, PLAIN, TINY, {64, 64, 64}},
    {&qn_op_linear, QN_BF16, BIAS, TINY, {33, 17, 40}},
    {&qn_op_linear, QN_BF16, GELU, TINY, {32, 64, 16}},
    {&qn_op_linear, QN_BF16, RESIDUAL, TINY, {32, 16, 64}},
    {&qn_op_linear_bwd_input, QN_BF16, PLAIN, TINY, {32, 64, 16}},
    {&qn_op_linear_bwd_weight, QN_BF16, BIAS, TINY, {32, 64, 16}},
    {&qn_op_attention, QN_BF16, CAUSAL, TINY, {1, 2, 1, 40, 32}},
    {&qn_op_attention_bwd, QN_BF16, CAUSAL, TINY, {1, 2, 1, 40, 32}},
    {&qn_op_attention, QN_F32, FULL, TINY, {1, 1, 1, 17, 32}},
    {&qn_op_layernorm, QN_BF16, RESIDUAL, TINY, {8, 96}},
    {&qn_op_layernorm_bwd, QN_BF16, RESIDUAL, TINY, {8, 96}},
    {&qn_op_rmsnorm, QN_BF16, PLAIN, TINY, {8, 96}},
    {&qn_op_rmsnorm_bwd, QN_BF16, PLAIN, TINY, {8, 96}},
    {&qn_op_activation, QN_BF16, GELU, TINY, {8, 64}},
    {&qn_op_activation_bwd, QN_BF16, GELU, TINY, {8, 64}},
    {&qn_op_swiglu, QN_BF16, PLAIN, TINY, {8, 64}},
    {&qn_op_swiglu_bwd, QN_BF16, PLAIN, TINY, {8, 64}},
    {&qn_op_rope, QN_BF16, PLAIN, TINY, {1, 8, 2, 32}},
    {&qn_op_dropout, QN_BF16, PLAIN, TINY, {8, 64}},
    {&qn_op_softmax, QN_BF16, PLAIN, TINY, {8, 65}},
    {&qn_op_cross_entropy, QN_BF16, PLAIN, TINY, {8, 129}},
    {&qn_op_linear_cross_entropy, QN_BF16, PLAIN, TINY, {16, 65, 32}},
    {&qn_op_embedding, QN_BF16, PLAIN, TINY, {16, 40, 32}},
    {&qn_op_embedding_bwd, QN_BF16, PLAIN, TINY, {16, 40, 32}},
    {&qn_op_adamw, QN_BF16, MASTER, TINY, {1000}},
    {&qn_op_adamw, QN_F32, PLAIN, TINY, {1000}},
    {&qn_op_grad_norm, QN_F32, PLAIN, TINY, {1000}},
    {&qn_op_add, QN_BF16, PLAIN, TINY, {8, 64}},
    {&qn_op_cast, QN_F32, PLAIN, TINY, {8, 64}},
    {&qn_op_reduce, QN_F32, PLAIN, TINY, {8, 64}},
};
/* clang-format on */
enum { N_ROWS = sizeof rows / sizeof *rows };

/* ---- operands -------------------------------------------------------------------------------- */

static void put(qn_measure_case *c, int slot, qn_dtype dt, int ndim, const int64_t *shape) {
    qn_measure_input *in = &c->in[slot];
    *in = (qn_measure_input){.present = true, .dtype = dt, .ndim = ndim};
    for (int i = 0; i < ndim; i++) in->shape[i] = shape[i];
    in->value = 0.02;
}

static void put_value(qn_measure_case *c, int slot, qn_dtype dt, int ndim, const int64_t *shape,
                      double value) {
    put(c, slot, dt, ndim, shape);
    c->in[slot].fill = QN_MEASURE_VALUE;
    c->in[slot].value = value;
}

static void put_ids(qn_measure_case *c, int slot, int64_t count, int64_t limit) {
    put(c, slot, QN_I32, QN_SHAPE(count));
    c->in[slot].fill = QN_MEASURE_IDS;
    c->in[slot].value = (double)limit;
}

/* ---- families -------------------------------------------------------------------------------- */

static void linear(qn_measure_case *c, const row *r) {
    const int64_t *n = r->size;
    put(c, 0, r->dtype, QN_SHAPE(n[0], n[2]));
    put(c, 1, r->dtype, QN_SHAPE(n[1], n[2]));
    if (r->flag != PLAIN) put(c, 2, r->dtype, QN_SHAPE(n[1]));
    if (r->flag == RESIDUAL) put(c, 3, r->dtype, QN_SHAPE(n[0], n[1]));
    if (r->flag == GELU) {
        c->attrs.linear.activation = QN_ACT_GELU_TANH;
        c->want_out = 2;
    }
}

static void linear_bwd_input(qn_measure_case *c, const row *r) {
    const int64_t *n = r->size;
    put(c, 0, r->dtype, QN_SHAPE(n[0], n[1]));
    put(c, 1, r->dtype, QN_SHAPE(n[1], n[2]));
}

static void linear_bwd_weight(qn_measure_case *c, const row *r) {
    const int64_t *n = r->size;
    put(c, 0, r->dtype, QN_SHAPE(n[0], n[2]));
    put(c, 1, r->dtype, QN_SHAPE(n[0], n[1]));
    c->want_out = r->flag == BIAS ? 3 : 1;
    c->f32_out = 3;
}

static void attention(qn_measure_case *c, const row *r) {
    const int64_t *n = r->size;
    put(c, 0, r->dtype, QN_SHAPE(n[0], n[3], n[1], n[4]));
    put(c, 1, r->dtype, QN_SHAPE(n[0], n[3], n[2], n[4]));
    put(c, 2, r->dtype, QN_SHAPE(n[0], n[3], n[2], n[4]));
    c->attrs.attention.causal = r->flag == CAUSAL;
    c->want_out = 2;
}

static void attention_bwd(qn_measure_case *c, const row *r) {
    const int64_t *n = r->size;
    attention(c, r);
    put(c, 6, r->dtype, QN_SHAPE(n[0], n[3], n[1], n[4]));
    /* With scores near 0 the log of a sum over T keys; every weight is then at most about 1. */
    put_value(c, 7, QN_F32, QN_SHAPE(n[0], n[1], n[3]), log((double)n[3]));
    put(c, 8, r->dtype, QN_SHAPE(n[0], n[3], n[1], n[4]));
    c->want_out = 7;
}

static void norm(qn_measure_case *c, const row *r) {
    const int64_t *n = r->size;
    bool rms = r->op == &qn_op_rmsnorm;
    put(c, 0, r->dtype, QN_SHAPE(n[0], n[1]));
    if (r->flag == RESIDUAL) put(c, 1, r->dtype, QN_SHAPE(n[0], n[1]));
    put_value(c, 2, r->dtype, QN_SHAPE(n[1]), 1.0);
    if (!rms) put(c, 3, r->dtype, QN_SHAPE(n[1]));
    c->attrs.norm.eps = 1e-5;
    c->want_out = (r->flag == RESIDUAL ? 2u : 0u) | 4u | (rms ? 0u : 8u);
}

static void norm_bwd(qn_measure_case *c, const row *r) {
    const int64_t *n = r->size;
    bool rms = r->op == &qn_op_rmsnorm_bwd;
    put(c, 0, r->dtype, QN_SHAPE(n[0], n[1]));
    put(c, 1, r->dtype, QN_SHAPE(n[0], n[1]));
    put_value(c, 2, r->dtype, QN_SHAPE(n[1]), 1.0);
    int k = 3;
    if (!rms) put(c, k++, QN_F32, QN_SHAPE(n[0]));
    put_value(c, k++, QN_F32, QN_SHAPE(n[0]), 50.0); /* of N(0, 0.02^2) */
    if (r->flag == RESIDUAL) put(c, k, r->dtype, QN_SHAPE(n[0], n[1]));
    c->attrs.norm.eps = 1e-5;
    c->want_out = rms ? 3 : 7;
    c->f32_out = 6;
}

static void rows_of(qn_measure_case *c, const row *r) { /* every input (rows, width) */
    for (int k = 0; k < r->op->n_in; k++) put(c, k, r->dtype, QN_SHAPE(r->size[0], r->size[1]));
    if (r->op == &qn_op_swiglu_bwd) c->want_out = 3;
    if (r->flag == GELU) c->attrs.activation.kind = QN_ACT_GELU_TANH;
    if (r->op == &qn_op_cast) c->attrs.cast.dtype = QN_BF16;
    if (r->op == &qn_op_reduce)
        c->attrs.reduce = (qn_reduce_attrs){.kind = QN_SUM, .axis = QN_ALL_AXES};
}

static void rope(qn_measure_case *c, const row *r) {
    put(c, 0, r->dtype, QN_SHAPE(r->size[0], r->size[1], r->size[2], r->size[3]));
    c->attrs.rope = qn_rope_plain(10000.0, r->size[3]);
}

static void dropout(qn_measure_case *c, const row *r) {
    put(c, 0, r->dtype, QN_SHAPE(r->size[0], r->size[1]));
    put_value(c, 1, QN_I64, QN_SHAPE(2), 0.0);
    c->attrs.dropout.p = 0.1;
}

static void cross_entropy(qn_measure_case *c, const row *r) {
    put(c, 0, r->dtype, QN_SHAPE(r->size[0], r->size[1]));
    put_ids(c, 1, r->size[0], r->size[1]);
    put_value(c, 2, QN_F32, 0, NULL, 1.0 / (double)r->size[0]);
    c->attrs.loss.ignore_index = -100;
    c->want_out = 2;
}

static void linear_cross_entropy(qn_measure_case *c, const row *r) {
    const int64_t *n = r->size;
    put(c, 0, r->dtype, QN_SHAPE(n[0], n[2]));
    put(c, 1, r->dtype, QN_SHAPE(n[1], n[2]));
    put_ids(c, 3, n[0], n[1]);
    put_value(c, 4, QN_F32, 0, NULL, 1.0 / (double)n[0]);
    c->attrs.loss.ignore_index = -100;
    c->want_out = 6;
    c->f32_out = 4;
}

static void embedding(qn_measure_case *c, const row *r) {
    put_ids(c, 0, r->size[0], r->size[1]);
    put(c, 1, r->dtype, QN_SHAPE(r->size[1], r->size[2]));
}

static void embedding_bwd(qn_measure_case *c, const row *r) {
    put(c, 0, r->dtype, QN_SHAPE(r->size[0], r->size[2]));
    put_ids(c, 1, r->size[0], r->size[1]);
    put(c, 2, r->dtype, QN_SHAPE(r->size[1], r->size[2]));
    c->want_out = 1;
    c->f32_out = 1;
}

static void adamw(qn_measure_case *c, const row *r) {
    const int64_t n = r->size[0];
    put(c, 0, r->dtype, QN_SHAPE(n));
    if (r->flag == MASTER) put(c, 1, QN_F32, QN_SHAPE(n));
    put(c, 2, QN_F32, QN_SHAPE(n));
    put(c, 3, QN_F32, QN_SHAPE(n));
    put_value(c, 4, QN_F32, QN_SHAPE(n), 1e-4);
    put_value(c, 5, QN_F64, QN_SHAPE(2), 1e-3);             /* the rate; the count is advanced */
    put_value(c, 6, QN_F64, QN_SHAPE(QN_GUARD_STATE), 1.0); /* apply, and a clip factor of 1 */
    c->attrs.update = (qn_update_attrs){.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    c->update_size = n;
}

static void grad_norm(qn_measure_case *c, const row *r) {
    put(c, 0, QN_F32, QN_SHAPE(r->size[0]));
    c->update_size = r->size[0];
}

static const struct {
    const qn_op *op;
    void (*build)(qn_measure_case *c, const row *r);
} families[] = {
    {&qn_op_linear, linear},
    {&qn_op_linear_bwd_input, linear_bwd_input},
    {&qn_op_linear_bwd_weight, linear_bwd_weight},
    {&qn_op_attention, attention},
    {&qn_op_attention_bwd, attention_bwd},
    {&qn_op_layernorm, norm},
    {&qn_op_rmsnorm, norm},
    {&qn_op_layernorm_bwd, norm_bwd},
    {&qn_op_rmsnorm_bwd, norm_bwd},
    {&qn_op_rope, rope},
    {&qn_op_dropout, dropout},
    {&qn_op_cross_entropy, cross_entropy},
    {&qn_op_linear_cross_entropy, linear_cross_entropy},
    {&qn_op_embedding, embedding},
    {&qn_op_embedding_bwd, embedding_bwd},
    {&qn_op_adamw, adamw},
    {&qn_op_grad_norm, grad_norm},
};

/* ---- the list -------------------------------------------------------------------------------- */

static void build(const row *r, qn_measure_case *c) {
    *c = (qn_measure_case){.op = r->op, .dtype = r->dtype};
    int length = 0;
    for (int i = 0; i < MAX_SIZES && r->size[i] > 0; i++) {
        length += snprintf(c->shape + length, sizeof c->shape - (size_t)length, "%s%lld",
                           i ? "x" : "", (long long)r->size[i]);
    }
    snprintf(c->shape + length, sizeof c->shape - (size_t)length, "%s", flag_names[r->flag]);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (families[i].op == r->op) {
            families[i].build(c, r);
            return;
        }
    }
    rows_of(c, r);
}

int qn_measure_case_count(qn_measure_scale scale) {
    int n = 0;
    for (int i = 0; i < N_ROWS; i++) n += (rows[i].scales >> scale & 1u) != 0;
    return n;
}

void qn_measure_case_get(qn_measure_scale scale, int i, qn_measure_case *out) {
    int at = 0;
    while (!(rows[at].scales >> scale & 1u) || i-- > 0) at++;
    build(&rows[at], out);
}

bool qn_measure_case_matches(const qn_measure_case *c, const char *pattern) {
    if (strcmp(c->op->name, pattern) == 0) return true;
    if (qn_op_find(pattern)) return false; /* another op's name, which this one's may contain */
    char text[160];
    snprintf(text, sizeof text, "%s %s %s", c->op->name, c->shape, qn_dtype_name(c->dtype));
    return strstr(text, pattern) != NULL;
}
