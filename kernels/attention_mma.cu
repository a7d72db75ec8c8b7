/* attention_mma.cu — attention and its gradient in bf16 on tensor cores (mma.sync, sm_80 and up).
 *
 * Four warps hold a tile of 64 queries (forward, dq) or 64 keys (dk and dv), 16 rows a warp;
 * tiles of the other side go by, two stages of cp.async deep. A shared row is D + 8 long:
 * 16-byte chunks of eight rows then fall into different banks, for ldmatrix and for its
 * transposed form. The scores' accumulators are the next product's A fragments as they lie
 * (rounded to bf16), so P and dS never leave registers:
 *   forward:  S = Q K^T, O += P V
 *   dq:       S = Q K^T, dP = dO V^T, dQ += dS K
 *   dk, dv:   S^T = K Q^T, dP^T = V dO^T, dV += P^T dO, dK += dS^T Q
 * Softmax in base 2 with the scale folded in; masks are looked at only in tiles that need them.
 *
 * Traffic: q, o once; k and v once per 64 queries, mostly from L2. Heads are padded to 32, 64,
 * 96 or 128 with zeros in shared memory. Rows that do not start on 16 bytes are loaded element
 * by element.
 */
#include "kernels/attention.cuh"
#include "kernels/ptx.cuh"

enum { MMA_THREADS = 128, TILE = 64 };

#define LOG2E 1.44269504088896341f
#define LN2   0.69314718055994531f

QN_DEV uint32_t pack_bf16(float low, float high) {
    __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *(uint32_t *)&v;
}

/* ---- tiles ----------------------------------------------------------------------------------- */

/* ROWS x D of shared memory from rows first .. of one head; zeros outside. Asynchronous where rows
 * are vectors: a commit and a wait are the caller's. */
template <int D, int ROWS>
QN_DEV void load_tile(const attention_args &a, const heads &x, int b, int h, int first, int end,
                      bf16 *tile) {
    enum { LD = D + 8, CHUNKS = D / 8 };
    if (a.vectors) {
#pragma unroll 4
        for (int i = threadIdx.x; i < ROWS * CHUNKS; i += MMA_THREADS) {
            int r = i / CHUNKS, c = i % CHUNKS * 8;
            bool inside = first + r < end && c < a.d;
            const bf16 *from = head_row<bf16>(x, b, inside ? first + r : 0, h) + (inside ? c : 0);
            cp_async_16(shared_address(tile + r * LD + c), from, inside ? 16 : 0);
        }
    } else {
#pragma unroll 1
        for (int i = threadIdx.x; i < ROWS * D; i += MMA_THREADS) {
            int r = i / D, c = i % D;
            bool inside = first + r < end && c < a.d;
            tile[r * LD + c] =
                inside ? head_row<bf16>(x, b, first + r, h)[c] : from_f32<bf16>(0.0f);
        }
    }
}

/* The A fragment of rows row .. row + 15, columns col .. col + 15. */
template <int D> QN_DEV void load_a(uint32_t (&f)[4], const bf16 *tile, int row, int col) {
    const int lane = threadIdx.x % QN_WARP;
    ldmatrix_x4(f, shared_address(tile + (row + lane % 16) * (D + 8) + col + lane / 16 * 8));
}

/* B fragments of x^T for two blocks of 8 rows of x: f[0], f[1] of rows row .., f[2], f[3] of row
 * + 8 ..; columns col .. col + 15 are the inner dimension. */
template <int D> QN_DEV void load_b(uint32_t (&f)[4], const bf16 *tile, int row, int col) {
    const int lane = threadIdx.x % QN_WARP;
    int r = row + lane % 8 + lane / 16 * 8, c = col + lane / 8 % 2 * 8;
    ldmatrix_x4(f, shared_address(tile + r * (D + 8) + c));
}

/* B fragments of x for two blocks of 8 columns of x; rows row .. row + 15 are the inner
 * dimension. */
template <int D> QN_DEV void load_b_trans(uint32_t (&f)[4], const bf16 *tile, int row, int col) {
    const int lane = threadIdx.x % QN_WARP;
    int r = row + lane % 8 + lane / 8 % 2 * 8, c = col + lane / 16 * 8;
    ldmatrix_x4_trans(f, shared_address(tile + r * (D + 8) + c));
}

