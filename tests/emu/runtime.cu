/* runtime.cu — kernels of test_emu_runtime, each behind a launcher that C can call. */
#include <cuda_runtime.h>
#include <stdint.h>

__device__ int counter = 5;
__constant__ float table[4];

static __global__ void k_axpy(float *y, const float *x, float a, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}

static __global__ void k_symbols(float *y) {
    y[threadIdx.x] = table[threadIdx.x] + counter;
    __syncthreads();
    if (threadIdx.x == 0) counter++;
}

static __global__ void k_trap() { asm volatile("trap;"); }

__global__ void __launch_bounds__(128) k_bounded(float *y) { y[threadIdx.x] = 1; }

static __global__ void k_shared(float *y) {
    extern __shared__ float s[];
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}

struct pair {
    double d;
    char c;
};
/* Arguments of several sizes, with gaps between them. */
static __global__ void k_arguments(double *out, char a, double b, short c, pair p, uint64_t d) {
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = p.d;
    out[4] = p.c;
    out[5] = (double)d;
}

extern "C" int runtime_axpy(float *y, const float *x, float a, int n, cudaStream_t s) {
    k_axpy<<<(n + 63) / 64, 64, 0, s>>>(y, x, a, n);
    return cudaGetLastError();
}
extern "C" int runtime_symbols(float *y) {
    k_symbols<<<1, 4>>>(y);
    return cudaGetLastError();
}
extern "C" int runtime_set_symbols(const float *values, int *count) {
    cudaError_t e = cudaMemcpyToSymbol(table, values, 4 * sizeof(float));
    if (!e) e = cudaMemcpyFromSymbol(count, counter, sizeof(int));
    return e;
}
extern "C" int runtime_past_symbol(const float *values) {
    return cudaMemcpyToSymbol(table, values, 5 * sizeof(float));
}
extern "C" int runtime_trap(void) {
    k_trap<<<1, 1>>>();
    return cudaGetLastError();
}
extern "C" int runtime_bounded(float *y, int threads) {
    k_bounded<<<1, threads>>>(y);
    return cudaGetLastError();
}
extern "C" int runtime_shared(float *y, dim3 grid, dim3 block, size_t shared) {
    k_shared<<<grid, block, shared>>>(y);
    return cudaGetLastError();
}
extern "C" int runtime_allow_shared(int bytes) {
    return cudaFuncSetAttribute(k_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}
extern "C" int runtime_occupancy(int threads, size_t shared) {
    int n = -1;
    cudaError_t e = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, k_shared, threads, shared);
    return e ? -(int)e : n;
}
extern "C" int runtime_bounds_of(int *threads) {
    cudaFuncAttributes a;
    cudaError_t e = cudaFuncGetAttributes(&a, k_bounded);
    *threads = a.maxThreadsPerBlock;
    return e;
}
extern "C" int runtime_arguments(double *out) {
    pair p = {2.5, 'p'};
    k_arguments<<<1, 1>>>(out, 'a', 1.5, -3, p, 1ull << 40);
    return cudaGetLastError();
}
