/* test_data_tokens.c — the token file formats: reading, writing, refusing, and sources over them.
 */
#include "io/data.h"
#include "tests/harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files in memory ------------------------------------------------------------------------- */

enum { LLM_HEADER = 1024 };

static void store(unsigned char *p, uint64_t v, int width) {
    for (int i = 0; i < width; i++) p[i] = (unsigned char)(v >> (8 * i));
}

/* A file of either llm.c kind or llmq's with tokens 1, 2, ..., n; returns its size. */
static int64_t make_llm(unsigned char *p, uint32_t magic, uint32_t version, int n) {
    int width = version == 7 ? 4 : 2;
    memset(p, 0, LLM_HEADER);
    store(p, magic, 4);
    store(p + 4, version, 4);
    store(p + 8, (uint64_t)n, 4);
    for (int i = 0; i < n; i++) store(p + LLM_HEADER + i * width, (uint64_t)i + 1, width);
    return LLM_HEADER + n * width;
}

static int64_t make_llmq(unsigned char *p, int n, int vocab, uint32_t has_mask) {
    memset(p, '*', LLM_HEADER - 1);
    p[LLM_HEADER - 1] = '\n';
    memcpy(p, "BIN.TOK\n", 8);
    store(p + 8, 2, 4);
    store(p + 12, 4, 4);
    store(p + 16, (uint64_t)n, 4);
    store(p + 20, (uint64_t)vocab, 4);
    store(p + 24, has_mask, 4);
    unsigned char *mask = p + LLM_HEADER + 4 * n;
    memset(mask, 0, (size_t)(n + 7) / 8);
    for (int i = 0; i < n; i++) {
        store(p + LLM_HEADER + 4 * i, (uint64_t)i + 1, 4);
        if (i % 3) mask[i / 8] |= (unsigned char)(1u << i % 8); /* every third does not count */
    }
    return LLM_HEADER + 4 * n + (has_mask == 1 ? (n + 7) / 8 : 0);
}

static void check_run(const qn_tokens *t, const char *format, int n, int64_t vocab) {
    assert_string_equal(t->format, format);
    assert_int_equal(t->count, n);
    assert_int_equal(t->vocab_size, vocab);
    for (int i = 0; i < n; i++) assert_int_equal(qn_tokens_get(t, i), i + 1);
}

static void foreign_formats_are_read(void **state) {
    (void)state;
    unsigned char p[2048];
    qn_tokens t;
    int64_t n = make_llm(p, 20240520, 1, 9);
    qn_assert_ok(qn_tokens_parse(p, n, QN_RAW_NONE, 0, &t));
    check_run(&t, "llm.c v1", 9, 50257);
    qn_assert_ok(qn_tokens_parse(p, n, QN_RAW_NONE, 50304, &t));
    assert_int_equal(t.vocab_size, 50304);
    n = make_llm(p, 20240801, 7, 9);
    qn_assert_ok(qn_tokens_parse(p, n, QN_RAW_NONE, 0, &t));
    check_run(&t, "llm.c v7", 9, 128256);
    n = make_llmq(p, 11, 77, 1);
    qn_assert_ok(qn_tokens_parse(p, n, QN_RAW_NONE, 0, &t));
    check_run(&t, "llmq v2", 11, 77);
    for (int i = 0; i < 11; i++) assert_int_equal(qn_tokens_counts(&t, i), i % 3 != 0);
    const uint32_t no_mask[] = {0, 0x2A2A2A2A};
    for (int i = 0; i < 2; i++) {
        n = make_llmq(p, 11, 77, no_mask[i]);
        qn_assert_ok(qn_tokens_parse(p, n, QN_RAW_NONE, 100, &t));
        check_run(&t, "llmq v2", 11, 100);
        assert_true(t.mask == NULL && qn_tokens_counts(&t, 0));
    }
    const unsigned char raw[] = {1, 0, 2, 0, 3, 0, 4, 0};
    qn_assert_ok(qn_tokens_parse(raw, 8, QN_RAW_U16, 60, &t));
    check_run(&t, "headerless u16", 4, 60);
    qn_assert_ok(qn_tokens_parse(raw, 8, QN_RAW_U32, 60, &t));
    assert_string_equal(t.format, "headerless u32");
    assert_int_equal(qn_tokens_get(&t, 0), 0x20001);
}

