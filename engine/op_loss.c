/* op_loss.c — cross_entropy, mse, binary_cross_entropy, accuracy and confusion.
 *
 * A loss that is the root of its tape leaves the gradient in place while it has the row in cache.
 * As a part of a larger loss, its saved gradient is multiplied by what comes in. Row losses are
 * added in row order in f64, whatever the number of threads.
 */
#include "engine/gemm.h"
#include "engine/loss_rows.h"

#include <math.h>

/* ---- one row --------------------------------------------------------------------------------- */

qn_status qni_loss_check_inputs(const qn_call *c, int64_t rows, int targets, int inv_n) {
    const qn_tensor *t = c->in[targets], *scale = c->in[inv_n];
    char d[96];
    if (t->dtype != QN_I32 || t->ndim != 1 || t->shape[0] != rows) {
        return qn_fail(QN_ERR_SHAPE, "%s: targets is %s, expected i32[%lld]", c->op->name,
                       qn_tensor_describe(t, d, sizeof d), (long long)rows);
    }
    if (qn_tensor_count(scale) != 1 || (scale->dtype != QN_F32 && scale->dtype != QN_F64)) {
        return qn_fail(QN_ERR_SHAPE, "%s: inv_n is %s, expected one f32 or f64", c->op->name,
                       qn_tensor_describe(scale, d, sizeof d));
    }
    return QN_OK;
}

qn_status qni_loss_check_targets(const qn_call *c, int slot, int64_t classes,
                                 int64_t ignore_index) {
    const qn_tensor *t = c->in[slot];
    for (int64_t i = 0; i < t->shape[0]; i++) {
        int64_t target = qn_tensor_get_int(t, i);
        if ((target < 0 || target >= classes) && target != ignore_index) {
            return qn_fail(QN_ERR_DATA,
                           "%s: target of row %lld is %lld, expected 0 to %lld or %lld",
                           c->op->name, (long long)i, (long long)target, (long long)(classes - 1),
                           (long long)ignore_index);
        }
    }
    return QN_OK;
}

static float largest(const float *z, int64_t n) {
    float m = -INFINITY;
#pragma omp simd reduction(max : m)
    for (int64_t j = 0; j < n; j++) m = z[j] > m ? z[j] : m;
    return m;
}

double qni_loss_row_f32(const float *z, int64_t n, int64_t target, double smoothing, double inv_n,
                        float *gradient) {
    float max = largest(z, n), sum = 0.0f, total = 0.0f, at_target = z[target];
    if (smoothing > 0.0) {
#pragma omp simd reduction(+ : total)
        for (int64_t j = 0; j < n; j++) total += z[j];
    }
    if (gradient) {
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++) {
            float e = qn_expf_fast(z[j] - max);
            gradient[j] = e;
            sum += e;
        }
        float factor = (float)(inv_n / (double)sum), shift = (float)(inv_n * smoothing / (double)n);
#pragma omp simd
        for (int64_t j = 0; j < n; j++) gradient[j] = gradient[j] * factor - shift;
        gradient[target] -= (float)(inv_n * (1.0 - smoothing));
    } else {
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++) sum += qn_expf_fast(z[j] - max);
    }
    return (double)max + log((double)sum) - (1.0 - smoothing) * (double)at_target -
           smoothing * (double)total / (double)n;
}

double qni_loss_slope(double z, double lse, bool is_target, int64_t n, double smoothing,
                      double inv_n) {
    return inv_n * (exp(z - lse) - (is_target ? 1.0 - smoothing : 0.0) - smoothing / (double)n);
}

int64_t qni_argmax_f32(const float *z, int64_t n) {
    float m = largest(z, n);
    for (int64_t j = 0; j < n; j++) {
        if (z[j] == m) return j;
    }
    return 0;
}

/* ---- rows of a call -------------------------------------------------------------------------- */

enum { LOSS, GRADIENT };

/* A call over rows of in[0]: scratch is a double per row, then a row of floats per thread. */
typedef struct rows_call {
    const qn_call *c;
    qni_rows in, out;
    double inv_n;
} rows_call;

