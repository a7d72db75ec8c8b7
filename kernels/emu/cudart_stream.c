/* cudart_stream.c — streams: queues of operations and when they run.
 *
 * An operation is ready when it heads its stream; one that waits needs another stream to have come
 * so far. streams=eager runs everything at the call. Otherwise work stays queued until the program
 * waits for something: late runs no more than that needs, any runs whatever is ready, in random
 * order, until it is met, and begins work at random before. The legacy stream waits for all
 * blocking streams, and they for it.
 */
#include "kernels/emu/cudart.h"

#include <stdlib.h>
#include <string.h>

static qe_stream legacy, per_thread = {.next = &legacy};
static qe_stream *streams = &per_thread;

qe_stream *qe_stream_first(void) { return streams; }

qe_stream *qe_stream_of(cudaStream_t s) {
    if (s == NULL || s == cudaStreamLegacy) return &legacy;
    if (s == cudaStreamPerThread) return &per_thread;
    for (qe_stream *q = streams; q; q = q->next) {
        if (q == (qe_stream *)s && !q->dead) return q;
    }
    qe_report(QE_BUG_STREAM, NULL, NULL, NULL, "%p is not a stream, or it was destroyed",
              (void *)s);
    return NULL;
}

/* ---- running --------------------------------------------------------------------------------- */

static bool is_ready(const qe_stream *s) {
    if (!s->first) return false;
    const qe_op *op = s->first->op;
    return op->kind != QE_OP_WAIT || op->u.wait.stream->completed >= op->u.wait.number;
}

static void step(qe_stream *s) {
    qe_queued *q = s->first;
    s->first = q->next;
    if (!s->first) s->last = NULL;
    if (q->op->kind == QE_OP_RECORD) {
        qe_event *e = q->op->u.event;
        e->pending--;
        if (e->stream == s && e->number == q->number) e->time = qe_clock_now();
        if (e->destroyed && e->pending == 0) {
            free(e->tail);
            free(e);
        }
    } else {
        qe_op_run(q->op);
    }
    s->completed = q->number;
    qe_op_drop(q->op);
    free(q);
}

static qe_stream *random_ready(void) {
    qe_stream *chosen = NULL;
    uint32_t n = 0;
    for (qe_stream *s = streams; s; s = s->next) {
        if (is_ready(s) && qe_random(++n) == 0) chosen = s;
    }
    return chosen;
}

/* The stream that must move for s to move; NULL: nothing can. */
static qe_stream *needed(qe_stream *s) {
    for (int links = 0; s->first && links < 10000; links++) {
        if (is_ready(s)) return s;
        s = s->first->op->u.wait.stream;
    }
    return NULL;
}

static qe_stream *any_pending(void) {
    for (qe_stream *s = streams; s; s = s->next) {
        if (s->first) return s;
    }
    return NULL;
}

cudaError_t qe_drain(qe_stream *s, uint64_t number) {
    for (;;) {
        qe_stream *target = s ? s : any_pending();
        if (!target || (s && s->completed >= number)) break;
        qe_stream *next = qe_cfg.streams == QE_ANY_TIME ? random_ready() : needed(target);
        if (!next) {
            qe_report(QE_BUG_STREAM, NULL, NULL, NULL, "streams wait for each other");
            break;
        }
        step(next);
    }
    return qe_enter();
}

void qe_maybe_step(void) {
    if (qe_cfg.streams != QE_ANY_TIME) return;
    while (qe_random(3) == 0) {
        qe_stream *s = random_ready();
        if (!s) return;
        step(s);
    }
}

/* ---- submitting ------------------------------------------------------------------------------ */

static bool append(qe_stream *s, qe_op *op) {
    qe_queued *q = malloc(sizeof *q);
    if (!q) {
        qe_op_drop(op);
        return false;
    }
    *q = (qe_queued){op, ++s->issued, NULL};
    if (s->last)
        s->last->next = q;
    else
        s->first = q;
    s->last = q;
    return true;
}

static bool append_wait(qe_stream *s, qe_stream *other) {
    if (other->completed >= other->issued) return true;
    qe_op *op = qe_op_new(QE_OP_WAIT);
    if (!op) return false;
    op->u.wait.stream = other;
    op->u.wait.number = other->issued;
    return append(s, op);
}

static bool is_blocking(const qe_stream *s) {
    return s != &legacy && !(s->flags & cudaStreamNonBlocking);
}

