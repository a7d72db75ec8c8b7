/* test_safetensors.c — every rule of the format, the reference's bytes, conversions, shards, and
 * what is refused. */
#include "io/file.h"
#include "io/safetensors.h"
#include "io/sha256.h"
#include "tests/harness.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FOLDER QUERN_SOURCE_DIR "/tests/hostile/safetensors"

static const char *in(const char *dir, const char *name) {
    static char path[4][QN_PATH_MAX];
    static int turn;
    turn = (turn + 1) % 4;
    assert_true(snprintf(path[turn], QN_PATH_MAX, "%s/%s", dir, name) < QN_PATH_MAX);
    return path[turn];
}

static void put(const char *path, const void *bytes, size_t n) {
    qn_assert_ok(qn_file_replace(path, bytes, n));
}

/* ---- reading --------------------------------------------------------------------------------- */

static void test_hostile_files(void **state) {
    (void)state;
    int n = 0;
    DIR *d = opendir(FOLDER);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        bool good = strncmp(e->d_name, "ok-", 3) == 0;
        char *bytes;
        int64_t size;
        qn_safetensors *s = NULL, *opened = NULL;
        qn_assert_ok(qn_file_read(in(FOLDER, e->d_name), 4096, &bytes, &size));
        qn_status got = qn_safetensors_parse(e->d_name, bytes, size, &s);
        bool named = good || strstr(qn_error_message(), e->d_name);
        if (got != (good ? QN_OK : QN_ERR_FORMAT) || !named)
            fail_msg("%s: got %s: %s", e->d_name, qn_status_name(got), qn_error_message());
        assert_int_equal(qn_safetensors_open(in(FOLDER, e->d_name), &opened), got);
        qn_safetensors_close(s);
        qn_safetensors_close(opened);
        qn_free(bytes);
        n++;
    }
    closedir(d);
    assert_in_range(n, 69, 10000);
}

static void test_values(void **state) {
    (void)state;
    qn_safetensors *s;
    qn_assert_ok(qn_safetensors_open(FOLDER "/ok-unaligned", &s));
    assert_int_equal(qn_safetensors_count(s), 2);
    const qn_safetensor *b = qn_safetensors_find(s, "b");
    assert_non_null(b);
    assert_null(qn_safetensors_find(s, "c"));
    char text[64];
    assert_string_equal(qn_safetensor_describe(b, text, sizeof text), "BF16[1]");
    float f = 0;
    qn_assert_ok(qn_safetensor_read(b, 0, 1, QN_F32, &f));
    assert_true(f == 1.0f);
    assert_int_equal(qn_safetensor_read(b, 0, 1, QN_I32, &f), QN_ERR_DTYPE);
    assert_int_equal(qn_safetensor_read(b, 0, 2, QN_F32, &f), QN_ERR_INTERNAL);
    const qn_safetensor *a = qn_safetensors_get(s, 0);
    assert_string_equal(a->name, "a");
    assert_int_equal(qn_safetensor_read(a, 0, 1, QN_F32, &f), QN_ERR_DTYPE);
    qn_safetensors_close(s);

    qn_assert_ok(qn_safetensors_open(FOLDER "/ok-metadata", &s));
    assert_string_equal(qn_safetensors_metadata(s, "format"), "pt");
    assert_null(qn_safetensors_metadata(s, "y"));
    qn_safetensors_close(s);
}

/* Every float dtype to every other, through values that each of them holds exactly, and rounding
 * where it does not. */
static void test_conversions(void **state) {
    (void)state;
    static const qn_dtype dtype[] = {QN_F32, QN_F64, QN_BF16, QN_F16};
    static const double value[] = {1.0, -2.5, 0.0, 384.0, INFINITY};
    char *dir = qn_test_dir();
    for (int from = 0; from < 4; from++) {
        double memory[5];
        qn_safetensors_item item = {"x", qn_tensor_make(memory, dtype[from], QN_SHAPE(5))};
        for (int i = 0; i < 5; i++) qn_tensor_set(&item.t, i, value[i]);
        qn_safetensors_output o = {.item = &item, .n = 1};
        qn_safetensors *s;
        qn_assert_ok(qn_safetensors_write(in(dir, "x.safetensors"), &o));
        qn_assert_ok(qn_safetensors_open(in(dir, "x.safetensors"), &s));
        for (int to = 0; to < 4; to++) {
            double out[3];
            qn_tensor t = qn_tensor_make(out, dtype[to], QN_SHAPE(3));
            qn_assert_ok(qn_safetensor_read(qn_safetensors_get(s, 0), 1, 3, dtype[to], out));
            for (int i = 0; i < 3; i++) assert_true(qn_tensor_get(&t, i) == value[i + 1]);
        }
        qn_safetensors_close(s);
    }
    qn_test_dir_remove(dir);
}