static size_t rows_scratch(const qn_tensor *x, int threads) {
    return (size_t)x->shape[0] * sizeof(double) +
           (size_t)x->shape[1] * sizeof(float) * (size_t)threads;
}

static double *row_results(const qn_call *c) { return c->scratch; }

static float *row_buffer(const qn_call *c) {
    const qn_tensor *x = c->in[0];
    float *buffers = (float *)(row_results(c) + x->shape[0]);
    return buffers + qn_parallel_thread() * x->shape[1];
}

static qn_status check_matrix(const qn_call *c) {
    const qn_tensor *x = c->in[0];
    qni_rows rows;
    if (x->ndim == 2) return qni_rows_need(c->op->name, c->op->in_name[0], x, &rows);
    char d[96];
    return qn_fail(QN_ERR_SHAPE, "%s: %s is %s, expected two axes", c->op->name, c->op->in_name[0],
                   qn_tensor_describe(x, d, sizeof d));
}

static qn_status open_rows(const qn_call *c, int inv_n, rows_call *r) {
    *r = (rows_call){.c = c};
    QN_TRY(qni_rows_need(c->op->name, c->op->in_name[0], c->in[0], &r->in));
    if (c->op->n_out > GRADIENT && c->out[GRADIENT]) {
        QN_TRY(qni_rows_need(c->op->name, c->op->out_name[GRADIENT], c->out[GRADIENT], &r->out));
    }
    if (inv_n >= 0) r->inv_n = qn_tensor_get(c->in[inv_n], 0);
    return QN_OK;
}

/* Where to make the gradient of row i: its own place, or the thread's buffer if it must be rounded
 * or added. */
static float *gradient_row(const rows_call *r, int64_t i, float *buffer) {
    const qn_tensor *out = r->c->out[GRADIENT];
    if (!out) return NULL;
    if (qni_adds(r->c, GRADIENT)) return buffer;
    return qn_row_open(out->data, out->dtype, i * r->out.stride, buffer);
}

static void gradient_close(const rows_call *r, int64_t i, const float *row) {
    const qn_tensor *out = r->c->out[GRADIENT];
    if (!out || (out->dtype == QN_F32 && !qni_adds(r->c, GRADIENT))) return;
    qni_store_row(out->data, out->dtype, i * r->out.stride, r->in.cols, row,
                  qni_adds(r->c, GRADIENT));
}

static double sum_rows(const qn_call *c) {
    double sum = 0.0;
    for (int64_t i = 0; i < c->in[0]->shape[0]; i++) sum += row_results(c)[i];
    return sum;
}

/* The gradient of a loss: left in place when it is the root, otherwise scaled by what comes in. */
static qn_status loss_backward(qn_tape *t, qn_node *node) {
    qn_value *loss = node->out[LOSS], *x = node->in[0];
    if (qn_grad_is_root(t, loss)) {
        qn_node_save_grad(t, node, GRADIENT, x);
        return qn_tape_status(t);
    }
    qn_value *dy = qn_grad_of(t, loss);
    qn_value *saved = dy ? qn_node_save(t, node, GRADIENT) : NULL;
    if (!saved) return qn_tape_status(t);
    qn_value *dx = qn_mul(t, saved, qn_cast(t, dy, saved->t.dtype));
    return dx ? qn_grad_pass(t, x, dx) : qn_tape_status(t);
}

/* ---- cross_entropy --------------------------------------------------------------------------- */

enum { LOGITS, TARGETS, INV_N };

static qn_status ce_infer(qn_call *c) {
    const qn_ce_attrs *attrs = c->attrs;
    QN_TRY(qni_require_float(c, 0));
    QN_TRY(check_matrix(c));
    QN_TRY(qni_loss_check_inputs(c, c->in[LOGITS]->shape[0], TARGETS, INV_N));
    if (!(attrs->label_smoothing >= 0.0 && attrs->label_smoothing <= 1.0)) {
        return qn_fail(QN_ERR_CONFIG, "cross_entropy: label smoothing is %g, expected 0 to 1",
                       attrs->label_smoothing);
    }
    c->scratch_bytes = rows_scratch(c->in[LOGITS], c->threads);
    qni_describe(c, LOSS, c->in[INV_N]->dtype, 0, NULL);
    qni_describe_like(c, GRADIENT, c->in[LOGITS]);
    return QN_OK;
}

