/* lookup.cu — embedding: rows of a table by id, plus rows of a position table, and its gradient.
 *
 * Forward: a warp copies a row, 16 bytes a lane: ids, the rows used and y move once.
 *
 * Gradient without atomics on floats: (id, row) pairs are sorted by id, stably (radix sort, 8
 * bits a pass, 2048 pairs a block), so that the rows of one id lie side by side in their order.
 * A block adds a window of 32 sorted pairs: an id whose rows lie inside is written at once; the
 * parts of one that crosses windows go to scratch and are added in order by a second kernel.
 * Rows of dtable no id names are zeroed first, unless the call accumulates. dy is read once,
 * dtable written once (twice where rows are used), plus at most 2/32 of dy for parts and 16
 * bytes a pair and pass for sorting. Positions: a thread adds its column over the samples, in
 * order.
 *
 * An id outside the table gives a row of NaN, and no gradient: the loss becomes NaN and the guard
 * refuses the step. (Sources check ids when they read them.)
 */
#include "kernels/walk.cuh"

enum { LOOKUP_THREADS = 256, SORT_THREADS = 256, SORT_BLOCK = 2048, RADIX = 256, WINDOW = 32 };

struct pair {
    uint32_t id, row;
};

/* ---- forward --------------------------------------------------------------------------------- */

struct lookup_args {
    const int32_t *ids, *start;
    int64_t start_stride; /* from sequence to sequence; 0 = one for all */
    const void *table, *positions;
    void *y;
    int64_t n, steps, classes, width, table_stride, positions_stride, positions_n;
};

template <typename T, int V>
__global__ void __launch_bounds__(LOOKUP_THREADS) k_embedding(lookup_args a) {
    const int lane = threadIdx.x % QN_WARP;
    const int64_t i = ((int64_t)blockIdx.x * LOOKUP_THREADS + threadIdx.x) / QN_WARP;
    if (i >= a.n) return;
    const int64_t id = a.ids[i];
    const int64_t at = (a.start ? a.start[i / a.steps * a.start_stride] : 0) + i % a.steps;
    bool known = id >= 0 && id < a.classes;
    if (a.positions) known = known && at >= 0 && at < a.positions_n;
    const T *row = (const T *)a.table + id * a.table_stride;
    const T *step = (const T *)a.positions + at * a.positions_stride;
    for (int64_t j = (int64_t)lane * V; j < a.width; j += QN_WARP * V) {
        float x[V], p[V];
        if (known) load_run<T, V>(x, row + j);
        if (known && a.positions) load_run<T, V>(p, step + j);
#pragma unroll
        for (int e = 0; e < V; e++) {
            if (!known) x[e] = NAN;
            if (known && a.positions) x[e] += p[e];
        }
        store_run<T, V>((T *)a.y + i * a.width + j, x);
    }
}

static int64_t steps_of(const qn_tensor *ids) {
    int64_t steps = ids->ndim > 0 ? ids->shape[ids->ndim - 1] : 1;
    return steps > 0 ? steps : 1;
}

static bool rows_aligned(const qn_tensor *t, int v, int bytes) {
    return !t || ((uintptr_t)t->data % (size_t)(v * bytes) == 0 && t->stride[0] % v == 0);
}

template <typename T> static void launch_embedding(const qn_call *c, const lookup_args &a) {
    constexpr int V = 16 / sizeof(T);
    bool vectors = a.width % V == 0 && rows_aligned(c->in[1], V, sizeof(T)) &&
                   rows_aligned(c->in[2], V, sizeof(T)) && is_aligned16(a.y);
    unsigned blocks = (unsigned)div_up(a.n, LOOKUP_THREADS / QN_WARP);
    if (vectors) {
        k_embedding<T, V><<<blocks, LOOKUP_THREADS, 0, stream_of(c)>>>(a);
    } else {
        k_embedding<T, 1><<<blocks, LOOKUP_THREADS, 0, stream_of(c)>>>(a);
    }
}

