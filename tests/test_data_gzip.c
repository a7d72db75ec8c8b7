/* test_data_gzip.c — packed inputs: the same data as unpacked, a cache that heals, damage that is
 * named. */
#include "io/data.h"
#include "tests/harness.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { LENGTH = 300000 };

typedef struct fixture {
    char *dir;
    char cache[512], path[512];
    const char *list[1];
    unsigned char text[LENGTH], packed[LENGTH];
    size_t packed_bytes;
    qn_data_options o;
} fixture;

static void write_bytes(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0) fail_msg("%s", path);
}

static void pack(fixture *t, const void *bytes, size_t n) {
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)bytes;
    z.avail_in = (unsigned)n;
    z.next_out = t->packed;
    z.avail_out = sizeof t->packed;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    t->packed_bytes = sizeof t->packed - z.avail_out;
    deflateEnd(&z);
}

static int setup(void **state) {
    fixture *t = qn_alloc(sizeof *t, "fixture");
    t->dir = qn_test_dir();
    snprintf(t->cache, sizeof t->cache, "%s/cache/deep", t->dir);
    snprintf(t->path, sizeof t->path, "%s/a.txt.gz", t->dir);
    t->list[0] = t->path;
    for (int i = 0; i < LENGTH; i++)
        t->text[i] = (unsigned char)(' ' + qn_random_u32(1, 0, (uint64_t)i) % 16);
    pack(t, t->text, LENGTH);
    write_bytes(t->path, t->packed, t->packed_bytes);
    t->o = (qn_data_options){.type = QN_DATA_TEXT, .block_size = 100, .cache_dir = t->cache};
    t->o.paths[QN_SPLIT_TRAIN] = (qn_strings){t->list, 1};
    t->o.val_fraction = 0.5;
    *state = t;
    return 0;
}

static int teardown(void **state) {
    fixture *t = *state;
    qn_test_dir_remove(t->dir);
    qn_free(t);
    return 0;
}

/* Opens, compares val with the text, returns the identity. */
static uint64_t check(fixture *t) {
    qn_source s;
    qn_vocab *v;
    static int32_t x[LENGTH], y[LENGTH];
    void *dst[] = {x, y};
    int64_t labels = 0;
    qn_assert_ok(qn_data_open(&t->o, &s, &v));
    qn_assert_ok(s.fetch(s.self, QN_SPLIT_VAL, 0, s.n[QN_SPLIT_VAL], dst, &labels));
    for (int64_t i = 0; i < LENGTH / 2; i++) assert_int_equal(x[i], t->text[LENGTH / 2 + i]);
    s.free(s.self);
    qn_vocab_free(v);
    return s.identity;
}

static void expect_error(fixture *t, qn_status want, const char *part) {
    qn_source s;
    qn_vocab *v;
    qn_status got = qn_data_open(&t->o, &s, &v);
    if (got != want || !strstr(qn_error_message(), part))
        fail_msg("got %s: %s; expected '%s'", qn_status_name(got), qn_error_message(), part);
}

/* The only entry of the cache; fails when there is another file (a temporary one, say). */
static void entry(const fixture *t, char *out, size_t room) {
    DIR *d = opendir(t->cache);
    int n = 0;
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        snprintf(out, room, "%s/%s", t->cache, e->d_name);
        n++;
    }
    closedir(d);
    assert_int_equal(n, 1);
}

static void packed_equals_plain(void **state) {
    fixture *t = *state;
    uint64_t packed = check(t);
    snprintf(t->path, sizeof t->path, "%s/a.txt", t->dir);
    write_bytes(t->path, t->text, LENGTH);
    assert_true(check(t) == packed);
}

static void unpacked_once(void **state) {
    fixture *t = *state;
    char path[1024];
    struct stat a, b;
    check(t);
    entry(t, path, sizeof path);
    assert_int_equal(stat(path, &a), 0);
    check(t);
    entry(t, path, sizeof path);
    assert_int_equal(stat(path, &b), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    assert_int_equal(a.st_size, LENGTH + 48);
}

/* Bits flipped, bytes cut or added, emptied, replaced by a directory's worth of nonsense. */
static void damaged_entries_are_replaced(void **state) {
    fixture *t = *state;
    char path[1024];
    check(t);
    entry(t, path, sizeof path);
    const long places[] = {0, LENGTH / 2, LENGTH - 1, LENGTH, LENGTH + 8, LENGTH + 24, LENGTH + 47};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        FILE *f = fopen(path, "r+b");
        assert_non_null(f);
        fseek(f, places[i], SEEK_SET);
        int c = fgetc(f);
        fseek(f, places[i], SEEK_SET);
        fputc(c ^ 4, f);
        fclose(f);
        check(t);
    }
    const off_t sizes[] = {0, 10, 47, 48, LENGTH, LENGTH + 47, LENGTH + 49};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(truncate(path, sizes[i]), 0);
        check(t);
        entry(t, path, sizeof path);
    }
}

