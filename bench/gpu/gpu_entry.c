/* gpu_entry.c — one op as a prepared call on the caller's memory. */
#include "bench/gpu/gpu_entry.h"
#include "engine/ops.h"

#include <stdio.h>
#include <string.h>

struct qn_gpu_call {
    qn_call call;
    qn_body body;
    qn_device device;
    qn_tensor in[QN_MAX_IN], out[QN_MAX_OUT];
    qn_segment segment;
    void *attrs;
    bool prepared;
};

const char *qn_gpu_error(void) { return qn_error_message(); }

int qn_gpu_start(const char *device, char *text, size_t size) {
    qn_device d;
    QN_TRY(qn_device_resolve(device, false, &d, text, size));
    QN_TRY(qn_device_open(d));
    qn_device_get(d)->describe(text, size);
    return QN_OK;
}

static qn_status check_output(const qn_gpu_call *h, int i, const qn_tensor *given) {
    char want[96], found[96];
    if (qn_tensor_same_shape(&h->out[i], given)) return QN_OK;
    return qn_fail(QN_ERR_SHAPE, "%s: output %s is %s, expected %s", h->call.op->name,
                   h->call.op->out_name[i], qn_tensor_describe(given, found, sizeof found),
                   qn_tensor_describe(&h->out[i], want, sizeof want));
}

/* Outputs are described by the op first, then given the caller's storage. */
static qn_status describe(qn_gpu_call *h, const qn_tensor *const *in, const qn_tensor *const *out) {
    const qn_op *op = h->call.op;
    for (int i = 0; i < op->n_in; i++) {
        if (!in[i]) continue;
        h->in[i] = *in[i];
        h->call.in[i] = &h->in[i];
    }
    for (int i = 0; i < op->n_out; i++) {
        if (!out[i]) continue;
        h->out[i] = *out[i];
        h->call.out[i] = &h->out[i];
    }
    QN_TRY(op->infer(&h->call));
    for (int i = 0; i < op->n_out; i++) {
        if (!out[i]) continue;
        QN_TRY(check_output(h, i, out[i]));
        h->out[i] = *out[i];
    }
    return QN_OK;
}

static qn_status open_call(qn_gpu_call *h, const char *device, const qn_tensor *const *in,
                           const qn_tensor *const *out, const void *attrs, size_t attr_bytes) {
    const qn_op *op = h->call.op;
    char text[256];
    if (attr_bytes != op->attr_bytes) {
        return qn_fail(QN_ERR_USAGE, "%s: %zu bytes of attributes, expected %zu", op->name,
                       attr_bytes, op->attr_bytes);
    }
    QN_TRY(qn_device_resolve(device, false, &h->device, text, sizeof text));
    QN_TRY(qn_device_open(h->device));
    h->attrs = qn_alloc(attr_bytes + 1, "attributes");
    if (!h->attrs) return QN_ERR_OOM;
    if (attr_bytes) memcpy(h->attrs, attrs, attr_bytes);
    h->call.attrs = h->attrs;
    QN_TRY(describe(h, in, out));
    QN_TRY(qn_device_body(h->device, &h->call, &h->body));
    h->call.scratch_bytes = qn_device_scratch(h->device, &h->call);
    if (h->call.scratch_bytes > 0) {
        QN_TRY(qn_device_get(h->device)->alloc(h->call.scratch_bytes, &h->call.scratch));
    }
    if (h->body.prepare) QN_TRY(h->body.prepare(&h->call));
    h->prepared = true;
    return QN_OK;
}

int qn_gpu_open(const char *op, const char *device, const qn_tensor *const *in,
                const qn_tensor *const *out, const void *attrs, size_t attr_bytes,
                uint32_t accumulate, qn_gpu_call **handle) {
    const qn_op *found = qn_op_find(op);
    if (!found) return qn_fail(QN_ERR_USAGE, "there is no op \"%s\"", op);
    qn_gpu_call *h = qn_alloc(sizeof *h, "a call");
    if (!h) return QN_ERR_OOM;
    h->call = (qn_call){.op = found,
                        .scope = "",
                        .threads = qn_parallel_max_threads(),
                        .accumulate = accumulate,
                        .rng_key = qn_rng_key(1, "", found->name)};
    qn_status s = open_call(h, device, in, out, attrs, attr_bytes);
    if (s != QN_OK) {
        qn_gpu_close(h);
        return (int)s;
    }
    *handle = h;
    return QN_OK;
}

int qn_gpu_run(qn_gpu_call *h, void *stream) {
    h->call.stream = stream;
    return (int)h->body.run(&h->call);
}

void qn_gpu_cost(const qn_gpu_call *h, double *bytes, double *flops) {
    qn_cost cost = {0};
    if (h->call.op->cost) h->call.op->cost(&h->call, &cost);
    *bytes = cost.bytes;
    *flops = cost.flops;
}

void qn_gpu_close(qn_gpu_call *h) {
    if (!h) return;
    if (h->prepared && h->body.release) h->body.release(&h->call);
    if (h->call.scratch) qn_device_get(h->device)->release(h->call.scratch, h->call.scratch_bytes);
    qn_free(h->attrs);
    qn_free(h);
}
