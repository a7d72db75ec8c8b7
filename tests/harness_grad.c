/* harness_grad.c — an op's gradient through the tape in f64 against central differences.
 *
 * The differentiated scalar is the op's own loss, or the sum of its outputs times fixed random
 * weights. Differences at h and h/2 are combined by one Richardson step: (4 D(h/2) - D(h)) / 3.
 */
#include "tests/harness_internal.h"

#include <math.h>
#include <string.h>

enum { MAX_ELEMENTS = 64 };

typedef struct check {
    const qn_case *c;
    qni_operands in, grad;
    qni_operand weight[QN_MAX_OUT];
} check;

typedef struct compiled {
    qn_program *program;
    qn_arena *pool;
    const qn_value *loss;
} compiled;

static bool wanted(const check *k, int slot) {
    const qni_operand *o = &k->in.in[slot];
    return o->raw && qn_dtype_is_float(o->t.dtype) && !k->c->in[slot].no_grad;
}

static qn_value *record_input(check *k, qn_tape *t, int slot, bool differentiate) {
    qni_operand *o = &k->in.in[slot], *g = &k->grad.in[slot];
    bool grad = wanted(k, slot);
    const char *name = k->c->op->in_name[slot];
    qn_value *v = qn_tape_given(t, name, QN_CLASS_INPUT, &o->whole, grad);
    if (grad && differentiate) {
        qn_tape_set_grad(t, v, qn_tape_given(t, name, QN_CLASS_GRADIENT, &g->whole, false));
    }
    if (!k->c->in[slot].strided) return v;
    return qn_tape_view(t, v, o->t.ndim, o->t.shape, o->t.stride, 0);
}

static qn_value *weighted_sum(check *k, qn_tape *t, qn_value *const *outs) {
    const qn_op *op = k->c->op;
    uint32_t mask = k->c->grad_out ? k->c->grad_out : ~op->optional_out;
    qn_value *sum = NULL;
    for (int i = 0; i < op->n_out; i++) {
        if (!outs[i] || !(mask & 1u << i)) continue;
        qni_operand *w = &k->weight[i];
        if (!w->raw) {
            qni_operand_make(w, QN_F64, outs[i]->t.ndim, outs[i]->t.shape, false);
            int64_t n = qn_tensor_count(&w->t);
            for (int64_t e = 0; e < n; e++) {
                qn_tensor_set(&w->t, e, qn_rng_normal(5, (uint64_t)i, (uint64_t)e));
            }
        }
        qn_value *weight = qn_tape_given(t, "weight", QN_CLASS_INPUT, &w->t, false);
        qn_value *part = qn_reduce(t, qn_mul(t, outs[i], weight), QN_SUM, QN_ALL_AXES, false);
        sum = sum ? qn_add(t, sum, part) : part;
    }
    return sum;
}

static void compile(check *k, bool differentiate, compiled *out) {
    const qn_case *c = k->c;
    qn_tape *t;
    qn_tape_options options = {.name = "gradient check", .seed = 1, .threads = 1, .training = true};
    qn_assert_ok(qn_tape_create(&options, &t));
    qn_value *in[QN_MAX_IN] = {0}, *outs[QN_MAX_OUT] = {0};
    for (int i = 0; i < c->op->n_in; i++) {
        if (k->in.in[i].raw) in[i] = record_input(k, t, i, differentiate);
    }
    if (qn_tape_emit(t, c->op, in, outs, c->want_out, c->attrs, NULL) != QN_OK) {
        fail_msg("%s: %s", c->name, qn_error_message());
    }
    qn_value *loss = qn_tape_keep(t, c->rooted ? outs[0] : weighted_sum(k, t, outs), "loss");
    if (differentiate && qn_tape_status(t) == QN_OK && qn_tape_backward(t, loss) != QN_OK) {
        fail_msg("%s: backward of %s: %s", c->name, c->op->name, qn_error_message());
    }
    if (qn_tape_status(t) != QN_OK) fail_msg("%s: %s", c->name, qn_error_message());
    qn_assert_ok(qn_program_create(t, &out->program));
    qn_assert_ok(qn_arena_create("test pool", qn_program_pool_bytes(out->program), &out->pool));
    qn_assert_ok(qn_program_bind(out->program, QN_REF, out->pool));
    out->loss = loss;
}

static void compiled_free(compiled *p) {
    qn_program_free(p->program);
    qn_arena_free(p->pool);
}

static double replay(const compiled *p) {
    qn_arena_poison(p->pool);
    qn_assert_ok(qn_program_replay(p->program));
    return qn_tensor_get(&p->loss->t, 0);
}

static double difference(const compiled *forward, const qn_tensor *x, int64_t i, double h) {
    double at = qn_tensor_get(x, i), up = at + h, down = at - h;
    qn_tensor_set(x, i, up);
    double high = replay(forward);
    qn_tensor_set(x, i, down);
    double low = replay(forward);
    qn_tensor_set(x, i, at);
    return (high - low) / (up - down);
}

static void check_input(const check *k, const compiled *forward, int slot) {
    const qn_tensor *x = &k->in.in[slot].t, *g = &k->grad.in[slot].t;
    int64_t n = qn_tensor_count(x), tested = n < MAX_ELEMENTS ? n : MAX_ELEMENTS;
    for (int64_t e = 0; e < tested; e++) {
        int64_t i = n == tested ? e : (int64_t)qn_rng_permute(3, (uint64_t)n, (uint64_t)e);
        double h = 6e-6 * fmax(1, fabs(qn_tensor_get(x, i)));
        double coarse = difference(forward, x, i, h), fine = difference(forward, x, i, h / 2);
        double want = (4 * fine - coarse) / 3, got = qn_tensor_get(g, i);
        if (!(fabs(got - want) <= 1e-6 * fmax(1, fabs(want)))) {
            fail_msg("%s: %s: d loss / d %s[%lld] is %.12g, differences give %.12g", k->c->name,
                     k->c->op->name, k->c->op->in_name[slot], (long long)i, got, want);
        }
    }
}

void qni_check_gradient(const qn_case *c) {
    check k = {.c = c};
    compiled both, forward;
    qni_operands_make(&k.in, c, QN_F64, NULL);
    for (int i = 0; i < c->op->n_in; i++) {
        if (wanted(&k, i)) {
            qni_operand_make(&k.grad.in[i], QN_F64, c->in[i].ndim, c->in[i].shape,
                             c->in[i].strided);
        }
    }
    compile(&k, true, &both);
    compile(&k, false, &forward);
    double a = replay(&both), b = replay(&forward);
    if (!(a == b) && !(isnan(a) && isnan(b))) {
        fail_msg("%s: %s: the loss is %.17g with and %.17g without gradients", c->name, c->op->name,
                 a, b);
    }
    for (int i = 0; i < c->op->n_in; i++) {
        if (wanted(&k, i)) check_input(&k, &forward, i);
    }
    for (int i = 0; i < c->op->n_in; i++) {
        if (k.in.in[i].raw && !qni_operand_guards_ok(&k.in.in[i])) {
            fail_msg("%s: the program wrote outside %s", c->name, c->op->in_name[i]);
        }
        if (k.grad.in[i].raw && !qni_operand_guards_ok(&k.grad.in[i])) {
            fail_msg("%s: the gradient of %s overran", c->name, c->op->in_name[i]);
        }
    }
    compiled_free(&both);
    compiled_free(&forward);
    qni_operands_free(&k.in);
    qni_operands_free(&k.grad);
    for (int i = 0; i < QN_MAX_OUT; i++) qni_operand_free(&k.weight[i]);
}
