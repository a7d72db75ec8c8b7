/* test_emu_streams.c — streams, events and graphs of the emulated CUDA runtime: what they order
 * holds in every order that is tried, and what they do not order shows.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <cuda_runtime_api.h>

#include "kernels/emu/machine.h"

int streams_affine(float *y, const float *x, float a, float b, int n, cudaStream_t s);

enum { N = 64, BYTES = N * sizeof(float), SEEDS = 10 };

static void configure(const char *text) {
    assert_true(qe_configure("defaults,quiet=1"));
    assert_true(qe_configure(text));
}

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

/* ---- a small program, right or with one mistake ---------------------------------------------- */

typedef enum mistake { NONE, NO_WAIT, BUFFER_REUSED, NO_SYNC } mistake;

typedef struct program {
    cudaStream_t compute, copy;
    cudaEvent_t loaded, done;
    float *x, *y, *staging, *result; /* two on the device, two pinned */
} program;

static void program_open(program *p) {
    assert_int_equal(cudaStreamCreateWithFlags(&p->compute, cudaStreamNonBlocking), 0);
    assert_int_equal(cudaStreamCreateWithPriority(&p->copy, cudaStreamNonBlocking, -1), 0);
    assert_int_equal(cudaEventCreate(&p->loaded), 0);
    assert_int_equal(cudaEventCreateWithFlags(&p->done, cudaEventDisableTiming), 0);
    assert_int_equal(cudaMalloc((void **)&p->x, BYTES), 0);
    assert_int_equal(cudaMalloc((void **)&p->y, BYTES), 0);
    assert_int_equal(cudaMallocHost((void **)&p->staging, BYTES), 0);
    assert_int_equal(cudaMallocHost((void **)&p->result, BYTES), 0);
    assert_int_equal(cudaMemset(p->x, 0, BYTES), 0);
    assert_int_equal(cudaDeviceSynchronize(), 0);
    memset(p->result, 0, BYTES);
}

static void program_close(program *p) {
    assert_int_equal(cudaDeviceSynchronize(), 0);
    assert_int_equal(cudaEventDestroy(p->loaded), 0);
    assert_int_equal(cudaEventDestroy(p->done), 0);
    assert_int_equal(cudaStreamDestroy(p->compute), 0);
    assert_int_equal(cudaStreamDestroy(p->copy), 0);
    assert_int_equal(cudaFree(p->x), 0);
    assert_int_equal(cudaFree(p->y), 0);
    assert_int_equal(cudaFreeHost(p->staging), 0);
    assert_int_equal(cudaFreeHost(p->result), 0);
}

/* Whether the result was right. */
static bool program_run(mistake m) {
    program p;
    program_open(&p);
    for (int i = 0; i < N; i++) p.staging[i] = (float)i;
    assert_int_equal(cudaMemcpyAsync(p.x, p.staging, BYTES, cudaMemcpyDefault, p.copy), 0);
    assert_int_equal(cudaEventRecord(p.loaded, p.copy), 0);
    if (m != NO_WAIT) assert_int_equal(cudaStreamWaitEvent(p.compute, p.loaded, 0), 0);
    assert_int_equal(streams_affine(p.y, p.x, 2, 1, N, p.compute), 0);
    if (m == BUFFER_REUSED) memset(p.staging, 0, BYTES);
    assert_int_equal(cudaMemcpyAsync(p.result, p.y, BYTES, cudaMemcpyDefault, p.compute), 0);
    assert_int_equal(cudaEventRecord(p.done, p.compute), 0);
    if (m != NO_SYNC) assert_int_equal(cudaEventSynchronize(p.done), 0);
    bool right = true;
    for (int i = 0; i < N; i++) right = right && p.result[i] == 2 * (float)i + 1;
    program_close(&p);
    return right;
}

