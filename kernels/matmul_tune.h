/* matmul_tune.h — which kernel a product runs on, and in how many splits of k.
 *
 * Host only, no CUDA header. Two decisions, kept apart:
 *   - splits: from the shape alone, because they decide the order of a sum and so its bits;
 *   - the tile: free of that, ranked from the device's attributes by a small model of time. All
 *     tiles of a tier add in the same order, so that another choice never changes a result; the
 *     tier follows from the shape, the alignment and the kind of device.
 */
#ifndef QN_MATMUL_TUNE_H
#define QN_MATMUL_TUNE_H

#include "kernels/matmul.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qn_tier {
    QN_TIER_SIMT, /* f32, any device */
    QN_TIER_MMA,  /* bf16, sm_80 and later */
    QN_TIER_WGMMA /* bf16, sm_90a */
} qn_tier;

typedef struct qn_tile {
    const char *name; /* "mma 128x128" */
    qn_tier tier;
    int cluster;   /* blocks that share a load, below each other */
    int m, n;      /* of the output, per block */
    int k, stages; /* slice of k at a time, slices in flight */
    int threads;
    int shared_bytes;  /* dynamic, per block */
    int blocks;        /* per SM that registers allow */
    double efficiency; /* of the arithmetic units, while a block runs: an estimate */
} qn_tile;

/* All tiles there are; *count of them. */
const qn_tile *qn_tiles(int *count);

/* What ranking needs to know of a device. */
typedef struct qn_gpu {
    int major, minor; /* compute capability */
    int sms;
    int shared_per_block, shared_per_sm; /* bytes a block may ask for; bytes there are */
    double clock_hz;
    double bytes_per_second; /* of device memory */
} qn_gpu;

/* Of the current device, from its attributes (product.cu). */
qn_status qn_cuda_gpu(qn_gpu *gpu) QN_CHECKED;

/* k is cut into *splits stretches of *split_k, the last one shorter; at least 1 split. */
void qn_product_split(const qn_product *p, int64_t *splits, int64_t *split_k);

/* Do A (or B) allow 16-byte accesses: start, row stride and batch steps? */
bool qn_product_wide(const qn_product *p, bool of_b);

enum { QN_MAX_TILES = 8 };

typedef struct qn_candidate {
    const qn_tile *tile;
    const char *rejected; /* the reason; NULL = can run */
    double seconds;       /* the model's */
} qn_candidate;

/* Every tile, those that can run first and the fastest of them first. Returns their number; 0 means
 * that nothing can run the product. *count is the length of the list. */
int qn_product_candidates(const qn_product *p, const qn_gpu *gpu, qn_candidate *list, int *count);

/* The product on this tile, whatever the ranking says: for tests and measurements.
 * QN_ERR_UNSUPPORTED with the reason where the tile cannot run it. */
qn_status qn_cuda_product_on(const qn_product *p, const qn_tile *tile, void *stream) QN_CHECKED;

/* The choice and why, one line a candidate, for a trace. Returns the length, as snprintf. */
int qn_product_explain(const qn_product *p, const qn_gpu *gpu, char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
