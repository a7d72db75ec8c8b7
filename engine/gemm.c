/* gemm.c — tiles, panels and stores of the matrix product; see gemm.h. */
#include "engine/gemm.h"
#include "engine/op_shared.h"

#include <cblas.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>

/* ---- the plan -------------------------------------------------------------------------------- */

enum {
    MAX_TILE = 512,           /* larger gains nothing: packing is already amortised */
    MIN_TILE_M = 32,          /* smaller loses a third of the speed */
    MIN_TILE_N = 128,         /* 64 columns: 106 GFLOP/s a core, 128: 116 */
    ENOUGH_TILES = 8,         /* stop splitting here: 2 to 16 threads find work */
    SMALL_WORK = 8 * 1000000, /* a tile of less than this many flops is not split */
    PANEL_K = 512,            /* depth of the f32 panels of the bf16 fallback */
    TURN_ROWS = 256,          /* rows of A that repay transposing B: 116 against 87-108 GFLOP/s */
    TURN_ELEMENTS = 4 << 20,  /* of B, at most: the transpose is scratch, and leaves the caches */
    TURN_TASK = 64,           /* rows of B per task */
    ALIGN = 64
};

/* Flops, with the operands' traffic counted at 40 flops an element (it rules thin products). */
static double tile_work(const qni_gemm *g) {
    double tm = (double)g->tile_m, tn = (double)g->tile_n;
    return (double)g->k * (2.0 * tm * tn + 40.0 * (tm + tn));
}

