/* ops.h — every operation: its row, its attributes and the function that records it.
 *
 * Recording functions take values and return values (see tape.h); `op_x.c` of the same family holds
 * the shape rule, the plain-C meaning, the CPU body, the gradient and the cost. Letters: B batch,
 * T time, C channels, H heads, D head size, N rows, V vocabulary. Unless a contract says otherwise:
 * floating inputs of one call share one dtype (f32, f64 or bf16), outputs have it too, arithmetic
 * is f32 for f32 and bf16 (one rounding at the store) and f64 for f64, results are bitwise the same
 * at any thread count, and inputs are not modified.
 */
#ifndef QN_OPS_H
#define QN_OPS_H

#include "engine/tape.h"
#include "kernels/attrs.h"

/* ---- the list: one row per op, found by name in traces, tests and benchmarks ----------------- */

/* clang-format off */
#define QN_OP_MAP(X)                                                                              \
    X(add) X(sub) X(mul) X(div) X(scale) X(unary) X(unary_bwd) X(fill)                            \
    X(reduce) X(reduce_bwd) X(cast) X(copy) X(concat)                                             \
    X(linear) X(linear_adapted) X(adapted_norm)                                                   \
    X(linear_bwd_input) X(linear_bwd_weight) X(matmul)                                            \
    X(embedding) X(embedding_bwd) X(layernorm) X(layernorm_bwd) X(rmsnorm) X(rmsnorm_bwd)         \
    X(attention) X(attention_bwd) X(cache_write) X(activation) X(activation_bwd)                  \
    X(swiglu) X(swiglu_bwd) X(rope) X(pool_tokens) X(pool_tokens_bwd)                             \
    X(dropout) X(softmax) X(softmax_bwd)                                                          \
    X(cross_entropy) X(linear_cross_entropy) X(mse)                                               \
    X(binary_cross_entropy) X(accuracy) X(confusion)                                              \
    X(grad_norm) X(guard) X(adamw) X(sgd)
/* clang-format on */

#define QNI_X(name) extern const qn_op qn_op_##name;
QN_OP_MAP(QNI_X)
#undef QNI_X

const qn_op *qn_op_find(const char *name);
extern const qn_op *const qn_op_table[]; /* NULL-terminated, in QN_OP_MAP order */

/* ---- op_elementwise.c ------------------------------------------------------------------------ */

/* y = a (op) b with numpy broadcasting. Gradients are summed over broadcast axes. */
qn_value *qn_add(qn_tape *t, qn_value *a, qn_value *b);
qn_value *qn_sub(qn_tape *t, qn_value *a, qn_value *b);
qn_value *qn_mul(qn_tape *t, qn_value *a, qn_value *b);
qn_value *qn_div(qn_tape *t, qn_value *a, qn_value *b);

qn_value *qn_scale(qn_tape *t, qn_value *x, double factor, double shift); /* y = factor*x + shift */

qn_value *qn_unary_op(qn_tape *t, qn_value *x, qn_unary kind);

qn_value *qn_fill(qn_tape *t, qn_dtype dt, int ndim, const int64_t *shape, double value);
/* Overwrites given storage (op row `fill` on an existing value). */
qn_status qn_fill_into(qn_tape *t, qn_value *dst, double value) QN_CHECKED;

/* ---- op_reduce.c ----------------------------------------------------------------------------- */

/* Over one axis or all; f32 accumulation in a fixed tree. Max passes its gradient to the first
 * maximum. */
qn_value *qn_reduce(qn_tape *t, qn_value *x, qn_reduction kind, int axis, bool keep);

/* ---- op_shape.c ------------------------------------------------------------------------------ */

