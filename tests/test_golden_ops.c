/* test_golden_ops.c — every recording function against PyTorch f64: results and gradients.
 *
 * golden/ops.bin (made by golden/make_ops.py) holds the cases. Each runs as a program twice: in f64
 * on REF, where only the order of summation may differ, and in f32 on the CPU bodies.
 */
#include "tests/harness.h"
#include "tests/harness_golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ARGUMENTS = 8, MAX_RESULTS = 2 };

/* Errors are measured against the largest element of a tensor. f64: sums of at most 67 terms and
 * functions of a few ulp stay far below 1e-12. f32: 64 roundings of 2^-24. */
static const double tolerance[] = {[QN_F32] = 64 * 0x1p-24, [QN_F64] = 1e-12};

typedef struct argument {
    const char *name;
    qn_tensor t, grad;
} argument;

typedef struct result {
    const char *name;
    qn_value *value;
} result;

typedef struct session { /* one case in one dtype */
    const qn_golden *golden;
    char name[96];
    qn_dtype dtype;
    qn_tape *tape;
    int n_arguments, n_results;
    argument argument[MAX_ARGUMENTS];
    result result[MAX_RESULTS];
} session;

static bool find(const session *s, const char *kind, const char *name, qn_tensor *out) {
    char full[256];
    snprintf(full, sizeof full, "%s/%s%s%s", s->name, kind, *name ? "/" : "", name);
    return qn_golden_find(s->golden, full, out);
}

/* ---- what a recording function needs --------------------------------------------------------- */

/* A tensor of the golden file in dtype `dt`; NaN everywhere when `from` is NULL. */
static qn_tensor make_tensor(qn_dtype dt, const qn_tensor *shape, const qn_tensor *from) {
    qn_tensor t = qn_tensor_make(NULL, dt, shape->ndim, shape->shape);
    size_t bytes = qn_tensor_bytes(&t);
    t.data = malloc(bytes + 1);
    if (!t.data) fail_msg("out of memory");
    memset(t.data, 0xFF, bytes);
    int64_t n = from ? qn_tensor_count(&t) : 0;
    for (int64_t i = 0; i < n; i++) qn_tensor_set(&t, i, qn_tensor_get(from, i));
    return t;
}

/* The case's argument as given storage; NULL where the case has none. */
static qn_value *arg(session *s, const char *name) {
    qn_tensor stored, grad;
    if (!find(s, "in", name, &stored)) return NULL;
    assert_true(s->n_arguments < MAX_ARGUMENTS);
    argument *a = &s->argument[s->n_arguments++];
    a->name = name;
    a->t = make_tensor(qn_dtype_is_float(stored.dtype) ? s->dtype : stored.dtype, &stored, &stored);
    bool differentiable = find(s, "grad", name, &grad);
    qn_value *v = qn_tape_given(s->tape, name, QN_CLASS_INPUT, &a->t, differentiable);
    if (differentiable) {
        a->grad = make_tensor(s->dtype, &stored, NULL);
        qn_tape_set_grad(s->tape, v,
                         qn_tape_given(s->tape, name, QN_CLASS_GRADIENT, &a->grad, false));
    }
    return v;
}

static double attr(const session *s, int i) {
    qn_tensor t;
    if (!find(s, "attrs", "", &t) || i >= qn_tensor_count(&t))
        fail_msg("%s: no attribute %d", s->name, i);
    return qn_tensor_get(&t, i);
}

static void give(session *s, const char *name, qn_value *v) {
    assert_true(s->n_results < MAX_RESULTS);
    s->result[s->n_results++] = (result){name, qn_tape_keep(s->tape, v, name)};
}

/* ---- the recording functions ----------------------------------------------------------------- */

typedef void recorder(session *s);

static void binary(session *s, qn_value *(*f)(qn_tape *, qn_value *, qn_value *)) {
    qn_value *a = arg(s, "a"), *b = arg(s, "b");
    give(s, "y", f(s->tape, a, b));
}
static void record_add(session *s) { binary(s, qn_add); }
static void record_sub(session *s) { binary(s, qn_sub); }
static void record_mul(session *s) { binary(s, qn_mul); }
static void record_div(session *s) { binary(s, qn_div); }

