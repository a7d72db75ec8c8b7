/* test_data.c — text sources: windows, splits, order, vocabulary, files and every kind of bad
 * input. */
#include "io/data.h"
#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- helpers --------------------------------------------------------------------------------- */

typedef struct fixture {
    char *dir;
    char path[8][512];
    const char *list[8];
    qn_data_options o;
    qn_source s;
    qn_vocab *vocab;
} fixture;

static void write_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || (n && fwrite(bytes, 1, n, f) != n) || fclose(f) != 0) fail_msg("%s", path);
}

static void put(fixture *t, int i, const char *name, const char *text) {
    snprintf(t->path[i], sizeof t->path[i], "%s/%s", t->dir, name);
    if (text) write_file(t->path[i], text, strlen(text));
    t->list[i] = t->path[i];
}

static int setup(void **state) {
    fixture *t = qn_alloc(sizeof *t, "fixture");
    t->dir = qn_test_dir();
    t->o = (qn_data_options){.type = QN_DATA_TEXT, .block_size = 4, .seed = 1};
    t->o.cache_dir = t->dir;
    t->o.paths[QN_SPLIT_TRAIN] = (qn_strings){t->list, 1};
    *state = t;
    return 0;
}

static void reopen(fixture *t) {
    if (t->s.free) t->s.free(t->s.self);
    qn_vocab_free(t->vocab);
    t->vocab = NULL;
    t->s = (qn_source){0};
    qn_assert_ok(qn_data_open(&t->o, &t->s, &t->vocab));
}

static int teardown(void **state) {
    fixture *t = *state;
    if (t->s.free) t->s.free(t->s.self);
    qn_vocab_free(t->vocab);
    qn_test_dir_remove(t->dir);
    qn_free(t);
    return 0;
}

static void expect_error(fixture *t, qn_status want, const char *part) {
    qn_source s = {0};
    qn_vocab *v = NULL;
    qn_status got = qn_data_open(&t->o, &s, &v);
    if (got != want || !strstr(qn_error_message(), part))
        fail_msg("got %s: %s; expected %s with '%s'", qn_status_name(got), qn_error_message(),
                 qn_status_name(want), part);
    assert_null(v);
}

enum { MOST = 4096 };

static int64_t fetch(const fixture *t, qn_split split, int64_t position, int64_t count,
                     int32_t *tokens, int32_t *targets) {
    void *dst[2] = {tokens, targets};
    int64_t labels = -1;
    qn_assert_ok(t->s.fetch(t->s.self, split, position, count, dst, &labels));
    return labels;
}

/* ---- windows --------------------------------------------------------------------------------- */

static void golden_windows(void **state) {
    fixture *t = *state;
    int32_t x[12], y[12];
    put(t, 0, "a.txt", "abcdefghijklmnopqrstuvwxyz0123"); /* 30 */
    t->o.val_fraction = 0.3;                              /* 21 + 9 */
    reopen(t);
    assert_int_equal(t->s.n[QN_SPLIT_TRAIN], 21 / 4 - 1);
    assert_int_equal(t->s.n[QN_SPLIT_VAL], 2);
    assert_int_equal(t->s.n[QN_SPLIT_TEST], 0);
    assert_int_equal(t->s.classes, 256);
    assert_string_equal(t->s.field[0].name, "tokens");
    assert_string_equal(t->s.field[1].name, "targets");
    assert_int_equal(t->s.field[1].shape[0], 4);
    assert_int_equal(fetch(t, QN_SPLIT_VAL, 0, 3, x, y), 8);
    const int32_t want_x[] = {'v', 'w', 'x', 'y', 'z', '0', '1', '2', 0, 0, 0, 0};
    const int32_t want_y[] = {'w', 'x', 'y', 'z', '0', '1', '2', '3', -100, -100, -100, -100};
    assert_memory_equal(x, want_x, sizeof x);
    assert_memory_equal(y, want_y, sizeof y);
    for (int64_t p = 0; p < 40; p++) {
        assert_int_equal(fetch(t, QN_SPLIT_TRAIN, p, 1, x, y), 4);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(y[i], x[i] + 1);
            assert_in_range(y[i], 'b', 'u');
        }
    }
    assert_non_null(strstr(qn_data_describe(&t->s), "train: 21 tokens, 4 windows of 4 an epoch"));
}

