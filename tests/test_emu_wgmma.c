/* test_emu_wgmma.c — warpgroup products: every operand layout, as tensor copies leave it or as the
 * core matrices of the PTX ISA are laid out by hand; groups, fences, registers; misuse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/emu_bodies.h"
#include "tests/emu_numbers.h"
#include "tests/emu/wgmma_forms.h"

static const qe_site here = {"body.cu", 1, "wgmma"}, barrier = {"body.cu", 2, "bar"};

enum { M = 64, MAX_N = 256, MAX_K = 128, TILE = 65536 };

/* One operand: `rows` along M or N, all of k. */
typedef struct operand {
    qe_mma_type type;
    bool mn_major;
    int swizzle, rows; /* 0 none, 1 32, 2 64, 3 128 bytes */
    double (*x)[MAX_K];
    unsigned char *image;           /* shared memory, without swizzle: TILE bytes */
    uint32_t lbo, sbo, per_product; /* bytes; how far the next k's product starts */
} operand;

typedef struct product {
    operand a, b;
    qe_wgmma kind;
    int k; /* of the tile: several products */
    bool scale_d;
    float (*c)[MAX_N];
    float (*d)[MAX_N];
} product;

/* The PTX ISA's canonical layouts. Swizzled: rows of w bytes, eight of them a repeating pattern,
 * patterns 8 w apart along the row index; a row is k for one mn (K-major), or mn for one k, and
 * then the next w bytes of mn follow all rows of k. Not swizzled: 8 rows of 16 bytes are a core
 * matrix; core matrices are put one after the other, along k first. */
static void lay_out(operand *o, int k_all) {
    int size = bytes_of_type(o->type), w = 16 << o->swizzle;
    memset(o->image, 0, TILE);
    o->lbo = o->sbo = 16;
    if (o->swizzle == 0) {
        int along_k = o->mn_major ? k_all / 8 : k_all * size / 16;
        o->lbo = 128;
        o->sbo = (uint32_t)(128 * along_k);
        o->per_product = 256;
    } else if (!o->mn_major) {
        o->sbo = (uint32_t)(8 * w);
        o->per_product = 32;
    } else {
        o->lbo = (uint32_t)(k_all * w);
        o->sbo = (uint32_t)(8 * w);
        o->per_product = (uint32_t)(16 * w);
    }
    for (int mn = 0; mn < o->rows; mn++)
        for (int k = 0; k < k_all; k++) {
            int per = 16 / size, core, row, column;
            size_t at;
            if (o->swizzle == 0) {
                row = o->mn_major ? k % 8 : mn % 8;
                column = o->mn_major ? mn % 8 : k % per;
                core =
                    o->mn_major ? mn / 8 * (k_all / 8) + k / 8 : mn / 8 * (k_all / per) + k / per;
                at = (size_t)(core * 128 + row * 16 + column * size);
            } else if (o->mn_major) {
                int in_row = w / size;
                at = (size_t)(mn / in_row * k_all * w + k * w + mn % in_row * size);
            } else {
                at = (size_t)(mn * w + k * size);
            }
            uint32_t code = encode(o->type, o->x[mn][k]);
            memcpy(o->image + at, &code, (size_t)size);
        }
}

/* 16-byte pieces, as the tables of swizzle modes print them. */
static uint32_t swizzled(uint32_t byte, int mode) {
    uint32_t row = byte / 128, piece = byte / 16 % 8;
    uint32_t turn = mode == 3 ? row % 8 : mode == 2 ? row % 4 : mode == 1 ? row % 2 : 0;
    return row * 128 + (piece ^ turn) * 16 + byte % 16;
}

static void put_tile(qe_thread *t, uint32_t base, const operand *o) {
    for (uint32_t i = t->linear * 16; i < TILE; i += t->block->n_threads * 16)
        emu_put(t, base + swizzled(i, o->swizzle), o->image + i, 16, &here);
}

static uint64_t descriptor(uint32_t address, const operand *o) {
    uint64_t mode = o->swizzle == 0 ? 0 : 4u - (unsigned)o->swizzle;
    return (address & 0x3ffffu) >> 4 | (uint64_t)(o->lbo >> 4 & 0x3fffu) << 16 |
           (uint64_t)(o->sbo >> 4 & 0x3fffu) << 32 | mode << 62;
}

