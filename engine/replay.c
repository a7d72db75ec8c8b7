/* replay.c — running a bound program: plainly, as one recorded graph, checked, timed. */
#include "engine/program_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool set_to(const char *variable, const char *value) {
    const char *found = getenv(variable);
    return found && strcmp(found, value) == 0;
}

void qni_replay_setup(qn_program *p) {
    p->stepwise = p->row->separate && set_to("QUERN_SYNC", "1");
    p->graph = p->row->record_begin && !p->stepwise && !p->tape->options.no_graph &&
               !set_to("QUERN_GRAPH", "0");
}

void qni_replay_release(qn_program *p) {
    if (p->recording) p->row->record_free(p->recording);
    for (int i = 0; p->events && i <= p->tape->n_nodes; i++) {
        if (p->events[i]) p->row->event_free(p->events[i]);
    }
}

static qn_status begin(const qn_program *p) {
    if (!p->pool)
        return qn_fail(QN_ERR_INTERNAL, "%s: replayed before it was bound", qn_program_name(p));
#ifdef QUERN_POISON
    qn_arena_poison(p->pool);
#endif
    return QN_OK;
}

/* Work that is enqueued fails later than the call that asked for it. */
static qn_status blame(const qn_program *p, qn_status s) {
    if (s != QN_ERR_DEVICE || !p->row->separate || p->stepwise) return s;
    bool told = strstr(qn_error_message(), "QUERN_SYNC") != NULL;
    return qn_fail_prefix(s, "in program %s or before it%s", qn_program_name(p),
                          told ? "" : " (QUERN_SYNC=1 names the op)");
}

static qn_status run_call(const qn_program *p, int i) {
    const qn_call *c = &p->tape->nodes[i]->call;
    qn_status s = p->body[i].run(c);
    if (s == QN_OK && p->stepwise) {
        s = p->row->synchronize(NULL);
        if (s != QN_OK) s = qn_fail_prefix(s, "%s", c->op->name);
    }
    return s == QN_OK || !*c->scope ? s : qn_fail_prefix(s, "%s", c->scope);
}

static qn_status run_all(const qn_program *p) {
    for (int i = 0; i < p->tape->n_nodes; i++) QN_TRY(run_call(p, i));
    return QN_OK;
}

/* ---- plainly, or as one graph ---------------------------------------------------------------- */

static void set_stream(const qn_program *p, void *stream) {
    for (int i = 0; i < p->tape->n_nodes; i++) p->tape->nodes[i]->call.stream = stream;
}

static qn_status record(qn_program *p) {
    void *stream;
    QN_TRY(p->row->stream_create(&stream));
    qn_status s = p->row->record_begin(stream);
    if (s == QN_OK) {
        qn_error error;
        set_stream(p, stream);
        qn_error_get(run_all(p), &error);
        set_stream(p, NULL);
        s = p->row->record_end(stream, &p->recording);
        if (error.status != QN_OK) s = qn_error_raise(&error); /* the cause of whatever end says */
    }
    p->row->stream_free(stream);
    return s;
}

qn_status qn_program_replay(qn_program *p) {
    QN_TRY(begin(p));
    /* The first time, the runtime loads kernels, which it may not do while it records. */
    if (p->graph && p->replays == 1 && !p->recording) QN_TRY(blame(p, record(p)));
    p->replays++;
    return blame(p, p->recording ? p->row->record_launch(p->recording) : run_all(p));
}

/* ---- checked --------------------------------------------------------------------------------- */

/* From the first to behind the last element. */
static size_t span_bytes(const qn_tensor *t) {
    int64_t last = 0;
    if (qn_tensor_count(t) == 0) return 0;
    for (int i = 0; i < t->ndim; i++) last += (t->shape[i] - 1) * t->stride[i];
    return (size_t)(last + 1) * qn_dtype_bytes(t->dtype);
}

static size_t largest_output(const qn_program *p) {
    size_t most = 0;
    for (int i = 0; i < p->tape->n_nodes; i++) {
        const qn_call *c = &p->tape->nodes[i]->call;
        for (int k = 0; k < c->op->n_out; k++) {
            size_t bytes = c->out[k] ? span_bytes(c->out[k]) : 0;
            most = bytes > most ? bytes : most;
        }
    }
    return most;
}

static bool first_not_finite(const qn_tensor *t, int64_t *index, double *value) {
    if (!qn_dtype_is_float(t->dtype)) return false;
    int64_t n = qn_tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        *value = qn_tensor_get(t, i);
        if (!isfinite(*value)) {
            *index = i;
            return true;
        }
    }
    return false;
}

/* host: room for the largest output, NULL where the host reads the device's memory. */
static qn_status check_outputs(const qn_program *p, int i, void *host, char *report, size_t size) {
    const qn_call *c = &p->tape->nodes[i]->call;
    for (int k = 0; k < c->op->n_out && !report[0]; k++) {
        if (!c->out[k]) continue;
        qn_tensor t = *c->out[k];
        int64_t index;
        double value;
        if (host) {
            t.data = host;
            QN_TRY(qn_device_copy(p->device, host, c->out[k]->data, span_bytes(&t)));
        }
        if (!first_not_finite(&t, &index, &value)) continue;
        snprintf(report, size, "%s: %s%s%s:%s element %lld = %g%s", qn_program_name(p), c->scope,
                 *c->scope ? " " : "", c->op->name, c->op->out_name[k], (long long)index,
                 qn_nan_plain(value), p->tape->nodes[i]->backward ? " (backward)" : "");
    }
    return QN_OK;
}

qn_status qn_program_replay_checked(qn_program *p, char *report, size_t report_size) {
    report[0] = '\0';
    QN_TRY(begin(p));
    void *host = NULL;
    if (p->row->separate && !(host = qn_alloc(largest_output(p), "looking at outputs")))
        return QN_ERR_OOM;
    qn_status s = QN_OK;
    for (int i = 0; i < p->tape->n_nodes && s == QN_OK; i++) {
        s = run_call(p, i);
        if (s == QN_OK) s = check_outputs(p, i, host, report, report_size);
    }
    qn_free(host);
    return s;
}

/* ---- timed ----------------------------------------------------------------------------------- */

static qn_status make_events(qn_program *p) {
    size_t n = (size_t)p->tape->n_nodes + 1;
    if (!p->events) p->events = qn_setup_alloc(p->tape->setup, n * sizeof *p->events);
    if (!p->events) return QN_ERR_OOM;
    for (size_t i = 0; i < n; i++) {
        if (!p->events[i]) QN_TRY(p->row->event_create(&p->events[i]));
    }
    return QN_OK;
}

qn_status qn_program_replay_timed(qn_program *p, double *seconds) {
    int n = p->tape->n_nodes;
    QN_TRY(begin(p));
    QN_TRY(make_events(p));
    QN_TRY(p->row->event_record(p->events[0], NULL));
    for (int i = 0; i < n; i++) {
        QN_TRY(blame(p, run_call(p, i)));
        QN_TRY(p->row->event_record(p->events[i + 1], NULL));
    }
    QN_TRY(blame(p, p->row->synchronize(NULL)));
    for (int i = 0; i < n; i++)
        QN_TRY(p->row->event_seconds(p->events[i], p->events[i + 1], &seconds[i]));
    return QN_OK;
}
