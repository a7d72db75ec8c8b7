/* matmul.h — one matrix product on a CUDA device, and the column sums that go with it.
 *
 * The vocabulary of the hand-written products: every op that multiplies matrices (linear and its
 * gradients, matmul, linear_cross_entropy) describes its products with qn_product. Needs no CUDA
 * header; compiles as C11 and as C++.
 */
#ifndef QN_MATMUL_H
#define QN_MATMUL_H

#include "kernels/attrs.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* z = alpha op(A) op(B) + bias; pre = z; C = act(z) + residual, or C += that; per batch item.
 *
 * op(A) is (m,k), op(B) is (k,n), C is (m,n); rows lie `ld` elements apart as stored. Sums are f32
 * (FMA for f32, tensor cores for bf16), in an order that the shape alone decides; everything after
 * the sum is f32 on the unrounded sum, and each stored value is rounded once.
 * Any size, 0 included (k = 0: the sum is 0).
 * C and pre overlap nothing else, except that residual may be C. Pointers need only the
 * alignment of their elements; fast where A and B start on 16 bytes and their ld and steps are
 * multiples of 16 bytes (who owns the storage pads ld, never the shape). Bytes: told in the
 * kernels' files. Fill by name: what is left zero is absent, except alpha. */
typedef struct qn_product {
    int64_t m, n, k;
    qn_dtype dtype;        /* of a and b: f32 or bf16 */
    qn_dtype c_dtype;      /* of c: f32, or bf16 where a and b are */
    bool a_trans, b_trans; /* A is stored (k,m); B is stored (n,k), as weights are */
    const void *a, *b;
    void *c;
    int64_t lda, ldb, ldc;
    float alpha;
    bool accumulate;

    int batch_dims; /* 0: one product; axes step through A, B and C by elements */
    int64_t batch[QN_MAX_DIMS], a_step[QN_MAX_DIMS], b_step[QN_MAX_DIMS], c_step[QN_MAX_DIMS];

    /* The epilogue; bias, residual and pre have dtype `dtype`. Only without batch axes. */
    const void *bias; /* n values */
    int64_t bias_step;
    qn_activation activation;
    const void *residual;
    int64_t ldr;
    void *pre;
    int64_t ldp;

    void *scratch; /* qn_product_scratch bytes, on a multiple of 256 */
} qn_product;

/* Bytes of scratch, from sizes and dtypes alone; 0 for most. */
size_t qn_product_scratch(const qn_product *p);

/* Enqueues the product. Errors: dtype, or what the driver says of a launch. */
qn_status qn_cuda_product(const qn_product *p, void *stream) QN_CHECKED;

/* The product that a call of linear, its gradients or matmul consists of, but for the column sums
 * of a bias gradient. QN_ERR_UNSUPPORTED: of another op. */
qn_status qn_cuda_product_of(const qn_call *c, qn_product *p) QN_CHECKED;

/* sums[j] = (or +=) the sum over rows of x (rows x cols, rows `ld` apart): bias gradients. f32
 * partial sums over fixed stretches of rows, added in order. Reads x once. */
typedef struct qn_column_sums {
    int64_t rows, cols, ld;
    qn_dtype dtype;      /* of x: f32 or bf16 */
    qn_dtype sums_dtype; /* f32 or bf16 */
    const void *x;
    void *sums; /* cols values, adjacent */
    bool accumulate;
    void *scratch; /* qn_column_sums_scratch bytes, on a multiple of 256 */
} qn_column_sums;

size_t qn_column_sums_scratch(const qn_column_sums *s);
qn_status qn_cuda_column_sums(const qn_column_sums *s, void *stream) QN_CHECKED;

#ifdef __cplusplus
}
#endif
#endif