/* Each token of val but the first is predicted once, in order, whatever the remainder. */
static void val_predicts_each_token_once(void **state) {
    fixture *t = *state;
    static int32_t x[MOST], y[MOST];
    for (int n = 2; n <= 40; n++)
        for (int block = 1; block <= 9; block++) {
            char text[64];
            for (int i = 0; i < n; i++) text[i] = (char)(1 + i);
            text[n] = '\0';
            put(t, 0, "train.txt", "some text to train on");
            put(t, 1, "val.txt", text);
            t->o.paths[QN_SPLIT_VAL] = (qn_strings){t->list + 1, 1};
            t->o.block_size = block;
            reopen(t);
            int64_t windows = t->s.n[QN_SPLIT_VAL], next = 2;
            assert_int_equal(fetch(t, QN_SPLIT_VAL, 0, windows + 2, x, y), n - 1);
            for (int64_t i = 0; i < (windows + 2) * block; i++) {
                if (y[i] == QN_IGNORE_INDEX) continue;
                assert_int_equal(y[i], next++);
                assert_int_equal(x[i], y[i] - 1);
            }
            assert_int_equal(next, n + 1);
        }
}

/* An epoch meets no target twice, epochs differ in order and phase, over many all is met. */
static void train_epochs(void **state) {
    fixture *t = *state;
    enum { N = 103, T = 5, EPOCHS = 60 };
    char text[N + 1];
    int met[256] = {0}, phases[T] = {0}, different = 0;
    int32_t x[T], y[T], before[N] = {0};
    for (int i = 0; i < N; i++) text[i] = (char)(1 + i);
    text[N] = '\0';
    put(t, 0, "a.txt", text);
    t->o.block_size = T;
    reopen(t);
    int64_t n = t->s.n[QN_SPLIT_TRAIN];
    assert_int_equal(n, N / T - 1);
    for (int64_t e = 0; e < EPOCHS; e++) {
        bool seen[256] = {false}, same = true;
        for (int64_t i = 0; i < n; i++) {
            assert_int_equal(fetch(t, QN_SPLIT_TRAIN, e * n + i, 1, x, y), T);
            for (int k = 0; k < T; k++) {
                assert_false(seen[y[k]]);
                seen[y[k]] = true;
                met[y[k]]++;
            }
            phases[(x[0] - 1) % T] += i == 0;
            same = same && before[i] == x[0];
            before[i] = x[0];
        }
        different += !same;
    }
    assert_true(different >= EPOCHS - 1);
    for (int i = 2; i <= N; i++) assert_true(met[i] > 0);
    for (int i = 0; i < T; i++) assert_true(phases[i] > 0);
}

/* Each window of an epoch comes once: its place can be read from its four bytes. */
static void train_order_is_a_permutation(void **state) {
    fixture *t = *state;
    enum { N = 2001 };
    char text[N];
    bool seen[N] = {false};
    int32_t x[4], y[4];
    for (int i = 0; i < N; i++) text[i] = (char)(i / 2 % 2 ? 128 + i / 4 % 128 : i / 4 / 128);
    put(t, 0, "a.txt", "");
    write_file(t->path[0], text, N);
    reopen(t);
    int64_t n = t->s.n[QN_SPLIT_TRAIN];
    assert_int_equal(n, N / 4 - 1);
    for (int64_t i = 0; i < n; i++) {
        int low = -1, high = -1;
        fetch(t, QN_SPLIT_TRAIN, i, 1, x, y);
        for (int k = 0; k < 4; k++) {
            if (x[k] >= 128)
                low = x[k] - 128;
            else
                high = x[k];
        }
        assert_true(low >= 0 && high >= 0);
        assert_false(seen[high * 128 + low]);
        seen[high * 128 + low] = true;
    }
}

