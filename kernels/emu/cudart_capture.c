/* cudart_capture.c — stream capture: operations become the nodes of a graph instead of running.
 *
 * Each capturing stream knows the nodes its next one depends on. An event recorded there keeps
 * them, and a stream that waits for the event joins the capture with them.
 */
#include "kernels/emu/cudart.h"

#include <stdlib.h>
#include <string.h>

static qe_capture *captures;
static uint64_t ids;
static enum cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

cudaError_t qe_capture_spoil(qe_capture *c, cudaError_t e) {
    if (c) c->invalid = true;
    return qe_error(e);
}

cudaError_t qe_capture_forbids(void) {
    if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
    for (qe_capture *c = captures; c; c = c->next) {
        if (c->ended || c->mode == cudaStreamCaptureModeRelaxed) continue;
        return qe_capture_spoil(c, cudaErrorStreamCaptureUnsupported);
    }
    return cudaSuccess;
}

cudaError_t qe_capture_forbids_legacy(void) {
    for (qe_stream *s = qe_stream_first(); s; s = s->next) {
        if (!s->capture || (s->flags & cudaStreamNonBlocking)) continue;
        return qe_capture_spoil(s->capture, cudaErrorStreamCaptureImplicit);
    }
    return cudaSuccess;
}

/* ---- what a stream depends on ---------------------------------------------------------------- */

static bool set_tail(uint32_t **tail, uint32_t *n_tail, const uint32_t *nodes, uint32_t n) {
    uint32_t *copy = malloc((n + 1) * sizeof *copy);
    if (!copy) return false;
    if (n) memcpy(copy, nodes, n * sizeof *copy);
    free(*tail);
    *tail = copy;
    *n_tail = n;
    return true;
}

static bool add_tail(qe_stream *s, const uint32_t *nodes, uint32_t n) {
    uint32_t *both = malloc((s->n_tail + n + 1) * sizeof *both);
    if (!both) return false;
    uint32_t k = s->n_tail;
    if (k) memcpy(both, s->tail, k * sizeof *both);
    for (uint32_t i = 0; i < n; i++) {
        bool there = false;
        for (uint32_t j = 0; j < k; j++) there = there || both[j] == nodes[i];
        if (!there) both[k++] = nodes[i];
    }
    free(s->tail);
    s->tail = both;
    s->n_tail = k;
    return true;
}

/* ---- what happens while capturing ------------------------------------------------------------ */

cudaError_t qe_capture_op(qe_stream *s, qe_op *op) {
    qe_capture *c = s->capture;
    if (c->invalid) {
        qe_op_drop(op);
        return qe_error(cudaErrorStreamCaptureInvalidated);
    }
    uint32_t node = qe_graph_add(c->graph, op, s->tail, s->n_tail);
    if (node == UINT32_MAX || !set_tail(&s->tail, &s->n_tail, &node, 1)) {
        return qe_capture_spoil(c, cudaErrorMemoryAllocation);
    }
    return cudaSuccess;
}

cudaError_t qe_capture_record(qe_stream *s, qe_event *e) {
    if (s->capture->invalid) return qe_error(cudaErrorStreamCaptureInvalidated);
    if (!set_tail(&e->tail, &e->n_tail, s->tail, s->n_tail)) {
        return qe_capture_spoil(s->capture, cudaErrorMemoryAllocation);
    }
    e->capture = s->capture;
    return cudaSuccess;
}