qn_value *qn_cast(qn_tape *t, qn_value *x, qn_dtype dt); /* x itself if it has the dtype */
/* A view; one -1 allowed; x contiguous. */
qn_value *qn_reshape(qn_tape *t, qn_value *x, int ndim, const int64_t *shape);
qn_value *qn_transpose(qn_tape *t, qn_value *x, int axis_a, int axis_b);              /* view */
qn_value *qn_slice(qn_tape *t, qn_value *x, int axis, int64_t start, int64_t length); /* view */
qn_value *qn_contiguous(qn_tape *t, qn_value *x);                         /* copy if strided */
qn_value *qn_concat(qn_tape *t, qn_value *const *x, int count, int axis); /* count <= QN_MAX_IN */

/* ---- op_linear.c, op_matmul.c ---------------------------------------------------------------- */

/* "gelu", "gelu_tanh", "relu", ... */
bool qn_activation_parse(const char *name, qn_activation *out);

/* y = act(x w^T + b) + residual.
 *   x (..., K), w (M, K), b (M) or NULL, residual (..., M) or NULL; rows of x and w may be strided.
 * Slots: in x,w,b,residual; out y, pre (= x w^T + b, saved for the gradient unless act is NONE). */
qn_value *qn_linear(qn_tape *t, qn_value *x, qn_value *w, qn_value *b, qn_activation act,
                    qn_value *residual);

/* op_adapter.c: y = act(x w^T + sum over the adapters + b) + residual, where adapter k adds u B^T
 * (Hu et al. 2021, "LoRA") to the columns [first, first + M_k) of y:
 *   u (..., r) = scale * x A^T, recorded by the caller; b (M_k, r); at most QN_ADAPTER_PARTS of
 *   them, which need not cover y. Rows of u and b may be strided. Otherwise as qn_linear.
 * Slots: in x,w,b,residual, then u,b of each adapter; out y, pre. Needs a body of the op on the
 * tape's device: qn_linear_adapted_fused tells; without one record x w^T and each u b^T on top. */
typedef struct qn_adapted_part {
    qn_value *u, *b;
    int64_t first;
} qn_adapted_part;
qn_value *qn_linear_adapted(qn_tape *t, qn_value *x, qn_value *w, qn_value *b, qn_activation act,
                            qn_value *residual, int n, const qn_adapted_part *part);
bool qn_linear_adapted_fused(const qn_tape *t, qn_dtype dt);

/* norm[m] = |w[m,:] + scale (b a)[m,:]|, a constant for the gradient (Liu et al. 2024, "DoRA"); w
 * (M,K), a (r,K), b (M,r). The op adds up |w|^2 + 2 scale p.b + scale^2 b g b in f64 from two small
 * products p = w a^T and g = a a^T, so b a is never made. Slots: in w,p,g,b; out norm. */
qn_value *qn_adapted_norm(qn_tape *t, qn_value *w, qn_value *a, qn_value *b, double scale);

/* y = alpha op(a) op(b), batched over equal leading axes. */
qn_value *qn_matmul(qn_tape *t, qn_value *a, qn_value *b, bool transpose_a, bool transpose_b);

/* ---- op_lookup.c ----------------------------------------------------------------------------- */

/* y[i,:] = table[ids[i],:] (+ positions[position,:]).
 *   ids (...) i32, table (V, C), positions NULL or (P, C): place i of the last axis of ids adds
 *   positions[i + start], start NULL or i32 of one element, or one for each sequence of ids (one
 *   where it is differentiated). Gradient by sorted segments, no atomics. */
qn_value *qn_embedding(qn_tape *t, qn_value *ids, qn_value *table, qn_value *positions,
                       qn_value *start);

/* ---- op_pool_tokens.c ------------------------------------------------------------------------ */

/* y[b,:] = x[b,t,:] of the first or last token of sample b, or the mean over its tokens.
 *   x (B,T,C), documents NULL or (B,T) i32: tokens with a negative one are padding
 * A sample of padding only gives 0. f64 sums in token order. */
qn_value *qn_pool_tokens(qn_tape *t, qn_value *x, qn_value *documents, qn_pooling kind);

/* ---- op_norm.c ------------------------------------------------------------------------------- */

