/* test_emu_tensor_copy.c — tensor maps: the argument rules of cuTensorMapEncodeTiled, and boxes at
 * every edge of tensors of every rank, element by element.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/emu_bodies.h"
#include "tests/emu_numbers.h"
#include "tests/emu/tensor_copy_forms.h"

enum { U8, U16, U32, S32, U64, S64, F16, F32, F64, BF16, TYPES };
static const uint32_t type_bytes[TYPES] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2};
static const qe_site here = {"body.cu", 1, "tensor copy"}, barrier = {"body.cu", 2, "bar"};

/* ---- cuTensorMapEncodeTiled ------------------------------------------------------------------ */

typedef struct encoding {
    int type;
    uint32_t rank;
    uint64_t base, dims[5], strides[4];
    uint32_t box[5], steps[5];
    int interleave, swizzle, promotion, fill;
} encoding;

static const encoding good = {BF16, 2, 4096, {100, 50}, {208}, {64, 8}, {1, 1}, 0, 3, 2, 0};

static int encode_map(void *map, const encoding *e, void *base) {
    return qe_tensor_map_encode(map, e->type, e->rank, base, e->dims, e->strides, e->box, e->steps,
                                e->interleave, e->swizzle, e->promotion, e->fill);
}

static int changed(size_t offset, size_t bytes, uint64_t value) {
    _Alignas(64) char map[128];
    encoding e = good;
    memcpy((char *)&e + offset, &value, bytes);
    return encode_map(map, &e, (void *)(uintptr_t)e.base);
}

#define WITH(member, value) changed(offsetof(encoding, member), sizeof good.member, (value))

static void test_argument_rules(void **state) {
    (void)state;
    enum { OK = 0, INVALID = 1, UNSUPPORTED = 801 };
    assert_true(qe_configure("device=9.0"));
    assert_int_equal(WITH(type, BF16), OK);
    assert_int_equal(WITH(type, 10), UNSUPPORTED); /* flushes subnormal numbers */
    assert_int_equal(WITH(type, 16), INVALID);
    assert_int_equal(WITH(type, (uint64_t)-1), INVALID);
    assert_int_equal(WITH(rank, 0), INVALID);
    assert_int_equal(WITH(rank, 1), OK);
    assert_int_equal(WITH(rank, 6), INVALID);
    assert_int_equal(WITH(base, 0), INVALID);
    assert_int_equal(WITH(base, 4104), INVALID);
    assert_int_equal(WITH(dims[0], 0), INVALID);
    assert_int_equal(WITH(dims[1], 1ull << 32), OK);
    assert_int_equal(WITH(dims[1], (1ull << 32) + 1), INVALID);
    assert_int_equal(WITH(strides[0], 200), INVALID); /* not a multiple of 16 */
    assert_int_equal(WITH(strides[0], (1ull << 40) - 16), OK);
    assert_int_equal(WITH(strides[0], 1ull << 40), INVALID);
    assert_int_equal(WITH(box[1], 256), OK);
    assert_int_equal(WITH(box[1], 257), INVALID);
    assert_int_equal(WITH(box[1], 0), INVALID);
    assert_int_equal(WITH(box[0], 60), INVALID);  /* 120 bytes: not a multiple of 16 */
    assert_int_equal(WITH(box[0], 128), INVALID); /* wider than the swizzle */
    assert_int_equal(WITH(swizzle, 2), INVALID);  /* 128 bytes do not fit in 64 */
    assert_int_equal(WITH(swizzle, 0), OK);
    assert_int_equal(WITH(swizzle, 4), UNSUPPORTED);
    assert_int_equal(WITH(swizzle, 7), INVALID);
    assert_int_equal(WITH(steps[1], 0), INVALID);
    assert_int_equal(WITH(steps[1], 8), OK);
    assert_int_equal(WITH(steps[1], 9), INVALID);
    assert_int_equal(WITH(interleave, 1), UNSUPPORTED);
    assert_int_equal(WITH(interleave, 3), INVALID);
    assert_int_equal(WITH(promotion, 4), INVALID);
    assert_int_equal(WITH(fill, 1), OK);
    assert_int_equal(WITH(fill, 2), INVALID);
    _Alignas(64) char map[192];
    encoding e = good;
    e.type = U16;
    e.fill = 1; /* NaN has no integers */
    assert_int_equal(encode_map(map, &e, (void *)4096), INVALID);
    assert_int_equal(encode_map(map + 16, &good, (void *)4096), INVALID);
    assert_true(qe_configure("device=8.9"));
    assert_int_equal(encode_map(map, &good, (void *)4096), UNSUPPORTED);
    assert_true(qe_configure("device=9.0"));
}

