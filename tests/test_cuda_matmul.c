/* test_cuda_matmul.c — products on a CUDA device, real or emulated, against f64: every operand
 * order, dtype, epilogue, batch and split, sizes off the tiles, rows off 16 bytes. */
#include "engine/vecmath.h"
#include "kernels/matmul.h"
#include "kernels/matmul_tune.h"
#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef QUERN_CUDA

/* ---- host and device copies of one operand --------------------------------------------------- */

enum { GUARD = 64, GUARD_BYTE = 0xA5 }; /* bytes before and after */

/* rows x cols values, rows ld apart; `skew` elements off the allocation's alignment. */
typedef struct operand {
    qn_dtype dtype;
    int64_t items, rows, cols, ld, step;
    size_t skew, bytes; /* skew in bytes; bytes: with the guards */
    unsigned char *host;
    void *device;
} operand;

static const qn_device_row *row(void) { return qn_device_get(QN_CUDA); }

static int64_t index_of(const operand *o, int64_t item, int64_t i, int64_t j) {
    return item * o->step + i * o->ld + j;
}

static float get(const operand *o, int64_t item, int64_t i, int64_t j) {
    const unsigned char *data = o->host + GUARD + o->skew;
    int64_t at = index_of(o, item, i, j);
    if (o->dtype == QN_F32) return ((const float *)data)[at];
    return qn_bf16_to_f32(((const uint16_t *)data)[at]);
}

static void set(operand *o, int64_t item, int64_t i, int64_t j, float v) {
    unsigned char *data = o->host + GUARD + o->skew;
    int64_t at = index_of(o, item, i, j);
    if (o->dtype == QN_F32) {
        ((float *)data)[at] = v;
    } else {
        ((uint16_t *)data)[at] = qn_f32_to_bf16(v);
    }
}

static void upload(const operand *o) {
    qn_assert_ok(row()->copy(o->device, o->host, o->bytes, NULL));
}

static void download(const operand *o) {
    qn_assert_ok(row()->copy(o->host, o->device, o->bytes, NULL));
    qn_assert_ok(row()->synchronize(NULL));
}

static void *device_data(const operand *o) { return (unsigned char *)o->device + GUARD + o->skew; }

/* Everything is the guard byte but the values; stream 0 leaves the values too (as bf16 and f32 they
 * would be small negative numbers, seen at once where an output is not written). */
static operand make(qn_dtype dt, int64_t items, int64_t rows, int64_t cols, int64_t pad, int skewed,
                    uint64_t stream) {
    size_t size = dt == QN_F32 ? 4 : 2;
    operand o = {.dtype = dt, .items = items, .rows = rows, .cols = cols, .ld = cols + pad};
    o.step = o.ld * rows + pad;
    o.skew = skewed ? size : 0;
    o.bytes = (size_t)(o.step * items) * size + 2 * GUARD + o.skew;
    o.host = malloc(o.bytes);
    assert_non_null(o.host);
    memset(o.host, GUARD_BYTE, o.bytes);
    for (int64_t e = 0; stream && e < items * rows * cols; e++) {
        set(&o, e / (rows * cols), e / cols % rows, e % cols,
            (float)qn_rng_normal(stream, 0, (uint64_t)e));
    }
    qn_assert_ok(row()->alloc(o.bytes, &o.device));
    upload(&o);
    return o;
}

static void drop(operand *o) {
    if (o->device) row()->release(o->device, o->bytes);
    free(o->host);
}

static bool is_value(const operand *o, size_t byte) {
    size_t size = o->dtype == QN_F32 ? 4 : 2;
    if (byte < GUARD + o->skew) return false;
    int64_t at = (int64_t)((byte - GUARD - o->skew) / size), in = at % o->step;
    return at < o->items * o->step && in < o->rows * o->ld && in % o->ld < o->cols;
}

static void check_guards(const operand *o, const char *name, const char *what) {
    for (size_t i = 0; i < o->bytes; i++) {
        if (!is_value(o, i) && o->host[i] != GUARD_BYTE) {
            fail_msg("%s: %s was written outside its values, at byte %zu", name, what, i);
        }
    }
}

/* ---- one case -------------------------------------------------------------------------------- */

