/* test_program.c — small graphs through differentiation, planning and replay.
 *
 * Every graph of the table is a function of two given tensors. Each must have the gradient that
 * differences give, the same bits whatever storage the planner shares and whatever is recomputed,
 * and a plan in which no two things alive at once overlap.
 */
#include "tests/harness.h"
#include "engine/program_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4, COLUMNS = 6, NX = ROWS * COLUMNS, NW = COLUMNS * COLUMNS };

typedef struct store { /* given storage of every graph */
    double x[NX], w[NW], dx[NX], dw[NW];
    int64_t rng[2];
} store;

typedef struct graph_inputs {
    qn_value *x, *w, *rng;
} graph_inputs;

typedef qn_value *graph_function(qn_tape *t, graph_inputs in);

static qn_value *sum(qn_tape *t, qn_value *v) {
    return qn_reduce(t, v, QN_SUM, QN_ALL_AXES, false);
}
static qn_value *sum_square(qn_tape *t, qn_value *v) { return sum(t, qn_mul(t, v, v)); }
static qn_value *columns(qn_tape *t, qn_value *v, int64_t start, int64_t n) {
    return qn_slice(t, v, 1, start, n);
}

/* ---- graphs ---------------------------------------------------------------------------------- */

static qn_value *used_often(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_scale(t, in.x, 0.5, 0.25);
    qn_value *cube = qn_mul(t, qn_mul(t, y, y), y);
    return sum(t, qn_add(t, qn_sub(t, cube, y), qn_mul(t, y, in.x)));
}

static qn_value *product(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_linear(t, in.x, in.w, NULL, QN_ACT_NONE, NULL);
    return sum_square(t, qn_activate(t, y, QN_ACT_TANH));
}

static qn_value *weight_twice(qn_tape *t, graph_inputs in) { /* shared weights: two writers of dw */
    qn_value *y = qn_linear(t, in.x, in.w, NULL, QN_ACT_NONE, NULL);
    return sum_square(t, qn_linear(t, y, in.w, NULL, QN_ACT_NONE, in.x));
}

static qn_value *disjoint(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_scale(t, in.x, 2, 0);
    qn_value *p = qn_mul(t, columns(t, y, 0, 3), columns(t, y, 3, 3));
    return sum_square(t, p);
}

static qn_value *disjoint_given(qn_tape *t, graph_inputs in) {
    return sum_square(t, qn_mul(t, columns(t, in.x, 0, 3), columns(t, in.x, 3, 3)));
}

static qn_value *overlapping(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_scale(t, in.x, 2, 0);
    return sum_square(t, qn_mul(t, columns(t, y, 0, 4), columns(t, y, 2, 4)));
}

static qn_value *overlapping_given(qn_tape *t, graph_inputs in) {
    return sum_square(t, qn_mul(t, columns(t, in.x, 0, 4), columns(t, in.x, 2, 4)));
}

static qn_value *partly_used(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_mul(t, in.x, in.x);
    return sum_square(t, columns(t, y, 1, 3));
}

static qn_value *part_and_whole(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_mul(t, in.x, in.x);
    qn_value *part = sum_square(t, qn_slice(t, y, 0, 1, 2));
    return qn_add(t, part, sum_square(t, y));
}

static qn_value *slice_of_slice(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_mul(t, in.x, in.x);
    qn_value *inner = columns(t, qn_slice(t, y, 0, 1, 3), 2, 2);
    return qn_add(t, sum_square(t, inner), sum_square(t, columns(t, y, 0, 2)));
}

static qn_value *transposed(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_mul(t, in.x, in.x);
    qn_value *flat = qn_reshape(t, qn_contiguous(t, qn_transpose(t, y, 0, 1)), QN_SHAPE(3, 8));
    return sum_square(t, qn_mul(t, flat, qn_reshape(t, y, QN_SHAPE(3, 8))));
}

static qn_value *joined(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_mul(t, in.x, in.x);
    qn_value *parts[] = {y, in.x, columns(t, y, 1, 2)};
    return sum_square(t, columns(t, qn_concat(t, parts, 3, 1), 3, 10));
}

static qn_value *broadcast(qn_tape *t, graph_inputs in) {
    qn_value *row = qn_reduce(t, in.x, QN_MEAN, 0, true);
    return sum_square(t, qn_sub(t, qn_mul(t, in.x, row), qn_slice(t, in.w, 0, 2, 1)));
}

