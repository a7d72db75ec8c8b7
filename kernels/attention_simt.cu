/* attention_simt.cu — attention and its gradient in exact f32: FMA only, no tensor cores.
 *
 * 256 threads as 16 x 16. Forward: 64 queries of one head stay in shared memory while tiles of 32
 * keys and values go by; a thread has 4 x 2 scores and 4 x D/16 outputs. Gradient: tiles of 32 x
 * 32, a thread 2 x 2 scores and 2 x D/16 sums. Rows of shared tiles are D + 1 long, so the 16
 * threads that read a column of 16 rows meet 16 banks. A head is padded with zeros to 32, 64 or
 * 128.
 *
 * Traffic: q, o once; k and v once per 64 queries (from L2). The key loop ends at the last key any
 * query of the tile sees; its order, and so the bits, depend on shapes alone.
 */
#include "kernels/attention.cuh"

enum { SIMT_THREADS = 256, FWD_QUERIES = 64, FWD_KEYS = 32, BWD_TILE = 32 };

/* The last column of rows of D + 1: vector loads touch it, nothing uses it. */
template <int D, int ROWS> QN_DEV void clear_padding(float *tile) {
    if (threadIdx.x < ROWS) tile[threadIdx.x * (D + 1) + D] = 0.0f;
}

/* rows x D of shared memory, row stride D + 1, from rows first .. of one head; zeros outside. */
template <int D, int ROWS>
QN_DEV void load_tile(const attention_args &a, const heads &x, int b, int h, int first, int end,
                      float *tile) {
    for (int i = threadIdx.x; i < ROWS * D; i += SIMT_THREADS) {
        int r = i / D, d = i % D;
        bool inside = first + r < end && d < a.d;
        tile[r * (D + 1) + d] = inside ? head_row<float>(x, b, first + r, h)[d] : 0.0f;
    }
    clear_padding<D, ROWS>(tile);
}

/* s[r][c] = x row (ty * R + r) . y row (tx + 16 c) */
template <int D, int R, int C>
QN_DEV void scores(const float *x, const float *y, float (&s)[R][C]) {
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
        for (int c = 0; c < C; c++) s[r][c] = 0.0f;
    }
#pragma unroll 4
    for (int d = 0; d < D; d++) {
        float p[R], q[C];
#pragma unroll
        for (int r = 0; r < R; r++) p[r] = x[(ty * R + r) * (D + 1) + d];
#pragma unroll
        for (int c = 0; c < C; c++) q[c] = y[(tx + 16 * c) * (D + 1) + d];
#pragma unroll
        for (int r = 0; r < R; r++) {
#pragma unroll
            for (int c = 0; c < C; c++) s[r][c] = fmaf(p[r], q[c], s[r][c]);
        }
    }
}

/* sum[r][c] += weights . values: rows ty * R + r, columns tx + 16 c, over N. ROWS_FIRST: weights
 * are [row][n], else [n][row]; their row stride is WS. */
template <int D, int R, int N, int WS, bool ROWS_FIRST>
QN_DEV void weighted(const float *weights, const float *values, float (&sum)[R][D / 16]) {
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 4
    for (int n = 0; n < N; n++) {
        float w[R];
#pragma unroll
        for (int r = 0; r < R; r++) {
            w[r] = ROWS_FIRST ? weights[(ty * R + r) * WS + n] : weights[n * WS + ty * R + r];
        }
#pragma unroll
        for (int c = 0; c < D / 16; c++) {
            float v = values[n * (D + 1) + tx + 16 * c];
#pragma unroll
            for (int r = 0; r < R; r++) sum[r][c] = fmaf(w[r], v, sum[r][c]);
        }
    }
}

QN_DEV bool visible(const attention_args &a, int b, int i, int j, int begin, int limit) {
    if (j < begin || j >= limit) return false;
    return !a.documents || document_of(a, b, i) == document_of(a, b, j);
}

/* ---- forward --------------------------------------------------------------------------------- */

