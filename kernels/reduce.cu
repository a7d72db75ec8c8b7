/* reduce.cu — sum, mean and maximum over one axis or all.
 *
 * A tensor is (outer, n, inner) around the reduced axis. n is cut into chunks by shape alone: 8192
 * elements of a row (inner = 1, a block each), 256 rows of a column (a thread each, neighbours side
 * by side). A chunk is added in f32 runs of 32 whose totals are added in f64; where there are
 * several chunks their totals go to scratch and a second kernel adds them in order. x is read
 * once. A maximum that meets a NaN is NaN.
 */
#include "kernels/walk.cuh"

enum { REDUCE_THREADS = 256, ROW_CHUNK = 8192, COLUMN_CHUNK = 256, RUN = 32 };

struct strided {
    int ndim;
    int64_t shape[QN_MAX_DIMS], stride[QN_MAX_DIMS];
    bool dense;
};

QN_DEV int64_t offset_of(const strided &s, int64_t i) {
    if (s.dense) return i;
    int64_t at = 0;
    for (int a = s.ndim - 1; a >= 0; a--) {
        int64_t c;
        i = walk_divide(i, s.shape[a], &c);
        at += c * s.stride[a];
    }
    return at;
}

struct reduce_args {
    const void *x;
    void *y;
    strided x_at, y_at;
    int64_t outer, n, inner, chunk, chunks;
    double factor; /* 1 or 1/n */
    bool is_max, adds, y_f32;
    double *partial; /* outer x chunks x inner, NULL = one chunk: straight to y */
};

QN_DEV double combine(bool is_max, double a, double b) {
    if (!is_max) return a + b;
    return b > a || isnan(b) ? b : a; /* nothing is greater than a NaN: it stays */
}

QN_DEV void put(const reduce_args &a, int64_t i, double v) {
    int64_t at = offset_of(a.y_at, i);
    v *= a.factor;
    if (a.y_f32) {
        float *y = (float *)a.y + at;
        *y = (float)(a.adds ? v + (double)*y : v);
    } else {
        bf16 *y = (bf16 *)a.y + at;
        *y = __float2bfloat16_rn((float)(a.adds ? v + (double)to_f32(*y) : v));
    }
}

QN_DEV void deliver(const reduce_args &a, int64_t o, int64_t chunk, int64_t i, double v) {
    if (a.partial) {
        a.partial[(o * a.chunks + chunk) * a.inner + i] = v;
    } else {
        put(a, o * a.inner + i, v);
    }
}

/* inner = 1: a block has one chunk of one row. */
template <typename T>
__global__ void __launch_bounds__(REDUCE_THREADS) k_reduce_rows(reduce_args a) {
    __shared__ double part[REDUCE_THREADS];
    const int64_t o = blockIdx.x / a.chunks, chunk = blockIdx.x % a.chunks;
    const int64_t first = chunk * a.chunk, left = a.n - first, n = left < a.chunk ? left : a.chunk;
    const float none = a.is_max ? -INFINITY : 0.0f;
    float run = none;
    for (int64_t k = threadIdx.x; k < n; k += REDUCE_THREADS) { /* at most RUN elements */
        float v = to_f32(((const T *)a.x)[offset_of(a.x_at, o * a.n + first + k)]);
        run = a.is_max ? (v > run || isnan(v) ? v : run) : run + v;
    }
    part[threadIdx.x] = (double)run;
    for (int d = REDUCE_THREADS / 2; d > 0; d /= 2) {
        __syncthreads();
        if (threadIdx.x < d) {
            part[threadIdx.x] = combine(a.is_max, part[threadIdx.x], part[threadIdx.x + d]);
        }
    }
    if (threadIdx.x == 0) deliver(a, o, chunk, 0, part[0]);
}

/* A thread has one column of one chunk of rows. */
template <typename T>
__global__ void __launch_bounds__(REDUCE_THREADS) k_reduce_columns(reduce_args a, int64_t groups) {
    const int64_t i = blockIdx.x % groups * REDUCE_THREADS + threadIdx.x;
    const int64_t row = blockIdx.x / groups, o = row / a.chunks, chunk = row % a.chunks;
    const int64_t first = chunk * a.chunk, full = first + a.chunk, end = full < a.n ? full : a.n;
    if (i >= a.inner) return;
    const float none = a.is_max ? -INFINITY : 0.0f;
    double total = (double)none;
    for (int64_t k = first; k < end; k += RUN) {
        float run = none;
        for (int64_t r = k; r < end && r < k + RUN; r++) {
            float v = to_f32(((const T *)a.x)[offset_of(a.x_at, (o * a.n + r) * a.inner + i)]);
            run = a.is_max ? (v > run || isnan(v) ? v : run) : run + v;
        }
        total = combine(a.is_max, total, (double)run);
    }
    deliver(a, o, chunk, i, total);
}

