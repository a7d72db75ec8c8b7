/* test_checkpoint.c — checkpoints: round trip, digests, fallback, retention, writer. */
#include "tests/checkpoint_helpers.h"

#include "io/checkpoint_writer.h"
#include "io/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char other_id[] = "ffffffffffffffffffffffffffffffff";

/* A model with every dtype, a scalar, an empty tensor and one of several chunks. */
enum { N_MODEL = 8, N_STATE = 2, BIG = 700000 };

typedef struct fixture {
    float weight[6], big[BIG], moment[6];
    double f64[2];
    uint16_t bf16[4], f16[3];
    int32_t i32[2];
    int64_t i64, count;
    uint8_t u8[5];
    qn_named model[N_MODEL], state[N_STATE];
} fixture;

static fixture *fixture_make(int seed) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    for (int i = 0; i < BIG; i++) f->big[i] = (float)(seed * 1000 + i % 997);
    for (int i = 0; i < 6; i++) f->weight[i] = f->moment[i] = (float)seed + 0.5f * (float)i;
    f->weight[5] = NAN; /* bits are kept, whatever they are */
    f->f64[1] = seed + 0.1;
    for (int i = 0; i < 4; i++) f->bf16[i] = qn_f32_to_bf16((float)(seed + i));
    for (int i = 0; i < 3; i++) f->f16[i] = qn_f32_to_f16((float)(seed - i));
    f->i32[1] = -seed;
    f->i64 = INT64_MIN + 1 + seed;
    f->count = seed;
    f->u8[4] = (uint8_t)seed;
    f->model[0] = named("wte.weight", f->weight, QN_F32, QN_SHAPE(2, 3));
    f->model[1] = named("blocks.10.big", f->big, QN_F32, QN_SHAPE(700, 1000));
    f->model[2] = named("blocks.9.bf16", f->bf16, QN_BF16, QN_SHAPE(4, 1, 1));
    f->model[3] = named("blocks.9.f16", f->f16, QN_F16, QN_SHAPE(3));
    f->model[4] = named("f64", f->f64, QN_F64, QN_SHAPE(2));
    f->model[5] = named("u8", f->u8, QN_U8, QN_SHAPE(5));
    f->model[6] = named("empty", NULL, QN_F32, QN_SHAPE(0, 7));
    f->model[7] = named("i32", f->i32, QN_I32, QN_SHAPE(1, 2));
    f->state[0] = named("wte.weight", f->moment, QN_F32, QN_SHAPE(6)); /* a name of its own list */
    f->state[1] = named("count", &f->count, QN_I64, 0, NULL);
    return f;
}

static void save_as(const char *dir, int64_t step, const fixture *f,
                    const qn_checkpoint_info *info) {
    char path[QN_PATH_MAX], expected[QN_PATH_MAX];
    qn_assert_ok(
        qn_checkpoint_save(dir, info, f->model, N_MODEL, f->state, N_STATE, path, sizeof path));
    qn_assert_ok(qn_checkpoint_path(dir, step, expected, sizeof expected));
    assert_string_equal(path, expected);
}

static void save(const char *dir, int64_t step) {
    fixture *f = fixture_make((int)step);
    qn_checkpoint_info info = info_of(step);
    save_as(dir, step, f, &info);
    free(f);
}

/* Newest good checkpoint, fully loaded, is this step's state bit for bit. */
static void assert_newest(const char *dir, int64_t step, const char *warned) {
    char warning[QN_MESSAGE_MAX];
    qn_checkpoint *c = NULL;
    fixture *want = fixture_make((int)step), *got = fixture_make(-1);
    qn_assert_ok(qn_checkpoint_resume(dir, run_id, got->model, N_MODEL, got->state, N_STATE,
                                      warning, sizeof warning, &c));
    assert_non_null(c);
    assert_int_equal(qn_checkpoint_get_info(c)->step, step);
    assert_memory_equal(got->weight, want->weight, sizeof want->weight);
    assert_memory_equal(got->big, want->big, sizeof want->big);
    assert_memory_equal(got->bf16, want->bf16, sizeof want->bf16);
    assert_memory_equal(got->f16, want->f16, sizeof want->f16);
    assert_memory_equal(got->f64, want->f64, sizeof want->f64);
    assert_memory_equal(got->u8, want->u8, sizeof want->u8);
    assert_memory_equal(got->i32, want->i32, sizeof want->i32);
    assert_memory_equal(got->moment, want->moment, sizeof want->moment);
    assert_int_equal(got->count, want->count);
    if (!warned) assert_string_equal(warning, "");
    if (warned && !strstr(warning, warned)) fail_msg("no \"%s\" in: %s", warned, warning);
    qn_checkpoint_close(c);
    free(want);
    free(got);
}

