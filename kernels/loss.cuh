/* loss.cuh — cross-entropy over rows of logits, for cross_entropy and linear_cross_entropy. */
#ifndef QN_LOSS_CUH
#define QN_LOSS_CUH

#include "kernels/rows.cuh"

/* A batch of rows. Row i of logits starts i * stride elements behind the first, its gradient
 * i * gradient_stride behind that one's. */
typedef struct loss_rows {
    int64_t n, width;
    const void *logits;
    int64_t stride;
    void *gradient; /* NULL = not wanted; may be the logits */
    int64_t gradient_stride;
    bool adds; /* gradient += */
    const int32_t *targets;
    const void *inv_n;
    bool inv_n_f64;
    int64_t ignore_index;
    float smoothing;
    struct loss_record *record; /* one a row */
} loss_rows;

/* What a row leaves for the sum: its largest logit, sum of exp(z - max), plain sum and the logit of
 * its target; {0, 1, 0, 0} where it is ignored, NaN where the target is no class. */
struct __align__(16) loss_record {
    float max, sum, total, target;
};

/* Launches on s; dt is f32 or bf16, of logits and gradient alike. */
void loss_rows_launch(const loss_rows *r, qn_dtype dt, cudaStream_t s);

/* *loss = inv_n times the rows' losses, in f64 and in a fixed order; loss has inv_n's dtype. */
void loss_sum_launch(const loss_rows *r, void *loss, cudaStream_t s);

#endif
