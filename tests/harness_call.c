/* harness_call.c — runs one op by hand-made calls: against the f64 oracle, twice, on two threads,
 * with shared storage and with accumulation, every buffer between sentinels. On CUDA, where there
 * is one, the operands with their sentinels are copied to the device and back.
 */
#include "tests/harness_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- operands -------------------------------------------------------------------------------- */

enum { GUARD = 256, GUARD_BYTE = 0xA5, ROW_GAP = 3 }; /* GUARD: what CUDA scratch is aligned to */

void qni_operand_make(qni_operand *o, qn_dtype dt, int ndim, const int64_t *shape, bool gap) {
    int64_t wide[QN_MAX_DIMS];
    memcpy(wide, shape, (size_t)ndim * sizeof *wide);
    if (gap && ndim > 0) wide[ndim - 1] += ROW_GAP;
    o->whole = qn_tensor_make(NULL, dt, ndim, wide);
    o->bytes = qn_tensor_bytes(&o->whole);
    o->total = (GUARD + o->bytes + GUARD + 63) & ~(size_t)63;
    o->raw = aligned_alloc(64, o->total);
    if (!o->raw) fail_msg("out of memory: %zu bytes for a test operand", o->total);
    memset(o->raw, GUARD_BYTE, o->total);
    memset(o->raw + GUARD, 0xFF, o->bytes);
    o->whole.data = o->raw + GUARD;
    o->t = o->whole;
    memcpy(o->t.shape, shape, (size_t)ndim * sizeof *shape);
}

void qni_operand_free(qni_operand *o) {
    free(o->raw);
    *o = (qni_operand){0};
}

bool qni_operand_guards_ok(const qni_operand *o) {
    for (int i = 0; i < GUARD; i++) {
        if (o->raw[i] != GUARD_BYTE || o->raw[GUARD + o->bytes + (size_t)i] != GUARD_BYTE)
            return false;
    }
    return true;
}

static void operand_copy(qni_operand *to, const qni_operand *from) {
    qni_operand_make(to, from->whole.dtype, from->whole.ndim, from->whole.shape, false);
    memcpy(to->whole.data, from->whole.data, from->bytes);
    void *data = to->t.data;
    to->t = from->t;
    to->t.data = data;
}

static double fill_value(const qn_case_input *in, uint64_t key, int64_t i) {
    double u = qn_rng_uniform(key, 1, (uint64_t)i);
    switch (in->fill) {
    case QN_FILL_NORMAL: return qn_rng_normal(key, 0, (uint64_t)i);
    case QN_FILL_POSITIVE: return 0.5 + 1.5 * u;
    case QN_FILL_TARGETS: return i % 5 == 4 ? -100 : floor(u * in->limit);
    case QN_FILL_IDS: return floor(u * in->limit);
    case QN_FILL_VALUE: break;
    }
    return in->value;
}

static qn_dtype input_dtype(const qn_case_input *in, qn_dtype dt) {
    if (!in->fixed_dtype) return in->integer ? QN_I32 : dt;
    qn_dtype fixed = (qn_dtype)(in->fixed_dtype - 1);
    return dt == QN_F64 && qn_dtype_is_float(fixed) ? QN_F64 : fixed;
}

void qni_operands_make(qni_operands *s, const qn_case *c, qn_dtype dt, const qni_operands *source) {
    *s = (qni_operands){0};
    for (int k = 0; k < c->op->n_in; k++) {
        const qn_case_input *in = &c->in[k];
        if (!in->present) continue;
        qni_operand *o = &s->in[k];
        qni_operand_make(o, input_dtype(in, dt), in->ndim, in->shape, in->strided);
        uint64_t key = qn_rng_key((uint64_t)k, c->name, "harness");
        int64_t n = qn_tensor_count(&o->t);
        for (int64_t i = 0; i < n; i++) {
            double v = source ? qn_tensor_get(&source->in[k].t, i) : fill_value(in, key, i);
            qn_tensor_set(&o->t, i, v);
        }
    }
}

void qni_operands_free(qni_operands *s) {
    for (int i = 0; i < QN_MAX_IN; i++) qni_operand_free(&s->in[i]);
}

/* ---- one run --------------------------------------------------------------------------------- */

typedef struct run_options {
    qn_device device;
    int threads;
    int reuse;           /* output that takes over its input's storage, -1 = none */
    uint32_t accumulate; /* outputs that start from base_value and are added to */
} run_options;

typedef struct run_result {
    qni_operand out[QN_MAX_OUT];
} run_result;

