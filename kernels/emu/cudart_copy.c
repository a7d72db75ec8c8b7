/* cudart_copy.c — copies, fills, symbols.
 *
 * A copy between pageable memory and the device is as synchronous as CUDA's: what the host holds
 * is read at the call, what the host receives is there when the call returns. Pinned memory is
 * read and written when the stream gets there.
 */
#include "kernels/emu/cudart.h"

#include <stdlib.h>
#include <string.h>

typedef struct transfer {
    void *dst;
    const void *src;
    size_t dst_pitch, src_pitch, bytes, rows;
    enum cudaMemcpyKind kind;
} transfer;

static size_t extent(size_t pitch, const transfer *c) {
    return c->rows && c->bytes ? pitch * (c->rows - 1) + c->bytes : 0;
}

/* Whether the kind says what the pointers are. */
static bool agrees(enum cudaMemcpyKind kind, bool from_device, bool to_device) {
    switch (kind) {
    case cudaMemcpyHostToHost: return !from_device && !to_device;
    case cudaMemcpyHostToDevice: return !from_device && to_device;
    case cudaMemcpyDeviceToHost: return from_device && !to_device;
    case cudaMemcpyDeviceToDevice: return from_device && to_device;
    case cudaMemcpyDefault: return true;
    }
    return false;
}

