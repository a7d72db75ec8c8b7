/* adapter.cu — adapted_norm: the length of each row of w + s b a, from w and two small products.
 *
 * A warp has one row: |w|^2 in vectors of 16 bytes where rows start aligned, then
 * 2 s p.b + s^2 b g b with a lane per row of g. Traffic: w once; p and b once, g from cache: K + 2r
 * elements a row.
 * Sums are f32 in a fixed tree, so a row of K elements is exact to about log2(K) roundings.
 */
#include "kernels/common.cuh"

enum { NORM_W, NORM_P, NORM_G, NORM_B, NORM_ROWS = 8 }; /* rows of a block, one per warp */

struct norm_args {
    const void *w, *p, *g, *b;
    void *out;
    int64_t rows, width, rank;
    int64_t w_stride, p_stride, g_stride, b_stride;
    float scale;
};

template <typename T, int V>
__global__ void __launch_bounds__(NORM_ROWS *QN_WARP) k_adapted_norm_fwd(norm_args a) {
    const int lane = threadIdx.x % QN_WARP;
    const int64_t row = (int64_t)blockIdx.x * NORM_ROWS + threadIdx.x / QN_WARP;
    if (row >= a.rows) return;
    const T *w = (const T *)a.w + row * a.w_stride, *p = (const T *)a.p + row * a.p_stride;
    const T *b = (const T *)a.b + row * a.b_stride;
    float square = 0.0f, low = 0.0f;
    for (int64_t k = (int64_t)lane * V; k < a.width; k += QN_WARP * V) {
        float x[V];
        load_run<T, V>(x, w + k);
#pragma unroll
        for (int i = 0; i < V; i++) square += x[i] * x[i];
    }
    for (int64_t i = lane; i < a.rank; i += QN_WARP) {
        const T *g = (const T *)a.g + i * a.g_stride;
        float sum = 0.0f;
        for (int64_t j = 0; j < a.rank; j++) sum += to_f32(g[j]) * to_f32(b[j]);
        low += to_f32(b[i]) * (2.0f * a.scale * to_f32(p[i]) + a.scale * a.scale * sum);
    }
    square = warp_sum(square + low);
    if (lane == 0) ((T *)a.out)[row] = from_f32<T>(sqrtf(fmaxf(square, 0.0f)));
}

/* ---- launcher -------------------------------------------------------------------------------- */

template <typename T> static void launch(const qn_call *c, const norm_args &a) {
    constexpr int V = 16 / sizeof(T);
    const unsigned blocks = (unsigned)div_up(a.rows, NORM_ROWS);
    const bool aligned = a.width % V == 0 && a.w_stride % V == 0 && is_aligned16(a.w);
    if (aligned) {
        k_adapted_norm_fwd<T, V><<<blocks, NORM_ROWS * QN_WARP, 0, stream_of(c)>>>(a);
    } else {
        k_adapted_norm_fwd<T, 1><<<blocks, NORM_ROWS * QN_WARP, 0, stream_of(c)>>>(a);
    }
}

static qn_status run_adapted_norm(const qn_call *c) {
    const qn_tensor *w = c->in[NORM_W], *p = c->in[NORM_P], *g = c->in[NORM_G], *b = c->in[NORM_B];
    norm_args a = {w->data,
                   p->data,
                   g->data,
                   b->data,
                   c->out[0]->data,
                   w->shape[0],
                   w->shape[1],
                   b->shape[1],
                   w->stride[0],
                   p->stride[0],
                   g->stride[0],
                   b->stride[0],
                   (float)((const qn_adapted_norm_attrs *)c->attrs)->scale};
    if (a.rows == 0) return QN_OK;
    if (w->dtype == QN_F32) {
        launch<float>(c, a);
    } else {
        launch<bf16>(c, a);
    }
    return launched(c);
}

extern "C" const qn_cuda_body qn_cuda_adapter[] = {
    {"adapted_norm", QN_REAL_DTYPES, run_adapted_norm},
    {NULL},
};