cudaError_t qe_capture_wait(qe_stream *s, qe_event *e) {
    qe_capture *c = e->capture;
    if (!c && !e->stream) return cudaSuccess; /* never recorded */
    if (!c) return qe_capture_spoil(s->capture, cudaErrorStreamCaptureIsolation);
    if (c->ended) return qe_capture_spoil(s->capture, cudaErrorCapturedEvent);
    if (s->capture && s->capture != c) {
        c->invalid = true;
        return qe_capture_spoil(s->capture, cudaErrorStreamCaptureMerge);
    }
    if (s == qe_stream_of(cudaStreamLegacy)) {
        return qe_capture_spoil(c, cudaErrorStreamCaptureImplicit);
    }
    if (c->invalid) return qe_error(cudaErrorStreamCaptureInvalidated);
    if (!s->capture) s->n_tail = 0;
    s->capture = c;
    if (!add_tail(s, e->tail, e->n_tail)) return qe_capture_spoil(c, cudaErrorMemoryAllocation);
    return cudaSuccess;
}

/* ---- begin and end --------------------------------------------------------------------------- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_stream *s = qe_stream_of(stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    if (s == qe_stream_of(cudaStreamLegacy)) return qe_error(cudaErrorStreamCaptureUnsupported);
    if (s->capture) return qe_error(cudaErrorIllegalState);
    qe_capture *c = calloc(1, sizeof *c);
    if (c) c->graph = qe_graph_new();
    if (!c || !c->graph) {
        free(c);
        return qe_error(cudaErrorMemoryAllocation);
    }
    c->id = ++ids;
    c->origin = s;
    c->mode = mode;
    c->next = captures;
    captures = c;
    s->capture = c;
    s->n_tail = 0;
    return cudaSuccess;
}

/* Every stream that joined must have been waited for, in the end, by the one that began. */
static bool is_joined(const qe_capture *c) {
    const qe_graph *g = c->graph;
    bool *reached = calloc(g->n + 1, sizeof *reached);
    if (!reached) return false;
    for (uint32_t i = 0; i < c->origin->n_tail; i++) reached[c->origin->tail[i]] = true;
    for (uint32_t i = g->n; i-- > 0;) {
        if (!reached[i]) continue;
        for (uint32_t k = 0; k < g->nodes[i].n_after; k++) reached[g->nodes[i].after[k]] = true;
    }
    bool joined = true;
    for (const qe_stream *s = qe_stream_first(); s; s = s->next) {
        if (s->capture != c) continue;
        for (uint32_t k = 0; k < s->n_tail; k++) joined = joined && reached[s->tail[k]];
    }
    free(reached);
    return joined;
}

static void end(qe_capture *c) {
    for (qe_stream *s = qe_stream_first(); s; s = s->next) {
        if (s->capture != c) continue;
        s->capture = NULL;
        s->n_tail = 0;
    }
    c->ended = true;
    c->graph = NULL;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_stream *s = qe_stream_of(stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    qe_capture *c = s->capture;
    if (!c) return qe_error(cudaErrorIllegalState);
    if (c->origin != s) return qe_capture_spoil(c, cudaErrorStreamCaptureUnmatched);
    if (c->invalid)
        e = cudaErrorStreamCaptureInvalidated;
    else if (!is_joined(c))
        e = cudaErrorStreamCaptureUnjoined;
    qe_graph *g = c->graph;
    end(c);
    *out = NULL;
    if (e) {
        qe_graph_drop(g);
        return qe_error(e);
    }
    *out = (cudaGraph_t)g;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    cudaError_t e = qe_enter();
    if (e) return e;
    const qe_stream *s = qe_stream_of(stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    *status = !s->capture           ? cudaStreamCaptureStatusNone
              : s->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                    : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
                                     unsigned long long *id, cudaGraph_t *graph,
                                     const cudaGraphNode_t **dependencies,
                                     const cudaGraphEdgeData **edges, size_t *n_dependencies) {
    cudaError_t e = cudaStreamIsCapturing(stream, status);
    if (e) return e;
    if (dependencies || edges || n_dependencies) return qe_error(cudaErrorNotSupported);
    const qe_capture *c = qe_stream_of(stream)->capture;
    if (id) *id = c ? c->id : 0;
    if (graph) *graph = c ? (cudaGraph_t)c->graph : NULL;
    return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
    enum cudaStreamCaptureMode before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return cudaSuccess;
}
