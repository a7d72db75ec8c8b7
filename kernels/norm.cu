/* norm.cu — layer and RMS normalisation over the last axis, with the residual addition in front.
 *
 * Forward: a warp holds a row of up to 4 x 32 vectors (1024 bf16, 512 f32), a block of 256 threads
 * one of up to 4 x 256 (8192, 4096); statistics in two passes over registers. Traffic: x, residual
 * read, h and y written once: 8 (4 without residual) bytes an element in bf16, 8 bytes a row.
 * Longer rows are read three times, from cache while a block's rows fit there.
 *
 * Backward: the same frame reads dy, h (and dh) once and writes dx. A block goes through a chunk of
 * rows and keeps the sums for dw and db of its columns in registers; the chunks' partial sums (f32,
 * at most 264 chunks, so less than 5 % of the traffic from 14,000 rows on) go to scratch and a
 * second kernel adds them in order. Rows too long to hold read dy and h once more for dw and db.
 *
 * Deterministic: chunks depend on the number of rows alone. RMS is the case mean = 0 without b.
 */
#include "kernels/rows.cuh"

enum { X, RESIDUAL, Y, H }; /* forward tensors */
enum { DY, HX, DH, DX };    /* backward tensors */
enum { MAX_CHUNKS = 264, MIN_CHUNK_ROWS = 8 };

struct norm_args {
    rows r;
    const void *w, *b;
    float *mean, *rstd; /* forward: written where not NULL */
    float eps;
    bool rms, adds;
    float *partial; /* backward: chunks x {dw, db} x width */
    int64_t chunk_rows;
};

/* ---- forward --------------------------------------------------------------------------------- */

template <typename T, int V>
QN_DEV void norm_store(const norm_args &a, T *y, int64_t e, const float (&h)[V], float mean,
                       float rstd) {
    float w[V], out[V];
    load_run<T, V>(w, (const T *)a.w + e);
#pragma unroll
    for (int i = 0; i < V; i++) out[i] = (h[i] - mean) * rstd * w[i];
    if (a.b) {
        float b[V];
        load_run<T, V>(b, (const T *)a.b + e);
#pragma unroll
        for (int i = 0; i < V; i++) out[i] += b[i];
    }
    store_run<T, V>(y + e, out);
}

/* h of one vector: x + residual, rounded to T, stored where it is an output. */
template <typename T, int V>
QN_DEV void norm_load(const norm_args &a, const int64_t (&at)[4], int64_t e, float (&h)[V],
                      bool store) {
    load_run<T, V>(h, (const T *)a.r.at.data[X] + at[X] + e);
    if (!a.r.at.data[RESIDUAL]) return;
    float r[V];
    load_run<T, V>(r, (const T *)a.r.at.data[RESIDUAL] + at[RESIDUAL] + e);
#pragma unroll
    for (int i = 0; i < V; i++) h[i] = to_f32(from_f32<T>(h[i] + r[i]));
    if (store) store_run<T, V>((T *)a.r.at.data[H] + at[H] + e, h);
}

template <int LANES>
QN_DEV void norm_statistics_out(const norm_args &a, int64_t row, float mean, float rstd) {
    if (threadIdx.x % LANES != 0) return;
    if (a.mean) a.mean[row] = mean;
    if (a.rstd) a.rstd[row] = rstd;
}