static void result_free(run_result *r) {
    for (int i = 0; i < QN_MAX_OUT; i++) qni_operand_free(&r->out[i]);
}

static double base_value(int slot, int64_t i) {
    return qn_rng_normal(77, (uint64_t)slot, (uint64_t)i);
}

/* The input whose storage the QN_UPDATES output `slot` is. */
static int updated_input(const qn_case *c, int slot) {
    if (c->updates[slot]) return c->updates[slot] - 1;
    for (int i = 0; i < c->op->n_in; i++) {
        if (strcmp(c->op->in_name[i], c->op->out_name[slot]) == 0) return i;
    }
    fail_msg("%s: no input of %s is named like its updated output %s; set case.updates", c->name,
             c->op->name, c->op->out_name[slot]);
    return -1;
}

static bool is_updated(const qn_case *c, int input) {
    for (int i = 0; i < c->op->n_out; i++) {
        if (c->op->alias[i] == QN_UPDATES && updated_input(c, i) == input) return true;
    }
    return false;
}

/* Points the call at its operands and asks infer what the outputs are. */
static qn_status describe(const qn_case *c, qni_operands *in, const run_options *o, qn_call *call,
                          qn_tensor *out) {
    const qn_op *op = c->op;
    *call = (qn_call){.op = op,
                      .scope = "",
                      .attrs = c->attrs,
                      .threads = o->threads,
                      .accumulate = o->accumulate,
                      .rng_key = qn_rng_key(1, c->name, op->name)};
    for (int i = 0; i < op->n_in; i++) call->in[i] = in->in[i].raw ? &in->in[i].t : NULL;
    for (int i = 0; i < op->n_out; i++) {
        bool present = !(op->optional_out & 1u << i) || (c->want_out & 1u << i);
        if (op->alias[i] == QN_UPDATES) {
            qni_operand *updated = &in->in[updated_input(c, i)];
            call->out[i] = updated->raw ? &updated->t : NULL;
        } else if (present) {
            call->out[i] = &out[i];
        }
    }
    return op->infer(call);
}

static void *output_storage(const qn_case *c, qni_operands *in, const run_options *o, int slot,
                            qn_tensor *t, qni_operand *own) {
    if (!qn_tensor_is_contiguous(t)) {
        fail_msg("%s: infer of %s gives output %s gaps", c->name, c->op->name,
                 c->op->out_name[slot]);
    }
    if (o->reuse == slot) return in->in[c->op->alias[slot] - 1].t.data;
    qni_operand_make(own, t->dtype, t->ndim, t->shape, false);
    if (o->accumulate & 1u << slot) {
        int64_t n = qn_tensor_count(t);
        for (int64_t i = 0; i < n; i++) qn_tensor_set(&own->t, i, base_value(slot, i));
    }
    return own->t.data;
}

static void check_untouched(const qn_case *c, const qni_operands *before, const qni_operands *after,
                            const run_options *o) {
    for (int i = 0; i < c->op->n_in; i++) {
        const qni_operand *a = &after->in[i];
        if (!a->raw) continue;
        if (!qni_operand_guards_ok(a)) {
            fail_msg("%s: %s wrote outside input %s", c->name, c->op->name, c->op->in_name[i]);
        }
        bool taken = o->reuse >= 0 && c->op->alias[o->reuse] - 1 == i;
        if (taken || is_updated(c, i)) continue;
        if (memcmp(a->whole.data, before->in[i].whole.data, a->bytes) != 0) {
            fail_msg("%s: %s changed its input %s", c->name, c->op->name, c->op->in_name[i]);
        }
    }
}

/* Every operand of one call: the copies of the inputs, the outputs' own storage, scratch. */
typedef struct call_memory {
    qni_operands in;
    qni_operand scratch;
    qni_operand *all[QN_MAX_IN + QN_MAX_OUT + 1];
    void *device[QN_MAX_IN + QN_MAX_OUT + 1];
    int n;
} call_memory;

static void list_operands(call_memory *m, run_result *r) {
    m->n = 0;
    for (int i = 0; i < QN_MAX_IN; i++) m->all[m->n++] = &m->in.in[i];
    for (int i = 0; i < QN_MAX_OUT; i++) m->all[m->n++] = &r->out[i];
    m->all[m->n++] = &m->scratch;
}

/* The tensor of a call whose storage is operand `o` moves by the same distance. */
static void *moved(void *data, const qni_operand *o, char *to) {
    return to + ((char *)data - (char *)o->raw);
}

static bool inside(const void *data, const qni_operand *o) {
    return o->raw && (const char *)data >= (char *)o->raw &&
           (const char *)data < (char *)o->raw + o->total;
}