static qn_status run_embedding(const qn_call *c) {
    const qn_tensor *ids = c->in[0], *table = c->in[1], *p = c->in[2], *start = c->in[3];
    lookup_args a = {(const int32_t *)ids->data};
    a.start = start ? (const int32_t *)start->data : NULL;
    a.start_stride = start && start->ndim == 1 && start->shape[0] > 1 ? start->stride[0] : 0;
    a.table = table->data;
    a.positions = p ? p->data : NULL;
    a.y = c->out[0]->data;
    a.n = tensor_count(ids);
    a.steps = steps_of(ids);
    a.classes = table->shape[0];
    a.width = table->shape[1];
    a.table_stride = table->stride[0];
    a.positions_stride = p ? p->stride[0] : 0;
    a.positions_n = p ? p->shape[0] : 0;
    if (a.n == 0 || a.width == 0) return QN_OK;
    if (table->dtype == QN_F32) {
        launch_embedding<float>(c, a);
    } else {
        launch_embedding<bf16>(c, a);
    }
    return launched(c);
}

/* ---- sorting --------------------------------------------------------------------------------- */

/* The first pass makes the pairs from the ids; one outside the table gets the id `classes`. */
struct sort_args {
    const int32_t *ids; /* NULL after the first pass */
    const pair *from;
    pair *to;
    uint32_t *counts; /* RADIX x blocks: how many, then where they begin */
    int64_t n, classes;
    int blocks, shift;
};

QN_DEV pair sort_load(const sort_args &a, int64_t i) {
    if (!a.ids) return a.from[i];
    int32_t id = a.ids[i];
    return {id >= 0 && id < a.classes ? (uint32_t)id : (uint32_t)a.classes, (uint32_t)i};
}

/* Lanes of the warp whose pair has the same digit. */
QN_DEV uint32_t sort_peers(const sort_args &a, bool valid, const pair &p, uint32_t *digit) {
    *digit = valid ? p.id >> a.shift & (RADIX - 1) : RADIX;
    return __match_any_sync(0xFFFFFFFFu, *digit);
}

/* counts[digit][block]: a warp takes an eighth of the block's pairs, in order. */
__global__ void __launch_bounds__(SORT_THREADS) k_sort_count(sort_args a) {
    __shared__ uint32_t count[RADIX];
    count[threadIdx.x] = 0;
    __syncthreads();
    const int64_t first = (int64_t)blockIdx.x * SORT_BLOCK;
    for (int k = threadIdx.x; k < SORT_BLOCK; k += SORT_THREADS) {
        bool valid = first + k < a.n;
        uint32_t digit,
            peers = sort_peers(a, valid, valid ? sort_load(a, first + k) : pair{}, &digit);
        bool leads = (peers & ((1u << threadIdx.x % QN_WARP) - 1)) == 0;
        if (valid && leads) atomicAdd(&count[digit], __popc(peers)); /* whole numbers: any order */
    }
    __syncthreads();
    a.counts[threadIdx.x * a.blocks + blockIdx.x] = count[threadIdx.x];
}

/* Exclusive sums of all counts, digit by digit, block by block: one block, a digit a thread. */
__global__ void __launch_bounds__(RADIX) k_sort_scan(sort_args a) {
    __shared__ uint32_t total[RADIX];
    uint32_t sum = 0, *row = a.counts + threadIdx.x * a.blocks;
    for (int b = 0; b < a.blocks; b++) sum += row[b];
    total[threadIdx.x] = sum;
    for (int d = 1; d < RADIX; d *= 2) {
        __syncthreads();
        uint32_t before = (int)threadIdx.x >= d ? total[threadIdx.x - d] : 0;
        __syncthreads();
        total[threadIdx.x] += before;
    }
    uint32_t at = total[threadIdx.x] - sum;
    for (int b = 0; b < a.blocks; b++) {
        uint32_t n = row[b];
        row[b] = at;
        at += n;
    }
}