typedef struct spec {
    const char *name;
    int64_t m, n, k, items;
    bool a_trans, b_trans;
    qn_dtype dtype, c_dtype;
    int64_t pad; /* added to every row stride */
    int skewed;  /* bit 0: A, 1: B, 2: C start one element off */
    float alpha;
    bool accumulate, bias, residual, pre;
    qn_activation activation;
} spec;

typedef struct tally {
    int64_t far, count; /* bf16 results more than 2 ulp off the rounded f64 result; all */
} tally;

static int64_t order_of_bf16(uint16_t bits) {
    return bits & 0x8000u ? -(int64_t)(bits & 0x7FFFu) : (int64_t)bits;
}

/* |got - want| within the bound of a sum of k products, `size` the sum of their absolute values
 * (Higham 2002, 3.1; a tensor core may truncate, so twice the unit roundoff), one rounding to the
 * output's type and 2^-20 of z for the activation. */
static void check_value(const spec *s, const char *what, float got, double want, double z,
                        double size, tally *t, int64_t i, int64_t j, qn_dtype dt) {
    double bound = (double)(s->k + 16) * 0x1p-23 * size + 0x1p-20 * fabs(z) + 1e-30;
    if (s->activation != QN_ACT_NONE) bound *= 1.2; /* the steepest activation's slope is 1.13 */
    double slack = dt == QN_BF16 ? 0x1p-8 : 0x1p-23;
    if (!(fabs((double)got - want) <= bound + slack * (fabs(want) + bound))) {
        fail_msg("%s: %s [%lld,%lld] is %.9g, expected %.9g within %.2g", s->name, what,
                 (long long)i, (long long)j, (double)got, want, bound);
    }
    if (dt != QN_BF16) return;
    int64_t d = order_of_bf16(qn_f32_to_bf16(got)) - order_of_bf16(qn_f32_to_bf16((float)want));
    t->far += d > 2 || d < -2;
    t->count++;
}

typedef struct operands {
    operand a, b, c, bias, residual, pre, scratch;
    operand before; /* C as it was */
} operands;

static operands operands_of(const spec *s, size_t scratch_bytes) {
    operands x = {0};
    qn_dtype dt = s->dtype;
    x.a = make(dt, s->items, s->a_trans ? s->k : s->m, s->a_trans ? s->m : s->k, s->pad,
               s->skewed & 1, 1);
    x.b = make(dt, s->items, s->b_trans ? s->n : s->k, s->b_trans ? s->k : s->n, s->pad,
               s->skewed & 2, 2);
    x.c = make(s->c_dtype, s->items, s->m, s->n, s->pad, s->skewed & 4, s->accumulate ? 3 : 0);
    x.before = make(s->c_dtype, s->items, s->m, s->n, s->pad, s->skewed & 4, s->accumulate ? 3 : 0);
    x.bias = make(dt, 1, s->n, 1, s->pad, 0, 4);
    x.residual = make(dt, 1, s->m, s->n, s->pad, s->skewed & 4, 5);
    x.pre = make(dt, 1, s->m, s->n, s->pad, s->skewed & 4, 0);
    x.scratch = make(QN_F32, 1, 1, (int64_t)(scratch_bytes / 4) + 1, 0, 0, 0);
    return x;
}

