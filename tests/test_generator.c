/* test_generator.c — prefill and decode: any cut of the tokens, any neighbours and any batch give a
 * row the logits of the model over its whole sequence. */
#include "engine/infer.h"
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 90, V = 13 };

typedef struct fixture {
    qn_rig rig;
    int32_t ids[4][LONGEST];
} fixture;

static void open_fixture(fixture *f, const char *type) {
    qn_rig_defaults(&f->rig, type);
    f->rig.config.max_position_embeddings = LONGEST;
    qn_assert_ok(qn_rig_open(&f->rig));
    for (int r = 0; r < 4; r++)
        for (int i = 0; i < LONGEST; i++) f->ids[r][i] = (int32_t)((i * i + 3 * r + i / 5) % V);
}

static qn_generator *generator(fixture *f, int64_t rows) {
    qn_generator *g;
    qn_infer_options o = {.device = QN_CPU, .threads = 1, .batch_size = rows};
    qn_assert_ok(qn_generator_create(&o, &f->rig.model, f->rig.session->params, LONGEST + 1, &g));
    assert_int_equal(qn_generator_capacity(g), LONGEST);
    assert_int_equal(qn_generator_rows(g), rows);
    return g;
}

/* Logits after ids[0..n), token by token in a generator of its own. */
static void slowly(fixture *f, int row, int64_t n, float out[V]) {
    qn_generator *g = generator(f, 1);
    for (int64_t i = 0; i < n; i++) {
        const int32_t *id = &f->ids[row][i];
        qn_assert_ok(qn_generator_feed(g, &id, &(int64_t){1}));
    }
    qn_tensor t = qn_generator_logits(g, 0);
    for (int64_t v = 0; v < V; v++) out[v] = (float)qn_tensor_get(&t, v);
    qn_generator_free(g);
}

/* Sums of at most 64 products of values near 1, in another order: 1e-5 is 80 ulp of 1. */
static void assert_logits(const qn_generator *g, int64_t row, const float want[V],
                          const char *what) {
    qn_tensor t = qn_generator_logits(g, row);
    for (int64_t v = 0; v < V; v++) {
        double got = qn_tensor_get(&t, v);
        if (!(fabs(got - (double)want[v]) <= 1e-5))
            fail_msg("%s row %d logit %d: %g, expected %g", what, (int)row, (int)v, got,
                     (double)want[v]);
    }
}

static void check_batch(const char *type) {
    fixture f;
    open_fixture(&f, type);
    /* Lengths around a chunk of 64 and up to a full row; fed in two parts of different sizes. */
    const int64_t length[4] = {3, 65, LONGEST, 40}, first[4] = {1, 64, 17, 0};
    float want[4][V];
    for (int r = 0; r < 4; r++) slowly(&f, r, length[r], want[r]);
    qn_generator *g = generator(&f, 4);
    const int32_t *at[4];
    int64_t n[4];
    for (int r = 0; r < 4; r++) at[r] = f.ids[r], n[r] = first[r];
    qn_assert_ok(qn_generator_feed(g, at, n));
    for (int r = 0; r < 4; r++) at[r] = f.ids[r] + first[r], n[r] = length[r] - first[r];
    qn_assert_ok(qn_generator_feed(g, at, n));
    for (int r = 0; r < 4; r++) {
        assert_int_equal(qn_generator_position(g, r), length[r]);
        assert_logits(g, r, want[r], type);
    }
    /* The others rest while one goes on: nothing of theirs changes. */
    float more[V];
    slowly(&f, 0, 30, more);
    at[0] = f.ids[0] + 3;
    n[0] = 27, n[1] = n[2] = n[3] = 0;
    qn_assert_ok(qn_generator_feed(g, at, n));
    assert_logits(g, 0, more, "going on");
    for (int r = 1; r < 4; r++) assert_logits(g, r, want[r], "resting");
    slowly(&f, 3, 60, more);
    at[3] = f.ids[3] + 40;
    n[0] = 0, n[3] = 20;
    qn_assert_ok(qn_generator_feed(g, at, n));
    assert_logits(g, 3, more, "after a rest");
    /* Too many for one row: refused before anything moves. */
    n[0] = 1, n[2] = 1;
    assert_int_equal(qn_generator_feed(g, at, n), QN_ERR_USAGE);
    assert_int_equal(qn_generator_position(g, 0), 30);
    qn_generator_rewind(g, 2, 0);
    at[2] = f.ids[2];
    n[0] = 0, n[2] = LONGEST, n[3] = 0;
    qn_assert_ok(qn_generator_feed(g, at, n));
    assert_logits(g, 2, want[2], "from the start");
    /* Another sequence with the same beginning; then the same one, of which the last is fed again;
     * then one that goes on from the middle; then nothing in common. A full row has rested. */
    f.ids[0][20] = (f.ids[0][20] + 1) % V;
    const struct {
        int row, ids;
        int64_t length, known;
    } again[] = {{0, 0, 50, 20}, {0, 0, 50, 49}, {0, 0, 10, 9}, {0, 1, 33, 0}, {2, 2, LONGEST, 89}};
    for (size_t i = 0; i < sizeof again / sizeof *again; i++) {
        int r = again[i].row;
        int64_t known = qn_generator_rejoin(g, r, f.ids[again[i].ids], again[i].length);
        assert_int_equal(known, again[i].known);
        memset(n, 0, sizeof n);
        at[r] = f.ids[again[i].ids] + known;
        n[r] = again[i].length - known;
        qn_assert_ok(qn_generator_feed(g, at, n));
        assert_int_equal(qn_generator_position(g, r), again[i].length);
        slowly(&f, again[i].ids, again[i].length, more);
        assert_logits(g, r, more, "again");
    }
    qn_generator_free(g);
    qn_rig_free(&f.rig);
}

static void test_batch_gpt2(void **state) {
    (void)state;
    check_batch("gpt2");
}

static void test_batch_llama(void **state) {
    (void)state;
    check_batch("llama");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_gpt2),
        cmocka_unit_test(test_batch_llama),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