template <typename T, int V, int LANES>
__global__ void __launch_bounds__(QN_ROW_THREADS) k_norm_fwd(norm_args a) {
    __shared__ float partial[2][QN_ROW_THREADS / QN_WARP];
    const int lane = threadIdx.x % LANES;
    const int64_t row = (int64_t)blockIdx.x * (QN_ROW_THREADS / LANES) + threadIdx.x / LANES;
    if (row >= a.r.n) return; /* whole warps, or none of a block */
    int64_t at[4];
    rows_offset(a.r, row, at);
    float h[QN_ROW_HOLD][V], sum = 0.0f, square = 0.0f;
#pragma unroll
    for (int k = 0; k < QN_ROW_HOLD; k++) {
        int64_t e = ((int64_t)k * LANES + lane) * V;
        if (e >= a.r.width) continue;
        norm_load<T, V>(a, at, e, h[k], true);
#pragma unroll
        for (int i = 0; i < V; i++) sum += h[k][i];
    }
    float mean = a.rms ? 0.0f : row_sum<LANES>(sum, partial[0]) / (float)a.r.width;
#pragma unroll
    for (int k = 0; k < QN_ROW_HOLD; k++) {
        if (((int64_t)k * LANES + lane) * V >= a.r.width) continue;
#pragma unroll
        for (int i = 0; i < V; i++) square += (h[k][i] - mean) * (h[k][i] - mean);
    }
    float rstd = rsqrt_f32(row_sum<LANES>(square, partial[1]) / (float)a.r.width + a.eps);
#pragma unroll
    for (int k = 0; k < QN_ROW_HOLD; k++) {
        int64_t e = ((int64_t)k * LANES + lane) * V;
        if (e < a.r.width) norm_store<T, V>(a, (T *)a.r.at.data[Y] + at[Y], e, h[k], mean, rstd);
    }
    norm_statistics_out<LANES>(a, row, mean, rstd);
}

/* Rows too long to hold: a block walks its row three times. y may be the storage of x and h that of
 * the residual: h is written first and read from there on; without a residual y is written last. */
template <typename T, int V>
__global__ void __launch_bounds__(QN_ROW_THREADS) k_norm_long_fwd(norm_args a) {
    __shared__ float partial[2][QN_ROW_THREADS / QN_WARP];
    int64_t at[4];
    rows_offset(a.r, blockIdx.x, at);
    const bool sums = a.r.at.data[RESIDUAL];
    const T *h = sums ? (const T *)a.r.at.data[H] + at[H] : (const T *)a.r.at.data[X] + at[X];
    const int64_t first = (int64_t)threadIdx.x * V, step = QN_ROW_THREADS * V;
    float sum = 0.0f, square = 0.0f;
    for (int64_t e = first; e < a.r.width; e += step) {
        float v[V];
        norm_load<T, V>(a, at, e, v, true);
#pragma unroll
        for (int i = 0; i < V; i++) sum += v[i];
    }
    float mean =
        a.rms ? 0.0f : block_sum<QN_ROW_THREADS / QN_WARP>(sum, partial[0]) / (float)a.r.width;
    for (int64_t e = first; e < a.r.width; e += step) { /* a thread reads what it wrote */
        float v[V];
        load_run<T, V>(v, h + e);
#pragma unroll
        for (int i = 0; i < V; i++) square += (v[i] - mean) * (v[i] - mean);
    }
    float all = block_sum<QN_ROW_THREADS / QN_WARP>(square, partial[1]);
    float rstd = rsqrt_f32(all / (float)a.r.width + a.eps);
    for (int64_t e = first; e < a.r.width; e += step) {
        float v[V];
        load_run<T, V>(v, h + e);
        norm_store<T, V>(a, (T *)a.r.at.data[Y] + at[Y], e, v, mean, rstd);
    }
    norm_statistics_out<QN_ROW_THREADS>(a, blockIdx.x, mean, rstd);
}

/* ---- backward -------------------------------------------------------------------------------- */

template <typename T, int V>
QN_DEV void norm_grad_store(const norm_args &a, const int64_t (&at)[4], int64_t e,
                            const float (&dx)[V]) {
    T *p = (T *)a.r.at.data[DX] + at[DX] + e;
    float out[V];
#pragma unroll
    for (int i = 0; i < V; i++) out[i] = dx[i];
    if (a.r.at.data[DH]) {
        float dh[V];
        load_run<T, V>(dh, (const T *)a.r.at.data[DH] + at[DH] + e);
#pragma unroll
        for (int i = 0; i < V; i++) out[i] += dh[i];
    }
    if (a.adds) {
        float old[V];
        load_run<T, V>(old, p);
#pragma unroll
        for (int i = 0; i < V; i++) out[i] += old[i];
    }
    store_run<T, V>(p, out);
}