/* s = rows row .. of x times N rows of y, both from shared memory. */
template <int D, int N>
QN_DEV void product(const bf16 *x, int row, const bf16 *y, float (&s)[N / 8][4]) {
#pragma unroll
    for (int n = 0; n < N / 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) s[n][e] = 0.0f;
    }
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t f[4];
        load_a<D>(f, x, row, k);
#pragma unroll
        for (int n = 0; n < N; n += 16) {
            uint32_t y2[4];
            load_b<D>(y2, y, n, k);
            mma_bf16(s[n / 8], f, y2[0], y2[1]);
            mma_bf16(s[n / 8 + 1], f, y2[2], y2[3]);
        }
    }
}

/* sum += w y: w are N columns of accumulators, rounded; y is N x D in shared memory. */
template <int D, int N>
QN_DEV void accumulate(const float (&w)[N / 8][4], const bf16 *y, float (&sum)[D / 8][4]) {
#pragma unroll
    for (int k = 0; k < N; k += 16) {
        const float(&p)[4] = w[k / 8], (&q)[4] = w[k / 8 + 1];
        uint32_t f[4] = {pack_bf16(p[0], p[1]), pack_bf16(p[2], p[3]), pack_bf16(q[0], q[1]),
                         pack_bf16(q[2], q[3])};
#pragma unroll
        for (int d = 0; d < D; d += 16) {
            uint32_t y2[4];
            load_b_trans<D>(y2, y, k, d);
            mma_bf16(sum[d / 8], f, y2[0], y2[1]);
            mma_bf16(sum[d / 8 + 1], f, y2[2], y2[3]);
        }
    }
}

/* Writes the warp's 16 rows of sums times factor[] to rows first .. of a head, through the
 * warp's own rows of `stage`, so that 16 bytes go out at a time. */
template <int D>
QN_DEV void store_rows(const attention_args &a, const heads &x, int b, int h, int first, int end,
                       const float (&sum)[D / 8][4], const float (&factor)[2], bf16 *stage,
                       bool adds) {
    enum { LD = D + 8 };
    const int lane = threadIdx.x % QN_WARP, g = lane / 4, t = lane % 4;
    bf16 *own = stage + threadIdx.x / QN_WARP * 16 * LD;
    __syncwarp();
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        *(uint32_t *)(own + g * LD + n * 8 + 2 * t) =
            pack_bf16(sum[n][0] * factor[0], sum[n][1] * factor[0]);
        *(uint32_t *)(own + (g + 8) * LD + n * 8 + 2 * t) =
            pack_bf16(sum[n][2] * factor[1], sum[n][3] * factor[1]);
    }
    __syncwarp();
    const int row = first + threadIdx.x / QN_WARP * 16;
    if (a.vectors && !adds) {
        for (int i = lane; i < 16 * (D / 8); i += QN_WARP) {
            int r = i / (D / 8), c = i % (D / 8) * 8;
            if (row + r >= end || c >= a.d) continue;
            *(uint4 *)(head_row<bf16>(x, b, row + r, h) + c) = *(const uint4 *)(own + r * LD + c);
        }
        return;
    }
    if (!adds) {
        for (int i = lane; i < 16 * D; i += QN_WARP) {
            int r = i / D, c = i % D;
            if (row + r < end && c < a.d) head_row<bf16>(x, b, row + r, h)[c] = own[r * LD + c];
        }
        return;
    }
    /* Added before rounding: from registers. */
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int r = row + g + e / 2 * 8, c = n * 8 + 2 * t + e % 2;
            if (r >= end || c >= a.d) continue;
            bf16 *p = head_row<bf16>(x, b, r, h) + c;
            *p = from_f32<bf16>(to_f32(*p) + sum[n][e] * factor[e / 2]);
        }
    }
}

/* ---- masks ----------------------------------------------------------------------------------- */

/* Which of two queries and which keys: element e of accumulator block n. */
QN_DEV int block_row(int e) { return threadIdx.x % QN_WARP / 4 + e / 2 * 8; }
QN_DEV int block_col(int n, int e) { return n * 8 + threadIdx.x % 4 * 2 + e % 2; }

/* Lowest and highest document of rows first .. first + n of a sample, known to every thread of a
 * warp. */
QN_DEV void document_range(const attention_args &a, int b, int first, int end, int *low,
                           int *high) {
    const int lane = threadIdx.x % QN_WARP;
    int most = INT32_MIN, least = INT32_MAX;
    for (int i = first + lane; i < end; i += QN_WARP) {
        int d = document_of(a, b, i);
        most = d > most ? d : most;
        least = d < least ? d : least;
    }
#pragma unroll
    for (int k = 16; k; k >>= 1) {
        int m = __shfl_xor_sync(0xFFFFFFFFu, most, k), l = __shfl_xor_sync(0xFFFFFFFFu, least, k);
        most = m > most ? m : most;
        least = l < least ? l : least;
    }
    *low = least;
    *high = most;
}

