/* test_matmul_tune.c — the choice of a product's kernel: splits from the shape alone, every
 * rejection with its reason, a ranking that follows the device. No GPU takes part. */
#include "kernels/matmul_tune.h"
#include "tests/harness.h"

#include <string.h>

static const qn_gpu a100 = {8, 0, 108, 163 << 10, 164 << 10, 1.41e9, 1.55e12};
static const qn_gpu h200 = {9, 0, 132, 227 << 10, 228 << 10, 1.98e9, 4.8e12};
static const qn_gpu small = {8, 9, 24, 99 << 10, 100 << 10, 2.4e9, 2.7e11};
static const qn_gpu old = {7, 5, 40, 64 << 10, 64 << 10, 1.6e9, 3.2e11};

static qn_product product(int64_t m, int64_t n, int64_t k, qn_dtype dt) {
    qn_product p = {.m = m, .n = n, .k = k, .dtype = dt, .c_dtype = dt, .alpha = 1.0f};
    p.b_trans = true;
    p.lda = p.ldb = k;
    p.ldc = n;
    return p;
}

static void splits_cover_k(void **state) {
    (void)state;
    static const int64_t sizes[] = {0, 1, 63, 511, 1023, 1024, 1100, 16384, 50257, 1 << 20};
    for (int i = 0; i < 10; i++) {
        for (int64_t m = 1; m < 5000; m = m * 7 + 1) {
            qn_product p = product(m, 768, sizes[i], QN_BF16);
            int64_t splits, length;
            qn_product_split(&p, &splits, &length);
            assert_true(splits >= 1 && length > 0 && length % 64 == 0);
            assert_true(splits * length >= p.k);
            assert_true(splits == 1 || (splits - 1) * length < p.k); /* none is empty */
            size_t bytes = splits > 1 ? (size_t)(splits * m * 768 * 4) : 0;
            assert_int_equal(qn_product_scratch(&p), bytes);
        }
    }
}

static void splits_fill_a_wave(void **state) {
    (void)state;
    int64_t splits, length;
    qn_product p = product(768, 768, 16384, QN_BF16); /* 36 tiles: a weight gradient of GPT-2 */
    qn_product_split(&p, &splits, &length);
    assert_int_equal(splits, 3);
    p = product(16384, 768, 16384, QN_BF16); /* tiles enough */
    qn_product_split(&p, &splits, &length);
    assert_int_equal(splits, 1);
    p = product(64, 64, 700, QN_BF16); /* k too short to be worth it */
    qn_product_split(&p, &splits, &length);
    assert_int_equal(splits, 1);
    p = product(64, 64, 16384, QN_BF16);
    p.batch_dims = 1;
    p.batch[0] = 132;
    qn_product_split(&p, &splits, &length); /* the batch fills the device */
    assert_int_equal(splits, 1);
}

static const char *reason(const qn_product *p, const qn_gpu *gpu, const char *name) {
    qn_candidate list[QN_MAX_TILES];
    int count;
    qn_product_candidates(p, gpu, list, &count);
    for (int i = 0; i < count; i++) {
        if (strcmp(list[i].tile->name, name) == 0) return list[i].rejected ? list[i].rejected : "";
    }
    fail_msg("no tile %s", name);
    return NULL;
}

static void rejections(void **state) {
    (void)state;
    qn_product p = product(256, 256, 256, QN_BF16);
    assert_string_equal(reason(&p, &a100, "mma 128x128"), "");
    assert_string_equal(reason(&p, &a100, "simt 64x64"), "for f32");
    assert_string_equal(reason(&p, &old, "mma 64x64"), "needs compute capability 8.0");
    p.ldb = 257;
    assert_string_equal(reason(&p, &a100, "mma 128x128"), "needs rows on 16 bytes");
    assert_string_equal(reason(&p, &a100, "mma 64x64"), "");
    p = product(256, 256, 256, QN_F32);
    p.ldb = 257;
    assert_string_equal(reason(&p, &a100, "mma 64x64"), "for bf16");
    assert_string_equal(reason(&p, &a100, "simt 128x128"), "");
    assert_string_equal(reason(&p, &old, "simt 128x128"), "");
    assert_string_equal(reason(&p, &a100, "wgmma 128x256"), "for bf16");
    p = product(256, 256, 256, QN_BF16);
    assert_string_equal(reason(&p, &a100, "wgmma 128x256"), "needs compute capability 9.0");
    assert_string_equal(reason(&p, &h200, "wgmma 128x256"), "");
    p.batch_dims = 1;
    assert_string_equal(reason(&p, &h200, "wgmma 128x256"), "has batch axes");
    p = product(256, 256, 256, QN_BF16);
    p.a_trans = true;
    assert_string_equal(reason(&p, &h200, "wgmma 128x256"), "both operands transposed");
    p = product(256, 256, 0, QN_BF16);
    assert_string_equal(reason(&p, &h200, "wgmma 128x128"), "k is 0");
    qn_gpu tiny = a100;
    tiny.shared_per_block = 48 << 10;
    p = product(256, 256, 256, QN_BF16);
    assert_string_equal(reason(&p, &tiny, "mma 128x128"), "too little shared memory");
}