__global__ void __launch_bounds__(REDUCE_THREADS) k_reduce_chunks(reduce_args a) {
    const int64_t i = (int64_t)blockIdx.x * REDUCE_THREADS + threadIdx.x;
    if (i >= a.outer * a.inner) return;
    const double *p = a.partial + i / a.inner * a.chunks * a.inner + i % a.inner;
    double total = a.is_max ? -(double)INFINITY : 0.0;
    for (int64_t c = 0; c < a.chunks; c++) total = combine(a.is_max, total, p[c * a.inner]);
    put(a, i, total);
}

/* The maximum's gradient: dy goes to the first maximum of each (outer, inner), 0 elsewhere. */
struct max_grad_args {
    const void *dy, *x;
    void *dx;
    strided dy_at, x_at, dx_at;
    int64_t outer, n, inner;
    bool adds;
};

/* Is v at k the maximum rather than `most` at `at`? A NaN is, and of equals the first. */
QN_DEV bool beats(float v, int64_t k, float most, int64_t at) {
    if (isnan(v) != isnan(most)) return isnan(v);
    return v > most || (!(v < most) && k < at);
}

template <typename T>
QN_DEV void put_max_slope(const max_grad_args &a, int64_t i, bool is_max, float dy) {
    T *dx = (T *)a.dx + offset_of(a.dx_at, i);
    float g = is_max ? dy : 0.0f;
    *dx = from_f32<T>(a.adds ? g + to_f32(*dx) : g);
}

/* inner = 1: a block has one row. */
template <typename T>
__global__ void __launch_bounds__(REDUCE_THREADS) k_reduce_max_rows_bwd(max_grad_args a) {
    __shared__ float value[REDUCE_THREADS];
    __shared__ int64_t place[REDUCE_THREADS];
    const int64_t o = blockIdx.x, first = o * a.n;
    const int thread = threadIdx.x;
    float most = -INFINITY;
    int64_t at = a.n;
    for (int64_t k = thread; k < a.n; k += REDUCE_THREADS) {
        float v = to_f32(((const T *)a.x)[offset_of(a.x_at, first + k)]);
        if (!beats(v, k, most, at)) continue;
        most = v;
        at = k;
    }
    value[thread] = most;
    place[thread] = at;
    for (int d = REDUCE_THREADS / 2; d > 0; d /= 2) {
        __syncthreads();
        if (thread >= d) continue;
        if (!beats(value[thread + d], place[thread + d], value[thread], place[thread])) continue;
        value[thread] = value[thread + d];
        place[thread] = place[thread + d];
    }
    __syncthreads();
    const float dy = to_f32(((const T *)a.dy)[offset_of(a.dy_at, o)]);
    for (int64_t k = thread; k < a.n; k += REDUCE_THREADS)
        put_max_slope<T>(a, first + k, k == place[0], dy);
}

/* A thread has one column. */
template <typename T>
__global__ void __launch_bounds__(REDUCE_THREADS) k_reduce_max_bwd(max_grad_args a) {
    const int64_t i = (int64_t)blockIdx.x * REDUCE_THREADS + threadIdx.x;
    if (i >= a.outer * a.inner) return;
    const int64_t first = i / a.inner * a.n * a.inner + i % a.inner;
    float most = -INFINITY;
    int64_t at = a.n;
#pragma unroll 1
    for (int64_t k = 0; k < a.n; k++) {
        float v = to_f32(((const T *)a.x)[offset_of(a.x_at, first + k * a.inner)]);
        if (!beats(v, k, most, at)) continue;
        most = v;
        at = k;
    }
    const float dy = to_f32(((const T *)a.dy)[offset_of(a.dy_at, i)]);
#pragma unroll 1
    for (int64_t k = 0; k < a.n; k++) put_max_slope<T>(a, first + k * a.inner, k == at, dy);
}

template <typename T> static void launch_max_bwd(const qn_call *c, const max_grad_args &a) {
    cudaStream_t s = stream_of(c);
    if (a.inner == 1) {
        k_reduce_max_rows_bwd<T><<<(unsigned)a.outer, REDUCE_THREADS, 0, s>>>(a);
    } else {
        k_reduce_max_bwd<T>
            <<<(unsigned)div_up(a.outer * a.inner, REDUCE_THREADS), REDUCE_THREADS, 0, s>>>(a);
    }
}

/* ---- launchers ------------------------------------------------------------------------------- */

