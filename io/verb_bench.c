/* verb_bench.c — `quern bench`: the kernels alone, against what the device can do. */
#include "engine/measure.h"
#include "io/cli.h"

#include <stdio.h>

/* What is compared with on CUDA; that it is missing is told. */
static void open_library(qn_measure_options *o, qn_cublaslt *l) {
    if (o->device != QN_CUDA) return;
    if (qn_cublaslt_open(l) == QN_OK) {
        o->library = l;
    } else {
        fprintf(stderr, "not compared with a library: %s\n", qn_error_message());
    }
}

typedef struct printer {
    const qn_measure_limits *limits;
    char device[160];
    bool json;
    int printed, failed;
} printer;

static void print_header(const printer *p) {
    const qn_measure_limits *l = p->limits;
    char line[256];
    qn_measure_header(line, sizeof line);
    printf("%s\nlimits, measured: %.1f GB/s; products %.2f TFLOP/s f32, %.2f TFLOP/s bf16\n\n%s\n",
           p->device, l->bytes_per_second * 1e-9, l->flops_per_second[QN_F32] * 1e-12,
           l->flops_per_second[QN_BF16] * 1e-12, line);
}

static void print_case(void *ctx, const qn_measure_case *c, qn_status s, const qn_measurement *m) {
    printer *p = ctx;
    char line[1024];
    if (s == QN_OK && p->json) {
        qn_measure_json(c, m, p->limits, p->device, line, sizeof line);
        puts(line);
    } else if (s == QN_OK) {
        if (p->printed++ == 0) print_header(p);
        qn_measure_row(c, m, p->limits, line, sizeof line);
        puts(line);
    } else if (s == QN_ERR_UNSUPPORTED) {
        fprintf(stderr, "skipped: %s\n", qn_error_message());
    } else {
        fprintf(stderr, "quern: %s\n", qn_error_message());
        p->failed++;
    }
    fflush(stdout);
}

static qn_status prepare(const qn_cli *cli, qn_measure_options *o, printer *p) {
    const char *name = qn_cli_value(cli, "--device");
    char line[256];
    qn_device d;
    QN_TRY(qn_device_resolve(name ? name : "auto", false, &d, line, sizeof line));
    if (*line) fprintf(stderr, "%s\n", line);
    QN_TRY(qn_device_open(d));
    qn_measure_defaults(d, o);
    qn_device_get(d)->describe(p->device, sizeof p->device);
    int64_t threads = o->threads, repeats = o->repeats;
    QN_TRY(qn_cli_int(cli, "--threads", 1, 1024, &threads));
    QN_TRY(qn_cli_int(cli, "--repeats", 3, 1000, &repeats));
    o->threads = (int)threads;
    o->repeats = (int)repeats;
    return QN_OK;
}

qn_status qn_verb_bench(const qn_cli *cli) {
    qn_measure_options o;
    qn_measure_limits limits = {0};
    printer p = {.limits = &limits, .json = qn_cli_has(cli, "--json")};
    QN_TRY(prepare(cli, &o, &p));
    qn_measure_scale scale = qn_device_get(o.device)->separate ? QN_MEASURE_GPU : QN_MEASURE_HOST;
    if (qn_cli_has(cli, "--tiny")) {
        scale = QN_MEASURE_TINY;
        o.rotation_bytes = 0;
        o.check_flops = 1e9;
    }
    qn_cublaslt library = {0};
    open_library(&o, &library);
    qn_status s = qn_measure_all(&o, scale, cli->arg, cli->n_args, &limits, print_case, &p);
    qn_cublaslt_close(&library);
    if (s != QN_OK) return s;
    return p.failed ? qn_fail(QN_ERR_INTERNAL, "bench: %d cases failed", p.failed) : QN_OK;
}
