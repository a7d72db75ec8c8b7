/* cuda_device.c — CUDA as a device: memory, streams, events, graphs over the CUDA runtime.
 *
 * Compiled only in builds with CUDA. Plain C; the only file besides the kernels that sees a CUDA
 * header. There is no state here: the runtime keeps one context per process and device, and the
 * device is number 0 of those that CUDA_VISIBLE_DEVICES shows.
 */
#include "kernels/cuda.h"

#ifdef QUERN_CUDA

#include <cuda_runtime_api.h>
#include <stdio.h>

enum { DEVICE = 0, OLDEST = 8 };

/* Errors that a kernel makes, and that every later call returns until the process ends. */
static bool is_kernels(cudaError_t e) {
    static const cudaError_t list[] = {
        cudaErrorIllegalAddress,     cudaErrorMisalignedAddress, cudaErrorInvalidAddressSpace,
        cudaErrorIllegalInstruction, cudaErrorInvalidPc,         cudaErrorHardwareStackError,
        cudaErrorLaunchFailure,      cudaErrorLaunchTimeout,     cudaErrorAssert};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i] == e) return true;
    }
    return false;
}

static qn_status check(cudaError_t e, const char *what) {
    if (e == cudaSuccess) return QN_OK;
    (void)cudaGetLastError(); /* an error that does not stick is reported once */
    qn_status s = e == cudaErrorMemoryAllocation ? QN_ERR_OOM : QN_ERR_DEVICE;
    const char *hint =
        is_kernels(e) ? "; some kernel up to here failed, QUERN_SYNC=1 names it" : "";
    return qn_fail(s, "CUDA: %s: %s%s", what, cudaGetErrorString(e), hint);
}

/* ---- the device ------------------------------------------------------------------------------ */

void qn_cuda_versions(int *runtime, int *driver) {
    if (cudaRuntimeGetVersion(runtime) != cudaSuccess) *runtime = 0;
    if (cudaDriverGetVersion(driver) != cudaSuccess) *driver = 0;
}

int qn_cuda_device_count(void) {
    int n = 0;
    if (cudaGetDeviceCount(&n) == cudaSuccess) return n;
    (void)cudaGetLastError();
    return 0;
}

static qn_status capability(int *major, int *minor) {
    cudaError_t e = cudaDeviceGetAttribute(major, cudaDevAttrComputeCapabilityMajor, DEVICE);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(minor, cudaDevAttrComputeCapabilityMinor, DEVICE);
    return check(e, "asking what the GPU is");
}

static qn_status open_device(void) {
    int runtime, driver, n = 0;
    qn_cuda_versions(&runtime, &driver);
    if (driver == 0)
        return qn_fail(QN_ERR_DEVICE, "CUDA: no NVIDIA driver is installed on this machine");
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaErrorInsufficientDriver) {
        (void)cudaGetLastError();
        return qn_fail(QN_ERR_DEVICE,
                       "CUDA: the driver is for CUDA %d.%d, this build needs %d.%d or newer",
                       driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
    if (e == cudaErrorNoDevice || (e == cudaSuccess && n == 0)) {
        (void)cudaGetLastError();
        return qn_fail(QN_ERR_DEVICE, "CUDA: there is a driver, but no GPU is visible to it");
    }
    QN_TRY(check(e, "looking for GPUs"));
    int major, minor;
    QN_TRY(capability(&major, &minor));
    if (major < OLDEST) {
        return qn_fail(QN_ERR_DEVICE,
                       "CUDA: the GPU has compute capability %d.%d, Quern needs %d.0 or newer",
                       major, minor, OLDEST);
    }
    return check(cudaSetDevice(DEVICE), "starting the GPU");
}

static void describe(char *text, size_t size) {
    struct cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, DEVICE) != cudaSuccess) {
        snprintf(text, size, "CUDA device %d", DEVICE);
        return;
    }
    snprintf(text, size, "%s (sm_%d%d, %d SMs, %.1f GiB)", p.name, p.major, p.minor,
             p.multiProcessorCount, (double)p.totalGlobalMem / 1073741824.0);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static qn_status synchronize(void *stream) {
    return check(cudaStreamSynchronize((cudaStream_t)stream), "waiting for the GPU");
}

