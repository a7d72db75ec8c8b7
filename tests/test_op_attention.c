/* test_op_attention.c — attention against its definition: tiles and their edges, grouped queries,
 * documents, caches, dropout, rows that see nothing; its gradient; writing to a cache. */
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* f32: exp to 1 ulp of weights made from scores of size 10, averages of values of size 1; the
 * gradient adds sums over all queries. bf16: one unit in the last place. */
#define TOL_F32      0x1p-17
#define TOL_BF16     0x1p-6
#define TOL_BWD_F32  0x1p-13
#define TOL_BWD_BF16 0x1p-5

/* Tensor cores take weights and their slopes in bf16, each up to 2^-9 off: that is more than two
 * units of a sum in which they cancel. */
#define FAR_SHARE 0.15

typedef struct shape {
    int64_t b, t, s, h, g, d;
} shape;

static qn_case_input rows(int64_t b, int64_t t, int64_t h, int64_t d, bool strided) {
    return (qn_case_input){.present = true, .ndim = 4, .shape = {b, t, h, d}, .strided = strided};
}

/* lse is f32 unless the run is in f64; large enough that the weights stay small. */
static qn_case_input lse_input(const shape *s) {
    return (qn_case_input){.present = true,
                           .fixed_dtype = 1 + QN_F32,
                           .ndim = 3,
                           .shape = {s->b, s->h, s->t},
                           .fill = QN_FILL_VALUE,
                           .value = 6};
}

static qn_case case_of(const char *name, const shape *s, const qn_attention_attrs *attrs,
                       bool strided) {
    qn_case c = {.name = name, .op = &qn_op_attention, .attrs = attrs, .want_out = 2};
    c.tol_f32 = TOL_F32;
    c.tol_bf16 = TOL_BF16;
    c.far_share = FAR_SHARE;
    c.in[0] = rows(s->b, s->t, s->h, s->d, strided);
    c.in[1] = rows(s->b, s->s, s->g, s->d, strided);
    c.in[2] = rows(s->b, s->s, s->g, s->d, false);
    return c;
}

/* The forward case, and the gradient's own call with the same extras. */
static void check_both(qn_case c, const shape *s, bool gradient_of_tape) {
    c.skip_grad = !gradient_of_tape;
    c.grad_out = 1;
    qn_check_case(&c);
    c.op = &qn_op_attention_bwd;
    c.tol_f32 = TOL_BWD_F32;
    c.tol_bf16 = TOL_BWD_BF16;
    c.in[6] = c.in[8] = rows(s->b, s->t, s->h, s->d, false);
    c.in[7] = lse_input(s);
    c.want_out = 7;
    qn_check_case(&c);
}

static void sizes(void **state) {
    (void)state;
    static const shape shapes[] = {
        {1, 1, 1, 1, 1, 1},  {2, 7, 7, 3, 3, 5},   {1, 33, 33, 4, 2, 8},  {2, 65, 65, 2, 1, 4},
        {1, 5, 9, 2, 2, 4},  {1, 9, 5, 2, 2, 4},   {0, 3, 3, 2, 2, 4},    {1, 0, 4, 2, 2, 4},
        {1, 3, 0, 2, 1, 4},  {1, 2, 257, 1, 1, 3}, {1, 70, 300, 1, 1, 2}, {3, 9, 9, 6, 3, 4},
        {4, 66, 66, 2, 2, 3}};
    for (int i = 0; i < 13; i++) {
        for (int causal = 0; causal < 2; causal++) {
            qn_attention_attrs attrs = {.causal = causal, .scale = i == 1 ? 0.7 : 0.0};
            qn_case c = case_of("sizes", &shapes[i], &attrs, i % 2);
            check_both(c, &shapes[i], shapes[i].t * shapes[i].s < 1200);
        }
    }
}