static void bad_files_are_refused(void **state) {
    (void)state;
    unsigned char p[2048];
    qn_tokens t;
    const struct { uint32_t magic, version; } kind[] = {{20240520, 1}, {20240801, 7}};
    for (int k = 0; k < 2; k++) {
        int64_t n = make_llm(p, kind[k].magic, kind[k].version, 5);
        for (int64_t cut = 4; cut < n; cut++)
            assert_int_equal(qn_tokens_parse(p, cut, QN_RAW_NONE, 0, &t), QN_ERR_FORMAT);
        assert_int_equal(qn_tokens_parse(p, n + 1, QN_RAW_NONE, 0, &t), QN_ERR_FORMAT);
        assert_non_null(strstr(qn_error_message(), "followed by something else"));
        assert_int_equal(qn_tokens_parse(p, n, QN_RAW_NONE, 100, &t), QN_ERR_DATA);
        assert_int_equal(qn_tokens_parse(p, n, QN_RAW_U16, 60000, &t), QN_ERR_DATA);
        store(p + 4, 2, 4);
        assert_int_equal(qn_tokens_parse(p, n, QN_RAW_NONE, 0, &t), QN_ERR_FORMAT);
        assert_non_null(strstr(qn_error_message(), "found version 2"));
        store(p + 4, kind[k].version, 4);
        store(p + 8, 0x80000000u, 4);
        assert_int_equal(qn_tokens_parse(p, n, QN_RAW_NONE, 0, &t), QN_ERR_FORMAT);
    }
    const struct {
        int at;
        uint32_t value;
    } bad[] = {{8, 1}, {8, 3}, {12, 2}, {16, 0}, {16, 12}, {20, 0}, {20, 0xFFFFFFFF}, {24, 2}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t n = make_llmq(p, 11, 77, 1);
        store(p + bad[i].at, bad[i].value, 4);
        if (qn_tokens_parse(p, n, QN_RAW_NONE, 0, &t) != QN_ERR_FORMAT) fail_msg("case %zu", i);
    }
    assert_int_equal(qn_tokens_parse("abc", 3, QN_RAW_NONE, 0, &t), QN_ERR_FORMAT);
    assert_non_null(strstr(qn_error_message(), "no known header"));
    assert_int_equal(qn_tokens_parse("abc", 3, QN_RAW_U16, 0, &t), QN_ERR_CONFIG);
    assert_int_equal(qn_tokens_parse("abc", 3, QN_RAW_U16, 9, &t), QN_ERR_FORMAT);
    assert_int_equal(qn_tokens_parse("", 0, QN_RAW_U32, 9, &t), QN_ERR_FORMAT);
}

/* ---- Quern's own format ---------------------------------------------------------------------- */

enum { COUNT = 37 };

static int64_t read_file(const char *path, unsigned char *to, size_t room) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s", path);
    size_t n = fread(to, 1, room, f);
    fclose(f);
    return (int64_t)n;
}

static int64_t write_own(const char *path, int64_t vocab, bool documents, bool mask,
                         unsigned char *to) {
    int32_t ids[COUNT];
    unsigned char counts[COUNT];
    static const int64_t starts[] = {0, 5, 6, 30};
    for (int i = 0; i < COUNT; i++) {
        ids[i] = (int32_t)(i * 7 % vocab);
        counts[i] = i % 4 != 1;
    }
    qn_tokens_content c = {
        .ids = ids, .count = COUNT, .vocab_size = vocab, .tokenizer = 0x1234567890};
    if (documents) c.documents = starts, c.n_documents = 4;
    if (mask) c.mask = counts;
    qn_assert_ok(qn_tokens_write(path, &c));
    return read_file(path, to, 2048);
}