/* "Row 16 (l / 32) + (l % 32) / 4 + 8 (j / 2 % 2), column 8 (j / 4) + 2 (l % 4) + j % 2". */
static int row_of(int l, int j) { return 16 * (l / 32) + l % 32 / 4 + 8 * (j / 2 % 2); }
static int column_of(int l, int j) { return 8 * (j / 4) + 2 * (l % 4) + j % 2; }

/* A's fragment of k elements from `first`: the table of mma.m16n8k16 (k8 tf32, k32 8 bit). */
static void fragment(const operand *a, int first, int l, uint32_t *r) {
    int size = bytes_of_type(a->type), e = 4 / size;
    for (int i = 0; i < 4 * e; i++) {
        int g = l % 32 / 4, t = l % 4, block = i / e;
        int row = (block == 0 || block == 2) ? g : g + 8;
        int column = t * e + i % e + (block >= 2 ? 4 * e : 0);
        uint32_t code = encode(a->type, a->x[16 * (l / 32) + row][first + column]);
        memcpy((char *)r + i * size, &code, (size_t)size);
    }
}

static void multiply(qe_thread *t, char *params) {
    product *p = (product *)(void *)params;
    uint32_t base = (t->block->dynamic_shared + 1023u) & ~1023u;
    int l = (int)t->linear, k_one = 32 / bytes_of_type(p->kind.a);
    float d[MAX_N / 2];
    put_tile(t, base, &p->a);
    put_tile(t, base + TILE, &p->b);
    qe_fence_proxy_async(t, &here);
    qe_barrier_sync(t, 0, 0, &barrier);
    for (int j = 0; j < p->kind.n / 2; j++) d[j] = p->c[row_of(l, j)][column_of(l, j)];
    qe_wgmma_fence(t, &here);
    for (int i = 0; i < p->k / k_one; i++) {
        uint32_t r[4];
        if (p->kind.a_in_registers) fragment(&p->a, i * k_one, l, r);
        uint32_t step = (uint32_t)i;
        qe_wgmma_async(t, &p->kind, d, p->kind.a_in_registers ? r : NULL,
                       descriptor(base + step * p->a.per_product, &p->a),
                       descriptor(base + TILE + step * p->b.per_product, &p->b),
                       p->scale_d || i > 0, &here);
    }
    qe_wgmma_commit(t, &here);
    qe_wgmma_wait(t, 0, &here);
    for (int j = 0; j < p->kind.n / 2; j++) p->d[row_of(l, j)][column_of(l, j)] = d[j];
}

static void check(product *p, const char *name) {
    static double a[M][MAX_K], b[MAX_N][MAX_K];
    static float c[M][MAX_N], d[M][MAX_N];
    static unsigned char image_a[TILE], image_b[TILE];
    for (int i = 0; i < M * MAX_K; i++) a[i / MAX_K][i % MAX_K] = whole(-3, 3);
    for (int i = 0; i < MAX_N * MAX_K; i++) b[i / MAX_K][i % MAX_K] = whole(-3, 3);
    for (int i = 0; i < M * MAX_N; i++)
        c[i / MAX_N][i % MAX_N] = p->scale_d ? (float)whole(-99, 99) : NAN;
    p->a.x = a;
    p->b.x = b;
    p->a.image = image_a;
    p->b.image = image_b;
    p->a.rows = M;
    p->b.rows = p->kind.n;
    p->c = c;
    p->d = d;
    p->kind.a = p->a.type;
    p->kind.b = p->b.type;
    p->kind.trans_a = p->a.mn_major;
    p->kind.trans_b = p->b.mn_major;
    if (!p->kind.negate_a) p->kind.negate_a = p->kind.negate_b = 1;
    lay_out(&p->a, p->k);
    lay_out(&p->b, p->k);
    assert_true(emu_run(multiply, (emu_shape){1, 1, 128, 2 * TILE + 1024}, p));
    const char *findings = emu_findings();
    if (*findings) fail_msg("%s: %s", name, findings);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < p->kind.n; j++) {
            double want = 0;
            for (int k = 0; k < p->k; k++) want += a[i][k] * b[j][k];
            want *= p->kind.negate_a * p->kind.negate_b;
            if (p->scale_d) want += (double)c[i][j];
            if (!((double)d[i][j] == want))
                fail_msg("%s: n %d, (%d,%d) found %g, expected %g", name, p->kind.n, i, j,
                         (double)d[i][j], want);
        }
}

