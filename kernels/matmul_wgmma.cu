/* matmul_wgmma.cu — bf16 products on sm_90a: TMA, wgmma, specialised warpgroups.
 *
 * A persistent block of three warpgroups makes tiles of 128 x TN. The first warpgroup fills a ring
 * of four stages of 64 along k with tensor copies; the other two multiply, 64 x TN each, with the
 * sums in registers, one group of wgmma in flight while the next stage is awaited. Clusters of CL
 * blocks take CL tiles below each other and fetch the common part of B once: each block loads its
 * share and multicasts it. The producer runs ahead into the next tile during an epilogue. Both
 * operands keep the order they have in memory: along k the tile has rows of 64 k, along m or n
 * pieces of 64 k by 64 m; both in the 128-byte swizzle, which copies and wgmma undo alike. Copies
 * fill with zeros beyond the edges. Output: sums that need no other matrix (alpha and bias at most)
 * go to swizzled panels in shared memory and from there by tensor stores, which clip at the edges;
 * otherwise through f32 panels of 64 x 32 to the common epilogue, whole rows at a time. Order of a
 * sum: k upwards in steps of 16, each as the tensor core adds it; then the splits.
 *
 * Traffic: 2 (m k ceil(n / TN) + k n ceil(m / (128 CL))) bytes read, of which L2 serves most;
 * outputs as the epilogue says. Per split 8 m n bytes more. Shared-memory conflicts: f32 panels of
 * the tensor stores 2 ways (two rows of a quad pair share a 32-byte half), all else none. Limits:
 * no batch axes, rows on 16 bytes, not A and B both transposed (training has no such product); the
 * others go to matmul_mma.cu.
 */
#include <cudaTypedefs.h>

#include "kernels/hopper.cuh"
#include "kernels/matmul_parts.cuh"

enum {
    TM = 128,   /* of a block; 64 of a consumer */
    SLICE = 64, /* k at once: 128 bytes, the span of the swizzle */
    STAGES = 4,
    CONSUMERS = 2,
    GROUP = 128, /* threads of a warpgroup */
    PIECE_BYTES = SLICE * 128,
    A_BYTES = TM * SLICE * 2,
    PANEL_BYTES = 8192,          /* 64 rows of 128 bytes, or 64 x 32 f32 */
    PART_BYTES = 2 * PANEL_BYTES /* of a consumer */
};

typedef struct tensor_maps {
    CUtensorMap a, b, c;
} tensor_maps;

