/* cudart_device.c — the device as the runtime describes it, errors, versions, emulated time. */
#include "kernels/emu/cudart.h"

#include <stdio.h>
#include <string.h>

static cudaError_t last_error, sticky_error;
static double now_us;

/* ---- errors ---------------------------------------------------------------------------------- */

cudaError_t qe_error(cudaError_t e) {
    if (e != cudaSuccess) last_error = e;
    return e;
}

cudaError_t qe_enter(void) {
    if (qe_cfg.devices == 0) return qe_error(cudaErrorNoDevice);
    return qe_error(sticky_error);
}

void qe_stick(cudaError_t e) {
    if (!sticky_error) sticky_error = e;
    (void)qe_error(e);
}

cudaError_t cudaGetLastError(void) {
    cudaError_t e = last_error;
    last_error = sticky_error;
    return e;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

#define ERRORS(X)                                                                                  \
    X(cudaSuccess, "no error")                                                                     \
    X(cudaErrorInvalidValue, "invalid argument")                                                   \
    X(cudaErrorMemoryAllocation, "out of memory")                                                  \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")                             \
    X(cudaErrorInvalidPitchValue, "invalid pitch argument")                                        \
    X(cudaErrorInvalidSymbol, "invalid device symbol")                                             \
    X(cudaErrorInvalidDeviceFunction, "invalid device function")                                   \
    X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version") \
    X(cudaErrorNoDevice, "no CUDA-capable device is detected")                                     \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                                            \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                   \
    X(cudaErrorIllegalState, "the operation cannot be performed in the present state")             \
    X(cudaErrorNotReady, "device not ready")                                                       \
    X(cudaErrorIllegalAddress, "an illegal memory access was encountered")                         \
    X(cudaErrorHostMemoryAlreadyRegistered, "part or all of the requested memory range is "        \
                                            "already mapped")                                      \
    X(cudaErrorLaunchFailure, "unspecified launch failure")                                        \
    X(cudaErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch")                 \
    X(cudaErrorNotPermitted, "operation not permitted")                                            \
    X(cudaErrorNotSupported, "operation not supported")                                            \
    X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")       \
    X(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during "        \
                                         "capture")                                                \
    X(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture "        \
                                   "sequences")                                                    \
    X(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began")     \
    X(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work")                        \
    X(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream")  \
    X(cudaErrorStreamCaptureImplicit, "operation would make the legacy stream depend on a "        \
                                      "capturing blocking stream")                                 \
    X(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing "  \
                              "stream")                                                            \
    X(cudaErrorGraphExecUpdateFailure, "the graph update was not performed because it included "   \
                                       "changes which violated constraints specific to "           \
                                       "instantiated graph update")                                \
    X(cudaErrorInvalidClusterSize, "cluster misconfiguration")                                     \
    X(cudaErrorSymbolNotFound, "named symbol not found")                                           \
    X(cudaErrorUnknown, "unknown error")

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
#define ROW(id, text) {id, #id, text},
    ERRORS(ROW)
#undef ROW
};
enum { N_ERRORS = sizeof errors / sizeof errors[0] };

static size_t find_error(cudaError_t e) {
    size_t i = 0;
    while (i < N_ERRORS && errors[i].error != e) i++;
    return i;
}

const char *cudaGetErrorName(cudaError_t e) {
    size_t i = find_error(e);
    return i < N_ERRORS ? errors[i].name : "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t e) {
    size_t i = find_error(e);
    return i < N_ERRORS ? errors[i].text : "unrecognized error code";
}

/* ---- time ------------------------------------------------------------------------------------ */

void qe_clock_advance(double microseconds) { now_us += microseconds; }
double qe_clock_now(void) { return now_us; }

/* ---- the device ------------------------------------------------------------------------------ */

