/* update.cu — what happens once per step over the flat parameter arena: gradient norm, guard,
 * AdamW, SGD.
 *
 * One launch goes over all segments (64 at a time, passed by value): a block takes BLOCK
 * elements of one segment, four at once. AdamW moves 28 bytes a parameter in f32 (p, m, v read
 * and written, g read), 30 with bf16 weights and f32 master, 22 in bf16 with stochastic
 * rounding; the gradient norm 4. Scalars that change from step to step (lr, t, clip, apply) are
 * read from device memory; a thread of each block computes the bias corrections in f64. Nothing
 * is written when the guard says so. The norm is added in f64 over the same blocks as on the
 * CPU, then block by block.
 */
#include "kernels/walk.cuh"

enum { BLOCK = 16384, UPDATE_THREADS = 256, MAX_SEGMENTS = 64 };

/* A few segments and the blocks they are cut into. */
struct segment_list {
    int n;
    int64_t first_block; /* of the op, before these segments */
    int64_t blocks[MAX_SEGMENTS + 1];
    qn_segment segment[MAX_SEGMENTS];
};

struct piece {
    int64_t first, count;
    float lr_scale, weight_decay;
};

QN_DEV piece piece_of(const segment_list &l, int64_t block) {
    int s = 0;
    while (block >= l.blocks[s + 1]) s++;
    int64_t at = (block - l.blocks[s]) * BLOCK, left = l.segment[s].count - at;
    return {l.segment[s].offset + at, left < BLOCK ? left : BLOCK, (float)l.segment[s].lr_scale,
            (float)l.segment[s].weight_decay};
}

/* Segments from *next on. false: none left. */
static bool take_segments(const qn_update_attrs *a, int *next, segment_list *l) {
    if (*next >= a->n_segments) return false;
    l->first_block += l->blocks[l->n];
    l->n = 0;
    for (; *next < a->n_segments && l->n < MAX_SEGMENTS; ++*next) {
        const qn_segment *s = &a->segments[*next];
        l->segment[l->n] = *s;
        l->blocks[l->n + 1] = l->blocks[l->n] + div_up(s->count, BLOCK);
        l->n++;
    }
    return true;
}

static int64_t all_blocks(const qn_update_attrs *a) {
    int64_t n = 0;
    for (int i = 0; i < a->n_segments; i++) n += div_up(a->segments[i].count, BLOCK);
    return n;
}

/* ---- gradient norm --------------------------------------------------------------------------- */

/* The sum over a block of UPDATE_THREADS, in thread 0. */
QN_DEV double block_sum_f64(double x, double *part) {
#pragma unroll
    for (int d = 16; d; d >>= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
    if (threadIdx.x % QN_WARP == 0) part[threadIdx.x / QN_WARP] = x;
    __syncthreads();
    double sum = 0.0;
    for (int w = 0; w < UPDATE_THREADS / QN_WARP; w++) sum += part[w];
    return sum;
}

__global__ void __launch_bounds__(UPDATE_THREADS)
    k_square_sum(segment_list l, const float *grads, double *partial) {
    __shared__ double part[UPDATE_THREADS / QN_WARP];
    piece p = piece_of(l, blockIdx.x);
    const float *g = grads + p.first;
    double sum = 0.0;
    int64_t head = is_aligned16(g) ? 0 : (16 - ((uintptr_t)g & 15u)) / sizeof(float);
    if (head > p.count) head = p.count;
    int64_t vectors = (p.count - head) / 4, rest = head + vectors * 4;
    if (threadIdx.x < head) sum += (double)g[threadIdx.x] * (double)g[threadIdx.x];
    for (int64_t i = threadIdx.x; i < vectors; i += UPDATE_THREADS) {
        float x[4];
        load_run<float, 4>(x, g + head + i * 4);
#pragma unroll
        for (int e = 0; e < 4; e++) sum += (double)x[e] * (double)x[e];
    }
    for (int64_t i = rest + threadIdx.x; i < p.count; i += UPDATE_THREADS) {
        sum += (double)g[i] * (double)g[i];
    }
    sum = block_sum_f64(sum, part);
    if (threadIdx.x == 0) partial[l.first_block + blockIdx.x] = sum;
}

__global__ void __launch_bounds__(UPDATE_THREADS)
    k_norm_of_sums(const double *partial, int64_t n, float *norm) {
    __shared__ double part[UPDATE_THREADS / QN_WARP];
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < n; i += UPDATE_THREADS) sum += partial[i];
    sum = block_sum_f64(sum, part);
    if (threadIdx.x == 0) *norm = (float)sqrt(sum);
}

