/* test_random.c — Philox known answers, keys, uniform and normal draws, the keyed permutation. */
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>

static void check_philox(uint64_t key, uint64_t low, uint64_t high, const uint32_t *want) {
    qn_u32x4 r = qn_philox(key, low, high);
    for (int i = 0; i < 4; i++) assert_int_equal(r.v[i], want[i]);
}

/* Random123's known answers for philox4x32-10. */
static void philox_known_answers(void **state) {
    (void)state;
    check_philox(0, 0, 0, (uint32_t[]){0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    check_philox(UINT64_MAX, UINT64_MAX, UINT64_MAX,
                 (uint32_t[]){0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    check_philox(UINT64_C(0x299f31d0a4093822), UINT64_C(0x85a308d3243f6a88),
                 UINT64_C(0x0370734413198a2e),
                 (uint32_t[]){0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

static void elements_are_lanes(void **state) {
    (void)state;
    static const uint64_t elements[] = {0, 1, 2, 3, 4, 1023, UINT64_C(1) << 40};
    for (int i = 0; i < 7; i++) {
        qn_u32x4 r = qn_philox(5, elements[i] / 4, 9);
        assert_int_equal(qn_random_u32(5, 9, elements[i]), r.v[elements[i] % 4]);
    }
}

static void keys_depend_on_each_part(void **state) {
    (void)state;
    uint64_t key = qn_rng_key(1, "blocks.3.attn", "dropout");
    assert_true(key == qn_rng_key(1, "blocks.3.attn", "dropout"));
    assert_true(key != qn_rng_key(2, "blocks.3.attn", "dropout"));
    assert_true(key != qn_rng_key(1, "blocks.4.attn", "dropout"));
    assert_true(key != qn_rng_key(1, "blocks.3.attn", "dropout2"));
    assert_true(qn_rng_key(1, "a", "bc") != qn_rng_key(1, "ab", "c"));
    assert_true(qn_rng_key(1, "", "x") != qn_rng_key(1, "x", ""));
}

/* N draws: mean and variance within five standard deviations of what they should be. */
static void moments(double (*draw)(uint64_t, uint64_t, uint64_t), double mean, double variance,
                    double fourth) {
    enum { N = 200000 };
    double sum = 0, square = 0;
    for (int i = 0; i < N; i++) {
        double d = draw(42, 7, (uint64_t)i) - mean;
        assert_true(isfinite(d));
        sum += d;
        square += d * d;
    }
    assert_true(fabs(sum / N) < 5 * sqrt(variance / N));
    assert_true(fabs(square / N - variance) < 5 * sqrt((fourth - variance * variance) / N));
}

static void uniform_and_normal(void **state) {
    (void)state;
    moments(qn_rng_uniform, 0.5, 1.0 / 12, 1.0 / 80);
    moments(qn_rng_normal, 0.0, 1.0, 3.0);
    for (uint64_t i = 0; i < 10000; i++) {
        double u = qn_rng_uniform(1, 2, i);
        assert_true(u >= 0.0 && u < 1.0);
    }
}

/* Neighbouring normals come from one pair of words and must still be independent. */
static void normals_are_uncorrelated(void **state) {
    (void)state;
    enum { N = 100000 };
    for (uint64_t lag = 1; lag <= 4; lag++) {
        double sum = 0;
        for (uint64_t i = 0; i < N; i++) {
            sum += qn_rng_normal(3, 0, i) * qn_rng_normal(3, 0, i + lag);
        }
        assert_true(fabs(sum / N) < 5 / sqrt(N));
    }
}

static void permutation_is_a_bijection(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 2, 3, 4, 5, 16, 17, 1000, 1024, 1025, 65537};
    for (int s = 0; s < 11; s++) {
        uint64_t n = sizes[s];
        bool *seen = calloc((size_t)n, 1);
        assert_non_null(seen);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t p = qn_rng_permute(99, n, i);
            assert_true(p < n && !seen[p]);
            seen[p] = true;
        }
        free(seen);
    }
}

static void permutation_mixes(void **state) {
    (void)state;
    enum { N = 1000 };
    int fixed = 0, same = 0, ascending = 0;
    for (uint64_t i = 0; i < N; i++) {
        uint64_t p = qn_rng_permute(1, N, i);
        fixed += p == i;
        same += p == qn_rng_permute(2, N, i);
        ascending += i > 0 && p > qn_rng_permute(1, N, i - 1);
    }
    assert_true(fixed < 10 && same < 10);            /* one each expected */
    assert_true(ascending > 430 && ascending < 570); /* 500, deviation 9 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),     cmocka_unit_test(elements_are_lanes),
        cmocka_unit_test(keys_depend_on_each_part), cmocka_unit_test(uniform_and_normal),
        cmocka_unit_test(normals_are_uncorrelated), cmocka_unit_test(permutation_is_a_bijection),
        cmocka_unit_test(permutation_mixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