static double ref_row(const qn_call *c, int64_t i, double inv_n) {
    const qn_ce_attrs *attrs = c->attrs;
    const qn_tensor *z = c->in[LOGITS];
    int64_t v = z->shape[1], target = qn_tensor_get_int(c->in[TARGETS], i);
    bool ignored = target == attrs->ignore_index;
    double max = -(double)INFINITY, sum = 0.0, total = 0.0;
    for (int64_t j = 0; j < v; j++) max = fmax(max, qn_tensor_get(z, i * v + j));
    for (int64_t j = 0; j < v; j++) {
        sum += exp(qn_tensor_get(z, i * v + j) - max);
        total += qn_tensor_get(z, i * v + j);
    }
    double lse = max + log(sum);
    double loss = ignored
                      ? 0.0
                      : lse - (1.0 - attrs->label_smoothing) * qn_tensor_get(z, i * v + target) -
                            attrs->label_smoothing * total / (double)v;
    for (int64_t j = 0; c->out[GRADIENT] && j < v; j++) {
        double d = ignored ? 0.0
                           : qni_loss_slope(qn_tensor_get(z, i * v + j), lse, j == target, v,
                                            attrs->label_smoothing, inv_n);
        qni_put(c, GRADIENT, i * v + j, d);
    }
    return loss;
}

static qn_status ce_ref(const qn_call *c) {
    const qn_ce_attrs *attrs = c->attrs;
    double sum = 0.0, inv_n = qn_tensor_get(c->in[INV_N], 0);
    QN_TRY(qni_loss_check_targets(c, TARGETS, c->in[LOGITS]->shape[1], attrs->ignore_index));
    for (int64_t i = 0; i < c->in[LOGITS]->shape[0]; i++) sum += ref_row(c, i, inv_n);
    qn_tensor_set(c->out[LOSS], 0, inv_n * sum);
    return QN_OK;
}

static void ce_task(void *ctx, int64_t i) {
    const rows_call *r = ctx;
    const qn_call *c = r->c;
    const qn_ce_attrs *attrs = c->attrs;
    int64_t target = qn_tensor_get_int(c->in[TARGETS], i), n = r->in.cols;
    float *buffer = row_buffer(c), *gradient = gradient_row(r, i, buffer);
    if (target == attrs->ignore_index) {
        row_results(c)[i] = 0.0;
        for (int64_t j = 0; gradient && j < n; j++) gradient[j] = 0.0f;
    } else {
        const float *z =
            qn_row_load(c->in[LOGITS]->data, c->in[LOGITS]->dtype, i * r->in.stride, n, buffer);
        row_results(c)[i] =
            qni_loss_row_f32(z, n, target, attrs->label_smoothing, r->inv_n, gradient);
    }
    gradient_close(r, i, gradient);
}

static qn_status ce_cpu(const qn_call *c) {
    const qn_ce_attrs *attrs = c->attrs;
    rows_call r;
    QN_TRY(open_rows(c, INV_N, &r));
    QN_TRY(qni_loss_check_targets(c, TARGETS, r.in.cols, attrs->ignore_index));
    qn_parallel_for(c->threads, r.in.rows, ce_task, &r);
    qn_tensor_set(c->out[LOSS], 0, r.inv_n * sum_rows(c));
    return QN_OK;
}

static void ce_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 6.0); }

enum { ROW_DTYPES = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16) };

const qn_op qn_op_cross_entropy = {
    .name = "cross_entropy",
    .n_in = 3,
    .n_out = 2,
    .in_name = {"logits", "targets", "inv_n"},
    .out_name = {"loss", "dlogits"},
    .optional_out = 1u << GRADIENT,
    .alias = {QN_FRESH, QN_MAY_REUSE(LOGITS)},
    .can_accumulate = 1u << GRADIENT,
    .attr_bytes = sizeof(qn_ce_attrs),
    .cpu_dtypes = ROW_DTYPES,
    .infer = ce_infer,
    .run = {[QN_REF] = ce_ref, [QN_CPU] = ce_cpu},
    .backward = loss_backward,
    .cost = ce_cost,
};