/* Runs on operands that are copied to the device with their sentinels, and back. */
static qn_status run_there(qn_device d, const qn_body *body, qn_call *call, call_memory *m) {
    const qn_device_row *row = qn_device_get(d);
    qn_tensor in[QN_MAX_IN], out[QN_MAX_OUT];
    for (int k = 0; k < m->n; k++) {
        const qni_operand *o = m->all[k];
        m->device[k] = NULL;
        if (!o->raw) continue;
        qn_assert_ok(row->alloc(o->total, &m->device[k]));
        qn_assert_ok(qn_device_copy(d, m->device[k], o->raw, o->total));
    }
    qn_call there = *call;
    for (int k = 0; k < m->n; k++) {
        const qni_operand *o = m->all[k];
        char *to = m->device[k];
        for (int i = 0; i < QN_MAX_IN; i++) {
            if (!call->in[i] || !inside(call->in[i]->data, o)) continue;
            in[i] = *call->in[i];
            in[i].data = moved(call->in[i]->data, o, to);
            there.in[i] = &in[i];
        }
        for (int i = 0; i < QN_MAX_OUT; i++) {
            if (!call->out[i] || !inside(call->out[i]->data, o)) continue;
            out[i] = *call->out[i];
            out[i].data = moved(call->out[i]->data, o, to);
            there.out[i] = &out[i];
        }
        if (inside(call->scratch, o)) there.scratch = moved(call->scratch, o, to);
    }
    if (body->prepare) qn_assert_ok(body->prepare(&there));
    qn_status s = body->run(&there);
    if (s == QN_OK) s = row->synchronize(NULL);
    if (body->release) body->release(&there);
    for (int k = 0; k < m->n; k++) {
        const qni_operand *o = m->all[k];
        if (!o->raw) continue;
        if (s == QN_OK) s = qn_device_copy(d, o->raw, m->device[k], o->total);
        row->release(m->device[k], o->total);
    }
    return s;
}

static qn_status run_here(const qn_body *body, qn_call *call) {
    if (body->prepare) qn_assert_ok(body->prepare(call));
    qn_status s = body->run(call);
    if (body->release) body->release(call);
    return s;
}

/* Runs the op once on copies of `in`; the outputs are in `r`. */
static void execute(const qn_case *c, const qni_operands *in, const run_options *o, run_result *r) {
    const qn_op *op = c->op;
    call_memory m = {0};
    for (int i = 0; i < op->n_in; i++) {
        if (in->in[i].raw) operand_copy(&m.in.in[i], &in->in[i]);
    }
    qn_call call;
    qn_tensor out[QN_MAX_OUT] = {0};
    *r = (run_result){0};
    qn_assert_ok(describe(c, &m.in, o, &call, out));
    for (int i = 0; i < op->n_out; i++) {
        if (call.out[i] == &out[i])
            out[i].data = output_storage(c, &m.in, o, i, &out[i], &r->out[i]);
    }
    call.scratch_bytes = qn_device_scratch(o->device, &call);
    int64_t scratch_bytes = (int64_t)call.scratch_bytes;
    qni_operand_make(&m.scratch, QN_U8, 1, &scratch_bytes, false);
    call.scratch = m.scratch.t.data;
    qn_body body;
    qn_assert_ok(qn_device_body(o->device, &call, &body));
    list_operands(&m, r);
    bool separate = qn_device_get(o->device)->separate;
    qn_status s = separate ? run_there(o->device, &body, &call, &m) : run_here(&body, &call);
    if (s != QN_OK) {
        fail_msg("%s: %s on %s: %s", c->name, op->name, qn_device_name(o->device),
                 qn_error_message());
    }

    check_untouched(c, in, &m.in, o);
    if (!qni_operand_guards_ok(&m.scratch))
        fail_msg("%s: %s wrote outside scratch", c->name, op->name);
    qni_operand_free(&m.scratch);
    for (int i = 0; i < op->n_out; i++) {
        if (!call.out[i]) continue;
        if (op->alias[i] == QN_UPDATES) {
            operand_copy(&r->out[i], &m.in.in[updated_input(c, i)]);
        } else if (o->reuse == i) {
            operand_copy(&r->out[i], &m.in.in[op->alias[i] - 1]);
        } else if (!qni_operand_guards_ok(&r->out[i])) {
            fail_msg("%s: %s wrote outside output %s", c->name, op->name, op->out_name[i]);
        }
        r->out[i].t.ndim = call.out[i]->ndim;
        memcpy(r->out[i].t.shape, call.out[i]->shape, sizeof call.out[i]->shape);
        memcpy(r->out[i].t.stride, call.out[i]->stride, sizeof call.out[i]->stride);
    }
    qni_operands_free(&m.in);
}