static qn_status run_grad_norm(const qn_call *c) {
    const qn_update_attrs *a = (const qn_update_attrs *)c->attrs;
    segment_list l = {};
    for (int next = 0; take_segments(a, &next, &l);) {
        if (l.blocks[l.n] == 0) continue;
        k_square_sum<<<(unsigned)l.blocks[l.n], UPDATE_THREADS, 0, stream_of(c)>>>(
            l, (const float *)c->in[0]->data, (double *)c->scratch);
    }
    k_norm_of_sums<<<1, UPDATE_THREADS, 0, stream_of(c)>>>((const double *)c->scratch,
                                                           all_blocks(a), (float *)c->out[0]->data);
    return launched(c);
}

static size_t grad_norm_scratch(const qn_call *c) {
    return sizeof(double) * (size_t)all_blocks((const qn_update_attrs *)c->attrs);
}

/* ---- guard ----------------------------------------------------------------------------------- */

__global__ void k_guard(const void *loss_at, bool loss_f64, const void *norm_at, bool norm_f64,
                        double *s, qn_guard_attrs a) {
    double loss = load_real(loss_at, loss_f64), norm = load_real(norm_at, norm_f64);
    double distance = loss - s[QN_GUARD_MEAN], window = (double)a.spike_window;
    bool spike = a.spike_threshold > 0.0 && s[QN_GUARD_COUNT] >= window &&
                 distance > a.spike_threshold * sqrt(s[QN_GUARD_VAR]);
    if (!isfinite(loss) || !isfinite(norm) || spike) s[QN_GUARD_APPLY] = 0.0;
    if (s[QN_GUARD_APPLY] == 0.0) return;
    double clip = a.clip_norm > 0.0 ? a.clip_norm / (norm + 1e-6) : 1.0;
    s[QN_GUARD_CLIP] = clip < 1.0 ? clip : 1.0;
    s[QN_GUARD_COUNT] += 1.0;
    double weight = 1.0 / (s[QN_GUARD_COUNT] < window ? s[QN_GUARD_COUNT] : fmax(window, 1.0));
    s[QN_GUARD_MEAN] += weight * distance;
    s[QN_GUARD_VAR] = (1.0 - weight) * (s[QN_GUARD_VAR] + weight * distance * distance);
}

static qn_status run_guard(const qn_call *c) {
    const qn_tensor *loss = c->in[0], *norm = c->in[1];
    if ((loss->dtype != QN_F32 && loss->dtype != QN_F64) ||
        (norm->dtype != QN_F32 && norm->dtype != QN_F64)) {
        return qn_fail(QN_ERR_DTYPE, "guard: CUDA wants loss and norm in f32 or f64");
    }
    k_guard<<<1, 1, 0, stream_of(c)>>>(loss->data, loss->dtype == QN_F64, norm->data,
                                       norm->dtype == QN_F64, (double *)c->out[0]->data,
                                       *(const qn_guard_attrs *)c->attrs);
    return launched(c);
}

/* ---- what both optimizers share -------------------------------------------------------------- */

enum storage { WEIGHTS_F32, WEIGHTS_BF16_MASTER, WEIGHTS_BF16_STOCHASTIC };

struct update_args {
    void *weights;
    float *master, *m, *v; /* master: the weights themselves in f32 */
    const float *grads;
    const double *hyper, *guard;
    const int64_t *rng;
    uint64_t rng_key;
    double beta1, beta2;
    bool nesterov;
};

/* Scalars of one step, the same for a block. */
struct update_scalars {
    float lr, clip, decay, step, root;
    bool apply, first;
};

/* Adds a random 16-bit number below the bits that are cut; infinities and NaN are kept. */
QN_DEV uint16_t round_stochastic(float f, uint32_t word) {
    uint32_t u = __float_as_uint(f);
    if ((u & 0x7F800000u) == 0x7F800000u) return __bfloat16_as_ushort(__float2bfloat16_rn(f));
    return (uint16_t)((u + (word & 0xFFFFu)) >> 16);
}

template <int STORAGE, int V>
QN_DEV void load_weights(const update_args &a, int64_t i, float (&p)[V]) {
    if (STORAGE == WEIGHTS_BF16_STOCHASTIC) {
        load_run<bf16, V>(p, (const bf16 *)a.weights + i);
    } else {
        load_run<float, V>(p, a.master + i);
    }
}

