/* activation.cu — activations and the gated SwiGLU, with their gradients.
 *
 * Strategy, traffic and limits: walk.cuh. gate and up may be two halves of one tensor: they are
 * views. A gradient may take the storage of an operand: a thread reads its elements before it
 * writes. About 20 to 40 instructions an element for exp and erf, so that the exact GELU in bf16
 * is close to the issue limit (132 SMs x 128 lanes x 1.7 GHz against 4 bytes an element).
 */
#include "kernels/activation.cuh"
#include "kernels/walk.cuh"

struct activation_map {
    qn_activation kind;
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[1][V], const float (&x)[1][V], int64_t) const {
#pragma unroll
        for (int e = 0; e < V; e++) y[0][e] = act_f32(kind, x[0][e]);
    }
};

struct activation_bwd_map { /* dy, x */
    qn_activation kind;
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[1][V], const float (&x)[2][V], int64_t) const {
#pragma unroll
        for (int e = 0; e < V; e++) y[0][e] = x[0][e] * act_slope_f32(kind, x[1][e]);
    }
};

struct swiglu_map { /* gate, up */
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[1][V], const float (&x)[2][V], int64_t) const {
#pragma unroll
        for (int e = 0; e < V; e++) y[0][e] = act_f32(QN_ACT_SILU, x[0][e]) * x[1][e];
    }
};

struct swiglu_bwd_map { /* dy, gate, up to dgate, dup */
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[2][V], const float (&x)[3][V], int64_t) const {
#pragma unroll
        for (int e = 0; e < V; e++) {
            float dy = x[0][e], g = x[1][e], s = sigmoid_f32(g), silu = g * s;
            y[0][e] = dy * x[2][e] * (s + silu * (1.0f - s));
            y[1][e] = dy * silu;
        }
    }
};

static qn_activation kind_of(const qn_call *c) {
    return ((const qn_activation_attrs *)c->attrs)->kind;
}

static qn_status run_activation(const qn_call *c) {
    const qn_tensor *t[] = {c->in[0], c->out[0]};
    return walk_dispatch<1, 1>(c, c->in[0], t, activation_map{kind_of(c)});
}

static qn_status run_activation_bwd(const qn_call *c) {
    const qn_tensor *t[] = {c->in[0], c->in[1], c->out[0]};
    return walk_dispatch<2, 1>(c, c->in[0], t, activation_bwd_map{kind_of(c)});
}

static qn_status run_swiglu(const qn_call *c) {
    const qn_tensor *t[] = {c->in[0], c->in[1], c->out[0]};
    return walk_dispatch<2, 1>(c, c->in[0], t, swiglu_map{});
}

static qn_status run_swiglu_bwd(const qn_call *c) {
    const qn_tensor *t[] = {c->in[0], c->in[1], c->in[2], c->out[0], c->out[1]};
    return walk_dispatch<3, 2>(c, c->in[0], t, swiglu_bwd_map{});
}

extern "C" const qn_cuda_body qn_cuda_activation[] = {
    {"activation", QN_REAL_DTYPES, run_activation},
    {"activation_bwd", QN_REAL_DTYPES, run_activation_bwd},
    {"swiglu", QN_REAL_DTYPES, run_swiglu},
    {"swiglu_bwd", QN_REAL_DTYPES, run_swiglu_bwd},
    {NULL},
};