static int64_t blocks(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

/* Equal tiles, in steps of 16 so that vector loops stay whole. */
static int64_t even_tile(int64_t size, int64_t n_blocks) {
    return (blocks(size, n_blocks) + 15) / 16 * 16;
}

void qni_gemm_plan(qni_gemm *g) {
    g->tile_m = g->tile_n = 1;
    g->tiles_m = g->tiles_n = 0;
    g->turn_b = g->dtype == QN_F32 && g->b_trans && !g->a_trans && g->batch_dims == 0 &&
                g->m >= TURN_ROWS && g->n * g->k > 0 && g->n * g->k <= TURN_ELEMENTS;
    int64_t items = 1;
    for (int i = 0; i < g->batch_dims; i++) items *= g->batch[i];
    if (g->m == 0 || g->n == 0 || items == 0) return;
    g->tile_m = g->m < MAX_TILE ? g->m : MAX_TILE;
    g->tile_n = g->n < MAX_TILE ? g->n : MAX_TILE;
    for (;;) {
        g->tiles_m = blocks(g->m, g->tile_m);
        g->tiles_n = blocks(g->n, g->tile_n);
        bool enough = items * g->tiles_m * g->tiles_n >= ENOUGH_TILES;
        if (enough || tile_work(g) < SMALL_WORK) break;
        bool can_m = g->tile_m > MIN_TILE_M, can_n = g->tile_n > MIN_TILE_N;
        if (!can_m && !can_n) break;
        int64_t *cut = can_m && (!can_n || g->tile_n < 2 * g->tile_m) ? &g->tile_m : &g->tile_n;
        *cut = (*cut + 1) / 2;
    }
    int64_t n_tiles = items * g->tiles_m * g->tiles_n;
    if (n_tiles > 1 && n_tiles < 3 * ENOUGH_TILES && n_tiles % 2) { /* two threads share evenly */
        *(g->tiles_n >= g->tiles_m ? &g->tiles_n : &g->tiles_m) += 1;
    }
    g->tile_m = even_tile(g->m, g->tiles_m);
    g->tile_n = even_tile(g->n, g->tiles_n);
    if (g->tile_m > g->m) g->tile_m = g->m;
    if (g->tile_n > g->n) g->tile_n = g->n;
    g->tiles_m = blocks(g->m, g->tile_m);
    g->tiles_n = blocks(g->n, g->tile_n);
}

static size_t aligned(size_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

static size_t tile_bytes(const qni_gemm *g) {
    return aligned((size_t)(g->tile_m * g->tile_n) * sizeof(float));
}

static int64_t panel_k(const qni_gemm *g) { return g->k < PANEL_K ? g->k : PANEL_K; }

static bool uses_primitives(const qni_gemm *g) {
    return g->dtype == QN_BF16 && g->tiles_m > 0 && g->k > 0 && qni_bf16_available();
}

qn_status qni_gemm_scratch(const qni_gemm *g, int threads, size_t *bytes) {
    const int64_t sizes[] = {g->m, g->n, g->k, g->lda, g->ldb};
    for (int i = 0; i < 5; i++) {
        if (sizes[i] > INT_MAX) {
            return qn_fail(QN_ERR_UNSUPPORTED,
                           "matrix product: size or row stride %lld is beyond 2^31 - 1",
                           (long long)sizes[i]);
        }
    }
    *bytes = g->turn_b ? aligned((size_t)(g->n * g->k) * sizeof(float)) : 0;
    if (g->dtype != QN_BF16 || g->tiles_m == 0) return QN_OK;
    size_t library = 0;
    if (uses_primitives(g)) {
        QN_TRY(qni_bf16_scratch(g, &library));
    } else {
        library = aligned((size_t)(g->tile_m * panel_k(g)) * sizeof(float)) +
                  aligned((size_t)(g->tile_n * panel_k(g)) * sizeof(float));
    }
    *bytes = (tile_bytes(g) + aligned(library)) * (size_t)threads;
    return QN_OK;
}

qn_status qni_gemm_prepare(const qni_gemm *g, int threads, qni_bf16 **out) {
    *out = NULL;
    return uses_primitives(g) ? qni_bf16_create(g, threads, out) : QN_OK;
}

void qni_gemm_release(qni_bf16 *primitives) { qni_bf16_free(primitives); }

/* ---- library calls --------------------------------------------------------------------------- */

static CBLAS_TRANSPOSE flag(bool trans) { return trans ? CblasTrans : CblasNoTrans; }

void qni_sgemm(bool a_trans, bool b_trans, int64_t m, int64_t n, int64_t k, float alpha,
               const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
               int64_t ldc) {
    /* OpenBLAS wins for small products (112 against 93 GF/s) and for narrow ones with B stored by
     * columns (98 against 77). */
    bool small = m * n * k <= 1000000 || (b_trans && !a_trans && n <= 64);
    if (!small && qni_onednn_sgemm(a_trans, b_trans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc))
        return;
    cblas_sgemm(CblasRowMajor, flag(a_trans), flag(b_trans), (int)m, (int)n, (int)k, alpha, a,
                (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

void qni_transpose(int64_t rows, int64_t cols, const float *a, int64_t lda, float *b, int64_t ldb) {
    cblas_somatcopy(CblasRowMajor, CblasTrans, (int)rows, (int)cols, 1.0f, a, (int)lda, b,
                    (int)ldb);
}

static void product_f64(const qni_gemm *g, int64_t m, int64_t n, double alpha, const double *a,
                        const double *b, double beta, double *c, int64_t ldc) {
    cblas_dgemm(CblasRowMajor, flag(g->a_trans), flag(g->b_trans), (int)m, (int)n, (int)g->k, alpha,
                a, (int)g->lda, b, (int)g->ldb, beta, c, (int)ldc);
}

/* rows x cols of bf16 at row stride ld, as adjacent floats. */
static void widen(const uint16_t *src, int64_t ld, int64_t rows, int64_t cols, float *dst) {
    for (int64_t i = 0; i < rows; i++) qn_bf16_load_row(src + i * ld, cols, dst + i * cols);
}

/* c = op(a) op(b) for bf16 operands through f32 panels of depth PANEL_K. */
static void product_by_panels(const qni_gemm *g, int64_t m, int64_t n, const uint16_t *a,
                              const uint16_t *b, float *c, float *panels) {
    float *wide_a = panels;
    float *wide_b = panels + aligned((size_t)(g->tile_m * panel_k(g)) * sizeof(float)) / 4;
    for (int64_t k0 = 0; k0 < g->k; k0 += PANEL_K) {
        int64_t k = g->k - k0 < PANEL_K ? g->k - k0 : PANEL_K;
        const uint16_t *from_a = a + (g->a_trans ? k0 * g->lda : k0);
        const uint16_t *from_b = b + (g->b_trans ? k0 : k0 * g->ldb);
        int64_t lda = g->a_trans ? m : k, ldb = g->b_trans ? k : n;
        widen(from_a, g->lda, g->a_trans ? k : m, lda, wide_a);
        widen(from_b, g->ldb, g->b_trans ? n : k, ldb, wide_b);
        qni_sgemm(g->a_trans, g->b_trans, m, n, k, 1.0f, wide_a, lda, wide_b, ldb, k0 ? 1.0f : 0.0f,
                  c, n);
    }
}

/* ---- one tile -------------------------------------------------------------------------------- */

typedef struct run {
    const qni_gemm *g;
    const qni_gemm_job *job;
    atomic_bool failed;
} run;

typedef struct tile {
    int64_t item, row, col, m, n;
    const char *a, *b;
    char *c;
} tile;

static tile tile_at(const run *r, int64_t index) {
    const qni_gemm *g = r->g;
    tile t = {.item = index / (g->tiles_m * g->tiles_n)};
    int64_t within = index % (g->tiles_m * g->tiles_n);
    t.row = within / g->tiles_n * g->tile_m;
    t.col = within % g->tiles_n * g->tile_n;
    t.m = g->m - t.row < g->tile_m ? g->m - t.row : g->tile_m;
    t.n = g->n - t.col < g->tile_n ? g->n - t.col : g->tile_n;
    int64_t a = g->a_trans ? t.row : t.row * g->lda;
    int64_t b = g->b_trans ? t.col * g->ldb : t.col;
    int64_t c = t.row * r->job->ldc + t.col;
    for (int64_t d = g->batch_dims - 1, rest = t.item; d >= 0; rest /= g->batch[d--]) {
        int64_t i = rest % g->batch[d];
        a += i * g->a_step[d];
        b += i * g->b_step[d];
        c += i * g->c_step[d];
    }
    int64_t bytes = (int64_t)qn_dtype_bytes(g->dtype);
    t.a = (const char *)r->job->a + a * bytes;
    t.b = (const char *)r->job->b + b * bytes;
    t.c = (char *)r->job->c + c * (int64_t)qn_dtype_bytes(r->job->c_dtype);
    return t;
}

static void tile_epilogue(const run *r, const tile *t, char *values, int64_t row_bytes) {
    if (!r->job->epilogue) return;
    for (int64_t i = 0; i < t->m; i++) {
        r->job->epilogue(r->job->ctx, t->item, t->row + i, t->col, t->n, values + i * row_bytes);
    }
}

/* The product lands in C at once. */
static void tile_in_place(const run *r, const tile *t) {
    const qni_gemm_job *j = r->job;
    double beta = j->add ? 1.0 : 0.0;
    if (r->g->dtype == QN_F64) {
        product_f64(r->g, t->m, t->n, j->alpha, (const double *)t->a, (const double *)t->b, beta,
                    (double *)t->c, j->ldc);
    } else {
        qni_sgemm(r->g->a_trans, r->g->b_trans, t->m, t->n, r->g->k, (float)j->alpha,
                  (const float *)t->a, r->g->lda, (const float *)t->b, r->g->ldb, (float)beta,
                  (float *)t->c, j->ldc);
    }
    tile_epilogue(r, t, t->c, j->ldc * (int64_t)qn_dtype_bytes(j->c_dtype));
}

/* bf16: the product lands in the thread's tile and is stored, rounded or added from there. */
static bool tile_through_scratch(const run *r, const tile *t) {
    const qni_gemm_job *j = r->job;
    size_t thread_bytes = j->scratch_bytes / (size_t)j->threads;
    char *scratch = (char *)j->scratch + (size_t)qn_parallel_thread() * thread_bytes;
    float *c = (float *)scratch;
    void *library = scratch + tile_bytes(r->g);
    if (r->g->k == 0) {
        memset(c, 0, (size_t)(t->m * t->n) * sizeof *c);
    } else if (!j->primitives) {
        product_by_panels(r->g, t->m, t->n, (const uint16_t *)t->a, (const uint16_t *)t->b, c,
                          library);
    } else if (!qni_bf16_tile(j->primitives, t->m, t->n, t->a, t->b, c, library)) {
        return false;
    }
    if (j->alpha != 1.0) {
        float alpha = (float)j->alpha;
        for (int64_t i = 0; i < t->m * t->n; i++) c[i] *= alpha;
    }
    tile_epilogue(r, t, (char *)c, t->n * (int64_t)sizeof *c);
    for (int64_t i = 0; i < t->m; i++) {
        qni_store_row(t->c, j->c_dtype, i * j->ldc, t->n, c + i * t->n, j->add);
    }
    return true;
}

static void tile_task(void *ctx, int64_t index) {
    run *r = ctx;
    tile t = tile_at(r, index);
    if (r->g->dtype != QN_BF16) {
        tile_in_place(r, &t);
    } else if (!tile_through_scratch(r, &t)) {
        atomic_store(&r->failed, true);
    }
}

static void turn_task(void *ctx, int64_t index) {
    const run *r = ctx;
    const qni_gemm *g = r->g;
    int64_t row = index * TURN_TASK, rows = g->n - row < TURN_TASK ? g->n - row : TURN_TASK;
    qni_transpose(rows, g->k, (const float *)r->job->b + row * g->ldb, g->ldb,
                  (float *)r->job->scratch + row, g->n);
}

qn_status qni_gemm_run(const qni_gemm *g, const qni_gemm_job *job) {
    qn_dtype own = g->dtype == QN_BF16 ? QN_F32 : g->dtype;
    if (job->c_dtype != own && !(g->dtype == QN_BF16 && job->c_dtype == QN_BF16)) {
        return qn_fail(QN_ERR_DTYPE, "matrix product: found %s operands and a %s result",
                       qn_dtype_name(g->dtype), qn_dtype_name(job->c_dtype));
    }
    run r = {.g = g, .job = job};
    atomic_init(&r.failed, false);
    qni_gemm turned = *g;
    qni_gemm_job with_turned = *job;
    if (g->turn_b) {
        qn_parallel_for(job->threads, blocks(g->n, TURN_TASK), turn_task, &r);
        turned.b_trans = false;
        turned.ldb = g->n;
        with_turned.b = job->scratch;
        r.g = &turned;
        r.job = &with_turned;
    }
    int64_t items = 1;
    for (int i = 0; i < g->batch_dims; i++) items *= g->batch[i];
    qn_parallel_for(job->threads, items * g->tiles_m * g->tiles_n, tile_task, &r);
    if (atomic_load(&r.failed)) {
        return qn_fail(QN_ERR_OOM,
                       "matrix product: oneDNN could not run a bf16 tile of %lld x "
                       "%lld x %lld",
                       (long long)g->tile_m, (long long)g->tile_n, (long long)g->k);
    }
    return QN_OK;
}

/* ---- matrices inside tensors ----------------------------------------------------------------- */

bool qni_rows_of(const qn_tensor *t, qni_rows *out) {
    *out = (qni_rows){.rows = 1, .cols = 1, .stride = 1};
    if (t->ndim == 0) return true;
    int last = t->ndim - 1;
    out->cols = t->shape[last];
    if (out->cols > 1 && t->stride[last] != 1) return false;
    int64_t expected = 0;
    for (int i = last - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && out->rows > 0) {
            if (expected && t->stride[i] != expected) return false;
            if (!expected) out->stride = t->stride[i];
            expected = t->stride[i] * t->shape[i];
        }
        out->rows *= t->shape[i];
    }
    if (out->rows <= 1 || out->cols == 0) out->stride = out->cols > 0 ? out->cols : 1;
    return out->stride >= out->cols;
}

qn_status qni_rows_need(const char *op, const char *operand, const qn_tensor *t, qni_rows *out) {
    if (qni_rows_of(t, out)) return QN_OK;
    char d[96];
    return qn_fail(QN_ERR_SHAPE,
                   "%s: %s %s has rows without one common stride; make it contiguous first", op,
                   operand, qn_tensor_describe(t, d, sizeof d));
}

/* ---- column sums ----------------------------------------------------------------------------- */

enum { SUM_COLUMNS = 64, SUM_ROWS = 32 };

typedef struct column_sums {
    const char *x;
    qn_dtype dtype, out_dtype;
    const qni_rows *shape;
    char *out;
    bool add;
} column_sums;

static void add_rows_f32(const column_sums *s, int64_t row, int64_t rows, int64_t col, int64_t n,
                         double *total) {
    float sum[SUM_COLUMNS] = {0}, buffer[SUM_COLUMNS];
    for (int64_t i = row; i < row + rows; i++) {
        const float *x = qn_row_load(s->x, s->dtype, i * s->shape->stride + col, n, buffer);
        for (int64_t j = 0; j < n; j++) sum[j] += x[j];
    }
    for (int64_t j = 0; j < n; j++) total[j] += (double)sum[j];
}

static void column_task(void *ctx, int64_t index) {
    const column_sums *s = ctx;
    int64_t col = index * SUM_COLUMNS;
    int64_t n = s->shape->cols - col < SUM_COLUMNS ? s->shape->cols - col : SUM_COLUMNS;
    double total[SUM_COLUMNS] = {0};
    for (int64_t i = 0; i < s->shape->rows; i += SUM_ROWS) {
        int64_t rows = s->shape->rows - i < SUM_ROWS ? s->shape->rows - i : SUM_ROWS;
        if (s->dtype != QN_F64) {
            add_rows_f32(s, i, rows, col, n, total);
            continue;
        }
        for (int64_t r = i; r < i + rows; r++) {
            const double *x = (const double *)s->x + r * s->shape->stride + col;
            for (int64_t j = 0; j < n; j++) total[j] += x[j];
        }
    }
    qn_tensor out = qn_tensor_make(s->out, s->out_dtype, 1, &s->shape->cols);
    for (int64_t j = 0; j < n; j++) {
        double before = s->add ? qn_tensor_get(&out, col + j) : 0.0;
        qn_tensor_set(&out, col + j, before + total[j]);
    }
}

void qni_column_sums(int threads, const void *x, qn_dtype dt, const qni_rows *shape, void *out,
                     qn_dtype out_dtype, bool add) {
    column_sums s = {x, dt, out_dtype, shape, out, add};
    qn_parallel_for(threads, blocks(shape->cols, SUM_COLUMNS), column_task, &s);
}