qn_value *qn_cross_entropy(qn_tape *t, qn_value *logits, qn_value *targets, qn_value *inv_n,
                           const qn_ce_attrs *attrs) {
    if (!logits || !targets || !inv_n) return NULL;
    qn_value *in[3] = {logits, targets, inv_n}, *out[2] = {NULL, NULL};
    if (qn_tape_emit(t, &qn_op_cross_entropy, in, out, 0, attrs, NULL) != QN_OK) return NULL;
    return out[LOSS];
}

/* ---- mse, binary_cross_entropy: a number at a time ------------------------------------------- */

enum { PREDICTION, TARGET };

static qn_status pointwise_infer(qn_call *c) {
    const qn_tensor *y = c->in[PREDICTION], *target = c->in[TARGET], *scale = c->in[INV_N];
    const char *name = c->op->name;
    char d[96];
    QN_TRY(qni_require_float(c, 0));
    QN_TRY(check_matrix(c));
    QN_TRY(qni_require_same_shape(c, TARGET, PREDICTION));
    if (target->dtype != y->dtype && target->dtype != QN_F32) {
        return qn_fail(QN_ERR_DTYPE, "%s: target is %s, expected %s or f32", name,
                       qn_dtype_name(target->dtype), qn_dtype_name(y->dtype));
    }
    if (qn_tensor_count(scale) != 1 || (scale->dtype != QN_F32 && scale->dtype != QN_F64)) {
        return qn_fail(QN_ERR_SHAPE, "%s: inv_n is %s, expected one f32 or f64", name,
                       qn_tensor_describe(scale, d, sizeof d));
    }
    qni_describe(c, LOSS, scale->dtype, 0, NULL);
    qni_describe_like(c, GRADIENT, y);
    return QN_OK;
}

typedef struct point {
    double loss, slope;
} point;

/* Targets are few numbers a row: one body serves every dtype. */
static qn_status pointwise_run(const qn_call *c, point (*at)(double y, double target)) {
    const qn_tensor *y = c->in[PREDICTION], *target = c->in[TARGET];
    int64_t rows = y->shape[0], cols = y->shape[1];
    double sum = 0.0, inv_n = qn_tensor_get(c->in[INV_N], 0);
    for (int64_t i = 0; i < rows; i++) {
        bool padding = cols > 0 && isnan(qn_tensor_get(target, i * cols));
        for (int64_t j = i * cols; j < (i + 1) * cols; j++) {
            point p = {0.0, 0.0};
            if (!padding) p = at(qn_tensor_get(y, j), qn_tensor_get(target, j));
            sum += p.loss;
            if (c->out[GRADIENT]) qni_put(c, GRADIENT, j, inv_n * p.slope);
        }
    }
    qn_tensor_set(c->out[LOSS], 0, inv_n * sum);
    return QN_OK;
}

static point square(double y, double target) {
    double e = y - target;
    return (point){e * e, 2.0 * e};
}

static qn_status mse_run(const qn_call *c) { return pointwise_run(c, square); }
static void mse_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 3.0); }

const qn_op qn_op_mse = {
    .name = "mse",
    .n_in = 3,
    .n_out = 2,
    .in_name = {"y", "target", "inv_n"},
    .out_name = {"loss", "dy"},
    .optional_out = 1u << GRADIENT,
    .alias = {QN_FRESH, QN_MAY_REUSE(PREDICTION)},
    .can_accumulate = 1u << GRADIENT,
    .infer = pointwise_infer,
    .run = {[QN_REF] = mse_run},
    .backward = loss_backward,
    .cost = mse_cost,
};

/* log(1 + e^z) - target z, without overflow for any z. */
static point binary(double z, double target) {
    double e = exp(-fabs(z)), one = 1.0 / (1.0 + e);
    return (point){fmax(z, 0.0) - target * z + log1p(e), (z < 0 ? e * one : one) - target};
}