/* ---- one box --------------------------------------------------------------------------------- */

enum { MAX_BYTES = TENSOR_TILE, GAP = 1024 };

typedef struct box_case {
    encoding e;
    int32_t at[5];
    bool store;
    bool ptx; /* by tests/emu/tensor_copy_forms.cu, not by copy_box */
    qe_reduce_op reduce;
    _Alignas(64) char map[128];
    uint32_t bytes;        /* of the box */
    unsigned char *shared; /* what the block has in shared memory: before a store, after a load */
    uint32_t wrong_expectation; /* bytes more than the box has */
} box_case;

/* Shared memory: the box at 1024 n, the mbarrier behind it. */
static void copy_box(qe_thread *t, char *params) {
    box_case *c = (box_case *)(void *)params;
    uint32_t tile = (t->block->dynamic_shared + 1023u) & ~1023u, bar = tile + MAX_BYTES;
    int rank = (int)c->e.rank;
    if (t->linear == 0) {
        qe_mbarrier_init(t, bar, 1, &here);
        qe_fence_mbarrier_init(t, &here);
        for (uint32_t i = 0; c->store && i < MAX_BYTES; i += 16)
            emu_put(t, tile + i, c->shared + i, 16, &here);
        qe_fence_proxy_async(t, &here);
    }
    qe_barrier_sync(t, 0, 0, &barrier);
    if (c->store && t->linear == 0) {
        qe_tensor_store(t, c->map, rank, c->at, tile, c->reduce, &here);
        qe_bulk_commit(t, &here);
        qe_bulk_wait(t, 0, false, &here);
    } else if (!c->store) {
        if (t->linear == 0) {
            qe_mbarrier_expect_tx(t, bar, c->bytes + c->wrong_expectation, &here);
            qe_tensor_load(t, tile, c->map, rank, c->at, bar, 0, &here);
            qe_mbarrier_arrive(t, bar, 1, false, &here);
        }
        while (!qe_mbarrier_wait_parity(t, bar, 0, true, &here)) {}
        for (uint32_t i = t->linear * 16; i < c->bytes; i += 16 * t->block->n_threads)
            emu_get(t, tile + i, c->shared + i, 16, &here);
    }
}

static bool run_box(box_case *c) {
    if (c->ptx) {
        tensor_case x = {.rank = (int)c->e.rank,
                         .op = c->store ? (int)c->reduce : -1,
                         .bytes = c->bytes,
                         .shared = c->shared};
        memcpy(x.at, c->at, sizeof x.at);
        return tensor_copy_run(c->map, &x) == 0;
    }
    return emu_run(copy_box, (emu_shape){1, 1, 64, MAX_BYTES + GAP + 16}, c);
}

/* Where element i of the box lies in shared memory: 16-byte pieces are permuted within rows of 128
 * bytes, the number of the row (modulo the pattern) exclusive-or the number of the piece. */
static uint32_t place_in_shared(const box_case *c, uint32_t byte) {
    uint32_t row = byte / 128, piece = byte / 16 % 8;
    uint32_t turns = c->e.swizzle == 3 ? row % 8 : c->e.swizzle == 2 ? row % 4 : row % 2;
    if (c->e.swizzle == 0) turns = 0;
    return row * 128 + (piece ^ turns) * 16 + byte % 16;
}

/* A tensor in device memory with gaps between rows, all of it known bytes. */
typedef struct tensor {
    char *memory;
    size_t bytes;
} tensor;

static tensor make_tensor(encoding *e) {
    uint64_t stride = (e->dims[0] * type_bytes[e->type] + 15) / 16 * 16 + 16;
    for (uint32_t i = 1; i < e->rank; i++) {
        e->strides[i - 1] = stride;
        stride = stride * e->dims[i] + 32;
    }
    tensor x = {qe_memory_alloc(stride), stride};
    assert_non_null(x.memory);
    for (size_t i = 0; i < x.bytes; i++) x.memory[i] = (char)whole(1, 60);
    qe_check_host_write(x.memory, x.bytes);
    return x;
}

