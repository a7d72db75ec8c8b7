/* cudart_launch.c — launches in all their spellings, attributes of kernels, occupancy. */
#include "kernels/emu/cudart.h"

#include <stdlib.h>
#include <string.h>

enum { PARAM_ALIGN = 128, NOMINAL_REGISTERS = 32 };

/* What <<<>>> leaves for the stub that nvcc generates. */
static struct {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
} pushed;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared,
                                     struct CUstream_st *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream);
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args,
                               size_t shared, cudaStream_t stream);

/* ---- launches -------------------------------------------------------------------------------- */

typedef struct request {
    const void *host;
    dim3 grid, block, cluster;
    bool has_cluster, cooperative;
    size_t shared;
    cudaStream_t stream;
    void **args;
} request;

static qe_shape shape_of(dim3 d) { return (qe_shape){d.x, d.y, d.z}; }

static cudaError_t refuse(const qe_function *f, cudaError_t e, const char *why) {
    qe_report(QE_BUG_LAUNCH, NULL, NULL, NULL, "kernel %s: %s", f->name, why);
    return qe_error(e);
}

static cudaError_t check_shared(const qe_function *f, size_t shared) {
    size_t total = f->kernel->static_shared + shared;
    if (total > qe_device_profile()->shared_per_block) {
        return refuse(f, cudaErrorInvalidValue,
                      "more shared memory than the device has for a block");
    }
    if (total > QE_SHARED_DEFAULT && shared > f->max_dynamic) {
        return refuse(f, cudaErrorInvalidValue,
                      "more than 48 KB of shared memory without "
                      "cudaFuncAttributeMaxDynamicSharedMemorySize");
    }
    return cudaSuccess;
}

/* The parameters as the kernel reads them: in one buffer, aligned for the strictest. */
static bool copy_params(qe_op *op, const qe_kernel *k, void **args) {
    size_t bytes = (k->param_bytes + PARAM_ALIGN) / PARAM_ALIGN * PARAM_ALIGN;
    char *p = aligned_alloc(PARAM_ALIGN, bytes);
    if (!p) return false;
    memset(p, 0, bytes);
    for (uint32_t i = 0; i < k->n_params; i++) {
        memcpy(p + k->params[i].offset, args[i], k->params[i].bytes);
    }
    op->u.launch.params = p;
    return true;
}

static cudaError_t check_co_residency(const qe_function *f, const request *r) {
    uint64_t blocks = (uint64_t)r->grid.x * r->grid.y * r->grid.z;
    uint32_t threads = r->block.x * r->block.y * r->block.z;
    uint64_t fit =
        (uint64_t)qe_cfg.sms * qe_blocks_that_fit(f->kernel, threads, (uint32_t)r->shared);
    if (!r->cooperative || blocks <= fit) return cudaSuccess;
    return refuse(f, cudaErrorCooperativeLaunchTooLarge,
                  "a cooperative launch of more blocks than the device holds");
}

static cudaError_t launch(const request *r) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_stream *s = qe_stream_of(r->stream);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    qe_function *f = qe_function_find(r->host);
    if (!f) return qe_error(cudaErrorInvalidDeviceFunction);
    e = check_shared(f, r->shared);
    if (e) return e;
    const uint32_t *required = f->kernel->required_cluster;
    qe_shape cluster = r->has_cluster ? shape_of(r->cluster) : (qe_shape){1, 1, 1};
    if (!r->has_cluster && required[0]) {
        cluster = (qe_shape){required[0], required[1], required[2]};
    }
    const char *problem = qe_launch_problem(f->kernel, shape_of(r->grid), shape_of(r->block),
                                            cluster, (uint32_t)r->shared);
    if (problem) return refuse(f, cudaErrorInvalidConfiguration, problem);
    e = check_co_residency(f, r);
    if (e) return e;
    qe_op *op = qe_op_new(QE_OP_LAUNCH);
    if (!op || !copy_params(op, f->kernel, r->args)) {
        qe_op_drop(op);
        return qe_error(cudaErrorMemoryAllocation);
    }
    op->u.launch.function = f;
    op->u.launch.grid = shape_of(r->grid);
    op->u.launch.block = shape_of(r->block);
    op->u.launch.cluster = cluster;
    op->u.launch.dynamic_shared = (uint32_t)r->shared;
    return qe_submit(s, op);
}

cudaError_t cudaLaunchKernel(const void *func, dim3 grid, dim3 block, void **args, size_t shared,
                             cudaStream_t stream) {
    request r = {.host = func,
                 .grid = grid,
                 .block = block,
                 .shared = shared,
                 .stream = stream,
                 .args = args};
    return launch(&r);
}

cudaError_t cudaLaunchCooperativeKernel(const void *func, dim3 grid, dim3 block, void **args,
                                        size_t shared, cudaStream_t stream) {
    request r = {.host = func,
                 .grid = grid,
                 .block = block,
                 .cooperative = true,
                 .shared = shared,
                 .stream = stream,
                 .args = args};
    return launch(&r);
}

