/* quern_gpu.c — tests and measurements in one program that needs nothing but libc and the driver,
 * to be carried to a machine with a GPU; bench/gpu_run.sh calls it.
 *
 *   quern_gpu suites               the test programs it holds, one a line
 *   quern_gpu test SUITE           runs one
 *   quern_gpu facts                the device, versions
 *   quern_gpu limits               bytes/s of a copy, flops/s of f32 and bf16 products
 *   quern_gpu ops                  ops that the measurements know, one a line
 *   quern_gpu bench [PATTERN...]   JSON lines, as `quern bench --json`
 *   quern_gpu tune                 every tile on the shapes that training multiplies, JSON lines
 *
 * --tiny: shapes for an emulated device. --device NAME: "cuda" unless told otherwise. --limits
 * B,F32,BF16: what `limits` printed, so that processes share one measurement.
 */
#include "bench/gpu/gpu_tune.h"
#include "bench/gpu/suites.h"
#include "engine/measure.h"
#include "kernels/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_cuda_device(void) {
    char name[] = "test_cuda_device", *argv[] = {name, NULL};
    return test_cuda_device_main(1, argv);
}

static const struct {
    const char *name;
    int (*run)(void);
} suites[] = {
#define QNI_X(name) {#name, name##_main},
    QN_SUITES(QNI_X)
#undef QNI_X
        {"test_cuda_device", test_cuda_device},
};
enum { N_SUITES = sizeof suites / sizeof *suites };

typedef struct command {
    const char *verb, *pattern[32];
    int n;
    const char *device;
    bool tiny;
    qn_measure_limits limits;
    char found[160]; /* what the device is */
    int failed;
} command;

static qn_status parse(int argc, char **argv, command *c) {
    *c = (command){.verb = argc > 1 ? argv[1] : "", .device = "cuda"};
    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        qn_measure_limits *l = &c->limits;
        if (strcmp(argv[i], "--tiny") == 0) {
            c->tiny = true;
        } else if (strcmp(argv[i], "--device") == 0) {
            c->device = value;
            i++;
        } else if (strcmp(argv[i], "--limits") == 0) {
            if (sscanf(value, "%lf,%lf,%lf", &l->bytes_per_second, &l->flops_per_second[QN_F32],
                       &l->flops_per_second[QN_BF16]) != 3) {
                return qn_fail(QN_ERR_USAGE, "--limits: \"%s\", expected three numbers", value);
            }
            i++;
        } else if (argv[i][0] == '-' || c->n == 32) {
            return qn_fail(QN_ERR_USAGE, "%s is not understood", argv[i]);
        } else {
            c->pattern[c->n++] = argv[i];
        }
    }
    return QN_OK;
}

static qn_status start(command *c, qn_device *d) {
    QN_TRY(qn_device_resolve(c->device, false, d, c->found, sizeof c->found));
    QN_TRY(qn_device_open(*d));
    qn_device_get(*d)->describe(c->found, sizeof c->found);
    return QN_OK;
}

/* ---- measurements ---------------------------------------------------------------------------- */

static qn_measure_scale scale_of(const command *c, qn_device d) {
    if (c->tiny) return QN_MEASURE_TINY;
    return qn_device_get(d)->separate ? QN_MEASURE_GPU : QN_MEASURE_HOST;
}

static void options_of(const command *c, qn_device d, qn_measure_options *o) {
    qn_measure_defaults(d, o);
    if (c->tiny) {
        o->rotation_bytes = 0;
        o->repeats = 3;
    }
    o->check_flops = 1e8; /* about a second of the reference body */
}

static void print_record(void *ctx, const qn_measure_case *m, qn_status s,
                         const qn_measurement *r) {
    command *c = ctx;
    char line[1024];
    if (s == QN_OK) {
        qn_measure_json(m, r, &c->limits, c->found, line, sizeof line);
        puts(line);
    } else {
        fprintf(stderr, "quern_gpu: %s\n", qn_error_message());
        c->failed += s != QN_ERR_UNSUPPORTED;
    }
    fflush(stdout);
}

