/* loss_rows.h — one row of cross-entropy, shared by cross_entropy and linear_cross_entropy. */
#ifndef QN_LOSS_ROWS_H
#define QN_LOSS_ROWS_H

#include "engine/op_shared.h"

/* Targets (N) i32 and inv_n, one f32 or f64, beside an op's in[slot] slots. */
qn_status qni_loss_check_inputs(const qn_call *c, int64_t rows, int targets, int inv_n) QN_CHECKED;
/* Every target is in [0, classes) or ignore_index; otherwise an error naming row and value. */
qn_status qni_loss_check_targets(const qn_call *c, int slot, int64_t classes,
                                 int64_t ignore_index) QN_CHECKED;

/* With e the smoothing: returns lse(z) - (1-e) z[target] - e mean(z) and, if `gradient` is not
 * NULL, fills it with inv_n (softmax(z) - (1-e) onehot(target) - e/n). gradient may be z. */
double qni_loss_row_f32(const float *z, int64_t n, int64_t target, double smoothing, double inv_n,
                        float *gradient);

/* The same from a log-sum-exp known already, one element at a time, in f64. */
double qni_loss_slope(double z, double lse, bool is_target, int64_t n, double smoothing,
                      double inv_n);

/* Index of the largest element, the first of equals. */
int64_t qni_argmax_f32(const float *z, int64_t n);

#endif
