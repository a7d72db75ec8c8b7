/* gemm.h — the tiled matrix product under linear, matmul, the losses and attention.
 *
 * C (m,n) = alpha op(A) op(B), cut into tiles by shape alone; a tile is one single-threaded library
 * call, so the bits do not depend on the thread count. f32 goes through oneDNN, bf16 too where the
 * CPU multiplies bf16 and otherwise through f32 panels; f64 and builds without oneDNN go through
 * OpenBLAS. (On tiles of 256 to 512 oneDNN's f32 product is some 10 % faster: 107 against 95
 * GFLOP/s per core, AVX-512.) A weight stored (n,k) that many rows meet is transposed once into
 * scratch: row times row runs at 87 to 108 GFLOP/s a core, row times column at 116. What follows a
 * product (bias, activation, residual, rounding, accumulation) happens on the tile while it is in
 * cache.
 */
#ifndef QN_GEMM_H
#define QN_GEMM_H

#include "engine/engine.h"

/* ---- one product ----------------------------------------------------------------------------- */

/* Fill the first group, then qni_gemm_plan decides the second. The batch axes step through A, B and
 * C by elements; no batch axes is one product. */
typedef struct qni_gemm {
    qn_dtype dtype; /* of A and B: f32, f64 or bf16; arithmetic is f64 for f64, otherwise f32 */
    int64_t m, n, k;
    bool a_trans, b_trans; /* A is stored (k,m), B is stored (n,k) */
    int64_t lda, ldb;      /* row strides as stored, in elements */
    int batch_dims;
    int64_t batch[QN_MAX_DIMS], a_step[QN_MAX_DIMS], b_step[QN_MAX_DIMS], c_step[QN_MAX_DIMS];

    int64_t tile_m, tile_n;   /* of every tile but those at the right and lower edges */
    int64_t tiles_m, tiles_n; /* per product of the batch; 0 when C is empty */
    bool turn_b;              /* B is stored (n,k) and is worth transposing into scratch first */
} qni_gemm;

void qni_gemm_plan(qni_gemm *g);

/* Scratch bytes the product needs. Fails when a size does not fit the libraries' 32 bits. */
qn_status qni_gemm_scratch(const qni_gemm *g, int threads, size_t *bytes) QN_CHECKED;

/* What a product needs beside its operands: oneDNN's primitives, made by prepare. NULL when the
 * library has no part in it; legal to pass on. */
typedef struct qni_bf16 qni_bf16;
qn_status qni_gemm_prepare(const qni_gemm *g, int threads, qni_bf16 **out) QN_CHECKED;
void qni_gemm_release(qni_bf16 *primitives); /* NULL is legal */

/* Called on each finished row segment of C before it is stored: columns [col, col + count) of `row`
 * in batch item `item`, as float (double for f64), to change in place. */
typedef void qni_gemm_epilogue(void *ctx, int64_t item, int64_t row, int64_t col, int64_t count,
                               void *values);

typedef struct qni_gemm_job {
    const void *a, *b;
    void *c;
    qn_dtype c_dtype; /* that of the arithmetic, or bf16 from bf16 */
    int64_t ldc;      /* row stride of C, whose columns are adjacent */
    double alpha;
    bool add; /* C += the product (after the epilogue) */
    qni_gemm_epilogue *epilogue;
    void *ctx;
    int threads;
    void *scratch;
    size_t scratch_bytes; /* as told by qni_gemm_scratch, or as told for a larger product */
    qni_bf16 *primitives;
} qni_gemm_job;

qn_status qni_gemm_run(const qni_gemm *g, const qni_gemm_job *job) QN_CHECKED;

/* A small product inside a task of an op that tiles by itself: C = alpha op(A) op(B) + beta C. */
void qni_sgemm(bool a_trans, bool b_trans, int64_t m, int64_t n, int64_t k, float alpha,
               const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
               int64_t ldc);

/* b (cols, rows) = a (rows, cols) transposed. */
void qni_transpose(int64_t rows, int64_t cols, const float *a, int64_t lda, float *b, int64_t ldb);

/* ---- gemm_onednn.c --------------------------------------------------------------------------- */

/* On the calling thread; false = not in this build, or refused: nothing was written. */
bool qni_onednn_sgemm(bool a_trans, bool b_trans, int64_t m, int64_t n, int64_t k, float alpha,
                      const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                      float *c, int64_t ldc);
bool qni_bf16_available(void); /* this build and this CPU multiply bf16 */
qn_status qni_bf16_scratch(const qni_gemm *g, size_t *bytes) QN_CHECKED;
qn_status qni_bf16_create(const qni_gemm *g, int threads, qni_bf16 **out) QN_CHECKED;
void qni_bf16_free(qni_bf16 *p);
/* c (rows of width n) = op(a) op(b) for a tile of one of the shapes of the plan. False = failed. */
bool qni_bf16_tile(const qni_bf16 *p, int64_t m, int64_t n, const void *a, const void *b, float *c,
                   void *scratch);

/* ---- matrices inside tensors ----------------------------------------------------------------- */

/* t (..., cols) seen as rows x cols with adjacent columns and one row stride. A scalar is 1 x 1. */
typedef struct qni_rows {
    int64_t rows, cols, stride;
} qni_rows;

/* False if no single row stride describes t. */
bool qni_rows_of(const qn_tensor *t, qni_rows *out);
/* The same, as an error that names the op and the operand and asks for qn_contiguous. */
qn_status qni_rows_need(const char *op, const char *operand, const qn_tensor *t,
                        qni_rows *out) QN_CHECKED;

/* Element i of `data`, for REF bodies: by storage offset, where qn_tensor_get counts elements. */
static inline double qni_element(const void *data, qn_dtype dt, int64_t i) {
    switch (dt) {
    case QN_F32: return (double)((const float *)data)[i];
    case QN_F64: return ((const double *)data)[i];
    case QN_BF16: return (double)qn_bf16_to_f32(((const uint16_t *)data)[i]);
    default: return (double)qn_f16_to_f32(((const uint16_t *)data)[i]);
    }
}

/* out[j] = (or +=) the sum over rows of x (rows x cols, f32, f64 or bf16), j < cols. Rows are added
 * in blocks of 32 and the blocks in order, in f64: the same at any thread count. */
void qni_column_sums(int threads, const void *x, qn_dtype dt, const qni_rows *shape, void *out,
                     qn_dtype out_dtype, bool add);

#endif
