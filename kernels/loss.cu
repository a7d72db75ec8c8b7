/* loss.cu — cross-entropy (softmax and binary), mean squared error, accuracy, confusion.
 *
 * Cross-entropy: a warp holds a row of up to 4 x 32 vectors (1024 bf16), a block of 512 threads one
 * of up to 13 x 512 (53,248 bf16, 26,624 f32), packed as stored; so logits are read once and the
 * gradient, which may take their place, written once: 4 bytes a logit in bf16. Longer rows are read
 * a second time. A row leaves 16 bytes; one block makes the losses of them, in f64, and adds
 * them in a fixed order.
 *
 * A target that is neither a class nor ignore_index makes the loss NaN: the guard then refuses the
 * step. (Sources check targets when they read them, so this is a second line of defence.)
 */
#include "kernels/loss.cuh"

enum { LOSS_THREADS = 512, LOSS_HOLD = 13, SUM_THREADS = 1024 };

/* ---- cross-entropy --------------------------------------------------------------------------- */

/* V elements as they are stored: two bf16 in a register, so that a row fits. */
template <typename T, int V> struct packed {
    enum { WORDS = V * sizeof(T) / 4 > 0 ? V * sizeof(T) / 4 : 1 };
    uint32_t word[WORDS];
    QN_DEV_MEMBER packed() {}
    QN_DEV_MEMBER explicit packed(const T *p) {
        if (V * sizeof(T) == 16) {
            *(uint4 *)word = *(const uint4 *)p;
        } else {
            word[0] = sizeof(T) == 2 ? *(const uint16_t *)p : *(const uint32_t *)p;
        }
    }
    QN_DEV_MEMBER float get(int i) const {
        if (sizeof(T) == 4) return __uint_as_float(word[i]);
        return __uint_as_float(i % 2 ? word[i / 2] & 0xFFFF0000u : word[i / 2] << 16);
    }
};

/* dz = exp(z - max) * factor - shift, less hit at the target. */
struct slopes {
    float factor, shift, hit;
};

QN_DEV slopes slopes_of(const loss_rows &r, float sum) {
    float inv_n = (float)load_real(r.inv_n, r.inv_n_f64);
    return {inv_n / sum, inv_n * r.smoothing / (float)r.width, inv_n * (1.0f - r.smoothing)};
}

template <typename T, int V>
QN_DEV void row_gradient(const loss_rows &r, int64_t row, int e, const float (&z)[V],
                         const slopes &k, float max, int target) {
    float g[V];
    T *p = (T *)r.gradient + row * r.gradient_stride + e;
#pragma unroll
    for (int i = 0; i < V; i++) {
        g[i] = expf(z[i] - max) * k.factor - k.shift;
        if (e + i == target) g[i] -= k.hit;
    }
    if (r.adds) {
        float old[V];
        load_run<T, V>(old, p);
#pragma unroll
        for (int i = 0; i < V; i++) g[i] += old[i];
    }
    store_run<T, V>(p, g);
}

/* An ignored row: zero gradient (or nothing to add), no loss. */
template <typename T, int V, int LANES>
QN_DEV void row_ignored(const loss_rows &r, int64_t row, int lane, float max) {
    if (lane == 0) r.record[row] = {max, 1.0f, 0.0f, 0.0f};
    if (!r.gradient || r.adds) return;
    float zero[V] = {};
    for (int64_t e = (int64_t)lane * V; e < r.width; e += LANES * V) {
        store_run<T, V>((T *)r.gradient + row * r.gradient_stride + e, zero);
    }
}