/* Leaves the chunk's partial row: the sums of each column that the block's rows have, in order.
 * They go through shared memory, so that neighbouring threads write neighbouring columns; the pitch
 * keeps them out of each other's banks. */
template <int V> struct column_buffer {
    enum { PITCH = QN_ROW_THREADS + QN_WARP / V };
    float at[V * PITCH];
};

template <int V, int LANES>
QN_DEV void norm_partial_out(const norm_args &a, float (&sums)[QN_ROW_HOLD][V], int which,
                             column_buffer<V> &buffer) {
    enum { ROWS = QN_ROW_THREADS / LANES, PITCH = column_buffer<V>::PITCH };
    float *out = a.partial + ((int64_t)blockIdx.x * 2 + which) * a.r.width;
#pragma unroll
    for (int k = 0; k < QN_ROW_HOLD; k++) {
        const int64_t first = (int64_t)k * LANES * V;
        if (first >= a.r.width) break; /* the same for the block */
        __syncthreads();
#pragma unroll
        for (int i = 0; i < V; i++) buffer.at[i * PITCH + threadIdx.x] = sums[k][i];
        __syncthreads();
        for (int c = threadIdx.x; c < V * LANES && first + c < a.r.width; c += QN_ROW_THREADS) {
            float total = 0.0f;
#pragma unroll
            for (int r = 0; r < ROWS; r++) total += buffer.at[c % V * PITCH + r * LANES + c / V];
            out[first + c] = total;
        }
    }
}

/* Three blocks where rows go element by element: left alone, ptxas aims for four, and spills. */
template <typename T, int V, int LANES>
__global__ void __launch_bounds__(QN_ROW_THREADS, V == 1 ? 3 : 1) k_norm_bwd(norm_args a) {
    enum { ROWS = QN_ROW_THREADS / LANES, WARPS = QN_ROW_THREADS / QN_WARP };
    __shared__ float partial[2][WARPS];
    __shared__ column_buffer<V> buffer;
    const int lane = threadIdx.x % LANES;
    const int64_t begin = (int64_t)blockIdx.x * a.chunk_rows, full = begin + a.chunk_rows;
    const int64_t end = full < a.r.n ? full : a.r.n;
    float dw[QN_ROW_HOLD][V] = {}, db[QN_ROW_HOLD][V] = {};
    for (int64_t row = begin + threadIdx.x / LANES; row < end; row += ROWS) {
        int64_t at[4];
        rows_offset(a.r, row, at);
        const float mean = a.rms ? 0.0f : a.mean[row], rstd = a.rstd[row];
        float g[QN_ROW_HOLD][V], n[QN_ROW_HOLD][V], sum = 0.0f, dot = 0.0f;
#pragma unroll
        for (int k = 0; k < QN_ROW_HOLD; k++) {
            int64_t e = ((int64_t)k * LANES + lane) * V;
            if (e >= a.r.width) continue;
            float w[V];
            load_run<T, V>(g[k], (const T *)a.r.at.data[DY] + at[DY] + e);
            load_run<T, V>(n[k], (const T *)a.r.at.data[HX] + at[HX] + e);
            load_run<T, V>(w, (const T *)a.w + e);
#pragma unroll
            for (int i = 0; i < V; i++) {
                n[k][i] = (n[k][i] - mean) * rstd;
                dw[k][i] += g[k][i] * n[k][i];
                db[k][i] += g[k][i];
                g[k][i] *= w[i];
                sum += g[k][i];
                dot += g[k][i] * n[k][i];
            }
        }
        if (!a.r.at.data[DX]) continue;
        dot = row_sum<LANES>(dot, partial[0]) / (float)a.r.width;
        sum = a.rms ? 0.0f : row_sum<LANES>(sum, partial[1]) / (float)a.r.width;
#pragma unroll
        for (int k = 0; k < QN_ROW_HOLD; k++) {
            int64_t e = ((int64_t)k * LANES + lane) * V;
            if (e >= a.r.width) continue;
#pragma unroll
            for (int i = 0; i < V; i++) g[k][i] = (g[k][i] - sum - n[k][i] * dot) * rstd;
            norm_grad_store<T, V>(a, at, e, g[k]);
        }
        if (LANES > QN_WARP) __syncthreads(); /* before `partial` is written again */
    }
    if (!a.partial) return;
    norm_partial_out<V, LANES>(a, dw, 0, buffer);
    norm_partial_out<V, LANES>(a, db, 1, buffer);
}