/* ---- comparison ------------------------------------------------------------------------------ */

static double rounded(double v, qn_dtype dt) {
    double storage = 0;
    qn_tensor one = qn_tensor_make(&storage, dt, 0, NULL);
    qn_tensor_set(&one, 0, v);
    return qn_tensor_get(&one, 0);
}

static bool matches(double got, double want, double tol) {
    if (isnan(want)) return isnan(got);
    if (isinf(want)) return got == want;
    return fabs(got - want) <= tol * (1 + fabs(want));
}

/* bf16 has 8 significant bits. Where terms as large as the largest element cancel, f32 leaves
 * 2^-24 of them: the unit of nothing below 2^-16 of the largest counts. */
static bool within_two_ulp(double got, double want, double largest) {
    int exponent;
    if (isnan(want) || isinf(want)) return matches(got, want, 0);
    frexp(fmax(fabs(want), largest * 0x1p-16), &exponent);
    if (exponent < -125) exponent = -125; /* below, the numbers lie evenly */
    return fabs(got - want) <= 2 * ldexp(1.0, exponent - 8);
}

static double largest_of(const qn_tensor *t) {
    double most = 0;
    for (int64_t i = 0; i < qn_tensor_count(t); i++) {
        double v = fabs(qn_tensor_get(t, i));
        if (isfinite(v) && v > most) most = v;
    }
    return most;
}

/* Of a bf16 output at most one element in a thousand is further than two units in the last place
 * from the rounded f64 result. */
static void check_bf16(const qn_case *c, const char *what, int slot, const qn_tensor *got,
                       const qn_tensor *want) {
    int64_t far = 0, at = 0, n = qn_tensor_count(got);
    double largest = fmax(largest_of(want), 0x1p-8); /* all of it may have cancelled */
    for (int64_t i = 0; i < n; i++) {
        double e = rounded(qn_tensor_get(want, i), QN_BF16);
        if (within_two_ulp(qn_tensor_get(got, i), e, largest)) continue;
        at = i;
        far++;
    }
    if ((double)far <= (c->far_share > 0 ? c->far_share : 0.001) * (double)n) return;
    fail_msg("%s: %s %s: %lld of %lld elements of %s are further than 2 ulp from the f64 result, "
             "one is %.9g, expected %.9g",
             c->name, c->op->name, what, (long long)far, (long long)n, c->op->out_name[slot],
             qn_tensor_get(got, at), qn_tensor_get(want, at));
}

/* Outputs against the oracle's; those in `accumulated` against base + oracle. */
static void compare(const qn_case *c, const char *what, const run_result *got,
                    const run_result *want, uint32_t accumulated, double tol) {
    for (int k = 0; k < c->op->n_out; k++) {
        const qn_tensor *g = &got->out[k].t, *w = &want->out[k].t;
        if (!got->out[k].raw || (c->check_out && !(c->check_out & 1u << k))) continue;
        if (!qn_tensor_same_shape(g, w)) {
            fail_msg("%s: %s: the shape of %s depends on the dtype", c->name, what,
                     c->op->out_name[k]);
        }
        int64_t n = qn_tensor_count(g);
        bool add = accumulated & 1u << k;
        double slack = add ? tol + (g->dtype == QN_F64   ? 0x1p-50
                                    : g->dtype == QN_F32 ? 0x1p-22
                                                         : 0x1p-7)
                           : tol;
        for (int64_t i = 0; i < n; i++) {
            double e = qn_tensor_get(w, i), v = qn_tensor_get(g, i);
            if (add) e += rounded(base_value(k, i), g->dtype);
            if (!matches(v, rounded(e, g->dtype), slack)) {
                char shape[96];
                fail_msg("%s: %s %s: %s of %s element %lld is %.9g, expected %.9g within %.2g",
                         c->name, c->op->name, what, c->op->out_name[k],
                         qn_tensor_describe(g, shape, sizeof shape), (long long)i, v, e, slack);
            }
        }
        if (g->dtype == QN_BF16 && !add) check_bf16(c, what, k, g, w);
    }
}

static void compare_bits(const qn_case *c, const char *what, const run_result *a,
                         const run_result *b) {
    for (int k = 0; k < c->op->n_out; k++) {
        if (a->out[k].raw && qn_hash_tensor(&a->out[k].t) != qn_hash_tensor(&b->out[k].t)) {
            fail_msg("%s: %s: output %s differs %s", c->name, c->op->name, c->op->out_name[k],
                     what);
        }
    }
}

