/* test_emu_runtime.c — the emulated CUDA runtime as a program sees it: memory, launches, errors. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/emu/machine.h"

int runtime_axpy(float *y, const float *x, float a, int n, cudaStream_t s);
int runtime_symbols(float *y);
int runtime_set_symbols(const float *values, int *count);
int runtime_past_symbol(const float *values);
int runtime_trap(void);
int runtime_bounded(float *y, int threads);
int runtime_shared(float *y, dim3 grid, dim3 block, size_t shared);
int runtime_allow_shared(int bytes);
int runtime_occupancy(int threads, size_t shared);
int runtime_bounds_of(int *threads);
int runtime_arguments(double *out);

enum { N = 1000 };

static void configure(const char *text) {
    assert_true(qe_configure("defaults,quiet=1"));
    assert_true(qe_configure(text));
}

/* Every test begins with a fresh device and ends with no finding left. */
static int set_up(void **state) {
    (void)state;
    configure("");
    return (int)cudaDeviceReset();
}
static int tear_down(void **state) {
    (void)state;
    for (int i = 0; i < qe_findings(); i++) print_error("%s\n", qe_finding_text(i));
    return qe_findings();
}

/* The finding there must be, and no other. */
static void assert_found(qe_finding kind, const char *part) {
    assert_int_equal(qe_findings(), 1);
    if (!strstr(qe_finding_text(0), part)) print_error("%s\n", qe_finding_text(0));
    assert_int_equal(qe_findings_of(kind), 1);
    assert_non_null(strstr(qe_finding_text(0), part));
    qe_findings_clear();
}