/* Only some of the gradients, so that the separate walks over queries and keys run as well. */
static void parts_of_the_gradient(void **state) {
    (void)state;
    static const shape s = {4, 66, 66, 2, 2, 3};
    static const qn_attention_attrs attrs = {.causal = true};
    for (uint32_t want = 1; want <= 7; want++) {
        qn_case c = case_of("parts", &s, &attrs, false);
        c.op = &qn_op_attention_bwd;
        c.tol_f32 = TOL_BWD_F32;
        c.tol_bf16 = TOL_BWD_BF16;
        c.in[6] = c.in[8] = rows(s.b, s.t, s.h, s.d, false);
        c.in[7] = lse_input(&s);
        c.want_out = want;
        qn_check_case(&c);
    }
}

static void documents(void **state) {
    (void)state;
    static const shape s = {2, 35, 35, 4, 2, 4};
    for (int causal = 0; causal < 2; causal++) {
        qn_attention_attrs attrs = {.causal = causal};
        qn_case c = case_of("documents", &s, &attrs, false);
        c.in[3] = (qn_case_input){.present = true,
                                  .integer = true,
                                  .ndim = 2,
                                  .shape = {2, 35},
                                  .fill = QN_FILL_IDS,
                                  .limit = 3};
        check_both(c, &s, causal);
        if (!causal) continue;
        attrs.window = 6;
        check_both(c, &s, true);
    }
}

static qn_case_input starts(int64_t b, double limit) {
    return (qn_case_input){.present = true,
                           .integer = true,
                           .ndim = 1,
                           .shape = {b},
                           .fill = QN_FILL_IDS,
                           .limit = limit};
}

static void cached(void **state) {
    (void)state;
    static const shape s = {2, 3, 70, 4, 2, 4}, ragged = {5, 3, 70, 4, 2, 4};
    static const qn_attention_attrs causal = {.causal = true};
    qn_case rows_apart = case_of("a position for each sample", &ragged, &causal, true);
    rows_apart.in[4] = starts(5, 67);
    check_both(rows_apart, &ragged, false);
    for (int start = 0; start <= 67; start += 67) {
        qn_attention_attrs attrs = {.causal = true};
        qn_case c = case_of("cached", &s, &attrs, false);
        c.in[4] = (qn_case_input){
            .present = true, .integer = true, .fill = QN_FILL_VALUE, .value = start};
        check_both(c, &s, false);
    }
}

/* Windows inside a tile, across tiles, one key wide and wider than the sequence. */
static void windows(void **state) {
    (void)state;
    static const shape shapes[] = {
        {2, 9, 9, 4, 2, 4}, {4, 66, 66, 2, 2, 3}, {1, 150, 150, 2, 1, 2}};
    static const int64_t width[] = {1, 5, 400, 64, 33, 140};
    for (int i = 0; i < 3; i++) {
        for (int w = i * 2; w < 4 + i; w++) { /* the long shape only with the wide ones */
            qn_attention_attrs attrs = {.causal = true, .window = width[w]};
            check_both(case_of("window", &shapes[i], &attrs, w % 2), &shapes[i], i == 0);
        }
    }
    static const shape decode = {3, 1, 70, 2, 1, 4};
    qn_attention_attrs attrs = {.causal = true, .window = 7};
    qn_case c = case_of("window at each sample's position", &decode, &attrs, false);
    c.in[4] = starts(3, 70);
    check_both(c, &decode, false);
}

/* A window of one: each query takes the value at its own place, whatever the scores. */
static void window_of_one(void **state) {
    (void)state;
    enum { T = 5, S = 9 };
    float q[T], k[S], v[S], o[T];
    int32_t at = 3;
    for (int i = 0; i < S; i++) k[i] = v[i] = (float)(i * i);
    for (int i = 0; i < T; i++) q[i] = (float)(3 - i);
    static const qn_attention_attrs attrs = {.causal = true, .window = 1};
    qn_tensor tq = qn_tensor_make(q, QN_F32, QN_SHAPE(1, T, 1, 1)), out = tq;
    qn_tensor tk = qn_tensor_make(k, QN_F32, QN_SHAPE(1, S, 1, 1)), tv = tk;
    qn_tensor start = qn_tensor_make(&at, QN_I32, 0, NULL);
    tv.data = v;
    out.data = o;
    qn_call c = {.op = &qn_op_attention, .attrs = &attrs, .threads = 1};
    c.in[0] = &tq;
    c.in[1] = &tk;
    c.in[2] = &tv;
    c.in[4] = &start;
    c.out[0] = &out;
    double scratch[S];
    c.scratch = scratch;
    qn_assert_ok(c.op->run[QN_REF](&c));
    for (int i = 0; i < T; i++) assert_true(o[i] == v[at + i]);
}

