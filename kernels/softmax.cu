/* softmax.cu — softmax over the last axis and its gradient dx = y (dy - sum(dy y)).
 *
 * A warp holds a row of up to 4 x 32 vectors, a block of 256 threads one of up to 4 x 256, so each
 * operand moves once. Longer rows are walked three times (twice for the gradient). A row whose
 * entries are all -infinity gives NaN.
 */
#include "kernels/rows.cuh"

enum { SOFTMAX_X, SOFTMAX_Y };
enum { BWD_DY, BWD_Y, BWD_DX };

template <typename T, int V, int LANES, int HOLD>
__global__ void __launch_bounds__(QN_ROW_THREADS) k_softmax_fwd(rows r) {
    __shared__ float partial[2][QN_ROW_THREADS / QN_WARP];
    const int lane = threadIdx.x % LANES;
    const int64_t row = (int64_t)blockIdx.x * (QN_ROW_THREADS / LANES) + threadIdx.x / LANES;
    if (row >= r.n) return;
    int64_t at[2];
    rows_offset(r, row, at);
    const T *x = (const T *)r.at.data[SOFTMAX_X] + at[SOFTMAX_X];
    T *y = (T *)r.at.data[SOFTMAX_Y] + at[SOFTMAX_Y];
    const int steps = HOLD > 0 ? HOLD : (int)div_up(r.width, LANES * V);
    float h[HOLD > 0 ? HOLD : 1][V], most = -INFINITY, sum = 0.0f;
#pragma unroll
    for (int k = 0; k < steps; k++) {
        int64_t e = ((int64_t)k * LANES + lane) * V;
        if (e >= r.width) continue;
        float(&v)[V] = h[HOLD > 0 ? k : 0];
        load_run<T, V>(v, x + e);
#pragma unroll
        for (int i = 0; i < V; i++) most = fmaxf(most, v[i]);
    }
    most = row_max<LANES>(most, partial[0]);
#pragma unroll
    for (int k = 0; k < steps; k++) {
        int64_t e = ((int64_t)k * LANES + lane) * V;
        if (e >= r.width) continue;
        float(&v)[V] = h[HOLD > 0 ? k : 0];
        if (HOLD == 0) load_run<T, V>(v, x + e);
#pragma unroll
        for (int i = 0; i < V; i++) {
            v[i] = expf(v[i] - most);
            sum += v[i];
        }
    }
    float factor = 1.0f / row_sum<LANES>(sum, partial[1]);
#pragma unroll
    for (int k = 0; k < steps; k++) {
        int64_t e = ((int64_t)k * LANES + lane) * V;
        if (e >= r.width) continue;
        float(&v)[V] = h[HOLD > 0 ? k : 0];
        if (HOLD == 0) load_run<T, V>(v, x + e);
#pragma unroll
        for (int i = 0; i < V; i++) v[i] = (HOLD > 0 ? v[i] : expf(v[i] - most)) * factor;
        store_run<T, V>(y + e, v);
    }
}