static void flip_bit(const char *path, long offset, int bit) {
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, offset, offset < 0 ? SEEK_END : SEEK_SET), 0);
    int c = fgetc(f);
    assert_true(c != EOF);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    assert_int_equal(fputc(c ^ 1 << bit, f), c ^ 1 << bit);
    assert_int_equal(fclose(f), 0);
}

/* ---- round trip ------------------------------------------------------------------------------ */

static void test_round_trip(void **state) {
    (void)state;
    char *dir = qn_test_dir(), digest[QN_DIGEST_SIZE], live[QN_DIGEST_SIZE], target[64] = "";
    qn_checkpoint *c = NULL;
    save(dir, 40);
    assert_newest(dir, 40, NULL);
    qn_assert_ok(qn_checkpoint_open(file_in(dir, 40, ""), QN_CHECKPOINT_MODEL, &c));
    qn_checkpoint_info want = info_of(40);
    const qn_checkpoint_info *info = qn_checkpoint_get_info(c);
    assert_string_equal(info->run_id, want.run_id);
    assert_string_equal(info->state, want.state);
    assert_string_equal(info->metadata, want.metadata);
    assert_string_equal(info->config_digest, want.config_digest);
    assert_string_equal(info->build_id, want.build_id);
    assert_int_equal(info->world_size, 1);
    assert_int_equal(qn_checkpoint_count(c, QN_CHECKPOINT_MODEL), N_MODEL);
    assert_string_equal(qn_checkpoint_tensor(c, QN_CHECKPOINT_MODEL, 0).name, "blocks.10.big");
    assert_int_equal(qn_checkpoint_tensor(c, QN_CHECKPOINT_MODEL, 0).t.shape[1], 1000);
    fixture *f = fixture_make(40);
    qn_assert_ok(qn_checkpoint_digest(c, digest));
    qn_assert_ok(qn_state_digest(40, want.state, f->model, N_MODEL, f->state, N_STATE, live));
    assert_string_equal(digest, live);
    assert_refused(qn_checkpoint_load(c, QN_CHECKPOINT_STATE, f->state, N_STATE), QN_ERR_INTERNAL,
                   "state.h5 was not opened");
    qn_checkpoint_close(c);
    free(f);
    qn_assert_ok(qn_path_format(path_buffer, sizeof path_buffer, "%s/checkpoints/last", dir));
    assert_int_equal(readlink(path_buffer, target, sizeof target - 1), 13);
    assert_string_equal(target, "step-00000040");
    qn_test_dir_remove(dir);
}

/* The digest changes with everything that determines the next step and with nothing else. */
static void test_digest(void **state) {
    (void)state;
    char base[QN_DIGEST_SIZE], d[QN_DIGEST_SIZE];
    fixture *f = fixture_make(3);
    qn_assert_ok(qn_state_digest(3, "s", f->model, N_MODEL, f->state, N_STATE, base));
    qn_named swapped[N_MODEL];
    for (int i = 0; i < N_MODEL; i++) swapped[i] = f->model[N_MODEL - 1 - i];
    qn_assert_ok(qn_state_digest(3, "s", swapped, N_MODEL, f->state, N_STATE, d));
    assert_string_equal(base, d); /* order of the lists is nothing */
    qn_assert_ok(qn_state_digest(4, "s", f->model, N_MODEL, f->state, N_STATE, d));
    assert_string_not_equal(base, d);
    qn_assert_ok(qn_state_digest(3, "t", f->model, N_MODEL, f->state, N_STATE, d));
    assert_string_not_equal(base, d);
    qn_assert_ok(qn_state_digest(3, "s", f->model, N_MODEL - 1, f->state, N_STATE, d));
    assert_string_not_equal(base, d);
    f->u8[0] ^= 1;
    qn_assert_ok(qn_state_digest(3, "s", f->model, N_MODEL, f->state, N_STATE, d));
    assert_string_not_equal(base, d);
    f->u8[0] ^= 1;
    f->model[5].t = qn_tensor_make(f->u8, QN_U8, QN_SHAPE(5, 1));
    qn_assert_ok(qn_state_digest(3, "s", f->model, N_MODEL, f->state, N_STATE, d));
    assert_string_not_equal(base, d);
    free(f);
}

