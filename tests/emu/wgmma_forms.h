/* wgmma_forms.h — what tests/emu/wgmma_forms.cu computes: D = A B (+ D) for n = 16, one product. */
#ifndef QUERN_TESTS_WGMMA_H
#define QUERN_TESTS_WGMMA_H

#include <stdint.h>

#define WGMMA_IMAGE 16384 /* bytes of an operand's shared memory */

typedef struct wgmma_case {
    const void *a, *b;       /* shared memory of the operands, as it is to be */
    const uint32_t *r;       /* or A's registers, 4 of each thread */
    float *d;                /* 8 accumulators of each thread, in and out */
    uint64_t desc_a, desc_b; /* for operands at address 0 */
    int add;
} wgmma_case;

#ifdef __cplusplus
extern "C"
#endif
    int
    wgmma_run(int form, const wgmma_case *c);

#endif