/* The sum's gradient is handed to y and z; what is added to y's afterwards must not reach z's. */
static qn_value *handed_to_two(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_scale(t, in.x, 2, 0), *z = qn_scale(t, in.x, 3, 0);
    qn_value *square = qn_mul(t, y, y);
    return qn_add(t, sum_square(t, qn_add(t, y, z)), sum_square(t, square));
}

/* y = 2 x and z = 3 x, z written first; either may take over x's storage, not both. */
static qn_status twin_infer(qn_call *c) {
    for (int k = 0; k < 2; k++) {
        *c->out[k] =
            qn_tensor_make(c->out[k]->data, c->in[0]->dtype, c->in[0]->ndim, c->in[0]->shape);
    }
    return QN_OK;
}

static qn_status twin_run(const qn_call *c) {
    int64_t n = qn_tensor_count(c->in[0]);
    for (int64_t i = 0; i < n; i++) {
        double x = qn_tensor_get(c->in[0], i);
        qn_tensor_set(c->out[1], i, 3 * x);
        qn_tensor_set(c->out[0], i, 2 * x);
    }
    return QN_OK;
}

static qn_status twin_backward(qn_tape *t, qn_node *n) {
    qn_value *dy = qn_grad_of(t, n->out[0]), *dz = qn_grad_of(t, n->out[1]);
    QN_TRY(qn_grad_pass(t, n->in[0], qn_scale(t, dy, 2, 0)));
    return qn_grad_pass(t, n->in[0], qn_scale(t, dz, 3, 0));
}

static const qn_op twin = {.name = "twin",
                           .n_in = 1,
                           .n_out = 2,
                           .in_name = {"x"},
                           .out_name = {"y", "z"},
                           .alias = {QN_MAY_REUSE(0), QN_MAY_REUSE(0)},
                           .infer = twin_infer,
                           .run = {twin_run},
                           .backward = twin_backward};

static qn_value *two_outputs(qn_tape *t, graph_inputs in) {
    qn_value *x = qn_scale(t, in.x, 0.5, 0), *out[2] = {NULL, NULL};
    if (qn_tape_emit(t, &twin, &x, out, 0, NULL, NULL) != QN_OK) return NULL;
    return sum_square(t, qn_add(t, qn_mul(t, out[0], out[0]), out[1]));
}

static qn_value *one_of_two_outputs(qn_tape *t, graph_inputs in) {
    qn_value *x = qn_scale(t, in.x, 0.5, 0), *out[2] = {NULL, NULL};
    if (qn_tape_emit(t, &twin, &x, out, 0, NULL, NULL) != QN_OK) return NULL;
    return sum_square(t, out[1]);
}

static qn_value *constant_branch(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_mul(t, in.x, in.x);
    qn_tape_no_grad_push(t);
    qn_value *fixed = qn_reduce(t, qn_mul(t, y, y), QN_MAX, QN_ALL_AXES, false);
    qn_tape_no_grad_pop(t);
    return sum(t, qn_mul(t, y, fixed));
}

static qn_value *dead_branch(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_mul(t, in.x, in.x);
    qn_mul(t, qn_scale(t, y, 3, 0), y);
    return sum_square(t, y);
}

static qn_value *block(qn_tape *t, qn_value *x, graph_inputs in) {
    qn_value *y = qn_linear(t, x, in.w, NULL, QN_ACT_NONE, NULL);
    y = qn_activate(t, y, QN_ACT_TANH);
    y = qn_dropout(t, y, 0.3, in.rng, NULL);
    return qn_add(t, x, y);
}

static qn_value *residual_stream(qn_tape *t, graph_inputs in) {
    qn_value *x = qn_scale(t, in.x, 0.5, 0);
    for (int i = 0; i < 4; i++) {
        qn_tape_scope_push(t, "blocks.%d", i);
        x = block(t, x, in);
        qn_tape_scope_pop(t);
    }
    return sum_square(t, x);
}