/* k of a tile: one row of the swizzle for K-major operands, at least one product. */
static int tile_k(const operand *a, const operand *b, bool registers) {
    int k = 64 / bytes_of_type(b->type) * 2;
    const operand *both[] = {a, b};
    for (int i = registers; i < 2; i++)
        if (both[i]->swizzle && !both[i]->mn_major) {
            int row = (16 << both[i]->swizzle) / bytes_of_type(b->type);
            if (row < k) k = row;
        }
    return k;
}

static void test_operand_layouts(void **state) {
    (void)state;
    assert_true(qe_configure("watch=check,quiet=1"));
    for (int i = 0; i < 64; i++) { /* swizzle and major of both operands */
        product p = {.a = {QE_MMA_BF16, i & 1, i >> 2 & 3, 0, NULL, NULL, 0, 0, 0},
                     .b = {QE_MMA_BF16, i >> 1 & 1, i >> 4 & 3, 0, NULL, NULL, 0, 0, 0},
                     .kind = {.n = 64}};
        char name[64];
        snprintf(name, sizeof name, "a %s %d, b %s %d", i & 1 ? "mn" : "k", i >> 2 & 3,
                 i >> 1 & 1 ? "mn" : "k", i >> 4 & 3);
        p.k = tile_k(&p.a, &p.b, false);
        check(&p, name);
    }
}

static void test_every_n(void **state) {
    (void)state;
    for (int n = 8; n <= MAX_N; n += 8) {
        product p = {.a = {.type = QE_MMA_F16, .swizzle = 3},
                     .b = {.type = QE_MMA_F16, .swizzle = 3, .mn_major = n % 16 == 0},
                     .kind = {.n = n},
                     .k = 64,
                     .scale_d = n % 24 == 0};
        check(&p, "n");
    }
}

static void test_types_and_registers(void **state) {
    (void)state;
    static const qe_mma_type types[][2] = {{QE_MMA_BF16, QE_MMA_BF16}, {QE_MMA_F16, QE_MMA_F16},
                                           {QE_MMA_TF32, QE_MMA_TF32}, {QE_MMA_E4M3, QE_MMA_E4M3},
                                           {QE_MMA_E4M3, QE_MMA_E5M2}, {QE_MMA_E5M2, QE_MMA_E4M3}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int variant = 0; variant < 16; variant++) {
            product p = {.a = {.type = types[i][0], .swizzle = variant & 3},
                         .b = {.type = types[i][1], .swizzle = variant & 3},
                         .kind = {.n = 40, .a_in_registers = variant & 4},
                         .scale_d = variant & 8};
            if (variant & 8) {
                p.kind.negate_a = variant & 1 ? -1 : 1;
                p.kind.negate_b = variant & 2 ? -1 : 1;
            }
            p.k = tile_k(&p.a, &p.b, p.kind.a_in_registers);
            check(&p, "type");
        }
}

/* ---- the instruction, in inline PTX ---------------------------------------------------------- */

/* By form of tests/emu/wgmma_forms.cu. */
static const struct {
    qe_mma_type a, b;
    bool registers, mn_a, mn_b;
    int sign;
} forms[] = {{QE_MMA_BF16, QE_MMA_BF16, false, false, false, 1},
             {QE_MMA_BF16, QE_MMA_BF16, false, true, false, 1},
             {QE_MMA_BF16, QE_MMA_BF16, false, false, true, 1},
             {QE_MMA_F16, QE_MMA_F16, false, true, true, -1},
             {QE_MMA_F16, QE_MMA_F16, false, false, false, -1},
             {QE_MMA_TF32, QE_MMA_TF32, false, false, false, 1},
             {QE_MMA_E4M3, QE_MMA_E5M2, false, false, false, 1},
             {QE_MMA_BF16, QE_MMA_BF16, true, false, true, 1},
             {QE_MMA_F16, QE_MMA_F16, true, false, false, -1},
             {QE_MMA_TF32, QE_MMA_TF32, true, false, false, 1},
             {QE_MMA_E5M2, QE_MMA_E4M3, true, false, false, 1}};