static void record_unary(session *s) {
    give(s, "y", qn_unary_op(s->tape, arg(s, "x"), (qn_unary)attr(s, 0)));
}

static void record_scale(session *s) {
    give(s, "y", qn_scale(s->tape, arg(s, "x"), attr(s, 0), attr(s, 1)));
}

static void record_reduce(session *s) {
    qn_reduction kind = (qn_reduction)attr(s, 0);
    give(s, "y", qn_reduce(s->tape, arg(s, "x"), kind, (int)attr(s, 1), attr(s, 2) != 0));
}

static void record_concat(session *s) {
    qn_value *x[3] = {arg(s, "x0"), arg(s, "x1"), arg(s, "x2")};
    give(s, "y", qn_concat(s->tape, x, 3, (int)attr(s, 0)));
}

static void record_linear(session *s) {
    qn_value *x = arg(s, "x"), *w = arg(s, "w"), *b = arg(s, "b"), *residual = arg(s, "residual");
    give(s, "y", qn_linear(s->tape, x, w, b, (qn_activation)attr(s, 0), residual));
}

static void record_matmul(session *s) {
    qn_value *a = arg(s, "a"), *b = arg(s, "b");
    give(s, "y", qn_matmul(s->tape, a, b, attr(s, 0) != 0, attr(s, 1) != 0));
}

static void record_embedding(session *s) {
    qn_value *ids = arg(s, "ids"), *table = arg(s, "table");
    qn_value *positions = arg(s, "positions"), *start = arg(s, "start");
    give(s, "y", qn_embedding(s->tape, ids, table, positions, start));
}

static void record_layernorm(session *s) {
    qn_value *x = arg(s, "x"), *residual = arg(s, "residual"), *w = arg(s, "w"), *b = arg(s, "b"),
             *h;
    give(s, "y", qn_layernorm(s->tape, x, residual, w, b, attr(s, 0), &h));
    if (residual) give(s, "h", h);
}

static void record_rmsnorm(session *s) {
    qn_value *x = arg(s, "x"), *residual = arg(s, "residual"), *w = arg(s, "w"), *h;
    give(s, "y", qn_rmsnorm(s->tape, x, residual, w, attr(s, 0), &h));
    if (residual) give(s, "h", h);
}

static void record_attention(session *s) {
    qn_attention_attrs attrs = {attr(s, 0), attr(s, 1), attr(s, 2) != 0};
    qn_value *q = arg(s, "q"), *k = arg(s, "k"), *v = arg(s, "v");
    qn_value *documents = arg(s, "documents"), *start = arg(s, "start");
    give(s, "o", qn_attention(s->tape, q, k, v, documents, start, NULL, &attrs));
}

static void record_activate(session *s) {
    give(s, "y", qn_activate(s->tape, arg(s, "x"), (qn_activation)attr(s, 0)));
}

static void record_swiglu(session *s) {
    qn_value *gate = arg(s, "gate"), *up = arg(s, "up");
    give(s, "y", qn_swiglu(s->tape, gate, up));
}

static void record_rope(session *s) {
    qn_value *x = arg(s, "x"), *positions = arg(s, "positions"), *start = arg(s, "start");
    qn_rope_attrs attrs = qn_rope_plain(attr(s, 0), x->t.shape[3]);
    give(s, "y", qn_rope(s->tape, x, positions, start, &attrs));
}

static void record_softmax(session *s) { give(s, "y", qn_softmax(s->tape, arg(s, "x"))); }

static qn_ce_attrs ce_attrs(const session *s) {
    return (qn_ce_attrs){(int64_t)attr(s, 0), attr(s, 1), (int64_t)attr(s, 2)};
}

static void record_cross_entropy(session *s) {
    qn_ce_attrs attrs = ce_attrs(s);
    qn_value *logits = arg(s, "logits"), *targets = arg(s, "targets"), *inv_n = arg(s, "inv_n");
    give(s, "loss", qn_cross_entropy(s->tape, logits, targets, inv_n, &attrs));
}