static const struct graph {
    const char *name;
    graph_function *record;
    uint32_t
        fixed; /* bit 0, 1: x, w need no gradient, or the differences would not see what does */
    bool gaps; /* not every element of a given tensor is consumed */
} graphs[] = {
    {"used often", used_often, 2, false},
    {"product", product, 0, false},
    {"weight twice", weight_twice, 0, false},
    {"disjoint slices", disjoint, 2, false},
    {"disjoint slices of given storage", disjoint_given, 2, false},
    {"overlapping slices", overlapping, 2, false},
    {"overlapping slices of given storage", overlapping_given, 2, false},
    {"partly used", partly_used, 2, false},
    {"part and whole", part_and_whole, 2, false},
    {"slice of a slice", slice_of_slice, 2, false},
    {"transposed", transposed, 2, false},
    {"joined", joined, 2, false},
    {"broadcast", broadcast, 0, true},
    {"dead branch", dead_branch, 2, false},
    {"handed to two", handed_to_two, 2, false},
    {"two outputs", two_outputs, 2, false},
    {"one of two outputs", one_of_two_outputs, 2, false},
    {"residual stream", residual_stream, 0, false},
};
enum { N_GRAPHS = sizeof graphs / sizeof graphs[0] };

/* ---- compiling and running ------------------------------------------------------------------- */

typedef struct options {
    bool forward_only, keep_all, no_reuse, accumulate;
    const char *const *recompute;
} options;

typedef struct compiled {
    qn_program *program;
    qn_arena *pool;
    const qn_value *loss;
} compiled;

static void store_fill(store *s, bool gaps) {
    memset(s, gaps ? 0 : 0xFF, sizeof *s);
    for (int i = 0; i < NX; i++) s->x[i] = qn_rng_normal(1, 0, (uint64_t)i);
    for (int i = 0; i < NW; i++) s->w[i] = 0.5 * qn_rng_normal(2, 0, (uint64_t)i);
    s->rng[0] = 3;
    s->rng[1] = 0;
}

static qn_value *given(qn_tape *t, const char *name, double *data, double *grad, int64_t rows,
                       bool fixed) {
    qn_tensor v = qn_tensor_make(data, QN_F64, QN_SHAPE(rows, COLUMNS));
    qn_tensor g = qn_tensor_make(grad, QN_F64, QN_SHAPE(rows, COLUMNS));
    qn_value *value = qn_tape_given(t, name, QN_CLASS_WEIGHT, &v, !fixed);
    if (!fixed) qn_tape_set_grad(t, value, qn_tape_given(t, name, QN_CLASS_GRADIENT, &g, false));
    return value;
}

static graph_inputs give(qn_tape *t, store *s, uint32_t fixed) {
    qn_tensor rng = qn_tensor_make(s->rng, QN_I64, QN_SHAPE(2));
    return (graph_inputs){.x = given(t, "x", s->x, s->dx, ROWS, fixed & 1),
                          .w = given(t, "w", s->w, s->dw, COLUMNS, fixed & 2),
                          .rng = qn_tape_given(t, "rng", QN_CLASS_INPUT, &rng, false)};
}

static compiled compile(const struct graph *g, store *s, options o) {
    compiled c;
    qn_tape *t;
    qn_tape_options tape = {.name = g->name,
                            .seed = 7,
                            .threads = 2,
                            .training = true,
                            .recompute = o.recompute,
                            .no_reuse = o.no_reuse,
                            .accumulate_params = o.accumulate};
    qn_assert_ok(qn_tape_create(&tape, &t));
    qn_value *loss = qn_tape_keep(t, g->record(t, give(t, s, g->fixed)), "loss");
    if (!o.forward_only && qn_tape_backward(t, loss) != QN_OK) {
        fail_msg("%s: %s", g->name, qn_error_message());
    }
    if (qn_tape_status(t) != QN_OK) fail_msg("%s: %s", g->name, qn_error_message());
    for (int i = 0; o.keep_all && i < t->n_values; i++) {
        if (t->values[i]->cls == QN_CLASS_TEMP) t->values[i]->base->keep = true;
    }
    c.loss = loss;
    qn_assert_ok(qn_program_create(t, &c.program));
    qn_assert_ok(qn_arena_create("test pool", qn_program_pool_bytes(c.program), &c.pool));
    qn_assert_ok(qn_program_bind(c.program, QN_REF, c.pool));
    return c;
}

static void compiled_free(compiled *c) {
    qn_program_free(c->program);
    qn_arena_free(c->pool);
}

static double replay(const compiled *c) {
    qn_arena_poison(c->pool);
    qn_assert_ok(qn_program_replay(c->program));
    return qn_tensor_get(&c->loss->t, 0);
}

/* Loss and gradients of one poisoned replay, as bits. */
static void run(const struct graph *g, options o, store *s, double *loss) {
    store_fill(s, g->gaps);
    compiled c = compile(g, s, o);
    *loss = replay(&c);
    compiled_free(&c);
}