/* Equal states give equal files, whatever the clock says; saving a step again replaces it. */
static void test_replace(void **state) {
    (void)state;
    char *dir = qn_test_dir(), *first, *second;
    int64_t n_first, n_second;
    save(dir, 7);
    qn_assert_ok(qn_file_read(file_in(dir, 7, "model.h5"), 1 << 26, &first, &n_first));
    flip_bit(file_in(dir, 7, "model.h5"), 5000, 3);
    save(dir, 7);
    assert_newest(dir, 7, NULL);
    qn_assert_ok(qn_file_read(file_in(dir, 7, "model.h5"), 1 << 26, &second, &n_second));
    assert_int_equal(n_first, n_second);
    assert_memory_equal(first, second, (size_t)n_first);
    qn_free(first);
    qn_free(second);
    assert_false(qn_path_exists(file_in(dir, 7, "../step-00000007.tmp")));
    qn_test_dir_remove(dir);
}

/* RUN/final holds the model alone; exporting again replaces it. */
static void test_export(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    fixture *f = fixture_make(5), *got = fixture_make(-1);
    qn_checkpoint_info info = info_of(5);
    for (int round = 0; round < 2; round++) {
        qn_checkpoint *c = NULL;
        f->u8[0] = (uint8_t)(100 + round);
        qn_assert_ok(qn_checkpoint_export(dir, &info, f->model, N_MODEL));
        qn_assert_ok(qn_path_format(path_buffer, sizeof path_buffer, "%s/final", dir));
        qn_assert_ok(qn_checkpoint_open(path_buffer, QN_CHECKPOINT_ALL, &c));
        assert_int_equal(qn_checkpoint_count(c, QN_CHECKPOINT_STATE), 0);
        qn_assert_ok(qn_checkpoint_load(c, QN_CHECKPOINT_MODEL, got->model, N_MODEL));
        assert_int_equal(got->u8[0], 100 + round);
        assert_memory_equal(got->big, f->big, sizeof f->big);
        qn_checkpoint_close(c);
    }
    qn_assert_ok(qn_path_format(path_buffer, sizeof path_buffer, "%s/final.tmp", dir));
    assert_false(qn_path_exists(path_buffer));
    free(f);
    free(got);
    qn_test_dir_remove(dir);
}

static void test_bad_arguments(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    fixture *f = fixture_make(1);
    qn_checkpoint_info info = info_of(1);
    qn_named t[2] = {f->model[0], f->model[0]};
#define SAVE() qn_checkpoint_save(dir, &info, t, 2, NULL, 0, NULL, 0)
    assert_refused(SAVE(), QN_ERR_INTERNAL, "two tensors are named wte.weight");
    static const char *const bad[] = {"", ".", "a/b", "a b", "a\"b", "a\\b", "\x7f", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        t[1].name = bad[i];
        assert_refused(SAVE(), QN_ERR_INTERNAL, "not allowed");
    }
    t[1].name = "ok";
    t[1].t.stride[0] = 5;
    assert_refused(SAVE(), QN_ERR_INTERNAL, "not contiguous");
    t[1] = (qn_named){"ok", qn_tensor_make(NULL, QN_F32, QN_SHAPE(1))};
    assert_refused(SAVE(), QN_ERR_INTERNAL, "no data");
    t[1] = f->model[1];
    info.run_id = "short";
    assert_refused(SAVE(), QN_ERR_INTERNAL, "32 hexadecimal");
    info = info_of(-1);
    assert_refused(SAVE(), QN_ERR_INTERNAL, "impossible");
#undef SAVE
    assert_false(qn_path_exists(file_in(dir, 1, "..")));
    free(f);
    qn_test_dir_remove(dir);
}

/* ---- what a load refuses --------------------------------------------------------------------- */

