/* elementwise.cu — add, sub, mul, div with broadcasting; scale; unary functions and their
 * gradients; fill.
 *
 * Strategy, traffic and limits: walk.cuh. The kind of a function is a run-time switch, the same for
 * the whole grid: these kernels wait for memory, and one instance serves all kinds.
 * Precision: f32 arithmetic; exp and log are CUDA's expf and logf (at most 2 ulp), division and
 * square root are correctly rounded.
 */
#include "kernels/walk.cuh"

#include <string.h>

/* ---- functions ------------------------------------------------------------------------------- */

enum binary { ADD, SUB, MUL, DIV };

struct binary_map {
    binary kind;
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[1][V], const float (&x)[2][V], int64_t) const {
#pragma unroll
        for (int e = 0; e < V; e++) {
            float a = x[0][e], b = x[1][e];
            y[0][e] = kind == ADD ? a + b : kind == SUB ? a - b : kind == MUL ? a * b : a / b;
        }
    }
};

struct scale_map {
    float factor, shift;
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[1][V], const float (&x)[1][V], int64_t) const {
#pragma unroll
        for (int e = 0; e < V; e++) y[0][e] = fmaf(factor, x[0][e], shift);
    }
};

QN_DEV float unary_value(qn_unary kind, float x) {
    switch (kind) {
    case QN_NEG: return -x;
    case QN_EXP: return expf(x);
    case QN_LOG: return logf(x);
    case QN_SQRT: return sqrtf(x);
    case QN_SQUARE: return x * x;
    default: return fabsf(x);
    }
}

QN_DEV float unary_slope(qn_unary kind, float x) {
    switch (kind) {
    case QN_NEG: return -1.0f;
    case QN_EXP: return expf(x);
    case QN_LOG: return 1.0f / x;
    case QN_SQRT: return 0.5f / sqrtf(x);
    case QN_SQUARE: return 2.0f * x;
    default: return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; /* 0 at 0, NaN stays NaN */
    }
}

struct unary_map {
    qn_unary kind;
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[1][V], const float (&x)[1][V], int64_t) const {
#pragma unroll
        for (int e = 0; e < V; e++) y[0][e] = unary_value(kind, x[0][e]);
    }
};

struct unary_bwd_map { /* x[0] is dy */
    qn_unary kind;
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[1][V], const float (&x)[2][V], int64_t) const {
#pragma unroll
        for (int e = 0; e < V; e++) y[0][e] = x[0][e] * unary_slope(kind, x[1][e]);
    }
};

/* ---- launchers ------------------------------------------------------------------------------- */

static qn_status run_binary(const qn_call *c, binary kind) {
    const qn_tensor *t[] = {c->in[0], c->in[1], c->out[0]};
    return walk_dispatch<2, 1>(c, c->out[0], t, binary_map{kind});
}
static qn_status run_add(const qn_call *c) { return run_binary(c, ADD); }
static qn_status run_sub(const qn_call *c) { return run_binary(c, SUB); }
static qn_status run_mul(const qn_call *c) { return run_binary(c, MUL); }
static qn_status run_div(const qn_call *c) { return run_binary(c, DIV); }

static qn_status run_scale(const qn_call *c) {
    const qn_scale_attrs *a = (const qn_scale_attrs *)c->attrs;
    const qn_tensor *t[] = {c->in[0], c->out[0]};
    return walk_dispatch<1, 1>(c, c->out[0], t, scale_map{(float)a->factor, (float)a->shift});
}

static qn_unary unary_of(const qn_call *c) { return ((const qn_unary_attrs *)c->attrs)->kind; }

static qn_status run_unary(const qn_call *c) {
    const qn_tensor *t[] = {c->in[0], c->out[0]};
    return walk_dispatch<1, 1>(c, c->out[0], t, unary_map{unary_of(c)});
}

static qn_status run_unary_bwd(const qn_call *c) {
    const qn_tensor *t[] = {c->in[0], c->in[1], c->out[0]};
    return walk_dispatch<2, 1>(c, c->out[0], t, unary_bwd_map{unary_of(c)});
}