static encoding random_encoding(int type, uint32_t rank, int swizzle, bool stepped) {
    encoding e = {.type = type, .rank = rank, .swizzle = swizzle};
    uint32_t size = type_bytes[type], span = swizzle ? 16u << swizzle : 64;
    for (uint32_t i = 0; i < rank; i++) {
        e.dims[i] = (uint64_t)whole(1, i ? 9 : 40);
        e.steps[i] = stepped ? (uint32_t)whole(1, 3) : 1;
        e.box[i] = (uint32_t)whole(1, i == 1 ? (rank > 3 ? 4 : 12) : 3);
        if (i == 0) e.box[0] = span / size / (uint32_t)(swizzle ? 1 : whole(1, 2));
    }
    return e;
}

/* The element at box coordinates k: its offset in the tensor, -1 outside. */
static int64_t offset_in_tensor(const box_case *c, const uint32_t *k) {
    int64_t at = 0;
    for (uint32_t i = 0; i < c->e.rank; i++) {
        int64_t x = c->at[i] + (int64_t)k[i] * (i ? c->e.steps[i] : 1);
        if (x < 0 || x >= (int64_t)c->e.dims[i]) return -1;
        at += x * (i ? (int64_t)c->e.strides[i - 1] : (int64_t)type_bytes[c->e.type]);
    }
    return at;
}

/* Calls each for every element of the box: its number and its offset in the tensor. */
typedef void each_element(void *context, uint32_t number, int64_t offset);
static void walk(const box_case *c, each_element *each, void *context) {
    uint32_t k[5] = {0}, n = 0;
    for (;;) {
        each(context, n++, offset_in_tensor(c, k));
        uint32_t i = 0;
        for (; i < c->e.rank; i++) {
            uint32_t step = i ? c->e.steps[i] : 1;
            if (++k[i] < (c->e.box[i] + step - 1) / step) break;
            k[i] = 0;
        }
        if (i == c->e.rank) return;
    }
}

static uint32_t box_bytes(const encoding *e) {
    uint32_t n = type_bytes[e->type] * e->box[0];
    for (uint32_t i = 1; i < e->rank; i++) n *= (e->box[i] + e->steps[i] - 1) / e->steps[i];
    return n;
}

typedef struct expected {
    const box_case *c;
    const char *before; /* the tensor */
    char *after;        /* what it should become */
    unsigned char *shared;
    uint32_t outside;
} expected;

static void expect_load(void *context, uint32_t number, int64_t offset) {
    expected *x = context;
    uint32_t size = type_bytes[x->c->e.type];
    unsigned char *at = x->shared + place_in_shared(x->c, number * size);
    static const unsigned char nan16[2] = {0xff, 0x7f}, nan32[4] = {0xff, 0xff, 0xff, 0x7f};
    x->outside += offset < 0;
    if (offset >= 0)
        memcpy(at, x->before + offset, size);
    else if (!x->c->e.fill)
        memset(at, 0, size);
    else
        memcpy(at, size == 2 ? nan16 : nan32, size);
}

static void check_load(const encoding *shape, const int32_t *at, bool ptx) {
    static _Alignas(16) unsigned char found[MAX_BYTES], want[MAX_BYTES];
    box_case c = {.e = *shape, .shared = found, .ptx = ptx};
    tensor x = make_tensor(&c.e);
    memcpy(c.at, at, sizeof c.at);
    c.bytes = box_bytes(&c.e);
    assert_in_range(c.bytes, 1, MAX_BYTES);
    assert_int_equal(encode_map(c.map, &c.e, x.memory), 0);
    memset(found, 0xee, sizeof found);
    expected e = {.c = &c, .before = x.memory, .shared = want};
    walk(&c, expect_load, &e);
    assert_true(run_box(&c));
    assert_memory_equal(found, want, c.bytes);
    assert_string_equal(emu_findings(), "");
    qe_memory_free(x.memory);
}