template <typename T, int V, int LANES, int HOLD>
__global__ void __launch_bounds__(LANES == QN_WARP ? QN_ROW_THREADS : LOSS_THREADS)
    k_loss_rows(loss_rows r) {
    __shared__ float partial[3][LOSS_THREADS / QN_WARP];
    const int lane = threadIdx.x % LANES, width = (int)r.width;
    const int64_t row = (int64_t)blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES;
    if (row >= r.n) return; /* whole warps, or none of a block */
    const int64_t target = r.targets[row];
    const bool known = target >= 0 && target < r.width;
    if (target == r.ignore_index || !known) {
        row_ignored<T, V, LANES>(r, row, lane, target == r.ignore_index ? 0.0f : NAN);
        return;
    }
    const T *z = (const T *)r.logits + row * r.stride;
    packed<T, V> h[HOLD > 0 ? HOLD : 1];
    loss_record s = {-INFINITY, 0.0f, 0.0f, to_f32(z[target])};
    /* HOLD vectors in registers, or the row walked again. */
    const int steps = HOLD > 0 ? HOLD : (int)div_up(width, LANES * V);
#pragma unroll
    for (int k = 0; k < steps; k++) {
        int e = (k * LANES + lane) * V;
        if (e >= width) continue;
        packed<T, V> x(z + e);
        if (HOLD > 0) h[HOLD > 0 ? k : 0] = x;
#pragma unroll
        for (int i = 0; i < V; i++) {
            s.max = fmaxf(s.max, x.get(i));
            s.total += x.get(i);
        }
    }
    s.max = row_max<LANES>(s.max, partial[0]);
    s.total = row_sum<LANES>(s.total, partial[1]);
#pragma unroll
    for (int k = 0; k < steps; k++) {
        int e = (k * LANES + lane) * V;
        if (e >= width) continue;
        packed<T, V> x = HOLD > 0 ? h[HOLD > 0 ? k : 0] : packed<T, V>(z + e);
#pragma unroll
        for (int i = 0; i < V; i++) s.sum += expf(x.get(i) - s.max);
    }
    s.sum = row_sum<LANES>(s.sum, partial[2]); /* a barrier: all have read z before it may change */
    if (lane == 0) r.record[row] = s;
    if (!r.gradient) return;
    if (LANES == QN_WARP) __syncwarp();
    const slopes slope = slopes_of(r, s.sum);
#pragma unroll
    for (int k = 0; k < steps; k++) {
        int e = (k * LANES + lane) * V;
        if (e >= width) continue;
        packed<T, V> x = HOLD > 0 ? h[HOLD > 0 ? k : 0] : packed<T, V>(z + e);
        float f[V];
#pragma unroll
        for (int i = 0; i < V; i++) f[i] = x.get(i);
        row_gradient<T, V>(r, row, e, f, slope, s.max, (int)target);
    }
}

/* ---- sums of rows ---------------------------------------------------------------------------- */

/* Terms of a sum. */
struct ce_term {
    loss_rows r;
    QN_DEV_MEMBER double operator()(int64_t i) const {
        loss_record s = r.record[i];
        double smoothing = (double)r.smoothing, hit = (1.0 - smoothing) * (double)s.target;
        return (double)s.max + log((double)s.sum) - hit -
               smoothing * (double)s.total / (double)r.width;
    }
};

struct plain_term {
    const double *row;
    QN_DEV_MEMBER double operator()(int64_t i) const { return row[i]; }
};

/* One block: thread i adds terms i, i + 1024, ... and a tree adds the threads. */
template <typename F, typename TO>
__global__ void __launch_bounds__(SUM_THREADS)
    k_sum_terms(F term, int64_t n, const void *inv_n, bool inv_n_f64, TO *out) {
    __shared__ double part[SUM_THREADS];
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < n; i += SUM_THREADS) sum += term(i);
    part[threadIdx.x] = sum;
    for (int d = SUM_THREADS / 2; d > 0; d /= 2) {
        __syncthreads();
        if (threadIdx.x < d) part[threadIdx.x] += part[threadIdx.x + d];
    }
    if (threadIdx.x == 0) {
        *out = (TO)(inv_n ? part[0] * load_real(inv_n, inv_n_f64) : part[0]);
    }
}

void loss_sum_launch(const loss_rows *r, void *loss, cudaStream_t s) {
    int64_t n = r->width > 0 ? r->n : 0;
    if (r->inv_n_f64) {
        k_sum_terms<<<1, SUM_THREADS, 0, s>>>(ce_term{*r}, n, r->inv_n, true, (double *)loss);
    } else {
        k_sum_terms<<<1, SUM_THREADS, 0, s>>>(ce_term{*r}, n, r->inv_n, false, (float *)loss);
    }
}