static void assert_same_bits(const struct graph *g, const char *what, const store *a, double loss_a,
                             const store *b, double loss_b) {
    if (memcmp(a, b, sizeof *a) != 0 || memcmp(&loss_a, &loss_b, sizeof loss_a) != 0) {
        fail_msg("%s: the bits change with %s", g->name, what);
    }
}

/* ---- gradients ------------------------------------------------------------------------------- */

static void check_differences(const struct graph *g, const compiled *forward, double *x,
                              const double *dx, int n, const char *name) {
    for (int i = 0; i < n; i++) {
        double at = x[i], h = 1e-3, d[2];
        for (int k = 0; k < 2; k++, h /= 2) {
            x[i] = at + h;
            double high = replay(forward);
            x[i] = at - h;
            double low = replay(forward);
            x[i] = at;
            d[k] = (high - low) / (2 * h);
        }
        double want = (4 * d[1] - d[0]) / 3; /* one Richardson step: the error is O(h^4) */
        if (!(fabs(dx[i] - want) <= 1e-8 * (1 + fabs(want)))) {
            fail_msg("%s: d%s[%d] is %.12g, differences give %.12g", g->name, name, i, dx[i], want);
        }
    }
}

static void test_gradients_agree_with_differences(void **state) {
    (void)state;
    for (int k = 0; k < N_GRAPHS; k++) {
        const struct graph *g = &graphs[k];
        store s;
        double loss;
        run(g, (options){0}, &s, &loss);
        compiled forward = compile(g, &s, (options){.forward_only = true});
        assert_true(replay(&forward) == loss);
        if (!(g->fixed & 1)) check_differences(g, &forward, s.x, s.dx, NX, "x");
        if (!(g->fixed & 2)) check_differences(g, &forward, s.w, s.dw, NW, "w");
        compiled_free(&forward);
    }
}

/* d/dx of sum(x^2 c) with c held constant. */
static void test_no_grad_cuts_the_gradient(void **state) {
    (void)state;
    const struct graph g = {"constant branch", constant_branch, 2, false};
    store s;
    double loss, largest = 0;
    run(&g, (options){0}, &s, &loss);
    for (int i = 0; i < NX; i++) largest = fmax(largest, pow(s.x[i], 4));
    for (int i = 0; i < NX; i++) qn_assert_close(s.dx[i], 2 * s.x[i] * largest, 1e-14, "dx");
}

static void test_accumulation_adds_to_what_is_there(void **state) {
    (void)state;
    for (int k = 0; k < N_GRAPHS; k++) {
        const struct graph *g = &graphs[k];
        store first, again;
        double loss;
        run(g, (options){0}, &first, &loss);
        again = first;
        compiled c = compile(g, &again, (options){.accumulate = true});
        assert_true(replay(&c) == loss);
        compiled_free(&c);
        for (int i = 0; i < NX && !(g->fixed & 1); i++) {
            qn_assert_close(again.dx[i], 2 * first.dx[i], 1e-13, g->name);
        }
        for (int i = 0; i < NW && !(g->fixed & 2); i++) {
            qn_assert_close(again.dw[i], 2 * first.dw[i], 1e-13, g->name);
        }
    }
}

/* ---- plan ------------------------------------------------------------------------------------ */

static void test_bits_do_not_depend_on_the_layout(void **state) {
    (void)state;
    for (int k = 0; k < N_GRAPHS; k++) {
        store plain, other;
        double a, b;
        run(&graphs[k], (options){0}, &plain, &a);
        run(&graphs[k], (options){.no_reuse = true}, &other, &b);
        assert_same_bits(&graphs[k], "outputs taking over inputs", &plain, a, &other, b);
        run(&graphs[k], (options){.keep_all = true}, &other, &b);
        assert_same_bits(&graphs[k], "every value in storage of its own", &plain, a, &other, b);
        run(&graphs[k], (options){0}, &other, &b);
        assert_same_bits(&graphs[k], "the run", &plain, a, &other, b);
    }
}

static int64_t bytes_of(const qn_value *v) { return (int64_t)qn_tensor_bytes(&v->t); }

static bool in_pool(const qn_value *v) { return v->base == v && v->pool_offset >= 0; }

static const qn_value *storage(const qn_value *v) {
    while (v->shares) v = v->shares;
    return v;
}

