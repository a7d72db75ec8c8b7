/* device.c — the device table, and what the CPU is. */
#include "engine/engine.h"
#include "engine/gemm.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const names[QN_DEVICE_COUNT] = {"ref", "cpu", "cuda"};

const char *qn_device_name(qn_device d) { return names[d]; }

qn_status qn_device_resolve(const char *name, qn_device *out, const char **chosen_text) {
    *chosen_text = "";
    if (strcmp(name, "auto") == 0) {
        *out = QN_CPU;
        *chosen_text = "device \"auto\": no CUDA in this build, using the CPU";
        return QN_OK;
    }
    if (strcmp(name, "cpu") == 0) {
        *out = QN_CPU;
        return QN_OK;
    }
    if (strcmp(name, "ref") == 0) {
        *out = QN_REF;
        *chosen_text = "device \"ref\": plain reference bodies, slow on purpose";
        return QN_OK;
    }
    if (strcmp(name, "cuda") == 0) {
        return qn_fail(QN_ERR_DEVICE,
                       "device \"cuda\" was asked for, but this build of quern has no "
                       "CUDA support; use \"cpu\" or \"auto\"");
    }
    return qn_fail(QN_ERR_CONFIG, "device \"%s\" is unknown; expected auto, cpu, ref or cuda",
                   name);
}

qn_kernel *qn_device_kernel(qn_device d, const qn_op *op, qn_dtype dt) {
    if (d == QN_CPU && op->run[QN_CPU] && (op->cpu_dtypes & QN_DTYPE_BIT(dt)))
        return op->run[QN_CPU];
    return d == QN_CUDA ? NULL : op->run[QN_REF];
}

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
