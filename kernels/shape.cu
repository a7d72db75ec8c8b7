/* shape.cu — copy, cast, concatenation, and writing to the cache of keys and values.
 *
 * Between f32 and bf16: walk.cuh, each byte moved once (a transposing copy reads or writes single
 * elements: one side's sectors are used in part). Other dtypes go one element a thread, exactly for
 * whole numbers and through f64 else; they carry ids, counters and step values, not activations.
 */
#include "kernels/walk.cuh"

#include <cuda_fp16.h>

struct move_map {
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[1][V], const float (&x)[1][V], int64_t) const {
#pragma unroll
        for (int e = 0; e < V; e++) y[0][e] = x[0][e];
    }
};

/* ---- any dtype ------------------------------------------------------------------------------- */

QN_DEV bool is_whole(qn_dtype dt) { return dt == QN_I32 || dt == QN_I64 || dt == QN_U8; }

QN_DEV int64_t load_whole(const void *p, qn_dtype dt, int64_t i) {
    return dt == QN_I32   ? ((const int32_t *)p)[i]
           : dt == QN_I64 ? ((const int64_t *)p)[i]
                          : ((const uint8_t *)p)[i];
}
QN_DEV void store_whole(void *p, qn_dtype dt, int64_t i, int64_t v) {
    if (dt == QN_I32) {
        ((int32_t *)p)[i] = (int32_t)v;
    } else if (dt == QN_I64) {
        ((int64_t *)p)[i] = v;
    } else {
        ((uint8_t *)p)[i] = (uint8_t)v;
    }
}
QN_DEV double load_any(const void *p, qn_dtype dt, int64_t i) {
    if (is_whole(dt)) return (double)load_whole(p, dt, i);
    return dt == QN_F32   ? (double)((const float *)p)[i]
           : dt == QN_F64 ? ((const double *)p)[i]
           : dt == QN_F16 ? (double)__half2float(((const __half *)p)[i])
                          : (double)to_f32(((const bf16 *)p)[i]);
}
QN_DEV void store_any(void *p, qn_dtype dt, int64_t i, double v) {
    if (is_whole(dt)) {
        store_whole(p, dt, i, (int64_t)v);
    } else if (dt == QN_F32) {
        ((float *)p)[i] = (float)v;
    } else if (dt == QN_F64) {
        ((double *)p)[i] = v;
    } else if (dt == QN_F16) {
        ((__half *)p)[i] = __double2half(v);
    } else {
        ((bf16 *)p)[i] = __double2bfloat16(v);
    }
}

__global__ void __launch_bounds__(QN_WALK_THREADS)
    k_move_any(walk w, qn_dtype from, qn_dtype to, bool adds) {
    const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (int64_t i = first; i < w.total; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t e, row = walk_divide(i, w.inner, &e), at[2];
        walk_offset(w, row, e, at);
        if (!adds && is_whole(from) && is_whole(to)) {
            store_whole(w.data[1], to, at[1], load_whole(w.data[0], from, at[0]));
        } else {
            double v = load_any(w.data[0], from, at[0]);
            if (adds) v += load_any(w.data[1], to, at[1]);
            store_any(w.data[1], to, at[1], v);
        }
    }
}

/* ---- launchers ------------------------------------------------------------------------------- */

/* dst (+)= src; equal shapes. */
static qn_status move(const qn_call *c, const qn_tensor *src, const qn_tensor *dst) {
    const qn_tensor *t[] = {src, dst};
    walk w = walk_make(src, 2, t);
    qn_dtype from = src->dtype, to = dst->dtype;
    bool real = (from == QN_F32 || from == QN_BF16) && (to == QN_F32 || to == QN_BF16);
    if (real && from == QN_F32 && to == QN_BF16) {
        walk_launch<float, bf16, 1, 1>(c, w, move_map{}, c->accumulate);
    } else if (real) {
        return walk_dispatch<1, 1>(c, src, t, move_map{});
    } else if (walk_threads(&w, 1) > 0) {
        int64_t blocks = div_up(w.total, QN_WALK_THREADS);
        if (blocks > QN_WALK_BLOCKS) blocks = QN_WALK_BLOCKS;
        k_move_any<<<(unsigned)blocks, QN_WALK_THREADS, 0, stream_of(c)>>>(w, from, to,
                                                                           c->accumulate & 1u);
    }
    return launched(c);
}

