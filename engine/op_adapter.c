/* op_adapter.c — the low-rank part of linear_adapted, the row norm that DoRA divides by, and what
 * records an adapted product.
 *
 * y[:, first + m] += u B[m]^T for up to three parts, whose rows need not cover y: so a view over
 * q|k|v with adapters on q and v is one product. u = s x A^T (rank wide) is a product of its own:
 * it is needed again for the gradient of B, and dropout or a scale of its own per part cost nothing
 * here. The CPU body turns B once per call and adds it to a row segment while that is in cache.
 */
#include "engine/op_linear.h"
#include "engine/tape_internal.h"

#include <math.h>

enum { PLAIN_INPUTS = 4, PIECE = 64 }; /* inputs of linear; columns of u converted at once */

static int slots_of(const qn_call *c) { /* where adapters may be */
    return (c->op->n_in - PLAIN_INPUTS) / 2;
}

static const qn_tensor *u_of(const qn_call *c, int k) { return c->in[PLAIN_INPUTS + 2 * k]; }
static const qn_tensor *b_of(const qn_call *c, int k) { return c->in[PLAIN_INPUTS + 2 * k + 1]; }

static int64_t first_of(const qn_call *c, int k) {
    return ((const qn_linear_adapted_attrs *)c->attrs)->first[k];
}

/* ---- shapes ---------------------------------------------------------------------------------- */

qn_status qni_adapters_infer(const qn_call *c) {
    const qn_tensor *x = c->in[0], *w = c->in[1];
    for (int k = 0; k < slots_of(c); k++) {
        const qn_tensor *u = u_of(c, k), *b = b_of(c, k);
        if (!u && !b) continue;
        if (!u || !b) {
            return qn_fail(QN_ERR_INTERNAL, "linear_adapted: adapter %d has only one half", k);
        }
        bool same = b->ndim == 2 && u->ndim == x->ndim && u->shape[u->ndim - 1] == b->shape[1];
        for (int i = 0; same && i < x->ndim - 1; i++) same = u->shape[i] == x->shape[i];
        if (!same) {
            return qni_fail_pair(c->op, "u", u, "B", b, "u [...,r] with x's axes, and B [M,r]");
        }
        int64_t first = first_of(c, k);
        if (first < 0 || first > w->shape[0] - b->shape[0]) {
            return qni_fail_pair(c->op, "w", w, "B", b, "an adapter's rows inside those of w");
        }
        qni_rows rows;
        QN_TRY(qni_rows_need("linear_adapted", "u", u, &rows));
        QN_TRY(qni_rows_need("linear_adapted", "B", b, &rows));
    }
    return QN_OK;
}

static size_t packed_bytes(const qn_tensor *b) {
    size_t bytes =
        (size_t)qn_tensor_count(b) * (b->dtype == QN_F64 ? sizeof(double) : sizeof(float));
    return (bytes + 63) / 64 * 64;
}

size_t qni_adapters_scratch(const qn_call *c) {
    size_t bytes = 0;
    for (int k = 0; k < slots_of(c); k++) bytes += b_of(c, k) ? packed_bytes(b_of(c, k)) : 0;
    return bytes;
}

/* ---- REF ------------------------------------------------------------------------------------- */

double qni_adapters_at(const qn_call *c, int64_t row, int64_t col) {
    double sum = 0.0;
    for (int k = 0; k < slots_of(c); k++) {
        const qn_tensor *u = u_of(c, k), *b = b_of(c, k);
        if (!u || col < first_of(c, k) || col >= first_of(c, k) + b->shape[0]) continue;
        int64_t rank = b->shape[1], at = (col - first_of(c, k)) * rank;
        for (int64_t i = 0; i < rank; i++) {
            sum += qn_tensor_get(u, row * rank + i) * qn_tensor_get(b, at + i);
        }
    }
    return sum;
}

/* ---- CPU ------------------------------------------------------------------------------------- */

void qni_adapters_pack(const qn_call *c, qni_adapters *out) {
    char *at = c->scratch;
    out->n = 0;
    for (int k = 0; k < slots_of(c); k++) {
        const qn_tensor *b = b_of(c, k);
        qni_rows u, rows;
        if (!b || !qni_rows_of(u_of(c, k), &u) || !qni_rows_of(b, &rows)) continue;
        out->part[out->n++] = (qni_adapter_part){.u = u_of(c, k),
                                                 .first = first_of(c, k),
                                                 .rows = rows.rows,
                                                 .rank = rows.cols,
                                                 .stride = u.stride,
                                                 .turned = at};
        for (int64_t i = 0; i < rows.rows; i++) {
            for (int64_t j = 0; j < rows.cols; j++) {
                double v = qni_element(b->data, b->dtype, i * rows.stride + j);
                if (b->dtype == QN_F64) {
                    ((double *)(void *)at)[j * rows.rows + i] = v;
                } else {
                    ((float *)(void *)at)[j * rows.rows + i] = (float)v;
                }
            }
        }
        at += packed_bytes(b);
    }
}