static void test_model_differs(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    qn_checkpoint *c = NULL;
    save(dir, 1);
    qn_assert_ok(qn_checkpoint_open(file_in(dir, 1, ""), QN_CHECKPOINT_ALL, &c));
    fixture *f = fixture_make(9), *same = fixture_make(9);
    f->model[0].t = qn_tensor_make(f->weight, QN_F32, QN_SHAPE(3, 2));
    f->model[4].t.dtype = QN_I64;
    f->model[7].name = "i33";
    qn_status status = qn_checkpoint_load(c, QN_CHECKPOINT_MODEL, f->model, N_MODEL);
    assert_refused(status, QN_ERR_SHAPE, "4 tensors differ");
    assert_refused(status, QN_ERR_SHAPE, "f64 is f64[2], expected i64[2]");
    assert_refused(status, QN_ERR_SHAPE, "unexpected i32");
    assert_refused(status, QN_ERR_SHAPE, "missing i33");
    assert_refused(status, QN_ERR_SHAPE, "wte.weight is f32[2,3], expected f32[3,2]");
    assert_memory_equal(f->weight, same->weight, sizeof f->weight); /* untouched */
    qn_checkpoint_close(c);
    free(f);
    free(same);
    qn_test_dir_remove(dir);
}

static void test_fallback(void **state) {
    (void)state;
    char *dir = qn_test_dir(), warning[4096];
    qn_checkpoint *c = NULL;
    fixture *f = fixture_make(0);
    qn_assert_ok(
        qn_checkpoint_find(dir, run_id, INT64_MAX, QN_CHECKPOINT_ALL, warning, sizeof warning, &c));
    assert_null(c); /* nothing there: begin */
    for (int step = 10; step <= 60; step += 10) save(dir, step);
    qn_checkpoint_info foreign = info_of(70);
    foreign.run_id = other_id;
    save_as(dir, 70, f, &foreign);
    assert_newest(dir, 60, "written by run ffff");
    flip_bit(file_in(dir, 60, "state.h5"), -1, 0);
    assert_newest(dir, 50, "step-00000060/state.h5: its SHA-256");
    assert_int_equal(truncate(file_in(dir, 50, "model.h5"), 100), 0);
    assert_newest(dir, 40, "found 100 bytes");
    flip_bit(file_in(dir, 40, "manifest.json"), 100, 1);
    assert_newest(dir, 30, "not what its last line says");
    assert_int_equal(unlink(file_in(dir, 30, "manifest.json")), 0);
    assert_newest(dir, 20, "No such file");
    char from[QN_PATH_MAX];
    snprintf(from, sizeof from, "%s", file_in(dir, 10, ""));
    qn_assert_ok(qn_tree_remove(file_in(dir, 20, "")));
    assert_int_equal(rename(from, file_in(dir, 20, "")), 0);
    qn_status status = qn_checkpoint_resume(dir, run_id, f->model, N_MODEL, f->state, N_STATE,
                                            warning, sizeof warning, &c);
    assert_refused(status, QN_ERR_FORMAT, "none of 6 checkpoints can be used");
    assert_null(c);
    assert_non_null(strstr(warning, "holds step 10"));
    free(f);
    qn_test_dir_remove(dir);
}

static void test_set_aside(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    for (int step = 1; step <= 4; step++) save(dir, step);
    qn_assert_ok(qn_checkpoint_set_aside(dir, 2));
    assert_newest(dir, 2, NULL);
    assert_true(qn_path_exists(file_in(dir, 2, "../step-00000004.aside/model.h5")));
    save(dir, 4);
    qn_assert_ok(qn_checkpoint_set_aside(dir, 3)); /* over the one of before */
    assert_newest(dir, 2, NULL);
    qn_test_dir_remove(dir);
}

/* ---- retention ------------------------------------------------------------------------------- */

static int count_steps(const char *dir, int64_t newest) {
    int64_t *steps;
    int n;
    qn_assert_ok(qn_checkpoint_list(dir, &steps, &n));
    if (n) assert_int_equal(steps[0], newest);
    qn_free(steps);
    return n;
}