template <int TN> struct layout {
    enum {
        STAGE_BYTES = A_BYTES + TN * SLICE * 2,
        PANELS_AT = STAGES * STAGE_BYTES,
        FULL_AT = PANELS_AT + CONSUMERS * PART_BYTES,
        EMPTY_AT = FULL_AT + STAGES * 8,
        BYTES = EMPTY_AT + STAGES * 8 + 1024 /* to begin on 1024 */
    };
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* The ring's position: stage and parity, step by step. */
struct ring_at {
    int stage = 0, parity = 0;
    __device__ __forceinline__ void next(void) {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
};

/* ---- producer -------------------------------------------------------------------------------- */

/* Stage at `to`: A's tile at (row, k) and, for all blocks, this one's share of B's at (col, k). */
template <int TN, int CL, bool A_TRANS, bool B_TRANS>
QN_DEV void fill_stage(uint32_t to, uint32_t full, const tensor_maps &maps, int row, int col, int k,
                       int rank) {
    enum { SHARE = TN / CL };
    const uint32_t to_b = to + A_BYTES + rank * SHARE * 128;
    mbarrier_arrive_expect(full, layout<TN>::STAGE_BYTES);
    if (A_TRANS) {
        tensor_load(to, &maps.a, full, row, k);
        tensor_load(to + PIECE_BYTES, &maps.a, full, row + 64, k);
    } else {
        tensor_load(to, &maps.a, full, k, row);
    }
#pragma unroll
    for (int i = 0; i < (B_TRANS ? 1 : SHARE / 64); i++) {
        const int x = B_TRANS ? k : col + rank * SHARE + i * 64;
        const int y = B_TRANS ? col + rank * SHARE : k;
        if (CL > 1) {
            tensor_load_multicast(to_b + i * PIECE_BYTES, &maps.b, full, x, y, (1 << CL) - 1);
        } else {
            tensor_load(to_b + i * PIECE_BYTES, &maps.b, full, x, y);
        }
    }
}

/* ---- consumers: output ----------------------------------------------------------------------- */

enum { TAKEN = 16 }; /* sums of a thread handled at once: 32 columns of a consumer's 64 rows */

/* z = the q-th 16 sums. A choice among registers, so that what follows exists once, not once each;
 * more than 16 at a time would spill. */
template <int TOTAL> QN_DEV void take(float (&z)[TAKEN], const float (&d)[TOTAL], int q) {
#pragma unroll
    for (int p = 0; p < TOTAL / TAKEN; p++) {
        if (p != q) continue;
#pragma unroll
        for (int i = 0; i < TAKEN; i++) z[i] = d[p * TAKEN + i];
    }
}

/* Through an f32 panel to the common epilogue; `part` is this consumer's. */
template <int TN>
QN_DEV void emit_sums(const product_args &g, const tile_at &t, int64_t row,
                      const float (&d)[TN / 2], float *part, int consumer, int l) {
#pragma unroll 1
    for (int q = 0; q < TN / 32; q++) {
        float z[TAKEN];
        take(z, d, q);
        named_barrier(1 + consumer, GROUP);
#pragma unroll
        for (int i = 0; i < TAKEN / 2; i++) {
            const int r = l / 32 * 16 + l % 32 / 4 + i % 2 * 8, c = i / 2 * 8 + l % 4 * 2;
            store_shared_8(shared_address(part + sum_offset<32>(r, c)), z[i * 2], z[i * 2 + 1]);
        }
        named_barrier(1 + consumer, GROUP);
#pragma unroll 1
        for (int i = l; i < 64 * 8; i += GROUP) {
            const int r = i / 8, c = i % 8 * 4;
            float four[4];
            *(float4 *)four = *(const float4 *)(part + sum_offset<32>(r, c));
            emit_four<bf16>(g, t, row + r, t.col + q * 32 + c, four);
        }
    }
}

QN_DEV float2 scaled(const product_args &g, int64_t col, float x, float y) {
    if (g.splits > 1) return make_float2(x, y);
    x *= g.p.alpha;
    y *= g.p.alpha;
    if (g.p.bias) {
        const bf16 *b = (const bf16 *)g.p.bias + col * g.p.bias_step;
        if (col < g.p.n) x += to_f32(b[0]);
        if (col + 1 < g.p.n) y += to_f32(b[g.p.bias_step]);
    }
    return make_float2(x, y);
}

/* Panels of 64 rows by 128 bytes, two in turn, each written by all and stored by one thread. */
template <int TN, typename C>
QN_DEV void store_sums(const product_args &g, const tile_at &t, int64_t row,
                       const float (&d)[TN / 2], const CUtensorMap *map, unsigned char *part,
                       int consumer, int l) {
    enum { COLS = 128 / sizeof(C), TAKES = COLS / 32 };
#pragma unroll 1
    for (int q = 0; q < TN / 32; q++) {
        const int of_panel = q % TAKES;
        unsigned char *panel = part + q / TAKES % 2 * PANEL_BYTES;
        float sums[TAKEN];
        take(sums, d, q);
        if (of_panel == 0) {
            if (l == 0) tensor_store_wait_read<1>();
            named_barrier(1 + consumer, GROUP);
        }
#pragma unroll
        for (int i = 0; i < TAKEN / 2; i++) {
            const int r = l / 32 * 16 + l % 32 / 4 + i % 2 * 8, c = i / 2 * 8 + l % 4 * 2;
            const int byte = (of_panel * 32 + c) * (int)sizeof(C);
            const float2 z = scaled(g, t.col + q * 32 + c, sums[i * 2], sums[i * 2 + 1]);
            unsigned char *to = panel + r * 128 + (((byte >> 4) ^ (r & 7)) << 4) + (byte & 15);
            if (sizeof(C) == 4) {
                store_shared_8(shared_address(to), z.x, z.y);
            } else {
                *(__nv_bfloat162 *)to = __floats2bfloat162_rn(z.x, z.y);
            }
        }
        if (of_panel < TAKES - 1) continue;
        fence_async();
        named_barrier(1 + consumer, GROUP);
        if (l == 0) {
            tensor_store(map, shared_address(panel), (int)t.col + q / TAKES * COLS, (int)row,
                         (int)t.split);
            tensor_store_commit();
        }
    }
}

/* ---- consumers: sums ------------------------------------------------------------------------- */

/* The stage may be filled again: says every warp to every block that fills it. */
template <int CL> QN_DEV void release_stage(uint32_t empty, int l) {
    if (l % 32 < CL) mbarrier_arrive_at(empty, l % 32);
}

template <int TN, int CL, bool A_TRANS, bool B_TRANS>
QN_DEV void multiply(float (&d)[TN / 2], ring_at &at, uint32_t base, int slices, int consumer,
                     int l) {
    const uint32_t full = base + layout<TN>::FULL_AT, empty = base + layout<TN>::EMPTY_AT;
    int last = 0;
    for (int i = 0; i < slices; i++, at.next()) {
        const uint32_t a = base + at.stage * layout<TN>::STAGE_BYTES + consumer * PIECE_BYTES;
        const uint32_t b = base + at.stage * layout<TN>::STAGE_BYTES + A_BYTES;
        mbarrier_wait(full + at.stage * 8, at.parity);
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < SLICE / 16; s++) {
            wgmma<A_TRANS, !B_TRANS>(d, wgmma_operand(a + s * (A_TRANS ? 2048 : 32)),
                                     wgmma_operand(b + s * (B_TRANS ? 32 : 2048)), i > 0 || s > 0);
        }
        wgmma_commit();
        if (i > 0) {
            wgmma_wait<1>();
            release_stage<CL>(empty + last * 8, l);
        }
        last = at.stage;
    }
    wgmma_wait<0>();
    release_stage<CL>(empty + last * 8, l);
}

#endif

/* ---- kernel ---------------------------------------------------------------------------------- */

template <int TN, int CL, bool A_TRANS, bool B_TRANS>
__global__ void __launch_bounds__((CONSUMERS + 1) * GROUP, 1)
    k_product_wgmma(const __grid_constant__ product_args g,
                    const __grid_constant__ tensor_maps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ __align__(1024) unsigned char shared[];
    const uint32_t start = shared_address(shared), base = (start + 1023u) & ~1023u;
    const uint32_t full = base + layout<TN>::FULL_AT, empty = base + layout<TN>::EMPTY_AT;
    const int group = (int)threadIdx.x / GROUP, l = (int)threadIdx.x % GROUP;
    const int rank = CL > 1 ? cluster_rank() : 0;
    const int64_t works = g.tiles_m * g.tiles_n * g.splits, stride = gridDim.x / CL;
    ring_at at;
    if (threadIdx.x == 0) {
        prefetch_map(&maps.a);
        prefetch_map(&maps.b);
        for (int s = 0; s < STAGES; s++) {
            mbarrier_init(full + s * 8, 1);
            mbarrier_init(empty + s * 8, CONSUMERS * (GROUP / 32) * CL);
        }
        fence_mbarrier_init();
    }
    __syncwarp();
    if (CL > 1) {
        cluster_barrier();
    } else {
        __syncthreads();
    }
    if (group == 0) {
        registers_less<40>();
        if (threadIdx.x == 0) {
            for (int64_t w = blockIdx.x / CL; w < works; w += stride) {
                const tile_at t = tile_of(g, w, TM * CL, TN);
                for (int64_t k = t.k_first; k < t.k_end; k += SLICE, at.next()) {
                    mbarrier_wait(empty + at.stage * 8, at.parity ^ 1);
                    fill_stage<TN, CL, A_TRANS, B_TRANS>(
                        base + at.stage * layout<TN>::STAGE_BYTES, full + at.stage * 8, maps,
                        (int)t.row + rank * TM, (int)t.col, (int)k, rank);
                }
            }
        }
        __syncwarp();
    } else {
        registers_more<232>();
        const int consumer = group - 1;
        unsigned char *part = shared + (base - start) + layout<TN>::PANELS_AT;
        part += consumer * PART_BYTES;
        for (int64_t w = blockIdx.x / CL; w < works; w += stride) {
            const tile_at t = tile_of(g, w, TM * CL, TN);
            const int slices = (int)((t.k_end - t.k_first + SLICE - 1) / SLICE);
            const int64_t row = t.row + rank * TM + consumer * 64;
            float d[TN / 2];
            multiply<TN, CL, A_TRANS, B_TRANS>(d, at, base, slices, consumer, l);
            if (!g.tensor_out) {
                emit_sums<TN>(g, t, row, d, (float *)part, consumer, l);
            } else if (g.splits > 1 || g.p.c_dtype == QN_F32) {
                store_sums<TN, float>(g, t, row, d, &maps.c, part, consumer, l);
            } else {
                store_sums<TN, bf16>(g, t, row, d, &maps.c, part, consumer, l);
            }
        }
        if (l == 0) tensor_store_wait_read<0>();
        __syncwarp();
    }
    if (CL > 1) cluster_barrier(); /* no block leaves while another may signal it */
#endif
}

/* ---- tensor maps ----------------------------------------------------------------------------- */

typedef struct plane {
    const void *data;
    CUtensorMapDataType type;
    int rank;
    int64_t size[3], step[2]; /* innermost first; step in bytes, of axes 1 and 2 */
    int box[2];
} plane;

static qn_status encode(PFN_cuTensorMapEncodeTiled_v12000 call, const plane *p, CUtensorMap *map) {
    cuuint64_t size[3], step[2];
    cuuint32_t box[3] = {(cuuint32_t)p->box[0], (cuuint32_t)p->box[1], 1}, one[3] = {1, 1, 1};
    for (int i = 0; i < p->rank; i++) size[i] = (cuuint64_t)p->size[i];
    for (int i = 0; i < p->rank - 1; i++) step[i] = (cuuint64_t)p->step[i];
    CUresult r = call(map, p->type, (cuuint32_t)p->rank, (void *)p->data, size, step, box, one,
                      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (r == CUDA_SUCCESS) return QN_OK;
    return qn_fail(QN_ERR_DEVICE, "product: tensor map of %lld x %lld: CUDA error %d",
                   (long long)p->size[1], (long long)p->size[0], (int)r);
}

static plane operand_plane(const void *data, bool along_k, int64_t rows, int64_t k, int64_t ld,
                           int box_rows) {
    plane p = {data, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2};
    p.size[0] = along_k ? k : rows, p.size[1] = along_k ? rows : k;
    p.step[0] = ld * 2;
    p.box[0] = 64, p.box[1] = along_k ? box_rows : SLICE;
    return p;
}

static plane output_plane(const product_args *g) {
    const bool wide = g->splits > 1 || g->p.c_dtype == QN_F32;
    plane p = {g->p.c, wide ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
               3};
    p.size[0] = g->p.n, p.size[1] = g->p.m, p.size[2] = g->splits;
    p.step[0] = g->p.ldc * (wide ? 4 : 2), p.step[1] = p.step[0] * g->p.m;
    if (g->splits > 1) {
        p.data = g->p.scratch;
        p.step[0] = g->p.n * 4, p.step[1] = p.step[0] * g->p.m;
    }
    p.box[0] = wide ? 32 : 64, p.box[1] = 64;
    return p;
}

/* Can tensor stores write the output: nothing read but the bias, rows on 16 bytes? */
static bool stores_fit(const product_args *g) {
    const qn_product *p = &g->p;
    if (g->splits > 1) return p->n % 4 == 0;
    return !p->residual && !p->pre && !p->accumulate && p->activation == QN_ACT_NONE &&
           is_aligned16(p->c) && p->ldc * (p->c_dtype == QN_F32 ? 4 : 2) % 16 == 0;
}

static qn_status make_maps(product_args *g, const qn_tile *tile, tensor_maps *maps) {
    void *found = NULL;
    cudaDriverEntryPointQueryResult result;
    cudaError_t e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                     cudaEnableDefault, &result);
    if (e != cudaSuccess || !found) {
        return qn_fail(QN_ERR_DEVICE, "product: the driver has no cuTensorMapEncodeTiled");
    }
    PFN_cuTensorMapEncodeTiled_v12000 call = (PFN_cuTensorMapEncodeTiled_v12000)found;
    const qn_product *p = &g->p;
    const plane a = operand_plane(p->a, !p->a_trans, p->m, p->k, p->lda, TM);
    const plane b = operand_plane(p->b, p->b_trans, p->n, p->k, p->ldb, tile->n / tile->cluster);
    QN_TRY(encode(call, &a, &maps->a));
    QN_TRY(encode(call, &b, &maps->b));
    g->tensor_out = stores_fit(g);
    if (!g->tensor_out) return QN_OK;
    const plane c = output_plane(g);
    return encode(call, &c, &maps->c);
}

/* ---- launcher -------------------------------------------------------------------------------- */

typedef void wgmma_kernel(const product_args, const tensor_maps);

template <int TN, int CL> static wgmma_kernel *kernel_of(const qn_product *p) {
    if (p->a_trans) return k_product_wgmma<TN, CL, true, false>;
    return p->b_trans ? k_product_wgmma<TN, CL, false, true>
                      : k_product_wgmma<TN, CL, false, false>;
}

qn_status qni_product_wgmma(const product_args *args, const qn_tile *tile, int sms,
                            cudaStream_t stream) {
    product_args g = *args;
    tensor_maps maps = {};
    QN_TRY(make_maps(&g, tile, &maps));
    wgmma_kernel *kernel = tile->n == 256 ? kernel_of<256, 2>(&g.p) : kernel_of<128, 1>(&g.p);
    cudaError_t e = cudaFuncSetAttribute(
        (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, tile->shared_bytes);
    if (e != cudaSuccess) {
        return qn_fail(QN_ERR_DEVICE, "product (wgmma): %d bytes of shared memory: %s",
                       tile->shared_bytes, cudaGetErrorString(e));
    }
    int64_t clusters = product_blocks(&g);
    if (clusters > sms / tile->cluster) clusters = sms / tile->cluster;
    if (clusters < 1) clusters = 1;
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = (unsigned)tile->cluster;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(clusters * tile->cluster));
    config.blockDim = dim3((unsigned)tile->threads);
    config.dynamicSmemBytes = (size_t)tile->shared_bytes;
    config.stream = stream;
    config.attrs = &cluster;
    config.numAttrs = 1;
    e = cudaLaunchKernelEx(&config, kernel, g, maps);
    if (e != cudaSuccess) {
        return qn_fail(QN_ERR_DEVICE, "product (wgmma): CUDA launch: %s", cudaGetErrorString(e));
    }
    return QN_OK;
}