/* The part's columns that lie in [col, col + n): *from in its rows, *to in z; their number. */
static int64_t overlap(const qni_adapter_part *p, int64_t col, int64_t n, int64_t *from,
                       int64_t *to) {
    int64_t low = col > p->first ? col : p->first;
    int64_t high = col + n < p->first + p->rows ? col + n : p->first + p->rows;
    *from = low - p->first;
    *to = low - col;
    return high - low;
}

static void add_part_f32(const qni_adapter_part *p, int64_t row, int64_t from, int64_t n,
                         float *z) {
    float buffer[PIECE];
    for (int64_t i = 0; i < p->rank; i += PIECE) {
        int64_t count = p->rank - i < PIECE ? p->rank - i : PIECE, k = 0;
        const float *u = qn_row_load(p->u->data, p->u->dtype, row * p->stride + i, count, buffer);
        const float *b = (const float *)p->turned + i * p->rows + from;
        for (; k + 4 <= count; k += 4, b += 4 * p->rows) {
            const float *b1 = b + p->rows, *b2 = b1 + p->rows, *b3 = b2 + p->rows;
            float u0 = u[k], u1 = u[k + 1], u2 = u[k + 2], u3 = u[k + 3];
#pragma omp simd
            for (int64_t j = 0; j < n; j++) {
                z[j] += u0 * b[j] + u1 * b1[j] + u2 * b2[j] + u3 * b3[j];
            }
        }
        for (; k < count; k++, b += p->rows) {
            for (int64_t j = 0; j < n; j++) z[j] += u[k] * b[j];
        }
    }
}

void qni_adapters_add_f32(const qni_adapters *a, int64_t row, int64_t col, int64_t n, float *z) {
    for (int k = 0; k < a->n; k++) {
        int64_t from, to, count = overlap(&a->part[k], col, n, &from, &to);
        if (count > 0) add_part_f32(&a->part[k], row, from, count, z + to);
    }
}

void qni_adapters_add_f64(const qni_adapters *a, int64_t row, int64_t col, int64_t n, double *z) {
    for (int k = 0; k < a->n; k++) {
        const qni_adapter_part *p = &a->part[k];
        int64_t from, to, count = overlap(p, col, n, &from, &to);
        const double *u = (const double *)p->u->data + row * p->stride;
        for (int64_t i = 0; count > 0 && i < p->rank; i++) {
            const double *b = (const double *)p->turned + i * p->rows + from;
            for (int64_t j = 0; j < count; j++) z[to + j] += u[i] * b[j];
        }
    }
}

/* ---- gradient and cost ----------------------------------------------------------------------- */

qn_status qni_adapters_backward(qn_tape *t, qn_node *node, qn_value *dpre) {
    for (int k = 0; k < slots_of(&node->call); k++) {
        qn_value *u = node->in[PLAIN_INPUTS + 2 * k], *b = node->in[PLAIN_INPUTS + 2 * k + 1];
        if (!u) continue;
        qn_value *part =
            qn_slice(t, dpre, dpre->t.ndim - 1, first_of(&node->call, k), b->t.shape[0]);
        if (!part) return qn_tape_status(t);
        QN_TRY(qni_linear_grads(t, u, b, NULL, part));
    }
    return QN_OK;
}

void qni_adapters_cost(const qn_call *c, qn_cost *cost) {
    for (int k = 0; k < slots_of(c); k++) {
        if (!b_of(c, k)) continue;
        cost->flops += 2.0 * (double)qn_tensor_count(u_of(c, k)) * (double)b_of(c, k)->shape[0];
    }
}

/* ---- the norm of adapted rows ---------------------------------------------------------------- */

enum { NORM_W, NORM_P, NORM_G, NORM_B };

static qn_status norm_infer(qn_call *c) {
    const qn_tensor *w = c->in[NORM_W], *p = c->in[NORM_P], *g = c->in[NORM_G], *b = c->in[NORM_B];
    QN_TRY(qni_require_float(c, ~0u));
    bool good = w->ndim == 2 && b->ndim == 2 && p->ndim == 2 && g->ndim == 2 &&
                b->shape[0] == w->shape[0] && qn_tensor_same_shape(p, b) &&
                g->shape[0] == b->shape[1] && g->shape[1] == b->shape[1];
    if (!good) {
        return qni_fail_pair(c->op, "w", w, "b", b, "w [M,K], p and b [M,r], g [r,r]");
    }
    qni_rows rows;
    for (int k = NORM_W; k <= NORM_B; k++) {
        QN_TRY(qni_rows_need("adapted_norm", c->op->in_name[k], c->in[k], &rows));
    }
    qni_describe(c, 0, w->dtype, QN_SHAPE(w->shape[0]));
    return QN_OK;
}

