/* harness.c — what every test needs: a case's checks in order, comparison, data paths, directories.
 */
#include "tests/harness_internal.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

void qn_check_case(const qn_case *c) {
    qni_check_calls(c);
    if (c->op->backward && !c->skip_grad) qni_check_gradient(c);
}

void qn_check_cases(const qn_case *c, int n) {
    for (int i = 0; i < n; i++) qn_check_case(&c[i]);
}

void qn_assert_close(double got, double want, double tol, const char *what) {
    bool ok = isinf(want) ? got == want : fabs(got - want) <= tol * (1 + fabs(want));
    if (!ok) fail_msg("%s: got %.17g, expected %.17g within %g", what, got, want, tol);
}

bool qn_cuda_usable(void) {
    static _Thread_local int answer = -1;
    if (answer < 0 && qn_device_built(QN_CUDA)) {
        answer = qn_device_open(QN_CUDA) == QN_OK;
        if (!answer) print_message("[  SKIP  ] CUDA kernels are not run: %s\n", qn_error_message());
    }
    return answer > 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

const char *qn_test_data_beside(const char *source_dir, const char *relative) {
    static _Thread_local char paths[4][4096];
    static _Thread_local unsigned turn;
    char *path = paths[turn++ % 4];
    const char *root = getenv("QUERN_TEST_DATA");
    int n = root && *root
                ? snprintf(path, sizeof paths[0], "%s/%s", root, relative)
                : snprintf(path, sizeof paths[0], "%s/../shared/data/%s", source_dir, relative);
    if (n > 0 && (size_t)n < sizeof paths[0] && access(path, R_OK) == 0) return path;
    print_message("test data %s is absent (QUERN_TEST_DATA names its directory): skipped\n",
                  relative);
    return NULL;
}

char *qn_test_dir(void) {
    const char *root = getenv("TMPDIR");
    char *dir = qn_sprintf("%s/quern-test-XXXXXX", root && *root ? root : P_tmpdir);
    if (!dir || !mkdtemp(dir)) fail_msg("no temporary directory could be made");
    return dir;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st;
    (void)at;
    if (kind == FTW_DNR) chmod(path, 0700);
    return remove(path);
}

void qn_test_dir_remove(char *dir) {
    if (!dir) return;
    if (nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0) {
        print_message("%s could not be removed\n", dir);
    }
    qn_free(dir);
}

/* ---- digest ---------------------------------------------------------------------------------- */

uint64_t qn_hash_tensor(const qn_tensor *t) {
    int64_t head[2 + QN_MAX_DIMS] = {(int64_t)t->dtype, t->ndim};
    for (int i = 0; i < t->ndim; i++) head[2 + i] = t->shape[i];
    uint64_t seed = XXH3_64bits(head, sizeof head);
    size_t item = qn_dtype_bytes(t->dtype);
    int64_t n = qn_tensor_count(t);
    if (qn_tensor_is_contiguous(t)) return XXH3_64bits_withSeed(t->data, (size_t)n * item, seed);

    char *packed = malloc((size_t)n * item);
    if (!packed) fail_msg("out of memory: %zu bytes to hash a tensor", (size_t)n * item);
    for (int64_t i = 0; i < n; i++) {
        const char *element = (const char *)t->data + (size_t)qn_tensor_offset(t, i) * item;
        memcpy(packed + (size_t)i * item, element, item);
    }
    uint64_t hash = XXH3_64bits_withSeed(packed, (size_t)n * item, seed);
    free(packed);
    return hash;
}
