/* product.cu — qn_cuda_product: checks, the choice of a kernel, and the end of a split product.
 *
 * k_product_finish adds the partial outputs of the splits in order, four columns a thread, and does
 * the epilogue. Traffic: 4 splits m n bytes read, the epilogue's outputs and inputs once.
 */
#include "kernels/matmul_parts.cuh"

enum { FINISH_THREADS = 256 };

template <typename T>
__global__ void __launch_bounds__(FINISH_THREADS)
    k_product_finish(const __grid_constant__ product_args g) {
    const int64_t i = (int64_t)blockIdx.x * FINISH_THREADS + threadIdx.x;
    const int64_t per_row = (g.p.n + 3) / 4, line = i / per_row, col = i % per_row * 4;
    const int64_t row = line % g.p.m, item = line / g.p.m;
    if (item >= g.items) return;
    const int count = g.p.n - col < 4 ? (int)(g.p.n - col) : 4;
    const float *partial = (const float *)g.p.scratch;
    partial += (item * g.splits * g.p.m + row) * g.p.n + col;
    float z[4] = {};
#pragma unroll 4
    for (int64_t s = 0; s < g.splits; s++) {
        float x[4];
        load_four(x, partial + s * g.p.m * g.p.n, 1, g.p.n % 4 == 0, count);
#pragma unroll
        for (int e = 0; e < 4; e++) z[e] += x[e];
    }
    finish_four<T>(g, item, row, col, z);
}

static qn_status finish_splits(const product_args *g, cudaStream_t stream) {
    const int64_t threads = g->items * g->p.m * div_up(g->p.n, 4);
    const int64_t blocks = div_up(threads, FINISH_THREADS);
    if (blocks > INT32_MAX) return qn_fail(QN_ERR_SHAPE, "product: m n is too large to split");
    if (g->p.dtype == QN_F32) {
        k_product_finish<float><<<(unsigned)blocks, FINISH_THREADS, 0, stream>>>(*g);
    } else {
        k_product_finish<bf16><<<(unsigned)blocks, FINISH_THREADS, 0, stream>>>(*g);
    }
    return product_launched("product (splits)");
}

/* ---- launch ---------------------------------------------------------------------------------- */

static qn_status attribute(int *value, cudaDeviceAttr which, int device) {
    cudaError_t e = cudaDeviceGetAttribute(value, which, device);
    if (e == cudaSuccess) return QN_OK;
    return qn_fail(QN_ERR_DEVICE, "product: device attribute: %s", cudaGetErrorString(e));
}

