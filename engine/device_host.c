/* device_host.c — the host as a device: everything has happened when it returns.
 *
 * Memory comes from mmap, so that large arenas start on a huge-page border and cost nothing until
 * they are touched. There is one stream, the thread itself; events are moments that have passed.
 */
#include "engine/device_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static const size_t huge = (size_t)2 << 20;

static size_t mapped_bytes(size_t bytes) {
    size_t page = bytes >= huge ? huge : 4096;
    return (bytes + page - 1) / page * page;
}

static qn_status alloc(size_t bytes, void **out) {
    bool absurd = bytes > SIZE_MAX / 2;
    size_t mapped = absurd ? 0 : mapped_bytes(bytes);
    /* Over-map by one huge page and trim, so that large arenas start on a huge-page border. */
    size_t slack = mapped >= huge ? huge : 0;
    char *p = absurd ? MAP_FAILED
                     : mmap(NULL, mapped + slack, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return qn_fail(QN_ERR_OOM, "out of memory: %.1f MiB", (double)bytes / 1048576.0);
    if (slack) {
        size_t head = (huge - (uintptr_t)p % huge) % huge;
        if (head) munmap(p, head);
        if (slack - head) munmap(p + head + mapped, slack - head);
        p += head;
        madvise(p, mapped, MADV_HUGEPAGE);
    }
    *out = p;
    return QN_OK;
}

static void release(void *p, size_t bytes) { munmap(p, mapped_bytes(bytes)); }

static qn_status copy(void *dst, const void *src, size_t bytes, void *stream) {
    (void)stream;
    if (dst != src && bytes) memcpy(dst, src, bytes);
    return QN_OK;
}

static qn_status fill(void *dst, int byte, size_t bytes, void *stream) {
    (void)stream;
    if (bytes) memset(dst, byte, bytes);
    return QN_OK;
}

static qn_status open_host(void) { return QN_OK; }

static void describe(char *text, size_t size) { snprintf(text, size, "%s", qn_cpu_description()); }

static qn_status nothing(void *stream_or_event) {
    (void)stream_or_event;
    return QN_OK;
}

static qn_status stream_create(void **out) {
    *out = NULL;
    return QN_OK;
}

static void stream_free(void *stream) { (void)stream; }

/* An event is the time at which it was recorded. */
static qn_status event_create(void **out) {
    *out = qn_alloc(sizeof(double), "an event");
    return *out ? QN_OK : QN_ERR_OOM;
}

static qn_status event_record(void *event, void *stream) {
    (void)stream;
    *(double *)event = qn_clock();
    return QN_OK;
}

static qn_status event_wait(void *event, void *stream) {
    (void)event;
    (void)stream;
    return QN_OK;
}

static qn_status event_seconds(void *from, void *to, double *out) {
    *out = *(double *)to - *(double *)from;
    return QN_OK;
}

const qn_device_row qni_host_device = {
    .name = "cpu",
    .align = 64,
    .open = open_host,
    .describe = describe,
    .alloc = alloc,
    .release = release,
    .alloc_host = alloc,
    .release_host = release,
    .copy = copy,
    .fill = fill,
    .synchronize = nothing,
    .stream_create = stream_create,
    .stream_free = stream_free,
    .event_create = event_create,
    .event_free = qn_free,
    .event_record = event_record,
    .event_wait = event_wait,
    .event_synchronize = nothing,
    .event_seconds = event_seconds,
};