static qn_status run_move(const qn_call *c) { return move(c, c->in[0], c->out[0]); }

static qn_status run_concat(const qn_call *c) {
    const qn_concat_attrs *a = (const qn_concat_attrs *)c->attrs;
    int64_t at = 0;
    for (int k = 0; k < a->count; k++) {
        qn_tensor part = *c->out[0];
        part.data = (char *)part.data + at * part.stride[a->axis] * dtype_bytes(part.dtype);
        part.shape[a->axis] = c->in[k]->shape[a->axis];
        at += part.shape[a->axis];
        QN_TRY(move(c, c->in[k], &part));
    }
    return QN_OK;
}

/* ---- cache_write ----------------------------------------------------------------------------- */

struct cache_args {
    const void *x;
    void *cache;
    const int32_t *start;
    int64_t start_stride;                /* from sample to sample; 0 = one for all */
    int64_t steps, heads, width, cached; /* T G D of x, S of the cache */
    int64_t x_stride[4], cache_stride[4];
};

/* A block: one sample and step. Steps beyond the cache are left out. */
template <typename T>
__global__ void __launch_bounds__(QN_WALK_THREADS) k_cache_write(cache_args a) {
    const int64_t b = blockIdx.x / a.steps, t = blockIdx.x % a.steps;
    const int64_t at = t + a.start[b * a.start_stride];
    if (at < 0 || at >= a.cached) return;
    const T *x = (const T *)a.x + b * a.x_stride[0] + t * a.x_stride[1];
    T *y = (T *)a.cache + b * a.cache_stride[0] + at * a.cache_stride[1];
    for (int64_t i = threadIdx.x; i < a.heads * a.width; i += QN_WALK_THREADS) {
        int64_t j, h = walk_divide(i, a.width, &j);
        y[h * a.cache_stride[2] + j * a.cache_stride[3]] = x[h * a.x_stride[2] + j * a.x_stride[3]];
    }
}

static qn_status run_cache_write(const qn_call *c) {
    const qn_tensor *x = c->in[1], *cache = c->out[0];
    const qn_tensor *start = c->in[2];
    cache_args a = {x->data, cache->data, (const int32_t *)start->data};
    a.start_stride = start->ndim == 1 && start->shape[0] > 1 ? start->stride[0] : 0;
    a.steps = x->shape[1];
    a.heads = x->shape[2];
    a.width = x->shape[3];
    a.cached = cache->shape[1];
    for (int i = 0; i < 4; i++) {
        a.x_stride[i] = x->stride[i];
        a.cache_stride[i] = cache->stride[i];
    }
    unsigned blocks = (unsigned)(x->shape[0] * x->shape[1]);
    if (blocks == 0 || a.heads * a.width == 0) return QN_OK;
    if (x->dtype == QN_F32) {
        k_cache_write<float><<<blocks, QN_WALK_THREADS, 0, stream_of(c)>>>(a);
    } else {
        k_cache_write<bf16><<<blocks, QN_WALK_THREADS, 0, stream_of(c)>>>(a);
    }
    return launched(c);
}

static const uint32_t ANY = ~0u;

extern "C" const qn_cuda_body qn_cuda_shape[] = {
    {"copy", ANY, run_move},
    {"cast", ANY, run_move},
    {"concat", ANY, run_concat},
    {"cache_write", QN_REAL_DTYPES, run_cache_write},
    {NULL},
};
