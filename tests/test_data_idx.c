/* test_data_idx.c — the IDX format and the source over it. */
#include "io/data.h"
#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the format ------------------------------------------------------------------------------ */

static void every_type_is_read(void **state) {
    (void)state;
    static const struct {
        int type, width;
        unsigned char bytes[16];
        double want[2];
    } c[] = {
        {0x08, 1, {200, 3}, {200, 3}},
        {0x09, 1, {0xFF, 0x7F}, {-1, 127}},
        {0x0B, 2, {0xFF, 0xFE, 0x01, 0x02}, {-2, 258}},
        {0x0C, 4, {0xFF, 0xFF, 0xFF, 0xFD, 0x7F, 0xFF, 0xFF, 0xFF}, {-3, 2147483647}},
        {0x0D, 4, {0x3F, 0xC0, 0, 0, 0xC2, 0x28, 0, 0}, {1.5, -42}},
        {0x0E, 8, {0x3F, 0xF8, 0, 0, 0, 0, 0, 0, 0xC0, 0x45, 0, 0, 0, 0, 0, 0}, {1.5, -42}},
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        unsigned char file[64] = {0, 0, (unsigned char)c[i].type, 2, 0, 0, 0, 1, 0, 0, 0, 2};
        int64_t size = 12 + 2 * c[i].width;
        qn_idx x;
        memcpy(file + 12, c[i].bytes, (size_t)c[i].width * 2);
        qn_assert_ok(qn_idx_parse(file, size, &x));
        assert_int_equal(x.items, 1);
        assert_int_equal(x.per_item, 2);
        assert_true(qn_idx_get(&x, 0) == c[i].want[0]);
        assert_true(qn_idx_get(&x, 1) == c[i].want[1]);
        assert_int_equal(qn_idx_is_float(&x), c[i].type >= 0x0D);
        for (int64_t cut = 0; cut < size; cut++) /* every truncation */
            assert_int_equal(qn_idx_parse(file, cut, &x), QN_ERR_FORMAT);
        assert_int_equal(qn_idx_parse(file, size + 1, &x), QN_ERR_FORMAT);
    }
}