template <typename T, int V>
__global__ void __launch_bounds__(QN_ROW_THREADS) k_norm_long_bwd(norm_args a) {
    __shared__ float partial[2][QN_ROW_THREADS / QN_WARP];
    int64_t at[4];
    rows_offset(a.r, blockIdx.x, at);
    const T *dy = (const T *)a.r.at.data[DY] + at[DY], *h = (const T *)a.r.at.data[HX] + at[HX];
    const float mean = a.rms ? 0.0f : a.mean[blockIdx.x], rstd = a.rstd[blockIdx.x];
    const int64_t first = (int64_t)threadIdx.x * V, step = QN_ROW_THREADS * V;
    float sum = 0.0f, dot = 0.0f, g[V], n[V], w[V];
    for (int64_t e = first; e < a.r.width; e += step) {
        load_run<T, V>(g, dy + e);
        load_run<T, V>(n, h + e);
        load_run<T, V>(w, (const T *)a.w + e);
#pragma unroll
        for (int i = 0; i < V; i++) {
            sum += g[i] * w[i];
            dot += g[i] * w[i] * (n[i] - mean) * rstd;
        }
    }
    dot = block_sum<QN_ROW_THREADS / QN_WARP>(dot, partial[0]) / (float)a.r.width;
    sum = a.rms ? 0.0f : block_sum<QN_ROW_THREADS / QN_WARP>(sum, partial[1]) / (float)a.r.width;
    for (int64_t e = first; e < a.r.width; e += step) {
        load_run<T, V>(g, dy + e);
        load_run<T, V>(n, h + e);
        load_run<T, V>(w, (const T *)a.w + e);
#pragma unroll
        for (int i = 0; i < V; i++) g[i] = (g[i] * w[i] - sum - (n[i] - mean) * rstd * dot) * rstd;
        norm_grad_store<T, V>(a, at, e, g);
    }
}

/* dw and db of long rows: a thread has one column of a chunk of rows. */
template <typename T>
__global__ void __launch_bounds__(QN_ROW_THREADS) k_norm_columns(norm_args a) {
    const int64_t column = (int64_t)blockIdx.y * QN_ROW_THREADS + threadIdx.x;
    const int64_t begin = (int64_t)blockIdx.x * a.chunk_rows, full = begin + a.chunk_rows;
    const int64_t end = full < a.r.n ? full : a.r.n;
    if (column >= a.r.width) return;
    float dw = 0.0f, db = 0.0f;
    for (int64_t row = begin; row < end; row++) {
        int64_t at[4];
        rows_offset(a.r, row, at);
        float dy = to_f32(((const T *)a.r.at.data[DY])[at[DY] + column]);
        float h = to_f32(((const T *)a.r.at.data[HX])[at[HX] + column]);
        dw += dy * (h - (a.rms ? 0.0f : a.mean[row])) * a.rstd[row];
        db += dy;
    }
    a.partial[(int64_t)blockIdx.x * 2 * a.r.width + column] = dw;
    a.partial[((int64_t)blockIdx.x * 2 + 1) * a.r.width + column] = db;
}

/* out[column] (+)= the chunks' sums, in order. */
template <typename TO>
__global__ void __launch_bounds__(QN_ROW_THREADS)
    k_norm_sum(const float *partial, int64_t chunks, int64_t width, TO *out, bool adds) {
    const int64_t column = (int64_t)blockIdx.x * QN_ROW_THREADS + threadIdx.x;
    if (column >= width) return;
    float total = 0.0f;
#pragma unroll 8
    for (int64_t c = 0; c < chunks; c++) total += partial[c * 2 * width + column];
    out[column] = from_f32<TO>(adds ? total + to_f32(out[column]) : total);
}

/* ---- launchers ------------------------------------------------------------------------------- */