template <typename T, int V, int LANES, int HOLD>
__global__ void __launch_bounds__(QN_ROW_THREADS) k_softmax_bwd(rows r, bool adds) {
    __shared__ float partial[QN_ROW_THREADS / QN_WARP];
    const int lane = threadIdx.x % LANES;
    const int64_t row = (int64_t)blockIdx.x * (QN_ROW_THREADS / LANES) + threadIdx.x / LANES;
    if (row >= r.n) return;
    int64_t at[3];
    rows_offset(r, row, at);
    const T *dy = (const T *)r.at.data[BWD_DY] + at[BWD_DY];
    const T *y = (const T *)r.at.data[BWD_Y] + at[BWD_Y];
    T *dx = (T *)r.at.data[BWD_DX] + at[BWD_DX];
    const int steps = HOLD > 0 ? HOLD : (int)div_up(r.width, LANES * V);
    float g[HOLD > 0 ? HOLD : 1][V], p[HOLD > 0 ? HOLD : 1][V], dot = 0.0f;
#pragma unroll
    for (int k = 0; k < steps; k++) {
        int64_t e = ((int64_t)k * LANES + lane) * V;
        if (e >= r.width) continue;
        const int at_k = HOLD > 0 ? k : 0;
        load_run<T, V>(g[at_k], dy + e);
        load_run<T, V>(p[at_k], y + e);
#pragma unroll
        for (int i = 0; i < V; i++) dot += g[at_k][i] * p[at_k][i];
    }
    dot = row_sum<LANES>(dot, partial);
#pragma unroll
    for (int k = 0; k < steps; k++) {
        int64_t e = ((int64_t)k * LANES + lane) * V;
        if (e >= r.width) continue;
        const int at_k = HOLD > 0 ? k : 0;
        if (HOLD == 0) {
            load_run<T, V>(g[at_k], dy + e);
            load_run<T, V>(p[at_k], y + e);
        }
        float out[V], old[V] = {};
        if (adds) load_run<T, V>(old, dx + e);
#pragma unroll
        for (int i = 0; i < V; i++) out[i] = p[at_k][i] * (g[at_k][i] - dot) + old[i];
        store_run<T, V>(dx + e, out);
    }
}

/* ---- launchers ------------------------------------------------------------------------------- */

template <typename T, int V>
static void launch(const qn_call *c, const rows &r, bool backward, bool adds) {
    cudaStream_t s = stream_of(c);
    int64_t vectors = div_up(r.width, V);
    unsigned n = (unsigned)r.n, warps = (unsigned)div_up(r.n, QN_ROW_THREADS / QN_WARP);
    enum { T_ = QN_ROW_THREADS, W = QN_WARP, H = QN_ROW_HOLD };
    if (vectors <= H * W) {
        if (backward) k_softmax_bwd<T, V, W, H><<<warps, T_, 0, s>>>(r, adds);
        if (!backward) k_softmax_fwd<T, V, W, H><<<warps, T_, 0, s>>>(r);
    } else if (vectors <= H * T_) {
        if (backward) k_softmax_bwd<T, V, T_, H><<<n, T_, 0, s>>>(r, adds);
        if (!backward) k_softmax_fwd<T, V, T_, H><<<n, T_, 0, s>>>(r);
    } else {
        if (backward) k_softmax_bwd<T, V, T_, 0><<<n, T_, 0, s>>>(r, adds);
        if (!backward) k_softmax_fwd<T, V, T_, 0><<<n, T_, 0, s>>>(r);
    }
}

template <typename T>
static void choose(const qn_call *c, const rows &r, bool backward, bool adds) {
    constexpr int V = 16 / sizeof(T);
    if (rows_take(&r, V, sizeof(T))) {
        launch<T, V>(c, r, backward, adds);
    } else {
        launch<T, 1>(c, r, backward, adds);
    }
}

static qn_status run(const qn_call *c, int n, const qn_tensor *const *t, bool backward) {
    bool dense;
    rows r = rows_make(n, t, &dense);
    if (!dense || t[0]->dtype != t[n - 1]->dtype) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "%s: CUDA wants one dtype, and the elements of a row side by side",
                       c->op->name);
    }
    if (r.n == 0 || r.width == 0) return QN_OK;
    if (t[0]->dtype == QN_F32) {
        choose<float>(c, r, backward, c->accumulate & 1u);
    } else {
        choose<bf16>(c, r, backward, c->accumulate & 1u);
    }
    return launched(c);
}

static qn_status run_softmax(const qn_call *c) {
    const qn_tensor *t[] = {c->in[0], c->out[0]};
    return run(c, 2, t, false);
}
static qn_status run_softmax_bwd(const qn_call *c) {
    const qn_tensor *t[] = {c->in[0], c->in[1], c->out[0]};
    return run(c, 3, t, true);
}

extern "C" const qn_cuda_body qn_cuda_softmax[] = {
    {"softmax", QN_REAL_DTYPES, run_softmax},
    {"softmax_bwd", QN_REAL_DTYPES, run_softmax_bwd},
    {NULL},
};