/* A sample depends on its position only: batches of any size and a fresh source agree. */
static void position_is_random_access(void **state) {
    fixture *t = *state;
    static int32_t x[MOST], y[MOST], x1[MOST], y1[MOST];
    put(t, 0, "a.txt", "It is a truth universally acknowledged, that a single man in possession");
    reopen(t);
    fetch(t, QN_SPLIT_TRAIN, 0, 64, x, y);
    reopen(t);
    for (int64_t p = 63; p >= 0; p--) fetch(t, QN_SPLIT_TRAIN, p, 1, x1 + p * 4, y1 + p * 4);
    assert_memory_equal(x, x1, 64 * 4 * sizeof *x);
    assert_memory_equal(y, y1, 64 * 4 * sizeof *y);
    uint64_t identity = t->s.identity;
    t->o.seed = 2;
    reopen(t);
    fetch(t, QN_SPLIT_TRAIN, 0, 64, x1, y1);
    assert_memory_not_equal(x, x1, 64 * 4 * sizeof *x);
    assert_true(t->s.identity == identity);
    t->o.block_size = 5;
    reopen(t);
    assert_true(t->s.identity != identity);
}

static void smallest_text(void **state) {
    fixture *t = *state;
    int32_t x[4], y[4];
    put(t, 0, "a.txt", "abcde");
    reopen(t);
    assert_int_equal(t->s.n[QN_SPLIT_TRAIN], 1);
    for (int64_t p = 0; p < 5; p++) {
        fetch(t, QN_SPLIT_TRAIN, p, 1, x, y);
        assert_int_equal(x[0], 'a');
        assert_int_equal(y[3], 'e');
    }
    put(t, 0, "a.txt", "abcd");
    expect_error(t, QN_ERR_DATA, "found 4 tokens in the train split, expected at least block_size");
}

/* ---- vocabulary ------------------------------------------------------------------------------ */

static void characters(void **state) {
    fixture *t = *state;
    int32_t x[8], y[8];
    put(t, 0, "a.txt",
        "b\xC3\xA9"
        "a\xE2\x82\xAC"
        "b");
    t->o.vocabulary = QN_VOCAB_CHAR;
    reopen(t);
    assert_int_equal(t->s.classes, 4);
    fetch(t, QN_SPLIT_TRAIN, 0, 1, x, y);
    const int32_t want_x[] = {1, 2, 0, 3}, want_y[] = {2, 0, 3, 1};
    assert_memory_equal(x, want_x, sizeof want_x);
    assert_memory_equal(y, want_y, sizeof want_y);

    qn_vocab *given;
    qn_assert_ok(qn_vocab_copy(t->vocab, &given));
    t->o.given = given;
    put(t, 0, "a.txt", "aaabb");
    reopen(t);
    assert_int_equal(t->s.classes, 4);
    put(t, 0, "a.txt", "aaa\nbbc");
    expect_error(t, QN_ERR_DATA, "a.txt:1: byte offset 3: found U+000A");
    t->o.given = NULL;
    put(t, 0, "a.txt", "ok\nok\nno \xFF here");
    expect_error(t, QN_ERR_DATA, "a.txt:3: byte offset 9: found 0xFF");
    qn_vocab_free(given);
}