static void test_retention(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    const int64_t best = 2;
    for (int step = 1; step <= 6; step++) save(dir, step);
    qn_assert_ok(qn_dir_create(file_in(dir, 1, "../step-1"))); /* not what a save calls it */
    qn_assert_ok(qn_dir_create(file_in(dir, 1, "../step-00000009.tmp")));
    assert_int_equal(count_steps(dir, 6), 6);
    qn_assert_ok(qn_checkpoint_retain(dir, 2, &best, 1));
    assert_int_equal(count_steps(dir, 6), 3); /* 6, 5 and the protected 2 */
    assert_true(qn_path_exists(file_in(dir, 2, "model.h5")));
    qn_assert_ok(qn_checkpoint_retain(dir, 10, NULL, 0));
    assert_int_equal(count_steps(dir, 6), 3);
    /* keep = 1 and the newest is damaged: nothing goes, the newest good one stays */
    flip_bit(file_in(dir, 6, "state.h5"), 60, 0);
    assert_refused(qn_checkpoint_retain(dir, 1, NULL, 0), QN_ERR_FORMAT, "no old checkpoint");
    assert_int_equal(count_steps(dir, 6), 3);
    qn_assert_ok(qn_checkpoint_retain(dir, 2, NULL, 0));
    assert_int_equal(count_steps(dir, 6), 2);
    assert_newest(dir, 5, "SHA-256");
    assert_refused(qn_checkpoint_retain(dir, 0, NULL, 0), QN_ERR_INTERNAL, "keep");
    qn_test_dir_remove(dir);
}

static void test_best_link(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    struct stat s;
    save(dir, 3);
    qn_assert_ok(qn_checkpoint_mark_best(dir, 3));
    assert_int_equal(stat(file_in(dir, 3, "../best/model.h5"), &s), 0);
    qn_assert_ok(qn_checkpoint_mark_best(dir, 4)); /* no such checkpoint */
    assert_false(qn_path_exists(file_in(dir, 3, "../best")));
    qn_assert_ok(qn_checkpoint_mark_best(dir, 4));
    qn_test_dir_remove(dir);
}

/* ---- writer ---------------------------------------------------------------------------------- */

/* Tensors that change right after submit: the checkpoint holds what they were. */
static void run_writer(bool asynchronous) {
    char *dir = qn_test_dir();
    fixture *f = fixture_make(0);
    qn_writer *w = NULL;
    qn_saved saved;
    qn_writer_options o = {.run_dir = dir,
                           .keep = 2,
                           .model = f->model,
                           .n_model = N_MODEL,
                           .state = f->state,
                           .n_state = N_STATE};
    size_t bytes = qn_writer_snapshot_bytes(f->model, N_MODEL, f->state, N_STATE);
    char *snapshot = asynchronous ? malloc(bytes) : NULL;
    o.snapshot = snapshot;
    o.snapshot_bytes = bytes - 1;
    if (snapshot) assert_refused(qn_writer_create(&o, &w), QN_ERR_INTERNAL, "snapshot");
    o.snapshot_bytes = bytes;
    qn_assert_ok(qn_writer_create(&o, &w));
    assert_false(qn_writer_result(w, true, &saved));
    for (int step = 1; step <= 5; step++) {
        fixture *now = fixture_make(step);
        memcpy(f, now, offsetof(fixture, model));
        free(now);
        qn_checkpoint_info info = info_of(step);
        qn_assert_ok(qn_writer_submit(w, &info, step > 1 ? 2 : -1));
        memset(f, 0xAB, offsetof(fixture, model));
        if (step == 3) continue; /* a success nobody asks about is no error */
        assert_true(qn_writer_result(w, true, &saved));
        assert_true(saved.announced);
        assert_int_equal(saved.step, step);
        assert_int_equal(saved.error.status, QN_OK);
        qn_assert_ok(qn_checkpoint_path(dir, step, path_buffer, sizeof path_buffer));
        assert_string_equal(saved.path, path_buffer);
        assert_false(qn_writer_result(w, true, &saved));
    }
    qn_assert_ok(qn_writer_finish(w));
    assert_newest(dir, 5, NULL);
    assert_int_equal(count_steps(dir, 5), 3); /* 5, 4 and best */
    assert_true(qn_path_exists(file_in(dir, 2, "../best")));
    free(snapshot);
    free(f);
    qn_test_dir_remove(dir);
}

static void test_writer_thread(void **state) {
    (void)state;
    run_writer(true);
}

static void test_writer_synchronous(void **state) {
    (void)state;
    run_writer(false);
}