template <int D> struct fwd_shared {
    float q[FWD_QUERIES * (D + 1)], k[FWD_KEYS * (D + 1)], v[FWD_KEYS * (D + 1)];
    float p[FWD_QUERIES * (FWD_KEYS + 1)];
};

template <int D>
__global__ void __launch_bounds__(SIMT_THREADS, 2) k_attention_simt_fwd(attention_args a) {
    enum { R = FWD_QUERIES / 16, C = FWD_KEYS / 16 };
    extern __shared__ float4 raw[];
    fwd_shared<D> &sh = *(fwd_shared<D> *)raw;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const int b = blockIdx.z, h = blockIdx.y, g = h / (a.h / a.g);
    const int first = (gridDim.x - 1 - blockIdx.x) * FWD_QUERIES; /* the longest first */
    const int64_t offset = query_offset(a, b);
    const int last = first + FWD_QUERIES < a.t ? first + FWD_QUERIES : a.t;
    const int keys = key_limit(a, offset, last - 1);
    float o[R][D / 16] = {}, most[R], total[R] = {};
#pragma unroll
    for (int r = 0; r < R; r++) most[r] = -INFINITY;
    load_tile<D, FWD_QUERIES>(a, a.q, b, h, first, a.t, sh.q);
    clear_padding<FWD_KEYS, FWD_QUERIES>(sh.p);
    const int tiles = key_begin(a, offset, first) / FWD_KEYS * FWD_KEYS;
    for (int at = tiles; at < keys; at += FWD_KEYS) {
        load_tile<D, FWD_KEYS>(a, a.k, b, g, at, a.s, sh.k);
        load_tile<D, FWD_KEYS>(a, a.v, b, g, at, a.s, sh.v);
        __syncthreads();
        float s[R][C];
        scores<D>(sh.q, sh.k, s);
#pragma unroll
        for (int r = 0; r < R; r++) {
            const int i = first + ty * R + r, limit = i < a.t ? key_limit(a, offset, i) : 0;
            const int begin = key_begin(a, offset, i);
            float high = -INFINITY, sum = 0.0f;
#pragma unroll
            for (int c = 0; c < C; c++) {
                bool sees = visible(a, b, i < a.t ? i : 0, at + tx + 16 * c, begin, limit);
                s[r][c] = sees ? s[r][c] * a.scale : -INFINITY;
                high = fmaxf(high, s[r][c]);
            }
            high = fmaxf(most[r], warp_max<16>(high));
            const float base = high == -INFINITY ? 0.0f : high;
            const float shrink = expf(most[r] - base);
#pragma unroll
            for (int c = 0; c < C; c++) {
                float p = expf(s[r][c] - base);
                sum += p;
                if (a.rng && p > 0.0f) {
                    uint64_t e = dropout_element(a, b, h, i) + (uint64_t)(at + tx + 16 * c);
                    p *= dropout_factor(a, e);
                }
                sh.p[(ty * R + r) * (FWD_KEYS + 1) + tx + 16 * c] = p;
            }
            total[r] = total[r] * shrink + warp_sum<16>(sum);
            most[r] = high;
#pragma unroll
            for (int c = 0; c < D / 16; c++) o[r][c] *= shrink;
        }
        __syncwarp(); /* a warp reads only the rows of p it wrote */
        weighted<D, R, FWD_KEYS, FWD_KEYS + 1, true>(sh.p, sh.v, o);
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = first + ty * R + r;
        if (i >= a.t) continue;
        const float factor = total[r] > 0.0f ? 1.0f / total[r] : 0.0f;
        float *row = head_row<float>(a.o, b, i, h);
#pragma unroll
        for (int c = 0; c < D / 16; c++) {
            if (tx + 16 * c < a.d) row[tx + 16 * c] = o[r][c] * factor;
        }
        if (a.lse && tx == 0) {
            a.lse[stat_index(a, b, h, i)] = total[r] > 0.0f ? most[r] + logf(total[r]) : -INFINITY;
        }
    }
}

/* ---- backward -------------------------------------------------------------------------------- */

