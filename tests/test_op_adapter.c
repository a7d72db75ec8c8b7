/* test_op_adapter.c — linear_adapted, its gradient, and the norm of adapted rows. */
#include "tests/harness.h"

#include <math.h>
#include <string.h>

/* As test_op_linear.c: sums of up to 300 products whose sizes add up to about 200, half a unit in
 * the last place of that for each few terms. bf16: one unit in the last place of the result. */
#define TOL_F32  0x1p-16
#define TOL_BF16 0x1p-7

static qn_case_input input(int ndim, int64_t a, int64_t b, int64_t c, bool strided) {
    return (qn_case_input){.present = true, .ndim = ndim, .shape = {a, b, c}, .strided = strided};
}

/* x (n,k), w (m,k) */
static qn_case plain(const char *name, int64_t n, int64_t k, int64_t m, bool strided,
                     const qn_linear_adapted_attrs *attrs) {
    qn_case c = {.name = name, .op = &qn_op_linear_adapted, .attrs = attrs};
    c.tol_f32 = TOL_F32;
    c.tol_bf16 = TOL_BF16;
    c.in[0] = input(2, n, k, 0, strided);
    c.in[1] = input(2, m, k, 0, strided);
    return c;
}

static void adapter(qn_case *c, int part, int64_t n, int64_t rows, int64_t rank, bool strided) {
    c->in[4 + 2 * part] = input(2, n, rank, 0, strided);
    c->in[5 + 2 * part] = input(2, rows, rank, 0, strided);
}

static void sizes(void **state) {
    (void)state;
    /* rows, K, columns, rank: ranks around the four that are added at once and the 64 that are
     * converted at once; more columns than the 256 of a piece, more rows than a tile. */
    static const int64_t shapes[][4] = {{1, 1, 1, 1},     {7, 33, 1, 3},   {33, 7, 65, 4},
                                        {0, 5, 3, 2},     {3, 0, 4, 5},    {3, 5, 0, 2},
                                        {3, 5, 9, 0},     {5, 300, 70, 8}, {70, 33, 129, 7},
                                        {9, 17, 300, 64}, {9, 17, 23, 67}, {257, 65, 33, 16}};
    static const qn_linear_adapted_attrs whole = {{QN_ACT_NONE}, {0}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t n = shapes[i][0], k = shapes[i][1], m = shapes[i][2], r = shapes[i][3];
        qn_case c = plain("one adapter", n, k, m, i % 2, &whole);
        adapter(&c, 0, n, m, r, i % 3 == 1);
        c.skip_grad = n * m > 1000; /* a difference per element of every input */
        qn_check_case(&c);
    }
}

/* As q|k|v is: adapters of different ranks on some of the parts, in no order, with gaps. */
static void parts(void **state) {
    (void)state;
    static const struct {
        int64_t first[3], rows[3], rank[3];
    } cases[] = {{{0, 20, 0}, {12, 9, 0}, {2, 5, 0}},   /* q and v, in third and first slots */
                 {{20, 0, 12}, {9, 12, 8}, {3, 2, 1}},  /* all three */
                 {{12, 0, 0}, {8, 0, 0}, {4, 0, 0}},    /* k only */
                 {{3, 5, 0}, {20, 20, 29}, {2, 2, 2}}}; /* overlapping parts add up */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qn_linear_adapted_attrs attrs = {{QN_ACT_NONE}, {0}};
        qn_case c = plain("parts", 6, 10, 29, false, &attrs);
        for (int k = 0; k < 3; k++) {
            attrs.first[k] = cases[i].first[k];
            if (cases[i].rank[k]) adapter(&c, k, 6, cases[i].rows[k], cases[i].rank[k], i == 1);
        }
        qn_check_case(&c);
    }
}

static void epilogues(void **state) {
    (void)state;
    for (int act = QN_ACT_NONE; act < QN_ACT_COUNT; act++) {
        qn_linear_adapted_attrs attrs = {{(qn_activation)act}, {4}};
        qn_case c = plain("epilogues", 6, 9, 35, false, &attrs);
        c.in[0] = input(3, 2, 3, 9, true);
        c.in[2] = input(1, 35, 0, 0, false);
        c.in[3] = input(3, 2, 3, 35, false);
        c.in[4] = input(3, 2, 3, 5, false);
        c.in[5] = input(2, 30, 5, 0, false);
        c.want_out = 2; /* pre */
        qn_check_case(&c);
        c.in[2].present = c.in[3].present = false;
        c.want_out = 0;
        qn_check_case(&c);
    }
}

static void no_adapter_is_linear(void **state) {
    (void)state;
    static const qn_linear_adapted_attrs attrs = {{QN_ACT_NONE}, {0}};
    qn_case c = plain("no adapter", 5, 6, 7, false, &attrs);
    qn_check_case(&c);
}

