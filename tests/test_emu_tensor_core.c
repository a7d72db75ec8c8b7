/* test_emu_tensor_core.c — ldmatrix, stmatrix and mma.sync against the fragment tables of the PTX
 * ISA, as it prints them for each shape.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/emu_bodies.h"
#include "tests/emu_numbers.h"

static const qe_site here = {"body.cu", 1, "mma"};

/* ---- mma.sync -------------------------------------------------------------------------------- */

/* Element i of a lane's fragment: PTX ISA, "Matrix Fragments for mma.m16n8k*". */
static void place_a(int k, int bytes, int i, int lane, int *row, int *col) {
    int g = lane >> 2, t = lane % 4;
    if (bytes == 2 && k == 8) {
        *row = i < 2 ? g : g + 8;
        *col = t * 2 + (i & 1);
    } else if (bytes == 2) { /* k16 */
        *row = (i < 2 || (i >= 4 && i < 6)) ? g : g + 8;
        *col = t * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    } else if (bytes == 4 && k == 4) {
        *row = i == 0 ? g : g + 8;
        *col = t;
    } else if (bytes == 4) { /* k8 */
        *row = (i == 0 || i == 2) ? g : g + 8;
        *col = i < 2 ? t : t + 4;
    } else if (k == 16) {
        *row = i < 4 ? g : g + 8;
        *col = t * 4 + (i & 3);
    } else { /* k32 */
        *row = (i < 4 || (i >= 8 && i < 12)) ? g : g + 8;
        *col = i < 8 ? t * 4 + (i & 3) : t * 4 + (i & 3) + 16;
    }
}

static void place_b(int bytes, int i, int lane, int *row, int *col) {
    int g = lane >> 2, t = lane % 4;
    *col = g;
    if (bytes == 2)
        *row = i < 2 ? t * 2 + (i & 1) : t * 2 + (i & 1) + 8;
    else if (bytes == 4)
        *row = i == 0 ? t : t + 4;
    else
        *row = i < 4 ? t * 4 + (i & 3) : t * 4 + (i & 3) + 16;
}

static void place_c(int i, int lane, int *row, int *col) {
    *row = i < 2 ? lane >> 2 : (lane >> 2) + 8;
    *col = (lane % 4) * 2 + (i & 1);
}

typedef struct product {
    qe_mma kind;
    const uint32_t *first; /* the code of A's first element, if not by a */
    double a[16][32], b[32][8], c[16][8], d[16][8];
} product;

static void set_element(uint32_t *registers, int i, int bytes, uint32_t bits) {
    memcpy((char *)registers + i * bytes, &bits, (size_t)bytes); /* little endian, like registers */
}

static void multiply(qe_thread *t, char *params) {
    product *p = (product *)(void *)params;
    const qe_mma *kind = &p->kind;
    uint32_t a[4] = {0}, b[2] = {0}, c[4] = {0}, d[4];
    int lane = (int)t->lane, row, col, bytes = bytes_of_type(kind->a);
    bool integer = kind->a == QE_MMA_S8 || kind->a == QE_MMA_U8;
    for (int i = 0; i < 16 * kind->k / 32; i++) {
        place_a(kind->k, bytes, i, lane, &row, &col);
        set_element(a, i, bytes, encode(kind->a, p->a[row][col]));
    }
    if (p->first && lane == 0) set_element(a, 0, bytes, *p->first);
    for (int i = 0; i < 8 * kind->k / 32; i++) {
        place_b(bytes, i, lane, &row, &col);
        set_element(b, i, bytes, encode(kind->b, p->b[row][col]));
    }
    for (int i = 0; i < 4; i++) {
        place_c(i, lane, &row, &col);
        if (integer)
            c[i] = (uint32_t)(int32_t)p->c[row][col];
        else if (kind->half_result)
            set_element(c, i, 2, encode(QE_MMA_F16, p->c[row][col]));
        else
            c[i] = float_bits((float)p->c[row][col]);
    }
    qe_mma_sync(t, kind, d, a, b, c, &here);
    for (int i = 0; i < 4; i++) {
        place_c(i, lane, &row, &col);
        uint16_t half;
        memcpy(&half, (char *)d + 2 * i, 2);
        p->d[row][col] = integer             ? (double)(int32_t)d[i]
                         : kind->half_result ? (double)bits_half(half)
                                             : (double)bits_float(d[i]);
    }
}