static strided strided_of(const qn_tensor *t) {
    strided s = {t->ndim};
    int64_t dense = 1;
    s.dense = true;
    for (int i = t->ndim - 1; i >= 0; i--) {
        s.shape[i] = t->shape[i];
        s.stride[i] = t->stride[i];
        s.dense = s.dense && (t->shape[i] == 1 || t->stride[i] == dense);
        dense *= t->shape[i];
    }
    return s;
}

static void extent_of(const qn_call *c, const qn_tensor *x, int64_t *outer, int64_t *n,
                      int64_t *inner) {
    const qn_reduce_attrs *a = (const qn_reduce_attrs *)c->attrs;
    int axis = a->axis < 0 ? a->axis + x->ndim : a->axis;
    *outer = *n = *inner = 1;
    for (int i = 0; i < x->ndim; i++) {
        int at = a->axis == QN_ALL_AXES ? i : axis;
        *(i < at ? outer : i == at ? n : inner) *= x->shape[i];
    }
}

static reduce_args args_of(const qn_call *c) {
    reduce_args a = {};
    extent_of(c, c->in[0], &a.outer, &a.n, &a.inner);
    a.chunk = a.inner == 1 ? ROW_CHUNK : COLUMN_CHUNK;
    a.chunks = a.n > 0 ? div_up(a.n, a.chunk) : 1;
    return a;
}

static size_t reduce_scratch(const qn_call *c) {
    reduce_args a = args_of(c);
    return a.chunks > 1 ? sizeof(double) * (size_t)(a.outer * a.chunks * a.inner) : 0;
}

template <typename T> static void launch_reduce(const qn_call *c, const reduce_args &a) {
    cudaStream_t s = stream_of(c);
    if (a.inner == 1) {
        k_reduce_rows<T><<<(unsigned)(a.outer * a.chunks), REDUCE_THREADS, 0, s>>>(a);
        return;
    }
    int64_t groups = div_up(a.inner, REDUCE_THREADS);
    k_reduce_columns<T>
        <<<(unsigned)(groups * a.outer * a.chunks), REDUCE_THREADS, 0, s>>>(a, groups);
}

static qn_status run_reduce(const qn_call *c) {
    const qn_reduce_attrs *attrs = (const qn_reduce_attrs *)c->attrs;
    const qn_tensor *x = c->in[0], *y = c->out[0];
    reduce_args a = args_of(c);
    a.x = x->data;
    a.y = y->data;
    a.x_at = strided_of(x);
    a.y_at = strided_of(y);
    a.is_max = attrs->kind == QN_MAX;
    a.factor = attrs->kind == QN_MEAN ? 1.0 / (double)a.n : 1.0;
    a.adds = c->accumulate & 1u;
    a.y_f32 = y->dtype == QN_F32;
    a.partial = a.chunks > 1 ? (double *)c->scratch : NULL;
    if (a.outer * a.inner == 0) return QN_OK;
    if (div_up(a.inner, REDUCE_THREADS) * a.outer * a.chunks > INT32_MAX) {
        return qn_fail(QN_ERR_SHAPE, "reduce: more blocks than a CUDA grid has");
    }
    if (x->dtype == QN_F32) {
        launch_reduce<float>(c, a);
    } else {
        launch_reduce<bf16>(c, a);
    }
    if (a.partial) {
        unsigned blocks = (unsigned)div_up(a.outer * a.inner, REDUCE_THREADS);
        k_reduce_chunks<<<blocks, REDUCE_THREADS, 0, stream_of(c)>>>(a);
    }
    return launched(c);
}

static qn_status run_reduce_bwd(const qn_call *c) {
    const qn_tensor *dy = c->in[0], *x = c->in[1], *dx = c->out[0];
    max_grad_args a = {dy->data, x->data, dx->data, strided_of(dy), strided_of(x), strided_of(dx)};
    extent_of(c, x, &a.outer, &a.n, &a.inner);
    a.adds = c->accumulate & 1u;
    if (dx->dtype != x->dtype) {
        return qn_fail(QN_ERR_DTYPE, "reduce_bwd: dx has another dtype than x");
    }
    if (a.outer * a.n * a.inner == 0) return QN_OK;
    if (a.outer > INT32_MAX) {
        return qn_fail(QN_ERR_SHAPE, "reduce_bwd: more rows than a CUDA grid has blocks");
    }
    if (x->dtype == QN_F32) {
        launch_max_bwd<float>(c, a);
    } else {
        launch_max_bwd<bf16>(c, a);
    }
    return launched(c);
}

extern "C" const qn_cuda_body qn_cuda_reduce[] = {
    {"reduce", QN_REAL_DTYPES, run_reduce, reduce_scratch},
    {"reduce_bwd", QN_REAL_DTYPES, run_reduce_bwd},
    {NULL},
};