static void own_format_round_trips(void **state) {
    unsigned char p[2048];
    qn_tokens t;
    char path[600];
    snprintf(path, sizeof path, "%s/own.bin", (char *)*state);
    for (int i = 0; i < 8; i++) {
        bool documents = i & 1, mask = i & 2;
        int64_t vocab = i & 4 ? 65537 : 65536;
        int64_t n = write_own(path, vocab, documents, mask, p);
        qn_assert_ok(qn_tokens_parse(p, n, QN_RAW_NONE, 0, &t));
        assert_string_equal(t.format, "Quern v1");
        assert_int_equal(t.width, i & 4 ? 4 : 2);
        assert_int_equal(t.vocab_size, vocab);
        assert_int_equal(t.count, COUNT);
        assert_true(t.tokenizer == 0x1234567890);
        assert_int_equal((t.data - p) % 64, 0);
        assert_int_equal(t.n_documents, documents ? 4 : 0);
        if (documents) assert_int_equal(qn_tokens_document(&t, 3), 30);
        for (int k = 0; k < COUNT; k++) {
            assert_int_equal(qn_tokens_get(&t, k), k * 7 % vocab);
            assert_int_equal(qn_tokens_counts(&t, k), mask ? k % 4 != 1 : 1);
        }
        for (int64_t cut = 8; cut < n; cut++)
            assert_int_equal(qn_tokens_parse(p, cut, QN_RAW_NONE, 0, &t), QN_ERR_FORMAT);
        assert_int_equal(qn_tokens_parse(p, n + 1, QN_RAW_NONE, 0, &t), QN_ERR_FORMAT);
        assert_int_equal(qn_tokens_parse(p, n, QN_RAW_NONE, vocab + 1, &t), QN_ERR_DATA);
    }
}

/* No bit outside the tokens, the mask, the vocabulary, the hash and the index may change unseen,
 * but for one of the count: two tokens more would fit the padding. */
static void own_format_header_is_strict(void **state) {
    unsigned char p[2048];
    qn_tokens t;
    char path[600];
    snprintf(path, sizeof path, "%s/own.bin", (char *)*state);
    int64_t n = write_own(path, 1000, true, true, p), tokens_end = 128 + COUNT * 2;
    for (int64_t at = 8; at < n; at++)
        for (int bit = 0; bit < 8; bit++) {
            bool free_value = (at >= 16 && at < 20) || (at >= 40 && at < 48) ||
                              (at >= 128 && at < tokens_end) || (at >= 256) ||
                              (at == 24 && bit == 1);
            p[at] ^= (unsigned char)(1u << bit);
            qn_status s = qn_tokens_parse(p, n, QN_RAW_NONE, 0, &t);
            if (s == QN_OK && !free_value) fail_msg("byte %lld bit %d", (long long)at, bit);
            p[at] ^= (unsigned char)(1u << bit);
        }
    static const struct {
        int at;
        uint64_t value;
    } bad[] = {{8, 2},   {12, 3},          {16, 0},  {16, 1ull << 40}, {16, 1ull << 63},
               {24, 0},  {24, 1ull << 62}, {32, 38}, {32, 1ull << 61}, {256, 1},
               {264, 0}, {272, 37},        {280, 6}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        unsigned char q[2048];
        memcpy(q, p, sizeof q);
        store(q + bad[i].at, bad[i].value, bad[i].at == 8 || bad[i].at == 12 ? 4 : 8);
        if (qn_tokens_parse(q, n, QN_RAW_NONE, 0, &t) != QN_ERR_FORMAT) fail_msg("case %zu", i);
    }
}