template <int STORAGE, int V>
QN_DEV void store_weights(const update_args &a, int64_t i, const float (&p)[V]) {
    if (STORAGE != WEIGHTS_BF16_STOCHASTIC) store_run<float, V>(a.master + i, p);
    if (STORAGE == WEIGHTS_BF16_MASTER) store_run<bf16, V>((bf16 *)a.weights + i, p);
    if (STORAGE != WEIGHTS_BF16_STOCHASTIC) return;
    const uint64_t step = (uint64_t)a.rng[0];
    uint16_t out[V];
    if (V == 4 && (i & 3) == 0) {
        qn_u32x4 words = qn_philox(a.rng_key, (uint64_t)i >> 2, step);
#pragma unroll
        for (int e = 0; e < V; e++) out[e] = round_stochastic(p[e], words.v[e & 3]);
    } else {
#pragma unroll
        for (int e = 0; e < V; e++) {
            out[e] = round_stochastic(p[e], qn_random_u32(a.rng_key, step, (uint64_t)(i + e)));
        }
    }
    uint16_t *to = (uint16_t *)a.weights + i;
    if constexpr (V == 4) {
        store_global_8(to, out[0] | (uint32_t)out[1] << 16, out[2] | (uint32_t)out[3] << 16);
    } else {
        *to = out[0];
    }
}

/* ---- the rules ------------------------------------------------------------------------------- */

struct adamw_rule {
    float b1, b2, c2, eps; /* 1 - beta1, beta2, 1 - beta2 */
    QN_DEV_MEMBER void prepare(const update_args &a, update_scalars &s, double lr, double t) const {
        s.step = (float)(lr / (1.0 - pow(a.beta1, t)));
        s.root = (float)sqrt(1.0 - pow(a.beta2, t));
    }
    template <int STORAGE, int V>
    QN_DEV_MEMBER void run(const update_args &a, const update_scalars &s, int64_t i) const {
        float p[V], g[V], m[V], v[V];
        load_weights<STORAGE, V>(a, i, p);
        load_run<float, V>(g, a.grads + i);
        load_run<float, V>(m, a.m + i);
        load_run<float, V>(v, a.v + i);
#pragma unroll
        for (int e = 0; e < V; e++) {
            float d = g[e] * s.clip;
            m[e] = m[e] + (d - m[e]) * b1;
            v[e] = v[e] * b2 + c2 * d * d;
            p[e] = p[e] * s.decay - s.step * (m[e] / (sqrtf(v[e]) / s.root + eps));
        }
        store_run<float, V>(a.m + i, m);
        store_run<float, V>(a.v + i, v);
        store_weights<STORAGE, V>(a, i, p);
    }
};

struct sgd_rule {
    float momentum, take; /* 1 - dampening */
    QN_DEV_MEMBER void prepare(const update_args &, update_scalars &, double, double) const {}
    template <int STORAGE, int V>
    QN_DEV_MEMBER void run(const update_args &a, const update_scalars &s, int64_t i) const {
        float p[V], g[V];
        load_weights<STORAGE, V>(a, i, p);
        load_run<float, V>(g, a.grads + i);
#pragma unroll
        for (int e = 0; e < V; e++) g[e] = g[e] * s.clip + s.decay * p[e];
        if (momentum != 0.0f) {
            float b[V];
            load_run<float, V>(b, a.m + i);
#pragma unroll
            for (int e = 0; e < V; e++) {
                b[e] = s.first ? g[e] : momentum * b[e] + take * g[e];
                g[e] = a.nesterov ? g[e] + momentum * b[e] : b[e];
            }
            store_run<float, V>(a.m + i, b);
        }
#pragma unroll
        for (int e = 0; e < V; e++) p[e] -= s.lr * g[e];
        store_weights<STORAGE, V>(a, i, p);
    }
};

template <int STORAGE, typename RULE>
__global__ void __launch_bounds__(UPDATE_THREADS)
    k_update(segment_list l, update_args a, RULE rule, bool decay_multiplies) {
    __shared__ update_scalars shared;
    const piece p = piece_of(l, blockIdx.x);
    if (threadIdx.x == 0) {
        double lr = a.hyper[0] * (double)p.lr_scale, t = a.hyper[1] + 1.0;
        update_scalars s = {(float)lr, (float)a.guard[QN_GUARD_CLIP], p.weight_decay};
        if (decay_multiplies) s.decay = (float)(1.0 - lr * (double)p.weight_decay);
        s.apply = a.guard[QN_GUARD_APPLY] != 0.0;
        s.first = t == 1.0;
        rule.prepare(a, s, lr, t);
        shared = s;
    }
    __syncthreads();
    const update_scalars s = shared;
    if (!s.apply) return;
    int64_t head = (4 - (p.first & 3)) & 3; /* the arrays start aligned: 4 elements at a time */
    if (head > p.count) head = p.count;
    int64_t vectors = (p.count - head) / 4, rest = head + vectors * 4;
    if (threadIdx.x < head) rule.template run<STORAGE, 1>(a, s, p.first + threadIdx.x);
    for (int64_t i = threadIdx.x; i < vectors; i += UPDATE_THREADS) {
        rule.template run<STORAGE, 4>(a, s, p.first + head + i * 4);
    }
    for (int64_t i = rest + threadIdx.x; i < p.count; i += UPDATE_THREADS) {
        rule.template run<STORAGE, 1>(a, s, p.first + i);
    }
}