/* More than 256 characters need two bytes each, more than 65,536 four. */
static void wide_vocabularies(void **state) {
    fixture *t = *state;
    t->o.vocabulary = QN_VOCAB_CHAR;
    t->o.block_size = 16;
    const uint32_t sizes[] = {256, 257, 65536, 65537, 70000};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        char *text = qn_alloc((size_t)sizes[k] * 4 + 1, "text");
        size_t at = 0;
        for (uint32_t i = 0; i < sizes[k]; i++)
            at += (size_t)qn_utf8_write(i + 1 + (i + 1 >= 0xD800 ? 0x800 : 0), text + at);
        put(t, 0, "a.txt", text);
        put(t, 1, "v.txt", text);
        t->o.paths[QN_SPLIT_VAL] = (qn_strings){t->list + 1, 1};
        t->o.separator = "\x01";
        reopen(t);
        assert_int_equal(t->s.classes, sizes[k]);
        int64_t n = t->s.n[QN_SPLIT_VAL];
        int32_t *x = qn_alloc((size_t)n * 64, "x"), *y = qn_alloc((size_t)n * 64, "y");
        assert_int_equal(fetch(t, QN_SPLIT_VAL, 0, n, x, y), sizes[k] - 1);
        for (uint32_t i = 0; i + 1 < sizes[k]; i++) assert_int_equal(y[i], i + 1);
        qn_free(x);
        qn_free(y);
        qn_free(text);
    }
}

/* ---- files and splits ------------------------------------------------------------------------ */

static void make_tree(fixture *t) {
    static const char *const made[][2] = {
        {"b.c", "bbbbbbbb"},      {"a.c", "aaaaaaaa"},          {"a.h", "hhhhhhhh"},
        {"x/deep.c", "dddddddd"}, {"x/y/deeper.c", "eeeeeeee"}, {"x/y/note.txt", "nnnnnnnn"},
        {".git/a.c", "gggggggg"}, {"build/out.c", "oooooooo"},  {"empty.c", ""},
    };
    const char *const dirs[] = {"tree", "tree/x", "tree/x/y", "tree/.git", "tree/build"};
    char path[600];
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", t->dir, dirs[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        snprintf(path, sizeof path, "%s/tree/%s", t->dir, made[i][0]);
        write_file(path, made[i][1], strlen(made[i][1]));
    }
    snprintf(path, sizeof path, "%s/tree/loop", t->dir);
    assert_int_equal(symlink(".", path), 0);
    snprintf(path, sizeof path, "%s/tree/pipe.c", t->dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    put(t, 0, "tree", NULL);
}

/* The stream as text, each run of a letter once. */
static void letters(fixture *t, char *out) {
    t->o.block_size = 1;
    t->o.paths[QN_SPLIT_VAL] = t->o.paths[QN_SPLIT_TRAIN];
    put(t, 7, "train.txt", "any text");
    t->o.paths[QN_SPLIT_TRAIN] = (qn_strings){t->list + 7, 1};
    reopen(t);
    static int32_t x[MOST], y[MOST];
    int64_t n = t->s.n[QN_SPLIT_VAL];
    fetch(t, QN_SPLIT_VAL, 0, n, x, y);
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || x[i] != x[i - 1]) *out++ = (char)x[i];
    *out = '\0';
    t->o.paths[QN_SPLIT_TRAIN] = t->o.paths[QN_SPLIT_VAL];
    t->o.paths[QN_SPLIT_VAL] = (qn_strings){0};
}

static void directories_are_walked(void **state) {
    fixture *t = *state;
    char got[64];
    make_tree(t);
    t->o.separator = "|";
    letters(t, got);
    assert_string_equal(got, "a|h|b|o|d|e|n");
    assert_non_null(strstr(qn_data_describe(&t->s), "1 empty files left out"));
    t->o.include = (qn_strings){(const char *const[]){"*.c"}, 1};
    t->o.exclude = (qn_strings){(const char *const[]){"build"}, 1};
    letters(t, got);
    assert_string_equal(got, "a|b|d|e");
    t->o.include = (qn_strings){(const char *const[]){"x/**/*.c"}, 1};
    letters(t, got);
    assert_string_equal(got, "d|e");
    t->o.include = (qn_strings){(const char *const[]){"x/*.c", "?.h"}, 2};
    letters(t, got);
    assert_string_equal(got, "h|d");
    t->o.include = (qn_strings){(const char *const[]){"*.py"}, 1};
    expect_error(t, QN_ERR_DATA,
                 "found no file to read in this directory that include and exclude");
    t->o.include = t->o.exclude = (qn_strings){0};
    put(t, 0, "tree/[ab].c", NULL);
    letters(t, got);
    assert_string_equal(got, "a|b");
    put(t, 0, "tree/z*.c", NULL);
    expect_error(t, QN_ERR_DATA, "found no file of such a name");
}