static int wrong_seeds(mistake m) {
    int wrong = 0;
    for (int seed = 0; seed < SEEDS; seed++) {
        char text[32];
        snprintf(text, sizeof text, "streams=any,seed=%d", seed);
        configure(text);
        wrong += !program_run(m);
    }
    return wrong;
}

static void test_orders(void **state) {
    (void)state;
    assert_int_equal(wrong_seeds(NONE), 0);
    assert_in_range(wrong_seeds(NO_WAIT), 1, SEEDS);
    assert_in_range(wrong_seeds(BUFFER_REUSED), 1, SEEDS);
    assert_in_range(wrong_seeds(NO_SYNC), 1, SEEDS);
    configure("streams=late");
    assert_true(program_run(NONE));
    assert_false(program_run(NO_WAIT));
    assert_false(program_run(BUFFER_REUSED));
    assert_false(program_run(NO_SYNC));
    configure("streams=eager"); /* what a test without the emulator would see at best */
    for (mistake m = NONE; m <= NO_SYNC; m++) assert_true(program_run(m));
}

/* ---- the legacy stream ----------------------------------------------------------------------- */

static void test_legacy_stream(void **state) {
    (void)state;
    for (int seed = 0; seed < SEEDS; seed++) {
        cudaStream_t a, b;
        float *x, *y, result[N];
        char text[32];
        snprintf(text, sizeof text, "streams=any,seed=%d", seed);
        configure(text);
        assert_int_equal(cudaStreamCreate(&a), 0);
        assert_int_equal(cudaStreamCreate(&b), 0);
        assert_int_equal(cudaMalloc((void **)&x, BYTES), 0);
        assert_int_equal(cudaMalloc((void **)&y, BYTES), 0);
        assert_int_equal(cudaMemsetAsync(x, 0, BYTES, a), 0);
        assert_int_equal(streams_affine(y, x, 1, 3, N, NULL), 0); /* waits for a */
        assert_int_equal(streams_affine(x, y, 2, 1, N, b), 0);    /* waits for it */
        assert_int_equal(cudaMemcpy(result, x, BYTES, cudaMemcpyDefault), 0);
        for (int i = 0; i < N; i++) assert_true(result[i] == 7);
        assert_int_equal(cudaStreamDestroy(a), 0);
        assert_int_equal(cudaStreamDestroy(b), 0);
        assert_int_equal(cudaFree(x), 0);
        assert_int_equal(cudaFree(y), 0);
    }
}

/* ---- pageable memory is read and written at the call ----------------------------------------- */

static void test_pageable_memory(void **state) {
    (void)state;
    program p;
    configure("streams=late");
    program_open(&p);
    float host[N], back[N];
    for (int i = 0; i < N; i++) host[i] = 5;
    assert_int_equal(cudaMemcpyAsync(p.x, host, BYTES, cudaMemcpyHostToDevice, p.compute), 0);
    for (int i = 0; i < N; i++) host[i] = 6;
    assert_int_equal(cudaMemcpyAsync(back, p.x, BYTES, cudaMemcpyDeviceToHost, p.compute), 0);
    for (int i = 0; i < N; i++) assert_true(back[i] == 5);
    program_close(&p);
}

/* ---- events ---------------------------------------------------------------------------------- */

static void test_events(void **state) {
    (void)state;
    program p;
    cudaEvent_t first;
    float ms = -1;
    configure("streams=late");
    program_open(&p);
    assert_int_equal(cudaEventCreate(&first), 0);
    assert_int_equal(cudaEventQuery(first), 0); /* never recorded: nothing is missing */
    assert_int_equal(cudaEventRecord(first, p.compute), 0);
    assert_int_equal(cudaMemsetAsync(p.x, 0, BYTES, p.compute), 0);
    assert_int_equal(cudaEventRecord(p.loaded, p.compute), 0);
    assert_int_equal(cudaEventElapsedTime(&ms, first, p.loaded), cudaErrorNotReady);
    assert_int_equal(cudaEventQuery(p.loaded), cudaErrorNotReady);
    int queries = 0;
    while (cudaEventQuery(p.loaded) == cudaErrorNotReady) queries++;
    assert_in_range(queries, 0, 3);
    assert_int_equal(cudaEventElapsedTime(&ms, first, p.loaded), 0);
    assert_true(ms > 0);
    assert_int_equal(cudaEventRecord(p.done, p.compute), 0);
    assert_int_equal(cudaEventSynchronize(p.done), 0);
    assert_int_equal(cudaEventElapsedTime(&ms, first, p.done), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaEventRecord(first, p.compute), 0);
    assert_int_equal(cudaEventDestroy(first), 0); /* with its record under way */
    (void)cudaGetLastError();
    program_close(&p);
}