static void record_linear_cross_entropy(session *s) {
    qn_ce_attrs attrs = ce_attrs(s);
    qn_value *x = arg(s, "x"), *w = arg(s, "w"), *b = arg(s, "b");
    qn_value *targets = arg(s, "targets"), *inv_n = arg(s, "inv_n");
    give(s, "loss", qn_linear_cross_entropy(s->tape, x, w, b, targets, inv_n, &attrs));
}

static void record_mse(session *s) {
    qn_value *y = arg(s, "y"), *target = arg(s, "target"), *inv_n = arg(s, "inv_n");
    give(s, "loss", qn_mse(s->tape, y, target, inv_n));
}

static void record_accuracy(session *s) {
    qn_value *logits = arg(s, "logits"), *targets = arg(s, "targets");
    give(s, "y", qn_accuracy(s->tape, logits, targets, (int64_t)attr(s, 0)));
}

static const struct {
    const char *op;
    recorder *record;
} recorders[] = {
    {"add", record_add},
    {"sub", record_sub},
    {"mul", record_mul},
    {"div", record_div},
    {"unary_op", record_unary},
    {"scale", record_scale},
    {"reduce", record_reduce},
    {"concat", record_concat},
    {"linear", record_linear},
    {"matmul", record_matmul},
    {"embedding", record_embedding},
    {"layernorm", record_layernorm},
    {"rmsnorm", record_rmsnorm},
    {"attention", record_attention},
    {"activate", record_activate},
    {"swiglu", record_swiglu},
    {"rope", record_rope},
    {"softmax", record_softmax},
    {"cross_entropy", record_cross_entropy},
    {"linear_cross_entropy", record_linear_cross_entropy},
    {"mse", record_mse},
    {"accuracy", record_accuracy},
};
enum { N_RECORDERS = sizeof recorders / sizeof recorders[0] };

/* ---- running a case -------------------------------------------------------------------------- */

static void compare(const session *s, const char *kind, const char *name, const qn_tensor *got,
                    double tol) {
    qn_tensor want;
    if (!find(s, kind, name, &want))
        fail_msg("%s: the golden file has no %s/%s", s->name, kind, name);
    if (!qn_tensor_same_shape(got, &want)) {
        char a[96], b[96];
        fail_msg("%s: %s %s is %s, expected %s", s->name, kind, name,
                 qn_tensor_describe(got, a, sizeof a), qn_tensor_describe(&want, b, sizeof b));
    }
    int64_t n = qn_tensor_count(&want);
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(qn_tensor_get(&want, i)));
    for (int64_t i = 0; i < n; i++) {
        double g = qn_tensor_get(got, i), w = qn_tensor_get(&want, i);
        if (!(fabs(g - w) <= tol * largest)) {
            fail_msg("%s in %s: %s %s element %lld is %.17g, expected %.17g (largest %.3g)",
                     s->name, qn_dtype_name(s->dtype), kind, name, (long long)i, g, w, largest);
        }
    }
}

/* The scalar to differentiate: the op's own loss, or the sum of dy times result. */
static qn_value *loss_of(session *s, qn_tensor *dy) {
    qn_value *sum = NULL;
    for (int i = 0; i < s->n_results; i++) {
        qn_tensor stored;
        if (!find(s, "dy", s->result[i].name, &stored)) return s->result[0].value;
        dy[i] = make_tensor(s->dtype, &stored, &stored);
        qn_value *w = qn_tape_given(s->tape, "dy", QN_CLASS_INPUT, &dy[i], false);
        qn_value *product = qn_mul(s->tape, s->result[i].value, w);
        qn_value *part = qn_reduce(s->tape, product, QN_SUM, QN_ALL_AXES, false);
        sum = sum ? qn_add(s->tape, sum, part) : part;
    }
    return sum;
}