/* From wholly before to wholly behind the tensor, in each dimension. */
static void random_place(const encoding *e, int32_t *at) {
    for (uint32_t i = 0; i < e->rank; i++) {
        int reach = (int)(e->box[i] * e->steps[i]);
        at[i] = (int32_t)whole(-reach - 1, (int)e->dims[i] + 1);
        if (whole(0, 2) != 0) at[i] = (int32_t)whole(0, (int)e->dims[i] - 1);
    }
}

static void test_loads(void **state) {
    (void)state;
    static const char *const modes[] = {"async=eager", "async=late", "async=any,schedule=pct"};
    for (int mode = 0; mode < 3; mode++) {
        char text[100] = "watch=check,quiet=1,schedule=fifo,";
        strcat(text, modes[mode]);
        assert_true(qe_configure(text));
        for (int round = 0; round < 240; round++) {
            uint32_t rank = 1 + (uint32_t)round % 5;
            int32_t at[5] = {0};
            encoding e =
                random_encoding((int)whole(0, TYPES - 1), rank, (int)whole(0, 3), round % 3 == 0);
            bool floating = e.type == F16 || e.type == BF16 || e.type == F32;
            e.fill = floating && round % 4 > 1;
            random_place(&e, at);
            check_load(&e, at, round % 2);
        }
    }
}

/* The description in cuda.h, by hand: 128 bytes of swizzle, rows of 64 bf16. */
static void test_a_known_swizzle(void **state) {
    (void)state;
    assert_true(qe_configure("watch=check,quiet=1,async=eager,schedule=fifo"));
    static unsigned char found[MAX_BYTES];
    box_case c = {.e = good, .shared = found, .bytes = 8 * 128};
    c.e.dims[0] = 64;
    c.e.dims[1] = 8;
    c.e.strides[0] = 128;
    uint16_t *x = qe_memory_alloc(1024);
    for (int i = 0; i < 512; i++) x[i] = (uint16_t)i;
    qe_check_host_write(x, 1024);
    assert_int_equal(encode_map(c.map, &c.e, x), 0);
    assert_true(run_box(&c));
    const uint16_t *s = (const uint16_t *)(const void *)found;
    assert_int_equal(s[0], 0);       /* row 0: nothing moves */
    assert_int_equal(s[64], 64 + 8); /* row 1: pieces 0 and 1 change places */
    assert_int_equal(s[64 + 8], 64);
    assert_int_equal(s[7 * 64], 7 * 64 + 7 * 8);         /* row 7: piece 0 holds piece 7 */
    assert_int_equal(s[5 * 64 + 3 * 8], 5 * 64 + 6 * 8); /* 5 ^ 3 */
    assert_string_equal(emu_findings(), "");
    qe_memory_free(x);
}

/* ---- stores ---------------------------------------------------------------------------------- */

static double number(int type, const void *at) {
    uint64_t u = 0;
    memcpy(&u, at, type_bytes[type]);
    switch (type) {
    case F16: return (double)decode(QE_MMA_F16, (uint32_t)u);
    case BF16: return (double)decode(QE_MMA_BF16, (uint32_t)u);
    case F32: return (double)bits_float((uint32_t)u);
    case S32: return (double)(int32_t)u;
    default: return (double)u;
    }
}

static void put_number(int type, void *at, double x) {
    uint64_t u = type == F16    ? encode(QE_MMA_F16, x)
                 : type == BF16 ? encode(QE_MMA_BF16, x)
                 : type == F32  ? float_bits((float)x)
                 : type == S32  ? (uint64_t)(uint32_t)(int32_t)x
                                : (uint64_t)x;
    memcpy(at, &u, type_bytes[type]);
}

static void expect_store(void *context, uint32_t number_in_box, int64_t offset) {
    expected *x = context;
    int type = x->c->e.type;
    const unsigned char *from = x->shared + place_in_shared(x->c, number_in_box * type_bytes[type]);
    if (offset < 0) return;
    double old = number(type, x->before + offset), new = number(type, from), to = new;
    switch (x->c->reduce) {
    case QE_COPY: memcpy(x->after + offset, from, type_bytes[type]); return;
    case QE_ADD: to = old + new; break;
    case QE_MIN: to = old < new ? old : new; break;
    case QE_MAX: to = old > new ? old : new; break;
    case QE_INC: to = old >= new ? 0 : old + 1; break;
    case QE_DEC: to = old == 0 || old > new ? new : old - 1; break;
    case QE_AND: to = (double)((uint32_t)old & (uint32_t) new); break;
    case QE_OR: to = (double)((uint32_t)old | (uint32_t) new); break;
    case QE_XOR: to = (double)((uint32_t)old ^ (uint32_t) new); break;
    }
    put_number(type, x->after + offset, to);
}

