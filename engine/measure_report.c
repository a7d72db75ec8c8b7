/* measure_report.c — all cases in order, the device's limits, a measurement as a line of text. */
#include "engine/measure.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- limits ---------------------------------------------------------------------------------- */

static void raise_limits(const qn_measure_case *c, const qn_measurement *m,
                         qn_measure_limits *limits) {
    double rate = m->median > 0.0 ? m->cost.flops / m->median : 0.0;
    bool product = c->op == &qn_op_linear || c->op == &qn_op_linear_bwd_input ||
                   c->op == &qn_op_linear_bwd_weight || c->op == &qn_op_matmul;
    if (product && rate > limits->flops_per_second[c->dtype])
        limits->flops_per_second[c->dtype] = rate;
}

/* The first copy of the scale's list is the largest; a plain product is square there. */
static qn_status find_limits(const qn_measure_options *o, qn_measure_scale scale,
                             qn_measure_limits *out) {
    for (int i = 0; i < qn_measure_case_count(scale); i++) {
        qn_measure_case c;
        qn_measurement m;
        qn_measure_case_get(scale, i, &c);
        bool copy = c.op == &qn_op_copy, product = c.op == &qn_op_linear;
        if (copy ? out->bytes_per_second > 0.0
                 : !product || out->flops_per_second[c.dtype] > 0.0 || strchr(c.shape, ' ')) {
            continue;
        }
        QN_TRY(qn_measure(&c, o, &m));
        if (copy) {
            out->bytes_per_second = m.cost.bytes / m.median;
        } else {
            raise_limits(&c, &m, out);
        }
    }
    return QN_OK;
}

/* ---- all ------------------------------------------------------------------------------------- */

static bool wanted(const qn_measure_case *c, const char *const *patterns, int n) {
    for (int i = 0; i < n; i++) {
        if (qn_measure_case_matches(c, patterns[i])) return true;
    }
    return n == 0;
}

static qn_status check_pattern(qn_measure_scale scale, const char *pattern) {
    for (int i = 0; i < qn_measure_case_count(scale); i++) {
        qn_measure_case c;
        qn_measure_case_get(scale, i, &c);
        if (qn_measure_case_matches(&c, pattern)) return QN_OK;
    }
    return qn_fail(QN_ERR_USAGE,
                   "bench: no case matches \"%s\"; expected an op's name, such as linear or "
                   "attention_bwd, or a part of \"linear 1024x1024x1024 f32\"",
                   pattern);
}

qn_status qn_measure_all(const qn_measure_options *o, qn_measure_scale scale,
                         const char *const *patterns, int n, qn_measure_limits *limits,
                         qn_measure_taker *take, void *ctx) {
    for (int i = 0; i < n; i++) QN_TRY(check_pattern(scale, patterns[i]));
    if (limits->bytes_per_second == 0.0) QN_TRY(find_limits(o, scale, limits));
    for (int i = 0; i < qn_measure_case_count(scale); i++) {
        qn_measure_case c;
        qn_measurement m;
        qn_measure_case_get(scale, i, &c);
        if (!wanted(&c, patterns, n)) continue;
        qn_status s = qn_measure(&c, o, &m);
        if (s == QN_OK) raise_limits(&c, &m, limits);
        take(ctx, &c, s, &m);
        if (s == QN_ERR_DEVICE) return s;
    }
    return QN_OK;
}

/* ---- text ------------------------------------------------------------------------------------ */

double qn_measure_fraction(const qn_measure_case *c, const qn_measurement *m,
                           const qn_measure_limits *limits, bool *flops) {
    double peak = limits->flops_per_second[c->dtype], width = limits->bytes_per_second;
    double arithmetic = peak > 0.0 ? m->cost.flops / peak : 0.0;
    double traffic = width > 0.0 ? m->cost.bytes / width : 0.0;
    *flops = arithmetic > traffic;
    return m->median > 0.0 ? (*flops ? arithmetic : traffic) / m->median : 0.0;
}

int qn_measure_json(const qn_measure_case *c, const qn_measurement *m,
                    const qn_measure_limits *limits, const char *device, char *text, size_t size) {
    bool flops;
    double fraction = qn_measure_fraction(c, m, limits, &flops);
    char error[32] = "null", library[32] = "null";
    if (isfinite(m->error)) snprintf(error, sizeof error, "%.3g", m->error);
    if (isfinite(m->library)) snprintf(library, sizeof library, "%.3f", m->library * 1e6);
    return snprintf(text, size,
                    "{\"kernel\":\"%s\",\"shape\":\"%s\",\"dtype\":\"%s\",\"median_us\":%.3f,"
                    "\"min_us\":%.3f,\"repeats\":%d,\"calls\":%d,\"tflops\":%.4g,\"gbps\":%.4g,"
                    "\"bound\":\"%s\",\"fraction\":%.4f,\"error\":%s,\"cublaslt_us\":%s,"
                    "\"device\":\"%s\"}",
                    c->op->name, c->shape, qn_dtype_name(c->dtype), m->median * 1e6,
                    m->fastest * 1e6, m->repeats, m->calls, m->cost.flops / m->median * 1e-12,
                    m->cost.bytes / m->median * 1e-9, flops ? "flops" : "bytes", fraction, error,
                    library, device);
}

int qn_measure_header(char *text, size_t size) {
    return snprintf(text, size, "%-21s %-28s %-5s %11s %11s %18s %8s %10s %9s", "kernel", "shape",
                    "dtype", "median us", "min us", "rate", "of limit", "x cuBLASLt", "error");
}

int qn_measure_row(const qn_measure_case *c, const qn_measurement *m,
                   const qn_measure_limits *limits, char *text, size_t size) {
    bool flops;
    double fraction = qn_measure_fraction(c, m, limits, &flops);
    char error[32] = "-", library[32] = "-", rate[48];
    double per_second = (flops ? m->cost.flops : m->cost.bytes) / m->median;
    if (!isnan(m->error)) snprintf(error, sizeof error, "%.2g", m->error);
    if (m->library > 0.0) snprintf(library, sizeof library, "%.2f", m->library / m->median);
    snprintf(rate, sizeof rate, "%.1f %s", per_second * (flops && per_second > 1e12 ? 1e-12 : 1e-9),
             !flops              ? "GB/s"
             : per_second > 1e12 ? "TFLOP/s"
                                 : "GFLOP/s");
    return snprintf(text, size, "%-21s %-28s %-5s %11.2f %11.2f %18s %7.1f%% %10s %9s", c->op->name,
                    c->shape, qn_dtype_name(c->dtype), m->median * 1e6, m->fastest * 1e6, rate,
                    100.0 * fraction, library, error);
}