static void dropout(void **state) {
    (void)state;
    static const shape shapes[] = {{2, 9, 9, 4, 2, 4}, {1, 3, 67, 3, 1, 3}, {9, 6, 6, 1, 1, 2}};
    for (int i = 0; i < 3; i++) {
        qn_attention_attrs attrs = {.causal = i == 0, .dropout = 0.3};
        qn_case c = case_of("dropout", &shapes[i], &attrs, false);
        c.in[5] = (qn_case_input){.present = true,
                                  .fixed_dtype = 1 + QN_I64,
                                  .ndim = 1,
                                  .shape = {2},
                                  .fill = QN_FILL_VALUE,
                                  .value = 3,
                                  .no_grad = true};
        check_both(c, &shapes[i], true);
    }
}

/* With v = 1 the output is the kept share of the weights over 1 - p: its mean is 1, and the share
 * of dropped weights is p. The draw belongs to the sample, not to its place in the batch. */
static void dropout_draws(void **state) {
    (void)state;
    enum { B = 8, T = 64 };
    static float q[B * T], v[B * T], o[2][B * T];
    static const qn_attention_attrs attrs = {.dropout = 0.25};
    int64_t draws[2] = {7, 0};
    for (int i = 0; i < B * T; i++) v[i] = 1;
    for (int turn = 0; turn < 2; turn++) {
        int64_t b = turn ? B / 2 : B;
        qn_tensor tq = qn_tensor_make(q, QN_F32, QN_SHAPE(b, T, 1, 1)), tv = tq, out = {0};
        qn_tensor rng = qn_tensor_make(draws, QN_I64, QN_SHAPE(2));
        tv.data = v;
        qn_call c = {.op = &qn_op_attention, .attrs = &attrs, .threads = 2, .rng_key = 99};
        c.in[0] = c.in[1] = &tq;
        c.in[2] = &tv;
        c.in[5] = &rng;
        c.out[0] = &out;
        draws[1] = turn ? B / 2 : 0; /* the second turn runs the second half alone */
        qn_assert_ok(c.op->infer(&c));
        out.data = o[turn];
        c.scratch = aligned_alloc(64, (c.scratch_bytes + 63) / 64 * 64);
        assert_non_null(c.scratch);
        qn_assert_ok(c.op->run[QN_CPU](&c));
        free(c.scratch);
    }
    assert_memory_equal(o[1], o[0] + B / 2 * T, sizeof o[1] / 2);
    double mean = 0;
    for (int i = 0; i < B * T; i++) mean += (double)o[0][i] / (B * T);
    assert_true(fabs(mean - 1) < 0.02); /* 32768 draws: 6 standard deviations */
    assert_true(o[0][0] != o[0][1]);
}