static void writer_refuses_bad_content(void **state) {
    char path[600];
    const int32_t ids[] = {1, 2, 3};
    const int64_t starts[] = {0, 2, 2}, late[] = {1}, far[] = {0, 3};
    snprintf(path, sizeof path, "%s/none.bin", (char *)*state);
    qn_tokens_content c = {.ids = ids, .count = 3, .vocab_size = 3};
    assert_int_equal(qn_tokens_write(path, &c), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "found token 3 at place 2"));
    c.vocab_size = 4;
    c.documents = starts, c.n_documents = 3;
    assert_int_equal(qn_tokens_write(path, &c), QN_ERR_DATA);
    c.documents = late, c.n_documents = 1;
    assert_int_equal(qn_tokens_write(path, &c), QN_ERR_DATA);
    c.documents = far, c.n_documents = 2;
    assert_int_equal(qn_tokens_write(path, &c), QN_ERR_DATA);
    c.n_documents = 0;
    c.count = 0;
    assert_int_equal(qn_tokens_write(path, &c), QN_ERR_DATA);
    c.count = 3;
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof path, "%s/no/such/dir.bin", (char *)*state);
    assert_int_equal(qn_tokens_write(path, &c), QN_ERR_IO);
}

/* A disk that fills up at any byte leaves the file that was there. */
static void full_disk_keeps_the_old_file(void **state) {
    unsigned char p[2048], q[2048];
    char path[600];
    struct rlimit before, limit;
    const int32_t ids[] = {1, 2, 3};
    snprintf(path, sizeof path, "%s/own.bin", (char *)*state);
    int64_t n = write_own(path, 1000, true, true, p);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    qn_tokens_content c = {.ids = ids, .count = 3, .vocab_size = 4};
    for (rlim_t room = 0; room < 134; room += 19) {
        limit = (struct rlimit){room, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        qn_status status = qn_tokens_write(path, &c);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, QN_ERR_IO);
        assert_int_equal(read_file(path, q, sizeof q), n);
        assert_memory_equal(p, q, (size_t)n);
    }
    signal(SIGXFSZ, handler);
    qn_assert_ok(qn_tokens_write(path, &c));
    assert_int_equal(read_file(path, q, sizeof q), 134);
    assert_int_equal(rmdir(*state), -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(*state), 0); /* no temporary file is left */
    assert_int_equal(mkdir(*state, 0700), 0);
}

/* ---- sources --------------------------------------------------------------------------------- */

static void write_bytes(const char *path, const void *p, int64_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, (size_t)n, f) != (size_t)n || fclose(f) != 0) fail_msg("%s", path);
}

static qn_status open_source(const char *const *paths, int n, qn_data_options o, qn_source *s) {
    qn_vocab *vocab;
    o.type = QN_DATA_TOKENS;
    o.paths[QN_SPLIT_TRAIN] = (qn_strings){paths, n};
    qn_status status = qn_data_open(&o, s, &vocab);
    assert_null(vocab);
    return status;
}

static void masked_targets_are_ignored(void **state) {
    unsigned char p[2048];
    char path[600];
    const char *list[] = {path};
    qn_source s;
    snprintf(path, sizeof path, "%s/m.bin", (char *)*state);
    write_bytes(path, p, make_llmq(p, 24, 77, 1));
    qn_data_options o = {.block_size = 4, .val_fraction = 0.5};
    qn_assert_ok(open_source(list, 1, o, &s));
    assert_int_equal(s.classes, 77);
    int32_t x[12], y[12];
    void *dst[] = {x, y};
    int64_t labels = 0;
    qn_assert_ok(
        s.fetch(s.self, QN_SPLIT_VAL, 0, 3, dst, &labels)); /* tokens 13..24, 0-based 12.. */
    for (int i = 0; i < 12; i++) {
        assert_int_equal(x[i], 13 + i);
        int target = 13 + i; /* 0-based place of the target */
        assert_int_equal(y[i], target % 3 == 0 || target >= 24 ? QN_IGNORE_INDEX : target + 1);
    }
    assert_int_equal(labels, 8); /* places 13..23 without 15, 18, 21 */
    s.free(s.self);
}

