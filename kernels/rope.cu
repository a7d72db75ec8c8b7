/* rope.cu — rotary position embedding, half-split form.
 *
 * A block takes one (sample, position): its threads compute the angles in f64 once, round the
 * sines and cosines to f32 in shared memory, and turn all heads with them. x read, y written once:
 * 4 bytes an element in bf16. The f64 part is one sine and cosine a pair for H * D elements moved,
 * so it hides from H = 4 on.
 */
#include "kernels/walk.cuh"

enum { ROPE_THREADS = 128 };

#define PI 3.14159265358979323846

struct rope_args {
    const void *x;
    void *y;
    int64_t x_stride[4], y_stride[4]; /* B T H D */
    const int32_t *positions;         /* (B,T), NULL = 0 .. T-1 */
    int64_t position_stride[2];
    const int32_t *start;
    int start_stride;              /* from sample to sample; 0 = one for all */
    int steps, heads, pairs, rest; /* rest: elements of a head that stay */
    bool adds;
    qn_rope_attrs rope;
};

/* Where number j of a table lies: runs of four in such an order that neighbouring threads, which
 * read four or eight numbers each, meet in no bank. */
QN_DEV int table_at(int j) { return j ^ (j >> 3 & 4); }

template <int V> QN_DEV void load_table(float (&x)[V], const float *table, int j) {
    if constexpr (V == 1) {
        x[0] = table[table_at(j)];
    } else {
#pragma unroll
        for (int e = 0; e < V; e += 4) {
            const float4 v = *(const float4 *)(table + table_at(j + e));
            x[e] = v.x, x[e + 1] = v.y, x[e + 2] = v.z, x[e + 3] = v.w;
        }
    }
}

template <typename T, int V>
QN_DEV void rotate(const rope_args &a, const T *x, T *y, int j, const float *cosine,
                   const float *sine) {
    float p[V], q[V], u[V], v[V], c[V], s[V];
    const int64_t dx = a.x_stride[3], dy = a.y_stride[3]; /* 1 where V > 1 */
    load_run<T, V>(p, x + j * dx);
    load_run<T, V>(q, x + (j + a.pairs) * dx);
    load_table<V>(c, cosine, j);
    load_table<V>(s, sine, j);
#pragma unroll
    for (int e = 0; e < V; e++) {
        u[e] = p[e] * c[e] - q[e] * s[e];
        v[e] = q[e] * c[e] + p[e] * s[e];
    }
    if (a.adds) {
        load_run<T, V>(p, y + j * dy);
        load_run<T, V>(q, y + (j + a.pairs) * dy);
#pragma unroll
        for (int e = 0; e < V; e++) {
            u[e] += p[e];
            v[e] += q[e];
        }
    }
    store_run<T, V>(y + j * dy, u);
    store_run<T, V>(y + (j + a.pairs) * dy, v);
}

template <typename T, int V> __global__ void __launch_bounds__(ROPE_THREADS) k_rope(rope_args a) {
    __shared__ __align__(16) float cosine[QN_ROPE_PAIRS], sine[QN_ROPE_PAIRS];
    const int t = blockIdx.x % a.steps, b = blockIdx.x / a.steps;
    int64_t position = t;
    if (a.positions) position = a.positions[b * a.position_stride[0] + t * a.position_stride[1]];
    if (a.start) position += a.start[b * a.start_stride];
    for (int j = threadIdx.x; j < a.pairs; j += ROPE_THREADS) {
        double s, c;
        sincospi((double)position * (a.rope.frequency[j] / PI), &s, &c); /* no long reduction */
        cosine[table_at(j)] = (float)(a.rope.scale * c);
        sine[table_at(j)] = (float)((a.rope.inverse ? -a.rope.scale : a.rope.scale) * s);
    }
    __syncthreads();
    const T *x = (const T *)a.x + b * a.x_stride[0] + t * a.x_stride[1];
    T *y = (T *)a.y + b * a.y_stride[0] + t * a.y_stride[1];
    const int per_head = a.pairs / V;
    for (int i = threadIdx.x; i < a.heads * per_head; i += ROPE_THREADS) {
        int h = i / per_head, j = i % per_head * V;
        rotate<T, V>(a, x + h * a.x_stride[2], y + h * a.y_stride[2], j, cosine, sine);
    }
    for (int i = threadIdx.x; i < a.heads * a.rest; i += ROPE_THREADS) {
        int h = i / a.rest, j = 2 * a.pairs + i % a.rest;
        T *to = y + h * a.y_stride[2] + j * a.y_stride[3];
        float v = to_f32(x[h * a.x_stride[2] + j * a.x_stride[3]]);
        *to = from_f32<T>(a.adds ? to_f32(*to) + v : v);
    }
}

static bool takes(const void *p, const int64_t *stride, int v, int bytes) {
    bool fits = stride[3] == 1 && (uintptr_t)p % (size_t)(v * bytes) == 0;
    for (int i = 0; i < 3; i++) fits = fits && stride[i] % v == 0;
    return fits;
}

template <typename T> static void launch(const qn_call *c, const rope_args &a, unsigned blocks) {
    constexpr int V = 16 / sizeof(T);
    bool vectors = a.pairs % V == 0 && takes(a.x, a.x_stride, V, sizeof(T)) &&
                   takes(a.y, a.y_stride, V, sizeof(T));
    if (vectors) {
        k_rope<T, V><<<blocks, ROPE_THREADS, 0, stream_of(c)>>>(a);
    } else {
        k_rope<T, 1><<<blocks, ROPE_THREADS, 0, stream_of(c)>>>(a);
    }
}

static qn_status run_rope(const qn_call *c) {
    const qn_rope_attrs *attrs = (const qn_rope_attrs *)c->attrs;
    const qn_tensor *x = c->in[0], *y = c->out[0], *p = c->in[1], *start = c->in[2];
    rope_args a = {x->data, y->data};
    for (int i = 0; i < 4; i++) {
        a.x_stride[i] = x->stride[i];
        a.y_stride[i] = y->stride[i];
    }
    if (p) {
        a.positions = (const int32_t *)p->data;
        a.position_stride[0] = p->stride[0];
        a.position_stride[1] = p->stride[1];
    }
    if (start) {
        a.start = (const int32_t *)start->data;
        a.start_stride = start->ndim == 1 && start->shape[0] > 1 ? (int)start->stride[0] : 0;
    }
    a.steps = (int)x->shape[1];
    a.heads = (int)x->shape[2];
    a.pairs = attrs->pairs;
    a.rest = (int)x->shape[3] - 2 * attrs->pairs;
    a.rope = *attrs;
    a.adds = c->accumulate & 1u;
    if (x->dtype != y->dtype) {
        return qn_fail(QN_ERR_DTYPE, "rope: CUDA writes the dtype it reads");
    }
    int64_t blocks = x->shape[0] * x->shape[1];
    if (blocks == 0 || a.heads == 0 || x->shape[3] == 0) return QN_OK;
    if (x->dtype == QN_F32) {
        launch<float>(c, a, (unsigned)blocks);
    } else {
        launch<bf16>(c, a, (unsigned)blocks);
    }
    return launched(c);
}

extern "C" const qn_cuda_body qn_cuda_rope[] = {
    {"rope", QN_REAL_DTYPES, run_rope},
    {NULL},
};