static const qe_mma kinds[] = {
    {16, 8, 8, QE_MMA_BF16, QE_MMA_BF16, false},  {16, 8, 16, QE_MMA_BF16, QE_MMA_BF16, false},
    {16, 8, 8, QE_MMA_F16, QE_MMA_F16, false},    {16, 8, 16, QE_MMA_F16, QE_MMA_F16, false},
    {16, 8, 8, QE_MMA_F16, QE_MMA_F16, true},     {16, 8, 16, QE_MMA_F16, QE_MMA_F16, true},
    {16, 8, 4, QE_MMA_TF32, QE_MMA_TF32, false},  {16, 8, 8, QE_MMA_TF32, QE_MMA_TF32, false},
    {16, 8, 32, QE_MMA_E4M3, QE_MMA_E4M3, false}, {16, 8, 32, QE_MMA_E5M2, QE_MMA_E4M3, false},
    {16, 8, 16, QE_MMA_S8, QE_MMA_S8, false},     {16, 8, 32, QE_MMA_S8, QE_MMA_S8, false},
    {16, 8, 32, QE_MMA_U8, QE_MMA_S8, false},
};

/* Small integers: every sum is exact, so any order gives the same bits. */
static void test_mma_of_integers(void **state) {
    (void)state;
    assert_true(qe_configure("watch=check,quiet=1"));
    for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++) {
        product p = {.kind = kinds[n]};
        int low_a = p.kind.a == QE_MMA_U8 ? 0 : -4;
        for (int i = 0; i < 16 * 32; i++) p.a[i / 32][i % 32] = whole(low_a, 4);
        for (int i = 0; i < 32 * 8; i++) p.b[i / 8][i % 8] = whole(-4, 4);
        for (int i = 0; i < 16 * 8; i++) p.c[i / 8][i % 8] = whole(-50, 50);
        assert_true(emu_run(multiply, (emu_shape){1, 1, 32, 0}, &p));
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) {
                double want = p.c[i][j];
                for (int k = 0; k < p.kind.k; k++) want += p.a[i][k] * p.b[k][j];
                if (!(p.d[i][j] == want))
                    fail_msg("kind %zu, (%d,%d): found %g, expected %g", n, i, j, p.d[i][j], want);
            }
        assert_string_equal(emu_findings(), "");
    }
}

/* k ascending from c, each sum rounded to nearest f32. */
static void test_mma_rounds_in_k_order(void **state) {
    (void)state;
    product p = {.kind = {16, 8, 16, QE_MMA_BF16, QE_MMA_BF16, false}};
    for (int i = 0; i < 16 * 32; i++) p.a[i / 32][i % 32] = whole(-127, 127) / 64.0;
    for (int i = 0; i < 32 * 8; i++) p.b[i / 8][i % 8] = whole(-127, 127) * 8.0;
    for (int i = 0; i < 16 * 8; i++) p.c[i / 8][i % 8] = (double)((float)whole(-9999, 9999) / 7.0f);
    assert_true(emu_run(multiply, (emu_shape){1, 1, 32, 0}, &p));
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            float want = (float)p.c[i][j];
            for (int k = 0; k < 16; k++) want += (float)(p.a[i][k] * p.b[k][j]);
            assert_true(p.d[i][j] == (double)want);
        }
}

/* 1 times the number that has this code. */
static float one_product(qe_mma_type type, uint32_t code) {
    product p = {.kind = {16, 8, 32 / bytes_of_type(type), type, type, false}, .first = &code};
    p.b[0][0] = 1.0;
    assert_true(emu_run(multiply, (emu_shape){1, 1, 32, 0}, &p));
    return (float)p.d[0][0];
}

static void test_mma_of_special_values(void **state) {
    (void)state;
    static const struct {
        qe_mma_type type;
        uint32_t bits;
        float value;
    } rows[] = {
        {QE_MMA_BF16, 0x7f80, INFINITY}, {QE_MMA_BF16, 0x0001, 0x1p-133f},
        {QE_MMA_F16, 0xfc00, -INFINITY}, {QE_MMA_F16, 0x0001, 0x1p-24f},
        {QE_MMA_F16, 0x7e00, NAN},       {QE_MMA_F16, 0x83ff, -0x1.ff8p-15f},
        {QE_MMA_E5M2, 0x7c, INFINITY},   {QE_MMA_E5M2, 0x01, 0x1p-16f},
        {QE_MMA_E4M3, 0x7f, NAN},        {QE_MMA_E4M3, 0x7e, 448.0f},
        {QE_MMA_E4M3, 0x01, 0x1p-9f},    {QE_MMA_TF32, 0x3f801fff, 1.0f},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        float found = decode(rows[i].type, rows[i].bits);
        assert_true(isnan(rows[i].value) ? isnan(found) : found == rows[i].value);
        float wide = one_product(rows[i].type, rows[i].bits);
        assert_true(isnan(rows[i].value) ? isnan(wide) : wide == rows[i].value);
    }
}

