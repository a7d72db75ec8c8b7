/* matmul_tune.c — splits of k by shape, and the ranking of tiles by a model of their time. */
#include "kernels/matmul_tune.h"

#include <stdio.h>

/* ---- tiles ----------------------------------------------------------------------------------- */

#define RING(stages, m, n, k) ((stages) * ((m) + (n)) * (k)*2)
/* Four stages, two panels of 16 KB, barriers, and what it takes to begin on 1024 bytes. */
#define HOPPER(n) (RING(4, 128, n, 64) + 2 * 16384 + 64 + 1024)

static const qn_tile tiles[] = {
    /* name, tier, cluster, m, n, k, stages, threads, shared bytes, blocks, efficiency */
    {"wgmma 128x256", QN_TIER_WGMMA, 2, 128, 256, 64, 4, 384, HOPPER(256), 1, 0.8},
    {"wgmma 128x128", QN_TIER_WGMMA, 1, 128, 128, 64, 4, 384, HOPPER(128), 1, 0.7},
    {"mma 128x128", QN_TIER_MMA, 1, 128, 128, 32, 4, 256, RING(4, 128, 128, 32), 2, 0.8},
    {"mma 64x64", QN_TIER_MMA, 1, 64, 64, 32, 4, 128, RING(4, 64, 64, 32), 4, 0.55},
    {"simt 128x128", QN_TIER_SIMT, 1, 128, 128, 8, 2, 256, 0, 2, 0.85},
    {"simt 64x64", QN_TIER_SIMT, 1, 64, 64, 8, 2, 64, 0, 6, 0.7},
};
enum { N_TILES = sizeof tiles / sizeof *tiles };

const qn_tile *qn_tiles(int *count) {
    *count = N_TILES;
    return tiles;
}

/* ---- splits ---------------------------------------------------------------------------------- */

static int64_t div_up(int64_t a, int64_t b) { return a / b + (a % b != 0); }

static int64_t items_of(const qn_product *p) {
    int64_t items = 1;
    for (int i = 0; i < p->batch_dims; i++) items *= p->batch[i];
    return items;
}

/* A nominal device, so that the bits do not depend on the real one: as many SMs as an H100 or H200,
 * tiles of 128 x 128. Splits fill one wave of it, as far as each still has MIN_K of k: below,
 * writing and reading the partial outputs costs more than the idle SMs. */
enum { NOMINAL_SMS = 132, NOMINAL_TILE = 128, MIN_K = 512, SPLIT_STEP = 64, MAX_SPLITS = 32 };

void qn_product_split(const qn_product *p, int64_t *splits, int64_t *split_k) {
    int64_t blocks = div_up(p->m, NOMINAL_TILE) * div_up(p->n, NOMINAL_TILE) * items_of(p);
    int64_t n = blocks > 0 ? NOMINAL_SMS / blocks : 1;
    if (n > p->k / MIN_K) n = p->k / MIN_K;
    if (n > MAX_SPLITS) n = MAX_SPLITS;
    if (n < 1) n = 1;
    int64_t length = div_up(div_up(p->k, n), SPLIT_STEP) * SPLIT_STEP;
    *split_k = length > 0 ? length : SPLIT_STEP;
    *splits = p->k > 0 ? div_up(p->k, *split_k) : 1;
}

size_t qn_product_scratch(const qn_product *p) {
    int64_t splits, split_k;
    qn_product_split(p, &splits, &split_k);
    if (splits == 1) return 0;
    return (size_t)(items_of(p) * splits * p->m * p->n) * sizeof(float);
}

/* ---- who can run it -------------------------------------------------------------------------- */

static bool rows_on_16_bytes(const qn_product *p, const void *x, int64_t ld, const int64_t *step) {
    int64_t piece = p->dtype == QN_BF16 ? 8 : 4;
    bool whole = ((uintptr_t)x & 15u) == 0 && ld % piece == 0;
    for (int i = 0; i < p->batch_dims; i++) whole = whole && step[i] % piece == 0;
    return whole;
}

bool qn_product_wide(const qn_product *p, bool of_b) {
    return of_b ? rows_on_16_bytes(p, p->b, p->ldb, p->b_step)
                : rows_on_16_bytes(p, p->a, p->lda, p->a_step);
}

static const char *rejection(const qn_tile *t, const qn_product *p, const qn_gpu *gpu) {
    if (t->tier == QN_TIER_SIMT && p->dtype != QN_F32) return "for f32";
    if (t->tier != QN_TIER_SIMT && p->dtype != QN_BF16) return "for bf16";
    if (t->tier == QN_TIER_MMA && gpu->major < 8) return "needs compute capability 8.0";
    if (t->tier == QN_TIER_WGMMA && !(gpu->major == 9 && gpu->minor == 0)) {
        return "needs compute capability 9.0";
    }
    if (t->tier == QN_TIER_WGMMA && p->batch_dims > 0) return "has batch axes";
    if (t->tier == QN_TIER_WGMMA && p->a_trans && p->b_trans) return "both operands transposed";
    if (t->tier == QN_TIER_WGMMA && p->k == 0) return "k is 0";
    if (t->tier != QN_TIER_SIMT && t->m > 64 &&
        !(qn_product_wide(p, false) && qn_product_wide(p, true))) {
        return "needs rows on 16 bytes";
    }
    if (t->shared_bytes > gpu->shared_per_block) return "too little shared memory";
    return NULL;
}