static void refusals(void **state) {
    (void)state;
    static const struct {
        int64_t u[2], b[2], first;
        bool half;
        const char *message;
    } cases[] = {
        {{4, 2}, {7, 3}, 0, false, "linear_adapted: u is f32[4,2], B is f32[7,3]"},
        {{5, 2}, {7, 2}, 0, false, "linear_adapted: u is f32[5,2], B is f32[7,2]"},
        {{4, 2}, {8, 2}, 0, false, "inside those of w"},
        {{4, 2}, {3, 2}, 5, false, "inside those of w"},
        {{4, 2}, {3, 2}, -1, false, "inside those of w"},
        {{4, 2}, {7, 2}, 0, true, "adapter 0 has only one half"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qn_tensor x = qn_tensor_make(NULL, QN_F32, QN_SHAPE(4, 6)), y = {0};
        qn_tensor w = qn_tensor_make(NULL, QN_F32, QN_SHAPE(7, 6));
        qn_tensor u = qn_tensor_make(NULL, QN_F32, 2, cases[i].u);
        qn_tensor b = qn_tensor_make(NULL, QN_F32, 2, cases[i].b);
        qn_linear_adapted_attrs attrs = {{QN_ACT_NONE}, {cases[i].first}};
        qn_call c = {.op = &qn_op_linear_adapted, .in = {&x, &w}, .out = {&y}, .attrs = &attrs};
        c.threads = 1;
        c.in[4] = &u;
        c.in[5] = cases[i].half ? NULL : &b;
        assert_int_not_equal(c.op->infer(&c), QN_OK);
        if (!strstr(qn_error_message(), cases[i].message)) fail_msg("%s", qn_error_message());
    }
}

/* ---- adapted_norm ---------------------------------------------------------------------------- */

/* The op's own case checks the formula from p and g; here p and g are what they should be. */
static void norms(void **state) {
    (void)state;
    enum { M = 19, K = 37, R = 5 };
    const double scale = 1.75;
    double w[M * K], a[R * K], b[M * R], norm[M];
    for (int i = 0; i < M * K; i++) w[i] = qn_rng_normal(1, 0, (uint64_t)i);
    for (int i = 0; i < R * K; i++) a[i] = qn_rng_normal(2, 0, (uint64_t)i);
    for (int i = 0; i < M * R; i++) b[i] = qn_rng_normal(3, 0, (uint64_t)i);
    for (int m = 0; m < M; m++) {
        double sum = 0;
        for (int k = 0; k < K; k++) {
            double v = w[m * K + k];
            for (int r = 0; r < R; r++) v += scale * b[m * R + r] * a[r * K + k];
            sum += v * v;
        }
        norm[m] = sqrt(sum);
    }
    qn_tape_options o = {.name = "norms", .threads = 1, .training = true, .device = QN_CPU};
    qn_tape *t;
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_tensor tw = qn_tensor_make(w, QN_F64, QN_SHAPE(M, K));
    qn_tensor ta = qn_tensor_make(a, QN_F64, QN_SHAPE(R, K));
    qn_tensor tb = qn_tensor_make(b, QN_F64, QN_SHAPE(M, R));
    qn_value *vb = qn_tape_given(t, "b", QN_CLASS_WEIGHT, &tb, true);
    qn_value *y = qn_adapted_norm(t, qn_tape_given(t, "w", QN_CLASS_WEIGHT, &tw, false),
                                  qn_tape_given(t, "a", QN_CLASS_WEIGHT, &ta, true), vb, scale);
    qn_tape_keep(t, y, "norm");
    qn_assert_ok(qn_tape_status(t));
    assert_false(y->requires_grad); /* a constant, though a and b have gradients */
    qn_program *p;
    qn_arena *pool;
    qn_assert_ok(qn_program_create(t, &p));
    qn_assert_ok(qn_arena_create("pool", qn_program_pool_bytes(p), &pool));
    qn_assert_ok(qn_program_bind(p, QN_CPU, pool));
    qn_assert_ok(qn_program_replay(p));
    for (int m = 0; m < M; m++) qn_assert_close(qn_tensor_get(&y->t, m), norm[m], 1e-14, "norm");
    qn_program_free(p);
    qn_arena_free(pool);
}

static void norm_cases(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {9, 33, 4}, {40, 7, 3},
                                        {5, 0, 2}, {0, 3, 2},  {6, 5, 0}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t m = shapes[i][0], k = shapes[i][1], r = shapes[i][2];
        static const qn_adapted_norm_attrs attrs = {0.01}; /* keeps what is under the root > 0 */
        qn_case c = {.name = "norm", .op = &qn_op_adapted_norm, .attrs = &attrs, .skip_grad = true};
        c.tol_f32 = 0x1p-21; /* host: f64, one rounding; CUDA: f32 sums of up to 40 squares */
        c.tol_bf16 = 0x1p-8;
        c.in[0] = input(2, m, k, 0, i % 2);
        c.in[1] = input(2, m, r, 0, i % 2);
        c.in[2] = input(2, r, r, 0, false);
        c.in[3] = input(2, m, r, 0, i % 2);
        qn_check_case(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),      cmocka_unit_test(parts),
        cmocka_unit_test(epilogues),  cmocka_unit_test(no_adapter_is_linear),
        cmocka_unit_test(refusals),   cmocka_unit_test(norms),
        cmocka_unit_test(norm_cases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