static void several_members(void **state) {
    fixture *t = *state;
    FILE *f = fopen(t->path, "wb");
    assert_non_null(f);
    for (int i = 0; i < 3; i++) {
        pack(t, t->text + i * (LENGTH / 3), LENGTH / 3);
        assert_int_equal(fwrite(t->packed, 1, t->packed_bytes, f), t->packed_bytes);
    }
    fclose(f);
    check(t);
}

static void damaged_input_is_named(void **state) {
    fixture *t = *state;
    const size_t n = t->packed_bytes, cuts[] = {2, 9, 10, 1000, n - 9, n - 8, n - 4, n - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        write_bytes(t->path, t->packed, cuts[i]);
        expect_error(t, QN_ERR_FORMAT, "a.txt.gz: gzip data is damaged: it ends too early");
    }
    for (size_t at = 0; at < n; at += at < 16 || at + 16 > n ? 1 : n / 50) {
        if (at >= 3 && at < 10) continue; /* flags, time and system: not checked by gzip */
        unsigned char *copy = qn_alloc(n, "copy");
        memcpy(copy, t->packed, n);
        copy[at] ^= 1;
        write_bytes(t->path, copy, n);
        expect_error(t, QN_ERR_FORMAT, "a.txt.gz: ");
        qn_free(copy);
    }
    unsigned char *longer = qn_alloc(n + 1, "copy");
    memcpy(longer, t->packed, n);
    write_bytes(t->path, longer, n + 1);
    expect_error(t, QN_ERR_FORMAT, "gzip data is damaged");
    qn_free(longer);
    write_bytes(t->path, "plain text", 10);
    expect_error(t, QN_ERR_FORMAT, "found no gzip header");
    write_bytes(t->path, "", 0);
    expect_error(t, QN_ERR_FORMAT, "found no gzip header");
    pack(t, "", 0);
    write_bytes(t->path, t->packed, t->packed_bytes);
    expect_error(t, QN_ERR_DATA, "the file is empty");
}

/* A disk that fills up while unpacking: an error that names the file, no remains in the cache. */
static void no_room_for_the_cache(void **state) {
    fixture *t = *state;
    struct rlimit before, limit;
    char path[1024];
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    const rlim_t room[] = {0, 1000, LENGTH, LENGTH + 47};
    for (size_t i = 0; i < sizeof room / sizeof room[0]; i++) {
        limit = (struct rlimit){room[i], before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        expect_error(t, QN_ERR_IO, t->cache);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    }
    signal(SIGXFSZ, handler);
    check(t);
    entry(t, path, sizeof path); /* the entry and nothing else */
}

static void cache_directories(void **state) {
    fixture *t = *state;
    char file[600], cache[700];
    snprintf(file, sizeof file, "%s/file", t->dir);
    write_bytes(file, "x", 1);
    snprintf(cache, sizeof cache, "%s/cache", file);
    t->o.cache_dir = cache;
    expect_error(t, QN_ERR_IO, "cannot be written to");
    /* Not stated: XDG_CACHE_HOME, then HOME, then TMPDIR; what is unusable is passed over. */
    static const char *const name[] = {"XDG_CACHE_HOME", "HOME", "TMPDIR"};
    char *kept[3] = {NULL};
    t->o.cache_dir = NULL;
    for (int i = 0; i < 3; i++) kept[i] = getenv(name[i]) ? qn_strdup(getenv(name[i]), "x") : NULL;
    for (int i = 0; i < 3; i++) {
        setenv("XDG_CACHE_HOME", i == 0 ? t->dir : cache, 1);
        setenv("HOME", i == 1 ? t->dir : cache, 1);
        setenv("TMPDIR", i == 2 ? t->dir : cache, 1);
        const char *below[] = {"quern", ".cache/quern"};
        if (i < 2)
            snprintf(t->cache, sizeof t->cache, "%s/%s", t->dir, below[i]);
        else
            snprintf(t->cache, sizeof t->cache, "%s/quern-cache-%ld", t->dir, (long)geteuid());
        char path[1024];
        check(t);
        entry(t, path, sizeof path);
    }
    assert_int_equal(chmod(t->cache, 0777), 0); /* anybody may write there now */
    expect_error(t, QN_ERR_IO, "none of $XDG_CACHE_HOME, $HOME/.cache and $TMPDIR");
    for (int i = 0; i < 3; i++) {
        if (kept[i])
            setenv(name[i], kept[i], 1);
        else
            unsetenv(name[i]);
        qn_free(kept[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(packed_equals_plain, setup, teardown),
        cmocka_unit_test_setup_teardown(unpacked_once, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_entries_are_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(several_members, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_input_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(no_room_for_the_cache, setup, teardown),
        cmocka_unit_test_setup_teardown(cache_directories, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