/* No document of the one range is in the other. */
QN_DEV bool documents_apart(const attention_args &a, int b, int i0, int i1, int j0, int j1) {
    int low[2], high[2];
    document_range(a, b, i0, i1, &low[0], &high[0]);
    document_range(a, b, j0, j1, &low[1], &high[1]);
    return high[0] < low[1] || high[1] < low[0];
}

QN_DEV int smaller(int x, int y) { return x < y ? x : y; }

/* ---- forward --------------------------------------------------------------------------------- */

/* Sets what a query does not see to -infinity. Rows are queries first + 16 warp + g (+8). */
template <int N>
QN_DEV void mask_scores(const attention_args &a, int b, int query, int key, int64_t offset,
                        float (&s)[N / 8][4]) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int i = smaller(query + block_row(2 * r), a.t - 1);
        const int begin = key_begin(a, offset, i), limit = key_limit(a, offset, i);
        const int document = a.documents ? document_of(a, b, i) : 0;
#pragma unroll
        for (int n = 0; n < N / 8; n++) {
#pragma unroll
            for (int e = 2 * r; e < 2 * r + 2; e++) {
                int j = key + block_col(n, e);
                bool sees = j >= begin && j < limit;
                if (sees && a.documents) sees = document_of(a, b, j) == document;
                if (!sees) s[n][e] = -INFINITY;
            }
        }
    }
}

/* Bit 4n + e: weight e of accumulator block n is kept. The draws are in a loop that is not
 * unrolled, or they would be most of the code. */
template <int N>
QN_DEV uint32_t kept_weights(const attention_args &a, int b, int h, int query, int key) {
    uint32_t kept = 0;
#pragma unroll 1
    for (int k = 0; k < N / 4; k++) { /* a row of a block: two neighbours */
        const int i = smaller(query + block_row(2 * (k & 1)), a.t - 1),
                  j = key + block_col(k / 2, 0);
        float m[2];
        dropout_pair(a, dropout_element(a, b, h, i) + (uint64_t)j, m);
        kept |= ((m[0] > 0.0f ? 1u : 0u) | (m[1] > 0.0f ? 2u : 0u)) << (2 * k);
    }
    return kept;
}

template <int N>
QN_DEV void drop_weights(const attention_args &a, int b, int h, int query, int key,
                         float (&p)[N / 8][4]) {
    const uint32_t kept = kept_weights<N>(a, b, h, query, key);
#pragma unroll
    for (int n = 0; n < N / 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) p[n][e] *= kept >> (4 * n + e) & 1u ? a.keep_scale : 0.0f;
    }
}