template <typename T, int V> static void launch_rows(const loss_rows &r, cudaStream_t s) {
    int64_t vectors = div_up(r.width, V);
    if (vectors <= QN_ROW_HOLD * QN_WARP) {
        unsigned blocks = (unsigned)div_up(r.n, QN_ROW_THREADS / QN_WARP);
        k_loss_rows<T, V, QN_WARP, QN_ROW_HOLD><<<blocks, QN_ROW_THREADS, 0, s>>>(r);
    } else if (vectors <= LOSS_HOLD * LOSS_THREADS) {
        k_loss_rows<T, V, LOSS_THREADS, LOSS_HOLD><<<(unsigned)r.n, LOSS_THREADS, 0, s>>>(r);
    } else {
        k_loss_rows<T, V, LOSS_THREADS, 0><<<(unsigned)r.n, LOSS_THREADS, 0, s>>>(r);
    }
}

template <typename T> static void launch_rows_aligned(const loss_rows &r, cudaStream_t s) {
    constexpr int V = 16 / sizeof(T);
    bool vectors = r.width % V == 0 && r.stride % V == 0 && is_aligned16(r.logits);
    if (r.gradient) vectors = vectors && r.gradient_stride % V == 0 && is_aligned16(r.gradient);
    if (vectors) {
        launch_rows<T, V>(r, s);
    } else {
        launch_rows<T, 1>(r, s);
    }
}

void loss_rows_launch(const loss_rows *r, qn_dtype dt, cudaStream_t s) {
    if (r->n == 0 || r->width == 0) return;
    if (dt == QN_F32) {
        launch_rows_aligned<float>(*r, s);
    } else {
        launch_rows_aligned<bf16>(*r, s);
    }
}

/* ---- cross_entropy: launcher ----------------------------------------------------------------- */

static qn_status require_rows(const qn_call *c, const qn_tensor *t, int64_t *stride) {
    if (t->shape[1] > 1 && t->stride[1] != 1) {
        return qn_fail(QN_ERR_UNSUPPORTED, "%s: CUDA wants the elements of a row side by side",
                       c->op->name);
    }
    *stride = t->stride[0];
    return QN_OK;
}

static qn_status run_cross_entropy(const qn_call *c) {
    const qn_ce_attrs *a = (const qn_ce_attrs *)c->attrs;
    const qn_tensor *z = c->in[0], *inv_n = c->in[2], *loss = c->out[0], *g = c->out[1];
    loss_rows r = {z->shape[0], z->shape[1], z->data};
    QN_TRY(require_rows(c, z, &r.stride));
    if (g) {
        if (g->dtype != z->dtype) {
            return qn_fail(QN_ERR_DTYPE, "cross_entropy: dlogits has another dtype than logits");
        }
        QN_TRY(require_rows(c, g, &r.gradient_stride));
        r.gradient = g->data;
        r.adds = c->accumulate >> 1 & 1u;
    }
    r.targets = (const int32_t *)c->in[1]->data;
    r.inv_n = inv_n->data;
    r.inv_n_f64 = inv_n->dtype == QN_F64;
    r.ignore_index = a->ignore_index;
    r.smoothing = (float)a->label_smoothing;
    r.record = (loss_record *)c->scratch;
    loss_rows_launch(&r, z->dtype, stream_of(c));
    loss_sum_launch(&r, loss->data, stream_of(c));
    return launched(c);
}

static size_t record_scratch(const qn_call *c) {
    return sizeof(loss_record) * (size_t)c->in[0]->shape[0];
}

static size_t row_scratch(const qn_call *c) { return sizeof(double) * (size_t)c->in[0]->shape[0]; }

/* ---- mse, binary_cross_entropy: a warp a row ------------------------------------------------- */

struct pointwise_args {
    int64_t n, width, y_stride, target_stride, dy_stride;
    const void *y, *target, *inv_n;
    void *dy;
    bool target_f32, inv_n_f64, adds;
    double *loss;
};

/* Loss and slope of one number; f64, as the reference has them. */
struct square {
    QN_DEV_MEMBER static double loss(double y, double t, double *slope) {
        double e = y - t;
        *slope = 2.0 * e;
        return e * e;
    }
};
/* A target that is no probability makes the loss NaN, and the guard refuses the step. */
struct binary {
    QN_DEV_MEMBER static double loss(double z, double t, double *slope) {
        double e = exp(-fabs(z)), one = 1.0 / (1.0 + e);
        if (t < 0.0 || t > 1.0) t = NAN;
        *slope = (z < 0 ? e * one : one) - t;
        return fmax(z, 0.0) - t * z + log1p(e);
    }
};

