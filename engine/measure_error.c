/* measure_error.c — is what was timed right: one call's outputs against REF in f64. */
#include "engine/measure_internal.h"

#include <math.h>
#include <string.h>

qn_status qni_bench_save(qn_device d, const qni_bench_call *b, qni_bench_saved *out) {
    for (int i = 0; i < b->call.op->n_in; i++) {
        if (!b->call.in[i]) continue;
        size_t bytes = qn_tensor_bytes(&b->in[i]);
        out->in[i] = qn_alloc(bytes + 1, "inputs before the call");
        if (!out->in[i]) return QN_ERR_OOM;
        QN_TRY(qn_device_copy(d, out->in[i], b->in[i].data, bytes));
    }
    return QN_OK;
}

void qni_bench_saved_free(qni_bench_saved *s) {
    for (int i = 0; i < QN_MAX_IN; i++) qn_free(s->in[i]);
}

/* Storage for a tensor of the reference run; with `from`, its values. */
static qn_status widen(qn_tensor *t, const qn_tensor *from) {
    t->data = qn_alloc(qn_tensor_bytes(t) + 1, "the reference's operand");
    if (!t->data) return QN_ERR_OOM;
    int64_t n = from ? qn_tensor_count(t) : 0;
    for (int64_t i = 0; i < n; i++) {
        if (qn_dtype_is_float(t->dtype)) qn_tensor_set(t, i, qn_tensor_get(from, i));
    }
    if (from && !qn_dtype_is_float(t->dtype)) memcpy(t->data, from->data, qn_tensor_bytes(t));
    return QN_OK;
}

static qn_status run_reference(const qni_bench_call *b, const qni_bench_saved *before,
                               qni_bench_call *wide) {
    const qn_op *op = b->call.op;
    for (int i = 0; i < op->n_in; i++) {
        if (!wide->call.in[i]) continue;
        qn_tensor narrow = b->in[i];
        narrow.data = before->in[i];
        QN_TRY(widen(&wide->in[i], &narrow));
    }
    for (int i = 0; i < op->n_out; i++) {
        if (wide->call.out[i] == &wide->out[i]) QN_TRY(widen(&wide->out[i], NULL));
    }
    wide->call.scratch = qn_alloc(wide->call.scratch_bytes + 1, "the reference's scratch");
    if (!wide->call.scratch) return QN_ERR_OOM;
    if (op->prepare) QN_TRY(op->prepare(&wide->call));
    qn_status s = op->run[QN_REF](&wide->call);
    if (op->release) op->release(&wide->call);
    return s;
}

/* *worst becomes this output's relative error if that is larger, or not a number. */
static qn_status compare(qn_device d, const qn_tensor *got, const qn_tensor *want, double *worst) {
    double difference = 0.0, size = 0.0;
    qn_tensor host = *got;
    host.data = qn_alloc(qn_tensor_bytes(got) + 1, "an output");
    if (!host.data) return QN_ERR_OOM;
    qn_status s = qn_device_copy(d, host.data, got->data, qn_tensor_bytes(got));
    int64_t n = s == QN_OK ? qn_tensor_count(want) : 0;
    for (int64_t i = 0; i < n; i++) {
        double w = qn_tensor_get(want, i), e = qn_tensor_get(&host, i) - w;
        difference += e * e;
        size += w * w;
    }
    double error = sqrt(size > 0.0 ? difference / size : difference);
    if (!(error <= *worst)) *worst = error;
    qn_free(host.data);
    return s;
}

static void free_reference(qni_bench_call *wide) {
    for (int i = 0; i < QN_MAX_IN; i++) qn_free(wide->in[i].data);
    for (int i = 0; i < QN_MAX_OUT; i++) qn_free(wide->out[i].data);
    qn_free(wide->call.scratch);
}

qn_status qni_bench_error(qn_device d, const qni_bench_call *b, const qni_bench_saved *before,
                          double *out) {
    qni_bench_call wide;
    qn_status status = QN_OK;
    QN_TRY(qni_bench_describe(&b->c, 1, true, &wide));
    QN_TRY_GOTO(run_reference(b, before, &wide));
    *out = 0.0;
    for (int i = 0; i < b->call.op->n_out; i++) {
        if (!b->call.out[i]) continue;
        QN_TRY_GOTO(compare(d, b->call.out[i], wide.call.out[i], out));
    }
done:
    free_reference(&wide);
    return status;
}
