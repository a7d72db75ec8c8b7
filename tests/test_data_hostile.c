/* test_data_hostile.c — the committed IDX and token files: each gets what its name says, by the
 * readers and by whole sources over it. */
#include "io/data.h"
#include "tests/harness.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

typedef qn_status reader(const unsigned char *bytes, int64_t size);

static qn_status read_idx(const unsigned char *bytes, int64_t size) {
    qn_idx x;
    return qn_idx_parse(bytes, size, &x);
}

static qn_status read_tokens(const unsigned char *bytes, int64_t size) {
    qn_tokens t;
    return qn_tokens_parse(bytes, size, QN_RAW_NONE, 0, &t);
}

/* Opens the file as training data; one item or two tokens may be too few, which is a data error. */
static qn_status open_source(qn_data_type type, const char *path, qn_source *s) {
    const char *list[] = {path};
    qn_vocab *vocab;
    qn_data_options o = {.type = type, .block_size = 1};
    o.images[0] = o.labels[0] = path;
    o.paths[0] = (qn_strings){list, 1};
    return qn_data_open(&o, s, &vocab);
}

static int check_folder(const char *folder, qn_data_type type, reader *read) {
    char dir[1024], path[1400];
    unsigned char bytes[4096];
    int n = 0;
    snprintf(dir, sizeof dir, "%s/tests/hostile/data/%s", QUERN_SOURCE_DIR, folder);
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        bool good = strncmp(e->d_name, "ok-", 3) == 0;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        int64_t size = (int64_t)fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        qn_status got = read(bytes, size);
        if (got != (good ? QN_OK : QN_ERR_FORMAT))
            fail_msg("%s: got %s: %s", e->d_name, qn_status_name(got), qn_error_message());
        qn_source s;
        got = open_source(type, path, &s);
        if (got == QN_OK) s.free(s.self);
        bool named = got == QN_OK || strstr(qn_error_message(), e->d_name) != NULL;
        bool expected = good ? got == QN_OK || (type == QN_DATA_IDX && got == QN_ERR_DATA)
                             : got == QN_ERR_FORMAT || (size == 0 && got == QN_ERR_DATA);
        if (!named || !expected)
            fail_msg("%s: got %s: %s", e->d_name, qn_status_name(got), qn_error_message());
        n++;
    }
    closedir(d);
    return n;
}

static void idx_files(void **state) {
    (void)state;
    assert_in_range(check_folder("idx", QN_DATA_IDX, read_idx), 25, 10000);
}

static void token_files(void **state) {
    (void)state;
    assert_in_range(check_folder("tokens", QN_DATA_TOKENS, read_tokens), 47, 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idx_files),
        cmocka_unit_test(token_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