/* Counts the update, once all blocks have read t. */
__global__ void k_count_update(double *hyper, const double *guard) {
    if (guard[QN_GUARD_APPLY] != 0.0) hyper[1] += 1.0;
}

template <typename RULE>
static qn_status launch(const qn_call *c, const update_args &u, RULE rule, bool multiplies) {
    const qn_update_attrs *a = (const qn_update_attrs *)c->attrs;
    bool narrow = c->in[0]->dtype == QN_BF16;
    segment_list l = {};
    for (int next = 0; take_segments(a, &next, &l);) {
        unsigned blocks = (unsigned)l.blocks[l.n];
        cudaStream_t s = stream_of(c);
        if (blocks == 0) continue;
        if (!narrow) {
            k_update<WEIGHTS_F32><<<blocks, UPDATE_THREADS, 0, s>>>(l, u, rule, multiplies);
        } else if (c->in[1]) {
            k_update<WEIGHTS_BF16_MASTER><<<blocks, UPDATE_THREADS, 0, s>>>(l, u, rule, multiplies);
        } else {
            k_update<WEIGHTS_BF16_STOCHASTIC>
                <<<blocks, UPDATE_THREADS, 0, s>>>(l, u, rule, multiplies);
        }
    }
    k_count_update<<<1, 1, 0, stream_of(c)>>>((double *)u.hyper, u.guard);
    return launched(c);
}

/* Slots: adamw weights, master, grads, m, v, hyper, guard, rng; sgd the same without v. */
static qn_status args_of(const qn_call *c, bool sgd, update_args *u) {
    const qn_update_attrs *a = (const qn_update_attrs *)c->attrs;
    const qn_tensor *hyper = c->in[sgd ? 4 : 5], *guard = c->in[sgd ? 5 : 6];
    const qn_tensor *rng = c->in[sgd ? 6 : 7], *v = sgd ? NULL : c->in[4];
    *u = {c->in[0]->data};
    u->master = (float *)(c->in[1] ? c->in[1]->data : c->in[0]->data);
    u->grads = (const float *)c->in[2]->data;
    u->m = c->in[3] ? (float *)c->in[3]->data : NULL;
    u->v = v ? (float *)v->data : NULL;
    u->hyper = (const double *)hyper->data;
    u->guard = (const double *)guard->data;
    u->rng = rng ? (const int64_t *)rng->data : NULL;
    u->rng_key = c->rng_key;
    u->beta1 = a->beta1;
    u->beta2 = a->beta2;
    u->nesterov = a->nesterov;
    const void *arrays[] = {u->weights, u->master, u->grads, u->m, u->v};
    for (const void *p : arrays) {
        if (is_aligned16(p)) continue;
        return qn_fail(QN_ERR_SHAPE, "%s: the flat arrays start at multiples of 16 bytes",
                       c->op->name);
    }
    return QN_OK;
}

static qn_status run_adamw(const qn_call *c) {
    const qn_update_attrs *a = (const qn_update_attrs *)c->attrs;
    update_args u;
    QN_TRY(args_of(c, false, &u));
    adamw_rule rule = {(float)(1.0 - a->beta1), (float)a->beta2, (float)(1.0 - a->beta2),
                       (float)a->eps};
    return launch(c, u, rule, true);
}

static qn_status run_sgd(const qn_call *c) {
    const qn_update_attrs *a = (const qn_update_attrs *)c->attrs;
    update_args u;
    QN_TRY(args_of(c, true, &u));
    return launch(c, u, sgd_rule{(float)a->momentum, (float)(1.0 - a->dampening)}, false);
}

extern "C" const qn_cuda_body qn_cuda_update[] = {
    {"grad_norm", QN_DTYPE_BIT(QN_F32), run_grad_norm, grad_norm_scratch},
    {"guard", QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_F64), run_guard},
    {"adamw", QN_REAL_DTYPES, run_adamw},
    {"sgd", QN_REAL_DTYPES, run_sgd},
    {NULL},
};