static bool append_legacy_waits(qe_stream *s) {
    if (s != &legacy) return !is_blocking(s) || append_wait(s, &legacy);
    for (qe_stream *o = streams; o; o = o->next) {
        if (is_blocking(o) && !append_wait(s, o)) return false;
    }
    return true;
}

cudaError_t qe_submit(qe_stream *s, qe_op *op) {
    if (!op) return qe_error(cudaErrorMemoryAllocation);
    if (s->capture) return qe_capture_op(s, op);
    cudaError_t e = s == &legacy ? qe_capture_forbids_legacy() : cudaSuccess;
    if (e) {
        qe_op_drop(op);
        return e;
    }
    qe_event *event = op->kind == QE_OP_RECORD ? op->u.event : NULL;
    if (!append_legacy_waits(s) || !append(s, op)) return qe_error(cudaErrorMemoryAllocation);
    if (event) {
        event->stream = s;
        event->number = s->issued;
        event->pending++;
    }
    if (qe_cfg.streams == QE_EAGER) {
        (void)qe_drain(s, s->issued); /* a failure shows in the next call, as it may */
        return cudaSuccess;
    }
    qe_maybe_step();
    return cudaSuccess;
}

/* ---- the calls ------------------------------------------------------------------------------- */

static cudaError_t create(cudaStream_t *out, unsigned flags, int priority) {
    cudaError_t e = qe_enter();
    if (e) return e;
    if (flags & ~(unsigned)cudaStreamNonBlocking) return qe_error(cudaErrorInvalidValue);
    qe_stream *s = calloc(1, sizeof *s);
    if (!s) return qe_error(cudaErrorMemoryAllocation);
    s->flags = flags;
    s->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    s->next = streams;
    streams = s;
    *out = (cudaStream_t)s;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out) { return create(out, 0, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    return create(out, flags, 0);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority) {
    return create(out, flags, priority);
}

/* Queued work still runs; events may still name the stream, so the structure stays. */
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_stream *s = qe_stream_of(stream);
    if (!s || s == &legacy || s == &per_thread) return qe_error(cudaErrorInvalidResourceHandle);
    if (s->capture) return qe_capture_spoil(s->capture, cudaErrorStreamCaptureUnsupported);
    s->dead = true;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_stream *s = qe_stream_of(stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    if (s->capture) return qe_capture_spoil(s->capture, cudaErrorStreamCaptureUnsupported);
    if (s == &legacy) {
        e = qe_capture_forbids_legacy();
        if (e) return e;
        for (qe_stream *o = streams; o; o = o->next) {
            if (is_blocking(o)) e = qe_drain(o, o->issued);
            if (e) return e;
        }
    }
    return qe_drain(s, s->issued);
}

cudaError_t cudaDeviceSynchronize(void) {
    cudaError_t e = qe_enter();
    if (!e) e = qe_capture_forbids();
    return e ? e : qe_drain(NULL, 0);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_stream *s = qe_stream_of(stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    if (s->capture) return qe_capture_spoil(s->capture, cudaErrorStreamCaptureUnsupported);
    if (s->completed >= s->issued) return cudaSuccess;
    qe_stream *next = qe_cfg.streams == QE_ANY_TIME ? random_ready() : needed(s);
    if (next) step(next);
    e = qe_enter();
    if (e) return e;
    return s->completed >= s->issued ? cudaSuccess : qe_error(cudaErrorNotReady);
}

cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned *flags) {
    const qe_stream *s = qe_stream_of(stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    *flags = s->flags;
    return cudaSuccess;
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) {
    const qe_stream *s = qe_stream_of(stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    *priority = s->priority;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return qe_enter();
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t run, void *data) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_stream *s = qe_stream_of(stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    qe_op *op = qe_op_new(QE_OP_HOST);
    if (op) {
        op->u.host.run = run;
        op->u.host.data = data;
    }
    return qe_submit(s, op);
}

void qe_stream_forget_all(void) {
    for (qe_stream *s = streams; s; s = s->next) {
        while (s->first) {
            qe_queued *q = s->first;
            s->first = q->next;
            if (q->op->kind == QE_OP_RECORD) q->op->u.event->pending--;
            qe_op_drop(q->op);
            free(q);
        }
        s->last = NULL;
        s->completed = s->issued;
        s->capture = NULL;
        s->n_tail = 0;
        s->dead = s != &legacy && s != &per_thread;
    }
}