/* ---- fill ------------------------------------------------------------------------------------ */

struct constant_map {
    float value;
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[1][V], const float (&)[1][V], int64_t) const {
#pragma unroll
        for (int e = 0; e < V; e++) y[0][e] = value;
    }
};

/* Dense: the pattern of one element, written 16 bytes at a time; the rest byte by byte. */
__global__ void __launch_bounds__(QN_WALK_THREADS)
    k_fill(unsigned char *y, int64_t bytes, uint4 pattern) {
    const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, vectors = bytes / 16;
    const int64_t step = (int64_t)gridDim.x * blockDim.x, tail = vectors * 16 + first;
    for (int64_t i = first; i < vectors; i += step) ((uint4 *)y)[i] = pattern;
    if (tail < bytes) y[tail] = (unsigned char)((&pattern.x)[first % 16 / 4] >> first % 4 * 8);
}

static uint4 pattern_of(qn_dtype dt, double value) {
    unsigned char one[8], all[16];
    size_t bytes = 4;
    float f = (float)value;
    int32_t i = (int32_t)value;
    int64_t l = (int64_t)value;
    bf16 h = __float2bfloat16_rn(f);
    switch (dt) {
    case QN_F64: memcpy(one, &value, bytes = 8); break;
    case QN_I64: memcpy(one, &l, bytes = 8); break;
    case QN_I32: memcpy(one, &i, bytes = 4); break;
    case QN_BF16: memcpy(one, &h, bytes = 2); break;
    case QN_U8: one[0] = (unsigned char)i, bytes = 1; break;
    default: memcpy(one, &f, bytes = 4); break;
    }
    for (size_t k = 0; k < sizeof all; k++) all[k] = one[k % bytes];
    uint4 p;
    memcpy(&p, all, sizeof p);
    return p;
}

static qn_status fill_strided(const qn_call *c, double value) {
    const qn_tensor *t[] = {c->out[0]};
    walk w = walk_make(c->out[0], 1, t);
    constant_map f = {(float)value};
    if (c->out[0]->dtype == QN_F32) {
        walk_launch<float, float, 0, 1>(c, w, f, 0);
    } else if (c->out[0]->dtype == QN_BF16) {
        walk_launch<bf16, bf16, 0, 1>(c, w, f, 0);
    } else {
        return qn_fail(QN_ERR_DTYPE, "fill: no CUDA kernel for a strided tensor of this dtype");
    }
    return launched(c);
}

static qn_status run_fill(const qn_call *c) {
    const qn_fill_attrs *a = (const qn_fill_attrs *)c->attrs;
    const qn_tensor *y = c->out[0];
    const qn_tensor *t[] = {y};
    walk w = walk_make(y, 1, t);
    if (w.n_outer > 0 || w.step[0] > 1) return fill_strided(c, a->value);
    int64_t bytes = dtype_bytes(y->dtype) * tensor_count(y);
    if (bytes == 0) return QN_OK;
    int64_t blocks = div_up(bytes, 16 * QN_WALK_THREADS);
    if (blocks > QN_WALK_BLOCKS) blocks = QN_WALK_BLOCKS;
    k_fill<<<(unsigned)blocks, QN_WALK_THREADS, 0, stream_of(c)>>>((unsigned char *)y->data, bytes,
                                                                   pattern_of(y->dtype, a->value));
    return launched(c);
}

extern "C" const qn_cuda_body qn_cuda_elementwise[] = {
    {"add", QN_REAL_DTYPES, run_add},
    {"sub", QN_REAL_DTYPES, run_sub},
    {"mul", QN_REAL_DTYPES, run_mul},
    {"div", QN_REAL_DTYPES, run_div},
    {"scale", QN_REAL_DTYPES, run_scale},
    {"unary", QN_REAL_DTYPES, run_unary},
    {"unary_bwd", QN_REAL_DTYPES, run_unary_bwd},
    {"fill", ~(uint32_t)QN_DTYPE_BIT(QN_F16), run_fill},
    {NULL},
};