enum { FORMS = sizeof forms / sizeof *forms, N = 16 };

static void check_form(int form, int swizzle, bool add) {
    static double a[M][MAX_K], b[N][MAX_K];
    static unsigned char plain[2][TILE];
    static _Alignas(16) unsigned char image[2][WGMMA_IMAGE];
    uint32_t r[128][4];
    float d[128][N / 2], before[128][N / 2];
    int k_all = 32 / bytes_of_type(forms[form].a);
    operand x = {.type = forms[form].a,
                 .mn_major = forms[form].mn_a,
                 .swizzle = swizzle,
                 .rows = M,
                 .x = a,
                 .image = plain[0]};
    operand y = {.type = forms[form].b,
                 .mn_major = forms[form].mn_b,
                 .swizzle = swizzle,
                 .rows = N,
                 .x = b,
                 .image = plain[1]};
    for (int i = 0; i < M * k_all; i++) a[i / k_all][i % k_all] = whole(-3, 3);
    for (int i = 0; i < N * k_all; i++) b[i / k_all][i % k_all] = whole(-3, 3);
    for (int i = 0; i < 128 * N / 2; i++) d[i / 8][i % 8] = add ? (float)whole(-99, 99) : NAN;
    memcpy(before, d, sizeof d);
    lay_out(&x, k_all);
    lay_out(&y, k_all);
    for (uint32_t i = 0; i < WGMMA_IMAGE; i++) {
        image[0][swizzled(i, swizzle)] = plain[0][i];
        image[1][swizzled(i, swizzle)] = plain[1][i];
    }
    for (int l = 0; l < 128; l++) fragment(&x, 0, l, r[l]);
    const wgmma_case c = {image[0],          image[1],          r[0], d[0],
                          descriptor(0, &x), descriptor(0, &y), add};
    assert_int_equal(wgmma_run(form, &c), 0);
    for (int l = 0; l < 128; l++)
        for (int j = 0; j < N / 2; j++) {
            double want = 0;
            for (int k = 0; k < k_all; k++) want += a[row_of(l, j)][k] * b[column_of(l, j)][k];
            want = want * forms[form].sign + (add ? (double)before[l][j] : 0);
            if (!((double)d[l][j] == want))
                fail_msg("form %d, swizzle %d, thread %d register %d: found %g, expected %g", form,
                         swizzle, l, j, (double)d[l][j], want);
        }
    const char *text = emu_findings();
    if (*text) fail_msg("form %d: %s", form, text);
}

static void test_forms_of_the_instruction(void **state) {
    (void)state;
    assert_true(qe_configure("watch=check,quiet=1"));
    for (int form = 0; form < FORMS; form++)
        for (int swizzle = 0; swizzle < 4; swizzle++)
            check_form(form, swizzle, (form + swizzle) % 2);
}

/* ---- misuse ---------------------------------------------------------------------------------- */

typedef enum mistake {
    NONE,
    NO_FENCE,
    DISAGREE,
    NOT_ALL,
    NO_WAIT,
    WRITE_EARLY,
    NO_PROXY_FENCE,
    BASE_OFFSET,
    OUTSIDE,
    TRANSPOSED_TF32,
    EARLIER_GROUP_ONLY,
    NO_FENCE_AFTER_WAIT
} mistake;