static void check_store(const encoding *shape, const int32_t *at, qe_reduce_op reduce, bool ptx) {
    static _Alignas(16) unsigned char shared[MAX_BYTES];
    box_case c = {.e = *shape, .shared = shared, .store = true, .ptx = ptx, .reduce = reduce};
    tensor x = make_tensor(&c.e);
    uint32_t size = type_bytes[c.e.type];
    bool numbers = reduce != QE_COPY;
    memcpy(c.at, at, sizeof c.at);
    c.bytes = box_bytes(&c.e);
    assert_int_equal(encode_map(c.map, &c.e, x.memory), 0);
    for (uint32_t i = 0; i < MAX_BYTES; i++) shared[i] = (unsigned char)whole(1, 255);
    int low = c.e.type == U32 || c.e.type == U64 ? 0 : -15;
    for (uint32_t i = 0; numbers && i < MAX_BYTES; i += size)
        put_number(c.e.type, shared + i, whole(low, 15));
    for (size_t i = 0; numbers && i + size <= x.bytes; i += size)
        put_number(c.e.type, x.memory + i, whole(low, 15));
    char *before = malloc(x.bytes), *want = malloc(x.bytes);
    memcpy(before, x.memory, x.bytes);
    memcpy(want, x.memory, x.bytes);
    expected e = {.c = &c, .before = before, .after = want, .shared = shared};
    walk(&c, expect_store, &e);
    assert_true(run_box(&c));
    assert_memory_equal(x.memory, want, x.bytes);
    assert_string_equal(emu_findings(), "");
    free(before);
    free(want);
    qe_memory_free(x.memory);
}

static void test_stores(void **state) {
    (void)state;
    assert_true(qe_configure("watch=check,quiet=1,async=late,schedule=fifo"));
    for (int round = 0; round < 200; round++) {
        int32_t at[5] = {0};
        encoding e = random_encoding((int)whole(0, TYPES - 1), 1 + (uint32_t)round % 5,
                                     (int)whole(0, 3), round % 3 == 0);
        random_place(&e, at);
        check_store(&e, at, QE_COPY, round % 2);
    }
}