static void check_no_overlap(const struct graph *g, const qn_program *p) {
    const qn_tape *t = p->tape;
    int64_t end = 0;
    for (int i = 0; i < t->n_values; i++) {
        const qn_value *a = t->values[i];
        if (!in_pool(a)) continue;
        if (a->pool_offset + bytes_of(a) > end) end = a->pool_offset + bytes_of(a);
        for (int j = 0; j < i; j++) {
            const qn_value *b = t->values[j];
            if (!in_pool(b) || storage(a) == storage(b)) continue;
            bool apart = a->last_use < b->first_use || b->last_use < a->first_use ||
                         a->pool_offset + bytes_of(a) <= b->pool_offset ||
                         b->pool_offset + bytes_of(b) <= a->pool_offset;
            if (!apart) fail_msg("%s: %s and %s overlap in the pool", g->name, a->name, b->name);
        }
        for (int n = a->first_use; n >= 0 && n <= a->last_use && n < t->n_nodes; n++) {
            int64_t at = p->scratch_offset[n], size = (int64_t)t->nodes[n]->call.scratch_bytes;
            bool apart =
                size == 0 || at + size <= a->pool_offset || a->pool_offset + bytes_of(a) <= at;
            if (!apart) fail_msg("%s: %s overlaps the workspace of call %d", g->name, a->name, n);
        }
    }
    for (int n = 0; n < t->n_nodes; n++) {
        int64_t top = p->scratch_offset[n] + (int64_t)t->nodes[n]->call.scratch_bytes;
        if (t->nodes[n]->call.scratch_bytes && top > end) end = top;
    }
    int64_t pool = (int64_t)qn_program_pool_bytes(p);
    if (end > pool || end + 64 <= pool) {
        fail_msg("%s: the plan says %lld bytes, %lld are used", g->name, (long long)pool,
                 (long long)end);
    }
}

static void test_nothing_alive_overlaps(void **state) {
    (void)state;
    static const char *const all[] = {"**", NULL};
    for (int k = 0; k < N_GRAPHS; k++) {
        for (int mode = 0; mode < 3; mode++) {
            store s;
            options o = {.no_reuse = mode == 1, .recompute = mode == 2 ? all : NULL};
            store_fill(&s, false);
            compiled c = compile(&graphs[k], &s, o);
            check_no_overlap(&graphs[k], c.program);
            compiled_free(&c);
        }
    }
}

static qn_value *long_chain(qn_tape *t, graph_inputs in) {
    qn_value *y = qn_scale(t, in.x, 1.5, 0);
    for (int i = 0; i < 10; i++) y = qn_scale(t, y, 1.01, 0);
    return sum(t, y);
}

static void test_a_chain_runs_in_place(void **state) {
    (void)state;
    const struct graph g = {"chain", long_chain, 3, false};
    store s;
    store_fill(&s, false);
    compiled c = compile(&g, &s, (options){.forward_only = true});
    int64_t one = (int64_t)sizeof s.x, loss = 64, scratch = 0;
    for (int i = 0; i < qn_program_call_count(c.program); i++) {
        int64_t bytes = (int64_t)qn_program_node(c.program, i)->call.scratch_bytes;
        scratch = bytes > scratch ? bytes : scratch;
    }
    assert_true((int64_t)qn_program_pool_bytes(c.program) <= one + loss + (scratch + 63) / 64 * 64);
    compiled_free(&c);
}

static void test_dead_calls_are_dropped(void **state) {
    (void)state;
    const struct graph g = {"dead branch", dead_branch, 3, false};
    store s;
    store_fill(&s, false);
    compiled c = compile(&g, &s, (options){.forward_only = true});
    assert_int_equal(qn_program_call_count(c.program), 3); /* mul, mul, reduce */
    compiled_free(&c);
}

static void test_a_pool_too_small_is_refused(void **state) {
    (void)state;
    store s;
    store_fill(&s, false);
    compiled c = compile(&graphs[1], &s, (options){0});
    qn_arena *small;
    qn_assert_ok(qn_arena_create("small", qn_program_pool_bytes(c.program) - 1, &small));
    assert_int_not_equal(qn_program_bind(c.program, QN_REF, small), QN_OK);
    qn_arena_free(small);
    compiled_free(&c);
}

/* ---- recomputation --------------------------------------------------------------------------- */

