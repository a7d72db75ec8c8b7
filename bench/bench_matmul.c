/* bench_matmul.c — GFLOP/s of the matrix products of a GPT-2 step, through the ops that training
 * uses: bench_matmul [THREADS]. One JSON object a line; the best of REPEATS runs.
 */
#include "engine/ops.h"

#include <stdio.h>
#include <stdlib.h>

enum { REPEATS = 7 };

typedef struct shape {
    const char *name;
    int64_t rows, k, m; /* x (rows, k), w (m, k) */
} shape;

static qn_tensor filled(qn_dtype dt, int64_t rows, int64_t cols, uint64_t key) {
    qn_tensor t = qn_tensor_make(NULL, dt, QN_SHAPE(rows, cols));
    t.data = aligned_alloc(64, (qn_tensor_bytes(&t) + 63) / 64 * 64);
    for (int64_t i = 0; t.data && i < rows * cols; i++)
        qn_tensor_set(&t, i, qn_rng_uniform(key, 0, (uint64_t)i) - 0.5);
    return t;
}

/* Times one call of op: in[0], in[1] -> out; other slots are empty. */
static qn_status time_call(const qn_op *op, const qn_tensor *a, const qn_tensor *b, qn_tensor *out,
                           int threads, double *best) {
    qn_linear_attrs attrs = {.activation = QN_ACT_NONE};
    qn_tensor described = *out;
    qn_call c = {.op = op,
                 .scope = "",
                 .in = {a, b},
                 .out = {&described},
                 .attrs = &attrs,
                 .threads = threads};
    QN_TRY(op->infer(&c));
    c.out[0] = out;
    c.scratch = aligned_alloc(64, (c.scratch_bytes + 127) / 64 * 64);
    qn_status s = c.scratch ? QN_OK : QN_ERR_OOM;
    if (s == QN_OK && op->prepare) s = op->prepare(&c);
    qn_kernel *run = qn_device_kernel(QN_CPU, op, a->dtype);
    for (int i = 0; i < REPEATS && s == QN_OK; i++) {
        double start = qn_clock();
        s = run(&c);
        double seconds = qn_clock() - start;
        if (i == 0 || seconds < *best) *best = seconds;
    }
    if (op->release) op->release(&c);
    free(c.scratch);
    return s;
}

static qn_status measure(const shape *s, qn_dtype dt, int threads) {
    qn_tensor x = filled(dt, s->rows, s->k, 1), w = filled(dt, s->m, s->k, 2),
              y = filled(dt, s->rows, s->m, 3);
    qn_tensor dx = filled(dt, s->rows, s->k, 4), dw = filled(QN_F32, s->m, s->k, 5);
    double forward = 0, input = 0, weight = 0,
           flops = 2.0 * (double)s->rows * (double)s->k * (double)s->m;
    qn_status status = time_call(&qn_op_linear, &x, &w, &y, threads, &forward);
    if (status == QN_OK) status = time_call(&qn_op_linear_bwd_input, &y, &w, &dx, threads, &input);
    if (status == QN_OK)
        status = time_call(&qn_op_linear_bwd_weight, &x, &y, &dw, threads, &weight);
    if (status == QN_OK) {
        printf("{\"shape\":\"%s\",\"dtype\":\"%s\",\"threads\":%d,\"forward\":%.1f,"
               "\"dgrad\":%.1f,\"wgrad\":%.1f}\n",
               s->name, qn_dtype_name(dt), threads, flops / forward * 1e-9, flops / input * 1e-9,
               flops / weight * 1e-9);
    }
    free(x.data);
    free(w.data);
    free(y.data);
    free(dx.data);
    free(dw.data);
    return status;
}

int main(int argc, char **argv) {
    static const shape shapes[] = {
        {"attn 1024x768x768", 1024, 768, 768},    {"up 1024x768x3072", 1024, 768, 3072},
        {"down 1024x3072x768", 1024, 3072, 768},  {"char up 768x128x512", 768, 128, 512},
        {"char down 768x512x128", 768, 512, 128}, {"char out 768x128x128", 768, 128, 128},
        {"char qkv 768x128x384", 768, 128, 384}};
    static const qn_dtype dtypes[] = {QN_F32, QN_BF16};
    int threads = argc > 1 ? atoi(argv[1]) : qn_parallel_max_threads();
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            qn_status s = measure(&shapes[i], dtypes[d], threads);
            if (s != QN_OK) {
                fprintf(stderr, "bench_matmul: %s\n", qn_error_message());
                return qn_status_exit_code(s);
            }
        }
    }
    return 0;
}
