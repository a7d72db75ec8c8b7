/* tensor_copy_forms.h — what tests/emu/tensor_copy_forms.cu does: one box of a tensor. */
#ifndef QUERN_TESTS_TENSOR_COPY_H
#define QUERN_TESTS_TENSOR_COPY_H

#include <stdint.h>

#define TENSOR_TILE 16384 /* bytes of shared memory that a box may have */

typedef struct tensor_case {
    int rank;
    int at[5];
    int op;         /* -1 a load; else a store by the number of a qe_reduce_op */
    uint32_t bytes; /* of the box */
    void *shared;   /* TENSOR_TILE bytes: what a load left, what a store reads */
} tensor_case;

/* map: 128 bytes of a CUtensorMap. */
#ifdef __cplusplus
extern "C"
#endif
    int
    tensor_copy_run(const void *map, const tensor_case *c);

#endif