static void test_round_to_even(void **state) {
    (void)state;
    /* 1 + 2^-8 and 1 + 3 * 2^-8 lie half way between two bf16 */
    float memory[2] = {1.00390625f, 1.01171875f};
    uint16_t out[2];
    qn_safetensor t = {.name = "x",
                       .dtype = "F32",
                       .known = true,
                       .type = QN_F32,
                       .count = 2,
                       .bytes = 8,
                       .data = (const unsigned char *)memory,
                       .file = "f"};
    qn_assert_ok(qn_safetensor_read(&t, 0, 2, QN_BF16, out));
    assert_int_equal(out[0], 0x3F80);
    assert_int_equal(out[1], 0x3F82);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The bytes the reference writes for these tensors, by their SHA-256. */
static void test_reference_bytes(void **state) {
    (void)state;
    float b[2] = {1.0f, -2.5f};
    uint16_t a[4] = {0x3F80, 0x4000, 0x4080, 0x4100};
    qn_safetensors_item item[] = {{"a", qn_tensor_make(a, QN_BF16, QN_SHAPE(2, 2))},
                                  {"b", qn_tensor_make(b, QN_F32, QN_SHAPE(2))}};
    qn_safetensors_output o = {.item = item, .n = 2};
    char *dir = qn_test_dir(), *bytes, hex[QN_SHA256_HEX];
    int64_t size;
    qn_assert_ok(qn_safetensors_write(in(dir, "x.safetensors"), &o));
    qn_assert_ok(qn_file_read(in(dir, "x.safetensors"), 4096, &bytes, &size));
    qn_sha256_hex(bytes, (size_t)size, hex);
    assert_int_equal(size, 168);
    assert_string_equal(hex, "28572badec740312a0b9d01ac382683786b140e367135cf2ed81510da962199a");
    qn_free(bytes);
    qn_test_dir_remove(dir);
}

static qn_status count_up(void *self, int64_t i, int64_t first, int64_t count, void *out) {
    if (self && i == *(int64_t *)self) return qn_fail(QN_ERR_IO, "asked to fail");
    for (int64_t k = 0; k < count; k++) ((float *)out)[k] = (float)(1000 * i + first + k);
    return QN_OK;
}

/* Three shards, read back through the index; a tensor larger than a block of the writer. */
static void test_shards(void **state) {
    (void)state;
    enum { LARGE = (4 << 20) / 4 + 7 };
    qn_safetensors_item item[] = {{"c", qn_tensor_make(NULL, QN_F32, QN_SHAPE(3))},
                                  {"a", qn_tensor_make(NULL, QN_F32, QN_SHAPE(LARGE))},
                                  {"b", qn_tensor_make(NULL, QN_F32, QN_SHAPE(0))},
                                  {"d", qn_tensor_make(NULL, QN_F32, QN_SHAPE(1, 2))}};
    qn_safetensors_output o = {.item = item, .n = 4, .read = count_up};
    char *dir = qn_test_dir();
    qn_safetensors *s;
    qn_assert_ok(qn_safetensors_write_model(dir, &o, 12));
    assert_true(qn_path_exists(in(dir, "model-00003-of-00003.safetensors")));
    assert_false(qn_path_exists(in(dir, "model.safetensors")));
    qn_assert_ok(qn_safetensors_open(dir, &s));
    assert_int_equal(qn_safetensors_count(s), 4);
    float last[2];
    qn_assert_ok(qn_safetensor_read(qn_safetensors_find(s, "a"), LARGE - 2, 2, QN_F32, last));
    assert_true(last[0] == 1000 + LARGE - 2 && last[1] == 1000 + LARGE - 1);
    assert_non_null(strstr(qn_safetensors_find(s, "d")->file, "model-00003-of-00003"));
    qn_safetensors_close(s);
    /* a shard that is missing, and one that holds what the index does not name */
    assert_int_equal(unlink(in(dir, "model-00003-of-00003.safetensors")), 0);
    assert_int_equal(qn_safetensors_open(dir, &s), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "model-00003-of-00003.safetensors is missing"));
    item[3].name = "e";
    qn_safetensors_output one = {.item = item + 3, .n = 1, .read = count_up};
    qn_assert_ok(qn_safetensors_write(in(dir, "model-00003-of-00003.safetensors"), &one));
    assert_int_equal(qn_safetensors_open(dir, &s), QN_ERR_FORMAT);
    assert_non_null(strstr(qn_error_message(), "tensor \"b\" is not in model-00003"));
    /* a failure in the middle leaves nothing behind */
    int64_t bad = 1;
    o.self = &bad;
    assert_int_equal(qn_safetensors_write(in(dir, "y.safetensors"), &o), QN_ERR_IO);
    DIR *d = opendir(dir);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) assert_int_not_equal(e->d_name[0], 'y');
    closedir(d);
    qn_test_dir_remove(dir);
}