template <int D>
__global__ void __launch_bounds__(MMA_THREADS, 2) k_attention_mma_fwd(attention_args a) {
    enum { SIZE = TILE * (D + 8) };
    extern __shared__ uint4 raw[];
    bf16 *sq = (bf16 *)raw, *sk = sq + SIZE, *sv = sk + 2 * SIZE; /* two stages of k and v */
    const int b = blockIdx.z, h = blockIdx.y, g = h / (a.h / a.g);
    const int first = (gridDim.x - 1 - blockIdx.x) * TILE; /* the longest first */
    const int query = first + threadIdx.x / QN_WARP * 16, end = smaller(first + TILE, a.t);
    const int64_t offset = query_offset(a, b);
    const int keys = key_limit(a, offset, end - 1);
    /* Keys from key_from on and below warp_keys are seen by all rows of the warp. */
    const int warp_keys = key_limit(a, offset, smaller(query, a.t - 1));
    const int key_from = key_begin(a, offset, smaller(query + 15, a.t - 1));
    const int tiles = key_begin(a, offset, first) / TILE * TILE;
    const float scale = a.scale * LOG2E;
    float o[D / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, total[2] = {};
    load_tile<D, TILE>(a, a.q, b, h, first, a.t, sq);
    load_tile<D, TILE>(a, a.k, b, g, tiles, a.s, sk);
    load_tile<D, TILE>(a, a.v, b, g, tiles, a.s, sv);
    cp_async_commit();
    for (int key = tiles, stage = 0; key < keys; key += TILE, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads(); /* this stage is here, the other is free */
        if (key + TILE < keys) {
            load_tile<D, TILE>(a, a.k, b, g, key + TILE, a.s, sk + (stage ^ 1) * SIZE);
            load_tile<D, TILE>(a, a.v, b, g, key + TILE, a.s, sv + (stage ^ 1) * SIZE);
        }
        cp_async_commit();
        if (a.documents && documents_apart(a, b, first, end, key, smaller(key + TILE, a.s)))
            continue;
        float s[TILE / 8][4];
        product<D, TILE>(sq, query - first, sk + stage * SIZE, s);
        if (a.documents || key < key_from || key + TILE > warp_keys)
            mask_scores<TILE>(a, b, query, key, offset, s);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float high = most[r], sum = 0.0f;
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
                high = fmaxf(high, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
            high = fmaxf(high, __shfl_xor_sync(0xFFFFFFFFu, high, 1));
            high = fmaxf(high, __shfl_xor_sync(0xFFFFFFFFu, high, 2));
            const float base = high == -INFINITY ? 0.0f : high * scale;
            const float shrink = exp2f(most[r] * scale - base); /* 0 at first */
            most[r] = high;
#pragma unroll
            for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
                for (int e = 2 * r; e < 2 * r + 2; e++) {
                    s[n][e] = exp2f(fmaf(s[n][e], scale, -base));
                    sum += s[n][e];
                }
            }
            total[r] = total[r] * shrink + sum;
#pragma unroll
            for (int d = 0; d < D / 8; d++) {
                o[d][2 * r] *= shrink;
                o[d][2 * r + 1] *= shrink;
            }
        }
        if (a.rng) drop_weights<TILE>(a, b, h, query, key, s);
        accumulate<D, TILE>(s, sv + stage * SIZE, o);
    }
    cp_async_wait<0>();
    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += __shfl_xor_sync(0xFFFFFFFFu, total[r], 1);
        total[r] += __shfl_xor_sync(0xFFFFFFFFu, total[r], 2);
        factor[r] = total[r] > 0.0f ? 1.0f / total[r] : 0.0f;
        const int i = query + block_row(2 * r);
        if (a.lse && threadIdx.x % 4 == 0 && i < a.t) {
            float lse = total[r] > 0.0f ? most[r] * a.scale + logf(total[r]) : -INFINITY;
            a.lse[stat_index(a, b, h, i)] = lse;
        }
    }
    /* The q tile is this warp's own by rows; with no key at all its copy may not have been waited
     * for by the others, but no thread touches another's rows. */
    __syncthreads();
    store_rows<D>(a, a.o, b, h, first, a.t, o, factor, sq, false);
}

/* ---- dq -------------------------------------------------------------------------------------- */

template <int D>
__global__ void __launch_bounds__(MMA_THREADS, 2) k_attention_mma_dq(attention_args a) {
    enum { SIZE = TILE * (D + 8), N = D > 64 ? 32 : 64, PART = N * (D + 8) };
    extern __shared__ uint4 raw[];
    bf16 *sq = (bf16 *)raw, *sdo = sq + SIZE, *sk = sdo + SIZE, *sv = sk + 2 * PART;
    const int b = blockIdx.z, h = blockIdx.y, g = h / (a.h / a.g);
    const int first = (gridDim.x - 1 - blockIdx.x) * TILE;
    const int query = first + threadIdx.x / QN_WARP * 16, end = smaller(first + TILE, a.t);
    const int64_t offset = query_offset(a, b);
    const int keys = key_limit(a, offset, end - 1);
    const int warp_keys = key_limit(a, offset, smaller(query, a.t - 1));
    const int key_from = key_begin(a, offset, smaller(query + 15, a.t - 1));
    const int tiles = key_begin(a, offset, first) / N * N;
    float dq[D / 8][4] = {}, lse[2], mean[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int i = smaller(query + block_row(2 * r), a.t - 1);
        float l = a.lse[stat_index(a, b, h, i)];
        lse[r] = l == -INFINITY ? 0.0f : l * LOG2E; /* such a query sees nothing: p is 0 below */
        mean[r] = a.row_dot[stat_index(a, b, h, i)];
    }
    load_tile<D, TILE>(a, a.q, b, h, first, a.t, sq);
    load_tile<D, TILE>(a, a.d_o, b, h, first, a.t, sdo);
    load_tile<D, N>(a, a.k, b, g, tiles, a.s, sk);
    load_tile<D, N>(a, a.v, b, g, tiles, a.s, sv);
    cp_async_commit();
    for (int key = tiles, stage = 0; key < keys; key += N, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads();
        if (key + N < keys) {
            load_tile<D, N>(a, a.k, b, g, key + N, a.s, sk + (stage ^ 1) * PART);
            load_tile<D, N>(a, a.v, b, g, key + N, a.s, sv + (stage ^ 1) * PART);
        }
        cp_async_commit();
        if (a.documents && documents_apart(a, b, first, end, key, smaller(key + N, a.s))) continue;
        float s[N / 8][4], dp[N / 8][4];
        product<D, N>(sq, query - first, sk + stage * PART, s);
        product<D, N>(sdo, query - first, sv + stage * PART, dp);
        if (a.documents || key < key_from || key + N > warp_keys)
            mask_scores<N>(a, b, query, key, offset, s);
        if (a.rng) drop_weights<N>(a, b, h, query, key, dp);
#pragma unroll
        for (int n = 0; n < N / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float p = exp2f(fmaf(s[n][e], a.scale * LOG2E, -lse[e / 2]));
                s[n][e] = p * (dp[n][e] - mean[e / 2]) * a.scale;
            }
        }
        accumulate<D, N>(s, sk + stage * PART, dq);
    }
    cp_async_wait<0>();
    __syncthreads();
    const float one[2] = {1.0f, 1.0f};
    store_rows<D>(a, a.dq, b, h, first, a.t, dq, one, sq, a.adds & 1u);
}