static void bad_headers_are_refused(void **state) {
    (void)state;
    static const struct {
        unsigned char bytes[32];
        int64_t size;
        const char *part;
    } c[] = {
        {{1, 0, 8, 1, 0, 0, 0, 1, 7}, 9, "no IDX header"},
        {{0, 1, 8, 1, 0, 0, 0, 1, 7}, 9, "no IDX header"},
        {{0, 0, 10, 1, 0, 0, 0, 1, 7}, 9, "no IDX header"},
        {{0, 0, 8, 0, 7}, 5, "found 0 axes"},
        {{0, 0, 8, 7}, 32, "found 7 axes"},
        {{0, 0, 8, 1, 0, 0, 0, 0}, 8, "axis 0 of size 0"},
        {{0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
         32,
         "more elements than can be counted"},
        {{0, 0, 14, 2, 128, 0, 0, 0, 128, 0, 0, 0}, 32, "truncated"},
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        qn_idx x;
        if (qn_idx_parse(c[i].bytes, c[i].size, &x) != QN_ERR_FORMAT ||
            !strstr(qn_error_message(), c[i].part))
            fail_msg("case %zu: %s", i, qn_error_message());
    }
}

/* ---- the source ------------------------------------------------------------------------------ */

typedef struct fixture {
    char *dir;
    char path[6][512];
    qn_data_options o;
    qn_source s;
    qn_vocab *vocab;
} fixture;

static int setup(void **state) {
    fixture *t = qn_alloc(sizeof *t, "fixture");
    t->dir = qn_test_dir();
    t->o = (qn_data_options){.type = QN_DATA_IDX, .seed = 3};
    t->o.cache_dir = t->dir;
    *state = t;
    return 0;
}

static int teardown(void **state) {
    fixture *t = *state;
    if (t->s.free) t->s.free(t->s.self);
    qn_test_dir_remove(t->dir);
    qn_free(t);
    return 0;
}

static void reopen(fixture *t) {
    if (t->s.free) t->s.free(t->s.self);
    t->s = (qn_source){0};
    qn_assert_ok(qn_data_open(&t->o, &t->s, &t->vocab));
    assert_null(t->vocab);
}

static void expect_error(fixture *t, qn_status want, const char *part) {
    qn_source s;
    qn_status got = qn_data_open(&t->o, &s, &t->vocab);
    if (got != want || !strstr(qn_error_message(), part))
        fail_msg("got %s: %s; expected '%s'", qn_status_name(got), qn_error_message(), part);
}

static const char *put(fixture *t, int i, const char *name, const void *header, size_t header_bytes,
                       const void *data, size_t n) {
    snprintf(t->path[i], sizeof t->path[i], "%s/%s", t->dir, name);
    FILE *f = fopen(t->path[i], "wb");
    if (!f) fail_msg("%s", t->path[i]);
    assert_int_equal(fwrite(header, 1, header_bytes, f), header_bytes);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return t->path[i];
}

enum { ITEMS = 50 };

/* Item i: two features i and i + 100, label i % 5. */
static void put_items(fixture *t) {
    unsigned char x[ITEMS * 2], y[ITEMS];
    for (int i = 0; i < ITEMS; i++) {
        x[2 * i] = (unsigned char)i;
        x[2 * i + 1] = (unsigned char)(i + 100);
        y[i] = (unsigned char)(i % 5);
    }
    t->o.images[0] = put(t, 0, "x", "\0\0\x08\2\0\0\0\x32\0\0\0\2", 12, x, sizeof x);
    t->o.labels[0] = put(t, 1, "y", "\0\0\x08\1\0\0\0\x32", 8, y, sizeof y);
}

static int64_t fetch(fixture *t, qn_split split, int64_t at, int64_t count, float *x, int32_t *y) {
    void *dst[2] = {x, y};
    int64_t labels = -1;
    qn_assert_ok(t->s.fetch(t->s.self, split, at, count, dst, &labels));
    return labels;
}

static int item_of(const float *x) { return (int)lrint((double)x[0] * 255); }

static void fields_scale_and_order(void **state) {
    fixture *t = *state;
    float x[2 * ITEMS];
    int32_t y[ITEMS], first[ITEMS];
    put_items(t);
    t->o.mean = 0.5;
    t->o.std = 0.25;
    reopen(t);
    assert_int_equal(t->s.n[QN_SPLIT_TRAIN], ITEMS);
    assert_int_equal(t->s.classes, 5);
    assert_string_equal(t->s.field[0].name, "features");
    assert_int_equal(t->s.field[0].shape[0], 2);
    assert_string_equal(t->s.field[1].name, "labels");
    assert_int_equal(t->s.field[1].ndim, 0);
    for (int epoch = 0; epoch < 2; epoch++) {
        bool seen[ITEMS] = {false};
        assert_int_equal(fetch(t, QN_SPLIT_TRAIN, epoch * ITEMS, ITEMS, x, y), ITEMS);
        int same = 0;
        for (int i = 0; i < ITEMS; i++) {
            int item = (int)lrint(((double)x[2 * i] * 0.25 + 0.5) * 255);
            assert_in_range(item, 0, ITEMS - 1);
            assert_false(seen[item]);
            seen[item] = true;
            assert_int_equal(y[i], item % 5);
            qn_assert_close((double)x[2 * i + 1], ((item + 100) / 255.0 - 0.5) / 0.25, 1e-6, "x");
            if (epoch == 0) first[i] = item;
            same += first[i] == item;
        }
        assert_true(epoch == 0 || same < ITEMS / 2);
    }
}

static void splits(void **state) {
    fixture *t = *state;
    float x[2 * ITEMS];
    int32_t y[ITEMS];
    put_items(t);
    for (int division = QN_DATA_CHRONOLOGICAL; division <= QN_DATA_RANDOM; division++) {
        bool seen[ITEMS] = {false};
        t->o.division = (qn_data_division)division;
        t->o.val_fraction = 0.2;
        t->o.test_fraction = 0.1;
        reopen(t);
        assert_int_equal(t->s.n[QN_SPLIT_TRAIN], 35);
        assert_int_equal(t->s.n[QN_SPLIT_VAL], 10);
        assert_int_equal(t->s.n[QN_SPLIT_TEST], 5);
        for (int s = 0; s < QN_SPLIT_COUNT; s++) {
            int64_t n = t->s.n[s];
            assert_int_equal(fetch(t, (qn_split)s, 0, n, x, y), n);
            for (int64_t i = 0; i < n; i++) {
                int item = item_of(x + 2 * i);
                assert_false(seen[item]);
                seen[item] = true;
                if (s == QN_SPLIT_VAL && division == QN_DATA_CHRONOLOGICAL)
                    assert_int_equal(item, 35 + i);
                if (s != QN_SPLIT_TRAIN && i > 0)
                    assert_true(item > item_of(x + 2 * i - 2)); /* file order */
            }
        }
    }
    assert_int_equal(fetch(t, QN_SPLIT_VAL, 8, 5, x, y), 2); /* padding */
    assert_int_equal(y[1] >= 0, 1);
    for (int i = 2; i < 5; i++) {
        assert_int_equal(y[i], QN_IGNORE_INDEX);
        assert_true(x[2 * i] == 0 && x[2 * i + 1] == 0);
    }
}

/* ---- shift ----------------------------------------------------------------------------------- */

enum {
    PLANES = 2,
    HEIGHT = 5,
    WIDTH = 4,
    PIXELS = PLANES * HEIGHT * WIDTH,
    IMAGES = 10,
    LEARNED = 8
};

/* Image i, pixel p: 1 + 20 i + p % 20, different in all of a plane and never 0; label i. The last
 * two are the val split. */
static void put_images(fixture *t) {
    unsigned char x[IMAGES * PIXELS], y[IMAGES];
    for (int i = 0; i < IMAGES * PIXELS; i++)
        x[i] = (unsigned char)(1 + 20 * (i / PIXELS) + i % (HEIGHT * WIDTH));
    for (int i = 0; i < IMAGES; i++) y[i] = (unsigned char)i;
    t->o.images[0] =
        put(t, 0, "x", "\0\0\x08\4\0\0\0\x0A\0\0\0\2\0\0\0\5\0\0\0\4", 20, x, sizeof x);
    t->o.labels[0] = put(t, 1, "y", "\0\0\x08\1\0\0\0\x0A", 8, y, sizeof y);
    t->o.val_fraction = 0.2;
    t->o.mean = 0.5;
    t->o.std = 0.25;
}

/* What pixel p of image i is when the image has been moved. */
static double moved(int i, int p, int dy, int dx) {
    int y = p / WIDTH % HEIGHT - dy, x = p % WIDTH - dx;
    bool inside = y >= 0 && y < HEIGHT && x >= 0 && x < WIDTH;
    return ((inside ? 1 + 20 * i + y * WIDTH + x : 0) / 255.0 - 0.5) / 0.25;
}

static bool is_moved(const float *image, int i, int dy, int dx) {
    for (int p = 0; p < PIXELS; p++) /* one rounding to f32 of a value below 2 */
        if (!(fabs((double)image[p] - moved(i, p, dy, dx)) < 2e-7)) return false;
    return true;
}

/* Index of the move of the only kind that explains an image, or a failed test. */
static int move_of(const float *image, int i, int s) {
    int found = -1;
    for (int m = 0; m < (2 * s + 1) * (2 * s + 1); m++)
        if (is_moved(image, i, m / (2 * s + 1) - s, m % (2 * s + 1) - s)) {
            assert_int_equal(found, -1);
            found = m;
        }
    assert_true(found >= 0);
    return found;
}

static void shift_moves_training_images(void **state) {
    fixture *t = *state;
    enum { EPOCHS = 100, SHIFT = 2, MOVES = 25 };
    float x[LEARNED * PIXELS], again[PIXELS];
    int32_t y[LEARNED], label;
    int seen[MOVES] = {0}, first[IMAGES], changed = 0;
    put_images(t);
    t->o.shift = SHIFT;
    reopen(t);
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        fetch(t, QN_SPLIT_TRAIN, epoch * LEARNED, LEARNED, x, y);
        for (int i = 0; i < LEARNED; i++) {
            int m = move_of(x + i * PIXELS, y[i], SHIFT);
            seen[m]++;
            if (epoch == 0) first[y[i]] = m;
            changed += epoch == 1 && m != first[y[i]];
            fetch(t, QN_SPLIT_TRAIN, epoch * LEARNED + i, 1, again, &label); /* as on resume */
            assert_memory_equal(again, x + i * PIXELS, sizeof again);
        }
    }
    /* 800 draws of 25 moves: 32 of each, standard deviation 5.5; 10 and 54 are four of them off */
    for (int m = 0; m < MOVES; m++) assert_in_range(seen[m], 10, 54);
    assert_true(changed >= LEARNED / 2); /* drawn anew in each epoch */
    fetch(t, QN_SPLIT_VAL, 0, 2, x, y);
    for (int i = 0; i < 2; i++) assert_true(is_moved(x + i * PIXELS, LEARNED + i, 0, 0));
}

