/* op_shared.h — what the op families share: shape checks, REF stores, spans of elementwise work.
 *
 * A *span* is a run of up to QNI_SPAN elements that is dense (or one repeated element) in every
 * tensor of an elementwise call. qni_walk_run cuts a call into spans and the spans into tasks, by
 * shape alone; bodies then see plain float rows, whatever the strides and whether stored as f32 or
 * bf16.
 */
#ifndef QN_OP_SHARED_H
#define QN_OP_SHARED_H

#include "engine/vecmath.h"

/* ---- infer ----------------------------------------------------------------------------------- */

/* Describes out[slot], if present, as a contiguous tensor. */
void qni_describe(qn_call *c, int slot, qn_dtype dt, int ndim, const int64_t *shape);
void qni_describe_like(qn_call *c, int slot, const qn_tensor *like);

/* Errors name the op, the slot, what it is and what it should be: "swiglu: up is f32[3], gate is
 * f32[4]". Absent slots pass. */
qn_status qni_require_same_shape(const qn_call *c, int slot, int as) QN_CHECKED;
/* in[0] is f32, f64 or bf16 (f16 only for conversions) and the inputs in the mask have its
 * dtype. */
qn_status qni_require_float(const qn_call *c, uint32_t slots) QN_CHECKED;
qn_status qni_require_axis(const qn_call *c, int slot) QN_CHECKED; /* in[slot] is no scalar */
/* in[slot], if present, is a vector as long as in[of]'s last axis. */
qn_status qni_require_last_axis(const qn_call *c, int slot, int of) QN_CHECKED;
/* in[slot], if present, is i32 of one element or of `batch`: the position of each first token. */
qn_status qni_require_start(const qn_call *c, int slot, int64_t batch) QN_CHECKED;

/* ---- cost ------------------------------------------------------------------------------------ */

/* Every operand once, an accumulated output twice; flops per element of in[0], or of out[0]
 * without. */
void qni_cost(const qn_call *c, qn_cost *cost, double flops_per_element);

/* ---- REF ------------------------------------------------------------------------------------- */

static inline bool qni_adds(const qn_call *c, int slot) { return c->accumulate >> slot & 1u; }

/* Position of sample b's first token; 0 where the slot is absent. */
static inline int64_t qni_start(const qn_call *c, int slot, int64_t b) {
    const qn_tensor *s = c->in[slot];
    return s ? qn_tensor_get_int(s, qn_tensor_count(s) == 1 ? 0 : b) : 0;
}

/* out[slot][i] = v, or += v where the call accumulates. */
static inline void qni_put(const qn_call *c, int slot, int64_t i, double v) {
    if (qni_adds(c, slot)) v += qn_tensor_get(c->out[slot], i);
    qn_tensor_set(c->out[slot], i, v);
}

/* ---- spans ----------------------------------------------------------------------------------- */

enum { QNI_SPAN = 1024, QNI_WALK_TENSORS = 6 };

typedef struct qni_walk qni_walk;
/* offset[k]: first element of the span in tensor k; index: its row-major number; n <= QNI_SPAN. */
typedef void qni_span(const qni_walk *w, const int64_t *offset, int64_t index, int64_t n);

struct qni_walk {
    const qn_call *call;
    int n;
    qn_tensor t[QNI_WALK_TENSORS]; /* one shape for all; stride 0 repeats an element */
    bool repeats[QNI_WALK_TENSORS];
    int64_t length; /* elements of a dense run */
    qni_span *body;
};

/* Runs body over all elements of tensors[0..n): views of equal shape, NULL where absent. */
void qni_walk_run(const qn_call *call, int n, const qn_tensor *const *tensors, qni_span *body);

/* Tensor k's span as floats: in place when it is dense f32, else converted into buffer. */
static inline const float *qni_load(const qni_walk *w, int k, const int64_t *offset, int64_t n,
                                    float *buffer) {
    if (!w->repeats[k]) return qn_row_load(w->t[k].data, w->t[k].dtype, offset[k], n, buffer);
    float one, v = *qn_row_load(w->t[k].data, w->t[k].dtype, offset[k], 1, &one);
    for (int64_t i = 0; i < n; i++) buffer[i] = v;
    return buffer;
}

/* Where to compute tensor k's span; qni_store then converts or adds it to its place. */
static inline float *qni_dest(const qni_walk *w, int k, const int64_t *offset, bool adds,
                              float *buffer) {
    return adds ? buffer : qn_row_open(w->t[k].data, w->t[k].dtype, offset[k], buffer);
}

/* data[offset...] (+)= row, for a row that came from qni_dest or lies elsewhere. */
void qni_store_row(void *data, qn_dtype dt, int64_t offset, int64_t n, const float *row, bool adds);

static inline void qni_store(const qni_walk *w, int k, const int64_t *offset, int64_t n,
                             const float *row, bool adds) {
    if (adds || w->t[k].dtype != QN_F32) {
        qni_store_row(w->t[k].data, w->t[k].dtype, offset[k], n, row, adds);
    }
}

/* ---- random rows ----------------------------------------------------------------------------- */

enum { QNI_DRAWS = QNI_SPAN + 8 };

/* Philox words of elements first .. first + n - 1, n <= QNI_SPAN; buffer has QNI_DRAWS places.
 * Returns where in the buffer the word of `first` is. Word for word qn_random_u32. */
const uint32_t *qni_draw_row(uint64_t key, uint64_t step, uint64_t first, int64_t n,
                             uint32_t *buffer);

#endif
