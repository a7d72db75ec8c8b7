/* cblas.h — the part of CBLAS that the engine's CPU products call. See cblas.c. */
#ifndef QN_PLAIN_CBLAS_H
#define QN_PLAIN_CBLAS_H

typedef enum CBLAS_ORDER { CblasRowMajor = 101, CblasColMajor = 102 } CBLAS_ORDER;
typedef enum CBLAS_TRANSPOSE { CblasNoTrans = 111, CblasTrans = 112 } CBLAS_TRANSPOSE;

void cblas_sgemm(CBLAS_ORDER order, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k,
                 float alpha, const float *a, int lda, const float *b, int ldb, float beta,
                 float *c, int ldc);
void cblas_dgemm(CBLAS_ORDER order, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k,
                 double alpha, const double *a, int lda, const double *b, int ldb, double beta,
                 double *c, int ldc);
void cblas_somatcopy(CBLAS_ORDER order, CBLAS_TRANSPOSE trans, int rows, int cols, float alpha,
                     const float *a, int lda, float *b, int ldb);
void openblas_set_num_threads(int n);

#endif