static void test_index_names(void **state) {
    (void)state;
    static const char *const bad[] = {
        "{\"weight_map\": {\"a\": \"../x.safetensors\"}}",
        "{\"weight_map\": {\"a\": 1}}",
        "{\"weight_map\": {\"a\": \"x.bin\"}}",
        "{\"weight_map\": {}}",
        "{}",
        "[",
        "{\"weight_map\": {\"a\": \"x.safetensors\", \"a\": \"x.safetensors\"}}"};
    char *dir = qn_test_dir();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qn_safetensors *s;
        put(in(dir, "model.safetensors.index.json"), bad[i], strlen(bad[i]));
        qn_status got = qn_safetensors_open(dir, &s);
        if (got != QN_ERR_FORMAT || !strstr(qn_error_message(), "index.json"))
            fail_msg("%s: got %s: %s", bad[i], qn_status_name(got), qn_error_message());
    }
    qn_test_dir_remove(dir);
}

static void test_pickles(void **state) {
    (void)state;
    static const char zip[] = "PK\3\4\0\0\x08\x08 data.pkl", bare[] = "\x80\x02}q\0(X\1\0\0";
    const struct {
        const char *name, *bytes;
        size_t n;
    } row[] = {{"pytorch_model.bin", "x", 1},
               {"a.pt", zip, sizeof zip},
               {"b.pth", "x", 1},
               {"c.ckpt", "x", 1},
               {"d.safetensors", zip, sizeof zip},
               {"e.safetensors", bare, sizeof bare}};
    char *dir = qn_test_dir();
    qn_safetensors *s;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        put(in(dir, row[i].name), row[i].bytes, row[i].n);
        assert_int_equal(qn_safetensors_open(in(dir, row[i].name), &s), QN_ERR_UNSUPPORTED);
        assert_non_null(strstr(qn_error_message(), "pickle"));
    }
    assert_int_equal(qn_safetensors_open(dir, &s), QN_ERR_UNSUPPORTED);
    assert_non_null(strstr(qn_error_message(), "pytorch_model.bin"));
    qn_test_dir_remove(dir);
}

static void test_inspect(void **state) {
    (void)state;
    qn_safetensors *s;
    char *text;
    qn_assert_ok(qn_safetensors_open(FOLDER "/ok-nan", &s));
    qn_assert_ok(qn_safetensors_inspect(s, true, &text));
    assert_non_null(strstr(text, "{\"name\": \"test\", \"dtype\": \"F32\", \"shape\": [2], "
                                 "\"min\": null, \"max\": null, \"mean\": null, "
                                 "\"nonfinite\": 2}"));
    qn_free(text);
    qn_assert_ok(qn_safetensors_inspect(s, false, &text));
    assert_non_null(strstr(text, "1 tensors, 2 elements, 8 bytes"));
    qn_free(text);
    qn_safetensors_close(s);
}

/* ---- real files ------------------------------------------------------------------------------ */

static void test_real_files(void **state) {
    (void)state;
    static const char *const row[] = {"weights/gpt2_capp_236k/model.safetensors",
                                      "weights/llama_tinystories_656k/model.safetensors",
                                      "weights/bert_tiniest_random/model.safetensors"};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const char *path = qn_test_data(row[i]);
        if (!path) skip();
        qn_safetensors *s;
        qn_assert_ok(qn_safetensors_open(path, &s));
        assert_in_range(qn_safetensors_count(s), 10, 1000);
        qn_safetensors_close(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_files),   cmocka_unit_test(test_values),
        cmocka_unit_test(test_conversions),     cmocka_unit_test(test_round_to_even),
        cmocka_unit_test(test_reference_bytes), cmocka_unit_test(test_shards),
        cmocka_unit_test(test_index_names),     cmocka_unit_test(test_pickles),
        cmocka_unit_test(test_inspect),         cmocka_unit_test(test_real_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