template <int D> struct bwd_shared {
    float q[BWD_TILE * (D + 1)], d_o[BWD_TILE * (D + 1)];
    float k[BWD_TILE * (D + 1)], v[BWD_TILE * (D + 1)];
    float p[BWD_TILE * (BWD_TILE + 1)], ds[BWD_TILE * (BWD_TILE + 1)];
};

/* Weights that met v, and gradients of scale q.k, of the tile's queries and keys: [query][key]. */
template <int D>
QN_DEV void weight_gradients(const attention_args &a, bwd_shared<D> &sh, int b, int h, int query,
                             int key, int64_t offset) {
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float s[2][2], dp[2][2];
    scores<D>(sh.q, sh.k, s);
    scores<D>(sh.d_o, sh.v, dp);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int i = query + ty * 2 + r, limit = i < a.t ? key_limit(a, offset, i) : 0;
        const int begin = key_begin(a, offset, i);
        const float lse = i < a.t ? a.lse[stat_index(a, b, h, i)] : 0.0f;
        const float mean = i < a.t ? a.row_dot[stat_index(a, b, h, i)] : 0.0f;
#pragma unroll
        for (int c = 0; c < 2; c++) {
            const int j = key + tx + 16 * c, at = (ty * 2 + r) * (BWD_TILE + 1) + tx + 16 * c;
            bool sees = visible(a, b, i < a.t ? i : 0, j, begin, limit);
            float p = sees ? expf(s[r][c] * a.scale - lse) : 0.0f, m = 1.0f;
            if (a.rng && sees) m = dropout_factor(a, dropout_element(a, b, h, i) + (uint64_t)j);
            sh.p[at] = p * m;
            sh.ds[at] = sees ? p * (m * dp[r][c] - mean) * a.scale : 0.0f;
        }
    }
}

template <int D>
QN_DEV void store_sums(const attention_args &a, const heads &x, int b, int h, int first, int end,
                       const float (&sum)[2][D / 16], bool adds) {
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    if (!x.data) return;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        if (first + ty * 2 + r >= end) continue;
        float *row = head_row<float>(x, b, first + ty * 2 + r, h);
#pragma unroll
        for (int c = 0; c < D / 16; c++) {
            if (tx + 16 * c >= a.d) continue;
            row[tx + 16 * c] = adds ? row[tx + 16 * c] + sum[r][c] : sum[r][c];
        }
    }
}

/* A tile of keys walks all queries of all heads of its group. */
template <int D>
__global__ void __launch_bounds__(SIMT_THREADS, 2) k_attention_simt_dkv(attention_args a) {
    extern __shared__ float4 raw[];
    bwd_shared<D> &sh = *(bwd_shared<D> *)raw;
    const int b = blockIdx.z, g = blockIdx.y, group = a.h / a.g, key = blockIdx.x * BWD_TILE;
    const int64_t offset = query_offset(a, b);
    float dk[2][D / 16] = {}, dv[2][D / 16] = {};
    load_tile<D, BWD_TILE>(a, a.k, b, g, key, a.s, sh.k);
    load_tile<D, BWD_TILE>(a, a.v, b, g, key, a.s, sh.v);
    clear_padding<BWD_TILE, BWD_TILE>(sh.p);
    clear_padding<BWD_TILE, BWD_TILE>(sh.ds);
    const int begin = query_begin(a, offset, key) / BWD_TILE * BWD_TILE;
    const int last_key = key + BWD_TILE < a.s ? key + BWD_TILE - 1 : a.s - 1;
    const int queries = query_limit(a, offset, last_key);
    for (int h = g * group; h < (g + 1) * group; h++) {
        for (int query = begin; query < queries; query += BWD_TILE) {
            load_tile<D, BWD_TILE>(a, a.q, b, h, query, a.t, sh.q);
            load_tile<D, BWD_TILE>(a, a.d_o, b, h, query, a.t, sh.d_o);
            __syncthreads();
            weight_gradients<D>(a, sh, b, h, query, key, offset);
            __syncthreads();
            weighted<D, 2, BWD_TILE, BWD_TILE + 1, false>(sh.p, sh.d_o, dv);
            weighted<D, 2, BWD_TILE, BWD_TILE + 1, false>(sh.ds, sh.q, dk);
            __syncthreads();
        }
    }
    store_sums<D>(a, a.dk, b, g, key, a.s, dk, a.adds >> 1 & 1u);
    store_sums<D>(a, a.dv, b, g, key, a.s, dv, a.adds >> 2 & 1u);
}