static void run_case(const qn_golden *golden, const char *name, recorder *record, qn_dtype dt,
                     qn_device device) {
    session s = {.golden = golden, .dtype = dt};
    snprintf(s.name, sizeof s.name, "%s", name);
    qn_tape_options options = {.name = "golden", .seed = 1, .threads = 2};
    qn_assert_ok(qn_tape_create(&options, &s.tape));
    record(&s);
    qn_tensor dy[MAX_RESULTS] = {0};
    bool differentiable = false;
    for (int i = 0; i < s.n_arguments; i++) differentiable |= s.argument[i].grad.data != NULL;
    if (differentiable) {
        qn_value *loss = loss_of(&s, dy);
        if (qn_tape_backward(s.tape, loss) != QN_OK) fail_msg("%s: %s", name, qn_error_message());
    }
    if (qn_tape_status(s.tape) != QN_OK) fail_msg("%s: %s", name, qn_error_message());

    qn_program *program;
    qn_arena *pool;
    qn_assert_ok(qn_program_create(s.tape, &program));
    qn_assert_ok(qn_arena_create("test pool", qn_program_pool_bytes(program), &pool));
    qn_assert_ok(qn_program_bind(program, device, pool));
    for (int turn = 0; turn < 2; turn++) { /* the second replay finds nothing left of the first */
        qn_arena_poison(pool);
        qn_status status = qn_program_replay(program);
        if (status != QN_OK) fail_msg("%s: %s", name, qn_error_message());
        for (int i = 0; i < s.n_results; i++) {
            compare(&s, "out", s.result[i].name, &s.result[i].value->t, tolerance[dt]);
        }
        for (int i = 0; i < s.n_arguments; i++) {
            argument *a = &s.argument[i];
            if (a->grad.data) compare(&s, "grad", a->name, &a->grad, tolerance[dt]);
        }
    }
    qn_program_free(program);
    qn_arena_free(pool);
    for (int i = 0; i < s.n_arguments; i++) {
        free(s.argument[i].t.data);
        free(s.argument[i].grad.data);
    }
    for (int i = 0; i < MAX_RESULTS; i++) free(dy[i].data);
}

/* The case of golden tensor i when i is its attrs, else false: each case is visited once. */
static bool case_at(const qn_golden *g, int i, char *name, size_t size) {
    const char *full = qn_golden_name(g, i), *end = strstr(full, "/attrs");
    if (!end || end[strlen("/attrs")] != '\0') return false;
    snprintf(name, size, "%.*s", (int)(end - full), full);
    return true;
}

static bool is_case_of(const char *name, const char *op) {
    size_t n = strlen(op);
    return strncmp(name, op, n) == 0 && name[n] == '/';
}

static qn_golden *open_golden(void) {
    qn_golden *g;
    qn_assert_ok(qn_golden_open(QUERN_SOURCE_DIR "/tests/golden/ops.bin", &g));
    return g;
}

static void test_op(void **state) {
    const int k = (int)(intptr_t)*state;
    qn_golden *g = open_golden();
    int cases = 0;
    for (int i = 0; i < qn_golden_count(g); i++) {
        char name[96];
        if (!case_at(g, i, name, sizeof name) || !is_case_of(name, recorders[k].op)) continue;
        run_case(g, name, recorders[k].record, QN_F64, QN_REF);
        run_case(g, name, recorders[k].record, QN_F32, QN_CPU);
        cases++;
    }
    assert_true(cases > 0);
    qn_golden_close(g);
}

/* ---- optimizers: several steps over storage that is updated in place ------------------------- */

enum { MAX_SEGMENTS = 4 };

typedef struct optimizer { /* storage of one run */
    qn_tensor weights, grads, m, v, hyper, guard;
    qn_segment segments[MAX_SEGMENTS];
    int n_segments;
} optimizer;