/* h = x + residual (residual may be NULL: h = x); y = (h - mean) rstd w + b over the last axis.
 * Slots: in x,residual,w,b; out y, h (only with residual), mean, rstd (saved; rows, f32 or f64).
 * *sum receives h (x itself without residual). Ba, Kiros, Hinton 2016. */
qn_value *qn_layernorm(qn_tape *t, qn_value *x, qn_value *residual, qn_value *w, qn_value *b,
                       double eps, qn_value **sum);
/* y = h rstd w, rstd = 1/sqrt(mean(h^2) + eps). Zhang and Sennrich 2019. */
qn_value *qn_rmsnorm(qn_tape *t, qn_value *x, qn_value *residual, qn_value *w, double eps,
                     qn_value **sum);

/* ---- op_attention.c -------------------------------------------------------------------------- */

/* o = softmax(scale q k^T + mask) v, tiled with an online softmax (Milakov 2018; Dao 2022); the
 * T x S matrix never exists in memory.
 *   q          (B,T,H,D), a view with contiguous last axis is fine
 *   k, v       (B,S,G,D), likewise; G divides H (grouped queries)
 *   documents  NULL or (B,S) i32: a query sees keys of its own document only (T = S)
 *   start      NULL or i32 of 1 or B elements: query i stands at position start + i (decoding
 *              against a cache), without it at S - T + i; key j stands at position j.
 *   causal: a query sees keys at positions up to its own; with a window the newest `window` of
 *   them.
 *   rng        NULL or i64[2] {step, sample offset} for dropout
 * Slots: in q,k,v,documents,start,rng; out o (B,T,H,D), lse (B,H,T) saved. A query that sees no key
 * gives 0. */
qn_value *qn_attention(qn_tape *t, qn_value *q, qn_value *k, qn_value *v, qn_value *documents,
                       qn_value *start, qn_value *rng, const qn_attention_attrs *attrs);
/* cache[:, start : start+T] = x; cache (B,S,G,D) is updated in place, x (B,T,G,D), start i32 of
 * 1 or B elements. */
qn_value *qn_cache_write(qn_tape *t, qn_value *cache, qn_value *x, qn_value *start);

/* ---- op_activation.c ------------------------------------------------------------------------- */

qn_value *qn_activate(qn_tape *t, qn_value *x, qn_activation kind); /* the gradient needs x */
/* y = silu(gate) * up; gate and up (..., C) may be views of one (..., 2C) value. Shazeer 2020. */
qn_value *qn_swiglu(qn_tape *t, qn_value *gate, qn_value *up);

/* ---- op_rope.c ------------------------------------------------------------------------------- */

/* Rotary embedding in Hugging Face's half-split convention: elements j and j + pairs of a head turn
 * by position * frequency[j], and are multiplied by scale; elements from 2 pairs on stay.
 *   x (B,T,H,D), D >= 2 pairs; positions NULL (0..T-1) or (B,T) i32; start NULL or i32 of 1 or B
 *   elements, added to them.
 * Su et al. 2021. Angles in f64, sin and cos rounded once to the arithmetic type. */
qn_value *qn_rope(qn_tape *t, qn_value *x, qn_value *positions, qn_value *start,
                  const qn_rope_attrs *attrs);
/* Frequencies theta^(-2j/width) for j < width/2; layers/rotary.c has the other kinds. */
qn_rope_attrs qn_rope_plain(double theta, int64_t width);

/* ---- op_dropout.c ---------------------------------------------------------------------------- */

/* y = x m / (1-p), m Bernoulli(1-p) from Philox: key of the scope, counter (step, element), the
 * element index counting the sample offset: element = rng[1] * (elements per sample) + local index,
 * the first axis of x being the samples. The mask is never stored: the gradient is the same op on
 * dy. Keep when u32 >= floor(p 2^32). x itself when p = 0 or the tape is not training. rng i64[2]
 * {step, sample offset}. */
qn_value *qn_dropout(qn_tape *t, qn_value *x, double p, qn_value *rng, const char *site);