/* Threads that hold a row of `vectors` vectors: a warp, a block, or 0 = too long. */
static int lanes_for(int64_t vectors) {
    if (vectors <= QN_ROW_HOLD * QN_WARP) return QN_WARP;
    return vectors <= QN_ROW_HOLD * QN_ROW_THREADS ? (int)QN_ROW_THREADS : 0;
}

template <typename T, int V> static void launch_fwd(const qn_call *c, const norm_args &a) {
    cudaStream_t s = stream_of(c);
    const int lanes = lanes_for(div_up(a.r.width, V));
    if (lanes == QN_WARP) {
        unsigned blocks = (unsigned)div_up(a.r.n, QN_ROW_THREADS / QN_WARP);
        k_norm_fwd<T, V, QN_WARP><<<blocks, QN_ROW_THREADS, 0, s>>>(a);
    } else if (lanes) {
        k_norm_fwd<T, V, QN_ROW_THREADS><<<(unsigned)a.r.n, QN_ROW_THREADS, 0, s>>>(a);
    } else {
        k_norm_long_fwd<T, V><<<(unsigned)a.r.n, QN_ROW_THREADS, 0, s>>>(a);
    }
}

template <typename T> static qn_status norm_fwd(const qn_call *c, const norm_args &a) {
    constexpr int V = 16 / sizeof(T);
    bool vectors = rows_take(&a.r, V, sizeof(T)) && is_aligned16(a.w) && is_aligned16(a.b);
    if (vectors) {
        launch_fwd<T, V>(c, a);
    } else {
        launch_fwd<T, 1>(c, a);
    }
    return launched(c);
}

static qn_status require_dense(const qn_call *c, bool dense, int64_t n) {
    if (!dense) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s: CUDA wants the elements of a row side by side",
                       c->op->name);
    }
    if (n > INT32_MAX) {
        return qn_fail(QN_ERR_SHAPE, "%s: %lld rows, CUDA takes up to 2^31 - 1", c->op->name,
                       (long long)n);
    }
    return QN_OK;
}

static qn_status run_norm(const qn_call *c, bool rms) {
    const qn_tensor *t[] = {c->in[0], c->in[1], c->out[0], c->out[1]};
    qn_tensor *mean = rms ? NULL : c->out[2], *rstd = c->out[rms ? 2 : 3];
    const qn_tensor *b = rms ? NULL : c->in[3];
    bool dense;
    norm_args a = {rows_make(4, t, &dense), c->in[2]->data, b ? b->data : NULL};
    QN_TRY(require_dense(c, dense, a.r.n));
    if (a.r.n == 0 || a.r.width == 0) return QN_OK;
    a.mean = mean ? (float *)mean->data : NULL;
    a.rstd = rstd ? (float *)rstd->data : NULL;
    a.eps = (float)((const qn_norm_attrs *)c->attrs)->eps;
    a.rms = rms;
    return c->in[0]->dtype == QN_F32 ? norm_fwd<float>(c, a) : norm_fwd<bf16>(c, a);
}

static qn_status run_layernorm(const qn_call *c) { return run_norm(c, false); }
static qn_status run_rmsnorm(const qn_call *c) { return run_norm(c, true); }

static int64_t chunk_rows_of(int64_t n) {
    int64_t rows = div_up(n, MAX_CHUNKS);
    return rows < MIN_CHUNK_ROWS ? MIN_CHUNK_ROWS : rows;
}

template <typename T, int V> static void launch_bwd(const qn_call *c, const norm_args &a) {
    cudaStream_t s = stream_of(c);
    unsigned chunks = (unsigned)div_up(a.r.n, a.chunk_rows);
    const int lanes = lanes_for(div_up(a.r.width, V));
    if (lanes == QN_WARP) {
        k_norm_bwd<T, V, QN_WARP><<<chunks, QN_ROW_THREADS, 0, s>>>(a);
    } else if (lanes) {
        k_norm_bwd<T, V, QN_ROW_THREADS><<<chunks, QN_ROW_THREADS, 0, s>>>(a);
    } else {
        dim3 grid(chunks, (unsigned)div_up(a.r.width, QN_ROW_THREADS));
        if (a.partial) k_norm_columns<T><<<grid, QN_ROW_THREADS, 0, s>>>(a);
        if (a.r.at.data[DX]) k_norm_long_bwd<T, V><<<(unsigned)a.r.n, QN_ROW_THREADS, 0, s>>>(a);
    }
}