/* An error of the thread comes up at the next call, once, and the writer goes on. */
static void test_writer_error(void **state) {
    (void)state;
    char *dir = qn_test_dir();
    fixture *f = fixture_make(1);
    qn_writer *w = NULL;
    qn_saved saved;
    size_t bytes = qn_writer_snapshot_bytes(f->model, N_MODEL, f->state, N_STATE);
    qn_writer_options o = {.run_dir = dir,
                           .model = f->model,
                           .n_model = N_MODEL,
                           .state = f->state,
                           .n_state = N_STATE,
                           .snapshot = malloc(bytes),
                           .snapshot_bytes = bytes};
    qn_checkpoint_info info = info_of(1);
    qn_assert_ok(qn_path_format(path_buffer, sizeof path_buffer, "%s/checkpoints", dir));
    qn_assert_ok(qn_file_create(path_buffer, "x", 1)); /* a file where the directory should be */
    qn_assert_ok(qn_writer_create(&o, &w));
    qn_assert_ok(qn_writer_submit(w, &info, -1));
    assert_refused(qn_writer_submit(w, &info, -1), QN_ERR_IO, "checkpoints");
    qn_assert_ok(qn_writer_submit(w, &info, -1));
    assert_true(qn_writer_result(w, true, &saved));
    assert_false(saved.announced);
    assert_int_equal(saved.error.status, QN_ERR_IO);
    assert_non_null(strstr(saved.error.message, "checkpoints"));
    qn_assert_ok(qn_writer_submit(w, &info, -1));
    assert_refused(qn_writer_finish(w), QN_ERR_IO, "checkpoints");
    qn_assert_ok(qn_writer_finish(NULL));
    free(o.snapshot);
    free(f);
    qn_test_dir_remove(dir);
}

/* ---- inspect --------------------------------------------------------------------------------- */

static void test_inspect(void **state) {
    (void)state;
    char *dir = qn_test_dir(), *text = NULL;
    qn_checkpoint *c = NULL;
    save(dir, 2);
    qn_assert_ok(qn_checkpoint_open(file_in(dir, 2, ""), QN_CHECKPOINT_ALL, &c));
    qn_assert_ok(qn_checkpoint_inspect(c, false, &text));
    assert_non_null(strstr(text, "blocks.10.big"));
    assert_non_null(strstr(text, "1 non-finite"));
    qn_free(text);
    qn_assert_ok(qn_checkpoint_inspect(c, true, &text));
    qn_setup *arena = NULL;
    cJSON *root = NULL;
    qn_assert_ok(qn_setup_create("test", &arena));
    qn_assert_ok(qn_json_parse(arena, text, strlen(text), &(qn_json_options){0}, &root));
    const cJSON *tensors = qn_json_get(root, "tensors"), *item;
    int seen = 0;
    cJSON_ArrayForEach(item, tensors) {
        const char *name = qn_json_get(item, "name")->valuestring;
        if (strcmp(name, "wte.weight") == 0 &&
            strcmp(qn_json_get(item, "file")->valuestring, "model.h5") == 0) {
            assert_int_equal(qn_json_get(item, "nonfinite")->valueint, 1);
            assert_true(qn_json_get(item, "min")->valuedouble == 2.0);
            assert_true(qn_json_get(item, "max")->valuedouble == 4.0);
            assert_true(qn_json_get(item, "mean")->valuedouble == 3.0);
            seen++;
        }
        if (strcmp(name, "empty") == 0) {
            assert_true(cJSON_IsNull(qn_json_get(item, "min")));
            seen++;
        }
    }
    assert_int_equal(seen, 2);
    assert_int_equal(cJSON_GetArraySize(tensors), N_MODEL + N_STATE);
    qn_setup_free(arena);
    qn_free(text);
    qn_checkpoint_close(c);
    qn_test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_digest),
        cmocka_unit_test(test_replace),       cmocka_unit_test(test_export),
        cmocka_unit_test(test_bad_arguments), cmocka_unit_test(test_model_differs),
        cmocka_unit_test(test_fallback),      cmocka_unit_test(test_set_aside),
        cmocka_unit_test(test_retention),     cmocka_unit_test(test_best_link),
        cmocka_unit_test(test_writer_thread), cmocka_unit_test(test_writer_synchronous),
        cmocka_unit_test(test_writer_error),  cmocka_unit_test(test_inspect),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