static void *device(size_t bytes) {
    void *p = NULL;
    assert_int_equal(cudaMalloc(&p, bytes), 0);
    assert_non_null(p);
    return p;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void test_memory(void **state) {
    (void)state;
    char text[] = "sixteen letters", back[16] = "";
    char *a = device(16), *b = device(16);
    assert_int_equal((uintptr_t)a % 256, 0);
    assert_int_equal(cudaMemcpy(a, text, 16, cudaMemcpyHostToDevice), 0);
    assert_int_equal(cudaMemcpy(b, a, 16, cudaMemcpyDeviceToDevice), 0);
    assert_int_equal(cudaMemset(b + 7, '-', 1), 0);
    assert_int_equal(cudaMemcpy(back, b, 16, cudaMemcpyDefault), 0);
    assert_string_equal(back, "sixteen-letters");
    char rows[12] = "abcdefghijk", small[6];
    assert_int_equal(cudaMemcpy2D(a, 5, rows, 4, 2, 3, cudaMemcpyHostToDevice), 0);
    assert_int_equal(cudaMemcpy2D(small, 2, a, 5, 2, 3, cudaMemcpyDeviceToHost), 0);
    assert_memory_equal(small, "abefij", 6);
    assert_int_equal(cudaFree(a), 0);
    assert_int_equal(cudaFree(NULL), 0);
    assert_int_equal(cudaFree(b), 0);
}

static void test_budget(void **state) {
    (void)state;
    size_t available, total;
    void *p;
    configure("memory=1M");
    char *a = device(600 << 10);
    assert_int_equal(cudaMalloc(&p, 600 << 10), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(cudaMemGetInfo(&available, &total), 0);
    assert_int_equal(total, 1 << 20);
    assert_int_equal(available, 424 << 10);
    assert_int_equal(cudaFree(a), 0);
    assert_int_equal(cudaFree(device(1 << 20)), 0);
    configure("memory=200M"); /* and again, more often than there are addresses */
    for (int i = 0; i < 100; i++) assert_int_equal(cudaFree(device(200 << 20)), 0);
}

static void test_wrong_memory(void **state) {
    (void)state;
    static char host[128];
    char *a = device(100);
    assert_int_equal(cudaMemcpy(a, host, 101, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_found(QE_BUG_MEMORY, "writes 101 bytes at offset 0 of an allocation of 100");
    assert_int_equal(cudaMemcpy(host, a + 90, 11, cudaMemcpyDefault), cudaErrorInvalidValue);
    assert_found(QE_BUG_MEMORY, "reads 11 bytes at offset 90");
    assert_int_equal(cudaMemset(a, 0, 101), cudaErrorInvalidValue);
    assert_found(QE_BUG_MEMORY, "a memset writes 101 bytes");
    assert_int_equal(cudaMemset(host, 0, 4), cudaErrorInvalidValue);
    assert_found(QE_BUG_MEMORY, "host memory");
    assert_int_equal(cudaMemcpy(a, host, 4, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
    assert_found(QE_BUG_MEMORY, "from host to device memory");
    assert_int_equal(cudaFree(a + 1), cudaErrorInvalidValue);
    assert_found(QE_BUG_MEMORY, "not a live allocation");
    assert_int_equal(cudaFree(a), 0);
    assert_int_equal(cudaFree(a), cudaErrorInvalidValue);
    assert_found(QE_BUG_MEMORY, "not a live allocation");
    assert_int_equal(cudaMemcpy(a, host, 4, cudaMemcpyDefault), cudaErrorInvalidValue);
    assert_found(QE_BUG_MEMORY, "in no live allocation");
    assert_int_equal(cudaFreeHost(host), cudaErrorInvalidValue);
    assert_found(QE_BUG_MEMORY, "cudaFreeHost");
    (void)cudaGetLastError();
}

/* In a child: it does not survive. */
static void test_host_touches_device_memory(void **state) {
    (void)state;
    configure("guard=1");
    char *a = device(64), text[200] = "";
    int status, ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        ((volatile char *)a)[7] = 1;
        _exit(0);
    }
    assert_int_equal(close(ends[1]), 0);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 86);
    assert_non_null(strstr(text, "host code touches device memory"));
    assert_non_null(strstr(text, "offset 7"));
    assert_int_equal(cudaFree(a), 0);
}

/* What is queued may find its memory gone when its turn comes. */
static void test_memory_freed_too_early(void **state) {
    (void)state;
    cudaStream_t s, other;
    configure("streams=late");
    char *a = device(64), *host;
    assert_int_equal(cudaMallocHost((void **)&host, 64), 0);
    assert_int_equal(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), 0);
    assert_int_equal(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), 0);
    assert_int_equal(cudaMemcpyAsync(host, a, 64, cudaMemcpyDefault, s), 0);
    assert_int_equal(cudaFreeAsync(a, other), 0);
    assert_int_equal(cudaStreamSynchronize(other), 0);
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorIllegalAddress);
    assert_found(QE_BUG_MEMORY, "a copy reads 64 bytes");
    assert_int_equal(cudaDeviceReset(), 0);
}

static void test_pointers(void **state) {
    (void)state;
    struct cudaPointerAttributes p;
    char local;
    void *pinned, *same;
    char *a = device(8);
    assert_int_equal(cudaHostAlloc(&pinned, 10, cudaHostAllocMapped), 0);
    assert_int_equal(cudaPointerGetAttributes(&p, a + 3), 0);
    assert_int_equal(p.type, cudaMemoryTypeDevice);
    assert_ptr_equal(p.devicePointer, a + 3);
    assert_int_equal(cudaPointerGetAttributes(&p, pinned), 0);
    assert_int_equal(p.type, cudaMemoryTypeHost);
    assert_int_equal(cudaPointerGetAttributes(&p, &local), 0);
    assert_int_equal(p.type, cudaMemoryTypeUnregistered);
    assert_int_equal(cudaHostRegister(&local, 1, 0), 0);
    assert_int_equal(cudaPointerGetAttributes(&p, &local), 0);
    assert_int_equal(p.type, cudaMemoryTypeHost);
    assert_int_equal(cudaHostUnregister(&local), 0);
    assert_int_equal(cudaHostGetDevicePointer(&same, pinned, 0), 0);
    assert_ptr_equal(same, pinned);
    assert_int_equal(cudaFreeHost(pinned), 0);
    assert_int_equal(cudaFree(a), 0);
}

static void test_symbols(void **state) {
    (void)state;
    const float values[5] = {10, 20, 30, 40, 50};
    float back[4];
    int count;
    float *y = device(sizeof back);
    assert_int_equal(runtime_set_symbols(values, &count), 0);
    assert_int_equal(runtime_symbols(y), 0);
    assert_int_equal(cudaMemcpy(back, y, sizeof back, cudaMemcpyDefault), 0);
    for (int i = 0; i < 4; i++) assert_true(back[i] == values[i] + (float)count);
    int again;
    assert_int_equal(runtime_set_symbols(values, &again), 0);
    assert_int_equal(again, count + 1);
    assert_int_equal(runtime_past_symbol(values), cudaErrorInvalidValue);
    assert_found(QE_BUG_MEMORY, "20 bytes at offset 0 of a symbol of 16");
    (void)cudaGetLastError();
    assert_int_equal(cudaFree(y), 0);
}

/* ---- launches -------------------------------------------------------------------------------- */

static void test_arguments(void **state) {
    (void)state;
    double out[6];
    double *d = device(sizeof out);
    assert_int_equal(runtime_arguments(d), 0);
    assert_int_equal(cudaMemcpy(out, d, sizeof out, cudaMemcpyDefault), 0);
    assert_true(out[0] == 'a' && out[1] == 1.5 && out[2] == -3);
    assert_true(out[3] == 2.5 && out[4] == 'p' && out[5] == 1099511627776.0);
    assert_int_equal(cudaFree(d), 0);
}

static void refused(int found, cudaError_t expected, const char *part) {
    assert_int_equal(found, expected);
    assert_int_equal(cudaPeekAtLastError(), 0); /* the launcher has asked already */
    assert_found(QE_BUG_LAUNCH, part);
}

static void test_launch_limits(void **state) {
    (void)state;
    float *y = device(4096);
    dim3 one = {1, 1, 1}, none = {0, 1, 1}, full = {1024, 1, 1}, over = {1025, 1, 1};
    dim3 deep = {1, 1, 65}, tall = {1, 65536, 1};
    int threads;
    assert_int_equal(runtime_shared(y, one, full, 4096), 0);
    refused(runtime_shared(y, one, over, 4100), cudaErrorInvalidConfiguration, "1024 threads");
    refused(runtime_shared(y, one, deep, 4100), cudaErrorInvalidConfiguration, "64 in z");
    refused(runtime_shared(y, none, one, 4), cudaErrorInvalidConfiguration, "empty grid");
    refused(runtime_shared(y, tall, one, 4), cudaErrorInvalidConfiguration, "65535");
    refused(runtime_shared(y, one, none, 4), cudaErrorInvalidConfiguration, "empty block");
    assert_int_equal(runtime_bounded(y, 128), 0);
    refused(runtime_bounded(y, 129), cudaErrorInvalidConfiguration, "__launch_bounds__");
    assert_int_equal(runtime_bounds_of(&threads), 0);
    assert_int_equal(threads, 128);
    assert_int_equal(cudaFree(y), 0);
}

static void test_shared_memory_limits(void **state) {
    (void)state;
    static const struct {
        const char *device;
        int most, fit; /* bytes by attribute; blocks of 32 threads and 32 KB on a multiprocessor */
    } rows[] = {
        {"device=8.0", 163 << 10, 4}, {"device=8.9", 99 << 10, 3}, {"device=9.0", 227 << 10, 6}};
    dim3 one = {1, 1, 1}, warp = {32, 1, 1};
    for (int i = 0; i < 3; i++) {
        configure(rows[i].device);
        float *y = device(128);
        size_t most = (size_t)rows[i].most;
        assert_int_equal(runtime_allow_shared(0), 0);
        assert_int_equal(runtime_shared(y, one, warp, 48 << 10), 0);
        refused(runtime_shared(y, one, warp, (48 << 10) + 4), cudaErrorInvalidValue,
                "cudaFuncAttributeMaxDynamicSharedMemorySize");
        assert_int_equal(runtime_allow_shared(rows[i].most), 0);
        assert_int_equal(runtime_shared(y, one, warp, most), 0);
        assert_int_equal(runtime_allow_shared(rows[i].most + 1), cudaErrorInvalidValue);
        assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
        refused(runtime_shared(y, one, warp, most + 4), cudaErrorInvalidValue,
                "more shared memory than");
        assert_int_equal(runtime_occupancy(32, 32 << 10), rows[i].fit);
        assert_int_equal(cudaFree(y), 0);
    }
    configure("device=9.0");
    assert_int_equal(runtime_occupancy(1024, 0), 2);
    configure("device=8.9");
    assert_int_equal(runtime_occupancy(1024, 0), 1);
    assert_int_equal(runtime_occupancy(32, 0), 24);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void test_errors_stick(void **state) {
    (void)state;
    void *p;
    float *x = device(4 * N);
    (void)runtime_trap();
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaMalloc(&p, 4), cudaErrorLaunchFailure);
    assert_int_equal(runtime_axpy(x, x, 1, N, NULL), cudaErrorLaunchFailure);
    assert_int_equal(cudaMemset(x, 0, 4), cudaErrorLaunchFailure);
    assert_string_equal(cudaGetErrorName(cudaErrorLaunchFailure), "cudaErrorLaunchFailure");
    assert_string_equal(cudaGetErrorString(cudaErrorLaunchFailure), "unspecified launch failure");
    assert_found(QE_BUG_TRAP, "k_trap");
    assert_int_equal(cudaDeviceReset(), 0);
    assert_int_equal(cudaDeviceSynchronize(), 0);
    x = device(4 * N);
    assert_int_equal(cudaMemset(x, 0, 4 * N), 0);
    assert_int_equal(runtime_axpy(x, x, 1, N, NULL), 0);
    assert_int_equal(cudaFree(x), 0);
}

static void test_no_device(void **state) {
    (void)state;
    int n = -1, driver = -1;
    void *p;
    configure("devices=0");
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    assert_int_equal(n, 0);
    assert_int_equal(cudaDriverGetVersion(&driver), 0);
    assert_int_equal(driver, 0);
    assert_int_equal(cudaMalloc(&p, 4), cudaErrorNoDevice);
    assert_int_equal(cudaSetDevice(0), cudaErrorNoDevice);
    configure("");
    (void)cudaGetLastError();
    assert_int_equal(cudaGetDeviceCount(&n), 0);
    assert_int_equal(n, 1);
}

static void test_device(void **state) {
    (void)state;
    struct cudaDeviceProp p;
    int value;
    configure("device=8.9,sms=7");
    assert_int_equal(cudaGetDeviceProperties(&p, 0), 0);
    assert_int_equal(p.major * 10 + p.minor, 89);
    assert_int_equal(p.multiProcessorCount, 7);
    assert_int_equal(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0), 0);
    assert_int_equal(value, 7);
    assert_int_equal(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), 0);
    assert_int_equal(value, 99 << 10);
    assert_int_equal(cudaGetDeviceProperties(&p, 1), cudaErrorInvalidDevice);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidDevice);
    assert_false(qe_configure("device=7.0"));
    assert_false(qe_configure("seed=x"));
    assert_false(qe_configure("color=red"));
}

static void test_driver_entries(void **state) {
    (void)state;
    void *f = NULL;
    enum cudaDriverEntryPointQueryResult status;
    assert_int_equal(
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, 0, &status), 0);
    assert_int_equal(status, cudaDriverEntryPointSuccess);
    assert_non_null(f);
    assert_int_equal(cudaGetDriverEntryPointByVersion("cuNothing", &f, 12000, 0, &status), 0);
    assert_int_equal(status, cudaDriverEntryPointSymbolNotFound);
    assert_null(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_budget, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_host_touches_device_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_freed_too_early, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pointers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_symbols, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arguments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_launch_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shared_memory_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_errors_stick, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_device, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_device, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_driver_entries, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
