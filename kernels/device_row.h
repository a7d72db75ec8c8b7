/* device_row.h — what the engine asks of a device besides running ops: memory, copies, streams,
 * events, recorded launches.
 *
 * One row per device; engine/device.c holds the rows of the host's devices, kernels/cuda_device.c
 * the one of CUDA. Streams, events and recordings are opaque pointers. The stream NULL is the one
 * every program computes on; another stream is ordered against it by events alone.
 */
#ifndef QN_DEVICE_ROW_H
#define QN_DEVICE_ROW_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qn_device_row {
    const char *name; /* "cuda" */
    /* Device addresses are of no use to the host: what the host reads or writes is copied, through
     * staging memory of its own, and a step's outcome is known one step late. */
    bool separate;
    size_t align; /* of temporaries and scratch */

    /* Starts the device if it was not; QN_ERR_DEVICE says what is missing. Everything else expects
     * that it has succeeded. */
    qn_status (*open)(void);
    void (*describe)(char *text, size_t size); /* "NVIDIA H100 (sm_90, 132 SMs, 79.6 GiB)" */

    qn_status (*alloc)(size_t bytes, void **out); /* zeroed; bytes > 0 */
    void (*release)(void *p, size_t bytes);
    /* Host memory that copies reach without a detour. */
    qn_status (*alloc_host)(size_t bytes, void **out);
    void (*release_host)(void *p, size_t bytes);

    /* Enqueued on a stream, in any direction. Host memory that is not from alloc_host has been read
     * or written when the call returns. dst == src does nothing. */
    qn_status (*copy)(void *dst, const void *src, size_t bytes, void *stream);
    qn_status (*fill)(void *dst, int byte, size_t bytes, void *stream);
    qn_status (*synchronize)(void *stream); /* the host waits; errors of the work come out here */

    qn_status (*stream_create)(void **out);
    void (*stream_free)(void *stream);
    qn_status (*event_create)(void **out);
    void (*event_free)(void *event);
    qn_status (*event_record)(void *event, void *stream);
    qn_status (*event_wait)(void *event, void *stream);            /* the stream waits */
    qn_status (*event_synchronize)(void *event);                   /* the host waits */
    qn_status (*event_seconds)(void *from, void *to, double *out); /* both have happened */

    /* Launches on `stream` between begin and end are recorded, not run; `launch` runs them all on
     * the stream NULL. NULL on devices that cannot. After begin has succeeded, end must follow. */
    qn_status (*record_begin)(void *stream);
    qn_status (*record_end)(void *stream, void **recording);
    qn_status (*record_launch)(void *recording);
    void (*record_free)(void *recording);
} qn_device_row;

#ifdef __cplusplus
}
#endif
#endif
