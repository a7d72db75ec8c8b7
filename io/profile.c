/* profile.c — a timed replay, summed by op. */
#include "io/profile.h"

#include "io/file.h"
#include "io/text_buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 5, MAX_OPS = 64 };

typedef struct total {
    const char *op;
    int calls;
    double seconds, flops, bytes;
} total;

static int by_time(const void *a, const void *b) {
    double x = ((const total *)a)->seconds, y = ((const total *)b)->seconds;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void add(total *totals, int *n, const qn_call *c, double seconds) {
    int i = 0;
    while (i < *n && strcmp(totals[i].op, c->op->name) != 0) i++;
    if (i == MAX_OPS) return;
    if (i == *n) totals[(*n)++] = (total){.op = c->op->name};
    qn_cost cost = {0};
    if (c->op->cost) c->op->cost(c, &cost);
    totals[i].calls++;
    totals[i].seconds += seconds;
    totals[i].flops += cost.flops;
    totals[i].bytes += cost.bytes;
}

static void trace(qn_text *t, const qn_program *p, const double *seconds, double *at) {
    for (int i = 0; i < qn_program_call_count(p); i++) {
        const qn_call *c = &qn_program_node(p, i)->call;
        qn_text_add(t, t->length > 2 ? ",\n" : "\n");
        qn_text_printf(t,
                       "{\"ph\":\"X\",\"pid\":0,\"tid\":0,\"name\":\"%s\",\"cat\":\"%s\",\"ts\":",
                       c->op->name, qn_program_name(p));
        qn_text_json_number(t, *at * 1e6);
        qn_text_add(t, ",\"dur\":");
        qn_text_json_number(t, seconds[i] * 1e6);
        qn_text_add(t, ",\"args\":{\"scope\":");
        qn_text_json_string(t, c->scope);
        qn_text_add(t, "}}");
        *at += seconds[i];
    }
}

/* The fastest of some replays, call by call. */
static qn_status time_program(qn_program *p, double *best, double *now) {
    int n = qn_program_call_count(p);
    for (int r = 0; r < REPEATS; r++) {
        QN_TRY(qn_program_replay_timed(p, now));
        for (int i = 0; i < n; i++) best[i] = r == 0 || now[i] < best[i] ? now[i] : best[i];
    }
    return QN_OK;
}

static void print(const total *totals, int n, double sum) {
    fprintf(stderr, "%-24s %6s %10s %7s %10s %10s\n", "op", "calls", "ms", "share", "GFLOP/s",
            "GB/s");
    for (int i = 0; i < n; i++) {
        const total *x = &totals[i];
        fprintf(stderr, "%-24s %6d %10.3f %6.1f%% %10.1f %10.1f\n", x->op, x->calls,
                x->seconds * 1e3, 100 * x->seconds / sum, x->flops / x->seconds * 1e-9,
                x->bytes / x->seconds * 1e-9);
    }
    fprintf(stderr, "%-24s %6s %10.3f\n", "step", "", sum * 1e3);
}

qn_status qn_profile_write(qn_session *s, const char *run_dir) {
    total totals[MAX_OPS];
    int n = 0;
    double at = 0;
    qn_text t = {0};
    char path[QN_PATH_MAX], *json;
    const double no = 0.0; /* the update is timed, not applied */
    QN_TRY(qn_device_copy(s->o.device, (double *)s->guard.data + QN_GUARD_APPLY, &no, sizeof no));
    qn_text_add(&t, "[");
    for (int k = QN_MICRO_FIRST; k <= QN_UPDATE; k++) {
        qn_program *p = s->program[k];
        if (!p) continue;
        size_t bytes = ((size_t)qn_program_call_count(p) + 1) * sizeof(double);
        double *best = qn_alloc(bytes, "a profile"), *now = qn_alloc(bytes, "a profile");
        qn_status status = best && now ? time_program(p, best, now) : QN_ERR_OOM;
        for (int i = 0; status == QN_OK && i < qn_program_call_count(p); i++) {
            add(totals, &n, &qn_program_node(p, i)->call, best[i]);
        }
        if (status == QN_OK) trace(&t, p, best, &at);
        qn_free(best);
        qn_free(now);
        if (status != QN_OK) {
            qn_text_free(&t);
            return status;
        }
    }
    qsort(totals, (size_t)n, sizeof *totals, by_time);
    print(totals, n, at);
    qn_text_add(&t, "\n]\n");
    QN_TRY(qn_text_take(&t, &json));
    qn_status status = qn_path_format(path, sizeof path, "%s/profile.json", run_dir);
    if (status == QN_OK) status = qn_file_replace(path, json, strlen(json));
    qn_free(json);
    return status;
}
