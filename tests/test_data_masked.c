/* test_data_masked.c — hiding tokens: shares, what stays, and that a sample is a function of its
 * position. */
#include "io/data.h"
#include "tests/harness.h"

#include <math.h>
#include <string.h>

enum { T = 64, N = 40, VOCAB = 50, MASK = 50, ROWS = 500 };

/* Tokens say where they stand; documents, if there are any, end two thirds of the way. */
static int32_t token_of(int64_t position, int64_t t) {
    return (int32_t)((position * 7 + t) % VOCAB);
}

static qn_status fetch(void *self, qn_split split, int64_t position, int64_t count,
                       void *const *dst, int64_t *labels) {
    const qn_source *s = self;
    for (int64_t i = 0; i < count; i++) {
        bool padding = split != QN_SPLIT_TRAIN && position + i >= N;
        for (int64_t t = 0; t < T; t++) {
            ((int32_t *)dst[0])[i * T + t] = padding ? 0 : token_of(position + i, t);
            ((int32_t *)dst[s->n_fields - 1])[i * T + t] = padding ? QN_IGNORE_INDEX : 1;
            if (s->n_fields == 3) ((int32_t *)dst[1])[i * T + t] = t < 2 * T / 3 ? 0 : -1;
        }
    }
    *labels = count * T;
    return QN_OK;
}

static void make(qn_source *inner, qn_source *out, bool documents, double p, const bool *kept) {
    *inner =
        (qn_source){.self = inner, .classes = VOCAB, .n = {N, N, 0}, .n_fields = 2, .fetch = fetch};
    inner->field[0] = (qn_field){"tokens", QN_I32, 1, {T}};
    if (documents) inner->field[inner->n_fields++ - 1] = (qn_field){"documents", QN_I32, 1, {T}};
    inner->field[inner->n_fields - 1] = (qn_field){"targets", QN_I32, 1, {T}};
    const qn_masking o = {
        .probability = p, .mask = MASK, .vocabulary = VOCAB, .kept = kept, .seed = 3};
    qn_assert_ok(qn_masked_create(inner, &o, out));
}

static int32_t tokens[ROWS * T], documents[ROWS * T], targets[ROWS * T];

static int64_t get(const qn_source *s, qn_split split, int64_t position, int64_t count) {
    void *dst[3] = {tokens, s->n_fields == 3 ? documents : targets, targets};
    int64_t labels = -1;
    qn_assert_ok(s->fetch(s->self, split, position, count, dst, &labels));
    return labels;
}

/* Within four standard deviations of the expected share. */
static void assert_share(int64_t found, int64_t of, double p, const char *what) {
    double expected = (double)of * p, room = 4 * sqrt(expected * (1 - p));
    if (!(fabs((double)found - expected) <= room))
        fail_msg("%s: %lld of %lld, expected %g", what, (long long)found, (long long)of, expected);
}

static void shares(void **state) {
    (void)state;
    qn_source inner, s;
    make(&inner, &s, false, 0.15, NULL);
    assert_int_equal(s.classes, VOCAB + 1);
    int64_t labels = get(&s, QN_SPLIT_TRAIN, 0, ROWS), hidden = 0, masks = 0, same = 0;
    for (int64_t i = 0; i < ROWS * T; i++) {
        int32_t id = token_of(i / T, i % T);
        if (targets[i] == QN_IGNORE_INDEX) {
            assert_int_equal(tokens[i], id);
            continue;
        }
        assert_int_equal(targets[i], id);
        assert_true(tokens[i] == MASK || (tokens[i] >= 0 && tokens[i] < VOCAB));
        hidden++;
        masks += tokens[i] == MASK;
        same += tokens[i] == id;
    }
    assert_int_equal(labels, hidden);
    assert_share(hidden, ROWS * T, 0.15, "hidden");
    assert_share(masks, hidden, 0.8, "masks");
    assert_share(same, hidden, 0.1 + 0.1 / VOCAB, "unchanged");
    s.free(s.self);
}

static void a_function_of_position(void **state) {
    (void)state;
    qn_source inner, s;
    make(&inner, &s, false, 0.3, NULL);
    int32_t first[4 * T], other[T];
    get(&s, QN_SPLIT_TRAIN, 8, 4);
    memcpy(first, tokens, sizeof first);
    for (int i = 3; i >= 0; i--) {
        get(&s, QN_SPLIT_TRAIN, 8 + i, 1);
        assert_memory_equal(tokens, first + i * T, T * sizeof *tokens);
    }
    memcpy(other, targets, sizeof other);
    get(&s, QN_SPLIT_TRAIN, 8 + N, 1); /* the next epoch hides others */
    assert_memory_not_equal(targets, other, sizeof other);
    get(&s, QN_SPLIT_VAL, 8, 1); /* so does another split */
    assert_memory_not_equal(targets, other, sizeof other);
    s.free(s.self);
}

static void what_is_never_hidden(void **state) {
    (void)state;
    qn_source inner, s;
    bool kept[VOCAB] = {[4] = true, [9] = true};
    make(&inner, &s, true, 1, kept);
    get(&s, QN_SPLIT_TRAIN, 0, 100);
    for (int64_t i = 0; i < 100 * T; i++) {
        int32_t id = token_of(i / T, i % T);
        bool hidden = i % T < 2 * T / 3 && id != 4 && id != 9;
        assert_int_equal(targets[i], hidden ? id : QN_IGNORE_INDEX);
    }
    s.free(s.self);
    make(&inner, &s, false, 1, NULL);
    assert_int_equal(get(&s, QN_SPLIT_VAL, N - 1, 3), T); /* rows past the end count nowhere */
    assert_int_equal(targets[T], QN_IGNORE_INDEX);
    s.free(s.self);
}

static void refusals(void **state) {
    (void)state;
    qn_source inner, s;
    make(&inner, &s, false, 0.5, NULL);
    s.free(s.self);
    qn_masking o = {.probability = 0, .mask = 1, .vocabulary = 2};
    assert_int_equal(qn_masked_create(&inner, &o, &s), QN_ERR_CONFIG);
    o.probability = NAN;
    assert_int_equal(qn_masked_create(&inner, &o, &s), QN_ERR_CONFIG);
    o.probability = 0.5;
    o.mask = -1;
    assert_int_equal(qn_masked_create(&inner, &o, &s), QN_ERR_CONFIG);
    o.mask = 1;
    inner.field[0].name = "features";
    assert_int_equal(qn_masked_create(&inner, &o, &s), QN_ERR_CONFIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares),
        cmocka_unit_test(a_function_of_position),
        cmocka_unit_test(what_is_never_hidden),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests_name("data_masked", tests, NULL, NULL);
}