static void directories_nest_64_deep(void **state) {
    fixture *t = *state;
    char path[600];
    int n = snprintf(path, sizeof path, "%s/d", t->dir);
    put(t, 0, "d", NULL);
    for (int depth = 0; depth < 66; depth++) {
        assert_int_equal(mkdir(path, 0700), 0);
        n += snprintf(path + n, sizeof path - (size_t)n, "/d");
    }
    expect_error(t, QN_ERR_DATA, "found more than 64 nested directories");
}

static void by_file_puts_whole_files(void **state) {
    fixture *t = *state;
    enum { FILES = 40 };
    char dir[300], path[400];
    int home[FILES], in_val = 0, in_test = 0;
    snprintf(dir, sizeof dir, "%s/many", t->dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    put(t, 0, "many", NULL);
    t->o.division = QN_DATA_BY_FILE;
    t->o.val_fraction = 0.25;
    t->o.test_fraction = 0.25;
    t->o.block_size = 1;
    t->o.separator = "";
    for (int round = 0; round < 2; round++) { /* the second time with more files */
        for (int i = 0; i < FILES * (round + 1); i++) {
            char text[3] = {(char)(1 + i), (char)(1 + i), 0};
            snprintf(path, sizeof path, "%s/f%03d", dir, i);
            write_file(path, text, 2);
        }
        reopen(t);
        int found[2 * FILES] = {0};
        static int32_t x[MOST], y[MOST];
        for (int s = 1; s < QN_SPLIT_COUNT; s++) {
            fetch(t, (qn_split)s, 0, t->s.n[s], x, y);
            for (int64_t i = 0; i < t->s.n[s]; i++) found[x[i] - 1] = s;
            found[y[t->s.n[s] - 1] - 1] = s;
        }
        for (int i = 0; i < FILES; i++) {
            if (round == 0) home[i] = found[i];
            assert_int_equal(home[i], found[i]);
            in_val += home[i] == QN_SPLIT_VAL;
            in_test += home[i] == QN_SPLIT_TEST;
        }
    }
    assert_in_range(in_val / 2, 4, 18);
    assert_in_range(in_test / 2, 4, 18);
    put(t, 0, "many/f000", NULL);
    expect_error(t, QN_ERR_DATA, "the division by file puts none into");
}

/* Train, val and test of a random division are disjoint and together all, in pieces of 16
 * windows. */
static void random_pieces(void **state) {
    fixture *t = *state;
    enum { PIECE = 32, PIECES = 12, N = PIECE * PIECES + 5 };
    char text[N + 1];
    for (int i = 0; i < N; i++) text[i] = (char)(1 + (i / PIECE < PIECES ? i / PIECE : PIECES - 1));
    text[N] = '\0';
    put(t, 0, "a.txt", text);
    t->o.division = QN_DATA_RANDOM;
    t->o.block_size = 2;
    t->o.val_fraction = t->o.test_fraction = 0.25;
    reopen(t);
    int owner[PIECES + 1] = {0};
    int32_t x[2], y[2];
    for (int s = 0; s < QN_SPLIT_COUNT; s++)
        for (int64_t p = 0; p < t->s.n[s]; p++) {
            fetch(t, (qn_split)s, p, 1, x, y);
            assert_true(owner[x[0]] == 0 || owner[x[0]] == s + 1);
            owner[x[0]] = s + 1;
        }
    int count[4] = {0};
    for (int i = 1; i <= PIECES; i++) count[owner[i]]++;
    assert_int_equal(count[0], 0);
    assert_int_equal(count[2], 3);
    assert_int_equal(count[3], 3);
    uint64_t identity = t->s.identity;
    t->o.seed++;
    reopen(t);
    assert_true(t->s.identity != identity);
    t->o.block_size = 40;
    expect_error(t, QN_ERR_DATA, "pieces of 16 * block_size tokens, too few to divide");
}

static void identity_is_that_of_the_content(void **state) {
    fixture *t = *state;
    put(t, 0, "a.txt", "one text of some length");
    reopen(t);
    uint64_t identity = t->s.identity;
    reopen(t);
    assert_true(t->s.identity == identity);
    put(t, 0, "a.txt", "one text of some lengtH");
    reopen(t);
    assert_true(t->s.identity != identity);
    put(t, 0, "b.txt", "one text of some length");
    reopen(t);
    assert_true(t->s.identity != identity);
}

/* ---- bad input ------------------------------------------------------------------------------- */

static void bad_options(void **state) {
    fixture *t = *state;
    put(t, 0, "a.txt", "a text that is long enough");
    put(t, 1, "b.txt", "another text");
    const double bad[] = {-0.1, 1.0, 1.5, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        t->o.val_fraction = bad[i];
        expect_error(t, QN_ERR_CONFIG, "expected numbers from 0 on with a sum below 1");
    }
    t->o.val_fraction = t->o.test_fraction = 0.5;
    expect_error(t, QN_ERR_CONFIG, "sum below 1");
    t->o.test_fraction = 0;
    t->o.paths[QN_SPLIT_VAL] = (qn_strings){t->list + 1, 1};
    expect_error(t, QN_ERR_CONFIG, "both a path and a fraction for the val split");
    t->o.val_fraction = 0;
    t->o.paths[QN_SPLIT_VAL] = (qn_strings){t->list, 1};
    expect_error(t, QN_ERR_DATA, "the same file in two splits");
    t->o.paths[QN_SPLIT_VAL] = (qn_strings){0};
    t->o.block_size = 0;
    expect_error(t, QN_ERR_CONFIG, "block_size 0");
    t->o.block_size = 4;
    t->o.vocab_size = -1;
    expect_error(t, QN_ERR_CONFIG, "vocab_size -1");
    t->o.vocab_size = 0;
    t->o.type = (qn_data_type)17;
    expect_error(t, QN_ERR_CONFIG, "type 17");
    t->o.type = QN_DATA_TEXT;
    t->o.paths[QN_SPLIT_TRAIN].n = 2;
    t->o.vocabulary = QN_VOCAB_CHAR;
    t->o.separator = "-\xFF";
    expect_error(t, QN_ERR_CONFIG, "the separator is not UTF-8 at byte 1");
    t->o.separator = NULL;
    t->o.paths[QN_SPLIT_TRAIN].n = 0;
    expect_error(t, QN_ERR_CONFIG, "found no path");
    t->o.paths[QN_SPLIT_TRAIN].n = 1;
    t->o.val_fraction = 1e-3;
    put(t, 0, "a.txt", "tiny tiny");
    t->o.val_fraction = 0.95;
    expect_error(t, QN_ERR_DATA, "would be empty");
}

static void bad_files(void **state) {
    fixture *t = *state;
    put(t, 0, "absent.txt", NULL);
    expect_error(t, QN_ERR_DATA, "absent.txt: cannot be opened");
    put(t, 0, "empty.txt", "");
    expect_error(t, QN_ERR_DATA, "empty.txt: the file is empty");
    put(t, 0, "pipe", NULL);
    assert_int_equal(mkfifo(t->path[0], 0600), 0);
    expect_error(t, QN_ERR_DATA, "not a regular file");
    put(t, 0, "/../../../../../../../../../../dev/null", NULL);
    expect_error(t, QN_ERR_DATA, "not a regular file");
    put(t, 0, "a.txt", "\x1F\x8B\x08 not text");
    expect_error(t, QN_ERR_DATA, "found gzip data");
    put(t, 0, "one.txt", "only one byte in val:");
    put(t, 1, "val.txt", "x");
    t->o.paths[QN_SPLIT_VAL] = (qn_strings){t->list + 1, 1};
    expect_error(t, QN_ERR_DATA, "found one token in the val split");
}

/* A mapped file that shrinks under a run is an error, not SIGBUS. */
static void shrinking_file(void **state) {
    fixture *t = *state;
    enum { N = 200000 };
    char *text = qn_alloc(N, "text");
    int32_t x[4], y[4];
    void *dst[2] = {x, y};
    int64_t labels;
    memset(text, 'a', N);
    put(t, 0, "a.txt", "");
    write_file(t->path[0], text, N);
    reopen(t);
    fetch(t, QN_SPLIT_TRAIN, 0, 1, x, y);
    assert_int_equal(truncate(t->path[0], 1000), 0);
    assert_int_equal(t->s.fetch(t->s.self, QN_SPLIT_TRAIN, 0, 1, dst, &labels), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "it became shorter during the run"));
    assert_int_equal(t->s.fetch(t->s.self, QN_SPLIT_TEST, 0, 1, dst, &labels), QN_ERR_DATA);
    qn_free(text);
}

