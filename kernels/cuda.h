/* cuda.h — the CUDA side of the ops: one body per op, found by the op's name.
 *
 * Needs no CUDA header; compiles as C11 and as C++. Each `<family>.cu` exports one table of bodies;
 * cuda_table.c lists the tables. A body computes exactly what the op's reference body means
 * (engine/op_*.c), from the same call. All pointers of a call are device pointers then, those of
 * values that change per step (rng, hyper, inv_n, guard, start, positions) included: a launcher
 * never reads them on the host. A launcher enqueues work on call->stream and returns; it allocates
 * nothing and waits for nothing, so that a program can be captured as a graph. It takes every size,
 * 0 included. Results depend on shapes and inputs alone: never on the launch shape, the number of
 * SMs or timing, and no result is summed with float atomics.
 */
#ifndef QN_CUDA_H
#define QN_CUDA_H

#include "kernels/device_row.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qn_cuda_body {
    const char *op;  /* name of the row; NULL ends a table */
    uint32_t dtypes; /* QN_DTYPE_BIT mask of in[0] (out[0] where there is no input) */
    qn_kernel *run;
    /* Bytes of call->scratch, from shapes and attributes alone (the plan needs no GPU, and results
     * must not depend on one). NULL = none. The address is a multiple of 256. */
    size_t (*scratch)(const qn_call *call);
    qn_status (*prepare)(qn_call *call); /* optional: once, addresses bound; fills call->state */
    void (*release)(qn_call *call);      /* undoes prepare */
} qn_cuda_body;

/* The body of an op, NULL where CUDA has none. */
const qn_cuda_body *qn_cuda_find(const char *op);

/* ---- the device (cuda_device.c, in builds with CUDA) ----------------------------------------- */

/* Computes on the default stream. Nothing touches the driver before `open`: the library is linked
 * statically and finds the driver then, so a machine without one can run everything else. Needs
 * compute capability 8.0. QN_ERR_OOM for memory, QN_ERR_DEVICE with CUDA's own words for the rest;
 * an error of a kernel comes out where the host next waits and poisons the context for good. */
extern const qn_device_row qn_cuda_device;

/* Version of the CUDA runtime in this build and of the installed driver, 0 = none: 13000. */
void qn_cuda_versions(int *runtime, int *driver);
int qn_cuda_device_count(void); /* 0 without a driver */

#ifdef __cplusplus
}
#endif
#endif
