/* planted.h — kernels that are right, and the same with one mistake each: the emulator's permanent
 * examination. Every function runs one variant (bug 0: the right one) and returns a cudaError.
 */
#ifndef QUERN_TESTS_PLANTED_H
#define QUERN_TESTS_PLANTED_H

#ifdef __cplusplus
extern "C" {
#endif

enum planted_bug {
    BUG_NONE,
    /* elementwise, rows, tiles */
    BUG_READ_PAST_END,      /* `<=` for `<` */
    BUG_NO_BARRIER,         /* partial sums are read before they are written */
    BUG_UNWRITTEN_SHARED,   /* sums of warps that do not exist */
    BUG_TILE_TOO_EARLY,     /* no barrier between filling and using a tile */
    BUG_TILE_OVERWRITTEN,   /* none between using it and filling it again */
    BUG_SHARED_PAST_END,    /* one column too many */
    BUG_DIVERGENT_BARRIER,  /* two __syncthreads for one meeting */
    BUG_NO_SYNCWARP,        /* lanes read what others wrote, without __syncwarp */
    BUG_MISSING_LANE,       /* a full mask, but some lanes have returned */
    BUG_VECTOR_PAST_END,    /* the last vector store covers one element too many */
    BUG_UNWRITTEN_GLOBAL,   /* adds to an output nobody cleared */
    BUG_SAME_OUTPUT,        /* blocks add to the same sums without atomics */
    BUG_BARRIER_COUNT,      /* producers and consumers name different counts */
    BUG_NO_FENCE_BEFORE,    /* the last block may see the counter, not the sums */
    BUG_NO_FENCE_AFTER,     /* the reader's half of the same */
    BUG_NARROW_FENCE,       /* a fence of the block where blocks meet */
    BUG_ENDLESS_SPIN,       /* waits for a value nobody writes */
    BUG_NO_CLUSTER_BARRIER, /* reads a neighbour's shared memory too early */
    /* cp.async and mma.sync */
    BUG_ONE_GROUP_TOO_FEW, /* waits for one group less than it uses */
    BUG_OTHER_SWIZZLE,     /* the reader's permutation is another */
    BUG_NO_COMMIT,         /* the copies belong to no group when it waits */
    /* TMA, mbarriers, wgmma */
    BUG_EXPECT_TOO_MUCH,    /* 16 bytes that never come */
    BUG_NO_EMPTY_WAIT,      /* the producer does not wait for a free stage */
    BUG_NO_FULL_WAIT,       /* the consumer does not wait for a full one */
    BUG_DESCRIPTOR_STRIDE,  /* rows of 8 at half their distance */
    BUG_RELEASED_TOO_EARLY, /* a stage is given back while the tensor core reads it */
    BUG_NO_INIT_FENCE,      /* no fence.mbarrier_init */
    BUG_NO_INIT_BARRIER,    /* others use the mbarriers before they are initialised */
    BUG_PEER_NOT_AWAITED,   /* multicast into a stage the other block still reads */
    BUG_NO_PROXY_FENCE,     /* shared memory written by threads, then stored by TMA */
    BUG_DESCRIPTOR_SWIZZLE, /* the 64-byte pattern for a 128-byte tile */
    BUG_SUMS_TOO_EARLY,     /* accumulators read before the wait */
    BUG_SOURCE_OVERWRITTEN, /* the next tile overwrites what TMA still stores */
    BUG_ARRIVALS_TOO_FEW,   /* an mbarrier that waits for more than will come */
    BUG_MBARRIER_NOT_AGAIN, /* the second round waits for the parity of the first */
    BUG_COUNT
};

int planted_reset(void); /* the device, after an error that stays */

/* y = silu(x) g */
int planted_silu(int bug, const float *x, const float *g, float *y, int n);
/* Rows of `columns`: y = (x - mean) / sqrt(variance + 1e-5). threads: a multiple of 32. */
int planted_norm(int bug, const float *x, float *y, int rows, int columns, int threads);
/* c[m][n] = a[m][k] b[k][n]; all multiples of 16. */
int planted_sgemm(int bug, const float *a, const float *b, float *c, int m, int n, int k);
/* Every 32 elements in reverse. n a multiple of 32. */
int planted_reverse(int bug, const float *x, float *y, int n);
/* The sum of each 32 elements, the last ones fewer. */
int planted_warp_sum(int bug, const float *x, float *y, int n);
/* y = 2 x, four at a time. */
int planted_double(int bug, const float *x, float *y, int n);
/* y[c] = sum over rows of x[r][c]; y is cleared before. */
int planted_column_sums(int bug, const float *x, float *y, int rows, int columns);
/* y = x + 1, one warp loading, three storing. n a multiple of 96. */
int planted_pipeline(int bug, const float *x, float *y, int n);
/* *sum of x; partial has a float per block, *count is 0 before and after. */
int planted_last_block(int bug, const float *x, float *partial, unsigned *count, float *sum, int n,
                       int blocks);
/* Block 1 waits for block 0: y[1] = x[0]. *flag is 0 before. */
int planted_hand_over(int bug, const float *x, float *y, unsigned *flag);
/* y[i] = x[i] of the other block of the pair. n a multiple of 256. */
int planted_exchange(int bug, const float *x, float *y, int n);
/* c[m][n] f32 = a[m][k] b[n][k] of bf16; multiples of 64, 64, 32. */
int planted_mma(int bug, const void *a, const void *b, float *c, int m, int n, int k);
/* y = x through bulk copies of 1 KiB, one mbarrier. n a multiple of 256. */
int planted_bulk(int bug, const float *x, float *y, int n);
/* c[m][n] bf16 = a[m][k] b[n][k]; multiples of 128 (256 with a cluster of 2), 64, 64. Tensor maps:
 * boxes of 64 x 128 (a), 64 x (64 / cluster) (b), 64 x 64 (c), 128-byte swizzle. */
int planted_wgmma(int bug, const void *map_a, const void *map_b, const void *map_c, int m, int n,
                  int k, int cluster, int grid);

#ifdef __cplusplus
}
#endif

#endif