/* Places the pairs: 256 at a time, warps in order, so that equal digits keep theirs. */
__global__ void __launch_bounds__(SORT_THREADS) k_sort_place(sort_args a) {
    enum { WARPS = SORT_THREADS / QN_WARP };
    __shared__ uint32_t next[RADIX], of_warp[WARPS][RADIX];
    const int lane = threadIdx.x % QN_WARP, warp = threadIdx.x / QN_WARP;
    next[threadIdx.x] = a.counts[threadIdx.x * a.blocks + blockIdx.x];
    const int64_t first = (int64_t)blockIdx.x * SORT_BLOCK;
    for (int k = threadIdx.x; k < SORT_BLOCK; k += SORT_THREADS) {
        for (int w = 0; w < WARPS; w++) of_warp[w][threadIdx.x] = 0;
        __syncthreads();
        bool valid = first + k < a.n;
        pair p = valid ? sort_load(a, first + k) : pair{};
        uint32_t digit, peers = sort_peers(a, valid, p, &digit);
        uint32_t rank = __popc(peers & ((1u << lane) - 1));
        if (valid && rank == 0) of_warp[warp][digit] = __popc(peers);
        __syncthreads();
        uint32_t at = rank;
        if (valid) {
            at += next[digit];
            for (int w = 0; w < warp; w++) at += of_warp[w][digit];
            a.to[at] = p;
        }
        __syncthreads();
        for (int w = 0; w < WARPS; w++) next[threadIdx.x] += of_warp[w][threadIdx.x];
        __syncthreads();
    }
}

/* ---- gradient -------------------------------------------------------------------------------- */

struct scatter_args {
    const pair *sorted;
    const void *dy;
    void *dtable;
    double *part; /* windows x {first, last} x width */
    int64_t n, classes, width, dy_stride, dtable_stride;
    bool adds, dtable_f32;
};

template <int V>
QN_DEV void put_row(const scatter_args &a, uint32_t id, int64_t j, const double (&sum)[V]) {
    int64_t at = (int64_t)id * a.dtable_stride + j;
    float old[V] = {}, x[V];
    if (a.dtable_f32) {
        float *p = (float *)a.dtable + at;
        if (a.adds) load_run<float, V>(old, p);
#pragma unroll
        for (int e = 0; e < V; e++) x[e] = (float)(sum[e] + (double)old[e]);
        store_run<float, V>(p, x);
    } else {
        bf16 *p = (bf16 *)a.dtable + at;
        if (a.adds) load_run<bf16, V>(old, p);
#pragma unroll
        for (int e = 0; e < V; e++) x[e] = (float)(sum[e] + (double)old[e]);
        store_run<bf16, V>(p, x);
    }
}

/* Where column j + e of a part lies: the threads of a warp side by side for each e. */
template <int V> QN_DEV int64_t part_column(const scatter_args &a, int64_t j, int e) {
    return e * (a.width / V) + j / V;
}

/* A block: one window of the sorted pairs. Four blocks of a multiprocessor: left to itself, ptxas
 * aims for six, and spills. */
template <typename T, int V>
__global__ void __launch_bounds__(LOOKUP_THREADS, 4) k_embedding_bwd(scatter_args a) {
    const int64_t window = blockIdx.x, first = window * WINDOW, full = first + WINDOW;
    const int64_t end = full < a.n ? full : a.n;
    const int64_t columns = LOOKUP_THREADS * V;
    for (int64_t j = ((int64_t)threadIdx.x) * V; j < a.width; j += columns) {
        double sum[V] = {};
        int64_t begin = first;
        pair next = a.sorted[first];
        for (int64_t k = first; k < end; k++) {
            float x[V];
            const pair p = next;
            if (k + 1 < end) next = a.sorted[k + 1];
            if (p.id < a.classes) {
                load_run<T, V>(x, (const T *)a.dy + (int64_t)p.row * a.dy_stride + j);
#pragma unroll
                for (int e = 0; e < V; e++) sum[e] += (double)x[e];
            }
            if (k + 1 < end && next.id == p.id) continue;
            bool from_before = begin == first && first > 0 && a.sorted[first - 1].id == p.id;
            bool goes_on = k + 1 == end && end < a.n && a.sorted[end].id == p.id;
            if (from_before || goes_on) {
                int which = from_before ? 0 : 1;
                double *to = a.part + (window * 2 + which) * a.width;
#pragma unroll
                for (int e = 0; e < V; e++) to[part_column<V>(a, j, e)] = sum[e];
            } else if (p.id < a.classes) {
                put_row<V>(a, p.id, j, sum);
            }
            begin = k + 1;
#pragma unroll
            for (int e = 0; e < V; e++) sum[e] = 0.0;
        }
    }
}