/* Every target is a probability; NaN in the first of a row marks padding. */
static qn_status bce_run(const qn_call *c) {
    const qn_tensor *target = c->in[TARGET];
    for (int64_t i = 0; i < qn_tensor_count(target); i++) {
        double v = qn_tensor_get(target, i);
        if (!(v < 0.0 || v > 1.0)) continue;
        return qn_fail(QN_ERR_DATA,
                       "binary_cross_entropy: target of row %lld is %g, expected 0 to 1",
                       (long long)(i / target->shape[1]), v);
    }
    return pointwise_run(c, binary);
}

static void bce_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 12.0); }

const qn_op qn_op_binary_cross_entropy = {
    .name = "binary_cross_entropy",
    .n_in = 3,
    .n_out = 2,
    .in_name = {"logits", "target", "inv_n"},
    .out_name = {"loss", "dlogits"},
    .optional_out = 1u << GRADIENT,
    .alias = {QN_FRESH, QN_MAY_REUSE(PREDICTION)},
    .can_accumulate = 1u << GRADIENT,
    .infer = pointwise_infer,
    .run = {[QN_REF] = bce_run},
    .backward = loss_backward,
    .cost = bce_cost,
};

static qn_value *pointwise(qn_tape *t, const qn_op *op, qn_value *y, qn_value *target,
                           qn_value *inv_n) {
    if (!y || !target || !inv_n) return NULL;
    qn_value *in[3] = {y, target, inv_n}, *out[2] = {NULL, NULL};
    if (qn_tape_emit(t, op, in, out, 0, NULL, NULL) != QN_OK) return NULL;
    return out[LOSS];
}

qn_value *qn_mse(qn_tape *t, qn_value *y, qn_value *target, qn_value *inv_n) {
    return pointwise(t, &qn_op_mse, y, target, inv_n);
}

qn_value *qn_binary_cross_entropy(qn_tape *t, qn_value *logits, qn_value *target, qn_value *inv_n) {
    return pointwise(t, &qn_op_binary_cross_entropy, logits, target, inv_n);
}

/* ---- accuracy, confusion: the arg max of each row -------------------------------------------- */

static qn_status predicted_infer(qn_call *c) {
    const qn_tensor *t = c->in[TARGETS], *logits = c->in[LOGITS];
    char d[96];
    QN_TRY(qni_require_float(c, 0));
    QN_TRY(check_matrix(c));
    if (t->dtype != QN_I32 || t->ndim != 1 || t->shape[0] != logits->shape[0]) {
        return qn_fail(QN_ERR_SHAPE, "%s: targets is %s, expected i32[%lld]", c->op->name,
                       qn_tensor_describe(t, d, sizeof d), (long long)logits->shape[0]);
    }
    c->scratch_bytes = rows_scratch(logits, c->threads);
    return QN_OK;
}

static int64_t ref_argmax(const qn_tensor *z, int64_t row) {
    int64_t v = z->shape[1], best = 0;
    for (int64_t j = 1; j < v; j++) {
        if (qn_tensor_get(z, row * v + j) > qn_tensor_get(z, row * v + best)) best = j;
    }
    return best;
}

static void argmax_task(void *ctx, int64_t i) {
    const rows_call *r = ctx;
    const qn_tensor *z = r->c->in[LOGITS];
    const float *row =
        qn_row_load(z->data, z->dtype, i * r->in.stride, r->in.cols, row_buffer(r->c));
    row_results(r->c)[i] = (double)qni_argmax_f32(row, r->in.cols);
}

/* The arg max of every row, in scratch; targets are checked. */
static qn_status predict_rows(const qn_call *c, bool fast) {
    const qn_ce_attrs *attrs = c->attrs;
    rows_call r;
    QN_TRY(open_rows(c, -1, &r));
    QN_TRY(qni_loss_check_targets(c, TARGETS, r.in.cols, attrs->ignore_index));
    if (fast) qn_parallel_for(c->threads, r.in.rows, argmax_task, &r);
    for (int64_t i = 0; i < r.in.rows && !fast; i++) {
        row_results(c)[i] = (double)ref_argmax(c->in[LOGITS], i);
    }
    return QN_OK;
}

