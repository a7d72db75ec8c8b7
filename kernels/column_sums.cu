/* column_sums.cu — the sums of a matrix's columns: bias gradients.
 *
 * A block takes a stretch of rows and 32 x V columns, a lane V neighbouring columns (16 bytes), a
 * warp every eighth row; the warps' sums are added in order through shared memory. Stretches are
 * cut by shape alone to give about 528 blocks; their sums lie in scratch (f32) and a second kernel
 * adds them in order. Where rows do not lie on 16 bytes a lane takes one column.
 *
 * Traffic: x once; partial sums 8 stretches cols bytes; the output once, twice if it accumulates.
 */
#include "kernels/matmul_parts.cuh"

enum { WARPS = 8, THREADS = WARPS * QN_WARP, NOMINAL_BLOCKS = 528, MIN_ROWS = 64 };

typedef struct sums_args {
    qn_column_sums s;
    int64_t stretch, stretches; /* rows of each but the last; their number */
} sums_args;

static int64_t columns_per_block(qn_dtype dt) { return QN_WARP * (dt == QN_F32 ? 4 : 8); }

/* Of the wide form, whatever the alignment: scratch and bits must not depend on addresses. */
static sums_args args_of(const qn_column_sums *s) {
    sums_args g = {};
    g.s = *s;
    const int64_t across = div_up(s->cols, columns_per_block(s->dtype));
    int64_t n = across > 0 ? div_up(NOMINAL_BLOCKS, across) : 1;
    if (n > s->rows / MIN_ROWS) n = s->rows / MIN_ROWS;
    if (n < 1) n = 1;
    g.stretch = div_up(s->rows, n);
    if (g.stretch < 1) g.stretch = 1;
    g.stretches = s->rows > 0 ? div_up(s->rows, g.stretch) : 1;
    return g;
}

size_t qn_column_sums_scratch(const qn_column_sums *s) {
    const sums_args g = args_of(s);
    return g.stretches > 1 ? (size_t)(g.stretches * s->cols) * sizeof(float) : 0;
}

QN_DEV void put_sum(const qn_column_sums &s, int64_t col, float sum) {
    if (s.sums_dtype == QN_F32) {
        float *to = (float *)s.sums + col;
        *to = s.accumulate ? *to + sum : sum;
    } else {
        bf16 *to = (bf16 *)s.sums + col;
        *to = from_f32<bf16>(s.accumulate ? to_f32(*to) + sum : sum);
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) k_column_sums(const __grid_constant__ sums_args g) {
    __shared__ float part[WARPS][QN_WARP * V];
    const int warp = (int)threadIdx.x / QN_WARP, lane = (int)threadIdx.x % QN_WARP;
    const int64_t first_col = (int64_t)blockIdx.x * QN_WARP * V, col = first_col + lane * V;
    const int64_t first = blockIdx.y * g.stretch;
    const int64_t end = first + g.stretch < g.s.rows ? first + g.stretch : g.s.rows;
    const T *x = (const T *)g.s.x + col;
    const bool whole = col + V <= g.s.cols;
    float sum[V] = {};
#pragma unroll 4
    for (int64_t r = first + warp; r < end; r += WARPS) {
        float v[V];
        if (V > 1 && whole) {
            load_run<T, V>(v, x + r * g.s.ld);
        } else {
#pragma unroll
            for (int e = 0; e < V; e++) {
                v[e] = col + e < g.s.cols ? to_f32(x[r * g.s.ld + e]) : 0.0f;
            }
        }
#pragma unroll
        for (int e = 0; e < V; e++) sum[e] += v[e];
    }
#pragma unroll
    for (int e = 0; e < V; e++) part[warp][e * QN_WARP + lane] = sum[e]; /* no bank conflicts */
    __syncthreads();
    for (int i = (int)threadIdx.x; i < QN_WARP * V; i += THREADS) {
        const int64_t j = first_col + i;
        const int at = i % V * QN_WARP + i / V;
        if (j >= g.s.cols) return;
        float total = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) total += part[w][at];
        if (g.stretches == 1) {
            put_sum(g.s, j, total);
        } else {
            ((float *)g.s.scratch)[blockIdx.y * g.s.cols + j] = total;
        }
    }
}

__global__ void __launch_bounds__(THREADS)
    k_column_sums_finish(const __grid_constant__ sums_args g) {
    const int64_t col = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (col >= g.s.cols) return;
    const float *part = (const float *)g.s.scratch + col;
    float total = 0.0f;
#pragma unroll 8
    for (int64_t i = 0; i < g.stretches; i++) total += part[i * g.s.cols];
    put_sum(g.s, col, total);
}

template <typename T> static void launch(const sums_args *g, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    const bool wide = is_aligned16(g->s.x) && g->s.ld % V == 0;
    const dim3 grid((unsigned)div_up(g->s.cols, QN_WARP * (wide ? V : 1)), (unsigned)g->stretches);
    if (wide) {
        k_column_sums<T, V><<<grid, THREADS, 0, stream>>>(*g);
    } else {
        k_column_sums<T, 1><<<grid, THREADS, 0, stream>>>(*g);
    }
}

qn_status qn_cuda_column_sums(const qn_column_sums *s, void *stream) {
    if ((s->dtype != QN_F32 && s->dtype != QN_BF16) ||
        (s->sums_dtype != QN_F32 && s->sums_dtype != QN_BF16)) {
        return qn_fail(QN_ERR_DTYPE, "column sums: dtype numbers %d and %d, expected f32 or bf16",
                       s->dtype, s->sums_dtype);
    }
    if (s->cols > INT32_MAX) {
        return qn_fail(QN_ERR_SHAPE, "column sums: %lld columns, expected fewer than 2^31",
                       (long long)s->cols);
    }
    if (s->cols == 0) return QN_OK;
    const sums_args g = args_of(s);
    if (s->dtype == QN_F32) {
        launch<float>(&g, (cudaStream_t)stream);
    } else {
        launch<bf16>(&g, (cudaStream_t)stream);
    }
    QN_TRY(product_launched("column sums"));
    if (g.stretches == 1) return QN_OK;
    const unsigned blocks = (unsigned)div_up(s->cols, THREADS);
    k_column_sums_finish<<<blocks, THREADS, 0, (cudaStream_t)stream>>>(g);
    return product_launched("column sums");
}
