/* cudart_entry.c — the driver's functions that a program finds by name through the runtime. */
#include "kernels/emu/cudart.h"

#include <cuda.h>
#include <string.h>

static CUresult encode_tiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank,
                             void *address, const cuuint64_t *dims, const cuuint64_t *strides,
                             const cuuint32_t *box, const cuuint32_t *steps,
                             CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                             CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
    return (CUresult)qe_tensor_map_encode(map, (int)type, rank, address, dims, strides, box, steps,
                                          (int)interleave, (int)swizzle, (int)promotion, (int)fill);
}

static CUresult error_string(CUresult e, const char **text) {
    *text = cudaGetErrorString((cudaError_t)e); /* the numbers agree */
    return CUDA_SUCCESS;
}

static CUresult error_name(CUresult e, const char **name) {
    *name = cudaGetErrorName((cudaError_t)e);
    return CUDA_SUCCESS;
}

static CUresult driver_version(int *version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

typedef void any_function(void);

static const struct {
    const char *name;
    any_function *function;
} entries[] = {
    {"cuTensorMapEncodeTiled", (any_function *)encode_tiled},
    {"cuGetErrorString", (any_function *)error_string},
    {"cuGetErrorName", (any_function *)error_name},
    {"cuDriverGetVersion", (any_function *)driver_version},
};

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *status) {
    (void)flags;
    cudaError_t e = qe_enter();
    if (e) return e;
    *function = NULL;
    if (status) *status = cudaDriverEntryPointSymbolNotFound;
    if (version > CUDA_VERSION) {
        if (status) *status = cudaDriverEntryPointVersionNotSufficent;
        return cudaSuccess;
    }
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        if (strcmp(entries[i].name, symbol) != 0) continue;
        memcpy(function, &entries[i].function, sizeof *function);
        if (status) *status = cudaDriverEntryPointSuccess;
    }
    return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPoint(const char *symbol, void **function, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *status) {
    return cudaGetDriverEntryPointByVersion(symbol, function, CUDA_VERSION, flags, status);
}