static void windows_cross_files(void **state) {
    char path[2][600];
    const char *list[] = {path[0], path[1]};
    qn_source s;
    const unsigned char a[] = {1, 0, 2, 0, 3, 0}, b[] = {4, 0, 5, 0};
    for (int i = 0; i < 2; i++) snprintf(path[i], sizeof path[i], "%s/%d.bin", (char *)*state, i);
    write_bytes(path[0], a, 6);
    write_bytes(path[1], b, 4);
    qn_data_options o = {.block_size = 4, .raw = QN_RAW_U16, .vocab_size = 6};
    qn_assert_ok(open_source(list, 2, o, &s));
    int32_t x[4], y[4];
    void *dst[] = {x, y};
    int64_t labels = 0;
    qn_assert_ok(s.fetch(s.self, QN_SPLIT_TRAIN, 0, 1, dst, &labels));
    for (int i = 0; i < 4; i++) assert_true(x[i] == i + 1 && y[i] == i + 2);
    s.free(s.self);

    o.vocab_size = 5; /* found at the fetch that meets it */
    qn_assert_ok(open_source(list, 2, o, &s));
    assert_int_equal(s.fetch(s.self, QN_SPLIT_TRAIN, 0, 1, dst, &labels), QN_ERR_DATA);
    assert_non_null(
        strstr(qn_error_message(), "1.bin: found token 5 at place 1, expected less than 5"));
    s.free(s.self);
    o.vocab_size = 0;
    assert_int_equal(open_source(list, 2, o, &s), QN_ERR_CONFIG);
    assert_non_null(strstr(qn_error_message(), "0.bin"));
    unsigned char p[2048];
    write_bytes(path[1], p, make_llm(p, 20240520, 1, 9));
    write_bytes(path[0], p, make_llmq(p, 11, 77, 0));
    o.raw = QN_RAW_NONE;
    assert_int_equal(open_source(list, 2, o, &s), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "found a vocabulary of 50257, expected the first"));
}

/* Places beyond 4 GiB: a sparse file with something to read at its end only. */
static void files_beyond_4_gib(void **state) {
    char path[600];
    const char *list[] = {path};
    const int64_t tokens = ((int64_t)5 << 30) / 2;
    qn_source s;
    snprintf(path, sizeof path, "%s/large.bin", (char *)*state);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    const unsigned char end[] = {7, 0, 8, 0, 9, 0};
    assert_true(fd >= 0);
    bool sparse = ftruncate(fd, tokens * 2) == 0 && pwrite(fd, end, 6, tokens * 2 - 6) == 6;
    struct stat st;
    sparse = sparse && fstat(fd, &st) == 0 && st.st_blocks < 1 << 16;
    close(fd);
    if (!sparse) {
        print_message("the temporary directory keeps no sparse file of 5 GiB: skipped\n");
        skip();
    }
    qn_data_options o = {.block_size = 4, .raw = QN_RAW_U16, .vocab_size = 10, .val_fraction = 0.5};
    qn_assert_ok(open_source(list, 1, o, &s));
    assert_int_equal(s.n[QN_SPLIT_VAL], tokens / 2 / 4);
    int32_t x[8], y[8];
    void *dst[] = {x, y};
    int64_t labels = 0;
    qn_assert_ok(s.fetch(s.self, QN_SPLIT_VAL, s.n[QN_SPLIT_VAL] - 1, 2, dst, &labels));
    const int32_t want_x[] = {0, 7, 8, 9, 0, 0, 0, 0};
    const int32_t want_y[] = {7, 8, 9, -100, -100, -100, -100, -100};
    assert_memory_equal(x, want_x, sizeof x);
    assert_memory_equal(y, want_y, sizeof y);
    assert_int_equal(labels, 3);
    s.free(s.self);
}

static int setup(void **state) {
    *state = qn_test_dir();
    return 0;
}

static int teardown(void **state) {
    qn_test_dir_remove(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign_formats_are_read),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test_setup_teardown(own_format_round_trips, setup, teardown),
        cmocka_unit_test_setup_teardown(own_format_header_is_strict, setup, teardown),
        cmocka_unit_test_setup_teardown(writer_refuses_bad_content, setup, teardown),
        cmocka_unit_test_setup_teardown(full_disk_keeps_the_old_file, setup, teardown),
        cmocka_unit_test_setup_teardown(masked_targets_are_ignored, setup, teardown),
        cmocka_unit_test_setup_teardown(windows_cross_files, setup, teardown),
        cmocka_unit_test_setup_teardown(files_beyond_4_gib, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
