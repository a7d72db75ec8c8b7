/* cudart_op.c — one operation of a stream or a graph: what it does when its turn has come. */
#include "kernels/emu/cudart.h"

#include <stdlib.h>
#include <string.h>

/* A fixed price list, so that timings are the same in every run and never zero. */
#define LAUNCH_US            2.0
#define LAUNCH_US_PER_THREAD 1e-4
#define COPY_US              1.0
#define COPY_US_PER_BYTE     1e-5

qe_op *qe_op_new(qe_op_kind kind) {
    qe_op *op = calloc(1, sizeof *op);
    if (!op) return NULL;
    op->kind = kind;
    op->refs = 1;
    return op;
}

void qe_op_drop(qe_op *op) {
    if (!op || --op->refs > 0) return;
    if (op->kind == QE_OP_LAUNCH) free(op->u.launch.params);
    if (op->kind == QE_OP_COPY) free(op->u.copy.staged);
    if (op->kind == QE_OP_GRAPH) qe_graph_drop(op->u.graph);
    free(op);
}

static void run_launch(const qe_op *op) {
    const qe_kernel *k = op->u.launch.function->kernel;
    qe_shape g = op->u.launch.grid, b = op->u.launch.block;
    double threads = (double)g.x * g.y * g.z * b.x * b.y * b.z;
    qe_clock_advance(LAUNCH_US + LAUNCH_US_PER_THREAD * threads);
    if (!qe_run(k, g, b, op->u.launch.cluster, op->u.launch.dynamic_shared, op->u.launch.params)) {
        qe_stick(cudaErrorLaunchFailure);
    }
}

/* Bytes from the first to the last of a copy with pitch. */
static size_t extent(size_t bytes, size_t rows, size_t pitch) {
    return rows ? pitch * (rows - 1) + bytes : 0;
}

static void run_copy(const qe_op *op) {
    char *dst = op->u.copy.dst;
    const char *src = op->u.copy.staged ? op->u.copy.staged : op->u.copy.src;
    size_t bytes = op->u.copy.bytes, rows = op->u.copy.rows;
    size_t to = extent(bytes, rows, op->u.copy.dst_pitch);
    size_t from = extent(bytes, rows, op->u.copy.src_pitch);
    qe_clock_advance(COPY_US + COPY_US_PER_BYTE * (double)(bytes * rows));
    if (!qe_memory_check(dst, to, "a copy writes") ||
        (!op->u.copy.staged && !qe_memory_check(src, from, "a copy reads"))) {
        qe_stick(cudaErrorIllegalAddress);
        return;
    }
    bool on_device = qe_is_global(dst);
    for (size_t r = 0; r < rows; r++) {
        memmove(dst, src, bytes);
        if (on_device) qe_check_copy(dst, src, bytes);
        dst += op->u.copy.dst_pitch;
        src += op->u.copy.src_pitch;
    }
}

static void run_set(const qe_op *op) {
    char *dst = op->u.set.dst;
    size_t bytes = op->u.set.bytes, rows = op->u.set.rows;
    qe_clock_advance(COPY_US + COPY_US_PER_BYTE * (double)(bytes * rows));
    if (!qe_memory_check(dst, extent(bytes, rows, op->u.set.pitch), "a memset writes")) {
        qe_stick(cudaErrorIllegalAddress);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        memset(dst, op->u.set.value, bytes);
        qe_check_host_write(dst, bytes);
        dst += op->u.set.pitch;
    }
}

void qe_op_run(qe_op *op) {
    if (qe_enter() != cudaSuccess) return; /* the context is lost: nothing runs any more */
    bool on_device = op->kind == QE_OP_LAUNCH || op->kind == QE_OP_COPY || op->kind == QE_OP_SET;
    if (on_device) qe_guard_open();
    switch (op->kind) {
    case QE_OP_LAUNCH: run_launch(op); break;
    case QE_OP_COPY: run_copy(op); break;
    case QE_OP_SET: run_set(op); break;
    case QE_OP_HOST: op->u.host.run(op->u.host.data); break;
    case QE_OP_GRAPH: qe_graph_run(op->u.graph); break;
    case QE_OP_FREE:
        if (!qe_memory_free(op->u.memory)) {
            qe_report(QE_BUG_MEMORY, NULL, NULL, NULL, "cudaFreeAsync of %p, already freed",
                      op->u.memory);
        }
        break;
    case QE_OP_RECORD:
    case QE_OP_WAIT: break;
    }
    if (on_device) qe_guard_close();
}