static void append_letter(void *text) { strcat(text, "h"); }

static void test_host_functions(void **state) {
    (void)state;
    cudaStream_t s;
    char text[8] = "";
    configure("streams=late");
    assert_int_equal(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), 0);
    assert_int_equal(cudaLaunchHostFunc(s, append_letter, text), 0);
    assert_int_equal(cudaLaunchHostFunc(s, append_letter, text), 0);
    assert_string_equal(text, "");
    assert_int_equal(cudaStreamQuery(s), cudaErrorNotReady);
    assert_int_equal(cudaStreamSynchronize(s), 0);
    assert_int_equal(cudaStreamQuery(s), 0);
    assert_string_equal(text, "hh");
    assert_int_equal(cudaStreamDestroy(s), 0);
    (void)cudaGetLastError();
}

/* ---- graphs ---------------------------------------------------------------------------------- */

/* y = 2 x + b on one stream, x zeroed and result read on the other; the graph. */
static cudaGraph_t capture(program *p, float b) {
    cudaGraph_t graph = NULL;
    assert_int_equal(cudaStreamBeginCapture(p->compute, cudaStreamCaptureModeGlobal), 0);
    assert_int_equal(cudaMemcpyAsync(p->x, p->staging, BYTES, cudaMemcpyDefault, p->compute), 0);
    assert_int_equal(streams_affine(p->y, p->x, 2, b, N, p->compute), 0);
    assert_int_equal(cudaEventRecord(p->loaded, p->compute), 0);
    assert_int_equal(cudaStreamWaitEvent(p->copy, p->loaded, 0), 0); /* joins the capture */
    assert_int_equal(cudaMemcpyAsync(p->result, p->y, BYTES, cudaMemcpyDefault, p->copy), 0);
    assert_int_equal(cudaEventRecord(p->done, p->copy), 0);
    assert_int_equal(cudaMemsetAsync(p->x, 0, BYTES, p->compute), 0);
    assert_int_equal(cudaStreamWaitEvent(p->compute, p->done, 0), 0);
    assert_int_equal(cudaStreamEndCapture(p->compute, &graph), 0);
    return graph;
}

static void assert_result(program *p, cudaGraphExec_t exec, float start, float b) {
    for (int i = 0; i < N; i++) p->staging[i] = start + (float)i;
    assert_int_equal(cudaGraphLaunch(exec, p->compute), 0);
    assert_int_equal(cudaStreamSynchronize(p->compute), 0);
    for (int i = 0; i < N; i++) assert_true(p->result[i] == 2 * (start + (float)i) + b);
}