/* 2 s p·b + s² b G b of one row, in f64. */
static double low_rank_square(const qn_call *c, int64_t row) {
    const qn_tensor *p = c->in[NORM_P], *g = c->in[NORM_G], *b = c->in[NORM_B];
    double s = ((const qn_adapted_norm_attrs *)c->attrs)->scale, cross = 0.0, square = 0.0;
    int64_t rank = b->shape[1];
    for (int64_t i = 0; i < rank; i++) {
        double bi = qni_element(b->data, b->dtype, row * b->stride[0] + i), sum = 0.0;
        cross += bi * qni_element(p->data, p->dtype, row * p->stride[0] + i);
        for (int64_t j = 0; j < rank; j++) {
            sum += qni_element(g->data, g->dtype, i * g->stride[0] + j) *
                   qni_element(b->data, b->dtype, row * b->stride[0] + j);
        }
        square += bi * sum;
    }
    return 2.0 * s * cross + s * s * square;
}

static void put_norm(const qn_call *c, int64_t row, double square) {
    qn_tensor_set(c->out[0], row, sqrt(fmax(square + low_rank_square(c, row), 0.0)));
}

static qn_status norm_ref(const qn_call *c) {
    const qn_tensor *w = c->in[NORM_W];
    for (int64_t row = 0; row < w->shape[0]; row++) {
        double sum = 0.0;
        for (int64_t k = 0; k < w->shape[1]; k++) {
            double v = qni_element(w->data, w->dtype, row * w->stride[0] + k);
            sum += v * v;
        }
        put_norm(c, row, sum);
    }
    return QN_OK;
}

static void norm_row(void *ctx, int64_t row) {
    const qn_call *c = ctx;
    const qn_tensor *w = c->in[NORM_W];
    float buffer[QNI_SPAN];
    double sum = 0.0;
    for (int64_t k = 0; k < w->shape[1]; k += QNI_SPAN) {
        int64_t n = w->shape[1] - k < QNI_SPAN ? w->shape[1] - k : QNI_SPAN;
        const float *x = qn_row_load(w->data, w->dtype, row * w->stride[0] + k, n, buffer);
        double part = 0.0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = 0; i < n; i++) part += (double)x[i] * (double)x[i];
        sum += part;
    }
    put_norm(c, row, sum);
}

static qn_status norm_cpu(const qn_call *c) {
    qn_parallel_for(c->threads, c->in[NORM_W]->shape[0], norm_row, (void *)c);
    return QN_OK;
}

static void norm_cost(const qn_call *c, qn_cost *cost) { qni_cost(c, cost, 2.0); }

const qn_op qn_op_adapted_norm = {
    .name = "adapted_norm",
    .n_in = 4,
    .n_out = 1,
    .in_name = {"w", "p", "g", "b"},
    .out_name = {"norm"},
    .alias = {QN_FRESH},
    .attr_bytes = sizeof(qn_adapted_norm_attrs),
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_BF16),
    .infer = norm_infer,
    .run = {[QN_REF] = norm_ref, [QN_CPU] = norm_cpu},
    .cost = norm_cost,
};

qn_value *qn_adapted_norm(qn_tape *t, qn_value *w, qn_value *a, qn_value *b, double scale) {
    if (!w || !a || !b) return NULL;
    qn_tape_no_grad_push(t);
    qn_value *in[] = {w, qn_linear(t, w, a, NULL, QN_ACT_NONE, NULL),
                      qn_linear(t, a, a, NULL, QN_ACT_NONE, NULL), b};
    qn_value *norm = NULL;
    qn_adapted_norm_attrs attrs = {scale};
    qn_status s =
        in[1] && in[2] ? qn_tape_emit(t, &qn_op_adapted_norm, in, &norm, 0, &attrs, NULL) : QN_OK;
    qn_tape_no_grad_pop(t);
    return s == QN_OK ? norm : NULL;
}

/* ---- recording an adapted product ------------------------------------------------------------ */

bool qn_linear_adapted_fused(const qn_tape *t, qn_dtype dt) {
    return qn_device_kernel(qn_tape_get_options(t)->device, &qn_op_linear_adapted, dt) != NULL;
}

qn_value *qn_linear_adapted(qn_tape *t, qn_value *x, qn_value *w, qn_value *b, qn_activation act,
                            qn_value *residual, int n, const qn_adapted_part *part) {
    if (!x || !w) return NULL;
    qn_value *in[PLAIN_INPUTS + 2 * QN_ADAPTER_PARTS] = {x, w, b, residual}, *out[2] = {NULL};
    qn_linear_adapted_attrs attrs = {.linear = {act}};
    for (int k = 0; k < n; k++) {
        if (!part[k].u || !part[k].b) return NULL;
        in[PLAIN_INPUTS + 2 * k] = part[k].u;
        in[PLAIN_INPUTS + 2 * k + 1] = part[k].b;
        attrs.first[k] = part[k].first;
    }
    if (qn_tape_emit(t, &qn_op_linear_adapted, in, out, 0, &attrs, NULL) != QN_OK) return NULL;
    return out[0];
}