/* ---- dk and dv ------------------------------------------------------------------------------- */

/* As kept_weights where rows are keys and columns queries. */
template <int N>
QN_DEV uint32_t kept_transposed(const attention_args &a, int b, int h, int query, int key) {
    uint32_t kept = 0;
#pragma unroll 1
    for (int k = 0; k < N / 2; k++) {
        const int i = smaller(query + block_col(k / 4, k % 4), a.t - 1), j = key + block_row(k % 4);
        float m = dropout_factor(a, dropout_element(a, b, h, i) + (uint64_t)j);
        kept |= (m > 0.0f ? 1u : 0u) << k;
    }
    return kept;
}

/* P^T that met dO, in p, and dS^T, in s (rows: keys, columns: queries). */
template <int N>
QN_DEV void transposed_gradients(const attention_args &a, int b, int h, int query, int key,
                                 int64_t offset, bool masked, const float *lse, const float *mean,
                                 float (&s)[N / 8][4], float (&p)[N / 8][4]) {
    const uint32_t kept = a.rng ? kept_transposed<N>(a, b, h, query, key) : 0;
#pragma unroll
    for (int n = 0; n < N / 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int column = block_col(n, e), i = query + column, j = key + block_row(e);
            float dp = p[n][e], m = 1.0f;
            float w = exp2f(fmaf(s[n][e], a.scale * LOG2E, -lse[column]));
            if (masked) {
                bool sees = i < a.t && j >= key_begin(a, offset, i) && j < key_limit(a, offset, i);
                if (sees && a.documents) sees = document_of(a, b, i) == document_of(a, b, j);
                if (!sees) w = 0.0f;
            }
            if (a.rng) m = kept >> (4 * n + e) & 1u ? a.keep_scale : 0.0f;
            s[n][e] = w * (m * dp - mean[column]) * a.scale;
            p[n][e] = w * m;
        }
    }
}