static cudaError_t check(const transfer *c, qe_place *from, qe_place *to) {
    char *base;
    size_t bytes;
    *from = qe_place_of(c->src, &base, &bytes);
    *to = qe_place_of(c->dst, &base, &bytes);
    if (c->rows > 1 && (c->dst_pitch < c->bytes || c->src_pitch < c->bytes)) {
        return qe_error(cudaErrorInvalidPitchValue);
    }
    if (!agrees(c->kind, *from == QE_DEVICE, *to == QE_DEVICE)) {
        qe_report(QE_BUG_MEMORY, NULL, NULL, NULL,
                  "a copy of kind %d from %s to %s memory (%zu bytes)", (int)c->kind,
                  *from == QE_DEVICE ? "device" : "host", *to == QE_DEVICE ? "device" : "host",
                  c->bytes);
        return qe_error(cudaErrorInvalidValue);
    }
    if (!qe_memory_check(c->dst, extent(c->dst_pitch, c), "a copy writes") ||
        !qe_memory_check(c->src, extent(c->src_pitch, c), "a copy reads")) {
        return qe_error(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

/* Pageable memory that the device is to receive is read now. */
static bool stage(qe_op *op, const transfer *c) {
    op->u.copy.staged = malloc(c->rows * c->bytes);
    if (!op->u.copy.staged) return false;
    for (size_t r = 0; r < c->rows; r++) {
        memcpy(op->u.copy.staged + r * c->bytes, (const char *)c->src + r * c->src_pitch, c->bytes);
    }
    op->u.copy.src_pitch = c->bytes;
    return true;
}

static cudaError_t submit(qe_stream *s, const transfer *c, bool wait) {
    qe_place from, to;
    cudaError_t e = check(c, &from, &to);
    if (e || c->bytes == 0 || c->rows == 0) return e;
    qe_op *op = qe_op_new(QE_OP_COPY);
    if (!op) return qe_error(cudaErrorMemoryAllocation);
    op->u.copy.dst = c->dst;
    op->u.copy.src = c->src;
    op->u.copy.bytes = c->bytes;
    op->u.copy.rows = c->rows;
    op->u.copy.dst_pitch = c->dst_pitch;
    op->u.copy.src_pitch = c->src_pitch;
    bool later = qe_cfg.streams != QE_EAGER && !s->capture;
    bool staged = from == QE_PAGEABLE && to == QE_DEVICE && later;
    if (staged && !stage(op, c)) {
        qe_op_drop(op);
        return qe_error(cudaErrorMemoryAllocation);
    }
    e = qe_submit(s, op);
    if (e || s->capture) return e;
    return wait || to == QE_PAGEABLE ? qe_drain(s, s->issued) : cudaSuccess;
}

static cudaError_t copy_now(const transfer *c) {
    cudaError_t e = qe_enter();
    if (!e) e = qe_capture_forbids_legacy();
    if (!e) e = qe_capture_forbids();
    return e ? e : submit(qe_stream_of(NULL), c, true);
}

static cudaError_t copy_later(const transfer *c, cudaStream_t stream) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_stream *s = qe_stream_of(stream);
    return s ? submit(s, c, false) : qe_error(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind) {
    return copy_now(&(transfer){dst, src, n, n, n, 1, kind});
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    return copy_later(&(transfer){dst, src, n, n, n, 1, kind}, stream);
}

cudaError_t cudaMemcpy2D(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                         size_t width, size_t height, enum cudaMemcpyKind kind) {
    return copy_now(&(transfer){dst, src, dst_pitch, src_pitch, width, height, kind});
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream) {
    return copy_later(&(transfer){dst, src, dst_pitch, src_pitch, width, height, kind}, stream);
}

/* ---- symbols --------------------------------------------------------------------------------- */

static cudaError_t part_of_symbol(const void *symbol, size_t n, size_t offset, char **at) {
    size_t bytes;
    if (!qe_symbol_find(symbol, at, &bytes)) return qe_error(cudaErrorInvalidSymbol);
    if (offset > bytes || n > bytes - offset) {
        qe_report(QE_BUG_MEMORY, NULL, NULL, NULL,
                  "a copy of %zu bytes at offset %zu of a symbol of %zu bytes", n, offset, bytes);
        return qe_error(cudaErrorInvalidValue);
    }
    *at += offset;
    return cudaSuccess;
}

cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *src, size_t n, size_t offset,
                               enum cudaMemcpyKind kind) {
    char *at;
    cudaError_t e = part_of_symbol(symbol, n, offset, &at);
    return e ? e : cudaMemcpy(at, src, n, kind);
}

cudaError_t cudaMemcpyFromSymbol(void *dst, const void *symbol, size_t n, size_t offset,
                                 enum cudaMemcpyKind kind) {
    char *at;
    cudaError_t e = part_of_symbol(symbol, n, offset, &at);
    return e ? e : cudaMemcpy(dst, at, n, kind);
}

cudaError_t cudaMemcpyToSymbolAsync(const void *symbol, const void *src, size_t n, size_t offset,
                                    enum cudaMemcpyKind kind, cudaStream_t stream) {
    char *at;
    cudaError_t e = part_of_symbol(symbol, n, offset, &at);
    return e ? e : cudaMemcpyAsync(at, src, n, kind, stream);
}

cudaError_t cudaMemcpyFromSymbolAsync(void *dst, const void *symbol, size_t n, size_t offset,
                                      enum cudaMemcpyKind kind, cudaStream_t stream) {
    char *at;
    cudaError_t e = part_of_symbol(symbol, n, offset, &at);
    return e ? e : cudaMemcpyAsync(dst, at, n, kind, stream);
}

cudaError_t cudaGetSymbolAddress(void **p, const void *symbol) {
    char *at;
    cudaError_t e = part_of_symbol(symbol, 0, 0, &at);
    if (!e) *p = at;
    return e;
}

cudaError_t cudaGetSymbolSize(size_t *n, const void *symbol) {
    char *at;
    return qe_symbol_find(symbol, &at, n) ? cudaSuccess : qe_error(cudaErrorInvalidSymbol);
}

/* ---- fills ----------------------------------------------------------------------------------- */

static cudaError_t fill(qe_stream *s, void *p, int value, size_t bytes, size_t rows, size_t pitch) {
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    if (bytes == 0 || rows == 0) return cudaSuccess;
    char *base;
    size_t size;
    if (qe_place_of(p, &base, &size) == QE_PAGEABLE) {
        qe_report(QE_BUG_MEMORY, NULL, NULL, NULL, "cudaMemset of host memory at %p", p);
        return qe_error(cudaErrorInvalidValue);
    }
    if (!qe_memory_check(p, pitch * (rows - 1) + bytes, "a memset writes")) {
        return qe_error(cudaErrorInvalidValue);
    }
    qe_op *op = qe_op_new(QE_OP_SET);
    if (op) {
        op->u.set.dst = p;
        op->u.set.value = value;
        op->u.set.bytes = bytes;
        op->u.set.rows = rows;
        op->u.set.pitch = pitch;
    }
    return qe_submit(s, op);
}

cudaError_t cudaMemset(void *p, int value, size_t n) {
    cudaError_t e = qe_enter();
    return e ? e : fill(qe_stream_of(NULL), p, value, n, 1, n);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t stream) {
    cudaError_t e = qe_enter();
    return e ? e : fill(qe_stream_of(stream), p, value, n, 1, n);
}

cudaError_t cudaMemset2DAsync(void *p, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
    cudaError_t e = qe_enter();
    return e ? e : fill(qe_stream_of(stream), p, value, width, height, pitch);
}