template <typename T, typename F>
__global__ void __launch_bounds__(QN_ROW_THREADS) k_pointwise(pointwise_args a) {
    const int lane = threadIdx.x % QN_WARP;
    const int64_t row = ((int64_t)blockIdx.x * QN_ROW_THREADS + threadIdx.x) / QN_WARP;
    if (row >= a.n) return;
    const T *y = (const T *)a.y + row * a.y_stride;
    const double inv_n = load_real(a.inv_n, a.inv_n_f64);
    double sum = 0.0;
    bool padding = false;
    for (int64_t j0 = 0; j0 < a.width; j0 += QN_WARP) {
        int64_t j = j0 + lane, at = row * a.target_stride + j;
        float t = 0.0f;
        if (j < a.width) {
            t = a.target_f32 ? ((const float *)a.target)[at] : to_f32(((const T *)a.target)[at]);
        }
        if (j0 == 0) padding = isnan(__shfl_sync(0xFFFFFFFFu, t, 0));
        if (j >= a.width) continue;
        double slope = 0.0;
        if (!padding) sum += F::loss((double)to_f32(y[j]), (double)t, &slope);
        if (!a.dy) continue;
        T *dy = (T *)a.dy + row * a.dy_stride + j;
        float g = (float)(inv_n * slope);
        *dy = from_f32<T>(a.adds ? g + to_f32(*dy) : g);
    }
#pragma unroll
    for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, d);
    if (lane == 0) a.loss[row] = sum;
}

template <typename F> static qn_status run_pointwise(const qn_call *c) {
    const qn_tensor *y = c->in[0], *t = c->in[1], *inv_n = c->in[2], *loss = c->out[0];
    const qn_tensor *dy = c->out[1];
    pointwise_args a = {y->shape[0], y->shape[1]};
    QN_TRY(require_rows(c, y, &a.y_stride));
    QN_TRY(require_rows(c, t, &a.target_stride));
    if (dy) {
        if (dy->dtype != y->dtype) {
            return qn_fail(QN_ERR_DTYPE, "%s: the gradient has another dtype", c->op->name);
        }
        QN_TRY(require_rows(c, dy, &a.dy_stride));
        a.dy = dy->data;
        a.adds = c->accumulate >> 1 & 1u;
    }
    a.y = y->data;
    a.target = t->data;
    a.inv_n = inv_n->data;
    a.target_f32 = t->dtype == QN_F32;
    a.inv_n_f64 = inv_n->dtype == QN_F64;
    a.loss = (double *)c->scratch;
    unsigned blocks = (unsigned)div_up(a.n, QN_ROW_THREADS / QN_WARP);
    if (blocks > 0 && y->dtype == QN_F32) {
        k_pointwise<float, F><<<blocks, QN_ROW_THREADS, 0, stream_of(c)>>>(a);
    } else if (blocks > 0) {
        k_pointwise<bf16, F><<<blocks, QN_ROW_THREADS, 0, stream_of(c)>>>(a);
    }
    plain_term rows = {a.loss};
    if (loss->dtype == QN_F64) {
        k_sum_terms<<<1, SUM_THREADS, 0, stream_of(c)>>>(rows, a.n, a.inv_n, a.inv_n_f64,
                                                         (double *)loss->data);
    } else {
        k_sum_terms<<<1, SUM_THREADS, 0, stream_of(c)>>>(rows, a.n, a.inv_n, a.inv_n_f64,
                                                         (float *)loss->data);
    }
    return launched(c);
}

/* ---- accuracy, confusion: a warp a row ------------------------------------------------------- */

struct predicted_args {
    const void *logits;
    int64_t stride, n, width, ignore_index;
    const int32_t *targets;
    double *right;    /* accuracy: 1 or 0 a row */
    uint32_t *counts; /* confusion: whole numbers, so the order of addition does not matter */
};

