/* test_tfevents.c — TensorBoard event files, byte for byte, and cutting them back to a step.
 *
 * tests/golden/tfevents.bin is what `write_example` writes. tests/golden/make_tfevents.py has had
 * it read by TensorBoard's own reader; `test_tfevents --write DIR` writes it anew.
 */
#include "io/file.h"
#include "io/metrics_text.h"
#include "io/tfevents.h"
#include "io/tfevents_record.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char directory[] = "/tmp/quern_tfevents_XXXXXX";
static double wall_seconds;

static double fake_wall(void) { return wall_seconds += 0.5; }

/* An empty directory for one test. */
static const char *fresh_directory(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(qn_tree_remove(path), QN_OK);
    return path;
}

static char *slurp(const char *path, int64_t *bytes) {
    char *data;
    assert_int_equal(qn_file_read(path, 1 << 24, &data, bytes), QN_OK);
    return data;
}

/* The path of the only event file in a directory. */
static const char *only_file(const char *dir) {
    static char path[512];
    int found = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        found++;
    }
    closedir(d);
    assert_int_equal(found, 1);
    return path;
}

static void emit_train(const qn_sink *s, int64_t step, double loss) {
    qn_record r = {.step = step, .epoch = 0.5};
    qn_record_add(&r, "train/loss", loss);
    qn_record_add(&r, "train/learning_rate", 1e-3);
    s->emit(s->self, QN_EVENT_TRAIN, &r, NULL);
}

static qn_status open_sink(const char *dir, const char *config, qn_sink *s) {
    wall_seconds = 1700000000;
    qn_tfevents_options o = {
        .directory = dir, .config_json = config, .wall = fake_wall, .host = "host", .pid = 42};
    return qn_sink_tfevents(&o, s);
}

static qn_status write_example(const char *dir) {
    static const char config[] = "{\n  \"run\": {\"name\": \"caf\xC3\xA9\", \"seed\": 1337},\n"
                                 "  \"optimizer\": {\"betas\": [0.9, 0.95], \"nesterov\": true,\n"
                                 "    \"groups\": [{\"match\": \"**.bias\", \"lr\": 0.5}]},\n"
                                 "  \"data\": {\"val_path\": null}\n}\n";
    qn_sink s;
    QN_TRY(open_sink(dir, config, &s));
    emit_train(&s, 10, 2.5);
    emit_train(&s, 300, 0.5);
    qn_record e = {.step = 300, .epoch = 1};
    qn_record_add(&e, "eval/loss", (double)NAN);
    qn_record_add(&e, "eval/accuracy", 0.75);
    s.emit(s.self, QN_EVENT_EVAL, &e, NULL);
    s.emit(s.self, QN_EVENT_CHECKPOINT, &(qn_record){.step = 300}, "checkpoints/step-00000300");
    s.emit(s.self, QN_EVENT_NOTE, &(qn_record){.step = 301}, "step 301 skipped");
    qn_record end = {.step = 1 << 20, .epoch = 2};
    qn_record_add(&end, "summary/best_value", 0.25);
    s.emit(s.self, QN_EVENT_END, &end, "max_steps reached");
    s.free(s.self);
    return QN_OK;
}

/* ---- checksums and records ------------------------------------------------------------------- */

static void crc_has_the_known_values(void **state) {
    (void)state;
    const char zeros[32] = {0};
    assert_int_equal(qn_crc32c("123456789", 9), 0xE3069283);
    assert_int_equal(qn_crc32c_masked("123456789", 9), 0xC78AB0E5);
    assert_int_equal(qn_crc32c(zeros, sizeof zeros), 0x8A9136AA);
    assert_int_equal(qn_crc32c("", 0), 0);
    unsigned char bytes[300];
    for (int i = 0; i < 300; i++) bytes[i] = (unsigned char)(i * 167 + 13);
    for (size_t n = 0; n < 290; n++) { /* odd starts too */
        assert_int_equal(qn_crc32c(bytes + n % 9, n), qni_crc32c_plain(bytes + n % 9, n));
    }
}

static void records_have_the_known_bytes(void **state) {
    (void)state;
    static const char version[] =
        "\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22\x09\0\0\0\0\0\0\xf8\x3f\x1a\x0d"
        "brain.Event:2\x2a\x28\x64\x6c";
    static const char scalar[] =
        "\x21\0\0\0\0\0\0\0\x01\x7b\xec\xf6\x09\0\0\0\0\0\0\0\x40\x10\xac\x02"
        "\x2a\x13\x0a\x11\x0a\x0atrain/loss\x15\0\0\0\x3f\x18\x8b\x4d\x93";
    qn_text t = {0};
    qni_record_begin(&t);
    qni_pb_double(&t, 1, 1.5);
    qni_pb_string(&t, 3, "brain.Event:2");
    qni_record_end(&t);
    assert_int_equal(t.length, sizeof version - 1);
    assert_memory_equal(t.data, version, sizeof version - 1);

    qni_record_begin(&t);
    qni_pb_double(&t, 1, 2.0);
    qni_pb_int(&t, 2, 300);
    size_t summary = qni_pb_open(&t, 5), value = qni_pb_open(&t, 1);
    qni_pb_string(&t, 1, "train/loss");
    qni_pb_float(&t, 2, 0.5f);
    qni_pb_close(&t, value);
    qni_pb_close(&t, summary);
    qni_record_end(&t);
    assert_int_equal(t.length, sizeof scalar - 1);
    assert_memory_equal(t.data, scalar, sizeof scalar - 1);
    qn_text_free(&t);
}

