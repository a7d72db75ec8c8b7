/* test_sha256.c — published answers, every split, and the fast compression against the portable. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/sha256.h"

#include <string.h>

static void test_known(void **state) {
    (void)state;
    static const struct {
        const char *text, *hex;
    } row[] = {
        /* FIPS 180-4 examples */
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char hex[QN_SHA256_HEX];
        qn_sha256_hex(row[i].text, strlen(row[i].text), hex);
        assert_string_equal(hex, row[i].hex);
    }
}

static void test_million(void **state) {
    (void)state;
    static char a[1000000];
    char hex[QN_SHA256_HEX];
    memset(a, 'a', sizeof a);
    qn_sha256_hex(a, sizeof a, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void test_splits(void **state) {
    (void)state;
    uint8_t data[9000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 131 + i / 256);
    for (size_t n = 0; n <= 300; n++) { /* every length, cut anywhere */
        char whole[QN_SHA256_HEX], parts[QN_SHA256_HEX];
        qn_sha256_hex(data, n, whole);
        for (size_t cut = 0; cut <= n; cut += 7) {
            qn_sha256 s;
            qn_sha256_init(&s);
            qn_sha256_update(&s, data, cut);
            qn_sha256_update(&s, data + cut, n - cut);
            qn_sha256_final_hex(&s, parts);
            assert_string_equal(whole, parts);
        }
    }
    for (size_t n = 4096; n <= sizeof data; n += 37) { /* long enough for the fast path */
        qn_sha256 s;
        char fast[QN_SHA256_HEX], portable[QN_SHA256_HEX];
        qn_sha256_hex(data, n, fast);
        qn_sha256_init(&s);
        qn_sha256_update_portable(&s, data, n);
        qn_sha256_final_hex(&s, portable);
        assert_string_equal(fast, portable);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_million),
        cmocka_unit_test(test_splits),
    };
    return cmocka_run_group_tests_name("sha256", tests, NULL, NULL);
}