qn_status qn_cuda_gpu(qn_gpu *gpu) {
    int device, khz, memory_khz, bus_bits;
    cudaError_t e = cudaGetDevice(&device);
    if (e != cudaSuccess) {
        return qn_fail(QN_ERR_DEVICE, "product: current device: %s", cudaGetErrorString(e));
    }
    QN_TRY(attribute(&gpu->major, cudaDevAttrComputeCapabilityMajor, device));
    QN_TRY(attribute(&gpu->minor, cudaDevAttrComputeCapabilityMinor, device));
    QN_TRY(attribute(&gpu->sms, cudaDevAttrMultiProcessorCount, device));
    QN_TRY(attribute(&gpu->shared_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    QN_TRY(attribute(&gpu->shared_per_sm, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device));
    QN_TRY(attribute(&khz, cudaDevAttrClockRate, device));
    QN_TRY(attribute(&memory_khz, cudaDevAttrMemoryClockRate, device));
    QN_TRY(attribute(&bus_bits, cudaDevAttrGlobalMemoryBusWidth, device));
    gpu->clock_hz = khz > 0 ? khz * 1e3 : 1e9;
    gpu->bytes_per_second = 2.0 * memory_khz * 1e3 * bus_bits / 8.0; /* two transfers a clock */
    if (!(gpu->bytes_per_second > 0.0)) gpu->bytes_per_second = 1e12;
    return QN_OK;
}

static qn_status check(const qn_product *p) {
    if (p->dtype != QN_F32 && p->dtype != QN_BF16) {
        return qn_fail(QN_ERR_DTYPE, "product: dtype number %d, expected f32 or bf16", p->dtype);
    }
    if (p->c_dtype != QN_F32 && p->c_dtype != p->dtype) {
        return qn_fail(QN_ERR_DTYPE,
                       "product: output dtype number %d, expected f32 or that of "
                       "the operands",
                       p->c_dtype);
    }
    if (p->batch_dims < 0 || p->batch_dims > QN_BATCH_AXES) {
        return qn_fail(QN_ERR_SHAPE, "product: %d batch axes, expected at most %d", p->batch_dims,
                       (int)QN_BATCH_AXES);
    }
    if (p->batch_dims > 0 && (p->bias || p->residual || p->pre)) {
        return qn_fail(QN_ERR_INTERNAL, "product: bias, residual and pre go without batch axes");
    }
    if (p->m > INT32_MAX || p->n > INT32_MAX || p->k > INT32_MAX) {
        return qn_fail(QN_ERR_SHAPE, "product: %lld x %lld x %lld, expected sizes below 2^31",
                       (long long)p->m, (long long)p->n, (long long)p->k);
    }
    return QN_OK;
}

/* May the epilogue take four neighbours of x at once? */
static bool fours(const void *x, qn_dtype dt, int64_t ld) {
    return !x || ((uintptr_t)x % (dt == QN_F32 ? 16 : 8) == 0 && ld % 4 == 0);
}

/* Nothing to do: an empty output. */
static bool is_empty(const qn_product *p) {
    bool empty = p->m == 0 || p->n == 0;
    for (int i = 0; i < p->batch_dims; i++) empty = empty || p->batch[i] == 0;
    return empty;
}

static qn_status launch_tile(const product_args *g, const qn_tile *tile, int sms,
                             cudaStream_t stream) {
    switch (tile->tier) {
    case QN_TIER_SIMT: return qni_product_simt(g, tile, stream);
    case QN_TIER_MMA: return qni_product_mma(g, tile, stream);
    default: return qni_product_wgmma(g, tile, sms, stream);
    }
}

static qn_status launch(const qn_product *p, const qn_tile *tile, int sms, cudaStream_t stream) {
    product_args g = {};
    g.p = *p;
    g.items = 1;
    g.wide_out = fours(p->c, p->c_dtype, p->ldc) && fours(p->residual, p->dtype, p->ldr) &&
                 fours(p->pre, p->dtype, p->ldp) && fours(p->bias, p->dtype, 4);
    for (int i = 0; i < p->batch_dims; i++) {
        g.items *= p->batch[i];
        g.wide_out = g.wide_out && p->c_step[i] % 4 == 0;
    }
    qn_product_split(p, &g.splits, &g.split_k);
    g.tiles_m = div_up(p->m, tile->m * tile->cluster);
    g.tiles_n = div_up(p->n, tile->n);
    g.wide_a = qn_product_wide(p, false);
    g.wide_b = qn_product_wide(p, true);
    if (product_blocks(&g) > INT32_MAX) {
        return qn_fail(QN_ERR_SHAPE, "product: %lld blocks, expected fewer than 2^31",
                       (long long)product_blocks(&g));
    }
    QN_TRY(launch_tile(&g, tile, sms, stream));
    return g.splits > 1 ? finish_splits(&g, stream) : QN_OK;
}

/* On `tile`, or on the first of the ranking. */
static qn_status run_on(const qn_product *p, const qn_tile *tile, cudaStream_t stream) {
    qn_gpu gpu;
    qn_candidate list[QN_MAX_TILES];
    int count, at = 0;
    QN_TRY(check(p));
    if (is_empty(p)) return QN_OK;
    QN_TRY(qn_cuda_gpu(&gpu));
    qn_product_candidates(p, &gpu, list, &count);
    while (tile && at < count - 1 && list[at].tile != tile) at++;
    if (list[at].rejected) {
        return qn_fail(QN_ERR_UNSUPPORTED, "product: %s: %s", list[at].tile->name,
                       list[at].rejected);
    }
    return launch(p, list[at].tile, gpu.sms, stream);
}

qn_status qn_cuda_product(const qn_product *p, void *stream) {
    return run_on(p, NULL, (cudaStream_t)stream);
}

qn_status qn_cuda_product_on(const qn_product *p, const qn_tile *tile, void *stream) {
    return run_on(p, tile, (cudaStream_t)stream);
}
