/* cudart_memory.c — device and pinned memory.
 *
 * A pointer is device memory, pinned memory or pageable; what a call is told must lie inside one
 * live allocation.
 */
#include "kernels/emu/cudart.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 };

typedef struct pinned {
    char *base;
    size_t bytes;
    unsigned flags;
    bool registered; /* the program's own memory */
    struct pinned *next;
} pinned;

static pinned *pins;

/* ---- what a pointer points to ---------------------------------------------------------------- */

static pinned *find_pin(const void *p) {
    const char *at = p;
    for (pinned *h = pins; h; h = h->next) {
        if (at >= h->base && at < h->base + h->bytes) return h;
    }
    return NULL;
}

qe_place qe_place_of(const void *p, char **base, size_t *bytes) {
    *base = NULL;
    *bytes = 0;
    if (qe_is_global(p)) {
        (void)qe_memory_find(p, base, bytes);
        return QE_DEVICE;
    }
    if (qe_symbol_contains(p, base, bytes)) return QE_DEVICE;
    const pinned *h = find_pin(p);
    if (!h) return QE_PAGEABLE;
    *base = h->base;
    *bytes = h->bytes;
    return QE_PINNED;
}

bool qe_memory_check(const void *p, size_t bytes, const char *what) {
    char *base;
    size_t size;
    if (bytes == 0) return true;
    qe_place place = qe_place_of(p, &base, &size);
    if (place == QE_PAGEABLE) {
        if (p) return true;
        qe_report(QE_BUG_MEMORY, NULL, NULL, NULL, "%s %zu bytes at NULL", what, bytes);
        return false;
    }
    if (!base) {
        qe_report(QE_BUG_MEMORY, NULL, NULL, NULL,
                  "%s %zu bytes at %p, in no live allocation: freed, or never allocated", what,
                  bytes, p);
        return false;
    }
    size_t offset = (size_t)((const char *)p - base);
    if (bytes <= size - offset) return true;
    qe_report(QE_BUG_MEMORY, NULL, NULL, NULL,
              "%s %zu bytes at offset %zu of an allocation of %zu bytes", what, bytes, offset,
              size);
    return false;
}

/* ---- device memory --------------------------------------------------------------------------- */

static void *take(size_t bytes) {
    qe_fault_open();
    qe_guard_start();
    return qe_memory_alloc(bytes);
}

cudaError_t cudaMalloc(void **p, size_t bytes) {
    cudaError_t e = qe_enter();
    if (!e) e = qe_capture_forbids();
    if (e) return e;
    *p = NULL;
    if (bytes == 0) return cudaSuccess;
    *p = take(bytes);
    return *p ? cudaSuccess : qe_error(cudaErrorMemoryAllocation);
}

static cudaError_t bad_free(const char *call, const void *p) {
    qe_report(QE_BUG_MEMORY, NULL, NULL, NULL, "%s of %p, which is not a live allocation", call, p);
    return qe_error(cudaErrorInvalidValue);
}

/* Waits for the device, as CUDA does. */
cudaError_t cudaFree(void *p) {
    cudaError_t e = qe_enter();
    if (!e) e = qe_capture_forbids();
    if (e || !p) return e;
    e = qe_drain(NULL, 0);
    if (!qe_memory_free(p)) return bad_free("cudaFree", p);
    return e;
}

cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t stream) {
    cudaError_t e = qe_enter();
    if (e) return e;
    const qe_stream *s = qe_stream_of(stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    if (s->capture) return qe_capture_spoil(s->capture, cudaErrorNotSupported);
    *p = bytes ? take(bytes) : NULL;
    return *p || !bytes ? cudaSuccess : qe_error(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream) {
    cudaError_t e = qe_enter();
    if (e || !p) return e;
    qe_stream *s = qe_stream_of(stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    if (s->capture) return qe_capture_spoil(s->capture, cudaErrorNotSupported);
    char *base;
    size_t size;
    if (!qe_memory_find(p, &base, &size) || base != p) return bad_free("cudaFreeAsync", p);
    qe_op *op = qe_op_new(QE_OP_FREE);
    if (op) op->u.memory = p;
    return qe_submit(s, op);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    cudaError_t e = qe_enter();
    if (e) return e;
    size_t used = qe_memory_used();
    *total = qe_cfg.memory;
    *available = used < qe_cfg.memory ? qe_cfg.memory - used : 0;
    return cudaSuccess;
}

/* ---- pinned memory --------------------------------------------------------------------------- */

static cudaError_t pin(char *base, size_t bytes, unsigned flags, bool registered) {
    pinned *h = malloc(sizeof *h);
    if (!h) return qe_error(cudaErrorMemoryAllocation);
    *h = (pinned){base, bytes, flags, registered, pins};
    pins = h;
    return cudaSuccess;
}

static cudaError_t unpin(void *p, bool registered) {
    pinned **at = &pins;
    while (*at && (*at)->base != p) at = &(*at)->next;
    pinned *h = *at;
    if (!h || h->registered != registered) {
        return bad_free(registered ? "cudaHostUnregister" : "cudaFreeHost", p);
    }
    *at = h->next;
    if (!registered) free(h->base);
    free(h);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags) {
    cudaError_t e = qe_enter();
    if (!e) e = qe_capture_forbids();
    if (e) return e;
    *p = NULL;
    if (bytes == 0) return cudaSuccess;
    char *base = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
    if (!base) return qe_error(cudaErrorMemoryAllocation);
    e = pin(base, bytes, flags, false);
    if (e)
        free(base);
    else
        *p = base;
    return e;
}

cudaError_t cudaMallocHost(void **p, size_t bytes) { return cudaHostAlloc(p, bytes, 0); }

cudaError_t cudaFreeHost(void *p) {
    cudaError_t e = qe_enter();
    if (!e) e = qe_capture_forbids();
    if (e || !p) return e;
    e = qe_drain(NULL, 0);
    cudaError_t freed = unpin(p, false);
    return freed ? freed : e;
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags) {
    cudaError_t e = qe_enter();
    if (e) return e;
    if (!p || bytes == 0) return qe_error(cudaErrorInvalidValue);
    if (find_pin(p)) return qe_error(cudaErrorHostMemoryAlreadyRegistered);
    return pin(p, bytes, flags, true);
}

cudaError_t cudaHostUnregister(void *p) {
    cudaError_t e = qe_enter();
    return e ? e : unpin(p, true);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags) {
    (void)flags;
    cudaError_t e = qe_enter();
    if (e) return e;
    if (!find_pin(host)) return qe_error(cudaErrorInvalidValue);
    *device = host;
    return cudaSuccess;
}

cudaError_t cudaHostGetFlags(unsigned *flags, void *host) {
    const pinned *h = find_pin(host);
    if (!h) return qe_error(cudaErrorInvalidValue);
    *flags = h->flags;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *p) {
    cudaError_t e = qe_enter();
    if (e) return e;
    char *base;
    size_t bytes;
    qe_place place = qe_place_of(p, &base, &bytes);
    void *same = (void *)(uintptr_t)p;
    memset(out, 0, sizeof *out);
    out->type = cudaMemoryTypeUnregistered;
    out->device = -2;
    if (place == QE_PAGEABLE || !base) {
        out->hostPointer = place == QE_PAGEABLE ? same : NULL;
        return cudaSuccess;
    }
    out->type = place == QE_DEVICE ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
    out->device = 0;
    out->devicePointer = same;
    out->hostPointer = place == QE_PINNED ? same : NULL;
    return cudaSuccess;
}

/* Everything the process still holds, at cudaDeviceReset. */
void qe_host_free_all(void) {
    while (pins) (void)unpin(pins->base, pins->registered);
}