/* A block: the id that begins in this window and goes on, its parts added in order. */
template <int V>
__global__ void __launch_bounds__(LOOKUP_THREADS) k_embedding_parts(scatter_args a) {
    const int64_t window = blockIdx.x, first = window * WINDOW, end = first + WINDOW;
    if (end >= a.n) return;
    const uint32_t id = a.sorted[end].id;
    if (a.sorted[end - 1].id != id || id >= a.classes) return;
    bool begins = a.sorted[first].id != id || first == 0 || a.sorted[first - 1].id != id;
    if (!begins) return;
    for (int64_t j = (int64_t)threadIdx.x * V; j < a.width; j += LOOKUP_THREADS * V) {
        double sum[V];
        const double *first_part = a.part + (window * 2 + 1) * a.width;
#pragma unroll
        for (int e = 0; e < V; e++) sum[e] = first_part[part_column<V>(a, j, e)];
        for (int64_t w = window + 1; w * WINDOW < a.n && a.sorted[w * WINDOW].id == id; w++) {
            const double *part = a.part + w * 2 * a.width;
#pragma unroll
            for (int e = 0; e < V; e++) sum[e] += part[part_column<V>(a, j, e)];
        }
        put_row<V>(a, id, j, sum);
    }
}

struct position_args {
    const void *dy;
    void *out;
    const int32_t *start;
    int64_t samples, steps, positions, width, dy_stride, out_stride;
    bool adds, out_f32;
};

template <typename T>
__global__ void __launch_bounds__(LOOKUP_THREADS) k_embedding_positions(position_args a) {
    const int64_t j = (int64_t)blockIdx.y * LOOKUP_THREADS + threadIdx.x, p = blockIdx.x;
    if (j >= a.width) return;
    const int64_t t = p - (a.start ? *a.start : 0);
    double sum = 0.0;
    if (t >= 0 && t < a.steps) {
        const T *dy = (const T *)a.dy + t * a.dy_stride + j;
        for (int64_t b = 0; b < a.samples; b++)
            sum += (double)to_f32(dy[b * a.steps * a.dy_stride]);
    }
    if (a.out_f32) {
        float *out = (float *)a.out + p * a.out_stride + j;
        *out = (float)(a.adds ? (double)*out + sum : sum);
    } else {
        bf16 *out = (bf16 *)a.out + p * a.out_stride + j;
        *out = from_f32<bf16>((float)(a.adds ? (double)to_f32(*out) + sum : sum));
    }
}

/* ---- gradient: launchers --------------------------------------------------------------------- */

/* Scratch: two arrays of pairs, counts, parts. */
struct scatter_layout {
    int64_t blocks, windows;
    size_t pairs, counts, parts, total; /* offsets */
};

static scatter_layout layout_of(int64_t n, int64_t width) {
    scatter_layout l = {div_up(n, SORT_BLOCK), div_up(n, WINDOW)};
    l.pairs = (size_t)div_up(n * (int64_t)sizeof(pair), 256) * 256;
    l.counts = 2 * l.pairs;
    l.parts = l.counts + (size_t)div_up(RADIX * l.blocks * (int64_t)sizeof(uint32_t), 256) * 256;
    l.total = l.parts + sizeof(double) * (size_t)(l.windows * 2 * width);
    return l;
}

static size_t embedding_bwd_scratch(const qn_call *c) {
    return layout_of(tensor_count(c->in[1]), c->in[2]->shape[1]).total;
}

/* The sorted pairs: where they lie after the last pass. */
static const pair *sort_pairs(const qn_call *c, int64_t n, int64_t classes, scatter_layout l) {
    char *scratch = (char *)c->scratch;
    pair *half[2] = {(pair *)scratch, (pair *)(scratch + l.pairs)};
    sort_args a = {(const int32_t *)c->in[1]->data, NULL, half[0]};
    a.counts = (uint32_t *)(scratch + l.counts);
    a.n = n;
    a.classes = classes;
    a.blocks = (int)l.blocks;
    cudaStream_t s = stream_of(c);
    int pass = 0;
    do { /* at least one pass: it makes the pairs; ids go up to `classes` */
        a.shift = 8 * pass;
        a.to = half[pass % 2];
        k_sort_count<<<(unsigned)l.blocks, SORT_THREADS, 0, s>>>(a);
        k_sort_scan<<<1, RADIX, 0, s>>>(a);
        k_sort_place<<<(unsigned)l.blocks, SORT_THREADS, 0, s>>>(a);
        a.from = a.to;
        a.ids = NULL;
        pass++;
    } while (classes >> (8 * pass) > 0);
    return a.from;
}

