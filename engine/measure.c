/* measure.c — one op's time: operands in rotated sets, one recording per repetition, a median. */
#include "engine/measure_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SETS = 64, MAX_REPEATS = 1000, RECORDED_CALLS = 4, FILL_BLOCK = 65521 };

void qn_measure_defaults(qn_device d, qn_measure_options *o) {
    bool separate = qn_device_get(d)->separate;
    *o = (qn_measure_options){.device = d,
                              .threads = separate ? 1 : qn_parallel_max_threads(),
                              .repeats = 20,
                              .seconds = 2.0,
                              .rotation_bytes = separate ? 256 << 20 : 64 << 20,
                              .check_flops = 0.0};
}

/* ---- what the call is ------------------------------------------------------------------------ */

int qni_bench_updated(const qn_op *op, int slot) {
    for (int i = 0; i < op->n_in; i++) {
        if (strcmp(op->in_name[i], op->out_name[slot]) == 0) return i;
    }
    return 0;
}

qn_status qni_bench_describe(const qn_measure_case *c, int threads, bool wide,
                             qni_bench_call *out) {
    qni_bench_call *b = out;
    *b = (qni_bench_call){.c = *c};
    b->call = (qn_call){.op = c->op,
                        .scope = "",
                        .attrs = &b->c.attrs,
                        .threads = threads,
                        .rng_key = qn_rng_key(1, c->op->name, "measure")};
    if (c->update_size > 0) {
        b->segment = (qn_segment){.count = c->update_size, .lr_scale = 1.0, .weight_decay = 0.1};
        b->c.attrs.update.n_segments = 1;
        b->c.attrs.update.segments = &b->segment;
    }
    for (int i = 0; i < c->op->n_in; i++) {
        const qn_measure_input *in = &c->in[i];
        if (!in->present) continue;
        qn_dtype dt = wide && qn_dtype_is_float(in->dtype) ? QN_F64 : in->dtype;
        b->in[i] = qn_tensor_make(NULL, dt, in->ndim, in->shape);
        b->call.in[i] = &b->in[i];
    }
    for (int i = 0; i < c->op->n_out; i++) {
        bool present = !(c->op->optional_out & 1u << i) || (c->want_out & 1u << i);
        if (c->op->alias[i] == QN_UPDATES) {
            int from = qni_bench_updated(c->op, i);
            b->call.out[i] = c->in[from].present ? &b->in[from] : NULL;
        } else if (present) {
            b->call.out[i] = &b->out[i];
        }
    }
    QN_TRY(c->op->infer(&b->call));
    for (int i = 0; i < c->op->n_out && !wide; i++) {
        if (c->f32_out >> i & 1u && b->call.out[i]) b->out[i].dtype = QN_F32;
    }
    return QN_OK;
}

/* ---- memory ---------------------------------------------------------------------------------- */

typedef struct bench {
    const qn_measure_options *o;
    const qn_device_row *row;
    qn_body body;
    int n_sets, prepared;
    qni_bench_call *set;
    char *memory;
    size_t bytes, set_bytes; /* all; of one set's operands */
    void *stream, *recording, *event[2];
    qni_bench_library library; /* not empty: what runs instead */
} bench;

static size_t aligned(size_t bytes) { return (bytes + 255) & ~(size_t)255; }

/* The tensors of a set that have storage of their own. */
static int tensors_of(qni_bench_call *b, qn_tensor **list) {
    int n = 0;
    for (int i = 0; i < QN_MAX_IN; i++) {
        if (b->call.in[i]) list[n++] = &b->in[i];
    }
    for (int i = 0; i < QN_MAX_OUT; i++) {
        if (b->call.out[i] == &b->out[i]) list[n++] = &b->out[i];
    }
    return n;
}

/* A call that touches few of its operands' bytes needs more sets, within reason. */
static int sets_for(const bench *b, const qn_cost *cost) {
    int64_t touched = (int64_t)b->set_bytes, most = MAX_SETS, all = 8 * b->o->rotation_bytes;
    if (cost->bytes > 0.0 && cost->bytes < (double)touched) touched = (int64_t)cost->bytes;
    if (b->set_bytes && all / (int64_t)b->set_bytes < most) most = all / (int64_t)b->set_bytes;
    int64_t sets = touched ? b->o->rotation_bytes / touched + 1 : 1;
    if (sets > most) sets = most;
    return sets > 1 ? (int)sets : 1;
}