static qn_status bench(command *c) {
    qn_device d;
    qn_measure_options o;
    QN_TRY(start(c, &d));
    options_of(c, d, &o);
    qn_cublaslt library = {0};
    if (d == QN_CUDA) {
        if (qn_cublaslt_open(&library) == QN_OK) {
            o.library = &library;
        } else {
            fprintf(stderr, "quern_gpu: not compared with a library: %s\n", qn_error_message());
        }
    }
    qn_status s = qn_measure_all(&o, scale_of(c, d), c->pattern, c->n, &c->limits, print_record, c);
    qn_cublaslt_close(&library);
    if (s != QN_OK) return s;
    return c->failed ? qn_fail(QN_ERR_INTERNAL, "%d cases failed", c->failed) : QN_OK;
}

static void ignore(void *ctx, const qn_measure_case *m, qn_status s, const qn_measurement *r) {
    (void)ctx;
    (void)m;
    (void)s;
    (void)r;
}

static qn_status limits(command *c) {
    qn_device d;
    qn_measure_options o;
    const char *only[] = {"copy"};
    QN_TRY(start(c, &d));
    options_of(c, d, &o);
    QN_TRY(qn_measure_all(&o, scale_of(c, d), only, 1, &c->limits, ignore, NULL));
    printf("%.6g,%.6g,%.6g\n", c->limits.bytes_per_second, c->limits.flops_per_second[QN_F32],
           c->limits.flops_per_second[QN_BF16]);
    return QN_OK;
}

static qn_status ops(const command *c) {
    qn_measure_scale scale = c->tiny ? QN_MEASURE_TINY : QN_MEASURE_GPU;
    const qn_op *printed[64];
    int n = 0;
    for (int i = 0; i < qn_measure_case_count(scale); i++) {
        qn_measure_case m;
        int k = 0;
        qn_measure_case_get(scale, i, &m);
        while (k < n && printed[k] != m.op) k++;
        if (k < n || n == 64) continue;
        printed[n++] = m.op;
        puts(m.op->name);
    }
    return QN_OK;
}

static qn_status facts(command *c) {
    qn_device d;
    QN_TRY(start(c, &d));
    printf("device: %s\n", c->found);
#ifdef QUERN_CUDA
    int runtime, driver;
    qn_cuda_versions(&runtime, &driver);
    printf("CUDA runtime %d.%d, driver for %d.%d\n", runtime / 1000, runtime % 1000 / 10,
           driver / 1000, driver % 1000 / 10);
#endif
    printf("host: %s\n", qn_cpu_description());
    return QN_OK;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static qn_status test(const command *c, int *failed) {
    for (int i = 0; i < N_SUITES && c->n == 1; i++) {
        if (strcmp(suites[i].name, c->pattern[0]) != 0) continue;
        *failed = suites[i].run();
        return QN_OK;
    }
    return qn_fail(QN_ERR_USAGE, "test: expected one name that `quern_gpu suites` prints");
}

static qn_status run(command *c, int *failed) {
    if (strcmp(c->verb, "suites") == 0) {
        for (int i = 0; i < N_SUITES; i++) puts(suites[i].name);
        return QN_OK;
    }
    if (strcmp(c->verb, "test") == 0) return test(c, failed);
    if (strcmp(c->verb, "facts") == 0) return facts(c);
    if (strcmp(c->verb, "limits") == 0) return limits(c);
    if (strcmp(c->verb, "ops") == 0) return ops(c);
    if (strcmp(c->verb, "bench") == 0) return bench(c);
    if (strcmp(c->verb, "tune") == 0) {
        qn_device d;
        QN_TRY(start(c, &d));
        return qn_gpu_tune(c->tiny, c->found);
    }
    return qn_fail(QN_ERR_USAGE, "\"%s\" is none of suites, test, facts, limits, ops, bench, tune",
                   c->verb);
}

int main(int argc, char **argv) {
    command c;
    int failed = 0;
    if (argc == 2 && strcmp(argv[1], "child") == 0) return test_cuda_device_main(argc, argv);
    qn_status s = parse(argc, argv, &c);
    if (s == QN_OK) s = run(&c, &failed);
    if (s != QN_OK) fprintf(stderr, "quern_gpu: %s\n", qn_error_message());
    return s != QN_OK ? qn_status_exit_code(s) : failed != 0;
}