template <typename T, int V> static void launch_scatter(const qn_call *c, const scatter_args &a) {
    unsigned windows = (unsigned)div_up(a.n, WINDOW);
    k_embedding_bwd<T, V><<<windows, LOOKUP_THREADS, 0, stream_of(c)>>>(a);
    k_embedding_parts<V><<<windows, LOOKUP_THREADS, 0, stream_of(c)>>>(a);
}

static qn_status run_dtable(const qn_call *c) {
    const qn_tensor *dy = c->in[0], *table = c->in[2], *out = c->out[0];
    int64_t n = tensor_count(c->in[1]), width = table->shape[1], classes = table->shape[0];
    size_t bytes = (size_t)dtype_bytes(out->dtype);
    scatter_layout l = layout_of(n, width);
    scatter_args a = {};
    a.adds = c->accumulate & 1u;
    if (!a.adds && classes * width > 0) {
        cudaError_t e = cudaMemset2DAsync(out->data, (size_t)out->stride[0] * bytes, 0,
                                          (size_t)width * bytes, (size_t)classes, stream_of(c));
        if (e != cudaSuccess) {
            return qn_fail(QN_ERR_DEVICE, "embedding_bwd: CUDA: %s", cudaGetErrorString(e));
        }
    }
    if (n == 0 || width == 0) return QN_OK;
    a.sorted = sort_pairs(c, n, classes, l);
    a.dy = dy->data;
    a.dtable = out->data;
    a.part = (double *)((char *)c->scratch + l.parts);
    a.n = n;
    a.classes = classes;
    a.width = width;
    a.dy_stride = dy->ndim > 1 ? dy->stride[dy->ndim - 2] : width;
    a.dtable_stride = out->stride[0];
    a.dtable_f32 = out->dtype == QN_F32;
    /* four columns a lane: 16 bytes of f32 parts and gradients, 8 of a bf16 dy */
    bool vectors = width % 4 == 0 && a.dy_stride % 4 == 0 && a.dtable_stride % 4 == 0 &&
                   is_aligned16(dy->data) && is_aligned16(out->data);
    if (dy->dtype == QN_F32) {
        vectors ? launch_scatter<float, 4>(c, a) : launch_scatter<float, 1>(c, a);
    } else {
        vectors ? launch_scatter<bf16, 4>(c, a) : launch_scatter<bf16, 1>(c, a);
    }
    return launched(c);
}

static qn_status run_dpositions(const qn_call *c) {
    const qn_tensor *dy = c->in[0], *start = c->in[4], *out = c->out[1];
    position_args a = {dy->data, out->data};
    a.start = start ? (const int32_t *)start->data : NULL;
    a.steps = steps_of(c->in[1]);
    a.samples = tensor_count(c->in[1]) / a.steps;
    a.positions = out->shape[0];
    a.width = out->shape[1];
    a.dy_stride = dy->ndim > 1 ? dy->stride[dy->ndim - 2] : a.width;
    a.out_stride = out->stride[0];
    a.adds = c->accumulate >> 1 & 1u;
    a.out_f32 = out->dtype == QN_F32;
    if (a.positions == 0 || a.width == 0) return QN_OK;
    dim3 grid((unsigned)a.positions, (unsigned)div_up(a.width, LOOKUP_THREADS));
    if (dy->dtype == QN_F32) {
        k_embedding_positions<float><<<grid, LOOKUP_THREADS, 0, stream_of(c)>>>(a);
    } else {
        k_embedding_positions<bf16><<<grid, LOOKUP_THREADS, 0, stream_of(c)>>>(a);
    }
    return launched(c);
}

static qn_status run_embedding_bwd(const qn_call *c) {
    if (c->out[0]) QN_TRY(run_dtable(c));
    return c->out[1] ? run_dpositions(c) : QN_OK;
}

extern "C" const qn_cuda_body qn_cuda_lookup[] = {
    {"embedding", QN_DTYPE_BIT(QN_I32), run_embedding},
    {"embedding_bwd", QN_REAL_DTYPES, run_embedding_bwd, embedding_bwd_scratch},
    {NULL},
};