static qn_status reserve(bench *b, const qn_measure_case *c, qn_cost *cost) {
    qni_bench_call first;
    qn_tensor *list[QN_MAX_IN + QN_MAX_OUT];
    QN_TRY(qni_bench_describe(c, b->o->threads, false, &first));
    QN_TRY(qn_device_body(b->o->device, &first.call, &b->body));
    int n = tensors_of(&first, list);
    for (int k = 0; k < n; k++) b->set_bytes += aligned(qn_tensor_bytes(list[k]));
    size_t scratch = qn_device_scratch(b->o->device, &first.call);
    if (c->op->cost) c->op->cost(&first.call, cost);
    b->n_sets = sets_for(b, cost);
    b->bytes = (size_t)b->n_sets * b->set_bytes + aligned(scratch) + 256;
    QN_TRY(b->row->alloc(b->bytes, (void **)&b->memory));
    b->set = qn_alloc((size_t)b->n_sets * sizeof *b->set, "a benchmark's calls");
    if (!b->set) return QN_ERR_OOM;
    for (int s = 0; s < b->n_sets; s++) {
        char *at = b->memory + (size_t)s * b->set_bytes;
        QN_TRY(qni_bench_describe(c, b->o->threads, false, &b->set[s]));
        n = tensors_of(&b->set[s], list);
        for (int k = 0; k < n; k++) {
            list[k]->data = at;
            at += aligned(qn_tensor_bytes(list[k]));
        }
        b->set[s].call.scratch_bytes = scratch;
        b->set[s].call.scratch = b->memory + (size_t)b->n_sets * b->set_bytes;
    }
    return QN_OK;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* A block of values made on the host, its length a prime, is repeated by doubling. */
static qn_status fill(const bench *b, const qn_measure_input *in, const qn_tensor *t, int slot,
                      void *block) {
    int64_t count = qn_tensor_count(t), n = count < FILL_BLOCK ? count : FILL_BLOCK;
    size_t item = qn_dtype_bytes(t->dtype), all = (size_t)count * item, done = (size_t)n * item;
    uint64_t key = qn_rng_key((uint64_t)slot, "operand", "measure");
    qn_tensor host = qn_tensor_make(block, t->dtype, QN_SHAPE(n));
    for (int64_t i = 0; i < n; i++) {
        double v = in->value;
        if (in->fill == QN_MEASURE_NORMAL) v *= qn_rng_normal(key, 0, (uint64_t)i);
        if (in->fill == QN_MEASURE_IDS) v = floor(v * qn_rng_uniform(key, 0, (uint64_t)i));
        qn_tensor_set(&host, i, v);
    }
    QN_TRY(qn_device_copy(b->o->device, t->data, block, done));
    while (done < all) {
        size_t bytes = all - done < done ? all - done : done;
        QN_TRY(b->row->copy((char *)t->data + done, t->data, bytes, NULL));
        done += bytes;
    }
    return QN_OK;
}

static qn_status fill_all(const bench *b, const qn_measure_case *c) {
    void *block = qn_alloc(FILL_BLOCK * sizeof(double), "a block of values");
    qn_status s = block ? QN_OK : QN_ERR_OOM;
    for (int i = 0; i < c->op->n_in && s == QN_OK; i++) {
        if (c->in[i].present) s = fill(b, &c->in[i], &b->set[0].in[i], i, block);
    }
    for (int k = 1; k < b->n_sets && s == QN_OK; k++) {
        s = b->row->copy(b->memory + (size_t)k * b->set_bytes, b->memory, b->set_bytes, NULL);
    }
    if (s == QN_OK) s = b->row->synchronize(NULL);
    qn_free(block);
    return s;
}

/* ---- running --------------------------------------------------------------------------------- */

static qn_status run_calls(const bench *b, int calls, void *stream) {
    for (int i = 0; i < calls; i++) {
        qn_call *c = &b->set[i % b->n_sets].call;
        c->stream = stream;
        QN_TRY(b->library.library ? qni_bench_library_run(&b->library, i % b->n_sets, stream)
                                  : b->body.run(c));
    }
    return QN_OK;
}

/* All calls of a repetition as one recording, where the device has them. */
static qn_status record(bench *b, int calls) {
    qn_error error;
    if (!b->stream) QN_TRY(b->row->stream_create(&b->stream));
    if (b->recording) b->row->record_free(b->recording);
    b->recording = NULL;
    QN_TRY(b->row->record_begin(b->stream));
    qn_error_get(run_calls(b, calls, b->stream), &error);
    qn_status s = b->row->record_end(b->stream, &b->recording);
    return error.status != QN_OK ? qn_error_raise(&error) : s;
}

static qn_status repeat(bench *b, int calls, double *seconds) {
    QN_TRY(b->row->event_record(b->event[0], NULL));
    QN_TRY(b->recording ? b->row->record_launch(b->recording) : run_calls(b, calls, NULL));
    QN_TRY(b->row->event_record(b->event[1], NULL));
    QN_TRY(b->row->event_synchronize(b->event[1]));
    QN_TRY(b->row->event_seconds(b->event[0], b->event[1], seconds));
    *seconds /= calls;
    return QN_OK;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static qn_status take_times(bench *b, qn_measurement *out) {
    double seconds[MAX_REPEATS], warm, start = qn_clock();
    int most = b->o->repeats < MAX_REPEATS ? b->o->repeats : MAX_REPEATS, n = 0;
    out->calls = b->n_sets;
    if (b->row->record_begin) {
        if (out->calls < RECORDED_CALLS) out->calls = RECORDED_CALLS;
        QN_TRY(record(b, out->calls));
    }
    QN_TRY(repeat(b, out->calls, &warm));
    while (n < most && (n < 3 || qn_clock() - start < b->o->seconds))
        QN_TRY(repeat(b, out->calls, &seconds[n++]));
    qsort(seconds, (size_t)n, sizeof *seconds, by_size);
    out->repeats = n;
    out->fastest = seconds[0];
    out->median = n % 2 ? seconds[n / 2] : 0.5 * (seconds[n / 2 - 1] + seconds[n / 2]);
    return QN_OK;
}

/* The first run loads the kernel and, for small calls, is held against the meaning of the op. */
static qn_status first_run(bench *b, qn_measurement *out) {
    qni_bench_saved before = {0};
    bool check = b->o->check_flops > 0.0 && out->cost.flops <= b->o->check_flops;
    qn_status s = check ? qni_bench_save(b->o->device, &b->set[0], &before) : QN_OK;
    if (s == QN_OK) s = run_calls(b, 1, NULL);
    if (s == QN_OK) s = b->row->synchronize(NULL);
    if (s == QN_OK && check) s = qni_bench_error(b->o->device, &b->set[0], &before, &out->error);
    qni_bench_saved_free(&before);
    return s;
}

/* The same operands and repeats in cuBLASLt, behind everything that is measured of ours. */
static qn_status time_library(bench *b, qn_measurement *out) {
    qn_measurement theirs = {0};
    if (!b->o->library || b->o->device != QN_CUDA) return QN_OK;
    qn_status s = qni_bench_library_make(b->o->library, b->set, b->n_sets, &b->library);
    if (s == QN_ERR_UNSUPPORTED) return QN_OK;
    if (s == QN_OK) s = take_times(b, &theirs);
    if (s == QN_OK) out->library = theirs.median;
    return s;
}

static void release(bench *b) {
    qni_bench_library_free(&b->library);
    for (int i = 0; i < b->prepared; i++) {
        if (b->body.release) b->body.release(&b->set[i].call);
    }
    if (b->recording) b->row->record_free(b->recording);
    if (b->stream) b->row->stream_free(b->stream);
    for (int i = 0; i < 2; i++) {
        if (b->event[i]) b->row->event_free(b->event[i]);
    }
    if (b->memory) b->row->release(b->memory, b->bytes);
    qn_free(b->set);
}

qn_status qn_measure(const qn_measure_case *c, const qn_measure_options *o, qn_measurement *out) {
    bench b = {.o = o, .row = qn_device_get(o->device)};
    *out = (qn_measurement){.error = NAN, .library = NAN};
    qn_status status = QN_OK;
    QN_TRY_GOTO(reserve(&b, c, &out->cost));
    QN_TRY_GOTO(fill_all(&b, c));
    for (; b.prepared < b.n_sets; b.prepared++) {
        if (b.body.prepare) QN_TRY_GOTO(b.body.prepare(&b.set[b.prepared].call));
    }
    for (int i = 0; i < 2; i++) QN_TRY_GOTO(b.row->event_create(&b.event[i]));
    QN_TRY_GOTO(first_run(&b, out));
    QN_TRY_GOTO(take_times(&b, out));
    QN_TRY_GOTO(time_library(&b, out));
done:
    release(&b);
    return status == QN_OK ? status : qn_fail_prefix(status, "%s %s", c->op->name, c->shape);
}