static void read_segments(const session *s, optimizer *o) {
    qn_tensor t;
    if (!find(s, "in", "segments", &t)) fail_msg("%s: no segments", s->name);
    o->n_segments = (int)t.shape[0];
    assert_true(o->n_segments <= MAX_SEGMENTS);
    for (int i = 0; i < o->n_segments; i++) {
        o->segments[i] = (qn_segment){.offset = (int64_t)qn_tensor_get(&t, 4 * i),
                                      .count = (int64_t)qn_tensor_get(&t, 4 * i + 1),
                                      .lr_scale = qn_tensor_get(&t, 4 * i + 2),
                                      .weight_decay = qn_tensor_get(&t, 4 * i + 3)};
    }
}

static qn_tensor zeros(qn_dtype dt, int64_t n) {
    qn_tensor shape = qn_tensor_make(NULL, dt, 1, &n), t = make_tensor(dt, &shape, NULL);
    memset(t.data, 0, qn_tensor_bytes(&t));
    return t;
}

static qn_value *given(session *s, const char *name, qn_class cls, const qn_tensor *t) {
    return qn_tape_given(s->tape, name, cls, t, false);
}

static void record_update(session *s, const optimizer *o, bool adamw) {
    qn_value *w = given(s, "weights", QN_CLASS_WEIGHT, &o->weights);
    qn_value *g = given(s, "grads", QN_CLASS_GRADIENT, &o->grads);
    qn_value *m = given(s, "m", QN_CLASS_MOMENT, &o->m);
    qn_value *v = given(s, "v", QN_CLASS_MOMENT, &o->v);
    qn_value *hyper = given(s, "hyper", QN_CLASS_BUFFER, &o->hyper);
    qn_value *guard = given(s, "guard", QN_CLASS_BUFFER, &o->guard);
    qn_update_attrs a = {.n_segments = o->n_segments, .segments = o->segments};
    if (adamw) {
        a.beta1 = attr(s, 0);
        a.beta2 = attr(s, 1);
        a.eps = attr(s, 2);
        qn_assert_ok(qn_adamw(s->tape, w, NULL, g, m, v, hyper, guard, NULL, &a));
    } else {
        a.momentum = attr(s, 0);
        a.dampening = attr(s, 1);
        a.nesterov = attr(s, 2) != 0;
        if (a.momentum == 0) m = NULL;
        qn_assert_ok(qn_sgd(s->tape, w, NULL, g, m, hyper, guard, NULL, &a));
    }
}

static double step_value(const session *s, const char *name, int64_t step) {
    qn_tensor t;
    if (!find(s, "in", name, &t)) fail_msg("%s: no %s", s->name, name);
    return qn_tensor_get(&t, step);
}

static void compare_step(const session *s, const optimizer *o, const qn_tensor *want,
                         int64_t step) {
    int64_t n = qn_tensor_count(&o->weights);
    for (int64_t i = 0; i < n; i++) {
        double got = qn_tensor_get(&o->weights, i), expected = qn_tensor_get(want, step * n + i);
        if (!(fabs(got - expected) <= tolerance[s->dtype] * (1 + fabs(expected)))) {
            fail_msg("%s in %s: weight %lld after step %lld is %.17g, expected %.17g", s->name,
                     qn_dtype_name(s->dtype), (long long)i, (long long)step, got, expected);
        }
    }
}