static qn_status alloc(size_t bytes, void **out) {
    cudaError_t e = cudaMalloc(out, bytes);
    if (e == cudaErrorMemoryAllocation) {
        size_t available = 0, total = 0;
        (void)cudaGetLastError();
        (void)cudaMemGetInfo(&available, &total);
        return qn_fail(
            QN_ERR_OOM, "out of GPU memory: %.1f MiB asked for, %.1f of %.1f MiB are free",
            (double)bytes / 1048576.0, (double)available / 1048576.0, (double)total / 1048576.0);
    }
    QN_TRY(check(e, "allocating memory"));
    qn_status s = check(cudaMemsetAsync(*out, 0, bytes, NULL), "clearing memory");
    if (s == QN_OK) s = synchronize(NULL); /* other streams may write there from now on */
    if (s != QN_OK) (void)cudaFree(*out);
    return s;
}

static void release(void *p, size_t bytes) {
    (void)bytes;
    (void)cudaFree(p);
}

static qn_status alloc_host(size_t bytes, void **out) {
    return check(cudaMallocHost(out, bytes), "allocating pinned host memory");
}

static void release_host(void *p, size_t bytes) {
    (void)bytes;
    (void)cudaFreeHost(p);
}

static qn_status copy(void *dst, const void *src, size_t bytes, void *stream) {
    if (dst == src || bytes == 0) return QN_OK;
    return check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, (cudaStream_t)stream),
                 "copying");
}

static qn_status fill(void *dst, int byte, size_t bytes, void *stream) {
    if (bytes == 0) return QN_OK;
    return check(cudaMemsetAsync(dst, byte, bytes, (cudaStream_t)stream), "filling");
}

/* ---- streams and events ---------------------------------------------------------------------- */

static qn_status stream_create(void **out) {
    return check(cudaStreamCreateWithFlags((cudaStream_t *)out, cudaStreamNonBlocking),
                 "creating a stream");
}

static void stream_free(void *stream) {
    if (stream) (void)cudaStreamDestroy((cudaStream_t)stream);
}

static qn_status event_create(void **out) {
    return check(cudaEventCreate((cudaEvent_t *)out), "creating an event");
}

static void event_free(void *event) {
    if (event) (void)cudaEventDestroy((cudaEvent_t)event);
}

static qn_status event_record(void *event, void *stream) {
    return check(cudaEventRecord((cudaEvent_t)event, (cudaStream_t)stream), "recording an event");
}

static qn_status event_wait(void *event, void *stream) {
    return check(cudaStreamWaitEvent((cudaStream_t)stream, (cudaEvent_t)event, 0),
                 "waiting for an event");
}

static qn_status event_synchronize(void *event) {
    return check(cudaEventSynchronize((cudaEvent_t)event), "waiting for the GPU");
}

static qn_status event_seconds(void *from, void *to, double *out) {
    float ms = 0;
    QN_TRY(check(cudaEventElapsedTime(&ms, (cudaEvent_t)from, (cudaEvent_t)to), "timing"));
    *out = 1e-3 * (double)ms;
    return QN_OK;
}

/* ---- graphs ---------------------------------------------------------------------------------- */

static qn_status record_begin(void *stream) {
    return check(cudaStreamBeginCapture((cudaStream_t)stream, cudaStreamCaptureModeThreadLocal),
                 "capturing a graph");
}

static qn_status record_end(void *stream, void **recording) {
    cudaGraph_t graph = NULL;
    *recording = NULL;
    QN_TRY(check(cudaStreamEndCapture((cudaStream_t)stream, &graph), "capturing a graph"));
    qn_status s =
        check(cudaGraphInstantiate((cudaGraphExec_t *)recording, graph, 0), "making a graph");
    (void)cudaGraphDestroy(graph);
    return s;
}

static qn_status record_launch(void *recording) {
    return check(cudaGraphLaunch((cudaGraphExec_t)recording, NULL), "launching a graph");
}

static void record_free(void *recording) {
    if (recording) (void)cudaGraphExecDestroy((cudaGraphExec_t)recording);
}

const qn_device_row qn_cuda_device = {
    .name = "cuda",
    .separate = true,
    .align = 256,
    .open = open_device,
    .describe = describe,
    .alloc = alloc,
    .release = release,
    .alloc_host = alloc_host,
    .release_host = release_host,
    .copy = copy,
    .fill = fill,
    .synchronize = synchronize,
    .stream_create = stream_create,
    .stream_free = stream_free,
    .event_create = event_create,
    .event_free = event_free,
    .event_record = event_record,
    .event_wait = event_wait,
    .event_synchronize = event_synchronize,
    .event_seconds = event_seconds,
    .record_begin = record_begin,
    .record_end = record_end,
    .record_launch = record_launch,
    .record_free = record_free,
};

#endif