/* Two products in two groups; then the tile is written again. */
static void mistaken(qe_thread *t, char *params) {
    mistake m = *(mistake *)(void *)params;
    uint32_t base = (t->block->dynamic_shared + 1023u) & ~1023u;
    qe_wgmma kind = {.n = 8, .a = QE_MMA_BF16, .b = QE_MMA_BF16, .negate_a = 1, .negate_b = 1};
    float d[4] = {0};
    uint32_t zero[4] = {0};
    operand o = {.swizzle = 3, .lbo = 16, .sbo = 1024};
    if (m == TRANSPOSED_TF32) {
        kind.a = kind.b = QE_MMA_TF32;
        kind.trans_b = 1;
    }
    for (uint32_t i = t->linear * 16; i < 8192; i += 2048) emu_put(t, base + i, zero, 16, &here);
    if (m != NO_PROXY_FENCE) qe_fence_proxy_async(t, &here);
    qe_barrier_sync(t, 0, 0, &barrier);
    if (m == NOT_ALL && t->linear >= 96) return;
    uint64_t a = descriptor(base, &o), b = descriptor(base + 32, &o);
    if (m == BASE_OFFSET) b |= 1ull << 49;
    if (m == OUTSIDE) b = descriptor(base + 10240, &o);
    if (m == DISAGREE && t->linear == 77) b = a;
    for (int i = 0; i < 2; i++) {
        if (m != NO_FENCE && (m != NO_FENCE_AFTER_WAIT || i == 0)) qe_wgmma_fence(t, &here);
        qe_wgmma_async(t, &kind, d, NULL, a, b, i, &here);
        qe_wgmma_commit(t, &here);
        if (m == NO_FENCE_AFTER_WAIT) qe_wgmma_wait(t, 0, &here);
    }
    if (m == EARLIER_GROUP_ONLY) qe_wgmma_wait(t, 1, &here);
    if (m != NO_WAIT && m != WRITE_EARLY && m != EARLIER_GROUP_ONLY) qe_wgmma_wait(t, 0, &here);
    if (m != NO_WAIT) {
        qe_barrier_sync(t, 0, 0, &barrier);
        emu_put(t, base + swizzled(t->linear / 2 * 128 + t->linear % 2 * 16, 3), zero, 4, &here);
        qe_wgmma_wait(t, 0, &here);
    }
}

static void test_misuse(void **state) {
    (void)state;
    static const struct {
        mistake m;
        bool runs;
        const char *finding;
    } rows[] = {{NONE, true, ""},
                {NO_FENCE, true, "expected wgmma.fence"},
                {NO_FENCE_AFTER_WAIT, true, "expected wgmma.fence"},
                {DISAGREE, false, "disagree"},
                {NOT_ALL, false, "96 of 128 threads have issued it"},
                {NO_WAIT, true, "before it has waited for its products"},
                {WRITE_EARLY, true, "race"},
                {EARLIER_GROUP_ONLY, true, "race"},
                {NO_PROXY_FENCE, true, "proxy-race"},
                {BASE_OFFSET, true, "base offset of 1"},
                {OUTSIDE, false, "oob-shared"},
                {TRANSPOSED_TF32, false, "not modelled"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mistake m = rows[i].m;
        bool ran = emu_run(mistaken, (emu_shape){1, 1, 128, 8192 + 1024}, &m);
        const char *text = emu_findings();
        if (*rows[i].finding ? !strstr(text, rows[i].finding) : *text)
            fail_msg("mistake %d: found %s, expected %s", (int)m, text, rows[i].finding);
        assert_int_equal(ran, rows[i].runs);
    }
}

/* ---- setmaxnreg ------------------------------------------------------------------------------ */

typedef struct shares {
    uint32_t wanted[3]; /* registers of each of three warpgroups */
} shares;

static void redistribute(qe_thread *t, char *params) {
    const shares *s = (const shares *)(void *)params;
    uint32_t n = s->wanted[t->linear / 128]; /* 168 at launch */
    qe_setmaxnreg(t, n, n > 168, &here);
}

static void test_registers(void **state) {
    (void)state;
    static const struct {
        shares s;
        bool runs;
        const char *finding;
    } rows[] = {{{{40, 232, 232}}, true, ""},
                {{{232, 232, 40}}, true, ""}, /* those that wait come first */
                {{{24, 240, 240}}, true, ""},
                {{{40, 240, 240}}, false, "more registers a thread"},
                {{{168, 176, 168}}, false, "8 more registers a thread, 0 are free"},
                {{{20, 168, 168}}, false, "found 20 registers"},
                {{{44, 168, 168}}, false, "found 44 registers"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        shares s = rows[i].s;
        assert_int_equal(emu_run(redistribute, (emu_shape){1, 1, 384, 0}, &s), rows[i].runs);
        const char *text = emu_findings();
        if (*rows[i].finding ? !strstr(text, rows[i].finding) : *text)
            fail_msg("row %zu: found %s, expected %s", i, text, rows[i].finding);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operand_layouts),
        cmocka_unit_test(test_every_n),
        cmocka_unit_test(test_types_and_registers),
        cmocka_unit_test(test_forms_of_the_instruction),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