static void test_reductions(void **state) {
    (void)state;
    static const struct {
        int type;
        qe_reduce_op op;
    } rows[] = {{F32, QE_ADD}, {F16, QE_ADD},  {BF16, QE_ADD}, {U32, QE_ADD}, {S32, QE_ADD},
                {F16, QE_MIN}, {BF16, QE_MAX}, {S32, QE_MIN},  {S32, QE_MAX}, {U32, QE_MAX},
                {U32, QE_INC}, {U32, QE_DEC},  {U32, QE_AND},  {U32, QE_OR},  {U32, QE_XOR},
                {U64, QE_ADD}, {U64, QE_MIN}};
    assert_true(qe_configure("watch=check,quiet=1,async=any,schedule=fifo"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int round = 0; round < 6; round++) {
            int32_t at[5] = {0};
            encoding e = random_encoding(rows[i].type, 1 + (uint32_t)round % 3, round % 4, false);
            random_place(&e, at);
            check_store(&e, at, rows[i].op, round % 2);
        }
}

/* ---- misuse ---------------------------------------------------------------------------------- */

static const char *misuse(uint32_t more, int rank, qe_reduce_op reduce, bool store, bool spoil,
                          uint32_t inner) {
    static unsigned char shared[MAX_BYTES];
    box_case c = {
        .e = good, .shared = shared, .store = store, .reduce = reduce, .wrong_expectation = more};
    tensor x = make_tensor(&c.e);
    c.e.box[0] = inner;
    c.bytes = box_bytes(&c.e);
    assert_int_equal(encode_map(c.map, &c.e, x.memory), 0);
    if (spoil) memset(c.map, 0, 8);
    c.e.rank = (uint32_t)rank;
    assert_false(run_box(&c));
    qe_memory_free(x.memory);
    return emu_findings();
}

static void test_misuse(void **state) {
    (void)state;
    assert_true(qe_configure("watch=check,quiet=1,async=eager,schedule=fifo"));
    const char *text = misuse(16, 2, QE_COPY, false, false, 64);
    assert_non_null(strstr(text, "deadlock"));
    assert_non_null(strstr(text, "64 threads"));
    assert_non_null(strstr(text, "waiting parity 0, phase parity 0, pending 0 of 1, tx-count 16"));
    assert_non_null(strstr(misuse(0, 3, QE_COPY, false, false, 64), "map of rank 2, expected 3"));
    assert_non_null(strstr(misuse(0, 2, QE_COPY, false, true, 64), "is not a tensor map"));
    assert_non_null(strstr(misuse(0, 2, QE_INC, true, false, 64), "no such reduction"));
    text = misuse(0, 2, QE_COPY, true, false, 32);
    assert_non_null(strstr(text, "rows of 64 bytes under a swizzle of 128"));
}

/* ---- multicast ------------------------------------------------------------------------------- */

typedef struct cast_case {
    _Alignas(64) char map[128];
    uint32_t mask, bytes;
    unsigned char found[4][1024];
} cast_case;

/* Block 0 of a cluster of four sends; each block waits at its own mbarrier for its copy. */
static void multicast(qe_thread *t, char *params) {
    cast_case *c = (cast_case *)(void *)params;
    uint32_t tile = (t->block->dynamic_shared + 1023u) & ~1023u, bar = tile + 1024;
    uint32_t rank = t->block->cluster_rank;
    bool receives = c->mask >> rank & 1u;
    static const int32_t at[2] = {0, 0};
    if (t->linear == 0) {
        qe_mbarrier_init(t, bar, 1, &here);
        qe_fence_mbarrier_init(t, &here);
        if (receives) {
            qe_mbarrier_expect_tx(t, bar, c->bytes, &here);
            qe_mbarrier_arrive(t, bar, 1, false, &here);
        }
    }
    qe_cluster_arrive(t, true, &here);
    qe_cluster_wait(t, true, &here);
    if (rank == 0 && t->linear == 0) qe_tensor_load(t, tile, c->map, 2, at, bar, c->mask, &here);
    if (receives) {
        while (!qe_mbarrier_wait_parity(t, bar, 0, true, &here)) {}
        for (uint32_t i = t->linear * 16; i < 1024; i += 16 * t->block->n_threads)
            emu_get(t, tile + i, c->found[rank] + i, 16, &here);
    }
    qe_cluster_arrive(t, true, &here);
    qe_cluster_wait(t, true, &here);
}

static void test_multicast(void **state) {
    (void)state;
    static const char *const modes[] = {"async=eager", "async=late", "async=any,seed=4"};
    encoding e = good;
    tensor x = make_tensor(&e);
    for (int mode = 0; mode < 3; mode++) {
        char text[100] = "watch=check,quiet=1,bases=random,";
        strcat(text, modes[mode]);
        assert_true(qe_configure(text));
        for (uint32_t mask = 1; mask < 16; mask += 2 + mask % 3) {
            cast_case c = {.mask = mask, .bytes = 1024};
            assert_int_equal(encode_map(c.map, &e, x.memory), 0);
            assert_true(emu_run(multicast, (emu_shape){4, 4, 32, 3072}, &c));
            assert_string_equal(emu_findings(), "");
            for (int rank = 0; rank < 4; rank++)
                for (uint32_t i = 0; (mask >> rank & 1u) && i < 1024; i++) {
                    uint32_t row = i / 128, piece = i / 16 % 8 ^ row;
                    assert_int_equal(
                        c.found[rank][i],
                        (unsigned char)x.memory[row * e.strides[0] + piece * 16 + i % 16]);
                }
        }
        cast_case c = {.mask = 1 << 5, .bytes = 1024};
        assert_int_equal(encode_map(c.map, &e, x.memory), 0);
        assert_false(emu_run(multicast, (emu_shape){4, 4, 32, 3072}, &c));
        assert_non_null(strstr(emu_findings(), "ranks of a cluster of 4"));
    }
    qe_memory_free(x.memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argument_rules),  cmocka_unit_test(test_loads),
        cmocka_unit_test(test_a_known_swizzle), cmocka_unit_test(test_stores),
        cmocka_unit_test(test_reductions),      cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_multicast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