/* ---- how long it takes ----------------------------------------------------------------------- */

/* Dense flops a clock and SM. */
static double flops_per_clock(const qn_tile *t, const qn_gpu *gpu) {
    if (t->tier == QN_TIER_SIMT) return gpu->major == 8 && gpu->minor == 0 ? 128.0 : 256.0;
    if (t->tier == QN_TIER_WGMMA) return 4096.0;
    return gpu->minor != 0 && gpu->major == 8 ? 512.0 : 2048.0;
}

/* Waves of blocks, each as slow as the tensor (or FMA) units or the way from L2 to the SM allows;
 * no faster than device memory gives the operands. */
static double model_seconds(const qn_tile *t, const qn_product *p, const qn_gpu *gpu) {
    enum { L2_BYTES_PER_CLOCK = 64, FIXED_CLOCKS = 2000, MAX_THREADS = 2048 };
    int64_t splits, split_k;
    qn_product_split(p, &splits, &split_k);
    double size = p->dtype == QN_BF16 ? 2.0 : 4.0;
    double blocks = (double)(div_up(p->m, t->m * t->cluster) * t->cluster * div_up(p->n, t->n) *
                             splits * items_of(p));
    int resident = t->blocks;
    if (t->shared_bytes > 0 && resident > gpu->shared_per_sm / t->shared_bytes) {
        resident = gpu->shared_per_sm / t->shared_bytes;
    }
    if (resident > MAX_THREADS / t->threads) resident = MAX_THREADS / t->threads;
    if (resident < 1) resident = 1;
    double per_sm = blocks / gpu->sms;
    double rounds = (double)div_up((int64_t)blocks, (int64_t)gpu->sms * resident) * resident;
    if (per_sm < rounds && blocks < (double)gpu->sms * resident) {
        rounds = (double)div_up((int64_t)blocks, gpu->sms); /* one wave: spread over the SMs */
    }
    double k = (double)(p->k < split_k ? p->k : split_k);
    double math = 2.0 * t->m * t->n * k / (flops_per_clock(t, gpu) * t->efficiency);
    double feed = (t->m + (double)t->n / t->cluster) * k * size / L2_BYTES_PER_CLOCK;
    double out = (double)t->m * t->n * 4.0 / L2_BYTES_PER_CLOCK;
    double seconds = (rounds * ((math > feed ? math : feed) + out) + FIXED_CLOCKS) / gpu->clock_hz;
    double m = (double)p->m, n = (double)p->n, all_k = (double)p->k;
    double bytes = (m * all_k + all_k * n) * size + 4.0 * m * n;
    double memory = bytes * (double)items_of(p) / gpu->bytes_per_second;
    return seconds > memory ? seconds : memory;
}

static bool goes_before(const qn_candidate *x, const qn_candidate *y) {
    if (!x->rejected != !y->rejected) return !x->rejected;
    if (x->tile->tier != y->tile->tier) return x->tile->tier > y->tile->tier;
    return x->seconds < y->seconds;
}

int qn_product_candidates(const qn_product *p, const qn_gpu *gpu, qn_candidate *list, int *count) {
    int able = 0;
    *count = 0;
    for (int i = 0; i < N_TILES; i++) {
        qn_candidate c = {&tiles[i], rejection(&tiles[i], p, gpu), 0.0};
        if (!c.rejected) {
            c.seconds = model_seconds(&tiles[i], p, gpu);
            able++;
        }
        int at = (*count)++;
        for (; at > 0 && goes_before(&c, &list[at - 1]); at--) list[at] = list[at - 1];
        list[at] = c;
    }
    return able;
}

int qn_product_explain(const qn_product *p, const qn_gpu *gpu, char *text, size_t size) {
    qn_candidate list[QN_MAX_TILES];
    int count, length = 0;
    int64_t splits, split_k;
    qn_product_candidates(p, gpu, list, &count);
    qn_product_split(p, &splits, &split_k);
    for (int line = -1; line < count; line++) {
        char *to = (size_t)length < size ? text + length : NULL;
        size_t room = (size_t)length < size ? size - (size_t)length : 0;
        if (line < 0) {
            length +=
                snprintf(to, room, "product %lldx%lldx%lld %c%c %s, %lld item%s, k in %lld\n",
                         (long long)p->m, (long long)p->n, (long long)p->k, p->a_trans ? 'T' : 'N',
                         p->b_trans ? 'T' : 'N', p->dtype == QN_BF16 ? "bf16" : "f32",
                         (long long)items_of(p), items_of(p) == 1 ? "" : "s", (long long)splits);
        } else if (list[line].rejected) {
            length += snprintf(to, room, "  %s: %s\n", list[line].tile->name, list[line].rejected);
        } else {
            length += snprintf(to, room, "  %s: %.1f us%s\n", list[line].tile->name,
                               list[line].seconds * 1e6, line == 0 ? ", taken" : "");
        }
    }
    return length;
}