static void test_graph(void **state) {
    (void)state;
    for (int seed = 0; seed < SEEDS; seed++) {
        program p;
        char text[32];
        size_t nodes = 0;
        cudaGraphExec_t exec;
        cudaGraphExecUpdateResultInfo info;
        snprintf(text, sizeof text, "streams=any,seed=%d", seed);
        configure(text);
        program_open(&p);
        cudaGraph_t graph = capture(&p, 1);
        for (int i = 0; i < N; i++) assert_true(p.result[i] == 0); /* nothing has run */
        assert_int_equal(cudaGraphGetNodes(graph, NULL, &nodes), 0);
        assert_int_equal(nodes, 4);
        assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), 0);
        assert_int_equal(cudaGraphDestroy(graph), 0);
        assert_int_equal(cudaGraphUpload(exec, p.compute), 0);
        assert_result(&p, exec, 10, 1);
        assert_result(&p, exec, 20, 1);
        graph = capture(&p, 5);
        assert_int_equal(cudaGraphExecUpdate(exec, graph, &info), 0);
        assert_int_equal(info.result, cudaGraphExecUpdateSuccess);
        assert_int_equal(cudaGraphDestroy(graph), 0);
        assert_result(&p, exec, 30, 5);
        assert_int_equal(cudaGraphLaunch(exec, p.compute), 0);
        assert_int_equal(cudaGraphExecDestroy(exec), 0); /* with a launch under way */
        program_close(&p);
    }
}

static void test_graph_update_refused(void **state) {
    (void)state;
    program p;
    cudaGraphExec_t exec;
    cudaGraph_t other;
    cudaGraphExecUpdateResultInfo info;
    program_open(&p);
    cudaGraph_t graph = capture(&p, 1);
    assert_int_equal(cudaGraphInstantiateWithFlags(&exec, graph, 0), 0);
    assert_int_equal(cudaStreamBeginCapture(p.compute, cudaStreamCaptureModeGlobal), 0);
    assert_int_equal(cudaMemsetAsync(p.x, 0, BYTES, p.compute), 0);
    assert_int_equal(cudaStreamEndCapture(p.compute, &other), 0);
    assert_int_equal(cudaGraphExecUpdate(exec, other, &info), cudaErrorGraphExecUpdateFailure);
    assert_int_equal(info.result, cudaGraphExecUpdateErrorTopologyChanged);
    assert_int_equal(cudaGraphDestroy(other), 0);
    assert_result(&p, exec, 3, 1); /* as it was */
    assert_int_equal(cudaGraphDestroy(graph), 0);
    assert_int_equal(cudaGraphExecDestroy(exec), 0);
    (void)cudaGetLastError();
    program_close(&p);
}

/* ---- what may not be done while capturing ---------------------------------------------------- */

static int do_malloc(program *p) {
    void *q;
    (void)p;
    return (int)cudaMalloc(&q, 4);
}
static int do_copy_now(program *p) { return (int)cudaMemcpy(p->x, p->y, BYTES, cudaMemcpyDefault); }
static int do_device_sync(program *p) {
    (void)p;
    return (int)cudaDeviceSynchronize();
}
static int do_stream_sync(program *p) { return (int)cudaStreamSynchronize(p->compute); }
static int do_stream_query(program *p) { return (int)cudaStreamQuery(p->compute); }
static int do_wait_outside(program *p) {
    int e = (int)cudaEventRecord(p->loaded, p->copy); /* not captured */
    return e ? e : (int)cudaStreamWaitEvent(p->compute, p->loaded, 0);
}
static int do_event_query(program *p) {
    int e = (int)cudaEventRecord(p->loaded, p->compute);
    return e ? e : (int)cudaEventQuery(p->loaded);
}
static int do_begin_again(program *p) {
    return (int)cudaStreamBeginCapture(p->compute, cudaStreamCaptureModeGlobal);
}