static void shift_follows_the_seed_and_keeps_the_identity(void **state) {
    fixture *t = *state;
    float x[2][LEARNED * PIXELS];
    int32_t y[2][LEARNED];
    int moves[2][IMAGES], different = 0;
    uint64_t identity;
    put_images(t);
    reopen(t);
    identity = t->s.identity;
    t->o.shift = 3; /* the largest below the width */
    for (int i = 0; i < 2; i++) {
        t->o.seed = (uint64_t)i;
        reopen(t);
        fetch(t, QN_SPLIT_TRAIN, 0, LEARNED, x[i], y[i]);
        for (int j = 0; j < LEARNED; j++)
            moves[i][y[i][j]] = move_of(x[i] + j * PIXELS, y[i][j], 3);
    }
    for (int i = 0; i < LEARNED; i++) different += moves[0][i] != moves[1][i];
    assert_true(different >= LEARNED / 2);
    assert_int_equal(t->s.identity, identity); /* a hyper-parameter, not other data */
}

static void shift_needs_images_larger_than_it(void **state) {
    fixture *t = *state;
    put_images(t);
    t->o.shift = -1;
    expect_error(t, QN_ERR_CONFIG, "found shift -1, expected 0 or more");
    t->o.shift = 4;
    expect_error(t, QN_ERR_DATA, "found images of 5 x 4, expected more than data.augment.shift, 4");
    t->o.images[0] = put(t, 0, "x", "\0\0\x08\3\0\0\0\1\0\0\0\1\0\0\0\2", 16, "ab", 2);
    t->o.labels[0] = put(t, 1, "y", "\0\0\x08\1\0\0\0\1", 8, "\0", 1);
    t->o.shift = 1;
    expect_error(t, QN_ERR_DATA, "found images of 1 x 2");
    t->o.images[0] = put(t, 0, "x", "\0\0\x08\2\0\0\0\1\0\0\0\2", 12, "ab", 2);
    expect_error(t, QN_ERR_DATA, "found items of one axis, expected images");
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void bad_labels(void **state) {
    fixture *t = *state;
    put_items(t);
    t->o.classes = 4;
    expect_error(t, QN_ERR_DATA, "found label 4 of item 4, expected 0 to 3");
    t->o.classes = 0;
    t->o.labels[0] = put(t, 1, "y", "\0\0\x09\1\0\0\0\2", 8, "\1\xFF", 2);
    expect_error(t, QN_ERR_DATA, "found 2 labels, expected one for each of the 50 items");
    t->o.images[0] = put(t, 0, "x", "\0\0\x08\2\0\0\0\2\0\0\0\1", 12, "ab", 2);
    expect_error(t, QN_ERR_DATA, "found label -1 of item 1");
    t->o.labels[0] = put(t, 1, "y", "\0\0\x0D\1\0\0\0\2", 8, "\0\0\0\0\0\0\0\0", 8);
    expect_error(t, QN_ERR_DATA, "expected one axis of integers");
    t->o.labels[0] = put(t, 1, "y", "\0\0\x08\1\0\0\0\2", 8, "\0\1", 2);
    t->o.images[0] = put(t, 0, "x", "\0\0\x08\1\0\0\0\2", 8, "ab", 2);
    expect_error(t, QN_ERR_DATA, "found one axis");
    t->o.images[0] = put(t, 0, "x", "\0\0\x08\2\0\0\0\2\0\0\0\1", 12, "ab", 2);
    t->o.images[1] = put(t, 2, "vx", "\0\0\x08\2\0\0\0\1\0\0\0\2", 12, "ab", 2);
    t->o.labels[1] = put(t, 3, "vy", "\0\0\x08\1\0\0\0\1", 8, "\0", 1);
    expect_error(t, QN_ERR_DATA, "vx: found items of 2 elements");
    t->o.images[1] = put(t, 2, "vx", "\0\0\x08\2\0\0\0\1\0\0\0\1", 12, "a", 1);
    t->o.labels[1] = put(t, 3, "vy", "\0\0\x08\1\0\0\0\1", 8, "\2", 1);
    expect_error(t, QN_ERR_DATA, "vy: found label 2 of item 0, expected 0 to 1");
    t->o.images[1] = t->o.images[0];
    t->o.labels[1] = t->o.labels[0];
    expect_error(t, QN_ERR_DATA, "the same file in the train and the val split");
}

static void values_must_be_finite(void **state) {
    fixture *t = *state;
    float x[2];
    int32_t y[1];
    void *dst[2] = {x, y};
    int64_t labels;
    static const struct {
        int type;
        unsigned char bad[8];
    } c[] = {
        {0x0D, {0x7F, 0xC0}}, {0x0D, {0x7F, 0x80}}, {0x0E, {0x7F, 0xF8}}, {0x0E, {0x7E, 0x37}}};
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        size_t width = c[i].type == 0x0D ? 4 : 8;
        unsigned char header[12] = {0, 0, (unsigned char)c[i].type, 2, 0, 0, 0, 2, 0, 0, 0, 2};
        unsigned char data[32] = {0};
        memcpy(data + 3 * width, c[i].bad, width);
        t->o.images[0] = put(t, 0, "x", header, 12, data, 4 * width);
        t->o.labels[0] = put(t, 1, "y", "\0\0\x08\1\0\0\0\2", 8, "\0\1", 2);
        reopen(t);
        int failed = 0;
        for (int64_t p = 0; p < 2; p++)
            if (t->s.fetch(t->s.self, QN_SPLIT_TRAIN, p, 1, dst, &labels) == QN_ERR_DATA) {
                failed++;
                assert_non_null(strstr(qn_error_message(), "item 1, element 1"));
            }
        assert_int_equal(failed, 1);
    }
}

