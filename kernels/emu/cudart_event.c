/* cudart_event.c — events: a place in a stream, and a time of the emulated clock. */
#include "kernels/emu/cudart.h"

#include <stdlib.h>

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_event *event = calloc(1, sizeof *event);
    if (!event) return qe_error(cudaErrorMemoryAllocation);
    event->flags = flags;
    *out = (cudaEvent_t)event;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    qe_event *x = (qe_event *)event;
    if (!x) return qe_error(cudaErrorInvalidResourceHandle);
    x->destroyed = true;
    if (x->pending == 0) {
        free(x->tail);
        free(x);
    }
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_event *x = (qe_event *)event;
    qe_stream *s = qe_stream_of(stream);
    if (!x || !s) return qe_error(cudaErrorInvalidResourceHandle);
    if (flags != cudaEventRecordDefault) return qe_error(cudaErrorNotSupported);
    if (s->capture) return qe_capture_record(s, x);
    x->capture = NULL;
    qe_op *op = qe_op_new(QE_OP_RECORD);
    if (op) op->u.event = x;
    return qe_submit(s, op);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_event *x = (qe_event *)event;
    qe_stream *s = qe_stream_of(stream);
    if (!x || !s) return qe_error(cudaErrorInvalidResourceHandle);
    if (flags != cudaEventWaitDefault) return qe_error(cudaErrorNotSupported);
    if (x->capture || s->capture) return qe_capture_wait(s, x);
    if (!x->stream) return cudaSuccess; /* never recorded: nothing to wait for */
    qe_op *op = qe_op_new(QE_OP_WAIT);
    if (op) {
        op->u.wait.stream = x->stream;
        op->u.wait.number = x->number;
    }
    return qe_submit(s, op);
}

static cudaError_t refuse_captured(const qe_event *x) {
    if (!x) return qe_error(cudaErrorInvalidResourceHandle);
    if (x->capture) return qe_capture_spoil(x->capture, cudaErrorCapturedEvent);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    cudaError_t e = qe_enter();
    const qe_event *x = (const qe_event *)event;
    if (!e) e = refuse_captured(x);
    if (e || !x->stream) return e;
    return qe_drain(x->stream, x->number);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    cudaError_t e = qe_enter();
    const qe_event *x = (const qe_event *)event;
    if (!e) e = refuse_captured(x);
    if (e || !x->stream || x->stream->completed >= x->number) return e;
    if (qe_cfg.streams == QE_ANY_TIME)
        qe_maybe_step();
    else
        e = qe_drain(x->stream, x->stream->completed + 1);
    if (e) return e;
    return x->stream->completed >= x->number ? cudaSuccess : qe_error(cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    cudaError_t e = qe_enter();
    const qe_event *a = (const qe_event *)start, *b = (const qe_event *)end;
    if (!e) e = refuse_captured(a);
    if (!e) e = refuse_captured(b);
    if (e) return e;
    if (!a->stream || !b->stream || ((a->flags | b->flags) & cudaEventDisableTiming)) {
        return qe_error(cudaErrorInvalidResourceHandle);
    }
    if (a->stream->completed < a->number || b->stream->completed < b->number) {
        return qe_error(cudaErrorNotReady);
    }
    *ms = (float)((b->time - a->time) * 1e-3);
    return cudaSuccess;
}