template <int D>
__global__ void __launch_bounds__(MMA_THREADS, 2) k_attention_mma_dkv(attention_args a) {
    enum { SIZE = TILE * (D + 8), N = D > 64 ? 32 : 64, PART = N * (D + 8) };
    extern __shared__ uint4 raw[];
    bf16 *sk = (bf16 *)raw, *sv = sk + SIZE, *sq = sv + SIZE, *sdo = sq + 2 * PART;
    float *lse = (float *)(sdo + 2 * PART), *mean = lse + N;
    const int b = blockIdx.z, g = blockIdx.y, group = a.h / a.g, first = blockIdx.x * TILE;
    const int key = first + threadIdx.x / QN_WARP * 16, end = smaller(first + TILE, a.s);
    const int64_t offset = query_offset(a, b);
    const int begin = query_begin(a, offset, first) / N * N;
    const int queries = query_limit(a, offset, end - 1);
    const int steps = begin < queries ? (queries - begin + N - 1) / N : 0;
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    load_tile<D, TILE>(a, a.k, b, g, first, a.s, sk);
    load_tile<D, TILE>(a, a.v, b, g, first, a.s, sv);
    if (steps > 0) {
        load_tile<D, N>(a, a.q, b, g * group, begin, a.t, sq);
        load_tile<D, N>(a, a.d_o, b, g * group, begin, a.t, sdo);
    }
    cp_async_commit();
    /* All queries of the first head of the group, then those of the next. */
    for (int at = 0, stage = 0; at < steps * group; at++, stage ^= 1) {
        const int h = g * group + at / steps, query = begin + at % steps * N;
        cp_async_wait<0>();
        __syncthreads();
        if (at + 1 < steps * group) {
            const int next_h = g * group + (at + 1) / steps, next = begin + (at + 1) % steps * N;
            load_tile<D, N>(a, a.q, b, next_h, next, a.t, sq + (stage ^ 1) * PART);
            load_tile<D, N>(a, a.d_o, b, next_h, next, a.t, sdo + (stage ^ 1) * PART);
        }
        cp_async_commit();
        const int last = smaller(query + N, a.t);
        if (a.documents && documents_apart(a, b, query, last, first, end)) continue;
        if (threadIdx.x < N) {
            const int i = smaller(query + (int)threadIdx.x, a.t - 1);
            float l = a.lse[stat_index(a, b, h, i)];
            lse[threadIdx.x] = l == -INFINITY ? 0.0f : l * LOG2E;
            mean[threadIdx.x] = a.row_dot[stat_index(a, b, h, i)];
        }
        __syncthreads();
        float s[N / 8][4], p[N / 8][4];
        product<D, N>(sk, key - first, sq + stage * PART, s);
        product<D, N>(sv, key - first, sdo + stage * PART, p);
        const bool masked = a.documents || query + N > a.t ||
                            key < key_begin(a, offset, query + N - 1) ||
                            key + 16 > key_limit(a, offset, query);
        transposed_gradients<N>(a, b, h, query, key, offset, masked, lse, mean, s, p);
        accumulate<D, N>(p, sdo + stage * PART, dv);
        accumulate<D, N>(s, sq + stage * PART, dk);
    }
    cp_async_wait<0>();
    __syncthreads();
    const float one[2] = {1.0f, 1.0f};
    if (a.dk.data) store_rows<D>(a, a.dk, b, g, first, a.s, dk, one, sk, a.adds >> 1 & 1u);
    if (a.dv.data) store_rows<D>(a, a.dv, b, g, first, a.s, dv, one, sv, a.adds >> 2 & 1u);
}

/* ---- launchers ------------------------------------------------------------------------------- */

template <int D> static cudaError_t fwd(const attention_args *a, cudaStream_t s) {
    dim3 grid((unsigned)div_up(a->t, TILE), a->h, a->b);
    return attention_launch<MMA_THREADS>(k_attention_mma_fwd<D>, grid,
                                         sizeof(bf16) * 5 * TILE * (D + 8), a, s);
}

template <int D> static cudaError_t bwd(const attention_args *a, cudaStream_t s) {
    constexpr int N = D > 64 ? 32 : 64;
    const size_t shared = sizeof(bf16) * (2 * TILE + 4 * N) * (D + 8);
    dim3 keys((unsigned)div_up(a->s, TILE), a->g, a->b);
    dim3 queries((unsigned)div_up(a->t, TILE), a->h, a->b);
    cudaError_t e = cudaSuccess;
    if (a->dk.data || a->dv.data) {
        e = attention_launch<MMA_THREADS>(k_attention_mma_dkv<D>, keys,
                                          shared + 2 * N * sizeof(float), a, s);
    }
    if (e == cudaSuccess && a->dq.data)
        e = attention_launch<MMA_THREADS>(k_attention_mma_dq<D>, queries, shared, a, s);
    return e;
}

cudaError_t attention_mma_fwd(const attention_args *a, cudaStream_t s) {
    return a->d <= 32   ? fwd<32>(a, s)
           : a->d <= 64 ? fwd<64>(a, s)
           : a->d <= 96 ? fwd<96>(a, s)
                        : fwd<128>(a, s);
}

cudaError_t attention_mma_bwd(const attention_args *a, cudaStream_t s) {
    return a->d <= 32   ? bwd<32>(a, s)
           : a->d <= 64 ? bwd<64>(a, s)
           : a->d <= 96 ? bwd<96>(a, s)
                        : bwd<128>(a, s);
}