static void bad_options(void **state) {
    fixture *t = *state;
    expect_error(t, QN_ERR_CONFIG, "no images");
    put_items(t);
    t->o.labels[1] = t->o.labels[0];
    expect_error(t, QN_ERR_CONFIG, "labels without images for the val split");
    t->o.labels[1] = NULL;
    t->o.labels[0] = NULL;
    expect_error(t, QN_ERR_CONFIG, "images without labels for the train split");
    put_items(t);
    t->o.std = -1;
    expect_error(t, QN_ERR_CONFIG, "expected finite numbers and a positive std");
    t->o.std = (double)NAN;
    expect_error(t, QN_ERR_CONFIG, "positive std");
    t->o.std = 1;
    t->o.mean = (double)INFINITY;
    expect_error(t, QN_ERR_CONFIG, "finite numbers");
    t->o.mean = 0;
    t->o.classes = -1;
    expect_error(t, QN_ERR_CONFIG, "found -1 classes");
    t->o.classes = 0;
    t->o.division = QN_DATA_BY_FILE;
    expect_error(t, QN_ERR_CONFIG, "cannot be divided by file");
    t->o.division = QN_DATA_RANDOM;
    t->o.val_fraction = 0.99;
    expect_error(t, QN_ERR_DATA, "the train split would be empty");
}