template <typename T> static void norm_bwd(const qn_call *c, const norm_args &a) {
    constexpr int V = 16 / sizeof(T);
    if (rows_take(&a.r, V, sizeof(T)) && is_aligned16(a.w)) {
        launch_bwd<T, V>(c, a);
    } else {
        launch_bwd<T, 1>(c, a);
    }
}

static qn_status sum_partials(const qn_call *c, const norm_args &a, int which) {
    const qn_tensor *out = c->out[1 + which];
    if (!out) return QN_OK;
    const float *from = a.partial + which * a.r.width;
    int64_t chunks = div_up(a.r.n, a.chunk_rows);
    unsigned blocks = (unsigned)div_up(a.r.width, QN_ROW_THREADS);
    bool adds = c->accumulate >> (1 + which) & 1u;
    if (out->dtype == QN_F32) {
        k_norm_sum<<<blocks, QN_ROW_THREADS, 0, stream_of(c)>>>(from, chunks, a.r.width,
                                                                (float *)out->data, adds);
    } else {
        k_norm_sum<<<blocks, QN_ROW_THREADS, 0, stream_of(c)>>>(from, chunks, a.r.width,
                                                                (bf16 *)out->data, adds);
    }
    return launched(c);
}

static qn_status run_norm_bwd(const qn_call *c, bool rms) {
    const qn_tensor *dh = c->in[rms ? 4 : 5], *t[] = {c->in[0], c->in[1], dh, c->out[0]};
    bool dense;
    norm_args a = {rows_make(4, t, &dense), c->in[2]->data};
    QN_TRY(require_dense(c, dense, a.r.n));
    if (c->out[0] && c->out[0]->dtype != c->in[0]->dtype) {
        return qn_fail(QN_ERR_DTYPE, "%s: dx has another dtype than dy", c->op->name);
    }
    a.mean = rms ? NULL : (float *)c->in[3]->data;
    a.rstd = (float *)c->in[rms ? 3 : 4]->data;
    a.rms = rms;
    a.adds = c->accumulate & 1u;
    a.chunk_rows = chunk_rows_of(a.r.n);
    bool parameters = c->out[1] || (!rms && c->out[2]);
    a.partial = parameters ? (float *)c->scratch : NULL;
    if (a.r.width == 0) return QN_OK;
    if (a.r.n > 0 && c->in[0]->dtype == QN_F32) {
        norm_bwd<float>(c, a);
    } else if (a.r.n > 0) {
        norm_bwd<bf16>(c, a);
    }
    QN_TRY(launched(c));
    QN_TRY(sum_partials(c, a, 0));
    return rms ? QN_OK : sum_partials(c, a, 1);
}

static qn_status run_layernorm_bwd(const qn_call *c) { return run_norm_bwd(c, false); }
static qn_status run_rmsnorm_bwd(const qn_call *c) { return run_norm_bwd(c, true); }

static size_t bwd_scratch(const qn_call *c) {
    const qn_tensor *x = c->in[1];
    int64_t n = 1, width = x->shape[x->ndim - 1];
    for (int i = 0; i + 1 < x->ndim; i++) n *= x->shape[i];
    return sizeof(float) * (size_t)(div_up(n, chunk_rows_of(n)) * 2 * width);
}

extern "C" const qn_cuda_body qn_cuda_norm[] = {
    {"layernorm", QN_REAL_DTYPES, run_layernorm},
    {"layernorm_bwd", QN_REAL_DTYPES, run_layernorm_bwd, bwd_scratch},
    {"rmsnorm", QN_REAL_DTYPES, run_rmsnorm},
    {"rmsnorm_bwd", QN_REAL_DTYPES, run_rmsnorm_bwd, bwd_scratch},
    {NULL},
};