static void lengths_of_two_bytes_move_the_message(void **state) {
    (void)state;
    char long_text[301];
    memset(long_text, 'x', 300);
    long_text[300] = '\0';
    qn_text t = {0};
    size_t outer = qni_pb_open(&t, 1);
    qni_pb_string(&t, 2, long_text);
    qni_pb_close(&t, outer);
    assert_int_equal(t.length, 1 + 2 + 1 + 2 + 300);
    assert_memory_equal(t.data, "\x0a\xaf\x02\x12\xac\x02xxx", 9);
    qn_text_free(&t);
}

static void file_is_the_golden_one(void **state) {
    (void)state;
    const char *dir = fresh_directory("golden");
    assert_int_equal(write_example(dir), QN_OK);
    const char *path = only_file(dir);
    assert_string_equal(strrchr(path, '/') + 1, "events.out.tfevents.1700000000.host.42.0");
    int64_t n, m;
    char *ours = slurp(path, &n);
    char *golden = slurp(QUERN_SOURCE_DIR "/tests/golden/tfevents.bin", &m);
    assert_int_equal(n, m);
    assert_memory_equal(ours, golden, (size_t)n);
    qn_free(ours);
    qn_free(golden);
}

static void each_start_opens_a_new_file(void **state) {
    (void)state;
    const char *dir = fresh_directory("starts");
    qn_sink a, b;
    char path[600];
    assert_int_equal(open_sink(dir, NULL, &a), QN_OK);
    assert_int_equal(open_sink(dir, NULL, &b), QN_OK); /* the same second, process and host */
    a.free(a.self);
    b.free(b.self);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/events.out.tfevents.1700000000.host.42.%d", dir, i);
        assert_true(qn_path_exists(path));
    }
}

static void bad_places_and_configurations_are_errors(void **state) {
    (void)state;
    qn_sink s;
    assert_int_equal(open_sink("/dev/null/tb", NULL, &s), QN_ERR_IO);
    assert_int_equal(open_sink(fresh_directory("bad"), "{\"a\":", &s), QN_ERR_FORMAT);
}

static void steady_events_allocate_nothing(void **state) {
    (void)state;
    qn_sink s;
    assert_int_equal(open_sink(fresh_directory("steady"), NULL, &s), QN_OK);
    emit_train(&s, 1, 1.0);
    int64_t before = qn_alloc_count();
    for (int i = 2; i < 100; i++) emit_train(&s, i, 1.0);
    assert_int_equal(qn_alloc_count(), before);
    s.free(s.self);
}

/* ---- cutting --------------------------------------------------------------------------------- */

/* Steps of the events in a file, as text "0 1 2"; a damaged tail ends it with "?". */
static const char *steps_of(const char *path) {
    static char text[4096];
    int64_t n, step;
    char *data = slurp(path, &n);
    size_t at = 0, size, payload_bytes, length = 0;
    const char *payload;
    text[0] = '\0';
    while ((size = qni_record_read(data + at, (size_t)n - at, &payload, &payload_bytes)) > 0) {
        assert_true(qni_event_step(payload, payload_bytes, &step));
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%lld", at ? " " : "",
                                   (long long)step);
        at += size;
    }
    if (at < (size_t)n) snprintf(text + length, sizeof text - length, " ?");
    qn_free(data);
    return text;
}

static const char *make_steps(const char *dir, int steps) {
    qn_sink s;
    assert_int_equal(open_sink(dir, NULL, &s), QN_OK);
    for (int i = 1; i <= steps; i++) emit_train(&s, i, 1.0);
    s.free(s.self);
    return only_file(dir);
}

static void cut_keeps_events_up_to_the_step(void **state) {
    (void)state;
    const char *dir = fresh_directory("cut");
    const char *path = make_steps(dir, 5);
    assert_string_equal(steps_of(path), "0 1 2 3 4 5");
    struct stat before, after;
    stat(path, &before);
    assert_int_equal(qn_tfevents_cut(dir, 5), QN_OK);
    stat(path, &after);
    assert_int_equal(before.st_ino, after.st_ino); /* nothing to do: not rewritten */
    assert_int_equal(qn_tfevents_cut(dir, 3), QN_OK);
    assert_string_equal(steps_of(only_file(dir)), "0 1 2 3");
    assert_int_equal(qn_tfevents_cut(dir, 0), QN_OK);
    assert_string_equal(steps_of(only_file(dir)), "0");
    assert_int_equal(qn_tfevents_cut("/nonexistent/tb", 0), QN_OK);
}

