/* control_calls.cu — calls that are not inlined: recursion, aggregates by value, pointers to
 * functions and virtual functions; a table of branches, printf, assert and trap.
 */
#include <cassert>
#include <cstdio>

struct twelve {
    float v[12];
};

static __device__ __noinline__ int fibonacci(int n) {
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}
static __device__ __noinline__ twelve doubled(twelve b, double by) {
    for (int i = 0; i < 12; i++) b.v[i] = (float)(b.v[i] * by);
    return b;
}

typedef float function(float);
static __device__ __noinline__ float plus_one(float x) { return x + 1.0f; }
static __device__ __noinline__ float squared(float x) { return x * x; }
__device__ function *functions[2] = {plus_one, squared};

struct shape {
    __device__ virtual float area(float x) const = 0;
};
struct square : shape {
    __device__ float area(float x) const override { return x * x; }
};
struct disc : shape {
    __device__ float area(float x) const override { return 3.0f * x * x; }
};

extern "C" __global__ void calls(float *y, const int *n) {
    int i = threadIdx.x;
    twelve b;
    for (int k = 0; k < 12; k++) b.v[k] = (float)(k + i);
    b = doubled(b, 2.0);
    square s;
    disc d;
    const shape *p = i & 1 ? (const shape *)&s : (const shape *)&d;
    y[4 * i] = (float)fibonacci(n[i]);
    y[4 * i + 1] = b.v[n[i] % 12];
    y[4 * i + 2] = functions[i & 1]((float)i);
    y[4 * i + 3] = p->area((float)i);
}

extern "C" __global__ void ways(int *y, const int *x) {
    int i = threadIdx.x, r = x[i];
    switch (r & 7) {
    case 0: r += 11; break;
    case 1: r *= 7; break;
    case 2: r = -r; break;
    case 3: r ^= 0x55; break;
    case 4: r <<= 3; break;
    case 5: r = __popc(r); break;
    case 6: r = r / 3; break;
    default: r = 0; break;
    }
    y[i] = r;
}

extern "C" __global__ void prints(int n) {
    if (threadIdx.x == 1)
        printf("%s %d %u %lld %5.2f|%-4c|%x %%\n", "text", -n, (unsigned)n, 1ll << 40, 2.5, 'c',
               255);
}

extern "C" __global__ void asserts(int n) { assert(n > 3); }
extern "C" __global__ void traps() { __trap(); }