cudaError_t cudaGetDeviceCount(int *n) {
    *n = (int)qe_cfg.devices;
    return *n ? cudaSuccess : qe_error(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
    cudaError_t e = qe_enter();
    if (e) return e;
    return device == 0 ? cudaSuccess : qe_error(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return qe_enter();
}

cudaError_t cudaSetDeviceFlags(unsigned flags) {
    (void)flags;
    return qe_enter();
}

cudaError_t cudaDeviceReset(void) {
    if (qe_cfg.devices == 0) return qe_error(cudaErrorNoDevice);
    qe_stream_forget_all();
    qe_memory_free_all();
    qe_host_free_all();
    sticky_error = last_error = cudaSuccess;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = qe_cfg.devices ? CUDART_VERSION : 0;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    cudaError_t e = cudaSetDevice(device);
    if (e) return e;
    const qe_profile *d = qe_device_profile();
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", d->name);
    p->totalGlobalMem = qe_cfg.memory;
    p->sharedMemPerBlock = QE_SHARED_DEFAULT;
    p->sharedMemPerBlockOptin = d->shared_per_block;
    p->sharedMemPerMultiprocessor = d->shared_per_sm;
    p->reservedSharedMemPerBlock = QE_SHARED_RESERVED;
    p->regsPerBlock = p->regsPerMultiprocessor = QE_REGISTERS;
    p->warpSize = 32;
    p->memPitch = INT32_MAX;
    p->maxThreadsPerBlock = QE_MAX_THREADS;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = INT32_MAX;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->totalConstMem = 65536;
    p->major = d->compute / 10;
    p->minor = d->compute % 10;
    p->multiProcessorCount = (int)qe_cfg.sms;
    p->canMapHostMemory = p->concurrentKernels = p->unifiedAddressing = 1;
    p->asyncEngineCount = 2;
    p->memoryBusWidth = 384;
    p->l2CacheSize = (int)d->l2_bytes;
    p->maxThreadsPerMultiProcessor = (int)d->threads_per_sm;
    p->maxBlocksPerMultiProcessor = (int)d->blocks_per_sm;
    p->streamPrioritiesSupported = p->cooperativeLaunch = p->hostRegisterSupported = 1;
    p->memoryPoolsSupported = 1;
    p->clusterLaunch = d->max_cluster > 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    struct cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e) return e;
    const struct {
        enum cudaDeviceAttr attribute;
        int value;
    } rows[] = {
        {cudaDevAttrMaxThreadsPerBlock, p.maxThreadsPerBlock},
        {cudaDevAttrMaxBlockDimX, p.maxThreadsDim[0]},
        {cudaDevAttrMaxBlockDimY, p.maxThreadsDim[1]},
        {cudaDevAttrMaxBlockDimZ, p.maxThreadsDim[2]},
        {cudaDevAttrMaxGridDimX, p.maxGridSize[0]},
        {cudaDevAttrMaxGridDimY, p.maxGridSize[1]},
        {cudaDevAttrMaxGridDimZ, p.maxGridSize[2]},
        {cudaDevAttrMaxSharedMemoryPerBlock, (int)p.sharedMemPerBlock},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, (int)p.sharedMemPerBlockOptin},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, (int)p.sharedMemPerMultiprocessor},
        {cudaDevAttrReservedSharedMemoryPerBlock, (int)p.reservedSharedMemPerBlock},
        {cudaDevAttrTotalConstantMemory, (int)p.totalConstMem},
        {cudaDevAttrWarpSize, p.warpSize},
        {cudaDevAttrMaxPitch, (int)p.memPitch},
        {cudaDevAttrMaxRegistersPerBlock, p.regsPerBlock},
        {cudaDevAttrMaxRegistersPerMultiprocessor, p.regsPerMultiprocessor},
        {cudaDevAttrClockRate, 1000000},
        {cudaDevAttrMemoryClockRate, 1000000},
        {cudaDevAttrGlobalMemoryBusWidth, p.memoryBusWidth},
        {cudaDevAttrL2CacheSize, p.l2CacheSize},
        {cudaDevAttrMultiProcessorCount, p.multiProcessorCount},
        {cudaDevAttrMaxThreadsPerMultiProcessor, p.maxThreadsPerMultiProcessor},
        {cudaDevAttrMaxBlocksPerMultiprocessor, p.maxBlocksPerMultiProcessor},
        {cudaDevAttrComputeCapabilityMajor, p.major},
        {cudaDevAttrComputeCapabilityMinor, p.minor},
        {cudaDevAttrConcurrentKernels, p.concurrentKernels},
        {cudaDevAttrAsyncEngineCount, p.asyncEngineCount},
        {cudaDevAttrUnifiedAddressing, p.unifiedAddressing},
        {cudaDevAttrCanMapHostMemory, p.canMapHostMemory},
        {cudaDevAttrHostRegisterSupported, p.hostRegisterSupported},
        {cudaDevAttrStreamPrioritiesSupported, p.streamPrioritiesSupported},
        {cudaDevAttrCooperativeLaunch, p.cooperativeLaunch},
        {cudaDevAttrClusterLaunch, p.clusterLaunch},
        {cudaDevAttrMemoryPoolsSupported, p.memoryPoolsSupported},
        {cudaDevAttrComputeMode, 0},
        {cudaDevAttrIntegrated, 0},
        {cudaDevAttrEccEnabled, 0},
        {cudaDevAttrManagedMemory, 0},
        {cudaDevAttrPageableMemoryAccess, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].attribute != attribute) continue;
        *value = rows[i].value;
        return cudaSuccess;
    }
    return qe_error(cudaErrorInvalidValue);
}

/* ---- memory pools: one, with nothing to tune ------------------------------------------------- */

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device) {
    static char the_pool;
    *pool = (cudaMemPool_t)(void *)&the_pool;
    return cudaSetDevice(device);
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attr, void *value) {
    (void)attr;
    return pool && value ? qe_enter() : qe_error(cudaErrorInvalidValue);
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t keep) {
    (void)keep;
    return pool ? qe_enter() : qe_error(cudaErrorInvalidValue);
}
