/* cblas.c — products for the CPU side of quern_gpu, in plain loops.
 *
 * On a GPU machine the CPU only checks small cases, and a static OpenBLAS would be 58 MB of the
 * 64 MB that may travel there. Row-major order only, which is all the engine asks for.
 */
#include "bench/gpu/plain/cblas.h"

#include <stddef.h>

static size_t at(CBLAS_TRANSPOSE t, int row, int col, int ld) {
    return t == CblasTrans ? (size_t)col * (size_t)ld + (size_t)row
                           : (size_t)row * (size_t)ld + (size_t)col;
}

/* Both as the engine reads BLAS: beta = 0 does not read c. */
void cblas_sgemm(CBLAS_ORDER order, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k,
                 float alpha, const float *a, int lda, const float *b, int ldb, float beta,
                 float *c, int ldc) {
    (void)order;
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            float sum = 0.0f, *to = &c[at(CblasNoTrans, i, j, ldc)];
            for (int p = 0; p < k; p++) sum += a[at(ta, i, p, lda)] * b[at(tb, p, j, ldb)];
            *to = alpha * sum + (beta == 0.0f ? 0.0f : beta * *to);
        }
    }
}

void cblas_dgemm(CBLAS_ORDER order, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k,
                 double alpha, const double *a, int lda, const double *b, int ldb, double beta,
                 double *c, int ldc) {
    (void)order;
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            double sum = 0.0, *to = &c[at(CblasNoTrans, i, j, ldc)];
            for (int p = 0; p < k; p++) sum += a[at(ta, i, p, lda)] * b[at(tb, p, j, ldb)];
            *to = alpha * sum + (beta == 0.0 ? 0.0 : beta * *to);
        }
    }
}

void cblas_somatcopy(CBLAS_ORDER order, CBLAS_TRANSPOSE trans, int rows, int cols, float alpha,
                     const float *a, int lda, float *b, int ldb) {
    (void)order;
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < cols; j++) {
            float v = alpha * a[at(CblasNoTrans, i, j, lda)];
            b[trans == CblasTrans ? at(CblasNoTrans, j, i, ldb) : at(CblasNoTrans, i, j, ldb)] = v;
        }
    }
}

void openblas_set_num_threads(int n) { (void)n; }