/* Priorities and programmatic dependence change when work runs, not what it computes. */
static bool read_attributes(const cudaLaunchConfig_t *config, request *r) {
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const cudaLaunchAttribute *a = &config->attrs[i];
        switch (a->id) {
        case cudaLaunchAttributeClusterDimension:
            r->cluster = (dim3){a->val.clusterDim.x, a->val.clusterDim.y, a->val.clusterDim.z};
            r->has_cluster = true;
            break;
        case cudaLaunchAttributeCooperative: r->cooperative = a->val.cooperative != 0; break;
        case cudaLaunchAttributeIgnore:
        case cudaLaunchAttributePriority:
        case cudaLaunchAttributeProgrammaticStreamSerialization:
        case cudaLaunchAttributeClusterSchedulingPolicyPreference:
        case cudaLaunchAttributePreferredSharedMemoryCarveout: break;
        default: return false;
        }
    }
    return true;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *func, void **args) {
    request r = {.host = func,
                 .grid = config->gridDim,
                 .block = config->blockDim,
                 .shared = config->dynamicSmemBytes,
                 .stream = config->stream,
                 .args = args};
    if (!read_attributes(config, &r)) return qe_error(cudaErrorNotSupported);
    return launch(&r);
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared,
                                     struct CUstream_st *stream) {
    pushed.grid = grid;
    pushed.block = block;
    pushed.shared = shared;
    pushed.stream = stream;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = pushed.grid;
    *block = pushed.block;
    *shared = pushed.shared;
    *(cudaStream_t *)stream = pushed.stream;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) {
    *kernel = (cudaKernel_t)(uintptr_t)function;
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args,
                               size_t shared, cudaStream_t stream) {
    return cudaLaunchKernel(kernel, grid, block, args, shared, stream);
}

/* ---- attributes of kernels ------------------------------------------------------------------- */

cudaError_t cudaFuncSetAttribute(const void *func, enum cudaFuncAttribute attr, int value) {
    cudaError_t e = qe_enter();
    if (e) return e;
    qe_function *f = qe_function_find(func);
    if (!f) return qe_error(cudaErrorInvalidDeviceFunction);
    uint32_t most = qe_device_profile()->shared_per_block;
    switch (attr) {
    case cudaFuncAttributeMaxDynamicSharedMemorySize:
        if (value < 0 || (uint64_t)value + f->kernel->static_shared > most) {
            return qe_error(cudaErrorInvalidValue);
        }
        f->max_dynamic = (uint32_t)value;
        return cudaSuccess;
    case cudaFuncAttributePreferredSharedMemoryCarveout:
        if (value < -1 || value > 100) return qe_error(cudaErrorInvalidValue);
        f->carveout = value;
        return cudaSuccess;
    case cudaFuncAttributeNonPortableClusterSizeAllowed:
        f->large_clusters = value;
        return cudaSuccess;
    default: return qe_error(cudaErrorInvalidValue);
    }
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attr, const void *func) {
    cudaError_t e = qe_enter();
    if (e) return e;
    const qe_function *f = qe_function_find(func);
    if (!f) return qe_error(cudaErrorInvalidDeviceFunction);
    const qe_kernel *k = f->kernel;
    memset(attr, 0, sizeof *attr);
    attr->sharedSizeBytes = k->static_shared;
    attr->localSizeBytes = k->local_bytes;
    attr->maxThreadsPerBlock = k->max_threads ? (int)k->max_threads : QE_MAX_THREADS;
    attr->numRegs = NOMINAL_REGISTERS;
    attr->ptxVersion = attr->binaryVersion = (int)k->module->arch;
    attr->maxDynamicSharedSizeBytes =
        f->max_dynamic ? (int)f->max_dynamic : QE_SHARED_DEFAULT - (int)k->static_shared;
    attr->preferredShmemCarveout = f->carveout;
    attr->clusterDimMustBeSet = 0;
    attr->requiredClusterWidth = (int)k->required_cluster[0];
    attr->requiredClusterHeight = (int)k->required_cluster[1];
    attr->requiredClusterDepth = (int)k->required_cluster[2];
    attr->nonPortableClusterSizeAllowed = f->large_clusters;
    return cudaSuccess;
}

/* ---- occupancy ------------------------------------------------------------------------------- */

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *func,
                                                                   int threads, size_t shared,
                                                                   unsigned flags) {
    (void)flags;
    cudaError_t e = qe_enter();
    if (e) return e;
    const qe_function *f = qe_function_find(func);
    if (!f) return qe_error(cudaErrorInvalidDeviceFunction);
    if (threads < 1) return qe_error(cudaErrorInvalidValue);
    size_t total = shared + f->kernel->static_shared;
    bool allowed = total <= QE_SHARED_DEFAULT || shared <= f->max_dynamic;
    *blocks = allowed ? (int)qe_blocks_that_fit(f->kernel, (uint32_t)threads, (uint32_t)shared) : 0;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *func,
                                                          int threads, size_t shared) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, func, threads, shared, 0);
}

cudaError_t cudaOccupancyMaxActiveClusters(int *clusters, const void *func,
                                           const cudaLaunchConfig_t *config) {
    request r = {.cluster = {1, 1, 1}};
    int blocks = 0;
    if (!read_attributes(config, &r)) return qe_error(cudaErrorNotSupported);
    int threads = (int)(config->blockDim.x * config->blockDim.y * config->blockDim.z);
    cudaError_t e = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, func, threads,
                                                                  config->dynamicSmemBytes);
    if (e) return e;
    unsigned size = r.cluster.x * r.cluster.y * r.cluster.z;
    if (size == 0 || size > qe_device_profile()->max_cluster) {
        return qe_error(cudaErrorInvalidClusterSize);
    }
    *clusters = (int)((unsigned)blocks * qe_cfg.sms / size);
    return cudaSuccess;
}
