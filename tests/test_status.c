/* test_status.c — status names, the per-thread message, errors that cross a thread. */
#include "tests/harness.h"

#include <pthread.h>
#include <string.h>

static void names_and_exit_codes(void **state) {
    (void)state;
    assert_string_equal(qn_status_name(QN_OK), "OK");
    assert_string_equal(qn_status_name(QN_ERR_SHAPE), "ERR_SHAPE");
    assert_string_equal(qn_status_text(QN_ERR_DATA), "data error");
    static const struct {
        qn_status s;
        int code;
    } want[] = {{QN_OK, 0},         {QN_ERR_IO, 1},           {QN_ERR_CONFIG, 2},
                {QN_ERR_USAGE, 2},  {QN_ERR_FORMAT, 3},       {QN_ERR_OOM, 4},
                {QN_ERR_DATA, 3},   {QN_ERR_NONFINITE, 5},    {QN_ERR_REQUEUE, 75},
                {QN_ERR_DEVICE, 1}, {QN_ERR_INTERRUPTED, 130}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_int_equal(qn_status_exit_code(want[i].s), want[i].code);
    }
    assert_string_equal(qn_status_name((qn_status)1000), "ERR_UNKNOWN");
    assert_string_equal(qn_status_text((qn_status)-1), "unknown status");
    assert_int_equal(qn_status_exit_code((qn_status)1000), 1);
}

static void messages(void **state) {
    (void)state;
    assert_int_equal(qn_fail(QN_ERR_DATA, "label %d, expected %s", 12, "0 to 9"), QN_ERR_DATA);
    assert_string_equal(qn_error_message(), "label 12, expected 0 to 9");
    assert_int_equal(qn_fail_prefix(QN_ERR_DATA, "%s", "train.csv"), QN_ERR_DATA);
    assert_string_equal(qn_error_message(), "train.csv: label 12, expected 0 to 9");
    qn_error_clear();
    assert_string_equal(qn_error_message(), "");
}

static void long_messages_are_cut(void **state) {
    (void)state;
    char text[2 * QN_MESSAGE_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)qn_fail(QN_ERR_DATA, "%s", text);
    assert_int_equal(strlen(qn_error_message()), QN_MESSAGE_MAX - 1);
    (void)qn_fail_prefix(QN_ERR_DATA, "file");
    assert_int_equal(strlen(qn_error_message()), QN_MESSAGE_MAX - 1);
    assert_memory_equal(qn_error_message(), "file: xxx", 9);
    (void)qn_fail_prefix(QN_ERR_DATA, "%s", text);
    assert_int_equal(strlen(qn_error_message()), QN_MESSAGE_MAX - 1);
}

static void *fail_elsewhere(void *out) {
    if (strcmp(qn_error_message(), "") != 0) return NULL; /* starts with no message of its own */
    qn_error_get(qn_fail(QN_ERR_IO, "disk of the other thread"), out);
    return out;
}

static void errors_cross_threads_as_copies(void **state) {
    (void)state;
    pthread_t thread;
    qn_error e = {QN_OK, ""};
    void *result = NULL;
    (void)qn_fail(QN_ERR_CONFIG, "mine");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, &e), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_non_null(result);
    assert_string_equal(qn_error_message(), "mine");
    assert_int_equal(qn_error_raise(&e), QN_ERR_IO);
    assert_string_equal(qn_error_message(), "disk of the other thread");
}

static qn_status inner(qn_status s) { return s; }
static qn_status outer(qn_status s, bool *after) {
    QN_TRY(inner(s));
    *after = true;
    return QN_OK;
}

static void try_returns_the_first_failure(void **state) {
    (void)state;
    bool after = false;
    assert_int_equal(outer(QN_ERR_OOM, &after), QN_ERR_OOM);
    assert_false(after);
    assert_int_equal(outer(QN_OK, &after), QN_OK);
    assert_true(after);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_exit_codes),
        cmocka_unit_test(messages),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(errors_cross_threads_as_copies),
        cmocka_unit_test(try_returns_the_first_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
