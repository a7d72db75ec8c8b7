/* test_tokenizer_scan.c — the split patterns by hand against PCRE2's run of the same patterns, over
 * texts of every kind of character and over every code point; and what of a pattern is refused.
 */
#include "io/tokenizer_parts.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CODE_POINTS = 0x110000, CLASSES = 5 };

typedef struct fixture { /* what regexes live in */
    qn_tokenizer t;
    qni_regex *unassigned;
} fixture;

static qni_regex *compile(fixture *f, const char *pattern) {
    qni_regex *r = NULL;
    qn_assert_ok(qni_regex_compile(&f->t, pattern, &r));
    return r;
}

static int open_fixture(void **state) {
    fixture *f = qn_alloc(sizeof *f, "fixture");
    if (!f || qn_setup_create("regexes", &f->t.arena) != QN_OK) return 1;
    f->unassigned = compile(f, "\\p{Cn}");
    *state = f;
    return 0;
}

static int close_fixture(void **state) {
    fixture *f = *state;
    for (int i = 0; i < f->t.n_regexes; i++) qni_regex_release(f->t.regex[i]);
    qn_setup_free(f->t.arena);
    qn_free(f);
    return 0;
}

static bool is_surrogate(uint32_t c) { return c >= 0xD800 && c < 0xE000; }

/* ---- pieces ---------------------------------------------------------------------------------- */

static void say(const char *text, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i++) printf("\\x%02X", (unsigned char)text[i]);
}

/* Whether scanner and regex cut the text into the same pieces. */
static bool same_pieces(qni_scan *scan, const qni_regex *regex, const char *text, int64_t bytes) {
    for (int64_t at = 0, end; at < bytes; at = end) {
        int64_t begin = 0;
        qn_assert_ok(qni_regex_find(regex, text, bytes, at, &begin, &end));
        int64_t got = scan(text, at, bytes);
        if (begin == at && got == end) continue;
        printf("at %lld: found %lld, expected %lld..%lld in ", (long long)at, (long long)got,
               (long long)begin, (long long)end);
        say(text, bytes);
        printf("\n");
        return false;
    }
    return true;
}

/* Characters that the patterns tell apart, and those that are easily taken for them. */
static const uint32_t telling[] = {
    ' ',    ' ',     '\n',   '\r',   '\t',   0xB,      0x85,   0xA0,  0x180E, 0x200B, 0x2028,
    0x3000, '\'',    '\'',   's',    'S',    0x17F,    't',    'r',   'e',    'v',    'm',
    'l',    'L',     'd',    'x',    'Z',    '0',      '7',    0x661, 0x2160, 0xBD,   '.',
    '/',    '_',     '-',    0xE9,   0xC9,   0x1C5,    0x2B0,  0x5D0, 0x4E2D, 0x301,  0x903,
    0x20DD, 0x1F600, 0xFFFD, 0x200D, 0xFEFF, 0x10FFFF, 0xE000, 0x212A};

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* A text of `n` characters: mostly telling ones, and others of which both Unicode versions know. */
static int64_t random_text(const bool *known, uint64_t *random, int n, char *out) {
    int64_t bytes = 0;
    for (int i = 0; i < n; i++) {
        uint32_t c = telling[next_random(random) % (sizeof telling / sizeof *telling)];
        if (next_random(random) % 4 == 0) {
            do c = next_random(random) % (next_random(random) % 2 ? 0x3000 : CODE_POINTS);
            while (!known[c]);
        }
        bytes += qn_utf8_write(c, out + bytes);
    }
    return bytes;
}

/* known[c]: c is assigned in PCRE2's version of Unicode. */
static bool *assigned(const fixture *f) {
    bool *known = qn_alloc(CODE_POINTS, "code points");
    assert_non_null(known);
    for (uint32_t c = 0; c < CODE_POINTS; c++) {
        char text[4];
        int64_t begin, end;
        if (is_surrogate(c)) continue;
        int n = qn_utf8_write(c, text);
        qn_assert_ok(qni_regex_find(f->unassigned, text, n, 0, &begin, &end));
        known[c] = begin < 0;
    }
    return known;
}

static void scanners_cut_as_the_patterns_do(void **state) {
    fixture *f = *state;
    bool *known = assigned(f);
    char text[256];
    uint64_t random = 7;
    int patterns = 0;
    for (const char *p; (p = qni_scan_regex(patterns)); patterns++) {
        const qni_regex *regex = compile(f, p);
        qni_scan *scan = qni_scan_known(p);
        assert_non_null(scan);
        for (int i = 0; i < 50000; i++) {
            int64_t bytes = random_text(known, &random, 1 + i % 12, text);
            if (!same_pieces(scan, regex, text, bytes)) fail_msg("pattern %d", patterns);
        }
    }
    assert_int_equal(patterns, 4);
    assert_null(qni_scan_known("\\s+"));
    qn_free(known);
}

/* Every code point has the class that the patterns give it, but for those that Unicode has assigned
 * between PCRE2's version and utf8proc's: each as a letter, a number or other, after an apostrophe,
 * a letter, a digit and a space. */
