/* gemm_plain.c — the product without a library: f64, and builds without oneDNN.
 *
 * Panels of both operands are widened to f64 and packed, so that one block of SIDE_M x SIDE_N sums in
 * registers serves every dtype and layout. Sums run over k in order: the bits depend on shape alone.
 */
#include "engine/gemm.h"

enum { SIDE_M = 4, SIDE_N = 16, DEPTH = 256 };

/* panel[p][r] = op(x)[r0 + r][p0 + p] for p < depth, r < count; zero for count <= r < side. */
static void pack(qn_dtype dt, const void *x, int64_t ld, bool by_rows, int64_t r0, int64_t count,
                 int64_t side, int64_t p0, int64_t depth, double *panel) {
    for (int64_t p = 0; p < depth; p++) {
        for (int64_t r = 0; r < side; r++) {
            int64_t at = by_rows ? (r0 + r) * ld + p0 + p : (p0 + p) * ld + r0 + r;
            panel[p * side + r] = r < count ? qni_element(x, dt, at) : 0.0;
        }
    }
}

/* sum[i][j] = the product of the packed panels. */
static void multiply(int64_t depth, const double *a, const double *b, double sum[SIDE_M][SIDE_N]) {
    for (int i = 0; i < SIDE_M; i++) {
        for (int j = 0; j < SIDE_N; j++) sum[i][j] = 0.0;
    }
    for (int64_t p = 0; p < depth; p++) {
        for (int i = 0; i < SIDE_M; i++) {
            double factor = a[p * SIDE_M + i];
#pragma omp simd
            for (int j = 0; j < SIDE_N; j++) sum[i][j] += factor * b[p * SIDE_N + j];
        }
    }
}

static void put(qn_dtype dt, void *c, int64_t at, double v, double beta) {
    if (dt == QN_F64) {
        double *out = (double *)c + at;
        *out = beta == 0.0 ? v : beta * *out + v;
    } else {
        float *out = (float *)c + at;
        *out = (float)(beta == 0.0 ? v : beta * (double)*out + v);
    }
}

void qni_plain_product(qn_dtype dt, bool a_trans, bool b_trans, int64_t m, int64_t n, int64_t k,
                       double alpha, const void *a, int64_t lda, const void *b, int64_t ldb,
                       double beta, void *c, int64_t ldc) {
    double panel_a[DEPTH * SIDE_M], panel_b[DEPTH * SIDE_N], sum[SIDE_M][SIDE_N];
    for (int64_t j0 = 0; j0 < n; j0 += SIDE_N) {
        int64_t cols = n - j0 < SIDE_N ? n - j0 : SIDE_N, p0 = 0;
        do { /* once even for k = 0: C is still to be written */
            int64_t depth = k - p0 < DEPTH ? k - p0 : DEPTH;
            double keep = p0 > 0 ? 1.0 : beta;
            pack(dt, b, ldb, b_trans, j0, cols, SIDE_N, p0, depth, panel_b);
            for (int64_t i0 = 0; i0 < m; i0 += SIDE_M) {
                int64_t rows = m - i0 < SIDE_M ? m - i0 : SIDE_M;
                pack(dt, a, lda, !a_trans, i0, rows, SIDE_M, p0, depth, panel_a);
                multiply(depth, panel_a, panel_b, sum);
                for (int64_t i = 0; i < rows; i++) {
                    for (int64_t j = 0; j < cols; j++) {
                        put(dt, c, (i0 + i) * ldc + j0 + j, alpha * sum[i][j], keep);
                    }
                }
            }
            p0 += DEPTH;
        } while (p0 < k);
    }
}
