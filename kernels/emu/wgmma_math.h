/* wgmma_math.h — the arithmetic of a warpgroup product, on operands already widened to f32.
 *
 * Thread l = 32 w + 4 g + t of the 128 holds rows 16 w + g and 16 w + g + 8 of D in pairs: register
 * j is row ... + 8 * (j / 2 % 2), column 8 * (j / 4) + 2 t + j % 2. So with B's columns in that
 * order, and each pair of A's two elements beside each other, a thread's registers are a plain
 * vector: no fragment is ever taken apart.
 */
#ifndef QE_WGMMA_MATH_H
#define QE_WGMMA_MATH_H

enum { QE_WG_ROWS = 64, QE_WG_MAX_N = 256, QE_WG_MAX_K = 32, QE_WG_THREADS = 128 };

typedef struct qe_wg_operands {
    int n, k;
    /* a[p][i], pair p = 8 w + g: column i of row 16 w + g twice, of row 16 w + g + 8 twice, and
     * this four times over */
    _Alignas(64) float a[QE_WG_ROWS / 2][QE_WG_MAX_K][16];
    /* b[t][i]: row i of B, columns as the registers of a thread t of 4 have them */
    _Alignas(64) float b[4][QE_WG_MAX_K][QE_WG_MAX_N / 2];
} qe_wg_operands;

/* D += A B, k ascending; d[l]: the n / 2 registers of thread l. Bits do not depend on the CPU. */
void qe_wg_multiply(const qe_wg_operands *x, float *const *d);

#endif
