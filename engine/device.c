/* device.c — the device table, which body runs a call, and what the CPU is. */
#include "engine/device_internal.h"
#include "engine/gemm.h"
#include "kernels/cuda.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const names[QN_DEVICE_COUNT] = {"ref", "cpu", "cuda"};

static const qn_device_row *const rows[QN_DEVICE_COUNT] = {
    &qni_host_device,
    &qni_host_device,
#ifdef QUERN_CUDA
    &qn_cuda_device,
#endif
};

const char *qn_device_name(qn_device d) { return names[d]; }
bool qn_device_built(qn_device d) { return rows[d] != NULL; }
const qn_device_row *qn_device_get(qn_device d) { return rows[d] ? rows[d] : &qni_host_device; }

qn_status qn_device_open(qn_device d) {
    if (rows[d]) return rows[d]->open();
    return qn_fail(QN_ERR_DEVICE, "this build of quern has no %s support; use \"cpu\" or \"auto\"",
                   d == QN_CUDA ? "CUDA" : names[d]);
}

static qn_status choose_cuda(bool plan, qn_device *out, char *text, size_t size) {
    char found[160];
    *out = QN_CUDA;
    qn_status s = plan && rows[QN_CUDA] ? QN_OK : qn_device_open(QN_CUDA);
    if (s != QN_OK) return qn_fail_prefix(s, "device \"cuda\" was asked for");
    if (plan) return QN_OK;
    rows[QN_CUDA]->describe(found, sizeof found);
    snprintf(text, size, "device \"cuda\": %s", found);
    return QN_OK;
}

static void choose_any(qn_device *out, char *text, size_t size) {
    char found[160];
    if (!rows[QN_CUDA]) {
        *out = QN_CPU;
        snprintf(text, size, "device \"auto\": no CUDA in this build, using the CPU");
    } else if (qn_device_open(QN_CUDA) == QN_OK) {
        *out = QN_CUDA;
        rows[QN_CUDA]->describe(found, sizeof found);
        snprintf(text, size, "device \"auto\": using %s", found);
    } else {
        *out = QN_CPU;
        snprintf(text, size, "device \"auto\": using the CPU; %.160s", qn_error_message());
    }
}

qn_status qn_device_resolve(const char *name, bool plan, qn_device *out, char *text, size_t size) {
    *text = '\0';
    if (strcmp(name, "cuda") == 0) return choose_cuda(plan, out, text, size);
    if (strcmp(name, "auto") == 0) {
        choose_any(out, text, size);
        return QN_OK;
    }
    if (strcmp(name, "cpu") == 0) {
        *out = QN_CPU;
        return QN_OK;
    }
    if (strcmp(name, "ref") == 0) {
        *out = QN_REF;
        snprintf(text, size, "device \"ref\": plain reference bodies, slow on purpose");
        return QN_OK;
    }
    return qn_fail(QN_ERR_CONFIG, "device \"%s\" is unknown; expected auto, cpu, ref or cuda",
                   name);
}

qn_status qn_device_copy(qn_device d, void *dst, const void *src, size_t bytes) {
    const qn_device_row *row = qn_device_get(d);
    QN_TRY(row->copy(dst, src, bytes, NULL));
    return row->synchronize(NULL);
}

/* ---- bodies ---------------------------------------------------------------------------------- */

qn_kernel *qn_device_kernel(qn_device d, const qn_op *op, qn_dtype dt) {
    if (d == QN_CUDA) {
        const qn_cuda_body *b = qn_cuda_find(op->name);
        return b && (b->dtypes & QN_DTYPE_BIT(dt)) ? b->run : NULL;
    }
    bool fast = d == QN_CPU && op->run[QN_CPU] && (op->cpu_dtypes & QN_DTYPE_BIT(dt));
    return op->run[fast ? QN_CPU : QN_REF];
}

/* The dtype that chooses the body: that of in[0], of out[0] where there is no input. */
static qn_dtype leading_dtype(const qn_call *c) {
    const qn_tensor *t = c->in[0];
    for (int k = 0; !t && k < c->op->n_out; k++) t = c->out[k];
    return t ? t->dtype : QN_F32;
}

qn_status qn_device_body(qn_device d, const qn_call *c, qn_body *out) {
    qn_dtype dt = leading_dtype(c);
    *out = (qn_body){.run = qn_device_kernel(d, c->op, dt),
                     .prepare = c->op->prepare,
                     .release = c->op->release};
    if (!out->run) {
        return qn_fail(QN_ERR_UNSUPPORTED, "no %s kernel for %s on %s",
                       d == QN_CUDA ? "CUDA" : names[d], c->op->name, qn_dtype_name(dt));
    }
    if (d == QN_CUDA) {
        const qn_cuda_body *b = qn_cuda_find(c->op->name);
        out->prepare = b->prepare;
        out->release = b->release;
    }
    return QN_OK;
}

size_t qn_device_scratch(qn_device d, const qn_call *c) {
    if (d != QN_CUDA) return c->scratch_bytes;
    const qn_cuda_body *b = qn_cuda_find(c->op->name);
    return b && b->scratch ? b->scratch(c) : 0;
}

/* ---- the CPU --------------------------------------------------------------------------------- */

double qn_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool qn_cpu_multiplies_bf16(void) { return qni_bf16_available(); }

const char *qn_cpu_description(void) {
    static _Thread_local char text[256];
    char model[160] = "unknown CPU", line[512];
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(model, sizeof model, "%.150s", strchr(line, ':') + 2);
            model[strcspn(model, "\n")] = '\0';
            break;
        }
    }
    if (f) fclose(f);
    const char *vectors = "baseline";
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        vectors = __builtin_cpu_supports("avx512bf16") ? "avx512 bf16" : "avx512";
    } else if (__builtin_cpu_supports("avx2")) {
        vectors = "avx2";
    }
#elif defined(__aarch64__)
    vectors = "neon";
#endif
    snprintf(text, sizeof text, "%s (%s)", model, vectors);
    return text;
}