static void operands_free(operands *x) {
    operand *all[] = {&x->a,    &x->b,        &x->c,   &x->before,
                      &x->bias, &x->residual, &x->pre, &x->scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(all[i]);
}

static qn_product product_of(const spec *s, const operands *x) {
    qn_product p = {.m = s->m, .n = s->n, .k = s->k, .dtype = s->dtype, .c_dtype = s->c_dtype};
    p.a_trans = s->a_trans;
    p.b_trans = s->b_trans;
    p.lda = x->a.ld;
    p.ldb = x->b.ld;
    p.ldc = x->c.ld;
    p.alpha = s->alpha;
    p.accumulate = s->accumulate;
    p.activation = s->activation;
    if (s->items > 1) { /* two axes, so that stepping is seen */
        p.batch_dims = 2;
        p.batch[0] = s->items / 2;
        p.batch[1] = 2;
        p.a_step[0] = 2 * (p.a_step[1] = x->a.step);
        p.b_step[0] = 2 * (p.b_step[1] = x->b.step);
        p.c_step[0] = 2 * (p.c_step[1] = x->c.step);
    }
    return p;
}

static void point(qn_product *p, const spec *s, const operands *x) {
    p->a = device_data(&x->a);
    p->b = device_data(&x->b);
    p->c = device_data(&x->c);
    p->scratch = (unsigned char *)x->scratch.device; /* 256-byte aligned, where the guard is */
    if (s->bias) {
        p->bias = device_data(&x->bias);
        p->bias_step = x->bias.ld;
    }
    if (s->residual) {
        p->residual = device_data(&x->residual);
        p->ldr = x->residual.ld;
    }
    if (s->pre) {
        p->pre = device_data(&x->pre);
        p->ldp = x->pre.ld;
    }
}

static void check_results(const spec *s, const operands *x, tally *t) {
    for (int64_t e = 0; e < s->items * s->m * s->n; e++) {
        int64_t item = e / (s->m * s->n), i = e / s->n % s->m, j = e % s->n;
        double sum = 0.0, size = 0.0;
        for (int64_t k = 0; k < s->k; k++) {
            double a = (double)(s->a_trans ? get(&x->a, item, k, i) : get(&x->a, item, i, k));
            double b = (double)(s->b_trans ? get(&x->b, item, j, k) : get(&x->b, item, k, j));
            sum += a * b;
            size += fabs(a * b);
        }
        double z = sum * (double)s->alpha;
        size *= fabs((double)s->alpha);
        if (s->bias) {
            z += (double)get(&x->bias, 0, j, 0);
            size += fabs((double)get(&x->bias, 0, j, 0));
        }
        if (s->pre) check_value(s, "pre", get(&x->pre, 0, i, j), z, z, size, t, i, j, s->dtype);
        double y = qn_act_f64(s->activation, z);
        if (s->residual) y += (double)get(&x->residual, 0, i, j);
        if (s->accumulate) y += (double)get(&x->before, item, i, j);
        double around = fabs(z) + fabs(y);
        check_value(s, "c", get(&x->c, item, i, j), y, around, size, t, i, j, s->c_dtype);
    }
}

/* Runs once more, over NaN in scratch; the bits must be those of `first`. */
static void check_again(const spec *s, const operands *x, const qn_product *p, const qn_tile *tile,
                        const unsigned char *first) {
    qn_assert_ok(row()->copy(x->c.device, x->before.host, x->c.bytes, NULL));
    qn_assert_ok(row()->fill(x->scratch.device, 0xFF, x->scratch.bytes, NULL));
    qn_assert_ok(qn_cuda_product_on(p, tile, NULL));
    download(&x->c);
    if (memcmp(first, x->c.host, x->c.bytes) != 0) {
        fail_msg("%s on %s: not the bits of the first run", s->name, tile->name);
    }
}

/* On every tile that can; all tiles of a tier give the same bits. */
static void check_spec(const spec *s, tally *t) {
    operands none = {0};
    qn_product p = product_of(s, &none);
    operands x = operands_of(s, qn_product_scratch(&p));
    p = product_of(s, &x);
    point(&p, s, &x);
    qn_gpu gpu;
    qn_candidate list[QN_MAX_TILES];
    int count;
    qn_assert_ok(qn_cuda_gpu(&gpu));
    int able = qn_product_candidates(&p, &gpu, list, &count);
    assert_true(able > 0);
    unsigned char *first = malloc(x.c.bytes);
    assert_non_null(first);
    for (int i = 0; i < able; i++) {
        bool known = false;
        for (int j = 0; j < i; j++) known = known || list[j].tile->tier == list[i].tile->tier;
        if (known) {
            check_again(s, &x, &p, list[i].tile, first);
            continue;
        }
        qn_assert_ok(row()->copy(x.c.device, x.before.host, x.c.bytes, NULL));
        qn_assert_ok(qn_cuda_product_on(&p, list[i].tile, NULL));
        download(&x.c);
        download(&x.pre);
        check_guards(&x.c, s->name, "c");
        check_guards(&x.pre, s->name, "pre");
        check_results(s, &x, t);
        memcpy(first, x.c.host, x.c.bytes);
        check_again(s, &x, &p, list[i].tile, first);
    }
    free(first);
    operands_free(&x);
}

static bool skipped(void) {
    if (qn_cuda_usable()) return false;
    print_message("[  SKIP  ] no CUDA device\n");
    return true;
}

/* 99.9 % of all bf16 results lie within 2 ulp; what cancellation leaves is held by the bound. */
static void check_tally(const tally *t) {
    if ((double)t->far > 0.001 * (double)t->count) {
        fail_msg("%lld of %lld bf16 results are more than 2 ulp off", (long long)t->far,
                 (long long)t->count);
    }
}

static void check_orders(const spec *s, tally *t) {
    for (int order = 0; order < 4; order++) {
        spec one = *s;
        char name[160];
        one.a_trans = order & 1;
        one.b_trans = order & 2;
        one.items = s->items ? s->items : 1;
        if (one.alpha == 0.0f) one.alpha = 1.0f;
        snprintf(name, sizeof name, "%s %lldx%lldx%lld %c%c pad %lld skew %d", s->name,
                 (long long)s->m, (long long)s->n, (long long)s->k, one.a_trans ? 'T' : 'N',
                 one.b_trans ? 'T' : 'N', (long long)s->pad, s->skewed);
        one.name = name;
        check_spec(&one, t);
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* Around the tiles (64, 128), the slices of k (8, 32) and 16 bytes; rows on 16 bytes and off. */
static const int64_t sizes[][3] = {
    {1, 1, 1},    {7, 33, 9},     {33, 7, 64},    {64, 64, 32},   {65, 63, 31},
    {63, 65, 97}, {127, 129, 40}, {128, 128, 72}, {129, 130, 33}, {200, 24, 160},
};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void check_sizes(qn_dtype dt, qn_dtype c_dtype) {
    tally t = {0};
    int64_t piece = dt == QN_F32 ? 4 : 8;
    for (int i = 0; i < SIZES; i++) {
        spec s = {.name = "sizes", .m = sizes[i][0], .n = sizes[i][1], .k = sizes[i][2]};
        s.dtype = dt;
        s.c_dtype = c_dtype;
        s.pad = i % 2 ? 3 : 0;
        check_orders(&s, &t);
        /* Rows on 16 bytes although the sizes are not: every ld a multiple. */
        if (s.m % piece || s.n % piece || s.k % piece) continue;
        s.pad = piece;
        check_orders(&s, &t);
    }
    check_tally(&t);
}

static void f32_sizes(void **state) {
    (void)state;
    if (!skipped()) check_sizes(QN_F32, QN_F32);
}

static void bf16_sizes(void **state) {
    (void)state;
    if (!skipped()) check_sizes(QN_BF16, QN_BF16);
}

static void bf16_to_f32(void **state) {
    (void)state;
    if (!skipped()) check_sizes(QN_BF16, QN_F32);
}

/* Tails of m, n and k inside 16-byte pieces while rows lie on 16 bytes: A and B of every order get
 * the same padded row stride. */
static void tails(void **state) {
    (void)state;
    if (skipped()) return;
    tally t = {0};
    for (int64_t d = 1; d < 8; d += 2) {
        spec s = {.name = "tails", .m = 64 + d, .n = 64 + d, .k = 64 + d, .pad = 8 - d};
        s.dtype = s.c_dtype = QN_BF16;
        check_orders(&s, &t);
        s.m = s.n = s.k = 128 + d;
        check_orders(&s, &t);
        s.dtype = s.c_dtype = QN_F32;
        check_orders(&s, &t);
    }
    check_tally(&t);
}

/* More tiles than an emulated device has SMs: blocks that stay take several, rings go round. */
static void many_tiles(void **state) {
    (void)state;
    if (skipped()) return;
    tally t = {0};
    spec s = {.name = "many tiles", .m = 304, .n = 520, .k = 328, .dtype = QN_BF16};
    s.c_dtype = QN_BF16;
    check_orders(&s, &t);
    s.c_dtype = QN_F32;
    s.bias = true;
    check_orders(&s, &t);
    check_tally(&t);
}

static void empty(void **state) {
    (void)state;
    if (skipped()) return;
    tally t = {0};
    for (int i = 0; i < 3; i++) {
        for (int dt = 0; dt < 2; dt++) {
            spec s = {
                .name = "empty", .m = i == 0 ? 0 : 5, .n = i == 1 ? 0 : 6, .k = i == 2 ? 0 : 7};
            s.dtype = s.c_dtype = dt ? QN_BF16 : QN_F32;
            s.accumulate = i == 2;
            s.bias = true;
            check_orders(&s, &t);
        }
    }
}

static void unaligned(void **state) {
    (void)state;
    if (skipped()) return;
    tally t = {0};
    for (int skew = 1; skew < 8; skew++) {
        spec s = {.name = "unaligned", .m = 72, .n = 136, .k = 40, .skewed = skew};
        s.dtype = s.c_dtype = QN_BF16;
        s.accumulate = skew & 1;
        s.residual = skew & 2;
        check_orders(&s, &t);
        s.dtype = s.c_dtype = QN_F32;
        check_orders(&s, &t);
    }
    check_tally(&t);
}

static void epilogue(void **state) {
    (void)state;
    if (skipped()) return;
    tally t = {0};
    for (int act = 0; act < QN_ACT_COUNT; act++) {
        for (int dt = 0; dt < 3; dt++) { /* f32, bf16, bf16 to f32 */
            spec s = {.name = "epilogue", .m = 66, .n = 41 + 3 * (act % 2), .k = 24};
            s.items = 1;
            s.b_trans = true;
            s.dtype = dt == 0 ? QN_F32 : QN_BF16;
            s.c_dtype = dt == 1 ? QN_BF16 : QN_F32;
            s.activation = (qn_activation)act;
            s.bias = act != 1;
            s.pre = act % 3 != 2;
            s.residual = act % 2;
            s.accumulate = act == 4;
            s.alpha = act == 5 ? -0.75f : 1.0f;
            s.pad = act == 3 ? 1 : 0;
            check_spec(&s, &t);
        }
    }
    check_tally(&t);
}

static void batched(void **state) {
    (void)state;
    if (skipped()) return;
    tally t = {0};
    for (int dt = 0; dt < 2; dt++) {
        spec s = {.name = "batched", .m = 40, .n = 72, .k = 24, .items = 6, .alpha = 0.125f};
        s.dtype = s.c_dtype = dt ? QN_BF16 : QN_F32;
        check_orders(&s, &t);
        s.accumulate = true;
        s.pad = 8;
        check_orders(&s, &t);
        s.items = 1300; /* more items than a grid's third axis would take with tiles */
        s.m = s.n = 3;
        s.k = 2;
        s.accumulate = false;
        check_orders(&s, &t);
    }
    check_tally(&t);
}

/* Few tiles and a long k: partial outputs in scratch, added in order. */
static void splits(void **state) {
    (void)state;
    if (skipped()) return;
    tally t = {0};
    for (int dt = 0; dt < 3; dt++) {
        spec s = {.name = "splits", .m = 40, .n = 24, .k = 1100, .pad = dt == 2 ? 1 : 0};
        s.dtype = dt == 0 ? QN_F32 : QN_BF16;
        s.c_dtype = dt == 1 ? QN_F32 : s.dtype;
        s.bias = s.residual = s.pre = true;
        s.activation = QN_ACT_GELU;
        s.accumulate = dt == 1;
        check_orders(&s, &t);
        s.n = 33;
        s.bias = s.residual = s.pre = false;
        s.activation = QN_ACT_NONE;
        s.items = 2;
        check_orders(&s, &t);
    }
    check_tally(&t);
}

/* NaN and infinity pass through to the rows and columns they belong to, and to no other. */
static void special(void **state) {
    (void)state;
    if (skipped()) return;
    for (int dt = 0; dt < 2; dt++) {
        spec s = {.name = "special", .m = 70, .n = 66, .k = 35, .items = 1, .alpha = 1.0f};
        s.dtype = s.c_dtype = dt ? QN_BF16 : QN_F32;
        s.b_trans = true;
        operands x = operands_of(&s, 0);
        set(&x.a, 0, 3, 34, NAN);
        set(&x.b, 0, 65, 0, INFINITY);
        upload(&x.a);
        upload(&x.b);
        qn_product p = product_of(&s, &x);
        point(&p, &s, &x);
        qn_assert_ok(qn_cuda_product(&p, NULL));
        download(&x.c);
        for (int64_t i = 0; i < s.m; i++) {
            for (int64_t j = 0; j < s.n; j++) {
                float v = get(&x.c, 0, i, j);
                assert_int_equal(isnan(v) != 0, i == 3);
                if (i != 3) assert_int_equal(isinf(v) != 0, j == 65);
            }
        }
        operands_free(&x);
    }
}

/* Column sums: bias gradients. */
static void column_sums(void **state) {
    (void)state;
    if (skipped()) return;
    static const int64_t shapes[][2] = {{0, 5}, {1, 1}, {7, 33}, {200, 256}, {1000, 300}, {129, 8}};
    for (int i = 0; i < 6 * 4; i++) {
        int64_t rows = shapes[i / 4][0], cols = shapes[i / 4][1];
        qn_dtype dt = i & 1 ? QN_BF16 : QN_F32, out = i & 2 ? QN_BF16 : QN_F32;
        bool add = i % 3 == 0;
        operand x = make(dt, 1, rows, cols, i % 4 == 1 ? 3 : 0, 0, 1);
        operand y = make(out, 1, 1, cols, 0, 0, add ? 2 : 0);
        operand before = make(out, 1, 1, cols, 0, 0, add ? 2 : 0);
        qn_column_sums s = {.rows = rows, .cols = cols, .ld = x.ld, .dtype = dt};
        s.sums_dtype = out;
        s.accumulate = add;
        operand scratch =
            make(QN_F32, 1, 1, (int64_t)(qn_column_sums_scratch(&s) / 4) + 1, 0, 0, 0);
        s.x = device_data(&x);
        s.sums = device_data(&y);
        s.scratch = scratch.device;
        qn_assert_ok(qn_cuda_column_sums(&s, NULL));
        download(&y);
        check_guards(&y, "column sums", "sums");
        for (int64_t j = 0; j < cols; j++) {
            double want = add ? (double)get(&before, 0, 0, j) : 0.0, size = fabs(want);
            for (int64_t r = 0; r < rows; r++) {
                want += (double)get(&x, 0, r, j);
                size += fabs((double)get(&x, 0, r, j));
            }
            /* Higham's bound for the longest chain, then one rounding to the output. */
            double bound = (double)(rows + 1) * 0x1p-24 * size;
            bound += (out == QN_BF16 ? 0x1p-8 : 0x1p-23) * (fabs(want) + bound);
            if (!(fabs((double)get(&y, 0, 0, j) - want) <= bound)) {
                fail_msg("column sums %lldx%lld: [%lld] is %.9g, expected %.9g", (long long)rows,
                         (long long)cols, (long long)j, (double)get(&y, 0, 0, j), want);
            }
        }
        drop(&x), drop(&y), drop(&before), drop(&scratch);
    }
}

static void refusals(void **state) {
    (void)state;
    if (skipped()) return;
    qn_product p = {.m = 1, .n = 1, .k = 1, .dtype = QN_F64, .c_dtype = QN_F64, .alpha = 1.0f};
    assert_int_equal(qn_cuda_product(&p, NULL), QN_ERR_DTYPE);
    p.dtype = QN_F32;
    p.c_dtype = QN_BF16;
    assert_int_equal(qn_cuda_product(&p, NULL), QN_ERR_DTYPE);
    p.c_dtype = QN_F32;
    p.m = (int64_t)1 << 31;
    assert_int_equal(qn_cuda_product(&p, NULL), QN_ERR_SHAPE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_sizes), cmocka_unit_test(bf16_sizes), cmocka_unit_test(bf16_to_f32),
        cmocka_unit_test(tails),     cmocka_unit_test(many_tiles), cmocka_unit_test(empty),
        cmocka_unit_test(unaligned), cmocka_unit_test(epilogue),   cmocka_unit_test(batched),
        cmocka_unit_test(splits),    cmocka_unit_test(special),    cmocka_unit_test(column_sums),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void products(void **state) {
    (void)state;
    print_message("this build has no CUDA\n");
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