static void every_code_point_is_cut_the_same(void **state) {
    fixture *f = *state;
    bool *known = assigned(f);
    for (int i = 0; qni_scan_regex(i); i++) {
        const qni_regex *regex = compile(f, qni_scan_regex(i));
        qni_scan *scan = qni_scan_known(qni_scan_regex(i));
        for (uint32_t c = 0; c < CODE_POINTS; c += c < 0x30000 ? 1 : 61) {
            char text[32], one[4];
            if (!known[c]) continue;
            int n = qn_utf8_write(c, one);
            int64_t bytes = snprintf(text, sizeof text, "a%.*s1%.*sB %.*s%.*sc", n, one, n, one, n,
                                     one, n, one);
            if (c == 0) continue;
            if (!same_pieces(scan, regex, text, bytes)) fail_msg("U+%04X", c);
        }
    }
    qn_free(known);
}

/* ---- patterns -------------------------------------------------------------------------------- */

static bool is_word_of_oniguruma(uint32_t c) {
    if (c == 0x200C || c == 0x200D) return false; /* Join_Control */
    return qni_is_word(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE);
}

static void spaces_and_words_are_the_references(void **state) {
    fixture *f = *state;
    const qni_regex *space = compile(f, "\\s"), *not_space = compile(f, "[^\\S\\n]");
    const qni_regex *word = compile(f, "\\w");
    for (uint32_t c = 1; c < 0x30000; c++) {
        char text[4];
        int64_t begin, end;
        if (is_surrogate(c)) continue;
        int n = qn_utf8_write(c, text);
        qn_assert_ok(qni_regex_find(space, text, n, 0, &begin, &end));
        if ((begin == 0) != qni_is_space(c)) fail_msg("\\s of U+%04X", c);
        qn_assert_ok(qni_regex_find(not_space, text, n, 0, &begin, &end));
        if ((begin == 0) != (qni_is_space(c) && c != '\n')) fail_msg("[^\\S\\n] of U+%04X", c);
        qn_assert_ok(qni_regex_find(f->unassigned, text, n, 0, &begin, &end));
        if (begin == 0) continue;
        qn_assert_ok(qni_regex_find(word, text, n, 0, &begin, &end));
        if ((begin == 0) != is_word_of_oniguruma(c)) fail_msg("\\w of U+%04X", c);
    }
}

static void what_differs_between_engines_is_refused(void **state) {
    fixture *f = *state;
    static const char *const refused[] = {
        "\\h",  "a{1,3}+", "[a[b]]", "[a&&b]", "(a)\\1", "\\bx",     "[a",    "\\",         "(",
        "[]a]", "\\u12",   "\\K",    "(?m:a)", "(?s)a",  "(?i-m:a)", "\\p{L", "\\p{Letter}"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        qni_regex *r = NULL;
        if (qni_regex_compile(&f->t, refused[i], &r) != QN_ERR_FORMAT) fail_msg("%s", refused[i]);
        assert_non_null(strstr(qn_error_message(), "split pattern"));
    }
    qni_regex *r = compile(f, "\\u0041|\\x{42}");
    int64_t begin, end;
    qn_assert_ok(qni_regex_find(r, "xAB", 3, 0, &begin, &end));
    assert_int_equal(begin, 1);
    qn_assert_ok(qni_regex_find(r, "xAB", 3, 2, &begin, &end));
    assert_int_equal(begin, 2);
}

/* U+3001 is common to many scripts, of which Han is one; U+3007 is Han. */
static void scripts_are_without_their_extensions(void **state) {
    fixture *f = *state;
    const char *text = "\xE3\x80\x81\xE3\x80\x87";
    int64_t begin, end;
    qn_assert_ok(qni_regex_find(compile(f, "[\\p{Han}]"), text, 6, 0, &begin, &end));
    assert_int_equal(begin, 3);
    qn_assert_ok(qni_regex_find(compile(f, "\\P{Han}"), text, 6, 0, &begin, &end));
    assert_int_equal(begin, 0);
    qn_assert_ok(qni_regex_find(compile(f, "\\p{^Han}+"), text, 6, 0, &begin, &end));
    assert_int_equal(end, 3);
    const qni_regex *categories = compile(f, "(?i:x)|\\p{Lu}\\p{Ll}|\\p{N}{1,2}");
    qn_assert_ok(qni_regex_find(categories, "1aA12", 5, 1, &begin, &end));
    assert_int_equal(begin, 3);
    assert_int_equal(end, 5);
}

/* More than the stack that JIT code has. */
static void long_matches_are_found(void **state) {
    enum { LONG = 200000 };
    fixture *f = *state;
    char *text = qn_alloc(LONG, "text");
    assert_non_null(text);
    for (int i = 0; i < LONG; i++) text[i] = (i * 7 + i / 13) % 3 ? 'a' : 'b';
    int64_t begin, end;
    qn_assert_ok(qni_regex_find(compile(f, "(?:a|b)+"), text, LONG, 0, &begin, &end));
    assert_int_equal(begin, 0);
    assert_int_equal(end, LONG);
    qn_free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(scanners_cut_as_the_patterns_do, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(every_code_point_is_cut_the_same, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(spaces_and_words_are_the_references, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(scripts_are_without_their_extensions, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(long_matches_are_found, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(what_differs_between_engines_is_refused, open_fixture,
                                        close_fixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
