/* test_cuda_traffic.c — what products move: bytes by the formulas of their files, whole sectors, no
 * bank conflicts but those the files tell. Needs the counters of the emulated device. */
#include "kernels/matmul.h"
#include "kernels/matmul_tune.h"
#include "tests/harness.h"

#ifdef QUERN_EMULATED
#include "kernels/emu/machine.h"

#include <string.h>

static const qn_device_row *row(void) { return qn_device_get(QN_CUDA); }

enum { MAX_BUFFERS = 8 };

typedef struct buffers {
    void *p[MAX_BUFFERS];
    size_t bytes[MAX_BUFFERS];
    int count;
} buffers;

static void *buffer(buffers *b, int64_t bytes) {
    assert_true(b->count < MAX_BUFFERS);
    b->bytes[b->count] = (size_t)bytes + 256;
    qn_assert_ok(row()->alloc(b->bytes[b->count], &b->p[b->count]));
    return b->p[b->count++];
}

static void buffers_free(buffers *b) {
    for (int i = 0; i < b->count; i++) row()->release(b->p[i], b->bytes[i]);
}

/* The launches of one product on one tile, added up. */
static qe_traffic measure(const qn_product *p, const qn_tile *tile) {
    qe_traffic all = {0};
    uint32_t watch = qe_cfg.watch;
    qe_cfg.watch = QE_COUNT;
    qe_traffic_clear();
    qn_assert_ok(qn_cuda_product_on(p, tile, NULL));
    qn_assert_ok(row()->synchronize(NULL));
    qe_cfg.watch = watch;
    for (int i = 0; i < qe_traffic_count(); i++) {
        const qe_traffic *t = qe_traffic_get(i);
        all.global_read += t->global_read;
        all.global_written += t->global_written;
        all.sectors_read += t->sectors_read;
        all.sectors_written += t->sectors_written;
        all.async_read += t->async_read;
        all.async_written += t->async_written;
        all.shared_cycles += t->shared_cycles;
        all.shared_conflicts += t->shared_conflicts;
        all.tensor_flops += t->tensor_flops;
    }
    return all;
}

typedef struct spec {
    int64_t m, n, k;
    qn_dtype dtype, c_dtype;
    bool accumulate, epilogue;
} spec;

static int64_t size_of(qn_dtype dt) { return dt == QN_F32 ? 4 : 2; }

static qn_product product_of(const spec *s, int order, buffers *b) {
    qn_product p = {.m = s->m, .n = s->n, .k = s->k, .dtype = s->dtype, .c_dtype = s->c_dtype};
    int64_t size = size_of(s->dtype);
    p.alpha = 1.0f;
    p.accumulate = s->accumulate;
    p.a_trans = order & 1;
    p.b_trans = order & 2;
    p.lda = p.a_trans ? s->m : s->k;
    p.ldb = p.b_trans ? s->k : s->n;
    p.ldc = p.ldp = p.ldr = s->n;
    p.a = buffer(b, s->m * s->k * size);
    p.b = buffer(b, s->n * s->k * size);
    p.c = buffer(b, s->m * s->n * size_of(s->c_dtype));
    p.scratch = buffer(b, (int64_t)qn_product_scratch(&p));
    if (s->epilogue) {
        p.bias = buffer(b, s->n * size);
        p.bias_step = 1;
        p.pre = buffer(b, s->m * s->n * size);
        p.residual = buffer(b, s->m * s->n * size);
        p.activation = QN_ACT_GELU;
    }
    return p;
}

/* Bytes asked for, as the kernels' files tell them; the sizes are multiples of the tiles. */
static void expected(const spec *s, const qn_product *p, const qn_tile *t, double *in,
                     double *out) {
    int64_t splits, length;
    qn_product_split(p, &splits, &length);
    double m = (double)s->m, n = (double)s->n, k = (double)s->k, c = m * n;
    double size = (double)size_of(s->dtype), c_size = (double)size_of(s->c_dtype);
    *in = size * (m * k * (n / t->n) + k * n * (m / (t->m * t->cluster)));
    *out = c * c_size;
    if (splits > 1) {
        *in += 4.0 * (double)splits * c;
        *out += 4.0 * (double)splits * c;
    }
    if (s->accumulate) *in += c * c_size;
    if (s->epilogue) {
        *in += 2.0 * c * size; /* residual; bias, in every row */
        *out += c * size;
    }
}

static void check_tile(const spec *s, const qn_product *p, const qn_tile *t, const char *orders) {
    qe_traffic q = measure(p, t);
    double in, out;
    expected(s, p, t, &in, &out);
    double read = (double)(q.global_read + q.async_read);
    double written = (double)(q.global_written + q.async_written);
    double once = (double)size_of(s->dtype) * (double)(s->m * s->k + s->k * s->n);
    print_message("  %s %s %lldx%lldx%lld: operands read %.2f times\n", t->name, orders,
                  (long long)s->m, (long long)s->n, (long long)s->k, in / once);
    if (read != in) {
        fail_msg("%s %s: reads %.0f bytes, expected %.0f", t->name, orders, read, in);
    }
    if (written != out) {
        fail_msg("%s %s: writes %.0f bytes, expected %.0f", t->name, orders, written, out);
    }
    double sectors = 32.0 * (double)(q.sectors_read + q.sectors_written);
    if (!(sectors * 0.95 <= (double)(q.global_read + q.global_written))) {
        fail_msg("%s %s: %.0f bytes in sectors of %.0f", t->name, orders,
                 (double)(q.global_read + q.global_written), sectors);
    }
    /* f32 panels of tensor stores are written in twice the cycles; nothing else conflicts. */
    bool panels = t->tier == QN_TIER_WGMMA && q.async_written > 0 &&
                  (double)q.async_written >= 4.0 * (double)(s->m * s->n);
    uint64_t allowed = panels ? q.shared_cycles : 0;
    if (q.shared_conflicts > allowed) {
        fail_msg("%s %s: %llu cycles of bank conflicts beside %llu", t->name, orders,
                 (unsigned long long)q.shared_conflicts, (unsigned long long)q.shared_cycles);
    }
    if (t->tier != QN_TIER_SIMT) {
        assert_int_equal(q.tensor_flops, 2 * s->m * s->n * s->k);
    }
}

static void products(void **state) {
    (void)state;
    if (!qn_cuda_usable()) return;
    static const spec specs[] = {
        {256, 256, 128, QN_BF16, QN_BF16, false, false},
        {256, 512, 64, QN_BF16, QN_F32, false, false},
        {256, 256, 64, QN_BF16, QN_F32, true, false},   /* a gradient of a bf16 weight, added */
        {256, 256, 64, QN_BF16, QN_BF16, false, true},  /* linear with all its slots */
        {256, 256, 1024, QN_BF16, QN_F32, true, false}, /* splits */
        {256, 256, 64, QN_F32, QN_F32, false, false},
        {128, 128, 1024, QN_F32, QN_F32, true, true},
    };
    static const char *const orders[] = {"NN", "TN", "NT", "TT"};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        for (int order = 0; order < 4; order++) {
            buffers b = {0};
            qn_gpu gpu;
            qn_candidate list[QN_MAX_TILES];
            int count;
            qn_product p = product_of(&specs[i], order, &b);
            qn_assert_ok(qn_cuda_gpu(&gpu));
            int able = qn_product_candidates(&p, &gpu, list, &count);
            for (int j = 0; j < able; j++) check_tile(&specs[i], &p, list[j].tile, orders[order]);
            buffers_free(&b);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void traffic(void **state) {
    (void)state;
    print_message("traffic is counted on the emulated GPU only\n");
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(traffic)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