static void run_updates(const qn_golden *golden, const char *name, qn_dtype dt, qn_device device) {
    session s = {.golden = golden, .dtype = dt};
    snprintf(s.name, sizeof s.name, "%s", name);
    qn_tensor weights, grads, want;
    assert_true(find(&s, "in", "weights", &weights) && find(&s, "in", "grads", &grads) &&
                find(&s, "out", "weights", &want));
    int64_t n = qn_tensor_count(&weights), applied = 0;
    optimizer o = {.weights = make_tensor(dt, &weights, &weights),
                   .grads = zeros(dt, n),
                   .m = zeros(dt, n),
                   .v = zeros(dt, n),
                   .hyper = zeros(QN_F64, 2),
                   .guard = zeros(QN_F64, QN_GUARD_STATE)};
    read_segments(&s, &o);
    qn_program *program;
    qn_arena *pool;
    qn_tape_options options = {.name = "update", .threads = 2};
    qn_assert_ok(qn_tape_create(&options, &s.tape));
    record_update(&s, &o, is_case_of(name, "adamw"));
    qn_assert_ok(qn_program_create(s.tape, &program));
    qn_assert_ok(qn_arena_create("test pool", qn_program_pool_bytes(program), &pool));
    qn_assert_ok(qn_program_bind(program, device, pool));
    for (int64_t step = 0; step < grads.shape[0]; step++) {
        for (int64_t i = 0; i < n; i++)
            qn_tensor_set(&o.grads, i, qn_tensor_get(&grads, step * n + i));
        qn_tensor_set(&o.hyper, 0, step_value(&s, "lr", step));
        qn_tensor_set(&o.guard, QN_GUARD_APPLY, step_value(&s, "apply", step));
        qn_tensor_set(&o.guard, QN_GUARD_CLIP, step_value(&s, "clip", step));
        applied += step_value(&s, "apply", step) != 0;
        qn_assert_ok(qn_program_replay(program));
        compare_step(&s, &o, &want, step);
        assert_true(qn_tensor_get(&o.hyper, 1) == (double)applied);
    }
    qn_program_free(program);
    qn_arena_free(pool);
    qn_tensor *owned[] = {&o.weights, &o.grads, &o.m, &o.v, &o.hyper, &o.guard};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]->data);
}

static void test_update(void **state) {
    const char *op = *state;
    qn_golden *g = open_golden();
    int cases = 0;
    for (int i = 0; i < qn_golden_count(g); i++) {
        char name[96];
        if (!case_at(g, i, name, sizeof name) || !is_case_of(name, op)) continue;
        run_updates(g, name, QN_F64, QN_REF);
        run_updates(g, name, QN_F32, QN_CPU);
        cases++;
    }
    assert_true(cases > 0);
    qn_golden_close(g);
}

/* ---- the file itself ------------------------------------------------------------------------- */

static void test_no_case_is_ignored(void **state) {
    (void)state;
    qn_golden *g = open_golden();
    for (int i = 0; i < qn_golden_count(g); i++) {
        char name[96];
        if (!case_at(g, i, name, sizeof name)) continue;
        bool known = is_case_of(name, "adamw") || is_case_of(name, "sgd");
        for (int k = 0; k < N_RECORDERS; k++) known = known || is_case_of(name, recorders[k].op);
        if (!known) fail_msg("no test runs %s", name);
    }
    qn_golden_close(g);
}

static void test_damaged_file_is_refused(void **state) {
    (void)state;
    char *dir = qn_test_dir(), path[4096];
    snprintf(path, sizeof path, "%s/damaged.bin", dir);
    static const char *const texts[] = {"", "QNGOLD1", "QNGOLD2\0\1\0\0\0\0\0\0\0",
                                        "QNGOLD1\0\377\377\0\0\0\1\0\0",
                                        "QNGOLD1\0\1\0\0\0\14\0\0\0x"};
    static const size_t sizes[] = {0, 7, 16, 16, 17};
    for (int i = 0; i < 5; i++) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_true(fwrite(texts[i], 1, sizes[i], f) == sizes[i]);
        fclose(f);
        qn_golden *g = NULL;
        assert_int_equal(qn_golden_open(path, &g), QN_ERR_FORMAT);
        assert_null(g);
    }
    qn_test_dir_remove(dir);
}

int main(void) {
    struct CMUnitTest tests[N_RECORDERS + 4];
    int n = 0;
    for (int k = 0; k < N_RECORDERS; k++) {
        tests[n++] = (struct CMUnitTest){recorders[k].op, test_op, NULL, NULL, (void *)(intptr_t)k};
    }
    tests[n++] = (struct CMUnitTest){"adamw", test_update, NULL, NULL, (void *)"adamw"};
    tests[n++] = (struct CMUnitTest){"sgd", test_update, NULL, NULL, (void *)"sgd"};
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_no_case_is_ignored);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_damaged_file_is_refused);
    return cmocka_run_group_tests_name("golden_ops", tests, NULL, NULL);
}