static void wide_operands(void **state) {
    (void)state;
    qn_product p = product(8, 8, 16, QN_BF16);
    assert_true(qn_product_wide(&p, false) && qn_product_wide(&p, true));
    p.a = (const void *)2;
    assert_false(qn_product_wide(&p, false));
    assert_true(qn_product_wide(&p, true));
    p.batch_dims = 1;
    p.b_step[0] = 4;
    assert_false(qn_product_wide(&p, true));
    p.dtype = QN_F32;
    assert_true(qn_product_wide(&p, true));
}

static const qn_tile *best(const qn_product *p, const qn_gpu *gpu) {
    qn_candidate list[QN_MAX_TILES];
    int count;
    assert_true(qn_product_candidates(p, gpu, list, &count) > 0);
    for (int i = 1; i < count && !list[i].rejected; i++) {
        assert_true(list[i].tile->tier != list[i - 1].tile->tier ||
                    list[i].seconds >= list[i - 1].seconds);
    }
    return list[0].tile;
}

/* Large outputs take large tiles; where those would leave SMs idle, small ones. */
static void ranking(void **state) {
    (void)state;
    for (int dt = 0; dt < 2; dt++) {
        qn_product p = product(16384, 3072, 768, dt ? QN_BF16 : QN_F32);
        assert_int_equal(best(&p, &a100)->m, 128);
        assert_int_equal(best(&p, &small)->m, 128);
        p = product(512, 512, 512, dt ? QN_BF16 : QN_F32); /* 16 large tiles, 64 small ones */
        assert_int_equal(best(&p, &a100)->m, 64);
        p = product(16, 4096, 4096, dt ? QN_BF16 : QN_F32);
        assert_int_equal(best(&p, &a100)->m, 64);
    }
}

/* The tier decides bits: it may depend on the shape and the kind of device, never on the model. */
static void tier_first(void **state) {
    (void)state;
    for (int64_t m = 1; m < 20000; m = m * 5 + 3) {
        qn_product p = product(m, 512, 512, QN_BF16);
        assert_int_equal(best(&p, &h200)->tier, QN_TIER_WGMMA);
        assert_int_equal(best(&p, &a100)->tier, QN_TIER_MMA);
    }
    qn_product p = product(16384, 3072, 768, QN_BF16);
    assert_int_equal(best(&p, &h200)->n, 256);
    p = product(768, 768, 16384, QN_BF16);
    assert_int_equal(best(&p, &h200)->n, 128);
}

static void explanation(void **state) {
    (void)state;
    char text[1024], head[20];
    qn_product p = product(300, 256, 256, QN_BF16);
    int n = qn_product_explain(&p, &a100, text, sizeof text);
    assert_int_equal((size_t)n, strlen(text));
    assert_non_null(strstr(text, "product 300x256x256 NT bf16, 1 item, k in 1\n"));
    assert_non_null(strstr(text, ", taken\n"));
    assert_non_null(strstr(text, "  simt 128x128: for f32\n"));
    assert_int_equal(qn_product_explain(&p, &a100, head, sizeof head), n);
    assert_int_equal(strncmp(head, text, sizeof head - 1), 0);
    assert_int_equal(strlen(head), sizeof head - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_cover_k), cmocka_unit_test(splits_fill_a_wave),
        cmocka_unit_test(rejections),     cmocka_unit_test(wide_operands),
        cmocka_unit_test(ranking),        cmocka_unit_test(tier_first),
        cmocka_unit_test(explanation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