static void test_capture_forbids(void **state) {
    (void)state;
    static const struct {
        int (*run)(program *p);
        cudaError_t error;
        bool spoils;
    } rows[] = {{do_malloc, cudaErrorStreamCaptureUnsupported, true},
                {do_copy_now, cudaErrorStreamCaptureUnsupported, true},
                {do_device_sync, cudaErrorStreamCaptureUnsupported, true},
                {do_stream_sync, cudaErrorStreamCaptureUnsupported, true},
                {do_stream_query, cudaErrorStreamCaptureUnsupported, true},
                {do_wait_outside, cudaErrorStreamCaptureIsolation, true},
                {do_event_query, cudaErrorCapturedEvent, true},
                {do_begin_again, cudaErrorIllegalState, false}};
    program p;
    program_open(&p);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cudaGraph_t graph = NULL;
        assert_int_equal(cudaStreamBeginCapture(p.compute, cudaStreamCaptureModeGlobal), 0);
        assert_int_equal(cudaMemsetAsync(p.x, 0, BYTES, p.compute), 0);
        assert_int_equal(rows[i].run(&p), rows[i].error);
        cudaError_t end = cudaStreamEndCapture(p.compute, &graph);
        assert_int_equal(end, rows[i].spoils ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
        if (!end) assert_int_equal(cudaGraphDestroy(graph), 0);
        assert_int_equal(cudaDeviceSynchronize(), 0); /* and all is well again */
    }
    /* relaxed captures allow what only may be unsafe */
    cudaGraph_t graph;
    void *q;
    assert_int_equal(cudaStreamBeginCapture(p.compute, cudaStreamCaptureModeRelaxed), 0);
    assert_int_equal(cudaMalloc(&q, 4), 0);
    assert_int_equal(cudaStreamEndCapture(p.compute, &graph), 0);
    assert_int_equal(cudaGraphDestroy(graph), 0);
    assert_int_equal(cudaFree(q), 0);
    (void)cudaGetLastError();
    program_close(&p);
}

static void test_capture_ends(void **state) {
    (void)state;
    program p;
    cudaGraph_t graph = NULL;
    cudaStream_t blocking;
    enum cudaStreamCaptureStatus status;
    program_open(&p);
    assert_int_equal(cudaStreamEndCapture(p.compute, &graph), cudaErrorIllegalState);
    assert_int_equal(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeGlobal),
                     cudaErrorStreamCaptureUnsupported);
    /* a stream that joined and was not waited for */
    assert_int_equal(cudaStreamBeginCapture(p.compute, cudaStreamCaptureModeThreadLocal), 0);
    assert_int_equal(cudaEventRecord(p.loaded, p.compute), 0);
    assert_int_equal(cudaStreamWaitEvent(p.copy, p.loaded, 0), 0);
    assert_int_equal(cudaMemsetAsync(p.x, 0, BYTES, p.copy), 0);
    assert_int_equal(cudaStreamIsCapturing(p.copy, &status), 0);
    assert_int_equal(status, cudaStreamCaptureStatusActive);
    assert_int_equal(cudaStreamEndCapture(p.compute, &graph), cudaErrorStreamCaptureUnjoined);
    assert_null(graph);
    assert_int_equal(cudaStreamIsCapturing(p.copy, &status), 0);
    assert_int_equal(status, cudaStreamCaptureStatusNone);
    /* an event of a capture that has ended */
    assert_int_equal(cudaEventSynchronize(p.loaded), cudaErrorCapturedEvent);
    /* the legacy stream waits for blocking streams, so it may not be used meanwhile */
    assert_int_equal(cudaStreamCreate(&blocking), 0);
    assert_int_equal(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeRelaxed), 0);
    assert_int_equal(cudaMemsetAsync(p.x, 0, BYTES, NULL), cudaErrorStreamCaptureImplicit);
    assert_int_equal(cudaStreamEndCapture(blocking, &graph), cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaStreamDestroy(blocking), 0);
    (void)cudaGetLastError();
    program_close(&p);
}

/* ---- handles --------------------------------------------------------------------------------- */

static void test_destroyed_stream(void **state) {
    (void)state;
    cudaStream_t s;
    assert_int_equal(cudaStreamCreate(&s), 0);
    assert_int_equal(cudaStreamDestroy(s), 0);
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorInvalidResourceHandle);
    assert_int_equal(qe_findings_of(QE_BUG_STREAM), 1);
    qe_findings_clear();
    (void)cudaGetLastError();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_orders, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_legacy_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pageable_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_events, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_host_functions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_graph, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_graph_update_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_capture_forbids, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_capture_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_destroyed_stream, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
