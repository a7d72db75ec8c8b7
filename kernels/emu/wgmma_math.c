/* wgmma_math.c — the arithmetic of a warpgroup product, as wide as the CPU allows. */
#include <string.h>

#include "kernels/emu/wgmma_math.h"

typedef float v4 __attribute__((vector_size(16)));
typedef float v16 __attribute__((vector_size(64)));

enum { ROWS_AT_ONCE = 4 };

/* Registers [j, j + 16) of the threads of pairs p .. p + 3 and place t. */
static inline __attribute__((always_inline)) void
multiply_16(const qe_wg_operands *x, float *const *d, int p, int t, int j) {
    v16 sum[ROWS_AT_ONCE];
    float *at[ROWS_AT_ONCE];
#pragma GCC unroll 4
    for (int i = 0; i < ROWS_AT_ONCE; i++) {
        at[i] = d[(p + i) / 8 * 32 + (p + i) % 8 * 4 + t] + j;
        memcpy(&sum[i], at[i], sizeof sum[i]);
    }
    for (int k = 0; k < x->k; k++) {
        v16 b;
        memcpy(&b, &x->b[t][k][j], sizeof b);
#pragma GCC unroll 4
        for (int i = 0; i < ROWS_AT_ONCE; i++) {
            v16 a;
            memcpy(&a, x->a[p + i][k], sizeof a);
            sum[i] += a * b;
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < ROWS_AT_ONCE; i++) memcpy(at[i], &sum[i], sizeof sum[i]);
}

static inline __attribute__((always_inline)) void multiply_4(const qe_wg_operands *x,
                                                             float *const *d, int p, int t, int j) {
    float *at = d[p / 8 * 32 + p % 8 * 4 + t] + j;
    v4 sum, a, b;
    memcpy(&sum, at, sizeof sum);
    for (int k = 0; k < x->k; k++) {
        memcpy(&a, x->a[p][k], sizeof a);
        memcpy(&b, &x->b[t][k][j], sizeof b);
        sum += a * b;
    }
    memcpy(at, &sum, sizeof sum);
}

static inline __attribute__((always_inline)) void multiply(const qe_wg_operands *x,
                                                           float *const *d) {
    int registers = x->n / 2, wide = registers / 16 * 16;
    for (int t = 0; t < 4; t++) {
        for (int p = 0; p < QE_WG_ROWS / 2; p += ROWS_AT_ONCE)
            for (int j = 0; j < wide; j += 16) multiply_16(x, d, p, t, j);
        for (int p = 0; p < QE_WG_ROWS / 2; p++)
            for (int j = wide; j < registers; j += 4) multiply_4(x, d, p, t, j);
    }
}

#ifdef __x86_64__
static __attribute__((target("avx512f"))) void multiply_avx512(const qe_wg_operands *x,
                                                               float *const *d) {
    multiply(x, d);
}

static __attribute__((target("avx2"))) void multiply_avx2(const qe_wg_operands *x,
                                                          float *const *d) {
    multiply(x, d);
}

void qe_wg_multiply(const qe_wg_operands *x, float *const *d) {
    if (__builtin_cpu_supports("avx512f"))
        multiply_avx512(x, d);
    else if (__builtin_cpu_supports("avx2"))
        multiply_avx2(x, d);
    else
        multiply(x, d);
}
#else
void qe_wg_multiply(const qe_wg_operands *x, float *const *d) { multiply(x, d); }
#endif