/* ---- the checks ------------------------------------------------------------------------------ */

/* Sharing is possible when the output fits the input exactly. */
static bool can_share(const qn_case *c, const qni_operands *in, const run_result *r, int slot) {
    unsigned char alias = c->op->alias[slot];
    if (alias == QN_FRESH || alias == QN_UPDATES || !r->out[slot].raw) return false;
    const qni_operand *o = &in->in[alias - 1];
    return o->raw && qn_tensor_is_contiguous(&o->t) && o->t.dtype == r->out[slot].t.dtype &&
           o->bytes == r->out[slot].bytes;
}

static void check_device(const qn_case *c, const qni_operands *in, const run_result *oracle,
                         qn_device device, double tol) {
    const char *name = qn_device_name(device);
    char what[64];
    run_result one, other;
    run_options o = {.device = device, .threads = 1, .reuse = -1};
    execute(c, in, &o, &one);
    snprintf(what, sizeof what, "on %s", name);
    compare(c, what, &one, oracle, 0, tol);

    for (int threads = 1; threads <= 2; threads++) {
        if (threads == 2 && device == QN_CUDA) break; /* it has no such choice */
        o.threads = threads;
        execute(c, in, &o, &other);
        compare_bits(c, threads == 1 ? "between two runs" : "between 1 and 2 threads", &one,
                     &other);
        result_free(&other);
    }
    for (int k = 0; k < c->op->n_out; k++) {
        if (!can_share(c, in, &one, k)) continue;
        o.reuse = k;
        execute(c, in, &o, &other);
        compare_bits(c, "when it takes over its input's storage", &one, &other);
        result_free(&other);
    }
    o.reuse = -1;
    for (int k = 0; k < c->op->n_out; k++) {
        if (!one.out[k].raw || !(c->op->can_accumulate & 1u << k)) continue;
        o.accumulate = 1u << k;
        execute(c, in, &o, &other);
        snprintf(what, sizeof what, "on %s, adding to %s", name, c->op->out_name[k]);
        compare(c, what, &other, oracle, o.accumulate, tol);
        result_free(&other);
    }
    result_free(&one);
}

/* Is there a CUDA body to check? One that is missing is told; f64 has none by design. */
static bool cuda_has(const qn_case *c, qn_dtype dt, qn_dtype first) {
    if (dt == QN_F64 || !qn_cuda_usable()) return false;
    if (qn_device_kernel(QN_CUDA, c->op, first)) return true;
    print_message("[  SKIP  ] %s: no CUDA kernel for %s on %s\n", c->name, c->op->name,
                  qn_dtype_name(first));
    return false;
}

static void check_dtype(const qn_case *c, qn_dtype dt) {
    qni_operands in, wide;
    run_options plain = {.device = QN_REF, .threads = 1, .reuse = -1};
    qn_call call;
    qn_tensor out[QN_MAX_OUT] = {0};
    qni_operands_make(&in, c, dt, NULL);
    qn_dtype first = in.in[0].raw ? in.in[0].t.dtype : QN_F32;
    qn_status s = describe(c, &in, &plain, &call, out);
    if (s == QN_ERR_DTYPE && dt == QN_BF16 && !(c->op->cpu_dtypes & QN_DTYPE_BIT(first))) {
        qni_operands_free(&in);
        return; /* an op without bf16 */
    }
    if (s != QN_OK) fail_msg("%s in %s: %s", c->name, qn_dtype_name(dt), qn_error_message());

    double tol = dt == QN_F32 ? c->tol_f32 : dt == QN_BF16 ? c->tol_bf16 : 1e-12;
    run_result oracle;
    qni_operands_make(&wide, c, QN_F64, &in);
    execute(c, &wide, &plain, &oracle);
    check_device(c, &in, &oracle, QN_REF, tol);
    if (qn_device_kernel(QN_CPU, c->op, first) != c->op->run[QN_REF]) {
        check_device(c, &in, &oracle, QN_CPU, tol);
    }
    if (cuda_has(c, dt, first)) check_device(c, &in, &oracle, QN_CUDA, tol);
    result_free(&oracle);
    qni_operands_free(&wide);
    qni_operands_free(&in);
}

void qni_check_calls(const qn_case *c) {
    static const qn_dtype dtypes[] = {QN_F32, QN_BF16, QN_F64};
    for (int i = 0; i < 3; i++) {
        if (!c->dtypes || (c->dtypes & QN_DTYPE_BIT(dtypes[i]))) check_dtype(c, dtypes[i]);
    }
}