/* Every truncation and every flipped bit of the last record costs that record and nothing before
 * it. */
static void cut_drops_a_damaged_tail(void **state) {
    (void)state;
    char dir[256];
    snprintf(dir, sizeof dir, "%s", fresh_directory("tail"));
    const char *path = make_steps(dir, 3);
    int64_t n;
    char *whole = slurp(path, &n);
    size_t at = 0, last = 0, size, payload_bytes;
    const char *payload;
    while ((size = qni_record_read(whole + at, (size_t)n - at, &payload, &payload_bytes)) > 0) {
        last = at;
        at += size;
    }
    for (size_t length = last + 1; length < (size_t)n; length++) {
        assert_int_equal(qn_file_replace(path, whole, length), QN_OK);
        assert_int_equal(qn_tfevents_cut(dir, 100), QN_OK);
        assert_string_equal(steps_of(path), "0 1 2");
    }
    for (size_t byte = last; byte < (size_t)n; byte++) {
        whole[byte] ^= (char)(1 << byte % 8);
        assert_int_equal(qn_file_replace(path, whole, (size_t)n), QN_OK);
        assert_int_equal(qn_tfevents_cut(dir, 100), QN_OK);
        assert_string_equal(steps_of(path), "0 1 2");
        whole[byte] ^= (char)(1 << byte % 8);
    }
    qn_free(whole);
}

/* Well-formed records around every mangling of a message: no step is invented, no byte read
 * past. */
static void malformed_messages_are_refused(void **state) {
    (void)state;
    int64_t step;
    assert_true(qni_event_step("", 0, &step));
    assert_int_equal(step, 0);
    assert_true(qni_event_step("\x10\xac\x02", 3, &step));
    assert_int_equal(step, 300);
    assert_false(qni_event_step("\x10\xac", 2, &step));           /* varint without an end */
    assert_false(qni_event_step("\x09\0\0\0\0\0\0\0", 8, &step)); /* seven bytes of a double */
    assert_false(qni_event_step("\x0a\x05xx", 4, &step));         /* bytes past the end */
    assert_false(qni_event_step("\x0b", 1, &step));               /* a group: no longer in use */
    assert_false(qni_event_step("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, &step));
    assert_false(qni_event_step("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, &step));
}

/* ---- the end of a run ------------------------------------------------------------------------ */

/* The status that the session has after a run that ended with `code`; -1 if it has none. */
static int end_status(const char *dir, double code) {
    static const char name[] = "_hparams_/session_end_info";
    /* HParamsPluginData.session_end_info (4), 11 bytes: status (1, a varint), time (2, a double) */
    static const char head[] = {0x22, 0x0b, 0x08};
    qn_sink s;
    qn_record r = {.step = 7};
    char path[600];
    int64_t size;
    int status = -1;
    assert_int_equal(open_sink(dir, NULL, &s), QN_OK);
    qn_record_add(&r, "summary/exit_code", code);
    s.emit(s.self, QN_EVENT_END, &r, "over");
    s.free(s.self);
    snprintf(path, sizeof path, "%s/events.out.tfevents.1700000000.host.42.0", dir);
    char *bytes = slurp(path, &size);
    const char *at = memmem(bytes, (size_t)size, name, strlen(name));
    if (at) {
        at = memmem(at, (size_t)(bytes + size - at), head, sizeof head);
        assert_non_null(at);
        status = at[sizeof head];
    }
    qn_free(bytes);
    assert_int_equal(remove(path), 0);
    return status;
}

static void session_ends_as_the_run_did(void **state) {
    (void)state;
    char dir[256];
    snprintf(dir, sizeof dir, "%s", fresh_directory("end"));
    assert_int_equal(end_status(dir, 0), 1); /* success */
    assert_int_equal(end_status(dir, 1), 2); /* failure */
    assert_int_equal(end_status(dir, 5), 2);
    assert_int_equal(end_status(dir, 75), -1); /* saved: it is to go on */
    assert_int_equal(end_status(dir, 130), -1);
}

static int make_directory(void **state) {
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    return qn_tree_remove(directory) == QN_OK ? 0 : -1;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0) return write_example(argv[2]) != QN_OK;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_has_the_known_values),
        cmocka_unit_test(records_have_the_known_bytes),
        cmocka_unit_test(lengths_of_two_bytes_move_the_message),
        cmocka_unit_test(file_is_the_golden_one),
        cmocka_unit_test(each_start_opens_a_new_file),
        cmocka_unit_test(bad_places_and_configurations_are_errors),
        cmocka_unit_test(steady_events_allocate_nothing),
        cmocka_unit_test(cut_keeps_events_up_to_the_step),
        cmocka_unit_test(cut_drops_a_damaged_tail),
        cmocka_unit_test(malformed_messages_are_refused),
        cmocka_unit_test(session_ends_as_the_run_did),
    };
    return cmocka_run_group_tests_name("tfevents", tests, make_directory, remove_directory);
}