static void test_recomputed_scopes_give_the_same_bits(void **state) {
    (void)state;
    static const char *const every[] = {"blocks.*", NULL}, *const some[] = {"blocks.1", "blocks.3",
                                                                            NULL};
    const struct graph *g = &graphs[N_GRAPHS - 1];
    store plain, other;
    double a, b;
    run(g, (options){0}, &plain, &a);
    run(g, (options){.recompute = every}, &other, &b);
    assert_same_bits(g, "recomputation of every block", &plain, a, &other, b);
    run(g, (options){.recompute = some}, &other, &b);
    assert_same_bits(g, "recomputation of some blocks", &plain, a, &other, b);

    store_fill(&other, false);
    compiled once = compile(g, &other, (options){0});
    compiled twice = compile(g, &other, (options){.recompute = every});
    assert_true(qn_program_call_count(twice.program) > qn_program_call_count(once.program));
    assert_true(qn_program_pool_bytes(twice.program) < qn_program_pool_bytes(once.program));
    compiled_free(&once);
    compiled_free(&twice);
}

static void test_dropout_moves_with_the_step(void **state) {
    (void)state;
    const struct graph *g = &graphs[N_GRAPHS - 1];
    store s;
    store_fill(&s, false);
    compiled c = compile(g, &s, (options){.forward_only = true});
    double first = replay(&c);
    s.rng[0]++;
    assert_true(replay(&c) != first);
    s.rng[0]--;
    assert_true(replay(&c) == first);
    compiled_free(&c);
}

/* ---- replay ---------------------------------------------------------------------------------- */

static void test_replay_allocates_nothing(void **state) {
    (void)state;
    for (int k = 0; k < N_GRAPHS; k++) {
        store s;
        store_fill(&s, false);
        compiled c = compile(&graphs[k], &s, (options){0});
        int64_t before = qn_alloc_count();
        for (int i = 0; i < 3; i++) replay(&c);
        assert_true(qn_alloc_count() == before);
        compiled_free(&c);
    }
}

static void test_checked_replay_names_the_first_bad_output(void **state) {
    (void)state;
    store s;
    char report[256] = "?";
    store_fill(&s, false);
    compiled c = compile(&graphs[N_GRAPHS - 1], &s, (options){0});
    qn_assert_ok(qn_program_replay_checked(c.program, report, sizeof report));
    assert_string_equal(report, "");
    s.w[7] = (double)NAN;
    qn_assert_ok(qn_program_replay_checked(c.program, report, sizeof report));
    assert_non_null(strstr(report, "blocks.0 linear:y element 1 = "));
    compiled_free(&c);
}

static void test_timed_replay_times_every_call(void **state) {
    (void)state;
    store s;
    double seconds[64], plain;
    run(&graphs[1], (options){0}, &s, &plain);
    store_fill(&s, false);
    compiled c = compile(&graphs[1], &s, (options){0});
    int n = qn_program_call_count(c.program);
    assert_in_range(n, 1, 64);
    memset(seconds, 0xFF, sizeof seconds);
    qn_assert_ok(qn_program_replay_timed(c.program, seconds));
    for (int i = 0; i < n; i++) assert_true(seconds[i] >= 0);
    assert_true(qn_tensor_get(&c.loss->t, 0) == plain);
    compiled_free(&c);
}

static void test_cost_is_the_sum_of_the_calls(void **state) {
    (void)state;
    store s;
    store_fill(&s, false);
    compiled c = compile(&graphs[1], &s, (options){.forward_only = true});
    qn_cost total;
    qn_program_cost(c.program, &total);
    double product_flops = 2.0 * ROWS * COLUMNS * COLUMNS;
    assert_true(total.flops >= product_flops && total.flops <= product_flops + 100.0 * NX);
    assert_true(total.bytes >= (double)(sizeof s.x + sizeof s.w));
    compiled_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_agree_with_differences),
        cmocka_unit_test(test_no_grad_cuts_the_gradient),
        cmocka_unit_test(test_accumulation_adds_to_what_is_there),
        cmocka_unit_test(test_bits_do_not_depend_on_the_layout),
        cmocka_unit_test(test_nothing_alive_overlaps),
        cmocka_unit_test(test_a_chain_runs_in_place),
        cmocka_unit_test(test_dead_calls_are_dropped),
        cmocka_unit_test(test_a_pool_too_small_is_refused),
        cmocka_unit_test(test_recomputed_scopes_give_the_same_bits),
        cmocka_unit_test(test_dropout_moves_with_the_step),
        cmocka_unit_test(test_replay_allocates_nothing),
        cmocka_unit_test(test_checked_replay_names_the_first_bad_output),
        cmocka_unit_test(test_timed_replay_times_every_call),
        cmocka_unit_test(test_cost_is_the_sum_of_the_calls),
    };
    return cmocka_run_group_tests_name("program", tests, NULL, NULL);
}