/* ---- op_softmax.c ---------------------------------------------------------------------------- */

qn_value *qn_softmax(qn_tape *t, qn_value *x); /* last axis */

/* ---- op_loss.c ------------------------------------------------------------------------------- */

/* loss = inv_n * sum over rows whose target is not ignore_index.
 *   logits (N,V), targets (N) i32, inv_n scalar (f32, f64 in f64 tapes); the loss is a scalar of
 *   inv_n's dtype.
 * The gradient is left in place by the forward call when the loss is the root of the tape. */
qn_value *qn_cross_entropy(qn_tape *t, qn_value *logits, qn_value *targets, qn_value *inv_n,
                           const qn_ce_attrs *attrs);
/* As cross_entropy of x w^T (+ b), never holding more than `chunk` rows of logits; x (N,K),
 * w (V,K). Must be the root of a differentiated tape; dx, dw and db are made in the same pass. */
qn_value *qn_linear_cross_entropy(qn_tape *t, qn_value *x, qn_value *w, qn_value *b,
                                  qn_value *targets, qn_value *inv_n, const qn_ce_attrs *attrs);
/* loss = inv_n * sum (y - target)^2 over the rows of y, target (N, C). A row whose first target is
 * NaN is padding and counts nowhere (sources refuse NaN in data, so NaN marks padding only). */
qn_value *qn_mse(qn_tape *t, qn_value *y, qn_value *target, qn_value *inv_n);
/* loss = inv_n * sum over rows and columns of -y log p - (1 - y) log(1 - p), p = sigmoid(logits);
 * logits and target (N, C), target in [0, 1]. Padding rows as in mse. */
qn_value *qn_binary_cross_entropy(qn_tape *t, qn_value *logits, qn_value *target, qn_value *inv_n);
/* Number of rows whose arg max (first of equals) is the target; f32 scalar; rows with
 * ignore_index count nowhere. */
qn_value *qn_accuracy(qn_tape *t, qn_value *logits, qn_value *targets, int64_t ignore_index);
/* counts[i,j] = number of rows of target i with arg max j; f32 (V,V), exact below 2^24. */
qn_value *qn_confusion(qn_tape *t, qn_value *logits, qn_value *targets, int64_t ignore_index);

/* ---- op_update.c: over the flat parameter arena ---------------------------------------------- */

/* norm = sqrt(sum g^2), f64 accumulation in a fixed tree over the flat gradient; scalar f32. */
qn_value *qn_grad_norm(qn_tape *t, qn_value *grads, const qn_segment *segments, int count);

/* state[APPLY] becomes 0, and stays 0 until the host resets it, when loss or norm is not finite or
 * the loss spikes; state[CLIP] = min(1, clip_norm / (norm + 1e-6)) as
 * torch.nn.utils.clip_grad_norm_. The window learns only from applied steps. */
qn_value *qn_guard(qn_tape *t, qn_value *loss, qn_value *norm, qn_value *state,
                   const qn_guard_attrs *attrs);

/* hyper f64[2] {lr, t} (t counts applied updates from 1, advanced by the op when applied);
 * weights (n) f32|f64|bf16 flat, master (n) f32 or NULL, grads (n) f32|f64, m, v (n).
 * AdamW as torch.optim.AdamW (Loshchilov and Hutter 2019), SGD as torch.optim.SGD; gradients are
 * multiplied by state[CLIP]; nothing is written when state[APPLY] is 0. */
qn_status qn_adamw(qn_tape *t, qn_value *weights, qn_value *master, qn_value *grads, qn_value *m,
                   qn_value *v, qn_value *hyper, qn_value *guard_state, qn_value *rng,
                   const qn_update_attrs *attrs) QN_CHECKED;
qn_status qn_sgd(qn_tape *t, qn_value *weights, qn_value *master, qn_value *grads,
                 qn_value *momentum, qn_value *hyper, qn_value *guard_state, qn_value *rng,
                 const qn_update_attrs *attrs) QN_CHECKED;

#endif