static void mnist(void **state) {
    fixture *t = *state;
    const char *x = qn_test_data("mnist/train-images-idx3-ubyte.gz");
    if (!x) skip();
    t->o.images[0] = x;
    t->o.labels[0] = qn_test_data("mnist/train-labels-idx1-ubyte.gz");
    t->o.images[2] = qn_test_data("mnist/t2k-images-idx3-ubyte.gz");
    t->o.labels[2] = qn_test_data("mnist/t2k-labels-idx1-ubyte.gz");
    t->o.mean = 0.1307;
    t->o.std = 0.3081;
    t->o.val_fraction = 0.1;
    reopen(t);
    assert_int_equal(t->s.n[QN_SPLIT_TRAIN], 54000);
    assert_int_equal(t->s.n[QN_SPLIT_VAL], 6000);
    assert_int_equal(t->s.n[QN_SPLIT_TEST], 2000);
    assert_int_equal(t->s.classes, 10);
    assert_int_equal(t->s.field[0].shape[0], 784);
    float *features = qn_alloc(10 * 784 * sizeof *features, "features");
    int32_t y[10];
    const int32_t want[10] = {7, 2, 1, 0, 4, 1, 4, 9, 5, 9};
    assert_int_equal(fetch(t, QN_SPLIT_TEST, 0, 10, features, y), 10);
    assert_memory_equal(y, want, sizeof want);
    qn_assert_close((double)features[0], -0.1307 / 0.3081, 1e-6, "a black pixel");
    qn_free(features);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test_setup_teardown(fields_scale_and_order, setup, teardown),
        cmocka_unit_test_setup_teardown(splits, setup, teardown),
        cmocka_unit_test_setup_teardown(shift_moves_training_images, setup, teardown),
        cmocka_unit_test_setup_teardown(shift_follows_the_seed_and_keeps_the_identity, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(shift_needs_images_larger_than_it, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_labels, setup, teardown),
        cmocka_unit_test_setup_teardown(values_must_be_finite, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_options, setup, teardown),
        cmocka_unit_test_setup_teardown(mnist, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
