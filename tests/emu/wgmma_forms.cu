/* wgmma_forms.cu — one warpgroup product in each of its forms, as inline PTX. */
#include <cuda_runtime.h>

#include <stdint.h>

#include "tests/emu/wgmma_forms.h"

enum { IMAGE = WGMMA_IMAGE };

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
template <int FORM> __global__ void __launch_bounds__(128) one_product(wgmma_case) {}
#else

#define D8                                                                                         \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
#define HEAD           "{ .reg .pred p; setp.ne.b32 p, %10, 0;\n wgmma.mma_async.sync.aligned."
#define HEAD_REGISTERS "{ .reg .pred p; setp.ne.b32 p, %13, 0;\n wgmma.mma_async.sync.aligned."
#define REGISTERS      " {%0,%1,%2,%3,%4,%5,%6,%7}, "
/* A from shared memory; tail: the immediates. */
#define FROM_SHARED(shape, tail)                                                                   \
    asm volatile(HEAD shape REGISTERS "%8, %9, p, " tail "; }" : D8 : "l"(a), "l"(b), "r"(add))
#define FROM_REGISTERS(shape, tail)                                                                \
    asm volatile(HEAD_REGISTERS shape REGISTERS "{%8,%9,%10,%11}, %12, p, " tail "; }"             \
                 : D8                                                                              \
                 : "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]), "l"(b), "r"(add))

template <int FORM>
static __device__ __forceinline__ void product(float (&d)[8], uint64_t a, uint64_t b,
                                               const uint32_t (&r)[4], int add) {
    if (FORM == 0) FROM_SHARED("m64n16k16.f32.bf16.bf16", "1, 1, 0, 0");
    if (FORM == 1) FROM_SHARED("m64n16k16.f32.bf16.bf16", "1, 1, 1, 0");
    if (FORM == 2) FROM_SHARED("m64n16k16.f32.bf16.bf16", "1, 1, 0, 1");
    if (FORM == 3) FROM_SHARED("m64n16k16.f32.f16.f16", "-1, 1, 1, 1");
    if (FORM == 4) FROM_SHARED("m64n16k16.f32.f16.f16", "1, -1, 0, 0");
    if (FORM == 5) FROM_SHARED("m64n16k8.f32.tf32.tf32", "1, 1");
    if (FORM == 6) FROM_SHARED("m64n16k32.f32.e4m3.e5m2", "1, 1");
    if (FORM == 7) FROM_REGISTERS("m64n16k16.f32.bf16.bf16", "1, 1, 1");
    if (FORM == 8) FROM_REGISTERS("m64n16k16.f32.f16.f16", "-1, 1, 0");
    if (FORM == 9) FROM_REGISTERS("m64n16k8.f32.tf32.tf32", "1, 1");
    if (FORM == 10) FROM_REGISTERS("m64n16k32.f32.e5m2.e4m3", "1, 1");
}

template <int FORM> __global__ void __launch_bounds__(128) one_product(wgmma_case c) {
    extern __shared__ __align__(1024) uint4 image[];
    uint32_t base = (uint32_t)__cvta_generic_to_shared(image);
    float d[8];
    uint32_t r[4];
    for (uint32_t i = threadIdx.x; i < IMAGE / 16; i += 128) {
        image[i] = ((const uint4 *)c.a)[i];
        image[IMAGE / 16 + i] = ((const uint4 *)c.b)[i];
    }
    for (int i = 0; i < 8; i++) d[i] = c.d[8 * threadIdx.x + i];
    for (int i = 0; i < 4; i++) r[i] = c.r[4 * threadIdx.x + i];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    product<FORM>(d, c.desc_a + (base >> 4), c.desc_b + ((base + IMAGE) >> 4), r, c.add);
    asm volatile("wgmma.commit_group.sync.aligned;\n wgmma.wait_group.sync.aligned 0;" ::
                     : "memory");
    for (int i = 0; i < 8; i++) c.d[8 * threadIdx.x + i] = d[i];
}
#endif

extern "C" int wgmma_run(int form, const wgmma_case *c) {
    void (*const forms[])(wgmma_case) = {one_product<0>, one_product<1>, one_product<2>,
                                         one_product<3>, one_product<4>, one_product<5>,
                                         one_product<6>, one_product<7>, one_product<8>,
                                         one_product<9>, one_product<10>};
    forms[form]<<<1, 128, 2 * IMAGE + 1024>>>(*c);
    cudaError_t e = cudaGetLastError(), f = cudaDeviceSynchronize();
    return (int)(e != cudaSuccess ? e : f);
}
