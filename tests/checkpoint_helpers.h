/* checkpoint_helpers.h — what the tests of checkpoints share. */
#ifndef QN_TESTS_CHECKPOINT_HELPERS_H
#define QN_TESTS_CHECKPOINT_HELPERS_H

#include "tests/harness.h"

#include "io/checkpoint.h"
#include "io/file.h"

#include <string.h>

static const char run_id[] = "0123456789abcdef0123456789abcdef";

static inline qn_named named(const char *name, void *data, qn_dtype dt, int ndim,
                             const int64_t *shape) {
    return (qn_named){name, qn_tensor_make(data, dt, ndim, shape)};
}

static inline qn_checkpoint_info info_of(int64_t step) {
    return (qn_checkpoint_info){.run_id = run_id,
                                .step = step,
                                .world_size = 1,
                                .state = "guard 1 2\n\"quoted\" \\ \t\x01",
                                .metadata = "{\"vocabulary\": \"\xc3\xa9\"}",
                                .config_digest = "c0ffee",
                                .build_id = "test"};
}

static inline void assert_refused(qn_status got, qn_status want, const char *part) {
    if (got != want) {
        fail_msg("%s, expected %s: %s", qn_status_name(got), qn_status_name(want),
                 qn_error_message());
    }
    if (!strstr(qn_error_message(), part)) fail_msg("no \"%s\" in: %s", part, qn_error_message());
}

static char path_buffer[QN_PATH_MAX];

/* RUN/checkpoints/step-N/name, good until the next call. */
static inline const char *file_in(const char *dir, int64_t step, const char *name) {
    qn_assert_ok(qn_path_format(path_buffer, sizeof path_buffer, "%s/checkpoints/step-%08lld/%s",
                                dir, (long long)step, name));
    return path_buffer;
}

#endif