/* A tile of queries walks the keys it sees. */
template <int D>
__global__ void __launch_bounds__(SIMT_THREADS, 2) k_attention_simt_dq(attention_args a) {
    extern __shared__ float4 raw[];
    bwd_shared<D> &sh = *(bwd_shared<D> *)raw;
    const int b = blockIdx.z, h = blockIdx.y, g = h / (a.h / a.g);
    const int query = (gridDim.x - 1 - blockIdx.x) * BWD_TILE;
    const int64_t offset = query_offset(a, b);
    const int last = query + BWD_TILE < a.t ? query + BWD_TILE : a.t;
    const int keys = key_limit(a, offset, last - 1);
    float dq[2][D / 16] = {};
    load_tile<D, BWD_TILE>(a, a.q, b, h, query, a.t, sh.q);
    load_tile<D, BWD_TILE>(a, a.d_o, b, h, query, a.t, sh.d_o);
    clear_padding<BWD_TILE, BWD_TILE>(sh.p);
    clear_padding<BWD_TILE, BWD_TILE>(sh.ds);
    const int tiles = key_begin(a, offset, query) / BWD_TILE * BWD_TILE;
    for (int key = tiles; key < keys; key += BWD_TILE) {
        load_tile<D, BWD_TILE>(a, a.k, b, g, key, a.s, sh.k);
        load_tile<D, BWD_TILE>(a, a.v, b, g, key, a.s, sh.v);
        __syncthreads();
        weight_gradients<D>(a, sh, b, h, query, key, offset);
        __syncwarp(); /* a warp reads only the rows of ds it wrote */
        weighted<D, 2, BWD_TILE, BWD_TILE + 1, true>(sh.ds, sh.k, dq);
        __syncthreads();
    }
    store_sums<D>(a, a.dq, b, h, query, a.t, dq, a.adds & 1u);
}

/* ---- launchers ------------------------------------------------------------------------------- */

template <int D> static cudaError_t fwd(const attention_args *a, cudaStream_t s) {
    dim3 grid((unsigned)div_up(a->t, FWD_QUERIES), a->h, a->b);
    return attention_launch<SIMT_THREADS>(k_attention_simt_fwd<D>, grid, sizeof(fwd_shared<D>), a,
                                          s);
}

template <int D> static cudaError_t bwd(const attention_args *a, cudaStream_t s) {
    dim3 keys((unsigned)div_up(a->s, BWD_TILE), a->g, a->b);
    dim3 queries((unsigned)div_up(a->t, BWD_TILE), a->h, a->b);
    cudaError_t e = cudaSuccess;
    if (a->dk.data || a->dv.data) {
        e = attention_launch<SIMT_THREADS>(k_attention_simt_dkv<D>, keys, sizeof(bwd_shared<D>), a,
                                           s);
    }
    if (e == cudaSuccess && a->dq.data) {
        e = attention_launch<SIMT_THREADS>(k_attention_simt_dq<D>, queries, sizeof(bwd_shared<D>),
                                           a, s);
    }
    return e;
}

cudaError_t attention_simt_fwd(const attention_args *a, cudaStream_t s) {
    return a->d <= 32 ? fwd<32>(a, s) : a->d <= 64 ? fwd<64>(a, s) : fwd<128>(a, s);
}

cudaError_t attention_simt_bwd(const attention_args *a, cudaStream_t s) {
    return a->d <= 32 ? bwd<32>(a, s) : a->d <= 64 ? bwd<64>(a, s) : bwd<128>(a, s);
}
