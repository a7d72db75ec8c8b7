/* test_data_samples.c — rows of encoded examples: every sample once, packed tightly, targets inside
 * their own sample. */
#include "io/data_parts.h"
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16, SAMPLES = 40 };

/* Sample i: 1 + i*7 % 16 tokens 100*i + place; every third token is not learned. */
static int64_t length_of(int64_t i) { return 1 + i * 7 % BLOCK; }

static void make_samples(qni_samples *s) {
    for (int64_t i = 0; i < SAMPLES; i++) {
        int32_t id[BLOCK];
        unsigned char target[BLOCK], type[BLOCK];
        for (int64_t k = 0; k < length_of(i); k++) {
            id[k] = (int32_t)(100 * i + k);
            target[k] = k % 3 != 0;
            type[k] = k > 4;
        }
        qn_assert_ok(qni_samples_add(s, id, target, type, length_of(i), (double)(i % 3)));
    }
}

static void open_source(qni_sample_kind kind, bool pairs, qn_source *out) {
    qni_samples split[QN_SPLIT_COUNT] = {0};
    make_samples(&split[QN_SPLIT_TRAIN]);
    make_samples(&split[QN_SPLIT_VAL]);
    qni_samples_options o = {.kind = kind,
                             .block = BLOCK,
                             .pad = 7,
                             .classes = 5000,
                             .pairs = pairs,
                             .seed = 3,
                             .identity = 11};
    qn_assert_ok(qni_samples_source(&o, split, NULL, out));
}

static void check_language(const qn_source *s, qn_split split) {
    int64_t n = s->n[split], labels, met = 0, learned = 0, want = 0;
    int32_t *field[4];
    for (int f = 0; f < 4; f++) field[f] = malloc((size_t)(n * BLOCK) * sizeof(int32_t));
    qn_assert_ok(s->fetch(s->self, split, 0, n, (void *const *)field, &labels));
    bool seen[SAMPLES] = {false};
    for (int64_t r = 0; r < n; r++) {
        int64_t at = r * BLOCK, end = at + BLOCK;
        int32_t document = 0;
        while (at < end && field[2][at] >= 0) {
            int64_t i = field[0][at] / 100, length = length_of(i);
            assert_false(seen[i]);
            seen[i] = true;
            met++;
            for (int64_t k = 0; k < length; k++, at++) {
                bool is_learned = k + 1 < length && (k + 1) % 3 != 0;
                assert_int_equal(field[0][at], 100 * i + k);
                assert_int_equal(field[1][at], k);
                assert_int_equal(field[2][at], document);
                assert_int_equal(field[3][at], is_learned ? 100 * i + k + 1 : QN_IGNORE_INDEX);
                learned += is_learned;
            }
            document++;
        }
        for (; at < end; at++) {
            assert_int_equal(field[0][at], 7);
            assert_int_equal(field[2][at], -1);
            assert_int_equal(field[3][at], QN_IGNORE_INDEX);
        }
    }
    for (int64_t i = 0; i < SAMPLES; i++)
        for (int64_t k = 1; k < length_of(i); k++) want += k % 3 != 0;
    assert_int_equal(met, SAMPLES);
    assert_int_equal(labels, learned);
    assert_int_equal(labels, want);
    for (int f = 0; f < 4; f++) free(field[f]);
}

static void test_packed(void **state) {
    (void)state;
    qn_source s;
    open_source(QNI_SAMPLES_PACKED, false, &s);
    int64_t tokens = 0;
    for (int64_t i = 0; i < SAMPLES; i++) tokens += length_of(i);
    /* Best fit decreasing needs at most 11/9 of the fewest rows (Johnson 1973). */
    assert_in_range(s.n[QN_SPLIT_VAL], (tokens + BLOCK - 1) / BLOCK,
                    (11 * ((tokens + BLOCK - 1) / BLOCK) + 8) / 9 + 1);
    check_language(&s, QN_SPLIT_VAL);
    check_language(&s, QN_SPLIT_TRAIN);
    assert_non_null(strstr(qn_data_describe(&s), "train: 40 examples, "));
    s.free(s.self);
}

static void test_single(void **state) {
    (void)state;
    qn_source s;
    open_source(QNI_SAMPLES_SINGLE, false, &s);
    assert_int_equal(s.n[QN_SPLIT_VAL], SAMPLES);
    assert_int_equal(s.identity, 11);
    check_language(&s, QN_SPLIT_VAL);
    check_language(&s, QN_SPLIT_TRAIN);
    /* Two epochs differ in order; positions past val's end are padding. */
    int32_t field[4][2 * BLOCK];
    void *const dst[4] = {field[0], field[1], field[2], field[3]};
    int64_t labels, same = 0;
    for (int64_t p = 0; p < SAMPLES; p++) {
        qn_assert_ok(s.fetch(s.self, QN_SPLIT_TRAIN, p, 1, dst, &labels));
        int32_t first = field[0][0];
        qn_assert_ok(s.fetch(s.self, QN_SPLIT_TRAIN, p + SAMPLES, 1, dst, &labels));
        same += first == field[0][0];
    }
    assert_true(same < SAMPLES / 2);
    qn_assert_ok(s.fetch(s.self, QN_SPLIT_VAL, SAMPLES - 1, 2, dst, &labels));
    for (int i = 0; i < BLOCK; i++) assert_int_equal(field[3][BLOCK + i], QN_IGNORE_INDEX);
    s.free(s.self);
}

static void test_labelled(void **state) {
    (void)state;
    qn_source s;
    open_source(QNI_SAMPLES_CLASSIFY, true, &s);
    assert_int_equal(s.n_fields, 4);
    assert_string_equal(s.field[2].name, "token_types");
    assert_string_equal(s.field[3].name, "labels");
    int32_t tokens[3 * BLOCK], documents[3 * BLOCK], types[3 * BLOCK], label[3];
    void *dst[4] = {tokens, documents, types, label};
    int64_t labels;
    qn_assert_ok(s.fetch(s.self, QN_SPLIT_VAL, 38, 3, dst, &labels));
    assert_int_equal(labels, 2);
    assert_int_equal(label[0], 38 % 3);
    assert_int_equal(label[1], 39 % 3);
    assert_int_equal(label[2], QN_IGNORE_INDEX);
    int64_t n = length_of(38);
    for (int64_t k = 0; k < BLOCK; k++) {
        assert_int_equal(tokens[k], k < n ? 3800 + k : 7);
        assert_int_equal(documents[k], k < n ? 0 : -1);
        assert_int_equal(types[k], k < n && k > 4);
        assert_int_equal(documents[2 * BLOCK + k], -1);
    }
    s.free(s.self);
    open_source(QNI_SAMPLES_REGRESS, false, &s);
    float number[3];
    dst[2] = number;
    assert_int_equal(s.n_fields, 3);
    qn_assert_ok(s.fetch(s.self, QN_SPLIT_VAL, 38, 3, dst, &labels));
    assert_true(number[0] == 38 % 3 && isnan(number[2]));
    s.free(s.self);
}

static void test_too_long(void **state) {
    (void)state;
    qni_samples split[QN_SPLIT_COUNT] = {0};
    int32_t id[BLOCK + 1] = {0};
    qn_source s;
    qn_assert_ok(qni_samples_add(&split[0], id, NULL, NULL, BLOCK + 1, 0));
    qni_samples_options o = {.kind = QNI_SAMPLES_PACKED, .block = BLOCK};
    assert_int_equal(qni_samples_source(&o, split, NULL, &s), QN_ERR_INTERNAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed),
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_labelled),
        cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