static void errors(void **state) {
    (void)state;
    qn_tensor q = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 3, 4, 8)), k = q, out = {0};
    qn_tensor three = qn_tensor_make(NULL, QN_F32, QN_SHAPE(2, 3, 3, 8));
    qn_tensor doc = qn_tensor_make(NULL, QN_I32, QN_SHAPE(2, 4));
    qn_attention_attrs attrs = {.causal = true};
    qn_call c = {.op = &qn_op_attention, .in = {&q, &three, &three}, .out = {&out}};
    c.attrs = &attrs;
    c.threads = 1;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE); /* 3 key heads for 4 query heads */
    assert_non_null(strstr(qn_error_message(), "k is f32[2,3,3,8]"));
    c.in[1] = c.in[2] = &k;
    qn_assert_ok(c.op->infer(&c));
    c.in[3] = &doc;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_non_null(strstr(qn_error_message(), "documents is i32[2,4]"));
    c.in[3] = NULL;
    attrs.dropout = 0.5;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE); /* no rng */
    attrs.dropout = 1.0;
    assert_int_equal(c.op->infer(&c), QN_ERR_CONFIG);
    attrs.dropout = (double)NAN;
    assert_int_equal(c.op->infer(&c), QN_ERR_CONFIG);
    attrs = (qn_attention_attrs){.window = 3};
    assert_int_equal(c.op->infer(&c), QN_ERR_UNSUPPORTED); /* not causal */
    attrs.causal = true;
    qn_assert_ok(c.op->infer(&c));
    qn_tensor start = qn_tensor_make(NULL, QN_I32, QN_SHAPE(3));
    c.in[4] = &start;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(),
                        "attention: start is i32[3], expected i32 with 1 or 2 elements");
    c.in[4] = NULL;
    k.stride[3] = 2;
    assert_int_equal(c.op->infer(&c), QN_ERR_SHAPE);
    assert_non_null(strstr(qn_error_message(), "contiguous"));
}

static void cache_write(void **state) {
    (void)state;
    for (int strided = 0; strided < 2; strided++) {
        qn_case c = {.name = "cache_write", .op = &qn_op_cache_write};
        c.in[0] = rows(2, 9, 3, 4, false);
        c.in[1] = rows(2, 4, 3, 4, strided);
        c.in[2] =
            (qn_case_input){.present = true, .integer = true, .fill = QN_FILL_VALUE, .value = 5};
        qn_check_case(&c);
        c.in[2] = starts(2, 6);
        qn_check_case(&c);
    }
    static float cache[4] = {1, 2, 3, 4}, x[2] = {9, 8};
    int32_t start = 1;
    qn_tensor tc = qn_tensor_make(cache, QN_F32, QN_SHAPE(1, 4, 1, 1));
    qn_tensor tx = qn_tensor_make(x, QN_F32, QN_SHAPE(1, 2, 1, 1));
    qn_tensor ts = qn_tensor_make(&start, QN_I32, 0, NULL);
    qn_call call = {.op = &qn_op_cache_write, .in = {&tc, &tx, &ts}, .out = {&tc}, .threads = 1};
    qn_assert_ok(call.op->run[QN_REF](&call));
    assert_true(cache[0] == 1 && cache[1] == 9 && cache[2] == 8 && cache[3] == 4);
    start = 3;
    assert_int_equal(call.op->run[QN_REF](&call), QN_ERR_DATA);
    start = -1;
    assert_int_equal(call.op->run[QN_REF](&call), QN_ERR_DATA);

    int32_t apart[2] = {2, 0};
    tc = qn_tensor_make(cache, QN_F32, QN_SHAPE(2, 2, 1, 1));
    tx = qn_tensor_make(x, QN_F32, QN_SHAPE(2, 1, 1, 1));
    ts = qn_tensor_make(apart, QN_I32, QN_SHAPE(2));
    assert_int_equal(call.op->run[QN_REF](&call), QN_ERR_DATA);
    apart[0] = 1;
    qn_assert_ok(call.op->run[QN_REF](&call));
    assert_true(cache[0] == 1 && cache[1] == 9 && cache[2] == 8 && cache[3] == 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),     cmocka_unit_test(parts_of_the_gradient),
        cmocka_unit_test(documents), cmocka_unit_test(cached),
        cmocka_unit_test(dropout),   cmocka_unit_test(dropout_draws),
        cmocka_unit_test(errors),    cmocka_unit_test(cache_write),
        cmocka_unit_test(windows),   cmocka_unit_test(window_of_one),
    };
    return cmocka_run_group_tests_name("op_attention", tests, NULL, NULL);
}