static qn_status accuracy_infer(qn_call *c) {
    QN_TRY(predicted_infer(c));
    qni_describe(c, 0, QN_F32, 0, NULL);
    return QN_OK;
}

static qn_status accuracy_run(const qn_call *c, bool fast) {
    const qn_ce_attrs *attrs = c->attrs;
    int64_t right = 0;
    QN_TRY(predict_rows(c, fast));
    for (int64_t i = 0; i < c->in[LOGITS]->shape[0]; i++) {
        int64_t target = qn_tensor_get_int(c->in[TARGETS], i);
        right += target != attrs->ignore_index && (double)target == row_results(c)[i];
    }
    qn_tensor_set(c->out[0], 0, (double)right);
    return QN_OK;
}

static qn_status accuracy_ref(const qn_call *c) { return accuracy_run(c, false); }
static qn_status accuracy_cpu(const qn_call *c) { return accuracy_run(c, true); }
static void accuracy_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 1.0); }

const qn_op qn_op_accuracy = {
    .name = "accuracy",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"logits", "targets"},
    .out_name = {"count"},
    .alias = {QN_FRESH},
    .attr_bytes = sizeof(qn_ce_attrs),
    .cpu_dtypes = ROW_DTYPES,
    .infer = accuracy_infer,
    .run = {[QN_REF] = accuracy_ref, [QN_CPU] = accuracy_cpu},
    .cost = accuracy_cost,
};

static qn_status confusion_infer(qn_call *c) {
    QN_TRY(predicted_infer(c));
    int64_t v = c->in[LOGITS]->shape[1], shape[] = {v, v};
    qni_describe(c, 0, QN_F32, 2, shape);
    return QN_OK;
}

static qn_status confusion_run(const qn_call *c, bool fast) {
    const qn_ce_attrs *attrs = c->attrs;
    int64_t v = c->in[LOGITS]->shape[1];
    float *count = c->out[0]->data;
    QN_TRY(predict_rows(c, fast));
    for (int64_t i = 0; i < v * v; i++) count[i] = 0.0f;
    for (int64_t i = 0; i < c->in[LOGITS]->shape[0]; i++) {
        int64_t target = qn_tensor_get_int(c->in[TARGETS], i);
        if (target != attrs->ignore_index) count[target * v + (int64_t)row_results(c)[i]] += 1.0f;
    }
    return QN_OK;
}

static qn_status confusion_ref(const qn_call *c) { return confusion_run(c, false); }
static qn_status confusion_cpu(const qn_call *c) { return confusion_run(c, true); }

const qn_op qn_op_confusion = {
    .name = "confusion",
    .n_in = 2,
    .n_out = 1,
    .in_name = {"logits", "targets"},
    .out_name = {"counts"},
    .alias = {QN_FRESH},
    .attr_bytes = sizeof(qn_ce_attrs),
    .cpu_dtypes = ROW_DTYPES,
    .infer = confusion_infer,
    .run = {[QN_REF] = confusion_ref, [QN_CPU] = confusion_cpu},
    .cost = accuracy_cost,
};

static qn_value *predicted(qn_tape *t, const qn_op *op, qn_value *logits, qn_value *targets,
                           int64_t ignore_index) {
    if (!logits || !targets) return NULL;
    qn_value *in[2] = {logits, targets}, *out[1] = {NULL};
    qn_ce_attrs attrs = {.ignore_index = ignore_index};
    if (qn_tape_emit(t, op, in, out, 0, &attrs, NULL) != QN_OK) return NULL;
    return out[0];
}

qn_value *qn_accuracy(qn_tape *t, qn_value *logits, qn_value *targets, int64_t ignore_index) {
    return predicted(t, &qn_op_accuracy, logits, targets, ignore_index);
}

qn_value *qn_confusion(qn_tape *t, qn_value *logits, qn_value *targets, int64_t ignore_index) {
    return predicted(t, &qn_op_confusion, logits, targets, ignore_index);
}