/* ---- real data ------------------------------------------------------------------------------- */

static void tinyshakespeare(void **state) {
    fixture *t = *state;
    const char *path = qn_test_data("tinyshakespeare/input.txt.gz");
    if (!path) skip();
    t->list[0] = path;
    t->o.vocabulary = QN_VOCAB_CHAR;
    t->o.block_size = 64;
    t->o.val_fraction = 0.1;
    reopen(t);
    assert_int_equal(t->s.classes, 65);
    assert_non_null(strstr(qn_data_describe(&t->s), "1115394 bytes"));
    assert_non_null(strstr(qn_data_describe(&t->s), "train: 1003854 tokens"));
    assert_non_null(strstr(qn_data_describe(&t->s), "val: 111540 tokens"));
    int64_t n = t->s.n[QN_SPLIT_VAL];
    assert_int_equal(n, (111540 - 1 + 63) / 64);
    int32_t *x = qn_alloc((size_t)n * 64 * 4, "x"), *y = qn_alloc((size_t)n * 64 * 4, "y");
    assert_int_equal(fetch(t, QN_SPLIT_VAL, 0, n, x, y), 111539);
    char text[16] = {0};
    for (int i = 0, bytes; i < 12; i++)
        qn_assert_ok(qn_vocab_decode(t->vocab, x[i], text + i, &bytes));
    assert_string_equal(text, "?\n\nGREMIO:\nG");
    qn_free(x);
    qn_free(y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(golden_windows, setup, teardown),
        cmocka_unit_test_setup_teardown(val_predicts_each_token_once, setup, teardown),
        cmocka_unit_test_setup_teardown(train_epochs, setup, teardown),
        cmocka_unit_test_setup_teardown(train_order_is_a_permutation, setup, teardown),
        cmocka_unit_test_setup_teardown(position_is_random_access, setup, teardown),
        cmocka_unit_test_setup_teardown(smallest_text, setup, teardown),
        cmocka_unit_test_setup_teardown(characters, setup, teardown),
        cmocka_unit_test_setup_teardown(wide_vocabularies, setup, teardown),
        cmocka_unit_test_setup_teardown(directories_are_walked, setup, teardown),
        cmocka_unit_test_setup_teardown(directories_nest_64_deep, setup, teardown),
        cmocka_unit_test_setup_teardown(by_file_puts_whole_files, setup, teardown),
        cmocka_unit_test_setup_teardown(random_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(identity_is_that_of_the_content, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_options, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_files, setup, teardown),
        cmocka_unit_test_setup_teardown(shrinking_file, setup, teardown),
        cmocka_unit_test_setup_teardown(tinyshakespeare, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