static void half_of_a_warp(qe_thread *t, char *params) {
    (void)params;
    uint32_t r[4] = {0};
    if (t->lane < 16) return;
    qe_mma_sync(t, &kinds[0], r, r, r, r, &here);
}

static void unknown_shape(qe_thread *t, char *params) {
    (void)params;
    uint32_t r[4] = {0};
    const qe_mma kind = {16, 8, 32, QE_MMA_BF16, QE_MMA_BF16, false};
    qe_mma_sync(t, &kind, r, r, r, r, &here);
}

static void test_mma_misuse(void **state) {
    (void)state;
    assert_false(emu_run(half_of_a_warp, (emu_shape){1, 1, 32, 0}, NULL));
    assert_non_null(strstr(emu_findings(), "mma needs 32"));
    assert_false(emu_run(unknown_shape, (emu_shape){1, 1, 32, 0}, NULL));
    assert_non_null(strstr(emu_findings(), "m16n8k32 of these types"));
}

/* ---- ldmatrix, stmatrix ---------------------------------------------------------------------- */

enum { PITCH = 48 };

typedef struct matrices {
    int n;
    bool trans, store;
    uint32_t shift;         /* added to every address */
    uint16_t memory[32][8]; /* matrix m has rows 8 m .. 8 m + 7 */
    uint32_t r[32][4];
} matrices;

static void move(qe_thread *t, char *params) {
    matrices *x = (matrices *)(void *)params;
    uint32_t low = t->block->dynamic_shared, row = low + t->lane * PITCH;
    emu_put(t, row, x->memory[t->lane], 16, &here);
    qe_warp_sync(t, ~0u, &here);
    if (x->store) {
        qe_stmatrix(t, row + x->shift, x->n, x->trans, x->r[t->lane], &here);
        qe_warp_sync(t, ~0u, &here);
        emu_get(t, row, x->memory[t->lane], 16, &here);
    } else {
        /* Lanes that name no row may hold anything. */
        uint32_t address = t->lane < 8u * (uint32_t)x->n ? row + x->shift : 0xfffffff3u;
        qe_ldmatrix(t, address, x->n, x->trans, x->r[t->lane], &here);
    }
}

/* "Each thread holds a fragment of row lane / 4: elements 2 (lane % 4), + 1"; with .trans of
 * column lane / 4. */
static uint16_t *element(matrices *x, int m, int lane, int half) {
    int major = lane / 4, minor = 2 * (lane % 4) + half;
    return x->trans ? &x->memory[8 * m + minor][major] : &x->memory[8 * m + major][minor];
}

static void test_matrices_move(void **state) {
    (void)state;
    assert_true(qe_configure("watch=check,quiet=1"));
    for (int variant = 0; variant < 12; variant++) {
        matrices x = {.n = 1 << variant / 4, .trans = variant & 1, .store = variant & 2}, before;
        for (int i = 0; i < 32 * 8; i++) x.memory[i / 8][i % 8] = (uint16_t)(1000 + i);
        for (int i = 0; i < 32 * 4; i++) x.r[i / 4][i % 4] = 0x40004u * (uint32_t)i + 0x80000001u;
        before = x;
        assert_true(emu_run(move, (emu_shape){1, 1, 32, 32 * PITCH}, &x));
        matrices *from = x.store ? &x : &before; /* memory is where a load read it */
        for (int m = 0; m < x.n; m++)
            for (int lane = 0; lane < 32; lane++)
                for (int half = 0; half < 2; half++)
                    assert_int_equal(*element(from, m, lane, half),
                                     (uint16_t)(x.r[lane][m] >> 16 * half));
        for (int m = x.n; m < 4; m++) {
            assert_memory_equal(x.memory[8 * m], before.memory[8 * m], 128);
            for (int lane = 0; lane < 32; lane++) assert_int_equal(x.r[lane][m], before.r[lane][m]);
        }
        assert_string_equal(emu_findings(), "");
    }
}

static void test_matrices_misuse(void **state) {
    (void)state;
    matrices x = {.n = 4, .shift = 8};
    assert_false(emu_run(move, (emu_shape){1, 1, 32, 32 * PITCH + 16}, &x));
    assert_non_null(strstr(emu_findings(), "misaligned"));
    x.shift = 32 * PITCH;
    assert_false(emu_run(move, (emu_shape){1, 1, 32, 32 * PITCH}, &x));
    assert_non_null(strstr(emu_findings(), "oob-shared"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mma_of_integers),       cmocka_unit_test(test_mma_rounds_in_k_order),
        cmocka_unit_test(test_mma_of_special_values), cmocka_unit_test(test_mma_misuse),
        cmocka_unit_test(test_matrices_move),         cmocka_unit_test(test_matrices_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