template <typename T>
__global__ void __launch_bounds__(QN_ROW_THREADS) k_predicted(predicted_args a) {
    const int64_t width = a.width;
    const T *logits = (const T *)a.logits;
    const int lane = threadIdx.x % QN_WARP;
    const int64_t row = ((int64_t)blockIdx.x * QN_ROW_THREADS + threadIdx.x) / QN_WARP;
    if (row >= a.n) return;
    float best = -INFINITY;
    int64_t at = width;
    for (int64_t j = lane; j < width; j += QN_WARP) {
        float z = to_f32(logits[row * a.stride + j]);
        if (z > best || at == width) {
            best = z;
            at = j;
        }
    }
#pragma unroll
    for (int d = 16; d; d >>= 1) { /* of equals the first */
        float z = __shfl_xor_sync(0xFFFFFFFFu, best, d);
        int64_t j = __shfl_xor_sync(0xFFFFFFFFu, at, d);
        if (j < width && (z > best || at == width || (z == best && j < at))) {
            best = z;
            at = j;
        }
    }
    if (lane != 0) return;
    int64_t target = a.targets[row];
    bool counts = target != a.ignore_index && target >= 0 && target < width;
    if (a.right) a.right[row] = counts && at == target ? 1.0 : 0.0;
    if (a.counts && counts) atomicAdd(&a.counts[target * width + at], 1u);
}

__global__ void __launch_bounds__(QN_ROW_THREADS) k_count_clear(uint32_t *x, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * QN_ROW_THREADS + threadIdx.x;
    if (i < n) x[i] = 0;
}

/* In place: the bits of a whole number become those of the same f32. */
__global__ void __launch_bounds__(QN_ROW_THREADS) k_count_to_f32(uint32_t *x, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * QN_ROW_THREADS + threadIdx.x;
    if (i < n) ((float *)x)[i] = (float)x[i];
}

static qn_status predict(const qn_call *c, double *right, uint32_t *counts) {
    const qn_tensor *z = c->in[0];
    predicted_args a = {z->data, 0, z->shape[0], z->shape[1]};
    QN_TRY(require_rows(c, z, &a.stride));
    a.ignore_index = ((const qn_ce_attrs *)c->attrs)->ignore_index;
    a.targets = (const int32_t *)c->in[1]->data;
    a.right = right;
    a.counts = counts;
    unsigned blocks = (unsigned)div_up(a.n, QN_ROW_THREADS / QN_WARP);
    if (blocks > 0 && z->dtype == QN_F32) {
        k_predicted<float><<<blocks, QN_ROW_THREADS, 0, stream_of(c)>>>(a);
    } else if (blocks > 0) {
        k_predicted<bf16><<<blocks, QN_ROW_THREADS, 0, stream_of(c)>>>(a);
    }
    return launched(c);
}

static qn_status run_accuracy(const qn_call *c) {
    double *right = (double *)c->scratch;
    QN_TRY(predict(c, right, NULL));
    k_sum_terms<<<1, SUM_THREADS, 0, stream_of(c)>>>(plain_term{right}, c->in[0]->shape[0], NULL,
                                                     false, (float *)c->out[0]->data);
    return launched(c);
}

static qn_status run_confusion(const qn_call *c) {
    uint32_t *counts = (uint32_t *)c->out[0]->data;
    int64_t n = c->in[0]->shape[1] * c->in[0]->shape[1];
    if (n == 0) return QN_OK;
    unsigned blocks = (unsigned)div_up(n, QN_ROW_THREADS);
    k_count_clear<<<blocks, QN_ROW_THREADS, 0, stream_of(c)>>>(counts, n);
    QN_TRY(predict(c, NULL, counts));
    k_count_to_f32<<<blocks, QN_ROW_THREADS, 0, stream_of(c)>>>(counts, n);
    return launched(c);
}

extern "C" const qn_cuda_body qn_cuda_loss[] = {
    {"cross_entropy", QN_REAL_DTYPES, run_cross_entropy, record_scratch},
    {"mse", QN_REAL_DTYPES, run_pointwise<square>, row_scratch},
    {"binary_cross_entropy", QN_REAL_DTYPES, run_pointwise<binary>, row_scratch},
    {"accuracy", QN_REAL_DTYPES, run_accuracy, row_scratch},
    {"confusion", QN_REAL_DTYPES, run_confusion},
    {NULL},
};
